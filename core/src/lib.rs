//! Payment-gated mesh relay as one sans-IO state machine.
//!
//! No I/O, no clock, no randomness of its own: bytes and events go in, actions
//! come out. See `mesh::Mesh` for the contract.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

extern crate alloc;

/// The version of the crate whose keys the interfaces here take.
pub use secp256k1;

pub mod board;
pub mod config;
pub mod id;
pub mod link;
pub mod mesh;
pub mod mode;
pub mod payment;
pub mod policy;
pub mod rng;
pub mod routing;
pub mod signature;
pub mod tables;
pub mod tariff;
pub mod time;
pub mod token_bucket;
pub mod wire;

#[cfg(test)]
mod test_shared;
