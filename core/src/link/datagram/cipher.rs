//! Sealed frames with explicit counters.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | session at the receiver, 0 to 127 |
//! | 1 | 2 | lowest 16 bits of the counter |
//! | 3 | n | body, encrypted |
//! | 3 + n | 16 | tag over the first 3 bytes and the body |
//!
//! The counter begins with 0, goes up by one with each frame and is the nonce. As in
//! BOLT 8 a key is replaced after 1000 uses; the receiver keeps the last one for frames
//! that come late. So a counter never runs out, and a recording is of no use to whoever
//! takes a later key.

use super::{Ignored, window::ReplayWindow};
use crate::link::{
    aead::{Aead, Forged, KEY_LEN, TAG_LEN},
    handshake::hkdf_two,
};

/// Bytes before the body.
pub const HEADER_LEN: usize = 3;
/// Bytes that a sealed frame has more than its body.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Frames that are sealed with one key.
pub const USES_OF_A_KEY: u64 = 1000;

/// One direction's key and what the next one is made of.
struct Key<A> {
    aead: A,
    chain: Chain,
}

struct Chain {
    key: [u8; KEY_LEN],
    chaining: [u8; KEY_LEN],
}

impl<A: Aead> Key<A> {
    fn new(key: &[u8; KEY_LEN], chaining: &[u8; KEY_LEN]) -> Self {
        Self { aead: A::new(key), chain: Chain { key: *key, chaining: *chaining } }
    }

    /// BOLT 8, "Lightning Message Key Rotation".
    fn next(&self) -> Self {
        let (chaining, key) = hkdf_two(&self.chain.chaining, &self.chain.key);
        Self::new(&key, &chaining)
    }
}

#[cfg(feature = "zeroize")]
impl Drop for Chain {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.key.zeroize();
        self.chaining.zeroize();
    }
}

/// Seals what is sent.
pub struct Sealer<A> {
    key: Key<A>,
    session: u8,
    next: u64,
}

impl<A: Aead> Sealer<A> {
    /// For the session that the receiver calls `session`.
    pub fn new(session: u8, key: &[u8; KEY_LEN], chaining: &[u8; KEY_LEN]) -> Self {
        Self { key: Key::new(key, chaining), session, next: 0 }
    }

    /// The counter of the next frame.
    pub fn next_counter(&self) -> u64 {
        self.next
    }

    /// Seals in place: `frame` is 3 bytes of room, the body, 16 bytes of room. False,
    /// and nothing is to be sent, if it is shorter or the counters are used up.
    #[must_use]
    pub fn seal(&mut self, frame: &mut [u8]) -> bool {
        let counter = self.next;
        let Some((header, rest)) = frame.split_first_chunk_mut::<HEADER_LEN>() else {
            return false;
        };
        let Some((body, tag)) = rest.split_last_chunk_mut::<TAG_LEN>() else { return false };
        let Some(next) = counter.checked_add(1) else { return false };
        if counter != 0 && counter.is_multiple_of(USES_OF_A_KEY) {
            self.key = self.key.next();
        }
        let [low, high, ..] = counter.to_le_bytes();
        *header = [self.session, low, high];
        self.key.aead.seal(counter, header, body, tag);
        self.next = next;
        true
    }
}

/// Opens what is received.
pub struct Opener<A> {
    key: Key<A>,
    /// The key before.
    previous: Option<A>,
    /// How often the key was replaced.
    epoch: u64,
    window: ReplayWindow,
}

impl<A: Aead> Opener<A> {
    /// With the keys of a finished handshake.
    pub fn new(key: &[u8; KEY_LEN], chaining: &[u8; KEY_LEN]) -> Self {
        let window = ReplayWindow::default();
        Self { key: Key::new(key, chaining), previous: None, epoch: 0, window }
    }

    /// Decrypts a frame in place; gives its counter and body. The counter is not
    /// remembered before [`accept`](Self::accept).
    ///
    /// # Errors
    /// [`Ignored`]: the frame is not authentic or came before. Nothing has changed.
    pub fn open<'f>(&mut self, frame: &'f mut [u8]) -> Result<(u64, &'f mut [u8]), Ignored> {
        let (header, rest) =
            frame.split_first_chunk_mut::<HEADER_LEN>().ok_or(Ignored::NotAFrame)?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(Ignored::NotAFrame)?;
        let [_, low, high] = *header;
        let counter =
            self.window.expand(u16::from_le_bytes([low, high])).ok_or(Ignored::Replayed)?;
        if !self.window.is_new(counter) {
            return Err(Ignored::Replayed);
        }
        let epoch = counter / USES_OF_A_KEY;
        if epoch == self.epoch {
            self.key.aead.open(counter, header, body, tag)?;
        } else if epoch == self.epoch.saturating_add(1) {
            let next = self.key.next();
            next.aead.open(counter, header, body, tag)?;
            self.previous = Some(core::mem::replace(&mut self.key, next).aead);
            self.epoch = epoch;
        } else {
            let previous =
                self.previous.as_ref().filter(|_| epoch.checked_add(1) == Some(self.epoch));
            previous.ok_or(Ignored::Replayed)?.open(counter, header, body, tag)?;
        }
        Ok((counter, body))
    }

    /// Remembers the counter of a frame whose body was taken.
    pub fn accept(&mut self, counter: u64) {
        self.window.accept(counter);
    }

    /// Which counters were accepted.
    pub fn window(&self) -> &ReplayWindow {
        &self.window
    }
}

impl From<Forged> for Ignored {
    fn from(Forged: Forged) -> Self {
        Self::Forged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::aead::RustCrypto;
    use proptest::{prelude::*, sample::Index};
    use std::{vec, vec::Vec};

    fn pair() -> (Sealer<RustCrypto>, Opener<RustCrypto>) {
        (Sealer::new(5, &[1; 32], &[2; 32]), Opener::new(&[1; 32], &[2; 32]))
    }

    fn seal(sealer: &mut Sealer<RustCrypto>, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; body.len() + OVERHEAD];
        frame[HEADER_LEN..][..body.len()].copy_from_slice(body);
        assert!(sealer.seal(&mut frame));
        frame
    }

    fn open(opener: &mut Opener<RustCrypto>, frame: &[u8]) -> Result<Vec<u8>, Ignored> {
        let mut frame = frame.to_vec();
        let (counter, body) = opener.open(&mut frame)?;
        let body = body.to_vec();
        opener.accept(counter);
        Ok(body)
    }

    #[test]
    fn keys_change_as_bolt_8_says_and_late_frames_are_read() {
        let (mut sealer, mut opener) = pair();
        let frames: Vec<_> = (0..3001u32).map(|i| seal(&mut sealer, &i.to_le_bytes())).collect();
        // Each frame is first met by a later one, over each change of the key.
        for pair in frames[..3000].chunks(2) {
            for frame in pair.iter().rev() {
                assert!(open(&mut opener, frame).is_ok());
                assert_eq!(open(&mut opener, frame), Err(Ignored::Replayed));
            }
        }
        // Frame 999 comes after 1000, frame 998 too late.
        let (_, mut opener) = pair();
        for frame in &frames[..998] {
            open(&mut opener, frame).unwrap();
        }
        assert_eq!(open(&mut opener, &frames[1000]), Ok(1000u32.to_le_bytes().to_vec()));
        assert_eq!(open(&mut opener, &frames[999]), Ok(999u32.to_le_bytes().to_vec()));
        assert_eq!(open(&mut opener, &frames[2000]), Ok(2000u32.to_le_bytes().to_vec()));
        assert_eq!(open(&mut opener, &frames[998]), Err(Ignored::Replayed));
        // The key of frame 1000 by hand: HKDF-SHA-256, as the rotation vectors of
        // BOLT 8 prove it in `vectors.rs`, then the cipher alone.
        let (_, key) = hkdf_two(&[2; 32], &[1; 32]);
        let mut frame = frames[1000].clone();
        let (header, rest) = frame.split_first_chunk_mut::<3>().unwrap();
        let (body, tag) = rest.split_last_chunk_mut::<16>().unwrap();
        assert_eq!(*header, [5, 0xe8, 3]);
        RustCrypto::new(&key).open(1000, header, body, tag).unwrap();
        assert_eq!(body, 1000u32.to_le_bytes());
    }

    #[test]
    fn a_counter_is_used_once_and_the_last_one_never() {
        let (mut sealer, _) = pair();
        sealer.next = u64::MAX - 1;
        assert!(sealer.seal(&mut [0; 20]));
        assert!(!sealer.seal(&mut [0; 20]));
        assert!(!pair().0.seal(&mut [0; OVERHEAD - 1]));
    }

    #[test]
    fn the_counter_on_the_wire_wraps() {
        let (mut sealer, mut opener) = pair();
        for i in 0..70_000u32 {
            let frame = seal(&mut sealer, &i.to_le_bytes());
            // One in three is lost.
            if i % 3 != 0 {
                assert_eq!(open(&mut opener, &frame), Ok(i.to_le_bytes().to_vec()));
            }
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(body in prop::collection::vec(any::<u8>(), 0..100), at: Index, bit in 0u8..8) {
            let (mut sealer, mut opener) = pair();
            open(&mut opener, &seal(&mut sealer, b"before")).unwrap();
            let frame = seal(&mut sealer, &body);
            let mut bad = frame.clone();
            bad[at.index(frame.len())] ^= 1 << bit;
            prop_assert!(open(&mut opener, &bad).is_err());
            prop_assert_eq!(open(&mut opener, &frame), Ok(body));
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(open(&mut pair().1, &bytes).is_err());
        }
    }
}
