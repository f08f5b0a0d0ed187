//! The symbols of a packed invoice, with what was left out put back.

use super::field::{HASH_SYMBOLS, TERMS_PREFIX, TIMESTAMP_SYMBOLS, tag};

/// Symbols of [`TERMS_PREFIX`] and 64 hex digits.
pub(in crate::payment) const TERMS_TEXT_SYMBOLS: usize =
    ((TERMS_PREFIX.len() + 64) * 8).div_ceil(5);

/// Data that is worked out instead of read.
#[derive(Clone, Copy, Debug)]
pub(in crate::payment) enum Splice {
    /// 32 bytes.
    Hash([u8; 32]),
    /// [`TERMS_PREFIX`] and the bytes in hex.
    Text([u8; 32]),
}

impl Splice {
    fn byte(&self, i: usize) -> u8 {
        match self {
            Self::Hash(hash) => hash.get(i).copied().unwrap_or(0),
            Self::Text(hash) => {
                let Some(digit) = i.checked_sub(TERMS_PREFIX.len()) else {
                    return TERMS_PREFIX.get(i).copied().unwrap_or(0);
                };
                let Some(byte) = hash.get(digit / 2) else { return 0 };
                let nibble = if digit % 2 == 0 { byte >> 4 } else { byte & 15 };
                if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
            }
        }
    }

    /// The symbol at a place, with zero bits after the last byte.
    pub(in crate::payment) fn symbol(&self, i: usize) -> u8 {
        let (at, shift) = (i * 5 / 8, i * 5 % 8);
        let pair = u16::from_be_bytes([self.byte(at), self.byte(at + 1)]);
        (pair >> (11 - shift) & 31) as u8
    }
}

/// Reads the symbols. It follows the fields' lengths to know where data is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unpacker<'a> {
    bits: Bits<'a>,
    /// What is left out and has not come yet.
    payment_hash: Option<[u8; 32]>,
    description_hash: Option<[u8; 32]>,
    description_text: Option<[u8; 32]>,
    place: Place,
}

/// Where in an invoice the next symbol stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    Timestamp { left: usize },
    Tag,
    LengthHigh { tag: u8 },
    LengthLow { tag: u8, high: u8 },
    Data { left: usize },
    Spliced { splice: Splice, next: usize, len: usize },
}

impl Place {
    fn data(left: usize) -> Self {
        if left == 0 { Self::Tag } else { Self::Data { left } }
    }
}

impl<'a> Unpacker<'a> {
    /// Over packed symbols, with the data of each kind of field that is left out.
    pub(in crate::payment) fn new(
        bytes: &'a [u8],
        payment_hash: Option<[u8; 32]>,
        description_hash: Option<[u8; 32]>,
        description_text: Option<[u8; 32]>,
    ) -> Self {
        let bits = Bits { bytes, at: 0 };
        let place = Place::Timestamp { left: TIMESTAMP_SYMBOLS };
        Self { bits, payment_hash, description_hash, description_text, place }
    }

    fn splice(&mut self, tag: u8, len: usize) -> Option<Splice> {
        match (tag, len) {
            (tag::PAYMENT_HASH, HASH_SYMBOLS) => self.payment_hash.take().map(Splice::Hash),
            (tag::DESCRIPTION_HASH, HASH_SYMBOLS) => self.description_hash.take().map(Splice::Hash),
            (tag::DESCRIPTION, TERMS_TEXT_SYMBOLS) => {
                self.description_text.take().map(Splice::Text)
            }
            _ => None,
        }
    }
}

impl Iterator for Unpacker<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let Place::Spliced { splice, next, len } = self.place {
            let following = next + 1;
            self.place = if following == len {
                Place::Tag
            } else {
                Place::Spliced { splice, next: following, len }
            };
            return Some(splice.symbol(next));
        }
        let at_tag = matches!(self.place, Place::Tag);
        if at_tag && self.bits.is_padding() {
            return None;
        }
        let short = self.bits.short().filter(|_| at_tag);
        // Padding that is not zero counts as a symbol, which nobody signed.
        let symbol = self.bits.next().or(short)?;
        self.place = match self.place {
            Place::Timestamp { left } if left > 1 => Place::Timestamp { left: left - 1 },
            Place::Timestamp { .. } => Place::Tag,
            Place::Tag => Place::LengthHigh { tag: symbol },
            Place::LengthHigh { tag } => Place::LengthLow { tag, high: symbol },
            Place::LengthLow { tag, high } => {
                let len = usize::from(high) << 5 | usize::from(symbol);
                match self.splice(tag, len) {
                    Some(splice) => Place::Spliced { splice, next: 0, len },
                    None => Place::data(len),
                }
            }
            Place::Data { left } => Place::data(left - 1),
            spliced @ Place::Spliced { .. } => spliced,
        };
        Some(symbol)
    }
}

/// Symbols out of bytes.
#[derive(Clone, Copy, Debug)]
struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits of the first byte, below 8.
    at: u8,
}

impl Bits<'_> {
    /// Whether only padding is left: less than a byte, and zero. A field takes
    /// three symbols, so padding is never taken for one.
    fn is_padding(&self) -> bool {
        match self.bytes {
            [] => true,
            [last] => self.at > 0 && last << self.at == 0,
            _ => false,
        }
    }

    /// What is left where that is less than a symbol, as the high bits of one.
    fn short(&self) -> Option<u8> {
        match self.bytes {
            [last] if self.at > 3 => Some(*last << self.at >> 3),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        let second = rest.first();
        let end = self.at + 5;
        if end > 8 && second.is_none() {
            // Less than a symbol is left.
            self.bytes = &[];
            return None;
        }
        let pair = u16::from_be_bytes([*first, second.copied().unwrap_or(0)]);
        let symbol = (pair >> (11 - self.at) & 31) as u8;
        if end >= 8 {
            self.bytes = rest;
        }
        self.at = end % 8;
        Some(symbol)
    }
}
