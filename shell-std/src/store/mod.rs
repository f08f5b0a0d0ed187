//! What must survive a restart, on disk: payments, the floor of time, and what
//! was earned.
//!
//! | table | key | value |
//! |---|---|---|
//! | `ledger` | accepted at, payment | record; kept for ever |
//! | `live` | expires at, payment | record; removed when the floor passes it |
//! | `totals` | role | payments, amounts, shares; sums over `ledger` |
//! | `meta` | name | version of this layout; the floor; when a store was lost |
//! | `owner` | `node` | identity of the node |
//!
//! and what `flows.rs`, `purchases.rs`, `asked.rs`, `operator.rs` and `export.rs` keep.

mod asked;
mod export;
mod flows;
mod make;
mod of_node;
mod operator;
mod purchases;
mod query;

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{Payment, RECORD_LEN, Record};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, WriteTransaction,
};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// Name of the store's file in the data directory.
pub const STORE_FILE: &str = "mesh.redb";

type Key = (u64, [u8; 32]);
type Sum = (u64, u64, u64);

const LEDGER: TableDefinition<'_, Key, [u8; RECORD_LEN]> = TableDefinition::new("ledger");
const LIVE: TableDefinition<'_, Key, [u8; RECORD_LEN]> = TableDefinition::new("live");
const TOTALS: TableDefinition<'_, u8, Sum> = TableDefinition::new("totals");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const OWNER: TableDefinition<'_, &str, [u8; 32]> = TableDefinition::new("owner");
const NODE: &str = "node";

const FLOOR: &str = "floor";
/// Payments dated up to then are not known, as a store was lost; [`UNDATED`]: when is not
/// known yet.
const LOST: &str = "lost";
const UNDATED: u64 = 0;
const LAYOUT: &str = "layout";
const LAYOUT_VERSION: u64 = 1;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "the store {} is in use: another node runs with this data directory; stop it, or give \
         --data-dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file is not a store, or is damaged. It was not changed.
    #[error(
        "the store {path} is damaged or not a store ({reason}); it was left as it is. Put a \
         copy back, or move it away: then payments dated before the next start are refused, and \
         the ledger begins anew",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "the store {path} has layout {found}, this version reads layout {LAYOUT_VERSION}: use \
         the version that wrote it",
        path = .path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// Reading or writing failed.
    #[error("the store {path}: {reason}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// The store of one node. It may be used from several threads; commits wait for
/// one another.
pub struct Store {
    /// None while it is opened again after a failure.
    db: RwLock<Option<Database>>,
    /// The last commit failed: the next one opens the store anew.
    failed: AtomicBool,
    disk: Disk,
    path: PathBuf,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens what holds the store, which is there and is never made by this.
type Disk = Box<dyn Fn(&mut Builder) -> Result<Database, DatabaseError> + Send + Sync>;

impl Store {
    /// Opens the store, or makes an empty one where there is no file. Only one
    /// process can have it open. Every page is checked, which takes about a
    /// second per GiB.
    ///
    /// `cache_bytes` bounds the memory for pages. An empty file is a store that was lost; where
    /// there is no file the caller knows that there never was one. A node with payments
    /// should use [`Self::open_of`], which finds out.
    ///
    /// # Errors
    /// Any; a file that is no store is never overwritten.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        Self::open_or_make(path, cache_bytes, None)
    }

    /// The same for the node with this identity. If its store is gone, empty, or another
    /// node's, this says so in the log, and no payment dated before now is accepted: what was
    /// spent is not known. That is kept in the new store. `is_new` says that the identity had
    /// no store so far, and so could lose none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_of(
        path: &Path,
        cache_bytes: usize,
        id: &NodeId,
        is_new: bool,
    ) -> Result<Self, StoreError> {
        let store = Self::open_or_make(path, cache_bytes, Some((id, is_new)))?;
        store.tell_loss()?;
        Ok(store)
    }

    fn open_or_make(
        path: &Path,
        cache_bytes: usize,
        of: Option<(&NodeId, bool)>,
    ) -> Result<Self, StoreError> {
        // Held until the store is open: nobody else makes it at the same time.
        let _lock = make::make(path, cache_bytes, of)?;
        let file = path.to_owned();
        let disk = move |builder: &mut Builder| builder.set_cache_size(cache_bytes).open(&file);
        let store = Self::build(path, Box::new(disk))?;
        store.claim(of)?;
        Ok(store)
    }

    /// A store on other disks; `path` is for messages only. `disk` is called at once, and
    /// whenever a commit has failed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_backend<B: StorageBackend>(
        path: &Path,
        disk: impl Fn() -> B + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let disk = move |builder: &mut Builder| builder.create_with_backend(disk());
        let store = Self::build(path, Box::new(disk))?;
        store.prepare(None, false)?;
        Ok(store)
    }

    fn build(path: &Path, disk: Disk) -> Result<Self, StoreError> {
        let db = RwLock::new(Some(opened(path, &disk)?));
        Ok(Self { db, failed: AtomicBool::new(false), disk, path: path.into() })
    }

    /// Makes the tables where they are not there, and checks their layout.
    fn prepare(&self, of: Option<&NodeId>, lost: bool) -> Result<(), StoreError> {
        let found = self.write(Durability::Immediate, |tx| {
            tx.open_table(LEDGER)?;
            tx.open_table(LIVE)?;
            tx.open_table(TOTALS)?;
            flows::prepare(tx)?;
            purchases::prepare(tx)?;
            asked::prepare(tx)?;
            operator::prepare(tx)?;
            export::prepare(tx)?;
            let mut meta = tx.open_table(META)?;
            let found = meta.get(LAYOUT)?.map(|v| v.value());
            if found.is_none() {
                meta.insert(LAYOUT, LAYOUT_VERSION)?;
            }
            if lost {
                meta.insert(LOST, UNDATED)?;
            }
            if let Some(id) = of {
                tx.open_table(OWNER)?.insert(NODE, id.0)?;
            }
            Ok(found.unwrap_or(LAYOUT_VERSION))
        })?;
        match found {
            LAYOUT_VERSION => Ok(()),
            _ => Err(StoreError::Layout { path: self.path.clone(), found }),
        }
    }

    /// Checks the layout and whose store it is, and takes it over.
    fn claim(&self, of: Option<(&NodeId, bool)>) -> Result<(), StoreError> {
        let Some((id, is_new)) = of else { return self.prepare(None, false) };
        let owner = self.read(|tx| match tx.open_table(OWNER) {
            Ok(table) => Ok(table.get(NODE)?.map(|v| NodeId(v.value()))),
            // Before there was a name in it.
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        let other = owner.filter(|owner| owner != id);
        if let Some(other) = other {
            let path = self.path.display();
            tracing::error!("the store {path} was that of node {other}, this node is {id}");
        }
        match owner == Some(*id) {
            true => self.prepare(None, false),
            false => self.prepare(Some(id), other.is_some() && !is_new),
        }
    }

    /// Says that payments are refused because the store was lost, if it was.
    fn tell_loss(&self) -> Result<(), StoreError> {
        let path = self.path.display();
        match self.lost()? {
            Some(UNDATED) => tracing::error!(
                "the store {path} of this node was LOST: which payments were used is not known. \
                 Payments dated before this start are refused, and the ledger begins anew; if \
                 you have a newer copy of the store, stop the node and put it back"
            ),
            Some(unix) => tracing::info!(
                "the store {path} was lost once: payments dated up to {unix} (seconds since \
                 1970) are refused"
            ),
            None => {}
        }
        Ok(())
    }

    fn lost(&self) -> Result<Option<u64>, StoreError> {
        self.read(|tx| Ok(tx.open_table(META)?.get(LOST)?.map(|v| v.value())))
    }

    /// What the state machine must be told at its start: the floor and that a store was
    /// lost, where it is so, then every payment that has not expired by the floor, then what
    /// flows need.
    ///
    /// # Errors
    /// [`StoreError`]: the store cannot be read, now or at an item.
    pub fn restore(
        &self,
    ) -> Result<impl Iterator<Item = Result<Record, StoreError>> + use<'_>, StoreError> {
        let (floor, lost, live, flows) = self.read(|tx| {
            let meta = tx.open_table(META)?;
            let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|v| v.value()));
            let live = tx.open_table(LIVE)?.range::<Key>(..)?;
            Ok((number(FLOOR)?, number(LOST)?, live, flows::restore(self, tx)?))
        })?;
        let live = live.map(move |row| {
            let (_, bytes) = row.map_err(|e| self.fault(e.into()))?;
            self.decode(&bytes.value()).map(Record::Payment)
        });
        let lost = lost.map(|unix| Record::StoreLost(Some(unix).filter(|unix| *unix != UNDATED)));
        let first = floor.map(Record::Floor).into_iter().chain(lost);
        Ok(first.map(Ok).chain(live).chain(flows))
    }

    /// Makes records durable, all or none: when this returns they are on disk.
    /// Give it all that wait (group commit): the cost is one flush of the disk,
    /// however many there are. It blocks for as long.
    ///
    /// # Errors
    /// Whether the records are on disk is not known then. The next call opens the store
    /// anew, and records that are there are not counted again: call it with the same ones.
    pub fn commit(&self, records: &[(u64, Record)]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.commit_all(records)
    }

    /// Writes, and opens the store anew before that if the last time failed.
    fn write_again<T>(
        &self,
        job: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.write_with(Durability::Immediate, job)
    }

    /// The same; without durability it may be undone by a crash until something is written with it.
    fn write_with<T>(
        &self,
        durability: Durability,
        job: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        if self.failed.load(Ordering::Acquire) {
            self.reopen()?;
        }
        let done = self.write(durability, job);
        if done.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    /// Opens the store once more: after an error of the disk it takes nothing.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        *db = None;
        *db = Some(opened(&self.path, &self.disk)?);
        self.failed.store(false, Ordering::Release);
        Ok(())
    }

    fn commit_all(&self, records: &[(u64, Record)]) -> Result<(), StoreError> {
        self.write_again(|tx| {
            let mut ledger = tx.open_table(LEDGER)?;
            let mut live = tx.open_table(LIVE)?;
            let mut totals = tx.open_table(TOTALS)?;
            let mut meta = tx.open_table(META)?;
            let mut floor = meta.get(FLOOR)?.map(|v| v.value());
            let mut marks = export::Marks::open(tx)?;
            for (_, record) in records {
                let paid = match record {
                    Record::Payment(payment) => Some(*payment),
                    Record::Deposit(deposit) => Some(deposit.payment),
                    _ => None,
                };
                if let Some(payment) = paid {
                    let bytes = Record::Payment(payment).encode();
                    let row = (payment.accepted_at, payment.key);
                    if ledger.insert(row, bytes)?.is_some() {
                        continue; // Counted already, in the same transaction as its account.
                    }
                    if floor.is_none_or(|floor| payment.expires_at > floor) {
                        live.insert((payment.expires_at, payment.key), bytes)?;
                    }
                    if let Some(marks) = &mut marks {
                        marks.note(export::PAYMENT, row)?;
                    }
                    let role = role_number(payment.role);
                    let sum = totals.get(role)?.map(|v| v.value()).unwrap_or_default();
                    totals.insert(role, add(sum, &payment))?;
                }
                match record {
                    Record::Payment(_) => {}
                    Record::Floor(unix) if floor.is_none_or(|floor| *unix > floor) => {
                        floor = Some(*unix);
                        meta.insert(FLOOR, unix)?;
                        let expired: RangeInclusive<Key> = (0, [0; 32])..=(*unix, [0xff; 32]);
                        for row in live.extract_from_if(expired, |_, _| true)? {
                            row?;
                        }
                    }
                    Record::Floor(_) => {}
                    Record::StoreLost(before) => {
                        let before = before.unwrap_or(UNDATED);
                        if meta.get(LOST)?.is_none_or(|v| v.value() < before) {
                            meta.insert(LOST, before)?;
                        }
                    }
                    Record::Account(_)
                    | Record::Credit(_)
                    | Record::Run(_)
                    | Record::Deposit(_) => {
                        flows::write(tx, &mut meta, record)?;
                        if let (Record::Credit(credit), Some(marks)) = (record, &mut marks) {
                            marks.note(export::SALE, (credit.accepted_at, credit.payment_hash))?;
                        }
                    }
                }
            }
            Ok(())
        })
    }

    fn write<T>(
        &self,
        durability: Durability,
        job: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            let Some(db) = &*db else { return Err(closed()) };
            let mut tx = db.begin_write()?;
            tx.set_durability(durability)?;
            let value = job(&tx)?;
            tx.commit()?;
            Ok(value)
        };
        run().map_err(|e| self.fault(e))
    }

    fn read<T>(
        &self,
        job: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            let Some(db) = &*db else { return Err(closed()) };
            job(&db.begin_read()?)
        };
        run().map_err(|e| self.fault(e))
    }

    fn decode(&self, bytes: &[u8; RECORD_LEN]) -> Result<Payment, StoreError> {
        match Record::decode(bytes) {
            Some(Record::Payment(payment)) => Ok(payment),
            _ => Err(self.damaged("a record cannot be read")),
        }
    }

    fn damaged(&self, reason: impl ToString) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason: reason.to_string() }
    }

    fn fault(&self, error: redb::Error) -> StoreError {
        let path = self.path.clone();
        match error {
            redb::Error::Corrupted(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_) => self.damaged(error),
            other => StoreError::Io { path, reason: other.to_string() },
        }
    }
}

fn opened(path: &Path, disk: &Disk) -> Result<Database, StoreError> {
    let mut builder = Builder::new();
    builder.set_check_integrity_on_open(true);
    disk(&mut builder).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.into()),
        DatabaseError::Storage(redb::StorageError::Io(e))
            if e.kind() != io::ErrorKind::InvalidData
                && e.kind() != io::ErrorKind::UnexpectedEof =>
        {
            StoreError::Io { path: path.into(), reason: e.to_string() }
        }
        e => StoreError::Damaged { path: path.into(), reason: e.to_string() },
    })
}

fn closed() -> redb::Error {
    redb::Error::Io(io::Error::other("a write failed, and it cannot be opened again yet"))
}

fn role_number(role: Party) -> u8 {
    match role {
        Party::Source => 0,
        Party::Intermediate(_) => 1,
        Party::Destination => 2,
    }
}

fn add(sum: Sum, payment: &Payment) -> Sum {
    let (count, amount, share) = sum;
    (
        count.saturating_add(1),
        amount.saturating_add(payment.amount_msat),
        share.saturating_add(payment.share_msat),
    )
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod export_tests;
#[cfg(test)]
mod loss_tests;
#[cfg(test)]
mod tests;
