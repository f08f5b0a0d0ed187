//! Nodes that get no link, because the operator says so.

use crate::issuer::unix_now;
use blvm_mesh_core::id::NodeId;
use smol::channel::{Receiver, Sender};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A ban is looked at again after so long at the latest: the clock may be set.
const LOOK: Duration = Duration::from_secs(60);

/// The bans in force.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    bans: Mutex<BTreeMap<NodeId, Ban>>,
}

#[derive(Debug)]
struct Ban {
    /// In seconds since 1970; `None`: for ever.
    until: Option<u64>,
    /// Closed when the ban is lifted.
    watch: Receiver<Infallible>,
    _in_force: Sender<Infallible>,
}

impl Bans {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Ban>> {
        self.bans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bans these nodes, and no others.
    pub(crate) fn set(&self, bans: &BTreeMap<NodeId, Option<u64>>) {
        let mut all = self.lock();
        all.retain(|node, ban| bans.get(node).is_some_and(|until| *until == ban.until));
        for (node, until) in bans {
            all.entry(*node).or_insert_with(|| {
                let (in_force, watch) = smol::channel::bounded(1);
                Ban { until: *until, watch, _in_force: in_force }
            });
        }
    }

    /// Whether a node is banned now.
    pub(crate) fn is_banned(&self, node: &NodeId) -> bool {
        self.lock().get(node).is_some_and(|ban| ban.left(unix_now()) > 0)
    }

    /// Waits until a node is not banned.
    pub(crate) async fn lifted(&self, node: &NodeId) {
        loop {
            let (left, watch) = match self.lock().get(node) {
                Some(ban) => (ban.left(unix_now()), ban.watch.clone()),
                None => return,
            };
            if left == 0 {
                return;
            }
            let time = async {
                smol::Timer::after(Duration::from_secs(left).min(LOOK)).await;
            };
            let lifted = async {
                // Nothing is ever sent: this ends when the ban does.
                let _ = watch.recv().await;
            };
            smol::future::or(lifted, time).await;
        }
    }
}

impl Ban {
    /// Seconds that are left of it.
    fn left(&self, unix: u64) -> u64 {
        self.until.map_or(u64::MAX, |until| until.saturating_sub(unix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_ends_in_time_or_when_it_is_lifted() {
        let (forever, soon, past) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]));
        let bans = Bans::default();
        let mut wanted = BTreeMap::new();
        wanted.insert(forever, None);
        wanted.insert(soon, Some(unix_now() + 2));
        wanted.insert(past, Some(unix_now() - 1));
        bans.set(&wanted);
        assert_eq!([forever, soon, past].map(|node| bans.is_banned(&node)), [true, true, false]);
        smol::block_on(async {
            bans.lifted(&past).await;
            bans.lifted(&NodeId([4; 32])).await;
            let mut waits = Box::pin(bans.lifted(&forever));
            assert!(smol::future::poll_once(&mut waits).await.is_none());
            bans.lifted(&soon).await;
            assert!(!bans.is_banned(&soon));
            // Another one is banned: this one still is.
            wanted.insert(NodeId([4; 32]), None);
            bans.set(&wanted);
            assert!(smol::future::poll_once(&mut waits).await.is_none());
            wanted.remove(&forever);
            bans.set(&wanted);
            waits.await;
        });
        assert!(!bans.is_banned(&forever));
    }
}
