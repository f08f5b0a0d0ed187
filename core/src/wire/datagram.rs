//! Datagram: source-routed and self-contained.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 24 | 32 | source |
//! | 56 | 32 | destination |
//! | 88 | 1 | number of hops n, 0 to 48 |
//! | 89 | 1 | reserved, 0 |
//! | 90 | 2 | length of the proof p; 0 without a proof |
//! | 92 | 8 n | hops: intermediate nodes in travel order |
//! | | 33 | with flag 1: public key of the source |
//! | | 64 | with flag 1: BIP 340 signature of the source |
//! | | p | with flag 1: proof of payment |
//! | | rest | payload |

use super::{HEADER_LEN, Header, Kind, Reader, WireError, Writer};
use crate::config::MAX_HOPS;
use crate::hash::tagged;
use crate::id::{HopId, NodeId};
use sha2::Digest;

/// Flag: a public key, a signature and a proof of payment are there.
pub const FLAG_PROOF: u8 = 1;
/// Flag: the payload is an [account message](super::account), which is carried as a control
/// packet is. Not together with a proof.
pub const FLAG_ACCOUNT: u8 = 2;

/// What a packet in the form of a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A datagram of a user.
    #[default]
    Plain,
    /// A datagram with [`FLAG_ACCOUNT`].
    Account,
    /// An Open: its proof is the [terms](super::flow::OpenTerms) of a flow.
    Open,
}

/// Bytes before the hops.
const FIXED: usize = 32 + 32 + 4;

/// Bytes before the payload of a datagram with so many hops and such a proof.
pub fn head_len(hops: usize, proof: usize) -> usize {
    let signed = if proof == 0 { 0 } else { 33 + 64 + proof };
    HEADER_LEN + FIXED + 8 * hops + signed
}

/// The signed part of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    /// Compressed public key whose hash is the source.
    pub public_key: &'a [u8; 33],
    /// BIP 340 signature over [`Datagram::sighash`].
    pub signature: &'a [u8; 64],
    /// Proof of payment, never empty.
    pub proof: &'a [u8],
}

/// A datagram, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Links still to go after the receiver.
    pub hop_limit: u8,
    /// Number that the source gave it.
    pub sequence: u64,
    /// Who sent it. Authenticated only where it is signed.
    pub source: NodeId,
    /// Who is to get it.
    pub destination: NodeId,
    /// Intermediate nodes in travel order, 0 to [`MAX_HOPS`], 8 bytes each.
    pub(crate) hops: &'a [[u8; 8]],
    /// What the source signed, if it pays.
    pub signed: Option<Signed<'a>>,
    /// What is carried.
    pub payload: &'a [u8],
    /// What it is.
    pub form: Form,
}

impl<'a> Datagram<'a> {
    /// Reads a body whose header was checked.
    ///
    /// # Errors
    /// [`WireError`]: another kind of packet, or the first field that is wrong.
    #[inline]
    pub fn parse(header: Header, body: &'a [u8]) -> Result<Self, WireError> {
        let form = match (header.kind, header.flags) {
            (Kind::Datagram, 0 | FLAG_PROOF) => Form::Plain,
            (Kind::Datagram, FLAG_ACCOUNT) => Form::Account,
            (Kind::Open, FLAG_PROOF) => Form::Open,
            (Kind::Datagram | Kind::Open, flags) => return Err(WireError::Flags(flags)),
            _ => return Err(WireError::OtherKind),
        };
        let mut r = Reader::new(body);
        let source = NodeId(*r.array()?);
        let destination = NodeId(*r.array()?);
        let count = r.u8()?;
        if usize::from(count) > MAX_HOPS {
            return Err(WireError::TooManyHops);
        }
        r.zeros(1)?;
        let proof_len = usize::from(r.u16()?);
        let (hops, _) = r.slice(usize::from(count) * 8)?.as_chunks::<8>();
        let has_proof = header.flags & FLAG_PROOF != 0;
        if has_proof != (proof_len != 0) {
            return Err(WireError::Field("proof length"));
        }
        let signed = match has_proof {
            true => Some(Signed {
                public_key: r.array()?,
                signature: r.array()?,
                proof: r.slice(proof_len)?,
            }),
            false => None,
        };
        let Header { hop_limit, sequence, .. } = header;
        let payload = r.rest();
        if form == Form::Open && !payload.is_empty() {
            return Err(WireError::Trailing(payload.len()));
        }
        Ok(Self { hop_limit, sequence, source, destination, hops, signed, payload, form })
    }

    /// Intermediate nodes in travel order.
    pub fn hops(&self) -> impl ExactSizeIterator<Item = HopId> + Clone + use<'a> {
        self.hops.iter().map(|h| HopId(*h))
    }

    /// Whether no node is on the route twice; both ends are part of it.
    pub(crate) fn visits_each_once(&self) -> bool {
        let ends = [self.source.hop().0, self.destination.hop().0];
        let [source, destination] = ends;
        let mut hops = self.hops;
        while let [first, rest @ ..] = hops {
            if ends.contains(first) || rest.contains(first) {
                return false;
            }
            hops = rest;
        }
        source != destination
    }

    /// Intermediate nodes, copied.
    pub fn route(&self) -> heapless::Vec<HopId, MAX_HOPS> {
        self.hops().collect()
    }

    /// Where the payload lies in the packet: the last bytes of it.
    pub fn payload_range(&self, packet_len: usize) -> core::ops::Range<usize> {
        packet_len.saturating_sub(self.payload.len())..packet_len
    }

    /// Where the proof lies in the packet; empty without one.
    pub fn proof_range(&self) -> core::ops::Range<usize> {
        let proof = self.signed.map_or(0, |s| s.proof.len());
        let end = head_len(self.hops.len(), proof);
        end.saturating_sub(proof)..end
    }

    /// What the source signs: a tagged hash (BIP 340) of everything but the hop
    /// limit, the check and the signature.
    pub fn sighash(&self) -> Option<[u8; 32]> {
        let s = self.signed?;
        Some(sighash(&self.unsigned(s.proof, s.public_key), self.hops(), self.payload))
    }

    fn unsigned<'b>(&self, proof: &'b [u8], public_key: &'b [u8; 33]) -> Emit<'b> {
        Emit {
            hop_limit: self.hop_limit,
            sequence: self.sequence,
            source: self.source,
            destination: self.destination,
            proof: Some((public_key, proof)),
            form: self.form,
        }
    }
}

/// What is needed to write a datagram besides its hops and payload.
#[derive(Debug, Clone, Copy)]
pub struct Emit<'a> {
    /// Links still to go after the first receiver: the number of hops.
    pub hop_limit: u8,
    /// Number of the datagram.
    pub sequence: u64,
    /// Who sends.
    pub source: NodeId,
    /// Who is to get it.
    pub destination: NodeId,
    /// Public key of the source and a proof of payment.
    pub proof: Option<(&'a [u8; 33], &'a [u8])>,
    /// What it is. An Open has a proof and no payload.
    pub form: Form,
}

impl Emit<'_> {
    fn header(&self) -> Header {
        let (kind, flags) = match self.form {
            Form::Plain if self.proof.is_none() => (Kind::Datagram, 0),
            Form::Plain => (Kind::Datagram, FLAG_PROOF),
            Form::Account => (Kind::Datagram, FLAG_ACCOUNT),
            Form::Open => (Kind::Open, FLAG_PROOF),
        };
        Header { kind, flags, hop_limit: self.hop_limit, sequence: self.sequence }
    }

    fn proof_len(&self) -> Result<u16, WireError> {
        match self.proof {
            None => Ok(0),
            Some((_, [])) => Err(WireError::Field("proof length")),
            Some((_, p)) => u16::try_from(p.len()).map_err(|_| WireError::Field("proof length")),
        }
    }

    /// Writes everything before the payload into `out`; the payload is sent
    /// behind it. `signature` is called with the hash to sign where there is a
    /// proof. Returns the bytes written.
    ///
    /// # Errors
    /// [`WireError`]: a field is out of its bounds, or `out` too small.
    pub fn write(
        &self,
        hops: &[HopId],
        payload: &[u8],
        out: &mut [u8],
        signature: impl FnOnce(&[u8; 32]) -> [u8; 64],
    ) -> Result<usize, WireError> {
        let count = u8::try_from(hops.len()).unwrap_or(u8::MAX);
        if hops.len() > MAX_HOPS {
            return Err(WireError::TooManyHops);
        }
        let mut w = Writer::new(out);
        w.put(&self.source.0).put(&self.destination.0).put(&[count, 0]);
        w.put(&self.proof_len()?.to_le_bytes());
        for hop in hops {
            w.put(&hop.0);
        }
        if let Some((key, proof)) = self.proof {
            let hash = sighash(self, hops.iter().copied(), payload);
            w.put(key).put(&signature(&hash)).put(proof);
        }
        w.finish(self.header(), &[payload])
    }
}

fn sighash(d: &Emit<'_>, hops: impl ExactSizeIterator<Item = HopId>, payload: &[u8]) -> [u8; 32] {
    let (key, proof) = d.proof.unwrap_or((&[0; 33], &[]));
    let count = hops.len();
    let body = FIXED + 8 * count + 33 + 64 + proof.len() + payload.len();
    let mut h = tagged(b"blvm-mesh/datagram");
    h.update(d.header().signed_bytes(body as u32));
    h.update(d.source.0);
    h.update(d.destination.0);
    h.update([count as u8, 0]);
    h.update((proof.len() as u16).to_le_bytes());
    for hop in hops {
        h.update(hop.0);
    }
    h.update(key);
    h.update(proof);
    h.update(payload);
    h.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn write(d: &Emit<'_>, hops: &[HopId], payload: &[u8]) -> (Vec<u8>, Option<[u8; 32]>) {
        let mut out = vec![0; head_len(MAX_HOPS, 2000)];
        let mut signed = None;
        let n = d
            .write(hops, payload, &mut out, |hash| {
                signed = Some(*hash);
                [7; 64]
            })
            .unwrap();
        out.truncate(n);
        out.extend_from_slice(payload);
        (out, signed)
    }

    proptest! {
        #[test]
        fn round_trip(sequence: u64, ids: [[u8; 32]; 2], hops in prop::collection::vec(any::<[u8; 8]>(), 0..=MAX_HOPS), proof in prop::option::of(prop::collection::vec(any::<u8>(), 1..300)), payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let hops: Vec<HopId> = hops.into_iter().map(HopId).collect();
            let key = [2; 33];
            let d = Emit { hop_limit: hops.len() as u8, sequence, source: NodeId(ids[0]), destination: NodeId(ids[1]), proof: proof.as_deref().map(|p| (&key, p)), form: Form::Plain };
            let (bytes, signed) = write(&d, &hops, &payload);
            if proof.is_none() {
                prop_assert!(bytes.len() <= 96 + 8 * hops.len() + payload.len(), "budget");
            }
            let (header, body) = Header::parse(&bytes).unwrap();
            let view = Datagram::parse(header, body).unwrap();
            prop_assert_eq!(view.hops().collect::<Vec<_>>(), hops.clone());
            prop_assert_eq!((view.source, view.destination, view.sequence), (d.source, d.destination, sequence));
            prop_assert_eq!(view.signed.map(|s| s.proof), proof.as_deref());
            prop_assert_eq!(view.sighash(), signed);
            prop_assert_eq!(view.payload, &payload[..]);
            prop_assert_eq!(&bytes[view.payload_range(bytes.len())], &payload[..]);
            let proof = view.signed.map_or(&[][..], |s| s.proof);
            prop_assert_eq!(&bytes[view.proof_range()], proof);
        }

        #[test]
        fn the_signature_covers_all_but_hop_limit_and_itself(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let hops = [HopId([1; 8]), HopId([2; 8])];
            let d = Emit { hop_limit: 2, sequence: 5, source: NodeId([3; 32]), destination: NodeId([4; 32]), proof: Some((&[2; 33], &[9; 40])), form: Form::Plain };
            let (bytes, signed) = write(&d, &hops, b"payload");
            let mut other = bytes.clone();
            let i = at.index(bytes.len());
            other[i] ^= 1 << bit;
            let sig = 92 + 16 + 33..92 + 16 + 33 + 64;
            let covered = i != 7 && !(20..24).contains(&i) && !sig.contains(&i);
            let header = Header { kind: Kind::Datagram, flags: other[6], hop_limit: other[7], sequence: u64::from_le_bytes(other[8..16].try_into().unwrap()) };
            if let Ok(view) = Datagram::parse(header, &other[24..]) {
                // Magic, version, kind and length are checked with the header.
                if !(0..6).contains(&i) && !(16..20).contains(&i) {
                    prop_assert_eq!(view.sighash() != signed, covered);
                }
            }
        }

        #[test]
        fn any_bytes(open: bool, flags in 0u8..4, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let kind = if open { Kind::Open } else { Kind::Datagram };
            let _ = Datagram::parse(Header { kind, flags, hop_limit: 0, sequence: 0 }, &body);
        }
    }

    #[test]
    fn faults_are_named() {
        let h = Header { kind: Kind::Datagram, flags: 0, hop_limit: 0, sequence: 0 };
        let mut body = [0; 68];
        assert!(Datagram::parse(h, &body).is_ok());
        assert_eq!(
            Datagram::parse(h, &body[..67]),
            Err(WireError::Truncated { have: 91, need: 92 })
        );
        body[64] = 49;
        assert_eq!(Datagram::parse(h, &body), Err(WireError::TooManyHops));
        body[64] = 1;
        assert!(matches!(Datagram::parse(h, &body), Err(WireError::Truncated { need: 100, .. })));
        body[64] = 0;
        body[65] = 1;
        assert_eq!(Datagram::parse(h, &body), Err(WireError::Field("reserved")));
        body[65] = 0;
        body[66] = 1;
        assert_eq!(Datagram::parse(h, &body), Err(WireError::Field("proof length")));
        assert_eq!(Datagram::parse(Header { flags: 3, ..h }, &body), Err(WireError::Flags(3)));
        body[66] = 0;
        let account = Datagram::parse(Header { flags: FLAG_ACCOUNT, ..h }, &body);
        assert_eq!(account.map(|d| d.form), Ok(Form::Account));
    }
}
