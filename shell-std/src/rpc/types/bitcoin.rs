//! What is answered about Bitcoin connections over the mesh.

use crate::rpc::hexed;
use blvm_mesh_core::id::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Answer to `getbitcoin`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BitcoinBridge {
    /// The Bitcoin node that others reach through this one, as IP:PORT.
    pub node: Option<String>,
    /// Where Bitcoin nodes connect that reach others through the mesh, each as IP:PORT.
    pub listen: Vec<String>,
    /// The checked chain of block headers, where one is kept.
    pub headers: Option<HeaderChain>,
    /// Connections, the oldest first.
    pub connections: Vec<BridgedConnection>,
}

/// Connections of Bitcoin nodes over the mesh, in sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BridgeStats {
    /// How many there are, either way.
    pub connections: usize,
    /// The greatest height of a chain that their other ends have told of.
    pub height: Option<u32>,
    /// Messages that the Bitcoin nodes at this end have sent on them.
    pub sent: MessageCount,
    /// Messages that these were sent.
    pub received: MessageCount,
    /// Messages that were not passed on: too large for the way, or not worth their air time.
    pub held_back: u64,
}

/// The chain of block headers that a node has checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderChain {
    /// Height of the newest block.
    pub height: u32,
    /// Its hash.
    pub hash: String,
    /// The time in its header, in seconds since 1970; none where only the checkpoint is known.
    pub time_unix: Option<u32>,
    /// Height of the block that the chain is followed from.
    pub checkpoint: u32,
    /// How often another chain had more work, since the start.
    pub reorganisations: u64,
    /// The gateway that was heard last; none: this node's own Bitcoin node, or none yet.
    #[serde(with = "hexed::OptionalNode")]
    pub gateway: Option<NodeId>,
}

/// A connection between two Bitcoin nodes over the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BridgedConnection {
    /// The mesh node at the other end.
    #[serde(with = "hexed::Node")]
    pub peer: NodeId,
    /// Whether this node is the gateway of the two.
    pub gateway: bool,
    /// Time since it was opened, in milliseconds.
    pub age_ms: u64,
    /// Round trip to the other end, in microseconds, once measured.
    pub round_trip_us: Option<u64>,
    /// What the Bitcoin node at this end has sent.
    pub sent: BridgedMessages,
    /// What it was sent.
    pub received: BridgedMessages,
    /// Messages that were lost on the way and sent again.
    pub repeated: u64,
    /// Messages of the Bitcoin node at this end that were not passed on, by command: too large for
    /// the nodes on the way, or not worth their air time.
    pub held_back: BTreeMap<String, MessageCount>,
    /// Messages of it that were not passed on because their command is not known.
    pub unknown: BTreeMap<String, MessageCount>,
}

/// Messages of Bitcoin's P2P protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageCount {
    /// How many.
    pub messages: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
}

/// Messages one way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BridgedMessages {
    /// Height of the chain that the sender has stated at the start.
    pub height: Option<u32>,
    /// Blocks that it has announced since by one header each, or compact.
    pub announced: u32,
    /// All messages.
    pub total: MessageCount,
    /// The same by command.
    pub by_command: BTreeMap<String, MessageCount>,
}
