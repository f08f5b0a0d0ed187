//! Memory for what came in on a link, on its way between the link's reader and the engine.

use super::memory::{Counted, Share};
use std::ops::Range;
use std::sync::Arc;

/// Buffers that go round between a link's reader and the engine.
pub(crate) const BUFFERS: usize = 2;

/// Memory for received bytes, reused.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    /// Where the bodies of decrypted frames lie.
    pub(crate) frames: Vec<Range<usize>>,
    /// What is more than every link has.
    counted: Counted,
}

impl Buffer {
    /// A buffer of so many bytes that every link has.
    pub(crate) fn new(len: usize, share: Arc<Share>) -> Self {
        Self { bytes: vec![0; len], frames: Vec::new(), counted: Counted::nothing(share) }
    }

    /// Makes the buffer larger, if the link may have the memory.
    pub(crate) fn try_grow(&mut self, len: usize) -> bool {
        let may = len <= self.bytes.len() || self.counted.try_set(len);
        if may {
            self.resize(len);
        }
        may
    }

    /// Makes the buffer larger, for bytes that the link has already.
    pub(crate) fn grow(&mut self, len: usize) {
        if len > self.bytes.len() {
            self.counted.set(len);
            self.resize(len);
        }
    }

    fn resize(&mut self, len: usize) {
        if let Some(more) = len.checked_sub(self.bytes.len()) {
            self.bytes.reserve_exact(more);
            self.bytes.resize(len, 0);
        }
    }
}
