//! The contract, on a few nodes wired to one another.

use super::test_world::{Outcome, Own};
use super::*;
use crate::id::Standing;
use crate::payment::ledger::Record;
use crate::tables::Boxed;
use std::vec;
use std::vec::Vec;

type World = super::test_world::World<Boxed>;

fn world(mode: crate::config::MeshMode, count: u8) -> World {
    let mut config = Config::board(crate::id::Network::Regtest, 8192);
    config.mode = mode;
    World::new(count, |_| config.clone())
}

fn send(w: &mut World, n: usize, to: NodeId, payload: &[u8]) -> Vec<(usize, Outcome)> {
    w.send(n, Own { to, payload: payload.to_vec(), proof: Vec::new(), unchecked: false })
}

fn line(mode: crate::config::MeshMode, count: u8) -> World {
    let mut w = world(mode, count);
    for n in 1..usize::from(count) {
        w.wire(n - 1, n);
    }
    w
}

#[test]
fn a_datagram_finds_its_way_and_arrives() {
    let mut w = line(crate::config::MeshMode::Open, 5);
    let (a, d) = (w.id(0), w.id(4));
    let did = send(&mut w, 0, d, b"hello");
    assert!(matches!(did[..], [(0, Outcome::Parked(_))]), "{did:?}");
    let did = w.run();
    assert_eq!(did, [], "the first ring is too narrow");
    let did = w.later(200_000);
    let found = Outcome::Publish(Event::RouteDiscovered { destination: d, hops: 3 });
    let arrived = Outcome::Deliver(a, b"hello".to_vec(), 0);
    assert_eq!(did, [(0, found), (0, Outcome::Resume(Ticket(1))), (4, arrived)]);
    // The way is known now.
    send(&mut w, 0, d, b"again");
    assert_eq!(w.run(), [(4, Outcome::Deliver(a, b"again".to_vec(), 0))]);
    let stats = w.nodes[1].stats();
    assert_eq!(stats.relayed_free, 2);
    #[cfg(feature = "alloc")]
    {
        let mut by_class = [Carried::default(); 6];
        by_class[Class::Other as usize] = Carried { packets: 2, bytes: stats.relayed_bytes };
        assert_eq!(stats.relayed, by_class, "in mode open nothing is classified");
    }
}

#[test]
fn a_search_for_nobody_fails_once_and_the_packet_comes_back() {
    let mut w = line(crate::config::MeshMode::Open, 3);
    let nobody = NodeId([9; 32]);
    send(&mut w, 0, nobody, b"x");
    w.run();
    let mut did = Vec::new();
    for _ in 0..60 {
        did.extend(w.later(100_000));
    }
    let no_route = Outcome::Drop(Ticket(1), RoutingReason::NoRoute.into());
    let failed = Outcome::Publish(Event::RouteFailed { destination: nobody });
    assert_eq!(did, [(0, failed), (0, no_route)]);
    assert_eq!(w.nodes[0].parked(), 0);
}

#[test]
fn a_broken_link_is_reported_and_another_way_found() {
    let mut w = world(crate::config::MeshMode::Open, 4);
    for (a, b) in [(0, 1), (1, 2), (0, 3), (3, 2)] {
        w.wire(a, b);
    }
    let (a, c) = (w.id(0), w.id(2));
    send(&mut w, 0, c, b"one");
    assert!(w.run().contains(&(2, Outcome::Deliver(a, b"one".to_vec(), 0))));
    let first = w.nodes[0].table().find_route(&c, w.now).unwrap().path()[0];
    let via = if first == w.id(1).hop() { 1 } else { 3 };
    w.cut(via, 2);
    send(&mut w, 0, c, b"two");
    let did = w.run();
    assert!(
        did.iter().any(|(n, d)| *n == 0
            && matches!(
                d,
                Outcome::Publish(Event::DeliveryFailed {
                    cause: crate::wire::route_error::Cause::NextHopGone,
                    ..
                })
            )),
        "{did:?}"
    );
    send(&mut w, 0, c, b"three");
    assert!(w.run().contains(&(2, Outcome::Deliver(a, b"three".to_vec(), 0))));
}

#[test]
fn what_is_not_bitcoin_needs_a_payment() {
    let mut w = line(crate::config::MeshMode::PaymentGated, 3);
    let c = w.id(2);
    send(&mut w, 0, c, b"data");
    let did = w.run();
    assert!(did.contains(&(0, Outcome::Reject(PaymentReason::Required.into()))), "{did:?}");
    let payload = b"data".to_vec();
    w.send(0, Own { to: c, payload, proof: Vec::new(), unchecked: true });
    let did = w.run();
    assert!(did.contains(&(1, Outcome::Reject(PaymentReason::Required.into()))), "{did:?}");
    assert!(
        did.iter().any(|(n, d)| *n == 0
            && matches!(
                d,
                Outcome::Publish(Event::DeliveryFailed {
                    cause: crate::wire::route_error::Cause::PaymentRequired,
                    ..
                })
            )),
        "{did:?}"
    );
}

#[test]
fn the_caller_is_held_to_the_contract() {
    let mut w = line(crate::config::MeshMode::Open, 2);
    let m = &mut w.nodes[0];
    m.handle(w.now, Input::Timer).unwrap();
    assert_eq!(m.handle(w.now, Input::Timer), Err(Misuse::NotDrained));
    while !matches!(m.poll(), Action::Wait { .. }) {}
    assert_eq!(m.handle(0, Input::Timer), Err(Misuse::TimeWentBack));
    let link = LinkId(1);
    let peer = NodeId([1; 32]);
    assert_eq!(
        m.handle(
            w.now,
            Input::PeerConnected {
                link,
                peer,
                dialed: true,
                standing: Standing::Own,
                capabilities: None
            }
        ),
        Err(Misuse::LinkInUse(link))
    );
    let mut bytes = vec![0; 10];
    assert_eq!(
        m.handle(w.now, Input::Resumed { ticket: Ticket(5), packet: &mut bytes }),
        Err(Misuse::UnknownTicket(Ticket(5)))
    );
    assert_eq!(
        m.handle(w.now, Input::Persisted { record: Record::Floor(1) }),
        Err(Misuse::TooLateToRestore)
    );
}

#[test]
fn what_was_asked_too_early_is_found_soon_after() {
    let mut w = world(crate::config::MeshMode::Open, 3);
    w.wire(0, 1);
    let destination = w.id(2);
    let begun = w.give(0, Input::FindRoute { destination });
    assert!(begun.iter().all(|(_, did)| !matches!(did, Outcome::Publish(_))), "{begun:?}");
    w.wire(1, 2);
    // Nodes that start together are to reach each other within 200 ms.
    let did = w.later(180 * crate::time::MILLISECOND);
    let found = Outcome::Publish(Event::RouteDiscovered { destination, hops: 1 });
    assert!(did.contains(&(0, found)), "{did:?}");
}

/// Lets time pass in steps in which no neighbour is missed.
fn pass(w: &mut World, seconds: u64) {
    for _ in 0..5 * seconds {
        w.later(200 * crate::time::MILLISECOND);
    }
}

#[test]
fn the_clock_comes_from_the_neighbour_that_was_named_and_from_nobody_else() {
    let clocks = |w: &World| [0, 1, 2, 3, 4].map(|n| w.nodes[n].unix());
    let second = NodeId::from_public_key(&World::key(1).public_key(&Secp256k1::new()));
    // All but the first are to believe the second.
    let mut w = World::new(5, |n| {
        let mut config = Config::board(crate::id::Network::Regtest, 8192);
        config.clock_source = (n > 0).then_some(second);
        config
    });
    for (a, b) in [(1, 0), (1, 2), (1, 3), (4, 3)] {
        w.wire(a, b);
    }
    w.give(3, Input::WallClock { unix: 5 });
    pass(&mut w, 1);
    assert_eq!(clocks(&w), [None, None, None, Some(6), None]);
    // With its next hello. Who has a clock of his own keeps it, and who was not told whom
    // to believe, or believes somebody that is not there, has none.
    let unix = 1_750_000_000;
    w.give(1, Input::WallClock { unix });
    pass(&mut w, 2);
    let [first, own, told, other, last] = clocks(&w);
    assert_eq!((first, own, other, last), (None, Some(unix + 2), Some(8), None));
    assert!(told.is_some_and(|told| (unix + 1..=unix + 2).contains(&told)), "{told:?}");
}

#[test]
fn a_neighbour_learns_what_the_link_has_measured() {
    let mut w = line(crate::config::MeshMode::Open, 2);
    let link = World::link(0, 1);
    let quality = |w: &World| {
        let table = w.nodes[1].table();
        table.neighbours.get(World::link(1, 0)).map(|n| n.quality)
    };
    pass(&mut w, 1);
    assert_eq!(quality(&w), Some(256));
    w.give(0, Input::LinkMeasured { link, quality: 700 });
    pass(&mut w, 1);
    assert_eq!(quality(&w), Some(700));
    // Nothing is better than perfect.
    w.give(0, Input::LinkMeasured { link, quality: 0 });
    pass(&mut w, 1);
    assert_eq!(quality(&w), Some(256));
}

#[test]
fn a_free_datagram_takes_the_cheapest_way_that_is_wide_enough() {
    // 0 - 1 - 3 costs nothing and is narrow; 0 - 2 - 3 has a price.
    let mut w = World::new(4, |n| {
        let most = if n == 1 { 2048 } else { 65_536 };
        let mut config = Config::board(crate::id::Network::Regtest, most);
        config.mode = crate::config::MeshMode::Open;
        config.payment.tariff.base_msat = if n == 2 { 1000 } else { 0 };
        config
    });
    [(0, 1), (1, 3), (0, 2), (2, 3)].into_iter().for_each(|(a, b)| drop(w.wire(a, b)));
    let to = w.id(3);
    w.give(0, Input::FindRoute { destination: to });
    w.run();
    (0..70).for_each(|_| drop(w.later(100_000)));
    let widths: Vec<u32> = w.nodes[0].table().routes_to(&to, w.now).map(|r| r.min_packet).collect();
    assert_eq!(widths, [2048, 65_536]);
    for (len, by) in [(1900, 1), (2048, 2), (60_000, 2), (10, 1)] {
        send(&mut w, 0, to, &vec![7; len]);
        let relay = w.in_flight.back().map(|(n, _, _)| *n);
        assert_eq!(relay, Some(by), "{len} bytes");
        let arrived = w.run();
        assert!(matches!(arrived.last(), Some((3, Outcome::Deliver(..)))), "{arrived:?}");
    }
    let did = send(&mut w, 0, to, &vec![7; 70_000]);
    assert!(matches!(did.last(), Some((0, Outcome::Reject(MeshError::RoutingError(_))))));
}
