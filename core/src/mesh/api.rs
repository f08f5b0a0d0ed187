//! What goes into the state machine and what comes out.

use super::error::{MeshError, Remedy};
use crate::id::{LinkId, NodeId, Standing};
use crate::link::lane::Lane;
use crate::payment::headers::KnownHeader;
use crate::payment::ledger::Record;
use crate::policy::detect::DetectedProtocol;
use crate::time::Micros;
use crate::wire::route_error::Cause;
use core::ops::Range;

/// Names a packet or a search that waits; given out by the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ticket(pub u64);

/// What a link can do that other links of this node cannot: its neighbour is told with the hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LinkCapabilities {
    /// Largest packet that the link carries here, header included, in bytes; at most
    /// [`Config::max_packet`](crate::config::Config::max_packet) counts.
    pub max_packet: u32,
    /// How soon a datagram is answered on it, in microseconds; 0: it need not be. On a slow
    /// link, how long its largest packet takes.
    pub keepalive: Micros,
}

/// What goes in. Each input gets one [`Action::Verdict`] among the actions that follow.
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
        /// What the link can do; `None`: what the configuration says of all links.
        capabilities: Option<LinkCapabilities>,
    },
    /// A link is gone.
    PeerDisconnected {
        /// The link.
        link: LinkId,
    },
    /// A whole packet came in on a link. It is edited in place where it is
    /// relayed; a `Range` in an action refers to these bytes.
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
        /// What the node knows of the block, `None` if nothing.
        block: Option<KnownHeader>,
    },
    /// Send a datagram of our own. A `Range` in an action refers to `payload`.
    Send {
        /// Who is to get it.
        destination: NodeId,
        /// What is carried.
        payload: &'a [u8],
        /// Encoded proof of payment ([`crate::payment::proof`]), or empty.
        proof: &'a [u8],
        /// Send even what this node itself would refuse, to try a relay.
        unchecked: bool,
    },
    /// Send an own paid datagram again, byte for byte as it left: after a pause of
    /// [`REPEAT_PAUSE`](crate::payment::replay::REPEAT_PAUSE), at most
    /// [`REPEATS`](crate::payment::replay::REPEATS) times, the nodes on its way carry it
    /// without another payment. What was stopped for a cause that
    /// [passes](Cause::passes) is worth it, and what of which nothing was heard for long:
    /// neither [`Event::Delivered`] nor [`Event::DeliveryFailed`].
    Repeat {
        /// The whole packet: `head` and `tail` of the [`Verdict::Originate`] that sent it.
        packet: &'a [u8],
    },
    /// Find a route, or renew one.
    FindRoute {
        /// To whom.
        destination: NodeId,
    },
    /// The same, and learn which payments all nodes on the route accept: then
    /// [`Mesh::accepted`](super::Mesh::accepted) tells it. A neighbour is asked too, and nobody
    /// but it. Nodes that do not know this search do not answer it.
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
    /// The wall clock's reading, in seconds since 1970. Without one no payment
    /// is accepted. From then on no hello sets the clock.
    WallClock {
        /// Seconds since 1970.
        unix: u64,
    },
    /// A block header that the node holds for part of the best chain.
    BlockHeader {
        /// The header.
        header: &'a [u8; 80],
        /// Its height.
        height: u32,
    },
    /// A record that is on disk, read back at the start, before any link.
    Persisted {
        /// The record.
        record: Record,
    },
    /// A record could not be written: no payment is accepted until
    /// [`Input::StoreRecovered`]. What carries the record's number in `after` goes on
    /// waiting for it: payments that were accepted stay accepted.
    StoreFailed,
    /// What is paid for and waits for whoever is to get it here has taken its room, or has room
    /// again. While it is full, paid datagrams for this node are refused before they are
    /// booked.
    InboxFull {
        /// Whose share of the room it is, at most [`FULL_SOURCES`] at once; `None`: the room
        /// itself, which is then full for all.
        ///
        /// [`FULL_SOURCES`]: crate::config::FULL_SOURCES
        source: Option<NodeId>,
        /// Whether it is full.
        full: bool,
    },
    /// Every record given so far is on disk, and more can be written.
    StoreRecovered,
    /// The queue of a link's lane has filled up or has room again. What would go there is
    /// refused while it is full, a paid packet before its payment is booked.
    Congestion {
        /// The link.
        link: LinkId,
        /// The lane.
        lane: Lane,
        /// Whether it is full.
        full: bool,
    },
    /// Bytes came on a link though no packet is complete: its neighbour is not dead, only
    /// slow. A shell should say so where a packet can take longer than the neighbour takes to
    /// answer, some four times in that time, and must not where bytes do not show that the
    /// neighbour is there. A shell that is behind says so, before time passes, of each link
    /// whose packets it has yet to give.
    LinkAlive {
        /// The link.
        link: LinkId,
        /// Whether part of a packet came, and not only a sign of life: then the neighbour is
        /// owed one, as if the packet had come.
        incoming: bool,
    },
    /// What a link has measured; the neighbour is told with another hello, if it matters.
    LinkMeasured {
        /// The link.
        link: LinkId,
        /// Transmissions per packet that arrived, in 1/256: 256 where none was lost.
        quality: u16,
    },
}

/// Which queue a packet takes at the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Priority {
    /// Packets of the mesh itself; they are few and small.
    Control,
    /// Paid for.
    Paid,
    /// Free.
    Free,
}

/// An own datagram to send: `head` followed by the bytes at `tail` of the input just
/// handled, the payload given with [`Input::Send`] or the packet given with [`Input::Repeat`].
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
    /// A datagram for this node. One that was paid for comes once in each run of the node, and
    /// may come again in the next one, which does not know whether this one had done with it:
    /// who must not act on it twice knows it by its source and number.
    Deliver {
        /// Who sent it. Proven only where it was paid for.
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
    /// A packet of the mesh itself, or an event: it is done with.
    Absorbed,
    /// Keep the input's bytes under this ticket until [`Action::Resume`] or
    /// [`Action::Drop`] names it: one of them does, once.
    Parked {
        /// The ticket.
        ticket: Ticket,
        /// When one of them follows at the latest; `u64::MAX` where the end of a
        /// search decides.
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

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'o> {
    /// What became of the input: there is one for each.
    Verdict(Verdict<'o>),
    /// Send a packet of the mesh itself on a link, before what is paid or free.
    Send {
        /// The link.
        link: LinkId,
        /// The packet.
        packet: &'o [u8],
        /// Number of the record that must be durable before this is done: a receipt waits for
        /// it as what was paid for does.
        after: Option<u64>,
    },
    /// Hand the bytes under this ticket back, now: a received packet as
    /// [`Input::Resumed`], an own one as the same [`Input::Send`] once more. After
    /// [`verify_timeout`](crate::config::Timing::verify_timeout) the answer is
    /// forgotten and the ticket is not known any more.
    Resume {
        /// The ticket.
        ticket: Ticket,
    },
    /// Forget the bytes under this ticket: what they were is refused.
    Drop {
        /// The ticket.
        ticket: Ticket,
        /// Where it came from; `None` for our own.
        link: Option<LinkId>,
        /// Why.
        reason: MeshError,
    },
    /// Tell whoever subscribed.
    Publish(Event),
    /// Make this record durable. What carries its number in `after` waits for it.
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

/// Something that others may want to know.
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
        /// Number of the record that must be durable before anybody is told, and before
        /// it is counted anywhere; `None` where no records are kept.
        #[cfg_attr(feature = "serde", serde(skip))]
        after: Option<u64>,
        /// Where the proof of a covenant is in the input that brought it: this node is paid once
        /// the transaction in it is broadcast, which nobody else need do. `None` for other
        /// payments, and for what this node pays.
        #[cfg_attr(feature = "serde", serde(skip))]
        settlement: Option<Range<usize>>,
    },
    /// A datagram that we sent with a proof of payment was delivered, says its destination,
    /// or a relay that pretends so. It need not be repeated.
    Delivered {
        /// Its number.
        sequence: u64,
        /// Who has it.
        destination: NodeId,
    },
    /// A datagram that we sent was stopped on the way.
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
}

/// The caller broke the contract. Nothing was changed.
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
    /// An input has caused more than the queue of actions holds: a defect of the state machine,
    /// which does nothing more. Restart the node.
    #[error("more followed from an input than the state machine can hold; restart the node")]
    QueueOverflow,
    /// Records are to be restored before the first link.
    #[error("records must be restored before the first link is connected")]
    TooLateToRestore,
    /// No more sources are remembered: the shell is to say that all is full.
    #[error("no more sources can be said to have taken their share of the inbox")]
    TooManyFullSources,
}
