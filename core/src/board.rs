//! The configuration of a board as it lies in its flash: who it is, whom it links to, what
//! it takes. A tool on a host writes it, and the board reads it at its start; it is never
//! compiled in.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, `BLVMBORD` |
//! | 8 | 2 | version, 2 |
//! | 10 | 2 | bytes of the body, n |
//! | 12 | 4 | CRC-32/ISO-HDLC of bytes 8 to 11 and of the body |
//! | 16 | n | body |
//!
//! The body, in which numbers are little-endian:
//!
//! | size | field |
//! |---|---|
//! | 32 | secret key of the node |
//! | 32 | secret from which the randomness of each start comes |
//! | 1 | network, 0 to 4 |
//! | 1 | mode: 0 bitcoin_only, 1 payment_gated, 2 open |
//! | 4 | bits per second of the lines |
//! | 4 | tariff: millisatoshi per packet |
//! | 4 | tariff: millisatoshi per started KiB of payload |
//! | 4 | longest silence on a link, in milliseconds, at least 1 |
//! | 4 | how far in the future a payment may be dated, in seconds |
//! | 1 | 1 if the time comes from a neighbour's hello, else 0 |
//! | 32 | if it does: the neighbour's identity |
//! | 1 | 1 if the time comes from block headers that pass, else 0 |
//! | 80 | if it does: the header from which they are followed |
//! | 1 | 1 if another node writes its invoices, its cashier, else 0 |
//! | 32 | if so: that node's identity |
//! | 1 | number of lines, 1 to 8; for each: |
//! | 1 | 0 it listens, 1 it dials |
//! | 33 | if it dials: the public key of the other end |
//! | 1 | number of issuers, 0 to 8; for each: |
//! | 33 | its public key |

use crate::config::{Config, MAX_ISSUERS, fixed::NEIGHBOURS};
use crate::id::{Network, NodeId};
use crate::link::datagram::Role;
use crate::mode::MeshMode;
use crate::tariff::Tariff;
use crate::time::MILLISECOND;
use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use secp256k1::{PublicKey, SecretKey};

/// What a configuration begins with.
pub const MAGIC: [u8; 8] = *b"BLVMBORD";
/// The version of the format.
pub const VERSION: u16 = 2;
/// Bytes before the body.
pub const HEADER_LEN: usize = 16;
/// Most lines of a board.
pub const MAX_LINES: usize = NEIGHBOURS;
/// Most bytes of a configuration.
pub const MAX_LEN: usize = HEADER_LEN
    + (32 + 32 + 1 + 1 + 5 * 4)
    + (1 + 32)
    + (1 + 80)
    + (1 + 32)
    + (1 + 34 * MAX_LINES)
    + (1 + 33 * MAX_ISSUERS);
/// Speeds of a line, in bits per second.
pub const BAUD: core::ops::RangeInclusive<u32> = 1_200..=3_000_000;

static CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// What a board is told.
#[derive(Clone, PartialEq, Eq)]
pub struct BoardConfig {
    /// The secret key of the node.
    pub key: SecretKey,
    /// The randomness of each start comes from this and the number of the start: it is
    /// secret and random, and the same on no two boards.
    pub secret: [u8; 32],
    /// Network whose payments are accepted.
    pub network: Network,
    /// What goes free.
    pub mode: MeshMode,
    /// Bits per second of the lines, within [`BAUD`].
    pub baud: u32,
    /// What relaying costs.
    pub tariff: Tariff,
    /// Longest silence on a link, in milliseconds; not 0.
    pub keepalive_ms: u32,
    /// How far in the future a payment may be dated, in seconds.
    pub future_skew: u32,
    /// The neighbour whose hello sets the clock.
    pub clock_source: Option<NodeId>,
    /// The block header from which headers that pass are followed, to take the time from.
    pub checkpoint: Option<[u8; 80]>,
    /// The node that writes its invoices; it has the board's
    /// ticket key (`mesh::ticket_key`).
    pub cashier: Option<NodeId>,
    /// What each line does to get a link.
    pub lines: heapless::Vec<Role, MAX_LINES>,
    /// Keys whose signature on an invoice is accepted.
    pub issuers: heapless::Vec<PublicKey, MAX_ISSUERS>,
}

/// Why there is no configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum BoardConfigError {
    /// There is nothing, or something else.
    #[error("there is no configuration: write one with `blvm-mesh board-config`")]
    Missing,
    /// Another version of the format.
    #[error(
        "the configuration has version {0}, not 2: write it anew with the tool of this version"
    )]
    Version(u16),
    /// It is cut short or longer than any.
    #[error("the configuration is cut short: write it anew")]
    Length,
    /// It is damaged.
    #[error("the configuration is damaged: write it anew")]
    Damaged,
    /// A field holds what it cannot.
    #[error("the configuration's {0} is not allowed: write it anew")]
    Field(&'static str),
}

use BoardConfigError::Field;

impl BoardConfig {
    /// Reads a configuration at the front of the bytes, which may be followed by any.
    ///
    /// # Errors
    /// [`BoardConfigError`].
    pub fn read(bytes: &[u8]) -> Result<Self, BoardConfigError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(BoardConfigError::Missing)?;
        let (checked, rest) = rest.split_first_chunk::<4>().ok_or(BoardConfigError::Length)?;
        let [v0, v1, n0, n1] = *checked;
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(BoardConfigError::Version(version));
        }
        let (crc, rest) = rest.split_first_chunk().ok_or(BoardConfigError::Length)?;
        let len = usize::from(u16::from_le_bytes([n0, n1]));
        if len > MAX_LEN - HEADER_LEN {
            return Err(BoardConfigError::Length);
        }
        let body = rest.get(..len).ok_or(BoardConfigError::Length)?;
        if check(checked, body) != u32::from_le_bytes(*crc) {
            return Err(BoardConfigError::Damaged);
        }
        Self::body(&mut Fields(body))
    }

    fn body(f: &mut Fields<'_>) -> Result<Self, BoardConfigError> {
        let key = SecretKey::from_byte_array(*f.array::<32>()?).map_err(|_| Field("key"))?;
        let secret = *f.array()?;
        let network = Network::from_u8(f.u8()?).ok_or(Field("network"))?;
        let mode = MeshMode::from_u8(f.u8()?).ok_or(Field("mode"))?;
        let baud = f.u32()?;
        if !BAUD.contains(&baud) {
            return Err(Field("speed"));
        }
        let tariff = Tariff { base_msat: f.u32()?, per_kib_msat: f.u32()? };
        let (keepalive_ms, future_skew) = (f.u32()?, f.u32()?);
        if keepalive_ms == 0 {
            return Err(Field("keep-alive"));
        }
        let clock_source = f.option("clock source")?.map(NodeId);
        let checkpoint = f.option("checkpoint")?;
        let cashier = f.option("cashier")?.map(NodeId);
        let mut lines = heapless::Vec::new();
        for _ in 0..f.u8()? {
            let role = match f.u8()? {
                0 => Role::Listen,
                1 => Role::Dial(f.public_key("key of a line's other end")?),
                _ => return Err(Field("line")),
            };
            lines.push(role).map_err(|_| Field("number of lines"))?;
        }
        if lines.is_empty() {
            return Err(Field("number of lines"));
        }
        let mut issuers = heapless::Vec::new();
        for _ in 0..f.u8()? {
            let issuer = f.public_key("issuer")?;
            issuers.push(issuer).map_err(|_| Field("number of issuers"))?;
        }
        if !f.0.is_empty() {
            return Err(Field("length"));
        }
        Ok(Self {
            key,
            secret,
            network,
            mode,
            baud,
            tariff,
            keepalive_ms,
            future_skew,
            clock_source,
            checkpoint,
            cashier,
            lines,
            issuers,
        })
    }

    /// Writes it to the front of `out`, for which [`MAX_LEN`] bytes are always enough;
    /// returns its length, or `None` if there is no room.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let (header, body) = out.split_first_chunk_mut::<HEADER_LEN>()?;
        let mut at = 0;
        let mut put = |bytes: &[u8]| -> Option<()> {
            let end = at + bytes.len();
            body.get_mut(at..end)?.copy_from_slice(bytes);
            at = end;
            Some(())
        };
        put(&self.key.secret_bytes())?;
        put(&self.secret)?;
        put(&[self.network as u8, self.mode as u8])?;
        let Tariff { base_msat, per_kib_msat } = self.tariff;
        for n in [self.baud, base_msat, per_kib_msat, self.keepalive_ms, self.future_skew] {
            put(&n.to_le_bytes())?;
        }
        put(&[self.clock_source.is_some().into()])?;
        put(self.clock_source.as_ref().map_or(&[], |node| &node.0[..]))?;
        put(&[self.checkpoint.is_some().into()])?;
        put(self.checkpoint.as_ref().map_or(&[], |header| &header[..]))?;
        put(&[self.cashier.is_some().into()])?;
        put(self.cashier.as_ref().map_or(&[], |node| &node.0[..]))?;
        put(&[self.lines.len() as u8])?;
        for line in &self.lines {
            match line {
                Role::Listen => put(&[0])?,
                Role::Dial(remote) => {
                    put(&[1])?;
                    put(&remote.serialize())?;
                }
            }
        }
        put(&[self.issuers.len() as u8])?;
        for issuer in &self.issuers {
            put(&issuer.serialize())?;
        }
        let len = u16::try_from(at).ok()?.to_le_bytes();
        let version = VERSION.to_le_bytes();
        let checked = [version, len];
        let checked = checked.as_flattened().first_chunk::<4>()?;
        let crc = check(checked, body.get(..at)?).to_le_bytes();
        let parts = MAGIC.iter().chain(checked).chain(&crc);
        header.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Some(HEADER_LEN + at)
    }

    /// The configuration of the state machine on such a board.
    pub fn config(&self) -> Config {
        let mut config = Config::board(self.network, u32::MAX);
        config.mode = self.mode;
        config.clock_source = self.clock_source;
        config.flows.cashier = self.cashier;
        config.timing.keepalive = u64::from(self.keepalive_ms) * MILLISECOND;
        config.payment.tariff = self.tariff;
        config.payment.future_skew = self.future_skew.into();
        config.payment.issuers = self.issuers.clone();
        config
    }
}

/// Without the secrets.
impl fmt::Debug for BoardConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoardConfig").field("network", &self.network).finish_non_exhaustive()
    }
}

fn check(checked: &[u8; 4], body: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(checked);
    digest.update(body);
    digest.finalize()
}

/// What is left to be read. The reader of packets tells how much is missing, which would
/// take a board 200 bytes here.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], BoardConfigError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Field("length"))?;
        self.0 = rest;
        Ok(field)
    }

    fn u8(&mut self) -> Result<u8, BoardConfigError> {
        let [byte] = self.array()?;
        Ok(*byte)
    }

    fn u32(&mut self) -> Result<u32, BoardConfigError> {
        Ok(u32::from_le_bytes(*self.array()?))
    }

    fn option<const N: usize>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<[u8; N]>, BoardConfigError> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(*self.array()?)),
            _ => Err(Field(name)),
        }
    }

    fn public_key(&mut self, name: &'static str) -> Result<PublicKey, BoardConfigError> {
        PublicKey::from_slice(self.array::<33>()?).map_err(|_| Field(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, option, prelude::*};
    use secp256k1::Secp256k1;
    use std::{vec, vec::Vec};

    fn secret(n: u8) -> SecretKey {
        SecretKey::from_byte_array([n; 32]).unwrap()
    }

    fn public(n: u8) -> PublicKey {
        secret(n).public_key(&Secp256k1::new())
    }

    fn example() -> BoardConfig {
        BoardConfig {
            key: secret(1),
            secret: [2; 32],
            network: Network::Regtest,
            mode: MeshMode::PaymentGated,
            baud: 115_200,
            tariff: Tariff { base_msat: 1000, per_kib_msat: 100 },
            keepalive_ms: 5000,
            future_skew: 300,
            clock_source: Some(NodeId([3; 32])),
            checkpoint: None,
            cashier: None,
            lines: [Role::Listen, Role::Dial(public(4))].into_iter().collect(),
            issuers: [public(5)].into_iter().collect(),
        }
    }

    fn written(config: &BoardConfig) -> Vec<u8> {
        let mut out = vec![0; MAX_LEN];
        let len = config.write(&mut out).unwrap();
        assert_eq!(config.write(&mut out[..len - 1]), None);
        out.truncate(len);
        out
    }

    /// Makes the check right again.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = check(bytes[8..12].try_into().unwrap(), &bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn known_bytes() {
        // The catalogue's check value of CRC-32/ISO-HDLC.
        assert_eq!(CRC.checksum(b"123456789"), 0xcbf4_3926);
        let bytes = written(&example());
        assert_eq!(bytes[..12], *b"BLVMBORD\x02\0\xbf\0");
        assert_eq!(bytes[16..80], [[1; 32], [2; 32]].concat());
        assert_eq!(bytes[80..90], [4, 1, 0x00, 0xc2, 1, 0, 0xe8, 3, 0, 0]);
        assert_eq!(bytes.len(), 16 + 0xbf);
    }

    #[test]
    fn what_is_not_a_configuration_is_refused_with_its_reason() {
        let bytes = written(&example());
        let read = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            BoardConfig::read(&bytes).unwrap_err()
        };
        assert_eq!(BoardConfig::read(&[0xff; 999]).unwrap_err(), BoardConfigError::Missing);
        assert_eq!(BoardConfig::read(&[0; 999]).unwrap_err(), BoardConfigError::Missing);
        assert_eq!(BoardConfig::read(&[]).unwrap_err(), BoardConfigError::Missing);
        assert_eq!(read(&|b| b[8] = 1), BoardConfigError::Version(1));
        assert_eq!(read(&|b| b.truncate(100)), BoardConfigError::Length);
        assert_eq!(read(&|b| b[11] = 0xff), BoardConfigError::Length);
        let resealed = |at: usize, value: u8| {
            read(&|b| {
                b[at] = value;
                *b = sealed(core::mem::take(b));
            })
        };
        for (at, value, field) in [
            (80, 5, "network"),
            (81, 3, "mode"),
            (85, 0xff, "speed"),
            (102, 2, "clock source"),
            (135, 2, "checkpoint"),
            (136, 2, "cashier"),
            (138, 2, "line"),
            (140, 9, "key of a line's other end"),
        ] {
            assert_eq!(resealed(at, value), Field(field));
        }
        assert_eq!(
            read(&|b| {
                b[94..98].fill(0);
                *b = sealed(core::mem::take(b));
            }),
            Field("keep-alive")
        );
        assert_eq!(
            read(&|b| {
                b[16..48].fill(0);
                *b = sealed(core::mem::take(b));
            }),
            Field("key")
        );
        let mut none = example();
        none.lines.clear();
        assert_eq!(BoardConfig::read(&written(&none)).unwrap_err(), Field("number of lines"));
    }

    #[test]
    fn the_longest_fits() {
        let mut config = example();
        config.checkpoint = Some([7; 80]);
        config.cashier = Some(NodeId([8; 32]));
        config.lines = [Role::Dial(public(4)); MAX_LINES].into_iter().collect();
        config.issuers = [public(5); MAX_ISSUERS].into_iter().collect();
        assert_eq!(written(&config).len(), MAX_LEN);
        assert_eq!(config.config().payment.issuers, config.issuers);
    }

    proptest! {
        #[test]
        fn round_trip(
            secrets: [[u8; 32]; 2], network in 0u8..5, mode in 0usize..3, baud in BAUD,
            numbers: [u32; 3], keepalive_ms in 1u32.., nodes: [Option<[u8; 32]>; 2],
            checkpoint in option::of(any_vec(any::<u8>(), 80)),
            lines in any_vec(option::of(1u8..200), 1..=8), issuers in any_vec(1u8..200, 0..=8),
            more in any_vec(any::<u8>(), 0..9), flip: prop::sample::Index, bit in 0u8..8,
        ) {
            let config = BoardConfig {
                key: SecretKey::from_byte_array(secrets[0]).unwrap_or(secret(1)),
                secret: secrets[1],
                network: Network::from_u8(network).unwrap(),
                mode: MeshMode::ALL[mode],
                baud,
                tariff: Tariff { base_msat: numbers[0], per_kib_msat: numbers[1] },
                keepalive_ms,
                future_skew: numbers[2],
                clock_source: nodes[0].map(NodeId),
                checkpoint: checkpoint.map(|bytes| bytes.try_into().unwrap()),
                cashier: nodes[1].map(NodeId),
                lines: lines.iter().map(|n| n.map_or(Role::Listen, |n| Role::Dial(public(n)))).collect(),
                issuers: issuers.iter().map(|n| public(*n)).collect(),
            };
            let mut bytes = written(&config);
            let len = bytes.len();
            bytes.extend(more);
            prop_assert!(BoardConfig::read(&bytes) == Ok(config));
            bytes[flip.index(len)] ^= 1 << bit;
            prop_assert!(BoardConfig::read(&bytes).is_err());
        }

        #[test]
        fn any_bytes(body in any_vec(any::<u8>(), 0..500)) {
            let header = [&MAGIC[..], &VERSION.to_le_bytes(), &(body.len() as u16).to_le_bytes(), &[0; 4]].concat();
            let bytes = sealed([header, body].concat());
            if let Ok(config) = BoardConfig::read(&bytes) {
                prop_assert_eq!(written(&config), bytes);
            }
        }
    }
}
