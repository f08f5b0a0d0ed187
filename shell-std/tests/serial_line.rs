//! Garbage on a serial line changes nothing and costs bounded memory. A process of its
//! own, whose memory is measured.

use blvm_mesh::config::{Override, Settings, Sources};
use blvm_mesh::node::{Commit, Ledgers, Node, Progress, Service};
use blvm_mesh::rpc::types::{GetLedger, Ledger, Peer, PeerState, Stats};
use blvm_mesh::rpc::{Handler, Reply, Request};
use blvm_mesh_core::link::datagram::serial;
use blvm_mesh_core::payment::ledger::Record;
use smol::{Executor, Timer, block_on};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of garbage for each end.
const GARBAGE: usize = 12 << 20;
/// Most memory that it may cost, in KiB. The allocator takes some for itself.
const COST: u64 = 6 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

struct NoDisk;

impl Commit for NoDisk {
    type Error = &'static str;

    fn commit(&mut self, _: &[(u64, Record)]) -> Result<(), &'static str> {
        Ok(())
    }
}

impl Ledgers for NoDisk {
    fn ledger(&self, _: &GetLedger) -> Result<Ledger, String> {
        Err("not in this test".into())
    }
}

fn node(key: u8, listen: &str, peers: &str, executor: &Arc<Executor<'static>>) -> Node {
    let set = |key: &str, value: &str| Override {
        origin: "test".into(),
        key: key.into(),
        value: value.into(),
    };
    let overrides = vec![
        set("mesh.network", "regtest"),
        set("mesh.mode", "open"),
        set("mesh.listen_addr", listen),
        set("mesh.peers", peers),
        set("data_dir", "/nonexistent"),
    ];
    let settings: Settings = Sources { overrides, ..Sources::default() }.load().unwrap();
    let key = secp256k1::SecretKey::from_byte_array([key; 32]).unwrap();
    let remembered = std::iter::empty::<Result<Record, String>>();
    Node::start(&settings, &key, NoDisk, remembered, None, None, executor).unwrap()
}

/// Two sockets joined: what one thread reads from each is written to the other, and
/// garbage may be written between.
fn join(listeners: [TcpListener; 2]) -> [Arc<Mutex<TcpStream>>; 2] {
    let ends = listeners.map(|listener| listener.accept().unwrap().0);
    let to = ends.each_ref().map(|end| Arc::new(Mutex::new(end.try_clone().unwrap())));
    for (mut from, to) in ends.into_iter().zip([to[1].clone(), to[0].clone()]) {
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = from.read(&mut bytes) {
                if to.lock().unwrap().write_all(&bytes[..len]).is_err() {
                    return;
                }
            }
        });
    }
    to
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 56) as u8).collect()
    }

    /// What a line might carry: noise, silence, an endless frame, and whole frames that
    /// begin as those of handshakes and sessions do.
    fn garbage(&mut self) -> Vec<u8> {
        match self.next() >> 32 & 3 {
            0 => self.bytes(3_000),
            1 => vec![0; 3_000],
            2 => vec![0x55; 3_000],
            _ => (0..30).flat_map(|_| self.whole_frame()).collect(),
        }
    }

    fn whole_frame(&mut self) -> Vec<u8> {
        let first = [0x81, 0x82, 0x83, (self.next() >> 60) as u8][(self.next() >> 62) as usize];
        let len = [59, 60, 68, 40][(self.next() >> 62) as usize];
        let mut frame = self.bytes(len);
        frame[0] = first;
        // The terms of a handshake as they should be.
        frame[1..9].copy_from_slice(&[1, 3, 0, 4, 0, 16, 0, 0]);
        let mut line = vec![0; serial::encoded_len(frame.len())];
        let len = serial::encode(&frame, &mut line).unwrap();
        line.truncate(len);
        line
    }
}

/// The most memory that the process ever had, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        Timer::after(Duration::from_millis(5)).await;
    }
}

async fn peer(service: &Service) -> Option<Peer> {
    match service.handle(Request::GetPeers, &Default::default()).await {
        Ok(Reply::GetPeers(mut peers)) => peers.pop(),
        other => panic!("{other:?}"),
    }
}

async fn stats(service: &Service) -> Stats {
    match service.handle(Request::GetStats, &Default::default()).await {
        Ok(Reply::GetStats(stats)) => *stats,
        other => panic!("{other:?}"),
    }
}

#[test]
fn garbage_changes_nothing_and_costs_bounded_memory() {
    let executor = Arc::new(Executor::new());
    let runs = executor.clone();
    std::thread::spawn(move || block_on(runs.run(std::future::pending::<()>())));
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let lines = listeners.each_ref().map(|l| format!("serial+tcp://{}", l.local_addr().unwrap()));
    let a = node(1, &lines[0], "", &executor);
    let b = node(2, "", &format!("{}@{}", a.handle().public_key(), lines[1]), &executor);
    let ends = join(listeners);
    let service = |node: &Node| Service::new(node.handle().clone(), Arc::new(NoDisk), None);
    let services = [service(&a), service(&b)];
    block_on(async {
        let up = async |s: &Service| peer(s).await.is_some_and(|p| p.state == PeerState::Up);
        until("link", async || up(&services[0]).await && up(&services[1]).await).await;
        let exchange = async |mark: u8| {
            for (from, to) in [(&a, &b), (&b, &a)] {
                let (id, payload) = (to.handle().id(), vec![mark; 2_000]);
                let fate = from.handle().send(id, payload, vec![], false, Duration::ZERO).await;
                assert!(matches!(fate.unwrap().first, Progress::Sent { .. }), "{fate:?}");
                let next = async { to.handle().deliveries().next(1, 1).await };
                let late = async {
                    Timer::after(PATIENCE).await;
                    panic!("not delivered");
                };
                let got = smol::future::or(next, late).await;
                assert_eq!(got[0].payload, [mark; 2_000]);
            }
        };
        exchange(1).await;
        let links = [peer(&services[0]).await, peer(&services[1]).await].map(|p| p.unwrap().link);
        let before = peak();

        let noise = ends.clone().map(|end| {
            std::thread::spawn(move || {
                let (mut random, mut sent) = (Random(7), 0);
                while sent < GARBAGE {
                    let garbage = random.garbage();
                    sent += garbage.len();
                    end.lock().unwrap().write_all(&garbage).unwrap();
                }
            })
        });
        // What is sent meanwhile arrives.
        exchange(2).await;
        let over = async || noise.iter().all(|thread| thread.is_finished());
        until("all garbage is read", over).await;
        exchange(3).await;

        for (service, link) in services.iter().zip(links) {
            assert_eq!(peer(service).await.unwrap().link, link, "the link was lost");
            let stats = stats(service).await;
            assert!(stats.refused.is_empty(), "{:?}", stats.refused);
            assert!(stats.lines[0].damaged > 1_000 && stats.lines[0].ignored > 1_000);
            assert_eq!(stats.lines[0].given_up, 0);
        }
        match before.zip(peak()) {
            Some((before, after)) => {
                println!("peak before: {before} KiB, after: {after} KiB");
                assert!(after - before < COST, "{before} KiB, then {after} KiB");
            }
            None => println!("SKIPPED: this system does not tell how much memory a process has"),
        }
        a.stop().await;
        b.stop().await;
    });
}
