//! The operator's own Lightning node: it is paid for what this node carries, and pays what this
//! node buys.
//!
//! ```text
//! Backend     one Lightning node: lnd.rs, cln.rs, phoenixd.rs, lnbits.rs, ldk.rs
//!    |
//! Lightning   pays once and finds out what became of it; writes invoices and checks them
//!    |
//! Wallet, Issue   what the engine pays with, and has its invoices written by
//! ```
//!
//! Where none is configured on regtest, [`RegtestWallet`](crate::wallet::RegtestWallet) and
//! [`Issuer`](crate::issuer::Issuer) stand in the place of [`Lightning`], with play money.
//!
//! A further backend is one file with one implementation of [`Backend`], a place in
//! [`BackendSettings`], and a server of its tests: `conformance_tests.rs` runs over each.
//!
//! # Rules for a backend
//! - Every call blocks, is called from several threads at once, and ends within the time that
//!   [`Timeouts`] gives it, whatever the other end does. Answers have a largest size.
//! - [`Error`] never holds a credential.
//! - [`Backend::pay`] is called once for a payment hash and makes no second attempt of its own after
//!   its request was sent. It says [`PaymentStatus::Failed`] only where the Lightning node itself said
//!   that nothing is on its way any more; every doubt is an [`Error`], or
//!   [`PaymentStatus::Pending`], and is looked up later.
//! - [`PaymentStatus::NotFound`] only where the Lightning node has answered, for this payment hash,
//!   that it does not know it.

mod check;
mod cln;
mod error;
mod http;
pub(crate) mod ldk;
mod lnbits;
mod lnd;
mod node;
mod phoenixd;
mod till;
mod tls;

#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
pub(crate) mod fake;

pub use check::{Checkup, Finding, connect};
pub use error::Error;
pub use node::Lightning;
pub use till::{AskedList, Till};

use crate::wallet::{PaymentStatus, Reach};
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::id::Network;
use secp256k1::PublicKey;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A Lightning node, or a wallet on one.
pub trait Backend: Send + Sync + 'static {
    /// What it is, as `lightning.backend` names it.
    fn name(&self) -> &'static str;

    /// Who it is, and whether it follows the chain.
    ///
    /// # Errors
    /// Any.
    fn info(&self) -> Result<Info, Error>;

    /// What it can receive and pay now.
    ///
    /// # Errors
    /// Any.
    fn liquidity(&self) -> Result<Liquidity, Error>;

    /// Writes an invoice, as text (BOLT 11). Its text is `order.description`, its amount exactly
    /// `order.amount_msat`.
    ///
    /// # Errors
    /// Any. An invoice may have been written all the same; it is left to expire.
    fn invoice(&self, order: &InvoiceOrder<'_>) -> Result<String, Error>;

    /// Pays an invoice, and waits for what becomes of it, up to [`Timeouts::payment`]. The payment
    /// must fail rather than cost more than `order.max_fee_msat` beyond its amount.
    ///
    /// # Errors
    /// Any. Unless [`Error::is_before_the_call`] says otherwise, it may be paid.
    fn pay(&self, order: &PaymentOrder<'_>) -> Result<PaymentStatus, Error>;

    /// What it knows of the way to a payee for an amount and at most that fee, in millisatoshi; it
    /// pays nothing. A node that cannot tell leaves this as it is.
    ///
    /// # Errors
    /// Any.
    fn reach(&self, _payee: &PublicKey, _amount_msat: u64, _max_fee: u64) -> Result<Reach, Error> {
        Ok(Reach::Unknown)
    }

    /// What became of an outgoing payment.
    ///
    /// # Errors
    /// Any.
    fn payment(&self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, Error>;

    /// What became of an invoice that it wrote.
    ///
    /// # Errors
    /// Any.
    fn invoice_status(&self, payment_hash: &[u8; 32]) -> Result<InvoiceStatus, Error>;
}

/// Who a Lightning node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its public key, which signs its invoices.
    pub key: PublicKey,
    /// The name that it gives itself; empty: none.
    pub alias: String,
    /// Its network, where it says so.
    pub network: Option<Network>,
    /// Height of its chain, where it says so.
    pub block_height: Option<u32>,
    /// Whether it has followed the chain up to now, as far as it says.
    pub is_synced: bool,
    /// Its version, where it says so; else empty.
    pub version: String,
}

/// What a Lightning node can receive and pay in all, in millisatoshi. A single payment may be able to
/// carry less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Liquidity {
    /// The most that it can receive; `None`: it does not say.
    pub receivable_msat: Option<u64>,
    /// The most that it can pay.
    pub payable_msat: u64,
}

/// An invoice that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvoiceOrder<'a> {
    /// Its text: `blvm-mesh:` and 64 hex digits, 74 characters.
    pub description: &'a str,
    /// Its amount, in millisatoshi; not 0.
    pub amount_msat: u64,
    /// Seconds until it expires; not 0.
    pub expiry_s: u32,
}

/// An invoice that is to be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentOrder<'a> {
    /// The invoice (BOLT 11).
    pub invoice: &'a str,
    /// Its payment hash.
    pub payment_hash: [u8; 32],
    /// Its amount, in millisatoshi.
    pub amount_msat: u64,
    /// The most that paying it may cost beyond that, in millisatoshi.
    pub max_fee_msat: u64,
}

/// What became of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceStatus {
    /// It is paid.
    Settled,
    /// It can be paid, or a payment of it is held.
    Open,
    /// It was not paid, and cannot be any more.
    Expired,
    /// The Lightning node does not know it.
    NotFound,
}

/// How long is waited for a Lightning node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For an answer that it has at hand.
    pub answer: Duration,
    /// For a payment to end.
    pub payment: Duration,
    /// Beyond that, for the Lightning node to say how it ended.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let [answer, payment, grace] = [15, 60, 30].map(Duration::from_secs);
        Self { answer, payment, grace }
    }
}

impl BackendSettings {
    /// What it is, as `lightning.backend` names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lnd { .. } => "lnd",
            Self::Cln { .. } => "cln",
            Self::Phoenixd { .. } => "phoenixd",
            Self::Lnbits { .. } => "lnbits",
            Self::Ldk { .. } => "ldk",
        }
    }
}

/// How the Lightning node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LightningSettings {
    /// Which it is, and where.
    pub backend: BackendSettings,
    /// How long is waited for it.
    pub timeouts: Timeouts,
}

/// Which Lightning node, and where. All credentials are files, which are read anew for each call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendSettings {
    /// LND's REST interface.
    Lnd {
        /// `https://HOST:PORT`.
        url: String,
        /// File with the macaroon.
        macaroon: PathBuf,
        /// File with the certificate that it must show, or with that of who signed it (PEM);
        /// `None`: one that the system trusts.
        certificate: Option<PathBuf>,
    },
    /// Core Lightning's `lightning-rpc`.
    Cln {
        /// The Unix socket.
        socket: PathBuf,
    },
    /// phoenixd's HTTP interface.
    Phoenixd {
        /// `http://HOST:PORT`.
        url: String,
        /// File with the password, or its `phoenix.conf`.
        password: PathBuf,
    },
    /// A wallet of an LNbits server.
    Lnbits {
        /// `https://HOST`.
        url: String,
        /// File with the wallet's admin key.
        api_key: PathBuf,
        /// As LND's.
        certificate: Option<PathBuf>,
    },
    /// `blvm-mesh-lightning`, the service in `contrib/lightning-ldk`.
    Ldk {
        /// The Unix socket.
        socket: PathBuf,
    },
}

impl LightningSettings {
    /// The backend; nothing is asked yet.
    pub fn open(&self) -> Arc<dyn Backend> {
        let timeouts = self.timeouts;
        match self.backend.clone() {
            BackendSettings::Lnd { url, macaroon, certificate } => {
                Arc::new(lnd::Lnd::new(&url, macaroon, certificate.as_deref(), timeouts))
            }
            BackendSettings::Cln { socket } => Arc::new(cln::Cln::new(socket, timeouts)),
            BackendSettings::Phoenixd { url, password } => {
                Arc::new(phoenixd::Phoenixd::new(&url, password, timeouts))
            }
            BackendSettings::Lnbits { url, api_key, certificate } => {
                Arc::new(lnbits::Lnbits::new(&url, api_key, certificate.as_deref(), timeouts))
            }
            BackendSettings::Ldk { socket } => Arc::new(ldk::Ldk::new(socket, timeouts)),
        }
    }
}

/// A node's public key in hex.
fn key(text: &str) -> Result<PublicKey, Error> {
    text.parse().map_err(|_| Error::Answer("the node's key is none".into()))
}

/// What paying revealed, in hex.
fn preimage(text: &str, payment_hash: &[u8; 32]) -> Result<[u8; 32], Error> {
    let preimage = http::hash(text)?;
    match sha256::Hash::hash(&preimage).to_byte_array() == *payment_hash {
        true => Ok(preimage),
        false => Err(Error::Answer("its preimage is not the payment's".into())),
    }
}
