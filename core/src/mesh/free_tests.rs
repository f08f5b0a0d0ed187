//! Free traffic keeps to what neighbours take, and control packets to what they cost.

use super::test_world::{Outcome, Own};
use super::*;
use crate::config::Allowance;
use crate::id::HopId;
use crate::id::Network;
use crate::mode::MeshMode;
use crate::tables::Heap;
use crate::time::{MILLISECOND, SECOND};
use crate::wire::Header;
use crate::wire::route_request::{self, Hop, Hops, RouteRequest};
use std::vec::Vec;

type World = test_world::World<Heap>;

/// Nodes in a line that take 100 kB a second for nothing.
fn line(count: u8) -> World {
    let mut w = World::new(count, |_| {
        let mut config = Config::host(Network::Regtest);
        config.mode = MeshMode::Open;
        (config.free_rate, config.free_burst) = (100_000, 100_000);
        config
    });
    for n in 1..usize::from(count) {
        w.wire(n - 1, n);
    }
    w
}

fn own(w: &World, to: usize, bytes: usize, number: u8) -> Own {
    let to = w.id(to);
    Own { to, payload: std::vec![number; bytes], proof: Vec::new(), unchecked: false }
}

fn delivered(did: &[(usize, Outcome)], at: usize) -> usize {
    did.iter().filter(|(n, d)| *n == at && matches!(d, Outcome::Deliver(..))).count()
}

fn refused(did: &[(usize, Outcome)]) -> Vec<MeshError> {
    let refusals = did.iter().filter_map(|(_, d)| match d {
        Outcome::Reject(reason) | Outcome::Drop(_, reason) => Some(*reason),
        _ => None,
    });
    refusals.collect()
}

/// Lets all nodes live in small steps.
fn live(w: &mut World, span: Micros) -> Vec<(usize, Outcome)> {
    let (mut did, end) = (Vec::new(), w.now + span);
    while w.now < end {
        did.extend(w.later(10 * MILLISECOND));
    }
    did
}

#[test]
fn what_is_sent_at_once_is_paced_through_relays_and_nothing_is_lost() {
    let mut w = line(4);
    let (to, begun) = (w.id(3), w.now);
    w.give(0, Input::FindRoute { destination: to });
    live(&mut w, 2 * SECOND);
    assert!(w.nodes[0].table().find_route(&to, w.now).is_some());
    let mut did = Vec::new();
    for n in 0..30 {
        let own = own(&w, 3, 10_000, n);
        did.extend(w.send(0, own));
    }
    // About 88 kB a second, after what was there at once.
    did.extend(live(&mut w, SECOND));
    let early = delivered(&did, 3);
    assert!((10..25).contains(&early), "{early}");
    did.extend(live(&mut w, 3 * SECOND));
    assert_eq!((delivered(&did, 3), refused(&did)), (30, Vec::new()));
    assert!(w.now > begun);
}

#[test]
fn who_asks_for_more_than_can_wait_is_told_when_there_is_room() {
    let mut w = line(2);
    let mut last = Vec::new();
    for n in 0..100 {
        let own = own(&w, 1, 90_000, n);
        last = w.send(0, own);
    }
    let [(0, Outcome::Reject(MeshError::NetworkError(NetworkReason::NoRoomFor { millis })))] =
        last[..]
    else {
        panic!("{last:?}");
    };
    assert!((60_000..70_000).contains(&millis), "{millis}");
    let own = own(&w, 1, 100_001, 0);
    let did = w.send(0, own);
    assert_eq!(refused(&did), [NetworkReason::LargerThanAllowance.into()]);
}

#[test]
fn small_packets_behind_a_relay_do_not_push_out_large_ones() {
    // 0 and 1 send to 3 by way of 2; 0 as much as it can, in small packets.
    let mut w = World::new(4, |n| {
        let mut config = Config::host(Network::Regtest);
        config.mode = MeshMode::Open;
        // Only the last node's allowance is scarce.
        let (rate, burst) = if n == 3 { (100_000, 100_000) } else { (1 << 40, 1 << 40) };
        (config.free_rate, config.free_burst) = (rate, burst);
        config
    });
    for (a, b) in [(0, 2), (1, 2), (2, 3)] {
        w.wire(a, b);
    }
    let to = w.id(3);
    for n in [0, 1] {
        w.give(n, Input::FindRoute { destination: to });
    }
    live(&mut w, 2 * SECOND);
    let (mut large, mut number) = (0, 0);
    for round in 0..2_000u32 {
        for _ in 0..30 {
            let own = own(&w, 3, 300, number);
            w.send(0, own);
            number = number.wrapping_add(1);
        }
        // Half of its part: 40 kB in 1.6 s, again as long as it is refused.
        let due = u64::from(round) * 10 / 1_600 + 1;
        if large < due && round % 20 == 0 {
            let own = own(&w, 3, 40_000, number);
            w.send(1, own);
        }
        let did = w.later(10 * MILLISECOND);
        large += did
            .iter()
            .filter(|(n, d)| *n == 3 && matches!(d, Outcome::Deliver(_, p, _) if p.len() > 300))
            .count() as u64;
    }
    assert!(large >= 11, "{large} of 12 large ones passed");
    assert!(w.nodes[3].stats().delivered > 2_000, "and what they leave is used");
}

fn flood_request(w: &World, hops: usize, sequence: u64, limit: u8) -> Vec<u8> {
    let mut travelled = Hops::new();
    for n in 1..hops {
        let node = HopId([n as u8, 1, 2, 3, 4, 5, sequence as u8, (sequence >> 8) as u8]);
        travelled.push(Hop { node, tariff: Default::default() }).unwrap();
    }
    travelled.push(Hop { node: w.id(0).hop(), tariff: Default::default() }).unwrap();
    let request = RouteRequest {
        flags: 0,
        hop_limit: limit,
        sequence,
        source: HopId([9; 8]),
        destination: HopId([8; 8]),
        min_packet: 1 << 20,
        quality: 0,
        accepted: None,
        hops: travelled,
    };
    let mut bytes = std::vec![0; route_request::MAX_LEN];
    let n = request.write(&mut bytes).unwrap();
    bytes.truncate(n);
    bytes
}

#[test]
fn searches_through_the_whole_mesh_have_a_rate_and_near_ones_pass_beside_them() {
    let mut w = line(3);
    let wide = Allowance { rate: 16, burst: 64 };
    assert_eq!(w.nodes[1].config().wide_searches, wide);
    let link = World::link(1, 0);
    let mut passed = 0;
    for n in 0..1_000 {
        let did = {
            let bytes = flood_request(&w, 1, n, 40);
            w.receive(1, link, bytes)
        };
        passed += u64::from(refused(&did).is_empty());
        w.now += 10 * MILLISECOND;
    }
    assert!((64..=64 + 160 + 1).contains(&passed), "{passed} in ten seconds");
    let near = {
        let bytes = flood_request(&w, 1, 5_000, 1);
        w.receive(1, link, bytes)
    };
    assert_eq!(refused(&near), []);
    assert!(Header::parse(&flood_request(&w, 1, 1, 1)).is_ok());
}

/// What a refused wide search on one way does not do: make it known, so that it would be
/// refused on another way too.
#[test]
fn what_one_neighbour_may_not_flood_another_may() {
    let mut w = line(3);
    w.nodes[1].config.wide_searches = Allowance { rate: 1, burst: 1 };
    let link = World::link(1, 0);
    let first = {
        let bytes = flood_request(&w, 1, 1, 40);
        w.receive(1, link, bytes)
    };
    assert_eq!(refused(&first), []);
    let second = {
        let bytes = flood_request(&w, 1, 2, 40);
        w.receive(1, link, bytes)
    };
    assert_eq!(refused(&second), [NetworkReason::ControlQuota.into()]);
    assert!(!w.nodes[1].tables.requests.contains(HopId([9; 8]), 2));
}

/// 16 links, each within its allowance, with 47 invented hops in each request.
#[test]
fn requests_with_invented_hops_take_a_small_part_of_a_second() {
    let mut w = line(2);
    w.nodes[1].config.control_of_all = Allowance { rate: u64::MAX, burst: u64::MAX };
    w.nodes[1].config.control = Allowance { rate: u64::MAX, burst: u64::MAX };
    let link = World::link(1, 0);
    let requests: Vec<_> = (0..2_000).map(|n| flood_request(&w, 47, n, 0)).collect();
    let begun = std::time::Instant::now();
    for bytes in requests {
        w.nodes[1].receive_for_test(link, bytes, w.now);
    }
    let each = begun.elapsed() / 2_000;
    std::println!("{each:?} each, with tables that are full: {}", w.nodes[1].route_hints());
    assert_eq!(w.nodes[1].route_hints(), 4096);
    // Unoptimised; it was 10 ms.
    assert!(each < core::time::Duration::from_millis(3), "{each:?}");
}

impl Mesh<Heap> {
    fn receive_for_test(&mut self, link: LinkId, mut packet: Vec<u8>, now: Micros) {
        self.handle(now, Input::MessageReceived { link, packet: &mut packet }).unwrap();
        while !matches!(self.poll(), Action::Wait { .. }) {}
    }
}
