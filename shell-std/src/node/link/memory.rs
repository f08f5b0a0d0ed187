//! The memory of links: one budget of bytes for all of them, so that no link takes what the
//! others need.
//!
//! A link may have as much as is left when it asks ("dynamic threshold", as in switches whose
//! ports share a memory): alone it gets half of the budget, and many greedy ones get equal small
//! parts, with one such part left over. A quarter is reserved for the links with this node's own
//! neighbours. Before its hello a link has a few KiB, which are not counted.

use blvm_mesh_core::time::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The budget of all links.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: usize,
    used: AtomicUsize,
    most: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, used: AtomicUsize::new(0), most: AtomicUsize::new(0) })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes in use now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Most bytes that were in use at once.
    pub(crate) fn most_used(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Bytes in use beyond which links without progress are closed.
    pub(crate) fn scarce(&self) -> usize {
        self.used().saturating_sub(self.bytes / 2)
    }

    /// What the links of strangers, or own ones, may have in all.
    fn part(&self, own: bool) -> usize {
        if own { self.bytes } else { self.bytes / 4 * 3 }
    }
}

/// A link's part of the budget, and its progress. Everything that a link has is released when the
/// last task that serves it is done.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    own: AtomicBool,
    used: AtomicUsize,
    up: AtomicBool,
    read: AtomicU64,
    written: AtomicU64,
    unwritten: AtomicUsize,
    /// Events on their way to the engine that prove the neighbour alive.
    pending: AtomicUsize,
    partial: AtomicBool,
    /// When an incomplete packet must be complete; `Micros::MAX`: there is none.
    unfinished: AtomicU64,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>, own: bool) -> Arc<Self> {
        Arc::new(Self {
            budget,
            own: AtomicBool::new(own),
            used: AtomicUsize::new(0),
            up: AtomicBool::new(false),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            unwritten: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            partial: AtomicBool::new(false),
            unfinished: AtomicU64::new(Micros::MAX),
        })
    }

    pub(crate) fn is_own(&self) -> bool {
        self.own.load(Ordering::Relaxed)
    }

    /// Its neighbour is an own one from now on.
    pub(crate) fn set_own(&self) {
        self.own.store(true, Ordering::Relaxed);
    }

    /// Bytes that the link has.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether the link may have so many bytes more.
    pub(crate) fn may_take(&self, bytes: usize) -> bool {
        let left = self.budget.part(self.is_own()).saturating_sub(self.budget.used());
        bytes == 0 || self.used().saturating_add(bytes) <= left
    }

    /// Whether the link is within its limit.
    pub(crate) fn is_within(&self) -> bool {
        self.used() <= self.budget.part(self.is_own()).saturating_sub(self.budget.used())
    }

    /// Takes bytes, even beyond the limit.
    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.budget.most.fetch_max(used, Ordering::Relaxed);
    }

    /// Releases bytes.
    pub(crate) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The neighbour has said hello.
    pub(crate) fn set_up(&self) {
        self.up.store(true, Ordering::Release);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Bytes came in.
    pub(crate) fn note_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// An event that proves the neighbour alive is on its way to the engine.
    pub(crate) fn begin_event(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// The engine has handled one of these.
    pub(crate) fn end_event(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether one of these still waits for the engine.
    pub(crate) fn awaits_engine(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0
    }

    /// Whether part of a frame has come and waits for the rest.
    pub(crate) fn set_partial(&self, partial: bool) {
        self.partial.store(partial, Ordering::Relaxed);
    }

    fn is_partial(&self) -> bool {
        self.partial.load(Ordering::Relaxed)
    }

    /// When the packet of which a part has come must be complete, if there is one.
    pub(crate) fn set_unfinished(&self, deadline: Option<Micros>) {
        self.unfinished.store(deadline.unwrap_or(Micros::MAX), Ordering::Relaxed);
    }

    /// Whether part of a frame or of a packet has come.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.is_partial() || self.unfinished.load(Ordering::Relaxed) != Micros::MAX
    }

    /// Whether an incomplete packet is past its deadline.
    pub(crate) fn is_overdue(&self, now: Micros) -> bool {
        self.unfinished.load(Ordering::Relaxed) <= now
    }

    /// So many bytes are to be written to the connection.
    pub(crate) fn begin_write(&self, bytes: usize) {
        self.unwritten.store(bytes, Ordering::Relaxed);
    }

    /// The connection took bytes.
    pub(crate) fn note_written(&self, bytes: usize) {
        self.unwritten.fetch_sub(bytes, Ordering::Relaxed);
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes read and written so far.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }

    /// Whether the connection has yet to take bytes.
    pub(crate) fn is_writing(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.used.get_mut(), Ordering::Relaxed);
    }
}

/// Memory that counts in a link's share for as long as it is held.
#[derive(Debug)]
pub(crate) struct Counted {
    share: Arc<Share>,
    bytes: usize,
}

impl Counted {
    pub(crate) fn nothing(share: Arc<Share>) -> Self {
        Self { share, bytes: 0 }
    }

    /// Counts so many bytes from now on, if the link may have them. Two that ask at the same time
    /// may both get what is left once.
    pub(crate) fn try_set(&mut self, bytes: usize) -> bool {
        let may = self.share.may_take(bytes.saturating_sub(self.bytes));
        if may {
            self.set(bytes);
        }
        may
    }

    /// Counts so many bytes from now on.
    pub(crate) fn set(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.share.take(more),
            None => self.share.give(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.share.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_links_leave_as_much_as_each_of_them_has() {
        let budget = Budget::new(4000);
        let strangers: Vec<_> = (0..9).map(|_| Share::new(budget.clone(), false)).collect();
        for share in (0..4000).flat_map(|_| &strangers).filter(|share| share.may_take(1)) {
            share.take(1);
        }
        // Nine parts of three quarters, and the tenth is left.
        assert!(strangers.iter().all(|s| (300..=301).contains(&s.used())), "{strangers:?}");
        let late = Share::new(budget.clone(), false);
        assert!(late.may_take(200) && !late.may_take(400));
        late.take(100);
        let own = Share::new(budget.clone(), true);
        assert!(own.may_take(600), "a quarter is kept");
        own.take(500);
        // Who becomes an own one has it too.
        let becomes = Share::new(budget.clone(), false);
        assert!(!becomes.may_take(200));
        becomes.set_own();
        assert!(becomes.is_own() && becomes.may_take(200));
        assert!(budget.scarce() > 1000);
        late.take(900);
        assert!(!late.is_within() && budget.used() > 4000);
        drop((strangers, late));
        assert_eq!((budget.used(), own.used()), (500, 500));
        assert!(budget.scarce() == 0 && budget.most_used() > 4000);
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let budget = Budget::new(1000);
        let share = Share::new(budget.clone(), true);
        let mut held = Counted::nothing(share.clone());
        assert!(held.try_set(500) && !held.try_set(1001));
        held.set(2000);
        held.set(30);
        assert_eq!((share.used(), budget.used(), budget.most_used()), (30, 30, 2000));
        drop(held);
        assert_eq!(share.used(), 0);
    }
}
