//! The two queues of a link, and which of them goes next.

/// Which of a link's two queues a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Lane {
    /// Traffic that passes without payment.
    Free = 0,
    /// Traffic that paid; it goes first.
    Paid = 1,
}

/// Chooses between paid and free packets at one egress.
///
/// Paid packets go first, but while both wait, free ones get a guaranteed share
/// of the bytes. Both guarantees hold over any sequence of choices made while
/// both lanes waited: with `F` free and `P` paid bytes among these, a share `s`
/// per thousand, and the largest packets `f` and `p`,
///
/// - `(1000 - s) * F <= s * P`: free never gets more than its share;
/// - `s * P - (1000 - s) * F < (1000 - s) * f + s * p`: it is never further
///   behind its share than one packet of each.
///
/// A lane that waits alone is served at once; this counts for neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneScheduler {
    /// Per thousand, at most 1,000.
    free_share: u16,
    /// What the free lane is owed: thousandths of a byte.
    credit: u64,
}

impl LaneScheduler {
    /// A scheduler that guarantees `free_per_mille` thousandths of the bytes to
    /// free packets while both lanes wait. 0 leaves them only what paid packets
    /// do not use; 1,000 and more puts them first.
    pub const fn new(free_per_mille: u16) -> Self {
        let free_share = if free_per_mille > 1_000 { 1_000 } else { free_per_mille };
        Self { free_share, credit: 0 }
    }

    /// The lane whose head goes next, given the sizes in bytes of the packets
    /// at the head of each; `None` if none waits. The packet counts as sent.
    pub fn next(&mut self, paid_head: Option<usize>, free_head: Option<usize>) -> Option<Lane> {
        let (paid, free) = match (paid_head, free_head) {
            (Some(paid), Some(free)) => (paid, free),
            (Some(_), None) => return Some(Lane::Paid),
            (None, Some(_)) => return Some(Lane::Free),
            (None, None) => return None,
        };
        let share = u64::from(self.free_share);
        // A packet without bytes still takes its turn.
        let cost = (free.max(1) as u64).saturating_mul(1_000 - share);
        match self.credit.checked_sub(cost) {
            Some(left) => {
                self.credit = left;
                Some(Lane::Free)
            }
            None => {
                let earned = (paid.max(1) as u64).saturating_mul(share);
                self.credit = self.credit.saturating_add(earned);
                Some(Lane::Paid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn both_guarantees_hold(
            share in 0u16..=1_000,
            heads in vec((prop::option::weighted(0.8, 0usize..70_000), prop::option::weighted(0.8, 0usize..70_000)), 0..300),
        ) {
            let mut scheduler = LaneScheduler::new(share);
            let share = i128::from(share);
            let (mut free, mut paid) = (0i128, 0i128);
            let (mut largest_free, mut largest_paid) = (0i128, 0i128);
            // A head stays until its lane is chosen.
                        let (mut paid_head, mut free_head) = (None, None);
            for (next_paid, next_free) in heads {
                paid_head = paid_head.or(next_paid);
                free_head = free_head.or(next_free);
                let lane = scheduler.next(paid_head, free_head);
                prop_assert_eq!(lane.is_some(), paid_head.is_some() || free_head.is_some());
                if let (Some(p), Some(f)) = (paid_head, free_head) {
                    let (p, f) = (p.max(1) as i128, f.max(1) as i128);
                    (largest_paid, largest_free) = (largest_paid.max(p), largest_free.max(f));
                    match lane {
                        Some(Lane::Paid) => paid += p,
                        _ => free += f,
                    }
                    let behind = share * paid - (1_000 - share) * free;
                    prop_assert!(behind >= 0);
                    if share < 1_000 {
                        prop_assert!(behind < (1_000 - share) * largest_free + share * largest_paid);
                    } else {
                        prop_assert_eq!(paid, 0);
                    }
                }
                match lane {
                    Some(Lane::Paid) => prop_assert!(paid_head.take().is_some()),
                    Some(Lane::Free) => prop_assert!(free_head.take().is_some()),
                    None => {}
                }
            }
        }

        #[test]
        fn a_lane_alone_does_not_wait(sizes in vec(any::<usize>(), 1..50), share: u16) {
            let mut scheduler = LaneScheduler::new(share);
            for size in sizes {
                prop_assert_eq!(scheduler.next(Some(size), None), Some(Lane::Paid));
                prop_assert_eq!(scheduler.next(None, Some(size)), Some(Lane::Free));
                prop_assert!(scheduler.next(Some(size), Some(size)).is_some());
                prop_assert_eq!(scheduler.next(None, None), None);
            }
        }
    }

    #[test]
    fn a_tenth_goes_free_under_full_load() {
        let mut scheduler = LaneScheduler::new(100);
        let lanes: Vec<_> =
            (0..1_000).filter_map(|_| scheduler.next(Some(500), Some(500))).collect();
        assert_eq!(lanes.iter().filter(|lane| **lane == Lane::Free).count(), 100);
        assert_eq!(lanes[..9], [Lane::Paid; 9]);
        assert_eq!(lanes[9], Lane::Free);
    }
}
