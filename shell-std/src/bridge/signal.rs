//! Wakes one waiting task, which then looks for itself what there is.

use smol::channel::{Receiver, Sender};

/// A signal; giving it twice is as giving it once.
#[derive(Debug)]
pub(crate) struct Signal {
    give: Sender<()>,
    take: Receiver<()>,
}

impl Default for Signal {
    fn default() -> Self {
        let (give, take) = smol::channel::bounded(1);
        Self { give, take }
    }
}

impl Signal {
    pub(crate) fn give(&self) {
        let _ = self.give.try_send(());
    }

    /// Waits until it is given.
    pub(crate) async fn wait(&self) {
        // Both ends are here: it cannot be closed.
        let _ = self.take.recv().await;
    }
}
