//! What comes due, and when to look again.

use super::Engine;
use crate::node::clock::Clock;
use blvm_mesh_core::mesh::Input;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// Pause between readings of the wall clock and other housekeeping.
const TICK: Micros = 10 * SECOND;
/// Pause between looks for packets that were not completed in time.
const OVERDUE_TICK: Micros = SECOND;
/// Pause between signs of life while nothing is taken in: a neighbour that waits for an answer
/// waits longer.
const STALLED_TICK: Micros = 100 * MILLISECOND;

impl Engine {
    /// When to look again at the latest.
    pub(super) fn deadline(&self) -> Micros {
        let mesh = self.shell.until.unwrap_or(Micros::MAX);
        let own = self.shell.own.due().min(self.bench.deadline());
        let stalled = match self.shell.durable.stalled() {
            true => self.shell.clock.now().saturating_add(STALLED_TICK),
            false => Micros::MAX,
        };
        mesh.min(self.next_tick).min(self.next_overdue).min(own).min(stalled)
    }

    /// Whether something is due that need not be waited for: flows have more to send.
    pub(super) fn is_due(&self) -> bool {
        let now = || self.shell.clock.now();
        !self.shell.durable.stalled() && self.shell.until.is_some_and(|until| until <= now())
    }

    /// Does what is due by now.
    pub(super) fn time(&mut self, now: Micros) {
        self.pass(now);
        self.send_again(now);
        if self.next_tick <= now {
            self.next_tick = now.saturating_add(TICK);
            match Clock::unix() {
                Some(unix) => self.give(now, Input::WallClock { unix }),
                None => tracing::warn!("the system's clock is set before 1970: no payment passes"),
            }
            self.settle(now);
            self.shell.housekeeping();
        }
        while let Some(own) = self.shell.own.waitlist.pop_overdue(now) {
            self.shell.refuse_for_room(own);
        }
        if self.next_overdue <= now {
            self.next_overdue = now.saturating_add(OVERDUE_TICK);
            self.overdue(now);
            for (link, room) in self.shell.links.look() {
                for lane in room.lanes() {
                    self.lane_has_room(now, link, lane);
                }
            }
        }
    }

    /// Lets time pass for the state machine, from one deadline to the next. A neighbour whose
    /// packets still wait for the engine is not silent, however far behind the engine is.
    fn pass(&mut self, now: Micros) {
        let mut passed = None;
        while let Some(due) = self.shell.until.filter(|due| *due <= now && passed < Some(*due)) {
            // Not earlier than the last input: the machine asks only for later times.
            self.vouch(due.saturating_sub(1), false);
            self.give(due, Input::Timer);
            self.settle(due);
            passed = Some(due);
        }
        if self.shell.durable.stalled() {
            // Nothing is taken in, but neighbours that wait for an answer get one.
            self.vouch(now, true);
        }
    }

    /// Reports those neighbours as alive whose packets still wait for the engine; with `incoming`
    /// they are owed an answer too.
    fn vouch(&mut self, now: Micros, incoming: bool) {
        for link in self.shell.links.awaiting() {
            self.give(now, Input::LinkAlive { link, incoming });
            self.settle(now);
        }
    }

    /// Closes the links that make no progress.
    pub(super) fn overdue(&mut self, now: Micros) {
        for (link, reason) in self.shell.links.overdue(now) {
            self.close(now, link, &reason);
        }
    }
}
