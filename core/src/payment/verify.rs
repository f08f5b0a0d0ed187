//! Whether a proof pays this node for one packet: the order of the checks.
//!
//! Cheap ones first: what is read and hashed, then the replay table, then the
//! amount, then one signature. Nothing here changes anything.

use super::covenant::{self, CovenantRules, MAX_FUTURE_SECS};
use super::fee::Party;
use super::headers::KnownHeader;
use super::ledger::Method;
use super::lightning::LightningLimits;
use super::proof::PaymentProof;
use super::reason::{PaymentReason, Refused};
use super::replay::ReplayError;
use super::terms::{Purpose, Terms};
use crate::config::PaymentRules;
use secp256k1::{Secp256k1, Verification};

/// What is to be paid for, and what this node knows when it is asked.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The terms.
    pub terms: &'a Terms<'a>,
    /// What the payment is to buy.
    pub purpose: Purpose,
    /// What this node is on the route.
    pub party: Party,
    /// What this node asks for, in millisatoshi.
    pub price_msat: u64,
    /// The time, in seconds since 1970, if it is known.
    pub unix: Option<u64>,
    /// Payments dated at or before this time are not accepted.
    pub not_before: Option<u64>,
}

/// A payment that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Its replay key.
    pub key: [u8; 32],
    /// How it was made.
    pub method: Method,
    /// The whole amount, in millisatoshi.
    pub amount_msat: u64,
    /// This node's share, in millisatoshi.
    pub share_msat: u64,
    /// When it can be forgotten, in seconds since 1970.
    pub expires_at: u64,
    /// Who signed the invoice, if it is one.
    #[cfg(feature = "alloc")]
    pub issuer: Option<secp256k1::PublicKey>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The payment holds.
    Verified(Verified),
    /// It holds if this block is in the best chain with this Merkle root.
    NeedsBlock {
        /// Hash of the block, in internal byte order.
        block_hash: [u8; 32],
        /// The Merkle root that it must have, in internal byte order.
        merkle_root: [u8; 32],
    },
}

/// Checks a proof against a claim. `is_new` is asked with the replay key and
/// the time until which it would be kept, before any signature is checked; `authentic`
/// last of all before the issuer's is checked or a block looked up: whether the packet is
/// its source's, who is charged for what follows.
/// `block` looks a block up; where it knows none, the answer is
/// [`Outcome::NeedsBlock`].
///
/// # Errors
/// [`Refused`]: the first rule that the payment breaks.
pub fn verify<C: Verification>(
    proof: &PaymentProof<'_>,
    claim: &Claim<'_>,
    rules: &PaymentRules,
    secp: &Secp256k1<C>,
    is_new: impl Fn(&[u8; 32], u64) -> Result<(), ReplayError>,
    authentic: impl FnOnce() -> Result<(), PaymentReason>,
    block: impl Fn(&[u8; 32]) -> Option<KnownHeader>,
) -> Result<Outcome, Refused> {
    let unix = claim.unix.ok_or(PaymentReason::NoClock)?;
    let dated_too_early = |at: u64| match claim.not_before {
        Some(start) if at <= start => Err(PaymentReason::BeforeStart),
        _ => Ok(()),
    };
    match proof {
        PaymentProof::Lightning(proof) => {
            let limits = LightningLimits {
                max_lifetime_s: rules.max_lifetime,
                future_skew_s: rules.future_skew,
            };
            let network = claim.terms.network;
            let checked =
                proof.check(&claim.terms.hash_for(claim.purpose), network, Some(unix), &limits)?;
            dated_too_early(checked.timestamp)?;
            is_new(&checked.payment_hash, checked.expires_at)?;
            let amount_msat = checked.amount_msat;
            let hops = claim.terms.hops.len();
            let share_msat = claim.purpose.share(amount_msat, hops, claim.party);
            if share_msat < claim.price_msat {
                let price_msat = claim.price_msat;
                return Err(PaymentReason::AmountTooSmall { share_msat, price_msat }.into());
            }
            checked.names_issuer_of(&rules.issuers)?;
            authentic()?;
            let _issuer = checked.verify_signature(secp, &rules.issuers)?;
            Ok(Outcome::Verified(Verified {
                key: checked.payment_hash,
                method: Method::Lightning,
                amount_msat,
                share_msat,
                expires_at: checked.expires_at,
                #[cfg(feature = "alloc")]
                issuer: Some(_issuer),
            }))
        }
        PaymentProof::InstantSettlement(proof) => {
            let covenant_claim = covenant::Claim {
                terms: claim.terms,
                purpose: claim.purpose,
                party: claim.party,
                payout_script: &rules.payout_script,
                price_msat: claim.price_msat,
            };
            let covenant_rules = CovenantRules {
                // Without a script of ours nothing can pay us; a sender needs none.
                ctv_active: rules.covenants_active
                    && (claim.party == Party::Source || !rules.payout_script.is_empty()),
                min_confirmations: rules.min_confirmations,
                ..CovenantRules::new(claim.terms.network)
            };
            let checked = covenant::check(proof, &covenant_claim, &covenant_rules)?;
            is_new(&checked.replay_key, u64::MAX)?;
            authentic()?;
            let Some(header) = block(&checked.block_hash) else {
                let covenant::Checked { block_hash, merkle_root, .. } = checked;
                return Ok(Outcome::NeedsBlock { block_hash, merkle_root });
            };
            let accepted = checked.confirm(Some(&header), unix, &covenant_rules)?;
            // A block may be dated ahead of the clock by so much.
            dated_too_early(u64::from(header.time).saturating_sub(MAX_FUTURE_SECS))?;
            is_new(&accepted.replay_key, accepted.keep_until)?;
            Ok(Outcome::Verified(Verified {
                key: accepted.replay_key,
                method: Method::Covenant,
                amount_msat: accepted.amount_msat,
                share_msat: accepted.share_msat,
                expires_at: accepted.keep_until,
                #[cfg(feature = "alloc")]
                issuer: None,
            }))
        }
    }
}
