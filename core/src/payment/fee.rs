//! What a relay charges, and how one payment is divided among its parties.
//!
//! 60 % to the destination, 30 % to the intermediates in equal parts, 10 % to
//! the source; with no intermediate their 30 % returns to the source. Each
//! share is rounded down, and what is left over is given out one millisatoshi
//! each to the parties that lost most by rounding (largest remainder). Among
//! equal remainders the earlier on the way takes precedence: the source, then
//! the intermediates in travel order, then the destination.
//!
//! Largest remainder is not monotone: one more millisatoshi in the amount can
//! take one away from a party. So [`amount_for`] looks for the smallest amount
//! and does not bisect for it, and an amount above it need not suffice: check
//! with [`share`] what is actually paid.

use crate::config::MAX_HOPS;
use heapless::Vec;

pub use crate::tariff::Tariff;

/// Who is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Party {
    /// The sender, who also pays.
    Source,
    /// An intermediate node by its place on the route: 0 is next to the source.
    Intermediate(u8),
    /// The receiver.
    Destination,
}

/// All shares of one payment, in millisatoshi. They sum exactly to the amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeDistribution {
    /// Share of the source.
    pub source: u64,
    /// Share of each intermediate, in travel order.
    pub intermediates: Vec<u64, MAX_HOPS>,
    /// Share of the destination.
    pub destination: u64,
}

impl FeeDistribution {
    /// Splits `amount_msat` over a route with this many intermediates. `None`
    /// if there are more than [`MAX_HOPS`].
    pub fn new(amount_msat: u64, intermediates: usize) -> Option<Self> {
        let split = Split::new(amount_msat, intermediates)?;
        Some(Self {
            source: split.share(Party::Source),
            intermediates: (0..split.n).map(|i| split.intermediate(i)).collect(),
            destination: split.share(Party::Destination),
        })
    }

    /// The share of one party; 0 for an intermediate that is not on the route.
    pub fn get(&self, party: Party) -> u64 {
        match party {
            Party::Source => self.source,
            Party::Intermediate(i) => {
                self.intermediates.get(usize::from(i)).copied().unwrap_or_default()
            }
            Party::Destination => self.destination,
        }
    }
}

/// The share in millisatoshi of one party in `amount_msat` over a route with
/// this many intermediates, in constant time. 0 for an intermediate that is not
/// on the route, and for everybody on a route of more than [`MAX_HOPS`].
pub fn share(amount_msat: u64, intermediates: usize, party: Party) -> u64 {
    Split::new(amount_msat, intermediates).map_or(0, |s| s.share(party))
}

/// The part of one of `parties` in an amount that is divided equally, in millisatoshi. The first
/// ones have one more each where it is not a multiple; 0 for one that is none of them.
pub fn equal_part(amount_msat: u64, parties: usize, place: usize) -> u64 {
    let (n, place) = (parties as u64, place as u64);
    let Some((part, rest)) = amount_msat.checked_div(n).zip(amount_msat.checked_rem(n)) else {
        return 0;
    };
    if place < n { part + u64::from(place < rest) } else { 0 }
}

/// The smallest amount in millisatoshi that gives every intermediate its price
/// (in travel order, one entry each) and the destination its price. `None` if
/// no amount below 2^64 does, or there are more than [`MAX_HOPS`] intermediates.
pub fn amount_for(hop_prices: &[u64], destination_price: u64) -> Option<u64> {
    let n = hop_prices.len();
    if n > MAX_HOPS {
        return None;
    }
    // Equal remainders: an earlier intermediate never has less than a later one,
    // so the last one with the greatest price decides for all of them.
    let hop = hop_prices.iter().enumerate().max_by_key(|(i, price)| (**price, *i));
    let (mut low, mut high) = bounds(destination_price, 5)?;
    if let Some((_, price)) = hop {
        let (l, h) = bounds(*price, 10 * n as u64)?;
        (low, high) = (low.max(l), high.max(h));
    }
    // At most one part in the smallest weight wide: 10 * MAX_HOPS / 3 amounts.
    (low..=high).find(|amount| {
        Split::new(*amount, n).is_some_and(|s| {
            s.share(Party::Destination) >= destination_price
                && hop.is_none_or(|(i, price)| s.intermediate(i as u64) >= *price)
        })
    })
}

/// For a party that gets three parts of `parts`: from which amount its share
/// rounded up reaches the price, and from which its share rounded down does
/// (at most `u64::MAX`). `None` if no amount below 2^64 reaches it.
fn bounds(price: u64, parts: u64) -> Option<(u64, u64)> {
    let Some(less) = price.checked_sub(1) else {
        return Some((0, 0));
    };
    // Thirds first: `price * parts` need not fit.
    let low = (less / 3).checked_mul(parts)?.checked_add(less % 3 * parts / 3)?.checked_add(1)?;
    let high = (price / 3)
        .checked_mul(parts)
        .and_then(|whole| whole.checked_add((price % 3 * parts).div_ceil(3)));
    Some((low, high.unwrap_or(u64::MAX)))
}

/// One amount over one route: weights, remainders, and what is left to give out.
struct Split {
    n: u64,
    /// Parts of which the whole amount has.
    parts: u64,
    whole: u64,
    rest: u64,
    source: u64,
    destination: u64,
    /// Weight of each intermediate; 0 if there is none.
    each: u64,
    /// Millisatoshi left after rounding every share down.
    left: u64,
}

impl Split {
    fn new(amount: u64, intermediates: usize) -> Option<Self> {
        if intermediates > MAX_HOPS {
            return None;
        }
        let n = intermediates as u64;
        let (parts, source, each, destination) =
            if n == 0 { (10, 4, 0, 6) } else { (10 * n, n, 3, 6 * n) };
        let mut split = Self {
            n,
            parts,
            whole: amount / parts,
            rest: amount % parts,
            source,
            destination,
            each,
            left: 0,
        };
        let lost = split.lost(source) + n * split.lost(each) + split.lost(destination);
        split.left = lost / parts;
        Some(split)
    }

    /// Remainder of a share of this weight, in parts of a millisatoshi.
    fn lost(&self, weight: u64) -> u64 {
        self.rest * weight % self.parts
    }

    /// The share of this weight, rounded down, and one more if the party stands
    /// early enough in the queue for what is left. Cannot overflow: the weights
    /// of all parties sum to `parts`.
    fn at(&self, weight: u64, place: u64) -> u64 {
        self.whole * weight + self.rest * weight / self.parts + u64::from(place < self.left)
    }

    fn share(&self, party: Party) -> u64 {
        let (source, each, destination) =
            (self.lost(self.source), self.lost(self.each), self.lost(self.destination));
        match party {
            Party::Source => {
                let before = self.n * u64::from(each > source) + u64::from(destination > source);
                self.at(self.source, before)
            }
            Party::Intermediate(i) => self.intermediate(u64::from(i)),
            Party::Destination => {
                let before =
                    u64::from(source >= destination) + self.n * u64::from(each >= destination);
                self.at(self.destination, before)
            }
        }
    }

    fn intermediate(&self, i: u64) -> u64 {
        if i >= self.n {
            return 0;
        }
        let each = self.lost(self.each);
        let before = u64::from(self.lost(self.source) >= each)
            + u64::from(self.lost(self.destination) > each);
        self.at(self.each, before + i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    /// Source, intermediates, destination by the textbook: exact fractions in
    /// 128 bits, a stable sort by remainder.
    fn textbook(amount: u64, n: usize) -> StdVec<u64> {
        let n_wide = n as u128;
        let (parts, mut weights) = match n {
            0 => (10, std::vec![4]),
            _ => (10 * n_wide, std::vec![n_wide]),
        };
        weights.extend((0..n).map(|_| 3));
        weights.push(parts * 6 / 10);
        assert_eq!(weights.iter().sum::<u128>(), parts);
        let exact: StdVec<u128> = weights.iter().map(|w| u128::from(amount) * w).collect();
        let mut shares: StdVec<u64> = exact.iter().map(|x| (x / parts) as u64).collect();
        let left = u128::from(amount) - shares.iter().map(|s| u128::from(*s)).sum::<u128>();
        let mut order: StdVec<usize> = (0..shares.len()).collect();
        order.sort_by_key(|i| core::cmp::Reverse(exact[*i] % parts));
        for i in order.into_iter().take(left as usize) {
            shares[i] += 1;
        }
        shares
    }

    fn flat(d: &FeeDistribution) -> StdVec<u64> {
        core::iter::once(d.source).chain(d.intermediates.clone()).chain([d.destination]).collect()
    }

    fn check(amount: u64, n: usize) {
        let d = FeeDistribution::new(amount, n).unwrap();
        let shares = flat(&d);
        assert_eq!(shares, textbook(amount, n), "{amount} over {n}");
        assert_eq!(shares.iter().try_fold(0u64, |a, b| a.checked_add(*b)), Some(amount));
        let parties = core::iter::once(Party::Source)
            .chain((0..n as u8).map(Party::Intermediate))
            .chain([Party::Destination]);
        for (party, expected) in parties.zip(shares) {
            assert_eq!(share(amount, n, party), expected);
            assert_eq!(d.get(party), expected);
        }
        assert_eq!(share(amount, n, Party::Intermediate(n as u8)), 0);
    }

    #[test]
    fn split_matches_the_textbook_for_small_and_huge_amounts() {
        for n in 0..=MAX_HOPS {
            for amount in (0..2_000).chain(u64::MAX - 400..=u64::MAX) {
                check(amount, n);
            }
        }
    }

    #[test]
    fn split_by_hand() {
        let three = FeeDistribution::new(10_000, 3).unwrap();
        assert_eq!(flat(&three), [1_000, 1_000, 1_000, 1_000, 6_000]);
        assert_eq!(flat(&FeeDistribution::new(10_000, 0).unwrap()), [4_000, 6_000]);
        // 0.1, 0.3, 0.6: the destination lost most.
        assert_eq!(flat(&FeeDistribution::new(1, 1).unwrap()), [0, 0, 1]);
        // 0.5, 0.75, 0.75, 3.0: two left, and the two intermediates lost most.
        assert_eq!(flat(&FeeDistribution::new(5, 2).unwrap()), [0, 1, 1, 3]);
        // 0.5, 1.5, 3.0: a tie, and the source is earlier.
        assert_eq!(flat(&FeeDistribution::new(5, 1).unwrap()), [1, 1, 3]);
        // One more millisatoshi in all can be one less for a party.
        let shares = [24, 25].map(|amount| share(amount, 5, Party::Intermediate(2)));
        assert_eq!(shares, [2, 1]);
        assert_eq!(FeeDistribution::new(1, MAX_HOPS + 1), None);
        assert_eq!(share(1_000, MAX_HOPS + 1, Party::Destination), 0);
    }

    #[test]
    fn price_rounds_up_and_saturates() {
        let t = Tariff { base_msat: 7, per_kib_msat: 10 };
        let prices = [0, 1, 1_024, 1_025, 2_048].map(|b| t.price(b));
        assert_eq!(prices, [7, 17, 17, 27, 27]);
        let most = Tariff { base_msat: u32::MAX, per_kib_msat: u32::MAX };
        assert_eq!(most.price(u64::MAX), u64::MAX);
    }

    #[test]
    fn amount_at_the_end_of_the_range() {
        // 60 % of u64::MAX is the most that a destination can be given.
        let most = share(u64::MAX, 0, Party::Destination);
        assert!(amount_for(&[], most).is_some());
        assert_eq!(amount_for(&[], most + 1), None);
        assert_eq!(amount_for(&[u64::MAX], 0), None);
        assert_eq!(amount_for(&[0; MAX_HOPS + 1], 0), None);
        assert_eq!(amount_for(&[0; MAX_HOPS], 0), Some(0));
    }

    fn suffices(amount: u64, hops: &[u64], destination: u64) -> bool {
        let shares = textbook(amount, hops.len());
        shares[1..=hops.len()].iter().zip(hops).all(|(s, p)| s >= p)
            && shares[hops.len() + 1] >= destination
    }

    proptest! {
        #[test]
        fn split_matches_the_textbook(amount: u64, n in 0..=MAX_HOPS) {
            check(amount, n);
        }

        #[test]
        fn amount_is_the_smallest_of_all(
            hops in prop::collection::vec(0..12u64, 0..=MAX_HOPS),
            destination in 0..60u64,
        ) {
            let brute = (0..).find(|a| suffices(*a, &hops, destination));
            prop_assert_eq!(amount_for(&hops, destination), brute);
        }

        #[test]
        fn large_amount_is_enough_and_none_just_below_is(
            hops in prop::collection::vec(0..u64::MAX / 50, 0..=MAX_HOPS),
            destination: u64,
        ) {
            if let Some(amount) = amount_for(&hops, destination) {
                prop_assert!(suffices(amount, &hops, destination));
                for below in amount.saturating_sub(200)..amount {
                    prop_assert!(!suffices(below, &hops, destination));
                }
            } else {
                for amount in u64::MAX - 200..=u64::MAX {
                    prop_assert!(!suffices(amount, &hops, destination));
                }
            }
        }
    }
}
