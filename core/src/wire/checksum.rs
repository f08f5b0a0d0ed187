//! The packet check: the Internet checksum (RFC 1071) in 32-bit words.
//!
//! It finds accidents, not attacks: authenticity comes from the link and from
//! signatures. One's complement lets a relay that lowers the hop limit correct
//! the check without reading the payload again (RFC 1624).

/// The low 32 bits.
const LOW: u64 = u32::MAX as u64;

/// A running one's-complement sum of little-endian 32-bit words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    sum: u64,
    /// Bytes of an unfinished word, and how many.
    partial: [u8; 4],
    have: usize,
}

impl Sum {
    /// Adds bytes; they may end within a word, the next call goes on there.
    pub fn add(&mut self, mut bytes: &[u8]) {
        while self.have != 0 {
            let Some((first, rest)) = bytes.split_first() else { return };
            if let Some(slot) = self.partial.get_mut(self.have) {
                *slot = *first;
            }
            self.have = (self.have + 1) % 4;
            bytes = rest;
            if self.have == 0 {
                self.fold(u64::from(u32::from_le_bytes(self.partial)));
                self.partial = [0; 4];
            }
        }
        // Up to 2^29 words of 32 bits fit a u64 without losing a carry.
        let (words, rest) = bytes.as_chunks::<4>();
        for block in words.chunks(1 << 20) {
            let sum = block.iter().map(|w| u64::from(u32::from_le_bytes(*w))).sum();
            self.fold(sum);
        }
        for (slot, b) in self.partial.iter_mut().zip(rest) {
            *slot = *b;
        }
        self.have = rest.len();
    }

    /// `more` is below 2^62.
    fn fold(&mut self, more: u64) {
        // End-around carry keeps the value congruent modulo 2^32 - 1. The kept sum is
        // below 2^32, and so is this one after two rounds.
        let mut sum = self.sum + more;
        for _ in 0..2 {
            sum = (sum >> 32) + (sum & LOW);
        }
        self.sum = if sum == LOW { 0 } else { sum };
    }

    /// The check of everything added: the complement of the sum, where the sum
    /// is the smallest representative (0 to 2^32 - 2). A last word that is not
    /// complete counts as if zeros followed.
    pub fn check(mut self) -> u32 {
        let last = u64::from(u32::from_le_bytes(self.partial));
        self.fold(last);
        !(self.sum as u32)
    }
}

/// The check after one 32-bit word changed from `old` to `new` (RFC 1624, eqn. 3).
pub fn update(check: u32, old: u32, new: u32) -> u32 {
    let mut sum = Sum { sum: u64::from(!check), ..Sum::default() };
    sum.fold(u64::from(!old));
    sum.fold(u64::from(new));
    sum.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn worked_example() {
        // 0x00000001 + 0xffffffff = 0x1_0000_0000, end-around carry gives 1.
        let mut s = Sum::default();
        s.add(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(s.check(), !1);
        s.add(&[2]);
        assert_eq!(s.check(), !3);
        assert_eq!(Sum::default().check(), u32::MAX);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(0usize..200, 0..6)) {
            let mut whole = Sum::default();
            whole.add(&bytes);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort();
            let mut pieces = Sum::default();
            for w in cuts.windows(2) {
                pieces.add(&bytes[w[0]..w[1]]);
            }
            prop_assert_eq!(whole.check(), pieces.check());
        }

        #[test]
        fn an_update_equals_a_recount(mut words in prop::collection::vec(any::<u32>(), 1..20), at in any::<prop::sample::Index>(), new in any::<u32>()) {
            let sum = |w: &[u32]| {
                let mut s = Sum::default();
                w.iter().for_each(|w| s.add(&w.to_le_bytes()));
                s.check()
            };
            let before = sum(&words);
            let i = at.index(words.len());
            let old = core::mem::replace(&mut words[i], new);
            prop_assert_eq!(update(before, old, new), sum(&words));
        }

        #[test]
        fn one_flipped_bit_is_seen(bytes in prop::collection::vec(any::<u8>(), 1..80), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut s = Sum::default();
            s.add(&bytes);
            let mut other = bytes.clone();
            other[at.index(bytes.len())] ^= 1 << bit;
            let mut t = Sum::default();
            t.add(&other);
            prop_assert_ne!(s.check(), t.check());
        }
    }
}
