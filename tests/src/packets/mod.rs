//! Packets and payloads made for tests.

pub mod edit;
pub mod payloads;
