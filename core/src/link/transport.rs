//! Encrypted frames on a byte stream (BOLT 8, "Lightning Message Specification").
//!
//! A frame is a body of at most 65,535 bytes: its length as two bytes, big-endian,
//! encrypted, with a tag; then the body, encrypted, with a tag. Both halves work in
//! place in the caller's buffer and never allocate.

use super::{
    aead::{Aead, Forged, KEY_LEN, TAG_LEN},
    handshake::{Secrets, hkdf_two},
    suite::Suite,
};
use core::{fmt, ops::Range};

/// Bytes before a body: the encrypted length and its tag.
pub const HEADER_LEN: usize = 2 + TAG_LEN;
/// Bytes that a frame has more than its body.
pub const FRAME_OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Largest body of a frame.
pub const MAX_BODY: usize = u16::MAX as usize;

/// BOLT 8: a key is rotated after it was used 1000 times, which is 500 frames.
const USES_OF_A_KEY: u16 = 1000;

/// What the neighbour sent is not acceptable: close the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum TransportError {
    /// The length of a frame fails authentication.
    #[error("the encrypted length of a frame is not authentic")]
    ForgedLength,
    /// The body of a frame fails authentication.
    #[error("the body of a frame is not authentic")]
    ForgedBody,
    /// The frame is larger than this node takes.
    #[error("a frame of {len} bytes is longer than the {max} that this node takes")]
    FrameTooLong {
        /// Length of the body.
        len: u16,
        /// Largest length accepted here.
        max: u16,
    },
}

/// The caller's buffer is not a frame: nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[error("a frame's buffer has {0} bytes; it needs 34 more than its body of 0 to 65535")]
pub struct BadFrameBuffer(
    /// Bytes of the buffer.
    pub usize,
);

/// The sending half of a link.
#[derive(Clone)]
pub struct Sender<A>(Cipher<A>);

impl<A: Aead> Sender<A> {
    /// The half that encrypts with the keys of a finished handshake.
    pub fn new(suite: Suite, secrets: &Secrets) -> Self {
        Self(Cipher::new(suite, &secrets.sending, &secrets.chaining))
    }

    /// Makes a frame in place. `frame` is laid out as 18 bytes of room, the body,
    /// 16 bytes of room; afterwards all of it is to be sent.
    ///
    /// # Errors
    /// [`BadFrameBuffer`] if the body would be shorter than 0 or longer than
    /// 65,535 bytes.
    pub fn seal_frame(&mut self, frame: &mut [u8]) -> Result<(), BadFrameBuffer> {
        let whole = frame.len();
        let (header, rest) =
            frame.split_first_chunk_mut::<HEADER_LEN>().ok_or(BadFrameBuffer(whole))?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(BadFrameBuffer(whole))?;
        let len = u16::try_from(body.len()).map_err(|_| BadFrameBuffer(whole))?;

        let mut length = len.to_be_bytes();
        let mut length_tag = [0; TAG_LEN];
        self.0.seal(&mut length, &mut length_tag);
        let (head, tail) = header.split_at_mut(length.len());
        head.copy_from_slice(&length);
        tail.copy_from_slice(&length_tag);
        self.0.seal(body, tag);
        Ok(())
    }
}

/// The receiving half of a link.
#[derive(Clone)]
pub struct Receiver<A> {
    cipher: Cipher<A>,
    max_body: u16,
    /// Length of the frame whose body is awaited.
    pending: Option<u16>,
    failed: Option<TransportError>,
}

/// Where a decrypted frame lies in the buffer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The body, decrypted.
    pub body: Range<usize>,
    /// Bytes of the buffer that the frame took; the next frame begins here.
    pub consumed: usize,
}

impl<A: Aead> Receiver<A> {
    /// The half that decrypts with the keys of a finished handshake, and takes
    /// bodies of up to `max_body` bytes.
    pub fn new(suite: Suite, secrets: &Secrets, max_body: u16) -> Self {
        let cipher = Cipher::new(suite, &secrets.receiving, &secrets.chaining);
        Self { cipher, max_body, pending: None, failed: None }
    }

    /// Decrypts in place the frame that `buf` begins with, once all of it is there.
    /// `None`: nothing was consumed; call again with the same bytes and more
    /// behind them, [`needs`](Self::needs) in all.
    ///
    /// A large buffer is decrypted by calling this from each frame's `consumed` on.
    ///
    /// # Errors
    /// [`TransportError`]: close the link. Every later call fails likewise.
    pub fn open_frame(&mut self, buf: &mut [u8]) -> Result<Option<Frame>, TransportError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.try_open(buf).inspect_err(|error| self.failed = Some(*error))
    }

    /// How many bytes, from the first one not consumed, the next progress takes.
    pub fn needs(&self) -> usize {
        self.pending.map_or(HEADER_LEN, |len| FRAME_OVERHEAD + usize::from(len))
    }

    fn try_open(&mut self, buf: &mut [u8]) -> Result<Option<Frame>, TransportError> {
        let Some((header, rest)) = buf.split_first_chunk_mut::<HEADER_LEN>() else {
            return Ok(None);
        };
        let len = match self.pending {
            Some(len) => len,
            None => {
                let len = self.open_length(header)?;
                *self.pending.insert(len)
            }
        };
        let body_len = usize::from(len);
        let Some((body, rest)) = rest.split_at_mut_checked(body_len) else { return Ok(None) };
        let Some(tag) = rest.first_chunk() else { return Ok(None) };
        self.cipher.open(body, tag).map_err(|Forged| TransportError::ForgedBody)?;
        self.pending = None;
        Ok(Some(Frame {
            body: HEADER_LEN..HEADER_LEN + body_len,
            consumed: FRAME_OVERHEAD + body_len,
        }))
    }

    fn open_length(&mut self, header: &[u8; HEADER_LEN]) -> Result<u16, TransportError> {
        let [first, second, tag @ ..] = header;
        let mut length = [*first, *second];
        self.cipher.open(&mut length, tag).map_err(|Forged| TransportError::ForgedLength)?;
        let len = u16::from_be_bytes(length);
        if len > self.max_body {
            return Err(TransportError::FrameTooLong { len, max: self.max_body });
        }
        Ok(len)
    }
}

/// One direction's key with its counter and rotation.
#[derive(Clone)]
struct Cipher<A> {
    suite: Suite,
    aead: A,
    key: [u8; KEY_LEN],
    chaining: [u8; KEY_LEN],
    nonce: u16,
}

#[cfg(feature = "zeroize")]
impl<A> Drop for Cipher<A> {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.key.zeroize();
        self.chaining.zeroize();
    }
}

impl<A: Aead> Cipher<A> {
    fn new(suite: Suite, key: &[u8; KEY_LEN], chaining: &[u8; KEY_LEN]) -> Self {
        Self { suite, aead: A::of_suite(suite, key), key: *key, chaining: *chaining, nonce: 0 }
    }

    fn seal(&mut self, buf: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        self.aead.seal(self.nonce.into(), &[], buf, tag);
        self.count_use();
    }

    fn open(&mut self, buf: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), Forged> {
        self.aead.open(self.nonce.into(), &[], buf, tag)?;
        self.count_use();
        Ok(())
    }

    /// BOLT 8, "Lightning Message Key Rotation".
    fn count_use(&mut self) {
        self.nonce += 1;
        if self.nonce == USES_OF_A_KEY {
            (self.chaining, self.key) = hkdf_two(&self.chaining, &self.key);
            self.aead = A::of_suite(self.suite, &self.key);
            self.nonce = 0;
        }
    }
}

impl<A> fmt::Debug for Sender<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("nonce", &self.0.nonce).finish_non_exhaustive()
    }
}

impl<A> fmt::Debug for Receiver<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("nonce", &self.cipher.nonce)
            .field("pending", &self.pending)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::aead::RustCrypto, *};
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    fn halves(max_body: u16) -> (Sender<RustCrypto>, Receiver<RustCrypto>) {
        let secrets = Secrets { sending: [1; 32], receiving: [1; 32], chaining: [2; 32] };
        let suite = Suite::default();
        (Sender::new(suite, &secrets), Receiver::new(suite, &secrets, max_body))
    }

    fn seal(sender: &mut Sender<RustCrypto>, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; body.len() + FRAME_OVERHEAD];
        frame[HEADER_LEN..][..body.len()].copy_from_slice(body);
        sender.seal_frame(&mut frame).unwrap();
        frame
    }

    #[test]
    fn bounds_of_a_frame() {
        let (mut sender, mut receiver) = halves(u16::MAX);
        for len in [0, 33, FRAME_OVERHEAD + MAX_BODY + 1] {
            assert_eq!(sender.seal_frame(&mut vec![0; len]), Err(BadFrameBuffer(len)));
        }
        for len in [0, 1, MAX_BODY] {
            let mut frame = seal(&mut sender, &vec![7; len]);
            let whole = frame.len();
            assert_eq!(receiver.open_frame(&mut frame[..whole - 1]), Ok(None));
            assert_eq!(receiver.needs(), whole);
            let opened = receiver.open_frame(&mut frame).unwrap().unwrap();
            assert_eq!((opened.consumed, &frame[opened.body]), (whole, &vec![7; len][..]));
        }
    }

    #[test]
    fn a_frame_longer_than_we_take_ends_the_link() {
        let (mut sender, mut receiver) = halves(100);
        let mut fits = seal(&mut sender, &[0; 100]);
        assert!(receiver.open_frame(&mut fits).unwrap().is_some());
        let mut long = seal(&mut sender, &[0; 101]);
        let error = TransportError::FrameTooLong { len: 101, max: 100 };
        // Refused at its header: nobody waits for a body that will not be taken.
        assert_eq!(receiver.open_frame(&mut long[..HEADER_LEN]), Err(error));
        let mut fits = seal(&mut sender, &[0; 100]);
        assert_eq!(receiver.open_frame(&mut fits), Err(error));
    }

    #[test]
    fn a_replayed_or_dropped_frame_is_forged() {
        let (mut sender, mut receiver) = halves(100);
        let first = seal(&mut sender, b"first");
        let _lost = seal(&mut sender, b"second");
        let mut third = seal(&mut sender, b"third");
        let mut other = receiver.clone();
        assert_eq!(other.open_frame(&mut third), Err(TransportError::ForgedLength));
        assert!(receiver.open_frame(&mut first.clone()).unwrap().is_some());
        let replayed = receiver.open_frame(&mut first.clone());
        assert_eq!(replayed, Err(TransportError::ForgedLength));
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_bodies(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
            cuts in prop::collection::vec(1usize..120, 1..20),
        ) {
            let (mut sender, mut receiver) = halves(200);
            let stream: Vec<u8> = bodies.iter().flat_map(|b| seal(&mut sender, b)).collect();
            let (mut buf, mut start, mut got) = (Vec::new(), 0, Vec::new());
            let (mut sent, mut cuts) = (0, cuts.iter().cycle());
            while sent < stream.len() {
                let end = stream.len().min(sent + cuts.next().unwrap());
                buf.extend(&stream[sent..end]);
                sent = end;
                while let Some(frame) = receiver.open_frame(&mut buf[start..]).unwrap() {
                    got.push(buf[start..][frame.body].to_vec());
                    start += frame.consumed;
                }
                prop_assert!(buf.len() - start < receiver.needs());
            }
            prop_assert_eq!(got, bodies);
            prop_assert_eq!(start, stream.len());
        }

        #[test]
        fn any_flipped_bit_is_an_error(
            body in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let (mut sender, mut receiver) = halves(u16::MAX);
            let mut frame = seal(&mut sender, &body);
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            let forged = if at < HEADER_LEN {
                TransportError::ForgedLength
            } else {
                TransportError::ForgedBody
            };
            prop_assert_eq!(receiver.open_frame(&mut frame), Err(forged));
        }

        #[test]
        fn arbitrary_bytes_are_never_a_frame(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let (_, mut receiver) = halves(u16::MAX);
            let enough = bytes.len() >= HEADER_LEN;
            let expected = if enough { Err(TransportError::ForgedLength) } else { Ok(None) };
            prop_assert_eq!(receiver.open_frame(&mut bytes), expected);
        }
    }
}
