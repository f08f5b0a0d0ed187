//! The state of lines, for status reports.

use crate::address::SerialLine;
use crate::rpc::types::{LineState, LineStats};
use blvm_mesh_core::link::datagram::Sent;
use blvm_mesh_core::time::Micros;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state of one line, shared by its task and its readers.
#[derive(Debug)]
pub(crate) struct LineStatus {
    line: SerialLine,
    dials: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    open: bool,
    up: bool,
    error: Option<String>,
    /// Of earlier openings of the line.
    past: Counts,
    now: Counts,
    round_trip: Option<Micros>,
}

/// Counters of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: Sent,
    pub(crate) damaged: u64,
    pub(crate) ignored: u64,
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            sent: Sent {
                chunks: self.sent.chunks.saturating_add(other.sent.chunks),
                again: self.sent.again.saturating_add(other.sent.again),
                given_up: self.sent.given_up.saturating_add(other.sent.given_up),
            },
            damaged: self.damaged.saturating_add(other.damaged),
            ignored: self.ignored.saturating_add(other.ignored),
        }
    }
}

impl LineStatus {
    pub(crate) fn new(line: SerialLine, dials: bool) -> Self {
        Self { line, dials, seen: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line can be used.
    pub(crate) fn opened(&self) {
        let mut seen = self.lock();
        (seen.open, seen.error) = (true, None);
    }

    /// A link over the line has come up or gone down.
    pub(crate) fn linked(&self, up: bool) {
        let mut seen = self.lock();
        seen.up = up;
        if up {
            seen.error = None;
        }
    }

    /// What is wrong although the line is open.
    pub(crate) fn warn(&self, error: &str) {
        self.lock().error = Some(error.to_owned());
    }

    /// The line cannot be used; returns whether that is news.
    pub(crate) fn failed(&self, error: &str) -> bool {
        let mut seen = self.lock();
        let news = seen.open || seen.error.as_deref() != Some(error);
        (seen.open, seen.up, seen.error) = (false, false, Some(error.to_owned()));
        (seen.past, seen.now) = (seen.past.plus(seen.now), Counts::default());
        seen.round_trip = None;
        news
    }

    /// What was counted since the line was opened.
    pub(crate) fn counted(&self, counts: Counts, round_trip: Option<Micros>) {
        let mut seen = self.lock();
        (seen.now, seen.round_trip) = (counts, round_trip);
    }

    /// All of it.
    pub(crate) fn report(&self) -> LineStats {
        let seen = self.lock().clone();
        let counts = seen.past.plus(seen.now);
        LineStats {
            line: self.line.to_string(),
            dials: self.dials,
            state: match (seen.open, seen.up) {
                (_, true) => LineState::Up,
                (true, false) => LineState::Open,
                (false, false) => LineState::Closed,
            },
            error: seen.error,
            chunks: counts.sent.chunks,
            sent_again: counts.sent.again,
            given_up: counts.sent.given_up,
            damaged: counts.damaged,
            ignored: counts.ignored,
            round_trip_us: seen.round_trip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_interruptions_and_failures_are_news_once() {
        let status = LineStatus::new("serial:///dev/x".parse().unwrap(), true);
        assert_eq!(status.report().state, LineState::Closed);
        assert!(status.failed("no such file") && !status.failed("no such file"));
        assert!(status.failed("not allowed"));
        status.opened();
        assert_eq!((status.report().state, status.report().error), (LineState::Open, None));
        status.linked(true);
        let sent = Sent { chunks: 5, again: 2, given_up: 1 };
        status.counted(Counts { sent, damaged: 3, ignored: 4 }, Some(7));
        let up = status.report();
        assert_eq!((up.state, up.chunks, up.round_trip_us), (LineState::Up, 5, Some(7)));
        assert!(status.failed("gone"));
        status.opened();
        status.counted(Counts { sent, damaged: 1, ignored: 1 }, None);
        let again = status.report();
        let counts = (again.chunks, again.sent_again, again.given_up, again.damaged, again.ignored);
        assert_eq!(counts, (10, 4, 2, 4, 5));
        assert_eq!((again.line.as_str(), again.dials), ("serial:///dev/x?baud=115200", true));
    }
}
