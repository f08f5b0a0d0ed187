//! Flows: many packets for one payment.
//!
//! A source buys bytes at each node of its route ([`tickets`]); they are kept in an account of its
//! own there ([`accounts`]), from which its flows draw ([`table`]). None of it knows packets or
//! keys: the state machine checks those. The ends of a sealed flow are in `end`, for nodes with a
//! heap.

pub mod accounts;
#[cfg(feature = "alloc")]
pub mod end;
mod places;
pub mod table;
pub mod tickets;
