//! What is asked and answered about measuring the way to another node.

use crate::bench::{Outcome, Protocol};
use crate::rpc::target::Target;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `benchstart`: send a load to a node whose sink is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchStart {
    /// To whom: identity, public key or address.
    #[serde(alias = "target")]
    pub destination: Target,
    /// What the load looks like: `raw` goes free in mode `open` only, `bitcoin`
    /// everywhere.
    #[serde(default = "raw")]
    pub protocol: Protocol,
    /// Bytes of payload in a packet, at least 64.
    #[serde(default = "payload")]
    pub bytes: usize,
    /// How long to send, in milliseconds.
    #[serde(default = "duration")]
    pub duration_ms: u64,
    /// Bytes that may be on the way; 0 sends one packet at a time, for round trips.
    #[serde(default = "window")]
    pub window: usize,
}

fn raw() -> Protocol {
    Protocol::Raw
}

fn payload() -> usize {
    1400
}

fn duration() -> u64 {
    5_000
}

fn window() -> usize {
    768 * 1024
}

/// Answer of `benchstart`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchResult {
    /// Payload that arrived, in million bits per second.
    pub goodput_mbit: f64,
    /// Packets that arrived per second.
    pub packets_per_second: f64,
    /// Part of the packets that did not arrive, 0 to 1.
    pub loss: f64,
    /// The counts that these follow from, and the round trips.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl From<Outcome> for BenchResult {
    fn from(outcome: Outcome) -> Self {
        Self {
            goodput_mbit: outcome.goodput_mbit(),
            packets_per_second: outcome.packets_per_second(),
            loss: outcome.loss(),
            outcome,
        }
    }
}

/// Parameters and answer of `benchsink`: whether anyone may measure the way here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchSink {
    /// On or off.
    pub on: bool,
}
