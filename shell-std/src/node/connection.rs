//! The two tasks of a link: one decrypts what comes in, one encrypts what goes out.

use super::command::{BUFFERS, Batch, Buffer, Command};
use super::egress::Egress;
use crate::aead::Ring;
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::link::transport::{FRAME_OVERHEAD, MAX_BODY, Receiver, Sender, TransportError};
use smol::Async;
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
    #[error("everything was sent and the node is stopping")]
    Finished,
}

/// Reads and decrypts until the link ends. Whole frames are handed to the engine,
/// as many as came in at once; it gives the buffers back through `returned`.
pub(crate) async fn read(
    link: LinkId,
    stream: Arc<Async<TcpStream>>,
    mut receiver: Receiver<Ring>,
    engine: smol::channel::Sender<Command>,
    returned: smol::channel::Receiver<Buffer>,
) -> LinkEnd {
    let mut buffer = Buffer::new(READ_BUFFER);
    let mut made = 1;
    let mut end = 0;
    // Since when bytes of a frame come that is not complete, or the engine was told of it.
    let mut partial = None;
    loop {
        match (&*stream).read(buffer.bytes.get_mut(end..).unwrap_or_default()).await {
            Ok(0) => return LinkEnd::Eof,
            Ok(n) => end += n,
            Err(error) => return error.into(),
        }
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
        if buffer.frames.is_empty() {
            // Not proven to be the neighbour's yet. Others' bytes end the link with this frame.
            if partial.get_or_insert_with(Instant::now).elapsed() >= SIGN {
                partial = Some(Instant::now());
                let alive = Command::Alive { link, incoming: true };
                if engine.send(alive).await.is_err() {
                    return LinkEnd::Finished;
                }
            }
            continue;
        }
        partial = None;
        let mut next = match returned.try_recv() {
            Ok(buffer) => buffer,
            Err(_) if made < BUFFERS => {
                made += 1;
                Buffer::new(READ_BUFFER)
            }
            // Both are with the engine: it is behind, and so the neighbour waits.
            Err(_) => match returned.recv().await {
                Ok(buffer) => buffer,
                Err(_) => return LinkEnd::Finished,
            },
        };
        let rest = buffer.bytes.get(start..end).unwrap_or_default();
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
    engine: smol::channel::Sender<Command>,
) -> LinkEnd {
    let (mut out, mut frames) = (Vec::new(), Vec::new());
    while egress.ready().await {
        if out.is_empty() {
            out = vec![0; WRITE_BUFFER];
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
        let sealed = out.get(..at).unwrap_or_default();
        if let Err(error) = (&*stream).write_all(sealed).await {
            return error.into();
        }
    }
    let _ = stream.get_ref().shutdown(Shutdown::Write);
    LinkEnd::Finished
}
