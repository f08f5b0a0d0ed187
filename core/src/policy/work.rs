//! Proof of work of a block header.

use super::hash::double_sha256;
use super::reason::{Reason, Unrecognised};
use crate::id::Network;

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
    /// Hash of the header, in the byte order in which it is sent.
    pub(super) hash: [u8; 32],
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
    let network = chain.network;
    let [.., b0, b1, b2, b3, _, _, _, _] = *header;
    let bits = u32::from_le_bytes([b0, b1, b2, b3]);
    let target = target_from_bits(bits);
    let Some(target) = target.filter(|target| *target <= limit(network)) else {
        return Err(Reason::Target(network).at(at.saturating_add(72)));
    };
    let hash = double_sha256(header);
    let mut big_endian = hash;
    big_endian.reverse();
    if big_endian > target {
        return Err(Reason::Work.at(at));
    }
    let counts = chain.min_difficulty.is_some_and(|least| has_difficulty(bits, least));
    Ok(Proof { hash, counts })
}

/// Whether the target of valid difficulty bits is at most that of difficulty 1,
/// 0xffff * 256^26, divided by `least`.
fn has_difficulty(bits: u32, least: u64) -> bool {
    let [size, a, b, c] = bits.to_be_bytes();
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

/// The target of compact difficulty bits, big-endian; `None` if it is zero,
/// negative or over 256 bits (Bitcoin Core, `arith_uint256::SetCompact`).
fn target_from_bits(bits: u32) -> Option<[u8; 32]> {
    let [size, mantissa @ ..] = bits.to_be_bytes();
    if mantissa[0] & 0x80 != 0 {
        return None;
    }
    let mut target = [0; 32];
    let size = usize::from(size);
    for (i, &byte) in mantissa.iter().enumerate() {
        // Byte `i` of the mantissa has the weight 256^(size - 1 - i).
        let Some(weight) = size.checked_sub(1 + i) else { continue };
        match 31usize.checked_sub(weight).and_then(|at| target.get_mut(at)) {
            Some(place) => *place = byte,
            None if byte != 0 => return None,
            None => {}
        }
    }
    (target != [0; 32]).then_some(target)
}

/// Easiest target of a network (Bitcoin Core, `consensus.powLimit`), as far as
/// compact bits can write it.
fn limit(network: Network) -> [u8; 32] {
    let mut limit = [0; 32];
    let (head, tail) = limit.split_at_mut(8);
    match network {
        Network::Mainnet | Network::Testnet3 | Network::Testnet4 => {
            head.copy_from_slice(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
            tail.fill(0xff);
        }
        Network::Signet => head.copy_from_slice(&[0, 0, 0x03, 0x77, 0xae, 0, 0, 0]),
        Network::Regtest => {
            head.copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
            tail.fill(0xff);
        }
    }
    limit
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::OwnNetwork;
    use super::*;
    use bitcoin::CompactTarget;
    use bitcoin::block::Header;
    use bitcoin::consensus::{Params, deserialize, serialize};
    use bitcoin::constants::genesis_block;
    use bitcoin::pow::Target;
    use proptest::prelude::*;

    /// The same network in the `bitcoin` crate.
    pub(in super::super) fn oracle_network(network: Network) -> bitcoin::Network {
        match network {
            Network::Mainnet => bitcoin::Network::Bitcoin,
            Network::Testnet3 => bitcoin::Network::Testnet,
            Network::Testnet4 => bitcoin::Network::Testnet4,
            Network::Signet => bitcoin::Network::Signet,
            Network::Regtest => bitcoin::Network::Regtest,
        }
    }

    #[test]
    fn genesis_headers_are_worked_for_on_their_own_network() {
        for network in Network::ALL {
            let block = genesis_block(oracle_network(network));
            let header: [u8; 80] = serialize(&block.header).try_into().unwrap();
            let chain = Chain { network, magic: network.magic(), min_difficulty: Some(1) };
            let proof = check_work(&header, chain, 0).unwrap();
            assert_eq!(serialize(&block.block_hash()), proof.hash);
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

    #[test]
    fn limits_are_those_of_the_bitcoin_crate() {
        for network in Network::ALL {
            let params = Params::new(oracle_network(network));
            let attainable = params.max_attainable_target;
            // The crate gives what compact bits can write; nothing lies between.
            assert!(attainable.to_be_bytes() <= limit(network), "{network}");
            let bits = attainable.to_compact_lossy().to_consensus();
            assert!(target_from_bits(bits).unwrap() <= limit(network));
            assert!(
                target_from_bits(bits + 1).is_none_or(|next| next > limit(network)),
                "{network}"
            );
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
            assert_eq!(target_from_bits(bits), None, "{bits:#x}");
        }
        for (bits, low) in [
            (0x0112_3456, 0x12u64),
            (0x0212_3456, 0x1234),
            (0x0312_3456, 0x12_3456),
            (0x0412_3456, 0x1234_5600),
            (0x0500_9234, 0x9234_0000),
        ] {
            let target = target_from_bits(bits).unwrap();
            assert_eq!(target[24..], low.to_be_bytes(), "{bits:#x}");
            assert_eq!(target[..24], [0; 24]);
        }
        assert_eq!(target_from_bits(0x2012_3456).unwrap()[..4], [0x12, 0x34, 0x56, 0]);
        assert_eq!(target_from_bits(0x2200_0012).unwrap()[..2], [0x12, 0]);
        assert_eq!(target_from_bits(0x2200_1234), None);
        assert_eq!(target_from_bits(0x2300_0012), None);
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
            assert!(has_difficulty(bits, difficulty), "{bits:#x}");
            assert!(!has_difficulty(bits, difficulty + 1), "{bits:#x}");
        }
        assert!(has_difficulty(0x207f_ffff, 0));
        assert!(!has_difficulty(0x207f_ffff, 1));
        assert!(has_difficulty(0x0300_0001, u64::MAX));
    }

    proptest! {
        #[test]
        fn targets_agree_with_the_bitcoin_crate(size in 3u32..33, mantissa in 0u32..0x80_0000) {
            let bits = size << 24 | mantissa;
            let theirs = Target::from_compact(CompactTarget::from_consensus(bits)).to_be_bytes();
            prop_assert_eq!(target_from_bits(bits).unwrap_or([0; 32]), theirs);
        }

        #[test]
        fn difficulty_agrees_with_long_division(
            size in 0u32..35,
            mantissa in prop_oneof![0u32..0x80_0000, 0u32..0x1_0000, 1u32..0x100],
            shift in 0u32..64,
            least: u64,
        ) {
            let bits = size << 24 | mantissa;
            let Some(target) = target_from_bits(bits) else { return Ok(()) };
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
            prop_assert_eq!(has_difficulty(bits, least), target <= most);
        }
    }
}
