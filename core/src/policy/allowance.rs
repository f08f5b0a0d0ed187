//! Allowances with an owner: how much of each kind a neighbour may still cause, shared fairly
//! among the nodes behind it.
//!
//! An allowance of `rate` per second and `burst` at once is kept as one time, the moment at which
//! it is whole again (the generic cell rate algorithm, ITU-T I.371). So it takes eight bytes, and
//! an owner whose allowances are all whole can be forgotten without loss to anybody.
//!
//! One node behind a neighbour must not use up what all of them have. Each has a debt: what it
//! took, paid off at an equal part of the rate. Nodes in debt leave half of the burst to those
//! that are not; so a large packet of a modest sender finds room, however many small ones of a
//! greedy sender come between. Of an allowance that began with less they leave half of what it would be
//! by now if nothing had been taken. The caller chooses the key of a share such that an honest
//! neighbour has verified it: the hop before it on the packet's route.

use crate::config::Allowance;
use crate::config::fixed::SHARES;
use crate::tables::{List, Memory};
use crate::time::Micros;

/// Fractions of a microsecond in which times are kept, so that single bytes count.
const PARTS: u64 = 1 << 10;
/// The same per second; under 2^30.
const SECOND: u64 = 1_000_000 * PARTS;
/// Highest rate per second; higher ones are capped.
const MAX_RATE: u64 = 1 << 44;
/// How long room stays reserved for a waiting sender, beyond the time at which it becomes
/// available.
const WANTED: Micros = 1_000_000;

/// The time in which `amount` accrues, in parts, rounded up.
fn span(amount: u64, rate: u64) -> u64 {
    let rate = rate.clamp(1, MAX_RATE);
    if amount < rate.min(1 << 30) {
        return (amount * SECOND).div_ceil(rate);
    }
    // A division costs a board some hundred instructions.
    let (seconds, left) = if amount < rate { (0, amount) } else { (amount / rate, amount % rate) };
    // Under 2^34 times 2^30; beyond that the last bits do not count.
    let rest = match 30u32.saturating_sub(left.leading_zeros()) {
        0 => (left * SECOND).div_ceil(rate),
        cut => ((left >> cut) + 1).saturating_mul(SECOND).div_ceil((rate >> cut).max(1)),
    };
    seconds.saturating_mul(SECOND).saturating_add(rest.min(SECOND))
}

/// The time in which `amount` accrues.
pub fn span_micros(amount: u64, limit: Allowance) -> Micros {
    span(amount, limit.rate).div_ceil(PARTS)
}

/// One allowance: how much is left of it, kept as the time when it is whole again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    whole_at: u64,
}

impl Meter {
    /// A whole one.
    pub const WHOLE: Self = Self { whole_at: 0 };

    /// One with at most `level` left.
    #[inline(never)]
    pub fn holding(limit: Allowance, level: u64, now: Micros) -> Self {
        let missing = limit.burst.saturating_sub(level);
        Self { whole_at: parts(now).saturating_add(span(missing, limit.rate)) }
    }

    /// Whether everything taken has accrued again.
    pub const fn is_whole(&self, now: Micros) -> bool {
        self.whole_at <= parts(now)
    }

    /// When `amount` is available, if nothing is taken before; `None`: never.
    pub fn ready_at(&self, limit: Allowance, amount: u64, now: Micros) -> Option<Micros> {
        if amount > limit.burst || (limit.rate == 0 && amount > 0) {
            return None;
        }
        if self.is_whole(now) {
            return Some(now);
        }
        let after = self.after(limit, amount, now);
        let early = after.saturating_sub(span(limit.burst, limit.rate));
        Some(early.div_ceil(PARTS).max(now))
    }

    /// What is left.
    #[inline]
    pub fn left(&self, limit: Allowance, now: Micros) -> u64 {
        let missing = self.whole_at.saturating_sub(parts(now));
        let rate = limit.rate.clamp(1, MAX_RATE);
        let (seconds, rest) = (missing / SECOND, (missing % SECOND).div_ceil(PARTS));
        // Microseconds under 2^20 times 2^44.
        let part = (rest * rate).div_ceil(SECOND / PARTS);
        limit.burst.saturating_sub(seconds.saturating_mul(rate).saturating_add(part))
    }

    /// Takes an amount, going into debt if it is not there.
    pub fn take(&mut self, limit: Allowance, amount: u64, now: Micros) {
        self.whole_at = self.after(limit, amount, now);
    }

    /// Gives back an amount that was taken.
    pub fn give_back(&mut self, limit: Allowance, amount: u64) {
        self.whole_at = self.whole_at.saturating_sub(span(amount, limit.rate));
    }

    /// Takes an amount if it is there, all or nothing; true if taken.
    pub fn try_take(&mut self, limit: Allowance, amount: u64, now: Micros) -> bool {
        let there = self.ready_at(limit, amount, now).is_some_and(|at| at <= now);
        if there {
            self.take(limit, amount, now);
        }
        there
    }

    fn after(&self, limit: Allowance, amount: u64, now: Micros) -> u64 {
        self.later(span(amount, limit.rate), now)
    }

    #[inline(never)]
    fn later(&self, span: u64, now: Micros) -> u64 {
        self.whole_at.max(parts(now)).saturating_add(span)
    }
}

const fn parts(at: Micros) -> u64 {
    at.saturating_mul(PARTS)
}

/// One of those that share an allowance.
#[derive(Debug, Clone, Copy)]
struct Share<const KINDS: usize> {
    key: u64,
    /// When its debt of each kind is paid off by its part of the rate.
    paid_at: [Micros; KINDS],
}

impl<const KINDS: usize> Share<KINDS> {
    fn owes(&self, kind: usize, now: Micros) -> bool {
        self.paid_at.get(kind).is_some_and(|at| *at > now)
    }

    fn owes_nothing(&self, now: Micros) -> bool {
        self.paid_at.iter().all(|at| *at <= now)
    }
}

/// A share among the others.
struct Debts {
    /// Where it is; `None`: it has no place yet, and one is free.
    place: Option<usize>,
    /// How many others are in debt, and whether it is.
    others: usize,
    itself: bool,
}

/// Room reserved for a sender that is not in debt.
#[derive(Debug, Clone, Copy)]
struct Want {
    kind: usize,
    key: u64,
    amount: u64,
    until: Micros,
}

/// Allowances of `KINDS` kinds with one owner, and those that share them. Each call takes the
/// same time, whatever the keys.
pub struct Shared<M: Memory, const KINDS: usize> {
    meters: [Meter; KINDS],
    /// The same, had nothing been taken.
    untouched: [Meter; KINDS],
    want: Option<Want>,
    shares: M::List<Share<KINDS>, SHARES>,
}

impl<M: Memory, const KINDS: usize> Shared<M, KINDS> {
    /// Whole allowances without room for shares. All of its bytes are zero, so that it takes no
    /// flash in a board's static memory.
    pub const EMPTY: Self = Self {
        meters: [Meter::WHOLE; KINDS],
        untouched: [Meter::WHOLE; KINDS],
        want: None,
        shares: M::List::EMPTY,
    };

    /// Whole allowances shared by at most `shares`; more of them have shares in common.
    pub fn new(shares: usize) -> Self {
        let mut new = Self::EMPTY;
        new.prepare(shares);
        new
    }

    /// Makes room for so many shares.
    pub fn prepare(&mut self, shares: usize) {
        self.shares.set_capacity(shares);
        self.shares.reserve();
    }

    /// Sets what one allowance begins with.
    pub fn set(&mut self, kind: usize, meter: Meter) {
        for meters in [&mut self.meters, &mut self.untouched] {
            if let Some(m) = meters.get_mut(kind) {
                *m = meter;
            }
        }
    }

    /// Whether all allowances are whole.
    pub fn is_whole(&self, now: Micros) -> bool {
        self.meters.iter().all(|m| m.is_whole(now))
    }

    /// What is left of one, for all together.
    pub fn left(&self, kind: usize, limit: Allowance, now: Micros) -> u64 {
        self.meters.get(kind).map_or(0, |m| m.left(limit, now))
    }

    /// How this share stands among the others.
    fn debts(&self, kind: usize, key: u64, now: Micros) -> Debts {
        let (mut place, mut owing) = (None, 0);
        for (at, share) in self.shares.iter().enumerate() {
            owing += usize::from(share.owes(kind, now));
            if share.key == key {
                place = Some(at);
            }
        }
        let free = || !self.shares.is_full() || self.shares.iter().any(|s| s.owes_nothing(now));
        // If all places are taken it shares one with another key.
        let common = || usize::try_from(key.checked_rem(self.shares.len() as u64)?).ok();
        let place = place.or_else(|| if free() { None } else { common() });
        let itself = place.and_then(|at| self.shares.get(at)).is_some_and(|s| s.owes(kind, now));
        Debts { place, others: owing - usize::from(itself), itself }
    }

    /// When this share may take `amount` of a kind, if nobody takes any before; `None`: never.
    pub fn ready_at(
        &self,
        kind: usize,
        limit: Allowance,
        key: u64,
        amount: u64,
        now: Micros,
    ) -> Option<Micros> {
        let needed = self.needed(kind, limit, key, amount, now);
        let at = self.meters.get(kind)?.ready_at(limit, needed, now)?;
        // What is kept for others grows half as fast as what is there.
        let grows = needed > amount && !self.untouched.get(kind)?.is_whole(now);
        Some(if grows { at.saturating_add(at - now) } else { at })
    }

    /// How much must be there for this share to take `amount`: what is kept for others too.
    fn needed(&self, kind: usize, limit: Allowance, key: u64, amount: u64, now: Micros) -> u64 {
        let debts = self.debts(kind, key, now);
        let wanted = self.want.filter(|w| w.kind == kind && w.key != key && w.until > now);
        let kept = match debts.itself && (debts.others > 0 || wanted.is_some()) {
            true => {
                let most = self.untouched.get(kind).map_or(0, |m| m.left(limit, now));
                (most / 2).max(wanted.map_or(0, |w| w.amount))
            }
            false => 0,
        };
        // An amount larger than the rest may still take everything, once it is whole.
        amount.saturating_add(kept).min(limit.burst.max(amount))
    }

    /// Whether this share may take `amount` now. If it is refused and not in debt, room is
    /// reserved for it for a while.
    pub fn has(
        &mut self,
        kind: usize,
        limit: Allowance,
        key: u64,
        amount: u64,
        now: Micros,
    ) -> bool {
        // All of it is enough for whatever fits, and what is left mostly tells without dividing by
        // the rate.
        let whole = amount <= limit.burst && self.meters.get(kind).is_some_and(|m| m.is_whole(now));
        let enough =
            whole || self.left(kind, limit, now) >= self.needed(kind, limit, key, amount, now);
        enough && limit.rate > 0 || self.has_exactly(kind, limit, key, amount, now)
    }

    /// The same without that.
    #[inline(never)]
    fn has_exactly(
        &mut self,
        kind: usize,
        limit: Allowance,
        key: u64,
        amount: u64,
        now: Micros,
    ) -> bool {
        match self.ready_at(kind, limit, key, amount, now) {
            Some(at) if at <= now => true,
            Some(at) => {
                let free = self.want.is_none_or(|w| w.until <= now || w.key == key);
                if free && !self.debts(kind, key, now).itself {
                    let wait = at.saturating_sub(now).saturating_mul(2).saturating_add(WANTED);
                    self.want = Some(Want { kind, key, amount, until: now.saturating_add(wait) });
                }
                false
            }
            None => false,
        }
    }

    /// Takes `amount`, which [`has`](Self::has) has granted.
    pub fn take(&mut self, kind: usize, limit: Allowance, key: u64, amount: u64, now: Micros) {
        let span = span(amount, limit.rate);
        if let Some(meter) = self.meters.get_mut(kind) {
            meter.whole_at = meter.later(span, now);
        }
        self.want.take_if(|w| w.kind == kind && w.key == key);
        let Debts { place, others, .. } = self.debts(kind, key, now);
        let at = place.unwrap_or_else(|| {
            let new = Share { key, paid_at: [0; KINDS] };
            if let Some(at) = self.shares.iter().position(|s| s.owes_nothing(now)) {
                self.shares.iter_mut().skip(at).take(1).for_each(|s| *s = new);
                return at;
            }
            // It is not full, else its place would have been found.
            let _ = self.shares.try_push(new);
            self.shares.len().saturating_sub(1)
        });
        let part = span.saturating_mul(others as u64 + 1).div_ceil(PARTS);
        if let Some(paid_at) = self.shares.get_mut(at).and_then(|s| s.paid_at.get_mut(kind)) {
            *paid_at = (*paid_at).max(now).saturating_add(part);
        }
    }

    /// Takes `amount` if this share may have it; true if taken.
    pub fn try_take(
        &mut self,
        kind: usize,
        limit: Allowance,
        key: u64,
        amount: u64,
        now: Micros,
    ) -> bool {
        let has = self.has(kind, limit, key, amount, now);
        if has {
            self.take(kind, limit, key, amount, now);
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;
    use proptest::prelude::*;

    const KIB: u64 = 1024;
    /// Of the free lane's ordinary traffic.
    const LIMIT: Allowance = Allowance { rate: 256 * KIB, burst: 8 * KIB * KIB };

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            rate in prop_oneof![1u64..100, 1u64..100_000_000, (1u32..63).prop_map(|s| 1 << s)],
            burst in prop_oneof![0u64..100, 0u64..100_000_000],
            steps in prop::collection::vec((0u64..3_000_000, 0u64..10_000_000), 1..60),
        ) {
            let limit = Allowance { rate, burst };
            let (mut meter, mut now, mut taken) = (Meter::WHOLE, 5, 0u128);
            for (step, amount) in steps {
                now += step;
                let ready = meter.ready_at(limit, amount, now);
                prop_assert_eq!(ready.is_none(), amount > burst);
                if meter.left(limit, now) >= amount {
                    prop_assert_eq!(ready, Some(now), "what is left may be taken");
                }
                if let Some(at) = ready.filter(|at| *at < now + 100_000_000) {
                    let mut then = meter;
                    prop_assert!(then.try_take(limit, amount, at));
                }
                if meter.try_take(limit, amount, now) {
                    taken += u128::from(amount);
                }
                let most = u128::from(burst) + u128::from(rate) * u128::from(now) / 1_000_000;
                let most = most + 1 + u128::from(rate / SECOND);
                prop_assert!(taken <= most, "{taken} of {most}");
            }
        }

        #[test]
        fn any_numbers(rate: u64, burst: u64, amount: u64, now: u64, key: u64) {
            let limit = Allowance { rate, burst };
            let mut shared = Shared::<Fixed, 2>::new(2);
            for key in [key, 1, 2, 3] {
                shared.try_take(1, limit, key, amount, now);
            }
            shared.left(1, limit, now);
            Meter::holding(limit, amount, now).ready_at(limit, amount, now);
        }
    }

    #[test]
    fn what_is_taken_comes_back_at_the_rate() {
        let limit = Allowance { rate: 1_000, burst: 250 };
        let mut meter = Meter::WHOLE;
        assert!(meter.try_take(limit, 250, 5));
        assert!(!meter.try_take(limit, 1, 5) && !meter.is_whole(5));
        assert_eq!(meter.ready_at(limit, 1, 5), Some(1_005));
        assert_eq!((meter.left(limit, 1_004), meter.left(limit, 1_005)), (0, 1));
        assert!(meter.try_take(limit, 1, 1_005));
        assert_eq!(meter.ready_at(limit, 251, 5), None);
        assert!(meter.is_whole(1_000_000));
        assert_eq!(Meter::holding(limit, 3, 0).left(limit, 1_000), 4);
        assert!(Meter::holding(limit, 300, 0).is_whole(0));
        let huge = Allowance { rate: u64::MAX, burst: u64::MAX };
        assert!((0..1_000).all(|_| meter.try_take(huge, 1 << 32, 2_000_000)));
    }

    /// A greedy sender of small packets at ten times the rate, and a modest one of a packet of
    /// 4 MB now and then: bytes of each that passed in an hour.
    fn greedy_and_modest(shares: usize) -> (u64, u64) {
        let mut shared = Shared::<Fixed, 1>::new(shares);
        let (mut greedy, mut modest) = (0, 0);
        let mut waits = false;
        for now in (0..3600 * 1_000_000u64).step_by(10_000) {
            for _ in 0..26 {
                greedy += KIB * u64::from(shared.try_take(0, LIMIT, 1, KIB, now));
            }
            // Once in 40 s, half of what would be its part; it asks again until it may.
            waits |= now % 40_000_000 == 0;
            if waits && now % 500_000 == 0 && shared.try_take(0, LIMIT, 2, 4_000_100, now) {
                modest += 4_000_100;
                waits = false;
            }
        }
        (greedy, modest)
    }

    #[test]
    fn small_packets_do_not_push_out_large_ones_of_others() {
        let (greedy, modest) = greedy_and_modest(2);
        assert_eq!(modest, 90 * 4_000_100, "every one passed within its 40 s");
        let rest = 3600 * LIMIT.rate - modest;
        assert!(greedy > rest * 98 / 100, "what the modest one leaves is used: {greedy} of {rest}");
    }

    /// A newcomer begins with little, half of which is far less than half of the burst.
    #[test]
    fn modest_senders_behind_a_newcomer_need_not_wait_for_half_of_the_burst() {
        let mut shared = Shared::<Fixed, 1>::new(2);
        shared.set(0, Meter::holding(LIMIT, 64 * KIB, 0));
        // Each owes all the time; together they take less than half of the rate.
        for now in (0..60_000_000).step_by(100_000) {
            for key in [1, 2] {
                assert!((0..5).all(|_| shared.try_take(0, LIMIT, key, KIB, now)), "at {now}");
            }
        }
    }

    /// What a greedy sender leaves of a newcomer's allowance grows with it.
    #[test]
    fn half_of_what_a_newcomer_has_had_is_left_to_who_owes_nothing() {
        let mut shared = Shared::<Fixed, 1>::new(2);
        shared.set(0, Meter::holding(LIMIT, 64 * KIB, 0));
        for now in (0..60_000_000u64).step_by(10_000) {
            shared.try_take(0, LIMIT, 3, 1, now);
            while shared.try_take(0, LIMIT, 1, KIB, now) {}
            if now > 1_000_000 {
                let had = (64 * KIB + now * LIMIT.rate / 1_000_000).min(LIMIT.burst);
                let left = shared.left(0, LIMIT, now);
                assert!(left + 2 * KIB >= had / 2, "{left} of {had} at {now}");
                let at = shared.ready_at(0, LIMIT, 1, KIB, now).unwrap();
                let needed = shared.needed(0, LIMIT, 1, KIB, at);
                // Both are rounded, each to a byte.
                let left = shared.left(0, LIMIT, at) + 2;
                assert!(left >= needed, "{left} of {needed} where it is told that it may");
            }
        }
    }

    #[test]
    fn two_who_want_all_have_half_each() {
        let mut shared = Shared::<Fixed, 1>::new(2);
        let mut passed = [0u64; 2];
        for now in (0..3600 * 1_000_000u64).step_by(50_000) {
            for _ in 0..130 {
                passed[0] += KIB * u64::from(shared.try_take(0, LIMIT, 1, KIB, now));
            }
            if now % 100_000 == 0 {
                passed[1] += 4_000_100 * u64::from(shared.try_take(0, LIMIT, 2, 4_000_100, now));
            }
        }
        let all = 3600 * LIMIT.rate + LIMIT.burst;
        assert!(passed.iter().all(|p| *p > all * 2 / 5), "{passed:?} of {all}");
        assert!(passed.iter().sum::<u64>() <= all);
    }

    #[test]
    fn one_alone_has_everything_and_more_than_places_share_some() {
        let mut shared = Shared::<Fixed, 1>::new(2);
        assert!(shared.try_take(0, LIMIT, 1, LIMIT.burst, 0));
        assert!(!shared.try_take(0, LIMIT, 1, 1, 0));
        assert_eq!(shared.left(0, LIMIT, 1_000_000), LIMIT.rate);
        for key in 2..50 {
            shared.try_take(0, LIMIT, key, 1, 1_000_000);
        }
        assert!(shared.shares.len() <= 2);
        assert!(shared.is_whole(60_000_000));
    }
}
