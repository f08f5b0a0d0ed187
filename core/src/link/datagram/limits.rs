//! What a datagram link holds to.

use super::terms::Terms;
use crate::time::{MILLISECOND, Micros, SECOND};

/// Limits of a link, for the line that it runs over. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramLimits {
    /// Largest frame that this side sends and takes, in bytes, without what the line
    /// itself adds. The neighbour is told.
    pub frame: u16,
    /// Largest packet that this side takes, in bytes. The neighbour is told.
    pub max_packet: u32,
    /// Bytes that may be queued on a lane, and largest packet that this side sends.
    pub queue: u32,
    /// Chunks that may be in flight, at most [`super::IN_FLIGHT`].
    pub window: u8,
    /// When something is sent again before a round trip was measured.
    pub initial_rto: Micros,
    /// Shortest time after which something is sent again.
    pub min_rto: Micros,
    /// Longest time after which something is sent again.
    pub max_rto: Micros,
    /// How long an acknowledgement may wait for a frame that goes anyway.
    pub ack_delay: Micros,
    /// How long a packet may take from being queued to its acknowledgement.
    pub packet_timeout: Micros,
    /// After how long without acknowledgements who dials tries another handshake.
    pub probe_after: Micros,
    /// After how long without acknowledgements the session is over.
    pub dead_after: Micros,
    /// How long a handshake may take.
    pub handshake_timeout: Micros,
    /// Time in which this side does the work of one handshake for a stranger; four may
    /// come at once.
    pub handshake_interval: Micros,
}

impl DatagramLimits {
    /// For a serial line with frames of up to `frame` bytes.
    pub const fn serial(frame: u16, max_packet: u32) -> Self {
        Self {
            frame,
            max_packet,
            queue: max_packet,
            window: 8,
            initial_rto: 500 * MILLISECOND,
            min_rto: 20 * MILLISECOND,
            max_rto: 5 * SECOND,
            ack_delay: 10 * MILLISECOND,
            packet_timeout: 30 * SECOND,
            probe_after: 5 * SECOND,
            dead_after: 20 * SECOND,
            handshake_timeout: 10 * SECOND,
            handshake_interval: 500 * MILLISECOND,
        }
    }

    /// For radio with frames of up to 255 bytes, each of which takes up to a second.
    pub const fn radio(max_packet: u32) -> Self {
        Self {
            frame: 255,
            max_packet,
            queue: max_packet,
            window: 4,
            initial_rto: 4 * SECOND,
            min_rto: SECOND,
            max_rto: 60 * SECOND,
            ack_delay: 300 * MILLISECOND,
            packet_timeout: 180 * SECOND,
            probe_after: 90 * SECOND,
            dead_after: 300 * SECOND,
            handshake_timeout: 90 * SECOND,
            handshake_interval: 2 * SECOND,
        }
    }

    /// What the neighbour is told for a session.
    pub(super) fn terms(&self, session: u8) -> Terms {
        Terms { session, frame: self.frame, max_packet: self.max_packet }
    }
}

/// How many handshakes may come at once.
const BURST: u64 = 4;

/// How much is done for strangers at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance {
    /// When all that was taken is paid back.
    full_at: Micros,
}

impl Allowance {
    /// Takes one, if one is left; one comes back each `interval`.
    pub(super) fn take(&mut self, now: Micros, interval: Micros) -> bool {
        let full_at = self.full_at.max(now).saturating_add(interval);
        let left = full_at <= now.saturating_add(interval.saturating_mul(BURST));
        if left {
            self.full_at = full_at;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_a_burst_and_then_one_at_a_time() {
        let mut allowance = Allowance::default();
        let taken = (0..1000).filter(|now| allowance.take(5_000 + now, 100)).count();
        assert_eq!(taken, 4 + 9);
        let later = 100_000;
        assert_eq!((0..9).filter(|_| allowance.take(later, 100)).count(), 4);
    }
}
