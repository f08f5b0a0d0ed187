//! The destination of a paid datagram tells its source that it has it.

use super::lightning_tests::{NOW, PAYLOAD, any_proof, gated, line};
use super::test_world::{Outcome, Own};
use super::*;
use crate::config::Allowance;
use crate::config::MeshMode::{self, Open, PaymentGated};
use crate::id::Standing;
use crate::tables::{Boxed, Heap};
use crate::time::SECOND;
use crate::wire::route_error::{self, Cause, RouteError};
use std::vec;
use std::vec::Vec;

type World = super::test_world::World<Boxed>;

const WAY: [usize; 4] = [0, 1, 2, 3];

/// A line of four nodes, of which the first knows the way to the last.
fn joined(modes: [MeshMode; 4]) -> World {
    let mut w = line(&modes, false);
    let destination = w.id(3);
    w.give(0, Input::FindRoute { destination });
    w.run();
    (0..20).for_each(|_| drop(w.later(100_000)));
    w
}

/// The first node sends a paid datagram to the last: the packet and its number.
fn send(w: &mut World, number: u64) -> (Vec<u8>, u64) {
    let proof = any_proof(w, &WAY, number);
    let own = Own { to: w.id(3), payload: PAYLOAD.to_vec(), proof, unchecked: true };
    w.send(0, own);
    let packet = w.in_flight.back().expect("it is sent").2.clone();
    let sequence = u64::from_le_bytes(packet[8..16].try_into().unwrap());
    (packet, sequence)
}

fn receipts(did: &[(usize, Outcome)]) -> Vec<(usize, u64)> {
    did.iter()
        .filter_map(|(n, d)| match d {
            Outcome::Publish(Event::Delivered { sequence, .. }) => Some((*n, *sequence)),
            _ => None,
        })
        .collect()
}

fn delivered(did: &[(usize, Outcome)]) -> usize {
    did.iter().filter(|(_, d)| matches!(d, Outcome::Deliver(..))).count()
}

fn again(w: &mut World, packet: &[u8]) -> Vec<(usize, Outcome)> {
    w.now += 10 * SECOND;
    let mut did = w.repeat(0, packet);
    did.extend(w.run());
    did
}

/// A receipt for a datagram, as its reporter writes it for this node on the way.
fn receipt(w: &World, way: &[usize], sequence: u64, reporter: usize, at: usize) -> Vec<u8> {
    let [from, hops @ .., to] = way else { panic!("a way has two ends") };
    let place = way.iter().position(|n| *n == reporter).unwrap();
    let error = RouteError {
        hop_limit: at as u8,
        sequence,
        source: w.id(*from),
        destination: w.id(*to),
        reporter: w.id(reporter),
        next: w.id(way.get(place + 1).copied().unwrap_or(*to)).hop(),
        cause: Cause::Delivered,
        hops: hops.iter().map(|n| w.id(*n).hop()).collect(),
    };
    let mut out = vec![0; route_error::MAX_LEN];
    let n = error.write(&mut out).unwrap();
    assert_eq!(n, route_error::len(hops.len()));
    out.truncate(n);
    out
}

#[test]
fn the_source_is_told_once_that_it_was_delivered() {
    for modes in [[PaymentGated; 4], [PaymentGated, Open, PaymentGated, Open]] {
        let mut w = joined(modes);
        let (packet, sequence) = send(&mut w, 1);
        let did = w.run();
        assert_eq!((delivered(&did), receipts(&did)), (1, vec![(0, sequence)]), "{did:?}");
        // Whoever repeats it in spite of that is told again, and it is not delivered again.
        for _ in 0..2 {
            let did = again(&mut w, &packet);
            assert_eq!((delivered(&did), receipts(&did)), (0, vec![(0, sequence)]), "{did:?}");
        }
        // What is free has no receipt.
        let own = Own { to: w.id(3), payload: vec![1], proof: vec![], unchecked: true };
        w.send(0, own);
        assert_eq!(receipts(&w.run()), []);
    }
}

#[test]
fn what_is_lost_on_its_way_or_back_without_a_word_is_not_lost_to_its_payer() {
    for lost_by in [1, 2] {
        let mut w = joined([PaymentGated; 4]);
        let (packet, sequence) = send(&mut w, 1);
        // The relay has booked it, and crashes with the packet in its queue.
        while w.disks[lost_by].is_empty() {
            let (n, link, bytes) = w.in_flight.pop_front().unwrap();
            w.receive(n, link, bytes);
        }
        w.in_flight.clear();
        w.restart(lost_by, 88);
        w.give(lost_by, Input::WallClock { unix: NOW });
        w.wire(lost_by - 1, lost_by);
        w.wire(lost_by, lost_by + 1);
        let did = again(&mut w, &packet);
        assert_eq!((delivered(&did), receipts(&did)), (1, vec![(0, sequence)]), "{did:?}");
    }
    // It arrives, and the receipt does not.
    let mut w = joined([PaymentGated; 4]);
    let (packet, sequence) = send(&mut w, 1);
    w.lose(2, 1);
    let did = w.run();
    assert_eq!((delivered(&did), receipts(&did)), (1, vec![]), "{did:?}");
    w.join((2, World::link(2, 1)), (1, World::link(1, 2)));
    let did = again(&mut w, &packet);
    assert_eq!((delivered(&did), receipts(&did)), (0, vec![(0, sequence)]), "{did:?}");
}

#[test]
fn a_destination_that_crashed_before_it_delivered_does_so_when_it_comes_again() {
    let mut w = joined([PaymentGated; 4]);
    let (packet, sequence) = send(&mut w, 1);
    w.lose(3, 2);
    // The record is on its disk; what it had in memory is gone.
    assert_eq!(delivered(&w.run()), 1);
    w.restart(3, 88);
    w.give(3, Input::WallClock { unix: NOW });
    w.wire(2, 3);
    let did = again(&mut w, &packet);
    assert_eq!((delivered(&did), receipts(&did)), (1, vec![(0, sequence)]), "{did:?}");
    assert_eq!(w.nodes[3].stats().earned_msat, 0, "it was booked before");
    let did = again(&mut w, &packet);
    assert_eq!((delivered(&did), receipts(&did)), (0, vec![(0, sequence)]), "{did:?}");
}

#[test]
fn without_room_for_it_there_is_no_receipt() {
    let mut w = joined([PaymentGated; 4]);
    w.give(3, Input::InboxFull { source: None, full: true });
    let (packet, sequence) = send(&mut w, 1);
    let did = w.run();
    assert_eq!((delivered(&did), receipts(&did)), (0, vec![]), "{did:?}");
    w.give(3, Input::InboxFull { source: None, full: false });
    let did = again(&mut w, &packet);
    assert_eq!((delivered(&did), receipts(&did)), (1, vec![(0, sequence)]), "{did:?}");
    // What it has already needs no room.
    w.give(3, Input::InboxFull { source: None, full: true });
    assert_eq!(receipts(&again(&mut w, &packet)), [(0, sequence)]);
    // After a restart it might not have been handed over.
    w.restart(3, 88);
    w.give(3, Input::WallClock { unix: NOW });
    w.wire(2, 3);
    w.give(3, Input::InboxFull { source: None, full: true });
    let did = again(&mut w, &packet);
    assert_eq!((delivered(&did), receipts(&did)), (0, vec![]), "{did:?}");
    let full = Outcome::Reject(NetworkReason::InboxFull.into());
    assert!(did.contains(&(3, full)), "{did:?}");
}

#[test]
fn what_comes_again_after_a_restart_has_only_the_room_of_its_source() {
    let like = gated(2);
    let proof = any_proof(&like, &[0, 1], 1);
    let (packet, link) = (like.packet(&[0, 1], 7, &PAYLOAD, &proof), World::link(1, 0));
    // Boards keep no list of such sources.
    let config = like.nodes[0].config().clone();
    let mut w = super::test_world::World::<Heap>::new(2, |_| config.clone());
    w.give(1, Input::WallClock { unix: NOW });
    w.wire(0, 1);
    assert_eq!(delivered(&w.receive(1, link, packet.clone())), 1);
    w.restart(1, 88);
    w.give(1, Input::WallClock { unix: NOW });
    w.wire(0, 1);
    let source = Some(w.id(0));
    for (full, expected) in [(true, 0), (false, 1)] {
        w.give(1, Input::InboxFull { source, full });
        w.now += 10 * SECOND;
        let did = w.receive(1, link, packet.clone());
        assert_eq!(delivered(&did), expected, "{did:?}");
    }
}

#[test]
fn a_receipt_waits_for_the_record_as_the_delivery_does() {
    let mut w = gated(2);
    let proof = any_proof(&w, &[0, 1], 1);
    let mut packet = w.packet(&[0, 1], 7, &PAYLOAD, &proof);
    let (now, link) = (w.now, World::link(1, 0));
    w.nodes[1].handle(now, Input::MessageReceived { link, packet: &mut packet }).unwrap();
    let (mut written, mut waits) = (None, Vec::new());
    loop {
        match w.nodes[1].poll() {
            Action::Wait { .. } => break,
            Action::Persist { number, .. } => written = Some(number),
            Action::Verdict(Verdict::Deliver { after, .. }) => waits.push(("delivery", after)),
            Action::Send { packet, after, .. } => {
                assert_eq!(packet[5], 4);
                waits.push(("receipt", after));
            }
            _ => {}
        }
    }
    assert!(written.is_some());
    assert_eq!(waits, [("delivery", written), ("receipt", written)]);
}

#[test]
fn a_receipt_is_believed_once_and_only_from_where_the_datagram_went() {
    let mut w = joined([PaymentGated; 4]);
    w.wire(0, 2);
    let (_, sequence) = send(&mut w, 1);
    let packet = w.in_flight.pop_back().unwrap();
    let from = |w: &mut World, link: usize, packet| w.receive(0, World::link(0, link), packet);
    let unsolicited = [(0, Outcome::Reject(RoutingReason::Unsolicited.into()))];
    // Of another datagram, by a relay, and from another neighbour.
    let forged = receipt(&w, &WAY, sequence ^ 1, 3, 0);
    assert_eq!(from(&mut w, 1, forged), unsolicited);
    for relay in [1, 2] {
        let forged = receipt(&w, &WAY, sequence, relay, 0);
        assert_eq!(from(&mut w, 1, forged), unsolicited, "of a relay");
    }
    let forged = receipt(&w, &[0, 2, 3], sequence, 3, 0);
    assert_eq!(from(&mut w, 2, forged), unsolicited);
    // Of one that is free.
    let own = Own { to: w.id(3), payload: vec![1], proof: vec![], unchecked: true };
    w.send(0, own);
    let free = w.in_flight.pop_back().unwrap().2;
    let free = u64::from_le_bytes(free[8..16].try_into().unwrap());
    let forged = receipt(&w, &WAY, free, 3, 0);
    assert_eq!(from(&mut w, 1, forged), unsolicited, "it is free");
    let right = receipt(&w, &WAY, sequence, 3, 0);
    assert_eq!(receipts(&from(&mut w, 1, right.clone())), [(0, sequence)]);
    assert_eq!(from(&mut w, 1, right), unsolicited, "once");
    // A relay passes on none about what it did not carry.
    let early = receipt(&w, &WAY, sequence, 3, 1);
    let did = w.receive(1, World::link(1, 2), early.clone());
    assert_eq!(did, [(1, Outcome::Reject(RoutingReason::Unsolicited.into()))]);
    w.in_flight.push_back(packet);
    let (n, link, bytes) = w.in_flight.pop_front().unwrap();
    w.receive(n, link, bytes);
    w.in_flight.clear();
    w.receive(1, World::link(1, 2), early);
    assert_eq!(w.in_flight.len(), 1);
}

#[test]
fn receipts_of_what_was_carried_need_no_allowance_and_others_do() {
    let mut w = joined([PaymentGated; 4]);
    for node in &mut w.nodes {
        node.config.control = Allowance { rate: 1, burst: 1_000 };
    }
    for number in 1..=50 {
        let (_, sequence) = send(&mut w, number);
        let did = w.run();
        assert_eq!((delivered(&did), receipts(&did)), (1, vec![(0, sequence)]), "{number}");
    }
    // What nobody sent is charged: no more of it is looked at than may be.
    let quota = Outcome::Reject(NetworkReason::ControlQuota.into());
    let refused = (0..50u64).any(|number| {
        let forged = receipt(&w, &WAY, number, 3, 0);
        w.receive(0, World::link(0, 1), forged) == [(0, quota.clone())]
    });
    assert!(refused);
}

#[test]
fn an_open_end_delivers_once_whatever_passes_and_however_the_link_changes() {
    let mut w = line(&[PaymentGated, PaymentGated, Open, PaymentGated], false);
    let way = [0, 1, 2];
    let proof = any_proof(&w, &way, 1);
    let packet = w.packet(&way, 7, &PAYLOAD, &proof);
    let give = |w: &mut World, packet: &[u8]| {
        w.now += 2 * SECOND;
        let mut did = w.receive(1, World::link(1, 0), packet.to_vec());
        did.extend(w.run());
        did
    };
    assert_eq!(delivered(&give(&mut w, &packet)), 1);
    // Others' traffic through the same node makes it forget nothing of its own.
    for number in 0..2_000 {
        let free = w.unsigned(&[1, 2, 3], number, b"free");
        w.receive(2, World::link(2, 1), free);
        w.in_flight.clear();
    }
    assert_eq!(delivered(&give(&mut w, &packet)), 0);
    w.cut(1, 2);
    let (old, new) = (World::link(2, 1), LinkId(9_999));
    let peer = w.id(1);
    let dialed = false;
    let link = World::link(1, 2);
    w.join((1, link), (2, new));
    w.give(
        2,
        Input::PeerConnected {
            link: new,
            peer,
            dialed,
            standing: Standing::Own,
            capabilities: None,
        },
    );
    let peer = w.id(2);
    w.give(
        1,
        Input::PeerConnected {
            link,
            peer,
            dialed: true,
            standing: Standing::Own,
            capabilities: None,
        },
    );
    (0..20).for_each(|_| drop(w.later(100_000)));
    assert_ne!(old, new);
    let did = give(&mut w, &packet);
    assert_eq!(w.nodes[1].stats().relayed_paid, 3, "it went there: {did:?}");
    assert_eq!(delivered(&did), 0, "{did:?}");
}
