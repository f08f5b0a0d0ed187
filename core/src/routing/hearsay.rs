//! Where nodes are, as requests and replies that came by tell without proof.
//!
//! It saves floods and decides nothing else: the first request of a search goes where the
//! destination was heard of, and only there. What is said here may be a lie, so it never
//! makes a route, and further requests of the search do not follow it.

use crate::config::fixed::{HEARSAY, NEIGHBOURS};
use crate::id::{HopId, LinkId};
use crate::tables::{List, Memory};
use crate::time::Micros;

/// What was heard about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    node: HopId,
    link: LinkId,
    distance: u8,
    until: Micros,
}

/// Nodes that are not neighbours.
pub struct Hearsay<M: Memory> {
    /// Sorted by node.
    heard: M::List<Heard, HEARSAY>,
    /// How many of them were heard of on each link, sorted by link.
    told: M::List<(LinkId, usize), NEIGHBOURS>,
}

impl<M: Memory> Hearsay<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self { heard: M::List::EMPTY, told: M::List::EMPTY };

    /// Makes room for `capacity` nodes, heard of from so many neighbours.
    pub fn set_capacity(&mut self, capacity: usize, neighbours: usize) {
        self.heard.set_capacity(capacity);
        self.told.set_capacity(neighbours);
    }

    fn place(&self, node: HopId) -> Result<usize, usize> {
        self.heard.binary_search_by_key(&node, |heard| heard.node)
    }

    /// Remembers until then that a node was heard of on a link, so many links away. What
    /// is nearer and not too old stays. In a full table what is oldest goes: of the same
    /// link, if that one has its `share` of the table already, else of those that have more.
    pub fn note(
        &mut self,
        now: Micros,
        node: HopId,
        link: LinkId,
        distance: u8,
        until: Micros,
        share: usize,
    ) {
        let new = Heard { node, link, distance, until };
        if let Ok(at) = self.place(node) {
            if let Some(known) = self.heard.get_mut(at)
                && (known.link == link || distance <= known.distance || known.until <= now)
            {
                let before = core::mem::replace(known, new).link;
                self.count(before, |told| told.saturating_sub(1));
                self.count(link, |told| told.saturating_add(1));
            }
            return;
        }
        if self.heard.is_full() {
            let share = share.max(1);
            let own_only = self.told_by(link) >= share;
            let may_go = |heard: &Heard| match own_only {
                true => heard.link == link,
                false => self.told_by(heard.link) > share,
            };
            let oldest = |may_go: &dyn Fn(&Heard) -> bool| {
                let list = self.heard.iter().enumerate().filter(|(_, h)| may_go(h));
                list.min_by_key(|(_, h)| h.until).map(|(at, _)| at)
            };
            // Nobody has more than a share only where there are less places than neighbours.
            let at = oldest(&may_go).or_else(|| oldest(&|_| true));
            if let Some(gone) = at.and_then(|at| self.heard.take(at)) {
                self.count(gone.link, |told| told.saturating_sub(1));
            }
        }
        // There is room: one was just taken out where there was none.
        if let Err(at) = self.place(node)
            && self.heard.try_insert(at, new).is_ok()
        {
            self.count(link, |told| told.saturating_add(1));
        }
    }

    fn told_by(&self, link: LinkId) -> usize {
        let at = self.told.binary_search_by_key(&link, |(link, _)| *link).ok();
        at.and_then(|at| self.told.get(at)).map_or(0, |(_, told)| *told)
    }

    fn count(&mut self, link: LinkId, change: impl Fn(usize) -> usize) {
        match self.told.binary_search_by_key(&link, |(link, _)| *link) {
            Ok(at) => {
                if let Some((_, told)) = self.told.get_mut(at) {
                    *told = change(*told);
                }
            }
            // There is a place for each neighbour.
            Err(at) => drop(self.told.try_insert(at, (link, change(0)))),
        }
    }

    /// On which link a node was heard of, and how many links away.
    pub fn way_to(&self, now: Micros, node: HopId) -> Option<(LinkId, u8)> {
        let heard = self.heard.get(self.place(node).ok()?)?;
        (now < heard.until).then_some((heard.link, heard.distance))
    }

    /// Something goes where the node was heard of. Unless it is heard of again until
    /// then, it is not there.
    pub fn doubt(&mut self, node: HopId, until: Micros) {
        if let Some(heard) = self.place(node).ok().and_then(|at| self.heard.get_mut(at)) {
            heard.until = heard.until.min(until);
        }
    }

    /// Forgets what was heard on a link, which is gone.
    pub fn forget_link(&mut self, link: LinkId) {
        self.heard.retain(|heard| heard.link != link);
        self.told.retain(|(told, _)| *told != link);
    }

    /// Nodes that were heard of.
    pub fn len(&self) -> usize {
        self.heard.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.heard.is_empty()
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
        let mut h = Hearsay::<Fixed>::EMPTY;
        h.set_capacity(8, 4);
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
        let mut h = Hearsay::<Fixed>::EMPTY;
        h.set_capacity(8, 4);
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
        let mut h = Hearsay::<Fixed>::EMPTY;
        h.set_capacity(8, 4);
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
        let mut h = Hearsay::<Fixed>::EMPTY;
        h.set_capacity(8, 4);
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
