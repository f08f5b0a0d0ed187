//! The options of `blvm-mesh-sim`: each combination is a job, or is refused with the
//! reason before anything is lived.

use crate::sim::radio::{Intruder, Modem};
use crate::sim::topology::{SHAPES, Topology};
use crate::sim::{Attack, Fault, LinkCode, Plan};
use blvm_mesh_core::time::{Micros, SECOND};
use clap::{Parser, Subcommand};
use std::net::{Ipv4Addr, SocketAddr};

/// Fewest nodes of a drawn world.
const FEWEST_DRAWN: usize = 3;
/// Most nodes.
const MOST_NODES: usize = 1_000_000;
/// Longest duration, in seconds: thirty years.
const LONGEST_S: f64 = 1e9;

/// How long a world that is served is lived, unless that is given.
const SERVED: Micros = 86_400 * SECOND;

/// Simulates whole meshes of the real core in virtual time. One seed decides
/// everything.
#[derive(Debug, Parser)]
#[command(name = "blvm-mesh-sim", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Decides everything that the options leave open.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Draw a small world with all its troubles from this seed; other options
    /// change it.
    #[arg(long, value_name = "SEED", conflicts_with = "seed")]
    drawn: Option<u64>,
    /// Number of nodes [default: 50]. A file has its own.
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
    /// bandwidth; `none`: wires, also where a drawn world would be on radio.
    #[arg(long, value_name = "SF,KHZ|none", num_args = 0..=1, default_missing_value = "7,250")]
    radio: Option<String>,
    /// What goes wrong: `all`, `none`, or a list.
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,
    /// How many nodes are dishonest.
    #[arg(long, value_name = "N")]
    adversaries: Option<usize>,
    /// What they do: `all` or a list.
    #[arg(long, value_name = "LIST")]
    attacks: Option<String>,
    /// What carries packets on all links: `packets` (the world itself, as authenticated),
    /// `stream` or `datagrams` (the core's link code; on radio only the latter), or `channel` (on radio,
    /// where nodes find each other)
    /// [default: packets].
    #[arg(long, value_name = "CODE")]
    links: Option<String>,
    /// A radio that belongs to no node, where links are the channel: `jammer:PERCENT` of each ten seconds,
    /// `liar:MS` a forged frame each so often, `noise:MS` the same unreadable.
    #[arg(long, value_name = "KIND:NUMBER")]
    intruder: Option<String>,
    /// Let some pay by covenant.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    covenants: Option<bool>,
    /// Mean time between two wishes to send, of all nodes together.
    #[arg(long, value_name = "MS")]
    traffic_ms: Option<f64>,
    /// Mean time between two flows that are opened, of all nodes together; 0: there are none
    /// [default: 0, or drawn].
    #[arg(long, value_name = "MS")]
    flows_ms: Option<f64>,
    /// End with a liveness phase: everything is mended, and what is then sent must arrive. On
    /// wires only.
    #[arg(long)]
    liveness: bool,
    /// Live N worlds, drawn from N seeds from --seed on; every tenth in either
    /// memory.
    #[arg(long, value_name = "N")]
    swarm: Option<u64>,
    /// Keep the tables on the heap, or in fixed memory as boards do [default: drawn, or
    /// the heap].
    #[arg(long, value_name = "BOOL")]
    heap: Option<bool>,
    /// Give tables on the heap the sizes of a board's, too.
    #[arg(long)]
    boards: bool,
    /// Live the world in either memory, with boards' tables: the same must happen.
    #[arg(long)]
    compare: bool,
    /// Worlds that may be tried to make a failing one smaller.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub tries: usize,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write one line per input with its actions; - is standard output.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<String>,
    /// Show the world in a browser on this host, as a node's page, while it is lived in real time:
    /// IP:PORT, or a port of 127.0.0.1. Its address is printed [--duration: a day then].
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub serve: Option<SocketAddr>,
    /// How much faster than real time that is, 0.01 to 1000.
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "serve")]
    pub speed: f64,
    /// Draw the mesh at the end: what each link carried, who received, who is dishonest.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Measures discovery as others are measured, and prints a table.
    Discovery,
    /// Measures how cost grows with the number of nodes, and prints a table.
    Growth {
        /// Numbers of nodes.
        #[arg(default_values_t = [1_000, 3_000, 10_000, 30_000, 100_000])]
        nodes: Vec<usize>,
    },
    /// Lives meshes of radios on their channel, and with managed flooding, and prints a table.
    Radios {
        /// Worlds of each kind.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: u64,
        /// Only this kind of world; `thousand` is lived only where it is named.
        #[arg(long, value_name = "NAME")]
        world: Option<String>,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Job {
    /// The table of discovery.
    Discovery,
    /// The table of growth, for these numbers of nodes.
    Growth(Vec<usize>),
    /// The table of radios, of so many worlds each, and of one kind only.
    Radios(u64, Option<String>),
    /// One world.
    One(Plan),
    /// One world in either memory.
    Compare(Plan),
    /// Worlds of so many seeds.
    Swarm(u64),
}

fn list<T: Copy>(
    option: &str,
    text: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Vec<T>, String> {
    match text {
        "all" => Ok(all.to_vec()),
        "none" => Ok(Vec::new()),
        _ => text
            .split(',')
            .map(|word| {
                let known = || all.iter().map(|t| name(*t)).collect::<Vec<_>>().join(", ");
                let found = all.iter().copied().find(|t| name(*t) == word);
                found.ok_or_else(|| format!("{option}: {word} is none of all, none, {}", known()))
            })
            .collect(),
    }
}

fn modem(text: &str) -> Result<Option<Modem>, String> {
    if text == "none" {
        return Ok(None);
    }
    let numbers = text.split_once(',').and_then(|(sf, khz)| {
        let (sf, khz): (u32, u32) = (sf.parse().ok()?, khz.parse().ok()?);
        ((7..=12).contains(&sf) && [125, 250, 500].contains(&khz)).then_some((sf, khz))
    });
    let (spreading, khz) =
        numbers.ok_or("--radio takes 7 to 12, and 125, 250 or 500 kHz: 7,250")?;
    Ok(Some(Modem { spreading, bandwidth: khz * 1000, ..Modem::SHORT }))
}

/// Where the page is: IP:PORT, or a port of 127.0.0.1.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse::<u16>().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let wrong = |_| format!("{text} is neither IP:PORT nor a port");
    port.or_else(|_| text.parse()).map_err(wrong)
}

/// A number with so many microseconds to its unit.
fn micros(option: &str, value: f64, unit: Micros, least: f64, most: f64) -> Result<Micros, String> {
    match (least..=most).contains(&value) {
        true => Ok((value * unit as f64).round() as Micros),
        false => Err(format!("{option} takes {least} to {most}")),
    }
}

impl Args {
    /// What is to be done.
    ///
    /// # Errors
    /// Why these options make no job.
    pub fn job(&self) -> Result<Job, String> {
        if let Some(Command::Growth { nodes }) = &self.command {
            nodes.iter().try_for_each(|n| right_number(*n))?;
        }
        match (&self.command, self.swarm) {
            (Some(Command::Discovery), _) => return Ok(Job::Discovery),
            (Some(Command::Growth { nodes }), _) => return Ok(Job::Growth(nodes.clone())),
            (Some(Command::Radios { seeds, world }), _) => {
                return Ok(Job::Radios(*seeds, world.clone()));
            }
            (None, Some(count)) => {
                self.many(count)?;
                self.plan(self.seed)?;
                return Ok(Job::Swarm(count));
            }
            (None, None) => {}
        }
        let plan = self.plan(self.seed)?;
        if self.compare {
            if self.heap.is_some() || self.boards {
                return Err(
                    "--compare lives in either memory: leave --heap and --boards out".into()
                );
            }
            if self.shows() {
                let instead = "for --json, --trace, --svg and --serve live one world, with --heap";
                return Err(format!("--compare lives two worlds and shows none: {instead}"));
            }
            return Ok(Job::Compare(plan));
        }
        if !(0.01..=1000.0).contains(&self.speed) {
            return Err("--speed takes 0.01 to 1000".into());
        }
        if self.json && self.trace.as_deref() == Some("-") {
            return Err("--json and --trace - would both write to standard output".into());
        }
        if self.svg.as_deref() == Some("-") {
            return Err("--svg takes a file; standard output has the summary".into());
        }
        Ok(Job::One(plan))
    }

    /// Whether more is shown of a world than whether it holds.
    fn shows(&self) -> bool {
        self.json || self.trace.is_some() || self.svg.is_some() || self.serve.is_some()
    }

    /// Whether so many worlds can be lived.
    fn many(&self, count: u64) -> Result<(), String> {
        if count == 0 {
            return Err("--swarm takes the number of worlds, at least 1".into());
        }
        if self.seed.checked_add(count - 1).is_none() {
            return Err(format!("--swarm {count} from --seed {} on: no such seeds", self.seed));
        }
        if self.drawn.is_some() {
            return Err("--swarm draws worlds from --seed on: leave --drawn out".into());
        }
        if self.compare {
            return Err("--swarm compares every tenth world: leave --compare out".into());
        }
        if self.shows() {
            let instead =
                "for --json, --trace, --svg and --serve live one of them, with --drawn SEED";
            return Err(format!("--swarm lives many worlds: {instead}"));
        }
        Ok(())
    }

    /// The plan of a seed.
    ///
    /// # Errors
    /// Why these options make no plan. In a swarm they make one of each seed or of none.
    pub fn plan(&self, seed: u64) -> Result<Plan, String> {
        let radio = self.radio.as_deref().map(modem).transpose()?;
        let on_radio = matches!(radio, Some(Some(_)));
        let mut code = None;
        if let Some(name) = &self.links {
            let codes = list("--links", name, &LinkCode::ALL, LinkCode::name)?;
            let [one] = codes[..] else { return Err("--links takes one word".into()) };
            code = Some(one);
        }
        if on_radio && code == Some(LinkCode::Stream) {
            return Err("on --radio there are no streams: --links datagrams".into());
        }
        if code == Some(LinkCode::Channel) && !on_radio {
            return Err("--links channel is what radios do: --radio".into());
        }
        if on_radio && self.liveness {
            return Err("on --radio nothing is sure to arrive: leave --liveness out".into());
        }
        // What only wires have makes a drawn world one on wires.
        let on_wires = radio == Some(None) || self.liveness || code == Some(LinkCode::Stream);
        let drawn = self.drawn.or(self.swarm.map(|_| seed));
        let nodes = self.nodes_given()?;
        let shape = if on_radio { "geometric" } else { "random" };
        let mut plan = match drawn {
            Some(seed) if on_radio => Plan::drawn_on_radio(seed),
            Some(seed) if on_wires => Plan::drawn_on_wires(seed),
            Some(seed) => Plan::drawn(seed),
            None => Plan::calm(seed, nodes.unwrap_or(50), shape),
        };
        plan.nodes = nodes.unwrap_or(plan.nodes);
        plan.topology = self.topology.clone().unwrap_or(plan.topology);
        if let Some(Some(modem)) = radio {
            plan.radio = Some(modem);
            if !plan.varied {
                plan.traffic_gap = 1000 * SECOND / plan.nodes.max(1) as u64;
            }
        }
        if self.serve.is_some() {
            plan.duration = SERVED;
        }
        if let Some(seconds) = self.duration {
            plan.duration = micros("--duration", seconds, SECOND, 0.0, LONGEST_S)?;
        }
        if let Some(ms) = self.traffic_ms {
            plan.traffic_gap = micros("--traffic-ms", ms, 1000, 0.001, 1000.0 * LONGEST_S)?;
        }
        if let Some(ms) = self.flows_ms {
            plan.flow_gap = micros("--flows-ms", ms, 1000, 0.0, 1000.0 * LONGEST_S)?;
        }
        if let Some(text) = &self.faults {
            plan.faults = list("--faults", text, &Fault::ALL, Fault::name)?;
        }
        plan.adversaries = self.adversaries.unwrap_or(plan.adversaries);
        if let Some(text) = &self.attacks {
            plan.attacks = list("--attacks", text, &Attack::ALL, Attack::name)?;
            // Where there are no flows, all of them are those on what there is.
            let on_flows = text != "all" || plan.flow_gap > 0;
            plan.attacks.retain(|attack| on_flows || !attack.is_on_flows());
            if plan.adversaries == 0 && self.swarm.is_none() {
                return Err("--attacks: nobody is dishonest without --adversaries".into());
            }
        }
        plan.code = code.unwrap_or(plan.code);
        if let Some(text) = &self.intruder {
            let wrong = "--intruder takes jammer:1 to 99, or liar or noise:100 to 1000000";
            plan.intruder = Some(Intruder::parse(text).ok_or(wrong)?);
            if plan.code != LinkCode::Channel {
                return Err("--intruder is heard by radios: --radio --links channel".into());
            }
        }
        plan.covenants = self.covenants.unwrap_or(plan.covenants);
        plan.liveness |= self.liveness;
        plan.heap = self.heap.or(plan.heap);
        plan.boards = self.boards;
        if plan.varied && plan.boards {
            return Err("--boards: drawn worlds have boards' tables already".into());
        }
        let fewest = match self.swarm {
            Some(_) if nodes.is_none() => FEWEST_DRAWN,
            _ => plan.nodes,
        };
        if plan.adversaries > fewest {
            return Err(format!(
                "--adversaries: {} are more than {fewest} nodes",
                plan.adversaries
            ));
        }
        Ok(plan)
    }

    /// The number of nodes that the options give.
    fn nodes_given(&self) -> Result<Option<usize>, String> {
        let file = self.topology.as_ref().filter(|name| !SHAPES.contains(&name.as_str()));
        let nodes = match file {
            None => self.nodes,
            Some(file) => {
                let shapes = || format!("it is none of the shapes {} either", SHAPES.join(", "));
                let read = Topology::read(file.as_ref());
                let nodes = read.map_err(|e| format!("--topology {e}; {}", shapes()))?.nodes;
                if self.nodes.is_some_and(|n| n != nodes) {
                    return Err(format!("--topology {file} has {nodes} nodes: leave --nodes out"));
                }
                Some(nodes)
            }
        };
        nodes.map_or(Ok(()), right_number)?;
        Ok(nodes)
    }
}

fn right_number(nodes: usize) -> Result<(), String> {
    match nodes {
        2..=MOST_NODES => Ok(()),
        _ => Err(format!("--nodes: a mesh has 2 to {MOST_NODES} nodes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &str) -> Result<Plan, String> {
        let args = Args::try_parse_from(words.split(' ')).map_err(|e| e.to_string())?;
        args.job()?;
        args.plan(args.seed)
    }

    #[test]
    fn a_command_lives_the_plan_that_printed_it() {
        let again = |plan: &Plan| super::tests::plan(&plan.command()).expect("a plan");
        for seed in 1..200 {
            for plan in [Plan::drawn, Plan::drawn_on_wires, Plan::drawn_on_radio] {
                let plan = plan(seed);
                assert_eq!(again(&plan), plan);
                let other = Plan { nodes: 2, adversaries: 0, faults: vec![Fault::Cut], ..plan };
                assert_eq!(again(&other), other);
                let other = Plan { heap: Some(false), traffic_gap: 33_333, ..other };
                assert_eq!(again(&other), other);
                let other = Plan { flow_gap: 0, ..other };
                assert_eq!(again(&other), other);
            }
        }
        let mut calm = Plan::calm(7, 20, "grid");
        calm.traffic_gap = 5 * SECOND;
        assert_eq!(again(&calm), calm);
        (calm.boards, calm.duration, calm.liveness) = (true, 4_234_567, true);
        assert_eq!(again(&calm), calm);
        (calm.radio, calm.liveness, calm.adversaries) = (Some(Modem::SHORT), false, 3);
        assert_eq!(again(&calm), calm);
        (calm.code, calm.intruder) = (LinkCode::Channel, Some(Intruder::Jammer(30)));
        assert_eq!(again(&calm), calm);
    }

    #[test]
    fn a_wrong_word_is_told_with_the_right_ones() {
        let told = plan("sim --faults cut,ruin").unwrap_err();
        assert!(told.contains("ruin") && told.contains("silent"), "{told}");
        assert!(plan("sim --radio 3,9").unwrap_err().contains("7 to 12"));
        for wrong in [
            "sim --nodes 1",
            "sim --nodes 3 --adversaries 9",
            "sim --nodes 99999999",
            "sim --swarm 0",
            "sim --swarm 2 --seed 18446744073709551615",
            "sim --swarm 9 --adversaries 4",
            "sim --traffic-ms 0",
            "sim --traffic-ms nan",
            "sim --duration inf",
            "sim --duration=-1",
            "sim --topology nowhere.json",
            "sim --links all",
            "sim --radio --intruder liar:1000",
            "sim --radio --links channel --intruder liar:5",
            "sim --radio --links channel --intruder jammer:100",
            "sim growth 1",
        ] {
            let told = plan(wrong).expect_err(wrong);
            assert!(told.contains("--"), "{wrong}: {told}");
        }
    }

    #[test]
    fn what_only_wires_have_makes_a_drawn_world_one_on_wires() {
        let radio = (1..).find(|s| Plan::drawn(*s).radio.is_some()).expect("one in twelve");
        for option in ["--links stream", "--liveness", "--radio none"] {
            let plan = plan(&format!("sim --drawn {radio} {option}")).expect(option);
            assert_eq!(plan.radio, None, "{option}");
            assert!(plan.liveness, "{option}");
        }
        let wired = (1..).find(|s| Plan::drawn(*s).radio.is_none()).expect("most are");
        let plan = plan(&format!("sim --drawn {wired} --radio")).expect("a plan");
        assert!(plan.radio.is_some() && !plan.liveness);
    }
}
