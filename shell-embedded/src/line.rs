//! A link as the state machine sees it: what waits on it, how it fares, why it is to end.

use crate::memory::{CONTROL_RESERVE, Lent};
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::link::datagram::{
    DatagramLimits, DatagramLink, LinkMemory, LinkQuality, Role, Sent,
};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::{MeshError, Priority};
use blvm_mesh_core::time::Micros;

/// The link of a port.
pub(crate) struct Line<A> {
    pub(crate) link: DatagramLink<A, Lent>,
    pub(crate) dials: bool,
    /// Set while the neighbour is known.
    pub(crate) id: Option<LinkId>,
    /// Why the state machine wants the session to end.
    pub(crate) down: Option<MeshError>,
    /// The state machine ended a session: nothing is sent until then.
    pub(crate) rests_until: Option<Micros>,
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

impl<A: Aead> Line<A> {
    pub(crate) fn new(limits: DatagramLimits, role: Role, memory: LinkMemory<Lent>) -> Self {
        Self {
            link: DatagramLink::new(limits, role, memory),
            dials: role != Role::Listen,
            id: None,
            down: None,
            rests_until: None,
            queue: limits.queue as usize,
            full: [false; 2],
            hello: false,
            greeted: false,
            quality: LinkQuality::new(Sent::default()),
        }
    }

    /// Puts a packet, `head` and then `tail`, into the queue; `false` if there is no
    /// room for it. Packets of the mesh itself go on the paid lane.
    pub(crate) fn push(
        &mut self,
        now: Micros,
        priority: Priority,
        head: &[u8],
        tail: &[u8],
    ) -> bool {
        let (lane, reserve) = match priority {
            Priority::Control => (Lane::Paid, 0),
            Priority::Paid => (Lane::Paid, CONTROL_RESERVE),
            Priority::Free => (Lane::Free, 0),
        };
        self.hello |= priority == Priority::Control;
        let len = head.len().saturating_add(tail.len());
        (self.greeted || priority == Priority::Control)
            && len.saturating_add(reserve) <= self.link.room(lane)
            && self.link.queue(now, lane, head, tail).is_ok()
    }

    /// A lane that has just become full (`true`) or has room again: half of a queue holds a
    /// largest packet. Both are full until the neighbour has the hello.
    pub(crate) fn change(&mut self) -> Option<(Lane, bool)> {
        self.greeted |= self.hello && self.link.is_idle();
        [Lane::Free, Lane::Paid].into_iter().zip(&mut self.full).find_map(|(lane, was_full)| {
            let room = self.link.room(lane);
            let full = match *was_full {
                _ if !self.greeted => true,
                false => room <= self.queue / 2,
                true => room < self.queue / 4 * 3,
            };
            (core::mem::replace(was_full, full) != full).then_some((lane, full))
        })
    }

    /// The link's quality, if it has changed.
    pub(crate) fn measure(&mut self) -> Option<u16> {
        self.quality.update(self.link.sent())
    }

    /// The session is over.
    pub(crate) fn forget(&mut self) -> Option<LinkId> {
        (self.full, self.quality) = ([false; 2], LinkQuality::new(self.link.sent()));
        (self.hello, self.greeted, self.down) = (false, false, None);
        self.id.take()
    }

    /// When there is something to do on the line at the latest. With a frame on its way
    /// nothing is sent before there is room for it.
    pub(crate) fn wake(&self, now: Micros, busy: bool) -> Option<Micros> {
        if let Some(until) = self.rests_until {
            return Some(until);
        }
        self.link.poll_timeout().filter(|at| !busy || *at > now)
    }
}
