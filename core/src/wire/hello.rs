//! Hello: what a neighbour is and takes. First packet on a link, and sent again now and
//! then.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 24 | 1 | network, 0 to 4 |
//! | 25 | 1 | mode: 0 bitcoin_only, 1 payment_gated, 2 open |
//! | 26 | 2 | link quality: expected transmissions per packet, in 1/256 |
//! | 28 | 4 | largest packet accepted, header included |
//! | 32 | 4 | tariff: millisatoshi per packet |
//! | 36 | 4 | tariff: millisatoshi per started KiB of payload |
//! | 40 | 4 | how soon a datagram is answered, in milliseconds; 0: need not be |
//! | 44 | 4 | the sender's wall clock, in seconds since 1970; 0: it has none |
//! | 48 | 1 | number of issuers n, 0 to 8 |
//! | 49 | 3 | reserved, 0 |
//! | 52 | 4 | free bytes taken from the receiver: a second (1), at once (2), now (1), rounded down |
//! | 56 | 4 | of these, bytes without proof of work, likewise |
//! | 60 | 4 | of those, bytes of rare commands, likewise |
//! | 64 | 33 n | public keys of the issuers that are accepted |
//!
//! A number there of m low and e high bits, 3 and 5 or 11 and 5, is m where e is 0, else
//! `(2^bits + m) << (e - 1)` with 3 or 11 bits; all ones: any number.
//!
//! Flag 1: the receiver's own hello has not come.

use super::{Header, Kind, Reader, WireError, Writer};
use crate::config::{Allowance, MAX_ISSUERS};
use crate::id::Network;
use crate::mode::MeshMode;
use crate::tariff::Tariff;

/// Most bytes of a hello.
pub const MAX_LEN: usize = 64 + 33 * MAX_ISSUERS;

/// Classes of free bytes: all, those without proof of work, and rare ones.
pub const FREE_CLASSES: usize = 3;

/// Free bytes of one class that the receiver may send, as they are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    rate: u8,
    burst: u16,
    left: u8,
}

/// A number rounded down to one with so many bits behind the first.
#[inline(never)]
fn rounded(n: u64, bits: u32) -> u16 {
    let e = (u64::BITS - n.leading_zeros()).saturating_sub(bits + 1);
    let whole = (n >> e) as u16;
    // With its first bit it is one more in the upper part.
    whole.saturating_add((e as u16).min(31) << bits)
}

/// The number that was written.
#[inline(never)]
fn unrounded(n: u16, bits: u32) -> u64 {
    let (m, e) = (u64::from(n) & ((1 << bits) - 1), u32::from(n >> bits));
    match e.checked_sub(1) {
        None => m,
        Some(e) => ((1 << bits) + m) << e,
    }
}

impl Told {
    /// No limit.
    pub const ANY: Self = Self { rate: u8::MAX, burst: u16::MAX, left: u8::MAX };

    /// The words for a limit, of which this much is left. The rate is told a sixteenth lower
    /// than it is: what keeps to it is never refused because a clock or a frame was late.
    pub fn of(limit: Allowance, left: u64) -> Self {
        // What has more bits counts as any number.
        let byte = |n: u64| u8::try_from(rounded(n.min(1 << 34), 3)).unwrap_or(u8::MAX);
        let rate = limit.rate.saturating_sub(limit.rate / 16);
        let burst = if limit.burst >> 41 == 0 { rounded(limit.burst, 11) } else { u16::MAX };
        Self { rate: byte(rate), burst, left: byte(left) }
    }

    /// What is left of it.
    pub fn left(&self) -> u64 {
        if self.left == u8::MAX { u64::MAX } else { unrounded(self.left.into(), 3) }
    }

    /// The limit.
    #[inline(never)]
    pub fn limit(&self) -> Allowance {
        let rate = if self.rate == u8::MAX { u64::MAX } else { unrounded(self.rate.into(), 3) };
        let any = self.burst == u16::MAX;
        Allowance { rate, burst: if any { u64::MAX } else { unrounded(self.burst, 11) } }
    }
}

const MISSING: u8 = 1;

/// A hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The receiver's own hello has not come; a receiver that knows the sender already
    /// says it again.
    pub missing: bool,
    /// Network whose payments are accepted.
    pub network: Network,
    /// What goes free here.
    pub mode: MeshMode,
    /// Expected transmissions per packet, in 1/256 (256: none is lost).
    pub quality: u16,
    /// Largest packet accepted, header included, in bytes.
    pub max_packet: u32,
    /// What relaying costs here.
    pub tariff: Tariff,
    /// How soon the sender answers a datagram, in milliseconds; 0: it need not.
    pub keepalive_ms: u32,
    /// The sender's wall clock, in seconds since 1970; 0: it has none.
    pub unix: u32,
    /// What the receiver may send free.
    pub free: [Told; FREE_CLASSES],
    /// Compressed public keys of accepted issuers.
    pub issuers: heapless::Vec<[u8; 33], MAX_ISSUERS>,
}

impl Hello {
    /// Reads a body whose header was checked.
    ///
    /// # Errors
    /// [`WireError`]: another kind of packet, or the first field that is wrong.
    pub fn parse(header: Header, body: &[u8]) -> Result<Self, WireError> {
        if header.kind != Kind::Hello {
            return Err(WireError::OtherKind);
        }
        if header.flags & !MISSING != 0 {
            return Err(WireError::Flags(header.flags));
        }
        header.is_for_one_link()?;
        let missing = header.flags != 0;
        let mut r = Reader::new(body);
        let network = Network::from_u8(r.u8()?).ok_or(WireError::Field("network"))?;
        let mode = MeshMode::from_u8(r.u8()?).ok_or(WireError::Field("mode"))?;
        let quality = r.u16()?;
        let max_packet = r.u32()?;
        let tariff = Tariff { base_msat: r.u32()?, per_kib_msat: r.u32()? };
        let (keepalive_ms, unix) = (r.u32()?, r.u32()?);
        let count = usize::from(r.u8()?);
        r.zeros(3)?;
        let mut free = [Told::default(); FREE_CLASSES];
        for told in &mut free {
            *told = Told { rate: r.u8()?, burst: r.u16()?, left: r.u8()? };
        }
        if count > MAX_ISSUERS {
            return Err(WireError::Field("issuers"));
        }
        let mut issuers = heapless::Vec::new();
        for _ in 0..count {
            issuers.push(*r.array()?).map_err(|_| WireError::Field("issuers"))?;
        }
        r.end()?;
        Ok(Self {
            missing,
            network,
            mode,
            quality,
            max_packet,
            tariff,
            keepalive_ms,
            unix,
            free,
            issuers,
        })
    }

    /// Writes the packet into `out`; returns its length.
    ///
    /// # Errors
    /// [`WireError`]: a field is out of its bounds, or `out` too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WireError> {
        let mut w = Writer::new(out);
        w.put(&[self.network as u8, self.mode as u8]).put(&self.quality.to_le_bytes());
        w.put(&self.max_packet.to_le_bytes());
        w.put(&self.tariff.base_msat.to_le_bytes()).put(&self.tariff.per_kib_msat.to_le_bytes());
        w.put(&self.keepalive_ms.to_le_bytes()).put(&self.unix.to_le_bytes());
        w.put(&[self.issuers.len() as u8, 0, 0, 0]);
        for Told { rate, burst, left } in self.free {
            w.put(&[rate]).put(&burst.to_le_bytes()).put(&[left]);
        }
        for issuer in &self.issuers {
            w.put(issuer);
        }
        let flags = if self.missing { MISSING } else { 0 };
        w.finish(Header { kind: Kind::Hello, flags, hop_limit: 0, sequence: 0 }, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(missing: bool, network in 0u8..5, mode in 0u8..3, quality: u16, numbers: [u32; 5], free: [(u8, u16, u8); 3], issuers in prop::collection::vec(any::<[u8; 32]>(), 0..=8)) {
            let hello = Hello {
                missing,
                network: Network::from_u8(network).unwrap(),
                mode: [MeshMode::BitcoinOnly, MeshMode::PaymentGated, MeshMode::Open][usize::from(mode)],
                quality,
                max_packet: numbers[0],
                tariff: Tariff { base_msat: numbers[1], per_kib_msat: numbers[2] },
                keepalive_ms: numbers[3],
                unix: numbers[4],
                free: free.map(|(rate, burst, left)| Told { rate, burst, left }),
                issuers: issuers.iter().map(|k| { let mut i = [2; 33]; i[1..].copy_from_slice(k); i }).collect(),
            };
            let mut out = [0; MAX_LEN];
            let n = hello.write(&mut out).unwrap();
            let (header, body) = Header::parse(&out[..n]).unwrap();
            prop_assert_eq!(Hello::parse(header, body), Ok(hello));
            prop_assert!(Hello::parse(header, &body[..body.len() - 1]).is_err());
        }

        #[test]
        fn limits_are_told_a_little_lower(rate in 0u64..1 << 33, burst in 0u64..1 << 40, left in 0u64..1 << 33) {
            let told = Told::of(Allowance { rate, burst }, left);
            let limit = told.limit();
            prop_assert!(limit.rate <= rate && limit.rate >= rate - rate / 5 - 1, "{rate} {limit:?}");
            prop_assert!(limit.burst <= burst && limit.burst >= burst - burst / 2000, "{burst} {limit:?}");
            prop_assert!(told.left() <= left && told.left() >= left - left / 8, "{left} {}", told.left());
            let any = Told::of(Allowance { rate: u64::MAX, burst: u64::MAX }, u64::MAX);
            prop_assert_eq!(any, Told::ANY);
        }

        #[test]
        fn any_bytes(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Hello::parse(Header { kind: Kind::Hello, flags: 0, hop_limit: 0, sequence: 0 }, &body);
        }
    }
}
