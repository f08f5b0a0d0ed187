//! A deterministic simulator of meshes: the production core, and where a world
//! asks for it the production link code, unmodified, in virtual time.
//!
//! [`World`] holds the nodes, the wires or the radio, and one queue of events
//! ordered by time. Every input of a node goes through [`World::input`], and
//! every answer is checked against the invariants of docs/ARCHITECTURE.md by `checks`.
//! A [`Plan`] describes a world; [`Plan::run`] runs it.

mod account;
mod build;
mod bytes;
mod channels;
mod checks;
mod datagrams;
pub mod flows;
pub mod forge;
pub mod hunt;
mod layout;
pub mod live;
pub mod liveness;
mod machine;
mod node;
pub mod options;
pub mod plan;
mod queue;
pub mod radio;
pub mod radio_worlds;
pub mod report;
mod shell;
mod stream;
pub mod svg;
pub mod tables;
pub mod topology;
mod trace;
pub mod watch;
mod wires;
mod world;

pub use account::{Account, TABLES, percentile};
pub use bytes::{Bytes, Path};
pub use channels::OnAir;
pub use checks::{Checks, Funded};
pub use flows::{Habit, Wish};
pub use forge::Attack;
pub use machine::{Action, Input, Known, Machine, Step, Verdict};
pub use node::{Crash, Node};
pub use plan::{Fault, Plan};
pub use report::Report;
pub use trace::Trace;
pub use wires::{Conn, Line, LinkCode, Wire};
pub use world::{BASE_UNIX, Carried, World};
