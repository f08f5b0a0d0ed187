//! What follows from the store's answers.

use super::Engine;
use super::durable::{Committed, Held};
use super::shell::Origin;
use crate::node::progress::Progress;
use blvm_mesh_core::mesh::{Input, NetworkReason};
use blvm_mesh_core::time::Micros;

impl Engine {
    /// An invoice for a datagram that was asked for before the start.
    pub(crate) fn restore_asked(&mut self, payment_hash: [u8; 32], expires_at: u64) {
        let now = self.shell.clock.now();
        self.drive(now, Input::InvoiceAsked { payment_hash, expires_at }, Origin::Other);
    }

    /// Records are durable, or cannot be written at present.
    pub(super) fn committed(&mut self, now: Micros, result: Committed) {
        match result {
            Ok(number) => {
                for held in self.shell.durable.committed(number) {
                    self.release(now, held);
                }
                if std::mem::take(&mut self.shell.durable.failed) {
                    tracing::warn!("the store can be written again: payments are accepted");
                    self.give(now, Input::StoreRecovered);
                }
            }
            Err(error) => {
                tracing::error!(
                    error,
                    waiting = self.shell.durable.waiting(),
                    "the store cannot be written: no payment is accepted until it can, and what \
                     was accepted waits"
                );
                self.shell.durable.failed = true;
                self.give(now, Input::StoreFailed);
            }
        }
        self.settle(now);
    }

    fn release(&mut self, now: Micros, held: Held) {
        match held {
            Held::Packet { link, priority, bytes, progress } => {
                let sent = self.shell.push_held(link, priority, &bytes);
                if let Some((who, progress)) = progress {
                    let gone = Progress::Refused(NetworkReason::LinkClosed.into());
                    self.shell.own.tell(&who, if sent { progress } else { gone });
                }
            }
            Held::Delivery(delivery) => {
                if delivery.earned_msat > 0 {
                    self.shell.deliveries.expect_no_more(delivery.source, delivery.payload.len());
                }
                if !self.bench.takes(now, delivery.source, &delivery.payload) {
                    self.shell.deliver(delivery);
                }
            }
            Held::Payment { event, own, settlement } => {
                self.shell.booked(now, event, own, settlement);
            }
        }
    }

    /// The node stops: what waits for the store is not done.
    pub(super) fn give_up(&mut self, now: Micros) {
        let waiting = self.shell.durable.give_up();
        if !waiting.is_empty() {
            tracing::error!(waiting = waiting.len(), "not sent: its payment could not be written");
        }
        for held in waiting {
            let Some((link, room)) = self.shell.refuse_held(held) else { continue };
            for lane in room.lanes() {
                self.give(now, Input::Congestion { link, lane, full: false });
            }
        }
    }
}
