//! What is told of serial lines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One serial line of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineStats {
    /// As it is configured.
    pub line: String,
    /// Whether this node dials on it; else it answers.
    pub dials: bool,
    /// What became of it.
    pub state: LineState,
    /// Why it is not open, or why there is no link over it.
    pub error: Option<String>,
    /// Pieces of packets that were sent.
    pub chunks: u64,
    /// Pieces that were sent again because they were lost.
    pub sent_again: u64,
    /// Packets that were given up because they took too long.
    pub given_up: u64,
    /// Frames that came in damaged, or longer than is taken.
    pub damaged: u64,
    /// Frames that came in whole and meant nothing here: repeated, forged or too late.
    pub ignored: u64,
    /// Smoothed round trip of a piece, in microseconds, once measured.
    pub round_trip_us: Option<u64>,
}

/// State of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineState {
    /// It is open, and a neighbour has proven his key over it.
    Up,
    /// It is open.
    Open,
    /// It cannot be opened, or broke off.
    Closed,
}
