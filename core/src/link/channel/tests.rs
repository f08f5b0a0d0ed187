//! Radios on one channel, in virtual time.

use super::frame::{Content, Frame, TAG_LEN};
use super::*;
use crate::link::aead::RustCrypto;
use crate::link::datagram::{Ignored, terms};
use crate::link::packet_buffer::Growable;
use crate::time::{MILLISECOND, SECOND};
use crate::wire::{Kind, header};
use lora::{MAX_FRAME, Modem};
use proptest::{collection::vec as any_vec, prelude::*};
use secp256k1::{Keypair, Secp256k1};
use std::{vec, vec::Vec};

pub(super) const MODEM: Modem =
    Modem { spreading: 7, bandwidth: 250_000, coding: 1, preamble: 8, duty_permille: 100 };
pub(super) const KEY: [u8; 32] = [9; 32];

pub(super) struct TestKeys {
    pub(super) local: Keypair,
    next: u64,
}

impl TestKeys {
    pub(super) fn new(number: u16) -> Self {
        let mut secret = [1; 32];
        secret[..2].copy_from_slice(&number.to_le_bytes());
        Self { local: key(secret), next: u64::from(number) << 32 }
    }
}

impl Keys for TestKeys {
    fn local(&self) -> &Keypair {
        &self.local
    }
    fn ephemeral(&mut self) -> Keypair {
        self.next += 1;
        let mut secret = [2; 32];
        secret[..8].copy_from_slice(&self.next.to_le_bytes());
        key(secret)
    }
}

pub(super) fn key(secret: [u8; 32]) -> Keypair {
    Keypair::from_seckey_byte_array(&Secp256k1::new(), secret).unwrap()
}

pub(super) type TestChannel = Channel<RustCrypto, Growable, 32>;

pub(super) struct Node {
    pub(super) channel: TestChannel,
    pub(super) keys: TestKeys,
    pub(super) up: Vec<(PeerNumber, PublicKey)>,
    pub(super) packets: Vec<(PublicKey, Vec<u8>)>,
    /// Until when it sends; 0: it does not.
    sends: Option<Vec<u8>>,
    /// Frames that are on the air where it is, and whether each is whole so far.
    hears: Vec<(usize, bool)>,
}

/// A channel on which each hears whom `linked` says.
pub(super) struct Air {
    pub(super) nodes: Vec<Node>,
    pub(super) now: Micros,
    ends: Vec<(Micros, usize)>,
    linked: fn(usize, usize) -> bool,
    airtime: Micros,
    frames: usize,
    /// All frames, where they are kept.
    pub(super) log: Option<Vec<Vec<u8>>>,
    starts: u8,
}

pub(super) fn limits(neighbours: usize) -> ChannelLimits {
    ChannelLimits::new(MODEM, neighbours, 1024)
}

impl Air {
    pub(super) fn new(count: usize, linked: fn(usize, usize) -> bool) -> Self {
        let mut air = Self {
            nodes: Vec::new(),
            now: 0,
            ends: Vec::new(),
            linked,
            airtime: 0,
            frames: 0,
            log: None,
            starts: 0,
        };
        (0..count).for_each(|n| {
            let node = air.started(n as u16, 32);
            air.nodes.push(node);
        });
        air
    }

    pub(super) fn started(&mut self, n: u16, neighbours: usize) -> Node {
        let keys = TestKeys::new(n);
        self.starts += 1;
        let mut seed = [self.starts; 32];
        seed[..2].copy_from_slice(&n.to_le_bytes());
        let channel =
            Channel::new(limits(neighbours), KEY, seed, &keys.local.public_key(), self.now);
        Node { channel, keys, up: vec![], packets: vec![], sends: None, hears: vec![] }
    }

    pub(super) fn key(&self, n: usize) -> PublicKey {
        self.nodes[n].keys.local.public_key()
    }

    /// What a neighbour is called here.
    pub(super) fn peer(&self, at: usize, of: usize) -> Option<PeerNumber> {
        let key = self.key(of);
        self.nodes[at].up.iter().find(|(_, k)| *k == key).map(|(number, _)| *number)
    }

    fn learn(&mut self, n: usize) {
        let (now, node) = (self.now, &mut self.nodes[n]);
        while let Some(event) = node.channel.poll_event(now) {
            match event {
                Event::Up(number, key) => {
                    assert!(node.up.iter().all(|(_, k)| *k != key), "two sessions with one");
                    node.up.push((number, key));
                }
                Event::Down(number, _) => {
                    let before = node.up.len();
                    node.up.retain(|(other, _)| *other != number);
                    assert_eq!(node.up.len(), before - 1, "it was not up");
                }
            }
        }
        while let Some(packet) = node.channel.next_packet() {
            let key = node.up.iter().find(|(number, _)| *number == packet.peer).unwrap().1;
            node.packets.push((key, packet.bytes.to_vec()));
        }
    }

    pub(super) fn begin(&mut self, n: usize) {
        let mut out = [0; MAX_FRAME];
        let now = self.now;
        let node = &mut self.nodes[n];
        if node.sends.is_some() {
            return;
        }
        let len = node.channel.transmit(now, &mut node.keys, &mut out);
        self.learn(n);
        let Some(len) = len else { return };
        self.put(n, out[..len].to_vec());
    }

    /// Puts a frame on the air.
    pub(super) fn put(&mut self, n: usize, frame: Vec<u8>) {
        let time = MODEM.airtime_of_frame(frame.len());
        self.airtime += time;
        self.frames += 1;
        self.ends.push((self.now + time, n));
        self.log.iter_mut().for_each(|log| log.push(frame.clone()));
        self.nodes[n].sends = Some(frame);
        self.nodes[n].hears.iter_mut().for_each(|(_, whole)| *whole = false);
        for m in 0..self.nodes.len() {
            if m != n && (self.linked)(n, m) {
                let node = &mut self.nodes[m];
                let alone = node.hears.is_empty() && node.sends.is_none();
                node.hears.iter_mut().for_each(|(_, whole)| *whole = false);
                node.hears.push((n, alone));
                node.channel.carrier(self.now, true);
            }
        }
    }

    fn end(&mut self, n: usize) {
        let frame = self.nodes[n].sends.take().unwrap();
        for m in 0..self.nodes.len() {
            let node = &mut self.nodes[m];
            let Some(at) = node.hears.iter().position(|(from, _)| *from == n) else { continue };
            let (_, whole) = node.hears.swap_remove(at);
            if node.hears.is_empty() {
                node.channel.carrier(self.now, false);
            }
            if whole {
                let _ = node.channel.receive(self.now, &mut frame.clone(), 0, &mut node.keys);
                self.learn(m);
            }
        }
    }

    pub(super) fn run_until(&mut self, end: Micros) {
        while self.now < end {
            (0..self.nodes.len()).for_each(|n| self.begin(n));
            let now = self.now;
            let mut next = end;
            for node in self.nodes.iter_mut().filter(|node| node.sends.is_none()) {
                let at = node.channel.poll_timeout(now).unwrap_or(end);
                next = next.min(at.max(now + MILLISECOND));
            }
            let first = self.ends.iter().enumerate().min_by_key(|(_, (at, _))| *at);
            if let Some((place, _)) = first.filter(|(_, (at, _))| *at <= next) {
                let (at, n) = self.ends.swap_remove(place);
                self.now = at;
                self.end(n);
                continue;
            }
            self.now = next;
        }
    }

    pub(super) fn run_for(&mut self, time: Micros) {
        self.run_until(self.now + time);
    }

    pub(super) fn all_up(&self) -> bool {
        let count = self.nodes.len();
        (0..count).all(|a| {
            (0..count).all(|b| a == b || !(self.linked)(a, b) || self.peer(a, b).is_some())
        })
    }

    pub(super) fn join(&mut self) {
        for _ in 0..300 {
            self.run_for(10 * SECOND);
            if self.all_up() {
                // Group keys are exchanged too.
                return self.run_for(20 * SECOND);
            }
        }
        panic!("not all are neighbours");
    }
}

pub(super) fn all(_: usize, _: usize) -> bool {
    true
}

/// A search with this number.
pub(super) fn search(number: u64, len: usize) -> Vec<u8> {
    let mut packet = vec![7; len];
    packet[4..8].copy_from_slice(&[1, Kind::RouteRequest as u8, 3, 5]);
    packet[8..16].copy_from_slice(&number.to_le_bytes());
    assert!(header::complete(&mut packet));
    packet
}

#[test]
fn nodes_find_each_other_and_what_is_for_all_is_one_frame() {
    let mut air = Air::new(4, all);
    air.join();
    let (packet, now) = (search(1, 90), air.now);
    let frames = air.frames;
    air.log = Some(Vec::new());
    let has = air.peer(0, 2);
    air.nodes[0].channel.queue_all(now, has, &packet).unwrap();
    air.run_for(5 * SECOND);
    let key = air.key(0);
    let got = |air: &Air, n: usize| air.nodes[n].packets.contains(&(key, packet.clone()));
    assert_eq!([1, 2, 3].map(|n| got(&air, n)), [true, false, true]);
    let log = air.log.take().unwrap();
    assert_eq!(log.iter().filter(|f| f[..2] == [0, 0] && f[4] == 3).count(), 1, "{log:?}");
    assert!(air.frames - frames <= 4, "{}", air.frames - frames);

    // To one of them it goes by its session.
    let peer = air.peer(0, 3).unwrap();
    let long = vec![5; 1000];
    air.nodes[0].channel.queue(air.now, peer, Lane::Free, &long, &[]).unwrap();
    air.run_for(20 * SECOND);
    assert!(air.nodes[3].packets.contains(&(key, long.clone())));
    assert!(!air.nodes[1].packets.contains(&(key, long)));
    // Too long for a frame: to each by its session.
    let long = search(2, 400);
    air.nodes[0].channel.queue_all(air.now, None, &long).unwrap();
    air.run_for(20 * SECOND);
    assert!((1..4).all(|n| air.nodes[n].packets.contains(&(key, long.clone()))));
}

#[test]
fn what_is_for_one_is_acknowledged_before_anybody_else_sends() {
    let mut air = Air::new(6, all);
    air.join();
    for round in 0..20u8 {
        // All but the receiver have something to send.
        air.log = Some(Vec::new());
        for n in 0..5 {
            let peer = air.peer(n, 5).unwrap();
            let now = air.now;
            air.nodes[n].channel.queue(now, peer, Lane::Paid, &[round; 100], &[]).unwrap();
        }
        air.run_for(20 * SECOND);
        let log = air.log.take().unwrap();
        let to = air.nodes[5].channel.address().0.to_be_bytes();
        let is_to = |frame: &[u8]| frame[..2] == to && frame.len() > 100;
        let behind = |at: usize| log.get(at + 1).map(|frame| (frame[2..4] == to, frame));
        for (at, frame) in log.iter().enumerate().filter(|(_, frame)| is_to(frame)) {
            let (is_answer, next) = behind(at).unwrap();
            // Two that began at once have none.
            assert!(is_answer || is_to(next), "{frame:?} {next:?}");
        }
        let answered =
            (0..log.len()).filter(|at| is_to(&log[*at])).filter(|at| behind(*at).unwrap().0);
        assert!(answered.count() >= 5, "each");
    }
}

#[test]
fn at_rest_a_node_takes_little_of_the_channel() {
    // Each has 20 neighbours.
    let mut air = Air::new(21, all);
    air.join();
    let (before, frames) = (air.airtime, air.frames);
    air.run_for(3600 * SECOND);
    let share = (air.airtime - before) as f64 / 21.0 / 3600e6;
    println!("{:.3} % of the channel, {} frames", share * 100.0, air.frames - frames);
    assert!(share <= 0.002, "{share}");
    assert!(air.all_up(), "somebody was lost at rest");
}

#[test]
fn whoever_was_started_again_is_a_neighbour_again() {
    // In either order of their keys.
    for (restarted, other) in [(0, 1), (1, 0)] {
        let mut air = Air::new(2, all);
        air.join();
        let before = air.peer(other, restarted);
        air.nodes[restarted] = air.started(restarted as u16, 32);
        air.run_for(240 * SECOND);
        assert!(air.all_up());
        assert_ne!(air.peer(other, restarted), before, "a new session");
        let packet = search(1, 90);
        let peer = air.peer(other, restarted).unwrap();
        air.nodes[other].channel.queue(air.now, peer, Lane::Paid, &packet, &[]).unwrap();
        air.run_for(10 * SECOND);
        assert!(air.nodes[restarted].packets.contains(&(air.key(other), packet)));
    }
}

#[test]
fn whoever_leaves_is_gone_after_a_while() {
    let mut air = Air::new(3, all);
    air.join();
    let gone = air.nodes.pop().unwrap();
    air.ends.retain(|(_, n)| *n != 2);
    air.nodes.iter_mut().for_each(|node| node.hears.retain(|(n, _)| *n != 2));
    drop(gone);
    air.nodes.iter_mut().for_each(|node| node.channel.carrier(air.now, false));
    air.run_for(limits(8).silence() + 60 * SECOND);
    assert_eq!([0, 1].map(|n| air.nodes[n].up.len()), [1, 1]);
}

#[test]
fn without_the_channels_key_nothing_is_done_and_with_it_alone_nothing_moves() {
    let mut air = Air::new(2, all);
    air.log = Some(Vec::new());
    air.join();
    let log = air.log.take().unwrap();
    let (now, node) = (air.now, &mut air.nodes[0]);
    let counts = |c: &TestChannel| (c.peers().count(), c.candidates(), c.counter, c.peers.len());
    let before = counts(&node.channel);
    // All that was sent, again: it came before, or is not for this node, or is a call, which waits
    // for its turn and is not answered with a session.
    for frame in &log {
        let _ = node.channel.receive(now, &mut frame.clone(), 0, &mut node.keys);
        assert_eq!(counts(&node.channel).0, before.0);
    }
    assert_eq!(counts(&node.channel), before);

    // A stranger without the key.
    let (stranger, other) = (TestKeys::new(77), TagKey::new([8; 32]));
    let id = NodeId::from_public_key(&stranger.local.public_key());
    let me = node.channel.address();
    let mut out = [0; MAX_FRAME];
    let key = stranger.local.public_key().serialize();
    let mut announce = |from: Address, key: &[u8; 33], channel: &TagKey| {
        let len = frame::write_announcement(from, 7, key, channel, &TagKey::new([3; 32]), &mut out);
        out[..len.unwrap()].to_vec()
    };
    let mut forged = announce(Address::of(&id), &key, &other);
    let taken = node.channel.receive(now, &mut forged, 0, &mut node.keys);
    assert_eq!(taken, Err(Ignored::Forged));
    let mut act = vec![0; 4 + terms::ONE_LEN + TAG_LEN];
    act[..4].copy_from_slice(&[&me.0.to_be_bytes()[..], &[1, 2]].concat());
    act[4] = terms::ONE;
    assert_eq!(node.channel.receive(now, &mut act, 0, &mut node.keys), Err(Ignored::Forged));
    assert_eq!(counts(&node.channel), before);

    // With it: of the neighbour's name nothing moves, and under another's key no name is taken.
    let channel_key = TagKey::new(KEY);
    let neighbour = node.up[0].1.serialize();
    let from = Address::of(&NodeId::from_compressed(&neighbour));
    let heard = node.channel.peers().next().unwrap().heard;
    let mut known = announce(from, &neighbour, &channel_key);
    node.channel.receive(now, &mut known, 0, &mut node.keys).unwrap();
    let mut other_name = announce(from, &key, &channel_key);
    let taken = node.channel.receive(now, &mut other_name, 0, &mut node.keys);
    assert_eq!(taken, Err(Ignored::Malformed));
    assert_eq!(counts(&node.channel), before);
    assert_eq!(node.channel.peers().next().unwrap().heard, heard);
    // The doubt costs one handshake, which nothing comes of; the session stays.
    air.run_for(60 * SECOND);
    let (now, node) = (air.now, &mut air.nodes[0]);
    let peer = node.up[0].0;
    node.channel.queue(now, peer, Lane::Paid, b"still", &[]).unwrap();
    air.run_for(10 * SECOND);
    assert!(air.nodes[1].packets.iter().any(|(_, packet)| packet == b"still"));
}

#[test]
fn strangers_who_come_under_ever_new_names_keep_nobody_out() {
    let mut air = Air::new(2, all);
    air.join();
    let mut late = air.started(50, 32);
    late.channel.beacon_at = air.now;
    air.nodes.push(late);
    let (channel_key, mut name) = (TagKey::new(KEY), 1000u16);
    let start = air.now;
    // A name a second: 5 % of the time on the air.
    while air.now < start + 1800 * SECOND && !air.all_up() {
        air.run_for(SECOND);
        {
            name += 1;
            let keys = TestKeys::new(name);
            let key = keys.local.public_key().serialize();
            let from = Address::of(&NodeId::from_compressed(&key));
            let mut out = [0; MAX_FRAME];
            let group = TagKey::new([3; 32]);
            let len = frame::write_announcement(from, 1, &key, &channel_key, &group, &mut out);
            let now = air.now;
            for node in &mut air.nodes {
                let mut frame = out[..len.unwrap()].to_vec();
                let _ = node.channel.receive(now, &mut frame, 0, &mut node.keys);
                assert!(node.channel.candidates() <= CANDIDATES);
                assert!(node.channel.peers.len() <= 32);
            }
        }
    }
    println!("in after {} s", (air.now - start) / SECOND);
    assert!(air.all_up(), "it was kept out");
}

#[test]
fn a_neighbour_that_sends_in_anothers_name_is_found_out() {
    let mut air = Air::new(3, all);
    air.join();
    // The second node knows the first one's group key, and the third takes it for that.
    let mut out = [0; MAX_FRAME];
    let group = air.nodes[0].channel.group.clone();
    let from = air.nodes[0].channel.address();
    let len = frame::write_beacon(from, u32::MAX - 1, &group, &mut out).unwrap();
    air.put(1, out[..len].to_vec());
    air.run_for(20 * SECOND);
    assert_ne!(air.nodes[0].channel.group.bytes(), group.bytes(), "it has another key");
    let packet = search(1, 90);
    air.nodes[0].channel.queue_all(air.now, None, &packet).unwrap();
    air.run_for(10 * SECOND);
    let key = air.key(0);
    assert!([1, 2].iter().all(|n| air.nodes[*n].packets.contains(&(key, packet.clone()))));
}

#[test]
fn a_search_that_others_have_passed_on_is_let_be() {
    let mut air = Air::new(6, all);
    air.join();
    air.log = Some(Vec::new());
    let (packet, now) = (search(9, 90), air.now);
    for n in 1..6 {
        let mut passed = packet.clone();
        // Each adds itself.
        passed[80] = n as u8;
        passed[7] = 4;
        assert!(header::complete(&mut passed));
        let has = air.peer(n, 0);
        air.nodes[n].channel.queue_all(now, has, &passed).unwrap();
    }
    air.run_for(20 * SECOND);
    let log = air.log.take().unwrap();
    let sent = log.iter().filter(|f| f[..2] == [0, 0] && f[4] == 3).count();
    assert!((3..=4).contains(&sent), "{sent} of five");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_frames(frames in any_vec((any_vec(any::<u8>(), 0..100), 0u8..4), 0..40)) {
        let mut air = Air::new(2, all);
        air.run_for(60 * SECOND);
        let me = air.nodes[0].channel.address().0.to_be_bytes();
        for (mut frame, addressed) in frames {
            if let Some(to) = frame.first_chunk_mut::<2>().filter(|_| addressed > 0) {
                *to = if addressed == 1 { [0, 0] } else { me };
            }
            let (now, node) = (air.now, &mut air.nodes[0]);
            prop_assert!(node.channel.receive(now, &mut frame, 0, &mut node.keys).is_err());
            air.run_for(MILLISECOND);
        }
    }

    #[test]
    fn frames_are_read_as_written(from in 1u16.., counter: u32, has: u16, packet in any_vec(any::<u8>(), 0..100), key: [u8; 32], flip: prop::sample::Index) {
        let (from, tag_key) = (Address(from), TagKey::new(key));
        let mut out = [0; MAX_FRAME];
        let parts = core::iter::once(&packet[..]);
        let len = frame::write_packet(from, counter, Address(has), parts, &tag_key, &mut out).unwrap();
        prop_assert_eq!(len, packet.len() + frame::PACKET_OVERHEAD);
        let Some(Frame::ToAll(read)) = Frame::parse(&mut out[..len]) else { panic!("to all") };
        prop_assert_eq!((read.from, read.counter), (from, counter));
        prop_assert_eq!(read.content, Content::Packet(Address(has), &packet[..]));
        prop_assert!(tag_key.is_tag(read.tagged, &read.tag));
        let at = flip.index(len);
        out[at] ^= 1;
        if let Some(Frame::ToAll(read)) = Frame::parse(&mut out[..len]) {
            prop_assert!(!tag_key.is_tag(read.tagged, &read.tag));
        }
    }
}
