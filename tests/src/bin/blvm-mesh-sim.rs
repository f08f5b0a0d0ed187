//! The simulator's command line. `--help` says what it can do, `docs/SIMULATION.md`
//! how to use it.

use blvm_mesh_core::time::SECOND;
use blvm_mesh_tests::sim::hunt::{Failure, attempt, attempt_live, compare, shrink};
use blvm_mesh_tests::sim::radio::Modem;
use blvm_mesh_tests::sim::{Fault, Lie, LinkCode, Plan, Report, World, svg};
use blvm_mesh_tests::tables;
use clap::{Parser, Subcommand};
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Instant;

/// Simulates whole meshes of the real core in virtual time. One seed decides
/// everything.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Decides everything that the options leave open.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw a small world with all its troubles from this seed; other options
    /// change it.
    #[arg(long, value_name = "SEED", conflicts_with = "seed")]
    drawn: Option<u64>,
    /// Number of nodes [default: 50].
    #[arg(long)]
    nodes: Option<usize>,
    /// line, ring, grid, tree, star, random, geometric, moving, or a file
    /// [default: random; on radio: geometric].
    #[arg(long, value_name = "NAME|FILE")]
    topology: Option<String>,
    /// Simulated seconds [default: 60].
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// All links are LoRa radio on one channel. SF,KHZ sets spreading factor and
    /// bandwidth.
    #[arg(long, value_name = "SF,KHZ", num_args = 0..=1, default_missing_value = "7,250")]
    radio: Option<String>,
    /// What goes wrong: `all`, `none`, or a list.
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,
    /// How many nodes are dishonest.
    #[arg(long, value_name = "N")]
    liars: Option<usize>,
    /// What they do: `all` or a list.
    #[arg(long, value_name = "LIST")]
    lies: Option<String>,
    /// What carries packets on all links: `packets` (the world itself, as authenticated),
    /// `stream` or `datagrams` (the core's link code; on radio only the latter)
    /// [default: packets].
    #[arg(long, value_name = "CODE")]
    links: Option<String>,
    /// Let some pay by covenant.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    covenants: Option<bool>,
    /// Mean time between two wishes to send, of all nodes together.
    #[arg(long, value_name = "MS")]
    traffic_ms: Option<u64>,
    /// Mend everything at the end; what is then sent must arrive.
    #[arg(long)]
    peace: bool,
    /// Live N worlds, drawn from N seeds from this one on; every tenth in either
    /// memory.
    #[arg(long, value_name = "N")]
    swarm: Option<u64>,
    /// Keep the tables on the heap, or in fixed memory [default: drawn, or the heap].
    #[arg(long, value_name = "BOOL")]
    heap: Option<bool>,
    /// Worlds that may be tried to make a failing one smaller.
    #[arg(long, value_name = "N", default_value_t = 300)]
    tries: usize,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Write one line per input with its actions; - is standard output.
    #[arg(long, value_name = "FILE")]
    trace: Option<String>,
    /// Draw the mesh: link load, deliveries, liars.
    #[arg(long, value_name = "FILE")]
    svg: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Measures discovery as others are measured, and prints a table.
    Discovery,
    /// Measures how cost grows with the number of nodes, and prints a table.
    Growth {
        /// Numbers of nodes.
        #[arg(default_values_t = [1_000, 3_000, 10_000, 30_000, 100_000])]
        nodes: Vec<usize>,
    },
}

fn list<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> String) -> Result<Vec<T>, String> {
    match text {
        "all" => Ok(all.to_vec()),
        "none" => Ok(Vec::new()),
        _ => text
            .split(',')
            .map(|word| {
                let known = || all.iter().map(|t| name(*t)).collect::<Vec<_>>().join(", ");
                let found = all.iter().copied().find(|t| name(*t) == word);
                found.ok_or_else(|| format!("{word} is none of all, none, {}", known()))
            })
            .collect(),
    }
}

fn modem(text: &str) -> Result<Modem, String> {
    let numbers = text.split_once(',').and_then(|(sf, khz)| {
        let (sf, khz): (u32, u32) = (sf.parse().ok()?, khz.parse().ok()?);
        ((7..=12).contains(&sf) && [125, 250, 500].contains(&khz)).then_some((sf, khz))
    });
    let (spreading, khz) =
        numbers.ok_or("--radio takes 7 to 12, and 125, 250 or 500 kHz: 7,250")?;
    Ok(Modem { spreading, bandwidth: khz * 1000, ..Modem::SHORT })
}

impl Args {
    fn plan(&self, seed: u64) -> Result<Plan, String> {
        let swarm = self.swarm.is_some() && self.nodes.is_none() && self.radio.is_none();
        let shape = if self.radio.is_some() { "geometric" } else { "random" };
        let mut plan = match self.drawn {
            Some(seed) => Plan::drawn(seed),
            None if swarm => Plan::drawn(seed),
            None => Plan::calm(seed, self.nodes.unwrap_or(50), shape),
        };
        plan.nodes = self.nodes.unwrap_or(plan.nodes);
        plan.topology = self.topology.clone().unwrap_or(plan.topology);
        if let Some(seconds) = self.duration {
            plan.duration = (seconds * SECOND as f64) as u64;
        }
        if let Some(text) = &self.radio {
            plan.radio = Some(modem(text)?);
            if !plan.varied {
                plan.traffic_gap = 1000 * SECOND / plan.nodes.max(1) as u64;
            }
        }
        if let Some(text) = &self.faults {
            plan.faults = list(text, &Fault::ALL, Fault::name)?;
        }
        if let Some(text) = &self.lies {
            plan.lies = list(text, &Lie::ALL, Lie::name)?;
        }
        plan.liars = self.liars.unwrap_or(plan.liars);
        if let Some(name) = &self.links {
            let codes = list(name, &LinkCode::ALL, LinkCode::name)?;
            let [code] = codes[..] else { return Err("--links takes one word".into()) };
            plan.code = code;
        }
        if plan.radio.is_some() && plan.code == LinkCode::Stream {
            return Err("on radio there are no streams: --links datagrams".into());
        }
        plan.covenants = self.covenants.unwrap_or(plan.covenants);
        plan.traffic_gap = self.traffic_ms.map_or(plan.traffic_gap, |ms| ms * 1000);
        plan.peace |= self.peace;
        plan.heap = self.heap.or(plan.heap);
        if plan.nodes < 2 {
            return Err("a mesh has at least 2 nodes".into());
        }
        if plan.liars > plan.nodes {
            return Err(format!("{} liars are more than {} nodes", plan.liars, plan.nodes));
        }
        Ok(plan)
    }
}

fn failed(failure: Box<Failure>, tries: usize) -> ExitCode {
    eprintln!("{failure}");
    if tries > 0 {
        eprintln!("making it smaller ..\nsmallest:\n{}", shrink(failure, tries));
    }
    ExitCode::FAILURE
}

/// Says how far a long run is: on a terminal every two seconds in the same line, else
/// every ten seconds.
struct Progress {
    start: Instant,
    last: u64,
}

impl Progress {
    fn new() -> Self {
        Self { start: Instant::now(), last: 0 }
    }

    fn say(&mut self, text: impl FnOnce() -> String) {
        let (running, live) = (self.start.elapsed().as_secs(), stderr().is_terminal());
        if running >= self.last + if live { 2 } else { 10 } {
            self.last = running;
            match live {
                true => eprint!("\r{} after {running} s ", text()),
                false => eprintln!("{} after {running} s", text()),
            }
        }
    }
}

fn one(args: &Args, plan: &Plan) -> Result<ExitCode, String> {
    // A topology that cannot be read is no failure of an invariant.
    plan.shape()?;
    let start = Instant::now();
    let out: Option<Box<dyn Write>> = match args.trace.as_deref() {
        None => None,
        Some("-") => Some(Box::new(stdout())),
        Some(file) => {
            let file = File::create(file).map_err(|e| format!("{file}: {e}"))?;
            Some(Box::new(BufWriter::new(file)))
        }
    };
    let mut progress = Progress::new();
    let mut tell = |world: &World| {
        let percent = (100 * world.now / plan.duration.max(1)).min(100);
        progress.say(|| format!("{percent:3} %, {} events", world.events()));
    };
    let life = match attempt_live(plan, &mut tell, out) {
        Ok(life) => life,
        Err(failure) => return Ok(failed(failure, args.tries)),
    };
    if let Some(file) = &args.svg {
        let text = svg::draw(&life.world, &life.topology);
        std::fs::write(file, text).map_err(|e| format!("{file}: {e}"))?;
    }
    let report = Report::of(&life.world, plan);
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), tables::cpu_seconds());
    let mut summary = report.summary;
    let number = |key: &str| summary[key].as_f64().unwrap_or_default();
    let (events, simulated) = (number("events"), number("simulated_s"));
    summary["elapsed_s"] = elapsed.into();
    // On a busy machine the time of the processor is what can be compared.
    let busy = cpu.unwrap_or(elapsed);
    summary["cpu_s"] = busy.into();
    summary["events_per_second"] = (events / busy).into();
    summary["times_real_time"] = (simulated / busy).into();
    if args.json {
        println!("{summary:#}");
    } else {
        tables::brief(&summary);
    }
    Ok(ExitCode::SUCCESS)
}

fn swarm(args: &Args, count: u64) -> Result<ExitCode, String> {
    let (first, mut progress) = (args.seed, Progress::new());
    for seed in first..first + count {
        let plan = args.plan(seed)?;
        let mut found = attempt(&plan, &mut |_| {}).err();
        if seed % 10 == 0 && found.is_none() {
            found = compare(&plan).err();
        }
        if let Some(failure) = found {
            return Ok(failed(failure, args.tries));
        }
        progress.say(|| format!("{} of {count} worlds", seed + 1 - first));
    }
    println!("{count} worlds, seeds {first} to {}: every invariant holds", first + count - 1);
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A failure is told by whoever catches it.
    std::panic::set_hook(Box::new(|_| {}));
    let result = match (&args.command, args.swarm) {
        (Some(Command::Discovery), _) => tables::discovery(),
        (Some(Command::Growth { nodes }), _) => tables::growth(nodes),
        (None, Some(count)) => swarm(&args, count),
        (None, None) => args.plan(args.seed).and_then(|plan| one(&args, &plan)),
    };
    result.unwrap_or_else(|e| {
        eprintln!("{e}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_lives_the_plan_that_printed_it() {
        let again = |plan: &Plan| {
            let command = plan.command();
            let args = Args::try_parse_from(command.split(' ')).expect("a command");
            args.plan(args.seed).expect("a plan")
        };
        for seed in 1..200 {
            let plan = Plan::drawn(seed);
            assert_eq!(again(&plan), plan);
            let other = Plan { nodes: 2, liars: 0, faults: vec![Fault::Cut], ..plan };
            assert_eq!(again(&other), other);
        }
        let mut calm = Plan::calm(7, 20, "grid");
        calm.traffic_gap = 5 * SECOND;
        assert_eq!(again(&calm), calm);
        (calm.radio, calm.peace, calm.liars) = (Some(Modem::SHORT), true, 3);
        assert_eq!(again(&calm), calm);
    }

    #[test]
    fn a_wrong_word_is_told_with_the_right_ones() {
        let plan = |words: &str| {
            let words = words.split(' ');
            Args::try_parse_from(words).map_err(|e| e.to_string()).and_then(|a| a.plan(1))
        };
        let told = plan("sim --faults cut,ruin").unwrap_err();
        assert!(told.contains("ruin") && told.contains("silent"), "{told}");
        assert!(plan("sim --radio 3,9").unwrap_err().contains("7 to 12"));
        assert!(plan("sim --nodes 1").is_err());
        assert!(plan("sim --nodes 3 --liars 9").is_err());
    }
}
