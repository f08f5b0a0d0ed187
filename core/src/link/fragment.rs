//! Records inside a frame's body: small packets share a frame, large ones are
//! split over several.
//!
//! A body is one or more records and nothing else. A record is a header of four
//! bytes and at least one byte of a packet:
//!
//! | byte | meaning |
//! |---|---|
//! | 0 | flags: bit 0, more fragments of this packet follow; bit 1, the paid lane; others 0 |
//! | 1 | reserved, 0 |
//! | 2, 3 | number of bytes that follow, little-endian, at least 1 |
//!
//! The records of one lane, in order, are the fragments of its packets, in order.
//! Each lane has one packet in assembly at most; the lanes interleave freely, so
//! that paid traffic need not wait for the end of a large free packet.

use super::lane::Lane;
use super::transport::{FRAME_OVERHEAD, HEADER_LEN};

/// Bytes of a record's header.
pub const RECORD_HEADER_LEN: usize = 4;

const MORE: u8 = 1 << 0;
const PAID: u8 = 1 << 1;

/// What the neighbour's frame holds is not acceptable: close the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum FragmentError {
    /// A frame without a record.
    #[error("a frame holds no record")]
    EmptyFrame,
    /// Flags that no version defines.
    #[error("a record has unknown flags: {0:#010b}")]
    UnknownFlags(u8),
    /// The reserved byte is in use.
    #[error("a record's reserved byte is {0}, not 0")]
    Reserved(u8),
    /// A record without bytes.
    #[error("a record is empty")]
    EmptyRecord,
    /// A record's header or bytes go beyond the frame.
    #[error("a record is longer than what is left of its frame")]
    Truncated,
    /// The packet is longer than this node takes, or its memory is used up.
    #[error("a packet is longer than {max} bytes, the most that this node accepts")]
    PacketTooLong {
        /// Bytes that are taken at most.
        max: usize,
    },
    /// The last fragment did not come in time.
    #[error("a packet was not complete in time on the {0:?} lane")]
    Overdue(Lane),
}

/// Fills one frame with records, in a buffer that the caller lends.
#[derive(Debug)]
pub struct FrameBuilder<'b> {
    /// The body's bytes, all of them room.
    body: &'b mut [u8],
    len: usize,
}

impl<'b> FrameBuilder<'b> {
    /// Begins a frame with a body of at most `max_body` bytes, which is what the
    /// neighbour takes, in a buffer of any size. A smaller buffer makes a smaller
    /// frame; on a slow link that is what lets paid packets pass soon.
    ///
    /// `None` if there is no room for a record of one byte.
    pub fn new(buf: &'b mut [u8], max_body: u16) -> Option<Self> {
        let capacity = buf.len().checked_sub(FRAME_OVERHEAD)?.min(max_body.into());
        let body = buf.get_mut(HEADER_LEN..)?.get_mut(..capacity)?;
        (capacity > RECORD_HEADER_LEN).then_some(Self { body, len: 0 })
    }

    /// Whether no record has been written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes of a packet the next record can hold.
    pub fn room(&self) -> usize {
        self.body.len().saturating_sub(self.len + RECORD_HEADER_LEN)
    }

    /// The length of the frame, to be given to
    /// [`Sender::seal_frame`](super::transport::Sender::seal_frame) as
    /// `&mut buf[..length]`. An empty frame must not be sent.
    pub fn finish(self) -> usize {
        self.len + FRAME_OVERHEAD
    }

    /// Writes a record; `bytes` must not be longer than the room.
    fn write(&mut self, flags: u8, bytes: &[u8]) -> Option<()> {
        let len = u16::try_from(bytes.len()).ok()?.to_le_bytes();
        let (header, rest) = self.body.get_mut(self.len..)?.split_first_chunk_mut()?;
        rest.get_mut(..bytes.len())?.copy_from_slice(bytes);
        *header = [flags, 0, len[0], len[1]];
        self.len += RECORD_HEADER_LEN + bytes.len();
        Some(())
    }
}

/// Splits the packets of a link's two queues over its frames. It remembers how far
/// the packet at the head of each queue has been written.
#[derive(Debug, Clone, Default)]
pub struct Splitter {
    sent: [usize; 2],
}

/// What [`Splitter::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The packet is wholly written: take the next one of its lane.
    Done,
    /// The frame takes no more of it: seal the frame, then put the same packet
    /// into another one. Packets of the other lane may go between.
    FrameFull,
}

/// The caller's packet is empty, or not the one that was begun: nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[error("a packet must not be empty, nor be exchanged before it is wholly written")]
pub struct BadPacket;

impl Splitter {
    /// Nothing is begun.
    pub const NEW: Self = Self { sent: [0; 2] };

    /// Writes what fits of the packet at the head of a lane's queue. A packet that
    /// would fit into a frame of its own is not split, so that the receiver need
    /// not copy it. An empty frame always takes something.
    ///
    /// A packet that was begun must be finished: the other side is assembling it.
    ///
    /// # Errors
    /// [`BadPacket`].
    pub fn put(
        &mut self,
        frame: &mut FrameBuilder<'_>,
        lane: Lane,
        packet: &[u8],
    ) -> Result<Put, BadPacket> {
        let [free, paid] = &mut self.sent;
        let (sent, lane) = match lane {
            Lane::Free => (free, 0),
            Lane::Paid => (paid, PAID),
        };
        let left = packet.get(*sent..).filter(|left| !left.is_empty()).ok_or(BadPacket)?;
        let room = frame.room();
        if left.len() <= room {
            frame.write(lane, left).ok_or(BadPacket)?;
            *sent = 0;
            return Ok(Put::Done);
        }
        let fits_alone = packet.len() + RECORD_HEADER_LEN <= frame.body.len();
        if let (Some(part), false) = (left.get(..room).filter(|p| !p.is_empty()), fits_alone) {
            frame.write(lane | MORE, part).ok_or(BadPacket)?;
            *sent += room;
        }
        Ok(Put::FrameFull)
    }

    /// How many bytes of the packet at the head of a lane's queue are written.
    pub fn begun(&self, lane: Lane) -> usize {
        let [free, paid] = self.sent;
        match lane {
            Lane::Free => free,
            Lane::Paid => paid,
        }
    }
}

/// The first record of a body.
pub(super) struct Record<'b> {
    pub(super) lane: Lane,
    /// Whether another fragment of the same packet follows.
    pub(super) more: bool,
    pub(super) bytes: &'b mut [u8],
    /// What follows in the body.
    pub(super) rest: &'b mut [u8],
}

impl<'b> Record<'b> {
    /// Reads the record that a body that is not empty begins with.
    pub(super) fn parse(body: &'b mut [u8]) -> Result<Self, FragmentError> {
        let (&mut [flags, reserved, low, high], rest) =
            body.split_first_chunk_mut::<RECORD_HEADER_LEN>().ok_or(FragmentError::Truncated)?;
        if flags & !(MORE | PAID) != 0 {
            return Err(FragmentError::UnknownFlags(flags));
        }
        if reserved != 0 {
            return Err(FragmentError::Reserved(reserved));
        }
        let len = usize::from(u16::from_le_bytes([low, high]));
        if len == 0 {
            return Err(FragmentError::EmptyRecord);
        }
        let (bytes, rest) = rest.split_at_mut_checked(len).ok_or(FragmentError::Truncated)?;
        let lane = if flags & PAID == 0 { Lane::Free } else { Lane::Paid };
        Ok(Self { lane, more: flags & MORE != 0, bytes, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::transport::MAX_BODY, *};
    use std::vec;

    fn body(buf: &[u8], whole: usize) -> &[u8] {
        &buf[HEADER_LEN..whole - FRAME_OVERHEAD + HEADER_LEN]
    }

    #[test]
    fn small_packets_share_a_frame() {
        let (mut buf, mut splitter) = ([0xee; 100], Splitter::default());
        let mut frame = FrameBuilder::new(&mut buf, u16::MAX).unwrap();
        assert!(frame.is_empty());
        assert_eq!(splitter.put(&mut frame, Lane::Paid, b"abc"), Ok(Put::Done));
        assert_eq!(splitter.put(&mut frame, Lane::Free, b"z"), Ok(Put::Done));
        assert!(!frame.is_empty());
        let whole = frame.finish();
        assert_eq!(body(&buf, whole), [2, 0, 3, 0, b'a', b'b', b'c', 0, 0, 1, 0, b'z']);
    }

    #[test]
    fn a_large_packet_is_split_and_a_paid_one_passes_between() {
        let (mut buf, mut splitter) = ([0; 34 + 10], Splitter::default());
        let mut put = |max_body, lane, packet: &[u8]| {
            let mut frame = FrameBuilder::new(&mut buf, max_body).unwrap();
            let put = splitter.put(&mut frame, lane, packet).unwrap();
            let whole = frame.finish();
            (put, body(&buf, whole).to_vec(), splitter.begun(lane))
        };
        let large = b"0123456789";
        assert_eq!(
            put(99, Lane::Free, large),
            (Put::FrameFull, b"\x01\0\x06\x00012345".to_vec(), 6)
        );
        assert_eq!(put(99, Lane::Paid, b"paid"), (Put::Done, b"\x02\0\x04\0paid".to_vec(), 0));
        assert_eq!(put(7, Lane::Free, large), (Put::FrameFull, b"\x01\0\x03\x00678".to_vec(), 9));
        assert_eq!(put(99, Lane::Free, large), (Put::Done, b"\x00\0\x01\x009".to_vec(), 0));
    }

    #[test]
    fn a_packet_that_fits_alone_is_not_split() {
        let (mut buf, mut splitter) = ([0; 34 + 20], Splitter::default());
        let mut frame = FrameBuilder::new(&mut buf, u16::MAX).unwrap();
        splitter.put(&mut frame, Lane::Free, b"first").unwrap();
        assert_eq!(frame.room(), 7);
        assert_eq!(splitter.put(&mut frame, Lane::Free, &[1; 16]), Ok(Put::FrameFull));
        assert_eq!((splitter.begun(Lane::Free), frame.room()), (0, 7));
        // One byte more does not fit alone, and then uses all the room there is.
        assert_eq!(splitter.put(&mut frame, Lane::Free, &[1; 17]), Ok(Put::FrameFull));
        assert_eq!((splitter.begun(Lane::Free), frame.room()), (7, 0));
        assert_eq!(splitter.put(&mut frame, Lane::Paid, b"x"), Ok(Put::FrameFull));
    }

    #[test]
    fn misuse_is_refused() {
        let mut splitter = Splitter::default();
        assert!(FrameBuilder::new(&mut [0; 38], u16::MAX).is_none());
        assert!(FrameBuilder::new(&mut [0; 99], 4).is_none());
        let mut buf = [0; 39];
        let mut frame = FrameBuilder::new(&mut buf, u16::MAX).unwrap();
        assert_eq!(splitter.put(&mut frame, Lane::Free, b""), Err(BadPacket));
        assert_eq!(splitter.put(&mut frame, Lane::Free, b"ab"), Ok(Put::FrameFull));
        assert_eq!(splitter.put(&mut frame, Lane::Free, b"a"), Err(BadPacket));
    }

    #[test]
    fn a_frame_holds_the_largest_body() {
        let mut buf = vec![0; 70_000];
        let mut frame = FrameBuilder::new(&mut buf, u16::MAX).unwrap();
        assert_eq!(frame.room(), 65_531);
        let packet = vec![5; 65_531];
        assert_eq!(Splitter::default().put(&mut frame, Lane::Free, &packet), Ok(Put::Done));
        assert_eq!(frame.finish(), FRAME_OVERHEAD + MAX_BODY);
    }

    #[test]
    fn each_defect_of_a_record_has_its_error() {
        let parse = |bytes: &[u8]| {
            Record::parse(&mut bytes.to_vec())
                .map(|r| (r.lane, r.more, r.bytes.len(), r.rest.len()))
        };
        assert_eq!(parse(&[3, 0, 2, 0, 1, 1, 9]), Ok((Lane::Paid, true, 2, 1)));
        assert_eq!(parse(&[0, 0, 1]), Err(FragmentError::Truncated));
        assert_eq!(parse(&[0, 0, 3, 0, 1, 1]), Err(FragmentError::Truncated));
        assert_eq!(parse(&[0, 0, 1, 1, 1]), Err(FragmentError::Truncated));
        assert_eq!(parse(&[4, 0, 1, 0, 1]), Err(FragmentError::UnknownFlags(4)));
        assert_eq!(parse(&[0, 1, 1, 0, 1]), Err(FragmentError::Reserved(1)));
        assert_eq!(parse(&[0, 0, 0, 0, 1]), Err(FragmentError::EmptyRecord));
    }
}
