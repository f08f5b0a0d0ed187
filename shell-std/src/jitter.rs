//! Pauses that differ, so that many who wait for the same do not come at the same moment.

use std::time::Duration;

/// Between three quarters and five quarters of the pause, so that neighbours that
/// lost each other do not meet again and again.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random bytes the pause is merely shorter.
    let _ = getrandom::fill(&mut random);
    let part = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    pause.mul_f64(0.75 + 0.5 * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);

    #[test]
    fn jitter_stays_in_its_bounds() {
        let pauses: Vec<_> = (0..1000).map(|_| jittered(PAUSE)).collect();
        let (low, high) = (PAUSE.mul_f64(0.75), PAUSE.mul_f64(1.25));
        assert!(pauses.iter().all(|p| (low..=high).contains(p)));
        assert!(pauses.iter().max() > pauses.iter().min());
    }
}
