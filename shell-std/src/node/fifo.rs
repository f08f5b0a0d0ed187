//! A queue of packets in contiguous memory: no allocation per packet.

use std::collections::VecDeque;

/// Bytes of a chunk; a larger packet gets one of its own.
const CHUNK: usize = 144 * 1024;
/// Empty chunks that are kept for reuse.
const SPARES: usize = 2;
/// Before each packet: its length.
const PREFIX: usize = 4;

/// Packets in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    chunks: VecDeque<Vec<u8>>,
    /// Where the first packet begins in the first chunk.
    at: usize,
    bytes: usize,
    spares: Vec<Vec<u8>>,
}

impl Fifo {
    /// Bytes of the packets that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a packet that consists of two parts, at least one byte in all.
    pub(crate) fn push(&mut self, head: &[u8], tail: &[u8]) {
        let len = head.len() + tail.len();
        let Ok(prefix) = u32::try_from(len) else { return };
        let need = PREFIX + len;
        let fits = self.chunks.back().is_some_and(|c| c.capacity() - c.len() >= need);
        if !fits {
            let spare = self.spares.pop().filter(|c| c.capacity() >= need);
            self.chunks.push_back(spare.unwrap_or_else(|| Vec::with_capacity(need.max(CHUNK))));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.extend_from_slice(&prefix.to_le_bytes());
            chunk.extend_from_slice(head);
            chunk.extend_from_slice(tail);
            self.bytes += len;
        }
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
            let used = self.chunks.pop_front().filter(|chunk| chunk.capacity() <= CHUNK);
            if let Some(mut chunk) = used.filter(|_| self.spares.len() < SPARES) {
                chunk.clear();
                self.spares.push(chunk);
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
                    fifo.push(head, tail);
                    model.push_back(packet);
                } else {
                    fifo.pop();
                    model.pop_front();
                }
                prop_assert_eq!(fifo.front(), model.front().map(Vec::as_slice));
                prop_assert_eq!(fifo.bytes(), model.iter().map(Vec::len).sum::<usize>());
                prop_assert_eq!(fifo.is_empty(), model.is_empty());
                let memory: usize = fifo.chunks.iter().map(Vec::capacity).sum();
                prop_assert!(memory <= 2 * fifo.bytes() + 4 * CHUNK + PREFIX * model.len());
            }
        }
    }
}
