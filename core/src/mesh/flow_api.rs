//! What applications are told of flows that end at this node.

use crate::flow::end::{Ended, Event};
use crate::id::{HopId, NodeId};
use crate::wire::route_error::Cause;

/// Names a flow: its number in the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FlowId(pub u64);

/// What has happened to a flow that ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum FlowEvent {
    /// Another node has opened it, which has proven its identity.
    Accepted {
        /// Who.
        source: NodeId,
    },
    /// The destination has answered: its streams can be used.
    Opened,
    /// Something happened to its streams; never [`Event::Ended`].
    Stream(Event),
    /// It does not go on over its route, and is opened again over another one. Its streams wait.
    Interrupted {
        /// The node where it stopped, according to whoever reported it.
        node: HopId,
        /// Why.
        cause: Cause,
    },
    /// What it may cost in all is spent: it goes on for as long as the bytes that were bought
    /// last.
    BudgetSpent,
    /// It has ended.
    Ended(FlowEnded),
}

/// Why a flow has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum FlowEnded {
    /// One of its ends has ended it.
    #[error("{0}")]
    By(#[from] Ended),
    /// No route to the destination was found.
    #[error("no route to the destination was found")]
    NoRoute,
    /// It was refused on its route, or at its destination.
    #[error("node {node} refused the flow: {cause}")]
    Refused {
        /// The node.
        node: HopId,
        /// Why.
        cause: Cause,
    },
    /// What it takes at a node could not be bought.
    #[error("no bytes could be bought at node {node}: {cause}")]
    NotBought {
        /// The node.
        node: HopId,
        /// Why.
        cause: Cause,
    },
    /// Its first bytes cost more than it may cost.
    #[error("its first bytes cost more than the flow may cost")]
    Budget,
    /// Too many purchases are under way.
    #[error("too many purchases are under way (limits.purchases)")]
    Busy,
    /// Every known route has lost more than a tenth of what was paid for.
    #[error("the routes to the destination lost more than a tenth of what was paid for")]
    Lossy,
    /// The destination has forgotten it.
    #[error("the destination was restarted, and has forgotten the flow")]
    Restarted,
    /// Nothing came for too long.
    #[error("nothing came from the other end for too long")]
    Idle,
    /// Its route costs something and begins at a neighbour that is not trusted with that.
    #[error(
        "neighbour {node} is not trusted to relay what this node pays for (`peer trust {node}`)"
    )]
    Untrusted {
        /// The neighbour.
        node: HopId,
    },
}
