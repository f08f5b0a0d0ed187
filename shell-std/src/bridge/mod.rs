//! Bitcoin's P2P connections over the mesh, without I/O: messages, what both ends tell each other,
//! and the connections. The node's tasks around it are in [`node`](crate::node).
//!
//! What passes in datagrams is nothing but whole messages of Bitcoin's protocol, so that relays
//! carry it for nothing, judge it as everything else, and need know nothing of connections.

pub(crate) mod channel;
pub(crate) mod control;
mod header_status;
pub(crate) mod headers;
pub(crate) mod lists;
pub(crate) mod message;
pub(crate) mod narrow;
pub(crate) mod outbox;
mod signal;
pub(crate) mod table;
pub(crate) mod traffic;
pub mod transaction;

use crate::headers::Root;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::id::{Network, NodeId};
pub(crate) use header_status::{HeaderStatus, Newest};
pub(crate) use signal::Signal;
use std::net::SocketAddr;

/// What a node does with Bitcoin nodes of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BridgeSettings {
    /// P2P port of a Bitcoin node that others reach through this one, which is then a gateway.
    pub node: Option<SocketAddr>,
    /// Where Bitcoin nodes connect that reach others through the mesh.
    pub listen: Vec<SocketAddr>,
    /// Gateways that these are led to; none: any that is found.
    pub gateways: Vec<NodeId>,
    /// Connections of others at once.
    pub connections: usize,
    /// Bytes per second below which a route is narrow.
    pub narrow_rate: u64,
    /// Whether whole blocks are fetched over narrow routes.
    pub narrow_blocks: bool,
    /// The block from which a checked chain of headers is followed; `None`: none is.
    pub headers: Option<Root>,
    /// Nodes that cannot ask for headers, as boards, and are sent each; and the height of the block
    /// that each of them knows.
    pub announce_to: Vec<(NodeId, u32)>,
}

/// The group of a network's gateways: who belongs to it answers searches for this identity.
pub fn group(network: Network) -> NodeId {
    let name = format!("blvm-mesh/bitcoin-gateway/{network}");
    NodeId(sha256::Hash::hash(name.as_bytes()).to_byte_array())
}
