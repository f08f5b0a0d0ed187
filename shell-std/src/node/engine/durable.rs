//! What must be on disk before something else is done: group commit, and the
//! packets and deliveries that wait for it.

use crate::metrics::Histogram;
use crate::node::deliveries::Delivery;
use crate::node::progress::Progress;
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::mesh::{Event, Priority};
use blvm_mesh_core::payment::ledger::Record;
use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Most records in one commit.
const MOST_AT_ONCE: usize = 1024;
/// While more records or bytes wait than this, nothing more is taken in.
const MOST_RECORDS: u64 = 4 * MOST_AT_ONCE as u64;
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// First and longest pause before a commit that failed is tried once more.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often it looks in a pause whether the node stops.
const LOOK: Duration = Duration::from_millis(50);

/// Writes records so that they survive a crash.
pub trait Commit: Send + 'static {
    /// Why they could not be written.
    type Error: Display;

    /// Makes all of these durable, or none. Each has its number. After an error it is called
    /// with the same records until it succeeds; what was written in spite of the error must
    /// not be booked twice.
    ///
    /// # Errors
    /// The store's.
    fn commit(&mut self, records: &[(u64, Record)]) -> Result<(), Self::Error>;
}

/// What the store's thread answers: the number up to which records are durable,
/// or why they cannot be written at present.
pub(crate) type Committed = Result<u64, String>;

/// Commits what comes until the channel is closed: all that waits in one go. What cannot
/// be written is tried again, less and less often, and told once.
pub(crate) fn run(
    mut store: impl Commit,
    took: &Histogram,
    records: smol::channel::Receiver<(u64, Record)>,
    committed: smol::channel::Sender<Committed>,
) {
    let mut batch = Vec::new();
    while let Ok(first) = records.recv_blocking() {
        batch.clear();
        batch.push(first);
        while batch.len() < MOST_AT_ONCE {
            let Ok(more) = records.try_recv() else { break };
            batch.push(more);
        }
        let number = batch.last().map_or(0, |(number, _)| *number);
        let mut pause = RETRY.0;
        let mut told: Option<String> = None;
        while let Err(error) = timed(&mut store, &batch, took) {
            let error = error.to_string();
            match &told {
                None if committed.send_blocking(Err(error.clone())).is_err() => return,
                Some(before) if *before != error => {
                    tracing::error!(error, "the store still cannot be written");
                }
                _ => {}
            }
            if records.is_closed() {
                tracing::error!(error, records = batch.len(), "stopped before these were written");
                return;
            }
            told = Some(error);
            rest(pause, &records);
            pause = (2 * pause).min(RETRY.1);
        }
        if committed.send_blocking(Ok(number)).is_err() {
            return;
        }
    }
}

/// Commits, and notes how long that takes.
fn timed<C: Commit>(
    store: &mut C,
    batch: &[(u64, Record)],
    took: &Histogram,
) -> Result<(), C::Error> {
    let since = Instant::now();
    let done = store.commit(batch);
    took.note(since.elapsed());
    done
}

/// Waits, unless the node stops.
fn rest(pause: Duration, records: &smol::channel::Receiver<(u64, Record)>) {
    let mut left = pause;
    while !left.is_zero() && !records.is_closed() {
        let now = left.min(LOOK);
        std::thread::sleep(now);
        left -= now;
    }
}

/// Something that waits for a record.
#[derive(Debug)]
pub(crate) enum Held {
    /// A packet.
    Packet {
        link: LinkId,
        priority: Priority,
        bytes: Vec<u8>,
        /// Where it is our own: who is told, and what.
        progress: Option<(smol::channel::Sender<Progress>, Progress)>,
    },
    /// A datagram for this node.
    Delivery(Delivery),
    /// News of a payment, whether it is this node's own, and the transaction that settles it, to be broadcast.
    Payment { event: Event, own: bool, settlement: Option<Box<bitcoin::Transaction>> },
}

impl Held {
    fn len(&self) -> usize {
        match self {
            Self::Packet { bytes, .. } => bytes.len(),
            Self::Delivery(delivery) => delivery.payload.len(),
            Self::Payment { .. } => 0,
        }
    }
}

/// The records under way and what waits for them.
#[derive(Debug)]
pub(crate) struct Durable {
    records: smol::channel::Sender<(u64, Record)>,
    given: u64,
    durable: u64,
    commits: u64,
    held: VecDeque<(u64, Held)>,
    bytes: usize,
    /// Records cannot be written at present.
    pub(crate) failed: bool,
}

impl Durable {
    pub(crate) fn new(records: smol::channel::Sender<(u64, Record)>) -> Self {
        Self {
            records,
            given: 0,
            durable: 0,
            commits: 0,
            held: VecDeque::new(),
            bytes: 0,
            failed: false,
        }
    }

    /// Gives a record to the store. The channel is unbounded; [`Self::stalled`]
    /// bounds what is in it.
    pub(crate) fn persist(&mut self, number: u64, record: Record) {
        self.given = number;
        // The store's thread ends only when the node stops.
        let _ = self.records.try_send((number, record));
    }

    /// Whether what carries this number must wait.
    pub(crate) fn must_wait(&self, after: Option<u64>) -> Option<u64> {
        after.filter(|number| *number > self.durable)
    }

    /// Keeps something until the record is durable.
    pub(crate) fn hold(&mut self, after: u64, held: Held) {
        self.bytes += held.len();
        self.held.push_back((after, held));
    }

    /// Whether so much waits that nothing more should be taken in.
    pub(crate) fn stalled(&self) -> bool {
        !self.failed
            && (self.given.saturating_sub(self.durable) > MOST_RECORDS || self.bytes > MOST_BYTES)
    }

    /// Whether anything waits.
    pub(crate) fn waits(&self) -> bool {
        !self.failed && (!self.held.is_empty() || self.given > self.durable)
    }

    /// Commits so far.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Records up to this number are durable: gives out what waited for them.
    pub(crate) fn committed(&mut self, number: u64) -> Vec<Held> {
        self.durable = self.durable.max(number);
        self.commits += 1;
        let mut ready = Vec::new();
        // In order of arrival; what waits for a later record stays.
        for (after, held) in std::mem::take(&mut self.held) {
            if after <= self.durable {
                self.bytes -= held.len();
                ready.push(held);
            } else {
                self.held.push_back((after, held));
            }
        }
        ready
    }

    /// What waits for a record: how many things.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// What waits when the node stops, and will not be done.
    pub(crate) fn give_up(&mut self) -> Vec<Held> {
        self.bytes = 0;
        std::mem::take(&mut self.held).into_iter().map(|(_, held)| held).collect()
    }

    /// Ends the store's thread once it has written what it was given.
    pub(crate) fn close(&self) {
        self.records.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;
    use blvm_mesh_core::policy::DetectedProtocol;
    use std::sync::{Arc, Mutex};

    struct Slow(Arc<Mutex<Vec<usize>>>, usize);

    impl Commit for Slow {
        type Error = &'static str;

        fn commit(&mut self, records: &[(u64, Record)]) -> Result<(), &'static str> {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let mut commits = self.0.lock().unwrap();
            if commits.len() == self.1 {
                commits.push(0);
                return Err("disk full");
            }
            commits.push(records.len());
            Ok(())
        }
    }

    fn delivery(sequence: u64) -> Held {
        Held::Delivery(Delivery {
            source: NodeId([0; 32]),
            sequence,
            protocol: DetectedProtocol::Unknown,
            earned_msat: 0,
            payload: vec![0; 10],
        })
    }

    #[test]
    fn records_that_wait_share_a_commit_and_nothing_is_released_early() {
        let (commits, (tx, rx)) = (Arc::default(), smol::channel::unbounded());
        let (answers, answered) = smol::channel::bounded(8);
        let store = Slow(Arc::clone(&commits), 2);
        let thread = std::thread::spawn(move || run(store, &Histogram::default(), rx, answers));
        let mut durable = Durable::new(tx);
        for number in 1..=10 {
            durable.persist(number, Record::Floor(number));
            durable.hold(number, delivery(number));
        }
        assert_eq!(durable.must_wait(Some(1)), Some(1));
        let mut released = 0;
        while released < 10 {
            let number = answered.recv_blocking().unwrap().unwrap();
            released += durable.committed(number).len() as u64;
            assert_eq!(released, number);
        }
        assert_eq!(durable.must_wait(Some(10)), None);
        assert_eq!((durable.bytes, durable.waits()), (0, false));
        assert!(commits.lock().unwrap().len() <= 2);

        // A commit that fails is done again, with the same records.
        let mut number = 11;
        let error = loop {
            durable.persist(number, Record::Floor(number));
            durable.hold(number, delivery(number));
            match answered.recv_blocking().unwrap() {
                Ok(number) => durable.committed(number).len(),
                Err(error) => break error,
            };
            number += 1;
        };
        assert_eq!((error.as_str(), durable.waiting()), ("disk full", 1));
        let number_then = answered.recv_blocking().unwrap().unwrap();
        assert_eq!((number_then, durable.committed(number).len()), (number, 1));
        drop(durable);
        thread.join().unwrap();
        assert_eq!(commits.lock().unwrap().iter().sum::<usize>() as u64, number);
    }

    #[test]
    fn a_node_that_stops_does_not_wait_for_a_store_that_fails() {
        struct Broken;
        impl Commit for Broken {
            type Error = &'static str;
            fn commit(&mut self, _: &[(u64, Record)]) -> Result<(), &'static str> {
                Err("disk full")
            }
        }
        let ((tx, rx), (answers, answered)) =
            (smol::channel::unbounded(), smol::channel::bounded(8));
        let thread = std::thread::spawn(move || run(Broken, &Histogram::default(), rx, answers));
        let mut durable = Durable::new(tx);
        durable.persist(1, Record::Floor(1));
        durable.hold(1, delivery(1));
        assert_eq!(answered.recv_blocking().unwrap().unwrap_err(), "disk full");
        durable.failed = true;
        assert!(!durable.waits() && !durable.stalled());
        durable.close();
        thread.join().unwrap();
        assert_eq!(durable.give_up().len(), 1);
    }
}
