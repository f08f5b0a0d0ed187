//! All streams of a flow: frames in and out.

use super::{
    Event,
    frames::{Frame, Writer, stream_header_len},
    reason::Violation,
    recovery::Outcome,
    send_stream::Piece,
    sent::{Sent, SentPackets},
    streams::{MOST_STREAMS, Streams},
};

/// A piece is not begun in less room than this behind other frames.
const SMALLEST_PIECE: usize = 24;

impl Streams {
    /// Takes a frame about a stream.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub(super) fn on_frame(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        let id = match *frame {
            Frame::Stream { id, .. }
            | Frame::ResetStream { id, .. }
            | Frame::StopSending { id, .. }
            | Frame::MaxStreamData { id, .. } => id,
            Frame::MaxStreams(streams) => {
                self.allow(streams);
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.open_by_frame(id)?;
        let Some(stream) = self.all.get_mut(&id) else { return Ok(()) };
        match *frame {
            Frame::Stream { offset, fin, data, .. } => {
                let advance = stream.recv.put(offset, data, fin)?;
                self.on_advance(id, advance);
            }
            Frame::ResetStream { code, size, .. } => {
                let advance = stream.recv.on_reset(code, size)?;
                self.on_advance(id, advance);
            }
            Frame::StopSending { code, .. } => self.on_stop(id, code),
            Frame::MaxStreamData { limit, .. } => {
                stream.send.set_limit(limit);
                self.make_ready(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// The application may find something new on a stream.
    fn on_advance(&mut self, id: u32, advance: u64) {
        self.received = self.received.saturating_add(advance);
        self.tell_readable(id);
        self.forget_if_done(id);
    }

    fn on_stop(&mut self, id: u32, code: u32) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        if stream.send.reset(code) {
            self.events.push_back(Event::Stopped { id, code });
            self.make_told(id);
            self.on_room(id);
        }
    }

    /// A frame is for this stream: it opens the peer's own, and those before it.
    fn open_by_frame(&mut self, id: u32) -> Result<(), Violation> {
        let number = id / 2;
        if self.is_ours(id) {
            return if number < self.opened() { Ok(()) } else { Err(Violation::UnknownStream) };
        }
        if number >= self.granted.min(MOST_STREAMS) {
            return Err(Violation::StreamLimit);
        }
        self.open_theirs(number + 1);
        Ok(())
    }

    /// What became of a frame that was sent.
    pub(super) fn on_outcome(&mut self, frame: Sent, outcome: Outcome) {
        let arrived = outcome == Outcome::Acked;
        match frame {
            Sent::Piece { id, offset, len, fin } => {
                let Some(stream) = self.all.get_mut(&id) else { return };
                let piece = Piece { offset, len: len as usize, fin };
                if arrived {
                    stream.send.on_acked(piece);
                    self.on_room(id);
                } else {
                    stream.send.on_lost(piece);
                    self.make_ready(id);
                }
            }
            Sent::Reset { id } => {
                let Some(stream) = self.all.get_mut(&id) else { return };
                stream.send.on_reset(arrived);
                if arrived {
                    self.on_room(id);
                } else {
                    self.make_told(id);
                }
            }
            Sent::StreamCredit { id } if !arrived => {
                let Some(stream) = self.all.get_mut(&id) else { return };
                stream.credit_due = true;
                self.make_told(id);
            }
            Sent::Stop { id } if !arrived => {
                let Some(stream) = self.all.get_mut(&id) else { return };
                stream.stop_due = stream.stop;
                self.make_told(id);
            }
            Sent::Streams if !arrived => self.streams_due = true,
            _ => {}
        }
    }

    /// Whether there is something to tell beside bytes.
    pub(super) fn has_news(&self) -> bool {
        self.streams_due || !self.told.is_empty()
    }

    /// Whether there are bytes to send.
    pub(super) fn has_pieces(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Writes what there is to tell, as far as it fits.
    pub(super) fn write_news(&mut self, out: &mut Writer<'_>, sent: &mut SentPackets) {
        if self.streams_due && out.put(&Frame::MaxStreams(self.granted)) {
            self.streams_due = false;
            sent.put(Sent::Streams);
        }
        while let Some(&id) = self.told.front() {
            if !self.write_news_of(id, out, sent) {
                return;
            }
            self.told.pop_front();
        }
    }

    /// False if not all of it fits.
    fn write_news_of(&mut self, id: u32, out: &mut Writer<'_>, sent: &mut SentPackets) -> bool {
        let Some(stream) = self.all.get_mut(&id) else { return true };
        // Three frames take less than this.
        if out.room() < 64 && !out.is_empty() {
            return false;
        }
        stream.in_told = false;
        if stream.send.reset_is_due()
            && let Some((code, size)) = stream.send.reset_told()
        {
            out.put(&Frame::ResetStream { id, code, size });
            sent.put(Sent::Reset { id });
        }
        if let Some(code) = stream.stop_due.take() {
            out.put(&Frame::StopSending { id, code });
            sent.put(Sent::Stop { id });
        }
        if core::mem::take(&mut stream.credit_due) {
            out.put(&Frame::MaxStreamData { id, limit: stream.recv.limit() });
            sent.put(Sent::StreamCredit { id });
        }
        true
    }

    /// Fills a packet with pieces of streams, a piece of each in turn.
    pub(super) fn write_pieces(&mut self, out: &mut Writer<'_>, sent: &mut SentPackets) {
        while let Some(&id) = self.ready.front() {
            if out.room() < SMALLEST_PIECE && !out.is_empty() {
                return;
            }
            let Some(most) = out.room().checked_sub(stream_header_len(id, false)) else { return };
            self.ready.pop_front();
            let Some(stream) = self.all.get_mut(&id) else { continue };
            stream.in_ready = false;
            let Some(piece) = stream.send.next_piece(most) else { continue };
            let more = stream.send.has_piece();
            // The last piece of a packet goes without its length.
            let with_length = (more || !self.ready.is_empty())
                && piece.len.saturating_add(stream_header_len(id, true)) <= out.room()
                && piece.len <= usize::from(u16::MAX);
            let offset = piece.offset as u32 & 0xff_ffff;
            if let Some(room) = out.stream(id, offset, piece.fin, piece.len, with_length) {
                stream.send.copy(piece.offset, room);
            }
            let len = u32::try_from(piece.len).unwrap_or(u32::MAX);
            sent.put(Sent::Piece { id, offset: piece.offset, len, fin: piece.fin });
            if more {
                stream.in_ready = true;
                self.ready.push_back(id);
            }
            if !with_length {
                return;
            }
        }
    }
}
