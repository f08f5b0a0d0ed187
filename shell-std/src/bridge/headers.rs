//! What is asked and answered about block headers: Bitcoin's own messages behind a control message
//! (`control.rs`) that names the question.
//!
//! | from | message | meaning |
//! |---|---|---|
//! | node | `getheaders` | what follows the first of these blocks that you know? |
//! | node | `sendheaders` (BIP 130), behind it | tell me of new blocks for the next 90 minutes, too |
//! | gateway | `headers` | these; the control message's flag `end`: and these are all |
//!
//! A gateway tells of a new block with the identifier of the question that asked for it.

use super::control::{Control, Flags, Kind};
use super::message::{self, HEADER_LEN, Magic};
use crate::headers::MOST_IN_MESSAGE;
use bitcoin::block::Header;
use bitcoin::consensus::{Decodable, deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::GetHeadersMessage;
use bitcoin::{BlockHash, VarInt};

/// Bytes of a header in a message: a number of transactions, which is 0, follows it.
const ENTRY: usize = 81;
/// Bytes of any of these messages.
pub(crate) const MAX_LEN: usize = 2 * HEADER_LEN + 3 + MOST_IN_MESSAGE * ENTRY;
/// Blocks in a locator (Bitcoin Core, MAX_LOCATOR_SZ).
const MOST_LOCATED: usize = 101;
/// The version in a `getheaders`; nodes ignore it.
const VERSION: u32 = 70_016;

/// What a datagram about headers says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A question, and whether new blocks are to be told.
    Ask { question: GetHeadersMessage, follow: bool },
    /// Headers, each of which may follow the one before.
    Headers(Vec<Header>),
}

/// A question for what follows a locator's blocks.
pub(crate) fn question(mut locator: Vec<BlockHash>) -> GetHeadersMessage {
    // The last is the checkpoint.
    if let Some(last) = locator.last().copied().filter(|_| locator.len() > MOST_LOCATED) {
        locator.truncate(MOST_LOCATED - 1);
        locator.push(last);
    }
    let stop_hash = BlockHash::all_zeros();
    GetHeadersMessage { version: VERSION, locator_hashes: locator, stop_hash }
}

/// The datagram of a question.
pub(crate) fn ask(magic: Magic, id: u64, locator: Vec<BlockHash>, follow: bool) -> Vec<u8> {
    let mut out = Vec::new();
    Control::of(Kind::Headers, id, Flags::default()).write(magic, &mut out);
    message::write(magic, "getheaders", &serialize(&question(locator)), &mut out);
    if follow {
        message::write(magic, "sendheaders", &[], &mut out);
    }
    out
}

/// Headers that a datagram carries where so many bytes of messages find room; 1 at least.
pub(crate) fn fit(room: usize) -> usize {
    (room.saturating_sub(HEADER_LEN + 3) / ENTRY).clamp(1, MOST_IN_MESSAGE)
}

/// The datagram of an answer: as many of the headers as [`fit`]. `all`: there are no others.
pub(crate) fn answer(magic: Magic, id: u64, headers: &[Header], all: bool, room: usize) -> Vec<u8> {
    let some = headers.get(..fit(room)).unwrap_or(headers);
    let flags = Flags { end: all && some.len() == headers.len(), ..Flags::default() };
    let mut out = Vec::new();
    Control::of(Kind::Headers, id, flags).write(magic, &mut out);
    message::write(magic, "headers", &payload(some), &mut out);
    out
}

/// The payload of a `headers` message.
fn payload(headers: &[Header]) -> Vec<u8> {
    let mut payload = serialize(&VarInt::from(headers.len()));
    for header in headers {
        payload.extend_from_slice(&serialize(header));
        payload.push(0);
    }
    payload
}

/// A `headers` message by itself, as nodes send it.
pub(crate) fn plain(magic: Magic, headers: &[Header]) -> Vec<u8> {
    let mut out = Vec::new();
    message::write(magic, "headers", &payload(headers), &mut out);
    out
}

fn read(payload: &[u8]) -> Option<Vec<Header>> {
    let mut rest = payload;
    let count = VarInt::consensus_decode(&mut rest).ok()?.0;
    let (entries, left) = rest.as_chunks::<ENTRY>();
    let whole = left.is_empty() && entries.len() as u64 == count;
    let header = |entry: &[u8; ENTRY]| deserialize(entry.first_chunk::<80>()?).ok();
    entries.iter().map(header).collect::<Option<_>>().filter(|_| whole)
}

/// What the messages behind a control message of this kind say; `None`: nothing of this. What is
/// framed for another network counts for nothing.
pub(crate) fn said(magic: Magic, messages: &[u8]) -> Option<Said> {
    let (first, rest) = message::split(messages)?;
    first.strip_prefix(&magic)?;
    match message::command(first) {
        "getheaders" => {
            let question = deserialize(message::payload(first)).ok()?;
            let follow = match message::split(rest) {
                Some((second, [])) => message::command(second) == "sendheaders",
                _ => false,
            };
            (follow || rest.is_empty()).then_some(Said::Ask { question, follow })
        }
        "headers" if rest.is_empty() => read(message::payload(first)).map(Said::Headers),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

    fn chain(count: usize) -> Vec<Header> {
        let mut last = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
        let next = |_| {
            last = crate::headers::mine(last.block_hash(), last.time, last.bits, 1);
            last
        };
        (0..count).map(next).collect()
    }

    fn read_back(datagram: &[u8]) -> (u64, bool, Option<Said>) {
        let (control, messages) = Control::read(MAGIC, datagram).unwrap();
        assert_eq!(control.kind, Kind::Headers);
        (control.id, control.flags.end, said(MAGIC, messages))
    }

    #[test]
    fn what_is_said_is_understood_and_goes_free() {
        let locator: Vec<_> = (0..5).map(|n| BlockHash::from_byte_array([n; 32])).collect();
        for follow in [false, true] {
            let datagram = ask(MAGIC, 7, locator.clone(), follow);
            let question = question(locator.clone());
            assert_eq!(read_back(&datagram), (7, false, Some(Said::Ask { question, follow })));
            assert!(blvm_mesh_core::policy::detect::explain(&datagram, Default::default()).is_ok());
        }
        for (count, room, fitting) in
            [(0, 9_999, 0), (1, 9_999, 1), (2_000, 200_000, 2_000), (9, 0, 1), (9, 300, 3)]
        {
            for all in [false, true] {
                let headers = chain(count);
                let datagram = answer(MAGIC, 8, &headers, all, room);
                let expected = Some(Said::Headers(headers[..fitting].to_vec()));
                assert_eq!(read_back(&datagram), (8, all && fitting == count, expected));
                assert!(datagram.len() <= MAX_LEN + super::super::control::MAX_LEN);
                let detected =
                    blvm_mesh_core::policy::detect::explain(&datagram, Default::default());
                assert!(detected.is_ok(), "{detected:?}");
            }
        }
    }

    #[test]
    fn a_long_locator_keeps_the_checkpoint() {
        let hash = |n: u8| BlockHash::from_byte_array([n; 32]);
        let long = question((0..200).map(hash).collect()).locator_hashes;
        assert_eq!(
            (long.len(), long.first(), long.last()),
            (101, Some(&hash(0)), Some(&hash(199)))
        );
    }

    #[test]
    fn what_is_not_whole_or_of_another_network_is_nothing() {
        let datagram = answer(MAGIC, 8, &chain(3), true, 9_999);
        let (_, messages) = Control::read(MAGIC, &datagram).unwrap();
        assert!(said(MAGIC, messages).is_some());
        assert_eq!(said([1, 2, 3, 4], messages), None);
        assert_eq!(said(MAGIC, &[messages, messages].concat()), None);
        let mut lies = message::payload(messages).to_vec();
        lies[0] = 4;
        assert_eq!(read(&lies), None);
        assert_eq!(read(&lies[..lies.len() - 1]), None);
        let asked = ask(MAGIC, 8, Vec::new(), true);
        let (_, messages) = Control::read(MAGIC, &asked).unwrap();
        let mut more = messages.to_vec();
        message::write(MAGIC, "sendheaders", &[], &mut more);
        assert_eq!(said(MAGIC, &more), None);
    }

    proptest! {
        #[test]
        fn any_messages_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for command in ["getheaders", "headers", "sendheaders"] {
                let mut framed = Vec::new();
                message::write(MAGIC, command, &bytes, &mut framed);
                let _ = said(MAGIC, &framed);
            }
            let _ = said(MAGIC, &bytes);
        }
    }
}
