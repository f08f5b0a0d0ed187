//! Account messages: sources ask this node for invoices and pay them, or pass such messages on.

use super::api::{Action, Event, Priority};
use super::control::Refusal;
use super::error::{MeshError, NetworkReason, PaymentReason, Remedy, RoutingReason};
use super::free::before_the_neighbour;
use super::relay::{Next, check_of};
use super::{Mesh, Tables};
use crate::config::{MAX_HOPS, MeshMode};
use crate::flow::accounts::Account;
use crate::flow::tickets::TicketError;
use crate::id::{HopId, LinkId, NodeId};
use crate::payment::ledger::{AccountState, Credit, Record};
use crate::routing::seen::{Name, Print};
use crate::tables::Memory;
use crate::wire::account::{Balance, Message, Pay};
use crate::wire::datagram::{Datagram, Emit, Form, head_len};
use crate::wire::header::lower_hop_limit;
use crate::wire::{HEADER_LEN, Header};
#[cfg(feature = "alloc")]
use {
    super::api::Ticket,
    super::parked::{Awaits, From},
    super::relay::Trace,
    crate::flow::tickets::{LIFETIME_S, Sale},
    crate::payment::bolt11,
    crate::signature,
    crate::wire::account::{self, Invoice, InvoiceRequest},
};

/// Invoices are in whole satoshi, which is all that some wallets know.
#[cfg(feature = "alloc")]
const SAT_MSAT: u64 = 1_000;
/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;
/// Bytes of the message of a [`Balance`].
const BALANCE_LEN: usize = 1 + 3 * 8;

impl<M: Memory> Mesh<M> {
    /// A datagram with an account message came in on a live link, its header checked.
    #[inline(never)]
    pub(super) fn account_message(
        &mut self,
        (link, from): (LinkId, usize),
        header: Header,
        packet: &mut [u8],
    ) {
        let Some(body) = packet.get(HEADER_LEN..) else { return };
        let parsed = Datagram::parse(header, body);
        let parsed = parsed.and_then(|d| Message::parse(d.payload).map(|message| (d, message)));
        let (datagram, message) = match parsed {
            Ok(parsed) => parsed,
            Err(e) => return self.reject(Some(link), e, Remedy::Disconnect),
        };
        // A request costs its signature where it goes; what only passes costs a part of that.
        let work = self.config.signature_work / 4;
        let Some((name, came, next)) = self.arrive((link, from), &datagram, packet, work) else {
            return;
        };
        self.tables.seen.insert(came);
        match next {
            Next::Relay { .. } if !self.was_asked(link, &datagram, &message) => {
                self.reject(Some(link), RoutingReason::Unsolicited, Remedy::Ignore);
            }
            Next::Relay { link: to, .. } => {
                self.note_sent(to, false);
                self.pass_named(to, name, Priority::Control, packet, None);
            }
            Next::Deliver => {
                let result = match message {
                    #[cfg(feature = "alloc")]
                    Message::InvoiceRequest(request) => {
                        self.invoice_request(link, &datagram, &request)
                    }
                    // A board has no Lightning node that could write one.
                    #[cfg(not(feature = "alloc"))]
                    Message::InvoiceRequest(_) => {
                        let reason = self.may_sell().err();
                        Err((reason.unwrap_or(PaymentReason::NoInvoice.into()), Remedy::Ignore))
                    }
                    Message::Pay(pay) => self.pay(link, &datagram, &pay),
                    #[cfg(feature = "alloc")]
                    Message::Invoice(invoice) => {
                        self.invoice_received(&datagram, &invoice, link, packet.len())
                    }
                    #[cfg(feature = "alloc")]
                    Message::Balance(balance) => self.balance_received(datagram.source, &balance),
                    // A node without purchases has asked for nothing.
                    #[cfg(not(feature = "alloc"))]
                    Message::Invoice(_) | Message::Balance(_) => {
                        Err((RoutingReason::Unsolicited.into(), Remedy::Ignore))
                    }
                };
                if let Err((reason, remedy)) = result {
                    self.refuse(link, &datagram, reason, remedy);
                }
            }
        }
    }

    /// Where a packet goes that has the form of a datagram and is carried as a control packet: its
    /// name, its fingerprint, and the way. It is charged its bytes and this work. `None`: it was
    /// refused.
    pub(super) fn arrive(
        &mut self,
        (link, from): (LinkId, usize),
        datagram: &Datagram<'_>,
        packet: &[u8],
        work: u64,
    ) -> Option<(Name, Print, Next)> {
        let Datagram { source, destination, sequence, .. } = datagram;
        let name = self.tables.seen.name(source, destination, *sequence, datagram.hops());
        let came = self.tables.seen.came(name, check_of(packet), datagram, 0);
        let next = match self.next(from, datagram, [came; 2], packet.len()) {
            Ok(next) => next,
            Err((reason, remedy)) => {
                self.refuse(link, datagram, reason, remedy);
                return None;
            }
        };
        let (size, before) = (packet.len() as u64, before_the_neighbour(datagram));
        if !self.take_control(link, Some(before), size.saturating_add(work)) {
            self.reject(Some(link), NetworkReason::ControlQuota, Remedy::Ignore);
            return None;
        }
        Some((name, came, next))
    }

    /// Sends such a packet on, and remembers that it went there: a report about it is believed.
    pub(super) fn pass_named(
        &mut self,
        to: LinkId,
        name: Name,
        priority: Priority,
        packet: &mut [u8],
        after: Option<u64>,
    ) {
        let went = self.tables.seen.went(to, name, false);
        self.tables.seen.insert(went);
        lower_hop_limit(packet);
        self.forward(to, priority, packet.len(), after);
    }

    /// Whether a message answers none, or one that went to this neighbour and was not answered
    /// yet: nobody checks what an answer says before it is where it goes.
    fn was_asked(&mut self, link: LinkId, datagram: &Datagram<'_>, message: &Message<'_>) -> bool {
        let request = match message {
            Message::InvoiceRequest(_) | Message::Pay(_) => return true,
            Message::Invoice(invoice) => invoice.request,
            Message::Balance(balance) => balance.answers,
        };
        let mut hops = datagram.route();
        hops.reverse();
        let seen = &mut self.tables.seen;
        // A source that did not know the whole identity has named its beginning.
        [datagram.source, NodeId::named_by(datagram.source.hop())].iter().any(|asked| {
            let name = seen.name(&datagram.destination, asked, request, hops.iter().copied());
            let went = seen.went(link, name, false);
            seen.take(went)
        })
    }

    /// Whether this node sells bytes now.
    fn may_sell(&self) -> Result<(), MeshError> {
        match self.config.mode {
            MeshMode::PaymentGated if self.store_failed || self.not_restored => {
                Err(PaymentReason::StoreFailed.into())
            }
            MeshMode::PaymentGated => Ok(()),
            mode => Err(PaymentReason::ModeTakesNone(mode).into()),
        }
    }

    /// A source asks for an invoice: the shell is asked to write one, and the request waits.
    #[cfg(feature = "alloc")]
    fn invoice_request(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        request: &InvoiceRequest<'_>,
    ) -> Result<(), Refusal> {
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        self.may_sell().map_err(ignore)?;
        self.check_offer(request).map_err(ignore)?;
        let source = datagram.source;
        if NodeId::from_compressed(request.public_key) != source {
            return Err((PaymentReason::SourceKey.into(), Remedy::Penalise));
        }
        self.place_for(link, &source).map_err(ignore)?;
        let work = self.config.signature_work;
        if !self.take_control(link, Some(before_the_neighbour(datagram)), work) {
            return Err(ignore(NetworkReason::ControlQuota.into()));
        }
        let sighash = request.sighash(datagram.sequence, &source, &datagram.destination);
        if !signature::verify(&self.secp, request.public_key, &sighash, request.signature) {
            return Err((PaymentReason::SourceSignature.into(), Remedy::Ignore));
        }
        let from = From { link, closed: false, trace: Trace::of(datagram) };
        let until = self.now.saturating_add(self.config.timing.verify_timeout);
        let bytes = head_len(datagram.hops().len(), 0).saturating_add(datagram.payload.len());
        let ticket = self.park(Awaits::Invoice, Some(from), until, bytes).map_err(ignore)?;
        let (bytes, amount_msat) = (request.bytes, request.amount_msat);
        self.act(Action::Invoice { ticket, source, bytes, amount_msat, expiry_s: LIFETIME_S });
        Ok(())
    }

    #[cfg(feature = "alloc")]
    fn check_offer(&self, request: &InvoiceRequest<'_>) -> Result<(), MeshError> {
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

    /// Whether there is room for another ticket of a source that asks through this neighbour.
    #[cfg(feature = "alloc")]
    fn place_for(&mut self, link: LinkId, source: &NodeId) -> Result<HopId, MeshError> {
        self.expire_tickets();
        let Tables { routing, tickets, accounts, .. } = &mut *self.tables;
        let neighbour = routing.neighbours.get(link).ok_or(NetworkReason::LinkClosed)?.node.hop();
        let share = routing.neighbours.share_of(self.config.capacities.tickets).max(1);
        tickets.may_issue(neighbour, share).map_err(PaymentReason::from)?;
        if !accounts.may_have_ticket(source) {
            return Err(PaymentReason::from(TicketError::TooManyUnpaid).into());
        }
        Ok(neighbour)
    }

    /// Forgets tickets that have expired, and the places kept for those not paid.
    pub(super) fn expire_tickets(&mut self) {
        while let Some(expired) = self.tables.tickets.expire(self.now) {
            #[cfg(feature = "alloc")]
            expired.iter().for_each(|unpaid| self.tables.accounts.drop_place(&unpaid.source));
            #[cfg(not(feature = "alloc"))]
            let _ = expired;
        }
    }

    /// The shell has had an invoice written for a request that waited, or none if it is empty.
    #[inline(never)]
    #[cfg(feature = "alloc")]
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
        match parsed {
            Ok((Message::InvoiceRequest(request), datagram)) => {
                match self.answer_request(link, &datagram, &request, invoice) {
                    Ok(()) => self.absorb(),
                    Err(reason) => self.refuse(link, &datagram, reason, Remedy::Ignore),
                }
            }
            // Bytes other than those parked are the shell's fault, not the neighbour's.
            Ok(_) => self.reject(Some(link), NetworkReason::LinkClosed, Remedy::Ignore),
            Err(e) => self.reject(Some(link), e, Remedy::Ignore),
        }
    }

    #[cfg(feature = "alloc")]
    fn answer_request(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        request: &InvoiceRequest<'_>,
        invoice: &[u8],
    ) -> Result<(), MeshError> {
        let text = core::str::from_utf8(invoice).map_err(|_| PaymentReason::NoInvoice)?;
        let read = bolt11::Invoice::from_text(text).map_err(|_| PaymentReason::NoInvoice)?;
        if read.amount_msat != Some(request.amount_msat) || !read.is_for(self.config.network) {
            return Err(PaymentReason::NoInvoice.into());
        }
        self.may_sell()?;
        let source = datagram.source;
        let neighbour = self.place_for(link, &source)?;
        self.begin_selling();
        let sale = Sale {
            bytes: request.bytes,
            amount_msat: request.amount_msat,
            open_number: request.open_number,
        };
        self.make_room(&source);
        let Tables { tickets, accounts, .. } = &mut *self.tables;
        if !accounts.keep_place(&source) {
            return Err(PaymentReason::from(TicketError::NoRoom).into());
        }
        let issued = tickets.issue(self.now, neighbour, &source, read.payment_hash, sale);
        let ticket = issued.map_err(|e| {
            accounts.drop_place(&source);
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
        let signature = self.me.sign(&self.secp, &unsigned.sighash(&source));
        let answer = Message::Invoice(Invoice { signature: &signature, ..unsigned });
        self.answer_source::<{ account::MAX_LEN }>(link, datagram, &answer, self.run_record);
        Ok(())
    }

    /// Begins a run of tickets: before the first link, when all records are restored.
    pub(super) fn begin_run(&mut self) {
        if self.tables.tickets.run() == 0 {
            let run = match self.config.payment.volatile {
                // No ticket of another run counts, whatever its number.
                true => self.rng.u64() as u32,
                false => self.last_run.saturating_add(1),
            };
            self.tables.tickets.begin(self.now, run.max(1));
        }
    }

    /// Begins to issue tickets in this run, of which the next one must know.
    #[cfg(feature = "alloc")]
    pub(super) fn begin_selling(&mut self) {
        let run = self.tables.tickets.run();
        if self.run_record.is_none() && !self.config.payment.volatile {
            self.run_record = Some(self.persist(Record::Run(run)));
        }
    }

    /// A source shows that it has paid.
    fn pay(&mut self, link: LinkId, datagram: &Datagram<'_>, pay: &Pay) -> Result<(), Refusal> {
        let ignore = |reason: MeshError| (reason, Remedy::Ignore);
        self.may_sell().map_err(ignore)?;
        self.expire_tickets();
        let source = datagram.source;
        let Pay { ticket, preimage } = pay;
        let checked = self.tables.tickets.check(self.now, &source, ticket, preimage);
        let payment_hash = match checked {
            Ok(payment_hash) => payment_hash,
            // The answer was lost.
            Err(TicketError::Used) if self.tables.accounts.get(&source).is_some() => {
                self.absorb();
                let kept = self.latest_record();
                self.send_balance(link, datagram, kept);
                return Ok(());
            }
            Err(e) => return Err(ignore(PaymentReason::from(e).into())),
        };
        let unix = self.wall.unix(self.now);
        let ends = match (unix, self.config.flows.account_days) {
            (Some(unix), days) if days > 0 => unix.saturating_add(days.saturating_mul(DAY_S)),
            _ => 0,
        };
        self.make_room(&source);
        let Tables { tickets, accounts, .. } = &mut *self.tables;
        // A place was kept, unless the ticket is of the run before: it may be shown again.
        if !accounts.has_room_for(&source) {
            return Err(ignore(PaymentReason::from(TicketError::NoRoom).into()));
        }
        let kept = tickets.take(payment_hash, ticket);
        let credited = accounts.credit(&source, ticket.bytes, ticket.open_number, ends, kept);
        let account = credited.ok_or(ignore(PaymentReason::from(TicketError::NoRoom).into()))?;
        let after = self.keep(Record::Credit(Credit {
            payment_hash,
            run: ticket.run,
            issued: ticket.issued,
            amount_msat: ticket.amount_msat,
            accepted_at: unix.unwrap_or_default(),
            source,
            account,
        }));
        let (bytes, amount_msat) = (ticket.bytes, ticket.amount_msat);
        self.act(Action::Publish(Event::BytesSold {
            source,
            payment_hash,
            bytes,
            amount_msat,
            after,
        }));
        self.stats.earned_msat = self.stats.earned_msat.saturating_add(amount_msat);
        self.absorb();
        self.send_balance(link, datagram, after);
        Ok(())
    }

    /// Makes room for the account of a source, if that is possible.
    fn make_room(&mut self, source: &NodeId) {
        let unix = self.wall.unix(self.now);
        if let Some(source) = self.tables.accounts.make_room(source, unix) {
            let account = Account::default();
            self.keep(Record::Account(AccountState { source, account }));
        }
    }

    /// Makes a record durable where records are kept; its number.
    pub(super) fn keep(&mut self, record: Record) -> Option<u64> {
        (!self.config.payment.volatile).then(|| self.persist(record))
    }

    fn send_balance(&mut self, link: LinkId, datagram: &Datagram<'_>, after: Option<u64>) {
        let Some(Account { bought, drawn, .. }) = self.tables.accounts.get(&datagram.source) else {
            return;
        };
        let (bought, drawn) = (*bought, *drawn);
        let balance = Message::Balance(Balance { answers: datagram.sequence, bought, drawn });
        self.answer_source::<BALANCE_LEN>(link, datagram, &balance, after);
    }

    /// Sends a message back the way that a datagram came.
    fn answer_source<const N: usize>(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        after: Option<u64>,
    ) {
        let Some(payload) = message.bytes::<N>() else { return };
        let mut hops = datagram.route();
        hops.reverse();
        let (destination, sequence) = (datagram.source, self.rng.u64());
        self.send_message(link, destination, &hops, sequence, &payload, after);
    }

    /// Sends an account message on a link.
    pub(super) fn send_message(
        &mut self,
        link: LinkId,
        destination: NodeId,
        hops: &heapless::Vec<HopId, MAX_HOPS>,
        sequence: u64,
        payload: &[u8],
        after: Option<u64>,
    ) {
        let emit = Emit {
            hop_limit: hops.len() as u8,
            sequence,
            source: self.me.id(),
            destination,
            proof: None,
            form: Form::Account,
        };
        let head = head_len(hops.len(), 0);
        let size = head.saturating_add(payload.len());
        self.send_control_after(link, size, after, |out| {
            let written = emit.write(hops, payload, out, |_| [0; 64])?;
            let room = out.get_mut(written..).and_then(|out| out.get_mut(..payload.len()));
            room.ok_or(crate::wire::WireError::NoRoom { need: size })?.copy_from_slice(payload);
            Ok::<_, crate::wire::WireError>(size)
        });
    }
}
