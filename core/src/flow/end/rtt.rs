//! The round trip of a path (RFC 9002, section 5), on the links' estimate.

use super::ack::MAX_DELAY;
use crate::{
    link::datagram::rto::Rto,
    time::{MILLISECOND, Micros, SECOND},
};

/// Finest time that timers keep (`kGranularity`).
pub(super) const GRANULARITY: Micros = MILLISECOND;
/// Longest round trip that is believed.
const LONGEST: Micros = 60 * SECOND;
/// Longest time until a probe.
const LONGEST_PROBE: Micros = 120 * SECOND;

/// What is known of the round trip.
#[derive(Debug, Clone)]
pub(super) struct Rtt {
    estimate: Rto,
    initial: Micros,
    latest: Micros,
    min: Micros,
    /// How long the peer may let an acknowledgement wait.
    pub(super) ack_delay: Micros,
}

impl Rtt {
    /// Of a path that is new; `initial` is a guess.
    pub(super) fn new(initial: Micros) -> Self {
        let initial = initial.clamp(GRANULARITY, LONGEST);
        // Before a measurement the variation is half of the round trip.
        let estimate = Rto::new(initial.saturating_mul(3), GRANULARITY, 3 * LONGEST);
        Self { estimate, initial, latest: initial, min: Micros::MAX, ack_delay: MAX_DELAY }
    }

    /// The path is another one.
    pub(super) fn restart(&mut self) {
        *self = Self { ack_delay: self.ack_delay, ..Self::new(self.initial) };
    }

    /// Takes the round trip of a packet whose acknowledgement waited for `delay`; gives it without.
    pub(super) fn measure(&mut self, sample: Micros, delay: Micros) -> Micros {
        let sample = sample.min(LONGEST);
        self.min = self.min.min(sample);
        let delay = delay.min(self.ack_delay);
        let without = sample.checked_sub(delay).filter(|rest| *rest >= self.min);
        self.latest = sample;
        let adjusted = without.unwrap_or(sample);
        self.estimate.measure(adjusted);
        adjusted
    }

    /// Whether there was a measurement.
    pub(super) fn is_measured(&self) -> bool {
        self.estimate.round_trip().is_some()
    }

    /// The smoothed round trip.
    pub(super) fn smoothed(&self) -> Micros {
        self.estimate.round_trip().unwrap_or(self.initial)
    }

    /// The shortest one.
    pub(super) fn min(&self) -> Option<Micros> {
        Some(self.min).filter(|_| self.is_measured())
    }

    /// After this time behind a later one a packet is lost (6.1.2): 9/8 of a round trip.
    pub(super) fn loss_delay(&self) -> Micros {
        let longer = self.latest.max(self.smoothed());
        (longer.saturating_mul(9) / 8).max(GRANULARITY)
    }

    /// The probe timeout (6.2.1) when so many went by before.
    pub(super) fn probe_timeout(&self, before: u32) -> Micros {
        let variation = self.estimate.variation().unwrap_or(self.initial / 2);
        let base = self.smoothed().saturating_add((4 * variation).max(GRANULARITY));
        let times = 1u64.checked_shl(before).unwrap_or(u64::MAX);
        base.saturating_add(self.ack_delay).saturating_mul(times).min(LONGEST_PROBE)
    }

    /// When everything sent within this time is lost, the path is taken for congested (7.6.1).
    pub(super) fn persistent_congestion(&self) -> Micros {
        self.probe_timeout(0).saturating_mul(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let mut rtt = Rtt::new(333_000);
        assert_eq!((rtt.smoothed(), rtt.min(), rtt.probe_timeout(0)), (333_000, None, 1_024_000));
        rtt.measure(100_000, 0);
        // 100 + 4 x 50 + 25 ms.
        assert_eq!((rtt.smoothed(), rtt.probe_timeout(0)), (100_000, 325_000));
        assert_eq!((rtt.probe_timeout(2), rtt.persistent_congestion()), (1_300_000, 975_000));
        // The delay is taken off up to the most that the peer may wait, and not below the minimum.
        rtt.measure(140_000, 90_000);
        assert_eq!((rtt.smoothed(), rtt.latest), (101_875, 140_000));
        rtt.measure(110_000, 20_000);
        assert_eq!((rtt.smoothed(), rtt.min()), (102_890, Some(100_000)));
        assert_eq!(rtt.loss_delay(), 110_000 * 9 / 8);
        assert_eq!(rtt.probe_timeout(u32::MAX), LONGEST_PROBE);
        rtt.restart();
        assert_eq!((rtt.smoothed(), rtt.min()), (333_000, None));
    }
}
