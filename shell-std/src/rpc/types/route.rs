//! What is asked and answered about routes.

use crate::rpc::hexed;
use crate::rpc::target::Target;
use blvm_mesh_core::id::{HopId, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer of `getroutes`: one known route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Where it ends.
    #[serde(with = "hexed::Node")]
    pub destination: NodeId,
    /// Intermediate nodes in travel order, by the short forms of their identities:
    /// nobody on a route need know more of the others.
    #[serde(with = "hexed::Hops")]
    pub hops: Vec<HopId>,
    /// Smallest of the largest packets that the nodes on it accept.
    pub min_packet: u32,
    /// Its cost: tariffs and quality of the links. The lowest is taken.
    pub cost: u64,
    /// Milliseconds until it is asked for again.
    pub expires_in_ms: u64,
}

/// Parameters of `findroute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindRoute {
    /// To whom: identity, public key or address.
    #[serde(alias = "target")]
    pub destination: Target,
}

/// Answer of `findroute`. Where none is found the answer is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundRoute {
    /// The best route.
    #[serde(flatten)]
    pub route: Route,
    /// Microseconds that it took.
    pub took_us: u64,
}
