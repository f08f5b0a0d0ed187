//! A wallet for regtest: **play money**.
//!
//! The regtest issuer ([`crate::issuer`]) gives the preimage of each of its invoices away: it
//! follows from the payment secret, which the invoice shows. This wallet computes it, and so "pays"
//! without a channel, a coin or a Lightning node. Everybody can do the same; so there is none of
//! these on another network.

use super::{Bill, Outcome, PaymentStatus, Wallet};
use crate::issuer::preimage;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::id::Network;
use lightning_invoice::{Bolt11Invoice, Currency};

/// Pays invoices of regtest issuers, with play money.
#[derive(Debug, Clone)]
pub struct RegtestWallet(());

impl RegtestWallet {
    /// On regtest; there is none on another network.
    pub fn on(network: Network) -> Option<Self> {
        (network == Network::Regtest).then_some(Self(()))
    }
}

impl Wallet for RegtestWallet {
    fn pay(&self, bill: &Bill, _max_fee_msat: u64) -> Outcome {
        match preimage_of(bill) {
            Ok(preimage) => Outcome::Paid { preimage, fee_msat: 0 },
            Err(reason) => Outcome::NotPaid(reason),
        }
    }

    /// It pays at once or never, and keeps nothing.
    fn look_up(&self, _payment_hash: &[u8; 32]) -> Result<PaymentStatus, String> {
        Ok(PaymentStatus::NotFound)
    }

    fn key(&self) -> Option<[u8; 33]> {
        None
    }
}

/// What paying would reveal; or why it is not paid.
fn preimage_of(bill: &Bill) -> Result<[u8; 32], String> {
    let read = bill.invoice.parse::<Bolt11Invoice>();
    let invoice = read.map_err(|e| format!("the invoice cannot be read: {e}"))?;
    if invoice.currency() != Currency::Regtest {
        return Err("this wallet has play money, and pays invoices of regtest only".into());
    }
    let preimage = preimage(&invoice.payment_secret().0);
    match sha256::Hash::hash(&preimage) == *invoice.payment_hash() {
        true => Ok(preimage),
        false => Err("no regtest issuer wrote the invoice (`issuer_key`), and this wallet, which \
                      has play money only, pays no others"
            .into()),
    }
}

#[cfg(test)]
#[path = "regtest_tests.rs"]
pub(crate) mod tests;
