//! Datagrams taken apart and put together by whoever likes.

use crate::payments::bank::OwnTerms;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::signature::Identity;
use blvm_mesh_core::wire::checksum::Sum;
use blvm_mesh_core::wire::datagram::{Datagram, Emit, Form};
use blvm_mesh_core::wire::{HEADER_LEN, Header};
use secp256k1::Secp256k1;

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
    pub fn sign(&self, key: &secp256k1::SecretKey) -> Vec<u8> {
        let secp = Secp256k1::new();
        let me = Identity::new(&secp, key);
        let emit = Emit {
            hop_limit: self.hop_limit,
            sequence: self.sequence,
            source: self.source,
            destination: self.destination,
            proof: (!self.proof.is_empty()).then_some((me.public_key(), &self.proof[..])),
            form: Form::Plain,
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
