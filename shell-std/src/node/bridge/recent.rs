//! Transactions by P2P alone: a node says that it has one by giving it, and in which of its newest
//! blocks one is can be looked up in them.

use super::headers::HeaderSync;
use super::peer::BitcoinPeer;
use crate::bridge::transaction::{Answer, INVALID};
use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::{BlockHash, MerkleBlock, Transaction, Txid};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocks in which a transaction is looked up.
const BLOCKS: u32 = 12;
/// How long it may take until the node has a transaction, and how often it is asked for it. It gives
/// only what it has announced to its peers, some seconds after it came.
const TAKEN: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_secs(2);

/// The newest blocks' transactions.
pub(super) struct Recent {
    peer: Arc<BitcoinPeer>,
    headers: Arc<HeaderSync>,
    /// They are fetched when they are first asked for.
    blocks: smol::lock::Mutex<HashMap<BlockHash, Vec<Txid>>>,
}

impl Recent {
    pub(super) fn new(peer: Arc<BitcoinPeer>, headers: Arc<HeaderSync>) -> Self {
        Self { peer, headers, blocks: smol::lock::Mutex::default() }
    }

    /// Hands the node a transaction. `None`: the node is not there.
    pub(super) async fn submit(&self, transaction: Transaction) -> Option<Answer> {
        let (txid, until) = (transaction.compute_txid(), Instant::now() + TAKEN);
        if !self.peer.hand_over(transaction) {
            return None;
        }
        loop {
            match self.look_up(txid).await? {
                Answer::Unknown if Instant::now() < until => _ = smol::Timer::after(ASK).await,
                Answer::Unknown => {
                    let reason = "the node has not taken it; it gives no reason by P2P".into();
                    return Some(Answer::Rejected { code: INVALID, reason });
                }
                _ => return Some(Answer::Accepted),
            }
        }
    }

    /// Where a transaction is. `None`: the node is not there.
    pub(super) async fn look_up(&self, txid: Txid) -> Option<Answer> {
        if self.peer.has(txid).await? {
            return Some(Answer::Accepted);
        }
        let proof = self.confirmation(&txid).await?;
        Some(proof.map_or(Answer::Unknown, |proof| Answer::Confirmed { proof }))
    }

    /// The proof that a transaction is in one of the newest blocks, if it is. `None`: the node is not
    /// there.
    pub(super) async fn confirmation(&self, txid: &Txid) -> Option<Option<Vec<u8>>> {
        let from = self.headers.height().saturating_sub(BLOCKS - 1);
        let headers: Vec<Header> = self.headers.some(from, BLOCKS as usize);
        let mut blocks = self.blocks.lock().await;
        blocks.retain(|hash, _| headers.iter().any(|header| header.block_hash() == *hash));
        for header in headers {
            let hash = header.block_hash();
            let txids = match blocks.entry(hash) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let block = self.peer.block(hash).await?;
                    new.insert(block.txdata.iter().map(Transaction::compute_txid).collect())
                }
            };
            if !txids.contains(txid) {
                continue;
            }
            let proof =
                MerkleBlock::from_header_txids_with_predicate(&header, txids, |id| id == txid);
            return Some(Some(serialize(&proof)));
        }
        Some(None)
    }
}
