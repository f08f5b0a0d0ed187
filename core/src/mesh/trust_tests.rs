//! What this node pays for goes by way of trusted neighbours only, and what is free by way of any.

use super::end_world::Net;
use super::lightning_tests::{NOW, PAYLOAD, World, any_proof, issuer};
use super::test_world::{Outcome, Own};
use super::*;
use crate::config::MeshMode::{Open, PaymentGated};
use crate::id::{LinkId, Network, NodeId, Standing};
use crate::time::{MILLISECOND, SECOND};
use std::vec::Vec;

const STRANGER: Standing = Standing::Stranger { prefix: 1 };

/// Nodes without links that take payments.
fn gated(count: usize) -> World {
    let mut w = World::new(count as u8, |_| {
        let mut config = Config::board(Network::Regtest, 8192);
        config.strangers_relay_paid = false;
        config.timing.keepalive = 0;
        // The first ring reaches all of them.
        config.timing.first_ring = 4;
        config.payment.issuers.push(issuer().public_key(&Secp256k1::new())).unwrap();
        config.payment.volatile = false;
        config
    });
    for n in 0..count {
        w.give(n, Input::WallClock { unix: NOW });
    }
    w
}

/// Three nodes in a line, the second of which is this to the first.
fn line(standing: Standing) -> World {
    let mut w = gated(3);
    meet(&mut w, 0, 1, standing);
    meet(&mut w, 1, 2, STRANGER);
    w
}

/// Joins two nodes; the second is this to the first.
fn meet(w: &mut World, a: usize, b: usize, standing: Standing) {
    let links = [World::link(a, b), World::link(b, a)];
    w.join((a, links[0]), (b, links[1]));
    let ends: [(usize, usize, LinkId, Standing); 2] =
        [(a, b, links[0], standing), (b, a, links[1], STRANGER)];
    for (n, other, link, standing) in ends {
        let (peer, dialed, capabilities) = (w.id(other), n == a, None);
        w.give(n, Input::PeerConnected { link, peer, dialed, standing, capabilities });
    }
    w.run();
}

fn search(w: &mut World, to: NodeId) {
    w.give(0, Input::FindRoute { destination: to });
    w.run();
}

fn paid(w: &World, way: &[usize], number: u64) -> Own {
    let (to, proof) = (w.id(way[way.len() - 1]), any_proof(w, way, number));
    Own { to, payload: PAYLOAD.to_vec(), proof, unchecked: false }
}

fn trust(w: &mut World, node: Option<NodeId>) {
    let mut config = w.nodes[0].config().clone();
    config.trusted = node.into_iter().collect();
    w.nodes[0].reconfigure(&config);
    w.give(0, Input::Timer);
    w.run();
}

fn delivered(did: &[(usize, Outcome)]) -> Vec<usize> {
    let at =
        |(n, outcome): &(usize, Outcome)| matches!(outcome, Outcome::Deliver(..)).then_some(*n);
    did.iter().filter_map(at).collect()
}

#[test]
fn a_paid_datagram_goes_by_a_stranger_once_it_is_trusted() {
    let mut w = line(STRANGER);
    let (near, to) = (w.id(1), w.id(2));
    search(&mut w, to);
    assert!(w.nodes[0].table().find_route(&to, w.now).is_some());
    assert_eq!(w.nodes[0].quote(&to, 1), None);
    assert_eq!(w.nodes[0].untrusted_way(&to), Some(near));
    let refused = || Outcome::Reject(RoutingReason::Untrusted(near).into());
    let own = paid(&w, &[0, 1, 2], 1);
    assert_eq!(w.send(0, own.clone()), [(0, refused())]);
    assert!(w.in_flight.is_empty());
    // Nothing is relayed to a neighbour itself.
    assert_eq!(w.nodes[0].untrusted_way(&near), None);
    let near_own = paid(&w, &[0, 1], 2);
    w.send(0, near_own);
    assert_eq!(delivered(&w.run()), [1]);

    trust(&mut w, Some(near));
    assert_eq!(w.nodes[0].untrusted_way(&to), None);
    assert!(w.nodes[0].quote(&to, 1).is_some());
    w.send(0, own);
    let sent = w.in_flight.back().unwrap().2.clone();
    assert_eq!(delivered(&w.run()), [2]);

    trust(&mut w, None);
    w.later(2 * SECOND);
    assert_eq!(w.repeat(0, &sent), [(0, refused())]);
    trust(&mut w, Some(near));
    w.repeat(0, &sent);
    assert!(!w.in_flight.is_empty());
}

#[test]
fn configuration_or_standing_makes_a_neighbour_trusted() {
    let mut w = line(STRANGER);
    let to = w.id(2);
    search(&mut w, to);
    let mut config = w.nodes[0].config().clone();
    config.strangers_relay_paid = true;
    w.nodes[0].reconfigure(&config);
    assert!(w.nodes[0].quote(&to, 1).is_some());

    let mut w = line(Standing::Own);
    search(&mut w, to);
    assert!(w.nodes[0].quote(&to, 1).is_some());

    let mut w = line(STRANGER);
    search(&mut w, to);
    w.nodes[0].make_own(World::link(0, 1));
    assert!(w.nodes[0].quote(&to, 1).is_some());
}

#[test]
fn a_stranger_with_a_shorter_way_does_not_hide_the_trusted_one() {
    // By the stranger the destination is one node away, by the trusted neighbour two.
    let mut w = gated(5);
    for (a, b, standing) in [(0, 1, STRANGER), (1, 4, STRANGER), (0, 2, Standing::Own)] {
        meet(&mut w, a, b, standing);
    }
    meet(&mut w, 2, 3, STRANGER);
    meet(&mut w, 3, 4, STRANGER);
    let (stranger, to) = (w.id(1), w.id(4));
    search(&mut w, to);
    assert_eq!(w.nodes[0].table().find_route(&to, w.now).unwrap().first(), stranger.hop());
    for _ in 0..2 {
        w.give(0, Input::FindAccepted { destination: to });
        w.run();
        assert_eq!(w.nodes[0].quote(&to, 1).map(|quote| quote.hops.len()), Some(2));
        assert_eq!(w.nodes[0].untrusted_way(&to), None);
        let own = paid(&w, &[0, 2, 3, 4], w.now);
        w.send(0, own);
        assert_eq!(delivered(&w.run()), [4]);
        // What is free may go by the stranger again.
        w.later(2 * SECOND);
        search(&mut w, to);
    }
}

#[test]
fn where_no_trusted_neighbour_leads_the_stranger_is_found_that_does() {
    let mut w = gated(4);
    meet(&mut w, 0, 1, STRANGER);
    meet(&mut w, 1, 2, STRANGER);
    meet(&mut w, 0, 3, Standing::Own);
    let (stranger, to) = (w.id(1), w.id(2));
    w.give(0, Input::FindAccepted { destination: to });
    w.run();
    assert_eq!(w.nodes[0].untrusted_way(&to), None, "a wider ring is to come");
    for _ in 0..20 {
        w.later(SECOND);
    }
    assert_eq!(w.nodes[0].untrusted_way(&to), Some(stranger));
}

fn flow_over_a_stranger(mode: crate::config::MeshMode, edit: fn(usize, &mut Config)) -> Net {
    let mut net = Net::unwired(&[mode; 3], edit);
    let mut config = net.nodes[0].config().clone();
    config.strangers_relay_paid = false;
    net.nodes[0].reconfigure(&config);
    net.give(0, Input::Timer);
    net.wire_as(0, 1, STRANGER);
    net.wire(1, 2);
    net.run(10 * MILLISECOND);
    net.give(2, Input::AcceptFlows { accept: true });
    net
}

#[test]
fn nothing_is_bought_over_a_stranger() {
    let mut net = flow_over_a_stranger(PaymentGated, |_, _| {});
    let near = net.id(1);
    // It is asked once and not for each of these, so that it still sells when it is trusted.
    for _ in 0..3 {
        net.events.clear();
        net.open(2, 1 << 40);
        net.run(30 * SECOND);
        let ended = FlowEvent::Ended(FlowEnded::Untrusted { node: near.hop() });
        assert!(net.has(0, |event| *event == ended), "{:?}", net.events);
        assert!(net.paid.is_empty());
    }
    let mut config = net.nodes[0].config().clone();
    config.trusted.insert(near);
    net.nodes[0].reconfigure(&config);
    net.give(0, Input::Timer);
    net.open(2, 1 << 40);
    net.run(10 * SECOND);
    assert!(net.has(0, |event| *event == FlowEvent::Opened), "{:?}", net.events);
    assert!(net.paid.contains_key(&1));
}

#[test]
fn a_flow_that_costs_nothing_goes_over_a_stranger() {
    let mut net = flow_over_a_stranger(Open, |_, _| {});
    net.open(2, 1 << 40);
    net.run(10 * SECOND);
    assert!(net.has(0, |event| *event == FlowEvent::Opened), "{:?}", net.events);
    assert!(net.paid.is_empty());
}

#[test]
fn a_flow_finds_the_trusted_way_behind_a_shorter_one() {
    let mut net = Net::unwired(&[PaymentGated; 5], |_, _| {});
    let mut config = net.nodes[0].config().clone();
    config.strangers_relay_paid = false;
    net.nodes[0].reconfigure(&config);
    net.give(0, Input::Timer);
    net.wire_as(0, 1, STRANGER);
    for (a, b) in [(1, 4), (0, 2), (2, 3), (3, 4)] {
        net.wire(a, b);
    }
    net.run(10 * MILLISECOND);
    net.give(4, Input::AcceptFlows { accept: true });
    let (near, to) = (net.id(1), net.id(4));
    net.give(0, Input::FindRoute { destination: to });
    net.run(SECOND);
    assert_eq!(net.nodes[0].table().find_route(&to, net.now).unwrap().first(), near.hop());
    net.open(4, 1 << 40);
    net.run(30 * SECOND);
    assert!(net.has(0, |event| *event == FlowEvent::Opened), "{:?}", net.events);
    assert!(net.paid.contains_key(&2) && !net.paid.contains_key(&1), "{:?}", net.paid);
}
