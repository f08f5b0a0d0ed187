//! What the module's tasks share.

use crate::links::Links;
use crate::outbox::Outbox;
use blvm_mesh_core::time::Micros;
use smol::channel::{Receiver, Sender, bounded};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Wakes one task, once however often it is rung.
pub struct Bell(Sender<()>, Receiver<()>);

impl Default for Bell {
    fn default() -> Self {
        let (ring, rung) = bounded(1);
        Self(ring, rung)
    }
}

impl Bell {
    /// Wakes the task, now or when it next waits.
    pub fn ring(&self) {
        // A full channel means that it is to look already.
        let _ = self.0.try_send(());
    }

    /// Waits until it is rung.
    pub async fn rung(&self) {
        // The bell holds a sender: this never fails.
        let _ = self.1.recv().await;
    }
}

/// The links, what is to be told to the node, and who is to look at them.
pub struct Shared {
    start: Instant,
    links: Mutex<Links>,
    outbox: Mutex<Outbox>,
    /// For the task that writes to the node.
    pub writer: Bell,
    /// For the task that hands to the mesh what happened on links.
    pub engine: Bell,
}

impl Shared {
    /// Around these links.
    pub fn new(links: Links) -> Self {
        Self {
            start: Instant::now(),
            links: Mutex::new(links),
            outbox: Mutex::default(),
            writer: Bell::default(),
            engine: Bell::default(),
        }
    }

    /// Monotonic microseconds.
    pub fn now(&self) -> Micros {
        Micros::try_from(self.start.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    /// Does something with the links; both tasks look at what follows.
    pub fn with_links<T>(&self, work: impl FnOnce(&mut Links, Micros) -> T) -> T {
        let done = work(&mut lock(&self.links), self.now());
        self.writer.ring();
        self.engine.ring();
        done
    }

    /// The same for the two tasks themselves, which go on looking anyway.
    pub fn look_at_links<T>(&self, work: impl FnOnce(&mut Links, Micros) -> T) -> T {
        work(&mut lock(&self.links), self.now())
    }

    /// Does something with what is to be told to the node.
    pub fn with_outbox<T>(&self, work: impl FnOnce(&mut Outbox) -> T) -> T {
        let done = work(&mut lock(&self.outbox));
        self.writer.ring();
        done
    }

    /// The next thing to tell.
    pub fn take_from_outbox(&self) -> Option<crate::outbox::Outgoing> {
        lock(&self.outbox).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
