//! What is inside a sealed packet: frames, one behind the other, up to its end.
//!
//! A frame begins with its kind. Numbers are Bitcoin Core's VARINT (serialize.h), here of up to
//! 64 bits; `docs/PROTOCOL.md` shows the bytes.

pub use super::writer::{Writer, number_len, stream_header_len};

use super::reason::Violation;
use crate::time::Micros;

/// Bytes of an offset: a stream's bytes are counted modulo 2^24.
pub const OFFSET_LEN: usize = 3;
/// Bytes of the length of a stream's piece.
pub const LENGTH_LEN: usize = 2;
/// Streams below this number have it in the kind of the frame.
pub const SHORT_STREAMS: u32 = 31;
/// Unit of the times in frames, in microseconds.
pub const TIME_UNIT: Micros = 64;

pub(super) const STREAM: u8 = 0x80;
pub(super) const FIN: u8 = 0x40;
pub(super) const LENGTH: u8 = 0x20;
pub(super) const ID: u8 = 0x1f;

pub(super) const ACK: u8 = 1;
pub(super) const PING: u8 = 2;
pub(super) const CREDIT: u8 = 3;
pub(super) const ACK_FREQUENCY: u8 = 4;
pub(super) const MAX_STREAMS: u8 = 5;
pub(super) const MAX_STREAM_DATA: u8 = 6;
pub(super) const RESET_STREAM: u8 = 7;
pub(super) const STOP_SENDING: u8 = 8;
pub(super) const CLOSE: u8 = 9;

/// A frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'p> {
    /// A piece of a stream.
    Stream {
        /// Number of the stream.
        id: u32,
        /// Lowest 24 bits of where the piece begins.
        offset: u32,
        /// The stream ends behind it.
        fin: bool,
        /// Its bytes.
        data: &'p [u8],
    },
    /// Packets that came in.
    Ack {
        /// How long the newest of them waited for this frame.
        delay: Micros,
        /// Their numbers.
        ranges: Ranges<'p>,
    },
    /// Asks for an acknowledgement.
    Ping,
    /// From the source: bytes that the destination may send in all. From the destination: bytes
    /// that it has sent in all.
    Credit(u64),
    /// How soon to acknowledge.
    AckFrequency {
        /// After so many packets.
        packets: u64,
        /// After this time at the latest.
        delay: Micros,
    },
    /// Streams that the peer may open in all.
    MaxStreams(u32),
    /// Where a stream must end at the latest.
    MaxStreamData {
        /// Number of the stream.
        id: u32,
        /// Bytes from its beginning.
        limit: u64,
    },
    /// The sender gives up a stream.
    ResetStream {
        /// Number of the stream.
        id: u32,
        /// The application's reason.
        code: u32,
        /// Bytes that were sent from its beginning.
        size: u64,
    },
    /// The receiver does not want the rest of a stream.
    StopSending {
        /// Number of the stream.
        id: u32,
        /// The application's reason.
        code: u32,
    },
    /// The flow ends.
    Close {
        /// 0: by the application; else the number of a [`Violation`].
        cause: u32,
        /// The application's reason.
        code: u32,
    },
}

/// Numbers of packets that came in, from the newest range to the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges<'p> {
    /// First and last of the range that comes next.
    next: Option<(u64, u64)>,
    /// Those behind it.
    left: u64,
    rest: Reader<'p>,
}

impl Ranges<'_> {
    /// The newest packet.
    pub fn largest(&self) -> Option<u64> {
        self.next.map(|(_, last)| last)
    }

    /// The range below the one that begins with `first`.
    fn below(&mut self, first: u64) -> Option<(u64, u64)> {
        let (gap, more) = (self.rest.number()?, self.rest.number()?);
        let last = first.checked_sub(gap.checked_add(2)?)?;
        Some((last.checked_sub(more)?, last))
    }
}

impl Iterator for Ranges<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let range = self.next?;
        self.next = match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                self.below(range.0)
            }
            None => None,
        };
        Some(range)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn take(&mut self, n: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A VARINT.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        loop {
            let byte = self.byte()?;
            number = number.checked_mul(0x80)? | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some(number);
            }
            number = number.checked_add(1)?;
        }
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn time(&mut self) -> Option<Micros> {
        self.number()?.checked_mul(TIME_UNIT)
    }

    fn stream(&mut self, kind: u8) -> Option<Frame<'p>> {
        let id = match u32::from(kind & ID) {
            SHORT_STREAMS => self.small().filter(|id| *id >= SHORT_STREAMS)?,
            id => id,
        };
        let [a, b, c] = *self.take(OFFSET_LEN)?.first_chunk()?;
        let len = match kind & LENGTH {
            0 => self.0.len(),
            _ => usize::from(u16::from_le_bytes(*self.take(LENGTH_LEN)?.first_chunk()?)),
        };
        let (offset, fin) = (u32::from_le_bytes([a, b, c, 0]), kind & FIN != 0);
        Some(Frame::Stream { id, offset, fin, data: self.take(len)? })
    }

    fn ack(&mut self) -> Option<Frame<'p>> {
        let (largest, delay) = (self.number()?, self.time()?);
        let first = largest.checked_sub(self.number()?)?;
        let left = self.number()?;
        let ranges = Ranges { next: Some((first, largest)), left, rest: *self };
        // All of them must be there.
        let mut walk = ranges;
        let mut first = first;
        for _ in 0..left {
            (first, _) = walk.below(first)?;
        }
        self.0 = walk.rest.0;
        Some(Frame::Ack { delay, ranges })
    }

    fn frame(&mut self, kind: u8) -> Option<Frame<'p>> {
        Some(match kind {
            STREAM.. => return self.stream(kind),
            ACK => return self.ack(),
            PING => Frame::Ping,
            CREDIT => Frame::Credit(self.number()?),
            ACK_FREQUENCY => Frame::AckFrequency { packets: self.number()?, delay: self.time()? },
            MAX_STREAMS => Frame::MaxStreams(self.small()?),
            MAX_STREAM_DATA => Frame::MaxStreamData { id: self.small()?, limit: self.number()? },
            RESET_STREAM => {
                let (id, code) = (self.small()?, self.small()?);
                Frame::ResetStream { id, code, size: self.number()? }
            }
            STOP_SENDING => Frame::StopSending { id: self.small()?, code: self.small()? },
            CLOSE => Frame::Close { cause: self.small()?, code: self.small()? },
            _ => return None,
        })
    }
}

/// The frames of a packet.
#[derive(Debug, Clone)]
pub struct Frames<'p>(Reader<'p>);

impl<'p> Frames<'p> {
    /// Of the bytes between number and tag.
    pub fn new(bytes: &'p [u8]) -> Self {
        Self(Reader(bytes))
    }
}

impl<'p> Iterator for Frames<'p> {
    type Item = Result<Frame<'p>, Violation>;

    /// Nothing comes behind a malformed frame.
    fn next(&mut self) -> Option<Self::Item> {
        let kind = self.0.byte()?;
        let frame = self.0.frame(kind).ok_or(Violation::Frame);
        if frame.is_err() {
            self.0.0 = &[];
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::vec::Vec;

    fn parsed(bytes: &[u8]) -> Result<Vec<Frame<'_>>, Violation> {
        Frames::new(bytes).collect()
    }

    fn any_frame() -> impl Strategy<Value = Frame<'static>> {
        let number = || (0u32..64, any::<u64>()).prop_map(|(shift, n)| n >> shift);
        let small = || number().prop_map(|n| n as u32);
        let time = || (0u64..1 << 50).prop_map(|n| n * TIME_UNIT);
        let data = prop::sample::select(std::vec![&b""[..], b"x", b"some bytes"]);
        prop_oneof![
            Just(Frame::Ping),
            number().prop_map(Frame::Credit),
            (number(), time()).prop_map(|(packets, delay)| Frame::AckFrequency { packets, delay }),
            small().prop_map(Frame::MaxStreams),
            (small(), number()).prop_map(|(id, limit)| Frame::MaxStreamData { id, limit }),
            (small(), small(), number()).prop_map(|(id, code, size)| Frame::ResetStream {
                id,
                code,
                size
            }),
            (small(), small()).prop_map(|(id, code)| Frame::StopSending { id, code }),
            (small(), small()).prop_map(|(cause, code)| Frame::Close { cause, code }),
            (small(), 0u32..1 << 24, any::<bool>(), data)
                .prop_map(|(id, offset, fin, data)| Frame::Stream { id, offset, fin, data }),
        ]
    }

    /// Ranges that do not touch, the newest first.
    fn any_ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
        (any_vec((2u64..300, 0u64..300), 1..40), 0u64..1 << 40).prop_map(|(steps, start)| {
            let mut at = start;
            let up = steps.into_iter().map(|(gap, len)| {
                let first = at + gap;
                at = first + len;
                (first, at)
            });
            let mut ranges: Vec<_> = up.collect();
            ranges.reverse();
            ranges
        })
    }

    #[test]
    fn a_piece_that_ends_a_packet_costs_four_bytes_and_a_longer_form_is_refused() {
        let mut out = [0; 9];
        let mut writer = Writer::new(&mut out);
        let room = writer.stream(30, 0xab_cdef, true, 5, false).unwrap();
        room.copy_from_slice(b"bytes");
        assert_eq!((writer.room(), &out), (0, b"\xde\xef\xcd\xabbytes"));
        let data = b"bytes";
        let frame = Frame::Stream { id: 30, offset: 0xab_cdef, fin: true, data };
        assert_eq!(parsed(&out), Ok(std::vec![frame]));
        // Stream 30 in the form of those from 31 up; a frame of no kind; one cut short.
        for bad in [&b"\x9f\x1e\0\0\0"[..], b"\x0a", b"\0", b"\x80\0\0", b"\xa0\0\0\0\x01\0"] {
            assert_eq!(parsed(bad), Err(Violation::Frame), "{bad:x?}");
        }
        assert_eq!(Writer::new(&mut [0; 8]).stream(1, 0, false, 5, false), None);
    }

    #[test]
    fn impossible_ranges_are_refused() {
        let parse = |bytes: &[u8]| parsed(bytes).is_ok();
        // Packets 5 to 3 and 1; then one below zero, by the gap or by the length.
        assert!(parse(&[1, 5, 0, 2, 1, 0, 0]));
        assert!(!parse(&[1, 5, 0, 6, 0]));
        assert!(!parse(&[1, 5, 0, 2, 1, 2, 0]));
        assert!(!parse(&[1, 5, 0, 2, 1, 0, 2]));
        // One range more than there is.
        assert!(!parse(&[1, 5, 0, 2, 2, 0, 0]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frames in any_vec(any_frame(), 0..9), cut in 0usize..200) {
            let mut out = [0; 400];
            let mut writer = Writer::new(&mut out);
            for frame in &frames {
                prop_assert!(writer.put(frame));
            }
            let len = writer.len();
            prop_assert_eq!(parsed(&out[..len]), Ok(frames.clone()));
            // In less room: whole frames, or nothing.
            let mut less = [0; 200];
            let mut writer = Writer::new(&mut less[..cut]);
            let fit = frames.iter().take_while(|frame| writer.put(frame)).count();
            let len = writer.len();
            prop_assert_eq!(parsed(&less[..len]), Ok(frames[..fit].to_vec()));
        }

        #[test]
        fn acknowledgements_are_read_as_far_as_they_fit(ranges in any_ranges(), room in 0usize..120) {
            let mut out = [0; 120];
            let mut writer = Writer::new(&mut out[..room]);
            let fits = writer.ack(100 * TIME_UNIT, ranges.iter().copied());
            let len = writer.len();
            let read = parsed(&out[..len]).unwrap();
            if !fits {
                prop_assert!(read.is_empty() && room < 20);
                return Ok(());
            }
            let [Frame::Ack { delay, ranges: told }] = read[..] else { panic!("{read:?}") };
            let told: Vec<_> = told.collect();
            prop_assert_eq!(delay, 100 * TIME_UNIT);
            prop_assert_eq!(&told[..], &ranges[..told.len()]);
            prop_assert!(told.len() == ranges.len() || room - len < 20);
        }

        #[test]
        fn any_bytes(bytes in any_vec(any::<u8>(), 0..200)) {
            let mut seen = 0;
            for frame in Frames::new(&bytes) {
                seen += 1;
                if let Ok(Frame::Ack { ranges, .. }) = frame {
                    let mut above = u64::MAX;
                    for (first, last) in ranges {
                        prop_assert!(first <= last && last < above || above == u64::MAX);
                        above = first;
                    }
                }
            }
            prop_assert!(seen <= bytes.len());
        }
    }
}
