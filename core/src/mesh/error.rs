//! Why a packet or a payment was refused.

use crate::payment::covenant::CovenantError;
use crate::payment::lightning::LightningError;
use crate::payment::replay::ReplayError;
use crate::policy::mode::MeshMode;
use crate::wire::WireError;
use crate::wire::route_error::Cause;

/// Why an input was refused; each carries a reason that prints as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum MeshError {
    /// The neighbour or the link is at fault, or has no room.
    #[error("{0}")]
    NetworkError(#[from] NetworkReason),
    /// The payment does not hold.
    #[error("{0}")]
    PaymentVerificationFailed(#[from] PaymentReason),
    /// The payment was used before, or cannot be remembered.
    #[error("{0}")]
    ReplayDetected(#[from] ReplayError),
    /// There is no way to the destination, or the packet strayed from its own.
    #[error("{0}")]
    RoutingError(#[from] RoutingReason),
}

/// Reasons of [`MeshError::NetworkError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum NetworkReason {
    /// The bytes are not a packet.
    #[error("{0}")]
    Malformed(#[from] WireError),
    /// The packet is larger than is accepted.
    #[error("the packet has {size} bytes, at most {max} are accepted")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: u32,
    },
    /// The link is closed.
    #[error("the link is closed")]
    LinkClosed,
    /// The first packet was not a hello.
    #[error("the neighbour sent another packet before its hello")]
    NoHello,
    /// The kind is reserved for flows.
    #[error("flows are not carried")]
    NoFlows,
    /// The neighbour is on another Bitcoin network.
    #[error("the neighbour is on another Bitcoin network")]
    OtherNetwork,
    /// The neighbour table is full.
    #[error("there is no room for another neighbour")]
    TooManyNeighbours,
    /// The other end is this node itself.
    #[error("the other end of the link is this node itself")]
    Itself,
    /// Another neighbour's identity begins with the same eight bytes.
    #[error("another neighbour's identity begins with the same eight bytes")]
    HopIdTaken,
    /// The same neighbour has another link that is kept.
    #[error("the neighbour has another link, which is kept")]
    OtherLinkKept,
    /// Nothing was heard for too long.
    #[error("nothing was heard from the neighbour for too long")]
    Silent,
    /// The neighbour's allowance of free traffic is used up.
    #[error("the neighbour's allowance of free traffic is used up")]
    QuotaExceeded,
    /// The queue of the link to the next hop is full.
    #[error("the link to the next hop is full")]
    Congested,
    /// Too many packets wait for an answer.
    #[error("too many packets wait for an answer")]
    TooManyParked,
}

/// Reasons of [`MeshError::PaymentVerificationFailed`].
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
    /// The source's key is not the one that its identity says.
    #[error("the public key in the packet is not the source's")]
    SourceKey,
    /// The source's signature is wrong.
    #[error("the source did not sign the packet")]
    SourceSignature,
    /// The wall clock was never set.
    #[error("the wall clock is not set, so no payment is accepted")]
    NoClock,
    /// The store failed.
    #[error("the store failed, so no payment is accepted")]
    StoreFailed,
    /// The node gave no answer, or said that the block is not in the best chain.
    #[error("the funding transaction is not known to be confirmed")]
    Unconfirmed,
}

/// Reasons of [`MeshError::RoutingError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum RoutingReason {
    /// No route is known and none was found.
    #[error("no route to the destination was found")]
    NoRoute,
    /// The destination is this node.
    #[error("the destination is this node itself")]
    Itself,
    /// The next hop is not a neighbour.
    #[error("the next hop is not a neighbour")]
    NextHopGone,
    /// The packet is larger than the next hop accepts.
    #[error("the packet has {size} bytes, the next hop accepts {max}")]
    TooLargeForHop {
        /// Its size.
        size: usize,
        /// What the next hop accepts.
        max: u32,
    },
    /// This node is not where the packet says that it should be now.
    #[error("this node is not the hop at which the packet should be now")]
    NotOurTurn,
    /// The packet did not come from the hop before us on its route.
    #[error("the packet did not come from the hop before this node")]
    WrongNeighbour,
    /// A node is on the route twice.
    #[error("a node is on the packet's route twice")]
    Loop,
    /// The packet was here before.
    #[error("the packet was here before")]
    Duplicate,
    /// The request was seen before, or is our own.
    #[error("the route request was seen before")]
    KnownRequest,
    /// A reply or an error that answers nothing that passed here.
    #[error("nothing that passed here is answered by this packet")]
    Unsolicited,
    /// The destination did not sign the reply.
    #[error("the destination did not sign the route reply")]
    ReplySignature,
    /// The hop limit is used up.
    #[error("the hop limit is used up")]
    HopLimit,
    /// Too many searches are under way.
    #[error("too many searches are under way")]
    TooManySearches,
    /// A relay stopped the packet.
    #[error("a relay stopped the packet: {0}")]
    Stopped(Cause),
}
