//! Flows: what opens one, and the packets on it.
//!
//! An Open has the form of a datagram with a proof and without payload; in place of the proof
//! stand its terms:
//!
//! | size | terms of an Open |
//! |---|---|
//! | 16 | random bytes |
//! | 8 | Open number: higher than that of every earlier Open of the source |
//! | 8 | most bytes that the flow may draw from the source's account at a node |
//! | 4 | seconds without a packet after which the flow ends |
//! | 4 | largest packet of the route, header included, in bytes |
//! | 50 | act one of the handshake between source and destination |
//!
//! The header's number is the flow's: the first 8 bytes of [`number`]. Every other packet of the
//! flow has it in its header as well, and a hop limit as a datagram's: the number of links still
//! to go, to the destination or back to the source.
//!
//! | kind | body |
//! |---|---|
//! | Opened | act two, 50 bytes: from the destination to the source |
//! | Data | a sealed packet between both ends, 1 byte or more |
//! | Close | nothing |
//! | FlowError | reporter (8), cause (1): from a relay to the source |

use super::route_error::Cause;
use super::{HEADER_LEN, Header, Kind, Reader, WireError, Writer};
use crate::hash::tagged_parts;
use crate::id::{HopId, NodeId};

/// Bytes of an act of the handshake.
pub const ACT_LEN: usize = 50;
/// Bytes of the terms of an Open.
pub const TERMS_LEN: usize = 16 + 8 + 8 + 4 + 4 + ACT_LEN;
/// Fewest bytes that a packet counts for.
pub const MIN_METERED: u64 = 64;

/// What a packet of this length counts for on a flow, in bytes.
pub fn metered(packet_len: usize) -> u64 {
    (packet_len as u64).max(MIN_METERED)
}

/// The terms of an Open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTerms {
    /// Makes the flow's number one that nobody can choose.
    pub random: [u8; 16],
    /// Number of the Open.
    pub open_number: u64,
    /// Most bytes that the flow may draw from the source's account at a node.
    pub max_bytes: u64,
    /// Seconds without a packet after which the flow ends.
    pub idle_s: u32,
    /// Largest packet that the route carries, header included, in bytes.
    pub max_packet: u32,
    /// Act one of the handshake between both ends.
    pub act: [u8; ACT_LEN],
}

impl OpenTerms {
    /// Reads the terms from where a datagram has its proof.
    ///
    /// # Errors
    /// [`WireError`]: there are more or fewer bytes than that.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let terms = Self {
            random: *r.array()?,
            open_number: r.u64()?,
            max_bytes: r.u64()?,
            idle_s: r.u32()?,
            max_packet: r.u32()?,
            act: *r.array()?,
        };
        r.end()?;
        Ok(terms)
    }

    /// The terms as bytes.
    pub fn bytes(&self) -> [u8; TERMS_LEN] {
        let mut out = [0; TERMS_LEN];
        let numbers = [self.open_number, self.max_bytes].map(u64::to_le_bytes);
        let small = [self.idle_s, self.max_packet].map(u32::to_le_bytes);
        let numbers = numbers.as_flattened().iter().chain(small.as_flattened());
        let fields = self.random.iter().chain(numbers).chain(&self.act);
        out.iter_mut().zip(fields).for_each(|(out, field)| *out = *field);
        out
    }
}

/// The number of a flow: the first 8 bytes of a tagged hash (BIP 340) of its ends and the random
/// bytes of its first Open.
pub fn number(source: &NodeId, destination: &NodeId, random: &[u8; 16]) -> u64 {
    let parts = [&source.0, &destination.0, &random[..]];
    let [a, b, c, d, e, f, g, h, ..] = tagged_parts(b"blvm-mesh/flow", &parts);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A report about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowError {
    /// The node that reports.
    pub reporter: HopId,
    /// Why the flow does not go on there.
    pub cause: Cause,
}

impl FlowError {
    /// Reads a body whose header was checked.
    ///
    /// # Errors
    /// [`WireError`]: another kind of packet, or the first field that is wrong.
    pub fn parse(header: Header, body: &[u8]) -> Result<Self, WireError> {
        check(header, Kind::FlowError)?;
        let mut r = Reader::new(body);
        let reporter = HopId(*r.array()?);
        let cause = Cause::from_u8(r.u8()?).ok_or(WireError::Field("cause"))?;
        r.end()?;
        Ok(Self { reporter, cause })
    }

    /// Writes the packet into `out`; returns its length.
    ///
    /// # Errors
    /// [`WireError`]: `out` is too small.
    pub fn write(&self, flow: u64, hop_limit: u8, out: &mut [u8]) -> Result<usize, WireError> {
        let mut w = Writer::new(out);
        w.put(&self.reporter.0).put(&[self.cause as u8]);
        w.finish(Header { kind: Kind::FlowError, flags: 0, hop_limit, sequence: flow }, &[])
    }
}

/// Bytes of the packet of a [`FlowError`].
pub const FLOW_ERROR_LEN: usize = HEADER_LEN + 9;

/// Writes an Opened, Data or Close packet around its body; returns its length.
///
/// # Errors
/// [`WireError`]: `out` is too small.
pub fn write(
    kind: Kind,
    flow: u64,
    hop_limit: u8,
    body: &[u8],
    out: &mut [u8],
) -> Result<usize, WireError> {
    let mut w = Writer::new(out);
    w.put(body);
    w.finish(Header { kind, flags: 0, hop_limit, sequence: flow }, &[])
}

/// The same around a body of this length that stands where it belongs, behind room for the header.
///
/// # Errors
/// [`WireError`]: `out` is too small.
pub fn write_in_place(
    kind: Kind,
    flow: u64,
    hop_limit: u8,
    body: usize,
    out: &mut [u8],
) -> Result<usize, WireError> {
    let mut w = Writer::new(out);
    w.skip(body);
    w.finish(Header { kind, flags: 0, hop_limit, sequence: flow }, &[])
}

/// Checks the form of an Opened, Data or Close packet.
///
/// # Errors
/// [`WireError`]: the first field that is wrong.
pub fn check_body(header: Header, body: &[u8]) -> Result<(), WireError> {
    check(header, header.kind)?;
    let r = Reader::new(body);
    match header.kind {
        Kind::Opened => {
            let mut r = r;
            r.slice(ACT_LEN)?;
            r.end()
        }
        Kind::Data if body.is_empty() => {
            Err(WireError::Truncated { have: HEADER_LEN, need: HEADER_LEN + 1 })
        }
        Kind::Data => Ok(()),
        Kind::Close => r.end(),
        _ => Err(WireError::OtherKind),
    }
}

fn check(header: Header, kind: Kind) -> Result<(), WireError> {
    match header {
        Header { kind: other, .. } if other != kind => Err(WireError::OtherKind),
        Header { flags: 0, .. } => Ok(()),
        Header { flags, .. } => Err(WireError::Flags(flags)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn terms_there_and_back(random: [u8; 16], open_number: u64, max_bytes: u64, idle_s: u32, max_packet: u32, act in prop::collection::vec(any::<u8>(), ACT_LEN)) {
            let terms = OpenTerms { random, open_number, max_bytes, idle_s, max_packet, act: act.try_into().unwrap() };
            let bytes = terms.bytes();
            prop_assert_eq!(OpenTerms::parse(&bytes), Ok(terms));
            prop_assert!(OpenTerms::parse(&bytes[1..]).is_err());
            prop_assert!(OpenTerms::parse(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn errors_there_and_back(flow: u64, hop_limit: u8, reporter: [u8; 8], cause in prop::sample::select(Cause::ALL)) {
            let error = FlowError { reporter: HopId(reporter), cause };
            let mut out = [0; FLOW_ERROR_LEN];
            prop_assert_eq!(error.write(flow, hop_limit, &mut out), Ok(FLOW_ERROR_LEN));
            let (header, body) = Header::parse(&out).unwrap();
            prop_assert_eq!((header.sequence, header.hop_limit), (flow, hop_limit));
            prop_assert_eq!(FlowError::parse(header, body), Ok(error));
            prop_assert!(FlowError::parse(header, &body[1..]).is_err());
        }

        #[test]
        fn any_bytes(kind in 1u8..=12, flags in 0u8..2, body in prop::collection::vec(any::<u8>(), 0..120)) {
            let kind = Kind::from_u8(kind).unwrap();
            let header = Header { kind, flags, hop_limit: 0, sequence: 0 };
            let _ = FlowError::parse(header, &body);
            let _ = check_body(header, &body);
            let _ = OpenTerms::parse(&body);
        }
    }

    #[test]
    fn a_number_depends_on_everything_and_not_on_where_it_is_cut() {
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        let all = [
            number(&a, &b, &[3; 16]),
            number(&b, &a, &[3; 16]),
            number(&a, &a, &[3; 16]),
            number(&a, &b, &[4; 16]),
        ];
        assert!((1..4).all(|i| !all[..i].contains(&all[i])));
    }

    #[test]
    fn bodies_have_their_lengths() {
        let header = |kind| Header { kind, flags: 0, hop_limit: 0, sequence: 0 };
        let lengths = |kind| {
            (0..60)
                .filter(|n| check_body(header(kind), &[0; 60][..*n]).is_ok())
                .collect::<std::vec::Vec<_>>()
        };
        assert_eq!(lengths(Kind::Opened), [ACT_LEN]);
        assert_eq!(lengths(Kind::Close), [0]);
        assert_eq!(lengths(Kind::Data), (1..60).collect::<std::vec::Vec<_>>());
        assert!(lengths(Kind::Datagram).is_empty());
        let flagged = Header { flags: 1, ..header(Kind::Close) };
        assert_eq!(check_body(flagged, &[]), Err(WireError::Flags(1)));
    }

    #[test]
    fn a_small_packet_counts_64_bytes() {
        assert_eq!([0, 63, 64, 65, 1400].map(metered), [64, 64, 64, 65, 1400]);
    }
}
