//! The configuration of a board as it lies in its flash: who it is, whom it links to, what
//! it takes. A tool on a host writes it, and the board reads it at its start; it is never
//! compiled in.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, `BLVMBORD` |
//! | 8 | 2 | version, 3 |
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
//! | 1 | 1 if it has a radio channel, else 0 |
//! | 51 | if so: the channel ([`radio`]) |

pub mod radio;

use crate::config::{Config, MAX_ISSUERS, fixed::NEIGHBOURS};
use crate::id::{Network, NodeId};
use crate::link::datagram::Role;
use crate::mode::MeshMode;
use crate::tariff::Tariff;
use crate::time::MILLISECOND;
use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use radio::RadioConfig;
use secp256k1::{PublicKey, SecretKey};

/// What a configuration begins with.
pub const MAGIC: [u8; 8] = *b"BLVMBORD";
/// The version of the format.
pub const VERSION: u16 = 3;
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
    + (1 + 33 * MAX_ISSUERS)
    + (1 + RadioConfig::LEN);
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
    /// Its radio channel, where it has a radio. [`RadioConfig::read`] takes it apart: images without one
    /// have no room for that.
    pub radio: Option<[u8; RadioConfig::LEN]>,
}

/// Why there is no configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum BoardConfigError {
    /// There is nothing, or something else.
    #[error("there is no configuration: write one with `blvm-mesh board-config`")]
    Missing,
    /// Another version of the format.
    #[error(
        "the configuration has version {0}, not 3: write it anew with the tool of this version"
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
        let radio = f.option("radio channel")?;
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
            radio,
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
        put(&[self.radio.is_some().into()])?;
        put(self.radio.as_ref().map_or(&[], |radio| &radio[..]))?;
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
mod tests;
