//! BIP 119's hash, as its text defines it, over the `bitcoin` crate's transaction.

use bitcoin::Transaction;
use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash, sha256};

/// DefaultCheckTemplateVerifyHash of a transaction at an input.
pub fn template_hash(tx: &Transaction, input_index: u32) -> [u8; 32] {
    let sha = |bytes: &[u8]| sha256::Hash::hash(bytes).to_byte_array();
    let mut all = serialize(&tx.version);
    all.extend(serialize(&tx.lock_time));
    if tx.input.iter().any(|i| !i.script_sig.is_empty()) {
        let scripts: Vec<u8> = tx.input.iter().flat_map(|i| serialize(&i.script_sig)).collect();
        all.extend(sha(&scripts));
    }
    all.extend((tx.input.len() as u32).to_le_bytes());
    let sequences: Vec<u8> = tx.input.iter().flat_map(|i| serialize(&i.sequence)).collect();
    all.extend(sha(&sequences));
    all.extend((tx.output.len() as u32).to_le_bytes());
    let outputs: Vec<u8> = tx.output.iter().flat_map(serialize).collect();
    all.extend(sha(&outputs));
    all.extend(input_index.to_le_bytes());
    sha(&all)
}
