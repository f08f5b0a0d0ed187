//! Runs a body over its seeds and changes of them.

use super::Target;
use std::path::{Path, PathBuf};

/// Most inputs that [`run`] gives to a body.
const MOST_RUNS: usize = 4000;

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
/// [`super::seeds`], and in equal steps so many of their prefixes and one-byte
/// changes. What fails is printed.
pub fn run(name: &str, body: Target) {
    let seeds = saved(name);
    for (seed, bytes) in &seeds {
        let taken = shown(name, body, bytes);
        assert!(taken || seed.starts_with("found-"), "{name}: {seed} does not get through");
    }
    let lengths = || seeds.iter().map(|(_, bytes)| bytes.len());
    let all: usize = lengths().sum::<usize>() * CHANGES;
    let step = all.div_ceil(most_runs(name)).max(1);
    let mut number = 0;
    for (_, seed) in &seeds {
        while number < seed.len() * CHANGES {
            shown(name, body, &changed(seed, number / CHANGES, number % CHANGES));
            number += step;
        }
        number -= seed.len() * CHANGES;
    }
}

/// So that each takes about a second or two without optimisation.
fn most_runs(name: &str) -> usize {
    match name {
        "mesh" => MOST_RUNS / 10,
        "handshake" | "stream" | "proof" | "bolt11" | "packed" => MOST_RUNS / 2,
        _ => MOST_RUNS,
    }
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
            eprintln!("fuzz body {} was given {hex}", self.0);
        }
    }
}
