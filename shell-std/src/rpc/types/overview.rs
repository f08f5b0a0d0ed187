//! A node at a glance.

use super::Tariff;
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::{Network, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer of `meshgetinfo`: what an operator looks at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
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
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Where it listens: addresses with the ports that it really got, and lines.
    pub listening: Vec<String>,
    /// Neighbours that are up.
    pub peers_up: usize,
    /// Configured and added peers that are not.
    pub peers_down: usize,
    /// Neighbours at link-local addresses, as those that are found on a LAN.
    #[serde(default)]
    pub lan: Vec<LanNeighbour>,
    /// Routes that are known.
    pub routes: usize,
    /// Flows that end here.
    pub flows_own: u64,
    /// Flows that pass.
    pub flows_passing: u64,
    /// What relaying costs here.
    #[schemars(with = "schema::Tariff")]
    pub tariff: Tariff,
    /// Payments since midnight (UTC); none: the ledger cannot be read.
    pub today: Option<Today>,
    /// Connections of Bitcoin nodes over the mesh, where this node has to do with them.
    pub bitcoin: Option<BitcoinSummary>,
    /// The operator's Lightning node, as `lightning.backend` names it.
    pub lightning: Option<String>,
    /// Where the node keeps its files.
    pub data_dir: String,
    /// Bytes that are free there, where the system tells.
    pub disk_free: Option<u64>,
    /// What is not as it should be.
    pub warnings: Vec<Warning>,
}

/// A neighbour on a LAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LanNeighbour {
    /// Its compressed public key.
    #[serde(with = "hexed::Hex::<33>")]
    pub public_key: [u8; 33],
    /// Where it is.
    pub address: String,
    /// Whether it relays what this node pays for.
    pub trusted: bool,
}

/// Payments since midnight (UTC).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Today {
    /// When the day began, in seconds since 1970.
    pub since: u64,
    /// Payments of others accepted, and sales of bytes.
    pub payments: u64,
    /// This node's shares in them, and what bytes were sold for, in millisatoshi.
    pub earned_msat: u64,
    /// Own payments and purchases.
    pub paid: u64,
    /// What they cost, fees of purchases included, in millisatoshi.
    pub paid_msat: u64,
}

/// The bridge for Bitcoin nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BitcoinSummary {
    /// The Bitcoin node that others reach through this one, as IP:PORT.
    pub node: Option<String>,
    /// Where Bitcoin nodes connect that reach others through the mesh.
    pub listen: Vec<String>,
    /// Connections, either way.
    pub connections: usize,
    /// Height of the checked chain of block headers, where one is kept.
    pub header_height: Option<u32>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// A name for it, for programs.
    pub kind: WarningKind,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// Kinds of warnings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// The system's clock is wrong.
    Clock,
    /// No payment is accepted.
    NoIssuer,
    /// Nobody can connect.
    NotListening,
    /// Only this host can connect.
    LoopbackOnly,
    /// Nobody has connected so far.
    NotReached,
    /// The disk of the store is nearly full.
    DiskFull,
    /// The store cannot be written.
    Store,
    /// A table is nearly full.
    TableFull,
    /// A peer has never answered.
    PeerSilent,
    /// File descriptors are few.
    Descriptors,
    /// The node that looks blocks up fails.
    Chain,
    /// A serial line is not open.
    Line,
    /// A Lightning payment was not made.
    Lightning,
    /// The ledger is not booked in its database.
    Export,
}

impl WarningKind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [Self; 14] = [
        Self::Clock,
        Self::NoIssuer,
        Self::NotListening,
        Self::LoopbackOnly,
        Self::NotReached,
        Self::DiskFull,
        Self::Store,
        Self::TableFull,
        Self::PeerSilent,
        Self::Descriptors,
        Self::Chain,
        Self::Line,
        Self::Lightning,
        Self::Export,
    ];

    /// The name by which it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::NoIssuer => "no_issuer",
            Self::NotListening => "not_listening",
            Self::LoopbackOnly => "loopback_only",
            Self::NotReached => "not_reached",
            Self::DiskFull => "disk_full",
            Self::Store => "store",
            Self::TableFull => "table_full",
            Self::PeerSilent => "peer_silent",
            Self::Descriptors => "descriptors",
            Self::Chain => "chain",
            Self::Line => "line",
            Self::Lightning => "lightning",
            Self::Export => "export",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_by_their_names() {
        for kind in WarningKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
