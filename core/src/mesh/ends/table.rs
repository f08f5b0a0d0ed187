//! The ends of flows at this node.

use super::deposits::Deposits;
use super::held::HeldBytes;
use super::leaving::{FAREWELL_PATHS, FAREWELL_PAUSE};
use super::source::Source;
use super::{SENDS, Way};
use crate::flow::end::{self, EndStats, LimitedStreams, NotOpen, Read};
use crate::id::{HopId, NodeId};
use crate::link::aead::RustCrypto;
use crate::mesh::flow_api::FlowId;
use crate::mesh::view::OwnFlow;
use crate::time::Micros;
use crate::wire::flow::ACT_LEN;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::fmt;

pub(super) type End = end::End<RustCrypto>;

/// Which end of a flow this node is.
#[derive(Debug)]
pub(super) enum Role {
    Source(Box<Source>),
    Destination {
        act_one: [u8; ACT_LEN],
        act_two: [u8; ACT_LEN],
        open_number: u64,
        /// Bytes of memory that its streams may take.
        memory: u64,
        /// The neighbour that brought its latest Open.
        via: HopId,
    },
}

/// An end that is over, and not forgotten yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// It was ended here, and goes when its peer knows.
    pub(super) here: bool,
    /// How often the peer is still told over this path, and over how many paths.
    pub(super) tells: u8,
    pub(super) paths: u8,
    /// When it is told again, or the end forgotten.
    pub(super) at: Micros,
}

impl Leaving {
    /// Until the peer is told again.
    pub(super) fn pause(&self) -> Micros {
        FAREWELL_PAUSE << (2 * FAREWELL_PATHS.saturating_sub(self.paths)).min(16)
    }
}

/// One end of a flow.
#[derive(Debug)]
pub(super) struct FlowEnd {
    /// Who is at the other end.
    pub(super) peer: NodeId,
    pub(super) role: Role,
    /// `None`: the destination has not answered yet.
    pub(super) end: Option<Box<End>>,
    /// `None`: no path is known.
    pub(super) way: Option<Way>,
    /// It waits until its route goes on, or another.
    pub(super) stopped: bool,
    /// When an authentic packet last came, and for how long none may come.
    pub(super) heard: Micros,
    pub(super) idle: Micros,
    /// The same once one came.
    idle_then: Micros,
    /// Its application was told that it is over.
    pub(super) leaving: Option<Leaving>,
    since: Micros,
    in_ready: bool,
    due: Option<Micros>,
}

impl FlowEnd {
    /// `idle`: for how long nothing may come, at first and from the first authentic packet on.
    pub(super) fn new(
        peer: NodeId,
        role: Role,
        now: Micros,
        [idle, idle_then]: [Micros; 2],
    ) -> Self {
        Self {
            idle_then,
            peer,
            role,
            end: None,
            way: None,
            stopped: false,
            heard: now,
            idle,
            leaving: None,
            since: now,
            in_ready: false,
            due: None,
        }
    }

    /// An authentic packet came: from the first one on it may be idle for as long as its Open said.
    pub(super) fn heard_from(&mut self, now: Micros) {
        self.heard = now;
        self.idle = self.idle_then;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some() || self.end.as_ref().is_some_and(|end| end.is_over())
    }

    /// The neighbour that brought its Open, if others have opened it.
    fn via(&self) -> Option<HopId> {
        match &self.role {
            Role::Source(_) => None,
            Role::Destination { via, .. } => Some(*via),
        }
    }

    /// Whether it was ended here, and the peer may not know.
    pub(super) fn is_telling(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_closing())
    }

    /// Whether its packets can go their way, as far as is known.
    pub(super) fn has_path(&self) -> bool {
        self.way.is_some() && !self.stopped && self.end.is_some()
    }

    /// Whether relays take bytes from accounts for it.
    pub(super) fn is_paid(&self) -> bool {
        match &self.role {
            Role::Source(source) => source.is_paid(),
            Role::Destination { .. } => true,
        }
    }

    /// When it ends because nothing came.
    pub(super) fn idle_at(&self) -> Micros {
        self.heard.saturating_add(self.idle)
    }

    /// Bytes that both ends have sent, as far as is known.
    pub(super) fn used(&self) -> u64 {
        self.stats().map_or(0, |stats| stats.sent.saturating_add(stats.peer_sent))
    }

    pub(super) fn stats(&self) -> Option<EndStats> {
        self.end.as_ref().map(|end| end.stats())
    }

    /// Bytes that were bought for it and not used.
    pub(super) fn left(&self) -> u64 {
        match &self.role {
            Role::Source(source) => source.allotted.saturating_sub(self.used()),
            Role::Destination { .. } => 0,
        }
    }

    /// When to look at it next. What is due already, and could not be done, waits for whatever
    /// holds it up.
    pub(super) fn next_due(&self, now: Micros) -> Option<Micros> {
        let leaves = self.leaving.map(|leaving| leaving.at);
        let timeout = self.end.as_ref().and_then(|end| end.next_timeout());
        let source = match &self.role {
            Role::Source(source) => source.due(),
            Role::Destination { .. } => None,
        };
        let keep = match &self.role {
            Role::Source(_) => Some(self.heard.saturating_add(self.idle / 2)),
            Role::Destination { .. } => None,
        };
        let next = [leaves, timeout, source, keep, Some(self.idle_at())];
        next.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// What is shown of it.
    pub(super) fn view(&self, number: u64) -> OwnFlow {
        let (hops, opened, allotted, paid_msat) = match &self.role {
            Role::Source(s) => (s.hops(), true, s.allotted, s.spent_msat),
            Role::Destination { .. } => (Vec::new(), false, 0, 0),
        };
        OwnFlow {
            flow: FlowId(number),
            peer: self.peer,
            opened,
            up: self.way.is_some() && self.end.is_some(),
            hops,
            allotted,
            paid_msat,
            since: self.since,
            heard: self.heard,
            stats: self.stats().unwrap_or_default(),
        }
    }
}

/// All ends.
#[derive(Debug)]
pub(in crate::mesh) struct Ends {
    ends: BTreeMap<u64, Box<FlowEnd>>,
    capacity: usize,
    /// Those that may have something to tell or to send, in turn.
    ready: VecDeque<u64>,
    /// Those that wait for room in a link's queue.
    blocked: Vec<u64>,
    due: BTreeSet<(Micros, u64)>,
    /// How many flows of others each neighbour has brought.
    via: BTreeMap<HopId, usize>,
    /// Packets that may be sent before the next input.
    pub(super) sends_left: usize,
    /// Whether flows of others are taken.
    pub(super) accepts: bool,
    /// Bytes of memory that streams of others' flows may still take.
    pub(super) memory: u64,
    /// The number of the last Open of this node; 0: it has sent none in this run.
    pub(super) opens: u64,
    /// What this node has bought elsewhere.
    pub(super) held: HeldBytes,
    /// Own proofs that several nodes share.
    pub(super) deposits: Deposits,
}

impl Ends {
    pub(crate) const EMPTY: Self = Self {
        ends: BTreeMap::new(),
        capacity: 0,
        ready: VecDeque::new(),
        blocked: Vec::new(),
        due: BTreeSet::new(),
        via: BTreeMap::new(),
        sends_left: 0,
        accepts: false,
        memory: 0,
        opens: 0,
        held: HeldBytes::EMPTY,
        deposits: Deposits::EMPTY,
    };

    /// Makes room for so many, whose streams take at most `memory` bytes where others have opened
    /// them.
    pub(crate) fn prepare(&mut self, capacity: usize, memory: u64) {
        self.capacity = capacity;
        self.memory = memory;
    }

    pub(crate) fn begin_input(&mut self) {
        self.sends_left = SENDS;
    }

    /// Whether something is left to send for which nothing need come in.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= self.capacity
    }

    /// One that is over and waits only for its peer to hear of it; of those that this neighbour has
    /// brought, if one is named.
    pub(super) fn dispensable(&self, via: Option<HopId>) -> Option<u64> {
        let is = |end: &FlowEnd| end.leaving.is_some() && (via.is_none() || end.via() == via);
        self.iter().find(|(_, end)| is(end)).map(|(number, _)| number)
    }

    /// How many were brought by a neighbour, over whose path they need no longer go.
    pub(super) fn count_via(&self, hop: HopId) -> usize {
        self.via.get(&hop).copied().unwrap_or_default()
    }

    /// The flow of an end was opened by way of this neighbour.
    pub(super) fn set_via(&mut self, number: u64, hop: HopId) {
        let Some(entry) = self.ends.get_mut(&number) else { return };
        if let Role::Destination { via, .. } = &mut entry.role {
            let before = core::mem::replace(via, hop);
            self.uncount(before);
            *self.via.entry(hop).or_default() += 1;
        }
    }

    fn uncount(&mut self, hop: HopId) {
        if let Some(count) = self.via.get_mut(&hop) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.via.remove(&hop);
            }
        }
    }

    /// Drops what the streams of an end hold that is over.
    pub(super) fn drop_streams(&mut self, number: u64) {
        let Some(entry) = self.ends.get_mut(&number) else { return };
        if let Some(end) = &mut entry.end {
            end.drop_streams();
        }
        if let Role::Destination { memory, .. } = &mut entry.role {
            self.memory = self.memory.saturating_add(core::mem::take(memory));
        }
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut FlowEnd> {
        self.ends.get_mut(&number).map(|end| &mut **end)
    }

    pub(super) fn get(&self, number: u64) -> Option<&FlowEnd> {
        self.ends.get(&number).map(|end| &**end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &FlowEnd)> {
        self.ends.iter().map(|(number, end)| (*number, &**end))
    }

    pub(super) fn insert(&mut self, number: u64, end: FlowEnd) {
        if let Some(hop) = end.via() {
            *self.via.entry(hop).or_default() += 1;
        }
        self.ends.insert(number, Box::new(end));
        self.make_ready(number);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<FlowEnd> {
        self.set_due(number, None);
        self.blocked.retain(|blocked| *blocked != number);
        let end = *self.ends.remove(&number)?;
        if let Role::Destination { memory, via, .. } = &end.role {
            self.memory = self.memory.saturating_add(*memory);
            self.uncount(*via);
        }
        Some(end)
    }

    pub(super) fn make_ready(&mut self, number: u64) {
        if let Some(end) = self.ends.get_mut(&number)
            && !core::mem::replace(&mut end.in_ready, true)
        {
            self.ready.push_back(number);
        }
    }

    /// The next that may have something to tell or to send; none if no more may be sent before
    /// the next input.
    pub(super) fn next_ready(&mut self) -> Option<u64> {
        if self.sends_left == 0 {
            return None;
        }
        let number = self.ready.pop_front()?;
        if let Some(end) = self.ends.get_mut(&number) {
            end.in_ready = false;
        }
        Some(number)
    }

    pub(super) fn sent_one(&mut self) {
        self.sends_left = self.sends_left.saturating_sub(1);
    }

    pub(super) fn block(&mut self, number: u64) {
        if !self.blocked.contains(&number) {
            self.blocked.push(number);
        }
    }

    pub(super) fn unblock(&mut self) {
        for number in core::mem::take(&mut self.blocked) {
            self.make_ready(number);
        }
    }

    pub(super) fn set_due(&mut self, number: u64, due: Option<Micros>) {
        let Some(end) = self.ends.get_mut(&number) else { return };
        let before = core::mem::replace(&mut end.due, due);
        if before != due {
            if let Some(before) = before {
                self.due.remove(&(before, number));
            }
            if let Some(due) = due {
                self.due.insert((due, number));
            }
        }
    }

    pub(super) fn take_due(&mut self, now: Micros) -> Option<u64> {
        let (due, number) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.set_due(number, None);
        Some(number)
    }

    pub(super) fn next_due(&self) -> Option<Micros> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Those whose packets go to this neighbour.
    pub(super) fn by_way(&self, hop: HopId) -> Vec<u64> {
        let its = |end: &FlowEnd| end.way.is_some_and(|way| way.hop == hop);
        self.iter().filter(|(_, end)| its(end)).map(|(number, _)| number).collect()
    }

    /// Sources whose flow satisfies this.
    pub(super) fn sources(&self, wanted: impl Fn(&FlowEnd, &Source) -> bool) -> Vec<u64> {
        let is = |end: &FlowEnd| match &end.role {
            Role::Source(source) => wanted(end, source),
            Role::Destination { .. } => false,
        };
        self.iter().filter(|(_, end)| is(end)).map(|(number, _)| number).collect()
    }

    /// The source of a flow, and its end.
    pub(super) fn source(&mut self, number: u64) -> Option<(&mut Source, &mut Option<Box<End>>)> {
        let entry = self.ends.get_mut(&number)?;
        match &mut entry.role {
            Role::Source(source) => Some((source, &mut entry.end)),
            Role::Destination { .. } => None,
        }
    }

    /// The source of a flow, to look at.
    pub(super) fn source_of(&self, number: u64) -> Option<&Source> {
        match &self.ends.get(&number)?.role {
            Role::Source(source) => Some(source),
            Role::Destination { .. } => None,
        }
    }
}

/// The application's side of a flow's streams.
pub struct Streams<'m>(&'m mut End);

impl<'m> Streams<'m> {
    pub(super) fn new(end: &'m mut End) -> Self {
        Self(end)
    }

    /// Opens a stream, of which the peer hears with the next packet.
    ///
    /// # Errors
    /// [`LimitedStreams`].
    pub fn open(&mut self) -> Result<u32, LimitedStreams> {
        self.0.open_stream()
    }

    /// Takes bytes to send, as many as there is room for.
    ///
    /// # Errors
    /// [`NotOpen`]: the stream is finished, was reset, or does not exist.
    pub fn write(&mut self, stream: u32, data: &[u8]) -> Result<usize, NotOpen> {
        self.0.write(stream, data)
    }

    /// No more bytes come on a stream.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn finish(&mut self, stream: u32) -> Result<(), NotOpen> {
        self.0.finish(stream)
    }

    /// Gives a stream up: what has not arrived is dropped.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn reset(&mut self, stream: u32, code: u32) -> Result<(), NotOpen> {
        self.0.reset(stream, code)
    }

    /// Wants no more of what the peer sends on a stream.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn stop(&mut self, stream: u32, code: u32) -> Result<(), NotOpen> {
        self.0.stop(stream, code)
    }

    /// Takes bytes that came in.
    ///
    /// # Errors
    /// [`NotOpen`].
    pub fn read(&mut self, stream: u32, out: &mut [u8]) -> Result<Read, NotOpen> {
        self.0.read(stream, out)
    }

    /// Counts and measurements.
    pub fn stats(&self) -> EndStats {
        self.0.stats()
    }
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streams(..)")
    }
}
