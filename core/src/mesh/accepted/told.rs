//! What the answers to own searches said about payments on their routes, for quotes.

use super::super::Mesh;
use crate::config::fixed::ROUTE_HOPS;
use crate::id::{HopId, NodeId};
use crate::tables::{List, Memory};
use crate::time::Micros;
use crate::wire::accepted::Accepted;
use crate::wire::route_reply::RouteReply;

/// What an own route accepts, as stated by its destination.
pub(in super::super) struct Told<M: Memory> {
    destination: NodeId,
    hops: M::List<HopId, ROUTE_HOPS>,
    accepted: Accepted,
    until: Micros,
}

impl<M: Memory> Told<M> {
    fn is_of(&self, destination: &NodeId, hops: impl Iterator<Item = HopId>) -> bool {
        self.destination == *destination && self.hops.iter().copied().eq(hops)
    }
}

impl<M: Memory> Mesh<M> {
    /// Payments that every node accepts on the route to a node that is best now for what this node
    /// pays for, by the newest answer to an own [`Input::FindAccepted`](super::super::Input). `None`:
    /// no answer was about this route. A relay may have misreported; then a node that accepts less
    /// refuses the payment.
    pub fn accepted(&self, destination: &NodeId) -> Option<&Accepted> {
        let route = self.tables.routing.find_paid_route(destination, self.now)?;
        let hops = || route.hops.iter().map(|(hop, _)| *hop);
        let told = self.tables.accepted.iter().filter(|told| told.until > self.now);
        told.rev().find(|told| told.is_of(destination, hops())).map(|told| &told.accepted)
    }

    /// Remembers what the answer to an own search says about its route.
    pub(in super::super) fn keep_accepted(&mut self, destination: NodeId, reply: &RouteReply) {
        let Some(accepted) = &reply.accepted else { return };
        let told = &mut self.tables.accepted;
        let nodes = || reply.hops.iter().map(|hop| hop.node);
        told.retain(|told| told.until > self.now && !told.is_of(&destination, nodes()));
        if told.is_full() {
            told.take(0);
        }
        let mut hops = M::List::EMPTY;
        hops.set_capacity(nodes().count());
        for hop in nodes() {
            let _ = hops.try_push(hop);
        }
        let until = self.now.saturating_add(self.config.timing.route_lifetime);
        // In the tables of boards there is no room for any.
        let _ = told.try_push(Told { destination, hops, accepted: accepted.clone(), until });
    }

    /// A node on a route refused a payment that it was said to accept: forgets the answer.
    pub(in super::super) fn forget_accepted(&mut self, destination: &NodeId, hops: &[HopId]) {
        self.tables.accepted.retain(|told| !told.is_of(destination, hops.iter().copied()));
    }
}
