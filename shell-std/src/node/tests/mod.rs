//! Real nodes in one process, on loopback ports that the system gives.

mod asked;
mod bridge;
mod busy;
mod covenant;
mod early;
mod events;
mod flows;
mod full;
mod large;
mod memory;
mod methods;
mod operate;
mod outcome;
mod paid;
mod prepay;
mod probes;
mod purchases;
mod quotes;
mod radio;
mod receipts;
mod sales;
mod self_paid;
mod serial;
mod slow;

use super::*;
use crate::address::{HostPort, PeerAddress, Place};
use crate::config::Shell as ShellSettings;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::mesh::{Input, MeshError, NetworkReason, PaymentReason};
use blvm_mesh_core::policy::DetectedProtocol;
use blvm_mesh_core::policy::mode::MeshMode;
use blvm_mesh_core::wire::route_error::Cause;
use engine::shell;
use smol::Async;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Long enough for a loaded machine; tests do not wait for it where all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// A disk in memory.
#[derive(Clone, Default)]
struct Disk {
    records: Arc<Mutex<Vec<Record>>>,
    broken: Arc<AtomicBool>,
    slow: Arc<AtomicBool>,
}

impl Commit for Disk {
    type Error = &'static str;

    fn commit(&mut self, records: &[(u64, Record)]) -> Result<(), &'static str> {
        while self.slow.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.broken.load(Ordering::SeqCst) {
            return Err("disk full");
        }
        self.records.lock().unwrap().extend(records.iter().map(|(_, record)| *record));
        Ok(())
    }
}

struct Bed {
    executor: Arc<Executor<'static>>,
}

impl Bed {
    /// Runs a test with its nodes on two threads.
    fn run<F: Future<Output = ()>>(test: impl FnOnce(Self) -> F) {
        let executor = Arc::new(Executor::new());
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (executor, stopped) = (executor.clone(), stopped.clone());
                std::thread::spawn(move || smol::block_on(executor.run(stopped.recv())))
            })
            .collect();
        smol::block_on(test(Self { executor }));
        drop(stop);
        threads.into_iter().for_each(|thread| {
            let _ = thread.join().unwrap();
        });
    }

    fn start(&self, key: u8, mode: MeshMode, peers: &[&Node]) -> Node {
        self.start_with(key, mode, peers, Disk::default(), |_| {})
    }

    fn start_with(
        &self,
        key: u8,
        mode: MeshMode,
        peers: &[&Node],
        disk: Disk,
        change: impl FnOnce(&mut Settings),
    ) -> Node {
        let mut settings = settings(mode);
        settings.peers = peers.iter().map(|node| address(node)).collect();
        change(&mut settings);
        let remembered: Vec<Record> = disk.records.lock().unwrap().clone();
        let remembered = remembered.into_iter().map(Ok::<_, String>);
        Node::start(&settings, &secret(key), disk, remembered, None, None, &self.executor).unwrap()
    }
}

fn secret(key: u8) -> SecretKey {
    SecretKey::from_byte_array([key; 32]).unwrap()
}

fn address(node: &Node) -> PeerAddress {
    let at = node.handle().listen_addr().unwrap();
    PeerAddress {
        public_key: node.handle().public_key(),
        place: Place::Tcp(HostPort { host: at.ip().to_string(), port: at.port() }.into()),
    }
}

pub(super) fn settings(mode: MeshMode) -> Settings {
    let mut config = Config::host(Network::Regtest);
    // Who accepts a link is as likely to pay over it as who dials.
    config.strangers_relay_paid = true;
    config.mode = mode;
    Settings {
        bridge: Default::default(),
        config,
        enabled: true,
        listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        listen_lines: Vec::new(),
        radios: Vec::new(),
        peers: Vec::new(),
        lan: Default::default(),
        banned: Default::default(),
        metrics: None,
        export: None,
        page: None,
        data_dir: "/nonexistent".into(),
        config_file: None,
        rpc_socket: "/nonexistent/rpc.sock".into(),
        log: String::new(),
        issuer_key: None,
        cashier_for: Vec::new(),
        chain: None,
        services: Default::default(),
        lightning: None,
        spending: Default::default(),
        shell: ShellSettings {
            queue_bytes: 8 * 1024 * 1024,
            link_memory: 48 * 1024 * 1024,
            inbox_bytes: 16 * 1024 * 1024,
            events: 1_000,
            store_cache_bytes: 0,
            pipe_memory: 64 << 10,
            handshake_timeout: Duration::from_secs(5),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_millis(500),
            answer_probes: true,
            bench_sink: false,
            threads: 1,
        },
    }
}

impl NodeHandle {
    /// Runs something in the engine's task and gives its result.
    async fn job<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        self.ask(|who| {
            Command::Inspect(Box::new(move |engine| {
                let _ = who.try_send(job(engine));
            }))
        })
        .await
    }
}

/// Waits for something to become true.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        smol::Timer::after(Duration::from_millis(2)).await;
    }
}

async fn linked(a: &Node, b: &Node) {
    let (a, b) = (a.handle(), b.handle());
    let sees = async |x: &NodeHandle, y: NodeId| x.neighbours().await.unwrap().contains(&y);
    until("link", || async { sees(a, b.id()).await && sees(b, a.id()).await }).await;
}

async fn delivery(node: &Node) -> Delivery {
    let next = async { node.handle().deliveries().next(1, 1).await };
    let late = async {
        smol::Timer::after(PATIENCE).await;
        panic!("nothing was delivered in time");
    };
    smol::future::or(next, late).await.remove(0)
}

async fn send(from: &Node, to: &Node, payload: &[u8], proof: &[u8], unchecked: bool) -> Fate {
    let (from, to) = (from.handle(), to.handle().id());
    let wait = Duration::from_secs(if unchecked { 5 } else { 0 });
    from.send(to, payload.to_vec(), proof.to_vec(), unchecked, wait).await.unwrap()
}

/// A `ping` message of regtest (BIP 31): its nonce is all that is in it.
fn ping(nonce: u64) -> Vec<u8> {
    use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
    let message = RawNetworkMessage::new(bitcoin::p2p::Magic::REGTEST, NetworkMessage::Ping(nonce));
    bitcoin::consensus::serialize(&message)
}

#[test]
fn a_bitcoin_message_goes_through_a_relay_for_free_and_other_data_does_not() {
    Bed::run(async |bed| {
        let b = bed.start(2, MeshMode::PaymentGated, &[]);
        let (a, c) = (
            bed.start(1, MeshMode::PaymentGated, &[&b]),
            bed.start(3, MeshMode::PaymentGated, &[&b]),
        );
        linked(&a, &b).await;
        linked(&b, &c).await;
        let fate = send(&a, &c, &ping(7), &[], false).await;
        assert!(matches!(fate.first, Progress::Sent { hops: 1, .. }), "{fate:?}");
        let got = delivery(&c).await;
        assert_eq!((got.source, got.payload), (a.handle().id(), ping(7)));
        assert_eq!(got.protocol, DetectedProtocol::BitcoinP2P);

        // Our own node says no first; unchecked, the relay does and says why.
        let fate = send(&a, &c, b"data", &[], false).await;
        let required = MeshError::PaymentVerificationFailed(PaymentReason::Required);
        assert_eq!(fate.first, Progress::Refused(required));
        let fate = send(&a, &c, b"data", &[], true).await;
        let reporter = b.handle().id();
        let cause = Cause::PaymentRequired;
        assert_eq!(fate.stopped, Some(Progress::Stopped { reporter, cause, repeats: 0 }));
        assert!(c.handle().deliveries().take(9, 9).is_empty());

        // There is nobody there.
        let nobody = a.handle().send(NodeId([9; 32]), ping(1), vec![], false, PATIENCE).await;
        assert!(matches!(nobody.unwrap().first, Progress::Refused(MeshError::RoutingError(_))));
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_link_that_is_lost_is_made_again_and_a_stopped_node_is_gone() {
    Bed::run(async |bed| {
        let b = bed.start(2, MeshMode::Open, &[]);
        let a = bed.start(1, MeshMode::Open, &[&b]);
        linked(&a, &b).await;
        let at = b.handle().listen_addr();
        let (b_id, b_handle) = (b.handle().id(), b.handle().clone());
        // What is queued when a node is told to stop still arrives.
        let fate = send(&b, &a, b"last words", &[], false).await;
        assert!(matches!(fate.first, Progress::Sent { .. }));
        b.stop().await;
        assert_eq!(delivery(&a).await.payload, b"last words");
        assert_eq!(b_handle.neighbours().await, Err(Gone));
        until("link down", || async { a.handle().neighbours().await.unwrap().is_empty() }).await;

        let b = bed.start_with(2, MeshMode::Open, &[], Disk::default(), |s| s.listen_addr = at);
        assert_eq!(b.handle().id(), b_id);
        linked(&a, &b).await;
        send(&a, &b, b"hello again", &[], false).await;
        assert_eq!(delivery(&b).await.payload, b"hello again");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn two_that_dial_each_other_settle_for_one_link_and_bear_no_grudge() {
    Bed::run(async |bed| {
        let free_port = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let ports = [free_port(), free_port()];
        let node = |i: usize| {
            let other = PeerAddress {
                public_key: secret(2 - i as u8).public_key(&Default::default()),
                place: Place::Tcp(HostPort { host: "127.0.0.1".into(), port: ports[1 - i] }.into()),
            };
            bed.start_with(1 + i as u8, MeshMode::Open, &[], Disk::default(), |s| {
                s.listen_addr = Some(SocketAddr::from(([127, 0, 0, 1], ports[i])));
                s.peers = vec![other];
                // Many times within the test: each could be taken for an offence.
                s.shell.reconnect_max = s.shell.reconnect_min;
            })
        };
        let (a, b) = (node(0), node(1));
        for _ in 0..6 {
            linked(&a, &b).await;
            smol::Timer::after(Duration::from_millis(20)).await;
            let drop_all = |engine: &mut engine::Engine| {
                let links: Vec<_> = engine.shell.links.iter().map(|(id, _)| id).collect();
                let todo = links.into_iter().map(|id| shell::FollowUp::Close(id, "test".into()));
                engine.shell.todo.extend(todo);
            };
            a.handle().job(drop_all).await.unwrap();
        }
        linked(&a, &b).await;
        let one_each = async || {
            let count = |engine: &mut engine::Engine| engine.shell.links.iter().count();
            let (a, b) = (a.handle().job(count).await, b.handle().job(count).await);
            (a, b) == (Ok(1), Ok(1))
        };
        until("one link is left", one_each).await;
        // A late dial may yet take the first one's place, and what is on it.
        let arrives = async || {
            send(&a, &b, b"still here", &[], false).await;
            smol::Timer::after(Duration::from_millis(5)).await;
            !b.handle().deliveries().take(1, 1).is_empty()
        };
        until("a datagram arrives", arrives).await;
        let grudge = |engine: &mut engine::Engine| {
            [1, 2].iter().any(|key| {
                let id = NodeId::from_public_key(&secret(*key).public_key(&Default::default()));
                engine.mesh.offences(&id) > 0
            })
        };
        assert_eq!(a.handle().job(grudge).await, Ok(false));
        assert_eq!(b.handle().job(grudge).await, Ok(false));
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_search_that_cannot_begin_ends_at_once() {
    Bed::run(async |bed| {
        let a = bed.start_with(1, MeshMode::Open, &[], Disk::default(), |_| {});
        let me = a.handle().id();
        assert_eq!(a.handle().find_route(me).await, Ok(false));
        a.stop().await;
    });
}

#[test]
fn a_neighbour_that_does_not_read_stalls_nobody() {
    Bed::run(async |bed| {
        let small = |s: &mut Settings| {
            s.shell.queue_bytes = 512 * 1024;
            s.config.max_packet = 256 * 1024;
            s.config.timing.keepalive = 0;
            (s.config.free_rate, s.config.free_burst) = (1 << 40, 1 << 40);
            s.shell.bench_sink = true;
        };
        let start = |key, peers: &[&Node]| {
            bed.start_with(key, MeshMode::Open, peers, Disk::default(), small)
        };
        let b = start(2, &[]);
        let (a, c) = (start(1, &[&b]), start(3, &[&b]));
        linked(&a, &b).await;
        linked(&c, &b).await;
        let deaf = Deaf::connect(&b, secret(9)).await;
        let up = || async { b.handle().neighbours().await.unwrap().contains(&deaf.id) };
        until("the deaf neighbour is up", up).await;

        // More than the sockets and the queue hold: the rest is refused, and said so.
        let (mut refused, payload) = (0, vec![7; 200_000]);
        for _ in 0..400 {
            let fate = b.handle().send(deaf.id, payload.clone(), vec![], false, Duration::ZERO);
            refused += usize::from(matches!(fate.await.unwrap().first, Progress::Refused(_)));
        }
        assert!(refused > 0, "the queue has no bound");
        // Meanwhile the others lose nothing.
        let second = Duration::from_secs(1);
        let load =
            a.handle().bench(c.handle().id(), crate::bench::Protocol::Raw, 1000, second, 100_000);
        let outcome = load.await.unwrap().unwrap();
        assert_eq!((outcome.sent, outcome.stopped), (outcome.received, 0), "{outcome:?}");
        assert!(outcome.received > 1000, "{outcome:?}");
        drop(deaf);
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

/// A neighbour that shakes hands, says something and then reads no more.
struct Deaf {
    id: NodeId,
    _stream: Async<std::net::TcpStream>,
}

impl Deaf {
    async fn connect(node: &Node, key: SecretKey) -> Self {
        Self::saying(node, key, &[hello(node)], &[]).await
    }

    /// Says all of this at once, in frames of 2,000 bytes, and at last a frame of these records.
    async fn saying(node: &Node, key: SecretKey, packets: &[Vec<u8>], records: &[u8]) -> Self {
        use blvm_mesh_core::link::fragment::{FrameBuilder, Put, Splitter};
        use blvm_mesh_core::link::lane::Lane;
        use blvm_mesh_core::link::transport::{FRAME_OVERHEAD, HEADER_LEN};
        use smol::io::AsyncWriteExt;
        let link_key = LinkKey::new(&key, PATIENCE);
        let at = node.handle().listen_addr().unwrap().to_string();
        let remote = node.handle().public_key();
        let (stream, mut sender, _) = transport::all::shake_hands(&link_key, &at, &remote).await;
        let mut said = Vec::new();
        let mut say = |frame: &mut [u8]| {
            sender.seal_frame(frame).unwrap();
            said.extend_from_slice(frame);
        };
        let (mut splitter, mut left) = (Splitter::default(), packets.iter().peekable());
        while left.peek().is_some() {
            let mut frame = vec![0; 2_000];
            let mut builder = FrameBuilder::new(&mut frame, u16::MAX).unwrap();
            while let Some(packet) = left.peek() {
                match splitter.put(&mut builder, Lane::Free, packet).unwrap() {
                    Put::Done => left.next(),
                    Put::FrameFull => break,
                };
            }
            let len = builder.finish();
            say(&mut frame[..len]);
        }
        if !records.is_empty() {
            let mut frame = vec![0; records.len() + FRAME_OVERHEAD];
            frame[HEADER_LEN..][..records.len()].copy_from_slice(records);
            say(&mut frame);
        }
        (&stream).write_all(&said).await.unwrap();
        Self { id: NodeId::from_public_key(&key.public_key(&Default::default())), _stream: stream }
    }
}

/// A hello that a node takes.
fn hello(node: &Node) -> Vec<u8> {
    use blvm_mesh_core::wire::hello::{self, Hello, Told};
    let config = &node.handle().settings().config;
    let hello = Hello {
        missing: false,
        network: config.network,
        mode: config.mode,
        quality: 256,
        max_packet: config.max_packet,
        tariff: config.payment.tariff,
        keepalive_ms: 0,
        unix: 0,
        free: [Told::ANY; 3],
        issuers: Default::default(),
    };
    let mut packet = vec![0; hello::MAX_LEN];
    let len = hello.write(&mut packet).unwrap();
    packet.truncate(len);
    packet
}
