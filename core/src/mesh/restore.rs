//! What a node knows from before its start: the clock, and the records of its store.

use super::Mesh;
#[cfg(feature = "flows")]
use crate::flow::tickets::TicketError;
#[cfg(feature = "flows")]
use crate::payment::ledger::{AccountState, Credit};
use crate::payment::ledger::{Payment, Record};
use crate::payment::replay::ReplayError;
use crate::tables::Memory;
use crate::time::SECOND;

impl<M: Memory> Mesh<M> {
    pub(super) fn set_wall(&mut self, unix: u64) {
        if self.config.payment.volatile || self.store_lost {
            self.date_start(unix);
        }
        if self.wall.unix(self.now).is_none() {
            // Neighbours may wait for the time.
            self.tables.routing.neighbours.iter_mut().for_each(|n| n.liveness.greet_at(0));
        }
        self.wall.set(self.now, unix);
        self.wake_at(self.next_cleanup.max(self.now));
    }

    /// Payments dated before the start are unknown: notes when that was.
    fn date_start(&mut self, unix: u64) {
        // Earlier readings may have been too low: the latest start counts.
        let (first, latest) = self.not_before.unwrap_or((self.now, 0));
        let start = unix.saturating_sub(self.now.saturating_sub(first) / SECOND);
        let start = start.saturating_add(self.config.payment.future_skew);
        self.not_before = Some((first, start.max(latest)));
        if start > latest && !self.config.payment.volatile {
            self.persist(Record::StoreLost(Some(start)));
        }
    }

    fn restore_payment(&mut self, p: &Payment) {
        // One that does not fit cannot be forgotten either: no payment is accepted then.
        let accepted = self.tables.replay.restore(p.key, p.expires_at, p.packet);
        self.not_restored |= accepted == Err(ReplayError::TableFull);
    }

    #[inline(never)]
    pub(super) fn restore(&mut self, record: Record) {
        match record {
            Record::Floor(unix) => self.tables.replay.restore_floor(unix),
            Record::Payment(p) => self.restore_payment(&p),
            #[cfg(feature = "flows")]
            Record::Run(run) => self.last_run = self.last_run.max(run),
            #[cfg(feature = "flows")]
            Record::Account(AccountState { source, account }) => {
                self.not_restored |= !self.tables.accounts.restore(&source, account);
            }
            #[cfg(feature = "flows")]
            Record::Credit(Credit { payment_hash, run, issued, source, account, .. }) => {
                self.last_run = self.last_run.max(run);
                self.not_restored |= !self.tables.accounts.restore(&source, account);
                let restored = self.tables.tickets.restore(payment_hash, run, issued);
                self.not_restored |= restored == Err(TicketError::NoRoom);
            }
            #[cfg(feature = "alloc")]
            Record::Deposit(d) => {
                self.not_restored |= !self.tables.accounts.restore(&d.payment.source, d.account);
                self.restore_payment(&d.payment);
            }
            #[cfg(not(feature = "alloc"))]
            Record::Deposit(_) => {}
            #[cfg(not(feature = "flows"))]
            Record::Run(_) | Record::Account(_) | Record::Credit(_) => {}
            Record::StoreLost(None) => {
                self.store_lost = true;
                if let Some(unix) = self.wall.unix(self.now) {
                    self.date_start(unix);
                }
            }
            Record::StoreLost(Some(unix)) => {
                let (first, latest) = self.not_before.unwrap_or((self.now, 0));
                self.not_before = Some((first, latest.max(unix)));
            }
        }
        self.absorb();
    }
}
