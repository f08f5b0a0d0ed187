//! One direction of a stream at its sender: bytes that are not yet acknowledged, and which of them
//! are to be sent.

use super::ranges::Ranges;
use alloc::collections::VecDeque;

/// A piece to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) fin: bool,
}

/// The end of a stream, or its beginning, which a piece without bytes may have to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Not,
    Due,
    Sent,
    Acked,
}

/// What an end sends on a stream.
#[derive(Debug)]
pub(super) struct SendStream {
    /// Bytes from `base` on.
    buffer: VecDeque<u8>,
    /// All before is acknowledged.
    base: u64,
    /// From here on nothing was sent.
    next: u64,
    /// The peer takes nothing from here on.
    limit: u64,
    /// Lost.
    again: Ranges,
    /// Acknowledged behind `base`.
    acked: Ranges,
    begin: Mark,
    fin: Mark,
    reset: Option<(u32, Mark)>,
}

impl SendStream {
    /// One that the peer is to hear of, if this end opens it.
    pub(super) fn new(limit: u64, opens: bool) -> Self {
        Self {
            buffer: VecDeque::new(),
            base: 0,
            next: 0,
            limit,
            again: Ranges::default(),
            acked: Ranges::default(),
            begin: if opens { Mark::Due } else { Mark::Not },
            fin: Mark::Not,
            reset: None,
        }
    }

    /// Bytes that are kept.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the application may write.
    pub(super) fn is_open(&self) -> bool {
        self.fin == Mark::Not && self.reset.is_none()
    }

    /// Takes up to `room` bytes; how many it took.
    pub(super) fn write(&mut self, data: &[u8], room: usize) -> usize {
        let taken = data.get(..room).unwrap_or(data);
        self.buffer.extend(taken);
        taken.len()
    }

    /// No more bytes come.
    pub(super) fn finish(&mut self) {
        if self.is_open() {
            self.fin = Mark::Due;
        }
    }

    /// Gives the stream up. False if that was done before, or all of it has arrived.
    pub(super) fn reset(&mut self, code: u32) -> bool {
        if self.reset.is_some() || self.is_done() {
            return false;
        }
        self.reset = Some((code, Mark::Due));
        (self.buffer, self.again, self.acked) = Default::default();
        true
    }

    /// Reason and size of a stream given up.
    pub(super) fn reset_told(&mut self) -> Option<(u32, u64)> {
        let (code, mark) = self.reset.as_mut()?;
        *mark = Mark::Sent;
        Some((*code, self.next))
    }

    /// The peer knows that the stream was given up, or does not.
    pub(super) fn on_reset(&mut self, arrived: bool) {
        if let Some((_, mark)) = self.reset.as_mut().filter(|(_, mark)| *mark == Mark::Sent) {
            *mark = if arrived { Mark::Acked } else { Mark::Due };
        }
    }

    /// Whether the peer is to be told that the stream was given up.
    pub(super) fn reset_is_due(&self) -> bool {
        self.reset.is_some_and(|(_, mark)| mark == Mark::Due)
    }

    /// The peer takes bytes up to `limit`.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Whether there is something to send that may be sent.
    pub(super) fn has_piece(&self) -> bool {
        self.reset.is_none()
            && (!self.again.is_empty()
                || self.next < self.end().min(self.limit)
                || self.begin == Mark::Due
                || (self.fin == Mark::Due && self.next == self.end()))
    }

    /// Whether all has arrived: nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        match self.reset {
            Some((_, mark)) => mark == Mark::Acked,
            None => self.fin == Mark::Acked && self.base == self.end(),
        }
    }

    /// The next piece of at most `most` bytes, which counts as sent: lost bytes first.
    pub(super) fn next_piece(&mut self, most: usize) -> Option<Piece> {
        if !self.has_piece() {
            return None;
        }
        let end = self.end();
        let most = most as u64;
        let (from, to) = match self.again.first() {
            Some(lost) => (lost.start, lost.end.min(lost.start.saturating_add(most))),
            None => {
                let most = self.next.saturating_add(most);
                (self.next, end.min(self.limit).min(most).max(self.next))
            }
        };
        let fin = to == end && self.fin == Mark::Due;
        if from == to && !fin && self.begin != Mark::Due {
            return None;
        }
        self.again.remove(from..to);
        self.next = self.next.max(to);
        if fin {
            self.fin = Mark::Sent;
        }
        if self.begin == Mark::Due {
            self.begin = Mark::Sent;
        }
        Some(Piece { offset: from, len: usize::try_from(to - from).unwrap_or(0), fin })
    }

    /// Copies the bytes of a piece.
    pub(super) fn copy(&self, offset: u64, out: &mut [u8]) {
        let from = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let (front, back) = self.buffer.as_slices();
        let in_front = front.get(from..).unwrap_or_default();
        let (first, second) = out.split_at_mut(out.len().min(in_front.len()));
        first.copy_from_slice(in_front.get(..first.len()).unwrap_or_default());
        let from = from.saturating_sub(front.len());
        if let Some(rest) = back.get(from..).and_then(|rest| rest.get(..second.len())) {
            second.copy_from_slice(rest);
        }
    }

    /// A piece has arrived.
    pub(super) fn on_acked(&mut self, piece: Piece) {
        if self.begin != Mark::Not {
            self.begin = Mark::Acked;
        }
        if piece.fin {
            self.fin = Mark::Acked;
        }
        if self.reset.is_some() {
            return;
        }
        let end = piece.offset.saturating_add(piece.len as u64).min(self.next);
        let from = piece.offset.max(self.base);
        if from >= end {
            return;
        }
        // Where the piece was taken for lost before.
        self.again.remove(from..end);
        if from > self.base {
            self.acked.insert(from..end);
            return;
        }
        let end = self.acked.take_below(end);
        let count = usize::try_from(end.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.buffer.drain(..count.min(self.buffer.len()));
        self.base = end;
    }

    /// A piece is to be sent again, but for what has arrived in another packet.
    pub(super) fn on_lost(&mut self, piece: Piece) {
        if self.reset.is_some() {
            return;
        }
        if self.begin == Mark::Sent {
            self.begin = Mark::Due;
        }
        if piece.fin && self.fin == Mark::Sent {
            self.fin = Mark::Due;
        }
        let end = piece.offset.saturating_add(piece.len as u64).min(self.next);
        let from = piece.offset.max(self.base);
        for gap in self.acked.gaps(from..end) {
            self.again.insert(gap);
        }
    }

    fn end(&self) -> u64 {
        self.base.saturating_add(self.buffer.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::vec::Vec;

    fn piece(offset: u64, len: usize, fin: bool) -> Option<Piece> {
        Some(Piece { offset, len, fin })
    }

    #[test]
    fn a_stream_from_its_opening_to_its_end() {
        let mut stream = SendStream::new(8, true);
        assert_eq!(stream.next_piece(100), piece(0, 0, false));
        assert_eq!(stream.next_piece(100), None);
        stream.on_lost(Piece { offset: 0, len: 0, fin: false });
        assert_eq!(stream.write(b"0123456789", 9), 9);
        assert_eq!(stream.next_piece(5), piece(0, 5, false));
        assert_eq!(stream.next_piece(5), piece(5, 3, false));
        assert!(!stream.has_piece(), "the credit is used up");
        stream.set_limit(20);
        stream.finish();
        assert!(!stream.is_open());
        assert_eq!(stream.next_piece(5), piece(8, 1, true));
        stream.on_acked(Piece { offset: 5, len: 3, fin: false });
        stream.on_lost(Piece { offset: 0, len: 9, fin: true });
        assert_eq!(stream.next_piece(3), piece(0, 3, false));
        assert_eq!(stream.next_piece(9), piece(3, 2, false));
        assert_eq!(stream.next_piece(9), piece(8, 1, true));
        let mut out = [0; 2];
        stream.copy(3, &mut out);
        assert_eq!(&out, b"34");
        stream.on_acked(Piece { offset: 0, len: 5, fin: false });
        assert_eq!((stream.buffered(), stream.is_done()), (1, false));
        stream.on_acked(Piece { offset: 8, len: 1, fin: true });
        assert_eq!((stream.buffered(), stream.is_done()), (0, true));
    }

    #[test]
    fn a_stream_given_up_is_done_when_the_peer_knows() {
        let mut stream = SendStream::new(8, false);
        stream.write(b"01234", 5);
        stream.next_piece(3);
        assert!(stream.reset(7) && !stream.reset(8));
        assert!(stream.reset_is_due() && !stream.has_piece() && !stream.is_open());
        assert_eq!(stream.reset_told(), Some((7, 3)));
        stream.on_lost(Piece { offset: 0, len: 3, fin: false });
        assert!(!stream.has_piece());
        stream.on_reset(false);
        assert!(stream.reset_is_due());
        stream.reset_told();
        stream.on_reset(true);
        assert!(stream.is_done());
    }

    proptest! {
        /// Whatever is lost, acknowledged or both, the pieces that arrive are the bytes written.
        #[test]
        fn what_is_not_acknowledged_is_sent_again(
            data in any_vec(any::<u8>(), 0..600),
            steps in any_vec((0u8..6, 1usize..90, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut stream = SendStream::new(0, true);
            let (mut written, mut limit, mut got) = (0, 0, std::vec![None; data.len()]);
            let (mut under_way, mut ended) = (Vec::new(), false);
            for (what, number, index) in steps {
                match what {
                    0 => written += stream.write(&data[written..], number),
                    1 => stream.set_limit({ limit += number as u64; limit }),
                    2 | 3 => {
                        if let Some(piece) = stream.next_piece(number) {
                            let mut out = std::vec![0; piece.len];
                            stream.copy(piece.offset, &mut out);
                            let from = piece.offset as usize;
                            prop_assert_eq!(&out[..], &data[from..from + piece.len]);
                            prop_assert!(piece.offset + piece.len as u64 <= limit);
                            under_way.push(piece);
                        }
                    }
                    4 if !under_way.is_empty() => {
                        let piece: Piece = under_way.swap_remove(index.index(under_way.len()));
                        let from = piece.offset as usize;
                        got[from..from + piece.len].fill(Some(()));
                        ended |= piece.fin;
                        stream.on_acked(piece);
                    }
                    // Taken for lost: some arrive nevertheless.
                    5 if !under_way.is_empty() => {
                        let at = index.index(under_way.len());
                        stream.on_lost(under_way[at]);
                        if number % 2 == 0 {
                            under_way.swap_remove(at);
                        }
                    }
                    _ => {}
                }
            }
            // From now on everything arrives.
            written += stream.write(&data[written..], data.len());
            prop_assert_eq!(written, data.len());
            stream.finish();
            stream.set_limit(data.len() as u64);
            under_way.drain(..).for_each(|piece| stream.on_lost(piece));
            while let Some(piece) = stream.next_piece(50) {
                let from = piece.offset as usize;
                got[from..from + piece.len].fill(Some(()));
                ended |= piece.fin;
                stream.on_acked(piece);
            }
            prop_assert!(stream.is_done() && ended && got.iter().all(Option::is_some));
        }
    }
}
