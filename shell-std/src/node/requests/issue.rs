//! Invoices of this node's own issuer.

use secp256k1::PublicKey;

/// Writes the invoices by which this node is paid: its operator's Lightning node, or a key of its
/// own for trials on regtest.
pub trait Issue: Send + Sync + 'static {
    /// An invoice that commits to the terms with this hash. It may block.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    fn issue(
        &self,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, String>;

    /// The same, for terms that a datagram is to be paid by: where the key that signs it may sign
    /// for others too, it is written down that this node asked for it. It may block.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    fn issue_for_datagram(
        &self,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, String> {
        self.issue(terms_hash, amount_msat, expiry_s)
    }

    /// What was written down so and has not expired: payment hashes, and the time of that in
    /// seconds since 1970. It may block.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn asked(&self) -> Result<Vec<([u8; 32], u64)>, String> {
        Ok(Vec::new())
    }
}

/// An invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The invoice.
    pub invoice: String,
    /// Its preimage, where whoever asks gets it without paying: of a regtest issuer.
    pub preimage: Option<[u8; 32]>,
    /// Its payment hash.
    pub payment_hash: [u8; 32],
    /// Who signed it.
    pub issuer: PublicKey,
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
}
