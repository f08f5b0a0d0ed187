//! Templates for every route, and proofs against the bitcoin crate's own Merkle blocks.

use super::*;
use crate::rpc::types::{Role, Share};
use bitcoin::block::{Block, Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, WPubkeyHash};
use blvm_mesh_core::config::MAX_HOPS;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::merkle;
use proptest::prelude::*;

fn node(i: usize) -> NodeId {
    NodeId([i as u8 + 1; 32])
}

/// A quote as the daemon writes it, where everyone asks for `price_msat`.
pub(crate) fn quote(hops: usize, price_msat: u64) -> Quote {
    let (source, destination) = (node(100), node(101));
    let hops: Vec<HopId> = (0..hops).map(|i| node(i).hop()).collect();
    let network = Network::Regtest;
    let prices = vec![price_msat; hops.len()];
    let amount_msat = blvm_mesh_core::payment::fee::amount_for(&prices, price_msat).unwrap();
    let terms_hash = Terms { network, source, destination, hops: &hops, quota: 7 }.hash();
    let share =
        |node, role, price_msat| Share { node, role, price_msat, share_msat: 0, issuers: None };
    let between = hops.iter().map(|hop| share(*hop, Role::Intermediate, price_msat));
    let shares = [share(source.hop(), Role::Source, 0)]
        .into_iter()
        .chain(between)
        .chain([share(destination.hop(), Role::Destination, price_msat)])
        .collect();
    Quote {
        source,
        destination,
        hops,
        network,
        bytes: 7,
        amount_msat,
        terms_hash,
        description: String::new(),
        shares,
        min_packet: 5_000,
        most_bytes: 4_000,
        covenant: None,
        accepts: None,
        per_hop: Vec::new(),
    }
}

pub(crate) fn p2wpkh(i: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([i; 20]))
}

/// Payouts of everyone, not in the order of the route.
fn payouts(quote: &Quote) -> Vec<Payout> {
    let payout = |(i, share): (u8, &Share)| Payout { node: share.node, script: p2wpkh(i) };
    (0..).zip(quote.shares.iter().rev()).map(payout).collect()
}

/// A transaction that pays `sat` to a script, by its second output.
pub(crate) fn funding(script: &ScriptBuf, sat: u64, tag: u8) -> Transaction {
    let previous_output = OutPoint { txid: Txid::from_byte_array([tag; 32]), vout: 1 };
    let witness = Witness::from_slice(&[[9; 70]]);
    let output = |sat, script_pubkey| TxOut { value: Amount::from_sat(sat), script_pubkey };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output, witness, ..TxIn::default() }],
        output: vec![output(999, p2wpkh(200)), output(sat, script.clone())],
    }
}

fn block(transactions: Vec<Transaction>) -> Block {
    let header = Header {
        version: BlockVersion::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_700_000_000,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut block = Block { header, txdata: transactions };
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    block
}

/// A block of so many transactions, with this one among them.
pub(crate) fn block_with(transaction: &Transaction, at: usize, count: usize) -> Block {
    let other = |i| funding(&p2wpkh(201), 1_000 + i as u64, 3);
    block((0..count).map(|i| if i == at { transaction.clone() } else { other(i) }).collect())
}

pub(crate) fn inclusion(block: &Block, transaction: &Transaction) -> MerkleBlock {
    let txid = transaction.compute_txid();
    MerkleBlock::from_block_with_predicate(block, |id| *id == txid)
}

#[test]
fn every_route_is_paid_exactly_and_everyone_accepts_it() {
    for hops in 0..=MAX_HOPS {
        for price_msat in [1, 5_000, 20_000_777] {
            let quote = quote(hops, price_msat);
            let payouts = payouts(&quote);
            let template = Template::new(&quote, &payouts, 1_000).unwrap();
            let (amount, fee) = (template.amount_sat(), template.fee_sat(1_000).unwrap());
            assert!(amount * 1_000 >= quote.amount_msat);
            let outputs = &template.transaction().output;
            assert_eq!(outputs.len(), hops + 3);
            let parties = (0..hops as u8)
                .map(|i| (quote.hops[usize::from(i)], Party::Intermediate(i)))
                .chain([(quote.destination.hop(), Party::Destination)])
                .chain([(quote.source.hop(), Party::Source)]);
            let split = FeeDistribution::new(amount * 1_000, hops).unwrap();
            for ((node, party), output) in parties.zip(outputs) {
                assert_eq!(output.value.to_sat() * 1_000, split.get(party), "exact shares");
                let payout = payouts.iter().find(|payout| payout.node == node).unwrap();
                assert_eq!(output.script_pubkey, payout.script);
                assert!(output.value >= output.script_pubkey.minimal_non_dust());
            }
            assert_eq!(outputs[hops + 2].script_pubkey, ScriptBuf::new_op_return(quote.terms_hash));

            for script in [template.locking_scripts().0, template.locking_scripts().1] {
                let funding = funding(&script, amount + fee, 5);
                let block = block_with(&funding, 2, 5);
                let inclusion = inclusion(&block, &funding);
                let paid = template.paid(&quote, &payouts, &funding, &inclusion).unwrap();
                assert_eq!(paid.block_hash, block.block_hash());
                accepted(&quote, &payouts, &paid.proof, &block);
                let proof = CovenantProof::parse(&paid.proof).unwrap();
                assert_eq!(settlement(&proof).as_ref(), Some(&paid.settlement));
                settles(&template, &paid.settlement, &funding, &script);
            }
        }
    }
}

/// Every party accepts the proof, the block's header included.
fn accepted(quote: &Quote, payouts: &[Payout], proof: &[u8], block: &Block) {
    let route = Route::new(quote, payouts).unwrap();
    route.check(proof).unwrap();
    let rules = CovenantRules::new(quote.network);
    let Quote { network, source, destination, hops, bytes, .. } = quote;
    let (network, source, destination, quota) = (*network, *source, *destination, *bytes);
    let terms = Terms { network, source, destination, hops, quota };
    let proof = CovenantProof::parse(proof).unwrap();
    assert_eq!(proof.block_hash, block.block_hash().to_byte_array());
    for (_, party, script) in &route.parties {
        let payout_script = script.as_bytes();
        let purpose = Purpose::Datagram;
        let claim = Claim { terms: &terms, purpose, party: *party, payout_script, price_msat: 0 };
        let header = KnownHeader {
            merkle_root: block.header.merkle_root.to_byte_array(),
            time: block.header.time,
            confirmations: 1,
        };
        let checked = check(&proof, &claim, &rules).unwrap();
        checked.confirm(Some(&header), 1_700_000_500, &rules).unwrap();
    }
}

/// The settlement is what the coin's lock asks for.
fn settles(template: &Template, spend: &Transaction, funding: &Transaction, script: &ScriptBuf) {
    assert_eq!(ctv_hash(&serialize(spend), 0).as_ref(), Ok(template.hash()));
    let coin = OutPoint { txid: funding.compute_txid(), vout: 1 };
    assert_eq!(spend.input[0].previous_output, coin);
    match script.is_p2wsh() {
        true => {
            let witness_script = ScriptBuf::from(spend.input[0].witness[0].to_vec());
            assert_eq!(witness_script.to_p2wsh(), *script);
        }
        false => assert!(spend.input[0].witness.is_empty()),
    }
    let fee = funding.output[1].value.to_sat() - template.amount_sat();
    assert!(fee >= spend.vsize() as u64, "less than a satoshi per virtual byte");
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    let quote = quote(2, 5_000);
    let all = payouts(&quote);
    let new = |payouts: &[Payout]| Template::new(&quote, payouts, 1_000);
    for (i, left_out) in all.iter().enumerate() {
        let mut some = all.clone();
        some.remove(i);
        let node = left_out.node;
        assert_eq!(new(&some), Err(CovenantMakeError::NoPayout { node }));
        let twice = [&all[..], &all[i..=i]].concat();
        assert_eq!(new(&twice), Err(CovenantMakeError::StrayPayout(node)));
    }
    let mut odd = all.clone();
    odd[1].script = ScriptBuf::from(vec![0x51]);
    assert!(matches!(new(&odd), Err(CovenantMakeError::Refused { .. })));
    let mainnet = Quote { network: Network::Mainnet, ..quote.clone() };
    let error = Template::new(&mainnet, &all, 1_000);
    let inactive = CovenantError::NotActive;
    assert!(matches!(error, Err(CovenantMakeError::Refused { error, .. }) if error == inactive));
    let low = Template::new(&quote, &all, 90);
    let fee = CovenantError::FeeTooLow;
    assert!(matches!(low, Err(CovenantMakeError::Refused { error, .. }) if error == fee));
    for amount_msat in [u64::MAX, Amount::MAX_MONEY.to_sat() * 1_000 + 1] {
        let quote = Quote { amount_msat, ..quote.clone() };
        assert_eq!(Template::new(&quote, &all, 1_000), Err(CovenantMakeError::TooLarge));
    }
    assert_eq!(Template::new(&quote, &all, u64::MAX), Err(CovenantMakeError::TooLarge));
    // A public key hash takes more than what others take to be worth its own spending.
    odd[1].script = ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from_byte_array([1; 20]));
    let cheap = Template::new(&self::quote(2, 1), &odd, 1_000).unwrap();
    assert!(cheap.transaction().output.iter().any(|o| o.value.to_sat() >= 546));
}

#[test]
fn what_does_not_fund_or_prove_is_refused() {
    let quote = quote(1, 5_000);
    let payouts = payouts(&quote);
    let template = Template::new(&quote, &payouts, 1_000).unwrap();
    let script = template.locking_scripts().1;
    let least = template.amount_sat() + template.fee_sat(100).unwrap();
    let paid = |funding: &Transaction, inclusion: &MerkleBlock| {
        template.paid(&quote, &payouts, funding, inclusion)
    };
    let good = funding(&script, least, 5);
    let block = block_with(&good, 3, 6);
    assert!(paid(&good, &inclusion(&block, &good)).is_ok());

    let elsewhere = funding(&p2wpkh(1), least, 5);
    let other = block_with(&elsewhere, 3, 6);
    let error = paid(&elsewhere, &inclusion(&other, &elsewhere));
    assert_eq!(error, Err(CovenantMakeError::NotFunded));
    let short = funding(&script, least - 1, 5);
    let error = paid(&short, &inclusion(&block_with(&short, 3, 6), &short));
    let fee = CovenantError::FeeTooLow;
    assert!(matches!(error, Err(CovenantMakeError::Refused { error, .. }) if error == fee));
    let error = paid(&good, &inclusion(&other, &elsewhere));
    assert_eq!(error, Err(CovenantMakeError::OtherTransaction(good.compute_txid())));
    let mut forged = inclusion(&block, &good);
    forged.header.merkle_root = TxMerkleNode::from_byte_array([7; 32]);
    assert!(matches!(paid(&good, &forged), Err(CovenantMakeError::Inclusion(_))));
}

#[test]
fn a_proof_of_the_main_chain() {
    // From the documentation of the bitcoin crate: what `gettxoutproof` says of a
    // transaction in a block of two.
    let proof = "01000000ba8b9cda965dd8e536670f9ddec10e53aab14b20bacad27b9137190000000000190760b278\
        fe7b8565fda3b968b918d5fd997f993b23674c0af3b6fde300b38f33a5914ce6ed5b1b01e32f5702000000\
        02252bf9d75c4f481ebb6278d708257d1f12beb6dd30301d26c623f789b2ba6fc0e2d32adb5f8ca820731d\
        ff234a84e78ec30bce4ec69dbd562d0b2b8266bf4e5a0105";
    let inclusion: MerkleBlock =
        bitcoin::consensus::deserialize(&hex::decode(proof).unwrap()).unwrap();
    let txid = "5a4ebf66822b0b2d56bd9dc64ece0bc38ee7844a23ff1d7320a88c5fdb2ad3e2".parse().unwrap();
    let (position, siblings) = branch(&inclusion, txid).unwrap();
    assert_eq!(position, 1);
    let coinbase = "252bf9d75c4f481ebb6278d708257d1f12beb6dd30301d26c623f789b2ba6fc0";
    assert_eq!(hex::encode(siblings), coinbase);
}

proptest! {
    /// The siblings are those of core's own tree, whatever else the proof is about, and lead
    /// to the root that the bitcoin crate computes.
    #[test]
    fn branches_of_any_block(count in 1usize..70, at: prop::sample::Index, also: u64) {
        let at = at.index(count);
        let ids: Vec<Txid> = (0..count).map(|i| Txid::from_byte_array([i as u8 + 1; 32])).collect();
        let mut header = block_with(&funding(&p2wpkh(0), 1, 1), 0, 1).header;
        let root = bitcoin::merkle_tree::calculate_root(ids.iter().copied()).unwrap();
        header.merkle_root = TxMerkleNode::from_byte_array(root.to_byte_array());
        let wanted = |id: &Txid| {
            let i = usize::from(id.to_byte_array()[0]) - 1;
            i == at || also >> (i % 64) & 1 == 1
        };
        let proof = MerkleBlock::from_header_txids_with_predicate(&header, &ids, wanted);
        let (position, siblings) = branch(&proof, ids[at]).unwrap();
        prop_assert_eq!(position as usize, at);
        let mut row: Vec<[u8; 32]> = ids.iter().map(|id| id.to_byte_array()).collect();
        let expected = merkle::branch(&mut row, at).unwrap();
        prop_assert_eq!(&siblings, &expected.siblings.concat());
        let led_to = merkle::root_of(ids[at].to_byte_array(), position, &siblings);
        prop_assert_eq!(led_to, Ok(root.to_byte_array()));
    }

    /// Arbitrary trees prove nothing, and never panic.
    #[test]
    fn arbitrary_trees(bytes in prop::collection::vec(any::<u8>(), 80..300)) {
        if let Ok(proof) = bitcoin::consensus::deserialize::<MerkleBlock>(&bytes) {
            prop_assert!(branch(&proof, Txid::from_byte_array([1; 32])).is_err());
        }
    }
}
