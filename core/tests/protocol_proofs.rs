//! The two proofs of payment in `docs/PROTOCOL.md`: read byte by byte as its tables
//! say, made anew with other libraries, and accepted by the checks.

#[allow(dead_code)]
mod document;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, absolute, merkle_tree,
    transaction,
};
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::payment::covenant::{self, CovenantRules};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::lightning::LightningLimits;
use blvm_mesh_core::payment::packed::PackedProof;
use blvm_mesh_core::payment::proof::{ForAccounts, PaymentProof};
use blvm_mesh_core::payment::terms::{Purpose, Terms};
use document::example;
use lightning_invoice::{Bolt11Invoice, Currency, InvoiceBuilder, PaymentSecret};
use secp256k1::{Secp256k1, SecretKey};
use std::time::Duration;

const NOW: u64 = 1_750_000_000;
const AMOUNT_MSAT: u64 = 10_000;
const PREIMAGE: [u8; 32] = [8; 32];
const ACCOUNTS: ForAccounts = ForAccounts { receives: false, open_number: 4 };

fn with_terms<T>(f: impl FnOnce(&Terms<'_>) -> T) -> T {
    let hops = [HopId([0xcc; 8])];
    f(&Terms {
        network: Network::Regtest,
        source: NodeId([0xaa; 32]),
        destination: NodeId([0xbb; 32]),
        hops: &hops,
        quota: 5,
    })
}

/// The hash as the document says it is made, field by field.
fn terms_hash() -> [u8; 32] {
    hash_of(b"blvm-mesh/terms", 5)
}

/// The same for accounts, where the destination is not paid.
fn account_terms_hash() -> [u8; 32] {
    hash_of(b"blvm-mesh/account-terms", 0)
}

fn hash_of(tag: &[u8], quota: u64) -> [u8; 32] {
    let tag = sha256::Hash::hash(tag).to_byte_array();
    let mut m = [tag, tag].concat();
    m.extend([1, 4]);
    m.extend([0xaa; 32]);
    m.extend([0xbb; 32]);
    m.extend(quota.to_le_bytes());
    m.extend(1u64.to_le_bytes());
    m.extend([0xcc; 8]);
    sha256::Hash::hash(&m).to_byte_array()
}

#[test]
fn terms() {
    assert_eq!(example("Terms"), terms_hash());
    assert_eq!(with_terms(|terms| terms.hash()), terms_hash());
    let accounts = |receives| with_terms(|terms| terms.hash_for(Purpose::Accounts { receives }));
    assert_eq!(accounts(false), account_terms_hash());
    assert_eq!(accounts(true), hash_of(b"blvm-mesh/account-terms", 1));
}

fn invoice(issuer: &SecretKey, terms_hash: [u8; 32]) -> Bolt11Invoice {
    // LDK signs with the libsecp256k1 of the `bitcoin` crate.
    let secp = bitcoin::secp256k1::Secp256k1::new();
    let issuer = bitcoin::secp256k1::SecretKey::from_slice(&issuer.secret_bytes()).unwrap();
    InvoiceBuilder::new(Currency::Regtest)
        .amount_milli_satoshis(AMOUNT_MSAT)
        .description_hash(sha256::Hash::from_byte_array(terms_hash))
        .payment_hash(sha256::Hash::hash(&PREIMAGE))
        .payment_secret(PaymentSecret([9; 32]))
        .basic_mpp()
        .duration_since_epoch(Duration::from_secs(NOW))
        .expiry_time(Duration::from_secs(3600))
        .min_final_cltv_expiry_delta(18)
        .build_signed(|hash| secp.sign_ecdsa_recoverable(hash, &issuer))
        .unwrap()
}

#[test]
fn lightning_proof() {
    let issuer = SecretKey::from_byte_array([7; 32]).unwrap();
    let key = issuer.public_key(&Secp256k1::new());
    let invoice = invoice(&issuer, terms_hash());
    let bytes = example("Lightning proof");
    assert!(bytes.len() <= 200);

    // As the table says.
    let signature = invoice.clone().into_signed_raw().signature().0.serialize_compact();
    assert_eq!(bytes[0], 1);
    // Payment and description hash are left out.
    assert_eq!(bytes[1], 0b01100 | signature.0.to_i32() as u8);
    // lnbcrt, and an amount in n: 100n is 10,000 msat.
    assert_eq!(bytes[2], 4 << 4 | 3);
    assert_eq!(bytes[3..5], key.x_only_public_key().0.serialize()[..2]);
    assert_eq!(bytes[5..37], PREIMAGE);
    assert_eq!(bytes[37..101], signature.1);
    assert_eq!(bytes[101], 100);
    // The timestamp in 35 bits, then the first field: its tag and length.
    let bits: String = bytes[102..].iter().map(|b| format!("{b:08b}")).collect();
    assert_eq!(u64::from_str_radix(&bits[..35], 2), Ok(NOW));

    // Put together again it is the invoice that LDK wrote.
    let Ok(PaymentProof::Lightning(proof)) = PaymentProof::parse(&bytes) else { panic!() };
    let mut text = [0; 1024];
    let packed = PackedProof::parse(&bytes[1..]).unwrap();
    let n = packed.unpack_text(&terms_hash(), &mut text).unwrap();
    assert_eq!(std::str::from_utf8(&text[..n]).unwrap(), invoice.to_string());

    let limits = LightningLimits { max_lifetime_s: 86_400, future_skew_s: 60 };
    let checked = proof.check(&terms_hash(), Network::Regtest, Some(NOW + 1), &limits).unwrap();
    assert_eq!((checked.amount_msat, checked.timestamp), (AMOUNT_MSAT, NOW));
    assert_eq!(checked.expires_at, NOW + 3600);
    assert_eq!(checked.payment_hash, invoice.payment_hash().to_byte_array());
    assert_eq!(checked.verify_signature(&Secp256k1::new(), &[key]), Ok(key));
}

#[test]
fn account_proof() {
    let issuer = SecretKey::from_byte_array([7; 32]).unwrap();
    let key = issuer.public_key(&Secp256k1::new());
    let invoice = invoice(&issuer, account_terms_hash());
    let bytes = example("Account proof");
    assert_eq!(bytes[..2], [3, 0]);
    assert_eq!(bytes[2..10], 4u64.to_le_bytes());
    let (accounts, proof) = ForAccounts::split(&bytes).unwrap();
    let accounts = accounts.unwrap();
    assert_eq!((accounts, accounts.bytes()), (ACCOUNTS, bytes[..10].try_into().unwrap()));
    // Behind that it is a proof like any other, for other terms.
    let packed = PackedProof::parse(&proof[1..]).unwrap();
    let mut text = [0; 1024];
    let n = packed.unpack_text(&account_terms_hash(), &mut text).unwrap();
    assert_eq!(std::str::from_utf8(&text[..n]).unwrap(), invoice.to_string());
    let Ok(PaymentProof::Lightning(proof)) = PaymentProof::parse(proof) else { panic!() };
    let limits = LightningLimits { max_lifetime_s: 86_400, future_skew_s: 60 };
    let check = |hash: &[u8; 32]| {
        let checked = proof.check(hash, Network::Regtest, Some(NOW + 1), &limits).unwrap();
        checked.verify_signature(&Secp256k1::new(), &[key])
    };
    assert_eq!(check(&account_terms_hash()), Ok(key));
    assert!(check(&terms_hash()).is_err(), "it pays for no datagram");
}

/// Pay to the witness program that is this byte 32 times.
fn payee(program: u8) -> ScriptBuf {
    ScriptBuf::from([&[0x51, 32][..], &[program; 32]].concat())
}

fn transaction(previous_output: OutPoint, output: Vec<TxOut>) -> Transaction {
    let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
    let input = vec![TxIn { previous_output, sequence, ..TxIn::default() }];
    let version = transaction::Version::TWO;
    Transaction { version, lock_time: absolute::LockTime::ZERO, input, output }
}

/// BIP 119's hash of this template: version 2, lock time 0, one input, no unlocking
/// script.
fn template_hash(tx: &Transaction) -> [u8; 32] {
    let outputs: Vec<u8> = tx.output.iter().flat_map(serialize).collect();
    let sequence = tx.input[0].sequence.0.to_le_bytes();
    let mut m = [2u32, 0, 1].map(u32::to_le_bytes).concat();
    m.extend(sha256::Hash::hash(&sequence).to_byte_array());
    m.extend((tx.output.len() as u32).to_le_bytes());
    m.extend(sha256::Hash::hash(&outputs).to_byte_array());
    m.extend(0u32.to_le_bytes());
    sha256::Hash::hash(&m).to_byte_array()
}

#[test]
fn covenant_proof() {
    let paid = |sat, script_pubkey| TxOut { value: Amount::from_sat(sat), script_pubkey };
    let mut template = transaction(
        OutPoint::null(),
        vec![
            paid(3_000, payee(0xcc)),
            paid(6_000, payee(0xbb)),
            paid(1_000, payee(0xaa)),
            paid(0, ScriptBuf::new_op_return(terms_hash())),
        ],
    );
    let lock = [&[0x20], &template_hash(&template)[..], &[0xb3]].concat();
    let earlier = OutPoint { txid: Txid::from_byte_array([0x11; 32]), vout: 1 };
    let funding = transaction(earlier, vec![paid(10_500, ScriptBuf::from(lock).to_p2wsh())]);
    template.input[0].previous_output = OutPoint { txid: funding.compute_txid(), vout: 0 };
    let txids = [[0x33; 32], [0x44; 32]].map(Txid::from_byte_array);
    let above = [txids[0].to_byte_array(), txids[1].to_byte_array()].concat();
    // Third of three: its first sibling is its own copy.
    let siblings = [
        funding.compute_txid().to_byte_array(),
        bitcoin::hashes::sha256d::Hash::hash(&above).to_byte_array(),
    ];

    // As the table says.
    let bytes = example("Covenant proof");
    let at = |from: usize, n: usize| &bytes[from..from + n];
    let number = |from: usize| usize::from(u16::from_le_bytes([bytes[from], bytes[from + 1]]));
    assert_eq!((bytes[0], number(1)), (2, 0));
    let t = number(3);
    assert_eq!(deserialize::<Transaction>(at(5, t)).unwrap(), template);
    let f = number(5 + t);
    assert_eq!(deserialize::<Transaction>(at(7 + t, f)).unwrap(), funding);
    assert_eq!(at(7 + t + f, 32), [0x55; 32]);
    assert_eq!(at(39 + t + f, 4), 2u32.to_le_bytes());
    assert_eq!(bytes[43 + t + f], 2);
    assert_eq!(at(44 + t + f, 64), siblings.concat());
    assert_eq!(bytes.len(), 44 + t + f + 64);

    // And it is good, for each of those whom it pays.
    let Ok(PaymentProof::InstantSettlement(proof)) = PaymentProof::parse(&bytes) else { panic!() };
    let rules = CovenantRules::new(Network::Regtest);
    let ids = txids.into_iter().chain([funding.compute_txid()]);
    let merkle_root = merkle_tree::calculate_root(ids).unwrap().to_byte_array();
    let block = KnownHeader { merkle_root, time: NOW as u32, confirmations: 1 };
    for (party, program, share_msat) in [
        (Party::Intermediate(0), 0xcc, 3_000_000),
        (Party::Destination, 0xbb, 6_000_000),
        (Party::Source, 0xaa, 1_000_000),
    ] {
        let checked = with_terms(|terms| {
            let script = payee(program);
            let claim = covenant::Claim {
                purpose: Purpose::Datagram,
                terms,
                party,
                payout_script: script.as_bytes(),
                price_msat: share_msat,
            };
            covenant::check(&proof, &claim, &rules).unwrap()
        });
        let accepted = checked.confirm(Some(&block), NOW + 1, &rules).unwrap();
        assert_eq!((accepted.amount_msat, accepted.share_msat), (10_000_000, share_msat));
    }
}
