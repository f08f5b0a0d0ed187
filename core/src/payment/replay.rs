//! A payment is spent once: the replay table.
//!
//! The key is the payment hash (for covenants the funding outpoint) and nothing
//! else. An entry stays until its payment can no longer be accepted; what was
//! forgotten is refused for ever by the floor, wherever the clock may jump. A
//! full table refuses new payments and forgets none.

use crate::config::fixed::PAYMENTS;
use crate::id::NodeId;
use crate::tables::{List, Map, Memory, heap_pop, heap_push};

/// Why a payment is not new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum ReplayError {
    /// It was used before.
    #[error("the payment was used before")]
    Used,
    /// It expires before the time up to which payments are forgotten.
    #[error("payments that expire up to {floor} (seconds since 1970) are no longer accepted here")]
    Forgotten {
        /// Seconds since 1970.
        floor: u64,
    },
    /// There is no room to remember another one.
    #[error("there is no room to remember another payment, so none is accepted")]
    TableFull,
}

/// The replay table.
pub struct ReplayPrevention<M: Memory> {
    /// Live payments: key to time of expiry.
    live: M::Map<u64, PAYMENTS>,
    /// The same, as a heap with the earliest expiry on top.
    order: M::List<(u64, [u8; 32]), PAYMENTS>,
    floor: u64,
}

impl<M: Memory> ReplayPrevention<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self { live: M::Map::EMPTY, order: M::List::EMPTY, floor: 0 };

    /// Makes room for `capacity` live payments; `key` is secret, so that nobody can
    /// choose payment hashes that collide in it. Call it once, first.
    pub fn prepare(&mut self, capacity: usize, key: [u8; 16]) {
        self.live.prepare(capacity, key);
        self.order.set_capacity(capacity);
    }

    /// Whether a payment is new. `source` and `sequence` name the packet that
    /// spends it and take no part in the decision: under another name or number
    /// the payment is the same.
    pub fn check_replay(
        &self,
        proof: &[u8; 32],
        _source: &NodeId,
        _sequence: u64,
    ) -> Result<(), ReplayError> {
        match self.live.get(proof) {
            Some(_) => Err(ReplayError::Used),
            None => Ok(()),
        }
    }

    /// Records a payment that was verified. It is kept until `expires_at`
    /// (seconds since 1970).
    pub fn accept(&mut self, proof: [u8; 32], expires_at: u64) -> Result<(), ReplayError> {
        if self.live.get(&proof).is_some() {
            return Err(ReplayError::Used);
        }
        self.check_room(expires_at)?;
        if self.order.is_empty() {
            self.order.reserve();
        }
        self.live.try_insert(proof, expires_at).map_err(|_| ReplayError::TableFull)?;
        if heap_push(&mut self.order, (expires_at, proof)).is_err() {
            self.live.remove(&proof);
            return Err(ReplayError::TableFull);
        }
        Ok(())
    }

    /// Whether [`Self::accept`] would take a new payment that is to be kept until
    /// `expires_at` (seconds since 1970). Looks nothing up and changes nothing.
    pub fn check_room(&self, expires_at: u64) -> Result<(), ReplayError> {
        if expires_at <= self.floor {
            return Err(ReplayError::Forgotten { floor: self.floor });
        }
        if self.live.len() >= self.live.capacity() {
            return Err(ReplayError::TableFull);
        }
        Ok(())
    }

    /// Forgets at most `limit` payments that expired at or before `unix`, the
    /// earliest first, and returns how many. The floor rises to the latest of
    /// them: it must be made durable with it.
    pub fn cleanup_expired(&mut self, unix: u64, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit && self.order.first().is_some_and(|(at, _)| *at <= unix) {
            let Some((at, key)) = heap_pop(&mut self.order) else { break };
            self.live.remove(&key);
            self.floor = self.floor.max(at);
            removed += 1;
        }
        removed
    }

    /// When the earliest live payment expires.
    pub fn next_expiry(&self) -> Option<u64> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Payments that expire at or before this time are refused.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Raises the floor, as read back from the store.
    pub fn restore_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Live payments.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const WHO: NodeId = NodeId([1; 32]);

    fn key(n: u8) -> [u8; 32] {
        [n; 32]
    }

    fn table<M: Memory>(capacity: usize) -> ReplayPrevention<M> {
        let mut table = ReplayPrevention::EMPTY;
        table.prepare(capacity, [3; 16]);
        table
    }

    #[test]
    fn neither_source_nor_sequence_makes_a_payment_new() {
        let mut r = table::<Fixed>(4);
        r.accept(key(1), 100).unwrap();
        assert_eq!(r.check_replay(&key(1), &WHO, 1), Err(ReplayError::Used));
        assert_eq!(r.check_replay(&key(1), &NodeId([2; 32]), 2), Err(ReplayError::Used));
        assert_eq!(r.check_replay(&key(2), &WHO, 1), Ok(()));
    }

    #[test]
    fn a_full_table_refuses_and_forgets_nothing() {
        let mut r = table::<Fixed>(2);
        r.accept(key(1), 100).unwrap();
        r.accept(key(2), 50).unwrap();
        assert_eq!(r.accept(key(3), 70), Err(ReplayError::TableFull));
        assert_eq!(r.accept(key(1), 70), Err(ReplayError::Used));
        assert_eq!(r.cleanup_expired(49, 9), 0);
        assert_eq!(r.cleanup_expired(50, 9), 1);
        assert_eq!(r.accept(key(3), 70), Ok(()));
        assert_eq!(r.check_replay(&key(1), &WHO, 0), Err(ReplayError::Used));
    }

    #[test]
    fn a_clock_set_back_does_not_revive_what_was_forgotten() {
        let mut r = table::<Fixed>(4);
        r.accept(key(1), 100).unwrap();
        assert_eq!(r.cleanup_expired(5_000, 9), 1);
        assert_eq!(r.accept(key(1), 100), Err(ReplayError::Forgotten { floor: 100 }));
        // What expires later was never here, though the clock had jumped past it.
        assert_eq!(r.accept(key(2), 101), Ok(()));
    }

    fn follows_a_model<M: Memory>(steps: &[(u8, u8, bool)]) {
        let mut r = table::<M>(8);
        let (mut model, mut floor) = (BTreeMap::new(), 0u64);
        for &(k, t, cleanup) in steps {
            let t = u64::from(t);
            if cleanup {
                let gone: std::vec::Vec<_> =
                    model.iter().filter(|(_, e)| **e <= t).map(|(k, e)| (*k, *e)).collect();
                assert_eq!(r.cleanup_expired(t, usize::MAX), gone.len());
                for (k, e) in gone {
                    model.remove(&k);
                    floor = floor.max(e);
                }
            } else {
                let fits = !model.contains_key(&k) && t > floor && model.len() < 8;
                assert_eq!(r.accept(key(k), t).is_ok(), fits);
                if fits {
                    model.insert(k, t);
                }
            }
            assert_eq!((r.len(), r.floor()), (model.len(), floor));
            assert_eq!(r.next_expiry(), model.values().min().copied());
        }
    }

    proptest! {
        #[test]
        fn both_memories_follow_the_model(steps in prop::collection::vec((0u8..16, any::<u8>(), any::<bool>()), 0..80)) {
            follows_a_model::<Fixed>(&steps);
            #[cfg(feature = "alloc")]
            follows_a_model::<crate::tables::Heap>(&steps);
        }
    }
}
