//! The module at real nodes: the published blvm-node, which `tests/real-blvm-node` builds. Without
//! it, and without `BLVM_NODE`, which names such a program, this is skipped.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Generous: the machine may be busy.
const LONG: Duration = Duration::from_secs(120);
/// For the node's RPC.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Real {
    child: Child,
    dir: tempfile::TempDir,
    p2p: u16,
    rpc: u16,
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The node's program, if there is one.
fn program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("BLVM_NODE") {
        return Some(program.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/real-blvm-node");
    let output = Command::new(script).arg("--cached").output().unwrap();
    let path = String::from_utf8(output.stdout).unwrap();
    output.status.success().then(|| path.trim().into())
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Real {
    /// Starts a node with the module, and waits until the node serves it.
    fn start(program: &Path, peers: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let home = at("modules").join("blvm-mesh");
        std::fs::create_dir_all(&home).unwrap();
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("module.toml");
        std::fs::copy(manifest, home.join("module.toml")).unwrap();
        let module = env!("CARGO_BIN_EXE_blvm-mesh-module");
        std::fs::copy(module, home.join("blvm-mesh-module")).unwrap();
        let config = format!(
            "[modules]\nenabled = true\nmodules_dir = {:?}\ndata_dir = {:?}\nsocket_dir = {:?}\n\
             registry_url = \"\"\nenabled_modules = [\"blvm-mesh\"]\n\
             [modules.blvm-mesh]\nmode = \"open\"\nnetwork = \"regtest\"\n{peers}\n\
             [rpc_auth]\nrequired = true\ntokens = [\"{TOKEN}\"]\nadmin_tokens = [\"{TOKEN}\"]\n\
             [storage]\ndatabase_backend = \"redb\"\n",
            at("modules"),
            at("data"),
            at("sockets")
        );
        std::fs::write(at("node.toml"), config).unwrap();
        let (p2p, rpc) = (port(), port());
        let log = std::fs::File::create(at("log")).unwrap();
        let child = Command::new(program)
            .arg(at("node.toml"))
            .arg(at("chain"))
            .arg(format!("127.0.0.1:{p2p}"))
            .arg(format!("127.0.0.1:{rpc}"))
            // It looks for no peers, and does not wait half a minute for them.
            .env("BLVM_SERVE_ONLY", "1")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let real = Self { child, dir, p2p, rpc };
        real.until("Registering API for module: blvm-mesh");
        real.until("the mesh is at the node");
        real
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn until(&self, wanted: &str) {
        let start = Instant::now();
        while !self.log().contains(wanted) {
            assert!(start.elapsed() < LONG, "\"{wanted}\" never came:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Has the node connect to another.
    fn connect(&self, address: &str) {
        let params = json!([address, "add"]);
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "addnode", "params": params });
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.rpc)).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("200 OK"), "{answer}");
    }

    fn public_key(&self) -> String {
        let key = self.dir.path().join("data/blvm-mesh/identity.key");
        blvm_mesh::identity::Identity::load(&key).unwrap().public_key().to_string()
    }
}

#[test]
fn real_nodes_serve_the_module_and_carry_a_link_between_two() {
    let Some(program) = program() else {
        eprintln!("SKIPPED: there is no blvm-node; tests/real-blvm-node builds one");
        return;
    };
    let listens = Real::start(&program, "");
    let address = format!("127.0.0.1:{}", listens.p2p);
    let peer = format!("peers = [\"{}@{address}\"]", listens.public_key());
    let dials = Real::start(&program, &peer);
    dials.connect(&address);
    // Three messages of the handshake went through both nodes, and each proved its key.
    for (node, other) in [(&dials, &listens), (&listens, &dials)] {
        node.until("a link is up");
        assert!(node.log().contains(&other.public_key()));
    }
}
