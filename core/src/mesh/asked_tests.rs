//! Where the operator's Lightning node signs for others too, only what this node asked for counts.

use super::lightning_tests::{NOW, PAYLOAD, World, any_proof, line, refusal};
use super::test_world::Outcome;
use super::*;
use crate::config::MeshMode;
use crate::payment::lightning::LightningError;
use crate::payment::packed::PackedProof;
use sha2::{Digest, Sha256};
use std::vec::Vec;

/// A, B and C, whose payments B's own Lightning node writes the invoices for.
fn world() -> World {
    let mut w = line(&[MeshMode::PaymentGated; 3], false);
    let config = &mut w.nodes[1].config.payment;
    config.shared_issuer = Some(config.issuers[0]);
    w
}

fn payment_hash(proof: &[u8]) -> [u8; 32] {
    Sha256::digest(PackedProof::parse(&proof[1..]).unwrap().preimage()).into()
}

fn is_taken(w: &mut World, number: u64, proof: &[u8]) -> bool {
    let packet = w.packet(&[0, 1, 2], number, &PAYLOAD, proof);
    let did = w.receive(1, World::link(1, 0), packet);
    let taken = |(_, outcome): &(usize, Outcome)| {
        matches!(outcome, Outcome::Publish(Event::PaymentVerified { .. }))
    };
    did.iter().any(taken)
}

fn assert_refused(w: &mut World, number: u64, proof: &[u8]) {
    let packet: Vec<u8> = w.packet(&[0, 1, 2], number, &PAYLOAD, proof);
    let (reason, _) = refusal(w, 1, 0, packet);
    assert_eq!(reason, PaymentReason::Lightning(LightningError::NotAsked).into());
}

#[test]
fn the_invoice_of_another_customer_of_the_same_key_is_refused_and_changes_nothing() {
    let mut w = world();
    let proof = any_proof(&w, &[0, 1, 2], 1);
    let ours = any_proof(&w, &[0, 1, 2], 2);
    let asked = |proof: &[u8]| Input::InvoiceAsked {
        payment_hash: payment_hash(proof),
        expires_at: NOW + 3_600,
    };
    w.give(1, asked(&ours));
    assert_refused(&mut w, 1, &proof);
    assert!(is_taken(&mut w, 2, &ours));
    // It was not booked either: asked for, it pays.
    w.give(1, asked(&proof));
    assert!(is_taken(&mut w, 3, &proof));
}

#[test]
fn another_issuer_needs_no_list() {
    let mut w = world();
    let rules = &mut w.nodes[1].config.payment;
    let other = SecretKey::from_byte_array([0x16; 32]).unwrap().public_key(&Secp256k1::new());
    rules.shared_issuer = Some(other);
    rules.issuers.push(other).unwrap();
    let proof = any_proof(&w, &[0, 1, 2], 1);
    assert!(is_taken(&mut w, 1, &proof));
}
