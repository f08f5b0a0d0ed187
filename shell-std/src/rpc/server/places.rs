//! Places for connections: who is connected, and since when he is idle.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who is connected, and since when he is idle.
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
pub(super) struct Taken {
    next: u64,
    /// By when they became idle.
    pub(super) idle: BTreeMap<u64, smol::channel::Sender<Infallible>>,
    pub(super) busy: usize,
}

/// One connection's place; idle at first.
pub(super) struct Place {
    places: Arc<Places>,
    /// Since when it is idle, if it is.
    idle: Mutex<Option<u64>>,
    end: smol::channel::Receiver<Infallible>,
    ender: smol::channel::Sender<Infallible>,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, that of the one idle for longest if need be; none where all are busy.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.idle.len().saturating_add(taken.busy) >= self.most {
            let (_, ender) = taken.idle.pop_first()?;
            ender.close();
        }
        let (ender, end) = smol::channel::bounded(1);
        let since = taken.idle(ender.clone());
        Some(Place { places: self.clone(), idle: Mutex::new(Some(since)), end, ender })
    }
}

impl Taken {
    fn idle(&mut self, ender: smol::channel::Sender<Infallible>) -> u64 {
        self.next = self.next.saturating_add(1);
        self.idle.insert(self.next, ender);
        self.next
    }
}

impl Place {
    /// Until the place is somebody else's.
    pub(super) async fn ended(&self) {
        // Nothing is ever sent.
        let _ = self.end.recv().await;
    }

    /// A request has come whole; `false` if the place is gone.
    pub(super) fn busy(&self) -> bool {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = *idle else { return true };
        let mut taken = self.places.lock();
        if taken.idle.remove(&since).is_none() {
            return false;
        }
        taken.busy = taken.busy.saturating_add(1);
        *idle = None;
        true
    }

    /// It is answered.
    pub(super) fn idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.is_none() {
            let mut taken = self.places.lock();
            taken.busy = taken.busy.saturating_sub(1);
            *idle = Some(taken.idle(self.ender.clone()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut taken = self.places.lock();
        match idle {
            Some(since) => drop(taken.idle.remove(&since)),
            None => taken.busy = taken.busy.saturating_sub(1),
        }
    }
}
