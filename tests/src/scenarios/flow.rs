//! A flow over the relay, and the ticket that pays for it.

use super::relay::{KEY, Relay, secret};
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::flow::tickets::{Sale, Tickets};
use blvm_mesh_core::mesh::ticket_key;
use blvm_mesh_core::tables::Heap;
use blvm_mesh_core::wire::Kind;
use blvm_mesh_core::wire::account::{Message, Pay};
use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};
use blvm_mesh_core::wire::flow::{self, ACT_LEN, OpenTerms};
use secp256k1::Secp256k1;

/// What the ticket's invoice reveals once it is paid.
const PREIMAGE: [u8; 32] = [7; 32];
const RANDOM: [u8; 16] = [4; 16];

impl Relay {
    /// Shows a ticket for so many bytes: one that the relay's cashier has issued in this run.
    pub fn pay_for(&self, sequence: u64, bytes: u64) -> Vec<u8> {
        let mut cashier = Tickets::<Heap>::EMPTY;
        cashier.prepare(1, [1; 16], ticket_key(&secret(KEY)));
        cashier.begin(0, self.mesh.run());
        let (source, hash) = (self.source(), sha256::Hash::hash(&PREIMAGE).to_byte_array());
        let sale = Sale { bytes, amount_msat: 50_000, open_number: 0 };
        let ticket = cashier.issue(0, source.hop(), &source, hash, sale).expect("it has room");
        let emit = Emit {
            hop_limit: 0,
            sequence,
            source,
            destination: self.mesh.id(),
            proof: None,
            form: Form::Account,
        };
        let payload = Message::Pay(Pay { ticket, preimage: PREIMAGE }).bytes::<128>();
        let payload = payload.expect("it has room");
        let mut packet = vec![0; head_len(0, 0)];
        emit.write(&[], &payload, &mut packet, |_| [0; 64]).expect("room for the head");
        [packet, payload.to_vec()].concat()
    }

    /// Opens a flow through the relay.
    pub fn open(&self) -> Vec<u8> {
        self.open_with(RANDOM)
    }

    /// The same with other random bytes: another flow.
    pub fn open_with(&self, random: [u8; 16]) -> Vec<u8> {
        let terms = OpenTerms {
            random,
            open_number: 1,
            max_bytes: u64::MAX,
            max_packet: 1280,
            idle_s: 60,
            act: [5; ACT_LEN],
        };
        let terms = terms.bytes();
        let public = self.source.public_key().serialize();
        let emit = Emit {
            hop_limit: 1,
            sequence: self.flow(&random),
            source: self.source(),
            destination: self.destination,
            proof: Some((&public, &terms)),
            form: Form::Open,
        };
        let mut packet = vec![0; head_len(1, terms.len())];
        let sign = |hash: &[u8; 32]| {
            Secp256k1::new().sign_schnorr_no_aux_rand(hash, &self.source).to_byte_array()
        };
        emit.write(&[self.mesh.id().hop()], &[], &mut packet, sign).expect("room for the head");
        packet
    }

    /// A packet of data of the flow, so many bytes with its header.
    pub fn data(&self, len: usize) -> Vec<u8> {
        self.data_of(RANDOM, len)
    }

    /// The same of a flow with other random bytes.
    pub fn data_of(&self, random: [u8; 16], len: usize) -> Vec<u8> {
        let mut packet = vec![0; len];
        let body = vec![7; len - blvm_mesh_core::wire::HEADER_LEN];
        flow::write(Kind::Data, self.flow(&random), 1, &body, &mut packet).expect("room for it");
        packet
    }

    fn flow(&self, random: &[u8; 16]) -> u64 {
        flow::number(&self.source(), &self.destination, random)
    }
}
