//! The applications at both ends of a flow. I12: what they read is what was written, in order,
//! once.

use super::super::World;
use super::super::bytes::Path;
use super::super::machine::{Action, Input, Verdict};
use super::super::world::Event;
use super::{Flow, Line, Wish};
use blvm_mesh_core::flow::end::{Event as StreamEvent, Read};
use blvm_mesh_core::mesh::{FlowEvent, FlowId};
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use std::collections::VecDeque;

/// Bytes that are given to a stream, or taken from it, at a time.
const PIECE: usize = 8 * 1024;

/// The bytes of a direction of a stream from a place on: no two places have the same.
fn bytes_at(flow: FlowId, writer: usize, stream: u32, from: u64, len: usize) -> Vec<u8> {
    let key = flow.0 ^ (writer as u64) << 63 ^ u64::from(stream) << 32;
    let word = |at: u64| {
        let mut z = (key ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).to_le_bytes()
    };
    let first = from / 8;
    let words = (from + len as u64).div_ceil(8) - first;
    let all: Vec<u8> = (first..first + words).flat_map(word).collect();
    let skip = (from % 8) as usize;
    all[skip..skip + len].to_vec()
}

impl World {
    /// An application opens a flow; `None` if the node takes no more.
    pub fn open_flow(&mut self, n: usize, to: usize, wish: Wish) -> Option<FlowId> {
        let (destination, budget_msat) = (self.id(to), wish.budget_msat);
        self.flows.wish = Some(wish);
        let did = self.input(n, Input::OpenFlow { destination, budget_msat });
        self.flows.wish = None;
        did.iter().find_map(|did| match did {
            Action::Verdict(Verdict::Opening { flow }) => Some(*flow),
            _ => None,
        })
    }

    /// A node takes flows of others, in each of its runs.
    pub fn take_flows(&mut self, n: usize) {
        self.flows.takes.insert(n);
        self.input(n, Input::AcceptFlows { accept: true });
    }

    /// A node has begun a flow.
    pub(in crate::sim) fn flow_begins(&mut self, n: usize, input: &Input, flow: FlowId) {
        let Input::OpenFlow { destination, .. } = input else { return };
        let Some(to) = self.by_hop.get(&destination.hop()).copied() else { return };
        let (run, wish) = (self.nodes[n].boots, self.flows.wish.unwrap_or_default());
        self.flows.all.insert(flow, Flow::new([n, to], run, wish));
        self.checks.count("flows begun");
        if let Some(after) = wish.close_after {
            self.at(self.now + after, Event::CloseFlow { node: n, boot: run, flow });
        }
    }

    /// Whether a flow's ends are held to the invariants.
    fn is_checked(&self, flow: &Flow) -> bool {
        flow.ends.iter().all(|n| self.nodes[*n].honest && !self.checks.lied.contains(n))
    }

    /// Something has happened to a flow that ends at a node.
    pub(in crate::sim) fn flow_event(&mut self, n: usize, number: FlowId, event: &FlowEvent) {
        let run = self.nodes[n].boots;
        if let FlowEvent::Accepted { source } = event {
            let from = self.by_hop.get(&source.hop()).copied();
            let mine = |flow: &&mut Flow| Some(flow.ends[0]) == from && flow.ends[1] == n;
            match self.flows.all.get_mut(&number).filter(mine) {
                Some(flow) => {
                    flow.runs[1] = run;
                    flow.accepted += 1;
                    flow.ended[1] = None;
                    self.checks.count("flows accepted");
                }
                None => {
                    let lied = |n: usize| !self.nodes[n].honest || self.checks.lied.contains(&n);
                    let liar = from.is_some_and(lied);
                    assert!(liar, "I12: node {n} takes a flow that {from:?} never opened to it");
                    self.checks.count("flows of liars accepted");
                }
            }
            return;
        }
        let Some(flow) = self.flows.all.get_mut(&number) else { return };
        let Some(side) = flow.ends.iter().position(|end| *end == n) else { return };
        if flow.runs[side] != run {
            return;
        }
        match event {
            FlowEvent::Opened => {
                flow.opened = true;
                self.checks.count("flows opened");
            }
            FlowEvent::Interrupted { .. } => {
                flow.interrupted += 1;
                self.checks.count("flows interrupted");
            }
            FlowEvent::BudgetSpent => self.checks.count("flow budgets spent"),
            FlowEvent::Ended(why) => {
                flow.ended[side] = Some(*why);
                let text = format!("{why:?}");
                let name = text.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
                self.checks.count(&format!("FlowEnded({name}"));
                // What has come can be read until this end is closed as well.
                let close = Event::CloseFlow { node: n, boot: run, flow: number };
                self.at(self.now + SECOND, close);
            }
            FlowEvent::Stream(StreamEvent::Opened(id)) => {
                let (live, accepted, wish) = (flow.live, flow.accepted, flow.wish);
                if side == 1 {
                    flow.live = live.or(Some(accepted));
                    let line = Line { length: wish.back, ..Line::default() };
                    flow.lines.entry((1, *id)).or_insert(line);
                }
            }
            FlowEvent::Stream(StreamEvent::Readable(id)) => {
                flow.readable[side].insert(*id);
                if flow.wish.slow {
                    let late = self.chance.below(500 * MILLISECOND);
                    let event = Event::Streams { node: n, boot: run, flow: number };
                    return self.at(self.now + late, event);
                }
            }
            _ => {}
        }
        self.flows.due.push((n, number));
    }

    /// The applications that have something to do at a node do it.
    pub(in crate::sim) fn call_applications(
        &mut self,
        n: usize,
        todo: &mut VecDeque<(Input, Path)>,
    ) {
        let mut due = std::mem::take(&mut self.flows.due);
        due.sort();
        due.dedup();
        for (at, flow) in due {
            if at == n {
                self.call_application(n, flow, todo);
            }
        }
    }

    /// The application of a flow reads, writes, and closes it when it has all.
    pub(in crate::sim) fn call_application(
        &mut self,
        n: usize,
        number: FlowId,
        todo: &mut VecDeque<(Input, Path)>,
    ) {
        let Some(flow) = self.flows.all.get(&number) else { return };
        let run = self.nodes[n].boots;
        let Some(side) = (0..2).find(|side| flow.ends[*side] == n && flow.runs[*side] == run)
        else {
            return;
        };
        let checked = self.is_checked(flow);
        let was_done = flow.is_done();
        let (read, used) = self.use_streams(n, number, side, checked);
        self.flows.delivered += read;
        if used {
            todo.push_back((Input::Streams { flow: number }, Path::default()));
        }
        let flow = &self.flows.all[&number];
        if flow.is_done() && !was_done {
            self.checks.count("flows done");
            if flow.wish.close {
                let (source, boot) = (flow.ends[0], flow.runs[0]);
                self.at(self.now, Event::CloseFlow { node: source, boot, flow: number });
            }
        }
    }

    /// Bytes read, and whether anything was done.
    fn use_streams(&mut self, n: usize, number: FlowId, side: usize, checked: bool) -> (u64, bool) {
        let machine = &mut self.nodes[n].machine;
        let Some(mut streams) = crate::either!(machine, m => m.streams(number)) else {
            return (0, false);
        };
        let Some(flow) = self.flows.all.get_mut(&number) else { return (0, false) };
        let (mut read, mut used) = (0, false);
        if side == 0 {
            let mut open = flow.lines.keys().filter(|(writer, _)| *writer == 0).count() as u32;
            while open < flow.wish.streams
                && let Ok(id) = streams.open()
            {
                let line = Line { length: flow.wish.bytes, ..Line::default() };
                flow.lines.insert((0, id), line);
                (open, used) = (open + 1, true);
            }
        }
        let mut buffer = [0; PIECE];
        for id in std::mem::take(&mut flow.readable[side]) {
            used = true;
            while let Ok(got) = streams.read(id, &mut buffer) {
                if got == Read::Blocked {
                    break;
                }
                let again = checked && side == 1 && flow.live != Some(flow.accepted);
                assert!(!again, "I12: {number:?} has come to node {n} a second time");
                let from = 1 - side;
                let Some(line) = flow.lines.get_mut(&(from, id)) else {
                    assert!(!checked, "I12: node {n} reads of stream {id}, where nobody wrote");
                    break;
                };
                let Read::Bytes(len) = got else {
                    let all = line.finished && line.read == line.written && got == Read::Finished;
                    assert!(all || !checked, "I12: node {n}, stream {id}: {got:?} after {line:?}");
                    line.whole = all;
                    break;
                };
                let right = bytes_at(number, from, id, line.read, len);
                let same = buffer[..len] == right[..];
                assert!(
                    same || !checked,
                    "I12: node {n} reads something else of stream {id}: {line:?}"
                );
                line.read += len as u64;
                let sent = line.read <= line.written;
                assert!(sent || !checked, "I12: more is read than was written: {line:?}");
                read += len as u64;
            }
        }
        for ((writer, id), line) in &mut flow.lines {
            if *writer != side || line.finished {
                continue;
            }
            while line.written < line.length {
                let len = (line.length - line.written).min(PIECE as u64) as usize;
                let piece = bytes_at(number, side, *id, line.written, len);
                let Ok(taken) = streams.write(*id, &piece) else { break };
                line.written += taken as u64;
                used |= taken > 0;
                if taken < len {
                    break;
                }
            }
            if line.written == line.length && streams.finish(*id).is_ok() {
                (line.finished, used) = (true, true);
            }
        }
        (read, used)
    }
}
