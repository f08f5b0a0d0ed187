//! What comes in on one lane: bytes in any order become packets in order.

use super::{
    packet::{self, BadPrefix, LEFT_OUT, MAX_PREFIX, Prefix},
    stream::Stretch,
    window::expand,
};
use crate::link::packet_buffer::{Full, PacketBuffer};

/// Most stretches of bytes that may wait for others before them. As many chunks may be
/// in flight, so an honest neighbour never needs more.
pub const STRETCHES: usize = super::outbound::IN_FLIGHT;

/// Why a neighbour's packet cannot be taken: the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum BadPacket {
    /// No packet begins as this one does.
    #[error("the neighbour sent bytes that begin no packet")]
    Prefix,
    /// The packet is longer than this node takes.
    #[error("the neighbour sent a packet of {len} bytes; this node takes {max}")]
    TooLong {
        /// Bytes of the packet.
        len: usize,
        /// Bytes that are taken at most.
        max: usize,
    },
}

impl From<BadPrefix> for BadPacket {
    fn from(BadPrefix: BadPrefix) -> Self {
        Self::Prefix
    }
}

/// Where a complete packet is.
#[derive(Debug)]
pub(super) struct Found {
    body: u64,
    prefix: Prefix,
}

/// One lane's receiving side.
#[derive(Debug)]
pub(super) struct Inbound<B> {
    stream: Stretch<B>,
    max_packet: usize,
    /// Offset of the first byte that is not there.
    missing: u64,
    /// Stretches that are there beyond it, apart from one another.
    later: heapless::Vec<(u64, u64), STRETCHES>,
    /// Up to where packets were given out.
    given: u64,
    /// Up to where the neighbour gave up.
    skip: u64,
}

impl<B: PacketBuffer> Inbound<B> {
    /// For packets of up to `max_packet` bytes, in memory that holds
    /// [`super::MEMORY_OVERHEAD`] more.
    pub(super) fn new(memory: B, max_packet: usize) -> Self {
        let stream = Stretch::new(memory, max_packet.saturating_add(MAX_PREFIX));
        Self { stream, max_packet, missing: 0, later: heapless::Vec::new(), given: 0, skip: 0 }
    }

    /// Begins anew at offset 0.
    pub(super) fn reset(&mut self) {
        self.stream.reset();
        self.later.clear();
        (self.missing, self.given, self.skip) = (0, 0, 0);
    }

    /// Whether bytes wait for others before them.
    pub(super) fn has_gap(&self) -> bool {
        !self.later.is_empty()
    }

    /// Takes bytes at an offset given by its lowest 16 bits.
    ///
    /// # Errors
    /// [`Full`]: they lie beyond what this side holds, and were not taken.
    pub(super) fn put(&mut self, offset: u16, bytes: &[u8]) -> Result<(), Full> {
        let offset = expand(self.missing, offset).ok_or(Full)?;
        let known = usize::try_from(self.missing.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(bytes) = bytes.get(known..).filter(|new| !new.is_empty()) else { return Ok(()) };
        let from = offset.max(self.missing);
        let to = from.checked_add(bytes.len() as u64).ok_or(Full)?;
        let joins = |&(a, b): &(u64, u64)| a <= to && b >= from;
        if from > self.missing && self.later.is_full() && !self.later.iter().any(joins) {
            return Err(Full);
        }
        self.stream.advance(self.given);
        self.stream.put(from, bytes)?;
        self.note(from, to);
        Ok(())
    }

    /// The neighbour gave up the packet whose bytes end before this offset.
    ///
    /// # Errors
    /// [`Full`]: there is no such offset.
    pub(super) fn skip(&mut self, to: u16) -> Result<(), Full> {
        self.skip = self.skip.max(expand(self.missing, to).ok_or(Full)?);
        Ok(())
    }

    /// Finds the next packet that is complete.
    ///
    /// # Errors
    /// [`BadPacket`]: the session must end.
    pub(super) fn find(&mut self) -> Result<Option<Found>, BadPacket> {
        self.stream.advance(self.given);
        let mut base = self.stream.base();
        let mut whole = self.whole(base)?;
        if whole.is_none() && self.skip > base {
            base = self.skip;
            self.stream.advance(base);
            self.given = base;
            let missing = base.max(self.missing);
            self.note(self.missing, missing);
            whole = self.whole(base)?;
        }
        Ok(whole.map(|prefix| Found { body: base + prefix.len as u64, prefix }))
    }

    /// The packet that was just found; empty if something was left out of it.
    pub(super) fn peek(&mut self, found: &Found) -> &[u8] {
        let len = if found.prefix.short { 0 } else { found.prefix.follows };
        self.stream.get(found.body, len)
    }

    /// Lends the packet that was just found, until anything else is asked for.
    pub(super) fn lend(&mut self, found: Found) -> &mut [u8] {
        let Found { body, prefix } = found;
        self.given = body + prefix.follows as u64;
        let before = if prefix.short { LEFT_OUT } else { 0 };
        let packet = self.stream.with_headroom(body, prefix.follows, before);
        if prefix.short {
            packet::complete(packet);
        }
        packet
    }

    /// What the packet at this offset begins with, if all of it is there.
    fn whole(&mut self, base: u64) -> Result<Option<Prefix>, BadPacket> {
        // A packet that goes on behind what the neighbour gave up has no end: what is there
        // belongs to the next one.
        let end = if self.skip > base { self.missing.min(self.skip) } else { self.missing };
        let have = usize::try_from(end.saturating_sub(base)).unwrap_or(usize::MAX);
        let prefix = Prefix::parse(self.stream.get(base, have.min(MAX_PREFIX)))?;
        let Some(prefix) = prefix else { return Ok(None) };
        let (len, max) = (prefix.packet_len(), self.max_packet);
        if len > max {
            return Err(BadPacket::TooLong { len, max });
        }
        Ok((have >= prefix.len + prefix.follows).then_some(prefix))
    }

    /// Notes that the bytes between two offsets are there. The caller knows that there
    /// is room.
    fn note(&mut self, mut from: u64, mut to: u64) {
        self.later.retain(|&(a, b)| {
            let apart = a > to || b < from;
            if !apart {
                (from, to) = (from.min(a), to.max(b));
            }
            apart
        });
        if from <= self.missing {
            self.missing = self.missing.max(to);
        } else if self.later.push((from, to)).is_err() {
            debug_assert!(false, "room was checked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::packet::Pieces, *};
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::{vec, vec::Vec};

    type Lane = Inbound<heapless::Vec<u8, 216>>;

    fn lane() -> Lane {
        Inbound::new(heapless::Vec::new(), 200)
    }

    fn bytes_of(packets: &[Vec<u8>]) -> Vec<u8> {
        packets
            .iter()
            .flat_map(|p| {
                Pieces::new(p, &[]).unwrap().iter().flatten().copied().collect::<Vec<_>>()
            })
            .collect()
    }

    fn take(lane: &mut Lane, got: &mut Vec<Vec<u8>>) {
        while let Some(found) = lane.find().unwrap() {
            got.push(lane.lend(found).to_vec());
        }
    }

    #[test]
    fn nothing_is_taken_beyond_the_window_or_out_of_too_many_gaps() {
        let mut lane = lane();
        assert_eq!(lane.put(200, &[1; 4]), Ok(()));
        assert_eq!(lane.put(201, &[1; 4]), Err(Full));
        assert_eq!(lane.put(40_000, &[1]), Err(Full));
        for gap in 1..STRETCHES as u16 {
            assert_eq!(lane.put(gap * 4, &[1]), Ok(()));
        }
        assert_eq!(lane.put(100, &[1]), Err(Full));
        // Bytes that join others or fill the first gap are always taken.
        assert_eq!((lane.put(5, &[1, 1, 1]), lane.put(0, &[21; 4])), (Ok(()), Ok(())));
        assert_eq!(lane.missing, 9);
        assert!(lane.has_gap());
    }

    #[test]
    fn what_no_neighbour_may_send_ends_the_session() {
        let mut a = lane();
        a.put(0, &[0]).unwrap();
        assert_eq!(a.find().unwrap_err(), BadPacket::Prefix);
        let mut b = lane();
        let long = bytes_of(&[vec![9; 201]]);
        b.put(0, &long[..2]).unwrap();
        assert_eq!(b.find().unwrap_err(), BadPacket::TooLong { len: 201, max: 200 });
    }

    #[test]
    fn a_packet_that_was_given_up_is_passed_over_and_those_before_it_are_not() {
        let (mut lane, mut got) = (lane(), Vec::new());
        let all = bytes_of(&[b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        lane.put(0, &all[..6]).unwrap();
        lane.put(8, &all[8..]).unwrap();
        lane.skip(8).unwrap();
        take(&mut lane, &mut got);
        assert_eq!(got, [b"one".to_vec(), b"three".to_vec()]);
        // Told again, it means nothing; what comes late means nothing either.
        lane.skip(8).unwrap();
        lane.put(6, &all[6..8]).unwrap();
        lane.put(14, &[3]).unwrap();
        lane.put(15, b"4").unwrap();
        take(&mut lane, &mut got);
        assert_eq!(got[2..], [b"4".to_vec()]);
        assert_eq!((lane.missing, lane.has_gap()), (16, false));
    }

    #[test]
    fn a_packet_that_was_given_up_half_way_does_not_end_with_the_next_one() {
        let (mut lane, mut got) = (lane(), Vec::new());
        let all = [vec![1; 5], vec![2; 40], vec![3; 50]].map(|packet| bytes_of(&[packet]));
        lane.put(0, &all[0]).unwrap();
        lane.put(6, &all[1][..20]).unwrap();
        // Both in one frame: the end of the second packet is never sent.
        lane.skip(26).unwrap();
        lane.put(26, &all[2]).unwrap();
        take(&mut lane, &mut got);
        assert_eq!(got, [vec![1; 5], vec![3; 50]]);
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_gives_the_packets(
            // With the largest chunk behind it, any of these is within the window.
            packets in any_vec(any_vec(any::<u8>(), 1..160), 1..30),
            sizes in any_vec(1usize..40, 1..20),
            picks in any_vec(0usize..8, 1..40),
        ) {
            let all = bytes_of(&packets);
            let (mut chunks, mut at, mut sizes) = (Vec::new(), 0, sizes.iter().cycle());
            while at < all.len() {
                let end = all.len().min(at + sizes.next().unwrap());
                chunks.push((at, &all[at..end]));
                at = end;
            }
            let (mut lane, mut got, mut picks) = (lane(), Vec::new(), picks.iter().cycle());
            // One of the first few goes next; every third time it stays to come again.
            for turn in 0.. {
                if chunks.is_empty() {
                    break;
                }
                let pick = picks.next().unwrap() % chunks.len().min(1 + turn % 8);
                let (at, bytes) = chunks[pick];
                let taken = lane.put(at as u16, bytes).is_ok();
                prop_assert!(taken || pick > 0, "the first one missing always fits");
                if taken && turn % 3 != 0 {
                    chunks.remove(pick);
                }
                take(&mut lane, &mut got);
            }
            prop_assert_eq!(got, packets);
            prop_assert!(!lane.has_gap());
        }

        #[test]
        fn anything_put_anywhere(steps in any_vec((any::<u16>(), any_vec(any::<u8>(), 1..100), any::<bool>()), 0..40)) {
            let mut lane = lane();
            for (at, bytes, skip) in steps {
                let _ = if skip { lane.skip(at) } else { lane.put(at % 300, &bytes) };
                while let Ok(Some(found)) = lane.find() {
                    prop_assert!(lane.lend(found).len() <= 200);
                }
            }
        }
    }
}
