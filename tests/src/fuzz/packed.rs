//! The packed form of a Lightning proof.

use super::Choices;
use super::bolt11::{agree, signer};
use super::invoice_text::InvoiceText;
use blvm_mesh_core::payment::packed::{PackedProof, pack, pack_whole};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey};

/// Hash of the terms that the seeds commit to.
pub const TERMS: [u8; 32] = [0x5a; 32];
/// Where a packed proof keeps its signature.
pub const SIGNATURE: core::ops::Range<usize> = 36..100;

/// A packed proof as it is, and signed again.
pub fn target(data: &[u8]) -> bool {
    let taken = round_trip(data);
    let mut signed = data.to_vec();
    sign(&mut signed, &TERMS, &signer());
    round_trip(&signed) | taken
}

/// Signs the invoice inside again, if there is one.
pub fn sign(packed: &mut [u8], terms: &[u8; 32], key: &SecretKey) {
    let Some(hash) = signing_hash(packed, terms) else { return };
    let message = Message::from_digest(hash);
    let signature = Secp256k1::signing_only().sign_ecdsa_recoverable(message, key);
    let (id, compact) = signature.serialize_compact();
    packed[SIGNATURE].copy_from_slice(&compact);
    packed[0] = packed[0] & !3 | i32::from(id) as u8;
}

fn signing_hash(packed: &[u8], terms: &[u8; 32]) -> Option<[u8; 32]> {
    Some(PackedProof::parse(packed).ok()?.invoice(terms).ok()?.signature.signing_hash)
}

fn round_trip(bytes: &[u8]) -> bool {
    let packed = match PackedProof::parse(bytes) {
        Ok(packed) => packed,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let mut text = vec![0; 8 * bytes.len() + 512];
    let Ok(len) = packed.unpack_text(&TERMS, &mut text) else { return false };
    assert!(packed.unpack_text(&TERMS, &mut text[..len - 1]).is_err());
    text.truncate(len);
    let text = String::from_utf8(text).expect("an invoice is ASCII");
    let split = InvoiceText::split(&text).expect("an invoice was written");
    assert_eq!(signing_hash(bytes, &TERMS), Some(split.signing_hash()));
    let accepted = agree(&text);

    // Packed again, in whole or with everything left out that can be, it is the
    // same invoice.
    let (preimage, hint) = (packed.preimage(), packed.issuer());
    let mut out = vec![0; text.len() + 512];
    let whole = pack_whole(&text, preimage, hint, &mut out).expect("it was packed");
    assert_eq!(unpacked(&out[..whole]).as_deref(), Some(&*text));
    if let Ok(least) = pack(&text, preimage, &TERMS, hint, &mut out) {
        assert_eq!(unpacked(&out[..least]).as_deref(), Some(&*text));
        assert!(least <= whole && least <= bytes.len(), "nothing is shorter");
    }
    accepted
}

fn unpacked(bytes: &[u8]) -> Option<String> {
    let mut text = vec![0; 8 * bytes.len() + 512];
    let len = PackedProof::parse(bytes).ok()?.unpack_text(&TERMS, &mut text).ok()?;
    text.truncate(len);
    String::from_utf8(text).ok()
}

/// The hint at a key, as a proof carries it.
pub fn hint(key: &PublicKey) -> [u8; 2] {
    let serialized = key.serialize();
    Choices(&serialized[1..]).array()
}
