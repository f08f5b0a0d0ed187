//! Test support: a deterministic simulator of whole meshes driven by one seed
//! ([`sim`]), small worlds for tests that know what is to happen ([`scenario`]),
//! and real invoices. `docs/TESTING.md` says how to run and rerun them.

pub mod bank;
pub mod bitcoind;
pub mod board;
pub mod chain;
pub mod fuzz;
pub mod invoice;
pub mod options;
pub mod packet;
pub mod payloads;
pub mod relay;
pub mod rng;
pub mod scenario;
pub mod sim;
pub mod story;
pub mod tables;
pub mod topology;
