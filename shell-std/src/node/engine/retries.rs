//! Own free datagrams that somebody waits for: one that a relay stopped because the next hop
//! takes no more free traffic at present is sent anew, as long as he waits.

use crate::node::progress::OwnSend;
use blvm_mesh_core::time::{MILLISECOND, Micros};
use blvm_mesh_core::wire::route_error::Cause;
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes of payloads that are kept. Full: no more are.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Pause before the first retry; each is twice as long as the one before, up to the longest.
const PAUSE: (Micros, Micros) = (250 * MILLISECOND, 8_000 * MILLISECOND);

struct Kept {
    own: OwnSend,
    /// When it is sent anew, if it was stopped.
    due: Option<Micros>,
}

/// The datagrams by the numbers under which they were sent last.
#[derive(Default)]
pub(crate) struct Retries {
    kept: BTreeMap<u64, Kept>,
    schedule: BTreeSet<(Micros, u64)>,
    bytes: usize,
}

impl Retries {
    /// Keeps a free datagram that was sent just now, if somebody waits and there is room.
    pub(crate) fn keep(&mut self, now: Micros, sequence: u64, own: OwnSend) {
        if own.until <= now || own.len() > MOST_BYTES || !own.proof.is_empty() {
            return;
        }
        if self.bytes + own.len() > MOST_BYTES {
            self.housekeeping();
        }
        if self.bytes + own.len() <= MOST_BYTES {
            self.bytes += own.len();
            self.kept.insert(sequence, Kept { own, due: None });
        }
    }

    /// A relay stopped a datagram: which retry is made of it, from 1; `None` if none is.
    pub(crate) fn stopped(&mut self, now: Micros, sequence: u64, cause: Cause) -> Option<u8> {
        let kept = self.kept.get_mut(&sequence)?;
        let pause = PAUSE.0.saturating_mul(1 << kept.own.retries.min(16)).min(PAUSE.1);
        let due = now.saturating_add(pause);
        if cause != Cause::NextHopQuota || due >= kept.own.until || kept.own.progress.is_closed() {
            self.forget(sequence);
            return None;
        }
        kept.due = Some(due);
        self.schedule.insert((due, sequence));
        Some(kept.own.retries.saturating_add(1))
    }

    fn forget(&mut self, sequence: u64) -> Option<OwnSend> {
        let Kept { own, due } = self.kept.remove(&sequence)?;
        self.bytes -= own.len();
        if let Some(due) = due {
            self.schedule.remove(&(due, sequence));
        }
        Some(own)
    }

    /// How often a datagram was sent anew.
    pub(crate) fn times(&self, sequence: u64) -> u8 {
        self.kept.get(&sequence).map_or(0, |kept| kept.own.retries)
    }

    /// When the first is to be sent anew.
    pub(crate) fn due(&self) -> Option<Micros> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// A datagram that is to be sent anew by now.
    pub(crate) fn take(&mut self, now: Micros) -> Option<OwnSend> {
        let (_, sequence) = *self.schedule.first().filter(|(due, _)| *due <= now)?;
        let mut own = self.forget(sequence)?;
        own.retries = own.retries.saturating_add(1);
        Some(own)
    }

    /// How many are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Forgets those for which nobody waits any more.
    pub(crate) fn housekeeping(&mut self) {
        let idle =
            |(sequence, kept): (&u64, &Kept)| kept.own.progress.is_closed().then_some(*sequence);
        let idle: Vec<u64> = self.kept.iter().filter_map(idle).collect();
        idle.into_iter().for_each(|sequence| drop(self.forget(sequence)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::progress::Progress;
    use blvm_mesh_core::id::NodeId;

    fn own(len: usize, until: Micros) -> (OwnSend, smol::channel::Receiver<Progress>) {
        let (progress, told) = smol::channel::bounded(1);
        let (destination, payload, proof) = (NodeId([1; 32]), vec![1; len], Vec::new());
        let own =
            OwnSend { destination, payload, proof, unchecked: false, progress, until, retries: 0 };
        (own, told)
    }

    #[test]
    fn it_is_sent_anew_after_longer_and_longer_pauses_while_somebody_waits() {
        let mut r = Retries::default();
        let (mut next, _told) = own(10, 5_000 * MILLISECOND);
        let (mut now, mut pauses) = (0, Vec::new());
        for sequence in 0.. {
            r.keep(now, sequence, next);
            let Some(retry) = r.stopped(now, sequence, Cause::NextHopQuota) else { break };
            assert_eq!(usize::from(retry), pauses.len() + 1);
            let due = r.due().unwrap();
            assert!(r.take(due - 1).is_none());
            pauses.push((due - now) / MILLISECOND);
            now = due;
            next = r.take(now).unwrap();
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000], "the next pause is longer than the wait");
        assert_eq!((r.kept.len(), r.schedule.len(), r.bytes), (0, 0, 0));
    }

    #[test]
    fn other_causes_and_those_who_do_not_wait_are_no_reason() {
        let mut r = Retries::default();
        let (first, told) = own(10, 5_000 * MILLISECOND);
        r.keep(0, 1, first);
        assert_eq!(r.stopped(0, 1, Cause::ModeRefused), None);
        assert_eq!(r.stopped(0, 1, Cause::NextHopQuota), None, "it is forgotten");
        let (first, _) = own(10, 0);
        r.keep(0, 1, first);
        assert_eq!(r.kept.len(), 0, "nobody waits");
        drop(told);
        let (first, told) = own(10, 5_000 * MILLISECOND);
        r.keep(0, 1, first);
        drop(told);
        assert_eq!(r.stopped(0, 1, Cause::NextHopQuota), None, "not any more");
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut r = Retries::default();
        let (large, told) = own(MOST_BYTES, 1);
        r.keep(0, 1, large);
        let (more, _more) = own(1, 1);
        r.keep(0, 2, more);
        assert_eq!((r.kept.len(), r.bytes), (1, MOST_BYTES));
        drop(told);
        let (more, _more) = own(1, 1);
        r.keep(0, 2, more);
        assert_eq!((r.kept.len(), r.bytes), (1, 1));
    }
}
