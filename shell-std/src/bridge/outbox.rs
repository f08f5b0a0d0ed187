//! Transactions on their way to a gateway: kept over restarts until they are settled.

use super::Signal;
use super::table::lock;
use super::transaction::{self, Answer};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, Transaction, Txid};
use blvm_mesh_core::id::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, io};

/// Transactions that are not settled, at once.
const MOST_OPEN: usize = 256;
/// Settled ones that are remembered; the oldest go.
const MOST_SETTLED: usize = 256;

/// How far a transaction is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum State {
    /// No gateway has answered yet.
    Waiting,
    /// A gateway's node has taken it.
    Accepted { gateway: NodeId },
    /// A gateway's node refuses it.
    Rejected { gateway: NodeId, code: u8, reason: String },
    /// It is in a block.
    Confirmed {
        gateway: NodeId,
        block: String,
        /// Where this node keeps a chain of headers.
        #[serde(default)]
        height: Option<u32>,
    },
}

impl State {
    /// The word that users and programs see.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
            Self::Confirmed { .. } => "confirmed",
        }
    }

    /// Whether nothing more is done for it.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Confirmed { .. })
    }
}

/// A transaction that this node's user has sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) hex: String,
    /// When it was given, in seconds since 1970.
    pub(crate) since: u64,
    /// How often a gateway was to have it.
    pub(crate) attempts: u32,
    /// Why the last of these did not get it.
    #[serde(skip)]
    pub(crate) held_up: Option<String>,
    #[serde(flatten)]
    pub(crate) state: State,
}

/// Why a transaction is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("{MOST_OPEN} transactions are on their way; wait until some are settled")]
    Full,
    #[error("it cannot be kept: {path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// All of them, each in a file of its own.
#[derive(Debug)]
pub(crate) struct Outbox {
    dir: PathBuf,
    sent: Mutex<BTreeMap<Txid, Sent>>,
    /// Something is to be done.
    pub(crate) changed: Signal,
    /// Something has changed, for all who wait; closed and replaced each time.
    news: Mutex<(smol::channel::Sender<()>, smol::channel::Receiver<()>)>,
}

impl Outbox {
    /// Those of a directory, which need not be there. A file that cannot be read is left alone and
    /// logged.
    pub(crate) fn open(dir: PathBuf) -> Self {
        let mut sent = BTreeMap::new();
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(txid) = name.strip_suffix(".json").and_then(|name| name.parse().ok()) else {
                continue;
            };
            let read = fs::read(&path).map_err(|e| e.to_string());
            match read
                .and_then(|text| serde_json::from_slice::<Sent>(&text).map_err(|e| e.to_string()))
            {
                Ok(one) if transaction::read(&one.hex).is_ok_and(|t| t.compute_txid() == txid) => {
                    sent.insert(txid, one);
                }
                Ok(_) => {
                    tracing::warn!(path = %path.display(), "the file is not about its transaction")
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "cannot be read"),
            }
        }
        let news = Mutex::new(smol::channel::bounded(1));
        Self { dir, sent: Mutex::new(sent), changed: Signal::default(), news }
    }

    /// Takes a transaction to be sent; one that was given before goes on, and one that was refused
    /// is tried again.
    pub(crate) fn put(&self, transaction: &Transaction, unix: u64) -> Result<Txid, NotTaken> {
        let txid = transaction.compute_txid();
        let mut sent = lock(&self.sent);
        // Another gateway is asked than the one that refused it: it may have lied.
        let attempts = match sent.get(&txid) {
            Some(Sent { state: State::Rejected { .. }, attempts, .. }) => *attempts,
            Some(_) => return Ok(txid),
            None => 0,
        };
        if sent.values().filter(|one| !one.state.is_settled()).count() >= MOST_OPEN {
            return Err(NotTaken::Full);
        }
        let new = Sent {
            hex: serialize_hex(transaction),
            since: unix,
            attempts,
            held_up: None,
            state: State::Waiting,
        };
        self.write(&txid, &new)?;
        sent.insert(txid, new);
        drop(sent);
        self.tell();
        Ok(txid)
    }

    fn write(&self, txid: &Txid, sent: &Sent) -> Result<(), NotTaken> {
        let path = self.dir.join(format!("{txid}.json"));
        let written = serde_json::to_vec(sent).map_err(io::Error::from).and_then(|text| {
            crate::private_file::create_dir(&self.dir).map_err(io::Error::other)?;
            crate::private_file::replace(&path, &text)
        });
        written.map_err(|error| NotTaken::Io { path, error })
    }

    fn tell(&self) {
        self.changed.give();
        self.publish();
    }

    /// Wakes all who wait for [`news`](Self::news).
    fn publish(&self) {
        *lock(&self.news) = smol::channel::bounded(1);
    }

    /// Waits until something changes.
    pub(crate) fn news(&self) -> impl Future<Output = ()> + use<> {
        let news = lock(&self.news).1.clone();
        // It is closed when something changes.
        async move { _ = news.recv().await }
    }

    /// A transaction.
    pub(crate) fn get(&self, txid: &Txid) -> Option<Sent> {
        lock(&self.sent).get(txid).cloned()
    }

    /// Those that are not settled, and whether a gateway has taken each.
    pub(crate) fn open_ones(&self) -> BTreeMap<Txid, bool> {
        let sent = lock(&self.sent);
        let open = sent.iter().filter(|(_, one)| !one.state.is_settled());
        open.map(|(txid, one)| (*txid, one.state != State::Waiting)).collect()
    }

    /// All of them, the oldest first.
    pub(crate) fn list(&self) -> Vec<(Txid, Sent)> {
        let mut all: Vec<_> = lock(&self.sent).iter().map(|(id, one)| (*id, one.clone())).collect();
        all.sort_by_key(|(txid, one)| (one.since, *txid));
        all
    }

    /// A gateway was to have it once more.
    pub(crate) fn tried(&self, txid: &Txid) {
        if let Some(one) = lock(&self.sent).get_mut(txid) {
            one.attempts = one.attempts.saturating_add(1);
        }
    }

    /// What keeps it from a gateway; `None`: nothing does.
    pub(crate) fn hold_up(&self, txid: &Txid, why: Option<String>) {
        let mut sent = lock(&self.sent);
        let Some(one) = sent.get_mut(txid) else { return };
        if one.held_up != why {
            one.held_up = why;
            drop(sent);
            self.publish();
        }
    }

    /// A gateway has answered. What one says once is not taken back by another.
    /// `height` is that of the block of a confirmation, where it is known.
    pub(crate) fn answered(
        &self,
        txid: &Txid,
        gateway: NodeId,
        answer: &Answer,
        height: Option<u32>,
    ) {
        let mut sent = lock(&self.sent);
        let Some(one) = sent.get_mut(txid) else { return };
        let state = match (answer, &one.state) {
            (_, State::Confirmed { .. }) | (Answer::Unknown, State::Waiting) => return,
            (Answer::Rejected { .. }, State::Accepted { .. }) => return,
            (Answer::Accepted, State::Accepted { .. }) => return,
            (Answer::Accepted, _) => State::Accepted { gateway },
            // It was evicted, or its block was reorganised out: it is handed over again.
            (Answer::Unknown, _) => State::Waiting,
            (Answer::Rejected { code, reason }, _) => {
                State::Rejected { gateway, code: *code, reason: reason.clone() }
            }
            (Answer::Confirmed { proof }, _) => match transaction::block_of(proof, txid) {
                Some(block) => State::Confirmed { gateway, block: block.to_string(), height },
                None => return,
            },
        };
        one.state = state;
        one.held_up = None;
        if let Err(error) = self.write(txid, one) {
            tracing::warn!(%txid, "{error}");
        }
        tracing::info!(%txid, "a transaction that was sent is {}", one.state.name());
        self.forget_old(&mut sent);
        drop(sent);
        self.tell();
    }

    /// The chain was reorganised from a height on: what was confirmed by a block that is not in it any
    /// more is asked about again.
    pub(crate) fn reorganised(&self, from: u32, is_there: &dyn Fn(&BlockHash) -> bool) {
        let mut sent = lock(&self.sent);
        let mut changed = false;
        for (txid, one) in sent.iter_mut() {
            let State::Confirmed { gateway, block, height: Some(height) } = &one.state else {
                continue;
            };
            if *height < from || block.parse().is_ok_and(|block| is_there(&block)) {
                continue;
            }
            one.state = State::Accepted { gateway: *gateway };
            changed = true;
            tracing::warn!(%txid, "the block of a transaction is not in the chain any more");
            if let Err(error) = self.write(txid, one) {
                tracing::warn!(%txid, "{error}");
            }
        }
        drop(sent);
        if changed {
            self.tell();
        }
    }

    fn forget_old(&self, sent: &mut BTreeMap<Txid, Sent>) {
        let mut settled: Vec<_> = sent
            .iter()
            .filter(|(_, one)| one.state.is_settled())
            .map(|(txid, one)| (one.since, *txid))
            .collect();
        settled.sort();
        let surplus = settled.len().saturating_sub(MOST_SETTLED);
        for (_, txid) in settled.into_iter().take(surplus) {
            sent.remove(&txid);
            let _ = fs::remove_file(self.dir.join(format!("{txid}.json")));
        }
    }

    /// Where they are kept.
    pub(crate) fn directory(data_dir: &Path) -> PathBuf {
        data_dir.join("transactions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: NodeId = NodeId([5; 32]);

    fn transaction(n: u8) -> Transaction {
        transaction::read(&format!(
            "0200000001{}0000000000ffffffff01e803000000000000015100000000",
            hex::encode([n; 32])
        ))
        .unwrap()
    }

    #[test]
    fn what_is_given_is_there_after_a_restart_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = Outbox::directory(dir.path());
        let outbox = Outbox::open(path.clone());
        let one = outbox.put(&transaction(1), 100).unwrap();
        let two = outbox.put(&transaction(2), 50).unwrap();
        outbox.answered(&one, GATEWAY, &Answer::Accepted, None);
        // Half a file of a crash, and one of somebody else.
        fs::write(path.join(format!("{}.json", "ab".repeat(32))), "{\"hex\"").unwrap();
        fs::write(
            path.join(format!("{}.json", "cd".repeat(32))),
            fs::read(path.join(format!("{one}.json"))).unwrap(),
        )
        .unwrap();
        let outbox = Outbox::open(path);
        let states: Vec<_> = outbox.list().into_iter().map(|(id, one)| (id, one.state)).collect();
        assert_eq!(states, [(two, State::Waiting), (one, State::Accepted { gateway: GATEWAY })]);
        outbox.answered(&one, GATEWAY, &Answer::Unknown, None);
        assert_eq!(outbox.get(&one).unwrap().state, State::Waiting, "it is sent again");
    }

    #[test]
    fn an_answer_counts_once_and_a_refused_one_can_be_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path().into());
        let id = outbox.put(&transaction(1), 1).unwrap();
        outbox.tried(&id);
        assert_eq!(outbox.open_ones(), [(id, false)].into());
        let rejected = Answer::Rejected { code: 0x42, reason: "fee".into() };
        outbox.answered(&id, GATEWAY, &rejected, None);
        assert!(outbox.get(&id).unwrap().state.is_settled());
        assert!(outbox.open_ones().is_empty());
        outbox.put(&transaction(1), 2).unwrap();
        let again = outbox.get(&id).unwrap();
        assert_eq!((again.state, again.attempts), (State::Waiting, 1), "another gateway is asked");
        outbox.answered(&id, GATEWAY, &Answer::Accepted, None);
        assert_eq!(outbox.open_ones(), [(id, true)].into());
        outbox.answered(&id, NodeId([6; 32]), &rejected, None);
        assert_eq!(outbox.get(&id).unwrap().state, State::Accepted { gateway: GATEWAY });
        outbox.answered(&id, GATEWAY, &Answer::Confirmed { proof: vec![0; 100] }, None);
        assert_eq!(outbox.get(&id).unwrap().state, State::Accepted { gateway: GATEWAY });
        // Nobody else's.
        outbox.answered(&transaction(9).compute_txid(), GATEWAY, &Answer::Accepted, None);
        assert_eq!(outbox.list().len(), 1);
    }

    #[test]
    fn memory_and_files_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path().into());
        let many = |n: usize| {
            let mut one = transaction(1);
            one.lock_time = bitcoin::absolute::LockTime::from_height(n as u32).unwrap();
            one
        };
        let ids: Vec<_> = (0..MOST_OPEN).map(|n| outbox.put(&many(n), n as u64).unwrap()).collect();
        assert!(matches!(outbox.put(&many(MOST_OPEN), 0), Err(NotTaken::Full)));
        for id in &ids {
            outbox.answered(
                id,
                GATEWAY,
                &Answer::Rejected { code: 1, reason: String::new() },
                None,
            );
        }
        for n in MOST_OPEN..MOST_OPEN + 10 {
            let id = outbox.put(&many(n), n as u64).unwrap();
            outbox.answered(
                &id,
                GATEWAY,
                &Answer::Rejected { code: 1, reason: String::new() },
                None,
            );
        }
        assert_eq!(outbox.list().len(), MOST_SETTLED);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MOST_SETTLED);
        assert!(outbox.get(&ids[9]).is_none() && outbox.get(&ids[10]).is_some());
    }

    #[test]
    fn a_block_that_is_reorganised_out_confirms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(Outbox::directory(dir.path()));
        let block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        let confirmed = |n, height| {
            let id = outbox.put(&transaction(n), 1).unwrap();
            let state = State::Confirmed {
                gateway: GATEWAY,
                block: block.block_hash().to_string(),
                height,
            };
            lock(&outbox.sent).get_mut(&id).unwrap().state = state;
            id
        };
        let [old, gone, unknown] =
            [confirmed(1, Some(9)), confirmed(2, Some(10)), confirmed(3, None)];
        outbox.reorganised(10, &|hash| *hash == block.block_hash());
        assert!(outbox.open_ones().is_empty(), "it is in the new chain, too");
        outbox.reorganised(10, &|_| false);
        assert_eq!(outbox.open_ones().into_iter().collect::<Vec<_>>(), [(gone, true)]);
        let again = Outbox::open(Outbox::directory(dir.path()));
        assert_eq!(again.get(&gone).unwrap().state, State::Accepted { gateway: GATEWAY });
        assert!([old, unknown].iter().all(|id| outbox.get(id).unwrap().state.is_settled()));
    }
}
