//! Datagrams for this node that wait to be fetched.
//!
//! Paid and free ones wait apart. Free ones use the room that is left, and when there is none,
//! the source that has most of it loses its oldest. A paid one is never dropped: while their room
//! is full, the state machine refuses further ones before it books them, and tells the sender. A
//! source may add while it has less than is left: alone it takes half of the room, two a third
//! each, and later sources still find room. What others send over flows (`send --pay`) has a quarter
//! of the room by the same rule, and is refused where that is taken.

use crate::flows::Inbox;
use crate::rpc::events::EventLog;
use crate::rpc::types::{Happened, Topic};
use blvm_mesh_core::config::FULL_SOURCES;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::Input;
use blvm_mesh_core::policy::{DetectedProtocol, RoutingPolicyEngine};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most datagrams that wait.
const MOST: usize = 4096;

/// A datagram that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who sent it; proven only where it was paid for, or came over a flow.
    pub source: NodeId,
    /// Its number.
    pub sequence: u64,
    /// What the payload is.
    pub protocol: DetectedProtocol,
    /// What this node earned with it, in millisatoshi.
    pub earned_msat: u64,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Delivery {
    /// What is told of it, once it waits: whoever hears of it finds it, unless another was faster.
    pub(crate) fn event(&self) -> Happened {
        Happened::DatagramReceived {
            source: self.source,
            sequence: self.sequence,
            protocol: self.protocol.name().to_owned(),
            bytes: self.payload.len(),
            earned_msat: self.earned_msat,
        }
    }
}

/// The queue, shared by the engine and its readers.
#[derive(Debug)]
pub struct Deliveries {
    queue: Mutex<Queue>,
    arrived: smol::channel::Sender<()>,
    arrivals: smol::channel::Receiver<()>,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    paid: Lane,
    free: Lane,
    /// Those that came over flows.
    streamed: Lane,
    next: u64,
    /// What the state machine has been told about the room for paid ones.
    full: Full,
    dropped: u64,
    dropped_bytes: u64,
    /// How many of the drops were logged.
    told: u64,
}

/// Sources whose share of the room for paid datagrams is full.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Full {
    all: bool,
    sources: BTreeSet<NodeId>,
}

/// Datagrams by arrival, and how much of them each source has.
#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeMap<u64, Delivery>,
    sources: HashMap<NodeId, Source>,
    /// Sources by the room that they take, to find the largest.
    by_taken: BTreeSet<(usize, NodeId)>,
    bytes: usize,
    /// Bytes and places, as [`Deliveries::takes`] counts them, including those still to come.
    taken: usize,
}

#[derive(Debug, Default)]
struct Source {
    arrivals: VecDeque<u64>,
    taken: usize,
}

/// Room that a datagram takes, even an empty one.
fn size(payload: usize) -> usize {
    payload.saturating_add(size_of::<Delivery>())
}

impl Lane {
    fn push(&mut self, arrival: u64, delivery: Delivery, takes: usize) {
        self.change(delivery.source, |s| {
            s.arrivals.push_back(arrival);
            s.taken = s.taken.saturating_add(takes);
        });
        self.taken = self.taken.saturating_add(takes);
        self.bytes = self.bytes.saturating_add(size(delivery.payload.len()));
        self.waiting.insert(arrival, delivery);
    }

    /// The oldest of all.
    fn first(&self) -> Option<(u64, &Delivery)> {
        self.waiting.first_key_value().map(|(at, delivery)| (*at, delivery))
    }

    /// Takes out one that is the oldest of its source.
    fn remove(&mut self, arrival: u64, takes: impl Fn(usize) -> usize) -> Option<Delivery> {
        let delivery = self.waiting.remove(&arrival)?;
        let payload = delivery.payload.len();
        self.bytes = self.bytes.saturating_sub(size(payload));
        self.change(delivery.source, |s| _ = s.arrivals.pop_front());
        self.give_back(delivery.source, takes(payload));
        Some(delivery)
    }

    /// Reserves room for one that is still to come.
    fn expect(&mut self, source: NodeId, takes: usize) {
        self.taken = self.taken.saturating_add(takes);
        self.change(source, |s| s.taken = s.taken.saturating_add(takes));
    }

    fn give_back(&mut self, source: NodeId, takes: usize) {
        self.taken = self.taken.saturating_sub(takes);
        self.change(source, |s| s.taken = s.taken.saturating_sub(takes));
    }

    /// The oldest of the source that takes most.
    fn oldest_of_largest(&self) -> Option<u64> {
        let (_, source) = self.by_taken.last()?;
        self.sources.get(source)?.arrivals.front().copied()
    }

    fn change(&mut self, source: NodeId, change: impl FnOnce(&mut Source)) {
        let s = self.sources.entry(source).or_default();
        self.by_taken.remove(&(s.taken, source));
        change(s);
        match s.taken {
            0 => _ = self.sources.remove(&source),
            taken => _ = self.by_taken.insert((taken, source)),
        }
    }
}

impl Queue {
    /// The lane that has the oldest of all, with that.
    fn first(&mut self) -> Option<(u64, &mut Lane)> {
        let lanes = [&mut self.paid, &mut self.free, &mut self.streamed];
        let first = |lane: &mut Lane| lane.first().map(|(at, _)| at);
        lanes.into_iter().filter_map(|lane| Some((first(lane)?, lane))).min_by_key(|(at, _)| *at)
    }

    /// The number of the next that arrives.
    fn arrival(&mut self) -> u64 {
        let arrival = self.next;
        self.next = arrival.wrapping_add(1);
        arrival
    }

    fn lanes(&self) -> [&Lane; 3] {
        [&self.paid, &self.free, &self.streamed]
    }

    fn len(&self) -> usize {
        self.lanes().iter().map(|lane| lane.waiting.len()).sum()
    }

    fn bytes(&self) -> usize {
        self.lanes().iter().fold(0, |sum, lane| sum.saturating_add(lane.bytes))
    }
}

impl Deliveries {
    /// An empty queue that keeps at most so many bytes.
    pub(crate) fn new(most_bytes: usize) -> Self {
        let (arrived, arrivals) = smol::channel::bounded(1);
        Self { queue: Mutex::default(), arrived, arrivals, most_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room that one takes: its bytes, and at least its place.
    fn takes(&self, payload: usize) -> usize {
        size(payload).max(self.most_bytes / MOST)
    }

    /// Reserves room for a datagram that waits for its record to be durable.
    pub(crate) fn expect(&self, source: NodeId, payload: usize) {
        self.lock().paid.expect(source, self.takes(payload));
    }

    /// Releases it: the datagram will not come.
    pub(crate) fn expect_no_more(&self, source: NodeId, payload: usize) {
        self.lock().paid.give_back(source, self.takes(payload));
    }

    /// Reserves room for what a source is about to send over a flow; false if it has its share.
    pub(crate) fn expect_streamed(&self, source: NodeId, payload: usize) -> bool {
        let mut queue = self.lock();
        let takes = self.takes(payload);
        let left = (self.most_bytes / 4).saturating_sub(queue.streamed.taken);
        let its = queue.streamed.sources.get(&source).map_or(0, |source| source.taken);
        let fits = its.saturating_add(takes) <= left;
        if fits {
            queue.streamed.expect(source, takes);
        }
        fits
    }

    /// Releases it: it does not come.
    pub(crate) fn expect_streamed_no_more(&self, source: NodeId, payload: usize) {
        self.lock().streamed.give_back(source, self.takes(payload));
    }

    /// Adds what has come over a flow, in the room that was reserved for it.
    pub(crate) fn push_streamed(&self, delivery: Delivery) {
        let mut queue = self.lock();
        let takes = self.takes(delivery.payload.len());
        queue.streamed.give_back(delivery.source, takes);
        let arrival = queue.arrival();
        queue.streamed.push(arrival, delivery, takes);
        self.make_room(&mut queue);
    }

    /// What the state machine must be told about the room for paid ones, which is half of all,
    /// since the last call.
    pub(crate) fn changes(&self) -> Vec<Input<'static>> {
        let mut queue = self.lock();
        let left = (self.most_bytes / 2).saturating_sub(queue.paid.taken);
        let largest = queue.paid.by_taken.iter().rev().take_while(|(taken, _)| *taken >= left);
        let sources: BTreeSet<_> =
            largest.take(FULL_SOURCES + 1).map(|(_, source)| *source).collect();
        let full = match left == 0 || sources.len() > FULL_SOURCES {
            true => Full { all: true, sources: BTreeSet::new() },
            false => Full { all: false, sources },
        };
        if full == queue.full {
            return Vec::new();
        }
        let before = std::mem::replace(&mut queue.full, full.clone());
        let all = (before.all != full.all).then_some((None, full.all));
        // First those that have room again, so that there are never more full ones than can be
        // remembered.
        let again = before.sources.difference(&full.sources).map(|s| (Some(*s), false));
        let newly = full.sources.difference(&before.sources).map(|s| (Some(*s), true));
        if full.all && !before.all {
            tracing::warn!(
                "nobody fetches what is delivered (`recv`): its room is taken, and further paid \
                 datagrams are refused before they are booked"
            );
        }
        for (source, _) in newly.clone() {
            tracing::warn!(
                source = source.map(tracing::field::display),
                "nobody fetches what is delivered (`recv`): a source has taken its share of the \
                 room, and further paid datagrams of it are refused before they are booked"
            );
        }
        let changes = again.chain(newly).chain(all);
        changes.map(|(source, full)| Input::InboxFull { source, full }).collect()
    }

    /// Adds a datagram; free ones make room for it.
    pub(crate) fn push(&self, delivery: Delivery) {
        let mut queue = self.lock();
        let arrival = queue.arrival();
        let takes = self.takes(delivery.payload.len());
        match delivery.earned_msat {
            0 => queue.free.push(arrival, delivery, takes),
            _ => queue.paid.push(arrival, delivery, takes),
        }
        self.make_room(&mut queue);
    }

    /// Drops free ones until all have room, and wakes who waits for one.
    fn make_room(&self, queue: &mut Queue) {
        while queue.len() > MOST || queue.bytes() > self.most_bytes {
            // The newest stays if it is alone: it was larger than all that is kept.
            if queue.len() <= 1 {
                break;
            }
            let Some(oldest) = queue.free.oldest_of_largest() else { break };
            let Some(old) = queue.free.remove(oldest, |len| self.takes(len)) else { break };
            queue.dropped = queue.dropped.saturating_add(1);
            queue.dropped_bytes = queue.dropped_bytes.saturating_add(old.payload.len() as u64);
        }
        // A full channel means that a reader is being woken already.
        let _ = self.arrived.try_send(());
    }

    /// Takes up to `max` datagrams, the oldest first, of at most `bytes` in all
    /// unless the first alone has more. Each is handed out once.
    pub fn take(&self, max: usize, bytes: usize) -> Vec<Delivery> {
        let mut queue = self.lock();
        let (mut taken, mut left) = (Vec::new(), bytes);
        while taken.len() < max {
            let Some((arrival, lane)) = queue.first() else { break };
            let len = lane.first().map_or(0, |(_, first)| first.payload.len());
            if !taken.is_empty() && len > left {
                break;
            }
            left = left.saturating_sub(len);
            taken.extend(lane.remove(arrival, |len| self.takes(len)));
        }
        if queue.len() > 0 {
            let _ = self.arrived.try_send(());
        }
        taken
    }

    /// Takes datagrams like [`Self::take`], waiting for the first.
    pub async fn next(&self, max: usize, bytes: usize) -> Vec<Delivery> {
        loop {
            let taken = self.take(max, bytes);
            if !taken.is_empty() || max == 0 || self.arrivals.recv().await.is_err() {
                return taken;
            }
        }
    }

    /// Datagrams that wait, paid and free ones and those that came over flows, and their bytes.
    pub(crate) fn waiting(&self) -> [(usize, usize); 3] {
        self.lock().lanes().map(|lane| (lane.waiting.len(), lane.bytes))
    }

    /// Free datagrams that were dropped because nobody fetched them.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Logs how many were dropped since the last time.
    pub(crate) fn report(&self) {
        let (more, dropped, bytes) = {
            let mut queue = self.lock();
            let more = queue.dropped.saturating_sub(queue.told);
            queue.told = queue.dropped;
            (more, queue.dropped, queue.dropped_bytes)
        };
        if more > 0 {
            tracing::warn!(
                more,
                dropped,
                bytes,
                "free datagrams were dropped: nobody fetches what is delivered (`recv`)"
            );
        }
    }
}

/// What comes over flows.
pub(crate) struct StreamInbox {
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) policy: RoutingPolicyEngine,
}

impl Inbox for StreamInbox {
    fn expect(&self, source: NodeId, len: usize) -> bool {
        self.deliveries.expect_streamed(source, len)
    }

    fn give_up(&self, source: NodeId, len: usize) {
        self.deliveries.expect_streamed_no_more(source, len);
    }

    fn take(&self, source: NodeId, sequence: u64, payload: Vec<u8>) {
        let protocol = self.policy.detect_protocol(&payload);
        let delivery = Delivery { source, sequence, protocol, earned_msat: 0, payload };
        let event = delivery.event();
        self.deliveries.push_streamed(delivery);
        self.events.tell(Topic::Deliveries, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(source: u8, sequence: u64, len: usize, earned_msat: u64) -> Delivery {
        Delivery {
            source: NodeId([source; 32]),
            sequence,
            protocol: DetectedProtocol::Unknown,
            earned_msat,
            payload: vec![0; len],
        }
    }

    fn numbers(deliveries: &Deliveries) -> Vec<(u8, u64)> {
        let all = deliveries.take(usize::MAX, usize::MAX);
        all.iter().map(|d| (d.source.0[0], d.sequence)).collect()
    }

    #[test]
    fn the_oldest_make_room() {
        let deliveries = Deliveries::new(4_000_000);
        (0..MOST as u64 + 3).for_each(|i| deliveries.push(delivery(1, i, 1, 0)));
        assert_eq!(deliveries.dropped(), 3);
        let numbers: Vec<_> = deliveries.take(2, 100).iter().map(|d| d.sequence).collect();
        assert_eq!(numbers, [3, 4]);
        deliveries.take(usize::MAX, usize::MAX);
        (0..10).for_each(|i| deliveries.push(delivery(1, i, 900_000, 0)));
        assert_eq!(deliveries.take(usize::MAX, 2_000_000).len(), 2);
        assert_eq!(deliveries.take(usize::MAX, usize::MAX).len(), 2);
        let queue = deliveries.lock();
        assert_eq!((queue.free.bytes, queue.free.sources.len()), (0, 0));
        assert!(queue.free.by_taken.is_empty());
    }

    #[test]
    fn free_junk_drops_neither_what_was_paid_nor_what_others_sent() {
        let deliveries = Deliveries::new(1_000_000);
        deliveries.push(delivery(1, 0, 100_000, 6_000));
        deliveries.push(delivery(2, 0, 100_000, 0));
        // 20 MB of one source.
        (0..200).for_each(|i| deliveries.push(delivery(3, i, 100_000, 0)));
        deliveries.push(delivery(1, 1, 100_000, 6_000));
        let got = numbers(&deliveries);
        assert_eq!(got[..2], [(1, 0), (2, 0)]);
        assert_eq!(got.last(), Some(&(1, 1)));
        assert_eq!(got.len(), 9);
        assert_eq!(deliveries.dropped(), 202 + 1 - 9);
    }

    #[test]
    fn what_comes_over_flows_has_room_of_its_own_and_is_refused_beyond() {
        let deliveries = Deliveries::new(8_000_000);
        let send = |source: u8, n: u64| {
            let fits = deliveries.expect_streamed(NodeId([source; 32]), 20_000);
            if fits {
                deliveries.push_streamed(delivery(source, n, 20_000, 0));
            }
            fits
        };
        // Of 2 MB; each place takes more than its bytes.
        let own = (0..200).filter(|n| send(1, *n)).count();
        assert!((48..=50).contains(&own), "{own}");
        assert!(send(2, 0), "another still finds room");
        deliveries.push(delivery(3, 0, 20_000, 0));
        deliveries.push(delivery(3, 1, 20_000, 5));
        assert_eq!(deliveries.waiting().map(|(count, _)| count), [1, 1, own + 1]);
        assert_eq!(numbers(&deliveries)[own..], [(2, 0), (3, 0), (3, 1)], "in their order");
        // What does not come takes no room.
        assert!(deliveries.expect_streamed(NodeId([1; 32]), 990_000));
        assert!(!send(1, 0));
        deliveries.expect_streamed_no_more(NodeId([1; 32]), 990_000);
        assert!(send(1, 0) && deliveries.dropped() == 0);
        deliveries.take(usize::MAX, usize::MAX);
        let queue = deliveries.lock();
        assert_eq!((queue.streamed.taken, queue.streamed.sources.len()), (0, 0));
    }

    /// What is told, by the first byte of the source; 0 for all.
    fn changes(deliveries: &Deliveries) -> Vec<(u8, bool)> {
        let told = |input| match input {
            Input::InboxFull { source, full } => (source.map_or(0, |s| s.0[0]), full),
            other => panic!("{other:?}"),
        };
        deliveries.changes().into_iter().map(told).collect()
    }

    #[test]
    fn paid_ones_are_not_dropped_and_it_is_said_when_no_more_should_come() {
        let deliveries = Deliveries::new(1_000_000);
        assert!(changes(&deliveries).is_empty());
        deliveries.expect(NodeId([1; 32]), 250_000);
        assert_eq!(changes(&deliveries), [(1, true)], "what waits for the store counts");
        deliveries.expect_no_more(NodeId([1; 32]), 250_000);
        assert_eq!(changes(&deliveries), [(1, false)]);
        (0..6).for_each(|i| deliveries.push(delivery(1, i, 100_000, 1)));
        assert_eq!(changes(&deliveries), [(0, true)]);
        (0..9).for_each(|i| deliveries.push(delivery(2, i, 100_000, 0)));
        assert_eq!(deliveries.dropped(), 6);
        assert_eq!(numbers(&deliveries).len(), 9);
        assert_eq!(changes(&deliveries), [(0, false)]);
        let queue = deliveries.lock();
        assert_eq!((queue.paid.bytes, queue.paid.taken, queue.paid.sources.len()), (0, 0, 0));
        assert!(queue.paid.by_taken.is_empty());
    }

    /// So many of a source until it is told that no more should come.
    fn fill(deliveries: &Deliveries, source: u8, len: usize) -> usize {
        for n in 0..MOST {
            let full = deliveries.lock().full.clone();
            if full.all || full.sources.contains(&NodeId([source; 32])) {
                return n;
            }
            deliveries.push(delivery(source, n as u64, len, 1));
            deliveries.changes();
        }
        MOST
    }

    #[test]
    fn a_paying_source_has_as_much_as_it_leaves_others() {
        // Of bytes, and of places.
        for (len, room) in [(100_000, 50_000_000), (0, (MOST / 2) * 10_000)] {
            let deliveries = Deliveries::new(2 * room);
            let most = room / deliveries.takes(len);
            let shares: Vec<usize> = (1..5).map(|source| fill(&deliveries, source, len)).collect();
            for (share, parts) in shares.iter().zip([2, 4, 8, 16]) {
                assert!(share.abs_diff(most / parts) <= 2, "{shares:?} of {most}");
            }
            assert_eq!(deliveries.dropped(), 0);
            // The first is fetched: there is room for all of them again.
            deliveries.take(shares[0], usize::MAX);
            let news = changes(&deliveries);
            assert!(news.contains(&(1, false)) && news.iter().all(|(_, full)| !full), "{news:?}");
        }
    }

    #[test]
    fn more_full_sources_than_can_be_told_are_all() {
        let deliveries = Deliveries::new(40_400_000);
        // As much each, so that all are full at the same time, and some room is left.
        let mut told = Vec::new();
        for n in 0..1000 {
            (1..=100).for_each(|source| deliveries.push(delivery(source, n, 20_000, 1)));
            told = changes(&deliveries);
            if !told.is_empty() {
                break;
            }
        }
        assert_eq!(told, [(0, true)]);
        assert!(deliveries.lock().paid.taken < deliveries.most_bytes / 2);
    }

    #[test]
    fn every_waiter_is_served() {
        let deliveries = Deliveries::new(1_000_000);
        smol::block_on(async {
            let both = smol::future::zip(deliveries.next(1, 1), deliveries.next(1, 1));
            let feed = async {
                smol::future::yield_now().await;
                deliveries.push(delivery(1, 7, 1, 0));
                deliveries.push(delivery(1, 8, 1, 0));
            };
            let ((a, b), ()) = smol::future::zip(both, feed).await;
            let mut numbers = [a[0].sequence, b[0].sequence];
            numbers.sort_unstable();
            assert_eq!(numbers, [7, 8]);
        });
    }
}
