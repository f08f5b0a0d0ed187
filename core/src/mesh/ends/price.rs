//! What a flow would cost that is opened now, hop by hop, and which invoices are paid together.

use super::held::Claim;
use super::source::Phase;
use super::{FlowId, MAX_PACKET, steps};
use crate::id::{HopId, NodeId};
use crate::mesh::{Mesh, Ticket};
use crate::tables::Memory;
use crate::wire::flow::MIN_METERED;
use alloc::vec::Vec;

/// What each packet takes beside its data: heads, and its part of the acknowledgements.
const OF_A_PACKET: u64 = 2 * MIN_METERED;

/// A hop of a route, and what a flow over it would buy there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopPrice {
    /// The node.
    pub hop: HopId,
    /// Bytes that would be bought; 0: it takes no payment, or enough was bought there before.
    pub bytes: u64,
    /// What they would cost, in millisatoshi.
    pub amount_msat: u64,
    /// Bytes that were bought there before and that no flow has.
    pub at_hand: u64,
}

/// Whether the invoice of a purchase is to be paid now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Yes: all nodes of the flow's route that are to be paid have sent theirs, or it is for no
    /// flow.
    Now,
    /// Others of the same flow are still to come.
    Later,
    /// No: the flow takes another route, or has ended.
    Never,
}

impl<M: Memory> Mesh<M> {
    /// For which flow an invoice is to be paid, and whether to wait for those of other nodes on its
    /// route: where one of them cannot be paid, paying the others is of no use.
    pub fn payment_due(&self, ticket: Ticket) -> (Option<FlowId>, Due) {
        let held = &self.tables.ends.held;
        let Some(number) = held.flow_of(ticket) else { return (None, Due::Now) };
        let due = match self.tables.ends.source_of(number) {
            Some(source) if source.phase == Phase::Buy => {
                let asks = |ticket| self.is_asking(ticket);
                let to_begin = |claim: &Claim| {
                    !claim.free && claim.owed > 0 && !held.is_buying(claim.held_as())
                };
                match held.of_flow(number).any(asks) || source.claims.iter().any(to_begin) {
                    true => Due::Later,
                    false => Due::Now,
                }
            }
            _ => Due::Never,
        };
        (Some(FlowId(number)), due)
    }

    /// What a new flow would buy at each hop of the route that it would take now, in travel order,
    /// to carry so many bytes of data one way. It buys them in steps, the first of which is not
    /// smaller than what about 50 satoshi buy; a slow route buys less. What the destination takes
    /// for receiving only it can say. `None`: no usable route is known, or no amount pays all hops.
    pub fn flow_price(&self, destination: &NodeId, data: u64) -> Option<Vec<HopPrice>> {
        let route = self.way_of_flow(destination)?;
        let claims: Vec<Claim> =
            route.hops.iter().map(|(hop, tariff)| Claim::new(*hop, *tariff)).collect();
        let largest = u64::from(route.min_packet).min(MAX_PACKET as u64);
        let packets = data / largest.saturating_sub(OF_A_PACKET).max(1) + 1;
        let used = data.saturating_add(packets.saturating_mul(OF_A_PACKET));
        let (first, held) = (steps::first(&claims), &self.tables.ends.held);
        let mut prices: Vec<HopPrice> = claims
            .iter()
            .map(|claim| HopPrice {
                hop: claim.hop,
                bytes: 0,
                amount_msat: 0,
                at_hand: held.spare(core::slice::from_ref(claim)),
            })
            .collect();
        let mut left: Vec<u64> = prices.iter().map(|price| price.at_hand).collect();
        let mut step = match held.spare(&claims) {
            spare @ steps::SMALLEST.. => spare.min(first),
            _ => first,
        };
        let mut allotted = 0u64;
        loop {
            for (at, _) in claims.iter().enumerate().filter(|(_, claim)| !claim.free) {
                let (Some(price), Some(left)) = (prices.get_mut(at), left.get_mut(at)) else {
                    continue;
                };
                if *left < step {
                    let bytes = (step - *left).max(first);
                    let amount_msat = steps::amount(&claims, at, bytes)?;
                    price.bytes = price.bytes.saturating_add(bytes);
                    price.amount_msat = price.amount_msat.saturating_add(amount_msat);
                    *left = left.saturating_add(bytes);
                }
                *left -= step;
            }
            allotted = allotted.saturating_add(step);
            if used < allotted - step / 2 || step >= steps::LARGEST {
                return Some(prices);
            }
            step = step.saturating_mul(2).clamp(first, steps::LARGEST);
        }
    }
}
