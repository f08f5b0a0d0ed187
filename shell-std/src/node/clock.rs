//! The two clocks that are passed to the state machine.

use blvm_mesh_core::time::Micros;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic microseconds since the node started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Micros {
        Micros::try_from(self.start.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    /// The instant of a time by this clock; far in the future for times that no clock reaches.
    pub(crate) fn instant(&self, at: Micros) -> Instant {
        let far = Duration::from_secs(365 * 24 * 3600);
        self.start + Duration::from_micros(at).min(self.start.elapsed() + far)
    }

    /// The wall clock in seconds since 1970; `None` if it is set to an earlier time.
    pub(crate) fn unix() -> Option<u64> {
        SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs())
    }
}
