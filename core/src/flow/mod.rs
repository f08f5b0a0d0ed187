//! Flows: many packets for one payment.
//!
//! A source buys bytes at each node of its route ([`tickets`]); they are kept in an account of its
//! own there ([`accounts`]), from which its flows draw ([`table`]). None of it knows packets or
//! keys: the state machine checks those.

pub mod accounts;
pub mod table;
pub mod tickets;
