//! Real Bitcoin nodes that reach each other through the mesh, over nodes as users run them.

#[path = "../program/mod.rs"]
mod program;
mod speed;
mod transactions;
mod world;

use blvm_mesh_tests::bitcoind::bcoin::{self, Bcoin};
use blvm_mesh_tests::bitcoind::coins::{self, FEE, Wallet};
use blvm_mesh_tests::bitcoind::{self, Bitcoind};
use program::daemon::{Daemon, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use world::*;

#[test]
fn a_node_syncs_through_the_mesh_and_stays_in_sync() {
    let Some(program) = bitcoind::find() else { return };
    let mut w = World::new(&program, &[], &[]);
    let wallet = Wallet::new();
    let mut coins = coins::rewards(&w.far, &wallet);
    coins::grow(&w.far, &wallet, &mut coins, 199);
    assert_eq!(count(&w.far), 300);
    let start = Instant::now();
    w.join();
    in_step(&w.far, &w.near);
    println!("300 blocks in {:.1?}", start.elapsed());

    // Both mine in turn.
    for _ in 0..3 {
        coins::grow(&w.near, &wallet, &mut coins, 1);
        in_step(&w.near, &w.far);
        coins::grow(&w.far, &wallet, &mut coins, 1);
        in_step(&w.far, &w.near);
    }
    // Transactions go either way.
    let mempool = |node: &Bitcoind| node.call("getrawmempool", json!([])).as_array().unwrap().len();
    for (from, to, count) in [(&w.near, &w.far, 1), (&w.far, &w.near, 500)] {
        let before = mempool(to);
        for coin in coins.drain(coins.len() - count..) {
            coins::submit(from, &pay(&wallet, &coin, FEE));
        }
        wait("transactions do not come", || mempool(to) == before + count);
    }

    let bridged = w.nodes[2].call("getbitcoin", json!({})).unwrap();
    let connection = &bridged["connections"][0];
    assert_eq!(connection["peer"], w.nodes[1].ready["node_id"], "{bridged}");
    assert!(connection["received"]["by_command"]["block"]["messages"].as_u64() >= Some(300));
    assert_eq!(connection["received"]["height"], 300);
    assert_eq!(connection["held_back"], json!({}), "{bridged}");
    let stats = w.nodes[2].call("getstats", json!({})).unwrap()["bitcoin"].clone();
    assert_eq!((&stats["connections"], &stats["held_back"]), (&json!(1), &json!(0)), "{stats}");
    assert!(stats["height"].as_u64() >= Some(300), "{stats}");
    assert!(stats["received"]["bytes"].as_u64() > stats["sent"]["bytes"].as_u64(), "{stats}");

    // Both have a chain of their own, and the longer one wins.
    let apart = |on: bool| w.near.call("setnetworkactive", json!([on]));
    apart(false);
    w.near.call("generatetoaddress", json!([5, wallet.address()]));
    w.far.call("generatetoaddress", json!([6, wallet.address()]));
    assert_ne!(best(&w.near), best(&w.far));
    apart(true);
    w.near.call("addnode", json!([w.listen.to_string(), "onetry"]));
    in_step(&w.far, &w.near);

    // The relay is killed, blocks come meanwhile, and it comes again.
    let before = w.near.call("getpeerinfo", json!([]));
    let ids = |peers: &Value| -> Vec<u64> {
        peers.as_array().unwrap().iter().map(|peer| peer["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&before).len(), 1, "{before}");
    w.nodes.remove(0);
    coins::grow(&w.far, &wallet, &mut coins, 3);
    std::thread::sleep(Duration::from_secs(2));
    w.nodes.insert(0, World::relay(w.dir.path(), w.relay_at));
    in_step(&w.far, &w.near);

    // It is killed again, and the route moves to a fourth node.
    w.nodes.remove(0);
    coins::grow(&w.far, &wallet, &mut coins, 3);
    let fourth = w.dir.path().join("fourth");
    let fourth = Daemon::start(&fourth, &[&w.nodes[0], &w.nodes[1]], &FAST);
    in_step(&w.far, &w.near);
    drop(fourth);
    let now = w.near.call("getpeerinfo", json!([]));
    assert_eq!(ids(&now), ids(&before), "a connection was dropped: {now}");
}

/// The chain of headers that a node has checked.
fn headers(node: &mut Daemon) -> Value {
    node.call("getbitcoin", json!({})).unwrap()["headers"].clone()
}

fn follows(node: &mut Daemon, far: &Bitcoind) {
    let start = Instant::now();
    wait("a node does not follow the headers", || {
        let newest = headers(node);
        newest["height"] == count(far) && newest["hash"] == best(far)
    });
    println!("headers up to {} after {:.1?}", count(far), start.elapsed());
}

#[test]
fn headers_are_followed_and_a_confirmation_lasts_as_long_as_its_block() {
    let Some(program) = bitcoind::find() else { return };
    let mut w = World::new(&program, &[], &[]);
    let wallet = Wallet::new();
    let coins = coins::rewards(&w.far, &wallet);
    w.far.call("generatetoaddress", json!([2_100, wallet.address()]));
    for node in [1, 2] {
        follows(&mut w.nodes[node], &w.far);
    }
    assert_eq!(headers(&mut w.nodes[2])["gateway"], w.nodes[1].ready["node_id"]);
    assert_eq!(headers(&mut w.nodes[1])["gateway"], Value::Null);
    // New blocks are told of.
    for _ in 0..3 {
        w.far.call("generatetoaddress", json!([1, wallet.address()]));
        follows(&mut w.nodes[2], &w.far);
    }

    let paid = pay(&wallet, &coins[0], FEE);
    let send = |node: &mut Daemon, wait: &str| {
        let params = json!({"tx_hex": hex(&paid), "wait": wait, "wait_ms": 90_000});
        node.call("meshsendtx", params).unwrap()
    };
    assert_eq!(send(&mut w.nodes[2], "accepted")["state"], "accepted");
    w.far.call("generatetoaddress", json!([1, wallet.address()]));
    let sent = send(&mut w.nodes[2], "confirmed");
    let place = (sent["height"].as_u64(), sent["confirmations"].as_u64());
    assert_eq!((text(&sent["block"]), place), (&*best(&w.far), (Some(count(&w.far)), Some(1))));

    // Six blocks are replaced by seven without the transaction.
    w.far.call("generatetoaddress", json!([5, wallet.address()]));
    follows(&mut w.nodes[2], &w.far);
    let status = |node: &mut Daemon| node.call("gettransactions", json!({})).unwrap()[0].clone();
    assert_eq!(status(&mut w.nodes[2])["confirmations"], 6);
    w.far.call("invalidateblock", json!([sent["block"]]));
    for _ in 0..7 {
        w.far.call("generateblock", json!([wallet.address(), []]));
    }
    follows(&mut w.nodes[2], &w.far);
    assert_eq!(headers(&mut w.nodes[2])["reorganisations"], 1);
    assert_eq!(status(&mut w.nodes[2])["state"], "accepted");
    w.far.call("generatetoaddress", json!([1, wallet.address()]));
    let sent = send(&mut w.nodes[2], "confirmed");
    assert_eq!((&sent["state"], text(&sent["block"])), (&json!("confirmed"), &*best(&w.far)));

    // What was checked is there after a restart, also without any gateway.
    let tip = headers(&mut w.nodes[2]);
    w.nodes.truncate(1);
    let dir = w.dir.path().join("client");
    let mut alone = Daemon::start(&dir, &[], &["--set", "bitcoin.headers=true"]);
    wait("the headers are not there", || headers(&mut alone)["hash"] == tip["hash"]);
}

#[test]
fn of_two_gateways_the_one_with_most_work_is_believed() {
    let Some(program) = bitcoind::find() else { return };
    let w = World::new(&program, &[], &[]);
    let address = Wallet::new().address();
    w.far.call("generatetoaddress", json!([30, address]));
    // Its node has a chain of its own, in part the same.
    let other = Bitcoind::start(&program, &[]);
    for height in 1..=10 {
        let hash = w.far.text("getblockhash", json!([height]));
        other.call("submitblock", json!([w.far.text("getblock", json!([hash, 0]))]));
    }
    other.call("generatetoaddress", json!([15, Wallet::new().address()]));
    let node = format!("bitcoin.node={}", other.p2p());
    let liar = Daemon::start(
        &w.dir.path().join("liar"),
        &[&w.nodes[0]],
        &[&["--set", &node][..], &FAST].concat(),
    );
    let key = |node: &Daemon| text(&node.ready["public_key"]).to_owned();
    let gateways = format!("bitcoin.gateways={}, {}", key(&liar), key(&w.nodes[1]));
    let dir = w.dir.path().join("follower");
    let mut follower = Daemon::start(&dir, &[&w.nodes[0]], &["--set", &gateways]);
    follows(&mut follower, &w.far);
    w.far.call("generatetoaddress", json!([1, address]));
    follows(&mut follower, &w.far);
}

#[test]
fn another_gateway_is_taken_when_one_is_gone_and_a_greeting_of_version_2_is_declined() {
    let Some(program) = bitcoind::find() else { return };
    let mut w = World::new(&program, &[], &["-v2transport=1"]);
    let wallet = Wallet::new();
    w.far.call("generatetoaddress", json!([20, wallet.address()]));
    w.join();
    in_step(&w.far, &w.near);
    let peers = w.near.call("getpeerinfo", json!([]));
    assert_eq!(peers[0]["transport_protocol_type"], "v1", "{peers}");

    let other = w.gateway("other", &[&w.nodes[0]]);
    w.nodes.push(other);
    w.nodes.remove(1);
    w.far.call("generatetoaddress", json!([3, wallet.address()]));
    // The node at this end notices, and the Bitcoin node connects again.
    let start = Instant::now();
    in_step(&w.far, &w.near);
    println!("another gateway after {:.1?}", start.elapsed());
    let bridged = w.nodes[1].call("getbitcoin", json!({})).unwrap();
    assert_eq!(bridged["connections"][0]["peer"], w.nodes[2].ready["node_id"], "{bridged}");
}

#[test]
fn a_node_by_others_syncs_through_the_mesh_and_mines() {
    let (Some(program), Some(modules)) = (bitcoind::find(), bcoin::find()) else { return };
    let w = World::new(&program, &["-testactivationheight=segwit@100000"], &[]);
    let address = "mkHS9ne12qx9pS9VojpwU5xtRd4T7X7ZUt";
    w.far.call("generatetoaddress", json!([300, address]));
    let mut other = Bcoin::start(&modules, w.listen);
    wait("bcoin does not sync", || other.tip() == (300, best(&w.far)));
    for n in 1..=3 {
        other.mine(1);
        wait("its block does not come", || count(&w.far) == 299 + 2 * n);
        assert_eq!(other.tip().1, best(&w.far));
        w.far.call("generatetoaddress", json!([1, address]));
        wait("a block does not come there", || other.tip() == (300 + 2 * n, best(&w.far)));
    }
}
