//! A datagram of this node's own, and how far it got.

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::error::MeshError;
use blvm_mesh_core::time::Micros;
use blvm_mesh_core::wire::route_error::Cause;

/// A datagram of our own to be sent.
#[derive(Debug)]
pub(crate) struct OwnSend {
    pub(crate) destination: NodeId,
    pub(crate) payload: Vec<u8>,
    pub(crate) proof: Vec<u8>,
    pub(crate) unchecked: bool,
    /// Who wants to know. Whatever happens after the receiver is dropped is not reported.
    pub(crate) progress: smol::channel::Sender<Progress>,
    /// Until when the client waits, by the node's clock; 0: not at all.
    pub(crate) until: Micros,
    /// How often it was sent anew.
    pub(crate) retries: u8,
}

impl OwnSend {
    /// A free datagram that is sent once.
    pub(crate) fn free(
        destination: NodeId,
        payload: Vec<u8>,
        progress: smol::channel::Sender<Progress>,
    ) -> Self {
        let (proof, unchecked, until, retries) = (Vec::new(), false, 0, 0);
        Self { destination, payload, proof, unchecked, progress, until, retries }
    }

    /// Bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        self.payload.len().saturating_add(self.proof.len())
    }
}

/// What became of a datagram of our own. There is one `Sent` or `Refused`; after `Sent` there may
/// be `Repeating` and `Repeated`, a few times, and finally `Delivered` or `Stopped`. A free one
/// that is sent anew has another `Sent`, or `Refused`, after `Repeating`.
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
    /// A relay reports that it stopped the datagram, for a cause that may pass. It will be sent
    /// again, without another payment if it is a paid one.
    Repeating {
        /// The reporter.
        reporter: NodeId,
        /// Why.
        cause: Cause,
        /// Which repeat it will be, from 1; a paid one has at most
        /// [`REPEATS`](blvm_mesh_core::payment::replay::REPEATS).
        repeat: u8,
    },
    /// It is a paid one and is sent again: it was stopped, or nothing was heard of it.
    Repeated {
        /// Which repeat it is, as above.
        repeat: u8,
    },
    /// It is a paid one, and its destination confirms that it was delivered.
    Delivered {
        /// How often it had been sent again by then.
        repeats: u8,
    },
    /// A relay reports that it stopped it.
    Stopped {
        /// The reporter.
        reporter: NodeId,
        /// Why.
        cause: Cause,
        /// How often it had been sent again by then.
        repeats: u8,
    },
}
