//! Bytes that this node buys: it asks a node of a route for an invoice, has the shell pay it, and
//! shows the preimage until the node says what the account holds. A node without a Lightning node
//! names its cashier instead, which is then asked for the invoice, wherever it is.
//!
//! What is sent is sent again until it is answered: nobody else does that for account messages.
//! A purchase ends in one event, [`Event::BytesBought`] or [`Event::PurchaseFailed`].

mod answers;

use super::Mesh;
use super::api::{Action, Event, Ticket};
use super::error::{PaymentReason, Remedy, RoutingReason};
use crate::config::MAX_HOPS;
use crate::flow::tickets::{LIFETIME_S, TicketError};
use crate::id::{HopId, NodeId};
use crate::tables::{List, Memory};
use crate::time::{Micros, SECOND};
use crate::wire::account::{self, InvoiceRequest, Message, Pay, TicketRequest};
use crate::wire::route_error::Cause;
use heapless::Vec;

/// How often a request for an invoice is sent.
const REQUESTS: usize = 3;
/// How often a preimage is shown: the money is spent, so over some time.
const SHOWS: usize = 12;
/// Pause before the first repetition, longer by as much before each further one: a Lightning node
/// may take a while to write an invoice.
const REQUEST_PAUSE: Micros = 5 * SECOND;
const SHOW_PAUSE: Micros = 2 * SECOND;
/// For how long flows wait for what a node says of an earlier run.
const PATIENCE: Micros = 20 * SECOND;
/// Longest message that is sent here.
const MESSAGE: usize = 1 + 3 * 8 + 33 + 64;

/// How far a purchase is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The node was asked for an invoice.
    Asked,
    /// It has named its cashier, which was asked with this blank ticket.
    Referred { cashier: NodeId, blank: account::Ticket },
    /// The shell pays it.
    Paying { ticket: account::Ticket, payment_hash: [u8; 32] },
    /// The preimage was shown.
    Shown(Pay),
}

/// A purchase under way.
#[derive(Debug, Clone)]
pub(super) struct Purchase {
    id: Ticket,
    /// Whose bytes they are: named by its beginning only, until it has answered.
    node: NodeId,
    /// Nodes before it.
    hops: Vec<HopId, MAX_HOPS>,
    bytes: u64,
    amount_msat: u64,
    open_number: u64,
    /// For flows that end there: the amount is what the node asks, and 0 until it has.
    receives: bool,
    state: State,
    /// Paid in an earlier run: when its ticket has expired. A way to the node is looked for.
    until: Option<Micros>,
    /// Sequences of the datagrams that were sent with this state: any may be answered.
    sent: Vec<u64, SHOWS>,
    due: Micros,
}

impl Purchase {
    /// Under which name this node keeps what it has there.
    fn held_as(&self) -> HopId {
        held_as(self.node.hop(), self.receives)
    }

    /// Whether a way to who is to answer is looked for.
    fn is_sought(&self) -> bool {
        self.until.is_some() || matches!(self.state, State::Referred { .. })
    }

    /// Who is to answer.
    fn asked(&self) -> &NodeId {
        match &self.state {
            State::Referred { cashier, .. } => cashier,
            _ => &self.node,
        }
    }
}

impl<M: Memory> Mesh<M> {
    /// Begins a purchase at a node behind these hops.
    #[inline(never)]
    pub(super) fn buy(
        &mut self,
        hops: &[[u8; 8]],
        node: HopId,
        bytes: u64,
        amount_msat: u64,
        open_number: u64,
    ) {
        if hops.len() > MAX_HOPS {
            return self.reject(None, RoutingReason::TooManyHops, Remedy::Ignore);
        }
        let hops = hops.iter().map(|hop| HopId(*hop)).collect();
        match self.begin_purchase(hops, node, bytes, amount_msat, open_number) {
            Ok(ticket) => self.verdict(super::Verdict::Buying { ticket }),
            Err(reason) => self.reject(None, reason, Remedy::Ignore),
        }
    }

    /// The same for a flow.
    pub(super) fn begin_purchase(
        &mut self,
        hops: Vec<HopId, MAX_HOPS>,
        node: HopId,
        bytes: u64,
        amount_msat: u64,
        open_number: u64,
    ) -> Result<Ticket, PaymentReason> {
        let id = Ticket(self.next_ticket);
        let (node, state) = (NodeId::named_by(node), State::Asked);
        let (sent, due) = (Vec::new(), self.now);
        let new = Purchase {
            id,
            node,
            hops,
            bytes,
            amount_msat,
            open_number,
            receives: amount_msat == 0,
            state,
            until: None,
            sent,
            due,
        };
        self.enter_purchase(new)
    }

    fn enter_purchase(&mut self, new: Purchase) -> Result<Ticket, PaymentReason> {
        let id = new.id;
        // Its node would take it for a repetition of the other, and give the same invoice.
        let same = |p: &Purchase| {
            let buys = |p: &Purchase| (p.bytes, p.amount_msat, p.held_as());
            p.until.is_none() && buys(p) == buys(&new)
        };
        if new.until.is_none() && self.tables.purchases.iter().any(same) {
            return Err(TicketError::TooManyUnpaid.into());
        }
        self.tables.purchases.try_push(new).map_err(|_| TicketError::NoRoom)?;
        self.next_ticket = self.next_ticket.saturating_add(1);
        self.wake_at(self.now);
        Ok(id)
    }

    /// An invoice was paid in an earlier run: its node is shown that, and says what there is.
    #[inline(never)]
    pub(super) fn paid_before(
        &mut self,
        node: NodeId,
        promise: &[u8; account::PROMISE_LEN],
        preimage: [u8; 32],
    ) {
        let [receives, ticket @ ..] = promise;
        let Some(ticket) = account::Ticket::from_bytes(ticket) else { return self.absorb() };
        let receives = *receives != 0;
        let account::Ticket { bytes, amount_msat, open_number, .. } = ticket;
        let lifetime = u64::from(LIFETIME_S).saturating_mul(SECOND);
        let new = Purchase {
            id: Ticket(self.next_ticket),
            node,
            hops: Vec::new(),
            bytes,
            amount_msat,
            open_number,
            receives,
            state: State::Shown(Pay { ticket, preimage }),
            until: Some(self.now.saturating_add(lifetime)),
            sent: Vec::new(),
            due: self.now,
        };
        match self.enter_purchase(new) {
            Ok(ticket) => {
                self.await_bytes(held_as(node.hop(), receives), ticket);
                self.verdict(super::Verdict::Buying { ticket });
            }
            Err(reason) => self.reject(None, reason, Remedy::Ignore),
        }
    }

    /// Whether a purchase waits for its invoice.
    pub(super) fn is_asking(&self, ticket: Ticket) -> bool {
        let asks = |p: &Purchase| matches!(p.state, State::Asked | State::Referred { .. });
        self.tables.purchases.iter().any(|purchase| purchase.id == ticket && asks(purchase))
    }

    /// When the next purchase is due.
    pub(super) fn next_purchase(&self) -> Option<Micros> {
        self.tables.purchases.iter().map(|p| p.due).min()
    }

    /// Sends what is due of one purchase, or ends it; false if none is due.
    pub(super) fn fire_purchase(&mut self) -> bool {
        let due = |p: &Purchase| p.due <= self.now;
        let Some(at) = self.tables.purchases.iter().position(due) else { return false };
        let Some(purchase) = self.tables.purchases.get(at) else { return false };
        let most = match purchase.state {
            State::Asked | State::Referred { .. } => REQUESTS,
            // The invoice was not paid in time.
            State::Paying { .. } => 0,
            State::Shown(_) => SHOWS,
        };
        if purchase.sent.len() >= most || purchase.until.is_some_and(|until| until <= self.now) {
            self.end_purchase(at, Cause::Expired);
        } else {
            self.send_purchase(at);
        }
        true
    }

    /// Sends the message that a purchase has come to.
    fn send_purchase(&mut self, at: usize) {
        let (now, sequence) = (self.now, self.rng.u64());
        let Some(purchase) = self.tables.purchases.get_mut(at) else { return };
        // There is room for as many as are sent.
        let _ = purchase.sent.push(sequence);
        let pause = match purchase.state {
            State::Shown(_) => SHOW_PAUSE,
            _ => REQUEST_PAUSE,
        };
        purchase.due = now.saturating_add(pause.saturating_mul(purchase.sent.len() as u64));
        let Purchase { node, bytes, amount_msat, open_number, .. } = *purchase;
        let (to, state, id) = (*purchase.asked(), purchase.state.clone(), purchase.id);
        let held_as = purchase.held_as();
        let lifetime = u64::from(LIFETIME_S).saturating_mul(SECOND);
        let asked_for =
            purchase.until.map(|until| now.saturating_add(lifetime).saturating_sub(until));
        let hops = match purchase.is_sought() {
            true => self.way_to(to),
            false => Some(purchase.hops.clone()),
        };
        if asked_for.is_some_and(|time| time >= PATIENCE) {
            // Flows wait no longer for what there may be.
            self.purchase_ended(id, held_as, Err(Cause::Expired), false);
        }
        // It is sent once a way is found: see `purchase_route`.
        let Some(hops) = hops else {
            if let Some(time) = asked_for
                && let Some(purchase) = self.tables.purchases.get_mut(at)
            {
                // Its node may come into reach as long as the ticket is valid.
                purchase.sent.pop();
                purchase.due = now.saturating_add(time.clamp(SECOND, 4 * REQUEST_PAUSE));
            }
            return;
        };
        let public_key = self.public_key();
        let payload: Option<Vec<u8, MESSAGE>> = match state {
            State::Asked => {
                let unsigned = InvoiceRequest {
                    bytes,
                    amount_msat,
                    open_number,
                    public_key: &public_key,
                    signature: &[0; 64],
                };
                let sighash = unsigned.sighash(sequence, &self.me.id(), &node);
                let signature = self.me.sign(&self.secp, &sighash);
                Message::InvoiceRequest(InvoiceRequest { signature: &signature, ..unsigned })
                    .bytes()
            }
            State::Referred { blank: ticket, .. } => {
                Message::TicketRequest(TicketRequest { node, ticket }).bytes()
            }
            State::Paying { .. } => None,
            State::Shown(pay) => Message::Pay(pay).bytes(),
        };
        let first = hops.first().copied().unwrap_or(to.hop());
        let link = self.tables.routing.neighbours.live(first).map(|n| n.link);
        // A route that is gone may come back before the last try.
        if let (Some(link), Some(payload)) = (link, payload) {
            let (me, sent) = (self.me.id(), &mut self.tables.sent);
            let went = sent.went(link, sent.name(&me, &to, sequence, hops.iter().copied()), false);
            sent.insert(went);
            self.send_message(link, to, &hops, sequence, &payload, None);
        }
    }

    /// The nodes before another one, if a route to it is known; else a search for one begins.
    fn way_to(&mut self, to: NodeId) -> Option<Vec<HopId, MAX_HOPS>> {
        if let Some(route) = self.tables.routing.find_route(&to, self.now) {
            return Some(route.path());
        }
        if self.tables.searches.get_mut(&to).is_none_or(|search| search.found) {
            // Full: the next try searches again.
            let _ = self.search(to, false, None);
        }
        None
    }

    /// A search has an answer: a cashier may be asked now.
    pub(super) fn purchase_route(&mut self, destination: &NodeId) {
        let now = self.now;
        for purchase in self.tables.purchases.iter_mut() {
            if purchase.is_sought() && purchase.asked() == destination {
                purchase.due = now;
            }
        }
        self.wake_at(now);
    }

    fn end_purchase(&mut self, at: usize, cause: Cause) {
        if let Some(purchase) = self.tables.purchases.take(at) {
            let held_as = purchase.held_as();
            let Purchase { id: ticket, node, state, until, .. } = purchase;
            let node = node.hop();
            // Of a payment that has not ended in time nobody knows what becomes.
            let unknown = matches!(state, State::Paying { .. }) && cause == Cause::Expired;
            // What was paid in an earlier run may have been credited then.
            let paid = until.is_none() && (unknown || matches!(state, State::Shown(_)));
            self.purchase_ended(ticket, held_as, Err(cause), paid);
            self.act(Action::Publish(Event::PurchaseFailed { ticket, node, cause }));
        }
    }

    fn purchase_of(&self, sequence: u64, source: &NodeId) -> Option<usize> {
        let its = |p: &Purchase| p.sent.contains(&sequence) && p.asked().names(source);
        self.tables.purchases.iter().position(its)
    }

    /// A message of a purchase was stopped on its way; true if it was one.
    pub(super) fn purchase_stopped(&mut self, sequence: u64, cause: Cause) -> bool {
        let its = |p: &Purchase| p.sent.contains(&sequence);
        let Some(at) = self.tables.purchases.iter().position(its) else { return false };
        let is_shown =
            self.tables.purchases.get(at).is_some_and(|p| matches!(p.state, State::Shown(_)));
        // A preimage is shown again unless the node itself will never take it.
        let is_final = match is_shown {
            true => matches!(cause, Cause::TicketInvalid | Cause::Expired | Cause::Replay),
            false => !cause.passes(),
        };
        if is_final {
            self.end_purchase(at, cause);
        }
        true
    }
}

/// Under which name it is kept what this node has at another, for flows that pass there or end there.
pub(super) fn held_as(node: HopId, receives: bool) -> HopId {
    if receives { HopId(node.0.map(|byte| !byte)) } else { node }
}

/// What a node says about an account when a purchase has ended, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// Of this purchase.
    pub(super) bytes: u64,
    /// Ever bought there.
    pub(super) bought: u64,
    /// Of them not drawn by flows.
    pub(super) left: u64,
}
