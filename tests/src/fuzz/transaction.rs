//! The view of a transaction against the `bitcoin` crate, and its template hash
//! against BIP 119 written down once more.

use super::ctv::template_hash;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Witness};
use blvm_mesh_core::payment::ctv::ctv_hash;
use blvm_mesh_core::payment::tx::TxView;

/// The same is accepted and read, but what has no input or no output.
pub fn target(data: &[u8]) -> bool {
    let oracle = deserialize::<Transaction>(data).ok();
    let oracle = oracle.filter(|tx| !tx.input.is_empty() && !tx.output.is_empty());
    let ours = TxView::parse(data);
    assert_eq!(ours.is_ok(), oracle.is_some(), "{ours:?}");
    let (Ok(ours), Some(oracle)) = (ours, oracle) else { return false };
    assert_eq!(ours.version(), oracle.version.0 as u32);
    assert_eq!(ours.lock_time(), oracle.lock_time.to_consensus_u32());
    assert_eq!(ours.txid(), oracle.compute_txid().to_byte_array());
    assert_eq!(ours.input_count() as usize, oracle.input.len());
    assert_eq!(ours.output_count() as usize, oracle.output.len());
    assert_eq!(ours.inputs().count(), oracle.input.len());
    assert_eq!(ours.outputs().count(), oracle.output.len());
    for (a, b) in ours.inputs().zip(&oracle.input) {
        assert_eq!(a.prev_txid, b.previous_output.txid.to_byte_array());
        assert_eq!(a.prev_vout, b.previous_output.vout);
        assert_eq!(a.script_sig, b.script_sig.as_bytes());
        assert_eq!(a.sequence, b.sequence.0);
    }
    for (a, b) in ours.outputs().zip(&oracle.output) {
        assert_eq!(a.value, b.value.to_sat());
        assert_eq!(a.script_pubkey, b.script_pubkey.as_bytes());
    }
    for index in [0, 1, u32::MAX] {
        assert_eq!(ctv_hash(data, index), Ok(template_hash(&oracle, index)));
    }
    let mut stripped = oracle;
    stripped.input.iter_mut().for_each(|i| i.witness = Witness::new());
    let expected = serialize(&stripped);
    let mut out = vec![0; ours.stripped_len()];
    assert_eq!(ours.write_stripped(&mut out), Some(expected.len()));
    assert_eq!(out, expected);
    assert_eq!(ours.write_stripped(&mut out[1..]), None);
    true
}
