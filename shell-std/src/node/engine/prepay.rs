//! Bytes that are bought at a relay because somebody asks for it, and not a flow.

use super::Engine;
use super::shell::{Origin, Outcome};
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::mesh::{AccountQuote, Input, Ticket};
use blvm_mesh_core::time::Micros;
use smol::channel::Sender;
use std::collections::HashMap;

/// Bytes that a relay holds for this node once it was paid, or why it was not.
pub(crate) type Prepaid = Result<u64, String>;

/// Those that wait for the end of a purchase: no more than the state machine has under way.
#[derive(Debug, Default)]
pub(crate) struct Waiting(HashMap<Ticket, Sender<Prepaid>>);

impl Waiting {
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

impl Engine {
    /// What one payment for bytes at all relays of the best route takes.
    pub(super) fn quote_accounts(
        &self,
        now: Micros,
        destination: &NodeId,
        bytes: u64,
    ) -> Option<Quoted> {
        let quote = self.mesh.quote_accounts(destination, bytes, false)?;
        let route = self.mesh.table().find_route(destination, now)?;
        let charge = route.hops.iter().map(|(_, tariff)| tariff.price(bytes) > 0).collect();
        let taken = self.mesh.accepted(destination).map(|accepted| accepted.for_accounts());
        Some(Quoted { quote, charge, taken })
    }

    /// Buys at one relay, by an invoice of its own.
    pub(super) fn prepay(
        &mut self,
        now: Micros,
        hops: &[HopId],
        node: HopId,
        (bytes, amount_msat): (u64, u64),
        who: Sender<Prepaid>,
    ) {
        let hops: Vec<[u8; 8]> = hops.iter().map(|hop| hop.0).collect();
        let open_number = self.mesh.open_number();
        let input = Input::Buy { hops: &hops, node, bytes, amount_msat, open_number };
        match self.drive(now, input, Origin::Other) {
            Outcome::Buying(ticket) => {
                self.shell.prepaid.0.insert(ticket, who);
            }
            Outcome::Refused(reason) => {
                let _ = who.try_send(Err(reason.to_string()));
            }
            _ => {}
        }
    }
}
