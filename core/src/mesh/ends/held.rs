//! Bytes that this node has bought at others, for all flows that it opens.

use crate::id::HopId;
use crate::mesh::api::Ticket;
use crate::tariff::Tariff;
use crate::time::{Micros, SECOND};
use alloc::collections::BTreeMap;

/// Most nodes of which it is known what was bought there. Beyond that, one where no flow has
/// anything is forgotten.
const MOST: usize = 1024;
/// For how long routes over a node are avoided that did not carry what it was paid for.
const DISTRUST: Micros = 600 * SECOND;

/// A hop of a flow's route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) hop: HopId,
    tariff: Tariff,
    /// It takes no payment.
    pub(super) free: bool,
    /// Bytes that the flow must have there in addition before it goes on.
    pub(super) owed: u64,
}

impl Claim {
    pub(super) fn new(hop: HopId, tariff: Tariff) -> Self {
        Self { hop, tariff, free: tariff == Tariff::default(), owed: 0 }
    }

    /// What it charges: nothing where it takes no payment.
    pub(super) fn tariff(&self) -> Tariff {
        if self.free { Tariff::default() } else { self.tariff }
    }
}

/// A purchase under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) ticket: Ticket,
    /// The flow for which it was begun.
    pub(super) flow: u64,
    /// What it costs, in millisatoshi.
    pub(super) amount_msat: u64,
}

/// What this node has at another one.
#[derive(Debug, Clone, Default)]
struct Held {
    /// Bytes that no flow has.
    spare: u64,
    /// Bytes bought in this run.
    bought: u64,
    /// Bytes that the node says are gone, and of which this node does not know how.
    missing: u64,
    purchase: Option<UnderWay>,
    distrusted_until: Micros,
}

/// What this node has at others.
#[derive(Debug)]
pub(super) struct HeldBytes(BTreeMap<HopId, Held>);

impl HeldBytes {
    pub(super) const EMPTY: Self = Self(BTreeMap::new());

    fn entry(&mut self, hop: HopId, now: Micros) -> &mut Held {
        if self.0.len() >= MOST && !self.0.contains_key(&hop) {
            let idle = |held: &Held| held.purchase.is_none() && held.distrusted_until <= now;
            let least = self.0.iter().filter(|(_, held)| idle(held));
            let least = least.min_by_key(|(_, held)| held.spare).map(|(hop, _)| *hop);
            least.map(|hop| self.0.remove(&hop));
        }
        self.0.entry(hop).or_default()
    }

    /// Bytes that no flow has at any of these hops.
    pub(super) fn spare(&self, claims: &[Claim]) -> u64 {
        let spare = |claim: &Claim| self.0.get(&claim.hop).map_or(0, |held| held.spare);
        claims.iter().filter(|claim| !claim.free).map(spare).min().unwrap_or(0)
    }

    /// Gives a flow up to so many of the bytes that no flow has.
    pub(super) fn take(&mut self, hop: HopId, bytes: u64) -> u64 {
        let Some(held) = self.0.get_mut(&hop) else { return 0 };
        let taken = bytes.min(held.spare);
        held.spare -= taken;
        taken
    }

    /// A flow gives back what it did not use: `left`, of which it was still owed some.
    pub(super) fn release(&mut self, claims: &[Claim], left: u64) {
        for claim in claims.iter().filter(|claim| !claim.free) {
            if let Some(held) = self.0.get_mut(&claim.hop) {
                held.spare = held.spare.saturating_add(left.saturating_sub(claim.owed));
            }
        }
    }

    /// Whether something is being bought at a node.
    pub(super) fn is_buying(&self, hop: HopId) -> bool {
        self.0.get(&hop).is_some_and(|held| held.purchase.is_some())
    }

    pub(super) fn begin(&mut self, hop: HopId, purchase: UnderWay, now: Micros) {
        self.entry(hop, now).purchase = Some(purchase);
    }

    /// A purchase has ended: where, and what it was. With `bytes` it was successful, and the
    /// account there has so many `left` for further flows.
    pub(super) fn end(
        &mut self,
        ticket: Ticket,
        bytes: Option<(u64, u64)>,
    ) -> Option<(HopId, UnderWay)> {
        let is_it = |held: &Held| held.purchase.is_some_and(|p| p.ticket == ticket);
        let (hop, held) = self.0.iter_mut().find(|(_, held)| is_it(held))?;
        let purchase = held.purchase.take()?;
        if let Some((bytes, left)) = bytes {
            // What was bought in an earlier run is still there.
            held.spare = if held.bought == 0 { left } else { held.spare.saturating_add(bytes) };
            held.bought = held.bought.saturating_add(bytes);
        }
        Some((*hop, purchase))
    }

    /// A node says that nothing is left where a flow should have so many bytes. Whether that is
    /// believed: a crash there may cost `reservation`, and a little may be counted otherwise.
    pub(super) fn nothing_left(&mut self, hop: HopId, bytes: u64, reservation: u64) -> bool {
        let Some(held) = self.0.get_mut(&hop) else { return true };
        held.missing = held.missing.saturating_add(bytes.saturating_add(held.spare));
        held.spare = 0;
        held.missing <= reservation.saturating_add(held.bought / 10)
    }

    /// Avoids routes over a node for some time.
    pub(super) fn distrust(&mut self, hop: HopId, now: Micros) {
        self.entry(hop, now).distrusted_until = now.saturating_add(DISTRUST);
    }

    pub(super) fn is_distrusted(&self, hop: HopId, now: Micros) -> bool {
        self.0.get(&hop).is_some_and(|held| held.distrusted_until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: HopId = HopId([1; 8]);
    const TARIFF: Tariff = Tariff { base_msat: 1, per_kib_msat: 1 };

    fn bought(held: &mut HeldBytes, ticket: u64, bytes: u64, left: u64) {
        let purchase = UnderWay { ticket: Ticket(ticket), flow: 7, amount_msat: 5 };
        held.begin(HOP, purchase, 0);
        assert!(held.is_buying(HOP));
        assert_eq!(held.end(Ticket(ticket), Some((bytes, left))), Some((HOP, purchase)));
        assert!(!held.is_buying(HOP) && held.end(Ticket(ticket), None).is_none());
    }

    #[test]
    fn what_is_bought_serves_all_flows_and_comes_back() {
        let mut held = HeldBytes::EMPTY;
        assert_eq!(held.take(HOP, 10), 0);
        // 50 were left from an earlier run.
        bought(&mut held, 1, 100, 150);
        bought(&mut held, 2, 100, 9);
        assert_eq!((held.take(HOP, 240), held.take(HOP, 20), held.take(HOP, 1)), (240, 10, 0));
        let claim = Claim { owed: 10, ..Claim::new(HOP, TARIFF) };
        held.release(&[claim], 30);
        held.release(&[Claim { free: true, ..claim }], 30);
        assert_eq!(held.take(HOP, 100), 20);
    }

    #[test]
    fn who_says_too_often_that_nothing_is_left_is_not_believed() {
        let mut held = HeldBytes::EMPTY;
        assert!(held.nothing_left(HOP, 1_000, 0), "nothing was bought there");
        bought(&mut held, 1, 1_000, 1_000);
        held.take(HOP, 900);
        // A crash cost what the flow had, and what was spare.
        assert!(held.nothing_left(HOP, 400, 450));
        assert_eq!(held.take(HOP, 1), 0);
        bought(&mut held, 2, 1_000, 1_000);
        held.take(HOP, 1_000);
        assert!(!held.nothing_left(HOP, 500, 450));
        held.distrust(HOP, 5);
        assert!(held.is_distrusted(HOP, 5) && !held.is_distrusted(HOP, 5 + DISTRUST));
    }

    #[test]
    fn those_without_bytes_are_forgotten_first() {
        let mut held = HeldBytes::EMPTY;
        bought(&mut held, 1, 1_000, 1_000);
        for n in 0..2 * MOST as u64 {
            held.distrust(HopId((n + 1_000_000).to_le_bytes()), 0);
            held.distrust(HopId((n + 1_000_000).to_le_bytes()), 0);
            // Their time is over.
            held.0.values_mut().for_each(|held| held.distrusted_until = 0);
        }
        assert_eq!(held.0.len(), MOST);
        assert_eq!(held.take(HOP, 1), 1);
    }
}
