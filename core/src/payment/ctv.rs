//! The template hash of OP_CHECKTEMPLATEVERIFY (BIP 119), which `bitcoin` does not have.

use super::tx::{TxError, TxView};
use sha2::{Digest, Sha256};

/// The hash that a locking script of BIP 119 commits to, for a serialised
/// transaction (with or without witness) that spends it by its input
/// `input_index`. The index is hashed as it is, present or not, as in the BIP.
///
/// # Errors
/// [`TxError`]: the bytes are no transaction.
pub fn ctv_hash(tx_bytes: &[u8], input_index: u32) -> Result<[u8; 32], TxError> {
    TxView::parse(tx_bytes).map(|tx| template_hash(&tx, input_index))
}

/// As [`ctv_hash`], of a transaction already read (BIP 119,
/// "DefaultCheckTemplateVerifyHash").
pub fn template_hash(tx: &TxView<'_>, input_index: u32) -> [u8; 32] {
    let mut scripts = Sha256::new();
    let mut sequences = Sha256::new();
    let mut has_script = false;
    for input in tx.inputs() {
        has_script |= !input.script_sig.is_empty();
        scripts.update(input.script_sig_field);
        sequences.update(input.sequence.to_le_bytes());
    }
    let mut h = Sha256::new();
    h.update(tx.version().to_le_bytes());
    h.update(tx.lock_time().to_le_bytes());
    if has_script {
        h.update(scripts.finalize());
    }
    h.update(tx.input_count().to_le_bytes());
    h.update(sequences.finalize());
    h.update(tx.output_count().to_le_bytes());
    h.update(Sha256::digest(tx.outputs_field()));
    h.update(input_index.to_le_bytes());
    h.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::tx::strategy::transaction;
    use bitcoin::consensus::{Encodable, serialize};
    use proptest::prelude::*;
    use serde_json::Value;
    use std::vec::Vec;

    #[test]
    fn published_vectors() {
        let Some(text) = crate::test_shared::read("vectors/bip119-ctvhash.json") else { return };
        let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut hashes = 0;
        for case in &cases {
            let tx = hex::decode(case["hex_tx"].as_str().unwrap()).unwrap();
            let indices = case["spend_index"].as_array().unwrap();
            let results = case["result"].as_array().unwrap();
            assert_eq!(indices.len(), results.len());
            for (index, result) in indices.iter().zip(results) {
                let index = u32::try_from(index.as_u64().unwrap()).unwrap();
                let hash = ctv_hash(&tx, index).unwrap();
                assert_eq!(hex::encode(hash), result.as_str().unwrap(), "{}", case["desc"]);
                hashes += 1;
            }
        }
        assert_eq!((cases.len(), hashes), (50, 200));
    }

    /// The BIP's pseudocode over the `bitcoin` crate's transaction.
    fn pseudocode(tx: &bitcoin::Transaction, index: u32) -> [u8; 32] {
        let mut all = Vec::new();
        tx.version.consensus_encode(&mut all).unwrap();
        tx.lock_time.consensus_encode(&mut all).unwrap();
        if tx.input.iter().any(|i| i.script_sig != bitcoin::ScriptBuf::new()) {
            let scripts: Vec<u8> = tx.input.iter().flat_map(|i| serialize(&i.script_sig)).collect();
            all.extend(Sha256::digest(scripts));
        }
        (tx.input.len() as u32).consensus_encode(&mut all).unwrap();
        let sequences: Vec<u8> = tx.input.iter().flat_map(|i| serialize(&i.sequence)).collect();
        all.extend(Sha256::digest(sequences));
        (tx.output.len() as u32).consensus_encode(&mut all).unwrap();
        all.extend(Sha256::digest(tx.output.iter().flat_map(serialize).collect::<Vec<u8>>()));
        index.consensus_encode(&mut all).unwrap();
        Sha256::digest(all).into()
    }

    proptest! {
        /// Also without any scriptSig, which no published vector has.
        #[test]
        fn pseudocode_of_the_bip(mut tx in transaction(), index: u32, bare: bool) {
            if bare {
                tx.input.iter_mut().for_each(|i| i.script_sig = Default::default());
            }
            prop_assert_eq!(ctv_hash(&serialize(&tx), index), Ok(pseudocode(&tx, index)));
        }

        /// Neither witness nor the coins spent are part of a template.
        #[test]
        fn template_leaves_witness_and_outpoints_open(tx in transaction(), txid: [u8; 32]) {
            let before = ctv_hash(&serialize(&tx), 0);
            let mut other = tx.clone();
            for input in &mut other.input {
                input.witness = Default::default();
                input.previous_output.txid = bitcoin::hashes::Hash::from_byte_array(txid);
            }
            prop_assert_eq!(ctv_hash(&serialize(&other), 0), before);
        }
    }
}
