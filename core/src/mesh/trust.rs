//! By way of whom this node sends what it pays for. Where [`Config::strangers_relay_paid`] is not set, a
//! stranger carries what is free, and what is paid only once it is trusted: one that drops what it
//! carries is paid all the same.
//!
//! A neighbour that is itself the destination relays nothing, and needs no trust.

use super::Mesh;
use crate::config::Config;
use crate::id::{HopId, NodeId, Standing};
use crate::routing::table::{Route, RoutingTable};
use crate::tables::Memory;
use crate::time::Micros;

impl Config {
    /// Whether a neighbour of this standing relays what this node pays for.
    pub(super) fn trusts(&self, node: &NodeId, standing: Standing) -> bool {
        standing == Standing::Own || self.strangers_relay_paid || self.trusted.contains(node)
    }
}

impl<M: Memory> RoutingTable<M> {
    /// Whether this node pays for what goes by a route.
    pub fn is_trusted(&self, route: &Route<'_>) -> bool {
        route.hops.is_empty() || self.neighbours.relays_paid(route.first())
    }

    /// The cheapest route to a node at `now` for which this node pays: one whose first hop is a
    /// live neighbour that is trusted, or the link to the node itself.
    pub fn find_paid_route(&self, destination: &NodeId, now: Micros) -> Option<Route<'_>> {
        self.routes_to(destination, now).find(|route| self.is_trusted(route))
    }
}

impl<M: Memory> Mesh<M> {
    /// A neighbour that would have to be trusted ([`Config::trusted`]) for anything paid to reach a
    /// node: the first on the cheapest route, where none of the known ones begins at a trusted one.
    pub fn untrusted_way(&self, destination: &NodeId) -> Option<NodeId> {
        let routing = &self.tables.routing;
        if routing.find_paid_route(destination, self.now).is_some() {
            return None;
        }
        let first = routing.find_route(destination, self.now)?.first();
        routing.neighbours.live(first).map(|neighbour| neighbour.node)
    }

    /// The route that a flow takes: the cheapest usable one that begins at a trusted neighbour, else
    /// any usable one, over which nothing is bought.
    pub(super) fn way_of_flow(&self, to: &NodeId) -> Option<Route<'_>> {
        let routing = &self.tables.routing;
        let usable = |route: &Route<'_>| self.why_not(route).is_none();
        let trusted = |route: &Route<'_>| usable(route) && routing.is_trusted(route);
        let routes = || routing.routes_to(to, self.now);
        routes().find(trusted).or_else(|| routes().find(usable))
    }

    /// Whether this node pays a node behind these hops for relaying, or for what ends there
    /// (`receives`).
    pub(super) fn pays_behind(&self, hops: &[HopId], node: HopId, receives: bool) -> bool {
        match hops.first() {
            None if receives => true,
            first => self.tables.routing.neighbours.relays_paid(*first.unwrap_or(&node)),
        }
    }

    /// Whether a live neighbour relays what this node pays for.
    pub(super) fn has_trusted(&self) -> bool {
        self.tables.routing.neighbours.iter().any(|neighbour| neighbour.up && neighbour.trusted)
    }

    /// Whether a route hint points to a neighbour that relays nothing for which this node pays.
    pub(super) fn hint_is_untrusted(&self, node: HopId) -> bool {
        let routing = &self.tables.routing;
        let link = routing.hint_to(node, self.now).map(|(link, _)| link);
        link.and_then(|link| routing.neighbours.get(link)).is_some_and(|n| !n.trusted)
    }

    /// Who is trusted may have changed.
    pub(super) fn renew_trust(&mut self) {
        let Self { config, tables, .. } = self;
        for neighbour in tables.routing.neighbours.iter_mut() {
            neighbour.trusted = config.trusts(&neighbour.node, neighbour.standing);
        }
    }
}
