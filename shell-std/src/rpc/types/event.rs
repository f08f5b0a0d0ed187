//! What is told to clients that subscribe.

use crate::rpc::events::Cursor;
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::{HopId, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What events are about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Datagrams: those that wait here to be fetched, and what became of own ones.
    Deliveries,
    /// Neighbours that come and go.
    Peers,
    /// Searches that have ended.
    Routes,
    /// Payments taken and made.
    Payments,
    /// Flows that end at the node.
    Flows,
}

impl Topic {
    /// Every topic, in the order in which a [`Cursor`] counts.
    pub const ALL: [Self; 5] =
        [Self::Deliveries, Self::Peers, Self::Routes, Self::Payments, Self::Flows];

    /// The name by which it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deliveries => "deliveries",
            Self::Peers => "peers",
            Self::Routes => "routes",
            Self::Payments => "payments",
            Self::Flows => "flows",
        }
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let topic = Self::ALL.into_iter().find(|topic| topic.name() == name);
        topic.ok_or_else(|| format!("there is no topic {name}"))
    }
}

/// Parameters of `meshsubscribe`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Subscribe {
    /// What to be told of; none: of everything.
    pub topics: Vec<Topic>,
    /// Where to go on: the cursor of the last event that was seen; none: with what happens from now
    /// on.
    #[schemars(with = "Option<String>")]
    pub cursor: Option<Cursor>,
}

/// Answer of `meshsubscribe`. Events come behind it, on the same connection, as notifications
/// `meshevent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribed {
    /// Number of the subscription, on this connection.
    pub subscription: u64,
    /// Where it begins: to be given again if no event comes before the connection ends.
    #[schemars(with = "String")]
    pub cursor: Cursor,
    /// What there was behind the given cursor and cannot be told any more, if there was something.
    pub missed: Option<Missed>,
}

/// What a client does not learn of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missed {
    /// Why.
    pub reason: MissedBecause,
    /// Events of these topics in this run of the node that are not kept any more. How many there were
    /// in an earlier run nobody knows.
    pub events: u64,
}

/// Why a client does not learn of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissedBecause {
    /// There have been too many events since (`limits.events`).
    Dropped,
    /// The node was restarted since. All that is kept of this run is told.
    Restarted,
}

/// Parameters of `meshunsubscribe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    /// Number of the subscription, as `meshsubscribe` answered it on this connection.
    pub subscription: u64,
}

/// Answer of `meshunsubscribe`. No event of the subscription comes behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsubscribed {
    /// Number of the subscription that has ended.
    pub subscription: u64,
    /// Where it has ended, to go on from there.
    #[schemars(with = "String")]
    pub cursor: Cursor,
}

/// Parameters of the notification `meshevent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshEvent {
    /// Number of the subscription that it belongs to.
    pub subscription: u64,
    /// The cursor behind this event: whoever subscribes with it is told what came after.
    #[schemars(with = "String")]
    pub cursor: Cursor,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it is about.
    pub topic: Topic,
    /// What has happened.
    pub event: Happened,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Happened {
    /// A datagram has come and waits for `meshpollreceived`.
    DatagramReceived {
        /// Who sent it; proven only where it was paid for, or came over a flow.
        #[serde(with = "hexed::Node")]
        source: NodeId,
        /// Its number: drawn by its source, not counted.
        sequence: u64,
        /// What it was detected as.
        #[schemars(with = "schema::Protocol")]
        protocol: String,
        /// Bytes of payload.
        bytes: usize,
        /// What this node earned with it.
        earned_msat: u64,
    },
    /// The destination of an own datagram says that it has it, which was paid for.
    DatagramDelivered {
        /// Its number, as `meshsendpacket` answered it.
        sequence: u64,
        /// Who has it.
        #[serde(with = "hexed::Node")]
        destination: NodeId,
    },
    /// A relay reports that it stopped an own datagram. One that is paid for may be sent again by
    /// itself.
    DatagramStopped {
        /// Its number, as `meshsendpacket` answered it.
        sequence: u64,
        /// Where it was to go.
        #[serde(with = "hexed::Node")]
        destination: NodeId,
        /// Who says so.
        #[serde(with = "hexed::Node")]
        reporter: NodeId,
        /// Why, as a sentence.
        cause: String,
    },
    /// A neighbour is up.
    PeerUp {
        /// Who.
        #[serde(with = "hexed::Node")]
        node: NodeId,
        /// Where it is.
        address: String,
        /// Whether this node has dialled.
        dialed: bool,
    },
    /// A neighbour is gone.
    PeerDown {
        /// Who.
        #[serde(with = "hexed::Node")]
        node: NodeId,
    },
    /// A search has found a route.
    RouteFound {
        /// To whom.
        #[serde(with = "hexed::Node")]
        destination: NodeId,
        /// Number of intermediate nodes.
        hops: u8,
    },
    /// A search has ended without a route.
    RouteNotFound {
        /// To whom.
        #[serde(with = "hexed::Node")]
        destination: NodeId,
    },
    /// A search for a group has found a member, and a route there.
    MemberFound {
        /// The group.
        #[serde(with = "hexed::Node")]
        group: NodeId,
        /// The node that says that it is one.
        #[serde(with = "hexed::Node")]
        member: NodeId,
        /// Number of intermediate nodes.
        hops: u8,
    },
    /// A payment of another node was accepted, and is on disk.
    PaymentAccepted {
        /// Its payment hash, or a covenant's replay key.
        #[serde(with = "hexed::Hex::<32>")]
        payment: [u8; 32],
        /// Who paid.
        #[serde(with = "hexed::Node")]
        source: NodeId,
        /// The whole amount.
        amount_msat: u64,
        /// This node's share.
        share_msat: u64,
    },
    /// An own datagram was sent with this payment.
    PaymentUsed {
        /// Its payment hash, or a covenant's replay key.
        #[serde(with = "hexed::Hex::<32>")]
        payment: [u8; 32],
        /// Its amount.
        amount_msat: u64,
    },
    /// Another node has paid for bytes of its flows, and that is on disk.
    BytesSold {
        /// Payment hash.
        #[serde(with = "hexed::Hex::<32>")]
        payment: [u8; 32],
        /// Who has paid.
        #[serde(with = "hexed::Node")]
        source: NodeId,
        /// Bytes that it bought.
        bytes: u64,
        /// What it paid.
        amount_msat: u64,
    },
    /// This node has bought bytes for its flows, and they are credited.
    BytesBought {
        /// Where.
        #[serde(with = "hexed::Node")]
        node: NodeId,
        /// How many.
        bytes: u64,
        /// What they cost.
        amount_msat: u64,
        /// What this node has there now.
        left: u64,
    },
    /// A purchase has ended without any bytes.
    PurchaseFailed {
        /// Where.
        #[serde(with = "hexed::Hop")]
        node: HopId,
        /// Why, as a sentence.
        cause: String,
    },
    /// A flow can be used.
    FlowOpened {
        /// Its number, in hex as it stands in packets.
        flow: String,
        /// Who is at the other end.
        #[serde(with = "hexed::Node")]
        peer: NodeId,
        /// Whether this node has opened it, and pays for it.
        opened: bool,
    },
    /// A flow has stopped at a node, and looks for another route.
    FlowInterrupted {
        /// Its number, in hex as it stands in packets.
        flow: String,
        /// Who is at the other end.
        #[serde(with = "hexed::Node")]
        peer: NodeId,
        /// Where it stopped, according to whoever reported it.
        #[serde(with = "hexed::Hop")]
        node: HopId,
        /// Why, as a sentence.
        cause: String,
    },
    /// A flow has spent what it may cost. It goes on until what was bought is used up.
    FlowBudgetSpent {
        /// Its number, in hex as it stands in packets.
        flow: String,
        /// Who is at the other end.
        #[serde(with = "hexed::Node")]
        peer: NodeId,
    },
    /// A flow has ended, or could not be opened.
    FlowEnded {
        /// Its number, in hex as it stands in packets.
        flow: String,
        /// Who is, or was to be, at the other end.
        #[serde(with = "hexed::Node")]
        peer: NodeId,
        /// Why, as a sentence.
        cause: String,
    },
    /// Events of this topic were dropped before this client has read them: it was too slow.
    Missed {
        /// How many.
        events: u64,
    },
}
