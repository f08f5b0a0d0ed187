//! Datagrams that were here lately, as fingerprints in a small array.
//!
//! The key covers the link on which a datagram came, so a neighbour can only
//! make its own datagrams look old. Forgetting is harmless: a payment is
//! guarded by its own table, and a route by its hop limit.

use crate::config::fixed::SEEN;
use crate::id::{LinkId, NodeId};
use crate::tables::{List, Memory};
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// Fingerprints of recent datagrams.
pub struct Seen<M: Memory> {
    slots: M::List<u64, SEEN>,
    key: [u8; 16],
}

impl<M: Memory> Seen<M> {
    /// Remembers nothing.
    pub const EMPTY: Self = Self { slots: M::List::EMPTY, key: [0; 16] };

    /// Makes room for `capacity` fingerprints; an old one is overwritten. `key` is
    /// secret.
    pub fn prepare(&mut self, capacity: usize, key: [u8; 16]) {
        self.key = key;
        self.slots.set_capacity(capacity);
        while !self.slots.is_full() && self.slots.try_push(0).is_ok() {}
    }

    fn slot(&mut self, link: LinkId, source: &NodeId, sequence: u64) -> Option<(&mut u64, u64)> {
        let mut h = SipHasher13::new_with_key(&self.key);
        h.write(&source.0);
        h.write_u64(sequence);
        h.write_u32(link.0);
        // Zero marks an empty slot.
        let print = h.finish().max(1);
        let slots = u64::try_from(self.slots.len()).ok()?;
        let at = usize::try_from(print.checked_rem(slots)?).ok()?;
        self.slots.get_mut(at).map(|slot| (slot, print))
    }

    /// Whether the datagram was recorded and not overwritten since.
    pub fn contains(&mut self, link: LinkId, source: &NodeId, sequence: u64) -> bool {
        self.slot(link, source, sequence).is_some_and(|(slot, print)| *slot == print)
    }

    /// Records a datagram.
    pub fn insert(&mut self, link: LinkId, source: &NodeId, sequence: u64) {
        if let Some((slot, print)) = self.slot(link, source, sequence) {
            *slot = print;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;

    fn seen_of(capacity: usize) -> Seen<Fixed> {
        let mut seen = Seen::EMPTY;
        seen.prepare(capacity, [1; 16]);
        seen
    }

    #[test]
    fn another_link_cannot_make_a_datagram_look_old() {
        let mut seen = seen_of(64);
        let (a, b, who) = (LinkId(1), LinkId(2), NodeId([3; 32]));
        seen.insert(a, &who, 7);
        assert!(seen.contains(a, &who, 7));
        assert!(!seen.contains(b, &who, 7));
        assert!(!seen.contains(a, &who, 8));
        assert!(!seen.contains(a, &NodeId([4; 32]), 7));
    }

    #[test]
    fn old_ones_are_overwritten_and_no_room_is_no_fault() {
        let mut seen = seen_of(8);
        let who = NodeId([3; 32]);
        (0..1000).for_each(|n| seen.insert(LinkId(1), &who, n));
        assert!(seen.contains(LinkId(1), &who, 999));
        let kept = (0..1000).filter(|n| seen.contains(LinkId(1), &who, *n)).count();
        assert!(kept <= 8);
        let mut none = seen_of(0);
        none.insert(LinkId(1), &who, 1);
        assert!(!none.contains(LinkId(1), &who, 1));
    }
}
