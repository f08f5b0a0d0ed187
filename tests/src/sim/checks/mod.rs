//! The invariants of docs/ARCHITECTURE.md, held against every step by an observer who
//! sees the whole world. Each check looks at the node of the step only.

mod deposits;
mod flows;
mod paid;
mod payments;
mod routes;
mod shares;

pub(super) use paid::{Paid, datagram};
pub(super) use payments::{Remembered, behind_accounts};
pub(super) use shares::Shares;

use super::World;
use super::bytes::Path;
use super::machine::{Action, Input, Step, Verdict};
use crate::payments::bank::OwnTerms;
use blvm_mesh_core::config::MAX_HOPS;
use blvm_mesh_core::id::{HopId, LinkId, NodeId};
use blvm_mesh_core::mesh::{Event, Priority};
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::Micros;
use blvm_mesh_core::wire::Kind;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A datagram that was sent on: node, link, source, destination, number.
type Sent = (usize, LinkId, NodeId, NodeId, u64);

/// What the one who sees everything remembers.
#[derive(Debug, Default)]
pub struct Checks {
    /// Payments that each node carried something for, over all time.
    spent: HashSet<(usize, [u8; 32])>,
    /// Paid packets that nodes carried, by what their sources signed and how.
    passed: HashMap<(usize, Vec<u8>), Passed>,
    /// Payloads that go free.
    pub free: HashSet<Vec<u8>>,
    /// Covenants that are funded, by their replay keys.
    pub coins: BTreeMap<[u8; 32], Funded>,
    /// Payments that were refused as used or for want of room, rightly.
    pub refused: HashSet<[u8; 32]>,
    /// Datagrams that nodes sent on, their ways, and whether they had a proof.
    went: HashMap<Sent, Vec<(Vec<HopId>, bool)>>,
    /// Datagrams that were handed over where they ended, by source and number.
    handed: HashSet<(usize, NodeId, u64)>,
    /// What destinations signed of the routes to them.
    confirmed: HashSet<[u8; 32]>,
    /// Nodes that lied, and may have signed anything.
    pub(super) lied: HashSet<usize>,
    /// How often things happened, so that no test passes because nothing did.
    pub counts: BTreeMap<String, u64>,
}

/// How often a node has carried a paid packet.
#[derive(Debug, Clone, Copy)]
struct Passed {
    /// In which of its runs, and how often in it.
    boot: u64,
    times: u8,
    /// When the last time, by its own clock.
    at: Micros,
}

/// What was paid by a covenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Funded {
    /// What for.
    pub terms: OwnTerms,
    /// How much, in millisatoshi.
    pub amount_msat: u64,
    /// What goes back to the source, in millisatoshi.
    pub back_msat: u64,
}

impl Checks {
    /// Counts something.
    pub fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(n) => *n += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
    }

    /// A datagram is handed over where it ends.
    pub(super) fn handed_over(&mut self, n: usize, source: NodeId, sequence: u64) {
        self.handed.insert((n, source, sequence));
    }
}

impl World {
    /// Holds one step against the invariants. Returns the payment for which the
    /// datagram goes on, if it is paid for.
    pub(super) fn check(
        &mut self,
        n: usize,
        input: &Input,
        step: &Step,
        path: &Path,
    ) -> Option<Paid> {
        self.count_events(step);
        let payment = if self.nodes[n].honest {
            self.one_verdict(n, input, step);
            self.refused_without_trace(n, input, step);
            self.no_node_twice(n, input, step, path);
            self.within_capacity(n, input, step);
            if self.watch == 1 {
                self.within_shares(n, input, step);
                self.errors_from_the_way(n, input, step);
            }
            self.receipts_are_true(n, step);
            self.refused_rightly(n, input, step);
            let paid = self.paid_for(n, input, step);
            self.flows_hold(n, input, step);
            self.remembers(n, input, step);
            paid
        } else {
            None
        };
        self.confirms(n, step);
        self.one_end_per_search(n, input, step);
        payment
    }

    fn count_events(&mut self, step: &Step) {
        for did in &step.actions {
            match did {
                Action::Verdict(Verdict::Reject { reason, .. }) | Action::Drop { reason, .. } => {
                    // The names, without numbers.
                    let text = format!("{reason:?}");
                    let name = text.split(|c: char| c != '(' && !c.is_alphabetic()).next();
                    self.checks.count(name.unwrap_or_default());
                }
                Action::Verdict(Verdict::Forward { priority: Priority::Paid, .. }) => {
                    self.checks.count("relayed for a payment");
                }
                Action::Verdict(Verdict::Forward { priority: Priority::Free, .. }) => {
                    self.checks.count("relayed free");
                }
                Action::Verdict(Verdict::Deliver { earned_msat: 1.., .. }) => {
                    self.checks.count("delivered with pay")
                }
                Action::Verdict(Verdict::Deliver { .. }) => self.checks.count("delivered"),
                Action::Publish(Event::RouteDiscovered { .. }) => self.checks.count("found"),
                Action::Publish(Event::RouteFailed { .. }) => self.checks.count("not found"),
                Action::Persist { record: Record::Floor(_), .. } => self.checks.count("floors"),
                _ => {}
            }
        }
    }

    /// I9.
    fn one_verdict(&self, n: usize, input: &Input, step: &Step) {
        let verdicts = step.actions.iter().filter(|a| matches!(a, Action::Verdict(_))).count();
        assert_eq!(verdicts, 1, "I9: node {n} had {input:?} and did {:#?}", step.actions);
    }

    /// I3.
    fn refused_without_trace(&self, n: usize, input: &Input, step: &Step) {
        let refused = |d: &Action| matches!(d, Action::Verdict(Verdict::Reject { .. }));
        if step.changed && step.actions.iter().any(refused) {
            panic!("I3: node {n} refused and remembers {input:?}: {:#?}", step.actions);
        }
    }

    /// I4.
    fn no_node_twice(&self, n: usize, input: &Input, step: &Step, path: &Path) {
        let kind = match input {
            Input::MessageReceived { packet: bytes, .. } | Input::Resumed { packet: bytes, .. } => {
                bytes.get(5)
            }
            _ => return,
        };
        let floods = kind == Some(&(Kind::RouteRequest as u8));
        let goes_on = |d: &Action| match d {
            Action::Verdict(Verdict::Forward { .. }) | Action::Verdict(Verdict::Deliver { .. }) => {
                true
            }
            Action::Send { packet: bytes, .. } => floods && bytes.get(5) == kind,
            _ => false,
        };
        if step.actions.iter().any(goes_on) {
            assert!(!path.contains(n), "I4: node {n} again on {path:?}: {input:?}");
            assert!(path.len() <= MAX_HOPS + 1, "I4: too long a way: {path:?}");
        }
    }
}
