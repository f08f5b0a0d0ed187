//! The first verification of a Lightning proof against its one signature alone, and
//! against `lightning-invoice`.

use crate::measure::{Effort, job, line, nanoseconds};
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::payment::bolt11::Invoice;
use blvm_mesh_core::payment::lightning::{LightningLimits, LightningProof};
use blvm_mesh_tests::payments::bank::{Bank, OwnTerms};
use lightning_invoice::Bolt11Invoice;
use secp256k1::{Message, Secp256k1, ecdsa::Signature};
use std::hint::black_box;

const NOW: u64 = 1_750_000_000;

pub(crate) fn measure(effort: Effort) {
    let secp = Secp256k1::new();
    let mut bank = Bank::new(7);
    let issuer = bank.public_key();
    let own = OwnTerms {
        network: Network::Regtest,
        source: NodeId([3; 32]),
        destination: NodeId([4; 32]),
        hops: vec![HopId([1; 8]), HopId([2; 8])],
        quota: 1 << 20,
    };
    let hash = bank.issue(own.clone(), 1_234_567, NOW, 3600);
    let carried = bank.pay(&hash);
    let issued = &bank.issued[&hash];
    let (invoice, preimage) = (issued.text.as_str(), issued.preimage);
    // The byte before it tells the kind of proof.
    let packed = LightningProof::Packed(&carried[1..]);
    let text = LightningProof::Text { invoice, preimage, stated: None };

    let signed = Invoice::from_text(invoice).expect("valid").signature;
    let message = Message::from_digest(signed.signing_hash);
    let signature = Signature::from_compact(&signed.compact).expect("in range");
    let bare = || {
        secp.verify_ecdsa(*black_box(&message), black_box(&signature), &issuer).expect("valid");
    };
    let limits = LightningLimits { max_lifetime_s: 86_400, future_skew_s: 60 };
    let terms = own.terms();
    let first = |proof: &LightningProof<'_>| {
        let hash = black_box(&terms).hash();
        let checked = black_box(proof).check(&hash, Network::Regtest, Some(NOW), &limits);
        black_box(checked.expect("good").verify_signature(&secp, &[issuer]).expect("good"));
    };
    // Reading it checks its signature too.
    let library = || _ = black_box(black_box(invoice).parse::<Bolt11Invoice>().expect("valid"));
    let jobs = [job(bare), job(|| first(&packed)), job(|| first(&text)), job(library)];
    let [bare, packed, text, library] = nanoseconds(effort, jobs);
    for (form, ns) in [("packed", packed), ("text", text)] {
        let name = format!("first verification of a Lightning proof, {form}");
        line(&name, ns, "one ECDSA verification", bare, Some(1.1));
        line(&name, ns, "`lightning-invoice`: parsing and check", library, None);
    }
}
