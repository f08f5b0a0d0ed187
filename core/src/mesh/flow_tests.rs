//! Bytes bought at a relay and flows over it, with a source and a destination that this file
//! plays: nodes 0 and 3 of a line.

use super::lightning_tests::{World, gated};
use super::test_world::{Outcome, set_check};
use super::*;
use crate::flow::tickets::LIFETIME_S;
use crate::id::HopId;
use crate::payment::ledger::Credit;
use crate::payment::ledger::Record;
use crate::payment::test_invoice::Recipe;
use crate::time::SECOND;
use crate::wire::account::{
    Balance, Invoice, InvoiceRequest, MAX_LEN, Message, Pay, Ticket as Paid,
};
use crate::wire::datagram::{Datagram, Emit, Form};
use crate::wire::flow::{self, FlowError, OpenTerms};
use crate::wire::route_error::{Cause, RouteError};
use crate::wire::{Header, Kind};
use lightning_invoice::Currency;
use sha2::{Digest, Sha256};
use std::string::String;
use std::vec::Vec;

/// Bytes that are bought at a time in these tests, and what they cost.
pub(super) const STEP: u64 = 200_000;
pub(super) const PRICE: u64 = 50_000;
/// What a flow draws at a time on a board.
pub(super) const RESERVATION: u64 = 64 * 1024;

/// Packets that reach a node, which does not see them.
pub(super) fn run_until(w: &mut World, ends: &[usize]) -> (Vec<Vec<u8>>, Vec<(usize, Outcome)>) {
    let (mut arrived, mut did) = (Vec::new(), Vec::new());
    while let Some((n, link, bytes)) = w.in_flight.pop_front() {
        match ends.contains(&n) {
            true => arrived.push(bytes),
            false => did.extend(w.receive(n, link, bytes)),
        }
    }
    (arrived, did)
}

/// An account message from the first node of a way to its last.
pub(super) fn message(w: &World, way: &[usize], sequence: u64, message: &Message<'_>) -> Vec<u8> {
    let [from, hops @ .., to] = way else { panic!("a way has two ends") };
    let hops: Vec<HopId> = hops.iter().map(|n| w.id(*n).hop()).collect();
    let emit = Emit {
        hop_limit: hops.len() as u8,
        sequence,
        source: w.id(*from),
        destination: w.id(*to),
        proof: None,
        form: Form::Account,
    };
    let payload = message.bytes::<MAX_LEN>().unwrap();
    let mut out = std::vec![0; 2000];
    let n = emit.write(&hops, &payload, &mut out, |_| [0; 64]).unwrap();
    [&out[..n], &payload].concat()
}

pub(super) fn request(
    w: &World,
    way: &[usize],
    sequence: u64,
    bytes: u64,
    amount_msat: u64,
) -> Vec<u8> {
    let (from, to) = (way[0], *way.last().unwrap());
    let secp = Secp256k1::new();
    let me = Identity::new(&secp, &World::key(from));
    let unsigned = InvoiceRequest {
        bytes,
        amount_msat,
        open_number: 0,
        public_key: me.public_key(),
        signature: &[0; 64],
    };
    let signature = me.sign(&secp, &unsigned.sighash(sequence, &w.id(from), &w.id(to)));
    let signed = InvoiceRequest { signature: &signature, ..unsigned };
    message(w, way, sequence, &Message::InvoiceRequest(signed))
}

/// An invoice of a node's own Lightning node, with a preimage for each number.
pub(super) fn invoice(number: u8, amount_msat: u64) -> String {
    let recipe = Recipe {
        currency: Currency::Regtest,
        amount_msat: Some(amount_msat),
        preimage: [number; 32],
        ..Recipe::typical_text([1; 32])
    };
    recipe.text()
}

/// Gives a packet to the second node of a way, as its neighbour before it sends it.
pub(super) fn give(w: &mut World, way: &[usize], packet: Vec<u8>) -> Vec<(usize, Outcome)> {
    w.receive(way[1], World::link(way[1], way[0]), packet)
}

/// Asks the last node of a way for an invoice and has it written; what the source gets.
pub(super) fn ask(
    w: &mut World,
    way: &[usize],
    number: u8,
) -> (Vec<Vec<u8>>, Vec<(usize, Outcome)>) {
    let packet = request(w, way, number.into(), STEP, PRICE);
    let to = *way.last().unwrap();
    let mut did = give(w, way, packet.clone());
    let (mut arrived, more) = run_until(w, &[way[0]]);
    did.extend(more);
    let asked = did.iter().find_map(|(n, d)| match d {
        Outcome::Invoice(ticket, STEP, PRICE) if *n == to => Some(*ticket),
        _ => None,
    });
    if let Some(ticket) = asked {
        did.extend(w.invoice(to, ticket, invoice(number, PRICE).as_bytes()));
        let (more, then) = run_until(w, &[way[0]]);
        arrived.extend(more);
        did.extend(then);
    }
    (arrived, did)
}

/// The only packet that arrived, as an account message.
pub(super) fn read(packets: &[Vec<u8>]) -> Message<'_> {
    let [packet] = packets else { panic!("{} packets", packets.len()) };
    let (header, body) = Header::parse(packet).unwrap();
    Message::parse(Datagram::parse(header, body).unwrap().payload).unwrap()
}

pub(super) fn ticket_of(packets: &[Vec<u8>]) -> Paid {
    match read(packets) {
        Message::Invoice(Invoice { ticket, .. }) => ticket,
        other => panic!("{other:?}"),
    }
}

pub(super) fn pay(
    w: &mut World,
    way: &[usize],
    sequence: u64,
    ticket: Paid,
    preimage: u8,
) -> Vec<Vec<u8>> {
    let pay = Message::Pay(Pay { ticket, preimage: [preimage; 32] });
    let packet = message(w, way, sequence, &pay);
    give(w, way, packet);
    run_until(w, &[way[0]]).0
}

/// Buys a step at the last node of a way; false if it was refused.
pub(super) fn buy(w: &mut World, way: &[usize], number: u8) -> bool {
    let (arrived, _) = ask(w, way, number);
    let [packet] = &arrived[..] else { return false };
    if packet[5] != Kind::Datagram as u8 {
        return false;
    }
    let ticket = ticket_of(&arrived);
    let answer = pay(w, way, 1_000 + u64::from(number), ticket, number);
    assert!(matches!(read(&answer), Message::Balance(_)));
    true
}

pub(super) fn cause_of(packets: &[Vec<u8>]) -> Cause {
    let [packet] = packets else { panic!("{} packets", packets.len()) };
    let (header, body) = Header::parse(packet).unwrap();
    match header.kind {
        Kind::RouteError => RouteError::parse(header, body).unwrap().cause,
        _ => FlowError::parse(header, body).unwrap().cause,
    }
}

pub(super) fn rejected(did: &[(usize, Outcome)]) -> Option<MeshError> {
    did.iter().find_map(|(_, d)| if let Outcome::Reject(reason) = d { Some(*reason) } else { None })
}

pub(super) const TERMS: OpenTerms = OpenTerms {
    max_packet: 1_400,
    random: [4; 16],
    open_number: 1,
    max_bytes: u64::MAX,
    idle_s: 60,
    act: [5; flow::ACT_LEN],
};

pub(super) fn open(w: &World, way: &[usize], terms: OpenTerms) -> Vec<u8> {
    let [from, hops @ .., to] = way else { panic!("a way has two ends") };
    let hops: Vec<HopId> = hops.iter().map(|n| w.id(*n).hop()).collect();
    let secp = Secp256k1::new();
    let me = Identity::new(&secp, &World::key(*from));
    let (source, destination) = (w.id(*from), w.id(*to));
    let emit = Emit {
        hop_limit: hops.len() as u8,
        sequence: flow::number(&source, &destination, &terms.random),
        source,
        destination,
        proof: Some((me.public_key(), &terms.bytes())),
        form: Form::Open,
    };
    let mut out = std::vec![0; 2000];
    let n = emit.write(&hops, &[], &mut out, |hash| me.sign(&secp, hash)).unwrap();
    out[..n].to_vec()
}

pub(super) fn number(w: &World) -> u64 {
    flow::number(&w.id(0), &w.id(3), &TERMS.random)
}

pub(super) fn packet(kind: Kind, flow: u64, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    let mut out = std::vec![0; 8000];
    let n = flow::write(kind, flow, hop_limit, body, &mut out).unwrap();
    out.truncate(n);
    out
}

/// A packet of data as the source sends it.
pub(super) fn data(w: &World, len: usize) -> Vec<u8> {
    packet(Kind::Data, number(w), 2, &std::vec![7; len - HEADER])
}

pub(super) const HEADER: usize = crate::wire::HEADER_LEN;
pub(super) const LINE: [usize; 4] = [0, 1, 2, 3];

/// A line of four with a flow over it, and a step bought at both relays.
pub(super) fn opened() -> World {
    let mut w = gated(4);
    assert!(buy(&mut w, &[0, 1], 1));
    assert!(buy(&mut w, &[0, 1, 2], 2));
    let packet = open(&w, &LINE, TERMS);
    give(&mut w, &LINE, packet);
    let (arrived, did) = run_until(&mut w, &[0, 3]);
    assert_eq!((arrived.len(), rejected(&did)), (1, None));
    w
}

pub(super) fn left(w: &World, n: usize) -> u64 {
    w.nodes[n].account(&w.id(0)).map_or(0, |account| account.left())
}

#[test]
fn a_source_buys_bytes_at_a_relay_two_links_away() {
    let mut w = gated(4);
    let way = [0, 1, 2];
    let (arrived, _) = ask(&mut w, &way, 7);
    let Message::Invoice(answer) = read(&arrived) else { panic!() };
    let secp = Secp256k1::new();
    assert_eq!(NodeId::from_compressed(answer.public_key), w.id(2));
    let hash = answer.sighash(&w.id(0));
    assert!(crate::signature::verify(&secp, answer.public_key, &hash, answer.signature));
    assert_eq!((answer.request, answer.ticket.bytes, answer.ticket.amount_msat), (7, STEP, PRICE));
    assert_eq!(answer.invoice, invoice(7, PRICE).as_bytes());
    let ticket = answer.ticket;
    assert!(w.nodes[2].account(&w.id(0)).is_some_and(|account| account.left() == 0));
    let balance = |answers, bought| Message::Balance(Balance { answers, bought, drawn: 0 });
    assert_eq!(read(&pay(&mut w, &way, 8, ticket, 7)), balance(8, STEP));
    let earned = w.nodes[2].stats().earned_msat;
    assert_eq!((left(&w, 2), earned), (STEP, PRICE));
    // The answer was lost: the same again is not counted again.
    assert_eq!(read(&pay(&mut w, &way, 9, ticket, 7)), balance(9, STEP));
    assert_eq!((left(&w, 2), w.nodes[2].stats().earned_msat), (STEP, PRICE));
    let credits = w.disks[2].iter().filter(|r| matches!(r, Record::Credit(_))).count();
    assert_eq!(credits, 1);
    w.restart(2, 9);
    assert_eq!(left(&w, 2), STEP);
    w.wire(1, 2);
    assert_eq!(read(&pay(&mut w, &way, 10, ticket, 7)), balance(10, STEP));
    assert_eq!(left(&w, 2), STEP, "nor after a restart");
}

#[test]
fn what_was_paid_before_a_restart_counts_after_it_for_a_while() {
    for (minutes, cause) in [(1, None), (16, Some(Cause::Expired))] {
        let mut w = gated(3);
        let (arrived, _) = ask(&mut w, &[0, 1, 2], 7);
        let ticket = ticket_of(&arrived);
        w.restart(2, 9);
        w.wire(1, 2);
        w.later(minutes * 60 * SECOND);
        let answer = pay(&mut w, &[0, 1, 2], 8, ticket, 7);
        match cause {
            Some(cause) => assert_eq!(cause_of(&answer), cause),
            None => {
                assert!(matches!(read(&answer), Message::Balance(Balance { bought: STEP, .. })))
            }
        }
    }
}

#[test]
fn nobody_else_can_use_a_ticket_and_none_comes_from_another_node() {
    let mut w = gated(4);
    let (arrived, _) = ask(&mut w, &[0, 1, 2], 7);
    let ticket = ticket_of(&arrived);
    let refused = |w: &mut World, way: &[usize], ticket, preimage, n: u64| {
        cause_of(&pay(w, way, n, ticket, preimage))
    };
    assert_eq!(refused(&mut w, &[0, 1, 2], ticket, 8, 10), Cause::TicketInvalid);
    assert_eq!(refused(&mut w, &[1, 2], ticket, 7, 11), Cause::TicketInvalid);
    assert_eq!(refused(&mut w, &[0, 1], ticket, 7, 12), Cause::TicketInvalid);
    let more = Paid { bytes: STEP * 2, ..ticket };
    assert_eq!(refused(&mut w, &[0, 1, 2], more, 7, 13), Cause::TicketInvalid);
    w.later(u64::from(LIFETIME_S) * SECOND);
    assert_eq!(refused(&mut w, &[0, 1, 2], ticket, 7, 14), Cause::Expired);
    assert!((0..4).all(|n| left(&w, n) == 0));
}

#[test]
fn requests_are_signed_priced_and_bounded() {
    let mut w = gated(3);
    let way = [0, 1, 2];
    let mut forged = request(&w, &way, 1, STEP, PRICE);
    *forged.last_mut().unwrap() ^= 1;
    set_check(&mut forged);
    give(&mut w, &way, forged);
    let (_, did) = run_until(&mut w, &[0]);
    assert_eq!(rejected(&did), Some(PaymentReason::SourceSignature.into()));
    for (bytes, amount, cause) in [
        (STEP, 1_000, Cause::AmountTooSmall),
        (STEP, PRICE + 1, Cause::ProofMalformed),
        (0, PRICE, Cause::ProofMalformed),
    ] {
        let packet = request(&w, &way, 2 + amount + bytes, bytes, amount);
        give(&mut w, &way, packet);
        assert_eq!(cause_of(&run_until(&mut w, &[0]).0), cause);
    }
    // Four tickets that are not paid.
    let mut tickets = Vec::new();
    for n in 10..14 {
        tickets.push(ticket_of(&ask(&mut w, &way, n).0));
    }
    assert_eq!(cause_of(&ask(&mut w, &way, 14).0), Cause::TableFull);
    pay(&mut w, &way, 20, tickets[0], 10);
    tickets.push(ticket_of(&ask(&mut w, &way, 15).0));
    w.later(u64::from(LIFETIME_S) * SECOND);
    for n in 16..20 {
        tickets.push(ticket_of(&ask(&mut w, &way, n).0));
    }
    assert_eq!(left(&w, 2), STEP);
}

#[test]
fn an_invoice_that_is_late_missing_or_of_another_amount_is_no_answer() {
    let mut w = gated(3);
    let way = [0, 1, 2];
    for (n, text) in
        [String::new(), invoice(1, PRICE + 1_000), "lnbcrt1nonsense".into()].into_iter().enumerate()
    {
        let packet = request(&w, &way, 30 + n as u64, STEP, PRICE);
        give(&mut w, &way, packet);
        let (_, did) = run_until(&mut w, &[0]);
        w.invoice(2, wanted(&did).unwrap(), text.as_bytes());
        assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::NoInvoice);
    }
    let packet = request(&w, &way, 40, STEP, PRICE);
    give(&mut w, &way, packet);
    run_until(&mut w, &[0]);
    let timeout = w.nodes[2].config().timing.verify_timeout;
    w.now += timeout;
    w.give(2, Input::Timer);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::NoInvoice);
    assert_eq!(w.nodes[2].parked(), 0);
}

/// The ticket under which a node waits for an invoice.
fn wanted(did: &[(usize, Outcome)]) -> Option<Ticket> {
    did.iter().find_map(|(_, d)| match d {
        Outcome::Invoice(ticket, ..) => Some(*ticket),
        _ => None,
    })
}

#[test]
fn a_request_that_is_repeated_costs_no_second_invoice() {
    let mut w = gated(3);
    let way = [0, 1, 2];
    let send = |w: &mut World, sequence| {
        let packet = request(w, &way, sequence, STEP, PRICE);
        give(w, &way, packet);
        wanted(&run_until(w, &[0]).1)
    };
    // While it is written, and when it is.
    let first = send(&mut w, 50).unwrap();
    assert_eq!((w.given, send(&mut w, 51)), (None, None));
    w.invoice(2, first, invoice(5, PRICE).as_bytes());
    let ticket = ticket_of(&run_until(&mut w, &[0]).0);
    let payment_hash = <[u8; 32]>::from(Sha256::digest([5; 32]));
    for sequence in 52..60 {
        let asked = send(&mut w, sequence).unwrap();
        assert_eq!(w.given, Some(payment_hash));
        w.invoice(2, asked, invoice(5, PRICE).as_bytes());
        assert_eq!(ticket_of(&run_until(&mut w, &[0]).0), ticket);
    }
    // A shell that has it no more has another one written, as long as there are places.
    let asked = send(&mut w, 60).unwrap();
    w.invoice(2, asked, invoice(6, PRICE).as_bytes());
    assert_ne!(ticket_of(&run_until(&mut w, &[0]).0), ticket);
    // It counts once.
    assert!(matches!(read(&pay(&mut w, &way, 61, ticket, 5)), Message::Balance(_)));
    let bought = |w: &World| w.nodes[2].account(&w.id(0)).unwrap().bought;
    assert_eq!(bought(&w), STEP);
    pay(&mut w, &way, 62, ticket, 5);
    assert_eq!(bought(&w), STEP);
}

#[test]
fn a_relay_passes_one_answer_for_each_request_and_no_other() {
    let mut w = gated(3);
    let (way, back) = ([0, 1, 2], [2, 1, 0]);
    let balance = |w: &World, sequence, answers| {
        let balance = Message::Balance(Balance { answers, bought: 1, drawn: 0 });
        message(w, &back, sequence, &balance)
    };
    let unasked = balance(&w, 1, 7);
    let did = give(&mut w, &back, unasked);
    assert_eq!(rejected(&did), Some(RoutingReason::Unsolicited.into()));
    let (arrived, _) = ask(&mut w, &way, 7);
    assert_eq!(arrived.len(), 1);
    let second = balance(&w, 2, 7);
    let did = give(&mut w, &back, second);
    assert_eq!(rejected(&did), Some(RoutingReason::Unsolicited.into()), "it was answered");
    let ticket = ticket_of(&arrived);
    let pay = message(&w, &way, 8, &Message::Pay(Pay { ticket, preimage: [7; 32] }));
    give(&mut w, &way, pay);
    w.in_flight.clear();
    let another = balance(&w, 3, 9);
    let did = give(&mut w, &back, another);
    assert_eq!(rejected(&did), Some(RoutingReason::Unsolicited.into()));
    let answer = balance(&w, 4, 8);
    give(&mut w, &back, answer);
    assert_eq!(run_until(&mut w, &[0]).0.len(), 1);
}

#[test]
fn a_used_ticket_of_somebody_else_tells_nothing() {
    let mut w = gated(3);
    assert!(buy(&mut w, &[0, 1, 2], 7));
    let credit = w.disks[2].iter().find_map(|r| match r {
        Record::Credit(Credit { account, .. }) => Some(*account),
        _ => None,
    });
    assert_eq!(credit.unwrap().bought, STEP);
    let ticket = Paid { run: 1, issued: 0, bytes: 1, amount_msat: 1, open_number: 0, mac: [0; 16] };
    assert_eq!(cause_of(&pay(&mut w, &[1, 2], 50, ticket, 7)), Cause::TicketInvalid);
}
