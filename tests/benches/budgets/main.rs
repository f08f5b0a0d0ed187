//! What single steps cost, as ratios, against the budgets in README.md.
//!
//! `cargo bench -p blvm-mesh-tests --bench budgets`; `-- --quick` takes a second or two
//! and shows only that it works. A missed budget is no failure: a busy machine misses
//! some of them.

mod control;
mod detection;
mod lightning;
mod link;
mod measure;
mod relaying;

use measure::Effort;
use std::time::Duration;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let effort = match quick {
        true => {
            Effort { rounds: 3, turn: Duration::from_micros(100), payments: 50_000, flows: 500 }
        }
        false => Effort {
            rounds: 400,
            turn: Duration::from_micros(300),
            payments: 1_000_000,
            flows: 10_000,
        },
    };
    measure::head();
    relaying::measure(effort);
    relaying::measure_replay(effort);
    detection::measure(effort);
    lightning::measure(effort);
    link::measure(effort);
    control::measure(effort);
}
