//! Inputs and actions of the state machine.

mod action;
mod event;
mod input;

pub use action::{Action, Packet, Verdict};
pub use event::Event;
pub use input::{Input, LinkCapabilities, Misuse};

/// Names a packet or a search that waits; assigned by the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ticket(pub u64);

/// Which queue of the link a packet goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Priority {
    /// Control packets; they are few and small.
    Control,
    /// Paid for.
    Paid,
    /// Free.
    Free,
}
