//! Datagrams for this node that wait to be fetched.

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::policy::detect::DetectedProtocol;
use std::collections::VecDeque;
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

/// The queue, shared by the engine and whoever fetches. Full: the oldest goes.
#[derive(Debug)]
pub struct Deliveries {
    queue: Mutex<Queue>,
    arrived: smol::channel::Sender<()>,
    arrivals: smol::channel::Receiver<()>,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    dropped: u64,
}

impl Deliveries {
    /// An empty queue that keeps at most so many bytes of payload.
    pub(crate) fn new(most_bytes: usize) -> Self {
        let (arrived, arrivals) = smol::channel::bounded(1);
        Self { queue: Mutex::default(), arrived, arrivals, most_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a datagram; the oldest make room for it.
    pub(crate) fn push(&self, delivery: Delivery) {
        let mut queue = self.lock();
        queue.bytes += delivery.payload.len();
        queue.waiting.push_back(delivery);
        while queue.waiting.len() > MOST
            || (queue.bytes > self.most_bytes && queue.waiting.len() > 1)
        {
            if let Some(old) = queue.waiting.pop_front() {
                queue.bytes -= old.payload.len();
                queue.dropped += 1;
            }
        }
        // A full channel means that somebody is being woken already.
        let _ = self.arrived.try_send(());
    }

    /// Takes up to `max` datagrams, the oldest first, of at most `bytes` in all
    /// unless the first alone has more. Each is handed out once.
    pub fn take(&self, max: usize, bytes: usize) -> Vec<Delivery> {
        let mut queue = self.lock();
        let mut left = bytes;
        let fits = |(i, d): &(usize, &Delivery)| {
            let fits = *i == 0 || d.payload.len() <= left;
            left = left.saturating_sub(d.payload.len());
            fits
        };
        let count = queue.waiting.iter().take(max).enumerate().take_while(fits).count();
        let taken: Vec<_> = queue.waiting.drain(..count).collect();
        queue.bytes -= taken.iter().map(|d| d.payload.len()).sum::<usize>();
        if !queue.waiting.is_empty() {
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

    /// Datagrams that nobody fetched and that had to make room.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(sequence: u64, len: usize) -> Delivery {
        Delivery {
            source: NodeId([1; 32]),
            sequence,
            protocol: DetectedProtocol::Unknown,
            earned_msat: 0,
            payload: vec![0; len],
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let deliveries = Deliveries::new(1_000_000);
        (0..MOST as u64 + 3).for_each(|i| deliveries.push(delivery(i, 1)));
        assert_eq!(deliveries.dropped(), 3);
        let numbers: Vec<_> = deliveries.take(2, 100).iter().map(|d| d.sequence).collect();
        assert_eq!(numbers, [3, 4]);
        deliveries.take(usize::MAX, usize::MAX);
        (0..10).for_each(|i| deliveries.push(delivery(i, 250_000)));
        assert_eq!(deliveries.take(usize::MAX, 600_000).len(), 2);
        assert_eq!(deliveries.take(usize::MAX, usize::MAX).len(), 2);
        assert_eq!(deliveries.lock().bytes, 0);
    }

    #[test]
    fn every_waiter_is_served() {
        let deliveries = Deliveries::new(1_000_000);
        smol::block_on(async {
            let both = smol::future::zip(deliveries.next(1, 1), deliveries.next(1, 1));
            let feed = async {
                smol::future::yield_now().await;
                deliveries.push(delivery(7, 1));
                deliveries.push(delivery(8, 1));
            };
            let ((a, b), ()) = smol::future::zip(both, feed).await;
            let mut numbers = [a[0].sequence, b[0].sequence];
            numbers.sort_unstable();
            assert_eq!(numbers, [7, 8]);
        });
    }
}
