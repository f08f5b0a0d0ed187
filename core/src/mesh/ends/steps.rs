//! How much a source buys at a time, and what it pays.
//!
//! A step is small at first and doubles while its bytes are carried, so that nobody holds much
//! that was paid for and not carried: 1.5 steps at a hop.

use super::held::Claim;
use crate::config::MAX_HOPS;
use crate::payment::fee::FeeDistribution;
use crate::routing::metric;
use crate::tariff::Tariff;
use crate::time::{Micros, SECOND};

/// A smaller payment would cost more in Lightning fees than a tenth of it.
const FEW_MSAT: u64 = 50 * SAT_MSAT;
const SAT_MSAT: u64 = 1_000;
/// The least and the most bytes of a step.
pub(super) const SMALLEST: u64 = 64 * 1024;
pub(super) const LARGEST: u64 = 1 << 30;
/// The first step is not larger, however cheap a route is.
const LARGEST_FIRST: u64 = 64 << 20;
/// A step is at most what was carried in such a time before it.
const SPAN: Micros = 60 * SECOND;
/// Where nobody is paid, steps cost nothing.
pub(super) const FREE: u64 = LARGEST_FIRST;

/// Nodes of a route that may be paid: the relays, and the destination.
const MOST: usize = MAX_HOPS + 1;
/// What the destination takes of the relays' amount.
const NOTHING: Tariff = Tariff { base_msat: 0, per_kib_msat: 0 };

/// What each hop is paid for so many bytes, in millisatoshi: its share of the smallest amount that
/// pays all of them, in whole satoshi, which is all that some wallets know. `None` if no amount
/// does.
pub(super) fn amounts(claims: &[Claim], bytes: u64) -> Option<heapless::Vec<u64, MOST>> {
    let relays = || claims.iter().filter(|claim| !claim.receives);
    let amount = metric::amount(relays().map(|claim| claim.tariff()), NOTHING, bytes)?;
    let shares = FeeDistribution::new(amount, relays().count())?;
    let whole = |share: u64| share.div_ceil(SAT_MSAT).max(1).checked_mul(SAT_MSAT);
    // The destination is the last, and has a price of its own, if it has one.
    let receiver = claims.iter().find(|claim| claim.receives);
    let receiver = receiver.map(|claim| claim.tariff().price(bytes));
    shares.intermediates.iter().copied().chain(receiver).map(whole).collect()
}

/// The same for one hop alone.
pub(super) fn amount(claims: &[Claim], at: usize, bytes: u64) -> Option<u64> {
    amounts(claims, bytes)?.get(at).copied()
}

/// What all hops that take payment are paid for so many bytes, in millisatoshi.
pub(super) fn cost(claims: &[Claim], bytes: u64) -> u64 {
    let amounts = amounts(claims, bytes);
    let paid = |amounts: &heapless::Vec<u64, MOST>| {
        let paid = claims.iter().zip(amounts).filter(|(claim, _)| !claim.free);
        paid.fold(0, |sum: u64, (_, amount)| sum.saturating_add(*amount))
    };
    amounts.as_ref().map_or(u64::MAX, paid)
}

/// Bytes of the first step on a route.
pub(super) fn first(claims: &[Claim]) -> u64 {
    let mut bytes = SMALLEST;
    while bytes < LARGEST_FIRST
        && amounts(claims, bytes).is_some_and(|a| a.iter().any(|amount| *amount < FEW_MSAT))
    {
        bytes *= 2;
    }
    bytes
}

/// Counts of an end at some time, by which the next step is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// When.
    pub(super) at: Micros,
    /// Bytes that both ends had sent.
    pub(super) used: u64,
    /// Bytes that this end had sent,
    pub(super) sent: u64,
    /// of which it is known whether they arrived,
    pub(super) settled: u64,
    /// and those of them that did not.
    pub(super) lost: u64,
    /// Bytes that this end may still send. The other end may have been granted the rest.
    pub(super) own: u64,
}

/// What to do about the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The last one is not half used, or it is not known yet what became of the one before.
    Wait,
    /// Buy so many bytes.
    Buy(u64),
    /// More than a tenth was lost on this route: leave it.
    Leave,
}

/// Whether the last step is half used, or this end can send hardly any more of it.
pub(super) fn is_used(step: u64, allotted: u64, counts: &Counts) -> bool {
    allotted.saturating_sub(counts.used) <= step / 2 || counts.own <= step / 8
}

/// The next step, where `step` were the bytes of the last one, bought at the counts `mark`, and
/// `allotted` is all that was bought.
pub(super) fn next(first: u64, step: u64, allotted: u64, mark: &Counts, counts: &Counts) -> Next {
    if !is_used(step, allotted, counts) || counts.settled < mark.sent {
        return Next::Wait;
    }
    let sent = counts.sent.saturating_sub(mark.sent);
    let lost = counts.lost.saturating_sub(mark.lost);
    if lost > sent / 10 && sent >= SMALLEST / 4 {
        return Next::Leave;
    }
    let elapsed = counts.at.saturating_sub(mark.at).max(1);
    let carried = counts.used.saturating_sub(mark.used);
    let in_span = u128::from(carried) * u128::from(SPAN) / u128::from(elapsed);
    let in_span = u64::try_from(in_span).unwrap_or(u64::MAX);
    Next::Buy(step.saturating_mul(2).min(in_span).max(first).min(LARGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::HopId;

    fn claims(tariffs: &[(u32, u32)]) -> std::vec::Vec<Claim> {
        let claim = |(at, (base_msat, per_kib_msat)): (usize, &(u32, u32))| {
            let tariff = Tariff { base_msat: *base_msat, per_kib_msat: *per_kib_msat };
            Claim::new(HopId([at as u8; 8]), tariff)
        };
        tariffs.iter().enumerate().map(claim).collect()
    }

    #[test]
    fn each_hop_gets_its_share_in_whole_satoshi() {
        let route = claims(&[(1_000, 100), (0, 10)]);
        let a = amounts(&route, 1024 * 1024).unwrap();
        // The shares of the intermediates are equal, so the dearest decides.
        assert_eq!(&a[..], [104_000, 104_000]);
        assert_eq!(cost(&route, 1024 * 1024), 208_000);
        assert_eq!(amount(&route, 1, 1).unwrap(), 2_000);
        assert_eq!(amounts(&[], 1 << 20).unwrap().len(), 0);
        assert_eq!(cost(&claims(&[(0, u32::MAX)]), u64::MAX), u64::MAX);
        // Who asks for nothing costs nothing, and is asked for a satoshi at least if it does.
        assert_eq!(cost(&claims(&[(0, 0)]), 1 << 20), 0);
        assert_eq!(amount(&claims(&[(0, 0)]), 0, 1 << 20), Some(1_000));
    }

    #[test]
    fn the_first_step_is_worth_its_fees_and_not_endless() {
        assert_eq!(first(&claims(&[(1_000, 100)])), 512 * 1024);
        assert_eq!(first(&claims(&[(0, 1)])), 64 << 20);
        assert_eq!(first(&claims(&[(60_000, 0)])), SMALLEST);
        assert_eq!(first(&claims(&[])), SMALLEST);
    }

    #[test]
    fn a_step_follows_when_half_of_the_last_is_used_and_the_one_before_settled() {
        let mark = Counts::default();
        let step = 1_000_000;
        let counts = |used, sent, settled, lost| {
            let own = step - used;
            Counts { at: SECOND, used, sent, settled, lost, own }
        };
        let next = |mark: &Counts, counts| super::next(SMALLEST, step, step, mark, &counts);
        assert_eq!(next(&mark, counts(499_999, 499_999, 0, 0)), Next::Wait);
        assert_eq!(next(&mark, counts(500_000, 500_000, 0, 0)), Next::Buy(2_000_000));
        let later = Counts { sent: 100_000, ..mark };
        assert_eq!(next(&later, counts(500_000, 500_000, 99_999, 0)), Next::Wait);
        assert_eq!(next(&later, counts(500_000, 500_000, 100_000, 0)), Next::Buy(2_000_000));
        assert_eq!(next(&mark, counts(600_000, 500_000, 400_000, 50_001)), Next::Leave);
        assert_eq!(next(&mark, counts(600_000, 500_000, 400_000, 50_000)), Next::Buy(2_000_000));
        // The other end has been granted what is left, and does not use it.
        let granted = |own| Counts { own, ..counts(400_000, 400_000, 400_000, 0) };
        assert_eq!(next(&mark, granted(125_001)), Next::Wait);
        assert_eq!(next(&mark, granted(125_000)), Next::Buy(2_000_000));
    }

    #[test]
    fn a_step_is_no_more_than_a_minute_carried() {
        let (mark, slow) = (Counts::default(), Counts { at: 600 * SECOND, ..Counts::default() });
        let used = Counts { used: 600_000, sent: 600_000, ..slow };
        assert_eq!(super::next(50_000, 1_000_000, 1_000_000, &mark, &used), Next::Buy(60_000));
        assert_eq!(super::next(70_000, 1_000_000, 1_000_000, &mark, &used), Next::Buy(70_000));
    }
}
