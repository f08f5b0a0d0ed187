//! Own paid datagrams that may have to be sent again: what stops one on its way, or makes it
//! disappear, may be over a little later, and its payment is booked at the nodes before.
//!
//! One that a relay reports as stopped goes again soon; one of which nothing is heard, neither
//! a report nor the destination's receipt, after a pause in which either must have come.

use blvm_mesh_core::mesh::MeshError;
use blvm_mesh_core::payment::packed::PackedProof;
use blvm_mesh_core::payment::proof::LIGHTNING;
use blvm_mesh_core::payment::replay::{REPEAT_PAUSE, REPEATS};
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::Header;
use blvm_mesh_core::wire::datagram::Datagram;
use blvm_mesh_core::wire::route_error::Cause;
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes of packets that are kept. Full: the oldest goes.
const MOST_BYTES: usize = 24 * 1024 * 1024;
/// Most packets of which anything is kept, likewise.
const MOST: usize = 65_536;
/// Beyond the pause that relays ask for: what is sent may be faster than what was.
const MARGIN: Micros = REPEAT_PAUSE / 4;
/// How long nothing is heard before the first repeat, at least; twice and four times as long
/// before the next ones.
const SILENCE: Micros = 10 * SECOND;
/// Bytes that a link carries in a second, at least, if it is not slow by what its neighbour
/// said.
const SLOW: u64 = 512 * 1024;
/// More than this no neighbour may ask for.
const LONGEST_KEEPALIVE: Micros = 120 * SECOND;
/// Pause after this node itself could not send a repeat.
const RETRY: Micros = 5 * SECOND;
/// How often it tries that for one datagram.
const TRIES: u8 = 24;

/// How long to wait for word of a packet that goes over so many intermediate nodes; the first
/// of them answers a datagram within `keepalive`.
pub(crate) fn patience(len: usize, hops: u8, keepalive: Micros) -> Micros {
    let link = (len as u64).saturating_mul(SECOND) / SLOW + 2 * keepalive.min(LONGEST_KEEPALIVE);
    SILENCE.saturating_add(link.saturating_mul(u64::from(hops) + 1))
}

/// When the payment in a packet expires, in seconds since 1970, where that can be read.
/// A covenant's depends on its block: repeats that are too late are refused.
fn expiry(packet: &[u8]) -> Option<u64> {
    let (header, body) = Header::parse(packet).ok()?;
    let proof = Datagram::parse(header, body).ok()?.signed?.proof;
    let packed = proof.strip_prefix(&[LIGHTNING])?;
    PackedProof::parse(packed).ok()?.invoice(&[0; 32]).ok()?.expires_at()
}

struct Kept {
    /// Empty after the last repeat.
    packet: Vec<u8>,
    /// Place in the order.
    place: u64,
    /// How often it was sent again.
    times: u8,
    /// How often this node could not send it.
    tries: u8,
    patience: Micros,
    /// When it is sent again or, after the last repeat, forgotten.
    due: Micros,
    expires: Option<u64>,
}

impl Kept {
    /// When nothing has been heard of it for too long, if it is sent now.
    fn silent_at(&self, now: Micros) -> Micros {
        now.saturating_add(self.patience.saturating_mul(1 << self.times.min(REPEATS)))
    }
}

/// A datagram that is to be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub(crate) sequence: u64,
    pub(crate) packet: Vec<u8>,
    /// Which repeat it is, from 1.
    pub(crate) number: u8,
}

/// Own paid datagrams by their numbers.
#[derive(Default)]
pub(crate) struct Repeats {
    kept: BTreeMap<u64, Kept>,
    /// In the order in which they were sent first.
    order: BTreeMap<u64, u64>,
    /// In the order in which something is to be done.
    schedule: BTreeSet<(Micros, u64)>,
    next: u64,
    bytes: usize,
}

impl Repeats {
    /// Keeps a paid datagram that was sent just now, with its [`patience`].
    pub(crate) fn keep(&mut self, now: Micros, sequence: u64, packet: Vec<u8>, patience: Micros) {
        if packet.len() > MOST_BYTES || self.kept.contains_key(&sequence) {
            return;
        }
        while self.bytes + packet.len() > MOST_BYTES || self.kept.len() >= MOST {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            self.forget(*oldest);
        }
        self.bytes += packet.len();
        let (place, expires) = (self.next, expiry(&packet));
        self.next += 1;
        let kept = Kept { packet, place, times: 0, tries: 0, patience, due: 0, expires };
        let due = kept.silent_at(now);
        self.kept.insert(sequence, Kept { due, ..kept });
        self.order.insert(place, sequence);
        self.schedule.insert((due, sequence));
    }

    fn forget(&mut self, sequence: u64) -> Option<Kept> {
        let gone = self.kept.remove(&sequence)?;
        self.bytes -= gone.packet.len();
        self.order.remove(&gone.place);
        self.schedule.remove(&(gone.due, sequence));
        Some(gone)
    }

    fn put_off(&mut self, sequence: u64, due: Micros) {
        if let Some(kept) = self.kept.get_mut(&sequence) {
            self.schedule.remove(&(kept.due, sequence));
            kept.due = due;
            self.schedule.insert((due, sequence));
        }
    }

    /// The destination has a datagram: how often that had been sent again.
    pub(crate) fn delivered(&mut self, sequence: u64) -> u8 {
        self.forget(sequence).map_or(0, |kept| kept.times)
    }

    /// A relay stopped a datagram: which repeat is made of it, from 1; `None` if none is.
    pub(crate) fn stopped(&mut self, now: Micros, sequence: u64, cause: Cause) -> Option<u8> {
        let times = self.kept.get(&sequence)?.times;
        if !cause.passes() || times >= REPEATS {
            self.forget(sequence);
            return None;
        }
        let pause = (REPEAT_PAUSE + MARGIN) << times;
        self.put_off(sequence, now.saturating_add(pause));
        Some(times + 1)
    }

    /// This node itself did not send a repeat: whether it tries again. It counts as none.
    pub(crate) fn refused(&mut self, now: Micros, repeat: Repeat, why: &MeshError) -> bool {
        let Repeat { sequence, packet, .. } = repeat;
        let Some(kept) = self.kept.get_mut(&sequence) else { return false };
        if !why.cause().is_some_and(Cause::passes) || kept.tries >= TRIES {
            self.forget(sequence);
            return false;
        }
        kept.times = kept.times.saturating_sub(1);
        kept.tries += 1;
        if kept.packet.is_empty() {
            self.bytes += packet.len();
            kept.packet = packet;
        }
        self.put_off(sequence, now.saturating_add(RETRY));
        true
    }

    /// Has everything sent again now.
    #[cfg(test)]
    pub(crate) fn hurry(&mut self, now: Micros) {
        let all: Vec<u64> = self.kept.keys().copied().collect();
        all.into_iter().for_each(|sequence| self.put_off(sequence, now));
    }

    /// How often a datagram was sent again.
    pub(crate) fn times(&self, sequence: u64) -> u8 {
        self.kept.get(&sequence).map_or(0, |kept| kept.times)
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Micros> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// A datagram that is to be sent again by now. What has expired by the wall clock is
    /// forgotten instead, and what was sent for the last time long ago.
    pub(crate) fn take(&mut self, now: Micros, unix: Option<u64>) -> Option<Repeat> {
        loop {
            let (_, sequence) = *self.schedule.first().filter(|(due, _)| *due <= now)?;
            let late = |kept: &Kept| kept.expires.zip(unix).is_some_and(|(at, now)| now >= at);
            let Some(kept) =
                self.kept.get_mut(&sequence).filter(|kept| kept.times < REPEATS && !late(kept))
            else {
                self.forget(sequence);
                continue;
            };
            kept.times += 1;
            let (number, due) = (kept.times, kept.silent_at(now));
            let packet = match number < REPEATS {
                true => kept.packet.clone(),
                false => std::mem::take(&mut kept.packet),
            };
            if number >= REPEATS {
                self.bytes -= packet.len();
            }
            self.put_off(sequence, due);
            return Some(Repeat { sequence, packet, number });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::mesh::{NetworkReason, RoutingReason};

    fn keep(r: &mut Repeats, now: Micros, sequence: u64, packet: &[u8]) {
        r.keep(now, sequence, packet.to_vec(), SILENCE);
    }

    fn take(r: &mut Repeats, now: Micros) -> Option<(u64, u8)> {
        r.take(now, Some(9)).map(|repeat| {
            assert_eq!(repeat.packet, b"packet");
            (repeat.sequence, repeat.number)
        })
    }

    #[test]
    fn what_passes_is_sent_again_three_times_after_longer_and_longer_pauses() {
        let mut r = Repeats::default();
        keep(&mut r, 0, 7, b"packet");
        assert_eq!((r.due(), take(&mut r, 9 * SECOND)), (Some(10 * SECOND), None));
        let mut now = 0;
        for (times, pause) in [(1, 1_250_000), (2, 2_500_000), (3, 5_000_000)] {
            assert_eq!(r.stopped(now, 7, Cause::Congested), Some(times));
            assert_eq!(r.due(), Some(now + pause));
            assert_eq!(take(&mut r, now + pause - 1), None);
            now += pause;
            assert_eq!(take(&mut r, now), Some((7, times)));
            assert_eq!((take(&mut r, now), r.times(7)), (None, times));
        }
        assert_eq!(r.stopped(now, 7, Cause::Congested), None);
        assert_eq!((r.kept.len(), r.order.len(), r.schedule.len(), r.bytes), (0, 0, 0, 0));
    }

    #[test]
    fn that_of_which_nothing_is_heard_is_sent_again_after_ten_twenty_and_forty_seconds() {
        let mut r = Repeats::default();
        keep(&mut r, 0, 7, b"packet");
        for (number, at) in [(1, 10), (2, 30), (3, 70)] {
            assert_eq!(r.due(), Some(at * SECOND));
            assert_eq!(take(&mut r, at * SECOND - 1), None);
            assert_eq!(take(&mut r, at * SECOND), Some((7, number)));
        }
        // The last one's bytes are kept no longer, that it was is.
        assert_eq!((r.bytes, r.times(7), r.due()), (0, 3, Some(150 * SECOND)));
        assert_eq!((take(&mut r, 150 * SECOND), r.times(7), r.due()), (None, 0, None));
    }

    #[test]
    fn a_receipt_ends_it_and_so_does_the_expiry_of_the_payment() {
        let mut r = Repeats::default();
        keep(&mut r, 0, 7, b"packet");
        assert_eq!(take(&mut r, 10 * SECOND), Some((7, 1)));
        assert_eq!((r.delivered(7), r.delivered(7)), (1, 0));
        assert_eq!((take(&mut r, Micros::MAX), r.bytes, r.due()), (None, 0, None));
        for (unix, again) in [(Some(99), true), (Some(100), false), (None, true)] {
            keep(&mut r, 0, 8, b"packet");
            r.kept.get_mut(&8).unwrap().expires = Some(100);
            assert_eq!(r.take(10 * SECOND, unix).is_some(), again, "{unix:?}");
            r.delivered(8);
        }
    }

    #[test]
    fn large_packets_and_slow_links_are_given_more_time() {
        let tcp = SECOND / 4;
        assert!(patience(300, 0, tcp) < 11 * SECOND);
        // Three links of 2 MB/s take 6 s, a line that answers in 7.5 s may take twice that.
        assert!(patience(4 << 20, 2, tcp) > 30 * SECOND);
        assert!(patience(8_000, 1, 7_500_000) > 35 * SECOND);
        assert_eq!(patience(0, 1, Micros::MAX), SILENCE + 4 * LONGEST_KEEPALIVE);
    }

    #[test]
    fn what_does_not_pass_is_not_sent_again() {
        let mut r = Repeats::default();
        for cause in [Cause::Replay, Cause::TermsMismatch, Cause::AmountTooSmall, Cause::TooLarge] {
            keep(&mut r, 0, 7, b"packet");
            assert_eq!(r.stopped(0, 7, cause), None, "{cause}");
        }
        assert_eq!(r.stopped(0, 8, Cause::Congested), None, "it was not kept");
    }

    #[test]
    fn a_repeat_that_this_node_could_not_send_counts_as_none() {
        let mut r = Repeats::default();
        keep(&mut r, 0, 7, b"packet");
        let gone = MeshError::from(RoutingReason::NextHopGone);
        let mut now = 0;
        for _ in 0..TRIES {
            now = r.due().unwrap();
            let repeat = r.take(now, None).unwrap();
            assert_eq!((repeat.number, &repeat.packet[..]), (1, &b"packet"[..]));
            assert!(r.refused(now, repeat, &gone));
        }
        // The last one is given back whole.
        for number in 1..=3 {
            now = r.due().unwrap();
            assert_eq!(take(&mut r, now), Some((7, number)));
        }
        let repeat = Repeat { sequence: 7, packet: b"packet".to_vec(), number: 3 };
        assert!(!r.refused(now, repeat.clone(), &gone), "too often");
        keep(&mut r, now, 7, b"packet");
        assert!(!r.refused(now, repeat, &NetworkReason::LinkClosed.into()));
        assert_eq!((r.kept.len(), r.bytes), (0, 0));
    }

    #[test]
    fn the_oldest_goes_where_there_is_no_room() {
        let mut r = Repeats::default();
        let large = vec![0; MOST_BYTES / 4];
        (0..6).for_each(|sequence| keep(&mut r, 0, sequence, &large));
        let kept: Vec<u64> = r.kept.keys().copied().collect();
        assert_eq!(kept, [2, 3, 4, 5]);
        assert_eq!((r.order.len(), r.schedule.len(), r.bytes), (4, 4, MOST_BYTES));
        keep(&mut r, 0, 9, &vec![0; MOST_BYTES + 1]);
        assert!(!r.kept.contains_key(&9));
    }
}
