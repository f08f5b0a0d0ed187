//! What control packets cost, charged to whoever causes it.

use super::control::Refusal;
use super::error::{NetworkReason, Remedy};
use super::{Mesh, Tables};
use crate::config::Allowance;
use crate::id::{HopId, LinkId};
use crate::routing::owners::{CONTROL, WIDE};
use crate::routing::table::RoutingTable;
use crate::tables::Memory;
use crate::wire::route_request::{self, RouteRequest};

/// Sending this many copies of a request counts as much as its own bytes: they cost little
/// compared with the look-ups for the first.
const COPIES: u64 = 4;

impl<M: Memory> Mesh<M> {
    /// Charges a control packet to the neighbour's allowance, to the share of the hop before it;
    /// `None`: the neighbour made the packet.
    pub(super) fn charge(
        &mut self,
        link: LinkId,
        body: &[u8],
        before: Option<HopId>,
    ) -> Result<(), Refusal> {
        let size = (body.len() + crate::wire::HEADER_LEN) as u64;
        match self.take_control(link, before, size) {
            true => Ok(()),
            false => Err((NetworkReason::ControlQuota.into(), Remedy::Ignore)),
        }
    }

    /// Charges work for control packets to a neighbour's allowance and to the budget of all
    /// neighbours; true if both cover it.
    pub(super) fn take_control(&mut self, link: LinkId, before: Option<HopId>, work: u64) -> bool {
        self.take_work(link, before, &[(CONTROL, self.config.control, work)])
    }

    fn take_work(
        &mut self,
        link: LinkId,
        before: Option<HopId>,
        wanted: &[(usize, Allowance, u64)],
    ) -> bool {
        let (now, of_all) = (self.now, self.config.control_of_all);
        let Tables { routing: RoutingTable { neighbours, owners, .. }, work, .. } =
            &mut *self.tables;
        let Some(n) = neighbours.get(link) else { return false };
        let itself = n.share_of(n.node.hop());
        let share = before.map_or(itself, |before| n.share_of(before));
        let Some(owner) = owners.get_mut(n.owner) else { return false };
        let sum = wanted.iter().filter(|(kind, ..)| *kind == CONTROL).map(|(_, _, n)| n).sum();
        let there = work.has(0, of_all, itself, sum, now)
            && wanted.iter().all(|(kind, limit, n)| owner.has(*kind, *limit, share, *n, now));
        if there {
            work.take(0, of_all, itself, sum, now);
            wanted.iter().for_each(|(kind, limit, n)| owner.take(*kind, *limit, share, *n, now));
        }
        there
    }

    /// Charges sending a request of this size to all neighbours but one.
    pub(super) fn take_flood(
        &mut self,
        link: LinkId,
        before: Option<HopId>,
        request: &RouteRequest,
    ) -> bool {
        let links = self.tables.routing.neighbours.len().saturating_sub(1) as u64;
        let collected = request.accepted.as_ref().map_or(0, |accepted| accepted.wire_len());
        let size = (route_request::most_len(request.hops.len()) + collected) as u64;
        let work = size.saturating_mul(links).div_ceil(COPIES);
        let control = (CONTROL, self.config.control, work);
        match request.hop_limit {
            0 | 1 => self.take_work(link, before, &[control]),
            _ => self.take_work(link, before, &[control, (WIDE, self.config.wide_searches, 1)]),
        }
    }
}
