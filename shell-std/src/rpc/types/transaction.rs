//! What is asked and answered about transactions sent through the mesh.

use crate::rpc::hexed;
use blvm_mesh_core::id::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `meshsendtx` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum TransactionWait {
    /// Nothing: that it is kept here.
    Kept,
    /// That a gateway's Bitcoin node has taken or refused it.
    #[default]
    Accepted,
    /// That it is in a block.
    Confirmed,
}

/// Parameters of `meshsendtx`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendTransaction {
    /// The transaction, signed, in hex.
    pub tx_hex: String,
    /// What is waited for.
    #[serde(default)]
    pub wait: TransactionWait,
    /// Milliseconds that it is waited for at most.
    #[serde(default = "default_wait")]
    pub wait_ms: u64,
}

fn default_wait() -> u64 {
    60_000
}

/// Parameters of `gettransactions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetTransactions {
    /// Only this one.
    #[serde(default)]
    pub txid: Option<String>,
}

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransactionState {
    /// No gateway has answered yet; it is handed over again until one does.
    Waiting,
    /// A gateway says that its Bitcoin node has taken it.
    Accepted,
    /// A gateway says that its Bitcoin node refuses it.
    Rejected,
    /// It is in a block with proof of work.
    Confirmed,
}

/// A transaction that was sent from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SentTransaction {
    /// Its identifier.
    pub txid: String,
    /// How far it is.
    pub state: TransactionState,
    /// The gateway that said so.
    #[serde(with = "hexed::OptionalNode")]
    pub gateway: Option<NodeId>,
    /// Why it was refused, as the Bitcoin node says it; of one that waits, what holds it up.
    pub reason: Option<String>,
    /// The code of that (BIP 61).
    pub code: Option<u8>,
    /// The block that it is in.
    pub block: Option<String>,
    /// The height of the block, where this node keeps a chain of headers.
    pub height: Option<u32>,
    /// Blocks from it to the newest, both counted.
    pub confirmations: Option<u32>,
    /// When it was given, in seconds since 1970.
    pub since_unix: u64,
    /// How often it was handed to a gateway.
    pub attempts: u32,
}
