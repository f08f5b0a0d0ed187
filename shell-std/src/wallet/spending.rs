//! What this node spends by itself: limited for each hour, and on disk before it is spent.
//!
//! The limit holds over restarts and whichever way the system's clock jumps back. Its hour is
//! measured by a clock of its own, in seconds: while the node runs that follows a monotonic clock,
//! and over a restart it goes forward by as much as the system's clock is beyond what it showed at
//! any payment before. Set forward over a restart, the system's clock does make an hour pass.

use super::hour::Hour;
use super::{Bill, Intent, Kept, Limits, Outcome, Purchases};
use crate::issuer::unix_now;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::flow::tickets::LIFETIME_S;
use blvm_mesh_core::payment::bolt11::Invoice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Why nothing was spent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPaid {
    /// There is nothing to pay with.
    #[error("this node has no wallet: one is there on regtest only so far")]
    NoWallet,
    /// Too many invoices wait.
    #[error("too many invoices wait to be paid")]
    QueueFull,
    /// It may spend nothing.
    #[error("this node pays nothing: wallet.max_msat_per_hour is 0")]
    Nothing,
    /// It has spent what it may.
    #[error(
        "the limit of {limit_msat} msat in an hour (wallet.max_msat_per_hour) leaves no room for \
         {wanted_msat} msat, fee included: {spent_msat} msat are spent"
    )]
    Limit {
        /// What the payment would cost at most, in millisatoshi.
        wanted_msat: u64,
        /// What was spent in the last hour, in millisatoshi.
        spent_msat: u64,
        /// The most in an hour, in millisatoshi.
        limit_msat: u64,
    },
    /// It was paid before, or may have been.
    #[error("the invoice was paid before, or may have been")]
    Again,
    /// It cannot be read, or is not to be paid.
    #[error("the invoice does not hold: {0}")]
    Invoice(String),
    /// The intent cannot be written.
    #[error("what is spent cannot be written down: {0}")]
    Store(String),
    /// There is no store.
    #[error("what is spent cannot be written down: the host has given no store")]
    NoStore,
    /// The wallet did not pay.
    #[error("{0}")]
    Wallet(String),
}

impl NotPaid {
    /// Whether the limit is why.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::Nothing | Self::Limit { .. })
    }

    /// Whether it is the same reason, whatever the figures.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self == other || matches!((self, other), (Self::Limit { .. }, Self::Limit { .. }))
    }
}

/// What was spent lately, in millisatoshi.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the last hour, with what may still turn out to be spent.
    pub last_hour_msat: u64,
    /// The most in an hour.
    pub limit_msat: u64,
}

/// A payment that may be made: its intent is on disk, and it counts.
#[derive(Debug)]
#[must_use]
pub struct Begun {
    number: u64,
    payment_hash: [u8; 32],
    amount_msat: u64,
    max_fee_msat: u64,
}

impl Begun {
    /// The most that it may cost beyond its amount, in millisatoshi.
    pub fn max_fee_msat(&self) -> u64 {
        self.max_fee_msat
    }
}

/// What a node spends by itself.
pub struct Spending {
    ledger: Arc<dyn Purchases>,
    limits: Limits,
    hour: Mutex<Hour>,
    /// What the clock of what is spent showed at the start, and when that was.
    base_s: u64,
    start: Instant,
}

impl std::fmt::Debug for Spending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spending").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Spending {
    /// With what the ledger knows. It may block.
    ///
    /// # Errors
    /// Why the ledger cannot be read.
    pub fn new(ledger: Arc<dyn Purchases>, limits: Limits) -> Result<Self, String> {
        Self::at(ledger, limits, unix_now())
    }

    /// The same at this time, in seconds since 1970.
    fn at(ledger: Arc<dyn Purchases>, limits: Limits, unix: u64) -> Result<Self, String> {
        let recent = ledger.recent()?;
        let base_s = recent.at.saturating_add(unix.saturating_sub(recent.unix));
        let hour = Mutex::new(Hour::with(recent.spent));
        Ok(Self { ledger, limits, hour, base_s, start: Instant::now() })
    }

    fn now(&self) -> u64 {
        self.base_s.saturating_add(self.start.elapsed().as_secs())
    }

    fn hour<T>(&self, look: impl FnOnce(&mut Hour) -> T) -> T {
        look(&mut self.hour.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was spent in the last hour.
    pub fn spent(&self) -> Spent {
        let now = self.now();
        let last_hour_msat = self.hour(|hour| hour.sum(now));
        Spent { last_hour_msat, limit_msat: self.limits.max_msat_per_hour }
    }

    /// Asks whether a bill may be paid; then it counts, and its intent is on disk. It may block.
    ///
    /// # Errors
    /// [`NotPaid`]: it must not be paid.
    pub fn begin(&self, bill: &Bill) -> Result<Begun, NotPaid> {
        self.begin_at(bill, self.now(), unix_now())
    }

    fn begin_at(&self, bill: &Bill, now: u64, unix: u64) -> Result<Begun, NotPaid> {
        let limit_msat = self.limits.max_msat_per_hour;
        if limit_msat == 0 {
            return Err(NotPaid::Nothing);
        }
        let invoice =
            Invoice::from_text(&bill.invoice).map_err(|e| NotPaid::Invoice(e.to_string()))?;
        let (payment_hash, amount_msat) = (invoice.payment_hash, bill.amount_msat);
        if invoice.amount_msat != Some(amount_msat) {
            let reason = format!("it is not over {amount_msat} msat");
            return Err(NotPaid::Invoice(reason));
        }
        // The state machine gives a purchase up soon after its invoice expires.
        if invoice.expires_at().is_some_and(|expires_at| expires_at <= unix) {
            return Err(NotPaid::Invoice("it has expired".into()));
        }
        let max_fee_msat = self.limits.max_fee_msat(amount_msat);
        let wanted_msat = amount_msat.saturating_add(max_fee_msat);
        let number = self
            .hour(|hour| hour.spend(now, wanted_msat, limit_msat))
            .map_err(|spent_msat| NotPaid::Limit { wanted_msat, spent_msat, limit_msat })?;
        let intent = Intent {
            payment_hash,
            node: bill.node,
            bytes: bill.bytes,
            amount_msat,
            max_fee_msat,
            begun_at: unix,
            spent_at: now,
            promise: bill.promise,
        };
        let refused = match self.ledger.begin(&intent) {
            Ok(true) => return Ok(Begun { number, payment_hash, amount_msat, max_fee_msat }),
            Ok(false) => NotPaid::Again,
            Err(error) => NotPaid::Store(error),
        };
        self.hour(|hour| hour.correct(number, 0));
        Err(refused)
    }

    /// Writes down what became of a payment: its payment hash and that. It may block. A preimage
    /// that is not the invoice's leaves the outcome unknown.
    ///
    /// # Errors
    /// [`NotPaid::Wallet`]: nothing was spent.
    pub fn end(&self, begun: Begun, outcome: Outcome) -> Result<([u8; 32], Outcome), NotPaid> {
        let Begun { number, payment_hash, amount_msat, .. } = begun;
        let written = match &outcome {
            Outcome::Paid { preimage, .. }
                if sha256::Hash::hash(preimage).to_byte_array() != payment_hash =>
            {
                let reason = "the wallet gave a preimage that is not the invoice's".into();
                return Ok((payment_hash, Outcome::Unknown(reason)));
            }
            Outcome::Paid { preimage, fee_msat } => {
                self.hour(|hour| hour.correct(number, amount_msat.saturating_add(*fee_msat)));
                self.ledger.paid(&payment_hash, preimage, *fee_msat)
            }
            Outcome::NotPaid(_) => {
                self.hour(|hour| hour.correct(number, 0));
                self.ledger.not_paid(&payment_hash)
            }
            Outcome::Unknown(_) => Ok(()),
        };
        if let Err(error) = written {
            let payment = hex::encode(payment_hash);
            tracing::error!(
                payment,
                error,
                "what became of a payment is not in the ledger, where it counts as spent"
            );
        }
        match outcome {
            Outcome::NotPaid(reason) => Err(NotPaid::Wallet(reason)),
            outcome => Ok((payment_hash, outcome)),
        }
    }

    /// What was paid before this run, and is to be asked for: its tickets are still valid, unless
    /// the system's clock was set. It may block.
    pub fn kept(&self) -> Vec<Kept> {
        let since = unix_now().saturating_sub(u64::from(LIFETIME_S));
        self.ledger.kept(since).unwrap_or_else(|error| {
            tracing::error!(error, "what was paid before the start cannot be read");
            Vec::new()
        })
    }

    /// The node that was paid has credited so many bytes. It may block.
    pub fn credited(&self, payment_hash: &[u8; 32], bytes: u64) {
        if let Err(error) = self.ledger.credited(payment_hash, bytes) {
            let payment = hex::encode(payment_hash);
            tracing::error!(payment, error, "bytes that were bought are not in the ledger");
        }
    }
}

#[cfg(test)]
#[path = "spending_tests.rs"]
mod tests;
