//! The retransmission timer (RFC 6298) in whole microseconds.

use crate::time::Micros;

/// A measured round trip and the time after which a frame is taken for lost.
#[derive(Debug, Clone)]
pub struct Rto {
    /// Smoothed round trip, times 8, and its variation, times 4; `None` before the first
    /// measurement.
    measured: Option<(Micros, Micros)>,
    timeout: Micros,
    /// How often the timeout was over since anything came.
    backoff: u32,
    min: Micros,
    max: Micros,
}

impl Rto {
    /// Before any measurement the timeout is `initial`; it stays within `min` and `max`.
    pub fn new(initial: Micros, min: Micros, max: Micros) -> Self {
        let max = max.max(min);
        Self { measured: None, timeout: initial.clamp(min, max), backoff: 0, min, max }
    }

    /// How long to wait for an acknowledgement.
    #[inline(never)]
    pub fn timeout(&self) -> Micros {
        let times = 1u64.checked_shl(self.backoff / 2).unwrap_or(u64::MAX);
        self.timeout.saturating_mul(times).min(self.max)
    }

    /// The smoothed round trip, once measured.
    pub fn round_trip(&self) -> Option<Micros> {
        self.measured.map(|(smoothed, _)| smoothed / 8)
    }

    /// How much the round trip varies (`rttvar`), once measured.
    pub fn variation(&self) -> Option<Micros> {
        self.measured.map(|(_, variation)| variation / 4)
    }

    /// Takes the round trip of one frame. It need not be one that was sent once only
    /// (Karn's rule): each retransmission has a counter of its own.
    pub fn measure(&mut self, round_trip: Micros) {
        let sample = round_trip.min(self.max);
        let (smoothed, variation) = match self.measured {
            None => (sample * 8, sample * 2),
            Some((smoothed, variation)) => {
                let error = (smoothed / 8).abs_diff(sample);
                (smoothed - smoothed / 8 + sample, variation - variation / 4 + error)
            }
        };
        self.measured = Some((smoothed, variation));
        self.timeout = (smoothed / 8).saturating_add(variation).clamp(self.min, self.max);
    }

    /// The timeout was over before anything came: every second time it doubles. Less
    /// patience than RFC 6298 has with a crowded network: here most losses are the
    /// line's, and a neighbour is not to be given up for a few of them.
    pub fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Something came: the timeout is again what was measured (RFC 9002, 6.2.1).
    pub fn progress(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6298, 2.2 and 2.3, worked by hand: 100 ms, then 200 ms.
    #[test]
    fn as_the_rfc_says() {
        let mut rto = Rto::new(1_000_000, 10_000, 60_000_000);
        assert_eq!(rto.timeout(), 1_000_000);
        rto.measure(100_000);
        // SRTT 100, RTTVAR 50: 100 + 4 x 50.
        assert_eq!(rto.timeout(), 300_000);
        rto.measure(200_000);
        // RTTVAR 3/4 x 50 + 1/4 x 100 = 62.5; SRTT 7/8 x 100 + 1/8 x 200 = 112.5.
        assert_eq!((rto.timeout(), rto.round_trip()), (362_500, Some(112_500)));
        rto.back_off();
        assert_eq!(rto.timeout(), 362_500);
        rto.back_off();
        assert_eq!(rto.timeout(), 725_000);
        for _ in 0..40 {
            rto.back_off();
        }
        assert_eq!(rto.timeout(), 60_000_000);
        rto.progress();
        assert_eq!(rto.timeout(), 362_500);
    }

    proptest! {
        #[test]
        fn close_to_floating_point(samples in prop::collection::vec(1u64..5_000_000, 1..50)) {
            let mut rto = Rto::new(1, 1, u64::MAX / 16);
            let first = samples[0] as f64;
            let (mut smoothed, mut variation) = (first, first / 2.0);
            rto.measure(samples[0]);
            for sample in &samples[1..] {
                rto.measure(*sample);
                variation = 0.75 * variation + 0.25 * (smoothed - *sample as f64).abs();
                smoothed = 0.875 * smoothed + 0.125 * *sample as f64;
            }
            let expected = smoothed + 4.0 * variation;
            prop_assert!((rto.timeout() as f64 - expected).abs() <= 50.0);
        }

        #[test]
        fn never_leaves_its_bounds(samples in prop::collection::vec(any::<u64>(), 1..20)) {
            let mut rto = Rto::new(500, 1_000, 1_000_000);
            for sample in samples {
                rto.measure(sample);
                prop_assert!((1_000..=1_000_000).contains(&rto.timeout()));
                rto.back_off();
                prop_assert!((1_000..=1_000_000).contains(&rto.timeout()));
            }
        }
    }
}
