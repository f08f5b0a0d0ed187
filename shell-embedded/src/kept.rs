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
    /// What is to be written once it can: at most a payment, a credit or the number of the run,
    /// the account that was forgotten for it, and when the store was lost.
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

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::config::Config;
    use blvm_mesh_core::id::{HopId, Network, NodeId};
    use blvm_mesh_core::mesh::{Action, Input, Tables};
    use secp256k1::SecretKey;
    use std::boxed::Box;
    use std::vec::Vec;

    #[derive(Default)]
    struct Disk {
        records: Vec<Record>,
        broken: bool,
    }

    impl Storage for Disk {
        fn load(&mut self, _: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
            Ok(())
        }

        fn write(&mut self, record: &Record) -> Result<(), StoreError> {
            if self.broken {
                return Err(StoreError::Flash);
            }
            self.records.push(*record);
            Ok(())
        }
    }

    /// One disk, which the test looks at while it is lent.
    struct Shared(std::rc::Rc<core::cell::RefCell<Disk>>);

    impl Storage for Shared {
        fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
            self.0.borrow_mut().load(each)
        }

        fn write(&mut self, record: &Record) -> Result<(), StoreError> {
            self.0.borrow_mut().write(record)
        }
    }

    fn account(source: u8, drawn: u64) -> Record {
        let account = Account::restored(1_000, drawn, 1, HopId([1; 8]), 0);
        Record::Account(AccountState { source: NodeId([source; 32]), account })
    }

    fn forgotten(source: u8) -> Record {
        let source = NodeId([source; 32]);
        Record::Account(AccountState { source, account: Account::default() })
    }

    /// A state machine with these accounts.
    fn mesh(accounts: &[Record]) -> BoardMesh {
        let tables = Box::leak(Box::new(Tables::EMPTY));
        let key = SecretKey::from_byte_array([1; 32]).unwrap();
        let config = Config::board(Network::Regtest, 1024);
        let mut mesh = BoardMesh::with_tables(tables, config, key, [2; 32]);
        for record in accounts {
            mesh.handle(0, Input::Persisted { record: *record }).unwrap();
            while !matches!(mesh.poll(), Action::Wait { .. }) {}
        }
        mesh
    }

    #[test]
    fn what_changes_while_the_store_is_broken_is_written_as_it_is_afterwards() {
        let disk = std::rc::Rc::new(core::cell::RefCell::new(Disk::default()));
        let mut kept =
            Kept { store: Some(Box::leak(Box::new(Shared(disk.clone())))), ..Kept::EMPTY };
        kept.write(1, account(1, 10));
        assert!(!kept.lacks(Some(1)) && !kept.lacks(None) && kept.lacks(Some(2)));
        disk.borrow_mut().broken = true;
        // A floor may be missing.
        kept.write(2, Record::Floor(5));
        assert!(!kept.lacks(Some(2)) && kept.take_failure(0).is_none());
        kept.write(3, forgotten(9));
        kept.write(4, account(2, 7));
        assert!(kept.lacks(Some(3)) && kept.lacks(Some(4)) && !kept.lacks(Some(2)));
        assert_eq!(kept.take_failure(100), Some((None, StoreError::Flash)));
        assert_eq!(kept.take_failure(100), None);
        assert_eq!(kept.retry_at(), Some(100 + RETRY));
        let now = [account(1, 30), account(2, 50)];
        let mesh = mesh(&now);
        assert!(!kept.retry(&mesh, 200), "it is still broken");
        assert!(kept.lacks(Some(3)) && kept.retry_at() == Some(200 + RETRY));
        disk.borrow_mut().broken = false;
        kept.write(5, account(1, 30));
        assert!(kept.lacks(Some(5)), "not before the others");
        assert!(kept.retry(&mesh, 300));
        assert!(!kept.lacks(Some(5)) && kept.retry_at().is_none() && kept.error.is_none());
        assert_eq!(disk.borrow().records, [account(1, 10), forgotten(9), now[0], now[1]]);
    }

    #[test]
    fn without_a_store_nothing_recovers() {
        let mut kept = Kept::EMPTY;
        kept.unreadable(StoreError::Corrupted);
        kept.write(1, Record::StoreLost(Some(9)));
        assert!(kept.take_failure(0).is_none() && kept.lacks(Some(1)));
        assert!(!kept.retry(&mesh(&[]), 0) && kept.retry_at().is_none());
        assert_eq!(kept.error, Some(StoreError::Corrupted));
    }
}
