//! Account messages: they go on, or to what deals with them. Sources pay for bytes.

use super::api::{Action, Event, Priority};
use super::control::Refusal;
use super::error::{MeshError, NetworkReason, PaymentReason, Remedy, RoutingReason};
use super::free::before_the_neighbour;
use super::relay::{Next, check_of};
use super::{Mesh, Tables};
use crate::config::{MAX_HOPS, MeshMode};
use crate::flow::accounts::Account;
#[cfg(feature = "alloc")]
use crate::flow::accounts::receiving;
use crate::flow::tickets::TicketError;
use crate::id::{HopId, LinkId, NodeId};
use crate::payment::ledger::{AccountState, Credit, Record};
use crate::routing::seen::{Name, Print};
use crate::tables::Memory;
use crate::wire::account::{Balance, Message, Pay};
use crate::wire::datagram::{Datagram, Emit, Form, head_len};
use crate::wire::header::lower_hop_limit;
use crate::wire::{HEADER_LEN, Header};
/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;

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
                    Message::InvoiceRequest(request) => {
                        self.invoice_request(link, &datagram, &request)
                    }
                    Message::Pay(pay) => self.pay(link, &datagram, &pay),
                    #[cfg(feature = "alloc")]
                    Message::Invoice(invoice) => {
                        self.invoice_received(&datagram, &invoice, link, packet.len())
                    }
                    #[cfg(feature = "alloc")]
                    Message::Balance(balance) => self.balance_received(datagram.source, &balance),
                    #[cfg(feature = "alloc")]
                    Message::Referral(referral) => {
                        self.referral_received(&datagram, &referral, link)
                    }
                    #[cfg(feature = "alloc")]
                    Message::TicketRequest(request) => {
                        self.ticket_request(link, &datagram, &request)
                    }
                    // A board has no Lightning node that could write an invoice.
                    #[cfg(not(feature = "alloc"))]
                    Message::TicketRequest(_) => {
                        Err((PaymentReason::NoInvoice.into(), Remedy::Ignore))
                    }
                    // A node without purchases has asked for nothing.
                    #[cfg(not(feature = "alloc"))]
                    Message::Invoice(_) | Message::Balance(_) | Message::Referral(_) => {
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
            Message::InvoiceRequest(_) | Message::TicketRequest(_) | Message::Pay(_) => {
                return true;
            }
            Message::Invoice(invoice) => invoice.request,
            Message::Referral(referral) => referral.request,
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
    pub(super) fn may_sell(&self) -> Result<(), MeshError> {
        match self.config.mode {
            MeshMode::PaymentGated if self.store_failed || self.not_restored => {
                Err(PaymentReason::StoreFailed.into())
            }
            MeshMode::PaymentGated => Ok(()),
            mode => Err(PaymentReason::ModeTakesNone(mode).into()),
        }
    }

    /// Forgets tickets that have expired, and the places kept for those not paid.
    pub(super) fn expire_tickets(&mut self) {
        while let Some(expired) = self.tables.tickets.expire(self.now) {
            expired.iter().for_each(|source| self.tables.accounts.drop_place(source));
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
        #[cfg(feature = "alloc")]
        let (source, checked) = match checked {
            // It may be for flows that end here.
            Err(TicketError::Forged) => {
                let source = receiving(&source);
                (source, self.tables.tickets.check(self.now, &source, ticket, preimage))
            }
            checked => (source, checked),
        };
        let payment_hash = match checked {
            Ok(payment_hash) => payment_hash,
            // The answer was lost.
            Err(TicketError::Used) if self.tables.accounts.get(&source).is_some() => {
                self.absorb();
                let kept = self.latest_record();
                #[cfg(feature = "alloc")]
                self.send_balance(link, datagram, &source, kept);
                #[cfg(not(feature = "alloc"))]
                self.send_balance(link, datagram, kept);
                return Ok(());
            }
            Err(e) => return Err(ignore(PaymentReason::from(e).into())),
        };
        let unix = self.wall.unix(self.now);
        let ends = self.account_ends();
        self.make_room(&source);
        let Tables { tickets, accounts, .. } = &mut *self.tables;
        // A place was kept, unless the ticket is of the run before: it may be shown again.
        if !accounts.has_room_for(&source) {
            return Err(ignore(PaymentReason::from(TicketError::NoRoom).into()));
        }
        let kept = tickets.take(&source, payment_hash, ticket);
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
            source: datagram.source,
            payment_hash,
            bytes,
            amount_msat,
            after,
        }));
        self.stats.earned_msat = self.stats.earned_msat.saturating_add(amount_msat);
        self.absorb();
        #[cfg(feature = "alloc")]
        self.send_balance(link, datagram, &source, after);
        #[cfg(not(feature = "alloc"))]
        self.send_balance(link, datagram, after);
        Ok(())
    }

    /// When what is bought now is forfeited, in seconds since 1970; 0: never.
    pub(super) fn account_ends(&self) -> u64 {
        match (self.wall.unix(self.now), self.config.flows.account_days) {
            (Some(unix), days) if days > 0 => unix.saturating_add(days.saturating_mul(DAY_S)),
            _ => 0,
        }
    }

    /// Makes room for the account of a source, if that is possible.
    pub(super) fn make_room(&mut self, source: &NodeId) {
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

    fn send_balance(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        #[cfg(feature = "alloc")] account: &NodeId,
        after: Option<u64>,
    ) {
        #[cfg(not(feature = "alloc"))]
        let account = &datagram.source;
        let Some(Account { bought, drawn, .. }) = self.tables.accounts.get(account) else {
            return;
        };
        let (bought, drawn) = (*bought, *drawn);
        let balance = Balance { answers: datagram.sequence, bought, drawn };
        self.answer_source(link, datagram, &balance.bytes(), after);
    }

    /// Sends a message back the way that a datagram came.
    #[inline(never)]
    pub(super) fn answer_source(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        payload: &[u8],
        after: Option<u64>,
    ) {
        let mut hops = datagram.route();
        hops.reverse();
        let (destination, sequence) = (datagram.source, self.rng.u64());
        self.send_message(link, destination, &hops, sequence, payload, after);
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
