//! The memory of the pipes between applications and their streams: bounded in all, so that those
//! who open flows to this node cannot fill it.
//!
//! - A pipe may always keep [`LEAST`] bytes in each direction, so that no stream stands still.
//! - Beyond that, flows of others have half of the memory at most. Another node may add while its
//!   flows hold less of that than is left: alone they take a quarter of the memory, and those of
//!   many nodes equal parts.
//! - What those leave is for flows that this node has opened.
//!
//! What a pipe has no room for stays in the state machine's window of the stream, or with the
//! application that writes it; nothing is lost.

use crate::rpc::types::PipeStats;
use blvm_mesh_core::id::NodeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What hosts that set no limit have, in bytes.
pub(crate) const DEFAULT: u64 = 64 * 1024 * 1024;
/// Bytes that a pipe may keep in each direction, however much others keep.
pub(super) const LEAST: usize = 2 * 1024;

/// Bytes for each connection to an exposed service: as many may be open as there is that memory
/// for. Most have less in their pipes, and some more.
pub(super) const OF_STREAM: u64 = 16 * 1024;

/// Whose pipe it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// This node has opened the flow.
    Own,
    /// Another node has.
    Other(NodeId),
}

#[derive(Debug, Default)]
struct Used {
    streams: u64,
    own: u64,
    others: u64,
    by_node: HashMap<NodeId, u64>,
    most: u64,
}

impl Used {
    fn all(&self) -> u64 {
        self.own.saturating_add(self.others)
    }
}

/// The memory of all pipes of a node.
#[derive(Debug)]
pub(crate) struct PipeMemory {
    limit: u64,
    used: Mutex<Used>,
}

impl PipeMemory {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of one pipe, which holds nothing.
    pub(super) fn part(self: &Arc<Self>, owner: Owner) -> Part {
        self.lock().streams += 1;
        Part { memory: self.clone(), owner, held: 0 }
    }

    /// What is kept in pipes.
    pub(crate) fn stats(&self) -> PipeStats {
        let used = self.lock();
        PipeStats {
            streams: used.streams,
            bytes: used.all(),
            bytes_of_others: used.others,
            bytes_most: used.most,
            bytes_limit: self.limit,
        }
    }
}

/// What one pipe holds.
#[derive(Debug)]
pub(super) struct Part {
    memory: Arc<PipeMemory>,
    owner: Owner,
    held: u64,
}

impl Part {
    /// Bytes that the pipe may take in addition.
    pub(super) fn room(&self) -> usize {
        let used = self.memory.lock();
        let all = self.memory.limit.saturating_sub(used.all());
        let room = match &self.owner {
            Owner::Own => all,
            Owner::Other(node) => {
                let left = (self.memory.limit / 2).saturating_sub(used.others);
                let its = used.by_node.get(node).copied().unwrap_or_default();
                all.min(left.saturating_sub(its))
            }
        };
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// It holds so much now.
    pub(super) fn set(&mut self, held: usize) {
        let held = held as u64;
        if held == self.held {
            return;
        }
        let mut used = self.memory.lock();
        let change = |sum: u64| sum.saturating_sub(self.held).saturating_add(held);
        match self.owner {
            Owner::Own => used.own = change(used.own),
            Owner::Other(node) => {
                used.others = change(used.others);
                let its = used.by_node.entry(node).or_default();
                *its = change(*its);
                if *its == 0 {
                    used.by_node.remove(&node);
                }
            }
        }
        used.most = used.most.max(used.all());
        drop(used);
        self.held = held;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
        let mut used = self.memory.lock();
        used.streams = used.streams.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> Owner {
        Owner::Other(NodeId([n; 32]))
    }

    /// Takes as much as there is room for.
    fn fill(memory: &Arc<PipeMemory>, owner: Owner) -> Part {
        let mut part = memory.part(owner);
        for _ in 0..64 {
            part.set(part.held as usize + part.room().div_ceil(2));
        }
        part
    }

    #[test]
    fn others_share_half_and_cannot_take_what_is_this_nodes() {
        let memory = PipeMemory::new(1_000_000);
        let a = fill(&memory, node(1));
        assert!((249_000..251_000).contains(&a.held), "{}", a.held);
        // More streams of the same node gain nothing.
        assert!(fill(&memory, node(1)).held < 1_000);
        let b = fill(&memory, node(2));
        assert!(b.held > 100_000, "{}", b.held);
        let parts: Vec<_> = (3..40).map(|n| fill(&memory, node(n))).collect();
        assert!(memory.stats().bytes_of_others <= 500_000);
        let own = fill(&memory, Owner::Own);
        assert!(own.held >= 500_000, "{}", own.held);
        let stats = memory.stats();
        assert_eq!((stats.streams, stats.bytes_limit), (40, 1_000_000));
        assert!(stats.bytes <= 1_000_000 && stats.bytes == stats.bytes_most);
        drop((a, b, own, parts));
        let stats = memory.stats();
        assert_eq!((stats.streams, stats.bytes, stats.bytes_of_others), (0, 0, 0));
        assert!(memory.lock().by_node.is_empty());
    }
}
