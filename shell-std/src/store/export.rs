//! What of the ledger is not booked elsewhere yet.
//!
//! | table | key | value |
//! |---|---|---|
//! | `export` | nothing | [`State`]; there while the ledger is exported |
//! | `unbooked` | which table, when, payment | how often the line has changed since it was marked first |
//!
//! Lines are not a sequence: two of one second stand by their hashes, a clock goes back, and a
//! purchase changes when it is credited. So a cursor alone would miss some, and each line that is
//! written is marked, in the same transaction. The cursor is for what was there before: the
//! walk passes over the whole ledger once. Marks are bounded: where the other side is away for so
//! long that there are too many, all of them go and the walk begins anew, as nothing leaves the ledger.
//! A line that is met twice is booked once.

use super::purchases::{BEGUN, PURCHASES};
use super::query::{entry, purchase, sale};
use super::{Key, LEDGER, Store, StoreError, flows};
use crate::export::{Batch, Booked, Line, LineKey, Outbox};
use blvm_mesh_core::payment::ledger::{RECORD_LEN, Record};
use redb::{
    Durability, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

/// Which table a line is in, as it is written in `unbooked` and walked in this order.
pub(super) const PAYMENT: u8 = 0;
pub(super) const SALE: u8 = 1;
pub(super) const PURCHASE: u8 = 2;
/// The walk has come to its end.
const END: u8 = 3;

/// Most marks: 5 MiB.
pub(super) const MOST_MARKS: u64 = 65_536;

/// Number of the walk; where it goes on: table, time and payment; how many lines it has met;
/// the database that was booked into, and how many transactions it has taken.
type State = (u64, u8, u64, [u8; 32], u64, [u8; 16], u64);

const STATE: TableDefinition<'_, (), State> = TableDefinition::new("export");
pub(super) const MARKS: TableDefinition<'_, LineKey, u64> = TableDefinition::new("unbooked");

/// A line as it is kept.
enum Kept {
    Record([u8; RECORD_LEN]),
    Purchase(Key, super::purchases::Row),
}

/// Where lines are marked while one transaction writes them.
pub(super) struct Marks<'a> {
    marks: Table<'a, LineKey, u64>,
    state: Table<'a, (), State>,
}

impl<'a> Marks<'a> {
    /// None where the ledger is not exported.
    pub(super) fn open(tx: &'a WriteTransaction) -> Result<Option<Self>, redb::Error> {
        let state = tx.open_table(STATE)?;
        let is_on = state.get(())?.is_some();
        Ok(if is_on { Some(Self { marks: tx.open_table(MARKS)?, state }) } else { None })
    }

    /// A line was written.
    pub(super) fn note(&mut self, kind: u8, (at, payment): Key) -> Result<(), redb::Error> {
        let key = (kind, at, payment);
        let changes = self.marks.get(key)?.map_or(0, |v| v.value());
        if changes == 0 && self.marks.len()? >= MOST_MARKS {
            self.marks.retain(|_, _| false)?;
            let state = self.state.get(())?.map(|v| v.value());
            if let Some(state) = state {
                self.state.insert((), begun_anew(state))?;
            }
        }
        self.marks.insert(key, changes.saturating_add(1))?;
        Ok(())
    }
}

/// The same with the walk at its beginning.
fn begun_anew((walk, _, _, _, _, database, batch): State) -> State {
    (walk.wrapping_add(1), PAYMENT, 0, [0; 32], 0, database, batch)
}

/// Makes the tables where they are not there.
pub(super) fn prepare(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(STATE)?;
    tx.open_table(MARKS)?;
    Ok(())
}

/// The first key behind this one.
pub(super) fn behind((at, mut payment): Key) -> Key {
    for byte in payment.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return (at, payment);
        }
    }
    (at.saturating_add(1), payment)
}

fn kept(tx: &ReadTransaction, (kind, at, payment): LineKey) -> Result<Option<Kept>, redb::Error> {
    let key = (at, payment);
    Ok(match kind {
        PAYMENT => tx.open_table(LEDGER)?.get(key)?.map(|v| Kept::Record(v.value())),
        SALE => tx.open_table(flows::SALES)?.get(key)?.map(|v| Kept::Record(v.value())),
        _ => {
            let row = tx.open_table(PURCHASES)?.get(key)?.map(|v| v.value());
            row.filter(|row| row.4 != BEGUN).map(|row| Kept::Purchase(key, row))
        }
    })
}

/// The next lines of the walk, at most so many, and where it goes on.
fn walked(
    tx: &ReadTransaction,
    (mut kind, mut from): (u8, Key),
    most: usize,
) -> Result<(Vec<Kept>, (u8, Key)), redb::Error> {
    let mut lines = Vec::new();
    while kind != END && lines.len() < most {
        // What is begun and not paid is passed over too; there may be much of it.
        let room = most - lines.len();
        let (mut met, start) = (0, from);
        let mut meet = |key: Key, line: Option<Kept>| {
            (met, from) = (met + 1, behind(key));
            lines.extend(line);
        };
        match kind {
            PAYMENT => {
                for row in tx.open_table(LEDGER)?.range(start..)?.take(room) {
                    let (key, bytes) = row?;
                    meet(key.value(), Some(Kept::Record(bytes.value())));
                }
            }
            SALE => {
                for row in tx.open_table(flows::SALES)?.range(start..)?.take(room) {
                    let (key, bytes) = row?;
                    meet(key.value(), Some(Kept::Record(bytes.value())));
                }
            }
            _ => {
                for row in tx.open_table(PURCHASES)?.range(start..)?.take(room) {
                    let (key, row) = row?;
                    let (key, row) = (key.value(), row.value());
                    meet(key, (row.4 != BEGUN).then_some(Kept::Purchase(key, row)));
                }
            }
        }
        if met < room {
            (kind, from) = (kind + 1, (0, [0; 32]));
        }
    }
    Ok((lines, (kind, from)))
}

impl Store {
    /// From now on lines are marked, and those that are there are walked over.
    ///
    /// # Errors
    /// [`StoreError`]: the store cannot be written.
    pub fn export_on(&self) -> Result<(), StoreError> {
        self.write_again(|tx| {
            let mut state = tx.open_table(STATE)?;
            if state.get(())?.is_none() {
                state.insert((), (0, PAYMENT, 0, [0; 32], 0, [0; 16], 0))?;
            }
            Ok(())
        })
    }

    /// Lines are marked no longer, and what is marked is forgotten: the next time all are walked over.
    ///
    /// # Errors
    /// [`StoreError`]: the store cannot be written.
    pub fn export_off(&self) -> Result<(), StoreError> {
        let is_on = self.read(|tx| Ok(tx.open_table(STATE)?.get(())?.is_some()))?;
        if !is_on {
            return Ok(());
        }
        self.write_again(|tx| {
            tx.open_table(STATE)?.retain(|(), _| false)?;
            tx.open_table(MARKS)?.retain(|_, _| false)?;
            Ok(())
        })
    }

    fn line(&self, kept: Kept) -> Result<Line, StoreError> {
        Ok(match kept {
            Kept::Purchase(key, row) => Line::Purchase(purchase(key, row)),
            Kept::Record(bytes) => match Record::decode(&bytes) {
                Some(Record::Payment(payment)) => Line::Payment(entry(&payment)),
                Some(Record::Credit(credit)) => Line::Sale(sale(&credit)),
                _ => return Err(self.damaged("a record cannot be read")),
            },
        })
    }

    fn next_unbooked(&self, most: usize) -> Result<Batch, StoreError> {
        let (lines, booked, is_empty) = self.read(|tx| {
            let mut booked = Booked::default();
            let mut lines = Vec::new();
            let state = tx.open_table(STATE)?.get(())?.map(|v| v.value());
            let Some((walk, kind, at, payment, ..)) = state else {
                return Ok((lines, booked, true));
            };
            for row in tx.open_table(MARKS)?.iter()?.take(most) {
                let (key, changes) = row?;
                booked.marks.push((key.value(), changes.value()));
                lines.extend(kept(tx, key.value())?);
            }
            let is_empty = booked.marks.is_empty() && kind == END;
            let room = most.saturating_sub(booked.marks.len());
            let (more, (kind, from)) = walked(tx, (kind, (at, payment)), room)?;
            (booked.walk, booked.passed) = (walk, more.len() as u64);
            lines.extend(more);
            booked.walked_to = (kind, from.0, from.1);
            Ok((lines, booked, is_empty))
        })?;
        let lines = lines.into_iter().map(|kept| self.line(kept)).collect::<Result<_, _>>()?;
        Ok(Batch { lines, booked, is_empty })
    }
}

impl Outbox for Store {
    fn next(&self, most: usize) -> Result<Batch, String> {
        self.next_unbooked(most).map_err(|e| e.to_string())
    }

    fn booked(&self, booked: &Booked, batch: u64) -> Result<(), String> {
        // Not flushed, as this may come each second: what of it a crash undoes is booked again, which
        // changes nothing there. Each payment flushes it too.
        let written = self.write_with(Durability::None, |tx| {
            let mut table = tx.open_table(STATE)?;
            let Some((walk, .., passed, database, _)) = table.get(())?.map(|v| v.value()) else {
                return Ok(());
            };
            // Marks were given up meanwhile, and what has changed is found by the new walk only.
            if walk != booked.walk {
                return Ok(());
            }
            let (kind, at, payment) = booked.walked_to;
            let passed = passed.saturating_add(booked.passed);
            table.insert((), (walk, kind, at, payment, passed, database, batch))?;
            let mut marks = tx.open_table(MARKS)?;
            for (key, changes) in &booked.marks {
                let now = marks.get(key)?.map(|v| v.value());
                if now == Some(*changes) {
                    marks.remove(key)?;
                }
            }
            Ok(())
        });
        written.map_err(|e| e.to_string())
    }

    fn settle(&self) -> Result<(), String> {
        self.write_again(|_| Ok(())).map_err(|e| e.to_string())
    }

    fn joined(&self, database: [u8; 16], batch: u64) -> Result<bool, String> {
        let written = self.write_again(|tx| {
            let mut table = tx.open_table(STATE)?;
            let Some(state) = table.get(())?.map(|v| v.value()) else { return Ok(false) };
            let (known, taken) = (state.5, state.6);
            let is_another = known != database;
            if !is_another && batch >= taken {
                return Ok(false);
            }
            let (walk, kind, at, payment, passed, ..) = begun_anew(state);
            table.insert((), (walk, kind, at, payment, passed, database, batch))?;
            Ok(taken > 0)
        });
        written.map_err(|e| e.to_string())
    }

    fn pending(&self) -> Result<u64, String> {
        let counted = self.read(|tx| {
            let Some((_, kind, _, _, passed, ..)) =
                tx.open_table(STATE)?.get(())?.map(|v| v.value())
            else {
                return Ok(0);
            };
            let marks = tx.open_table(MARKS)?.len()?;
            if kind == END {
                return Ok(marks);
            }
            let all = tx.open_table(LEDGER)?.len()?
                + tx.open_table(flows::SALES)?.len()?
                + tx.open_table(PURCHASES)?.len()?;
            // What was marked meanwhile is among them, but for purchases that have changed since.
            Ok(all.saturating_sub(passed).max(marks))
        });
        counted.map_err(|e| e.to_string())
    }
}
