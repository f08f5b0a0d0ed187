//! The nodes, the links between them and what is on its way.

use super::node::{Done, Given, Node, Own, Plain};
use crate::fuzz::bolt11::signer;
use crate::fuzz::covenant_payment::{CovenantPayment, pay};
use crate::invoice::Order;
use crate::packet::refix;
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::id::{LinkId, Network, NodeId};
use blvm_mesh_core::payment::fee::FeeDistribution;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::proof::INSTANT_SETTLEMENT;
use blvm_mesh_core::payment::terms::Terms;
use blvm_mesh_core::tables::Owned;
use blvm_mesh_core::time::{Micros, SECOND};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash};

/// The wall clock at the beginning, in seconds since 1970.
const START: u64 = 1_750_000_000;
/// Most packets on their way; further ones are lost.
const IN_FLIGHT: usize = 64;

/// A packet on its way: to whom, on which of its links.
struct Flying {
    to: usize,
    link: LinkId,
    bytes: Vec<u8>,
}

/// One end of a link: node and number.
type LinkEnd = (usize, LinkId);

pub(super) struct World<M: Owned> {
    nodes: Vec<Node<M>>,
    /// What became a delivery.
    pub(super) delivered: usize,
    /// Of everything that was done.
    pub(super) trace: DefaultHasher,
    now: Micros,
    links: Vec<(LinkEnd, LinkEnd)>,
    next_link: u32,
    flying: VecDeque<Flying>,
    /// Payments that were made, by their replay key: who paid.
    paid: BTreeMap<[u8; 32], NodeId>,
    /// Blocks that covenants are funded in, by their hash.
    blocks: BTreeMap<[u8; 32], KnownHeader>,
    proofs: Vec<Own>,
}

impl<M: Owned> World<M> {
    /// Nodes in a row, all connected and greeted.
    pub(super) fn new(count: usize, mode: MeshMode, volatile: bool) -> Self {
        let mut world = Self {
            nodes: (0..count).map(|n| Node::new(n as u8, mode, volatile)).collect(),
            delivered: 0,
            trace: DefaultHasher::new(),
            now: 0,
            links: Vec::new(),
            next_link: 0,
            flying: VecDeque::new(),
            paid: BTreeMap::new(),
            blocks: BTreeMap::new(),
            proofs: Vec::new(),
        };
        for n in 0..count {
            world.event(n, Plain::Clock(START));
            if n > 0 {
                world.connect(n - 1, n, true);
            }
        }
        world.settle();
        world
    }

    fn id(&self, n: usize) -> NodeId {
        self.nodes[n].mesh.id()
    }

    fn event(&mut self, n: usize, plain: Plain) {
        self.give(n, Given::Event(plain));
    }

    fn give(&mut self, n: usize, given: Given) {
        let done = self.nodes[n].give(self.now, given);
        self.carry(n, done);
    }

    fn carry(&mut self, n: usize, done: Vec<Done>) {
        for done in done {
            (n, &done).hash(&mut self.trace);
            match done {
                Done::Sent(link, bytes) => {
                    if let (Some((to, link)), true) =
                        (self.other((n, link)), self.flying.len() < IN_FLIGHT)
                    {
                        self.flying.push_back(Flying { to, link, bytes });
                    }
                }
                Done::Closed(link) => {
                    if let Some((m, other)) = self.other((n, link)) {
                        self.links.retain(|(a, b)| *a != (n, link) && *b != (n, link));
                        self.event(m, Plain::Disconnected(other));
                    }
                }
                Done::Earned(payment, source) => {
                    assert_eq!(self.paid.get(&payment), Some(&source), "I1: it was paid, by him");
                }
                Done::Delivered => self.delivered += 1,
            }
        }
    }

    fn other(&self, end: LinkEnd) -> Option<LinkEnd> {
        self.links.iter().find_map(|(a, b)| match () {
            () if *a == end => Some(*b),
            () if *b == end => Some(*a),
            () => None,
        })
    }

    pub(super) fn connect(&mut self, a: usize, b: usize, dialed: bool) {
        if self.links.len() >= 8 {
            return;
        }
        let (la, lb) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.links.push(((a, la), (b, lb)));
        let (ia, ib) = (self.id(a), self.id(b));
        self.event(a, Plain::Connected(la, ib, dialed));
        self.event(b, Plain::Connected(lb, ia, !dialed));
    }

    /// A link is gone; which of its ends notice is in two bits.
    pub(super) fn cut(&mut self, which: usize, notice: u8) {
        if self.links.is_empty() {
            return;
        }
        let (a, b) = self.links.remove(which % self.links.len());
        for (i, (n, link)) in [a, b].into_iter().enumerate() {
            if notice >> i & 1 == 0 {
                self.event(n, Plain::Disconnected(link));
            }
        }
    }

    /// Delivers what is on its way, and what follows from that.
    pub(super) fn settle(&mut self) {
        for _ in 0..2 * IN_FLIGHT {
            if self.flying.is_empty() {
                break;
            }
            self.deliver(0);
        }
    }

    pub(super) fn deliver(&mut self, which: usize) {
        let len = self.flying.len().max(1);
        if let Some(Flying { to, link, bytes }) = self.flying.remove(which % len) {
            self.give(to, Given::Packet(link, bytes));
        }
    }

    pub(super) fn lose(&mut self, which: usize) {
        let len = self.flying.len().max(1);
        self.flying.remove(which % len);
    }

    pub(super) fn double(&mut self, which: usize) {
        let len = self.flying.len().max(1);
        let found = self.flying.get(which % len);
        if let Some(Flying { to, link, bytes }) = found.filter(|_| len < IN_FLIGHT) {
            let copy = Flying { to: *to, link: *link, bytes: bytes.clone() };
            self.flying.push_back(copy);
        }
    }

    /// A byte of a packet is another one; the check is right again.
    pub(super) fn change(&mut self, which: usize, at: usize, value: u8) {
        let len = self.flying.len().max(1);
        if let Some(Flying { bytes, .. }) = self.flying.get_mut(which % len) {
            let len = bytes.len();
            bytes[at % len] ^= value;
            refix(bytes);
        }
    }

    /// Bytes come in on one end of a link, as a packet.
    pub(super) fn make_up(&mut self, which: usize, mut bytes: Vec<u8>) {
        let ends: Vec<LinkEnd> = self.links.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let Some((n, link)) = ends.get(which % ends.len().max(1)).copied() else { return };
        if let Some(start) = bytes.first_chunk_mut() {
            *start = *b"MESH\x01";
        }
        refix(&mut bytes);
        self.give(n, Given::Packet(link, bytes));
    }

    pub(super) fn send(
        &mut self,
        a: usize,
        b: usize,
        payload: Vec<u8>,
        proof: Vec<u8>,
        unchecked: bool,
    ) {
        let to = self.id(b);
        self.give(a, Given::Send(Own { to, payload, proof, unchecked }));
    }

    pub(super) fn find(&mut self, a: usize, b: usize) {
        let to = self.id(b);
        self.event(a, Plain::Find(to));
    }

    /// Pays for a payload and sends it. The low bits of `how` say what is wrong
    /// with it: 1 too little, 2 dated ahead, 3 expired soon, 4 by another issuer, 5 by
    /// another issuer in the name of ours.
    pub(super) fn pay(&mut self, a: usize, b: usize, bytes: u8, how: u8) {
        let to = self.id(b);
        let Some(quote) = self.nodes[a].mesh.quote(&to, bytes.into()) else { return };
        let FeeDistribution { source, intermediates, destination } = &quote.shares;
        let sum = source + intermediates.iter().sum::<u64>() + destination;
        assert_eq!(sum, quote.amount_msat, "I5: shares sum to the amount");
        let time = START + self.now / SECOND;
        let mut order = Order::new(signer(), quote.terms_hash, quote.amount_msat, time);
        order.preimage = [self.paid.len() as u8 + 1; 32];
        match how & 7 {
            1 => order.amount_msat /= 2,
            2 => order.timestamp += 250 + u64::from(how),
            3 => order.expiry_s = 1 + u64::from(how >> 4),
            4 | 5 => order.signer = SecretKey::from_slice(&[9; 32]).expect("in range"),
            _ => {}
        }
        if how & 7 == 4 {
            order.hint = order.signer.public_key(&Secp256k1::signing_only());
        }
        if !matches!(how & 7, 4 | 5) {
            self.paid.insert(order.payment_hash(), self.id(a));
        }
        let payload = vec![how; bytes.into()];
        let own = Own { to, payload, proof: order.proof(), unchecked: how & 8 != 0 };
        self.proofs.push(own.clone());
        self.give(a, Given::Send(own));
    }

    /// Sends a proof once more: from the same node or another, to the same or not.
    pub(super) fn pay_again(&mut self, which: usize, a: usize, b: usize, how: u8) {
        let Some(mut own) = self.proofs.get(which % self.proofs.len().max(1)).cloned() else {
            return;
        };
        if how & 1 != 0 {
            own.to = self.id(b);
        }
        own.unchecked = true;
        self.give(a, Given::Send(own));
    }

    pub(super) fn pass(&mut self, by: Micros) {
        self.now += by;
        for n in 0..self.nodes.len() {
            self.event(n, Plain::Timer);
        }
    }

    /// A wall clock jumps: hours forward or back, or to its ends. Nodes that keep no
    /// records must have the right time.
    pub(super) fn set_clock(&mut self, n: usize, hours: u8, how: u8) {
        if self.nodes[n].mesh.config().payment.volatile {
            return;
        }
        let true_time = START + self.now / SECOND;
        let by = u64::from(hours) * 1200;
        let unix = match how & 7 {
            0 => true_time + by,
            1 => true_time - by,
            2 => 0,
            3 => u64::MAX,
            _ => true_time,
        };
        self.event(n, Plain::Clock(unix));
    }

    /// A node crashes when some of what it gave to its disk was written. Whether
    /// the other ends of its links notice is a choice.
    pub(super) fn restart(&mut self, n: usize, written: u8, notice: bool) {
        self.nodes[n].write_some(written.into());
        self.nodes[n].restart(self.now);
        let (mine, rest) = self.links.iter().partition(|(a, b)| a.0 == n || b.0 == n);
        let mine: Vec<(LinkEnd, LinkEnd)> = mine;
        self.links = rest;
        for (m, link) in mine.into_iter().flat_map(|(a, b)| [a, b]) {
            if m != n && notice {
                self.event(m, Plain::Disconnected(link));
            }
        }
        self.event(n, Plain::Clock(START + self.now / SECOND));
    }

    /// The disk stalls, or writes all that it was given.
    pub(super) fn disk(&mut self, n: usize, stalls: bool) {
        self.nodes[n].stalls = stalls;
        // Any input lets it write.
        self.event(n, Plain::Timer);
    }

    pub(super) fn congest(&mut self, which: usize, full: bool) {
        let ends: Vec<LinkEnd> = self.links.iter().flat_map(|(a, b)| [*a, *b]).collect();
        if let Some((n, link)) = ends.get(which % ends.len().max(1)).copied() {
            self.event(n, Plain::Congestion(link, full));
        }
    }

    /// A question about a block is answered: rightly, with another root, without
    /// confirmations, or that nothing is known of it. Or, rarely, the disk fails
    /// for good.
    pub(super) fn answer(&mut self, n: usize, x: u8) {
        let Some((ticket, hash)) = self.nodes[n].questions.pop_front() else {
            if x == 255 {
                self.event(n, Plain::StoreFailed);
            }
            return;
        };
        let block = self.blocks.get(&hash).copied();
        let block = match x & 3 {
            0 | 1 => block,
            2 => block.map(|b| KnownHeader { merkle_root: hash, ..b }),
            _ => block.map(|b| KnownHeader { confirmations: 0, ..b }),
        };
        self.event(n, Plain::Block(ticket, if x == 255 { None } else { block }));
    }

    /// Pays for a payload by covenant and sends it, with the proof changed or not.
    pub(super) fn pay_by_covenant(&mut self, a: usize, b: usize, bytes: u8, how: u8) {
        let to = self.id(b);
        let Some(quote) = self.nodes[a].mesh.quote(&to, bytes.into()) else { return };
        let network = Network::Regtest;
        let (source, quota) = (self.id(a), bytes.into());
        let terms = Terms { network, source, destination: to, hops: &quote.hops, quota };
        let payment = pay(&terms, self.paid.len() as u8 & 0x7f);
        let time = (START + self.now / SECOND) as u32;
        let CovenantPayment { merkle_root, .. } = payment;
        let block = KnownHeader { merkle_root, time, confirmations: 1 };
        self.blocks.insert(payment.block_hash, block);
        self.paid.insert(payment.replay_key, source);
        let mut proof = [&[INSTANT_SETTLEMENT][..], &payment.proof].concat();
        if how & 2 != 0 {
            let at = usize::from(how) * 3 % proof.len();
            proof[at] ^= 1;
        }
        let own = Own { to, payload: vec![how; bytes.into()], proof, unchecked: how & 1 != 0 };
        self.proofs.push(own.clone());
        self.give(a, Given::Send(own));
    }

    /// All disks write, and all that waits comes to its end.
    pub(super) fn finish(&mut self) {
        for n in 0..self.nodes.len() {
            self.disk(n, false);
        }
        // A search widens its ring once each time that it is looked at.
        for _ in 0..8 {
            self.settle();
            self.pass(20 * SECOND);
        }
        for node in &self.nodes {
            assert_eq!(node.mesh.parked(), 0, "what waits has an end");
            assert_eq!(node.mesh.searches(), 0, "what is searched for has an end");
        }
    }
}
