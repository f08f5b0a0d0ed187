//! Everything that two real Bitcoin nodes say to each other goes free, message by message and
//! together.

use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::detect::{Scope, explain};
use blvm_mesh_core::policy::{DetectedProtocol, OwnNetwork};
use blvm_mesh_tests::bitcoind::coins::{self, FEE, Kind, Wallet};
use blvm_mesh_tests::bitcoind::recorder::Recorder;
use blvm_mesh_tests::bitcoind::{self, Bitcoind};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn best(node: &Bitcoind) -> String {
    node.text("getbestblockhash", json!([]))
}

#[test]
fn all_that_two_real_nodes_say_goes_free() {
    let Some(program) = bitcoind::find() else { return };
    let options = [
        "-whitelist=noban,relay,mempool,download@127.0.0.1",
        "-peerblockfilters=1",
        "-blockfilterindex=1",
    ];
    let (far, near) = (Bitcoind::start(&program, &options), Bitcoind::start(&program, &options));
    let wallet = Wallet::new();
    let mut coins = coins::rewards(&far, &wallet);
    coins::grow(&far, &wallet, &mut coins, 120);
    let recorder = Recorder::start(far.p2p());
    near.call("addnode", json!([recorder.address.to_string(), "add"]));
    let in_step = || wait("the nodes do not come to one chain", || best(&far) == best(&near));
    in_step();
    // Both mine in turn, and pay.
    for _ in 0..10 {
        for (here, there) in [(&near, &far), (&far, &near)] {
            let coin = coins.pop().expect("a coin");
            let output = wallet.output(Kind::TaprootKey, coin.value - FEE);
            let payment = wallet.spend(&[coin], vec![output]);
            let id = payment.compute_txid().to_string();
            coins::submit(here, &payment);
            wait("a payment does not come", || {
                let pool = there.call("getrawmempool", json!([]));
                pool.as_array().is_some_and(|pool| pool.iter().any(|one| *one == id))
            });
            here.call("generatetoaddress", json!([1, wallet.address()]));
            in_step();
        }
    }
    // A longer chain wins.
    near.call("setnetworkactive", json!([false]));
    near.call("generatetoaddress", json!([5, wallet.address()]));
    far.call("generatetoaddress", json!([6, wallet.address()]));
    near.call("setnetworkactive", json!([true]));
    near.call("addnode", json!([recorder.address.to_string(), "onetry"]));
    in_step();

    let messages = recorder.messages();
    let own = OwnNetwork::new(Network::Regtest);
    let scope = Scope { own, own_network_only: true, ..Scope::default() };
    let mut table = BTreeMap::<(String, bool), (u32, usize)>::new();
    for message in &messages {
        let found = explain(&message.bytes, scope);
        assert_eq!(found, Ok(DetectedProtocol::BitcoinP2P), "{}", message.command());
        let row = table.entry((message.command().to_owned(), message.from_node)).or_default();
        *row = (row.0 + 1, row.1 + message.bytes.len());
    }
    for few in messages.chunks(5) {
        let together: Vec<u8> = few.iter().flat_map(|message| message.bytes.clone()).collect();
        assert_eq!(explain(&together, scope), Ok(DetectedProtocol::BitcoinP2P));
    }
    for ((command, from_far), (count, bytes)) in &table {
        println!("{command:12} {} {count:6} {bytes:9}", if *from_far { "far " } else { "near" });
    }
    let spoken: Vec<&str> = table.keys().map(|(command, _)| command.as_str()).collect();
    for command in [
        "version",
        "verack",
        "getheaders",
        "headers",
        "getdata",
        "block",
        "inv",
        "tx",
        "ping",
        "pong",
        "sendcmpct",
        "cmpctblock",
        "feefilter",
        "wtxidrelay",
        "sendaddrv2",
    ] {
        assert!(spoken.contains(&command), "nobody has said {command}: {spoken:?}");
    }
}
