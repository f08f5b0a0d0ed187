//! Writes frames.

use super::frames::*;
use crate::time::Micros;

/// Bytes of a VARINT.
pub fn number_len(mut number: u64) -> usize {
    let mut len = 1;
    while let Some(rest) = (number >> 7).checked_sub(1) {
        (number, len) = (rest, len + 1);
    }
    len
}

/// Bytes before a stream's piece, with its length or, at the end of a packet, without.
pub fn stream_header_len(id: u32, with_length: bool) -> usize {
    let id = if id < SHORT_STREAMS { 0 } else { number_len(id.into()) };
    1 + id + OFFSET_LEN + if with_length { LENGTH_LEN } else { 0 }
}

/// Writes frames, each whole or not at all.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl<'o> Writer<'o> {
    /// Into this room.
    pub fn new(out: &'o mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.out.len().saturating_sub(self.at)
    }

    /// Writes a frame. False if it does not fit, or is an acknowledgement, for which there is
    /// [`ack`](Self::ack).
    pub fn put(&mut self, frame: &Frame<'_>) -> bool {
        let n = u64::from;
        match *frame {
            Frame::Stream { id, offset, fin, data } => {
                let room = self.stream(id, offset, fin, data.len(), true);
                room.map(|room| room.copy_from_slice(data)).is_some()
            }
            Frame::Ack { .. } => false,
            Frame::Ping => self.numbers(PING, &[]),
            Frame::Credit(bytes) => self.numbers(CREDIT, &[bytes]),
            Frame::AckFrequency { packets, delay } => {
                self.numbers(ACK_FREQUENCY, &[packets, delay / TIME_UNIT])
            }
            Frame::MaxStreams(streams) => self.numbers(MAX_STREAMS, &[n(streams)]),
            Frame::MaxStreamData { id, limit } => self.numbers(MAX_STREAM_DATA, &[n(id), limit]),
            Frame::ResetStream { id, code, size } => {
                self.numbers(RESET_STREAM, &[n(id), n(code), size])
            }
            Frame::StopSending { id, code } => self.numbers(STOP_SENDING, &[n(id), n(code)]),
            Frame::Close { cause, code } => self.numbers(CLOSE, &[n(cause), n(code)]),
        }
    }

    /// Writes an acknowledgement of ranges, the newest first, as many as fit; false if none does.
    pub fn ack(&mut self, delay: Micros, ranges: impl Iterator<Item = (u64, u64)> + Clone) -> bool {
        let mut all = ranges.clone();
        let Some((first, last)) = all.next() else { return false };
        let (delay, count) = (delay / TIME_UNIT, last.saturating_sub(first));
        let head = 1 + number_len(last) + number_len(delay) + number_len(count);
        // How many more there are takes one byte, as they are under 128.
        let Some(mut room) = self.room().checked_sub(head + 1) else { return false };
        let (mut more, mut before) = (0, first);
        let between = |before: u64, range: (u64, u64)| {
            (before.saturating_sub(range.1).saturating_sub(2), range.1.saturating_sub(range.0))
        };
        for range in all.take(0x7f) {
            let (gap, len) = between(before, range);
            let Some(left) = room.checked_sub(number_len(gap) + number_len(len)) else { break };
            (room, more, before) = (left, more + 1, range.0);
        }
        self.numbers(ACK, &[last, delay, count, more]);
        let mut before = first;
        for range in ranges.skip(1).take(more as usize) {
            let (gap, len) = between(before, range);
            self.number(gap);
            self.number(len);
            before = range.0;
        }
        true
    }

    /// Writes the header of a stream's piece and gives the room for its `len` bytes. Without its
    /// length it must be the last frame and fill the packet. None if it does not fit.
    pub fn stream(
        &mut self,
        id: u32,
        offset: u32,
        fin: bool,
        len: usize,
        with_length: bool,
    ) -> Option<&mut [u8]> {
        if self.room() < stream_header_len(id, with_length).checked_add(len)? {
            return None;
        }
        let length = u16::try_from(len).ok().filter(|_| with_length);
        if with_length && length.is_none() {
            return None;
        }
        let flags = if fin { FIN } else { 0 } | if with_length { LENGTH } else { 0 };
        self.byte(STREAM | flags | id.min(SHORT_STREAMS) as u8);
        if id >= SHORT_STREAMS {
            self.number(id.into());
        }
        let [a, b, c, _] = offset.to_le_bytes();
        for byte in [a, b, c].into_iter().chain(length.into_iter().flat_map(u16::to_le_bytes)) {
            self.byte(byte);
        }
        let room = self.out.get_mut(self.at..)?.get_mut(..len)?;
        self.at = self.at.saturating_add(len);
        Some(room)
    }

    fn numbers(&mut self, kind: u8, numbers: &[u64]) -> bool {
        let len = 1 + numbers.iter().map(|number| number_len(*number)).sum::<usize>();
        if self.room() < len {
            return false;
        }
        self.byte(kind);
        numbers.iter().for_each(|number| self.number(*number));
        true
    }

    fn number(&mut self, number: u64) {
        let (mut bytes, mut left, mut last) = ([0; 10], number, 0);
        let mut len = 0;
        for byte in bytes.iter_mut().rev() {
            *byte = (left & 0x7f) as u8 | last;
            (last, len) = (0x80, len + 1);
            let Some(rest) = (left >> 7).checked_sub(1) else { break };
            left = rest;
        }
        bytes.iter().skip(10 - len).for_each(|byte| self.byte(*byte));
    }

    fn byte(&mut self, byte: u8) {
        if let Some(room) = self.out.get_mut(self.at) {
            *room = byte;
            self.at += 1;
        }
    }
}
