//! Honest proofs for every party of every route, and every forgery once.

use super::*;
use crate::id::{HopId, NodeId};
use crate::payment::ctv::ctv_hash;
use crate::payment::fee::share;
use crate::payment::merkle::branch;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use bitcoin::{absolute::LockTime, merkle_tree, transaction::Version};
use proptest::prelude::*;
use std::vec::Vec;

const NOW: u64 = 1_700_000_000;
const VOUT: usize = 1;

/// A payment with all that can be wrong about it.
#[derive(Clone)]
struct Payment {
    hops: Vec<HopId>,
    party: Party,
    payout: ScriptBuf,
    price_msat: u64,
    rules: CovenantRules,
    now: u64,
    output_index: u16,
    template: Transaction,
    funding: Transaction,
    wrapped: bool,
    block: Vec<[u8; 32]>,
    position: u32,
    siblings: Vec<u8>,
    header: Option<KnownHeader>,
}

fn payout(i: usize) -> ScriptBuf {
    let program = [i as u8; 32];
    match i % 3 {
        0 => ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_slice(&program[..20]).unwrap()),
        1 => ScriptBuf::new_p2tr_tweaked(bitcoin::key::TweakedPublicKey::dangerous_assume_tweaked(
            bitcoin::XOnlyPublicKey::from_slice(&[
                0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87,
                0x0b, 0x07, 0x02, 0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b,
                0x16, 0xf8, 0x17, 0x98,
            ])
            .unwrap(),
        )),
        _ => ScriptBuf::new_p2sh(&bitcoin::ScriptHash::from_slice(&program[..20]).unwrap()),
    }
}

impl Payment {
    fn terms<'a>(&'a self) -> Terms<'a> {
        Terms {
            network: Network::Regtest,
            source: NodeId([1; 32]),
            destination: NodeId([2; 32]),
            hops: &self.hops,
            quota: 4_096,
        }
    }

    /// A payment of at least `amount_sat` over `n` intermediates, as a wallet
    /// makes it: change, the parties, the terms.
    fn honest(n: usize, party: Party, amount_sat: u64, wrapped: bool, source_output: bool) -> Self {
        let hops = (0..n).map(|i| HopId([i as u8; 8])).collect();
        let output = |sat, script_pubkey| TxOut { value: Amount::from_sat(sat), script_pubkey };
        let shares = crate::payment::fee::FeeDistribution::new(amount_sat * 1_000, n).unwrap();
        let paid = shares.intermediates.iter().copied().chain([shares.destination]);
        let mut outputs = Vec::from([output(5_000_000, payout(40))]);
        outputs.extend(paid.enumerate().map(|(i, msat)| output(msat.div_ceil(1_000), payout(i))));
        if source_output {
            let others: u64 = outputs[1..].iter().map(|o| o.value.to_sat()).sum();
            outputs.push(output(amount_sat - others, payout(n + 1)));
        }
        let input = |previous_output| TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[[9; 70]]),
        };
        let transaction = |previous_output, output| Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: Vec::from([input(previous_output)]),
            output,
        };
        let earlier = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 3 };
        let funding = [output(1_000, payout(50)), output(amount_sat + 5_003_000, payout(51))];
        let mut payment = Self {
            hops,
            party,
            payout: payout(place(party, n, n + 1).unwrap()),
            price_msat: share(amount_sat * 1_000, n, party),
            rules: CovenantRules::new(Network::Regtest),
            now: NOW,
            output_index: 1,
            template: transaction(OutPoint::null(), outputs),
            funding: transaction(earlier, funding.into()),
            wrapped,
            block: (0..7).map(|i| [i + 100; 32]).collect(),
            position: 6,
            siblings: Vec::new(),
            header: Some(KnownHeader {
                merkle_root: [0; 32],
                time: NOW as u32 - 600,
                confirmations: 1,
            }),
        };
        payment.bind();
        payment.lock();
        payment
    }

    /// Adds the output that commits to the terms.
    fn bind(&mut self) {
        let script_pubkey = ScriptBuf::new_op_return(self.terms().hash());
        self.template.output.push(TxOut { value: Amount::ZERO, script_pubkey });
    }

    /// Locks the funds by the template as it stands, and mines the result.
    fn lock(&mut self) {
        let hash = ctv_hash(&serialize(&self.template), 0).unwrap();
        let bare = ScriptBuf::from([&[0x20], &hash[..], &[0xb3]].concat());
        let script = if self.wrapped { bare.to_p2wsh() } else { bare };
        self.funding.output[VOUT].script_pubkey = script;
        self.mine();
    }

    /// Lets the template spend the funding transaction and puts that in a block.
    fn mine(&mut self) {
        let txid = self.funding.compute_txid();
        self.template.input[0].previous_output = OutPoint { txid, vout: VOUT as u32 };
        let at = self.position as usize;
        self.block[at] = txid.to_byte_array();
        self.siblings = branch(&mut self.block.clone(), at).unwrap().siblings.concat();
        let ids = self.block.iter().map(|t| Txid::from_byte_array(*t));
        let root = merkle_tree::calculate_root(ids).unwrap().to_byte_array();
        self.header.as_mut().unwrap().merkle_root = root;
    }

    fn proof(&self) -> Vec<u8> {
        let proof = CovenantProof {
            output_index: self.output_index,
            template: &serialize(&self.template),
            funding: &serialize(&self.funding),
            block_hash: [0x55; 32],
            position: self.position,
            siblings: &self.siblings,
        };
        let mut out = std::vec![0; proof.encoded_len()];
        proof.emit(&mut out).unwrap();
        out
    }

    fn check_bytes(&self, proof: &[u8]) -> Result<Accepted, CovenantError> {
        let proof = CovenantProof::parse(proof)?;
        let claim = Claim {
            purpose: crate::payment::terms::Purpose::Datagram,
            terms: &self.terms(),
            party: self.party,
            payout_script: self.payout.as_bytes(),
            price_msat: self.price_msat,
        };
        let checked = check(&proof, &claim, &self.rules)?;
        let header = self.header.filter(|_| checked.block_hash == [0x55; 32]);
        checked.confirm(header.as_ref(), self.now, &self.rules)
    }

    fn run(&self) -> Result<Accepted, CovenantError> {
        self.check_bytes(&self.proof())
    }

    fn value(&mut self, output: usize) -> &mut Amount {
        &mut self.template.output[output].value
    }
}

fn parties(n: usize) -> impl Iterator<Item = Party> {
    (0..n as u8).map(Party::Intermediate).chain([Party::Destination])
}

#[test]
fn every_party_of_every_route_accepts() {
    for n in 0..=MAX_HOPS {
        for (wrapped, source_output) in [(false, true), (true, false), (true, true)] {
            for party in parties(n) {
                let mut p = Payment::honest(n, party, 100_000, wrapped, source_output);
                if !source_output {
                    // Nobody but the others counts, and there is less to share.
                    p.price_msat = 0;
                }
                let accepted = p.run().unwrap();
                let outputs = &p.template.output[1..p.template.output.len() - 1];
                let sat: u64 = outputs.iter().map(|o| o.value.to_sat()).sum();
                assert_eq!(accepted.amount_msat, sat * 1_000);
                assert_eq!(accepted.share_msat, share(sat * 1_000, n, party));
                let own = outputs[place(party, n, n + 1).unwrap()].value.to_sat();
                assert_eq!(accepted.paid_msat, own * 1_000);
                assert_eq!(accepted.keep_until, NOW - 600 + 86_400 + 86_400);
            }
        }
    }
    // The source pays: the rounding is at its expense, and it need not take a share.
    let source = |n, takes| {
        let mut p = Payment::honest(n, Party::Source, 100_000, true, takes);
        p.price_msat = 0;
        p.run().map(|accepted| (accepted.share_msat, accepted.paid_msat))
    };
    assert_eq!(source(2, true), Ok((10_000_000, 10_000_000)));
    assert_eq!(source(7, true), Ok((9_998_000, 9_998_000)));
    assert_eq!(source(2, false), Ok((0, 0)));
}

#[test]
fn locking_scripts_agree_with_oracle() {
    let (bare, wrapped) = locking_scripts(&[3; 32]);
    let script = ScriptBuf::from(bare.to_vec());
    assert_eq!(script.to_p2wsh().as_bytes(), wrapped);
    let shown = std::format!("20{}b3", "03".repeat(32));
    assert_eq!(hex::encode(bare), shown);
}

#[test]
fn replay_key_is_the_coin() {
    let p = Payment::honest(2, Party::Destination, 50_000, true, true);
    let key = p.run().unwrap().replay_key;
    // The same coin in other words: without witness, other template witness.
    let mut same = p.clone();
    same.funding.input[0].witness = Witness::new();
    same.template.input[0].witness = Witness::new();
    assert_eq!(same.run().unwrap().replay_key, key);
    assert_ne!(same.proof(), p.proof());
    // The same template with other funds is another payment.
    let mut again = p.clone();
    again.funding.input[0].previous_output.vout = 4;
    again.mine();
    assert_ne!(again.run().unwrap().replay_key, key);
    assert_ne!(replay_key(&[1; 32], 0), replay_key(&[1; 32], 1));
}

/// How to break one rule, after which the funds are locked and mined anew.
type Forgery = (CovenantError, fn(&mut Payment));

#[test]
fn every_rule_broken_in_the_template() {
    use CovenantError::*;
    let forgeries: &[Forgery] = &[
        (Template(TemplateError::Version), |p| p.template.version = Version(4)),
        (Template(TemplateError::Version), |p| p.template.version = Version(-1)),
        (Template(TemplateError::InputCount), |p| {
            let input = TxIn { previous_output: OutPoint::null(), ..p.template.input[0].clone() };
            p.template.input.push(input);
        }),
        (Template(TemplateError::ScriptSig), |p| p.template.input[0].script_sig = payout(1)),
        (Template(TemplateError::Locked), |p| p.template.lock_time = LockTime::from_consensus(1)),
        (Template(TemplateError::Locked), |p| p.template.input[0].sequence = Sequence(0xffff)),
        (Template(TemplateError::NonStandardOutput), |p| {
            p.template.output[0].script_pubkey = ScriptBuf::from(std::vec![0xae; 40]);
        }),
        // Change to a witness script, and a share to a script hash.
        (Template(TemplateError::Dust { value_sat: 329, least_sat: 330 }), |p| {
            *p.value(0) = Amount::from_sat(329);
        }),
        (Template(TemplateError::Dust { value_sat: 539, least_sat: 540 }), |p| {
            (*p.value(3), p.template.output[3].script_pubkey) = (Amount::from_sat(539), payout(2));
        }),
        (Template(TemplateError::TermsNotBound), |p| drop(p.template.output.pop())),
        (Template(TemplateError::TermsNotBound), |p| p.bind()),
        (Template(TemplateError::TermsNotBound), |p| p.hops.swap(0, 1)),
        (Template(TemplateError::AmountTooLarge), |p| *p.value(0) = Amount::from_sat(u64::MAX)),
        (Template(TemplateError::AmountTooLarge), |p| *p.value(0) = Amount::MAX_MONEY),
        (OutputMissing, |p| p.output_index = u16::MAX),
        // Its last window ends at the terms.
        (OutputMissing, |p| p.output_index = 3),
        (OutputScript, |p| p.output_index = 2),
        (OutputScript, |p| p.payout = payout(2)),
        (ShareNotPaid, |p| *p.value(2) -= Amount::from_sat(1)),
        (ShareNotPaid, |p| *p.value(3) += Amount::from_sat(10_000)),
        (PriceNotCovered, |p| p.price_msat += 1),
        // Paid enough, but not by the split.
        (PriceNotCovered, |p| {
            *p.value(2) += Amount::from_sat(1);
            p.price_msat += 500;
        }),
        (FundingTooSmall, |p| *p.value(0) += Amount::from_sat(3_001)),
        (FeeTooLow, |p| *p.value(0) += Amount::from_sat(3_000)),
        (NotOnRoute, |p| p.party = Party::Intermediate(2)),
        (NotOnRoute, |p| p.hops = std::vec![HopId([0; 8]); MAX_HOPS + 1]),
        (NotActive, |p| p.rules = CovenantRules::new(Network::Mainnet)),
    ];
    for wrapped in [false, true] {
        for (i, (reason, forge)) in forgeries.iter().enumerate() {
            let mut p = Payment::honest(2, Party::Intermediate(1), 100_000, wrapped, true);
            assert!(p.run().is_ok());
            forge(&mut p);
            p.lock();
            assert_eq!(p.run(), Err(*reason), "forgery {i}");
        }
    }
}

#[test]
fn every_rule_broken_in_funding_block_and_time() {
    use CovenantError::*;
    let forgeries: &[Forgery] = &[
        // A template that was not the one locked to.
        (TemplateHash, |p| *p.value(0) -= Amount::from_sat(1)),
        (TemplateHash, |p| p.template.input[0].sequence = Sequence::MAX),
        (FundingScript, |p| {
            p.funding.output[VOUT].script_pubkey = payout(1).to_p2sh();
            p.mine();
        }),
        (FundingScript, |p| {
            // Satisfied by the template, and by anything else.
            let hash = ctv_hash(&serialize(&p.template), 0).unwrap();
            let script = [&[0x63, 0x20], &hash[..], &[0xb3, 0x68]].concat();
            p.funding.output[VOUT].script_pubkey = ScriptBuf::from(script);
            p.mine();
        }),
        (FundingImmature, |p| {
            p.funding.input[0].previous_output = OutPoint::null();
            p.mine();
        }),
        (FundingNotSpent, |p| p.template.input[0].previous_output.vout = 2),
        (FundingNotSpent, |p| p.template.input[0].previous_output.vout = u32::MAX),
        (FundingNotSpent, |p| p.funding.output[0].value -= Amount::from_sat(1)),
        (Merkle(MerkleError::OutsideTree), |p| p.position += 8),
        // The last of seven is its own sibling.
        (Merkle(MerkleError::OutsideTree), |p| p.position += 1),
        (NotInBlock, |p| p.position -= 2),
        (NotInBlock, |p| p.siblings[40] ^= 1),
        (NotInBlock, |p| p.header.as_mut().unwrap().merkle_root[0] ^= 1),
        (HeaderUnknown, |p| p.header = None),
        (Unconfirmed, |p| p.header.as_mut().unwrap().confirmations = 0),
        (Unconfirmed, |p| {
            p.rules.min_confirmations = 0;
            p.header.as_mut().unwrap().confirmations = 0;
        }),
        (Unconfirmed, |p| p.rules.min_confirmations = 2),
        (FromFuture, |p| p.now = NOW - 600 - MAX_FUTURE_SECS - 1),
        (TooOld, |p| p.now = NOW - 600 + 86_400),
        (TooOld, |p| p.rules.max_age_secs = 0),
        (TooOld, |p| p.now = u64::MAX),
    ];
    for wrapped in [false, true] {
        for (i, (reason, forge)) in forgeries.iter().enumerate() {
            let mut p = Payment::honest(2, Party::Intermediate(1), 100_000, wrapped, true);
            forge(&mut p);
            assert_eq!(p.run(), Err(*reason), "forgery {i}");
        }
    }
}

#[test]
fn bounds_of_time_and_money_are_exact() {
    let accepts = |edit: fn(&mut Payment)| {
        let mut p = Payment::honest(2, Party::Intermediate(1), 100_000, true, true);
        edit(&mut p);
        p.lock();
        p.run().is_ok()
    };
    assert!(accepts(|p| p.now = NOW - 600 - MAX_FUTURE_SECS));
    assert!(accepts(|p| p.now = NOW - 600 + 86_399));
    assert!(accepts(|p| *p.value(0) = Amount::from_sat(330)));
    assert!(accepts(|p| p.template.input[0].sequence = Sequence(1 << 31)));
    // A tenth of a satoshi per virtual byte of the transaction with its real witness.
    let mut p = Payment::honest(2, Party::Intermediate(1), 100_000, true, true);
    let script = [&[0x20], &[0; 32][..], &[0xb3]].concat();
    p.template.input[0].witness = Witness::from_slice(&[script]);
    let vbytes = p.template.vsize() as u64;
    *p.value(0) = Amount::from_sat(5_003_000 - vbytes.div_ceil(10));
    p.lock();
    assert!(p.run().is_ok());
    *p.value(0) += Amount::from_sat(1);
    p.lock();
    assert_eq!(p.run(), Err(CovenantError::FeeTooLow));
}

/// Change behind the source's output belongs to nobody on the route.
#[test]
fn the_amount_ends_with_the_source() {
    let mut p = Payment::honest(3, Party::Destination, 100_000, true, true);
    let accepted = p.run().unwrap();
    let change = p.template.output.remove(0);
    p.output_index = 0;
    p.template.output.insert(5, change);
    p.lock();
    assert_eq!(p.run().unwrap().amount_msat, accepted.amount_msat);
    assert_eq!(accepted.amount_msat, 100_000_000);
}

/// A funding transaction of 64 bytes: its two halves may be hashes.
#[test]
fn a_transaction_of_64_bytes_funds_nothing() {
    let mut p = Payment::honest(1, Party::Destination, 100_000, false, true);
    p.funding.output.truncate(1);
    p.funding.output[0].script_pubkey = ScriptBuf::from(std::vec![0x51; 4]);
    assert_eq!(p.funding.base_size(), 64);
    p.block[6] = p.funding.compute_txid().to_byte_array();
    assert_eq!(p.run(), Err(CovenantError::FundingAmbiguous));
}

#[test]
fn malformed_transactions_are_told_apart() {
    let p = Payment::honest(1, Party::Destination, 100_000, false, true);
    let (template, funding) = (serialize(&p.template), serialize(&p.funding));
    let run = |template: &[u8], funding: &[u8]| {
        let siblings = &p.siblings;
        let (output_index, position, block_hash) = (1, 6, [0x55; 32]);
        let proof =
            CovenantProof { output_index, template, funding, block_hash, position, siblings };
        let mut out = std::vec![0; proof.encoded_len()];
        proof.emit(&mut out).unwrap();
        p.check_bytes(&out)
    };
    assert!(run(&template, &funding).is_ok());
    let cut = CovenantError::TemplateMalformed(TxError::Truncated);
    assert_eq!(run(&template[..50], &funding), Err(cut));
    let cut = CovenantError::FundingMalformed(TxError::Truncated);
    assert_eq!(run(&template, &funding[..50]), Err(cut));
    let proof = &p.proof();
    let cut = CovenantError::Proof(ProofError::Truncated);
    assert_eq!(p.check_bytes(&proof[..proof.len() - 1]), Err(cut));
}

/// What the proof commits to, as another implementation reads it.
fn money(p: &Payment, proof: &[u8]) -> (u64, OutPoint, Vec<TxOut>) {
    let proof = CovenantProof::parse(proof).unwrap();
    let template: Transaction = deserialize(proof.template).unwrap();
    let own =
        usize::from(proof.output_index) + place(p.party, p.hops.len(), p.hops.len() + 1).unwrap();
    assert_eq!(template.output[own].script_pubkey, p.payout);
    (template.output[own].value.to_sat(), template.input[0].previous_output, template.output)
}

proptest! {
    /// Only what no template and no block commits to can be changed: witnesses.
    #[test]
    fn damaged_proofs_pay_the_same_or_nothing(
        n in 0..=4usize,
        who: prop::sample::Index,
        wrapped: bool,
        edits in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..3),
    ) {
        let party = parties(n).nth(who.index(n + 1)).unwrap();
        let p = Payment::honest(n, party, 100_000, wrapped, true);
        let mut proof = p.proof();
        let (before, paid) = (p.run().unwrap(), money(&p, &proof));
        for (at, byte) in edits {
            let at = at.index(proof.len());
            proof[at] = byte;
        }
        if let Ok(after) = p.check_bytes(&proof) {
            prop_assert_eq!(after, before);
            prop_assert_eq!(money(&p, &proof), paid);
        }
    }

    #[test]
    fn arbitrary_proofs_are_refused(proof in prop::collection::vec(any::<u8>(), 0..600)) {
        let p = Payment::honest(1, Party::Destination, 100_000, true, true);
        prop_assert!(p.check_bytes(&proof).is_err());
    }
}

/// Every single byte of one proof, every single bit.
#[test]
fn every_bit_flipped_pays_the_same_or_nothing() {
    let mut p = Payment::honest(2, Party::Intermediate(0), 100_000, true, true);
    p.funding.input[0].witness = Witness::new();
    p.template.input[0].witness = Witness::new();
    let proof = p.proof();
    assert!(p.check_bytes(&proof).is_ok());
    for bit in 0..8 * proof.len() {
        let mut damaged = proof.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(p.check_bytes(&damaged).is_err(), "bit {bit}");
    }
}
