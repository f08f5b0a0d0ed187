//! The 24 bytes that begin every packet, in the shape of a Bitcoin message header.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `MESH` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | kind |
//! | 6 | 1 | flags of the kind |
//! | 7 | 1 | hop limit: links still to go after the receiver |
//! | 8 | 8 | sequence or flow number |
//! | 16 | 4 | length of what follows the header |
//! | 20 | 4 | check over everything else, [`super::checksum`] |

use super::{WireError, checksum};

/// Bytes of a header.
pub const HEADER_LEN: usize = 24;
/// First bytes of every packet.
pub const MAGIC: [u8; 4] = *b"MESH";
/// Version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

const HOP_LIMIT: usize = 7;
const CHECK: usize = 20;

/// Kinds of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(u8)]
pub enum Kind {
    /// Source-routed and self-contained.
    Datagram = 1,
    /// Asks for a route to a destination.
    RouteRequest = 2,
    /// The collected route, signed by the destination.
    RouteReply = 3,
    /// A hop that is gone, or a packet that was refused.
    RouteError = 4,
    /// Opens a flow.
    Open = 5,
    /// Carries sealed data on a flow.
    Data = 6,
    /// Acknowledges data of a flow that is not sealed. Reserved.
    Ack = 7,
    /// Closes a flow.
    Close = 8,
    /// What a neighbour is and takes.
    Hello = 9,
    /// Says that the sender is there, where it has nothing else to say.
    KeepAlive = 10,
    /// The destination's answer to an Open.
    Opened = 11,
    /// Says why a flow does not go on.
    FlowError = 12,
}

impl Kind {
    /// The kind with this number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Datagram,
            2 => Self::RouteRequest,
            3 => Self::RouteReply,
            4 => Self::RouteError,
            5 => Self::Open,
            6 => Self::Data,
            7 => Self::Ack,
            8 => Self::Close,
            9 => Self::Hello,
            10 => Self::KeepAlive,
            11 => Self::Opened,
            12 => Self::FlowError,
            _ => return None,
        })
    }

    /// The name that users and programs are given.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Datagram => "Datagram",
            Self::RouteRequest => "RouteRequest",
            Self::RouteReply => "RouteReply",
            Self::RouteError => "RouteError",
            Self::Open => "Open",
            Self::Data => "Data",
            Self::Ack => "Ack",
            Self::Close => "Close",
            Self::Hello => "Hello",
            Self::KeepAlive => "KeepAlive",
            Self::Opened => "Opened",
            Self::FlowError => "FlowError",
        }
    }
}

/// The fields of a header that are not derived from the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Kind of the packet.
    pub kind: Kind,
    /// Flags of that kind; unknown ones are refused.
    pub flags: u8,
    /// Links still to go after the receiver (0: the receiver is the last).
    pub hop_limit: u8,
    /// Sequence number of the source, or a flow number.
    pub sequence: u64,
}

impl Header {
    /// Checks a whole packet (magic, version, kind, length, check) and returns
    /// its header and body.
    ///
    /// # Errors
    /// [`WireError`]: the first field that is wrong.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (head, body) = packet
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(WireError::Truncated { have: packet.len(), need: HEADER_LEN })?;
        let [m0, m1, m2, m3, version, kind, flags, hop_limit, rest @ ..] = head;
        let [s0, s1, s2, s3, s4, s5, s6, s7, l0, l1, l2, l3, c0, c1, c2, c3] = rest;
        if [*m0, *m1, *m2, *m3] != MAGIC {
            return Err(WireError::Magic);
        }
        if *version != VERSION {
            return Err(WireError::Version(*version));
        }
        let kind = Kind::from_u8(*kind).ok_or(WireError::Kind(*kind))?;
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
        if usize::try_from(length) != Ok(body.len()) {
            return Err(WireError::Length { says: length, have: body.len() });
        }
        if !checksum::holds(packet, u32::from_le_bytes([*c0, *c1, *c2, *c3])) {
            return Err(WireError::Checksum);
        }
        let sequence = u64::from_le_bytes([*s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7]);
        Ok((Self { kind, flags: *flags, hop_limit: *hop_limit, sequence }, body))
    }

    /// The header as bytes, with a check of zero.
    pub fn bytes(&self, length: u32) -> [u8; HEADER_LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.sequence.to_le_bytes();
        let [l0, l1, l2, l3] = length.to_le_bytes();
        [
            m0,
            m1,
            m2,
            m3,
            VERSION,
            self.kind as u8,
            self.flags,
            self.hop_limit,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            l0,
            l1,
            l2,
            l3,
            0,
            0,
            0,
            0,
        ]
    }

    /// The header as a signature covers it: hop limit and check are zero.
    pub fn signed_bytes(&self, length: u32) -> [u8; HEADER_LEN] {
        Self { hop_limit: 0, ..*self }.bytes(length)
    }

    /// Refuses what a packet that crosses one link has no use for: a hop limit, a number.
    pub(crate) fn is_for_one_link(&self) -> Result<(), WireError> {
        match (self.hop_limit, self.sequence) {
            (0, 0) => Ok(()),
            (0, _) => Err(WireError::Field("sequence")),
            _ => Err(WireError::Field("hop limit")),
        }
    }

    pub(super) fn set_check(head: &mut [u8; HEADER_LEN], check: u32) {
        if let Some(field) = head.last_chunk_mut::<4>() {
            *field = check.to_le_bytes();
        }
    }
}

/// Lowers the hop limit of a checked packet by one and corrects the check.
/// Returns `false`, changing nothing, if it is zero or there is no header.
pub fn lower_hop_limit(packet: &mut [u8]) -> bool {
    let Some(head) = packet.first_chunk_mut::<HEADER_LEN>() else { return false };
    let [_, _, _, _, v, k, f, limit, _, _, _, _, _, _, _, _, _, _, _, _, c @ ..] = *head;
    let Some(lower) = limit.checked_sub(1) else { return false };
    let (old, new) = (u32::from_le_bytes([v, k, f, limit]), u32::from_le_bytes([v, k, f, lower]));
    let check = checksum::update(u32::from_le_bytes(c), old, new);
    if let Some(field) = head.get_mut(HOP_LIMIT) {
        *field = lower;
    }
    Header::set_check(head, check);
    true
}

/// Whether magic, length and check of a packet in three parts are what [`complete`]
/// works out.
pub fn is_complete(head: &[u8; HEADER_LEN], body: &[u8], tail: &[u8]) -> bool {
    let mut completed = *head;
    write_known(&mut completed, body, tail) && completed == *head
}

/// Works out magic, length and check of a packet whose other bytes are there.
/// Returns `false`, changing nothing, if it is too short or too long.
pub fn complete(packet: &mut [u8]) -> bool {
    let Some((head, body)) = packet.split_first_chunk_mut() else { return false };
    write_known(head, body, &[])
}

fn write_known(head: &mut [u8; HEADER_LEN], body: &[u8], tail: &[u8]) -> bool {
    let length = body.len().checked_add(tail.len()).and_then(|n| u32::try_from(n).ok());
    let Some(length) = length else { return false };
    for (range, bytes) in [(0..4, MAGIC), (16..CHECK, length.to_le_bytes())] {
        if let Some(field) = head.get_mut(range) {
            field.copy_from_slice(&bytes);
        }
    }
    Header::set_check(head, 0);
    let mut sum = checksum::Sum::default();
    sum.add(head);
    sum.add(body);
    sum.add(tail);
    Header::set_check(head, sum.check());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn packet(header: Header, body: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN + body.len()];
        let mut w = Writer::new(&mut out);
        w.put(body);
        w.finish(header, &[]).unwrap();
        out
    }

    proptest! {
        #[test]
        fn round_trip(kind in 1u8..=12, flags: u8, hop_limit: u8, sequence: u64, body in prop::collection::vec(any::<u8>(), 0..100)) {
            let h = Header { kind: Kind::from_u8(kind).unwrap(), flags, hop_limit, sequence };
            let mut p = packet(h, &body);
            prop_assert_eq!(Header::parse(&p), Ok((h, &body[..])));
            let lowered = lower_hop_limit(&mut p);
            prop_assert_eq!(lowered, hop_limit > 0);
            let h = Header { hop_limit: hop_limit.saturating_sub(1), ..h };
            prop_assert_eq!(&p, &packet(h, &body));
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Header::parse(&bytes);
        }

        #[test]
        fn any_flipped_bit_is_refused(body in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let h = Header { kind: Kind::Datagram, flags: 0, hop_limit: 3, sequence: 9 };
            let mut p = packet(h, &body);
            let i = at.index(p.len());
            p[i] ^= 1 << bit;
            prop_assert!(Header::parse(&p).is_err());
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let h = Header { kind: Kind::Hello, flags: 0, hop_limit: 0, sequence: 0 };
        let good = packet(h, b"abc");
        assert_eq!(Header::parse(&good[..23]), Err(WireError::Truncated { have: 23, need: 24 }));
        let with = |i: usize, b: u8| {
            let mut p = good.clone();
            p[i] = b;
            Header::parse(&p).unwrap_err()
        };
        assert_eq!(with(0, b'm'), WireError::Magic);
        assert_eq!(with(4, 2), WireError::Version(2));
        assert_eq!(with(5, 77), WireError::Kind(77));
        assert_eq!(with(16, 4), WireError::Length { says: 4, have: 3 });
        assert_eq!(with(24, b'b'), WireError::Checksum);
    }
}
