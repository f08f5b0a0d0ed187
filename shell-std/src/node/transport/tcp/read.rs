//! The task that decrypts what comes in on a connection and takes whole packets out of it.

use super::super::Inlet;
use super::common::{IDLE, Idle, LinkEnd};
use crate::aead::Ring;
use crate::node::clock::Clock;
use crate::node::link::buffer::{Buffer, KEEP, SMALL};
use crate::node::link::memory::Counted;
use blvm_mesh_core::link::joiner::Joiner;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::link::transport::{FRAME_OVERHEAD, MAX_BODY, Receiver};
use blvm_mesh_core::time::{Micros, SECOND};
use smol::Async;
use smol::Timer;
use smol::future::yield_now;
use smol::io::AsyncReadExt;
use std::convert::Infallible;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that are read and decrypted at once: three large frames.
const READ_BUFFER: usize = 3 * (MAX_BODY + FRAME_OVERHEAD);
/// How long a link waits that may not have more memory now.
const NO_MEMORY: Duration = Duration::from_millis(20);
/// How often the engine is told that a frame is coming in, if one takes this long; the keep-alive
/// is longer.
const SIGN: Duration = Duration::from_millis(100);
/// Time in which a packet that comes in parts must be complete.
const JOIN_TIMEOUT: Micros = 60 * SECOND;

/// Reads and decrypts until the link ends. Whole packets are handed to the engine, as many as
/// came in at once; it gives the buffers back.
///
/// Buffers are small at first, grow with what comes in and are released when nothing does.
pub(super) async fn run(
    stream: Arc<Async<TcpStream>>,
    receiver: Receiver<Ring>,
    inlet: Inlet,
    clock: Clock,
) -> LinkEnd {
    match Reader::begin(stream, receiver, inlet, clock).await {
        Ok(mut reader) => match reader.work().await {
            Ok(never) => match never {},
            Err(end) => end,
        },
        Err(end) => end,
    }
}

struct Reader {
    stream: Arc<Async<TcpStream>>,
    receiver: Receiver<Ring>,
    inlet: Inlet,
    clock: Clock,
    joiner: Joiner<Growable>,
    /// The joiner's memory.
    joined: Counted,
    buffer: Buffer,
    /// Bytes in the buffer that were read.
    end: usize,
    /// The last read took all that had come: the next one would find nothing.
    is_drained: bool,
    /// Nothing was read since memory for later packets was released.
    is_trimmed: bool,
    idle: Idle,
    /// Since when an incomplete frame is coming in, or since the engine was last told.
    partial: Option<Instant>,
}

/// What was found in the buffer.
struct Unpacked {
    /// Bytes of whole frames.
    bytes: usize,
    /// Packets were handed over already, one by one.
    has_handed_over: bool,
}

impl Reader {
    async fn begin(
        stream: Arc<Async<TcpStream>>,
        receiver: Receiver<Ring>,
        mut inlet: Inlet,
        clock: Clock,
    ) -> Result<Self, LinkEnd> {
        let memory = || Growable::new(KEEP);
        let joiner = Joiner::new(inlet.longest_packet(), JOIN_TIMEOUT, memory(), memory());
        let joined = Counted::nothing(inlet.share.clone());
        let buffer = inlet.buffer(SMALL).await?;
        Ok(Self {
            stream,
            receiver,
            inlet,
            clock,
            joiner,
            joined,
            buffer,
            end: 0,
            is_drained: false,
            is_trimmed: true,
            idle: Idle::new(IDLE),
            partial: None,
        })
    }

    async fn work(&mut self) -> Result<Infallible, LinkEnd> {
        loop {
            self.fill().await?;
            let is_full = self.end == self.buffer.bytes.len();
            let unpacked = match self.unpack().await {
                Ok(unpacked) => unpacked,
                Err(end) => {
                    // What came before it counts.
                    let nothing = Buffer::new(0, self.inlet.share.clone());
                    let buffer = std::mem::replace(&mut self.buffer, nothing);
                    if !buffer.packets.is_empty() {
                        self.inlet.hand_over(buffer).await?;
                    }
                    return Err(end);
                }
            };
            let share = &self.inlet.share;
            share.set_partial(unpacked.bytes < self.end);
            share.set_unfinished(self.joiner.poll_timeout());
            self.joined.set(self.joiner.memory());
            match self.buffer.packets.is_empty() {
                true => self.go_on(is_full, &unpacked).await?,
                false => self.hand_over(is_full, unpacked.bytes).await?,
            }
            while self.joiner.memory() > KEEP && !self.inlet.share.is_within() {
                // The engine closes links that hold memory and make no progress, or this one.
                self.inlet.report.starved().await?;
                Timer::after(NO_MEMORY).await;
            }
        }
    }

    /// Reads at least one byte. Memory that was not needed for a while is released.
    async fn fill(&mut self) -> Result<(), LinkEnd> {
        loop {
            let is_idle = self.end == 0 && self.buffer.memory() > 0;
            let has_spare = !self.is_trimmed && self.joiner.memory() > 0;
            let room = self.buffer.bytes.get_mut(self.end..).unwrap_or_default();
            let (len, mut stream) = (room.len(), &*self.stream);
            let is_drained = self.is_drained;
            let read = async {
                if is_drained {
                    stream.readable().await?;
                }
                stream.read(room).await
            };
            let read = match is_idle || has_spare {
                false => Some(read.await),
                true => self.idle.wait(read).await,
            };
            match read {
                Some(Ok(0)) => return Err(LinkEnd::Eof),
                Some(Ok(read)) => {
                    self.end += read;
                    self.is_drained = read < len;
                    self.inlet.share.note_read(read);
                    self.is_trimmed = false;
                    return Ok(());
                }
                Some(Err(error)) => return Err(error.into()),
                None => {
                    if is_idle {
                        self.buffer = Buffer::new(SMALL, self.inlet.share.clone());
                    }
                    self.inlet.forget_spare();
                    self.joiner.trim();
                    self.joined.set(self.joiner.memory());
                    self.is_trimmed = true;
                }
            }
        }
    }

    /// Decrypts the frames that are complete, and notes the whole packets in them: where they
    /// are in the buffer, or with the memory in which they were put together.
    async fn unpack(&mut self) -> Result<Unpacked, LinkEnd> {
        let now = self.clock.now();
        let mut unpacked = Unpacked { bytes: 0, has_handed_over: false };
        self.joiner.set_max_packet(self.inlet.longest_packet());
        let Buffer { bytes, packets, .. } = &mut self.buffer;
        loop {
            let start = unpacked.bytes;
            let unread = bytes.get_mut(start..self.end).unwrap_or_default();
            let Some(frame) = self.receiver.open_frame(unread)? else { return Ok(unpacked) };
            unpacked.bytes += frame.consumed;
            let body_end = start + frame.body.end;
            let body = unread.get_mut(frame.body).unwrap_or_default();
            let mut records = self.joiner.records(now, body)?;
            while let Some(packet) = records.next()? {
                if !self.inlet.is_up() {
                    // Later packets may be longer, once this one was accepted.
                    self.inlet.put(packet.bytes).await?;
                    unpacked.has_handed_over = true;
                    records.set_max_packet(self.inlet.longest_packet());
                    continue;
                }
                let len = packet.bytes.len();
                match records.take() {
                    Some(packet) => packets.push_apart(packet),
                    None => packets.push_within(body_end - records.left() - len, len),
                }
            }
        }
    }

    /// No packet is complete: makes room for more of what has come.
    async fn go_on(&mut self, is_full: bool, unpacked: &Unpacked) -> Result<(), LinkEnd> {
        if unpacked.bytes > 0 {
            self.partial = None;
            self.buffer.bytes.copy_within(unpacked.bytes..self.end, 0);
            self.end -= unpacked.bytes;
            if !unpacked.has_handed_over {
                self.inlet.report.alive(true).await?;
            }
            if is_full && self.inlet.is_up() {
                let larger = 2 * self.buffer.bytes.len();
                self.buffer.try_grow(larger.min(READ_BUFFER));
            }
            // However much comes in, other tasks get their turn.
            yield_now().await;
            return Ok(());
        }
        // Not yet proven to come from the neighbour. A stranger's bytes end the link with this
        // frame.
        if self.partial.get_or_insert_with(Instant::now).elapsed() >= SIGN {
            self.partial = Some(Instant::now());
            self.inlet.report.alive(true).await?;
        }
        if is_full && !self.inlet.is_up() {
            return Err(LinkEnd::NoHello);
        }
        let larger = (2 * self.end).min(READ_BUFFER);
        while is_full && !self.buffer.try_grow(larger) {
            // Others have all the memory: this neighbour waits.
            Timer::after(NO_MEMORY).await;
        }
        Ok(())
    }

    /// Hands over the packets that are complete; what follows their frames is kept.
    async fn hand_over(&mut self, is_full: bool, start: usize) -> Result<(), LinkEnd> {
        self.partial = None;
        let mut next = self.inlet.buffer(SMALL).await?;
        while let Some(memory) = next.take_spare() {
            self.joiner.lend(memory);
        }
        self.joined.set(self.joiner.memory());
        let bytes = &self.buffer.bytes;
        let rest = bytes.get(start..self.end).unwrap_or_default();
        // The bytes of the next frame need room, and the rest of it too.
        let wanted = if is_full { 2 * bytes.len() } else { bytes.len() };
        if is_full || rest.len() >= next.bytes.len() {
            next.try_grow(wanted.min(READ_BUFFER));
        }
        next.grow(rest.len() + SMALL);
        if let Some(room) = next.bytes.get_mut(..rest.len()) {
            room.copy_from_slice(rest);
        }
        self.end -= start;
        let full = std::mem::replace(&mut self.buffer, next);
        Ok(self.inlet.hand_over(full).await?)
    }
}
