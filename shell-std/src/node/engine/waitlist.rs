//! Own datagrams for which a link has no room: they wait a while for it, so that who sends
//! much is held back and not refused.

use crate::node::progress::OwnSend;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::time::{Micros, SECOND};
use std::collections::VecDeque;

/// How long a datagram waits for room.
const PATIENCE: Micros = 5 * SECOND;
/// Most bytes of datagrams that wait.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Most datagrams that wait.
const MOST: usize = 4096;

/// The datagrams that wait, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Waitlist {
    waiting: VecDeque<(Micros, OwnSend)>,
    bytes: usize,
}

impl Waitlist {
    /// Until when a datagram waits that comes now.
    pub(crate) fn until(now: Micros) -> Micros {
        now.saturating_add(PATIENCE)
    }

    /// Whether a datagram to this node waits: no later one is to pass it.
    pub(crate) fn has(&self, destination: &NodeId) -> bool {
        self.waiting.iter().any(|(_, own)| own.destination == *destination)
    }

    /// Puts a datagram at the end; gives it back if too much waits.
    pub(crate) fn put(&mut self, until: Micros, own: OwnSend) -> Result<(), OwnSend> {
        let bytes = self.bytes.saturating_add(own.len());
        if bytes > MOST_BYTES || self.waiting.len() >= MOST {
            return Err(own);
        }
        self.bytes = bytes;
        self.waiting.push_back((until, own));
        Ok(())
    }

    /// Puts one back, at the end: whoever takes all out puts those back in their order.
    pub(crate) fn put_back(&mut self, until: Micros, own: OwnSend) {
        self.bytes = self.bytes.saturating_add(own.len());
        self.waiting.push_back((until, own));
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<(Micros, OwnSend)> {
        let (until, own) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(own.len());
        Some((until, own))
    }

    /// The oldest, if its time is over.
    pub(crate) fn pop_overdue(&mut self, now: Micros) -> Option<OwnSend> {
        (self.due() <= now).then(|| self.pop())?.map(|(_, own)| own)
    }

    /// When the time of the oldest is over.
    pub(crate) fn due(&self) -> Micros {
        self.waiting.front().map_or(Micros::MAX, |(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(n: u8, len: usize) -> OwnSend {
        let (destination, payload) = (NodeId([n; 32]), vec![n; len]);
        let progress = smol::channel::bounded(1).0;
        let (proof, unchecked, until, retries) = (Vec::new(), false, 0, 0);
        OwnSend { destination, payload, proof, unchecked, progress, until, retries }
    }

    #[test]
    fn what_waits_keeps_its_order_its_time_and_a_bound() {
        let mut list = Waitlist::default();
        let [first, second] = [0, 5].map(Waitlist::until);
        assert!(
            list.put(first, own(1, 10)).is_ok() && list.put(second, own(2, MOST_BYTES / 2)).is_ok()
        );
        assert!(list.put(second, own(3, MOST_BYTES / 2)).is_err());
        assert!(list.has(&NodeId([2; 32])) && !list.has(&NodeId([3; 32])));
        for _ in 0..list.len() {
            let (until, taken) = list.pop().unwrap();
            list.put_back(until, taken);
        }
        assert_eq!((list.due(), list.bytes), (first, 10 + MOST_BYTES / 2));
        assert!(list.pop_overdue(first - 1).is_none());
        assert_eq!(list.pop_overdue(first).map(|own| own.destination.0[0]), Some(1));
        assert!(list.pop_overdue(first).is_none());
        assert_eq!(list.pop().map(|(until, _)| until), Some(second));
        assert_eq!((list.due(), list.bytes), (Micros::MAX, 0));
    }
}
