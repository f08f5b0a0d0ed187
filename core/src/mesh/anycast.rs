//! Groups: searches that any member answers in its own name (anycast, RFC 4786).
//!
//! On the wire such a search is one for a node whose identity is the group's; relays carry it as
//! any other. A member's reply names and is signed by the member itself. The number of the request,
//! which is random, says which search it answers.

use super::Mesh;
#[cfg(feature = "alloc")]
use super::api::{Action, Event};
#[cfg(feature = "alloc")]
use super::error::Remedy;
use crate::id::{HopId, NodeId};
use crate::tables::Memory;

#[cfg(feature = "alloc")]
impl<M: Memory> Mesh<M> {
    /// Whether this node answers searches for a group with such an identity.
    pub(super) fn belongs_to(&self, group: HopId) -> bool {
        self.config.group.is_some_and(|own| own.hop() == group)
    }

    /// Searches for members of a group; one that is under way goes on.
    pub(super) fn find_members(&mut self, group: NodeId) {
        if self.tables.searches.get_mut(&group).is_some_and(|s| s.anycast && !s.found) {
            return self.absorb();
        }
        match self.search(group, false, None) {
            Ok(()) => {
                if let Some(search) = self.tables.searches.get_mut(&group) {
                    search.anycast = true;
                }
                self.absorb();
            }
            Err(reason) => self.reject(None, reason, Remedy::Ignore),
        }
    }

    /// The group that was looked for under a number.
    pub(super) fn searched_group(&mut self, number: u64) -> Option<NodeId> {
        self.tables.searches.for_group(number).map(|search| search.destination)
    }

    /// A member has answered. The search ends with its ring.
    pub(super) fn found_member(&mut self, member: NodeId, number: u64, hops: u8) {
        let Some(search) = self.tables.searches.for_group(number) else { return };
        search.found = true;
        let group = search.destination;
        self.act(Action::Publish(Event::MemberFound { group, member, hops }));
    }
}

/// A board belongs to no group, and looks for none.
#[cfg(not(feature = "alloc"))]
impl<M: Memory> Mesh<M> {
    pub(super) fn belongs_to(&self, _group: HopId) -> bool {
        false
    }

    pub(super) fn searched_group(&mut self, _number: u64) -> Option<NodeId> {
        None
    }

    pub(super) fn found_member(&mut self, _member: NodeId, _number: u64, _hops: u8) {}
}
