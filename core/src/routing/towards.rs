//! Where a request for a node goes: to one neighbour if a way is known, else to all.

use super::table::RoutingTable;
use crate::id::{HopId, LinkId};
use crate::tables::Memory;
use crate::time::Micros;
use crate::wire::route_request::{HINTS, ROUTES, RouteRequest};

/// The only neighbour to which a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Towards {
    /// Its link.
    pub link: LinkId,
    /// How many links the request may still cross from there.
    pub left: u8,
    /// Whether only a route hint points there.
    pub heard: bool,
}

impl<M: Memory> RoutingTable<M> {
    /// The only neighbour to which a request that came on a link goes: towards a route or, without
    /// one, a hint, if the request may follow them and they lead to no node that it has been at.
    /// `None`: it goes to all.
    pub fn towards(&self, from: LinkId, request: &RouteRequest, now: Micros) -> Option<Towards> {
        let to = request.destination;
        let travelled = |hop: HopId| {
            hop == request.source || request.hops.iter().any(|travelled| travelled.node == hop)
        };
        // A neighbour is known for sure, whatever the request allows.
        let route = self.way_to(to, now);
        let route = route.filter(|r| r.hops.is_empty() || request.flags & ROUTES != 0);
        if let Some(route) = route
            && let Some(n) = self.neighbours.live(route.first())
            && n.link != from
            && !route.hops.iter().any(|(hop, _)| travelled(*hop))
        {
            return Some(Towards { link: n.link, left: route.hops.len() as u8, heard: false });
        }
        if request.flags & HINTS == 0 {
            return None;
        }
        let (link, left) = self.hint_to(to, now)?;
        let n = self.neighbours.get(link)?;
        (link != from && !travelled(n.node.hop())).then_some(Towards { link, left, heard: true })
    }

    /// The live link that a route hint names, and how many links away the node is.
    pub fn hint_to(&self, node: HopId, now: Micros) -> Option<(LinkId, u8)> {
        let (link, distance) = self.hints.way_to(now, node)?;
        self.neighbours.get(link).filter(|n| n.up)?;
        Some((link, distance))
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{add, neighbour, node, table};
    use super::*;
    use crate::tariff::Tariff;
    use crate::wire::route_request::Hop;

    fn request(to: u8, travelled: &[u8], flags: u8) -> RouteRequest {
        let hop = |n: u8| Hop { node: node(n).hop(), tariff: Tariff::default() };
        RouteRequest {
            flags,
            hop_limit: 3,
            sequence: 1,
            source: node(1).hop(),
            destination: node(to).hop(),
            min_packet: 1000,
            quality: 0,
            accepted: None,
            hops: travelled.iter().map(|n| hop(*n)).collect(),
        }
    }

    #[test]
    fn a_request_goes_by_a_route_or_a_hint_and_never_back() {
        let (from, mut t) = (LinkId(1), table(4, 8));
        t.add_direct_peer(neighbour(1, 10)).unwrap();
        t.add_direct_peer(neighbour(2, 20)).unwrap();
        let towards = |t: &RoutingTable<_>, to, travelled: &[u8], flags| {
            let way = t.towards(from, &request(to, travelled, flags), 5);
            way.map(|way| (way.link.0, way.left, way.heard))
        };
        assert_eq!(towards(&t, 20, &[10], 0), Some((2, 0, false)), "a neighbour");
        assert_eq!(towards(&t, 99, &[10], HINTS | ROUTES), None);
        t.hints.note(0, node(99).hop(), LinkId(2), 4, 100, 8);
        assert_eq!(towards(&t, 99, &[10], HINTS | ROUTES), Some((2, 4, true)));
        assert_eq!(towards(&t, 99, &[10], ROUTES), None);
        assert_eq!(towards(&t, 99, &[20, 10], HINTS), None, "it was there");
        add(&mut t, 99, &[20, 30], 600, 100);
        assert_eq!(towards(&t, 99, &[10], HINTS | ROUTES), Some((2, 2, false)));
        assert_eq!(towards(&t, 99, &[10], HINTS), Some((2, 4, true)));
        assert_eq!(towards(&t, 99, &[30, 10], ROUTES), None, "it was on the route");
        assert_eq!(t.towards(LinkId(2), &request(20, &[20], 0), 5), None, "where it came from");
    }

    #[test]
    fn a_hint_counts_only_while_its_link_is_up() {
        let mut t = table(4, 8);
        t.add_direct_peer(neighbour(1, 10)).unwrap();
        t.hints.note(0, node(99).hop(), LinkId(1), 4, 100, 8);
        assert_eq!(t.hint_to(node(99).hop(), 5), Some((LinkId(1), 4)));
        t.neighbours.get_mut(LinkId(1)).unwrap().up = false;
        assert_eq!(t.hint_to(node(99).hop(), 5), None);
    }
}
