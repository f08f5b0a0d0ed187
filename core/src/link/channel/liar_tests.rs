//! What somebody cannot move who holds the channel's key, hears everything and has no session.

use super::frame::ADDRESSES_LEN;
use super::peer::Group;
use super::tests::{Air, KEY, MODEM, TestChannel, TestKeys, all, limits, search};
use super::*;
use crate::link::aead::RustCrypto;
use crate::link::datagram::{DatagramLink, LinkMemory, terms};
use crate::link::packet_buffer::Growable;
use crate::time::SECOND;
use lora::MAX_FRAME;
use std::{format, string::String, vec, vec::Vec};

/// Of the name that a liar's frames have.
fn named(key: &PublicKey) -> Address {
    Address::of(&NodeId::from_public_key(key))
}

fn announcement(key: &PublicKey, counter: u32) -> Vec<u8> {
    let (mut out, group) = ([0; MAX_FRAME], TagKey::new([3; 32]));
    let channel = TagKey::new(KEY);
    let key_bytes = key.serialize();
    let len =
        frame::write_announcement(named(key), counter, &key_bytes, &channel, &group, &mut out);
    out[..len.unwrap()].to_vec()
}

/// A frame to one node; an act has its tag.
fn to_one(to: Address, from: Address, inner: &[u8]) -> Vec<u8> {
    let mut out = [0; MAX_FRAME];
    let end = ADDRESSES_LEN + inner.len();
    out[ADDRESSES_LEN..end].copy_from_slice(inner);
    frame::address(to, from, &mut out).unwrap();
    let tag = TagKey::new(KEY).tag(&out[..end]);
    let tag = if inner[0] > terms::SESSIONS { &tag[..] } else { &[] };
    [&out[..end], tag].concat()
}

/// A call that the node with this key takes for one: made by `liar`, in the name of `from`.
fn call(to: &PublicKey, from: Address, liar: u16) -> Vec<u8> {
    let memory = || [0; 2].map(|_| Growable::default());
    let memory = LinkMemory { inbound: memory(), outbound: memory() };
    let mut link = DatagramLink::<RustCrypto, _>::new(limits(8).link, Role::Dial(*to), memory);
    let mut act = [0; MAX_FRAME];
    let len = link.transmit(0, &mut TestKeys::new(liar), &mut act).unwrap();
    to_one(named(to), from, &act[..len])
}

/// One of each kind, to the first node and in the name of the second.
fn lies(air: &Air, round: u16) -> Vec<Vec<u8>> {
    let (to, from) = (air.key(0), air.key(1));
    let (me, name) = (named(&to), named(&from));
    let stranger = TestKeys::new(5_000 + round).local.public_key();
    let (mut out, group) = ([0; MAX_FRAME], TagKey::new([4; 32]));
    let counter = u32::MAX / 2 + u32::from(round);
    let len = frame::write_beacon(name, counter, &group, &mut out).unwrap();
    let beacon = out[..len].to_vec();
    let packet = search(u64::from(round), 90);
    let packet = core::iter::once(&packet[4..]);
    let len = frame::write_packet(name, counter, Address::ALL, packet, &group, &mut out).unwrap();
    let fake = out[..len].to_vec();
    let filled = |first: u8, len: usize| {
        let mut bytes = vec![round as u8; len];
        (bytes[0], bytes[1]) = (first, 1);
        bytes
    };
    vec![
        announcement(&from, counter),
        announcement(&to, counter),
        announcement(&stranger, counter),
        call(&to, name, round + 9_000),
        call(&to, named(&stranger), round + 10_000),
        to_one(me, name, &filled(terms::ONE, terms::ONE_LEN)),
        to_one(me, name, &filled(terms::TWO, terms::TWO_LEN)),
        to_one(me, name, &filled(terms::THREE, terms::THREE_LEN)),
        to_one(me, name, &filled(1, 60)),
        beacon,
        fake,
    ]
}

/// Gives the first of three neighbours lies, and looks before and after each at something of it that
/// may not move.
fn holds<T: PartialEq + core::fmt::Debug>(look: impl Fn(&TestChannel) -> T) {
    let mut air = Air::new(3, all);
    air.log = Some(Vec::new());
    air.join();
    // What was sent once is heard again, too.
    let old = air.log.take().unwrap();
    for round in 0..20 {
        for lie in lies(&air, round).into_iter().chain(old.iter().cloned()) {
            let (now, node) = (air.now, &mut air.nodes[0]);
            let before = look(&node.channel);
            let _ = node.channel.receive(now, &mut lie.clone(), 40, &mut node.keys);
            assert_eq!(look(&node.channel), before, "{lie:02x?}");
            assert_eq!(node.channel.poll_event(now), None, "{lie:02x?}");
            assert_eq!(node.channel.next_packet(), None, "{lie:02x?}");
        }
    }
}

#[test]
fn no_lie_moves_a_neighbours_place_or_what_is_known_of_it() {
    holds(|channel| channel.peers().collect::<Vec<_>>());
}

#[test]
fn no_lie_moves_a_group_key_or_a_counter() {
    let group = |group: &Group| (*group.key.bytes(), group.next);
    holds(|channel| {
        let groups: Vec<_> = channel.peers.iter().map(|p| p.group.as_ref().map(group)).collect();
        (*channel.group.bytes(), channel.counter, channel.rekey_at, groups)
    });
}

#[test]
fn no_lie_moves_the_next_beacon_the_back_off_or_the_budget_of_air_time() {
    let shown = |channel: &TestChannel| -> String { format!("{:?}", channel.access) };
    holds(|channel| (channel.beacon_at, channel.beacons, channel.answer, shown(channel)));
}

#[test]
fn no_lie_stops_a_search_that_waits() {
    let mut air = Air::new(3, all);
    air.join();
    let has = air.peer(0, 2);
    for round in 0..3 {
        let (packet, now) = (search(round, 90), air.now);
        air.nodes[0].channel.queue_all(now, has, &packet).unwrap();
        for lie in lies(&air, round as u16).iter().cycle().take(60) {
            let node = &mut air.nodes[0];
            let _ = node.channel.receive(now, &mut lie.clone(), 0, &mut node.keys);
        }
        air.run_for(20 * SECOND);
        let key = air.key(0);
        assert!(air.nodes[1].packets.contains(&(key, packet)));
    }
}

/// Lets a liar send such frames to all nodes, this many in a second, for so long.
fn flooded(air: &mut Air, seconds: u64, mut lies: impl FnMut(&Air, u64) -> Vec<Vec<u8>>) {
    for second in 0..seconds {
        for lie in lies(air, second) {
            let now = air.now;
            for node in &mut air.nodes {
                let _ = node.channel.receive(now, &mut lie.clone(), 0, &mut node.keys);
            }
        }
        air.run_for(SECOND);
    }
}

#[test]
fn a_neighbour_that_somebody_else_announces_keeps_its_session() {
    let mut air = Air::new(3, all);
    air.join();
    let before: Vec<_> = air.nodes.iter().map(|node| node.up.clone()).collect();
    flooded(&mut air, 600, |air, second| {
        (0..3).map(|n| announcement(&air.key(n), second as u32)).collect()
    });
    let after: Vec<_> = air.nodes.iter().map(|node| node.up.clone()).collect();
    assert_eq!(after, before, "a session ended, and with it what was queued");
}

/// A board's channel has eight places.
#[test]
fn calls_that_nobody_ends_leave_the_neighbours_and_let_newcomers_in() {
    let mut air = Air::new(3, all);
    for n in 0..3 {
        air.nodes[n] = air.started(n as u16, 8);
    }
    air.join();
    let before: Vec<_> = air.nodes.iter().map(|node| node.up.clone()).collect();
    let mut late = air.started(50, 8);
    late.channel.beacon_at = air.now;
    air.nodes.push(late);
    let mut number = 0;
    let mut calls = |air: &Air, _| {
        number += 1;
        let of = |n: usize| call(&air.key(n), Address(20_000 + number), 10_000 + number);
        (0..4).map(of).collect::<Vec<_>>()
    };
    let start = air.now;
    while !air.all_up() && air.now < start + 1800 * SECOND {
        flooded(&mut air, 10, &mut calls);
    }
    std::println!("in after {} s", (air.now - start) / SECOND);
    assert!(air.all_up() && air.now < start + 1200 * SECOND, "somebody was kept out");
    for (node, before) in air.nodes.iter().zip(&before) {
        assert!(before.iter().all(|peer| node.up.contains(peer)), "a session ended");
    }
    // Nothing is left of the calls, nor of the places that they had.
    air.run_for(4 * limits(8).link.handshake_timeout);
    assert!(air.nodes.iter().all(|node| node.channel.peers.len() == 3));
}

#[test]
fn what_lies_make_a_node_send_is_within_its_budget() {
    let mut air = Air::new(2, all);
    air.join();
    let (before, start) = (air.nodes[0].channel.access().sent(), air.now);
    flooded(&mut air, 1800, |air, second| lies(air, second as u16));
    let spent = air.nodes[0].channel.access().sent() - before;
    let most = (air.now - start) * u64::from(MODEM.duty_permille) / 1000;
    std::println!("{} of {} s", spent / SECOND, most / SECOND);
    // What was not used before may be used at once.
    assert!(spent <= most + most / 6, "{spent} of {most}");
    assert!(air.all_up());
}

/// Whatever the order of the keys: who has the lower one dials.
#[test]
fn a_newcomer_is_heard_again_and_let_in_among_names_that_are_ever_new() {
    // Three announcements come within 45 s, and a call that nobody answers is given up after 60 s: time for two
    // rounds of that.
    let longest = 210;
    let (mut number, mut slowest) = (1000, 0);
    for (late, names) in (50..62).map(|late| (late, 1)).chain((62..74).map(|late| (late, 3))) {
        let mut air = Air::new(2, all);
        air.join();
        let mut newcomer = air.started(late, 32);
        newcomer.channel.beacon_at = air.now;
        air.nodes.push(newcomer);
        let start = air.now;
        while !air.all_up() {
            assert!(air.now < start + longest * SECOND, "{late} was kept out");
            flooded(&mut air, 1, |_, _| {
                number += names;
                let invented = |n: u16| TestKeys::new(number - n).local.public_key();
                (0..names).map(|n| announcement(&invented(n), 1)).collect()
            });
        }
        slowest = slowest.max((air.now - start) / SECOND);
    }
    std::println!("in after {slowest} s at most");
}

/// Dials of a node that hears so many new names in each of its turns, each so often, in an hour.
fn dials(names: u16, times: u8) -> u64 {
    let (limits, mut rng, mut number) = (limits(8), Rng::new(&[7; 32], "test"), 0u16);
    let mut strangers = Strangers::new(0, limits.handshake_interval);
    let turns = 3600 * SECOND / limits.handshake_interval;
    let dials = (1..=turns).filter(|turn| {
        for _ in 0..names {
            number += 1;
            let mut key = [0xff; 33];
            key[..2].copy_from_slice(&number.to_be_bytes());
            (0..times).for_each(|_| strangers.announced(key, Address(number), &mut rng));
        }
        let now = turn * limits.handshake_interval;
        let interval = limits.unanswered_interval;
        let turn = strangers.choose(now, interval, &[0; 33], |_| false, &mut rng);
        matches!(turn, Some(Turn::Dial(..)))
    });
    dials.count() as u64
}

#[test]
fn how_many_invented_names_are_dialed_is_bounded_and_more_of_them_cost_more() {
    let paid_back = 3600 * SECOND / limits(8).unanswered_interval + 1;
    // One hearing is enough for the first dials, two for four more, four for four more again, and so on: no name
    // counts as heard more than 255 times.
    for (times, burst) in [(1, UNANSWERED), (2, UNANSWERED + 4), (4, UNANSWERED + 8), (64, 32)] {
        let most = burst + paid_back;
        assert!(
            (burst..=most).contains(&dials(8, times)),
            "{times}: {} of {most}",
            dials(8, times)
        );
    }
}
