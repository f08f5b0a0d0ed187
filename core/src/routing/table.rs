//! Routes: how to reach nodes that are not neighbours, and what it costs.

use super::conduct::Conduct;
use super::hints::RouteHints;
use super::metric;
use super::mirrors::Mirrors;
use super::neighbours::{Neighbour, Neighbours};
use super::owners::Owners;
use crate::config::fixed::{ROUTE_HOPS, ROUTES};
use crate::config::{Capacities, MAX_HOPS, ROUTES_PER_DESTINATION};
use crate::id::{HopId, NodeId};
use crate::payment::fee::{FeeDistribution, Tariff};
use crate::tables::{List, Memory};
use crate::time::Micros;
use crate::wire::route_request::Hop;

/// A route to another node, neighbour or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'t> {
    /// Its destination.
    pub destination: NodeId,
    /// Intermediate nodes in travel order, with their tariffs; none for a neighbour.
    pub hops: &'t [(HopId, Tariff)],
    /// What the destination charges for receiving.
    pub tariff: Tariff,
    /// Largest packet that all nodes on it accept, in bytes.
    pub min_packet: u32,
    /// Its cost; see [`metric::cost`].
    pub cost: u64,
    /// When it expires.
    pub expires_at: Micros,
}

impl Route<'_> {
    /// The intermediate nodes, as a datagram lists them.
    pub fn path(&self) -> heapless::Vec<HopId, MAX_HOPS> {
        self.hops.iter().take(MAX_HOPS).map(|(h, _)| *h).collect()
    }

    /// The first node on the route.
    pub fn first(&self) -> HopId {
        self.hops.first().map_or(self.destination.hop(), |(hop, _)| *hop)
    }

    /// Smallest amount that pays for `bytes` of payload on this route, in millisatoshi; `None` if
    /// no amount does.
    pub fn amount_for(&self, bytes: u64) -> Option<u64> {
        metric::amount(self.hops.iter().map(|(_, tariff)| *tariff), self.tariff, bytes)
    }

    fn uses(&self, from: HopId, to: HopId) -> bool {
        let nodes = || self.hops.iter().map(|(h, _)| *h).chain([self.destination.hop()]);
        nodes().zip(nodes().skip(1)).any(|link| link == (from, to))
    }
}

/// A route as its destination confirmed it, to be remembered.
#[derive(Debug, Clone, Copy)]
pub struct Confirmed<'r> {
    /// Its destination.
    pub destination: NodeId,
    /// Intermediate nodes in travel order.
    pub hops: &'r [Hop],
    /// What the destination charges for receiving.
    pub tariff: Tariff,
    /// Largest packet that all nodes on it accept, in bytes.
    pub min_packet: u32,
    /// Quality: the sum of its links' ETX, in 1/256.
    pub quality: u32,
    /// When it expires.
    pub expires_at: Micros,
}

/// A route in the table.
struct Entry<M: Memory> {
    destination: NodeId,
    hops: M::List<(HopId, Tariff), ROUTE_HOPS>,
    tariff: Tariff,
    min_packet: u32,
    cost: u64,
    expires_at: Micros,
}

impl<M: Memory> Entry<M> {
    fn route(&self) -> Route<'_> {
        let Self { destination, ref hops, tariff, min_packet, cost, expires_at } = *self;
        Route { destination, hops, tariff, min_packet, cost, expires_at }
    }
}

/// Neighbours, and routes to others.
pub struct RoutingTable<M: Memory> {
    /// The neighbours.
    pub neighbours: Neighbours<M>,
    /// Sorted by destination and cost.
    routes: M::List<Entry<M>, ROUTES>,
    route_hops: usize,
    /// Where others may be.
    pub hints: RouteHints<M>,
    /// Allowances of neighbours, including those that left.
    pub owners: Owners<M>,
    /// What neighbours accept free of charge.
    pub mirrors: Mirrors<M>,
    /// How neighbours behave, including those that left.
    pub conduct: Conduct<M>,
}

impl<M: Memory> RoutingTable<M> {
    /// An empty table without capacity.
    pub const EMPTY: Self = Self {
        neighbours: Neighbours::EMPTY,
        routes: M::List::EMPTY,
        route_hops: 0,
        hints: RouteHints::EMPTY,
        owners: Owners::EMPTY,
        mirrors: Mirrors::EMPTY,
        conduct: Conduct::EMPTY,
    };

    /// Makes room; hashed with a secret.
    pub fn prepare(&mut self, c: &Capacities, secret: [u8; 16]) {
        self.neighbours.set_capacity(c.neighbours);
        self.routes.set_capacity(c.routes);
        self.route_hops = c.route_hops.min(MAX_HOPS);
        self.hints.prepare(c.route_hints, c.neighbours, secret);
        self.owners.set_capacity(c.owners, c.shares);
        self.conduct.set_capacity(c.offenders);
        self.mirrors.set_capacity(c.neighbours, c.shares);
    }

    /// Adds a neighbour; gives it back as [`Neighbours::insert`] does.
    ///
    /// # Errors
    /// The neighbour that was not added.
    #[allow(clippy::result_large_err)]
    pub fn add_direct_peer(&mut self, neighbour: Neighbour) -> Result<(), Neighbour> {
        let place = self.neighbours.insert(neighbour)?;
        self.mirrors.insert(place);
        Ok(())
    }

    /// Removes a neighbour and keeps its routes: it has another link.
    pub fn remove_link_of_peer(&mut self, link: crate::id::LinkId) -> Option<Neighbour> {
        let place = self.neighbours.place(link)?;
        let gone = self.neighbours.remove(place)?;
        self.mirrors.remove(place);
        self.hints.forget_link(link);
        self.owners.leave(gone.owner);
        Some(gone)
    }

    /// Removes a neighbour, and with it every route that begins with it.
    pub fn remove_direct_peer(&mut self, link: crate::id::LinkId) -> Option<Neighbour> {
        let gone = self.remove_link_of_peer(link)?;
        let hop = gone.node.hop();
        self.routes.retain(|r| r.route().first() != hop);
        Some(gone)
    }

    /// The cheapest route to a node at `now`: the link to a neighbour, else a route whose first
    /// hop is a live neighbour.
    pub fn find_route(&self, destination: &NodeId, now: Micros) -> Option<Route<'_>> {
        let hop = destination.hop();
        let neighbour = self.neighbour(hop).filter(|route| route.destination == *destination);
        neighbour.or_else(|| self.usable(hop, now).find(|r| r.destination == *destination))
    }

    /// All routes to a node at `now`, the cheapest first: the link to a neighbour, then those
    /// whose first hop is a live neighbour.
    #[cfg(feature = "alloc")]
    pub fn routes_to<'t>(
        &'t self,
        destination: &NodeId,
        now: Micros,
    ) -> impl Iterator<Item = Route<'t>> + use<'t, M> {
        let (to, hop) = (*destination, destination.hop());
        let neighbour = self.neighbour(hop).into_iter();
        neighbour.chain(self.usable(hop, now)).filter(move |route| route.destination == to)
    }

    /// The same for a node of which only the beginning of the identity is known.
    pub fn way_to(&self, destination: HopId, now: Micros) -> Option<Route<'_>> {
        self.neighbour(destination).or_else(|| self.usable(destination, now).next())
    }

    fn neighbour(&self, hop: HopId) -> Option<Route<'_>> {
        self.neighbours.live(hop).map(|n| Route {
            destination: n.node,
            hops: &[],
            tariff: n.tariff,
            min_packet: n.max_packet,
            cost: metric::cost(u32::from(n.quality), &[], n.tariff),
            expires_at: Micros::MAX,
        })
    }

    fn usable(&self, destination: HopId, now: Micros) -> impl Iterator<Item = Route<'_>> {
        let from = self.routes.partition_point(|r| r.destination.hop() < destination);
        let routes = self.routes.get(from..).unwrap_or_default().iter();
        let routes = routes.take_while(move |r| r.destination.hop() == destination);
        routes
            .map(Entry::route)
            .filter(move |r| r.expires_at > now && self.neighbours.live(r.first()).is_some())
    }

    fn known(&self, destination: &NodeId) -> impl Iterator<Item = &Entry<M>> {
        let from = self.routes.partition_point(|r| r.destination < *destination);
        let routes = self.routes.get(from..).unwrap_or_default();
        routes.iter().take_while(move |r| r.destination == *destination)
    }

    /// How an amount is divided on a route with so many intermediate nodes.
    /// `None` for more than [`MAX_HOPS`].
    pub fn calculate_fee(&self, amount_msat: u64, intermediates: usize) -> Option<FeeDistribution> {
        FeeDistribution::new(amount_msat, intermediates)
    }

    /// Whether a route of so many hops can be remembered.
    pub fn fits(&self, hops: usize) -> bool {
        hops <= self.route_hops
    }

    /// Remembers a route, unless it is to a neighbour or has too many hops. Of those to one
    /// destination the cheapest [`ROUTES_PER_DESTINATION`] stay. In a full table the one that
    /// expires first is evicted: among those through the same neighbour, if that neighbour has
    /// its share of the table already.
    pub fn add_route(&mut self, new: Confirmed<'_>, now: Micros) {
        let Some(first) = new.hops.first().map(|hop| hop.node) else { return };
        if !self.fits(new.hops.len()) {
            return;
        }
        let destination = new.destination;
        let cost = metric::cost(new.quality, new.hops, new.tariff);
        self.routes.retain(|r| {
            let nodes = || r.hops.iter().map(|(hop, _)| *hop);
            let same = r.destination == destination && nodes().eq(new.hops.iter().map(|h| h.node));
            r.expires_at > now && !same
        });
        if self.known(&destination).count() >= ROUTES_PER_DESTINATION {
            let Some(at) = self.displaced(&destination, first, cost) else { return };
            self.routes.take(at);
        } else if self.routes.is_full() {
            let own = |r: &Entry<M>| r.route().first() == first;
            let share = self.neighbours.share_of(self.routes.capacity());
            let own_only = self.routes.iter().filter(|r| own(r)).count() >= share.max(1);
            let list = self.routes.iter().enumerate().filter(|(_, r)| !own_only || own(r));
            if let Some(at) = list.min_by_key(|(_, r)| r.expires_at).map(|(at, _)| at) {
                self.routes.take(at);
            }
        }
        let at = self.routes.partition_point(|r| (r.destination, r.cost) <= (destination, cost));
        let Confirmed { tariff, min_packet, expires_at, .. } = new;
        let mut hops = M::List::EMPTY;
        hops.set_capacity(self.route_hops);
        // Both fit: this was checked, and one was just removed if there was no room.
        for hop in new.hops {
            let _ = hops.try_push((hop.node, hop.tariff));
        }
        let entry = Entry { destination, hops, tariff, min_packet, cost, expires_at };
        let _ = self.routes.try_insert(at, entry);
    }

    /// The place of the route to a node that goes for a cheaper one. The only one that begins at a
    /// trusted neighbour stays, and comes in at any cost: others may promise what they like.
    fn displaced(&self, destination: &NodeId, first: HopId, cost: u64) -> Option<usize> {
        let end = self.routes.partition_point(|r| r.destination <= *destination);
        let last = end.checked_sub(1)?;
        let cheaper = |at: &usize| self.routes.get(*at).is_some_and(|r| r.cost > cost);
        #[cfg(feature = "alloc")]
        {
            let trusted = |first: HopId| self.neighbours.relays_paid(first);
            let of = |route: &Entry<M>| trusted(route.route().first());
            match self.known(destination).filter(|route| of(route)).count() {
                0 if trusted(first) => return Some(last),
                1 if !trusted(first) && self.routes.get(last).is_some_and(of) => {
                    return last.checked_sub(1).filter(cheaper);
                }
                _ => {}
            }
        }
        #[cfg(not(feature = "alloc"))]
        let _ = first;
        Some(last).filter(cheaper)
    }

    /// Forgets every route to a node; returns how many.
    pub fn forget(&mut self, destination: &NodeId) -> usize {
        self.routes.retain(|r| r.destination != *destination)
    }

    /// Forgets every route that begins with the neighbour `first` and uses the link from one node
    /// to another; returns how many. A neighbour that reports a broken link is believed only
    /// about routes through itself.
    pub fn remove_link(&mut self, first: HopId, from: HopId, to: HopId) -> usize {
        self.routes.retain(|r| r.route().first() != first || !r.route().uses(from, to))
    }

    /// Forgets every route that begins with the neighbour `first` and has `node` on it, at
    /// its end or before; returns how many.
    pub fn remove_node(&mut self, first: HopId, node: HopId) -> usize {
        let has = |r: &Entry<M>| {
            r.destination.hop() == node || r.hops.iter().any(|(hop, _)| *hop == node)
        };
        self.routes.retain(|r| r.route().first() != first || !has(r))
    }

    /// Routes that are remembered, by destination and cost.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = Route<'_>> {
        self.routes.iter().map(Entry::route)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::id::{LinkId, Standing};
    use crate::policy::mode::MeshMode;
    use crate::routing::liveness::Liveness;
    use crate::tables::Fixed;

    const FREE: Tariff = Tariff { base_msat: 0, per_kib_msat: 0 };

    pub(crate) fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    pub(crate) fn neighbour(link: u32, n: u8) -> Neighbour {
        Neighbour {
            link: LinkId(link),
            node: node(n),
            dialed: true,
            standing: Standing::Own,
            up: true,
            max_packet: 1000,
            tariff: FREE,
            mode: MeshMode::Open,
            quality: 256,
            measured: 256,
            own_max_packet: 0,
            free_full: false,
            paid_full: false,
            medium: 0,
            liveness: Liveness::new(0, 0),
            owner: 0,
            since: 0,
            paid: false,
            #[cfg(feature = "alloc")]
            trusted: true,
        }
    }

    pub(crate) fn add(
        t: &mut RoutingTable<Fixed>,
        to: u8,
        hops: &[u8],
        quality: u32,
        expires_at: Micros,
    ) {
        let hops: std::vec::Vec<Hop> =
            hops.iter().map(|h| Hop { node: node(*h).hop(), tariff: FREE }).collect();
        let (destination, tariff, min_packet) = (node(to), FREE, 1000);
        let new = Confirmed { destination, hops: &hops, tariff, min_packet, quality, expires_at };
        t.add_route(new, 0);
    }

    pub(crate) fn table(neighbours: usize, routes: usize) -> RoutingTable<Fixed> {
        let mut table = RoutingTable::EMPTY;
        table.prepare(&Capacities { neighbours, routes, ..Capacities::BOARD }, [1; 16]);
        table
    }

    #[test]
    fn a_neighbour_is_the_best_route_and_leaves_with_its_routes() {
        let mut t = table(4, 8);
        t.add_direct_peer(neighbour(1, 10)).unwrap();
        t.add_direct_peer(neighbour(2, 20)).unwrap();
        add(&mut t, 99, &[10, 30], 512, 100);
        add(&mut t, 99, &[20, 30], 600, 100);
        assert_eq!(t.find_route(&node(10), 0).unwrap().hops.len(), 0);
        assert_eq!(t.find_route(&node(99), 0).unwrap().hops[0].0, node(10).hop());
        t.remove_direct_peer(LinkId(1)).unwrap();
        assert_eq!(t.find_route(&node(10), 0), None);
        assert_eq!(t.find_route(&node(99), 0).unwrap().hops[0].0, node(20).hop());
        assert_eq!(t.find_route(&node(99), 100), None, "expired");
        t.remove_direct_peer(LinkId(2)).unwrap();
        assert_eq!(t.routes().len(), 0);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn who_is_not_trusted_cannot_take_the_place_of_the_only_trusted_way() {
        let mut t = table(4, 8);
        t.add_direct_peer(Neighbour { trusted: false, ..neighbour(1, 10) }).unwrap();
        t.add_direct_peer(neighbour(2, 20)).unwrap();
        let firsts = |t: &RoutingTable<Fixed>| -> std::vec::Vec<_> {
            t.routes_to(&node(99), 0).map(|route| (route.first(), route.cost)).collect()
        };
        let count = |t: &RoutingTable<Fixed>, n| {
            firsts(t).iter().filter(|(first, _)| *first == node(n).hop()).count()
        };
        for n in 30..33 {
            add(&mut t, 99, &[10, n], 256, 100);
        }
        assert_eq!(count(&t, 10), ROUTES_PER_DESTINATION);
        add(&mut t, 99, &[20, 40], 9000, 100);
        assert_eq!((count(&t, 10), count(&t, 20)), (2, 1), "it comes in at any cost");
        let first = |route: Option<Route<'_>>| route.map(|route| route.first());
        assert_eq!(first(t.find_route(&node(99), 0)), Some(node(10).hop()));
        assert_eq!(first(t.find_paid_route(&node(99), 0)), Some(node(20).hop()));
        for n in 50..60 {
            add(&mut t, 99, &[10, n], 100 - u32::from(n), 100);
        }
        assert_eq!((count(&t, 10), count(&t, 20)), (2, 1), "and stays");
        // A cheaper one takes its place.
        add(&mut t, 99, &[20, 41], 8000, 100);
        let costs: std::vec::Vec<u64> = firsts(&t).iter().map(|(_, cost)| *cost).collect();
        assert_eq!((count(&t, 20), costs), (1, std::vec![41, 42, 8000]));
        add(&mut t, 99, &[20, 42], 1, 100);
        assert_eq!((count(&t, 10), count(&t, 20)), (2, 1), "the dearest goes, trusted or not");
    }

    #[test]
    fn a_route_that_does_not_fit_is_not_remembered() {
        let mut t = table(4, 8);
        let hops: std::vec::Vec<u8> = (1..=17).collect();
        add(&mut t, 99, &hops, 1, 100);
        assert_eq!(t.routes().len(), 0);
        add(&mut t, 99, &hops[..16], 1, 100);
        assert_eq!(t.routes().next().unwrap().hops.len(), 16);
    }

    #[test]
    fn a_broken_link_takes_the_routes_over_it() {
        let mut t = table(4, 8);
        add(&mut t, 99, &[10, 30], 1, 100);
        add(&mut t, 98, &[10, 30], 1, 100);
        add(&mut t, 98, &[10, 40], 1, 100);
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
            add(&mut t, 99, &[hop], quality, 100);
        }
        let costs: std::vec::Vec<u64> = t.routes().map(|r| r.cost).collect();
        assert_eq!(costs, [20, 30, 40]);
        for to in 1..=4 {
            add(&mut t, to, &[9], 1, 50 + u64::from(to));
        }
        assert_eq!(t.routes().len(), 5);
        assert!(t.routes().all(|r| r.destination != node(1) && r.destination != node(2)));
        // The same route again is renewed, not doubled.
        add(&mut t, 4, &[9], 7, 500);
        assert_eq!(t.routes().filter(|r| r.destination == node(4)).count(), 1);
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
