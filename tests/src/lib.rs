//! Test support: a deterministic world of nodes, and real invoices.

pub mod invoice;
pub mod packet;
pub mod world;
