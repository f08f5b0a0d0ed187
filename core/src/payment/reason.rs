//! Why a payment is refused.

use super::covenant::CovenantError;
use super::lightning::LightningError;
use super::replay::ReplayError;
use crate::config::MeshMode;
use crate::flow::tickets::TicketError;

/// Why a packet is not carried for want of a payment that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum PaymentReason {
    /// Payment is required and there is no proof.
    #[error("payment is required and there is no proof")]
    Required,
    /// The mode does not carry this protocol at any price.
    #[error("mode {0} does not carry this protocol")]
    ModeRefused(MeshMode),
    /// The mode takes no payment, so that nobody checks the proof.
    #[error("mode {0} takes no payment and carries nothing with a proof")]
    ModeTakesNone(MeshMode),
    /// The payload goes free, so that a proof for it is wasted.
    #[error("this payload goes free: send it without a proof of payment")]
    NotNeeded,
    /// The encoding of the proof is not known, or it is too long.
    #[error("the proof of payment is malformed")]
    Malformed,
    /// The Lightning payment does not hold.
    #[error("{0}")]
    Lightning(#[from] LightningError),
    /// The covenant does not hold.
    #[error("{0}")]
    Covenant(#[from] CovenantError),
    /// Our share is less than our tariff.
    #[error(
        "this node's share of the payment is {share_msat} msat, its tariff asks for {price_msat} msat"
    )]
    AmountTooSmall {
        /// Our share of the amount.
        share_msat: u64,
        /// What the tariff asks for.
        price_msat: u64,
    },
    /// The payment is dated before this node, which keeps no records, started.
    #[error(
        "the payment is dated before the start of this node, which keeps no records of earlier ones"
    )]
    BeforeStart,
    /// The source's key is not the one that its identity says.
    #[error("the public key in the packet does not belong to its source")]
    SourceKey,
    /// The source's signature is wrong.
    #[error("the signature of the source is not valid")]
    SourceSignature,
    /// The wall clock was never set.
    #[error("the wall clock is not set, so no payment can be checked; set the clock of this node")]
    NoClock,
    /// The neighbour's allowance of payments that do not hold is used up.
    #[error("too many invalid payments via this neighbour; checks are rate-limited")]
    TooManyBad,
    /// The store failed.
    #[error("the store failed, so no payment is accepted")]
    StoreFailed,
    /// A ticket is not issued or not taken.
    #[error("{0}")]
    Ticket(#[from] TicketError),
    /// The source has no bytes left on its account.
    #[error("nothing is left of what the source has bought at this node")]
    NothingLeft,
    /// A later Open of the source was taken, or this one from another neighbour.
    #[error("a later Open of the source was taken, or this one from another neighbour")]
    OldOpen,
    /// No invoice was written.
    #[error("this node could not have an invoice written")]
    NoInvoice,
    /// The node gave no answer in time.
    #[error("the Bitcoin node did not say in time whether the funding transaction is confirmed")]
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
