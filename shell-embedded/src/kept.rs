//! Records on their way to the storage, and what waits for them.

use crate::{Storage, StoreError};
use blvm_mesh_core::flow::accounts::Account;
use blvm_mesh_core::mesh::BoardMesh;
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{AccountState, Record};
use blvm_mesh_core::time::{Micros, SECOND};

/// Pause before a record that was not written is written once more.
const RETRY: Micros = 10 * SECOND;

/// The records of one run.
pub(crate) struct Kept {
    pub(crate) store: Option<&'static mut dyn Storage>,
    /// Why it could not be read or written, until it can.
    pub(crate) error: Option<StoreError>,
    /// What is to be written once it can: at most a payment or a credit, the account that was
    /// forgotten for it, and when the store was lost.
    unwritten: heapless::Vec<Record, 3>,
    /// Whether accounts have changed since: what they hold by then is written.
    accounts: bool,
    /// The latest record, and the one up to which all are written.
    latest: u64,
    durable: u64,
    retry_at: Micros,
    /// The state machine is to be told of it.
    failed: bool,
}

impl Kept {
    pub(crate) const EMPTY: Self = Self {
        store: None,
        error: None,
        unwritten: heapless::Vec::new(),
        accounts: false,
        latest: 0,
        durable: 0,
        retry_at: 0,
        failed: false,
    };

    /// The store cannot be read.
    pub(crate) fn unreadable(&mut self, error: StoreError) {
        self.error = Some(error);
        self.unwritten.clear();
    }

    fn is_behind(&self) -> bool {
        self.accounts || !self.unwritten.is_empty()
    }

    /// When to write once more what could not be written.
    pub(crate) fn retry_at(&self) -> Option<Micros> {
        self.is_behind().then_some(self.retry_at)
    }

    /// Whether something has to wait for this record. It is dropped instead: its sender sends
    /// it again.
    pub(crate) fn lacks(&self, record: Option<u64>) -> bool {
        record.is_some_and(|number| number > self.durable)
    }

    /// Writes a record at once, so that what waits for it need not wait.
    #[inline(never)]
    pub(crate) fn write(&mut self, number: u64, record: Record) {
        self.latest = number;
        let behind = self.is_behind();
        let written = match &mut self.store {
            Some(store) if !behind => store.write(&record),
            // What is written later comes after what could not be written.
            _ => Ok(()),
        };
        let is_floor = matches!(record, Record::Floor(_));
        match written {
            Ok(()) if self.store.is_some() && !behind => return self.durable = number,
            // Without a floor more is remembered after a restart, and not less.
            _ if is_floor && !behind => return self.durable = number,
            _ if is_floor => return,
            Ok(()) => {}
            Err(error) => (self.error, self.failed) = (Some(error), true),
        }
        match record {
            Record::Account(AccountState { account, .. }) if account != Account::default() => {
                self.accounts = true;
            }
            record => {
                let lost = |record: &Record| matches!(record, Record::StoreLost(_));
                if lost(&record) {
                    self.unwritten.retain(|r| !lost(r));
                }
                // No payment is accepted while one is here: there is room.
                let _ = self.unwritten.push(record);
            }
        }
    }

    /// A record was not written since this was asked last: the payment that is to be delivered
    /// again, and why.
    pub(crate) fn take_failure(&mut self, now: Micros) -> Option<(Option<[u8; 32]>, StoreError)> {
        if !core::mem::take(&mut self.failed) {
            return None;
        }
        self.retry_at = now.saturating_add(RETRY);
        let undelivered = match self.unwritten.first() {
            // It was dropped: whoever paid for it sends it again.
            Some(Record::Payment(p)) if p.role == Party::Destination => Some(p.key),
            _ => None,
        };
        Some((undelivered, self.error?))
    }

    /// Writes once more what could not be written; true if it works again.
    #[inline(never)]
    pub(crate) fn retry(&mut self, mesh: &BoardMesh, now: Micros) -> bool {
        if self.store.is_none() {
            (self.accounts, self.unwritten) = (false, heapless::Vec::new());
            return false;
        }
        match self.write_all(mesh) {
            Ok(()) => {
                self.durable = self.latest;
                self.error.take().is_some()
            }
            Err(error) => {
                (self.error, self.retry_at) = (Some(error), now.saturating_add(RETRY));
                false
            }
        }
    }

    fn write_all(&mut self, mesh: &BoardMesh) -> Result<(), StoreError> {
        let Self { store: Some(store), unwritten, accounts, .. } = self else { return Ok(()) };
        while let Some(record) = unwritten.first() {
            store.write(record)?;
            unwritten.remove(0);
        }
        for (source, account) in mesh.accounts().filter(|_| *accounts) {
            store.write(&Record::Account(AccountState { source, account: *account }))?;
        }
        *accounts = false;
        Ok(())
    }
}
