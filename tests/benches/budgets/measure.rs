//! Times jobs against one another, and prints ratios with a verdict.

use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How often the jobs take turns.
    pub rounds: usize,
    /// Time that each takes in one turn, about.
    pub turn: Duration,
    /// Payments in the replay table.
    pub payments: u64,
    /// Flows through one relay.
    pub flows: u64,
}

/// What takes a number of runs and tells their time.
pub(crate) type Job<'a> = Box<dyn FnMut(u32) -> Duration + 'a>;

/// A job whose runs are all alike.
pub(crate) fn job<'a>(mut run: impl FnMut() + 'a) -> Job<'a> {
    Box::new(move |runs| {
        let start = Instant::now();
        (0..runs).for_each(|_| run());
        start.elapsed()
    })
}

/// Nanoseconds of one run of each job. They take turns, so that a change of the
/// clock's speed or of the load meets all; of ten turns the second-fastest counts, as
/// the slow ones tell what else the machine does.
pub(crate) fn nanoseconds<const N: usize>(effort: Effort, mut jobs: [Job<'_>; N]) -> [f64; N] {
    let runs = jobs.each_mut().map(|job| {
        let mut runs = 1;
        while runs < 1 << 20 && job(runs) < effort.turn {
            runs *= 2;
        }
        runs
    });
    let mut turns = jobs.each_ref().map(|_| Vec::new());
    for _ in 0..effort.rounds {
        for ((job, runs), turns) in jobs.iter_mut().zip(runs).zip(&mut turns) {
            turns.push(job(runs).as_nanos() as f64 / f64::from(runs));
        }
    }
    turns.map(|mut turns| {
        turns.sort_by(f64::total_cmp);
        turns[turns.len() / 5]
    })
}

/// The head of the table.
pub(crate) fn head() {
    println!("| job | ns | against | ns | ratio | budget | |");
    println!("|---|---|---|---|---|---|---|");
}

/// One line: a job against another. `most` is the ratio allowed, if there is a budget.
pub(crate) fn line(job: &str, ns: f64, against: &str, other: f64, most: Option<f64>) {
    let ratio = ns / other;
    let (budget, verdict) = match most {
        Some(most) if ratio <= most => (most.to_string(), "met"),
        Some(most) => (most.to_string(), "MISSED"),
        None => Default::default(),
    };
    println!("| {job} | {ns:.0} | {against} | {other:.0} | {ratio:.2} | {budget} | {verdict} |");
}

/// One line: a job against its budget in nanoseconds.
pub(crate) fn limit(job: &str, ns: f64, most: f64) {
    line(job, ns, "budget", most, Some(1.0));
}
