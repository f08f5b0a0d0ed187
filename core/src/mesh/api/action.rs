//! What follows from an input.

#[cfg(doc)]
use super::Input;
use super::{Event, Priority, Ticket};
use crate::id::{LinkId, NodeId};
use crate::mesh::error::{MeshError, Remedy};
#[cfg(feature = "alloc")]
use crate::mesh::flow_api::{FlowEvent, FlowId};
use crate::payment::ledger::Record;
use crate::policy::DetectedProtocol;
use crate::time::Micros;
#[cfg(feature = "alloc")]
use crate::wire::account::PROMISE_LEN;
use core::ops::Range;

/// An own datagram to send: `head`, then the bytes at `tail` of the input just handled, which is
/// the payload of [`Input::Send`] or the packet of [`Input::Repeat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'o> {
    /// First bytes, written by the state machine. Empty for a packet that is repeated.
    pub head: &'o [u8],
    /// Further bytes, of the input.
    pub tail: Range<usize>,
}

/// What became of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'o> {
    /// The received packet goes on: send it, as it is now, on a link.
    Forward {
        /// The link.
        link: LinkId,
        /// Its queue.
        priority: Priority,
        /// Where the packet is in the input.
        packet: Range<usize>,
        /// Number of the record that must be durable before this is done.
        after: Option<u64>,
    },
    /// A datagram of this node's own leaves: send it on a link.
    Originate {
        /// The link.
        link: LinkId,
        /// Its queue.
        priority: Priority,
        /// The packet.
        packet: Packet<'o>,
        /// Its number.
        sequence: u64,
        /// Number of intermediate nodes on its way.
        hops: u8,
        /// Whether it carries a proof of payment: then it may be sent again
        /// ([`Input::Repeat`]).
        paid: bool,
        /// Number of the record that must be durable before this is done.
        after: Option<u64>,
    },
    /// A datagram for this node. A paid one is delivered once in each run of the node, and may be
    /// again in the next run, which does not know whether this one was done with it: an
    /// application that must not act on it twice recognises it by its source and number.
    Deliver {
        /// Who sent it. Proven only if it was paid for.
        source: NodeId,
        /// Its number.
        sequence: u64,
        /// Where the payload is in the input.
        payload: Range<usize>,
        /// What the payload is.
        protocol: DetectedProtocol,
        /// What this node earned with it, in millisatoshi.
        earned_msat: u64,
        /// Number of the record that must be durable before this is done.
        after: Option<u64>,
    },
    /// A control packet, or an event: nothing more comes of it.
    Absorbed,
    /// A flow is being opened.
    #[cfg(feature = "alloc")]
    Opening {
        /// Its number.
        flow: FlowId,
    },
    /// A purchase begins under this ticket.
    #[cfg(feature = "alloc")]
    Buying {
        /// The ticket.
        ticket: Ticket,
    },
    /// Keep the input's bytes under this ticket until [`Action::Resume`] or
    /// [`Action::Drop`] names it: one of them does, once.
    Parked {
        /// The ticket.
        ticket: Ticket,
        /// When one of them follows at the latest; `u64::MAX` if the end of a search decides.
        until: Micros,
    },
    /// It was refused.
    Reject {
        /// Where it came from; `None` for our own.
        link: Option<LinkId>,
        /// Why.
        reason: MeshError,
        /// What to do about the neighbour.
        remedy: Remedy,
    },
}

/// An action for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'o> {
    /// What became of the input: there is one for each.
    Verdict(Verdict<'o>),
    /// Send a packet that the state machine has written: a control packet, or one of a flow that
    /// ends here.
    Send {
        /// The link.
        link: LinkId,
        /// Its queue.
        priority: Priority,
        /// The packet.
        packet: &'o [u8],
        /// Number of the record that must be durable before this is done: a receipt waits for it
        /// as the delivery does.
        after: Option<u64>,
    },
    /// Send a control packet to all neighbours on a shared medium
    /// ([`LinkCapabilities::medium`](super::LinkCapabilities::medium)).
    SendAll {
        /// The medium.
        medium: u8,
        /// The link of a neighbour that has the packet already.
        except: Option<LinkId>,
        /// The packet.
        packet: &'o [u8],
    },
    /// Hand the bytes under this ticket back, now: a received packet as [`Input::Resumed`], an
    /// own one as the same [`Input::Send`] again. After
    /// [`verify_timeout`](crate::config::Timing::verify_timeout) the answer is forgotten and the
    /// ticket no longer known.
    Resume {
        /// The ticket.
        ticket: Ticket,
    },
    /// Forget the bytes under this ticket: they are refused.
    Drop {
        /// The ticket.
        ticket: Ticket,
        /// Where it came from; `None` for our own.
        link: Option<LinkId>,
        /// Why.
        reason: MeshError,
    },
    /// Tell the subscribers.
    Publish(Event),
    /// Make this record durable. Actions that carry its number in `after` wait for it.
    Persist {
        /// Number of the record, counting up from 1.
        number: u64,
        /// The record.
        record: Record,
    },
    /// Ask the node whether a block is in the best chain.
    Verify {
        /// Ticket for the answer.
        ticket: Ticket,
        /// Hash of the block, in the order of its bytes.
        block_hash: [u8; 32],
    },
    /// Have an invoice written by this node's own Lightning node. The request waits under this
    /// ticket until it comes ([`Input::Invoice`]), or until it is dropped.
    #[cfg(feature = "alloc")]
    Invoice {
        /// Ticket for the answer.
        ticket: Ticket,
        /// Who will pay it.
        source: NodeId,
        /// The bytes that it buys.
        bytes: u64,
        /// Its amount, in millisatoshi: whole satoshi.
        amount_msat: u64,
        /// How long it should be valid, in seconds.
        expiry_s: u32,
        /// The payment hash of an invoice for the same that the source was given before and has not
        /// paid: it may be given again. Another one is as good, but costs the Lightning node work.
        given: Option<[u8; 32]>,
    },
    /// Pay an invoice, once, and give what it reveals ([`Input::InvoicePaid`]): it buys bytes.
    #[cfg(feature = "alloc")]
    Pay {
        /// The purchase.
        ticket: Ticket,
        /// The node whose bytes they are: it has signed that it wants this invoice paid, or who
        /// is its cashier, which has.
        node: NodeId,
        /// Bytes that it buys.
        bytes: u64,
        /// Its amount, in millisatoshi.
        amount_msat: u64,
        /// The node's ticket for it and what it is for, which with the preimage buys the bytes: to
        /// be kept with what is paid ([`Input::Paid`]).
        promise: [u8; PROMISE_LEN],
        /// Where the invoice is in the input that brought it: BOLT 11, as text.
        invoice: Range<usize>,
    },
    /// Something has happened to a flow that ends here.
    #[cfg(feature = "alloc")]
    Flow {
        /// The flow.
        flow: FlowId,
        /// What.
        event: FlowEvent,
    },
    /// Close a link: it is silent, or its neighbour has a better one.
    Close {
        /// The link.
        link: LinkId,
        /// Why.
        reason: MeshError,
    },
    /// Nothing more to do before the next input, or before this time.
    Wait {
        /// When to give [`Input::Timer`] at the latest.
        until: Option<Micros>,
    },
}
