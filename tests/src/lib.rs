//! Test support: a deterministic simulator of whole meshes driven by one seed
//! ([`sim`]), small worlds for tests that know what is to happen ([`scenarios`]),
//! real invoices and covenants ([`payments`]), emulated LoRa modems ([`modems`]), and
//! fuzz bodies ([`fuzz`]).
//! `docs/TESTING.md` says how to run and rerun them.

pub mod bitcoind;
pub mod board;
pub mod browser;
pub mod fuzz;
pub mod lightning_ldk;
pub mod modems;
pub mod packets;
pub mod payments;
pub mod rng;
pub mod scenarios;
pub mod serve;
pub mod sim;
