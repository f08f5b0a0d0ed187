//! Links that are slow, and links that are dead without a word.

use super::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::AtomicUsize;

/// Bytes that pass a slow wire in each direction in 100 ms.
const PIECE: usize = 1200;

/// A way to a node over which bytes come slowly.
struct SlowWire {
    address: PeerAddress,
    connections: Arc<AtomicUsize>,
}

impl SlowWire {
    fn to(node: &Node) -> Self {
        let mut address = address(node);
        let to = node.handle().listen_addr().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Place::Tcp(at) = &mut address.place {
            at.port = listener.local_addr().unwrap().port();
        }
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        std::thread::spawn(move || {
            for one in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(other) = TcpStream::connect(to) else { return };
                for (from, to) in [(&one, &other), (&other, &one)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || carry(from, to));
                }
            }
        });
        Self { address, connections }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; PIECE];
    while let Ok(len @ 1..) = from.read(&mut piece) {
        std::thread::sleep(Duration::from_millis(100 * len as u64 / PIECE as u64));
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
        let wire = SlowWire::to(&b);
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
