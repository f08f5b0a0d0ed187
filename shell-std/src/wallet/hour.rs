//! What was spent in the last hour: never more than a limit.

use std::collections::VecDeque;

/// The time over which spending is limited, in seconds.
pub(crate) const HOUR_S: u64 = 3600;

/// Spending in the last hour by a clock that never goes back. Amounts are in millisatoshi, times
/// in seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Hour {
    /// Number, time and amount, the oldest first.
    spent: VecDeque<(u64, u64, u64)>,
    next: u64,
}

impl Hour {
    /// With what was spent before.
    pub(super) fn with(spent: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut hour = Self::default();
        for (at, msat) in spent {
            hour.push(at, msat);
        }
        hour
    }

    fn push(&mut self, at: u64, msat: u64) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.spent.push_back((self.next, at, msat));
        self.next
    }

    /// What was spent within the hour before `now`.
    pub(super) fn sum(&mut self, now: u64) -> u64 {
        while self.spent.front().is_some_and(|(_, at, _)| at.saturating_add(HOUR_S) <= now) {
            self.spent.pop_front();
        }
        self.spent.iter().fold(0, |sum, (_, _, msat)| sum.saturating_add(*msat))
    }

    /// Spends so much, unless that would exceed the limit: the number of it, or what is spent
    /// already.
    pub(super) fn spend(&mut self, now: u64, msat: u64, limit: u64) -> Result<u64, u64> {
        let spent = self.sum(now);
        match spent.checked_add(msat).is_some_and(|sum| sum <= limit) {
            true => Ok(self.push(now, msat)),
            false => Err(spent),
        }
    }

    /// It was another amount; 0: nothing.
    pub(super) fn correct(&mut self, number: u64, msat: u64) {
        match msat {
            0 => self.spent.retain(|spent| spent.0 != number),
            _ => {
                let mut spent = self.spent.iter_mut();
                if let Some(spent) = spent.find(|spent| spent.0 == number) {
                    spent.2 = msat;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hour_has_more_than_the_limit() {
        let mut hour = Hour::with([(100, 300), (200, 300)]);
        let first = hour.spend(300, 400, 1_000).unwrap();
        assert_eq!(hour.spend(300, 1, 1_000), Err(1_000));
        assert_eq!(hour.spend(100 + HOUR_S - 1, 1, 1_000), Err(1_000));
        // The oldest is an hour ago, and not more than that is free again.
        assert_eq!(hour.spend(100 + HOUR_S, 301, 1_000), Err(700));
        hour.spend(100 + HOUR_S, 300, 1_000).unwrap();
        // What was not paid, or cost less, may be spent.
        hour.correct(first, 150);
        assert_eq!(hour.sum(100 + HOUR_S), 750);
        hour.correct(first, 0);
        assert_eq!(hour.sum(100 + HOUR_S), 600);
        hour.correct(first, 500);
        assert_eq!(hour.sum(100 + HOUR_S), 600);
        assert_eq!(hour.spend(100 + HOUR_S, u64::MAX, u64::MAX), Err(600));
        assert_eq!(hour.sum(u64::MAX), 0);
        assert_eq!(hour.spend(0, 1, 0), Err(0));
    }
}
