//! RouteReply: a collected route, signed by its destination, on its way back.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 24 | 32 | source: who asked |
//! | 56 | 32 | destination: who answers |
//! | 88 | 4 | smallest "largest packet" along the route, in bytes |
//! | 92 | 4 | quality: sum of expected transmissions, in 1/256 |
//! | 96 | 1 | number of hops n, 0 to 16 |
//! | 97 | 3 | reserved, 0 |
//! | 100 | 8 | the destination's own tariff: per packet (4), per KiB (4) |
//! | 108 | 33 | public key of the destination |
//! | 141 | 64 | its BIP 340 signature |
//! | 205 | 40 n | hops from source to destination: identity (32), tariff (8) |
//!
//! The header's sequence is the request's, its hop limit the number of links
//! still to go to the source after the receiver.

use super::route_request::{HOP_LEN, Hops, put_hop, read_hops};
use super::{HEADER_LEN, Header, Kind, Reader, WireError, Writer};
use crate::config::MAX_HOPS;
use crate::id::NodeId;
use crate::tariff::Tariff;
use sha2::{Digest, Sha256};

/// Most bytes of a route reply.
pub const MAX_LEN: usize = HEADER_LEN + 181 + HOP_LEN * MAX_HOPS;

/// A route reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReply {
    /// Links still to go to the source after the receiver.
    pub hop_limit: u8,
    /// Number of the request that this answers.
    pub sequence: u64,
    /// Who asked.
    pub source: NodeId,
    /// Who answers.
    pub destination: NodeId,
    /// Smallest of the largest packets that the nodes on the route accept.
    pub min_packet: u32,
    /// Sum of the expected transmissions of the links, in 1/256.
    pub quality: u32,
    /// What the destination takes for receiving.
    pub tariff: Tariff,
    /// Compressed public key of the destination.
    pub public_key: [u8; 33],
    /// BIP 340 signature of the destination over [`RouteReply::sighash`].
    pub signature: [u8; 64],
    /// Intermediate nodes, from source to destination.
    pub hops: Hops,
}

impl RouteReply {
    /// Reads a body whose header was checked. The signature is not checked.
    pub fn parse(header: Header, body: &[u8]) -> Result<Self, WireError> {
        if header.kind != Kind::RouteReply {
            return Err(WireError::OtherKind);
        }
        if header.flags != 0 {
            return Err(WireError::Flags(header.flags));
        }
        let mut r = Reader::new(body);
        let (source, destination) = (NodeId(*r.array()?), NodeId(*r.array()?));
        let (min_packet, quality, count) = (r.u32()?, r.u32()?, r.u8()?);
        r.zeros(3)?;
        let tariff = Tariff { base_msat: r.u32()?, per_kib_msat: r.u32()? };
        let (public_key, signature) = (*r.array()?, *r.array()?);
        let hops = read_hops(&mut r, count)?;
        r.end()?;
        let Header { hop_limit, sequence, .. } = header;
        Ok(Self {
            hop_limit,
            sequence,
            source,
            destination,
            min_packet,
            quality,
            tariff,
            public_key,
            signature,
            hops,
        })
    }

    /// Writes the packet into `out`; returns its length.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WireError> {
        let mut w = Writer::new(out);
        w.put(&self.source.0).put(&self.destination.0);
        w.put(&self.min_packet.to_le_bytes()).put(&self.quality.to_le_bytes());
        w.put(&[self.hops.len() as u8, 0, 0, 0]);
        w.put(&self.tariff.base_msat.to_le_bytes()).put(&self.tariff.per_kib_msat.to_le_bytes());
        w.put(&self.public_key).put(&self.signature);
        self.hops.iter().for_each(|h| put_hop(&mut w, h));
        w.finish(self.header(), &[])
    }

    fn header(&self) -> Header {
        let Self { hop_limit, sequence, .. } = *self;
        Header { kind: Kind::RouteReply, flags: 0, hop_limit, sequence }
    }

    /// What the destination signs: a tagged hash (BIP 340) of everything but
    /// the hop limit, the check and the signature.
    pub fn sighash(&self) -> [u8; 32] {
        let tag = Sha256::digest(b"blvm-mesh/route-reply");
        let length = 181 + HOP_LEN * self.hops.len();
        let mut h = Sha256::new();
        h.update(tag);
        h.update(tag);
        h.update(self.header().signed_bytes(length as u32));
        h.update(self.source.0);
        h.update(self.destination.0);
        h.update(self.min_packet.to_le_bytes());
        h.update(self.quality.to_le_bytes());
        h.update([self.hops.len() as u8, 0, 0, 0]);
        h.update(self.tariff.base_msat.to_le_bytes());
        h.update(self.tariff.per_kib_msat.to_le_bytes());
        h.update(self.public_key);
        for hop in &self.hops {
            h.update(hop.node.0);
            h.update(hop.tariff.base_msat.to_le_bytes());
            h.update(hop.tariff.per_kib_msat.to_le_bytes());
        }
        h.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::route_request::tests::hops;
    use proptest::prelude::*;

    fn reply() -> impl Strategy<Value = RouteReply> {
        (any::<(u8, u64, [[u8; 32]; 4], [u32; 4])>(), hops()).prop_map(
            |((hop_limit, sequence, ids, n), hops)| {
                let mut public_key = [2; 33];
                public_key[1..].copy_from_slice(&ids[2]);
                let mut signature = [5; 64];
                signature[32..].copy_from_slice(&ids[3]);
                RouteReply {
                    hop_limit,
                    sequence,
                    source: NodeId(ids[0]),
                    destination: NodeId(ids[1]),
                    min_packet: n[0],
                    quality: n[1],
                    tariff: Tariff { base_msat: n[2], per_kib_msat: n[3] },
                    public_key,
                    signature,
                    hops,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip_and_the_signature_covers_the_bytes(reply in reply(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut out = [0; MAX_LEN];
            let len = reply.write(&mut out).unwrap();
            let (header, body) = Header::parse(&out[..len]).unwrap();
            prop_assert_eq!(RouteReply::parse(header, body), Ok(reply.clone()));
            let mut body = body.to_vec();
            let i = at.index(body.len());
            body[i] ^= 1 << bit;
            if let Ok(other) = RouteReply::parse(header, &body) {
                let in_signature = (117..181).contains(&i);
                prop_assert_eq!(other.sighash() == reply.sighash(), in_signature);
            }
            let other = RouteReply { hop_limit: reply.hop_limit ^ 1, ..reply.clone() };
            prop_assert_eq!(other.sighash(), reply.sighash());
            let other = RouteReply { sequence: reply.sequence ^ 1, ..reply.clone() };
            prop_assert_ne!(other.sighash(), reply.sighash());
        }

        #[test]
        fn any_bytes(body in prop::collection::vec(any::<u8>(), 0..900)) {
            let _ = RouteReply::parse(Header { kind: Kind::RouteReply, flags: 0, hop_limit: 0, sequence: 0 }, &body);
        }
    }
}
