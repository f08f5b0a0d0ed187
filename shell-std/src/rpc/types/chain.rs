//! What is asked and answered about the chain: block headers that are given, and the
//! node that looks blocks up.

use crate::rpc::hexed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of a block header.
pub const HEADER_LEN: usize = 80;
/// Most headers in one request, as in a `headers` message of Bitcoin's P2P protocol.
pub const MOST_HEADERS: usize = 2_000;

/// Parameters of `meshsubmitheader`: headers that follow one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitHeader {
    /// One header of 80 bytes, or up to 2,000 one behind the other.
    #[serde(rename = "headers_hex", with = "hexed::HexBytes")]
    pub headers: Vec<u8>,
    /// Height of the first.
    pub height: u32,
}

/// Answer of `meshsubmitheader`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedHeaders {
    /// How many were accepted, from the first on.
    pub accepted: usize,
    /// The one after these, if there is one: none behind it was looked at.
    pub refused: Option<RefusedHeader>,
}

/// A header that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedHeader {
    /// Its place in the request, from 0.
    pub place: usize,
    /// The height that it was given with.
    pub height: u32,
    /// Its hash, as it is printed.
    pub hash: String,
    /// Why, as a sentence.
    pub reason: String,
}

/// In the answer of `getstats`: the node that looks blocks up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainStats {
    /// Where it is asked.
    pub rpc_url: String,
    /// Whether it answers.
    pub state: ChainState,
    /// Why the last question failed.
    pub error: Option<String>,
    /// Blocks that were looked up.
    pub lookups: u64,
    /// Those among them that it does not know.
    pub unknown: u64,
    /// Those among them that failed.
    pub failed: u64,
}

/// Whether blocks can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChainState {
    /// It was not asked yet.
    Unchecked,
    /// It answers and follows our network.
    Good,
    /// The last question failed.
    Failed,
}
