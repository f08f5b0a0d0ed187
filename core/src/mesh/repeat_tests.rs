//! A paid packet that was stopped on its way after some nodes had booked its payment.

use super::lightning_tests::{PAYLOAD, any_proof, gated};
use super::test_world::{Outcome, Own};
use super::*;
use crate::payment::replay::REPEATS;
use crate::payment::replay::ReplayError;
use crate::tables::Boxed;
use crate::wire::route_error::Cause;
use std::vec;
use std::vec::Vec;

type World = super::test_world::World<Boxed>;

const WAY: [usize; 4] = [0, 1, 2, 3];

fn booked(did: &[(usize, Outcome)]) -> Vec<usize> {
    let of = |d: &Outcome| matches!(d, Outcome::Publish(Event::PaymentVerified { .. }));
    did.iter().filter(|(_, d)| of(d)).map(|(n, _)| *n).collect()
}

fn delivered(did: &[(usize, Outcome)]) -> usize {
    did.iter().filter(|(_, d)| matches!(d, Outcome::Deliver(..))).count()
}

fn refused(did: &[(usize, Outcome)]) -> Option<MeshError> {
    did.iter().find_map(|(n, d)| match d {
        // The source did not send by itself what is given in its name: no report is for it.
        Outcome::Reject(reason) if (*n, *reason) != (0, RoutingReason::Unsolicited.into()) => {
            Some(*reason)
        }
        _ => None,
    })
}

/// Gives the first relay a packet of the source's, and lets it go on.
fn give(w: &mut World, packet: &[u8]) -> Vec<(usize, Outcome)> {
    let mut did = w.receive(1, World::link(1, 0), packet.to_vec());
    did.extend(w.run());
    did
}

fn paid(w: &World, sequence: u64, proof: &[u8]) -> Vec<u8> {
    w.packet(&WAY, sequence, &PAYLOAD, proof)
}

fn pause(w: &mut World) {
    w.now += 1_125_000;
}

#[test]
fn what_was_stopped_after_it_was_booked_passes_again_without_another_payment() {
    let mut w = gated(4);
    let proof = any_proof(&w, &WAY, 1);
    let packet = paid(&w, 7, &proof);
    w.cut(2, 3);
    let did = give(&mut w, &packet);
    assert_eq!(booked(&did), [1], "the second relay books nothing that it cannot send on");
    let gone = RoutingReason::NextHopGone.into();
    assert_eq!(refused(&did), Some(gone));
    assert_eq!(w.nodes[2].live_payments(), 0);

    w.wire(2, 3);
    // Too soon, and other packets for the same payment.
    let duplicate = MeshError::from(RoutingReason::Duplicate);
    assert_eq!(refused(&give(&mut w, &packet)), Some(duplicate));
    pause(&mut w);
    for sequence in [6, 8] {
        let other = paid(&w, sequence, &proof);
        assert_eq!(refused(&give(&mut w, &other)), Some(ReplayError::Used.into()));
    }
    let earned = w.nodes[1].stats().earned_msat;
    let did = give(&mut w, &packet);
    assert_eq!((booked(&did), delivered(&did)), (vec![2, 3], 1), "{did:?}");
    // It is delivered once, however often it comes.
    for _ in 1..REPEATS {
        pause(&mut w);
        let did = give(&mut w, &packet);
        assert_eq!((booked(&did), delivered(&did), refused(&did)), (vec![], 0, None), "{did:?}");
    }
    pause(&mut w);
    assert_eq!(refused(&give(&mut w, &packet)), Some(duplicate));
    assert_eq!(w.nodes[1].stats().earned_msat, earned);
    assert_eq!(w.nodes[1].stats().repeated, u64::from(REPEATS));
    assert_eq!(w.nodes[1].stats().relayed_paid, 1 + u64::from(REPEATS));
}

#[test]
fn after_a_restart_it_passes_once() {
    let mut w = gated(4);
    let proof = any_proof(&w, &WAY, 1);
    let packet = paid(&w, 7, &proof);
    w.cut(2, 3);
    assert_eq!(booked(&give(&mut w, &packet)), [1]);
    w.restart(1, 77);
    let unix = 1_750_000_000;
    w.give(1, Input::WallClock { unix });
    (1..4).for_each(|n| drop(w.wire(n - 1, n)));
    let other = paid(&w, 8, &proof);
    assert_eq!(refused(&give(&mut w, &other)), Some(ReplayError::Used.into()));
    let did = give(&mut w, &packet);
    assert_eq!((booked(&did), delivered(&did)), (vec![2, 3], 1), "{did:?}");
    pause(&mut w);
    assert_eq!(refused(&give(&mut w, &packet)), Some(RoutingReason::Duplicate.into()));
}

#[test]
fn it_passes_no_longer_than_its_payment_holds() {
    let mut w = gated(4);
    let proof = any_proof(&w, &WAY, 1);
    let packet = paid(&w, 7, &proof);
    assert_eq!(delivered(&give(&mut w, &packet)), 1);
    let expired = 1_750_000_000 + 8 * 24 * 3600;
    w.give(1, Input::WallClock { unix: expired });
    pause(&mut w);
    let refused = refused(&give(&mut w, &packet)).expect("it is refused");
    assert_eq!(refused.cause(), Some(Cause::Expired), "{refused}");
}

#[test]
fn no_other_byte_is_another_packet_of_the_same_payment() {
    let mut w = gated(4);
    let proof = any_proof(&w, &WAY, 1);
    let packet = paid(&w, 7, &proof);
    assert_eq!(delivered(&give(&mut w, &packet)), 1);
    pause(&mut w);
    // The signature is not checked again: it must be the same one.
    for at in (8..16).chain(24..packet.len()) {
        let mut other = packet.clone();
        other[at] ^= 1;
        super::test_world::set_check(&mut other);
        let did = give(&mut w, &other);
        assert!(refused(&did).is_some() && delivered(&did) == 0, "byte {at}: {did:?}");
        w.later(1_000_000);
    }
    let did = give(&mut w, &packet);
    assert_eq!(refused(&did), None, "{did:?}");
}

#[test]
fn the_source_gives_its_packet_again() {
    let mut w = gated(4);
    let (to, me) = (w.id(3), w.id(0));
    w.give(0, Input::FindRoute { destination: to });
    w.run();
    (0..20).for_each(|_| drop(w.later(100_000)));
    let proof = any_proof(&w, &WAY, 1);
    w.cut(2, 3);
    w.send(0, Own { to, payload: PAYLOAD.to_vec(), proof: proof.clone(), unchecked: false });
    let packet = w.in_flight.back().expect("it is sent").2.clone();
    let told = |did: &[(usize, Outcome)]| {
        did.iter()
            .any(|(n, d)| *n == 0 && matches!(d, Outcome::Publish(Event::DeliveryFailed { .. })))
    };
    assert!(told(&w.run()));
    // Again too early: it is reported again.
    pause(&mut w);
    w.repeat(0, &packet);
    assert_eq!(w.in_flight.back().map(|(_, _, bytes)| bytes), Some(&packet));
    assert!(told(&w.run()));
    w.wire(2, 3);
    pause(&mut w);
    assert_eq!(w.repeat(0, &packet), []);
    let did = w.run();
    assert!(did.contains(&(3, Outcome::Deliver(me, PAYLOAD.to_vec(), 60_000))), "{did:?}");

    // What is not this node's own, or is not paid for, is not sent so.
    let reason = |w: &mut World, n: usize, packet: &[u8]| {
        let did = w.repeat(n, packet);
        refused(&did).expect("it is refused")
    };
    assert_eq!(reason(&mut w, 1, &packet), RoutingReason::NotOurTurn.into());
    let free = Own { to: w.id(1), payload: vec![1], proof: vec![], unchecked: true };
    w.send(0, free);
    let free = w.in_flight.back().expect("it is sent").2.clone();
    assert_eq!(reason(&mut w, 0, &free), PaymentReason::Required.into());
    assert!(matches!(reason(&mut w, 0, &packet[1..]), MeshError::NetworkError(_)));
    w.cut(0, 1);
    assert_eq!(reason(&mut w, 0, &packet), RoutingReason::NextHopGone.into());
}

#[test]
fn an_open_relay_lets_it_pass_again_and_an_open_end_takes_it_once() {
    use crate::config::MeshMode::{Open, PaymentGated};
    let mut w = super::lightning_tests::line(&[PaymentGated, Open, PaymentGated, Open], false);
    let proof = any_proof(&w, &WAY, 1);
    let packet = paid(&w, 7, &proof);
    w.cut(2, 3);
    assert_eq!(delivered(&give(&mut w, &packet)), 0);
    w.wire(2, 3);
    pause(&mut w);
    let did = give(&mut w, &packet);
    assert_eq!((booked(&did), delivered(&did)), (vec![2], 1), "{did:?}");
    pause(&mut w);
    assert_eq!(delivered(&give(&mut w, &packet)), 0);
}
