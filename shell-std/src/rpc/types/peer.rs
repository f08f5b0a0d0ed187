//! What is told of neighbours.

use super::{BridgeStats, Count, Tariff};
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer of `getpeers`: one configured or connected neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// Its compressed public key.
    #[serde(with = "hexed::Hex::<33>")]
    pub public_key: [u8; 33],
    /// Host and port of the other end.
    pub address: String,
    /// State of the link.
    pub state: PeerState,
    /// Whether this node opened the connection.
    pub dialed: bool,
    /// Whether it is reached at a link-local address, as those that are found on a LAN.
    #[serde(default)]
    pub lan: bool,
    /// Whether it relays what this node pays for: it is a peer, or was trusted (`meshtrustpeer`), or
    /// all are (`payment.strangers_relay_paid`).
    #[serde(default)]
    pub trusted: bool,
    /// Number of the link, where there is one.
    pub link: Option<u32>,
    /// Milliseconds since the link came up, or since the last attempt.
    pub since_ms: u64,
    /// What the neighbour said of itself.
    pub hello: Option<PeerHello>,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
    /// Packets and bytes received from it on this link.
    pub received: Count,
    /// Packets and bytes sent to it on this link.
    pub sent: Count,
    /// Connections of Bitcoin nodes that end at it.
    #[serde(default)]
    pub bitcoin: BridgeStats,
    /// Expected transmissions of a packet to it, in 1/256, as measured so far: 256 where nothing is
    /// lost.
    #[serde(default)]
    pub transmissions_256: Option<u16>,
    /// Packets of it that were refused.
    pub refused: u64,
    /// Bytes of flows that it may owe here (`flow.credit`).
    #[serde(default)]
    pub credit_bytes: u64,
    /// Bytes of flows that it owes.
    #[serde(default)]
    pub owes_bytes: u64,
}

/// State of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Connected, hellos exchanged.
    Up,
    /// Connecting, in the handshake, or waiting for the first hello.
    Connecting,
    /// Waiting before the next attempt.
    Down,
}

/// What a neighbour said in its hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerHello {
    /// Its mode.
    #[schemars(with = "schema::Mode")]
    pub mode: String,
    /// What it takes.
    #[schemars(with = "schema::Tariff")]
    pub tariff: Tariff,
    /// Largest packet that it accepts.
    pub max_packet: u32,
    /// Compressed public keys of the issuers whose invoices it accepts.
    #[serde(default, with = "hexed::Keys")]
    pub issuers: Vec<[u8; 33]>,
}
