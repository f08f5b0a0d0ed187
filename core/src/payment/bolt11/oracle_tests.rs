//! The reader against BOLT 11's examples and against LDK's `lightning-invoice`.

use super::*;
use bitcoin::secp256k1::Secp256k1;
use std::string::String;
use std::vec::Vec;

struct Example {
    title: String,
    invoice: String,
    signing_hash: Option<String>,
}

/// The examples of BOLT 11; empty where they are not there.
fn examples(kind: &str) -> Vec<Example> {
    let Some(text) = crate::test_shared::read("vectors/bolt11.json") else { return Vec::new() };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = json[kind].as_array().unwrap();
    let field = |v: &serde_json::Value, name: &str| v[name].as_str().map(String::from);
    list.iter()
        .map(|v| Example {
            title: field(v, "title").unwrap(),
            invoice: field(v, "invoice").unwrap(),
            signing_hash: field(v, "signing_hash"),
        })
        .collect()
}

#[test]
fn valid_examples() {
    let secp = Secp256k1::new();
    let list = examples("valid");
    assert!(list.is_empty() || list.len() == 16);
    for Example { title, invoice, signing_hash } in list {
        let read = Invoice::from_text(&invoice).expect(&title);
        if let Some(hash) = signing_hash {
            assert_eq!(hex::encode(read.signature.signing_hash), hash, "{title}");
        }
        // BOLT 11, "Examples": all are signed with one key.
        let key = read.recover_payee(&secp).expect(&title);
        let high_s = title.contains("high-S");
        assert_eq!(
            key.to_string() == "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad",
            !high_s,
            "{title}"
        );
        assert_eq!(read.verify_by(&secp, &key), Ok(()), "{title}");
        let mut text = [0; 1024];
        let len = read.write_text(&mut text).unwrap();
        assert_eq!(str::from_utf8(&text[..len]), Ok(&*invoice.to_lowercase()), "{title}");
    }
}

#[test]
fn invalid_examples() {
    use ParseError::*;
    use SemanticError::*;
    let secp = Secp256k1::new();
    let expected: [Bolt11Error; 10] = [
        UnknownRequiredFeature.into(),
        Checksum.into(),
        NoSeparator.into(),
        MixedCase.into(),
        InvalidSignature.into(),
        TooShort.into(),
        UnknownMultiplier.into(),
        ImpreciseAmount.into(),
        NoPaymentSecret.into(),
        // Its `s` field stands twice, which is found first. For a high `s` with an
        // `n` field and nothing else wrong see `high_s`.
        MultiplePaymentSecrets.into(),
    ];
    let list = examples("invalid");
    assert!(list.is_empty() || list.len() == 10);
    for (Example { title, invoice, .. }, expected) in list.iter().zip(expected) {
        let result = Invoice::from_text(invoice)
            .and_then(|i| i.recover_payee(&secp).map_err(Bolt11Error::from));
        assert_eq!(result, Err(expected), "{title}");
    }
}
