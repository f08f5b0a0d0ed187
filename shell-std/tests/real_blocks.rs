//! Blocks of a real Bitcoin node, as large as they can be, fetched from it one after the other
//! as a node that synchronises does, through three nodes with default settings.

mod program;

use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Transaction, Witness};
use blvm_mesh_tests::bitcoind::coins::{self, FEE, Kind, Wallet};
use blvm_mesh_tests::bitcoind::peer::{Log, Manner, Peer};
use blvm_mesh_tests::bitcoind::{self, Bitcoind};
use blvm_mesh_tests::rng::Rng;
use program::daemon::{Daemon, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const BLOCKS: usize = 30;

/// Bytes of witness in each: nearly all that its weight leaves room for (BIP 141).
const WITNESS: usize = 3_997_000;

/// What a neighbour may send for free by default (`limits.free_rate`, `limits.free_burst`).
const FREE_RATE: u64 = 12_500_000;
const FREE_BURST: u64 = 8 * 1024 * 1024;

/// A chain with large blocks on top of it.
fn grow(node: &Bitcoind, peer: &mut Peer) -> Vec<bitcoin::BlockHash> {
    let wallet = Wallet::new();
    node.call("generatetoaddress", json!([101, wallet.address()]));
    let reward = coins::block_at(node, 1).txdata.remove(0);
    let reward = Wallet::coins(&reward, &[Kind::SegwitV0]);
    let kinds = [Kind::Anchor; BLOCKS];
    let fan = kinds.map(|kind| wallet.output(kind, 2 * FEE));
    let fan = wallet.spend(&reward, fan.to_vec());
    let mut bring = |transaction: Transaction| {
        let block = coins::mine(node, vec![transaction]);
        let hash = block.block_hash();
        peer.say(NetworkMessage::Block(block));
        peer.settle();
        assert_eq!(node.text("getbestblockhash", json!([])), hash.to_string());
        hash
    };
    bring(fan.clone());
    let mut rng = Rng::new(4);
    let coins = Wallet::coins(&fan, &kinds);
    coins
        .into_iter()
        .map(|coin| {
            let mut large = wallet.spend(&[coin], vec![wallet.output(Kind::Legacy, FEE)]);
            // Nothing bounds what spends such an output, and nothing packs what is drawn.
            let witness: Vec<u8> =
                (0..WITNESS.div_ceil(8)).flat_map(|_| rng.draw().to_le_bytes()).collect();
            large.input[0].witness = Witness::from_slice(&[witness]);
            bring(large)
        })
        .collect()
}

/// In a debug build the program takes longer over a block than its neighbours wait for it.
#[test]
#[cfg_attr(debug_assertions, ignore = "needs optimised programs")]
fn large_blocks_of_a_real_node_all_arrive() {
    let Some(bitcoind) = bitcoind::find() else { return };
    let node = Bitcoind::start(&bitcoind, &["-whitelist=noban,download@127.0.0.1"]);
    let mut peer = Peer::connect(&node, &Log::default(), &Manner::of_version(70_016));
    let hashes = grow(&node, &mut peer);

    let dir = tempfile::tempdir().unwrap();
    let mut relay = Daemon::start(&dir.path().join("relay"), &[], &[]);
    let mut a = Daemon::start(&dir.path().join("a"), &[&relay], &[]);
    let mut c = Daemon::start(&dir.path().join("c"), &[&relay], &[]);
    let destination = text(&c.ready["node_id"]).to_owned();
    let end = Instant::now() + Duration::from_secs(60);
    while a.call("findroute", json!({"destination": destination})).is_err() {
        assert!(Instant::now() < end, "no route");
        std::thread::sleep(Duration::from_millis(100));
    }

    let receiver = std::thread::spawn(move || {
        let mut came: Vec<Value> = Vec::new();
        let end = Instant::now() + Duration::from_secs(120);
        while came.len() < BLOCKS && Instant::now() < end {
            let some = c.call("meshpollreceived", json!({"max": 1, "wait_ms": 1_000})).unwrap();
            came.extend(some.as_array().expect("a list").iter().cloned());
        }
        came
    });
    let (mut sent, mut no_room) = (Vec::new(), 0);
    let start = Instant::now();
    for hash in hashes {
        peer.say(NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]));
        let hex = hex::encode(&peer.hear("block").bytes);
        assert!(hex.len() > 2 * WITNESS);
        // While somebody waits, what a relay had no allowance left for is sent anew: on a busy
        // machine a block may reach it right behind the one before.
        let send = json!({"destination": destination, "data_hex": hex, "wait_ms": 10_000});
        // Where there is no room here the answer says so, and the same is asked again.
        let fate = loop {
            let error = match a.call("meshsendpacket", send.clone()) {
                Ok(fate) => break fate,
                Err(error) => error,
            };
            no_room += 1;
            let why = error["message"].as_str().unwrap_or_default();
            assert!(why.contains("at the earliest"), "block {}: {error}", sent.len());
            assert!(start.elapsed().as_secs() < 60, "block {}: {error}", sent.len());
            std::thread::sleep(Duration::from_millis(100));
        };
        assert_eq!(fate["stopped"], Value::Null, "block {}", sent.len());
        sent.push(hex);
    }
    let all_sent = start.elapsed();
    let came = receiver.join().unwrap();
    println!("{BLOCKS} blocks taken in {all_sent:.1?}, after {no_room} times without room");
    let all_came = start.elapsed();
    println!("{} arrived in {all_came:.1?}", came.len());
    let refused = relay.call("getstats", json!({})).unwrap()["refused"].take();
    assert_eq!(came.len(), BLOCKS, "the relay refused {refused}");
    // Nobody may have more at once than the burst, and then the rate.
    let bytes = BLOCKS * WITNESS;
    let least = (bytes as u64 - FREE_BURST) as f64 / FREE_RATE as f64;
    assert!(all_came.as_secs_f64() > 0.9 * least, "not paced: {all_came:.1?}, not {least:.1} s");
    for (came, sent) in came.iter().zip(&sent) {
        assert_eq!(came["protocol"], "BitcoinP2P");
        assert!(text(&came["data_hex"]) == sent, "a block arrived changed or out of turn");
    }
}
