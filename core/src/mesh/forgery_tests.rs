//! What a node off a datagram's way cannot do to it: make it look old, or say that it was
//! stopped.

use super::lightning_tests::{PAYLOAD, any_proof, gated};
use super::test_world::{Outcome, Own, set_check};
use super::*;
use crate::config::MeshMode;
use crate::id::HopId;
use crate::tables::Boxed;
use crate::wire::datagram::{Emit, Form};
use crate::wire::header::lower_hop_limit;
use crate::wire::route_error::{self, Cause, RouteError};
use std::vec;
use std::vec::Vec;

type World = super::test_world::World<Boxed>;

fn open(count: u8) -> World {
    let mut config = Config::board(crate::id::Network::Regtest, 8192);
    config.mode = MeshMode::Open;
    config.timing.keepalive = 0;
    World::new(count, |_| config.clone())
}

/// A datagram without a proof that a node writes and says another one sent.
fn unsigned(w: &World, way: &[usize], sequence: u64, at: u8) -> Vec<u8> {
    let [from, hops @ .., to] = way else { panic!("a way has two ends") };
    let hops: Vec<HopId> = hops.iter().map(|n| w.id(*n).hop()).collect();
    let (source, destination) = (w.id(*from), w.id(*to));
    let hop_limit = hops.len() as u8 - at;
    let emit = Emit { hop_limit, sequence, source, destination, proof: None, form: Form::Plain };
    let mut out = vec![0; 1000];
    let n = emit.write(&hops, b"forged", &mut out, |_| [0; 64]).unwrap();
    [&out[..n], b"forged"].concat()
}

fn error(w: &World, way: &[usize], sequence: u64, reporter: usize, hop_limit: u8) -> Vec<u8> {
    let [from, hops @ .., to] = way else { panic!("a way has two ends") };
    let after = way.iter().position(|n| *n == reporter).map_or(way.len(), |at| at + 1);
    let error = RouteError {
        hop_limit,
        sequence,
        source: w.id(*from),
        destination: w.id(*to),
        reporter: w.id(reporter),
        next: w.id(way.get(after).copied().unwrap_or(*to)).hop(),
        cause: Cause::NextHopGone,
        hops: hops.iter().map(|n| w.id(*n).hop()).collect(),
    };
    let mut out = vec![0; route_error::MAX_LEN];
    let n = error.write(&mut out).unwrap();
    out.truncate(n);
    out
}

fn sequences(w: &World) -> Vec<u64> {
    let of = |packet: &Vec<u8>| u64::from_le_bytes(packet[8..16].try_into().unwrap());
    w.in_flight.iter().filter(|(.., p)| p[5] == 1).map(|(.., p)| of(p)).collect()
}

#[test]
fn forged_datagrams_do_not_make_paid_ones_look_old() {
    // 0 pays for what goes by 1 and 2 to 3; 4 is a neighbour of 1 and says that it is 0.
    let mut w = gated(5);
    w.nodes[1].config.mode = MeshMode::Open;
    let way = [0, 1, 2, 3];
    let mut arrived = 0;
    for number in 0..20u64 {
        // The attacker even knows the number. Its neighbour sees to its being on the way.
        for way in [&[0, 4, 1, 2, 3][..], &[0, 1, 2, 3]] {
            let at = way.len() as u8 - 3;
            let mut forged = unsigned(&w, way, number, at);
            w.receive(2, World::link(2, 1), core::mem::take(&mut forged));
        }
        w.in_flight.clear();
        let proof = any_proof(&w, &way, number);
        let paid = w.packet(&way, number, &PAYLOAD, &proof);
        w.receive(1, World::link(1, 0), paid);
        let did = w.run();
        arrived += did.iter().filter(|(n, d)| *n == 3 && matches!(d, Outcome::Deliver(..))).count();
    }
    assert_eq!(arrived, 20);
}

#[test]
fn the_numbers_of_datagrams_cannot_be_told() {
    let mut w = open(2);
    w.wire(0, 1);
    let to = w.id(1);
    let mut last = None;
    for _ in 0..50 {
        let own = Own { to, payload: b"x".to_vec(), proof: vec![], unchecked: false };
        w.send(0, own);
        let [number] = sequences(&w)[..] else { panic!("one datagram") };
        w.run();
        assert!(last.is_none_or(|last| number.abs_diff(last) > 1 << 32), "{last:?} {number}");
        last = Some(number);
    }
}

#[test]
fn only_who_was_sent_a_datagram_reports_that_it_was_stopped() {
    // Two ways from 0 to 3: by 1 and by 2.
    let mut w = open(5);
    for (a, b) in [(0, 1), (1, 3), (0, 2), (2, 3), (0, 4)] {
        w.wire(a, b);
    }
    let to = w.id(3);
    w.give(0, Input::FindRoute { destination: to });
    w.run();
    let first = w.nodes[0].table().find_route(&to, w.now).unwrap().path()[0];
    let (via, other) = if first == w.id(1).hop() { (1, 2) } else { (2, 1) };
    let own = Own { to, payload: b"x".to_vec(), proof: vec![], unchecked: false };
    w.send(0, own);
    let [number] = sequences(&w)[..] else { panic!("one datagram") };
    w.in_flight.clear();

    // Other neighbours report it, the whole of it known to them: as on their own way, and as
    // on its real one; and the right one reports another number, and another destination.
    let unsolicited = [(0, Outcome::Reject(RoutingReason::Unsolicited.into()))];
    let strayed = [(0, Outcome::Reject(RoutingReason::WrongNeighbour.into()))];
    for (from, way, number, expected) in [
        (other, [0, other, 3], number, &unsolicited),
        (4, [0, 4, 3], number, &unsolicited),
        (other, [0, via, 3], number, &strayed),
        (via, [0, via, 3], number ^ 1, &unsolicited),
        (via, [0, via, 4], number, &unsolicited),
    ] {
        let packet = error(&w, &way, number, from.min(way[1]), 0);
        assert_eq!(w.receive(0, World::link(0, from), packet), *expected, "{from} {way:?}");
        assert!(w.nodes[0].table().find_route(&to, w.now).is_some(), "the route was cut");
    }
    // Somebody who is not on the way is no reporter.
    let packet = error(&w, &[0, via, 3], number, 4, 0);
    assert_eq!(w.receive(0, World::link(0, via), packet), unsolicited);
    // The right one may, once.
    let report = error(&w, &[0, via, 3], number, via, 0);
    let did = w.receive(0, World::link(0, via), report.clone());
    assert!(matches!(did[0].1, Outcome::Publish(Event::DeliveryFailed { .. })), "{did:?}");
    assert_eq!(w.receive(0, World::link(0, via), report), unsolicited);
}

#[test]
fn a_relay_passes_on_reports_from_where_the_datagram_went() {
    // 1 relays from 0 to 3 by 2; 4 is another neighbour of 1.
    let mut w = open(5);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (1, 4), (4, 3)] {
        w.wire(a, b);
    }
    let datagram = unsigned(&w, &[0, 1, 2, 3], 77, 0);
    w.receive(1, World::link(1, 0), datagram);
    w.in_flight.clear();
    let forged = error(&w, &[0, 1, 4, 3], 77, 4, 1);
    let did = w.receive(1, World::link(1, 4), forged);
    assert_eq!(did, [(1, Outcome::Reject(RoutingReason::Unsolicited.into()))]);
    assert_eq!(w.in_flight.len(), 0);
    let report = error(&w, &[0, 1, 2, 3], 77, 2, 1);
    for goes_on in [1, 0] {
        w.in_flight.clear();
        w.receive(1, World::link(1, 2), report.clone());
        assert_eq!(w.in_flight.len(), goes_on, "once");
    }
}

#[test]
fn a_copy_is_known_whatever_is_changed_where_nothing_is_carried() {
    let mut w = open(4);
    (1..4).for_each(|n| drop(w.wire(n - 1, n)));
    let datagram = unsigned(&w, &[0, 1, 2, 3], 5, 0);
    w.receive(1, World::link(1, 0), datagram.clone());
    assert_eq!(w.in_flight.len(), 1);
    w.receive(1, World::link(1, 0), datagram.clone());
    assert_eq!(w.in_flight.len(), 1);
    // Another place on the way is not its.
    let mut lower = datagram.clone();
    assert!(lower_hop_limit(&mut lower));
    w.receive(1, World::link(1, 0), lower);
    let mut flags = datagram;
    flags[6] ^= 0x80;
    set_check(&mut flags);
    w.receive(1, World::link(1, 0), flags);
    assert_eq!(w.in_flight.len(), 1);
}
