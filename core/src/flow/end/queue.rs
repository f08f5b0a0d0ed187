//! What round trips and losses say about the queue on the path, round by round.
//!
//! CUBIC alone fills the queue and takes every loss for a full one. Here bytes that are lost are
//! paid for, and on radio a loss is mostly the air's. So the window stops growing when packets wait
//! for long (as HyStart++ does in slow start, RFC 9406), and a loss counts as congestion only if
//! packets wait, or more than a few are lost.

use crate::time::{MILLISECOND, Micros};

/// Packets before a batch of measurements is judged (`N_RTT_SAMPLE`), and most of one. A batch ends
/// with its round at the latest.
const SAMPLES: u64 = 8;
const BATCH: u64 = 32;
/// Rounds after which a shortest round trip is forgotten, at most twice as many.
const SPAN: u32 = 64;
/// Losses up to this part of the packets need not be congestion, nor do a few.
const TOLERATED: u64 = 32;
const FEW: u64 = 8;
/// Counts of packets lose this part with each round.
const FADING: u64 = 8;
/// A packet in the counts.
const PACKET: u64 = 256;

/// The queue on a path.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    /// Shortest round trips of this span of rounds and of the one before.
    shortest: [Micros; 2],
    rounds: u32,
    /// Shortest of this batch and of the one before, and packets of this one.
    current: Micros,
    last: Micros,
    packets: u64,
    /// The round ends when this packet is acknowledged.
    round_end: Option<u64>,
    /// In units of [`PACKET`], so that they fade evenly.
    acked: u64,
    lost: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            shortest: [Micros::MAX; 2],
            rounds: 0,
            current: Micros::MAX,
            last: Micros::MAX,
            packets: 0,
            round_end: None,
            acked: 0,
            lost: 0,
        }
    }
}

impl Queue {
    /// A measurement by an acknowledgement of `packets`, the newest `acked`, when `next` is the
    /// next to be sent.
    pub(super) fn on_round_trip(&mut self, sample: Micros, acked: u64, next: u64, packets: u64) {
        if acked >= *self.round_end.get_or_insert(next) {
            self.round_end = Some(next);
            self.end_batch();
            self.acked -= self.acked / FADING;
            self.lost -= self.lost / FADING;
            self.rounds = self.rounds.saturating_add(1);
            if self.rounds >= SPAN {
                let [this, _] = self.shortest;
                (self.shortest, self.rounds) = ([Micros::MAX, this], 0);
            }
        }
        if self.packets >= BATCH {
            self.end_batch();
        }
        self.current = self.current.min(sample);
        self.packets = self.packets.saturating_add(packets);
        self.acked = self.acked.saturating_add(packets.saturating_mul(PACKET));
        let [this, _] = &mut self.shortest;
        *this = sample.min(*this);
    }

    fn end_batch(&mut self) {
        (self.last, self.current, self.packets) = (self.current, Micros::MAX, 0);
    }

    /// So many packets are lost.
    pub(super) fn on_loss(&mut self, packets: u64) {
        self.lost = self.lost.saturating_add(packets.saturating_mul(PACKET));
    }

    /// Round trip of the empty path.
    fn path(&self) -> Micros {
        let [this, before] = self.shortest;
        this.min(before)
    }

    /// How long packets wait at least.
    fn waiting(&self) -> Micros {
        let round = if self.packets >= SAMPLES { self.current } else { self.last };
        if round == Micros::MAX { 0 } else { round.saturating_sub(self.path()) }
    }

    /// Packets begin to wait: slow start goes on more slowly.
    pub(super) fn is_filling(&self) -> bool {
        self.waiting() >= (self.path() / 8).clamp(4 * MILLISECOND, 16 * MILLISECOND)
    }

    /// Packets wait for half of the path's round trip: more of them under way carry nothing more.
    pub(super) fn is_long(&self) -> bool {
        self.waiting() >= (self.path() / 2).max(10 * MILLISECOND)
    }

    /// Whether losses are the queue's.
    pub(super) fn is_congested(&self) -> bool {
        let many = self.lost > FEW * PACKET
            && self.lost.saturating_mul(TOLERATED) > self.acked.saturating_add(self.lost);
        many || self.waiting() >= (self.path() / 4).max(4 * MILLISECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of ten packets with these round trips.
    fn rounds(queue: &mut Queue, from: u64, round_trips: &[Micros]) {
        for (n, sample) in (from..).zip(round_trips) {
            for _ in 0..5 {
                queue.on_round_trip(*sample, n * 10 + 10, n * 10 + 20, 2);
            }
        }
    }

    #[test]
    fn what_waits_is_seen_against_the_empty_path() {
        let mut queue = Queue::default();
        rounds(&mut queue, 0, &[100_000, 100_000, 112_000]);
        assert!(!queue.is_filling() && !queue.is_congested());
        rounds(&mut queue, 3, &[113_000]);
        assert!(queue.is_filling() && !queue.is_long() && !queue.is_congested());
        rounds(&mut queue, 4, &[125_000]);
        assert!(queue.is_congested() && !queue.is_long());
        rounds(&mut queue, 5, &[150_000]);
        assert!(queue.is_long());
        // One packet that did not wait is enough, and two are no round.
        queue.on_round_trip(200_000, 70, 80, 2);
        assert!(queue.is_long());
        rounds(&mut queue, 7, &[100_000]);
        assert!(!queue.is_filling());
        // A path that has become longer is believed in the end.
        rounds(&mut queue, 8, &[200_000; 140]);
        assert!(!queue.is_filling());
    }

    #[test]
    fn a_few_losses_are_not_congestion() {
        let mut queue = Queue::default();
        queue.on_loss(8);
        assert!(!queue.is_congested());
        queue.on_loss(1);
        assert!(queue.is_congested());
        let mut queue = Queue::default();
        rounds(&mut queue, 0, &[100_000; 40]);
        // About 80 packets are still counted.
        queue.on_loss(8);
        assert!(!queue.is_congested());
        queue.on_loss(1);
        assert!(queue.is_congested());
        rounds(&mut queue, 40, &[100_000; 40]);
        assert!(!queue.is_congested());
    }
}
