//! Probes: how long the way to a node and back takes, and what the node says of itself. Without I/O;
//! the engine's part is in [`node`](crate::node).
//!
//! A probe and its answer are `feature` messages (BIP 434) in free datagrams, so that relays carry them
//! as all of Bitcoin's, and need know nothing of them. An answer is as long as its probe, to the byte.

mod asked;
mod limits;
mod message;

use crate::bridge::message::Magic;
use asked::Asked;
pub(crate) use asked::Heard;
pub(crate) use limits::Limits;
#[cfg(any(test, fuzzing))]
pub(crate) use message::write;
pub use message::{FULL, LEAST, MOST, Told};
pub(crate) use message::{Message, write_answer, write_probe};

/// This node's own probes that wait, and what it answers of those of others.
#[derive(Debug)]
pub(crate) struct Probes {
    /// First bytes of the network's messages.
    pub(crate) magic: Magic,
    /// Whether probes of others are answered.
    pub(crate) answers: bool,
    pub(crate) limits: Limits,
    pub(crate) asked: Asked,
}

impl Probes {
    pub(crate) fn new(magic: Magic, answers: bool) -> Self {
        Self { magic, answers, limits: Limits::default(), asked: Asked::default() }
    }
}
