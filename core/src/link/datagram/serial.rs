//! Frames on a serial line: COBS between zero bytes, with a CRC.
//!
//! On the line a frame is a zero byte, the frame and its CRC-16/IBM-3740 (two bytes,
//! little-endian) in consistent overhead byte stuffing, and a zero byte. The first zero
//! ends whatever noise came before. The CRC keeps noise away from the cryptography; it
//! protects against nobody.

use cobs::{CobsEncoder, DecodeResult, DecoderState, max_encoding_length};
use crc::{CRC_16_IBM_3740, Crc};

/// Bytes of the CRC.
pub const CRC_LEN: usize = 2;

/// With a table of 512 bytes, which saves a board 25,000 instructions for each packet.
static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);

/// Most bytes on the line for a frame of `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    max_encoding_length(len + CRC_LEN) + 2
}

/// Writes a frame as it goes on the line into `out`; returns its length there, or `None`
/// if `out` is shorter than [`encoded_len`].
pub fn encode(frame: &[u8], out: &mut [u8]) -> Option<usize> {
    let (_last, rest) = out.get_mut(..encoded_len(frame.len()))?.split_last_mut()?;
    let (first, body) = rest.split_first_mut()?;
    *first = 0;
    let mut encoder = CobsEncoder::new(body);
    encoder.push(frame).ok()?;
    encoder.push(&CRC.checksum(frame).to_le_bytes()).ok()?;
    let end = encoder.finalize() + 1;
    *out.get_mut(end)? = 0;
    Some(end + 1)
}

/// Finds the frames among the bytes of a line. `M` is memory for one frame and its CRC;
/// longer frames are not taken.
#[derive(Debug)]
pub struct Deframer<M> {
    memory: M,
    len: usize,
    state: DecoderState,
    /// The frame is longer than the memory.
    long: bool,
    damaged: u64,
}

impl<M: AsMut<[u8]>> Deframer<M> {
    /// With this memory, between frames.
    pub const fn new(memory: M) -> Self {
        Self { memory, len: 0, state: DecoderState::Idle, long: false, damaged: 0 }
    }

    /// Takes bytes from the line, from the front of `bytes`, up to the end of a frame,
    /// which it gives. `None`: all bytes were taken.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<&mut [u8]> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            match self.state.feed(*byte) {
                Ok(DecodeResult::NoData) => {}
                Ok(DecodeResult::DataStart) => (self.len, self.long) = (0, false),
                Ok(DecodeResult::DataContinue(byte)) => {
                    match self.memory.as_mut().get_mut(self.len) {
                        Some(slot) => *slot = byte,
                        None => self.long = true,
                    }
                    self.len += usize::from(!self.long);
                }
                Ok(DecodeResult::DataComplete) => match self.whole() {
                    Some(len) => return self.memory.as_mut().get_mut(..len),
                    None => self.damaged = self.damaged.saturating_add(1),
                },
                Err(_) => self.damaged = self.damaged.saturating_add(1),
            }
        }
        None
    }

    /// How many frames were damaged or too long.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Length of the frame if its CRC is right.
    fn whole(&mut self) -> Option<usize> {
        let (frame, crc) = self.memory.as_mut().get(..self.len)?.split_last_chunk()?;
        let right = !self.long && CRC.checksum(frame) == u16::from_le_bytes(*crc);
        right.then_some(frame.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*, sample::Index};
    use std::{vec, vec::Vec};

    fn line(frame: &[u8]) -> Vec<u8> {
        let mut out = vec![7; encoded_len(frame.len())];
        let len = encode(frame, &mut out).unwrap();
        out.truncate(len);
        out
    }

    fn frames(deframer: &mut Deframer<[u8; 602]>, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while let Some(frame) = deframer.next(&mut bytes) {
            found.push(frame.to_vec());
        }
        found
    }

    /// The examples of the COBS paper (Cheshire and Baker, 1999) and the CRC
    /// catalogue's check value, 0x29b1 for "123456789".
    #[test]
    fn known_bytes() {
        assert_eq!(CRC.checksum(b"123456789"), 0x29b1);
        assert_eq!(line(b"123456789"), b"\0\x0c123456789\xb1\x29\0");
        let crc = CRC.checksum(&[0x11, 0, 0, 0]).to_le_bytes();
        assert_eq!(line(&[0x11, 0, 0, 0]), [0, 2, 0x11, 1, 1, 3, crc[0], crc[1], 0]);
    }

    #[test]
    fn frames_longer_than_the_memory_are_passed_over() {
        let mut deframer = Deframer::new([0; 602]);
        let mut bytes = line(&[5; 601]);
        bytes.extend(line(&[6; 600]));
        assert_eq!(frames(&mut deframer, &bytes), [[6; 600]]);
        assert_eq!(deframer.damaged(), 1);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut_and_noise_between(
            sent in any_vec(any_vec(prop_oneof![Just(0), any::<u8>()], 0..600), 1..5),
            noise in any_vec(any::<u8>(), 0..30), cuts in any_vec(1usize..99, 1..9),
        ) {
            let mut bytes = Vec::new();
            for frame in &sent {
                let whole = line(frame);
                prop_assert!(whole.len() <= frame.len() + 4 + (frame.len() + 2).div_ceil(254).max(1));
                bytes.extend(&noise);
                bytes.extend(whole);
            }
            let (mut deframer, mut found, mut rest) = (Deframer::new([0; 602]), Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                found.extend(frames(&mut deframer, now));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            // Noise can be a frame by chance, though not a likely one.
            found.retain(|frame| sent.contains(frame));
            prop_assert_eq!(found, sent);
        }

        #[test]
        fn a_flipped_bit_is_noticed(frame in any_vec(any::<u8>(), 1..300), at: Index, bit in 0u8..8) {
            let mut bytes = line(&frame);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut deframer = Deframer::new([0; 602]);
            // A zero too many or too few at the ends does not touch the frame.
            let found = frames(&mut deframer, &bytes);
            prop_assert!(found.is_empty() || found == [&frame[..]]);
            prop_assert!(found.is_empty() || at == 0);
        }

        #[test]
        fn any_bytes(bytes in any_vec(any::<u8>(), 0..2000)) {
            frames(&mut Deframer::new([0; 602]), &bytes);
        }
    }
}
