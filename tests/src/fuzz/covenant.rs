//! Covenant proofs: read and written again they are the same bytes; and what is
//! accepted pays, by the `bitcoin` crate's reading of its transactions.

use super::Choices;
use super::covenant_payment::{PAYOUT, locked};
use super::ctv::template_hash;
use super::packed::TERMS;
use super::proof::{HOPS, NOW, PRICE_MSAT, terms};
use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::covenant::proof::MAX_PROOF;
use blvm_mesh_core::payment::covenant::{
    Claim, CovenantProof, CovenantRules, check, locking_scripts, terms_script,
};
use blvm_mesh_core::payment::fee::{FeeDistribution, Party};
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::terms::Purpose;

/// First the place on the route, then a proof: as it is, and with its coin locked
/// by the template and spent by it.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let party = match choices.below(HOPS.len() + 2) {
        0 => Party::Destination,
        1 => Party::Source,
        n => Party::Intermediate(n as u8 - 2),
    };
    let taken = proof(choices.0, party);
    let locked = CovenantProof::parse(choices.0).ok().and_then(|p| locked(&p, &terms().hash()));
    locked.is_some_and(|bytes| proof(&bytes, party)) | taken
}

fn proof(bytes: &[u8], party: Party) -> bool {
    let proof = match CovenantProof::parse(bytes) {
        Ok(proof) => proof,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    assert!(bytes.len() <= MAX_PROOF);
    assert_eq!(proof.encoded_len(), bytes.len());
    let mut out = vec![0; bytes.len()];
    assert_eq!(proof.emit(&mut out), Ok(bytes.len()));
    assert_eq!(out, bytes);
    assert!(proof.emit(&mut out[1..]).is_err());

    let rules = CovenantRules::new(Network::Regtest);
    let terms = terms();
    let (payout_script, price_msat) = (&PAYOUT, PRICE_MSAT);
    let purpose = Purpose::Datagram;
    let claim = Claim { terms: &terms, purpose, party, payout_script, price_msat };
    let Ok(checked) = check(&proof, &claim, &rules) else { return false };
    let template: Transaction = deserialize(proof.template).expect("ours could read it");
    let funding: Transaction = deserialize(proof.funding).expect("ours could read it");
    let coin = template.input[0].previous_output;
    assert_eq!((template.input.len(), coin.txid), (1, funding.compute_txid()));
    let coin = &funding.output[coin.vout as usize];
    let scripts = locking_scripts(&template_hash(&template, 0));
    let lock = coin.script_pubkey.as_bytes();
    assert!(lock == scripts.0 || lock == scripts.1, "locked by this template");
    let sum: u64 = template.output.iter().map(|o| o.value.to_sat()).sum();
    assert!(sum <= coin.value.to_sat(), "it does not make money");
    let commits = terms_script(&terms.hash());
    assert!(template.output.iter().any(|o| o.script_pubkey.as_bytes() == commits));
    let shares = FeeDistribution::new(checked.amount_msat, HOPS.len()).expect("few hops");
    let share = match party {
        // It pays, and may take back less.
        Party::Source => shares.get(party).min(checked.paid_msat),
        _ => shares.get(party),
    };
    assert_eq!(checked.share_msat, share);
    assert!(checked.paid_msat >= checked.share_msat && checked.share_msat >= PRICE_MSAT);
    let paid = |o: &bitcoin::TxOut| {
        o.script_pubkey.as_bytes() == PAYOUT && o.value.to_sat() * 1000 == checked.paid_msat
    };
    assert!(template.output.iter().any(paid), "an output pays us");

    // A block with another root proves nothing.
    let header = |merkle_root| KnownHeader { merkle_root, time: NOW as u32, confirmations: 1 };
    let confirmed = checked.confirm(Some(&header(checked.merkle_root)), NOW, &rules);
    let accepted = confirmed.expect("the block is as it should be");
    assert!(accepted.keep_until > NOW && accepted.replay_key == checked.replay_key);
    assert!(checked.confirm(Some(&header(TERMS)), NOW, &rules).is_err());
    assert!(checked.confirm(None, NOW, &rules).is_err());
    true
}
