//! Datagrams of our own, and the searches that they start.

use super::api::{Action, Event, Priority, Remedy};
use super::error::{MeshError, NetworkReason, RoutingReason};
use super::pay::Admission;
use super::{Mesh, Pending};
use crate::config::MAX_HOPS;
use crate::id::{HopId, NodeId};
use crate::link::fragment::Lane;
use crate::payment::fee::Party;
use crate::routing::discovery::Searches;
use crate::tables::{List, Memory};
use crate::wire::datagram::{self, Datagram, Emit, Signed};
use crate::wire::route_request::{self, HEARSAY, Hops, ROUTES, RouteRequest};

impl<M: Memory> Mesh<M> {
    /// Sends a datagram, or parks it until a route is found.
    #[inline(never)]
    pub(super) fn send(&mut self, to: NodeId, payload: &[u8], proof: &[u8], unchecked: bool) {
        if to == self.me.id() {
            return self.reject(None, RoutingReason::Itself, Remedy::Ignore);
        }
        let route = self.tables.routing.find_route(&to, self.now);
        let result = match route.map(|r| (r.path(), r.min_packet)) {
            Some((path, max)) => self.send_on(to, &path, max, payload, proof, unchecked),
            None => self.search_for(to),
        };
        self.answered = None;
        if let Err(reason) = result {
            self.reject(None, reason, Remedy::Ignore);
        }
    }

    fn search_for(&mut self, to: NodeId) -> Result<(), MeshError> {
        let searching = self.tables.searches.get_mut(&to).is_some_and(|s| !s.found);
        if !searching && !self.tables.searches.has_room_for(&to) {
            return Err(RoutingReason::TooManySearches.into());
        }
        self.await_route(to)?;
        if searching { Ok(()) } else { self.search(to) }
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
        let neighbour =
            self.tables.routing.neighbours.live(first).ok_or(RoutingReason::NextHopGone)?;
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
        let sequence = self.next_sequence;
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
        };
        let admission = match unchecked {
            false => {
                let found = self.class_that_decides(payload);
                if self.is_full(link, found.protocol) {
                    return Err(NetworkReason::Congested.into());
                }
                self.admit(None, Party::Source, &unsent, size, found)?
            }
            true if unchecked_full => return Err(NetworkReason::Congested.into()),
            true if proof.is_empty() => Admission::Free,
            true => Admission::Paid { record: None, share_msat: 0 },
        };
        let (priority, after) = match admission {
            Admission::Parked => return Ok(()),
            Admission::Free => (Priority::Free, None),
            Admission::Paid { record, .. } => (Priority::Paid, record),
        };
        let emit = Emit {
            hop_limit: unsent.hop_limit,
            sequence,
            source: me,
            destination,
            proof: (!proof.is_empty()).then_some((&public_key, proof)),
        };
        self.reserve_head(head);
        let Self { tables, me, secp, .. } = self;
        let out = &mut tables.head;
        let written = emit.write(path, payload, out, |hash| me.sign(secp, hash));
        self.head_len = written.map_err(|_| RoutingReason::TooLargeForHop { size, max })?;
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.stats.sent = self.stats.sent.wrapping_add(1);
        self.push(Pending::Own {
            link,
            priority,
            tail: 0..payload.len(),
            sequence: Some(sequence),
            after,
        });
        Ok(())
    }

    /// Searches a route, or says at once that there is one.
    #[inline(never)]
    pub(super) fn find(&mut self, to: NodeId) {
        if to == self.me.id() {
            return self.reject(None, RoutingReason::Itself, Remedy::Ignore);
        }
        let result = if self.tables.routing.neighbours.live(to.hop()).is_some_and(|n| n.node == to)
        {
            self.act(Action::Publish(Event::RouteDiscovered { destination: to, hops: 0 }));
            Ok(())
        } else if self.tables.searches.get_mut(&to).is_some_and(|s| !s.found) {
            Ok(())
        } else {
            self.search(to)
        };
        match result {
            Ok(()) => self.act(Action::Absorbed),
            Err(reason) => self.reject(None, reason, Remedy::Ignore),
        }
    }

    /// Begins a search and sends its first ring.
    fn search(&mut self, to: NodeId) -> Result<(), MeshError> {
        let (now, number) = (self.now, self.rng.u64());
        // Who has a route already wants to know whether there is a better one.
        let heard = match self.tables.routing.find_route(&to, now) {
            None => self.follow_hearsay(to.hop()),
            Some(_) => None,
        };
        let far = heard.map_or(0, |(_, distance)| distance);
        let begun = self.tables.searches.begin(to, number, far, now, &self.config.timing);
        begun.ok_or(RoutingReason::TooManySearches)?;
        match heard {
            None => self.ask_ring(to, self.config.timing.first_ring, number, HEARSAY | ROUTES),
            Some((link, distance)) => {
                let request = self.request(to, distance, number, HEARSAY | ROUTES);
                self.send_control(link, route_request::MAX_LEN, |out| request.write(out));
            }
        }
        Ok(())
    }

    /// Asks all neighbours for a node within a ring `width` links wide.
    pub(super) fn ask_ring(&mut self, to: NodeId, width: u8, number: u64, flags: u8) {
        let request = self.request(to, width.saturating_sub(1), number, flags);
        if self.write_head(route_request::MAX_LEN, |out| request.write(out)) {
            self.push(Pending::Flood { except: None, last: None });
        }
    }

    fn request(&mut self, to: NodeId, hop_limit: u8, sequence: u64, flags: u8) -> RouteRequest {
        if let Some(due) = self.tables.searches.next_due() {
            self.wake_at(due);
        }
        RouteRequest {
            flags,
            hop_limit,
            sequence,
            source: self.me.id().hop(),
            destination: to.hop(),
            min_packet: self.config.max_packet,
            quality: 0,
            hops: Hops::new(),
        }
    }
}

impl<M: Memory> Searches<M> {
    fn has_room_for(&mut self, to: &NodeId) -> bool {
        self.get_mut(to).is_some() || !self.is_full()
    }
}
