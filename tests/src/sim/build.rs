//! Makes the world of a plan.

use super::World;
use super::forge::Attack;
use super::machine::Input;
use super::plan::{Fault, Plan};
use super::radio::Medium;
use super::wires::{Line, LinkCode};
use crate::payments::chain::payout_script;
use crate::rng::Rng;
use crate::sim::topology::{SHAPES, Topology};
use blvm_mesh_core::config::{Allowance, Capacities, Config, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::time::{MILLISECOND, SECOND};

/// Nodes of a mesh in which every host has all of its tables.
const WHOLE: usize = 1000;
/// Neighbours of a node that the small tables of a larger mesh serve well.
const FEW: usize = 64;
/// Payments that a node of a plan remembers: more than are made in any.
const PAYMENTS: usize = 4096;

/// Tables of a host with so many neighbours in a mesh of so many nodes: in a large mesh
/// only hubs need all, and there is no memory for more.
fn host_tables(nodes: usize, neighbours: usize) -> Capacities {
    let host = Capacities { payments: PAYMENTS, ..Capacities::HOST };
    if nodes <= WHOLE || neighbours > FEW {
        return host;
    }
    Capacities {
        owners: 128,
        shares: 4,
        routes: 96,
        route_hints: 128,
        relayed_requests: 128,
        searches: 8,
        parked: 16,
        headers: 16,
        seen: 256,
        sent: 256,
        ..host
    }
}

impl Plan {
    /// The topology of this plan.
    ///
    /// # Errors
    /// There is no such topology.
    pub fn shape(&self) -> Result<Topology, String> {
        let mut rng = Rng::new(self.seed).fork("topology");
        match Topology::shape(&self.topology, self.nodes, &mut rng) {
            Some(shape) => Ok(shape),
            None => Topology::read(self.topology.as_ref())
                .map_err(|e| format!("{e}; it is none of the shapes {} either", SHAPES.join(", "))),
        }
    }

    /// The world before its first event, with its topology.
    ///
    /// # Errors
    /// There is no such topology.
    pub fn build(&self) -> Result<(World, Topology), String> {
        let shape = self.shape()?;
        let mut world = World::new(self.seed);
        (world.watch, world.answer_time) = (self.watch, self.answer_time);
        world.keep = self.nodes <= 1000;
        let mut rng = Rng::new(self.seed).fork("nodes");
        let gated = MeshMode::PaymentGated;
        let mode = match self.varied {
            true => rng.pick(&[gated, gated, gated, MeshMode::BitcoinOnly]),
            false => gated,
        };
        world.chain.mine(world.unix());
        for list in shape.neighbours() {
            self.node(&mut world, mode, list.len(), &mut rng);
        }
        if self.has(Fault::Tamper) {
            world.tamper_ppm = 2_000;
        }
        if self.adversaries > 0 {
            let often = if self.varied { rng.pick(&[2, 5, 10]) } else { 2 };
            world.blackhole = if self.attacks.contains(&Attack::Blackhole) { often } else { 0 };
            world.meddling = self.attacks.contains(&Attack::Meddle);
        }
        for _ in 0..self.adversaries {
            let n = rng.index(shape.nodes);
            world.nodes[n].honest = false;
            if self.attacks.contains(&Attack::Embezzle) {
                world.flows.embezzles.insert(n);
            }
        }
        world.swapping = self.attacks.contains(&Attack::Swap);
        self.flow_people(&mut world);
        self.join_up(&mut world, &shape, &mut rng);
        Ok((world, shape))
    }

    fn node(&self, world: &mut World, mode: MeshMode, neighbours: usize, rng: &mut Rng) {
        let mut config = match self.varied {
            true => self.varied_config(world, mode, rng),
            false => self.plain_config(world),
        };
        let heap = rng.one_in(2);
        let is_end = self.has_ends(world.nodes.len());
        // Boards have no ends of flows.
        let heap = is_end || self.heap.unwrap_or(heap);
        if !self.varied {
            config.capacities = match self.boards || !heap {
                true => Capacities::BOARD,
                false => host_tables(self.nodes, neighbours),
            };
        }
        self.flow_config(world.nodes.len(), &mut config);
        let n = world.add_node(config, heap);
        let id = world.id(n);
        let script = payout_script(&id.0);
        if self.covenants {
            let mut config = world.nodes[n].config.clone();
            config.payment.covenants_active = true;
            config.payment.payout_script = script.iter().copied().collect();
            world.configure(n, config);
            world.nodes[n].has_headers = rng.one_in(2);
            if world.nodes[n].has_headers {
                world.give_headers(n);
            }
        }
        if self.has(Fault::Drift) {
            world.nodes[n].drift_ppm = rng.pick(&[-20_000, -100, 0, 0, 100, 20_000]);
        }
        if self.record {
            let unix = world.unix();
            world.nodes[n].record = Some(vec![(0, Input::WallClock { unix })]);
        }
    }

    fn plain_config(&self, world: &World) -> Config {
        let mut c = Config::host(Network::Regtest);
        c.max_packet = 65_536;
        c.payment.max_lifetime = self.lifetime;
        c.payment.future_skew = self.skew;
        let _ = c.payment.issuers.push(world.bank.public_key());
        c.timing.keepalive = self.keepalive_ms * MILLISECOND;
        self.slow_links(&mut c);
        if self.radio.is_some() {
            c.timing.first_ring = 3;
            c.timing.route_lifetime = 1800 * SECOND;
        }
        c
    }

    fn slow_links(&self, c: &mut Config) {
        if let Some(modem) = self.radio {
            c.max_packet = 2048;
            // Time for a frame of every neighbour on the way there and back.
            c.timing.hop_round_trip = 20 * modem.airtime(255);
        }
    }

    fn varied_config(&self, world: &World, mode: MeshMode, rng: &mut Rng) -> Config {
        let mut c = Config::board(Network::Regtest, 8192);
        c.mode = if rng.one_in(6) { MeshMode::Open } else { mode };
        if rng.one_in(2) {
            let tables = &mut c.capacities;
            tables.routes = rng.within(1, 8) as usize;
            tables.route_hints = rng.within(0, 16) as usize;
            tables.relayed_requests = rng.within(1, 16) as usize;
            tables.searches = rng.within(1, 4) as usize;
            tables.payments = rng.pick(&[0, 1, 2, 4, 128, 128, 128]);
            tables.parked = rng.within(1, 4) as usize;
            // What came last is always known: the other slot is for what went.
            tables.seen = rng.pick(&[2, 8, 256]);
        }
        // Most attacks are checked; some neighbours have used their allowance up.
        c.bad_payments = match rng.one_in(3) {
            true => Allowance { rate: 1, burst: 1 },
            false => Allowance { rate: u64::MAX, burst: u64::MAX },
        };
        c.free_rate = rng.pick(&[2_000, 100_000]);
        c.free_burst = rng.pick(&[3_000, 100_000]);
        c.payment.volatile = rng.one_in(3);
        c.payment.max_lifetime = self.lifetime;
        c.payment.future_skew = self.skew;
        let (base_msat, per_kib_msat) = (rng.within(0, 2000) as u32, rng.within(0, 300) as u32);
        c.payment.tariff = Tariff { base_msat, per_kib_msat };
        if !rng.one_in(25) {
            let _ = c.payment.issuers.push(world.bank.public_key());
        }
        c.timing.keepalive = self.keepalive_ms * MILLISECOND;
        c.timing.first_ring = rng.within(1, 4) as u8;
        c.timing.route_lifetime = rng.pick(&[3, 600]) * SECOND;
        self.slow_links(&mut c);
        c
    }

    fn join_up(&self, world: &mut World, shape: &Topology, rng: &mut Rng) {
        if let Some(modem) = self.radio {
            world.radio = Some(Medium::new(modem, 1.0, shape.positions.clone()));
            // Searches on radio may take minutes.
            world.reply_time = 120 * SECOND;
        }
        if self.code == LinkCode::Channel {
            if let Some(intruder) = self.intruder {
                world.intrude(intruder, self.intrudes[0], self.intrudes[1]);
            }
            return world.start_channels();
        }
        for ((a, b), quality) in &shape.links {
            let (a, b) = if rng.one_in(2) { (*a, *b) } else { (*b, *a) };
            let quality = if a < b { *quality } else { [quality[1], quality[0]] };
            let latency = rng.within(self.latency[0], self.latency[1]);
            let mut line = Line { latency, jitter: latency / 4, ..Line::default() };
            line.code = self.code;
            self.spoil(&mut line, quality, rng);
            if self.radio.is_some() {
                line = Line { code: self.code, ..Line::default() };
            }
            match self.radio {
                // Not all at once: the air would be full of greetings.
                Some(_) => world.wire_later(a, b, line, rng.below(30 * SECOND)),
                None => world.wire_by(a, b, line),
            }
        }
    }

    fn spoil(&self, line: &mut Line, quality: [f64; 2], rng: &mut Rng) {
        if line.code == LinkCode::Stream {
            // A stream delivers everything, in order.
            return;
        }
        if self.has(Fault::Loss) {
            let lost = |q: f64, drawn: u64| ((1.0 - q) * 1e6) as u32 + drawn as u32;
            line.loss_ppm =
                [0, 1].map(|i| lost(quality[i], rng.pick(&[0, 1_000, 50_000])).min(900_000));
        }
        if self.has(Fault::Reorder) {
            line.reorder_ppm = rng.pick(&[0, 10_000, 200_000]);
        }
        if self.has(Fault::Duplicate) {
            line.duplicate_ppm = rng.pick(&[0, 10_000, 200_000]);
        }
        if self.has(Fault::Slow) {
            line.bandwidth = rng.pick(&[10_000, 100_000, 1_000_000]);
            line.queue = rng.pick(&[4_000, 64_000]);
        }
    }
}
