//! Datagrams that are forged, not paid for, or paid for once and sent twice.

use super::super::World;
use super::super::bytes::Path;
use super::{Parts, seal};
use crate::packets::payloads::{bitcoin_message, ping};
use crate::payments::bank::Bank;
use crate::rng::Rng;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::wire::HEADER_LEN;

impl World {
    /// Changes a packet that a dishonest node passes on.
    pub(in crate::sim) fn meddle(&mut self, packet: &mut [u8]) {
        let len = packet.len();
        let at = match self.rng.below(3) {
            // Its number, the last byte of the payload, anything.
            0 => 8,
            1 => len - 1,
            _ => 24 + self.rng.index(len - 24),
        };
        packet[at] ^= 1 << self.rng.below(8);
        seal(packet);
        self.checks.count("meddled with");
    }

    /// A packet that came by, changed or not.
    pub(super) fn edited(&mut self, m: usize, well_formed: bool) -> Vec<Vec<u8>> {
        let Some(newest) = self.nodes[m].tap.len().checked_sub(1) else { return Vec::new() };
        let at = newest - self.rng.index(newest + 1).min(self.rng.index(newest + 1));
        let mut packet = self.nodes[m].tap[at].to_vec();
        let ids: Vec<NodeId> = self.nodes.iter().map(|n| n.id).collect();
        let rng = &mut self.rng;
        let times = if rng.one_in(2) { 1 } else { rng.within(0, 3) };
        for _ in 0..times {
            let len = packet.len();
            match rng.below(if well_formed { 6 } else { 9 }) {
                0 => {
                    packet[7] =
                        if rng.one_in(2) { rng.below(18) as u8 } else { packet[7].wrapping_add(1) }
                }
                1 => {
                    let sequence = u64::from_le_bytes(packet[8..16].try_into().unwrap_or_default());
                    let next = sequence.wrapping_add(rng.within(1, 3));
                    packet[8..16].copy_from_slice(&next.to_le_bytes());
                }
                2 if len >= 56 => packet[24..56].copy_from_slice(&rng.pick(&ids).0),
                3 if len >= 88 => packet[56..88].copy_from_slice(&rng.pick(&ids).0),
                // Where a datagram has its hops.
                4 if len >= 116 => {
                    let at = 92 + 8 * rng.index(2);
                    packet[at..at + 8].copy_from_slice(&rng.pick(&ids).0[..8]);
                }
                5 if len >= 140 => {
                    let (a, b) = packet[92..].split_at_mut(8);
                    a.swap_with_slice(&mut b[..8]);
                }
                6 => packet.truncate(HEADER_LEN + rng.index(len - HEADER_LEN + 1)),
                7 => packet.extend(rng.clone().vec(8)),
                _ if well_formed => {}
                _ => {
                    let at = rng.index(len);
                    packet[at] ^= 1 << rng.below(8);
                }
            }
        }
        if well_formed || !rng.one_in(5) {
            seal(&mut packet);
        }
        let mut out = vec![packet];
        // As if it were the source itself, signed anew.
        if let Some(mut parts) = Parts::of(&out[0]).filter(|_| rng.one_in(3)) {
            parts.source = ids[m];
            if let Some(byte) = (!parts.proof.is_empty()).then(|| rng.index(parts.proof.len())) {
                parts.proof[byte] ^= 1 << rng.below(8);
            }
            let key = self.nodes[m].key;
            out.push(parts.sign(&key));
        }
        out
    }

    /// A free datagram that is to go through a neighbour twice.
    pub(super) fn looped(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let around: Vec<usize> = self.links(via).iter().map(|(_, n)| *n).collect();
        let (over, to) = (self.rng.pick(&around), self.rng.pick(&around));
        let mut parts = self.own(m, via);
        parts.hops = [via, over, via].map(|n| self.id(n).hop()).to_vec();
        (parts.hop_limit, parts.destination) = (3, self.id(to));
        parts.payload = ping(self.rng.draw());
        vec![parts.sign(&self.nodes[m].key)]
    }

    /// A packet that came by, once for each of its bytes, which is another then.
    pub(super) fn every_byte(&mut self, m: usize) -> Vec<Vec<u8>> {
        let newest = self.nodes[m].tap.back().cloned();
        let Some(packet) = newest.filter(|p| p.len() > HEADER_LEN) else { return Vec::new() };
        // A part of them at a time, so that no link is closed for its quota.
        let (from, bit) = (self.rng.index(packet.len()), self.rng.below(8));
        let change = |at: usize| {
            let mut other = packet.to_vec();
            other[at] ^= 1 << bit;
            seal(&mut other);
            other
        };
        (from..packet.len().min(from + 24)).map(change).collect()
    }

    /// Bytes that are no packet, or only begin like one.
    pub(super) fn garbage(&mut self) -> Vec<Vec<u8>> {
        let len = self.rng.below(200) as usize;
        let mut bytes = self.rng.vec(len);
        if self.rng.one_in(2) && len > 24 {
            bytes[..5].copy_from_slice(b"MESH\x01");
            bytes[5] = 1 + bytes[5] % 9;
            seal(&mut bytes);
        }
        vec![bytes]
    }

    /// A payload that looks like Bitcoin and is not.
    pub(super) fn costume(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let mut parts = self.own(m, via);
        let network = Network::Regtest;
        parts.payload = match self.rng.below(6) {
            // Anything in the body of a known message.
            0 => bitcoin_message(network, "block", &parts.payload),
            1 => bitcoin_message(network, "tx", &parts.payload),
            2 => bitcoin_message(network, "headers", &parts.payload),
            // A real message, and something behind it.
            3 => [bitcoin_message(network, "verack", &[]), parts.payload].concat(),
            // A command that is none, another network, a wrong check.
            4 => bitcoin_message(network, "parcel", &parts.payload),
            _ => {
                let mut message = bitcoin_message(network, "ping", &[7; 8]);
                message[20] ^= 1;
                message
            }
        };
        let key = self.nodes[m].key;
        vec![parts.sign(&key)]
    }

    /// A datagram of its own through or to a neighbour.
    pub(super) fn own(&mut self, m: usize, via: usize) -> Parts {
        let others: Vec<usize> =
            self.links(via).iter().map(|(_, n)| *n).filter(|n| *n != m).collect();
        let to = if others.is_empty() || self.rng.one_in(3) { via } else { self.rng.pick(&others) };
        let hops = if to == via { vec![] } else { vec![self.id(via).hop()] };
        let len = self.rng.within(1, 300) as usize;
        let payload = self.rng.vec(len);
        Parts {
            hop_limit: hops.len() as u8,
            sequence: self.rng.draw(),
            source: self.id(m),
            destination: self.id(to),
            hops,
            proof: Vec::new(),
            payload,
        }
    }

    /// Its own datagram with a proof that proves nothing.
    pub(super) fn unpaid(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let mut parts = self.own(m, via);
        let terms = parts.terms(&self.nodes[via].config);
        let most = self.nodes[via].config.payment.max_lifetime;
        let (unix, lifetime) = (self.unix(), self.rng.within(1, most + most / 8));
        let amount = self.rng.within(1, 100_000);
        let accepted = self.bank.public_key();
        let kind = self.rng.below(7);
        parts.proof = match kind {
            // An invoice to himself, which names its key or another's.
            0 => {
                let mut own = Bank::of(self.nodes[m].key);
                let hash = own.issue(terms, amount, unix, lifetime);
                let preimage = own.issued[&hash].preimage;
                let hint = if self.rng.one_in(2) { accepted } else { own.public_key() };
                own.packed_proof(&hash, preimage, &hint)
            }
            // A real invoice that was not paid.
            1 => {
                let hash = self.bank.issue(terms, amount, unix, lifetime);
                let preimage = self.rng.bytes32();
                self.bank.packed_proof(&hash, preimage, &accepted)
            }
            // Paid too little, too early, or for too long ago.
            2 => self.bank.proof(terms, self.rng.clone().within(1, 900), unix, lifetime),
            3 => self.bank.proof(terms, amount, unix + 100_000, lifetime),
            4 => self.bank.proof(terms, amount, unix - 100_000, lifetime),
            // Paid, but changed after it was signed.
            5 => self.bank.proof(terms, 100_000, unix, lifetime.min(most)),
            _ => self.rng.vec(150),
        };
        let mut packet = parts.sign(&self.nodes[m].key);
        if let Some(last) = packet.last_mut().filter(|_| kind == 5) {
            *last ^= 1;
            seal(&mut packet);
        }
        vec![packet]
    }

    /// Paid for, and dated at the edge of what a node with the right time takes.
    pub(super) fn dated(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let mut parts = self.own(m, via);
        let terms = parts.terms(&self.nodes[via].config);
        let payment = &self.nodes[via].config.payment;
        let (skew, most, unix) = (payment.future_skew, payment.max_lifetime, self.unix());
        // From two seconds before the edge to two after it.
        let edge = |at: u64, rng: &mut Rng| at + rng.below(5) - 2;
        let (timestamp, lifetime) = match self.rng.below(3) {
            0 => (edge(unix + skew, &mut self.rng), most.min(60)),
            1 => (edge(unix - most, &mut self.rng), most),
            _ => (unix, edge(most, &mut self.rng)),
        };
        parts.proof = self.bank.proof(terms, 100_000, timestamp, lifetime);
        vec![parts.sign(&self.nodes[m].key)]
    }

    /// Pays once and sends several times, over one and over other routes.
    pub(super) fn twice(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let mut parts = self.own(m, via);
        let terms = parts.terms(&self.nodes[via].config);
        let hash = self.bank.issue(terms, 100_000, self.unix(), 60);
        parts.proof = self.bank.pay(&hash);
        if self.rng.one_in(2) {
            // With the terms in it that were paid for, whatever it goes with.
            let preimage = self.bank.issued[&hash].preimage;
            parts.proof = self.bank.packed_proof(&hash, preimage, &self.bank.public_key());
        }
        let key = self.nodes[m].key;
        self.nodes[m].paid.push(parts.clone());
        let mut out = vec![parts.sign(&key)];
        for _ in 0..3 {
            parts.sequence = self.rng.draw();
            if self.rng.one_in(2) {
                let other = self.own(m, via);
                (parts.hops, parts.destination) = (other.hops, other.destination);
                parts.hop_limit = other.hop_limit;
            }
            out.push(parts.sign(&key));
        }
        out
    }

    /// A free packet with a key, a signature or a proof that nobody asks for.
    pub(super) fn riding(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let mut parts = self.own(m, via);
        parts.payload = ping(self.rng.draw());
        let len = self.rng.within(1, 300) as usize;
        parts.proof = self.rng.vec(len);
        let mut packet = parts.sign(&self.nodes[m].key);
        if self.rng.one_in(2) {
            // Key and signature lie behind the hops.
            let at = 92 + 8 * parts.hops.len();
            let noise = self.rng.vec(97);
            packet[at..at + 97].copy_from_slice(&noise);
        }
        if self.rng.one_in(4) {
            packet[6] = self.rng.draw() as u8;
        }
        seal(&mut packet);
        vec![packet]
    }

    /// Its own paid packet as it is, at whatever time, and with one byte changed.
    pub(super) fn resent(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let key = self.nodes[m].key;
        if self.nodes[m].paid.is_empty() || self.rng.one_in(4) {
            let mut parts = self.own(m, via);
            let terms = parts.terms(&self.nodes[via].config);
            let hash = self.bank.issue(terms, 100_000, self.unix(), 60);
            parts.proof = self.bank.pay(&hash);
            self.nodes[m].paid.push(parts);
        }
        // Mostly the latest, so that it comes often.
        let paid = &self.nodes[m].paid;
        let at = paid.len() - 1 - self.rng.index(paid.len().min(2));
        let packet = paid[at].sign(&key);
        let mut out = vec![packet.clone(); self.rng.within(1, 2) as usize];
        if self.rng.one_in(4) {
            let mut other = packet;
            let at = HEADER_LEN + self.rng.index(other.len() - HEADER_LEN);
            other[at] ^= 1 << self.rng.below(8);
            seal(&mut other);
            out.push(other);
        }
        out
    }

    /// Free packets as if a source had sent them of which paid ones came by here: with the
    /// same number and way.
    pub(super) fn framed(&mut self, m: usize) -> Vec<Vec<u8>> {
        let seen = self.nodes[m].tap.iter().filter_map(|p| Parts::of(p));
        let paid: Vec<Parts> = seen.filter(|p| !p.proof.is_empty()).collect();
        let key = self.nodes[m].key;
        let forged = paid.into_iter().rev().take(2).map(|parts| {
            let payload = ping(parts.sequence);
            Parts { proof: Vec::new(), payload, ..parts }.sign(&key)
        });
        forged.collect()
    }

    /// Connects anew; as much as is free, and a little more.
    pub(super) fn come_again(&mut self, m: usize, via: usize) {
        self.checks.count("attacks");
        self.checks.lied.insert(m);
        for conn in self.between(m, via) {
            self.close(conn);
        }
        if let Some(line) = self.line_between(m, via) {
            self.connect(m, via, line);
        }
        let most = self.nodes[via].config.free_burst.min(6_000);
        let Some(link) = self.link(m, via) else { return };
        let mut parts = self.own(m, via);
        for _ in 0..most / 200 {
            parts.sequence = self.rng.draw();
            parts.payload = ping(self.rng.draw());
            let packet = parts.sign(&self.nodes[m].key);
            self.transmit(link, packet.into(), Path::default().then(m));
        }
    }

    /// What it paid for some time ago, once more.
    pub(super) fn again(&mut self, m: usize) -> Vec<Vec<u8>> {
        if self.nodes[m].paid.is_empty() {
            return Vec::new();
        }
        let at = self.rng.index(self.nodes[m].paid.len());
        let parts = Parts { sequence: self.rng.draw(), ..self.nodes[m].paid[at].clone() };
        vec![parts.sign(&self.nodes[m].key)]
    }

    /// The proof of somebody else, in a datagram of its own.
    pub(super) fn stolen(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let seen: Vec<Parts> = self.nodes[m].tap.iter().filter_map(|p| Parts::of(p)).collect();
        let paid: Vec<&Parts> = seen.iter().filter(|p| !p.proof.is_empty()).collect();
        if paid.is_empty() {
            return Vec::new();
        }
        let victim = paid[self.rng.index(paid.len())].clone();
        let mut parts = if self.rng.one_in(2) { self.own(m, via) } else { victim.clone() };
        parts.proof = victim.proof;
        if self.rng.one_in(2) {
            parts.source = self.id(m);
        }
        vec![parts.sign(&self.nodes[m].key)]
    }
}
