//! Block headers and their proof of work, in the types of the `bitcoin` crate.

use crate::hash::double_sha256;
use crate::id::Network;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode};

/// Length of a serialised block header.
pub const HEADER_LEN: usize = 80;

/// A header whose hash is at most the target that it names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven {
    pub(crate) header: Header,
    pub(crate) hash: BlockHash,
}

/// Why a header proves no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// Its target is invalid, or easier than the network allows.
    Target,
    /// Its hash is above the target.
    Work,
}

/// Reads a header, which must carry the work that it claims, at least the network's least.
#[inline(never)]
pub(crate) fn prove(bytes: &[u8; HEADER_LEN], network: Network) -> Result<Proven, Unproven> {
    let header = header(bytes);
    let target = target(header.bits).filter(|target| *target <= easiest_target(network));
    let target = target.ok_or(Unproven::Target)?;
    let hash = BlockHash::from_byte_array(double_sha256(bytes));
    if target.is_met_by(hash) { Ok(Proven { header, hash }) } else { Err(Unproven::Work) }
}

/// The fields of a header. Every 80 bytes are one, so that it takes no decoder, which could fail.
fn header(bytes: &[u8; HEADER_LEN]) -> Header {
    fn at<const K: usize>(bytes: &[u8; HEADER_LEN], offset: usize) -> [u8; K] {
        core::array::from_fn(|i| bytes.get(offset + i).copied().unwrap_or_default())
    }
    Header {
        version: Version::from_consensus(i32::from_le_bytes(at(bytes, 0))),
        prev_blockhash: BlockHash::from_byte_array(at(bytes, 4)),
        merkle_root: TxMerkleNode::from_byte_array(at(bytes, 36)),
        time: u32::from_le_bytes(at(bytes, 68)),
        bits: CompactTarget::from_consensus(u32::from_le_bytes(at(bytes, 72))),
        nonce: u32::from_le_bytes(at(bytes, 76)),
    }
}

/// The target that `nBits` stands for. `None` if it is zero, negative or larger than 256 bits
/// (Bitcoin Core, `arith_uint256::SetCompact`): `bitcoin` cuts such numbers off.
pub(crate) fn target(bits: CompactTarget) -> Option<Target> {
    let number = bits.to_consensus();
    let (size, mantissa) = (number >> 24, number & 0x00ff_ffff);
    // The mantissa times 256^(size - 3).
    let length = 32 - mantissa.leading_zeros() + 8 * size;
    let fits = mantissa < 1 << 23 && length <= 8 * 3 + 256;
    fits.then(|| Target::from_compact(bits)).filter(|target| *target != Target::ZERO)
}

/// The easiest target of a network.
const fn easiest_target(network: Network) -> Target {
    match network {
        Network::Mainnet => Target::MAX_ATTAINABLE_MAINNET,
        Network::Testnet3 | Network::Testnet4 => Target::MAX_ATTAINABLE_TESTNET,
        Network::Signet => Target::MAX_ATTAINABLE_SIGNET,
        Network::Regtest => Target::MAX_ATTAINABLE_REGTEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::Params;
    use proptest::prelude::*;

    /// Big-endian.
    fn target_of(bits: u32) -> Option<[u8; 32]> {
        target(CompactTarget::from_consensus(bits)).map(Target::to_be_bytes)
    }

    #[test]
    fn limits_are_those_of_the_networks() {
        for network in Network::ALL {
            let params = Params::new(network.into());
            assert_eq!(easiest_target(network), params.max_attainable_target, "{network}");
            let bits = params.max_attainable_target.to_compact_lossy().to_consensus();
            let target = |bits| target(CompactTarget::from_consensus(bits));
            assert_eq!(target(bits), Some(easiest_target(network)));
            // Nothing lies between this limit and Bitcoin Core's.
            assert!(target(bits + 1).is_none_or(|next| next > easiest_target(network)));
        }
    }

    #[test]
    fn negative_zero_and_overflowing_bits_give_no_target() {
        // Bitcoin Core, src/test/arith_uint256_tests.cpp, bignum_SetCompact.
        for bits in [
            0,
            0x0012_3456,
            0x0100_3456,
            0x0200_0056,
            0x0300_0000,
            0x0400_0000,
            0x0092_3456,
            0x0180_3456,
            0x0280_0056,
            0x0380_0000,
            0x0480_0000,
            0x01fe_dcba,
            0x0492_3456,
            0xff12_3456,
        ] {
            assert_eq!(target_of(bits), None, "{bits:#x}");
        }
        for (bits, low) in [
            (0x0112_3456, 0x12u64),
            (0x0212_3456, 0x1234),
            (0x0312_3456, 0x12_3456),
            (0x0412_3456, 0x1234_5600),
            (0x0500_9234, 0x9234_0000),
        ] {
            let target = target_of(bits).unwrap();
            assert_eq!(target[24..], low.to_be_bytes(), "{bits:#x}");
            assert_eq!(target[..24], [0; 24]);
        }
        assert_eq!(target_of(0x2012_3456).unwrap()[..4], [0x12, 0x34, 0x56, 0]);
        assert_eq!(target_of(0x2200_0012).unwrap()[..2], [0x12, 0]);
        assert_eq!(target_of(0x2200_1234), None);
        assert_eq!(target_of(0x2300_0012), None);
    }

    proptest! {
        #[test]
        fn targets_agree_with_the_bitcoin_crate(size in 3u32..33, mantissa in 0u32..0x80_0000) {
            let bits = size << 24 | mantissa;
            let theirs = Target::from_compact(CompactTarget::from_consensus(bits)).to_be_bytes();
            prop_assert_eq!(target_of(bits).unwrap_or([0; 32]), theirs);
        }

        /// Where the `bitcoin` crate's number does not lose digits, ours is the same.
        #[test]
        fn target_agrees_with_oracle(exponent in 0..=34u32, mantissa in 0..=0xff_ffffu32) {
            let bits = exponent << 24 | mantissa;
            let ours = target_of(bits);
            // Core: negative if the sign bit is set; overflow if a digit falls off the left.
            let significant = (4 - mantissa.leading_zeros() / 8) + exponent;
            if mantissa > 0x7f_ffff || mantissa == 0 || significant > 32 + 3 {
                prop_assert_eq!(ours, None);
            } else {
                let oracle = Target::from_compact(CompactTarget::from_consensus(bits)).to_be_bytes();
                prop_assert_eq!(ours, (oracle != [0; 32]).then_some(oracle));
            }
        }
    }
}
