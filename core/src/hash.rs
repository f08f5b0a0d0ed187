//! Bitcoin's double SHA-256, and tagged hashes (BIP 340).
//!
//! `bitcoin` has its own SHA-256, which takes no hardware on most processors and would be a second
//! one in an image for boards; so hashes are made here, with `sha2`.
//!
//! The second hash is over 32 bytes, which fill one block: that block is
//! written out here, because for small messages the buffering around it costs
//! half as much as the hashing.

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

/// A tagged hash (BIP 340) of what is still to be added.
#[inline(never)]
pub(crate) fn tagged(tag: &[u8]) -> Sha256 {
    let tag = Sha256::digest(tag);
    let mut hash = Sha256::new();
    hash.update(tag);
    hash.update(tag);
    hash
}

/// A tagged hash (BIP 340) of parts put together. Never inlined: in line a hash of many parts
/// takes half a kilobyte of a board's flash.
#[inline(never)]
pub(crate) fn tagged_parts(tag: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = tagged(tag);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// SHA-256 of SHA-256.
pub(crate) fn double_sha256(bytes: &[u8]) -> [u8; 32] {
    again(Sha256::digest(bytes).into())
}

/// SHA-256 of SHA-256 of parts put together.
pub(crate) fn double_sha256_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut first = Sha256::new();
    parts.iter().for_each(|part| first.update(part));
    again(first.finalize().into())
}

/// SHA-256 of SHA-256 of two hashes: their parent in a Merkle tree.
pub(crate) fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    /// FIPS 180-4, section 5.1.1: the end of a message of 64 bytes.
    const END: [u8; 64] = {
        let mut block = [0; 64];
        block[0] = 0x80;
        block[62] = 2;
        block
    };
    again(run(&[join(left, right), END]))
}

/// The second SHA-256.
fn again(first: [u8; 32]) -> [u8; 32] {
    /// FIPS 180-4, section 5.1.1: the end of a message of 32 bytes.
    const END: [u8; 32] = {
        let mut half = [0; 32];
        half[0] = 0x80;
        half[30] = 1;
        half
    };
    run(&[join(&first, &END)])
}

fn join(left: &[u8; 32], right: &[u8; 32]) -> [u8; 64] {
    let mut both = [0; 64];
    let (head, tail) = both.split_at_mut(32);
    head.copy_from_slice(left);
    tail.copy_from_slice(right);
    both
}

/// FIPS 180-4, section 6.2, from the initial value of section 5.3.3.
fn run(blocks: &[[u8; 64]]) -> [u8; 32] {
    let mut state = [
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
        0x5be0cd19,
    ];
    compress256(&mut state, blocks);
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::{Hash, sha256d};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_bitcoin_crate(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            pair: [[u8; 32]; 2],
            cut: [prop::sample::Index; 2],
        ) {
            let oracle = |bytes: &[u8]| sha256d::Hash::hash(bytes).to_byte_array();
            prop_assert_eq!(double_sha256(&bytes), oracle(&bytes));
            prop_assert_eq!(parent(&pair[0], &pair[1]), oracle(&pair.concat()));
            let [a, b] = cut.map(|at| at.index(bytes.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            let parts = [&bytes[..a], &bytes[a..b], &bytes[b..]];
            prop_assert_eq!(double_sha256_parts(&parts), oracle(&bytes));
        }
    }
}
