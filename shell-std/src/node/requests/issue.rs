//! Invoices that count as paid.

use secp256k1::PublicKey;

/// Signs invoices with a key of this node's own, for trials on regtest.
pub trait Issue: Send + Sync + 'static {
    /// An invoice that commits to the terms with this hash.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    fn issue(
        &self,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, String>;
}

/// An invoice, and its preimage: it counts as paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The invoice.
    pub invoice: String,
    /// Its preimage.
    pub preimage: [u8; 32],
    /// Its payment hash.
    pub payment_hash: [u8; 32],
    /// Who signed it.
    pub issuer: PublicKey,
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
}
