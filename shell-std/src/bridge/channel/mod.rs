//! One direction and the other of a bridged connection, over datagrams that may be lost, doubled
//! and overtaken: whole messages, in order, once, with back-pressure. No I/O, no clock.
//!
//! Messages are numbered from 0 in each direction. A datagram carries the [control
//! message](super::control) and any number of consecutive messages. Memory is bounded at both
//! ends: the receiver says how many bytes it still takes.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use super::control::{Control, Flags, Kind};
use super::message::{self, Magic};
use blvm_mesh_core::time::{Micros, SECOND};
use incoming::Incoming;
use outgoing::{ACK_DELAY, Outgoing};

/// Bytes of messages that an end keeps until they are handed over.
const BUFFER: usize = 8 * 1024 * 1024;
/// What a message takes beside its bytes.
const PLACE: usize = 64;
/// With nothing heard for so long the connection is given up.
const PATIENCE: Micros = 180 * SECOND;
/// How long nothing may be heard before the other end is asked whether it is there.
const KEEPALIVE: Micros = 15 * SECOND;
/// The same where a datagram takes long.
const NARROW_KEEPALIVE: Micros = 60 * SECOND;
/// Messages of a datagram on such a route, in bytes, at most.
const NARROW: usize = 16 * 1024;
/// Datagrams after which an acknowledgement does not wait.
const ACK_EVERY: u32 = 2;

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// A whole message.
    Whole(Vec<u8>),
    /// A part of a list, which the next message goes on with.
    Part(Vec<u8>),
    /// There are no more.
    End,
}

impl Message {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) | Self::Part(bytes) => bytes,
            Self::End => &[],
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }
}

/// Why a connection ends before both sides have closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The other end knows no such connection, or gives it up.
    #[error("the other end has given it up")]
    Reset,
    /// Nothing is heard of it.
    #[error("the other end has not answered for {} s", PATIENCE / SECOND)]
    Unanswered,
    /// This node stops.
    #[error("this node is stopping")]
    Stopping,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) payload: Vec<u8>,
    /// Names it for [`Channel::stopped`] and [`Channel::not_sent`]; `None`: no messages are in it.
    pub(crate) transmission: Option<u64>,
}

/// An end of a bridged connection.
#[derive(Debug)]
pub(crate) struct Channel {
    magic: Magic,
    id: u64,
    /// Nothing was heard of the other end yet.
    opening: bool,
    outgoing: Outgoing,
    incoming: Incoming,
    ack_at: Micros,
    probe: bool,
    heard_at: Micros,
    /// When the other end was last asked whether it is there.
    asked_at: Micros,
    keepalive: Micros,
    failure: Option<Failure>,
}

impl Channel {
    /// The end that opens a connection, or the one that takes it.
    pub(crate) fn new(magic: Magic, id: u64, opens: bool, now: Micros) -> Self {
        Self {
            magic,
            id,
            opening: opens,
            outgoing: Outgoing::new(),
            incoming: Incoming::default(),
            ack_at: Micros::MAX,
            probe: false,
            heard_at: now,
            asked_at: now,
            keepalive: KEEPALIVE,
            failure: None,
        }
    }

    /// Whether another message is taken to be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.outgoing.has_room()
    }

    /// Sends messages, after those given before.
    pub(crate) fn push(&mut self, messages: impl IntoIterator<Item = Message>) {
        messages.into_iter().for_each(|message| self.outgoing.push(message));
    }

    /// Sends no more.
    pub(crate) fn finish(&mut self) {
        if !self.outgoing.is_finished() {
            self.push([Message::End]);
        }
    }

    /// Takes what a datagram of this connection carries.
    pub(crate) fn receive(&mut self, now: Micros, control: &Control, messages: &[u8]) {
        if control.flags.reset {
            self.fail(Failure::Reset);
            return;
        }
        (self.opening, self.heard_at) = (false, now);
        self.outgoing.acknowledged(now, control.ack, control.window, &control.ranges);
        let Flags { end, part, probe, .. } = control.flags;
        if !messages.is_empty() || end {
            self.incoming.take(control.number, message::each(messages), part, end);
            self.ack_at = self.ack_at.min(now.saturating_add(ACK_DELAY));
        }
        if probe || self.incoming.urgent || self.incoming.unacknowledged >= ACK_EVERY {
            self.ack_at = now;
        }
    }

    /// The next message for the other side of this end.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        self.incoming.pop()
    }

    /// What was taken out by [`pop`](Self::pop) is handed over.
    pub(crate) fn consumed(&mut self, now: Micros) {
        self.incoming.consumed();
        if self.incoming.has_opened() {
            self.ack_at = now;
        }
    }

    /// A relay stopped a datagram.
    pub(crate) fn stopped(&mut self, now: Micros, transmission: u64) {
        self.outgoing.stopped(now, transmission);
    }

    /// This node could not send a datagram.
    pub(crate) fn not_sent(&mut self, transmission: u64) {
        self.outgoing.not_sent(transmission);
    }

    /// The next datagram to send now, with at most `most` bytes of messages; `Err`: a message of
    /// this size is waiting, which is larger.
    pub(crate) fn next_datagram(
        &mut self,
        now: Micros,
        most: usize,
    ) -> Result<Option<Datagram>, usize> {
        self.keepalive = if most < NARROW { NARROW_KEEPALIVE } else { KEEPALIVE };
        let batch = self.outgoing.next_batch(now, most)?;
        let due = self.ack_at <= now || self.probe;
        if batch.is_none() && !due {
            return Ok(None);
        }
        let (ack, window, ranges) = self.incoming.report();
        self.ack_at = Micros::MAX;
        let probe = std::mem::take(&mut self.probe);
        let flags = Flags { open: self.opening, probe, ..Flags::default() };
        let number = self.outgoing.next();
        let mut control =
            Control { kind: Kind::Connection, flags, id: self.id, number, ack, window, ranges };
        let mut payload = Vec::new();
        if let Some(batch) = &batch {
            control.number = batch.number;
            (control.flags.end, control.flags.part) = (batch.end, batch.part);
            payload.reserve_exact(batch.bytes.len() + super::control::MAX_LEN);
        }
        control.write(self.magic, &mut payload);
        if let Some(batch) = &batch {
            payload.extend_from_slice(&batch.bytes);
        }
        Ok(Some(Datagram { payload, transmission: batch.map(|batch| batch.transmission) }))
    }

    /// When [`timeout`](Self::timeout) has something to do.
    pub(crate) fn timer(&self) -> Micros {
        let dead = self.heard_at.saturating_add(PATIENCE);
        self.outgoing.timer().min(self.ack_at).min(self.ask_at()).min(dead)
    }

    fn ask_at(&self) -> Micros {
        self.heard_at.max(self.asked_at).saturating_add(self.keepalive)
    }

    /// Time has passed.
    pub(crate) fn timeout(&mut self, now: Micros) {
        if self.outgoing.timeout(now) {
            self.probe = true;
        }
        if now >= self.ask_at() {
            (self.probe, self.asked_at) = (true, now);
        }
        if now.saturating_sub(self.heard_at) >= PATIENCE {
            self.fail(Failure::Unanswered);
        }
    }

    /// Ends it, unless it has failed before.
    pub(crate) fn fail(&mut self, why: Failure) {
        self.failure.get_or_insert(why);
    }

    /// Why it has failed.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Whether all messages of the other end were handed over, and there will be no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.incoming.is_over()
    }

    /// Whether the other end has all messages of this one, and knows that there are no more.
    pub(crate) fn is_delivered(&self) -> bool {
        self.outgoing.is_finished() && self.outgoing.is_empty()
    }

    /// Whether the route carries less than this many bytes per second, as far as it was seen, or
    /// only small packets.
    pub(crate) fn is_narrow(&self, rate: u64) -> bool {
        self.keepalive == NARROW_KEEPALIVE || self.outgoing.rate().is_some_and(|seen| seen < rate)
    }

    /// Round trip to the other end, as it was seen.
    pub(crate) fn round_trip(&self) -> Option<Micros> {
        self.outgoing.round_trip()
    }

    /// Messages that were sent again.
    pub(crate) fn repeated(&self) -> u64 {
        self.outgoing.repeated
    }
}
