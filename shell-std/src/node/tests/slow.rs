//! Links that are slow, and links that are dead without a word.

use super::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;

/// Bytes per second that pass a slow wire in each direction.
const SLOW: usize = 12_000;

/// A way to a node over which bytes come slowly.
struct SlowWire {
    address: PeerAddress,
    connections: Arc<AtomicUsize>,
}

impl SlowWire {
    fn to(node: &Node, rate: usize) -> Self {
        let mut address = address(node);
        let to = node.handle().listen_addr().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        address.place = Place::Tcp(HostPort { host: at.ip().to_string(), port: at.port() }.into());
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        std::thread::spawn(move || {
            for one in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(other) = TcpStream::connect(to) else { return };
                for (from, to) in [(&one, &other), (&other, &one)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || carry(from, to, rate));
                }
            }
        });
        Self { address, connections }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, rate: usize) {
    let mut piece = vec![0; rate / 10];
    while let Ok(len @ 1..) = from.read(&mut piece) {
        std::thread::sleep(Duration::from_secs(1) * len as u32 / rate as u32);
        if to.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

#[test]
fn a_slow_link_that_is_busy_both_ways_is_not_taken_for_dead() {
    Bed::run(async |bed| {
        let b = bed.start(2, MeshMode::Open, &[]);
        let wire = SlowWire::to(&b, SLOW);
        let dial = |s: &mut Settings| s.peers = vec![wire.address.clone()];
        let a = bed.start_with(1, MeshMode::Open, &[], Disk::default(), dial);
        linked(&a, &b).await;
        // What was just heard stands for an answer: not the hello.
        smol::Timer::after(Duration::from_millis(300)).await;
        // More than three seconds' worth, and four times as long as an answer may take.
        let large = vec![7; 40_000];
        for (from, to) in [(&a, &b), (&b, &a)] {
            let fate = send(from, to, &large, &[], false).await;
            assert!(matches!(fate.first, Progress::Sent { .. }), "{fate:?}");
        }
        assert!(delivery(&b).await.payload == large);
        assert!(delivery(&a).await.payload == large);
        assert_eq!(wire.connections.load(Ordering::SeqCst), 1, "it was given up and dialled anew");
        a.stop().await;
        b.stop().await;
    });
}

/// A - B - C, where B's link to C carries so many bytes per second and A's comes faster.
async fn slow_second_link(bed: &Bed, rate: usize) -> ([Node; 3], SlowWire) {
    let gated = MeshMode::PaymentGated;
    let plenty = |s: &mut Settings| {
        paid::accepts(s);
        (s.config.free_rate, s.config.free_burst) = (1 << 30, 1 << 30);
    };
    let c = bed.start_with(3, gated, &[], Disk::default(), plenty);
    let wire = SlowWire::to(&c, rate);
    let b = bed.start_with(2, gated, &[], Disk::default(), |s| {
        plenty(s);
        s.peers = vec![wire.address.clone()];
        s.shell.queue_bytes = 4 << 20;
    });
    let a = bed.start_with(1, gated, &[&b], Disk::default(), plenty);
    linked(&a, &b).await;
    linked(&b, &c).await;
    assert_eq!(send(&a, &c, &ping(1), &[], false).await.stopped, None);
    ([a, b, c], wire)
}

/// Sends the largest messages until it is dropped.
async fn flood(from: &Node, to: &Node) {
    let block = large::largest_block();
    loop {
        let _ = send(from, to, &block, &[], false).await;
        smol::Timer::after(Duration::from_millis(100)).await;
    }
}

#[test]
fn free_traffic_that_fills_a_link_costs_no_paid_packet() {
    Bed::run(async |bed| {
        let ([a, b, c], _wire) = slow_second_link(&bed, 2_000_000).await;
        let source = paid::service(&a);
        let mut proofs = Vec::new();
        for _ in 0..60 {
            proofs.push(paid::proof(&source, c.handle().id(), 8).await);
        }
        let pay = async {
            // The queue is full when the first of them comes.
            smol::Timer::after(Duration::from_secs(1)).await;
            for (i, proof) in proofs.iter().enumerate() {
                let data = (i as u64).to_le_bytes();
                let sent = paid::send_paid(&source, c.handle().id(), &data, proof, false).await;
                assert!(sent.is_ok(), "{i}: {sent:?}");
            }
            let mut arrived = std::collections::BTreeSet::new();
            until("all 60 arrive", || {
                let got = c.handle().deliveries().take(100, 1 << 30);
                let paid = got.into_iter().filter(|d| d.payload.len() == 8);
                arrived.extend(paid.map(|d| d.payload));
                let all = arrived.len() == 60;
                async move { all }
            })
            .await;
        };
        smol::future::or(flood(&a, &c), pay).await;
        let congested =
            |e: &mut engine::Engine| e.shell.refusals.counts().get("congested").copied();
        let refused = b.handle().job(congested).await.unwrap();
        assert!(refused > Some(3), "there was no flood: {refused:?}");
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_neighbour_that_reads_slowly_is_kept() {
    Bed::run(async |bed| {
        let ([a, b, c], wire) = slow_second_link(&bed, 300_000).await;
        let late = async {
            smol::Timer::after(Duration::from_secs(12)).await;
        };
        smol::future::or(flood(&a, &c), late).await;
        assert_eq!(wire.connections.load(Ordering::SeqCst), 1, "it was cut, and dialled anew");
        let neighbours = b.handle().neighbours().await.unwrap();
        assert!(neighbours.contains(&c.handle().id()));
        assert!(!c.handle().deliveries().take(9, 1 << 30).is_empty());
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn who_sends_more_than_a_link_carries_is_held_back_and_not_refused() {
    Bed::run(async |bed| {
        let plenty = |s: &mut Settings| {
            (s.config.free_rate, s.config.free_burst) = (1 << 30, 1 << 30);
        };
        let c = bed.start_with(3, MeshMode::Open, &[], Disk::default(), plenty);
        let wire = SlowWire::to(&c, 30_000_000);
        let a = bed.start_with(1, MeshMode::Open, &[], Disk::default(), |s| {
            plenty(s);
            s.peers = vec![wire.address.clone()];
            s.shell.queue_bytes = 1 << 20;
        });
        linked(&a, &c).await;
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (handle, to) = (a.handle().clone(), c.handle().id());
                bed.executor.spawn(async move {
                    handle.send(to, vec![5; 1_000_000], Vec::new(), false, Duration::ZERO).await
                })
            })
            .collect();
        let mut arrived = 0;
        until("all 16 arrive", || {
            arrived += c.handle().deliveries().take(99, 1 << 30).len();
            let all = arrived == 16;
            async move { all }
        })
        .await;
        for task in tasks {
            let fate = task.await.unwrap();
            assert!(matches!(fate.first, Progress::Sent { .. }), "{fate:?}");
        }
        let refused = a.handle().job(|e| e.shell.refusals.counts().get("congested").copied()).await;
        assert_eq!(refused.unwrap(), None);
        a.stop().await;
        c.stop().await;
    });
}

#[test]
fn a_neighbour_that_takes_nothing_is_closed() {
    Bed::run(async |bed| {
        let a = bed.start(1, MeshMode::Open, &[]);
        let deaf = Deaf::connect(&a, secret(9)).await;
        let up = || async { a.handle().neighbours().await.unwrap().contains(&deaf.id) };
        until("the neighbour is up", up).await;
        let impatient = |e: &mut engine::Engine| e.shell.links.settings.stalled = SECOND;
        a.handle().job(impatient).await.unwrap();
        let handle = a.handle();
        for _ in 0..5 {
            let (handle, to) = (handle.clone(), deaf.id);
            let send = async move {
                handle.send(to, vec![1; 4_000_000], Vec::new(), false, Duration::ZERO).await
            };
            bed.executor.spawn(send).detach();
        }
        let closed = || async {
            handle.job(|e| e.shell.links.stalled).await.unwrap() == 1
                && !handle.neighbours().await.unwrap().contains(&deaf.id)
        };
        until("it is closed", closed).await;
        a.stop().await;
    });
}
