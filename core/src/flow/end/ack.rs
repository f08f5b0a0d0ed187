//! Which packets came in, and when that is to be said (RFC 9000, 13.2).
//!
//! An acknowledgement is never acknowledged, so nobody learns that one has arrived. Instead each
//! range is reported a few times and then forgotten, but for the newest: the window of
//! [`packet`](super::packet) still knows which packets came in.

use super::frames::Writer;
use crate::time::{MILLISECOND, Micros};
use alloc::collections::VecDeque;

/// An acknowledgement waits so long, unless the peer asks for another time.
pub(super) const MAX_DELAY: Micros = 25 * MILLISECOND;
/// One is sent for so many packets, unless the peer asks for another number.
pub(super) const PACKETS: u64 = 2;
/// The longest that a peer may make an acknowledgement wait.
pub(super) const LONGEST_DELAY: Micros = 1_000 * MILLISECOND;

/// How often a range is reported.
const REPORTS: u8 = 4;

#[derive(Debug, Clone, Copy)]
struct Range {
    first: u64,
    last: u64,
    /// How often it is still to be reported.
    reports: u8,
}

/// What came in and how much of it was acknowledged.
#[derive(Debug)]
pub(super) struct Acks {
    /// The newest first.
    ranges: VecDeque<Range>,
    capacity: usize,
    /// When the newest packet came in.
    newest: Micros,
    /// Packets that ask for an acknowledgement and have none yet.
    waiting: u64,
    /// When they must have it.
    due: Option<Micros>,
    packets: u64,
    delay: Micros,
}

impl Acks {
    /// With room for so many ranges.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let ranges = VecDeque::with_capacity(capacity.saturating_add(1));
        let (packets, delay) = (PACKETS, MAX_DELAY);
        Self { ranges, capacity, newest: 0, waiting: 0, due: None, packets, delay }
    }

    /// The peer wants another rhythm.
    pub(super) fn set_frequency(&mut self, packets: u64, delay: Micros) {
        self.packets = packets.max(1);
        self.delay = delay.min(LONGEST_DELAY);
    }

    /// A packet came in that did not before. One `thrifty` with its bytes lets all packets wait.
    pub(super) fn received(&mut self, now: Micros, number: u64, asks: bool, thrifty: bool) {
        let next = self.ranges.front().map_or(0, |newest| newest.last.saturating_add(1));
        if number >= next {
            self.newest = now;
        }
        let out_of_order = number != next && !self.ranges.is_empty();
        self.insert(number);
        if !asks {
            return;
        }
        self.waiting = self.waiting.saturating_add(1);
        let hurry = (self.waiting >= self.packets || out_of_order) && !thrifty;
        let due = if hurry { now } else { now.saturating_add(self.delay) };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When an acknowledgement must go even if nothing else does.
    pub(super) fn due(&self) -> Option<Micros> {
        self.due
    }

    /// Writes what is to be acknowledged, if anything is and it fits.
    pub(super) fn write(&mut self, now: Micros, out: &mut Writer<'_>) -> bool {
        if self.waiting == 0 {
            return false;
        }
        let delay = now.saturating_sub(self.newest);
        let ranges = self.ranges.iter().map(|range| (range.first, range.last));
        if !out.ack(delay, ranges) {
            return false;
        }
        (self.waiting, self.due) = (0, None);
        for range in self.ranges.iter_mut().skip(1) {
            range.reports = range.reports.saturating_sub(1);
        }
        // Older ranges were reported more often, unless a late packet has changed one.
        while self.ranges.len() > 1 && self.ranges.back().is_some_and(|r| r.reports == 0) {
            self.ranges.pop_back();
        }
        true
    }

    fn insert(&mut self, number: u64) {
        let one = Range { first: number, last: number, reports: REPORTS };
        let Some(newest) = self.ranges.front_mut() else { return self.ranges.push_front(one) };
        if newest.last.checked_add(1) == Some(number) {
            newest.last = number;
            return;
        }
        // The first range that is wholly below the number.
        let below = self.ranges.iter().position(|range| range.last < number);
        let below = below.unwrap_or(self.ranges.len());
        let extends_below =
            self.ranges.get(below).is_some_and(|range| range.last.checked_add(1) == Some(number));
        let above = below.checked_sub(1);
        let extends_above = above
            .and_then(|above| self.ranges.get(above))
            .is_some_and(|range| number.checked_add(1) == Some(range.first));
        match (extends_above, extends_below) {
            (true, true) => {
                let first = self.ranges.remove(below).map_or(number, |range| range.first);
                self.extend(above, first);
            }
            (true, false) => self.extend(above, number),
            (false, true) => {
                if let Some(range) = self.ranges.get_mut(below) {
                    (range.last, range.reports) = (number, REPORTS);
                }
            }
            (false, false) => {
                self.ranges.insert(below, one);
                if self.ranges.len() > self.capacity {
                    self.ranges.pop_back();
                }
            }
        }
    }

    /// Another beginning of a range.
    fn extend(&mut self, at: Option<usize>, first: u64) {
        if let Some(range) = at.and_then(|at| self.ranges.get_mut(at)) {
            (range.first, range.reports) = (first, REPORTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::frames::*, *};
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::{collections::BTreeSet, vec::Vec};

    /// What is told now.
    fn told(acks: &mut Acks, now: Micros) -> Option<(Micros, Vec<(u64, u64)>)> {
        let mut out = [0; 300];
        let mut writer = Writer::new(&mut out);
        if !acks.write(now, &mut writer) {
            assert!(writer.is_empty());
            return None;
        }
        let len = writer.len();
        let mut frames = Frames::new(&out[..len]);
        let Some(Ok(Frame::Ack { delay, ranges })) = frames.next() else { panic!() };
        Some((delay, ranges.collect()))
    }

    #[test]
    fn every_second_packet_or_after_25_ms() {
        let mut acks = Acks::new(8);
        acks.received(1_000, 0, true, false);
        assert_eq!(acks.due(), Some(26_000));
        acks.received(3_000, 1, true, false);
        assert_eq!(acks.due(), Some(3_000));
        assert_eq!(told(&mut acks, 3_640), Some((640, std::vec![(0, 1)])));
        assert_eq!((acks.due(), told(&mut acks, 4_000)), (None, None));
        // A gap is told at once, and so is a packet that fills it.
        acks.received(5_000, 3, true, false);
        assert_eq!(acks.due(), Some(5_000));
        assert_eq!(told(&mut acks, 5_000), Some((0, std::vec![(3, 3), (0, 1)])));
        acks.received(6_000, 2, true, false);
        assert_eq!(acks.due(), Some(6_000));
        assert_eq!(told(&mut acks, 6_000).unwrap().1, [(0, 3)]);
        // What asks for nothing gets nothing, but is told with the rest.
        acks.received(7_000, 4, false, false);
        assert_eq!((acks.due(), told(&mut acks, 8_000)), (None, None));
        acks.set_frequency(3, 400_000);
        for number in 5..7 {
            acks.received(9_000, number, true, false);
            assert_eq!(acks.due(), Some(409_000));
        }
        acks.received(9_500, 7, true, false);
        assert_eq!(acks.due(), Some(9_500));
        assert_eq!(told(&mut acks, 9_500).unwrap().1, [(0, 7)]);
        // Who has few bytes left waits.
        acks.received(10_000, 9, true, true);
        acks.received(10_000, 10, true, true);
        assert_eq!(acks.due(), Some(410_000));
        // Nobody makes it wait for an hour.
        acks.set_frequency(0, u64::MAX);
        assert_eq!((acks.packets, acks.delay), (1, LONGEST_DELAY));
    }

    #[test]
    fn a_range_is_reported_four_times() {
        let mut acks = Acks::new(8);
        for number in [0, 2] {
            acks.received(0, number, true, false);
        }
        for number in 3..7 {
            assert_eq!(told(&mut acks, 0).unwrap().1, [(2, number - 1), (0, 0)]);
            acks.received(0, number, true, false);
        }
        assert_eq!(told(&mut acks, 0).unwrap().1, [(2, 6)]);
        // The one that fills the gap has nothing to join.
        acks.received(0, 1, true, false);
        assert_eq!(told(&mut acks, 0).unwrap().1, [(1, 6)]);
    }

    proptest! {
        #[test]
        fn tells_what_came_in(steps in any_vec((0u64..8, 0u64..20), 1..200)) {
            let (mut acks, mut few) = (Acks::new(300), Acks::new(5));
            let (mut seen, mut next) = (BTreeSet::new(), 0u64);
            for (forth, back) in steps {
                let number = (next + forth).saturating_sub(back);
                if !seen.insert(number) {
                    continue;
                }
                next = next.max(number + 1);
                acks.received(0, number, true, false);
                few.received(0, number, true, false);
                for acks in [&acks, &few] {
                    let apart = |a: &Range, b: &Range| a.first > b.last + 1;
                    let mut pairs = acks.ranges.iter().zip(acks.ranges.iter().skip(1));
                    prop_assert!(pairs.all(|(a, b)| apart(a, b)));
                }
                let all = |acks: &Acks| {
                    acks.ranges.iter().rev().flat_map(|r| r.first..=r.last).collect::<BTreeSet<_>>()
                };
                prop_assert_eq!(&all(&acks), &seen);
                // With less room, the newest of it.
                prop_assert!(few.ranges.len() <= 5 && all(&few).is_subset(&seen));
                prop_assert!(seen.last().is_some_and(|last| all(&few).contains(last)));
            }
        }
    }
}
