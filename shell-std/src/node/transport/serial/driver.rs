//! One open line: moves bytes, frames and packets until the line fails.

use super::super::backoff::Backoff;
use super::super::keys::LineKeys;
use super::super::port::{Port, PortError};
use super::super::{Accepted, Limits, Neighbour, NotTaken, lane_for};
use super::line::Line;
use super::status::Counts;
use crate::aead::Ring;
use crate::node::link::egress::Given;
use blvm_mesh_core::id::Standing;
use blvm_mesh_core::link::datagram::serial::{self, CRC_LEN, Deframer};
use blvm_mesh_core::link::datagram::terms::SESSIONS;
use blvm_mesh_core::link::datagram::{
    DatagramLink, Event, Ignored, LinkMemory, LinkQuality, MEMORY_OVERHEAD, NotQueued, Role,
};
use blvm_mesh_core::link::fragment::FragmentError;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use secp256k1::PublicKey;
use smol::Timer;
use smol::future::{or, race, yield_now};
use std::time::Duration;

/// Memory that a lane keeps for the next packet.
const KEEP: usize = 4 * 1024;
/// Bytes read from the line at once.
const READ: usize = 4 * 1024;
/// How far ahead of the line its device is given bytes: timers are not exact.
const AHEAD: Micros = 5 * MILLISECOND;
/// How often the engine is told that the neighbour is alive.
const SIGN: Micros = 500 * MILLISECOND;
/// How often it is logged that nobody answers.
const NO_ANSWER: Micros = 10 * SECOND;

/// The task's state while the line is open.
pub(super) struct Driver<'l> {
    line: &'l Line,
    port: &'l Port,
    link: DatagramLink<Ring, Growable>,
    keys: LineKeys,
    deframer: Deframer<Vec<u8>>,
    ignored: u64,
    /// Room for a frame.
    frame: Vec<u8>,
    /// A frame as it goes on the line, and how much of it is written.
    out: Vec<u8>,
    written: usize,
    /// When the line will have carried what was written.
    free_at: Micros,
    open: Option<Open>,
    backoff: Backoff,
    /// When to log that nobody answers.
    complain_at: Micros,
    /// Why nobody answers, if received bytes show it.
    hint: Option<String>,
}

/// The open link.
struct Open {
    ends: Accepted,
    since: Micros,
    /// Something was queued on it: the hello.
    spoke: bool,
    /// The neighbour has the hello: before that it accepts nothing else.
    greeted: bool,
    quality: LinkQuality,
    /// When the engine is next told that the neighbour is there.
    alive_at: Micros,
}

/// What ended a wait.
enum Woken {
    Read(usize),
    Written(usize),
    /// The engine has closed the link.
    Closed,
    /// It is time, or there is something to send.
    Anyway,
}

impl<'l> Driver<'l> {
    pub(super) fn new(line: &'l Line, port: &'l Port) -> Self {
        let limits = line.limits.datagram;
        let role = line.remote.map_or(Role::Listen, Role::Dial);
        let memory = || Growable::new(KEEP + MEMORY_OVERHEAD);
        let memory = LinkMemory { inbound: [memory(), memory()], outbound: [memory(), memory()] };
        let frame = usize::from(limits.frame);
        Self {
            line,
            port,
            link: DatagramLink::new(limits, role, memory),
            keys: LineKeys(line.ways.key.clone()),
            deframer: Deframer::new(vec![0; frame + CRC_LEN]),
            ignored: 0,
            frame: vec![0; frame],
            out: Vec::new(),
            written: 0,
            free_at: 0,
            open: None,
            backoff: Backoff::new(line.ways.pauses),
            complain_at: line.ways.clock.now().saturating_add(limits.handshake_timeout),
            hint: None,
        }
    }

    /// Runs until the line fails; returns why. An open link is reported.
    pub(super) async fn run(mut self) -> PortError {
        let mut buffer = vec![0; READ];
        let error = loop {
            if let Err(error) = self.turn(&mut buffer).await {
                break error;
            }
        };
        if let Some(open) = self.open.take() {
            let _ = open.ends.outlet.report.down(error.to_string()).await;
        }
        error
    }

    async fn turn(&mut self, buffer: &mut [u8]) -> Result<(), PortError> {
        self.feed().await?;
        let deadline = self.transmit();
        // A timeout may have ended the link.
        self.deliver().await?;
        self.measure().await;
        self.tell();
        match self.wait(buffer, deadline).await? {
            Woken::Read(len) => {
                self.receive(buffer.get(..len).unwrap_or_default()).await?;
                // However much comes in, other tasks get their turn.
                yield_now().await;
            }
            Woken::Written(len) => self.written += len,
            Woken::Closed => {
                self.link.close();
                if let Some(open) = self.open.take() {
                    self.after(&open).await?;
                }
            }
            Woken::Anyway => {}
        }
        Ok(())
    }

    /// Tells the engine the quality of the line, if it has changed.
    async fn measure(&mut self) {
        let Some(open) = &mut self.open else { return };
        let Some(quality) = open.quality.update(self.link.sent()) else { return };
        // A stopping node does not want to know, but its last packets are still sent.
        let _ = open.ends.outlet.report.measured(quality).await;
    }

    async fn wait(&self, buffer: &mut [u8], deadline: Micros) -> Result<Woken, PortError> {
        let read = async { Ok(Woken::Read(self.port.read(buffer).await?)) };
        let write = async {
            match self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
                Some(rest) => Ok(Woken::Written(self.port.write(rest).await?)),
                None => std::future::pending().await,
            }
        };
        let time = async {
            Timer::at(self.line.ways.clock.instant(deadline)).await;
            Ok(Woken::Anyway)
        };
        let engine = async {
            let Some(Open { ends, .. }) = &self.open else { return std::future::pending().await };
            let closed = async {
                ends.ended.wait().await;
                Ok(Woken::Closed)
            };
            let packets = async {
                ends.outlet.egress.woken().await;
                Ok(Woken::Anyway)
            };
            or(closed, packets).await
        };
        // None of these may keep the others from their turn.
        race(race(engine, write), race(time, read)).await
    }

    async fn receive(&mut self, mut bytes: &[u8]) -> Result<(), PortError> {
        while let Some(frame) = self.deframer.next(&mut bytes) {
            let now = self.line.ways.clock.now();
            let of_session = frame.first().is_some_and(|number| *number <= SESSIONS);
            match self.link.receive(now, frame, &mut self.keys) {
                Ok(()) if of_session => self.alive(now).await,
                Ok(()) => {}
                Err(ignored) => {
                    self.ignored = self.ignored.saturating_add(1);
                    self.note(ignored);
                }
            }
            self.deliver().await?;
        }
        Ok(())
    }

    /// The neighbour has sent a frame. Even an acknowledgement shows that it is alive while a
    /// packet takes long. Acknowledgements are owed no answer, or there would be no end to them.
    async fn alive(&mut self, now: Micros) {
        let Some(open) = self.open.as_mut().filter(|open| now >= open.alive_at) else { return };
        open.alive_at = now.saturating_add(SIGN);
        // A stopping node does not want to know, but its last packets are still sent.
        let _ = open.ends.outlet.report.alive(false).await;
    }

    /// Keeps what explains why no link comes up.
    fn note(&mut self, ignored: Ignored) {
        tracing::trace!(line = %self.line.line, "ignored a frame: {ignored}");
        match ignored {
            Ignored::Version(_) | Ignored::OtherNeighbour => self.hint = Some(ignored.to_string()),
            Ignored::NotForUs if self.line.remote.is_some() => {
                let both = "both ends of the line dial: let one of them listen \
                            (mesh.listen_addr instead of mesh.peers)";
                self.hint = Some(both.to_owned());
            }
            _ => {}
        }
    }

    /// Hands over what came in, and tells the engine of links that come and go.
    async fn deliver(&mut self) -> Result<(), PortError> {
        loop {
            while let Some(event) = self.link.poll_event() {
                self.event(event).await?;
            }
            if let (Some(open), Some(packet)) = (&mut self.open, self.link.next_packet()) {
                match open.ends.inlet.put(packet.bytes).await {
                    Ok(()) => continue,
                    // The next wait shows it.
                    Err(NotTaken::Closed) => return Ok(()),
                    Err(NotTaken::TooLong(error)) => return self.give_up(error).await,
                }
            }
            // A packet that cannot be read has ended the link.
            let Some(event) = self.link.poll_event() else { return Ok(()) };
            self.event(event).await?;
        }
    }

    /// The neighbour broke the protocol: the link ends.
    async fn give_up(&mut self, error: FragmentError) -> Result<(), PortError> {
        self.link.close();
        let Some(open) = self.open.take() else { return Ok(()) };
        open.ends.outlet.report.down(error.to_string()).await?;
        self.after(&open).await
    }

    async fn event(&mut self, event: Event) -> Result<(), PortError> {
        match event {
            Event::Up(remote) => self.up(remote).await,
            Event::Down(reason) => {
                let Some(open) = self.open.take() else { return Ok(()) };
                open.ends.outlet.report.down(reason.to_string()).await?;
                match self.link.neighbour() {
                    // The neighbour started a new session: that link comes up next.
                    Some(_) => Ok(()),
                    None => self.after(&open).await,
                }
            }
        }
    }

    async fn up(&mut self, remote: PublicKey) -> Result<(), PortError> {
        let limits = &self.line.limits;
        let neighbour = Neighbour {
            public_key: remote,
            address: self.line.line.to_string(),
            dialed: self.line.remote.is_some(),
            standing: Standing::Own,
            limits: Limits {
                egress: limits.egress,
                keepalive: Some(limits.keepalive),
                round_trip: 0,
                is_watched: true,
            },
            medium: None,
        };
        self.hint = None;
        match self.line.ways.engine.offer(neighbour).await? {
            Some(ends) => {
                self.line.status.linked(true);
                let since = self.line.ways.clock.now();
                let quality = LinkQuality::new(self.link.sent());
                self.open = Some(Open {
                    ends,
                    since,
                    spoke: false,
                    greeted: false,
                    quality,
                    alive_at: since,
                });
                Ok(())
            }
            // The engine does not want this neighbour now.
            None => {
                self.link.close();
                self.rest(Duration::ZERO).await
            }
        }
    }

    /// A link has ended: the dialling side waits before it dials again.
    async fn after(&mut self, open: &Open) -> Result<(), PortError> {
        let lasted = self.line.ways.clock.now().saturating_sub(open.since);
        self.rest(Duration::from_micros(lasted)).await
    }

    async fn rest(&mut self, lasted: Duration) -> Result<(), PortError> {
        self.line.status.linked(false);
        // The link's own reason is known here.
        while self.link.poll_event().is_some() {}
        if self.line.remote.is_some() {
            let pause = self.backoff.after(Some(lasted));
            let pause = async {
                self.line.absent().await;
                if let Some(pause) = pause {
                    Timer::after(pause).await;
                    self.line.absent().await;
                }
                Ok::<(), PortError>(())
            };
            let mut nothing = [0; 256];
            let read = async {
                loop {
                    self.port.read(&mut nothing).await?;
                    yield_now().await;
                }
            };
            or(pause, read).await?;
        }
        let patience = self.line.limits.datagram.handshake_timeout;
        self.complain_at = self.line.ways.clock.now().saturating_add(patience);
        Ok(())
    }

    /// Takes packets out of the queues as far as the link has room.
    async fn feed(&mut self) -> Result<(), PortError> {
        let (now, limits) = (self.line.ways.clock.now(), &self.line.limits);
        let (Some(open), link) = (&mut self.open, &mut self.link) else { return Ok(()) };
        let Open { ends, spoke, greeted, .. } = open;
        *greeted |= *spoke && link.is_idle();
        let queue = limits.datagram.queue as usize;
        let room_again = ends.outlet.egress.hand_out(|priority, packet| {
            let ready = |lane| link.room(lane).saturating_add(limits.ahead) >= queue;
            let Some(lane) = lane_for(priority, *greeted, ready) else { return Given::NoRoom };
            match link.queue(now, lane, packet, &[]) {
                Ok(()) => {
                    *spoke = true;
                    Given::Taken
                }
                Err(NotQueued::Full | NotQueued::Down) => Given::NoRoom,
                Err(error @ (NotQueued::TooLong { .. } | NotQueued::Empty)) => {
                    tracing::warn!(line = %self.line.line, "a packet was dropped: {error}");
                    Given::Dropped
                }
            }
        });
        if ends.outlet.egress.is_finished() && self.link.is_idle() {
            ends.outlet.all_sent.close();
        }
        ends.outlet.report.room(room_again).await?;
        Ok(())
    }

    /// Makes the next frame if the line can take it; returns when to come back.
    fn transmit(&mut self) -> Micros {
        let now = self.line.ways.clock.now();
        if self.written < self.out.len() {
            // Without room for a frame: only what has timed out is done.
            let _ = self.link.transmit(now, &mut self.keys, &mut []);
            return now.saturating_add(100 * MILLISECOND);
        }
        self.out.clear();
        self.written = 0;
        let may_go = self.free_at.saturating_sub(AHEAD);
        if now < may_go {
            return may_go;
        }
        if let Some(len) = self.link.transmit(now, &mut self.keys, &mut self.frame) {
            let frame = self.frame.get(..len).unwrap_or_default();
            self.out.resize(serial::encoded_len(len), 0);
            let len = serial::encode(frame, &mut self.out).unwrap_or_default();
            self.out.truncate(len);
            self.free_at = self.free_at.max(now).saturating_add(self.line.limits.takes(len));
        }
        // Never at once: what is due now was done.
        self.link.poll_timeout().unwrap_or(Micros::MAX).max(now.saturating_add(MILLISECOND))
    }

    /// Records the counters, and now and then that nobody answers.
    fn tell(&mut self) {
        let (sent, damaged, ignored) = (self.link.sent(), self.deframer.damaged(), self.ignored);
        self.line.status.counted(Counts { sent, damaged, ignored }, self.link.round_trip());
        let now = self.line.ways.clock.now();
        let Some(id) = self.line.dialed() else {
            if let Some(hint) = self.hint.take() {
                self.line.status.warn(&hint);
            }
            return;
        };
        if self.link.neighbour().is_some() || (now < self.complain_at && self.hint.is_none()) {
            return;
        }
        self.complain_at = now.saturating_add(NO_ANSWER);
        let nobody = || "nobody who has this key answers on the line".to_owned();
        let error = self.hint.take().unwrap_or_else(nobody);
        self.line.status.warn(&error);
        self.line.ways.dials.failed(id, &self.line.line.to_string(), error);
    }
}
