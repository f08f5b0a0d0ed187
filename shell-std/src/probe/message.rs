//! The two messages. Numbers are little-endian; `docs/PROTOCOL.md` has the same tables.
//!
//! | size | probe |
//! |---|---|
//! | 1 | kind, 4 |
//! | 1 | reserved, 0 |
//! | 8 | nonce, random |
//! | rest | zeros: as many bytes as the answer may have |
//!
//! | size | answer |
//! |---|---|
//! | 1 | kind, 5 |
//! | 1 | mode: 0 bitcoin_only, 1 payment_gated, 2 open |
//! | 8 | nonce of the probe |
//! | 2 | expected transmissions on the link that the probe came by, in 1/256; 0: not known |
//! | 4, 4 | tariff: millisatoshi per packet, per started KiB |
//! | 4, 4 | free traffic of a neighbour: bytes per second, at once |
//! | 4, 4 | of it without proof of work: bytes per second, at once |
//! | 1 | length of the software's name and version n, at most 64; 255: there is no room for it |
//! | n | the same, printable ASCII |
//! | 1 | number of issuers m, at most 8; 255: there is no room for them |
//! | 33 m | their public keys |
//! | rest | zeros |

use crate::bridge::message::{self, HEADER_LEN, Magic};
use blvm_mesh_core::config::{Allowance, MAX_ISSUERS};
use blvm_mesh_core::policy::MeshMode;
use blvm_mesh_core::tariff::Tariff;

/// Identifier of the feature.
const IDENTIFIER: &[u8; 4] = b"mesh";
const PROBE: u8 = 4;
const ANSWER: u8 = 5;
/// Where the nonce begins.
const NONCE: usize = 2;
/// Bytes of a probe's data up to its padding.
const PROBE_LEN: usize = NONCE + 8;
/// Bytes of an answer before the name of its software.
const FIXED: usize = PROBE_LEN + 2 + 6 * 4;
/// In place of a number: there is no room for what is counted.
const NO_ROOM: u8 = 255;
/// Longest name of software.
const MOST_SOFTWARE: usize = 64;

/// Fewest bytes of data of a probe: the answer has neither software nor issuers.
pub const LEAST: usize = FIXED + 2;
/// Most bytes of it (BIP 434).
pub const MOST: usize = 512;
/// So many have room for all that an answer may say.
pub const FULL: usize = LEAST + MOST_SOFTWARE + 33 * MAX_ISSUERS;

/// What a node tells of itself. Nothing of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it carries.
    pub mode: MeshMode,
    /// Expected transmissions on the link that the probe came by, in 1/256; 0: not known.
    pub transmissions_256: u16,
    /// What it asks for relaying.
    pub tariff: Tariff,
    /// Free traffic that it takes of a neighbour, in bytes.
    pub free: Allowance,
    /// The part of it that need not have proof of work, in bytes.
    pub plain: Allowance,
    /// Name and version of its software, at most 64 characters; `None`: the probe had no room for it.
    pub software: Option<String>,
    /// Keys of the issuers whose invoices it accepts; `None`: the probe had no room for them.
    pub issuers: Option<Vec<[u8; 33]>>,
}

/// A message of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// A probe with `len` bytes of data.
    Probe { nonce: u64, len: usize },
    /// An answer, as long as its probe.
    Answer { nonce: u64, len: usize, told: Told },
}

impl Message {
    /// The message, if the payload of a datagram is one and nothing else. Its check sum is looked at here,
    /// since nodes in mode open look at no payload.
    pub(crate) fn read(magic: Magic, payload: &[u8]) -> Option<Self> {
        let (first, rest) = message::split(payload)?;
        if !rest.is_empty() || first.get(..4)? != magic || message::command(first) != "feature" {
            return None;
        }
        let data = first.get(HEADER_LEN..)?.strip_prefix(&[IDENTIFIER.len() as u8])?;
        let data = match data.strip_prefix(IDENTIFIER)? {
            [0xfd, low, high, data @ ..] => {
                let len = usize::from(u16::from_le_bytes([*low, *high]));
                (len >= 0xfd && len == data.len()).then_some(data)?
            }
            [len, data @ ..] => (usize::from(*len) == data.len()).then_some(data)?,
            [] => return None,
        };
        let read = (LEAST..=MOST).contains(&data.len()).then(|| Self::of(data)).flatten()?;
        // Last, because it costs most: whoever read it could have written it.
        let mut again = Vec::with_capacity(payload.len());
        write(magic, data, &mut again);
        (again == payload).then_some(read)
    }

    fn of(data: &[u8]) -> Option<Self> {
        let (head, rest) = data.split_at_checked(PROBE_LEN)?;
        let nonce = u64::from_le_bytes(head.get(NONCE..)?.try_into().ok()?);
        let len = data.len();
        match head {
            [PROBE, 0, ..] => rest.iter().all(|b| *b == 0).then_some(Self::Probe { nonce, len }),
            [ANSWER, mode, ..] => {
                let told = Told::read(MeshMode::from_u8(*mode)?, rest)?;
                Some(Self::Answer { nonce, len, told })
            }
            _ => None,
        }
    }
}

impl Told {
    fn read(mode: MeshMode, mut rest: &[u8]) -> Option<Self> {
        let mut take = |n: usize| {
            let (field, after) = rest.split_at_checked(n)?;
            rest = after;
            Some(field)
        };
        let transmissions_256 = u16::from_le_bytes(take(2)?.try_into().ok()?);
        let mut number = || Some(u32::from_le_bytes(take(4)?.try_into().ok()?));
        let tariff = Tariff { base_msat: number()?, per_kib_msat: number()? };
        let mut allowance =
            || Some(Allowance { rate: u64::from(number()?), burst: u64::from(number()?) });
        let (free, plain) = (allowance()?, allowance()?);
        let software = match *take(1)?.first()? {
            NO_ROOM => None,
            n if usize::from(n) <= MOST_SOFTWARE => {
                let name = std::str::from_utf8(take(n.into())?).ok()?;
                Some(is_printable(name).then(|| name.to_owned())?)
            }
            _ => return None,
        };
        let issuers = match *take(1)?.first()? {
            NO_ROOM => None,
            n if usize::from(n) <= MAX_ISSUERS => {
                let (keys, _) = take(33 * usize::from(n))?.as_chunks::<33>();
                Some(keys.iter().all(|key| matches!(key[0], 2 | 3)).then(|| keys.to_vec())?)
            }
            _ => return None,
        };
        let told = Self { mode, transmissions_256, tariff, free, plain, software, issuers };
        rest.iter().all(|b| *b == 0).then_some(told)
    }

    /// Appends it, in at most `room` bytes: what finds no room is left out, the issuers first.
    fn write(&self, room: usize, out: &mut Vec<u8>) {
        let end = out.len().saturating_add(room);
        out.extend_from_slice(&self.transmissions_256.to_le_bytes());
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let Self { tariff, free, plain, .. } = self;
        let allowances = [free.rate, free.burst, plain.rate, plain.burst].map(short);
        for number in [tariff.base_msat, tariff.per_kib_msat].iter().chain(&allowances) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // One byte is left for the issuers' number.
        let name = self.software.as_deref().map(str::as_bytes);
        let name = name.filter(|name| name.len() <= MOST_SOFTWARE);
        match name.filter(|name| out.len() + 1 + name.len() < end) {
            Some(name) => {
                out.push(name.len() as u8);
                out.extend_from_slice(name);
            }
            None => out.push(NO_ROOM),
        }
        let keys = self.issuers.as_deref().filter(|keys| keys.len() <= MAX_ISSUERS);
        match keys.filter(|keys| out.len() + 1 + 33 * keys.len() <= end) {
            Some(keys) => {
                out.push(keys.len() as u8);
                out.extend_from_slice(keys.as_flattened());
            }
            None => out.push(NO_ROOM),
        }
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// A probe whose data have `len` bytes, [`LEAST`] to [`MOST`].
pub(crate) fn write_probe(magic: Magic, nonce: u64, len: usize) -> Vec<u8> {
    let mut data = vec![PROBE, 0];
    data.extend_from_slice(&nonce.to_le_bytes());
    padded(magic, data, len)
}

/// The answer to a probe whose data have `len` bytes.
pub(crate) fn write_answer(magic: Magic, nonce: u64, len: usize, told: &Told) -> Vec<u8> {
    let mut data = vec![ANSWER, told.mode as u8];
    data.extend_from_slice(&nonce.to_le_bytes());
    told.write(len.saturating_sub(PROBE_LEN), &mut data);
    padded(magic, data, len)
}

fn padded(magic: Magic, mut data: Vec<u8>, len: usize) -> Vec<u8> {
    data.resize(len.clamp(LEAST, MOST), 0);
    let mut out = Vec::new();
    write(magic, &data, &mut out);
    out
}

/// Appends a message with such data, whatever they are; at most 65,535 bytes.
pub(crate) fn write(magic: Magic, data: &[u8], out: &mut Vec<u8>) {
    let mut payload = vec![IDENTIFIER.len() as u8];
    payload.extend_from_slice(IDENTIFIER);
    match u8::try_from(data.len()) {
        Ok(short @ ..0xfd) => payload.push(short),
        _ => {
            payload.push(0xfd);
            payload.extend_from_slice(&(data.len() as u16).to_le_bytes());
        }
    }
    payload.extend_from_slice(data);
    message::write(magic, "feature", &payload, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::Network;
    use blvm_mesh_core::policy::detect::{Scope, explain};
    use blvm_mesh_core::policy::{DetectedProtocol, OwnNetwork};
    use proptest::prelude::*;

    const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

    fn goes_free(payload: &[u8]) -> bool {
        let scope = Scope { own: OwnNetwork::new(Network::Regtest), ..Scope::default() };
        explain(payload, scope) == Ok(DetectedProtocol::BitcoinP2P)
    }

    fn told(software: usize, issuers: usize, transmissions_256: u16, number: u32) -> Told {
        let allowance = |n: u32| Allowance { rate: n.into(), burst: u64::from(n ^ 5) };
        Told {
            mode: MeshMode::PaymentGated,
            transmissions_256,
            tariff: Tariff { base_msat: number, per_kib_msat: !number },
            free: allowance(number),
            plain: allowance(number / 2),
            software: Some("~".repeat(software)),
            issuers: Some(vec![[2; 33]; issuers]),
        }
    }

    proptest! {
        #[test]
        fn an_answer_is_read_and_goes_free_and_is_as_long_as_its_probe(
            nonce: u64, len in LEAST..=MOST, software in 0..=MOST_SOFTWARE,
            issuers in 0..=MAX_ISSUERS, etx: u16, number: u32,
        ) {
            let probe = write_probe(MAGIC, nonce, len);
            prop_assert_eq!(Message::read(MAGIC, &probe), Some(Message::Probe { nonce, len }));
            let said = told(software, issuers, etx, number);
            let answer = write_answer(MAGIC, nonce, len, &said);
            prop_assert_eq!(answer.len(), probe.len());
            prop_assert!(goes_free(&probe) && goes_free(&answer));
            let Some(Message::Answer { nonce: back, told, .. }) = Message::read(MAGIC, &answer)
            else {
                return Err(TestCaseError::fail("it is not read"));
            };
            prop_assert_eq!(back, nonce);
            // What is there is right, and what there is room for is there.
            let room = len - LEAST;
            prop_assert_eq!(&told.software, &said.software.filter(|name| name.len() <= room));
            let room = room - told.software.as_ref().map_or(0, String::len);
            prop_assert_eq!(&told.issuers, &said.issuers.filter(|keys| 33 * keys.len() <= room));
            prop_assert_eq!((told.mode, told.tariff), (said.mode, said.tariff));
            prop_assert_eq!((told.free, told.plain), (said.free, said.plain));
            prop_assert_eq!(told.transmissions_256, etx);
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut data in prop::collection::vec(any::<u8>(), 0..600)) {
            for kind in [PROBE, ANSWER] {
                data.iter_mut().take(1).for_each(|byte| *byte = kind);
                let mut payload = Vec::new();
                write(MAGIC, &data, &mut payload);
                if let Some(Message::Probe { nonce, len }) = Message::read(MAGIC, &payload) {
                    prop_assert_eq!(write_probe(MAGIC, nonce, len), payload);
                }
            }
        }
    }

    /// The example with this title in the protocol's page.
    fn example(title: &str) -> Vec<u8> {
        let page = include_str!("../../../docs/PROTOCOL.md");
        let (_, block) = page.split_once(&format!("```hex {title}\n")).unwrap();
        let (block, _) = block.split_once("```").unwrap();
        hex::decode(block.replace('\n', "")).unwrap()
    }

    #[test]
    fn the_examples_of_the_page_are_as_written() {
        let probe = example("Probe");
        let len = 86;
        assert_eq!(Message::read(MAGIC, &probe), Some(Message::Probe { nonce: 7, len }));
        assert_eq!(write_probe(MAGIC, 7, len), probe);
        let told = Told {
            mode: MeshMode::PaymentGated,
            transmissions_256: 256,
            tariff: Tariff { base_msat: 1_000, per_kib_msat: 100 },
            free: Allowance { rate: 12_500_000, burst: 8_388_608 },
            plain: Allowance { rate: 262_144, burst: 8_388_608 },
            software: Some("blvm-mesh/0.1.0".into()),
            issuers: Some(vec![[2; 33]]),
        };
        let answer = example("Answer");
        assert_eq!(write_answer(MAGIC, 7, len, &told), answer);
        assert_eq!(Message::read(MAGIC, &answer), Some(Message::Answer { nonce: 7, len, told }));
    }

    #[test]
    fn what_is_changed_or_carries_something_is_no_message() {
        let said = told(10, 2, 256, 7);
        let good = [write_probe(MAGIC, 7, 100), write_answer(MAGIC, 7, 400, &said)];
        for payload in good {
            assert!(Message::read(MAGIC, &payload).is_some());
            assert_eq!(Message::read([1, 2, 3, 4], &payload), None, "another network");
            for at in 0..payload.len() {
                let mut bad = payload.clone();
                bad[at] ^= 1;
                assert_eq!(Message::read(MAGIC, &bad), None, "byte {at}");
            }
            let more = [&payload[..], &payload].concat();
            assert_eq!(Message::read(MAGIC, &more), None);
            // The padding carries nothing, with a right check sum too.
            let mut data = payload[payload.len() - 90..].to_vec();
            data[89] = 1;
            let mut bad = Vec::new();
            write(MAGIC, &data, &mut bad);
            assert_eq!(Message::read(MAGIC, &bad), None);
        }
        let mut padded = write_probe(MAGIC, 7, 100)[HEADER_LEN + 6..].to_vec();
        padded[99] = 1;
        let mut bad = Vec::new();
        write(MAGIC, &padded, &mut bad);
        assert_eq!(Message::read(MAGIC, &bad), None);
    }
}
