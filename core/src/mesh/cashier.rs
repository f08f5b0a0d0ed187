//! Invoices that this node writes for others, its clients, which have no Lightning node: it has
//! their ticket keys, and whatever their blank tickets say about price and time is theirs.

use super::Mesh;
use super::control::Refusal;
use super::error::{MeshError, NetworkReason, PaymentReason, Remedy};
use super::free::before_the_neighbour;
use super::selling::Issue;
use crate::flow::accounts::receiving;
use crate::flow::tickets::{TicketError, Tickets, is_blank, of_blank};
use crate::id::{LinkId, NodeId};
use crate::tables::Memory;
use crate::wire::account::{self, TicketRequest};
use crate::wire::datagram::Datagram;
use sha2::{Digest, Sha256};

impl<M: Memory> Mesh<M> {
    /// The ticket key of a client, and under which name the client keeps what its blank ticket
    /// promises this source; none if the ticket is not one that it has given it.
    pub(super) fn client_key(
        &self,
        node: &NodeId,
        source: &NodeId,
        blank: &account::Ticket,
    ) -> Result<([u8; 32], NodeId), PaymentReason> {
        let client = self.config.clients.iter().find(|client| client.node == *node);
        let key = client.ok_or(PaymentReason::NoInvoice)?.ticket_key;
        let accounts = [*source, receiving(source)];
        let account = accounts.into_iter().find(|account| is_blank(&key, account, blank));
        Ok((key, account.ok_or(TicketError::Forged)?))
    }

    /// A source that a client has sent here asks for an invoice. The client has checked who it
    /// is and what it offers, which its blank ticket proves.
    #[inline(never)]
    pub(super) fn ticket_request(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        request: &TicketRequest,
    ) -> Result<(), Refusal> {
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        let (source, blank) = (datagram.source, &request.ticket);
        let client = self.client_key(&request.node, &source, blank);
        let (_, account) = client.map_err(|e| ignore(e.into()))?;
        let buys = (blank.bytes, blank.amount_msat);
        let given = self.tables.tickets.unpaid(self.now, &account, false, buys);
        if given.is_none() {
            self.room_for_ticket(link).map_err(ignore)?;
        }
        // For the signature under the answer.
        let (before, work) = (before_the_neighbour(datagram), self.config.signature_work);
        if !self.take_control(link, Some(before), work) {
            return Err(ignore(NetworkReason::ControlQuota.into()));
        }
        self.await_invoice((link, datagram), account, buys, given).map_err(ignore)
    }

    /// The invoice was written.
    pub(super) fn answer_ticket_request(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        TicketRequest { node, ticket: blank }: &TicketRequest,
        invoice: &[u8],
    ) -> Result<(), MeshError> {
        let (now, source) = (self.now, datagram.source);
        let (key, account) = self.client_key(node, &source, blank)?;
        let issue = |tickets: &mut Tickets<M>, invoice: Issue| match invoice {
            Issue::New(neighbour, hash) => {
                tickets.issue_for(now, neighbour, &account, hash, (&key, blank))
            }
            Issue::Again(given) => {
                of_blank(&key, &account, blank, &given.payment_hash).ok_or(TicketError::NoRoom)
            }
        };
        let buys = (blank.bytes, blank.amount_msat);
        self.answer_with((link, datagram), (&account, false), buys, invoice, issue)
    }

    /// This node is itself the cashier of a node at which it buys, and pays itself nothing: a
    /// ticket, and the preimage that goes with it.
    pub(super) fn own_ticket(
        &mut self,
        node: &NodeId,
        blank: &account::Ticket,
    ) -> Result<account::Pay, PaymentReason> {
        let me = self.me.id();
        let (key, account) = self.client_key(node, &me, blank)?;
        let preimage: [u8; 32] = self.rng.bytes();
        let hash = Sha256::digest(preimage).into();
        let ticket = of_blank(&key, &account, blank, &hash).ok_or(PaymentReason::NoInvoice)?;
        Ok(account::Pay { ticket, preimage })
    }
}
