//! What goes free and what pays.
//!
//! [`mode`] decides, [`detect`] names the protocol of a payload, with one file
//! per protocol behind it, and [`allowance`] bounds what the free lane may carry.

pub mod allowance;
pub mod detect;
pub mod mode;
pub mod reason;

mod bitcoin;
mod block;
mod command;
mod cost;
mod governance;
mod messages;
mod protocol;
mod reader;
mod stratum;
mod stratum_messages;
mod stratum_tlv;
mod transaction;
mod work;

#[cfg(test)]
mod bitcoin_tests;
#[cfg(test)]
mod block_tests;
#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod samples;

pub use cost::{Class, FreeCost, OwnNetwork};
pub use detect::Classified;
pub use mode::{MeshMode, PolicyConfig, RoutingPolicy, RoutingPolicyEngine};
pub use protocol::DetectedProtocol;
pub use reason::{Reason, Unrecognised};
