//! A covenant that pays the relays of a way for bytes on accounts: an output for each.

use super::*;
use crate::payment::proof::ForAccounts;
use crate::tariff::Tariff;

const RELAYS: ForAccounts = ForAccounts { receives: false, open_number: 7 };
const TARIFFS: [Tariff; 2] =
    [Tariff { base_msat: 1_000, per_kib_msat: 100 }, Tariff { base_msat: 500, per_kib_msat: 250 }];
/// Half of the amount for each of them, in millisatoshi.
const HALF: u64 = AMOUNT_SAT * 1_000 / 2;

/// Two relays with different prices between node 0 and node 3.
fn line() -> World {
    line_of(4, |n| {
        let mut config = config(n);
        if let Some(tariff) = n.checked_sub(1).and_then(|n| TARIFFS.get(n)) {
            config.payment.tariff = *tariff;
        }
        config
    })
}

/// Pays the outputs `to` nodes for the way from node 0 to node 3.
fn mined(w: &World, accounts: ForAccounts, to: &[(u64, usize)], coin: u32) -> Mined {
    let hops = [1, 2].map(|n| w.id(n).hop());
    let (source, destination, quota) = (w.id(0), w.id(3), 0);
    let terms = Terms { network: Network::Regtest, source, destination, hops: &hops, quota };
    let outputs: Vec<_> = to.iter().map(|(sat, n)| (*sat, script(*n))).collect();
    let terms_hash = terms.hash_for(accounts.purpose());
    Funded::paying(terms_hash, &outputs, AMOUNT_SAT, coin).mine([0; 32], BLOCK_TIME)
}

fn shown(w: &World, accounts: ForAccounts, mined: &Mined, sequence: u64) -> Vec<u8> {
    let proof = [&accounts.bytes()[..], &mined.proof].concat();
    w.packet(&[0, 1, 2, 3], sequence, &[], &proof)
}

fn give(w: &mut World, packet: Vec<u8>) -> Vec<(usize, Outcome)> {
    let mut did = w.receive(1, World::link(1, 0), packet);
    did.extend(w.run());
    did
}

fn bought(w: &World) -> [Option<u64>; 2] {
    [1, 2].map(|n| w.nodes[n].account(&w.id(0)).map(|account| account.bought))
}

#[test]
fn each_relay_credits_its_output_by_its_own_tariff_and_once() {
    let mut w = line();
    let mined = mined(&w, RELAYS, &[(AMOUNT_SAT / 2, 1), (AMOUNT_SAT / 2, 2)], 1);
    know(&mut w, &mined);
    let packet = shown(&w, RELAYS, &mined, 5);
    let did = give(&mut w, packet);
    let worth = TARIFFS.map(|tariff| tariff.bytes_for(HALF));
    assert!(worth[0] > worth[1] && worth[1].is_some_and(|bytes| bytes > 1 << 20));
    assert_eq!(bought(&w), worth);
    for n in [1, 2] {
        let [Record::Deposit(deposit)] = w.disks[n][..] else { panic!("{:?}", w.disks[n]) };
        let Payment { method, share_msat, role, .. } = deposit.payment;
        let place = Party::Intermediate(n as u8 - 1);
        assert_eq!((method, share_msat, role), (Method::Covenant, HALF, place));
        assert_eq!(w.nodes[n].account(&w.id(0)).unwrap().open_number, 7);
        // The transaction that pays it is for the operator's node to broadcast.
        let settles = |d: &Outcome| {
            matches!(d, Outcome::Publish(Event::PaymentVerified { settlement: Some(_), .. }))
        };
        assert!(did.iter().any(|(at, d)| *at == n && settles(d)), "{did:?}");
    }
    assert!(w.disks[3].is_empty(), "nobody pays the destination");
    // In another packet it is used, and a later Open number changes nothing.
    let later = ForAccounts { open_number: 9, ..RELAYS };
    let again = shown(&w, later, &mined, 6);
    let did = give(&mut w, again);
    let reason = crate::payment::replay::ReplayError::Used;
    assert!(did.contains(&(1, refused(reason))), "{did:?}");
    assert_eq!(bought(&w), worth);
}

#[test]
fn over_a_restart_it_counts_once() {
    let mut w = line();
    let mined = mined(&w, RELAYS, &[(AMOUNT_SAT / 2, 1), (AMOUNT_SAT / 2, 2)], 1);
    know(&mut w, &mined);
    let packet = shown(&w, RELAYS, &mined, 5);
    give(&mut w, packet);
    let worth = bought(&w);
    assert!(worth.iter().all(Option::is_some));
    for n in [1, 2] {
        w.restart(n, 40 + n as u8);
        w.give(n, Input::WallClock { unix: NOW });
    }
    (1..4).for_each(|n| {
        w.wire(n - 1, n);
    });
    w.run();
    know(&mut w, &mined);
    let again = shown(&w, RELAYS, &mined, 6);
    give(&mut w, again);
    assert_eq!(bought(&w), worth);
}

#[test]
fn a_relay_without_its_output_sells_nothing() {
    let half = AMOUNT_SAT / 2;
    let worth = |msat| TARIFFS.map(|tariff| tariff.bytes_for(msat));
    let (none, first) = ([None; 2], [worth(HALF)[0], None]);
    let third = AMOUNT_SAT / 3;
    let change = [(third, 1), (third, 2), (third + 1, 0)];
    let cases = [
        (&[(half + 1, 1), (half - 1, 2)][..], first),
        (&[(half, 2), (half, 1)], none),
        (&[(AMOUNT_SAT, 1)], none),
        (&change, worth(third * 1_000)),
    ];
    for (outputs, expected) in cases {
        let mut w = line();
        let mined = mined(&w, RELAYS, outputs, 1);
        know(&mut w, &mined);
        let packet = shown(&w, RELAYS, &mined, 10);
        give(&mut w, packet);
        assert_eq!(bought(&w), expected, "{outputs:?}");
    }
}

#[test]
fn what_pays_for_a_datagram_or_for_receiving_pays_for_no_account() {
    let receiving = ForAccounts { receives: true, ..RELAYS };
    let third = AMOUNT_SAT / 3;
    let cases: [&dyn Fn(&World) -> Mined; 2] =
        [&|w| funded_for(w, &[0, 1, 2, 3], 1).mine([0; 32], BLOCK_TIME), &|w| {
            mined(w, receiving, &[(third + 1, 1), (third, 2), (third, 3)], 2)
        }];
    for pays in cases {
        let mut w = line();
        let mined = pays(&w);
        know(&mut w, &mined);
        let packet = shown(&w, RELAYS, &mined, 20);
        give(&mut w, packet);
        assert_eq!(bought(&w), [None; 2]);
    }
}
