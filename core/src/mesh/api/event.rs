//! What subscribers are told.

#[cfg(feature = "alloc")]
use super::Ticket;
#[cfg(doc)]
use super::{Action, Input, Verdict};
#[cfg(feature = "alloc")]
use crate::id::HopId;
use crate::id::{LinkId, NodeId};
use crate::wire::route_error::Cause;
use core::ops::Range;

/// What subscribers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Event {
    /// A neighbour is up: links and hellos are exchanged.
    PeerConnected {
        /// Its link.
        link: LinkId,
        /// Its identity.
        peer: NodeId,
    },
    /// A neighbour is gone.
    PeerDisconnected {
        /// Its identity.
        peer: NodeId,
    },
    /// A search ended with a route.
    RouteDiscovered {
        /// To whom.
        destination: NodeId,
        /// Number of intermediate nodes.
        hops: u8,
    },
    /// A search ended without one.
    RouteFailed {
        /// To whom.
        destination: NodeId,
    },
    /// A payment was accepted, and is booked once its record is durable.
    PaymentVerified {
        /// Replay key of the payment: for Lightning the payment hash.
        payment: [u8; 32],
        /// Who paid.
        source: NodeId,
        /// The whole amount, in millisatoshi.
        amount_msat: u64,
        /// Our share, in millisatoshi.
        share_msat: u64,
        /// Number of the record that must be durable before anybody is told, and before it is
        /// counted anywhere; `None` if no records are kept.
        #[cfg_attr(feature = "serde", serde(skip))]
        after: Option<u64>,
        /// Where the proof of a covenant is in the input that brought it. This node is paid once
        /// the transaction in it is broadcast, which nobody else has to do. `None` for other
        /// payments, and for those that this node makes.
        #[cfg_attr(feature = "serde", serde(skip))]
        settlement: Option<Range<usize>>,
    },
    /// A datagram that we sent with a proof of payment was delivered, according to its
    /// destination or to a relay that pretends to be it. It need not be repeated.
    Delivered {
        /// Its number.
        sequence: u64,
        /// Who has it.
        destination: NodeId,
    },
    /// A datagram that we sent was stopped on its route.
    DeliveryFailed {
        /// Its number.
        sequence: u64,
        /// Where it was to go.
        destination: NodeId,
        /// Who stopped it.
        reporter: NodeId,
        /// Why.
        cause: Cause,
    },
    /// A source has paid for bytes of its flows.
    #[cfg(feature = "flows")]
    BytesSold {
        /// Who has paid.
        source: NodeId,
        /// Payment hash of the invoice.
        payment_hash: [u8; 32],
        /// Bytes that it bought.
        bytes: u64,
        /// What it paid, in millisatoshi.
        amount_msat: u64,
        /// Number of the record that must be durable before anybody is told; `None` if no records
        /// are kept.
        #[cfg_attr(feature = "serde", serde(skip))]
        after: Option<u64>,
    },
    // Only hosts have those below. They are the last, so that a board numbers the others the same.
    /// A search for a group has found a member of it, and a route there. That it is one is what
    /// the node itself says.
    #[cfg(feature = "alloc")]
    MemberFound {
        /// The group.
        group: NodeId,
        /// The node.
        member: NodeId,
        /// Number of intermediate nodes.
        hops: u8,
    },
    /// A purchase has ended: the node says that it has credited the bytes.
    #[cfg(feature = "alloc")]
    BytesBought {
        /// The purchase.
        ticket: Ticket,
        /// Where.
        node: NodeId,
        /// Bytes that were bought.
        bytes: u64,
        /// What they cost, in millisatoshi.
        amount_msat: u64,
        /// What this node's account there has for further flows, in bytes.
        left: u64,
    },
    /// A purchase has ended without: nothing was paid, or what was paid was not credited.
    #[cfg(feature = "alloc")]
    PurchaseFailed {
        /// The purchase.
        ticket: Ticket,
        /// Where.
        node: HopId,
        /// Why: [`Cause::PaymentRequired`] if the shell did not pay, [`Cause::Expired`] also
        /// where no answer came.
        cause: Cause,
    },
}
