//! Nodes with their modules, and connections between them.

use crate::fake::Node;
use blvm_mesh_module::proto::EventKind;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Starts the module's program as it starts itself.
pub(crate) fn spawn(dir: &Path, socket: &Path, mesh: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = by_node(dir, socket, mesh);
    command.env("BLVM_MESH_NODE_PROCESS", std::process::id().to_string());
    command.envs(variables.iter().copied()).spawn().unwrap()
}

/// Starts the module's program as the node does.
pub(crate) fn by_node(dir: &Path, socket: &Path, mesh: &str) -> Command {
    let data = dir.join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("mesh.toml"), mesh).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_blvm-mesh-module"));
    command
        .env_clear()
        .env("MODULE_NAME", "blvm-mesh")
        .env("MODULE_ID", "blvm-mesh_1")
        .env("SOCKET_PATH", socket)
        .env("DATA_DIR", &data)
        .env("MODULE_CONFIG_NETWORK", "regtest")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

struct Place {
    dir: tempfile::TempDir,
    node: Node,
    module: Child,
    mesh: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.module.kill();
        let _ = self.module.wait();
        self.node.stop();
    }
}

/// The nodes, and the directory of an issuer's key.
pub(crate) struct Net(Vec<Place>, #[expect(dead_code)] Option<tempfile::TempDir>);

impl Net {
    /// So many nodes without connections; `mesh` is what section `[mesh]` of each holds.
    pub(crate) fn start(count: usize, mesh: &str) -> Self {
        let mesh = format!("[mesh]\n{mesh}\n");
        Self((0..count).map(|_| Place::start(&mesh, "0.1.79")).collect(), None)
    }

    /// Open ones of another version.
    pub(crate) fn of_version(count: usize, version: &str) -> Self {
        let place = |_| Place::start("[mesh]\nmode = \"open\"\n", version);
        Self((0..count).map(place).collect(), None)
    }

    /// Two nodes, the first of which writes invoices that both accept.
    pub(crate) fn with_issuer(mesh: &str) -> Self {
        let key = tempfile::tempdir().unwrap();
        let file = key.path().join("issuer.key");
        let issuer = blvm_mesh::issuer::Issuer::load_or_create(&file).unwrap();
        let mesh = format!("[mesh]\n{mesh}\nissuers = [\"{}\"]\n", issuer.public_key());
        let first = format!("issuer_key = \"{}\"\n{mesh}", file.display());
        Self([first, mesh].iter().map(|mesh| Place::start(mesh, "0.1.83")).collect(), Some(key))
    }

    pub(crate) fn node(&self, n: usize) -> &Node {
        &self.0[n].node
    }

    pub(crate) fn is_alive(&mut self, n: usize) -> bool {
        self.0[n].module.try_wait().unwrap().is_none()
    }

    pub(crate) fn call(&self, n: usize, method: &str, params: Value) -> Result<Value, String> {
        self.node(n).until(|state| state.registered);
        let answer = self.node(n).call(method, serde_json::to_vec(&params).unwrap());
        answer.map(|answer| serde_json::from_slice(&answer).unwrap())
    }

    /// Calls until it succeeds: links need a moment.
    pub(crate) fn eventually(&self, n: usize, method: &str, params: Value) -> Value {
        let start = Instant::now();
        loop {
            match self.call(n, method, params.clone()) {
                Ok(answer) => return answer,
                Err(error) => assert!(start.elapsed() < crate::LONG, "{method}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The next datagram that arrives.
    pub(crate) fn poll(&self, n: usize) -> Value {
        let start = Instant::now();
        loop {
            let got = self.call(n, "poll_local_deliveries", json!({ "max": 1 }));
            if let Some(first) = got.ok().and_then(|got| got["deliveries"].get(0).cloned()) {
                return first;
            }
            assert!(start.elapsed() < crate::LONG, "nothing arrives");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends until it arrives: free datagrams are not sent again by themselves.
    pub(crate) fn deliver(&self, from: usize, to: usize, id: &str, text: &str) {
        let (start, data) = (Instant::now(), json!(hex::encode(text)));
        while start.elapsed() < crate::LONG {
            let asked = json!({ "destination": id, "data_hex": data });
            if self.call(from, "send_packet", asked).is_err() {
                continue;
            }
            for _ in 0..40 {
                let got = self.call(to, "poll_local_deliveries", json!({ "max": 9 }));
                let got = got.map_or(json!([]), |got| got["deliveries"].clone());
                if got.as_array().unwrap().iter().any(|one| one["data_hex"] == data) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        panic!("\"{text}\" does not arrive");
    }

    pub(crate) fn eventually_published(&self, n: usize, kind: EventKind) {
        self.node(n).until(|state| state.published.contains(&kind.1));
    }

    pub(crate) fn id(&self, n: usize) -> Value {
        self.call(n, "get_node_id", json!({})).unwrap()
    }

    /// One node connects to another, whose module is among the peers of its own: that one starts
    /// again, with the peer in its configuration.
    pub(crate) fn connect(&mut self, from: usize, to: usize) {
        let key = self.id(to)["public_key"].as_str().unwrap().to_owned();
        let (listens, dials) = (format!("192.0.2.{to}:8333"), format!("192.0.2.{from}:40000"));
        let peers = format!("{{ address = \"{listens}\", node_id_hex = \"{key}\" }}");
        let before = self.node(from).connections();
        let place = &mut self.0[from];
        place.module.kill().unwrap();
        place.module.wait().unwrap();
        let variables = [("MODULE_CONFIG_PEERS", peers.as_str())];
        place.module = spawn(place.dir.path(), place.node.socket(), &place.mesh, &variables);
        self.node(from).until(|state| state.connections > before && state.registered);
        let (a, b) = (self.node(from).clone(), self.node(to).clone());
        let carry = |other: Node, name: String| -> crate::fake::Carry {
            Arc::new(move |_, packet| {
                other.event_packet(&name, &packet);
                true
            })
        };
        b.peer_connected(&dials, carry(a.clone(), listens.clone()));
        a.peer_connected(&listens, carry(b, dials));
    }
}

impl Place {
    fn start(mesh: &str, version: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path(), version);
        let module = spawn(dir.path(), node.socket(), mesh, &[]);
        Self { dir, node, module, mesh: mesh.into() }
    }
}
