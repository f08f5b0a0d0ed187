//! Searches for routes: our own, and the requests of others.

use crate::config::fixed::{NEIGHBOURS, RELAYED_REQUESTS, SEARCHES};
use crate::config::{MAX_HOPS, ROUTES_PER_DESTINATION, Timing};
use crate::id::{HopId, LinkId, NodeId};
use crate::tables::by_link::{ByLink, Key};
use crate::tables::{List, Memory};
use crate::time::{Micros, SECOND};

/// An own search, in rings that become wider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Who is looked for.
    pub destination: NodeId,
    /// Numbers of its requests, one for each ring. They are random: whoever could predict the
    /// next one could use it first, in this node's name.
    pub numbers: heapless::Vec<u64, RINGS>,
    /// Width of the latest ring, in links; for the first request, which may follow route hints,
    /// at most the configured width.
    pub width: u8,
    /// When the latest ring times out.
    pub until: Micros,
    /// Whether it asks which payments the route accepts.
    pub accepted: bool,
    /// Whether it is for a group, of which any member answers in its own name.
    pub anycast: bool,
    /// Whether a route was found; the search stays until then for alternatives.
    pub found: bool,
}

/// Widest ring: the longest route.
pub const WIDEST: u8 = MAX_HOPS as u8 + 1;
/// Most rings of a search: each is [`WIDER`] times as wide as the one before, up to the widest.
const RINGS: usize = WIDEST.ilog(WIDER) as usize + 2;
const WIDER: u8 = 4;
/// How long a request of another node is remembered; no ring waits that long.
const REMEMBERED: Micros = 60 * SECOND;

/// The ring after one of this width; the widest if that is not much wider.
pub fn wider(width: u8) -> u8 {
    let wider = width.saturating_mul(WIDER);
    if wider >= WIDEST / 2 { WIDEST } else { wider }
}

/// Own searches, sorted by destination.
pub struct Searches<M: Memory>(M::List<Search, SEARCHES>);

impl<M: Memory> Searches<M> {
    /// An empty table without capacity.
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

    /// The search for a group whose request has this number.
    #[cfg(feature = "alloc")]
    pub fn for_group(&mut self, number: u64) -> Option<&mut Search> {
        let is_it = |search: &Search| search.anycast && search.numbers.contains(&number);
        let at = self.0.iter().position(is_it)?;
        self.0.get_mut(at)
    }

    /// Begins a search. Its first request has this number and travels this many links; it may ask
    /// what is `accepted` as payment. `None` if there is no room.
    pub fn begin(
        &mut self,
        destination: NodeId,
        number: u64,
        far: u8,
        accepted: bool,
        now: Micros,
        timing: &Timing,
    ) -> Option<()> {
        let width = timing.first_ring.clamp(1, WIDEST);
        // Three quarters of the time: most destinations that are this near answer soon, and the
        // next ring costs little more. Nodes that start together ask too early.
        let links = u64::from(far.max(width));
        let time = timing.hop_round_trip.saturating_mul(links) / 4 * 3;
        let until = now.saturating_add(time);
        let numbers = [number].into_iter().collect();
        let (anycast, found) = (false, false);
        let search = Search { destination, numbers, width, until, accepted, anycast, found };
        match self.place(&destination) {
            Ok(at) => *self.0.get_mut(at)? = search,
            Err(at) => self.0.try_insert(at, search).ok()?,
        }
        Some(())
    }

    /// A search whose ring has timed out at `now`.
    pub fn due(&self, now: Micros) -> Option<&Search> {
        self.0.iter().find(|s| s.until <= now)
    }

    /// Ends a search.
    pub fn end(&mut self, destination: &NodeId) -> Option<Search> {
        let at = self.place(destination).ok()?;
        self.0.take(at)
    }

    /// Whether the table is full.
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

    /// When the next ring times out.
    pub fn next_due(&self) -> Option<Micros> {
        self.0.iter().map(|s| s.until).min()
    }
}

/// A request of another node that passed here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relayed {
    heard: Micros,
    /// Links on which it was answered, if this node is the destination.
    answered: heapless::Vec<LinkId, ROUTES_PER_DESTINATION>,
    /// Cost of the cheapest route among them.
    cheapest: u64,
    /// Largest packet that one of them takes. Boards take small ones only.
    #[cfg(feature = "alloc")]
    widest: u32,
}

/// A route over which a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// Its cost; see [`metric::cost`](super::metric::cost).
    pub cost: u64,
    /// Largest packet that all nodes on it take, in bytes.
    pub min_packet: u32,
}

/// Whether a request is new to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It is new, and now remembered.
    New,
    /// It was here before.
    Known,
}

/// Requests of others, by source and number.
pub struct RelayedRequests<M: Memory>(ByLink<M, Relayed, RELAYED_REQUESTS, NEIGHBOURS>);

const fn key(source: HopId, sequence: u64) -> Key {
    [u64::from_le_bytes(source.0), sequence]
}

impl<M: Memory> RelayedRequests<M> {
    /// An empty table without capacity.
    pub const EMPTY: Self = Self(ByLink::EMPTY);

    /// Makes room for `capacity` requests from up to `neighbours` neighbours; hashed with a
    /// secret.
    pub fn prepare(&mut self, capacity: usize, neighbours: usize, secret: [u8; 16]) {
        self.0.prepare(capacity, neighbours, secret);
    }

    /// Remembers a request that came on a link. A link that has its `share` of them loses its own
    /// oldest; else, in a full table, a closed link or the one with most does.
    pub fn note(
        &mut self,
        source: HopId,
        sequence: u64,
        from: LinkId,
        now: Micros,
        share: usize,
    ) -> Novelty {
        let key = key(source, sequence);
        if self.0.get(&key).is_some() {
            return Novelty::Known;
        }
        self.0.expire(from, |r| now.saturating_sub(r.heard) >= REMEMBERED);
        if self.0.count(from) >= share.max(1) {
            self.0.remove_oldest(from);
        }
        let new = Relayed {
            heard: now,
            answered: heapless::Vec::new(),
            cheapest: u64::MAX,
            #[cfg(feature = "alloc")]
            widest: 0,
        };
        self.0.insert(key, from, new, share);
        Novelty::New
    }

    /// A link is gone. Its requests are remembered as long as there is room.
    pub fn close(&mut self, link: LinkId) {
        self.0.close(link);
    }

    /// Whether a request was here before.
    pub fn contains(&self, source: HopId, sequence: u64) -> bool {
        self.0.get(&key(source, sequence)).is_some()
    }

    /// Whether to answer a request on a link, on which it came over such a route: the first is answered,
    /// and a few that are cheaper, or take larger packets. In the `last` ring, so is one on each other
    /// link: a neighbour may have misreported the cost of the first, or drop the answer.
    pub fn would_answer(
        &self,
        source: HopId,
        sequence: u64,
        link: LinkId,
        route: Collected,
        last: bool,
    ) -> bool {
        let Some((_, r)) = self.0.get(&key(source, sequence)) else { return true };
        let better = r.answered.is_empty() || route.cost < r.cheapest;
        #[cfg(feature = "alloc")]
        let better = better || route.min_packet > r.widest;
        (better || last && !r.answered.contains(&link)) && !r.answered.is_full()
    }

    /// A request was answered on a link, over such a route.
    pub fn answered(&mut self, source: HopId, sequence: u64, link: LinkId, route: Collected) {
        let Some(r) = self.0.get_mut(&key(source, sequence)) else { return };
        let _ = r.answered.push(link);
        r.cheapest = r.cheapest.min(route.cost);
        #[cfg(feature = "alloc")]
        {
            r.widest = r.widest.max(route.min_packet);
        }
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

    fn hop(n: u8) -> HopId {
        node(n).hop()
    }

    #[test]
    fn rings_end_with_the_longest_route() {
        for first in 1..=WIDEST {
            let rings: std::vec::Vec<u8> =
                core::iter::successors(Some(first), |w| (*w < WIDEST).then(|| wider(*w))).collect();
            assert!(rings.len() <= RINGS && rings.ends_with(&[WIDEST]), "{rings:?}");
        }
    }

    #[test]
    fn a_flooding_neighbour_pushes_out_only_its_own() {
        let mut r = RelayedRequests::<Fixed>::EMPTY;
        r.prepare(16, 4, [1; 16]);
        assert_eq!(r.note(hop(1), 1, LinkId(1), 0, 4), Novelty::New);
        assert_eq!(r.note(hop(1), 1, LinkId(2), 0, 4), Novelty::Known);
        for n in 0..100 {
            r.note(hop(2), n, LinkId(2), n, 4);
        }
        assert!(r.contains(hop(1), 1));
        assert_eq!(r.len(), 5);
        assert!(r.contains(hop(2), 99) && r.contains(hop(2), 96) && !r.contains(hop(2), 95));
        r.note(hop(2), 100, LinkId(2), REMEMBERED + 98, 4);
        r.note(hop(2), 101, LinkId(2), REMEMBERED + 99, 4);
        assert_eq!(r.len(), 3, "its others are old");
    }

    #[test]
    fn a_new_neighbour_gets_its_share_of_what_others_filled() {
        let mut r = RelayedRequests::<Fixed>::EMPTY;
        r.prepare(16, 4, [1; 16]);
        let note = |r: &mut RelayedRequests<Fixed>, who: u8, count, share| {
            for n in 0..count {
                r.note(hop(who), n, LinkId(who.into()), u64::from(who) * 100 + n, share);
            }
        };
        note(&mut r, 1, 100, 16);
        note(&mut r, 2, 100, 8);
        r.close(LinkId(2));
        note(&mut r, 3, 100, 5);
        let kept = |who| (0..100).filter(|n| r.contains(hop(who), *n)).count();
        assert_eq!((r.len(), kept(3)), (16, 5));
        assert_eq!([kept(1), kept(2)], [8, 3], "what is closed goes first");
    }

    fn is_answered(r: &mut RelayedRequests<Fixed>, link: u32, cost: u64, last: bool) -> bool {
        let route = Collected { cost, min_packet: 1000 };
        let would = r.would_answer(hop(1), 1, LinkId(link), route, last);
        if would {
            r.answered(hop(1), 1, LinkId(link), route);
        }
        would
    }

    #[test]
    fn a_destination_answers_a_few_times() {
        let mut r = RelayedRequests::<Fixed>::EMPTY;
        r.prepare(16, 4, [1; 16]);
        r.note(hop(1), 1, LinkId(1), 0, 4);
        let answers =
            [50, 50, 40, 60, 30, 20].map(|cost| is_answered(&mut r, cost as u32, cost, false));
        assert_eq!(answers, [true, false, true, false, true, false]);
        let route = Collected { cost: 99, min_packet: 1000 };
        assert!(r.would_answer(hop(1), 2, LinkId(1), route, false), "another one is new");
    }

    #[test]
    fn a_way_for_larger_packets_is_answered_although_it_costs_more() {
        let mut r = RelayedRequests::<Fixed>::EMPTY;
        r.prepare(16, 4, [1; 16]);
        r.note(hop(1), 1, LinkId(1), 0, 4);
        let answers = [(50, 2048), (90, 2048), (90, 4096), (90, 4096)].map(|(cost, min_packet)| {
            let route = Collected { cost, min_packet };
            let would = r.would_answer(hop(1), 1, LinkId(min_packet), route, false);
            if would {
                r.answered(hop(1), 1, LinkId(min_packet), route);
            }
            would
        });
        assert_eq!(answers, [true, false, cfg!(feature = "alloc"), false]);
    }

    #[test]
    fn who_lies_about_a_cost_does_not_keep_others_from_an_answer_for_ever() {
        let mut r = RelayedRequests::<Fixed>::EMPTY;
        r.prepare(16, 4, [1; 16]);
        r.note(hop(1), 1, LinkId(1), 0, 4);
        let answers = [(1, 0), (1, 0), (2, 900), (2, 900), (3, 800), (4, 700)]
            .map(|(link, cost)| is_answered(&mut r, link, cost, true));
        assert_eq!(answers, [true, false, true, false, true, false]);
    }

    #[test]
    fn searches_are_bounded_and_come_due() {
        let mut s = Searches::<Fixed>::EMPTY;
        s.set_capacity(2);
        let timing = Timing::HOST;
        assert!(s.begin(node(1), 5, 1, false, 0, &timing).is_some());
        assert!(s.begin(node(2), 6, 1, false, 100, &timing).is_some());
        assert!(s.begin(node(3), 7, 1, false, 0, &timing).is_none());
        let first = u64::from(timing.first_ring) * timing.hop_round_trip * 3 / 4;
        assert_eq!(s.next_due(), Some(first));
        assert_eq!(s.due(first - 1), None);
        assert_eq!(s.due(first).unwrap().destination, node(1));
        assert_eq!(s.end(&node(1)).unwrap().numbers, [5]);
        assert_eq!(s.next_due(), Some(first + 100));
    }
}
