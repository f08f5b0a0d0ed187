//! When a link takes packets: on which lane, and from when on its queues count as full.

use crate::memory::CONTROL_RESERVE;
use blvm_mesh_core::link::datagram::{LinkQuality, Sent};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::Priority;

/// What a link lets in.
pub(crate) struct Gate {
    /// Bytes that a lane's queue has room for.
    queue: usize,
    /// Lanes that are full, by their number.
    full: [bool; 2],
    /// The hello is on its way, and has arrived: before that the neighbour takes nothing else,
    /// and lanes do not wait for one another.
    hello: bool,
    greeted: bool,
    quality: LinkQuality,
}

impl Gate {
    /// Of a link that sent so much in sessions before.
    pub(crate) fn new(queue: usize, sent: Sent) -> Self {
        let quality = LinkQuality::new(sent);
        Self { queue, full: [false; 2], hello: false, greeted: false, quality }
    }

    /// The session is over.
    pub(crate) fn reset(&mut self, sent: Sent) {
        *self = Self::new(self.queue, sent);
    }

    /// The lane that a packet of so many bytes goes on; `None`: there is no room for it. Packets of
    /// the mesh itself go on the paid lane.
    pub(crate) fn lane(
        &mut self,
        priority: Priority,
        len: usize,
        room: impl FnOnce(Lane) -> usize,
    ) -> Option<Lane> {
        let (lane, reserve) = match priority {
            Priority::Control => (Lane::Paid, 0),
            Priority::Paid => (Lane::Paid, CONTROL_RESERVE),
            Priority::Free => (Lane::Free, 0),
        };
        self.hello |= priority == Priority::Control;
        let is_let_in = (self.greeted || priority == Priority::Control)
            && len.saturating_add(reserve) <= room(lane);
        is_let_in.then_some(lane)
    }

    /// A lane that has just become full (`true`) or has room again: half of a queue holds a
    /// largest packet. Both are full until the neighbour has the hello.
    pub(crate) fn change(
        &mut self,
        is_idle: bool,
        room: impl Fn(Lane) -> usize,
    ) -> Option<(Lane, bool)> {
        self.greeted |= self.hello && is_idle;
        [Lane::Free, Lane::Paid].into_iter().zip(&mut self.full).find_map(|(lane, was_full)| {
            let room = room(lane);
            let full = match *was_full {
                _ if !self.greeted => true,
                false => room <= self.queue / 2,
                true => room < self.queue / 4 * 3,
            };
            (core::mem::replace(was_full, full) != full).then_some((lane, full))
        })
    }

    /// The link's quality, if it has changed with what was sent until now.
    pub(crate) fn measure(&mut self, sent: Sent) -> Option<u16> {
        self.quality.update(sent)
    }
}
