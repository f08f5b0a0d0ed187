//! Hunts for plans in which an invariant does not hold, and makes them small.

use super::World;
use super::forge::Attack;
use super::live::Life;
use super::machine::Input;
use super::plan::{Fault, Plan};
use super::report::Report;
use super::wires::LinkCode;
use crate::sim::topology::SHAPES;
use blvm_mesh_core::time::{Micros, SECOND};
use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An event: the time in microseconds, the node, and what it was given.
pub type Event = (Micros, usize, Input);

thread_local! {
    /// What happens now.
    static NOW: RefCell<Option<Event>> = const { RefCell::new(None) };
}

/// Notes what happens, for whoever asks after a failure.
pub(super) fn note(at: Micros, node: usize, input: &Input) {
    NOW.set(Some((at, node, input.clone())));
}

/// A plan in which an invariant does not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The plan.
    pub plan: Plan,
    /// What did not hold.
    pub message: String,
    /// The latest event, if there was one.
    pub at: Option<Event>,
}

impl Failure {
    /// `I1` to `I10`, `liveness`, or `I8` for any other panic.
    pub fn invariant(&self) -> &str {
        let known = |name: &&str| {
            let number = name.strip_prefix('I').and_then(|n| n.parse::<u8>().ok());
            *name == "liveness" || number.is_some()
        };
        let mut words = self.message.split_whitespace().filter_map(|w| w.strip_suffix(':'));
        words.find(known).unwrap_or("I8")
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let message: String = self.message.chars().take(1500).collect();
        writeln!(f, "seed {}: {} does not hold", self.plan.seed, self.invariant())?;
        writeln!(f, "{message}")?;
        if let Some((at, node, input)) = &self.at {
            writeln!(f, "at {:.6} s, node {node}: {input:?}", *at as f64 / SECOND as f64)?;
        }
        let compare = if self.invariant() == "I7" { " --compare" } else { "" };
        write!(f, "again: {}{compare}", self.plan.command())
    }
}

/// Lives a plan and catches what does not hold.
///
/// # Errors
/// The failure; a plan that makes no world is none of them and panics.
pub fn attempt(plan: &Plan, progress: &mut dyn FnMut(&World)) -> Result<Report, Box<Failure>> {
    attempt_live(plan, progress, None).map(|life| Report::of(&life.world, plan))
}

/// The same; the world at its end. `lines` is written one for each input.
///
/// # Errors
/// The failure of a world that does not hold.
pub fn attempt_live<'a>(
    plan: &'a Plan,
    progress: &mut dyn FnMut(&World),
    lines: Option<Box<dyn Write>>,
) -> Result<Life<'a>, Box<Failure>> {
    attempt_told(plan, SECOND, progress, lines)
}

/// The same, with `progress` told each time that so much time has passed in the world.
///
/// # Errors
/// The failure of a world that does not hold.
pub fn attempt_told<'a>(
    plan: &'a Plan,
    every: Micros,
    progress: &mut dyn FnMut(&World),
    lines: Option<Box<dyn Write>>,
) -> Result<Life<'a>, Box<Failure>> {
    NOW.set(None);
    let run = || plan.live_told(every, progress, lines).unwrap_or_else(|e| panic!("no world: {e}"));
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        let message = text.unwrap_or_default();
        Box::new(Failure { plan: plan.clone(), message, at: NOW.take() })
    })
}

/// I7: lives a plan in either memory, with tables of the same size, and compares.
///
/// # Errors
/// The failure, also of another invariant.
pub fn compare(plan: &Plan) -> Result<(), Box<Failure>> {
    let of = |heap| Plan { heap: Some(heap), boards: !plan.varied, ..plan.clone() };
    let [one, other] = [of(true), of(false)].map(|plan| attempt(&plan, &mut |_| {}));
    match one?.trace == other?.trace {
        true => Ok(()),
        false => {
            let message = "I7: in fixed memory something else is done than on the heap".into();
            let heap = (!plan.varied).then_some(true);
            let plan = Plan { heap, boards: false, ..plan.clone() };
            Err(Box::new(Failure { plan, message, at: None }))
        }
    }
}

/// Plans that are a little simpler than this one, the simplest first.
fn simpler(plan: &Plan) -> Vec<Plan> {
    let mut out = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut other = plan.clone();
        change(&mut other);
        other.adversaries = other.adversaries.min(other.nodes.saturating_sub(2));
        out.push(other);
    };
    // A file has the nodes that it has.
    let fewer = |p: &mut Plan, less: fn(usize) -> usize| {
        if SHAPES.contains(&p.topology.as_str()) {
            p.nodes = less(p.nodes).max(2);
        }
    };
    with(&|p| fewer(p, |n| n / 2));
    with(&|p| p.duration /= 2);
    with(&|p| p.adversaries = 0);
    with(&|p| p.faults.clear());
    with(&|p| p.code = LinkCode::Packets);
    with(&|p| p.covenants = false);
    with(&|p| p.flow_gap = 0);
    for i in 0..plan.faults.len() {
        with(&|p| {
            p.faults.remove(i);
        });
    }
    if plan.adversaries > 0 {
        for i in 0..plan.attacks.len() {
            with(&|p| {
                p.attacks.remove(i);
            });
        }
    }
    with(&|p| p.adversaries = p.adversaries.saturating_sub(1));
    with(&|p| fewer(p, |n| n - 1));
    with(&|p| p.duration = p.duration * 7 / 8);
    out.retain(|p| p != plan);
    out
}

/// Makes a failing plan as small as it goes while the same invariant fails, with
/// at most `tries` worlds.
pub fn shrink(mut failure: Box<Failure>, mut tries: usize) -> Box<Failure> {
    'again: loop {
        for plan in simpler(&failure.plan) {
            if tries == 0 {
                return failure;
            }
            tries -= 1;
            let found = match failure.invariant() {
                "I7" => compare(&plan).err(),
                _ => attempt(&plan, &mut |_| {}).err(),
            };
            if let Some(other) = found.filter(|f| f.invariant() == failure.invariant()) {
                failure = other;
                continue 'again;
            }
        }
        return failure;
    }
}

fn list<T: PartialEq>(some: &[T], all: &[T], name: impl Fn(&T) -> &'static str) -> String {
    match some {
        [] => "none".to_owned(),
        some if some == all => "all".to_owned(),
        some => some.iter().map(name).collect::<Vec<_>>().join(","),
    }
}

impl Plan {
    /// The command that lives this plan.
    pub fn command(&self) -> String {
        let mut out = String::from("blvm-mesh-sim");
        out += &match self.varied {
            true => format!(" --drawn {}", self.seed),
            false => format!(" --seed {}", self.seed),
        };
        out += &format!(" --nodes {} --topology {}", self.nodes, self.topology);
        out += &format!(" --duration {}", self.duration as f64 / SECOND as f64);
        out += &format!(" --faults {}", list(&self.faults, &Fault::ALL, |f| f.name()));
        out += &format!(" --adversaries {}", self.adversaries);
        if self.adversaries > 0 {
            out += &format!(" --attacks {}", list(&self.attacks, &Attack::ALL, |l| l.name()));
        }
        match self.radio {
            Some(modem) => {
                out += &format!(" --radio {},{}", modem.spreading, modem.bandwidth / 1000);
            }
            None if self.varied && Self::drawn(self.seed).radio.is_some() => {
                out += " --radio none";
            }
            None => {}
        }
        out += &format!(" --traffic-ms {}", self.traffic_gap as f64 / 1000.0);
        out += &format!(" --flows-ms {}", self.flow_gap as f64 / 1000.0);
        if self.liveness {
            out += " --liveness";
        }
        out += &format!(" --links {} --covenants {}", self.code.name(), self.covenants);
        if let Some(intruder) = self.intruder {
            out += &format!(" --intruder {intruder}");
        }
        if let Some(heap) = self.heap.filter(|heap| self.varied || !heap) {
            out += &format!(" --heap {heap}");
        }
        if self.boards {
            out += " --boards";
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_invariant_and_its_command() {
        let plan = Plan { nodes: 8, ..Plan::drawn(3) };
        let failure = Failure { plan, message: "I4: twice".into(), at: None };
        assert_eq!(failure.invariant(), "I4");
        let message = "assertion `left == right` failed: I10: late\n left: 1".into();
        assert_eq!(Failure { message, ..failure.clone() }.invariant(), "I10");
        let other = Failure { message: "index out of bounds".into(), ..failure.clone() };
        assert_eq!(other.invariant(), "I8");
        assert!(simpler(&failure.plan).iter().all(|p| *p != failure.plan));
        assert!(failure.to_string().contains("--drawn 3 --nodes 8"));
    }
}
