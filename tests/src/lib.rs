//! Test support: a deterministic simulator of whole meshes driven by one seed
//! ([`sim`]), a small world for tests that know what is to happen ([`world`]),
//! and real invoices. `docs/TESTING.md` says how to run and rerun them.

pub mod bank;
pub mod board;
pub mod fuzz;
pub mod invoice;
pub mod packet;
pub mod payloads;
pub mod relay;
pub mod rng;
pub mod scenario;
pub mod sim;
pub mod topology;
pub mod world;
