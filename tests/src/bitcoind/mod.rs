//! A real Bitcoin node on regtest, for tests: found, started, asked and ended.
//!
//! [`peer`] speaks the P2P protocol with it, [`recorder`] writes down what two of them say to each
//! other, [`coins`] makes transactions and blocks; [`bcoin`] is a node by others.

pub mod bcoin;
pub mod coins;
pub mod peer;
pub mod recorder;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Most time that one step with the node may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where `tests/real-nodes` puts what it has built, in the cache folder.
const BUILT: &str = "bitcoin-0.4.1/bin/bitcoind";

/// `root:root` in base64, what the node is told to let in on its own loopback address.
const AUTHORIZATION: &str = "Basic cm9vdDpyb290";

/// The program: `BITCOIND`, or one on the path, or what `tests/real-nodes` built. Without one
/// it is said why nothing can be tested.
///
/// # Panics
/// If `BITCOIND` is set and is no file.
pub fn find() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set("BITCOIND") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "BITCOIND is {}, which is no file", path.display());
        return Some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("bitcoind"))
        .chain(cached(BUILT))
        .find(|file| file.is_file());
    if found.is_none() {
        println!("SKIPPED: there is no bitcoind; `tests/real-nodes` builds one");
    }
    found
}

/// What is at a place in the cache folder.
fn cached(place: &str) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = match (set("BLVM_MESH_CACHE"), set("HOME")) {
        (Some(cache), _) => Some(PathBuf::from(cache)),
        (None, home) => home.map(|home| Path::new(&home).join(".cache/blvm-mesh")),
    };
    cache.map(|cache| cache.join(place))
}

/// Two loopback addresses that nobody listens at.
fn free_addresses() -> [SocketAddr; 2] {
    let both = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    both.map(|listener| listener.local_addr().expect("an address"))
}

/// A running node; killed when dropped, also by a test that fails.
pub struct Bitcoind {
    process: Child,
    dir: PathBuf,
    p2p: SocketAddr,
    rpc: SocketAddr,
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Bitcoind {
    /// Starts the program on free ports of the loopback address, with a directory of its own,
    /// and these options besides.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start(program: &Path, options: &[&str]) -> Self {
        // Another process may take a port before the node does.
        let started = (0..3).find_map(|_| Self::try_start(program, options));
        started.expect("the node ends at once on three pairs of ports")
    }

    fn try_start(program: &Path, options: &[&str]) -> Option<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("blvm-mesh-bitcoind-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let [p2p, rpc] = free_addresses();
        let process = Command::new(program)
            .args(["-regtest", "-server", "-listen", "-discover=0", "-dnsseed=0", "-connect=0"])
            .args(["-v2transport=0", "-printtoconsole=0", "-rpcuser=root", "-rpcpassword=root"])
            .arg(format!("-datadir={}", dir.display()))
            .arg(format!("-bind={p2p}"))
            .args([format!("-rpcbind={rpc}"), format!("-rpcport={}", rpc.port())])
            .arg("-rpcallowip=127.0.0.1")
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let mut node = Self { process, dir, p2p, rpc };
        let end = Instant::now() + PATIENCE;
        while node.ask("getblockcount", &json!([])).is_err() {
            if node.process.try_wait().expect("a child").is_some() {
                return None;
            }
            assert!(Instant::now() < end, "the node does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(node)
    }

    /// Where it takes connections of the P2P protocol.
    pub fn p2p(&self) -> SocketAddr {
        self.p2p
    }

    /// Where it takes requests, as `root` with the password `root`.
    pub fn rpc(&self) -> SocketAddr {
        self.rpc
    }

    /// The result of an RPC.
    ///
    /// # Panics
    /// If the node refuses it or is gone.
    pub fn call(&self, method: &str, parameters: Value) -> Value {
        self.ask(method, &parameters).unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// The text that is an RPC's result.
    ///
    /// # Panics
    /// As [`call`](Self::call).
    pub fn text(&self, method: &str, parameters: Value) -> String {
        self.call(method, parameters).as_str().expect("a text").to_owned()
    }

    fn ask(&self, method: &str, parameters: &Value) -> Result<Value, String> {
        let text = |e: std::io::Error| e.to_string();
        let body = json!({"method": method, "params": parameters, "id": 1}).to_string();
        let mut stream = TcpStream::connect_timeout(&self.rpc, PATIENCE).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let length = body.len();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: node\r\nAuthorization: {AUTHORIZATION}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).map_err(text)?;
        stream.write_all(body.as_bytes()).map_err(text)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(text)?;
        let answer = String::from_utf8(answer).map_err(|e| e.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let mut answer: Value = serde_json::from_str(body).map_err(|e| format!("{body}: {e}"))?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(error.to_string()),
        }
    }
}
