//! What is kept of this node's own datagrams and searches: who waits for news of them, and what
//! is to be sent again.

use super::retries::Retries;
use super::waitlist::Waitlist;
use crate::node::progress::Progress;
use crate::repeats::{Repeat, Repeats};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::MeshError;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::route_error::Cause;
use smol::channel::Sender;
use std::collections::HashMap;

/// Own datagrams whose fate somebody wants to know. Full: those whom nobody
/// listens for go, and then new ones are not followed.
const MOST_FOLLOWED: usize = 4096;
/// For how long after a search in vain nobody searches again to send: about as long as it took.
/// With a new neighbour, or when somebody asks for a route, it is over.
const UNREACHABLE: Micros = 5 * SECOND;
/// Destinations that are remembered for that.
const MOST_UNREACHABLE: usize = 1024;

/// Own datagrams and searches.
#[derive(Default)]
pub(crate) struct Own {
    /// Datagrams that wait for room.
    pub(crate) waitlist: Waitlist,
    /// Paid ones that may have to be sent again.
    pub(crate) repeats: Repeats,
    /// Free ones that may have to be sent anew.
    pub(crate) retries: Retries,
    followed: HashMap<u64, Sender<Progress>>,
    /// Who waits for the end of a search.
    searches: HashMap<NodeId, Vec<Sender<bool>>>,
    /// Who wants to know the members of a group.
    members: HashMap<NodeId, Vec<Sender<NodeId>>>,
    /// Until when there is no route, after a search in vain.
    unreachable: HashMap<NodeId, Micros>,
}

impl Own {
    /// When something is to be done.
    pub(crate) fn due(&self) -> Micros {
        let again = self.repeats.due().into_iter().chain(self.retries.due()).min();
        self.waitlist.due().min(again.unwrap_or(Micros::MAX))
    }

    /// Tells how far a datagram got, and follows it if it was sent.
    pub(crate) fn tell(&mut self, who: &Sender<Progress>, progress: Progress) {
        let listens = who.try_send(progress).is_ok();
        if let (true, Progress::Sent { sequence, .. }) = (listens, progress) {
            if self.followed.len() >= MOST_FOLLOWED {
                self.followed.retain(|_, who| !who.is_closed());
            }
            if self.followed.len() < MOST_FOLLOWED {
                self.followed.insert(sequence, who.clone());
            }
        }
    }

    /// The destination has a paid datagram: how often that had been sent again.
    pub(crate) fn delivered(&mut self, sequence: u64) -> u8 {
        let repeats = self.repeats.delivered(sequence);
        if let Some(who) = self.followed.remove(&sequence) {
            let _ = who.try_send(Progress::Delivered { repeats });
        }
        repeats
    }

    /// A relay stopped a datagram: it is sent again, or its sender is told that it ends.
    pub(crate) fn stopped(&mut self, now: Micros, sequence: u64, reporter: NodeId, cause: Cause) {
        let repeats = self.repeats.times(sequence).max(self.retries.times(sequence));
        if let Some(repeat) = self.retries.stopped(now, sequence, cause) {
            // It will have another number.
            if let Some(who) = self.followed.remove(&sequence) {
                let _ = who.try_send(Progress::Repeating { reporter, cause, repeat });
            }
        } else if let Some(repeat) = self.repeats.stopped(now, sequence, cause) {
            tracing::info!(sequence, repeat, %reporter, "a paid datagram will be sent again: {cause}");
            if let Some(who) = self.followed.get(&sequence) {
                let _ = who.try_send(Progress::Repeating { reporter, cause, repeat });
            }
        } else if let Some(who) = self.followed.remove(&sequence) {
            let _ = who.try_send(Progress::Stopped { reporter, cause, repeats });
        }
    }

    /// A paid datagram is sent again.
    pub(crate) fn repeating(&mut self, repeat: &Repeat) {
        let Repeat { sequence, number, .. } = *repeat;
        tracing::info!(sequence, number, "a paid datagram is sent again");
        if let Some(who) = self.followed.get(&sequence) {
            let _ = who.try_send(Progress::Repeated { repeat: number });
        }
    }

    /// This node itself did not send one again.
    pub(crate) fn repeat_refused(&mut self, now: Micros, repeat: Repeat, reason: MeshError) {
        let sequence = repeat.sequence;
        if !self.repeats.refused(now, repeat, &reason)
            && let Some(who) = self.followed.remove(&sequence)
        {
            let _ = who.try_send(Progress::Refused(reason));
        }
    }

    /// Somebody waits for the end of a search.
    pub(crate) fn search(&mut self, destination: NodeId, who: Sender<bool>) {
        self.searches.entry(destination).or_default().push(who);
    }

    /// Somebody looks for members of a group.
    pub(crate) fn search_members(&mut self, group: NodeId, who: Sender<NodeId>) {
        self.members.entry(group).or_default().push(who);
    }

    /// One was found.
    pub(crate) fn found_member(&mut self, group: &NodeId, member: NodeId) {
        for who in self.members.get(group).into_iter().flatten() {
            let _ = who.try_send(member);
        }
    }

    /// A search has ended with a route.
    pub(crate) fn found(&mut self, destination: NodeId) {
        self.unreachable.remove(&destination);
        self.searched(destination, true);
    }

    /// A search was in vain.
    pub(crate) fn not_found(&mut self, now: Micros, destination: NodeId) {
        if self.members.remove(&destination).is_some() {
            return;
        }
        if self.unreachable.len() >= MOST_UNREACHABLE {
            self.unreachable.retain(|_, until| *until > now);
        }
        if self.unreachable.len() < MOST_UNREACHABLE {
            self.unreachable.insert(destination, now.saturating_add(UNREACHABLE));
        }
        self.searched(destination, false);
    }

    /// Tells whoever waits for the end of a search.
    pub(crate) fn searched(&mut self, destination: NodeId, found: bool) {
        for who in self.searches.remove(&destination).into_iter().flatten() {
            // Whoever does not listen any more is not told.
            let _ = who.try_send(found);
        }
    }

    /// Whether a search found no route to a node just now.
    pub(crate) fn is_unreachable(&self, now: Micros, destination: &NodeId) -> bool {
        self.unreachable.get(destination).is_some_and(|until| *until > now)
    }

    /// A new neighbour may know more.
    pub(crate) fn search_again(&mut self) {
        self.unreachable.clear();
    }

    /// Forgets those for whom nobody waits any more.
    pub(crate) fn housekeeping(&mut self) {
        self.retries.housekeeping();
        self.followed.retain(|_, who| !who.is_closed());
        self.searches.retain(|_, who| {
            who.retain(|who| !who.is_closed());
            !who.is_empty()
        });
        self.members.retain(|_, who| {
            who.retain(|who| !who.is_closed());
            !who.is_empty()
        });
    }
}
