//! Pacing (RFC 9002, 7.7): packets leave at 5/4 of a window per round trip, not in one burst.

use crate::{
    time::{Micros, SECOND},
    token_bucket::TokenBucket,
};

/// Packets that may leave at once.
const BURST_PACKETS: u64 = 10;
/// Time whose packets may leave at once, as timers are coarse.
const BURST_TIME: Micros = 2_000;

/// When the next packet may leave.
#[derive(Debug, Clone)]
pub(super) struct Pacer {
    bucket: TokenBucket,
    /// What the bucket was tuned to: rate and burst.
    tuned: (u64, u64),
}

impl Pacer {
    /// With a full burst at `now`.
    pub(super) fn new(now: Micros, window: u64, round_trip: Micros, packet: u64) -> Self {
        let (rate, burst) = tune(window, round_trip, packet);
        Self { bucket: TokenBucket::new(rate, burst, now), tuned: (rate, burst) }
    }

    /// When `bytes` may leave; not after `now` if at once.
    pub(super) fn ready_at(
        &mut self,
        now: Micros,
        bytes: u64,
        window: u64,
        round_trip: Micros,
        packet: u64,
    ) -> Micros {
        let tuned = tune(window, round_trip, packet);
        if tuned != self.tuned {
            self.bucket.retune(tuned.0, tuned.1, now);
            self.tuned = tuned;
        }
        self.bucket.ready_at(bytes, now).unwrap_or(now)
    }

    /// So many bytes have left.
    pub(super) fn sent(&mut self, now: Micros, bytes: u64) {
        self.bucket.try_take(bytes, now);
    }
}

/// Rate in bytes per second, and burst in bytes.
fn tune(window: u64, round_trip: Micros, packet: u64) -> (u64, u64) {
    let rate = window.saturating_mul(SECOND / 4 * 5) / round_trip.max(1);
    let burst = (rate / (SECOND / BURST_TIME)).max(BURST_PACKETS.saturating_mul(packet));
    (rate.max(1), burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_leaves_in_four_fifths_of_a_round_trip() {
        const ROUND_TRIP: Micros = 100_000;
        let mut pacer = Pacer::new(0, 100_000, ROUND_TRIP, 1_000);
        let mut now = 0;
        for n in 0..110 {
            let ready = pacer.ready_at(now, 1_000, 100_000, ROUND_TRIP, 1_000);
            assert!(n >= 10 || ready == 0);
            now = now.max(ready);
            pacer.sent(now, 1_000);
        }
        // Ten at once and a hundred at 1.25 windows a round trip.
        assert_eq!(now, 80_000);
        // The rate follows the window.
        let ready = pacer.ready_at(now, 1_000, 200_000, ROUND_TRIP, 1_000);
        assert_eq!(ready, now + 400);
        // A packet larger than any burst leaves.
        assert_eq!(pacer.ready_at(now, 1 << 30, 200_000, ROUND_TRIP, 1_000), now);
    }
}
