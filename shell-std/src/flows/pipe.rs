//! The bytes of one stream between its application and the engine.
//!
//! Either side puts bytes in and takes bytes out without waiting for the other. The engine is told
//! once that a stream was used, and not again before it has looked.

use super::hub::Ask;
use super::memory::{LEAST, Part};
use blvm_mesh_core::flow::end::Read;
use blvm_mesh_core::mesh::{FlowEnded, FlowId, Streams};
use smol::channel::Sender;
use smol::io::{AsyncRead, AsyncWrite};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes of a stream that are kept here in each direction, beside the state machine's windows.
const MOST: usize = 64 * 1024;

/// A stream of a flow: what is written at one end can be read at the other, in order, and is
/// encrypted between them. Clones are the same stream; when the last is dropped, what was not
/// finished is given up.
///
/// Its errors have the kinds of a TCP connection's: [`ConnectionReset`](io::ErrorKind) where the
/// other end has given it up, [`ConnectionAborted`](io::ErrorKind) with the reason where the flow
/// has ended.
#[derive(Clone)]
pub struct Stream(Arc<Held>);

/// Dropped with the last handle of a stream.
struct Held(Arc<Pipe>);

pub(crate) struct Pipe {
    flow: FlowId,
    id: u32,
    state: Mutex<State>,
    asks: Sender<Ask>,
}

struct State {
    outgoing: VecDeque<u8>,
    incoming: VecDeque<u8>,
    /// What both take of the memory of all pipes.
    part: Part,
    /// More may have come in than there was room for: with so few left the engine is asked for it.
    full_until: Option<usize>,
    /// The engine knows that the stream was used.
    told: bool,
    /// The application writes no more, and the other end was told.
    closing: bool,
    finished: bool,
    /// All that was written has arrived.
    arrived: bool,
    /// Somebody reads: before that nothing is taken.
    wanted: bool,
    /// No more comes in.
    ended: bool,
    /// Nothing can be written any more.
    stopped: bool,
    broken: Option<Broken>,
    dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    arrival: Option<Waker>,
}

/// Why a stream is of no use any more.
#[derive(Debug, Clone, Copy)]
enum Broken {
    Reset(u32),
    Ended(FlowEnded),
}

impl Broken {
    fn error(self) -> io::Error {
        match self {
            Self::Reset(code) => {
                let text = format!("the other end has given the stream up, with code {code}");
                io::Error::new(io::ErrorKind::ConnectionReset, text)
            }
            Self::Ended(why) => io::Error::new(
                io::ErrorKind::ConnectionAborted,
                format!("the flow has ended: {why}"),
            ),
        }
    }
}

impl State {
    fn new(part: Part) -> Self {
        Self {
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
            part,
            full_until: None,
            told: false,
            closing: false,
            finished: false,
            arrived: false,
            wanted: false,
            ended: false,
            stopped: false,
            broken: None,
            dropped: false,
            reader: None,
            writer: None,
            arrival: None,
        }
    }

    /// Bytes that may be added to a direction that has so many.
    fn room(&self, has: usize) -> usize {
        let least = LEAST.saturating_sub(has);
        self.part.room().min(MOST.saturating_sub(has)).max(least)
    }

    /// Counts what is here now.
    fn count(&mut self) {
        self.part.set(self.outgoing.len().saturating_add(self.incoming.len()));
    }

    fn wake_all(&mut self) {
        let wakers = [self.reader.take(), self.writer.take(), self.arrival.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn wake_writer(&mut self) {
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl Stream {
    pub(super) fn new(flow: FlowId, id: u32, part: Part, asks: Sender<Ask>) -> (Self, Arc<Pipe>) {
        let state = Mutex::new(State::new(part));
        let pipe = Arc::new(Pipe { flow, id, state, asks });
        (Self(Arc::new(Held(pipe.clone()))), pipe)
    }

    /// Waits until all that was written before it was closed has arrived at the other end.
    ///
    /// # Errors
    /// The other end has given the stream up, or the flow has ended.
    pub async fn arrived(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let mut state = self.0.0.lock();
            match (state.arrived, state.broken) {
                (true, _) if state.stopped => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                (true, _) => Poll::Ready(Ok(())),
                (false, Some(broken)) => Poll::Ready(Err(broken.error())),
                (false, None) => {
                    state.arrival = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Its flow.
    pub fn flow(&self) -> FlowId {
        self.0.0.flow
    }

    fn poll_read_here(&self, cx: &Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let pipe = &self.0.0;
        let mut state = pipe.lock();
        if !std::mem::replace(&mut state.wanted, true) {
            pipe.tell(&mut state);
        }
        if state.incoming.is_empty() {
            if state.ended || out.is_empty() {
                return Poll::Ready(Ok(0));
            }
            if let Some(broken) = state.broken {
                return Poll::Ready(Err(broken.error()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = io::Read::read(&mut state.incoming, out)?;
        state.count();
        let left = state.incoming.len();
        if state.full_until.take_if(|until| left <= *until).is_some() {
            pipe.tell(&mut state);
        }
        Poll::Ready(Ok(len))
    }

    fn poll_write_here(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let pipe = &self.0.0;
        let mut state = pipe.lock();
        if let Some(broken) = state.broken {
            return Poll::Ready(Err(broken.error()));
        }
        if state.closing || state.stopped {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = state.room(state.outgoing.len());
        let Some(part) = bytes.get(..bytes.len().min(room)).filter(|part| !part.is_empty()) else {
            if bytes.is_empty() {
                return Poll::Ready(Ok(0));
            }
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.outgoing.extend(part);
        state.count();
        pipe.tell(&mut state);
        Poll::Ready(Ok(part.len()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_here(cx, out)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_here(cx, bytes)
    }

    /// What was written is on its way already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// No more bytes follow; the other end can still be read from.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pipe = &self.0.0;
        let mut state = pipe.lock();
        if !std::mem::replace(&mut state.closing, true) {
            pipe.tell(&mut state);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.dropped = true;
        self.0.tell(&mut state);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("flow", &self.0.0.flow).field("id", &self.0.0.id).finish()
    }
}

/// What the engine found when it looked at a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    /// The state machine's streams were used.
    pub(crate) used: bool,
    /// The stream needs no more looks.
    pub(crate) over: bool,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &mut State) {
        if !std::mem::replace(&mut state.told, true) {
            // At the end of the node nobody listens.
            let _ = self.asks.try_send(Ask::Used(self.flow, self.id));
        }
    }

    /// The engine moves what can be moved.
    pub(crate) fn look(&self, streams: &mut Streams<'_>, scratch: &mut [u8]) -> Looked {
        let mut state = self.lock();
        let state = &mut *state;
        state.told = false;
        let sent = self.send(state, streams);
        let read = self.receive(state, streams, scratch, false);
        state.count();
        let mut used = sent || read;
        if state.dropped {
            // What is left unread, or was not finished, is given up.
            if !state.ended {
                used |= streams.stop(self.id, 0).is_ok();
                state.ended = true;
            }
            // What was written before it was closed goes on, though nobody waits for it.
            if !state.closing && !state.finished && !state.arrived {
                used |= streams.reset(self.id, 0).is_ok();
                state.finished = true;
            }
        }
        Looked { used, over: state.ended && (state.arrived || state.stopped) }
    }

    fn send(&self, state: &mut State, streams: &mut Streams<'_>) -> bool {
        if state.finished || state.stopped {
            return false;
        }
        let mut used = false;
        while !state.outgoing.is_empty() {
            let (part, _) = state.outgoing.as_slices();
            match streams.write(self.id, part) {
                Ok(0) => break,
                Ok(len) => {
                    state.outgoing.drain(..len);
                    state.count();
                    used = true;
                }
                Err(_) => {
                    state.stopped = true;
                    break;
                }
            }
        }
        if used {
            state.wake_writer();
        }
        if state.outgoing.is_empty() && state.closing {
            state.finished = true;
            used |= streams.finish(self.id).is_ok();
        }
        used
    }

    /// Takes what has come in, as much as there is room for, or `all`.
    fn receive(
        &self,
        state: &mut State,
        streams: &mut Streams<'_>,
        scratch: &mut [u8],
        all: bool,
    ) -> bool {
        let mut used = false;
        state.full_until = None;
        while state.wanted && !state.ended && state.broken.is_none() {
            let has = state.incoming.len();
            let room = if all { usize::MAX } else { state.room(has) };
            if room == 0 {
                state.full_until = Some(has / 2);
                break;
            }
            let room = scratch.len().min(room);
            match streams.read(self.id, scratch.get_mut(..room).unwrap_or_default()) {
                Ok(Read::Bytes(len)) => {
                    state.incoming.extend(scratch.get(..len).unwrap_or_default());
                    state.count();
                    used = true;
                }
                Ok(Read::Blocked) => break,
                Ok(Read::Finished) | Err(_) => state.ended = true,
                Ok(Read::Reset(code)) => {
                    state.broken = Some(Broken::Reset(code));
                    state.ended = true;
                    state.wake_all();
                }
            }
        }
        if used || state.ended {
            state.wake_reader();
        }
        used
    }

    /// All that was written has arrived, or the other end knows that it was given up.
    pub(crate) fn arrived(&self) {
        let mut state = self.lock();
        state.arrived = true;
        state.wake_all();
    }

    /// The other end wants no more.
    pub(crate) fn stopped(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.outgoing.clear();
        state.count();
        state.wake_all();
    }

    /// The flow has ended: what has come in before can still be read.
    pub(crate) fn flow_ended(
        &self,
        why: FlowEnded,
        streams: Option<&mut Streams<'_>>,
        scratch: &mut [u8],
    ) {
        let mut state = self.lock();
        if let Some(streams) = streams
            && !state.dropped
        {
            state.wanted = true;
            self.receive(&mut state, streams, scratch, true);
        }
        state.broken.get_or_insert(Broken::Ended(why));
        state.wake_all();
    }
}
