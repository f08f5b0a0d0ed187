//! Nodes that buy bytes from one another.

use super::flow_tests::{PRICE, STEP, invoice};
use super::lightning_tests::NOW;
use super::test_world::{Outcome, set_check};
use super::*;
use crate::config::MeshMode;
use crate::id::Network;
use crate::tables::Heap;
use crate::time::SECOND;
use crate::wire::header::Kind;
use crate::wire::route_error::Cause;
use std::vec::Vec;

type World = super::test_world::World<Heap>;
type Trace = Vec<(usize, Outcome)>;

/// Hosts in a line, each of this mode and with the time.
fn line(modes: &[MeshMode]) -> World {
    let mut w = World::new(modes.len() as u8, |n| {
        let mut config = Config::host(Network::Regtest);
        (config.mode, config.timing.keepalive) = (modes[n], 0);
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

fn gated(count: usize) -> World {
    line(&std::vec![MeshMode::PaymentGated; count])
}

/// Node 0 begins to buy at the last node of a way.
fn buy(w: &mut World, way: &[usize]) -> Ticket {
    let [_, hops @ .., node] = way else { panic!("a way has two ends") };
    let hops: Vec<_> = hops.iter().map(|n| w.id(*n).hop().0).collect();
    let node = w.id(*node).hop();
    let (bytes, amount_msat, open_number) = (STEP, PRICE, 0);
    let did = w.give(0, Input::Buy { hops: &hops, node, bytes, amount_msat, open_number });
    match did[..] {
        [(0, Outcome::Buying(ticket))] => ticket,
        ref other => panic!("{other:?}"),
    }
}

/// Carries packets; the invoices that nodes want are written at once, from the number on.
fn run(w: &mut World, number: &mut u8) -> Trace {
    let mut all = Trace::new();
    loop {
        let did = w.run();
        let wanted: Vec<_> = did
            .iter()
            .filter_map(|(n, d)| match d {
                Outcome::Invoice(ticket, STEP, PRICE) => Some((*n, *ticket)),
                _ => None,
            })
            .collect();
        all.extend(did);
        if wanted.is_empty() {
            return all;
        }
        for (n, ticket) in wanted {
            w.invoice(n, ticket, invoice(*number, PRICE).as_bytes());
            *number += 1;
        }
    }
}

fn to_pay(did: &Trace) -> Option<Vec<u8>> {
    did.iter().find_map(|(n, d)| match d {
        Outcome::Pay(_, invoice) if *n == 0 => Some(invoice.clone()),
        _ => None,
    })
}

fn end_of(did: &Trace) -> Option<Event> {
    did.iter().find_map(|(n, d)| match d {
        Outcome::Publish(event @ (Event::BytesBought { .. } | Event::PurchaseFailed { .. }))
            if *n == 0 =>
        {
            Some(event.clone())
        }
        _ => None,
    })
}

fn failed(w: &World, ticket: Ticket, node: usize, cause: Cause) -> Option<Event> {
    Some(Event::PurchaseFailed { ticket, node: w.id(node).hop(), cause })
}

fn bought(w: &World, ticket: Ticket, node: usize) -> Option<Event> {
    let (node, bytes, amount_msat) = (w.id(node), STEP, PRICE);
    Some(Event::BytesBought { ticket, node, bytes, amount_msat, left: STEP })
}

fn left(w: &World, n: usize) -> u64 {
    w.nodes[n].account(&w.id(0)).map_or(0, |account| account.left())
}

#[test]
fn a_node_buys_at_each_node_of_its_route() {
    for way in [&[0, 1][..], &[0, 1, 2], &[0, 1, 2, 3]] {
        let mut w = gated(4);
        let (end, mut number) = (*way.last().unwrap(), 7);
        let ticket = buy(&mut w, way);
        let did = run(&mut w, &mut number);
        assert_eq!(to_pay(&did).unwrap(), invoice(7, PRICE).as_bytes());
        w.give(0, Input::InvoicePaid { ticket, preimage: Some([7; 32]) });
        let did = run(&mut w, &mut number);
        assert_eq!(end_of(&did), bought(&w, ticket, end));
        assert_eq!((left(&w, end), w.nodes[end].stats().earned_msat), (STEP, PRICE));
        w.later(600 * SECOND);
        assert_eq!(left(&w, end), STEP);
    }
}

#[test]
fn what_is_lost_on_the_way_is_sent_again_and_credited_once() {
    let mut w = gated(3);
    let (way, mut number) = ([0, 1, 2], 7);
    let ticket = buy(&mut w, &way);
    w.in_flight.clear();
    assert_eq!(w.later(4 * SECOND), []);
    w.now += SECOND;
    w.give(0, Input::Timer);
    assert!(to_pay(&run(&mut w, &mut number)).is_some());
    w.give(0, Input::InvoicePaid { ticket, preimage: Some([7; 32]) });
    w.in_flight.clear();
    // The second time the answer is lost.
    w.now += 2 * SECOND;
    w.give(0, Input::Timer);
    while let Some((n, link, packet)) = w.in_flight.pop_front() {
        if n != 0 {
            w.receive(n, link, packet);
        }
    }
    assert_eq!(left(&w, 2), STEP);
    w.now += 4 * SECOND;
    w.give(0, Input::Timer);
    assert_eq!(end_of(&run(&mut w, &mut number)), bought(&w, ticket, 2));
    assert_eq!((left(&w, 2), w.nodes[2].stats().earned_msat), (STEP, PRICE));
}

#[test]
fn a_relay_that_restarts_after_the_payment_credits_it() {
    let mut w = gated(3);
    let mut number = 7;
    let ticket = buy(&mut w, &[0, 1, 2]);
    assert!(to_pay(&run(&mut w, &mut number)).is_some());
    w.restart(2, 9);
    w.give(0, Input::InvoicePaid { ticket, preimage: Some([7; 32]) });
    assert_eq!(end_of(&run(&mut w, &mut number)), None, "nobody is there");
    w.wire(1, 2);
    let mut did = Trace::new();
    for _ in 0..3 {
        did.extend(w.later(4 * SECOND));
    }
    assert_eq!(end_of(&did), bought(&w, ticket, 2));
}

#[test]
fn a_purchase_that_nobody_answers_fails_and_nothing_is_paid() {
    let mut w = gated(3);
    w.lose(1, 2);
    let ticket = buy(&mut w, &[0, 1, 2]);
    let mut did = Trace::new();
    for _ in 0..8 {
        did.extend(w.later(5 * SECOND));
    }
    assert_eq!((to_pay(&did), end_of(&did)), (None, failed(&w, ticket, 2, Cause::Expired)));
    // Nor where no invoice is written.
    let mut w = gated(3);
    let ticket = buy(&mut w, &[0, 1, 2]);
    w.run();
    let timeout = w.nodes[2].config().timing.verify_timeout;
    let did = w.later(timeout);
    assert_eq!((to_pay(&did), end_of(&did)), (None, failed(&w, ticket, 2, Cause::NoInvoice)));
    // A route that is gone.
    let mut w = gated(3);
    w.cut(1, 2);
    let ticket = buy(&mut w, &[0, 1, 2]);
    let mut did = Trace::new();
    for _ in 0..8 {
        did.extend(w.later(5 * SECOND));
    }
    assert_eq!(end_of(&did), failed(&w, ticket, 2, Cause::Expired));
}

#[test]
fn a_node_that_sells_nothing_says_so_at_once() {
    let mut w = line(&[MeshMode::PaymentGated, MeshMode::Open]);
    let ticket = buy(&mut w, &[0, 1]);
    let did = w.run();
    assert_eq!(end_of(&did), failed(&w, ticket, 1, Cause::ModeRefused));
}

#[test]
fn what_the_wallet_does_not_pay_is_over() {
    for preimage in [None, Some([8; 32])] {
        let mut w = gated(2);
        let mut number = 7;
        let ticket = buy(&mut w, &[0, 1]);
        run(&mut w, &mut number);
        let did = w.give(0, Input::InvoicePaid { ticket, preimage });
        assert_eq!(end_of(&did), failed(&w, ticket, 1, Cause::PaymentRequired));
        w.give(0, Input::InvoicePaid { ticket, preimage: Some([7; 32]) });
        assert!(w.run().is_empty() && left(&w, 1) == 0);
    }
}

/// Where the body of the message begins that brings an invoice over two links.
const MESSAGE: usize = 24 + 68 + 8;

#[test]
fn no_relay_can_have_itself_paid_in_the_place_of_another() {
    // Sequence, ticket, invoice, key, signature.
    for at in [MESSAGE + 1, MESSAGE + 12, MESSAGE + 60, MESSAGE + 100] {
        let mut w = gated(3);
        let ticket = buy(&mut w, &[0, 1, 2]);
        let did = w.run();
        let asked = did.iter().find_map(|(_, d)| match d {
            Outcome::Invoice(ticket, ..) => Some(*ticket),
            _ => None,
        });
        w.invoice(2, asked.unwrap(), invoice(7, PRICE).as_bytes());
        let (_, _, packet) = w.in_flight.iter_mut().find(|(n, ..)| *n == 1).unwrap();
        assert_eq!(packet[5], Kind::Datagram as u8);
        packet[at] ^= 1;
        set_check(packet);
        let mut did = w.run();
        for _ in 0..8 {
            did.extend(w.later(5 * SECOND));
        }
        let end = end_of(&did);
        assert_eq!(to_pay(&did), None, "{at}");
        assert!(end.is_some_and(
            |end| matches!(end, Event::PurchaseFailed { ticket: t, .. } if t == ticket)
        ));
    }
    // Its own invoice under its own key, for what another was asked.
    let mut w = gated(3);
    buy(&mut w, &[0, 1, 2]);
    let (_, _, request) = w.in_flight.pop_front().unwrap();
    let ticket = buy(&mut w, &[0, 1]);
    let mut number = 7;
    assert!(to_pay(&run(&mut w, &mut number)).is_some());
    assert!(request.len() > MESSAGE && ticket != Ticket(0));
}

#[test]
fn answers_that_nobody_waits_for_are_refused() {
    let mut w = gated(2);
    let mut number = 7;
    buy(&mut w, &[0, 1]);
    let did = w.run();
    let asked = did.iter().find_map(|(_, d)| match d {
        Outcome::Invoice(ticket, ..) => Some(*ticket),
        _ => None,
    });
    w.invoice(1, asked.unwrap(), invoice(number, PRICE).as_bytes());
    let answer = w.in_flight.front().unwrap().clone();
    assert!(to_pay(&run(&mut w, &mut number)).is_some());
    let (n, link, mut again) = answer;
    // A copy is a duplicate; under another number it answers nothing any more.
    again[8] ^= 1;
    set_check(&mut again);
    let did = w.receive(n, link, again);
    assert_eq!(did, [(0, Outcome::Reject(RoutingReason::Unsolicited.into()))]);
}
