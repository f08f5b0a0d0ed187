//! Requests for invoices: what a source would pay for bytes of its flows here.
//!
//! A node with a Lightning node has an invoice written and answers with it and a ticket. One
//! without refers the source to its cashier, with a blank ticket.

use super::control::Refusal;
use super::error::{MeshError, NetworkReason, PaymentReason, Remedy};
use super::free::before_the_neighbour;
use super::{Mesh, Tables};
use crate::flow::tickets::{Sale, TicketError};
use crate::id::{LinkId, NodeId};
use crate::payment::ledger::Record;
use crate::signature;
use crate::tables::Memory;
use crate::wire::account::{InvoiceRequest, Referral};
use crate::wire::datagram::Datagram;
#[cfg(feature = "alloc")]
use {
    super::api::{Action, Ticket},
    super::parked::{Awaits, From},
    super::relay::Trace,
    crate::flow::accounts::receiving,
    crate::flow::tickets::{Given, LIFETIME_S, Tickets},
    crate::id::HopId,
    crate::payment::bolt11,
    crate::wire::Header,
    crate::wire::account::{self, Invoice, Message},
    crate::wire::datagram::head_len,
};

/// Invoices are in whole satoshi, which is all that some wallets know.
const SAT_MSAT: u64 = 1_000;

impl<M: Memory> Mesh<M> {
    /// A source asks for an invoice.
    #[inline(never)]
    pub(super) fn invoice_request(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        request: &InvoiceRequest<'_>,
    ) -> Result<(), Refusal> {
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        self.may_sell().map_err(ignore)?;
        #[cfg(not(feature = "alloc"))]
        if self.config.flows.cashier.is_none() {
            return Err(ignore(PaymentReason::NoInvoice.into()));
        }
        self.check_offer(request).map_err(ignore)?;
        let source = datagram.source;
        if NodeId::from_compressed(request.public_key) != source {
            return Err((PaymentReason::SourceKey.into(), Remedy::Penalise));
        }
        self.expire_tickets();
        #[cfg(feature = "alloc")]
        let wanted = match self.config.flows.cashier {
            None => {
                let account = account_of(request, source);
                let buys = (request.bytes, self.asked(request).map_err(ignore)?);
                let given = self.tables.tickets.unpaid(self.now, &account, true, buys);
                if given.is_none() {
                    self.place_for(link, &account).map_err(ignore)?;
                }
                Some((account, buys, given))
            }
            Some(_) => None,
        };
        let work = self.config.signature_work;
        if !self.take_control(link, Some(before_the_neighbour(datagram)), work) {
            return Err(ignore(NetworkReason::ControlQuota.into()));
        }
        let sighash = request.sighash(datagram.sequence, &source, &datagram.destination);
        if !signature::verify(&self.secp, request.public_key, &sighash, request.signature) {
            return Err((PaymentReason::SourceSignature.into(), Remedy::Ignore));
        }
        #[cfg(feature = "alloc")]
        if let Some((account, buys, given)) = wanted {
            return self.await_invoice((link, datagram), account, buys, given).map_err(ignore);
        }
        self.refer(link, datagram, request).map_err(ignore)
    }

    fn check_offer(&self, request: &InvoiceRequest<'_>) -> Result<(), MeshError> {
        #[cfg(feature = "alloc")]
        if request.amount_msat == 0 {
            return self.asked(request).map(|_| ());
        }
        let (share_msat, price_msat) =
            (request.amount_msat, self.config.payment.tariff.price(request.bytes));
        if request.bytes == 0 || share_msat == 0 || share_msat % SAT_MSAT != 0 {
            return Err(PaymentReason::Malformed.into());
        }
        match share_msat < price_msat {
            true => Err(PaymentReason::AmountTooSmall { share_msat, price_msat }.into()),
            false => Ok(()),
        }
    }

    /// Sends a source whose request was checked to the cashier.
    #[inline(never)]
    fn refer(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        request: &InvoiceRequest<'_>,
    ) -> Result<(), MeshError> {
        let source = datagram.source;
        #[cfg(feature = "alloc")]
        let source = account_of(request, source);
        let Some(cashier) = self.config.flows.cashier else { return Ok(()) };
        let Tables { routing, tickets, accounts, .. } = &*self.tables;
        let neighbour = routing.neighbours.get(link).ok_or(NetworkReason::LinkClosed)?.node.hop();
        let share = routing.neighbours.share_of(crate::config::fixed::PLACES).max(1);
        let known = tickets.has_place(&source);
        if !known && !accounts.may_have_ticket(&source) {
            return Err(PaymentReason::from(TicketError::TooManyUnpaid).into());
        }
        let InvoiceRequest { bytes, amount_msat, open_number, .. } = *request;
        #[cfg(feature = "alloc")]
        let amount_msat = if amount_msat == 0 { self.asked(request)? } else { amount_msat };
        let sale = Sale { bytes, amount_msat, open_number };
        let blank = self.tables.tickets.refer(self.now, (neighbour, share), &source, sale);
        let ticket = blank.map_err(PaymentReason::from)?;
        if !known {
            self.make_room(&source);
            if !self.tables.accounts.keep_place(&source) {
                self.tables.tickets.give_up_place(&source);
                return Err(PaymentReason::from(TicketError::NoRoom).into());
            }
        }
        self.begin_selling();
        let public_key = *self.me.public_key();
        let unsigned = Referral {
            request: datagram.sequence,
            ticket,
            cashier,
            public_key: &public_key,
            signature: &[0; 64],
        };
        let signature = self.me.sign(&self.secp, &unsigned.sighash(&datagram.source));
        let answer = Referral { signature: &signature, ..unsigned }.bytes();
        self.absorb();
        self.answer_source(link, datagram, &answer, self.run_record);
        Ok(())
    }

    /// Begins a run of tickets: before the first link, when all records are restored.
    pub(super) fn begin_run(&mut self) {
        if self.tables.tickets.run() == 0 {
            let run = match self.config.payment.volatile || self.last_run == 0 {
                // No ticket of another run counts, whatever its number, nor one of before the
                // store was lost. Half of the numbers are left for the runs that follow.
                true => (self.rng.u64() as u32) >> 1,
                false => self.last_run.saturating_add(1),
            };
            self.tables.tickets.begin(self.now, run.max(1));
        }
    }

    /// Begins to issue tickets in this run, of which the next one must know.
    pub(super) fn begin_selling(&mut self) {
        let run = self.tables.tickets.run();
        if self.run_record.is_none() {
            self.run_record = self.keep(Record::Run(run));
        }
    }
}

/// Whose account a request is for: who offers nothing asks what it costs to send to this node.
#[cfg(feature = "alloc")]
fn account_of(request: &InvoiceRequest<'_>, source: NodeId) -> NodeId {
    if request.amount_msat == 0 { receiving(&source) } else { source }
}

/// The invoice that a ticket goes with.
#[cfg(feature = "alloc")]
pub(super) enum Issue {
    /// A new one, with this payment hash, for a source that asks through this neighbour.
    New(HopId, [u8; 32]),
    /// One that the source was given before.
    Again(Given),
}

#[cfg(feature = "alloc")]
impl<M: Memory> Mesh<M> {
    /// What an invoice is to be over, in millisatoshi: what is offered, or what this node takes for
    /// bytes of flows that end here, in whole satoshi.
    fn asked(&self, request: &InvoiceRequest<'_>) -> Result<u64, MeshError> {
        if request.amount_msat > 0 {
            return Ok(request.amount_msat);
        }
        if request.bytes == 0 {
            return Err(PaymentReason::Malformed.into());
        }
        let price = self.config.flows.receive.price(request.bytes);
        match price.div_ceil(SAT_MSAT).checked_mul(SAT_MSAT) {
            Some(price) if price > 0 => Ok(price),
            _ => Err(PaymentReason::ModeRefused(self.config.mode).into()),
        }
    }

    /// Whether there is room for another ticket of a source that asks through this neighbour.
    pub(super) fn place_for(&mut self, link: LinkId, source: &NodeId) -> Result<HopId, MeshError> {
        let neighbour = self.room_for_ticket(link)?;
        if !self.tables.accounts.may_have_ticket(source) {
            return Err(PaymentReason::from(TicketError::TooManyUnpaid).into());
        }
        Ok(neighbour)
    }

    /// The same for a ticket of whatever node.
    pub(super) fn room_for_ticket(&mut self, link: LinkId) -> Result<HopId, MeshError> {
        self.expire_tickets();
        let Tables { routing, tickets, .. } = &mut *self.tables;
        let neighbour = routing.neighbours.get(link).ok_or(NetworkReason::LinkClosed)?.node.hop();
        let share = routing.neighbours.share_of(self.config.capacities.tickets).max(1);
        tickets.may_issue(neighbour, share).map_err(PaymentReason::from)?;
        Ok(neighbour)
    }

    /// The shell is asked for an invoice, and the request waits: for a new one, or for the one that
    /// was `given` when the same was asked for before. A repetition while it is written is dropped.
    pub(super) fn await_invoice(
        &mut self,
        (link, datagram): (LinkId, &Datagram<'_>),
        account: NodeId,
        (bytes, amount_msat): (u64, u64),
        given: Option<Given>,
    ) -> Result<(), MeshError> {
        let awaits = Awaits::Invoice { account, bytes, amount_msat };
        if self.is_awaited(link, awaits) {
            self.absorb();
            return Ok(());
        }
        let from = From { link, closed: false, trace: Trace::of(datagram) };
        let until = self.now.saturating_add(self.config.timing.verify_timeout);
        let len = head_len(datagram.hops().len(), 0).saturating_add(datagram.payload.len());
        let ticket = self.park(awaits, Some(from), until, len)?;
        let (source, expiry_s) = (datagram.source, LIFETIME_S);
        let given = given.map(|given| given.payment_hash);
        self.act(Action::Invoice { ticket, source, bytes, amount_msat, expiry_s, given });
        Ok(())
    }

    /// The shell has had an invoice written for a request that waited, or none if it is empty.
    #[inline(never)]
    pub(super) fn invoice_written(&mut self, ticket: Ticket, packet: &[u8], invoice: &[u8]) {
        let Some(from) = self.take_waiting_for_invoice(ticket) else { return };
        let link = from.link;
        if from.closed {
            return self.reject(Some(link), NetworkReason::LinkClosed, Remedy::Ignore);
        }
        let parsed = Header::parse(packet).and_then(|(header, body)| {
            let datagram = Datagram::parse(header, body)?;
            Ok((Message::parse(datagram.payload)?, datagram))
        });
        let (datagram, answered) = match parsed {
            Ok((Message::InvoiceRequest(request), datagram)) => {
                let answered = self.answer_request(link, &datagram, &request, invoice);
                (datagram, answered)
            }
            Ok((Message::TicketRequest(request), datagram)) => {
                let answered = self.answer_ticket_request(link, &datagram, &request, invoice);
                (datagram, answered)
            }
            // Bytes other than those parked are the shell's fault, not the neighbour's.
            Ok(_) => return self.reject(Some(link), NetworkReason::LinkClosed, Remedy::Ignore),
            Err(e) => return self.reject(Some(link), e, Remedy::Ignore),
        };
        match answered {
            Ok(()) => self.absorb(),
            Err(reason) => self.refuse(link, &datagram, reason, Remedy::Ignore),
        }
    }

    fn answer_request(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        request: &InvoiceRequest<'_>,
        invoice: &[u8],
    ) -> Result<(), MeshError> {
        self.may_sell()?;
        let InvoiceRequest { bytes, open_number, .. } = *request;
        let amount_msat = self.asked(request)?;
        let account = account_of(request, datagram.source);
        let (now, sale) = (self.now, Sale { bytes, amount_msat, open_number });
        let issue = |tickets: &mut Tickets<M>, invoice: Issue| match invoice {
            Issue::New(neighbour, hash) => tickets.issue(now, neighbour, &account, hash, sale),
            Issue::Again(given) => tickets.issue_again(&account, given, sale),
        };
        self.answer_with((link, datagram), (&account, true), (bytes, amount_msat), invoice, issue)
    }

    /// Answers a request with an invoice for what it `buys`, bytes and their price in millisatoshi,
    /// and the ticket that goes with it: one of this node's `own`, or of a client's.
    pub(super) fn answer_with(
        &mut self,
        (link, datagram): (LinkId, &Datagram<'_>),
        (account, own): (&NodeId, bool),
        buys: (u64, u64),
        invoice: &[u8],
        issue: impl FnOnce(&mut Tickets<M>, Issue) -> Result<account::Ticket, TicketError>,
    ) -> Result<(), MeshError> {
        let text = core::str::from_utf8(invoice).map_err(|_| PaymentReason::NoInvoice)?;
        let read = bolt11::Invoice::from_text(text).map_err(|_| PaymentReason::NoInvoice)?;
        if read.amount_msat != Some(buys.1) || !read.is_for(self.config.network) {
            return Err(PaymentReason::NoInvoice.into());
        }
        let given = self.tables.tickets.unpaid(self.now, account, own, buys);
        let given = given.filter(|given| given.payment_hash == read.payment_hash);
        let invoice_of = match given {
            Some(given) => Issue::Again(given),
            None if own => Issue::New(self.place_for(link, account)?, read.payment_hash),
            // How many its client gives a source is the client's to say: it learns which are paid.
            None => Issue::New(self.room_for_ticket(link)?, read.payment_hash),
        };
        let keeps = own && given.is_none();
        let mut after = None;
        if own {
            self.begin_selling();
            after = self.run_record;
        }
        if keeps {
            self.make_room(account);
            if !self.tables.accounts.keep_place(account) {
                return Err(PaymentReason::from(TicketError::NoRoom).into());
            }
        }
        let ticket = issue(&mut self.tables.tickets, invoice_of).map_err(|e| {
            if keeps {
                self.tables.accounts.drop_place(account);
            }
            PaymentReason::from(e)
        })?;
        let public_key = self.public_key();
        let unsigned = Invoice {
            request: datagram.sequence,
            ticket,
            invoice,
            public_key: &public_key,
            signature: &[0; 64],
        };
        let signature = self.me.sign(&self.secp, &unsigned.sighash(&datagram.source));
        let answer = Message::Invoice(Invoice { signature: &signature, ..unsigned });
        // The invoice came from the shell: of one that is too long nothing is said.
        if let Some(answer) = answer.bytes::<{ account::MAX_LEN }>() {
            self.answer_source(link, datagram, &answer, after);
        }
        Ok(())
    }
}
