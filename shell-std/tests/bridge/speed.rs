//! Much, and over a slow line.

use super::headers;
use super::program::daemon::{Daemon, text};
use super::world::*;
use bitcoin::Transaction;
use blvm_mesh_tests::bitcoind::coins::{self, FEE, Kind, Wallet};
use blvm_mesh_tests::bitcoind::{self, Bitcoind};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Blocks of nearly 4 MB on top of the chain.
fn grow_large(node: &Bitcoind, wallet: &Wallet, blocks: usize) {
    let reward = coins::rewards(node, wallet);
    let kinds = vec![Kind::Anchor; blocks];
    let fan = kinds.iter().map(|kind| wallet.output(*kind, 2 * FEE)).collect();
    let fan = wallet.spend(&reward, fan);
    let bring = |transaction: Transaction| {
        let block = coins::mine(node, vec![transaction]);
        let hex = bitcoin::consensus::encode::serialize_hex(&block);
        assert_eq!(node.call("submitblock", json!([hex])), Value::Null);
    };
    bring(fan.clone());
    for (n, coin) in Wallet::coins(&fan, &kinds).into_iter().enumerate() {
        let mut large = wallet.spend(&[coin], vec![wallet.output(Kind::Legacy, FEE)]);
        // Nothing bounds what spends such an output.
        let witness: Vec<u8> = (0..3_997_000usize).map(|at| ((at * (n + 7)) >> 3) as u8).collect();
        large.input[0].witness = bitcoin::Witness::from_slice(&[witness]);
        bring(large);
    }
}

/// A serial line: what is written at either end comes out at the other, so many bytes a second.
fn line(bytes_per_s: usize) -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let at = [0, 1].map(|n: usize| listeners[n].local_addr().unwrap());
    std::thread::spawn(move || {
        let ends = listeners.map(|listener| listener.accept().unwrap().0);
        let [a, b] = &ends;
        let ways = [(a, b), (b, a)].map(|(from, to)| (from.try_clone(), to.try_clone()));
        for (from, to) in ways {
            let (mut from, mut to) = (from.unwrap(), to.unwrap());
            std::thread::spawn(move || {
                let (mut bytes, mut free) = ([0; 64], Instant::now());
                while let Ok(len @ 1..) = from.read(&mut bytes) {
                    let time = Duration::from_secs_f64(len as f64 / bytes_per_s as f64);
                    free = free.max(Instant::now()) + time;
                    std::thread::sleep(free.saturating_duration_since(Instant::now()));
                    if to.write_all(&bytes[..len]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// What it takes over a line of 115,200 bits a second. In a debug build it is the same, but slow.
#[test]
#[cfg_attr(debug_assertions, ignore = "needs optimised programs")]
fn headers_a_transaction_and_a_block_pass_over_a_serial_line() {
    let Some(program) = bitcoind::find() else { return };
    let known = "-whitelist=noban,relay,mempool,download@127.0.0.1";
    let [far, near] = [(); 2].map(|()| Bitcoind::start(&program, &[known]));
    let wallet = Wallet::new();
    let mut coins = coins::rewards(&far, &wallet);
    coins::grow(&far, &wallet, &mut coins, 9);
    let dir = tempfile::tempdir().unwrap();
    let rest = 2_000 - count(&far);
    far.call("generatetoaddress", json!([rest, wallet.address()]));
    let [here, there] = line(11_520);
    let node = format!("bitcoin.node={}", far.p2p());
    let listen = free_port();
    let serial = format!("serial+tcp://{here}");
    let mut gateway = Daemon::start(
        &dir.path().join("gateway"),
        &[],
        &["--listen-addr", &serial, "--set", &node],
    );
    let peer = format!("{}@serial+tcp://{there}", text(&gateway.ready["public_key"]));
    let bridge = format!("bitcoin.listen={listen}");
    let options = ["--peer", &peer, "--set", &bridge];
    let begun = Instant::now();
    let mut client = Daemon::start(&dir.path().join("client"), &[], &options);
    wait("the headers do not come", || headers(&mut client)["height"] == 2_000);
    let took = begun.elapsed();
    assert_eq!(headers(&mut gateway)["hash"], headers(&mut client)["hash"]);
    println!("2,000 headers in {took:.1?}, the link included");

    let paid = pay(&wallet, &coins.pop().unwrap(), FEE);
    let begun = Instant::now();
    let params = json!({"tx_hex": hex(&paid), "wait": "accepted", "wait_ms": 60_000});
    let sent = client.call("meshsendtx", params).unwrap();
    assert_eq!(sent["state"], "accepted", "{sent}");
    println!("a transaction of {} bytes in {:.1?}", hex(&paid).len() / 2, begun.elapsed());

    // The near node has most of the chain already, and follows over the line.
    near.call("addnode", json!([far.p2p().to_string(), "onetry"]));
    in_step(&far, &near);
    near.call("disconnectnode", json!([far.p2p().to_string()]));
    near.call("addnode", json!([listen.to_string(), "onetry"]));
    wait("the nodes do not greet each other", || {
        let peers = near.call("getpeerinfo", json!([]));
        // The other connection may not have ended yet.
        peers.as_array().unwrap().iter().any(|peer| {
            peer["addr"] == listen.to_string()
                && peer["synced_headers"].as_u64() == Some(count(&far))
        })
    });
    let sent: Vec<_> = coins
        .drain(coins.len() - 20..)
        .map(|coin| pay(&wallet, &coin, FEE))
        .inspect(|paid| coins::submit(&far, paid))
        .map(|paid| Value::from(paid.compute_txid().to_string()))
        .collect();
    wait("transactions do not come", || {
        let there = near.call("getrawmempool", json!([]));
        sent.iter().all(|txid| there.as_array().unwrap().contains(txid))
    });
    let before = client.call("getstats", json!({})).unwrap()["bitcoin"].clone();
    for _ in 0..3 {
        let begun = Instant::now();
        far.call("generatetoaddress", json!([1, wallet.address()]));
        in_step(&far, &near);
        println!("a block in {:.1?}", begun.elapsed());
    }
    let after = client.call("getstats", json!({})).unwrap()["bitcoin"].clone();
    println!("before {before}, after {after}");
}

/// In a debug build nothing is measured by it.
#[test]
#[cfg_attr(debug_assertions, ignore = "needs optimised programs")]
fn a_hundred_megabytes_of_blocks_pass() {
    let Some(program) = bitcoind::find() else { return };
    let mut w = World::new(&program, &[], &[]);
    let blocks = 26;
    grow_large(&w.far, &Wallet::new(), blocks);
    let synced = |node: &Bitcoind| {
        let start = Instant::now();
        wait("the blocks do not come", || {
            std::thread::sleep(Duration::from_millis(5));
            best(node) == best(&w.far)
        });
        start.elapsed()
    };
    let direct = Bitcoind::start(&program, &[]);
    direct.call("addnode", json!([w.far.p2p().to_string(), "onetry"]));
    let by_itself = synced(&direct);
    w.near.call("addnode", json!([w.listen.to_string(), "onetry"]));
    let cpu = w.nodes[0].cpu();
    let through = synced(&w.near);
    let cpu = w.nodes[0].cpu() - cpu;
    let bytes = w.nodes[2].call("getbitcoin", json!({})).unwrap()["connections"][0]["received"]
        ["total"]["bytes"]
        .as_u64();
    assert!(bytes > Some(blocks as u64 * 3_990_000), "{bytes:?}");
    let per_gb = cpu / (bytes.unwrap_or(1) as f64 / 1e9);
    println!(
        "directly {by_itself:.2?}, through the mesh {through:.2?}; relay {per_gb:.2} CPU s/GB"
    );
}
