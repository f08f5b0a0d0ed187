//! BOLT 11 texts, as LDK's `lightning-invoice` reads them.

use super::invoice_text::InvoiceText;
use bitcoin::hashes::Hash;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::bolt11::{
    Bolt11Error, Description, Invoice, ParseError, SemanticError,
};
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescriptionRef, Bolt11ParseError, Bolt11SemanticError, Currency,
    SignedRawBolt11Invoice,
};
use secp256k1::{PublicKey, Secp256k1, SecretKey};

const ROUTE_HINT: u8 = 3;
const PAYEE: u8 = 19;

/// The key that signs changed invoices.
pub fn signer() -> SecretKey {
    SecretKey::from_byte_array([0x42; 32]).expect("in range")
}

/// A text as it is; with the right checksum; and signed again as well.
pub fn target(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut accepted = agree(&text);
    let Some(mut invoice) = InvoiceText::split(&text) else { return accepted };
    if let Some(summed) = invoice.text() {
        accepted |= agree(&summed);
    }
    invoice.sign(&signer());
    if let Some(signed) = invoice.text() {
        accepted |= agree(&signed);
    }
    accepted
}

/// Panics where the reader and LDK disagree, but for the differences that
/// `blvm_mesh_core::payment::bolt11` lists. Says whether both accept.
pub fn agree(text: &str) -> bool {
    let secp = Secp256k1::verification_only();
    let ours = Invoice::from_text(text);
    let signer = ours.and_then(|i| i.recover_payee(&secp).map_err(Bolt11Error::from));
    let parts = InvoiceText::split(text);
    let raw = match text.parse::<SignedRawBolt11Invoice>() {
        Ok(raw) => raw,
        Err(Bolt11ParseError::MalformedSignature(bitcoin::secp256k1::Error::InvalidPublicKey))
            if ours.is_ok() =>
        {
            // Difference 4: a key that is no point, unless ours says so too.
            let fields = parts.expect("it was read").fields();
            let count = |tag: u8| fields.iter().filter(|(t, _)| *t == tag).count();
            let unchecked = count(ROUTE_HINT) > 0 || count(PAYEE) > 1;
            let no_point = Err(Bolt11Error::Semantic(SemanticError::InvalidPayeeKey));
            assert!(unchecked || signer == no_point, "{text}");
            return false;
        }
        Err(Bolt11ParseError::ParseAmountError(_)) if ours.is_ok() => {
            assert!(!ours.is_ok_and(|i| ldk_knows(i.amount_msat)), "{text}");
            return false;
        }
        Err(error) => {
            assert!(ours.is_err(), "{text}: LDK says {error}");
            return false;
        }
    };
    let parts = parts.expect("LDK could read it");
    match ours {
        // Differences 2, 3, 5, 7 and 8.
        Err(Bolt11Error::Semantic(SemanticError::ZeroAmount)) => {
            assert_eq!(raw.raw_invoice().amount_pico_btc(), Some(0), "{text}");
            return false;
        }
        Err(Bolt11Error::Parse(ParseError::FieldLength(name))) => {
            let (tag, len) = match name {
                'p' => (1, 52),
                's' => (16, 52),
                'h' => (23, 52),
                _ => (PAYEE, 53),
            };
            let wrong = |field: &(u8, usize)| field.0 == tag && field.1 != len;
            assert!(parts.fields().iter().any(wrong), "{text}");
            return false;
        }
        Err(Bolt11Error::Parse(ParseError::LeadingZero)) => {
            let digits = parts.hrp.trim_start_matches(|c: char| !c.is_ascii_digit());
            assert!(digits.len() > 1 && digits.starts_with('0'), "{text}");
            return false;
        }
        Err(Bolt11Error::Parse(ParseError::AmountOverflow)) => {
            assert!(raw.raw_invoice().amount_pico_btc().is_none(), "{text}");
            return false;
        }
        Err(Bolt11Error::Parse(ParseError::UnknownNetwork)) => {
            assert_eq!(raw.currency(), Currency::Simnet, "{text}");
            return false;
        }
        Err(Bolt11Error::Parse(error)) => panic!("{text}: LDK can read it, we say: {error}"),
        _ => {}
    }
    // Difference 1: where LDK hashes something else, signers are not comparable.
    let comparable = *raw.signable_hash() == parts.signing_hash();
    let ldk = Bolt11Invoice::from_signed(raw);
    if let Ok(ours) = &ours {
        assert_eq!(ours.signature.signing_hash, parts.signing_hash(), "{text}");
        let mut out = vec![0; text.len()];
        assert_eq!(ours.write_text(&mut out), Ok(text.len()));
        assert_eq!(str::from_utf8(&out), Ok(&*text.to_lowercase()));
    }
    let (ours, ldk) = match (ours, ldk) {
        (Ok(ours), Ok(ldk)) => (ours, ldk),
        (Err(_), Err(_)) => return false,
        (Ok(_), Err(Bolt11SemanticError::InvalidSignature)) => {
            assert!(!comparable || signer.is_err(), "{text}: we accept the signature");
            return false;
        }
        (ours, ldk) => panic!("{text}: we {ours:?}, LDK {ldk:?}"),
    };
    if comparable {
        let payee = ldk.payee_pub_key().copied().unwrap_or_else(|| ldk.recover_payee_pub_key());
        let payee = PublicKey::from_slice(&payee.serialize()).expect("a key");
        assert_eq!(signer, Ok(payee), "{text}");
        assert_eq!(ours.verify_by(&secp, &payee), Ok(()), "{text}");
    }
    let known = ours.amount_msat.filter(|msat| ldk_knows(Some(*msat)));
    assert_eq!(known, ldk.amount_milli_satoshis(), "{text}");
    assert_eq!(ours.payment_hash, ldk.payment_hash().to_byte_array(), "{text}");
    assert_eq!(ours.timestamp, ldk.duration_since_epoch().as_secs(), "{text}");
    assert_eq!(ours.expiry_s, ldk.expiry_time().as_secs(), "{text}");
    assert_eq!(ours.signature.payee, ldk.payee_pub_key().map(|k| k.serialize()), "{text}");
    assert!(ours.is_for(network(&ldk)), "{text}");
    match (ours.description, ldk.description()) {
        (Description::Text(ours), Bolt11InvoiceDescriptionRef::Direct(ldk)) => {
            let bytes: Vec<u8> = ours.bytes().collect();
            assert_eq!((bytes.len(), &*bytes), (ours.len(), ldk.as_inner().0.as_bytes()));
        }
        (Description::Hash(ours), Bolt11InvoiceDescriptionRef::Hash(ldk)) => {
            assert_eq!(ours, ldk.0.to_byte_array());
        }
        other => panic!("{text}: {other:?}"),
    }
    signer.is_ok()
}

/// Difference 3: LDK counts pico-bitcoin in 64 bits.
fn ldk_knows(msat: Option<u64>) -> bool {
    msat.is_some_and(|msat| msat.checked_mul(10).is_some())
}

fn network(invoice: &Bolt11Invoice) -> Network {
    match invoice.currency() {
        Currency::Bitcoin => Network::Mainnet,
        Currency::BitcoinTestnet => Network::Testnet3,
        Currency::Signet => Network::Signet,
        Currency::Regtest | Currency::Simnet => Network::Regtest,
    }
}
