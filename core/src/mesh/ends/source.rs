//! The source's side of a flow: it finds a route, buys what each hop carries, and opens the flow
//! over it, again wherever it stops.
//!
//! Inputs only note what has happened; [`Mesh::work`] does one thing at a time about it, when
//! nothing else waits to be carried out.

use super::held::Claim;
use super::leaving::FAREWELL_BYTES;
use super::steps::{self, Counts};
use super::table::{FlowEnd, Role};
use super::{FlowEnded, FlowEvent, FlowId};
use crate::flow::end::MIN_PACKET;
use crate::flow::end::handshake::Opening;
use crate::id::{HopId, NodeId};
use crate::mesh::api::Verdict;
use crate::mesh::error::{Remedy, RoutingReason};
use crate::mesh::{Mesh, Tables};
use crate::routing::table::Route;
use crate::tables::Memory;
use crate::tariff::Tariff;
use crate::time::{MILLISECOND, Micros, SECOND};
use crate::wire::HEADER_LEN;
use crate::wire::flow::{ACT_LEN, number};
use crate::wire::route_error::Cause;
use alloc::boxed::Box;
use alloc::vec::Vec;
use secp256k1::{Keypair, PublicKey};

/// How often an Open is sent before its route counts as broken.
const OPENS: u32 = 3;
/// Pause before anything is tried again, doubled with each failure up to 128 times.
const PAUSE: Micros = 250 * MILLISECOND;
/// Failures after which a flow ends that was never open.
const FAILURES: u32 = 4;
/// Probe timeouts in a row after which a route counts as broken.
const SILENT: u32 = 4;
/// A route that carries smaller packets only is of no use.
const SMALLEST_PACKET: usize = HEADER_LEN + MIN_PACKET;
/// For how long no packet may come before a flow ends. It is kept up by a packet in half of the
/// time.
pub(super) const IDLE_S: u32 = 3600;
/// An act of the handshake with the destination.
pub(super) type Act = [u8; ACT_LEN];

/// What a source does next, or waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Find a route; a new one, even where one is known.
    Route { fresh: bool },
    /// A search is under way.
    Searching,
    /// Buy what the hops are owed.
    Buy,
    /// The Open was sent so often.
    Opening(u32),
    /// It is open, and nothing is to be done.
    Open,
    /// Try again later.
    Pause,
    /// What it needs next costs more than it may.
    Broke,
    /// It ends.
    End(FlowEnded),
}

/// The source's side of a flow.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) random: [u8; 16],
    pub(super) ephemeral: Keypair,
    /// The destination's, once it has answered a search.
    pub(super) public_key: Option<PublicKey>,
    pub(super) act_one: Act,
    pub(super) opening: Option<Opening>,
    pub(super) act_two: Option<Act>,
    pub(super) claims: Vec<Claim>,
    /// The destination's, once it has taken something for receiving.
    pub(super) receiver: Option<Claim>,
    pub(super) max_packet: u32,
    /// Bytes that were bought for this flow, or are being bought.
    pub(super) allotted: u64,
    /// Bytes of the last step, and the counts when it was bought.
    pub(super) step: u64,
    pub(super) mark: Counts,
    /// Bytes lost at changes of the route, which no relay answers for.
    pub(super) forgiven: u64,
    pub(super) budget_msat: u64,
    pub(super) spent_msat: u64,
    pub(super) told_budget: bool,
    /// A step was allotted that cannot be used yet.
    pub(super) bought: bool,
    /// The route was taken, or something bought, since it was last opened.
    pub(super) must_open: bool,
    /// Its first node could not be paid, and is tried all the same: it may give credit.
    pub(super) tried_credit: bool,
    /// It was looked for a way that begins at a trusted neighbour.
    pub(super) sought_trusted: bool,
    pub(super) open_number: u64,
    /// Where it stopped, and why, which nothing was done about yet.
    pub(super) broken: Option<(Option<HopId>, Cause)>,
    pub(super) opened_at: Micros,
    pub(super) phase: Phase,
    pub(super) due: Micros,
    pub(super) failures: u32,
}

impl Source {
    pub(super) fn due(&self) -> Option<Micros> {
        matches!(self.phase, Phase::Opening(_) | Phase::Pause).then_some(self.due)
    }

    pub(super) fn is_paid(&self) -> bool {
        self.claims.iter().any(|claim| !claim.free)
    }

    /// Whether its route leads over this neighbour, which relays.
    pub(super) fn begins_with(&self, hop: HopId) -> bool {
        self.claims.first().is_some_and(|claim| claim.hop == hop && !claim.receives)
    }

    pub(super) fn hops(&self) -> Vec<HopId> {
        self.claims.iter().filter(|claim| !claim.receives).map(|claim| claim.hop).collect()
    }

    pub(super) fn fail(&mut self, now: Micros, why: FlowEnded) {
        self.failures = self.failures.saturating_add(1);
        if self.act_two.is_none() && self.failures >= FAILURES {
            self.phase = Phase::End(why);
            return;
        }
        self.due = now.saturating_add(PAUSE << self.failures.min(8).saturating_sub(1));
        self.phase = Phase::Pause;
    }

    /// Takes a route: what the flow has left must be had at each of its hops.
    ///
    /// `spare` is what no other flow has at any of those that are paid. A flow that `leaves` needs
    /// little.
    pub(super) fn take_route(
        &mut self,
        hops: Vec<Claim>,
        max_packet: u32,
        (left, used): (u64, u64),
        spare: u64,
        leaves: bool,
    ) {
        self.claims = hops;
        self.max_packet = max_packet;
        let first = match self.is_paid() {
            true => steps::first(&self.claims),
            false => steps::FREE,
        };
        let mut owed = left;
        if leaves {
            // All that is still said is that the flow is over.
            owed = FAREWELL_BYTES;
            self.allotted = used.saturating_add(owed);
        } else if left < first / 2 {
            owed = match spare {
                steps::SMALLEST.. => spare.min(first),
                _ => first,
            };
            self.allotted = used.saturating_add(owed);
            self.step = owed;
        }
        for claim in self.claims.iter_mut().filter(|claim| !claim.free) {
            claim.owed = owed;
        }
        self.must_open = true;
        self.phase = Phase::Buy;
    }
}

impl<M: Memory> Mesh<M> {
    /// An application opens a flow to a node, for at most so much.
    #[inline(never)]
    pub(in crate::mesh) fn open_own_flow(&mut self, destination: NodeId, budget_msat: u64) {
        if destination == self.me.id() {
            return self.reject(None, RoutingReason::Itself, Remedy::Ignore);
        }
        match self.room_for_end(None) {
            Ok(None) => {}
            Ok(Some(over)) => self.drop_end(over, None),
            Err(full) => return self.reject(None, RoutingReason::from(full), Remedy::Ignore),
        }
        let random = self.rng.bytes().first_chunk().copied().unwrap_or_default();
        let number = number(&self.me.id(), &destination, &random);
        let ephemeral = loop {
            if let Ok(key) = Keypair::from_seckey_byte_array(&self.secp, self.rng.bytes()) {
                break key;
            }
        };
        let source = Source {
            random,
            ephemeral,
            public_key: None,
            act_one: [0; ACT_LEN],
            opening: None,
            act_two: None,
            claims: Vec::new(),
            receiver: None,
            max_packet: 0,
            allotted: 0,
            step: 0,
            mark: Counts::default(),
            forgiven: 0,
            budget_msat,
            spent_msat: 0,
            told_budget: false,
            bought: true,
            must_open: true,
            tried_credit: false,
            sought_trusted: false,
            open_number: 0,
            broken: None,
            opened_at: self.now,
            phase: Phase::Route { fresh: false },
            due: self.now,
            failures: 0,
        };
        let idle = u64::from(IDLE_S).saturating_mul(SECOND);
        let role = Role::Source(Box::new(source));
        let end = FlowEnd::new(destination, role, self.now, [idle; 2]);
        self.tables.ends.insert(number, end);
        self.verdict(Verdict::Opening { flow: FlowId(number) });
    }

    /// Does the next thing that a source has to do; false if there is none.
    pub(super) fn work(&mut self, number: u64) -> bool {
        let now = self.now;
        let Some(entry) = self.tables.ends.get(number) else { return false };
        if entry.is_leaving() && !entry.is_telling() {
            // What was ended here goes once its peer knows.
            let known = entry.leaving.is_some_and(|leaving| leaving.here);
            let done = known && !entry.end.as_ref().is_some_and(|end| end.owes_farewell());
            if done {
                self.drop_end(number, None);
            }
            return done;
        }
        let Some((source, _)) = self.tables.ends.source(number) else { return false };
        if let Some((reporter, cause)) = source.broken.take() {
            self.interrupted(number, reporter, cause);
            self.schedule(number);
            return true;
        }
        match source.phase {
            Phase::Route { fresh } => self.find_way(number, fresh),
            Phase::Buy => return self.buy_step(number),
            Phase::Opening(0) => self.send_open(number),
            Phase::Opening(sent) if source.due <= now => match sent >= OPENS {
                true => self.interrupted(number, None, Cause::NextHopGone),
                false => self.send_open(number),
            },
            Phase::Pause if source.due <= now => {
                let fresh = source.failures > 1;
                source.phase = Phase::Route { fresh };
            }
            Phase::End(why) => self.drop_end(number, Some(why)),
            Phase::Open => return self.judge_step(number),
            Phase::Searching | Phase::Opening(_) | Phase::Pause | Phase::Broke => return false,
        }
        self.schedule(number);
        true
    }

    /// Takes the best route that is known, or searches.
    fn find_way(&mut self, number: u64, fresh: bool) {
        let now = self.now;
        let Some(entry) = self.tables.ends.get(number) else { return };
        let (to, left, used) = (entry.peer, entry.left(), entry.used());
        let leaves = entry.is_leaving();
        let claims = |hops: &[(HopId, _)]| -> Vec<Claim> {
            hops.iter().map(|(hop, tariff)| Claim::new(*hop, *tariff)).collect()
        };
        let route = self.way_of_flow(&to);
        let route = route.map(|route| (claims(route.hops), route.min_packet));
        let Tables { ends, routing, searches, .. } = &mut *self.tables;
        let Some((source, _)) = ends.source(number) else { return };
        let receiver = source.receiver.map(Claim::anew);
        let route = route.map(|(mut claims, max_packet)| {
            claims.extend(receiver);
            (claims, max_packet)
        });
        let spare = route.as_ref().map_or(0, |(claims, _)| ends.held.spare(claims));
        let Some((source, _)) = ends.source(number) else { return };
        if let Some((claims, max_packet)) = route
            && source.public_key.is_some()
            && !fresh
        {
            let before = core::mem::take(&mut source.claims);
            source.take_route(claims, max_packet, (left, used), spare, leaves);
            self.tables.ends.held.release(&before, left);
            return self.tables.ends.make_ready(number);
        }
        source.phase = Phase::Searching;
        if searches.get_mut(&to).is_some_and(|search| search.accepted && !search.found) {
            return;
        }
        let near = routing.neighbours.live(to.hop()).filter(|n| n.node == to).map(|n| n.link);
        if self.search(to, true, near).is_err()
            && let Some((source, _)) = self.tables.ends.source(number)
        {
            source.fail(now, FlowEnded::NoRoute);
        }
    }

    /// The destination of flows has answered a search.
    pub(in crate::mesh) fn flow_route(&mut self, destination: NodeId, public_key: &[u8; 33]) {
        let now = self.now;
        let Ok(key) = PublicKey::from_slice(public_key) else { return };
        let waiting = self
            .tables
            .ends
            .sources(|end, source| end.peer == destination && source.phase == Phase::Searching);
        for number in waiting {
            let Some((source, _)) = self.tables.ends.source(number) else { continue };
            source.public_key = Some(key);
            source.phase = Phase::Route { fresh: false };
            // Otherwise it would search again at once, for ever.
            if let Some(why) = self.unusable(&destination)
                && let Some((source, _)) = self.tables.ends.source(number)
            {
                source.fail(now, why);
            }
            self.touch(number);
            self.schedule(number);
        }
    }

    /// Why no route to a node can be taken, if none can.
    fn unusable(&self, destination: &NodeId) -> Option<FlowEnded> {
        let mut why = Some(FlowEnded::NoRoute);
        for route in self.tables.routing.routes_to(destination, self.now) {
            why = self.why_not(&route);
            if why.is_none() {
                break;
            }
        }
        why
    }

    /// Why a route is not taken, if it is not.
    pub(in crate::mesh) fn why_not(&self, route: &Route<'_>) -> Option<FlowEnded> {
        let Tables { ends, .. } = &*self.tables;
        let to = &route.destination;
        let distrusted = |(hop, _): &(HopId, _)| ends.held.is_distrusted(*hop, to, self.now);
        match (route.min_packet as usize) < SMALLEST_PACKET {
            true => Some(FlowEnded::NoRoute),
            false => route.hops.iter().any(distrusted).then_some(FlowEnded::Lossy),
        }
    }

    /// A search has ended without a route.
    pub(in crate::mesh) fn flow_without_route(&mut self, destination: NodeId) {
        let now = self.now;
        let waiting = self
            .tables
            .ends
            .sources(|end, source| end.peer == destination && source.phase == Phase::Searching);
        for number in waiting {
            if let Some((source, _)) = self.tables.ends.source(number) {
                source.fail(now, FlowEnded::NoRoute);
            }
            self.touch(number);
            self.schedule(number);
        }
    }

    /// A flow stopped at some place of its route, or its Open did.
    pub(super) fn flow_interrupted(&mut self, number: u64, reporter: Option<HopId>, cause: Cause) {
        let Some(entry) = self.tables.ends.get(number) else { return };
        if entry.is_leaving() {
            // The other end knows that it is over, or has forgotten it.
            let forgotten = matches!(cause, Cause::FlowUnknown | Cause::NoFlows)
                && reporter == Some(entry.peer.hop());
            if forgotten || !entry.is_telling() {
                return self.drop_end(number, None);
            }
        }
        // One input may concern many flows: what follows is done one by one.
        if let Some((source, _)) = self.tables.ends.source(number) {
            source.broken = Some((reporter, cause));
            self.touch(number);
        }
    }

    pub(super) fn interrupted(&mut self, number: u64, reporter: Option<HopId>, cause: Cause) {
        let now = self.now;
        let reservation = self.config.flows.reservation;
        let Some(entry) = self.tables.ends.get(number) else { return };
        let (left, peer, leaves) = (entry.left(), entry.peer, entry.is_leaving());
        let Some((source, end)) = self.tables.ends.source(number) else { return };
        if !matches!(source.phase, Phase::Opening(_) | Phase::Open | Phase::Buy | Phase::Broke) {
            // It is to be opened again anyway, and has no way until then.
            if cause == Cause::NextHopGone
                && let Some(entry) = self.tables.ends.get_mut(number)
            {
                entry.stopped = true;
            }
            return;
        }
        let stops = !matches!(
            (cause, source.phase),
            (Cause::Congested, _) | (Cause::NothingLeft, Phase::Buy)
        );
        if stops {
            // What was under way is lost by no fault of a relay, as long as it is not too much.
            let in_flight = end.as_ref().map_or(0, |end| end.stats().in_flight);
            let forgiven = in_flight.min(reservation.saturating_sub(source.forgiven));
            source.forgiven = source.forgiven.saturating_add(forgiven);
            source.mark.lost = source.mark.lost.saturating_add(forgiven);
        }
        let node = reporter.unwrap_or(peer.hop());
        let why = FlowEnded::Refused { node, cause };
        match cause {
            Cause::NoFlows if end.is_none() => source.phase = Phase::End(why),
            // It could not be paid just now, and gives no credit.
            Cause::NothingLeft
                if source.tried_credit
                    && source.claims.iter().any(|c| c.hop == node && c.lent > 0) =>
            {
                let cause = Cause::PaymentRequired;
                source.fail(now, FlowEnded::NotBought { node, cause });
                // What it dropped was not paid for.
                let lost = end.as_ref().map(|end| end.stats());
                let lost = lost.map_or(0, |stats| stats.lost.saturating_add(stats.in_flight));
                source.mark.lost = source.mark.lost.max(lost);
                if end.as_ref().is_some_and(|end| !end.is_over()) {
                    self.tell(number, FlowEvent::Interrupted { node, cause });
                }
            }
            Cause::NothingLeft if source.phase != Phase::Buy && !leaves => {
                let at = source.claims.iter().position(|claim| claim.hop == node);
                if at.is_none() && node == peer.hop() {
                    // It takes something for receiving.
                    let receiver = Claim::receiver(node, Tariff::default());
                    source.receiver = Some(receiver);
                    source.claims.push(receiver);
                }
                let at = source.claims.iter().position(|claim| claim.hop == node);
                let Some(claim) = at.and_then(|at| source.claims.get_mut(at)) else { return };
                let owed = left.max(steps::SMALLEST);
                let claimed = claim.bought_of(left);
                // One that charged nothing now does: its price is the least.
                claim.free = false;
                claim.owed = owed;
                source.allotted =
                    source.allotted.max((source.allotted - left).saturating_add(owed));
                source.phase = Phase::Buy;
                let held_as = claim.held_as();
                if !self.tables.ends.held.nothing_left(held_as, claimed, reservation) {
                    self.leave_route(number);
                }
            }
            Cause::NothingLeft if !leaves => {}
            Cause::Congested => {}
            _ => {
                source.fail(now, why);
                if end.as_ref().is_some_and(|end| !end.is_over()) {
                    self.tell(number, FlowEvent::Interrupted { node, cause });
                }
            }
        }
        if stops && let Some(entry) = self.tables.ends.get_mut(number) {
            entry.stopped = true;
        }
    }

    /// Something of a source is due.
    pub(super) fn source_due(&mut self, number: u64) {
        let now = self.now;
        let Some(entry) = self.tables.ends.get_mut(number) else { return };
        let quiet = now.saturating_sub(entry.heard) >= entry.idle / 2;
        let Some(end) = &mut entry.end else { return };
        let silent = end.timeouts() >= SILENT;
        if quiet && end.is_idle() {
            end.ping();
        }
        if silent && self.phase_of(number) == Phase::Open {
            self.interrupted(number, None, Cause::NextHopGone);
        }
    }
}
