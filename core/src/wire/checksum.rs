//! The packet check: the Internet checksum (RFC 1071) in 32-bit words.
//!
//! It finds accidents, not attacks: authenticity comes from the link and from
//! signatures. One's complement lets a relay that lowers the hop limit correct
//! the check without reading the payload again (RFC 1624).

/// A running one's-complement sum of little-endian 32-bit words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Modulo 2^32 - 1, which itself stands for 0 as well.
    sum: u32,
    /// Bytes added, modulo 4.
    len: usize,
}

impl Sum {
    /// Adds bytes; they may end within a word, the next call goes on there.
    pub fn add(&mut self, bytes: &[u8]) {
        // In this arithmetic 2^32 is 1, so a shift is a rotation.
        let part = sum(bytes).rotate_left(8 * self.len as u32);
        self.sum = fold(u64::from(self.sum) + u64::from(part));
        self.len = self.len.wrapping_add(bytes.len()) % 4;
    }

    /// The check of everything added: the complement of the sum, where the sum
    /// is the smallest representative (0 to 2^32 - 2). A last word that is not
    /// complete counts as if zeros followed.
    pub fn check(self) -> u32 {
        if self.sum == u32::MAX { u32::MAX } else { !self.sum }
    }
}

/// The sum of bytes; as if zeros followed if the last word is not complete.
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u64::from(*byte));
    // Under 2^32 words do not overflow. The compiler adds several of them at once.
    fold(words.iter().map(|word| u64::from(u32::from_le_bytes(*word))).sum::<u64>() + last)
}

/// The same modulo 2^32 - 1; above 0 if the number is.
fn fold(mut number: u64) -> u32 {
    // End-around carry. What is left of it after the first round is at most 1.
    for _ in 0..2 {
        number = (number >> 32) + (number & u64::from(u32::MAX));
    }
    number as u32
}

/// Whether a whole packet with this check in it is free of accidents.
pub fn holds(packet: &[u8], check: u32) -> bool {
    // The check of a sum of 0 is 2^32 - 1, never 0.
    sum(packet) == u32::MAX && check != 0
}

/// The check after one 32-bit word changed from `old` to `new` (RFC 1624, eqn. 3).
pub fn update(check: u32, old: u32, new: u32) -> u32 {
    fold(u64::from(check) + u64::from(old) + u64::from(!new))
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
