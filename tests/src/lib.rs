//! Test support: a deterministic simulator of whole meshes, and what the tests
//! in `tests/tests` share. `docs/TESTING.md` says how to run and rerun them.

pub mod bank;
pub mod payloads;
pub mod rng;
pub mod scenario;
pub mod sim;
pub mod topology;
