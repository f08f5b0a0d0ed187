//! What happens because time passed.

use super::api::{Action, Event};
use super::error::NetworkReason;
use super::{Mesh, Pending};
use crate::id::LinkId;
use crate::payment::ledger::Record;
use crate::routing::discovery::WIDEST;
use crate::routing::neighbours::Neighbour;
use crate::tables::Memory;
use crate::time::{MILLISECOND, Micros, SECOND};

/// How long a neighbour may take to say hello.
pub(super) const HELLO_TIMEOUT: Micros = 10 * SECOND;
/// How many times a neighbour's longest silence is waited for.
const MISSED: u64 = 3;
/// Payments forgotten in one step, so that no step takes long.
const CLEANUP_STEP: usize = 256;
const CLEANUP_INTERVAL: Micros = 60 * SECOND;

/// When a neighbour is given up if nothing more is heard of it.
fn silent_at(n: &Neighbour) -> Micros {
    let patience = match (n.up, n.keepalive) {
        (false, _) => HELLO_TIMEOUT,
        (true, 0) => return Micros::MAX,
        (true, keepalive) => keepalive.saturating_mul(MISSED),
    };
    n.heard.saturating_add(patience)
}

impl<M: Memory> Mesh<M> {
    /// Makes sure that [`Mesh::poll`] asks for a timer at this time.
    pub(super) fn wake_at(&mut self, at: Micros) {
        self.next_timer = self.next_timer.min(at);
    }

    /// Does one thing that is due; false if nothing was, and the next time is set.
    pub(super) fn fire(&mut self) -> bool {
        let done = self.give_up_parked()
            || self.widen_ring()
            || self.drop_silent()
            || self.tell_news()
            || self.keep_alive()
            || self.forget_payments();
        if !done {
            self.next_timer = self.next_due();
        }
        done
    }

    fn next_due(&self) -> Micros {
        let neighbours = self.tables.routing.neighbours.iter();
        let neighbours = neighbours.map(|n| silent_at(n).min(self.greet_at(n))).min();
        let cleanup =
            self.tables.replay.next_expiry().is_some() && self.wall.unix(self.now).is_some();
        let times = [self.parked_until(), neighbours, self.tables.searches.next_due()];
        let cleanup = cleanup.then_some(self.next_cleanup);
        times.into_iter().flatten().chain(cleanup).min().unwrap_or(Micros::MAX)
    }

    fn greet_at(&self, n: &Neighbour) -> Micros {
        match self.config.timing.keepalive {
            0 => Micros::MAX,
            _ if !n.up => Micros::MAX,
            keepalive => n.sent.saturating_add(keepalive),
        }
    }

    fn widen_ring(&mut self) -> bool {
        let Some(search) = self.tables.searches.due(self.now) else { return false };
        let (to, width, found) = (search.destination, search.width, search.found);
        if found || width >= WIDEST {
            self.tables.searches.end(&to);
            if !found {
                self.act(Action::Publish(Event::RouteFailed { destination: to }));
                self.push(Pending::Fail(to));
            }
            return true;
        }
        let doubled = width.saturating_mul(2);
        let wider = if doubled.saturating_add(1) >= WIDEST { WIDEST } else { doubled };
        let span = self.config.timing.hop_round_trip.saturating_mul(u64::from(wider));
        let (now, number) = (self.now, self.rng.u64());
        if let Some(search) = self.tables.searches.get_mut(&to) {
            search.width = wider;
            // There are never more rings than fit.
            let _ = search.numbers.push(number);
            search.until = now.saturating_add(span.max(1));
        }
        self.ask_ring(to, wider, number);
        true
    }

    fn drop_silent(&mut self) -> bool {
        let silent = self.tables.routing.neighbours.iter().find(|n| silent_at(n) <= self.now);
        let Some(link) = silent.map(|n| n.link) else { return false };
        let Some(gone) = self.tables.routing.remove_direct_peer(link) else { return false };
        self.act(Action::Close { link, reason: NetworkReason::Silent.into() });
        if gone.up {
            self.act(Action::Publish(Event::PeerDisconnected { peer: gone.node }));
        }
        self.give_up_from(link);
        true
    }

    fn keep_alive(&mut self) -> bool {
        let due = |n: &&Neighbour| self.greet_at(n) <= self.now;
        let link: Option<LinkId> = self.tables.routing.neighbours.iter().find(due).map(|n| n.link);
        let Some(link) = link else { return false };
        self.note_sent(link);
        self.greet(link);
        true
    }

    fn forget_payments(&mut self) -> bool {
        if self.now < self.next_cleanup {
            return false;
        }
        let Some(unix) = self.wall.unix(self.now) else { return false };
        let forgotten = self.tables.replay.cleanup_expired(unix, CLEANUP_STEP);
        let pause = if forgotten == CLEANUP_STEP { MILLISECOND } else { CLEANUP_INTERVAL };
        self.next_cleanup = self.now.saturating_add(pause);
        if forgotten > 0 && !self.config.payment.volatile {
            self.persist(Record::Floor(self.tables.replay.floor()));
        }
        forgotten > 0
    }
}
