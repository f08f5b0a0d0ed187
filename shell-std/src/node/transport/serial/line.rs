//! A line, and what its task needs.

use super::super::Ways;
use super::limits::LineLimits;
use super::status::LineStatus;
use crate::address::SerialLine;
use blvm_mesh_core::id::NodeId;
use secp256k1::PublicKey;
use std::sync::Arc;

/// A line and what its task needs of the node.
pub(super) struct Line {
    pub(super) line: SerialLine,
    /// Who is dialled; `None`: whoever connects is answered.
    pub(super) remote: Option<PublicKey>,
    pub(super) limits: LineLimits,
    pub(super) status: Arc<LineStatus>,
    pub(super) ways: Ways,
}

impl Line {
    /// Who is dialled.
    pub(super) fn dialed(&self) -> Option<NodeId> {
        self.remote.as_ref().map(NodeId::from_public_key)
    }

    /// Waits until there is no link with who is dialled, and it is not banned.
    pub(super) async fn absent(&self) {
        if let Some(id) = self.dialed() {
            self.ways.presence.absent(&id).await;
            self.ways.bans.lifted(&id).await;
        }
    }

    pub(super) fn failed(&self, error: &str) {
        // A line that stays away is not worth more than one line in the log.
        match self.status.failed(error) {
            true => tracing::warn!(line = %self.line, "{error}"),
            false => tracing::debug!(line = %self.line, "{error}"),
        }
        if let Some(id) = self.dialed() {
            self.ways.dials.note(id, error.to_owned());
        }
    }
}
