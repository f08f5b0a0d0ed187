//! A link as the state machine sees it: what waits on it, how it fares, why it is to end.

use crate::gate::Gate;
use crate::memory::Lent;
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::link::datagram::{DatagramLimits, DatagramLink, LinkMemory, Role, Sent};
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
    gate: Gate,
}

impl<A: Aead> Line<A> {
    pub(crate) fn new(limits: DatagramLimits, role: Role, memory: LinkMemory<Lent>) -> Self {
        Self {
            link: DatagramLink::new(limits, role, memory),
            dials: role != Role::Listen,
            id: None,
            down: None,
            rests_until: None,
            gate: Gate::new(limits.queue as usize, Sent::default()),
        }
    }

    /// Puts a packet, `head` and then `tail`, into the queue; `false` if there is no
    /// room for it.
    pub(crate) fn push(
        &mut self,
        now: Micros,
        priority: Priority,
        head: &[u8],
        tail: &[u8],
    ) -> bool {
        let Self { link, gate, .. } = self;
        let len = head.len().saturating_add(tail.len());
        let lane = gate.lane(priority, len, |lane| link.room(lane));
        lane.is_some_and(|lane| link.queue(now, lane, head, tail).is_ok())
    }

    /// A lane that has just become full (`true`) or has room again.
    pub(crate) fn change(&mut self) -> Option<(Lane, bool)> {
        self.gate.change(self.link.is_idle(), |lane| self.link.room(lane))
    }

    /// The link's quality, if it has changed.
    pub(crate) fn measure(&mut self) -> Option<u16> {
        self.gate.measure(self.link.sent())
    }

    /// The session is over.
    pub(crate) fn forget(&mut self) -> Option<LinkId> {
        self.gate.reset(self.link.sent());
        self.down = None;
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
