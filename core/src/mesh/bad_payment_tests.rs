//! What a neighbour can make this node compute with payments that do not hold.

use super::test_world::{Outcome, edit};
use super::*;
use crate::config::{Allowance, MeshMode};
use crate::id::HopId;
use crate::id::Network;
use crate::id::Standing;
use crate::payment::covenant::CovenantError;
use crate::payment::lightning::LightningError;
use crate::payment::packed::{IssuerHint, pack};
use crate::payment::proof::LIGHTNING;
use crate::payment::replay::ReplayError;
use crate::payment::terms::Terms;
use crate::payment::test_covenant::Funded;
use crate::payment::test_invoice::Recipe;
use crate::tables::{Boxed, Heap};
use crate::time::SECOND;
use crate::wire::header::lower_hop_limit;
use crate::wire::route_error::Cause;
use lightning_invoice::Currency;
use std::vec::Vec;

type World = super::test_world::World<Boxed>;

const NOW: u64 = 1_750_000_000;
const BURST: usize = 5;
const RATE: u64 = 2;
const PAYLOAD: [u8; 100] = [0x77; 100];
const SCRIPT: [u8; 22] = *b"\0\x14a script of twenty b";

fn issuer() -> SecretKey {
    SecretKey::from_byte_array([0x15; 32]).unwrap()
}

fn stranger() -> SecretKey {
    SecretKey::from_byte_array([0x51; 32]).unwrap()
}

/// Node 1 relays between 0 and 2.
fn line() -> World {
    gated(3)
}

/// The same, with more nodes that have no links.
fn gated(count: u8) -> World {
    let mut config = Config::board(Network::Regtest, 8192);
    config.mode = MeshMode::PaymentGated;
    config.timing.keepalive = 0;
    config.bad_payments = Allowance { rate: RATE, burst: BURST as u64 };
    config.payment.issuers.push(issuer().public_key(&Secp256k1::new())).unwrap();
    config.payment.volatile = false;
    config.payment.covenants_active = true;
    config.payment.payout_script = SCRIPT.into_iter().collect();
    let mut w = World::new(count, |_| config.clone());
    for n in 0..usize::from(count) {
        w.give(n, Input::WallClock { unix: NOW + 10 });
    }
    w.wire(0, 1);
    w.wire(1, 2);
    // The allowance fills up.
    w.now += 60 * SECOND;
    w
}

fn with_terms<T>(w: &World, way: &[usize], f: impl FnOnce(&Terms<'_>) -> T) -> T {
    let [source, over @ .., destination] = way else { panic!("a way has two ends") };
    let hops: Vec<HopId> = over.iter().map(|n| w.id(*n).hop()).collect();
    let (source, destination, quota) = (w.id(*source), w.id(*destination), PAYLOAD.len() as u64);
    f(&Terms { network: Network::Regtest, source, destination, hops: &hops, quota })
}

/// A proof of a payment with this number, signed by one and said to be by another.
fn proof(w: &World, way: [usize; 3], number: u8, signer: SecretKey, said: SecretKey) -> Vec<u8> {
    proof_along(w, &way, number, signer, said)
}

fn proof_along(
    w: &World,
    way: &[usize],
    number: u8,
    signer: SecretKey,
    said: SecretKey,
) -> Vec<u8> {
    let terms_hash = with_terms(w, way, |terms| terms.hash());
    let recipe = Recipe {
        key: signer,
        currency: Currency::Regtest,
        preimage: [number; 32],
        ..Recipe::typical(terms_hash)
    };
    let hint = IssuerHint::of(&said.public_key(&Secp256k1::new()));
    let mut out = std::vec![LIGHTNING; 400];
    let n = pack(&recipe.text(), &recipe.preimage, &terms_hash, hint, &mut out[1..]).unwrap();
    out.truncate(1 + n);
    out
}

/// Gives node 1 a datagram from one end; what it is refused for.
fn relay(w: &mut World, way: [usize; 3], number: u8, proof: &[u8]) -> Option<MeshError> {
    let bytes = w.packet(&way, number.into(), &PAYLOAD, proof);
    give(w, way, bytes)
}

fn give(w: &mut World, way: [usize; 3], bytes: Vec<u8>) -> Option<MeshError> {
    let did = w.receive(1, World::link(1, way[0]), bytes);
    did.into_iter().find_map(|(_, d)| match d {
        Outcome::Reject(reason) => Some(reason),
        _ => None,
    })
}

/// How many of so many self-issued invoices are refused for this reason.
fn flood(w: &mut World, numbers: core::ops::Range<u8>, reason: PaymentReason) -> usize {
    let refusals = numbers.map(|n| {
        let proof = proof(w, [0, 1, 2], n, stranger(), issuer());
        relay(w, [0, 1, 2], n, &proof).unwrap()
    });
    refusals.filter(|r| *r == reason.into()).count()
}

const FORGED: PaymentReason = PaymentReason::Lightning(LightningError::InvalidSignature);

#[test]
fn a_flood_of_self_issued_invoices_costs_few_signatures() {
    let mut w = line();
    assert_eq!(flood(&mut w, 0..60, FORGED), BURST);
    assert_eq!(flood(&mut w, 60..80, PaymentReason::TooManyBad), 20);
    // Not even one that holds is looked at; another neighbour's is.
    let good = proof(&w, [0, 1, 2], 100, issuer(), issuer());
    let refused = relay(&mut w, [0, 1, 2], 100, &good).unwrap();
    assert_eq!(refused, PaymentReason::TooManyBad.into());
    assert_eq!(refused.cause(), Some(Cause::TooManyBad));
    let other = proof(&w, [2, 1, 0], 101, issuer(), issuer());
    assert_eq!(relay(&mut w, [2, 1, 0], 101, &other), None);
    // Its allowance comes back with time.
    w.now += SECOND;
    assert_eq!(flood(&mut w, 110..140, FORGED), RATE as usize);
    w.now += 60 * SECOND;
    assert_eq!(relay(&mut w, [0, 1, 2], 102, &good), None);
    assert_eq!(flood(&mut w, 150..200, FORGED), BURST);
}

#[test]
fn one_mistake_on_a_new_link_stops_no_payment() {
    let mut w = line();
    w.cut(0, 1);
    w.wire(0, 1);
    assert_eq!(flood(&mut w, 0..1, FORGED), 1);
    let good = proof(&w, [0, 1, 2], 100, issuer(), issuer());
    assert_eq!(relay(&mut w, [0, 1, 2], 100, &good), None);
}

#[test]
fn a_new_link_brings_no_new_allowance() {
    let mut w = line();
    assert_eq!(flood(&mut w, 0..20, FORGED), BURST);
    for n in 0..3 {
        w.cut(0, 1);
        w.wire(0, 1);
        assert_eq!(flood(&mut w, 20 + 10 * n..30 + 10 * n, FORGED), 0);
    }
    w.now += SECOND;
    let good = proof(&w, [0, 1, 2], 100, issuer(), issuer());
    assert_eq!(relay(&mut w, [0, 1, 2], 100, &good), None);
}

/// How many of twenty forged payments node 1 checks that come over a new link to it, as the
/// neighbour's own and as those of nodes behind it; the link is closed then.
fn checked_over_a_new_link(w: &mut World, neighbour: usize, standing: Standing) -> usize {
    let (far, link) = (World::link(neighbour, 1), World::link(1, neighbour));
    let (peer, me) = (w.id(neighbour), w.id(1));
    w.join((neighbour, far), (1, link));
    let own = Standing::Own;
    w.give(
        neighbour,
        Input::PeerConnected {
            link: far,
            peer: me,
            dialed: true,
            standing: own,
            capabilities: None,
        },
    );
    w.give(1, Input::PeerConnected { link, peer, dialed: false, standing, capabilities: None });
    w.run();
    let mut checked = 0;
    for n in 0..20 {
        // Nodes 3 to 9 are behind whoever it is.
        let behind = 3 + usize::from(n) % 7;
        let way = if n % 2 == 0 { &[neighbour, 1, 2][..] } else { &[behind, neighbour, 1, 2] };
        let proof = proof_along(w, way, n, issuer(), issuer());
        let mut bytes = w.packet(way, n.into(), &PAYLOAD, &proof);
        if way.len() == 4 {
            lower_hop_limit(&mut bytes);
        }
        edit(&mut bytes);
        let did = w.receive(1, link, bytes);
        let refused =
            |d: &(usize, Outcome)| d.1 == Outcome::Reject(PaymentReason::SourceSignature.into());
        checked += usize::from(did.iter().any(refused));
    }
    w.cut(neighbour, 1);
    checked
}

/// A key that came again had four checks of its own and eight of those behind it each time.
#[test]
fn a_key_that_comes_again_and_keys_of_one_prefix_have_one_allowance_of_checks() {
    let mut w = gated(120);
    let own: usize = (0..100).map(|_| checked_over_a_new_link(&mut w, 10, Standing::Own)).sum();
    // Four, and one for each of the parts that the seven behind it hit.
    assert!((5..=4 + 8).contains(&own), "{own} checks");
    let stranger = Standing::Stranger { prefix: 7 };
    let keys: usize = (11..111).map(|key| checked_over_a_new_link(&mut w, key, stranger)).sum();
    assert!((1..=8).contains(&keys), "{keys} checks");
    // With time they have as many as a neighbour that stays.
    w.now += 60 * SECOND;
    let keys: usize = (11..111).map(|key| checked_over_a_new_link(&mut w, key, stranger)).sum();
    assert!((1..=8).contains(&keys), "{keys} checks");
    // Strangers of another prefix have their own.
    let other = Standing::Stranger { prefix: 8 };
    assert!(checked_over_a_new_link(&mut w, 111, other) > 0);
}

#[test]
fn forged_signatures_of_the_source_count_too() {
    let mut w = line();
    let reasons: Vec<MeshError> = (0..20)
        .map(|n| {
            let proof = proof(&w, [0, 1, 2], n, issuer(), issuer());
            let mut bytes = w.packet(&[0, 1, 2], n.into(), &PAYLOAD, &proof);
            edit(&mut bytes);
            give(&mut w, [0, 1, 2], bytes).unwrap()
        })
        .collect();
    let forged = MeshError::from(PaymentReason::SourceSignature);
    assert_eq!(reasons[..BURST], std::vec![forged; BURST]);
    let unchecked = MeshError::from(PaymentReason::TooManyBad);
    assert_eq!(reasons[BURST..], std::vec![unchecked; 20 - BURST]);
}

#[test]
fn what_holds_and_what_costs_no_signature_is_free() {
    let mut w = line();
    for n in 0..40 {
        let good = proof(&w, [0, 1, 2], n, issuer(), issuer());
        assert_eq!(relay(&mut w, [0, 1, 2], n, &good), None);
        // A second time, and from an issuer that others may accept.
        let again = relay(&mut w, [0, 1, 2], 100 + n, &good);
        assert_eq!(again, Some(ReplayError::Used.into()));
        let other = proof(&w, [0, 1, 2], 100 + n, stranger(), stranger());
        let refused = relay(&mut w, [0, 1, 2], 200, &other);
        let unknown = PaymentReason::Lightning(LightningError::UnknownIssuer);
        assert_eq!(refused, Some(unknown.into()));
    }
}

#[test]
fn questions_in_vain_count_too() {
    let mut w = line();
    let funded = with_terms(&w, &[0, 1, 2], |terms| {
        Funded::new(terms, &[SCRIPT.to_vec(), SCRIPT.to_vec()], 100_000, 1)
    });
    for n in 0..20 {
        let mined = funded.mine([n; 32], NOW as u32);
        let bytes = w.packet(&[0, 1, 2], n.into(), &PAYLOAD, &mined.proof);
        let did = w.receive(1, World::link(1, 0), bytes);
        if usize::from(n) >= BURST {
            let unasked = Outcome::Reject(PaymentReason::TooManyBad.into());
            assert_eq!(did, [(1, unasked)]);
            continue;
        }
        let [(1, Outcome::Parked(ticket)), (1, Outcome::Verify(..))] = did[..] else {
            panic!("{did:?}")
        };
        // No block, or one that the coin is not in.
        let (time, confirmations) = (NOW as u32, 1);
        let other = KnownHeader { merkle_root: [0; 32], time, confirmations };
        let block = (n % 2 == 0).then_some(other);
        let did = w.give(1, Input::PaymentVerified { ticket, block });
        let reason = match block {
            Some(_) => CovenantError::NotInBlock,
            None => CovenantError::HeaderUnknown,
        };
        let reason = MeshError::from(PaymentReason::from(reason));
        let last = &did.last().unwrap().1;
        assert!(*last == Outcome::Reject(reason) || *last == Outcome::Drop(ticket, reason));
    }
}

/// What a gated relay does with what comes through an open one: of so many payments of an
/// honest source, one a second, how many pass while others forge many behind the same relay.
fn paid_behind_an_open_relay(forgers: usize) -> usize {
    use super::lightning_tests::{PAYLOAD, any_proof, forged_proof, gated};
    // 0 and the forgers are neighbours of the open node 1, which is one of the gated node 2.
    let mut w = gated(4 + forgers);
    w.nodes[1].config.mode = MeshMode::Open;
    let (a, b) = (World::link(1, 2), World::link(2, 1));
    let (one, two) = (w.id(1), w.id(2));
    w.give(1, Input::PeerDisconnected { link: a });
    w.give(2, Input::PeerDisconnected { link: b });
    let standing = crate::id::Standing::Own;
    w.give(
        1,
        Input::PeerConnected { link: a, peer: two, dialed: true, standing, capabilities: None },
    );
    w.give(
        2,
        Input::PeerConnected { link: b, peer: one, dialed: false, standing, capabilities: None },
    );
    w.run();
    let mut arrived = 0;
    for second in 0..10u64 {
        w.now += SECOND;
        for forger in 4..4 + forgers {
            for number in 0..20u64 {
                let number = (forger as u64) << 32 | second << 16 | number;
                // With a name of its own and signed, or in the honest one's and not.
                let way = match number % 2 {
                    0 => [&[forger, 1, 2, 3][..], &[]].concat(),
                    _ => std::vec![0, forger, 1, 2, 3],
                };
                let proof = forged_proof(&w, &way, number);
                let mut bytes = w.packet(&way, number, &PAYLOAD, &proof);
                if way.len() > 4 {
                    edit(&mut bytes);
                    lower_hop_limit(&mut bytes);
                }
                lower_hop_limit(&mut bytes);
                w.receive(2, b, bytes);
            }
        }
        w.in_flight.clear();
        let way = [0, 1, 2, 3];
        let proof = any_proof(&w, &way, second + 1);
        let mut bytes = w.packet(&way, second, &PAYLOAD, &proof);
        lower_hop_limit(&mut bytes);
        w.receive(2, b, bytes);
        let passed = w.in_flight.drain(..).filter(|(n, ..)| *n == 3).count();
        arrived += passed;
    }
    arrived
}

#[test]
fn who_forges_behind_an_open_relay_takes_a_small_part_of_what_it_may_pass_on() {
    assert_eq!(paid_behind_an_open_relay(0), 10);
    assert_eq!(paid_behind_an_open_relay(1), 10);
    assert_eq!(paid_behind_an_open_relay(2), 10);
}

#[test]
fn what_waits_at_the_node_counts_as_asked() {
    let mut config = Config::host(Network::Regtest);
    config.timing.keepalive = 0;
    config.payment.covenants_active = true;
    config.payment.payout_script = SCRIPT.into_iter().collect();
    let mut w = super::test_world::World::<Heap>::new(3, |_| config.clone());
    (0..3).for_each(|n| drop(w.give(n, Input::WallClock { unix: NOW + 10 })));
    w.wire(0, 1);
    w.wire(1, 2);
    let hops = [w.id(1).hop()];
    let (source, destination, quota) = (w.id(0), w.id(2), PAYLOAD.len() as u64);
    let terms = Terms { network: Network::Regtest, source, destination, hops: &hops, quota };
    let funded = Funded::new(&terms, &[SCRIPT.to_vec(), SCRIPT.to_vec()], 100_000, 1);
    let mut tickets = Vec::new();
    let mut ask = |w: &mut super::test_world::World<Heap>, from: u16, to: u16| {
        let before = tickets.len();
        for n in from..to {
            let mut block = [7; 32];
            block[..2].copy_from_slice(&n.to_le_bytes());
            let mined = funded.mine(block, NOW as u32);
            let bytes = w.packet(&[0, 1, 2], n.into(), &PAYLOAD, &mined.proof);
            let did = w.receive(1, LinkId(100), bytes);
            tickets.extend(did.iter().filter_map(|(_, d)| match d {
                Outcome::Verify(ticket, _) => Some(*ticket),
                _ => None,
            }));
        }
        (tickets.len() - before, tickets.last().copied())
    };
    // A new link may cost four checks.
    let (asked, last) = ask(&mut w, 0, 171);
    assert_eq!(asked, 4);
    // A question in vain stays counted; where the node does not answer, nobody is to blame.
    let ticket = last.expect("one was asked");
    w.give(1, Input::PaymentVerified { ticket, block: None });
    assert_eq!(ask(&mut w, 200, 210).0, 0);
    w.later(10 * SECOND);
    assert_eq!(w.nodes[1].parked(), 0);
    assert_eq!(ask(&mut w, 300, 600).0, 200, "after a pause as many as at once");
}
