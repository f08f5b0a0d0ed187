//! What is inside a sealed frame.
//!
//! | size | there if | field |
//! |---|---|---|
//! | 1 | | flags: bit 0 acknowledgement, 1 skip free, 2 skip paid, 3 bytes of the free lane, 4 bytes of the paid lane; the rest 0 |
//! | 6 | bit 0 | highest counter received (2, its lowest bits); which of the 32 before it were received (4, bit 0 the one just before) |
//! | 2 | bit 1 | free lane: offset up to which the sender gave up |
//! | 2 | bit 2 | paid lane: likewise |
//! | 2 | bit 4 | paid lane: offset of the bytes |
//! | 2 | bits 3 and 4 | number of these bytes, at least 1 |
//! | n | bit 4 | the bytes; without bit 3 up to the end |
//! | 2 | bit 3 | free lane: offset of the bytes |
//! | n | bit 3 | the bytes, up to the end, at least 1 |
//!
//! Offsets count the bytes of a lane from the beginning of the session and are given by
//! their lowest 16 bits. A frame without any of it confirms that the session stands.

use crate::link::lane::Lane;

/// Bytes of the flags.
pub const FLAGS_LEN: usize = 1;
/// Bytes of an acknowledgement.
pub const ACK_LEN: usize = 6;
/// Bytes of an offset, a length or a skip.
pub const FIELD_LEN: usize = 2;

const ACK: u8 = 1;
const SKIP: [u8; 2] = [2, 4];
const BYTES: [u8; 2] = [8, 16];
const CLOSE: u8 = 32;
const ALL: u8 = 63;

/// Which frames came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Lowest 16 bits of the highest counter.
    pub highest: u16,
    /// Bit i: counter `highest - 1 - i` came in.
    pub before: u32,
}

/// Bytes of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'b> {
    /// Lowest 16 bits of the offset.
    pub offset: u16,
    /// At least one byte.
    pub bytes: &'b [u8],
}

/// A body. Arrays are indexed by [`Lane`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Body<'b> {
    /// Frames that came in.
    pub ack: Option<Ack>,
    /// Lowest 16 bits of the offsets up to which the sender gave up.
    pub skip: [Option<u16>; 2],
    /// Bytes of the lanes.
    pub chunk: [Option<Chunk<'b>>; 2],
    /// The sender has ended the session.
    pub close: bool,
}

impl<'b> Body<'b> {
    /// Whether the receiver is to acknowledge it.
    pub fn asks_for_ack(&self) -> bool {
        self.skip != [None; 2] || self.chunk != [None; 2]
    }

    /// Reads a body; `None` if it is not one.
    pub fn parse(bytes: &'b [u8]) -> Option<Self> {
        let (&flags, mut rest) = bytes.split_first()?;
        if flags & !ALL != 0 {
            return None;
        }
        let mut body = Self { close: flags & CLOSE != 0, ..Self::default() };
        if flags & ACK != 0 {
            let highest = take_u16(&mut rest)?;
            let (before, after) = rest.split_first_chunk()?;
            rest = after;
            body.ack = Some(Ack { highest, before: u32::from_le_bytes(*before) });
        }
        for (skip, flag) in body.skip.iter_mut().zip(SKIP) {
            if flags & flag != 0 {
                *skip = Some(take_u16(&mut rest)?);
            }
        }
        let [free, paid] = BYTES.map(|flag| flags & flag != 0);
        let [free_chunk, paid_chunk] = &mut body.chunk;
        if paid {
            let offset = take_u16(&mut rest)?;
            let len = if free { usize::from(take_u16(&mut rest)?) } else { rest.len() };
            let (bytes, after) = rest.split_at_checked(len)?;
            rest = after;
            *paid_chunk = Some(Chunk { offset, bytes });
        }
        if free {
            let offset = take_u16(&mut rest)?;
            *free_chunk = Some(Chunk { offset, bytes: core::mem::take(&mut rest) });
        }
        let empty = body.chunk.iter().flatten().any(|chunk| chunk.bytes.is_empty());
        (rest.is_empty() && !empty).then_some(body)
    }

    /// Bytes that it takes when written.
    pub fn size(&self) -> usize {
        let ack = self.ack.map_or(0, |_| ACK_LEN);
        let skips = self.skip.iter().flatten().count() * FIELD_LEN;
        let chunks = self.chunk.iter().flatten();
        let bytes: usize = chunks.clone().map(|chunk| FIELD_LEN + chunk.bytes.len()).sum();
        let length = if chunks.count() == 2 { FIELD_LEN } else { 0 };
        FLAGS_LEN + ack + skips + bytes + length
    }

    /// Writes it to the front of `out`; returns its length, `None` if there is no room.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let len = self.size();
        let mut rest = out.get_mut(..len)?;
        let mut put = |bytes: &[u8]| -> Option<()> {
            let (to, after) = core::mem::take(&mut rest).split_at_mut_checked(bytes.len())?;
            to.copy_from_slice(bytes);
            rest = after;
            Some(())
        };
        let flag = |there: bool, flag: u8| if there { flag } else { 0 };
        let mut flags = flag(self.ack.is_some(), ACK) | flag(self.close, CLOSE);
        for ((skip, chunk), (skip_flag, chunk_flag)) in
            self.skip.iter().zip(&self.chunk).zip(SKIP.iter().zip(BYTES))
        {
            flags |= flag(skip.is_some(), *skip_flag) | flag(chunk.is_some(), chunk_flag);
        }
        put(&[flags])?;
        if let Some(ack) = self.ack {
            put(&ack.highest.to_le_bytes())?;
            put(&ack.before.to_le_bytes())?;
        }
        for skip in self.skip.iter().flatten() {
            put(&skip.to_le_bytes())?;
        }
        let [free, paid] = &self.chunk;
        if let Some(chunk) = paid {
            put(&chunk.offset.to_le_bytes())?;
            if free.is_some() {
                put(&u16::try_from(chunk.bytes.len()).ok()?.to_le_bytes())?;
            }
            put(chunk.bytes)?;
        }
        if let Some(chunk) = free {
            put(&chunk.offset.to_le_bytes())?;
            put(chunk.bytes)?;
        }
        Some(len)
    }
}

/// The lanes in the order in which they are served.
pub const BY_RANK: [Lane; 2] = [Lane::Paid, Lane::Free];

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u16::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, option, prelude::*};
    use std::{vec, vec::Vec};

    #[test]
    fn known_bytes() {
        let ack = Some(Ack { highest: 0x0102, before: 5 });
        let chunk = |bytes| Some(Chunk { offset: 0x0304, bytes });
        let body = Body {
            ack,
            skip: [None, Some(7)],
            chunk: [chunk(b"free"), chunk(b"paid")],
            close: false,
        };
        let mut out = [0; 40];
        let len = body.write(&mut out).unwrap();
        assert_eq!(out[..len], *b"\x1d\x02\x01\x05\0\0\0\x07\0\x04\x03\x04\0paid\x04\x03free");
        assert_eq!(body.write(&mut out[..len - 1]), None);
        assert_eq!(Body::parse(b"\0"), Some(Body::default()));
        let close = Body { close: true, ..Body::default() };
        assert_eq!(
            (Body::parse(b"\x20"), close.write(&mut out), out[0]),
            (Some(close), Some(1), 32)
        );
        for bad in [&b""[..], b"\x40", b"\0x", b"\x01\0\0\0\0\0", b"\x08\0\0", b"\x18\0\0\0\0\0\0x"]
        {
            assert_eq!(Body::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            ack in option::of((any::<u16>(), any::<u32>())), skip: [Option<u16>; 2], close: bool,
            chunks in [option::of((any::<u16>(), any_vec(any::<u8>(), 1..50))), option::of((any::<u16>(), any_vec(any::<u8>(), 1..50)))],
        ) {
            let chunk = [0, 1].map(|lane| {
                chunks[lane].as_ref().map(|(offset, bytes)| Chunk { offset: *offset, bytes })
            });
            let ack = ack.map(|(highest, before)| Ack { highest, before });
            let body = Body { ack, skip, chunk, close };
            let mut out = vec![0; 200];
            let len = body.write(&mut out).unwrap();
            prop_assert_eq!(len, body.size());
            prop_assert_eq!(Body::parse(&out[..len]), Some(body));
        }

        #[test]
        fn any_bytes(bytes in any_vec(any::<u8>(), 0..40)) {
            if let Some(body) = Body::parse(&bytes) {
                let mut out: Vec<u8> = vec![0; bytes.len()];
                prop_assert_eq!(body.write(&mut out), Some(bytes.len()));
                prop_assert_eq!(out, bytes);
            }
        }
    }
}
