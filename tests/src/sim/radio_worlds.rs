//! Meshes of radios on the core's channel, beside managed flooding in the same worlds: what of it arrives, and
//! what that costs on the air.

use super::radio::{HOP_LIMITS, Intruder, Medium, Modem, Past};
use super::tables::cpu_seconds;
use super::{LinkCode, Plan, World};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use std::process::ExitCode;

/// Time in which all find each other.
const GREETING: Micros = 300 * SECOND;
/// Time in which they have something to say.
const DURATION: Micros = 600 * SECOND;

/// A kind of world.
#[derive(Debug, Clone, Copy)]
pub struct RadioWorld {
    /// Its name on the command line.
    pub name: &'static str,
    topology: &'static str,
    nodes: usize,
    /// Seconds between two wishes of all together.
    gap: u64,
    /// Seconds in which each node moves once, where they move.
    moves: u64,
    intruder: Option<Intruder>,
}

const PLAIN: RadioWorld = RadioWorld {
    name: "twenty",
    topology: "geometric",
    nodes: 20,
    gap: 5,
    moves: 20,
    intruder: None,
};

/// All kinds of worlds; the last is lived only where it is asked for.
pub const RADIO_WORLDS: [RadioWorld; 10] = [
    PLAIN,
    RadioWorld { name: "hundred", nodes: 100, gap: 15, ..PLAIN },
    RadioWorld { name: "line", topology: "line", ..PLAIN },
    RadioWorld { name: "grid", topology: "grid", nodes: 25, ..PLAIN },
    RadioWorld { name: "moving", topology: "moving", ..PLAIN },
    RadioWorld { name: "walking", topology: "moving", moves: 400, ..PLAIN },
    RadioWorld { name: "jammer", intruder: Some(Intruder::Jammer(50)), ..PLAIN },
    RadioWorld { name: "liar", intruder: Some(Intruder::Liar(1000)), ..PLAIN },
    RadioWorld { name: "noise", intruder: Some(Intruder::Noise(1000)), ..PLAIN },
    RadioWorld { name: "thousand", nodes: 1000, gap: 15, ..PLAIN },
];

/// What the wishes of some worlds came to, and what they cost.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    arrived: u64,
    airtime: Micros,
    collided: u64,
    received: u64,
}

impl Cost {
    fn add(&mut self, arrived: u64, medium: &Medium, before: Micros) {
        self.arrived += arrived;
        self.airtime += medium.airtime - before;
        self.collided += medium.collided;
        self.received += medium.received;
    }

    fn columns(&self, wishes: u64) -> String {
        let of = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        let airtime = self.airtime as f64 / MILLISECOND as f64 / wishes.max(1) as f64;
        format!(
            "{} ({:.1} %) | {airtime:.0} ms | {:.0} %",
            self.arrived,
            of(self.arrived, wishes),
            of(self.collided, self.received)
        )
    }
}

impl RadioWorld {
    /// The plan of such a world: ten minutes with wishes, after five in which the nodes find each other. An
    /// intruder comes with the wishes.
    pub fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::calm(seed, self.nodes, self.topology);
        (plan.radio, plan.code) = (Some(Modem::SHORT), LinkCode::Channel);
        (plan.duration, plan.traffic_gap) = (DURATION, self.gap * SECOND);
        (plan.intruder, plan.intrudes) = (self.intruder, [GREETING, GREETING + DURATION]);
        plan.move_gap = self.moves * SECOND;
        // As long as invoices are valid by default (BOLT 11).
        plan.lifetime = 3_600;
        plan
    }

    fn title(&self) -> String {
        let intruder = self.intruder.map(|intruder| format!(", {intruder}")).unwrap_or_default();
        let moves = match self.topology {
            "moving" => format!(" once in {} s", self.moves),
            _ => String::new(),
        };
        format!("{} ({}{moves}){intruder}, {} s", self.nodes, self.topology, self.gap)
    }

    /// Lives worlds of the seeds 1 to `seeds` and prints what came of them.
    fn live(&self, seeds: u64) -> Result<(), String> {
        let (mut wishes, mut own) = (0, Cost::default());
        let mut flooded = [Cost::default(); HOP_LIMITS.len()];
        let (mut busy, mut simulated) = (0.0, 0);
        for seed in 1..=seeds {
            let plan = self.plan(seed);
            let (mut before, begin) = (None, cpu_seconds().unwrap_or_default());
            let airtime = |world: &World| world.radio.as_ref().map_or(0, |medium| medium.airtime);
            let life = plan.live(&mut |world| _ = before.get_or_insert(airtime(world)), None)?;
            busy += cpu_seconds().unwrap_or_default() - begin;
            simulated += life.world.now / SECOND;
            let Some(medium) = &life.world.radio else { return Err("no radio".into()) };
            wishes += life.world.account.sent;
            own.add(life.world.account.arrived, medium, before.unwrap_or_default());
            let past = Past { moves: &life.moved, noise: &life.world.intruded };
            let (start, _) = plan.build()?;
            for (limit, cost) in HOP_LIMITS.into_iter().zip(&mut flooded) {
                let fresh = start.radio.as_ref().ok_or("no radio")?.fresh();
                let (came, medium) = fresh.flood(&life.wished, past, limit, seed);
                cost.add(came.arrived, &medium, 0);
            }
        }
        print!("| {} | {wishes} | {} |", self.title(), own.columns(wishes));
        flooded.iter().for_each(|cost| print!(" {} |", cost.columns(wishes)));
        println!(" {:.0} |", simulated as f64 / f64::max(busy, 1e-3));
        Ok(())
    }
}

/// Prints the table of radios: what is wished for on the core's channel, and the same flooded. Seeds 1 to
/// `seeds`; only the world with this name, or all but the largest.
///
/// # Errors
/// A world that could not be built, or none with this name.
pub fn radios(seeds: u64, name: Option<&str>) -> Result<ExitCode, String> {
    let names = || RADIO_WORLDS.map(|world| world.name).join(", ");
    let few = &RADIO_WORLDS[..RADIO_WORLDS.len() - 1];
    let worlds: Vec<_> = match name {
        None => few.to_vec(),
        Some(name) => RADIO_WORLDS.into_iter().filter(|world| world.name == name).collect(),
    };
    if worlds.is_empty() {
        return Err(format!("--world: it is none of {}", names()));
    }
    print!("| radios, a wish of all each | wishes | channel: arrived | air time of one | lost |");
    for limit in HOP_LIMITS {
        print!(" flooding over {limit} hops more: arrived | air time of one | lost |");
    }
    println!(" x real time |\n|{}", "---|".repeat(6 + 3 * HOP_LIMITS.len()));
    worlds.iter().try_for_each(|world| world.live(seeds))?;
    Ok(ExitCode::SUCCESS)
}
