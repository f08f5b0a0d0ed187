//! A deterministic simulator of a mesh: one seed decides everything.
//!
//! [`World`] holds the nodes, the connections and the time. Whatever a node is
//! given goes through [`World::input`], and every answer is held against the
//! invariants of DESIGN section 8 by `checks`. [`swarm::run`] draws a world and
//! its troubles from a seed.

mod checks;
pub mod forge;
mod machine;
mod node;
pub mod swarm;
mod wires;
mod world;

pub use checks::Checks;
pub use machine::{Did, Given, Machine, Step};
pub use node::{Crash, Node};
pub use wires::Conn;
pub use world::{BASE_UNIX, World};
