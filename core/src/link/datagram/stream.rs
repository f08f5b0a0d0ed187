//! A stretch of a lane's bytes in memory that is lent.

use crate::link::packet_buffer::{Full, PacketBuffer};

/// Bytes kept free before the first one, where a packet gets back the fields that were
/// left out.
pub(super) const HEADROOM: usize = 12;

/// The bytes of a lane from `base` on.
#[derive(Debug)]
pub(super) struct Stretch<B> {
    memory: B,
    /// Most bytes from `base` on.
    limit: usize,
    /// Place of `base` in the memory, once there is any; at least [`HEADROOM`].
    start: usize,
    /// Bytes in the memory, from its beginning.
    used: usize,
    base: u64,
    len: usize,
}

impl<B: PacketBuffer> Stretch<B> {
    /// Empty, for at most `limit` bytes. Fixed memory must hold [`HEADROOM`] more.
    pub(super) fn new(memory: B, limit: usize) -> Self {
        let mut stretch = Self { memory, limit, start: HEADROOM, used: 0, base: 0, len: 0 };
        stretch.reset();
        stretch
    }

    /// Forgets everything: offset 0 comes next.
    pub(super) fn reset(&mut self) {
        self.memory.clear();
        (self.start, self.used, self.base, self.len) = (HEADROOM, 0, 0, 0);
    }

    /// Offset of the first byte kept.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Offset behind the last byte kept.
    pub(super) fn end(&self) -> u64 {
        self.base.saturating_add(self.len as u64)
    }

    /// Bytes that may still be added to the end.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.len)
    }

    /// Puts bytes at an offset that is not before the base. What lies between the end
    /// and the offset is undefined until it is put.
    ///
    /// # Errors
    /// [`Full`]: nothing was changed that was kept.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Full> {
        if bytes.is_empty() {
            return Ok(());
        }
        let from = self.place(offset)?;
        let to = from.checked_add(bytes.len()).filter(|to| *to <= self.limit).ok_or(Full)?;
        if to > self.len {
            self.make_room(to)?;
            self.len = to;
        }
        let at = self.start + from;
        let target = self.memory.bytes_mut().get_mut(at..at + bytes.len()).ok_or(Full)?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    /// Bytes that are kept; empty if not all of them are.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> &mut [u8] {
        self.with_headroom(offset, len, 0)
    }

    /// The same with that many bytes before them, which may be overwritten if nobody
    /// needs what comes before the offset.
    pub(super) fn with_headroom(&mut self, offset: u64, len: usize, before: usize) -> &mut [u8] {
        let Ok(from) = self.place(offset) else { return &mut [] };
        if from.checked_add(len).is_none_or(|to| to > self.len) {
            return &mut [];
        }
        let at = self.start + from;
        let range = at.saturating_sub(before)..at + len;
        self.memory.bytes_mut().get_mut(range).unwrap_or_default()
    }

    /// Lets go of what is before an offset, which may be beyond the end.
    pub(super) fn advance(&mut self, to: u64) {
        let by = to.saturating_sub(self.base);
        let dropped = usize::try_from(by).unwrap_or(usize::MAX).min(self.len);
        self.start += dropped;
        self.len -= dropped;
        self.base = self.base.max(to);
    }

    /// Takes the first bytes out as if they had never been there: what follows gets
    /// their offsets.
    pub(super) fn take_out(&mut self, len: usize) {
        let len = len.min(self.len);
        self.start += len;
        self.len -= len;
    }

    /// Forgets the bytes from an offset on.
    pub(super) fn truncate(&mut self, end: u64) {
        if let Ok(len) = self.place(end) {
            self.len = self.len.min(len);
        }
    }

    fn place(&self, offset: u64) -> Result<usize, Full> {
        let from = offset.checked_sub(self.base).ok_or(Full)?;
        usize::try_from(from).map_err(|_| Full)
    }

    /// Makes the memory reach `len` bytes from the base on.
    fn make_room(&mut self, len: usize) -> Result<(), Full> {
        let all = self.limit.saturating_add(HEADROOM);
        let to = self.start.saturating_add(len);
        // Moving is paid for by as many bytes that were let go.
        let cheap = to > self.used && self.start - HEADROOM >= self.len;
        if self.len == 0 {
            if self.start > HEADROOM {
                self.memory.clear();
                (self.start, self.used) = (HEADROOM, 0);
            }
        } else if self.start > HEADROOM && (cheap || to > all) {
            let range = self.start..self.start + self.len;
            self.memory.bytes_mut().copy_within(range, HEADROOM);
            self.start = HEADROOM;
        }
        let to = self.start + len;
        while self.used < to {
            let more = (to - self.used).min(ZEROS.len());
            self.memory.append(ZEROS.get(..more).unwrap_or_default(), all)?;
            self.used += more;
        }
        Ok(())
    }
}

const ZEROS: [u8; 64] = [0; 64];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::vec::Vec;

    const LIMIT: usize = 100;

    /// All operations against a vector that keeps everything.
    fn like_a_vector<B: PacketBuffer>(memory: B, steps: &[(u8, usize, u8)]) {
        let (mut stretch, mut all, mut base) = (Stretch::new(memory, LIMIT), Vec::new(), 0);
        for (what, len, byte) in steps {
            match what % 3 {
                0 => {
                    let bytes: Vec<u8> = (0..*len).map(|i| byte.wrapping_add(i as u8)).collect();
                    let fits = all.len() - base + len <= LIMIT;
                    let end = stretch.end();
                    assert_eq!(stretch.put(end, &bytes), if fits { Ok(()) } else { Err(Full) });
                    if fits {
                        all.extend(bytes);
                    }
                }
                1 => {
                    base = (base + len).min(all.len());
                    stretch.advance(base as u64);
                }
                _ => {
                    let len = (*len).min(all.len() - base);
                    all.drain(base..base + len);
                    stretch.take_out(len);
                }
            }
            assert_eq!((stretch.base(), stretch.end()), (base as u64, all.len() as u64));
            assert_eq!(stretch.room(), LIMIT - (all.len() - base));
            assert_eq!(stretch.get(base as u64, all.len() - base), &all[base..]);
            if all.len() > base {
                let length = stretch.with_headroom(base as u64, 1, HEADROOM).len();
                assert_eq!(length, HEADROOM + 1);
            }
        }
    }

    #[test]
    fn holes_are_filled_later() {
        let mut stretch = Stretch::new(heapless::Vec::<u8, 20>::new(), 8);
        assert_eq!(stretch.put(6, b"gh"), Ok(()));
        assert_eq!(stretch.put(6, b"ghi"), Err(Full));
        assert_eq!(stretch.put(0, b"abcdef"), Ok(()));
        assert_eq!(stretch.get(0, 8), b"abcdefgh");
        assert!(stretch.get(0, 9).is_empty());
        stretch.advance(3);
        assert_eq!((stretch.put(2, b"x"), stretch.put(8, b"ijk")), (Err(Full), Ok(())));
        assert_eq!(stretch.get(3, 8), b"defghijk");
        stretch.advance(50);
        assert_eq!((stretch.base(), stretch.end(), stretch.room()), (50, 50, 8));
    }

    #[test]
    fn memory_that_is_smaller_than_the_limit_is_full_earlier() {
        let mut stretch = Stretch::new(heapless::Vec::<u8, 16>::new(), 100);
        assert_eq!((stretch.put(0, b"abcd"), stretch.put(4, b"e")), (Ok(()), Err(Full)));
        assert_eq!(stretch.get(0, 4), b"abcd");
    }

    proptest! {
        #[test]
        fn either_memory_is_like_a_vector(steps in any_vec((any::<u8>(), 0usize..40, any::<u8>()), 0..80)) {
            like_a_vector(heapless::Vec::<u8, { LIMIT + HEADROOM }>::new(), &steps);
            #[cfg(feature = "alloc")]
            like_a_vector(crate::link::packet_buffer::Growable::new(10), &steps);
        }
    }
}
