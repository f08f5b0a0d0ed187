//! How many payments a neighbour may pass on that prove bad only by a costly check: a signature,
//! or a question to the node.
//!
//! A neighbour answers for its own datagrams. Among those that it relays, some may be forged in
//! ways that it cannot check, and the forger must not use up what others need. So each is charged
//! to the node before the neighbour on its route, which an honest neighbour has verified: these
//! nodes share the allowance in equal parts, and a source that has paid here before, by the same
//! path, has a part of its own. Strangers of one prefix share these parts, and their own
//! datagrams use one of them too. All of it belongs to an owner of allowances
//! ([`owners`](super::owners)) and outlasts the link. Bounded memory, constant time.

use super::seen::Name;
use crate::config::Allowance;
use crate::policy::allowance::Meter;
use crate::time::{MILLISECOND, Micros};

/// Parts that the nodes behind a neighbour share; which part belongs to whom is secret.
const PARTS: usize = 8;
/// Sources that have paid via a neighbour and have a part of their own.
const KNOWN: usize = 8;

/// Who is charged for a neighbour's datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// The neighbour: it is the source.
    Neighbour,
    /// A node behind it.
    Behind {
        /// The node before the neighbour on the datagram's route.
        before: Name,
        /// Source and path up to here.
        source: Name,
    },
}

/// The allowance of one owner.
#[derive(Debug, Clone, Copy)]
pub struct BadPayments {
    own: Meter,
    parts: [Part; PARTS],
    known: [(u32, Part); KNOWN],
}

/// Burst and rate of a part.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Time between two for one part, in milliseconds.
    pause: u32,
    /// How far a part can be from whole: the time in which its burst comes back.
    most_ahead: u32,
}

impl Pace {
    #[inline(never)]
    fn of(allowed: Allowance) -> Self {
        let parts = PARTS as u64;
        let pause = parts.saturating_mul(1000).checked_div(allowed.rate).unwrap_or(u64::MAX);
        let burst = allowed.burst.div_ceil(parts).clamp(1, 1 << 16);
        // A part is never further from whole than half the range of the clock.
        let pause = pause.min(u64::from(u32::MAX >> 1) / burst) as u32;
        Self { pause, most_ahead: pause.saturating_mul(burst as u32) }
    }

    /// How far a part is from whole.
    fn ahead(self, part: Part, now: Micros) -> u32 {
        let ahead = part.0.wrapping_sub(millis(now));
        // More than possible: a time long past.
        if ahead > self.most_ahead { 0 } else { ahead }
    }
}

/// When a part is whole again, in milliseconds of the monotonic clock, modulo 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part(u32);

fn millis(now: Micros) -> u32 {
    (now / MILLISECOND) as u32
}

impl BadPayments {
    /// Nothing is charged, and no source is known.
    pub const WHOLE: Self =
        Self { own: Meter::WHOLE, parts: [Part(0); PARTS], known: [(0, Part(0)); KNOWN] };

    /// Sets the limits of an owner from now on, with at most `at_first` of its own to begin with.
    pub fn new(allowed: Allowance, at_first: u64, now: Micros) -> Self {
        let Pace { pause, most_ahead } = Pace::of(allowed);
        // At least one each: else a first mistake of a new neighbour would stop valid payments.
        let part = Part(millis(now).wrapping_add(most_ahead.saturating_sub(pause)));
        Self {
            own: Meter::holding(allowed, at_first, now),
            parts: [part; PARTS],
            known: [(0, Part(0)); KNOWN],
        }
    }

    /// Whether all charges have been paid off, so that the owner can be forgotten.
    pub fn is_whole(&self, allowed: Allowance, now: Micros) -> bool {
        let pace = Pace::of(allowed);
        let mut parts = self.parts.iter().chain(self.known.iter().map(|(_, part)| part));
        self.own.is_whole(now) && parts.all(|part| pace.ahead(*part, now) == 0)
    }

    fn place(name: Name, of: usize) -> usize {
        usize::try_from(name.0.checked_rem(of as u64).unwrap_or(0)).unwrap_or(0)
    }

    /// The fingerprint of a known source; never that of an empty place.
    fn print(source: Name) -> u32 {
        ((source.0 >> 32) as u32).max(1)
    }

    fn is_known(&self, source: Name) -> bool {
        let place = self.known.get(Self::place(source, KNOWN));
        place.is_some_and(|(print, _)| *print == Self::print(source))
    }

    /// How far the part of a source is from whole.
    fn left(&self, before: Name, source: Name, pace: Pace, now: Micros) -> u32 {
        let part = match self.is_known(source) {
            true => self.known.get(Self::place(source, KNOWN)).map(|(_, part)| *part),
            false => self.parts.get(Self::place(before, PARTS)).copied(),
        };
        part.map_or(0, |part| pace.ahead(part, now))
    }

    fn set(&mut self, before: Name, source: Name, ahead: u32, now: Micros) {
        let part = match self.is_known(source) {
            true => self.known.get_mut(Self::place(source, KNOWN)).map(|(_, part)| part),
            false => self.parts.get_mut(Self::place(before, PARTS)),
        };
        if let Some(part) = part {
            *part = Part(millis(now).wrapping_add(ahead));
        }
    }

    /// Whether another payment may be checked.
    pub fn may(&self, allowed: Allowance, charged: Charged, now: Micros) -> bool {
        match charged {
            Charged::Neighbour => self.own.left(allowed, now) > 0,
            Charged::Behind { before, source } => {
                let pace = Pace::of(allowed);
                let room = pace.most_ahead.saturating_sub(pace.pause);
                self.left(before, source, pace, now) <= room
            }
        }
    }

    /// A payment was checked in vain, or a question waits for its answer.
    pub fn charge(&mut self, allowed: Allowance, charged: Charged, now: Micros) {
        match charged {
            Charged::Neighbour => drop(self.own.try_take(allowed, 1, now)),
            Charged::Behind { before, source } => {
                let pace = Pace::of(allowed);
                let ahead = self.left(before, source, pace, now).saturating_add(pace.pause);
                self.set(before, source, ahead.min(pace.most_ahead), now);
            }
        }
    }

    /// Gives back the charge for a question that was not in vain.
    pub fn give_back(&mut self, allowed: Allowance, charged: Charged, now: Micros) {
        match charged {
            Charged::Neighbour => self.own.give_back(allowed, 1),
            Charged::Behind { before, source } => {
                let pace = Pace::of(allowed);
                let ahead = self.left(before, source, pace, now).saturating_sub(pace.pause);
                self.set(before, source, ahead, now);
            }
        }
    }

    /// A payment was valid: its source has a part of its own from now on.
    pub fn held(&mut self, charged: Charged, now: Micros) {
        let Charged::Behind { source, .. } = charged else { return };
        let print = Self::print(source);
        if let Some(place) = self.known.get_mut(Self::place(source, KNOWN))
            && place.0 != print
        {
            *place = (print, Part(millis(now)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    fn behind(before: u64, source: u64) -> Charged {
        Charged::Behind { before: Name(before), source: Name(source << 32 | source) }
    }

    /// How many may be checked in vain at once.
    fn spend((b, of): &mut (BadPayments, Allowance), charged: Charged, now: Micros) -> u32 {
        let mut spent = 0;
        while b.may(*of, charged, now) && spent < 10_000 {
            b.charge(*of, charged, now);
            spent += 1;
        }
        spent
    }

    fn new(rate: u64, burst: u64) -> (BadPayments, Allowance) {
        let of = Allowance { rate, burst };
        (BadPayments::new(of, 4, 0), of)
    }

    #[test]
    fn one_node_behind_a_neighbour_takes_its_part_and_no_more() {
        let mut b = new(50, 200);
        assert_eq!(spend(&mut b, Charged::Neighbour, 0), 4);
        assert_eq!(spend(&mut b, behind(1, 1), 0), 1);
        let now = 60 * SECOND;
        assert_eq!(spend(&mut b, Charged::Neighbour, now), 200);
        // Under whatever names it sends.
        let spent: u32 = (0..100).map(|source| spend(&mut b, behind(1, source), now)).sum();
        assert_eq!(spent, 25);
        assert_eq!(spend(&mut b, behind(2, 7), now), 25);
        // It comes back with time: an eighth of the rate.
        assert_eq!(spend(&mut b, behind(1, 1), now + 4 * SECOND), 25);
        assert_eq!(spend(&mut b, behind(1, 1), now + 5 * SECOND), 6);
    }

    #[test]
    fn who_has_paid_has_a_part_that_others_do_not_take() {
        let mut b = new(1, 8);
        let of = b.1;
        let now = 3600 * SECOND;
        b.0.held(behind(1, 5), now);
        spend(&mut b, behind(1, 6), now);
        assert!(!b.0.may(of, behind(1, 7), now) && b.0.may(of, behind(1, 5), now));
        b.0.charge(of, behind(1, 5), now);
        assert!(!b.0.may(of, behind(1, 5), now));
        b.0.give_back(of, behind(1, 5), now);
        assert!(b.0.may(of, behind(1, 5), now));
        // Paying again renews nothing.
        b.0.charge(of, behind(1, 5), now);
        b.0.held(behind(1, 5), now);
        assert!(!b.0.may(of, behind(1, 5), now));
    }

    #[test]
    fn extreme_allowances_and_a_clock_that_begins_anew() {
        for (rate, burst) in [(u64::MAX, u64::MAX), (0, 0), (1, u64::MAX), (u64::MAX, 1)] {
            let mut b = new(rate, burst);
            let of = b.1;
            for now in [0, u64::MAX / 2, u64::MAX] {
                spend(&mut b, behind(1, 1), now);
                b.0.give_back(of, behind(1, 1), now);
                assert!(b.0.may(of, behind(1, 1), now), "{rate} {burst} {now}");
            }
        }
        let mut b = new(50, 200);
        let wrap = (u64::from(u32::MAX) + 1) * MILLISECOND;
        assert_eq!(spend(&mut b, behind(1, 1), wrap - SECOND), 25);
        assert_eq!(spend(&mut b, behind(1, 1), wrap + SECOND), 12);
    }
}
