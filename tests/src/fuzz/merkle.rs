//! Merkle paths against the `bitcoin` crate's tree.

use super::Choices;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Txid, merkle_tree};
use blvm_mesh_core::payment::merkle::{MerkleError, branch, root_of};

/// A path over made-up leaves leads to the root; any bytes are no path to it.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let (count, at) = (choices.below(40), choices.below(40));
    let mut leaves: Vec<[u8; 32]> = (0..count).map(|_| choices.array()).collect();
    let ids = leaves.iter().map(|id| Txid::from_byte_array(*id));
    let root = merkle_tree::calculate_root(ids).map(|root| root.to_byte_array());
    let leaf = leaves.get(at).copied();
    let branch = branch(&mut leaves, at);
    assert_eq!(branch.is_some(), leaf.is_some());
    let (Some(leaf), Some(branch)) = (leaf, branch) else {
        return made_up(choices);
    };
    assert_eq!(Some(branch.root), root);
    let path = branch.siblings.concat();
    let place = at as u32;
    let good = match root_of(leaf, place, &path) {
        Ok(found) => {
            assert_eq!(found, branch.root);
            true
        }
        // Leaves may be chosen so that a pair reads as a transaction, and equal
        // ones so that a right one has a copy to its left.
        Err(error) => {
            assert_ne!(error, MerkleError::BadLength);
            false
        }
    };
    let beyond = place | 1 << branch.siblings.len();
    assert!(root_of(leaf, beyond, &path).is_err());
    made_up(choices) | good
}

fn made_up(mut choices: Choices<'_>) -> bool {
    let (leaf, place) = (choices.array(), u32::from_le_bytes(choices.array()));
    let siblings = choices.0;
    let Ok(root) = root_of(leaf, place, siblings) else { return false };
    let mut hash = leaf;
    for (level, sibling) in siblings.chunks(32).enumerate() {
        let mut engine = sha256d::Hash::engine();
        let right = u64::from(place) >> level & 1 == 1;
        let pair = if right { [sibling, &hash] } else { [&hash, sibling] };
        pair.iter().for_each(|half| engine.input(half));
        hash = sha256d::Hash::from_engine(engine).to_byte_array();
    }
    assert_eq!(root, hash);
    true
}
