//! I11 and I13: a node carries for a source what that has paid for, and a source pays no node far
//! ahead.

use super::super::World;
use super::super::flows::truth::{Between, open_in, without_place};
use super::super::machine::{Action, Input, Step, Verdict};
use super::super::wires::conn_of;
use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::flow::accounts::receiving;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::wire::Kind;
use std::collections::BTreeMap;

/// What flows have left over is used alone if it is as much.
const LEAST: u64 = 64 * 1024;

impl World {
    /// What a step of an honest node does about flows.
    pub(super) fn flows_hold(&mut self, n: usize, input: &Input, step: &Step) {
        for did in &step.actions {
            match did {
                Action::Verdict(Verdict::Forward { packet, .. })
                    if packet.get(5) == Some(&(Kind::Open as u8)) =>
                {
                    self.open_is_in_order(n, input, packet);
                }
                Action::Pay { node, bytes, amount_msat, invoice, .. } => {
                    self.pays_whom_it_asked(n, *node, (*bytes, *amount_msat), invoice);
                }
                _ => {}
            }
        }
        if let Input::MessageReceived { packet, .. } = input {
            self.told_of_nothing(n, packet);
        }
        // What an account holds is known when all records are back.
        if !matches!(input, Input::Persisted { .. }) {
            self.keeps_what_was_paid(n);
        }
    }

    /// I11: an Open is its source's, comes from the node before on its route, and serves once.
    fn open_is_in_order(&mut self, n: usize, input: &Input, packet: &[u8]) {
        let Input::MessageReceived { link, packet: came } = input else { return };
        let Some((open, terms)) = open_in(packet) else {
            panic!("I11: node {n} passes on as an Open what is none: {input:?}");
        };
        self.checks.count("opens passed on");
        let made = self.flows.truth.made.contains(&without_place(came));
        assert!(made, "I11: node {n} takes an Open that its source never made: {input:?}");
        let (conn, side) = conn_of(*link);
        let from = self.id(self.conns[conn].ends[1 - side]);
        let before = self.before_on_the_way(&open, n);
        assert_eq!(from, before, "I11: node {n} takes an Open from another neighbour");
        if self.nodes[n].config.mode == MeshMode::Open {
            return;
        }
        let between = self.flows.truth.between.entry((n, open.source)).or_default();
        between.direct |= from == open.source;
        let Some(latest) = between.latest else { return };
        let number = terms.open_number;
        let again = number == latest.number && from == latest.from && !latest.closed;
        assert!(
            number > latest.number || again,
            "I11: node {n} takes Open {number:x} from {from:?} after {latest:?}"
        );
    }

    /// I13: what is paid is the invoice of the node that is meant, over what was asked for.
    fn pays_whom_it_asked(
        &mut self,
        n: usize,
        node: NodeId,
        (bytes, msat): (u64, u64),
        text: &[u8],
    ) {
        let honest = |m: &&usize| self.nodes[**m].honest && !self.checks.lied.contains(*m);
        let Some(payee) = self.by_hop.get(&node.hop()).filter(honest) else { return };
        let sale = self.lightning.invoices.get(text).map(|written| written.sale);
        let right = sale.is_some_and(|s| {
            (s.node, s.source, s.bytes, s.amount_msat) == (*payee, self.id(n), bytes, msat)
        });
        assert!(right, "I13: node {n} pays {sale:?} where it wants {bytes} bytes of {payee}");
    }

    /// Bytes that a source may owe a node: only if it has opened a flow over a link of its own.
    fn may_owe(&self, n: usize, source: NodeId) -> u64 {
        let direct = self.flows.truth.between.get(&(n, source)).is_some_and(|b| b.direct);
        let credit = self.nodes[n].config.credit.get(&source).copied();
        credit.filter(|_| direct).unwrap_or_default()
    }

    /// I11: nothing has passed a node that was not paid for, or may be owed.
    pub(in crate::sim) fn carries_what_was_paid(&mut self, n: usize, source: NodeId) {
        let node = &self.nodes[n];
        if !node.honest || self.checks.lied.contains(&n) || node.config.mode == MeshMode::Open {
            return;
        }
        if self.is_own_cashier(n, source) {
            return;
        }
        let Between { paid, carried, .. } = self.flows.truth.between[&(n, source)];
        let paid = paid.saturating_add(self.may_owe(n, source));
        let whose = self.by_hop.get(&source.hop());
        assert!(carried <= paid, "I11: node {n} carries {carried} for {whose:?}, who paid {paid}");
        if !node.config.payment.volatile {
            // Whatever happens now, the store does not give back what is used.
            let its = |record: &Record| match record {
                Record::Account(a) if a.source == source => Some(a.account.left()),
                Record::Credit(c) if c.source == source => Some(c.account.left()),
                Record::Deposit(d) if d.payment.source == source => Some(d.account.left()),
                _ => None,
            };
            let left = node.disk.iter().rev().find_map(its).unwrap_or_default();
            assert!(
                carried.saturating_add(left) <= paid,
                "I11: node {n} has carried {carried} for {whose:?}, who paid {paid}, and by its \
                 records {left} are left"
            );
        }
        self.checks.count("paid data passed on");
    }

    /// Whether an account is that of the node's cashier, which pays nobody for it.
    fn is_own_cashier(&self, n: usize, account: NodeId) -> bool {
        let cashier = self.nodes[n].config.flows.cashier;
        cashier.is_some_and(|cashier| [cashier, receiving(&cashier)].contains(&account))
    }

    /// I11: what a node has still to carry was paid for as well.
    fn keeps_what_was_paid(&mut self, n: usize) {
        let machine = &self.nodes[n].machine;
        let mut kept: BTreeMap<NodeId, u64> = BTreeMap::new();
        crate::either!(machine, m => {
            for (source, account) in m.accounts() {
                let kept = kept.entry(source).or_default();
                *kept = kept.saturating_add(account.left());
            }
            for flow in m.flows().filter(|flow| flow.metered) {
                let kept = kept.entry(flow.source).or_default();
                *kept = kept.saturating_add(flow.left);
            }
        });
        for (source, kept) in kept {
            if self.is_own_cashier(n, source) {
                continue;
            }
            let between = self.flows.truth.between.get(&(n, source)).copied().unwrap_or_default();
            let Between { paid, carried, .. } = between;
            let paid = paid.saturating_add(self.may_owe(n, source));
            let whose = self.by_hop.get(&source.hop());
            assert!(
                carried.saturating_add(kept) <= paid,
                "I11: node {n} has carried {carried} and keeps {kept} for {whose:?}, who paid {paid}"
            );
        }
    }

    /// I13: for each of its flows a source has bought at most 1.5 steps at a node beyond what its
    /// ends have sent, and what is over because no purchase is smaller than a first step. If it is
    /// told that nothing is left, it believes that of a reservation and of a tenth. What an invoice
    /// is over is a step.
    pub(in crate::sim) fn buys_within_bounds(&mut self, payer: usize, node: usize) {
        let source = self.id(payer);
        if !self.nodes[payer].honest || self.checks.lied.contains(&payer) {
            return;
        }
        let run = self.flows.truth.between[&(node, source)].run;
        let ahead = run.paid.saturating_sub(run.used);
        // A route that is taken later begins with steps of before.
        let same = |((_, of), b): &(&(usize, NodeId), &Between)| {
            *of == source && b.run.number == run.number
        };
        let steps = self.flows.truth.between.iter().filter(same).map(|(_, b)| b.run.step);
        let step = steps.max().unwrap_or(run.step);
        let of_flows = run.flows.max(1) * (step + step / 2);
        let told = match run.told {
            true => self.nodes[payer].config.flows.reservation + run.paid / 10 + run.step * 3 / 2,
            false => 0,
        };
        // A debt is paid first, and what was used on credit may be of an earlier run.
        let debt = self.may_owe(node, source);
        let most = of_flows + LEAST.max(run.least) + told + debt;
        assert!(
            ahead <= most,
            "I13: node {payer} has {ahead} of at most {most} at {node}: {run:?}"
        );
    }
}
