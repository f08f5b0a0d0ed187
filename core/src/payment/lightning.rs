//! Whether a Lightning proof of payment is valid here: rules 1 to 5 of docs/PROTOCOL.md,
//! "Which payments are accepted".
//!
//! In two steps, so that a relay can consult its tables between them:
//! [`LightningProof::check`] does everything that takes only hashes and returns what was
//! signed; [`Checked::verify_signature`] does the one expensive step. Until that
//! has succeeded anybody may have made the proof up, and nothing may change
//! because of it. Rules 6 and 7 (the packet's signature, replay) and the tariff
//! are left to the caller.

use super::bolt11::{Bolt11Error, Invoice, InvoiceSignature};
use super::packed::{IssuerHint, PackedError, PackedProof};
use crate::id::Network;
use secp256k1::{PublicKey, Secp256k1, Verification};
use sha2::{Digest, Sha256};
use thiserror_no_std::Error;

/// A Lightning proof of payment as it is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LightningProof<'a> {
    /// As [`super::packed::pack`] makes it.
    Packed(&'a [u8]),
    /// An invoice as wallets write it.
    Text {
        /// The invoice.
        invoice: &'a str,
        /// The preimage that paying it revealed.
        preimage: [u8; 32],
        /// What the proof says about the invoice. Must agree with it.
        stated: Option<Stated>,
    },
}

/// Amount and times that a proof repeats beside its invoice. They buy nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The amount in millisatoshi.
    pub amount_msat: u64,
    /// When the invoice was written, in seconds since 1970.
    pub timestamp: u64,
    /// From when on it is no longer valid, in seconds since 1970.
    pub expires_at: u64,
}

/// What a relay allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LightningLimits {
    /// Longest time from an invoice's timestamp to its expiry, in seconds. It bounds
    /// how long a payment must be remembered.
    pub max_lifetime_s: u64,
    /// How far ahead of this node's clock a timestamp may be, in seconds.
    pub future_skew_s: u64,
}

/// Why a Lightning proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LightningError {
    /// Rule 4: nobody has told this node the time.
    #[error("this node does not know the time, so it accepts no payment")]
    NoClock,
    /// Rule 1: the packed form is broken.
    #[error("{0}")]
    MalformedPacking(#[from] PackedError),
    /// Rule 1: the invoice is not well-formed.
    #[error("{0}")]
    MalformedInvoice(#[from] Bolt11Error),
    /// Rule 1: the invoice is for another network.
    #[error("the invoice is for {invoice}, this node is on {ours}")]
    WrongNetwork {
        /// The invoice's network; for `lntb` version 3.
        invoice: Network,
        /// This node's network.
        ours: Network,
    },
    /// Rule 2: the invoice was not paid with this preimage.
    #[error("the preimage does not belong to the invoice: its SHA-256 is not the payment hash")]
    PreimageMismatch,
    /// Rule 3: an invoice that lets the payer choose does not prove an amount.
    #[error("the invoice names no amount")]
    NoAmount,
    /// Rule 3: the proof's own copy of the amount differs.
    #[error("the proof claims {stated} msat, the invoice is over {signed} msat")]
    AmountDiffers {
        /// The proof's amount, in millisatoshi.
        stated: u64,
        /// The signed amount, in millisatoshi.
        signed: u64,
    },
    /// Rule 3: the proof's own copies of the times differ.
    #[error("the proof claims other times than the invoice")]
    TimesDiffer,
    /// Rule 4: the invoice is from the future, by more than clocks may differ.
    #[error("the invoice is dated in the future: {timestamp}, now is {now} (seconds since 1970)")]
    NotYetValid {
        /// Its timestamp, in seconds since 1970.
        timestamp: u64,
        /// This node's clock, in seconds since 1970.
        now: u64,
    },
    /// Rule 4: the invoice has expired.
    #[error("the invoice expired at {expires_at}, now is {now} (seconds since 1970)")]
    Expired {
        /// From when on it is not valid, in seconds since 1970.
        expires_at: u64,
        /// This node's clock, in seconds since 1970.
        now: u64,
    },
    /// Rule 4: the invoice lives longer than payments are remembered here.
    #[error("the invoice is valid for {expiry_s} s, at most {max_lifetime_s} s are allowed")]
    LifetimeTooLong {
        /// Its lifetime, in seconds.
        expiry_s: u64,
        /// [`LightningLimits::max_lifetime_s`].
        max_lifetime_s: u64,
    },
    /// Rule 5: the invoice was written for other terms, or for none.
    #[error("the invoice commits to other terms: another size, route, source or destination")]
    TermsNotCommitted,
    /// Rule 1: this relay accepts nobody's invoices.
    #[error("this node has no issuer, so it accepts no invoice (mesh.issuers)")]
    NoIssuers,
    /// Rule 1: the hint is that of no accepted issuer.
    #[error("the invoice is not from an issuer that this node accepts")]
    UnknownIssuer,
    /// Rule 1: the invoice is by a key that is not an accepted issuer's: anybody can
    /// write an invoice to himself.
    #[error("the invoice is signed by a key that is not an accepted issuer's")]
    SelfIssued,
    /// Rule 1: the signature is not by the issuer named. The issuer did not write
    /// this, or not for these terms where the packed form leaves them out.
    #[error("the signature of the invoice is not by the issuer named")]
    InvalidSignature,
    /// Rule 1: this node's own Lightning node signed it, for somebody else: a customer of it could
    /// pay himself.
    #[cfg(feature = "alloc")]
    #[error("the invoice is by this node's Lightning node, and this node did not ask for it")]
    NotAsked,
}

/// A proof that is good if its signature is. All of it is from what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// SHA-256 of the preimage: the replay key.
    pub payment_hash: [u8; 32],
    /// What was paid, in millisatoshi.
    pub amount_msat: u64,
    /// When the invoice was written, in seconds since 1970.
    pub timestamp: u64,
    /// From when on the proof is refused, in seconds since 1970: the payment hash
    /// may be forgotten then.
    pub expires_at: u64,
    /// Who signed it, to be verified.
    pub signature: InvoiceSignature,
    issuer: Option<IssuerHint>,
}

impl LightningProof<'_> {
    /// Checks all but the signature.
    ///
    /// `terms_hash` is that of the terms on which the packet is to be carried
    /// ([`Terms::hash`](super::terms::Terms::hash)), `wall_clock` the time in seconds
    /// since 1970, if this node knows it. An invoice is valid from its timestamp,
    /// less the skew allowed, until one second before it expires.
    ///
    /// # Errors
    /// [`LightningError`]: the rule that the proof breaks.
    pub fn check(
        &self,
        terms_hash: &[u8; 32],
        network: Network,
        wall_clock: Option<u64>,
        limits: &LightningLimits,
    ) -> Result<Checked, LightningError> {
        use LightningError::*;
        let now = wall_clock.ok_or(NoClock)?;
        let (invoice, preimage, issuer, stated) = match *self {
            Self::Packed(bytes) => {
                let packed = PackedProof::parse(bytes)?;
                let invoice = packed.invoice(terms_hash)?;
                (invoice, *packed.preimage(), Some(packed.issuer()), None)
            }
            Self::Text { invoice, preimage, stated } => {
                (Invoice::from_text(invoice)?, preimage, None, stated)
            }
        };
        if !invoice.is_for(network) {
            return Err(WrongNetwork { invoice: invoice.network(), ours: network });
        }
        if invoice.payment_hash != <[u8; 32]>::from(Sha256::digest(preimage)) {
            return Err(PreimageMismatch);
        }
        let amount_msat = invoice.amount_msat.ok_or(NoAmount)?;
        let Invoice { timestamp, expiry_s, .. } = invoice;
        let too_long = LifetimeTooLong { expiry_s, max_lifetime_s: limits.max_lifetime_s };
        if expiry_s > limits.max_lifetime_s {
            return Err(too_long);
        }
        // Past 64 bits only if the configuration allows a lifetime of ages.
        let expires_at = invoice.expires_at().ok_or(too_long)?;
        if let Some(stated) = stated {
            if stated.amount_msat != amount_msat {
                return Err(AmountDiffers { stated: stated.amount_msat, signed: amount_msat });
            }
            if (stated.timestamp, stated.expires_at) != (timestamp, expires_at) {
                return Err(TimesDiffer);
            }
        }
        if timestamp > now.saturating_add(limits.future_skew_s) {
            return Err(NotYetValid { timestamp, now });
        }
        if now >= expires_at {
            return Err(Expired { expires_at, now });
        }
        if !invoice.description.commits_to(terms_hash) {
            return Err(TermsNotCommitted);
        }
        let Invoice { payment_hash, signature, .. } = invoice;
        Ok(Checked { payment_hash, amount_msat, timestamp, expires_at, signature, issuer })
    }
}

impl Checked {
    /// Whether the invoice or the hint names one of `issuers`, or neither names anybody: what
    /// can be told without a signature.
    ///
    /// # Errors
    /// [`LightningError`]: no issuer is accepted, or another one is named.
    pub fn names_issuer_of(&self, issuers: &[PublicKey]) -> Result<(), LightningError> {
        if issuers.is_empty() {
            return Err(LightningError::NoIssuers);
        }
        // The n field is signed and goes before the hint, which is not.
        if let Some(payee) = self.signature.payee {
            let named = issuers.iter().any(|key| key.serialize() == payee);
            return if named { Ok(()) } else { Err(LightningError::SelfIssued) };
        }
        let named = |hint| issuers.iter().any(|key| IssuerHint::of(key) == hint);
        match self.issuer.is_none_or(named) {
            true => Ok(()),
            false => Err(LightningError::UnknownIssuer),
        }
    }

    /// Checks that one of `issuers` signed the invoice, and gives its key.
    ///
    /// One ECDSA verification where the invoice or the hint names the key (one for
    /// each issuer that shares the hint, of 65,536), or where there is only one issuer; else
    /// one recovery, which takes longer.
    ///
    /// # Errors
    /// [`LightningError`]: none of them signed it.
    pub fn verify_signature<C: Verification>(
        &self,
        secp: &Secp256k1<C>,
        issuers: &[PublicKey],
    ) -> Result<PublicKey, LightningError> {
        use LightningError::*;
        if issuers.is_empty() {
            return Err(NoIssuers);
        }
        // The n field is signed and goes before the hint, which is not.
        if let Some(payee) = self.signature.payee {
            let issuer = issuers.iter().find(|key| key.serialize() == payee).ok_or(SelfIssued)?;
            self.signature.verify_by(secp, issuer).map_err(|_| InvalidSignature)?;
            return Ok(*issuer);
        }
        if let Some(hint) = self.issuer {
            let mut error = UnknownIssuer;
            for issuer in issuers.iter().filter(|key| IssuerHint::of(key) == hint) {
                if self.signature.verify_by(secp, issuer).is_ok() {
                    return Ok(*issuer);
                }
                error = InvalidSignature;
            }
            return Err(error);
        }
        if let [issuer] = issuers {
            return match self.signature.verify_by(secp, issuer) {
                Ok(()) => Ok(*issuer),
                Err(_) => Err(SelfIssued),
            };
        }
        let signer = self.signature.recover_payee(secp).map_err(|_| InvalidSignature)?;
        if issuers.contains(&signer) { Ok(signer) } else { Err(SelfIssued) }
    }
}

#[cfg(test)]
#[path = "lightning_tests.rs"]
mod tests;
