//! A source's Open, and the destination's answer to it.

use super::source::{Act, IDLE_S, Phase, Source};
use super::table::End;
use super::{FlowEnded, FlowEvent, Hops, MAX_PACKET, Way, buying};
use crate::flow::end::handshake::{Bound, Opening};
use crate::flow::end::{Direction, EndConfig, StreamLimits};
use crate::flow::table::{Flow, Path};
use crate::id::{LinkId, NodeId};
use crate::link::aead::RustCrypto;
use crate::mesh::{Mesh, Pending, Priority};
use crate::tables::Memory;
use crate::time::{MILLISECOND, SECOND};
use crate::wire::datagram::{Emit, Form, head_len};
use crate::wire::flow::{OpenTerms, TERMS_LEN};
use crate::wire::route_error::Cause;
use crate::wire::{HEADER_LEN, WireError};
use alloc::boxed::Box;

impl<M: Memory> Mesh<M> {
    /// Sends the Open of a flow over the route that it has taken, again or for the first time.
    pub(super) fn send_open(&mut self, number: u64) {
        let now = self.now;
        let Some(entry) = self.tables.ends.get(number) else { return };
        let (to, left) = (entry.peer, entry.left());
        let in_flight = entry.stats().map_or(0, |stats| stats.in_flight);
        let (before, me) = (entry.way, self.me.id());
        let Some((source, _)) = self.tables.ends.source(number) else { return };
        let hops: Hops = source.hops().into_iter().collect();
        let first = hops.first().copied().unwrap_or(to.hop());
        let between = hops.len() as u8;
        let way = Way { hop: first, between };
        let neighbour = self.tables.routing.neighbours.live(first).map(|n| (n.link, n.max_packet));
        let Some((link, max)) = neighbour else {
            return self.interrupted(number, None, Cause::NextHopGone);
        };
        let Some(destination_key) = self.tables.ends.source(number).and_then(|(s, _)| s.public_key)
        else {
            return;
        };
        let Phase::Opening(sent) = self.phase_of(number) else { return };
        if sent == 0 {
            self.tables.ends.opens = self.next_open();
        }
        let (opens, network) = (self.tables.ends.opens, self.config.network);
        let Some((source, _)) = self.tables.ends.source(number) else { return };
        if source.opening.is_none() && source.act_two.is_none() {
            let bound = Bound { flow: number, network, source: me, destination: to };
            let (opening, act) =
                Opening::start::<RustCrypto>(&bound, &source.ephemeral, &destination_key);
            (source.opening, source.act_one) = (Some(opening), act);
        }
        if sent == 0 {
            source.open_number = opens;
            source.opened_at = now;
        }
        source.max_packet = source.max_packet.min(max);
        source.phase = Phase::Opening(sent.saturating_add(1));
        let links = u64::from(between) + 1;
        let patience = self.config.timing.hop_round_trip.saturating_mul(2 * links);
        source.due = now.saturating_add(patience.max(SECOND) << sent.min(4));
        let max_bytes = match source.is_paid() {
            // What is under way may be counted on this path.
            true => left.saturating_add(in_flight),
            false => u64::MAX,
        };
        let terms = OpenTerms {
            random: source.random,
            open_number: source.open_number,
            max_bytes,
            idle_s: IDLE_S,
            max_packet: source.max_packet,
            act: source.act_one,
        };
        let open_number = source.open_number;
        if let Some(entry) = self.tables.ends.get_mut(number) {
            entry.way = Some(way);
        }
        let path =
            Path { from: None, to: Some(first), behind: 0, ahead: between.saturating_add(1) };
        let times = [now, u64::from(IDLE_S).saturating_mul(SECOND)];
        let flow = Flow::at_end(number, me, path, open_number, times);
        if let Some(before) = before.filter(|before| before.hop != first) {
            // Its relays give back what they hold in reserve; the Open is sent next.
            self.leave_path(number, before, true);
            self.enter_path(flow, way);
            if let Some((source, _)) = self.tables.ends.source(number) {
                source.phase = Phase::Opening(sent);
                source.due = now;
            }
            return;
        }
        self.enter_path(flow, way);
        self.write_open(number, (link, to), &hops, &terms);
    }

    pub(super) fn phase_of(&mut self, number: u64) -> Phase {
        self.tables.ends.source(number).map_or(Phase::Open, |(source, _)| source.phase)
    }

    /// Signs and sends an Open.
    fn write_open(
        &mut self,
        number: u64,
        (link, destination): (LinkId, NodeId),
        hops: &Hops,
        terms: &OpenTerms,
    ) {
        let public_key = self.public_key();
        let terms = terms.bytes();
        let emit = Emit {
            hop_limit: hops.len() as u8,
            sequence: number,
            source: self.me.id(),
            destination,
            proof: Some((&public_key, &terms)),
            form: Form::Open,
        };
        let sent = &mut self.tables.sent;
        let name = sent.name(&self.me.id(), &destination, number, hops.iter().copied());
        let went = sent.went(link, name, false);
        sent.insert(went);
        let size = head_len(hops.len(), TERMS_LEN);
        self.reserve_head(size);
        let Self { tables, me, secp, .. } = self;
        let written = emit.write(hops, &[], &mut tables.head, |hash| me.sign(secp, hash));
        let written: Result<usize, WireError> = written;
        if let Ok(len) = written {
            self.head_len = len;
            let after = self.run_record;
            self.push(Pending::Send { link, priority: Priority::Control, after });
        }
    }

    /// The number of the next Open: above those of all runs before.
    fn next_open(&mut self) -> u64 {
        if self.tables.ends.opens == 0 {
            self.begin_selling();
            let run = match self.config.payment.volatile {
                true => self.wall.unix(self.now).unwrap_or_else(|| self.rng.u64() >> 32),
                false => u64::from(self.tables.tickets.run()),
            };
            self.tables.ends.opens = run << 32;
        }
        self.tables.ends.opens.saturating_add(1)
    }

    /// The destination has answered.
    pub(super) fn flow_opened(&mut self, number: u64, act: &Act) {
        let now = self.now;
        let max_packet = |source: &Source| (source.max_packet as usize).min(MAX_PACKET);
        let Some((source, end)) = self.tables.ends.source(number) else { return };
        if !matches!(source.phase, Phase::Opening(_)) {
            return;
        }
        match (&source.act_two, end.is_some()) {
            (Some(before), true) if before == act => {
                source.failures = 0;
                return self.reopened(number);
            }
            // Its streams are gone with the run of the destination that had them: if it is it.
            (Some(_), _) => {
                let opening = source.opening.clone();
                if opening.is_some_and(|opening| opening.act_two::<RustCrypto>(act).is_ok()) {
                    source.phase = Phase::End(FlowEnded::Restarted);
                }
            }
            (None, _) => {
                let Some(opening) = source.opening.clone() else { return };
                // A relay can send anything: the destination's answer may still come.
                let Ok(secrets) = opening.act_two::<RustCrypto>(act) else { return };
                let config = EndConfig {
                    streams: StreamLimits::default(),
                    round_trip: now.saturating_sub(source.opened_at).max(MILLISECOND),
                    max_packet: max_packet(source).saturating_sub(HEADER_LEN),
                    ..EndConfig::default()
                };
                let direction = Direction::FromSource;
                let new = End::new(now, config, direction, number, &secrets);
                source.act_two = Some(*act);
                source.failures = 0;
                *end = Some(Box::new(new));
                self.tell(number, FlowEvent::Opened);
                self.reopened(number);
            }
        }
        self.touch(number);
    }

    /// A flow can use what was bought for it, over the route that it has.
    pub(super) fn reopened(&mut self, number: u64) {
        let now = self.now;
        let Some(entry) = self.tables.ends.get_mut(number) else { return };
        entry.heard = now;
        let used = entry.used();
        entry.stopped = false;
        let Some((source, end)) = self.tables.ends.source(number) else { return };
        let Some(end) = end else { return };
        let was = core::mem::replace(&mut source.phase, Phase::Open);
        source.must_open = false;
        if matches!(was, Phase::Opening(_)) {
            let max_packet = (source.max_packet as usize).min(MAX_PACKET);
            end.set_max_packet(max_packet.saturating_sub(HEADER_LEN));
            if end.timeouts() > 0 && !end.is_over() {
                end.route_changed(now);
            }
        }
        end.set_allowance(now, source.allotted);
        if source.bought {
            source.bought = false;
            source.mark = buying::counts(now, used, &end.stats());
        }
        self.renew_farewell(number);
        self.touch(number);
        self.schedule(number);
    }
}
