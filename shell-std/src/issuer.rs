//! An issuer of invoices with a local key, for trials. Its invoices cost play money: whoever asks
//! gets the preimage along, as if he had paid, and everybody can compute it from the invoice
//! ([`RegtestWallet`](crate::wallet::RegtestWallet)). So it works on regtest only.

use crate::identity::{Identity, IdentityError};
use crate::node::{Issue, Issued};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::secp256k1 as older;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::bolt11::TERMS_PREFIX;
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name of the issuer's key file in the data directory.
pub const ISSUER_FILE: &str = "issuer.key";

/// Seconds after which an invoice expires where none are given.
pub const DEFAULT_EXPIRY: u64 = 3600;

/// Most seconds that a BOLT 11 timestamp can hold (35 bits).
const MAX_TIME: u64 = (1 << 35) - 1;

/// What an invoice is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Network of the payment; regtest, or it is refused.
    pub network: Network,
    /// The terms that it commits to.
    pub terms_hash: [u8; 32],
    /// Amount, at least 1 msat.
    pub amount_msat: u64,
    /// Seconds until it expires, at least 1.
    pub expiry_s: u64,
    /// When it is written, in seconds since 1970.
    pub timestamp: u64,
    /// Whether to commit in the description's text (`blvm-mesh:` and the hash),
    /// as wallets do that offer no description hash.
    pub as_text: bool,
}

/// Why there is no invoice.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// It would be worth money.
    #[error(
        "this issuer gives every invoice's preimage away, so it signs on regtest only, not on \
         {0}; on {0} let a Lightning node or a federation write the invoices, and name its \
         key as an issuer"
    )]
    Network(Network),
    /// A value is out of its range.
    #[error("{0}")]
    Order(&'static str),
    /// The invoice cannot be built.
    #[error("the invoice cannot be made: {0}")]
    Build(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The key cannot be had.
    #[error(transparent)]
    Key(#[from] IdentityError),
}

/// Signs invoices.
#[derive(Debug, Clone)]
pub struct Issuer {
    key: Identity,
}

impl Issuer {
    /// Reads the key in this file, or makes it (mode 0600) where there is none.
    ///
    /// # Errors
    /// [`IssuerError`]: the key can be neither read nor made.
    pub fn load_or_create(path: &Path) -> Result<Self, IssuerError> {
        Ok(Self { key: Identity::load_or_create(path)? })
    }

    /// With this key.
    pub fn from_secret(secret: SecretKey) -> Self {
        Self { key: Identity::from_secret(secret) }
    }

    /// The key that relays must accept.
    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    /// Writes and signs an invoice.
    ///
    /// # Errors
    /// [`IssuerError::Network`] for any network but regtest.
    pub fn invoice(&self, order: &Order) -> Result<Issued, IssuerError> {
        if order.network != Network::Regtest {
            return Err(IssuerError::Network(order.network));
        }
        if order.amount_msat == 0 {
            return Err(IssuerError::Order("the amount must be at least 1 msat"));
        }
        if order.expiry_s == 0 {
            return Err(IssuerError::Order("an invoice must live for at least 1 second"));
        }
        let expires_at = order.timestamp.checked_add(order.expiry_s);
        let expires_at = expires_at.filter(|at| *at <= MAX_TIME).ok_or(IssuerError::Order(
            "the invoice would expire later than BOLT 11 can say (year 3058)",
        ))?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(IssuerError::Random)?;
        let preimage = preimage(&secret);
        let payment_hash = sha256::Hash::hash(&preimage);

        let builder = InvoiceBuilder::new(Currency::Regtest);
        let builder = match order.as_text {
            true => builder.invoice_description(description(&order.terms_hash)?),
            false => builder.description_hash(sha256::Hash::from_byte_array(order.terms_hash)),
        };
        let invoice = builder
            .payment_hash(payment_hash)
            .payment_secret(PaymentSecret(secret))
            .duration_since_epoch(Duration::from_secs(order.timestamp))
            .min_final_cltv_expiry_delta(18)
            .expiry_time(Duration::from_secs(order.expiry_s))
            .amount_milli_satoshis(order.amount_msat)
            .build_signed(|hash| sign(hash, self.key.secret_key()))
            .map_err(|e| IssuerError::Build(e.to_string()))?;
        Ok(Issued {
            invoice: invoice.to_string(),
            preimage: Some(preimage),
            payment_hash: payment_hash.to_byte_array(),
            issuer: *self.public_key(),
            expires_at,
        })
    }
}

/// A signature in the types of LDK, which has the libsecp256k1 of the `bitcoin` crate.
pub(crate) fn sign(hash: &older::Message, key: &SecretKey) -> older::ecdsa::RecoverableSignature {
    let message = Message::from_digest(*hash.as_ref());
    let (id, compact) =
        Secp256k1::signing_only().sign_ecdsa_recoverable(message, key).serialize_compact();
    older::ecdsa::RecoveryId::from_i32(id.into())
        .and_then(|id| older::ecdsa::RecoverableSignature::from_compact(&compact, id))
        .expect("a signature is one in either version")
}

impl Issue for Issuer {
    fn issue(
        &self,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, String> {
        let order = Order {
            network: Network::Regtest,
            terms_hash,
            amount_msat,
            expiry_s,
            timestamp: unix_now(),
            as_text: false,
        };
        self.invoice(&order).map_err(|e| e.to_string())
    }
}

/// The system's clock, in seconds since 1970; 0 where it is set before that.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The preimage of the invoice with this payment secret, which the invoice itself shows: a tagged
/// hash (BIP 340) of it. So a regtest wallet has it without any channel, and so has everybody
/// else: play money.
pub(crate) fn preimage(payment_secret: &[u8; 32]) -> [u8; 32] {
    let tag = sha256::Hash::hash(b"blvm-mesh/regtest-preimage");
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_byte_array());
    engine.input(tag.as_byte_array());
    engine.input(payment_secret);
    sha256::Hash::from_engine(engine).to_byte_array()
}

fn description(
    terms_hash: &[u8; 32],
) -> Result<lightning_invoice::Bolt11InvoiceDescription, IssuerError> {
    let text = String::from_utf8_lossy(TERMS_PREFIX).into_owned() + &hex::encode(terms_hash);
    let description = lightning_invoice::Description::new(text);
    let wrong = |e: lightning_invoice::CreationError| IssuerError::Build(e.to_string());
    Ok(lightning_invoice::Bolt11InvoiceDescription::Direct(description.map_err(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::payment::lightning::{LightningError, LightningLimits, LightningProof};

    const NOW: u64 = 1_750_000_000;

    fn order() -> Order {
        Order {
            network: Network::Regtest,
            terms_hash: [3; 32],
            amount_msat: 123_456,
            expiry_s: 600,
            timestamp: NOW,
            as_text: false,
        }
    }

    fn issuer() -> Issuer {
        Issuer::from_secret(SecretKey::from_byte_array([1; 32]).unwrap())
    }

    #[test]
    fn both_versions_of_the_library_sign_alike() {
        let older_secp = older::Secp256k1::signing_only();
        for n in 1..=254u8 {
            let key = SecretKey::from_byte_array([n; 32]).unwrap();
            let same = older::SecretKey::from_slice(&[n; 32]).unwrap();
            let hash = older::Message::from_digest(sha256::Hash::hash(&[n]).to_byte_array());
            assert_eq!(sign(&hash, &key), older_secp.sign_ecdsa_recoverable(&hash, &same));
        }
    }

    #[test]
    fn relays_that_name_the_issuer_accept_its_invoices() {
        let secp = Secp256k1::new();
        let limits = LightningLimits { max_lifetime_s: 604_800, future_skew_s: 300 };
        for as_text in [false, true] {
            let issued = issuer().invoice(&Order { as_text, ..order() }).unwrap();
            assert!(issued.invoice.starts_with("lnbcrt1234560p1"), "{}", issued.invoice);
            let Issued { invoice, preimage, .. } = &issued;
            let preimage = preimage.unwrap();
            let proof = LightningProof::Text { invoice, preimage, stated: None };
            let check = |terms, now| proof.check(&terms, Network::Regtest, Some(now), &limits);
            let checked = check([3; 32], NOW).unwrap();
            assert_eq!(checked.amount_msat, 123_456);
            assert_eq!(checked.payment_hash, issued.payment_hash);
            assert_eq!((checked.expires_at, issued.expires_at), (NOW + 600, NOW + 600));
            assert!(checked.verify_signature(&secp, &[issued.issuer]).is_ok());
            let other = Issuer::from_secret(SecretKey::from_byte_array([2; 32]).unwrap());
            let refused = checked.verify_signature(&secp, &[*other.public_key()]);
            assert_eq!(refused, Err(LightningError::SelfIssued));
            assert_eq!(check([4; 32], NOW), Err(LightningError::TermsNotCommitted));
            assert!(matches!(check([3; 32], NOW + 600), Err(LightningError::Expired { .. })));
        }
        let [a, b] = [(); 2].map(|()| issuer().invoice(&order()).unwrap());
        assert_ne!(a.payment_hash, b.payment_hash, "each has its own preimage");
    }

    #[test]
    fn an_invoice_shows_its_own_preimage() {
        let issued = issuer().invoice(&order()).unwrap();
        let read: lightning_invoice::Bolt11Invoice = issued.invoice.parse().unwrap();
        assert_eq!(Some(preimage(&read.payment_secret().0)), issued.preimage);
        // BIP 340's tagged hash, pinned.
        let known = "aab759a3c691bb4887a304e730184d3d4352607ea73645e0ecae68f05d806702";
        assert_eq!(hex::encode(preimage(&[7; 32])), known);
    }

    #[test]
    fn only_on_regtest_and_only_what_makes_sense() {
        for network in Network::ALL.into_iter().filter(|n| *n != Network::Regtest) {
            let error = issuer().invoice(&Order { network, ..order() }).unwrap_err().to_string();
            assert!(error.contains("regtest only"), "{error}");
            assert!(error.contains(network.name()), "{error}");
        }
        let wrong = [
            Order { amount_msat: 0, ..order() },
            Order { expiry_s: 0, ..order() },
            Order { timestamp: MAX_TIME, ..order() },
            Order { expiry_s: u64::MAX, ..order() },
        ];
        for order in wrong {
            assert!(matches!(issuer().invoice(&order), Err(IssuerError::Order(_))), "{order:?}");
        }
        let most = Order { amount_msat: u64::MAX, ..order() };
        assert!(matches!(issuer().invoice(&most), Err(IssuerError::Build(_))));
    }

    #[test]
    fn the_key_is_kept_for_its_owner() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ISSUER_FILE);
        let first = Issuer::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(Issuer::load_or_create(&path).unwrap().public_key(), first.public_key());
    }
}
