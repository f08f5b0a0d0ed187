//! The task that decrypts what comes in on a connection.

use super::super::Inlet;
use super::common::{IDLE, LinkEnd, SMALL, in_time};
use crate::aead::Ring;
use crate::node::link::buffer::Buffer;
use blvm_mesh_core::link::transport::{FRAME_OVERHEAD, MAX_BODY, Receiver};
use smol::Async;
use smol::channel::RecvError;
use smol::io::AsyncReadExt;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that are read and decrypted at once: three large frames.
const READ_BUFFER: usize = 3 * (MAX_BODY + FRAME_OVERHEAD);
/// How long a link waits that may not have more memory now.
const NO_MEMORY: Duration = Duration::from_millis(20);
/// How often the engine is told that a frame is coming in, where one takes so long: the time
/// in which a neighbour answers is longer.
const SIGN: Duration = Duration::from_millis(100);

/// Reads and decrypts until the link ends. Whole frames are handed to the engine,
/// as many as came in at once; it gives the buffers back through `returned`.
///
/// Buffers are small at first, grow with what comes and are given back when nothing does.
pub(super) async fn run(
    stream: Arc<Async<TcpStream>>,
    mut receiver: Receiver<Ring>,
    mut inlet: Inlet,
) -> LinkEnd {
    let share = inlet.share.clone();
    let mut buffer = match inlet.buffer(SMALL).await {
        Ok(buffer) => buffer,
        Err(stopped) => return stopped.into(),
    };
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
                inlet.made -= inlet.buffers.try_recv().map_or(0, |_| 1);
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
                if let Err(stopped) = inlet.report.alive(true).await {
                    return stopped.into();
                }
            }
            if is_full && !share.is_up() {
                // The hello may be with the engine still: it gives the buffer back.
                let spare =
                    if inlet.made > 1 { inlet.buffers.recv().await } else { Err(RecvError) };
                let Ok(spare) = spare else { return LinkEnd::NoHello };
                drop(spare);
                inlet.made -= 1;
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
        let mut next = match inlet.buffer(SMALL).await {
            Ok(buffer) => buffer,
            Err(stopped) => return stopped.into(),
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
        if let Err(stopped) = inlet.hand_over(full).await {
            return stopped.into();
        }
    }
}
