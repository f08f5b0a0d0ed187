//! Two nodes and a serial line between them: over TCP servers that join two ends, as an
//! emulator has them, and over pseudo-terminals.

use super::paid::{accepts, proof, send_paid, service};
use super::*;
use crate::address::SerialLine;
use crate::rpc::types::{LineState, LineStats, Peer, PeerState};
use crate::rpc::{Handler, Reply, Request};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

/// What happens to bytes on the way, one in so many each.
#[derive(Clone, Copy, Default)]
struct Faults {
    lost: u64,
    twice: u64,
    damaged: u64,
}

const BAD: Faults = Faults { lost: 4_000, twice: 4_000, damaged: 2_000 };

/// xorshift64*
struct Random(u64);

impl Random {
    fn one_in(&mut self, many: u64) -> bool {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        many > 0 && (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).is_multiple_of(many)
    }

    /// Bytes as they arrive.
    fn spoil(&mut self, faults: Faults, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in bytes {
            if self.one_in(faults.lost) {
                continue;
            }
            let byte = if self.one_in(faults.damaged) { byte ^ 0x10 } else { *byte };
            out.push(byte);
            if self.one_in(faults.twice) {
                out.push(byte);
            }
        }
        out
    }
}

/// Joins what connects to two ports; dropping it cuts the line.
struct Bridge {
    ports: [u16; 2],
    _task: Task<()>,
}

impl Bridge {
    async fn new(bed: &Bed, ports: [u16; 2], faults: Faults) -> Self {
        let bind = async |port| loop {
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => return listener,
                Err(_) => drop(smol::Timer::after(Duration::from_millis(5)).await),
            }
        };
        let (left, right) = (bind(ports[0]).await, bind(ports[1]).await);
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let ports = [port(&left), port(&right)];
        let task = bed.executor.spawn(async move {
            let ((left, _), (right, _)) =
                (left.accept().await.unwrap(), right.accept().await.unwrap());
            let there = carry(left.clone(), right.clone(), faults, 1);
            let back = carry(right, left, faults, 2);
            smol::future::or(there, back).await;
        });
        Self { ports, _task: task }
    }

    fn line(&self, end: usize) -> SerialLine {
        format!("serial+tcp://127.0.0.1:{}", self.ports[end]).parse().unwrap()
    }
}

async fn carry(mut from: TcpStream, mut to: TcpStream, faults: Faults, seed: u64) {
    let (mut random, mut bytes) = (Random(seed), [0; 1000]);
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        if to.write_all(&random.spoil(faults, &bytes[..len])).await.is_err() {
            return;
        }
    }
}

/// Node 1 listens on the first line, node 2 dials it on the second.
fn pair(bed: &Bed, lines: [SerialLine; 2], mode: MeshMode) -> (Node, Node) {
    let [listens, dials] = lines;
    let a = bed.start_with(1, mode, &[], Disk::default(), |s| {
        (s.listen_addr, s.listen_lines) = (None, vec![listens]);
        s.config.payment.tariff.per_kib_msat = 1;
        accepts(s);
    });
    let public_key = a.handle().public_key();
    let b = bed.start_with(2, mode, &[], Disk::default(), |s| {
        s.listen_addr = None;
        s.peers = vec![PeerAddress { public_key, place: Place::Line(dials) }];
        accepts(s);
    });
    (a, b)
}

async fn peers(node: &Node) -> Vec<Peer> {
    match service(node).handle(Request::GetPeers).await {
        Ok(Reply::GetPeers(peers)) => peers,
        other => panic!("{other:?}"),
    }
}

async fn stats_of_line(node: &Node) -> LineStats {
    match service(node).handle(Request::GetStats).await {
        Ok(Reply::GetStats(stats)) => stats.lines[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn free_and_paid_packets_cross_a_bad_line_that_is_cut_and_comes_back() {
    Bed::run(async |bed| {
        let bridge = Bridge::new(&bed, [0, 0], BAD).await;
        let ports = bridge.ports;
        let lines = [bridge.line(0), bridge.line(1)];
        let (a, b) = pair(&bed, lines.clone(), MeshMode::PaymentGated);
        linked(&a, &b).await;
        for nonce in 0..20 {
            send(&b, &a, &ping(nonce), &[], false).await;
            send(&a, &b, &ping(nonce), &[], false).await;
            assert_eq!(delivery(&a).await.payload, ping(nonce));
            assert_eq!(delivery(&b).await.payload, ping(nonce));
        }
        // Larger than a frame, and than a record of the engine's buffers.
        let (source, to) = (service(&b), a.handle().id());
        for len in [4096, 70_000] {
            let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let paid = proof(&source, to, data.len() as u64).await;
            send_paid(&source, to, &data, &paid, false).await.unwrap();
            let got = delivery(&a).await;
            assert_eq!((got.payload, got.source), (data, b.handle().id()));
            let again = send_paid(&source, to, &[1; 10], &paid, true).await.unwrap();
            assert!(again.stopped.is_some(), "{again:?}");
        }
        let unpaid = send(&b, &a, b"data", &[], true).await;
        assert!(matches!(unpaid.stopped, Some(Progress::Stopped { .. })), "{unpaid:?}");

        let (at_a, at_b) = (peers(&a).await.remove(0), peers(&b).await.remove(0));
        assert_eq!((at_a.state, at_a.dialed, at_a.address), {
            (PeerState::Up, false, lines[0].to_string())
        });
        assert_eq!((at_b.state, at_b.dialed, at_b.address), {
            (PeerState::Up, true, lines[1].to_string())
        });
        assert_eq!(at_b.hello.unwrap().max_packet, 512 * 1024, "what the line bears");
        assert!(at_a.received.bytes > 74_000 && at_b.sent.bytes > 74_000);
        let line = stats_of_line(&b).await;
        assert_eq!((line.state, line.dials, line.error), (LineState::Up, true, None));
        assert!(line.sent_again > 0 && line.damaged > 0, "the line was not bad");

        drop(bridge);
        let down =
            async || peers(&a).await.is_empty() && peers(&b).await[0].state == PeerState::Down;
        until("the line is cut", down).await;
        assert!(peers(&b).await[0].last_error.is_some());
        let refused = async || {
            let line = stats_of_line(&a).await;
            line.state == LineState::Closed && line.error.unwrap().contains("cannot connect to")
        };
        until("the cut shows", refused).await;
        let bridge = Bridge::new(&bed, ports, BAD).await;
        linked(&a, &b).await;
        send(&b, &a, &ping(99), &[], false).await;
        assert_eq!(delivery(&a).await.payload, ping(99));
        drop(bridge);
        a.stop().await;
        b.stop().await;
    });
}
