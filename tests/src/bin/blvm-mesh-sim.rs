//! The simulator's command line. `--help` says what it can do, `docs/SIMULATION.md`
//! how to use it.

use blvm_mesh_core::time::SECOND;
use blvm_mesh_tests::serve::Show;
use blvm_mesh_tests::sim::hunt::{Failure, attempt, attempt_told, compare, shrink};
use blvm_mesh_tests::sim::options::{Args, Job};
use blvm_mesh_tests::sim::radio_worlds::radios;
use blvm_mesh_tests::sim::tables;
use blvm_mesh_tests::sim::{Plan, Report, World, svg};
use clap::Parser;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Instant;

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
    let start = Instant::now();
    let create = |file: &str| File::create(file).map_err(|e| format!("{file}: {e}"));
    // A drawing that nobody can write is told before the world is lived.
    let drawing = args.svg.as_deref().map(create).transpose()?;
    let out: Option<Box<dyn Write>> = match args.trace.as_deref() {
        None => None,
        Some("-") => Some(Box::new(stdout())),
        Some(file) => Some(Box::new(BufWriter::new(create(file)?))),
    };
    let mut show = match args.serve {
        Some(at) => Some(Show::start(at, args.speed, plan.shape()?)?),
        None => None,
    };
    if let Some(show) = &show {
        println!("{}", show.url());
    }
    let every = show.as_ref().map_or(SECOND, Show::every);
    let mut progress = Progress::new();
    let mut tell = |world: &World| {
        if let Some(show) = &mut show {
            return show.pass(world);
        }
        let percent = (100 * world.now / plan.duration.max(1)).min(100);
        progress.say(|| format!("{percent:3} %, {} events", world.events()));
    };
    let life = match attempt_told(plan, every, &mut tell, out) {
        Ok(life) => life,
        Err(failure) => return Ok(failed(failure, args.tries)),
    };
    if let Some(mut file) = drawing {
        let text = svg::draw(&life.world, &life.topology, plan);
        file.write_all(text.as_bytes()).map_err(|e| format!("--svg: {e}"))?;
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

fn both(args: &Args, plan: &Plan) -> ExitCode {
    match compare(plan) {
        Err(failure) => failed(failure, args.tries),
        Ok(()) => {
            println!("the same happens in either memory, and every invariant holds");
            ExitCode::SUCCESS
        }
    }
}

fn swarm(args: &Args, count: u64) -> Result<ExitCode, String> {
    let (first, mut progress) = (args.seed, Progress::new());
    for seed in first..=first + (count - 1) {
        let plan = args.plan(seed)?;
        let mut found = attempt(&plan, &mut |_| {}).err();
        if seed % 10 == 0 && found.is_none() {
            found = compare(&plan).err();
        }
        if let Some(failure) = found {
            return Ok(failed(failure, args.tries));
        }
        progress.say(|| format!("{} of {count} worlds", seed - first + 1));
    }
    println!("{count} worlds, seeds {first} to {}: every invariant holds", first + (count - 1));
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A failure is told by whoever catches it.
    std::panic::set_hook(Box::new(|_| {}));
    let result = args.job().and_then(|job| match job {
        Job::Discovery => tables::discovery(),
        Job::Growth(nodes) => tables::growth(&nodes),
        Job::Radios(seeds, world) => radios(seeds, world.as_deref()),
        Job::One(plan) => one(&args, &plan),
        Job::Compare(plan) => Ok(both(&args, &plan)),
        Job::Swarm(count) => swarm(&args, count),
    });
    result.unwrap_or_else(|e| {
        eprintln!("{e}");
        ExitCode::from(2)
    })
}
