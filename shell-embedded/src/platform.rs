//! The loop of a board, and what it needs beside ports.

use crate::radio::Beside;
use crate::{Board, Happening, Port};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::link::datagram::Sent;
use blvm_mesh_core::mesh::Stats;
use blvm_mesh_core::time::Micros;

/// What a board has beside its ports.
pub trait Platform {
    /// Monotonic time in microseconds.
    fn now(&mut self) -> Micros;

    /// The wall clock in seconds since 1970, where the board has one and it is to be set
    /// now. Without one no payment is accepted.
    fn wall_clock(&mut self, now: Micros) -> Option<u64>;

    /// Once in each round: the loop is alive. The place to feed a watchdog.
    fn alive(&mut self);

    /// What is to be shown has changed: the place to set a light. It may change with each
    /// packet.
    fn show(&mut self, status: Status);

    /// Something happened.
    fn happened(&mut self, what: Happening<'_>);

    /// Sleeps until a byte has come in, a transmitter that was full has room, or it is
    /// `until`. It may return earlier. What happened since [`alive`](Self::alive) was
    /// called must wake it at once.
    fn sleep(&mut self, until: Option<Micros>);
}

/// What a board shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Links that are up and greeted.
    pub neighbours: usize,
    /// Whether paid traffic is taken: the clock is set, issuers or covenants are
    /// configured, and the store works.
    pub takes_payments: bool,
    /// What the state machine counts.
    pub stats: Stats,
}

/// How the link of a port fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineStatus {
    /// Who is at the other end, while a session stands.
    pub neighbour: Option<NodeId>,
    /// What was sent since the start.
    pub sent: Sent,
    /// The smoothed round trip, once measured.
    pub round_trip: Option<Micros>,
    /// Frames that came in damaged.
    pub damaged: u64,
}

impl<A: Aead, P: Port, const PORTS: usize, R: Beside> Board<A, P, PORTS, R> {
    /// Relays for ever.
    pub fn run(&mut self, platform: &mut impl Platform) -> ! {
        let mut shown = None;
        loop {
            self.round(platform, &mut shown);
        }
    }

    /// One round of the loop.
    pub(crate) fn round(&mut self, platform: &mut impl Platform, shown: &mut Option<Status>) {
        platform.alive();
        let now = platform.now();
        if let Some(unix) = platform.wall_clock(now) {
            self.set_clock(now, unix, &mut |what| platform.happened(what));
        }
        let wake = self.step(now, &mut |what| platform.happened(what));
        let status = self.status();
        if *shown != Some(status) {
            *shown = Some(status);
            platform.show(status);
        }
        if wake.is_none_or(|wake| wake > now) {
            platform.sleep(wake);
        }
    }
}
