//! Who waits for bytes that are bought at a relay, and what buying them takes.

use blvm_mesh_core::mesh::{AccountQuote, Ticket};
use smol::channel::Sender;
use std::collections::HashMap;

/// Bytes that a relay holds for this node once it was paid, or why it was not.
pub(crate) type Prepaid = Result<u64, String>;

/// Those that wait for the end of a purchase: no more than the state machine has under way.
#[derive(Debug, Default)]
pub(crate) struct Waiting(HashMap<Ticket, Sender<Prepaid>>);

impl Waiting {
    /// Somebody waits for the end of a purchase.
    pub(crate) fn begin(&mut self, ticket: Ticket, who: Sender<Prepaid>) {
        self.0.insert(ticket, who);
    }

    /// A purchase has ended.
    pub(crate) fn ended(&mut self, ticket: Ticket, result: Prepaid) {
        if let Some(who) = self.0.remove(&ticket) {
            // Whoever does not wait any more is not told.
            let _ = who.try_send(result);
        }
    }
}

/// A quote for all relays, and whether they are known to take it.
pub(crate) struct Quoted {
    pub(crate) quote: AccountQuote,
    /// Of each relay, whether it takes payment at all.
    pub(crate) charge: Vec<bool>,
    pub(crate) taken: Option<bool>,
}
