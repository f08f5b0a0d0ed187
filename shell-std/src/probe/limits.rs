//! Which probes of others are answered.
//!
//! Each neighbour has an allowance of probes that come by it, whatever sources they name, and one of
//! answers that leave by it: what answers take of the free traffic that it accepts stays a small part.
//! A neighbour that has used its own up keeps nobody else from being answered, but where the answers to both
//! leave by the same one. Who comes anew begins with few, so coming again does not help.

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::time::Micros;
use blvm_mesh_core::token_bucket::TokenBucket;
use std::collections::HashMap;

/// Probes by one neighbour that are answered: a second, and at once.
const PROBES: (u64, u64) = (10, 20);
/// Answers that leave by one neighbour.
const ANSWERS: (u64, u64) = (20, 40);
/// What a new neighbour begins with.
const AT_FIRST: u64 = 10;
/// Neighbours that are remembered.
const MOST: usize = 1024;
/// Searches for sources to which no route is known, at once; one more comes every two seconds, of a
/// neighbour's every four. A search may ask the whole mesh, and any source can be named.
const SEARCHES: u64 = 4;
const SEARCHES_OF_ONE: u64 = 2;
/// A bucket fills by so many tokens a second; a search takes what comes in two, or four, of them.
const PER_SECOND: u64 = 1;
const SEARCH: u64 = 2;
const SEARCH_OF_ONE: u64 = 4;

/// What is left to one neighbour.
#[derive(Debug)]
struct Left {
    probes: TokenBucket,
    answers: TokenBucket,
    searches: TokenBucket,
}

impl Left {
    fn new(now: Micros) -> Self {
        let bucket = |(rate, burst)| TokenBucket::new(rate, burst, now);
        Self {
            probes: bucket(PROBES).holding(AT_FIRST),
            answers: bucket(ANSWERS),
            searches: TokenBucket::new(PER_SECOND, SEARCHES_OF_ONE * SEARCH_OF_ONE, now)
                .holding(SEARCH_OF_ONE),
        }
    }

    /// Whether forgetting it changes nothing but to its disadvantage.
    fn is_whole(&self, now: Micros) -> bool {
        self.probes.available(now) == PROBES.1
            && self.answers.available(now) == ANSWERS.1
            && self.searches.available(now) == SEARCHES_OF_ONE * SEARCH_OF_ONE
    }
}

/// What is left to all of them.
#[derive(Debug)]
pub(crate) struct Limits {
    neighbours: HashMap<NodeId, Left>,
    searches: TokenBucket,
}

impl Default for Limits {
    fn default() -> Self {
        let searches = TokenBucket::new(PER_SECOND, SEARCHES * SEARCH, 0);
        Self { neighbours: HashMap::new(), searches }
    }
}

impl Limits {
    /// `None`: there is no room for another neighbour.
    fn left(&mut self, now: Micros, neighbour: NodeId) -> Option<&mut Left> {
        if self.neighbours.len() >= MOST && !self.neighbours.contains_key(&neighbour) {
            self.neighbours.retain(|_, left| !left.is_whole(now));
            if self.neighbours.len() >= MOST {
                return None;
            }
        }
        Some(self.neighbours.entry(neighbour).or_insert_with(|| Left::new(now)))
    }

    /// Whether a probe is answered that came by a neighbour.
    pub(crate) fn take_probe(&mut self, now: Micros, from: NodeId) -> bool {
        self.left(now, from).is_some_and(|left| left.probes.try_take(1, now))
    }

    /// Whether an answer may leave by a neighbour.
    pub(crate) fn take_answer(&mut self, now: Micros, by: NodeId) -> bool {
        self.left(now, by).is_some_and(|left| left.answers.try_take(1, now))
    }

    /// Whether the source of a probe that came by a neighbour may be searched for.
    pub(crate) fn take_search(&mut self, now: Micros, from: NodeId) -> bool {
        let all = self.searches.available(now) >= SEARCH;
        let may = self
            .left(now, from)
            .is_some_and(|left| all && left.searches.try_take(SEARCH_OF_ONE, now));
        may && self.searches.try_take(SEARCH, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::time::SECOND;

    fn node(n: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_le_bytes());
        NodeId(id)
    }

    /// How many of a thousand are taken at once.
    fn taken(mut take: impl FnMut() -> bool) -> u64 {
        (0..1000).map(|_| u64::from(take())).sum()
    }

    #[test]
    fn each_neighbour_has_its_own() {
        let mut limits = Limits::default();
        assert_eq!(taken(|| limits.take_probe(0, node(1))), AT_FIRST);
        assert_eq!(taken(|| limits.take_probe(0, node(2))), AT_FIRST, "another's is whole");
        let later = 60 * SECOND;
        assert_eq!(taken(|| limits.take_probe(later, node(1))), PROBES.1);
        assert_eq!(taken(|| limits.take_probe(later + SECOND, node(1))), PROBES.0);
        assert_eq!(taken(|| limits.take_answer(later, node(1))), ANSWERS.1);
        assert_eq!(taken(|| limits.take_answer(later, node(2))), ANSWERS.1);
    }

    #[test]
    fn sources_that_are_made_up_have_few_routes_searched_for() {
        let mut limits = Limits::default();
        assert_eq!(taken(|| limits.take_search(0, node(1))), 1);
        let later = 60 * SECOND;
        assert_eq!(taken(|| limits.take_search(later, node(1))), SEARCHES_OF_ONE);
        // Nor by many neighbours.
        let mut from = 2;
        let many = taken(|| {
            from += 1;
            limits.take_search(later, node(from))
        });
        assert_eq!(many, SEARCHES - SEARCHES_OF_ONE);
    }

    #[test]
    fn coming_by_many_neighbours_takes_no_memory_without_bound_and_no_turn_from_those_known() {
        let mut limits = Limits::default();
        for n in 0..3000 {
            limits.take_probe(0, node(n));
        }
        assert_eq!(limits.neighbours.len(), MOST);
        assert!(limits.take_probe(0, node(1)));
        assert!(!limits.take_probe(0, node(2000)));
        // Those that have not used theirs for long make room.
        assert!(limits.take_probe(60 * SECOND, node(2000)));
        assert_eq!(limits.neighbours.len(), 1);
    }
}
