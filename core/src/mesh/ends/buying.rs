//! What a source buys for its flows, and when it pays no more.

use super::held::{Claim, NO_FLOW, UnderWay};
use super::source::Phase;
use super::steps::{self, Counts, Next};
use super::{FlowEnded, FlowEvent, FlowId, Hops};
use crate::flow::end::EndStats;
use crate::id::{HopId, Standing};
use crate::mesh::Mesh;
use crate::mesh::api::Ticket;
use crate::mesh::purchases::Told;
use crate::tables::Memory;
use crate::time::Micros;
use crate::wire::route_error::Cause;
use alloc::vec::Vec;

impl<M: Memory> Mesh<M> {
    /// More may be spent on a flow.
    pub(in crate::mesh) fn raise_budget(&mut self, flow: FlowId, budget_msat: u64) {
        self.absorb();
        if let Some((source, _)) = self.tables.ends.source(flow.0) {
            source.budget_msat = source.budget_msat.max(budget_msat);
            source.told_budget = false;
            if source.phase == Phase::Broke {
                source.phase = Phase::Buy;
            }
            self.touch(flow.0);
        }
    }

    /// Gives the hops what they are owed from what was bought before, begins what is still to
    /// be bought, or opens the flow.
    ///
    /// False if purchases are waited for.
    pub(super) fn buy_step(&mut self, number: u64) -> bool {
        let Some((source, end)) = self.tables.ends.source(number) else { return false };
        let (is_open, mut claims) = (end.is_some(), core::mem::take(&mut source.claims));
        // Nothing is bought for a farewell: a node may still have something, or relay for nothing.
        let leaves = end.as_ref().is_some_and(|end| end.is_over());
        let held = &mut self.tables.ends.held;
        if !is_open && claims.iter().any(|claim| held.is_asking(claim.held_as())) {
            // What is there already may do.
            let Some((source, _)) = self.tables.ends.source(number) else { return false };
            source.claims = claims;
            return false;
        }
        let mut bought_any = false;
        for claim in claims.iter_mut().filter(|claim| !claim.free && claim.owed > 0) {
            let taken = held.take(claim.held_as(), claim.owed);
            claim.owed = if leaves { 0 } else { claim.owed - taken };
            bought_any = true;
        }
        let owing = |claim: &Claim| !claim.free && claim.owed > 0;
        let next = claims.iter().position(|c| owing(c) && !held.is_buying(c.held_as()));
        let waits = claims.iter().any(owing);
        let Some((source, _)) = self.tables.ends.source(number) else { return false };
        source.claims = claims;
        source.must_open |= bought_any;
        match next {
            Some(at) => self.begin_purchase_for(number, at),
            None if waits => return false,
            None if is_open && !source.must_open => self.reopened(number),
            None => source.phase = Phase::Opening(0),
        }
        self.schedule(number);
        true
    }

    /// Begins a purchase at one hop of a flow's route.
    fn begin_purchase_for(&mut self, number: u64, at: usize) {
        let now = self.now;
        let Some((source, _)) = self.tables.ends.source(number) else { return };
        let Some(claim) = source.claims.get(at).copied() else { return };
        let bytes = claim.owed.max(steps::first(&source.claims));
        // What the destination takes it says itself, and here it is a guess.
        let amount = steps::amount(&source.claims, at, bytes);
        let left = source.budget_msat.saturating_sub(source.spent_msat);
        let amount = amount.filter(|amount| *amount <= left);
        let Some(amount_msat) = amount.map(|amount| if claim.receives { 0 } else { amount }) else {
            // What was bought stays for other flows.
            return self.out_of_budget(number);
        };
        let hops: Hops = source.claims.iter().take(at).map(|claim| claim.hop).collect();
        if self.tables.ends.held.is_priced(claim.held_as(), now)
            && let Some(node) = self.untrusted_before(number, at)
        {
            return self.end_untrusted(number, node);
        }
        let open_number = self.tables.ends.opens;
        match self.begin_purchase(hops, claim.hop, bytes, amount_msat, open_number) {
            Ok(ticket) => {
                if let Some((source, _)) = self.tables.ends.source(number) {
                    // Counts as spent until it is known that it was not.
                    source.spent_msat = source.spent_msat.saturating_add(amount_msat);
                }
                let purchase = UnderWay { ticket, flow: number, amount_msat };
                self.tables.ends.held.begin(claim.held_as(), purchase, now);
                // There may be another hop to buy at.
                self.touch(number);
            }
            Err(_) => {
                if let Some((source, _)) = self.tables.ends.source(number) {
                    source.fail(now, FlowEnded::Busy);
                }
            }
        }
    }

    /// The neighbour over which nothing is bought at a hop of a flow's route, if so.
    fn untrusted_before(&mut self, number: u64, at: usize) -> Option<HopId> {
        let (source, _) = self.tables.ends.source(number)?;
        let (claim, first) = (*source.claims.get(at)?, source.claims.first()?.hop);
        let before: &[HopId] = if at == 0 { &[] } else { &[first] };
        (!self.pays_behind(before, claim.hop, claim.receives)).then_some(first)
    }

    /// A destination has said what it takes for so many bytes; whether that may be spent.
    pub(in crate::mesh) fn price_is_told(
        &mut self,
        ticket: Ticket,
        bytes: u64,
        amount_msat: u64,
    ) -> bool {
        let Some(number) = self.tables.ends.held.costs(ticket, amount_msat) else { return true };
        let Some((source, _)) = self.tables.ends.source(number) else { return true };
        let left = source.budget_msat.saturating_sub(source.spent_msat);
        source.spent_msat = source.spent_msat.saturating_add(amount_msat);
        if let Some(claim) = source.claims.iter_mut().find(|claim| claim.receives) {
            claim.has_asked(bytes, amount_msat);
            source.receiver = Some(*claim);
        }
        amount_msat <= left
    }

    /// The next step costs more than the application allows.
    fn out_of_budget(&mut self, number: u64) {
        let Some((source, end)) = self.tables.ends.source(number) else { return };
        if end.is_none() {
            source.phase = Phase::End(FlowEnded::Budget);
        } else {
            source.phase = Phase::Broke;
            if !core::mem::replace(&mut source.told_budget, true) {
                self.tell(number, FlowEvent::BudgetSpent);
            }
        }
    }

    /// What was bought at a node in an earlier run is asked for: flows wait for it before they buy.
    pub(in crate::mesh) fn await_bytes(&mut self, hop: HopId, ticket: Ticket) {
        let purchase = UnderWay { ticket, flow: NO_FLOW, amount_msat: 0 };
        self.tables.ends.held.begin(hop, purchase, self.now);
    }

    /// A purchase at a node has ended: with what it says there is; or for this cause, with what was
    /// paid lost if it was `paid`.
    pub(in crate::mesh) fn purchase_ended(
        &mut self,
        ticket: Ticket,
        hop: HopId,
        result: Result<Told, Cause>,
        paid: bool,
    ) {
        let now = self.now;
        let purchase = self.tables.ends.held.end(ticket, hop, result.ok(), now);
        let Some(purchase) = purchase else { return };
        if !paid && let Some((source, _)) = self.tables.ends.source(purchase.flow) {
            source.spent_msat = source.spent_msat.saturating_sub(purchase.amount_msat);
        }
        if paid && result.is_err() {
            // What it was paid it keeps: nothing more.
            self.tables.ends.held.distrust(hop, now);
        }
        let near = self.tables.routing.neighbours.live(hop);
        let own = near.is_some_and(|neighbour| neighbour.standing == Standing::Own);
        let waiting = self.tables.ends.sources(|_, source| {
            let its = |claim: &Claim| claim.held_as() == hop;
            source.phase == Phase::Buy && source.claims.iter().any(its)
        });
        for number in waiting {
            let Some((source, end)) = self.tables.ends.source(number) else { continue };
            let is_open = end.as_ref().is_some_and(|end| !end.is_over());
            match result {
                // It may need less than it took for its first step.
                Ok(_) if purchase.flow == NO_FLOW && end.is_none() => {
                    if source.claims.iter().all(|claim| claim.free || claim.owed == source.allotted)
                    {
                        source.allotted = 0;
                    }
                    source.phase = Phase::Route { fresh: false };
                }
                Ok(_) => source.tried_credit = false,
                // It relays for nothing.
                Err(Cause::ModeRefused) => {
                    let its = source.claims.iter_mut().filter(|claim| claim.held_as() == hop);
                    its.for_each(|claim| (claim.free, claim.owed) = (true, 0));
                    source.receiver.take_if(|claim| claim.held_as() == hop);
                }
                // Nothing was paid to an own neighbour, which may carry something on credit.
                Err(_) if !paid && own && !source.tried_credit && source.begins_with(hop) => {
                    source.tried_credit = true;
                    if let Some(claim) = source.claims.first_mut() {
                        (claim.lent, claim.owed) = (claim.lent.saturating_add(claim.owed), 0);
                    }
                }
                Err(cause) if paid || number == purchase.flow => {
                    let at = source.claims.iter().position(|claim| claim.held_as() == hop);
                    let is_priced = cause == Cause::PaymentRequired && !paid;
                    let untrusted = self.untrusted_before(number, at.unwrap_or(0));
                    if let Some(node) = untrusted.filter(|_| is_priced) {
                        self.tables.ends.held.set_priced(hop, now);
                        self.end_untrusted(number, node);
                    } else if let Some((source, _)) = self.tables.ends.source(number) {
                        source.fail(now, FlowEnded::NotBought { node: hop, cause });
                    }
                    // Only that flow's: one input causes few actions.
                    if is_open && number == purchase.flow {
                        self.tell(number, FlowEvent::Interrupted { node: hop, cause });
                    }
                }
                Err(_) => {}
            }
            self.touch(number);
            self.schedule(number);
        }
    }

    /// A flow's way begins at this neighbour, which is not trusted: it ends, after it was looked once
    /// whether a trusted one leads there too.
    fn end_untrusted(&mut self, number: u64, node: HopId) {
        let (now, looks) = (self.now, self.has_trusted());
        let Some((source, _)) = self.tables.ends.source(number) else { return };
        match looks && !core::mem::replace(&mut source.sought_trusted, true) {
            true => source.phase = Phase::Route { fresh: true },
            false => source.fail(now, FlowEnded::Untrusted { node }),
        }
    }

    /// The hops of this route took more than they carried: it is left, and they are avoided.
    pub(super) fn leave_route(&mut self, number: u64) {
        let now = self.now;
        let Some(peer) = self.tables.ends.get(number).map(|entry| entry.peer) else { return };
        let Some((source, _)) = self.tables.ends.source(number) else { return };
        let hops: Vec<_> =
            source.claims.iter().filter(|claim| !claim.free).map(|claim| claim.hop).collect();
        source.phase = Phase::Route { fresh: true };
        for hop in hops {
            self.tables.ends.held.distrust_for(hop, peer, now);
        }
    }

    /// Whether the next step is bought, or the route left; false if it stays as it is.
    pub(super) fn judge_step(&mut self, number: u64) -> bool {
        let now = self.now;
        let Some(entry) = self.tables.ends.get(number) else { return false };
        let (Some(stats), used) = (entry.stats(), entry.used()) else { return false };
        let Some((source, end)) = self.tables.ends.source(number) else { return false };
        if end.as_ref().is_none_or(|end| end.is_over()) || source.told_budget {
            return false;
        }
        let counts = counts(now, used, &stats);
        // Asked with every packet.
        if !steps::is_used(source.step, source.allotted, &counts) {
            return false;
        }
        let paid = source.is_paid();
        let first = if paid { steps::first(&source.claims) } else { steps::FREE };
        let mark = source.mark;
        match steps::next(first, source.step, source.allotted, &mark, &counts) {
            Next::Wait => false,
            Next::Leave if paid => {
                self.leave_route(number);
                true
            }
            Next::Leave => self.add_step(number, first),
            Next::Buy(bytes) => self.add_step(number, bytes),
        }
    }

    /// Allots a step to a flow, as large as its budget allows; false if it allows none.
    fn add_step(&mut self, number: u64, bytes: u64) -> bool {
        let Some((source, _)) = self.tables.ends.source(number) else { return false };
        let first = if source.is_paid() { steps::first(&source.claims) } else { steps::FREE };
        let left = source.budget_msat.saturating_sub(source.spent_msat);
        let mut bytes = bytes;
        while bytes > first && steps::cost(&source.claims, bytes) > left {
            bytes = (bytes / 2).max(first);
        }
        if steps::cost(&source.claims, bytes) > left {
            // What was bought last can still be used.
            source.told_budget = true;
            self.tell(number, FlowEvent::BudgetSpent);
            return true;
        }
        // What it got on credit was carried.
        source.tried_credit = false;
        source.bought = true;
        source.step = bytes;
        source.allotted = source.allotted.saturating_add(bytes);
        for claim in source.claims.iter_mut().filter(|claim| !claim.free) {
            claim.owed = claim.owed.saturating_add(bytes);
        }
        source.phase = Phase::Buy;
        true
    }
}

/// The counts of an end by which the next step is judged.
pub(super) fn counts(now: Micros, used: u64, stats: &EndStats) -> Counts {
    let settled = stats.acknowledged.saturating_add(stats.lost).saturating_add(stats.unasked);
    Counts { at: now, used, sent: stats.sent, settled, lost: stats.lost, own: stats.left }
}
