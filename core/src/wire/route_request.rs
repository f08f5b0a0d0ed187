//! RouteRequest: asks for a route, and collects it on the way.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 24 | 32 | source: who asks |
//! | 56 | 32 | destination: who is asked for |
//! | 88 | 4 | smallest "largest packet" so far, in bytes |
//! | 92 | 4 | quality so far: sum of expected transmissions, in 1/256 |
//! | 96 | 1 | number of hops n, 0 to 16 |
//! | 97 | 3 | reserved, 0 |
//! | 100 | 40 n | hops so far: node identity (32), tariff per packet (4) and per KiB (4) |
//!
//! The header's sequence is the request's number, its hop limit the width of
//! the ring that is left.

use super::{HEADER_LEN, Header, Kind, Reader, WireError, Writer};
use crate::config::MAX_HOPS;
use crate::id::NodeId;
use crate::tariff::Tariff;

/// A node on a collected route, and its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The node.
    pub node: NodeId,
    /// What it takes for relaying.
    pub tariff: Tariff,
}

/// Bytes of a hop on the wire.
pub(super) const HOP_LEN: usize = 40;

/// Most bytes of a route request.
pub const MAX_LEN: usize = HEADER_LEN + 76 + HOP_LEN * MAX_HOPS;

/// Hops of a collected route, in travel order from source to destination.
pub type Hops = heapless::Vec<Hop, MAX_HOPS>;

pub(super) fn read_hops(r: &mut Reader<'_>, count: u8) -> Result<Hops, WireError> {
    if usize::from(count) > MAX_HOPS {
        return Err(WireError::TooManyHops(count));
    }
    let mut hops = Hops::new();
    for _ in 0..count {
        let node = NodeId(*r.array()?);
        let tariff = Tariff { base_msat: r.u32()?, per_kib_msat: r.u32()? };
        hops.push(Hop { node, tariff }).map_err(|_| WireError::TooManyHops(count))?;
    }
    Ok(hops)
}

pub(super) fn put_hop(w: &mut Writer<'_>, hop: &Hop) {
    w.put(&hop.node.0);
    w.put(&hop.tariff.base_msat.to_le_bytes()).put(&hop.tariff.per_kib_msat.to_le_bytes());
}

/// A route request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRequest {
    /// Rings left: links that it may still cross after the receiver.
    pub hop_limit: u8,
    /// Number that the source gave the request.
    pub sequence: u64,
    /// Who asks.
    pub source: NodeId,
    /// Who is asked for.
    pub destination: NodeId,
    /// Smallest of the largest packets that the nodes so far accept, in bytes.
    pub min_packet: u32,
    /// Sum of the expected transmissions of the links so far, in 1/256.
    pub quality: u32,
    /// Nodes travelled so far, without source.
    pub hops: Hops,
}

impl RouteRequest {
    /// Reads a body whose header was checked.
    pub fn parse(header: Header, body: &[u8]) -> Result<Self, WireError> {
        if header.kind != Kind::RouteRequest {
            return Err(WireError::OtherKind);
        }
        if header.flags != 0 {
            return Err(WireError::Flags(header.flags));
        }
        let mut r = Reader::new(body);
        let (source, destination) = (NodeId(*r.array()?), NodeId(*r.array()?));
        let (min_packet, quality, count) = (r.u32()?, r.u32()?, r.u8()?);
        r.zeros(3)?;
        let hops = read_hops(&mut r, count)?;
        r.end()?;
        let Header { hop_limit, sequence, .. } = header;
        Ok(Self { hop_limit, sequence, source, destination, min_packet, quality, hops })
    }

    /// Writes the packet into `out`; returns its length.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WireError> {
        let mut w = Writer::new(out);
        w.put(&self.source.0).put(&self.destination.0);
        w.put(&self.min_packet.to_le_bytes()).put(&self.quality.to_le_bytes());
        w.put(&[self.hops.len() as u8, 0, 0, 0]);
        self.hops.iter().for_each(|h| put_hop(&mut w, h));
        let Self { hop_limit, sequence, .. } = *self;
        w.finish(Header { kind: Kind::RouteRequest, flags: 0, hop_limit, sequence }, &[])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::wire) fn hops() -> impl Strategy<Value = Hops> {
        prop::collection::vec(any::<([u8; 32], u32, u32)>(), 0..=MAX_HOPS).prop_map(|v| {
            let hop = |(id, base_msat, per_kib_msat)| Hop {
                node: NodeId(id),
                tariff: Tariff { base_msat, per_kib_msat },
            };
            v.into_iter().map(hop).collect()
        })
    }

    proptest! {
        #[test]
        fn round_trip(hop_limit: u8, sequence: u64, ids: [[u8; 32]; 2], n: [u32; 2], hops in hops()) {
            let request = RouteRequest { hop_limit, sequence, source: NodeId(ids[0]), destination: NodeId(ids[1]), min_packet: n[0], quality: n[1], hops };
            let mut out = [0; MAX_LEN];
            let len = request.write(&mut out).unwrap();
            let (header, body) = Header::parse(&out[..len]).unwrap();
            prop_assert_eq!(RouteRequest::parse(header, body), Ok(request.clone()));
            prop_assert!(RouteRequest::parse(header, &body[..body.len() - 1]).is_err());
            prop_assert_eq!(request.write(&mut out[..len - 1]), Err(WireError::NoRoom { need: len }));
        }

        #[test]
        fn any_bytes(body in prop::collection::vec(any::<u8>(), 0..800)) {
            let _ = RouteRequest::parse(Header { kind: Kind::RouteRequest, flags: 0, hop_limit: 0, sequence: 0 }, &body);
        }
    }
}
