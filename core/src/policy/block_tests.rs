//! Tests of `block`, with the `bitcoin` crate as the oracle.

use super::block::*;
use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::samples::*;
use super::work::Chain;
use crate::id::Network;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Block, MerkleBlock};
use proptest::prelude::*;
use std::vec::Vec;

type Result = core::result::Result<(), Unrecognised>;

fn check<T>(
    bytes: &[u8],
    network: Network,
    how: impl Fn(&mut Reader<'_>, Chain) -> core::result::Result<T, Unrecognised>,
) -> Result {
    let mut reader = Reader::new(bytes, 0);
    how(&mut reader, Chain { network, magic: network.magic(), min_difficulty: None })?;
    reader.finish()
}

/// A regtest block.
fn block(block: &Block) -> Result {
    check(&serialize(block), Network::Regtest, check_block)
}

fn merkle_block(bytes: &[u8]) -> Result {
    check(bytes, Network::Regtest, check_merkle_block)
}

#[test]
fn real_blocks_are_whole() {
    for text in [LEGACY_BLOCK, SEGWIT_BLOCK] {
        let bytes = bytes(text);
        assert_eq!(check(&bytes, Network::Testnet3, check_block), Ok(()));
        // Whatever is changed, the header does not commit to it.
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(check(&changed, Network::Testnet3, check_block).is_err(), "{at}");
        }
    }
    // Only the witness is changed: the Merkle root stays.
    let mut segwit: Block = deserialize(&bytes(SEGWIT_BLOCK)).unwrap();
    assert!(segwit.check_witness_commitment());
    let spender = &mut segwit.txdata[1].input[0];
    spender.witness = bitcoin::Witness::from_slice(&[[7; 100]]);
    assert!(segwit.check_merkle_root());
    let changed = check(&serialize(&segwit), Network::Testnet3, check_block).unwrap_err();
    assert_eq!(changed.reason, Reason::WitnessCommitment);
    // Without any witness it is what a node without BIP 144 is sent.
    for transaction in &mut segwit.txdata {
        transaction.input.iter_mut().for_each(|input| input.witness.clear());
    }
    assert_eq!(check(&serialize(&segwit), Network::Testnet3, check_block), Ok(()));
}

#[test]
fn blocks_of_every_size_keep_their_merkle_root() {
    for more in 0..40 {
        let mut mined = regtest_block(more);
        assert!(mined.check_merkle_root() && mined.check_witness_commitment());
        assert_eq!(block(&mined), Ok(()), "{more}");

        // CVE-2012-2459: a repeated end keeps the root of an odd number.
        let last = mined.txdata.last().unwrap().clone();
        if mined.txdata.len() % 2 == 1 {
            mined.txdata.push(last);
            assert!(mined.check_merkle_root());
            assert_eq!(block(&mined), Err(Reason::MerkleDuplicate.at(0)));
            mined.txdata.pop();
        }
        let count = mined.txdata.len();
        if count >= 3 {
            mined.txdata.swap(count - 2, count - 1);
            assert_eq!(block(&mined), Err(Reason::MerkleRoot.at(36)));
        }
    }
    // Six leaves: the repeated pair shows on the level above.
    let mut six = regtest_block(4);
    assert_eq!(six.txdata.len(), 6);
    six.txdata.extend_from_within(4..6);
    assert!(six.check_merkle_root());
    assert_eq!(block(&six), Err(Reason::MerkleDuplicate.at(0)));
}

#[test]
fn the_coinbase_stands_first_and_alone() {
    let fails = |edit: &dyn Fn(&mut Block)| {
        let mut changed = regtest_block(2);
        edit(&mut changed);
        changed.header.merkle_root =
            changed.compute_merkle_root().unwrap_or(changed.header.merkle_root);
        while changed.header.validate_pow(changed.header.target()).is_err() {
            changed.header.nonce += 1;
        }
        block(&changed).unwrap_err().reason
    };
    assert_eq!(fails(&|b| b.txdata.clear()), Reason::NoTransactions);
    assert_eq!(fails(&|b| drop(b.txdata.remove(0))), Reason::CoinbasePlace);
    assert_eq!(fails(&|b| b.txdata.push(b.txdata[0].clone())), Reason::CoinbasePlace);
    // No commitment, none for the others' witnesses, and a wrong reserved value.
    assert_eq!(fails(&|b| drop(b.txdata[0].output.pop())), Reason::WitnessCommitment);
    assert_eq!(fails(&|b| b.txdata[0].input[0].witness.clear()), Reason::WitnessCommitment);
    assert_eq!(
        fails(&|b| b.txdata[0].input[0].witness = bitcoin::Witness::from_slice(&[[1; 32]])),
        Reason::WitnessCommitment
    );
    assert_eq!(
        fails(&|b| b.txdata[0].input[0].witness = bitcoin::Witness::from_slice(&[[0; 32]; 2])),
        Reason::WitnessCommitment
    );
    // Witnesses that are committed to, but heavier than a block may be.
    let heavy = |b: &mut Block| {
        b.txdata[1].input[0].witness = bitcoin::Witness::from_slice(&[std::vec![0; 4_000_000]]);
        commit(b);
    };
    assert_eq!(fails(&heavy), Reason::Weight);
}

#[test]
fn transactions_outside_of_a_block_are_no_heavier_than_one() {
    let mut mined = regtest_block(1);
    let script = &mut mined.txdata[1].output[0].script_pubkey;
    *script = bitcoin::ScriptBuf::from_bytes(std::vec![0; 999_000]);
    mined.txdata[1].input[0].witness.clear();
    let weighed = |block: &Block| {
        let hash = block.block_hash();
        let transactions = block.txdata[1..2].to_vec();
        let block_txn = bitcoin::bip152::BlockTransactions { block_hash: hash, transactions };
        let compact = bitcoin::bip152::HeaderAndShortIds::from_block(block, 7, 2, &[1]).unwrap();
        [
            check(&serialize(&block.txdata[1]), Network::Regtest, |fields, _| check_tx(fields)),
            check(&serialize(&block_txn), Network::Regtest, |fields, _| check_block_txn(fields)),
            check(&serialize(&compact), Network::Regtest, check_compact_block),
        ]
    };
    assert_eq!(weighed(&mined), [Ok(()); 3]);
    let script = &mut mined.txdata[1].output[0].script_pubkey;
    *script = bitcoin::ScriptBuf::from_bytes(std::vec![0; 1_000_000]);
    assert_eq!(weighed(&mined), [Err(Reason::Weight.at(0)); 3]);
}

#[test]
fn headers_are_worked_for_and_follow_each_other() {
    let headers = |list: &[bitcoin::block::Header]| {
        let mut bytes = std::vec![list.len() as u8];
        list.iter().for_each(|header| {
            bytes.extend(serialize(header));
            bytes.push(0);
        });
        bytes
    };
    let regtest = |bytes: &[u8]| check(bytes, Network::Regtest, check_headers);
    let first = regtest_block(0);
    let mut second = regtest_block(1);
    second.header.prev_blockhash = first.block_hash();
    mine(&mut second);
    let good = headers(&[first.header, second.header]);
    assert_eq!(regtest(&good), Ok(()));
    assert_eq!(regtest(&headers(&[])), Ok(()));
    let swapped = headers(&[second.header, first.header]);
    assert_eq!(regtest(&swapped), Err(Reason::NotContinuous.at(1 + 81 + 4)));
    let mut count = good.clone();
    count[81] = 1;
    assert!(matches!(regtest(&count), Err(Unrecognised { at: 81, reason: Reason::Value(_) })));
    let mut idle = second.header;
    while idle.validate_pow(idle.target()).is_ok() {
        idle.nonce += 1;
    }
    assert_eq!(regtest(&headers(&[idle])), Err(Reason::Work.at(1)));
    // Real headers of testnet3 are worth nothing where more work is demanded.
    let real: Block = deserialize(&bytes(SEGWIT_BLOCK)).unwrap();
    let real = headers(&[real.header]);
    assert_eq!(check(&real, Network::Testnet3, check_headers), Ok(()));
    assert_eq!(check(&real, Network::Regtest, check_headers), Ok(()));
    let easy = check(&good, Network::Testnet3, check_headers);
    assert_eq!(easy, Err(Reason::Target(Network::Testnet3).at(1 + 72)));
}

/// As the crate reads it, and with its padding bits and bytes as they are written.
fn oracle_accepts(bytes: &[u8]) -> bool {
    let Ok(theirs) = deserialize::<MerkleBlock>(bytes) else { return false };
    let worked = theirs.header.validate_pow(theirs.header.target()).is_ok();
    let few = theirs.txn.num_transactions() <= MAX_TRANSACTIONS;
    worked && few && theirs.extract_matches(&mut Vec::new(), &mut Vec::new()).is_ok()
}

#[test]
fn partial_trees_have_no_twins_and_nothing_left_over() {
    let mined = regtest_block(0);
    let none = serialize(&MerkleBlock::from_block_with_predicate(&mined, |_| false));
    assert_eq!(merkle_block(&none), Ok(()));
    // One flag is used; seven are left over in its byte.
    for bit in 1..8 {
        let mut more = none.clone();
        *more.last_mut().unwrap() |= 1 << bit;
        assert!(merkle_block(&more).is_err(), "{bit}");
    }
    // A byte of flags that nobody asks for.
    let mut more = none.clone();
    let at = more.len() - 2;
    more[at] += 1;
    more.push(0);
    assert!(merkle_block(&more).is_err());
    // CVE-2012-2459: two equal leaves, under a header that commits to them.
    let mut twins = mined.clone();
    twins.txdata = std::vec![twins.txdata[0].clone(); 2];
    mine(&mut twins);
    let leaf = serialize(&twins.txdata[0].compute_txid());
    let bytes = [&serialize(&twins.header)[..], &[2, 0, 0, 0, 2], &leaf, &leaf, &[1, 1]].concat();
    assert_eq!(merkle_block(&bytes), Err(Reason::MerkleDuplicate.at(80 + 5)));
}

proptest! {
    #[test]
    fn merkle_blocks_of_every_choice(more in 0u32..20, choice: u32) {
        let mined = regtest_block(more);
        let chosen: Vec<_> = mined.txdata.iter().map(|t| t.compute_txid()).enumerate()
            .filter(|(i, _)| choice >> i & 1 == 1).map(|(_, id)| id).collect();
        let theirs = MerkleBlock::from_block_with_predicate(&mined, |id| chosen.contains(id));
        prop_assert_eq!(merkle_block(&serialize(&theirs)), Ok(()));
    }

    #[test]
    fn edited_merkle_blocks(more in 0u32..12, choice: u16, at: prop::sample::Index, to in prop_oneof![0..4u8, any::<u8>()]) {
        let mined = regtest_block(more);
        let ids: Vec<_> = mined.txdata.iter().map(|t| t.compute_txid()).collect();
        let chosen = |id: &bitcoin::Txid| {
            choice >> ids.iter().position(|other| other == id).unwrap() & 1 == 1
        };
        let mut bytes = serialize(&MerkleBlock::from_block_with_predicate(&mined, chosen));
        // After the header, so that it keeps its work.
        let at = 80 + at.index(bytes.len() - 80);
        bytes[at] = to;
        let ours = merkle_block(&bytes).is_ok();
        let theirs = oracle_accepts(&bytes);
        // The crate lets the bits after the last flag be anything.
        prop_assert!(ours == theirs || theirs && at == bytes.len() - 1);
    }

    #[test]
    fn edited_blocks(more in 0u32..4, at: prop::sample::Index, to: u8) {
        let mined = regtest_block(more);
        let mut bytes = serialize(&mined);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let theirs = deserialize::<Block>(&bytes).is_ok_and(|b| {
            let easiest = bitcoin::Target::MAX_ATTAINABLE_REGTEST;
            // The crate drops what does not fit into 256 bits, and so lets it pass.
            b.header.bits.to_consensus() >> 24 <= 32
                && b.header.target() <= easiest
                && b.header.validate_pow(b.header.target()).is_ok()
                && b.check_merkle_root()
                && b.check_witness_commitment()
        });
        let ours = check(&bytes, Network::Regtest, check_block);
        prop_assert_eq!(ours.is_ok(), theirs, "byte {}: {:?}", at, ours);
    }
}

#[test]
fn compact_blocks_place_their_transactions() {
    let mined = regtest_block(3);
    let prefilled = |list: &[usize]| {
        bitcoin::bip152::HeaderAndShortIds::from_block(&mined, 7, 2, list).unwrap()
    };
    let compact = |c: &bitcoin::bip152::HeaderAndShortIds| {
        check(&serialize(c), Network::Regtest, check_compact_block)
    };
    for list in [&[][..], &[1], &[2, 3], &[1, 2, 3, 4]] {
        assert_eq!(compact(&prefilled(list)), Ok(()), "{list:?}");
    }
    let mut beyond = prefilled(&[4]);
    beyond.prefilled_txs[1].idx += 1;
    assert!(matches!(compact(&beyond), Err(Unrecognised { reason: Reason::Value(_), .. })));
    let mut empty = prefilled(&[]);
    (empty.short_ids, empty.prefilled_txs) = (Vec::new(), Vec::new());
    assert_eq!(compact(&empty), Err(Reason::NoTransactions.at(0)));
    let mut misplaced = prefilled(&[]);
    misplaced.prefilled_txs[0].tx = mined.txdata[1].clone();
    assert!(matches!(compact(&misplaced).unwrap_err().reason, Reason::CoinbasePlace));
    let mut idle = prefilled(&[]);
    while idle.header.validate_pow(idle.header.target()).is_ok() {
        idle.header.nonce += 1;
    }
    assert_eq!(compact(&idle), Err(Reason::Work.at(0)));

    // Indexes rise, and stay under what a block can hold.
    let get = |indexes: &[u8]| {
        let hash = mined.block_hash().to_byte_array();
        let bytes = [&hash[..], &[indexes.len() as u8], indexes].concat();
        check(&bytes, Network::Regtest, |fields, _| check_get_block_txn(fields))
    };
    assert_eq!(get(&[0, 0, 252, 0]), Ok(()));
    assert_eq!(get(&[0xfe]), Err(Reason::FieldTruncated.at(34)));
    let hash = mined.block_hash().to_byte_array();
    let far = [&hash[..], &[1, 0xfd, 0x1a, 0x41]].concat();
    let far = check(&far, Network::Regtest, |fields, _| check_get_block_txn(fields));
    assert!(matches!(far, Err(Unrecognised { at: 33, reason: Reason::Value(_) })));
}
