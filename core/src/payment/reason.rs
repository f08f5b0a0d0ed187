//! Why a payment is refused.

use super::covenant::CovenantError;
use super::lightning::LightningError;
use super::replay::ReplayError;
use crate::config::MeshMode;

/// Why a packet is not carried for want of a payment that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum PaymentReason {
    /// Payment is required and there is no proof.
    #[error("payment is required and there is no proof")]
    Required,
    /// The mode does not carry this protocol at any price.
    #[error("mode {0} does not carry this protocol")]
    ModeRefused(MeshMode),
    /// The encoding of the proof is not known, or it is too long.
    #[error("the proof of payment cannot be read")]
    Malformed,
    /// The Lightning payment does not hold.
    #[error("{0}")]
    Lightning(#[from] LightningError),
    /// The covenant does not hold.
    #[error("{0}")]
    Covenant(#[from] CovenantError),
    /// Our share is less than our tariff.
    #[error("our share is {share_msat} msat, the tariff asks for {price_msat} msat")]
    AmountTooSmall {
        /// Our share of the amount.
        share_msat: u64,
        /// What the tariff asks for.
        price_msat: u64,
    },
    /// The payment is dated before this node, which keeps no records, started.
    #[error("the payment is dated before this node started, and it keeps no records")]
    BeforeStart,
    /// The source's key is not the one that its identity says.
    #[error("the public key in the packet is not the source's")]
    SourceKey,
    /// The source's signature is wrong.
    #[error("the source did not sign the packet")]
    SourceSignature,
    /// The wall clock was never set.
    #[error("the wall clock is not set, so no payment is accepted")]
    NoClock,
    /// The neighbour's allowance of payments that do not hold is used up.
    #[error("too many payments by way of this neighbour did not hold, so none is checked for now")]
    TooManyBad,
    /// The store failed.
    #[error("the store failed, so no payment is accepted")]
    StoreFailed,
    /// The node gave no answer in time.
    #[error("the node did not say in time whether the funding transaction is confirmed")]
    NoAnswer,
}

/// A payment that is refused: it does not hold, or it is not new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum Refused {
    /// It does not hold.
    #[error("{0}")]
    Payment(#[from] PaymentReason),
    /// It is not new, or cannot be remembered.
    #[error("{0}")]
    Replay(#[from] ReplayError),
}

impl From<LightningError> for Refused {
    fn from(e: LightningError) -> Self {
        Self::Payment(e.into())
    }
}

impl From<CovenantError> for Refused {
    fn from(e: CovenantError) -> Self {
        Self::Payment(e.into())
    }
}
