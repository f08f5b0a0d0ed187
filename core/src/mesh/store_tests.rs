//! A store that is lost, fails and works again, as the state machine sees it.

use super::lightning_tests::{NOW, PAYLOAD, World, line, proof, refusal};
use super::test_world::Outcome;
use super::*;
use crate::config::MeshMode;
use crate::payment::ledger::Record;
use crate::time::SECOND;
use std::vec::Vec;

const SKEW: u64 = 300;
const WAY: [usize; 3] = [0, 1, 2];

/// A relay that has taken a payment, and the packet that it was in.
fn paid() -> (World, Vec<u8>) {
    let mut w = line(&[MeshMode::PaymentGated; 3], false);
    let proof = proof(&w, &WAY, 1, NOW - 10, 100_000);
    let packet = w.packet(&WAY, 1, &PAYLOAD, &proof);
    let did = w.receive(1, World::link(1, 0), packet.clone());
    let [(1, Outcome::Persist(record)), (1, Outcome::Publish(event))] = &did[..] else {
        panic!("{did:?}");
    };
    let Record::Payment(payment) = record else { panic!("{record:?}") };
    let expected = Event::PaymentVerified {
        payment: payment.key,
        source: w.id(0),
        amount_msat: 100_000,
        share_msat: payment.share_msat,
        after: Some(1),
        settlement: None,
    };
    assert_eq!(*event, expected, "it is told of once its record is durable");
    (w, packet)
}

fn with_links(w: &mut World) {
    w.wire(0, 1);
    w.wire(1, 2);
}

#[test]
fn what_was_spent_before_the_store_was_lost_is_refused_at_each_later_start() {
    let (mut w, packet) = paid();
    w.disks[1] = std::vec![Record::StoreLost(None)];
    w.restart(1, 90);
    // Nobody can tell what is from before until the time is known.
    assert!(!w.nodes[1].accepts_payments());
    let did = w.give(1, Input::WallClock { unix: NOW });
    let lost = Record::StoreLost(Some(NOW + SKEW));
    assert_eq!(did, [(1, Outcome::Persist(lost)), (1, Outcome::Absorbed)]);
    with_links(&mut w);
    let (reason, remedy) = refusal(&mut w, 1, 0, packet.clone());
    assert_eq!((reason, remedy), (PaymentReason::BeforeStart.into(), Remedy::Ignore));

    // The next start knows it from the store, and writes nothing.
    assert_eq!(w.disks[1][1..], [lost]);
    w.disks[1].remove(0);
    w.restart(1, 91);
    w.now += SECOND;
    assert_eq!(w.give(1, Input::WallClock { unix: NOW + 1 }), [(1, Outcome::Absorbed)]);
    with_links(&mut w);
    assert_eq!(refusal(&mut w, 1, 0, packet).0, PaymentReason::BeforeStart.into());

    w.now += 600 * SECOND;
    w.give(1, Input::WallClock { unix: NOW + 601 });
    let late = proof(&w, &WAY, 2, NOW + SKEW + 1, 100_000);
    let late = w.packet(&WAY, 2, &PAYLOAD, &late);
    let did = w.receive(1, World::link(1, 0), late);
    assert!(matches!(did[0], (1, Outcome::Persist(Record::Payment(_)))), "{did:?}");
}

#[test]
fn a_clock_that_is_set_right_after_the_loss_moves_the_date_that_is_kept() {
    let (mut w, packet) = paid();
    w.disks[1] = std::vec![Record::StoreLost(None)];
    w.restart(1, 90);
    w.give(1, Input::WallClock { unix: NOW - 86_400 });
    w.now += 10 * SECOND;
    w.give(1, Input::WallClock { unix: NOW + 10 });
    w.now += 10 * SECOND;
    w.give(1, Input::WallClock { unix: NOW + 20 });
    assert_eq!(w.disks[1].last(), Some(&Record::StoreLost(Some(NOW + SKEW))));
    assert_eq!(w.disks[1].len(), 3, "once for each date that is later");
    with_links(&mut w);
    assert_eq!(refusal(&mut w, 1, 0, packet).0, PaymentReason::BeforeStart.into());
}

#[test]
fn a_store_that_works_again_lets_payments_in_and_none_a_second_time() {
    let (mut w, packet) = paid();
    w.give(1, Input::StoreFailed);
    assert!(!w.nodes[1].accepts_payments());
    let other = proof(&w, &WAY, 2, NOW, 100_000);
    let other = w.packet(&WAY, 2, &PAYLOAD, &other);
    assert_eq!(refusal(&mut w, 1, 0, other.clone()).0, PaymentReason::StoreFailed.into());
    w.give(1, Input::StoreRecovered);
    assert!(w.nodes[1].accepts_payments());
    // What was refused was not booked; what was accepted stays accepted.
    let did = w.receive(1, World::link(1, 0), other);
    assert!(matches!(did[0], (1, Outcome::Persist(Record::Payment(_)))), "{did:?}");
    w.now += 1;
    let did = w.receive(1, World::link(1, 0), packet);
    assert!(!did.iter().any(|(_, d)| matches!(d, Outcome::Persist(_))), "{did:?}");
}
