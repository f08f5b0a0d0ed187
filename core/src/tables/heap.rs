//! Tables in heap memory, sized by the configuration.
//!
//! Lists grow as they fill. The first payment reserves the memory of all that may come,
//! and the system gives it page by page as it is used: no packet waits while that table
//! grows, and a node that is never paid does not have it.

use super::{FixedList, FixedMap, List, Map, Memory, Owned};
use alloc::{boxed::Box, vec::Vec};
use core::hash::Hasher;
use core::ops::{Deref, DerefMut};
use siphasher::sip::SipHasher13;

/// Heap memory.
#[derive(Debug, Clone, Copy)]
pub struct Heap;

impl Memory for Heap {
    type List<T, const N: usize> = HeapList<T>;
    type Map<V, const N: usize> = HeapMap<V>;
    type Held<T: 'static> = Inline<T>;
}

impl Owned for Heap {
    fn hold<T: 'static>(value: T) -> Inline<T> {
        Inline(value)
    }
}

/// A value held in the state machine itself.
#[derive(Debug)]
pub struct Inline<T>(T);

impl<T> Deref for Inline<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Inline<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// The tables of [`Fixed`](super::Fixed) in a box: a board as hosts simulate it.
#[derive(Debug, Clone, Copy)]
pub struct Boxed;

impl Memory for Boxed {
    type List<T, const N: usize> = FixedList<T, N>;
    type Map<V, const N: usize> = FixedMap<V, N>;
    type Held<T: 'static> = Box<T>;
}

impl Owned for Boxed {
    fn hold<T: 'static>(value: T) -> Box<T> {
        Box::new(value)
    }
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
    const EMPTY: Self = Self { items: Vec::new(), capacity: 0 };
    fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
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
    fn reserve(&mut self) {
        self.items.reserve_exact(self.capacity.saturating_sub(self.items.len()));
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

/// [`Map`] on the heap.
#[derive(Debug)]
pub struct HeapMap<V> {
    entries: hashbrown::HashTable<Entry<V>>,
    capacity: usize,
    /// Of the hash.
    key: [u8; 16],
}

/// An entry in one cache line: a look-up goes to memory twice, for the mark of the
/// hash and for the entry, and mostly once if the key is not there.
#[derive(Debug)]
#[repr(align(64))]
struct Entry<V> {
    key: [u8; 32],
    value: V,
}

impl<V> HeapMap<V> {
    fn hash(&self, key: &[u8; 32]) -> u64 {
        hash(&self.key, key)
    }
}

fn hash(secret: &[u8; 16], key: &[u8; 32]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(secret);
    hasher.write(key);
    hasher.finish()
}

impl<V> Map<V> for HeapMap<V> {
    const EMPTY: Self = Self { entries: hashbrown::HashTable::new(), capacity: 0, key: [0; 16] };
    fn prepare(&mut self, capacity: usize, key: [u8; 16]) {
        *self = Self { capacity, key, ..Self::EMPTY };
    }
    fn get(&self, key: &[u8; 32]) -> Option<&V> {
        let entry = self.entries.find(self.hash(key), |entry| entry.key == *key)?;
        Some(&entry.value)
    }
    fn try_insert(&mut self, key: [u8; 32], value: V) -> Result<(), V> {
        if self.entries.len() >= self.capacity || self.get(&key).is_some() {
            return Err(value);
        }
        let secret = self.key;
        let rehash = |entry: &Entry<V>| hash(&secret, &entry.key);
        if self.entries.capacity() == 0 {
            self.entries.reserve(self.capacity, rehash);
        }
        self.entries.insert_unique(hash(&secret, &key), Entry { key, value }, rehash);
        Ok(())
    }
    fn remove(&mut self, key: &[u8; 32]) -> Option<V> {
        let found = self.entries.find_entry(self.hash(key), |entry| entry.key == *key).ok()?;
        Some(found.remove().0.value)
    }
    fn len(&self) -> usize {
        self.entries.len()
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
}
