//! What goes in.

use super::Ticket;
#[cfg(doc)]
use super::{Action, Event, Verdict};
#[cfg(feature = "alloc")]
use crate::id::HopId;
use crate::id::{LinkId, NodeId, Standing};
use crate::link::lane::Lane;
#[cfg(all(doc, feature = "alloc"))]
use crate::mesh::flow_api::FlowEvent;
#[cfg(feature = "alloc")]
use crate::mesh::flow_api::FlowId;
use crate::payment::headers::KnownHeader;
use crate::payment::ledger::Record;
use crate::time::Micros;
#[cfg(feature = "alloc")]
use crate::wire::account::PROMISE_LEN;
#[cfg(doc)]
use crate::wire::route_error::Cause;

/// How a link differs from this node's other links. Its neighbour learns of it by the hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LinkCapabilities {
    /// Largest packet that the link carries here, header included, in bytes; at most
    /// [`Config::max_packet`](crate::config::Config::max_packet) counts.
    pub max_packet: u32,
    /// How soon a datagram is answered on it, in microseconds; 0: no promise. On a slow link, how
    /// long its largest packet takes.
    pub keepalive: Micros,
    /// The medium that the link shares with other links of this node, as on a radio channel:
    /// what all neighbours must hear is sent on it once (`Action::SendAll`). 0: it shares none.
    pub medium: u8,
}

/// An input. Each leads to exactly one [`Action::Verdict`] among the actions that follow.
#[derive(Debug)]
pub enum Input<'a> {
    /// A link is up and its neighbour authenticated.
    PeerConnected {
        /// Number of the new link.
        link: LinkId,
        /// Identity that the handshake proved.
        peer: NodeId,
        /// Whether this node opened the connection.
        dialed: bool,
        /// Whether the neighbour is configured or dialled, or a stranger.
        standing: Standing,
        /// What the link can do; `None`: what the configuration says for all links.
        capabilities: Option<LinkCapabilities>,
    },
    /// A link is gone.
    PeerDisconnected {
        /// The link.
        link: LinkId,
    },
    /// A whole packet came in on a link. It is edited in place if it is relayed; a `Range` in an
    /// action refers to these bytes.
    MessageReceived {
        /// The link.
        link: LinkId,
        /// The packet, header included.
        packet: &'a mut [u8],
    },
    /// The node's answer to [`Action::Verify`].
    PaymentVerified {
        /// The ticket of the question.
        ticket: Ticket,
        /// What the node knows about the block; `None` if nothing.
        block: Option<KnownHeader>,
    },
    /// The invoice that [`Action::Invoice`] asked for.
    #[cfg(feature = "alloc")]
    Invoice {
        /// The ticket of the question, which has not been dropped.
        ticket: Ticket,
        /// The packet that waits under it, as it was given.
        packet: &'a [u8],
        /// The invoice as text (BOLT 11), over the amount that was asked for; empty: there is
        /// none.
        invoice: &'a [u8],
    },
    /// Buy bytes for this node's flows at a node: its [`Verdict::Buying`] names the purchase. It
    /// ends in [`Event::BytesBought`] or [`Event::PurchaseFailed`].
    #[cfg(feature = "alloc")]
    Buy {
        /// The nodes before it on the way, in travel order, as in a [`HopId`].
        hops: &'a [[u8; 8]],
        /// The beginning of its identity.
        node: HopId,
        /// How many.
        bytes: u64,
        /// What is paid for them, in millisatoshi: whole satoshi, and no less than its tariff
        /// asks.
        amount_msat: u64,
        /// The highest number of an Open that this node has sent.
        open_number: u64,
    },
    /// Open a flow to a node: its [`Verdict::Opening`] names it. What happens to it is told by
    /// [`Action::Flow`]; the last is [`FlowEvent::Ended`].
    #[cfg(feature = "alloc")]
    OpenFlow {
        /// To whom.
        destination: NodeId,
        /// The most that is paid for it on its whole route, in millisatoshi.
        budget_msat: u64,
    },
    /// More may be paid for a flow in all.
    #[cfg(feature = "alloc")]
    FlowBudget {
        /// The flow.
        flow: FlowId,
        /// The most that is paid for it, in millisatoshi. It only ever rises.
        budget_msat: u64,
    },
    /// The [`streams`](crate::mesh::Mesh::streams) of a flow were used: what follows is sent.
    #[cfg(feature = "alloc")]
    Streams {
        /// The flow.
        flow: FlowId,
    },
    /// End a flow. What was not sent is dropped: to have all arrive, finish its streams before,
    /// and wait until they have.
    #[cfg(feature = "alloc")]
    CloseFlow {
        /// The flow.
        flow: FlowId,
        /// What the other end is told.
        code: u32,
    },
    /// Take flows that others open to this node, or take no more. At the start none are taken.
    #[cfg(feature = "alloc")]
    AcceptFlows {
        /// Whether they are taken.
        accept: bool,
    },
    /// The invoice of [`Action::Pay`] was paid, or will not be.
    #[cfg(feature = "alloc")]
    InvoicePaid {
        /// The purchase.
        ticket: Ticket,
        /// What paying revealed; `None`: nothing was spent, and nothing will be.
        preimage: Option<[u8; 32]>,
    },
    /// An invoice was paid in an earlier run of this node, and it is not known whether its bytes
    /// were credited, or what is left of them. Their node is shown the ticket and asked, for as long
    /// as a ticket is valid; it ends as any purchase: its [`Verdict::Buying`] names it.
    #[cfg(feature = "alloc")]
    Paid {
        /// The node whose bytes they are.
        node: NodeId,
        /// As in [`Action::Pay`].
        promise: [u8; PROMISE_LEN],
        /// What paying revealed.
        preimage: [u8; 32],
    },
    /// Send a datagram of our own. A `Range` in an action refers to `payload`.
    Send {
        /// Who is to get it.
        destination: NodeId,
        /// What is carried.
        payload: &'a [u8],
        /// Encoded proof of payment ([`crate::payment::proof`]), or empty.
        proof: &'a [u8],
        /// Send even what this node itself would refuse, to test a relay.
        unchecked: bool,
    },
    /// Send an own paid datagram again, byte for byte as it left. After a pause of
    /// [`REPEAT_PAUSE`](crate::payment::replay::REPEAT_PAUSE), and at most
    /// [`REPEATS`](crate::payment::replay::REPEATS) times, the nodes on its route carry it
    /// without another payment. That is worthwhile for datagrams that were stopped for a cause
    /// that [passes](Cause::passes), and for those of which nothing was heard for long: neither
    /// [`Event::Delivered`] nor [`Event::DeliveryFailed`].
    Repeat {
        /// The whole packet: `head` and `tail` of the [`Verdict::Originate`] that sent it.
        packet: &'a [u8],
    },
    /// Find a route, or renew one.
    FindRoute {
        /// To whom.
        destination: NodeId,
    },
    /// The same, and learn which payments all nodes on the route accept: `Mesh::accepted` (on
    /// hosts) then returns it. If the destination is a neighbour, it alone is asked. Nodes that
    /// do not know this search do not answer it.
    FindAccepted {
        /// To whom.
        destination: NodeId,
    },
    /// Find members of a group, each of which answers in its own name: as [`Input::FindRoute`], but
    /// each is told by [`Event::MemberFound`], as long as the search
    /// goes on; the nearest first.
    #[cfg(feature = "alloc")]
    FindMembers {
        /// Identity of the group.
        group: NodeId,
    },
    /// The bytes of a parked packet, handed back as [`Action::Resume`] asked.
    Resumed {
        /// The packet's ticket.
        ticket: Ticket,
        /// The packet as it was given with [`Input::MessageReceived`].
        packet: &'a mut [u8],
    },
    /// Time has passed.
    Timer,
    /// A reading of the wall clock. Without one no payment is accepted. From then on no hello
    /// sets the clock.
    WallClock {
        /// Seconds since 1970.
        unix: u64,
    },
    /// A block header that the node considers part of the best chain.
    BlockHeader {
        /// The header.
        header: &'a [u8; 80],
        /// Its height.
        height: u32,
    },
    /// A record read back from disk at the start, before any link.
    Persisted {
        /// The record.
        record: Record,
    },
    /// A record could not be written: no payment is accepted until [`Input::StoreRecovered`].
    /// Actions that carry the record's number in `after` keep waiting for it, and accepted
    /// payments stay accepted.
    StoreFailed,
    /// The room for paid deliveries that nobody has fetched yet is full, or has room again. While
    /// it is full, paid datagrams for this node are refused before they are booked.
    InboxFull {
        /// The source whose share of the room is meant, at most [`FULL_SOURCES`] at once; `None`:
        /// all of the room, which is then full for everybody.
        ///
        /// [`FULL_SOURCES`]: crate::config::FULL_SOURCES
        source: Option<NodeId>,
        /// Whether it is full.
        full: bool,
    },
    /// Every record given so far is on disk, and more can be written.
    StoreRecovered,
    /// The queue of a link's lane has filled up or has room again. While it is full, packets for
    /// it are refused, a paid one before its payment is booked.
    Congestion {
        /// The link.
        link: LinkId,
        /// The lane.
        lane: Lane,
        /// Whether it is full.
        full: bool,
    },
    /// Bytes came on a link though no packet is complete: its neighbour is slow, not dead. A
    /// shell should report this where a packet can take longer than the neighbour's keep-alive,
    /// some four times per keep-alive, and must not where bytes do not prove that the neighbour
    /// is there. A shell that is behind reports it, before time passes, for each link whose
    /// packets it has yet to hand over.
    LinkAlive {
        /// The link.
        link: LinkId,
        /// Whether part of a packet came, and not only a sign of life: then the neighbour is owed
        /// one, as if the packet had come.
        incoming: bool,
    },
    /// A new measurement of a link; if it matters, the neighbour is sent another hello.
    LinkMeasured {
        /// The link.
        link: LinkId,
        /// Transmissions per packet that arrived, in 1/256: 256 where none was lost.
        quality: u16,
    },
    /// This node had its operator's Lightning node write an invoice for a datagram, which may be
    /// signed by [`shared_issuer`](crate::config::PaymentRules::shared_issuer). The shell remembers
    /// it until it expires, and tells it again after a start. At most
    /// [`MOST_ASKED`](crate::payment::asked::MOST_ASKED) are kept.
    #[cfg(feature = "alloc")]
    InvoiceAsked {
        /// Its payment hash.
        payment_hash: [u8; 32],
        /// When it expires, in seconds since 1970.
        expires_at: u64,
    },
}

/// The caller broke the contract. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum Misuse {
    /// `handle` was called before `poll` had returned `Wait`.
    #[error("poll until Wait before the next input")]
    NotDrained,
    /// `now` was earlier than before.
    #[error("time went back")]
    TimeWentBack,
    /// The number is in use.
    #[error("link {0:?} is connected already")]
    LinkInUse(LinkId),
    /// No packet waits under this ticket.
    #[error("no packet waits under ticket {0:?}")]
    UnknownTicket(Ticket),
    /// An input caused more actions than the queue holds: a defect of the state machine, which
    /// does nothing more. Restart the node.
    #[error("more followed from an input than the state machine can hold; restart the node")]
    QueueOverflow,
    /// Records are to be restored before the first link.
    #[error("records must be restored before the first link is connected")]
    TooLateToRestore,
    /// `handle_relayed` was given what only `handle` takes.
    #[error("a shell that only relays has no such input")]
    OnlyRelays,
    /// No more sources are remembered: the shell must report the whole inbox as full.
    #[error("no more sources can be said to have taken their share of the inbox")]
    TooManyFullSources,
}
