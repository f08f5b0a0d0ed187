//! Invoices that the host pays, for the bytes that this node buys.

use super::{ManagerError, MeshManager};
use crate::wallet::{Bill, Ended, NotPaid, Spending};
use blvm_mesh_core::mesh::{Input, Ticket};
use smol::channel::{Receiver, Sender};
use std::sync::Arc;

/// Payments at once.
pub(super) const AT_ONCE: usize = 8;
/// Invoices that wait to be paid. Full: a further one is not paid.
const MOST_QUEUED: usize = 64;

/// What is to be paid, and what may be spent; `None`: nothing, as it cannot be written down.
pub(super) struct Bills {
    queue: Sender<(Ticket, Bill)>,
    queued: Receiver<(Ticket, Bill)>,
    spending: Option<Arc<Spending>>,
}

impl Bills {
    pub(super) fn new(spending: Option<Spending>) -> Self {
        let (queue, queued) = smol::channel::bounded(MOST_QUEUED);
        Self { queue, queued, spending: spending.map(Arc::new) }
    }
}

impl MeshManager {
    pub(super) fn queue_bill(&self, ticket: Ticket, bill: Bill) {
        if self.bills.queue.try_send((ticket, bill)).is_err() {
            self.bill_ended(ticket, Err(NotPaid::QueueFull));
        }
    }

    /// Pays what is queued, one after the other.
    pub(super) async fn pay_bills(&self) {
        // The manager holds a sender: this never fails.
        while let Ok((ticket, bill)) = self.bills.queued.recv().await {
            let ended = self.pay(bill).await;
            self.bill_ended(ticket, ended);
            self.carry_out().await;
        }
    }

    async fn pay(&self, bill: Bill) -> Ended {
        let Some(spending) = self.bills.spending.clone() else { return Err(NotPaid::NoStore) };
        let begins = spending.clone();
        let (begun, bill) = smol::unblock(move || (begins.begin(&bill, None), bill)).await;
        let begun = begun?;
        let outcome = self.api.pay(&bill, begun.max_fee_msat()).await;
        smol::unblock(move || spending.end(begun, outcome)).await
    }

    fn bill_ended(&self, ticket: Ticket, ended: Ended) {
        let told = self.give(|core, now| match core.purchases.ended(ticket, ended) {
            Some(preimage) => {
                let input = Input::InvoicePaid { ticket, preimage };
                core.give(now, input).map_err(ManagerError::Misuse)
            }
            None => Ok(()),
        });
        self.log(told);
    }

    /// The bytes of a purchase were credited.
    pub(super) async fn credited(&self, ticket: Ticket, bytes: u64) {
        let hash = self.lock().purchases.credited(ticket, bytes);
        if let (Some(hash), Some(spending)) = (hash, self.bills.spending.clone()) {
            smol::unblock(move || spending.credited(&hash, bytes)).await;
        }
    }
}
