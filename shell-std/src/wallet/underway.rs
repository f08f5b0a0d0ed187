//! Purchases of this node that have not ended, and what is counted of all.

use super::{Kept, NotPaid, Outcome, Resolved};
use crate::rpc::types::PurchaseStats;
use blvm_mesh_core::mesh::Ticket;
use std::collections::HashMap;

/// Reasons that are remembered as told. Full: the oldest goes.
const MOST_TOLD: usize = 16;

/// What became of a bill, with its payment hash.
pub(crate) type Ended = Result<([u8; 32], Outcome), NotPaid>;

/// How far paying for a purchase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Paying,
    /// The state machine does not wait for it any more.
    GivenUp,
    /// Paid, with this payment hash.
    Paid([u8; 32]),
    /// Nobody knows whether it is paid; with this payment hash.
    Unknown([u8; 32]),
    /// Not paid.
    Over,
}

/// A purchase.
#[derive(Debug, Clone, Copy)]
struct Purchase {
    amount_msat: u64,
    stage: Stage,
}

/// The purchases that the state machine has begun and not ended, and those that are still being paid.
#[derive(Debug, Default)]
pub(crate) struct Underway {
    purchases: HashMap<Ticket, Purchase>,
    /// Why invoices were not paid since the last that was: each is logged once.
    told: Vec<NotPaid>,
    stats: PurchaseStats,
}

impl Underway {
    /// An invoice is to be paid.
    pub(crate) fn begun(&mut self, ticket: Ticket, amount_msat: u64) {
        self.purchases.insert(ticket, Purchase { amount_msat, stage: Stage::Paying });
    }

    /// One that was paid in an earlier run is shown to its node.
    pub(crate) fn again(&mut self, ticket: Ticket, kept: &Kept) {
        let stage = if kept.credited { Stage::Over } else { Stage::Paid(kept.payment_hash) };
        self.purchases.insert(ticket, Purchase { amount_msat: 0, stage });
    }

    /// An invoice is not paid.
    fn refused(&mut self, why: NotPaid) {
        self.stats.not_paid += 1;
        self.stats.over_limit += u64::from(why.is_limit());
        self.stats.last_refusal = Some(why.to_string());
        if self.told.iter().any(|told| told.is_same(&why)) {
            tracing::debug!("an invoice for bytes was not paid: {why}");
            return;
        }
        tracing::warn!(
            "an invoice for bytes was not paid: {why} (said once until the next is paid)"
        );
        if self.told.len() >= MOST_TOLD {
            self.told.remove(0);
        }
        self.told.push(why);
    }

    /// Paying has ended: what the state machine is to be told, if anything. Where the outcome is
    /// not known it is told nothing, and gives the purchase up in time: something may be spent.
    pub(crate) fn ended(&mut self, ticket: Ticket, ended: Ended) -> Option<Option<[u8; 32]>> {
        match ended {
            Ok((payment_hash, Outcome::Paid { preimage, fee_msat })) => {
                let amount_msat = self.purchases.get(&ticket).map_or(0, |p| p.amount_msat);
                let spent_msat = amount_msat.saturating_add(fee_msat);
                self.stats.paid += 1;
                self.stats.paid_msat = self.stats.paid_msat.saturating_add(spent_msat);
                self.told.clear();
                if !self.settle(ticket, Stage::Paid(payment_hash)) {
                    self.not_credited(&payment_hash);
                }
                Some(Some(preimage))
            }
            Ok((payment_hash, Outcome::Unknown(why) | Outcome::NotPaid(why))) => {
                self.stats.unknown += 1;
                self.settle(ticket, Stage::Unknown(payment_hash));
                let payment = hex::encode(payment_hash);
                tracing::error!(
                    payment,
                    "it is not known whether an invoice for bytes was paid, so it counts as \
                     spent: {why}"
                );
                None
            }
            Err(why) => {
                self.refused(why);
                self.settle(ticket, Stage::Over);
                Some(None)
            }
        }
    }

    /// It is known now what became of a payment: the purchase that waits for it, if one does, for
    /// the state machine to be told the same.
    pub(crate) fn resolved(&mut self, resolved: Resolved) -> Option<(Ticket, Option<[u8; 32]>)> {
        let (payment_hash, preimage) = resolved;
        let mut waiting = self.purchases.iter_mut();
        let (ticket, purchase) =
            waiting.find(|(_, purchase)| purchase.stage == Stage::Unknown(payment_hash))?;
        purchase.stage = match preimage {
            Some(_) => Stage::Paid(payment_hash),
            None => Stage::Over,
        };
        self.stats.unknown = self.stats.unknown.saturating_sub(1);
        match preimage {
            Some(_) => {
                self.stats.paid += 1;
                self.stats.paid_msat = self.stats.paid_msat.saturating_add(purchase.amount_msat);
            }
            None => self.stats.not_paid += 1,
        }
        Some((*ticket, preimage))
    }

    /// Paying has come to an end; whether the state machine still waits for it.
    fn settle(&mut self, ticket: Ticket, stage: Stage) -> bool {
        match self.purchases.get_mut(&ticket) {
            Some(purchase) if purchase.stage == Stage::Paying => {
                purchase.stage = stage;
                true
            }
            _ => {
                self.purchases.remove(&ticket);
                false
            }
        }
    }

    /// The bytes were credited: the payment hash for the ledger.
    pub(crate) fn credited(&mut self, ticket: Ticket, bytes: u64) -> Option<[u8; 32]> {
        let purchase = self.purchases.remove(&ticket);
        if purchase.is_some_and(|purchase| purchase.stage == Stage::Over) {
            // That was counted before.
            return None;
        }
        self.stats.credited += 1;
        self.stats.credited_bytes = self.stats.credited_bytes.saturating_add(bytes);
        match purchase?.stage {
            Stage::Paid(payment_hash) => Some(payment_hash),
            _ => None,
        }
    }

    /// It has ended without.
    pub(crate) fn failed(&mut self, ticket: Ticket) {
        let Some(purchase) = self.purchases.get_mut(&ticket) else { return };
        match purchase.stage {
            Stage::Paying => purchase.stage = Stage::GivenUp,
            Stage::Paid(payment_hash) => {
                self.purchases.remove(&ticket);
                self.not_credited(&payment_hash);
            }
            Stage::GivenUp | Stage::Unknown(_) | Stage::Over => _ = self.purchases.remove(&ticket),
        }
    }

    fn not_credited(&mut self, payment_hash: &[u8; 32]) {
        self.stats.not_credited += 1;
        let payment = hex::encode(payment_hash);
        tracing::error!(payment, "bytes were paid for, and their node did not credit them");
    }

    /// What is counted here.
    pub(crate) fn stats(&self) -> PurchaseStats {
        self.stats.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Ticket = Ticket(7);

    #[test]
    fn each_reason_is_told_once_until_something_is_paid() {
        let mut underway = Underway::default();
        let limit = |spent_msat| NotPaid::Limit {
            key: "budget.max_msat_per_hour",
            wanted_msat: 5,
            spent_msat,
            limit_msat: 9,
        };
        for n in 0..5 {
            underway.refused(limit(n));
            underway.refused(NotPaid::Wallet("no route".into()));
        }
        assert_eq!(underway.told, [limit(0), NotPaid::Wallet("no route".into())]);
        for n in 0..2 * MOST_TOLD {
            underway.refused(NotPaid::Wallet(n.to_string()));
        }
        assert_eq!(underway.told.len(), MOST_TOLD);
        let stats = underway.stats();
        assert_eq!((stats.not_paid, stats.over_limit), (10 + 2 * MOST_TOLD as u64, 5));
        assert_eq!(stats.last_refusal.unwrap(), (2 * MOST_TOLD - 1).to_string());
        let paid = Outcome::Paid { preimage: [1; 32], fee_msat: 0 };
        assert_eq!(underway.ended(T, Ok(([2; 32], paid))), Some(Some([1; 32])));
        assert!(underway.told.is_empty());
    }

    #[test]
    fn what_is_paid_is_credited_or_missed() {
        let mut underway = Underway::default();
        let paid = |preimage| Ok(([2; 32], Outcome::Paid { preimage, fee_msat: 7 }));
        underway.begun(T, 500);
        underway.ended(T, paid([1; 32]));
        assert_eq!(underway.credited(T, 80), Some([2; 32]));
        // Paid and not credited; paid when the state machine had given it up.
        underway.begun(T, 500);
        underway.ended(T, paid([1; 32]));
        underway.failed(T);
        underway.begun(T, 500);
        underway.failed(T);
        underway.ended(T, paid([1; 32]));
        // Nobody knows: the state machine is told nothing, until it is known.
        for (preimage, stage) in [(Some([1; 32]), Stage::Paid([2; 32])), (None, Stage::Over)] {
            let mut underway = Underway::default();
            underway.begun(T, 500);
            assert_eq!(underway.resolved(([2; 32], preimage)), None, "it is being paid");
            underway.ended(T, Ok(([2; 32], Outcome::Unknown("?".into()))));
            assert_eq!(underway.resolved(([3; 32], preimage)), None);
            assert_eq!(underway.resolved(([2; 32], preimage)), Some((T, preimage)));
            assert_eq!(underway.purchases[&T].stage, stage);
            assert_eq!(underway.resolved(([2; 32], preimage)), None, "once");
            assert_eq!(underway.stats().unknown, 0);
        }
        underway.begun(T, 500);
        assert_eq!(underway.ended(T, Ok(([2; 32], Outcome::Unknown("?".into())))), None);
        underway.failed(T);
        let stats = underway.stats();
        assert_eq!((stats.paid, stats.credited, stats.credited_bytes), (3, 1, 80));
        assert_eq!(stats.paid_msat, 3 * 507);
        assert_eq!((stats.not_credited, stats.unknown, stats.not_paid), (2, 1, 0));
        assert!(underway.purchases.is_empty());
    }
}
