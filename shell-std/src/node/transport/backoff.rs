//! Pauses before what failed is tried again.

use crate::jitter::jittered;
use std::time::Duration;

/// A link that lasted so long was a good one: dial again at once when it ends,
pub(super) const GOOD_LINK: Duration = Duration::from_secs(1);
/// but only once, unless it lasted for so long: where more dial a node than it has places for, they
/// would take the last place from each other for ever.
const LASTING_LINK: Duration = Duration::from_secs(60);

/// Pauses between attempts: the first, and the longest that doubling leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pauses: Pauses,
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new(pauses: Pauses) -> Self {
        Self { pauses, pause: pauses.first }
    }

    /// The pause after an attempt whose link lasted so long, if there was one; none after
    /// a good link.
    pub(crate) fn after(&mut self, link: Option<Duration>) -> Option<Duration> {
        let lasted = link.unwrap_or_default();
        if lasted >= LASTING_LINK {
            self.pause = self.pauses.first;
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(self.pauses.longest);
        let at_once = lasted >= GOOD_LINK && pause == self.pauses.first;
        (!at_once).then(|| jittered(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_good_link() {
        let mut backoff = Backoff::new(Pauses { first: PAUSE, longest: PAUSE * 3 });
        let mut is_about = |link, expected: Duration| {
            let pause = backoff.after(link).unwrap();
            assert!((expected.mul_f64(0.75)..=expected.mul_f64(1.25)).contains(&pause));
        };
        is_about(None, PAUSE);
        is_about(Some(GOOD_LINK / 2), PAUSE * 2);
        is_about(None, PAUSE * 3);
        is_about(None, PAUSE * 3);
        assert_eq!(backoff.after(Some(LASTING_LINK)), None);
        assert!(backoff.after(None).unwrap() <= PAUSE.mul_f64(1.25));
    }

    #[test]
    fn who_loses_a_place_again_and_again_comes_ever_less_often() {
        let mut backoff = Backoff::new(Pauses { first: PAUSE, longest: PAUSE * 300 });
        let pauses: Vec<_> = (0..12).map(|_| backoff.after(Some(GOOD_LINK * 2))).collect();
        assert_eq!(pauses[0], None, "the first time at once");
        assert!(pauses[1..].iter().all(|pause| pause.is_some()));
        assert!(pauses[11].unwrap() >= (PAUSE * 300).mul_f64(0.75));
        assert_eq!(backoff.after(Some(LASTING_LINK)), None);
        assert_eq!(backoff.after(Some(GOOD_LINK)), None);
    }
}
