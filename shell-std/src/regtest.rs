//! Blocks of one's own on regtest, where the proof of work costs two hashes: for the
//! demonstration and for tests.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};

/// The least work of regtest (`powLimit` in Bitcoin Core's chain parameters).
const EASIEST: u32 = 0x207f_ffff;

/// A transaction that pays `sat` satoshi to a script. What it spends was never there, which
/// only who has the whole chain could tell; `tag` keeps it apart from others.
pub(crate) fn funding(script: ScriptBuf, sat: u64, tag: [u8; 32]) -> Transaction {
    let previous_output = OutPoint { txid: Txid::from_byte_array(tag), vout: 0 };
    transaction(previous_output, script, sat)
}

/// A block with a coinbase and these transactions, mined.
pub(crate) fn mine(previous: BlockHash, transactions: Vec<Transaction>, time: u32) -> Block {
    let coinbase = transaction(OutPoint::null(), ScriptBuf::from(vec![0x51]), 5_000_000_000);
    let header = Header {
        version: BlockVersion::NO_SOFT_FORK_SIGNALLING,
        prev_blockhash: previous,
        merkle_root: TxMerkleNode::all_zeros(),
        time,
        bits: CompactTarget::from_consensus(EASIEST),
        nonce: 0,
    };
    let mut block = Block { header, txdata: vec![coinbase] };
    block.txdata.extend(transactions);
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
    while !block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
    block
}

fn transaction(previous_output: OutPoint, script_pubkey: ScriptBuf, sat: u64) -> Transaction {
    let input = TxIn {
        previous_output,
        // A coinbase's script has from 2 to 100 bytes.
        script_sig: ScriptBuf::from(vec![0x51, 0x51]),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![TxOut { value: Amount::from_sat(sat), script_pubkey }],
    }
}
