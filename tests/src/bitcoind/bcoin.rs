//! bcoin, a Bitcoin node by others, on regtest: a full node in memory that keeps to one peer.
//!
//! Segregated witness is never active on its regtest, so its peers must not have it active either
//! (Bitcoin Core: `-testactivationheight=segwit@100000`).

use super::cached;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Where `tests/real-bcoin` puts it, in the cache folder.
const FETCHED: &str = "bcoin-1.0.2/node_modules";

/// The folder with it: `BCOIN`, or what `tests/real-bcoin` fetched. Without one it is said why
/// nothing can be tested.
pub fn find() -> Option<PathBuf> {
    let set = std::env::var_os("BCOIN").filter(|value| !value.is_empty()).map(PathBuf::from);
    let found = set.or_else(|| cached(FETCHED)).filter(|path| path.is_dir());
    if found.is_none() {
        println!("SKIPPED: there is no bcoin; `tests/real-bcoin` fetches it");
    }
    found
}

/// A running node; killed when dropped.
pub struct Bcoin {
    process: Child,
    orders: ChildStdin,
    tip: Arc<Mutex<(u64, String)>>,
}

impl Drop for Bcoin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Bcoin {
    /// Starts a node that connects to this peer.
    ///
    /// # Panics
    /// If there is no `node`.
    pub fn start(modules: &Path, peer: SocketAddr) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bitcoind/bcoin.js");
        let mut process = Command::new("node")
            .args([script, &peer.to_string()])
            .env("NODE_PATH", modules)
            .env("NODE_BACKEND", "js")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let orders = process.stdin.take().expect("it is piped");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let tip = Arc::<Mutex<(u64, String)>>::default();
        let told = tip.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("a line of JSON");
                let height = line["height"].as_u64().expect("a height");
                let hash = line["hash"].as_str().expect("a hash").to_owned();
                *told.lock().expect("no thread has panicked") = (height, hash);
            }
        });
        Self { process, orders, tip }
    }

    /// Height and hash of its best block.
    ///
    /// # Panics
    /// If it has said something else than its tip.
    pub fn tip(&self) -> (u64, String) {
        self.tip.lock().expect("no thread has panicked").clone()
    }

    /// Has it put blocks on top of its chain.
    ///
    /// # Panics
    /// If it is gone.
    pub fn mine(&mut self, blocks: u32) {
        writeln!(self.orders, "mine {blocks}").expect("it listens");
    }
}
