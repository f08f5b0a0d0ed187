//! An issuer of invoices, and the one who sees every payment that was made.

use crate::payments::invoice::sign;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::payment::packed::{IssuerHint, pack, pack_whole};
use blvm_mesh_core::payment::proof::LIGHTNING;
use blvm_mesh_core::payment::terms::{Purpose, Terms};
use lightning_invoice::{
    Bolt11InvoiceDescription, Currency, Description, InvoiceBuilder, PaymentSecret,
};
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use std::collections::BTreeMap;
use std::time::Duration;

/// Terms that own their hops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTerms {
    /// The network.
    pub network: Network,
    /// Who sends.
    pub source: NodeId,
    /// Who receives.
    pub destination: NodeId,
    /// Intermediate nodes in travel order.
    pub hops: Vec<HopId>,
    /// Payload bytes.
    pub quota: u64,
}

impl OwnTerms {
    /// The same, borrowed.
    pub fn terms(&self) -> Terms<'_> {
        let Self { network, source, destination, ref hops, quota } = *self;
        Terms { network, source, destination, hops, quota }
    }

    /// What an invoice commits to.
    pub fn hash(&self) -> [u8; 32] {
        self.terms().hash()
    }
}

/// One invoice.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What it pays for.
    pub terms: OwnTerms,
    /// A datagram, or accounts.
    pub purpose: Purpose,
    /// How much, in millisatoshi.
    pub amount_msat: u64,
    /// When it was written, in seconds since 1970.
    pub timestamp: u64,
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
    /// The invoice as wallets know it.
    pub text: String,
    /// Known to the payer only once it is paid.
    pub preimage: [u8; 32],
    /// Whether it was paid.
    pub paid: bool,
}

/// An issuer with its ledger: payment hash to invoice.
#[derive(Debug)]
pub struct Bank {
    key: SecretKey,
    secp: Secp256k1<secp256k1::All>,
    count: u64,
    /// Whether it writes the terms as text, for wallets that offer nothing else.
    pub as_text: bool,
    /// Everything that it ever issued.
    pub issued: BTreeMap<[u8; 32], Issued>,
}

impl Bank {
    /// An issuer with a key made from a number.
    pub fn new(n: u8) -> Self {
        let key = SecretKey::from_byte_array([n.max(1); 32]).expect("a small number is a key");
        Self::of(key)
    }

    /// An issuer with this key.
    pub fn of(key: SecretKey) -> Self {
        Self { key, secp: Secp256k1::new(), count: 0, as_text: false, issued: BTreeMap::new() }
    }

    /// The key that signs.
    pub fn public_key(&self) -> PublicKey {
        self.key.public_key(&self.secp)
    }

    /// The key itself, for tests that write invoices of their own.
    pub fn secret_key(&self) -> SecretKey {
        self.key
    }

    /// What it computes with.
    pub fn secp(&self) -> &Secp256k1<secp256k1::All> {
        &self.secp
    }

    /// Writes an invoice; returns its payment hash.
    pub fn issue(
        &mut self,
        terms: OwnTerms,
        amount_msat: u64,
        timestamp: u64,
        lifetime: u64,
    ) -> [u8; 32] {
        self.issue_for(Purpose::Datagram, terms, amount_msat, timestamp, lifetime)
    }

    /// The same for a datagram or for accounts.
    pub fn issue_for(
        &mut self,
        purpose: Purpose,
        terms: OwnTerms,
        amount_msat: u64,
        timestamp: u64,
        lifetime: u64,
    ) -> [u8; 32] {
        let terms_hash = terms.terms().hash_for(purpose);
        self.count += 1;
        let seed = [&self.key.secret_bytes()[..], &self.count.to_le_bytes()].concat();
        let preimage = sha256::Hash::hash(&seed).to_byte_array();
        let hash = sha256::Hash::hash(&preimage);
        let description = match self.as_text {
            true => {
                let text = format!("blvm-mesh:{:x}", sha256::Hash::from_byte_array(terms_hash));
                Bolt11InvoiceDescription::Direct(Description::new(text).expect("it is short"))
            }
            false => Bolt11InvoiceDescription::Hash(lightning_invoice::Sha256(
                sha256::Hash::from_byte_array(terms_hash),
            )),
        };
        let invoice = InvoiceBuilder::new(Currency::Regtest)
            .amount_milli_satoshis(amount_msat)
            .expiry_time(Duration::from_secs(lifetime))
            .invoice_description(description)
            .payment_hash(hash)
            .duration_since_epoch(Duration::from_secs(timestamp))
            .min_final_cltv_expiry_delta(18)
            .payment_secret(PaymentSecret([42; 32]))
            .build_signed(|m| sign(m, &self.key))
            .expect("a complete invoice");
        let issued = Issued {
            terms,
            purpose,
            amount_msat,
            timestamp,
            expires_at: timestamp + lifetime,
            text: invoice.to_string(),
            preimage,
            paid: false,
        };
        self.issued.insert(hash.to_byte_array(), issued);
        hash.to_byte_array()
    }

    /// Pays an invoice and gives the proof as a packet carries it.
    pub fn pay(&mut self, hash: &[u8; 32]) -> Vec<u8> {
        let issued = self.issued.get_mut(hash).expect("an invoice of this issuer");
        issued.paid = true;
        self.genuine(hash).expect("an invoice of this issuer")
    }

    /// The proof for an invoice, whether it was paid or not; `None` if there is no
    /// such invoice.
    pub fn genuine(&self, hash: &[u8; 32]) -> Option<Vec<u8>> {
        let hint = IssuerHint::of(&self.public_key());
        let issued = self.issued.get(hash)?;
        let mut out = vec![0; 1024];
        let terms_hash = issued.terms.terms().hash_for(issued.purpose);
        let n = pack(&issued.text, &issued.preimage, &terms_hash, hint, &mut out[1..]);
        out.truncate(1 + n.expect("it fits"));
        out[0] = LIGHTNING;
        Some(out)
    }

    /// Whether a proof is one for an invoice of this issuer, in either form.
    pub fn is_genuine(&self, hash: &[u8; 32], proof: &[u8]) -> bool {
        let Some(issued) = self.issued.get(hash) else { return false };
        let whole = || self.packed_proof(hash, issued.preimage, &self.public_key());
        self.genuine(hash).is_some_and(|own| own == proof) || whole() == proof
    }

    /// A proof for an invoice with another preimage, and with the hint at a key
    /// that may be another's.
    pub fn packed_proof(&self, hash: &[u8; 32], preimage: [u8; 32], hint: &PublicKey) -> Vec<u8> {
        let mut out = vec![0; 1024];
        let text = &self.issued[hash].text;
        let n = pack_whole(text, &preimage, IssuerHint::of(hint), &mut out[1..]);
        out.truncate(1 + n.expect("it fits"));
        out[0] = LIGHTNING;
        out
    }

    /// Issues and pays in one step.
    pub fn proof(&mut self, terms: OwnTerms, amount: u64, now: u64, lifetime: u64) -> Vec<u8> {
        let hash = self.issue(terms, amount, now, lifetime);
        self.pay(&hash)
    }
}
