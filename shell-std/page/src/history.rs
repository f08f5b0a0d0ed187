//! What was carried and earned over time: a second each for five minutes, a minute each for a day.

use serde::{Serialize, Serializer};
use std::collections::VecDeque;

/// Samples of a second that are kept.
const SECONDS: usize = 300;
/// Samples of a minute that are kept.
const MINUTES: usize = 1440;
/// Samples of a second that make one of a minute.
const IN_A_MINUTE: u32 = 60;

/// What the source has counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// The source's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Bytes of packets received. A world seen from outside has other counts in these three, and
    /// says which ([`About::traffic`](crate::About::traffic)).
    pub received: u64,
    /// Bytes of packets sent.
    pub sent: u64,
    /// Bytes of packets relayed.
    pub relayed: u64,
    /// Packets refused.
    pub refused: u64,
    /// What was earned, in millisatoshi.
    pub earned_msat: u64,
    /// What was paid, in millisatoshi.
    pub paid_msat: u64,
}

/// What there was between two looks at the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sample {
    /// When it ends, in milliseconds since 1970.
    at_ms: u64,
    /// How long it is, in milliseconds.
    span_ms: u64,
    /// What was counted meanwhile, in the order of [`Totals`].
    counts: [u64; 6],
}

impl Sample {
    fn between(before: &Totals, after: &Totals) -> Self {
        let of =
            |t: &Totals| [t.received, t.sent, t.relayed, t.refused, t.earned_msat, t.paid_msat];
        let mut counts = of(after);
        for (count, before) in counts.iter_mut().zip(of(before)) {
            *count = count.saturating_sub(before);
        }
        let span_ms = after.at_ms.saturating_sub(before.at_ms);
        Self { at_ms: after.at_ms, span_ms, counts }
    }

    fn add(&mut self, other: &Self) {
        self.at_ms = other.at_ms;
        self.span_ms = self.span_ms.saturating_add(other.span_ms);
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }
}

/// As short as it can be: a page is sent up to 1,740 of them.
impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [a, b, c, d, e, f] = self.counts;
        [self.at_ms, self.span_ms, a, b, c, d, e, f].serialize(serializer)
    }
}

/// The last samples of one length.
#[derive(Debug)]
struct Ring {
    most: usize,
    /// How many there were so far.
    number: u64,
    kept: VecDeque<Sample>,
}

impl Ring {
    fn new(most: usize) -> Self {
        Self { most, number: 0, kept: VecDeque::new() }
    }

    fn push(&mut self, sample: Sample) {
        if self.kept.len() >= self.most {
            self.kept.pop_front();
        }
        self.kept.push_back(sample);
        self.number = self.number.saturating_add(1);
    }

    fn since(&self, number: u64) -> Vec<Sample> {
        let new = usize::try_from(self.number.saturating_sub(number)).unwrap_or(usize::MAX);
        self.kept.iter().skip(self.kept.len().saturating_sub(new)).copied().collect()
    }
}

/// Samples since some moment, as they are sent.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Samples {
    seconds: Vec<Sample>,
    minutes: Vec<Sample>,
    /// How many of each there were in all, to go on from.
    #[serde(skip)]
    pub(crate) next: (u64, u64),
}

impl Samples {
    pub(crate) fn is_empty(&self) -> bool {
        self.seconds.is_empty() && self.minutes.is_empty()
    }
}

/// What was carried and earned in the last day.
#[derive(Debug)]
pub struct History {
    before: Option<Totals>,
    seconds: Ring,
    minutes: Ring,
    minute: (u32, Sample),
}

impl Default for History {
    fn default() -> Self {
        Self {
            before: None,
            seconds: Ring::new(SECONDS),
            minutes: Ring::new(MINUTES),
            minute: (0, Sample::default()),
        }
    }
}

impl History {
    /// Takes in what the source has counted by now; to be called once a second.
    pub fn note(&mut self, totals: Totals) {
        let Some(before) = self.before.replace(totals) else { return };
        let sample = Sample::between(&before, &totals);
        self.seconds.push(sample);
        let (count, minute) = &mut self.minute;
        minute.add(&sample);
        *count += 1;
        if *count >= IN_A_MINUTE {
            self.minutes.push(std::mem::take(minute));
            *count = 0;
        }
    }

    /// The samples after so many of a second and of a minute.
    pub(crate) fn since(&self, (seconds, minutes): (u64, u64)) -> Samples {
        Samples {
            seconds: self.seconds.since(seconds),
            minutes: self.minutes.since(minutes),
            next: (self.seconds.number, self.minutes.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Totals {
        let (received, earned_msat) = (100 * second, 3 * second);
        Totals { at_ms: 1000 * second, received, earned_msat, ..Totals::default() }
    }

    #[test]
    fn seconds_and_minutes_are_kept_for_their_time_and_no_longer() {
        let mut history = History::default();
        assert!(history.since((0, 0)).is_empty());
        for second in 0..=86_400 + 600 {
            history.note(at(second));
        }
        let all = history.since((0, 0));
        assert_eq!((all.seconds.len(), all.minutes.len()), (SECONDS, MINUTES));
        let last = Sample { at_ms: 87_000_000, span_ms: 1000, counts: [100, 0, 0, 0, 3, 0] };
        assert_eq!(all.seconds.last(), Some(&last));
        let minute = Sample { span_ms: 60_000, counts: [6000, 0, 0, 0, 180, 0], ..last };
        assert_eq!(all.minutes.last(), Some(&minute));
        assert_eq!(all.next, (87_000, 1_450));
        history.note(at(87_001));
        let more = history.since(all.next);
        assert_eq!((more.seconds.len(), more.minutes.len()), (1, 0));
        assert_eq!(
            serde_json::to_string(&more).unwrap(),
            "{\"seconds\":[[87001000,1000,100,0,0,0,3,0]],\"minutes\":[]}"
        );
    }

    #[test]
    fn a_clock_that_goes_back_and_a_count_that_falls_are_taken_for_nothing() {
        let mut history = History::default();
        history.note(at(10));
        history.note(at(5));
        let all = history.since((0, 0));
        assert_eq!(all.seconds, [Sample { at_ms: 5000, ..Sample::default() }]);
    }
}
