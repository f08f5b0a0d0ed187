//! Discovery: requests, replies and errors that come in.

use super::api::{Action, Event};
use super::error::{MeshError, NetworkReason, Remedy, RoutingReason};
use super::{Mesh, Pending, Tables};
use crate::id::{HopId, LinkId, NodeId};
use crate::routing::discovery::Collected;
use crate::routing::metric;
use crate::routing::table::Confirmed;
use crate::routing::towards::Towards;
use crate::signature;
use crate::tables::Memory;
use crate::wire::Header;
use crate::wire::route_error::{Cause, RouteError};
use crate::wire::route_reply::{self, RouteReply};
use crate::wire::route_request::{self, Hop, RouteRequest};

/// A rejection.
pub(super) type Refusal = (MeshError, Remedy);

fn ignore(reason: RoutingReason) -> Refusal {
    (reason.into(), Remedy::Ignore)
}

fn penalise(reason: RoutingReason) -> Refusal {
    (reason.into(), Remedy::Penalise)
}

/// Whether no node is on a route twice; both ends are part of it.
fn all_different(mut nodes: impl Iterator<Item = HopId> + Clone) -> bool {
    while let Some(node) = nodes.next() {
        if nodes.clone().any(|other| other == node) {
            return false;
        }
    }
    true
}

impl<M: Memory> Mesh<M> {
    fn node_at(&self, link: LinkId) -> Option<NodeId> {
        self.tables.routing.neighbours.get(link).map(|n| n.node)
    }

    /// Somebody looks for a node.
    #[inline(never)]
    pub(super) fn route_request(
        &mut self,
        link: LinkId,
        header: Header,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let mut request = RouteRequest::parse(header, body)?;
        let travelled = &request.hops;
        let before = travelled.len().checked_sub(2).and_then(|at| travelled.get(at));
        let before = before.map_or(request.source, |hop| hop.node);
        self.charge(link, body, Some(before))?;
        let me = self.me.id().hop();
        if request.source == me {
            return Err(ignore(RoutingReason::KnownRequest));
        }
        let previous = request.hops.last().map_or(request.source, |hop| hop.node);
        if self.node_at(link).map(|n| n.hop()) != Some(previous) {
            return Err(penalise(RoutingReason::WrongNeighbour));
        }
        if request.hops.iter().any(|hop| hop.node == me) {
            return Err(ignore(RoutingReason::Loop));
        }
        let answers = request.destination == me || self.belongs_to(request.destination);
        if !answers && request.hops.is_full() {
            return Err(ignore(RoutingReason::HopLimit));
        }
        let (source, sequence) = (request.source, request.sequence);
        let quality = self.tables.routing.neighbours.get(link).map_or(0, |n| n.quality);
        request.quality = request.quality.saturating_add(u32::from(quality));
        request.min_packet = request.min_packet.min(self.config.max_packet);
        let tariff = self.config.payment.tariff;
        let cost = metric::cost(request.quality, &request.hops, tariff);
        let route = Collected { cost, min_packet: request.min_packet };
        let last = request.flags == 0;
        // The neighbour that asks pays for the answer's signature: for making it here, or for a
        // part of what checking it costs on the way back.
        let (wanted, work) = match answers {
            true => {
                let wanted = self.tables.requests.would_answer(source, sequence, link, route, last);
                (wanted, self.config.signature_work)
            }
            false => {
                let known = self.tables.requests.contains(source, sequence);
                (!known, self.config.signature_work / 4)
            }
        };
        if !wanted {
            return Err(ignore(RoutingReason::KnownRequest));
        }
        if !self.take_control(link, Some(before), work) {
            return Err((NetworkReason::ControlQuota.into(), Remedy::Ignore));
        }
        if let Some(accepted) = &mut request.accepted {
            accepted.narrow(&self.own_accepted());
        }
        // Where it goes is decided before anything is remembered: a request refused here may come
        // by another path.
        let towards = match answers {
            true => None,
            false => self.tables.routing.towards(link, &request, self.now),
        };
        let floods = !answers && towards.is_none() && request.hop_limit > 0;
        if floods && !self.take_flood(link, Some(before), &request) {
            return Err((NetworkReason::ControlQuota.into(), Remedy::Ignore));
        }
        let behind = request.hops.iter().rev().map(|hop| hop.node).chain([request.source]);
        self.hear(link, behind);
        let Tables { requests, routing, .. } = &mut *self.tables;
        let share = routing.neighbours.share_of(self.config.capacities.relayed_requests);
        requests.note(source, sequence, link, self.now, share);
        if answers {
            requests.answered(source, sequence, link, route);
            self.reply(link, request);
            return Ok(());
        }
        // There is room: see above.
        let _ = request.hops.push(Hop { node: me, tariff });
        self.absorb();
        self.pass_request(link, towards, request);
        Ok(())
    }

    /// Passes a request on: towards the destination alone where a route or a hint is known, else
    /// to everybody.
    fn pass_request(&mut self, from: LinkId, towards: Option<Towards>, mut request: RouteRequest) {
        match towards {
            Some(Towards { link, left, heard }) => {
                if heard {
                    self.doubt_hint(request.destination, left);
                }
                request.hop_limit = left;
                self.send_control(link, route_request::MAX_LEN, |out| request.write(out));
            }
            None => {
                let Some(limit) = request.hop_limit.checked_sub(1) else { return };
                request.hop_limit = limit;
                if self.write_head(route_request::MAX_LEN, |out| request.write(out)) {
                    self.push(Pending::Flood {
                        except: Some(from),
                        last: None,
                        #[cfg(feature = "alloc")]
                        trusted: false,
                    });
                }
            }
        }
    }

    /// The link that a route hint names, and the distance in links. The node must be heard of
    /// again soon, or the hint is dropped.
    #[inline(never)]
    pub(super) fn follow_hint(&mut self, node: HopId) -> Option<(LinkId, u8)> {
        let (link, distance) = self.tables.routing.hint_to(node, self.now)?;
        self.doubt_hint(node, distance);
        Some((link, distance))
    }

    fn doubt_hint(&mut self, node: HopId, distance: u8) {
        let time = self.config.timing.hop_round_trip.saturating_mul(u64::from(distance));
        self.tables.routing.hints.doubt(node, self.now.saturating_add(time));
    }

    /// Notes a route hint for each of these nodes, the neighbour first.
    fn hear(&mut self, link: LinkId, nodes: impl Iterator<Item = HopId>) {
        nodes.zip(1..).skip(1).for_each(|(node, distance)| self.hear_of(link, node, distance));
    }

    #[inline(never)]
    fn hear_of(&mut self, link: LinkId, node: HopId, distance: u8) {
        let until = self.now.saturating_add(self.config.timing.route_lifetime);
        let routing = &mut self.tables.routing;
        let share = routing.neighbours.share_of(self.config.capacities.route_hints);
        if node != self.me.id().hop() && routing.neighbours.by_hop(node).is_none() {
            routing.hints.note(self.now, node, link, distance, until, share);
        }
    }

    /// Answers a request for this node.
    fn reply(&mut self, link: LinkId, request: RouteRequest) {
        let mut reply = RouteReply {
            hop_limit: request.hops.len() as u8,
            sequence: request.sequence,
            source: request.source,
            min_packet: request.min_packet,
            quality: request.quality,
            tariff: self.config.payment.tariff,
            accepted: request.accepted,
            public_key: *self.me.public_key(),
            signature: [0; 64],
            hops: request.hops,
        };
        reply.signature = self.me.sign(&self.secp, &reply.sighash());
        self.absorb();
        self.send_control(link, route_reply::MAX_LEN, |out| reply.write(out));
    }

    /// A route comes back. `Some`: the packet goes on to that neighbour.
    #[inline(never)]
    pub(super) fn route_reply(
        &mut self,
        link: LinkId,
        header: Header,
        body: &[u8],
    ) -> Result<Option<LinkId>, Refusal> {
        let mut reply = RouteReply::parse(header, body)?;
        let (me, destination) = (self.me.id().hop(), reply.destination());
        let place = usize::from(reply.hop_limit).checked_sub(1);
        let before = reply.hops.get(place.map_or(1, |at| at.saturating_add(2))).map(|h| h.node);
        let before = before.unwrap_or(destination.hop());
        self.charge(link, body, Some(before))?;
        let here = place.map_or(Some(reply.source), |at| reply.hops.get(at).map(|h| h.node));
        if here != Some(me) {
            return Err(penalise(RoutingReason::NotOurTurn));
        }
        let behind = place.map_or(0, |at| at + 1);
        let successor = reply.hops.get(behind).map_or(destination.hop(), |h| h.node);
        if self.node_at(link).map(|n| n.hop()) != Some(successor) {
            return Err(penalise(RoutingReason::WrongNeighbour));
        }
        // No relay would carry anything along a route with a loop.
        let ends = [reply.source, destination.hop()];
        if !all_different(reply.hops.iter().map(|h| h.node).chain(ends)) {
            return Err(penalise(RoutingReason::Loop));
        }
        let to = match place {
            None => {
                if self.searched(&destination, reply.sequence).is_none() {
                    return Err(ignore(RoutingReason::Unsolicited));
                }
                if !self.tables.routing.fits(reply.hops.len()) {
                    return Err(ignore(RoutingReason::TooManyHops));
                }
                None
            }
            Some(at) => {
                if !self.tables.requests.contains(reply.source, reply.sequence) {
                    return Err(ignore(RoutingReason::Unsolicited));
                }
                // The reply must state this node's own tariff unchanged.
                let tariff = self.config.payment.tariff;
                let accepted = reply.accepted.as_mut();
                if reply.hops.get(at).is_none_or(|h| h.tariff != tariff)
                    || accepted.is_some_and(|accepted| accepted.narrow(&self.own_accepted()))
                {
                    return Err(ignore(RoutingReason::Unsolicited));
                }
                let before = at.checked_sub(1).and_then(|i| reply.hops.get(i));
                let before = before.map_or(reply.source, |h| h.node);
                let to = self.tables.routing.neighbours.live(before);
                Some(to.ok_or(ignore(RoutingReason::NextHopGone))?.link)
            }
        };
        if !self.take_control(link, Some(before), self.config.signature_work) {
            return Err((NetworkReason::ControlQuota.into(), Remedy::Ignore));
        }
        let sighash = reply.sighash();
        if !signature::verify(&self.secp, &reply.public_key, &sighash, &reply.signature) {
            return Err(penalise(RoutingReason::ReplySignature));
        }
        if to.is_none() {
            self.found(destination, &reply);
            #[cfg(feature = "alloc")]
            self.keep_accepted(destination, &reply);
            self.absorb();
        }
        self.learn(destination, &reply, behind);
        #[cfg(feature = "alloc")]
        if to.is_none() {
            self.flow_route(destination, &reply.public_key);
            self.purchase_route(&destination);
        }
        let nodes = reply.hops.iter().map(|h| h.node);
        self.hear(link, nodes.clone().skip(behind).chain([destination.hop()]));
        if let (Some(to), Some(at)) = (to, place) {
            self.hear(to, nodes.take(at).rev().chain([reply.source]));
        }
        Ok(to)
    }

    /// Remembers the route from here on: the hops from `behind`.
    fn learn(&mut self, destination: NodeId, reply: &RouteReply, behind: usize) {
        let hops = reply.hops.get(behind..).unwrap_or_default();
        // The part before this node does not belong to its route: quality is scaled in
        // proportion.
        let links = reply.hops.len() as u32 + 1;
        let quality = reply.quality / links * (hops.len() as u32 + 1);
        let expires_at = self.now.saturating_add(self.config.timing.route_lifetime);
        let RouteReply { tariff, min_packet, .. } = *reply;
        let route = Confirmed { destination, hops, tariff, min_packet, quality, expires_at };
        self.tables.routing.add_route(route, self.now);
    }

    /// Who was looked for by the own search that a reply of this node answers: that node, or a
    /// group that it says it belongs to.
    fn searched(&mut self, answering: &NodeId, number: u64) -> Option<NodeId> {
        match self.tables.searches.get_mut(answering) {
            Some(search) if search.numbers.contains(&number) => Some(*answering),
            _ => self.searched_group(number),
        }
    }

    /// An own search has an answer.
    fn found(&mut self, destination: NodeId, reply: &RouteReply) {
        let hops = reply.hops.len() as u8;
        let search = self.tables.searches.get_mut(&destination);
        let Some(search) = search.filter(|search| search.numbers.contains(&reply.sequence)) else {
            return self.found_member(destination, reply.sequence, hops);
        };
        if !core::mem::replace(&mut search.found, true) {
            // Routes known before may be gone, and must not win by their cost.
            self.tables.routing.forget(&destination);
            self.act(Action::Publish(Event::RouteDiscovered { destination, hops }));
            self.push(Pending::Resume(destination));
        }
    }

    /// Whether the reporter is behind this node on the datagram's route and the hop named after
    /// it is the next one, each matching its whole identity where that is known. Only the
    /// destination may report that a datagram was delivered.
    fn could_report(&self, link: LinkId, error: &RouteError, behind: usize) -> bool {
        let nodes = error.hops.get(behind..).unwrap_or_default();
        let end = error.destination.hop();
        let reporter = error.reporter;
        match nodes.iter().position(|hop| *hop == reporter.hop()) {
            None => error.destination.names(&reporter) && error.next == end,
            Some(at) => {
                let known = at > 0 || self.node_at(link) == Some(reporter);
                known
                    && error.cause != Cause::Delivered
                    && error.next == nodes.get(at + 1).copied().unwrap_or(end)
            }
        }
    }

    /// A datagram went no further, or was delivered. `Some`: the packet goes on to that
    /// neighbour. It is charged only if it is not believed: each datagram that was sent on
    /// entitles the neighbour to one report.
    #[inline(never)]
    pub(super) fn route_error(
        &mut self,
        link: LinkId,
        header: Header,
        body: &[u8],
    ) -> Result<Option<LinkId>, Refusal> {
        let error = RouteError::parse(header, body)?;
        let place = usize::from(error.hop_limit).checked_sub(1);
        let before = error.hops.get(place.map_or(1, |at| at.saturating_add(2))).copied();
        let before = before.unwrap_or(error.destination.hop());
        let to = match self.way_of_error(link, &error, place) {
            Ok(to) => to,
            Err(refusal) => {
                self.charge(link, body, Some(before))?;
                return Err(refusal);
            }
        };
        self.learn_of(link, before, &error)?;
        if to.is_none() {
            let RouteError { sequence, destination, reporter, cause, .. } = error;
            #[cfg(feature = "alloc")]
            self.deposit_reported(sequence, reporter.hop());
            #[cfg(feature = "alloc")]
            if self.purchase_stopped(sequence, cause)
                || self.open_stopped(sequence, reporter.hop(), cause)
            {
                self.absorb();
                return Ok(None);
            }
            let event = match cause {
                Cause::Delivered => Event::Delivered { sequence, destination },
                _ => Event::DeliveryFailed { sequence, destination, reporter, cause },
            };
            self.act(Action::Publish(event));
            self.absorb();
        }
        Ok(to)
    }

    /// Whether an error is believed, and the neighbour to which it goes on, if it is not for this
    /// node.
    fn way_of_error(
        &mut self,
        link: LinkId,
        error: &RouteError,
        place: Option<usize>,
    ) -> Result<Option<LinkId>, Refusal> {
        let me = self.me.id();
        let in_turn = match place {
            None => error.source == me,
            Some(at) => error.hops.get(at) == Some(&me.hop()),
        };
        if !in_turn {
            return Err(penalise(RoutingReason::NotOurTurn));
        }
        let behind = place.map_or(0, |at| at + 1);
        let successor = error.hops.get(behind).copied().unwrap_or(error.destination.hop());
        if self.node_at(link).map(|n| n.hop()) != Some(successor) {
            return Err(penalise(RoutingReason::WrongNeighbour));
        }
        if !self.could_report(link, error, behind) {
            return Err(ignore(RoutingReason::Unsolicited));
        }
        let to = match place {
            None => None,
            Some(at) => {
                let before = at.checked_sub(1).and_then(|i| error.hops.get(i).copied());
                let before = before.unwrap_or(error.source.hop());
                let to = self.tables.routing.neighbours.live(before);
                Some(to.ok_or(ignore(RoutingReason::NextHopGone))?.link)
            }
        };
        let reported = match to {
            None => self.tables.sent.take_reported(link, error),
            Some(_) => self.tables.seen.take_reported(link, error),
        };
        if !reported {
            return Err(ignore(RoutingReason::Unsolicited));
        }
        Ok(to)
    }

    /// Forgets the routes that an error makes invalid.
    fn learn_of(&mut self, link: LinkId, before: HopId, error: &RouteError) -> Result<(), Refusal> {
        let Some(successor) = self.node_at(link).map(|n| n.hop()) else { return Ok(()) };
        // All routes are checked.
        let looks = matches!(error.cause, Cause::NextHopGone | Cause::AmountTooSmall);
        if looks && !self.take_control(link, Some(before), self.config.signature_work) {
            return Err((NetworkReason::ControlQuota.into(), Remedy::Ignore));
        }
        match error.cause {
            Cause::NextHopGone => {
                self.tables.routing.remove_link(successor, error.reporter.hop(), error.next);
                self.tables.routing.hints.doubt(error.destination.hop(), self.now);
            }
            // The hop charges more than it said when the route was found.
            Cause::AmountTooSmall => {
                self.tables.routing.remove_node(successor, error.reporter.hop());
            }
            // The hop accepts less than it said.
            #[cfg(feature = "alloc")]
            Cause::IssuerUnknown | Cause::CovenantInactive if error.source == self.me.id() => {
                self.forget_accepted(&error.destination, &error.hops);
            }
            _ => {}
        }
        Ok(())
    }
}
