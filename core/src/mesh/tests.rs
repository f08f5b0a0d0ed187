//! The contract, on a few nodes wired to one another.

use super::*;
use crate::config::Capacities;
use crate::tables::Fixed;
use std::collections::{BTreeMap, VecDeque};
use std::vec;
use std::vec::Vec;

/// What a node did, without borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    Deliver(NodeId, Vec<u8>, u64),
    Reject(MeshError),
    Publish(Event),
    Persist(Record),
    Parked,
    Absorbed,
}

struct World {
    nodes: Vec<Mesh<Fixed>>,
    /// (node, link) to (node, link).
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    in_flight: VecDeque<(usize, LinkId, Vec<u8>)>,
    waiting: BTreeMap<(usize, Ticket), (NodeId, Vec<u8>)>,
    now: Micros,
}

impl World {
    fn new(mode: crate::config::MeshMode, count: u8) -> Self {
        let mut config = Config::board(crate::id::Network::Regtest, 8192);
        config.mode = mode;
        config.capacities = Capacities::BOARD;
        let node = |n| {
            let key = SecretKey::from_slice(&[n; 32]).unwrap();
            Mesh::new(config.clone(), key, [n; 32])
        };
        let nodes = (1..=count).map(node).collect();
        Self {
            nodes,
            wires: BTreeMap::new(),
            in_flight: VecDeque::new(),
            waiting: BTreeMap::new(),
            now: 0,
        }
    }

    fn id(&self, n: usize) -> NodeId {
        self.nodes[n].id()
    }

    fn wire(&mut self, a: usize, b: usize) -> Vec<(usize, Did)> {
        let (la, lb) = (LinkId((100 * a + b) as u32), LinkId((100 * b + a) as u32));
        self.wires.insert((a, la), (b, lb));
        self.wires.insert((b, lb), (a, la));
        let (ia, ib) = (self.id(a), self.id(b));
        let mut did = self.give(a, Input::PeerConnected { link: la, peer: ib, dialed: true }, &[]);
        did.extend(self.give(b, Input::PeerConnected { link: lb, peer: ia, dialed: false }, &[]));
        did.extend(self.run());
        did
    }

    fn cut(&mut self, a: usize, b: usize) -> Vec<(usize, Did)> {
        let (la, lb) = (LinkId((100 * a + b) as u32), LinkId((100 * b + a) as u32));
        self.wires.remove(&(a, la));
        self.wires.remove(&(b, lb));
        let mut did = self.give(a, Input::PeerDisconnected { link: la }, &[]);
        did.extend(self.give(b, Input::PeerDisconnected { link: lb }, &[]));
        did
    }

    fn give(&mut self, n: usize, input: Input<'_>, bytes: &[u8]) -> Vec<(usize, Did)> {
        let mut received = Vec::new();
        let (input, sent) = match input {
            Input::MessageReceived { link, .. } => {
                received = bytes.to_vec();
                (Input::MessageReceived { link, packet: &mut received[..] }, None)
            }
            Input::Send { destination, payload, proof, unchecked } => {
                (Input::Send { destination, payload, proof, unchecked }, Some(destination))
            }
            other => (other, None),
        };
        self.nodes[n].handle(self.now, input).unwrap();
        let tail: Vec<u8> = if received.is_empty() { bytes.to_vec() } else { received };
        let (mut did, mut verdicts, mut resumed) = (Vec::new(), 0, Vec::new());
        loop {
            match self.nodes[n].poll() {
                Action::Wait { .. } => break,
                Action::Forward { link, packet, sequence, .. } => {
                    verdicts += usize::from(packet.head.is_empty() || sequence.is_some());
                    let bytes = [packet.head, &tail[packet.tail.clone()]].concat();
                    if let Some((to, link)) = self.wires.get(&(n, link)) {
                        self.in_flight.push_back((*to, *link, bytes));
                    }
                }
                Action::Deliver { source, payload, earned_msat, .. } => {
                    verdicts += 1;
                    did.push((n, Did::Deliver(source, tail[payload].to_vec(), earned_msat)));
                }
                Action::Reject { ticket, reason, .. } => {
                    verdicts += usize::from(ticket.is_none());
                    did.push((n, Did::Reject(reason)));
                }
                Action::Absorbed => {
                    verdicts += 1;
                    did.push((n, Did::Absorbed));
                }
                Action::Parked { ticket, .. } => {
                    verdicts += 1;
                    self.waiting.insert((n, ticket), (sent.unwrap(), tail.clone()));
                    did.push((n, Did::Parked));
                }
                Action::Resume { ticket } => resumed.push(ticket),
                Action::Publish(event) => did.push((n, Did::Publish(event))),
                Action::Persist { record, .. } => did.push((n, Did::Persist(record))),
                Action::Verify { .. } | Action::Close { .. } => {}
            }
        }
        assert_eq!(verdicts, 1, "one verdict: {did:?}");
        for ticket in resumed {
            let (to, payload) = self.waiting.remove(&(n, ticket)).unwrap();
            did.extend(self.send(n, to, &payload));
        }
        did
    }

    fn send(&mut self, n: usize, to: NodeId, payload: &[u8]) -> Vec<(usize, Did)> {
        let input = Input::Send { destination: to, payload, proof: &[], unchecked: false };
        self.give(n, input, payload)
    }

    /// Carries packets until none is in flight; control packets leave no trace.
    fn run(&mut self) -> Vec<(usize, Did)> {
        let mut did = Vec::new();
        while let Some((n, link, bytes)) = self.in_flight.pop_front() {
            self.now += 1;
            did.extend(self.give(n, Input::MessageReceived { link, packet: &mut [] }, &bytes));
        }
        did.retain(|(_, d)| *d != Did::Absorbed);
        did
    }

    fn later(&mut self, by: Micros) -> Vec<(usize, Did)> {
        self.now += by;
        let mut did = Vec::new();
        for n in 0..self.nodes.len() {
            did.extend(self.give(n, Input::Timer, &[]));
        }
        did.extend(self.run());
        did.retain(|(_, d)| *d != Did::Absorbed);
        did
    }
}

fn line(mode: crate::config::MeshMode, count: u8) -> World {
    let mut w = World::new(mode, count);
    for n in 1..usize::from(count) {
        w.wire(n - 1, n);
    }
    w
}

#[test]
fn a_datagram_finds_its_way_and_arrives() {
    let mut w = line(crate::config::MeshMode::Open, 5);
    let (a, d) = (w.id(0), w.id(4));
    let did = w.send(0, d, b"hello");
    assert_eq!(did, [(0, Did::Parked)]);
    let did = w.run();
    assert_eq!(did, [], "the first ring is too narrow");
    let did = w.later(200_000);
    let found = Event::RouteDiscovered { destination: d, hops: 3 };
    assert_eq!(did, [(0, Did::Publish(found)), (4, Did::Deliver(a, b"hello".to_vec(), 0))]);
    // The way is known now.
    w.send(0, d, b"again");
    assert_eq!(w.run(), [(4, Did::Deliver(a, b"again".to_vec(), 0))]);
    assert_eq!(w.nodes[1].stats().relayed_free, 2);
}

#[test]
fn a_search_for_nobody_fails_once_and_the_packet_comes_back() {
    let mut w = line(crate::config::MeshMode::Open, 3);
    let nobody = NodeId([9; 32]);
    w.send(0, nobody, b"x");
    w.run();
    let mut did = Vec::new();
    for _ in 0..40 {
        did.extend(w.later(100_000));
    }
    let no_route = Did::Reject(RoutingReason::NoRoute.into());
    let failed = Did::Publish(Event::RouteFailed { destination: nobody });
    assert_eq!(did, [(0, failed), (0, no_route)]);
    assert_eq!(w.nodes[0].parked(), 0);
}

#[test]
fn a_broken_link_is_reported_and_another_way_found() {
    let mut w = World::new(crate::config::MeshMode::Open, 4);
    for (a, b) in [(0, 1), (1, 2), (0, 3), (3, 2)] {
        w.wire(a, b);
    }
    let (a, c) = (w.id(0), w.id(2));
    w.send(0, c, b"one");
    assert!(w.run().contains(&(2, Did::Deliver(a, b"one".to_vec(), 0))));
    let first = w.nodes[0].table().find_route(&c, w.now).unwrap().path()[0];
    let via = if first == w.id(1).hop() { 1 } else { 3 };
    w.cut(via, 2);
    w.send(0, c, b"two");
    let did = w.run();
    assert!(
        did.iter().any(|(n, d)| *n == 0
            && matches!(
                d,
                Did::Publish(Event::DeliveryFailed {
                    cause: crate::wire::route_error::Cause::NextHopGone,
                    ..
                })
            )),
        "{did:?}"
    );
    w.send(0, c, b"three");
    assert!(w.run().contains(&(2, Did::Deliver(a, b"three".to_vec(), 0))));
}

#[test]
fn what_is_not_bitcoin_needs_a_payment() {
    let mut w = line(crate::config::MeshMode::PaymentGated, 3);
    let c = w.id(2);
    w.send(0, c, b"data");
    let did = w.run();
    assert!(did.contains(&(0, Did::Reject(PaymentReason::Required.into()))), "{did:?}");
    let payload = b"data".to_vec();
    let input = Input::Send { destination: c, payload: &payload, proof: &[], unchecked: true };
    w.give(0, input, &payload);
    let did = w.run();
    assert!(did.contains(&(1, Did::Reject(PaymentReason::Required.into()))), "{did:?}");
    assert!(
        did.iter().any(|(n, d)| *n == 0
            && matches!(
                d,
                Did::Publish(Event::DeliveryFailed {
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
        m.handle(w.now, Input::PeerConnected { link, peer, dialed: true }),
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
    let mut w = World::new(crate::config::MeshMode::Open, 3);
    w.wire(0, 1);
    let destination = w.id(2);
    w.give(0, Input::FindRoute { destination }, &[]);
    assert_eq!(w.run(), []);
    w.wire(1, 2);
    // Nodes that start together are to reach each other within 200 ms.
    let did = w.later(180 * crate::time::MILLISECOND);
    let found = Did::Publish(Event::RouteDiscovered { destination, hops: 1 });
    assert!(did.contains(&(0, found)), "{did:?}");
}
