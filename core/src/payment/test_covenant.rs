//! Covenant payments for tests: a funded template, the block that holds its coin,
//! and headers with regtest's work. Built with the `bitcoin` crate.

use super::covenant::CovenantProof;
use super::ctv::ctv_hash;
use super::fee::FeeDistribution;
use super::headers::pow_limit;
use super::merkle::branch;
use super::proof::INSTANT_SETTLEMENT;
use super::terms::Terms;
use crate::id::Network;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode, absolute::LockTime, merkle_tree};
use std::vec::Vec;

/// What a source has funded, before it is in a block.
#[derive(Clone)]
pub(crate) struct Funded {
    template: Transaction,
    funding: Transaction,
}

/// The same in a block.
#[derive(Clone)]
pub(crate) struct Mined {
    /// Header of the block.
    pub(crate) header: [u8; 80],
    /// Its hash, in internal byte order.
    pub(crate) block_hash: [u8; 32],
    /// Its Merkle root, in internal byte order.
    pub(crate) merkle_root: [u8; 32],
    /// As a packet carries it, kind included.
    pub(crate) proof: Vec<u8>,
}

fn transaction(previous_output: OutPoint, output: Vec<TxOut>) -> Transaction {
    let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
    let input = TxIn { previous_output, sequence, ..TxIn::default() };
    let version = bitcoin::transaction::Version::TWO;
    Transaction { version, lock_time: LockTime::ZERO, input: Vec::from([input]), output }
}

impl Funded {
    /// Pays `amount_sat` by the split to `scripts`: the intermediates' in travel
    /// order, the destination's, and the source's if it takes its share. Every
    /// `coin` is another coin.
    pub(crate) fn new(terms: &Terms<'_>, scripts: &[Vec<u8>], amount_sat: u64, coin: u32) -> Self {
        let shares = FeeDistribution::new(amount_sat * 1_000, terms.hops.len()).unwrap();
        let others = shares.intermediates.iter().copied().chain([shares.destination]);
        let mut sat: Vec<u64> = others.map(|msat| msat.div_ceil(1_000)).collect();
        sat.push(amount_sat - sat.iter().sum::<u64>());
        let outputs: Vec<_> = sat.into_iter().zip(scripts.iter().cloned()).collect();
        Self::paying(terms.hash(), &outputs, amount_sat, coin)
    }

    /// Pays these amounts to these scripts, and commits to terms.
    pub(crate) fn paying(
        terms_hash: [u8; 32],
        outputs: &[(u64, Vec<u8>)],
        amount_sat: u64,
        coin: u32,
    ) -> Self {
        let output = |(sat, script): &(u64, Vec<u8>)| TxOut {
            value: Amount::from_sat(*sat),
            script_pubkey: ScriptBuf::from(script.clone()),
        };
        let mut outputs: Vec<TxOut> = outputs.iter().map(output).collect();
        let script_pubkey = ScriptBuf::new_op_return(terms_hash);
        outputs.push(TxOut { value: Amount::ZERO, script_pubkey });
        let mut template = transaction(OutPoint::null(), outputs);
        let hash = ctv_hash(&serialize(&template), 0).unwrap();
        let locked = TxOut {
            value: Amount::from_sat(amount_sat + 3_000),
            script_pubkey: ScriptBuf::from([&[0x20], &hash[..], &[0xb3]].concat()),
        };
        let earlier = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: coin };
        let funding = transaction(earlier, Vec::from([locked]));
        template.input[0].previous_output = OutPoint { txid: funding.compute_txid(), vout: 0 };
        Self { template, funding }
    }

    /// Puts the coin into a block of three transactions that follows `previous`.
    pub(crate) fn mine(&self, previous: [u8; 32], time: u32) -> Mined {
        let mut txids = [[1; 32], [2; 32], self.funding.compute_txid().to_byte_array()];
        let ids = txids.map(Txid::from_byte_array);
        let merkle_root = merkle_tree::calculate_root(ids.into_iter()).unwrap().to_byte_array();
        let (header, block_hash) = mine(previous, merkle_root, time);
        let siblings = branch(&mut txids, 2).unwrap().siblings.concat();
        let proof = CovenantProof {
            output_index: 0,
            template: &serialize(&self.template),
            funding: &serialize(&self.funding),
            block_hash,
            position: 2,
            siblings: &siblings,
        };
        let mut bytes = std::vec![INSTANT_SETTLEMENT; 1 + proof.encoded_len()];
        proof.emit(&mut bytes[1..]).unwrap();
        Mined { header, block_hash, merkle_root, proof: bytes }
    }

    /// The same coin in other words: the template with a witness.
    pub(crate) fn reworded(mut self) -> Self {
        self.template.input[0].witness = Witness::from_slice(&[[9; 70]]);
        self
    }
}

/// A header with regtest's least work and its hash, both in internal byte order.
pub(crate) fn mine(previous: [u8; 32], merkle_root: [u8; 32], time: u32) -> ([u8; 80], [u8; 32]) {
    let mut header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::from_byte_array(previous),
        merkle_root: TxMerkleNode::from_byte_array(merkle_root),
        time,
        bits: CompactTarget::from_consensus(pow_limit(Network::Regtest)),
        nonce: 0,
    };
    while header.validate_pow(header.target()).is_err() {
        header.nonce += 1;
    }
    let bytes = serialize(&header).try_into().unwrap();
    (bytes, header.block_hash().to_byte_array())
}
