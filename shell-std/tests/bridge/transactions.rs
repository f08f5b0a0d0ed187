//! Transactions through a gateway.

use super::program::daemon::{Daemon, text};
use super::world::*;
use bitcoin::Transaction;
use blvm_mesh_tests::bitcoind;
use blvm_mesh_tests::bitcoind::coins::{self, FEE, Kind, Wallet};
use serde_json::json;

#[test]
fn transactions_are_sent_without_a_bitcoin_node_of_ones_own() {
    let Some(program) = bitcoind::find() else { return };
    let mut w = World::new(&program, &[], &[]);
    let wallet = Wallet::new();
    let coins = {
        let mut coins = coins::rewards(&w.far, &wallet);
        coins::grow(&w.far, &wallet, &mut coins, 3);
        coins
    };
    let gateway = w.nodes[1].ready["node_id"].clone();
    let mut send = |tx_hex: String, wait: &str| {
        let params = json!({"tx_hex": tx_hex, "wait": wait, "wait_ms": 60_000});
        w.nodes[2].call("meshsendtx", params)
    };
    let good = pay(&wallet, &coins[0], FEE);
    let sent = send(hex(&good), "accepted").unwrap();
    assert_eq!(sent["state"], "accepted", "{sent}");
    assert_eq!(sent["gateway"], gateway);
    let mempool = w.far.call("getrawmempool", json!([]));
    assert_eq!(mempool, json!([good.compute_txid().to_string()]));

    // What the node refuses, and why.
    let mut later = pay(&wallet, &coins[1], FEE);
    later.lock_time = bitcoin::absolute::LockTime::from_height(1_000_000).unwrap();
    later.input[0].sequence = bitcoin::Sequence::ZERO;
    for (transaction, code, reason) in [
        (pay(&wallet, &coins[1], 0), 0x42, "min relay fee not met"),
        (pay(&wallet, &coins[0], FEE - 1), 0x42, "insufficient fee"),
        (later, 0x40, "non-final"),
    ] {
        let sent = send(hex(&transaction), "accepted").unwrap();
        assert_eq!((&sent["state"], &sent["code"]), (&json!("rejected"), &json!(code)), "{sent}");
        assert!(text(&sent["reason"]).contains(reason), "{sent}");
    }
    let cut = hex(&good)[..100].to_owned();
    let error = send(cut, "accepted").unwrap_err();
    assert!(text(&error["message"]).contains("not a transaction"), "{error}");

    // It is kept over a restart of the sender, and confirmed by a block.
    let dir = w.dir.path().join("client");
    w.nodes.remove(2);
    let client = Daemon::start(&dir, &[&w.nodes[0]], &[]);
    w.nodes.push(client);
    w.far.call("generatetoaddress", json!([1, wallet.address()]));
    let params = json!({"tx_hex": hex(&good), "wait": "confirmed", "wait_ms": 90_000});
    let sent = w.nodes[2].call("meshsendtx", params).unwrap();
    assert_eq!((&sent["state"], &sent["block"]), (&json!("confirmed"), &json!(best(&w.far))));
    let all = w.nodes[2].call("gettransactions", json!({})).unwrap();
    assert_eq!(all.as_array().map(Vec::len), Some(4), "{all}");
}

#[test]
fn a_gateway_without_rpc_takes_transactions_by_p2p() {
    let Some(program) = bitcoind::find() else { return };
    let mut w = World::new(&program, &[], &[]);
    let wallet = Wallet::new();
    let coins = {
        let mut coins = coins::rewards(&w.far, &wallet);
        coins::grow(&w.far, &wallet, &mut coins, 3);
        coins
    };
    let node = format!("bitcoin.node={}", w.far.p2p());
    let dir = w.dir.path().join("gateway");
    w.nodes.remove(1);
    let gateway = Daemon::start(&dir, &[&w.nodes[0]], &[&["--set", &node][..], &FAST].concat());
    w.nodes.insert(1, gateway);
    let gateway = w.nodes[1].ready["node_id"].clone();
    let mut send = |transaction: &Transaction, wait: &str| {
        let params = json!({"tx_hex": hex(transaction), "wait": wait, "wait_ms": 180_000});
        w.nodes[2].call("meshsendtx", params).unwrap()
    };
    let good = pay(&wallet, &coins[0], FEE);
    let sent = send(&good, "accepted");
    assert_eq!((&sent["state"], &sent["gateway"]), (&json!("accepted"), &gateway));
    let mempool = w.far.call("getrawmempool", json!([]));
    assert_eq!(mempool, json!([good.compute_txid().to_string()]));
    w.far.call("generatetoaddress", json!([2, wallet.address()]));
    let sent = send(&good, "confirmed");
    let block = w.far.text("getblockhash", json!([count(&w.far) - 1]));
    assert_eq!((&sent["state"], text(&sent["block"])), (&json!("confirmed"), &*block), "{sent}");
    let sent = send(&pay(&wallet, &coins[1], 0), "accepted");
    assert_eq!(sent["state"], "rejected", "{sent}");
    assert!(text(&sent["reason"]).contains("no reason by P2P"), "{sent}");
}

#[test]
fn what_is_too_large_for_the_way_waits_and_says_so() {
    let Some(program) = bitcoind::find() else { return };
    let mut w = World::new(&program, &[], &[]);
    let wallet = Wallet::new();
    let coin = coins::rewards(&w.far, &wallet).remove(0);
    // The only relay takes packets as small as a board's.
    w.nodes.remove(0);
    let at = w.relay_at.to_string();
    let small = ["--listen-addr", &at, "--set", "limits.max_packet=2048"];
    let relay = w.dir.path().join("relay");
    w.nodes.insert(0, Daemon::start(&relay, &[], &small));
    let each = (coin.value - 10 * FEE) / 100;
    let large = wallet.spend(&[coin], vec![wallet.output(Kind::SegwitV0, each); 100]);
    let params = json!({"tx_hex": hex(&large), "wait": "kept"});
    w.nodes[2].call("meshsendtx", params).unwrap();
    let asked = json!({"txid": large.compute_txid().to_string()});
    let mut sent = json!(null);
    wait("it is not said that the transaction is too large", || {
        sent = w.nodes[2].call("gettransactions", asked.clone()).unwrap()[0].clone();
        sent["reason"].as_str().is_some_and(|reason| reason.contains("the route carries"))
    });
    assert_eq!(sent["state"], "waiting", "{sent}");

    // With another way it goes.
    let wide = Daemon::start(&w.dir.path().join("wide"), &[&w.nodes[1], &w.nodes[2]], &FAST);
    wait("the transaction does not arrive", || {
        w.nodes[2].call("gettransactions", asked.clone()).unwrap()[0]["state"] == "accepted"
    });
    drop(wide);
}
