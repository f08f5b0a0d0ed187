//! Which bytes of a packet a relay passes on without having checked them: for every kind of
//! packet each byte of a valid one is changed, and what still goes on is held against a list.
//! What is on it is charged to an allowance of the neighbour; nothing else may be.

use super::test_world::{Outcome, set_check};
use super::*;
use crate::config::MeshMode;
use crate::id::HopId;
use crate::id::Network;
use crate::tables::Boxed;
use crate::time::SECOND;
use crate::wire::datagram::{Emit, FLAG_PROOF, Form};
use crate::wire::header::lower_hop_limit;
use crate::wire::route_error::{Cause, RouteError};
use crate::wire::route_request::{self, RouteRequest};
use crate::wire::{HEADER_LEN, Header, Kind};
use std::vec;
use std::vec::Vec;

type World = super::test_world::World<Boxed>;

/// A whole Bitcoin message without a payload.
fn verack() -> Vec<u8> {
    let mut message = Network::Regtest.magic().to_vec();
    message.extend(b"verack\0\0\0\0\0\0");
    message.extend([0, 0, 0, 0, 0x5d, 0xf6, 0xe0, 0xe2]);
    message
}

/// Five nodes in a line.
fn line(mode: MeshMode) -> World {
    let mut config = Config::board(Network::Regtest, 100_000);
    config.mode = mode;
    config.timing.keepalive = 0;
    let mut w = World::new(5, |_| config.clone());
    (1..5).for_each(|n| drop(w.wire(n - 1, n)));
    w
}

/// A free datagram from the first node of a way to its last, as it leaves the first.
fn free(w: &World, way: &[usize], sequence: u64, payload: &[u8]) -> Vec<u8> {
    let [from, hops @ .., to] = way else { panic!("a way has two ends") };
    let hops: Vec<HopId> = hops.iter().map(|n| w.id(*n).hop()).collect();
    let (source, destination) = (w.id(*from), w.id(*to));
    let hop_limit = hops.len() as u8;
    let emit = Emit { hop_limit, sequence, source, destination, proof: None, form: Form::Plain };
    let mut out = vec![0; 1000];
    let n = emit.write(&hops, payload, &mut out, |_| [0; 64]).unwrap();
    [&out[..n], payload].concat()
}

/// What a node did with a packet that came from a neighbour: whether it went on, and where
/// it was refused, why.
fn give(w: &mut World, n: usize, from: usize, packet: Vec<u8>) -> (bool, Option<MeshError>) {
    w.now += 10 * SECOND;
    w.in_flight.clear();
    let kind = packet[5];
    let did = w.receive(n, World::link(n, from), packet);
    let goes_on = w.in_flight.drain(..).any(|(to, _, bytes)| to != from && bytes[5] == kind);
    let refused = did.into_iter().find_map(|(_, did)| match did {
        Outcome::Reject(reason) => Some(reason),
        _ => None,
    });
    (goes_on, refused)
}

/// The bytes of a packet that may be something else and the packet still goes on. `make`
/// makes valid ones; it is told how many it made.
fn carried(
    w: &mut World,
    (n, from): (usize, usize),
    mut make: impl FnMut(&mut World, u64) -> Vec<u8>,
) -> Vec<usize> {
    let mut number = 1;
    let mut next = |w: &mut World| {
        // No change of a byte makes one number another's.
        number += 1;
        make(w, u64::wrapping_mul(number, 0x9e37_79b9_7f4a_7c15))
    };
    let valid = next(w);
    let len = valid.len();
    assert_eq!(give(w, n, from, valid), (true, None), "the packet is valid");
    let mut carried = Vec::new();
    for at in (0..len).filter(|at| !(20..24).contains(at)) {
        let goes_on = [1, 2, 0x40, 0x80].into_iter().any(|bit| {
            let mut packet = next(w);
            packet[at] ^= bit;
            set_check(&mut packet);
            give(w, n, from, packet).0
        });
        if goes_on {
            carried.push(at);
        }
    }
    carried
}

fn bytes(ranges: &[core::ops::Range<usize>]) -> Vec<usize> {
    ranges.iter().cloned().flatten().collect()
}

const SEQUENCE: core::ops::Range<usize> = 8..16;

#[test]
fn a_free_datagram_carries_nothing_unchecked_but_its_number_and_names() {
    let payload = verack();
    let way = [0, 1, 2, 3, 4];
    // At the first relay: the number, the destination, and hops that are not neighbours.
    let mut w = line(MeshMode::PaymentGated);
    let at_first = carried(&mut w, (1, 0), |w, number| free(w, &way, number, &payload));
    assert_eq!(at_first, bytes(&[SEQUENCE, 56..88, 108..116]));
    // At the last one: the number, the source, and hops that are not neighbours.
    let at_last = carried(&mut w, (3, 2), |w, number| {
        let mut packet = free(w, &way, number, &payload);
        (0..2).for_each(|_| assert!(lower_hop_limit(&mut packet)));
        packet
    });
    assert_eq!(at_last, bytes(&[SEQUENCE, 24..56, 92..100]));
}

#[test]
fn what_goes_free_carries_no_proof() {
    // 60,000 bytes that nobody checks, a key and a signature, behind a Bitcoin message.
    let payload = verack();
    for mode in [MeshMode::PaymentGated, MeshMode::BitcoinOnly] {
        let mut w = line(mode);
        for (number, proof) in [vec![0; 60_000], vec![1; 100], vec![9]].into_iter().enumerate() {
            for n in 1..3 {
                let mut packet = vec![0; 24 + 68 + 16];
                let mut whole = free(&w, &[0, 1, 2, 3], number as u64, &payload);
                packet.copy_from_slice(&whole[..24 + 68 + 16]);
                packet[90..92].copy_from_slice(&(proof.len() as u16).to_le_bytes());
                packet[6] |= FLAG_PROOF;
                packet.extend([&[0; 33 + 64][..], &proof, &payload].concat());
                let len = (packet.len() - HEADER_LEN) as u32;
                packet[16..20].copy_from_slice(&len.to_le_bytes());
                packet[7] -= n as u8 - 1;
                set_check(&mut packet);
                let (goes_on, refused) = give(&mut w, n, n - 1, packet);
                assert!(!goes_on && refused.is_some(), "{mode} node {n}: {refused:?}");
                // Without them it goes.
                whole[7] -= n as u8 - 1;
                set_check(&mut whole);
                assert_eq!(give(&mut w, n, n - 1, whole), (true, None));
            }
        }
    }
}

#[test]
fn a_signed_datagram_carries_nothing_unchecked() {
    let mut w = super::lightning_tests::gated(5);
    let carried = carried(&mut w, (1, 0), |w, number| {
        let proof = super::lightning_tests::any_proof(w, &[0, 1, 2, 3, 4], number);
        w.packet(&[0, 1, 2, 3, 4], number, &super::lightning_tests::PAYLOAD, &proof)
    });
    assert_eq!(carried, bytes(&[]));
}

#[test]
fn a_route_request_carries_what_discovery_collects() {
    let mut w = line(MeshMode::PaymentGated);
    let carried = carried(&mut w, (1, 0), |w, number| {
        let request = RouteRequest {
            flags: 0,
            hop_limit: 9,
            sequence: number,
            source: w.id(0).hop(),
            destination: HopId([9; 8]),
            min_packet: 100,
            quality: 100,
            accepted: None,
            hops: route_request::Hops::new(),
        };
        let mut out = vec![0; route_request::MAX_LEN];
        let n = request.write(&mut out).unwrap();
        out.truncate(n);
        out
    });
    // Flags, hop limit, number, destination, and two numbers.
    assert_eq!(carried, bytes(&[6..8, SEQUENCE, 32..42]));
}

#[test]
fn a_route_reply_carries_nothing_unchecked() {
    let mut w = line(MeshMode::PaymentGated);
    let carried = carried(&mut w, (1, 2), |w, number| {
        let request = RouteRequest {
            flags: 0,
            hop_limit: 9,
            sequence: number,
            source: w.id(0).hop(),
            destination: w.id(3).hop(),
            min_packet: 1000,
            quality: 256,
            accepted: None,
            hops: route_request::Hops::new(),
        };
        let mut out = vec![0; route_request::MAX_LEN];
        let n = request.write(&mut out).unwrap();
        out.truncate(n);
        let mut from = 0;
        for to in 1..4 {
            w.now += 10 * SECOND;
            w.in_flight.clear();
            w.receive(to, World::link(to, from), core::mem::take(&mut out));
            let next = w.in_flight.drain(..).find(|(n, ..)| *n != from || to == 3);
            (out, from) = (next.expect("it goes on").2, to);
        }
        w.now += 10 * SECOND;
        w.receive(2, World::link(2, 3), out);
        let back = w.in_flight.drain(..).find(|(n, ..)| *n == 1);
        back.expect("the reply goes back").2
    });
    assert_eq!(carried, bytes(&[]));
}

#[test]
fn a_route_error_carries_its_cause_and_what_a_far_reporter_calls_itself() {
    let way = [0, 1, 2, 3, 4];
    // The neighbour reports, the destination, and a node between them.
    const CAUSE: usize = 128;
    for (reporter, called) in [(2, 0..0), (4, 0..0), (3, 96..120)] {
        let mut w = line(MeshMode::PaymentGated);
        let carried = carried(&mut w, (1, 2), |w, number| {
            let datagram = free(w, &way, number, &verack());
            assert_eq!(give(w, 1, 0, datagram), (true, None));
            let error = RouteError {
                hop_limit: 1,
                sequence: number,
                source: w.id(0),
                destination: w.id(4),
                reporter: w.id(reporter),
                next: w.id(4.min(reporter + 1)).hop(),
                cause: Cause::Congested,
                hops: [1, 2, 3].map(|n| w.id(n).hop()).into_iter().collect(),
            };
            let mut out = vec![0; crate::wire::route_error::MAX_LEN];
            let n = error.write(&mut out).unwrap();
            out.truncate(n);
            out
        });
        let carries: Vec<usize> = called.chain([CAUSE]).collect();
        assert_eq!(carried, carries, "reporter {reporter}");
    }
}

#[test]
fn what_a_hello_and_a_keep_alive_do_not_use_is_zero() {
    for kind in [Kind::Hello, Kind::KeepAlive] {
        for (hop_limit, sequence) in [(0, 0), (1, 0), (0, 1), (0, 1 << 63)] {
            let mut w = line(MeshMode::PaymentGated);
            let header = Header { kind, flags: 0, hop_limit, sequence };
            let body = match kind {
                Kind::Hello => vec![4, 1, 0, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                _ => vec![],
            };
            let body = [&body[..], &vec![0; if body.is_empty() { 0 } else { 20 }][..]].concat();
            let mut packet = vec![0; HEADER_LEN + body.len()];
            packet[..HEADER_LEN].copy_from_slice(&header.bytes(body.len() as u32));
            packet[HEADER_LEN..].copy_from_slice(&body);
            set_check(&mut packet);
            let (_, refused) = give(&mut w, 1, 0, packet);
            let unused = (hop_limit, sequence) == (0, 0);
            assert_eq!(refused.is_none(), unused, "{kind:?} {hop_limit} {sequence}: {refused:?}");
        }
    }
}
