//! Flows in worlds that are drawn: who opens and takes them, who pays and writes invoices, and what
//! a flow must do once everything is mended.

use super::super::live::Life;
use super::super::plan::Plan;
use super::super::wires::LinkCode;
use super::super::world::World;
use super::{Habit, Wish};
use crate::rng::Rng;
use crate::sim::topology::Topology;
use blvm_mesh_core::config::{Client, Config};
use blvm_mesh_core::mesh::ticket_key;
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// Most flows of a world.
const MOST: usize = 12;
/// Time in which a small flow between connected nodes is done, its search and its purchases
/// included.
const IN_TIME: Micros = 20 * SECOND;
/// Time in which it is known that it cannot be done: no answer to requests for an invoice is taken
/// for none only when they were made three times on each of four routes.
const TO_SAY_SO: Micros = 240 * SECOND;

/// Of so many nodes it is drawn whether they may owe something, and how many bytes.
const MOST_CREDITED: usize = 16;
const CREDITS: [u64; 3] = [3_000, 40_000, 200_000];

/// When somebody pays or writes invoices.
fn habit(rng: &mut Rng) -> Habit {
    let at_once = Habit::AtOnce;
    let late = [Habit::Late(300 * MILLISECOND), Habit::Late(4 * SECOND)];
    rng.pick(&[at_once, at_once, at_once, at_once, late[0], late[1], Habit::Never, Habit::Silent])
}

impl Plan {
    fn of_node(&self, n: usize) -> Rng {
        Rng::new(self.seed).fork("flow nodes").fork(&n.to_string())
    }

    /// Whether a node has ends of flows, for which it must be a host.
    pub(in crate::sim) fn has_ends(&self, n: usize) -> bool {
        self.flow_gap > 0 && (n < 2 || self.of_node(n).fork("end").one_in(2))
    }

    /// What is special about a node where there are flows.
    pub(in crate::sim) fn flow_config(&self, n: usize, config: &mut Config) {
        if self.flow_gap == 0 {
            return;
        }
        let mut rng = self.of_node(n);
        config.flows.reservation = 16 * 1024;
        config.payment.tariff = Tariff { base_msat: 0, per_kib_msat: 1_000 };
        if self.varied {
            config.flows.reservation = rng.pick(&[1, 16, 64]) * 1024;
            config.payment.tariff.base_msat = rng.pick(&[0, 0, 2_000]);
            config.payment.tariff.per_kib_msat = rng.pick(&[0, 300, 1_000, 1_000, 5_000]);
            let tables = &mut config.capacities;
            // A node's own flows have their places among the others.
            tables.flows = if self.has_ends(n) { 16 } else { rng.pick(&[1, 4, 16, 16]) };
            tables.accounts = rng.pick(&[1, 4, 16, 16]);
            tables.tickets = rng.pick(&[1, 4, 16, 16]);
        }
        if self.has_ends(n) {
            (config.capacities.ends, config.capacities.purchases) = (16, 8);
        }
        // Some may owe something to some.
        let mut rng = rng.fork("credit");
        for other in 0..self.nodes.min(MOST_CREDITED) {
            if rng.one_in(3) {
                config.credit.insert(World::node_id(other), rng.pick(&CREDITS));
            }
        }
    }

    /// Some nodes take something for receiving, and some have no Lightning node: another one writes
    /// their invoices.
    fn cashiers(&self, world: &mut World) {
        let mut rng = Rng::new(self.seed).fork("cashiers");
        if !self.varied || rng.one_in(3) {
            return;
        }
        let hosts: Vec<usize> = (0..world.nodes.len()).filter(|n| self.has_ends(*n)).collect();
        for n in 0..world.nodes.len() {
            let mut config = world.nodes[n].config.clone();
            let cashier = rng.pick(&hosts);
            if self.has_ends(n) && rng.one_in(3) {
                let (base_msat, per_kib_msat) = rng.pick(&[(0, 100), (333, 301), (5_000, 0)]);
                config.flows.receive = Tariff { base_msat, per_kib_msat };
                world.configure(n, config.clone());
            }
            if cashier != n && rng.one_in(3) {
                world.has_cashier(n, cashier);
            }
        }
    }

    /// Who takes flows, pays, and writes invoices.
    pub(in crate::sim) fn flow_people(&self, world: &mut World) {
        if self.flow_gap == 0 {
            return;
        }
        self.cashiers(world);
        let mut rng = Rng::new(self.seed).fork("flow people");
        for n in 0..world.nodes.len() {
            if world.nodes[n].config.capacities.purchases > 0 {
                world.take_flows(n);
            }
            if self.varied {
                world.lightning.wallets.insert(n, habit(&mut rng));
                world.lightning.writers.insert(n, habit(&mut rng));
            }
        }
    }
}

impl World {
    /// A node has no Lightning node, and another one writes its invoices. Before anything has
    /// happened.
    pub fn has_cashier(&mut self, n: usize, cashier: usize) {
        let mut config = self.nodes[n].config.clone();
        config.flows.cashier = Some(self.id(cashier));
        self.configure(n, config);
        let (node, key) = (self.id(n), ticket_key(&self.nodes[n].key));
        let mut config = self.nodes[cashier].config.clone();
        config.clients.push(Client { node, ticket_key: key });
        self.configure(cashier, config);
    }
}

impl Life<'_> {
    /// Somebody opens a flow to somebody.
    pub(in crate::sim) fn begin_flow(&mut self) {
        let ends: Vec<usize> = self.world.flows.takes.iter().copied().collect();
        if ends.len() < 2 || self.world.flows.all.len() >= MOST {
            return;
        }
        let (n, to) = (self.rng.pick(&ends), self.rng.pick(&ends));
        if n == to || self.world.nodes[n].off {
            return;
        }
        let rng = &mut self.rng;
        let sizes = [0, 100, 5_000, 60_000, 250_000];
        let wish = Wish {
            streams: rng.within(1, 3) as u32,
            bytes: rng.pick(&sizes),
            back: rng.pick(&sizes),
            budget_msat: rng.pick(&[1 << 40, 1 << 40, 1 << 40, 100_000, 1_000]),
            slow: rng.one_in(3),
            close: rng.one_in(2),
            close_after: rng.one_in(4).then(|| rng.below(5 * SECOND)),
        };
        self.world.open_flow(n, to, wish);
        // In half of the worlds some pay for several accounts at once.
        let seed = self.plan.seed ^ self.world.flows.all.len() as u64;
        if Rng::new(self.plan.seed).fork("deposits").one_in(2)
            && Rng::new(seed).fork("deposit").one_in(2)
        {
            self.world.deposit(n, to, 64 * 1024);
        }
    }

    /// Everybody pays and writes invoices at once.
    pub(in crate::sim) fn mend_flows(&mut self) {
        self.world.lightning.wallets.clear();
        self.world.lightning.writers.clear();
        self.world.flows.embezzles.clear();
    }

    /// A flow between connected nodes is done in time, unless it says why not.
    pub(in crate::sim) fn flow_in_liveness_phase(&mut self, joined: &Topology) {
        let ends: Vec<usize> = self.world.flows.takes.iter().copied().collect();
        let pairs = ends.iter().flat_map(|n| ends.iter().map(move |to| (*n, *to)));
        let near = |(n, to): &(usize, usize)| n != to && joined.distances(*n)[*to].is_some();
        let pairs: Vec<_> = pairs.filter(near).collect();
        if pairs.is_empty() {
            return;
        }
        let (n, to) = self.rng.pick(&pairs);
        let wish = Wish { bytes: 100_000, back: 20_000, ..Wish::default() };
        let w = &mut self.world;
        let Some(flow) = w.open_flow(n, to, wish) else {
            return w.checks.count("no room for a flow in the liveness phase");
        };
        w.run_for(IN_TIME);
        if w.flows.all[&flow].is_done() {
            return w.checks.count("flows in the liveness phase");
        }
        w.run_for(TO_SAY_SO);
        let known = &w.flows.all[&flow];
        // A source leaves a route on which more than a tenth is lost, and there may be no other.
        let lossy = self.plan.code == LinkCode::Datagrams;
        let told = known.ended[0].is_some() || known.interrupted > 0 || lossy;
        assert!(told, "liveness: a flow from {n} to {to} stands still: {known:?}");
        w.checks.count("no flow possible in the liveness phase");
    }
}
