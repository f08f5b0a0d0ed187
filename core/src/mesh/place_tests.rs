//! Whose places and allowances are whose.

use super::test_world::Outcome;
use super::*;
use crate::id::Network;
use crate::id::Standing;
use crate::tables::Heap;
use crate::time::SECOND;
use crate::wire::hello::{self, Hello, Told};
use std::vec::Vec;

type World = test_world::World<Heap>;

fn node(n: u32) -> NodeId {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&n.to_le_bytes());
    NodeId(id)
}

fn world(change: impl Fn(&mut Config)) -> World {
    World::new(1, |_| {
        let mut config = Config::host(Network::Regtest);
        config.timing.keepalive = 0;
        change(&mut config);
        config
    })
}

fn connect(w: &mut World, link: u32, peer: u32, standing: Standing) -> Option<MeshError> {
    let input = Input::PeerConnected {
        link: LinkId(link),
        peer: node(peer),
        dialed: false,
        standing,
        capabilities: None,
    };
    w.give(0, input).into_iter().find_map(|(_, did)| match did {
        Outcome::Reject(reason) => Some(reason),
        _ => None,
    })
}

fn is_there(w: &World, link: u32) -> bool {
    w.nodes[0].table().neighbours.get(LinkId(link)).is_some()
}

#[test]
fn no_prefix_takes_more_than_its_places() {
    let mut w = world(|_| {});
    let refused: Vec<_> = (1..=1040)
        .filter_map(|n| connect(&mut w, n, n, Standing::Stranger { prefix: 5 }))
        .collect();
    assert_eq!(refused.len(), 1040 - 8);
    assert!(refused.iter().all(|reason| *reason == NetworkReason::TooManyOfPrefix.into()));
    assert_eq!(connect(&mut w, 2000, 2000, Standing::Stranger { prefix: 6 }), None);
    assert_eq!(connect(&mut w, 2001, 2001, Standing::Own), None);
}

#[test]
fn a_stranger_that_becomes_an_own_neighbour_is_treated_as_one_at_once() {
    let mut w = world(|config| config.capacities.neighbours = 2);
    let from = |prefix| Standing::Stranger { prefix };
    assert_eq!(connect(&mut w, 1, 1, from(5)), None);
    assert_eq!(connect(&mut w, 2, 2, from(5)), None);
    let owner = |w: &World, link| {
        let routing = w.nodes[0].table();
        let at = routing.neighbours.get(LinkId(link)).unwrap().owner;
        (at, routing.owners.links(at))
    };
    assert_eq!(owner(&w, 1), owner(&w, 2), "strangers of one prefix share");
    let shared = owner(&w, 1).0;
    for _ in 0..2 {
        w.nodes[0].make_own(LinkId(1));
        w.nodes[0].make_own(LinkId(9));
        assert_eq!((w.nodes[0].resources().own_neighbours, owner(&w, 2)), (1, (shared, 1)));
        let (own, links) = owner(&w, 1);
        assert!(own != shared && links == 1, "it has allowances of its own");
    }
    // Nobody takes its place, and it counts for its prefix no more.
    let full = Some(NetworkReason::TooManyNeighbours.into());
    assert_eq!(connect(&mut w, 3, 3, Standing::Own), None);
    assert!(is_there(&w, 1) && !is_there(&w, 2));
    assert_eq!(connect(&mut w, 4, 4, Standing::Own), full);
    assert_eq!(w.nodes[0].table().neighbours.from_prefix(5), 0);
}

#[test]
fn strangers_from_everywhere_keep_no_own_neighbour_out_and_no_old_one() {
    let mut w = world(|_| {});
    let old = Standing::Stranger { prefix: 0 };
    assert_eq!(connect(&mut w, 1, 1, old), None);
    w.now += SECOND;
    for n in 2..=1040 {
        let refused = connect(&mut w, n, n, Standing::Stranger { prefix: n.into() });
        assert_eq!(refused, None, "a newcomer takes a newcomer's place");
    }
    assert_eq!(w.nodes[0].table().neighbours.len(), 1024);
    assert!((1..1024).all(|n| is_there(&w, n)) && is_there(&w, 1040) && !is_there(&w, 1039));
    for n in 2001..=2010 {
        assert_eq!(connect(&mut w, n, n, Standing::Own), None);
    }
    assert!((1..1014).all(|n| is_there(&w, n)) && (2001..=2010).all(|n| is_there(&w, n)));
    assert_eq!(w.nodes[0].table().neighbours.len(), 1024);
}

#[test]
fn who_has_brought_payments_stays_and_own_neighbours_always() {
    let mut w = world(|c| c.capacities.neighbours = 3);
    assert_eq!(connect(&mut w, 1, 1, Standing::Own), None);
    assert_eq!(connect(&mut w, 2, 2, Standing::Own), None);
    w.now += SECOND;
    assert_eq!(connect(&mut w, 3, 3, Standing::Stranger { prefix: 3 }), None);
    let paid = w.nodes[0].tables.routing.neighbours.get_mut(LinkId(3)).unwrap();
    paid.paid = true;
    let full = Some(NetworkReason::TooManyNeighbours.into());
    assert_eq!(connect(&mut w, 4, 4, Standing::Stranger { prefix: 4 }), full);
    assert_eq!(connect(&mut w, 5, 5, Standing::Own), None);
    assert!(!is_there(&w, 3));
    assert_eq!(connect(&mut w, 6, 6, Standing::Own), full, "no stranger is left");
    assert_eq!(connect(&mut w, 7, 7, Standing::Stranger { prefix: 4 }), full);
}

fn greet(w: &mut World, link: u32) {
    let hello = Hello {
        missing: false,
        network: Network::Regtest,
        mode: crate::mode::MeshMode::Open,
        quality: 256,
        max_packet: 1 << 22,
        tariff: Default::default(),
        keepalive_ms: 0,
        unix: 0,
        free: [Told::ANY; 3],
        issuers: Default::default(),
    };
    let mut bytes = [0; hello::MAX_LEN];
    let n = hello.write(&mut bytes).unwrap();
    w.receive(0, LinkId(link), bytes[..n].to_vec());
}

/// Free bytes of a neighbour that pass in a moment, in packets of so many bytes.
fn passes(w: &mut World, link: u32, peer: u32, payload: usize) -> usize {
    let mut passed = 0;
    let to = w.id(0);
    for _ in 0..100_000 {
        let number = w.nodes[0].stats().delivered + 1;
        let emit = crate::wire::datagram::Emit {
            hop_limit: 0,
            sequence: number,
            source: node(peer),
            destination: to,
            proof: None,
            form: crate::wire::datagram::Form::Plain,
        };
        let payload = std::vec![number as u8; payload];
        let mut bytes = std::vec![0; 200];
        let head = emit.write(&[], &payload, &mut bytes, |_| [0; 64]).unwrap();
        bytes.truncate(head);
        bytes.extend(&payload);
        let size = bytes.len();
        let did = w.receive(0, LinkId(link), bytes);
        match did.iter().any(|(_, d)| matches!(d, Outcome::Deliver(..))) {
            true => passed += size,
            false => return passed,
        }
    }
    passed
}

#[test]
fn coming_again_under_any_name_of_a_prefix_renews_no_allowance() {
    let mut w = world(|c| c.mode = crate::mode::MeshMode::Open);
    let stranger = Standing::Stranger { prefix: 1 };
    let mut sum = 0;
    for n in 1..=20 {
        assert_eq!(connect(&mut w, n, n, stranger), None);
        greet(&mut w, n);
        sum += passes(&mut w, n, n, 900);
        w.give(0, Input::PeerDisconnected { link: LinkId(n) });
        // The same one once more.
        assert_eq!(connect(&mut w, 100 + n, n, stranger), None);
        greet(&mut w, 100 + n);
        sum += passes(&mut w, 100 + n, n, 900);
        w.give(0, Input::PeerDisconnected { link: LinkId(100 + n) });
    }
    assert!((60_000..=65_536).contains(&sum), "{sum}");
    assert_eq!(connect(&mut w, 300, 300, Standing::Stranger { prefix: 2 }), None);
    greet(&mut w, 300);
    assert!(passes(&mut w, 300, 300, 900) > 60_000);
}
