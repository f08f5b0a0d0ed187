//! What a trial has measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Round trips kept for the percentiles; of more, every second, fourth and so on.
const MOST_SAMPLES: usize = 65_536;

/// The figures of one trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Packets sent.
    pub sent: u64,
    /// Packets that the sink has received, by its last report.
    pub received: u64,
    /// Their bytes of payload.
    pub bytes: u64,
    /// Bytes of payload per packet.
    pub payload_bytes: u64,
    /// From the start to the last report, in microseconds.
    pub elapsed_us: u64,
    /// Packets that this node itself refused to send, other than for want of room.
    pub refused: u64,
    /// Why, the last time.
    pub reason: Option<String>,
    /// Packets that relays reported to have stopped.
    pub stopped: u64,
    /// Median round trip of a packet and its report, in microseconds.
    pub rtt_p50_us: u64,
    /// Nine in ten round trips took at most so long.
    pub rtt_p90_us: u64,
    /// 99 in 100 round trips took at most so long.
    pub rtt_p99_us: u64,
    /// Round trips measured.
    pub rtt_samples: u64,
}

impl Outcome {
    /// Payload that arrived, in million bits per second.
    pub fn goodput_mbit(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed_us.max(1) as f64
    }

    /// Packets that arrived per second.
    pub fn packets_per_second(&self) -> f64 {
        self.received as f64 * 1e6 / self.elapsed_us.max(1) as f64
    }

    /// Part of the packets that did not arrive, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.sent.saturating_sub(self.received) as f64 / self.sent.max(1) as f64
    }
}

/// Round trips, thinned out evenly when there are many.
#[derive(Debug, Default)]
pub(super) struct Samples {
    kept: Vec<u64>,
    seen: u64,
    /// Every 2^n-th is kept.
    thinning: u32,
}

impl Samples {
    pub(super) fn add(&mut self, sample: u64) {
        if self.seen.trailing_zeros() >= self.thinning {
            if self.kept.len() >= MOST_SAMPLES {
                let mut keep = false;
                self.kept.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.thinning += 1;
            }
            if self.seen.trailing_zeros() >= self.thinning {
                self.kept.push(sample);
            }
        }
        self.seen += 1;
    }

    pub(super) fn summarise(&mut self, outcome: &mut Outcome) {
        self.kept.sort_unstable();
        let last = self.kept.len().saturating_sub(1);
        // Nearest rank: the smallest that so many per cent do not exceed.
        let rank =
            |percent: usize| (self.kept.len() * percent).div_ceil(100).clamp(1, last + 1) - 1;
        let at = |percent| self.kept.get(rank(percent)).copied().unwrap_or_default();
        (outcome.rtt_p50_us, outcome.rtt_p90_us, outcome.rtt_p99_us) = (at(50), at(90), at(99));
        outcome.rtt_samples = self.seen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks_however_many_there_are() {
        let mut outcome = Outcome::default();
        Samples::default().summarise(&mut outcome);
        assert_eq!(outcome.rtt_p99_us, 0);
        let mut samples = Samples::default();
        (1..=100).rev().for_each(|s| samples.add(s));
        samples.summarise(&mut outcome);
        assert_eq!((outcome.rtt_p50_us, outcome.rtt_p90_us, outcome.rtt_p99_us), (50, 90, 99));

        let mut samples = Samples::default();
        (0..1_000_000u64).for_each(|i| samples.add(i * 7919 % 1_000_003));
        assert!(samples.kept.len() <= MOST_SAMPLES);
        samples.summarise(&mut outcome);
        assert_eq!(outcome.rtt_samples, 1_000_000);
        assert!(outcome.rtt_p90_us.abs_diff(900_000) < 10_000, "{}", outcome.rtt_p90_us);
    }

    #[test]
    fn figures_follow_from_the_counts() {
        let outcome = Outcome {
            sent: 1000,
            received: 900,
            bytes: 900_000,
            elapsed_us: 1_000_000,
            ..Outcome::default()
        };
        assert_eq!(outcome.goodput_mbit(), 7.2);
        assert_eq!(outcome.packets_per_second(), 900.0);
        assert_eq!(outcome.loss(), 0.1);
    }
}
