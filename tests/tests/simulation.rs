//! Many worlds, each from one seed. `MESH_SEED=n` runs one of them only.

use blvm_mesh_tests::sim::swarm::{Options, Report, run};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

fn world(seed: u64, adjust: &dyn Fn(&mut Options)) -> Report {
    catch_unwind(AssertUnwindSafe(|| run(seed, adjust))).unwrap_or_else(|panic| {
        eprintln!(
            "seed {seed} failed; again: MESH_SEED={seed} cargo test -p blvm-mesh-tests --test simulation worlds"
        );
        resume_unwind(panic)
    })
}

/// The seed asked for, else so many, or as many as `MESH_WORLDS` says.
fn seeds(count: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|s| s.parse().ok());
    match number("MESH_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("MESH_WORLDS").unwrap_or(count)).collect(),
    }
}

#[test]
fn worlds() {
    let mut counts = BTreeMap::new();
    for seed in seeds(40) {
        for (what, n) in world(seed, &|_| {}).counts {
            *counts.entry(what).or_insert(0) += n;
        }
    }
    println!("{counts:#?}");
}
