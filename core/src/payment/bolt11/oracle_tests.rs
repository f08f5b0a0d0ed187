//! The reader against BOLT 11's examples and against LDK's `lightning-invoice`.

use super::super::symbols::field::tag;
use super::*;
use crate::payment::test_invoice::{Parts, Recipe, recipe};
use bitcoin::hashes::Hash;
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescriptionRef, Bolt11ParseError, Bolt11SemanticError, Currency,
    SignedRawBolt11Invoice,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use secp256k1::{self, Secp256k1};
use std::cell::Cell;
use std::format;
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
        // Difference 8: the example is older than the rule.
        if title.contains("must be ignored") {
            let error = Invoice::from_text(&invoice).map(|i| i.amount_msat);
            assert_eq!(error, Err(ParseError::FieldLength('p').into()), "{title}");
            continue;
        }
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

/// What a description says, from either library.
fn described(description: &Description<'_>) -> Result<Vec<u8>, [u8; 32]> {
    match description {
        Description::Hash(hash) => Err(*hash),
        Description::Text(text) => {
            let bytes: Vec<u8> = text.bytes().collect();
            assert_eq!(bytes.len(), text.len());
            Ok(bytes)
        }
    }
}

/// Difference 3: LDK counts pico-bitcoin in 64 bits.
fn ldk_knows(msat: Option<u64>) -> bool {
    msat.is_some_and(|msat| msat.checked_mul(10).is_some())
}

/// Compares with LDK, and says whether both accept.
fn agree_with_ldk(parts: &Parts) -> Result<bool, TestCaseError> {
    let secp = Secp256k1::new();
    let text = parts.text();
    let ours = Invoice::from_text(&text);
    let signer = ours.and_then(|i| i.recover_payee(&secp).map_err(Bolt11Error::from));
    let raw = match text.parse::<SignedRawBolt11Invoice>() {
        Ok(raw) => raw,
        Err(Bolt11ParseError::MalformedSignature(bitcoin::secp256k1::Error::InvalidPublicKey))
            if ours.is_ok() =>
        {
            // Difference 4: a key that is no point. Ours says so of the payee's.
            let count = |t: u8| parts.fields.iter().filter(|(tag, _)| *tag == t).count();
            let unchecked = count(tag::ROUTE_HINT) > 0 || count(tag::PAYEE) > 1;
            let no_point = Err(Bolt11Error::Semantic(SemanticError::InvalidPayeeKey));
            prop_assert!(unchecked || signer == no_point);
            return Ok(false);
        }
        Err(Bolt11ParseError::ParseAmountError(_) | Bolt11ParseError::IntegerOverflowError)
            if ours.is_ok() =>
        {
            prop_assert!(!ldk_knows(ours.unwrap().amount_msat), "{text}");
            return Ok(false);
        }
        Err(error) => {
            prop_assert!(ours.is_err(), "{text}: LDK says {error}");
            return Ok(false);
        }
    };
    match ours {
        // Differences 2, 3, 5, 7 and 8.
        Err(Bolt11Error::Semantic(SemanticError::ZeroAmount)) => {
            prop_assert_eq!(raw.raw_invoice().amount_pico_btc(), Some(0));
            return Ok(false);
        }
        Err(Bolt11Error::Parse(ParseError::FieldLength(name))) => {
            let (tag, len) = match name {
                'p' => (tag::PAYMENT_HASH, 52),
                's' => (tag::PAYMENT_SECRET, 52),
                'h' => (tag::DESCRIPTION_HASH, 52),
                _ => (tag::PAYEE, 53),
            };
            // What is left at the end is shorter than any of these.
            let short = parts.stray.first() == Some(&tag);
            let wrong = parts.fields.iter().any(|(t, data)| *t == tag && data.len() != len);
            prop_assert!(short || wrong);
            return Ok(false);
        }
        Err(Bolt11Error::Parse(ParseError::LeadingZero)) => {
            let digits = parts.hrp.trim_start_matches(|c: char| !c.is_ascii_digit());
            prop_assert!(digits.len() > 1 && digits.starts_with('0'));
            return Ok(false);
        }
        Err(Bolt11Error::Parse(ParseError::AmountOverflow)) => {
            prop_assert!(raw.raw_invoice().amount_pico_btc().is_none());
            return Ok(false);
        }
        Err(Bolt11Error::Parse(ParseError::UnknownNetwork)) => {
            prop_assert_eq!(raw.currency(), Currency::Simnet);
            return Ok(false);
        }
        Err(Bolt11Error::Parse(error)) => {
            return Err(TestCaseError::fail(format!("{text}: LDK can read it, we say: {error}")));
        }
        _ => {}
    }
    let ldk_hash = *raw.signable_hash();
    let ldk = Bolt11Invoice::from_signed(raw);
    if let Ok(ours) = &ours {
        prop_assert_eq!(ours.signature.signing_hash, parts.signing_hash());
        let mut out = std::vec![0; text.len()];
        prop_assert_eq!(ours.write_text(&mut out), Ok(text.len()));
        prop_assert_eq!(std::str::from_utf8(&out), Ok(&*text));
    }
    // Difference 1: where LDK hashes something else, signers are not comparable.
    let comparable = ldk_hash == parts.signing_hash();
    let (ours, ldk) = match (ours, ldk) {
        (Ok(ours), Ok(ldk)) => (ours, ldk),
        (Err(_), Err(_)) => return Ok(false),
        (Ok(_), Err(Bolt11SemanticError::InvalidSignature)) => {
            prop_assert!(!comparable || signer.is_err(), "{}: we accept the signature", text);
            return Ok(false);
        }
        (ours, ldk) => {
            return Err(TestCaseError::fail(format!("{text}: we {ours:?}, LDK {ldk:?}")));
        }
    };
    if comparable {
        let payee = ldk.payee_pub_key().copied().unwrap_or_else(|| ldk.recover_payee_pub_key());
        let payee = secp256k1::PublicKey::from_slice(&payee.serialize()).unwrap();
        prop_assert_eq!(signer, Ok(payee), "{}", text);
        prop_assert_eq!(ours.verify_by(&secp, &payee), Ok(()));
    }
    let known = ours.amount_msat.filter(|msat| ldk_knows(Some(*msat)));
    prop_assert_eq!(known, ldk.amount_milli_satoshis());
    prop_assert_eq!(ours.payment_hash, ldk.payment_hash().to_byte_array());
    prop_assert_eq!(ours.timestamp, ldk.duration_since_epoch().as_secs());
    prop_assert_eq!(ours.expiry_s, ldk.expiry_time().as_secs());
    prop_assert_eq!(ours.signature.payee, ldk.payee_pub_key().map(|k| k.serialize()));
    let network = match ldk.currency() {
        Currency::Bitcoin => Network::Mainnet,
        Currency::BitcoinTestnet => Network::Testnet3,
        Currency::Signet => Network::Signet,
        _ => Network::Regtest,
    };
    prop_assert_eq!(ours.network(), network);
    let ldk_description = match ldk.description() {
        Bolt11InvoiceDescriptionRef::Direct(text) => Ok(text.as_inner().0.as_bytes().to_vec()),
        Bolt11InvoiceDescriptionRef::Hash(hash) => Err(hash.0.to_byte_array()),
    };
    prop_assert_eq!(described(&ours.description), ldk_description);
    Ok(signer.is_ok())
}

/// A change to an invoice that is signed again afterwards, or not.
#[derive(Clone, Debug)]
enum Mutation {
    None,
    Timestamp(usize, u8),
    Symbol(usize, usize, u8),
    Retag(usize, u8),
    Resize(usize, usize),
    Remove(usize),
    Repeat(usize),
    Insert(usize, u8, Vec<u8>),
    Stray(Vec<u8>),
    /// Another human-readable part.
    Hrp(String),
    /// A symbol of the signature.
    Signature(usize, u8),
    /// All of the signature.
    NewSignature(Vec<u8>),
}

fn known_tag() -> impl Strategy<Value = u8> {
    prop_oneof![
        proptest::sample::select(std::vec![1u8, 3, 5, 6, 9, 13, 16, 19, 23, 24, 27]),
        0u8..32,
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let sizes = proptest::sample::select(std::vec![0usize, 1, 2, 12, 13, 14, 33, 34, 52, 53, 82]);
    let data = sizes.clone().prop_flat_map(|len| {
        // Zeros in front make numbers small and padding right.
        (vec(0u8..32, len), 0..=len).prop_map(|(mut data, zeros)| {
            data[..zeros].fill(0);
            data
        })
    });
    prop_oneof![
        Just(Mutation::None),
        (0usize..7, 0u8..32).prop_map(|(i, s)| Mutation::Timestamp(i, s)),
        (any::<usize>(), any::<usize>(), 0u8..32).prop_map(|(f, i, s)| Mutation::Symbol(f, i, s)),
        (any::<usize>(), known_tag()).prop_map(|(f, t)| Mutation::Retag(f, t)),
        (any::<usize>(), sizes).prop_map(|(f, len)| Mutation::Resize(f, len)),
        any::<usize>().prop_map(Mutation::Remove),
        any::<usize>().prop_map(Mutation::Repeat),
        (any::<usize>(), known_tag(), data).prop_map(|(f, t, d)| Mutation::Insert(f, t, d)),
        vec(0u8..32, 1..5).prop_map(Mutation::Stray),
        "(ln|l|xn|)(bc|tb|tbs|bcrt|sb|)(|0|[0-9]{1,21})[munp]?[x]?"
            .prop_filter_map("empty", |s| (!s.is_empty()).then_some(Mutation::Hrp(s))),
        "ln(bc|tb|tbs|bcrt|sb)[0-9]{0,9}[munp]?".prop_map(Mutation::Hrp),
        (0usize..104, 0u8..32).prop_map(|(i, s)| Mutation::Signature(i, s)),
        vec(0u8..32, 104).prop_map(Mutation::NewSignature),
        Just(Mutation::NewSignature(std::vec![0; 104])),
        Just(Mutation::NewSignature(std::vec![31; 104])),
    ]
}

fn mutate(parts: &mut Parts, mutation: Mutation) {
    let count = parts.fields.len();
    match mutation {
        Mutation::None => {}
        Mutation::Timestamp(i, s) => parts.timestamp[i] = s,
        Mutation::Symbol(f, i, s) => {
            let data = &mut parts.fields[f % count].1;
            let len = data.len().max(1);
            if let Some(symbol) = data.get_mut(i % len) {
                *symbol = s;
            }
        }
        Mutation::Retag(f, tag) => parts.fields[f % count].0 = tag,
        Mutation::Resize(f, len) => parts.fields[f % count].1.resize(len, 0),
        Mutation::Remove(f) => {
            parts.fields.remove(f % count);
        }
        Mutation::Repeat(f) => parts.fields.push(parts.fields[f % count].clone()),
        Mutation::Insert(f, tag, data) => parts.fields.insert(f % (count + 1), (tag, data)),
        Mutation::Stray(symbols) => parts.stray = symbols,
        Mutation::Hrp(hrp) => parts.hrp = hrp,
        Mutation::Signature(i, s) => parts.signature[i] = s,
        Mutation::NewSignature(signature) => parts.signature = signature,
    }
}

#[test]
fn agrees_with_ldk_on_invoices_and_mutations() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    let config = ProptestConfig { cases: cases.unwrap_or(2000), ..ProptestConfig::default() };
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    // Signed again before the last mutation, so that those of signatures stay.
    let strategy = (recipe(), vec(mutation(), 0..3), any::<bool>(), any::<bool>(), mutation());
    TestRunner::new(config.clone())
        .run(&strategy, |(recipe, mutations, resign, high_s, last)| {
            let text = recipe.text();
            let mut parts = Parts::of(&text);
            prop_assert_eq!(parts.text(), &*text);
            prop_assert!(agree_with_ldk(&parts)?, "both accept the original");
            mutations.into_iter().for_each(|m| mutate(&mut parts, m));
            if parts.fields.is_empty() {
                return Ok(());
            }
            if resign {
                parts.sign(&recipe.key, high_s);
            }
            if matches!(last, Mutation::Signature(..) | Mutation::NewSignature(_)) || !resign {
                mutate(&mut parts, last);
            }
            let count = if agree_with_ldk(&parts)? { &accepted } else { &refused };
            count.set(count.get() + 1);
            Ok(())
        })
        .unwrap();
    // Neither outcome is rare, or the test would say little.
    assert!(accepted.get() * 8 > config.cases, "only {} accepted", accepted.get());
    assert!(refused.get() * 8 > config.cases, "only {} refused", refused.get());
}

/// Both accept a high `s` where the key is recovered, neither where it is named.
#[test]
fn high_s() {
    let secp = Secp256k1::new();
    for names_payee in [false, true] {
        let recipe = Recipe { names_payee, ..Recipe::typical([1; 32]) };
        let mut parts = Parts::of(&recipe.text());
        parts.sign(&recipe.key, true);
        assert_eq!(agree_with_ldk(&parts).unwrap(), !names_payee);
        let text = parts.text();
        let invoice = Invoice::from_text(&text).unwrap();
        let expected = if names_payee {
            Err(SemanticError::InvalidSignature)
        } else {
            Ok(recipe.public_key())
        };
        assert_eq!(invoice.recover_payee(&secp), expected);
        let verified = invoice.verify_by(&secp, &recipe.public_key());
        assert_eq!(verified, expected.map(|_| ()));
    }
}

proptest! {
    #[test]
    fn any_text_reads_without_panic(text in "(lnbc1|lntb20m1|)[ac-hj-np-z02-9]{0,400}", other in any::<String>()) {
        // Checksums are right once in 2^30, so the data is tried behind it as well.
        let _ = Invoice::from_text(&text);
        let _ = Invoice::from_text(&other);
        let data = text.rsplit('1').next().unwrap_or_default();
        let hrp = Hrp::parse(b"lnbc20m").unwrap();
        let _ = Invoice::read(hrp, Symbols::Text(data.as_bytes()), [1; 64], 0);
    }

    #[test]
    fn one_wrong_character_is_noticed(recipe in recipe(), at in any::<usize>(), c in 33u8..127) {
        let text = recipe.text();
        let at = at % text.len();
        let mut bytes = text.clone().into_bytes();
        bytes[at] = c;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(Invoice::from_text(&changed).is_ok(), changed == text);
    }
}

/// The limit on length is LDK's.
#[test]
fn longest_invoice() {
    let mut parts = Parts::of(&Recipe::typical([1; 32]).text());
    let mut filler = |len: usize| {
        parts.fields.push((0, std::vec![0; len]));
        let text = parts.text();
        let ldk = text.parse::<SignedRawBolt11Invoice>().is_ok();
        assert_eq!(Invoice::from_text(&text).is_ok(), ldk);
        (text.len(), ldk)
    };
    let (mut len, mut accepted) = (0, true);
    while len < MAX_TEXT_LEN - 1030 {
        (len, accepted) = filler(1000);
    }
    assert!(accepted);
    assert_eq!(filler(MAX_TEXT_LEN - len - 3), (MAX_TEXT_LEN, true));
    assert_eq!(filler(0), (MAX_TEXT_LEN + 3, false));
}

/// Every feature bit, and every length of a field that has rules about it.
#[test]
fn boundaries_are_those_of_ldk() {
    let recipe = Recipe::typical([1; 32]);
    let original = Parts::of(&recipe.text());
    let place = |t: u8| original.fields.iter().position(|(tag, _)| *tag == t).unwrap();
    let features = place(tag::FEATURES);
    let accepted = |parts: &Parts| {
        let mut parts = parts.clone();
        parts.sign(&recipe.key, false);
        agree_with_ldk(&parts).unwrap()
    };
    let mut count = 0;
    for bit in 0..130 {
        for with_secret in [false, true] {
            let mut parts = original.clone();
            let data = &mut parts.fields[features].1;
            *data = std::vec![0; 26];
            let bits = if with_secret { &[14, bit][..] } else { &[bit] };
            bits.iter().for_each(|bit| data[25 - bit / 5] |= 1 << (bit % 5));
            count += u32::from(accepted(&parts));
        }
    }
    // With the secret the 65 odd bits and 8, 14, 16, 48, 56; alone 14 and 15.
    assert_eq!(count, 65 + 5 + 2);
    for tag in 0..32 {
        let expected = (0..=135).filter(|len| {
            let mut parts = original.clone();
            if tag == tag::DESCRIPTION {
                parts.fields.retain(|(t, _)| *t != tag::DESCRIPTION_HASH);
            }
            parts.fields.push((tag, std::vec![0; *len]));
            accepted(&parts)
        });
        let mut versions = 0;
        if tag == tag::FALLBACK {
            for version in 0..32 {
                for len in 0..70 {
                    let mut parts = original.clone();
                    let data = core::iter::once(version).chain(core::iter::repeat_n(0, len));
                    parts.fields.push((tag, data.collect()));
                    versions += u32::from(accepted(&parts));
                }
            }
            assert_eq!(versions, 17 * 62 + 2 * 2 + 13 * 70);
        }
        // Those of one length stand there already, or would be a key.
        let fixed = [tag::PAYMENT_HASH, tag::PAYMENT_SECRET, tag::DESCRIPTION_HASH, tag::PAYEE]
            .contains(&tag);
        assert_eq!(expected.count() == 0, fixed, "tag {tag}");
    }
    // Numbers end at 64 bits.
    for tag in [tag::EXPIRY, tag::MIN_FINAL_CLTV] {
        for (first, fits) in [(15, true), (16, false)] {
            let mut parts = original.clone();
            parts.fields.push((tag, core::iter::once(first).chain([31; 12]).collect()));
            assert_eq!(accepted(&parts), fits);
        }
    }
}

/// BOLT 11, edition of 9 March 2026: "MUST fail the payment if any field with fixed
/// `data_length` (`p`, `h`, `s`, `n`) does not have the correct length"; LDK skips it.
#[test]
fn fixed_fields_have_their_length() {
    let recipe = Recipe::typical([1; 32]);
    let original = Parts::of(&recipe.text());
    for (name, tag, right) in [
        ('p', tag::PAYMENT_HASH, 52),
        ('s', tag::PAYMENT_SECRET, 52),
        ('h', tag::DESCRIPTION_HASH, 52),
        ('n', tag::PAYEE, 53),
    ] {
        for len in (0..60).filter(|len| *len != right) {
            // Beside one of the right length where there is one, and before the others.
            let mut parts = original.clone();
            parts.fields.insert(0, (tag, std::vec![0; len]));
            parts.sign(&recipe.key, false);
            let error = Invoice::from_text(&parts.text()).unwrap_err();
            assert_eq!(error, ParseError::FieldLength(name).into(), "{name} {len}");
            agree_with_ldk(&parts).unwrap();
        }
    }
}

#[test]
fn an_amount_pays_something_and_all_bitcoin_is_one() {
    let recipe = Recipe::typical([1; 32]);
    let read = |hrp: &str| {
        let mut parts = Parts::of(&recipe.text());
        parts.hrp = hrp.into();
        parts.sign(&recipe.key, false);
        agree_with_ldk(&parts).unwrap();
        Invoice::from_text(&parts.text()).map(|i| i.amount_msat)
    };
    for hrp in ["lntb0m", "lntb0", "lntb0u", "lntb0n", "lntb0p"] {
        assert_eq!(read(hrp), Err(SemanticError::ZeroAmount.into()), "{hrp}");
    }
    let all = Some(2_100_000_000_000_000_000);
    assert_eq!(read("lnbc21000000"), Ok(all));
    assert_eq!(read("lnbc21000000000000000000p"), Ok(all));
    assert_eq!(read("lnbc184467441"), Err(ParseError::AmountOverflow.into()));
}

/// The `n` field decides who must have signed.
#[test]
fn only_the_payee_named_can_have_signed() {
    let secp = Secp256k1::new();
    let recipe = Recipe { names_payee: true, ..Recipe::typical([1; 32]) };
    let other = secp256k1::SecretKey::from_byte_array([2; 32]).unwrap();
    let mut parts = Parts::of(&recipe.text());
    parts.sign(&other, false);
    assert!(!agree_with_ldk(&parts).unwrap());
    let text = parts.text();
    let invoice = Invoice::from_text(&text).unwrap();
    let by_other = invoice.verify_by(&secp, &other.public_key(&secp));
    assert_eq!(by_other, Err(SemanticError::OtherPayee));
    let by_payee = invoice.verify_by(&secp, &recipe.public_key());
    assert_eq!(by_payee, Err(SemanticError::InvalidSignature));
}
