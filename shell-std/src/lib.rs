//! Payment-gated Bitcoin mesh relay: the daemon's parts, and the library that a
//! host node embeds.

pub mod rpc;
