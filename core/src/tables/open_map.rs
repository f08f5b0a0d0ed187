//! A bounded map on the heap that waits for main memory only once in a look-up, however many
//! entries it has.
//!
//! It uses open addressing: a key is at the place that its hash names, or at the next that was
//! free, most often in the same cache line. Of three places two are used at most.
//!
//! A table that is full is replaced by a larger one. Its entries move there a few at a time, with
//! each entry that is added: no packet waits for all of them, and a map of few takes little memory.

use super::Map;
use alloc::{vec, vec::Vec};
use siphasher::sip::SipHasher13;

/// Most entries of the first table, and how many times more the next one has.
const FIRST: usize = if cfg!(test) { 3 } else { 1 << 14 };
const TIMES: usize = 4;
/// Places of a replaced table that are looked at when an entry is added. It is empty long before
/// the next one is full.
const STEPS: usize = 8;

/// [`Map`] on the heap, for the table of payments.
#[derive(Debug)]
pub struct OpenMap<V> {
    table: Table<V>,
    /// The one that it replaced, while entries are left in it. Those at `unmoved` and behind have
    /// moved.
    old: Table<V>,
    unmoved: usize,
    capacity: usize,
    secret: [u8; 16],
}

/// A key as it is stored: masked by the secret, so that none that is used is [`FREE`].
type Stored = [u128; 2];
/// A place without an entry.
const FREE: Stored = [0; 2];

#[derive(Debug)]
struct Table<V> {
    /// Most entries, and how many there are.
    room: usize,
    len: usize,
    places: usize,
    /// The keys begin at `first`, so that each is in one cache line.
    keys: Vec<u128>,
    first: usize,
    values: Vec<V>,
}

impl<V: Copy + Default> Table<V> {
    const EMPTY: Self =
        Self { room: 0, len: 0, places: 0, keys: Vec::new(), first: 0, values: Vec::new() };

    fn new(room: usize) -> Self {
        let places = room.saturating_add(room / 2).saturating_add(1);
        // All of it is zeroed memory, which the system gives page by page as it is used.
        let keys = vec![0u128; places.saturating_mul(2).saturating_add(3)];
        let first = keys.as_ptr().align_offset(64).min(3);
        Self { room, len: 0, places, keys, first, values: vec![V::default(); places] }
    }

    /// Where a key with this hash is if the place is free.
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.places as u128) >> 64) as usize
    }

    fn key(&self, place: usize) -> Option<&Stored> {
        self.keys.get(self.first + 2 * place..)?.first_chunk()
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 < self.places { place + 1 } else { 0 }
    }

    /// The place of a key with this hash.
    fn find(&self, wanted: &Stored, hash: u64) -> Option<usize> {
        let mut place = self.home(hash);
        loop {
            let key = self.key(place)?;
            if key == wanted {
                return Some(place);
            }
            if *key == FREE {
                return None;
            }
            place = self.after(place);
        }
    }

    fn set(&mut self, place: usize, key: Stored, value: V) {
        let keys = self.keys.get_mut(self.first + 2 * place..);
        if let Some(stored) = keys.and_then(|keys| keys.first_chunk_mut()) {
            *stored = key;
        }
        if let Some(stored) = self.values.get_mut(place) {
            *stored = value;
        }
    }

    /// Adds a key that is not there; there is room for it.
    fn insert(&mut self, key: Stored, hash: u64, value: V) {
        let mut place = self.home(hash);
        while self.key(place).is_some_and(|key| *key != FREE) {
            place = self.after(place);
        }
        self.set(place, key, value);
        self.len += 1;
    }

    /// Takes the entry at a place out. Those behind it that can be nearer to their home move up,
    /// so that no free place is between a key and its home.
    fn remove(&mut self, place: usize, hash: impl Fn(&Stored) -> u64) -> Option<V> {
        let gone = *self.values.get(place)?;
        let places = self.places;
        let distance = |from: usize, to: usize| match to.checked_sub(from) {
            Some(distance) => distance,
            None => to + places - from,
        };
        let (mut hole, mut at) = (place, self.after(place));
        while let (Some(key), Some(value)) = (self.key(at).copied(), self.values.get(at).copied())
            && key != FREE
        {
            if distance(self.home(hash(&key)), at) >= distance(hole, at) {
                self.set(hole, key, value);
                hole = at;
            }
            at = self.after(at);
        }
        self.set(hole, FREE, V::default());
        self.len -= 1;
        Some(gone)
    }
}

/// Masks a key, or undoes it.
fn masked(secret: &[u8; 16], [a, b]: Stored) -> Stored {
    let mask = u128::from_ne_bytes(*secret);
    [a ^ mask, b ^ !mask]
}

fn stored(secret: &[u8; 16], key: &[u8; 32]) -> Stored {
    let (halves, _) = key.as_chunks::<16>();
    let half = |at: usize| halves.get(at).map_or(0, |half| u128::from_ne_bytes(*half));
    masked(secret, [half(0), half(1)])
}

/// The hash of a stored key.
fn hash(secret: &[u8; 16], key: &Stored) -> u64 {
    let key = masked(secret, *key).map(u128::to_ne_bytes);
    SipHasher13::new_with_key(secret).hash(key.as_flattened())
}

impl<V: Copy + Default> OpenMap<V> {
    /// The table that a key is in, and its place there.
    fn find(&self, key: &[u8; 32]) -> Option<(&Table<V>, usize)> {
        let key = stored(&self.secret, key);
        let hash = hash(&self.secret, &key);
        let mut tables = [&self.table, &self.old].into_iter();
        tables.find_map(|table| Some((table, table.find(&key, hash)?)))
    }

    fn find_mut(&mut self, key: &[u8; 32]) -> Option<(&mut Table<V>, usize)> {
        let key = stored(&self.secret, key);
        let hash = hash(&self.secret, &key);
        match self.table.find(&key, hash) {
            Some(place) => Some((&mut self.table, place)),
            None => self.old.find(&key, hash).map(|place| (&mut self.old, place)),
        }
    }

    /// Moves entries of the table that was replaced.
    fn move_some(&mut self) {
        let Self { table, old, unmoved, secret, .. } = self;
        for _ in 0..STEPS {
            let Some(place) = unmoved.checked_sub(1) else { break };
            match old.key(place).copied().filter(|key| *key != FREE) {
                Some(key) => {
                    // Another one may have moved up to its place: that is looked at next.
                    if let Some(value) = old.remove(place, |key| hash(secret, key)) {
                        table.insert(key, hash(secret, &key), value);
                    }
                }
                None => *unmoved = place,
            }
        }
        if self.old.len == 0 {
            (self.old, self.unmoved) = (Table::EMPTY, 0);
        }
    }
}

impl<V: Copy + Default> Map<V> for OpenMap<V> {
    type Handle = [u8; 32];
    const EMPTY: Self =
        Self { table: Table::EMPTY, old: Table::EMPTY, unmoved: 0, capacity: 0, secret: [0; 16] };
    fn prepare(&mut self, capacity: usize, key: [u8; 16]) {
        *self = Self { capacity, secret: key, ..Self::EMPTY };
    }
    fn get(&self, key: &[u8; 32]) -> Option<&V> {
        let (table, place) = self.find(key)?;
        table.values.get(place)
    }
    fn get_mut(&mut self, key: &[u8; 32]) -> Option<&mut V> {
        let (table, place) = self.find_mut(key)?;
        table.values.get_mut(place)
    }
    fn try_insert(&mut self, key: [u8; 32], value: V) -> Result<(), V> {
        if self.len() >= self.capacity || self.find(&key).is_some() {
            return Err(value);
        }
        self.move_some();
        if self.table.len >= self.table.room {
            // Not one is left there by now.
            while self.old.len > 0 {
                self.move_some();
            }
            let room = self.table.room.saturating_mul(TIMES).max(FIRST).min(self.capacity);
            self.unmoved = self.table.places;
            self.old = core::mem::replace(&mut self.table, Table::new(room));
        }
        let key = stored(&self.secret, &key);
        self.table.insert(key, hash(&self.secret, &key), value);
        Ok(())
    }
    fn remove(&mut self, key: &[u8; 32]) -> Option<V> {
        let secret = self.secret;
        let (table, place) = self.find_mut(key)?;
        table.remove(place, |key| hash(&secret, key))
    }
    fn handle(&self, key: &[u8; 32]) -> Option<[u8; 32]> {
        self.get(key).map(|_| *key)
    }
    fn key(&self, key: [u8; 32]) -> Option<[u8; 32]> {
        Some(key)
    }
    fn len(&self) -> usize {
        self.table.len + self.old.len
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
}
