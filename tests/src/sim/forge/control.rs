//! False control packets: about routes and neighbours.

use super::super::World;
use super::super::bytes::{Bytes, Path};
use super::super::wires::LinkCode;
use super::{Parts, seal};
use blvm_mesh_core::config::{MAX_HOPS, MeshMode};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::signature::Identity;
use blvm_mesh_core::wire::accepted::Accepted;
use blvm_mesh_core::wire::hello::{self, Hello, Told};
use blvm_mesh_core::wire::route_error::{Cause, RouteError};
use blvm_mesh_core::wire::route_reply::RouteReply;
use blvm_mesh_core::wire::route_request::{Hop, Hops, RouteRequest};
use blvm_mesh_core::wire::{Header, Kind};
use secp256k1::Secp256k1;

impl World {
    /// A hello with what comes to mind.
    pub(super) fn hellos(&mut self) -> Vec<Vec<u8>> {
        let modes = [MeshMode::BitcoinOnly, MeshMode::PaymentGated, MeshMode::Open];
        let hello = Hello {
            missing: self.rng.one_in(2),
            network: if self.rng.one_in(4) { Network::Mainnet } else { Network::Regtest },
            mode: self.rng.pick(&modes),
            quality: self.rng.draw() as u16,
            max_packet: self.rng.pick(&[0, 24, 300, 65_536, u32::MAX]),
            tariff: Tariff {
                base_msat: self.rng.pick(&[0, 1, u32::MAX]),
                per_kib_msat: self.rng.pick(&[0, 1, u32::MAX]),
            },
            keepalive_ms: self.rng.pick(&[0, 1, 1000, u32::MAX]),
            unix: u32::MAX,
            free: [self.rng.pick(&[Told::ANY, Told::default()]); 3],
            issuers: Default::default(),
        };
        let mut out = vec![0; hello::MAX_LEN];
        let n = hello.write(&mut out).expect("it fits");
        out.truncate(n);
        vec![out]
    }

    /// Two adversaries pass to each other, over no link of the mesh, what came by, and
    /// send it on as if they were neighbours.
    pub(super) fn wormhole(&mut self, m: usize) {
        let adversaries: Vec<usize> =
            (0..self.nodes.len()).filter(|n| *n != m && !self.nodes[*n].honest).collect();
        let Some(newest) = self.nodes[m].tap.len().checked_sub(1) else { return };
        if adversaries.is_empty() {
            return;
        }
        let (other, at) = (self.rng.pick(&adversaries), newest - self.rng.index(newest.min(4) + 1));
        let packet = self.nodes[m].tap[at].clone();
        let request = Header::parse(&packet).and_then(|(h, body)| RouteRequest::parse(h, body));
        let packet = match request {
            // As a request that both have passed on.
            Ok(mut request) => {
                request.accepted = self.misreport_payments(&request.accepted);
                for n in [m, other] {
                    let node = self.id(n).hop();
                    if request.hops.iter().all(|h| h.node != node) {
                        let _ = request.hops.push(Hop { node, tariff: Tariff::default() });
                    }
                }
                let mut out = vec![0; 2000];
                let n = request.write(&mut out).expect("it fits");
                out.truncate(n);
                Bytes::from(out)
            }
            Err(_) => packet,
        };
        self.checks.count("through a wormhole");
        for (link, _) in self.links(other) {
            self.transmit(link, packet.clone(), Path::default().then(other));
        }
    }

    /// Opens connections and says nothing on them.
    pub(super) fn half_open(&mut self, m: usize, victim: usize) {
        let line = self.line_between(m, victim);
        let Some(line) = line.filter(|line| line.code == LinkCode::Stream) else { return };
        self.checks.count("half-open handshakes");
        for _ in 0..self.rng.clone().within(1, 5) {
            let conn = self.connect(m, victim, line);
            // Its first act is never sent.
            self.conns[conn].mute = true;
        }
    }

    pub(super) fn errors(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
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
        let mut out = vec![0; 600];
        let n = error.write(&mut out).expect("it fits");
        out.truncate(n);
        vec![out]
    }

    /// Receipts for paid datagrams of a neighbour that did not go by him, as they are and as if
    /// they had. He even knows their numbers.
    pub(super) fn receipts(&mut self, m: usize, victim: usize) -> Vec<Vec<u8>> {
        let sent = self.nodes[victim].own_paid.values();
        let sent: Vec<Parts> = sent.filter_map(|paid| Parts::of(&paid.bytes)).collect();
        let me = self.id(m);
        let foreign = |p: &&Parts| p.destination != me && !p.hops.contains(&me.hop());
        let mut out = Vec::new();
        for parts in sent.iter().filter(foreign) {
            let behind = parts.hops.iter().skip(1).copied();
            let over_him = [me.hop()].into_iter().chain(behind).collect();
            for hops in [parts.hops.iter().copied().collect(), over_him] {
                let error = RouteError {
                    hop_limit: 0,
                    sequence: parts.sequence,
                    source: parts.source,
                    destination: parts.destination,
                    reporter: parts.destination,
                    next: parts.destination.hop(),
                    cause: Cause::Delivered,
                    hops,
                };
                let mut packet = vec![0; 600];
                let n = error.write(&mut packet).expect("it fits");
                packet.truncate(n);
                out.push(packet);
            }
        }
        out
    }

    fn hops(&mut self, m: usize) -> Hops {
        let n = self.rng.below(4);
        let mut hops: Hops = (0..n)
            .map(|_| {
                let any = self.rng.index(self.nodes.len());
                Hop { node: self.id(any).hop(), tariff: Tariff::default() }
            })
            .collect();
        let _ = hops.push(Hop { node: self.id(m).hop(), tariff: Tariff::default() });
        hops
    }

    /// A false statement of what all nodes on a route accept as payment, where there is one.
    fn misreport_payments(&mut self, told: &Option<Accepted>) -> Option<Accepted> {
        told.as_ref()?;
        let random = self.rng.bytes32();
        let issuers = random.as_chunks().0.iter().copied().collect();
        let more = Accepted { min_confirmations: 1, issuers: Some(issuers) };
        Some(self.rng.pick(&[&Accepted::ANY, &Accepted::NOTHING, &more]).clone())
    }

    /// Answers to requests that came by, in the name of others or his own.
    pub(super) fn replies(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
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
        let accepted = self.misreport_payments(&request.accepted);
        let secp = Secp256k1::new();
        let me = Identity::new(&secp, &self.nodes[m].key);
        let mut hops = request.hops;
        if self.rng.one_in(2) {
            let _ = hops.push(Hop {
                node: self.id(via).hop(),
                tariff: self.nodes[via].config.payment.tariff,
            });
            let more = self.hops(m);
            hops.extend(more.into_iter().take(MAX_HOPS - hops.len()));
        }
        let own = self.rng.one_in(2);
        let asked = self
            .by_hop
            .get(&request.destination)
            .map_or([2; 33], |n| *Identity::new(&secp, &self.nodes[*n].key).public_key());
        let mut reply = RouteReply {
            hop_limit: self.rng.below(hops.len() as u64 + 2) as u8,
            sequence: request.sequence,
            source: request.source,
            min_packet: self.rng.draw() as u32,
            quality: self.rng.draw() as u32,
            accepted,
            tariff: Tariff::default(),
            public_key: if own { *me.public_key() } else { asked },
            signature: [0; 64],
            hops,
        };
        reply.signature = me.sign(&secp, &reply.sighash());
        let mut out = vec![0; 2000];
        let n = reply.write(&mut out).expect("it fits");
        out.truncate(n);
        vec![out]
    }

    /// Many requests, in his own name and in those of others.
    pub(super) fn requests(&mut self, m: usize) -> Vec<Vec<u8>> {
        let count = self.rng.within(1, 60);
        let mut out = Vec::new();
        for _ in 0..count {
            let n = self.nodes.len();
            let (a, b) = (self.rng.index(n), self.rng.index(n));
            let (own, asks) = (self.rng.one_in(2), self.rng.one_in(4));
            let request = RouteRequest {
                flags: self.rng.below(4) as u8,
                hop_limit: self.rng.below(50) as u8,
                sequence: self.rng.draw(),
                source: if own { self.id(m).hop() } else { self.id(a).hop() },
                destination: if self.rng.one_in(2) {
                    self.id(b).hop()
                } else {
                    NodeId(self.rng.bytes32()).hop()
                },
                min_packet: self.rng.draw() as u32,
                quality: self.rng.draw() as u32,
                accepted: self.misreport_payments(&asks.then_some(Accepted::ANY)),
                hops: if own { Hops::new() } else { self.hops(m) },
            };
            let mut packet = vec![0; 2000];
            let n = request.write(&mut packet).expect("it fits");
            packet.truncate(n);
            out.push(packet);
        }
        if self.rng.one_in(4) {
            let kind = self.rng.pick(&[
                Kind::Open,
                Kind::Data,
                Kind::Ack,
                Kind::Close,
                Kind::Hello,
                Kind::KeepAlive,
            ]);
            let header = Header { kind, flags: 0, hop_limit: 0, sequence: self.rng.draw() };
            let mut packet = header.bytes(0).to_vec();
            packet.extend(self.rng.vec(24));
            seal(&mut packet);
            out.push(packet);
        }
        out
    }
}
