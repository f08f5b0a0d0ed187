//! Blocks and what speaks of them: `block`, `headers`, `merkleblock`,
//! `cmpctblock`, `blocktxn`. Every header brings its proof of work. Where all
//! bytes of a message hang on it, true says that the work counts. The blocks of `bitcoin` own
//! their parts, and its Merkle trees are over all leaves at once: both take an allocator.

use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::transaction::Transaction;
use super::work::{Chain, check_work};
use crate::hash::{double_sha256_parts, parent};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Weight};

type Result<T> = core::result::Result<T, Unrecognised>;

/// Most weight of a block.
const MAX_WEIGHT: usize = Weight::MAX_BLOCK.to_wu() as usize;

/// Most transactions in a block: a transaction that does anything has 60 bytes
/// without its witness, 240 units of weight.
pub(super) const MAX_TRANSACTIONS: u32 = 16_666;

/// Levels of a Merkle tree over [`MAX_TRANSACTIONS`] leaves, leaves included.
const LEVELS: usize = 16;

/// `block`: every byte is bound to the header's work, transactions by the
/// Merkle root and witnesses by the coinbase's commitment.
pub(super) fn check_block(reader: &mut Reader<'_>, chain: Chain) -> Result<bool> {
    let start = *reader;
    let header: &[u8; 80] = reader.array()?;
    let proof = check_work(header, chain, start.at())?;
    let count_at = *reader;
    let count = reader.count(MAX_TRANSACTIONS)?;
    if count == 0 {
        return count_at.fail(Reason::NoTransactions);
    }
    // Header and count are not witness data and weigh four times.
    let mut weight = reader.at().saturating_sub(start.at()).saturating_mul(4);
    let coinbase = Transaction::decode(reader)?;
    coinbase.check()?;
    if !coinbase.is_coinbase() {
        return Err(Reason::CoinbasePlace.at(coinbase.at()));
    }
    weight = weight.saturating_add(coinbase.weight());
    let mut txids = MerkleTree::new();
    let mut wtxids = MerkleTree::new();
    txids.push(coinbase.txid());
    wtxids.push([0; 32]);
    for _ in 1..count {
        let transaction = next_transaction(reader, false)?;
        weight = weight.saturating_add(transaction.weight());
        let txid = transaction.txid();
        txids.push(txid);
        // A coinbase without witness commits to none: the others have none then.
        if coinbase.witness().is_some() {
            let segwit = transaction.witness().is_some();
            wtxids.push(if segwit { transaction.wtxid() } else { txid });
        } else if transaction.witness().is_some() {
            return Err(Reason::WitnessCommitment.at(transaction.at()));
        }
    }
    if weight > MAX_WEIGHT {
        return start.fail(Reason::Weight);
    }
    reader.finish()?;
    let root = txids.root().ok_or(Reason::MerkleDuplicate.at(start.at()))?;
    if root != proof.header.merkle_root.to_byte_array() {
        return Err(Reason::MerkleRoot.at(start.at().saturating_add(36)));
    }
    let Some(witness) = coinbase.witness() else { return Ok(proof.counts) };
    if commits_to(&coinbase, witness, wtxids) {
        Ok(proof.counts)
    } else {
        Err(Reason::WitnessCommitment.at(coinbase.at()))
    }
}

/// BIP 141, "Commitment structure": the last output of this form counts, and
/// the coinbase's witness is one item of 32 bytes.
fn commits_to(coinbase: &Transaction<'_>, witness: &[u8], wtxids: MerkleTree) -> bool {
    const FORM: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    let commitment =
        coinbase.output_scripts().filter_map(|script| script.strip_prefix(&FORM)?.get(..32)).last();
    let [1, 32, reserved @ ..] = witness else { return false };
    match (commitment, wtxids.root()) {
        (Some(commitment), Some(root)) => {
            reserved.len() == 32 && double_sha256_parts(&[&root, reserved]) == commitment
        }
        _ => false,
    }
}

/// `headers`: each meets its own target and follows the one before.
pub(super) fn check_headers(reader: &mut Reader<'_>, chain: Chain) -> Result<bool> {
    let mut previous: Option<BlockHash> = None;
    let mut counts = true;
    for _ in 0..reader.count(2_000)? {
        let at = reader.at();
        let header: &[u8; 80] = reader.array()?;
        let follows = |hash: BlockHash| header.get(4..36) == Some(&hash.to_byte_array());
        if !previous.is_none_or(follows) {
            return Err(Reason::NotContinuous.at(at.saturating_add(4)));
        }
        let proof = check_work(header, chain, at)?;
        previous = Some(proof.hash);
        counts &= proof.counts;
        let count = *reader;
        if reader.u8()? != 0 {
            return count.fail(Reason::Value("transaction count of a header"));
        }
    }
    Ok(counts && previous.is_some())
}

/// `merkleblock` (BIP 37): the branches lead to the root of a worked header.
pub(super) fn check_merkle_block(reader: &mut Reader<'_>, chain: Chain) -> Result<bool> {
    let start = *reader;
    let header: &[u8; 80] = reader.array()?;
    let proof = check_work(header, chain, start.at())?;
    let total_at = *reader;
    let total = reader.u32()?;
    if total == 0 {
        return total_at.fail(Reason::NoTransactions);
    }
    if total > MAX_TRANSACTIONS {
        let (count, limit) = (u64::from(total), MAX_TRANSACTIONS);
        return total_at.fail(Reason::TooMany { count, limit });
    }
    let hash_count = reader.count(total)? as usize;
    let hashes_at = reader.at();
    let hashes = Reader::new(reader.take(hash_count.saturating_mul(32))?, hashes_at);
    // A tree over n leaves has at most 2 n + 15 nodes with their flags.
    let flags = reader.var_bytes_up_to(total.saturating_mul(2).saturating_add(15).div_ceil(8))?;
    let root = partial_root(total, hashes, Flags { bytes: flags, used: 0 }, hashes_at)?;
    if root != proof.header.merkle_root.to_byte_array() {
        return Err(Reason::MerkleRoot.at(start.at().saturating_add(36)));
    }
    Ok(proof.counts)
}

/// `cmpctblock` (BIP 152): worked header, nonce, short ids, prefilled
/// transactions at places that exist.
pub(super) fn check_compact_block(reader: &mut Reader<'_>, chain: Chain) -> Result<()> {
    let start = *reader;
    let header: &[u8; 80] = reader.array()?;
    check_work(header, chain, start.at())?;
    reader.take(8)?;
    let short_ids = reader.count(MAX_TRANSACTIONS)?;
    reader.take((short_ids as usize).saturating_mul(6))?;
    let prefilled = reader.count(MAX_TRANSACTIONS.saturating_sub(short_ids))?;
    let total = short_ids.saturating_add(prefilled);
    if total == 0 {
        return start.fail(Reason::NoTransactions);
    }
    let (mut next, mut weight) = (0u32, 0usize);
    for _ in 0..prefilled {
        let index = read_index(reader, &mut next, total)?;
        weight = weight.saturating_add(next_transaction(reader, index == 0)?.weight());
    }
    if weight > MAX_WEIGHT { start.fail(Reason::Weight) } else { Ok(()) }
}

/// `getblocktxn` (BIP 152): block hash and rising indexes.
pub(super) fn check_get_block_txn(reader: &mut Reader<'_>) -> Result<()> {
    reader.take(32)?;
    let mut next = 0;
    for _ in 0..reader.count(MAX_TRANSACTIONS)? {
        read_index(reader, &mut next, MAX_TRANSACTIONS)?;
    }
    Ok(())
}

/// `blocktxn` (BIP 152): block hash and transactions of that block.
pub(super) fn check_block_txn(reader: &mut Reader<'_>) -> Result<()> {
    let start = *reader;
    reader.take(32)?;
    let mut weight = 0usize;
    for i in 0..reader.count(MAX_TRANSACTIONS)? {
        let transaction = Transaction::decode(reader)?;
        transaction.check()?;
        if transaction.is_coinbase() && i != 0 {
            return Err(Reason::CoinbasePlace.at(transaction.at()));
        }
        weight = weight.saturating_add(transaction.weight());
    }
    if weight > MAX_WEIGHT { start.fail(Reason::Weight) } else { Ok(()) }
}

/// `tx`: one transaction. A coinbase too: it comes after a `merkleblock` that it
/// matches (BIP 37).
pub(super) fn check_tx(reader: &mut Reader<'_>) -> Result<()> {
    let transaction = Transaction::decode(reader)?;
    transaction.check()?;
    if transaction.weight() > MAX_WEIGHT {
        return Err(Reason::Weight.at(transaction.at()));
    }
    Ok(())
}

/// A transaction that keeps the rules and is a coinbase if it must be.
fn next_transaction<'a>(reader: &mut Reader<'a>, coinbase: bool) -> Result<Transaction<'a>> {
    let transaction = Transaction::decode(reader)?;
    transaction.check()?;
    if transaction.is_coinbase() != coinbase {
        return Err(Reason::CoinbasePlace.at(transaction.at()));
    }
    Ok(transaction)
}

/// BIP 152: an index as its distance from `next`, which moves on; under `limit`.
fn read_index(reader: &mut Reader<'_>, next: &mut u32, limit: u32) -> Result<u32> {
    let start = *reader;
    let index = reader.compact_size()?.saturating_add(u64::from(*next));
    match u32::try_from(index) {
        Ok(index) if index < limit => {
            *next = index.saturating_add(1);
            Ok(index)
        }
        _ => start.fail(Reason::Value("transaction index")),
    }
}

/// A Merkle tree that takes its leaves in turn and keeps one hash per level.
struct MerkleTree {
    /// Hash of the complete subtree of 2^level leaves that waits for its
    /// sibling, where `count` has that bit.
    waiting: [[u8; 32]; LEVELS],
    count: u32,
    /// Two siblings were equal, or there were too many leaves.
    broken: bool,
}

impl MerkleTree {
    fn new() -> Self {
        Self { waiting: [[0; 32]; LEVELS], count: 0, broken: false }
    }

    fn push(&mut self, leaf: [u8; 32]) {
        let mut hash = leaf;
        for (level, waiting) in self.waiting.iter_mut().enumerate() {
            if self.count >> level & 1 == 0 {
                *waiting = hash;
                self.count += 1;
                return;
            }
            self.broken |= *waiting == hash;
            hash = parent(waiting, &hash);
        }
        self.broken = true;
    }

    /// The root; `None` if another list of leaves has the same one, or there
    /// are no leaves.
    fn root(&self) -> Option<[u8; 32]> {
        let mut hash: Option<[u8; 32]> = None;
        for (level, waiting) in self.waiting.iter().enumerate() {
            let here = self.count >> level & 1 == 1;
            hash = match (hash, here) {
                (None, false) => None,
                (None, true) if self.count >> level == 1 => Some(*waiting),
                // The last of its level without a sibling is paired with itself.
                (None, true) => Some(parent(waiting, waiting)),
                (Some(right), true) => Some(parent(waiting, &right)),
                (Some(right), false) if self.count >> level == 0 => Some(right),
                (Some(right), false) => Some(parent(&right, &right)),
            };
        }
        hash.filter(|_| !self.broken)
    }
}

/// Bits of a byte string, lowest first.
struct Flags<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl Flags<'_> {
    fn next(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.used / 8)?;
        let bit = byte >> (self.used % 8) & 1 == 1;
        self.used += 1;
        Some(bit)
    }

    /// No byte is unused, and the bits left over in the last one are zero.
    fn finished(&self) -> bool {
        let whole = self.used.div_ceil(8) == self.bytes.len();
        let left = self.bytes.last().map_or(0, |last| match self.used % 8 {
            0 => 0,
            used => last >> used,
        });
        whole && left == 0
    }
}

/// Root of a partial Merkle tree (BIP 37, "Parsing a partial merkle tree").
fn partial_root(
    total: u32,
    mut hashes: Reader<'_>,
    mut flags: Flags<'_>,
    at: usize,
) -> Result<[u8; 32]> {
    let malformed = Reason::Value("partial Merkle tree").at(at);
    let width = |height: u32| total.div_ceil(1 << height);
    let mut top = 0;
    while width(top) > 1 {
        top += 1;
    }
    let mut left = [[0; 32]; LEVELS];
    let (mut height, mut position) = (top, 0u32);
    loop {
        // Down to the next node whose hash is given.
        while flags.next().ok_or(malformed)? && height > 0 {
            height -= 1;
            position *= 2;
        }
        let mut hash: [u8; 32] = *hashes.array().map_err(|_| malformed)?;
        // Up to the next node whose right child is still to be seen.
        loop {
            if height == top {
                let complete = hashes.is_empty() && flags.finished();
                return if complete { Ok(hash) } else { Err(malformed) };
            }
            let sibling = left.get_mut(height as usize).ok_or(malformed)?;
            if position & 1 == 1 {
                if *sibling == hash {
                    return Err(Reason::MerkleDuplicate.at(at));
                }
                hash = parent(sibling, &hash);
            } else if position + 1 < width(height) {
                *sibling = hash;
                position += 1;
                break;
            } else {
                hash = parent(&hash, &hash);
            }
            position /= 2;
            height += 1;
        }
    }
}
