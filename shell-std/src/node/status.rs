//! What the dialers last met with, for those who ask.

use blvm_mesh_core::id::NodeId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The last failure of each configured neighbour that is not connected.
#[derive(Debug, Default)]
pub(crate) struct DialStatus {
    failures: Mutex<HashMap<NodeId, (Instant, String)>>,
}

impl DialStatus {
    pub(crate) fn failed(&self, peer: NodeId, error: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.insert(peer, (Instant::now(), error));
    }

    /// When the last attempt failed, and why.
    pub(crate) fn last(&self, peer: &NodeId) -> Option<(Instant, String)> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).get(peer).cloned()
    }
}
