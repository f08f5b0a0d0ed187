//! Packets that the state machine has parked, under their tickets.

use crate::node::progress::OwnSend;
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::mesh::Ticket;
use std::collections::HashMap;

/// Most bytes of them.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A packet that waits for a route, for room or for a look-up.
pub(crate) enum Waiting {
    Packet(LinkId, Vec<u8>),
    Own(OwnSend),
}

impl Waiting {
    fn len(&self) -> usize {
        match self {
            Self::Packet(_, bytes) => bytes.len(),
            Self::Own(own) => own.len(),
        }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Parked {
    waiting: HashMap<Ticket, Waiting>,
    bytes: usize,
}

impl Parked {
    /// Keeps a packet; gives it back if there is no room.
    pub(crate) fn put(&mut self, ticket: Ticket, waiting: Waiting) -> Result<(), Waiting> {
        let bytes = self.bytes.saturating_add(waiting.len());
        if bytes > MOST_BYTES {
            return Err(waiting);
        }
        self.bytes = bytes;
        self.waiting.insert(ticket, waiting);
        Ok(())
    }

    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.bytes = self.bytes.saturating_sub(waiting.len());
        Some(waiting)
    }

    /// How many there are, and their bytes.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }
}
