//! What must survive a restart, on disk: payments, the floor of time, and what
//! was earned.
//!
//! | table | key | value |
//! |---|---|---|
//! | `ledger` | accepted at, payment | record; kept for ever |
//! | `live` | expires at, payment | record; removed when the floor passes it |
//! | `totals` | role | payments, amounts, shares; sums over `ledger` |
//! | `meta` | name | version of this layout; the floor |

mod of_node;
mod query;

use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{Payment, RECORD_LEN, Record};
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};
use std::fs::OpenOptions;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the store's file in the data directory.
pub const STORE_FILE: &str = "mesh.redb";

type Key = (u64, [u8; 32]);
type Sum = (u64, u64, u64);

const LEDGER: TableDefinition<'_, Key, [u8; RECORD_LEN]> = TableDefinition::new("ledger");
const LIVE: TableDefinition<'_, Key, [u8; RECORD_LEN]> = TableDefinition::new("live");
const TOTALS: TableDefinition<'_, u8, Sum> = TableDefinition::new("totals");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FLOOR: &str = "floor";
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
         copy back, or move it away: then payments accepted before could be used once more \
         until they expire, and the ledger begins anew",
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
#[derive(Debug)]
pub struct Store {
    db: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the store, or makes an empty one where there is no file. Only one
    /// process can have it open. Every page is checked, which takes about a
    /// second per GiB.
    ///
    /// `cache_bytes` bounds the memory for pages.
    ///
    /// # Errors
    /// Any; a file that is no store is never overwritten.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match new {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Io { path: path.into(), reason: e.to_string() });
            }
            _ => {}
        }
        Self::build(path, |builder| builder.set_cache_size(cache_bytes).create(path))
    }

    /// A store on another kind of disk; `path` is for messages only.
    pub fn with_backend(path: &Path, disk: impl StorageBackend) -> Result<Self, StoreError> {
        Self::build(path, |builder| builder.create_with_backend(disk))
    }

    fn build(
        path: &Path,
        open: impl FnOnce(&mut Builder) -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, StoreError> {
        let mut builder = Builder::new();
        builder.set_check_integrity_on_open(true);
        let db = match open(&mut builder) {
            Ok(db) => db,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(StoreError::InUse(path.into()));
            }
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(e)))
                if e.kind() != io::ErrorKind::InvalidData
                    && e.kind() != io::ErrorKind::UnexpectedEof =>
            {
                return Err(StoreError::Io { path: path.into(), reason: e.to_string() });
            }
            Err(e) => {
                return Err(StoreError::Damaged { path: path.into(), reason: e.to_string() });
            }
        };
        let store = Self { db, path: path.into() };
        store.prepare()?;
        Ok(store)
    }

    /// Makes the tables where they are not there, and checks their layout.
    fn prepare(&self) -> Result<(), StoreError> {
        let found = self.write(|tx| {
            tx.open_table(LEDGER)?;
            tx.open_table(LIVE)?;
            tx.open_table(TOTALS)?;
            let mut meta = tx.open_table(META)?;
            let found = meta.get(LAYOUT)?.map(|v| v.value());
            if found.is_none() {
                meta.insert(LAYOUT, LAYOUT_VERSION)?;
            }
            Ok(found.unwrap_or(LAYOUT_VERSION))
        })?;
        match found {
            LAYOUT_VERSION => Ok(()),
            _ => Err(StoreError::Layout { path: self.path.clone(), found }),
        }
    }

    /// What the state machine must be told at its start: the floor, where there
    /// is one, then every payment that has not expired by it.
    pub fn restore(
        &self,
    ) -> Result<impl Iterator<Item = Result<Record, StoreError>> + use<'_>, StoreError> {
        let (floor, live) = self.read(|tx| {
            let floor = tx.open_table(META)?.get(FLOOR)?.map(|v| v.value());
            Ok((floor, tx.open_table(LIVE)?.range::<Key>(..)?))
        })?;
        let live = live.map(move |row| {
            let (_, bytes) = row.map_err(|e| self.fault(e.into()))?;
            self.decode(&bytes.value()).map(Record::Payment)
        });
        Ok(floor.map(|floor| Ok(Record::Floor(floor))).into_iter().chain(live))
    }

    /// Makes records durable, all or none: when this returns they are on disk.
    /// Give it all that wait (group commit): the cost is one flush of the disk,
    /// however many there are. It blocks for as long.
    ///
    /// # Errors
    /// Where it fails nothing more can be committed until the store is opened
    /// again.
    pub fn commit(&self, records: &[(u64, Record)]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            let mut ledger = tx.open_table(LEDGER)?;
            let mut live = tx.open_table(LIVE)?;
            let mut totals = tx.open_table(TOTALS)?;
            let mut meta = tx.open_table(META)?;
            let mut floor = meta.get(FLOOR)?.map(|v| v.value());
            for (_, record) in records {
                match record {
                    Record::Payment(payment) => {
                        let bytes = record.encode();
                        let row = (payment.accepted_at, payment.key);
                        if ledger.insert(row, bytes)?.is_some() {
                            continue; // Counted already.
                        }
                        if floor.is_none_or(|floor| payment.expires_at > floor) {
                            live.insert((payment.expires_at, payment.key), bytes)?;
                        }
                        let role = role_number(payment.role);
                        let sum = totals.get(role)?.map(|v| v.value()).unwrap_or_default();
                        totals.insert(role, add(sum, payment))?;
                    }
                    Record::Floor(unix) if floor.is_none_or(|floor| *unix > floor) => {
                        floor = Some(*unix);
                        meta.insert(FLOOR, unix)?;
                        let expired: RangeInclusive<Key> = (0, [0; 32])..=(*unix, [0xff; 32]);
                        for row in live.extract_from_if(expired, |_, _| true)? {
                            row?;
                        }
                    }
                    Record::Floor(_) => {}
                }
            }
            Ok(())
        })
    }

    fn write<T>(
        &self,
        job: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || {
            let tx = self.db.begin_write()?;
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
        let run = || job(&self.db.begin_read()?);
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
mod tests;
