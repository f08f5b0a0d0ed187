//! What the built program holds in memory for a thousand connections of attackers.

mod program;

use blvm_mesh::aead::Ring;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{LinkId, Network, NodeId, Standing};
use blvm_mesh_core::link::fragment::{FrameBuilder, Put, Splitter};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::transport::{MAX_BODY, Receiver, Sender};
use blvm_mesh_core::link::{Link, LinkLimits, Step};
use blvm_mesh_core::mesh::{Action, HostMesh, Input};
use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};
use program::program;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use rustix::process::{Resource, getrlimit, setrlimit};
use secp256k1::{Keypair, PublicKey, Secp256k1, SecretKey};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const ATTACKERS: usize = 1_000;
/// What the program may hold, in MiB.
const MOST: u64 = 128;
const PACKET: usize = 60_000;

struct Node {
    child: Child,
    address: SocketAddr,
    public_key: PublicKey,
    data_dir: String,
    _dir: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

impl Node {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("node").to_str().unwrap().to_owned();
        let arguments = ["run", "--json", "--listen-addr", "127.0.0.1:0", "--log", "error"];
        let of_node = ["--network", "regtest", "--mode", "open", "--data-dir", &data_dir];
        let mut program = program();
        program.args(arguments).args(of_node).stdout(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = ready["listen_addr"].as_str().unwrap().parse().unwrap();
        let public_key = ready["public_key"].as_str().unwrap().parse().unwrap();
        Self { child, address, public_key, data_dir, _dir: dir }
    }

    /// Resident memory, in MiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    fn stats(&self) -> serde_json::Value {
        let stats = program().args(["stats", "--json", "--data-dir", &self.data_dir]).output();
        let stats: serde_json::Value = serde_json::from_slice(&stats.unwrap().stdout).unwrap();
        stats["stats"].clone()
    }

    /// The most that it holds while attackers do nothing more for a while.
    fn most_memory(&self, of: &str) -> u64 {
        let most = (0..10).map(|_| {
            std::thread::sleep(Duration::from_millis(100));
            self.memory()
        });
        let most = most.max().unwrap();
        println!("{of}: {most} MiB; {}", self.stats()["connections"]);
        most
    }

    /// A connection from an address of its own.
    fn connect(&self, number: usize) -> TcpStream {
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        // What waits is to wait at the node.
        sockopt::set_socket_recv_buffer_size(&fd, 4096).unwrap();
        let from = Ipv4Addr::new(127, 1 + (number >> 8) as u8, number as u8, 1);
        bind(&fd, &SocketAddrV4::new(from, 0)).unwrap();
        connect(&fd, &self.address).unwrap();
        let stream = TcpStream::from(fd);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }
}

/// Somebody whose key the node knows from the handshake.
struct Attacker {
    stream: TcpStream,
    key: SecretKey,
    sender: Sender<Ring>,
    _receiver: Receiver<Ring>,
    splitter: Splitter,
}

impl Attacker {
    fn new(node: &Node, number: usize) -> Self {
        let mut stream = node.connect(number);
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        let key = SecretKey::from_byte_array(bytes).unwrap();
        let secp = Secp256k1::new();
        let pair = Keypair::from_secret_key(&secp, &key);
        let (mut link, act) =
            Link::<Ring>::initiator(0, LinkLimits::default(), &pair, &pair, &node.public_key);
        stream.write_all(&act).unwrap();
        let mut answer = [0; 50];
        stream.read_exact(&mut answer).unwrap();
        let Step::Established { reply: Some(act), .. } = link.receive(0, &mut answer).unwrap()
        else {
            panic!("no handshake");
        };
        stream.write_all(&act).unwrap();
        let (sender, receiver) = link.split().unwrap();
        Self { stream, key, sender, _receiver: receiver, splitter: Splitter::default() }
    }

    fn id(&self) -> NodeId {
        NodeId::from_public_key(&self.key.public_key(&Secp256k1::new()))
    }

    /// Sends so many bytes of a packet in frames of a body's size at most.
    fn send(&mut self, packet: &[u8], most: usize, body: usize) -> std::io::Result<()> {
        let mut frame = vec![0; body + 34];
        let mut sent = 0;
        while sent < most {
            let mut builder = FrameBuilder::new(&mut frame, MAX_BODY as u16).unwrap();
            let put = self.splitter.put(&mut builder, Lane::Free, packet).unwrap();
            let len = builder.finish();
            self.sender.seal_frame(&mut frame[..len]).unwrap();
            self.stream.write_all(&frame[..len])?;
            sent += len;
            if put == Put::Done {
                break;
            }
        }
        Ok(())
    }

    fn hello(&mut self, node: NodeId) {
        let mut config = Config::host(Network::Regtest);
        config.mode = blvm_mesh_core::config::MeshMode::Open;
        let mut mesh = HostMesh::new(config, self.key, [1; 32]);
        let (link, standing) = (LinkId(1), Standing::Own);
        mesh.handle(
            0,
            Input::PeerConnected { link, peer: node, dialed: true, standing, capabilities: None },
        )
        .unwrap();
        let hello = loop {
            match mesh.poll() {
                Action::Send { packet, .. } => break packet.to_vec(),
                Action::Wait { .. } => panic!("no hello"),
                _ => {}
            }
        };
        self.send(&hello, usize::MAX, 1000).unwrap();
    }

    /// A datagram to another of the node's neighbours.
    fn datagram(&self, node: &Node, to: NodeId, sequence: u64) -> Vec<u8> {
        let hops = [NodeId::from_public_key(&node.public_key).hop()];
        let emit = Emit {
            hop_limit: 1,
            sequence,
            source: self.id(),
            destination: to,
            proof: None,
            form: Form::Plain,
        };
        let head = head_len(1, 0);
        let (mut packet, payload) = (vec![0; PACKET], vec![3; PACKET - head]);
        emit.write(&hops, &payload, &mut packet[..head], |_| [0; 64]).unwrap();
        packet[head..].copy_from_slice(&payload);
        packet
    }
}

#[test]
fn a_thousand_attackers_of_any_kind_get_no_more_than_the_budget() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();

    let node = Node::start();
    let id = NodeId::from_public_key(&node.public_key);
    println!("alone: {} MiB", node.memory());

    let silent: Vec<_> = (0..ATTACKERS).map(|n| node.connect(n)).collect();
    assert!(node.most_memory("silent") < MOST);
    // Whoever means it gets in still.
    let start = Instant::now();
    let mut honest = Attacker::new(&node, 60_000);
    honest.hello(id);
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(silent);

    let shaken: Vec<_> = (0..ATTACKERS).map(|n| Attacker::new(&node, n)).collect();
    assert!(node.most_memory("handshake only") < MOST);
    drop(shaken);
    std::thread::sleep(Duration::from_secs(1));

    // Half of the largest packet, in frames of any size, before the hello and after it.
    let half = vec![0; 2 << 20];
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|n| Attacker::new(&node, n)).collect();
    for attacker in &mut attackers[..100] {
        let _ = attacker.send(&half, 60_000, 60_000);
    }
    assert!(node.most_memory("half a packet before the hello") < MOST);
    drop(attackers);
    std::thread::sleep(Duration::from_secs(1));
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|n| Attacker::new(&node, n)).collect();
    for (n, attacker) in attackers.iter_mut().enumerate() {
        attacker.hello(id);
        let body = if n % 2 == 0 { 60_000 } else { 2_000 };
        // It is closed for it sooner or later.
        let _ = attacker.send(&half, 300_000, body);
    }
    assert!(node.most_memory("half a packet") < MOST);
    drop(attackers);
    std::thread::sleep(Duration::from_secs(1));

    // None reads, and each is sent as much as it takes.
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|n| Attacker::new(&node, n)).collect();
    attackers.iter_mut().for_each(|attacker| attacker.hello(id));
    let ids: Vec<_> = attackers.iter().map(Attacker::id).collect();
    for (n, attacker) in attackers.iter_mut().enumerate() {
        for sequence in 0..5 {
            let packet = attacker.datagram(&node, ids[(n + 1) % ATTACKERS], sequence);
            let _ = attacker.send(&packet, usize::MAX, PACKET);
        }
    }
    assert!(node.most_memory("no reader") < MOST);
    drop(attackers);
    std::thread::sleep(Duration::from_secs(2));
    assert!(node.most_memory("afterwards") < MOST);
    let stats = node.stats();
    // On a slow machine more of the silent ones are late before others come.
    let closed = ["displaced", "late"].map(|what| stats["connections"][what].as_u64().unwrap());
    assert!(closed.iter().sum::<u64>() > 500, "{stats}");
    assert!(stats["connections"]["memory"].as_u64() < Some(1 << 20), "{stats}");
}
