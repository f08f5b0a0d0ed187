//! Accepted connections whose other end has not yet proven its key: few from each address prefix,
//! and a bound on all. If there is no place for another, the oldest of the prefix with the most
//! is closed: an honest peer is done within a round trip or two.

use smol::Task;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Such connections of one prefix, so that one owner of addresses cannot take all places.
const MOST_OF_PREFIX: usize = 16;

/// Counts of connections that did not complete their handshakes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Under way now.
    pub(crate) now: usize,
    /// Closed for a newer one of the same prefix.
    pub(crate) of_prefix: u64,
    /// Closed for a newer one when all places were taken.
    pub(crate) of_all: u64,
    /// Closed because they took too long.
    pub(crate) late: u64,
}

/// The unfinished handshakes.
#[derive(Debug)]
pub(crate) struct HalfOpen {
    most: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By age.
    entries: BTreeMap<u64, (u64, Option<Task<()>>)>,
    next: u64,
    counts: Counts,
}

impl HalfOpen {
    /// Has places for `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, table: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection from this prefix in; returns its number, and the connection that has to
    /// go for it, which is closed when the value is dropped.
    pub(crate) fn enter(&self, prefix: u64) -> (u64, Option<Task<()>>) {
        let mut table = self.lock();
        let goes = if table.of(prefix).count() >= MOST_OF_PREFIX {
            table.counts.of_prefix += 1;
            table.of(prefix).next()
        } else if table.entries.len() >= self.most {
            table.counts.of_all += 1;
            table.crowded().and_then(|prefix| table.of(prefix).next())
        } else {
            None
        };
        let gone = goes.and_then(|number| table.entries.remove(&number)?.1);
        let number = table.next;
        table.next += 1;
        table.entries.insert(number, (prefix, None));
        (number, gone)
    }

    /// The task that does the handshake.
    pub(crate) fn attach(&self, number: u64, task: Task<()>) {
        match self.lock().entries.get_mut(&number) {
            Some((_, place)) => *place = Some(task),
            // It was quick.
            None => task.detach(),
        }
    }

    /// The handshake is over, for this reason: too late.
    pub(crate) fn leave(&self, number: u64, late: bool) {
        let mut table = self.lock();
        table.counts.late += u64::from(late);
        if let Some((_, Some(task))) = table.entries.remove(&number) {
            task.detach();
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let table = self.lock();
        Counts { now: table.entries.len(), ..table.counts }
    }
}

impl Table {
    /// Connections of a prefix, the oldest first.
    fn of(&self, prefix: u64) -> impl Iterator<Item = u64> {
        self.entries.iter().filter(move |(_, (p, _))| *p == prefix).map(|(number, _)| *number)
    }

    /// The prefix with the most connections; of several the one with the oldest.
    fn crowded(&self) -> Option<u64> {
        let mut prefixes = BTreeMap::<u64, (usize, std::cmp::Reverse<u64>)>::new();
        for (number, (prefix, _)) in &self.entries {
            prefixes.entry(*prefix).or_insert((0, std::cmp::Reverse(*number))).0 += 1;
        }
        prefixes.into_iter().max_by_key(|(_, rank)| *rank).map(|(prefix, _)| prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_most_crowded_prefix_goes() {
        let half_open = HalfOpen::new(40);
        let prefixes = || -> Vec<u64> {
            half_open.lock().entries.values().map(|(prefix, _)| *prefix).collect()
        };
        // One owner keeps its part, whatever it tries.
        (0..1000).for_each(|_| drop(half_open.enter(1)));
        assert_eq!(prefixes(), [1; MOST_OF_PREFIX]);
        (0..1000).for_each(|_| drop(half_open.enter(2)));
        let (honest, _) = half_open.enter(7);
        // And with many prefixes, one that has a single connection stays.
        for i in 0..1000 {
            half_open.enter(100 + i % 20);
        }
        assert_eq!(prefixes().len(), 40);
        assert!(prefixes().contains(&7));
        half_open.leave(honest, false);
        assert!(!prefixes().contains(&7));
        let Counts { now, of_prefix, of_all, late } = half_open.counts();
        assert_eq!((now, of_prefix, late), (39, 2 * (1000 - MOST_OF_PREFIX as u64), 0));
        assert!(of_all >= 990, "{of_all}");
        // Of equals the oldest goes.
        let half_open = HalfOpen::new(3);
        let numbers: Vec<u64> = (0..4).map(|prefix| half_open.enter(prefix).0).collect();
        assert_eq!(half_open.lock().entries.keys().copied().collect::<Vec<_>>(), numbers[1..]);
    }

    #[test]
    fn a_connection_that_must_go_is_closed() {
        let executor = smol::Executor::new();
        let half_open = HalfOpen::new(1);
        let (open, closed) = smol::channel::bounded::<()>(1);
        let (first, _) = half_open.enter(1);
        half_open.attach(
            first,
            executor.spawn(async move {
                let _ = open.send(()).await;
                std::future::pending().await
            }),
        );
        smol::block_on(executor.run(async {
            assert_eq!(closed.recv().await, Ok(()));
            let (second, gone) = half_open.enter(2);
            assert!(gone.is_some());
            drop(gone);
            assert!(closed.recv().await.is_err(), "its task has ended");
            half_open.leave(second, true);
            half_open.attach(second, executor.spawn(async {}));
        }));
        assert_eq!(half_open.counts(), Counts { now: 0, of_prefix: 0, of_all: 1, late: 1 });
    }
}
