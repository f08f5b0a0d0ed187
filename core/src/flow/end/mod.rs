//! The end of a sealed flow: ordered streams between source and destination, end-to-end encrypted,
//! over a path that loses, repeats and reorders packets. No I/O, no clock, no randomness.
//!
//! ```text
//! end = End::new(now, config, direction, flow, secrets)    the keys come from `handshake`
//! loop:
//!     for each Data packet of the flow:      end.receive(now, body)
//!     while let Some(event) =                end.poll_event()     read, write, open streams
//!     while let Some(len) =                  end.poll_transmit(now, out) => send out[..len] as Data
//!     sleep until a packet comes in or       end.next_timeout()   => end.handle_timeout(now)
//! ```
//!
//! - [`packet`]: numbers, and the seal. [`frames`]: what is inside.
//! - `recovery`, `congestion`, `pacing`: when to send, and what again, by the rules of QUIC
//!   (RFC 9002), with CUBIC (RFC 9438); `queue`: what counts as congestion.
//! - `streams`: each in order, none held up by another, all bounded.
//! - `credit`: every packet is paid for by the source, both ways.
//! - An end with nothing under way and nothing to say has no timer and sends nothing.
//! - Whatever is not authentic changes nothing. An authentic peer that breaks the protocol ends the
//!   flow with a [`Violation`].

mod ack;
mod congestion;
mod credit;
pub mod frames;
pub mod handshake;
mod pacing;
pub mod packet;
mod queue;
mod ranges;
mod reason;
mod receive;
mod recovery;
mod recv_stream;
mod rtt;
mod send_stream;
mod sent;
mod stream_frames;
mod streams;
mod transmit;
mod writer;

#[cfg(test)]
mod api_tests;
#[cfg(test)]
mod path_tests;
#[cfg(test)]
mod test_path;

pub use credit::{RESERVE, SMALLEST, cost};
pub use packet::Direction;
pub use reason::{Ended, Ignored, Violation};
pub use recv_stream::{MAX_WINDOW, Read};
pub use streams::{INITIAL_STREAMS, INITIAL_WINDOW, StreamLimits};

use crate::link::{aead::Aead, handshake::Secrets};
use crate::time::{MILLISECOND, Micros};
use ack::Acks;
use core::fmt;
use credit::Credit;
use pacing::Pacer;
use packet::{Opener, Sealer};
use recovery::Recovery;
use streams::Streams;

/// The smallest body of a Data packet that an end works with.
pub const MIN_PACKET: usize = 100;
/// The largest.
pub const MAX_PACKET: usize = 64 * 1024;

/// What an end is told at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndConfig {
    /// Bounds of streams.
    pub streams: StreamLimits,
    /// Ranges of packets that an acknowledgement may list, at most 100.
    pub ack_ranges: usize,
    /// A guess of the round trip, such as that of the Open.
    pub round_trip: Micros,
    /// Largest body of a Data packet on the route, within [`MIN_PACKET`] and [`MAX_PACKET`].
    pub max_packet: usize,
}

impl Default for EndConfig {
    /// 32 ranges, 333 ms (RFC 9002, 6.2.2), 1,400 bytes.
    fn default() -> Self {
        Self {
            streams: StreamLimits::default(),
            ack_ranges: 32,
            round_trip: 333 * MILLISECOND,
            max_packet: 1_400,
        }
    }
}

/// What has happened at an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Event {
    /// The peer has opened a stream.
    Opened(u32),
    /// There is something to read. Comes again only for what arrives after this event was taken,
    /// so read until [`Read::Blocked`].
    Readable(u32),
    /// There is room again on a stream whose write took less than it was given.
    Writable(u32),
    /// All that was written on a finished stream has arrived, or the peer knows that it was reset.
    Finished(u32),
    /// The peer does not want the rest of a stream: what was not yet sent is dropped.
    Stopped {
        /// The stream.
        id: u32,
        /// The peer's reason.
        code: u32,
    },
    /// A stream may be opened, which was refused before.
    StreamsAvailable,
    /// There is more to send than the allowance, or the source's grant, pays for. Goes on when
    /// that grows.
    OutOfAllowance,
    /// The flow has ended.
    Ended(Ended),
}

/// The stream is not open, or not for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[error("the stream is not open")]
pub struct NotOpen;

/// No more streams may be open at present. [`Event::StreamsAvailable`] says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[error("no more streams may be opened at present")]
pub struct LimitedStreams;

/// Counts and measurements of an end. Bytes are counted as they are paid for: whole packets with
/// their header, none for less than [`SMALLEST`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EndStats {
    /// Bytes sent. The sum of the four that follow.
    pub sent: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Written off as lost. Some of it may have arrived nevertheless.
    pub lost: u64,
    /// Not decided yet.
    pub in_flight: u64,
    /// Acknowledgements and farewells, which are not acknowledged themselves.
    pub unasked: u64,
    /// Bytes that may still be sent.
    pub left: u64,
    /// Bytes that the other end has sent, as far as is known. Counted at the source only.
    pub peer_sent: u64,
    /// The smoothed round trip, once measured.
    pub round_trip: Option<Micros>,
    /// The shortest round trip of the path.
    pub min_round_trip: Option<Micros>,
    /// Bytes that may be in flight.
    pub window: u64,
    /// Packets received that were taken.
    pub received: u64,
}

/// How a flow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// This end has closed it: the peer is told now, and again when something comes of it.
    Closing {
        cause: u32,
        code: u32,
        due: bool,
        told: u32,
    },
    /// Both ends know. `due`: the peer is to be told that this one does.
    Over {
        due: bool,
    },
}

/// One end of a sealed flow.
pub struct End<A> {
    state: State,
    sealer: Sealer<A>,
    opener: Opener<A>,
    max_packet: usize,
    streams: Streams,
    acks: Acks,
    recovery: Recovery,
    pacer: Pacer,
    credit: Credit,
    /// A packet must wait for the pacer until then.
    paced_until: Option<Micros>,
    /// It was said that the allowance is used up.
    told_out: bool,
    /// When the destination was last granted bytes.
    granted_at: Micros,
    /// How often the peer is asked to acknowledge, and whether that is to be told.
    frequency: (u64, Micros),
    frequency_due: bool,
    /// The highest packet number when all streams together had come so far: see `MAX_WINDOW`.
    marks: [Option<u64>; 2],
    received: u64,
}

impl<A: Aead> End<A> {
    /// An end that sends in this direction, with the keys of the [`handshake`].
    pub fn new(
        now: Micros,
        config: EndConfig,
        direction: Direction,
        flow: u64,
        secrets: &Secrets,
    ) -> Self {
        let other = match direction {
            Direction::FromSource => Direction::FromDestination,
            Direction::FromDestination => Direction::FromSource,
        };
        let max_packet = config.max_packet.clamp(MIN_PACKET, MAX_PACKET);
        let packet = cost(max_packet);
        let recovery = Recovery::new(config.round_trip, packet);
        let window = recovery.congestion.window();
        Self {
            state: State::Open,
            sealer: Sealer::new(&secrets.sending, flow, direction),
            opener: Opener::new(&secrets.receiving, flow, other),
            max_packet,
            streams: Streams::new(direction, config.streams),
            acks: Acks::new(config.ack_ranges.min(100)),
            pacer: Pacer::new(now, window, recovery.rtt.smoothed(), packet),
            recovery,
            credit: Credit::new(direction),
            paced_until: None,
            told_out: false,
            granted_at: now,
            frequency: (ack::PACKETS, ack::MAX_DELAY),
            frequency_due: false,
            marks: [None; 2],
            received: 0,
        }
    }

    /// Whether the flow has ended.
    pub fn is_over(&self) -> bool {
        self.state != State::Open
    }

    /// Whether this end has ended the flow, and the peer is to be told.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Whether the peer is to be told now that the flow has ended, or that this end knows.
    pub fn owes_farewell(&self) -> bool {
        matches!(self.state, State::Closing { due: true, .. } | State::Over { due: true })
    }

    /// Drops what the streams hold, once the flow has ended.
    pub fn drop_streams(&mut self) {
        if self.is_over() {
            let limits = StreamLimits { pool: 0, ..StreamLimits::default() };
            self.streams = Streams::new(self.streams.direction, limits);
        }
    }

    /// Whether nothing is under way or waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.recovery.counts.in_flight == 0 && !self.wants_to_send()
    }

    /// Counts and measurements.
    pub fn stats(&self) -> EndStats {
        let (counts, rtt) = (self.recovery.counts, &self.recovery.rtt);
        EndStats {
            sent: self.credit.sent(),
            acknowledged: counts.acked,
            lost: counts.lost,
            in_flight: counts.in_flight,
            unasked: counts.unasked,
            left: self.credit.left(),
            peer_sent: self.credit.peer_sent(),
            round_trip: Some(rtt.smoothed()).filter(|_| rtt.is_measured()),
            min_round_trip: rtt.min(),
            window: self.recovery.congestion.window(),
            received: self.received,
        }
    }

    /// Opens a stream, of which the peer hears with the next packet.
    ///
    /// # Errors
    /// [`LimitedStreams`].
    pub fn open_stream(&mut self) -> Result<u32, LimitedStreams> {
        self.streams.open()
    }

    /// Takes bytes to send, as many as there is room for.
    ///
    /// # Errors
    /// [`NotOpen`]: the stream is finished, was reset, or does not exist.
    pub fn write(&mut self, stream: u32, data: &[u8]) -> Result<usize, NotOpen> {
        self.streams.write(stream, data)
    }

    /// No more bytes come on a stream.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn finish(&mut self, stream: u32) -> Result<(), NotOpen> {
        self.streams.finish(stream)
    }

    /// Gives a stream up: what has not arrived is dropped.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn reset(&mut self, stream: u32, code: u32) -> Result<(), NotOpen> {
        self.streams.reset(stream, code)
    }

    /// Wants no more of what the peer sends on a stream.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn stop(&mut self, stream: u32, code: u32) -> Result<(), NotOpen> {
        self.streams.stop(stream, code)
    }

    /// Takes bytes that came in.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn read(&mut self, stream: u32, out: &mut [u8]) -> Result<Read, NotOpen> {
        self.streams.read(stream, out)
    }

    /// Bytes that came in, where they lie; [`consume`](Self::consume) takes them. Empty if there
    /// are none: [`read`](Self::read) says why.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn peek(&self, stream: u32) -> Result<&[u8], NotOpen> {
        self.streams.peek(stream)
    }

    /// Takes bytes that [`peek`](Self::peek) has shown.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn consume(&mut self, stream: u32, bytes: usize) -> Result<(), NotOpen> {
        self.streams.consume(stream, bytes)
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.streams.poll_event()
    }

    /// Probe timeouts in a row: so often nothing came where something should.
    pub fn timeouts(&self) -> u32 {
        self.recovery.timeouts()
    }

    /// Asks the peer for a sign that it is there.
    pub fn ping(&mut self) {
        self.recovery.probes = self.recovery.probes.max(1);
    }

    /// Tells the peer once more that this end has closed the flow, unless it knows.
    pub fn repeat_farewell(&mut self) {
        if let State::Closing { due, .. } = &mut self.state {
            *due = true;
        }
    }

    /// Ends the flow. What was not sent is dropped: to have all arrive, finish the streams and wait
    /// for [`Event::Finished`].
    pub fn close(&mut self, code: u32) {
        self.end(Ended::Here(code));
    }

    /// Source: what both ends together may have sent in all, since the beginning. It only ever
    /// rises.
    pub fn set_allowance(&mut self, now: Micros, bytes: u64) {
        let was = self.credit.is_due();
        self.credit.set_allowance(bytes);
        if !was && self.credit.is_due() {
            self.granted_at = now;
        }
        self.told_out = false;
    }

    /// The largest body that the route carries from now on.
    pub fn set_max_packet(&mut self, bytes: usize) {
        self.max_packet = bytes.clamp(MIN_PACKET, MAX_PACKET);
        self.recovery.congestion.set_packet(cost(self.max_packet));
    }

    /// The flow takes another route: all that is not acknowledged is sent again over it, and what
    /// was measured on the old one is forgotten.
    ///
    /// To be called too when a route works again after a long time. A destination that has used up
    /// its grant for probes that nobody heard is silent until the source's end grants a little more.
    pub fn route_changed(&mut self, now: Micros) {
        let Self { recovery, streams, credit, frequency_due, .. } = self;
        recovery.on_new_path(cost(self.max_packet), &mut |frame, outcome| {
            receive::settle(frame, outcome, streams, credit, frequency_due);
        });
        let window = self.recovery.congestion.window();
        let round_trip = self.recovery.rtt.smoothed();
        self.pacer = Pacer::new(now, window, round_trip, cost(self.max_packet));
        self.paced_until = None;
        self.credit.on_silence();
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called at the latest. None if nothing
    /// is under way or waits.
    pub fn next_timeout(&self) -> Option<Micros> {
        if self.state != State::Open {
            return None;
        }
        let affordable = self.credit.left() >= SMALLEST;
        let ack = self.acks.due().filter(|_| affordable);
        let recovery = self.recovery.timeout(affordable);
        [ack, recovery, self.paced_until].into_iter().flatten().min()
    }

    /// A time is over. [`poll_transmit`](Self::poll_transmit) has what comes of it.
    pub fn handle_timeout(&mut self, now: Micros) {
        if self.state != State::Open {
            return;
        }
        let affordable = self.credit.left() >= SMALLEST;
        if self.recovery.timeout(affordable).is_some_and(|time| now >= time) {
            let Self { recovery, streams, credit, frequency_due, .. } = self;
            let silence = recovery.on_timeout(now, &mut |frame, outcome| {
                receive::settle(frame, outcome, streams, credit, frequency_due);
            });
            if silence {
                self.credit.on_silence();
            }
        }
        if self.paced_until.is_some_and(|time| now >= time) {
            self.paced_until = None;
        }
    }

    /// Ends the flow for this reason.
    fn end(&mut self, reason: Ended) {
        if self.state != State::Open {
            return;
        }
        let closing = |cause, code| State::Closing { cause, code, due: true, told: 0 };
        self.state = match reason {
            Ended::Here(code) => closing(0, code),
            Ended::Broken(violation) => closing(violation as u32, 0),
            Ended::There(_) | Ended::Accused(_) | Ended::AccusedOf(_) => State::Over { due: true },
            Ended::Exhausted => State::Over { due: false },
        };
        self.streams.events.push_back(Event::Ended(reason));
    }
}

impl<A> fmt::Debug for End<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("state", &self.state).finish_non_exhaustive()
    }
}
