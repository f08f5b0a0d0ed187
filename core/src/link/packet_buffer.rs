//! Memory in which a packet is put together from its fragments.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use heapless::vec::{VecInner, VecStorage};

/// The packet does not fit: it is longer than allowed, or the memory is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[error("the packet does not fit into the memory set aside for it")]
pub struct Full;

/// Memory for one packet in assembly.
pub trait PacketBuffer {
    /// Adds bytes to the end, where the whole stays within `limit` bytes. Memory
    /// that grows never takes more than `limit` either.
    ///
    /// # Errors
    /// [`Full`]: nothing was added.
    fn append(&mut self, bytes: &[u8], limit: usize) -> Result<(), Full>;

    /// What has been added since it was last cleared.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Forgets what it holds and gives back memory that it should not keep.
    fn clear(&mut self);
}

/// Memory of a fixed size, for boards. Its capacity is a limit of its own.
impl<S: VecStorage<u8> + ?Sized> PacketBuffer for VecInner<u8, usize, S> {
    fn append(&mut self, bytes: &[u8], limit: usize) -> Result<(), Full> {
        within(self.len(), bytes.len(), limit)?;
        self.extend_from_slice(bytes).map_err(|_| Full)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn clear(&mut self) {
        VecInner::clear(self);
    }
}

/// Memory that is lent.
impl<B: PacketBuffer + ?Sized> PacketBuffer for &mut B {
    fn append(&mut self, bytes: &[u8], limit: usize) -> Result<(), Full> {
        B::append(self, bytes, limit)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        B::bytes_mut(self)
    }

    fn clear(&mut self) {
        B::clear(self);
    }
}

/// Heap memory, for hosts: takes at most twice what has arrived.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, Default)]
pub struct Growable {
    bytes: Vec<u8>,
    keep: usize,
}

#[cfg(feature = "alloc")]
impl Growable {
    /// Empty; once cleared it keeps at most about `keep` bytes of memory for the
    /// next packet.
    pub const fn new(keep: usize) -> Self {
        Self { bytes: Vec::new(), keep }
    }

    /// What it holds, with its memory: it has none afterwards.
    pub(super) fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.bytes)
    }

    /// Keeps this memory for the next packet, if it may keep as much. It must hold nothing.
    pub(super) fn lend(&mut self, mut memory: Vec<u8>) {
        if memory.capacity() <= self.keep {
            memory.clear();
            self.bytes = memory;
        }
    }

    /// Gives back the memory that it keeps while it holds nothing.
    pub fn trim(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Bytes of memory held now.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(feature = "alloc")]
impl PacketBuffer for Growable {
    fn append(&mut self, bytes: &[u8], limit: usize) -> Result<(), Full> {
        let len = within(self.bytes.len(), bytes.len(), limit)?;
        if len > self.bytes.capacity() {
            let capacity = len.max(self.bytes.capacity().saturating_mul(2)).min(limit);
            let more = capacity.saturating_sub(self.bytes.len());
            self.bytes.try_reserve_exact(more).map_err(|_| Full)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > self.keep {
            self.bytes = Vec::new();
        }
    }
}

/// The length after adding, if it is within the limit.
fn within(len: usize, more: usize, limit: usize) -> Result<usize, Full> {
    len.checked_add(more).filter(|sum| *sum <= limit).ok_or(Full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_memory_holds_to_both_limits() {
        let mut buffer = heapless::Vec::<u8, 8>::new();
        assert_eq!(PacketBuffer::append(&mut buffer, &[1; 6], 6), Ok(()));
        assert_eq!(PacketBuffer::append(&mut buffer, &[2; 1], 6), Err(Full));
        assert_eq!(PacketBuffer::append(&mut buffer, &[2; 3], 100), Err(Full));
        assert_eq!(PacketBuffer::append(&mut buffer, &[2; 2], 100), Ok(()));
        assert_eq!(buffer.bytes_mut(), [1, 1, 1, 1, 1, 1, 2, 2]);
        assert_eq!(PacketBuffer::append(&mut buffer, &[3; 1], usize::MAX), Err(Full));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn growing_memory_follows_what_arrives_and_shrinks_again() {
        let mut buffer = Growable::new(100);
        for len in 1..=1000 {
            buffer.append(&[7], 1000).unwrap();
            assert!(buffer.memory() <= 2 * len && buffer.memory() <= 1000);
        }
        assert_eq!(buffer.append(&[7], 1000), Err(Full));
        assert_eq!(buffer.bytes_mut(), [7; 1000]);
        buffer.clear();
        assert_eq!((buffer.memory(), buffer.bytes_mut().len()), (0, 0));
        buffer.append(&[7; 100], 1000).unwrap();
        buffer.clear();
        assert_eq!((buffer.memory(), buffer.bytes_mut().len()), (100, 0));
    }
}
