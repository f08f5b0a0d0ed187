//! What pays the invoices of other nodes, whose bytes this node buys for its flows.
//!
//! ```text
//! Action::Pay -> a bounded queue -> Spending::begin: the limit, then the intent on disk
//!                                   Wallet::pay
//!                                   Spending::end: the outcome on disk
//!                                -> Input::InvoicePaid
//! ```
//!
//! A Lightning backend is one implementation of [`Wallet`]; a host node that embeds the library
//! implements [`NodeAPI::pay`](crate::manager::NodeAPI::pay) in its place. What is spent is
//! limited and written down here, whatever pays. [`RegtestWallet`] is what is there without any
//! backend: it pays with play money.

mod budget;
mod regtest;
mod spending;
mod together;
mod underway;

pub(crate) use budget::DAY_S;
pub use regtest::RegtestWallet;
#[cfg(test)]
pub(crate) use regtest::tests::bill;
pub use spending::{Begun, Foreseen, NotPaid, Spending, Spent};
pub(crate) use underway::{Ended, Underway};

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::wire::account::PROMISE_LEN;
use std::sync::Arc;

/// An invoice of another node that is to be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// The node that is paid.
    pub node: NodeId,
    /// The bytes that it buys there.
    pub bytes: u64,
    /// The invoice's amount, in millisatoshi.
    pub amount_msat: u64,
    /// The node's ticket: with the preimage it buys the bytes.
    pub promise: Promise,
    /// The invoice, as text (BOLT 11).
    pub invoice: String,
}

/// A ticket, and what it is for: see `PROMISE_LEN`.
pub type Promise = [u8; PROMISE_LEN];

impl Bill {
    pub(crate) fn new(
        node: NodeId,
        bytes: u64,
        amount_msat: u64,
        promise: Promise,
        invoice: &[u8],
    ) -> Self {
        // The state machine has read it: it is text.
        let invoice = String::from_utf8_lossy(invoice).into_owned();
        Self { node, bytes, amount_msat, promise, invoice }
    }
}

/// What became of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is paid.
    Paid {
        /// What paying revealed.
        preimage: [u8; 32],
        /// What it cost beyond its amount, in millisatoshi.
        fee_msat: u64,
    },
    /// Nothing was spent, and nothing will be: why, as a sentence.
    NotPaid(String),
    /// Nobody knows, as when the backend went away, or the payment is held on its way. It counts as
    /// spent, and is never tried again: why, as a sentence.
    Unknown(String),
}

/// A payment that turned out to be made, with what it revealed, or not to be made.
pub type Resolved = ([u8; 32], Option<[u8; 32]>);

/// What a wallet knows of a payment that it was asked to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentStatus {
    /// It is made.
    Paid {
        /// What it revealed; its SHA-256 is the payment hash.
        preimage: [u8; 32],
        /// What it cost beyond its amount, in millisatoshi.
        fee_msat: u64,
    },
    /// It failed for good: nothing is spent, and nothing will be: why, as a sentence.
    Failed(String),
    /// It is on its way, and may be made or fail yet.
    Pending,
    /// The wallet has never heard of it.
    NotFound,
}

/// What a wallet knows of the way to a payee before it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It knows one that costs so much beyond the amount, in millisatoshi.
    Route {
        /// The fee.
        fee_msat: u64,
    },
    /// It knows none. There may be one all the same, over channels that are not announced.
    NoRoute,
    /// It cannot tell.
    Unknown,
}

/// Pays invoices.
pub trait Wallet: Send + Sync + 'static {
    /// Pays an invoice once, for at most `max_fee_msat` millisatoshi beyond its amount, and waits
    /// for the outcome. It may block for as long as that takes, and is called from several threads
    /// at once. The invoice is for this network, over the bill's amount, and has not expired.
    fn pay(&self, bill: &Bill, max_fee_msat: u64) -> Outcome;

    /// What became of a payment that [`pay`](Self::pay) was called for, maybe before a crash of
    /// this node. It may block for some seconds, and pays nothing.
    ///
    /// # Errors
    /// Why it cannot be told, as a sentence.
    fn look_up(&self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, String>;

    /// What it knows of the way to the payee of an invoice, for at most that fee. It may block for
    /// some seconds, and pays nothing.
    fn reach(&self, _: &Bill, _max_fee_msat: u64) -> Reach {
        Reach::Unknown
    }

    /// Whose payments it can look up: the public key of its node. A payment that another wallet
    /// was asked for may be made although this one has never heard of it.
    fn key(&self) -> Option<[u8; 33]>;
}

/// How much a node may spend by itself, in millisatoshi and fees included. Where one of them is 0,
/// it spends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one payment.
    pub max_msat_per_payment: u64,
    /// In any hour.
    pub max_msat_per_hour: u64,
    /// In any 24 hours.
    pub max_msat_per_day: u64,
    /// To one node in any 24 hours.
    pub max_msat_per_destination_day: u64,
    /// For a payment's fee, in millionths of its amount.
    pub max_fee_ppm: u32,
}

impl Limits {
    /// The most fee for this amount, both in millisatoshi.
    pub(crate) fn max_fee_msat(&self, amount_msat: u64) -> u64 {
        let fee = u128::from(amount_msat) * u128::from(self.max_fee_ppm) / 1_000_000;
        u64::try_from(fee).unwrap_or(u64::MAX)
    }
}

impl Default for Limits {
    /// 10,000 satoshi in an hour and for one payment, 100,000 in a day, half of that to one node; a
    /// tenth for fees.
    fn default() -> Self {
        Self {
            max_msat_per_payment: 10_000_000,
            max_msat_per_hour: 10_000_000,
            max_msat_per_day: 100_000_000,
            max_msat_per_destination_day: 50_000_000,
            max_fee_ppm: 100_000,
        }
    }
}

/// A payment that is about to be made, for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// Payment hash of the invoice.
    pub payment_hash: [u8; 32],
    /// Who is paid.
    pub node: NodeId,
    /// The bytes that it buys; 0 where that is not known.
    pub bytes: u64,
    /// The invoice's amount, in millisatoshi.
    pub amount_msat: u64,
    /// The most that it may cost beyond that, in millisatoshi.
    pub max_fee_msat: u64,
    /// When, in seconds since 1970; 0 if that is not known.
    pub begun_at: u64,
    /// When by the [clock of what is spent](Recent::at), in seconds.
    pub spent_at: u64,
    /// The node's ticket, which is of use for 15 minutes.
    pub promise: Promise,
    /// When the invoice expires, in seconds since 1970.
    pub expires_at: u64,
    /// Whose wallet pays it ([`Wallet::key`]).
    pub wallet: Option<[u8; 33]>,
}

/// An invoice that was paid, and whose ticket may still be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Payment hash of the invoice.
    pub payment_hash: [u8; 32],
    /// Who was paid.
    pub node: NodeId,
    /// Its ticket.
    pub promise: Promise,
    /// What paying revealed.
    pub preimage: [u8; 32],
    /// Whether the bytes were credited: what is left of them is to be asked for.
    pub credited: bool,
}

/// A payment whose outcome is not in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenPayment {
    /// Its payment hash.
    pub payment_hash: [u8; 32],
    /// The invoice's amount, in millisatoshi.
    pub amount_msat: u64,
    /// When the invoice expires, in seconds since 1970.
    pub expires_at: u64,
    /// Whose wallet was asked to pay it.
    pub wallet: Option<[u8; 33]>,
}

/// Something that was spent lately, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpentAmount {
    /// The payment's hash.
    pub payment_hash: [u8; 32],
    /// Who was paid.
    pub node: NodeId,
    /// When by the [clock of what is spent](Recent::at), in seconds.
    pub at: u64,
    /// How much, fee included, in millisatoshi.
    pub msat: u64,
}

/// What the ledger knows of recent spending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent {
    /// The latest reading of the clock of what is spent, in seconds: it only ever goes forward,
    /// wherever the system's clock may jump.
    pub at: u64,
    /// The latest reading of the system's clock that a payment began at, in seconds since 1970.
    pub unix: u64,
    /// What was spent in the 24 hours before `at`, the oldest first.
    pub spent: Vec<SpentAmount>,
}

/// Where it is written down what this node spends. Everything here may block, and is on disk when
/// it returns.
pub trait Purchases: Send + Sync + 'static {
    /// What was spent lately.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn recent(&self) -> Result<Recent, String>;

    /// A payment is about to be made. False: one with this payment hash was begun before, and may
    /// have been made.
    ///
    /// # Errors
    /// Why it cannot be written. Whether it is on disk is not known then.
    fn begin(&self, intent: &Intent) -> Result<bool, String>;

    /// Invoices that were paid since this time, in seconds since 1970: each that was not credited,
    /// and of each node the latest that was; the oldest first.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn kept(&self, since: u64) -> Result<Vec<Kept>, String>;

    /// Payments whose outcome was never written down, some thousand at most.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn open_payments(&self) -> Result<Vec<OpenPayment>, String>;

    /// It was made: what it revealed and what it cost beyond its amount, in millisatoshi.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn paid(
        &self,
        payment_hash: &[u8; 32],
        preimage: &[u8; 32],
        fee_msat: u64,
    ) -> Result<(), String>;

    /// It was not made, and will not be: it is forgotten.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn not_paid(&self, payment_hash: &[u8; 32]) -> Result<(), String>;

    /// The node that was paid has credited so many bytes.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn credited(&self, payment_hash: &[u8; 32], bytes: u64) -> Result<(), String>;
}

/// What a node pays with: a wallet, and what it may spend.
#[derive(Clone)]
pub struct Payer {
    /// Pays.
    pub wallet: Arc<dyn Wallet>,
    /// Limits that, and writes it down.
    pub spending: Arc<Spending>,
}

impl Payer {
    /// Pays a bill, if that may be: gives its payment hash and what became of it. It may block for
    /// long. It ends by itself even if nobody waits any more.
    ///
    /// # Errors
    /// [`NotPaid`]: nothing was spent.
    pub fn pay(&self, bill: &Bill) -> Result<([u8; 32], Outcome), NotPaid> {
        let begun = self.spending.begin(bill, self.wallet.key())?;
        let outcome = self.wallet.pay(bill, begun.max_fee_msat());
        self.spending.end(begun, outcome)
    }

    /// Looks up what became of payments whose outcome is not in the ledger, as after a crash, books
    /// it, and gives those of which it is known now: payment hash, and what paying revealed, or
    /// `None` if nothing was paid. It may block for long, and pays nothing.
    pub fn resolve(&self) -> Vec<Resolved> {
        self.spending.resolve(&*self.wallet)
    }
}
