//! Whole packets received on a link, and their memory, on its way between the link's reader and
//! the engine.

use super::memory::{Counted, Share};
use std::sync::Arc;

/// Buffers that circulate between a link's reader and the engine.
pub(crate) const BUFFERS: usize = 2;
/// Bytes of a buffer that a link has in any case.
pub(crate) const SMALL: usize = 2 * 1024;
/// Memory that a link keeps for the next packet that comes in parts.
pub(crate) const KEEP: usize = 128 * 1024;

/// Packets whose positions a link has memory for in any case, and those whose memory is kept.
const FEW_PLACES: usize = 64;
const KEPT_PLACES: usize = 4096;
/// Overhead of an allocation.
const OVERHEAD: usize = 64;

/// Received bytes, the whole packets among them, and packets that were joined from parts.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packets: Packets,
    /// Memory beyond what every link has.
    counted: Counted,
}

/// Where the packets of a buffer are, in the order in which they were complete.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    places: Vec<Place>,
    apart: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Among the buffer's bytes.
    Within { at: u32, len: u32 },
    /// In memory of its own.
    Apart(u32),
}

impl Packets {
    /// A packet among the buffer's bytes.
    pub(crate) fn push_within(&mut self, at: usize, len: usize) {
        // Buffers are shorter than that.
        let (Ok(at), Ok(len)) = (u32::try_from(at), u32::try_from(len)) else { return };
        self.places.push(Place::Within { at, len });
    }

    /// A packet in memory of its own.
    pub(crate) fn push_apart(&mut self, packet: Vec<u8>) {
        let Ok(number) = u32::try_from(self.apart.len()) else { return };
        self.places.push(Place::Apart(number));
        self.apart.push(packet);
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn memory(&self) -> usize {
        let places = self.places.capacity();
        let places = if places > FEW_PLACES { places * size_of::<Place>() } else { 0 };
        let apart = self.apart.iter().map(|packet| packet.capacity() + OVERHEAD);
        places + apart.sum::<usize>()
    }
}

impl Buffer {
    /// A buffer of the size that every link has.
    pub(crate) fn new(len: usize, share: Arc<Share>) -> Self {
        let counted = Counted::nothing(share);
        Self { bytes: vec![0; len], packets: Packets::default(), counted }
    }

    /// Bytes that it takes of the link's share.
    pub(crate) fn memory(&self) -> usize {
        self.with_bytes(self.bytes.len())
    }

    fn with_bytes(&self, len: usize) -> usize {
        let bytes = if len > SMALL { len } else { 0 };
        bytes + self.packets.memory()
    }

    /// Makes the buffer larger, if the link may have the memory.
    pub(crate) fn try_grow(&mut self, len: usize) -> bool {
        let may = len <= self.bytes.len() || self.counted.try_set(self.with_bytes(len));
        if may {
            self.resize(len);
        }
        may
    }

    /// Makes the buffer larger, for bytes that the link has already.
    pub(crate) fn grow(&mut self, len: usize) {
        if len > self.bytes.len() {
            self.counted.set(self.with_bytes(len));
            self.resize(len);
        }
    }

    fn resize(&mut self, len: usize) {
        if let Some(more) = len.checked_sub(self.bytes.len()) {
            self.bytes.reserve_exact(more);
            self.bytes.resize(len, 0);
        }
    }

    /// Counts what it holds.
    pub(crate) fn count(&mut self) {
        self.counted.set(self.memory());
    }

    /// Puts a copy of one packet into it and nothing else. Memory of a large packet is not kept
    /// for a small one.
    pub(crate) fn put(&mut self, packet: &[u8]) {
        self.clear();
        if packet.len() <= KEEP && self.bytes.len() > KEEP {
            self.bytes = Vec::new();
        }
        self.grow(packet.len());
        if let Some(room) = self.bytes.get_mut(..packet.len()) {
            room.copy_from_slice(packet);
            self.packets.push_within(0, packet.len());
        }
        self.count();
    }

    /// The packet with this number, from 0.
    pub(crate) fn packet(&mut self, number: usize) -> Option<&mut [u8]> {
        match *self.packets.places.get(number)? {
            Place::Within { at, len } => self.bytes.get_mut(at as usize..)?.get_mut(..len as usize),
            Place::Apart(number) => self.packets.apart.get_mut(number as usize).map(Vec::as_mut),
        }
    }

    /// Forgets the packets, and releases memory that is not worth keeping.
    pub(crate) fn clear(&mut self) {
        let Packets { places, apart } = &mut self.packets;
        places.clear();
        if places.capacity() > KEPT_PLACES {
            *places = Vec::new();
        }
        apart.retain(|memory| memory.capacity() <= KEEP);
        apart.truncate(BUFFERS);
        self.count();
    }

    /// Memory of joined packets, to be reused.
    pub(crate) fn take_spare(&mut self) -> Option<Vec<u8>> {
        let spare = self.packets.places.is_empty().then(|| self.packets.apart.pop())?;
        self.count();
        spare
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::link::memory::Budget;

    #[test]
    fn packets_come_out_as_they_were_put_in_and_their_memory_counts() {
        let share = Share::new(Budget::new(1 << 20), true);
        let mut buffer = Buffer::new(SMALL, share.clone());
        assert_eq!((share.used(), buffer.packets.is_empty()), (0, true));
        buffer.bytes[10..15].copy_from_slice(b"first");
        buffer.packets.push_within(10, 5);
        buffer.packets.push_apart(b"second".to_vec());
        buffer.packets.push_apart(vec![7; 2 * KEEP]);
        buffer.bytes[15..20].copy_from_slice(b"third");
        buffer.packets.push_within(15, 5);
        buffer.packets.push_within(SMALL, 1);
        buffer.count();
        assert_eq!(share.used(), 6 + 2 * KEEP + 2 * OVERHEAD);
        let packets: Vec<_> = (0..6).map(|n| buffer.packet(n).map(|p| p.to_vec())).collect();
        let some = |bytes: &[u8]| Some(bytes.to_vec());
        let large = some(&[7; 2 * KEEP]);
        assert_eq!(packets, [some(b"first"), some(b"second"), large, some(b"third"), None, None]);
        assert!(buffer.take_spare().is_none(), "it holds packets");
        buffer.clear();
        assert_eq!((share.used(), buffer.packets.len()), (6 + OVERHEAD, 0));
        assert_eq!(buffer.take_spare(), some(b"second"));
        assert_eq!((share.used(), buffer.take_spare()), (0, None));

        // However short packets are, the list of them is bounded and counted.
        (0..10 * KEPT_PLACES).for_each(|_| buffer.packets.push_within(0, 1));
        buffer.count();
        assert!(share.used() >= 10 * KEPT_PLACES * size_of::<Place>());
        buffer.clear();
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn a_buffer_grows_as_far_as_its_link_may_and_keeps_no_large_packets_memory() {
        let share = Share::new(Budget::new(400_000), true);
        let mut buffer = Buffer::new(0, share.clone());
        assert!(buffer.try_grow(200_000) && !buffer.try_grow(300_000));
        assert_eq!((buffer.bytes.len(), share.used()), (200_000, 200_000));
        buffer.put(&[1; 300_000]);
        assert_eq!((buffer.packet(0).map(|p| p.len()), share.used()), (Some(300_000), 300_000));
        buffer.put(&[2; 10]);
        assert_eq!((buffer.packets.len(), share.used()), (1, 0));
        assert_eq!(buffer.packet(0), Some(&mut [2; 10][..]));
    }
}
