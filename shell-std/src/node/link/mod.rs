//! What every link has, whatever its transport: its queues, its part of the memory, and the
//! buffers for what it received.

pub(crate) mod buffer;
pub(crate) mod egress;
mod fifo;
pub(crate) mod memory;

#[cfg(test)]
mod egress_tests;
