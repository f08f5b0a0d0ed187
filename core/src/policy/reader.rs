//! Reads fields off a payload: checked, allocation-free, knowing its place. The decoders of
//! `bitcoin` copy what they read.

use super::reason::{Reason, Unrecognised};

type Result<T> = core::result::Result<T, Unrecognised>;

/// Bytes still to be read, and where in the whole payload they end.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    end: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which begin at offset `at` of the whole payload.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { rest: bytes, end: at.saturating_add(bytes.len()) }
    }

    /// Offset in the whole payload of the next byte.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True if everything was read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// This place, with a reason.
    #[cold]
    pub(super) fn fail<T>(&self, reason: Reason) -> Result<T> {
        Err(reason.at(self.at()))
    }

    /// The next `n` bytes.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            return self.fail(Reason::FieldTruncated);
        };
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let Some((head, rest)) = self.rest.split_first_chunk() else {
            return self.fail(Reason::FieldTruncated);
        };
        self.rest = rest;
        Ok(head)
    }

    /// One byte.
    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(|b: &[u8; 1]| b[0])
    }

    /// Two bytes, little-endian.
    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().copied().map(u16::from_le_bytes)
    }

    /// Three bytes, little-endian (Stratum V2, U24).
    pub(super) fn u24(&mut self) -> Result<u32> {
        self.array().map(|&[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// Four bytes, little-endian.
    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().copied().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().copied().map(u64::from_le_bytes)
    }

    /// A CompactSize in its shortest form.
    #[inline]
    pub(super) fn compact_size(&mut self) -> Result<u64> {
        if let [small @ ..0xfd, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*small));
        }
        self.long_compact_size()
    }

    /// A CompactSize of more than one byte.
    fn long_compact_size(&mut self) -> Result<u64> {
        let start = *self;
        let (value, least) = match self.u8()? {
            0xfd => (u64::from(self.u16()?), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            _ => (self.u64()?, 0x1_0000_0000),
        };
        if value < least { start.fail(Reason::NonCanonicalSize) } else { Ok(value) }
    }

    /// A CompactSize that counts elements, at most `limit`.
    pub(super) fn count(&mut self, limit: u32) -> Result<u32> {
        let start = *self;
        let count = self.compact_size()?;
        match u32::try_from(count) {
            Ok(n) if n <= limit => Ok(n),
            _ => start.fail(Reason::TooMany { count, limit }),
        }
    }

    /// Bytes behind their CompactSize; not more than there are.
    #[inline]
    pub(super) fn var_bytes(&mut self) -> Result<&'a [u8]> {
        let start = *self;
        match usize::try_from(self.compact_size()?) {
            Ok(n) => self.take(n),
            Err(_) => start.fail(Reason::FieldTruncated),
        }
    }

    /// Bytes behind their CompactSize, at most `limit`.
    pub(super) fn var_bytes_up_to(&mut self, limit: u32) -> Result<&'a [u8]> {
        let start = *self;
        let bytes = self.var_bytes()?;
        let length = bytes.len() as u64;
        if length > u64::from(limit) {
            return start.fail(Reason::TooLong { length, limit });
        }
        Ok(bytes)
    }

    /// Everything must have been read.
    pub(super) fn finish(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { self.fail(Reason::TrailingBytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::encode::{VarInt, deserialize_partial};
    use proptest::prelude::*;

    /// Bytes that are often a long form of a small number.
    fn sizes() -> impl Strategy<Value = std::vec::Vec<u8>> {
        (any::<u8>(), any::<u64>(), 0u32..64, 0usize..10).prop_map(|(first, n, shift, len)| {
            let first = if first & 1 == 0 { 0xfc | (first >> 6) } else { first };
            let mut bytes = std::vec![first];
            bytes.extend((n >> shift).to_le_bytes());
            bytes.truncate(len);
            bytes
        })
    }

    proptest! {
        #[test]
        fn compact_size_agrees_with_the_bitcoin_crate(bytes in sizes()) {
            let mut reader = Reader::new(&bytes, 7);
            match (reader.compact_size(), deserialize_partial::<VarInt>(&bytes)) {
                (Ok(ours), Ok((theirs, used))) => {
                    prop_assert_eq!(ours, theirs.0);
                    prop_assert_eq!(reader.at(), 7 + used);
                }
                (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err()),
            }
        }
    }

    #[test]
    fn a_failure_names_its_place() {
        let mut reader = Reader::new(&[1, 2, 3, 0xfd, 0xfc, 0], 10);
        assert_eq!(reader.u24(), Ok(0x03_0201));
        assert_eq!(reader.at(), 13);
        assert_eq!(reader.clone().compact_size(), Err(Reason::NonCanonicalSize.at(13)));
        assert_eq!(reader.u32(), Err(Reason::FieldTruncated.at(13)));
        assert_eq!(reader.finish(), Err(Reason::TrailingBytes.at(13)));
        let mut reader = Reader::new(&[3, 1, 1], 0);
        assert_eq!(reader.clone().count(2), Err(Reason::TooMany { count: 3, limit: 2 }.at(0)));
        assert_eq!(reader.var_bytes(), Err(Reason::FieldTruncated.at(1)));
    }
}
