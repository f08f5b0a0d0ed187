//! A checked chain of block headers, followed on from a checkpoint: what the node itself knows of
//! Bitcoin's chain, whoever brings it the headers.
//!
//! Each header carries its work, at the difficulty that the chain demands, and a time that the rules
//! allow; of chains the one with most work counts, reorganisations included. What takes the blocks
//! themselves to see is not checked: a miner who spends the work of a real block can make a header
//! with an invalid block behind it, and on signet the challenge's signature is in the block.

mod chain;
mod file;
mod root;
mod rules;

pub(crate) use chain::{Chain, Change, Refused};
pub use root::Root;
#[cfg(test)]
pub(crate) use rules::tests::mine;

/// Headers in one message (Bitcoin Core, MAX_HEADERS_RESULTS).
pub(crate) const MOST_IN_MESSAGE: usize = 2000;
