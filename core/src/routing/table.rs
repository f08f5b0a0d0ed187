//! Routes: how to reach nodes that are not neighbours, and what it costs.

use super::metric;
use super::neighbours::{Neighbour, Neighbours};
use crate::config::fixed::ROUTES;
use crate::config::{MAX_HOPS, ROUTES_PER_DESTINATION};
use crate::id::{HopId, NodeId};
use crate::payment::fee::{FeeDistribution, Tariff};
use crate::tables::{List, Memory};
use crate::time::Micros;
use crate::wire::route_request::Hop;

/// A route to a node that is not a neighbour, or to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub destination: NodeId,
    /// Intermediate nodes in travel order, with their tariffs; none for a neighbour.
    pub hops: heapless::Vec<(HopId, Tariff), MAX_HOPS>,
    /// What the destination takes for receiving.
    pub tariff: Tariff,
    /// Largest packet that all nodes on it accept, in bytes.
    pub min_packet: u32,
    /// Its cost; see [`metric::cost`].
    pub cost: u64,
    /// When it must be asked for again.
    pub expires_at: Micros,
}

impl Route {
    /// A route over `hops`, as a destination confirmed it.
    pub fn new(
        destination: NodeId,
        hops: &[Hop],
        tariff: Tariff,
        min_packet: u32,
        quality: u32,
        expires_at: Micros,
    ) -> Self {
        Self {
            destination,
            hops: hops.iter().take(MAX_HOPS).map(|h| (h.node.hop(), h.tariff)).collect(),
            tariff,
            min_packet,
            cost: metric::cost(quality, hops, tariff),
            expires_at,
        }
    }

    /// The intermediate nodes, as a datagram lists them.
    pub fn path(&self) -> heapless::Vec<HopId, MAX_HOPS> {
        self.hops.iter().map(|(h, _)| *h).collect()
    }

    /// Smallest amount that pays for `bytes` of payload on this route, in
    /// millisatoshi; `None` if no amount does.
    pub fn amount_for(&self, bytes: u64) -> Option<u64> {
        let prices: heapless::Vec<u64, MAX_HOPS> =
            self.hops.iter().map(|(_, t)| t.price(bytes)).collect();
        crate::payment::fee::amount_for(&prices, self.tariff.price(bytes))
    }

    fn uses(&self, from: HopId, to: HopId) -> bool {
        let nodes = || self.hops.iter().map(|(h, _)| *h).chain([self.destination.hop()]);
        nodes().zip(nodes().skip(1)).any(|link| link == (from, to))
    }
}

/// Neighbours, and routes to others.
pub struct RoutingTable<M: Memory> {
    /// The neighbours.
    pub neighbours: Neighbours<M>,
    /// Sorted by destination and cost.
    routes: M::List<Route, ROUTES>,
}

impl<M: Memory> RoutingTable<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self { neighbours: Neighbours::EMPTY, routes: M::List::EMPTY };

    /// Makes room.
    pub fn set_capacity(&mut self, neighbours: usize, routes: usize) {
        self.neighbours.set_capacity(neighbours);
        self.routes.set_capacity(routes);
    }

    /// Adds a neighbour; gives it back as [`Neighbours::insert`] does.
    #[allow(clippy::result_large_err)]
    pub fn add_direct_peer(&mut self, neighbour: Neighbour) -> Result<(), Neighbour> {
        self.neighbours.insert(neighbour)
    }

    /// Takes a neighbour out, and with it every route that begins with it.
    pub fn remove_direct_peer(&mut self, link: crate::id::LinkId) -> Option<Neighbour> {
        let gone = self.neighbours.remove(link)?;
        let hop = gone.node.hop();
        self.routes.retain(|r| r.hops.first().is_some_and(|(first, _)| *first != hop));
        Some(gone)
    }

    /// The cheapest way to a node at `now`: the link to a neighbour, else a
    /// route whose first hop is a live neighbour.
    pub fn find_route(&self, destination: &NodeId, now: Micros) -> Option<Route> {
        if let Some(n) = self.neighbours.live(destination.hop()).filter(|n| n.node == *destination)
        {
            return Some(Route {
                destination: *destination,
                hops: heapless::Vec::new(),
                tariff: n.tariff,
                min_packet: n.max_packet,
                cost: metric::cost(u32::from(n.quality), &[], n.tariff),
                expires_at: Micros::MAX,
            });
        }
        self.known(destination)
            .find(|r| {
                let first = r.hops.first().and_then(|(first, _)| self.neighbours.live(*first));
                r.expires_at > now && first.is_some()
            })
            .cloned()
    }

    fn known(&self, destination: &NodeId) -> impl Iterator<Item = &Route> {
        let from = self.routes.partition_point(|r| r.destination < *destination);
        let routes = self.routes.get(from..).unwrap_or_default();
        routes.iter().take_while(move |r| r.destination == *destination)
    }

    /// How an amount is divided on a route with so many intermediate nodes.
    /// `None` for more than [`MAX_HOPS`].
    pub fn calculate_fee(&self, amount_msat: u64, intermediates: usize) -> Option<FeeDistribution> {
        FeeDistribution::new(amount_msat, intermediates)
    }

    /// Remembers a route. Of those to one destination the cheapest
    /// [`ROUTES_PER_DESTINATION`] stay. In a full table the one that expires
    /// first makes room: of those through the same neighbour, if that one has its
    /// share of the table already.
    pub fn add_route(&mut self, route: Route, now: Micros) {
        if route.hops.is_empty() {
            return;
        }
        self.routes.retain(|r| {
            r.expires_at > now && (r.destination != route.destination || r.hops != route.hops)
        });
        let destination = route.destination;
        if self.known(&destination).count() >= ROUTES_PER_DESTINATION {
            let worst = self.known(&destination).map(|r| r.cost).max();
            if worst.is_some_and(|w| w <= route.cost) {
                return;
            }
            let end = self.routes.partition_point(|r| r.destination <= destination);
            self.routes.take(end.saturating_sub(1));
        } else if self.routes.is_full() {
            let through = |r: &Route| r.hops.first().map(|(hop, _)| *hop);
            let own = |r: &Route| through(r) == through(&route);
            let share = self.routes.capacity() / self.neighbours.len().max(1);
            let own_only = self.routes.iter().filter(|r| own(r)).count() >= share.max(1);
            let list = self.routes.iter().enumerate().filter(|(_, r)| !own_only || own(r));
            if let Some(at) = list.min_by_key(|(_, r)| r.expires_at).map(|(at, _)| at) {
                self.routes.take(at);
            }
        }
        let key = |r: &Route| (r.destination, r.cost);
        let at = self.routes.partition_point(|r| key(r) <= key(&route));
        // There is room: one was just taken out where there was none.
        let _ = self.routes.try_insert(at, route);
    }

    /// Forgets every route to a node; returns how many.
    pub fn forget(&mut self, destination: &NodeId) -> usize {
        self.routes.retain(|r| r.destination != *destination)
    }

    /// Forgets every route that begins with the neighbour `first` and uses the
    /// link from one node to another; returns how many. Whoever says that a link
    /// is gone is believed for routes through himself only.
    pub fn remove_link(&mut self, first: HopId, from: HopId, to: HopId) -> usize {
        self.routes
            .retain(|r| !(r.hops.first().is_some_and(|(hop, _)| *hop == first) && r.uses(from, to)))
    }

    /// Routes that are remembered, by destination and cost.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::id::LinkId;
    use crate::policy::mode::MeshMode;
    use crate::policy::quota::TokenBucket;
    use crate::tables::Fixed;

    const FREE: Tariff = Tariff { base_msat: 0, per_kib_msat: 0 };

    pub(crate) fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn neighbour(link: u32, n: u8) -> Neighbour {
        Neighbour {
            link: LinkId(link),
            node: node(n),
            dialed: true,
            up: true,
            max_packet: 1000,
            tariff: FREE,
            mode: MeshMode::Open,
            quality: 256,
            measured: 256,
            news: false,
            keepalive: 0,
            congested: false,
            heard: 0,
            sent: 0,
            free: TokenBucket::new(1, 1, 0),
            control: TokenBucket::new(1, 1, 0),
            bad_payments: TokenBucket::new(0, 0, 0),
        }
    }

    fn route(to: u8, hops: &[u8], quality: u32, expires_at: Micros) -> Route {
        let hops: std::vec::Vec<Hop> =
            hops.iter().map(|h| Hop { node: node(*h), tariff: FREE }).collect();
        Route::new(node(to), &hops, FREE, 1000, quality, expires_at)
    }

    fn table(neighbours: usize, routes: usize) -> RoutingTable<Fixed> {
        let mut table = RoutingTable::EMPTY;
        table.set_capacity(neighbours, routes);
        table
    }

    #[test]
    fn a_neighbour_is_the_best_route_and_leaves_with_its_routes() {
        let mut t = table(4, 8);
        t.add_direct_peer(neighbour(1, 10)).unwrap();
        t.add_direct_peer(neighbour(2, 20)).unwrap();
        t.add_route(route(99, &[10, 30], 512, 100), 0);
        t.add_route(route(99, &[20, 30], 600, 100), 0);
        assert_eq!(t.find_route(&node(10), 0).unwrap().hops.len(), 0);
        assert_eq!(t.find_route(&node(99), 0).unwrap().hops[0].0, node(10).hop());
        t.remove_direct_peer(LinkId(1)).unwrap();
        assert_eq!(t.find_route(&node(10), 0), None);
        assert_eq!(t.find_route(&node(99), 0).unwrap().hops[0].0, node(20).hop());
        assert_eq!(t.find_route(&node(99), 100), None, "expired");
        t.remove_direct_peer(LinkId(2)).unwrap();
        assert!(t.routes().is_empty());
    }

    #[test]
    fn a_broken_link_takes_the_routes_over_it() {
        let mut t = table(4, 8);
        t.add_route(route(99, &[10, 30], 1, 100), 0);
        t.add_route(route(98, &[10, 30], 1, 100), 0);
        t.add_route(route(98, &[10, 40], 1, 100), 0);
        let hop = |n| node(n).hop();
        assert_eq!(t.remove_link(hop(20), hop(30), hop(98)), 0, "not a route through 20");
        assert_eq!(t.remove_link(hop(10), hop(30), hop(98)), 1);
        assert_eq!(t.remove_link(hop(10), hop(10), hop(30)), 1);
        assert_eq!(t.routes().len(), 1);
    }

    #[test]
    fn the_cheapest_routes_stay_and_a_full_table_drops_what_expires_first() {
        let mut t = table(4, 5);
        for (hop, quality) in [(1, 50), (2, 20), (3, 40), (4, 30), (5, 60)] {
            t.add_route(route(99, &[hop], quality, 100), 0);
        }
        let costs: std::vec::Vec<u64> = t.routes().iter().map(|r| r.cost).collect();
        assert_eq!(costs, [20, 30, 40]);
        for to in 1..=4 {
            t.add_route(route(to, &[9], 1, 50 + u64::from(to)), 0);
        }
        assert_eq!(t.routes().len(), 5);
        assert!(t.routes().iter().all(|r| r.destination != node(1) && r.destination != node(2)));
        // The same path again is renewed, not doubled.
        t.add_route(route(4, &[9], 7, 500), 0);
        assert_eq!(t.routes().iter().filter(|r| r.destination == node(4)).count(), 1);
    }

    #[test]
    fn identities_that_begin_alike_are_not_both_neighbours() {
        let mut t = table(4, 8);
        t.add_direct_peer(neighbour(1, 10)).unwrap();
        let mut twin = neighbour(2, 10);
        twin.node.0[31] = 99;
        assert!(t.add_direct_peer(twin).is_err());
        for (link, n) in [(2, 20), (3, 30), (4, 40)] {
            t.add_direct_peer(neighbour(link, n)).unwrap();
        }
        assert!(t.add_direct_peer(neighbour(5, 50)).is_err(), "full");
        assert_eq!(t.neighbours.len(), 4);
        assert_eq!(t.neighbours.next_live(Some(LinkId(2))).unwrap().link, LinkId(3));
        assert!(t.neighbours.next_live(Some(LinkId(4))).is_none());
    }
}
