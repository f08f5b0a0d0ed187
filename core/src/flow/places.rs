//! Places kept for sources that were referred to the cashier: its tickets are known here only
//! once they are paid, and then there must be room for them.

use crate::config::fixed::PLACES;
use crate::flow::tickets::{LIFETIME_S, TicketError};
use crate::id::{HopId, NodeId};
use crate::tables::{List, Memory};

/// A place.
#[derive(Debug, Clone, Copy)]
struct Place {
    source: NodeId,
    /// The neighbour that brought the request.
    neighbour: HopId,
    /// When, in seconds since the run began.
    since: u32,
}

/// One place for each source, as long as its latest ticket is valid; the oldest first.
pub(super) struct Places<M: Memory>(M::List<Place, PLACES>);

impl<M: Memory> Places<M> {
    pub(super) const EMPTY: Self = Self(M::List::EMPTY);

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.0.set_capacity(capacity);
    }

    fn of(&self, source: &NodeId) -> Option<usize> {
        self.0.iter().position(|place| place.source == *source)
    }

    pub(super) fn has(&self, source: &NodeId) -> bool {
        self.of(source).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps a place for a source that asks through this neighbour, whose share is `share`, or
    /// keeps the one that it has for longer.
    pub(super) fn keep(
        &mut self,
        source: &NodeId,
        neighbour: HopId,
        share: usize,
        since: u32,
    ) -> Result<(), TicketError> {
        let its = |place: &&Place| place.neighbour == neighbour && place.source != *source;
        if self.0.iter().filter(its).count() >= share {
            return Err(TicketError::TooManyUnpaid);
        }
        self.take(source);
        let place = Place { source: *source, neighbour, since };
        self.0.try_push(place).map_err(|_| TicketError::TooManyUnpaid)
    }

    /// Gives a source's place up; false if it had none.
    pub(super) fn take(&mut self, source: &NodeId) -> bool {
        self.of(source).and_then(|at| self.0.take(at)).is_some()
    }

    /// Gives up one place whose ticket has expired: whose it was.
    pub(super) fn expire(&mut self, now: u32) -> Option<NodeId> {
        let expired = |place: &&Place| now.saturating_sub(place.since) >= LIFETIME_S;
        self.0.first().filter(expired)?;
        self.0.take(0).map(|place| place.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const C: NodeId = NodeId([3; 32]);

    fn places(capacity: usize) -> Places<Fixed> {
        let mut places = Places::EMPTY;
        places.set_capacity(capacity);
        places
    }

    #[test]
    fn a_source_has_one_and_a_neighbour_its_share() {
        let (mut p, x, y) = (places(3), HopId([8; 8]), HopId([9; 8]));
        assert_eq!([0, 1, 2].map(|s| p.keep(&A, x, 1, s)), [Ok(()); 3]);
        assert_eq!((p.len(), p.has(&A), p.has(&B)), (1, true, false));
        assert_eq!(p.keep(&B, x, 1, 3), Err(TicketError::TooManyUnpaid));
        assert_eq!(p.keep(&B, x, 2, 3), Ok(()));
        // It comes through another neighbour now.
        assert_eq!((p.keep(&A, y, 1, 4), p.keep(&C, x, 2, 4)), (Ok(()), Ok(())));
        assert_eq!(p.keep(&NodeId([4; 32]), y, 9, 5), Err(TicketError::TooManyUnpaid));
        assert!(p.take(&B) && !p.take(&B) && p.len() == 2);
    }

    #[test]
    fn the_latest_ticket_counts() {
        let (mut p, x) = (places(3), HopId([8; 8]));
        for (source, since) in [(A, 0), (B, 5), (A, 10)] {
            p.keep(&source, x, 3, since).unwrap();
        }
        assert_eq!(p.expire(LIFETIME_S + 4), None);
        assert_eq!(p.expire(LIFETIME_S + 9), Some(B));
        assert_eq!(p.expire(LIFETIME_S + 9), None);
        assert_eq!(p.expire(LIFETIME_S + 10), Some(A));
    }
}
