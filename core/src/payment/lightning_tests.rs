use super::*;
use crate::payment::bolt11::ParseError;
use crate::payment::packed::{pack, pack_whole};
use crate::payment::test_invoice::{Parts, Recipe, recipe};
use lightning_invoice::Currency;
use proptest::prelude::*;
use secp256k1::SecretKey;
use std::vec::Vec;

const TERMS: [u8; 32] = [0xa5; 32];
const LIMITS: LightningLimits = LightningLimits { max_lifetime_s: 86_400, future_skew_s: 60 };
/// When [`Recipe::typical`] is written, and when it has expired.
const WRITTEN: u64 = 1_750_000_000;
const EXPIRES: u64 = WRITTEN + 86_400;

fn check_at(recipe: &Recipe, now: Option<u64>) -> Result<Checked, LightningError> {
    let text = recipe.text();
    let proof = LightningProof::Text { invoice: &text, preimage: recipe.preimage, stated: None };
    let from_text = proof.check(&TERMS, Network::Mainnet, now, &LIMITS);
    // The packed form gives the same answer, whatever it leaves out.
    let hint = IssuerHint::of(&recipe.public_key());
    let mut out = [0; 1024];
    let len = pack_whole(&text, &recipe.preimage, hint, &mut out).unwrap();
    let whole = LightningProof::Packed(&out[..len]);
    let with_hint = from_text.map(|c| Checked { issuer: Some(hint), ..c });
    assert_eq!(whole.check(&TERMS, Network::Mainnet, now, &LIMITS), with_hint);
    if let Ok(len) = pack(&text, &recipe.preimage, &TERMS, hint, &mut out) {
        let packed = LightningProof::Packed(&out[..len]);
        assert_eq!(packed.check(&TERMS, Network::Mainnet, now, &LIMITS), with_hint);
    }
    from_text
}

fn check(recipe: &Recipe) -> Result<Checked, LightningError> {
    check_at(recipe, Some(WRITTEN + 10))
}

fn key(byte: u8) -> SecretKey {
    SecretKey::from_byte_array([byte; 32]).unwrap()
}

fn public(byte: u8) -> PublicKey {
    key(byte).public_key(&Secp256k1::new())
}

#[test]
fn a_good_proof() {
    let secp = Secp256k1::new();
    for make in [Recipe::typical, Recipe::typical_text] {
        for names_payee in [false, true] {
            let recipe = Recipe { names_payee, ..make(TERMS) };
            let checked = check(&recipe).unwrap();
            assert_eq!(checked.payment_hash, recipe.payment_hash());
            assert_eq!(checked.amount_msat, 1_234_567);
            assert_eq!(checked.timestamp, WRITTEN);
            assert_eq!(checked.expires_at, EXPIRES);
            let issuers = [public(1), recipe.public_key()];
            assert_eq!(checked.verify_signature(&secp, &issuers), Ok(recipe.public_key()));
        }
    }
}

/// Rule 1.
#[test]
fn malformed_proofs() {
    let check = |proof: LightningProof<'_>| {
        proof.check(&TERMS, Network::Mainnet, Some(WRITTEN), &LIMITS).unwrap_err()
    };
    let text = LightningProof::Text { invoice: "lnbc1", preimage: [0; 32], stated: None };
    assert_eq!(check(text), LightningError::MalformedInvoice(ParseError::TooShort.into()));
    let packed = LightningProof::Packed(&[]);
    assert_eq!(check(packed), LightningError::MalformedPacking(PackedError::TooShort));
    assert_eq!(
        std::string::ToString::to_string(&check(text)),
        "the invoice cannot be read: it is too short for a timestamp and a signature"
    );
}

/// Rule 1.
#[test]
fn wrong_network() {
    let currencies =
        [Currency::Bitcoin, Currency::BitcoinTestnet, Currency::Signet, Currency::Regtest];
    let fits: Vec<Vec<Network>> = currencies
        .into_iter()
        .map(|currency| {
            let recipe = Recipe { currency, ..Recipe::typical(TERMS) };
            let (invoice, preimage) = (recipe.text(), recipe.preimage);
            let proof = LightningProof::Text { invoice: &invoice, preimage, stated: None };
            let accepts = |ours: &Network| match proof.check(&TERMS, *ours, Some(WRITTEN), &LIMITS)
            {
                Ok(_) => true,
                Err(LightningError::WrongNetwork { ours: n, .. }) if n == *ours => false,
                Err(other) => panic!("{other}"),
            };
            Network::ALL.into_iter().filter(accepts).collect()
        })
        .collect();
    use Network::*;
    let expected =
        [&[Mainnet][..], &[Testnet3, Testnet4], &[Signet], &[Regtest]].map(<[_]>::to_vec);
    assert_eq!(fits, expected);
}

/// Rule 1: the defect of an earlier implementation, which took any signature.
#[test]
fn self_issued() {
    use LightningError::*;
    let secp = Secp256k1::new();
    let issuer = public(1);
    for names_payee in [false, true] {
        let recipe = Recipe { key: key(2), names_payee, ..Recipe::typical(TERMS) };
        let checked = check(&recipe).unwrap();
        assert_eq!(checked.verify_signature(&secp, &[issuer]), Err(SelfIssued));
        assert_eq!(checked.verify_signature(&secp, &[]), Err(NoIssuers));
        // With a hint: the honest one, and one that claims to be the issuer's.
        let hinted = |key| Checked { issuer: Some(IssuerHint::of(&key)), ..checked };
        let refusals =
            if names_payee { [SelfIssued, SelfIssued] } else { [UnknownIssuer, InvalidSignature] };
        for (claim, refusal) in [public(2), issuer].into_iter().zip(refusals) {
            assert_eq!(hinted(claim).verify_signature(&secp, &[issuer]), Err(refusal));
        }
    }
    // An invoice that names the issuer as payee and is signed by somebody else.
    let recipe = Recipe { key: key(1), names_payee: true, ..Recipe::typical(TERMS) };
    let mut parts = Parts::of(&recipe.text());
    parts.sign(&key(2), false);
    let proof =
        LightningProof::Text { invoice: &parts.text(), preimage: recipe.preimage, stated: None };
    let checked = proof.check(&TERMS, Network::Mainnet, Some(WRITTEN), &LIMITS).unwrap();
    assert_eq!(checked.verify_signature(&secp, &[issuer]), Err(InvalidSignature));
}

/// Issuers that share a hint are each tried.
#[test]
fn shared_hint() {
    let secp = Secp256k1::new();
    let recipe = Recipe::typical(TERMS);
    let checked =
        Checked { issuer: Some(IssuerHint::of(&recipe.public_key())), ..check(&recipe).unwrap() };
    // A key and its negation have the same x coordinate.
    let negated = recipe.key.negate().public_key(&secp);
    let issuers = [negated, recipe.public_key()];
    assert_eq!(checked.verify_signature(&secp, &issuers), Ok(recipe.public_key()));
    let refused = checked.verify_signature(&secp, &[negated]);
    assert_eq!(refused, Err(LightningError::InvalidSignature));
}

/// Rule 2.
#[test]
fn preimage_of_another_payment() {
    let text = Recipe::typical(TERMS).text();
    let mut out = [0; 300];
    let len = pack_whole(&text, &[1; 32], IssuerHint([0; 2]), &mut out).unwrap();
    let proofs = [
        LightningProof::Text { invoice: &text, preimage: [1; 32], stated: None },
        LightningProof::Packed(&out[..len]),
    ];
    for proof in proofs {
        let result = proof.check(&TERMS, Network::Mainnet, Some(WRITTEN), &LIMITS);
        assert_eq!(result, Err(LightningError::PreimageMismatch));
    }
}

/// Rule 3.
#[test]
fn amounts_and_times_are_the_signed_ones() {
    use LightningError::*;
    let recipe = Recipe { amount_msat: None, ..Recipe::typical(TERMS) };
    assert_eq!(check(&recipe), Err(NoAmount));

    let recipe = Recipe::typical(TERMS);
    let text = recipe.text();
    let check = |stated| {
        let stated = Some(stated);
        let proof = LightningProof::Text { invoice: &text, preimage: recipe.preimage, stated };
        proof.check(&TERMS, Network::Mainnet, Some(WRITTEN), &LIMITS).map(|c| c.amount_msat)
    };
    let good = Stated { amount_msat: 1_234_567, timestamp: WRITTEN, expires_at: EXPIRES };
    assert_eq!(check(good), Ok(1_234_567));
    let more = Stated { amount_msat: 1_234_568, ..good };
    assert_eq!(check(more), Err(AmountDiffers { stated: 1_234_568, signed: 1_234_567 }));
    assert_eq!(check(Stated { timestamp: WRITTEN - 1, ..good }), Err(TimesDiffer));
    assert_eq!(check(Stated { expires_at: u64::MAX, ..good }), Err(TimesDiffer));
}

/// Rule 4, to the second.
#[test]
fn validity_in_time() {
    use LightningError::*;
    let recipe = Recipe::typical(TERMS);
    assert_eq!(check_at(&recipe, None), Err(NoClock));
    let ages = [
        (WRITTEN - 61, Some(NotYetValid { timestamp: WRITTEN, now: WRITTEN - 61 })),
        (WRITTEN - 60, None),
        (EXPIRES - 1, None),
        (EXPIRES, Some(Expired { expires_at: EXPIRES, now: EXPIRES })),
        (u64::MAX, Some(Expired { expires_at: EXPIRES, now: u64::MAX })),
        (0, Some(NotYetValid { timestamp: WRITTEN, now: 0 })),
    ];
    for (now, refusal) in ages {
        assert_eq!(check_at(&recipe, Some(now)).err(), refusal);
    }
    // Without an x field an hour (BOLT 11).
    let recipe = Recipe { expiry_s: None, ..recipe };
    assert_eq!(check(&recipe).unwrap().expires_at, WRITTEN + 3600);
}

/// Rule 4: a payment must not have to be remembered for ever, nor time wrap.
#[test]
fn lifetimes() {
    use LightningError::*;
    for expiry_s in [86_401, u64::MAX] {
        let recipe = Recipe { expiry_s: Some(expiry_s), ..Recipe::typical(TERMS) };
        let too_long = |max_lifetime_s| Err(LifetimeTooLong { expiry_s, max_lifetime_s });
        assert_eq!(check(&recipe), too_long(86_400));
        // A configuration without limit.
        let (text, preimage) = (recipe.text(), recipe.preimage);
        let proof = LightningProof::Text { invoice: &text, preimage, stated: None };
        let limits = LightningLimits { max_lifetime_s: u64::MAX, future_skew_s: u64::MAX };
        let result = proof.check(&TERMS, Network::Mainnet, Some(WRITTEN), &limits);
        match WRITTEN.checked_add(expiry_s) {
            Some(end) => assert_eq!(result.map(|c| c.expires_at), Ok(end)),
            None => assert_eq!(result, too_long(u64::MAX)),
        }
    }
}

/// Rule 5.
#[test]
fn other_terms() {
    let text = |s: &str| Recipe { description: Ok(s.into()), ..Recipe::typical(TERMS) };
    let hex = hex::encode(TERMS);
    let good = std::format!("blvm-mesh:{hex}");
    assert!(check(&text(&good)).is_ok());
    assert!(check(&text(&std::format!("blvm-mesh:{}", hex.to_uppercase()))).is_ok());
    let others = [
        Recipe::typical([0xa4; 32]),
        Recipe::typical_text([0xa4; 32]),
        text(""),
        text("blvm-mesh:"),
        text(&hex),
        text(&good[..good.len() - 1]),
        text(&std::format!("{good} ")),
        text(&std::format!(" {good}")),
        text(&good.replacen("blvm", "Blvm", 1)),
    ];
    for recipe in others {
        assert_eq!(check(&recipe), Err(LightningError::TermsNotCommitted), "{recipe:?}");
    }
}

proptest! {
    /// Whatever the invoice is, nothing panics, and what is accepted is what it says.
    #[test]
    fn any_invoice(recipe in recipe(), clock in any::<u64>(), near in 0u64..200, limit in any::<u64>()) {
        let recipe = Recipe { description: Err(TERMS), ..recipe };
        let (text, preimage) = (recipe.text(), recipe.preimage);
        let proof = LightningProof::Text { invoice: &text, preimage, stated: None };
        let limits = LightningLimits { max_lifetime_s: limit, future_skew_s: 60 };
        for now in [clock, (recipe.timestamp + near).saturating_sub(100)] {
            for network in Network::ALL {
                let Ok(checked) = proof.check(&TERMS, network, Some(now), &limits) else { continue };
                let lifetime = recipe.expiry_s.unwrap_or(3600);
                prop_assert_eq!(Some(checked.amount_msat), recipe.amount_msat);
                prop_assert_eq!(checked.payment_hash, recipe.payment_hash());
                prop_assert_eq!(Some(checked.expires_at), recipe.timestamp.checked_add(lifetime));
                prop_assert!(recipe.timestamp <= now.saturating_add(60));
                prop_assert!(now < checked.expires_at && lifetime <= limit);
                let secp = Secp256k1::new();
                let key = recipe.public_key();
                prop_assert_eq!(checked.verify_signature(&secp, &[public(1), key]), Ok(key));
                prop_assert_eq!(checked.verify_signature(&secp, &[key]), Ok(key));
                let refused = checked.verify_signature(&secp, &[public(1)]);
                prop_assert_eq!(refused, Err(LightningError::SelfIssued));
            }
        }
    }
}
