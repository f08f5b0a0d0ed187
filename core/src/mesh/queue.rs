//! What follows from an input, in the order in which the shell is told.

use super::Mesh;
use super::api::{Action, Packet, Priority, Verdict};
use super::error::{MeshError, Remedy, RoutingReason};
use crate::id::{LinkId, NodeId};
use crate::tables::Memory;
use crate::time::Micros;
use core::ops::Range;

/// What waits for the shell to carry it out.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub(super) enum Pending {
    /// An action that needs nothing of the state machine's memory.
    Act(Action<'static>),
    /// The received packet, which goes on.
    Forward { link: LinkId, priority: Priority, len: usize, after: Option<u64> },
    /// A whole packet, which is in `head`.
    Send { link: LinkId, priority: Priority, after: Option<u64> },
    /// An own datagram whose head is in `head`.
    Originate {
        link: LinkId,
        priority: Priority,
        tail: Range<usize>,
        sequence: u64,
        hops: u8,
        paid: bool,
        after: Option<u64>,
    },
    /// The packet in `head` to every live neighbour but one; `trusted`: to those alone that relay
    /// what this node pays for.
    Flood {
        except: Option<LinkId>,
        last: Option<LinkId>,
        #[cfg(feature = "alloc")]
        trusted: bool,
    },
    /// Every own packet that waits for a route to this node.
    Resume(NodeId),
    /// The same, but none was found.
    Fail(NodeId),
    /// Every packet that waits for an answer and came over this link.
    Closed(LinkId),
}

impl<M: Memory> Mesh<M> {
    /// The next action. Call until [`Action::Wait`].
    pub fn poll(&mut self) -> Action<'_> {
        loop {
            // Most actions: they are not moved first.
            if let Some(&Pending::Forward { link, priority, len, after }) =
                self.tables.queue.front()
            {
                let _ = self.tables.queue.pop_front();
                let packet = 0..len;
                return Action::Verdict(Verdict::Forward { link, priority, packet, after });
            }
            let Some(pending) = self.tables.queue.pop_front() else {
                if self.now >= self.next_timer && self.fire() {
                    continue;
                }
                #[cfg(feature = "alloc")]
                if self.pump() {
                    continue;
                }
                self.draining = false;
                let until = (self.next_timer != Micros::MAX).then_some(self.next_timer);
                #[cfg(feature = "alloc")]
                let until = if self.tables.ends.is_ready() { Some(self.now) } else { until };
                return Action::Wait { until };
            };
            match pending {
                Pending::Act(action) => {
                    self.count(&action);
                    return action;
                }
                // Taken out above.
                Pending::Forward { .. } => {}
                Pending::Send { link, priority, after } => {
                    self.note_sent(link, priority != Priority::Control);
                    return Action::Send { link, priority, packet: self.written(), after };
                }
                Pending::Originate { link, priority, tail, sequence, hops, paid, after } => {
                    self.note_sent(link, true);
                    let packet = Packet { head: self.written(), tail };
                    return Action::Verdict(Verdict::Originate {
                        link,
                        priority,
                        packet,
                        sequence,
                        hops,
                        paid,
                        after,
                    });
                }
                Pending::Flood {
                    except,
                    last,
                    #[cfg(feature = "alloc")]
                    trusted,
                } => {
                    let Some(neighbour) = self.tables.routing.neighbours.next_live(last) else {
                        continue;
                    };
                    let link = neighbour.link;
                    #[cfg(feature = "alloc")]
                    let left_out = trusted && !neighbour.trusted;
                    let _ = self.tables.queue.push_front(Pending::Flood {
                        except,
                        last: Some(link),
                        #[cfg(feature = "alloc")]
                        trusted,
                    });
                    if let Some((medium, first)) = self.tables.routing.neighbours.medium(link) {
                        self.note_sent(link, false);
                        if first {
                            return Action::SendAll { medium, except, packet: self.written() };
                        }
                        continue;
                    }
                    if Some(link) == except {
                        continue;
                    }
                    #[cfg(feature = "alloc")]
                    if left_out {
                        continue;
                    }
                    self.note_sent(link, false);
                    let (priority, packet) = (Priority::Control, self.written());
                    return Action::Send { link, priority, packet, after: None };
                }
                Pending::Resume(to) => {
                    if let Some(ticket) = self.unpark_for(to) {
                        let _ = self.tables.queue.push_front(Pending::Resume(to));
                        return Action::Resume { ticket };
                    }
                }
                Pending::Closed(link) => {
                    if let Some(action) = self.give_up_closed(link) {
                        let _ = self.tables.queue.push_front(Pending::Closed(link));
                        self.count(&action);
                        return action;
                    }
                }
                Pending::Fail(to) => {
                    if let Some(ticket) = self.unpark_for(to) {
                        let _ = self.tables.queue.push_front(Pending::Fail(to));
                        let reason = RoutingReason::NoRoute.into();
                        let action = Action::Drop { ticket, link: None, reason };
                        self.count(&action);
                        return action;
                    }
                }
            }
        }
    }

    pub(super) fn act(&mut self, action: Action<'static>) {
        self.push(Pending::Act(action));
    }

    /// The received packet goes on.
    pub(super) fn forward(
        &mut self,
        link: LinkId,
        priority: Priority,
        len: usize,
        after: Option<u64>,
    ) {
        self.push(Pending::Forward { link, priority, len, after });
    }

    #[inline]
    pub(super) fn push(&mut self, pending: Pending) {
        // An input causes at most as many entries as fit: see `queue`. Otherwise a payment's
        // record might be lost: this node does nothing more.
        self.overflowed |= self.tables.queue.push_back(pending).is_err();
    }

    #[inline(never)]
    pub(super) fn reject(
        &mut self,
        link: Option<LinkId>,
        reason: impl Into<MeshError>,
        remedy: Remedy,
    ) {
        self.rejected(link, reason.into(), remedy);
    }

    /// The input is refused, which counts against the neighbour that it came from.
    #[inline(never)]
    fn rejected(&mut self, link: Option<LinkId>, reason: MeshError, remedy: Remedy) {
        let remedy = link.map_or(remedy, |link| self.judge(link, &reason, remedy));
        self.verdict(Verdict::Reject { link, reason, remedy });
    }

    /// The input is done.
    #[inline(never)]
    pub(super) fn absorb(&mut self) {
        self.verdict(Verdict::Absorbed);
    }

    #[inline(never)]
    pub(super) fn verdict(&mut self, verdict: Verdict<'static>) {
        self.act(Action::Verdict(verdict));
    }

    fn count(&mut self, action: &Action<'_>) {
        if let Action::Verdict(Verdict::Reject { reason, .. }) | Action::Drop { reason, .. } =
            action
        {
            let counter = match reason {
                MeshError::PaymentVerificationFailed(_) => &mut self.stats.refused_payment,
                MeshError::ReplayDetected(_) => &mut self.stats.refused_replay,
                _ => &mut self.stats.refused,
            };
            *counter = counter.wrapping_add(1);
        }
    }
}
