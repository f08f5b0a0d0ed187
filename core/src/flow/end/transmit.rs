//! An end writes a packet.

use super::{
    End, Ended, Event, State, cost,
    credit::affordable,
    frames::{Frame, Writer},
    packet::{NUMBER_LEN, OVERHEAD},
    sent::Sent,
};
use crate::{
    link::aead::{Aead, TAG_LEN},
    time::Micros,
};

/// What may go into a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// An acknowledgement.
    Ack,
    /// And what is not data.
    News,
    /// And data.
    All,
}

impl<A: Aead> End<A> {
    /// Writes the body of the next Data packet into `out`, which should have room for the largest
    /// packet of the route. None if nothing is to be sent now.
    pub fn poll_transmit(&mut self, now: Micros, out: &mut [u8]) -> Option<usize> {
        if self.state != State::Open {
            return self.write_farewell(now, out);
        }
        self.paced_until = None;
        let (level, most) = self.level(now);
        let room = self.max_packet.min(out.len()).min(most);
        let frames = out.get_mut(NUMBER_LEN..room.checked_sub(TAG_LEN)?)?;
        let mut writer = Writer::new(frames);
        let due = self.acks.due().is_some_and(|due| due <= now);
        let carries = match level {
            Level::Ack => false,
            Level::News => self.recovery.probes > 0 || self.has_news(),
            Level::All => true,
        };
        if due || carries {
            self.acks.write(now, &mut writer);
        }
        if level >= Level::News {
            self.write_news(&mut writer);
        }
        if level == Level::All {
            self.streams.write_pieces(&mut writer, &mut self.recovery.sent);
        }
        let sent = &mut self.recovery.sent;
        if level >= Level::News && self.recovery.probes > 0 && !sent.asks() {
            // A probe must ask.
            if writer.put(&Frame::Ping) {
                sent.put(Sent::Ping);
            }
        }
        if writer.is_empty() {
            return None;
        }
        let len = writer.len().saturating_add(OVERHEAD);
        self.send(now, out, len)
    }

    /// Whether there is more than acknowledgements to send.
    pub(super) fn wants_to_send(&self) -> bool {
        self.recovery.probes > 0 || self.has_news() || self.streams.has_pieces()
    }

    fn has_news(&self) -> bool {
        self.credit.is_due() || self.frequency_due || self.streams.has_news()
    }

    /// What may be sent now, and in how many bytes.
    fn level(&mut self, now: Micros) -> (Level, usize) {
        let all = affordable(self.credit.left()).unwrap_or(0);
        if !self.wants_to_send() {
            self.recovery.idle_window = true;
            return (Level::Ack, all);
        }
        let full = cost(self.max_packet);
        if self.recovery.probes == 0 {
            if !self.recovery.has_room(full) {
                self.recovery.idle_window = false;
                return (Level::Ack, all);
            }
            let window = self.recovery.congestion.window();
            let round_trip = self.recovery.rtt.smoothed();
            let ready = self.pacer.ready_at(now, full, window, round_trip, full);
            if ready > now {
                self.recovery.idle_window = false;
                self.paced_until = Some(ready);
                return (Level::Ack, all);
            }
        }
        match affordable(self.credit.left_for_data()) {
            Some(most) => (Level::All, most),
            None => {
                if self.streams.has_pieces() && !core::mem::replace(&mut self.told_out, true) {
                    self.streams.events.push_back(Event::OutOfAllowance);
                }
                (Level::News, all)
            }
        }
    }

    fn write_news(&mut self, writer: &mut Writer<'_>) {
        let sent = &mut self.recovery.sent;
        if self.credit.is_due() && writer.room() >= 16 {
            writer.put(&Frame::Credit(self.credit.told()));
            sent.put(Sent::Credit);
        }
        let (packets, delay) = self.frequency;
        if self.frequency_due && writer.put(&Frame::AckFrequency { packets, delay }) {
            self.frequency_due = false;
            sent.put(Sent::Frequency);
        }
        self.streams.write_news(writer, sent);
    }

    /// Seals the first `len` bytes of `out` and counts them.
    fn send(&mut self, now: Micros, out: &mut [u8], len: usize) -> Option<usize> {
        let sealed = out.get_mut(..len).and_then(|packet| self.sealer.seal(packet));
        if sealed.is_none() {
            self.end(Ended::Exhausted);
            return None;
        }
        let bytes = cost(len);
        self.credit.spend(bytes);
        if self.recovery.sent.asks() {
            self.pacer.sent(now, bytes);
        }
        let Self { recovery, streams, credit, frequency_due, .. } = self;
        recovery.on_sent(now, bytes, &mut |frame, outcome| {
            super::receive::settle(frame, outcome, streams, credit, frequency_due);
        });
        Some(len)
    }

    /// Tells the peer that the flow has ended, or that this end knows.
    fn write_farewell(&mut self, now: Micros, out: &mut [u8]) -> Option<usize> {
        let (due, frame) = match &mut self.state {
            State::Closing { cause, code, due: due @ true, .. } => {
                (due, Frame::Close { cause: *cause, code: *code })
            }
            State::Over { due: due @ true } => (due, Frame::Close { cause: 0, code: 0 }),
            _ => return None,
        };
        let most = affordable(self.credit.left())?.min(out.len());
        let frames = out.get_mut(NUMBER_LEN..most.checked_sub(TAG_LEN)?)?;
        // What has come is acknowledged first: the peer may wait to know. If both do not fit, it
        // need not.
        let mut writer = Writer::new(frames);
        self.acks.write(now, &mut writer);
        let mut fits = writer.put(&frame);
        let mut len = writer.len();
        if !fits {
            let mut writer = Writer::new(frames);
            (fits, len) = (writer.put(&frame), writer.len());
        }
        if !fits {
            return None;
        }
        *due = false;
        let len = len.saturating_add(OVERHEAD);
        self.sealer.seal(out.get_mut(..len)?)?;
        let bytes = cost(len);
        self.credit.spend(bytes);
        self.recovery.counts.unasked = self.recovery.counts.unasked.saturating_add(bytes);
        Some(len)
    }
}
