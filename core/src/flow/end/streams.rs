//! All streams of a flow: the application's side. Frames in and out are in
//! [`stream_frames`](super::stream_frames).
//!
//! Streams are numbered as in QUIC: the n-th of the source is 2n, of the destination 2n + 1.
//! Memory is bounded so that no stream holds up another: each may always buffer
//! [`INITIAL_WINDOW`] bytes in each direction, and what it has beyond that comes from a pool.

use super::{
    Event, LimitedStreams, NotOpen,
    packet::Direction,
    recv_stream::{Read, RecvStream},
    send_stream::SendStream,
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
};

/// Bytes that may be sent on a stream before the peer grants more.
pub const INITIAL_WINDOW: u64 = 16 * 1024;
/// Streams that may be opened before the peer grants more.
pub const INITIAL_STREAMS: u32 = 16;
/// No stream has a number from here on.
pub(super) const MOST_STREAMS: u32 = 1 << 30;

/// Bounds of what streams take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Streams that each end may have open at a time, at least [`INITIAL_STREAMS`].
    pub streams: u32,
    /// Largest window of a stream, and most bytes that are kept until they are acknowledged; at
    /// most [`MAX_WINDOW`](super::MAX_WINDOW).
    pub window: u64,
    /// Bytes in all that streams may have beyond [`INITIAL_WINDOW`] each, for receiving and as
    /// many for sending.
    pub pool: u64,
}

impl Default for StreamLimits {
    /// 1,024 streams, 4 MiB a stream, 16 MiB in the pool.
    fn default() -> Self {
        Self { streams: 1_024, window: super::MAX_WINDOW, pool: 16 << 20 }
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    /// It stands in the queue of those with bytes to send, or with something to tell.
    pub(super) in_ready: bool,
    pub(super) in_told: bool,
    pub(super) credit_due: bool,
    /// The peer is to stop sending, for this reason.
    pub(super) stop_due: Option<u32>,
    pub(super) stop: Option<u32>,
    /// An event of it waits.
    pub(super) readable: bool,
    writable: bool,
    /// Less was taken than the application had.
    blocked: bool,
    /// Taken from the pools.
    pub(super) from_send_pool: u64,
    pub(super) from_receive_pool: u64,
    /// Finished was said.
    finished: bool,
}

/// The streams of a flow.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) all: BTreeMap<u32, Box<Stream>>,
    pub(super) direction: Direction,
    limits: StreamLimits,
    /// How many this end has opened, and may open.
    opened: u32,
    allowed: u32,
    open_here: u32,
    wants_stream: bool,
    /// How many the peer has opened, and may open, and might before.
    pub(super) theirs: u32,
    pub(super) granted: u32,
    granted_before: u32,
    open_there: u32,
    pub(super) streams_due: bool,
    pub(super) send_pool: u64,
    pub(super) receive_pool: u64,
    /// Streams with bytes to send, in turn.
    pub(super) ready: VecDeque<u32>,
    /// Streams with something to tell.
    pub(super) told: VecDeque<u32>,
    pub(super) events: VecDeque<Event>,
    /// How far all streams have come together.
    pub(super) received: u64,
}

impl Streams {
    pub(super) fn new(direction: Direction, limits: StreamLimits) -> Self {
        let limits = StreamLimits {
            streams: limits.streams.clamp(INITIAL_STREAMS, MOST_STREAMS / 2),
            window: limits.window.clamp(INITIAL_WINDOW, super::MAX_WINDOW),
            pool: limits.pool,
        };
        Self {
            all: BTreeMap::new(),
            direction,
            limits,
            opened: 0,
            allowed: INITIAL_STREAMS,
            open_here: 0,
            wants_stream: false,
            theirs: 0,
            granted: INITIAL_STREAMS,
            granted_before: 0,
            open_there: 0,
            streams_due: false,
            send_pool: limits.pool,
            receive_pool: limits.pool,
            ready: VecDeque::new(),
            told: VecDeque::new(),
            events: VecDeque::new(),
            received: 0,
        }
    }

    /// Opens a stream.
    pub(super) fn open(&mut self) -> Result<u32, LimitedStreams> {
        if self.opened >= self.allowed.min(MOST_STREAMS) || self.open_here >= self.limits.streams {
            self.wants_stream = true;
            return Err(LimitedStreams);
        }
        let id = self.opened * 2 + self.direction as u32;
        self.opened += 1;
        self.open_here += 1;
        self.insert(id, true);
        self.make_ready(id);
        Ok(id)
    }

    /// Whether a number is one of this end's streams.
    pub(super) fn is_ours(&self, id: u32) -> bool {
        id % 2 == self.direction as u32
    }

    /// How many streams this end has opened.
    pub(super) fn opened(&self) -> u32 {
        self.opened
    }

    pub(super) fn insert(&mut self, id: u32, opens: bool) {
        let stream = Stream {
            send: SendStream::new(INITIAL_WINDOW, opens),
            recv: RecvStream::new(INITIAL_WINDOW),
            in_ready: false,
            in_told: false,
            credit_due: false,
            stop_due: None,
            stop: None,
            readable: false,
            writable: false,
            blocked: false,
            from_send_pool: 0,
            from_receive_pool: 0,
            finished: false,
        };
        self.all.insert(id, Box::new(stream));
    }

    /// The peer opens streams up to this one, which it may.
    pub(super) fn open_theirs(&mut self, count: u32) {
        if self.theirs >= count {
            return;
        }
        while self.theirs < count {
            let id = self.theirs * 2 + (1 - self.direction as u32);
            self.theirs += 1;
            self.open_there += 1;
            self.insert(id, false);
            self.events.push_back(Event::Opened(id));
        }
        self.grant_streams();
    }

    /// The peer may open more when half of the last grant is used.
    fn grant_streams(&mut self) {
        let step = self.granted - self.granted_before;
        let closed = self.theirs - self.open_there;
        let more = closed.saturating_add(self.limits.streams).min(MOST_STREAMS);
        if self.granted - self.theirs <= step / 2 && more > self.granted {
            self.granted_before = self.granted;
            self.granted = more;
            self.streams_due = true;
        }
    }

    /// This end may open so many streams in all.
    pub(super) fn allow(&mut self, streams: u32) {
        self.allowed = self.allowed.max(streams);
        self.tell_streams();
    }

    fn tell_streams(&mut self) {
        let may = self.opened < self.allowed && self.open_here < self.limits.streams;
        if self.wants_stream && may {
            self.wants_stream = false;
            self.events.push_back(Event::StreamsAvailable);
        }
    }

    pub(super) fn write(&mut self, id: u32, data: &[u8]) -> Result<usize, NotOpen> {
        let window = self.limits.window;
        let stream = self.all.get_mut(&id).filter(|s| s.send.is_open()).ok_or(NotOpen)?;
        let buffered = stream.send.buffered() as u64;
        // No more from the pool than is left in it, so that all who need it have equal parts.
        let most = INITIAL_WINDOW.saturating_add(self.send_pool).min(window);
        let room = usize::try_from(most.saturating_sub(buffered)).unwrap_or(usize::MAX);
        let taken = stream.send.write(data, room);
        stream.blocked = taken < data.len();
        let was = core::mem::replace(&mut stream.from_send_pool, beyond(&stream.send));
        self.send_pool = self.send_pool.saturating_add(was).saturating_sub(stream.from_send_pool);
        self.make_ready(id);
        Ok(taken)
    }

    /// Bytes of a stream have arrived: there is room for others.
    pub(super) fn on_room(&mut self, id: u32) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        let was = core::mem::replace(&mut stream.from_send_pool, beyond(&stream.send));
        self.send_pool = self.send_pool.saturating_add(was).saturating_sub(stream.from_send_pool);
        // Not for a few bytes: half of what it may have is free.
        let most = INITIAL_WINDOW.saturating_add(self.send_pool).min(self.limits.window);
        let roomy = stream.send.buffered() as u64 <= most / 2;
        if stream.blocked && roomy && !stream.writable {
            (stream.blocked, stream.writable) = (false, true);
            self.events.push_back(Event::Writable(id));
        }
        if stream.send.is_done() && !stream.finished {
            stream.finished = true;
            self.events.push_back(Event::Finished(id));
        }
        self.forget_if_done(id);
    }

    pub(super) fn finish(&mut self, id: u32) -> Result<(), NotOpen> {
        let stream = self.all.get_mut(&id).filter(|s| s.send.is_open()).ok_or(NotOpen)?;
        stream.send.finish();
        self.make_ready(id);
        Ok(())
    }

    pub(super) fn reset(&mut self, id: u32, code: u32) -> Result<(), NotOpen> {
        let stream = self.all.get_mut(&id).ok_or(NotOpen)?;
        if stream.send.reset(code) {
            self.make_told(id);
            self.on_room(id);
        }
        Ok(())
    }

    pub(super) fn stop(&mut self, id: u32, code: u32) -> Result<(), NotOpen> {
        let stream = self.all.get_mut(&id).ok_or(NotOpen)?;
        if stream.recv.stop() {
            (stream.stop, stream.stop_due) = (Some(code), Some(code));
            self.make_told(id);
        }
        self.forget_if_done(id);
        Ok(())
    }

    pub(super) fn read(&mut self, id: u32, out: &mut [u8]) -> Result<Read, NotOpen> {
        let stream = self.all.get_mut(&id).ok_or(NotOpen)?;
        let read = stream.recv.read(out);
        self.after_read(id);
        Ok(read)
    }

    pub(super) fn peek(&self, id: u32) -> Result<&[u8], NotOpen> {
        Ok(self.all.get(&id).ok_or(NotOpen)?.recv.peek())
    }

    pub(super) fn consume(&mut self, id: u32, bytes: usize) -> Result<(), NotOpen> {
        self.all.get_mut(&id).ok_or(NotOpen)?.recv.consume(bytes);
        self.after_read(id);
        Ok(())
    }

    /// The application has read: more credit may be due, or the stream done.
    fn after_read(&mut self, id: u32) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        let room = self.limits.window.saturating_sub(stream.recv.window());
        let fair = self.receive_pool.saturating_sub(stream.from_receive_pool) / 2;
        if let Some(growth) = stream.recv.extend(room.min(fair)) {
            stream.from_receive_pool = stream.from_receive_pool.saturating_add(growth);
            self.receive_pool = self.receive_pool.saturating_sub(growth);
            stream.credit_due = true;
            self.make_told(id);
        }
        self.forget_if_done(id);
    }

    /// A stream that both directions are done with goes.
    pub(super) fn forget_if_done(&mut self, id: u32) {
        let done = |stream: &Stream| stream.send.is_done() && stream.recv.is_done();
        if !self.all.get(&id).is_some_and(|stream| done(stream)) {
            return;
        }
        if let Some(stream) = self.all.remove(&id) {
            self.send_pool = self.send_pool.saturating_add(stream.from_send_pool);
            self.receive_pool = self.receive_pool.saturating_add(stream.from_receive_pool);
            if self.is_ours(id) {
                self.open_here = self.open_here.saturating_sub(1);
                self.tell_streams();
            } else {
                self.open_there = self.open_there.saturating_sub(1);
                self.grant_streams();
            }
        }
    }

    /// What has happened.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        match event {
            Event::Readable(id) => {
                if let Some(stream) = self.all.get_mut(&id) {
                    stream.readable = false;
                }
            }
            Event::Writable(id) => {
                if let Some(stream) = self.all.get_mut(&id) {
                    stream.writable = false;
                }
            }
            _ => {}
        }
        Some(event)
    }

    /// The application finds something in a stream.
    pub(super) fn tell_readable(&mut self, id: u32) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        if stream.recv.is_readable() && !core::mem::replace(&mut stream.readable, true) {
            self.events.push_back(Event::Readable(id));
        }
    }

    /// Has a stream's turn come if it has something to send.
    pub(super) fn make_ready(&mut self, id: u32) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        if stream.send.has_piece() && !core::mem::replace(&mut stream.in_ready, true) {
            self.ready.push_back(id);
        }
    }

    pub(super) fn make_told(&mut self, id: u32) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        if !core::mem::replace(&mut stream.in_told, true) {
            self.told.push_back(id);
        }
    }
}

/// What a stream buffers beyond what it may always have.
fn beyond(send: &SendStream) -> u64 {
    (send.buffered() as u64).saturating_sub(INITIAL_WINDOW)
}
