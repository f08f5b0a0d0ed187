//! A bounded map on the heap that waits for main memory only once in a look-up, however many
//! entries it has.
//!
//! Its keys are SHA-256 hashes, of which it keeps a print of 64 bits: a hash, under a secret, of
//! their first half. Without the secret nobody finds two keys of one print but by making two with the same
//! half, which takes 2^64 hashes and gains nothing. By chance, a key that is new is taken for one of a
//! million that are there once in 10^12 times. Eight prints are a bucket, which is one cache line. A key is
//! in the bucket that its print names, or in the next one that had a free slot. Of three slots two are
//! used at most.
//!
//! A table that is full is replaced by a larger one. Its entries move there a few at a time, with
//! each entry that is added: no packet waits for all of them, and a map of few takes little memory.

use super::Map;
use alloc::{vec, vec::Vec};
use siphasher::sip::SipHasher13;

/// Most entries of the first table, and how many times more the next one has.
const FIRST: usize = if cfg!(test) { 3 } else { 1 << 14 };
const TIMES: usize = 4;
/// Slots of a bucket: together 64 bytes of prints.
const BUCKET: usize = 8;
/// Slots of a replaced table that are looked at when an entry is added. It is empty long before
/// the next one is full.
const STEPS: usize = 8;

/// [`Map`] on the heap, for the table of payments.
#[derive(Debug)]
pub struct OpenMap<V> {
    table: Table<V>,
    /// The one that it replaced, while entries are left in it. Those in slots from `unmoved` on
    /// have moved.
    old: Table<V>,
    unmoved: usize,
    capacity: usize,
    secret: [u8; 16],
}

/// What is kept of a key.
type Print = u64;
/// The print of a slot without an entry.
const FREE: Print = 0;

#[derive(Debug)]
struct Table<V> {
    /// Most entries, and how many there are.
    room: usize,
    len: usize,
    buckets: usize,
    /// The first bucket begins at `first`, so that each is one cache line.
    prints: Vec<Print>,
    first: usize,
    values: Vec<V>,
}

impl<V: Copy + Default> Table<V> {
    const EMPTY: Self =
        Self { room: 0, len: 0, buckets: 0, prints: Vec::new(), first: 0, values: Vec::new() };

    fn new(room: usize) -> Self {
        // At least one slot is always free, where a search ends.
        let buckets = room.saturating_add(room / 2) / BUCKET + 1;
        let slots = buckets.saturating_mul(BUCKET);
        // All of it is zeroed memory, which the system gives page by page as it is used.
        let prints = vec![FREE; slots.saturating_add(BUCKET - 1)];
        let first = prints.as_ptr().align_offset(64).min(BUCKET - 1);
        Self { room, len: 0, buckets, prints, first, values: vec![V::default(); slots] }
    }

    /// The bucket of a print, if a slot is free there.
    fn home(&self, print: Print) -> usize {
        ((u128::from(print) * self.buckets as u128) >> Print::BITS) as usize
    }

    fn bucket(&self, bucket: usize) -> Option<&[Print; BUCKET]> {
        self.prints.get(self.first + BUCKET * bucket..)?.first_chunk()
    }

    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 < self.buckets { bucket + 1 } else { 0 }
    }

    /// The print at a slot.
    fn print(&self, slot: usize) -> Option<Print> {
        self.prints.get(self.first + slot).copied()
    }

    /// The slot of a print.
    fn find(&self, print: Print) -> Option<usize> {
        let mut bucket = self.home(print);
        loop {
            let prints = self.bucket(bucket)?;
            if let Some(at) = position(prints, print) {
                return Some(BUCKET * bucket + at);
            }
            if position(prints, FREE).is_some() {
                return None;
            }
            bucket = self.next(bucket);
        }
    }

    fn set(&mut self, slot: usize, print: Print, value: V) {
        if let Some(stored) = self.prints.get_mut(self.first + slot) {
            *stored = print;
        }
        if let Some(stored) = self.values.get_mut(slot) {
            *stored = value;
        }
    }

    /// Adds a print that is not there; there is room for it.
    fn insert(&mut self, print: Print, value: V) {
        let mut bucket = self.home(print);
        while let Some(prints) = self.bucket(bucket) {
            if let Some(at) = position(prints, FREE) {
                self.set(BUCKET * bucket + at, print, value);
                self.len += 1;
                return;
            }
            bucket = self.next(bucket);
        }
    }

    /// Takes the entry at a slot out. One that found no slot nearer to its home moves up to it,
    /// and so on: no bucket with a free slot is between an entry and its home.
    fn remove(&mut self, slot: usize) -> Option<V> {
        let gone = *self.values.get(slot)?;
        let buckets = self.buckets;
        let distance = |from: usize, to: usize| match to.checked_sub(from) {
            Some(distance) => distance,
            None => to + buckets - from,
        };
        let (mut hole, mut bucket) = (slot, slot / BUCKET);
        while position(self.bucket(bucket)?, FREE).is_none() {
            bucket = self.next(bucket);
            let moves = |print: &Print| {
                let far = distance(self.home(*print), bucket);
                *print != FREE && far >= distance(hole / BUCKET, bucket)
            };
            if let Some(at) = self.bucket(bucket)?.iter().position(moves) {
                let from = BUCKET * bucket + at;
                self.set(hole, self.print(from)?, *self.values.get(from)?);
                hole = from;
            }
        }
        self.set(hole, FREE, V::default());
        self.len -= 1;
        Some(gone)
    }
}

/// Where a print is in a bucket, the first of them. It compares all, as where it is cannot be
/// predicted.
fn position(bucket: &[Print; BUCKET], print: Print) -> Option<usize> {
    let mut found = 0u32;
    for (at, other) in bucket.iter().enumerate() {
        found |= u32::from(*other == print) << at;
    }
    (found != 0).then(|| found.trailing_zeros() as usize)
}

impl<V: Copy + Default> OpenMap<V> {
    /// The print of a key.
    fn print(&self, key: &[u8; 32]) -> Print {
        let half: &[u8; 16] = key.first_chunk().unwrap_or(&[0; 16]);
        SipHasher13::new_with_key(&self.secret).hash(half).max(FREE + 1)
    }

    /// The table that a print is in, and its slot there.
    fn find(&self, print: Print) -> Option<(&Table<V>, usize)> {
        match self.table.find(print) {
            Some(slot) => Some((&self.table, slot)),
            None if self.old.len == 0 => None,
            None => self.old.find(print).map(|slot| (&self.old, slot)),
        }
    }

    fn find_mut(&mut self, print: Print) -> Option<(&mut Table<V>, usize)> {
        match self.table.find(print) {
            Some(slot) => Some((&mut self.table, slot)),
            None if self.old.len == 0 => None,
            None => self.old.find(print).map(|slot| (&mut self.old, slot)),
        }
    }

    /// Moves entries of the table that was replaced.
    fn move_some(&mut self) {
        let Self { table, old, unmoved, .. } = self;
        for _ in 0..STEPS {
            let Some(slot) = unmoved.checked_sub(1) else { break };
            match old.print(slot).filter(|print| *print != FREE) {
                Some(print) => {
                    // Another one may have moved up to its slot: that is looked at next.
                    if let Some(value) = old.remove(slot) {
                        table.insert(print, value);
                    }
                }
                None => *unmoved = slot,
            }
        }
        if self.old.len == 0 {
            (self.old, self.unmoved) = (Table::EMPTY, 0);
        }
    }
}

impl<V: Copy + Default> Map<V> for OpenMap<V> {
    /// Bytes, which lie beside others without padding.
    type Handle = [u8; 8];
    const EMPTY: Self =
        Self { table: Table::EMPTY, old: Table::EMPTY, unmoved: 0, capacity: 0, secret: [0; 16] };
    fn prepare(&mut self, capacity: usize, key: [u8; 16]) {
        *self = Self { capacity, secret: key, ..Self::EMPTY };
    }
    fn get(&self, key: &[u8; 32]) -> Option<&V> {
        let (table, slot) = self.find(self.print(key))?;
        table.values.get(slot)
    }
    fn get_mut(&mut self, key: &[u8; 32]) -> Option<&mut V> {
        let (table, slot) = self.find_mut(self.print(key))?;
        table.values.get_mut(slot)
    }
    fn try_insert(&mut self, key: [u8; 32], value: V) -> Result<(), V> {
        let print = self.print(&key);
        if self.len() >= self.capacity || self.find(print).is_some() {
            return Err(value);
        }
        self.move_some();
        if self.table.len >= self.table.room {
            // Not one is left there by now.
            while self.old.len > 0 {
                self.move_some();
            }
            let room = self.table.room.saturating_mul(TIMES).max(FIRST).min(self.capacity);
            self.unmoved = BUCKET * self.table.buckets;
            self.old = core::mem::replace(&mut self.table, Table::new(room));
        }
        self.table.insert(print, value);
        Ok(())
    }
    fn remove(&mut self, key: &[u8; 32]) -> Option<V> {
        self.remove_by(self.print(key).to_ne_bytes())
    }
    fn handle(&self, key: &[u8; 32]) -> Option<[u8; 8]> {
        let print = self.print(key);
        self.find(print).map(|_| print.to_ne_bytes())
    }
    fn remove_by(&mut self, handle: [u8; 8]) -> Option<V> {
        let (table, slot) = self.find_mut(Print::from_ne_bytes(handle))?;
        table.remove(slot)
    }
    fn len(&self) -> usize {
        self.table.len + self.old.len
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A few homes are named much more often than others, the last one too.
    fn print_of(n: u64) -> Print {
        let home = [3, 3, 3, 2, 2, 0, 1, 3][n as usize % 8];
        home << 62 | 1 << 61 | n
    }

    proptest! {
        #[test]
        fn buckets_that_overflow_follow_a_model(
            steps in prop::collection::vec((1..80u64, any::<bool>()), 0..800),
        ) {
            let mut table = Table::new(20);
            prop_assert_eq!(table.buckets, 4);
            let mut model = BTreeMap::new();
            for (n, &(of, insert)) in steps.iter().enumerate() {
                match table.find(print_of(of)) {
                    None if insert && table.len < table.room => {
                        table.insert(print_of(of), n);
                        model.insert(of, n);
                    }
                    Some(slot) if !insert => {
                        prop_assert_eq!(table.remove(slot), model.remove(&of));
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len, model.len());
                for of in 1..80 {
                    let value = table.find(print_of(of)).map(|slot| table.values[slot]);
                    prop_assert_eq!(value, model.get(&of).copied());
                }
            }
        }
    }

    #[test]
    fn every_entry_can_be_found_while_a_table_is_replaced() {
        let mut map = OpenMap::EMPTY;
        map.prepare(2_000, [7; 16]);
        let key = |n: u32| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            key
        };
        for n in 0..2_000 {
            assert_eq!(map.try_insert(key(n), n), Ok(()));
            assert_eq!(map.try_insert(key(n), 0), Err(0));
            if n % 3 == 0 {
                assert_eq!(map.remove(&key(n / 2)), Some(n / 2));
                assert_eq!(map.try_insert(key(n / 2), n / 2), Ok(()));
            }
            if n % 97 == 0 {
                assert!((0..=n).all(|n| map.get(&key(n)) == Some(&n)));
                assert_eq!(map.get(&key(n + 1)), None);
            }
        }
        assert_eq!((map.len(), map.try_insert(key(2_000), 1)), (2_000, Err(1)));
    }
}
