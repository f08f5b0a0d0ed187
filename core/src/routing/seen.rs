//! Recent datagrams, as fingerprints in a small array.
//!
//! A datagram leaves two: one of its contents, which identifies a second copy, and one of its
//! name and the link on which it left, by which a report about it is believed. A name covers
//! everything that says whose datagram it is and which route it takes: nobody off that route can
//! forge one that is taken for another's. Forgetting is harmless: payments have their own table,
//! and routes their hop limit.

use crate::config::fixed::SEEN;
use crate::id::{HopId, LinkId, NodeId};
use crate::tables::{List, Memory};
use crate::wire::datagram::Datagram;
use crate::wire::route_error::{Cause, RouteError};
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// Fingerprint of a datagram's source, destination, number and hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(pub(super) u64);

/// What is remembered of a datagram. The lowest bit tells the two sorts apart, so that in a table
/// of two slots or more, sent datagrams do not overwrite received ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print(u64);

/// The bit that tells the sorts of fingerprints apart.
const WENT: u64 = 1;

/// Fingerprints of recent datagrams; at most `N` in fixed memory.
pub struct Seen<M: Memory, const N: usize = SEEN> {
    slots: M::List<u64, N>,
    key: [u8; 16],
}

impl<M: Memory, const N: usize> Seen<M, N> {
    /// An empty table.
    pub const EMPTY: Self = Self { slots: M::List::EMPTY, key: [0; 16] };

    /// Makes room for `capacity` fingerprints, a power of two; an old one is overwritten. `key` is
    /// secret.
    pub fn prepare(&mut self, capacity: usize, key: [u8; 16]) {
        self.key = key;
        self.slots.set_capacity(capacity);
        while !self.slots.is_full() && self.slots.try_push(0).is_ok() {}
    }

    /// Names a datagram.
    pub fn name(
        &self,
        source: &NodeId,
        destination: &NodeId,
        sequence: u64,
        hops: impl Iterator<Item = HopId>,
    ) -> Name {
        let mut hash = SipHasher13::new_with_key(&self.key);
        for node in [source, destination] {
            let (words, _) = node.0.as_chunks();
            words.iter().for_each(|word| hash.write_u64(u64::from_le_bytes(*word)));
        }
        hash.write_u64(sequence);
        hops.for_each(|hop| hash.write_u64(u64::from_le_bytes(hop.0)));
        Name(hash.finish())
    }

    /// The fingerprint of a received datagram with this name, in a numbered span of time: by its
    /// name it came from one neighbour only, over whatever link. Its check stands for its
    /// contents and, if there is one, the signature.
    ///
    /// What differs under one name is put into the name's bits, which nobody knows: so
    /// fingerprints of one name differ for sure.
    pub fn came(&self, name: Name, check: u32, datagram: &Datagram<'_>, span: u64) -> Print {
        let contents = match datagram.signed {
            None => name.0,
            Some(signed) => {
                let mut hash = SipHasher13::new_with_key(&self.key);
                hash.write_u64(name.0);
                hash.hash(signed.signature)
            }
        };
        Print((contents ^ u64::from(check) << 32 ^ span << 1) & !WENT)
    }

    /// The fingerprint of a datagram with this name that was sent on a link, with a proof or
    /// without: only paid ones have receipts.
    pub fn went(&self, link: LinkId, name: Name, paid: bool) -> Print {
        Print(name.0 ^ u64::from(link.0) << 2 ^ u64::from(paid) << 1 | WENT)
    }

    fn slot(&mut self, print: Print) -> Option<&mut u64> {
        // There is a power of two of them.
        let last = self.slots.len().checked_sub(1)?;
        self.slots.get_mut(print.0 as usize & last)
    }

    /// Whether this was recorded and not overwritten since.
    pub fn contains(&mut self, print: Print) -> bool {
        // Zero marks an empty slot.
        print.0 != 0 && self.slot(print).is_some_and(|slot| *slot == print.0)
    }

    /// Records a fingerprint.
    pub fn insert(&mut self, print: Print) {
        if let Some(slot) = self.slot(print) {
            *slot = print.0;
        }
    }

    /// Removes it; true if it was recorded and not overwritten since.
    pub fn take(&mut self, print: Print) -> bool {
        let there = self.contains(print);
        if there && let Some(slot) = self.slot(print) {
            *slot = 0;
        }
        there
    }

    /// Whether the datagram that an error is about was sent on the link on which the error comes,
    /// and no error about it has come yet. Receipts are valid only for datagrams with a proof.
    pub fn take_reported(&mut self, link: LinkId, error: &RouteError) -> bool {
        let RouteError { source, destination, sequence, hops, cause, .. } = error;
        let name = self.name(source, destination, *sequence, hops.iter().copied());
        self.take(self.went(link, name, true))
            || (*cause != Cause::Delivered && self.take(self.went(link, name, false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;
    use crate::wire::datagram::{Form, Signed};

    const A: NodeId = NodeId([3; 32]);
    const B: NodeId = NodeId([4; 32]);
    const HOPS: [[u8; 8]; 2] = [[5; 8], [6; 8]];

    fn seen_of(capacity: usize) -> Seen<Fixed> {
        let mut seen = Seen::EMPTY;
        seen.prepare(capacity, [1; 16]);
        seen
    }

    fn datagram<'a>(signed: Option<Signed<'a>>) -> Datagram<'a> {
        let (source, destination, hops) = (A, B, &HOPS[..]);
        let (hop_limit, sequence, payload) = (1, 7, &[][..]);
        let form = Form::Plain;
        Datagram { hop_limit, sequence, source, destination, hops, signed, payload, form }
    }

    fn name(seen: &Seen<Fixed>, source: NodeId, to: NodeId, number: u64, hops: &[[u8; 8]]) -> Name {
        seen.name(&source, &to, number, hops.iter().map(|h| HopId(*h)))
    }

    #[test]
    fn whatever_differs_makes_another_fingerprint() {
        let mut seen = seen_of(64);
        let same = name(&seen, A, B, 7, &HOPS);
        let names = [
            name(&seen, B, A, 7, &HOPS),
            name(&seen, A, A, 7, &HOPS),
            name(&seen, A, B, 8, &HOPS),
            name(&seen, A, B, 7, &HOPS[..1]),
            name(&seen, A, B, 7, &[HOPS[1], HOPS[0]]),
        ];
        assert!(names.iter().all(|n| *n != same));
        let signed = |signature| Signed { public_key: &[2; 33], signature, proof: &[1] };
        let (unsigned, one, other) =
            (datagram(None), datagram(Some(signed(&[1; 64]))), datagram(Some(signed(&[2; 64]))));
        let came = seen.came(same, 9, &one, 0);
        seen.insert(came);
        assert!(seen.contains(came));
        for print in [
            seen.came(names[0], 9, &one, 0),
            seen.came(same, 8, &one, 0),
            seen.came(same, 9, &other, 0),
            seen.came(same, 9, &unsigned, 0),
            seen.came(same, 9, &one, 1),
            seen.went(LinkId(1), same, true),
            seen.went(LinkId(1), same, false),
        ] {
            assert!(!seen.contains(print));
        }
    }

    #[test]
    fn a_report_is_believed_once_and_from_one_link() {
        let mut seen = seen_of(64);
        let same = name(&seen, A, B, 7, &HOPS);
        let [went, elsewhere] = [1, 2].map(|link| seen.went(LinkId(link), same, true));
        let free = seen.went(LinkId(1), same, false);
        seen.insert(went);
        assert!(!seen.take(elsewhere) && !seen.take(free));
        assert!(seen.take(went));
        assert!(!seen.take(went));
    }

    #[test]
    fn old_ones_are_overwritten_and_no_room_is_no_fault() {
        let mut seen = seen_of(8);
        let prints: [Print; 1000] = core::array::from_fn(|n| {
            seen.went(LinkId(1), name(&seen, A, B, n as u64, &HOPS), false)
        });
        prints.iter().for_each(|print| seen.insert(*print));
        assert!(seen.contains(prints[999]));
        let kept = prints.iter().filter(|print| seen.contains(**print)).count();
        assert!(kept <= 8);
        let mut none = seen_of(0);
        none.insert(prints[1]);
        assert!(!none.contains(prints[1]) && !none.take(prints[1]));
    }
}
