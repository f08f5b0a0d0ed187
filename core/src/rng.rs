//! Pseudo-random numbers from the seed given at construction, and nothing else.

use sha2::{Digest, Sha256};

/// SHA-256 in counter mode over a 32-byte seed. Same seed, same numbers.
#[derive(Clone)]
pub struct Rng {
    seed: [u8; 32],
    counter: u64,
}

impl Rng {
    /// A generator that is independent of others made from the same seed with
    /// another label.
    pub fn new(seed: &[u8; 32], label: &str) -> Self {
        let seed = Sha256::new().chain_update(seed).chain_update(label).finalize().into();
        Self { seed, counter: 0 }
    }

    /// The next 32 bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let block = Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes());
        self.counter = self.counter.wrapping_add(1);
        block.finalize().into()
    }

    /// The next number.
    pub fn u64(&mut self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl core::fmt::Debug for Rng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rng")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_other_label_other_numbers() {
        let (mut a, mut b) = (Rng::new(&[7; 32], "x"), Rng::new(&[7; 32], "x"));
        assert_eq!((a.u64(), a.u64()), (b.u64(), b.u64()));
        assert_ne!(a.u64(), a.u64());
        assert_ne!(Rng::new(&[7; 32], "x").u64(), Rng::new(&[7; 32], "y").u64());
        assert_ne!(Rng::new(&[8; 32], "x").u64(), Rng::new(&[7; 32], "x").u64());
    }
}
