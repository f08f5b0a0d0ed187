//! What is asked and answered about bytes that are bought before a flow needs them.

use super::{Proof, RouteAccepts, Sent};
use crate::rpc::hexed;
use crate::rpc::target::Target;
use blvm_mesh_core::id::{HopId, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `meshquoteaccounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteAccounts {
    /// Where the flows are to lead: identity, public key or address.
    pub destination: Target,
    /// Bytes to buy at each relay, at least 1.
    pub bytes: u64,
}

/// Answer of `meshquoteaccounts`: what one payment must be, and commit to, that buys bytes at every
/// relay of the route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountsQuote {
    /// Where the route leads.
    #[serde(with = "hexed::Node")]
    pub destination: NodeId,
    /// The relays, by the short forms of their identities, in travel order.
    #[serde(with = "hexed::Hops")]
    pub hops: Vec<HopId>,
    /// Bytes that the dearest of them sells for its part; the others sell more.
    pub bytes: u64,
    /// The whole amount.
    pub amount_msat: u64,
    /// What each relay gets of it.
    pub part_msat: u64,
    /// What the invoice or the covenant must commit to: as its description hash, or as
    /// `description`.
    #[serde(with = "hexed::Hex::<32>")]
    pub terms_hash: [u8; 32],
    /// `blvm-mesh:` and the terms hash, for wallets that take only text.
    pub description: String,
    /// Smallest of the largest packets that the nodes on the route accept: the proof must fit.
    pub min_packet: u32,
    /// What all nodes on the route accept; `null`: they have not told it.
    pub accepts: Option<RouteAccepts>,
    /// Whether all of them take such a payment; `null`: they have not told it.
    pub taken: Option<bool>,
}

/// Parameters of `meshprepay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prepay {
    /// Where the flows are to lead: identity, public key or address.
    pub destination: Target,
    /// Bytes to buy at each relay, at least 1. With a proof: those of its quote.
    pub bytes: u64,
    /// A payment that all relays share. Without one the wallet pays an invoice of each.
    #[serde(default)]
    pub proof: Option<Proof>,
    /// How long to wait for the receipt of a proof, in milliseconds.
    #[serde(default = "wait_ms")]
    pub wait_ms: u64,
}

fn wait_ms() -> u64 {
    5_000
}

/// Answer of `meshprepay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prepaid {
    /// What was bought at each relay by an invoice of its own, in travel order.
    pub bought: Vec<BoughtAt>,
    /// What became of the proof that they share, if there was one.
    pub shown: Option<Sent>,
}

/// What came of buying bytes at one relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BoughtAt {
    /// The relay, by the short form of its identity.
    #[serde(with = "hexed::Hop")]
    pub node: HopId,
    /// Bytes bought.
    pub bytes: u64,
    /// What they cost.
    pub amount_msat: u64,
    /// Bytes that flows may draw there now; `null` where nothing was bought.
    pub left: Option<u64>,
    /// Why nothing was bought.
    pub reason: Option<String>,
}
