//! Real Bitcoin nodes that reach each other through the mesh, over nodes as users run them.

mod program;

use bitcoin::Transaction;
use blvm_mesh_tests::bitcoind::bcoin::{self, Bcoin};
use blvm_mesh_tests::bitcoind::coins::{self, FEE, Kind, Wallet};
use blvm_mesh_tests::bitcoind::{self, Bitcoind};
use program::daemon::{Daemon, text};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for what is to happen by itself.
const PATIENCE: Duration = Duration::from_secs(240);

/// What neighbours that know each other allow each other.
const FAST: [&str; 4] =
    ["--set", "limits.free_rate=1000000000", "--set", "limits.free_burst=67108864"];

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn count(node: &Bitcoind) -> u64 {
    node.call("getblockcount", json!([])).as_u64().unwrap()
}

fn best(node: &Bitcoind) -> String {
    node.text("getbestblockhash", json!([]))
}

fn in_step(a: &Bitcoind, b: &Bitcoind) {
    wait("the nodes do not come to one chain", || best(a) == best(b));
}

/// A payment of a coin to the wallet itself, with this fee.
fn pay(wallet: &Wallet, coin: &coins::Coin, fee: u64) -> Transaction {
    wallet.spend(std::slice::from_ref(coin), vec![wallet.output(Kind::SegwitV0, coin.value - fee)])
}

fn hex(transaction: &Transaction) -> String {
    bitcoin::consensus::encode::serialize_hex(transaction)
}

/// A far and a near Bitcoin node, and the mesh between them.
struct World {
    far: Bitcoind,
    near: Bitcoind,
    nodes: Vec<Daemon>,
    listen: SocketAddr,
    dir: tempfile::TempDir,
    relay_at: SocketAddr,
}

impl World {
    /// far - gateway - relay - client - near.
    fn new(program: &Path, far_options: &[&str], near_options: &[&str]) -> Self {
        const KNOWN: &str = "-whitelist=noban,relay,mempool,download@127.0.0.1";
        let far = Bitcoind::start(program, &[&[KNOWN], far_options].concat());
        let near = Bitcoind::start(program, &[&[KNOWN], near_options].concat());
        let dir = tempfile::tempdir().unwrap();
        let relay_at = free_port();
        let relay = Self::relay(dir.path(), relay_at);
        let listen = free_port();
        let mut w = Self { far, near, nodes: Vec::new(), listen, dir, relay_at };
        let gateway = w.gateway("gateway", &[&relay]);
        let listen = format!("bitcoin.listen={listen}");
        let dir = w.dir.path().join("client");
        let client = Daemon::start(&dir, &[&relay], &[&["--set", &listen][..], &FAST].concat());
        w.nodes = vec![relay, gateway, client];
        w
    }

    /// Another gateway to the far node, which has links to these.
    fn gateway(&self, name: &str, peers: &[&Daemon]) -> Daemon {
        let node = format!("bitcoin.node={}", self.far.p2p());
        let rpc = format!("chain.rpc_url=http://{}", self.far.rpc());
        let (user, password) = ("chain.rpc_user=root", "chain.rpc_password=root");
        let options = ["--set", &node, "--set", &rpc, "--set", user, "--set", password];
        let options = [&options[..], &FAST].concat();
        Daemon::start(&self.dir.path().join(name), peers, &options)
    }

    fn relay(dir: &Path, at: SocketAddr) -> Daemon {
        let at = at.to_string();
        Daemon::start(&dir.join("relay"), &[], &[&["--listen-addr", &at][..], &FAST].concat())
    }

    fn join(&self) {
        self.near.call("addnode", json!([self.listen.to_string(), "add"]));
    }
}

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
        near.call("getpeerinfo", json!([]))[0]["synced_headers"].as_u64() == Some(count(&far))
    });
    let mempool = |node: &Bitcoind| node.call("getrawmempool", json!([])).as_array().unwrap().len();
    for coin in coins.drain(coins.len() - 20..) {
        coins::submit(&far, &pay(&wallet, &coin, FEE));
    }
    wait("transactions do not come", || mempool(&near) == 20);
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
