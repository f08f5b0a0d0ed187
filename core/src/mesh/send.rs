//! Datagrams of our own, and the searches that they start.

use super::api::{Action, Event, Packet, Priority, Verdict};
use super::error::{MeshError, NetworkReason, PaymentReason, Remedy, RoutingReason};
use super::pay::Admission;
use super::{Mesh, Pending};
use crate::config::MAX_HOPS;
use crate::id::{HopId, LinkId, NodeId};
use crate::link::lane::Lane;
use crate::payment::fee::Party;
use crate::routing::discovery::{Search, Searches, WIDEST};
#[cfg(feature = "alloc")]
use crate::routing::table::Route;
use crate::tables::{List, Memory};
use crate::wire::Header;
use crate::wire::accepted::Accepted;
use crate::wire::datagram::{self, Datagram, Emit, Form, Signed};
use crate::wire::route_request::{self, HINTS, Hops, ROUTES, RouteRequest};

type Path = heapless::Vec<HopId, MAX_HOPS>;

/// Whether a route's nodes take a free datagram with such a payload.
#[cfg(feature = "alloc")]
fn takes(route: &Route<'_>, payload: usize) -> bool {
    let size = datagram::head_len(route.hops.len(), 0).saturating_add(payload);
    usize::try_from(route.min_packet).is_ok_and(|max| size <= max)
}

impl<M: Memory> Mesh<M> {
    /// Sends a datagram, or parks it until a route is found.
    #[inline(never)]
    pub(super) fn send(&mut self, to: NodeId, payload: &[u8], proof: &[u8], unchecked: bool) {
        if to == self.me.id() {
            return self.reject(None, RoutingReason::Itself, Remedy::Ignore);
        }
        #[cfg(feature = "alloc")]
        if !proof.is_empty()
            && !unchecked
            && let Some(neighbour) = self.untrusted_way(&to)
        {
            self.answered = None;
            return self.reject(None, RoutingReason::Untrusted(neighbour), Remedy::Ignore);
        }
        let result = match self.route_for(&to, payload, proof) {
            Some((path, max)) => self.send_on(to, &path, max, payload, proof, unchecked),
            None => self.search_for(to, payload.len().saturating_add(proof.len())),
        };
        self.answered = None;
        if let Err(reason) = result {
            self.reject(None, reason, Remedy::Ignore);
        }
    }

    /// Path and largest packet of the cheapest route; for a free payload of the cheapest that takes
    /// it, if there is one. What a proof pays for are the hops of the cheapest that begins at a
    /// trusted neighbour.
    fn route_for(&self, to: &NodeId, payload: &[u8], proof: &[u8]) -> Option<(Path, u32)> {
        let (routing, now) = (&self.tables.routing, self.now);
        let best = routing.find_route(to, now)?;
        #[cfg(feature = "alloc")]
        let best = match proof {
            [] if takes(&best, payload.len()) => best,
            [] => routing.routes_to(to, now).find(|r| takes(r, payload.len())).unwrap_or(best),
            // One that is sent unchecked may go by any.
            _ => routing.find_paid_route(to, now).unwrap_or(best),
        };
        #[cfg(not(feature = "alloc"))]
        let _ = (payload, proof);
        Some((best.path(), best.min_packet))
    }

    fn search_for(&mut self, to: NodeId, bytes: usize) -> Result<(), MeshError> {
        let searching = self.tables.searches.get_mut(&to).is_some_and(|s| !s.found);
        if !searching && !self.tables.searches.has_room_for(&to) {
            return Err(RoutingReason::TooManySearches.into());
        }
        self.await_route(to, bytes)?;
        if searching { Ok(()) } else { self.search(to, false, None) }
    }

    fn send_on(
        &mut self,
        destination: NodeId,
        path: &[HopId],
        min_packet: u32,
        payload: &[u8],
        proof: &[u8],
        unchecked: bool,
    ) -> Result<(), MeshError> {
        let first = path.first().copied().unwrap_or(destination.hop());
        let neighbour = self.tables.routing.neighbours.live_at(first);
        let (place, neighbour) = neighbour.ok_or(RoutingReason::NextHopGone)?;
        let link = neighbour.link;
        let unchecked_full = neighbour.is_full(match proof.is_empty() {
            true => Lane::Free,
            false => Lane::Paid,
        });
        let max = neighbour.max_packet.min(min_packet);
        let head = datagram::head_len(path.len(), proof.len());
        let size = head.saturating_add(payload.len());
        if usize::try_from(max).is_ok_and(|max| size > max) || head > self.tables.head.capacity() {
            return Err(RoutingReason::TooLargeForHop { size, max }.into());
        }
        let (me, public_key) = (self.me.id(), *self.me.public_key());
        let sequence = self.rng.u64();
        let hops: heapless::Vec<[u8; 8], MAX_HOPS> = path.iter().map(|h| h.0).collect();
        let signature = [0; 64];
        let unsent = Datagram {
            hop_limit: path.len() as u8,
            sequence,
            source: me,
            destination,
            hops: &hops,
            signed: (!proof.is_empty()).then_some(Signed {
                public_key: &public_key,
                signature: &signature,
                proof,
            }),
            payload,
            form: Form::Plain,
        };
        let mut onward = None;
        let admission = match unchecked {
            false => {
                let found = self.class_that_decides(payload);
                if self.is_full(place, found.protocol) {
                    return Err(NetworkReason::Congested.into());
                }
                onward = match self.room_for_own(destination, (link, place), payload, size, found) {
                    Ok(onward) => onward,
                    Err(None) => return Ok(()),
                    Err(Some(reason)) => return Err(reason),
                };
                self.admit(None, Party::Source, &unsent, size, found)?
            }
            true if unchecked_full => return Err(NetworkReason::Congested.into()),
            true if proof.is_empty() => Admission::Free,
            true => Admission::Paid { record: None, share_msat: 0 },
        };
        let (priority, after) = match admission {
            Admission::Parked => return Ok(()),
            Admission::Again { record } | Admission::Delivered { record } => {
                (Priority::Paid, record)
            }
            Admission::Free => {
                onward.iter().for_each(|onward| self.take_room(onward));
                (Priority::Free, None)
            }
            Admission::Paid { record, .. } => (Priority::Paid, record),
        };
        let emit = Emit {
            hop_limit: unsent.hop_limit,
            sequence,
            source: me,
            destination,
            proof: (!proof.is_empty()).then_some((&public_key, proof)),
            form: Form::Plain,
        };
        self.reserve_head(head);
        let Self { tables, me, secp, .. } = self;
        let out = &mut tables.head;
        let written = emit.write(path, payload, out, |hash| me.sign(secp, hash));
        self.head_len = written.map_err(|_| RoutingReason::TooLargeForHop { size, max })?;
        let name = self.tables.sent.name(&unsent.source, &destination, sequence, unsent.hops());
        let went = self.tables.sent.went(link, name, !proof.is_empty());
        self.tables.sent.insert(went);
        self.stats.sent = self.stats.sent.wrapping_add(1);
        self.push(Pending::Originate {
            link,
            priority,
            tail: 0..payload.len(),
            sequence,
            hops: unsent.hop_limit,
            paid: !proof.is_empty(),
            after,
        });
        Ok(())
    }

    /// Sends an own paid datagram again, unchanged.
    #[inline(never)]
    pub(super) fn repeat(&mut self, packet: &[u8]) {
        if let Err(reason) = self.send_again(packet) {
            self.reject(None, reason, Remedy::Ignore);
        }
    }

    fn send_again(&mut self, packet: &[u8]) -> Result<(), MeshError> {
        self.check_size(packet)?;
        let (header, body) = Header::parse(packet)?;
        let datagram = Datagram::parse(header, body)?;
        let at_start = usize::from(datagram.hop_limit) == datagram.hops().len();
        if datagram.source != self.me.id() || !at_start {
            return Err(RoutingReason::NotOurTurn.into());
        }
        if datagram.signed.is_none() {
            return Err(PaymentReason::Required.into());
        }
        let first = datagram.hops().next();
        let to = self.tables.routing.neighbours.live(first.unwrap_or(datagram.destination.hop()));
        let to = to.filter(|to| first.is_some() || to.node == datagram.destination);
        let to = to.ok_or(RoutingReason::NextHopGone)?;
        #[cfg(feature = "alloc")]
        if !to.trusted && first.is_some() {
            return Err(RoutingReason::Untrusted(to.node).into());
        }
        let (size, max) = (packet.len(), to.max_packet);
        if usize::try_from(max).is_ok_and(|max| size > max) {
            return Err(RoutingReason::TooLargeForHop { size, max }.into());
        }
        if to.is_full(Lane::Paid) {
            return Err(NetworkReason::Congested.into());
        }
        let link = to.link;
        let Datagram { source, destination, sequence, hop_limit: hops, .. } = datagram;
        let name = self.tables.sent.name(&source, &destination, sequence, datagram.hops());
        let went = self.tables.sent.went(link, name, true);
        self.tables.sent.insert(went);
        self.stats.repeated = self.stats.repeated.wrapping_add(1);
        self.note_sent(link, true);
        let (priority, packet) = (Priority::Paid, Packet { head: &[], tail: 0..size });
        self.verdict(Verdict::Originate {
            link,
            priority,
            packet,
            sequence,
            hops,
            paid: true,
            after: None,
        });
        Ok(())
    }

    /// Searches for a route, or says at once that there is one; with `accepted` it also asks
    /// which payments are accepted on it.
    #[inline(never)]
    pub(super) fn find(&mut self, to: NodeId, accepted: bool) {
        if to == self.me.id() {
            return self.reject(None, RoutingReason::Itself, Remedy::Ignore);
        }
        let near = self.tables.routing.neighbours.live(to.hop()).filter(|n| n.node == to);
        let near = near.map(|n| n.link);
        let asked = |s: &mut Search| !s.found && (s.accepted || !accepted);
        let result = if near.is_some() && !accepted {
            self.act(Action::Publish(Event::RouteDiscovered { destination: to, hops: 0 }));
            Ok(())
        } else if self.tables.searches.get_mut(&to).is_some_and(asked) {
            Ok(())
        } else {
            self.search(to, accepted, near)
        };
        match result {
            Ok(()) => self.absorb(),
            Err(reason) => self.reject(None, reason, Remedy::Ignore),
        }
    }

    /// Begins a search and sends its first ring; for a neighbour, which is on this link, to that
    /// neighbour only. A search that is under way starts again.
    pub(super) fn search(
        &mut self,
        to: NodeId,
        accepted: bool,
        near: Option<LinkId>,
    ) -> Result<(), MeshError> {
        let (now, number) = (self.now, self.rng.u64());
        // A source that has a route already wants to know whether there is a better one.
        let heard = match self.tables.routing.find_route(&to, now) {
            #[cfg(feature = "alloc")]
            None if accepted && self.hint_is_untrusted(to.hop()) => None,
            None => self.follow_hint(to.hop()),
            Some(_) => near.map(|link| (link, 0)),
        };
        let far = heard.map_or(0, |(_, distance)| distance);
        let timing = &self.config.timing;
        let begun = self.tables.searches.begin(to, number, far, accepted, now, timing);
        begun.ok_or(RoutingReason::TooManySearches)?;
        if let (Some(_), Some(search)) = (near, self.tables.searches.get_mut(&to)) {
            // Nobody else is asked: no ring follows.
            search.width = WIDEST;
        }
        match heard {
            None => self.ask_ring(to, self.config.timing.first_ring, number, HINTS | ROUTES),
            Some((link, distance)) => {
                let request = self.request(to, distance, number, HINTS | ROUTES);
                self.send_control(link, route_request::MAX_LEN, |out| request.write(out));
            }
        }
        Ok(())
    }

    /// Asks all neighbours for a node within a ring `width` links wide; for what is to be paid for
    /// those that are trusted, as long as a wider ring may follow. Who is asked answers with the best
    /// routes alone, and those may all begin at strangers.
    #[inline(never)]
    pub(super) fn ask_ring(&mut self, to: NodeId, width: u8, number: u64, flags: u8) {
        let request = self.request(to, width.saturating_sub(1), number, flags);
        if self.write_head(route_request::MAX_LEN, |out| request.write(out)) {
            self.push(Pending::Flood {
                except: None,
                last: None,
                #[cfg(feature = "alloc")]
                trusted: request.accepted.is_some() && flags != 0 && self.has_trusted(),
            });
        }
    }

    fn request(&mut self, to: NodeId, hop_limit: u8, sequence: u64, flags: u8) -> RouteRequest {
        if let Some(due) = self.tables.searches.next_due() {
            self.wake_at(due);
        }
        let accepted = self.tables.searches.get_mut(&to).is_some_and(|s| s.accepted);
        RouteRequest {
            flags,
            hop_limit,
            sequence,
            source: self.me.id().hop(),
            destination: to.hop(),
            min_packet: self.config.max_packet,
            quality: 0,
            accepted: accepted.then_some(Accepted::ANY),
            hops: Hops::new(),
        }
    }
}

impl<M: Memory> Searches<M> {
    fn has_room_for(&mut self, to: &NodeId) -> bool {
        self.get_mut(to).is_some() || !self.is_full()
    }
}
