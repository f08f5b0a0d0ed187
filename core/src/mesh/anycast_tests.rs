//! Groups: who answers, who is believed, and what is learnt.

use super::test_world::Outcome;
use super::*;
use crate::id::Network;
use crate::tables::Heap;
use crate::time::SECOND;
use crate::wire::route_reply::{self, RouteReply};
use std::vec::Vec;

type World = super::test_world::World<Heap>;

const GROUP: NodeId = NodeId([0x77; 32]);

/// 0 - 1 - 2 - 3, and 4 beside 1; these belong to the group.
fn world(members: &[usize]) -> World {
    let mut w = World::new(5, |n| {
        let mut config = Config::host(Network::Regtest);
        config.timing.keepalive = 0;
        config.group = members.contains(&n).then_some(GROUP);
        config
    });
    [(0, 1), (1, 2), (2, 3), (1, 4)].into_iter().for_each(|(a, b)| drop(w.wire(a, b)));
    w
}

fn find(w: &mut World, from: usize) -> Vec<Event> {
    let mut did = w.give(from, Input::FindMembers { group: GROUP });
    did.extend(w.run());
    (0..70).for_each(|_| did.extend(w.later(SECOND / 10)));
    did.into_iter()
        .filter_map(|(n, did)| match did {
            Outcome::Publish(event) if n == from => Some(event),
            _ => None,
        })
        .collect()
}

fn found(w: &World, member: usize, hops: u8) -> Event {
    Event::MemberFound { group: GROUP, member: w.id(member), hops }
}

#[test]
fn members_answer_in_their_own_names_and_routes_to_them_are_known() {
    let mut w = world(&[3, 4]);
    assert_eq!(find(&mut w, 0), [found(&w, 4, 1)], "the nearest ring has one");
    assert!(w.nodes[0].table().find_route(&w.id(4), w.now).is_some());
    let mut w = world(&[3]);
    assert_eq!(find(&mut w, 0), [found(&w, 3, 2)]);
    let mut w = world(&[1, 2, 3]);
    let both = find(&mut w, 4);
    assert_eq!(both, [found(&w, 1, 0)], "who belongs to it does not pass the search on");
    assert_eq!(w.nodes[0].searches(), 0);
}

#[test]
fn a_member_that_is_looked_for_itself_is_found_in_both_ways() {
    let mut w = world(&[2]);
    w.give(0, Input::FindRoute { destination: w.id(2) });
    w.give(0, Input::FindMembers { group: GROUP });
    let mut did = w.run();
    (0..70).for_each(|_| did.extend(w.later(SECOND / 10)));
    assert!(did.contains(&(0, Outcome::Publish(found(&w, 2, 1)))), "{did:?}");
    assert!(!did.iter().any(|(_, did)| matches!(did, Outcome::Reject(_))), "{did:?}");
}

#[test]
fn where_nobody_belongs_to_a_group_the_search_ends() {
    let mut w = world(&[]);
    assert_eq!(find(&mut w, 0), [Event::RouteFailed { destination: GROUP }]);
    // A member does not find itself.
    let mut w = world(&[0]);
    assert_eq!(find(&mut w, 0), [Event::RouteFailed { destination: GROUP }]);
}

#[test]
fn a_reply_counts_only_for_the_search_whose_number_it_has() {
    let mut w = world(&[3]);
    w.give(0, Input::FindMembers { group: GROUP });
    let number = |packet: &[u8]| u64::from_le_bytes(packet[8..16].try_into().unwrap());
    let asked = w.in_flight.iter().map(|(.., packet)| number(packet)).next().unwrap();
    let liar = Identity::new(&Secp256k1::new(), &World::key(1));
    let mut reply = RouteReply {
        hop_limit: 0,
        sequence: asked ^ 1,
        source: w.id(0).hop(),
        min_packet: 1000,
        quality: 256,
        tariff: crate::tariff::Tariff { base_msat: 0, per_kib_msat: 0 },
        accepted: None,
        public_key: *liar.public_key(),
        signature: [0; 64],
        hops: crate::wire::route_request::Hops::new(),
    };
    let give = |w: &mut World, reply: &mut RouteReply| {
        reply.signature = liar.sign(&Secp256k1::new(), &reply.sighash());
        let mut packet = std::vec![0; route_reply::MAX_LEN];
        let len = reply.write(&mut packet).unwrap();
        packet.truncate(len);
        w.in_flight.clear();
        w.in_flight.push_back((0, World::link(0, 1), packet));
        w.run()
    };
    let refused = |did: &[(usize, Outcome)]| matches!(did, [(0, Outcome::Reject(reason))] if *reason == RoutingReason::Unsolicited.into());
    let did = give(&mut w, &mut reply);
    assert!(refused(&did), "{did:?}");
    // With the number any neighbour can say that it belongs to the group.
    reply.sequence = asked;
    let did = give(&mut w, &mut reply);
    assert!(did.contains(&(0, Outcome::Publish(found(&w, 1, 0)))), "{did:?}");
    // A search for a node is answered by that node only, with the right number too.
    let mut w = world(&[]);
    w.give(0, Input::FindRoute { destination: w.id(3) });
    reply.sequence = w.in_flight.iter().map(|(.., packet)| number(packet)).next().unwrap();
    let did = give(&mut w, &mut reply);
    assert!(refused(&did), "{did:?}");
}
