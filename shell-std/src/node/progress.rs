//! A datagram of this node's own, and how far it got.

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::error::MeshError;
use blvm_mesh_core::wire::route_error::Cause;

/// A datagram of our own to be sent.
#[derive(Debug)]
pub(crate) struct OwnSend {
    pub(crate) destination: NodeId,
    pub(crate) payload: Vec<u8>,
    pub(crate) proof: Vec<u8>,
    pub(crate) unchecked: bool,
    /// Who wants to know. What happens later than that he stops listening is
    /// not told.
    pub(crate) progress: smol::channel::Sender<Progress>,
}

impl OwnSend {
    /// Bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        self.payload.len().saturating_add(self.proof.len())
    }
}

/// What became of a datagram of our own. There is one `Sent` or `Refused`, and
/// after `Sent` there may be `Repeating`, a few times, and at last `Stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is on its way.
    Sent {
        /// Its number.
        sequence: u64,
        /// Number of intermediate nodes.
        hops: u8,
    },
    /// This node did not send it.
    Refused(MeshError),
    /// A relay says that it stopped it, for a cause that may be over soon. It is paid for
    /// and will be sent again.
    Repeating {
        /// Who says so.
        reporter: NodeId,
        /// Why.
        cause: Cause,
        /// Which repeat it will be, from 1 to
        /// [`REPEATS`](blvm_mesh_core::payment::replay::REPEATS).
        repeat: u8,
    },
    /// A relay says that it stopped it.
    Stopped {
        /// Who says so.
        reporter: NodeId,
        /// Why.
        cause: Cause,
        /// How often it had been sent again by then.
        repeats: u8,
    },
}
