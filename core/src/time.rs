//! Time as the state machine sees it: two clocks, both handed in.

/// Monotonic time or a span of it, in microseconds.
pub type Micros = u64;

/// One millisecond.
pub const MILLISECOND: Micros = 1_000;
/// One second.
pub const SECOND: Micros = 1_000_000;

/// The wall clock, kept going between readings by the monotonic one.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    reading: Option<(Micros, u64)>,
}

impl WallClock {
    /// Sets the clock: at monotonic time `now` it was `unix` seconds since 1970.
    pub fn set(&mut self, now: Micros, unix: u64) {
        self.reading = Some((now, unix));
    }

    /// Seconds since 1970 at `now`, or `None` while the clock was never set.
    #[inline(never)]
    pub fn unix(&self, now: Micros) -> Option<u64> {
        let (at, unix) = self.reading?;
        Some(unix.saturating_add(now.saturating_sub(at) / SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_on_between_readings_and_follows_a_jump() {
        let mut w = WallClock::default();
        assert_eq!(w.unix(5), None);
        w.set(10 * SECOND, 1_000);
        assert_eq!(w.unix(12 * SECOND + 999_999), Some(1_002));
        assert_eq!(w.unix(9 * SECOND), Some(1_000));
        w.set(13 * SECOND, 500);
        assert_eq!(w.unix(14 * SECOND), Some(501));
        w.set(0, u64::MAX);
        assert_eq!(w.unix(u64::MAX), Some(u64::MAX));
    }
}
