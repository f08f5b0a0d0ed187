//! Why a packet or a payment was refused.

use crate::flow::table::FlowTableError;
use crate::flow::tickets::TicketError;
use crate::id::Network;
#[cfg(feature = "alloc")]
use crate::id::NodeId;
use crate::payment::covenant::{CovenantError, TemplateError};
use crate::payment::headers::HeaderError;
use crate::payment::lightning::LightningError;
pub use crate::payment::reason::PaymentReason;
use crate::payment::reason::Refused;
use crate::payment::replay::ReplayError;
use crate::wire::WireError;
use crate::wire::route_error::Cause;

/// What to do about a neighbour whose packet was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Remedy {
    /// Nothing: it can happen to an honest neighbour.
    Ignore,
    /// It was counted against the neighbour: an honest one would not do it often. Nothing else is
    /// to be done; once it is too much, the remedy is to disconnect.
    Penalise,
    /// Close the link: no honest neighbour does it, or it has done too much. A neighbour that
    /// offends too often is [refused](NetworkReason::Banned) for a while.
    Disconnect,
}

/// Why an input was refused; each carries a reason that prints as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum MeshError {
    /// The neighbour or the link is at fault, or has no room.
    #[error("{0}")]
    NetworkError(#[from] NetworkReason),
    /// The payment is invalid.
    #[error("{0}")]
    PaymentVerificationFailed(#[from] PaymentReason),
    /// The payment was used before, or cannot be remembered.
    #[error("{0}")]
    ReplayDetected(#[from] ReplayError),
    /// There is no route to the destination, or the packet strayed from its own.
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
    #[error("the packet has {size} bytes, at most {max} bytes are accepted")]
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
    #[error("the neighbour did not begin with a hello")]
    NoHello,
    /// The kind is reserved for flows.
    #[error("this version does not carry flows")]
    NoFlows,
    /// The neighbour is on another Bitcoin network.
    #[error("the neighbour is on network {theirs}, this node is on {ours}")]
    OtherNetwork {
        /// The neighbour's network.
        theirs: Network,
        /// This node's network.
        ours: Network,
    },
    /// The neighbour table is full.
    #[error("the neighbour table is full (limits.neighbours)")]
    TooManyNeighbours,
    /// Too many of the neighbours have addresses of the same prefix.
    #[error("there are too many neighbours from the same address prefix")]
    TooManyOfPrefix,
    /// Another neighbour took its place.
    #[error("all places are taken, and another neighbour came first")]
    Displaced,
    /// The other end is this node itself.
    #[error("the link leads back to this node itself: the address is its own")]
    Itself,
    /// Another neighbour's identity begins with the same eight bytes.
    #[error("another neighbour's identity begins with the same eight bytes")]
    HopIdTaken,
    /// The same neighbour has another link that is kept.
    #[error("the neighbour has another link, which is kept")]
    OtherLinkKept,
    /// The neighbour has offended too often.
    #[error("banned for repeated violations")]
    Banned,
    /// Nothing was heard for too long.
    #[error("nothing was heard from the neighbour for too long")]
    Silent,
    /// The neighbour has used up its allowance of free traffic.
    #[error("the neighbour's allowance of free traffic is used up")]
    QuotaExceeded,
    /// The queue of the link to the next hop is full.
    #[error("the queue of the link to the next hop is full; send again later")]
    Congested,
    /// The inbox of this node is full.
    #[error("nobody at this node fetches what was paid for, and its room is taken")]
    InboxFull,
    /// The next hop accepts no more free traffic now.
    #[error("the next hop takes no more free traffic at present")]
    NextHopQuota,
    /// The neighbour accepts no more free traffic from this node until the time given.
    #[error("the neighbour takes this free packet in {millis} ms at the earliest")]
    NoRoomFor {
        /// Time until it does, in milliseconds.
        millis: u64,
    },
    /// The packet is larger than the burst of free traffic that the neighbour accepts.
    #[error("the packet is larger than what the neighbour takes free at once")]
    LargerThanAllowance,
    /// A block header is invalid.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// The neighbour has used up its allowance of control packets.
    #[error("the neighbour's allowance of control traffic is used up")]
    ControlQuota,
    /// A packet of a flow's other end is not taken.
    #[cfg(feature = "alloc")]
    #[error("{0}")]
    Sealed(#[from] crate::flow::end::Ignored),
    /// Too many packets wait for an answer.
    #[error("too many packets wait for a route or a look-up; send again later")]
    TooManyParked,
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
    #[error("the next hop of the route is not connected to this node")]
    NextHopGone,
    /// The packet is larger than the next hop accepts.
    #[error("the packet has {size} bytes, the route carries {max} bytes at most")]
    TooLargeForHop {
        /// Its size.
        size: usize,
        /// What the next hop accepts.
        max: u32,
    },
    /// The packet is not meant to be at this node now, by its hop limit and route.
    #[error("this node is not the next hop on the route of the packet")]
    NotOurTurn,
    /// The packet did not come from the hop before us on its route.
    #[error("the packet did not come from the hop before this node on its route")]
    WrongNeighbour,
    /// A node is on the route twice.
    #[error("a node is on the packet's route twice")]
    Loop,
    /// The packet has been here before.
    #[error("the packet has passed here before (duplicate)")]
    Duplicate,
    /// The request has been seen before, or is our own.
    #[error("the route request was seen before")]
    KnownRequest,
    /// A reply or an error that answers nothing sent through here.
    #[error("this reply or error answers no packet that passed here")]
    Unsolicited,
    /// The destination did not sign the reply.
    #[error("the destination did not sign the route reply")]
    ReplySignature,
    /// The hop limit is exhausted.
    #[error("the hop limit of the packet is used up")]
    HopLimit,
    /// The route has more hops than this node remembers.
    #[error("the route has more hops than this node can store")]
    TooManyHops,
    /// Too many searches are under way.
    #[error("too many route searches are under way (limits.searches); try again later")]
    TooManySearches,
    /// No flow with this number passes from this neighbour.
    #[error("no flow with this number passes from this neighbour")]
    FlowUnknown,
    /// There is no room for another flow.
    #[error("{0}")]
    FlowTable(#[from] FlowTableError),
    /// The destination takes no flows.
    #[error("this node takes no flows")]
    NoFlows,
    /// A relay stopped the packet.
    #[error("a relay stopped the packet: {0}")]
    Stopped(Cause),
    /// It is paid for, and every known route begins at a neighbour that is not trusted with that.
    #[cfg(feature = "alloc")]
    #[error("neighbour {0} is not trusted to relay what this node pays for (`peer trust {0}`)")]
    Untrusted(NodeId),
}

impl From<Refused> for MeshError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Payment(reason) => reason.into(),
            Refused::Replay(reason) => reason.into(),
        }
    }
}

impl From<WireError> for MeshError {
    fn from(e: WireError) -> Self {
        NetworkReason::Malformed(e).into()
    }
}

impl MeshError {
    /// What to do about a neighbour that passed on a datagram refused for this reason. It is
    /// penalised where an honest relay would have refused the datagram too.
    pub(super) fn remedy_for_payment(&self) -> Remedy {
        let forged = [
            Cause::ProofMalformed,
            Cause::PreimageMismatch,
            Cause::SourceSignature,
            Cause::TermsMismatch,
            Cause::Replay,
        ];
        match self.cause() {
            Some(cause) if forged.contains(&cause) => Remedy::Penalise,
            _ => Remedy::Ignore,
        }
    }

    /// Whether a link is closed for something that its neighbour did. Two that dial each other at
    /// once, or one too many, are not at fault; nor is who is configured for another network, who
    /// must be let in once that is mended.
    pub(super) fn is_offence(&self) -> bool {
        use NetworkReason as N;
        !matches!(
            self,
            Self::NetworkError(
                N::OtherLinkKept
                    | N::TooManyNeighbours
                    | N::TooManyOfPrefix
                    | N::HopIdTaken
                    | N::Itself
                    | N::OtherNetwork { .. }
                    | N::Banned
            )
        )
    }

    /// Whether finding this out took a signature check.
    pub(super) fn cost_a_signature(&self) -> bool {
        use PaymentReason as P;
        #[cfg(feature = "alloc")]
        if *self == Self::PaymentVerificationFailed(P::Lightning(LightningError::NotAsked)) {
            return true;
        }
        matches!(
            self,
            Self::PaymentVerificationFailed(
                P::SourceSignature | P::Lightning(LightningError::InvalidSignature)
            )
        )
    }

    /// The cause reported to the source of a datagram, if one is reported.
    pub fn cause(&self) -> Option<Cause> {
        use PaymentReason as P;
        Some(match self {
            Self::NetworkError(NetworkReason::TooLarge { .. }) => Cause::TooLarge,
            Self::NetworkError(NetworkReason::QuotaExceeded) => Cause::QuotaExceeded,
            Self::NetworkError(NetworkReason::Congested | NetworkReason::InboxFull) => {
                Cause::Congested
            }
            Self::NetworkError(NetworkReason::NextHopQuota) => Cause::NextHopQuota,
            Self::NetworkError(NetworkReason::TooManyParked) => Cause::TableFull,
            Self::NetworkError(_) => return None,
            Self::RoutingError(RoutingReason::NextHopGone) => Cause::NextHopGone,
            Self::RoutingError(RoutingReason::TooLargeForHop { .. }) => Cause::TooLarge,
            Self::RoutingError(RoutingReason::FlowUnknown) => Cause::FlowUnknown,
            Self::RoutingError(RoutingReason::FlowTable(_)) => Cause::FlowTableFull,
            Self::RoutingError(RoutingReason::NoFlows) => Cause::NoFlows,
            Self::RoutingError(_) => return None,
            Self::ReplayDetected(ReplayError::TableFull) => Cause::TableFull,
            Self::ReplayDetected(ReplayError::Forgotten { .. }) => Cause::Expired,
            Self::ReplayDetected(ReplayError::Used) => Cause::Replay,
            Self::PaymentVerificationFailed(reason) => match reason {
                P::Required => Cause::PaymentRequired,
                P::ModeRefused(_) | P::ModeTakesNone(_) => Cause::ModeRefused,
                // Only its sender refuses it for that.
                P::NotNeeded => return None,
                P::Malformed => Cause::ProofMalformed,
                P::Lightning(e) => lightning_cause(e),
                P::Covenant(CovenantError::NotActive) => Cause::CovenantInactive,
                P::Covenant(CovenantError::HeaderUnknown | CovenantError::Unconfirmed) => {
                    Cause::Unconfirmed
                }
                P::Covenant(CovenantError::TooOld) => Cause::Expired,
                P::Covenant(CovenantError::Template(TemplateError::Dust { .. })) => Cause::Dust,
                P::Covenant(CovenantError::PriceNotCovered) => Cause::AmountTooSmall,
                P::Covenant(_) => Cause::CovenantInvalid,
                P::AmountTooSmall { .. } => Cause::AmountTooSmall,
                P::BeforeStart => Cause::Expired,
                P::SourceKey | P::SourceSignature => Cause::SourceSignature,
                P::NoClock => Cause::NoClock,
                P::StoreFailed => Cause::StoreFailed,
                P::NoAnswer => Cause::Unconfirmed,
                P::TooManyBad => Cause::TooManyBad,
                P::Ticket(TicketError::Forged) => Cause::TicketInvalid,
                P::Ticket(TicketError::Expired) => Cause::Expired,
                P::Ticket(TicketError::Used) => Cause::Replay,
                P::Ticket(TicketError::TooManyUnpaid | TicketError::NoRoom) => Cause::TableFull,
                P::NothingLeft => Cause::NothingLeft,
                P::OldOpen => Cause::OldOpen,
                P::NoInvoice => Cause::NoInvoice,
            },
        })
    }
}

fn lightning_cause(e: &LightningError) -> Cause {
    use LightningError as L;
    match e {
        L::NoClock => Cause::NoClock,
        L::MalformedPacking(_) | L::MalformedInvoice(_) | L::NoAmount => Cause::ProofMalformed,
        L::WrongNetwork { .. } => Cause::WrongNetwork,
        L::PreimageMismatch => Cause::PreimageMismatch,
        L::AmountDiffers { .. } | L::TimesDiffer => Cause::ProofMalformed,
        L::NotYetValid { .. } => Cause::NotYetValid,
        L::Expired { .. } | L::LifetimeTooLong { .. } => Cause::Expired,
        L::TermsNotCommitted => Cause::TermsMismatch,
        L::NoIssuers | L::UnknownIssuer | L::SelfIssued | L::InvalidSignature => {
            Cause::IssuerUnknown
        }
        #[cfg(feature = "alloc")]
        L::NotAsked => Cause::IssuerUnknown,
    }
}
