//! A world with troubles, all drawn from one seed, and a peace at the end in
//! which everything must work.

use super::machine::{Did, Given};
use super::node::Crash;
use super::world::World;
use crate::payloads::ping;
use crate::rng::Rng;
use blvm_mesh_core::config::{Capacities, Config, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::mesh::Priority;
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use std::collections::BTreeMap;

/// What is drawn before a world begins.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of nodes.
    pub nodes: usize,
    /// How many of them are not honest.
    pub dishonest: usize,
    /// Steps of trouble.
    pub steps: u64,
    /// Which memory the tables live in; `None`: drawn for each node.
    pub heap: Option<bool>,
    /// Weight of each trouble.
    pub weights: [u64; 16],
    /// Longest life of an invoice, in seconds.
    pub lifetime: u64,
    /// How far from now an invoice may be dated, in seconds.
    pub skew: u64,
    /// Whether the nodes' inputs are recorded.
    pub record: bool,
    /// Longest silence on a link, in milliseconds; 0: for ever.
    pub keepalive_ms: u64,
}

impl Options {
    /// Draws them.
    pub fn draw(rng: &mut Rng) -> Self {
        let nodes = rng.within(3, 8) as usize;
        let mut weights = [0; 16];
        // Each trouble is left out of some worlds, and frequent in others.
        weights.iter_mut().for_each(|w| *w = rng.pick(&[0, 1, 1, 2, 5]));
        weights[0] = weights[0].max(1);
        weights[1] = weights[1].max(4);
        Self {
            nodes,
            dishonest: (rng.below(3) as usize).min(nodes - 2),
            steps: rng.within(60, 160),
            heap: None,
            record: false,
            weights,
            lifetime: rng.pick(&[20, 60, 300]),
            skew: rng.pick(&[2, 10]),
            keepalive_ms: rng.pick(&[0, 500, 1000, 5000]),
        }
    }
}

/// What a world came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Hash of everything that happened.
    pub trace: [u8; 32],
    /// How often things happened.
    pub counts: BTreeMap<String, u64>,
}

fn capacities(rng: &mut Rng) -> Capacities {
    let mut c = Capacities::BOARD;
    if rng.one_in(2) {
        c.routes = rng.within(1, 8) as usize;
        c.relayed_requests = rng.within(1, 16) as usize;
        c.searches = rng.within(1, 4) as usize;
        c.payments = rng.pick(&[0, 1, 2, 4, 128, 128, 128]);
        c.parked = rng.within(1, 4) as usize;
        c.seen = rng.pick(&[1, 8, 256]);
    }
    c
}

fn config(rng: &mut Rng, options: &Options, mode: MeshMode, world: &World) -> Config {
    let mut c = Config::board(Network::Regtest, 8192);
    c.mode = if rng.one_in(6) { MeshMode::Open } else { mode };
    c.capacities = capacities(rng);
    c.free_rate = rng.pick(&[2_000, 100_000]);
    c.free_burst = rng.pick(&[3_000, 100_000]);
    c.payment.volatile = rng.one_in(3);
    c.payment.max_lifetime = options.lifetime;
    c.payment.future_skew = options.skew;
    c.payment.tariff =
        Tariff { base_msat: rng.within(0, 2000) as u32, per_kib_msat: rng.within(0, 300) as u32 };
    if !rng.one_in(25) {
        let _ = c.payment.issuers.push(world.bank.public_key());
    }
    c.timing.keepalive = options.keepalive_ms * MILLISECOND;
    c.timing.first_ring = rng.within(1, 4) as u8;
    c.timing.route_lifetime = rng.pick(&[3, 600]) * SECOND;
    c
}

/// Builds the world of a seed.
fn build(seed: u64, adjust: &dyn Fn(&mut Options)) -> (World, Options) {
    let mut world = World::new(seed);
    let mut rng = Rng::new(world.rng.draw());
    let mut options = Options::draw(&mut rng);
    adjust(&mut options);
    let gated = MeshMode::PaymentGated;
    let mode = rng.pick(&[gated, gated, gated, MeshMode::BitcoinOnly]);
    for _ in 0..options.nodes {
        let config = config(&mut rng, &options, mode, &world);
        let heap = rng.one_in(2);
        let n = world.add_node(config, options.heap.unwrap_or(heap));
        if options.record {
            // The time is its first input.
            let unix = world.unix();
            world.nodes[n].record = Some(vec![(0, Given::Clock { unix })]);
        }
    }
    for _ in 0..options.dishonest {
        let n = rng.index(options.nodes);
        world.nodes[n].honest = false;
    }
    world.blackhole = rng.pick(&[0, 2, 10]);
    world.meddling = rng.one_in(2);
    let latency = |rng: &mut Rng| rng.within(1, 15) * MILLISECOND;
    for n in 1..options.nodes {
        let to = rng.index(n);
        let late = latency(&mut rng);
        world.wire(n, to, late);
    }
    for _ in 0..rng.below(options.nodes as u64) {
        let (a, b) = (rng.index(options.nodes), rng.index(options.nodes));
        let late = latency(&mut rng);
        if a != b {
            world.wire(a, b, late);
        }
    }
    (world, options)
}

/// Runs the world of a seed, trouble and peace.
pub fn run(seed: u64, adjust: &dyn Fn(&mut Options)) -> Report {
    let world = live(seed, adjust);
    Report { trace: world.trace(), counts: world.checks.counts }
}

/// The same; the world at its end.
pub fn live(seed: u64, adjust: &dyn Fn(&mut Options)) -> World {
    let (mut world, options) = build(seed, adjust);
    world.run_for(SECOND);
    for _ in 0..options.steps {
        trouble(&mut world, &options);
        let pause = world.rng.pick(&[0, 0, MILLISECOND, 20 * MILLISECOND, 300 * MILLISECOND]);
        world.run_for(pause);
    }
    peace(&mut world, &options);
    world
}

fn trouble(w: &mut World, o: &Options) {
    let mut at = w.rng.below(o.weights.iter().sum());
    let kind = o.weights.iter().position(|weight| match at.checked_sub(*weight) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    });
    let n = w.rng.index(w.nodes.len());
    let to = w.rng.index(w.nodes.len());
    let wires = w.wires();
    let (a, b) = w.rng.pick(&wires);
    match kind.unwrap_or(0) {
        0 => drop(send_free(w, n, to)),
        1 | 2 => {
            let more = w.rng.pick(&[0, 1, 7, 1000]);
            let lifetime = w.rng.within(1, o.lifetime);
            drop(send_paid(w, n, to, more, lifetime));
        }
        3 => drop(w.input(n, Given::Find { to: w.id(to) })),
        4 => w.cut(a, b, false),
        5 => w.cut(a, b, true),
        6 => w.heal(a, b),
        7 => congest(w, n),
        8 => w.restart(n),
        9 => w.nodes[n].armed = Some(w.rng.pick(&[Crash::BeforeWrite, Crash::AfterWrite])),
        10 => {
            let far = [0, 0, 0, 0, -86_400, -60, -5, -1, 0, 1, 5, 60, 400, 86_400, 40_000_000];
            let offset = w.rng.pick(&far);
            w.set_clock(n, offset);
        }
        11 | 12 => {
            let bad: Vec<usize> = (0..w.nodes.len()).filter(|n| !w.nodes[*n].honest).collect();
            if !bad.is_empty() {
                let m = w.rng.pick(&bad);
                (0..w.rng.clone().within(1, 4)).for_each(|_| w.attack(m));
            }
        }
        13 => {
            // Both ends dial at the same time.
            let latency = w.rng.within(1, 10) * MILLISECOND;
            if w.links(a).iter().any(|(_, other)| *other == b) {
                w.connect(a, b, latency);
                w.connect(b, a, latency);
            }
        }
        14 if w.rng.one_in(4) => w.break_disk(n),
        _ => {
            let time = w.rng.pick(&[SECOND, 5 * SECOND, 30 * SECOND]);
            w.run_for(time);
        }
    }
}

fn congest(w: &mut World, n: usize) {
    let links = w.links(n);
    if !links.is_empty() {
        let (link, _) = w.rng.pick(&links);
        let full = w.rng.one_in(2);
        w.input(n, Given::Congestion { link, full });
    }
}

/// Sends a Bitcoin message; the payload.
fn send_free(w: &mut World, n: usize, to: usize) -> Vec<u8> {
    let payload = ping(w.rng.draw());
    w.checks.free.insert(payload.clone());
    w.send(n, to, &payload, &[]);
    payload
}

/// Pays for a datagram and sends it, if a route is known; else looks for one.
/// Pays some millisatoshi more than it costs.
fn send_paid(
    w: &mut World,
    n: usize,
    to: usize,
    more: u64,
    lifetime: u64,
) -> Option<(Vec<u8>, Vec<Did>)> {
    let len = w.rng.within(1, 2000);
    let payload = w.rng.vec(len as usize);
    let Some(quote) = w.nodes[n].machine.quote(&w.id(to), len) else {
        w.input(n, Given::Find { to: w.id(to) });
        return None;
    };
    let terms = crate::bank::OwnTerms {
        network: Network::Regtest,
        source: w.id(n),
        destination: w.id(to),
        hops: quote.hops.to_vec(),
        quota: len,
    };
    assert_eq!(terms.hash(), quote.terms_hash);
    let proof = w.bank.proof(terms, quote.amount_msat + more, w.unix(), lifetime);
    let unchecked = w.rng.one_in(4);
    let (id, bytes) = (w.id(to), payload.clone());
    let given = Given::Send { to: id, payload: bytes, proof, unchecked };
    let did = w.input(n, given);
    Some((payload, did))
}

/// Everything is mended and everybody honest; then all must arrive.
fn peace(w: &mut World, o: &Options) {
    (w.blackhole, w.meddling) = (0, false);
    for n in 0..w.nodes.len() {
        w.nodes[n].armed = None;
        let mended = w.nodes[n].disk_broken || !w.nodes[n].honest;
        if mended {
            w.restart(n);
        }
        w.set_clock(n, 0);
        for (link, _) in w.links(n) {
            w.input(n, Given::Congestion { link, full: false });
        }
    }
    // The system below closes, in time, what has gone silent.
    for conn in 0..w.conns.len() {
        if w.conns[conn].open && w.conns[conn].silent {
            w.close(conn);
        }
    }
    w.run_for(40 * SECOND);
    w.heal_all();
    // Until every payment made in the trouble has expired and is forgotten.
    w.run_for((o.lifetime + 130) * SECOND);
    for round in 0..3 {
        let (n, to) = (w.rng.index(w.nodes.len()), w.rng.index(w.nodes.len()));
        if n == to {
            continue;
        }
        let payload = send_free(w, n, to);
        w.run_for(6 * SECOND);
        assert!(w.arrived(n, to, &payload), "in peace a free packet from {n} to {to} is lost");
        w.checks.count("free in peace");
        // The smallest tables have room for one payment.
        if round > 0 {
            continue;
        }
        let id = w.id(to);
        w.input(n, Given::Find { to: id });
        let found = (0..60).any(|_| {
            w.run_for(100 * MILLISECOND);
            w.nodes[n].machine.path(&id, w.now).is_some()
        });
        assert!(found, "in peace {n} finds no way to {to}");
        let Some((payload, did)) = send_paid(w, n, to, 0, o.lifetime) else {
            panic!("in peace {n} forgot the way to {to}");
        };
        w.run_for(6 * SECOND);
        let pays = |d: &Did| matches!(d, Did::Forward { priority: Priority::Paid, .. });
        if did.iter().any(pays) && all_take_payment(w) {
            assert!(w.arrived(n, to, &payload), "in peace a paid packet {n} to {to} is lost");
            w.checks.count("paid in peace");
        }
    }
}

fn all_take_payment(w: &World) -> bool {
    w.nodes.iter().all(|n| {
        let payment = &n.config.payment;
        n.config.mode != MeshMode::BitcoinOnly
            && !payment.issuers.is_empty()
            && n.config.capacities.payments > 0
    })
}
