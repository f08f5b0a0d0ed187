//! Bounded tables in two memories: fixed arrays on boards, the heap on hosts.
//!
//! A table never grows past its capacity: a full one gives the value back and
//! the caller applies the rule that its owner names. Small tables are sorted
//! arrays, so nothing ever depends on the order of a hash table; the one large
//! table (live payments) is looked up by a hash keyed from the seed.
//!
//! Every table has a constant empty form: a board keeps its tables in static
//! memory, where nothing is ever built on the stack and moved.

use core::cmp::Ordering;
use core::ops::DerefMut;

/// A bounded list.
pub trait List<T>: DerefMut<Target = [T]> {
    /// An empty list that holds nothing yet.
    const EMPTY: Self;
    /// Makes room for `capacity` items at most. Fixed memory keeps fewer where its
    /// own size is smaller.
    fn set_capacity(&mut self, capacity: usize);
    /// Most items that it can hold.
    fn capacity(&self) -> usize;
    /// Puts an item at `index`, moving the rest up; gives it back when full.
    ///
    /// # Errors
    /// The item, if the list is full or the index beyond its end.
    fn try_insert(&mut self, index: usize, item: T) -> Result<(), T>;
    /// Takes the item at `index` out, moving the rest down.
    fn take(&mut self, index: usize) -> Option<T>;

    /// Takes the memory for all items now, where it grows.
    fn reserve(&mut self) {}
    /// Adds an item at the end; gives it back when full.
    ///
    /// # Errors
    /// The item, if the list is full.
    fn try_push(&mut self, item: T) -> Result<(), T> {
        self.try_insert(self.len(), item)
    }
    /// Whether no more fits.
    fn is_full(&self) -> bool {
        self.len() >= self.capacity()
    }
    /// Removes every item for which `keep` is false; returns how many.
    fn retain(&mut self, keep: impl FnMut(&T) -> bool) -> usize;
}

/// A bounded map from 32-byte keys that peers may choose.
pub trait Map<V> {
    /// Stands for the key of an entry until that is taken out.
    type Handle: Copy;
    /// An empty map that holds nothing yet.
    const EMPTY: Self;
    /// Empties the map and makes room for `capacity` entries at most, hashed with
    /// a secret key.
    fn prepare(&mut self, capacity: usize, key: [u8; 16]);
    /// Looks an entry up.
    fn get(&self, key: &[u8; 32]) -> Option<&V>;
    /// Looks an entry up, to change its value.
    fn get_mut(&mut self, key: &[u8; 32]) -> Option<&mut V>;
    /// Adds an entry; gives the value back when full or when the key is there.
    ///
    /// # Errors
    /// The value, if the map is full or has the key.
    fn try_insert(&mut self, key: [u8; 32], value: V) -> Result<(), V>;
    /// Takes an entry out.
    fn remove(&mut self, key: &[u8; 32]) -> Option<V>;
    /// What stands for a key that is in the map.
    fn handle(&self, key: &[u8; 32]) -> Option<Self::Handle>;
    /// Takes out the entry that a handle stands for.
    fn remove_by(&mut self, handle: Self::Handle) -> Option<V>;
    /// Entries now.
    fn len(&self) -> usize;
    /// Most entries that it can hold.
    fn capacity(&self) -> usize;
    /// Whether there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A [`Map`] that keeps its keys.
pub trait KeyedMap<V>: Map<V> {
    /// The key that a handle stands for.
    fn key(&self, handle: Self::Handle) -> Option<[u8; 32]>;
}

/// Adds an item to a list kept as a binary heap with the smallest item first;
/// gives it back when the list is full.
///
/// # Errors
/// The item, if the list is full.
pub fn heap_push<T: Ord>(heap: &mut impl List<T>, item: T) -> Result<(), T> {
    heap.try_push(item)?;
    let mut at = heap.len().saturating_sub(1);
    while let Some(parent) = at.checked_sub(1).map(|i| i / 2) {
        match (heap.get(at), heap.get(parent)) {
            (Some(item), Some(above)) if item < above => heap.swap(at, parent),
            _ => break,
        }
        at = parent;
    }
    Ok(())
}

/// Takes the smallest item out of a list kept by [`heap_push`].
pub fn heap_pop<T: Ord>(heap: &mut impl List<T>) -> Option<T> {
    let last = heap.len().checked_sub(1)?;
    heap.swap(0, last);
    let smallest = heap.take(last);
    let mut at = 0;
    loop {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        let least = match (heap.get(left), heap.get(right)) {
            (Some(l), Some(r)) if r < l => right,
            (Some(_), _) => left,
            (None, _) => break,
        };
        match (heap.get(least), heap.get(at)) {
            (Some(below), Some(item)) if below < item => heap.swap(least, at),
            _ => break,
        }
        at = least;
    }
    smallest
}

/// Where tables live. `N` is the size in fixed memory; the heap ignores it and
/// takes the capacity given at run time.
pub trait Memory: 'static {
    /// The list of this memory.
    type List<T, const N: usize>: List<T>;
    /// The map of this memory.
    type Map<V: Copy + Default, const N: usize>: KeyedMap<V>;
    /// One for very many entries, whose keys are SHA-256 hashes.
    type LargeMap<V: Copy + Default, const N: usize>: Map<V>;
    /// How the state machine holds its tables.
    type Held<T: 'static>: DerefMut<Target = T>;
}

/// A memory from which the state machine can take its tables by itself.
pub trait Owned: Memory {
    /// Takes a value in.
    fn hold<T: 'static>(value: T) -> Self::Held<T>;
}

/// Fixed arrays in memory that is lent for ever: nothing is allocated.
#[derive(Debug, Clone, Copy)]
pub struct Fixed;

impl Memory for Fixed {
    type List<T, const N: usize> = FixedList<T, N>;
    type Map<V: Copy + Default, const N: usize> = FixedMap<V, N>;
    type LargeMap<V: Copy + Default, const N: usize> = FixedMap<V, N>;
    type Held<T: 'static> = &'static mut T;
}

/// [`List`] in a fixed array.
#[derive(Debug)]
pub struct FixedList<T, const N: usize> {
    items: heapless::Vec<T, N>,
    capacity: usize,
}

impl<T, const N: usize> core::ops::Deref for FixedList<T, N> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T, const N: usize> DerefMut for FixedList<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T, const N: usize> List<T> for FixedList<T, N> {
    const EMPTY: Self = Self { items: heapless::Vec::new(), capacity: 0 };
    fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.min(N);
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
    fn try_insert(&mut self, index: usize, item: T) -> Result<(), T> {
        if self.is_full() || index > self.items.len() {
            return Err(item);
        }
        self.items.insert(index, item)
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

/// [`Map`] in a fixed array, looked up in the order of keys: no hash for a peer to aim at.
#[derive(Debug)]
pub struct FixedMap<V, const N: usize> {
    /// An entry stays in its slot until it is taken out.
    slots: heapless::Vec<([u8; 32], V), N>,
    /// The slots in use, in the order of their keys, and then the free ones.
    order: heapless::Vec<u8, N>,
    len: usize,
    capacity: usize,
}

impl<V, const N: usize> FixedMap<V, N> {
    /// Where a key is in the order, or where it would be.
    fn find(&self, key: &[u8; 32]) -> Result<usize, usize> {
        let used = self.order.get(..self.len).unwrap_or_default();
        used.binary_search_by(|slot| match self.slots.get(usize::from(*slot)) {
            Some((known, _)) => known.cmp(key),
            None => Ordering::Less,
        })
    }

    fn slot(&self, key: &[u8; 32]) -> Option<u8> {
        self.order.get(self.find(key).ok()?).copied()
    }
}

impl<V: Copy, const N: usize> Map<V> for FixedMap<V, N> {
    type Handle = u8;
    const EMPTY: Self = {
        assert!(N <= 1 << u8::BITS, "a byte names a slot");
        Self { slots: heapless::Vec::new(), order: heapless::Vec::new(), len: 0, capacity: 0 }
    };
    fn prepare(&mut self, capacity: usize, _key: [u8; 16]) {
        self.slots.clear();
        self.order.clear();
        (self.len, self.capacity) = (0, capacity.min(N));
    }
    fn get(&self, key: &[u8; 32]) -> Option<&V> {
        self.slots.get(usize::from(self.slot(key)?)).map(|(_, v)| v)
    }
    fn get_mut(&mut self, key: &[u8; 32]) -> Option<&mut V> {
        let slot = self.slot(key)?;
        self.slots.get_mut(usize::from(slot)).map(|(_, v)| v)
    }
    fn try_insert(&mut self, key: [u8; 32], value: V) -> Result<(), V> {
        let Err(at) = self.find(&key) else { return Err(value) };
        if self.len >= self.capacity {
            return Err(value);
        }
        let free = self.order.get(self.len).and_then(|slot| self.slots.get_mut(usize::from(*slot)));
        match free {
            Some(free) => *free = (key, value),
            // Both have room for as many as the capacity.
            None => {
                let _ = self.order.push(self.slots.len() as u8);
                let _ = self.slots.push((key, value));
            }
        }
        if let Some(moved) = self.order.get_mut(at..=self.len) {
            moved.rotate_right(1);
        }
        self.len += 1;
        Ok(())
    }
    fn remove(&mut self, key: &[u8; 32]) -> Option<V> {
        let at = self.find(key).ok()?;
        let moved = self.order.get_mut(at..self.len)?;
        let slot = *moved.first()?;
        moved.rotate_left(1);
        self.len -= 1;
        self.slots.get(usize::from(slot)).map(|(_, v)| *v)
    }
    fn handle(&self, key: &[u8; 32]) -> Option<u8> {
        self.slot(key)
    }
    fn remove_by(&mut self, slot: u8) -> Option<V> {
        let key = self.key(slot)?;
        self.remove(&key)
    }
    fn len(&self) -> usize {
        self.len
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
}

impl<V: Copy, const N: usize> KeyedMap<V> for FixedMap<V, N> {
    fn key(&self, slot: u8) -> Option<[u8; 32]> {
        self.slots.get(usize::from(slot)).map(|(key, _)| *key)
    }
}

pub mod by_link;
#[cfg(feature = "alloc")]
mod heap;
#[cfg(feature = "alloc")]
mod open_map;
#[cfg(feature = "alloc")]
pub use heap::{Boxed, Heap, HeapList, HeapMap, Inline};
#[cfg(feature = "alloc")]
pub use open_map::OpenMap;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(n: u8) -> [u8; 32] {
        let mut k = [0; 32];
        k[0] = n;
        k
    }

    fn follows_a_model<M: Map<u32>>(steps: &[(u8, bool, u32)], cap: usize) {
        let mut map = M::EMPTY;
        assert_eq!(map.try_insert(key(1), 1), Err(1), "nothing fits before there is room");
        map.prepare(cap, [1; 16]);
        let mut model = BTreeMap::new();
        let mut handles = BTreeMap::new();
        for &(k, insert, v) in steps {
            if insert {
                let fits = model.len() < cap && !model.contains_key(&k);
                assert_eq!(map.try_insert(key(k), v), if fits { Ok(()) } else { Err(v) });
                if fits {
                    model.insert(k, v);
                    handles.insert(k, map.handle(&key(k)).expect("it is there"));
                }
            } else {
                // Handles outlast other entries.
                let removed = match handles.remove(&k) {
                    Some(handle) if v % 2 == 0 => map.remove_by(handle),
                    _ => map.remove(&key(k)),
                };
                assert_eq!(removed, model.remove(&k));
            }
            assert_eq!(map.len(), model.len());
            for k in 0..=255 {
                assert_eq!(map.get(&key(k)), model.get(&k));
                assert_eq!(map.handle(&key(k)).is_some(), model.contains_key(&k));
                assert_eq!(map.get_mut(&key(k)), model.get_mut(&k));
            }
        }
    }

    fn keeps_its_keys<M: KeyedMap<u32>>(steps: &[(u8, bool, u32)]) {
        let mut map = M::EMPTY;
        map.prepare(10, [1; 16]);
        let mut handles = BTreeMap::new();
        for &(k, insert, v) in steps {
            match insert {
                true if map.try_insert(key(k), v).is_ok() => {
                    handles.insert(k, map.handle(&key(k)).expect("it is there"));
                }
                true => {}
                false => assert_eq!(map.remove(&key(k)).is_some(), handles.remove(&k).is_some()),
            }
            for (k, handle) in &handles {
                assert_eq!(map.key(*handle), Some(key(*k)), "handles outlast other entries");
            }
        }
    }

    proptest! {
        #[test]
        fn maps_behave_alike_and_stay_bounded(steps in prop::collection::vec((0u8..24, any::<bool>(), any::<u32>()), 0..64)) {
            follows_a_model::<FixedMap<u32, 16>>(&steps, 10);
            keeps_its_keys::<FixedMap<u32, 16>>(&steps);
            #[cfg(feature = "alloc")]
            follows_a_model::<HeapMap<u32>>(&steps, 10);
            #[cfg(feature = "alloc")]
            keeps_its_keys::<HeapMap<u32>>(&steps);
            #[cfg(feature = "alloc")]
            follows_a_model::<OpenMap<u32>>(&steps, 20);
        }
    }

    proptest! {
        #[test]
        fn a_heap_gives_its_items_in_order(items in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut heap = FixedList::<u8, 32>::EMPTY;
            heap.set_capacity(32);
            for (i, item) in items.iter().enumerate() {
                prop_assert_eq!(heap_push(&mut heap, *item), if i < 32 { Ok(()) } else { Err(*item) });
            }
            let mut sorted = items[..items.len().min(32)].to_vec();
            sorted.sort();
            for item in sorted {
                prop_assert_eq!(heap_pop(&mut heap), Some(item));
            }
            prop_assert_eq!(heap_pop(&mut heap), None);
        }
    }

    #[test]
    fn a_full_list_gives_the_item_back() {
        let mut l = FixedList::<u8, 4>::EMPTY;
        l.set_capacity(9);
        assert_eq!(l.capacity(), 4);
        for i in 0..4 {
            assert_eq!(l.try_push(i), Ok(()));
        }
        assert_eq!(l.try_push(9), Err(9));
        assert_eq!(l.retain(|i| i % 2 == 0), 2);
        assert_eq!(&l[..], &[0, 2]);
        assert_eq!(l.try_insert(7, 1), Err(1));
        assert_eq!((l.take(1), l.take(1)), (Some(2), None));
    }
}
