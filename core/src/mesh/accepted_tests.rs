//! Which payments a route accepts: what searches collect, and who is believed.

use super::test_world::{Outcome, Own};
use super::*;
use crate::config::MeshMode::{self, BitcoinOnly, Open, PaymentGated};
use crate::id::Network;
use crate::tables::{Boxed, Heap};
use crate::time::SECOND;
use crate::wire::accepted::{Accepted, FOR_ACCOUNTS, issuer_id};
use crate::wire::route_error::{Cause, RouteError};
use crate::wire::route_reply::{self, RouteReply};
use crate::wire::route_request::RouteRequest;
use crate::wire::{Header, Kind};
use std::vec::Vec;

type World = super::test_world::World<Heap>;

/// A node's mode, its issuers, and the confirmations that its covenants need; 0: it takes none.
type Kept = (MeshMode, &'static [u8], u32);

fn issuer(n: u8) -> secp256k1::PublicKey {
    SecretKey::from_byte_array([0x40 + n; 32]).unwrap().public_key(&Secp256k1::new())
}

fn keep(config: &mut Config, (mode, issuers, confirmations): Kept) {
    config.mode = mode;
    config.timing.keepalive = 0;
    config.payment.issuers = issuers.iter().map(|n| issuer(*n)).collect();
    config.payment.covenants_active = confirmations > 0;
    config.payment.min_confirmations = confirmations;
    config.payment.payout_script = [0x51].into_iter().collect();
}

/// Nodes in a line, the first with nothing of its own.
fn line(behind: &[Kept]) -> World {
    let mut w = World::new(1 + behind.len() as u8, |n| {
        let mut config = Config::host(Network::Regtest);
        keep(&mut config, if n == 0 { (PaymentGated, &[], 0) } else { behind[n - 1] });
        config
    });
    (1..w.nodes.len()).for_each(|n| drop(w.wire(n - 1, n)));
    w
}

fn of(min_confirmations: u8, issuers: &[u8]) -> Accepted {
    let issuers = issuers.iter().map(|n| issuer_id(&issuer(*n))).collect();
    Accepted { min_confirmations, issuers: Some(issuers) }
}

/// Searches from the first node to the last, and lets the search end.
fn find(w: &mut World) -> Vec<(usize, Outcome)> {
    let destination = w.id(w.nodes.len() - 1);
    w.give(0, Input::FindAccepted { destination });
    let mut did = w.run();
    (0..70).for_each(|_| did.extend(w.later(SECOND / 10)));
    did.retain(|(_, did)| matches!(did, Outcome::Publish(_)));
    did
}

/// As a node says it that takes payments for accounts.
fn also_for_accounts(mut accepted: Accepted) -> Accepted {
    if cfg!(feature = "alloc") {
        accepted.issuers.iter_mut().for_each(|ids| ids.push(FOR_ACCOUNTS).unwrap());
    }
    accepted
}

/// All but that payments for accounts are taken: see the first test.
fn told(w: &World) -> Option<Accepted> {
    let mut told = w.nodes[0].accepted(&w.id(w.nodes.len() - 1)).cloned()?;
    told.take_for_accounts();
    Some(told)
}

#[test]
fn a_search_tells_what_every_node_on_the_route_accepts() {
    let cases: [(&[Kept], Accepted); 8] = [
        (
            &[(PaymentGated, &[1, 2], 1), (PaymentGated, &[3, 2, 1], 6), (PaymentGated, &[2], 2)],
            of(6, &[2]),
        ),
        (&[(PaymentGated, &[1, 2], 1), (PaymentGated, &[3], 3)], of(3, &[])),
        (
            &[(PaymentGated, &[1, 2], 1), (Open, &[9], 0), (PaymentGated, &[2, 1], 3)],
            of(3, &[1, 2]),
        ),
        (
            &[(PaymentGated, &[1], 1), (BitcoinOnly, &[1], 1), (PaymentGated, &[1], 1)],
            Accepted::NOTHING,
        ),
        (&[(Open, &[], 0), (Open, &[], 0)], Accepted::ANY),
        (&[(PaymentGated, &[1], 1), (PaymentGated, &[1], 0)], of(0, &[1])),
        (&[(PaymentGated, &[1], 1), (PaymentGated, &[1], 70_000)], of(255, &[1])),
        // A neighbour's hello does not tell all of it.
        (&[(PaymentGated, &[4, 1], 9)], of(9, &[4, 1])),
    ];
    for (nodes, expected) in cases {
        let mut w = line(nodes);
        let (destination, hops) = (w.id(nodes.len()), nodes.len() as u8 - 1);
        let found = Event::RouteDiscovered { destination, hops };
        assert_eq!(find(&mut w), [(0, Outcome::Publish(found))], "{nodes:?}");
        let for_accounts = w.nodes[0].accepted(&destination).unwrap().for_accounts();
        let refuses = nodes.iter().any(|(mode, ..)| *mode == BitcoinOnly);
        assert_eq!(for_accounts, cfg!(feature = "alloc") && !refuses, "{nodes:?}");
        assert_eq!(told(&w), Some(expected), "{nodes:?}");
    }
}

const GATED: Kept = (PaymentGated, &[1], 1);

#[test]
fn a_search_for_a_route_alone_tells_and_costs_what_it_did() {
    let mut w = line(&[GATED, GATED]);
    let destination = w.id(2);
    w.give(0, Input::FindRoute { destination });
    let mut flags = Vec::new();
    while let Some((n, link, bytes)) = w.in_flight.pop_front() {
        flags.push(bytes[6]);
        w.receive(n, link, bytes);
    }
    assert_eq!(flags, [3, 3, 0, 0], "there and back");
    assert!(w.nodes[0].quote(&destination, 1).is_some());
    assert_eq!(told(&w), None);
    // What is asked later tells it, and a search under way for less begins anew.
    assert_eq!(find(&mut w).len(), 1);
    assert_eq!(told(&w), Some(of(1, &[1])));
    let mut w = line(&[GATED, GATED]);
    w.give(0, Input::FindRoute { destination });
    w.in_flight.clear();
    w.give(0, Input::FindAccepted { destination });
    assert_eq!(w.in_flight.len(), 1);
    // One that asks for more serves whoever asks for less.
    w.give(0, Input::FindRoute { destination });
    assert_eq!(w.in_flight.len(), 1);
    assert_eq!(find(&mut w).len(), 1, "one search, one end");
    assert_eq!(told(&w), Some(of(1, &[1])));
}

#[test]
fn of_a_neighbour_nobody_else_is_asked() {
    let mut w = World::new(3, |_| {
        let mut config = Config::host(Network::Regtest);
        keep(&mut config, GATED);
        config
    });
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        w.wire(a, b);
    }
    let to = w.id(2);
    w.give(0, Input::FindAccepted { destination: to });
    let asked: Vec<usize> = w.in_flight.iter().map(|(n, ..)| *n).collect();
    assert_eq!(asked, [2]);
    w.in_flight.clear();
    // It says nothing: the search ends, the neighbour stays, and nobody else is asked.
    let did = w.later(SECOND);
    assert_eq!(did, [(0, Outcome::Publish(Event::RouteFailed { destination: to }))]);
    assert_eq!((told(&w), w.nodes[0].searches()), (None, 0));
    assert_eq!(find(&mut w).len(), 1);
    assert_eq!(told(&w), Some(of(1, &[1])));
}

#[test]
fn what_was_told_is_of_one_route_and_one_time() {
    // Two ways from 0 to 3: by 1 and by 2.
    let mut w = World::new(4, |n| {
        let mut config = Config::host(Network::Regtest);
        keep(
            &mut config,
            [
                GATED,
                (PaymentGated, &[1], 1),
                (PaymentGated, &[1, 2], 4),
                (PaymentGated, &[1, 2], 1),
            ][n],
        );
        if n == 1 {
            config.payment.tariff.base_msat = 10;
        }
        config
    });
    for (a, b) in [(0, 1), (1, 3), (0, 2), (2, 3)] {
        w.wire(a, b);
    }
    find(&mut w);
    let first = told(&w);
    assert_eq!(first, Some(of(1, &[1])), "the cheaper one");
    // The other route is found without asking.
    let destination = w.id(3);
    w.cut(0, 1);
    w.give(0, Input::FindRoute { destination });
    w.run();
    assert!(w.nodes[0].quote(&destination, 1).is_some());
    assert_eq!(told(&w), None, "that was of another route");
    w.later(SECOND);
    find(&mut w);
    assert_eq!(told(&w), Some(of(4, &[1, 2])));
    // The newest answer counts, and none for longer than a route.
    w.nodes[2].config.payment.issuers.pop();
    find(&mut w);
    assert_eq!(told(&w), Some(of(4, &[1])));
    w.now += w.nodes[0].config.timing.route_lifetime;
    w.give(0, Input::FindRoute { destination });
    w.run();
    assert!(w.nodes[0].quote(&destination, 1).is_some());
    assert_eq!(told(&w), None);
}

#[test]
fn what_a_refusal_proves_wrong_is_forgotten() {
    use super::lightning_tests::{NOW, PAYLOAD};
    for (cause, stays) in
        [(Cause::IssuerUnknown, false), (Cause::CovenantInactive, false), (Cause::Expired, true)]
    {
        let mut w = line(&[GATED, GATED]);
        w.give(0, Input::WallClock { unix: NOW });
        find(&mut w);
        let to = w.id(2);
        w.send(0, Own { to, payload: PAYLOAD.to_vec(), proof: Vec::new(), unchecked: true });
        let (_, _, packet) = w.in_flight.pop_front().unwrap();
        let (header, _) = Header::parse(&packet).unwrap();
        let error = RouteError {
            hop_limit: 0,
            sequence: header.sequence,
            source: w.id(0),
            destination: to,
            reporter: w.id(1),
            next: to.hop(),
            cause,
            hops: [w.id(1).hop()].into_iter().collect(),
        };
        let mut out = std::vec![0; 600];
        let n = error.write(&mut out).unwrap();
        out.truncate(n);
        assert!(told(&w).is_some());
        w.receive(0, World::link(0, 1), out);
        assert_eq!(told(&w).is_some(), stays, "{cause:?}");
        assert!(w.nodes[0].quote(&to, 1).is_some(), "the route stays");
    }
}

/// The reply that is on its way back to a node of the line, and that node again.
fn reply_to(w: &mut World, back_at: usize) -> RouteReply {
    let destination = w.id(w.nodes.len() - 1);
    w.give(0, Input::FindAccepted { destination });
    for _ in 0..3 {
        while let Some((n, link, bytes)) = w.in_flight.pop_front() {
            let (header, body) = Header::parse(&bytes).unwrap();
            if header.kind == Kind::RouteReply && n == back_at {
                return RouteReply::parse(header, body).unwrap();
            }
            w.receive(n, link, bytes);
        }
        w.later(0);
    }
    panic!("no reply");
}

#[test]
fn who_answers_more_than_a_relay_accepts_is_not_passed_on() {
    let relay = (PaymentGated, &[1u8, 2][..], 3);
    let own = of(3, &[1, 2]);
    let more = [
        of(3, &[1, 2, 3]),
        of(2, &[1]),
        Accepted { min_confirmations: 3, issuers: None },
        Accepted::ANY,
    ];
    let less = [own.clone(), of(9, &[2]), of(0, &[]), Accepted::NOTHING];
    for (told, passes) in more.map(|a| (a, false)).into_iter().chain(less.map(|a| (a, true))) {
        let mut w = line(&[relay, GATED]);
        let mut reply = reply_to(&mut w, 1);
        assert_eq!(reply.accepted, Some(also_for_accounts(of(3, &[1]))));
        // The destination misreports.
        reply.accepted = Some(told.clone());
        let me = Identity::new(&w.nodes[2].secp, &World::key(2));
        reply.signature = me.sign(&w.nodes[2].secp, &reply.sighash());
        let mut out = std::vec![0; route_reply::MAX_LEN];
        let n = reply.write(&mut out).unwrap();
        out.truncate(n);
        w.in_flight.clear();
        let did = w.receive(1, World::link(1, 2), out);
        let refused = did == [(1, Outcome::Reject(RoutingReason::Unsolicited.into()))];
        assert_eq!((refused, w.in_flight.len()), (!passes, usize::from(passes)), "{told:?}");
    }
    // One that checks nothing has nothing to say about it.
    let mut w = line(&[(Open, &[], 0), GATED]);
    assert_eq!(reply_to(&mut w, 1).accepted, Some(also_for_accounts(of(1, &[1]))));
}

#[test]
fn nobody_changes_what_the_destination_signed() {
    let mut w = line(&[GATED, GATED]);
    let mut reply = reply_to(&mut w, 0);
    for accepted in [Some(Accepted::ANY), Some(of(1, &[1, 2])), None] {
        reply.accepted = accepted;
        let mut out = std::vec![0; route_reply::MAX_LEN];
        let n = reply.write(&mut out).unwrap();
        out.truncate(n);
        let did = w.receive(0, World::link(0, 1), out);
        assert_eq!(did, [(0, Outcome::Reject(RoutingReason::ReplySignature.into()))]);
        assert_eq!(told(&w), None);
    }
}

#[test]
fn a_host_keeps_so_many_and_a_board_none_but_answers() {
    let count = 6u8;
    let mut w = World::new(count, |_| {
        let mut config = Config::host(Network::Regtest);
        keep(&mut config, GATED);
        config.capacities.accepted = 3;
        config
    });
    (1..usize::from(count)).for_each(|n| drop(w.wire(0, n)));
    for n in 1..usize::from(count) {
        w.give(0, Input::FindAccepted { destination: w.nodes[n].id() });
        w.run();
    }
    let known = (1..usize::from(count)).filter(|n| w.nodes[0].accepted(&w.id(*n)).is_some());
    assert_eq!(known.collect::<Vec<_>>(), [3, 4, 5], "the oldest go");

    let mut w = super::test_world::World::<Boxed>::new(3, |_| {
        let mut config = Config::board(Network::Regtest, 8192);
        keep(&mut config, GATED);
        config
    });
    (1..3).for_each(|n| drop(w.wire(n - 1, n)));
    let destination = w.id(2);
    w.give(0, Input::FindAccepted { destination });
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    while let Some((n, link, bytes)) = w.in_flight.pop_front() {
        let (header, body) = Header::parse(&bytes).unwrap();
        match header.kind {
            Kind::RouteRequest => asked.extend(RouteRequest::parse(header, body).unwrap().accepted),
            _ => answered.extend(RouteReply::parse(header, body).unwrap().accepted),
        }
        w.receive(n, link, bytes);
    }
    let told = also_for_accounts(of(1, &[1]));
    assert_eq!(asked, [Accepted::ANY, told.clone()]);
    assert_eq!(answered, [told.clone(), told]);
    assert!(w.nodes[0].quote(&destination, 1).is_some());
    assert_eq!(w.nodes[0].accepted(&destination), None);
}
