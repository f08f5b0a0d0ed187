//! Checking one payment for a host, apart from any packet.

use super::api::{NodeAPI, PaymentState};
use blvm_mesh_core::config::PaymentRules;
use blvm_mesh_core::payment::covenant::CovenantError;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::proof::PaymentProof;
use blvm_mesh_core::payment::reason::Refused;
use blvm_mesh_core::payment::verify::{Claim, Outcome, Verified, verify};
use secp256k1::{Secp256k1, VerifyOnly};
use std::sync::Arc;

/// Checks proofs of payment by the rules of this node, with the host's chain.
pub struct PaymentVerifier {
    rules: PaymentRules,
    api: Arc<dyn NodeAPI>,
    secp: Secp256k1<VerifyOnly>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationResult {
    /// What was paid, if it was.
    pub verified: Option<Verified>,
    /// Why it is not accepted, if it is not.
    pub refused: Option<Refused>,
    /// What the host knows of the payment. A proof that holds is not accepted
    /// where the host says that the payment failed.
    pub state: Option<PaymentState>,
}

impl VerificationResult {
    /// Whether the payment is accepted.
    pub fn is_valid(&self) -> bool {
        self.verified.is_some()
    }

    fn refused(reason: Refused) -> Self {
        Self { verified: None, refused: Some(reason), state: None }
    }
}

impl PaymentVerifier {
    /// A verifier with these rules.
    pub fn new(rules: PaymentRules, node_api: Arc<dyn NodeAPI>) -> Self {
        Self { rules, api: node_api, secp: Secp256k1::verification_only() }
    }

    /// Checks everything but whether the payment was used before, which only the
    /// node that remembers payments knows: expiry and dates, Lightning or covenant,
    /// amount, terms, issuer. A covenant's block is looked up in the host's chain.
    pub async fn verify(&self, proof: &PaymentProof<'_>, claim: &Claim<'_>) -> VerificationResult {
        let once = |known: Option<([u8; 32], KnownHeader)>| {
            let block = |hash: &[u8; 32]| {
                known.filter(|(asked, _)| asked == hash).map(|(_, header)| header)
            };
            verify(proof, claim, &self.rules, &self.secp, |_, _| Ok(()), || Ok(()), block)
        };
        let outcome = match once(None) {
            Ok(Outcome::NeedsBlock { block_hash, .. }) => {
                let known = self.api.block(&block_hash).await;
                once(known.map(|header| (block_hash, header)))
            }
            outcome => outcome,
        };
        let verified = match outcome {
            Ok(Outcome::Verified(verified)) => verified,
            Ok(Outcome::NeedsBlock { .. }) => {
                return VerificationResult::refused(CovenantError::HeaderUnknown.into());
            }
            Err(reason) => return VerificationResult::refused(reason),
        };
        let state = self.api.payment_state(&verified.key).await;
        match state {
            Some(PaymentState::Failed) => {
                VerificationResult { verified: None, refused: None, state }
            }
            _ => VerificationResult { verified: Some(verified), refused: None, state },
        }
    }
}
