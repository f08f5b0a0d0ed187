//! The mesh as a module of a blvm-node: a program that the node starts, and that connects back to
//! the node's socket. Mesh links run over the node's own connections with its peers; other
//! modules call the mesh's methods through the node. docs/BLVM_NODE.md is for its users.
//!
//! ```text
//!            events          frames           packets
//! node  <--------------> session <--> links <--> run <--> MeshManager
//!   other modules' calls    |  ^                               ^
//!                           +--|--------- api -----------------+
//!                              +--------- host <---------------+
//! ```

pub mod api;
pub mod carrier;
pub mod host;
pub mod keys;
pub mod links;
#[cfg(test)]
mod links_tests;
pub mod log;
pub mod outbox;
pub mod proto;
pub mod run;
pub mod session;
pub mod settings;
pub mod shared;
pub mod wire;
