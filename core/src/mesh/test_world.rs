//! A few nodes wired to one another, for the tests of the state machine. It holds
//! every input to one verdict, every ticket to one end, and whatever waits for a
//! record to be behind it.

use super::*;
use crate::id::HopId;
use crate::id::Standing;
use crate::payment::ledger::Record;
use crate::wire::checksum::Sum;
use crate::wire::datagram::{Emit, Form};
use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

/// What tests look at of an [`owned::Action`]. Packets that were sent are in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Deliver(NodeId, Vec<u8>, u64),
    Reject(MeshError),
    Publish(Event),
    Persist(Record),
    Absorbed,
    Parked(Ticket),
    Drop(Ticket, MeshError),
    Resume(Ticket),
    Verify(Ticket, [u8; 32]),
    Invoice(Ticket, u64, u64),
    Buying(Ticket),
    Pay(Ticket, Vec<u8>),
}

/// A datagram to send.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) to: NodeId,
    pub(super) payload: Vec<u8>,
    pub(super) proof: Vec<u8>,
    pub(super) unchecked: bool,
}

/// What a node's shell keeps for a ticket.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Packet(LinkId, Vec<u8>),
    Own(Own),
}

/// Changes a packet's last byte, and its check accordingly.
pub(super) fn edit(packet: &mut [u8]) {
    *packet.last_mut().unwrap() ^= 1;
    set_check(packet);
}

/// Makes a packet's check the right one.
pub(super) fn set_check(packet: &mut [u8]) {
    packet[20..24].fill(0);
    let mut sum = Sum::default();
    sum.add(packet);
    packet[20..24].copy_from_slice(&sum.check().to_le_bytes());
}

type Trace = Vec<(usize, Outcome)>;

pub(super) struct World<M: Owned> {
    pub(super) nodes: Vec<Mesh<M>>,
    /// (node, link) to (node, link).
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    pub(super) in_flight: VecDeque<(usize, LinkId, Vec<u8>)>,
    held: BTreeMap<(usize, Ticket), Held>,
    /// Asked back, and not yet given back.
    pub(super) asked_back: BTreeMap<(usize, Ticket), Held>,
    /// Whether what is asked back is given back at once.
    pub(super) prompt: bool,
    /// Records of each node, in the order of their numbers.
    pub(super) disks: Vec<Vec<Record>>,
    written: Vec<u64>,
    /// Payment hash of the invoice that may be given again, at the latest request for one.
    pub(super) given: Option<[u8; 32]>,
    pub(super) now: Micros,
}

impl<M: Owned> World<M> {
    pub(super) fn new(count: u8, config: impl Fn(usize) -> Config) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            wires: BTreeMap::new(),
            in_flight: VecDeque::new(),
            held: BTreeMap::new(),
            asked_back: BTreeMap::new(),
            prompt: true,
            disks: std::vec![Vec::new(); usize::from(count)],
            written: std::vec![0; usize::from(count)],
            given: None,
            now: 0,
        };
        for n in 0..count {
            let key = Self::key(usize::from(n));
            world.nodes.push(Mesh::new(config(usize::from(n)), key, [n + 1; 32]));
        }
        world
    }

    pub(super) fn key(n: usize) -> SecretKey {
        SecretKey::from_byte_array([n as u8 + 1; 32]).unwrap()
    }

    pub(super) fn id(&self, n: usize) -> NodeId {
        self.nodes[n].id()
    }

    /// The link from one node to another.
    pub(super) fn link(from: usize, to: usize) -> LinkId {
        LinkId((100 * from + to) as u32)
    }

    pub(super) fn wire(&mut self, a: usize, b: usize) -> Trace {
        let (la, lb) = (Self::link(a, b), Self::link(b, a));
        self.wires.insert((a, la), (b, lb));
        self.wires.insert((b, lb), (a, la));
        let (ia, ib) = (self.id(a), self.id(b));
        let mut did = self.give(
            a,
            Input::PeerConnected {
                link: la,
                peer: ib,
                dialed: true,
                standing: Standing::Own,
                capabilities: None,
            },
        );
        did.extend(self.give(
            b,
            Input::PeerConnected {
                link: lb,
                peer: ia,
                dialed: false,
                standing: Standing::Own,
                capabilities: None,
            },
        ));
        did.extend(self.run());
        did
    }

    /// Joins two links of which their nodes know already.
    pub(super) fn join(&mut self, one: (usize, LinkId), other: (usize, LinkId)) {
        self.wires.insert(one, other);
        self.wires.insert(other, one);
    }

    /// From now on what one node sends to the other is lost, and nobody is told.
    pub(super) fn lose(&mut self, a: usize, b: usize) {
        self.wires.remove(&(a, Self::link(a, b)));
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) -> Trace {
        let (la, lb) = (Self::link(a, b), Self::link(b, a));
        self.wires.remove(&(a, la));
        self.wires.remove(&(b, lb));
        // What is under way on it is lost.
        self.in_flight.retain(|(n, link, _)| ![(a, la), (b, lb)].contains(&(*n, *link)));
        let mut did = self.give(a, Input::PeerDisconnected { link: la });
        did.extend(self.give(b, Input::PeerDisconnected { link: lb }));
        did
    }

    /// Starts a node anew, with what is on its disk; it has no links then.
    pub(super) fn restart(&mut self, n: usize, seed: u8) {
        let config = self.nodes[n].config().clone();
        for other in 0..self.nodes.len() {
            if self.wires.contains_key(&(other, Self::link(other, n))) {
                self.cut(other, n);
            }
        }
        self.nodes[n] = Mesh::new(config, Self::key(n), [seed; 32]);
        self.held.retain(|(node, _), _| *node != n);
        self.asked_back.retain(|(node, _), _| *node != n);
        self.written[n] = 0;
        for record in self.disks[n].clone() {
            assert_eq!(self.give(n, Input::Persisted { record }), [(n, Outcome::Absorbed)]);
        }
    }

    /// A signed datagram from the first node of a way to its last, as its sender can
    /// make it without asking its own state machine.
    pub(super) fn packet(
        &self,
        way: &[usize],
        sequence: u64,
        payload: &[u8],
        proof: &[u8],
    ) -> Vec<u8> {
        let [from, hops @ .., to] = way else { panic!("a way has two ends") };
        let secp = Secp256k1::new();
        let me = Identity::new(&secp, &Self::key(*from));
        let hops: Vec<HopId> = hops.iter().map(|n| self.id(*n).hop()).collect();
        let emit = Emit {
            hop_limit: hops.len() as u8,
            sequence,
            source: me.id(),
            destination: self.id(*to),
            proof: Some((me.public_key(), proof)),
            form: Form::Plain,
        };
        let mut out = std::vec![0; 4096];
        let n = emit.write(&hops, payload, &mut out, |hash| me.sign(&secp, hash)).unwrap();
        [&out[..n], payload].concat()
    }

    /// A datagram without a proof from the first node of a way to its last, as the next one
    /// gets it.
    pub(super) fn unsigned(&self, way: &[usize], sequence: u64, payload: &[u8]) -> Vec<u8> {
        let [from, hops @ .., to] = way else { panic!("a way has two ends") };
        let hops: Vec<HopId> = hops.iter().map(|n| self.id(*n).hop()).collect();
        let (source, destination) = (self.id(*from), self.id(*to));
        let hop_limit = hops.len() as u8;
        let emit =
            Emit { hop_limit, sequence, source, destination, proof: None, form: Form::Plain };
        let mut out = std::vec![0; 1000];
        let n = emit.write(&hops, payload, &mut out, |_| [0; 64]).unwrap();
        [&out[..n], payload].concat()
    }

    /// Gives an input without bytes of its own.
    pub(super) fn give(&mut self, n: usize, input: Input<'_>) -> Trace {
        self.nodes[n].handle(self.now, input).unwrap();
        self.drain(n, &[], None)
    }

    pub(super) fn receive(&mut self, n: usize, link: LinkId, mut packet: Vec<u8>) -> Trace {
        let as_given = packet.clone();
        let input = Input::MessageReceived { link, packet: &mut packet };
        self.nodes[n].handle(self.now, input).unwrap();
        self.drain(n, &packet, Some(Held::Packet(link, as_given)))
    }

    pub(super) fn send(&mut self, n: usize, own: Own) -> Trace {
        let Own { to: destination, payload, proof, unchecked } = &own;
        let (destination, unchecked) = (*destination, *unchecked);
        let input = Input::Send { destination, payload, proof, unchecked };
        self.nodes[n].handle(self.now, input).unwrap();
        self.drain(n, &own.payload, Some(Held::Own(own.clone())))
    }

    /// Gives an own packet again.
    pub(super) fn repeat(&mut self, n: usize, packet: &[u8]) -> Trace {
        self.nodes[n].handle(self.now, Input::Repeat { packet }).unwrap();
        self.drain(n, packet, None)
    }

    /// Gives back what was asked back.
    pub(super) fn hand_back(&mut self, n: usize, ticket: Ticket) -> Trace {
        match self.asked_back.remove(&(n, ticket)).unwrap() {
            Held::Own(own) => self.send(n, own),
            Held::Packet(link, mut packet) => {
                let as_given = packet.clone();
                let input = Input::Resumed { ticket, packet: &mut packet };
                self.nodes[n].handle(self.now, input).unwrap();
                self.drain(n, &packet, Some(Held::Packet(link, as_given)))
            }
        }
    }

    /// Gives the invoice that a node asked for, or none.
    #[cfg(feature = "flows")]
    pub(super) fn invoice(&mut self, n: usize, ticket: Ticket, invoice: &[u8]) -> Trace {
        let Some(Held::Packet(_, packet)) = self.held.remove(&(n, ticket)) else {
            panic!("no packet waits for this invoice")
        };
        let input = Input::Invoice { ticket, packet: &packet, invoice };
        self.nodes[n].handle(self.now, input).unwrap();
        self.drain(n, &packet, None)
    }

    fn drain(&mut self, n: usize, tail: &[u8], mut hold: Option<Held>) -> Trace {
        let (mut did, mut sent, mut verdicts) = (Vec::new(), Vec::new(), 0);
        loop {
            let action = owned::Action::new(self.nodes[n].poll(), tail, |parts| parts.concat());
            if matches!(action, owned::Action::Wait { .. }) {
                break;
            }
            if let Some((link, bytes)) = action.sent() {
                sent.push((link, bytes.clone()));
            }
            verdicts += usize::from(matches!(action, owned::Action::Verdict(_)));
            if let Some(outcome) = self.outcome(n, action, &mut hold) {
                did.push((n, outcome));
            }
        }
        for (link, bytes) in sent {
            if let Some((to, link)) = self.wires.get(&(n, link)) {
                self.in_flight.push_back((*to, *link, bytes));
            }
        }
        assert_eq!(verdicts, 1, "one verdict: {did:?}");
        let waiting = self.held.keys().filter(|(node, _)| *node == n).count();
        assert_eq!(self.nodes[n].parked(), waiting, "what waits has a place");
        let asked_back = did.iter().filter_map(|(_, d)| match d {
            Outcome::Resume(ticket) => Some(*ticket),
            _ => None,
        });
        for ticket in asked_back.filter(|_| self.prompt).collect::<Vec<_>>() {
            did.extend(self.hand_back(n, ticket));
        }
        did
    }

    /// Keeps what the node's shell keeps, and gives what tests look at.
    fn outcome(
        &mut self,
        n: usize,
        action: owned::Action<Vec<u8>>,
        hold: &mut Option<Held>,
    ) -> Option<Outcome> {
        use owned::{Action, Verdict};
        let written = self.written[n];
        let in_time = |after: Option<u64>| assert!(after <= Some(written), "before its record");
        Some(match action {
            Action::Send { after, .. } => {
                in_time(after);
                return None;
            }
            Action::Verdict(Verdict::Forward { after, priority, .. }) => {
                in_time(after);
                assert!(priority == Priority::Paid || after.is_none());
                return None;
            }
            Action::Verdict(Verdict::Originate { packet, after, priority, hops, .. }) => {
                in_time(after);
                assert!(priority == Priority::Paid || after.is_none());
                assert_eq!(packet.get(7), Some(&hops));
                return None;
            }
            Action::SendAll { .. } | Action::Close { .. } | Action::Wait { .. } => return None,
            Action::Verdict(Verdict::Deliver { source, payload, earned_msat, after, .. }) => {
                in_time(after);
                Outcome::Deliver(source, payload, earned_msat)
            }
            Action::Verdict(Verdict::Reject { reason, .. }) => Outcome::Reject(reason),
            Action::Verdict(Verdict::Absorbed) => Outcome::Absorbed,
            Action::Verdict(Verdict::Opening { .. }) | Action::Flow { .. } => return None,
            Action::Verdict(Verdict::Buying { ticket }) => Outcome::Buying(ticket),
            Action::Pay { ticket, invoice, .. } => Outcome::Pay(ticket, invoice),
            Action::Verdict(Verdict::Parked { ticket, .. }) => {
                self.held.insert((n, ticket), hold.take().unwrap());
                Outcome::Parked(ticket)
            }
            Action::Drop { ticket, reason, .. } => {
                self.held.remove(&(n, ticket)).expect("a ticket ends once");
                Outcome::Drop(ticket, reason)
            }
            Action::Resume { ticket } => {
                let held = self.held.remove(&(n, ticket)).expect("a ticket ends once");
                self.asked_back.insert((n, ticket), held);
                Outcome::Resume(ticket)
            }
            Action::Publish(event) => Outcome::Publish(event),
            Action::Persist { number, record } => {
                self.written[n] += 1;
                assert_eq!(number, self.written[n]);
                self.disks[n].push(record);
                Outcome::Persist(record)
            }
            Action::Invoice { ticket, bytes, amount_msat, given, .. } => {
                self.given = given;
                Outcome::Invoice(ticket, bytes, amount_msat)
            }
            Action::Verify { ticket, block_hash } => Outcome::Verify(ticket, block_hash),
        })
    }

    /// Carries packets until none is in flight; control packets leave no trace.
    pub(super) fn run(&mut self) -> Trace {
        let mut did = Vec::new();
        while let Some((n, link, bytes)) = self.in_flight.pop_front() {
            self.now += 1;
            did.extend(self.receive(n, link, bytes));
        }
        did.retain(|(_, d)| *d != Outcome::Absorbed);
        did
    }

    pub(super) fn later(&mut self, by: Micros) -> Trace {
        self.now += by;
        let mut did = Vec::new();
        for n in 0..self.nodes.len() {
            did.extend(self.give(n, Input::Timer));
        }
        did.extend(self.run());
        did.retain(|(_, d)| *d != Outcome::Absorbed);
        did
    }
}
