//! Whole Stratum V2 frames and nothing after them (sv2-spec, section 3.2).

use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::stratum_messages;

/// Bit of the extension type that marks a message of one channel (3.2.1).
const CHANNEL_BIT: u16 = 0x8000;

/// One or more frames, each with exactly the fields of its message type.
pub(super) fn check(bytes: &[u8]) -> Result<(), Unrecognised> {
    let mut reader = Reader::new(bytes, 0);
    if !matches!(bytes, [0 | 1, 0 | 0x80, ..]) {
        return reader.fail(Reason::NoKnownProtocol);
    }
    while !reader.is_empty() {
        frame(&mut reader)?;
    }
    Ok(())
}

fn frame(reader: &mut Reader<'_>) -> Result<(), Unrecognised> {
    let start = *reader;
    let truncated = |_| Reason::FrameTruncated.at(start.at());
    let extension = reader.u16().map_err(truncated)?;
    let message = reader.u8().map_err(truncated)?;
    let length = reader.u24().map_err(truncated)?;
    let known = stratum_messages::lookup(extension & !CHANNEL_BIT, message);
    let Some(layout) = known else {
        let extension = extension & !CHANNEL_BIT;
        return start.fail(Reason::UnknownMessage { extension, message });
    };
    if layout.channel != (extension & CHANNEL_BIT != 0) {
        return start.fail(Reason::ChannelBit);
    }
    let payload_at = reader.at();
    let payload = reader.take(length as usize).map_err(|_| Reason::FrameLength.at(payload_at))?;
    let mut fields = Reader::new(payload, payload_at);
    layout.check(&mut fields)?;
    fields.finish()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{SEGWIT_TX, bytes as unhex};
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn frame(extension: u16, message: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = extension.to_le_bytes().to_vec();
        bytes.push(message);
        bytes.extend(&(payload.len() as u32).to_le_bytes()[..3]);
        bytes.extend(payload);
        bytes
    }

    const CHANNEL: u16 = 0x8000;

    /// Payloads put together from the tables of the specification. Each byte
    /// string is short, each sequence has one element, each option is there.
    fn good() -> Vec<(u16, u8, Vec<u8>)> {
        let n = |size: usize| std::vec![7; size];
        let short = || b"\x03abc".to_vec();
        let long = || b"\x03\x00abc".to_vec();
        let hash8 = || [&[1][..], &[7; 32]].concat();
        // Two outputs: 8 bytes of value, a script of one byte.
        let output = || [&1_000u64.to_le_bytes()[..], &[1, 0x51]].concat();
        let outputs = || [&[21, 0, 2][..], &output(), &output()].concat();
        let counted = || [&[1, 0, 0, 0, 10, 0][..], &output()].concat();
        let tx = unhex(SEGWIT_TX);
        let tx16 = [&(tx.len() as u16).to_le_bytes()[..], &tx].concat();
        let txs = [&[1, 0][..], &(tx.len() as u16).to_le_bytes(), &[0], &tx].concat();
        let setup = [
            &[1, 2, 0, 2, 0][..],
            &n(4),
            b"\x04host",
            &n(2),
            &short(),
            &short(),
            &short(),
            b"\x00",
        ];
        let share = || n(6 * 4);
        let worker = b"\x00\x02\x01\x00\x0aWorker_001".to_vec();
        std::vec![
            (0, 0x00, setup.concat()),
            (0, 0x01, [&[2, 0][..], &n(4)].concat()),
            (0, 0x02, [n(4), short()].concat()),
            (CHANNEL, 0x03, n(4)),
            (0, 0x04, [short(), n(2)].concat()),
            (0, 0x10, [n(4), short(), n(4), n(32)].concat()),
            (0, 0x11, [n(4), n(4), n(32), short(), n(4)].concat()),
            (0, 0x12, [n(4), short()].concat()),
            (0, 0x13, [n(4), short(), n(4), n(32), n(2)].concat()),
            (0, 0x14, [n(4), n(4), n(32), n(2), short(), n(4)].concat()),
            (CHANNEL, 0x15, [n(8), std::vec![1], n(4), n(4), n(32)].concat()),
            (CHANNEL, 0x16, [n(4), n(4), n(32)].concat()),
            (CHANNEL, 0x17, [n(4), short()].concat()),
            (CHANNEL, 0x18, [n(4), short()].concat()),
            (CHANNEL, 0x19, [n(4), short()].concat()),
            (CHANNEL, 0x1a, share()),
            (CHANNEL, 0x1b, [share(), short()].concat()),
            (CHANNEL, 0x1b, [share(), short(), worker].concat()),
            (
                CHANNEL,
                0x1b,
                [share(), short(), b"\x02\x00\x01\x0a\x00Worker_001".to_vec()].concat()
            ),
            (CHANNEL, 0x1c, n(4 + 4 + 4 + 8)),
            (CHANNEL, 0x1d, [n(8), short()].concat()),
            (CHANNEL, 0x1f, [n(8), std::vec![0], n(4), n(1), hash8(), long(), long()].concat()),
            (CHANNEL, 0x20, n(4 + 4 + 32 + 4 + 4)),
            (CHANNEL, 0x21, n(4 + 32)),
            (
                CHANNEL,
                0x22,
                [n(8), short(), n(4), n(32), n(12), short(), n(4), outputs(), n(4), hash8()]
                    .concat(),
            ),
            (CHANNEL, 0x23, n(12)),
            (CHANNEL, 0x24, [n(8), short()].concat()),
            (0, 0x25, [&n(4)[..], &[1, 0], &n(4)].concat()),
            (0, 0x50, [short(), n(4)].concat()),
            (0, 0x51, [n(4), short(), outputs()].concat()),
            (0, 0x55, [&n(4)[..], &[1, 0], &n(2)].concat()),
            (0, 0x56, [n(4), txs.clone()].concat()),
            (
                0,
                0x57,
                [&n(4)[..], &short(), &n(4), &long(), &long(), &[1, 0], &n(32), &long()].concat(),
            ),
            (0, 0x58, [n(4), short()].concat()),
            (0, 0x59, [n(4), short(), long()].concat()),
            (0, 0x60, [short(), n(32 + 16)].concat()),
            (0, 0x70, n(6)),
            (0, 0x71, [n(8), n(1), n(8), short(), n(12), counted(), n(4), hash8()].concat(),),
            (0, 0x72, n(8 + 32 + 4 + 4 + 32)),
            (0, 0x73, n(8)),
            (0, 0x74, [n(8), long(), txs].concat()),
            (0, 0x75, [n(8), short()].concat()),
            (0, 0x76, [n(20), tx16].concat()),
            (1, 0x00, [&n(2)[..], &[1, 0], &n(2)].concat()),
            (1, 0x01, [&n(2)[..], &[0, 0]].concat()),
            (1, 0x02, [&n(2)[..], &[1, 0], &n(2), &[0, 0]].concat()),
        ]
    }

    #[test]
    fn every_message_of_the_specification() {
        let good = good();
        for (extension, message, payload) in &good {
            let whole = frame(*extension, *message, payload);
            assert_eq!(check(&whole), Ok(()), "{message:#x}");
            let other_bit = frame(extension ^ CHANNEL, *message, payload);
            assert_eq!(check(&other_bit), Err(Reason::ChannelBit.at(0)), "{message:#x}");
            let unknown = frame(extension ^ 2, *message, payload);
            assert!(check(&unknown).is_err());
            // A byte more or less, with a frame length that says so.
            let mut more = payload.clone();
            more.push(7);
            assert!(check(&frame(*extension, *message, &more)).is_err(), "{message:#x}");
            if *message != 0x1b {
                for cut in 0..payload.len() {
                    let less = frame(*extension, *message, &payload[..cut]);
                    assert!(check(&less).is_err(), "{message:#x} {cut}");
                }
            }
            // And one that does not.
            for cut in 1..whole.len() {
                assert!(check(&whole[..cut]).is_err(), "{message:#x} {cut}");
            }
        }
        let all: Vec<_> = good.iter().flat_map(|(e, m, p)| frame(*e, *m, p)).collect();
        assert_eq!(check(&all), Ok(()));
        // The numbers that section 8 gives, and no others.
        let known = |e: u16, m: u8| good.iter().any(|(x, y, _)| (x & !CHANNEL, *y) == (e, m));
        for extension in 0..3 {
            for message in 0..=255 {
                let found = stratum_messages::lookup(extension, message).is_some();
                assert_eq!(found, known(extension, message), "{extension} {message:#x}");
            }
        }
    }

    #[test]
    fn fields_are_bounded() {
        let reason = |e, m, payload: &[u8]| check(&frame(e, m, payload)).unwrap_err().reason;
        let long = |length: u8| [&[7; 4][..], &[length], &std::vec![7; length.into()]].concat();
        assert_eq!(check(&frame(CHANNEL, 0x19, &long(32))), Ok(()));
        assert_eq!(reason(CHANNEL, 0x19, &long(33)), Reason::TooLong { length: 33, limit: 32 });
        assert_eq!(
            reason(0, 0x02, b"\x00\x00\x00\x00\x02a\n"),
            Reason::Value("error or reason code")
        );
        assert_eq!(reason(0, 0x01, &[3, 0, 0, 0, 0, 0]), Reason::Value("protocol version"));
        let mut setup = good().swap_remove(0).2;
        setup[0] = 3;
        assert_eq!(reason(0, 0x00, &setup), Reason::Value("sub-protocol"));
        let job = [&[7; 8][..], &[2], &[7; 8 + 32]].concat();
        assert_eq!(reason(CHANNEL, 0x15, &job), Reason::Value("length of an option"));
        let share = |tlv: &[u8]| [&[7; 24][..], &[0], tlv].concat();
        let name = |head: &[u8], length: usize| share(&[head, &std::vec![0xff; length]].concat());
        for (head, length) in [
            (b"\0\x02\x01\0\0", 0),
            (b"\0\x02\x01\0\x20", 32),
            (b"\x02\0\x01\0\0", 0),
            (b"\x02\0\x01\x20\0", 32),
        ] {
            assert_eq!(check(&frame(CHANNEL, 0x1b, &name(head, length))), Ok(()), "{head:?}");
            let more = reason(CHANNEL, 0x1b, &name(head, length + 1));
            assert_eq!(more, Reason::TrailingBytes, "{head:?}");
        }
        for (head, length) in [
            (b"\0\x03\x01\0\0", 0),
            (b"\x03\0\x01\0\0", 0),
            (b"\0\x02\x02\0\0", 0),
            (b"\x02\0\0\0\0", 0),
            (b"\x02\x02\x01\0\0", 0),
            (b"\0\x02\x01\0\x21", 33),
            (b"\x02\0\x01\x21\0", 33),
            // One number in each order.
            (b"\x02\0\x01\0\x20", 32),
            (b"\0\x02\x01\x20\0", 32),
            (b"\0\x02\x01\x01\x01", 257),
        ] {
            let why = reason(CHANNEL, 0x1b, &name(head, length));
            assert_eq!(why, Reason::Value("TLV after the last field"), "{head:?}");
        }
        // As `parsers_sv2` writes it: one share and an empty name.
        let written = unhex(&std::format!("00801b1e0000{}0200010000", "00".repeat(25)));
        assert_eq!(check(&written), Ok(()));
        // Something else in place of a transaction.
        let junk = [&[7; 20][..], &[60, 0], &[7; 60]].concat();
        assert!(check(&frame(0, 0x76, &junk)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), core: bool) {
            if core && bytes.len() > 2 {
                bytes[0] = 0;
                bytes[1] &= 0x80;
            }
            let _ = check(&bytes);
        }

        #[test]
        fn no_edited_frame_panics(
            which in prop::sample::select(good()),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut bytes = frame(which.0, which.1, &which.2);
            for (at, to) in edits {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            let _ = check(&bytes);
        }

        #[test]
        fn a_second_byte_of_1_or_2_is_not_stratum(
            mut bytes in prop::collection::vec(any::<u8>(), 2..200),
            second in 1u8..=2,
        ) {
            bytes[1] = second;
            prop_assert!(check(&bytes).is_err());
        }
    }
}
