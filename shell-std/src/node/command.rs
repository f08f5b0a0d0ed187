//! What the engine is told by the tasks around it.

use super::handshake::Established;
use super::memory::{Counted, Share};
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::link::fragment::Lane;
use blvm_mesh_core::mesh::error::MeshError;
use blvm_mesh_core::wire::route_error::Cause;
use std::ops::Range;
use std::sync::Arc;

/// Buffers that go round between a link's reader and the engine.
pub(crate) const BUFFERS: usize = 2;

/// Memory for received bytes, reused.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    /// Where the bodies of decrypted frames lie.
    pub(crate) frames: Vec<Range<usize>>,
    /// What is more than every link has.
    counted: Counted,
}

impl Buffer {
    /// A buffer of so many bytes that every link has.
    pub(crate) fn new(len: usize, share: Arc<Share>) -> Self {
        Self { bytes: vec![0; len], frames: Vec::new(), counted: Counted::nothing(share) }
    }

    /// Makes the buffer larger, if the link may have the memory.
    pub(crate) fn try_grow(&mut self, len: usize) -> bool {
        let may = len <= self.bytes.len() || self.counted.try_set(len);
        if may {
            self.resize(len);
        }
        may
    }

    /// Makes the buffer larger, for bytes that the link has already.
    pub(crate) fn grow(&mut self, len: usize) {
        if len > self.bytes.len() {
            self.counted.set(len);
            self.resize(len);
        }
    }

    fn resize(&mut self, len: usize) {
        if let Some(more) = len.checked_sub(self.bytes.len()) {
            self.bytes.reserve_exact(more);
            self.bytes.resize(len, 0);
        }
    }
}

/// Frames that came in on a link at once.
pub(crate) struct Batch {
    pub(crate) link: LinkId,
    pub(crate) buffer: Buffer,
}

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

/// What the engine does for others between two inputs.
pub(crate) type Job = Box<dyn FnOnce(&mut super::engine::Engine) + Send>;

/// What the engine is told.
pub(crate) enum Command {
    /// Frames came in.
    Batch(Batch),
    /// A neighbour has proven his key. The sender is dropped with the link.
    LinkUp(Box<Established>),
    /// A task of the link ended.
    LinkDown { link: LinkId, reason: String },
    /// The queue of the link's lane has room again.
    Room { link: LinkId, lane: Lane },
    /// Bytes came on the link; whether they are part of a packet that is not complete.
    Alive { link: LinkId, incoming: bool },
    /// What a serial line has measured, in 1/256 transmissions per packet.
    Measured { link: LinkId, quality: u16 },
    /// Send a datagram of our own.
    Send(Box<OwnSend>),
    /// Do this.
    Job(Job),
}
