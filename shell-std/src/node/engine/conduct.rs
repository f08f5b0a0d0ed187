//! How neighbours behave: what the state machine's remedies add up to.
//!
//! Offences are kept by identity, which the handshake proved. They fade, by
//! half in each half minute, so that only a neighbour that keeps offending is shut out.

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::time::{Micros, SECOND};
use std::collections::HashMap;

/// Time in which an offence loses half its weight.
const HALF_LIFE: Micros = 30 * SECOND;
/// Weight at which the link is closed. A penalised packet weighs 1.
const CLOSE_AT: f64 = 100.0;
/// Weight of an offence for which the state machine closes the link.
const DISCONNECT_WEIGHT: f64 = 34.0;
/// First time of being shut out; each further one is twice as long.
const FIRST_BAN: Micros = 10 * SECOND;
/// Longest time of being shut out.
const LONGEST_BAN: Micros = 3600 * SECOND;
/// Offenders remembered. Full: the lightest goes.
const MOST_OFFENDERS: usize = 4096;

#[derive(Debug, Clone, Copy, Default)]
struct Offender {
    weight: f64,
    at: Micros,
    bans: u32,
    until: Micros,
}

impl Offender {
    fn weight(&self, now: Micros) -> f64 {
        let age = now.saturating_sub(self.at);
        // Straight lines between the halves, so that no library of functions is
        // needed for this.
        let (halves, rest) = (age / HALF_LIFE, age % HALF_LIFE);
        let half = 0.5f64.powi(i32::try_from(halves).unwrap_or(i32::MAX));
        self.weight * half * (1.0 - rest as f64 / (2 * HALF_LIFE) as f64)
    }
}

/// The offences of all neighbours.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    offenders: HashMap<NodeId, Offender>,
}

impl Conduct {
    /// Until when the peer is shut out, if it is.
    pub(crate) fn banned(&self, now: Micros, peer: &NodeId) -> Option<Micros> {
        self.offenders.get(peer).map(|o| o.until).filter(|until| *until > now)
    }

    /// Weight of the peer's offences.
    #[cfg(test)]
    pub(crate) fn weight(&self, now: Micros, peer: &NodeId) -> f64 {
        self.offenders.get(peer).map_or(0.0, |o| o.weight(now))
    }

    /// Counts a penalised packet; `true` if the link is to be closed for it.
    pub(crate) fn penalise(&mut self, now: Micros, peer: NodeId) -> bool {
        self.add(now, peer, 1.0)
    }

    /// Counts an offence for which the link is closed; `true` if the peer is shut
    /// out from now on.
    pub(crate) fn disconnect(&mut self, now: Micros, peer: NodeId) -> bool {
        self.add(now, peer, DISCONNECT_WEIGHT)
    }

    fn add(&mut self, now: Micros, peer: NodeId, weight: f64) -> bool {
        if self.offenders.len() >= MOST_OFFENDERS && !self.offenders.contains_key(&peer) {
            self.make_room(now);
        }
        let offender = self.offenders.entry(peer).or_default();
        offender.weight = offender.weight(now) + weight;
        offender.at = now;
        if offender.weight < CLOSE_AT {
            return false;
        }
        offender.weight = 0.0;
        let ban = FIRST_BAN.saturating_mul(1 << offender.bans.min(20)).min(LONGEST_BAN);
        offender.until = now.saturating_add(ban);
        offender.bans += 1;
        true
    }

    fn make_room(&mut self, now: Micros) {
        self.offenders.retain(|_, o| o.until > now || o.weight(now) >= 0.5);
        if self.offenders.len() >= MOST_OFFENDERS {
            let lightest = self.offenders.iter().min_by(|(a, x), (b, y)| {
                let key = |o: &Offender| (o.until > now, o.weight(now));
                let ((p, x), (q, y)) = (key(x), key(y));
                p.cmp(&q).then(x.total_cmp(&y)).then(a.cmp(b))
            });
            if let Some(id) = lightest.map(|(id, _)| *id) {
                self.offenders.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offences_fade_and_keep_adding_up() {
        let (mut conduct, peer) = (Conduct::default(), NodeId([1; 32]));
        // One in a second is forgiven for ever.
        assert!((0..1000).all(|s| !conduct.penalise(s * SECOND, peer)));
        let start = 2000 * SECOND;
        let closed = (0..200).position(|_| conduct.penalise(start, peer));
        assert_eq!(closed, Some(99));
        assert_eq!(conduct.banned(start, &peer), Some(start + FIRST_BAN));
        assert_eq!(conduct.banned(start + FIRST_BAN, &peer), None);
        let again = start + 100 * SECOND;
        assert_eq!([0, 1, 2].map(|i| conduct.disconnect(again + i, peer)), [false, false, true]);
        assert_eq!(conduct.banned(again + 2, &peer), Some(again + 2 + 2 * FIRST_BAN));
    }

    #[test]
    fn memory_is_bounded_and_the_banned_stay() {
        let mut conduct = Conduct::default();
        let id = |i: u64| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&i.to_be_bytes());
            NodeId(id)
        };
        for _ in 0..3 {
            conduct.disconnect(0, id(u64::MAX));
        }
        (0..MOST_OFFENDERS as u64 + 50).for_each(|i| {
            conduct.penalise(1, id(i));
        });
        assert_eq!(conduct.offenders.len(), MOST_OFFENDERS);
        assert!(conduct.banned(1, &id(u64::MAX)).is_some());
    }
}
