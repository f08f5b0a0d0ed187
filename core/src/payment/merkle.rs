//! Where a transaction stands in a block: the Merkle path of its identity.
//!
//! Hashes are in internal byte order, the reverse of how they are printed. `bitcoin` finds the root
//! of a list of transactions, and has no paths.

use super::tx::TxView;
use crate::hash::{double_sha256, parent};
use heapless::Vec;

/// Most siblings on a path. A block's own limits allow for 17.
pub const MAX_SIBLINGS: usize = 32;

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum MerkleError {
    /// The siblings are not whole hashes, or more than [`MAX_SIBLINGS`].
    #[error("the Merkle path is not made of at most 32 whole hashes")]
    BadLength,
    /// The position is past the end of the tree: past what that many siblings
    /// can address, or in the copy that an odd row is completed with.
    #[error("the position is outside of the Merkle tree")]
    OutsideTree,
    /// An inner node's 64 bytes read as a transaction. Then that transaction may
    /// be in the block, and what hangs below it made up.
    #[error("an inner node of the Merkle path is also a transaction")]
    TransactionAsNode,
}

/// The root that follows from a transaction at a position (0 is the block's
/// first transaction) and its siblings from the bottom up, 32 bytes each.
///
/// The answer means that the transaction is in a block with this root, provided
/// that the transaction is not 64 bytes long without its witness: such a one is
/// also an inner node (the caller must look, it is not visible from here).
///
/// # Errors
/// [`MerkleError`]: the siblings are no whole hashes or too many, or the position does not fit
/// them.
pub fn root_of(txid: [u8; 32], position: u32, siblings: &[u8]) -> Result<[u8; 32], MerkleError> {
    let (paths, rest) = (siblings.chunks_exact(32), siblings.len() % 32);
    if rest != 0 || paths.len() > MAX_SIBLINGS {
        return Err(MerkleError::BadLength);
    }
    let (mut hash, mut place) = (txid, u64::from(position));
    for sibling in paths {
        let sibling = <[u8; 32]>::try_from(sibling).map_err(|_| MerkleError::BadLength)?;
        let right = place & 1 == 1;
        if right && sibling == hash {
            return Err(MerkleError::OutsideTree);
        }
        let mut node = [0; 64];
        let (first, second) = node.split_at_mut(32);
        first.copy_from_slice(if right { &sibling } else { &hash });
        second.copy_from_slice(if right { &hash } else { &sibling });
        if TxView::parse(&node).is_ok() {
            return Err(MerkleError::TransactionAsNode);
        }
        hash = double_sha256(&node);
        place >>= 1;
    }
    if place == 0 { Ok(hash) } else { Err(MerkleError::OutsideTree) }
}

/// The root of a tree, and the path to one of its leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The Merkle root.
    pub root: [u8; 32],
    /// Siblings from the bottom up.
    pub siblings: Vec<[u8; 32], MAX_SIBLINGS>,
}

/// Builds the tree over a block's transaction identities, in block order, and
/// returns the path to the one at `position`. Works in place: what `txids` holds
/// afterwards has no meaning. `None` if there is no such position.
///
/// Two different lists can have the same root if one repeats its end
/// (CVE-2012-2459): `txids` must come from a block that a node has accepted.
pub fn branch(txids: &mut [[u8; 32]], position: usize) -> Option<Branch> {
    let mut siblings = Vec::new();
    let (mut row, mut place) = (txids, position);
    row.get(place)?;
    while row.len() > 1 {
        let last = row.len() - 1;
        siblings.push(*row.get((place ^ 1).min(last))?).ok()?;
        let above = row.len().div_ceil(2);
        for i in 0..above {
            let (left, right) = (row.get(2 * i)?, row.get((2 * i + 1).min(last))?);
            let node = parent(left, right);
            *row.get_mut(i)? = node;
        }
        row = row.get_mut(..above)?;
        place /= 2;
    }
    Some(Branch { root: *row.first()?, siblings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{Txid, hashes::Hash, merkle_tree};
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    fn hash(hex_reversed: &str) -> [u8; 32] {
        let mut bytes: [u8; 32] = hex::decode(hex_reversed).unwrap().try_into().unwrap();
        bytes.reverse();
        bytes
    }

    fn path(b: &Branch) -> StdVec<u8> {
        b.siblings.concat()
    }

    fn check_block(txids: &[&str], root: &str) {
        let txids: StdVec<[u8; 32]> = txids.iter().map(|t| hash(t)).collect();
        for (i, txid) in txids.iter().enumerate() {
            let b = branch(&mut txids.clone(), i).unwrap();
            assert_eq!(b.root, hash(root));
            assert_eq!(root_of(*txid, i as u32, &path(&b)), Ok(hash(root)));
        }
    }

    /// Blocks 0, 170 (the first payment) and 100,000 of the main network.
    #[test]
    fn real_blocks() {
        let genesis = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
        check_block(&[genesis], genesis);
        check_block(
            &[
                "b1fea52486ce0c62bb442b530a3f0132b826c74e473d1f2c220bfa78111c5082",
                "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16",
            ],
            "7dac2c5666815c17a3b36427de37bb9d2e2c5ccec3f8633eb91a4205cb4c10ff",
        );
        check_block(
            &[
                "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
                "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
                "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
                "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
            ],
            "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766",
        );
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(root_of([1; 32], 0, &[0; 31]), Err(MerkleError::BadLength));
        assert_eq!(root_of([1; 32], 0, &[0; 33 * 32]), Err(MerkleError::BadLength));
        assert_eq!(root_of([1; 32], 1, &[]), Err(MerkleError::OutsideTree));
        assert!(root_of([1; 32], u32::MAX, &[0; 32 * 32]).is_ok());
        assert_eq!(root_of([1; 32], 1 << 31, &[0; 31 * 32]), Err(MerkleError::OutsideTree));
        assert_eq!(branch(&mut [], 0), None);
        assert_eq!(branch(&mut [[1; 32]], 1), None);
    }

    /// A miner puts a 64-byte transaction into a block, half of which is the
    /// identity of a transaction that nobody ever mined.
    #[test]
    fn a_transaction_is_not_taken_for_an_inner_node() {
        let invented = [0xab; 32];
        // 1 input, 1 output, an input script of 4 bytes and an empty output script.
        let mut tx = [0; 64];
        tx[4] = 1;
        tx[41] = 4;
        tx[50] = 1;
        tx[..4].copy_from_slice(&2u32.to_le_bytes());
        let mut left_half_free = tx;
        left_half_free[5..32].copy_from_slice(&invented[..27]);
        let (left, right) = left_half_free.split_at(32);
        let left: [u8; 32] = left.try_into().unwrap();
        assert_eq!(root_of(left, 0, right), Err(MerkleError::TransactionAsNode));
        let right: [u8; 32] = right.try_into().unwrap();
        assert_eq!(root_of(right, 1, &left), Err(MerkleError::TransactionAsNode));
        // The honest use of the same transaction is not affected.
        let txid = double_sha256(&left_half_free);
        assert!(root_of(txid, 1, &[7; 32]).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn random_trees(
            seed: [u8; 32],
            leaves in prop_oneof![1..40usize, 1..=2_000usize],
            at: prop::sample::Index,
            wrong: prop::sample::Index,
            bit in 0..8u8,
        ) {
            let txids: StdVec<[u8; 32]> =
                (0..leaves as u32).map(|i| crate::hash::double_sha256_parts(&[&seed[..], &i.to_le_bytes()])).collect();
            let oracle = merkle_tree::calculate_root(txids.iter().map(|t| Txid::from_byte_array(*t)));
            let root = oracle.unwrap().to_byte_array();
            let at = at.index(leaves);
            let b = branch(&mut txids.clone(), at).unwrap();
            prop_assert_eq!(b.root, root);
            let mut siblings = path(&b);
            prop_assert_eq!(root_of(txids[at], at as u32, &siblings), Ok(root));
            // No other position with this path, no other transaction, no other path.
            let few = (0..if leaves < 40 { 128 } else { 0 }).chain((0..12).map(|k| at ^ (1 << k)));
            for other in few {
                prop_assert_eq!(root_of(txids[at], other as u32, &siblings) == Ok(root), other == at);
            }
            prop_assert_ne!(root_of(seed, at as u32, &siblings), Ok(root));
            if !siblings.is_empty() {
                let wrong = wrong.index(siblings.len());
                siblings[wrong] ^= 1 << bit;
                prop_assert_ne!(root_of(txids[at], at as u32, &siblings), Ok(root));
            }
        }
    }
}
