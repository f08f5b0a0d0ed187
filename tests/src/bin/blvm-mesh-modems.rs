//! Emulated LoRa modems. `--help` says what it can do, `docs/TESTING.md` how to use it.

use blvm_mesh_tests::modems::options::Args;
use blvm_mesh_tests::modems::{Emulator, Order, OrderError, Told};
use clap::Parser;
use serde_json::json;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;

/// Prints a line at once, also into a pipe. Nobody may read any more; the modems run on.
fn print(line: &impl serde::Serialize) {
    let line = serde_json::to_string(line).expect("it has only text and numbers");
    let mut out = stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Carries out a line, and prints what came of it.
fn obey(modems: &Emulator, count: usize, line: &str) {
    let counts = line.strip_prefix("counts ").map(str::trim);
    let result = match counts.map(str::parse) {
        Some(Ok(modem)) if modem < count => {
            return print(&json!({ "counts": modems.counts(modem), "modem": modem }));
        }
        Some(Ok(modem)) => Err(OrderError::NoModem(modem)),
        _ => line.parse().and_then(|order: Order| modems.order(order)),
    };
    match result {
        Ok(()) => print(&json!({ "done": line })),
        Err(error) => print(&json!({ "error": error.to_string() })),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let trace = args.trace;
    let tell = move |told: &Told| {
        if trace || matches!(told, Told::Device { .. }) {
            print(told);
        }
    };
    let modems = match Emulator::start(&args.setup(), tell) {
        Ok(modems) => modems,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for order in args.orders {
        if let Err(error) = modems.order(order) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    for line in stdin().lock().lines() {
        match line {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => obey(&modems, args.modems.len(), line.trim()),
            // A line that is no text is no order either.
            Err(error) => print(&json!({ "error": error.to_string() })),
        }
    }
    // Without orders they run until they are ended.
    loop {
        std::thread::park();
    }
}
