//! Runs a body over its seeds and changes of them.

use super::Target;
use crate::rng::Rng;
use std::path::{Path, PathBuf};

/// Inputs that [`run`] gives to a body, unless the environment has another number
/// in `MESH_FUZZ_RUNS`.
const RUNS: usize = 4000;

/// Where the seeds of a target are.
pub fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target)
}

/// The saved seeds of a target by name: those of [`super::seeds`], and what was
/// found.
pub fn saved(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = directory(target);
    let entries = std::fs::read_dir(&directory);
    let entries = entries.unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut seeds: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let entry = entry.expect("readable");
            let bytes = std::fs::read(entry.path()).expect("readable");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} has seeds", directory.display());
    seeds
}

/// Gives a body every seed, which must get through where it is one of
/// [`super::seeds`] and not named `refused-`; in equal steps prefixes and one-byte changes of them; and as
/// many inputs that were changed more. What fails is printed.
pub fn run(name: &str, body: Target) {
    let seeds = saved(name);
    for (seed, bytes) in &seeds {
        let taken = shown(name, body, bytes);
        let expected = !seed.starts_with("refused-");
        assert!(taken == expected || seed.starts_with("found-"), "{name}: {seed} {taken}");
    }
    let runs = runs(name) / 2;
    let all: usize = seeds.iter().map(|(_, bytes)| bytes.len() * CHANGES).sum();
    let step = all.div_ceil(runs).max(1);
    let mut number = 0;
    for (_, seed) in &seeds {
        while number < seed.len() * CHANGES {
            shown(name, body, &changed(seed, number / CHANGES, number % CHANGES));
            number += step;
        }
        number -= seed.len() * CHANGES;
    }
    let mut rng = Rng::new(runs as u64);
    for _ in 0..runs {
        shown(name, body, &changed_more(&seeds, &mut rng));
    }
}

/// How many inputs a body is given: so many that it takes about a second or two
/// without optimisation, or as many as the environment says.
pub fn runs(name: &str) -> usize {
    let runs = std::env::var("MESH_FUZZ_RUNS").ok().map(|n| n.parse().expect("a number"));
    match name {
        _ if runs.is_some() => runs.unwrap_or_default(),
        "mesh" | "datagram" | "flow_end" => RUNS / 10,
        "handshake" | "stream" | "proof" | "bolt11" | "packed" => RUNS / 2,
        _ => RUNS,
    }
}

/// A seed with up to eight changes: bytes, runs of bytes, pieces of other seeds.
fn changed_more(seeds: &[(String, Vec<u8>)], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.index(seeds.len())].1.clone();
    for _ in 0..rng.within(1, 8) {
        let at = rng.index(bytes.len() + 1);
        let end = bytes.len().min(at + rng.index(9));
        match rng.below(7) {
            0 => drop(bytes.splice(at..end, [])),
            1 => drop(bytes.splice(at..at, rng.vec(4))),
            2 => {
                let other = &seeds[rng.index(seeds.len())].1;
                let from = rng.index(other.len());
                let to = other.len().min(from + rng.index(65));
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            3 => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            4 => bytes[at..end].iter_mut().for_each(|b| *b = rng.draw() as u8),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            }
        }
    }
    bytes
}

/// What is done at each place of a seed.
const CHANGES: usize = 5;

fn changed(seed: &[u8], at: usize, how: usize) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    match how {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1,
        2 => bytes[at] ^= 0x80,
        3 => bytes[at] = 0,
        _ => bytes[at] = 0xff,
    }
    bytes
}

/// Runs a body; what it was given is printed if it panics.
pub fn shown(name: &str, body: Target, bytes: &[u8]) -> bool {
    let _shown = Shown(name, bytes);
    body(bytes)
}

struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("fuzz body {} was input {hex}", self.0);
        }
    }
}
