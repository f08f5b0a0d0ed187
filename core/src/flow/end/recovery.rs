//! Loss detection (RFC 9002, section 6): what arrived, what is lost, and when to ask.

use super::{
    congestion::Congestion,
    frames::Ranges,
    reason::Violation,
    rtt::Rtt,
    sent::{Fate, Sent, SentPackets},
};
use crate::time::Micros;

/// A packet is lost when one so much later arrived (`kPacketThreshold`).
const PACKET_THRESHOLD: u64 = 3;
/// Probes that are sent when a probe timeout is over.
const PROBES: u8 = 2;

/// What is to be done about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It arrived.
    Acked,
    /// It must be sent again.
    Lost,
}

/// Bytes of packets by what became of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) acked: u64,
    pub(super) lost: u64,
    pub(super) unasked: u64,
    pub(super) in_flight: u64,
}

/// What is under way on a path.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) sent: SentPackets,
    pub(super) rtt: Rtt,
    pub(super) congestion: Congestion,
    pub(super) counts: Counts,
    /// Probes that are to be sent whatever the window says.
    pub(super) probes: u8,
    /// The window is not in use, so it does not grow.
    pub(super) idle_window: bool,
    largest_acked: Option<u64>,
    /// When the oldest packet will count as lost, with a later one acknowledged.
    loss_time: Option<Micros>,
    /// Probe timeouts since anything was acknowledged.
    timeouts: u32,
    /// When a packet was last sent that asks for an acknowledgement.
    last_asked: Micros,
    /// First round-trip measurement of the path.
    measured_at: Option<Micros>,
}

impl Recovery {
    pub(super) fn new(initial_rtt: Micros, packet: u64) -> Self {
        Self {
            sent: SentPackets::default(),
            rtt: Rtt::new(initial_rtt),
            congestion: Congestion::new(packet),
            counts: Counts::default(),
            probes: 0,
            idle_window: true,
            largest_acked: None,
            loss_time: None,
            timeouts: 0,
            last_asked: 0,
            measured_at: None,
        }
    }

    /// Probe timeouts since anything was acknowledged.
    pub(super) fn timeouts(&self) -> u32 {
        self.timeouts
    }

    /// Whether so many bytes more may be in flight.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.counts.in_flight.saturating_add(bytes) <= self.congestion.window()
    }

    /// A packet was sent with the frames that were put into `sent`.
    pub(super) fn on_sent(
        &mut self,
        now: Micros,
        bytes: u64,
        outcome: &mut impl FnMut(Sent, Outcome),
    ) {
        if self.sent.is_full() {
            // More is under way than anybody acknowledges: the oldest is given up.
            self.lose(self.sent.first(), outcome);
        }
        if self.sent.asks() {
            self.last_asked = now;
            self.counts.in_flight = self.counts.in_flight.saturating_add(bytes);
            self.probes = self.probes.saturating_sub(1);
        } else {
            self.counts.unasked = self.counts.unasked.saturating_add(bytes);
        }
        self.sent.push(now, bytes);
    }

    /// Packets were acknowledged.
    ///
    /// # Errors
    /// [`Violation::AckOfUnsent`].
    pub(super) fn on_ack(
        &mut self,
        now: Micros,
        delay: Micros,
        ranges: Ranges<'_>,
        outcome: &mut impl FnMut(Sent, Outcome),
    ) -> Result<(), Violation> {
        let largest = ranges.largest().ok_or(Violation::Frame)?;
        if largest >= self.sent.next() {
            return Err(Violation::AckOfUnsent);
        }
        let newest = self.sent.get(largest).copied();
        let (mut any, mut asked) = (false, 0u64);
        for (first, last) in ranges {
            let from = first.max(self.sent.first());
            if last < from {
                break;
            }
            for number in from..=last {
                let Some(packet) = self.sent.get(number).copied() else { break };
                match packet.fate {
                    Fate::Outstanding => asked = asked.saturating_add(1),
                    Fate::Unasked => {}
                    Fate::Acked | Fate::Lost => continue,
                }
                any = true;
                self.arrived(now, number, outcome);
            }
        }
        if !any {
            return Ok(());
        }
        self.largest_acked = Some(self.largest_acked.map_or(largest, |before| before.max(largest)));
        // Only if the newest that is acknowledged is newly so (5.1).
        let fresh = newest.filter(|p| matches!(p.fate, Fate::Outstanding | Fate::Unasked));
        if let Some(newest) = fresh.filter(|_| asked > 0) {
            let sample = now.saturating_sub(newest.at);
            let sample = self.rtt.measure(sample, delay);
            self.measured_at.get_or_insert(now);
            self.congestion.on_round_trip(sample, largest, self.sent.next(), asked);
        }
        if asked > 0 {
            (self.timeouts, self.probes) = (0, 0);
        }
        self.detect(now, outcome);
        self.sent.trim();
        Ok(())
    }

    fn arrived(&mut self, now: Micros, number: u64, outcome: &mut impl FnMut(Sent, Outcome)) {
        let Some(packet) = self.sent.decide(number, Fate::Acked) else { return };
        let bytes = packet.bytes;
        self.counts.acked = self.counts.acked.saturating_add(bytes);
        if packet.fate == Fate::Unasked {
            self.counts.unasked = self.counts.unasked.saturating_sub(bytes);
            return;
        }
        self.counts.in_flight = self.counts.in_flight.saturating_sub(bytes);
        self.sent.frames(&packet).for_each(|frame| outcome(frame, Outcome::Acked));
        if self.idle_window {
            self.congestion.on_idle_ack();
        } else {
            self.congestion.on_ack(now, packet.at, bytes, self.rtt.smoothed());
        }
    }

    fn lose(&mut self, number: u64, outcome: &mut impl FnMut(Sent, Outcome)) {
        let Some(packet) = self.sent.decide(number, Fate::Lost) else { return };
        if packet.fate != Fate::Outstanding {
            return;
        }
        self.counts.in_flight = self.counts.in_flight.saturating_sub(packet.bytes);
        self.counts.lost = self.counts.lost.saturating_add(packet.bytes);
        self.sent.frames(&packet).for_each(|frame| outcome(frame, Outcome::Lost));
    }

    /// Finds what is lost (6.1). Both thresholds fall with the number, so the search ends at the
    /// first packet that is not.
    fn detect(&mut self, now: Micros, outcome: &mut impl FnMut(Sent, Outcome)) {
        self.loss_time = None;
        let Some(largest) = self.largest_acked else { return };
        let delay = self.rtt.loss_delay();
        // Last packet lost; beginning of a run of losses without one that arrived; the longest run;
        // how many are lost.
        let (mut last, mut run, mut longest, mut count) = (None, None, 0, 0u64);
        let mut number = self.sent.first();
        while number < largest {
            let Some(packet) = self.sent.get(number).copied() else { break };
            match packet.fate {
                Fate::Outstanding => {
                    let late = packet.at.saturating_add(delay);
                    if largest - number < PACKET_THRESHOLD && late > now {
                        self.loss_time = Some(late);
                        break;
                    }
                    self.lose(number, outcome);
                    (last, count) = (Some(packet.at), count.saturating_add(1));
                    // What was sent before the first measurement does not count (7.6.2).
                    if self.measured_at.is_some_and(|start| packet.at > start) {
                        let start = *run.get_or_insert(packet.at);
                        longest = longest.max(packet.at.saturating_sub(start));
                    }
                }
                Fate::Acked => run = None,
                Fate::Unasked | Fate::Lost => {}
            }
            number = number.saturating_add(1);
        }
        if let Some(last) = last {
            self.congestion.on_loss(now, last, count);
            if longest > self.rtt.persistent_congestion() {
                self.congestion.on_persistent_congestion();
            }
        }
    }

    /// When [`on_timeout`](Self::on_timeout) is to be called; `probe` if a probe could be sent.
    pub(super) fn timeout(&self, probe: bool) -> Option<Micros> {
        let probe = || {
            let waits = self.counts.in_flight > 0 && self.probes == 0 && probe;
            let after = self.rtt.probe_timeout(self.timeouts);
            waits.then(|| self.last_asked.saturating_add(after))
        };
        self.loss_time.or_else(probe)
    }

    /// A time is over: packets are lost, or the peer is to be asked, and this is true.
    pub(super) fn on_timeout(
        &mut self,
        now: Micros,
        outcome: &mut impl FnMut(Sent, Outcome),
    ) -> bool {
        if let Some(time) = self.loss_time {
            if now >= time {
                self.detect(now, outcome);
                self.sent.trim();
            }
            return false;
        }
        if self.timeout(true).is_none_or(|time| now < time) {
            return false;
        }
        self.timeouts = self.timeouts.saturating_add(1);
        self.probes = PROBES;
        // The probes carry again what is the longest under way; it is not lost by that.
        let oldest = (self.sent.first()..self.sent.next()).filter_map(|n| self.sent.get(n));
        let oldest = oldest.filter(|packet| packet.fate == Fate::Outstanding);
        for packet in oldest.take(PROBES.into()) {
            self.sent.frames(packet).for_each(|frame| outcome(frame, Outcome::Lost));
        }
        true
    }

    /// The path is another one: everything under way counts as lost, which says nothing about the
    /// new path, whose round trip and window are unknown.
    pub(super) fn on_new_path(&mut self, packet: u64, outcome: &mut impl FnMut(Sent, Outcome)) {
        for number in self.sent.first()..self.sent.next() {
            self.lose(number, outcome);
        }
        self.sent.trim();
        self.rtt.restart();
        self.congestion = Congestion::new(packet);
        (self.loss_time, self.timeouts, self.probes) = (None, 0, 0);
        (self.measured_at, self.largest_acked) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::{Frame, Frames, Writer};
    use super::super::sent::MOST;
    use super::*;
    use crate::time::SECOND;
    use std::{vec, vec::Vec};

    const BYTES: u64 = 1_000;

    /// Sends packets at these times, each with a frame that has its number.
    fn send(recovery: &mut Recovery, times: impl IntoIterator<Item = Micros>) {
        for at in times {
            let id = recovery.sent.next() as u32;
            recovery.sent.put(Sent::Reset { id });
            recovery.on_sent(at, BYTES, &mut |_, _| panic!("there is room"));
        }
    }

    /// Which packets arrived and which are lost, as an acknowledgement of these ranges says.
    fn ack(
        recovery: &mut Recovery,
        now: Micros,
        ranges: &[(u64, u64)],
    ) -> Result<[Vec<u32>; 2], Violation> {
        let mut out = [0; 200];
        let mut writer = Writer::new(&mut out);
        assert!(writer.ack(0, ranges.iter().copied()));
        let len = writer.len();
        let Some(Ok(Frame::Ack { delay, ranges })) = Frames::new(&out[..len]).next() else {
            panic!()
        };
        let mut told = [Vec::new(), Vec::new()];
        recovery.on_ack(now, delay, ranges, &mut note(&mut told))?;
        Ok(told)
    }

    fn note(told: &mut [Vec<u32>; 2]) -> impl FnMut(Sent, Outcome) + '_ {
        |frame, outcome| {
            let Sent::Reset { id } = frame else { panic!() };
            told[usize::from(outcome == Outcome::Lost)].push(id);
        }
    }

    fn timeout(recovery: &mut Recovery, now: Micros) -> Vec<u32> {
        let mut told = Default::default();
        recovery.on_timeout(now, &mut note(&mut told));
        let [_, again] = told;
        again
    }

    #[test]
    fn three_later_packets_or_nine_eighths_of_a_round_trip() {
        let mut recovery = Recovery::new(SECOND, BYTES);
        send(&mut recovery, [0; 8]);
        assert_eq!(ack(&mut recovery, 100_000, &[(2, 2)]), Ok([vec![2], vec![]]));
        // Two later packets are not enough.
        assert_eq!(recovery.timeout(true), Some(112_500));
        // The third is for the first packet; the round trip is 101 ms now.
        assert_eq!(ack(&mut recovery, 101_000, &[(2, 3)]), Ok([vec![3], vec![0]]));
        assert_eq!(timeout(&mut recovery, 113_624), [0u32; 0]);
        assert_eq!(timeout(&mut recovery, 113_625), [1]);
        // Those behind the newest acknowledged are not judged; a probe asks for them.
        assert_eq!(recovery.counts.in_flight, 4 * BYTES);
        assert_eq!((recovery.counts.lost, recovery.counts.acked), (2 * BYTES, 2 * BYTES));
        // What was lost and arrives nevertheless is not taken back.
        assert_eq!(ack(&mut recovery, 114_000, &[(0, 3)]), Ok([vec![], vec![]]));
        assert_eq!(ack(&mut recovery, 114_000, &[(8, 8)]), Err(Violation::AckOfUnsent));
    }

    #[test]
    fn probes_double_their_time_and_carry_the_oldest() {
        let mut recovery = Recovery::new(100_000, BYTES);
        send(&mut recovery, [0, 1_000, 2_000]);
        // 100 + 4 x 50 + 25 ms from the last packet.
        assert_eq!((recovery.timeout(true), recovery.timeout(false)), (Some(327_000), None));
        assert_eq!(timeout(&mut recovery, 326_999), [0u32; 0]);
        assert_eq!(timeout(&mut recovery, 327_000), [0, 1]);
        assert_eq!((recovery.probes, recovery.timeout(true)), (2, None));
        send(&mut recovery, [327_000, 327_000]);
        assert_eq!((recovery.probes, recovery.timeout(true)), (0, Some(977_000)));
        assert_eq!(recovery.counts.lost, 0, "a probe says nothing about the others");
        // An answer ends it.
        ack(&mut recovery, 400_000, &[(3, 4)]).unwrap();
        assert_eq!(recovery.timeouts, 0);
        assert_eq!(recovery.timeout(true), None);
        assert_eq!(recovery.counts.in_flight, 0);
    }

    #[test]
    fn a_long_time_of_losses_takes_the_window_to_its_minimum() {
        for (gap, minimum) in [(Some(5), false), (None, true)] {
            let mut recovery = Recovery::new(100_000, BYTES);
            send(&mut recovery, [0]);
            ack(&mut recovery, 100_000, &[(0, 0)]).unwrap();
            // A second and more: three times 100 + 4 x 50 + 25 ms.
            send(&mut recovery, (1..=12).map(|n| 100_000 + n * 100_000));
            send(&mut recovery, [1_400_000; 4]);
            let late = gap.map(|number| (number, number));
            let ranges: Vec<_> = [(16, 16)].into_iter().chain(late).collect();
            ack(&mut recovery, 1_500_000, &ranges).unwrap();
            assert_eq!(recovery.congestion.window() == 2 * BYTES, minimum, "{gap:?}");
        }
    }

    #[test]
    fn on_a_new_path_everything_is_sent_again_and_nothing_is_known() {
        let mut recovery = Recovery::new(SECOND, BYTES);
        send(&mut recovery, [0; 5]);
        ack(&mut recovery, 100_000, &[(0, 1)]).unwrap();
        let mut told = Default::default();
        recovery.on_new_path(BYTES, &mut note(&mut told));
        assert_eq!(told, [vec![], vec![2, 3, 4]]);
        assert_eq!((recovery.counts.in_flight, recovery.timeout(true)), (0, None));
        assert!(!recovery.rtt.is_measured());
        // What comes late over the old path measures nothing.
        assert_eq!(ack(&mut recovery, SECOND, &[(0, 4)]), Ok([vec![], vec![]]));
        assert!(!recovery.rtt.is_measured());
    }

    #[test]
    fn who_is_never_acknowledged_does_not_remember_for_ever() {
        let mut recovery = Recovery::new(SECOND, BYTES);
        send(&mut recovery, [0]);
        let mut lost = 0;
        for _ in 0..=MOST {
            // Acknowledgements behind a packet that nobody acknowledges.
            recovery.on_sent(0, 64, &mut |_, _| lost += 1);
        }
        assert_eq!((lost, recovery.counts.in_flight), (1, 0));
        assert!(recovery.sent.next() - recovery.sent.first() < MOST as u64);
    }
}
