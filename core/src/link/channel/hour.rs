//! Air time of the last hour, over interruptions of the modem. What a channel may spend over each five
//! minutes ([`access`](super::access)) could be up to a twelfth more in an hour.

use crate::time::{Micros, SECOND};

/// Parts of an hour that are counted together.
const PARTS: usize = 60;
const PART: Micros = 60 * SECOND;
const HOUR: Micros = PART * PARTS as Micros;

/// Air time of the last hour, to the minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    parts: [Micros; PARTS],
    /// The part of time that the last one is.
    last: u64,
}

impl Default for Hour {
    fn default() -> Self {
        Self { parts: [0; PARTS], last: 0 }
    }
}

impl Hour {
    fn advance(&mut self, now: Micros) {
        let part = now / PART;
        // What is older than an hour is forgotten.
        for gone in 1..=part.saturating_sub(self.last).min(PARTS as u64) {
            let place = (self.last.saturating_add(gone) % PARTS as u64) as usize;
            self.parts.iter_mut().skip(place).take(1).for_each(|part| *part = 0);
        }
        self.last = self.last.max(part);
    }

    /// Counts a frame that begins now.
    pub fn add(&mut self, now: Micros, airtime: Micros) {
        self.advance(now);
        let place = (self.last % PARTS as u64) as usize;
        let part = self.parts.iter_mut().skip(place).take(1);
        part.for_each(|part| *part = part.saturating_add(airtime));
    }

    /// Air time of the last hour.
    pub fn used(&mut self, now: Micros) -> Micros {
        self.advance(now);
        self.parts.iter().sum()
    }

    /// The air time of each minute of the last hour in which something was sent, and how many minutes ago
    /// that was, the latest first: what a node has to keep over a restart.
    pub fn minutes(&mut self, now: Micros) -> impl Iterator<Item = (u64, Micros)> {
        self.advance(now);
        let last = (self.last % PARTS as u64) as usize;
        let (newer, older) = self.parts.split_at(last + 1);
        let latest_first = newer.iter().rev().chain(older.iter().rev());
        (0..).zip(latest_first.copied()).filter(|(_, airtime)| *airtime > 0)
    }

    /// Whether a frame more would be beyond this share of an hour, in thousandths.
    pub fn is_full(&mut self, now: Micros, airtime: Micros, duty_permille: u16) -> bool {
        let most = HOUR / 1_000 * u64::from(duty_permille);
        duty_permille < 1_000 && self.used(now).saturating_add(airtime) > most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn an_hour_holds_its_share_and_forgets() {
        let mut hour = Hour::default();
        let now = 5 * SECOND;
        assert!(!hour.is_full(now, 36 * SECOND, 10) && hour.is_full(now, 36 * SECOND + 1, 10));
        hour.add(now, 35 * SECOND);
        hour.add(now + 30 * PART, SECOND / 2);
        assert_eq!(hour.used(now + 30 * PART), 35 * SECOND + SECOND / 2);
        assert!(hour.is_full(now + 30 * PART, SECOND, 10));
        assert!(!hour.is_full(now + 30 * PART, SECOND, 1_000), "there is no limit");
        let minutes: Vec<_> = hour.minutes(now + 40 * PART).collect();
        assert_eq!(minutes, [(10, SECOND / 2), (40, 35 * SECOND)]);
        assert_eq!(hour.used(now + HOUR), SECOND / 2);
        assert_eq!(hour.used(now + 2 * HOUR), 0);
    }

    proptest! {
        #[test]
        fn it_is_the_sum_of_the_last_hour(steps in proptest::collection::vec((0u64..20 * PART, 0u64..SECOND), 1..60)) {
            let (mut hour, mut now, mut all) = (Hour::default(), 0, Vec::new());
            for (step, airtime) in steps {
                now += step;
                hour.add(now, airtime);
                all.push((now, airtime));
                let since = |parts: u64| -> u64 {
                    all.iter().filter(|(at, _)| at / PART + parts > now / PART).map(|(_, t)| t).sum()
                };
                prop_assert_eq!(hour.used(now), since(PARTS as u64));
            }
        }
    }
}
