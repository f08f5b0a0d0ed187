//! RouteReply: a collected route, signed by its destination, on its way back.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 24 | 8 | source: beginning of the identity of who asked |
//! | 32 | 33 | public key of the destination, who answers |
//! | 65 | 1 to 5 | smallest "largest packet" along the route, in bytes |
//! | then | 1 to 5 | quality: sum of expected transmissions, in 1/256 |
//! | then | 2 to 10 | the destination's own tariff: per packet, per KiB |
//! | then | 2 to 66 | with flag 4: payments that every node from the first hop to the destination accepts ([`super::accepted`]) |
//! | then | 10 to 18 each | hops from source to destination, 0 to 48, as in a request |
//! | last | 64 | BIP 340 signature of the destination |
//!
//! The header's sequence is the request's, its hop limit the number of links still to go
//! to the source after the receiver. Flag 4 answers a request that has it.

use super::accepted::{Accepted, MAX_ACCEPTED_LEN};
use super::route_request::{
    ACCEPTED, Hops, MAX_HOP_LEN, MAX_TARIFF_LEN, put_accepted, put_hops, put_tariff, read_accepted,
    read_hops, read_tariff,
};
use super::{HEADER_LEN, Header, Kind, Reader, WireError, Writer};
use crate::config::MAX_HOPS;
use crate::hash::tagged_parts;
use crate::id::{HopId, NodeId};
use crate::tariff::Tariff;

const SIGNATURE_LEN: usize = 64;

/// Most bytes of a route reply.
pub const MAX_LEN: usize =
    HEADER_LEN + 51 + MAX_TARIFF_LEN + MAX_ACCEPTED_LEN + MAX_HOP_LEN * MAX_HOPS + SIGNATURE_LEN;

/// A route reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReply {
    /// Links still to go to the source after the receiver.
    pub hop_limit: u8,
    /// Number of the request that this answers.
    pub sequence: u64,
    /// Who asked.
    pub source: HopId,
    /// Compressed public key of the destination.
    pub public_key: [u8; 33],
    /// Smallest of the largest packets that the nodes on the route accept.
    pub min_packet: u32,
    /// Sum of the expected transmissions of the links, in 1/256.
    pub quality: u32,
    /// What the destination takes for receiving.
    pub tariff: Tariff,
    /// Payments that every node from the first hop to the destination accepts; `None`: this
    /// was not asked.
    pub accepted: Option<Accepted>,
    /// Intermediate nodes, from source to destination.
    pub hops: Hops,
    /// BIP 340 signature of the destination over [`RouteReply::sighash`].
    pub signature: [u8; SIGNATURE_LEN],
}

impl RouteReply {
    /// Reads a body whose header was checked. The signature is not checked.
    ///
    /// # Errors
    /// [`WireError`]: it is not one.
    pub fn parse(header: Header, body: &[u8]) -> Result<Self, WireError> {
        let Header { kind, flags, hop_limit, sequence } = header;
        if kind != Kind::RouteReply {
            return Err(WireError::OtherKind);
        }
        if flags & !ACCEPTED != 0 {
            return Err(WireError::Flags(flags));
        }
        let mut r = Reader::new(body);
        let (source, public_key) = (HopId(*r.array()?), *r.array()?);
        let (min_packet, quality, tariff) = (r.varint()?, r.varint()?, read_tariff(&mut r)?);
        let accepted = read_accepted(&mut r, flags)?;
        let hops = read_hops(&mut r, SIGNATURE_LEN)?;
        let signature = *r.array()?;
        r.end()?;
        Ok(Self {
            hop_limit,
            sequence,
            source,
            public_key,
            min_packet,
            quality,
            tariff,
            accepted,
            hops,
            signature,
        })
    }

    /// Who answers.
    pub fn destination(&self) -> NodeId {
        NodeId::from_compressed(&self.public_key)
    }

    /// Writes the packet into `out`; returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`].
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WireError> {
        let mut w = self.write_signed(out);
        w.put(&self.signature);
        w.finish(self.header(), &[])
    }

    fn header(&self) -> Header {
        let Self { hop_limit, sequence, .. } = *self;
        let flags = if self.accepted.is_some() { ACCEPTED } else { 0 };
        Header { kind: Kind::RouteReply, flags, hop_limit, sequence }
    }

    /// Writes the fields that are signed.
    fn write_signed<'o>(&self, out: &'o mut [u8]) -> Writer<'o> {
        let mut w = Writer::new(out);
        w.put(&self.source.0).put(&self.public_key);
        w.put_varint(self.min_packet).put_varint(self.quality);
        put_tariff(&mut w, &self.tariff);
        put_accepted(&mut w, &self.accepted);
        put_hops(&mut w, &self.hops);
        w
    }

    /// What the destination signs: a tagged hash (BIP 340) of everything but the hop
    /// limit, the check and the signature.
    #[inline(never)]
    pub fn sighash(&self) -> [u8; 32] {
        let mut out = [0; MAX_LEN];
        let w = self.write_signed(&mut out);
        // It always fits.
        let body = w.body().unwrap_or_default();
        let length = body.len().saturating_add(SIGNATURE_LEN) as u32;
        let parts = [&self.header().signed_bytes(length), body];
        tagged_parts(b"blvm-mesh/route-reply", &parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::accepted::tests::accepted;
    use crate::wire::route_request::tests::{hops, number, tariff};
    use proptest::prelude::*;

    fn reply() -> impl Strategy<Value = RouteReply> {
        let random = any::<(u8, u64, [u8; 8], [[u8; 32]; 2])>();
        let accepted = prop::option::of(accepted());
        (random, number(), number(), tariff(), accepted, hops()).prop_map(
            |((hop_limit, sequence, source, ids), min_packet, quality, tariff, accepted, hops)| {
                let mut public_key = [2; 33];
                public_key[1..].copy_from_slice(&ids[0]);
                let mut signature = [5; 64];
                signature[32..].copy_from_slice(&ids[1]);
                RouteReply {
                    hop_limit,
                    sequence,
                    source: HopId(source),
                    public_key,
                    min_packet,
                    quality,
                    tariff,
                    accepted,
                    hops,
                    signature,
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
            prop_assert!(RouteReply::parse(header, &body[..body.len() - 1]).is_err());
            let mut body = body.to_vec();
            let i = at.index(body.len());
            body[i] ^= 1 << bit;
            if let Ok(other) = RouteReply::parse(header, &body) {
                let in_signature = i >= body.len() - 64;
                prop_assert_eq!(other.sighash() == reply.sighash(), in_signature);
            }
            let other = RouteReply { hop_limit: reply.hop_limit ^ 1, ..reply.clone() };
            prop_assert_eq!(other.sighash(), reply.sighash());
            let accepted = match reply.accepted {
                None => Some(Accepted::ANY),
                Some(_) => None,
            };
            let other = RouteReply { accepted, ..reply.clone() };
            prop_assert_ne!(other.sighash(), reply.sighash());
            let other = RouteReply { sequence: reply.sequence ^ 1, ..reply.clone() };
            prop_assert_ne!(other.sighash(), reply.sighash());
        }

        #[test]
        fn any_bytes(asked: bool, body in prop::collection::vec(any::<u8>(), 0..1100)) {
            let flags = if asked { ACCEPTED } else { 0 };
            let header = Header { kind: Kind::RouteReply, flags, hop_limit: 0, sequence: 0 };
            if let Ok(reply) = RouteReply::parse(header, &body) {
                let mut out = [0; MAX_LEN];
                let len = reply.write(&mut out).unwrap();
                prop_assert_eq!(&out[HEADER_LEN..len], &body[..]);
            }
        }
    }
}
