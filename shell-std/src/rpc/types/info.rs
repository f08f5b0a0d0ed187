//! What the node tells about itself.

use super::Tariff;
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::{Network, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Answer of `getinfo`: who the node is and how it is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Info {
    /// SHA-256 of the public key.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// Compressed public key.
    #[serde(with = "hexed::Hex::<33>")]
    pub public_key: [u8; 33],
    /// Version of the program.
    pub version: String,
    /// Network whose payments are accepted.
    #[schemars(with = "schema::Network")]
    pub network: Network,
    /// What it relays, and for what it asks payment.
    #[schemars(with = "schema::Mode")]
    pub mode: String,
    /// Where the node listens, with the port that it really got.
    pub listen_addr: Option<String>,
    /// Neighbours that are up.
    pub peers: usize,
    /// Routes that are known.
    pub routes: usize,
    /// What relaying costs here.
    #[schemars(with = "schema::Tariff")]
    pub tariff: Tariff,
    /// Largest packet accepted, header included.
    pub max_packet: u32,
    /// Compressed public keys of the issuers that are accepted.
    #[serde(with = "hexed::Keys")]
    pub issuers: Vec<[u8; 33]>,
    /// Whether covenants are accepted, provided that there is a `payout_script`.
    pub covenants_active: bool,
    /// Script that covenants must pay this node to; empty: none is accepted.
    #[serde(with = "hexed::HexBytes")]
    pub payout_script: Vec<u8>,
    /// Where the node keeps its files.
    #[schemars(with = "String")]
    pub data_dir: PathBuf,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
}
