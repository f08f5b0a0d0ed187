//! The one pass over an invoice's symbols.

use super::utf8::Utf8;
use super::{
    Bolt11Error, DEFAULT_EXPIRY_S, Description, Hrp, Invoice, InvoiceSignature, MAX_TEXT_LEN,
    ParseError, SemanticError, TextField, bech32,
};
use crate::payment::symbols::field::{HASH_SYMBOLS, TIMESTAMP_SYMBOLS, tag};
use crate::payment::symbols::{Bytes, Symbols, byte_len};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use sha2::{Digest, Sha256};

/// Symbols of signature and recovery identifier (520 bits).
pub(super) const SIGNATURE_SYMBOLS: usize = 104;
/// Symbols of a field that holds a compressed key: `n`.
const KEY_SYMBOLS: usize = 53;
/// Bytes of one hop in an `r` field.
const HOP_BYTES: usize = 51;

/// Even feature bits that are known (BOLT 9, context "invoices"): `var_onion_optin`,
/// `payment_secret`, `basic_mpp`, `option_payment_metadata`, and trampoline routing.
/// They concern who pays; a proof comes after that.
const KNOWN_FEATURES: [usize; 5] = [8, PAYMENT_SECRET_FEATURE, 16, 48, 56];
const PAYMENT_SECRET_FEATURE: usize = 14;

/// Fields collected on the way.
#[derive(Default)]
struct Found<'a> {
    payment_hash: Once<[u8; 32]>,
    payment_secret: Once<()>,
    description: Once<Description<'a>>,
    payee: Once<[u8; 33]>,
    expiry_s: Once<u64>,
    features: Once<Features>,
}

/// The first value of a field, and whether it came again.
struct Once<T> {
    first: Option<T>,
    again: bool,
}

#[derive(Default)]
struct Features {
    payment_secret: bool,
    unknown_required: bool,
}

impl<'a> Invoice<'a> {
    /// Reads and hashes the symbols, and checks all rules but the signature's.
    pub(crate) fn read(
        hrp: Hrp,
        symbols: Symbols<'a>,
        compact: [u8; 64],
        recovery_id: u8,
    ) -> Result<Self, Bolt11Error> {
        RecoveryId::try_from(i32::from(recovery_id))
            .and_then(|id| RecoverableSignature::from_compact(&compact, id))
            .map_err(|_| ParseError::SignatureRange)?;
        let hrp_text = hrp.text();
        let mut signed = Signed::new(symbols, hrp_text.as_bytes());

        let mut timestamp = 0;
        for _ in 0..TIMESTAMP_SYMBOLS {
            let symbol = signed.next().ok_or(ParseError::TooShort)?;
            timestamp = timestamp << 5 | u64::from(symbol);
        }
        let mut found = Found::default();
        while let Some(tag) = signed.next() {
            found.field(tag, &mut signed)?;
        }

        let text_len =
            hrp_text.as_bytes().len() + 1 + signed.count + SIGNATURE_SYMBOLS + bech32::CHECKSUM_LEN;
        if text_len > MAX_TEXT_LEN {
            return Err(ParseError::TooLong.into());
        }
        use SemanticError::*;
        let payment_hash = found.payment_hash.exactly(NoPaymentHash, MultiplePaymentHashes)?;
        let description = found.description.exactly(NoDescription, MultipleDescriptions)?;
        found.payment_secret.exactly(NoPaymentSecret, MultiplePaymentSecrets)?;
        let features = found.features.first.unwrap_or_default();
        if features.unknown_required {
            return Err(UnknownRequiredFeature.into());
        }
        if !features.payment_secret {
            return Err(NoPaymentSecretFeature.into());
        }
        let payee = found.payee.first;
        let signing_hash = signed.finish();
        Ok(Self {
            amount_msat: hrp.amount_msat()?,
            payment_hash,
            timestamp,
            expiry_s: found.expiry_s.first.unwrap_or(DEFAULT_EXPIRY_S),
            description,
            signature: InvoiceSignature { signing_hash, compact, recovery_id, payee },
            hrp,
            symbols,
        })
    }
}

impl<'a> Found<'a> {
    /// Reads the rest of a field whose tag has been read. Fields with an unknown
    /// tag are skipped; those of fixed length with another one are an error (BOLT 11,
    /// "MUST fail the payment if any field with fixed `data_length`").
    fn field(&mut self, tag: u8, signed: &mut Signed<'a>) -> Result<(), ParseError> {
        let len = field_len(signed).ok_or(ParseError::TruncatedField)?;
        let start = signed.symbols;
        let end = signed.count + len;
        let mut data = signed.by_ref().take(len);
        match (tag, len) {
            (tag::PAYMENT_HASH, HASH_SYMBOLS) => self.payment_hash.put(array(data)?),
            (tag::PAYMENT_SECRET, HASH_SYMBOLS) => self.payment_secret.put(()),
            (tag::DESCRIPTION_HASH, HASH_SYMBOLS) => {
                self.description.put(Description::Hash(array(data)?));
            }
            (tag::DESCRIPTION, _) => {
                let mut check = Utf8::default();
                if !Bytes::new(&mut data).all(|b| check.push(b)) || !check.is_complete() {
                    return Err(ParseError::DescriptionNotUtf8);
                }
                let text = TextField { symbols: start, len: len as u16 };
                self.description.put(Description::Text(text));
            }
            (tag::PAYEE, KEY_SYMBOLS) => self.payee.put(array(data)?),
            (tag::EXPIRY, _) => self.expiry_s.put(number(data)?),
            (tag::MIN_FINAL_CLTV, _) => {
                number(data)?;
            }
            (tag::FEATURES, _) => self.features.put(Features::read(data, len)),
            (tag::FALLBACK, _) => {
                let version = data.next().ok_or(ParseError::FallbackLength)?;
                let program = byte_len(len - 1);
                let fits = match version {
                    0..=16 => (2..=40).contains(&program),
                    17 | 18 => program == 20,
                    _ => true,
                };
                if !fits {
                    return Err(ParseError::FallbackLength);
                }
            }
            (tag::ROUTE_HINT, _) if !byte_len(len).is_multiple_of(HOP_BYTES) => {
                return Err(ParseError::RouteHintLength);
            }
            (tag::PAYMENT_HASH, _) => return Err(ParseError::FieldLength('p')),
            (tag::PAYMENT_SECRET, _) => return Err(ParseError::FieldLength('s')),
            (tag::DESCRIPTION_HASH, _) => return Err(ParseError::FieldLength('h')),
            (tag::PAYEE, _) => return Err(ParseError::FieldLength('n')),
            _ => {}
        }
        // Whatever the arm above has left of the field.
        while signed.count < end {
            signed.next().ok_or(ParseError::TruncatedField)?;
        }
        Ok(())
    }
}

impl Features {
    /// Reads bits from the left, so the first symbol holds the highest (BOLT 9).
    fn read(data: impl Iterator<Item = u8>, len: usize) -> Self {
        let mut features = Self::default();
        for (i, symbol) in data.enumerate() {
            for bit in (0..5).filter(|bit| symbol >> bit & 1 == 1) {
                let number = (len - 1 - i) * 5 + bit;
                // The odd bit of a pair says "optional", the even one "required".
                features.payment_secret |= number & !1 == PAYMENT_SECRET_FEATURE;
                features.unknown_required |=
                    number.is_multiple_of(2) && !KNOWN_FEATURES.contains(&number);
            }
        }
        features
    }
}

/// A field as it stands: tag, and symbols of its data.
pub(crate) struct Field<'a> {
    pub(crate) tag: u8,
    pub(crate) len: usize,
    pub(crate) data: core::iter::Take<Symbols<'a>>,
}

/// Walks over the fields of an invoice that has been read.
pub(crate) struct Fields<'a>(Symbols<'a>);

impl<'a> Fields<'a> {
    /// Starts at the first field, after the timestamp, which is returned with it.
    pub(crate) fn new(mut symbols: Symbols<'a>) -> Option<([u8; TIMESTAMP_SYMBOLS], Self)> {
        let mut timestamp = [0; TIMESTAMP_SYMBOLS];
        for symbol in &mut timestamp {
            *symbol = symbols.next()?;
        }
        Some((timestamp, Self(symbols)))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let tag = self.0.next()?;
        let len = field_len(&mut self.0)?;
        let data = self.0.take(len);
        self.0.by_ref().take(len).for_each(drop);
        Some(Field { tag, len, data })
    }
}

/// The two symbols of a field's length: 0 to 1023.
fn field_len(symbols: &mut impl Iterator<Item = u8>) -> Option<usize> {
    Some(usize::from(symbols.next()?) << 5 | usize::from(symbols.next()?))
}

fn array<const N: usize>(data: impl Iterator<Item = u8>) -> Result<[u8; N], ParseError> {
    Bytes::new(data).array().ok_or(ParseError::TruncatedField)
}

/// A number of any length, most significant symbol first.
fn number(mut data: impl Iterator<Item = u8>) -> Result<u64, ParseError> {
    data.try_fold(0u64, |n, symbol| n.checked_mul(32).map(|n| n | u64::from(symbol)))
        .ok_or(ParseError::NumberOverflow)
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { first: None, again: false }
    }
}

impl<T> Once<T> {
    fn put(&mut self, value: T) {
        if self.first.is_some() {
            self.again = true;
        } else {
            self.first = Some(value);
        }
    }

    fn exactly(self, none: SemanticError, many: SemanticError) -> Result<T, SemanticError> {
        if self.again { Err(many) } else { self.first.ok_or(none) }
    }
}

/// Symbols that are hashed as they are taken (BOLT 11: SHA-256 over the
/// human-readable part and the data, padded with zero bits to a whole byte).
struct Signed<'a> {
    symbols: Symbols<'a>,
    hash: Sha256,
    /// Symbols taken.
    count: usize,
    /// The last ones, not yet hashed: at most seven.
    held: u64,
}

impl<'a> Signed<'a> {
    fn new(symbols: Symbols<'a>, hrp: &[u8]) -> Self {
        Self { symbols, hash: Sha256::new_with_prefix(hrp), count: 0, held: 0 }
    }

    fn finish(mut self) -> [u8; 32] {
        let bits = self.count % 8 * 5;
        let [_, _, _, bytes @ ..] = (self.held << (40 - bits)).to_be_bytes();
        self.hash.update(bytes.get(..bits.div_ceil(8)).unwrap_or_default());
        self.hash.finalize().into()
    }
}

impl Iterator for Signed<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let symbol = self.symbols.next()?;
        self.held = self.held << 5 | u64::from(symbol);
        self.count += 1;
        // Eight symbols are five bytes.
        if self.count.is_multiple_of(8) {
            let [_, _, _, bytes @ ..] = self.held.to_be_bytes();
            self.hash.update(bytes);
            self.held = 0;
        }
        Some(symbol)
    }
}
