//! Invoices as an issuer writes them, signed with LDK's `lightning-invoice`.

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1 as older;
use blvm_mesh_core::payment::packed::{IssuerHint, pack};
use blvm_mesh_core::payment::proof::LIGHTNING;
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use std::sync::OnceLock;
use std::time::Duration;

/// What an invoice on regtest says, and who signs it.
#[derive(Debug, Clone)]
pub struct Order {
    /// Key that signs.
    pub signer: SecretKey,
    /// Key that the proof says signed; ordinarily the signer's.
    pub hint: PublicKey,
    /// The terms it commits to.
    pub terms_hash: [u8; 32],
    /// Amount in millisatoshi.
    pub amount_msat: u64,
    /// When it is written, in seconds since 1970.
    pub timestamp: u64,
    /// Seconds until it expires.
    pub expiry_s: u64,
    /// What paying it reveals; one for each payment.
    pub preimage: [u8; 32],
}

impl Order {
    /// An honest order for an hour.
    pub fn new(signer: SecretKey, terms_hash: [u8; 32], amount_msat: u64, timestamp: u64) -> Self {
        let hint = signer.public_key(&Secp256k1::new());
        let preimage = sha256::Hash::hash(&terms_hash).to_byte_array();
        Self { signer, hint, terms_hash, amount_msat, timestamp, expiry_s: 3600, preimage }
    }

    /// The replay key of the payment.
    pub fn payment_hash(&self) -> [u8; 32] {
        sha256::Hash::hash(&self.preimage).to_byte_array()
    }

    /// The signed invoice.
    pub fn invoice(&self) -> String {
        InvoiceBuilder::new(Currency::Regtest)
            .description_hash(sha256::Hash::from_byte_array(self.terms_hash))
            .payment_hash(sha256::Hash::from_byte_array(self.payment_hash()))
            .payment_secret(PaymentSecret([5; 32]))
            .duration_since_epoch(Duration::from_secs(self.timestamp))
            .min_final_cltv_expiry_delta(18)
            .expiry_time(Duration::from_secs(self.expiry_s))
            .amount_milli_satoshis(self.amount_msat)
            .build_signed(|message| sign(message, &self.signer))
            .expect("the invoice is complete")
            .to_string()
    }

    /// The proof that a packet carries once the invoice is paid.
    pub fn proof(&self) -> Vec<u8> {
        let mut out = vec![0; 2048];
        let hint = IssuerHint::of(&self.hint);
        let packed = pack(&self.invoice(), &self.preimage, &self.terms_hash, hint, &mut out[1..]);
        let len = packed.expect("the invoice can be packed");
        out[0] = LIGHTNING;
        out.truncate(1 + len);
        out
    }
}

/// A key in the types of LDK, which has the libsecp256k1 of the `bitcoin` crate.
pub fn older_key(key: &SecretKey) -> older::SecretKey {
    older::SecretKey::from_slice(&key.secret_bytes()).expect("it is a key")
}

/// Signs with that library, for LDK.
pub fn sign(hash: &older::Message, key: &SecretKey) -> older::ecdsa::RecoverableSignature {
    static SECP: OnceLock<older::Secp256k1<older::SignOnly>> = OnceLock::new();
    let secp = SECP.get_or_init(older::Secp256k1::signing_only);
    secp.sign_ecdsa_recoverable(hash, &older_key(key))
}
