//! A Lightning proof in at most 200 bytes: invoice and preimage, without what the
//! checker can work out by itself.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | flags: bits 0-1 recovery identifier; 2 payment hash left out; 3 description hash left out; 4 text description left out; 5-7 zero |
//! | 1 | low half: network prefix (0 `lnbc`, 1 `lntb`, 2 `lntbs`, 3 `lnbcrt`); high half: 0 no amount, else 1 + multiplier (none, `m`, `u`, `n`, `p`) |
//! | 2 | issuer hint |
//! | 32 | preimage |
//! | 64 | signature |
//! | 0-10 | digits of the amount as LEB128, if there is one |
//! | rest | timestamp and tagged fields as 5-bit symbols, first symbol in the high bits, zero bits to a whole byte |
//!
//! A field that is left out keeps its tag and length; only its data is missing. It
//! is the first field with this tag and the only length that it can have, and its
//! data is SHA-256 of the preimage, or the hash of the terms: as 32 bytes, or as the
//! text [`TERMS_PREFIX`](super::bolt11::TERMS_PREFIX) and 64 lower-case hex digits. Reading puts the data
//! back, so that what is hashed is exactly what was signed.

mod writer;

use super::bolt11::{Amount, Bolt11Error, BufferTooSmall, Field, Fields, Hrp, Invoice, ParseError};
use super::symbols::field::{HASH_SYMBOLS, tag};
use super::symbols::{Splice, Symbols, TERMS_TEXT_SYMBOLS, Unpacker};
use secp256k1::PublicKey;
use sha2::{Digest, Sha256};
use thiserror_no_std::Error;
use writer::{Writer, read_leb128};

const RECOVERY_ID: u8 = 0b11;
const OMITS_PAYMENT_HASH: u8 = 1 << 2;
const OMITS_DESCRIPTION_HASH: u8 = 1 << 3;
const OMITS_DESCRIPTION_TEXT: u8 = 1 << 4;
const UNKNOWN_FLAGS: u8 = 0b1110_0000;

/// Two bytes of an issuer's key, so that a relay that accepts several issuers
/// verifies against the right one only. Not signed: it saves time, it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuerHint(pub [u8; 2]);

impl IssuerHint {
    /// The hint at this key: the first two bytes of its x coordinate.
    pub fn of(key: &PublicKey) -> Self {
        let [_, a, b, ..] = key.serialize();
        Self([a, b])
    }
}

/// Why bytes are not a packed proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PackedError {
    /// They end before the amount does.
    #[error("the proof of payment is cut short")]
    TooShort,
    /// A flag is set that has no meaning yet.
    #[error("the proof of payment has an unknown flag")]
    UnknownFlag,
    /// The network or multiplier is not in the table.
    #[error("the proof of payment has an unknown network or multiplier")]
    UnknownPrefix,
    /// The amount in millisatoshi is no whole number or exceeds 64 bits, or is longer than
    /// it needs to be.
    #[error("the amount in the proof of payment is not one, or not in its shortest form")]
    Amount,
}

/// Why an invoice cannot be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PackError {
    /// It is not a valid invoice.
    #[error("{0}")]
    Invoice(#[from] Bolt11Error),
    /// SHA-256 of the preimage is not its payment hash.
    #[error("the preimage does not belong to the invoice")]
    PreimageMismatch,
    /// It commits to other terms, or to none.
    #[error("the invoice commits to other terms: another size, route, source or destination")]
    OtherTerms,
    /// The packed proof does not fit.
    #[error("{0}")]
    Buffer(#[from] BufferTooSmall),
}

/// Packs an invoice that commits to the terms with this hash, with its preimage,
/// into `out`, and returns the length. The signature is not checked.
///
/// # Errors
/// [`PackError`]: the invoice is invalid, or `out` too small.
pub fn pack(
    invoice: &str,
    preimage: &[u8; 32],
    terms_hash: &[u8; 32],
    issuer: IssuerHint,
    out: &mut [u8],
) -> Result<usize, PackError> {
    let invoice = Invoice::from_text(invoice)?;
    let payment_hash: [u8; 32] = Sha256::digest(preimage).into();
    if payment_hash != invoice.payment_hash {
        return Err(PackError::PreimageMismatch);
    }
    if !invoice.description.commits_to(terms_hash) {
        return Err(PackError::OtherTerms);
    }
    let omit = Omit { payment_hash: Some(payment_hash), terms_hash: Some(*terms_hash) };
    write(&invoice, preimage, issuer, omit, out)
}

/// Packs any invoice with any preimage, leaving nothing out: it reads the same
/// whatever the terms are.
///
/// # Errors
/// [`PackError`]: the invoice is invalid, or `out` too small.
pub fn pack_whole(
    invoice: &str,
    preimage: &[u8; 32],
    issuer: IssuerHint,
    out: &mut [u8],
) -> Result<usize, PackError> {
    write(&Invoice::from_text(invoice)?, preimage, issuer, Omit::default(), out)
}

/// A packed proof, borrowed from where it was received.
#[derive(Clone, Copy, Debug)]
pub struct PackedProof<'a> {
    flags: u8,
    hrp: Hrp,
    issuer: IssuerHint,
    preimage: &'a [u8; 32],
    signature: &'a [u8; 64],
    fields: &'a [u8],
}

impl<'a> PackedProof<'a> {
    /// Checks the fixed part. The invoice is read by [`Self::invoice`].
    ///
    /// # Errors
    /// [`PackedError`]: the fixed part is cut short, or a flag or prefix is unknown.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PackedError> {
        use PackedError::{TooShort, UnknownFlag, UnknownPrefix};
        let ([flags, prefix], rest) = bytes.split_first_chunk().ok_or(TooShort)?;
        let (issuer, rest) = rest.split_first_chunk().ok_or(TooShort)?;
        let (preimage, rest) = rest.split_first_chunk().ok_or(TooShort)?;
        let (signature, mut rest) = rest.split_first_chunk().ok_or(TooShort)?;
        if flags & UNKNOWN_FLAGS != 0 {
            return Err(UnknownFlag);
        }
        let amount = match (prefix >> 4).checked_sub(1) {
            None => None,
            Some(unit) => {
                let amount = Amount::from_number(read_leb128(&mut rest)?, unit);
                Some(amount.map_err(|why| match why {
                    Bolt11Error::Parse(ParseError::UnknownMultiplier) => UnknownPrefix,
                    _ => PackedError::Amount,
                })?)
            }
        };
        let hrp = Hrp::from_parts(prefix & 15, amount).ok_or(UnknownPrefix)?;
        let issuer = IssuerHint(*issuer);
        Ok(Self { flags: *flags, hrp, issuer, preimage, signature, fields: rest })
    }

    /// The preimage.
    pub fn preimage(&self) -> &'a [u8; 32] {
        self.preimage
    }

    /// Whose signature it claims to have.
    pub fn issuer(&self) -> IssuerHint {
        self.issuer
    }

    /// Reads the invoice, with this hash of the terms put where one was left out.
    ///
    /// # Errors
    /// [`Bolt11Error`]: the fields make no valid invoice.
    pub fn invoice(&self, terms_hash: &[u8; 32]) -> Result<Invoice<'a>, Bolt11Error> {
        let omitted = |flag: u8| self.flags & flag != 0;
        let unpacker = Unpacker::new(
            self.fields,
            omitted(OMITS_PAYMENT_HASH).then(|| Sha256::digest(self.preimage).into()),
            omitted(OMITS_DESCRIPTION_HASH).then_some(*terms_hash),
            omitted(OMITS_DESCRIPTION_TEXT).then_some(*terms_hash),
        );
        let symbols = Symbols::Packed(unpacker);
        Invoice::read(self.hrp, symbols, *self.signature, self.flags & RECOVERY_ID)
    }

    /// Writes the invoice as wallets know it into `out` and returns its length.
    ///
    /// # Errors
    /// [`PackError`]: the fields make no valid invoice, or `out` is too small.
    pub fn unpack_text(&self, terms_hash: &[u8; 32], out: &mut [u8]) -> Result<usize, PackError> {
        Ok(self.invoice(terms_hash)?.write_text(out)?)
    }
}

/// What need not be written, if a field holds exactly this.
#[derive(Default)]
struct Omit {
    payment_hash: Option<[u8; 32]>,
    terms_hash: Option<[u8; 32]>,
}

fn write(
    invoice: &Invoice<'_>,
    preimage: &[u8; 32],
    issuer: IssuerHint,
    mut omit: Omit,
    out: &mut [u8],
) -> Result<usize, PackError> {
    let (hrp, symbols) = invoice.raw();
    let (prefix, amount) = hrp.parts();
    let unit = amount.map_or(0, |a| a.unit() + 1);
    let mut to = Writer::new(out);
    to.bytes(&[0, prefix | unit << 4]);
    to.bytes(&issuer.0);
    to.bytes(preimage);
    to.bytes(&invoice.signature.compact);
    if let Some(amount) = amount {
        to.leb128(amount.number());
    }
    let mut flags = invoice.signature.recovery_id;
    // An invoice that was read has a timestamp.
    if let Some((timestamp, fields)) = Fields::new(symbols) {
        timestamp.into_iter().for_each(|s| to.symbol(s));
        for field in fields {
            to.symbol(field.tag);
            to.symbol((field.len >> 5) as u8);
            to.symbol((field.len & 31) as u8);
            match omit.applies_to(&field) {
                Some(flag) => flags |= flag,
                None => field.data.for_each(|s| to.symbol(s)),
            }
        }
    }
    to.finish(flags)
}

impl Omit {
    /// The flag under which this field's data can be left out.
    ///
    /// A valid invoice has one payment hash and one description, so only one field
    /// can be meant by a flag.
    fn applies_to(&mut self, field: &Field<'_>) -> Option<u8> {
        let (flag, splice) = match (field.tag, field.len) {
            (tag::PAYMENT_HASH, HASH_SYMBOLS) => {
                (OMITS_PAYMENT_HASH, Splice::Hash(self.payment_hash?))
            }
            (tag::DESCRIPTION_HASH, HASH_SYMBOLS) => {
                (OMITS_DESCRIPTION_HASH, Splice::Hash(self.terms_hash?))
            }
            (tag::DESCRIPTION, TERMS_TEXT_SYMBOLS) => {
                (OMITS_DESCRIPTION_TEXT, Splice::Text(self.terms_hash?))
            }
            _ => return None,
        };
        // Symbol by symbol: padding bits are signed too, and hex digits have case.
        field.data.clone().enumerate().all(|(i, s)| s == splice.symbol(i)).then_some(flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::bolt11::{Description, MAX_TEXT_LEN, ParseError, SemanticError};
    use crate::payment::test_invoice::{Parts, Recipe, recipe};
    use proptest::prelude::*;
    use secp256k1::Secp256k1;
    use std::string::String;
    use std::vec::Vec;

    const TERMS: [u8; 32] = [0xa5; 32];

    fn packed(recipe: &Recipe, terms_hash: &[u8; 32]) -> Result<Vec<u8>, PackError> {
        let mut out = std::vec![0xee; 8192];
        let hint = IssuerHint::of(&recipe.public_key());
        let len = pack(&recipe.text(), &recipe.preimage, terms_hash, hint, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    fn packed_whole(recipe: &Recipe, preimage: &[u8; 32]) -> Vec<u8> {
        let mut out = std::vec![0xee; 8192];
        let hint = IssuerHint::of(&recipe.public_key());
        let len = pack_whole(&recipe.text(), preimage, hint, &mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Reading gives what the text gives, field by field.
    fn reads_as_text(
        bytes: &[u8],
        recipe: &Recipe,
        terms_hash: &[u8; 32],
    ) -> Result<(), TestCaseError> {
        let proof = PackedProof::parse(bytes).unwrap();
        prop_assert_eq!(proof.issuer(), IssuerHint::of(&recipe.public_key()));
        let invoice = proof.invoice(terms_hash).unwrap();
        let text = recipe.text();
        let expected = Invoice::from_text(&text).unwrap();
        prop_assert_eq!(invoice.signature, expected.signature);
        prop_assert_eq!(invoice.payment_hash, expected.payment_hash);
        prop_assert_eq!(invoice.amount_msat, expected.amount_msat);
        prop_assert_eq!(invoice.timestamp, expected.timestamp);
        prop_assert_eq!(invoice.expiry_s, expected.expiry_s);
        prop_assert_eq!(invoice.network(), expected.network());
        let same = match (invoice.description, expected.description) {
            (Description::Hash(a), Description::Hash(b)) => a == b,
            (Description::Text(a), Description::Text(b)) => a.bytes().eq(b.bytes()),
            _ => false,
        };
        prop_assert!(same);
        let mut out = std::vec![0; text.len()];
        prop_assert_eq!(proof.unpack_text(terms_hash, &mut out), Ok(text.len()));
        prop_assert_eq!(std::str::from_utf8(&out), Ok(&*text));
        Ok(())
    }

    /// 200 bytes are the budget of a Lightning proof, also for the greatest amount, time and
    /// lifetime that make sense (ten thousand bitcoin, 35 bits, a month), with the
    /// payee's key.
    #[test]
    fn a_typical_proof_takes_at_most_200_bytes() {
        for make in [Recipe::typical, Recipe::typical_text] {
            let ordinary = make(TERMS);
            let large = Recipe {
                amount_msat: Some(1_000_000_000_000_007),
                timestamp: (1 << 35) - 1,
                expiry_s: Some(2_592_000),
                cltv: 2016,
                names_payee: true,
                ..make(TERMS)
            };
            for (recipe, most) in [(ordinary, 164), (large, 200)] {
                let bytes = packed(&recipe, &TERMS).unwrap();
                assert!(bytes.len() <= most, "{} bytes", bytes.len());
                reads_as_text(&bytes, &recipe, &TERMS).unwrap();
                let mut out = std::vec![0; bytes.len() - 1];
                let hint = IssuerHint([0; 2]);
                let result = pack(&recipe.text(), &recipe.preimage, &TERMS, hint, &mut out);
                assert_eq!(result, Err(BufferTooSmall { needed: bytes.len() }.into()));
            }
        }
    }

    #[test]
    fn refuses_what_does_not_belong_together() {
        let recipe = Recipe::typical(TERMS);
        assert_eq!(packed(&recipe, &[0; 32]), Err(PackError::OtherTerms));
        let hint = IssuerHint([0; 2]);
        let result = pack(&recipe.text(), &[0; 32], &TERMS, hint, &mut [0; 200]);
        assert_eq!(result, Err(PackError::PreimageMismatch));
        let result = pack("lnbc1", &[0; 32], &TERMS, hint, &mut [0; 200]);
        assert!(matches!(result, Err(PackError::Invoice(_))));
    }

    /// What is left out is put in from the reader's own knowledge: with other terms
    /// something else would have been signed.
    #[test]
    fn other_terms_or_preimage_break_the_signature() {
        let secp = Secp256k1::new();
        for make in [Recipe::typical, Recipe::typical_text] {
            let recipe = make(TERMS);
            let key = recipe.public_key();
            let mut bytes = packed(&recipe, &TERMS).unwrap();
            let verify = |bytes: &[u8], terms: &[u8; 32]| {
                let proof = PackedProof::parse(bytes).unwrap();
                proof.invoice(terms).unwrap().verify_by(&secp, &key)
            };
            assert_eq!(verify(&bytes, &TERMS), Ok(()));
            assert_eq!(verify(&bytes, &[0xa4; 32]), Err(SemanticError::InvalidSignature));
            bytes[4] ^= 1;
            assert_eq!(verify(&bytes, &TERMS), Err(SemanticError::InvalidSignature));
        }
    }

    #[test]
    fn fixed_part_is_strict() {
        let bytes = packed(&Recipe::typical(TERMS), &TERMS).unwrap();
        let changed = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            PackedProof::parse(&bytes).map(|_| ())
        };
        assert_eq!(changed(0, bytes[0]), Ok(()));
        assert_eq!(changed(0, bytes[0] | 0x20), Err(PackedError::UnknownFlag));
        assert_eq!(changed(1, 0x04), Err(PackedError::UnknownPrefix));
        assert_eq!(changed(1, 0x60), Err(PackedError::UnknownPrefix));
        assert_eq!(PackedProof::parse(&bytes[..99]).map(|_| ()), Err(PackedError::TooShort));
        assert_eq!(PackedProof::parse(&bytes[..100]).map(|_| ()), Err(PackedError::TooShort));
    }

    /// What would be too long as text is too long packed.
    #[test]
    fn length_is_limited_as_for_text() {
        let mut parts = Parts::of(&Recipe::typical(TERMS).text());
        while parts.text().len() < MAX_TEXT_LEN {
            let room = MAX_TEXT_LEN - parts.text().len() - 3;
            // Never leave less than a field takes.
            let len = if room > 1023 { 1000 } else { room };
            parts.fields.push((0, std::vec![0; len]));
        }
        let mut out = std::vec![0; 8192];
        let hint = IssuerHint([0; 2]);
        let len = pack_whole(&parts.text(), &[0; 32], hint, &mut out).unwrap();
        let read = |bytes: &[u8]| {
            PackedProof::parse(bytes).unwrap().invoice(&TERMS).map(|i| i.amount_msat)
        };
        assert_eq!(read(&out[..len]), Ok(Some(1_234_567)));
        // One or two more zero bytes, depending on the padding, are one more field.
        let longer = [len + 1, len + 2].map(|len| read(&out[..len]));
        assert!(longer.contains(&Err(ParseError::TooLong.into())), "{longer:?}");
    }

    proptest! {
        #[test]
        fn reads_as_the_text_does(recipe in recipe(), terms in any::<[u8; 32]>(), bind in 0..3) {
            let description = match bind {
                0 => recipe.description.clone(),
                1 => Err(terms),
                _ => Recipe::typical_text(terms).description,
            };
            let recipe = Recipe { description, ..recipe };
            match packed(&recipe, &terms) {
                Ok(bytes) => {
                    prop_assert!(bind > 0);
                    reads_as_text(&bytes, &recipe, &terms)?;
                }
                error => prop_assert!(bind == 0 && error == Err(PackError::OtherTerms)),
            }
            // Leaving nothing out it reads the same under any terms.
            let bytes = packed_whole(&recipe, &recipe.preimage);
            reads_as_text(&bytes, &recipe, &[0; 32])?;
        }

        #[test]
        fn hex_in_upper_case_is_not_left_out(terms in any::<[u8; 32]>()) {
            let upper = String::from("blvm-mesh:") + &hex::encode_upper(terms);
            let recipe = Recipe { description: Ok(upper), ..Recipe::typical(terms) };
            let bytes = packed(&recipe, &terms).unwrap();
            reads_as_text(&bytes, &recipe, &terms)?;
        }

        #[test]
        fn any_bytes_read_without_panic(
            flags in 0u8..32,
            prefix in any::<u8>(),
            bytes in proptest::collection::vec(any::<u8>(), 98..400),
        ) {
            let _ = PackedProof::parse(&bytes).map(|p| p.invoice(&[0; 32]));
            let bytes = [&[flags, prefix & 0x53], &bytes[..]].concat();
            let _ = PackedProof::parse(&bytes).map(|p| p.invoice(&[0; 32]));
        }

        /// A changed bit is never taken for the same invoice, but for the hint, the
        /// recovery identifier and what of the preimage was not needed.
        #[test]
        fn a_changed_bit_is_noticed(at in 36usize..164, bit in 0u8..8) {
            let recipe = Recipe::typical(TERMS);
            let mut bytes = packed(&recipe, &TERMS).unwrap();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1 << bit;
            let secp = Secp256k1::new();
            let verified = PackedProof::parse(&bytes).is_ok_and(|proof| {
                proof
                    .invoice(&TERMS)
                    .is_ok_and(|i| i.verify_by(&secp, &recipe.public_key()).is_ok())
            });
            prop_assert!(!verified);
        }
    }
}
