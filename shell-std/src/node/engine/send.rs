//! This node's own datagrams and searches go to the state machine here, those of the load
//! generator too.

use super::parked::Waiting;
use super::shell::{Origin, Outcome};
use super::waitlist::Waitlist;
use super::{Engine, drive};
use crate::node::progress::{OwnSend, Progress};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{Input, NetworkReason, RoutingReason};
use blvm_mesh_core::time::Micros;
use smol::channel::Sender;

/// Bytes of payload, or packets, of the load generator and the sink that are sent at once: answers
/// and writers are to get their turn. With their heads they are about what is written at once.
const BENCH_AT_ONCE: (usize, usize) = (44 * 1024, 256);

impl Engine {
    /// Sends a datagram, or has it wait for room.
    pub(super) fn send(&mut self, now: Micros, own: OwnSend) {
        let until = Waitlist::until(now);
        let refused = match self.shell.own.waitlist.has(&own.destination) {
            true => Err(own),
            false => self.try_send(now, own),
        };
        let too_much = refused.or_else(|own| self.shell.own.waitlist.put(until, own));
        if let Err(own) = too_much {
            self.shell.refuse_for_room(own);
        }
    }

    /// A link has room again: own datagrams that waited for it go, in their order.
    pub(super) fn room(&mut self, now: Micros) {
        self.bench.room();
        // Of those to one node none passes another.
        let mut full = Vec::new();
        for _ in 0..self.shell.own.waitlist.len() {
            let Some((until, own)) = self.shell.own.waitlist.pop() else { return };
            let own = match full.contains(&own.destination) {
                true => own,
                false => match self.try_send(now, own) {
                    Ok(()) => {
                        self.settle(now);
                        continue;
                    }
                    Err(own) => own,
                },
            };
            full.push(own.destination);
            self.shell.own.waitlist.put_back(until, own);
        }
    }

    /// Sends a datagram, or gives it back if its link is full.
    pub(super) fn try_send(&mut self, now: Micros, own: OwnSend) -> Result<(), OwnSend> {
        if self.shell.own.is_unreachable(now, &own.destination)
            && self.mesh.table().find_route(&own.destination, now).is_none()
        {
            let refused = Progress::Refused(RoutingReason::NoRoute.into());
            self.shell.own.tell(&own.progress, refused);
            return Ok(());
        }
        let OwnSend { destination, payload, proof, unchecked, .. } = &own;
        let input =
            Input::Send { destination: *destination, payload, proof, unchecked: *unchecked };
        match self.drive(now, input, Origin::Own(Some(&own.progress))) {
            Outcome::Sent { sequence, hops, free } => {
                self.shell.own.tell(&own.progress, Progress::Sent { sequence, hops });
                if free {
                    self.shell.own.retries.keep(now, sequence, own);
                }
            }
            Outcome::Dropped(reason) => {
                self.shell.own.tell(&own.progress, Progress::Refused(reason));
            }
            Outcome::Parked(ticket) => self.shell.park(ticket, Waiting::Own(own)),
            // It may wait: whoever sent it is told later.
            Outcome::Refused(reason) if reason == NetworkReason::Congested.into() => {
                return Err(own);
            }
            Outcome::Refused(reason) => {
                self.shell.own.tell(&own.progress, Progress::Refused(reason));
                self.shell.count_own_refusal(reason);
            }
            // What waits for the store is told when it goes.
            Outcome::Done
            | Outcome::Opening(_)
            | Outcome::Buying(_)
            | Outcome::Delivered(..)
            | Outcome::Misused(_) => {}
        }
        Ok(())
    }

    /// Looks for a route, or renews one, and tells whether one was found.
    pub(super) fn find(
        &mut self,
        now: Micros,
        destination: NodeId,
        accepted: bool,
        found: Sender<bool>,
    ) {
        self.shell.own.search(destination, found);
        let input = match accepted {
            true => Input::FindAccepted { destination },
            false => Input::FindRoute { destination },
        };
        if let Outcome::Refused(reason) = self.drive(now, input, Origin::Other) {
            self.shell.own.searched(destination, false);
            self.shell.count_own_refusal(reason);
        }
    }

    /// Paid datagrams are sent again, and free ones anew, whose time has come.
    pub(super) fn send_again(&mut self, now: Micros) {
        while let Some(repeat) = self.shell.own.repeats.take(now, self.mesh.unix()) {
            self.shell.own.repeating(&repeat);
            let input = Input::Repeat { packet: &repeat.packet };
            if let Outcome::Refused(reason) = self.drive(now, input, Origin::Repeat) {
                self.shell.count_own_refusal(reason);
                self.shell.own.repeat_refused(now, repeat, reason);
            }
            self.settle(now);
        }
        while let Some(own) = self.shell.own.retries.take(now) {
            self.send(now, own);
            self.settle(now);
        }
    }

    /// Lets the load generator and the sink send; `false` if neither has anything.
    pub(super) fn pump(&mut self) -> bool {
        if self.shell.durable.stalled() || !self.bench.active() {
            return false;
        }
        let now = self.shell.clock.now();
        let (mut sent, mut bytes) = (false, 0);
        for _ in 0..BENCH_AT_ONCE.1 {
            if bytes >= BENCH_AT_ONCE.0 {
                break;
            }
            let Some((destination, from, payload)) = self.bench.next(now) else { break };
            bytes += payload.len();
            let input = Input::Send { destination, payload, proof: &[], unchecked: false };
            let outcome = drive(&mut self.mesh, &mut self.shell, now, input, Origin::Own(None));
            let told = match outcome {
                Outcome::Sent { sequence, .. } => Some(Ok(sequence)),
                Outcome::Dropped(reason) => Some(Err(reason)),
                Outcome::Refused(reason) => {
                    self.shell.count_own_refusal(reason);
                    Some(Err(reason))
                }
                Outcome::Parked(ticket) => {
                    let own = OwnSend {
                        destination,
                        payload: payload.to_vec(),
                        proof: Vec::new(),
                        unchecked: false,
                        progress: smol::channel::bounded(1).0,
                        until: 0,
                        retries: 0,
                    };
                    self.shell.park(ticket, Waiting::Own(own));
                    None
                }
                Outcome::Done
                | Outcome::Opening(_)
                | Outcome::Buying(_)
                | Outcome::Delivered(..) => None,
                Outcome::Misused(_) => break,
            };
            self.bench.sent(from, told);
            self.settle(now);
            sent = true;
        }
        sent
    }
}
