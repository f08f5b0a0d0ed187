//! The neighbours that are dialled, each by a task of its own. They may change while the node runs.

use super::dial;
use super::link::Carrier;
use crate::address::{HostPorts, PeerAddress, Place};
use secp256k1::PublicKey;
use smol::Task;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a neighbour is dialled, and the task that does it.
type Dialled = (HostPorts, Task<()>);

/// The tasks that dial.
pub(crate) struct Dialers {
    carrier: Arc<Carrier>,
    /// `None`: the node stops.
    tasks: Mutex<Option<BTreeMap<PublicKey, Dialled>>>,
}

impl Dialers {
    pub(super) fn new(carrier: Arc<Carrier>) -> Self {
        Self { carrier, tasks: Mutex::new(Some(BTreeMap::new())) }
    }

    /// Dials these peers, and no others: those that have stayed where they were are left alone.
    /// Links that there are stay. Peers on other transports are passed over.
    pub(crate) fn set(&self, peers: &[PeerAddress]) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tasks) = &mut *tasks else { return };
        let wanted = |key: &PublicKey| {
            let peer = peers.iter().find(|peer| peer.public_key == *key)?;
            if let Place::Tcp(at) = &peer.place { Some(at) } else { None }
        };
        tasks.retain(|key, (at, _)| wanted(key) == Some(at));
        for peer in peers {
            let (key, Place::Tcp(at)) = (peer.public_key, &peer.place) else { continue };
            tasks.entry(key).or_insert_with(|| {
                let keep = dial::keep(key, at.clone(), self.carrier.clone());
                (at.clone(), self.carrier.ways.executor.spawn(keep))
            });
        }
    }

    /// Dials nobody any more.
    pub(crate) fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
