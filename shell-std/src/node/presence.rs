//! Which neighbours have a link, for those who would dial them.

use blvm_mesh_core::id::NodeId;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

/// The neighbours with links.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    links: Mutex<HashMap<NodeId, Vec<smol::channel::Receiver<Infallible>>>>,
}

/// Held while a link is up.
#[derive(Debug)]
pub(crate) struct Present {
    _alive: smol::channel::Sender<Infallible>,
}

impl Presence {
    /// Notes a link; it lasts until the value returned is dropped.
    pub(crate) fn enter(&self, peer: NodeId) -> Present {
        let (alive, watch) = smol::channel::bounded(1);
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, watches| {
            watches.retain(|watch| !watch.is_closed());
            !watches.is_empty()
        });
        links.entry(peer).or_default().push(watch);
        Present { _alive: alive }
    }

    /// Waits until there is no link with the peer.
    pub(crate) async fn absent(&self, peer: &NodeId) {
        while let Some(watch) = self.first(peer) {
            // Nothing is ever sent: this ends when the link does.
            let _ = watch.recv().await;
        }
    }

    /// Whether there is a link with the peer.
    pub(crate) fn is_present(&self, peer: &NodeId) -> bool {
        self.first(peer).is_some()
    }

    fn first(&self, peer: &NodeId) -> Option<smol::channel::Receiver<Infallible>> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(peer)?.iter().find(|watch| !watch.is_closed()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_last_link() {
        let (presence, peer) = (Presence::default(), NodeId([1; 32]));
        smol::block_on(async {
            presence.absent(&peer).await;
            let (first, second) = (presence.enter(peer), presence.enter(peer));
            let _other = presence.enter(NodeId([2; 32]));
            let mut absent = Box::pin(presence.absent(&peer));
            drop(first);
            assert!(smol::future::poll_once(&mut absent).await.is_none());
            drop(second);
            absent.await;
        });
        assert_eq!(presence.links.lock().unwrap().len(), 2);
        presence.enter(NodeId([3; 32]));
        assert!(!presence.links.lock().unwrap().contains_key(&peer));
    }
}
