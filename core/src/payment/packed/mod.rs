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

mod unpacker;

pub(super) use unpacker::Unpacker;

use super::bolt11::{
    Amount, Bolt11Error, BufferTooSmall, Field, Fields, HASH_SYMBOLS, Hrp, Invoice, Symbols, tag,
};
use bitcoin::secp256k1::PublicKey;
use sha2::{Digest, Sha256};
use thiserror_no_std::Error;
use unpacker::{Splice, TERMS_TEXT_SYMBOLS};

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
    #[error("the packed proof is cut short")]
    TooShort,
    /// A flag is set that has no meaning yet.
    #[error("the packed proof has an unknown flag")]
    UnknownFlag,
    /// The network or multiplier is not in the table.
    #[error("the packed proof has an unknown network or multiplier")]
    UnknownPrefix,
    /// The amount exceeds 64 bits or is longer than it needs to be.
    #[error("the amount of the packed proof is not written as it should be")]
    Amount,
}

/// Why an invoice cannot be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PackError {
    /// It is not a valid invoice.
    #[error("{0}")]
    Invoice(#[from] Bolt11Error),
    /// SHA-256 of the preimage is not its payment hash.
    #[error("the preimage is not that of the invoice")]
    PreimageMismatch,
    /// It commits to other terms, or to none.
    #[error("the invoice does not commit to these terms")]
    OtherTerms,
    /// The packed proof does not fit.
    #[error("{0}")]
    Buffer(#[from] BufferTooSmall),
}

/// Packs an invoice that commits to the terms with this hash, with its preimage,
/// into `out`, and returns the length. The signature is not checked.
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
            Some(unit) => Some(Amount { value: read_leb128(&mut rest)?, unit }),
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
    let unit = amount.map_or(0, |a| a.unit + 1);
    let mut to = Writer { out, len: 0, held: 0, bits: 0 };
    to.bytes(&[0, prefix | unit << 4]);
    to.bytes(&issuer.0);
    to.bytes(preimage);
    to.bytes(&invoice.signature.compact);
    if let Some(amount) = amount {
        to.leb128(amount.value);
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

/// Writes what fits and counts what does not.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    held: u16,
    bits: u8,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.out.get_mut(self.len) {
                *place = *byte;
            }
            self.len += 1;
        }
    }

    fn leb128(&mut self, mut value: u64) {
        while value > 0x7f {
            self.bytes(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.bytes(&[value as u8]);
    }

    fn symbol(&mut self, symbol: u8) {
        self.held = self.held << 5 | u16::from(symbol);
        self.bits += 5;
        if self.bits >= 8 {
            self.bits -= 8;
            self.bytes(&[(self.held >> self.bits) as u8]);
            self.held &= (1 << self.bits) - 1;
        }
    }

    /// Writes the last bits, and the flags in front.
    fn finish(mut self, flags: u8) -> Result<usize, PackError> {
        if self.bits > 0 {
            self.bytes(&[(self.held << (8 - self.bits)) as u8]);
        }
        if self.len > self.out.len() {
            return Err(BufferTooSmall { needed: self.len }.into());
        }
        if let Some(first) = self.out.first_mut() {
            *first = flags;
        }
        Ok(self.len)
    }
}

/// Takes a number off the front. One number has one way to be written.
fn read_leb128(bytes: &mut &[u8]) -> Result<u64, PackedError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(PackedError::TooShort)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return Err(PackedError::Amount);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            let superfluous = *byte == 0 && shift > 0;
            return if superfluous { Err(PackedError::Amount) } else { Ok(value) };
        }
    }
    Err(PackedError::Amount)
}
