//! A far and a near Bitcoin node, and the mesh between them.

use super::program::daemon::Daemon;
use bitcoin::Transaction;
use blvm_mesh_tests::bitcoind::Bitcoind;
use blvm_mesh_tests::bitcoind::coins::{self, Kind, Wallet};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for what is to happen by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// What neighbours that know each other allow each other.
pub(crate) const FAST: [&str; 4] =
    ["--set", "limits.free_rate=1000000000", "--set", "limits.free_burst=67108864"];

pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) fn count(node: &Bitcoind) -> u64 {
    node.call("getblockcount", json!([])).as_u64().unwrap()
}

pub(crate) fn best(node: &Bitcoind) -> String {
    node.text("getbestblockhash", json!([]))
}

pub(crate) fn in_step(a: &Bitcoind, b: &Bitcoind) {
    wait("the nodes do not come to one chain", || best(a) == best(b));
}

/// A payment of a coin to the wallet itself, with this fee.
pub(crate) fn pay(wallet: &Wallet, coin: &coins::Coin, fee: u64) -> Transaction {
    wallet.spend(std::slice::from_ref(coin), vec![wallet.output(Kind::SegwitV0, coin.value - fee)])
}

pub(crate) fn hex(transaction: &Transaction) -> String {
    bitcoin::consensus::encode::serialize_hex(transaction)
}

/// A far and a near Bitcoin node, and the mesh between them.
pub(crate) struct World {
    pub(crate) far: Bitcoind,
    pub(crate) near: Bitcoind,
    pub(crate) nodes: Vec<Daemon>,
    pub(crate) listen: SocketAddr,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) relay_at: SocketAddr,
}

impl World {
    /// far - gateway - relay - client - near.
    pub(crate) fn new(program: &Path, far_options: &[&str], near_options: &[&str]) -> Self {
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
    pub(crate) fn gateway(&self, name: &str, peers: &[&Daemon]) -> Daemon {
        let node = format!("bitcoin.node={}", self.far.p2p());
        let rpc = format!("chain.rpc_url=http://{}", self.far.rpc());
        let (user, password) = ("chain.rpc_user=root", "chain.rpc_password=root");
        let options = ["--set", &node, "--set", &rpc, "--set", user, "--set", password];
        let options = [&options[..], &FAST].concat();
        Daemon::start(&self.dir.path().join(name), peers, &options)
    }

    pub(crate) fn relay(dir: &Path, at: SocketAddr) -> Daemon {
        let at = at.to_string();
        Daemon::start(&dir.join("relay"), &[], &[&["--listen-addr", &at][..], &FAST].concat())
    }

    pub(crate) fn join(&self) {
        self.near.call("addnode", json!([self.listen.to_string(), "add"]));
    }
}
