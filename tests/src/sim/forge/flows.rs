//! Lies about flows: Opens, data, payments and reports that no honest node sends.

use super::super::World;
use super::super::bytes::Bytes;
use super::super::flows::truth::{kind_of, open_in};
use super::super::flows::{Sale, Wish};
use super::seal;
use blvm_mesh_core::flow::end::handshake::{Bound, Opening};
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::mesh::FlowId;
use blvm_mesh_core::signature::Identity;
use blvm_mesh_core::wire::account::{Invoice, InvoiceRequest, MAX_LEN, Message};
use blvm_mesh_core::wire::datagram::{Datagram, Emit, FLAG_ACCOUNT, Form};
use blvm_mesh_core::wire::flow::{self, FlowError, OpenTerms};
use blvm_mesh_core::wire::route_error::Cause;
use blvm_mesh_core::wire::{Header, Kind};
use secp256k1::{Keypair, Secp256k1, SecretKey};

/// Data that is sent beyond the credit at a time.
const BEYOND: usize = 48;

/// An account message with the datagram around it.
pub(in crate::sim) fn account_in(packet: &[u8]) -> Option<(Datagram<'_>, Message<'_>)> {
    let (header, body) = Header::parse(packet).ok()?;
    let datagram = Datagram::parse(header, body).ok().filter(|d| d.form == Form::Account)?;
    Some((datagram, Message::parse(datagram.payload).ok()?))
}

/// Whether it belongs to flows, and what it is.
pub(in crate::sim) fn about_flows(packet: &[u8]) -> Option<Kind> {
    let (kind, _) = kind_of(packet)?;
    match kind {
        Kind::Datagram if packet.get(6) == Some(&FLAG_ACCOUNT) => Some(kind),
        Kind::Open | Kind::Opened | Kind::Data | Kind::Close | Kind::FlowError => Some(kind),
        _ => None,
    }
}

fn packet(kind: Kind, flow: u64, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; body.len() + 64];
    let len = flow::write(kind, flow, hop_limit, body, &mut out).expect("there is room");
    out.truncate(len);
    out
}

impl World {
    /// Packets about flows that came by.
    fn seen(&self, m: usize, kind: Kind) -> Vec<Bytes> {
        self.nodes[m].flow_tap.get(&(kind as u8)).into_iter().flatten().cloned().collect()
    }

    /// An Open that is signed with a key.
    pub fn sign_open(
        &self,
        key: &SecretKey,
        hops: &[HopId],
        to: usize,
        terms: &OpenTerms,
    ) -> Vec<u8> {
        let secp = Secp256k1::new();
        let me = Identity::new(&secp, key);
        let (source, destination, terms_bytes) = (me.id(), self.id(to), terms.bytes());
        let emit = Emit {
            hop_limit: hops.len() as u8,
            sequence: flow::number(&source, &destination, &terms.random),
            source,
            destination,
            proof: Some((me.public_key(), &terms_bytes)),
            form: Form::Open,
        };
        let mut out = vec![0; 1000];
        let len = emit.write(hops, &[], &mut out, |hash| me.sign(&secp, hash));
        out.truncate(len.expect("it fits"));
        out
    }

    /// New terms of an Open, with an act that the destination can answer.
    pub fn new_terms(&mut self, m: usize, to: usize, open_number: u64) -> OpenTerms {
        let secp = Secp256k1::new();
        let random = *self.rng.bytes32().first_chunk().expect("it is shorter");
        let ephemeral = Keypair::from_seckey_byte_array(&secp, self.rng.bytes32()).expect("a key");
        let (source, destination) = (self.id(m), self.id(to));
        let number = flow::number(&source, &destination, &random);
        let network = self.nodes[m].config.network;
        let bound = Bound { flow: number, network, source, destination };
        let key = self.nodes[to].key.public_key(&secp);
        let (_, act) = Opening::start::<RustCrypto>(&bound, &ephemeral, &key);
        OpenTerms { random, open_number, max_bytes: 1 << 40, idle_s: 3600, max_packet: 4096, act }
    }

    /// An account message from a node to another.
    pub fn account_message(
        &mut self,
        from: NodeId,
        to: NodeId,
        hops: &[HopId],
        m: &Message<'_>,
    ) -> Vec<u8> {
        let payload = m.bytes::<{ MAX_LEN }>().expect("it fits");
        let (hop_limit, sequence) = (hops.len() as u8, self.rng.draw());
        let form = Form::Account;
        let emit = Emit { hop_limit, sequence, source: from, destination: to, proof: None, form };
        let mut out = vec![0; 600];
        let len = emit.write(hops, &payload, &mut out, |_| [0; 64]).expect("it fits");
        out.truncate(len);
        out.extend(&payload);
        seal(&mut out);
        out
    }

    /// Data of a flow of his own, more than was paid for.
    pub(super) fn overdraw(&mut self, m: usize) {
        let run = self.nodes[m].boots;
        let own = |f: &super::super::flows::Flow| f.is_open_at(m, run) && !f.hops.is_empty();
        let flows: Vec<_> = self.flows.all.iter().filter(|(_, f)| own(f)).collect();
        let Some((number, hops)) = flows.first().map(|(number, f)| (**number, f.hops.clone()))
        else {
            let to = self.rng.index(self.nodes.len());
            if self.flows.takes.contains(&m) && to != m && self.flows.all.len() < 24 {
                self.open_flow(m, to, Wish { close: false, ..Wish::default() });
            }
            return;
        };
        self.send_beyond(m, number, &hops, BEYOND);
    }

    /// Sends so many packets of data of a flow, whoever pays.
    pub fn send_beyond(&mut self, m: usize, number: FlowId, hops: &[usize], count: usize) {
        let Some(link) = self.link(m, hops[0]) else { return };
        self.checks.lied.insert(m);
        for _ in 0..count {
            let len = self.rng.within(1, 3_000) as usize;
            let body = self.rng.vec(len);
            let bytes = packet(Kind::Data, number.0, hops.len() as u8, &body);
            self.transmit(link, bytes.into(), super::Path::default().then(m));
        }
    }

    /// Opens that came by once more, and an own one over another route with the same number.
    pub(super) fn reopened(&mut self, m: usize, victim: usize) -> Vec<Vec<u8>> {
        let opens = self.seen(m, Kind::Open);
        let mut out: Vec<_> = opens.iter().map(|open| open.to_vec()).collect();
        let own = opens.iter().rev().filter_map(|open| open_in(open));
        let own = own
            .filter(|(open, _)| open.source == self.id(m))
            .map(|(open, terms)| (open.destination, terms))
            .next();
        // The next Open of somebody else, which he cannot sign.
        for (open, terms) in opens.iter().filter_map(|open| open_in(open)) {
            let signed = open.signed.map(|signed| signed.public_key);
            let next = OpenTerms { open_number: terms.open_number + 1, ..terms }.bytes();
            let (hop_limit, sequence, form) = (open.hop_limit, open.sequence, Form::Open);
            let (source, destination) = (open.source, open.destination);
            let proof = signed.map(|key| (key, &next[..]));
            let emit = Emit { hop_limit, sequence, source, destination, proof, form };
            let mut forged = vec![0; 1000];
            let len = emit.write(&open.route(), &[], &mut forged, |_| [7; 64]).expect("it fits");
            forged.truncate(len);
            out.push(forged);
        }
        if let Some((to, terms)) = own
            && let Some(to) = self.by_hop.get(&to.hop()).copied()
        {
            let hops = [self.id(victim).hop()];
            out.push(self.sign_open(&self.nodes[m].key, &hops, to, &terms));
        }
        out
    }

    /// Tickets that others have paid, again and as his own.
    pub(super) fn tickets(&mut self, m: usize, victim: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for seen in self.seen(m, Kind::Datagram) {
            if let Some((_, message @ Message::Pay(_))) = account_in(&seen) {
                // As if its source had sent it once more: nobody signs it.
                let mut again = seen.to_vec();
                again[8..16].copy_from_slice(&self.rng.draw().to_le_bytes());
                seal(&mut again);
                out.push(again);
                let (me, to) = (self.id(m), self.id(victim));
                out.push(self.account_message(me, to, &[], &message));
            }
        }
        out
    }

    /// The invoice that a node passes on, in place of which he puts one of his own.
    pub(in crate::sim) fn swapped(&mut self, m: usize, packet: &[u8]) -> Option<Vec<u8>> {
        let (datagram, message) = account_in(packet)?;
        let Message::Invoice(invoice) = message else { return None };
        let (source, amount_msat) = (datagram.destination, invoice.ticket.amount_msat);
        let bytes = invoice.ticket.bytes;
        let sale = Sale { node: m, writer: m, source, account: source, bytes, amount_msat };
        let text = self.write_invoice(sale);
        let secp = Secp256k1::new();
        let me = Identity::new(&secp, &self.nodes[m].key);
        let his_key = self.rng.one_in(2);
        let key = if his_key { me.public_key() } else { invoice.public_key };
        let unsigned = Invoice { invoice: &text, public_key: key, ..invoice };
        let signature = me.sign(&secp, &unsigned.sighash(&source));
        let swapped = Message::Invoice(Invoice { signature: &signature, ..unsigned });
        let hops = datagram.route();
        let payload = swapped.bytes::<{ MAX_LEN }>()?;
        let (hop_limit, sequence, form) = (datagram.hop_limit, datagram.sequence, Form::Account);
        let (source, destination) = (datagram.source, datagram.destination);
        let emit = Emit { hop_limit, sequence, source, destination, proof: None, form };
        let mut out = vec![0; 600];
        let len = emit.write(&hops, &payload, &mut out, |_| [0; 64]).ok()?;
        out.truncate(len);
        out.extend(&payload);
        seal(&mut out);
        self.checks.count("invoices swapped");
        Some(out)
    }

    /// Data that came by, again, as it is and with other places.
    pub(super) fn replayed(&mut self, m: usize) -> Vec<Vec<u8>> {
        // As whole flows, whose ends may have forgotten them.
        let opens = self.seen(m, Kind::Open);
        let mut out: Vec<_> = opens.iter().map(|open| open.to_vec()).collect();
        for seen in self.seen(m, Kind::Data) {
            out.push(seen.to_vec());
            let mut other = seen.to_vec();
            other[7] = self.rng.below(4) as u8;
            seal(&mut other);
            out.push(other);
        }
        out
    }

    /// Reports, answers and farewells of flows that came by.
    pub(super) fn broken_flows(&mut self, m: usize, cause: Option<Cause>) -> Vec<Vec<u8>> {
        let kinds = [Kind::Data, Kind::Open, Kind::Opened];
        let mut flows: Vec<u64> = kinds
            .iter()
            .flat_map(|kind| self.seen(m, *kind))
            .filter_map(|seen| Some(kind_of(&seen)?.1))
            .collect();
        flows.sort_unstable();
        flows.dedup();
        let mut out = Vec::new();
        for flow in flows {
            let hop_limit = self.rng.below(4) as u8;
            let any = self.rng.index(self.nodes.len());
            let reporter = if cause.is_some() || self.rng.one_in(2) { m } else { any };
            let reporter = self.id(reporter).hop();
            let said = cause.unwrap_or(self.rng.pick(Cause::ALL));
            let mut error = vec![0; 64];
            let written = FlowError { reporter, cause: said }.write(flow, hop_limit, &mut error);
            error.truncate(written.expect("it fits"));
            out.push(error);
            if cause.is_none() {
                out.push(packet(Kind::Close, flow, hop_limit, &[]));
                let act = self.rng.clone().vec(flow::ACT_LEN);
                out.push(packet(Kind::Opened, flow, hop_limit, &act));
            }
        }
        out
    }

    /// Flows to a neighbour, and over it, on which nothing is ever sent.
    pub(super) fn hoarded(&mut self, m: usize, victim: usize) -> Vec<Vec<u8>> {
        let behind: Vec<usize> = self.links(victim).iter().map(|(_, n)| *n).collect();
        let over = self.rng.pick(&behind);
        let mut out = Vec::new();
        for _ in 0..self.rng.clone().within(1, 20) {
            let (to, hops) = match over != m && self.rng.one_in(2) {
                true => (over, vec![self.id(victim).hop()]),
                false => (victim, Vec::new()),
            };
            let number = self.rng.draw();
            let terms = self.new_terms(m, to, number);
            out.push(self.sign_open(&self.nodes[m].key, &hops, to, &terms));
        }
        out
    }

    /// Requests for invoices that he never pays, also in names made up.
    pub(super) fn wanted_in_vain(&mut self, m: usize, victim: usize) -> Vec<Vec<u8>> {
        let secp = Secp256k1::new();
        let mut out = Vec::new();
        for _ in 0..self.rng.clone().within(1, 20) {
            let key = match self.rng.one_in(2) {
                true => self.nodes[m].key,
                false => SecretKey::from_byte_array(self.rng.bytes32()).expect("a key"),
            };
            let me = Identity::new(&secp, &key);
            let (source, to, sequence) = (me.id(), self.id(victim), self.rng.clone().draw());
            let unsigned = InvoiceRequest {
                bytes: self.rng.clone().within(1, 1 << 20),
                amount_msat: 1_000 * self.rng.clone().within(1, 100_000),
                open_number: self.rng.clone().draw(),
                public_key: me.public_key(),
                signature: &[0; 64],
            };
            let signature = me.sign(&secp, &unsigned.sighash(sequence, &source, &to));
            let request = InvoiceRequest { signature: &signature, ..unsigned };
            out.push(self.account_message(source, to, &[], &Message::InvoiceRequest(request)));
        }
        out
    }
}
