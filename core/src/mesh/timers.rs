//! What becomes due as time passes.

use super::api::{Action, Event};
use super::error::NetworkReason;
use super::{Mesh, Pending};
use crate::config::Timing;
use crate::id::LinkId;
use crate::payment::ledger::Record;
use crate::routing::discovery::{WIDEST, wider};
use crate::routing::neighbours::Neighbour;
use crate::tables::Memory;
use crate::time::{MILLISECOND, Micros, SECOND};
use crate::wire::route_request::{HINTS, ROUTES};
use crate::wire::{HEADER_LEN, Header, Kind, Writer};

/// The least time that a neighbour is given to say hello.
const HELLO_TIMEOUT: Micros = 10 * SECOND;
/// The same where links are slow, in round trips of a request over a link: on a shared channel
/// all neighbours may say hello at once, and reconnecting too early would keep it full for ever.
const HELLO_ROUND_TRIPS: u64 = 16;
/// Payments forgotten in one step, so that no step takes long.
const CLEANUP_STEP: usize = 256;
const CLEANUP_INTERVAL: Micros = 60 * SECOND;

/// How long a neighbour may take to say hello.
pub(super) fn hello_timeout(timing: &Timing) -> Micros {
    timing.hop_round_trip.saturating_mul(HELLO_ROUND_TRIPS).max(HELLO_TIMEOUT)
}

impl<M: Memory> Mesh<M> {
    /// Makes sure that [`Mesh::poll`] asks for a timer at this time.
    #[inline(never)]
    pub(super) fn wake_at(&mut self, at: Micros) {
        self.next_timer = self.next_timer.min(at);
    }

    /// Does one thing that is due. False if nothing was; then the next time is set.
    pub(super) fn fire(&mut self) -> bool {
        let done = self.give_up_parked()
            || self.widen_ring()
            || self.drop_silent()
            || self.keep_alive()
            || self.end_idle_flow()
            || self.fire_purchase()
            || self.fire_end()
            || self.forget_payments();
        if !done {
            self.next_timer = self.next_due();
        }
        done
    }

    fn next_due(&self) -> Micros {
        let for_hello = hello_timeout(&self.config.timing);
        let neighbours = self.tables.routing.neighbours.iter();
        let neighbours =
            neighbours.map(|n| n.liveness.silent_at(n.up, for_hello).min(n.liveness.due())).min();
        let cleanup =
            self.tables.replay.next_expiry().is_some() && self.wall.unix(self.now).is_some();
        let times = [self.parked_until(), neighbours, self.tables.searches.next_due()];
        let cleanup = cleanup.then_some(self.next_cleanup);
        #[cfg(feature = "flows")]
        let cleanup = cleanup.into_iter().chain(self.tables.flows.next_look());
        #[cfg(feature = "alloc")]
        let cleanup = cleanup.chain(self.next_purchase()).chain(self.next_end_due());
        times.into_iter().flatten().chain(cleanup).min().unwrap_or(Micros::MAX)
    }

    /// Something is sent on a link.
    pub(super) fn note_sent(&mut self, link: LinkId, datagram: bool) {
        if let Some(to) = self.tables.routing.neighbours.place(link) {
            self.note_sent_to(to, datagram);
        }
    }

    /// The same to the neighbour at a place.
    pub(super) fn note_sent_to(&mut self, to: usize, datagram: bool) {
        let Some(n) = self.tables.routing.neighbours.at_mut(to) else { return };
        if let Some(overdue) = n.liveness.send(self.now, datagram) {
            self.wake_at(overdue);
        }
    }

    /// Bytes came on a link, though no whole packet: its neighbour is there. If they are part of
    /// a packet, the neighbour is owed a sign of life. From one that has not said hello they
    /// count for nothing.
    pub(super) fn link_alive(&mut self, link: LinkId, incoming: bool) {
        self.absorb();
        let Some(place) = self.tables.routing.neighbours.place(link) else { return };
        let Some(n) = self.tables.routing.neighbours.at_mut(place).filter(|n| n.up) else {
            return;
        };
        if let Some(overdue) = n.liveness.hear_part(self.now) {
            self.wake_at(overdue);
        }
        if incoming {
            self.owe_answer(place);
        }
    }

    /// A datagram or part of one came from the neighbour at a place, which waits for a sign that
    /// it arrived.
    pub(super) fn owe_answer(&mut self, from: usize) {
        let Some(n) = self.tables.routing.neighbours.at_mut(from) else { return };
        if let Some(owed) = n.liveness.owe(self.now) {
            self.wake_at(owed);
        }
    }

    fn widen_ring(&mut self) -> bool {
        let Some(search) = self.tables.searches.due(self.now) else { return false };
        let (to, width, found) = (search.destination, search.width, search.found);
        // Without neighbours nobody hears a wider ring either.
        let alone = self.tables.routing.neighbours.next_live(None).is_none();
        if found || alone || width >= WIDEST {
            self.tables.searches.end(&to);
            if !found {
                #[cfg(feature = "alloc")]
                self.flow_without_route(to);
                self.act(Action::Publish(Event::RouteFailed { destination: to }));
                self.push(Pending::Fail(to));
            }
            return true;
        }
        let wider = wider(width);
        let span = self.config.timing.hop_round_trip.saturating_mul(u64::from(wider));
        let (now, number) = (self.now, self.rng.u64());
        if let Some(search) = self.tables.searches.get_mut(&to) {
            search.width = wider;
            // There are never more rings than fit.
            let _ = search.numbers.push(number);
            search.until = now.saturating_add(span.max(1));
        }
        let flags = if wider >= WIDEST { 0 } else { HINTS | ROUTES };
        self.ask_ring(to, wider, number, flags);
        true
    }

    fn drop_silent(&mut self) -> bool {
        let for_hello = hello_timeout(&self.config.timing);
        let is_silent = |n: &&Neighbour| n.liveness.silent_at(n.up, for_hello) <= self.now;
        let silent = self.tables.routing.neighbours.iter().find(is_silent);
        let Some(link) = silent.map(|n| n.link) else { return false };
        self.part_from(link, Some(NetworkReason::Silent));
        true
    }

    fn keep_alive(&mut self) -> bool {
        let now = self.now;
        let due = |n: &&Neighbour| n.liveness.due() <= now;
        let Some(n) = self.tables.routing.neighbours.iter().find(due) else { return false };
        let link = n.link;
        if n.liveness.is_hello_due(now) {
            self.greet(link);
        } else {
            let header = Header { kind: Kind::KeepAlive, flags: 0, hop_limit: 0, sequence: 0 };
            self.send_control(link, HEADER_LEN, |out| Writer::new(out).finish(header, &[]));
        }
        true
    }

    #[cfg(not(feature = "alloc"))]
    fn fire_purchase(&mut self) -> bool {
        false
    }

    #[cfg(not(feature = "alloc"))]
    fn fire_end(&mut self) -> bool {
        false
    }

    #[cfg(not(feature = "flows"))]
    fn end_idle_flow(&mut self) -> bool {
        false
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
