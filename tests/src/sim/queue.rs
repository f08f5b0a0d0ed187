//! What will happen, in the order of time; of what is due at the same time the
//! first that was put in comes first.

use blvm_mesh_core::time::Micros;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A priority queue ordered by (time, sequence).
#[derive(Debug)]
pub(super) struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<E> {
    time: Micros,
    sequence: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (Micros, u64) {
        (self.time, self.sequence)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E> Queue<E> {
    /// Puts in what is to happen at a time.
    pub(super) fn put(&mut self, time: Micros, event: E) {
        self.heap.push(Reverse(Entry { time, sequence: self.sequence, event }));
        self.sequence += 1;
    }

    /// Takes the next event out if it is due at `until` or before.
    pub(super) fn take(&mut self, until: Micros) -> Option<(Micros, E)> {
        self.heap.peek().filter(|Reverse(e)| e.time <= until)?;
        self.heap.pop().map(|Reverse(e)| (e.time, e.event))
    }

    /// Events put in so far.
    pub(super) fn total(&self) -> u64 {
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_then_sequence() {
        let mut q = Queue::default();
        for (time, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b'), (9, 'e')] {
            q.put(time, event);
        }
        let taken: String = std::iter::from_fn(|| q.take(5)).map(|(_, e)| e).collect();
        assert_eq!((&taken[..], q.take(8), q.total()), ("abcd", None, 5));
    }
}
