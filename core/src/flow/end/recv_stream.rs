//! One direction of a stream at its receiver: bytes that came in, put in order.

use super::{ranges::Ranges, reason::Violation};
use alloc::collections::VecDeque;

/// Widest window of a stream, and most bytes of one that a sender keeps.
///
/// Offsets on the wire are modulo 2^24. A packet is taken only if all streams together have moved
/// on by less than `LATE` since it was sent, so a piece begins at most `LATE` and one window
/// below the highest byte, and at most one window above: less than 2^24 in all.
pub const MAX_WINDOW: u64 = 4 << 20;
/// See [`MAX_WINDOW`].
pub(super) const LATE: u64 = 4 << 20;
/// How far below the highest byte a piece may begin.
const BELOW: u64 = 10 << 20;
const PERIOD: u64 = 1 << 24;
const _: () = assert!(LATE + MAX_WINDOW + (1 << 20) < BELOW && BELOW + MAX_WINDOW < PERIOD);

/// What [`read`](super::End::read) gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing is there yet.
    Blocked,
    /// Nothing comes any more: it was all.
    Finished,
    /// The peer gave the stream up, for this reason.
    Reset(u32),
}

/// What an end receives on a stream.
#[derive(Debug)]
pub(super) struct RecvStream {
    /// Bytes from `read` to the highest; where there are gaps, zeros.
    buffer: VecDeque<u8>,
    /// The application has all before.
    read: u64,
    /// All before is there.
    ready: u64,
    /// Nothing came from here on.
    highest: u64,
    /// What came behind `ready`.
    beyond: Ranges,
    /// The peer may send up to here.
    limit: u64,
    window: u64,
    size: Option<u64>,
    reset: Option<u32>,
    /// The application wants no more.
    stopped: bool,
    /// The application knows that nothing comes any more.
    told: bool,
}

impl RecvStream {
    pub(super) fn new(window: u64) -> Self {
        Self {
            buffer: VecDeque::new(),
            read: 0,
            ready: 0,
            highest: 0,
            beyond: Ranges::default(),
            limit: window,
            window,
            size: None,
            reset: None,
            stopped: false,
            told: false,
        }
    }

    /// Takes a piece; how much further the stream goes by it.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub(super) fn put(&mut self, low: u32, data: &[u8], fin: bool) -> Result<u64, Violation> {
        let offset = self.restore(low);
        let end = offset.checked_add(data.len() as u64).ok_or(Violation::StreamCredit)?;
        let advance = self.reach(end, fin)?;
        if self.stopped || self.reset.is_some() {
            return Ok(advance);
        }
        let from = offset.max(self.ready);
        let skip = usize::try_from(from - offset).unwrap_or(usize::MAX);
        let Some(new) = data.get(skip..).filter(|new| !new.is_empty()) else {
            return Ok(advance);
        };
        self.place(usize::try_from(from - self.read).unwrap_or(usize::MAX), new);
        if from == self.ready {
            self.ready = self.beyond.take_below(end);
        } else {
            self.beyond.insert(from..end);
        }
        Ok(advance)
    }

    /// The peer gave the stream up after `size` bytes; how much further it goes by that.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub(super) fn on_reset(&mut self, code: u32, size: u64) -> Result<u64, Violation> {
        // What has all arrived is not taken back.
        let complete = self.size == Some(self.ready);
        let advance = self.reach(size, true)?;
        if self.reset.is_none() && !complete {
            self.reset = Some(code);
            (self.buffer, self.beyond) = Default::default();
        }
        Ok(advance)
    }

    /// The stream goes to `end`, where it ends if `fin`.
    fn reach(&mut self, end: u64, fin: bool) -> Result<u64, Violation> {
        if end > self.limit {
            return Err(Violation::StreamCredit);
        }
        let moved = self.size.is_some_and(|size| end > size || (fin && end != size));
        if moved || (fin && end < self.highest) {
            return Err(Violation::FinalSize);
        }
        if fin {
            self.size = Some(end);
        }
        let advance = end.saturating_sub(self.highest);
        self.highest = self.highest.max(end);
        Ok(advance)
    }

    /// The application wants no more. False if nothing more can come anyway.
    pub(super) fn stop(&mut self) -> bool {
        let more = self.reset.is_none() && self.size != Some(self.ready) && !self.stopped;
        self.stopped = true;
        (self.buffer, self.beyond) = Default::default();
        (self.read, self.ready) = (self.highest, self.highest);
        more
    }

    /// The bytes that are there, in order, or as many as lie side by side.
    pub(super) fn peek(&self) -> &[u8] {
        let there = usize::try_from(self.ready - self.read).unwrap_or(usize::MAX);
        let (front, _) = self.buffer.as_slices();
        front.get(..there).unwrap_or(front)
    }

    /// The application has taken so many bytes of what is there.
    pub(super) fn consume(&mut self, bytes: usize) {
        let there = usize::try_from(self.ready - self.read).unwrap_or(usize::MAX);
        let bytes = bytes.min(there).min(self.buffer.len());
        self.buffer.drain(..bytes);
        self.read = self.read.saturating_add(bytes as u64);
    }

    /// Copies bytes that are there.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Read {
        let mut count = 0;
        while let Some(room) = out.get_mut(count..).filter(|room| !room.is_empty()) {
            let there = self.peek();
            let taken = there.len().min(room.len());
            if taken == 0 {
                break;
            }
            if let (Some(to), Some(from)) = (room.get_mut(..taken), there.get(..taken)) {
                to.copy_from_slice(from);
            }
            self.consume(taken);
            count = count.saturating_add(taken);
        }
        if count > 0 { Read::Bytes(count) } else { self.ending() }
    }

    /// What there is when no bytes are.
    pub(super) fn ending(&mut self) -> Read {
        let ending = match self.reset {
            Some(code) => Read::Reset(code),
            None if self.size == Some(self.read) => Read::Finished,
            None => Read::Blocked,
        };
        self.told |= ending != Read::Blocked;
        ending
    }

    /// Whether the application finds something: bytes, or that nothing comes.
    pub(super) fn is_readable(&self) -> bool {
        !self.stopped
            && (self.ready > self.read || self.reset.is_some() || self.size == Some(self.read))
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.told || (self.stopped && self.size.is_some())
    }

    /// Gives the peer more credit when half of the window is used, and a window up to twice as
    /// large if `more` allows; by how much the window grew. None if there is no more credit.
    pub(super) fn extend(&mut self, more: u64) -> Option<u64> {
        if self.size.is_some() || self.stopped {
            return None;
        }
        if self.limit.saturating_sub(self.read) > self.window / 2 {
            return None;
        }
        let room = MAX_WINDOW.saturating_sub(self.window);
        let growth = more.min(self.window).min(room);
        self.window = self.window.saturating_add(growth);
        self.limit = self.read.saturating_add(self.window);
        Some(growth)
    }

    /// Where the stream must end at the latest.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// The offset with these low bits.
    fn restore(&self, low: u32) -> u64 {
        let base = self.highest.saturating_sub(BELOW);
        let from_base = u64::from(low).wrapping_sub(base) % PERIOD;
        base.saturating_add(from_base)
    }

    /// Puts bytes at a place of the buffer, which grows as is needed.
    fn place(&mut self, at: usize, data: &[u8]) {
        if at == self.buffer.len() {
            self.buffer.extend(data);
            return;
        }
        let end = at.saturating_add(data.len());
        if end > self.buffer.len() {
            self.buffer.resize(end, 0);
        }
        let (front, back) = self.buffer.as_mut_slices();
        let in_front = front.len().saturating_sub(at).min(data.len());
        let (first, second) = data.split_at(in_front);
        if let Some(room) = front.get_mut(at..).and_then(|room| room.get_mut(..first.len())) {
            room.copy_from_slice(first);
        }
        let at = at.saturating_sub(front.len());
        if let Some(room) = back.get_mut(at..).and_then(|room| room.get_mut(..second.len())) {
            room.copy_from_slice(second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::vec::Vec;

    fn all(stream: &mut RecvStream) -> Vec<u8> {
        let mut out = [0; 100];
        match stream.read(&mut out) {
            Read::Bytes(n) => out[..n].to_vec(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn pieces_are_put_in_order_and_the_end_is_kept() {
        let mut stream = RecvStream::new(100);
        assert_eq!(stream.put(3, b"def", false), Ok(6));
        assert_eq!((stream.is_readable(), stream.read(&mut [0; 9])), (false, Read::Blocked));
        assert_eq!(stream.put(6, b"ghi", true), Ok(3));
        assert_eq!(stream.put(1, b"bcde", false), Ok(0));
        assert_eq!(stream.put(0, b"ab", false), Ok(0));
        assert_eq!(all(&mut stream), b"abcdefghi");
        assert_eq!(stream.put(0, b"abc", false), Ok(0));
        assert_eq!((stream.read(&mut [0; 9]), stream.is_done()), (Read::Finished, true));
        for (offset, data, fin) in [(9, &b"j"[..], false), (0, b"abc", true), (8, b"ij", true)] {
            assert_eq!(stream.put(offset, data, fin), Err(Violation::FinalSize));
        }
        let mut stream = RecvStream::new(5);
        stream.put(0, b"abcd", false).unwrap();
        assert_eq!(stream.put(0, b"abc", true), Err(Violation::FinalSize));
        assert_eq!(stream.put(3, b"def", false), Err(Violation::StreamCredit));
        assert_eq!(stream.on_reset(7, 6), Err(Violation::StreamCredit));
        assert_eq!(stream.on_reset(7, 3), Err(Violation::FinalSize));
        assert_eq!((stream.on_reset(7, 5), stream.read(&mut [0; 9])), (Ok(1), Read::Reset(7)));
        assert!(stream.is_done());
    }

    #[test]
    fn what_has_all_arrived_is_not_taken_back() {
        let mut stream = RecvStream::new(100);
        stream.put(0, b"abc", true).unwrap();
        assert_eq!(stream.on_reset(1, 3), Ok(0));
        assert_eq!(all(&mut stream), b"abc");
        assert_eq!(stream.read(&mut [0; 9]), Read::Finished);
        // But that needs to be said first.
        let mut stream = RecvStream::new(100);
        stream.put(0, b"abc", false).unwrap();
        assert_eq!((stream.on_reset(1, 3), stream.read(&mut [0; 9])), (Ok(0), Read::Reset(1)));
    }

    #[test]
    fn who_stops_keeps_nothing_and_still_counts() {
        let mut stream = RecvStream::new(100);
        stream.put(2, b"cd", false).unwrap();
        assert!(stream.stop());
        assert_eq!(stream.put(4, b"ef", false), Ok(2));
        assert_eq!(
            (stream.buffer.len(), stream.is_readable(), stream.is_done()),
            (0, false, false)
        );
        assert_eq!(stream.put(6, b"", true), Ok(0));
        assert!(stream.is_done() && !stream.stop());
    }

    #[test]
    fn credit_follows_the_reader_and_the_window_doubles() {
        let mut stream = RecvStream::new(100);
        stream.put(0, &[1; 100], false).unwrap();
        stream.consume(49);
        assert_eq!(stream.extend(1_000), None);
        stream.consume(1);
        assert_eq!((stream.extend(1_000), stream.limit()), (Some(100), 250));
        stream.consume(50);
        assert_eq!((stream.extend(0), stream.limit()), (None, 250));
        stream.put(100, &[1; 50], true).unwrap();
        stream.consume(50);
        assert_eq!(stream.extend(0), None, "its end is known");
    }

    #[test]
    fn offsets_go_on_behind_24_bits() {
        let mut stream = RecvStream::new(MAX_WINDOW);
        let mut sent = 0u64;
        while sent < 5 * PERIOD / 2 {
            let piece = [(sent / 65_536) as u8; 65_536];
            let low = (sent % PERIOD) as u32;
            assert_eq!(stream.put(low, &piece, false), Ok(65_536));
            sent += 65_536;
            // One that is late by all that may be.
            let late = sent.saturating_sub(LATE + MAX_WINDOW) % PERIOD;
            assert_eq!(stream.put(late as u32, &piece, false), Ok(0));
            assert_eq!(stream.peek(), piece);
            stream.consume(65_536);
            stream.extend(0);
        }
        // As far ahead as the credit goes.
        let last = sent + MAX_WINDOW / 2;
        assert_eq!(stream.put((last % PERIOD) as u32, b"x", false), Ok(MAX_WINDOW / 2 + 1));
    }

    proptest! {
        #[test]
        fn any_order_gives_the_bytes_once(
            data in any_vec(any::<u8>(), 1..500),
            pieces in any_vec((any::<prop::sample::Index>(), 0usize..120), 0..60),
            reads in any_vec(1usize..60, 1..60),
        ) {
            let mut stream = RecvStream::new(500);
            let (mut got, mut reads) = (Vec::<u8>::new(), reads.iter().cycle());
            let last = (0, data.len());
            let pieces = pieces.iter().map(|(from, len)| (from.index(data.len()), *len));
            for (from, len) in pieces.chain([last]) {
                let end = (from + len).min(data.len());
                stream.put(from as u32, &data[from..end], end == data.len()).unwrap();
                let mut out = std::vec![0; *reads.next().unwrap()];
                if let Read::Bytes(n) = stream.read(&mut out) {
                    got.extend(&out[..n]);
                }
                prop_assert_eq!(&got[..], &data[..got.len()]);
            }
            let mut out = [0; 64];
            while let Read::Bytes(n) = stream.read(&mut out) {
                got.extend(&out[..n]);
            }
            prop_assert_eq!(&got, &data);
            prop_assert_eq!(stream.read(&mut [0]), Read::Finished);
        }
    }
}
