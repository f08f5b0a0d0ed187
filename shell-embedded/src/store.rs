//! What a board keeps over a restart: the records of accepted payments, in flash.
//!
//! [`FlashStore`] keeps them in any NOR flash of the `embedded-storage` traits, one behind the
//! other, and bears a cut of the power anywhere. A payment is kept until a floor that is in flash
//! too forgets it.

mod ring;

use blvm_mesh_core::config::fixed::PAYMENTS;
use blvm_mesh_core::payment::ledger::Record;
use core::ops::Range;
use embedded_storage::nor_flash::NorFlash;
use ring::Ring;

/// Keeps records over a restart.
pub trait Storage {
    /// Gives the records that are kept, the floor first. Call it once, before the first
    /// [`write`](Self::write). Storage that is empty gives [`Record::StoreLost`]: it cannot be
    /// told from storage that was erased.
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
    /// room for all payments of the replay table and two pages more.
    ///
    /// # Errors
    /// [`StoreError::TooSmall`].
    pub fn new(flash: F, range: Range<u32>) -> Result<Self, StoreError> {
        // The floor and what was lost are records too.
        let ring = Ring::new(flash, range, PAYMENTS + 2).ok_or(StoreError::TooSmall)?;
        Ok(Self { ring, newest: Newest::default(), live: usize::MAX })
    }

    /// Finds the end, and what decides which payments are to be kept.
    fn open(&mut self) -> Result<(), StoreError> {
        self.ring.open()?;
        let Self { ring, newest, live } = self;
        (*newest, *live) = (Newest::default(), usize::MAX);
        ring.each(&mut |bytes| {
            newest.note(&Record::decode(bytes).ok_or(StoreError::Corrupted)?);
            Ok(())
        })
    }

    /// Gives the payments that are to be kept.
    fn payments(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        let Self { ring, newest, live } = self;
        *live = 0;
        ring.each(&mut |bytes| {
            let record = Record::decode(bytes).ok_or(StoreError::Corrupted)?;
            if matches!(record, Record::Payment(_)) && newest.wants(&record) {
                *live += 1;
                each(record);
            }
            Ok(())
        })
    }
}

/// The newest records of those kinds of which only the newest counts.
#[derive(Clone, Copy, Default)]
struct Newest {
    floor: Option<u64>,
    lost: Option<Option<u64>>,
}

impl Newest {
    fn note(&mut self, record: &Record) {
        match record {
            Record::Floor(unix) => self.floor = Some(*unix),
            Record::StoreLost(before) => self.lost = Some(*before),
            Record::Payment(_) => {}
            // This board's image has no flows.
            Record::Account(_) | Record::Credit(_) | Record::Run(_) => {}
        }
    }

    /// Whether a record is still to be kept.
    fn wants(&self, record: &Record) -> bool {
        match record {
            Record::Floor(unix) => self.floor == Some(*unix),
            Record::StoreLost(before) => self.lost == Some(*before),
            Record::Payment(payment) => payment.expires_at > self.floor.unwrap_or(0),
            Record::Account(_) | Record::Credit(_) | Record::Run(_) => true,
        }
    }
}

impl<F: NorFlash> Storage for FlashStore<F> {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        self.open()?;
        let Newest { floor, lost } = self.newest;
        let (floor, lost) = (floor.map(Record::Floor), lost.map(Record::StoreLost));
        floor.into_iter().chain(lost).for_each(&mut *each);
        self.payments(each)?;
        if floor.is_none() && lost.is_none() && self.live == 0 {
            each(Record::StoreLost(None));
        }
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), StoreError> {
        if !self.ring.is_open() {
            self.open()?;
        }
        if matches!(record, Record::Payment(_)) {
            if self.live >= PAYMENTS {
                self.payments(&mut |_| ())?;
            }
            if self.live >= PAYMENTS {
                return Err(StoreError::Full);
            }
            self.live += 1;
        }
        let Self { ring, newest, .. } = self;
        ring.add(&record.encode(), &|bytes| {
            Record::decode(bytes).is_none_or(|record| newest.wants(&record))
        })?;
        newest.note(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;
    use blvm_mesh_core::payment::fee::Party;
    use blvm_mesh_core::payment::ledger::{Method, Payment, RECORD_LEN};
    use blvm_mesh_core::payment::replay::PaidPacket;
    use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};
    use std::collections::BTreeSet;
    use std::vec::Vec;

    const PAGE: usize = 4096;
    const PAGES: usize = 7;

    /// A flash whose power is cut in front of a word, or with half of its bits written.
    #[derive(Clone)]
    struct Flash {
        bytes: Vec<u8>,
        /// Words and pages that are still written.
        left: u64,
    }

    impl Flash {
        fn erased() -> Self {
            Self { bytes: std::vec![0xff; PAGE * PAGES], left: u64::MAX }
        }
    }

    impl ErrorType for Flash {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Flash {
        const READ_SIZE: usize = 1;
        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
            Ok(())
        }
        fn capacity(&self) -> usize {
            self.bytes.len()
        }
    }

    impl NorFlash for Flash {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = PAGE;
        fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
            for page in self.bytes[from as usize..to as usize].chunks_mut(PAGE) {
                if self.left == 0 {
                    // What a page holds whose erasure was cut short is anything.
                    page[..PAGE / 2].fill(0xff);
                    return Err(NorFlashErrorKind::Other);
                }
                self.left -= 1;
                page.fill(0xff);
            }
            Ok(())
        }
        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
            assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4));
            for (n, word) in bytes.chunks(4).enumerate() {
                let place = &mut self.bytes[offset as usize + 4 * n..][..4];
                if self.left == 0 {
                    place.iter_mut().zip(word).for_each(|(to, from)| *to &= from | 0x55);
                }
                self.left = self.left.checked_sub(1).ok_or(NorFlashErrorKind::Other)?;
                // Bits only fall, as in flash.
                place.iter_mut().zip(word).for_each(|(to, from)| *to &= from);
            }
            Ok(())
        }
    }

    fn store(flash: &mut Flash) -> FlashStore<&mut Flash> {
        FlashStore::new(flash, 0..(PAGE * PAGES) as u32).expect("it is large enough")
    }

    fn payment(n: u64, expires_at: u64) -> Record {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        Record::Payment(Payment {
            key,
            method: Method::Lightning,
            role: Party::Intermediate(1),
            source: NodeId([1; 32]),
            destination: NodeId([2; 32]),
            amount_msat: 1000 + n,
            share_msat: 100,
            accepted_at: n,
            expires_at,
            packet: PaidPacket::NONE,
        })
    }

    /// Payments that come and expire until every page was used more than once.
    fn life() -> Vec<Record> {
        let mut records = std::vec![Record::StoreLost(Some(7))];
        for n in 0..220 {
            // At most 100 are live; one of them stays throughout.
            records.push(payment(n, if n == 5 { 10_000 } else { n + 100 }));
            if n % 20 == 19 {
                records.push(Record::Floor(n));
            }
        }
        records
    }

    /// What must be known after these were written, as a set of encoded records.
    fn live<'a>(written: impl Iterator<Item = &'a Record>) -> BTreeSet<[u8; RECORD_LEN]> {
        let (mut payments, mut floor, mut lost) = (Vec::new(), None, None);
        for record in written {
            match record {
                Record::Floor(unix) => floor = Some(*unix),
                Record::StoreLost(_) => lost = Some(*record),
                Record::Payment(p) => payments.push(*p),
                other => panic!("{other:?}"),
            }
        }
        let payments_are_none = payments.is_empty() && floor.is_none();
        let kept = payments.into_iter().filter(|p| p.expires_at > floor.unwrap_or(0));
        let floor = floor.map(|unix| Record::Floor(unix).encode());
        // What is empty may have been erased.
        let empty = payments_are_none.then_some(Record::StoreLost(None));
        let lost = lost.or(empty).map(|record| record.encode());
        kept.map(|p| Record::Payment(p).encode()).chain(floor).chain(lost).collect()
    }

    fn loaded(flash: &mut Flash) -> BTreeSet<[u8; RECORD_LEN]> {
        let mut all = BTreeSet::new();
        let mut first = true;
        store(flash)
            .load(&mut |record| {
                assert!(first || !matches!(record, Record::Floor(_)), "the floor comes first");
                first = false;
                assert!(all.insert(record.encode()), "a record came twice");
            })
            .expect("it loads");
        all
    }

    /// Cuts the power at each word and each page that one record writes; how many there
    /// are. `done` are the records before it, which are in the flash.
    fn cut_everywhere(before: &Flash, done: &[Record], record: &Record, next: &Record) -> u64 {
        let (least, most) = (live(done.iter()), live(done.iter().chain([record])));
        let mut points = 0;
        loop {
            let mut flash = Flash { left: points, ..before.clone() };
            let mut s = store(&mut flash);
            if s.write(record).is_ok() {
                return points;
            }
            // A second cut, while the first is mended.
            flash.left = points % 2;
            let _ = store(&mut flash).load(&mut |_| ());
            flash.left = u64::MAX;
            let (mut s, mut after) = (store(&mut flash), BTreeSet::new());
            s.load(&mut |record| assert!(after.insert(record.encode()))).unwrap();
            assert!(after == least || after == most, "cut {points} of record {}", done.len());
            // And it goes on from there.
            if after == least {
                s.write(record).unwrap();
            }
            s.write(next).unwrap();
            if points % 8 == 0 {
                let all = live(done.iter().chain([record, next]));
                assert!(loaded(&mut flash) == all, "cut {points} of record {}", done.len());
            }
            points += 1;
        }
    }

    #[test]
    fn records_come_back_after_a_cut_of_the_power_at_any_point() {
        let records = life();
        let mut flash = Flash::erased();
        let mut states = std::vec![flash.clone()];
        for record in &records {
            let mut s = store(&mut flash);
            s.load(&mut |_| ()).unwrap();
            s.write(record).unwrap();
            states.push(flash.clone());
        }
        assert_eq!(loaded(&mut flash), live(records.iter()));
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let points: u64 = std::thread::scope(|scope| {
            let some = |first: usize| {
                let of = (first..records.len() - 1).step_by(threads);
                of.map(|n| cut_everywhere(&states[n], &records[..n], &records[n], &records[n + 1]))
                    .sum::<u64>()
            };
            let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || some(n))).collect();
            running.into_iter().map(|thread| thread.join().expect("it holds")).sum()
        });
        // Every record has at least a header and its bytes.
        assert!(points > 20 * records.len() as u64, "{points}");
        std::println!("{points} points");
    }

    #[test]
    fn an_erased_flash_says_that_it_was_lost_until_the_time_is_written() {
        let mut flash = Flash::erased();
        let lost = |before| [Record::StoreLost(before).encode()].into();
        assert_eq!(loaded(&mut flash), lost(None));
        assert_eq!(loaded(&mut flash), lost(None));
        store(&mut flash).write(&Record::StoreLost(Some(9))).unwrap();
        assert_eq!(loaded(&mut flash), lost(Some(9)));
    }

    #[test]
    fn a_full_store_takes_no_payment_until_a_floor() {
        let mut flash = Flash::erased();
        let mut s = store(&mut flash);
        s.load(&mut |_| ()).unwrap();
        for n in 0..PAYMENTS as u64 {
            s.write(&payment(n, n + 10)).unwrap();
        }
        assert_eq!(s.write(&payment(999, 999)), Err(StoreError::Full));
        s.write(&Record::Floor(10)).unwrap();
        s.write(&payment(999, 999)).unwrap();
        assert_eq!(s.write(&payment(1000, 999)), Err(StoreError::Full));
    }

    #[test]
    fn what_cannot_hold_a_store_is_refused() {
        let mut flash = Flash::erased();
        for end in [0, 4096, 6 * 4096, 7 * 4096 - 4] {
            assert_eq!(FlashStore::new(&mut flash, 0..end).err(), Some(StoreError::TooSmall));
        }
        flash.bytes.fill(0);
        assert_eq!(store(&mut flash).load(&mut |_| ()), Err(StoreError::Corrupted));
    }
}
