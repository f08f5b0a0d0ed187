//! What the two ends of a bridged connection tell each other: the first message of each datagram.
//!
//! It is a `feature` message (BIP 434) with the identifier `mesh`, so that it goes free wherever
//! Bitcoin's messages do, no relay need know of it, and a node that it reached by mistake would
//! ignore it. Numbers are little-endian.
//!
//! | size | field |
//! |---|---|
//! | 1 | kind: 1 connection, 2 transaction, 3 headers |
//! | 1 | flags |
//! | 8 | identifier, random: of the connection, the transaction's hand-over, or the question |
//! | 4 | number of the first message that follows, or of the next one where none does |
//! | 4 | number of the next message expected; all before it have come |
//! | 4 | bytes of further messages that find room |
//! | 8 each | up to 8 ranges of later messages that have come: first, and first no more |

use super::message::{self, HEADER_LEN, Magic};

/// Identifier of the feature.
const IDENTIFIER: &[u8; 4] = b"mesh";
/// Bytes of its data without ranges.
const FIXED: usize = 22;
/// Most ranges.
pub(crate) const MOST_RANGES: usize = 8;
/// Bytes of the largest control message.
pub(crate) const MAX_LEN: usize = HEADER_LEN + 1 + 4 + 1 + FIXED + 8 * MOST_RANGES;

/// What a datagram is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Messages of a connection.
    Connection,
    /// A transaction to pass on, or an answer to one.
    Transaction,
    /// A question for block headers, or an answer to one.
    Headers,
}

/// The flags of a control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    /// The sender has not heard from the other end yet: a new connection.
    pub(crate) open: bool,
    /// Behind the messages of this datagram there are no more.
    pub(crate) end: bool,
    /// The sender knows no such connection, or gives it up.
    pub(crate) reset: bool,
    /// An answer is asked for.
    pub(crate) probe: bool,
    /// The one message of this datagram is a part of a list: the next message goes on with it.
    pub(crate) part: bool,
}

impl Flags {
    fn bits(self) -> u8 {
        let Self { open, end, reset, probe, part } = self;
        [open, end, reset, probe, part].iter().rev().fold(0, |bits, on| bits << 1 | u8::from(*on))
    }

    /// `None`: a flag that is not known.
    fn from_bits(bits: u8) -> Option<Self> {
        let on = |place: u8| bits >> place & 1 == 1;
        (bits >> 5 == 0).then(|| Self {
            open: on(0),
            end: on(1),
            reset: on(2),
            probe: on(3),
            part: on(4),
        })
    }
}

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) kind: Kind,
    pub(crate) flags: Flags,
    pub(crate) id: u64,
    pub(crate) number: u32,
    pub(crate) ack: u32,
    pub(crate) window: u32,
    /// Later messages that have come, in order, none empty and no two touching.
    pub(crate) ranges: Vec<(u32, u32)>,
}

/// A number that no other node can guess, for what is to be answered; `None`: the system has no
/// random bytes.
pub(crate) fn random_id() -> Option<u64> {
    let mut id = [0; 8];
    let filled = getrandom::fill(&mut id);
    if let Err(error) = filled {
        tracing::warn!(%error, "there are no random bytes, without which others could answer");
        return None;
    }
    Some(u64::from_le_bytes(id))
}

impl Control {
    /// One that says nothing but a flag.
    pub(crate) fn of(kind: Kind, id: u64, flags: Flags) -> Self {
        Self { kind, flags, id, number: 0, ack: 0, window: 0, ranges: Vec::new() }
    }

    /// Appends the message.
    pub(crate) fn write(&self, magic: Magic, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(MAX_LEN);
        payload.push(IDENTIFIER.len() as u8);
        payload.extend_from_slice(IDENTIFIER);
        let ranges = self.ranges.get(..MOST_RANGES).unwrap_or(&self.ranges);
        payload.push((FIXED + 8 * ranges.len()) as u8);
        payload.push(match self.kind {
            Kind::Connection => 1,
            Kind::Transaction => 2,
            Kind::Headers => 3,
        });
        payload.push(self.flags.bits());
        payload.extend_from_slice(&self.id.to_le_bytes());
        for number in [self.number, self.ack, self.window] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        for (from, to) in ranges {
            payload.extend_from_slice(&from.to_le_bytes());
            payload.extend_from_slice(&to.to_le_bytes());
        }
        message::write(magic, "feature", &payload, out);
    }

    /// The control message at the beginning of a payload, and what follows it. `None`: the
    /// payload is none of a bridge.
    pub(crate) fn read(magic: Magic, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (first, rest) = message::split(bytes)?;
        if first.get(..4)? != magic || message::command(first) != "feature" {
            return None;
        }
        let payload = first.get(HEADER_LEN..)?;
        let (head, mut data) = payload.split_at_checked(6)?;
        let (len, named) = (head.last()?, head.get(1..5)?);
        let ranges = data.len().checked_sub(FIXED)?;
        if head.first() != Some(&4) || named != IDENTIFIER || usize::from(*len) != data.len() {
            return None;
        }
        if !ranges.is_multiple_of(8) || ranges / 8 > MOST_RANGES {
            return None;
        }
        let mut take = |n| {
            let (field, after) = data.split_at_checked(n)?;
            data = after;
            Some(field)
        };
        let kind = match take(1)? {
            [1] => Kind::Connection,
            [2] => Kind::Transaction,
            [3] => Kind::Headers,
            _ => return None,
        };
        let flags = Flags::from_bits(*take(1)?.first()?)?;
        let id = u64::from_le_bytes(take(8)?.try_into().ok()?);
        let mut number = || Some(u32::from_le_bytes(take(4)?.try_into().ok()?));
        let (first, ack, window) = (number()?, number()?, number()?);
        let mut read = Vec::with_capacity(ranges / 8);
        let mut least = ack;
        for _ in 0..ranges / 8 {
            let (from, to) = (number()?, number()?);
            if from <= least || to <= from {
                return None;
            }
            least = to;
            read.push((from, to));
        }
        Some((Self { kind, flags, id, number: first, ack, window, ranges: read }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::Network;
    use blvm_mesh_core::policy::DetectedProtocol;
    use blvm_mesh_core::policy::detect::{Scope, explain};
    use proptest::prelude::*;

    const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

    proptest! {
        #[test]
        fn what_is_written_is_read_and_goes_free(
            bits in 0..32u8, id: u64, number: u32, ack in 0..1_000_000u32, window: u32,
            steps in prop::collection::vec((1..1000u32, 1..1000u32), 0..=MOST_RANGES),
            tail in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut at = ack;
            let ranges = steps.iter().map(|(gap, len)| {
                let from = at + gap;
                at = from + len;
                (from, at)
            }).collect();
            let flags = Flags::from_bits(bits).unwrap();
            let control = Control { kind: Kind::Connection, flags, id, number, ack, window, ranges };
            let mut out = Vec::new();
            control.write(MAGIC, &mut out);
            prop_assert!(out.len() <= MAX_LEN);
            let scope = Scope {
                own: blvm_mesh_core::policy::OwnNetwork::new(Network::Regtest),
                ..Scope::default()
            };
            prop_assert_eq!(explain(&out, scope), Ok(DetectedProtocol::BitcoinP2P));
            let len = out.len();
            out.extend_from_slice(&tail);
            let (read, rest) = Control::read(MAGIC, &out).unwrap();
            prop_assert_eq!(&read, &control);
            prop_assert_eq!(rest, &tail[..]);
            prop_assert!(Control::read(MAGIC, &out[..len - 1]).is_none());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = Vec::new();
            message::write(MAGIC, "feature", &bytes, &mut whole);
            if let Some((read, _)) = Control::read(MAGIC, &whole) {
                let mut again = Vec::new();
                read.write(MAGIC, &mut again);
                prop_assert_eq!(again, whole);
            }
        }
    }
}
