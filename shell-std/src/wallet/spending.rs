//! What this node spends by itself: limited, and on disk before it is spent.
//!
//! The limits hold over restarts and whichever way the system's clock jumps back. Their hours are
//! measured by a clock of its own, in seconds: while the node runs that follows a monotonic clock,
//! and over a restart it goes forward by as much as the system's clock is beyond what it showed at
//! any payment before. Set forward over a restart, the system's clock does make hours pass.
//!
//! A payment whose outcome is not known counts as spent, is never made again, and is looked up until
//! it is known.

use super::budget::{Budget, Over};
use super::{
    Bill, Intent, Kept, Limits, OpenPayment, Outcome, PaymentStatus, Purchases, Resolved,
    SpentAmount, Wallet,
};
use crate::issuer::unix_now;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::flow::tickets::LIFETIME_S;
use blvm_mesh_core::id::HopId;
use blvm_mesh_core::payment::bolt11::Invoice;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// How long after an invoice has expired a call to pay it may still reach the Lightning node, in
/// seconds. One that is not known there by then was never made, and never will be.
const CALLED_LATE_S: u64 = 3600;

/// Why nothing was spent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPaid {
    /// There is nothing to pay with.
    #[error("this node has no wallet: set lightning.backend")]
    NoWallet,
    /// Too many invoices wait.
    #[error("too many invoices wait to be paid")]
    QueueFull,
    /// It may spend nothing.
    #[error("this node pays nothing: {0} is 0")]
    Nothing(&'static str),
    /// It has spent what it may.
    #[error(
        "the limit of {limit_msat} msat ({key}) leaves no room for {wanted_msat} msat, fee \
         included: {spent_msat} msat are spent"
    )]
    Limit {
        /// The key of the configuration that sets the limit.
        key: &'static str,
        /// What the payment would cost at most, in millisatoshi.
        wanted_msat: u64,
        /// What is spent of it already, in millisatoshi.
        spent_msat: u64,
        /// The limit, in millisatoshi.
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
    /// Another node of the same route was not paid.
    #[error("another node of the route could not be paid")]
    Together,
    /// The flow goes another way, or has ended.
    #[error("the flow takes another route, or has ended")]
    NotNeeded,
}

impl NotPaid {
    /// Whether the limit is why.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::Nothing(_) | Self::Limit { .. })
    }

    /// Whether it is the same reason, whatever the figures.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Limit { key, .. }, Self::Limit { key: other, .. }) => key == other,
            _ => self == other,
        }
    }
}

/// What was spent lately, in millisatoshi.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the last hour, with what may still turn out to be spent.
    pub last_hour_msat: u64,
    /// The most in an hour.
    pub limit_msat: u64,
    /// In the last 24 hours, with what may still turn out to be spent.
    pub last_day_msat: u64,
    /// The most in 24 hours.
    pub day_limit_msat: u64,
}

/// What would come of payments that are not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// The most that they cost beyond their amounts, in millisatoshi.
    pub max_fee_msat: u64,
    /// What may still be spent in this hour, in millisatoshi.
    pub left_hour_msat: u64,
    /// The same in these 24 hours.
    pub left_day_msat: u64,
    /// The limit that leaves no room for all of them, if one does.
    pub refused: Option<NotPaid>,
}

/// A payment that may be made: its intent is on disk, and it counts.
#[derive(Debug)]
#[must_use]
pub struct Begun {
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
    limits: RwLock<Limits>,
    budget: Mutex<Budget>,
    /// What the clock of what is spent showed at the start, and when that was.
    base_s: u64,
    start: Instant,
}

impl std::fmt::Debug for Spending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spending").field("limits", &self.limits()).finish_non_exhaustive()
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
        let budget = Mutex::new(Budget::with(recent.spent));
        let limits = RwLock::new(limits);
        Ok(Self { ledger, limits, budget, base_s, start: Instant::now() })
    }

    fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other limits from now on. What was spent counts against them.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn now(&self) -> u64 {
        self.base_s.saturating_add(self.start.elapsed().as_secs())
    }

    fn budget<T>(&self, look: impl FnOnce(&mut Budget) -> T) -> T {
        look(&mut self.budget.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was spent lately.
    pub fn spent(&self) -> Spent {
        let now = self.now();
        let (last_hour_msat, last_day_msat) = self.budget(|budget| budget.lately(now));
        let Limits { max_msat_per_hour, max_msat_per_day, .. } = self.limits();
        Spent {
            last_hour_msat,
            limit_msat: max_msat_per_hour,
            last_day_msat,
            day_limit_msat: max_msat_per_day,
        }
    }

    /// The most fee of a payment over this amount, both in millisatoshi.
    pub fn max_fee_msat(&self, amount_msat: u64) -> u64 {
        self.limits().max_fee_msat(amount_msat)
    }

    /// What would come of paying these amounts in millisatoshi, one payment each. Nothing is spent.
    pub fn foresee(&self, amounts: &[(HopId, u64)]) -> Foreseen {
        let fee = |amount_msat| self.max_fee_msat(amount_msat);
        let with_fees: Vec<_> = amounts
            .iter()
            .map(|(hop, amount_msat)| (*hop, amount_msat.saturating_add(fee(*amount_msat))))
            .collect();
        let now = self.now();
        let Spent { last_hour_msat, limit_msat, last_day_msat, day_limit_msat } = self.spent();
        let over = self.budget(|budget| budget.fits(&self.limits(), now, &with_fees)).err();
        let wanted_msat = with_fees.iter().fold(0u64, |sum, (_, msat)| sum.saturating_add(*msat));
        Foreseen {
            max_fee_msat: amounts.iter().fold(0, |sum, (_, msat)| fee(*msat).saturating_add(sum)),
            left_hour_msat: limit_msat.saturating_sub(last_hour_msat),
            left_day_msat: day_limit_msat.saturating_sub(last_day_msat),
            refused: over.map(|over| limit(over, wanted_msat)),
        }
    }

    /// Asks whether a bill may be paid by the wallet with this [key](Wallet::key); then it counts,
    /// and its intent is on disk. It may block.
    ///
    /// # Errors
    /// [`NotPaid`]: it must not be paid.
    pub fn begin(&self, bill: &Bill, wallet: Option<[u8; 33]>) -> Result<Begun, NotPaid> {
        self.begin_at(bill, wallet, self.now(), unix_now())
    }

    fn begin_at(
        &self,
        bill: &Bill,
        wallet: Option<[u8; 33]>,
        now: u64,
        unix: u64,
    ) -> Result<Begun, NotPaid> {
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
        let max_fee_msat = self.limits().max_fee_msat(amount_msat);
        let wanted_msat = amount_msat.saturating_add(max_fee_msat);
        let node = bill.node;
        let spent = SpentAmount { payment_hash, node, at: now, msat: wanted_msat };
        let over = |over| limit(over, wanted_msat);
        self.budget(|budget| match budget.is_paying(&payment_hash) {
            true => Err(NotPaid::Again),
            false => budget.spend(&self.limits(), spent).map_err(over),
        })?;
        let intent = Intent {
            payment_hash,
            node,
            bytes: bill.bytes,
            amount_msat,
            max_fee_msat,
            begun_at: unix,
            spent_at: now,
            promise: bill.promise,
            expires_at: invoice.expires_at().unwrap_or(u64::MAX),
            wallet,
        };
        let refused = match self.ledger.begin(&intent) {
            Ok(true) => return Ok(Begun { payment_hash, amount_msat, max_fee_msat }),
            Ok(false) => NotPaid::Again,
            Err(error) => NotPaid::Store(error),
        };
        self.budget(|budget| {
            budget.take_back(&payment_hash, now);
            budget.ended(&payment_hash);
        });
        Err(refused)
    }

    /// Writes down what became of a payment: its payment hash and that. It may block. A preimage
    /// that is not the invoice's leaves the outcome unknown.
    ///
    /// # Errors
    /// [`NotPaid::Wallet`]: nothing was spent.
    pub fn end(&self, begun: Begun, outcome: Outcome) -> Result<([u8; 32], Outcome), NotPaid> {
        let Begun { payment_hash, amount_msat, .. } = begun;
        let outcome = match outcome {
            Outcome::Paid { preimage, .. } if !is_of(&preimage, &payment_hash) => {
                let reason = "the wallet gave a preimage that is not the invoice's";
                Outcome::Unknown(reason.into())
            }
            outcome => outcome,
        };
        match &outcome {
            Outcome::Paid { preimage, fee_msat } => {
                self.book_paid(&payment_hash, amount_msat, preimage, *fee_msat);
            }
            Outcome::NotPaid(_) => self.book_not_paid(&payment_hash),
            Outcome::Unknown(_) => {}
        }
        self.budget(|budget| budget.ended(&payment_hash));
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

    fn book_paid(
        &self,
        payment_hash: &[u8; 32],
        amount_msat: u64,
        preimage: &[u8; 32],
        fee_msat: u64,
    ) {
        let msat = amount_msat.saturating_add(fee_msat);
        self.budget(|budget| budget.correct(payment_hash, msat));
        not_in_the_ledger(payment_hash, self.ledger.paid(payment_hash, preimage, fee_msat));
    }

    fn book_not_paid(&self, payment_hash: &[u8; 32]) {
        self.budget(|budget| budget.correct(payment_hash, 0));
        not_in_the_ledger(payment_hash, self.ledger.not_paid(payment_hash));
    }

    /// Asks a wallet what became of the payments whose outcome is not in the ledger, books it, and
    /// gives those of which it is known now. Nothing is paid. It may block for long.
    pub fn resolve(&self, wallet: &dyn Wallet) -> Vec<Resolved> {
        self.resolve_at(wallet, unix_now())
    }

    fn resolve_at(&self, wallet: &dyn Wallet, unix: u64) -> Vec<Resolved> {
        let mut resolved = Vec::new();
        let open = match self.ledger.open_payments() {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(error, "payments whose outcome is not known cannot be looked up");
                return resolved;
            }
        };
        for open in open {
            let OpenPayment { payment_hash, amount_msat, expires_at, .. } = open;
            if self.budget(|budget| budget.is_paying(&payment_hash)) {
                continue;
            }
            let payment = hex::encode(payment_hash);
            // Another wallet's word that it did not pay says nothing.
            let asked = open.wallet == wallet.key();
            match wallet.look_up(&payment_hash) {
                Ok(PaymentStatus::Paid { preimage, fee_msat })
                    if is_of(&preimage, &payment_hash) =>
                {
                    tracing::info!(payment, fee_msat, "a payment turned out to be made");
                    self.book_paid(&payment_hash, amount_msat, &preimage, fee_msat);
                    resolved.push((payment_hash, Some(preimage)));
                }
                Ok(PaymentStatus::Failed(why)) if asked => {
                    tracing::info!(payment, why, "a payment turned out not to be made");
                    self.book_not_paid(&payment_hash);
                    resolved.push((payment_hash, None));
                }
                Ok(PaymentStatus::NotFound)
                    if asked && expires_at.saturating_add(CALLED_LATE_S) < unix =>
                {
                    tracing::info!(
                        payment,
                        "the wallet was never asked for a payment, or forgot it"
                    );
                    self.book_not_paid(&payment_hash);
                    resolved.push((payment_hash, None));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(payment, error, "a payment cannot be looked up"),
            }
        }
        resolved
    }

    /// The node that was paid has credited so many bytes. It may block.
    pub fn credited(&self, payment_hash: &[u8; 32], bytes: u64) {
        if let Err(error) = self.ledger.credited(payment_hash, bytes) {
            let payment = hex::encode(payment_hash);
            tracing::error!(payment, error, "bytes that were bought are not in the ledger");
        }
    }
}

fn limit(over: Over, wanted_msat: u64) -> NotPaid {
    match over {
        Over { key, limit_msat: 0, .. } => NotPaid::Nothing(key),
        Over { key, limit_msat, spent_msat } => {
            NotPaid::Limit { key, wanted_msat, spent_msat, limit_msat }
        }
    }
}

fn is_of(preimage: &[u8; 32], payment_hash: &[u8; 32]) -> bool {
    sha256::Hash::hash(preimage).to_byte_array() == *payment_hash
}

fn not_in_the_ledger(payment_hash: &[u8; 32], written: Result<(), String>) {
    if let Err(error) = written {
        let payment = hex::encode(payment_hash);
        tracing::error!(
            payment,
            error,
            "what became of a payment is not in the ledger, where it counts as spent"
        );
    }
}

#[cfg(test)]
#[path = "spending_tests.rs"]
mod tests;
