//! Seeds, written by the project's own emitters and by the `bitcoin` and
//! `lightning-invoice` crates. `cargo run -p blvm-mesh-tests --example fuzz_seeds`
//! writes them to `tests/fuzz/seeds`.

mod bitcoin_messages;
mod machines;
mod payments;
mod wire;

/// A seed: its target, its name and its bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// Every seed; each gets through its body, unless its name begins with `refused-`.
pub fn all() -> Vec<Seed> {
    let mut seeds = wire::seeds();
    seeds.extend(bitcoin_messages::seeds());
    seeds.extend(payments::seeds());
    seeds.extend(machines::seeds());
    seeds
}
