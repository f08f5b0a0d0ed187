//! How long something takes, counted by how long it took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds: from what a signature takes to what a disk does
/// that fails.
pub const BOUNDS_US: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];

/// Counts of spans of time. Several threads may note some; nobody waits for another.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Those up to each bound and over the one before; at last those over all.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// What has been counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// How many took up to each bound of [`BOUNDS_US`], those of the bounds before included.
    pub up_to: [u64; BOUNDS_US.len()],
    /// How many there were.
    pub count: u64,
    /// How long all took, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts something that took so long.
    pub fn note(&self, span: Duration) {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < span);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(span, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn observed(&self) -> Observed {
        let mut observed = Observed::default();
        for (at, count) in self.counts.iter().enumerate() {
            observed.count = observed.count.saturating_add(count.load(Ordering::Relaxed));
            if let Some(up_to) = observed.up_to.get_mut(at) {
                *up_to = observed.count;
            }
        }
        observed.sum_us = self.sum_us.load(Ordering::Relaxed);
        observed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_is_in_its_bucket_and_all_after_it() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 5_000_000, 5_000_001, u64::MAX / 4] {
            histogram.note(Duration::from_micros(micros));
        }
        let Observed { up_to, count, sum_us } = histogram.observed();
        assert_eq!((up_to[0], up_to[1], up_to[10], up_to[11], count), (2, 3, 3, 4, 6));
        assert_eq!(sum_us, 10_000_102 + u64::MAX / 4);
    }
}
