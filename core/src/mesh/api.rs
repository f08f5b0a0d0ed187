//! Inputs and actions of the state machine.

use super::error::{MeshError, Remedy};
#[cfg(feature = "alloc")]
use super::flow_api::{FlowEvent, FlowId};
#[cfg(feature = "alloc")]
use crate::id::HopId;
use crate::id::{LinkId, NodeId, Standing};
use crate::link::lane::Lane;
use crate::payment::headers::KnownHeader;
use crate::payment::ledger::Record;
use crate::policy::detect::DetectedProtocol;
use crate::time::Micros;
use crate::wire::route_error::Cause;
use core::ops::Range;

/// Names a packet or a search that waits; assigned by the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ticket(pub u64);

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
    /// The [`streams`](super::Mesh::streams) of a flow were used: what follows is sent.
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
}

/// Which queue of the link a packet goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Priority {
    /// Control packets; they are few and small.
    Control,
    /// Paid for.
    Paid,
    /// Free.
    Free,
}

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
