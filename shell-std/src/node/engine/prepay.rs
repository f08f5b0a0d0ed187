//! Bytes that are bought at a relay because somebody asks for it, and not a flow.

use super::Engine;
use super::prepaid::{Prepaid, Quoted};
use super::shell::{Origin, Outcome};
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::mesh::Input;
use blvm_mesh_core::time::Micros;
use smol::channel::Sender;

impl Engine {
    /// What one payment for bytes at all relays of the best route takes.
    pub(super) fn quote_accounts(
        &self,
        now: Micros,
        destination: &NodeId,
        bytes: u64,
    ) -> Option<Quoted> {
        let quote = self.mesh.quote_accounts(destination, bytes, false)?;
        let route = self.mesh.table().find_paid_route(destination, now)?;
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
                self.shell.prepaid.begin(ticket, who);
            }
            Outcome::Refused(reason) => {
                let _ = who.try_send(Err(reason.to_string()));
            }
            _ => {}
        }
    }
}
