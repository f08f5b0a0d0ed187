//! Payment-gated Bitcoin mesh relay: the library that a host node embeds, and the daemon's parts.
//!
//! A host node with connections of its own starts at [`manager`]; a program that runs the daemon's
//! node inside itself, with its transports, store and RPC, starts at [`node`]. Both may leave out the
//! default feature `cli`, which is the command line.

// What only the command line asks for has no user then.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

pub mod address;
pub mod aead;
mod bench;
pub mod bridge;
pub mod chain;
#[cfg(feature = "cli")]
mod cli;
pub mod clients;
pub mod config;
pub mod covenant;
mod date;
mod descriptors;
#[cfg(all(test, feature = "cli"))]
mod documents_tests;
pub mod export;
pub mod flows;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod headers;
pub mod identity;
pub mod invitation;
pub mod issuer;
mod jitter;
pub mod kept;
pub mod lan;
pub mod lightning;
mod log;
pub mod manager;
pub mod metrics;
#[cfg(all(test, feature = "cli"))]
mod names_tests;
pub mod node;
mod own_addresses;
pub mod page;
mod private_file;
pub mod probe;
pub mod radio;
mod regtest;
mod repeats;
pub mod rpc;
pub mod secret;
pub mod store;
mod tls;
pub mod wallet;

/// The whole command line, for the program's `main`.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::main;
