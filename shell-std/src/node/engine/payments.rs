//! Invoices that this node pays, for the bytes that it buys. They are paid off the engine's task,
//! which waits for none of them: a payment takes seconds, and one that is slow holds up no others
//! until all places are taken.

use crate::rpc::types::PurchaseStats;
use crate::wallet::{
    Bill, Ended, Kept, NotPaid, Outcome, Payer, Resolved, Spending, Spent, Underway,
};
use blvm_mesh_core::id::HopId;
use blvm_mesh_core::mesh::{Due, FlowId, Ticket};
use blvm_mesh_core::wire::route_error::Cause;
use smol::channel::Sender;
use smol::{Executor, Task};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two look-ups of payments whose outcome is not known.
pub(crate) const LOOK_UP: Duration = Duration::from_secs(60);
/// Payments at once.
const AT_ONCE: usize = 8;
/// Invoices that wait to be paid. Full: a further one is not paid.
const MOST_QUEUED: usize = 64;

/// An invoice that somebody else than this node's wallet is to pay.
#[derive(Debug)]
pub(crate) struct Wanting {
    /// The nodes before the one that is asked.
    pub(crate) hops: Vec<[u8; 8]>,
    pub(crate) node: HopId,
    pub(crate) bytes: u64,
    /// 0: the node says what it takes for receiving.
    pub(crate) amount_msat: u64,
}

/// Invoices of one route.
type Route = Vec<(Ticket, Bill)>;

/// Whoever waits for the end of a purchase: bytes that were bought and what is there now, or why not.
type Redeemer = Sender<Result<(u64, u64), String>>;

/// The queue of those that are to be paid, if there is a wallet, and the purchases they are for.
#[derive(Debug, Default)]
pub(crate) struct Payments {
    paying: Option<Paying>,
    underway: Underway,
    /// Invoices that wait for others of the same flow. As many as purchases may be under way.
    gathered: Vec<(Ticket, Bill)>,
    /// Purchases whose invoices others pay.
    handed_out: HashMap<Ticket, Sender<Result<Bill, String>>>,
    redeemed: HashMap<Ticket, Redeemer>,
}

#[derive(Debug)]
struct Paying {
    /// Those of one route together.
    queue: Sender<Route>,
    spending: Arc<Spending>,
}

impl Payments {
    /// Starts the tasks that have invoices paid, and tell what became of each as long as that is
    /// `true`; also of those of which it becomes known later, with the ticket that was paid for while
    /// that is valid.
    pub(crate) fn start<F, G>(
        payer: Payer,
        tell: impl Fn(Ticket, Ended) -> F + Clone + Send + 'static,
        (pause, tell_resolved): (Duration, impl Fn(Resolved, Option<Kept>) -> G + Send + 'static),
        executor: &Executor<'static>,
    ) -> (Self, Vec<Task<()>>)
    where
        F: Future<Output = bool> + Send + 'static,
        G: Future<Output = bool> + Send + 'static,
    {
        let (queue, bills) = smol::channel::bounded::<Route>(MOST_QUEUED);
        let spending = payer.spending.clone();
        let task = |_| {
            let (payer, tell, bills) = (payer.clone(), tell.clone(), bills.clone());
            let queue = queue.downgrade();
            executor.spawn(async move {
                while let Ok(bills) = bills.recv().await {
                    let rest = pay_hardest(&payer, bills, tell.clone()).await;
                    for bill in rest {
                        let next = match queue.upgrade() {
                            Some(queue) => queue.try_send(vec![bill]).map_err(|e| e.into_inner()),
                            None => Err(vec![bill]),
                        };
                        if let Err(bills) = next {
                            pay_hardest(&payer, bills, tell.clone()).await;
                        }
                    }
                }
            })
        };
        let mut tasks: Vec<_> = (0..AT_ONCE).map(task).collect();
        tasks.push(executor.spawn(async move {
            loop {
                let payer = payer.clone();
                let look_up = move || {
                    let resolved = payer.resolve();
                    let paid = resolved.iter().any(|(_, preimage)| preimage.is_some());
                    (resolved, if paid { payer.spending.kept() } else { Vec::new() })
                };
                let (resolved, kept) = smol::unblock(look_up).await;
                for resolved in resolved {
                    let of = |kept: &&Kept| !kept.credited && kept.payment_hash == resolved.0;
                    if !tell_resolved(resolved, kept.iter().find(of).copied()).await {
                        return;
                    }
                }
                smol::Timer::after(pause).await;
            }
        }));
        let paying = Some(Paying { queue, spending });
        (Self { paying, ..Self::default() }, tasks)
    }

    /// Takes an invoice that is to be paid when those of its route are there; false if it will not
    /// be paid here.
    pub(crate) fn gather(&mut self, ticket: Ticket, bill: Bill) -> bool {
        if let Some(asker) = self.handed_out.remove(&ticket) {
            let _ = asker.try_send(Ok(bill));
            return false;
        }
        self.underway.begun(ticket, bill.amount_msat);
        if self.paying.is_none() {
            self.underway.ended(ticket, Err(NotPaid::NoWallet));
            return false;
        }
        self.gathered.push((ticket, bill));
        true
    }

    /// Has those paid that are due; those that will not be.
    pub(crate) fn pay_due(&mut self, due: impl Fn(Ticket) -> (Option<FlowId>, Due)) -> Vec<Ticket> {
        let mut not_paid = Vec::new();
        let mut routes: Vec<(Option<FlowId>, Route)> = Vec::new();
        for (ticket, bill) in std::mem::take(&mut self.gathered) {
            match due(ticket) {
                (_, Due::Later) => self.gathered.push((ticket, bill)),
                (_, Due::Never) => {
                    self.underway.ended(ticket, Err(NotPaid::NotNeeded));
                    not_paid.push(ticket);
                }
                (flow, Due::Now) => {
                    let of_flow =
                        |(other, _): &&mut (Option<FlowId>, _)| flow.is_some() && *other == flow;
                    match routes.iter_mut().find(of_flow) {
                        Some((_, bills)) => bills.push((ticket, bill)),
                        None => routes.push((flow, vec![(ticket, bill)])),
                    }
                }
            }
        }
        for (_, bills) in routes {
            let full = match &self.paying {
                Some(paying) => paying.queue.try_send(bills).map_err(|e| e.into_inner()).err(),
                None => Some(bills),
            };
            for (ticket, _) in full.into_iter().flatten() {
                self.underway.ended(ticket, Err(NotPaid::QueueFull));
                not_paid.push(ticket);
            }
        }
        not_paid
    }

    /// The invoice of this purchase is for somebody else to pay.
    pub(crate) fn hand_out(&mut self, ticket: Ticket, asker: Sender<Result<Bill, String>>) {
        self.handed_out.insert(ticket, asker);
    }

    /// What was paid by somebody else is shown to its node.
    pub(crate) fn redeem(&mut self, ticket: Ticket, redeemer: Redeemer) {
        self.redeemed.insert(ticket, redeemer);
    }

    /// What the node pays with may spend; `None`: there is nothing.
    pub(crate) fn spending(&self) -> Option<Arc<Spending>> {
        self.paying.as_ref().map(|paying| paying.spending.clone())
    }

    /// One that was paid in an earlier run is shown to its node.
    pub(crate) fn again(&mut self, ticket: Ticket, kept: &Kept) {
        self.underway.again(ticket, kept);
    }

    /// Paying has ended: what the state machine is to be told, if anything.
    pub(crate) fn ended(&mut self, ticket: Ticket, ended: Ended) -> Option<Option<[u8; 32]>> {
        self.underway.ended(ticket, ended)
    }

    /// What became of a payment is known now: what the state machine is to be told, if anything.
    pub(crate) fn resolved(&mut self, resolved: Resolved) -> Option<(Ticket, Option<[u8; 32]>)> {
        self.underway.resolved(resolved)
    }

    /// The bytes of a purchase were credited.
    pub(crate) fn credited(&mut self, ticket: Ticket, bytes: u64, left: u64) {
        if let Some(redeemer) = self.redeemed.remove(&ticket) {
            let _ = redeemer.try_send(Ok((bytes, left)));
        }
        let (hash, paying) = (self.underway.credited(ticket, bytes), &self.paying);
        if let (Some(hash), Some(Paying { spending, .. })) = (hash, paying) {
            let spending = spending.clone();
            smol::unblock(move || spending.credited(&hash, bytes)).detach();
        }
    }

    /// A purchase has ended without.
    pub(crate) fn failed(&mut self, ticket: Ticket, cause: Cause) {
        if let Some(asker) = self.handed_out.remove(&ticket) {
            let _ = asker.try_send(Err(cause.to_string()));
        }
        if let Some(redeemer) = self.redeemed.remove(&ticket) {
            let _ = redeemer.try_send(Err(cause.to_string()));
        }
        self.underway.failed(ticket);
    }

    /// What is counted, and spent.
    pub(crate) fn stats(&self) -> PurchaseStats {
        let spent = self.paying.as_ref().map(|paying| paying.spending.spent());
        let Spent { last_hour_msat, limit_msat, last_day_msat, day_limit_msat } =
            spent.unwrap_or_default();
        let wallet = self.paying.is_some();
        let stats = self.underway.stats();
        PurchaseStats { wallet, last_hour_msat, limit_msat, last_day_msat, day_limit_msat, ..stats }
    }
}

/// Pays the invoice that is hardest to pay, and gives the others back if that is done; else none of
/// them is paid.
async fn pay_hardest<F: Future<Output = bool>>(
    payer: &Payer,
    bills: Route,
    tell: impl Fn(Ticket, Ended) -> F + Send,
) -> Route {
    let ordered = payer.clone();
    let (why, rest) = match smol::unblock(move || ordered.hardest_first(bills)).await {
        Ok(mut bills) if !bills.is_empty() => {
            let (ticket, bill) = bills.remove(0);
            let payer = payer.clone();
            let ended = smol::unblock(move || payer.pay(&bill)).await;
            let is_paid = matches!(ended, Ok((_, Outcome::Paid { .. })));
            tell(ticket, ended).await;
            if is_paid {
                return bills;
            }
            (NotPaid::Together, bills)
        }
        Ok(_) => return Vec::new(),
        Err(refused) => refused,
    };
    for (ticket, _) in rest {
        tell(ticket, Err(why.clone())).await;
    }
    Vec::new()
}

#[cfg(test)]
#[path = "payments_tests.rs"]
mod tests;
