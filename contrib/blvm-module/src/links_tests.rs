//! Two nodes' links, with a line between them that the test has in its hands.

use crate::carrier;
use crate::keys::ModuleKeys;
use crate::links::{FRAME, Happened, Links};
use blvm_mesh::manager::NodeApiError;
use blvm_mesh_core::id::Standing;
use blvm_mesh_core::mesh::Priority;
use blvm_mesh_core::secp256k1::{PublicKey, Secp256k1, SecretKey};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use std::collections::{BTreeSet, HashMap};

const A: &str = "192.0.2.1:40000";
const B: &str = "192.0.2.2:8333";

fn key(n: u8) -> (SecretKey, PublicKey) {
    let key = SecretKey::from_byte_array([n; 32]).unwrap();
    (key, key.public_key(&Secp256k1::signing_only()))
}

fn links(n: u8, dialed: &[(&str, PublicKey)], most: usize, per_minute: Option<u32>) -> Links {
    let dialed: HashMap<_, _> =
        dialed.iter().map(|(at, key)| (at.parse().unwrap(), *key)).collect();
    Links::new(ModuleKeys::new(&key(n).0), dialed, 1 << 20, most, per_minute)
}

/// A, who dials, and B.
struct World {
    now: Micros,
    a: Links,
    b: Links,
    happened: Vec<(char, Happened)>,
}

impl World {
    fn new() -> Self {
        let (a, b) = (links(1, &[(B, key(2).1)], 9, None), links(2, &[], 9, None));
        let mut world = Self { now: SECOND, a, b, happened: Vec::new() };
        world.a.connected(world.now, B);
        world.b.connected(world.now, A);
        world
    }

    /// Carries frames for so long, unless `lost` takes them.
    fn run(&mut self, time: Micros, mut lost: impl FnMut() -> bool) {
        let until = self.now + time;
        while self.now < until {
            self.now += 10 * MILLISECOND;
            while let Some((to, mut frame)) = self.a.transmit(self.now) {
                assert_eq!(to, B);
                assert!(frame.len() <= usize::from(FRAME) + carrier::HEADER_LEN);
                if !lost() {
                    self.b.receive(self.now, A, &mut frame);
                }
            }
            while let Some((to, mut frame)) = self.b.transmit(self.now) {
                assert_eq!(to, A);
                if !lost() {
                    self.a.receive(self.now, B, &mut frame);
                }
            }
            while let Some(happened) = self.a.poll(self.now) {
                self.happened.push(('a', happened));
            }
            while let Some(happened) = self.b.poll(self.now) {
                self.happened.push(('b', happened));
            }
        }
    }

    fn packets(&mut self, at: char) -> Vec<Vec<u8>> {
        let all = std::mem::take(&mut self.happened).into_iter();
        let packet = |(side, happened)| match happened {
            Happened::Packet { bytes, .. } if side == at => Some(bytes),
            _ => None,
        };
        all.filter_map(packet).collect()
    }
}

/// A packet of the mesh: the link leaves out of its header what it can put back.
fn packet(n: u8, len: usize) -> Vec<u8> {
    use blvm_mesh_core::link::datagram::packet::complete;
    let mut packet = vec![n; len.max(24)];
    complete(&mut packet);
    packet
}

#[test]
fn each_side_learns_who_the_other_has_proven_to_be() {
    let mut world = World::new();
    world.run(SECOND, || false);
    let up = |peer: &str, key, dialed, standing| Happened::Up {
        peer: peer.into(),
        key,
        dialed,
        standing,
    };
    assert!(world.happened.contains(&('a', up(B, key(2).1, true, Standing::Own))));
    let stranger = |h: &(char, Happened)| {
        matches!(h, ('b', Happened::Up { key: k, dialed: false, standing: Standing::Stranger { .. }, .. })
            if *k == key(1).1)
    };
    assert!(world.happened.iter().any(stranger), "{:?}", world.happened);
    world.b.disconnected(world.now, A);
    let down = |h: &Happened| matches!(h, Happened::Down { .. });
    assert!(world.b.poll(world.now).is_some_and(|h| down(&h)));
}

#[test]
fn packets_of_any_size_go_both_ways_over_a_line_that_loses_a_third() {
    let mut world = World::new();
    let mut n = 0u32;
    let mut lossy = || {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        n >> 24 < 85
    };
    world.run(20 * SECOND, &mut lossy);
    let sent: Vec<_> = [30, 5_000, 200_000].map(|len| packet(len as u8, len)).into();
    for packet in &sent {
        world.a.send(world.now, B, Priority::Paid, packet).unwrap();
        world.b.send(world.now, A, Priority::Paid, packet).unwrap();
    }
    world.happened.clear();
    world.run(25 * SECOND, lossy);
    let happened = std::mem::take(&mut world.happened);
    for side in ['a', 'b'] {
        world.happened = happened
            .iter()
            .filter(|(at, _)| *at == side)
            .map(|(at, h)| {
                let Happened::Packet { peer, bytes } = h else { panic!("{h:?}") };
                (*at, Happened::Packet { peer: peer.clone(), bytes: bytes.clone() })
            })
            .collect();
        assert!(world.packets(side) == sent);
    }
}

#[test]
fn whoever_does_not_hold_the_key_gets_no_link() {
    let mut world = World::new();
    world.b = links(3, &[], 9, None);
    world.run(5 * SECOND, || false);
    assert!(world.happened.is_empty(), "{:?}", world.happened);
    let refused = world.a.send(world.now, B, Priority::Free, &packet(1, 30));
    assert_eq!(refused, Err(NodeApiError::NotConnected));
}

#[test]
fn a_queue_says_that_it_is_full_before_it_refuses() {
    let mut world = World::new();
    world.run(SECOND, || false);
    world.happened.clear();
    let large = packet(1, 500_000);
    let mut sent = 0;
    while world.a.send(world.now, B, Priority::Free, &large).is_ok() {
        sent += 1;
        assert!(sent < 100, "the queue has no end");
    }
    let full = |full| Happened::Congestion {
        peer: B.into(),
        lane: blvm_mesh_core::link::lane::Lane::Free,
        full,
    };
    assert_eq!(world.a.poll(world.now), Some(full(true)));
    world.run(30 * SECOND, || false);
    assert!(world.happened.contains(&('a', full(false))));
    assert_eq!(world.packets('b').len(), sent);
}

#[test]
fn strangers_have_only_so_many_links_and_frames() {
    let mut b = links(2, &[], 2, None);
    let frame = |n: u8| {
        let mut a = links(n, &[(B, key(2).1)], 9, None);
        a.connected(0, B);
        a.transmit(1).unwrap().1
    };
    // Nobody of these goes on with the handshake: the next takes the place.
    for n in 10..20 {
        b.receive(SECOND * Micros::from(n), &format!("192.0.2.{n}:1"), &mut frame(n));
    }
    let names: BTreeSet<String> = BTreeSet::new();
    b.reset(20 * SECOND, &names);
    assert!(b.transmit(20 * SECOND).is_none());

    let mut limited = links(2, &[], 9, Some(3));
    for _ in 0..5 {
        limited.receive(0, A, &mut frame(30));
    }
    let before = limited.passed_over();
    assert!(before >= 2);
    limited.receive(60 * SECOND, A, &mut []);
    assert_eq!(limited.passed_over(), before + 1);
}

#[test]
fn a_peer_whose_node_hangs_up_when_it_hears_the_mesh_is_left_alone_for_longer_each_time() {
    let mut a = links(1, &[(B, key(2).1)], 9, None);
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        a.connected(now, B);
        assert!(a.transmit(now).is_some());
        a.disconnected(now, B);
        let begun = now;
        // The node connects again by itself, every ten seconds.
        loop {
            now += 10 * SECOND;
            a.connected(now, B);
            let speaks = a.transmit(now).is_some();
            if speaks {
                a.reset(now, &BTreeSet::new());
                // That was one more time; go back to before it.
                break;
            }
            a.disconnected(now, B);
        }
        pauses.push((now - begun) / SECOND);
        now += 2 * 3600 * SECOND;
    }
    assert_eq!(pauses[0], 60);
    assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
    assert_eq!(pauses.last(), Some(&3600));
}
