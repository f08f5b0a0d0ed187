//! The two tasks of a link: one decrypts what comes in, one encrypts what goes out.

use super::command::{BUFFERS, Batch, Buffer, Command};
use super::egress::Egress;
use super::memory::{Counted, Share};
use crate::aead::Ring;
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::link::transport::{FRAME_OVERHEAD, MAX_BODY, Receiver, Sender, TransportError};
use smol::Async;
use smol::channel::RecvError;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that are read and decrypted at once: three large frames.
const READ_BUFFER: usize = 3 * (MAX_BODY + FRAME_OVERHEAD);
/// Bytes that are encrypted and written at once: two large frames, and what may be
/// left over of a packet that is a little longer than these.
const WRITE_BUFFER: usize = 2 * (MAX_BODY + FRAME_OVERHEAD) + 8 * 1024;

/// Bytes of a buffer that a link has in any case. Before its hello a neighbour sends no
/// longer frame: a hello is shorter.
const SMALL: usize = 2 * 1024;
/// A larger buffer is given back when it was not needed for so long.
const IDLE: Duration = Duration::from_secs(1);
/// How long a link waits that may not have more memory now.
const NO_MEMORY: Duration = Duration::from_millis(20);

/// How often the engine is told that a frame is coming in, where one takes so long: the time
/// in which a neighbour answers is longer.
const SIGN: Duration = Duration::from_millis(100);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkEnd {
    #[error("the neighbour closed the connection")]
    Eof,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Transport(TransportError),
    #[error("it sent more than a hello before its hello was taken")]
    NoHello,
    #[error("everything was sent and the node is stopping")]
    Finished,
}

/// Reads and decrypts until the link ends. Whole frames are handed to the engine,
/// as many as came in at once; it gives the buffers back through `returned`.
///
/// Buffers are small at first, grow with what comes and are given back when nothing does.
pub(crate) async fn read(
    link: LinkId,
    stream: Arc<Async<TcpStream>>,
    mut receiver: Receiver<Ring>,
    share: Arc<Share>,
    engine: smol::channel::Sender<Command>,
    returned: smol::channel::Receiver<Buffer>,
) -> LinkEnd {
    let mut buffer = Buffer::new(SMALL, share.clone());
    let mut made = 1;
    let mut end = 0;
    // Since when bytes of a frame come that is not complete, or the engine was told of it.
    let mut partial = None;
    loop {
        let is_idle = end == 0 && buffer.bytes.len() > SMALL;
        let room = buffer.bytes.get_mut(end..).unwrap_or_default();
        let read = match is_idle {
            false => Some((&*stream).read(room).await),
            true => in_time(IDLE, (&*stream).read(room)).await,
        };
        match read {
            Some(Ok(0)) => return LinkEnd::Eof,
            Some(Ok(n)) => {
                end += n;
                share.note_read(n);
            }
            Some(Err(error)) => return error.into(),
            None => {
                buffer = Buffer::new(SMALL, share.clone());
                made -= returned.try_recv().map_or(0, |_| 1);
                continue;
            }
        }
        let is_full = end == buffer.bytes.len();
        let mut start = 0;
        loop {
            let unread = buffer.bytes.get_mut(start..end).unwrap_or_default();
            match receiver.open_frame(unread) {
                Ok(Some(frame)) => {
                    buffer.frames.push(start + frame.body.start..start + frame.body.end);
                    start += frame.consumed;
                }
                Ok(None) => break,
                Err(error) => return LinkEnd::Transport(error),
            }
        }
        share.set_partial(start < end);
        if buffer.frames.is_empty() {
            // Not proven to be the neighbour's yet. Others' bytes end the link with this frame.
            if partial.get_or_insert_with(Instant::now).elapsed() >= SIGN {
                partial = Some(Instant::now());
                let alive = Command::Alive { link, incoming: true };
                if engine.send(alive).await.is_err() {
                    return LinkEnd::Finished;
                }
            }
            if is_full && !share.is_up() {
                // The hello may be with the engine still: it gives the buffer back.
                let Ok(spare) = (if made > 1 { returned.recv().await } else { Err(RecvError) })
                else {
                    return LinkEnd::NoHello;
                };
                drop(spare);
                made -= 1;
                continue;
            }
            let larger = (2 * end).min(READ_BUFFER);
            while is_full && !buffer.try_grow(larger) {
                // Others have all the memory: this neighbour waits.
                smol::Timer::after(NO_MEMORY).await;
            }
            continue;
        }
        partial = None;
        let mut next = match returned.try_recv() {
            Ok(buffer) => buffer,
            Err(_) if made < BUFFERS => {
                made += 1;
                Buffer::new(SMALL, share.clone())
            }
            // Both are with the engine: it is behind, and so the neighbour waits.
            Err(_) => match returned.recv().await {
                Ok(buffer) => buffer,
                Err(_) => return LinkEnd::Finished,
            },
        };
        let rest = buffer.bytes.get(start..end).unwrap_or_default();
        // What is there of the next frame must have room, and more of it.
        let wanted = if is_full { 2 * buffer.bytes.len() } else { buffer.bytes.len() };
        if (is_full && share.is_up()) || rest.len() >= next.bytes.len() {
            next.try_grow(wanted.min(READ_BUFFER));
        }
        next.grow(rest.len() + SMALL);
        if let Some(room) = next.bytes.get_mut(..rest.len()) {
            room.copy_from_slice(rest);
        }
        end -= start;
        let full = std::mem::replace(&mut buffer, next);
        if engine.send(Command::Batch(Batch { link, buffer: full })).await.is_err() {
            return LinkEnd::Finished;
        }
    }
}

/// Encrypts and writes what waits until the link ends.
pub(crate) async fn write(
    link: LinkId,
    stream: Arc<Async<TcpStream>>,
    mut sender: Sender<Ring>,
    egress: Arc<Egress>,
    share: Arc<Share>,
    engine: smol::channel::Sender<Command>,
) -> LinkEnd {
    let (mut out, mut frames) = (Vec::new(), Vec::new());
    let mut memory = Counted::nothing(share.clone());
    loop {
        let is_ready = match out.len() > SMALL {
            false => Some(egress.ready().await),
            true => in_time(IDLE, egress.ready()).await,
        };
        match is_ready {
            Some(true) => {}
            Some(false) => break,
            None => {
                out = Vec::new();
                memory.set(0);
                continue;
            }
        }
        if out.len() < WRITE_BUFFER && egress.waiting() > SMALL && memory.try_set(WRITE_BUFFER) {
            out = vec![0; WRITE_BUFFER];
        } else if out.is_empty() {
            out = vec![0; SMALL];
        }
        let room_again = egress.fill(&mut out, u16::MAX, &mut frames);
        let mut at = 0;
        for len in frames.iter().copied() {
            let Some(frame) = out.get_mut(at..at + len) else { break };
            if sender.seal_frame(frame).is_err() {
                // Cannot be: the builder keeps to the limits of a frame.
                return io::Error::from(io::ErrorKind::InvalidInput).into();
            }
            at += len;
        }
        for lane in room_again.lanes() {
            if engine.send(Command::Room { link, lane }).await.is_err() {
                return LinkEnd::Finished;
            }
        }
        let mut sealed = out.get(..at).unwrap_or_default();
        share.begin_write(at);
        while !sealed.is_empty() {
            match (&*stream).write(sealed).await {
                Ok(0) => return io::Error::from(io::ErrorKind::WriteZero).into(),
                Ok(n) => {
                    sealed = sealed.get(n..).unwrap_or_default();
                    share.note_written(n);
                }
                Err(error) => return error.into(),
            }
        }
    }
    let _ = stream.get_ref().shutdown(Shutdown::Write);
    LinkEnd::Finished
}

/// What a future gives, unless it takes longer.
async fn in_time<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        smol::Timer::after(time).await;
        None
    };
    smol::future::or(async { Some(work.await) }, late).await
}
