//! Connections: ordered, with latency; they can be closed, or go silent.

use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::time::Micros;

/// A connection between two nodes. Link numbers are used once.
#[derive(Debug, Clone)]
pub struct Conn {
    /// The two ends; the first one dialed.
    pub ends: [usize; 2],
    /// Time that a packet takes, in microseconds.
    pub latency: Micros,
    /// Whether an end may still send.
    pub open: bool,
    /// Whether what is sent gets lost, unnoticed by either end.
    pub silent: bool,
    /// When it last carried anything, if it no longer does.
    pub broken_at: Option<Micros>,
    /// Arrival of the latest packet at each end.
    pub(super) latest: [Micros; 2],
}

/// The link number of one end.
pub(super) fn link_of(conn: usize, side: usize) -> LinkId {
    LinkId((2 * conn + side) as u32)
}

/// The connection and the side of a link number.
pub(super) fn conn_of(link: LinkId) -> (usize, usize) {
    (link.0 as usize / 2, link.0 as usize % 2)
}

impl Conn {
    pub(super) fn new(ends: [usize; 2], latency: Micros) -> Self {
        Self { ends, latency, open: true, silent: false, broken_at: None, latest: [0; 2] }
    }

    /// Whether it carries packets.
    pub fn works(&self) -> bool {
        self.open && !self.silent
    }

    pub(super) fn joins(&self, a: usize, b: usize) -> bool {
        self.ends == [a, b] || self.ends == [b, a]
    }
}
