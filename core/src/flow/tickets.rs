//! Tickets: what a node promises with an invoice, and keeps a place for.
//!
//! A ticket is a MAC over what is bought, for how much, by whom, and the payment hash. Whoever
//! shows it with the preimage has paid: no signature is checked, no invoice is read, and no
//! wall clock is needed, for a ticket's age counts in seconds of the run that issued it. It lives
//! [`LIFETIME_S`], is taken once, and in the run after its own during the first [`LIFETIME_S`].
//!
//! A node without a Lightning node of its own shares its key with another, its cashier, and gives
//! out blank tickets: authenticated for a payment hash of zeros, which is that of no preimage that
//! anybody knows. The cashier makes tickets for its invoices of them.

use crate::config::fixed::TICKETS;
use crate::flow::places::Places;
use crate::id::{HopId, NodeId};
use crate::tables::{KeyedMap, List, Map, Memory, heap_pop, heap_push};
use crate::time::{Micros, SECOND};
use crate::wire::account::Ticket;
use core::cmp::Ordering;
use hkdf::hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// How long a ticket is valid, in seconds.
pub const LIFETIME_S: u32 = 15 * 60;
/// How long the same request is answered with the same invoice, in seconds: as long as it may be
/// a repetition. A payer that has crashed and does not know what it has paid soon gets another.
#[cfg(feature = "alloc")]
pub const SAME_S: u32 = 30;
/// Why a ticket is not issued or not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum TicketError {
    /// There are too many tickets that are not yet paid: of the source, of the neighbour that
    /// brings the request, or in all.
    #[error("too many invoices wait for their payment; pay them, or ask again in 15 minutes")]
    TooManyUnpaid,
    /// This node did not issue it for this source and payment hash.
    #[error("this node did not issue the ticket, or the preimage is not that of its invoice")]
    Forged,
    /// It is older than [`LIFETIME_S`], or of an earlier run than the last.
    #[error("the ticket has expired")]
    Expired,
    /// It was taken before.
    #[error("the ticket was used before")]
    Used,
    /// There is no room to remember that it was taken.
    #[error("there is no room to remember another payment, so none is accepted")]
    NoRoom,
}

/// Who asked for a ticket.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpaid {
    /// The neighbour that brought the request.
    pub neighbour: HopId,
    /// Who is to pay.
    pub source: NodeId,
    /// Whether this node is paid, and keeps a place for the account; else a client of it, and
    /// nobody here learns that it was.
    pub own: bool,
    /// What it is to buy: bytes, and for how many millisatoshi.
    pub buys: (u64, u64),
}

/// An invoice that was given to a source.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Its payment hash.
    pub payment_hash: [u8; 32],
    /// When its ticket was issued, in seconds of the run.
    issued: u32,
}

/// Nobody asks a board for tickets, which then takes no memory.
#[cfg(not(feature = "alloc"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpaid {}

/// What an invoice is to buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sale {
    /// Bytes.
    pub bytes: u64,
    /// Price, in millisatoshi.
    pub amount_msat: u64,
    /// The source's latest Open number.
    pub open_number: u64,
}

/// When a ticket was issued: the place of its payment hash in the order of expiry.
#[derive(Debug, Clone, Copy)]
struct Issued<H> {
    run: u32,
    at: u32,
    handle: H,
}

impl<H> Issued<H> {
    fn when(&self) -> (u32, u32) {
        (self.run, self.at)
    }
}

impl<H> Ord for Issued<H> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.when().cmp(&other.when())
    }
}

impl<H> PartialOrd for Issued<H> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<H> PartialEq for Issued<H> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<H> Eq for Issued<H> {}

/// What stands for a ticket in that order.
type Handle<M> = <<M as Memory>::Map<Option<Unpaid>, TICKETS> as Map<Option<Unpaid>>>::Handle;

/// Tickets that are valid, by payment hash: those not yet paid, whose place is kept, and those
/// paid, which are not taken again.
pub struct Tickets<M: Memory> {
    /// `None`: it is paid.
    live: M::Map<Option<Unpaid>, TICKETS>,
    /// When they were issued, as a heap with the oldest on top.
    order: M::List<Issued<Handle<M>>, TICKETS>,
    /// How many of a neighbour's are not paid, sorted.
    #[cfg(feature = "alloc")]
    unpaid: M::List<(HopId, u16), TICKETS>,
    /// Kept for tickets that the cashier issues.
    places: Places<M>,
    /// The MAC with the key and without a message: hashing the key takes as long as all the rest.
    keyed: Option<Hmac<Sha256>>,
    run: u32,
    /// When this run began.
    began: Micros,
    /// When the latest ticket was issued that was paid in the last run, in seconds of that run.
    /// What was paid much earlier is no longer known.
    latest: u32,
}

impl<M: Memory> Tickets<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self {
        live: M::Map::EMPTY,
        order: M::List::EMPTY,
        #[cfg(feature = "alloc")]
        unpaid: M::List::EMPTY,
        places: Places::EMPTY,
        keyed: None,
        run: 0,
        began: 0,
        latest: 0,
    };

    /// Makes room for `capacity` valid tickets, hashed with a secret. The key is secret and the
    /// same in every run.
    pub fn prepare(&mut self, capacity: usize, secret: [u8; 16], key: [u8; 32]) {
        self.live.prepare(capacity, secret);
        self.order.set_capacity(capacity);
        #[cfg(feature = "alloc")]
        self.unpaid.set_capacity(capacity);
        self.places.set_capacity(capacity);
        // It takes keys of any length.
        self.keyed = Hmac::new_from_slice(&key).ok();
    }

    /// Begins a run: tickets of `run` are issued from now on, and those of the run before are
    /// still taken. Call it after the records are restored.
    pub fn begin(&mut self, now: Micros, run: u32) {
        self.run = run;
        self.began = now;
        self.forget(|of, _| of.checked_add(1) != Some(run));
        self.latest = self.order.iter().map(|issued| issued.at).max().unwrap_or_default();
    }

    /// The number of this run.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Remembers a ticket that was paid, from the store.
    ///
    /// # Errors
    /// [`TicketError::NoRoom`]: there are more than ever were valid at a time.
    pub fn restore(
        &mut self,
        payment_hash: [u8; 32],
        run: u32,
        issued: u32,
    ) -> Result<(), TicketError> {
        // Records come in the order of payment: at this one, those had expired.
        self.forget(|of, at| match run.checked_sub(of) {
            None => false,
            Some(0) => at.saturating_add(LIFETIME_S) <= issued,
            Some(1) => issued >= LIFETIME_S,
            Some(_) => true,
        });
        self.insert(payment_hash, run, issued, None)
    }

    /// Forgets paid tickets of the store that have expired, by run and time of issue.
    fn forget(&mut self, expired: impl Fn(u32, u32) -> bool) {
        while self.order.first().is_some_and(|first| expired(first.run, first.at)) {
            self.pop();
        }
    }

    /// Forgets the oldest ticket; who asked for it, if it was not paid.
    fn pop(&mut self) -> Option<Unpaid> {
        let payment_hash = self.live.key(heap_pop(&mut self.order)?.handle)?;
        self.live.remove(&payment_hash).flatten()
    }

    fn seconds(&self, now: Micros) -> u32 {
        u32::try_from(now.saturating_sub(self.began) / SECOND).unwrap_or(u32::MAX)
    }

    fn is_valid(&self, now: Micros, run: u32, issued: u32) -> bool {
        let now = self.seconds(now);
        match self.run.checked_sub(run) {
            Some(0) => issued <= now && now - issued < LIFETIME_S,
            Some(1) => now < LIFETIME_S && issued.saturating_add(LIFETIME_S) > self.latest,
            _ => false,
        }
    }

    /// Forgets one ticket that has expired, or a place kept for one, if there is one: whose it
    /// was, if it was not paid.
    pub fn expire(&mut self, now: Micros) -> Option<Option<NodeId>> {
        if let Some(source) = self.places.expire(self.seconds(now)) {
            return Some(Some(source));
        }
        let (run, issued) = self.order.first()?.when();
        if self.is_valid(now, run, issued) {
            return None;
        }
        let unpaid = self.pop();
        unpaid.into_iter().for_each(|unpaid| self.settle(unpaid));
        #[cfg(feature = "alloc")]
        return Some(unpaid.filter(|unpaid| unpaid.own).map(|unpaid| unpaid.source));
        #[cfg(not(feature = "alloc"))]
        Some(None)
    }

    /// Whether a ticket may be issued to a source that asks through this neighbour, whose share
    /// of unpaid tickets is `share`.
    ///
    /// # Errors
    /// [`TicketError::TooManyUnpaid`].
    #[cfg(feature = "alloc")]
    pub fn may_issue(&self, neighbour: HopId, share: usize) -> Result<(), TicketError> {
        let at = self.unpaid.binary_search_by_key(&neighbour, |(hop, _)| *hop).ok();
        let unpaid = at.and_then(|at| self.unpaid.get(at)).map_or(0, |(_, n)| usize::from(*n));
        match self.is_full() || unpaid >= share {
            true => Err(TicketError::TooManyUnpaid),
            false => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        self.live.len().saturating_add(self.places.len()) >= self.live.capacity()
    }

    /// Whether a place is kept for a source.
    pub fn has_place(&self, source: &NodeId) -> bool {
        self.places.has(source)
    }

    /// Gives up the place that is kept for a source.
    pub fn give_up_place(&mut self, source: &NodeId) {
        self.places.take(source);
    }

    /// A blank ticket for a source that asks through this neighbour, whose share of places is
    /// `share`. A place is kept for what the cashier makes of it, one for each source.
    ///
    /// # Errors
    /// [`TicketError::TooManyUnpaid`].
    pub fn refer(
        &mut self,
        now: Micros,
        (neighbour, share): (HopId, usize),
        source: &NodeId,
        sale: Sale,
    ) -> Result<Ticket, TicketError> {
        if self.is_full() && !self.has_place(source) {
            return Err(TicketError::TooManyUnpaid);
        }
        let (run, issued) = (self.run, self.seconds(now));
        let blank = Ticket::of(run, issued, sale);
        let mac = self.mac(&blank, source, &BLANK).ok_or(TicketError::NoRoom)?;
        self.places.keep(source, neighbour, share, issued)?;
        Ok(blank.with_mac(mac))
    }

    /// A ticket waits no longer for its payment.
    fn settle(&mut self, unpaid: Unpaid) {
        #[cfg(feature = "alloc")]
        self.count(unpaid.neighbour, false);
        #[cfg(not(feature = "alloc"))]
        match unpaid {}
    }

    /// Counts an unpaid ticket of a neighbour, or one fewer.
    #[cfg(feature = "alloc")]
    fn count(&mut self, neighbour: HopId, more: bool) {
        match self.unpaid.binary_search_by_key(&neighbour, |(hop, _)| *hop) {
            Ok(at) => {
                let Some((_, n)) = self.unpaid.get_mut(at) else { return };
                *n = if more { n.saturating_add(1) } else { n.saturating_sub(1) };
                if *n == 0 {
                    self.unpaid.take(at);
                }
            }
            Err(at) if more => {
                let _ = self.unpaid.try_insert(at, (neighbour, 1));
            }
            Err(_) => {}
        }
    }

    /// Issues a ticket for the invoice with this payment hash and keeps a place for it.
    ///
    /// # Errors
    /// [`TicketError::NoRoom`], or [`TicketError::Used`]: the payment hash is not new.
    #[cfg(feature = "alloc")]
    pub fn issue(
        &mut self,
        now: Micros,
        neighbour: HopId,
        source: &NodeId,
        payment_hash: [u8; 32],
        sale: Sale,
    ) -> Result<Ticket, TicketError> {
        let (run, issued) = (self.run, self.seconds(now));
        let ticket = Ticket::of(run, issued, sale);
        let mac = self.mac(&ticket, source, &payment_hash).ok_or(TicketError::NoRoom)?;
        let buys = (sale.bytes, sale.amount_msat);
        self.keep(now, Unpaid { neighbour, source: *source, own: true, buys }, payment_hash)?;
        Ok(ticket.with_mac(mac))
    }

    /// The invoice with which the same was to be bought a moment ago ([`SAME_S`]), if it is not
    /// paid: its source repeats its request.
    #[cfg(feature = "alloc")]
    pub fn unpaid(
        &self,
        now: Micros,
        source: &NodeId,
        own: bool,
        buys: (u64, u64),
    ) -> Option<Given> {
        let now = self.seconds(now);
        let fresh =
            |issued: &&Issued<_>| issued.run == self.run && now.saturating_sub(issued.at) < SAME_S;
        let of = |issued: &Issued<_>| {
            let payment_hash = self.live.key(issued.handle)?;
            let unpaid = self.live.get(&payment_hash).copied().flatten()?;
            let same = unpaid.source == *source && unpaid.own == own && unpaid.buys == buys;
            same.then_some(Given { payment_hash, issued: issued.at })
        };
        self.order.iter().filter(fresh).find_map(of)
    }

    /// The ticket for [such an invoice](Self::unpaid) of this node's, whose place is kept.
    ///
    /// # Errors
    /// [`TicketError::NoRoom`]: there is no key.
    #[cfg(feature = "alloc")]
    pub fn issue_again(
        &self,
        source: &NodeId,
        given: Given,
        sale: Sale,
    ) -> Result<Ticket, TicketError> {
        let ticket = Ticket::of(self.run, given.issued, sale);
        let mac = self.mac(&ticket, source, &given.payment_hash).ok_or(TicketError::NoRoom)?;
        Ok(ticket.with_mac(mac))
    }

    /// Makes a ticket for an invoice of a blank one, for the node whose key this is. It counts
    /// among those of this node, which does not take it.
    ///
    /// # Errors
    /// [`TicketError::NoRoom`], or [`TicketError::Used`]: the payment hash is not new.
    #[cfg(feature = "alloc")]
    pub fn issue_for(
        &mut self,
        now: Micros,
        neighbour: HopId,
        source: &NodeId,
        payment_hash: [u8; 32],
        (key, blank): (&[u8; 32], &Ticket),
    ) -> Result<Ticket, TicketError> {
        let buys = (blank.bytes, blank.amount_msat);
        self.keep(now, Unpaid { neighbour, source: *source, own: false, buys }, payment_hash)?;
        of_blank(key, source, blank, &payment_hash).ok_or(TicketError::NoRoom)
    }

    /// Keeps a place for a ticket that is issued now.
    #[cfg(feature = "alloc")]
    fn keep(
        &mut self,
        now: Micros,
        unpaid: Unpaid,
        payment_hash: [u8; 32],
    ) -> Result<(), TicketError> {
        self.insert(payment_hash, self.run, self.seconds(now), Some(unpaid))?;
        self.count(unpaid.neighbour, true);
        Ok(())
    }

    /// Whether a ticket was paid with this preimage and may be taken; its payment hash.
    ///
    /// # Errors
    /// [`TicketError`].
    pub fn check(
        &self,
        now: Micros,
        source: &NodeId,
        ticket: &Ticket,
        preimage: &[u8; 32],
    ) -> Result<[u8; 32], TicketError> {
        let payment_hash: [u8; 32] = Sha256::digest(preimage).into();
        let mac = self.mac(ticket, source, &payment_hash).ok_or(TicketError::Forged)?;
        mac.verify_truncated_left(&ticket.mac).map_err(|_| TicketError::Forged)?;
        if !self.is_valid(now, ticket.run, ticket.issued) {
            return Err(TicketError::Expired);
        }
        match self.live.get(&payment_hash) {
            Some(None) => Err(TicketError::Used),
            None if self.is_full() && !self.has_place(source) => Err(TicketError::NoRoom),
            _ => Ok(payment_hash),
        }
    }

    /// A ticket that [was checked](Self::check) is taken. Whether it is one of this run, whose
    /// place was kept.
    pub fn take(&mut self, source: &NodeId, payment_hash: [u8; 32], ticket: &Ticket) -> bool {
        match self.live.get_mut(&payment_hash).map(core::mem::take) {
            Some(unpaid) => {
                unpaid.into_iter().for_each(|unpaid| self.settle(unpaid));
                unpaid.is_some()
            }
            None => {
                let kept = ticket.run == self.run && self.places.take(source);
                // There is room: see `check`.
                let _ = self.insert(payment_hash, ticket.run, ticket.issued, None);
                kept
            }
        }
    }

    /// Tickets that are remembered.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    fn insert(
        &mut self,
        payment_hash: [u8; 32],
        run: u32,
        issued: u32,
        unpaid: Option<Unpaid>,
    ) -> Result<(), TicketError> {
        if self.live.get(&payment_hash).is_some() {
            return Err(TicketError::Used);
        }
        self.live.try_insert(payment_hash, unpaid).map_err(|_| TicketError::NoRoom)?;
        let handle = self.live.handle(&payment_hash).ok_or(TicketError::NoRoom)?;
        // It has as much room.
        let _ = heap_push(&mut self.order, Issued { run, at: issued, handle });
        Ok(())
    }

    /// `None`: nothing was [prepared](Self::prepare).
    fn mac(
        &self,
        ticket: &Ticket,
        source: &NodeId,
        payment_hash: &[u8; 32],
    ) -> Option<Hmac<Sha256>> {
        Some(mac(self.keyed.clone()?, ticket, source, payment_hash))
    }
}

impl Ticket {
    fn of(run: u32, issued: u32, Sale { bytes, amount_msat, open_number }: Sale) -> Self {
        Self { run, issued, bytes, amount_msat, open_number, mac: [0; 16] }
    }

    fn with_mac(mut self, mac: Hmac<Sha256>) -> Self {
        let mac: [u8; 32] = mac.finalize().into_bytes().into();
        self.mac.iter_mut().zip(mac).for_each(|(short, byte)| *short = byte);
        self
    }
}

/// What stands for the payment hash in a blank ticket.
const BLANK: [u8; 32] = [0; 32];

fn mac(
    mut keyed: Hmac<Sha256>,
    ticket: &Ticket,
    source: &NodeId,
    payment_hash: &[u8; 32],
) -> Hmac<Sha256> {
    keyed.update(&ticket.fields());
    keyed.update(&source.0);
    keyed.update(payment_hash);
    keyed
}

/// Whether a ticket is a blank one that the node whose key this is has given this source.
#[cfg(feature = "alloc")]
pub fn is_blank(key: &[u8; 32], source: &NodeId, ticket: &Ticket) -> bool {
    let keyed = Hmac::new_from_slice(key).map(|keyed| mac(keyed, ticket, source, &BLANK));
    keyed.is_ok_and(|mac| mac.verify_truncated_left(&ticket.mac).is_ok())
}

/// Makes a ticket for this payment hash of a blank one.
#[cfg(feature = "alloc")]
pub fn of_blank(
    key: &[u8; 32],
    source: &NodeId,
    blank: &Ticket,
    payment_hash: &[u8; 32],
) -> Option<Ticket> {
    // It takes keys of any length.
    let keyed = Hmac::new_from_slice(key).ok()?;
    Some(blank.with_mac(mac(keyed, blank, source, payment_hash)))
}

#[cfg(all(test, feature = "alloc"))]
mod tests;
