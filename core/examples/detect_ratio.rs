//! Time of Bitcoin detection as a multiple of one SHA-256 over the same bytes.
//!
//! `cargo run --release -p blvm-mesh-core --example detect_ratio`
//!
//! Budget (DESIGN section 10): at most 1.3 for a message of 1 KiB. Messages that
//! carry headers or blocks hash those too, and stand apart.

use bitcoin::hashes::{Hash, sha256d};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::{DetectedProtocol, MeshMode, PolicyConfig, RoutingPolicyEngine};
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::time::Instant;

/// Rounds of each measurement; the fastest counts.
const ROUNDS: usize = 400;
/// Runs in one round.
const RUNS: u32 = 200;

fn main() {
    let engine =
        RoutingPolicyEngine::new(PolicyConfig::new(MeshMode::PaymentGated, Network::Mainnet));
    println!("{:<34} {:>6} {:>9} {:>9} {:>6}", "message", "bytes", "SHA-256", "detect", "ratio");
    for (name, message) in messages() {
        let detected = engine.detect_protocol(&message);
        assert_ne!(detected, DetectedProtocol::Unknown, "{name}");
        let (mut hash, mut detect) = (f64::MAX, f64::MAX);
        // In turn, so that both see the same machine.
        for _ in 0..ROUNDS {
            hash = hash.min(nanoseconds(|| {
                black_box(Sha256::digest(black_box(&message)));
            }));
            detect = detect.min(nanoseconds(|| {
                black_box(engine.detect_protocol(black_box(&message)));
            }));
        }
        let ratio = detect / hash;
        println!("{name:<34} {:>6} {hash:>7.0}ns {detect:>7.0}ns {ratio:>6.3}", message.len());
    }
}

/// Time of one run.
fn nanoseconds(run: impl Fn()) -> f64 {
    let start = Instant::now();
    (0..RUNS).for_each(|_| run());
    start.elapsed().as_nanos() as f64 / f64::from(RUNS)
}

/// Messages of about 1,024 bytes, and some of other sizes.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let list = |count: u8, each: &[u8]| [&[count][..], &each.repeat(count.into())].concat();
    let inventory = [&[1, 0, 0, 0][..], &[7; 32]].concat();
    let addrv2 = [&[0; 4][..], &[9, 1, 4, 10, 0, 0, 1, 0x20, 0x8d]].concat();
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
    let genesis = bitcoin::consensus::serialize(&genesis);
    let mut headers = vec![1];
    headers.extend(&genesis[..80]);
    headers.push(0);
    let mut bans = vec![0; 1_000];
    bans[0] = 1;
    let version =
        [&70_016u32.to_le_bytes()[..], &[0; 76], &[16], b"/Satoshi:30.0.0/", &[0; 4], &[1]];
    [
        ("tx, 4 P2PKH inputs, 11 outputs", "tx", legacy(4, 11)),
        ("tx, 5 P2WPKH inputs, 7 outputs", "tx", segwit(5, 7)),
        ("tx, 1 input, 29 outputs", "tx", segwit(1, 26)),
        ("inv, 27 entries", "inv", list(27, &inventory)),
        ("addr, 33 entries", "addr", list(33, &[7; 30])),
        ("addrv2, 76 entries", "addrv2", list(76, &addrv2)),
        ("banlist, 1,000 bytes", "banlist", bans),
        ("(verack)", "verack", vec![]),
        ("(ping)", "ping", vec![0; 8]),
        ("(version)", "version", version.concat()),
        ("(tx, 250 bytes)", "tx", segwit(1, 2)),
        ("(tx, 100 kB)", "tx", segwit(500, 1_000)),
        ("(headers, 1 header)", "headers", headers),
        ("(block, genesis)", "block", genesis),
    ]
    .map(|(name, command, payload)| (name, framed(command, &payload)))
    .to_vec()
}

fn framed(command: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = Network::Mainnet.magic().to_vec();
    message.extend(command.as_bytes());
    message.resize(16, 0);
    message.extend((payload.len() as u32).to_le_bytes());
    message.extend(&sha256d::Hash::hash(payload)[..4]);
    message.extend(payload);
    message
}

/// A transaction in the shape that wallets make.
fn transaction(inputs: usize, outputs: usize, script: usize, items: &[usize]) -> Vec<u8> {
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Txid, Witness};
    let items: Vec<_> = items.iter().map(|&size| vec![7; size]).collect();
    let input = TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([5; 32]), vout: 1 },
        script_sig: ScriptBuf::from_bytes(vec![7; script]),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&items),
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

fn legacy(inputs: usize, outputs: usize) -> Vec<u8> {
    transaction(inputs, outputs, 107, &[])
}

fn segwit(inputs: usize, outputs: usize) -> Vec<u8> {
    transaction(inputs, outputs, 0, &[72, 33])
}
