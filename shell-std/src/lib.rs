//! Payment-gated Bitcoin mesh relay: the daemon's parts, and the library that a
//! host node embeds.

pub mod address;
pub mod aead;
pub mod bench;
pub mod chain;
pub mod cli;
pub mod config;
pub mod covenant;
mod date;
mod descriptors;
#[cfg(test)]
mod documents_tests;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod identity;
pub mod issuer;
mod log;
pub mod manager;
#[cfg(test)]
mod names_tests;
pub mod node;
pub mod private_file;
mod regtest;
mod repeats;
pub mod rpc;
pub mod store;
