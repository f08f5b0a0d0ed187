//! One proof that pays several nodes of a route for bytes on accounts: each of them credits its
//! part of the amount by its own tariff, once, and passes the proof on.

use super::Mesh;
use super::api::{Action, Event};
use super::error::{MeshError, PaymentReason};
use super::pay::Admission;
use crate::config::MeshMode;
#[cfg(feature = "alloc")]
use crate::flow::accounts::receiving;
use crate::flow::tickets::TicketError;
use crate::payment::fee::Party;
use crate::payment::ledger::{Deposit, Method, Record};
use crate::payment::proof::ForAccounts;
use crate::payment::replay::PaidPacket;
use crate::payment::verify::Verified;
use crate::tables::Memory;
use crate::wire::datagram::Datagram;

impl<M: Memory> Mesh<M> {
    /// Whether a datagram that ends here pays for accounts at the nodes before, and for nothing
    /// here.
    pub(super) fn pays_others(&self, datagram: &Datagram<'_>) -> bool {
        let proof = datagram.signed.and_then(|signed| ForAccounts::split(signed.proof).ok());
        let Some((Some(accounts), _)) = proof else { return false };
        match self.config.mode {
            // Nobody is paid in this mode.
            MeshMode::Open => datagram.payload.is_empty(),
            MeshMode::PaymentGated => !accounts.receives && datagram.payload.is_empty(),
            MeshMode::BitcoinOnly => false,
        }
    }

    /// Books a valid payment, and credits what it buys here to its source's account. Both are one
    /// record, which is durable before the packet leaves.
    #[inline(never)]
    pub(super) fn book_bytes(
        &mut self,
        party: Party,
        datagram: &Datagram<'_>,
        accounts: &ForAccounts,
        payment: Verified,
        packet: PaidPacket,
    ) -> Result<Admission, MeshError> {
        let source = datagram.source;
        let Verified { key, method, amount_msat, share_msat, expires_at, .. } = payment;
        #[cfg(feature = "alloc")]
        let owner = if party == Party::Destination { receiving(&source) } else { source };
        #[cfg(not(feature = "alloc"))]
        let owner = source;
        let tariff = self.tariff_for(accounts.purpose(), party);
        let bytes = match (tariff.bytes_for(share_msat), party) {
            // Nothing is paid for what costs nothing, and no flow ends at a board.
            (_, Party::Destination) if cfg!(not(feature = "alloc")) || tariff.price(1) == 0 => {
                return Err(PaymentReason::ModeRefused(self.config.mode).into());
            }
            (bytes, _) => bytes.unwrap_or(0),
        };
        self.make_room(&owner);
        if !self.tables.accounts.has_room_for(&owner) {
            return Err(PaymentReason::from(TicketError::NoRoom).into());
        }
        self.tables.replay.accept_for(key, expires_at, packet, self.now)?;
        self.wake_at(self.next_cleanup.max(self.now));
        let ends = self.account_ends();
        let number = accounts.open_number;
        let credited = self.tables.accounts.credit(&owner, bytes, number, ends, false);
        // There is room.
        let account = credited.unwrap_or_default();
        let accepted_at = self.wall.unix(self.now).unwrap_or_default();
        let after = self.keep(Record::Deposit(Deposit {
            key,
            method,
            role: party,
            source: owner,
            account,
            share_msat,
            accepted_at,
            expires_at,
            packet: packet.kept(),
        }));
        self.act(Action::Publish(Event::PaymentVerified {
            payment: key,
            source,
            amount_msat,
            share_msat,
            after,
            settlement: (method == Method::Covenant).then(|| datagram.proof_range()),
        }));
        self.stats.earned_msat = self.stats.earned_msat.saturating_add(share_msat);
        Ok(match party {
            Party::Destination => Admission::Delivered { record: after },
            _ => Admission::Paid { record: after, share_msat },
        })
    }
}
