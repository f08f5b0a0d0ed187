//! Tables in heap memory, sized by the configuration.
//!
//! Lists grow as they fill. The first payment reserves the memory of all that may come,
//! and the system gives it page by page as it is used: no packet waits while that table
//! grows, and a node that is never paid does not have it.

use super::{FixedList, FixedMap, KeyedMap, List, Map, Memory, OpenMap, Owned};
use alloc::{boxed::Box, vec::Vec};
use core::hash::Hasher;
use core::ops::{Deref, DerefMut};
use siphasher::sip::SipHasher13;

/// Heap memory.
#[derive(Debug, Clone, Copy)]
pub struct Heap;

impl Memory for Heap {
    type List<T, const N: usize> = HeapList<T>;
    type Map<V: Copy + Default, const N: usize> = HeapMap<V>;
    type LargeMap<V: Copy + Default, const N: usize> = OpenMap<V>;
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
    type Map<V: Copy + Default, const N: usize> = FixedMap<V, N>;
    type LargeMap<V: Copy + Default, const N: usize> = FixedMap<V, N>;
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

/// [`Map`] on the heap: an index of places, and the entries side by side, so that a
/// full table takes little more than they do.
#[derive(Debug)]
pub struct HeapMap<V> {
    places: hashbrown::HashTable<u32>,
    keys: Vec<Key>,
    values: Vec<V>,
    capacity: usize,
    /// Of the hash.
    secret: [u8; 16],
}

/// A key that lies in one cache line.
#[derive(Debug, PartialEq, Eq)]
#[repr(align(32))]
struct Key([u8; 32]);

fn hash(secret: &[u8; 16], key: &[u8; 32]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(secret);
    hasher.write(key);
    hasher.finish()
}

impl<V> HeapMap<V> {
    fn place(&self, key: &[u8; 32]) -> Option<usize> {
        let holds = |place: &u32| self.keys.get(*place as usize).is_some_and(|k| k.0 == *key);
        self.places.find(hash(&self.secret, key), holds).map(|place| *place as usize)
    }
}

impl<V> Map<V> for HeapMap<V> {
    type Handle = [u8; 32];
    const EMPTY: Self = Self {
        places: hashbrown::HashTable::new(),
        keys: Vec::new(),
        values: Vec::new(),
        capacity: 0,
        secret: [0; 16],
    };
    fn prepare(&mut self, capacity: usize, key: [u8; 16]) {
        let capacity = capacity.min(u32::MAX as usize);
        *self = Self { capacity, secret: key, ..Self::EMPTY };
    }
    fn get(&self, key: &[u8; 32]) -> Option<&V> {
        self.values.get(self.place(key)?)
    }
    fn get_mut(&mut self, key: &[u8; 32]) -> Option<&mut V> {
        let place = self.place(key)?;
        self.values.get_mut(place)
    }
    fn try_insert(&mut self, key: [u8; 32], value: V) -> Result<(), V> {
        let Self { places, keys, values, capacity, secret } = self;
        let place = u32::try_from(keys.len()).ok().filter(|_| keys.len() < *capacity);
        let hashed = hash(secret, &key);
        let holds = |place: &u32| keys.get(*place as usize).is_some_and(|k| k.0 == key);
        let Some(place) = place.filter(|_| places.find(hashed, holds).is_none()) else {
            return Err(value);
        };
        let of = |place: &u32| keys.get(*place as usize).map_or(0, |k| hash(secret, &k.0));
        if places.capacity() == 0 {
            places.reserve(*capacity, of);
        }
        places.insert_unique(hashed, place, of);
        if keys.capacity() == 0 {
            keys.reserve_exact(*capacity);
            values.reserve_exact(*capacity);
        }
        keys.push(Key(key));
        values.push(value);
        Ok(())
    }
    fn remove(&mut self, key: &[u8; 32]) -> Option<V> {
        let place = self.place(key)?;
        let gone = |p: &u32| *p as usize == place;
        self.places.find_entry(hash(&self.secret, key), gone).ok()?.remove();
        self.keys.swap_remove(place);
        let value = self.values.swap_remove(place);
        // The last entry has taken the place of the one that went.
        let last = self.keys.len();
        if let Some(moved) = self.keys.get(place) {
            let was_last = |p: &u32| *p as usize == last;
            let of_moved = self.places.find_mut(hash(&self.secret, &moved.0), was_last);
            if let (Some(index), Ok(place)) = (of_moved, u32::try_from(place)) {
                *index = place;
            }
        }
        Some(value)
    }
    fn handle(&self, key: &[u8; 32]) -> Option<[u8; 32]> {
        self.get(key).map(|_| *key)
    }
    fn remove_by(&mut self, key: [u8; 32]) -> Option<V> {
        self.remove(&key)
    }
    fn len(&self) -> usize {
        self.keys.len()
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
}

impl<V> KeyedMap<V> for HeapMap<V> {
    fn key(&self, key: [u8; 32]) -> Option<[u8; 32]> {
        Some(key)
    }
}
