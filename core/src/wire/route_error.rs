//! RouteError: tells the source of a datagram why it went no further, or that a paid one was
//! delivered.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 24 | 32 | source of the datagram: who is told |
//! | 56 | 32 | destination of the datagram |
//! | 88 | 32 | reporter: the node that stopped it, or the destination |
//! | 120 | 8 | the hop after the reporter |
//! | 128 | 1 | cause, [`Cause`] |
//! | 129 | 1 | number of hops n, 0 to 48 |
//! | 130 | 2 | reserved, 0 |
//! | 132 | 8 n | hops of the datagram |
//!
//! The header's sequence is the datagram's, its hop limit the number of links
//! still to go to the source after the receiver. It is not signed: each node
//! takes it only from the link on which it sent the datagram.

use super::{HEADER_LEN, Header, Kind, Reader, WireError, Writer};
use crate::config::MAX_HOPS;
use crate::id::{HopId, NodeId};
use core::fmt;

/// Most bytes of a route error.
pub const MAX_LEN: usize = len(MAX_HOPS);

/// Bytes of one about a datagram with so many hops.
pub const fn len(hops: usize) -> usize {
    HEADER_LEN + 108 + 8 * hops
}

macro_rules! causes {
    ($($name:ident = $n:literal, $text:literal;)*) => {
        /// Why a datagram went no further, or that it was delivered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
        #[repr(u8)]
        pub enum Cause {
            $(#[doc = $text] $name = $n,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The same in words. A table: branches to each take a board twice as much flash.
            pub fn text(self) -> &'static str {
                const TEXTS: &[&str] = &[$($text),*];
                let at = Self::ALL.iter().position(|cause| *cause == self);
                at.and_then(|at| TEXTS.get(at)).copied().unwrap_or_default()
            }

            /// Whether it may be over soon, so that a paid datagram that was stopped for it
            /// is worth sending again.
            pub fn passes(self) -> bool {
                matches!(
                    self,
                    Self::NextHopGone
                        | Self::Congested
                        | Self::NoClock
                        | Self::TableFull
                        | Self::StoreFailed
                        | Self::Unconfirmed
                        | Self::TooManyBad
                )
            }

            /// The cause with this number on the wire.
            pub fn from_u8(n: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|c| *c as u8 == n)
            }
        }
    };
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Cause {}

causes! {
    NextHopGone = 1, "the next hop is not a neighbour of the relay";
    TooLarge = 2, "the packet is larger than the next hop accepts";
    Congested = 3, "no room: the queue to the next hop is full, or nobody fetches what arrived";
    QuotaExceeded = 4, "the free allowance of the hop before the relay is used up";
    ModeRefused = 5, "the relay's mode does not carry this protocol";
    PaymentRequired = 6, "payment is required and there is no proof";
    ProofMalformed = 7, "the proof of payment is malformed";
    WrongNetwork = 8, "the payment is for another network";
    PreimageMismatch = 9, "the preimage does not belong to the invoice";
    AmountTooSmall = 10, "the amount does not cover the relay's tariff";
    NotYetValid = 11, "the payment is dated in the future";
    Expired = 12, "the payment has expired";
    TermsMismatch = 13, "the payment is for another size, route, source or destination than the packet's";
    IssuerUnknown = 14, "the invoice is not signed by an issuer that the relay accepts";
    SourceSignature = 15, "the signature of the source is not valid";
    Replay = 16, "the payment was used before";
    NoClock = 17, "the relay does not know the time and takes no payment";
    TableFull = 18, "the relay cannot remember more payments";
    StoreFailed = 19, "the relay cannot write to its store and takes no payment";
    CovenantInactive = 20, "the relay does not accept covenants on this network";
    CovenantInvalid = 21, "the covenant does not pay the relay as it must";
    Unconfirmed = 22, "the funding transaction is not known to be confirmed";
    TooManyBad = 23, "too many invalid payments via the hop before the relay; checks are rate-limited";
    Dust = 24, "the covenant has an output below the dust limit of its script";
    NextHopQuota = 25, "the next hop takes no more free traffic at present";
    Delivered = 26, "none: it was paid for and is delivered";
    NothingLeft = 27, "nothing is left of what the source has bought at the relay";
    OldOpen = 28, "a later Open of the source was taken, or this one from another neighbour";
    TicketInvalid = 29, "the relay did not issue the ticket, or the preimage is not that of its invoice";
    NoInvoice = 30, "the relay could not have an invoice written";
    FlowUnknown = 31, "the relay knows no such flow";
    FlowTableFull = 32, "the relay has no room for another flow";
    NoFlows = 33, "the destination takes no flows";
}

/// A route error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// Links still to go to the source after the receiver.
    pub hop_limit: u8,
    /// Number of the datagram.
    pub sequence: u64,
    /// Source of the datagram: who is told.
    pub source: NodeId,
    /// Destination of the datagram.
    pub destination: NodeId,
    /// The node that stopped it, or the destination.
    pub reporter: NodeId,
    /// The hop after the reporter on the datagram's route.
    pub next: HopId,
    /// Why.
    pub cause: Cause,
    /// Hops of the datagram.
    pub hops: heapless::Vec<HopId, MAX_HOPS>,
}

impl RouteError {
    /// Reads a body whose header was checked.
    ///
    /// # Errors
    /// [`WireError`]: another kind of packet, or the first field that is wrong.
    pub fn parse(header: Header, body: &[u8]) -> Result<Self, WireError> {
        if header.kind != Kind::RouteError {
            return Err(WireError::OtherKind);
        }
        if header.flags != 0 {
            return Err(WireError::Flags(header.flags));
        }
        let mut r = Reader::new(body);
        let (source, destination) = (NodeId(*r.array()?), NodeId(*r.array()?));
        let (reporter, next) = (NodeId(*r.array()?), HopId(*r.array()?));
        let cause = Cause::from_u8(r.u8()?).ok_or(WireError::Field("cause"))?;
        let count = r.u8()?;
        r.zeros(2)?;
        if usize::from(count) > MAX_HOPS {
            return Err(WireError::TooManyHops);
        }
        let (list, _) = r.slice(8 * usize::from(count))?.as_chunks::<8>();
        r.end()?;
        let hops = list.iter().map(|h| HopId(*h)).collect();
        let Header { hop_limit, sequence, .. } = header;
        Ok(Self { hop_limit, sequence, source, destination, reporter, next, cause, hops })
    }

    /// Writes the packet into `out`; returns its length.
    ///
    /// # Errors
    /// [`WireError`]: a field is out of its bounds, or `out` too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WireError> {
        let mut w = Writer::new(out);
        w.put(&self.source.0).put(&self.destination.0).put(&self.reporter.0).put(&self.next.0);
        w.put(&[self.cause as u8, self.hops.len() as u8, 0, 0]);
        self.hops.iter().for_each(|h| {
            w.put(&h.0);
        });
        let Self { hop_limit, sequence, .. } = *self;
        w.finish(Header { kind: Kind::RouteError, flags: 0, hop_limit, sequence }, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(hop_limit: u8, sequence: u64, ids: [[u8; 32]; 3], next: [u8; 8], cause in prop::sample::select(Cause::ALL), hops in prop::collection::vec(any::<[u8; 8]>(), 0..=MAX_HOPS)) {
            let error = RouteError { hop_limit, sequence, source: NodeId(ids[0]), destination: NodeId(ids[1]), reporter: NodeId(ids[2]), next: HopId(next), cause, hops: hops.into_iter().map(HopId).collect() };
            let mut out = [0; MAX_LEN];
            let len = error.write(&mut out).unwrap();
            let (header, body) = Header::parse(&out[..len]).unwrap();
            prop_assert_eq!(RouteError::parse(header, body), Ok(error));
            prop_assert!(RouteError::parse(header, &body[..body.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = RouteError::parse(Header { kind: Kind::RouteError, flags: 0, hop_limit: 0, sequence: 0 }, &body);
        }
    }
}
