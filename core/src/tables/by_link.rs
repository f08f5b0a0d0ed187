//! A bounded map of what was heard on links, in which each link has a share.
//!
//! Keys are chosen by peers, so they are found by a hash with a secret key. The entries of one
//! link form a list, the oldest first. Every look-up and every change takes constant time, except
//! for one look at each link when the table is full.

use super::{List, Memory};
use crate::id::LinkId;
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// No place; the others count from 1. So an empty map is all zeros, which takes no flash in a
/// board's static memory.
const NONE: u16 = 0;
/// Most entries.
const MOST: usize = u16::MAX as usize;

/// What entries are found by.
pub type Key = [u64; 2];

/// Places of a list.
#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u16,
    last: u16,
    len: u16,
}

impl Ends {
    const EMPTY: Self = Self { first: NONE, last: NONE, len: 0 };
}

/// An entry, or a place that is free.
#[derive(Debug)]
struct Slot<V> {
    key: Key,
    /// `None`: the link is closed.
    link: Option<LinkId>,
    /// The neighbours in the list of its link.
    before: u16,
    after: u16,
    /// The next with the same hash, or the next free one.
    next: u16,
    value: Option<V>,
}

/// The map. `N` is its size in fixed memory, `L` the number of links there.
pub struct ByLink<M: Memory, V, const N: usize, const L: usize> {
    slots: M::List<Slot<V>, N>,
    /// The first slot of each hash.
    heads: M::List<u16, N>,
    /// Sorted by link.
    links: M::List<(LinkId, Ends), L>,
    closed: Ends,
    free: u16,
    len: usize,
    secret: [u8; 16],
}

impl<M: Memory, V, const N: usize, const L: usize> ByLink<M, V, N, L> {
    /// An empty map without capacity.
    pub const EMPTY: Self = Self {
        slots: M::List::EMPTY,
        heads: M::List::EMPTY,
        links: M::List::EMPTY,
        closed: Ends::EMPTY,
        free: NONE,
        len: 0,
        secret: [0; 16],
    };

    /// Makes room for so many entries, at most 65,535, of so many links; hashed with a secret.
    pub fn prepare(&mut self, capacity: usize, links: usize, secret: [u8; 16]) {
        let capacity = capacity.min(MOST);
        self.slots.set_capacity(capacity);
        self.heads.set_capacity(capacity);
        self.heads.reserve();
        while !self.heads.is_full() && self.heads.try_push(NONE).is_ok() {}
        self.links.set_capacity(links);
        self.secret = secret;
    }

    /// Where among the heads the chain of a key begins.
    fn chain(&self, key: &Key) -> Option<usize> {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        key.iter().for_each(|part| hasher.write_u64(*part));
        let at = hasher.finish().checked_rem(self.heads.len() as u64)?;
        usize::try_from(at).ok()
    }

    fn head(&mut self, key: &Key) -> Option<&mut u16> {
        let chain = self.chain(key)?;
        self.heads.get_mut(chain)
    }

    fn slot(&self, at: u16) -> Option<&Slot<V>> {
        self.slots.get(usize::from(at).checked_sub(1)?)
    }

    fn slot_mut(&mut self, at: u16) -> Option<&mut Slot<V>> {
        self.slots.get_mut(usize::from(at).checked_sub(1)?)
    }

    fn find(&self, key: &Key) -> Option<u16> {
        let mut at = *self.heads.get(self.chain(key)?)?;
        loop {
            let slot = self.slot(at)?;
            if slot.key == *key {
                return Some(at);
            }
            at = slot.next;
        }
    }

    /// An entry, and the link on which it was heard; `None` if that is closed.
    pub fn get(&self, key: &Key) -> Option<(Option<LinkId>, &V)> {
        let slot = self.slot(self.find(key)?)?;
        Some((slot.link, slot.value.as_ref()?))
    }

    /// An entry, to change.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut V> {
        let at = self.find(key)?;
        self.slot_mut(at)?.value.as_mut()
    }

    fn ends(&mut self, link: Option<LinkId>) -> Option<&mut Ends> {
        let Some(link) = link else { return Some(&mut self.closed) };
        let at = match self.links.binary_search_by_key(&link, |(l, _)| *l) {
            Ok(at) => at,
            Err(at) => self.links.try_insert(at, (link, Ends::EMPTY)).map(|()| at).ok()?,
        };
        self.links.get_mut(at).map(|(_, ends)| ends)
    }

    /// How many entries a link has.
    pub fn count(&self, link: LinkId) -> usize {
        let at = self.links.binary_search_by_key(&link, |(l, _)| *l).ok();
        at.and_then(|at| self.links.get(at)).map_or(0, |(_, ends)| ends.len.into())
    }

    /// Adds a slot to the list of a link, as the newest or as the oldest; if there is no room for
    /// another link, to the list of closed ones.
    fn hang(&mut self, at: u16, link: Option<LinkId>, newest: bool) {
        let link = if self.ends(link).is_some() { link } else { None };
        let Some(ends) = self.ends(link) else { return };
        let (before, after) = if newest { (ends.last, NONE) } else { (NONE, ends.first) };
        ends.len = ends.len.saturating_add(1);
        if newest || ends.last == NONE {
            ends.last = at;
        }
        if !newest || ends.first == NONE {
            ends.first = at;
        }
        if let Some(slot) = self.slot_mut(before) {
            slot.after = at;
        }
        if let Some(slot) = self.slot_mut(after) {
            slot.before = at;
        }
        if let Some(slot) = self.slot_mut(at) {
            (slot.link, slot.before, slot.after) = (link, before, after);
        }
    }

    fn unhang(&mut self, at: u16) {
        let Some(Slot { link, before, after, .. }) = self.slot(at) else { return };
        let (link, before, after) = (*link, *before, *after);
        if let Some(ends) = self.ends(link) {
            ends.len = ends.len.saturating_sub(1);
            if ends.first == at {
                ends.first = after;
            }
            if ends.last == at {
                ends.last = before;
            }
        }
        if let Some(slot) = self.slot_mut(before) {
            slot.after = after;
        }
        if let Some(slot) = self.slot_mut(after) {
            slot.before = before;
        }
    }

    /// An entry was heard again, on this link: it becomes its newest.
    pub fn renew(&mut self, key: &Key, link: LinkId) {
        if let Some(at) = self.find(key) {
            self.unhang(at);
            self.hang(at, Some(link), true);
        }
    }

    /// Makes an entry the oldest of its link.
    pub fn age(&mut self, key: &Key) {
        if let Some(at) = self.find(key)
            && let Some(link) = self.slot(at).map(|s| s.link)
        {
            self.unhang(at);
            self.hang(at, link, false);
        }
    }

    fn remove(&mut self, at: u16) {
        self.unhang(at);
        let Some(Slot { key, next, .. }) = self.slot(at) else { return };
        let (key, next) = (*key, *next);
        let Some(head) = self.head(&key) else { return };
        if *head == at {
            *head = next;
        } else {
            let mut before = *head;
            while let Some(slot) = self.slot_mut(before) {
                if slot.next == at {
                    slot.next = next;
                    break;
                }
                before = slot.next;
            }
        }
        let free = core::mem::replace(&mut self.free, at);
        self.len = self.len.saturating_sub(1);
        if let Some(slot) = self.slot_mut(at) {
            (slot.value, slot.next) = (None, free);
            // No key is looked up in a free slot: no chain leads to it.
            (slot.before, slot.after) = (NONE, NONE);
        }
    }

    /// Removes the oldest entries of a link, and of closed ones, while they may go: a few at a
    /// time.
    pub fn expire(&mut self, link: LinkId, may_go: impl Fn(&V) -> bool) {
        for link in [Some(link), None, Some(link)] {
            if let Some(first) = self.ends(link).map(|ends| ends.first)
                && self.slot(first).and_then(|s| s.value.as_ref()).is_some_and(&may_go)
            {
                self.remove(first);
            }
        }
    }

    /// Removes the oldest of a link.
    pub fn remove_oldest(&mut self, link: LinkId) {
        if let Some(first) = self.ends(Some(link)).map(|ends| ends.first) {
            self.remove(first);
        }
    }

    /// Adds a new entry. In a full table the oldest of a closed link is evicted; else of the same
    /// link, if it has `share` already; else of the one that has most.
    pub fn insert(&mut self, key: Key, link: LinkId, value: V, share: usize) {
        if self.slots.capacity() == 0 {
            return;
        }
        if self.len >= self.slots.capacity() {
            let most = self.links.iter().max_by_key(|(l, ends)| (ends.len, core::cmp::Reverse(*l)));
            let loses = match most.filter(|_| self.closed.first == NONE) {
                None => None,
                Some(_) if self.count(link) >= share.max(1) => Some(link),
                Some((most, _)) => Some(*most),
            };
            if let Some(first) = self.ends(loses).map(|ends| ends.first) {
                self.remove(first);
            }
        }
        let Some(head) = self.head(&key).map(|head| *head) else { return };
        let slot = Slot { key, link: None, before: NONE, after: NONE, next: head, value: None };
        let slot = Slot { value: Some(value), ..slot };
        let at = match self.slot(self.free).map(|free| free.next) {
            Some(next) => {
                let at = core::mem::replace(&mut self.free, next);
                if let Some(free) = self.slot_mut(at) {
                    *free = slot;
                }
                at
            }
            None => {
                if self.slots.try_push(slot).is_err() {
                    return;
                }
                u16::try_from(self.slots.len()).unwrap_or(NONE)
            }
        };
        if let Some(head) = self.head(&key) {
            *head = at;
        }
        self.len = self.len.saturating_add(1);
        self.hang(at, Some(link), true);
    }

    /// A link is gone. Its entries are evicted first.
    pub fn close(&mut self, link: LinkId) {
        while let Some(first) = self.take_first(link) {
            self.unhang(first);
            self.hang(first, None, true);
        }
        self.links.retain(|(l, _)| *l != link);
    }

    /// A link is gone, and its entries with it.
    pub fn forget(&mut self, link: LinkId) {
        while let Some(first) = self.take_first(link) {
            self.remove(first);
        }
        self.links.retain(|(l, _)| *l != link);
    }

    fn take_first(&self, link: LinkId) -> Option<u16> {
        let at = self.links.binary_search_by_key(&link, |(l, _)| *l).ok()?;
        self.links.get(at).map(|(_, ends)| ends.first).filter(|first| *first != NONE)
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;
    use proptest::prelude::*;
    use std::vec::Vec;

    type Map = ByLink<Fixed, u32, 16, 4>;

    fn map(capacity: usize) -> Map {
        let mut map = Map::EMPTY;
        map.prepare(capacity, 4, [3; 16]);
        map
    }

    proptest! {
        /// Against a list of (key, link, value), the oldest first.
        #[test]
        fn it_does_what_a_list_would(
            capacity in 0usize..12,
            steps in prop::collection::vec((0u8..7, 0u64..20, 1u32..4, 1usize..6), 0..200),
        ) {
            let mut map = map(capacity);
            let mut model: Vec<(u64, Option<LinkId>, u32)> = Vec::new();
            for (n, (what, key, link, share)) in (0u32..).zip(steps) {
                let (full, link) = ([key, 7], LinkId(link));
                let at = model.iter().position(|(k, ..)| *k == key);
                let of = |model: &[(u64, Option<LinkId>, u32)], link| {
                    model.iter().filter(|(_, l, _)| *l == link).count()
                };
                match (what, at) {
                    (0..=2, None) => {
                        map.insert(full, link, n, share);
                        if model.len() >= capacity {
                            let most = (1..4).map(|l| Some(LinkId(l)));
                            let most = most.max_by_key(|l| (of(&model, *l), core::cmp::Reverse(*l)));
                            let loses = if of(&model, None) > 0 {
                                None
                            } else if of(&model, Some(link)) >= share {
                                Some(link)
                            } else {
                                most.unwrap()
                            };
                            if let Some(at) = model.iter().position(|(_, l, _)| *l == loses) {
                                model.remove(at);
                            }
                        }
                        if capacity > 0 {
                            model.push((key, Some(link), n));
                        }
                    }
                    (3, Some(at)) => {
                        map.renew(&full, link);
                        let (key, _, value) = model.remove(at);
                        model.push((key, Some(link), value));
                    }
                    (4, Some(at)) => {
                        map.age(&full);
                        let entry = model.remove(at);
                        model.insert(0, entry);
                    }
                    (5, _) if key < 4 => {
                        map.close(link);
                        let (mut gone, rest): (Vec<_>, Vec<_>) =
                            model.drain(..).partition(|(_, l, _)| *l == Some(link));
                        gone.iter_mut().for_each(|(_, l, _)| *l = None);
                        model = rest;
                        model.extend(gone);
                    }
                    (6, _) if key < 4 => {
                        map.forget(link);
                        model.retain(|(_, l, _)| *l != Some(link));
                    }
                    _ => {}
                }
                prop_assert_eq!(map.len(), model.len());
                for key in 0..20 {
                    let expected = model.iter().find(|(k, ..)| *k == key).map(|(_, l, v)| (*l, v));
                    prop_assert_eq!(map.get(&[key, 7]), expected);
                }
                for l in 1..4 {
                    prop_assert_eq!(map.count(LinkId(l)), of(&model, Some(LinkId(l))));
                }
            }
        }
    }

    #[test]
    fn what_is_too_old_goes() {
        let mut map = map(8);
        (0..5).for_each(|n| map.insert([n, 0], LinkId(1), n as u32, 8));
        map.expire(LinkId(1), |n| *n < 3);
        assert_eq!((map.len(), map.get(&[1, 0])), (3, None));
        map.expire(LinkId(1), |n| *n < 3);
        map.remove_oldest(LinkId(1));
        assert_eq!((map.len(), map.get(&[4, 0])), (1, Some((Some(LinkId(1)), &4))));
    }
}
