//! Invoices, packed proofs and covenant proofs.

use super::Seed;
use super::bitcoin_messages::segwit_transaction;
use crate::fuzz::bolt11::signer;
use crate::fuzz::covenant::{PAYOUT, locked};
use crate::fuzz::packed::TERMS;
use crate::fuzz::proof::{HOPS, NOW, terms};
use crate::invoice::Order;
use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{PublicKey, Secp256k1};
use bitcoin::{Amount, ScriptBuf, TxOut, WPubkeyHash};
use blvm_mesh_core::payment::covenant::CovenantProof;
use blvm_mesh_core::payment::covenant::proof::MAX_PROOF;
use blvm_mesh_core::payment::fee::FeeDistribution;
use blvm_mesh_core::payment::packed::{IssuerHint, pack};
use blvm_mesh_core::payment::proof::INSTANT_SETTLEMENT;
use lightning_invoice::{
    Bolt11InvoiceDescription, Currency, Description, Fallback, InvoiceBuilder, PaymentSecret,
    RouteHint, RouteHintHop, RoutingFees,
};
use std::time::Duration;

const PREIMAGE: [u8; 32] = [6; 32];

fn key() -> PublicKey {
    signer().public_key(&Secp256k1::signing_only())
}

/// An invoice in words, with or without all that may be in one.
fn invoice(currency: Currency, description: &str, everything: bool) -> String {
    let description = Description::new(description.into()).expect("short");
    let mut builder = InvoiceBuilder::new(currency)
        .invoice_description(Bolt11InvoiceDescription::Direct(description))
        .payment_hash(sha256::Hash::hash(&PREIMAGE))
        .payment_secret(PaymentSecret([5; 32]))
        .duration_since_epoch(Duration::from_secs(1_750_000_000))
        .min_final_cltv_expiry_delta(18);
    if everything {
        let hop = RouteHintHop {
            src_node_id: key(),
            short_channel_id: 0x0102_0304_0506_0708,
            fees: RoutingFees { base_msat: 1, proportional_millionths: 20 },
            cltv_expiry_delta: 3,
            htlc_minimum_msat: None,
            htlc_maximum_msat: None,
        };
        builder = builder
            .amount_milli_satoshis(2_500_000)
            .expiry_time(Duration::from_secs(86_400))
            .payee_pub_key(key())
            .basic_mpp()
            .fallback(Fallback::PubKeyHash(bitcoin::PubkeyHash::from_byte_array([7; 20])))
            .private_route(RouteHint(vec![hop]));
    }
    let secp = Secp256k1::signing_only();
    let signed = builder.build_signed(|m| secp.sign_ecdsa_recoverable(m, &signer()));
    signed.expect("a complete invoice").to_string()
}

/// A payment of 100,000 satoshi over the hops, by a wallet that takes change.
fn covenant() -> Vec<u8> {
    let output = |sat, script: &[u8]| TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: ScriptBuf::from(script.to_vec()),
    };
    let shares = FeeDistribution::new(100_000_000, HOPS.len()).expect("few hops");
    let change = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([9; 20]));
    let mut template = segwit_transaction();
    template.input[0].witness.clear();
    template.output = vec![output(5_000, change.as_bytes())];
    let paid = shares.intermediates.iter().chain([&shares.destination, &shares.source]);
    template.output.extend(paid.map(|msat| output(msat / 1_000, &PAYOUT)));
    // For the terms.
    template.output.push(output(0, &[]));
    let mut funding = segwit_transaction();
    funding.input[0].witness.clear();
    funding.output.push(output(106_000, &[]));
    let (template, funding) = (serialize(&template), serialize(&funding));
    let proof = CovenantProof {
        output_index: 1,
        template: &template,
        funding: &funding,
        block_hash: [8; 32],
        position: 2,
        siblings: &[0xaa; 64],
    };
    let bytes = locked(&proof).expect("whole transactions");
    assert!(bytes.len() <= MAX_PROOF);
    bytes
}

pub(super) fn seeds() -> Vec<Seed> {
    let hashed = Order::new(signer(), TERMS, 10_000, 1_750_000_000);
    let digits: String = TERMS.iter().map(|byte| format!("{byte:02x}")).collect();
    let everything = invoice(Currency::Bitcoin, &format!("blvm-mesh:{digits}"), true);
    let mut packed = vec![0; 1024];
    let hint = IssuerHint::of(&key());
    let len = pack(&everything, &PREIMAGE, &TERMS, hint, &mut packed).expect("it fits");
    packed.truncate(len);
    let order = Order::new(signer(), terms().hash(), 100_000, NOW - 60);
    let covenant = covenant();
    vec![
        ("bolt11", "hash", hashed.invoice().into_bytes()),
        ("bolt11", "no-amount", invoice(Currency::Signet, "tea", false).into_bytes()),
        ("bolt11", "everything", everything.to_uppercase().into_bytes()),
        ("packed", "hash", hashed.proof()[1..].to_vec()),
        ("packed", "everything", packed),
        ("covenant", "destination", [&[0][..], &covenant].concat()),
        ("covenant", "relay", [&[2][..], &covenant].concat()),
        ("proof", "lightning", [&[0][..], &order.proof()].concat()),
        ("proof", "covenant", [&[0, INSTANT_SETTLEMENT][..], &covenant].concat()),
    ]
}
