//! What a board tells on its console, in lines that people read.

use crate::{Down, Happening, Role, Status};
use blvm_mesh_core::board::BoardConfig;
use blvm_mesh_core::mesh::{BoardMesh, Event, MeshError, NetworkReason, RoutingReason};
use blvm_mesh_core::time::{Micros, SECOND};
use core::fmt::{self, Write};

/// Time from one summary to the next, at least.
const PAUSE: Micros = SECOND;
/// Reasons that are told apart in one summary.
const REASONS: usize = 8;

/// Writes what happens to a console: links at once, and once a second at most what was
/// refused and how the board fares, so that no neighbour can keep the board busy writing.
pub struct Report<W> {
    out: W,
    /// Refused since the last summary, by port and reason.
    refused: heapless::Vec<(usize, &'static str, u32), REASONS>,
    others: u32,
    status: Option<Status>,
    changed: bool,
    next: Micros,
}

impl<W: Write> Report<W> {
    /// One that has told nothing yet.
    pub fn new(out: W) -> Self {
        Self {
            out,
            refused: heapless::Vec::new(),
            others: 0,
            status: None,
            changed: false,
            next: 0,
        }
    }

    /// Writes a line. A console that takes nothing is no reason to stop.
    pub fn line(&mut self, text: fmt::Arguments<'_>) {
        let _ = self.out.write_fmt(text);
        let _ = self.out.write_str("\r\n");
    }

    /// Tells who the board is, whom it links to, and the number of its start.
    #[inline(never)]
    pub fn begin(&mut self, settings: &BoardConfig, mesh: &BoardMesh, start: u32) {
        let BoardConfig { network, mode, baud, .. } = settings;
        self.line(format_args!("blvm-mesh {}, start {start}", env!("CARGO_PKG_VERSION")));
        self.line(format_args!("identity {}", mesh.id()));
        self.line(format_args!("public key {}", Hex(&mesh.public_key())));
        self.line(format_args!("{network}, {mode}, {baud} bits per second"));
        for (port, role) in settings.lines.iter().enumerate() {
            match role {
                Role::Listen => self.line(format_args!("line {port} listens")),
                Role::Dial(remote) => {
                    self.line(format_args!("line {port} dials {}", Hex(&remote.serialize())));
                }
            }
        }
    }

    /// Tells or notes what happened.
    pub fn happened(&mut self, what: &Happening<'_>) {
        match what {
            Happening::LinkDown { port, reason: Down::Link(reason) } => {
                self.line(format_args!("line {port} down: {reason}"));
            }
            Happening::LinkDown { port, reason: Down::Mesh(reason) } => {
                self.line(format_args!("line {port} down: {}", brief(reason)));
            }
            Happening::Event(Event::PeerConnected { peer, .. }) => {
                self.line(format_args!("up {peer}"))
            }
            Happening::Event(Event::PeerDisconnected { peer }) => {
                self.line(format_args!("gone {peer}"));
            }
            Happening::StoreFailed(error) => self.line(format_args!("no payments: {error}")),
            Happening::StoreRecovered => self.line(format_args!("payments again")),
            Happening::RadioStarted => self.line(format_args!("the radio listens")),
            Happening::RadioFailed(why) => self.line(format_args!("no radio: {why}")),
            Happening::Refused { port, reason } => self.note(*port, brief(reason)),
            Happening::Deliver { .. }
            | Happening::Paid { .. }
            | Happening::SendAgain(_)
            | Happening::NotSent(..)
            | Happening::Event(_) => {}
        }
    }

    fn note(&mut self, port: usize, reason: &'static str) {
        for (known_port, known, times) in &mut self.refused {
            if (*known_port, *known) == (port, reason) {
                *times = times.saturating_add(1);
                return;
            }
        }
        if self.refused.push((port, reason, 1)).is_err() {
            self.others = self.others.saturating_add(1);
        }
    }

    /// Takes how the board fares now.
    pub fn status(&mut self, status: Status) {
        (self.status, self.changed) = (Some(status), true);
    }

    /// When [`summary`](Self::summary) has something to tell.
    pub fn due(&self) -> Option<Micros> {
        (self.changed || !self.refused.is_empty()).then_some(self.next)
    }

    /// Tells what was refused and how the board fares, if it is time; what it uses of
    /// stack and heap, in bytes, is asked for only then.
    pub fn summary(&mut self, now: Micros, memory: impl FnOnce() -> (usize, usize)) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        self.next = now.saturating_add(PAUSE);
        for (port, reason, times) in core::mem::take(&mut self.refused) {
            self.line(format_args!("refused {times} on line {port}: {reason}"));
        }
        let others = core::mem::take(&mut self.others);
        if others > 0 {
            self.line(format_args!("refused {others} more for other reasons"));
        }
        self.changed = false;
        let Some(Status { neighbours, takes_payments, stats }) = self.status else { return };
        let (stack, heap) = memory();
        let payments = if takes_payments { "takes" } else { "refuses" };
        self.line(format_args!(
            "{neighbours} neighbours, {payments} payments; relayed {} free, {} paid, {} bytes; refused {}, payments {}, replays {}; {stack} bytes of stack, {heap} bytes of heap",
            stats.relayed_free,
            stats.relayed_paid,
            stats.relayed_bytes,
            stats.refused,
            stats.refused_payment,
            stats.refused_replay,
        ));
    }
}

/// A reason without its numbers, as the source of a datagram is told it where it is told
/// anything. All reasons in full would take 9 KiB of the image.
fn brief(reason: &MeshError) -> &'static str {
    use {NetworkReason as N, RoutingReason as R};
    if let Some(cause) = reason.cause() {
        return cause.text();
    }
    match reason {
        // What a builder can do something about; the rest by its kind.
        MeshError::NetworkError(N::OtherNetwork { .. }) => "the neighbour is on another network",
        MeshError::NetworkError(N::Itself) => "the other end is this board itself",
        MeshError::NetworkError(N::TooManyNeighbours) => "there are too many neighbours",
        MeshError::NetworkError(N::OtherLinkKept) => "the neighbour has another link",
        MeshError::NetworkError(N::Silent) => "the neighbour is silent",
        MeshError::NetworkError(N::Banned) => "the neighbour is banned for a while",
        MeshError::NetworkError(_) => "the neighbour does not keep to the protocol",
        MeshError::RoutingError(R::NoRoute) => "no route was found",
        MeshError::RoutingError(R::Duplicate | R::KnownRequest) => "it was here before",
        MeshError::RoutingError(_) => "it is not on its way, or answers nothing",
        // Every one of these has a cause.
        MeshError::PaymentVerificationFailed(_) | MeshError::ReplayDetected(_) => "",
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::mesh::{PaymentReason, Stats};
    use std::string::String;
    use std::vec::Vec;

    fn take(report: &mut Report<String>) -> Vec<String> {
        let text = core::mem::take(&mut report.out);
        text.lines().map(String::from).collect()
    }

    #[test]
    fn a_flood_makes_one_line_a_second() {
        let mut report = Report::new(String::new());
        let refused = |reason| Happening::Refused { port: 1, reason };
        let required = MeshError::from(PaymentReason::Required);
        for _ in 0..1000 {
            report.happened(&refused(required));
        }
        assert_eq!((report.due(), take(&mut report).len()), (Some(0), 0));
        report.summary(5, || (0, 0));
        assert_eq!(take(&mut report), [std::format!("refused 1000 on line 1: {required}")]);
        assert_eq!(report.due(), None);
        report.happened(&refused(NetworkReason::Congested.into()));
        report.summary(6, || (0, 0));
        assert!(take(&mut report).is_empty());
        assert_eq!(report.due(), Some(5 + SECOND));
        report.summary(5 + SECOND, || (0, 0));
        assert_eq!(take(&mut report).len(), 1);
    }

    #[test]
    fn the_summary_has_what_counts() {
        let mut report = Report::new(String::new());
        let stats =
            Stats { relayed_free: 3, relayed_paid: 2, relayed_bytes: 900, ..Stats::default() };
        report.status(Status { neighbours: 2, takes_payments: true, stats });
        report.summary(9, || (7000, 180));
        assert_eq!(
            take(&mut report),
            [
                "2 neighbours, takes payments; relayed 3 free, 2 paid, 900 bytes; refused 0, payments 0, replays 0; 7000 bytes of stack, 180 bytes of heap"
            ]
        );
        report.summary(9 + SECOND, || panic!("nothing has changed"));
    }
}
