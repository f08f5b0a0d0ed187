//! Proof of work of a block header.

use super::reason::{Reason, Unrecognised};
use crate::block::{Proven, Unproven, prove};
use crate::id::Network;
use bitcoin::block::Header;
use bitcoin::{BlockHash, CompactTarget};

/// The network of a message, and the difficulty from which on its work counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    pub(super) network: Network,
    /// First bytes of its messages.
    pub(super) magic: [u8; 4],
    /// `None`: its work does not count.
    pub(super) min_difficulty: Option<u64>,
}

/// What a header's own proof of work shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) header: Header,
    pub(super) hash: BlockHash,
    /// The difficulty is one that counts.
    pub(super) counts: bool,
}

/// Checks that a header's hash is not over the target that its own bits give,
/// and that this target is one that the network allows. `at` is the header's
/// place in the payload.
pub(super) fn check_work(
    header: &[u8; 80],
    chain: Chain,
    at: usize,
) -> Result<Proof, Unrecognised> {
    let Proven { header, hash } = prove(header, chain.network).map_err(|why| match why {
        Unproven::Target => Reason::Target(chain.network).at(at.saturating_add(72)),
        Unproven::Work => Reason::Work.at(at),
    })?;
    let counts = chain.min_difficulty.is_some_and(|least| has_difficulty(header.bits, least));
    Ok(Proof { header, hash, counts })
}

/// Whether the target of valid difficulty bits is at most that of difficulty 1,
/// 0xffff * 256^26, divided by `least`. A division of 256 bits, with which `bitcoin` finds a
/// difficulty, costs more than the header's hash.
fn has_difficulty(bits: CompactTarget, least: u64) -> bool {
    let [size, a, b, c] = bits.to_consensus().to_be_bytes();
    // The target is the mantissa, 24 bits, times 256^(size - 3); both sides times `least`.
    let product = u128::from(u32::from_be_bytes([0, a, b, c])).saturating_mul(least.into());
    let shift = 8 * u32::from(size.abs_diff(29));
    if size > 29 {
        product <= 0xffff_u128.checked_shr(shift).unwrap_or(0)
    } else {
        // Over 88 bits the right side is the larger one in any case.
        product <= 0xffff << shift.min(88)
    }
}

#[cfg(test)]
mod tests {
    use super::super::OwnNetwork;
    use super::*;
    use crate::block::target;
    use bitcoin::block::Header;
    use bitcoin::consensus::{deserialize, serialize};
    use bitcoin::constants::genesis_block;
    use proptest::prelude::*;

    #[test]
    fn genesis_headers_are_worked_for_on_their_own_network() {
        for network in Network::ALL {
            let block = genesis_block(bitcoin::Network::from(network));
            let header: [u8; 80] = serialize(&block.header).try_into().unwrap();
            let chain = Chain { network, magic: network.magic(), min_difficulty: Some(1) };
            let proof = check_work(&header, chain, 0).unwrap();
            assert_eq!(block.block_hash(), proof.hash);
            let hard = !matches!(network, Network::Regtest | Network::Signet);
            assert_eq!(proof.counts, hard, "{network}");
            let mut idle = header;
            idle[76] ^= 0x55;
            let oracle: Header = deserialize(&idle).unwrap();
            let fits = oracle.validate_pow(oracle.target()).is_ok();
            assert_eq!(check_work(&idle, chain, 3).is_ok(), fits);
            if !fits {
                assert_eq!(check_work(&idle, chain, 3), Err(Reason::Work.at(3)));
            }
        }
        let header: [u8; 80] =
            serialize(&genesis_block(bitcoin::Network::Regtest).header).try_into().unwrap();
        assert_eq!(
            check_work(
                &header,
                OwnNetwork::new(Network::Mainnet).chain_of(&Network::Mainnet.magic()).unwrap(),
                1
            ),
            Err(Reason::Target(Network::Mainnet).at(73))
        );
    }

    fn has(bits: u32, least: u64) -> bool {
        has_difficulty(CompactTarget::from_consensus(bits), least)
    }

    #[test]
    fn difficulty_of_real_bits() {
        // Main network: heights 0, 125,552, about 329,000, 794,143 and 840,000.
        for (bits, difficulty) in [
            (0x1d00_ffff, 1u64),
            (0x1a44_b9f2, 244_112),
            (0x181b_c330, 39_603_666_252),
            (0x1705_7e69, 51_234_338_863_442),
            (0x1703_4219, 86_388_558_925_171),
        ] {
            assert!(has(bits, difficulty), "{bits:#x}");
            assert!(!has(bits, difficulty + 1), "{bits:#x}");
        }
        assert!(has(0x207f_ffff, 0));
        assert!(!has(0x207f_ffff, 1));
        assert!(has(0x0300_0001, u64::MAX));
    }

    proptest! {
        #[test]
        fn difficulty_agrees_with_long_division(
            size in 0u32..35,
            mantissa in prop_oneof![0u32..0x80_0000, 0u32..0x1_0000, 1u32..0x100],
            shift in 0u32..64,
            least: u64,
        ) {
            let bits = size << 24 | mantissa;
            let Some(target) = target(CompactTarget::from_consensus(bits)) else { return Ok(()) };
            let target = target.to_be_bytes();
            // Target of difficulty `least`: 0xffff * 256^26, byte by byte.
            let least = least >> shift;
            let mut rest = 0u128;
            let mut most = [0u8; 32];
            for (i, byte) in most.iter_mut().enumerate() {
                rest = rest << 8 | if matches!(i, 4 | 5) { 0xff } else { 0 };
                if least > 0 {
                    *byte = (rest / u128::from(least)) as u8;
                    rest %= u128::from(least);
                } else {
                    *byte = 0xff;
                }
            }
            prop_assert_eq!(has(bits, least), target <= most);
        }
    }
}
