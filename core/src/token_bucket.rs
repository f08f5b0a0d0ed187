//! A token bucket: how much may come in a time.

/// Microseconds in a second.
const SECOND: u64 = 1_000_000;

/// A token bucket in bytes: `rate` bytes a second on average, up to `burst`
/// bytes at once.
///
/// Integer arithmetic without drift: over any time, however often it is asked,
/// it gives exactly `burst + rate * time` bytes, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second, at most [`Self::MAX_RATE`].
    rate: u64,
    burst: u64,
    /// Bytes that may be taken; at most `burst`.
    level: u64,
    /// What is there beyond `level`, in millionths of a byte; under a million.
    fraction: u64,
    /// When `level` and `fraction` were right, in microseconds.
    updated: u64,
}

impl TokenBucket {
    /// Highest rate, 17.6 TB/s: a microsecond count under one second times this
    /// fits in 64 bits.
    pub const MAX_RATE: u64 = 1 << 44;

    /// A full bucket at `now` (monotonic microseconds). `rate` is in bytes per
    /// second, above [`Self::MAX_RATE`] it counts as that; `burst` is in bytes.
    /// What is larger than `burst` never passes.
    pub const fn new(rate: u64, burst: u64, now: u64) -> Self {
        let rate = if rate > Self::MAX_RATE { Self::MAX_RATE } else { rate };
        Self { rate, burst, level: burst, fraction: 0, updated: now }
    }

    /// The same bucket with at most `level` bytes in it.
    pub const fn holding(mut self, level: u64) -> Self {
        if level < self.level {
            (self.level, self.fraction) = (level, 0);
        }
        self
    }

    /// Another rate and burst from `now` on; what is in the bucket stays, up to the new burst.
    pub fn retune(&mut self, rate: u64, burst: u64, now: u64) {
        self.update(now);
        self.rate = rate.min(Self::MAX_RATE);
        self.burst = burst;
        *self = self.holding(burst);
    }

    /// Takes `bytes` if they are there, all or nothing; true if taken.
    pub fn try_take(&mut self, bytes: u64, now: u64) -> bool {
        self.update(now);
        match self.level.checked_sub(bytes) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }

    /// Puts bytes back that were taken; no more than there is room for.
    pub fn give_back(&mut self, bytes: u64, now: u64) {
        self.update(now);
        self.level = self.level.saturating_add(bytes).min(self.burst);
    }

    /// Bytes that may be taken at `now`.
    pub fn available(&self, now: u64) -> u64 {
        let mut then = *self;
        then.update(now);
        then.level
    }

    /// The first time, in microseconds, at which `bytes` may be taken if nothing
    /// is taken before; `None` if never.
    pub fn ready_at(&self, bytes: u64, now: u64) -> Option<u64> {
        let mut then = *self;
        then.update(now);
        let now = then.updated;
        let Some(missing) = bytes.checked_sub(then.level).filter(|&missing| missing > 0) else {
            return Some(now);
        };
        if bytes > self.burst || self.rate == 0 {
            return None;
        }
        // Whole seconds first, so that nothing overflows: `left` bytes, less
        // than a second's worth, come at rate / 1,000,000 a microsecond. At a
        // second exactly a remainder of the fraction may be too much.
        let (seconds, left) = (missing / self.rate, missing % self.rate);
        let needed = (left * SECOND).checked_sub(then.fraction);
        let wait = match needed {
            Some(needed) => seconds.checked_mul(SECOND)?.checked_add(needed.div_ceil(self.rate))?,
            None => {
                let early = (then.fraction - left * SECOND) / self.rate;
                seconds.checked_mul(SECOND)?.checked_sub(early)?
            }
        };
        now.checked_add(wait)
    }

    /// Adds what has come since the last time. A clock that stands still or
    /// goes back gives nothing.
    fn update(&mut self, now: u64) {
        let Some(elapsed) = now.checked_sub(self.updated) else { return };
        self.updated = now;
        // `rate` is at most 2^44 and the microseconds are less than 2^20.
        let part = self.rate * (elapsed % SECOND) + self.fraction;
        let whole = self.rate.saturating_mul(elapsed / SECOND).saturating_add(part / SECOND);
        let room = self.burst - self.level;
        if whole >= room {
            (self.level, self.fraction) = (self.burst, 0);
        } else {
            (self.level, self.fraction) = (self.level + whole, part % SECOND);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Rates, bursts and times from nothing to the end of the numbers.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..10u64, 0..3_000_000u64, (0u32..64).prop_map(|s| u64::MAX >> s), any::<u64>()]
    }

    /// The same bucket in wide numbers, from its definition: what came in since
    /// the bucket was last full, less what was taken.
    struct Wide {
        rate: u128,
        burst: u128,
        level: u128,
        updated: u64,
    }

    impl Wide {
        const UNIT: u128 = 1_000_000;

        fn update(&mut self, now: u64) {
            let elapsed = u128::from(now.saturating_sub(self.updated));
            self.updated = self.updated.max(now);
            self.level = (self.level + self.rate * elapsed).min(self.burst * Self::UNIT);
        }
    }

    proptest! {
        #[test]
        fn bucket_agrees_with_wide_numbers(
            rate in number(),
            burst in number(),
            start in number(),
            steps in vec((number(), any::<bool>(), number()), 0..40),
        ) {
            let mut bucket = TokenBucket::new(rate, burst, start);
            let rate = u128::from(rate.min(TokenBucket::MAX_RATE));
            let burst = u128::from(burst);
            let mut wide = Wide { rate, burst, level: burst * Wide::UNIT, updated: start };
            let mut now = start;
            for (step, back, bytes) in steps {
                now = if back { now.saturating_sub(step) } else { now.saturating_add(step) };
                wide.update(now);
                prop_assert_eq!(u128::from(bucket.available(now)), wide.level / Wide::UNIT);

                let ready = bucket.ready_at(bytes, now);
                let missing = (u128::from(bytes) * Wide::UNIT).saturating_sub(wide.level);
                let expected = match missing {
                    0 => Some(u128::from(wide.updated)),
                    _ if u128::from(bytes) > burst || rate == 0 => None,
                    _ => Some(u128::from(wide.updated) + missing.div_ceil(rate)),
                };
                prop_assert_eq!(ready, expected.and_then(|time| u64::try_from(time).ok()));

                let taken = bucket.try_take(bytes, now);
                prop_assert_eq!(taken, missing == 0);
                if taken {
                    wide.level -= u128::from(bytes) * Wide::UNIT;
                }
            }
        }

        #[test]
        fn asking_often_changes_nothing(rate in 1u64..5_000_000, gaps in vec(0u64..2_000, 1..300)) {
            let mut asked = TokenBucket::new(rate, u64::MAX, 0);
            asked.try_take(u64::MAX, 0);
            let seldom = asked;
            let mut now = 0;
            for gap in gaps {
                now += gap;
                asked.try_take(0, now);
            }
            prop_assert_eq!(asked.available(now), seldom.available(now));
            prop_assert_eq!(asked.available(now), rate * now / SECOND);
        }
    }

    #[test]
    fn a_rate_that_changes_counts_from_then_on() {
        let mut bucket = TokenBucket::new(1_000_000, 500, 0).holding(0);
        bucket.retune(2_000_000, 1_000, 100);
        assert_eq!((bucket.available(100), bucket.available(200)), (100, 300));
        bucket.retune(2_000_000, 50, 200);
        assert_eq!(bucket.available(1_000), 50);
    }

    #[test]
    fn a_bucket_of_one_kilobyte_a_second() {
        assert_eq!(TokenBucket::new(1_000, 250, 5).holding(3).available(1_005), 4);
        assert_eq!(TokenBucket::new(1_000, 250, 5).holding(300).available(5), 250);
        let mut bucket = TokenBucket::new(1_000, 250, 5);
        assert!(bucket.try_take(250, 5));
        assert!(!bucket.try_take(1, 5));
        assert_eq!(bucket.ready_at(1, 5), Some(1_005));
        assert!(!bucket.try_take(1, 1_004));
        assert!(bucket.try_take(1, 1_005));
        // Back in time: nothing comes, and it does not come twice.
        assert!(!bucket.try_take(1, 0));
        assert!(!bucket.try_take(1, 1_005));
        assert_eq!(bucket.available(u64::MAX), 250);
        assert_eq!(bucket.ready_at(251, 2_000), None);
    }
}
