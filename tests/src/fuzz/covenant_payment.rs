//! Payments by covenant, as a wallet makes them.

use super::ctv::template_hash;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use bitcoin::{absolute::LockTime, transaction::Version};
use blvm_mesh_core::payment::covenant::proof::MAX_PROOF;
use blvm_mesh_core::payment::covenant::{CovenantProof, locking_scripts, replay_key, terms_script};
use blvm_mesh_core::payment::fee::FeeDistribution;
use blvm_mesh_core::payment::merkle::root_of;
use blvm_mesh_core::payment::terms::Terms;

/// What every party is paid to.
pub const PAYOUT: [u8; 22] = *b"\x00\x14payout-of-the-relay-";
/// Somebody else's script.
const CHANGE: [u8; 22] = *b"\x00\x14change-of-the-wallet";
/// Place of the funding transaction in its block, and its siblings there.
const POSITION: u32 = 2;
const SIBLINGS: [u8; 64] = [0xaa; 64];

/// A payment, and what is known of its block.
#[derive(Debug, Clone)]
pub struct CovenantPayment {
    /// The proof, without the byte for its kind.
    pub proof: Vec<u8>,
    /// What it is known by in a replay table.
    pub replay_key: [u8; 32],
    /// Hash of the block that the funding transaction is in.
    pub block_hash: [u8; 32],
    /// That block's Merkle root.
    pub merkle_root: [u8; 32],
}

/// Pays 100,000 satoshi on these terms; one number below 128, one payment.
pub fn pay(terms: &Terms<'_>, number: u8) -> CovenantPayment {
    let output = |sat, script: &[u8]| TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: ScriptBuf::from(script.to_vec()),
    };
    let transaction = |vout, output| Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([number | 0x80; 32]), vout },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }],
        output,
    };
    let shares = FeeDistribution::new(100_000_000, terms.hops.len()).expect("few hops");
    let paid = shares.intermediates.iter().chain([&shares.destination]);
    let sats: Vec<u64> = paid.map(|msat| msat.div_ceil(1_000)).collect();
    let rest = 100_000 - sats.iter().sum::<u64>();
    let mut outputs = vec![output(5_000, &CHANGE)];
    outputs.extend(sats.into_iter().chain([rest]).map(|sat| output(sat, &PAYOUT)));
    // For the terms.
    outputs.push(output(0, &[]));
    let template = serialize(&transaction(1, outputs));
    let funding = serialize(&transaction(3, vec![output(900, &CHANGE), output(106_000, &[])]));
    let block_hash = [number.wrapping_add(1); 32];
    let proof = CovenantProof {
        output_index: 1,
        template: &template,
        funding: &funding,
        block_hash,
        position: POSITION,
        siblings: &SIBLINGS,
    };
    let bytes = locked(&proof, &terms.hash()).expect("whole transactions");
    let proof = CovenantProof::parse(&bytes).expect("written just now");
    let funding: Transaction = deserialize(proof.funding).expect("written just now");
    let txid = funding.compute_txid().to_byte_array();
    let merkle_root = root_of(txid, POSITION, &SIBLINGS).expect("a path");
    CovenantPayment { replay_key: replay_key(&txid, 1), block_hash, merkle_root, proof: bytes }
}

/// The same proof with a funding output that the template's hash locks, spent by
/// the template, and with the terms in its last output if that is empty.
pub fn locked(proof: &CovenantProof<'_>, terms_hash: &[u8; 32]) -> Option<Vec<u8>> {
    let mut template: Transaction = deserialize(proof.template).ok()?;
    let mut funding: Transaction = deserialize(proof.funding).ok()?;
    let last = template.output.last_mut()?;
    if last.script_pubkey.is_empty() {
        last.script_pubkey = ScriptBuf::from(terms_script(terms_hash).to_vec());
    }
    let vout = template.input.first()?.previous_output.vout;
    let (bare, wrapped) = locking_scripts(&template_hash(&template, 0));
    let script = if proof.output_index & 0x100 == 0 { bare } else { wrapped };
    funding.output.get_mut(vout as usize)?.script_pubkey = ScriptBuf::from(script.to_vec());
    let txid = funding.compute_txid();
    template.input.first_mut()?.previous_output = OutPoint { txid, vout };
    let (template, funding) = (serialize(&template), serialize(&funding));
    let mut out = vec![0; MAX_PROOF];
    let output_index = proof.output_index & 0xff;
    let proof = CovenantProof { output_index, template: &template, funding: &funding, ..*proof };
    let len = proof.emit(&mut out).ok()?;
    out.truncate(len);
    Some(out)
}
