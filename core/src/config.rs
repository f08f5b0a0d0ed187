//! Limits and settings: every capacity of the project is owned here.

/// Most intermediate nodes on a route. With source and destination a packet
/// crosses at most `MAX_HOPS + 1` links.
pub const MAX_HOPS: usize = 16;
