//! Flows of a world: what the applications at both ends do, who pays for it, and the truth about
//! all of it, which no node keeps.

mod app;
mod drawn;
mod lightning;
pub(in crate::sim) mod truth;

pub use lightning::{Habit, Lightning, Sale};
pub(in crate::sim) use truth::Truth;

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{FlowEnded, FlowId};
use blvm_mesh_core::time::Micros;
use std::collections::{BTreeMap, BTreeSet};

/// What an application wants of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Streams that it opens.
    pub streams: u32,
    /// Bytes on each of them.
    pub bytes: u64,
    /// Bytes that come back on each of them.
    pub back: u64,
    /// What it may cost, in millisatoshi.
    pub budget_msat: u64,
    /// Whether both ends read only now and then.
    pub slow: bool,
    /// Whether it closes the flow when all has come.
    pub close: bool,
    /// When it closes the flow, whatever has come.
    pub close_after: Option<Micros>,
}

impl Default for Wish {
    /// Ten kilobytes in one stream, and nothing back.
    fn default() -> Self {
        Self {
            streams: 1,
            bytes: 10_000,
            back: 0,
            budget_msat: 1 << 40,
            slow: false,
            close: true,
            close_after: None,
        }
    }
}

/// One direction of a stream: what was written to it, and what was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    length: u64,
    written: u64,
    finished: bool,
    read: u64,
    whole: bool,
}

/// A flow, as one knows it who sees both ends.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Its source and its destination.
    pub ends: [usize; 2],
    /// What its source wants.
    pub wish: Wish,
    /// Whether its streams could be used.
    pub opened: bool,
    /// Why it ended at either end, if it did.
    pub ended: [Option<FlowEnded>; 2],
    /// How often it was stopped on its route.
    pub interrupted: u64,
    /// The nodes between its ends, by the latest Open that was sent.
    pub hops: Vec<usize>,
    /// In which runs of the ends it is; of the destination 0, before it knows of it.
    runs: [u64; 2],
    /// How often the destination took it for a new one, and which of these has the streams.
    accepted: u64,
    live: Option<u64>,
    /// By who writes, and the stream.
    lines: BTreeMap<(usize, u32), Line>,
    readable: [BTreeSet<u32>; 2],
}

impl Flow {
    fn new(ends: [usize; 2], run: u64, wish: Wish) -> Self {
        Self {
            ends,
            wish,
            opened: false,
            ended: [None; 2],
            interrupted: 0,
            hops: Vec::new(),
            runs: [run, 0],
            accepted: 0,
            live: None,
            lines: BTreeMap::new(),
            readable: Default::default(),
        }
    }

    /// Whether everything that was wanted has arrived, at both ends.
    pub fn is_done(&self) -> bool {
        self.lines.len() as u64 == 2 * u64::from(self.wish.streams)
            && self.lines.values().all(|line| line.whole)
    }

    /// Whether it is open at its source, in this run of it.
    pub(super) fn is_open_at(&self, n: usize, run: u64) -> bool {
        let there = (self.ends[0], self.runs[0]) == (n, run);
        there && self.opened && self.ended[0].is_none()
    }

    /// Bytes that were read at both ends.
    pub fn arrived(&self) -> u64 {
        self.lines.values().map(|line| line.read).sum()
    }
}

/// All flows of a world.
#[derive(Debug, Default)]
pub struct Flows {
    /// By number, every one that an application opened.
    pub all: BTreeMap<FlowId, Flow>,
    /// Who takes flows of others.
    pub takes: BTreeSet<usize>,
    /// Who has taken the money and carries nothing: it passes on no data.
    pub embezzles: BTreeSet<usize>,
    /// Bytes that were read, at all ends.
    pub delivered: u64,
    /// What was paid and carried.
    pub(super) truth: Truth,
    /// What the next flow is for.
    wish: Option<Wish>,
    /// Flows whose application is to be called, with the node.
    due: Vec<(usize, FlowId)>,
}

impl super::World {
    /// Whether a node may look for another by itself: it has begun a flow to it in this run, or buys
    /// there.
    pub(super) fn has_flow_to(&self, n: usize, to: &NodeId) -> bool {
        let run = self.nodes[n].boots;
        let whom = self.by_hop.get(&to.hop());
        let is =
            |flow: &Flow| flow.ends[0] == n && flow.runs[0] == run && whom == Some(&flow.ends[1]);
        // A source looks for whomever it has paid, and for who writes the invoices of a node.
        self.flows.all.values().any(is)
            || self.lightning.has_paid(n, to)
            || self.nodes.iter().any(|node| node.config.flows.cashier == Some(*to))
    }
}
