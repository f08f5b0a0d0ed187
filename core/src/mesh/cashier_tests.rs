//! A node without a Lightning node, whose cashier sells its bytes from elsewhere in the mesh.

use super::flow_tests::{PRICE, STEP, invoice};
use super::lightning_tests::NOW;
use super::test_world::{Outcome, set_check};
use super::*;
use crate::config::Client;
use crate::flow::tickets::LIFETIME_S;
use crate::id::Network;
use crate::payment::ledger::Record;
use crate::tables::Heap;
use crate::time::SECOND;
use crate::wire::account::Message;
use crate::wire::datagram::Datagram;
use crate::wire::header::{Header, Kind};
use crate::wire::route_error::Cause;
use secp256k1::PublicKey;
use std::vec::Vec;

type World = super::test_world::World<Heap>;
type Trace = Vec<(usize, Outcome)>;

const BOARD: usize = 2;
/// Behind node 3, off that way.
const CASHIER: usize = 4;

fn node(n: usize) -> NodeId {
    NodeId::from_public_key(&PublicKey::from_secret_key(&Secp256k1::new(), &World::key(n)))
}

/// Node 2 has this cashier, and these nodes have this key for it.
fn world(cashier: usize, clients: &[(usize, [u8; 32])]) -> World {
    let mut w = World::new(5, |n| {
        let mut config = Config::host(Network::Regtest);
        config.timing.keepalive = 0;
        // A cashier need not sell anything itself.
        if n == CASHIER {
            config.mode = crate::config::MeshMode::Open;
        }
        config.flows.cashier = (n == BOARD).then(|| node(cashier));
        let its = clients.iter().filter(|(of, _)| *of == n);
        config.clients =
            its.map(|(_, key)| Client { node: node(BOARD), ticket_key: *key }).collect();
        config
    });
    for n in 0..5 {
        w.give(n, Input::WallClock { unix: NOW });
    }
    for (a, b) in [(0, 1), (1, 2), (1, 3), (3, 4)] {
        w.wire(a, b);
    }
    w
}

fn key() -> [u8; 32] {
    ticket_key(&World::key(BOARD))
}

fn usual() -> World {
    world(CASHIER, &[(CASHIER, key())])
}

fn buy(w: &mut World) -> Ticket {
    let hops = [w.id(1).hop().0];
    let (node, open_number) = (w.id(BOARD).hop(), 0);
    let (bytes, amount_msat) = (STEP, PRICE);
    let did = w.give(0, Input::Buy { hops: &hops, node, bytes, amount_msat, open_number });
    let [(0, Outcome::Buying(ticket))] = did[..] else { panic!("{did:?}") };
    ticket
}

/// Carries packets, which may be changed; invoices are written as they are wanted, from the number
/// on.
fn run(w: &mut World, number: u8, change: &mut dyn FnMut(&mut Vec<u8>)) -> Trace {
    let (mut all, mut number) = (Trace::new(), number);
    while let Some((n, link, mut packet)) = w.in_flight.pop_front() {
        change(&mut packet);
        let did = w.receive(n, link, packet);
        for (n, d) in &did {
            if let Outcome::Invoice(ticket, STEP, PRICE) = d {
                all.extend(w.invoice(*n, *ticket, invoice(number, PRICE).as_bytes()));
                number += 1;
            }
        }
        all.extend(did);
    }
    all
}

/// The same over half a minute, in which everything is tried again.
fn long(w: &mut World, number: u8, change: &mut dyn FnMut(&mut Vec<u8>)) -> Trace {
    let mut all = run(w, number, change);
    for second in 1..=40 {
        w.now += SECOND;
        for n in 0..5 {
            all.extend(w.give(n, Input::Timer));
        }
        all.extend(run(w, number + 2 * second, change));
    }
    all
}

fn to_pay(did: &Trace) -> Option<Ticket> {
    did.iter().find_map(|(n, d)| match d {
        Outcome::Pay(ticket, _) if *n == 0 => Some(*ticket),
        _ => None,
    })
}

/// The preimage of the invoice that is to be paid.
fn preimage(did: &Trace) -> Option<[u8; 32]> {
    let text = did.iter().find_map(|(n, d)| match d {
        Outcome::Pay(_, invoice) if *n == 0 => Some(invoice),
        _ => None,
    })?;
    (0..=u8::MAX).find(|n| invoice(*n, PRICE).as_bytes() == text).map(|n| [n; 32])
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

fn bought(w: &World, ticket: Ticket, amount_msat: u64) -> Option<Event> {
    let (node, bytes) = (w.id(BOARD), STEP);
    Some(Event::BytesBought { ticket, node, bytes, amount_msat, left: STEP })
}

fn failed(w: &World, ticket: Ticket, cause: Cause) -> Option<Event> {
    Some(Event::PurchaseFailed { ticket, node: w.id(BOARD).hop(), cause })
}

fn left(w: &World) -> u64 {
    w.nodes[BOARD].account(&w.id(0)).map_or(0, |account| account.left())
}

fn nothing(_: &mut Vec<u8>) {}

/// Which account message a packet brings.
fn message(packet: &[u8]) -> Option<u8> {
    let (header, body) = Header::parse(packet).ok()?;
    let is_account = header.kind == Kind::Datagram && header.flags != 0;
    let datagram = Datagram::parse(header, body).ok().filter(|_| is_account)?;
    Message::parse(datagram.payload).ok()?;
    datagram.payload.first().copied()
}

#[test]
fn the_cashier_is_found_and_paid_and_the_board_credits_it() {
    let mut w = usual();
    let ticket = buy(&mut w);
    let mut seen = Vec::new();
    let did = run(&mut w, 7, &mut |packet| seen.extend(message(packet)));
    assert_eq!(to_pay(&did), Some(ticket));
    // Requests over two links each, and the answers: a referral, and an invoice over three.
    assert_eq!(seen, [1, 1, 5, 5, 6, 6, 6, 2, 2, 2]);
    let run_of = |w: &World| {
        let runs = w.disks[BOARD].iter().filter(|record| matches!(record, Record::Run(_)));
        runs.count()
    };
    assert_eq!(run_of(&w), 1, "its next run must know of this one");
    w.give(0, Input::InvoicePaid { ticket, preimage: Some([7; 32]) });
    let did = run(&mut w, 8, &mut nothing);
    assert_eq!(end_of(&did), bought(&w, ticket, PRICE));
    assert_eq!((left(&w), w.nodes[BOARD].stats().earned_msat), (STEP, PRICE));
    assert_eq!(w.nodes[CASHIER].stats().earned_msat, 0);
    // Again: the way is known.
    let ticket = buy(&mut w);
    assert_eq!(to_pay(&run(&mut w, 9, &mut nothing)), Some(ticket));
    w.give(0, Input::InvoicePaid { ticket, preimage: Some([9; 32]) });
    run(&mut w, 9, &mut nothing);
    assert_eq!((left(&w), run_of(&w)), (2 * STEP, 1));
}

/// The cashier does not learn what its client was paid: it once gave a source four invoices, and
/// then none for a quarter of an hour.
#[test]
fn a_source_buys_as_often_as_it_pays() {
    let mut w = usual();
    for n in 1..=12 {
        let ticket = buy(&mut w);
        assert_eq!(to_pay(&run(&mut w, n, &mut nothing)), Some(ticket), "{n}");
        w.give(0, Input::InvoicePaid { ticket, preimage: Some([n; 32]) });
        run(&mut w, n, &mut nothing);
        assert_eq!(left(&w), u64::from(n) * STEP);
    }
    assert_eq!(w.nodes[CASHIER].accounts().count(), 0, "nobody buys anything there");
    // Their time is over: what the cashier has forgotten is nobody's account.
    w.later(2 * u64::from(LIFETIME_S) * SECOND);
    let ticket = buy(&mut w);
    assert_eq!(to_pay(&long(&mut w, 100, &mut nothing)), Some(ticket));
}

#[test]
fn what_is_lost_is_asked_for_again() {
    for lost in [1, 5, 6, 2, 3, 4] {
        let mut w = usual();
        let ticket = buy(&mut w);
        let mut times = 0;
        let mut lose = |packet: &mut Vec<u8>| {
            if message(packet) == Some(lost) {
                times += 1;
                if times == 1 {
                    packet.clear();
                }
            }
        };
        let did = long(&mut w, 7, &mut lose);
        assert_eq!(to_pay(&did), Some(ticket), "{lost}");
        w.give(0, Input::InvoicePaid { ticket, preimage: preimage(&did) });
        assert_eq!(end_of(&long(&mut w, 100, &mut lose)), bought(&w, ticket, PRICE));
        assert_eq!(left(&w), STEP);
        assert!(times > 1);
    }
}

#[test]
fn a_board_that_restarts_takes_what_its_cashier_sold() {
    let mut w = usual();
    let ticket = buy(&mut w);
    assert!(to_pay(&run(&mut w, 7, &mut nothing)).is_some());
    w.restart(BOARD, 9);
    w.give(BOARD, Input::WallClock { unix: NOW });
    w.wire(1, BOARD);
    w.give(0, Input::InvoicePaid { ticket, preimage: Some([7; 32]) });
    assert_eq!(end_of(&long(&mut w, 8, &mut nothing)), bought(&w, ticket, PRICE));
}

#[test]
fn a_board_whose_store_was_lost_takes_no_ticket_twice() {
    let mut w = usual();
    let ticket = buy(&mut w);
    run(&mut w, 7, &mut nothing);
    let mut pay = Vec::new();
    w.give(0, Input::InvoicePaid { ticket, preimage: Some([7; 32]) });
    run(&mut w, 8, &mut |packet| {
        if message(packet) == Some(3) && packet[7] == 0 {
            pay = packet.clone();
        }
    });
    assert_eq!(left(&w), STEP);
    w.disks[BOARD] = std::vec![Record::StoreLost(None)];
    w.restart(BOARD, 9);
    w.wire(1, BOARD);
    let did = w.receive(BOARD, World::link(BOARD, 1), pay);
    let expired = crate::flow::tickets::TicketError::Expired;
    assert!(
        did.contains(&(BOARD, Outcome::Reject(PaymentReason::from(expired).into()))),
        "{did:?}"
    );
    assert_eq!(left(&w), 0);
}

#[test]
fn a_cashier_that_buys_from_its_own_board_pays_nothing() {
    let mut w = world(0, &[(0, key())]);
    let ticket = buy(&mut w);
    let did = run(&mut w, 7, &mut nothing);
    assert_eq!((to_pay(&did), end_of(&did)), (None, bought(&w, ticket, 0)));
    assert_eq!(left(&w), STEP);
    // It was named by a board that it does not know.
    let mut w = world(0, &[]);
    let ticket = buy(&mut w);
    assert_eq!(end_of(&run(&mut w, 7, &mut nothing)), failed(&w, ticket, Cause::NoInvoice));
}

#[test]
fn a_cashier_sells_only_for_its_clients_and_what_they_have_offered() {
    for (clients, cause) in
        [(&[][..], Cause::NoInvoice), (&[(CASHIER, [1; 32])], Cause::TicketInvalid)]
    {
        let mut w = world(CASHIER, clients);
        let ticket = buy(&mut w);
        let did = run(&mut w, 7, &mut nothing);
        assert_eq!((to_pay(&did), end_of(&did)), (None, failed(&w, ticket, cause)));
    }
}

#[test]
fn nobody_on_the_way_can_have_another_paid() {
    // Of the referral sequence, ticket, its MAC, cashier, key and signature; of the request to
    // the cashier whose ticket, and the ticket; of the invoice its sequence, ticket, text, key and
    // signature.
    let changes: [(u8, &[usize]); 3] =
        [(5, &[1, 20, 50, 60, 90, 130]), (6, &[1, 40, 70]), (2, &[1, 20, 50, 70])];
    for (kind, at) in changes {
        for at in at {
            let mut w = usual();
            buy(&mut w);
            let did = long(&mut w, 7, &mut |packet| {
                // On its first link.
                let hops = packet.get(88).map_or(0, |hops| usize::from(*hops));
                if message(packet) == Some(kind) && usize::from(packet[7]) == hops {
                    packet[92 + 8 * hops + at] ^= 1;
                    set_check(packet);
                }
            });
            assert_eq!(to_pay(&did), None, "message {kind}, byte {at}");
            assert!(matches!(end_of(&did), Some(Event::PurchaseFailed { .. })));
        }
    }
}

#[test]
fn a_board_keeps_few_places_and_gives_them_up() {
    let mut w = usual();
    // What it may have promised to those behind one of its neighbours.
    w.wire(BOARD, 3);
    let share = crate::config::fixed::PLACES / 2;
    let mut sequence = 0;
    let mut referred = |w: &mut World, key: u8| {
        sequence += 1;
        let secp = Secp256k1::new();
        let key = SecretKey::from_byte_array([key; 32]).unwrap();
        let me = Identity::new(&secp, &key);
        let unsigned = crate::wire::account::InvoiceRequest {
            bytes: STEP,
            amount_msat: PRICE,
            open_number: 0,
            public_key: me.public_key(),
            signature: &[0; 64],
        };
        let signature = me.sign(&secp, &unsigned.sighash(sequence, &me.id(), &w.id(BOARD)));
        let signed = crate::wire::account::InvoiceRequest { signature: &signature, ..unsigned };
        let payload = Message::InvoiceRequest(signed).bytes::<200>().unwrap();
        let hops = [w.id(1).hop()];
        let emit = crate::wire::datagram::Emit {
            hop_limit: 0,
            sequence,
            source: me.id(),
            destination: w.id(BOARD),
            proof: None,
            form: crate::wire::datagram::Form::Account,
        };
        let mut packet = std::vec![0; 400];
        let head = emit.write(&hops, &payload, &mut packet, |_| [0; 64]).unwrap();
        packet.truncate(head);
        packet.extend(&payload);
        let did = w.receive(BOARD, World::link(BOARD, 1), packet);
        w.in_flight.clear();
        did.contains(&(BOARD, Outcome::Absorbed))
    };
    for n in 0..share as u8 {
        assert!(referred(&mut w, 10 + n), "{n}");
    }
    assert!(!referred(&mut w, 30));
    assert_eq!(w.nodes[BOARD].accounts().count(), share, "a place in each");
    for _ in 0..LIFETIME_S / 20 {
        assert!(!referred(&mut w, 30));
        w.later(20 * SECOND);
    }
    assert!(referred(&mut w, 30));
}

/// Puts another ticket into an Invoice of the cashier, which signs it.
fn with_ticket(packet: &mut [u8], change: fn(&mut crate::wire::account::Ticket)) {
    let secp = Secp256k1::new();
    let me = Identity::new(&secp, &World::key(CASHIER));
    let (header, body) = Header::parse(packet).unwrap();
    let datagram = Datagram::parse(header, body).unwrap();
    let Ok(Message::Invoice(invoice)) = Message::parse(datagram.payload) else { panic!() };
    let mut ticket = invoice.ticket;
    change(&mut ticket);
    let unsigned = crate::wire::account::Invoice { ticket, signature: &[0; 64], ..invoice };
    let signature = me.sign(&secp, &unsigned.sighash(&datagram.destination));
    let signed =
        Message::Invoice(crate::wire::account::Invoice { signature: &signature, ..unsigned });
    let payload = signed.bytes::<1_200>().unwrap();
    let at = packet.len() - payload.len();
    packet[at..].copy_from_slice(&payload);
    set_check(packet);
}

#[test]
fn a_cashier_cannot_sell_another_ticket_than_the_boards() {
    let changes: [fn(&mut crate::wire::account::Ticket); 4] = [
        |_| {},
        |ticket| ticket.run += 1,
        |ticket| ticket.issued += 1,
        |ticket| ticket.open_number += 1,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut w = usual();
        buy(&mut w);
        let did = long(&mut w, 7, &mut |packet| {
            let hops = packet.get(88).map_or(0, |hops| usize::from(*hops));
            if message(packet) == Some(2) && usize::from(packet[7]) == hops {
                with_ticket(packet, change);
            }
        });
        assert_eq!(to_pay(&did).is_some(), n == 0, "change {n}");
    }
}
