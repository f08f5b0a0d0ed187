//! Who answers when, who is given up, and what route hints may do.

use super::test_world::{Outcome, Own};
use super::*;
use crate::config::MeshMode;
use crate::id::HopId;
use crate::id::Standing;
use crate::tables::Boxed;
use crate::time::{MILLISECOND, SECOND};
use crate::wire::route_request::{HINTS, Hop, ROUTES, RouteRequest};
use crate::wire::{HEADER_LEN, Header, Kind};
use std::vec::Vec;

type World = super::test_world::World<Boxed>;

const KEEPALIVE: Micros = 250 * MILLISECOND;

fn line(count: u8) -> World {
    let mut config = Config::board(crate::id::Network::Regtest, 65536);
    config.mode = MeshMode::Open;
    config.timing.keepalive = KEEPALIVE;
    let mut w = World::new(count, |_| config.clone());
    for n in 1..usize::from(count) {
        w.wire(n - 1, n);
    }
    w
}

fn send(w: &mut World, to: NodeId, bytes: usize) -> Vec<(usize, Outcome)> {
    let payload = std::vec![7; bytes];
    w.send(0, Own { to, payload, proof: Vec::new(), unchecked: false })
}

/// Passes time in one step at each node; what they send then, by kind.
fn sent_at(w: &mut World, at: Micros) -> Vec<(usize, Kind, usize)> {
    w.now = at;
    for n in 0..w.nodes.len() {
        w.give(n, Input::Timer);
    }
    let sent = w
        .in_flight
        .iter()
        .map(|(to, _, packet)| (*to, Header::parse(packet).unwrap().0.kind, packet.len()));
    let sent = sent.collect();
    w.run();
    sent
}

/// What a link can do goes into its hellos, and this node keeps to it.
#[test]
fn a_slow_link_is_told_of_and_answered_in_its_own_time() {
    let mut config = Config::board(crate::id::Network::Regtest, 65536);
    config.mode = MeshMode::Open;
    config.timing.keepalive = KEEPALIVE;
    let mut w = World::new(2, |_| config.clone());
    let (la, lb) = (World::link(0, 1), World::link(1, 0));
    w.join((0, la), (1, lb));
    let slow = LinkCapabilities { max_packet: 1000, keepalive: 4 * SECOND, medium: 0 };
    for (n, link, capabilities) in [(0, la, Some(slow)), (1, lb, None)] {
        let (peer, standing) = (w.id(1 - n), Standing::Own);
        w.give(n, Input::PeerConnected { link, peer, dialed: n == 0, standing, capabilities });
    }
    w.run();
    let told = w.nodes[1].table().neighbours.get(lb).unwrap();
    assert_eq!((told.max_packet, told.liveness.theirs()), (1000, 4 * SECOND));
    let told = w.nodes[0].table().neighbours.get(la).unwrap();
    assert_eq!((told.max_packet, told.liveness.theirs()), (65536, KEEPALIVE));
    // The hellos are long ago.
    sent_at(&mut w, 10 * SECOND);
    let (to, payload, begin) = (w.id(0), std::vec![7; 10], w.now);
    w.send(1, Own { to, payload, proof: Vec::new(), unchecked: false });
    w.run();
    assert_eq!(sent_at(&mut w, begin + 3 * SECOND), []);
    let answer = (1, Kind::KeepAlive, HEADER_LEN);
    assert_eq!(sent_at(&mut w, begin + 5 * SECOND), [answer]);
}

fn is_gone(did: &[(usize, Outcome)]) -> bool {
    did.iter().any(|(_, d)| matches!(d, Outcome::Publish(Event::PeerDisconnected { .. })))
}

#[test]
fn who_gets_a_datagram_answers_in_time_and_an_idle_link_is_silent() {
    let mut w = line(2);
    assert_eq!(sent_at(&mut w, 29 * SECOND), []);
    let to = w.id(1);
    send(&mut w, to, 10);
    let begin = w.now;
    w.run();
    assert_eq!(sent_at(&mut w, begin + KEEPALIVE - 1), []);
    let answer = (0, Kind::KeepAlive, HEADER_LEN);
    assert_eq!(sent_at(&mut w, begin + KEEPALIVE + 1), [answer]);
    // That is enough for what comes in the half of that time.
    send(&mut w, to, 10);
    w.run();
    assert_eq!(sent_at(&mut w, begin + 3 * KEEPALIVE), []);
    // Hellos go on.
    let hellos = sent_at(&mut w, 31 * SECOND);
    assert_eq!(hellos.len(), 2);
    assert!(hellos.iter().all(|(_, kind, _)| *kind == Kind::Hello));
}

#[test]
fn who_does_not_answer_a_datagram_is_given_up_however_large_it_was() {
    for bytes in [10, 20_000, 60_000] {
        let mut w = line(2);
        w.later(SECOND);
        w.lose(0, 1);
        let to = w.id(1);
        let begin = w.now;
        send(&mut w, to, bytes);
        w.now = begin;
        assert!(!is_gone(&w.later(3 * KEEPALIVE - 1)), "{bytes}");
        assert!(is_gone(&w.later(1)), "{bytes}");
        assert!(w.nodes[0].table().neighbours.is_empty());
    }
}

#[test]
fn much_that_is_not_answered_does_not_put_off_the_end() {
    for bytes in [1400, 20_000] {
        let mut w = line(2);
        w.later(SECOND);
        w.lose(0, 1);
        let (to, begin) = (w.id(1), w.now);
        while !w.nodes[0].table().neighbours.is_empty() {
            assert!(w.now < begin + 3 * KEEPALIVE + 20 * MILLISECOND, "{bytes}");
            send(&mut w, to, bytes);
            w.later(2 * MILLISECOND);
        }
    }
}

#[test]
fn much_that_was_answered_does_not_put_off_the_end_either() {
    let mut w = line(2);
    let to = w.id(1);
    for _ in 0..1000 {
        // 10 MB/s, ten seconds' worth at 1 MB/s.
        send(&mut w, to, 10_000);
        w.later(MILLISECOND);
    }
    w.lose(0, 1);
    let begin = w.now;
    while !w.nodes[0].table().neighbours.is_empty() {
        assert!(w.now < begin + 4 * KEEPALIVE + 20 * MILLISECOND);
        send(&mut w, to, 10);
        w.later(2 * MILLISECOND);
    }
}

#[test]
fn who_is_slow_is_not_given_up_and_tells_the_other_end_that_it_gets_something() {
    let mut w = line(2);
    w.later(SECOND);
    w.lose(0, 1);
    let (to, begin) = (w.id(1), w.now);
    send(&mut w, to, 10);
    w.later(2 * KEEPALIVE);
    let link = World::link(0, 1);
    w.give(0, Input::LinkAlive { link, incoming: false });
    assert_eq!(sent_at(&mut w, begin + 5 * KEEPALIVE - 1), [], "nothing is owed");
    assert_eq!(w.nodes[0].table().neighbours.len(), 1);
    assert!(is_gone(&w.later(1)));

    let mut w = line(2);
    w.later(SECOND);
    let (link, begin) = (World::link(1, 0), w.now);
    for part in 0..3 {
        w.now = begin + part * KEEPALIVE / 4;
        w.give(1, Input::LinkAlive { link, incoming: true });
    }
    assert_eq!(sent_at(&mut w, begin + KEEPALIVE - 1), []);
    assert_eq!(sent_at(&mut w, begin + KEEPALIVE), [(0, Kind::KeepAlive, HEADER_LEN)]);
}

#[test]
fn who_has_not_said_hello_gains_nothing_by_sending_bytes() {
    let mut w = World::new(2, |_| Config::board(crate::id::Network::Regtest, 65536));
    let (link, peer) = (World::link(0, 1), w.id(1));
    w.give(
        0,
        Input::PeerConnected {
            link,
            peer,
            dialed: true,
            standing: Standing::Own,
            capabilities: None,
        },
    );
    let begin = w.now;
    for second in 1..11 {
        assert_eq!(w.nodes[0].table().neighbours.len(), 1);
        w.now = begin + second * SECOND;
        w.give(0, Input::LinkAlive { link, incoming: true });
    }
    assert!(w.nodes[0].table().neighbours.is_empty());
    // Nor does who is gone.
    w.give(0, Input::LinkAlive { link, incoming: true });
}

#[test]
fn an_idle_neighbour_is_given_up_after_three_hellos() {
    let mut w = line(2);
    w.lose(1, 0);
    for _ in 0..89 {
        assert!(!is_gone(&w.later(SECOND)));
    }
    assert!(is_gone(&w.later(2 * SECOND)));
}

#[test]
fn who_says_no_hello_is_given_up_the_later_the_slower_links_are() {
    for (round_trip, patience) in [(100 * MILLISECOND, 10 * SECOND), (SECOND, 16 * SECOND)] {
        let mut config = Config::board(crate::id::Network::Regtest, 65536);
        config.timing.hop_round_trip = round_trip;
        let mut w = World::new(2, |_| config.clone());
        let peer = w.id(1);
        w.give(
            0,
            Input::PeerConnected {
                link: World::link(0, 1),
                peer,
                dialed: true,
                standing: Standing::Own,
                capabilities: None,
            },
        );
        let closed = |w: &mut World, at: Micros| {
            w.now = at;
            w.give(0, Input::Timer);
            w.nodes[0].table().neighbours.by_hop(peer.hop()).is_none()
        };
        let begin = w.now;
        assert!(!closed(&mut w, begin + patience - 1), "{round_trip}");
        assert!(closed(&mut w, begin + patience), "{round_trip}");
    }
}

#[test]
fn a_hello_that_was_lost_is_asked_for() {
    let mut w = line(2);
    // The second meets the first before the first knows of it: its hello is lost.
    let (a, b) = (w.id(0), w.id(1));
    w.cut(0, 1);
    let (la, lb) = (LinkId(7), LinkId(8));
    w.give(
        1,
        Input::PeerConnected {
            link: lb,
            peer: a,
            dialed: true,
            standing: Standing::Own,
            capabilities: None,
        },
    );
    w.join((0, la), (1, lb));
    w.give(
        0,
        Input::PeerConnected {
            link: la,
            peer: b,
            dialed: false,
            standing: Standing::Own,
            capabilities: None,
        },
    );
    w.run();
    let live = |w: &World| {
        [(0, b), (1, a)].map(|(n, peer)| w.nodes[n].table().neighbours.live(peer.hop()).is_some())
    };
    assert_eq!(live(&w), [false, true]);
    assert_eq!(w.later(KEEPALIVE - 10), []);
    w.later(10);
    assert_eq!(live(&w), [true, true]);
}

/// A request that node 1 is told to have come from `source` over its neighbour 0.
fn told(w: &World, source: HopId, sequence: u64) -> Vec<u8> {
    let hop = Hop { node: w.id(0).hop(), tariff: Default::default() };
    let request = RouteRequest {
        flags: HINTS | ROUTES,
        hop_limit: 0,
        sequence,
        source,
        destination: HopId([1; 8]),
        min_packet: 8192,
        quality: 256,
        accepted: None,
        hops: [hop].into_iter().collect(),
    };
    let mut out = std::vec![0; 200];
    let n = request.write(&mut out).unwrap();
    out.truncate(n);
    out
}

#[test]
fn a_hint_saves_a_flood_and_a_false_one_only_costs_time() {
    // 0 - 1 - 2 - 3 - 4, and 1 - 5: the adversary, who claims that 4 is behind him.
    let mut w = line(6);
    w.cut(4, 5);
    w.wire(1, 5);
    let to = w.id(4);
    let mut forged = told(&w, to.hop(), 77);
    // The same told by 5, of itself.
    let by = w.id(0).hop();
    let at = forged.windows(8).position(|b| b == by.0).unwrap();
    forged[at..at + 8].copy_from_slice(&w.id(5).hop().0);
    assert!(crate::wire::header::complete(&mut forged));
    w.receive(1, World::link(1, 5), forged);
    assert_eq!(w.nodes[1].route_hints(), 1);
    // The adversary drops whatever comes.
    w.lose(1, 5);
    send(&mut w, to, 10);
    assert_eq!(w.in_flight.len(), 1);
    let arrived = |did: &[(usize, Outcome)]| {
        did.iter().any(|(n, d)| *n == 4 && matches!(d, Outcome::Deliver(..)))
    };
    let mut did = w.run();
    assert!(!arrived(&did), "the false hint was followed");
    for _ in 0..20 {
        did.extend(w.later(100 * MILLISECOND));
    }
    assert!(arrived(&did), "a later ring finds it: {did:?}");

    // Now 1 and 2 know better, and 0 has heard of 3: nothing is flooded to 5.
    let three = w.id(3);
    send(&mut w, three, 10);
    let did = w.run();
    assert!(did.iter().any(|(n, d)| *n == 3 && matches!(d, Outcome::Deliver(..))), "{did:?}");
}
