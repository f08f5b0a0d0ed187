//! Proofs of payment as a relay checks them: what passes keeps the rules of
//! docs/PROTOCOL.md, as LDK reads the invoice.

use super::Choices;
use super::bolt11::signer;
use super::covenant_payment::{PAYOUT, locked};
use super::invoice_text::InvoiceText;
use super::packed::sign;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::config::{Config, PaymentRules};
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::payment::bolt11::DEFAULT_EXPIRY_S;
use blvm_mesh_core::payment::covenant::CovenantProof;
use blvm_mesh_core::payment::fee::{FeeDistribution, Party};
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::ledger::Method;
use blvm_mesh_core::payment::lightning::LightningProof;
use blvm_mesh_core::payment::packed::PackedProof;
use blvm_mesh_core::payment::proof::{INSTANT_SETTLEMENT, LIGHTNING, PaymentProof};
use blvm_mesh_core::payment::terms::{Purpose, Terms};
use blvm_mesh_core::payment::verify::{Claim, Outcome, Verified, verify};
use lightning_invoice::SignedRawBolt11Invoice;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey};

/// The wall clock of the relay, in seconds since 1970.
pub const NOW: u64 = 1_750_000_100;
/// What the relay asks for, in millisatoshi.
pub const PRICE_MSAT: u64 = 1_000;
/// The route.
pub const HOPS: [HopId; 2] = [HopId([1; 8]), HopId([2; 8])];

/// The terms that a proof must commit to.
pub fn terms() -> Terms<'static> {
    let (source, destination) = (NodeId([3; 32]), NodeId([4; 32]));
    Terms { network: Network::Regtest, source, destination, hops: &HOPS, quota: 100 }
}

/// The only issuer.
pub fn issuer() -> PublicKey {
    signer().public_key(&Secp256k1::signing_only())
}

fn rules() -> PaymentRules {
    let mut rules = Config::host(Network::Regtest).payment;
    rules.issuers.push(issuer()).expect("one fits");
    rules.covenants_active = true;
    rules.payout_script.extend_from_slice(&PAYOUT).expect("it fits");
    rules
}

/// First how to sign a Lightning proof again (1: as the issuer, 2: as another),
/// then a proof as a packet carries it.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let how = choices.byte();
    let mut bytes = choices.0.to_vec();
    let hash = terms().hash();
    let stranger = SecretKey::from_byte_array([0x43; 32]).expect("in range");
    match (how, bytes.first()) {
        (1, Some(&LIGHTNING)) => sign(&mut bytes[1..], &hash, &signer()),
        (2, Some(&LIGHTNING)) => sign(&mut bytes[1..], &hash, &stranger),
        (1, Some(&INSTANT_SETTLEMENT)) => {
            let locked = CovenantProof::parse(&bytes[1..]).ok().and_then(|p| locked(&p, &hash));
            bytes.splice(1.., locked.unwrap_or_default());
        }
        _ => {}
    }
    let Ok(proof) = PaymentProof::parse(&bytes) else { return false };
    let (secp, rules, terms) = (Secp256k1::verification_only(), rules(), terms());
    let mut accepted = false;
    for party in [Party::Source, Party::Intermediate(1), Party::Destination] {
        let claim = Claim {
            terms: &terms,
            purpose: Purpose::Datagram,
            party,
            price_msat: PRICE_MSAT,
            unix: Some(NOW),
            not_before: None,
        };
        let ask = |claim: &Claim<'_>, block: Option<KnownHeader>| {
            verify(&proof, claim, &rules, &secp, |_, _| Ok(()), || Ok(()), |_| block)
        };
        let outcome = match ask(&claim, None) {
            Ok(Outcome::NeedsBlock { merkle_root, .. }) => {
                let block = KnownHeader { merkle_root, time: NOW as u32, confirmations: 1 };
                ask(&claim, Some(block))
            }
            outcome => outcome,
        };
        assert!(ask(&Claim { unix: None, ..claim }, None).is_err(), "a clock is needed");
        let Ok(Outcome::Verified(payment)) = outcome else { continue };
        assert!(how != 2, "a stranger's signature is no payment");
        holds(&proof, &payment, party);
        let other = Terms { quota: 101, ..terms };
        let claim = Claim { terms: &other, ..claim };
        assert!(ask(&claim, None).is_err(), "it buys nothing else");
        accepted = true;
    }
    accepted
}

fn holds(proof: &PaymentProof<'_>, payment: &Verified, party: Party) {
    let shares = FeeDistribution::new(payment.amount_msat, HOPS.len()).expect("few hops");
    let sum = shares.source + shares.intermediates.iter().sum::<u64>() + shares.destination;
    assert_eq!(sum, payment.amount_msat, "I5: shares sum to the amount");
    match (payment.method, party) {
        // It pays, and may take back less: the target `covenant` knows how much.
        (Method::Covenant, Party::Source) => assert!(payment.share_msat <= shares.get(party)),
        _ => assert_eq!(payment.share_msat, shares.get(party)),
    }
    assert!(payment.share_msat >= PRICE_MSAT && payment.expires_at > NOW);
    let PaymentProof::Lightning(LightningProof::Packed(bytes)) = proof else {
        assert_eq!(payment.method, Method::Covenant);
        return;
    };
    let packed = PackedProof::parse(bytes).expect("it was accepted");
    let mut text = vec![0; 8 * bytes.len() + 512];
    let len = packed.unpack_text(&terms().hash(), &mut text).expect("it was accepted");
    let text = str::from_utf8(&text[..len]).expect("ASCII");
    let signed: SignedRawBolt11Invoice = text.parse().expect("LDK reads it too");
    // The recovery identifier is not signed, so that it may be any; nor which of
    // the two values `s` has.
    let mut signature = signed.signature().to_standard();
    signature.normalize_s();
    let message = Message::from_digest(InvoiceText::split(text).expect("a text").signing_hash());
    let secp = Secp256k1::verification_only();
    let signature = Signature::from_compact(&signature.serialize_compact()).expect("in range");
    assert!(secp.verify_ecdsa(message, &signature, &issuer()).is_ok(), "the issuer wrote it");
    let invoice = signed.raw_invoice();
    assert!(invoice.payee_pub_key().is_none_or(|payee| payee.serialize() == issuer().serialize()));
    let hash = invoice.payment_hash().expect("there is one").0;
    assert_eq!(hash.to_byte_array(), payment.key);
    assert_eq!(sha256::Hash::hash(packed.preimage()).to_byte_array(), payment.key);
    assert_eq!(invoice.amount_pico_btc(), payment.amount_msat.checked_mul(10));
    let expiry = invoice.expiry_time().map_or(DEFAULT_EXPIRY_S, |e| e.as_seconds());
    assert_eq!(invoice.data.timestamp.as_unix_timestamp() + expiry, payment.expires_at);
    let hash = terms().hash();
    match (invoice.description_hash(), invoice.description()) {
        (Some(h), None) => assert_eq!(h.0.to_byte_array(), hash),
        (None, Some(text)) => {
            let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text.as_inner().0.to_lowercase(), format!("blvm-mesh:{digits}"));
        }
        other => panic!("one description: {other:?}"),
    }
}
