//! The frames of the handshake, and what both sides say beside its acts.
//!
//! | act | bytes | fields |
//! |---|---|---|
//! | one | 59 | 0x81 (1), terms of the initiator (8), act (50) |
//! | two | 60 | 0x82 (1), session at the initiator (1), terms of the responder (8), act (50) |
//! | three | 68 | 0x83 (1), session at the responder (1), act (66) |
//!
//! Terms are the version, 1 (1), the sender's number for the session, 0 to 127 (1), the
//! largest frame that it takes (2) and the largest packet that it takes (4). They are
//! bound to the handshake behind the words `blvm-mesh/datagram`, so that whoever alters
//! them makes it fail.

use super::Ignored;
use crate::link::handshake::{ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN};

/// Bytes of the frame of Act One.
pub const ONE_LEN: usize = 1 + TERMS_LEN + ACT_ONE_LEN;
/// Bytes of the frame of Act Two.
pub const TWO_LEN: usize = 2 + TERMS_LEN + ACT_TWO_LEN;
/// Bytes of the frame of Act Three.
pub const THREE_LEN: usize = 2 + ACT_THREE_LEN;
/// Smallest frame that a link can work with, in bytes.
pub const MIN_FRAME: u16 = 96;

/// First byte of Act One.
pub const ONE: u8 = 0x81;
/// First byte of Act Two.
pub const TWO: u8 = 0x82;
/// First byte of Act Three.
pub const THREE: u8 = 0x83;

const TERMS_LEN: usize = 8;
const VERSION: u8 = 1;
const WORDS: &[u8; 18] = b"blvm-mesh/datagram";

/// Numbers of sessions have 7 bits.
pub const SESSIONS: u8 = 0x7f;

/// What a side takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Its number for the session, which begins the frames to it.
    pub session: u8,
    /// Largest frame, in bytes.
    pub frame: u16,
    /// Largest packet, in bytes.
    pub max_packet: u32,
}

impl Terms {
    /// What the handshake binds.
    pub fn said(&self) -> [u8; WORDS.len() + TERMS_LEN] {
        let mut said = [0; WORDS.len() + TERMS_LEN];
        let (words, terms) = said.split_at_mut(WORDS.len());
        words.copy_from_slice(WORDS);
        terms.copy_from_slice(&self.bytes());
        said
    }

    fn bytes(&self) -> [u8; TERMS_LEN] {
        let ([a, b], [c, d, e, f]) = (self.frame.to_le_bytes(), self.max_packet.to_le_bytes());
        [VERSION, self.session, a, b, c, d, e, f]
    }

    fn parse(bytes: &[u8; TERMS_LEN]) -> Result<Self, Ignored> {
        let [version, session, a, b, c, d, e, f] = *bytes;
        if version != VERSION {
            return Err(Ignored::Version(version));
        }
        let (frame, max_packet) = (u16::from_le_bytes([a, b]), u32::from_le_bytes([c, d, e, f]));
        if session > SESSIONS || frame < MIN_FRAME {
            return Err(Ignored::Terms);
        }
        Ok(Self { session, frame, max_packet })
    }
}

/// A frame of the handshake.
#[derive(Debug, PartialEq, Eq)]
pub enum ActFrame<'f> {
    /// Act One with the initiator's terms.
    One(Terms, &'f [u8; ACT_ONE_LEN]),
    /// Act Two for that session of the initiator, with the responder's terms.
    Two(u8, Terms, &'f [u8; ACT_TWO_LEN]),
    /// Act Three for that session of the responder.
    Three(u8, &'f [u8; ACT_THREE_LEN]),
}

impl<'f> ActFrame<'f> {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`Ignored::NotAFrame`], [`Ignored::Version`], [`Ignored::Terms`].
    pub fn parse(frame: &'f [u8]) -> Result<Self, Ignored> {
        match *frame {
            [ONE, ref rest @ ..] if frame.len() == ONE_LEN => {
                let (terms, act) = rest.split_first_chunk().ok_or(Ignored::NotAFrame)?;
                let act = act.first_chunk().ok_or(Ignored::NotAFrame)?;
                Ok(Self::One(Terms::parse(terms)?, act))
            }
            [TWO, session, ref rest @ ..] if frame.len() == TWO_LEN => {
                let (terms, act) = rest.split_first_chunk().ok_or(Ignored::NotAFrame)?;
                let act = act.first_chunk().ok_or(Ignored::NotAFrame)?;
                Ok(Self::Two(session, Terms::parse(terms)?, act))
            }
            [THREE, session, ref act @ ..] if frame.len() == THREE_LEN => {
                Ok(Self::Three(session, act.first_chunk().ok_or(Ignored::NotAFrame)?))
            }
            _ => Err(Ignored::NotAFrame),
        }
    }

    /// Writes it to the front of `out`; returns its length, `None` if there is no room.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        let mut put = |bytes: &[u8]| -> Option<()> {
            out.get_mut(len..len + bytes.len())?.copy_from_slice(bytes);
            len += bytes.len();
            Some(())
        };
        match self {
            Self::One(terms, act) => {
                put(&[ONE])?;
                put(&terms.bytes())?;
                put(*act)?;
            }
            Self::Two(session, terms, act) => {
                put(&[TWO, *session])?;
                put(&terms.bytes())?;
                put(*act)?;
            }
            Self::Three(session, act) => {
                put(&[THREE, *session])?;
                put(*act)?;
            }
        }
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};

    const TERMS: Terms = Terms { session: 5, frame: 255, max_packet: 0x01020304 };

    #[test]
    fn frames_are_read_as_written() {
        let mut out = [0; 100];
        let frames = [
            (ActFrame::One(TERMS, &[7; 50]), ONE_LEN),
            (ActFrame::Two(9, TERMS, &[7; 50]), TWO_LEN),
            (ActFrame::Three(9, &[7; 66]), THREE_LEN),
        ];
        for (frame, len) in frames {
            assert_eq!(frame.write(&mut out), Some(len));
            assert_eq!(ActFrame::parse(&out[..len]), Ok(frame));
            assert_eq!(ActFrame::parse(&out[..len - 1]), Err(Ignored::NotAFrame));
            assert_eq!(ActFrame::parse(&out[..len + 1]), Err(Ignored::NotAFrame));
        }
        assert_eq!(ActFrame::One(TERMS, &[7; 50]).write(&mut out), Some(ONE_LEN));
        assert_eq!(out[..10], [0x81, 1, 5, 255, 0, 4, 3, 2, 1, 7]);
        for (at, byte, error) in
            [(1, 2, Ignored::Version(2)), (2, 128, Ignored::Terms), (3, 95, Ignored::Terms)]
        {
            let mut bad = out;
            bad[at] = byte;
            assert_eq!(ActFrame::parse(&bad[..ONE_LEN]), Err(error));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(first in 0x81u8..0x84, rest in any_vec(any::<u8>(), 55..70)) {
            let frame = [&[first][..], &rest].concat();
            if let Ok(act) = ActFrame::parse(&frame) {
                let mut out = [0; 80];
                let len = act.write(&mut out).unwrap();
                prop_assert_eq!(&out[..len], &frame[..]);
            }
        }
    }
}
