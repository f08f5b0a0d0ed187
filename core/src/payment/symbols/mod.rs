//! The 5-bit symbols of an invoice, as text or packed, and the bytes that they spell.

pub(super) mod alphabet;
pub(super) mod field;
mod unpacker;

pub(super) use unpacker::{Splice, TERMS_TEXT_SYMBOLS, Unpacker};

/// The symbols of an invoice between separator and signature, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Symbols<'a> {
    /// Characters of the bech32 alphabet (checked).
    Text(&'a [u8]),
    /// The packed form, with what it left out put back.
    Packed(Unpacker<'a>),
}

impl Iterator for Symbols<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        match self {
            Self::Text(characters) => {
                let (first, rest) = characters.split_first()?;
                *characters = rest;
                alphabet::symbol(*first)
            }
            Self::Packed(unpacker) => unpacker.next(),
        }
    }
}

/// The whole bytes that a run of symbols spells; left-over bits are dropped, as
/// BOLT 11 readers do.
#[derive(Clone, Debug)]
pub(crate) struct Bytes<I> {
    symbols: I,
    held: u16,
    bits: u8,
}

impl<I: Iterator<Item = u8>> Bytes<I> {
    pub(crate) fn new(symbols: I) -> Self {
        Self { symbols, held: 0, bits: 0 }
    }

    /// The first `N` bytes, or `None` if there are fewer.
    pub(crate) fn array<const N: usize>(mut self) -> Option<[u8; N]> {
        let mut out = [0; N];
        for byte in &mut out {
            *byte = self.next()?;
        }
        Some(out)
    }
}

impl<I: Iterator<Item = u8>> Iterator for Bytes<I> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        while self.bits < 8 {
            // At most 7 held bits and 5 new ones: 12 bits are always enough.
            self.held = (self.held << 5) | u16::from(self.symbols.next()?);
            self.bits += 5;
        }
        self.bits -= 8;
        let byte = (self.held >> self.bits) as u8;
        self.held &= (1 << self.bits) - 1;
        Some(byte)
    }
}

/// Whole bytes in a run of `symbols` symbols.
pub(crate) fn byte_len(symbols: usize) -> usize {
    symbols * 5 / 8
}
