//! The bytes that the state machine writes itself: what precedes a payload, or a whole control
//! packet.

use super::{Mesh, Pending, Priority};
use crate::id::LinkId;
use crate::tables::{List, Memory};

impl<M: Memory> Mesh<M> {
    pub(super) fn written(&self) -> &[u8] {
        self.tables.head.get(..self.head_len).unwrap_or_default()
    }

    pub(super) fn reserve_head(&mut self, size: usize) {
        while self.tables.head.len() < size && self.tables.head.try_push(0).is_ok() {}
    }

    /// Writes a packet's head; false if it does not fit.
    pub(super) fn write_head<E>(
        &mut self,
        size: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> bool {
        self.reserve_head(size);
        match write(&mut self.tables.head) {
            Ok(n) => {
                self.head_len = n;
                true
            }
            Err(_) => false,
        }
    }

    /// Sends a control packet on a link.
    pub(super) fn send_control<E>(
        &mut self,
        link: LinkId,
        size: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) {
        self.send_control_after(link, size, None, write);
    }

    /// The same once a record is durable.
    pub(super) fn send_control_after<E>(
        &mut self,
        link: LinkId,
        size: usize,
        after: Option<u64>,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) {
        if self.write_head(size, write) {
            self.push(Pending::Send { link, priority: Priority::Control, after });
        }
    }
}
