//! Writes a packed proof.

use super::{PackError, PackedError};
use crate::payment::bolt11::BufferTooSmall;

/// Writes what fits and counts what does not.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    held: u16,
    bits: u8,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0, held: 0, bits: 0 }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.out.get_mut(self.len) {
                *place = *byte;
            }
            self.len += 1;
        }
    }

    pub(super) fn leb128(&mut self, mut value: u128) {
        while value > 0x7f {
            self.bytes(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.bytes(&[value as u8]);
    }

    pub(super) fn symbol(&mut self, symbol: u8) {
        self.held = self.held << 5 | u16::from(symbol);
        self.bits += 5;
        if self.bits >= 8 {
            self.bits -= 8;
            self.bytes(&[(self.held >> self.bits) as u8]);
            self.held &= (1 << self.bits) - 1;
        }
    }

    /// Writes the last bits, and the flags in front; gives the length.
    pub(super) fn finish(mut self, flags: u8) -> Result<usize, PackError> {
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
pub(super) fn read_leb128(bytes: &mut &[u8]) -> Result<u128, PackedError> {
    let mut value = 0u128;
    // Ten times 64 bits need not more than 68.
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(PackedError::TooShort)?;
        *bytes = rest;
        let part = u128::from(byte & 0x7f);
        value |= part << shift;
        if byte & 0x80 == 0 {
            let superfluous = *byte == 0 && shift > 0;
            return if superfluous { Err(PackedError::Amount) } else { Ok(value) };
        }
    }
    Err(PackedError::Amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_form() {
        let most = u128::from(u64::MAX) * 10;
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX.into(), most, (1 << 70) - 1] {
            let mut out = [0; 10];
            let mut writer = Writer::new(&mut out);
            writer.leb128(value);
            let len = writer.len;
            let mut rest = &out[..len];
            assert_eq!(read_leb128(&mut rest), Ok(value));
            assert!(rest.is_empty());
            assert_eq!(read_leb128(&mut &out[..len - 1]), Err(PackedError::TooShort));
        }
        assert_eq!(read_leb128(&mut &[0x80, 0][..]), Err(PackedError::Amount));
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80, 0x01];
        assert_eq!(read_leb128(&mut &too_large[..]), Err(PackedError::Amount));
    }
}
