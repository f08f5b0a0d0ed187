//! What goes free, and within which allowances: that of the neighbour that brings it, and what
//! the next neighbour has said that it accepts.

use super::Mesh;
use super::error::{MeshError, NetworkReason};
use super::parked::Awaits;
use crate::id::{HopId, LinkId, NodeId};
use crate::policy::mode::{MeshMode, RoutingPolicy};
use crate::policy::{Classified, DetectedProtocol, FreeCost};
use crate::routing::mirrors::Sender;
use crate::routing::owners::WHOLE;
use crate::routing::table::RoutingTable;
use crate::tables::Memory;
use crate::time::{MILLISECOND, Micros, SECOND};
use crate::wire::datagram::Datagram;
use crate::wire::hello::FREE_CLASSES;

/// Longest time that a datagram of this node's own waits for room at its first hop.
const PATIENCE: Micros = 60 * SECOND;

/// What a free datagram uses of the allowance that a neighbour announced.
#[derive(Debug)]
pub(super) struct Onward {
    to: usize,
    sender: Sender,
    amounts: [u64; FREE_CLASSES],
}

impl<M: Memory> Mesh<M> {
    /// Charges a free datagram to the allowances of the neighbour at a place; true if they cover
    /// it.
    pub(super) fn take_free(
        &mut self,
        from: usize,
        datagram: &Datagram<'_>,
        size: usize,
        cost: FreeCost,
    ) -> bool {
        let (now, config) = (self.now, &self.config);
        let RoutingTable { neighbours, owners, .. } = &mut self.tables.routing;
        let Some(n) = neighbours.at(from) else { return false };
        let share = n.share_of(before_the_neighbour(datagram));
        let Some(owner) = owners.get_mut(n.owner) else { return false };
        let limits = [config.free(), config.plain, config.rare];
        let amounts = free_amounts(config.mode, size, cost);
        let wanted = || (WHOLE..).zip(limits.iter().zip(&amounts)).filter(|(_, (_, n))| **n > 0);
        let there = wanted().all(|(kind, (limit, n))| owner.has(kind, *limit, share, *n, now));
        if there {
            wanted().for_each(|(kind, (limit, n))| owner.take(kind, *limit, share, *n, now));
        }
        there
    }

    /// What a datagram from the neighbour at a place uses at the next one, if it goes free at both.
    pub(super) fn onward(
        &self,
        from: usize,
        to: usize,
        datagram: &Datagram<'_>,
        size: usize,
        found: Classified,
    ) -> Option<Onward> {
        let hop = self.tables.routing.neighbours.at(from)?.node.hop();
        let amounts = self.amounts_at(to, datagram.payload, size, found)?;
        Some(Onward { to, sender: Sender::Other(u64::from_le_bytes(hop.0)), amounts })
    }

    fn amounts_at(
        &self,
        to: usize,
        payload: &[u8],
        size: usize,
        found: Classified,
    ) -> Option<[u64; FREE_CLASSES]> {
        if self.policy.determine_policy(found.protocol) != RoutingPolicy::Free {
            return None;
        }
        let mode = self.tables.routing.neighbours.at(to)?.mode;
        let found = match self.config.mode == MeshMode::Open && mode != MeshMode::Open {
            true => self.policy.classified(payload),
            false => found,
        };
        let recognised =
            !matches!(found.protocol, DetectedProtocol::Unknown | DetectedProtocol::MeshPacket);
        (mode == MeshMode::Open || recognised).then(|| free_amounts(mode, size, found.cost))
    }

    /// Whether the next neighbour accepts it now.
    pub(super) fn has_room(&mut self, onward: &Onward) -> bool {
        let Onward { to, sender, amounts } = onward;
        self.tables.routing.mirrors.has(*to, *sender, amounts, self.now)
    }

    /// Counts it as sent there.
    pub(super) fn take_room(&mut self, onward: &Onward) {
        let Onward { to, sender, amounts } = onward;
        self.tables.routing.mirrors.take(*to, *sender, amounts, self.now);
    }

    /// What a datagram of this node's own uses at its first hop, if it goes free. It waits until
    /// there is room: `Err(None)` means that it is parked.
    pub(super) fn room_for_own(
        &mut self,
        destination: NodeId,
        (link, to): (LinkId, usize),
        payload: &[u8],
        size: usize,
        found: Classified,
    ) -> Result<Option<Onward>, Option<MeshError>> {
        let Some(amounts) = self.amounts_at(to, payload, size, found) else { return Ok(None) };
        let sender = Sender::Itself(u64::from_le_bytes(self.me.id().hop().0));
        let (now, onward) = (self.now, Onward { to, sender, amounts });
        let has_waited = self.take_turn(&destination, payload.len());
        let mirrors = &self.tables.routing.mirrors;
        let ready = mirrors.ready_at(to, sender, &amounts, now);
        let ready = ready.ok_or(Some(NetworkReason::LargerThanAllowance.into()))?;
        // Mostly bytes without work, which wait for others of their kind only.
        let plain = amounts.get(1).zip(amounts.first()).is_some_and(|(p, all)| p * 2 > *all);
        let last = if has_waited { None } else { self.last_waiting(link, plain) };
        let at = match last {
            None => ready,
            Some(last) => ready.max(last.saturating_add(mirrors.span(to, &amounts))),
        };
        if at <= now {
            return Ok(Some(onward));
        }
        if last.is_none() {
            // Leaves a part to others who send through this node.
            self.has_room(&onward);
        }
        let wait = at.saturating_sub(now);
        let no_room = NetworkReason::NoRoomFor { millis: wait.div_ceil(MILLISECOND) };
        if wait > PATIENCE {
            return Err(Some(no_room.into()));
        }
        let waits = Awaits::Room { destination, to: link, len: payload.len(), plain };
        self.park(waits, None, at, size).map_err(|_| Some(no_room.into()))?;
        Err(None)
    }
}

/// The node from which the neighbour that brings a datagram has it; the neighbour itself if it is
/// the source.
pub(super) fn before_the_neighbour(datagram: &Datagram<'_>) -> HopId {
    let place = datagram.hops().len().saturating_sub(usize::from(datagram.hop_limit));
    let before = place.checked_sub(2).and_then(|at| datagram.hops().nth(at));
    before.unwrap_or(datagram.source.hop())
}

/// What a free datagram of this size uses of the allowances for all bytes, for those without work
/// and for rare ones. Everything around its payload counts as without work. In mode open nothing
/// is classified.
pub(super) fn free_amounts(mode: MeshMode, size: usize, cost: FreeCost) -> [u64; 3] {
    let (plain, rare) = match mode {
        MeshMode::Open => (0, 0),
        _ => (size.saturating_sub(cost.worked), cost.rare),
    };
    [size as u64, plain as u64, rare as u64]
}
