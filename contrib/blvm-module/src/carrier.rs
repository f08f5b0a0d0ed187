//! How the node's connections carry frames of a link.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | `MESH`, by which the node knows what to hand to its mesh module |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | `L`: a frame of a link |
//! | 6 | 10 | 0 |
//! | 16 | 4 | length of the frame, little-endian |
//! | 20 | 4 | 0 |
//! | 24 | n | the frame |
//!
//! The node's reader looks at the first four bytes and at the length.

/// Bytes before the frame.
pub const HEADER_LEN: usize = 24;

const MAGIC: [u8; 6] = *b"MESH\x01L";

/// A frame as the node sends it to a peer.
pub fn wrap(frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend(frame);
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes();
    for (at, byte) in bytes.iter_mut().zip(MAGIC) {
        *at = byte;
    }
    for (at, byte) in bytes.iter_mut().skip(16).zip(len) {
        *at = byte;
    }
    bytes
}

/// The frame in what the node received from a peer; `None` if it holds something else.
pub fn unwrap(bytes: &mut [u8]) -> Option<&mut [u8]> {
    let (header, frame) = bytes.split_at_mut_checked(HEADER_LEN)?;
    let empty = wrap(&[]);
    let len = header.get(16..20)?.try_into().map(u32::from_le_bytes).ok()?;
    let same = header.get(..16) == empty.get(..16) && header.get(20..) == empty.get(20..);
    (same && usize::try_from(len) == Ok(frame.len())).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_comes_out_as_it_went_in(frame in prop::collection::vec(any::<u8>(), 0..99)) {
            let mut bytes = wrap(&frame);
            prop_assert_eq!(unwrap(&mut bytes).unwrap(), &frame[..]);
        }

        #[test]
        fn nothing_else_is_one(mut bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            prop_assert!(unwrap(&mut bytes).is_none());
        }

        #[test]
        fn no_byte_of_the_header_is_left_unseen(at in 0..HEADER_LEN, bit in 0..8u8) {
            let mut bytes = wrap(b"frame");
            bytes[at] ^= 1 << bit;
            prop_assert!(unwrap(&mut bytes).is_none());
        }
    }
}
