//! RouteRequest: asks for a route, and collects it on the way.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 24 | 8 | source: beginning of the identity of who asks |
//! | 32 | 8 | destination: beginning of the identity of who is asked for |
//! | 40 | 1 to 5 | smallest "largest packet" so far, in bytes |
//! | then | 1 to 5 | quality so far: sum of expected transmissions, in 1/256 |
//! | then | 2 to 66 | with flag 4: payments that every hop so far accepts ([`super::accepted`]) |
//! | then | 10 to 18 each | hops so far, 0 to 48, up to the end of the packet |
//!
//! A hop is the beginning of a node's identity (8) and its tariff per packet and per KiB.
//! Numbers of variable length are Bitcoin Core's VARINT (serialize.h).
//!
//! The header's sequence is the request's number, its hop limit the width of the ring
//! that is left. Flags: 1 ([`HINTS`]), 2 ([`ROUTES`]), 4 ([`ACCEPTED`]).
//!
//! Eight bytes name a node as well as in data packets: the reply is signed by the whole
//! identity.

use super::accepted::{Accepted, MAX_ACCEPTED_LEN};
use super::{HEADER_LEN, Header, Kind, Reader, WireError, Writer};
use crate::config::MAX_HOPS;
use crate::id::HopId;
use crate::tariff::Tariff;

/// Flag: a node that has heard where the destination is sends the request only there.
pub const HINTS: u8 = 1;
/// Flag: a node that has a route to the destination sends the request only along it.
pub const ROUTES: u8 = 2;
/// Flag: the packet collects, or tells, which payments every node on the route accepts.
pub const ACCEPTED: u8 = 4;

/// A node on a collected route, and its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Beginning of the node's identity.
    pub node: HopId,
    /// What it takes for relaying.
    pub tariff: Tariff,
}

/// Most bytes of a tariff on the wire.
pub(super) const MAX_TARIFF_LEN: usize = 10;
/// Fewest and most bytes of a hop on the wire.
const MIN_HOP_LEN: usize = 10;
pub(super) const MAX_HOP_LEN: usize = 8 + MAX_TARIFF_LEN;

/// Most bytes of a route request.
pub const MAX_LEN: usize = most_len(MAX_HOPS) + MAX_ACCEPTED_LEN;

/// Most bytes of a request that has travelled so many hops, at most [`MAX_HOPS`], without
/// what it collects of payments.
pub const fn most_len(hops: usize) -> usize {
    HEADER_LEN + 26 + MAX_HOP_LEN * hops
}

/// Hops of a collected route, in travel order from source to destination.
pub type Hops = heapless::Vec<Hop, MAX_HOPS>;

pub(super) fn read_tariff(r: &mut Reader<'_>) -> Result<Tariff, WireError> {
    Ok(Tariff { base_msat: r.varint()?, per_kib_msat: r.varint()? })
}

pub(super) fn put_tariff(w: &mut Writer<'_>, tariff: &Tariff) {
    w.put_varint(tariff.base_msat).put_varint(tariff.per_kib_msat);
}

/// Reads hops until no more than `behind` bytes are left.
pub(super) fn read_hops(r: &mut Reader<'_>, behind: usize) -> Result<Hops, WireError> {
    if r.left().saturating_sub(behind) > MAX_HOP_LEN * MAX_HOPS {
        return Err(WireError::TooManyHops);
    }
    let mut hops = Hops::new();
    while r.left() >= behind.saturating_add(MIN_HOP_LEN) {
        let hop = Hop { node: HopId(*r.array()?), tariff: read_tariff(r)? };
        hops.push(hop).map_err(|_| WireError::TooManyHops)?;
    }
    Ok(hops)
}

pub(super) fn put_hops(w: &mut Writer<'_>, hops: &[Hop]) {
    for hop in hops {
        w.put(&hop.node.0);
        put_tariff(w, &hop.tariff);
    }
}

pub(super) fn read_accepted(r: &mut Reader<'_>, flags: u8) -> Result<Option<Accepted>, WireError> {
    if flags & ACCEPTED == 0 { Ok(None) } else { Accepted::read(r).map(Some) }
}

/// Writes what is accepted, if that is asked; returns the flag for it.
pub(super) fn put_accepted(w: &mut Writer<'_>, accepted: &Option<Accepted>) -> u8 {
    let Some(accepted) = accepted else { return 0 };
    accepted.put(w);
    ACCEPTED
}

/// A route request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRequest {
    /// [`HINTS`] and [`ROUTES`], or less; [`ACCEPTED`] stands with the field `accepted`.
    pub flags: u8,
    /// Rings left: links that it may still cross after the receiver.
    pub hop_limit: u8,
    /// Number that the source gave the request.
    pub sequence: u64,
    /// Who asks.
    pub source: HopId,
    /// Who is asked for.
    pub destination: HopId,
    /// Smallest of the largest packets that the nodes so far accept, in bytes.
    pub min_packet: u32,
    /// Sum of the expected transmissions of the links so far, in 1/256.
    pub quality: u32,
    /// Payments that every hop so far accepts; `None`: this is not asked.
    pub accepted: Option<Accepted>,
    /// Nodes travelled so far, without source.
    pub hops: Hops,
}

impl RouteRequest {
    /// Reads a body whose header was checked.
    ///
    /// # Errors
    /// [`WireError`]: it is not one.
    pub fn parse(header: Header, body: &[u8]) -> Result<Self, WireError> {
        let Header { kind, flags, hop_limit, sequence } = header;
        if kind != Kind::RouteRequest {
            return Err(WireError::OtherKind);
        }
        if flags & !(HINTS | ROUTES | ACCEPTED) != 0 {
            return Err(WireError::Flags(flags));
        }
        let mut r = Reader::new(body);
        let (source, destination) = (HopId(*r.array()?), HopId(*r.array()?));
        let (min_packet, quality) = (r.varint()?, r.varint()?);
        let accepted = read_accepted(&mut r, flags)?;
        let hops = read_hops(&mut r, 0)?;
        r.end()?;
        Ok(Self {
            flags: flags & !ACCEPTED,
            hop_limit,
            sequence,
            source,
            destination,
            min_packet,
            quality,
            accepted,
            hops,
        })
    }

    /// Writes the packet into `out`; returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`], [`WireError::Flags`].
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WireError> {
        let Self { flags, hop_limit, sequence, .. } = *self;
        let mut w = Writer::new(out);
        w.put(&self.source.0).put(&self.destination.0);
        w.put_varint(self.min_packet).put_varint(self.quality);
        let flags = flags | put_accepted(&mut w, &self.accepted);
        put_hops(&mut w, &self.hops);
        w.finish(Header { kind: Kind::RouteRequest, flags, hop_limit, sequence }, &[])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::accepted::tests::accepted;
    use proptest::prelude::*;

    /// Numbers of every width.
    pub(in crate::wire) fn number() -> impl Strategy<Value = u32> {
        prop_oneof![0..300u32, 65_000..66_000u32, any::<u32>()]
    }

    pub(in crate::wire) fn tariff() -> impl Strategy<Value = Tariff> {
        (number(), number())
            .prop_map(|(base_msat, per_kib_msat)| Tariff { base_msat, per_kib_msat })
    }

    pub(in crate::wire) fn hops() -> impl Strategy<Value = Hops> {
        let hop = (any::<[u8; 8]>(), tariff());
        let hop = hop.prop_map(|(node, tariff)| Hop { node: HopId(node), tariff });
        prop::collection::vec(hop, 0..=MAX_HOPS).prop_map(|hops| hops.into_iter().collect())
    }

    proptest! {
        #[test]
        fn round_trip(flags in 0u8..4, hop_limit: u8, sequence: u64, ids: [[u8; 8]; 2], min_packet in number(), quality in number(), accepted in prop::option::of(accepted()), hops in hops()) {
            let [source, destination] = ids.map(HopId);
            let request = RouteRequest { flags, hop_limit, sequence, source, destination, min_packet, quality, accepted, hops };
            let mut out = [0; MAX_LEN];
            let len = request.write(&mut out).unwrap();
            let (header, body) = Header::parse(&out[..len]).unwrap();
            prop_assert_eq!(RouteRequest::parse(header, body), Ok(request.clone()));
            prop_assert!(RouteRequest::parse(header, &body[..body.len() - 1]).is_err());
            let more = Header { flags: header.flags | 8, ..header };
            prop_assert_eq!(RouteRequest::parse(more, body), Err(WireError::Flags(header.flags | 8)));
            let collected = request.accepted.as_ref().map_or(0, Accepted::wire_len);
            prop_assert!(len <= most_len(request.hops.len()) + collected);
            let plain = RouteRequest { accepted: None, ..request.clone() }.write(&mut [0; MAX_LEN]);
            prop_assert_eq!(plain, Ok(len - collected), "who does not ask pays nothing for it");
            prop_assert_eq!(request.write(&mut out[..len - 1]), Err(WireError::NoRoom { need: len }));
        }

        #[test]
        fn any_bytes(flags in 0u8..8, body in prop::collection::vec(any::<u8>(), 0..1000)) {
            let header = Header { kind: Kind::RouteRequest, flags, hop_limit: 0, sequence: 0 };
            if let Ok(request) = RouteRequest::parse(header, &body) {
                let mut out = [0; MAX_LEN];
                let len = request.write(&mut out).unwrap();
                prop_assert_eq!(&out[HEADER_LEN..len], &body[..]);
                prop_assert_eq!(Header::parse(&out[..len]).unwrap().0, header);
            }
        }
    }

    #[test]
    fn a_request_names_at_most_8_issuers() {
        let header = Header { kind: Kind::RouteRequest, flags: 4, hop_limit: 0, sequence: 0 };
        let body =
            |count: u8, bytes: usize| [&[0; 18][..], &[1, count], &[7; 200][..bytes]].concat();
        let parse = |count, bytes| RouteRequest::parse(header, &body(count, bytes));
        let issuers = |n| parse(n, 8 * usize::from(n)).unwrap().accepted.unwrap().issuers;
        assert_eq!(issuers(8).unwrap(), [[7; 8]; 8]);
        assert_eq!(issuers(0).unwrap(), [[0; 8]; 0]);
        assert_eq!(parse(255, 0).unwrap().accepted, Some(Accepted::ANY));
        for count in [9, 24, 25, 254] {
            assert!(parse(count, 200).is_err(), "{count}");
        }
        assert!(matches!(parse(2, 15), Err(WireError::Truncated { .. })));
    }

    #[test]
    fn a_route_has_at_most_48_hops() {
        let header = Header { kind: Kind::RouteRequest, flags: 0, hop_limit: 0, sequence: 0 };
        let body = |hops: usize| std::vec![0; 18 + 10 * hops];
        assert_eq!(RouteRequest::parse(header, &body(48)).unwrap().hops.len(), 48);
        assert_eq!(RouteRequest::parse(header, &body(49)), Err(WireError::TooManyHops));
        assert_eq!(RouteRequest::parse(header, &body(200)), Err(WireError::TooManyHops));
    }

    /// The examples of Bitcoin Core's serialize.h, and what is too large.
    #[test]
    fn numbers_are_those_of_bitcoin_core() {
        let examples: [(u32, &[u8]); 9] = [
            (0, &[0x00]),
            (1, &[0x01]),
            (127, &[0x7f]),
            (128, &[0x80, 0x00]),
            (255, &[0x80, 0x7f]),
            (256, &[0x81, 0x00]),
            (16383, &[0xfe, 0x7f]),
            (16384, &[0xff, 0x00]),
            (65535, &[0x82, 0xfe, 0x7f]),
        ];
        for (number, bytes) in examples {
            let mut out = [0; HEADER_LEN + 5];
            let mut w = Writer::new(&mut out);
            w.put_varint(number);
            assert_eq!(w.body(), Some(bytes), "{number}");
            assert_eq!(Reader::new(bytes).varint(), Ok(number));
        }
        let mut out = [0; HEADER_LEN + 5];
        let mut w = Writer::new(&mut out);
        w.put_varint(u32::MAX);
        assert_eq!(w.body(), Some(&[0x8e, 0xfe, 0xfe, 0xfe, 0x7f][..]));
        for large in [&[0x8e, 0xfe, 0xfe, 0xff, 0x00][..], &[0xff; 9]] {
            assert_eq!(Reader::new(large).varint(), Err(WireError::Field("number")));
        }
    }
}
