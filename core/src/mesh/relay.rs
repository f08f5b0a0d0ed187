//! Packets that come in: their kind, and the path of a datagram through this node.

use super::Mesh;
use super::api::{Priority, Verdict};
use super::error::{MeshError, NetworkReason, PaymentReason, Remedy, RoutingReason};
use super::pay::Admission;
#[cfg(feature = "alloc")]
use super::view::Class;
use crate::config::MAX_HOPS;
use crate::id::{HopId, LinkId, NodeId};
use crate::link::lane::Lane;
use crate::payment::fee::Party;
use crate::payment::replay::REPEAT_PAUSE;
use crate::policy::mode::{MeshMode, RoutingPolicy};
use crate::policy::{Classified, DetectedProtocol};
use crate::routing::seen::Print;
use crate::tables::Memory;
use crate::time::Micros;
#[cfg(feature = "flows")]
use crate::wire::datagram::FLAG_ACCOUNT;
use crate::wire::datagram::{Datagram, Form};
use crate::wire::header::lower_hop_limit;
use crate::wire::route_error::{self, Cause, RouteError};
use crate::wire::{Header, Kind, WireError};

/// For how long, and up to twice as long, a second copy of a signed datagram is refused by nodes
/// that keep no payments: together no longer than a repeating source must pause.
const COPIES: Micros = REPEAT_PAUSE / 2;

/// What is needed to tell a datagram's source that it was stopped here.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) source: NodeId,
    destination: NodeId,
    sequence: u64,
    pub(super) hop_limit: u8,
    pub(super) hops: heapless::Vec<HopId, MAX_HOPS>,
}

impl Trace {
    pub(super) fn of(datagram: &Datagram<'_>) -> Self {
        let Datagram { source, destination, sequence, hop_limit, .. } = *datagram;
        Self { source, destination, sequence, hop_limit, hops: datagram.route() }
    }
}

/// Where a datagram goes from here.
pub(super) enum Next {
    Deliver,
    /// On this link to the neighbour at `to`; this node is the hop at `place`.
    Relay {
        link: LinkId,
        to: usize,
        place: u8,
    },
}

impl<M: Memory> Mesh<M> {
    /// A packet came in on a link.
    pub(super) fn receive(&mut self, link: LinkId, packet: &mut [u8]) {
        let (now, neighbours) = (self.now, &mut self.tables.routing.neighbours);
        let place = neighbours.place(link);
        let Some((place, neighbour)) = place.and_then(|at| Some((at, neighbours.at_mut(at)?)))
        else {
            return self.reject(Some(link), NetworkReason::LinkClosed, Remedy::Ignore);
        };
        neighbour.liveness.hear(now);
        let up = neighbour.up;
        if let Err(reason) = self.check_size(packet) {
            return self.reject(Some(link), reason, Remedy::Disconnect);
        }
        let (header, body) = match Header::parse(packet) {
            Ok(parsed) => parsed,
            Err(e) => return self.reject(Some(link), e, Remedy::Disconnect),
        };
        if !up && header.kind != Kind::Hello {
            return self.reject(Some(link), NetworkReason::NoHello, Remedy::Disconnect);
        }
        let result = match header.kind {
            #[cfg(feature = "flows")]
            Kind::Datagram if header.flags == FLAG_ACCOUNT => {
                self.owe_answer(place);
                return self.account_message((link, place), header, packet);
            }
            Kind::Datagram => {
                self.owe_answer(place);
                return self.datagram((link, place), header, packet);
            }
            Kind::Hello => self.hello(link, header, body),
            Kind::KeepAlive => self.is_there(link, header, body),
            Kind::RouteRequest => self.route_request(link, header, body),
            Kind::RouteReply => {
                self.route_reply(link, header, body).map(|to| self.pass_on(to, packet))
            }
            Kind::RouteError => {
                self.route_error(link, header, body).map(|to| self.pass_on(to, packet))
            }
            #[cfg(feature = "flows")]
            Kind::Open => {
                self.owe_answer(place);
                return self.open_flow((link, place), header, packet);
            }
            #[cfg(feature = "flows")]
            Kind::Opened | Kind::Data | Kind::Close | Kind::FlowError => {
                self.owe_answer(place);
                return self.flow_packet(link, header, packet);
            }
            #[allow(unreachable_patterns)]
            Kind::Open | Kind::Data | Kind::Ack | Kind::Close | Kind::Opened | Kind::FlowError => {
                Err((NetworkReason::NoFlows.into(), Remedy::Ignore))
            }
        };
        self.stats.control = self.stats.control.wrapping_add(1);
        if let Err((reason, remedy)) = result {
            self.reject(Some(link), reason, remedy);
        }
    }

    pub(super) fn check_size(&self, packet: &[u8]) -> Result<(), MeshError> {
        let (size, max) = (packet.len(), self.config.max_packet);
        match usize::try_from(max).is_ok_and(|max| size > max) {
            true => Err(NetworkReason::TooLarge { size, max }.into()),
            false => Ok(()),
        }
    }

    /// Sends a reply or an error one link further, unless it was for this node.
    fn pass_on(&mut self, to: Option<LinkId>, packet: &mut [u8]) {
        let Some(to) = to else { return };
        self.note_sent(to, false);
        lower_hop_limit(packet);
        let (priority, len) = (Priority::Control, packet.len());
        self.forward(to, priority, len, None);
    }

    /// A datagram came in on a live link from the neighbour at a place, its header checked.
    #[inline(never)]
    pub(super) fn datagram(
        &mut self,
        (link, from): (LinkId, usize),
        header: Header,
        packet: &mut [u8],
    ) {
        let Some(body) = packet.get(crate::wire::HEADER_LEN..) else { return };
        let parsed = Datagram::parse(header, body);
        let datagram = match &parsed {
            Ok(datagram) => datagram,
            Err(e) => return self.reject(Some(link), *e, Remedy::Disconnect),
        };
        let Datagram { source, destination, sequence, .. } = datagram;
        let name = self.tables.seen.name(source, destination, *sequence, datagram.hops());
        // Where no payments are kept, a paid one may come again, but not at once.
        let repeats = datagram.signed.is_some() && datagram.hop_limit > 0;
        let span = if repeats { 1 + self.now / COPIES } else { 0 };
        let check = check_of(packet);
        let print = |span| self.tables.seen.came(name, check, datagram, span);
        let came = print(span);
        let came = [came, if repeats { print(span.saturating_sub(1)) } else { came }];
        let next = match self.next(from, datagram, came, packet.len()) {
            Ok(next) => next,
            Err((reason, remedy)) => return self.refuse(link, datagram, reason, remedy),
        };
        // Where no payments are kept, datagrams that end here are remembered where passing
        // traffic does not overwrite them.
        let ends = matches!(next, Next::Deliver) && datagram.signed.is_some();
        let ended = (ends && self.config.mode == MeshMode::Open).then(|| {
            let sent = &self.tables.sent;
            let name = sent.name(source, destination, *sequence, datagram.hops());
            sent.came(name, check, datagram, 0)
        });
        if ended.is_some_and(|ended| self.tables.sent.contains(ended)) {
            return self.ended_before(link, datagram, None);
        }
        let party = match next {
            Next::Deliver => Party::Destination,
            Next::Relay { place, .. } => Party::Intermediate(place),
        };
        let size = packet.len();
        let found = match next {
            Next::Deliver => self.policy.classified(datagram.payload),
            // A proof decides, whatever goes with it.
            Next::Relay { .. } if datagram.signed.is_some() => {
                self.policy.unread(datagram.payload.len())
            }
            Next::Relay { .. } => self.class_that_decides(datagram.payload),
        };
        if let Next::Relay { to, .. } = next
            && self.is_full(to, found.protocol)
        {
            let reason = NetworkReason::Congested.into();
            return self.refuse(link, datagram, reason, Remedy::Ignore);
        }
        let onward = match next {
            Next::Deliver => None,
            Next::Relay { to, .. } => self.onward(from, to, datagram, size, found),
        };
        // Before anything is charged for it.
        if onward.as_ref().is_some_and(|onward| !self.has_room(onward)) {
            let reason = NetworkReason::NextHopQuota.into();
            return self.refuse(link, datagram, reason, Remedy::Ignore);
        }
        let admission = match self.admit(Some((link, from)), party, datagram, size, found) {
            Ok(admission) => admission,
            Err(reason) => {
                let remedy = self.remedy_for_payment(link, &datagram.source, &reason);
                return self.refuse(link, datagram, reason, remedy);
            }
        };
        let (after, priority, earned_msat) = match admission {
            Admission::Parked => return,
            Admission::Free => {
                onward.iter().for_each(|onward| self.take_room(onward));
                (None, Priority::Free, 0)
            }
            Admission::Paid { record, share_msat } => (record, Priority::Paid, share_msat),
            Admission::Delivered { record } => {
                return self.ended_before(link, datagram, record);
            }
            Admission::Again { record } => (record, Priority::Paid, 0),
        };
        if priority == Priority::Paid
            && let Some(n) = self.tables.routing.neighbours.at_mut(from)
        {
            n.paid = true;
        }
        let [came, _] = came;
        self.tables.seen.insert(came);
        match next {
            Next::Deliver => {
                if let Some(ended) = ended {
                    self.tables.sent.insert(ended);
                }
                let verdict = Verdict::Deliver {
                    source: datagram.source,
                    sequence: datagram.sequence,
                    payload: datagram.payload_range(size),
                    protocol: found.protocol,
                    earned_msat,
                    after,
                };
                self.stats.delivered = self.stats.delivered.wrapping_add(1);
                self.verdict(verdict);
                // There is one receipt for each datagram, and it is smaller: no allowance is
                // needed.
                if ends {
                    self.report(link, Trace::of(datagram), Cause::Delivered, after);
                }
            }
            Next::Relay { link: to_link, to, .. } => {
                let counter = match priority {
                    Priority::Paid => &mut self.stats.relayed_paid,
                    _ => &mut self.stats.relayed_free,
                };
                *counter = counter.wrapping_add(1);
                self.stats.relayed_bytes = self.stats.relayed_bytes.wrapping_add(size as u64);
                #[cfg(feature = "alloc")]
                self.stats.carry(
                    match priority {
                        Priority::Paid => Class::Paid,
                        _ => Class::of(found.protocol),
                    },
                    size,
                );
                self.note_sent_to(to, true);
                let went = self.tables.seen.went(to_link, name, datagram.signed.is_some());
                self.tables.seen.insert(went);
                lower_hop_limit(packet);
                self.forward(to_link, priority, size, after);
            }
        }
    }

    /// Where a datagram goes, if it came by its route and can go on.
    pub(super) fn next(
        &mut self,
        from: usize,
        datagram: &Datagram<'_>,
        came: [Print; 2],
        size: usize,
    ) -> Result<Next, (MeshError, Remedy)> {
        let strayed = |reason: RoutingReason| (reason.into(), Remedy::Penalise);
        let me = self.me.id();
        let count = datagram.hops().len();
        let limit = usize::from(datagram.hop_limit);
        // The hop limit gives the place on the route: after the last hop it is 0.
        let Some(place) = count.checked_sub(limit) else {
            return Err(strayed(RoutingReason::NotOurTurn));
        };
        let here = datagram.hops().nth(place);
        let in_turn = match here {
            Some(hop) => hop == me.hop(),
            None => is_for(datagram, &me),
        };
        if !in_turn {
            return Err(strayed(RoutingReason::NotOurTurn));
        }
        let from = self.tables.routing.neighbours.at(from).map(|n| n.node);
        let came_from_previous = match place.checked_sub(1) {
            None => from == Some(datagram.source),
            Some(previous) => from.map(|n| n.hop()) == datagram.hops().nth(previous),
        };
        if !came_from_previous {
            return Err(strayed(RoutingReason::WrongNeighbour));
        }
        if !datagram.visits_each_once() {
            return Err(strayed(RoutingReason::Loop));
        }
        // Where payments are kept, they tell whether a paid datagram may come again; what ends
        // here is reported again.
        let gated = self.config.mode == MeshMode::PaymentGated;
        let is_kept = datagram.signed.is_some() && (gated || here.is_none());
        if !is_kept && came.into_iter().any(|came| self.tables.seen.contains(came)) {
            return Err((RoutingReason::Duplicate.into(), Remedy::Ignore));
        }
        if here.is_none() {
            return Ok(Next::Deliver);
        }
        let to = datagram.hops().nth(place + 1).unwrap_or(datagram.destination.hop());
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        let Some((place_of_next, to)) = self.tables.routing.neighbours.live_at(to) else {
            return Err(ignore(RoutingReason::NextHopGone.into()));
        };
        // The whole identity of the destination is known, not only its beginning.
        if limit == 1 && place + 1 == count && !is_for(datagram, &to.node) {
            return Err(ignore(RoutingReason::NextHopGone.into()));
        }
        if usize::try_from(to.max_packet).is_ok_and(|max| size > max) {
            let max = to.max_packet;
            return Err(ignore(RoutingReason::TooLargeForHop { size, max }.into()));
        }
        // Without a proof it can only go free: the payload need not be read to refuse it.
        if to.is_full(Lane::Free) && (to.is_full(Lane::Paid) || datagram.signed.is_none()) {
            return Err(ignore(NetworkReason::Congested.into()));
        }
        let place = u8::try_from(place).map_err(|_| strayed(RoutingReason::NotOurTurn))?;
        Ok(Next::Relay { link: to.link, to: place_of_next, place })
    }

    /// The protocol of a payload and the classes of its bytes, if they matter in this mode. In
    /// mode open they decide nothing and are not determined.
    pub(super) fn class_that_decides(&self, payload: &[u8]) -> Classified {
        match self.config.mode {
            MeshMode::Open => self.policy.unread(payload.len()),
            _ => self.policy.classified(payload),
        }
    }

    /// Whether the queue that a datagram of this protocol would take at the neighbour at a place is
    /// full. Asked before an allowance or a payment is charged for the datagram.
    pub(super) fn is_full(&self, to: usize, protocol: DetectedProtocol) -> bool {
        let lane = match self.policy.determine_policy(protocol) {
            RoutingPolicy::Free => Lane::Free,
            RoutingPolicy::PaymentRequired => Lane::Paid,
            RoutingPolicy::Refused => return false,
        };
        self.tables.routing.neighbours.at(to).is_some_and(|n| n.is_full(lane))
    }

    /// Whether a datagram may pass: free of charge and within the allowance, or for a valid
    /// payment, which is then booked. With a proof it passes for its payment alone, even if it
    /// could go free without.
    pub(super) fn admit(
        &mut self,
        from: Option<(LinkId, usize)>,
        party: Party,
        datagram: &Datagram<'_>,
        size: usize,
        found: Classified,
    ) -> Result<Admission, MeshError> {
        let policy = self.policy.determine_policy(found.protocol);
        let link = from.map(|(link, _)| link);
        #[cfg(feature = "alloc")]
        if party == Party::Destination && self.pays_others(datagram) {
            return Ok(Admission::Delivered { record: None });
        }
        if datagram.signed.is_some() {
            match (self.config.mode, party, policy) {
                // A node in this mode checks nothing and carries everything.
                (MeshMode::Open, ..) => {}
                (mode @ MeshMode::BitcoinOnly, ..) => {
                    return Err(PaymentReason::ModeTakesNone(mode).into());
                }
                (_, Party::Source, RoutingPolicy::Free) => {
                    return Err(PaymentReason::NotNeeded.into());
                }
                // Nobody carries unchecked proofs for free.
                _ => return self.check_payment(link, party, datagram),
            }
        }
        match policy {
            RoutingPolicy::Refused => Err(PaymentReason::ModeRefused(self.config.mode).into()),
            RoutingPolicy::PaymentRequired => self.check_payment(link, party, datagram),
            RoutingPolicy::Free => {
                match from.is_none_or(|(_, at)| self.take_free(at, datagram, size, found.cost)) {
                    true => Ok(Admission::Free),
                    false => Err(NetworkReason::QuotaExceeded.into()),
                }
            }
        }
    }

    /// What to do about a neighbour whose datagram is refused for its payment. In modes other
    /// than payment_gated a neighbour checks no payments, and answers for its own datagrams only.
    fn remedy_for_payment(&self, link: LinkId, source: &NodeId, reason: &MeshError) -> Remedy {
        let neighbour = self.tables.routing.neighbours.get(link);
        match neighbour.is_some_and(|n| n.mode == MeshMode::PaymentGated || n.node == *source) {
            true => reason.remedy_for_payment(),
            false => Remedy::Ignore,
        }
    }

    /// Refuses a datagram and tells its source why, through the neighbour that it came from,
    /// within that neighbour's control allowance.
    pub(super) fn refuse(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        reason: MeshError,
        remedy: Remedy,
    ) {
        self.reject(Some(link), reason, remedy);
        self.count_refusal(link, datagram, &reason);
        self.tell_source(link, Trace::of(datagram), &reason);
    }

    /// Tells the source of a datagram why it was stopped here.
    pub(super) fn tell_source(&mut self, link: LinkId, trace: Trace, reason: &MeshError) {
        let Some(cause) = reason.cause() else { return };
        if self.may_report(link, &trace) {
            self.report(link, trace, cause, None);
        }
    }

    /// A datagram with a proof that was already delivered came again: its source missed the
    /// receipt.
    #[inline(never)]
    fn ended_before(&mut self, link: LinkId, datagram: &Datagram<'_>, after: Option<u64>) {
        self.absorb();
        let trace = Trace::of(datagram);
        if self.may_report(link, &trace) {
            self.report(link, trace, Cause::Delivered, after);
        }
    }

    /// Charges a report to the allowance of the neighbour that brought the datagram; true if it
    /// is covered.
    fn may_report(&mut self, link: LinkId, trace: &Trace) -> bool {
        let Trace { source, hop_limit, hops, .. } = trace;
        let place = hops.len().saturating_sub(usize::from(*hop_limit));
        let before = place.checked_sub(2).and_then(|at| hops.get(at).copied());
        let size = route_error::len(hops.len()) as u64;
        self.take_control(link, Some(before.unwrap_or(source.hop())), size)
    }

    /// Tells the source of a datagram what became of it here, once this record is durable.
    #[inline(never)]
    fn report(&mut self, link: LinkId, trace: Trace, cause: Cause, after: Option<u64>) {
        let Trace { source, destination, sequence, hop_limit, hops } = trace;
        let Some(place) = hops.len().checked_sub(usize::from(hop_limit)) else { return };
        let error = RouteError {
            hop_limit: place as u8,
            sequence,
            source,
            destination,
            reporter: self.me.id(),
            next: hops.get(place + 1).copied().unwrap_or(destination.hop()),
            cause,
            hops,
        };
        self.send_control_after(link, route_error::MAX_LEN, after, |out| error.write(out));
    }
}

/// Whether a node is the destination of a datagram. Account messages may name the beginning of
/// its identity, which is all that a source knows of the nodes on its route.
fn is_for(datagram: &Datagram<'_>, node: &NodeId) -> bool {
    match datagram.form {
        Form::Account => datagram.destination.names(node),
        Form::Plain | Form::Open => datagram.destination == *node,
    }
}

/// The check in a packet's header.
pub(super) fn check_of(packet: &[u8]) -> u32 {
    let check = packet.get(crate::wire::HEADER_LEN - 4..).and_then(|b| b.first_chunk());
    check.map_or(0, |check| u32::from_le_bytes(*check))
}

impl From<WireError> for (MeshError, Remedy) {
    fn from(e: WireError) -> Self {
        (e.into(), Remedy::Disconnect)
    }
}
