//! One proof for the accounts of several nodes.

use super::lightning_tests::{
    NOW, PAYLOAD, World, accounts_proof, any_proof, issuer, line_with, proof_over,
};
use super::test_world::{Outcome, Own};
use super::*;
use crate::config::MeshMode;
use crate::payment::fee::Party;
use crate::payment::ledger::Record;
use crate::payment::proof::{FOR_ACCOUNTS_LEN, ForAccounts};
use crate::payment::replay::REPEAT_PAUSE;
use crate::tariff::Tariff;
use crate::time::SECOND;
use crate::wire::route_error::{Cause, RouteError};
use crate::wire::{Header, Kind};
use std::vec::Vec;

const WAY: [usize; 4] = [0, 1, 2, 3];
const RELAYS: ForAccounts = ForAccounts { receives: false, open_number: 7 };
/// For both relays, which get the half each.
const AMOUNT: u64 = 60_001;
/// Different prices, so that the same part buys different amounts.
const TARIFFS: [(u32, u32); 4] = [(0, 0), (1_000, 100), (500, 250), (0, 40)];

/// A gated line with these tariffs.
fn world() -> World {
    let mut w = line_with(&[MeshMode::PaymentGated; 4], false, |n, config| {
        let (base_msat, per_kib_msat) = TARIFFS[n];
        config.payment.tariff = Tariff { base_msat, per_kib_msat };
    });
    w.run();
    w
}

fn bought(w: &World, n: usize) -> Option<u64> {
    w.nodes[n].account(&w.id(0)).map(|account| account.bought)
}

fn shown(w: &World, way: &[usize], sequence: u64, proof: &[u8]) -> Vec<u8> {
    w.packet(way, sequence, &[], proof)
}

/// Gives a packet to the first relay, and carries all that follows; what comes back to node 0.
fn give(w: &mut World, packet: &[u8]) -> Vec<Cause> {
    w.receive(1, World::link(1, 0), packet.to_vec());
    let mut back = Vec::new();
    while let Some((n, link, bytes)) = w.in_flight.pop_front() {
        if n == 0 {
            let (header, body) = Header::parse(&bytes).unwrap();
            if header.kind == Kind::RouteError {
                back.push(RouteError::parse(header, body).unwrap().cause);
            }
        } else {
            w.receive(n, link, bytes);
        }
    }
    back
}

/// What half of the amount buys at the two relays: 290 and 118 KiB.
const BOUGHT: [Option<u64>; 2] = [Some(290 * 1024), Some(118 * 1024)];

#[test]
fn each_relay_credits_its_part_by_its_own_tariff_and_once() {
    let mut w = world();
    let proof = accounts_proof(&w, &WAY, 1, RELAYS, AMOUNT);
    let packet = shown(&w, &WAY, 5, &proof);
    assert_eq!(give(&mut w, &packet), [Cause::Delivered]);
    assert_eq!([1, 2].map(|n| bought(&w, n)), BOUGHT);
    assert_eq!((bought(&w, 0), bought(&w, 3)), (None, None));
    assert!([1, 2].iter().all(|n| w.nodes[*n].account(&w.id(0)).unwrap().open_number == 7));
    let [Record::Deposit(deposit)] = w.disks[1][..] else { panic!("{:?}", w.disks[1]) };
    let deposit = deposit.payment;
    assert_eq!((deposit.role, deposit.share_msat), (Party::Intermediate(0), 30_001));
    assert!(w.disks[3].is_empty() && w.nodes[3].stats().delivered == 0, "it is not a datagram");
    // Lost, and sent again.
    w.now += 2 * REPEAT_PAUSE;
    assert_eq!(give(&mut w, &packet), [Cause::Delivered]);
    // In another packet, though with a newer number, it is used.
    let later = ForAccounts { open_number: 9, ..RELAYS };
    let again = [&later.bytes()[..], &proof[FOR_ACCOUNTS_LEN..]].concat();
    let again = shown(&w, &WAY, 6, &again);
    assert_eq!(give(&mut w, &again), [Cause::Replay]);
    assert_eq!([1, 2].map(|n| bought(&w, n)), BOUGHT);
    assert_eq!(w.nodes[1].account(&w.id(0)).unwrap().open_number, 7);
    // A second payment adds to it.
    let proof = accounts_proof(&w, &WAY, 2, RELAYS, AMOUNT);
    let packet = shown(&w, &WAY, 7, &proof);
    assert_eq!(give(&mut w, &packet), [Cause::Delivered]);
    assert_eq!([1, 2].map(|n| bought(&w, n)), BOUGHT.map(|b| Some(2 * b.unwrap())));
}

#[test]
fn it_counts_once_over_restarts_and_the_account_stays() {
    let mut w = world();
    let proof = accounts_proof(&w, &WAY, 1, RELAYS, AMOUNT);
    let packet = shown(&w, &WAY, 5, &proof);
    give(&mut w, &packet);
    for round in 1..4u8 {
        for n in [1, 2] {
            w.restart(n, 40 + round * 4 + n as u8);
            w.give(n, Input::WallClock { unix: NOW });
        }
        (1..4).for_each(|n| {
            w.wire(n - 1, n);
        });
        w.run();
        w.now += 2 * REPEAT_PAUSE;
        assert_eq!(give(&mut w, &packet), [Cause::Delivered], "the receipt was lost");
        let other = shown(&w, &WAY, 5 + u64::from(round), &proof);
        assert_eq!(give(&mut w, &other), [Cause::Replay]);
        assert_eq!([1, 2].map(|n| bought(&w, n)), BOUGHT);
    }
}

#[test]
fn it_pays_for_nothing_else() {
    let mut w = world();
    let proof = accounts_proof(&w, &WAY, 1, RELAYS, AMOUNT);
    let inner = &proof[FOR_ACCOUNTS_LEN..];
    let datagrams = any_proof(&w, &WAY, 2);
    let as_accounts = [&RELAYS.bytes()[..], &datagrams].concat();
    let all = ForAccounts { receives: true, ..RELAYS };
    let for_all = [&all.bytes()[..], inner].concat();
    let packets = [
        (w.packet(&WAY, 1, &PAYLOAD, inner), Cause::IssuerUnknown, "as a datagram's"),
        (w.packet(&WAY, 2, &[], inner), Cause::IssuerUnknown, "as an empty datagram's"),
        (w.packet(&WAY, 3, &PAYLOAD, &proof), Cause::ProofMalformed, "with a payload"),
        (shown(&w, &WAY, 4, &as_accounts), Cause::IssuerUnknown, "a datagram's"),
        (shown(&w, &WAY, 5, &for_all), Cause::IssuerUnknown, "for other parts"),
        (shown(&w, &WAY[..3], 6, &proof), Cause::IssuerUnknown, "on another route"),
    ];
    for (packet, cause, what) in packets {
        // Each of them took a check of the issuer's signature.
        w.now += 100 * SECOND;
        assert_eq!(give(&mut w, &packet), [cause], "{what}");
        assert!(w.disks.iter().all(|disk| disk.is_empty()), "{what}");
        assert_eq!([1, 2].map(|n| bought(&w, n)), [None, None], "{what}");
    }
    // Node 1 shows what it saw pass as its own.
    let stolen = shown(&w, &[1, 2, 3], 7, &proof);
    w.receive(2, World::link(2, 1), stolen);
    assert!(w.disks[2].is_empty() && w.nodes[2].account(&w.id(1)).is_none());
    // Behind all that it still counts.
    let packet = shown(&w, &WAY, 8, &proof);
    assert_eq!(give(&mut w, &packet), [Cause::Delivered]);
    assert_eq!([1, 2].map(|n| bought(&w, n)), BOUGHT);
}

#[test]
fn who_changes_the_number_is_not_the_source() {
    let mut w = world();
    let proof = accounts_proof(&w, &WAY, 1, RELAYS, AMOUNT);
    let mut packet = shown(&w, &WAY, 5, &proof);
    let at = packet.len() - proof.len() + 2;
    packet[at] = 0xff;
    super::test_world::set_check(&mut packet);
    assert_eq!(give(&mut w, &packet), [Cause::SourceSignature]);
    assert_eq!(bought(&w, 1), None);
}

#[test]
fn less_than_a_kib_is_not_sold() {
    let mut w = world();
    // The second relay's part buys no KiB, the first one's does.
    let proof = accounts_proof(&w, &WAY, 1, RELAYS, 2_400);
    let packet = shown(&w, &WAY, 5, &proof);
    assert_eq!(give(&mut w, &packet), [Cause::Delivered]);
    assert_eq!([1, 2].map(|n| bought(&w, n)), [Some(2 * 1024), Some(2 * 1024)]);
    let proof = accounts_proof(&w, &WAY, 2, RELAYS, 2_198);
    let packet = shown(&w, &WAY, 6, &proof);
    assert_eq!(give(&mut w, &packet), [Cause::AmountTooSmall]);
    assert_eq!([1, 2].map(|n| bought(&w, n)), [Some(2 * 1024), Some(2 * 1024)]);
}

#[cfg(feature = "alloc")]
#[test]
fn a_destination_is_paid_for_receiving_where_it_takes_something() {
    use crate::flow::accounts::receiving;
    let mut w = line_with(&[MeshMode::PaymentGated; 3], false, |n, config| {
        config.payment.tariff = Tariff { base_msat: 0, per_kib_msat: 100 };
        config.flows.receive = Tariff { base_msat: 0, per_kib_msat: if n == 2 { 10 } else { 0 } };
    });
    let all = ForAccounts { receives: true, open_number: 3 };
    let proof = accounts_proof(&w, &WAY[..3], 1, all, 2_000);
    let packet = shown(&w, &WAY[..3], 5, &proof);
    for _ in 0..2 {
        assert_eq!(give(&mut w, &packet), [Cause::Delivered]);
        assert_eq!(bought(&w, 1), Some(10 * 1024));
        assert_eq!(bought(&w, 2), None, "it relays nothing for that");
        let account = w.nodes[2].account(&receiving(&w.id(0))).copied();
        assert_eq!(account.map(|a| (a.bought, a.open_number)), Some((100 * 1024, 3)));
        assert_eq!(w.nodes[2].stats().delivered, 0);
        w.now += 2 * REPEAT_PAUSE;
    }
    // One that takes nothing refuses it.
    let proof = accounts_proof(&w, &WAY[..2], 2, all, 2_000);
    let packet = shown(&w, &WAY[..2], 6, &proof);
    assert_eq!(give(&mut w, &packet), [Cause::ModeRefused]);
}

#[test]
fn a_source_sends_it_as_any_paid_datagram() {
    let mut w = world();
    w.give(0, Input::FindRoute { destination: w.id(3) });
    w.run();
    let proof = accounts_proof(&w, &WAY, 1, RELAYS, AMOUNT);
    let own = Own { to: w.id(3), payload: Vec::new(), proof, unchecked: false };
    w.send(0, own);
    let did = w.run();
    let arrived = |d: &Outcome| matches!(d, Outcome::Publish(Event::Delivered { .. }));
    assert!(did.iter().any(|(n, d)| *n == 0 && arrived(d)), "{did:?}");
    assert_eq!([1, 2].map(|n| bought(&w, n)), BOUGHT);
    assert_eq!(bought(&w, 0), None);
}

#[test]
fn a_full_table_of_accounts_refuses_it() {
    let mut w = line_with(&[MeshMode::PaymentGated; 3], false, |_, config| {
        config.capacities.accounts = 1;
    });
    let other = NodeId([9; 32]);
    let account = crate::flow::accounts::Account::restored(9, 0, 0, Default::default(), 0);
    let account = crate::payment::ledger::AccountState { source: other, account };
    w.restart(1, 50);
    w.give(1, Input::Persisted { record: Record::Account(account) });
    w.give(1, Input::WallClock { unix: NOW });
    (1..3).for_each(|n| {
        w.wire(n - 1, n);
    });
    let proof = accounts_proof(&w, &WAY[..3], 1, RELAYS, AMOUNT);
    let packet = shown(&w, &WAY[..3], 5, &proof);
    assert_eq!(give(&mut w, &packet), [Cause::TableFull]);
    assert_eq!((w.nodes[1].live_payments(), bought(&w, 1)), (0, None));
}

/// What a source has deposited serves its flows: nothing is bought as long as it lasts.
#[cfg(feature = "alloc")]
#[test]
fn flows_use_what_was_deposited() {
    use super::end_world::{Net, bytes};
    let mut net = Net::unwired(&[MeshMode::PaymentGated; 4], |_, config| {
        let issuer = issuer().public_key(&Secp256k1::new());
        config.payment.issuers.push(issuer).unwrap();
    });
    (1..4).for_each(|n| net.wire(n - 1, n));
    net.give(3, Input::AcceptFlows { accept: true });
    net.run(SECOND);
    let to = net.id(3);
    net.give(0, Input::FindRoute { destination: to });
    net.run(SECOND);
    let quote = net.nodes[0].quote_accounts(&to, 4 << 20, false).unwrap();
    assert_eq!((quote.hops.len(), quote.amount_msat), (2, 2 * quote.part_msat));
    let proof = proof_over(quote.terms_hash, issuer(), 1, NOW, quote.amount_msat);
    let proof = [&quote.accounts[..], &proof].concat();
    net.give(0, Input::Send { destination: to, payload: &[], proof: &proof, unchecked: false });
    net.run(SECOND);
    let flow = net.open(3, 1 << 40);
    net.run(3 * SECOND);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    assert!(net.send_all(0, flow, stream, &bytes(2_000_000), 60 * SECOND));
    assert!(net.paid.is_empty(), "{:?}", net.paid);
}
