//! The block headers that a node has seen: a bounded window on the best chain.
//!
//! A header is kept if it carries the work that it claims, claims at least the
//! network's minimum, and follows a header that is kept. Whether the claimed
//! difficulty is the one that the chain demands takes the whole chain to know:
//! headers must come from the operator's own node.

pub use crate::block::HEADER_LEN;
use crate::block::{Proven, Unproven, prove};
use crate::config::fixed::HEADERS;
use crate::id::Network;
use crate::tables::{List, Memory};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};

/// What is known of a block: from a [`HeaderStore`], or as the operator's node
/// answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KnownHeader {
    /// Merkle root over its transactions, in internal byte order.
    pub merkle_root: [u8; 32],
    /// The time in it, in Unix seconds.
    pub time: u32,
    /// How deep it is in the best chain: 1 for the newest block, 0 if it is
    /// not, or no longer, in the best chain.
    pub confirmations: u32,
}

/// Why a header is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum HeaderError {
    /// `nBits` is negative, zero, larger than 256 bits, or easier than the
    /// network allows.
    #[error("the block header claims too little work, or its nBits encodes an invalid target")]
    BadTarget,
    /// The hash is above the target.
    #[error("the block header does not carry the work that it claims")]
    NoWork,
    /// The previous block is not kept. Give the headers between, or start over
    /// with [`HeaderStore::clear`].
    #[error("the block header does not follow any that is known")]
    Disconnected,
}

#[derive(Clone, Debug)]
struct Entry {
    hash: BlockHash,
    merkle_root: TxMerkleNode,
    time: u32,
    height: Option<u32>,
    /// Work from the first header kept, itself included.
    work: u128,
    /// How many headers before it the previous block's was inserted; 0: that is not kept.
    parent: u32,
}

/// The last headers, in a ring. When it is full the one that was inserted first
/// goes, also if it is the best. Every look-up reads each entry at most once.
pub struct HeaderStore<M: Memory> {
    ring: M::List<Entry, HEADERS>,
    /// Insertion number of the next header; its place is that modulo the capacity.
    next: u64,
    /// Insertion number of the header with most work; the first of equals.
    tip: Option<u64>,
    network: Network,
}

impl<M: Memory> HeaderStore<M> {
    /// An empty store that accepts no header yet.
    pub const EMPTY: Self =
        Self { ring: M::List::EMPTY, next: 0, tip: None, network: Network::Mainnet };

    /// Empties the store and makes room for `capacity` headers, 1 at least, that
    /// carry the network's least work or more.
    pub fn prepare(&mut self, capacity: usize, network: Network) {
        self.clear();
        self.ring.set_capacity(capacity.max(1));
        self.network = network;
    }

    /// Forgets every header; the next one starts a new window.
    pub fn clear(&mut self) {
        (self.tip, self.next) = (None, 0);
        self.ring.retain(|_| false);
    }

    /// Checks a header and keeps it. `height` is what the supplier says it is,
    /// used if no header before it has one. Returns the block's hash, in internal
    /// byte order; a header already kept changes nothing.
    ///
    /// # Errors
    /// [`HeaderError`]: its target or work is invalid, or it follows no known header.
    pub fn insert(
        &mut self,
        header: &[u8; HEADER_LEN],
        height: Option<u32>,
    ) -> Result<[u8; 32], HeaderError> {
        let Proven { header, hash } = prove(header, self.network).map_err(|why| match why {
            Unproven::Target => HeaderError::BadTarget,
            Unproven::Work => HeaderError::NoWork,
        })?;
        let known = hash.to_byte_array();
        if self.find(&hash).is_some() {
            return Ok(known);
        }
        let parent = self.find(&header.prev_blockhash);
        if parent.is_none() && !(self.ring.is_empty() && self.ring.capacity() > 0) {
            return Err(HeaderError::Disconnected);
        }
        let (mut work, mut height) = (work_of(header.bits), height);
        if let Some((_, p)) = parent {
            work = p.work.saturating_add(work);
            height = p.height.and_then(|h| h.checked_add(1)).or(height);
        }
        let parent = parent.and_then(|(number, _)| u32::try_from(self.next - number).ok());
        let (merkle_root, time) = (header.merkle_root, header.time);
        let parent = parent.unwrap_or_default();
        self.push(Entry { hash, merkle_root, time, height, work, parent });
        Ok(known)
    }

    /// What is known of a block by its hash, in internal byte order.
    pub fn get(&self, block_hash: &[u8; 32]) -> Option<KnownHeader> {
        let (number, e) = self.find(&BlockHash::from_byte_array(*block_hash))?;
        let (merkle_root, confirmations) = (e.merkle_root.to_byte_array(), self.depth(number));
        Some(KnownHeader { merkle_root, time: e.time, confirmations })
    }

    /// Hash of the best block, in internal byte order, and its height if known.
    pub fn tip(&self) -> Option<([u8; 32], Option<u32>)> {
        self.entry(self.tip?).map(|e| (e.hash.to_byte_array(), e.height))
    }

    /// Number of headers kept.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether no header is kept.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    fn place(&self, number: u64) -> usize {
        // Below the capacity, which is a `usize` and not 0.
        number.checked_rem(self.ring.capacity() as u64).unwrap_or_default() as usize
    }

    /// The entry with this insertion number, if it has not been overwritten.
    fn entry(&self, number: u64) -> Option<&Entry> {
        let kept = number < self.next && self.next - number <= self.ring.len() as u64;
        self.ring.get(self.place(number)).filter(|_| kept)
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + use<M> {
        // From the newest: that is what is asked for most.
        (self.next.saturating_sub(self.ring.len() as u64)..self.next).rev()
    }

    fn find(&self, hash: &BlockHash) -> Option<(u64, &Entry)> {
        self.numbers()
            .filter_map(|number| self.entry(number).map(|e| (number, e)))
            .find(|(_, e)| e.hash == *hash)
    }

    /// Blocks from the best down to this one, both counted; 0 if the best chain
    /// does not reach it. A parent's number is always lower than its child's.
    fn depth(&self, number: u64) -> u32 {
        let mut depth = 1;
        let mut at = self.tip;
        while let Some(here) = at.filter(|here| *here > number) {
            let parent = self.entry(here).map(|e| u64::from(e.parent)).filter(|back| *back > 0);
            at = parent.and_then(|back| here.checked_sub(back));
            depth += 1;
        }
        if at == Some(number) { depth } else { 0 }
    }

    fn push(&mut self, entry: Entry) {
        let number = self.next;
        let (place, work) = (self.place(number), entry.work);
        match self.ring.get_mut(place) {
            Some(oldest) => *oldest = entry,
            // The ring is not full: its length is the next place.
            None => drop(self.ring.try_push(entry)),
        }
        self.next += 1;
        self.tip = match self.tip.and_then(|t| self.entry(t).map(|e| (t, e.work))) {
            Some((tip, most)) if most >= work => Some(tip),
            Some(_) => Some(number),
            // The first header, or the best one went. The lowest number of equals.
            None => self.numbers().max_by_key(|n| self.entry(*n).map(|e| e.work)),
        };
    }
}

/// The easiest target of a network, as `nBits` (`powLimit` in Bitcoin Core's
/// chain parameters).
pub const fn pow_limit(network: Network) -> u32 {
    match network {
        Network::Mainnet | Network::Testnet3 | Network::Testnet4 => 0x1d00_ffff,
        Network::Signet => 0x1e03_77ae,
        Network::Regtest => 0x207f_ffff,
    }
}

/// Hashes that it takes to meet the target of `nBits`, which is valid; where they are more than
/// 2^105 (a block of mainnet takes 2^79), 2^128 - 1. It is 2^256 / (target + 1), and here without
/// the 1, which a target's 24 bits do not show: so no division of 256 bits is needed, which would
/// take 2 KB of a board's flash.
fn work_of(bits: CompactTarget) -> u128 {
    let bits = bits.to_consensus();
    let (size, mantissa) = (bits >> 24, u64::from(bits & 0x007f_ffff));
    // The target is the mantissa times 256^(size - 3).
    let Some(dividend) = 280_u32.checked_sub(8 * size).and_then(|n| 1u128.checked_shl(n)) else {
        return u128::MAX;
    };
    let (mut work, mut rest) = (0, 0);
    for at in (0..4).rev() {
        let digit = rest << 32 | (dividend >> (32 * at)) as u64 & 0xffff_ffff;
        work = work << 32 | u128::from(digit.checked_div(mantissa).unwrap_or(u64::MAX));
        rest = digit.checked_rem(mantissa).unwrap_or(0);
    }
    work
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    const GENESIS: &str = "0100000000000000000000000000000000000000000000000000000000000000000000\
        003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c";
    const BLOCK_1: &str = "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000\
        982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299";
    const BLOCK_100_000: &str = "0100000050120119172a610421a6c3011dd330d9df07b63616c2cc1f1cd002000000\
        00006657a9252aacd5c0b2940996ecff952228c3067cc38d4885efb5a4ac4247e9f337221b4d4c86041b0f2b5710";

    fn raw(hex_header: &str) -> [u8; 80] {
        hex::decode(hex_header).unwrap().try_into().unwrap()
    }

    fn shown(mut hash: [u8; 32]) -> std::string::String {
        hash.reverse();
        hex::encode(hash)
    }

    /// A header on `previous` with the work of regtest, told apart by `tag`.
    pub(crate) fn mined(previous: [u8; 32], tag: u8, bits: u32) -> [u8; 80] {
        let mut h = [0; 80];
        h[4..36].copy_from_slice(&previous);
        h[36..68].fill(tag);
        h[68..72].copy_from_slice(&1_700_000_000u32.to_le_bytes());
        h[72..76].copy_from_slice(&bits.to_le_bytes());
        for nonce in 0u32.. {
            h[76..].copy_from_slice(&nonce.to_le_bytes());
            if prove(&h, Network::Regtest).is_ok() {
                break;
            }
        }
        h
    }
    fn store_of(capacity: usize, network: Network) -> HeaderStore<Fixed> {
        let mut store = HeaderStore::EMPTY;
        store.prepare(capacity, network);
        store
    }

    const EASY: u32 = 0x207f_ffff;
    /// Four times the work of `EASY`.
    const HARDER: u32 = 0x201f_ffff;

    #[test]
    fn headers_of_the_main_network() {
        let mut store = store_of(4, Network::Mainnet);
        let genesis = store.insert(&raw(GENESIS), Some(0)).unwrap();
        let one = store.insert(&raw(BLOCK_1), None).unwrap();
        assert_eq!(
            [shown(genesis), shown(one)],
            [
                "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
                "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
            ]
        );
        assert_eq!(store.tip(), Some((one, Some(1))));
        let known = store.get(&genesis).unwrap();
        assert_eq!((known.confirmations, known.time), (2, 1_231_006_505));
        assert_eq!(
            shown(known.merkle_root),
            "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
        );
        assert_eq!(store.insert(&raw(BLOCK_100_000), None), Err(HeaderError::Disconnected));
        store.clear();
        assert!(store.is_empty() && store.get(&one).is_none());
        let hash = store.insert(&raw(BLOCK_100_000), Some(100_000)).unwrap();
        let known_hash = "000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506";
        assert_eq!(shown(hash), known_hash);
    }

    #[test]
    fn work_is_checked() {
        let mut store = store_of(4, Network::Mainnet);
        let mut forged = raw(GENESIS);
        forged[68] ^= 1;
        assert_eq!(store.insert(&forged, None), Err(HeaderError::NoWork));
        let easy = mined([0; 32], 1, EASY);
        assert_eq!(store.insert(&easy, None), Err(HeaderError::BadTarget));
        assert!(store.is_empty());
        assert!(store_of(4, Network::Regtest).insert(&easy, None).is_ok());
    }

    #[test]
    fn most_work_wins_and_stale_blocks_have_no_confirmation() {
        let mut store = store_of(8, Network::Regtest);
        let root = store.insert(&mined([0; 32], 0, EASY), Some(7)).unwrap();
        let a1 = store.insert(&mined(root, 1, EASY), None).unwrap();
        let a2 = store.insert(&mined(a1, 2, EASY), None).unwrap();
        let depth = |s: &HeaderStore<Fixed>, h| s.get(&h).unwrap().confirmations;
        assert_eq!([root, a1, a2].map(|h| depth(&store, h)), [3, 2, 1]);
        // One block with the work of four beats two with the work of one.
        let b1 = store.insert(&mined(root, 3, HARDER), None).unwrap();
        assert_eq!(store.tip(), Some((b1, Some(8))));
        assert_eq!([root, a1, a2, b1].map(|h| depth(&store, h)), [2, 0, 0, 1]);
        // Known headers again change nothing; an equal sibling does not win.
        store.insert(&mined(a1, 2, EASY), Some(1)).unwrap();
        store.insert(&mined(root, 4, HARDER), None).unwrap();
        assert_eq!((store.tip(), store.len()), (Some((b1, Some(8))), 5));
    }

    #[test]
    fn the_oldest_goes_even_if_it_is_the_best() {
        let mut store = store_of(3, Network::Regtest);
        let root = store.insert(&mined([0; 32], 0, EASY), None).unwrap();
        let best = store.insert(&mined(root, 1, 0x2001_0000), None).unwrap();
        let mut last = root;
        for tag in 2..4 {
            last = store.insert(&mined(last, tag, EASY), None).unwrap();
        }
        assert_eq!(store.tip().unwrap().0, best);
        let after = store.insert(&mined(last, 4, EASY), None).unwrap();
        assert!(store.get(&best).is_none());
        assert_eq!(store.tip().unwrap().0, after);
        assert_eq!(store.get(&last).unwrap().confirmations, 2);
    }

    #[test]
    fn a_long_chain_through_a_small_ring() {
        let mut store = store_of(5, Network::Regtest);
        let mut chain = StdVec::from([store.insert(&mined([0; 32], 0, EASY), Some(0)).unwrap()]);
        for tag in 1..100 {
            chain.push(store.insert(&mined(chain[tag as usize - 1], tag, EASY), None).unwrap());
            assert_eq!(store.tip(), Some((chain[tag as usize], Some(tag.into()))));
            for (back, hash) in chain.iter().rev().enumerate() {
                let depth = store.get(hash).map(|k| k.confirmations as usize);
                assert_eq!(depth, (back < 5).then_some(back + 1));
            }
        }
    }

    proptest! {
        #[test]
        fn work_is_that_of_the_bitcoin_crate(size in 0x14..=0x20u32, mantissa in 1..0x80_0000u32) {
            let bits = CompactTarget::from_consensus(size << 24 | mantissa);
            let oracle = bitcoin::Target::from_compact(bits).to_work().to_be_bytes();
            prop_assert_eq!(&oracle[..16], &[0; 16]);
            let expected = u128::from_be_bytes(oracle[16..].try_into().unwrap());
            // Small targets have a mantissa with zeros in front, and then 1 is a part of them.
            let error = expected / (1 << 24) + 1;
            prop_assert!(work_of(bits).abs_diff(expected) <= error, "{bits:x} {expected}");
        }

        #[test]
        fn arbitrary_headers(headers in prop::collection::vec(prop::collection::vec(any::<u8>(), 80), 0..8)) {
            let mut store = store_of(2, Network::Regtest);
            for h in headers {
                let mut h: [u8; 80] = h.try_into().unwrap();
                h[72..76].copy_from_slice(&EASY.to_le_bytes());
                let before = store.len();
                let inserted = store.insert(&h, None).is_ok();
                prop_assert!(store.len() <= 2);
                prop_assert!(inserted || store.len() == before);
            }
        }
    }
}
