//! Tables in heap memory, sized by the configuration.
//!
//! All of a table's memory is reserved when it is made, and the system gives it page
//! by page as it is used. So no packet waits while a table grows, and an idle node is
//! small.

use super::{List, Map, Memory};
use alloc::{vec, vec::Vec};
use core::hash::Hasher;
use core::ops::{Deref, DerefMut};
use siphasher::sip::SipHasher13;

/// Heap memory.
#[derive(Debug, Clone, Copy)]
pub struct Heap;

impl Memory for Heap {
    type List<T, const N: usize> = HeapList<T>;
    type Map<V, const N: usize> = HeapMap<V>;
}

/// [`List`] on the heap.
#[derive(Debug)]
pub struct HeapList<T> {
    items: Vec<T>,
    capacity: usize,
}

impl<T> Deref for HeapList<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for HeapList<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T> List<T> for HeapList<T> {
    fn with_capacity(capacity: usize) -> Self {
        Self { items: Vec::with_capacity(capacity), capacity }
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
    fn try_insert(&mut self, index: usize, item: T) -> Result<(), T> {
        if self.is_full() || index > self.items.len() {
            return Err(item);
        }
        self.items.insert(index, item);
        Ok(())
    }
    fn take(&mut self, index: usize) -> Option<T> {
        (index < self.items.len()).then(|| self.items.remove(index))
    }
    fn retain(&mut self, keep: impl FnMut(&T) -> bool) -> usize {
        let before = self.items.len();
        self.items.retain(keep);
        before - self.items.len()
    }
}

/// [`Map`] on the heap: an index of eight-byte slots, and the entries side by side.
///
/// Looking for a key that is not there, which is the usual case for a payment, goes to
/// memory once, and for one that is there twice. Other maps mark each free slot, so
/// that even an empty one takes all its memory.
#[derive(Debug)]
pub struct HeapMap<V> {
    /// Open addressing with linear probing, less than half full, so that there is
    /// always a free slot.
    slots: Vec<Slot>,
    keys: Vec<Key>,
    values: Vec<V>,
    capacity: usize,
    secret: [u8; 16],
}

/// A key that lies in one cache line.
#[derive(Debug, PartialEq, Eq)]
#[repr(align(32))]
struct Key([u8; 32]);

/// Half of an entry's hash above the entry's place plus one; 0 if it is free. A plain
/// number, so that a whole index of free slots is memory that was never written.
type Slot = u64;
const FREE: Slot = 0;

/// Half of a hash.
fn print(slot: Slot) -> u32 {
    (slot >> 32) as u32
}

/// Place of the entry, unless the slot is free.
fn place(slot: Slot) -> Option<usize> {
    usize::try_from(slot as u32).ok()?.checked_sub(1)
}

impl<V> HeapMap<V> {
    fn print_of(&self, key: &[u8; 32]) -> u32 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(key);
        print(hasher.finish())
    }

    fn slot(print: u32, place: usize) -> Slot {
        // At most `capacity`, which is below 2^32.
        u64::from(print) << 32 | (place as u64 + 1)
    }

    /// Where the search for a hash begins.
    fn home(&self, print: u32) -> usize {
        ((u64::from(print) * self.slots.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }

    /// Steps from one slot on to another.
    fn steps(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { self.slots.len() - from + to }
    }

    /// The slot for which `found` holds, or else the free one where the search ends.
    fn search(&self, print: u32, found: impl Fn(Slot) -> bool) -> Result<usize, usize> {
        let mut at = self.home(print);
        loop {
            match self.slots.get(at) {
                None | Some(&FREE) => return Err(at),
                Some(slot) if found(*slot) => return Ok(at),
                Some(_) => at = self.after(at),
            }
        }
    }

    fn find(&self, key: &[u8; 32]) -> Result<usize, usize> {
        let wanted = self.print_of(key);
        let holds = |place| self.keys.get(place).is_some_and(|Key(k)| k == key);
        self.search(wanted, |slot| print(slot) == wanted && place(slot).is_some_and(holds))
    }

    fn set(&mut self, at: usize, slot: Slot) {
        if let Some(old) = self.slots.get_mut(at) {
            *old = slot;
        }
    }

    /// Frees a slot. Those behind it that could be nearer to their home move up, so
    /// that no search ends too early.
    fn free(&mut self, mut hole: usize) {
        let mut at = self.after(hole);
        while let Some(slot) = self.slots.get(at).copied().filter(|slot| *slot != FREE) {
            if self.steps(self.home(print(slot)), at) >= self.steps(hole, at) {
                self.set(hole, slot);
                hole = at;
            }
            at = self.after(at);
        }
        self.set(hole, FREE);
    }
}

impl<V> Map<V> for HeapMap<V> {
    fn with_capacity(capacity: usize, secret: [u8; 16]) -> Self {
        let capacity = capacity.min(u32::MAX as usize / 2 - 1);
        let slots = vec![FREE; 2 * capacity + 1];
        let (keys, values) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Self { slots, keys, values, capacity, secret }
    }
    fn get(&self, key: &[u8; 32]) -> Option<&V> {
        let slot = self.slots.get(self.find(key).ok()?)?;
        self.values.get(place(*slot)?)
    }
    fn try_insert(&mut self, key: [u8; 32], value: V) -> Result<(), V> {
        match self.find(&key) {
            Err(at) if self.keys.len() < self.capacity => {
                self.set(at, Self::slot(self.print_of(&key), self.keys.len()));
                self.keys.push(Key(key));
                self.values.push(value);
                Ok(())
            }
            _ => Err(value),
        }
    }
    fn remove(&mut self, key: &[u8; 32]) -> Option<V> {
        let at = self.find(key).ok()?;
        let gone = place(*self.slots.get(at)?).filter(|place| *place < self.keys.len())?;
        self.free(at);
        // The last entry takes the place of the one that goes.
        self.keys.swap_remove(gone);
        let value = self.values.swap_remove(gone);
        if let Some(Key(key)) = self.keys.get(gone) {
            let print = self.print_of(key);
            let before = Self::slot(print, self.keys.len());
            if let Ok(at) = self.search(print, |slot| slot == before) {
                self.set(at, Self::slot(print, gone));
            }
        }
        Some(value)
    }
    fn len(&self) -> usize {
        self.keys.len()
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

    proptest! {
        /// Full and nearly full most of the time: long runs of slots, over the end too.
        #[test]
        fn a_crowded_map_follows_the_model(
            steps in prop::collection::vec((0u8..90, 0u8..3), 0..300),
            capacity in 0usize..70,
            secret: [u8; 16],
        ) {
            let mut map = HeapMap::with_capacity(capacity, secret);
            let mut model = BTreeMap::new();
            for (i, (k, what)) in steps.into_iter().enumerate() {
                let key = [k; 32];
                if what == 0 {
                    prop_assert_eq!(map.remove(&key), model.remove(&k));
                } else {
                    let fits = model.len() < capacity && !model.contains_key(&k);
                    prop_assert_eq!(map.try_insert(key, i), if fits { Ok(()) } else { Err(i) });
                    if fits {
                        model.insert(k, i);
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                for k in 0..90 {
                    prop_assert_eq!(map.get(&[k; 32]), model.get(&k));
                }
                let used = map.slots.iter().filter(|slot| **slot != FREE).count();
                prop_assert_eq!(used, map.len());
            }
        }
    }

    #[test]
    fn where_entries_lie_is_a_secret() {
        let order = |secret| {
            let mut map = HeapMap::with_capacity(64, [secret; 16]);
            (0..32).for_each(|k| map.try_insert([k; 32], ()).unwrap());
            map.slots
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
