//! What a header must be after those before it (Bitcoin Core, `pow.cpp` and
//! `ContextualCheckBlockHeader`).

use super::root::PERIOD;
use bitcoin::block::Header;
use bitcoin::consensus::Params;
use bitcoin::{BlockHash, CompactTarget};
use blvm_mesh_core::id::Network;

/// Blocks whose middle time a new one must be later than.
const MEDIAN_OF: u32 = 11;
/// How far ahead of the clock a header may be dated (Bitcoin Core, MAX_FUTURE_BLOCK_TIME).
const FUTURE_S: u64 = 2 * 3600;
/// How far before the last block of a period the first of the next may be dated (BIP 94).
const TIMEWARP_S: u32 = 600;
/// A pause after which the test networks allow the least difficulty.
const EASY_AFTER_S: u32 = 20 * 60;

pub(super) fn params(network: Network) -> Params {
    Params::new(bitcoin::Network::from(network))
}

/// What later headers depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) time: u32,
    pub(super) bits: CompactTarget,
}

impl From<&Header> for Point {
    fn from(header: &Header) -> Self {
        Self { time: header.time, bits: header.bits }
    }
}

/// The headers before the one that is checked.
pub(super) trait Ancestors {
    /// The one at this height. `None`: it is before the checkpoint, or cannot be read.
    fn point(&self, height: u32) -> Option<Point>;
    /// The difficulty after the checkpoint, and where that is.
    fn root(&self) -> (u32, Option<CompactTarget>);
}

/// Why a header does not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("it has not the difficulty that the chain demands")]
    Difficulty,
    #[error("it has not the work that it claims")]
    Work,
    #[error("it is dated before the blocks that it follows")]
    Early,
    #[error("it is dated more than two hours ahead of this machine's clock")]
    Late,
    #[error("the headers that it follows cannot be read")]
    Unreadable,
}

/// The difficulty that a header at this height, with this time, must have.
fn required(
    network: Network,
    params: &Params,
    before: &impl Ancestors,
    height: u32,
    time: u32,
) -> Option<CompactTarget> {
    let last = height.checked_sub(1)?;
    if let (root, Some(bits)) = before.root()
        && root == last
    {
        return Some(bits);
    }
    let previous = before.point(last)?;
    if params.no_pow_retargeting {
        return Some(previous.bits);
    }
    if height.is_multiple_of(PERIOD) {
        let first = before.point(height.checked_sub(PERIOD)?)?;
        let timespan = u64::from(previous.time).saturating_sub(u64::from(first.time));
        // BIP 94: the difficulty of a period is that of its first block.
        let base = if network == Network::Testnet4 { first.bits } else { previous.bits };
        return Some(CompactTarget::from_next_work_required(base, timespan, params));
    }
    if !params.allow_min_difficulty_blocks {
        return Some(previous.bits);
    }
    let easiest = params.max_attainable_target.to_compact_lossy();
    if time > previous.time.saturating_add(EASY_AFTER_S) {
        return Some(easiest);
    }
    // That of the last block which was not an easy one.
    let (mut at, mut point) = (last, previous);
    while !at.is_multiple_of(PERIOD) && point.bits == easiest {
        let Some(earlier) = at.checked_sub(1).and_then(|at| before.point(at)) else { break };
        (at, point) = (at - 1, earlier);
    }
    Some(point.bits)
}

/// Checks a header at this height. `now` is in seconds since 1970; `None`: it was checked before,
/// when the clock was right.
pub(super) fn check(
    network: Network,
    params: &Params,
    before: &impl Ancestors,
    (height, header): (u32, &Header),
    now: Option<u64>,
) -> Result<BlockHash, Broken> {
    let bits = required(network, params, before, height, header.time).ok_or(Broken::Unreadable)?;
    if header.bits != bits {
        return Err(Broken::Difficulty);
    }
    let hash = header.validate_pow(header.target()).map_err(|_| Broken::Work)?;
    let mut times = [0; MEDIAN_OF as usize];
    let mut known = 0;
    for (place, back) in times.iter_mut().zip(1..=MEDIAN_OF) {
        let Some(point) = height.checked_sub(back).and_then(|at| before.point(at)) else { break };
        *place = point.time;
        known += 1;
    }
    let times = times.get_mut(..known).unwrap_or_default();
    times.sort_unstable();
    // After a checkpoint too few are known at first.
    let whole = known == MEDIAN_OF as usize || height == known as u32;
    if let Some(middle) = times.get(known / 2).filter(|_| whole)
        && header.time <= *middle
    {
        return Err(Broken::Early);
    }
    if network == Network::Testnet4
        && height.is_multiple_of(PERIOD)
        && let Some(previous) = height.checked_sub(1).and_then(|at| before.point(at))
        && header.time < previous.time.saturating_sub(TIMEWARP_S)
    {
        return Err(Broken::Early);
    }
    if now.is_some_and(|now| u64::from(header.time) > now.saturating_add(FUTURE_S)) {
        return Err(Broken::Late);
    }
    Ok(hash)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bitcoin::TxMerkleNode;
    use bitcoin::hashes::Hash;
    use std::collections::BTreeMap;

    /// A header with the work that it claims.
    pub(crate) fn mine(previous: BlockHash, time: u32, bits: CompactTarget, tag: u8) -> Header {
        let merkle_root = TxMerkleNode::from_byte_array([tag; 32]);
        let version = bitcoin::block::Version::from_consensus(4);
        let mut header =
            Header { version, prev_blockhash: previous, merkle_root, time, bits, nonce: 0 };
        while header.validate_pow(header.target()).is_err() {
            header.nonce += 1;
        }
        header
    }

    /// Headers at some heights.
    #[derive(Default)]
    struct Known(BTreeMap<u32, Point>, (u32, Option<CompactTarget>));

    impl Ancestors for Known {
        fn point(&self, height: u32) -> Option<Point> {
            self.0.get(&height).copied()
        }
        fn root(&self) -> (u32, Option<CompactTarget>) {
            self.1
        }
    }

    fn bits(n: u32) -> CompactTarget {
        CompactTarget::from_consensus(n)
    }

    fn known(points: impl IntoIterator<Item = (u32, u32, u32)>) -> Known {
        let points = points.into_iter().map(|(at, time, b)| (at, Point { time, bits: bits(b) }));
        Known(points.collect(), (0, None))
    }

    fn demands(network: Network, before: &Known, height: u32, time: u32) -> Option<u32> {
        required(network, &params(network), before, height, time).map(CompactTarget::to_consensus)
    }

    #[test]
    fn difficulty_changes_as_bitcoin_core_computes_it() {
        // Bitcoin Core, src/test/pow_tests.cpp: get_next_work, ..._pow_limit,
        // ..._lower_limit_actual and ..._upper_limit_actual.
        for (first, height, time, before, after) in [
            (1_261_130_161, 32_255, 1_262_152_739, 0x1d00_ffff, 0x1d00_d86a),
            (1_231_006_505, 2015, 1_233_061_996, 0x1d00_ffff, 0x1d00_ffff),
            (1_279_008_237, 68_543, 1_279_297_671, 0x1c05_a3f4, 0x1c01_68fd),
            (1_263_163_443, 48_383, 1_269_211_443, 0x1c38_7f6f, 0x1d00_e1fd),
        ] {
            let chain = known([(height - 2015, first, before), (height, time, before)]);
            assert_eq!(demands(Network::Mainnet, &chain, height + 1, 0), Some(after), "{height}");
            assert_eq!(demands(Network::Mainnet, &chain, height + 2, 0), None);
        }
        // A period that ends before it began counts as the shortest.
        let chain = known([(0, 500, 0x1c05_a3f4), (2015, 400, 0x1c05_a3f4)]);
        assert_eq!(demands(Network::Mainnet, &chain, 2016, 0), Some(0x1c01_68fd));
        // Within a period nothing changes, whatever the time.
        let chain = known([(2017, 100, 0x1c05_a3f4)]);
        assert_eq!(demands(Network::Mainnet, &chain, 2018, u32::MAX), Some(0x1c05_a3f4));
        // After a checkpoint at the end of a period its own word counts.
        let chain = Known(BTreeMap::new(), (4031, Some(bits(0x1702_40c3))));
        assert_eq!(demands(Network::Mainnet, &chain, 4032, 0), Some(0x1702_40c3));
        assert_eq!(demands(Network::Mainnet, &chain, 4033, 0), None);
    }

    #[test]
    fn test_networks_allow_easy_blocks_after_a_pause() {
        const EASY: u32 = 0x1d00_ffff;
        const HARD: u32 = 0x1c05_a3f4;
        let chain = known([(4033, 100, HARD), (4034, 1_400, EASY), (4035, 2_700, EASY)]);
        for network in [Network::Testnet3, Network::Testnet4] {
            assert_eq!(demands(network, &chain, 4036, 2_700 + 1_200), Some(HARD), "{network}");
            assert_eq!(demands(network, &chain, 4036, 2_700 + 1_201), Some(EASY), "{network}");
        }
        assert_eq!(demands(Network::Signet, &chain, 4034, 9_999), Some(HARD));
        // The look back ends with the period.
        let chain = known([(4031, 100, HARD), (4032, 1_400, EASY), (4033, 1_500, EASY)]);
        assert_eq!(demands(Network::Testnet3, &chain, 4034, 1_600), Some(EASY));
        // What the next period starts from: the last block's difficulty, with BIP 94 the first's.
        let day = 24 * 3600;
        let chain = known([(0, 0, HARD), (2015, 14 * day, EASY)]);
        assert_eq!(demands(Network::Testnet3, &chain, 2016, 0), Some(EASY));
        assert_eq!(demands(Network::Testnet4, &chain, 2016, 0), Some(HARD));
        let chain = known([(4032, 0, 0x207f_ffff)]);
        assert_eq!(demands(Network::Regtest, &chain, 4033, u32::MAX), Some(0x207f_ffff));
    }

    #[test]
    fn a_header_has_work_and_a_time_that_fits() {
        const EASY: u32 = 0x207f_ffff;
        let chain = known((0..20).map(|at| (at, 1_000 + 10 * at, EASY)));
        let (network, params) = (Network::Regtest, params(Network::Regtest));
        let check_at = |header: &Header, now| check(network, &params, &chain, (20, header), now);
        let at = |time| mine(BlockHash::all_zeros(), time, bits(EASY), 1);
        // The middle of heights 9 to 19 is 14.
        assert_eq!(check_at(&at(1_140), None), Err(Broken::Early));
        let good = at(1_141);
        assert_eq!(check_at(&good, None), Ok(good.block_hash()));
        assert_eq!(check_at(&at(9_000), Some(1_800)), Ok(at(9_000).block_hash()));
        assert_eq!(check_at(&at(9_000), Some(1_799)), Err(Broken::Late));
        let harder = mine(BlockHash::all_zeros(), 1_141, bits(0x201f_ffff), 1);
        assert_eq!(check_at(&harder, None), Err(Broken::Difficulty));
        let mut idle = good;
        while idle.validate_pow(idle.target()).is_ok() {
            idle.nonce += 1;
        }
        assert_eq!(check_at(&idle, None), Err(Broken::Work));
        // The first blocks have fewer before them; after a checkpoint too few are known.
        let first = known([(0, 1_000, EASY)]);
        let follows = |chain: &Known, height, time| {
            check(network, &params, chain, (height, &at(time)), None).map(drop)
        };
        assert_eq!(follows(&first, 1, 1_000), Err(Broken::Early));
        assert_eq!(follows(&first, 1, 1_001), Ok(()));
        assert_eq!(follows(&known([(50, 1_000, EASY)]), 51, 1), Ok(()));
        assert_eq!(follows(&Known::default(), 51, 1), Err(Broken::Unreadable));
    }
}
