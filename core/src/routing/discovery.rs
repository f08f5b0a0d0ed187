//! Searches for routes: our own, and what was heard of others'.

use crate::config::fixed::{RELAYED_REQUESTS, SEARCHES};
use crate::config::{MAX_HOPS, ROUTES_PER_DESTINATION, Timing};
use crate::id::{LinkId, NodeId};
use crate::tables::{List, Memory};
use crate::time::Micros;

/// An own search, in rings that double.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Who is looked for.
    pub destination: NodeId,
    /// Numbers of its requests, one for each ring. They are drawn, not counted:
    /// who knew the next one could use it first, in this node's name.
    pub numbers: heapless::Vec<u64, RINGS>,
    /// Width of the latest ring, in links.
    pub width: u8,
    /// When the latest ring is given up.
    pub until: Micros,
    /// Whether a route was found; the search stays until then for alternatives.
    pub found: bool,
}

/// Widest ring: the longest route.
pub const WIDEST: u8 = MAX_HOPS as u8 + 1;
/// Most rings of a search: each is twice as wide as the one before, up to the
/// widest.
const RINGS: usize = WIDEST.ilog2() as usize + 2;

/// Own searches, sorted by destination.
pub struct Searches<M: Memory>(M::List<Search, SEARCHES>);

impl<M: Memory> Searches<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self(M::List::EMPTY);

    /// Makes room for `capacity` searches at a time.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.0.set_capacity(capacity);
    }

    fn place(&self, destination: &NodeId) -> Result<usize, usize> {
        self.0.binary_search_by(|s| s.destination.cmp(destination))
    }

    /// The search for a node.
    pub fn get_mut(&mut self, destination: &NodeId) -> Option<&mut Search> {
        let at = self.place(destination).ok()?;
        self.0.get_mut(at)
    }

    /// Begins a search with its first ring, whose request has this number.
    /// `None` if there is no room.
    pub fn begin(
        &mut self,
        destination: NodeId,
        number: u64,
        now: Micros,
        timing: &Timing,
    ) -> Option<()> {
        let width = timing.first_ring.clamp(1, WIDEST);
        // Three quarters of the time: most that are found so near are found soon, and the
        // next ring costs little more. Nodes that start together ask too early.
        let time = timing.hop_round_trip.saturating_mul(u64::from(width)) / 4 * 3;
        let until = now.saturating_add(time);
        let numbers = [number].into_iter().collect();
        let search = Search { destination, numbers, width, until, found: false };
        match self.place(&destination) {
            Ok(at) => *self.0.get_mut(at)? = search,
            Err(at) => self.0.try_insert(at, search).ok()?,
        }
        Some(())
    }

    /// A search whose ring is over at `now`.
    pub fn due(&self, now: Micros) -> Option<&Search> {
        self.0.iter().find(|s| s.until <= now)
    }

    /// Ends a search.
    pub fn end(&mut self, destination: &NodeId) -> Option<Search> {
        let at = self.place(destination).ok()?;
        self.0.take(at)
    }

    /// Whether no more fits.
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Searches under way.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next ring is over.
    pub fn next_due(&self) -> Option<Micros> {
        self.0.iter().map(|s| s.until).min()
    }
}

/// A request of another node that came by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relayed {
    source: NodeId,
    sequence: u64,
    from: LinkId,
    heard: Micros,
    /// Answers given, where this node is the destination.
    answers: usize,
}

/// What a request is to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It was not here before and is now remembered.
    New,
    /// It was here before.
    Known,
}

/// Requests of others, sorted by source and number.
pub struct RelayedRequests<M: Memory>(M::List<Relayed, RELAYED_REQUESTS>);

impl<M: Memory> RelayedRequests<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self(M::List::EMPTY);

    /// Makes room for `capacity` requests.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.0.set_capacity(capacity);
    }

    fn place(&self, source: &NodeId, sequence: u64) -> Result<usize, usize> {
        self.0.binary_search_by(|r| (r.source, r.sequence).cmp(&(*source, sequence)))
    }

    /// Remembers a request that came on a link. A link that has `share` of them
    /// loses its own oldest; else, in a full table, one that has more or is closed
    /// does.
    pub fn note(
        &mut self,
        source: NodeId,
        sequence: u64,
        from: LinkId,
        now: Micros,
        share: usize,
        is_open: impl Fn(LinkId) -> bool,
    ) -> Novelty {
        if self.place(&source, sequence).is_ok() {
            return Novelty::Known;
        }
        let of = |link: LinkId| self.0.iter().filter(|r| r.from == link).count();
        let loses = if of(from) >= share.max(1) {
            Some(from)
        } else if self.0.is_full() {
            // Some link is closed, or has more than its share from when there were
            // fewer neighbours; unless there are less places than neighbours.
            let mut links = self.0.iter().map(|r| r.from);
            let loses = links.find(|link| !is_open(*link) || of(*link) > share.max(1));
            loses.or(self.0.first().map(|r| r.from))
        } else {
            None
        };
        if let Some(link) = loses {
            let own = self.0.iter().enumerate().filter(|(_, r)| r.from == link);
            let oldest = own.min_by_key(|(_, r)| (r.heard, r.source, r.sequence));
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.0.take(at);
            }
        }
        if let Err(at) = self.place(&source, sequence) {
            let new = Relayed { source, sequence, from, heard: now, answers: 0 };
            // One was taken out where there was no room.
            let _ = self.0.try_insert(at, new);
        }
        Novelty::New
    }

    /// Whether a request was here.
    pub fn contains(&self, source: &NodeId, sequence: u64) -> bool {
        self.place(source, sequence).is_ok()
    }

    /// Counts one more answer to a request; false once there are enough.
    pub fn may_answer(&mut self, source: &NodeId, sequence: u64) -> bool {
        let Ok(at) = self.place(source, sequence) else { return false };
        let Some(r) = self.0.get_mut(at) else { return false };
        r.answers += 1;
        r.answers <= ROUTES_PER_DESTINATION
    }

    /// Requests remembered.
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

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    #[test]
    fn a_flooding_neighbour_pushes_out_only_its_own() {
        let mut r = RelayedRequests::<Fixed>::EMPTY;
        r.set_capacity(16);
        assert_eq!(r.note(node(1), 1, LinkId(1), 0, 4, |_| true), Novelty::New);
        assert_eq!(r.note(node(1), 1, LinkId(2), 0, 4, |_| true), Novelty::Known);
        for n in 0..100 {
            r.note(node(2), n, LinkId(2), n, 4, |_| true);
        }
        assert!(r.contains(&node(1), 1));
        assert_eq!(r.len(), 5);
        assert!(r.contains(&node(2), 99) && r.contains(&node(2), 96) && !r.contains(&node(2), 95));
    }

    #[test]
    fn a_new_neighbour_gets_its_share_of_what_others_filled() {
        let mut r = RelayedRequests::<Fixed>::EMPTY;
        r.set_capacity(16);
        let note = |r: &mut RelayedRequests<Fixed>, who: u8, count, share| {
            for n in 0..count {
                r.note(node(who), n, LinkId(who.into()), u64::from(who) * 100 + n, share, |l| {
                    l.0 != 2
                });
            }
        };
        note(&mut r, 1, 100, 16);
        note(&mut r, 2, 100, 8);
        note(&mut r, 3, 100, 5);
        let kept = |who| (0..100).filter(|n| r.contains(&node(who), *n)).count();
        assert_eq!((r.len(), kept(3)), (16, 5));
        assert_eq!([kept(1), kept(2)], [5, 6], "what is closed goes where nobody has too much");
    }

    #[test]
    fn a_destination_answers_a_few_times() {
        let mut r = RelayedRequests::<Fixed>::EMPTY;
        r.set_capacity(16);
        r.note(node(1), 1, LinkId(1), 0, 4, |_| true);
        assert!((0..ROUTES_PER_DESTINATION).all(|_| r.may_answer(&node(1), 1)));
        assert!(!r.may_answer(&node(1), 1));
        assert!(!r.may_answer(&node(1), 2));
    }

    #[test]
    fn searches_are_bounded_and_come_due() {
        let mut s = Searches::<Fixed>::EMPTY;
        s.set_capacity(2);
        let timing = Timing::HOST;
        assert!(s.begin(node(1), 5, 0, &timing).is_some());
        assert!(s.begin(node(2), 6, 100, &timing).is_some());
        assert!(s.begin(node(3), 7, 0, &timing).is_none());
        let first = u64::from(timing.first_ring) * timing.hop_round_trip * 3 / 4;
        assert_eq!(s.next_due(), Some(first));
        assert_eq!(s.due(first - 1), None);
        assert_eq!(s.due(first).unwrap().destination, node(1));
        assert_eq!(s.end(&node(1)).unwrap().numbers, [5]);
        assert_eq!(s.next_due(), Some(first + 100));
    }
}
