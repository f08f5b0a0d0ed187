//! What the load generator sends and the sink answers.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 7 | `BLVMBEN` |
//! | 7 | 1 | kind: 0 load, 1 load that asks for a report, 2 report |
//! | 8 | 8 | number of the trial |
//! | 16 | 8 | number of the packet, from 0; a report repeats that of its cause |
//! | 24 | 8 | the generator's time in microseconds; a report repeats it |
//!
//! A report goes on with the packets (8) and bytes of payload (8) received so far
//! and 16 zeros. As raw data these 32 or 64 bytes begin the payload. As Bitcoin
//! traffic they are the last two hashes of an `inv` message, with the right checksum,
//! so that strict relays carry it for free. What goes before is hashed once for all messages.

use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 7] = b"BLVMBEN";
const BLOCK: usize = 32;
/// An entry of an `inv` message: a type and a hash.
const ENTRY: usize = 36;
/// Most entries of an `inv` message (Bitcoin Core's MAX_INV_SZ).
const MOST_ENTRIES: usize = 50_000;
const BITCOIN_HEADER: usize = 24;

/// What the load looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "BenchProtocol")]
pub enum Protocol {
    /// Data of no protocol; free in mode `open` only.
    Raw,
    /// `inv` messages of the node's Bitcoin network.
    Bitcoin,
}

/// A message of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) trial: u64,
    pub(crate) number: u64,
    pub(crate) time: u64,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Load,
    LoadAndReport,
    Report { packets: u64, bytes: u64 },
}

impl Message {
    pub(crate) fn blocks(&self) -> [[u8; BLOCK]; 2] {
        let (kind, packets, bytes) = match self.kind {
            Kind::Load => (0, 0, 0),
            Kind::LoadAndReport => (1, 0, 0),
            Kind::Report { packets, bytes } => (2, packets, bytes),
        };
        let mut blocks = [[0; BLOCK]; 2];
        let [first, second] = &mut blocks;
        first[..7].copy_from_slice(MAGIC);
        first[7] = kind;
        first[8..16].copy_from_slice(&self.trial.to_le_bytes());
        first[16..24].copy_from_slice(&self.number.to_le_bytes());
        first[24..].copy_from_slice(&self.time.to_le_bytes());
        second[..8].copy_from_slice(&packets.to_le_bytes());
        second[8..16].copy_from_slice(&bytes.to_le_bytes());
        blocks
    }

    /// Reads the message in a payload of either protocol; `None` if it is none.
    pub(crate) fn parse(payload: &[u8]) -> Option<(Self, Protocol)> {
        let (first, second, protocol) = match payload.first_chunk::<7>() {
            Some(MAGIC) => (payload.get(..BLOCK)?, payload.get(BLOCK..2 * BLOCK), Protocol::Raw),
            _ => {
                let mut entries = payload.get(BITCOIN_HEADER + 1..)?.rchunks_exact(ENTRY);
                let mut last = || entries.next()?.get(ENTRY - BLOCK..);
                let (second, first) = (last()?, last()?);
                (first, Some(second), Protocol::Bitcoin)
            }
        };
        let number = |block: &[u8], at: usize| {
            Some(u64::from_le_bytes(*block.get(at..)?.first_chunk::<8>()?))
        };
        if first.first_chunk::<7>() != Some(MAGIC) {
            return None;
        }
        let kind = match first.get(7)? {
            0 => Kind::Load,
            1 => Kind::LoadAndReport,
            2 => Kind::Report { packets: number(second?, 0)?, bytes: number(second?, 8)? },
            _ => return None,
        };
        let message = Self {
            kind,
            trial: number(first, 8)?,
            number: number(first, 16)?,
            time: number(first, 24)?,
        };
        Some((message, protocol))
    }
}

/// Memory for messages of one size and protocol, written over again and again.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    protocol: Protocol,
    bytes: Vec<u8>,
    /// The checksum's hash over so many bytes of a Bitcoin message's body: the whole blocks before
    /// its last two entries.
    begun: (sha256::Midstate, usize),
}

impl Template {
    /// Messages of about `size` bytes: as raw data exactly, as Bitcoin traffic the
    /// most whole entries that fit.
    pub(crate) fn new(protocol: Protocol, magic: [u8; 4], size: usize) -> Self {
        let bytes = match protocol {
            Protocol::Raw => vec![0x5a; size.max(2 * BLOCK)],
            Protocol::Bitcoin => {
                // The count takes one byte below 253 entries, three from there on.
                let entries = match size.saturating_sub(BITCOIN_HEADER + 3) / ENTRY {
                    many @ 0xfd.. => many.min(MOST_ENTRIES),
                    _ => (size.saturating_sub(BITCOIN_HEADER + 1) / ENTRY).clamp(2, 0xfc),
                };
                let mut bytes = magic.to_vec();
                bytes.extend(*b"inv\0\0\0\0\0\0\0\0\0");
                bytes.extend([0; 8]);
                match u16::try_from(entries) {
                    Ok(few @ ..0xfd) => bytes.push(few as u8),
                    Ok(many) => {
                        bytes.push(0xfd);
                        bytes.extend(many.to_le_bytes());
                    }
                    // `entries` is at most 50,000.
                    Err(_) => {}
                }
                for _ in 0..entries {
                    // MSG_TX, and a hash that no transaction has.
                    bytes.extend([1, 0, 0, 0]);
                    bytes.extend([0x5a; BLOCK]);
                }
                let length = (bytes.len() - BITCOIN_HEADER) as u32;
                bytes[16..20].copy_from_slice(&length.to_le_bytes());
                bytes
            }
        };
        let same = bytes.len().saturating_sub(BITCOIN_HEADER + 2 * ENTRY);
        let whole = same - same % sha256::HashEngine::BLOCK_SIZE;
        let mut engine = sha256d::Hash::engine();
        engine.input(bytes.get(BITCOIN_HEADER..BITCOIN_HEADER + whole).unwrap_or_default());
        let begun = (engine.midstate(), whole);
        Self { protocol, bytes, begun }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes a message and gives its payload.
    pub(crate) fn write(&mut self, message: &Message) -> &[u8] {
        let [first, second] = message.blocks();
        let is_report = matches!(message.kind, Kind::Report { .. });
        let end = self.bytes.len();
        let mut put = |at: usize, block: &[u8]| {
            if let Some(room) = self.bytes.get_mut(at..at + BLOCK) {
                room.copy_from_slice(block);
            }
        };
        match self.protocol {
            Protocol::Raw => {
                put(0, &first);
                if is_report {
                    put(BLOCK, &second);
                }
            }
            Protocol::Bitcoin => {
                put(end - ENTRY - BLOCK, &first);
                if is_report {
                    put(end - BLOCK, &second);
                }
                let (header, body) = self.bytes.split_at_mut(BITCOIN_HEADER);
                let (midstate, whole) = self.begun;
                let mut engine = sha256::HashEngine::from_midstate(midstate, whole);
                engine.input(body.get(whole..).unwrap_or_default());
                let sum = sha256d::Hash::from_engine(engine);
                header[20..].copy_from_slice(&sum.as_byte_array()[..4]);
            }
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::deserialize;
    use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
    use blvm_mesh_core::id::Network;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Load),
            Just(Kind::LoadAndReport),
            any::<(u64, u64)>().prop_map(|(packets, bytes)| Kind::Report { packets, bytes }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(kind in kinds(), trial: u64, number: u64, time: u64, size in 0usize..20_000, bitcoin: bool) {
            let protocol = if bitcoin { Protocol::Bitcoin } else { Protocol::Raw };
            let message = Message { kind, trial, number, time };
            let mut template = Template::new(protocol, Network::Regtest.magic(), size);
            let payload = template.write(&message).to_vec();
            prop_assert_eq!(Message::parse(&payload), Some((message, protocol)));
            if size >= 200 {
                prop_assert!(payload.len() <= size && payload.len() + 38 > size);
            }
            if bitcoin {
                // The oracle reads it as a message of that network with whole entries.
                let read: RawNetworkMessage = deserialize(&payload).unwrap();
                prop_assert_eq!(read.magic(), &bitcoin::p2p::Magic::REGTEST);
                let NetworkMessage::Inv(entries) = read.payload() else { panic!() };
                prop_assert!(entries.len() >= 2);
            }
        }

        #[test]
        fn a_size_where_the_count_grows_is_not_exceeded(size in 9_090usize..9_180) {
            let mut template = Template::new(Protocol::Bitcoin, Network::Regtest.magic(), size);
            let message = Message { kind: Kind::Load, trial: 0, number: 0, time: 0 };
            let len = template.write(&message).len();
            prop_assert!(len <= size && len + 38 > size);
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), raw: bool) {
            let mut bytes = bytes;
            if raw {
                bytes.splice(..bytes.len().min(7), *MAGIC);
            }
            let _ = Message::parse(&bytes);
        }
    }

    #[test]
    fn large_messages_fit_their_protocol() {
        let template = Template::new(Protocol::Bitcoin, Network::Mainnet.magic(), 10_000_000);
        assert_eq!(template.len(), BITCOIN_HEADER + 3 + MOST_ENTRIES * ENTRY);
    }
}
