//! Datagrams for this node that wait to be fetched.
//!
//! Paid and free ones wait apart. Free ones have what room is left, and when that is taken the
//! source that has most of it loses its oldest. A paid one is never dropped: while their room
//! is taken the state machine refuses further ones before it books them, and tells the sender.

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::policy::detect::DetectedProtocol;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most datagrams that wait.
const MOST: usize = 4096;

/// A datagram that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who sent it; proven only where it was paid for.
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

/// The queue, shared by the engine and whoever fetches.
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
    next: u64,
    dropped: u64,
    dropped_bytes: u64,
    /// Of the drops, how many were logged.
    told: u64,
}

/// Datagrams by arrival, and how much of them each source has.
#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeMap<u64, Delivery>,
    sources: HashMap<NodeId, Source>,
    /// Sources by what they have, for the largest.
    by_bytes: BTreeSet<(usize, NodeId)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Source {
    arrivals: VecDeque<u64>,
    bytes: usize,
}

/// What a datagram takes: an empty one too.
fn size(delivery: &Delivery) -> usize {
    delivery.payload.len().saturating_add(size_of::<Delivery>())
}

impl Lane {
    fn push(&mut self, arrival: u64, delivery: Delivery) {
        let (source, size) = (delivery.source, size(&delivery));
        self.change(source, |s| {
            s.arrivals.push_back(arrival);
            s.bytes = s.bytes.saturating_add(size);
        });
        self.bytes = self.bytes.saturating_add(size);
        self.waiting.insert(arrival, delivery);
    }

    /// The oldest of all.
    fn first(&self) -> Option<(u64, &Delivery)> {
        self.waiting.first_key_value().map(|(at, delivery)| (*at, delivery))
    }

    /// Takes out one that is the oldest of its source.
    fn remove(&mut self, arrival: u64) -> Option<Delivery> {
        let delivery = self.waiting.remove(&arrival)?;
        let size = size(&delivery);
        self.bytes = self.bytes.saturating_sub(size);
        self.change(delivery.source, |s| {
            s.arrivals.pop_front();
            s.bytes = s.bytes.saturating_sub(size);
        });
        Some(delivery)
    }

    /// Drops the oldest of the source that has most.
    fn drop_of_largest(&mut self) -> Option<Delivery> {
        let (_, source) = self.by_bytes.last()?;
        let oldest = self.sources.get(source)?.arrivals.front().copied()?;
        self.remove(oldest)
    }

    fn change(&mut self, source: NodeId, change: impl FnOnce(&mut Source)) {
        let s = self.sources.entry(source).or_default();
        self.by_bytes.remove(&(s.bytes, source));
        change(s);
        match s.arrivals.is_empty() {
            true => self.sources.remove(&source).map_or((), |_| ()),
            false => {
                self.by_bytes.insert((s.bytes, source));
            }
        }
    }
}

impl Queue {
    fn first(&self) -> Option<(u64, bool, &Delivery)> {
        let paid = self.paid.first().map(|(at, d)| (at, true, d));
        let free = self.free.first().map(|(at, d)| (at, false, d));
        paid.into_iter().chain(free).min_by_key(|(at, ..)| *at)
    }

    fn len(&self) -> usize {
        self.paid.waiting.len().saturating_add(self.free.waiting.len())
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

    /// Whether paid ones have taken their room, half of all, with so many bytes of them that
    /// are still to come.
    pub(crate) fn is_full(&self, to_come: usize) -> bool {
        let queue = self.lock();
        queue.paid.bytes.saturating_add(to_come) >= self.most_bytes / 2
            || queue.paid.waiting.len() >= MOST / 2
    }

    /// Adds a datagram; free ones make room for it.
    pub(crate) fn push(&self, delivery: Delivery) {
        let mut queue = self.lock();
        let arrival = queue.next;
        queue.next = queue.next.wrapping_add(1);
        match delivery.earned_msat {
            0 => queue.free.push(arrival, delivery),
            _ => queue.paid.push(arrival, delivery),
        }
        while queue.len() > MOST
            || queue.paid.bytes.saturating_add(queue.free.bytes) > self.most_bytes
        {
            // The newest stays if it is alone: it was too large for all that is kept.
            if queue.len() <= 1 {
                break;
            }
            let Some(old) = queue.free.drop_of_largest() else { break };
            queue.dropped = queue.dropped.saturating_add(1);
            queue.dropped_bytes = queue.dropped_bytes.saturating_add(old.payload.len() as u64);
        }
        // A full channel means that somebody is being woken already.
        let _ = self.arrived.try_send(());
    }

    /// Takes up to `max` datagrams, the oldest first, of at most `bytes` in all
    /// unless the first alone has more. Each is handed out once.
    pub fn take(&self, max: usize, bytes: usize) -> Vec<Delivery> {
        let mut queue = self.lock();
        let (mut taken, mut left) = (Vec::new(), bytes);
        while taken.len() < max {
            let Some((arrival, is_paid, first)) = queue.first() else { break };
            let len = first.payload.len();
            if !taken.is_empty() && len > left {
                break;
            }
            left = left.saturating_sub(len);
            let lane = if is_paid { &mut queue.paid } else { &mut queue.free };
            taken.extend(lane.remove(arrival));
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

    /// Datagrams that wait, paid and free ones, and their bytes.
    pub(crate) fn waiting(&self) -> [(usize, usize); 2] {
        let queue = self.lock();
        [&queue.paid, &queue.free].map(|lane| (lane.waiting.len(), lane.bytes))
    }

    /// Free datagrams that nobody fetched and that had to make room.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Logs what had to make room since the last time.
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
        assert!(queue.free.by_bytes.is_empty());
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
    fn paid_ones_are_not_dropped_and_it_is_said_when_no_more_should_come() {
        let deliveries = Deliveries::new(1_000_000);
        assert!(!deliveries.is_full(0));
        assert!(deliveries.is_full(500_000), "what waits for the store counts");
        (0..6).for_each(|i| deliveries.push(delivery(1, i, 100_000, 1)));
        assert!(deliveries.is_full(0));
        (0..9).for_each(|i| deliveries.push(delivery(2, i, 100_000, 0)));
        assert_eq!(deliveries.dropped(), 6);
        assert_eq!(numbers(&deliveries).len(), 9);
        assert!(!deliveries.is_full(0));
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
