//! Connections to exposed services at once: bounded by the descriptors and the memory that they
//! take, with a share for each node that asks for them.

use super::memory::OF_STREAM;
use blvm_mesh_core::id::NodeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whatever the memory is.
const FEWEST: u64 = 64;

/// How many a node may have that keeps so much memory for its pipes: descriptors leave as many to
/// its links and everything else.
pub(crate) fn most(pipe_memory: u64, descriptors: Option<u64>) -> usize {
    let most = (pipe_memory / OF_STREAM).max(FEWEST);
    let most = descriptors.map_or(most, |descriptors| most.min(descriptors / 2));
    usize::try_from(most).unwrap_or(usize::MAX)
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_node: HashMap<NodeId, usize>,
}

/// All of them. A node may have another as long as it has fewer than are left: alone it has half,
/// two have a third each.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one for a connection of a node, until it is dropped.
    pub(super) fn take(self: &Arc<Self>, node: NodeId) -> Option<Place> {
        let mut taken = self.lock();
        let its = taken.by_node.get(&node).copied().unwrap_or_default();
        if its >= self.most.saturating_sub(taken.all) {
            return None;
        }
        taken.all += 1;
        taken.by_node.insert(node, its + 1);
        drop(taken);
        Some(Place { places: self.clone(), node })
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    node: NodeId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(its) = taken.by_node.get_mut(&self.node) {
            *its -= 1;
            if *its == 0 {
                taken.by_node.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 3] = [NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32])];

    fn all(places: &Arc<Places>, node: NodeId) -> Vec<Place> {
        std::iter::from_fn(|| places.take(node)).collect()
    }

    #[test]
    fn one_node_has_half_and_leaves_something_to_the_next() {
        let places = Places::new(2_048);
        let mut first = all(&places, NODES[0]);
        let second = all(&places, NODES[1]);
        assert_eq!((first.len(), second.len()), (1_024, 512));
        first.truncate(100);
        let third = all(&places, NODES[2]);
        assert_eq!(third.len(), 718);
        drop((first, second, third));
        assert!(places.lock().by_node.is_empty() && places.lock().all == 0);
        assert_eq!(all(&places, NODES[2]).len(), 1_024);
    }

    #[test]
    fn memory_and_descriptors_bound_them() {
        let default = super::super::memory::DEFAULT;
        assert_eq!(most(default, None), 4_096);
        assert_eq!(most(default, Some(1_024)), 512);
        assert_eq!(most(0, Some(1 << 20)), 64);
        assert_eq!(most(0, Some(64)), 32);
    }
}
