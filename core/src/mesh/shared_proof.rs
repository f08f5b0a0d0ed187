//! One proof that pays several nodes of a route for bytes on accounts: each of them credits its
//! part of the amount by its own tariff, once, and passes the proof on. Boards refuse it: there is
//! no room for it in their flash.

use super::Mesh;
use super::error::{MeshError, PaymentReason};
use crate::config::MeshMode;
use crate::flow::accounts::receiving;
use crate::flow::tickets::TicketError;
use crate::id::NodeId;
use crate::payment::fee::Party;
use crate::payment::ledger::{Deposit, Payment, Record};
use crate::payment::proof::ForAccounts;
use crate::tables::Memory;
use crate::wire::datagram::Datagram;

/// What a payment buys at this node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bought {
    /// Under which name it is kept.
    owner: NodeId,
    bytes: u64,
    open_number: u64,
}

impl<M: Memory> Mesh<M> {
    /// Whether a datagram that ends here pays for accounts at the nodes before, and for nothing
    /// here.
    pub(super) fn pays_others(&self, datagram: &Datagram<'_>) -> bool {
        let proof = datagram.signed.and_then(|signed| ForAccounts::split(signed.proof).ok());
        let Some((Some(accounts), _)) = proof else { return false };
        datagram.payload.is_empty()
            && match self.config.mode {
                // Nobody is paid in this mode.
                MeshMode::Open => true,
                MeshMode::PaymentGated => !accounts.receives,
                MeshMode::BitcoinOnly => false,
            }
    }

    /// What this node's part of a valid payment buys, and whether there is room for it.
    pub(super) fn bytes_bought(
        &mut self,
        party: Party,
        source: &NodeId,
        accounts: &ForAccounts,
        share_msat: u64,
    ) -> Result<Bought, MeshError> {
        let tariff = self.tariff_for(accounts.purpose(), party);
        let ends = party == Party::Destination;
        // Nothing is paid for what costs nothing.
        if ends && tariff.price(1) == 0 {
            return Err(PaymentReason::ModeRefused(self.config.mode).into());
        }
        let owner = if ends { receiving(source) } else { *source };
        self.make_room(&owner);
        if !self.tables.accounts.has_room_for(&owner) {
            return Err(PaymentReason::from(TicketError::NoRoom).into());
        }
        let bytes = tariff.bytes_for(share_msat).unwrap_or(0);
        Ok(Bought { owner, bytes, open_number: accounts.open_number })
    }

    /// Credits that to its account; the record that has both.
    pub(super) fn credit(&mut self, payment: Payment, bought: Bought) -> Record {
        let Bought { owner, bytes, open_number } = bought;
        let ends = self.account_ends();
        let credited = self.tables.accounts.credit(&owner, bytes, open_number, ends, false);
        // There is room.
        let account = credited.unwrap_or_default();
        let (source, destination, amount_msat) = (owner, owner, payment.share_msat);
        Record::Deposit(Deposit {
            payment: Payment { source, destination, amount_msat, ..payment },
            account,
        })
    }
}
