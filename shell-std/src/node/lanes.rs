//! Which lane of a link sends next: paid traffic first, with a guaranteed share
//! for free traffic.

use blvm_mesh_core::link::fragment::Lane;

/// While paid traffic waits, free traffic gets one byte in this many.
const FREE_PART: i64 = 4;
/// How far free traffic may save up its share, in bytes.
const MOST_CREDIT: i64 = 256 * 1024;

/// Credits free traffic with its share of what is sent while both lanes wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lanes {
    /// Bytes that free traffic may send before paid traffic; below zero after a
    /// packet that was larger than its credit.
    credit: i64,
}

impl Lanes {
    /// The lane to serve, given which have something to send.
    pub(crate) fn choose(&self, paid: bool, free: bool) -> Option<Lane> {
        match (paid, free) {
            (true, true) if self.credit > 0 => Some(Lane::Free),
            (true, _) => Some(Lane::Paid),
            (false, true) => Some(Lane::Free),
            (false, false) => None,
        }
    }

    /// Counts a packet that was sent; `contended` if the other lane waited too.
    pub(crate) fn sent(&mut self, lane: Lane, len: usize, contended: bool) {
        if !contended {
            return;
        }
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.credit = match lane {
            Lane::Paid => self.credit.saturating_add(len / (FREE_PART - 1)).min(MOST_CREDIT),
            Lane::Free => self.credit.saturating_sub(len),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_traffic_gets_its_share_and_no_more_while_paid_traffic_waits() {
        let (mut lanes, mut sent) = (Lanes::default(), [0usize; 2]);
        // Alone, the free lane runs up nothing that it would have to pay back.
        for _ in 0..1000 {
            assert_eq!(lanes.choose(false, true), Some(Lane::Free));
            lanes.sent(Lane::Free, 1400, false);
        }
        for _ in 0..10_000 {
            let lane = lanes.choose(true, true).unwrap();
            let len = if lane == Lane::Free { 9000 } else { 1400 };
            sent[lane as usize] += len;
            lanes.sent(lane, len, true);
        }
        let share = sent[Lane::Free as usize] as f64 / sent.iter().sum::<usize>() as f64;
        assert!((0.24..0.26).contains(&share), "{share}");
        assert_eq!(lanes.choose(true, false), Some(Lane::Paid));
        assert_eq!(lanes.choose(false, false), None);
    }
}
