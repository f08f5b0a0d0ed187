//! What was spent lately, and whether more may be.

use super::{Limits, SpentAmount};
use blvm_mesh_core::id::HopId;
use std::collections::{HashSet, VecDeque};

/// An hour, in seconds.
const HOUR_S: u64 = 3600;
/// The longest time over which spending is limited, in seconds.
pub(crate) const DAY_S: u64 = 24 * HOUR_S;

/// A limit that leaves no room. Amounts in millisatoshi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    /// The key of the configuration that sets it.
    pub(super) key: &'static str,
    pub(super) limit_msat: u64,
    /// What is spent of it already.
    pub(super) spent_msat: u64,
}

/// Spending in the last day by a clock that never goes back, in seconds.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// The oldest first.
    spent: VecDeque<SpentAmount>,
    /// Payments that are being made by this process.
    paying: HashSet<[u8; 32]>,
}

impl Budget {
    /// With what was spent before, the oldest first.
    pub(super) fn with(spent: Vec<SpentAmount>) -> Self {
        Self { spent: spent.into(), paying: HashSet::new() }
    }

    /// What was spent within so many seconds before `now`, to this node or to all.
    pub(super) fn sum(&self, now: u64, seconds: u64, node: Option<HopId>) -> u64 {
        let lately = self.spent.iter().filter(|spent| spent.at.saturating_add(seconds) > now);
        let of_node = lately.filter(|spent| node.is_none_or(|node| spent.node.hop() == node));
        of_node.fold(0, |sum, spent| sum.saturating_add(spent.msat))
    }

    /// Spends so much, unless that would exceed a limit.
    pub(super) fn spend(&mut self, limits: &Limits, amount: SpentAmount) -> Result<(), Over> {
        let SpentAmount { payment_hash, at, msat, node } = amount;
        while self.spent.front().is_some_and(|spent| spent.at.saturating_add(DAY_S) <= at) {
            self.spent.pop_front();
        }
        self.fits(limits, at, &[(node.hop(), msat)])?;
        self.spent.push_back(amount);
        self.paying.insert(payment_hash);
        Ok(())
    }

    /// Whether so much may be spent at each of these nodes, one payment each.
    pub(super) fn fits(
        &self,
        limits: &Limits,
        at: u64,
        amounts: &[(HopId, u64)],
    ) -> Result<(), Over> {
        let (mut hour, mut day) = self.lately(at);
        for (place, (hop, msat)) in amounts.iter().enumerate() {
            let before = amounts.iter().take(place).filter(|(other, _)| other == hop);
            let to_it = before
                .fold(self.sum(at, DAY_S, Some(*hop)), |sum, (_, msat)| sum.saturating_add(*msat));
            let limits = [
                ("budget.max_msat_per_payment", limits.max_msat_per_payment, 0u64),
                ("budget.max_msat_per_hour", limits.max_msat_per_hour, hour),
                ("budget.max_msat_per_day", limits.max_msat_per_day, day),
                ("budget.max_msat_per_destination_day", limits.max_msat_per_destination_day, to_it),
            ];
            for (key, limit_msat, spent_msat) in limits {
                if spent_msat.checked_add(*msat).is_none_or(|sum| sum > limit_msat) {
                    return Err(Over { key, limit_msat, spent_msat });
                }
            }
            (hour, day) = (hour.saturating_add(*msat), day.saturating_add(*msat));
        }
        Ok(())
    }

    /// What was spent now is not to be: one with the same hash from before stays.
    pub(super) fn take_back(&mut self, payment_hash: &[u8; 32], at: u64) {
        let is_it = |spent: &SpentAmount| spent.payment_hash == *payment_hash && spent.at == at;
        if let Some(place) = self.spent.iter().rposition(is_it) {
            self.spent.remove(place);
        }
    }

    /// It was another amount; 0: nothing.
    pub(super) fn correct(&mut self, payment_hash: &[u8; 32], msat: u64) {
        match msat {
            0 => self.spent.retain(|spent| spent.payment_hash != *payment_hash),
            _ => {
                let mut spent = self.spent.iter_mut();
                if let Some(spent) = spent.find(|spent| spent.payment_hash == *payment_hash) {
                    spent.msat = msat;
                }
            }
        }
    }

    /// Paying has come to an end, whatever it is.
    pub(super) fn ended(&mut self, payment_hash: &[u8; 32]) {
        self.paying.remove(payment_hash);
    }

    /// Whether this process is paying it.
    pub(super) fn is_paying(&self, payment_hash: &[u8; 32]) -> bool {
        self.paying.contains(payment_hash)
    }

    /// What was spent in the last hour and in the last day.
    pub(super) fn lately(&self, now: u64) -> (u64, u64) {
        (self.sum(now, HOUR_S, None), self.sum(now, DAY_S, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;

    const LIMITS: Limits = Limits {
        max_msat_per_payment: 500,
        max_msat_per_hour: 1_000,
        max_msat_per_day: 1_500,
        max_msat_per_destination_day: 700,
        max_fee_ppm: 0,
    };

    fn amount(n: u8, node: u8, at: u64, msat: u64) -> SpentAmount {
        SpentAmount { payment_hash: [n; 32], node: NodeId([node; 32]), at, msat }
    }

    fn over(budget: &mut Budget, amount: SpentAmount) -> (&'static str, u64) {
        let over = budget.spend(&LIMITS, amount).unwrap_err();
        (over.key, over.spent_msat)
    }

    #[test]
    fn no_payment_hour_day_or_destination_has_more_than_its_limit() {
        let mut budget = Budget::with(vec![amount(1, 1, 100, 300), amount(2, 2, 200, 300)]);
        assert_eq!(over(&mut budget, amount(3, 3, 300, 501)).0, "budget.max_msat_per_payment");
        budget.spend(&LIMITS, amount(3, 1, 300, 400)).unwrap();
        let hour = ("budget.max_msat_per_hour", 1_000);
        assert_eq!(over(&mut budget, amount(4, 2, 300, 1)), hour);
        assert_eq!(over(&mut budget, amount(4, 2, 99 + HOUR_S, 1)), hour);
        // The oldest is an hour ago, and not more than that is free again; to node 1 it is not.
        let node = ("budget.max_msat_per_destination_day", 700);
        assert_eq!(over(&mut budget, amount(4, 1, 100 + HOUR_S, 1)), node);
        assert_eq!(over(&mut budget, amount(4, 2, 100 + HOUR_S, 301)).1, 700);
        budget.spend(&LIMITS, amount(4, 2, 100 + HOUR_S, 300)).unwrap();
        let later = 300 + HOUR_S;
        budget.spend(&LIMITS, amount(5, 3, later, 200)).unwrap();
        assert_eq!(over(&mut budget, amount(6, 3, later, 1)), ("budget.max_msat_per_day", 1_500));
        // What was not paid, or cost less, may be spent.
        budget.correct(&[4; 32], 150);
        assert_eq!(budget.sum(later, DAY_S, Some(HopId([2; 8]))), 450);
        budget.correct(&[4; 32], 0);
        assert_eq!(budget.lately(later), (200, 1_200));
        budget.correct(&[4; 32], 500);
        assert_eq!(budget.lately(later), (200, 1_200));
        budget.spend(&LIMITS, amount(7, 1, 300 + DAY_S, 500)).unwrap();
        assert_eq!(budget.spent.len(), 2, "the others are a day old");
        assert!(budget.spend(&LIMITS, amount(8, 2, u64::MAX - 1, u64::MAX)).is_err());
    }

    #[test]
    fn payments_of_one_route_must_fit_together() {
        let budget = Budget::with(vec![amount(1, 1, 0, 100)]);
        let fits = |amounts: &[(u8, u64)]| {
            let amounts: Vec<_> = amounts.iter().map(|(n, msat)| (HopId([*n; 8]), *msat)).collect();
            budget.fits(&LIMITS, 0, &amounts).map_err(|over| (over.key, over.spent_msat))
        };
        assert_eq!(fits(&[(2, 400), (3, 500)]), Ok(()));
        assert_eq!(fits(&[(2, 400), (3, 501)]), Err(("budget.max_msat_per_payment", 0)));
        assert_eq!(fits(&[(2, 500), (3, 401)]), Err(("budget.max_msat_per_hour", 600)));
        let node = Err(("budget.max_msat_per_destination_day", 600));
        assert_eq!(fits(&[(1, 500), (1, 200)]), node);
        assert_eq!(budget.lately(0), (100, 100), "nothing is spent");
    }

    #[test]
    fn what_this_process_pays_is_known_until_that_ends() {
        let mut budget = Budget::default();
        budget.spend(&LIMITS, amount(1, 1, 0, 5)).unwrap();
        assert!(budget.is_paying(&[1; 32]) && !budget.is_paying(&[2; 32]));
        budget.ended(&[1; 32]);
        assert!(!budget.is_paying(&[1; 32]));
        assert_eq!(budget.lately(0), (5, 5), "and it is spent");
    }
}
