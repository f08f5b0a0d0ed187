//! Invoices for tests: written and signed with LDK's `lightning-invoice`, and taken
//! apart and put together again with the `bech32` crate.

use bitcoin::bech32::{ByteIterExt, Fe32, Fe32IterExt, Hrp};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1 as older;
use core::time::Duration;
use lightning_invoice::{
    Bolt11Bech32, Bolt11InvoiceDescription, Currency, Description, Fallback, InvoiceBuilder,
    PaymentSecret, RouteHint, RouteHintHop, RoutingFees, Sha256,
};
use proptest::collection::vec;
use proptest::prelude::*;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use std::string::String;
use std::vec::Vec;

/// What an invoice is to say.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) key: SecretKey,
    pub(crate) currency: Currency,
    pub(crate) amount_msat: Option<u64>,
    pub(crate) preimage: [u8; 32],
    pub(crate) secret: [u8; 32],
    pub(crate) timestamp: u64,
    pub(crate) expiry_s: Option<u64>,
    pub(crate) cltv: u64,
    pub(crate) description: Result<String, [u8; 32]>,
    pub(crate) names_payee: bool,
    pub(crate) mpp: bool,
    pub(crate) metadata: Option<Vec<u8>>,
    pub(crate) fallbacks: Vec<Fallback>,
    pub(crate) hints: Vec<Vec<([u8; 32], u64, u32)>>,
    /// Moves fields about.
    pub(crate) order: Vec<usize>,
}

impl Recipe {
    /// What a source pays in the ordinary case: an invoice on the main network that
    /// commits to these terms by its description hash.
    pub(crate) fn typical(terms_hash: [u8; 32]) -> Self {
        Self {
            key: SecretKey::from_byte_array([7; 32]).unwrap(),
            currency: Currency::Bitcoin,
            amount_msat: Some(1_234_567),
            preimage: [8; 32],
            secret: [9; 32],
            timestamp: 1_750_000_000,
            expiry_s: Some(86_400),
            cltv: 144,
            description: Err(terms_hash),
            names_payee: false,
            mpp: true,
            metadata: None,
            fallbacks: Vec::new(),
            hints: Vec::new(),
            order: Vec::new(),
        }
    }

    /// The same in words, for wallets that offer only text.
    pub(crate) fn typical_text(terms_hash: [u8; 32]) -> Self {
        let text = std::format!("blvm-mesh:{}", hex::encode(terms_hash));
        Self { description: Ok(text), ..Self::typical(terms_hash) }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.key.public_key(&Secp256k1::new())
    }

    pub(crate) fn payment_hash(&self) -> [u8; 32] {
        sha256::Hash::hash(&self.preimage).to_byte_array()
    }

    /// The signed invoice.
    pub(crate) fn text(&self) -> String {
        let description = match &self.description {
            Ok(text) => Bolt11InvoiceDescription::Direct(Description::new(text.clone()).unwrap()),
            Err(hash) => {
                Bolt11InvoiceDescription::Hash(Sha256(sha256::Hash::from_byte_array(*hash)))
            }
        };
        let mut builder = InvoiceBuilder::new(self.currency.clone());
        if let Some(msat) = self.amount_msat {
            builder = builder.amount_milli_satoshis(msat);
        }
        if let Some(seconds) = self.expiry_s {
            builder = builder.expiry_time(Duration::from_secs(seconds));
        }
        if self.names_payee {
            builder =
                builder.payee_pub_key(older_key(&self.key).public_key(&older::Secp256k1::new()));
        }
        for fallback in &self.fallbacks {
            builder = builder.fallback(fallback.clone());
        }
        for hint in &self.hints {
            builder = builder.private_route(RouteHint(hint.iter().map(hop).collect()));
        }
        let mut builder = builder
            .invoice_description(description)
            .payment_hash(sha256::Hash::from_byte_array(self.payment_hash()))
            .duration_since_epoch(Duration::from_secs(self.timestamp))
            .min_final_cltv_expiry_delta(self.cltv)
            .payment_secret(PaymentSecret(self.secret));
        if self.mpp {
            builder = builder.basic_mpp();
        }
        let raw = match &self.metadata {
            None => builder.build_raw(),
            Some(bytes) => builder.payment_metadata(bytes.clone()).build_raw(),
        };
        let mut raw = raw.unwrap();
        for (i, other) in self.order.iter().enumerate() {
            let count = raw.data.tagged_fields.len();
            raw.data.tagged_fields.swap(i % count, other % count);
        }
        let (secp, key) = (older::Secp256k1::new(), older_key(&self.key));
        let signed = raw.sign(|m| Ok::<_, ()>(secp.sign_ecdsa_recoverable(m, &key))).unwrap();
        std::string::ToString::to_string(&signed)
    }
}

/// The key in the types of LDK, which signs with the libsecp256k1 of the `bitcoin` crate.
pub(crate) fn older_key(key: &SecretKey) -> older::SecretKey {
    older::SecretKey::from_slice(&key.secret_bytes()).unwrap()
}

fn hop((key, channel, fee): &([u8; 32], u64, u32)) -> RouteHintHop {
    RouteHintHop {
        src_node_id: older::SecretKey::from_slice(key)
            .unwrap()
            .public_key(&older::Secp256k1::new()),
        short_channel_id: *channel,
        fees: RoutingFees { base_msat: *fee, proportional_millionths: !*fee },
        cltv_expiry_delta: *fee as u16,
        htlc_minimum_msat: None,
        htlc_maximum_msat: None,
    }
}

fn key() -> impl Strategy<Value = SecretKey> {
    any::<[u8; 32]>().prop_filter_map("out of range", |b| SecretKey::from_byte_array(b).ok())
}

fn fallback() -> impl Strategy<Value = Fallback> {
    use bitcoin::{PubkeyHash, ScriptHash, WitnessVersion};
    prop_oneof![
        (0u8..=16, vec(any::<u8>(), 2..=40)).prop_map(|(version, program)| {
            Fallback::SegWitProgram { version: WitnessVersion::try_from(version).unwrap(), program }
        }),
        any::<[u8; 20]>().prop_map(|h| Fallback::PubKeyHash(PubkeyHash::from_byte_array(h))),
        any::<[u8; 20]>().prop_map(|h| Fallback::ScriptHash(ScriptHash::from_byte_array(h))),
    ]
}

fn currency() -> impl Strategy<Value = Currency> {
    prop_oneof![
        Just(Currency::Bitcoin),
        Just(Currency::BitcoinTestnet),
        Just(Currency::Signet),
        Just(Currency::Regtest),
    ]
}

/// Numbers of every magnitude up to `bits` bits.
fn number(bits: u32) -> impl Strategy<Value = u64> {
    (any::<u64>(), 64 - bits..=64).prop_map(|(n, shift)| n.checked_shr(shift).unwrap_or(0))
}

/// Invoices of all kinds.
pub(crate) fn recipe() -> impl Strategy<Value = Recipe> {
    let description = prop_oneof![
        any::<[u8; 32]>().prop_map(Err),
        "\\PC{0,100}".prop_map(|s: String| Ok(s)),
        Just(Ok("é".repeat(319))),
    ];
    let hint = vec((key().prop_map(|k| k.secret_bytes()), any::<u64>(), any::<u32>()), 0..4);
    let whom = (key(), currency(), any::<bool>());
    let what = (
        // An amount pays something.
        proptest::option::of(number(60).prop_map(|msat| msat.max(1))),
        any::<[u8; 32]>(),
        any::<[u8; 32]>(),
        number(35),
        proptest::option::of(number(64)),
        number(64),
        description,
    );
    let more = (
        any::<bool>(),
        proptest::option::of(vec(any::<u8>(), 0..64)),
        vec(fallback(), 0..3),
        vec(hint, 0..3),
        vec(0usize..16, 0..16),
    );
    (whom, what, more).prop_map(|(whom, what, more)| {
        let (key, currency, names_payee) = whom;
        let (amount_msat, preimage, secret, timestamp, expiry_s, cltv, description) = what;
        let (mpp, metadata, fallbacks, hints, order) = more;
        Recipe {
            key,
            currency,
            amount_msat,
            preimage,
            secret,
            timestamp,
            expiry_s,
            cltv,
            description,
            names_payee,
            mpp,
            metadata,
            fallbacks,
            hints,
            order,
        }
    })
}

/// An invoice in its parts, to be changed.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) hrp: String,
    pub(crate) timestamp: Vec<u8>,
    /// Tag and data symbols of each field.
    pub(crate) fields: Vec<(u8, Vec<u8>)>,
    /// Symbols after the last field that are no field.
    pub(crate) stray: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Parts {
    pub(crate) fn of(text: &str) -> Self {
        let parsed =
            bitcoin::bech32::primitives::decode::CheckedHrpstring::new::<Bolt11Bech32>(text)
                .unwrap();
        let all: Vec<u8> =
            parsed.fe32_iter::<std::vec::IntoIter<u8>>().map(|fe| fe.to_u8()).collect();
        let (data, signature) = all.split_at(all.len() - 104);
        let (timestamp, mut data) = data.split_at(7);
        let mut fields = Vec::new();
        while let [tag, high, low, rest @ ..] = data {
            let (field, rest) = rest.split_at(usize::from(*high) * 32 + usize::from(*low));
            fields.push((*tag, field.to_vec()));
            data = rest;
        }
        Self {
            hrp: parsed.hrp().to_lowercase(),
            timestamp: timestamp.to_vec(),
            fields,
            stray: data.to_vec(),
            signature: signature.to_vec(),
        }
    }

    /// The symbols that are signed.
    pub(crate) fn data(&self) -> Vec<u8> {
        let mut data = self.timestamp.clone();
        for (tag, field) in &self.fields {
            data.extend([*tag, (field.len() / 32) as u8, (field.len() % 32) as u8]);
            data.extend(field);
        }
        data.extend(&self.stray);
        data
    }

    /// BOLT 11's hash, computed apart from the code under test.
    pub(crate) fn signing_hash(&self) -> [u8; 32] {
        let mut bits: Vec<bool> = Vec::new();
        for symbol in self.data() {
            bits.extend((0..5).rev().map(|i| symbol >> i & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), false);
        let mut bytes = self.hrp.clone().into_bytes();
        for byte in bits.chunks(8) {
            bytes.push(byte.iter().fold(0, |n, bit| n << 1 | u8::from(*bit)));
        }
        sha256::Hash::hash(&bytes).to_byte_array()
    }

    /// Signs it again, if asked with the other of the two values that `s` can have.
    pub(crate) fn sign(&mut self, key: &SecretKey, high_s: bool) {
        let message = Message::from_digest(self.signing_hash());
        let signature = Secp256k1::new().sign_ecdsa_recoverable(message, key);
        let signature = if high_s { other_s(&signature) } else { signature };
        let (id, compact) = signature.serialize_compact();
        let bytes = compact.into_iter().chain([i32::from(id) as u8]);
        self.signature = bytes.bytes_to_fes().map(|fe| fe.to_u8()).collect();
    }

    /// Writes it, with the right checksum.
    pub(crate) fn text(&self) -> String {
        let symbols = self.data().into_iter().chain(self.signature.iter().copied());
        symbols
            .map(|s| Fe32::try_from(s).unwrap())
            .with_checksum::<Bolt11Bech32>(&Hrp::parse(&self.hrp).unwrap())
            .chars()
            .collect()
    }
}

fn other_s(signature: &RecoverableSignature) -> RecoverableSignature {
    let (id, mut compact) = signature.serialize_compact();
    let s = SecretKey::from_byte_array(compact[32..].try_into().unwrap()).unwrap().negate();
    compact[32..].copy_from_slice(&s.secret_bytes());
    let id = RecoveryId::try_from(i32::from(id) ^ 1).unwrap();
    RecoverableSignature::from_compact(&compact, id).unwrap()
}
