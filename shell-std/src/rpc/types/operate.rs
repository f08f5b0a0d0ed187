//! What an operator changes while the node runs.

use super::{PeerState, Tariff};
use crate::rpc::target::Target;
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer of `meshreload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// The file that was read; none: there is none, and only flags and variables count.
    pub file: Option<String>,
    /// Keys whose new values are in force.
    pub applied: Vec<String>,
    /// Keys whose new values take a restart.
    pub restart: Vec<String>,
    /// Values of the configuration that do not count, and why.
    pub notes: Vec<String>,
}

/// Parameters of `meshaddpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPeer {
    /// Who and where: PUBKEY@HOST:PORT, or PUBKEY@HOST:PORT/HOST:PORT with up to 8 addresses that are
    /// tried in turn. A peer that was added before gets this address.
    pub address: String,
}

/// Answer of `meshaddpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddedPeer {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// Where it is dialled; of several addresses, with `/` between them.
    pub address: String,
}

/// Parameters of `meshremovepeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemovePeer {
    /// Who: identity, public key or address.
    pub node: Target,
}

/// Answer of `meshremovepeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedPeer {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// Links that were closed.
    pub links_closed: usize,
}

/// Parameters of `meshbanpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BanPeer {
    /// Who: identity, public key or address.
    pub node: Target,
    /// For how long, in seconds; none: until it is lifted.
    #[serde(default)]
    pub for_s: Option<u64>,
}

/// Answer of `meshbanpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BannedPeer {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// When the ban ends, in seconds since 1970; none: when it is lifted.
    pub until: Option<u64>,
    /// Links that were closed.
    pub links_closed: usize,
}

/// Parameters of `meshunbanpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnbanPeer {
    /// Who: identity, public key or address.
    pub node: Target,
}

/// Answer of `meshunbanpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnbannedPeer {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
}

/// Parameters of `meshtrustpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustPeer {
    /// Who: identity, public key or address.
    pub node: Target,
}

/// Parameters of `meshdistrustpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistrustPeer {
    /// Who: identity, public key or address.
    pub node: Target,
}

/// Answer of `meshtrustpeer` and `meshdistrustpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrustedPeer {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// Whether it relays what this node pays for now.
    pub trusted: bool,
}

/// Answer of `meshlistpeers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerList {
    /// Peers to which a link is kept.
    pub peers: Vec<KeptPeer>,
    /// Nodes that get none.
    pub bans: Vec<Ban>,
    /// Neighbours that are no peers, and relay what this node pays for.
    #[serde(default)]
    pub trusted: Vec<Target>,
}

/// A peer to which a link is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptPeer {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// Its compressed public key.
    #[serde(with = "hexed::Hex::<33>")]
    pub public_key: [u8; 33],
    /// Where it is reached; of several addresses, with `/` between them.
    pub address: String,
    /// Who named it.
    pub source: PeerSource,
    /// State of its link.
    pub state: PeerState,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
}

/// Who named a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerSource {
    /// The configuration (`mesh.peers`).
    Configuration,
    /// `meshaddpeer`, now or in an earlier run.
    Added,
}

/// A node that gets no link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ban {
    /// Its identity.
    #[serde(with = "hexed::Node")]
    pub node_id: NodeId,
    /// When the ban ends, in seconds since 1970; none: when it is lifted.
    pub until: Option<u64>,
}

/// Parameters of `meshsettariff`, in millisatoshi; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTariff {
    /// Price of a payment for relaying.
    #[serde(default)]
    pub base_msat: Option<u32>,
    /// Price of each started KiB.
    #[serde(default)]
    pub per_kib_msat: Option<u32>,
    /// Price of a payment for bytes of flows that end here.
    #[serde(default)]
    pub receive_base_msat: Option<u32>,
    /// Price of each started KiB of them.
    #[serde(default)]
    pub receive_per_kib_msat: Option<u32>,
}

/// Answer of `meshgettariff`, `meshsettariff` and `meshresettariff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TariffReport {
    /// What relaying costs.
    #[schemars(with = "schema::Tariff")]
    pub relay: Tariff,
    /// What bytes of flows that end here cost.
    #[schemars(with = "schema::Tariff")]
    pub receive: Tariff,
    /// What relaying costs by the configuration.
    #[schemars(with = "schema::Tariff")]
    pub configured: Tariff,
    /// What bytes of flows that end here cost by the configuration.
    #[schemars(with = "schema::Tariff")]
    pub configured_receive: Tariff,
    /// Keys whose values were set at run time and count more than the configuration's.
    pub set: Vec<String>,
}
