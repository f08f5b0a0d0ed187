//! Two nodes and a serial line between them: over TCP servers that join two ends, as an
//! emulator has them, and over pseudo-terminals.

mod small;

use super::paid::{accepts, proof, send_paid, service};
use super::*;
use crate::address::SerialLine;
use crate::rpc::types::{LineState, LineStats, Peer, PeerState};
use crate::rpc::{Handler, Reply, Request};
use blvm_mesh_core::mesh::{Action, Input, Priority};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::TcpListener;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// What happens to bytes on the way, one in so many each.
#[derive(Clone, Copy, Default)]
struct Faults {
    lost: u64,
    twice: u64,
    damaged: u64,
}

/// One in three of the largest frames is lost: of more, eight in a row are lost often enough that
/// a link is now and then taken for dead.
const BAD: Faults = Faults { lost: 10_000, twice: 10_000, damaged: 5_000 };

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

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    faults: Faults,
    seed: u64,
) {
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

pub(super) async fn peers(node: &Node) -> Vec<Peer> {
    match service(node).handle(Request::GetPeers, &Default::default()).await {
        Ok(Reply::GetPeers(peers)) => peers,
        other => panic!("{other:?}"),
    }
}

async fn stats_of_line(node: &Node) -> LineStats {
    match service(node).handle(Request::GetStats, &Default::default()).await {
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
        assert_eq!(at_b.hello.unwrap().max_packet, 512 * 1024, "the packet limit of the line");
        let (received, sent) = (at_a.received.bytes, at_b.sent.bytes);
        assert!(received > 74_000 && sent > 74_000, "{received} received, {sent} sent");
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

#[test]
fn devices_are_used_and_opened_again_after_they_were_pulled_out() {
    Bed::run(async |bed| {
        let dir = tempfile::tempdir().unwrap();
        let names = ["left", "right"].map(|name| dir.path().join(name));
        let lines = names.each_ref().map(|name| {
            format!("serial://{}?baud=1000000", name.display()).parse::<SerialLine>().unwrap()
        });
        // Nothing is plugged in yet.
        let (a, b) = pair(&bed, lines, MeshMode::Open);
        for node in [&a, &b] {
            let says = async || {
                let line = stats_of_line(node).await;
                line.error.is_some_and(|e| e.contains("cannot open") && e.contains("plugged in"))
            };
            until("the fault is named", says).await;
        }
        for nonce in 0..2 {
            let cable = Cable::plug(&bed, &names);
            linked(&a, &b).await;
            send(&a, &b, &ping(nonce), &[], false).await;
            send(&b, &a, &vec![7; 50_000], &[], false).await;
            assert_eq!(delivery(&b).await.payload, ping(nonce));
            assert_eq!(delivery(&a).await.payload.len(), 50_000);
            drop(cable);
            let gone = async || stats_of_line(&b).await.state == LineState::Closed;
            until("the device is gone", gone).await;
            let nobody = async || a.handle().neighbours().await.unwrap().is_empty();
            until("the neighbour is gone", nobody).await;
        }
        a.stop().await;
        b.stop().await;
    });
}

/// Two pseudo-terminals, joined, under names of our own.
struct Cable<'n> {
    names: &'n [std::path::PathBuf; 2],
    _task: Task<()>,
}

impl<'n> Cable<'n> {
    fn plug(bed: &Bed, names: &'n [std::path::PathBuf; 2]) -> Self {
        let ends = names.each_ref().map(|name| {
            let (master, slave) = serial2::SerialPort::pair().unwrap();
            let device = format!("/proc/self/fd/{}", slave.as_raw_fd());
            let device = std::fs::read_link(Path::new(&device)).unwrap();
            std::os::unix::fs::symlink(device, name).unwrap();
            // Held open, so that there is a terminal before a node opens it.
            (Async::new(File::from(OwnedFd::from(master))).unwrap(), slave)
        });
        let task = bed.executor.spawn(async move {
            let [(left, _left), (right, _right)] = ends;
            let ((from_left, to_left), (from_right, to_right)) =
                (smol::io::split(left), smol::io::split(right));
            let there = carry(from_left, to_right, Faults::default(), 1);
            let back = carry(from_right, to_left, Faults::default(), 2);
            smol::future::or(there, back).await;
        });
        Self { names, _task: task }
    }
}

impl Drop for Cable<'_> {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| std::fs::remove_file(name).unwrap());
    }
}

#[test]
fn the_engine_closes_a_link_and_a_stopped_node_says_its_last_words() {
    Bed::run(async |bed| {
        let bridge = Bridge::new(&bed, [0, 0], Faults::default()).await;
        let lines = [bridge.line(0), bridge.line(1)];
        let (a, b) = pair(&bed, lines, MeshMode::Open);
        linked(&a, &b).await;
        let first = peers(&b).await[0].link;
        let close = |engine: &mut engine::Engine| {
            let links: Vec<_> = engine.shell.links.iter().map(|(id, _)| id).collect();
            let todo = links.into_iter().map(|id| shell::FollowUp::Close(id, "test".into()));
            engine.shell.todo.extend(todo);
        };
        // The line is as it was; who dials makes another link over it.
        b.handle().job(close).await.unwrap();
        let again = async || peers(&b).await[0].link.is_some_and(|link| Some(link) != first);
        until("another link", again).await;
        linked(&a, &b).await;
        // Who listens cannot dial; the other end finds out, though not at once.
        let before = peers(&a).await[0].link;
        a.handle().job(close).await.unwrap();
        let again =
            async || peers(&a).await.first().is_some_and(|p| p.link.is_some() && p.link != before);
        until("the other end has found out", again).await;
        linked(&a, &b).await;

        // Whoever offends too often is shut out, and is let in when his time is over.
        let shut_out = |engine: &mut engine::Engine| {
            let now = engine.shell.clock.now();
            let id = NodeId::from_public_key(&secret(1).public_key(&Default::default()));
            let link = engine.shell.links.iter().find(|(_, link)| link.peer == id).unwrap().0;
            while engine.mesh.banned_until(&id).is_none() {
                let packet = &mut [0; 9][..];
                engine.mesh.handle(now, Input::MessageReceived { link, packet }).unwrap();
                while !matches!(engine.mesh.poll(), Action::Wait { .. }) {}
            }
        };
        b.handle().job(shut_out).await.unwrap();
        b.handle().job(close).await.unwrap();
        let nobody = async || b.handle().neighbours().await.unwrap().is_empty();
        until("the link is closed", nobody).await;
        smol::Timer::after(Duration::from_millis(300)).await;
        assert!(nobody().await, "a neighbour that is shut out is let in");
        // Ten seconds, the first time.
        linked(&a, &b).await;

        send(&b, &a, &[b'!'; 30_000], &[], false).await;
        b.stop().await;
        assert_eq!(delivery(&a).await.payload.len(), 30_000);
        a.stop().await;
    });
}

#[test]
fn what_keeps_a_link_from_coming_about_is_told() {
    Bed::run(async |bed| {
        let bridge = Bridge::new(&bed, [0, 0], Faults::default()).await;
        let key = |n: u8| secret(n).public_key(&Default::default());
        let dialer = |n: u8, remote: u8| {
            bed.start_with(n, MeshMode::Open, &[], Disk::default(), |s| {
                let place = Place::Line(bridge.line(usize::from(n - 1)));
                s.listen_addr = None;
                s.peers = vec![PeerAddress { public_key: key(remote), place }];
            })
        };
        let (a, b) = (dialer(1, 2), dialer(2, 1));
        for node in [&a, &b] {
            let told = async || {
                let peer = peers(node).await.remove(0);
                peer.last_error.is_some_and(|e| e.contains("both ends of the line dial"))
            };
            until("the fault is named", told).await;
            let line = stats_of_line(node).await;
            assert!(line.error.unwrap().contains("listen") && line.state == LineState::Open);
        }
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_line_that_is_slower_than_control_packets_come_is_not_closed_for_it() {
    Bed::run(async |bed| {
        let bridge = Bridge::new(&bed, [0, 0], Faults::default()).await;
        let (a, b) = pair(&bed, [bridge.line(0), bridge.line(1)], MeshMode::Open);
        linked(&a, &b).await;
        let flood = |engine: &mut engine::Engine| {
            let (link, _) = engine.shell.links.iter().next().unwrap();
            for _ in 0..1_000 {
                engine.shell.push(link, Priority::Control, &[0; 2_000], &[]);
            }
            let is_close = |todo: &&_| matches!(todo, shell::FollowUp::Close(..));
            let closed = engine.shell.todo.iter().filter(is_close).count();
            let waits = engine.shell.links.get(link).unwrap().sent().waiting;
            (closed, waits, engine.shell.refusals.counts().get("congested").copied())
        };
        let (closed, waits, refused) = a.handle().job(flood).await.unwrap();
        assert_eq!(closed, 0, "the link is closed");
        assert!(waits < 1_100_000 && refused > Some(400), "{waits}, {refused:?}");
        b.stop().await;
        a.stop().await;
    });
}
