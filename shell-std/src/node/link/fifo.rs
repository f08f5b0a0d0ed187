//! A queue of packets in contiguous memory: no allocation per packet.

use std::collections::VecDeque;

/// Smallest and largest chunk, in bytes; a larger packet gets a chunk of its own.
const SMALLEST: usize = 1024;
const CHUNK: usize = 144 * 1024;
/// Empty chunks that are kept for reuse.
const SPARES: usize = 4;
/// Before each packet: its length.
const PREFIX: usize = 4;

/// Packets in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    chunks: VecDeque<Vec<u8>>,
    /// Where the first packet begins in the first chunk.
    at: usize,
    bytes: usize,
    /// Bytes of all chunks.
    memory: usize,
    spares: Vec<Vec<u8>>,
}

impl Fifo {
    /// Bytes of the packets that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Releases the memory that is kept for reuse.
    pub(crate) fn trim(&mut self) {
        self.memory -= self.spares.drain(..).map(|spare| spare.capacity()).sum::<usize>();
        self.spares = Vec::new();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a packet that consists of two parts, at least one byte in all.
    pub(crate) fn push(&mut self, head: &[u8], tail: &[u8]) {
        let len = head.len() + tail.len();
        let Ok(prefix) = u32::try_from(len) else { return };
        if !self.fits(len) {
            let size = self.chunk_for(len);
            let fitting = self.spares.iter().position(|c| c.capacity() >= size);
            let chunk = fitting.map(|at| self.spares.swap_remove(at)).unwrap_or_else(|| {
                let chunk = Vec::with_capacity(size);
                self.memory += chunk.capacity();
                chunk
            });
            self.chunks.push_back(chunk);
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.extend_from_slice(&prefix.to_le_bytes());
            chunk.extend_from_slice(head);
            chunk.extend_from_slice(tail);
            self.bytes += len;
        }
    }

    fn fits(&self, len: usize) -> bool {
        self.chunks.back().is_some_and(|c| c.capacity() - c.len() >= PREFIX + len)
    }

    /// Size of a chunk for the next packet: as much again as waits, so that a short queue takes
    /// little.
    fn chunk_for(&self, len: usize) -> usize {
        self.bytes.clamp(SMALLEST, CHUNK).max(PREFIX + len)
    }

    /// Bytes of memory that another packet takes.
    pub(crate) fn cost(&self, len: usize) -> usize {
        let size = self.chunk_for(len);
        let has = self.fits(len) || self.spares.iter().any(|c| c.capacity() >= size);
        if has { 0 } else { size }
    }

    /// The oldest packet.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        let (prefix, rest) = self.chunks.front()?.get(self.at..)?.split_first_chunk::<PREFIX>()?;
        rest.get(..u32::from_le_bytes(*prefix) as usize)
    }

    /// Removes the oldest packet.
    pub(crate) fn pop(&mut self) {
        let Some(len) = self.front().map(<[u8]>::len) else { return };
        self.at += PREFIX + len;
        self.bytes -= len;
        if self.chunks.front().is_some_and(|chunk| self.at >= chunk.len()) {
            self.at = 0;
            let Some(mut chunk) = self.chunks.pop_front() else { return };
            chunk.clear();
            // The larger ones are kept: a busy queue needs those again.
            let has_room = self.spares.len() < SPARES;
            if let Some(small) = self.spares.iter_mut().min_by_key(|spare| spare.capacity())
                && (small.capacity()..=CHUNK).contains(&chunk.capacity())
                && !has_room
            {
                std::mem::swap(small, &mut chunk);
            }
            if has_room && chunk.capacity() <= CHUNK {
                self.spares.push(chunk);
            } else {
                self.memory -= chunk.capacity();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gives_back_what_was_put_in(
            steps in prop::collection::vec((any::<bool>(), 1usize..90_000, any::<u8>()), 1..60),
        ) {
            let (mut fifo, mut model) = (Fifo::default(), VecDeque::<Vec<u8>>::new());
            for (push, len, byte) in steps {
                if push {
                    let packet = vec![byte; len];
                    let (head, tail) = packet.split_at(len / 3);
                    let expected = fifo.memory() + fifo.cost(len);
                    fifo.push(head, tail);
                    prop_assert_eq!(fifo.memory(), expected);
                    model.push_back(packet);
                } else {
                    fifo.pop();
                    model.pop_front();
                }
                prop_assert_eq!(fifo.front(), model.front().map(Vec::as_slice));
                prop_assert_eq!(fifo.bytes(), model.iter().map(Vec::len).sum::<usize>());
                prop_assert_eq!(fifo.is_empty(), model.is_empty());
                let memory: usize = fifo.chunks.iter().chain(&fifo.spares).map(Vec::capacity).sum();
                prop_assert_eq!(memory, fifo.memory());
                prop_assert!(memory <= 2 * fifo.bytes() + 8 * CHUNK + PREFIX * model.len());
            }
            while !fifo.is_empty() {
                fifo.pop();
            }
            fifo.trim();
            prop_assert_eq!(fifo.memory(), 0);
        }
    }

    #[test]
    fn a_few_small_packets_take_little_memory() {
        let mut fifo = Fifo::default();
        for _ in 0..100 {
            fifo.push(&[1; 50], &[2; 50]);
            assert!(fifo.memory() <= 2 * fifo.bytes() + 2 * SMALLEST, "{fifo:?}");
        }
    }
}
