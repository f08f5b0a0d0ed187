//! What a board keeps over a restart: the records of accepted payments, and of sources' accounts,
//! in flash.
//!
//! [`FlashStore`] keeps them in any NOR flash of the `embedded-storage` traits, one behind the
//! other, and bears a cut of the power anywhere. A payment is kept until a floor that is in flash
//! too forgets it, an account until a record says that it is empty, and a paid ticket until the
//! state machine would refuse it as expired.

mod newest;
mod ring;
#[cfg(test)]
mod tests;

use blvm_mesh_core::config::fixed::{ACCOUNTS, PAYMENTS, TICKETS};
use blvm_mesh_core::payment::ledger::Record;
use core::ops::Range;
use embedded_storage::nor_flash::NorFlash;
use newest::{Newest, Part};
use ring::Ring;

/// Most records that are wanted at a time: beside those the floor, the run, and when the store was
/// lost.
const RECORDS: usize = PAYMENTS + ACCOUNTS + TICKETS + 3;

/// Keeps records over a restart.
pub trait Storage {
    /// Gives the records that are kept, the floor first, and accounts behind tickets. Call it once,
    /// before the first [`write`](Self::write). Storage that is empty gives [`Record::StoreLost`]:
    /// it cannot be told from storage that was erased.
    ///
    /// # Errors
    /// [`StoreError`]; what was given until then is kept.
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError>;

    /// Writes a record; when it returns it is kept whatever happens.
    ///
    /// # Errors
    /// [`StoreError`]: it may be kept or not.
    fn write(&mut self, record: &Record) -> Result<(), StoreError>;
}

/// Why records cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum StoreError {
    /// The flash did not take or give bytes.
    #[error("the flash failed: check its range and its wear")]
    Flash,
    /// What is in the flash is no store of records.
    #[error(
        "the flash holds something else than payments; erase it, and accept new issuers only, as payments that were used would be accepted again"
    )]
    Corrupted,
    /// The flash has too few pages, or pages that are too small.
    #[error(
        "the flash range is too small for the payments that are remembered, or not of whole pages"
    )]
    TooSmall,
    /// There is no slot for another payment.
    #[error("the store has no room for another payment until some expire")]
    Full,
}

/// Records in a range of NOR flash.
pub struct FlashStore<F: NorFlash> {
    ring: Ring<F>,
    newest: Newest,
    /// Payments that are still to be kept, and perhaps more.
    live: usize,
}

impl<F: NorFlash> FlashStore<F> {
    /// A store in a range of whole pages, which is erased or holds a store. It must have
    /// room for all payments, tickets and accounts of the tables and two pages more.
    ///
    /// # Errors
    /// [`StoreError::TooSmall`].
    pub fn new(flash: F, range: Range<u32>) -> Result<Self, StoreError> {
        let ring = Ring::new(flash, range, RECORDS).ok_or(StoreError::TooSmall)?;
        Ok(Self { ring, newest: Newest::default(), live: usize::MAX })
    }

    /// Finds the end, and what decides which records are to be kept.
    fn open(&mut self) -> Result<(), StoreError> {
        self.ring.open()?;
        let Self { ring, newest, live } = self;
        (*newest, *live) = (Newest::default(), usize::MAX);
        ring.each(&mut |place, bytes| {
            let Some(record) = Record::decode(bytes) else { return Err(StoreError::Corrupted) };
            if !newest.has_room_for(&record) {
                return Err(StoreError::Corrupted);
            }
            newest.note(&record, place);
            Ok(())
        })
    }

    /// Gives a part of the records that are to be kept; how many.
    fn part(&mut self, part: Part, each: &mut dyn FnMut(Record)) -> Result<usize, StoreError> {
        let Self { ring, newest, .. } = self;
        let mut given = 0;
        ring.each(&mut |place, bytes| {
            let Some(mut record) = Record::decode(bytes) else { return Err(StoreError::Corrupted) };
            if newest.give(part, &mut record, place) {
                given += 1;
                each(record);
            }
            Ok(())
        })?;
        Ok(given)
    }
}

impl<F: NorFlash> Storage for FlashStore<F> {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        self.open()?;
        let Newest { floor, lost, run, .. } = self.newest;
        let one = [floor.map(Record::Floor), lost.map(Record::StoreLost), run.map(Record::Run)];
        one.into_iter().flatten().for_each(&mut *each);
        self.live = self.part(Part::Payments, each)?;
        if self.newest.is_empty() && self.live == 0 {
            each(Record::StoreLost(None));
        }
        for part in [Part::Tickets, Part::Accounts] {
            self.part(part, each)?;
        }
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), StoreError> {
        if !self.ring.is_open() {
            self.open()?;
        }
        if matches!(record, Record::Payment(_)) {
            if self.live >= PAYMENTS {
                self.live = self.part(Part::Payments, &mut |_| ())?;
            }
            if self.live >= PAYMENTS {
                return Err(StoreError::Full);
            }
            self.live += 1;
        }
        let Self { ring, newest, .. } = self;
        if !newest.has_room_for(record) {
            return Err(StoreError::Full);
        }
        let place = ring.add(&record.encode(), &mut |item, from, to| {
            let Some(mut record) = Record::decode(item) else { return true };
            let wanted = newest.keep(&mut record, from, to);
            *item = record.encode();
            wanted
        })?;
        newest.note(record, place);
        Ok(())
    }
}
