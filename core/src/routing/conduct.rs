//! How neighbours behave: what their offences add up to.
//!
//! Offences are kept by identity, which the handshake proved, and are forgiven with time, so that
//! only a neighbour that keeps offending is shut out: for a while, and longer each time.

use crate::config::fixed::OFFENDERS;
use crate::id::HopId;
use crate::tables::{List, Memory};
use crate::time::{Micros, SECOND};

/// Weight of a packet that an honest neighbour would not send often: the time in which it is
/// forgiven.
pub const PENALTY: Micros = SECOND / 2;
/// Weight of what no honest neighbour does, for which its link is closed.
pub const OFFENCE: Micros = 34 * PENALTY;
/// Who has this much against it is shut out.
const TOO_MUCH: Micros = 100 * PENALTY;
/// First time of being shut out; each further one is twice as long.
const FIRST_BAN: Micros = 10 * SECOND;
/// How often it is doubled: the longest is 43 minutes.
const DOUBLED: u8 = 8;

#[derive(Debug, Clone, Copy)]
struct Offender {
    node: HopId,
    /// When all is forgiven, or the node let in again.
    clear_at: Micros,
    bans: u8,
    /// Whether it is shut out until then.
    shut: bool,
}

/// Those that have offended, in no order: they are looked for only when one offends or comes.
/// Full: the one that is let in, or forgiven, first goes; one that is shut out only where all are.
pub struct Conduct<M: Memory>(M::List<Offender, OFFENDERS>);

impl<M: Memory> Conduct<M> {
    /// An empty table without capacity.
    pub const EMPTY: Self = Self(M::List::EMPTY);

    /// Makes room for so many offenders.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.0.set_capacity(capacity);
        self.0.reserve();
    }

    fn of(&self, node: HopId) -> Option<&Offender> {
        self.0.iter().find(|offender| offender.node == node)
    }

    /// Until when a node is shut out, if it is.
    pub fn shut_until(&self, node: HopId, now: Micros) -> Option<Micros> {
        let shut = self.of(node).filter(|offender| offender.is_shut(now));
        shut.map(|offender| offender.clear_at)
    }

    /// How long it takes until all offences of a node are forgiven.
    pub fn weight(&self, node: HopId, now: Micros) -> Micros {
        self.of(node).map_or(0, |offender| offender.clear_at.saturating_sub(now))
    }

    /// Counts an offence of this weight; true if the node is shut out from now on.
    pub fn add(&mut self, node: HopId, weight: Micros, now: Micros) -> bool {
        let new = Offender { node, clear_at: now, bans: 0, shut: false };
        if self.of(node).is_none() && self.0.try_push(new).is_err() {
            let first = |o: &&mut Offender| (o.is_shut(now), o.clear_at);
            self.0.iter_mut().min_by_key(first).into_iter().for_each(|o| *o = new);
        }
        let its = self.0.iter_mut().find(|offender| offender.node == node);
        its.is_some_and(|offender| offender.add(weight, now))
    }
}

impl Offender {
    fn is_shut(&self, now: Micros) -> bool {
        self.shut && self.clear_at > now
    }

    fn add(&mut self, weight: Micros, now: Micros) -> bool {
        if self.is_shut(now) {
            return true;
        }
        self.clear_at = self.clear_at.max(now).saturating_add(weight);
        self.shut = self.clear_at.saturating_sub(now) >= TOO_MUCH;
        if self.shut {
            self.clear_at = now.saturating_add(FIRST_BAN << self.bans);
            self.bans = self.bans.saturating_add(1).min(DOUBLED);
        }
        self.shut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;

    const PEER: HopId = HopId([1; 8]);

    fn conduct() -> Conduct<Fixed> {
        let mut conduct = Conduct::EMPTY;
        conduct.set_capacity(OFFENDERS);
        conduct
    }

    #[test]
    fn offences_are_forgiven_and_keep_adding_up() {
        let mut c = conduct();
        // One in a second is forgiven for ever.
        assert!((0..1000).all(|s| !c.add(PEER, PENALTY, s * SECOND)));
        let start = 2000 * SECOND;
        let shut = (0..200).position(|_| c.add(PEER, PENALTY, start));
        assert_eq!(shut, Some(99));
        assert_eq!(c.shut_until(PEER, start), Some(start + FIRST_BAN));
        assert_eq!(c.shut_until(PEER, start + FIRST_BAN), None);
        assert_eq!(c.weight(PEER, start + FIRST_BAN), 0);
        let again = start + 100 * SECOND;
        let shut = [0, 1, 2].map(|n| c.add(PEER, OFFENCE, again + n));
        assert_eq!(shut, [false, false, true]);
        assert_eq!(c.shut_until(PEER, again + 2), Some(again + 2 + 2 * FIRST_BAN));
        // Three in a minute are not too many.
        let later = again + 100 * SECOND;
        assert!((0..9).all(|n| !c.add(PEER, OFFENCE, later + n * 20 * SECOND)));
    }

    #[test]
    fn the_longest_time_is_bounded() {
        let mut c = conduct();
        let mut now = 0;
        for _ in 0..300 {
            while !c.add(PEER, OFFENCE, now) {}
            let until = c.shut_until(PEER, now).unwrap();
            assert!(until - now <= 3600 * SECOND);
            now = until;
        }
        assert_eq!(c.shut_until(PEER, now - 1), Some(now));
        c.add(PEER, PENALTY, Micros::MAX - 1);
    }

    #[test]
    fn memory_is_bounded_and_who_is_shut_out_stays() {
        let mut c = conduct();
        for _ in 0..3 {
            c.add(HopId([0xff; 8]), OFFENCE, 0);
        }
        for n in 0..50 {
            c.add(HopId([n; 8]), PENALTY, u64::from(n));
        }
        assert_eq!(c.0.len(), OFFENDERS);
        assert!(c.shut_until(HopId([0xff; 8]), 1).is_some());
        assert!(c.weight(HopId([49; 8]), 50) > 0 && c.weight(HopId([0; 8]), 50) == 0);
    }
}
