//! Where blocks are looked up: a Bitcoin node's JSON-RPC.
//!
//! A covenant is accepted only if its funding transaction is in the best chain. Whoever
//! runs Bitcoin Core, or another node with the methods `getblockheader`,
//! `getblockchaininfo` and `sendrawtransaction`, lets it answer for that, and broadcast the
//! transaction by which he is paid.

mod rpc;
mod source;

#[cfg(test)]
pub(crate) mod fake;

pub use crate::secret::Secret;
pub use rpc::BitcoinRpc;
pub use source::{ChainSource, SourceState};

use blvm_mesh_core::id::Network;
use std::path::PathBuf;
use std::time::Duration;

/// Which node is asked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSettings {
    /// `http://HOST:PORT`, without credentials.
    pub rpc_url: String,
    /// What it is told to be let in.
    pub auth: Auth,
    /// Longest time that a look-up may take, waiting for its turn included.
    pub timeout: Duration,
}

/// How this node shows that it may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// It does not.
    None,
    /// By the file that Bitcoin Core writes at each of its starts. It is read anew for
    /// every request.
    Cookie(PathBuf),
    /// By name and password.
    User {
        /// `rpcuser`, or the name in `rpcauth`.
        name: String,
        /// Its password.
        password: Secret,
    },
}

/// Where a transaction is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// In the node's mempool.
    Mempool,
    /// In a block of the best chain.
    Block {
        /// The proof, as `gettxoutproof` gives it and BIP 37's `merkleblock` carries it.
        proof: Vec<u8>,
    },
    /// The node does not know it, or all of its outputs are spent and the node has no index of
    /// transactions.
    Nowhere,
}

/// Why the node gave no answer. None of them holds a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The cookie file cannot be read.
    #[error(
        "cannot read chain.cookie_file {path}: {error}; Bitcoin Core writes it when it starts, \
         and this user must be allowed to read it",
        path = .path.display()
    )]
    Cookie {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: String,
    },
    /// No connection, or it broke.
    #[error("there is no connection: {0}; does the node run, and is chain.rpc_url right?")]
    Unreachable(String),
    /// It took too long.
    #[error("it did not answer in time; is it busy, or chain.timeout_ms too short?")]
    Timeout,
    /// HTTP status 401.
    #[error(
        "it refuses the credentials; check chain.cookie_file, or chain.rpc_user and \
         chain.rpc_password"
    )]
    Unauthorized,
    /// HTTP status 403.
    #[error("it does not let this machine in; see rpcallowip in its bitcoin.conf")]
    Forbidden,
    /// Another HTTP status, with something else than an answer.
    #[error("it answers with HTTP status {0} and no JSON-RPC; is chain.rpc_url right?")]
    Status(u16),
    /// The answer is not what was asked for.
    #[error("its answer cannot be read: {0}")]
    Answer(String),
    /// The node says no.
    #[error("it says: {message} (code {code})")]
    Rpc {
        /// As in Bitcoin Core's `rpc/protocol.h`.
        code: i64,
        /// Its first 200 characters.
        message: String,
    },
    /// It follows another chain.
    #[error(
        "it is on chain \"{found}\", and this node is on {network}: let chain.rpc_url name a node \
         of that network, or set mesh.network"
    )]
    WrongChain {
        /// What `getblockchaininfo` says.
        found: String,
        /// What is configured.
        network: Network,
    },
}

/// The name of a network in `getblockchaininfo`.
pub fn chain_name(network: Network) -> &'static str {
    match network {
        Network::Mainnet => "main",
        Network::Testnet3 => "test",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
    }
}
