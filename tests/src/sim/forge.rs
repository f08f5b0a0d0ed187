//! What a dishonest neighbour sends.

use super::World;
use crate::bank::{Bank, OwnTerms};
use bitcoin::secp256k1::Secp256k1;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::signature::Identity;
use blvm_mesh_core::wire::checksum::Sum;
use blvm_mesh_core::wire::datagram::{Datagram, Emit};
use blvm_mesh_core::wire::route_error::{Cause, RouteError};
use blvm_mesh_core::wire::route_reply::RouteReply;
use blvm_mesh_core::wire::route_request::{Hop, Hops, RouteRequest};
use blvm_mesh_core::wire::{HEADER_LEN, Header, Kind};

/// Puts the right length and check into a packet, as far as it has a header.
pub fn seal(packet: &mut [u8]) {
    if packet.len() < HEADER_LEN {
        return;
    }
    let length = (packet.len() - HEADER_LEN) as u32;
    packet[16..20].copy_from_slice(&length.to_le_bytes());
    packet[20..24].fill(0);
    let mut sum = Sum::default();
    sum.add(packet);
    packet[20..24].copy_from_slice(&sum.check().to_le_bytes());
}

/// What a datagram is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Links still to go after the receiver.
    pub hop_limit: u8,
    /// Number.
    pub sequence: u64,
    /// Who sends, or is said to.
    pub source: NodeId,
    /// Who is to get it.
    pub destination: NodeId,
    /// Intermediate nodes.
    pub hops: Vec<HopId>,
    /// Proof of payment; none if empty.
    pub proof: Vec<u8>,
    /// What is carried.
    pub payload: Vec<u8>,
}

impl Parts {
    /// Takes a datagram apart; `None` if it is none.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let (header, body) = Header::parse(packet).ok()?;
        let d = Datagram::parse(header, body).ok()?;
        Some(Self {
            hop_limit: d.hop_limit,
            sequence: d.sequence,
            source: d.source,
            destination: d.destination,
            hops: d.route().to_vec(),
            proof: d.signed.map_or(Vec::new(), |s| s.proof.to_vec()),
            payload: d.payload.to_vec(),
        })
    }

    /// Puts one together, signed with a key where there is a proof.
    pub fn sign(&self, key: &bitcoin::secp256k1::SecretKey) -> Vec<u8> {
        let secp = Secp256k1::new();
        let me = Identity::new(&secp, key);
        let emit = Emit {
            hop_limit: self.hop_limit,
            sequence: self.sequence,
            source: self.source,
            destination: self.destination,
            proof: (!self.proof.is_empty()).then_some((me.public_key(), &self.proof[..])),
        };
        let mut out = vec![0; 400 + self.proof.len()];
        let hops = &self.hops[..self.hops.len().min(16)];
        let n = emit.write(hops, &self.payload, &mut out, |hash| me.sign(&secp, hash));
        out.truncate(n.expect("it fits"));
        out.extend(&self.payload);
        out
    }

    /// What must have been paid for.
    pub fn terms(&self, config: &Config) -> OwnTerms {
        OwnTerms {
            network: config.network,
            source: self.source,
            destination: self.destination,
            hops: self.hops.clone(),
            quota: self.payload.len() as u64,
        }
    }
}

impl World {
    /// One bad deed of a node: packets on its links that no honest node sends.
    pub fn attack(&mut self, m: usize) {
        let links = self.links(m);
        if links.is_empty() {
            return;
        }
        let (link, victim) = self.rng.pick(&links);
        let packets = match self.rng.below(20) {
            0..=3 => self.edited(m, true),
            4 => self.edited(m, false),
            5..=9 => self.unpaid(m, victim),
            10 | 11 => self.twice(m, victim),
            12 | 13 => self.again(m),
            14 | 15 => self.stolen(m, victim),
            16 => self.errors(m, victim),
            17 => self.replies(m, victim),
            _ => self.requests(m),
        };
        self.checks.count("attacks");
        let all = self.rng.one_in(3);
        for packet in packets {
            for (other, _) in links.iter().filter(|(l, _)| all || *l == link) {
                self.transmit(*other, packet.clone(), vec![m]);
            }
        }
    }

    /// Changes a packet that a dishonest node passes on.
    pub(super) fn meddle(&mut self, packet: &mut [u8]) {
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
    fn edited(&mut self, m: usize, well_formed: bool) -> Vec<Vec<u8>> {
        let Some(newest) = self.nodes[m].tap.len().checked_sub(1) else { return Vec::new() };
        let at = newest - self.rng.index(newest + 1).min(self.rng.index(newest + 1));
        let mut packet = self.nodes[m].tap[at].clone();
        let ids: Vec<NodeId> = self.nodes.iter().map(|n| n.id).collect();
        let rng = &mut self.rng;
        let times = if rng.one_in(2) { 1 } else { rng.within(0, 3) };
        for _ in 0..times {
            let len = packet.len();
            match rng.below(if well_formed { 6 } else { 9 }) {
                0 => packet[7] = if rng.one_in(2) { rng.below(18) as u8 } else { packet[7] + 1 },
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

    /// A datagram of its own through or to a neighbour.
    fn own(&mut self, m: usize, via: usize) -> Parts {
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
    fn unpaid(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
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
                let mut own = Bank::new(m as u8 + 1);
                let hash = own.issue(terms, amount, unix, lifetime);
                let preimage = own.issued[&hash].preimage;
                let hint = if self.rng.one_in(2) { accepted } else { own.public_key() };
                own.lie(&hash, preimage, &hint)
            }
            // A real invoice that was not paid.
            1 => {
                let hash = self.bank.issue(terms, amount, unix, lifetime);
                let preimage = self.rng.bytes32();
                self.bank.lie(&hash, preimage, &accepted)
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

    /// Pays once and sends several times, over one and over other routes.
    fn twice(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let mut parts = self.own(m, via);
        let terms = parts.terms(&self.nodes[via].config);
        parts.proof = self.bank.proof(terms, 100_000, self.unix(), 60);
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

    /// What it paid for some time ago, once more.
    fn again(&mut self, m: usize) -> Vec<Vec<u8>> {
        if self.nodes[m].paid.is_empty() {
            return Vec::new();
        }
        let at = self.rng.index(self.nodes[m].paid.len());
        let parts = Parts { sequence: self.rng.draw(), ..self.nodes[m].paid[at].clone() };
        vec![parts.sign(&self.nodes[m].key)]
    }

    /// The proof of somebody else, in a datagram of its own.
    fn stolen(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
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

    fn errors(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let seen: Vec<Parts> = self.nodes[m].tap.iter().filter_map(|p| Parts::of(p)).collect();
        let real = (!seen.is_empty()).then(|| seen[self.rng.index(seen.len())].clone());
        let parts = real.unwrap_or_else(|| self.own(m, via));
        let n = self.nodes.len();
        let (a, b) = (self.rng.index(n), self.rng.index(n));
        let error = RouteError {
            hop_limit: self.rng.below(4) as u8,
            sequence: parts.sequence,
            source: parts.source,
            destination: parts.destination,
            reporter: self.id(a),
            next: self.id(b).hop(),
            cause: self.rng.pick(Cause::ALL),
            hops: parts.hops.iter().copied().collect(),
        };
        let mut out = vec![0; 400];
        let n = error.write(&mut out).expect("it fits");
        out.truncate(n);
        vec![out]
    }

    fn hops(&mut self, m: usize) -> Hops {
        let n = self.rng.below(4);
        let mut hops: Hops = (0..n)
            .map(|_| {
                let any = self.rng.index(self.nodes.len());
                Hop { node: self.id(any), tariff: Tariff::default() }
            })
            .collect();
        let _ = hops.push(Hop { node: self.id(m), tariff: Tariff::default() });
        hops
    }

    /// Answers to requests that came by, in the name of others or his own.
    fn replies(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let requests: Vec<RouteRequest> = self.nodes[m]
            .tap
            .iter()
            .filter_map(|p| {
                let (header, body) = Header::parse(p).ok()?;
                RouteRequest::parse(header, body).ok()
            })
            .collect();
        if requests.is_empty() {
            return Vec::new();
        }
        let request = requests[self.rng.index(requests.len())].clone();
        let secp = Secp256k1::new();
        let me = Identity::new(&secp, &self.nodes[m].key);
        let mut hops = request.hops;
        if self.rng.one_in(2) {
            let _ = hops
                .push(Hop { node: self.id(via), tariff: self.nodes[via].config.payment.tariff });
            let more = self.hops(m);
            hops.extend(more.into_iter().take(16 - hops.len()));
        }
        let own = self.rng.one_in(2);
        let mut reply = RouteReply {
            hop_limit: self.rng.below(hops.len() as u64 + 2) as u8,
            sequence: request.sequence,
            source: request.source,
            destination: if own { me.id() } else { request.destination },
            min_packet: self.rng.draw() as u32,
            quality: self.rng.draw() as u32,
            tariff: Tariff::default(),
            public_key: *me.public_key(),
            signature: [0; 64],
            hops,
        };
        reply.signature = me.sign(&secp, &reply.sighash());
        let mut out = vec![0; 1000];
        let n = reply.write(&mut out).expect("it fits");
        out.truncate(n);
        vec![out]
    }

    /// Many requests, in his own name and in those of others.
    fn requests(&mut self, m: usize) -> Vec<Vec<u8>> {
        let count = self.rng.within(1, 60);
        let mut out = Vec::new();
        for _ in 0..count {
            let n = self.nodes.len();
            let (a, b) = (self.rng.index(n), self.rng.index(n));
            let own = self.rng.one_in(2);
            let request = RouteRequest {
                hop_limit: self.rng.below(18) as u8,
                sequence: self.rng.draw(),
                source: if own { self.id(m) } else { self.id(a) },
                destination: if self.rng.one_in(2) {
                    self.id(b)
                } else {
                    NodeId(self.rng.bytes32())
                },
                min_packet: self.rng.draw() as u32,
                quality: self.rng.draw() as u32,
                hops: if own { Hops::new() } else { self.hops(m) },
            };
            let mut packet = vec![0; 1000];
            let n = request.write(&mut packet).expect("it fits");
            packet.truncate(n);
            out.push(packet);
        }
        if self.rng.one_in(4) {
            let kind =
                self.rng.pick(&[Kind::Open, Kind::Data, Kind::Ack, Kind::Close, Kind::Hello]);
            let header = Header { kind, flags: 0, hop_limit: 0, sequence: self.rng.draw() };
            let mut packet = header.bytes(0).to_vec();
            packet.extend(self.rng.vec(24));
            seal(&mut packet);
            out.push(packet);
        }
        out
    }
}
