//! What is asked and answered about probes.

use super::{Stopped, Tariff};
use crate::probe;
use crate::rpc::target::Target;
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::{HopId, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest wait for an answer that is usual, in milliseconds.
pub(crate) const WAIT_MS: u64 = 5_000;

/// Parameters of `meshping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// To whom: identity, public key or address.
    #[serde(alias = "target")]
    pub destination: Target,
    /// Bytes of the probe's data, 38 to 512; the answer has as many, and says no more than has room in
    /// them.
    #[serde(default = "usual")]
    pub bytes: usize,
    /// Longest wait for the answer, in milliseconds.
    #[serde(default = "wait")]
    pub wait_ms: u64,
}

/// Parameters of `meshtrace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// To whom: identity, public key or address.
    #[serde(alias = "target")]
    pub destination: Target,
    /// Longest wait for each answer, in milliseconds; so long each node is looked for before, where it
    /// must be.
    #[serde(default = "wait")]
    pub wait_ms: u64,
}

/// Bytes of a probe's data that are usual.
pub(crate) const USUAL: usize = 64;

fn usual() -> usize {
    USUAL
}

fn wait() -> u64 {
    WAIT_MS
}

/// Answer of `meshping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pinged {
    /// Who was asked.
    #[serde(with = "hexed::Node")]
    pub destination: NodeId,
    /// Bytes of the probe's data.
    pub bytes: usize,
    /// What became of it.
    #[serde(flatten)]
    pub fared: Fared,
}

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Fared {
    /// Whether its answer came in time.
    pub answered: bool,
    /// Microseconds until then.
    pub round_trip_us: Option<u64>,
    /// Intermediate nodes of the route that it took, if it was sent.
    pub relays: Option<u8>,
    /// Why there is no answer, as a sentence.
    pub reason: Option<String>,
    /// The report of a relay that stopped it.
    pub stopped: Option<Stopped>,
    /// What the node told of itself.
    pub told: Option<Told>,
}

/// What a node tells of itself. Nothing of it is proven: each relay that the answer passes could have
/// written it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// Name and version of its software; none: the probe was too short for that.
    pub software: Option<String>,
    /// Its mode.
    #[schemars(with = "schema::Mode")]
    pub mode: String,
    /// Expected transmissions of a packet on the link that the probe came by, in 1/256, as the node has
    /// measured: 256 where nothing is lost.
    pub transmissions_256: Option<u16>,
    /// What it asks for relaying.
    #[schemars(with = "schema::Tariff")]
    pub tariff: Tariff,
    /// Free traffic that it takes of a neighbour: bytes a second, and at once.
    pub free_rate: u64,
    /// See `free_rate`.
    pub free_burst: u64,
    /// The part of that which need have no proof of work: bytes a second, and at once.
    pub plain_rate: u64,
    /// See `plain_rate`.
    pub plain_burst: u64,
    /// Public keys of the issuers whose invoices it accepts; none: the probe was too short for that.
    #[serde(with = "hexed::OptionalKeys")]
    pub issuers: Option<Vec<[u8; 33]>>,
}

impl From<probe::Told> for Told {
    fn from(told: probe::Told) -> Self {
        let probe::Told { mode, transmissions_256, tariff, free, plain, software, issuers } = told;
        Self {
            software,
            mode: mode.name().to_owned(),
            transmissions_256: (transmissions_256 > 0).then_some(transmissions_256),
            tariff,
            free_rate: free.rate,
            free_burst: free.burst,
            plain_rate: plain.rate,
            plain_burst: plain.burst,
            issuers,
        }
    }
}

/// Answer of `meshtrace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traced {
    /// Where the route ends.
    #[serde(with = "hexed::Node")]
    pub destination: NodeId,
    /// Its nodes in travel order, the destination the last.
    pub hops: Vec<TracedHop>,
    /// Smallest of the largest packets that the nodes on it accept.
    pub min_packet: u32,
    /// Its cost: tariffs and quality of the links.
    pub cost: u64,
    /// Microseconds that the search for it took.
    pub took_us: u64,
}

/// A node of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TracedHop {
    /// The short form of its identity.
    #[serde(with = "hexed::Hop")]
    pub node: HopId,
    /// Its identity, if it was found.
    #[serde(default, with = "hexed::OptionalNode")]
    pub node_id: Option<NodeId>,
    /// What became of the probe to it, which takes this node's best route there.
    #[serde(flatten)]
    pub fared: Fared,
}
