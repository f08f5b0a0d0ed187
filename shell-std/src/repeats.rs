//! Own paid datagrams that may have to be sent again: what stops one on its way may be over
//! a second later, and its payment is booked at the nodes before.

use blvm_mesh_core::mesh::MeshError;
use blvm_mesh_core::payment::replay::{REPEAT_PAUSE, REPEATS};
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::route_error::Cause;
use std::collections::BTreeMap;

/// Most bytes of packets that are kept. Full: the oldest goes.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How long a packet is kept after it was sent the last time: reports of relays come sooner.
const KEPT: Micros = 60 * SECOND;
/// Beyond the pause that relays ask for: what is sent may be faster than what was.
const MARGIN: Micros = REPEAT_PAUSE / 4;

struct Kept {
    packet: Vec<u8>,
    /// How often it was sent again.
    times: u8,
    sent: Micros,
    /// When it is to be sent again, if it was stopped.
    due: Option<Micros>,
}

/// Own paid datagrams by their numbers.
#[derive(Default)]
pub(crate) struct Repeats {
    kept: BTreeMap<u64, Kept>,
    /// In the order in which they were sent first.
    order: BTreeMap<u64, u64>,
    next: u64,
    bytes: usize,
    due: Option<Micros>,
}

impl Repeats {
    /// Keeps a paid datagram that was sent just now.
    pub(crate) fn keep(&mut self, now: Micros, sequence: u64, head: &[u8], tail: &[u8]) {
        let packet = [head, tail].concat();
        if packet.len() > MOST_BYTES || self.kept.contains_key(&sequence) {
            return;
        }
        while self.bytes + packet.len() > MOST_BYTES {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.forget(oldest);
        }
        self.bytes += packet.len();
        self.kept.insert(sequence, Kept { packet, times: 0, sent: now, due: None });
        self.order.insert(self.next, sequence);
        self.next += 1;
    }

    fn forget(&mut self, sequence: u64) {
        if let Some(gone) = self.kept.remove(&sequence) {
            self.bytes -= gone.packet.len();
        }
    }

    /// A relay stopped a datagram: which repeat is made of it, from 1; `None` if none is.
    pub(crate) fn stopped(&mut self, now: Micros, sequence: u64, cause: Cause) -> Option<u8> {
        self.again(now, sequence, cause.passes())
    }

    /// This node itself did not send a repeat: whether it tries again, as above.
    pub(crate) fn refused(&mut self, now: Micros, sequence: u64, why: &MeshError) -> Option<u8> {
        self.again(now, sequence, why.cause().is_some_and(Cause::passes))
    }

    fn again(&mut self, now: Micros, sequence: u64, passes: bool) -> Option<u8> {
        let kept = self.kept.get_mut(&sequence)?;
        if !passes || kept.times >= REPEATS {
            self.forget(sequence);
            return None;
        }
        let pause = (REPEAT_PAUSE + MARGIN) << kept.times;
        let due = now.saturating_add(pause);
        kept.times += 1;
        kept.due = Some(due);
        self.due = Some(self.due.map_or(due, |first| first.min(due)));
        Some(kept.times)
    }

    /// How often a datagram was sent again.
    pub(crate) fn times(&self, sequence: u64) -> u8 {
        self.kept.get(&sequence).map_or(0, |kept| kept.times)
    }

    /// When the first is to be sent again.
    pub(crate) fn due(&self) -> Option<Micros> {
        self.due
    }

    /// A datagram that is to be sent again by now.
    pub(crate) fn take(&mut self, now: Micros) -> Option<(u64, Vec<u8>)> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        let is_due = |kept: &Kept| kept.due.is_some_and(|due| due <= now);
        let found = self.kept.iter_mut().find(|(_, kept)| is_due(kept)).map(|(sequence, kept)| {
            (kept.due, kept.sent) = (None, now);
            (*sequence, kept.packet.clone())
        });
        self.due = self.kept.values().filter_map(|kept| kept.due).min();
        found
    }

    /// Forgets what nobody will report any more.
    pub(crate) fn housekeeping(&mut self, now: Micros) {
        let over = |kept: &Kept| kept.due.is_none() && kept.sent.saturating_add(KEPT) <= now;
        let gone: Vec<u64> =
            self.kept.iter().filter(|(_, kept)| over(kept)).map(|(s, _)| *s).collect();
        gone.into_iter().for_each(|sequence| self.forget(sequence));
        self.order.retain(|_, sequence| self.kept.contains_key(sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_sent_again_three_times_after_longer_and_longer_pauses() {
        let mut r = Repeats::default();
        r.keep(0, 7, b"pack", b"et");
        assert_eq!((r.due(), r.take(9 * SECOND)), (None, None));
        let mut now = 0;
        for (times, pause) in [(1, 1_250_000), (2, 2_500_000), (3, 5_000_000)] {
            assert_eq!(r.stopped(now, 7, Cause::Congested), Some(times));
            assert_eq!(r.due(), Some(now + pause));
            assert_eq!(r.take(now + pause - 1), None);
            now += pause;
            assert_eq!(r.take(now), Some((7, b"packet".to_vec())));
            assert_eq!((r.take(now), r.due()), (None, None));
        }
        assert_eq!(r.stopped(now, 7, Cause::Congested), None);
        assert_eq!((r.kept.len(), r.bytes), (0, 0));
    }

    #[test]
    fn what_does_not_pass_is_not_sent_again() {
        let mut r = Repeats::default();
        for cause in [Cause::Replay, Cause::TermsMismatch, Cause::AmountTooSmall, Cause::TooLarge] {
            r.keep(0, 7, b"pack", b"et");
            assert_eq!(r.stopped(0, 7, cause), None, "{cause}");
        }
        assert_eq!(r.stopped(0, 8, Cause::Congested), None, "it was not kept");
    }

    #[test]
    fn the_oldest_goes_where_there_is_no_room_and_all_go_with_time() {
        let mut r = Repeats::default();
        let large = vec![0; MOST_BYTES / 4];
        (0..6).for_each(|sequence| r.keep(0, sequence, &large, &[]));
        let kept: Vec<u64> = r.kept.keys().copied().collect();
        assert_eq!(kept, [2, 3, 4, 5]);
        assert_eq!(r.stopped(0, 3, Cause::NextHopGone), Some(1));
        r.housekeeping(KEPT);
        assert_eq!(r.kept.keys().collect::<Vec<_>>(), [&3], "it is still to be sent");
        assert!(r.take(KEPT).is_some());
        r.housekeeping(2 * KEPT);
        assert_eq!((r.kept.len(), r.order.len(), r.bytes), (0, 0, 0));
        r.keep(0, 9, &vec![0; MOST_BYTES + 1], &[]);
        assert!(r.kept.is_empty());
    }
}
