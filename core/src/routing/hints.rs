//! Route hints: where nodes may be, as passing requests and replies say without proof.
//!
//! They save floods and decide nothing else: the first request of a search goes where a hint for
//! the destination points, and only there. A hint may be false, so it never makes a route, and
//! further requests of the search do not follow it.

use crate::config::fixed::{NEIGHBOURS, ROUTE_HINTS};
use crate::id::{HopId, LinkId};
use crate::tables::Memory;
use crate::tables::by_link::{ByLink, Key};
use crate::time::Micros;

/// A hint about one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    distance: u8,
    until: Micros,
}

/// Hints about nodes that are not neighbours.
pub struct RouteHints<M: Memory>(ByLink<M, Heard, ROUTE_HINTS, NEIGHBOURS>);

const fn key(node: HopId) -> Key {
    [u64::from_le_bytes(node.0), 0]
}

impl<M: Memory> RouteHints<M> {
    /// An empty table without capacity.
    pub const EMPTY: Self = Self(ByLink::EMPTY);

    /// Makes room for `capacity` nodes, heard of from up to `neighbours` neighbours; hashed with
    /// a secret.
    pub fn prepare(&mut self, capacity: usize, neighbours: usize, secret: [u8; 16]) {
        self.0.prepare(capacity, neighbours, secret);
    }

    /// Notes until `until` that a node was heard of on a link, `distance` links away. A hint that
    /// is nearer and not too old stays. In a full table the oldest is evicted: of the same link
    /// if that has its `share` of the table already, else of the link that has most.
    pub fn note(
        &mut self,
        now: Micros,
        node: HopId,
        link: LinkId,
        distance: u8,
        until: Micros,
        share: usize,
    ) {
        let (key, new) = (key(node), Heard { distance, until });
        match self.0.get(&key) {
            Some((of, known)) => {
                if of == Some(link) || distance <= known.distance || known.until <= now {
                    self.0.renew(&key, link);
                    if let Some(known) = self.0.get_mut(&key) {
                        *known = new;
                    }
                }
            }
            None => self.0.insert(key, link, new, share),
        }
    }

    /// The link on which a node was heard of, and how many links away it is.
    pub fn way_to(&self, now: Micros, node: HopId) -> Option<(LinkId, u8)> {
        let (link, heard) = self.0.get(&key(node))?;
        link.filter(|_| now < heard.until).map(|link| (link, heard.distance))
    }

    /// A request follows a hint. Unless the node is heard of again by `until`, the hint is
    /// dropped.
    pub fn doubt(&mut self, node: HopId, until: Micros) {
        if let Some(heard) = self.0.get_mut(&key(node)) {
            heard.until = heard.until.min(until);
            self.0.age(&key(node));
        }
    }

    /// Forgets what was heard on a link that is gone.
    pub fn forget_link(&mut self, link: LinkId) {
        self.0.forget(link);
    }

    /// How many hints there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;

    fn node(n: u8) -> HopId {
        HopId([n; 8])
    }

    #[test]
    fn what_is_nearer_or_newer_counts() {
        let mut h = RouteHints::<Fixed>::EMPTY;
        h.prepare(8, 4, [1; 16]);
        h.note(0, node(1), LinkId(1), 5, 100, 8);
        h.note(10, node(1), LinkId(2), 6, 110, 8);
        assert_eq!(h.way_to(10, node(1)), Some((LinkId(1), 5)), "farther");
        h.note(20, node(1), LinkId(2), 5, 120, 8);
        assert_eq!(h.way_to(20, node(1)), Some((LinkId(2), 5)));
        h.note(30, node(1), LinkId(2), 7, 130, 8);
        assert_eq!(h.way_to(30, node(1)), Some((LinkId(2), 7)), "the same link knows better");
        h.note(130, node(1), LinkId(3), 9, 230, 8);
        assert_eq!(h.way_to(130, node(1)), Some((LinkId(3), 9)), "the other is old");
        assert_eq!(h.way_to(230, node(1)), None);
        h.forget_link(LinkId(2));
        assert_eq!(h.len(), 1);
        h.forget_link(LinkId(3));
        assert!(h.is_empty());
    }

    #[test]
    fn what_was_followed_in_vain_is_forgotten() {
        let mut h = RouteHints::<Fixed>::EMPTY;
        h.prepare(8, 4, [1; 16]);
        h.note(0, node(1), LinkId(1), 5, 100, 8);
        h.doubt(node(1), 20);
        h.doubt(node(1), 30);
        h.doubt(node(2), 30);
        assert_eq!(h.way_to(19, node(1)), Some((LinkId(1), 5)));
        assert_eq!(h.way_to(20, node(1)), None);
        h.note(20, node(1), LinkId(1), 5, 120, 8);
        assert_eq!(h.way_to(20, node(1)), Some((LinkId(1), 5)));
    }

    #[test]
    fn a_talkative_neighbour_displaces_only_what_it_said() {
        let mut h = RouteHints::<Fixed>::EMPTY;
        h.prepare(8, 4, [1; 16]);
        for n in 0..4 {
            h.note(0, node(n), LinkId(1), 2, 1000, 4);
        }
        for n in 100..200 {
            h.note(0, node(n), LinkId(2), 2, 1000 + u64::from(n), 4);
        }
        assert_eq!(h.len(), 8);
        assert!((0..4).all(|n| h.way_to(200, node(n)).is_some()));
        assert!((196..200).all(|n| h.way_to(200, node(n)).is_some()));
    }

    #[test]
    fn a_newcomer_displaces_what_is_beyond_a_share_and_not_what_a_quiet_neighbour_said() {
        let mut h = RouteHints::<Fixed>::EMPTY;
        h.prepare(8, 4, [1; 16]);
        for n in 0..2 {
            h.note(0, node(n), LinkId(1), 2, 1000, 4);
        }
        for n in 10..16 {
            h.note(0, node(n), LinkId(2), 2, 2000, 4);
        }
        for n in 20..40 {
            h.note(0, node(n), LinkId(3), 2, 3000 + u64::from(n), 2);
        }
        let heard = |nodes: core::ops::Range<u8>| {
            nodes.filter(|n| h.way_to(500, node(*n)).is_some()).count()
        };
        assert_eq!([heard(0..2), heard(10..16), heard(20..40)], [2, 4, 2]);
    }
}
