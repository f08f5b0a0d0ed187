//! Bytes that this node has bought at others, for all flows that it opens.

use crate::flow::tickets::LIFETIME_S;
use crate::id::{HopId, NodeId};
use crate::mesh::api::Ticket;
use crate::mesh::purchases::{Told, held_as};
use crate::tariff::Tariff;
use crate::time::{Micros, SECOND};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

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
    /// It is the destination, which takes something for receiving.
    pub(super) receives: bool,
    /// Bytes that could not be bought, and that it may carry on credit: the last of what the flow has
    /// left there.
    pub(super) lent: u64,
}

impl Claim {
    pub(super) fn new(hop: HopId, tariff: Tariff) -> Self {
        let free = tariff == Tariff::default();
        Self { hop, tariff, free, owed: 0, receives: false, lent: 0 }
    }

    /// The destination, which has asked so much before, or nothing yet.
    pub(super) fn receiver(hop: HopId, tariff: Tariff) -> Self {
        Self { free: false, receives: true, ..Self::new(hop, tariff) }
    }

    /// The same on another route.
    pub(super) fn anew(self) -> Self {
        Self { owed: 0, ..self }
    }

    /// What was bought there of the `left` bytes of a flow.
    pub(super) fn bought_of(&self, left: u64) -> u64 {
        match self.free {
            true => 0,
            false => left.saturating_sub(self.owed).saturating_sub(self.lent),
        }
    }

    /// Under which name it is kept what was bought there.
    pub(super) fn held_as(&self) -> HopId {
        held_as(self.hop, self.receives)
    }

    /// It takes so much for so many bytes.
    pub(super) fn has_asked(&mut self, bytes: u64, amount_msat: u64) {
        let per_kib = u128::from(amount_msat) * 1024 / u128::from(bytes.max(1));
        let per_kib_msat = u32::try_from(per_kib.saturating_add(1)).unwrap_or(u32::MAX);
        self.tariff = Tariff { base_msat: 0, per_kib_msat };
    }

    /// What it charges: nothing where it takes no payment.
    pub(super) fn tariff(&self) -> Tariff {
        if self.free { Tariff::default() } else { self.tariff }
    }
}

/// Stands for the flow of a purchase that was made in an earlier run.
pub(super) const NO_FLOW: u64 = 0;

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
    /// Bytes bought in this run, and ever, as the node says.
    bought: u64,
    told: Option<u64>,
    /// Those bought in this run since the account there began.
    counted: u64,
    /// Bytes that the node says are gone, and of which this node does not know how.
    missing: u64,
    purchases: Vec<UnderWay>,
    distrusted_until: Micros,
    /// How often it was.
    distrusted: u32,
    /// Until when it is known to take something, which was not paid as it is behind a neighbour that
    /// is not trusted with that.
    priced_until: Micros,
}

/// What this node has at others.
#[derive(Debug)]
pub(super) struct HeldBytes(
    BTreeMap<HopId, Held>,
    /// Hops of routes that lost too much, and where those led: until when they are avoided.
    BTreeMap<(HopId, NodeId), Micros>,
);

impl HeldBytes {
    pub(super) const EMPTY: Self = Self(BTreeMap::new(), BTreeMap::new());

    fn entry(&mut self, hop: HopId, now: Micros) -> &mut Held {
        if self.0.len() >= MOST && !self.0.contains_key(&hop) {
            let idle = |held: &Held| held.purchases.is_empty() && held.distrusted_until <= now;
            let least = self.0.iter().filter(|(_, held)| idle(held));
            let least = least.min_by_key(|(_, held)| held.spare).map(|(hop, _)| *hop);
            least.map(|hop| self.0.remove(&hop));
        }
        self.0.entry(hop).or_default()
    }

    /// Bytes that no flow has at any of these hops.
    pub(super) fn spare(&self, claims: &[Claim]) -> u64 {
        let spare = |claim: &Claim| self.0.get(&claim.held_as()).map_or(0, |held| held.spare);
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
            if let Some(held) = self.0.get_mut(&claim.held_as()) {
                held.spare = held.spare.saturating_add(claim.bought_of(left));
            }
        }
    }

    /// A flow that is over gives back all but `little` of what it did not use.
    pub(super) fn leave_little(&mut self, claims: &mut [Claim], left: u64, little: u64) {
        for claim in claims.iter_mut().filter(|claim| !claim.free) {
            let has = claim.bought_of(left);
            let keeps = has.min(little);
            if let Some(held) = self.0.get_mut(&claim.held_as()) {
                held.spare = held.spare.saturating_add(has - keeps);
            }
            (claim.owed, claim.lent) = (little.min(left) - keeps, 0);
        }
    }

    /// Whether something is being bought at a node.
    pub(super) fn is_buying(&self, hop: HopId) -> bool {
        self.0.get(&hop).is_some_and(|held| !held.purchases.is_empty())
    }

    /// Whether a node is being asked what an earlier run has bought there.
    pub(super) fn is_asking(&self, hop: HopId) -> bool {
        let asks = |held: &Held| held.purchases.iter().any(|purchase| purchase.flow == NO_FLOW);
        self.0.get(&hop).is_some_and(asks)
    }

    fn under_way(&self) -> impl Iterator<Item = &UnderWay> {
        self.0.values().flat_map(|held| &held.purchases)
    }

    /// For which flow a purchase was begun, if for one.
    pub(super) fn flow_of(&self, ticket: Ticket) -> Option<u64> {
        let purchase = self.under_way().find(|purchase| purchase.ticket == ticket)?;
        (purchase.flow != NO_FLOW).then_some(purchase.flow)
    }

    /// The purchases that were begun for a flow.
    pub(super) fn of_flow(&self, flow: u64) -> impl Iterator<Item = Ticket> {
        self.under_way().filter(move |purchase| purchase.flow == flow).map(|p| p.ticket)
    }

    pub(super) fn begin(&mut self, hop: HopId, purchase: UnderWay, now: Micros) {
        self.entry(hop, now).purchases.push(purchase);
    }

    /// A purchase that is asked for costs so much, in millisatoshi: for which flow, and where.
    pub(super) fn costs(&mut self, ticket: Ticket, amount_msat: u64) -> Option<u64> {
        let purchases = self.0.values_mut().flat_map(|held| &mut held.purchases);
        let purchase = purchases.into_iter().find(|purchase| purchase.ticket == ticket)?;
        purchase.amount_msat = amount_msat;
        Some(purchase.flow)
    }

    /// A purchase at a node has ended, successfully if the node has `told` what is on the account:
    /// what it was, if it was still waited for.
    pub(super) fn end(
        &mut self,
        ticket: Ticket,
        hop: HopId,
        told: Option<Told>,
        now: Micros,
    ) -> Option<UnderWay> {
        if told.is_none() && !self.0.contains_key(&hop) {
            return None;
        }
        let held = self.entry(hop, now);
        if let Some(Told { bytes, bought, left }) = told {
            let counted = held.counted.saturating_add(bytes);
            let is_new = bought < counted;
            held.counted = if is_new { bytes } else { counted };
            held.spare = match held.told {
                // What was bought in an earlier run is still there.
                None => left,
                // What was bought there before in this run is forgotten, with what was left of it.
                Some(_) if is_new => {
                    held.missing = held.missing.saturating_add(held.spare);
                    bytes
                }
                // Credited since it was last told: another purchase's answer may have counted it.
                Some(before) => held.spare.saturating_add(bought.saturating_sub(before).min(bytes)),
            };
            held.told = if is_new { Some(bought) } else { held.told.max(Some(bought)) };
            held.bought = held.bought.saturating_add(bytes);
        }
        let at = held.purchases.iter().position(|purchase| purchase.ticket == ticket)?;
        Some(held.purchases.swap_remove(at))
    }

    /// A node has credited so many bytes by a proof that it shares with others.
    pub(super) fn deposited(&mut self, hop: HopId, bytes: u64, now: Micros) {
        let held = self.entry(hop, now);
        held.spare = held.spare.saturating_add(bytes);
        held.bought = held.bought.saturating_add(bytes);
        held.counted = held.counted.saturating_add(bytes);
        held.told = Some(held.told.unwrap_or(0).saturating_add(bytes));
    }

    /// A node says that nothing is left where a flow should have so many bytes. Whether that is
    /// believed: a crash there may cost `reservation`, and a little may be counted otherwise.
    pub(super) fn nothing_left(&mut self, hop: HopId, bytes: u64, reservation: u64) -> bool {
        let Some(held) = self.0.get_mut(&hop) else { return true };
        held.missing = held.missing.saturating_add(bytes.saturating_add(held.spare));
        held.spare = 0;
        held.missing <= reservation.saturating_add(held.bought / 10)
    }

    /// Avoids routes over a node to another for some time: it may be any hop of a route that lost
    /// too much, or its end.
    pub(super) fn distrust_for(&mut self, hop: HopId, destination: NodeId, now: Micros) {
        if self.1.len() >= MOST {
            self.1.retain(|_, until| *until > now);
        }
        if self.1.len() < MOST {
            self.1.insert((hop, destination), now.saturating_add(DISTRUST));
        }
    }

    /// Avoids all routes over a node for some time, twice as long each time.
    pub(super) fn distrust(&mut self, hop: HopId, now: Micros) {
        let held = self.entry(hop, now);
        held.distrusted_until = now.saturating_add(DISTRUST << held.distrusted.min(7));
        held.distrusted = held.distrusted.saturating_add(1);
    }

    /// A node has asked for something that is not paid over an untrusted neighbour. It is not asked
    /// again before its ticket has expired: after a few of those it gives out none to this node,
    /// which may trust the neighbour soon.
    pub(super) fn set_priced(&mut self, hop: HopId, now: Micros) {
        let until = now.saturating_add(u64::from(LIFETIME_S).saturating_mul(SECOND));
        self.entry(hop, now).priced_until = until;
    }

    /// Whether a node is known to take something.
    pub(super) fn is_priced(&self, hop: HopId, now: Micros) -> bool {
        self.0.get(&hop).is_some_and(|held| held.priced_until > now)
    }

    pub(super) fn is_distrusted(&self, hop: HopId, to: &NodeId, now: Micros) -> bool {
        self.0.get(&hop).is_some_and(|held| held.distrusted_until > now)
            || self.1.get(&(hop, *to)).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: HopId = HopId([1; 8]);
    const TARIFF: Tariff = Tariff { base_msat: 1, per_kib_msat: 1 };

    /// A purchase, after which so many bytes were ever bought.
    fn buy(held: &mut HeldBytes, ticket: u64, bytes: u64, [bought, left]: [u64; 2]) {
        let purchase = UnderWay { ticket: Ticket(ticket), flow: 7, amount_msat: 5 };
        held.begin(HOP, purchase, 0);
        assert!(held.is_buying(HOP));
        let told = Some(Told { bytes, bought, left });
        assert_eq!(held.end(Ticket(ticket), HOP, told, 0), Some(purchase));
        assert!(!held.is_buying(HOP) && held.end(Ticket(ticket), HOP, None, 0).is_none());
    }

    #[test]
    fn what_is_bought_serves_all_flows_and_comes_back() {
        let mut held = HeldBytes::EMPTY;
        assert_eq!(held.take(HOP, 10), 0);
        // 50 were left from an earlier run.
        buy(&mut held, 1, 100, [400, 150]);
        buy(&mut held, 2, 100, [500, 9]);
        assert_eq!((held.take(HOP, 240), held.take(HOP, 20), held.take(HOP, 1)), (240, 10, 0));
        let claim = Claim { owed: 10, ..Claim::new(HOP, TARIFF) };
        held.release(&[claim], 30);
        held.release(&[Claim { free: true, ..claim }], 30);
        assert_eq!(held.take(HOP, 100), 20);
    }

    #[test]
    fn what_was_deposited_counts_once() {
        let mut held = HeldBytes::EMPTY;
        held.deposited(HOP, 300, 0);
        assert_eq!(held.take(HOP, 100), 100);
        // The node tells of both.
        buy(&mut held, 1, 50, [350, 250]);
        assert_eq!(held.take(HOP, 1_000), 250);
        held.deposited(HOP, 5, 0);
        buy(&mut held, 2, 50, [405, 55]);
        assert_eq!(held.take(HOP, 1_000), 55);
    }

    #[test]
    fn a_flow_that_is_over_keeps_little() {
        let mut held = HeldBytes::EMPTY;
        buy(&mut held, 1, 1_000, [1_000; 2]);
        assert_eq!(held.take(HOP, 1_000), 1_000);
        // 900 of it are left, and 700 more were to be bought.
        let mut claims = [Claim { owed: 700, ..Claim::new(HOP, TARIFF) }];
        held.leave_little(&mut claims, 1_600, 100);
        assert_eq!((claims[0].owed, held.take(HOP, 5_000)), (0, 800));
        held.release(&claims, 100);
        assert_eq!(held.take(HOP, 5_000), 100);
        // One that has less than that still has it.
        let mut claims = [Claim { owed: 70, ..Claim::new(HOP, TARIFF) }];
        held.leave_little(&mut claims, 100, 50);
        held.release(&claims, 50);
        assert_eq!(held.take(HOP, 5_000), 30);
    }

    #[test]
    fn what_an_earlier_run_has_bought_counts_once() {
        let (mut held, ticket) = (HeldBytes::EMPTY, |n| Ticket(n));
        for n in 0..3 {
            held.begin(HOP, UnderWay { ticket: ticket(n), flow: 0, amount_msat: 0 }, 0);
        }
        let told = |bought, left| Some(Told { bytes: 100, bought, left });
        // The second was credited before, and the first answer counts it; the third was not.
        assert!(held.end(ticket(0), HOP, told(300, 170), 0).is_some() && held.is_buying(HOP));
        assert!(held.end(ticket(1), HOP, told(300, 170), 0).is_some());
        assert!(held.end(ticket(2), HOP, told(400, 270), 0).is_some() && !held.is_buying(HOP));
        assert_eq!(held.take(HOP, 1_000), 270);
        // One that nobody waits for any more counts too.
        assert!(held.end(ticket(9), HOP, told(500, 100), 0).is_none());
        assert_eq!(held.take(HOP, 1_000), 100);
    }

    #[test]
    fn what_is_bought_counts_where_an_account_was_forgotten() {
        let mut held = HeldBytes::EMPTY;
        buy(&mut held, 1, 1_000, [1_000; 2]);
        held.take(HOP, 600);
        // The account begins anew with the next purchase, and what was spare is gone.
        buy(&mut held, 2, 1_000, [1_000; 2]);
        assert_eq!(held.take(HOP, 700), 700);
        buy(&mut held, 3, 1_000, [2_000, 1_300]);
        assert_eq!(held.take(HOP, 5_000), 1_300);
        assert!(held.nothing_left(HOP, 1_000, 1_100), "400 and 1,000 of 3,000 are missing");
        assert!(!held.nothing_left(HOP, 1, 1_100));
    }

    #[test]
    fn who_says_too_often_that_nothing_is_left_is_not_believed() {
        let mut held = HeldBytes::EMPTY;
        assert!(held.nothing_left(HOP, 1_000, 0), "nothing was bought there");
        buy(&mut held, 1, 1_000, [1_000; 2]);
        held.take(HOP, 900);
        // A crash cost what the flow had, and what was spare.
        assert!(held.nothing_left(HOP, 400, 450));
        assert_eq!(held.take(HOP, 1), 0);
        buy(&mut held, 2, 1_000, [2_000; 2]);
        held.take(HOP, 1_000);
        assert!(!held.nothing_left(HOP, 500, 450));
        held.distrust(HOP, 5);
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        assert!(held.is_distrusted(HOP, &a, 5) && !held.is_distrusted(HOP, &a, 5 + DISTRUST));
        held.distrust_for(HOP, b, DISTRUST + 5);
        let late = DISTRUST + 6;
        assert!(held.is_distrusted(HOP, &b, late) && !held.is_distrusted(HOP, &a, late));
    }

    #[test]
    fn those_without_bytes_are_forgotten_first() {
        let mut held = HeldBytes::EMPTY;
        buy(&mut held, 1, 1_000, [1_000; 2]);
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
