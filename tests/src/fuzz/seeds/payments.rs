//! Invoices, packed proofs and covenant proofs.

use super::Seed;
use crate::fuzz::bolt11::signer;
use crate::fuzz::covenant_payment::pay;
use crate::fuzz::packed::TERMS;
use crate::fuzz::proof::{NOW, terms};
use crate::payments::invoice::{Order, older_key, sign};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1 as older;
use blvm_mesh_core::payment::packed::{IssuerHint, pack};
use blvm_mesh_core::payment::proof::INSTANT_SETTLEMENT;
use lightning_invoice::{
    Bolt11InvoiceDescription, Currency, Description, Fallback, InvoiceBuilder, PaymentSecret,
    RouteHint, RouteHintHop, RoutingFees,
};
use secp256k1::Secp256k1;
use std::time::Duration;

const PREIMAGE: [u8; 32] = [6; 32];

fn key() -> older::PublicKey {
    older_key(&signer()).public_key(&older::Secp256k1::new())
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
    let signed = builder.build_signed(|m| sign(m, &signer()));
    signed.expect("a complete invoice").to_string()
}

pub(super) fn seeds() -> Vec<Seed> {
    let hashed = Order::new(signer(), TERMS, 10_000, 1_750_000_000);
    let digits: String = TERMS.iter().map(|byte| format!("{byte:02x}")).collect();
    let everything = invoice(Currency::Bitcoin, &format!("blvm-mesh:{digits}"), true);
    let mut packed = vec![0; 1024];
    let hint = IssuerHint::of(&signer().public_key(&Secp256k1::signing_only()));
    let len = pack(&everything, &PREIMAGE, &TERMS, hint, &mut packed).expect("it fits");
    packed.truncate(len);
    let order = Order::new(signer(), terms().hash(), 100_000, NOW - 60);
    let covenant = pay(&terms(), 0).proof;
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
