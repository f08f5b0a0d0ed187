//! What is asked and answered about flows: those that end at the node and those that pass, and the
//! ports that they join.

use crate::rpc::hexed;
use crate::rpc::target::Target;
use blvm_mesh_core::id::{HopId, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer to `getflows`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowList {
    /// Flows that end at the node.
    pub own: Vec<OwnFlow>,
    /// Flows that pass.
    pub passing: Vec<PassingFlow>,
    /// Services of the node.
    pub exposed: Vec<ExposedService>,
    /// Ports that lead to services of others.
    pub forwards: Vec<ForwardedPort>,
}

/// A flow that ends at the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnFlow {
    /// Its number, in hex as it stands in packets.
    pub flow: String,
    /// Who is at the other end.
    #[serde(with = "hexed::Node")]
    pub peer: NodeId,
    /// Whether the node has opened it, and pays for it.
    pub opened: bool,
    /// Whether it has a route, and was answered.
    pub up: bool,
    /// `sealed`: encrypted from end to end.
    pub sort: String,
    /// Nodes between both ends, in travel order; none where the other end has opened it.
    #[serde(with = "hexed::Hops")]
    pub route: Vec<HopId>,
    /// Bytes that were bought for it at each of them, or that it may use for nothing.
    pub quota: u64,
    /// Bytes of packets that both ends have sent, as far as the node knows.
    pub used: u64,
    /// Bytes of packets that the node has sent.
    pub sent: u64,
    /// Of these bytes, those that have arrived.
    pub acknowledged: u64,
    /// Of these bytes, those that were lost.
    pub lost: u64,
    /// What was paid for it, in millisatoshi.
    pub paid_msat: u64,
    /// Time since it was opened, in milliseconds.
    pub age_ms: u64,
    /// Time since a packet came, in milliseconds.
    pub idle_ms: u64,
    /// Round trip, in microseconds, once measured.
    pub round_trip_us: Option<u64>,
}

/// A flow that passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassingFlow {
    /// Its number, in hex as it stands in packets.
    pub flow: String,
    /// Who has opened it, and pays.
    #[serde(with = "hexed::Node")]
    pub source: NodeId,
    /// The neighbour that it comes from.
    #[serde(with = "hexed::Hop")]
    pub from: HopId,
    /// The neighbour that it goes to.
    #[serde(with = "hexed::Hop")]
    pub to: HopId,
    /// Whether it is paid for.
    pub paid: bool,
    /// Bytes that it holds in reserve of what its source has bought here.
    pub reserved: u64,
    /// Time since a packet came, in milliseconds.
    pub idle_ms: u64,
}

/// A service of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExposedService {
    /// Its name.
    pub name: String,
    /// The TCP port behind it, as IP:PORT.
    pub target: String,
}

/// A port of the node that leads to a service of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForwardedPort {
    /// Where connections are taken, as IP:PORT.
    pub local: String,
    /// To whom they lead.
    #[serde(with = "hexed::Node")]
    pub node: NodeId,
    /// To which of its services.
    pub service: String,
    /// The most that each flow of it may cost, in millisatoshi.
    pub max_msat: u64,
}

/// Parameters of `expose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expose {
    /// The name under which other nodes reach it: 1 to 64 lower-case letters, digits, dots,
    /// underscores and hyphens.
    pub name: String,
    /// The TCP port: IP:PORT, or a port of 127.0.0.1. None: the service is withdrawn.
    #[serde(default)]
    pub target: Option<String>,
}

/// Answer to `expose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exposing {
    /// The services of the node now.
    pub exposed: Vec<ExposedService>,
}

/// Parameters of `forward`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Where connections are taken: IP:PORT, or a port of 127.0.0.1; port 0: any free one.
    pub local: String,
    /// To whom they lead: identity, public key or address. None: the forward is ended.
    #[serde(default)]
    pub node: Option<Target>,
    /// To which of its services.
    #[serde(default)]
    pub service: Option<String>,
    /// The most that each flow of it may cost, in millisatoshi; none: what the configuration says.
    #[serde(default)]
    pub max_msat: Option<u64>,
}

/// Answer to `forward`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forwarding {
    /// Where connections are taken, or were, as IP:PORT.
    pub local: String,
    /// The forwards of the node now.
    pub forwards: Vec<ForwardedPort>,
}
