//! The liveness phase at the end of a world: faults and attacks stop, everything is mended,
//! and what is sent between connected nodes must arrive within [`IN_TIME`].

use super::live::Life;
use super::machine::Input;
use super::plan::Fault;
use super::wires::LinkCode;
use crate::sim::topology::Topology;
use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// Time in which a packet between connected nodes arrives, its search included:
/// the four rings take 3.1 s, the way there under a second.
pub const IN_TIME: Micros = 6 * SECOND;
/// Pairs of nodes that are tried.
const PAIRS: usize = 6;

impl Life<'_> {
    pub(super) fn liveness_phase(&mut self) {
        self.mend();
        let w = &mut self.world;
        w.run_for(40 * SECOND);
        w.heal_all();
        // Until every payment made in the trouble has expired and is forgotten.
        w.run_for((self.plan.lifetime + 130) * SECOND);
        if self.plan.code == LinkCode::Datagrams {
            // These links come back late, and others may have their places in a full table by
            // then: the source of a packet along the old route would be told, and no more.
            let longest = w.nodes.iter().map(|n| n.config.timing.route_lifetime).max();
            w.run_for(longest.unwrap_or(0));
        }
        for n in 0..w.nodes.len() {
            // However much a clock drifts, it is set again now and then.
            w.set_clock(n, 0);
        }
        let joined = self.reachable();
        let mut paid = false;
        for _ in 0..PAIRS {
            let nodes = self.world.nodes.len();
            let (n, to) = (self.rng.index(nodes), self.rng.index(nodes));
            // Not further apart than a route is long.
            let far = joined.distances(n)[to];
            if n == to
                || far.is_none_or(|links| {
                    links > self.world.nodes[n].config.capacities.route_hops + 1
                })
            {
                continue;
            }
            let displaced = self.world.displaced;
            let payload = self.send_free(n, to);
            self.world.run_for(IN_TIME);
            let id = self.world.id(n);
            let landed = self.world.account.has_landed(&id, &payload);
            if !landed && self.is_contended(displaced) {
                continue;
            }
            assert!(landed, "liveness: a free packet from {n} to {to} is lost");
            self.world.checks.count("free in the liveness phase");
            // The smallest tables have room for one payment.
            if !std::mem::replace(&mut paid, true) {
                self.pay_in_liveness_phase(n, to);
            }
        }
        self.flow_in_liveness_phase(&joined);
    }

    /// Everything is mended and everybody honest.
    pub(crate) fn mend(&mut self) {
        let clocks = self.plan.has(Fault::Clock);
        let w = &mut self.world;
        (w.blackhole, w.meddling, w.swapping, w.tamper_ppm) = (0, false, false, 0);
        w.answer_time = 20 * MILLISECOND;
        self.mend_flows();
        let w = &mut self.world;
        w.change_lines(|line| {
            let (latency, jitter, code) = (line.latency, line.jitter, line.code);
            *line = super::Line { latency, jitter, code, ..super::Line::default() };
        });
        for n in 0..w.nodes.len() {
            w.join(n);
            w.nodes[n].armed = None;
            // From its start on it is held to the invariants.
            let adversary = !std::mem::replace(&mut w.nodes[n].honest, true);
            if adversary {
                // What it took before was not looked at, whether or not it has lied.
                w.checks.lied.insert(n);
            }
            // Whose clock was ahead takes no payment of before that time, until it starts anew.
            let ahead = clocks && w.nodes[n].config.payment.volatile;
            if w.nodes[n].disk_broken || adversary || ahead {
                w.restart(n);
            }
            w.set_clock(n, 0);
            for (link, _) in w.links(n) {
                for lane in [Lane::Free, Lane::Paid] {
                    w.input(n, Input::Congestion { link, lane, full: false });
                }
            }
        }
        // The system below closes, in time, what has gone silent.
        for conn in 0..w.conns.len() {
            if w.conns[conn].open && w.conns[conn].silent {
                w.close(conn);
            }
        }
    }

    /// The links between nodes that know each other: a small table may have no room
    /// for a neighbour, whatever the wires.
    fn reachable(&self) -> Topology {
        let w = &self.world;
        let knows = |a: usize, b: usize| {
            let hop = w.id(b).hop();
            crate::either!(&w.nodes[a].machine, m => m.table().neighbours.live(hop).is_some())
        };
        let all = self.topology.links.keys().copied();
        let links = all.filter(|(a, b)| knows(*a, *b) && knows(*b, *a)).map(|l| (l, [1.0; 2]));
        Topology { links: links.collect(), ..self.topology.clone() }
    }

    /// Whether links have come and gone since so many neighbours had lost their places to others.
    /// Where a node has more peers that dial than places, these take the last ones from each other again
    /// and again, and what is under way there is lost: no wire is bad, and there is no peace.
    fn is_contended(&mut self, before: u64) -> bool {
        let contended = self.world.displaced > before;
        if contended {
            self.world.checks.count("lost where places are contended");
        }
        contended
    }

    fn pay_in_liveness_phase(&mut self, n: usize, to: usize) {
        let displaced = self.world.displaced;
        let id = self.world.id(to);
        self.world.input(n, Input::FindRoute { destination: id });
        let found = (0..60).any(|_| {
            self.world.run_for(100 * MILLISECOND);
            let local = self.world.nodes[n].local(self.world.now);
            self.world.nodes[n].machine.path(&id, local).is_some()
        });
        if !found && self.is_contended(displaced) {
            return;
        }
        assert!(found, "liveness: {n} finds no way to {to}");
        let paid = self.pay_for(n, to);
        // Also until the search gives its place back.
        self.world.run_for(IN_TIME);
        // Those who pay by covenant wait for a block.
        let Some((payload, proof)) = paid else { return };
        let w = &mut self.world;
        let key = w.payment_in(&proof).expect("it was made just now");
        let terms = &w.bank.issued[&key].terms;
        let relays = terms.hops.iter().map(|hop| w.by_hop[hop]);
        let route: Vec<usize> = [n].into_iter().chain(relays).chain([to]).collect();
        let id = w.id(n);
        if w.account.has_landed(&id, &payload) {
            w.checks.count("paid in the liveness phase");
        } else if w.checks.refused.contains(&key) {
            // The smallest tables are full of what a covenant paid, or forgot
            // what expires later: each such refusal was held against the truth.
            w.checks.count("rightly refused in the liveness phase");
        } else {
            let takes = |n: &usize| takes_payment(&w.nodes[*n].config);
            let all = route.iter().all(takes);
            if all && self.is_contended(displaced) {
                return;
            }
            let w = &mut self.world;
            assert!(!all, "liveness: a paid packet on {route:?} is lost");
            w.checks.count("not payable in the liveness phase");
        }
    }
}

/// Whether a node takes payments at all, or carries everything free.
fn takes_payment(config: &Config) -> bool {
    let gated = !config.payment.issuers.is_empty() && config.capacities.payments > 0;
    match config.mode {
        MeshMode::BitcoinOnly => false,
        MeshMode::PaymentGated => gated,
        MeshMode::Open => true,
    }
}
