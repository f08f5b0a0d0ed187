//! Who signed an invoice.

use super::SemanticError;
use super::read::SIGNATURE_SYMBOLS;
use secp256k1::ecdsa::{self, RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, Secp256k1, Verification};

/// What is needed to check who signed an invoice, without the invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvoiceSignature {
    /// SHA-256 of human-readable part and data: what is signed.
    pub signing_hash: [u8; 32],
    /// The signature, `r` and `s`. Both are below the order of the group.
    pub compact: [u8; 64],
    /// Which of the possible keys made the signature (0 to 3). Nobody signs this:
    /// it counts in [`Self::recover_payee`] only.
    pub recovery_id: u8,
    /// The invoice's `n` field: compressed key of the payee. Not checked to be a
    /// point of the curve.
    pub payee: Option<[u8; 33]>,
}

impl InvoiceSignature {
    /// One ECDSA verification against a key that is known beforehand.
    ///
    /// With an `n` field the key must be that of the field, and `s` must be low;
    /// without one a high `s` is as good, because recovery accepts it (BOLT 11,
    /// "Requirements", and its example "high-S signature").
    ///
    /// # Errors
    /// [`SemanticError`]: the signature is not by this key.
    pub fn verify_by<C: Verification>(
        &self,
        secp: &Secp256k1<C>,
        key: &PublicKey,
    ) -> Result<(), SemanticError> {
        if self.payee.is_some_and(|n| n != key.serialize()) {
            return Err(SemanticError::OtherPayee);
        }
        let mut signature = ecdsa::Signature::from_compact(&self.compact)
            .map_err(|_| SemanticError::InvalidSignature)?;
        if self.payee.is_none() {
            signature.normalize_s();
        }
        secp.verify_ecdsa(self.message(), &signature, key)
            .map_err(|_| SemanticError::InvalidSignature)
    }

    /// The key that signed the invoice: that of the `n` field if the signature is
    /// by it, else the key recovered from the signature. Slower than
    /// [`Self::verify_by`], and says nothing about whom one trusts.
    ///
    /// # Errors
    /// [`SemanticError`]: the signature is not by the named key, or no key can be recovered.
    pub fn recover_payee<C: Verification>(
        &self,
        secp: &Secp256k1<C>,
    ) -> Result<PublicKey, SemanticError> {
        if let Some(bytes) = self.payee {
            let key = PublicKey::from_slice(&bytes).map_err(|_| SemanticError::InvalidPayeeKey)?;
            self.verify_by(secp, &key)?;
            return Ok(key);
        }
        RecoveryId::try_from(i32::from(self.recovery_id))
            .and_then(|id| RecoverableSignature::from_compact(&self.compact, id))
            .and_then(|signature| secp.recover_ecdsa(self.message(), &signature))
            .map_err(|_| SemanticError::InvalidSignature)
    }

    /// Signature and recovery identifier as the symbols that end an invoice.
    pub(super) fn symbols(&self) -> impl Iterator<Item = u8> + '_ {
        let byte = |i: usize| *self.compact.get(i).unwrap_or(&self.recovery_id);
        (0..SIGNATURE_SYMBOLS).map(move |i| {
            let (at, shift) = (i * 5 / 8, i * 5 % 8);
            // The last symbol's five bits end with the last byte: what is read
            // after it is shifted out.
            let pair = u16::from_be_bytes([byte(at), byte(at + 1)]);
            (pair >> (11 - shift) & 31) as u8
        })
    }

    fn message(&self) -> Message {
        Message::from_digest(self.signing_hash)
    }
}
