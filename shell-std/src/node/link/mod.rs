//! What every link has, whatever carries it: its queues, its part of the memory, and the
//! buffers that hold what it received.

pub(crate) mod buffer;
pub(crate) mod egress;
mod fifo;
pub(crate) mod memory;

#[cfg(test)]
mod egress_tests;
