//! What must be on disk before something else is done: group commit, and the
//! packets and deliveries that wait for it.

use super::command::Progress;
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::mesh::Priority;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::policy::detect::DetectedProtocol;
use std::collections::VecDeque;
use std::fmt::Display;

/// Most records in one commit.
const MOST_AT_ONCE: usize = 1024;
/// While more records or bytes wait than this, nothing more is taken in.
const MOST_RECORDS: u64 = 4 * MOST_AT_ONCE as u64;
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Writes records so that they survive a crash.
pub trait Commit: Send + 'static {
    /// Why they could not be written.
    type Error: Display;

    /// Makes all of these durable, or none. Each has its number.
    ///
    /// # Errors
    /// The store's.
    fn commit(&mut self, records: &[(u64, Record)]) -> Result<(), Self::Error>;
}

/// What the store's thread answers: the number up to which records are durable,
/// or why none will be from now on.
pub(crate) type Committed = Result<u64, String>;

/// Commits what comes until the channel is closed: all that waits in one go.
/// After an error it commits nothing more.
pub(crate) fn run(
    mut store: impl Commit,
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
        let result = store.commit(&batch).map(|()| number).map_err(|e| e.to_string());
        let failed = result.is_err();
        if committed.send_blocking(result).is_err() || failed {
            break;
        }
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
    Delivery {
        source: NodeId,
        sequence: u64,
        protocol: DetectedProtocol,
        earned_msat: u64,
        payload: Vec<u8>,
    },
}

impl Held {
    fn len(&self) -> usize {
        match self {
            Self::Packet { bytes, .. } => bytes.len(),
            Self::Delivery { payload, .. } => payload.len(),
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
        // The store's thread ends only when it failed, which it has told.
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

    /// The store failed: gives out what will never be done.
    pub(crate) fn fail(&mut self) -> Vec<Held> {
        self.failed = true;
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
    use std::sync::{Arc, Mutex};

    struct Slow(Arc<Mutex<Vec<usize>>>, usize);

    impl Commit for Slow {
        type Error = &'static str;

        fn commit(&mut self, records: &[(u64, Record)]) -> Result<(), &'static str> {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let mut commits = self.0.lock().unwrap();
            if commits.len() >= self.1 {
                return Err("disk full");
            }
            commits.push(records.len());
            Ok(())
        }
    }

    fn delivery(sequence: u64) -> Held {
        Held::Delivery {
            source: NodeId([0; 32]),
            sequence,
            protocol: DetectedProtocol::Unknown,
            earned_msat: 0,
            payload: vec![0; 10],
        }
    }

    #[test]
    fn records_that_wait_share_a_commit_and_nothing_is_released_early() {
        let (commits, (tx, rx)) = (Arc::default(), smol::channel::unbounded());
        let (answers, answered) = smol::channel::bounded(8);
        let store = Slow(Arc::clone(&commits), 2);
        let thread = std::thread::spawn(move || run(store, rx, answers));
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

        durable.persist(11, Record::Floor(11));
        durable.hold(11, delivery(11));
        let error = loop {
            if let Err(error) = answered.recv_blocking().unwrap() {
                break error;
            }
            durable.persist(12, Record::Floor(12));
        };
        assert_eq!(error, "disk full");
        thread.join().unwrap();
        assert!(durable.fail().len() <= 1 && !durable.stalled());
    }
}
