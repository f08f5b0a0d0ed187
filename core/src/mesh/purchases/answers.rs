//! What comes back for purchases under way: invoices, referrals, preimages, balances.

use super::{Purchase, State, Told};
use crate::flow::tickets::LIFETIME_S;
use crate::id::{LinkId, NodeId};
use crate::mesh::Mesh;
use crate::mesh::api::{Action, Event, Ticket};
use crate::mesh::control::Refusal;
use crate::mesh::error::{MeshError, NetworkReason, PaymentReason, Remedy, RoutingReason};
use crate::mesh::free::before_the_neighbour;
use crate::payment::bolt11;
use crate::signature;
use crate::tables::{List, Memory};
use crate::time::SECOND;
use crate::wire::account::{self, Balance, Invoice, Pay, Referral};
use crate::wire::datagram::Datagram;
use crate::wire::route_error::Cause;
use core::ops::Range;
use sha2::{Digest, Sha256};

impl<M: Memory> Mesh<M> {
    /// The node that was asked names its cashier.
    pub(in crate::mesh) fn referral_received(
        &mut self,
        datagram: &Datagram<'_>,
        referral: &Referral<'_>,
        link: LinkId,
    ) -> Result<(), Refusal> {
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        let unsolicited = || ignore(RoutingReason::Unsolicited.into());
        let source = datagram.source;
        let at = self.purchase_of(referral.request, &source).ok_or_else(unsolicited)?;
        let purchase = self.tables.purchases.get(at).ok_or_else(unsolicited)?;
        let Purchase { bytes, amount_msat, open_number, receives, .. } = *purchase;
        if purchase.state != State::Asked {
            return Err(unsolicited());
        }
        let Referral { ticket: blank, cashier, .. } = *referral;
        let asks = if receives { blank.amount_msat } else { amount_msat };
        if (blank.bytes, blank.amount_msat, blank.open_number) != (bytes, asks, open_number) {
            return Err(ignore(PaymentReason::NoInvoice.into()));
        }
        let hash = referral.sighash(&self.me.id());
        self.check_answer((link, datagram), referral.public_key, &hash, referral.signature)?;
        let (me, now) = (self.me.id(), self.now);
        let own = (cashier == me).then(|| self.own_ticket(&source, &blank));
        let Some(purchase) = self.tables.purchases.get_mut(at) else { return Ok(()) };
        purchase.node = source;
        purchase.sent.clear();
        purchase.due = now;
        purchase.state = match own {
            None => State::Referred { cashier, blank },
            Some(Ok(pay)) => {
                purchase.amount_msat = 0;
                State::Shown(pay)
            }
            Some(Err(_)) => {
                self.absorb();
                self.end_purchase(at, Cause::NoInvoice);
                return Ok(());
            }
        };
        self.wake_at(now);
        self.absorb();
        Ok(())
    }

    /// Whether the node that has answered a request has signed this.
    fn check_answer(
        &mut self,
        (link, datagram): (LinkId, &Datagram<'_>),
        public_key: &[u8; 33],
        hash: &[u8; 32],
        signature: &[u8; 64],
    ) -> Result<(), Refusal> {
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        if NodeId::from_compressed(public_key) != datagram.source {
            return Err(ignore(PaymentReason::SourceKey.into()));
        }
        let before = Some(before_the_neighbour(datagram));
        if !self.take_control(link, before, self.config.signature_work) {
            return Err(ignore(NetworkReason::ControlQuota.into()));
        }
        match signature::verify(&self.secp, public_key, hash, signature) {
            true => Ok(()),
            false => Err(ignore(PaymentReason::SourceSignature.into())),
        }
    }

    /// An invoice has come.
    pub(in crate::mesh) fn invoice_received(
        &mut self,
        datagram: &Datagram<'_>,
        invoice: &Invoice<'_>,
        link: LinkId,
        packet_len: usize,
    ) -> Result<(), Refusal> {
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        let unsolicited = || ignore(RoutingReason::Unsolicited.into());
        let source = datagram.source;
        let at = self.purchase_of(invoice.request, &source).ok_or_else(unsolicited)?;
        let purchase = self.tables.purchases.get(at).ok_or_else(unsolicited)?;
        let Purchase { id, bytes, amount_msat, receives, .. } = *purchase;
        let referred = match &purchase.state {
            State::Asked => None,
            State::Referred { blank, .. } => Some(*blank),
            _ => return Err(unsolicited()),
        };
        let text = core::str::from_utf8(invoice.invoice).ok();
        let read = text.and_then(|text| bolt11::Invoice::from_text(text).ok());
        let offered = read.filter(|read| {
            let ticket = &invoice.ticket;
            let asks = if receives { ticket.amount_msat } else { amount_msat };
            let amount_msat = asks;
            read.amount_msat == Some(amount_msat)
                && amount_msat > 0
                && read.is_for(self.config.network)
                && (ticket.bytes, ticket.amount_msat) == (bytes, amount_msat)
                && referred.is_none_or(|blank| blank.is_like(ticket))
        });
        let read = offered.ok_or_else(|| ignore(PaymentReason::NoInvoice.into()))?;
        let hash = invoice.sighash(&self.me.id());
        self.check_answer((link, datagram), invoice.public_key, &hash, invoice.signature)?;
        // The payee has been proven to be the node that was asked, or the cashier that it named.
        let amount_msat = invoice.ticket.amount_msat;
        if receives && !self.price_is_told(id, bytes, amount_msat) {
            self.absorb();
            self.end_purchase(at, Cause::AmountTooSmall);
            return Ok(());
        }
        let Some(purchase) = self.tables.purchases.get(at) else { return Ok(()) };
        if !self.pays_behind(&purchase.hops, purchase.node.hop(), receives) {
            self.absorb();
            self.end_purchase(at, Cause::PaymentRequired);
            return Ok(());
        }
        let due = self.now.saturating_add(u64::from(LIFETIME_S).saturating_mul(SECOND));
        let Some(purchase) = self.tables.purchases.get_mut(at) else { return Ok(()) };
        if referred.is_none() {
            purchase.node = source;
        }
        purchase.amount_msat = amount_msat;
        let (node, promised) = (purchase.node, invoice.ticket);
        purchase.state = State::Paying { ticket: promised, payment_hash: read.payment_hash };
        purchase.sent.clear();
        purchase.due = due;
        self.wake_at(due);
        self.absorb();
        let invoice = invoice_range(packet_len, invoice.invoice.len());
        let mut promise = [u8::from(receives); account::PROMISE_LEN];
        if let Some(part) = promise.last_chunk_mut() {
            *part = promised.bytes();
        }
        self.act(Action::Pay { ticket: id, node, bytes, amount_msat, promise, invoice });
        Ok(())
    }

    /// The shell has paid, or could not: nothing was spent then.
    pub(in crate::mesh) fn invoice_paid(&mut self, id: Ticket, preimage: Option<[u8; 32]>) {
        self.absorb();
        let Some(at) = self.tables.purchases.iter().position(|p| p.id == id) else { return };
        let now = self.now;
        let Some(purchase) = self.tables.purchases.get_mut(at) else { return };
        let State::Paying { ticket, payment_hash } = purchase.state else { return };
        match preimage.filter(|p| <[u8; 32]>::from(Sha256::digest(p)) == payment_hash) {
            Some(preimage) => {
                purchase.state = State::Shown(Pay { ticket, preimage });
                purchase.due = now;
                self.wake_at(now);
            }
            None => self.end_purchase(at, Cause::PaymentRequired),
        }
    }

    /// A node says what was bought from it.
    pub(in crate::mesh) fn balance_received(
        &mut self,
        source: NodeId,
        balance: &Balance,
    ) -> Result<(), Refusal> {
        let at = self.purchase_of(balance.answers, &source);
        let is_shown = |p: &Purchase| matches!(p.state, State::Shown(_));
        let at = at.filter(|at| self.tables.purchases.get(*at).is_some_and(is_shown));
        let purchase = at.and_then(|at| self.tables.purchases.take(at));
        let Some(purchase) = purchase else {
            return Err((RoutingReason::Unsolicited.into(), Remedy::Ignore));
        };
        let held_as = purchase.held_as();
        let Purchase { id, bytes, amount_msat, .. } = purchase;
        self.absorb();
        let left = balance.bought.saturating_sub(balance.drawn);
        let told = Told { bytes, bought: balance.bought, left };
        self.purchase_ended(id, held_as, Ok(told), true);
        self.act(Action::Publish(Event::BytesBought {
            ticket: id,
            node: source,
            bytes,
            amount_msat,
            left,
        }));
        Ok(())
    }
}

/// Where the invoice is in the packet that brings it: before the key and the signature.
fn invoice_range(packet_len: usize, len: usize) -> Range<usize> {
    let end = packet_len.saturating_sub(33 + 64);
    end.saturating_sub(len)..end
}
