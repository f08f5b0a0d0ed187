//! This node's own probes that wait for an answer.

use super::Told;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::time::Micros;
use smol::channel::Sender;
use std::collections::HashMap;

/// Own probes that may wait at once.
const MOST: usize = 1024;

/// An answer, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    /// From when the probe was to be sent, in microseconds.
    pub(crate) round_trip: Micros,
    pub(crate) told: Told,
}

#[derive(Debug)]
struct Waiting {
    node: NodeId,
    /// Bytes of its data.
    len: usize,
    sent: Micros,
    who: Sender<Heard>,
}

/// Own probes, by their nonces.
#[derive(Debug, Default)]
pub(crate) struct Asked(HashMap<u64, Waiting>);

impl Asked {
    /// Notes a probe; false: there are too many.
    pub(crate) fn put(
        &mut self,
        now: Micros,
        (node, nonce, len): (NodeId, u64, usize),
        who: Sender<Heard>,
    ) -> bool {
        if self.0.len() >= MOST {
            self.0.retain(|_, waiting| !waiting.who.is_closed());
        }
        let room = self.0.len() < MOST;
        if room {
            self.0.insert(nonce, Waiting { node, len, sent: now, who });
        }
        room
    }

    /// Takes an answer: whether it is one to a probe that waits. One that names another source than the
    /// probe was for, or is not as long as the probe, counts for nothing.
    pub(crate) fn answered(
        &mut self,
        now: Micros,
        (node, nonce, len): (NodeId, u64, usize),
        told: Told,
    ) -> bool {
        let is_it = |waiting: &Waiting| waiting.node == node && waiting.len == len;
        if !self.0.get(&nonce).is_some_and(is_it) {
            return false;
        }
        if let Some(waiting) = self.0.remove(&nonce) {
            // Whoever does not wait any more is not told.
            let round_trip = now.saturating_sub(waiting.sent);
            let _ = waiting.who.try_send(Heard { round_trip, told });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::config::Allowance;
    use blvm_mesh_core::policy::MeshMode;

    fn told() -> Told {
        Told {
            mode: MeshMode::Open,
            transmissions_256: 0,
            tariff: Default::default(),
            free: Allowance { rate: 1, burst: 2 },
            plain: Allowance { rate: 1, burst: 2 },
            software: None,
            issuers: None,
        }
    }

    #[test]
    fn only_who_was_asked_answers_and_once() {
        let (who, heard) = smol::channel::bounded(1);
        let (node, other) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut asked = Asked::default();
        assert!(asked.put(100, (node, 7, 64), who));
        for wrong in [(other, 7, 64), (node, 8, 64), (node, 7, 65)] {
            assert!(!asked.answered(200, wrong, told()));
        }
        assert!(asked.answered(250, (node, 7, 64), told()));
        assert!(!asked.answered(300, (node, 7, 64), told()), "once");
        assert_eq!(heard.try_recv(), Ok(Heard { round_trip: 150, told: told() }));
    }

    #[test]
    fn those_for_whom_nobody_waits_make_room() {
        let mut asked = Asked::default();
        let put = |asked: &mut Asked, nonce, who: &Sender<Heard>| {
            asked.put(0, (NodeId([1; 32]), nonce, 64), who.clone())
        };
        let (who, waits) = smol::channel::bounded(1);
        let (gone, _) = smol::channel::bounded(1);
        assert!((0..5).all(|nonce| put(&mut asked, nonce, &gone)));
        assert!((5..MOST as u64).all(|nonce| put(&mut asked, nonce, &who)));
        assert!((0..5).all(|n| put(&mut asked, 2000 + n, &who)));
        assert!(!put(&mut asked, 3000, &who));
        assert_eq!(asked.0.len(), MOST);
        drop(waits);
    }
}
