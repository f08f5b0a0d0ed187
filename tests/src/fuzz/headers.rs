//! The store of block headers, against the `bitcoin` crate's proof of work and a
//! list of what is in it.

use super::Choices;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{CompactTarget, Target};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::headers::{HeaderError, HeaderStore, pow_limit};
use blvm_mesh_core::tables::Heap;

const ROOM: usize = 4;

/// Headers as they come, most of them put on one that is known and mined.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let mut store = HeaderStore::EMPTY;
    store.prepare(ROOM, Network::Regtest);
    let mut kept: Vec<Header> = Vec::new();
    let mut accepted = false;
    while !choices.is_empty() {
        let how = choices.byte();
        let mut header: Header = deserialize(&choices.array::<80>()).expect("any 80 bytes");
        if how & 1 != 0 && !kept.is_empty() {
            header.prev_blockhash = kept[usize::from(how >> 4) % kept.len()].block_hash();
        }
        if how & 2 != 0 {
            header.bits = CompactTarget::from_consensus(pow_limit(Network::Regtest));
        }
        for _ in 0..if how & 4 == 0 { 0 } else { 32 } {
            if header.validate_pow(header.target()).is_ok() {
                break;
            }
            header.nonce = header.nonce.wrapping_add(1);
        }
        if how & 8 != 0 {
            kept.clear();
            store.clear();
        }
        accepted |= insert(&mut store, &mut kept, header, how);
    }
    accepted
}

fn insert(store: &mut HeaderStore<Heap>, kept: &mut Vec<Header>, header: Header, how: u8) -> bool {
    let bytes: [u8; 80] = serialize(&header).try_into().expect("80 bytes");
    let hash = header.block_hash();
    let known = kept.iter().any(|h| h.block_hash() == hash);
    let follows = kept.iter().any(|h| h.block_hash() == header.prev_blockhash);
    let before = (store.len(), store.tip());
    let limit = Target::from_compact(CompactTarget::from_consensus(pow_limit(Network::Regtest)));
    let answer = store.insert(&bytes, (how & 16 != 0).then_some(u32::MAX - u32::from(how)));
    match answer {
        Ok(ours) => {
            assert_eq!(ours, hash.to_byte_array());
            assert!(header.target() <= limit);
            assert!(header.validate_pow(header.target()).is_ok());
            assert!(known || follows || kept.is_empty());
            if !known {
                kept.push(header);
            }
            if kept.len() > ROOM {
                kept.remove(0);
            }
        }
        Err(error) => {
            assert_eq!((store.len(), store.tip()), before, "nothing changed: {error}");
            match error {
                HeaderError::NoWork => assert!(header.validate_pow(header.target()).is_err()),
                HeaderError::Disconnected => assert!(!follows && !kept.is_empty()),
                HeaderError::BadTarget => {
                    let bits = header.bits.to_consensus();
                    let negative = bits & 0x0080_0000 != 0;
                    let target = header.target();
                    // The crate drops what does not fit into 256 bits.
                    let too_large = bits >> 24 > 32;
                    assert!(negative || too_large || target > limit || target == Target::ZERO);
                }
            }
        }
    }
    assert_eq!(store.len(), kept.len());
    let best = store.tip().map(|(hash, _)| hash);
    for header in kept.iter() {
        let found = store.get(&header.block_hash().to_byte_array()).expect("it is kept");
        assert_eq!(found.merkle_root, header.merkle_root.to_byte_array());
        assert_eq!(found.time, header.time);
        assert_eq!(Ok(found.confirmations), u32::try_from(depth(kept, best, header)));
    }
    answer.is_ok()
}

/// Blocks from the best one down to this one.
fn depth(kept: &[Header], best: Option<[u8; 32]>, header: &Header) -> usize {
    let by_hash = |hash: [u8; 32]| kept.iter().find(|h| h.block_hash().to_byte_array() == hash);
    let mut at = best.and_then(by_hash);
    let mut depth = 1;
    while let Some(here) = at {
        if here == header {
            return depth;
        }
        at = by_hash(here.prev_blockhash.to_byte_array());
        depth += 1;
    }
    0
}
