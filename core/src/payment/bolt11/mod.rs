//! BOLT 11 invoices, read without allocation.
//!
//! An [`Invoice`] is one view for both forms that an invoice travels in: the text
//! that wallets know, and the packed form of [`super::packed`]. Reading is one
//! pass over the 5-bit symbols, which are hashed as they go by; nothing is kept
//! but the fields that matter here.
//!
//! # Differences
//!
//! Rules are those of BOLT 11 in its edition of 9 March 2026 (lightning/bolts,
//! `14901bd`). Acceptance is that of LDK's `lightning-invoice` (checked against it in
//! tests), which is stricter than the text in asking for exactly one payment hash,
//! description and payment secret and for the `payment_secret` feature, and laxer
//! in ignoring the padding bits of fields and superfluous zeros in numbers, which
//! the text says a reader should (not must) treat as invalid. Deliberate differences
//! from LDK:
//!
//! 1. The signed hash is over the symbols as they stand (BOLT 11). LDK writes the
//!    fields anew and hashes that, so that for an invoice with superfluous zeros
//!    in a number or bits in the padding it finds another signer.
//! 2. An amount that begins with a superfluous zero is refused: writers must not,
//!    and LDK hashes it without the zero.
//! 3. Amounts may be as large as 2^64 - 1 millisatoshi, and larger ones are refused.
//!    LDK counts pico-bitcoin, a tenth, in 64 bits, and reads more as no amount or
//!    refuses it.
//! 4. Keys in route hints are not checked to be points of the curve: it would
//!    cost a square root each, and nothing here pays to them. Nor is the key of
//!    the `n` field until a signature is checked against it, nor that of a second
//!    `n` field at all: the first one counts.
//! 5. The prefix `lnsb` (simnet) is of no network that this crate knows.
//! 6. [`Invoice::verify_by`] does not need the recovery identifier, which nobody
//!    signs; [`Invoice::recover_payee`] does.
//! 7. An amount of zero is refused: writers must give a positive number, and a
//!    proof of having paid nothing proves nothing.
//! 8. A `p`, `h`, `s` or `n` field of another length than it must have fails the
//!    payment (the text since June 2025). LDK skips it, as readers had to before; an
//!    example of the text that is older than the rule still does.

mod bech32;
mod error;
mod hrp;
mod read;
mod signature;
mod utf8;

#[cfg(test)]
mod oracle_tests;

pub use super::symbols::field::TERMS_PREFIX;
pub use bech32::MAX_TEXT_LEN;
pub use error::{Bolt11Error, ParseError, SemanticError};
pub use signature::InvoiceSignature;

pub(super) use hrp::{Amount, Hrp};
pub(super) use read::{Field, Fields};

use super::symbols::{Bytes, Symbols, alphabet, byte_len};
use crate::id::Network;
use secp256k1::{PublicKey, Secp256k1, Verification};
use thiserror_no_std::Error;

/// Seconds until an invoice expires that does not say (BOLT 11, `x` field).
pub const DEFAULT_EXPIRY_S: u64 = 3600;

/// An invoice that is well-formed and keeps the rules of BOLT 11. Its signature
/// is not checked by reading it.
#[derive(Clone, Copy, Debug)]
pub struct Invoice<'a> {
    /// The amount in millisatoshi, if the invoice says one.
    pub amount_msat: Option<u64>,
    /// SHA-256 of the preimage that paying it reveals.
    pub payment_hash: [u8; 32],
    /// When it was written, in seconds since 1970 (35 bits).
    pub timestamp: u64,
    /// How long it is valid from then on, in seconds; any value is possible.
    pub expiry_s: u64,
    /// What it is for.
    pub description: Description<'a>,
    /// Signature, what it signs, and the payee that it names.
    pub signature: InvoiceSignature,
    hrp: Hrp,
    symbols: Symbols<'a>,
}

/// What an invoice is for.
#[derive(Clone, Copy, Debug)]
pub enum Description<'a> {
    /// In its own words (`d` field).
    Text(TextField<'a>),
    /// As the SHA-256 of a text kept elsewhere (`h` field).
    Hash([u8; 32]),
}

/// A text inside an invoice. It is UTF-8, and written by a stranger.
#[derive(Clone, Copy, Debug)]
pub struct TextField<'a> {
    symbols: Symbols<'a>,
    /// In symbols, at most 1023.
    len: u16,
}

/// The caller's buffer is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the buffer is too small: {needed} bytes are needed")]
pub struct BufferTooSmall {
    /// Bytes that are needed.
    pub needed: usize,
}

impl<'a> Invoice<'a> {
    /// Reads an invoice as wallets write it, in lower or upper case. A leading
    /// `lightning:` is not part of it.
    ///
    /// # Errors
    /// [`Bolt11Error`]: the text is no invoice, or one that BOLT 11 forbids.
    pub fn from_text(text: &'a str) -> Result<Self, Bolt11Error> {
        let (hrp, data) = bech32::split(text.as_bytes())?;
        let hrp = Hrp::parse(hrp)?;
        let data_len = data.len().checked_sub(read::SIGNATURE_SYMBOLS);
        let (data, signature) = data.split_at(data_len.ok_or(ParseError::TooShort)?);
        let [compact @ .., recovery_id] =
            Bytes::new(Symbols::Text(signature)).array::<65>().ok_or(ParseError::TooShort)?;
        Self::read(hrp, Symbols::Text(data), compact, recovery_id)
    }

    /// The network. `lntb` is shared by two, of which this gives version 3; ask
    /// [`Self::is_for`] to compare.
    pub fn network(&self) -> Network {
        self.hrp.network()
    }

    /// Whether the invoice is for this network.
    pub fn is_for(&self, network: Network) -> bool {
        self.network().invoice_prefix() == network.invoice_prefix()
    }

    /// Second since 1970 from which on the invoice is no longer valid; `None` if
    /// that is past 64 bits.
    pub fn expires_at(&self) -> Option<u64> {
        self.timestamp.checked_add(self.expiry_s)
    }

    /// See [`InvoiceSignature::verify_by`].
    ///
    /// # Errors
    /// As there.
    pub fn verify_by<C: Verification>(
        &self,
        secp: &Secp256k1<C>,
        key: &PublicKey,
    ) -> Result<(), SemanticError> {
        self.signature.verify_by(secp, key)
    }

    /// See [`InvoiceSignature::recover_payee`].
    ///
    /// # Errors
    /// As there.
    pub fn recover_payee<C: Verification>(
        &self,
        secp: &Secp256k1<C>,
    ) -> Result<PublicKey, SemanticError> {
        self.signature.recover_payee(secp)
    }

    /// Writes the invoice as text in lower case and returns its length.
    ///
    /// # Errors
    /// [`BufferTooSmall`]: the text does not fit into `out`.
    pub fn write_text(&self, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let hrp = self.hrp.text();
        let mut checksum = bech32::Checksum::new(hrp.as_bytes());
        let mut room = out.iter_mut();
        let mut needed = 0;
        let mut put = |c: u8| {
            needed += 1;
            if let Some(place) = room.next() {
                *place = c;
            }
        };
        hrp.as_bytes().iter().copied().chain([b'1']).for_each(&mut put);
        for symbol in self.symbols.chain(self.signature.symbols()) {
            checksum.input(symbol);
            put(alphabet::character(symbol));
        }
        checksum.finish().into_iter().map(alphabet::character).for_each(&mut put);
        if needed > out.len() { Err(BufferTooSmall { needed }) } else { Ok(needed) }
    }

    /// The parts that the packed form is made of.
    pub(super) fn raw(&self) -> (Hrp, Symbols<'a>) {
        (self.hrp, self.symbols)
    }
}

impl Description<'_> {
    /// Whether this commits to the terms with this hash
    /// ([`Terms::hash`](super::terms::Terms::hash)): as the description hash, or as
    /// a text of [`TERMS_PREFIX`] and 64 hex digits.
    pub fn commits_to(&self, terms_hash: &[u8; 32]) -> bool {
        let text = match self {
            Self::Hash(hash) => return hash == terms_hash,
            Self::Text(text) => text,
        };
        let mut bytes = text.bytes();
        let prefix = TERMS_PREFIX.iter().all(|c| bytes.next() == Some(*c));
        let mut digit = || bytes.next().and_then(|c| char::from(c).to_digit(16));
        let digits = terms_hash.iter().all(|byte| {
            digit() == Some(u32::from(byte >> 4)) && digit() == Some(u32::from(byte & 15))
        });
        prefix && digits && bytes.next().is_none()
    }
}

impl<'a> TextField<'a> {
    /// The bytes, in order.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + use<'a> {
        Bytes::new(self.symbols.take(self.len.into()))
    }

    /// Length in bytes, at most 639.
    pub fn len(&self) -> usize {
        byte_len(self.len.into())
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
