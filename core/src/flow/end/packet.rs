//! Packet numbers and the seal.
//!
//! | size | field |
//! |---|---|
//! | 4 | lowest 32 bits of the packet number |
//! | n | frames, encrypted |
//! | 16 | tag over flow number, direction and frames |
//!
//! The number begins with 0 in each direction, goes up by one with each packet, and is the nonce.

use super::reason::Ignored;
use crate::link::{
    aead::{Aead, KEY_LEN, TAG_LEN},
    datagram::window::{Window, nearest},
};

/// Bytes before the frames.
pub const NUMBER_LEN: usize = 4;
/// Bytes that a packet has more than its frames.
pub const OVERHEAD: usize = NUMBER_LEN + TAG_LEN;

/// Words of the window: packets that are 2,016 late are still taken.
const WORDS: usize = 64;
const PERIOD: u64 = 1 << 32;
const BOUND_LEN: usize = 9;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who opened the flow, and pays for it.
    FromSource = 0,
    /// From who answered.
    FromDestination = 1,
}

/// What the tag covers beside the frames.
fn bound(flow: u64, direction: Direction) -> [u8; BOUND_LEN] {
    let [a, b, c, d, e, f, g, h] = flow.to_le_bytes();
    [a, b, c, d, e, f, g, h, direction as u8]
}

/// Seals what is sent.
pub(super) struct Sealer<A> {
    aead: A,
    bound: [u8; BOUND_LEN],
    next: u64,
}

impl<A: Aead> Sealer<A> {
    pub(super) fn new(key: &[u8; KEY_LEN], flow: u64, direction: Direction) -> Self {
        Self { aead: A::new(key), bound: bound(flow, direction), next: 0 }
    }

    /// Seals in place: `packet` is 4 bytes of room, the frames, 16 bytes of room. None, and
    /// nothing is to be sent, if it is shorter or the numbers are used up.
    pub(super) fn seal(&mut self, packet: &mut [u8]) -> Option<()> {
        let next = self.next.checked_add(1)?;
        let (number, rest) = packet.split_first_chunk_mut::<NUMBER_LEN>()?;
        let (frames, tag) = rest.split_last_chunk_mut::<TAG_LEN>()?;
        *number = (self.next as u32).to_le_bytes();
        self.aead.seal(self.next, &self.bound, frames, tag);
        self.next = next;
        Some(())
    }
}

/// Opens what is received.
pub(super) struct Opener<A> {
    aead: A,
    bound: [u8; BOUND_LEN],
    window: Window<WORDS>,
}

impl<A: Aead> Opener<A> {
    pub(super) fn new(key: &[u8; KEY_LEN], flow: u64, direction: Direction) -> Self {
        Self { aead: A::new(key), bound: bound(flow, direction), window: Window::default() }
    }

    /// The highest number received.
    pub(super) fn highest(&self) -> Option<u64> {
        self.window.highest()
    }

    /// Decrypts a packet in place; gives its number, which counts as received from now on, and its
    /// frames.
    ///
    /// # Errors
    /// [`Ignored`]: the packet is not authentic or came before. Nothing has changed.
    pub(super) fn open<'p>(&mut self, packet: &'p mut [u8]) -> Result<(u64, &'p [u8]), Ignored> {
        let (number, rest) =
            packet.split_first_chunk_mut::<NUMBER_LEN>().ok_or(Ignored::TooShort)?;
        let (frames, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(Ignored::TooShort)?;
        let low = u32::from_le_bytes(*number).into();
        let number = nearest::<PERIOD>(self.window.expected(), low).ok_or(Ignored::Replayed)?;
        if !self.window.is_new(number) {
            return Err(Ignored::Replayed);
        }
        self.aead.open(number, &self.bound, frames, tag).map_err(|_| Ignored::Forged)?;
        self.window.accept(number);
        Ok((number, frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::aead::RustCrypto;
    use proptest::{prelude::*, sample::Index};
    use std::{vec, vec::Vec};

    const FROM_SOURCE: Direction = Direction::FromSource;

    fn pair() -> (Sealer<RustCrypto>, Opener<RustCrypto>) {
        (Sealer::new(&[1; 32], 5, FROM_SOURCE), Opener::new(&[1; 32], 5, FROM_SOURCE))
    }

    fn seal(sealer: &mut Sealer<RustCrypto>, frames: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; frames.len() + OVERHEAD];
        packet[NUMBER_LEN..][..frames.len()].copy_from_slice(frames);
        sealer.seal(&mut packet).unwrap();
        packet
    }

    #[test]
    fn a_packet_is_taken_once_and_late_ones_are() {
        let (mut sealer, mut opener) = pair();
        let packets: Vec<_> = (0..5000u32).map(|n| seal(&mut sealer, &n.to_le_bytes())).collect();
        for (n, taken) in [
            (0, true),
            (1, true),
            (2016, true),
            (2017, true),
            (2016, false),
            (4999, true),
            // As late as it may be, and one later.
            (2983, true),
            (2982, false),
            (4999, false),
            (0, false),
        ] {
            let mut packet = packets[n].clone();
            let opened = opener.open(&mut packet);
            let frames = (n as u32).to_le_bytes();
            let expected = if taken { Ok((n as u64, &frames[..])) } else { Err(Ignored::Replayed) };
            assert_eq!(opened, expected, "{n}");
        }
    }

    #[test]
    fn the_number_goes_on_behind_32_bits() {
        let (mut sealer, mut opener) = pair();
        sealer.next = PERIOD - 2;
        opener.window.accept(PERIOD - 3);
        for n in PERIOD - 2..PERIOD + 2 {
            let mut packet = seal(&mut sealer, b"x");
            assert_eq!(packet[..4], (n as u32).to_le_bytes());
            assert_eq!(opener.open(&mut packet), Ok((n, &b"x"[..])));
        }
    }

    #[test]
    fn the_last_number_is_never_used() {
        let (mut sealer, _) = pair();
        sealer.next = u64::MAX - 1;
        assert!(sealer.seal(&mut [0; OVERHEAD]).is_some());
        assert!(sealer.seal(&mut [0; OVERHEAD]).is_none());
        assert!(pair().0.seal(&mut [0; OVERHEAD - 1]).is_none());
    }

    #[test]
    fn another_flow_or_direction_is_forged() {
        let packet = seal(&mut pair().0, b"frames");
        for (flow, direction) in [(6, FROM_SOURCE), (5, Direction::FromDestination)] {
            let mut opener = Opener::<RustCrypto>::new(&[1; 32], flow, direction);
            assert_eq!(opener.open(&mut packet.clone()), Err(Ignored::Forged));
            assert_eq!(opener.window.expected(), 0);
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(
            frames in prop::collection::vec(any::<u8>(), 0..100), at: Index, bit in 0u8..8,
        ) {
            let (mut sealer, mut opener) = pair();
            opener.open(&mut seal(&mut sealer, b"before")).unwrap();
            let mut packet = seal(&mut sealer, &frames);
            let mut bad = packet.clone();
            bad[at.index(packet.len())] ^= 1 << bit;
            prop_assert!(opener.open(&mut bad).is_err());
            prop_assert_eq!(opener.open(&mut packet), Ok((1, &frames[..])));
        }

        #[test]
        fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(pair().1.open(&mut bytes).is_err());
        }
    }
}
