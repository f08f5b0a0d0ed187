//! Neighbours, routes to other nodes, and what has passed through here before.

pub mod bad_payments;
pub mod conduct;
pub mod discovery;
pub mod hints;
pub mod liveness;
pub mod metric;
pub mod mirrors;
pub mod neighbours;
pub mod owners;
pub mod seen;
pub mod table;
pub mod towards;
