//! What the first verification of a Lightning proof costs, against one bare ECDSA
//! verification (budget: at most 1.3 x; DESIGN section 10).
//!
//! `cargo run --release -p blvm-mesh-core --example lightning_cost`

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::payment::bolt11::Invoice;
use blvm_mesh_core::payment::lightning::{LightningLimits, LightningProof};
use blvm_mesh_core::payment::packed::{IssuerHint, pack};
use blvm_mesh_core::payment::terms::Terms;
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use std::hint::black_box;
use std::time::{Duration, Instant};

const NOW: u64 = 1_750_000_000;
const ROUNDS: usize = 40;
const PER_ROUND: u32 = 500;

fn main() {
    let secp = Secp256k1::new();
    let issuer_secret = SecretKey::from_slice(&[7; 32]).expect("in range");
    let issuer = issuer_secret.public_key(&secp);
    let hops = [HopId([1; 8]), HopId([2; 8])];
    let terms = Terms {
        network: Network::Mainnet,
        source: NodeId([3; 32]),
        destination: NodeId([4; 32]),
        hops: &hops,
        quota: 1 << 20,
    };
    let preimage = [8; 32];
    let text = InvoiceBuilder::new(Currency::Bitcoin)
        .amount_milli_satoshis(1_234_567)
        .description_hash(sha256::Hash::from_byte_array(terms.hash()))
        .payment_hash(sha256::Hash::hash(&preimage))
        .payment_secret(PaymentSecret([9; 32]))
        .basic_mpp()
        .duration_since_epoch(Duration::from_secs(NOW))
        .expiry_time(Duration::from_secs(3600))
        .min_final_cltv_expiry_delta(144)
        .build_signed(|hash| secp.sign_ecdsa_recoverable(hash, &issuer_secret))
        .expect("complete")
        .to_string();
    let mut buffer = [0; 200];
    let hint = IssuerHint::of(&issuer);
    let len = pack(&text, &preimage, &terms.hash(), hint, &mut buffer).expect("at most 200 bytes");
    let packed = LightningProof::Packed(&buffer[..len]);
    let as_text = LightningProof::Text { invoice: &text, preimage, stated: None };
    let limits = LightningLimits { max_lifetime_s: 86_400, future_skew_s: 60 };

    let signed = Invoice::from_text(&text).expect("valid").signature;
    let message = Message::from_digest(signed.signing_hash);
    let signature =
        bitcoin::secp256k1::ecdsa::Signature::from_compact(&signed.compact).expect("in range");

    let bare = || {
        black_box(secp.verify_ecdsa(black_box(&message), black_box(&signature), &issuer))
            .expect("valid");
    };
    let check = |proof: &LightningProof<'_>| {
        let hash = black_box(&terms).hash();
        black_box(proof).check(&hash, Network::Mainnet, Some(NOW), &limits).expect("good")
    };
    let first = |proof: &LightningProof<'_>| {
        black_box(check(proof).verify_signature(&secp, &[issuer])).expect("good");
    };

    // In turns, so that a change of clock speed meets all alike; the least counts.
    let mut best = [Duration::MAX; 5];
    for _ in 0..ROUNDS {
        let times = [
            time(bare),
            time(|| first(&packed)),
            time(|| _ = black_box(check(&packed))),
            time(|| first(&as_text)),
            time(|| _ = black_box(check(&as_text))),
        ];
        for (best, time) in best.iter_mut().zip(times) {
            *best = time.min(*best);
        }
    }
    let [bare, rest @ ..] = best;
    println!("packed proof: {len} bytes; as text {} characters and preimage", text.len());
    println!("{:<44}{:>8} ns", "bare ECDSA verification", bare.as_nanos());
    let names = [
        "packed: terms, check and verify_signature",
        "packed: terms and check",
        "text: terms, check and recovery",
        "text: terms and check",
    ];
    for (name, time) in names.iter().zip(rest) {
        let ratio = time.as_secs_f64() / bare.as_secs_f64();
        println!("{name:<44}{:>8} ns  {ratio:.3} x bare", time.as_nanos());
    }
}

fn time(work: impl Fn()) -> Duration {
    let start = Instant::now();
    (0..PER_ROUND).for_each(|_| work());
    start.elapsed() / PER_ROUND
}
