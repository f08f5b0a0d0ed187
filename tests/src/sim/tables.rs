//! What the simulator measures and prints as tables.

use crate::rng::Rng;
use crate::sim::topology::{self, Topology};
use crate::sim::{Input, Line, Plan, World, percentile};
use blvm_mesh_core::config::{Config, MAX_HOPS, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Instant;

/// Prints a summary for people.
pub fn brief(s: &Value) {
    let n = |key: &str| s[key].as_f64().unwrap_or_default();
    let topology = s["topology"].as_str().unwrap_or_default();
    println!("{} nodes, {topology}, {} s simulated", s["nodes"], s["simulated_s"]);
    println!(
        "{} of {} payloads arrived ({:.1} %)",
        s["arrived"],
        s["sent"],
        100.0 * n("delivery_ratio")
    );
    for key in ["latency_ms", "links_crossed", "discovery_ms"] {
        println!("{key}: median {}, 95 % within {}", s[key]["p50"], s[key]["p95"]);
    }
    println!(
        "control {:.1}, data {:.1} bytes per node and second",
        n("control_bytes_per_node_second"),
        n("data_bytes_per_node_second")
    );
    println!(
        "{} payments accepted, {} msat paid in full, {} msat in shares",
        s["payments_accepted"], s["paid_msat"], s["shares_msat"]
    );
    if let Some(radio) = s["radio"].as_object() {
        println!(
            "{} frames, {} of {} receptions failed",
            radio["frames"], radio["collided"], radio["received"]
        );
    }
    println!(
        "{:.0} events in {:.2} s of one core ({:.2} s elapsed): {:.0} events per second, {:.1} x real time",
        n("events"),
        n("cpu_s"),
        n("elapsed_s"),
        n("events_per_second"),
        n("times_real_time")
    );
    println!("trace {}", s["trace"].as_str().unwrap_or_default());
}

/// What discovery came to on one topology.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// Time until 95 % of the pings between nodes that a route can join had
    /// arrived, in microseconds; `None` if never.
    pub converged: Option<Micros>,
    /// Median time of one search, in microseconds.
    pub median: Micros,
    /// Bytes of the mesh itself, on all links, per second and node, in each minute.
    pub control: Vec<f64>,
    /// Pings that arrived.
    pub arrived: usize,
    /// Pings between nodes that a route can join.
    pub reachable: usize,
}

/// Starts all nodes at once on links of 1 ms, and sends `count` random pings over
/// `spread` from the start on; those that cannot be sent or do not arrive are sent
/// again each second.
pub fn discover(topology: &Topology, seed: u64, count: usize, spread: Micros) -> Discovery {
    let mut w = World::new(seed);
    w.watch = 0;
    let mut rng = Rng::new(seed).fork("pings");
    for _ in 0..topology.nodes {
        let mut c = Config::host(Network::Regtest);
        c.mode = MeshMode::Open;
        w.add_node(c, true);
    }
    for (a, b) in topology.links.keys() {
        w.wire_by(*a, *b, Line { latency: MILLISECOND, ..Line::default() });
    }
    let parts = topology.parts();
    let mut pings = Vec::new();
    while pings.len() < count {
        let (a, b) = (rng.index(topology.nodes), rng.index(topology.nodes));
        if a != b && parts[a] == parts[b] {
            let at = rng.below(spread.max(1));
            pings.push((at, a, b, rng.vec(64), false));
        }
    }
    pings.sort();
    let near = |a: usize, b: usize| topology.distances(a)[b].is_some_and(|d| d <= MAX_HOPS + 1);
    let reachable = pings.iter().filter(|(_, a, b, ..)| near(*a, *b)).count();
    let (mut converged, mut arrived, mut control, mut counted) = (None, 0, Vec::new(), 0);
    let end = spread + 30 * SECOND;
    for (i, ping) in pings.iter().enumerate() {
        w.call_at(ping.0, i as u32);
    }
    let tick = count as u32;
    w.call_at(0, tick);
    while let Some(call) = w.next_call(end) {
        if call == tick {
            arrived = 0;
            for (_, a, b, payload, landed) in &mut pings {
                *landed = *landed || w.arrived(*a, *b, payload);
                arrived += usize::from(*landed);
            }
            if arrived * 100 >= reachable * 95 && converged.is_none() {
                converged = Some(w.now);
            }
            if w.now > 0 && w.now.is_multiple_of(60 * SECOND) {
                let bytes = w.account.control_bytes
                    - std::mem::replace(&mut counted, w.account.control_bytes);
                control.push(bytes as f64 / 60.0 / topology.nodes as f64);
            }
            if arrived == reachable && w.now >= spread {
                break;
            }
            w.call_at(w.now + MILLISECOND, tick);
            continue;
        }
        let (_, a, b, payload, landed) = &pings[call as usize];
        if !landed && !w.arrived(*a, *b, payload) {
            let (to, payload) = (w.id(*b), payload[..].into());
            w.input(
                *a,
                Input::Send { destination: to, payload, proof: (&[][..]).into(), unchecked: false },
            );
            w.call_at(w.now + SECOND, call);
        }
    }
    Discovery {
        converged,
        median: percentile(&w.account.discoveries, 50),
        control,
        arrived,
        reachable,
    }
}

/// Figures that others published for the same test: time to 95 %, and bytes per
/// second and node.
const PUBLISHED: [(&str, usize, &str); 3] = [
    ("grid", 49, "batman-adv 6 s, 2,640 B/s; babel 18 s, 135 B/s"),
    ("line", 50, "babel 18 s"),
    ("grid", 144, "babel 338 B/s"),
];

/// Pings in a second for the time, and in a minute for the bytes.
const PINGS: usize = 200;
/// The bytes are the mean of so many runs.
const SEEDS: u64 = 8;

/// Prints the table of discovery.
///
/// # Errors
/// A world that could not be built or did not hold.
pub fn discovery() -> Result<ExitCode, String> {
    let shape = |name: &str, nodes| {
        let shape = Topology::shape(name, nodes, &mut Rng::new(1));
        shape.ok_or_else(|| format!("no shape {name}"))
    };
    let mut all = vec![shape("grid", 49)?, shape("grid", 100)?, shape("grid", 144)?];
    all.push(shape("line", 50)?);
    all.extend(topology::all());
    println!(
        "| topology | nodes | arrived, of reachable | 95 % after | median search | control, B/s per node: first minute | third minute | others |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for topology in all {
        let burst = discover(&topology, 1, PINGS, SECOND);
        let spread: Vec<Discovery> =
            (1..=SEEDS).map(|seed| discover(&topology, seed, 3 * PINGS, 180 * SECOND)).collect();
        let control = |minute: usize| {
            let all = spread.iter().filter_map(|d| d.control.get(minute));
            all.sum::<f64>() / spread.len() as f64
        };
        let known =
            PUBLISHED.iter().find(|(n, size, _)| *n == topology.name && *size == topology.nodes);
        let time = |t: Option<Micros>| {
            t.map_or("never".to_owned(), |t| format!("{:.2} s", t as f64 / SECOND as f64))
        };
        println!(
            "| {} | {} | {}/{} | {} | {:.1} ms | {:.0} | {:.0} | {} |",
            topology.name,
            topology.nodes,
            burst.arrived,
            burst.reachable,
            time(burst.converged),
            burst.median as f64 / 1000.0,
            control(0),
            control(2),
            known.map_or("", |k| k.2)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Peak memory of this process in MiB, where the system tells it.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

/// Time that a processor spent on this (single) thread, in seconds, where the
/// system tells it.
pub fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<u64>().ok()? as f64 / 1e9)
}

/// Prints the table of growth: worlds of 10 simulated seconds, 20 payloads wished
/// for each second, whatever the number of nodes.
///
/// # Errors
/// A world that could not be built or did not hold.
pub fn growth(sizes: &[usize]) -> Result<ExitCode, String> {
    println!("| nodes | start, s | then, s | x real time | events | arrived | memory, MiB |");
    println!("|---|---|---|---|---|---|---|");
    for nodes in sizes {
        let mut plan = Plan::calm(1, *nodes, "random");
        plan.duration = 10 * SECOND;
        plan.traffic_gap = 50 * MILLISECOND;
        let clock = Instant::now();
        let seconds = || cpu_seconds().unwrap_or_else(|| clock.elapsed().as_secs_f64());
        let (begin, mut begun) = (seconds(), None);
        let report = plan.run(&mut |_| {
            begun.get_or_insert_with(seconds);
        })?;
        let (end, begun) = (seconds(), begun.unwrap_or_default());
        let s = &report.summary;
        println!(
            "| {nodes} | {:.2} | {:.2} | {:.1} | {} | {}/{} | {} |",
            begun - begin,
            end - begun,
            10.0 / (end - begun),
            s["events"],
            s["arrived"],
            s["sent"],
            peak_mib()
        );
    }
    Ok(ExitCode::SUCCESS)
}
