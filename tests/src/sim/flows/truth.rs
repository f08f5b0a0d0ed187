//! What was paid, carried and used, as the one knows it who sees every wallet and every packet.

use super::super::World;
use super::super::bytes::Path;
use super::lightning::Sale;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::FlowId;
use blvm_mesh_core::wire::datagram::{Datagram, Form};
use blvm_mesh_core::wire::flow::{self, FlowError, OpenTerms};
use blvm_mesh_core::wire::route_error::{Cause, RouteError};
use blvm_mesh_core::wire::{Header, Kind};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The latest Open of a source that a node has passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) struct Latest {
    pub(in crate::sim) number: u64,
    /// The neighbour from which it came.
    pub(in crate::sim) from: NodeId,
    /// The flow that it opened.
    pub(in crate::sim) flow: u64,
    /// Whether that was closed.
    pub(in crate::sim) closed: bool,
}

/// What a source has bought at a node in one of its runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sim) struct Run {
    pub(in crate::sim) number: u64,
    /// Bytes paid for.
    pub(in crate::sim) paid: u64,
    /// Bytes that either end of its flows has sent over the node.
    pub(in crate::sim) used: u64,
    /// Most bytes that were paid for at once, a step, and fewest.
    pub(in crate::sim) step: u64,
    pub(in crate::sim) least: u64,
    /// Most flows that it had at a time.
    pub(in crate::sim) flows: u64,
    /// It was told that nothing is left.
    pub(in crate::sim) told: bool,
}

/// What is true between a node that is paid and a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sim) struct Between {
    /// Bytes paid for, and what they cost, in millisatoshi.
    pub(in crate::sim) paid: u64,
    pub(in crate::sim) paid_msat: u64,
    /// Bytes that the node sent on.
    pub(in crate::sim) carried: u64,
    pub(in crate::sim) latest: Option<Latest>,
    /// Whether the source has opened a flow over a link of its own with the node.
    pub(in crate::sim) direct: bool,
    pub(in crate::sim) run: Run,
}

/// All of it.
#[derive(Debug, Default)]
pub(in crate::sim) struct Truth {
    /// By the node that is paid, and the source.
    pub(in crate::sim) between: BTreeMap<(usize, NodeId), Between>,
    /// Whose each flow is.
    pub(in crate::sim) sources: HashMap<u64, NodeId>,
    /// Opens that their sources made, but for the hop limit.
    pub(in crate::sim) made: HashSet<Vec<u8>>,
}

/// What a packet of data counts for.
fn metered(len: usize) -> u64 {
    (len as u64).max(64)
}

/// An Open, taken apart.
pub(in crate::sim) fn open_in(packet: &[u8]) -> Option<(Datagram<'_>, OpenTerms)> {
    let (header, body) = Header::parse(packet).ok()?;
    let datagram = Datagram::parse(header, body).ok().filter(|d| d.form == Form::Open)?;
    let terms = OpenTerms::parse(datagram.signed?.proof).ok()?;
    let number = flow::number(&datagram.source, &datagram.destination, &terms.random);
    (number == datagram.sequence).then_some((datagram, terms))
}

/// An Open without what changes on its way: the hop limit and the check.
pub(in crate::sim) fn without_place(packet: &[u8]) -> Vec<u8> {
    let mut same = packet.to_vec();
    same[7] = 0;
    same[20..24].fill(0);
    same
}

/// What kind of packet it is, and of which flow.
pub(in crate::sim) fn kind_of(packet: &[u8]) -> Option<(Kind, u64)> {
    let kind = Kind::from_u8(*packet.get(5)?)?;
    Some((kind, u64::from_le_bytes(*packet.get(8..)?.first_chunk()?)))
}

impl World {
    /// An invoice was paid. I13: a source has no more at a node than it may.
    pub(in crate::sim) fn bytes_paid(&mut self, payer: usize, sale: Sale) {
        let Sale { node, source, account, bytes, amount_msat, .. } = sale;
        // What a destination takes for receiving is bought beside what it relays.
        let is_own = self.id(payer) == source && account == source;
        let run = self.nodes[payer].boots;
        let own = |flow: &&super::Flow| {
            flow.ends[0] == payer && flow.runs[0] == run && flow.ended[0].is_none()
        };
        let flows = self.flows.all.values().filter(own).count() as u64;
        let between = self.flows.truth.between.entry((node, account)).or_default();
        between.paid = between.paid.saturating_add(bytes);
        between.paid_msat += amount_msat;
        if !is_own {
            return;
        }
        let this = &mut between.run;
        if this.number != run {
            *this = Run { number: run, least: bytes, ..Run::default() };
        }
        this.paid += bytes;
        this.step = this.step.max(bytes);
        this.least = this.least.min(bytes);
        this.flows = this.flows.max(flows);
        self.buys_within_bounds(payer, node);
    }

    /// A packet leaves the node that has made it or was given it.
    pub(in crate::sim) fn flow_packet_leaves(&mut self, n: usize, bytes: &[u8], path: &Path) {
        let Some((kind, number)) = kind_of(bytes) else { return };
        match (kind, path.len() > 1) {
            (Kind::Data, false) => self.data_used(number, bytes.len()),
            (Kind::Data, true) => {
                let Some(source) = self.flows.truth.sources.get(&number).copied() else { return };
                let between = self.flows.truth.between.entry((n, source)).or_default();
                between.carried += metered(bytes.len());
                self.carries_what_was_paid(n, source);
            }
            (Kind::Open, false) => {
                let Some((open, _)) = open_in(bytes) else { return };
                let hops = open.hops().filter_map(|hop| self.by_hop.get(&hop).copied()).collect();
                if let Some(flow) = self.flows.all.get_mut(&FlowId(number)) {
                    flow.hops = hops;
                }
            }
            (Kind::Open, true) => self.open_leaves(n, bytes),
            (Kind::Close, true) => {
                let Some(source) = self.flows.truth.sources.get(&number) else { return };
                let between = self.flows.truth.between.get_mut(&(n, *source));
                let latest = between.and_then(|b| b.latest.as_mut());
                if let Some(latest) = latest.filter(|latest| latest.flow == number) {
                    latest.closed = true;
                }
            }
            _ => {}
        }
    }

    /// Data that one of its ends has sent counts at each node on the way.
    fn data_used(&mut self, number: u64, len: usize) {
        let Some(flow) = self.flows.all.get(&FlowId(number)) else { return };
        let source = self.nodes[flow.ends[0]].id;
        for hop in &flow.hops {
            let between = self.flows.truth.between.get_mut(&(*hop, source));
            if let Some(between) = between.filter(|b| b.run.number == flow.runs[0]) {
                between.run.used += metered(len);
            }
        }
    }

    fn open_leaves(&mut self, n: usize, bytes: &[u8]) {
        let Some((open, terms)) = open_in(bytes) else { return };
        let from = self.before_on_the_way(&open, n);
        let (source, flow) = (open.source, open.sequence);
        let between = self.flows.truth.between.entry((n, source)).or_default();
        between.direct |= from == source;
        let number = terms.open_number;
        if between.latest.is_none_or(|latest| latest.number < number) {
            between.latest = Some(Latest { number, from, flow, closed: false });
        }
    }

    /// The node before this one on the route of an Open.
    pub(in crate::sim) fn before_on_the_way(&self, open: &Datagram<'_>, n: usize) -> NodeId {
        let me = self.id(n).hop();
        let at = open.hops().position(|hop| hop == me);
        let before = at.and_then(|at| at.checked_sub(1)).and_then(|at| open.hops().nth(at));
        let before = before.and_then(|hop| self.by_hop.get(&hop).copied());
        before.map_or(open.source, |n| self.id(n))
    }

    /// Whoever puts an Open of his own on a link has made it.
    pub(in crate::sim) fn open_made(&mut self, n: usize, bytes: &[u8]) {
        if let Some((open, _)) = open_in(bytes).filter(|(open, _)| open.source == self.id(n)) {
            self.flows.truth.sources.insert(open.sequence, open.source);
            self.flows.truth.made.insert(without_place(bytes));
        }
    }

    /// A node has lost power: what it had not written down may come again.
    pub(in crate::sim) fn flows_forgotten(&mut self, n: usize) {
        let volatile = self.nodes[n].config.payment.volatile;
        for ((node, _), between) in &mut self.flows.truth.between {
            if *node == n {
                match &mut between.latest {
                    latest if volatile => *latest = None,
                    Some(latest) => latest.closed = false,
                    None => {}
                }
            }
        }
    }

    /// A node may be told that nothing is left of what it has at others: on a flow, or because its
    /// Open was refused.
    pub(in crate::sim) fn told_of_nothing(&mut self, n: usize, packet: &[u8]) {
        let Ok((header, body)) = Header::parse(packet) else { return };
        let reporter = match header.kind {
            Kind::FlowError => FlowError::parse(header, body).ok().map(|e| (e.reporter, e.cause)),
            Kind::RouteError => {
                RouteError::parse(header, body).ok().map(|e| (e.reporter.hop(), e.cause))
            }
            _ => None,
        };
        let source = self.id(n);
        if let Some((reporter, Cause::NothingLeft)) = reporter
            && let Some(node) = self.by_hop.get(&reporter)
            && let Some(between) = self.flows.truth.between.get_mut(&(*node, source))
        {
            between.run.told = true;
        }
    }

    /// Bytes that a node has paid for at another, and those that it has used there and not paid for,
    /// by that one's account.
    pub fn paid_and_owed(&self, payer: usize, node: usize) -> (u64, u64) {
        let source = self.id(payer);
        let paid = self.flows.truth.between.get(&(node, source)).map_or(0, |b| b.paid);
        let machine = &self.nodes[node].machine;
        let account = crate::either!(machine, m => m.account(&source).copied());
        (paid, account.map_or(0, |account| account.owes()))
    }

    /// What the honest sources that paid a node have lost there, or have still to use: the most that
    /// one of them has, in millisatoshi.
    pub fn loss_msat_at(&self, n: usize) -> u64 {
        let lost = |b: &Between| {
            let bytes = b.paid.saturating_sub(b.carried);
            let msat = u128::from(b.paid_msat) * u128::from(bytes) / u128::from(b.paid.max(1));
            msat as u64
        };
        let honest = |source: &NodeId| {
            self.by_hop.get(&source.hop()).is_some_and(|source| self.nodes[*source].honest)
        };
        let all = self.flows.truth.between.iter();
        let there = all.filter(|((node, source), _)| *node == n && honest(source));
        there.map(|(_, between)| lost(between)).max().unwrap_or(0)
    }

    /// The same at the node where it is most.
    pub fn largest_loss_msat(&self) -> u64 {
        (0..self.nodes.len()).map(|n| self.loss_msat_at(n)).max().unwrap_or(0)
    }
}
