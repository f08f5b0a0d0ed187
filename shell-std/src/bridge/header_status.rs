//! How far the checked chain of headers is, to be shown.

use super::table::lock;
use crate::headers::Chain;
use bitcoin::BlockHash;
use blvm_mesh_core::id::NodeId;
use std::sync::Mutex;

/// The newest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) height: u32,
    pub(crate) hash: BlockHash,
    /// The time in its header, in seconds since 1970, where that is known.
    pub(crate) time: Option<u32>,
    /// The height of the checkpoint.
    pub(crate) checkpoint: u32,
    pub(crate) reorganisations: u64,
    /// The gateway that was heard last; `None`: this node's own Bitcoin node, or none yet.
    pub(crate) gateway: Option<NodeId>,
}

/// What is shown of the chain; nothing where none is kept.
#[derive(Debug, Default)]
pub(crate) struct HeaderStatus(Mutex<Option<Newest>>);

impl HeaderStatus {
    pub(crate) fn set(&self, chain: &Chain, gateway: Option<NodeId>) {
        *lock(&self.0) = Some(Newest {
            height: chain.height(),
            hash: chain.tip(),
            time: chain.time(),
            checkpoint: chain.root_height(),
            reorganisations: chain.reorganisations(),
            gateway,
        });
    }

    pub(crate) fn newest(&self) -> Option<Newest> {
        *lock(&self.0)
    }
}
