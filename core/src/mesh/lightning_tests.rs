//! Lightning payments over a relay that forgets, by way of one that checks nothing, and for
//! a price that has risen.

use super::test_world::{Outcome, Own};
use super::*;
use crate::config::MeshMode;
use crate::id::HopId;
use crate::id::Network;
use crate::link::lane::Lane;
use crate::payment::packed::{IssuerHint, pack};
#[cfg(feature = "alloc")]
use crate::payment::proof::ForAccounts;
use crate::payment::proof::LIGHTNING;
use crate::payment::terms::{Purpose, Terms};
use crate::payment::test_invoice::Recipe;
use crate::tables::Boxed;
use crate::time::SECOND;
use crate::wire::header::lower_hop_limit;
use crate::wire::route_error::Cause;
use lightning_invoice::Currency;
use std::vec::Vec;

pub(super) type World = super::test_world::World<Boxed>;

pub(super) const NOW: u64 = 1_750_000_000;
pub(super) const PAYLOAD: [u8; 100] = [0x77; 100];

pub(super) fn issuer() -> SecretKey {
    SecretKey::from_byte_array([0x15; 32]).unwrap()
}

/// Nodes in a line, each of this mode and with the time.
pub(super) fn line(modes: &[MeshMode], volatile: bool) -> World {
    line_with(modes, volatile, |_, _| ())
}

/// The same, each configured further.
pub(super) fn line_with(
    modes: &[MeshMode],
    volatile: bool,
    more: impl Fn(usize, &mut Config),
) -> World {
    let mut w = World::new(modes.len() as u8, |n| {
        let mut config = Config::board(Network::Regtest, 8192);
        config.mode = modes[n];
        config.timing.keepalive = 0;
        config.payment.issuers.push(issuer().public_key(&Secp256k1::new())).unwrap();
        config.payment.volatile = volatile;
        more(n, &mut config);
        config
    });
    for n in 0..modes.len() {
        w.give(n, Input::WallClock { unix: NOW });
    }
    for n in 1..modes.len() {
        w.wire(n - 1, n);
    }
    w
}

/// Nodes in a line that take payments and keep records of them.
pub(super) fn gated(count: usize) -> World {
    line(&std::vec![MeshMode::PaymentGated; count], false)
}

/// A proof for the payload on a way that every node takes; each number's is another.
pub(super) fn any_proof(w: &World, way: &[usize], number: u64) -> Vec<u8> {
    numbered_proof(w, way, number, NOW, 100_000)
}

/// A proof for the payload on a way, from an invoice of this date over this amount.
pub(super) fn proof(
    w: &World,
    way: &[usize],
    number: u8,
    timestamp: u64,
    amount_msat: u64,
) -> Vec<u8> {
    numbered_proof(w, way, number.into(), timestamp, amount_msat)
}

/// The same, but nobody paid anybody: it is signed by who sends it.
pub(super) fn forged_proof(w: &World, way: &[usize], number: u64) -> Vec<u8> {
    let stranger = SecretKey::from_byte_array([0x51; 32]).unwrap();
    proof_by(stranger, w, way, number, NOW, 100_000)
}

fn numbered_proof(
    w: &World,
    way: &[usize],
    number: u64,
    timestamp: u64,
    amount_msat: u64,
) -> Vec<u8> {
    proof_by(issuer(), w, way, number, timestamp, amount_msat)
}

/// A proof that pays for bytes on accounts at the nodes of a way.
#[cfg(feature = "alloc")]
pub(super) fn accounts_proof(
    w: &World,
    way: &[usize],
    number: u64,
    accounts: ForAccounts,
    amount_msat: u64,
) -> Vec<u8> {
    let proof = proof_for(accounts.purpose(), issuer(), w, way, number, NOW, amount_msat);
    [&accounts.bytes()[..], &proof].concat()
}

fn proof_by(
    key: SecretKey,
    w: &World,
    way: &[usize],
    number: u64,
    timestamp: u64,
    amount_msat: u64,
) -> Vec<u8> {
    proof_for(Purpose::Datagram, key, w, way, number, timestamp, amount_msat)
}

fn proof_for(
    purpose: Purpose,
    key: SecretKey,
    w: &World,
    way: &[usize],
    number: u64,
    timestamp: u64,
    amount_msat: u64,
) -> Vec<u8> {
    let [from, hops @ .., to] = way else { panic!("a way has two ends") };
    let hops: Vec<HopId> = hops.iter().map(|n| w.id(*n).hop()).collect();
    let (source, destination, quota) = (w.id(*from), w.id(*to), PAYLOAD.len() as u64);
    let network = Network::Regtest;
    let terms = Terms { network, source, destination, hops: &hops, quota };
    proof_over(terms.hash_for(purpose), key, number, timestamp, amount_msat)
}

/// A proof for these terms.
pub(super) fn proof_over(
    terms_hash: [u8; 32],
    key: SecretKey,
    number: u64,
    timestamp: u64,
    amount_msat: u64,
) -> Vec<u8> {
    let recipe = Recipe {
        key,
        currency: Currency::Regtest,
        preimage: core::array::from_fn(|i| number.to_le_bytes()[i % 8]),
        timestamp,
        amount_msat: Some(amount_msat),
        ..Recipe::typical(terms_hash)
    };
    let hint = IssuerHint::of(&issuer().public_key(&Secp256k1::new()));
    let mut out = std::vec![LIGHTNING; 400];
    let n = pack(&recipe.text(), &recipe.preimage, &terms_hash, hint, &mut out[1..]).unwrap();
    out.truncate(1 + n);
    out
}

/// Gives a node a packet: why it is refused, and what is to be done about the neighbour.
pub(super) fn refusal(
    w: &mut World,
    n: usize,
    from: usize,
    mut packet: Vec<u8>,
) -> (MeshError, Remedy) {
    let (now, link) = (w.now, World::link(n, from));
    let input = Input::MessageReceived { link, packet: &mut packet };
    w.nodes[n].handle(now, input).unwrap();
    let mut refusal = None;
    loop {
        match w.nodes[n].poll() {
            Action::Wait { .. } => return refusal.expect("it is refused"),
            Action::Verdict(Verdict::Reject { reason, remedy, .. }) => {
                refusal = Some((reason, remedy))
            }
            _ => {}
        }
    }
}

#[test]
fn a_clock_that_is_set_right_later_brings_no_payment_of_the_run_before_back() {
    let mut w = line(&[MeshMode::PaymentGated; 3], true);
    w.now += 1000 * SECOND;
    let proof = proof(&w, &[0, 1, 2], 1, NOW + 900, 100_000);
    let packet = |w: &World, number| w.packet(&[0, 1, 2], number, &PAYLOAD, &proof);
    let first = packet(&w, 1);
    let did = w.receive(1, World::link(1, 0), first);
    assert!(matches!(did[..], [(1, Outcome::Publish(Event::PaymentVerified { .. }))]), "{did:?}");

    // The first reading after the start is of long ago, the next one is right.
    w.restart(1, 99);
    w.give(1, Input::WallClock { unix: NOW - 86_400 });
    w.wire(0, 1);
    w.wire(1, 2);
    w.now += 30 * SECOND;
    w.give(1, Input::WallClock { unix: NOW + 1030 });
    let again = packet(&w, 2);
    let (reason, _) = refusal(&mut w, 1, 0, again);
    assert_eq!(reason, PaymentReason::BeforeStart.into());

    // A payment dated after the start is taken, also once the clock was set many times.
    let late = self::proof(&w, &[0, 1, 2], 2, NOW + 1400, 100_000);
    for tens in 1..50 {
        w.now += 10 * SECOND;
        w.give(1, Input::WallClock { unix: NOW + 1030 + 10 * tens });
    }
    let late = w.packet(&[0, 1, 2], 3, &PAYLOAD, &late);
    let did = w.receive(1, World::link(1, 0), late);
    assert!(matches!(did[..], [(1, Outcome::Publish(Event::PaymentVerified { .. }))]), "{did:?}");
}

#[test]
fn a_relay_that_checks_nothing_is_not_punished_for_what_a_source_sends_through_it() {
    use MeshMode::{Open, PaymentGated};
    for (mode, remedy) in [(Open, Remedy::Ignore), (PaymentGated, Remedy::Penalise)] {
        let mut w = line(&[mode, mode, PaymentGated, PaymentGated], false);
        let wrong = [LIGHTNING, 0xff];
        let mut packet = w.packet(&[0, 1, 2, 3], 1, &PAYLOAD, &wrong);
        lower_hop_limit(&mut packet);
        let (reason, what) = refusal(&mut w, 2, 1, packet);
        assert_eq!((reason.cause(), what), (Some(Cause::ProofMalformed), remedy));
        // Its own datagrams it answers for.
        let own = w.packet(&[1, 2, 3], 2, &PAYLOAD, &wrong);
        let (reason, what) = refusal(&mut w, 2, 1, own);
        assert_eq!((reason.cause(), what), (Some(Cause::ProofMalformed), Remedy::Penalise));
    }
}

#[test]
fn a_source_that_paid_an_old_price_does_not_pay_it_again() {
    let mut w = line(&[MeshMode::PaymentGated; 4], false);
    let (to, bytes) = (w.id(3), PAYLOAD.len() as u64);
    let find = |w: &mut World| {
        w.give(0, Input::FindRoute { destination: to });
        w.run();
        (0..20).for_each(|_| drop(w.later(100_000)));
        w.nodes[0].quote(&to, bytes).expect("a route").amount_msat
    };
    let old = find(&mut w);
    let proof = proof(&w, &[0, 1, 2, 3], 1, NOW, old);
    // As after a restart with another configuration.
    w.nodes[2].config.payment.tariff.base_msat *= 10;
    w.send(0, Own { to, payload: PAYLOAD.to_vec(), proof, unchecked: false });
    let did = w.run();
    let stopped = did.iter().any(|(n, did)| {
        let (reporter, cause) = (w.id(2), Cause::AmountTooSmall);
        *n == 0
            && matches!(did, Outcome::Publish(Event::DeliveryFailed { destination, reporter: r, cause: c, .. })
                if (*destination, *r, *c) == (to, reporter, cause))
    });
    assert!(stopped, "{did:?}");
    assert_eq!(w.nodes[0].quote(&to, bytes), None, "the old price is still quoted");
    assert!(find(&mut w) > old);
}

#[test]
fn a_full_lane_refuses_only_what_takes_it_and_books_no_payment() {
    let mut w = line(&[MeshMode::PaymentGated; 3], false);
    let verack = *b"\xfa\xbf\xb5\xdaverack\0\0\0\0\0\0\0\0\0\0\x5d\xf6\xe0\xe2";
    let (a, b, c) = (w.id(0), World::link(1, 0), w.id(2));
    let to_c = World::link(1, 2);
    let free = |w: &mut World| {
        let own = Own { to: c, payload: verack.into(), proof: Vec::new(), unchecked: false };
        w.send(0, own);
        w.run()
    };
    assert!(free(&mut w).contains(&(2, Outcome::Deliver(a, verack.into(), 0))));
    let congested = Outcome::Reject(NetworkReason::Congested.into());
    let full = |w: &mut World, lane, full| {
        w.give(1, Input::Congestion { link: to_c, lane, full });
    };

    // What is free waits for its own lane only.
    full(&mut w, Lane::Free, true);
    assert!(free(&mut w).contains(&(1, congested.clone())));
    let first = proof(&w, &[0, 1, 2], 1, NOW, 100_000);
    let packet = w.packet(&[0, 1, 2], 1, &PAYLOAD, &first);
    let did = w.receive(1, b, packet);
    assert!(matches!(did[..], [(1, Outcome::Persist(_)), (1, Outcome::Publish(_))]), "{did:?}");

    // What was paid for is refused before it counts, and passes when there is room.
    full(&mut w, Lane::Free, false);
    full(&mut w, Lane::Paid, true);
    assert!(free(&mut w).contains(&(2, Outcome::Deliver(a, verack.into(), 0))));
    let second = proof(&w, &[0, 1, 2], 2, NOW, 100_000);
    let packet = w.packet(&[0, 1, 2], 2, &PAYLOAD, &second);
    let booked = w.disks[1].len();
    assert_eq!(w.receive(1, b, packet.clone()), [(1, congested.clone())]);
    assert_eq!(w.disks[1].len(), booked);
    full(&mut w, Lane::Paid, false);
    w.receive(1, b, packet);
    assert_eq!(w.disks[1].len(), booked + 1);

    // The same for own ones, checked by this node or not.
    let own = |w: &mut World, proof: &[u8], payload: &[u8], unchecked| {
        let (payload, proof) = (payload.to_vec(), proof.to_vec());
        w.send(1, Own { to: c, payload, proof, unchecked })
    };
    full(&mut w, Lane::Free, true);
    assert_eq!(own(&mut w, &[], &verack, false), [(1, congested.clone())]);
    assert_eq!(own(&mut w, &[], &PAYLOAD, true), [(1, congested.clone())]);
    let third = proof(&w, &[1, 2], 3, NOW, 100_000);
    let did = own(&mut w, &third, &PAYLOAD, false);
    assert!(matches!(did[..], [(1, Outcome::Persist(_)), (1, Outcome::Publish(_))]), "{did:?}");
    assert_eq!(own(&mut w, &third, &PAYLOAD, true), []);
    full(&mut w, Lane::Paid, true);
    assert_eq!(own(&mut w, &third, &PAYLOAD, true), [(1, congested)]);
}
