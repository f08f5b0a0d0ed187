//! The destination's side of a flow: it answers the Opens of others.

use super::table::{End, FlowEnd, Role};
use super::{FlowEvent, MAX_PACKET, Way};
use crate::config::MeshMode;
use crate::flow::accounts::receiving;
use crate::flow::end::handshake::{self, Bound};
use crate::flow::end::{Direction, EndConfig, INITIAL_STREAMS, INITIAL_WINDOW, StreamLimits};
use crate::flow::table::{Flow, FlowTableError, Path};
use crate::id::{HopId, LinkId, NodeId, Standing};
use crate::link::aead::RustCrypto;
use crate::mesh::Mesh;
use crate::mesh::error::{MeshError, NetworkReason, PaymentReason, RoutingReason};
use crate::mesh::flows::MOST_IDLE;
use crate::mesh::free::before_the_neighbour;
use crate::tables::Memory;
use crate::tariff::Tariff;
use crate::time::{Micros, SECOND};
use crate::wire::datagram::Datagram;
use crate::wire::flow::{self, ACT_LEN, OpenTerms};
use crate::wire::{HEADER_LEN, Kind};
use alloc::boxed::Box;

/// Most streams of a flow that another node has opened, and most memory beyond their first
/// windows; each flow gets at most a part of what is left for all, a stranger's a smaller one.
const STREAMS: u32 = 1_024;
const POOL: u64 = 8 << 20;
const PART: u64 = 16;
const PART_OF_STRANGERS: u64 = 128;
/// For how long a flow may be idle whose source has sent nothing but its Open.
const UNPROVEN: Micros = 30 * SECOND;

/// What the streams of a flow may take where so much memory is left for all, and how much that is;
/// `None` if it is too little.
fn limits(left: u64, standing: Standing) -> Option<(StreamLimits, u64)> {
    // Each stream has a window in either direction, and the pool serves both.
    let of_stream = 2 * INITIAL_WINDOW;
    let part = left / if standing == Standing::Own { PART } else { PART_OF_STRANGERS };
    let streams = u32::try_from(part / 2 / of_stream).unwrap_or(u32::MAX).min(STREAMS);
    if streams < INITIAL_STREAMS {
        return None;
    }
    let pool = (part / 4).min(POOL);
    let all = u64::from(streams).saturating_mul(of_stream).saturating_add(2 * pool);
    Some((StreamLimits { streams, pool, ..StreamLimits::default() }, all))
}

impl<M: Memory> Mesh<M> {
    /// Takes an Open that is for this node, and answers it.
    #[inline(never)]
    pub(in crate::mesh) fn take_open(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        terms: &OpenTerms,
    ) -> Result<(), MeshError> {
        if !self.tables.ends.accepts {
            return Err(RoutingReason::NoFlows.into());
        }
        let Some(neighbour) = self.tables.routing.neighbours.get(link) else {
            return Err(NetworkReason::LinkClosed.into());
        };
        let (from, max_packet) = (neighbour.node.hop(), neighbour.max_packet);
        // Whoever comes over a friend is not one for that.
        let standing = match neighbour.node == datagram.source {
            true => neighbour.standing,
            false => Standing::Stranger { prefix: 0 },
        };
        let (number, source, now) = (datagram.sequence, datagram.source, self.now);
        let known = self.tables.ends.get(number);
        let again = match known.map(|end| (end.peer, &end.role)) {
            None => false,
            Some((peer, Role::Destination { act_one, open_number, .. }))
                if peer == source && *act_one == terms.act =>
            {
                if terms.open_number < *open_number {
                    return Err(PaymentReason::OldOpen.into());
                }
                true
            }
            // Another flow has the number.
            Some(_) => return Err(PaymentReason::OldOpen.into()),
        };
        let (mut given, mut goes) = (None, None);
        let metered = self.may_receive(&source, (number, from), terms)?;
        if !again {
            let share = self.tables.routing.neighbours.share_of(self.config.capacities.ends);
            goes = self.room_for_end(Some((from, share.max(1)))).map_err(RoutingReason::from)?;
            given = Some(
                limits(self.tables.ends.memory, standing)
                    .ok_or(RoutingReason::from(FlowTableError::Full))?,
            );
        }
        self.check_open(link, datagram)?;
        if let Some(over) = goes {
            self.drop_end(over, None);
        }
        let hops = datagram.hops().len() as u8;
        let way = Way { hop: from, between: hops };
        let idle = u64::from(terms.idle_s).saturating_mul(SECOND).min(MOST_IDLE);
        let max = terms.max_packet.min(max_packet).min(self.config.max_packet);
        let max = (max as usize).min(MAX_PACKET).saturating_sub(HEADER_LEN);
        if let Some((streams, memory)) = given {
            let bound = Bound {
                flow: number,
                network: self.config.network,
                source,
                destination: self.me.id(),
            };
            // Never the same for two ends: an Open can be replayed when its flow has ended.
            let secret = self.rng.bytes();
            let before = Some(before_the_neighbour(datagram));
            if !self.take_control(link, before, 2 * self.config.signature_work) {
                return Err(NetworkReason::ControlQuota.into());
            }
            let local = self.me.keypair();
            let answer =
                handshake::answer::<RustCrypto>(&bound, &self.secp, local, &secret, &terms.act);
            // The neighbour could not know.
            let (act_two, secrets) = answer.map_err(|_| RoutingReason::Unsolicited)?;
            let config = EndConfig { streams, max_packet: max, ..EndConfig::default() };
            let end = End::new(now, config, Direction::FromDestination, number, &secrets);
            let (act_one, open_number) = (terms.act, terms.open_number);
            let role = Role::Destination { act_one, act_two, open_number, memory, via: from };
            let mut entry = FlowEnd::new(source, role, now, [idle.min(UNPROVEN), idle]);
            entry.end = Some(Box::new(end));
            let ends = &mut self.tables.ends;
            ends.memory = ends.memory.saturating_sub(memory);
            ends.insert(number, entry);
        }
        let before = self.tables.ends.get(number).and_then(|entry| entry.way);
        if let Some(before) = before.filter(|before| *before != way) {
            self.leave_path(number, before, false);
        }
        let mut act = [0; ACT_LEN];
        self.tables.ends.set_via(number, from);
        if let Some(entry) = self.tables.ends.get_mut(number) {
            entry.way = Some(way);
            if let Role::Destination { act_two, open_number, .. } = &mut entry.role {
                let newer = terms.open_number > *open_number;
                *open_number = terms.open_number;
                act = *act_two;
                if let Some(end) = entry.end.as_mut().filter(|_| newer) {
                    end.set_max_packet(max);
                    if !end.is_over() && (before != Some(way) || end.timeouts() > 0) {
                        end.route_changed(now);
                    }
                }
            }
        }
        self.renew_farewell(number);
        let path = Path { from: Some(from), to: None, behind: hops.saturating_add(1), ahead: 0 };
        let mut flow = Flow::at_end(number, source, path, terms.open_number, [now, idle]);
        let entered = self.tables.flows.find(from, number);
        let entered = entered.and_then(|(at, _)| self.tables.flows.get_mut(at)).copied();
        let same = entered.is_some_and(|before| before.open_number == terms.open_number);
        let mut after = None;
        if metered && same {
            after = self.latest_record();
        } else {
            if let Some((at, _)) = self.tables.flows.find(from, number) {
                self.end_flow(at, false);
            }
            if metered {
                (flow.source, flow.metered) = (receiving(&source), true);
                flow.may_draw = terms.max_bytes;
                after = self.draw_first(&mut flow, from);
            }
            self.enter_path(flow, way);
        }
        self.absorb();
        if !again {
            self.tell(number, FlowEvent::Accepted { source });
        }
        self.send_control_after(link, HEADER_LEN + ACT_LEN, after, |out| {
            flow::write(Kind::Opened, number, hops, &act, out)
        });
        self.touch(number);
        self.schedule(number);
        Ok(())
    }
}

impl<M: Memory> Mesh<M> {
    /// Whether an Open that ends here is paid for; an error if it has to be and is not.
    fn may_receive(
        &mut self,
        source: &NodeId,
        (number, from): (u64, HopId),
        terms: &OpenTerms,
    ) -> Result<bool, MeshError> {
        if self.config.mode != MeshMode::PaymentGated
            || self.config.flows.receive == Tariff::default()
        {
            return Ok(false);
        }
        if self.store_failed || self.not_restored {
            return Err(PaymentReason::StoreFailed.into());
        }
        let account = self.tables.accounts.get(&receiving(source)).copied();
        let account = account.ok_or(PaymentReason::NothingLeft)?;
        if !account.takes_open(terms.open_number, from) {
            return Err(PaymentReason::OldOpen.into());
        }
        // What the flow has comes back before it draws anew.
        let way = self.tables.ends.get(number).and_then(|entry| entry.way);
        let at = way.and_then(|way| self.tables.flows.find(way.hop, number));
        let has = at.and_then(|(at, _)| self.tables.flows.get_mut(at)).map_or(0, |f| f.left);
        match account.left().saturating_add(has).min(terms.max_bytes) {
            0 => Err(PaymentReason::NothingLeft.into()),
            _ => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_streams_is_given_in_parts_and_never_used_up() {
        let count = |standing, part| {
            let (mut left, mut flows) = (1u64 << 30, 0);
            while let Some((streams, memory)) = limits(left, standing) {
                assert!(memory <= left / part && streams.streams >= INITIAL_STREAMS);
                left -= memory;
                flows += 1;
            }
            assert!(left > 0);
            flows
        };
        let stranger = Standing::Stranger { prefix: 1 };
        let counts = (count(Standing::Own, PART), count(stranger, PART_OF_STRANGERS));
        assert!(counts.0 > 50 && counts.1 > 200, "{counts:?}");
        let (first, _) = limits(1 << 40, Standing::Own).unwrap();
        assert_eq!((first.streams, first.pool), (STREAMS, POOL));
    }
}
