//! Inputs and actions that own their bytes, or borrow them for longer than a call: to record,
//! compare and send what [`api`] lends only until the next input.
//!
//! `B` is what holds the bytes: `Vec<u8>`, a shared slice, or `&[u8]` where a recording is
//! played without memory of its own.

#[cfg(feature = "serde")]
mod form;

use super::api::{self, Event, LinkCapabilities, Priority, Ticket};
use super::error::{MeshError, Remedy};
#[cfg(feature = "alloc")]
use super::flow_api::{FlowEvent, FlowId};
#[cfg(feature = "alloc")]
use crate::id::HopId;
use crate::id::{LinkId, NodeId, Standing};
use crate::link::lane::Lane;
use crate::payment::headers::{HEADER_LEN, KnownHeader};
use crate::payment::ledger::Record;
use crate::policy::DetectedProtocol;
use crate::time::Micros;
#[cfg(feature = "alloc")]
use crate::wire::account::PROMISE_LEN;

/// An [`api::Input`] with bytes of its own. Variants and fields are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[allow(missing_docs)]
pub enum Input<B> {
    PeerConnected {
        link: LinkId,
        peer: NodeId,
        dialed: bool,
        standing: Standing,
        capabilities: Option<LinkCapabilities>,
    },
    PeerDisconnected {
        link: LinkId,
    },
    MessageReceived {
        link: LinkId,
        packet: B,
    },
    PaymentVerified {
        ticket: Ticket,
        block: Option<KnownHeader>,
    },
    Send {
        destination: NodeId,
        payload: B,
        proof: B,
        unchecked: bool,
    },
    Repeat {
        packet: B,
    },
    FindRoute {
        destination: NodeId,
    },
    FindAccepted {
        destination: NodeId,
    },
    Resumed {
        ticket: Ticket,
        packet: B,
    },
    Timer,
    WallClock {
        unix: u64,
    },
    BlockHeader {
        #[cfg_attr(feature = "serde", serde(with = "form::array"))]
        header: [u8; HEADER_LEN],
        height: u32,
    },
    Persisted {
        #[cfg_attr(feature = "serde", serde(with = "form::record"))]
        record: Record,
    },
    StoreFailed,
    InboxFull {
        source: Option<NodeId>,
        full: bool,
    },
    StoreRecovered,
    Congestion {
        link: LinkId,
        lane: Lane,
        full: bool,
    },
    LinkAlive {
        link: LinkId,
        incoming: bool,
    },
    LinkMeasured {
        link: LinkId,
        quality: u16,
    },
    // The last, so that a board without them numbers the others the same.
    #[cfg(feature = "alloc")]
    Invoice {
        ticket: Ticket,
        packet: B,
        invoice: B,
    },
    #[cfg(feature = "alloc")]
    Buy {
        /// Eight bytes for each.
        hops: B,
        node: HopId,
        bytes: u64,
        amount_msat: u64,
        open_number: u64,
    },
    #[cfg(feature = "alloc")]
    InvoicePaid {
        ticket: Ticket,
        preimage: Option<[u8; 32]>,
    },
    #[cfg(feature = "alloc")]
    OpenFlow {
        destination: NodeId,
        budget_msat: u64,
    },
    #[cfg(feature = "alloc")]
    FlowBudget {
        flow: FlowId,
        budget_msat: u64,
    },
    #[cfg(feature = "alloc")]
    Streams {
        flow: FlowId,
    },
    #[cfg(feature = "alloc")]
    CloseFlow {
        flow: FlowId,
        code: u32,
    },
    #[cfg(feature = "alloc")]
    AcceptFlows {
        accept: bool,
    },
    #[cfg(feature = "alloc")]
    FindMembers {
        group: NodeId,
    },
    #[cfg(feature = "alloc")]
    Paid {
        node: NodeId,
        #[cfg_attr(feature = "serde", serde(with = "form::array"))]
        promise: [u8; PROMISE_LEN],
        preimage: [u8; 32],
    },
    #[cfg(feature = "alloc")]
    InvoiceAsked {
        payment_hash: [u8; 32],
        expires_at: u64,
    },
}

impl<B: AsRef<[u8]>> Input<B> {
    /// The packet that the state machine edits in place: give [`input`](Self::input) a copy.
    /// Empty for inputs that have none.
    pub fn packet(&self) -> &[u8] {
        match self {
            Self::MessageReceived { packet, .. } | Self::Resumed { packet, .. } => packet.as_ref(),
            _ => &[],
        }
    }

    /// The input itself, with a copy of its [`packet`](Self::packet).
    pub fn input<'a>(&'a self, packet: &'a mut [u8]) -> api::Input<'a> {
        match self {
            Self::PeerConnected { link, peer, dialed, standing, capabilities } => {
                api::Input::PeerConnected {
                    link: *link,
                    peer: *peer,
                    dialed: *dialed,
                    standing: *standing,
                    capabilities: *capabilities,
                }
            }
            Self::PeerDisconnected { link } => api::Input::PeerDisconnected { link: *link },
            Self::MessageReceived { link, .. } => {
                api::Input::MessageReceived { link: *link, packet }
            }
            Self::PaymentVerified { ticket, block } => {
                api::Input::PaymentVerified { ticket: *ticket, block: *block }
            }
            #[cfg(feature = "alloc")]
            Self::Invoice { ticket, packet, invoice } => api::Input::Invoice {
                ticket: *ticket,
                packet: packet.as_ref(),
                invoice: invoice.as_ref(),
            },
            #[cfg(feature = "alloc")]
            Self::Buy { hops, node, bytes, amount_msat, open_number } => api::Input::Buy {
                hops: hops.as_ref().as_chunks().0,
                node: *node,
                bytes: *bytes,
                amount_msat: *amount_msat,
                open_number: *open_number,
            },
            #[cfg(feature = "alloc")]
            Self::InvoicePaid { ticket, preimage } => {
                api::Input::InvoicePaid { ticket: *ticket, preimage: *preimage }
            }
            #[cfg(feature = "alloc")]
            Self::OpenFlow { destination, budget_msat } => {
                api::Input::OpenFlow { destination: *destination, budget_msat: *budget_msat }
            }
            #[cfg(feature = "alloc")]
            Self::FlowBudget { flow, budget_msat } => {
                api::Input::FlowBudget { flow: *flow, budget_msat: *budget_msat }
            }
            #[cfg(feature = "alloc")]
            Self::Streams { flow } => api::Input::Streams { flow: *flow },
            #[cfg(feature = "alloc")]
            Self::CloseFlow { flow, code } => api::Input::CloseFlow { flow: *flow, code: *code },
            #[cfg(feature = "alloc")]
            Self::AcceptFlows { accept } => api::Input::AcceptFlows { accept: *accept },
            Self::Send { destination, payload, proof, unchecked } => api::Input::Send {
                destination: *destination,
                payload: payload.as_ref(),
                proof: proof.as_ref(),
                unchecked: *unchecked,
            },
            Self::Repeat { packet } => api::Input::Repeat { packet: packet.as_ref() },
            Self::FindRoute { destination } => api::Input::FindRoute { destination: *destination },
            Self::FindAccepted { destination } => {
                api::Input::FindAccepted { destination: *destination }
            }
            #[cfg(feature = "alloc")]
            Self::FindMembers { group } => api::Input::FindMembers { group: *group },
            #[cfg(feature = "alloc")]
            Self::Paid { node, promise, preimage } => {
                api::Input::Paid { node: *node, promise: *promise, preimage: *preimage }
            }
            #[cfg(feature = "alloc")]
            Self::InvoiceAsked { payment_hash, expires_at } => {
                api::Input::InvoiceAsked { payment_hash: *payment_hash, expires_at: *expires_at }
            }
            Self::Resumed { ticket, .. } => api::Input::Resumed { ticket: *ticket, packet },
            Self::Timer => api::Input::Timer,
            Self::WallClock { unix } => api::Input::WallClock { unix: *unix },
            Self::BlockHeader { header, height } => {
                api::Input::BlockHeader { header, height: *height }
            }
            Self::Persisted { record } => api::Input::Persisted { record: *record },
            Self::StoreFailed => api::Input::StoreFailed,
            Self::InboxFull { source, full } => {
                api::Input::InboxFull { source: *source, full: *full }
            }
            Self::StoreRecovered => api::Input::StoreRecovered,
            Self::Congestion { link, lane, full } => {
                api::Input::Congestion { link: *link, lane: *lane, full: *full }
            }
            Self::LinkAlive { link, incoming } => {
                api::Input::LinkAlive { link: *link, incoming: *incoming }
            }
            Self::LinkMeasured { link, quality } => {
                api::Input::LinkMeasured { link: *link, quality: *quality }
            }
        }
    }

    /// The bytes that a `Range` in an action refers to, where `packet` is the copy given to
    /// [`input`](Self::input).
    pub fn given<'a>(&'a self, packet: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Send { payload, .. } => payload.as_ref(),
            Self::Repeat { packet } => packet.as_ref(),
            _ => packet,
        }
    }
}

/// An [`api::Verdict`] with bytes of its own in place of ranges. An error serialises as its
/// sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(missing_docs)]
pub enum Verdict<B> {
    Forward {
        link: LinkId,
        priority: Priority,
        packet: B,
        after: Option<u64>,
    },
    Originate {
        link: LinkId,
        priority: Priority,
        packet: B,
        sequence: u64,
        hops: u8,
        paid: bool,
        after: Option<u64>,
    },
    Deliver {
        source: NodeId,
        sequence: u64,
        payload: B,
        protocol: DetectedProtocol,
        earned_msat: u64,
        after: Option<u64>,
    },
    Absorbed,
    Parked {
        ticket: Ticket,
        until: Micros,
    },
    Reject {
        link: Option<LinkId>,
        #[cfg_attr(feature = "serde", serde(serialize_with = "form::sentence"))]
        reason: MeshError,
        remedy: Remedy,
    },
    // The last, so that a board without it numbers the others the same.
    #[cfg(feature = "alloc")]
    Buying {
        ticket: Ticket,
    },
    #[cfg(feature = "alloc")]
    Opening {
        flow: FlowId,
    },
}

/// An [`api::Action`] with bytes of its own in place of ranges. An error serialises as its
/// sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(missing_docs)]
pub enum Action<B> {
    Verdict(Verdict<B>),
    Send {
        link: LinkId,
        priority: Priority,
        packet: B,
        after: Option<u64>,
    },
    SendAll {
        medium: u8,
        except: Option<LinkId>,
        packet: B,
    },
    Resume {
        ticket: Ticket,
    },
    Drop {
        ticket: Ticket,
        link: Option<LinkId>,
        #[cfg_attr(feature = "serde", serde(serialize_with = "form::sentence"))]
        reason: MeshError,
    },
    Publish(Event),
    Persist {
        number: u64,
        #[cfg_attr(feature = "serde", serde(with = "form::record"))]
        record: Record,
    },
    Verify {
        ticket: Ticket,
        block_hash: [u8; 32],
    },
    Close {
        link: LinkId,
        #[cfg_attr(feature = "serde", serde(serialize_with = "form::sentence"))]
        reason: MeshError,
    },
    Wait {
        until: Option<Micros>,
    },
    // The last, so that a board without them numbers the others the same.
    #[cfg(feature = "alloc")]
    Invoice {
        ticket: Ticket,
        source: NodeId,
        bytes: u64,
        amount_msat: u64,
        expiry_s: u32,
        given: Option<[u8; 32]>,
    },
    #[cfg(feature = "alloc")]
    Pay {
        ticket: Ticket,
        node: NodeId,
        bytes: u64,
        amount_msat: u64,
        #[cfg_attr(feature = "serde", serde(with = "form::array"))]
        promise: [u8; PROMISE_LEN],
        invoice: B,
    },
    #[cfg(feature = "alloc")]
    Flow {
        flow: FlowId,
        event: FlowEvent,
    },
}

impl<B> Action<B> {
    /// The action with bytes that `own` makes of one part or two. `given` is what its ranges
    /// refer to ([`Input::given`]).
    pub fn new(action: api::Action<'_>, given: &[u8], mut own: impl FnMut(&[&[u8]]) -> B) -> Self {
        match action {
            api::Action::Verdict(verdict) => Self::Verdict(Verdict::new(verdict, given, own)),
            api::Action::Send { link, priority, packet, after } => {
                Self::Send { link, priority, packet: own(&[packet]), after }
            }
            api::Action::SendAll { medium, except, packet } => {
                Self::SendAll { medium, except, packet: own(&[packet]) }
            }
            #[cfg(feature = "alloc")]
            api::Action::Flow { flow, event } => Self::Flow { flow, event },
            api::Action::Resume { ticket } => Self::Resume { ticket },
            api::Action::Drop { ticket, link, reason } => Self::Drop { ticket, link, reason },
            api::Action::Publish(event) => Self::Publish(event),
            api::Action::Persist { number, record } => Self::Persist { number, record },
            api::Action::Verify { ticket, block_hash } => Self::Verify { ticket, block_hash },
            #[cfg(feature = "alloc")]
            api::Action::Invoice { ticket, source, bytes, amount_msat, expiry_s, given } => {
                Self::Invoice { ticket, source, bytes, amount_msat, expiry_s, given }
            }
            #[cfg(feature = "alloc")]
            api::Action::Pay { ticket, node, bytes, amount_msat, promise, invoice } => {
                let invoice = own(&[given.get(invoice).unwrap_or_default()]);
                Self::Pay { ticket, node, bytes, amount_msat, promise, invoice }
            }
            api::Action::Close { link, reason } => Self::Close { link, reason },
            api::Action::Wait { until } => Self::Wait { until },
        }
    }

    /// The packet that it sends, and on which link.
    pub fn sent(&self) -> Option<(LinkId, &B)> {
        match self {
            Self::Send { link, packet, .. }
            | Self::Verdict(
                Verdict::Forward { link, packet, .. } | Verdict::Originate { link, packet, .. },
            ) => Some((*link, packet)),
            _ => None,
        }
    }
}

impl<B> Verdict<B> {
    fn new(verdict: api::Verdict<'_>, given: &[u8], mut own: impl FnMut(&[&[u8]]) -> B) -> Self {
        // Ranges are the state machine's own and lie within what was given.
        let mut part = |head, range| own(&[head, given.get(range).unwrap_or_default()]);
        match verdict {
            api::Verdict::Forward { link, priority, packet, after } => {
                Self::Forward { link, priority, packet: part(&[], packet), after }
            }
            api::Verdict::Originate { link, priority, packet, sequence, hops, paid, after } => {
                let packet = part(packet.head, packet.tail);
                Self::Originate { link, priority, packet, sequence, hops, paid, after }
            }
            api::Verdict::Deliver { source, sequence, payload, protocol, earned_msat, after } => {
                let payload = part(&[], payload);
                Self::Deliver { source, sequence, payload, protocol, earned_msat, after }
            }
            api::Verdict::Absorbed => Self::Absorbed,
            #[cfg(feature = "alloc")]
            api::Verdict::Buying { ticket } => Self::Buying { ticket },
            #[cfg(feature = "alloc")]
            api::Verdict::Opening { flow } => Self::Opening { flow },
            api::Verdict::Parked { ticket, until } => Self::Parked { ticket, until },
            api::Verdict::Reject { link, reason, remedy } => Self::Reject { link, reason, remedy },
        }
    }
}
