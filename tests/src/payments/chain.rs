//! A simulated regtest chain: blocks with real proof of work, in which coins that
//! are locked by a template hash (BIP 119) are confirmed, and reorganisations.

use crate::payments::bank::OwnTerms;
use crate::rng::Rng;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::pow::CompactTarget;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
    Witness, transaction,
};
use blvm_mesh_core::payment::covenant::{CovenantProof, replay_key, terms_script};
use blvm_mesh_core::payment::ctv::ctv_hash;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::merkle::branch;
use blvm_mesh_core::payment::proof::INSTANT_SETTLEMENT;
use blvm_mesh_core::time::{Micros, SECOND};
use std::collections::BTreeMap;

/// The least work of regtest.
const BITS: u32 = 0x207f_ffff;
/// How long a node may not have heard of a reorganisation.
const LATELY: Micros = 15 * SECOND;

/// A coin that pays the parties of one route.
#[derive(Debug, Clone)]
pub struct Coin {
    /// What it pays for.
    pub terms: OwnTerms,
    /// Its replay key.
    pub key: [u8; 32],
    template: Vec<u8>,
    funding: Vec<u8>,
    txid: [u8; 32],
    /// The block that it is in.
    block: Option<[u8; 32]>,
    /// When it was last in a block of the best chain.
    left_at: Micros,
}

#[derive(Debug, Clone)]
struct Block {
    header: [u8; 80],
    merkle_root: [u8; 32],
    time: u32,
    height: u32,
    txids: Vec<[u8; 32]>,
}

/// The chain, and what waits for a block.
#[derive(Debug)]
pub struct Chain {
    rng: Rng,
    blocks: BTreeMap<[u8; 32], Block>,
    /// The best chain: hashes by height.
    best: Vec<[u8; 32]>,
    coins: BTreeMap<[u8; 32], Coin>,
}

/// The script that a party is paid to: one that belongs to nobody.
pub fn payout_script(party: &[u8; 32]) -> [u8; 22] {
    let mut script = [0; 22];
    script[1] = 20;
    script[2..].copy_from_slice(&party[..20]);
    script
}

fn output(sat: u64, script: &[u8]) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::from(script.to_vec()) }
}

fn transaction(spent: OutPoint, output: Vec<TxOut>) -> Transaction {
    let input = TxIn {
        previous_output: spent,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output,
    }
}

impl Chain {
    /// A chain without blocks.
    pub fn new(rng: Rng) -> Self {
        Self { rng, blocks: BTreeMap::new(), best: Vec::new(), coins: BTreeMap::new() }
    }

    /// Makes a coin for these terms that pays the parties, in travel order without
    /// the source, so many satoshi. It waits for a block.
    pub fn fund(&mut self, terms: OwnTerms, parties: &[([u8; 32], u64)], source_sat: u64) -> Coin {
        let mut outputs: Vec<TxOut> =
            parties.iter().map(|(party, sat)| output(*sat, &payout_script(party))).collect();
        outputs.push(output(source_sat, &payout_script(&terms.source.0)));
        outputs.push(output(0, &terms_script(&terms.hash())));
        let sum: u64 = outputs.iter().map(|o| o.value.to_sat()).sum();
        let mut template = transaction(OutPoint::null(), outputs);
        let hash = ctv_hash(&serialize(&template), 0).expect("a template");
        let lock = [&[0x20], &hash[..], &[0xb3]].concat();
        let earlier = OutPoint { txid: Txid::from_byte_array(self.rng.bytes32()), vout: 0 };
        let funding = transaction(earlier, vec![output(sum + 5_000, &lock)]);
        let txid = funding.compute_txid();
        template.input[0].previous_output = OutPoint { txid, vout: 0 };
        let txid = txid.to_byte_array();
        let coin = Coin {
            terms,
            key: replay_key(&txid, 0),
            template: serialize(&template),
            funding: serialize(&funding),
            txid,
            block: None,
            left_at: 0,
        };
        self.coins.insert(coin.key, coin.clone());
        coin
    }

    /// Mines a block with everything that waits.
    pub fn mine(&mut self, unix: u64) -> ([u8; 80], u32) {
        let waiting: Vec<[u8; 32]> =
            self.coins.values().filter(|c| c.block.is_none()).map(|c| c.key).collect();
        let mut txids = vec![self.rng.bytes32()];
        txids.extend(waiting.iter().map(|key| self.coins[key].txid));
        let root = branch(&mut txids.clone(), 0).expect("it is there").root;
        let previous = self.best.last().copied().unwrap_or([0; 32]);
        let mut header = Header {
            version: Version::TWO,
            prev_blockhash: BlockHash::from_byte_array(previous),
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: unix as u32,
            bits: CompactTarget::from_consensus(BITS),
            nonce: 0,
        };
        while header.validate_pow(header.target()).is_err() {
            header.nonce += 1;
        }
        let hash = header.block_hash().to_byte_array();
        let mut bytes = [0; 80];
        bytes.copy_from_slice(&serialize(&header));
        let height = self.best.len() as u32;
        let block = Block { header: bytes, merkle_root: root, time: header.time, height, txids };
        self.blocks.insert(hash, block);
        self.best.push(hash);
        for key in waiting {
            if let Some(coin) = self.coins.get_mut(&key) {
                coin.block = Some(hash);
            }
        }
        (bytes, height)
    }

    /// Replaces the last blocks by one more than they were. Coins that were in them
    /// get into a later one of the new.
    pub fn reorganise(&mut self, depth: usize, now: Micros, unix: u64) -> Vec<([u8; 80], u32)> {
        let depth = depth.min(self.best.len().saturating_sub(1));
        let stale = self.best.split_off(self.best.len() - depth);
        for coin in self.coins.values_mut() {
            if coin.block.is_some_and(|b| stale.contains(&b)) {
                (coin.block, coin.left_at) = (None, now);
            }
        }
        let waiting: Vec<_> = self.coins.values().filter(|c| c.block.is_none()).cloned().collect();
        waiting.iter().for_each(|c| drop(self.coins.remove(&c.key)));
        let mut new: Vec<_> = (0..depth).map(|_| self.mine(unix)).collect();
        waiting.into_iter().for_each(|c| drop(self.coins.insert(c.key, c)));
        new.push(self.mine(unix));
        new
    }

    /// What a node knows of a block.
    pub fn known(&self, hash: &[u8; 32]) -> Option<KnownHeader> {
        let block = self.blocks.get(hash)?;
        let in_best = self.best.get(block.height as usize) == Some(hash);
        let depth = self.best.len() as u32 - block.height.min(self.best.len() as u32);
        Some(KnownHeader {
            merkle_root: block.merkle_root,
            time: block.time,
            confirmations: if in_best { depth } else { 0 },
        })
    }

    /// The time in a block, in seconds since 1970, in whatever chain it is.
    pub fn time_of(&self, hash: &[u8; 32]) -> Option<u64> {
        self.blocks.get(hash).map(|block| block.time.into())
    }

    /// The newest blocks of the best chain, the oldest of them first.
    pub fn newest(&self, count: usize) -> Vec<([u8; 80], u32)> {
        let from = self.best.len().saturating_sub(count);
        let of = |hash: &[u8; 32]| (self.blocks[hash].header, self.blocks[hash].height);
        self.best[from..].iter().map(of).collect()
    }

    /// The proof for a coin, once it is in a block.
    pub fn proof(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        let coin = self.coins.get(key)?;
        let hash = coin.block?;
        let block = self.blocks.get(&hash)?;
        let position = block.txids.iter().position(|t| *t == coin.txid)?;
        let siblings = branch(&mut block.txids.clone(), position)?.siblings.concat();
        let proof = CovenantProof {
            output_index: 0,
            template: &coin.template,
            funding: &coin.funding,
            block_hash: hash,
            position: position as u32,
            siblings: &siblings,
        };
        let mut out = vec![0; 1 + proof.encoded_len()];
        out[0] = INSTANT_SETTLEMENT;
        proof.emit(&mut out[1..]).ok()?;
        Some(out)
    }

    /// Whether a coin is in the best chain, or was until lately.
    pub fn was_confirmed_lately(&self, key: &[u8; 32], now: Micros) -> bool {
        let Some(coin) = self.coins.get(key) else { return false };
        coin.block.is_some() || coin.left_at > 0 && now < coin.left_at + LATELY
    }
}
