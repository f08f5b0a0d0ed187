//! The Lightning node as whoever has invoices written sees it, with a list of those that may be
//! brought as proofs for datagrams.

use super::Lightning;
use crate::node::{Issue, Issued};
use std::sync::Arc;

/// Where payment hashes are written down that this node asked for.
pub trait AskedList: Send + Sync + 'static {
    /// Writes one down, durably. It may block.
    ///
    /// # Errors
    /// Why it cannot be written, or that there are too many.
    fn note(&self, payment_hash: &[u8; 32], expires_at: u64, unix: u64) -> Result<(), String>;

    /// All that have not expired, each with the time of that. It may block.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn all(&self, unix: u64) -> Result<Vec<([u8; 32], u64)>, String>;
}

/// Has invoices written by the operator's Lightning node.
pub struct Till {
    lightning: Lightning,
    list: Arc<dyn AskedList>,
}

impl Till {
    /// By this Lightning node, with this list.
    pub fn new(lightning: Lightning, list: Arc<dyn AskedList>) -> Self {
        Self { lightning, list }
    }
}

impl Issue for Till {
    fn issue(
        &self,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, String> {
        self.lightning.issue(terms_hash, amount_msat, expiry_s)
    }

    fn issue_for_datagram(
        &self,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, String> {
        let issued = self.issue(terms_hash, amount_msat, expiry_s)?;
        self.list.note(&issued.payment_hash, issued.expires_at, crate::issuer::unix_now())?;
        Ok(issued)
    }

    fn asked(&self) -> Result<Vec<([u8; 32], u64)>, String> {
        self.list.all(crate::issuer::unix_now())
    }
}
