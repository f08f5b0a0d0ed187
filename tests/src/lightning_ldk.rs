//! `blvm-mesh-lightning` on a regtest `bitcoind`, for tests: found, started, asked and killed.

use crate::bitcoind::{Bitcoind, PATIENCE};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program: `LIGHTNING_LDK`, or what `tests/real-ldk` built from what `contrib/lightning-ldk` holds
/// now. Without one it is said why nothing can be tested.
///
/// # Panics
/// If `LIGHTNING_LDK` is set and is no file.
pub fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("LIGHTNING_LDK").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "LIGHTNING_LDK is {}, which is no file", path.display());
        return Some(path);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("real-ldk");
    let found = Command::new(script).arg("--cached").output().ok().filter(|o| o.status.success());
    let found = found.and_then(|output| String::from_utf8(output.stdout).ok());
    if found.is_none() {
        println!("SKIPPED: there is no blvm-mesh-lightning; `tests/real-ldk` builds one");
    }
    found.map(|path| PathBuf::from(path.trim()))
}

/// A running service; killed when dropped.
pub struct Lightning {
    process: Child,
    /// Its public key, in hex.
    pub key: String,
    /// Its socket.
    pub socket: PathBuf,
    at: SocketAddr,
}

impl Drop for Lightning {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Lightning {
    /// Starts it in this directory, which is made for it, at a free port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(program: &Path, dir: &Path, chain: &Bitcoind) -> Self {
        // Another process may take the port before the node does.
        let started = (0..3).find_map(|_| Self::try_start(program, dir, chain));
        started.expect("the node ends at once on three ports")
    }

    fn try_start(program: &Path, dir: &Path, chain: &Bitcoind) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = free.local_addr().expect("an address");
        drop(free);
        let password = dir.with_extension("password");
        std::fs::write(&password, "root").expect("a file");
        let mut process = Command::new(program)
            .args(["--network", "regtest", "--bitcoind", &chain.rpc().to_string()])
            .args(["--bitcoind-user", "root", "--bitcoind-password-file"])
            .arg(&password)
            .args(["--listen", &at.to_string(), "--log", "error", "--data-dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        if line.is_empty() {
            let _ = process.wait();
            return None;
        }
        let ready: Value = serde_json::from_str(&line).expect("it starts");
        let text = |name: &str| ready[name].as_str().expect("a text").to_owned();
        Some(Self { process, key: text("node"), socket: text("socket").into(), at })
    }

    /// `KEY@HOST:PORT`.
    pub fn address(&self) -> String {
        format!("{}@{}", self.key, self.at)
    }

    /// The result of a call.
    ///
    /// # Errors
    /// Its error's message.
    ///
    /// # Panics
    /// If it gives no answer.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        let mut stream = UnixStream::connect(&self.socket).expect("it runs");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        writeln!(stream, "{request}").expect("it reads");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("it answers");
        let mut answer: Value = serde_json::from_str(&line).expect("JSON");
        match answer["error"]["message"].as_str() {
            Some(message) => Err(message.to_owned()),
            None => Ok(answer["result"].take()),
        }
    }

    /// A number of the result of a call without parameters.
    ///
    /// # Panics
    /// If there is none.
    pub fn number(&self, method: &str, name: &str) -> u64 {
        let found = self.call(method, json!({})).expect("a result");
        found[name].as_u64().unwrap_or_else(|| panic!("{name} in {found}"))
    }
}

/// Two services with a channel of 1,000,000 sat that can be used, all of it on the side of the first.
///
/// # Panics
/// If it does not come about in time.
pub fn pair(program: &Path, dir: &Path, chain: &Bitcoind) -> [Lightning; 2] {
    let both = ["payer", "payee"].map(|name| Lightning::start(program, &dir.join(name), chain));
    let [payer, payee] = &both;
    // An incoming channel needs a reserve on chain too.
    for (node, blocks) in [(payee, 1), (payer, 101)] {
        let address = node.call("newaddress", json!({})).expect("an address")["address"].take();
        chain.call("generatetoaddress", json!([blocks, address]));
    }
    for node in &both {
        until("money on chain", || node.number("balance", "onchain_spendable_sat") > 2_000_000);
    }
    let open = json!({"node": payee.address(), "amount_sat": 1_000_000});
    payer.call("openchannel", open).expect("a channel");
    let pooled =
        || chain.call("getrawmempool", json!([])).as_array().is_some_and(|t| !t.is_empty());
    until("a funding transaction", pooled);
    let address = payer.call("newaddress", json!({})).expect("an address")["address"].take();
    chain.call("generatetoaddress", json!([6, address]));
    for node in &both {
        until("a usable channel", || node.number("getinfo", "usable_channels") == 1);
    }
    both
}

/// Waits for something that comes about.
///
/// # Panics
/// If it does not in time.
pub fn until(what: &str, mut is_there: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < end, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(50));
    }
}
