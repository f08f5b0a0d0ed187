//! Pays once by a backend and finds out what became of it; writes invoices by it and checks them.

use super::{Backend, Error, Info, InvoiceOrder, PaymentOrder};
use crate::node::{Issue, Issued};
use crate::wallet::{Bill, Outcome, PaymentStatus, Reach, Wallet};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::bolt11::{Invoice, TERMS_PREFIX};
use blvm_mesh_core::wire::account::MAX_INVOICE;
use secp256k1::{PublicKey, Secp256k1};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a payment that has not ended is followed by whoever called for it. Then the ledger
/// leaves it open, and it is looked up from time to time.
const FOLLOWED: Duration = Duration::from_secs(30);
/// Pause between two look-ups of it.
const PAUSE: Duration = Duration::from_secs(2);

/// The operator's Lightning node, whose key was asked for.
#[derive(Clone)]
pub struct Lightning {
    backend: Arc<dyn Backend>,
    network: Network,
    key: PublicKey,
    followed: Duration,
    pause: Duration,
}

impl Lightning {
    /// With this backend, on this network, whose node has this key.
    pub fn new(backend: Arc<dyn Backend>, network: Network, key: PublicKey) -> Self {
        Self { backend, network, key, followed: FOLLOWED, pause: PAUSE }
    }

    /// With other times to follow a payment and between two look-ups.
    #[cfg(test)]
    pub(crate) fn following(self, followed: Duration, pause: Duration) -> Self {
        Self { followed, pause, ..self }
    }

    /// The key that signs its invoices.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The backend.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Looks a payment up until it has ended, or for as long as it is followed.
    fn follow(&self, payment_hash: &[u8; 32], why: &str) -> Outcome {
        let until = Instant::now() + self.followed;
        loop {
            match self.backend.payment(payment_hash) {
                Ok(PaymentStatus::Paid { preimage, fee_msat }) => {
                    return Outcome::Paid { preimage, fee_msat };
                }
                Ok(PaymentStatus::Failed(why)) => return Outcome::NotPaid(why),
                // The call may be on its way to the Lightning node yet.
                Ok(PaymentStatus::Pending | PaymentStatus::NotFound) | Err(_) => {}
            }
            let now = Instant::now();
            if now >= until {
                return Outcome::Unknown(why.to_owned());
            }
            std::thread::sleep(self.pause.min(until - now));
        }
    }

    /// After the backend's own error: whether anything is on its way all the same.
    fn after_refusal(&self, payment_hash: &[u8; 32], error: &Error) -> Outcome {
        match self.backend.payment(payment_hash) {
            Ok(PaymentStatus::NotFound | PaymentStatus::Failed(_)) => {
                Outcome::NotPaid(error.to_string())
            }
            _ => self.follow(payment_hash, &error.to_string()),
        }
    }
}

impl Wallet for Lightning {
    fn pay(&self, bill: &Bill, max_fee_msat: u64) -> Outcome {
        let invoice = match Invoice::from_text(&bill.invoice) {
            Ok(invoice) if invoice.is_for(self.network) => invoice,
            Ok(_) => return Outcome::NotPaid("the invoice is for another network".into()),
            Err(error) => return Outcome::NotPaid(error.to_string()),
        };
        let payment_hash = invoice.payment_hash;
        let order = PaymentOrder {
            invoice: &bill.invoice,
            payment_hash,
            amount_msat: bill.amount_msat,
            max_fee_msat,
        };
        match self.backend.pay(&order) {
            Ok(PaymentStatus::Paid { preimage, fee_msat }) => Outcome::Paid { preimage, fee_msat },
            Ok(PaymentStatus::Failed(why)) => Outcome::NotPaid(why),
            Ok(PaymentStatus::Pending | PaymentStatus::NotFound) => {
                self.follow(&payment_hash, "it is held on its way")
            }
            Err(error) if error.is_before_the_call() => Outcome::NotPaid(error.to_string()),
            Err(error @ Error::Refused(_)) => self.after_refusal(&payment_hash, &error),
            Err(error) => self.follow(&payment_hash, &error.to_string()),
        }
    }

    fn reach(&self, bill: &Bill, max_fee_msat: u64) -> Reach {
        let payee = Invoice::from_text(&bill.invoice)
            .ok()
            .and_then(|invoice| invoice.recover_payee(&Secp256k1::verification_only()).ok());
        let Some(payee) = payee else { return Reach::Unknown };
        match self.backend.reach(&payee, bill.amount_msat, max_fee_msat) {
            Ok(reach) => reach,
            Err(error) => {
                tracing::debug!(%payee, %error, "the way to a payee cannot be looked up");
                Reach::Unknown
            }
        }
    }

    fn look_up(&self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, String> {
        self.backend.payment(payment_hash).map_err(|e| e.to_string())
    }

    fn key(&self) -> Option<[u8; 33]> {
        Some(self.key.serialize())
    }
}

impl Issue for Lightning {
    fn issue(
        &self,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, String> {
        let description =
            String::from_utf8_lossy(TERMS_PREFIX).into_owned() + &hex::encode(terms_hash);
        let expiry_s = u32::try_from(expiry_s).map_err(|_| "the expiry is too far away")?;
        if amount_msat == 0 || expiry_s == 0 {
            return Err("an invoice needs an amount and an expiry".into());
        }
        let order = InvoiceOrder { description: &description, amount_msat, expiry_s };
        let text = self.backend.invoice(&order).map_err(|e| e.to_string())?;
        let wrong = |what: &str| format!("the Lightning node wrote an invoice {what}");
        if text.len() > MAX_INVOICE {
            return Err(wrong(&format!(
                "of {} characters, and packets carry {MAX_INVOICE}: it has too many route hints, as \
                 of many unannounced channels",
                text.len()
            )));
        }
        let invoice =
            Invoice::from_text(&text).map_err(|e| wrong(&format!("that cannot be read: {e}")))?;
        if !invoice.is_for(self.network) {
            return Err(wrong(&format!(
                "for {}, this node is on {}",
                invoice.network(),
                self.network
            )));
        }
        if invoice.amount_msat != Some(amount_msat) {
            return Err(wrong("over another amount"));
        }
        if !invoice.description.commits_to(&terms_hash) {
            return Err(wrong("with another text"));
        }
        if invoice.verify_by(&Secp256k1::verification_only(), &self.key).is_err() {
            return Err(wrong(&format!(
                "that is not signed by its key {}: restart this node if the Lightning node is \
                 another now",
                self.key
            )));
        }
        let expires_at = invoice.expires_at().ok_or_else(|| wrong("that never expires"))?;
        let payment_hash = invoice.payment_hash;
        Ok(Issued { payment_hash, preimage: None, issuer: self.key, expires_at, invoice: text })
    }
}

/// Whether a Lightning node is on this network, as far as it says.
pub(crate) fn is_on(info: &Info, network: Network) -> bool {
    info.network.is_none_or(|found| found == network)
}
