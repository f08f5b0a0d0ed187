//! An end takes a packet.

use super::{
    Ended, Ignored, SMALLEST, State, Violation,
    ack::{self, LONGEST_DELAY},
    cost,
    credit::Credit,
    frames::{Frame, Frames},
    recovery::Outcome,
    recv_stream::LATE,
    sent::Sent,
    streams::Streams,
};
use crate::{
    flow::end::End,
    link::aead::Aead,
    time::{MILLISECOND, Micros},
};

/// A path with a longer round trip is slow: it is asked for fewer acknowledgements.
const SLOW: Micros = 100 * MILLISECOND;
/// Most packets that one acknowledgement waits for on a slow path.
const SLOW_PACKETS: u64 = 8;

impl<A: Aead> End<A> {
    /// Takes the body of a Data packet of this flow, which is decrypted in place.
    ///
    /// # Errors
    /// [`Ignored`]: nothing has changed.
    pub fn receive(&mut self, now: Micros, packet: &mut [u8]) -> Result<(), Ignored> {
        let bytes = cost(packet.len());
        if self.state != State::Open {
            return self.receive_late(packet);
        }
        let (number, frames) = self.opener.open(packet)?;
        // Too old for its offsets to be told apart.
        if self.marks.first().copied().flatten().is_some_and(|mark| number <= mark) {
            return Err(Ignored::Replayed);
        }
        self.received = self.received.saturating_add(bytes);
        self.with_credit(now, |credit, soon| credit.received(bytes, soon));
        let before = self.streams.received;
        match self.take_frames(now, frames) {
            Ok(asks) => {
                if before / (LATE / 2) != self.streams.received / (LATE / 2) {
                    let [_, last] = self.marks;
                    self.marks = [last, self.opener.highest()];
                }
                let thrifty = self.credit.is_scarce();
                self.acks.received(now, number, asks, thrifty);
            }
            Err(violation) => self.end(Ended::Broken(violation)),
        }
        Ok(())
    }

    /// Takes a packet when the flow has ended: the peer may not know, or know now.
    fn receive_late(&mut self, packet: &mut [u8]) -> Result<(), Ignored> {
        let (_, frames) = self.opener.open(packet)?;
        let closes = Frames::new(frames).any(|f| matches!(f, Ok(Frame::Close { .. })));
        match &mut self.state {
            State::Closing { due, .. } if closes => {
                self.state = State::Over { due: *due };
                return Ok(());
            }
            // It has not heard. The farewell is repeated ever less often.
            State::Closing { due, told, .. } => {
                *told = told.saturating_add(1);
                *due |= told.is_power_of_two();
            }
            // The answer was lost.
            State::Over { due } => *due |= closes,
            State::Open => {}
        }
        Err(Ignored::Ended)
    }

    /// Whether the peer asks for an acknowledgement by these frames.
    fn take_frames(&mut self, now: Micros, bytes: &[u8]) -> Result<bool, Violation> {
        let (mut asks, mut any) = (false, false);
        for frame in Frames::new(bytes) {
            let frame = frame?;
            any = true;
            asks |= !matches!(frame, Frame::Ack { .. } | Frame::Close { .. });
            match frame {
                Frame::Ack { delay, ranges } => {
                    let Self { recovery, streams, credit, frequency_due, .. } = self;
                    recovery.on_ack(now, delay, ranges, &mut |frame, outcome| {
                        settle(frame, outcome, streams, credit, frequency_due);
                    })?;
                    self.choose_frequency();
                }
                Frame::Ping => {}
                Frame::Credit(bytes) => {
                    if !self.with_credit(now, |credit, soon| credit.on_told(bytes, soon)) {
                        return Err(Violation::Credit);
                    }
                }
                Frame::AckFrequency { packets, delay } => self.acks.set_frequency(packets, delay),
                Frame::Close { cause: 0, code } => self.end(Ended::There(code)),
                Frame::Close { cause, .. } => self.end(match Violation::from_number(cause) {
                    Some(violation) => Ended::Accused(violation),
                    None => Ended::AccusedOf(cause),
                }),
                _ => self.streams.on_frame(&frame)?,
            }
        }
        if any { Ok(asks) } else { Err(Violation::Empty) }
    }

    /// Counts something; a grant that follows from it is larger if the one before was used within a
    /// few round trips.
    fn with_credit<T>(&mut self, now: Micros, count: impl FnOnce(&mut Credit, bool) -> T) -> T {
        let span = self.recovery.rtt.smoothed().saturating_mul(4);
        let (due, left) = (self.credit.is_due(), self.credit.left());
        let counted = count(&mut self.credit, now.saturating_sub(self.granted_at) < span);
        if self.credit.is_due() && !due {
            self.granted_at = now;
        }
        if self.credit.left() > left {
            self.told_out = false;
        }
        counted
    }

    /// On a slow path the peer is asked for fewer acknowledgements: each is paid for, and on radio
    /// takes the time of a packet.
    fn choose_frequency(&mut self) {
        let round_trip = self.recovery.rtt.smoothed();
        let delay = (round_trip / 4).clamp(ack::MAX_DELAY, LONGEST_DELAY);
        let packets = if round_trip < SLOW {
            ack::PACKETS
        } else {
            let window = self.recovery.congestion.window() / cost(self.max_packet).max(SMALLEST);
            (window / 4).clamp(ack::PACKETS, SLOW_PACKETS)
        };
        let (asked, within) = self.frequency;
        let far = |new: u64, old: u64| new >= old.saturating_mul(2) || new <= old / 2;
        if far(delay, within) || (packets != asked && far(packets, asked)) {
            self.frequency = (packets, delay);
            self.recovery.rtt.ack_delay = delay;
            self.frequency_due = true;
        }
    }
}

/// What became of a frame is told to who sent it.
pub(super) fn settle(
    frame: Sent,
    outcome: Outcome,
    streams: &mut Streams,
    credit: &mut Credit,
    frequency_due: &mut bool,
) {
    match (frame, outcome) {
        (Sent::Credit, Outcome::Lost) => credit.lost(),
        (Sent::Frequency, Outcome::Lost) => *frequency_due = true,
        _ => streams.on_outcome(frame, outcome),
    }
}
