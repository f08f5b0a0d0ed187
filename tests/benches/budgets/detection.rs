//! Detection of Bitcoin messages of about 1 KiB against one SHA-256 of their bytes.

use crate::measure::{Effort, job, line, nanoseconds};
use bitcoin::hashes::Hash;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::{DetectedProtocol, MeshMode, PolicyConfig, RoutingPolicyEngine};
use blvm_mesh_tests::packets::payloads::bitcoin_message;
use sha2::{Digest, Sha256};
use std::hint::black_box;

pub(crate) fn measure(effort: Effort) {
    let engine =
        RoutingPolicyEngine::new(PolicyConfig::new(MeshMode::PaymentGated, Network::Mainnet));
    for (name, message) in messages() {
        assert_ne!(engine.detect_protocol(&message), DetectedProtocol::Unknown, "{name}");
        let detect = job(|| _ = black_box(engine.detect_protocol(black_box(&message))));
        let hash = job(|| _ = black_box(Sha256::digest(black_box(&message))));
        let [detect, hash] = nanoseconds(effort, [detect, hash]);
        let name = format!("detection of {name}, {} bytes", message.len());
        line(&name, detect, "one SHA-256", hash, Some(1.3));
    }
}

/// Messages with as many fields as 1 KiB has room for. Those with headers or blocks
/// hash these too, and are not among them.
fn messages() -> [(&'static str, Vec<u8>); 7] {
    let list = |count: u8, each: &[u8]| [&[count][..], &each.repeat(count.into())].concat();
    let inventory = [&[1, 0, 0, 0][..], &[7; 32]].concat();
    let addrv2 = [&[0; 4][..], &[9, 1, 4, 10, 0, 0, 1, 0x20, 0x8d]].concat();
    let mut bans = vec![0; 1_000];
    bans[0] = 1;
    [
        ("tx, 4 P2PKH inputs, 11 outputs", "tx", transaction(4, 11, 107)),
        ("tx, 5 P2WPKH inputs, 7 outputs", "tx", transaction(5, 7, 0)),
        ("tx, 1 P2WPKH input, 26 outputs", "tx", transaction(1, 26, 0)),
        ("inv, 27 entries", "inv", list(27, &inventory)),
        ("addr, 33 entries", "addr", list(33, &[7; 30])),
        ("addrv2, 76 smallest entries", "addrv2", list(76, &addrv2)),
        ("banlist", "banlist", bans),
    ]
    .map(|(name, command, body)| (name, bitcoin_message(Network::Mainnet, command, &body)))
}

/// A transaction in the shape that wallets make; without scripts in its inputs it has
/// witnesses.
fn transaction(inputs: usize, outputs: usize, script: usize) -> Vec<u8> {
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Txid, Witness};
    let items: &[&[u8]] = if script > 0 { &[] } else { &[&[7; 72], &[7; 33]] };
    let input = TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([5; 32]), vout: 1 },
        script_sig: ScriptBuf::from_bytes(vec![7; script]),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(items),
    };
    let output = TxOut {
        value: Amount::from_sat(10_000),
        script_pubkey: ScriptBuf::from_bytes(vec![7; if script > 0 { 25 } else { 22 }]),
    };
    bitcoin::consensus::serialize(&bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![input; inputs],
        output: vec![output; outputs],
    })
}
