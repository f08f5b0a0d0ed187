//! Packets under way, in the order in which they were sent, and what was in them.
//!
//! Two queues whose fronts advance together: nothing is allocated per packet, and a packet is
//! found by its number at once.

use crate::time::Micros;
use alloc::collections::VecDeque;

/// Most packets that are remembered. When one more is sent, the oldest counts as lost.
pub(super) const MOST: usize = 1 << 16;

/// What must be sent again if its packet is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// A piece of a stream.
    Piece { id: u32, offset: u64, len: u32, fin: bool },
    /// How far the peer may go on with a stream.
    StreamCredit { id: u32 },
    /// A stream was given up.
    Reset { id: u32 },
    /// A stream is not wanted.
    Stop { id: u32 },
    /// How many streams the peer may open.
    Streams,
    /// The count or grant of bytes.
    Credit,
    /// How often the peer is to acknowledge.
    Frequency,
    /// Nothing.
    Ping,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing yet.
    Outstanding,
    /// It asks for no acknowledgement.
    Unasked,
    /// It arrived.
    Acked,
    /// It did not.
    Lost,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Packet {
    pub(super) at: Micros,
    /// What it counts for.
    pub(super) bytes: u64,
    pub(super) fate: Fate,
    /// Position of its frames among all frames ever sent.
    frames: u64,
    count: u32,
}

/// Packets from the oldest that is outstanding to the newest.
#[derive(Debug, Default)]
pub(super) struct SentPackets {
    packets: VecDeque<Packet>,
    first: u64,
    frames: VecDeque<Sent>,
    first_frame: u64,
    /// Frames that were put and belong to no packet yet.
    open: u32,
}

impl SentPackets {
    /// Number of the oldest packet that is remembered.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Number of the next packet.
    pub(super) fn next(&self) -> u64 {
        self.first.saturating_add(self.packets.len() as u64)
    }

    pub(super) fn is_full(&self) -> bool {
        self.packets.len() >= MOST
    }

    /// Notes a frame of the packet that is being written.
    pub(super) fn put(&mut self, frame: Sent) {
        self.frames.push_back(frame);
        self.open = self.open.saturating_add(1);
    }

    /// Whether the packet that is being written asks for an acknowledgement.
    pub(super) fn asks(&self) -> bool {
        self.open > 0
    }

    /// The packet was sent.
    pub(super) fn push(&mut self, at: Micros, bytes: u64) {
        let count = core::mem::take(&mut self.open);
        let end = self.first_frame.saturating_add(self.frames.len() as u64);
        let frames = end.saturating_sub(count.into());
        let fate = if count > 0 { Fate::Outstanding } else { Fate::Unasked };
        self.packets.push_back(Packet { at, bytes, fate, frames, count });
        self.trim();
    }

    /// A packet that is remembered.
    pub(super) fn get(&self, number: u64) -> Option<&Packet> {
        self.packets.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Decides a packet's fate; gives it as it was.
    pub(super) fn decide(&mut self, number: u64, fate: Fate) -> Option<Packet> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let packet = self.packets.get_mut(at)?;
        let before = *packet;
        packet.fate = fate;
        Some(before)
    }

    /// What was in a packet.
    pub(super) fn frames(&self, packet: &Packet) -> impl Iterator<Item = Sent> + '_ {
        let from = packet.frames.saturating_sub(self.first_frame);
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(self.frames.len());
        let to = from.saturating_add(packet.count as usize).min(self.frames.len());
        self.frames.range(from..to).copied()
    }

    /// Forgets the oldest packets up to the first that is outstanding.
    pub(super) fn trim(&mut self) {
        while let Some(oldest) = self.packets.front().filter(|p| p.fate != Fate::Outstanding) {
            let count = (oldest.count as usize).min(self.frames.len());
            self.frames.drain(..count);
            self.first_frame = self.first_frame.saturating_add(count as u64);
            self.packets.pop_front();
            self.first = self.first.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_was_in_a_packet_is_known_until_all_before_it_are_decided() {
        let mut sent = SentPackets::default();
        // An acknowledgement alone is forgotten at once.
        sent.push(0, 64);
        assert_eq!((sent.first(), sent.next()), (1, 1));
        for id in 1..=4 {
            for _ in 0..id {
                sent.put(Sent::Reset { id });
            }
            assert!(sent.asks());
            sent.push(id.into(), 100);
        }
        let frames = |sent: &SentPackets, number: u64| {
            sent.get(number).map(|packet| sent.frames(packet).collect::<Vec<_>>())
        };
        assert_eq!(frames(&sent, 0), None);
        for id in 1..=4 {
            let expected = std::vec![Sent::Reset { id }; id as usize];
            assert_eq!(frames(&sent, id.into()), Some(expected));
        }
        sent.decide(2, Fate::Acked);
        sent.trim();
        assert_eq!(sent.first(), 1);
        sent.decide(1, Fate::Lost);
        sent.trim();
        assert_eq!((sent.first(), sent.frames.len()), (3, 7));
        assert_eq!(frames(&sent, 4), Some(std::vec![Sent::Reset { id: 4 }; 4]));
        assert_eq!((frames(&sent, 2), sent.decide(2, Fate::Lost).is_none()), (None, true));
    }
}
