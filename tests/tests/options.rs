//! Every combination of the simulator's options is lived or refused at once, with the
//! reason.

use blvm_mesh_tests::rng::Rng;
use blvm_mesh_tests::sim::hunt::{attempt, compare};
use blvm_mesh_tests::sim::options::{Args, Job};
use blvm_mesh_tests::sim::{Attack, Fault, LinkCode, Plan, World};
use clap::Parser;
use std::collections::BTreeSet;

/// For each option what it may be set to beside being left out.
const OPTIONS: [&[&str]; 15] = [
    &["--drawn 990017", "--drawn 12", "--swarm 2", "--swarm 1 --seed 10"],
    &["--radio", "--radio 9,125", "--radio none"],
    &["--links packets", "--links stream", "--links datagrams"],
    &["--heap true", "--heap false"],
    &["--boards"],
    &["--compare"],
    &["--liveness"],
    &["--topology star", "--topology moving", "--topology line", "--topology FILE"],
    &["--nodes 12"],
    &["--adversaries 2", "--adversaries 2 --attacks all", "--attacks forge,flood,halfopen"],
    &["--faults none", "--faults all"],
    &["--covenants", "--covenants false"],
    &["--traffic-ms 700"],
    &["--json", "--trace -"],
    &["--trace FILE", "--svg FILE", "--tries 3", "--serve 0 --speed 50"],
];

/// One choice of each option; 0: it is left out.
type Row = [usize; OPTIONS.len()];

fn words(row: &Row) -> String {
    let set = OPTIONS.iter().zip(row).filter_map(|(of, at)| of.get(at.checked_sub(1)?));
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/matrix.json");
    set.fold("sim --duration 2".to_owned(), |all, one| all + " " + &one.replace("FILE", file))
}

/// What is to be done, or why nothing is.
fn job(words: &str) -> Result<(Args, Job), String> {
    let args = Args::try_parse_from(words.split(' ')).map_err(|e| e.to_string())?;
    let job = args.job()?;
    Ok((args, job))
}

fn live(words: &str) -> Result<(), String> {
    let (args, job) = job(words)?;
    let one = |plan: &Plan| attempt(plan, &mut |_: &World| {}).map(drop);
    match job {
        Job::One(plan) => one(&plan),
        Job::Compare(plan) => compare(&plan),
        Job::Swarm(count) => (args.seed..args.seed + count).try_for_each(|seed| {
            let plan = args.plan(seed).expect("all seeds or none");
            one(&plan)?;
            if seed % 10 == 0 { compare(&plan) } else { Ok(()) }
        }),
        job => panic!("{words}: {job:?}"),
    }
    .map_err(|failure| failure.to_string())
}

/// The pairs of settings in a row.
fn pairs(row: &Row) -> BTreeSet<[(usize, usize); 2]> {
    let set: Vec<_> = row.iter().copied().enumerate().filter(|(_, at)| *at > 0).collect();
    let pairs =
        set.iter().enumerate().flat_map(|(i, a)| set[i + 1..].iter().map(move |b| [*a, *b]));
    pairs.collect()
}

fn write_topology() {
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/matrix.json");
    let text =
        "{\"nodes\": 7, \"links\": [[0, 1], [1, 2, 0.9, 0.8], [2, 3], [3, 0], [4, 0], [5, 6]]}";
    std::fs::write(file, text).expect("a file");
}

/// Every pair of settings is refused, or is in a world that is lived and in which all holds.
#[test]
fn every_combination_is_lived_or_refused_with_the_reason() {
    write_topology();
    // What goes together.
    let (mut open, mut refused) = (BTreeSet::new(), 0);
    for a in 0..OPTIONS.len() {
        for b in a + 1..OPTIONS.len() {
            for (i, j) in
                (1..=OPTIONS[a].len()).flat_map(|i| (1..=OPTIONS[b].len()).map(move |j| (i, j)))
            {
                let mut row = [0; OPTIONS.len()];
                (row[a], row[b]) = (i, j);
                match job(&words(&row)) {
                    Ok(_) => {
                        open.insert([(a, i), (b, j)]);
                    }
                    Err(reason) => {
                        refused += 1;
                        assert!(reason.contains("--"), "{}: {reason}", words(&row));
                    }
                }
            }
        }
    }
    // Attacks need adversaries, whatever else there is.
    let lone = |[a, b]: &[(usize, usize); 2]| [a, b].contains(&&(9, 3));
    open.retain(|pair| !lone(pair));
    let (mut rng, mut lived) = (Rng::new(26), 0);
    println!("{} pairs go together, {refused} do not", open.len());
    assert!(refused > 20 && open.len() > 200, "{refused} and {}", open.len());
    while !open.is_empty() && lived < 200 {
        // Of many drawn rows the one with the most pairs that were not lived yet.
        let mut best: Option<(usize, Row)> = None;
        for _ in 0..300 {
            let of = rng.within(2, 5);
            let row = OPTIONS.map(|of_it| match rng.below(6) < of {
                true => rng.index(of_it.len() + 1),
                false => 0,
            });
            let new = pairs(&row).intersection(&open).count();
            if new > best.map_or(0, |(most, _)| most) {
                match job(&words(&row)) {
                    Ok(_) => best = Some((new, row)),
                    Err(reason) => assert!(reason.contains("--"), "{}: {reason}", words(&row)),
                }
            }
        }
        let row = best.map_or_else(
            || {
                let [(a, i), (b, j)] = *open.first().expect("it is not empty");
                let mut row = [0; OPTIONS.len()];
                (row[a], row[b]) = (i, j);
                row
            },
            |(_, row)| row,
        );
        live(&words(&row)).unwrap_or_else(|failure| panic!("{}: {failure}", words(&row)));
        pairs(&row).iter().for_each(|pair| {
            open.remove(pair);
        });
        lived += 1;
    }
    println!("{lived} worlds");
    assert!(open.is_empty(), "never lived: {open:?}");
}

/// Each was told as a failure of the router, or as holding, and was neither.
#[test]
fn what_was_a_false_alarm_holds_or_is_refused() {
    for words in [
        "sim --swarm 1 --seed 10 --radio",
        "sim --seed 10 --radio --compare --duration 20",
        "sim --heap false --traffic-ms 50",
        "sim --drawn 990017 --radio",
        "sim --swarm 12 --links stream --duration 2",
        "sim --seed 1 --nodes 2 --topology grid --duration 0.883197 --traffic-ms 100 --flows-ms 300",
    ] {
        live(words).unwrap_or_else(|failure| panic!("{words}: {failure}"));
    }
    for words in ["sim --swarm 0", "sim --drawn 990017 --radio --liveness"] {
        assert!(job(words).is_err(), "{words}");
    }
}

/// The banks of adversaries had keys of 8 bits: one of them was the world's own, and another none.
#[test]
fn no_liar_has_the_key_of_the_issuer() {
    let words = "sim --nodes 300 --topology star --adversaries 300 --attacks unpaid --duration 20 --traffic-ms 5000";
    let Job::One(plan) = job(words).expect("a job").1 else { panic!("one world") };
    for seed in 1..4 {
        let plan = Plan { seed, attack_gap: 4_000, adversaries: 0, ..plan.clone() };
        let mut life = blvm_mesh_tests::sim::live::Life::new(&plan).expect("a world");
        life.world.run_for(1_000_000);
        for adversary in [199, 255] {
            life.world.nodes[adversary].honest = false;
            for _ in 0..40 {
                life.world.attack(adversary, blvm_mesh_tests::sim::Attack::Unpaid);
                life.world.run_for(50_000);
            }
        }
    }
}

/// Plans are given to others as command lines: their names stay as they are documented.
#[test]
fn names_are_those_of_the_documentation() {
    let page = include_str!("../../docs/SIMULATION.md");
    for name in Attack::ALL.map(Attack::name) {
        assert!(page.contains(&format!("`{name}`")), "docs/SIMULATION.md lacks {name}");
    }
    let faults = Fault::ALL.map(Fault::name);
    let expected = "cut silent congest restart crash clock drift disk dial leave loss reorder \
                    duplicate slow tamper reorg idle";
    assert_eq!(faults.join(" "), expected);
    assert_eq!(LinkCode::ALL.map(LinkCode::name), ["packets", "stream", "datagrams", "channel"]);
}
