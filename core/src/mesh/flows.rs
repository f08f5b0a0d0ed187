//! Flows that pass through this node: opened by a signed packet, carried by a counter.

use super::api::{Priority, Verdict};
use super::control::Refusal;
use super::error::{MeshError, NetworkReason, PaymentReason, Remedy, RoutingReason};
use super::relay::Next;
use super::{Mesh, Tables};
#[cfg(feature = "alloc")]
use crate::config::Config;
use crate::config::MeshMode;
use crate::flow::table::{Flow, FlowTableError, Path, Side};
use crate::id::{HopId, LinkId, NodeId};
use crate::link::lane::Lane;
use crate::payment::ledger::{AccountState, Record};
use crate::signature;
use crate::tables::Memory;
use crate::time::{Micros, SECOND};
use crate::wire::datagram::Datagram;
use crate::wire::flow::{self, FLOW_ERROR_LEN, FlowError, OpenTerms};
use crate::wire::header::lower_hop_limit;
use crate::wire::{HEADER_LEN, Header, Kind, WireError};

/// A flow that may be idle for longer is idle for so long at most.
pub(super) const MOST_IDLE: Micros = 24 * 3600 * SECOND;

impl<M: Memory> Mesh<M> {
    /// An Open came in on a live link, its header checked.
    #[inline(never)]
    pub(super) fn open_flow(
        &mut self,
        (link, from): (LinkId, usize),
        header: Header,
        packet: &mut [u8],
    ) {
        let Some(body) = packet.get(HEADER_LEN..) else { return };
        let parsed = Datagram::parse(header, body);
        let parsed = parsed.and_then(|datagram| {
            let terms = OpenTerms::parse(datagram.signed.map_or(&[], |s| s.proof))?;
            let Datagram { source, destination, sequence, .. } = &datagram;
            match flow::number(source, destination, &terms.random) == *sequence {
                true => Ok((datagram, terms)),
                false => Err(WireError::Field("flow number")),
            }
        });
        let (datagram, terms) = match parsed {
            Ok(parsed) => parsed,
            Err(e) => return self.reject(Some(link), e, Remedy::Disconnect),
        };
        let work = self.config.signature_work;
        let Some((name, _, next)) = self.arrive((link, from), &datagram, packet, work) else {
            return;
        };
        let Next::Relay { link: to, place, .. } = next else {
            #[cfg(feature = "alloc")]
            let taken = self.take_open(link, &datagram, &terms);
            #[cfg(not(feature = "alloc"))]
            let taken = Err(RoutingReason::NoFlows.into());
            return match taken {
                Ok(()) => {}
                Err(reason) => self.refuse_open(link, &datagram, reason),
            };
        };
        match self.take_flow((link, to), place, &datagram, &terms) {
            Ok(after) => {
                self.note_sent(to, true);
                // A record is waited for only where packets are paid for.
                let priority = if after.is_some() { Priority::Paid } else { Priority::Control };
                self.pass_named(to, name, priority, packet, after);
            }
            Err(reason) => self.refuse_open(link, &datagram, reason),
        }
    }

    fn refuse_open(&mut self, link: LinkId, datagram: &Datagram<'_>, reason: MeshError) {
        let remedy = match reason {
            MeshError::PaymentVerificationFailed(PaymentReason::SourceSignature) => {
                Remedy::Penalise
            }
            _ => Remedy::Ignore,
        };
        self.refuse(link, datagram, reason, remedy);
    }

    /// Enters a flow into the table, if it is paid for and there is room; the record that its
    /// Open waits for.
    fn take_flow(
        &mut self,
        (link, to): (LinkId, LinkId),
        place: u8,
        datagram: &Datagram<'_>,
        terms: &OpenTerms,
    ) -> Result<Option<u64>, MeshError> {
        let hop = |link| self.tables.routing.neighbours.get(link).map(|n| n.node.hop());
        let (Some(from), Some(to)) = (hop(link), hop(to)) else {
            return Err(NetworkReason::LinkClosed.into());
        };
        let (number, source) = (datagram.sequence, datagram.source);
        let open_number = terms.open_number;
        let metered = match self.config.mode {
            MeshMode::Open => false,
            MeshMode::PaymentGated if self.store_failed || self.not_restored => {
                return Err(PaymentReason::StoreFailed.into());
            }
            MeshMode::PaymentGated => true,
            mode => return Err(PaymentReason::ModeRefused(mode).into()),
        };
        // A flow has one path: that of its latest Open.
        let known =
            self.tables.flows.iter().find(|(_, f)| f.number == number && f.source == source);
        let known = known.map(|(at, flow)| (at, *flow));
        let again =
            known.filter(|(_, f)| f.open_number == open_number && f.path.from == Some(from));
        let credit = self.credit_of(&source, Some(from));
        if metered {
            let takes = match self.tables.accounts.get(&source) {
                Some(account) => account.takes_open(open_number, from),
                // Its account is opened once its signature was checked.
                None if credit > 0 => true,
                None => return Err(PaymentReason::NothingLeft.into()),
            };
            if !takes {
                return Err(PaymentReason::OldOpen.into());
            }
        } else if known.is_some_and(|(_, f)| f.open_number > open_number) {
            return Err(PaymentReason::OldOpen.into());
        }
        let share = self.tables.routing.neighbours.share_of(self.config.capacities.flows);
        if known.is_none_or(|(_, f)| f.path.from != Some(from)) {
            let room = self.tables.flows.room(Some(from), share.max(1));
            // The place of the flow itself counts as free.
            if known.is_none() || room == Err(FlowTableError::ShareTaken) {
                room.map_err(RoutingReason::from)?;
            }
        }
        self.check_open(link, datagram)?;
        if again.is_some() {
            return Ok(self.latest_record());
        }
        if let Some((at, _)) = known {
            self.end_flow(at, false);
        }
        let hops = datagram.hops().len() as u8;
        let mut flow = Flow {
            number,
            source,
            path: Path {
                from: Some(from),
                to: Some(to),
                behind: place.saturating_add(1),
                ahead: hops.saturating_sub(place),
            },
            open_number,
            metered,
            left: 0,
            may_draw: terms.max_bytes,
            fresh: 0,
            records: [None; 2],
            opened: false,
            heard: self.now,
            idle: u64::from(terms.idle_s).saturating_mul(SECOND).min(MOST_IDLE),
        };
        let mut after = None;
        if metered {
            let wanted = self.config.flows.reservation.min(flow.may_draw);
            #[cfg(feature = "alloc")]
            if credit > 0 {
                self.make_room(&source);
                self.tables.accounts.open_for_credit(&source);
            }
            let drawn = self.tables.accounts.draw(&source, wanted, credit);
            if drawn == 0 {
                return Err(PaymentReason::NothingLeft.into());
            }
            self.tables.accounts.opened(&source, open_number, from);
            after = self.keep_account(&flow);
            flow.add(drawn, after);
        }
        self.wake_at(flow.heard.saturating_add(flow.idle));
        self.tables.flows.insert(flow);
        Ok(after)
    }

    /// How many bytes a source may owe of flows that come from this neighbour: from itself.
    #[cfg(feature = "alloc")]
    fn credit_of(&self, source: &NodeId, from: Option<HopId>) -> u64 {
        credit_of(&self.config, source, from)
    }

    /// A board gives no credit.
    #[cfg(not(feature = "alloc"))]
    fn credit_of(&self, _: &NodeId, _: Option<HopId>) -> u64 {
        0
    }

    /// Checks the source's signature, within the allowance of bad ones.
    pub(super) fn check_open(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
    ) -> Result<(), PaymentReason> {
        if !self.may_cost_a_check(Some(link), datagram) {
            return Err(PaymentReason::TooManyBad);
        }
        let signed = datagram.signed.ok_or(PaymentReason::SourceSignature)?;
        if NodeId::from_compressed(signed.public_key) != datagram.source {
            return Err(PaymentReason::SourceKey);
        }
        let holds = datagram.sighash().is_some_and(|hash| {
            signature::verify(&self.secp, signed.public_key, &hash, signed.signature)
        });
        if holds { Ok(()) } else { Err(PaymentReason::SourceSignature) }
    }

    /// Writes down what the account of a flow's source holds.
    fn keep_account(&mut self, flow: &Flow) -> Option<u64> {
        let source = flow.source;
        let account = *self.tables.accounts.get(&source)?;
        self.keep(Record::Account(AccountState { source, account }))
    }

    /// Takes a flow out and returns what it did not use.
    pub(super) fn end_flow(&mut self, at: usize, closed: bool) {
        let Tables { flows, accounts, .. } = &mut *self.tables;
        let Some(flow) = flows.remove(at) else { return };
        if flow.metered
            && accounts.end_flow(&flow.source, flow.left, flow.open_number, closed).is_some()
        {
            self.keep_account(&flow);
        }
    }

    /// Ends one flow that was idle for too long; false if there is none.
    pub(super) fn end_idle_flow(&mut self) -> bool {
        let Some(at) = self.tables.flows.expired(self.now) else { return false };
        #[cfg(feature = "alloc")]
        if let Some(flow) = self.tables.flows.get_mut(at).copied()
            && (flow.path.from.is_none() || flow.path.to.is_none())
        {
            self.end_flow(at, false);
            self.own_flow_idle(&flow);
            return true;
        }
        self.end_flow(at, false);
        true
    }

    /// A packet of a flow came in on a live link, its header checked.
    #[inline(never)]
    pub(super) fn flow_packet(&mut self, link: LinkId, header: Header, packet: &mut [u8]) {
        if let Err((reason, remedy)) = self.carry(link, header, packet) {
            self.reject(Some(link), reason, remedy);
        }
    }

    fn carry(&mut self, link: LinkId, header: Header, packet: &mut [u8]) -> Result<(), Refusal> {
        let body = packet.get(HEADER_LEN..).unwrap_or_default();
        let error = match header.kind {
            Kind::FlowError => Some(FlowError::parse(header, body)?),
            _ => {
                flow::check_body(header, body)?;
                None
            }
        };
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        let (size, number) = (packet.len(), header.sequence);
        let Tables { routing, flows, .. } = &mut *self.tables;
        let from = routing.neighbours.get(link).ok_or(ignore(NetworkReason::LinkClosed.into()))?;
        let from = from.node.hop();
        let Some((at, side)) = flows.find(from, number) else {
            let reason = RoutingReason::FlowUnknown.into();
            // Whoever closes or reports what is not known here need not hear of it.
            if header.kind == Kind::Data {
                self.report_flow(link, number, 0, &reason);
            }
            return Err(ignore(reason));
        };
        let Some(flow) = flows.get_mut(at) else { return Ok(()) };
        // Whoever does not know the flow cannot tell how far the source is.
        let reporter = error.is_some_and(|error| error.reporter == from);
        if header.hop_limit != flow.hop_limit(side) && !reporter {
            // Its route may have changed since the packet was sent.
            return Err((RoutingReason::NotOurTurn.into(), Remedy::Ignore));
        }
        let from_ahead = matches!(header.kind, Kind::Opened | Kind::FlowError);
        if from_ahead && side == Side::Source {
            return Err((RoutingReason::WrongNeighbour.into(), Remedy::Penalise));
        }
        #[cfg(feature = "alloc")]
        if flow.next(side).is_none() {
            let flow = *flow;
            return self.end_packet(link, &flow, header.kind, error, packet);
        }
        flow.heard = self.now;
        let (behind, first_answer) =
            (flow.path.behind, header.kind == Kind::Opened && !flow.opened);
        let to = flow.next(side).and_then(|next| routing.neighbours.live(next));
        let to = to.map(|to| (to.link, to.max_packet, to.is_full(Lane::Paid)));
        // The Open has paid for its answer.
        if header.kind != Kind::Data && !first_answer && !self.take_control(link, None, size as u64)
        {
            return Err(ignore(NetworkReason::ControlQuota.into()));
        }
        let Some((to, max, full)) = to else {
            let reason = RoutingReason::NextHopGone.into();
            match header.kind {
                Kind::Close => self.end_flow(at, true),
                Kind::Data if side == Side::Source => {
                    self.report_flow(link, number, behind, &reason);
                }
                _ => {}
            }
            return Err(ignore(reason));
        };
        if usize::try_from(max).is_ok_and(|max| size > max) {
            return Err(ignore(RoutingReason::TooLargeForHop { size, max }.into()));
        }
        let (priority, after) = match (header.kind, error) {
            (Kind::Data, _) if full => return Err(ignore(NetworkReason::Congested.into())),
            (Kind::Data, _) => match self.meter(at, size) {
                Some(metered) => metered,
                None => {
                    let reason = PaymentReason::NothingLeft.into();
                    if side == Side::Source {
                        self.report_flow(link, number, behind, &reason);
                    }
                    return Err(ignore(reason));
                }
            },
            (_, Some(error)) => {
                self.absorb();
                let hop_limit = behind.saturating_sub(1);
                self.send_control(to, FLOW_ERROR_LEN, |out| error.write(number, hop_limit, out));
                return Ok(());
            }
            _ => {
                if header.kind == Kind::Close {
                    self.end_flow(at, true);
                } else if let Some(flow) = self.tables.flows.get_mut(at) {
                    flow.opened = true;
                }
                (Priority::Control, None)
            }
        };
        self.note_sent(to, header.kind == Kind::Data);
        lower_hop_limit(packet);
        self.verdict(Verdict::Forward { link: to, priority, packet: 0..size, after });
        Ok(())
    }

    /// Counts a packet of data: its queue, and the record that it waits for. The flow draws its
    /// next bytes before the last are used. `None`: it has no more, and neither has the account.
    fn meter(&mut self, at: usize, size: usize) -> Option<(Priority, Option<u64>)> {
        let flow = self.tables.flows.get_mut(at)?;
        let (counter, metered) = match flow.metered {
            false => (&mut self.stats.relayed_free, (Priority::Free, None)),
            true => {
                let cost = flow::metered(size);
                if flow.left < cost.saturating_add(self.config.flows.reservation / 2) {
                    self.draw(at, cost);
                }
                let after = self.tables.flows.get_mut(at)?.spend(cost)?;
                (&mut self.stats.relayed_paid, (Priority::Paid, after))
            }
        };
        *counter = counter.wrapping_add(1);
        self.stats.relayed_bytes = self.stats.relayed_bytes.wrapping_add(size as u64);
        #[cfg(feature = "alloc")]
        self.stats.carry(super::view::Class::Flow, size);
        Some(metered)
    }

    /// How many bytes up to this many a flow can carry, once it has drawn.
    #[cfg(feature = "alloc")]
    pub(super) fn can_spend(&mut self, at: usize, size: usize) -> usize {
        let cost = flow::metered(size);
        let reservation = self.config.flows.reservation;
        if self.tables.flows.get_mut(at).is_some_and(|flow| flow.left < cost + reservation / 2) {
            self.draw(at, cost);
        }
        let left = self.tables.flows.get_mut(at).map_or(0, |flow| flow.left);
        usize::try_from(left).unwrap_or(usize::MAX).min(size.max(flow::metered(0) as usize))
    }

    /// Draws the first bytes of a flow that ends here and is paid for; the record of that.
    #[cfg(feature = "alloc")]
    pub(super) fn draw_first(&mut self, flow: &mut Flow, from: HopId) -> Option<u64> {
        let wanted = self.config.flows.reservation.min(flow.may_draw);
        let drawn = self.tables.accounts.draw(&flow.source, wanted, 0);
        self.tables.accounts.opened(&flow.source, flow.open_number, from);
        let after = self.keep_account(flow);
        flow.add(drawn, after);
        after
    }

    /// Moves bytes from the account of its source to a flow, so that it has its reservation, or
    /// what a packet takes that is larger.
    fn draw(&mut self, at: usize, packet: u64) {
        let Tables { flows, accounts, .. } = &mut *self.tables;
        let Some(flow) = flows.get_mut(at).filter(|_| !self.store_failed).copied() else { return };
        let wanted = self.config.flows.reservation.max(packet).saturating_sub(flow.left);
        // What flows that end here have bought is kept under another name.
        #[cfg(feature = "alloc")]
        let credit = credit_of(&self.config, &flow.source, flow.path.from);
        #[cfg(not(feature = "alloc"))]
        let credit = 0;
        let drawn = accounts.draw(&flow.source, wanted.min(flow.may_draw), credit);
        if drawn > 0 {
            let record = self.keep_account(&flow);
            if let Some(flow) = self.tables.flows.get_mut(at) {
                flow.add(drawn, record);
            }
        }
    }

    /// Tells the source of a flow, through the neighbour that is `behind` links from it at this
    /// node, why it does not go on.
    #[inline(never)]
    pub(super) fn report_flow(&mut self, link: LinkId, flow: u64, behind: u8, reason: &MeshError) {
        let Some(cause) = reason.cause() else { return };
        if self.take_control(link, None, FLOW_ERROR_LEN as u64) {
            let error = FlowError { reporter: self.me.id().hop(), cause };
            let hop_limit = behind.saturating_sub(1);
            self.send_control(link, FLOW_ERROR_LEN, |out| error.write(flow, hop_limit, out));
        }
    }
}

/// Where nothing is kept over a restart a debt would be forgotten: nobody has credit.
#[cfg(feature = "alloc")]
fn credit_of(config: &Config, source: &NodeId, from: Option<HopId>) -> u64 {
    if from != Some(source.hop()) || config.payment.volatile {
        return 0;
    }
    config.credit.get(source).copied().unwrap_or(0)
}
