//! The state machine: bytes and events in, actions out.
//!
//! ```text
//! mesh.handle(now, input)?;          // Err: the caller broke the contract
//! loop {
//!     match mesh.poll() {            // drain until Wait
//!         Action::Wait { until } => break,
//!         action => ..,              // carry it out, in order
//!     }
//! }
//! ```
//!
//! Time enters as `now`, randomness as a seed, bytes as slices. Same seed and
//! inputs, same actions, on every target and with either memory. What a peer
//! sends never becomes an `Err`: it is rejected, with a reason and a remedy.
//!
//! This file holds the parts together and sends each input to the file that handles it;
//! `relay.rs` is the path of a datagram. Those functions are `#[inline(never)]`, which bounds the
//! peak stack on boards: the deepest call, checking a payment, then does not share a frame with
//! the others.

mod accepted;
#[cfg(feature = "flows")]
mod accounts;
pub mod api;
mod control;
pub mod error;
#[cfg(feature = "flows")]
mod flows;
mod free;
mod head;
pub mod owned;
mod parked;
mod pay;
mod peers;
#[cfg(feature = "alloc")]
mod purchases;
mod relay;
mod send;
mod tables;
mod timers;
mod work;

#[cfg(test)]
mod accepted_tests;
#[cfg(test)]
mod bad_payment_tests;
#[cfg(test)]
mod covenant_tests;
#[cfg(all(test, feature = "flows"))]
mod flow_tests;
#[cfg(all(test, feature = "flows"))]
mod flow_world_tests;
#[cfg(test)]
mod forgery_tests;
#[cfg(test)]
mod free_tests;
#[cfg(test)]
mod lightning_tests;
#[cfg(test)]
mod liveness_tests;
#[cfg(test)]
mod parked_tests;
#[cfg(test)]
mod place_tests;
#[cfg(all(test, feature = "alloc"))]
mod purchase_tests;
#[cfg(test)]
mod receipt_tests;
#[cfg(test)]
mod repeat_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unchecked_byte_tests;

pub use api::{Action, Event, Input, LinkCapabilities, Misuse, Packet, Priority, Ticket, Verdict};
pub use error::{MeshError, NetworkReason, PaymentReason, Remedy, RoutingReason};
pub use tables::Tables;

use crate::config::Config;
#[cfg(feature = "flows")]
use crate::flow::accounts::Account;
#[cfg(feature = "flows")]
use crate::flow::table::Flow;
#[cfg(feature = "flows")]
use crate::flow::tickets::TicketError;
use crate::id::{HopId, LinkId, NodeId, Standing};
use crate::payment::fee::FeeDistribution;
use crate::payment::headers::KnownHeader;
use crate::payment::ledger::Record;
#[cfg(feature = "flows")]
use crate::payment::ledger::{AccountState, Credit};
use crate::payment::replay::ReplayError;
use crate::payment::terms::Terms;
use crate::policy::{OwnNetwork, PolicyConfig, RoutingPolicyEngine};
use crate::rng::Rng;
use crate::routing::table::RoutingTable;
use crate::signature::Identity;
use crate::tables::{List, Memory, Owned};
use crate::time::{Micros, SECOND, WallClock};
use core::ops::Range;
use secp256k1::{All, Secp256k1, SecretKey};
use sha2::{Digest, Sha256};

/// The state machine with its tables in heap memory.
#[cfg(feature = "alloc")]
pub type HostMesh = Mesh<crate::tables::Heap>;
/// The state machine with its tables in fixed memory that is lent to it:
/// [`Mesh::with_tables`].
pub type BoardMesh = Mesh<crate::tables::Fixed>;

/// How often things happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Datagrams relayed free of charge.
    pub relayed_free: u64,
    /// Datagrams relayed for a payment.
    pub relayed_paid: u64,
    /// Paid datagrams that came again and passed, or were delivered already.
    pub repeated: u64,
    /// Bytes of all datagrams relayed.
    pub relayed_bytes: u64,
    /// Datagrams delivered to this node.
    pub delivered: u64,
    /// Own datagrams sent.
    pub sent: u64,
    /// Control packets received.
    pub control: u64,
    /// Inputs refused because of the neighbour, the link or the route.
    pub refused: u64,
    /// Datagrams refused for a missing or invalid payment.
    pub refused_payment: u64,
    /// Datagrams refused because their payment had been used before.
    pub refused_replay: u64,
    /// Shares of others' accepted payments, in millisatoshi, including those whose record is not
    /// yet durable.
    pub earned_msat: u64,
}

/// What is in use of this node's resources; [`Config`] has the capacities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Resources {
    /// Own neighbours, configured or dialled.
    pub own_neighbours: usize,
    /// Strangers among the neighbours.
    pub strangers: usize,
    /// Owners of allowances, including those that left.
    pub owners: usize,
    /// Packets that wait for an answer, a route or room.
    pub parked: usize,
    /// Their bytes.
    pub parked_bytes: usize,
    /// Route hints kept.
    pub route_hints: usize,
    /// Requests of others kept.
    pub relayed_requests: usize,
    /// Own searches under way.
    pub searches: usize,
    /// Flows that pass.
    pub flows: usize,
    /// Accounts of sources.
    pub accounts: usize,
    /// Tickets that have not expired.
    pub tickets: usize,
    /// What is left of the budget for control packets of all neighbours, in bytes.
    pub control_left: u64,
}

/// A route and its price: what a sender needs to have an invoice written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Intermediate nodes in travel order.
    pub hops: heapless::Vec<HopId, { crate::config::MAX_HOPS }>,
    /// Largest packet that the route carries, in bytes.
    pub min_packet: u32,
    /// Smallest amount that pays every party, in millisatoshi.
    pub amount_msat: u64,
    /// How it is divided.
    pub shares: FeeDistribution,
    /// What the invoice must commit to.
    pub terms_hash: [u8; 32],
}

/// What waits for the shell to carry it out.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
enum Pending {
    /// An action that needs nothing of the state machine's memory.
    Act(Action<'static>),
    /// The received packet, which goes on.
    Forward { link: LinkId, priority: Priority, len: usize, after: Option<u64> },
    /// A control packet, which is in `head`.
    Send { link: LinkId, after: Option<u64> },
    /// An own datagram whose head is in `head`.
    Originate {
        link: LinkId,
        priority: Priority,
        tail: Range<usize>,
        sequence: u64,
        hops: u8,
        paid: bool,
        after: Option<u64>,
    },
    /// The packet in `head` to every live neighbour but one.
    Flood { except: Option<LinkId>, last: Option<LinkId> },
    /// Every own packet that waits for a route to this node.
    Resume(NodeId),
    /// The same, but none was found.
    Fail(NodeId),
    /// Every packet that waits for an answer and came over this link.
    Closed(LinkId),
}

/// The state machine of one node. The [module](self) describes the contract.
pub struct Mesh<M: Memory> {
    config: Config,
    secp: Secp256k1<All>,
    me: Identity,
    now: Micros,
    wall: WallClock,
    /// Whether the shell has set the clock; then no neighbour may.
    own_clock: bool,
    /// Payments dated at or before this are refused, because earlier records are unknown. If the
    /// date is not known yet: when the clock was first set, by the monotonic one, and the latest
    /// that this can have been, with the skew allowed.
    not_before: Option<(Micros, u64)>,
    /// The store was lost, and this run must record when.
    store_lost: bool,
    store_failed: bool,
    inbox_full: bool,
    /// There was not room for every record of the store.
    not_restored: bool,
    tables: M::Held<Tables<M>>,
    policy: RoutingPolicyEngine,
    head_len: usize,
    next_timer: Micros,
    next_ticket: u64,
    /// Draws the numbers of requests and of own datagrams, which nobody can predict.
    rng: Rng,
    /// Keys the fingerprints of paid packets: the same in every run of this node.
    packet_key: [u8; 16],
    records: u64,
    /// The latest run of tickets in the store.
    #[cfg(feature = "flows")]
    last_run: u32,
    /// Record of this run, once it has issued a ticket.
    #[cfg(feature = "alloc")]
    run_record: Option<u64>,
    next_cleanup: Micros,
    draining: bool,
    /// The queue was too short for the actions of an input.
    overflowed: bool,
    /// While a packet is handled that was parked for it: a block and the node's answer about it.
    answered: Option<([u8; 32], KnownHeader)>,
    stats: Stats,
}

impl<M: Memory> Mesh<M> {
    /// A node with this identity and with tables of its own. The seed must be secret and never be
    /// used for another run: sequence numbers and table keys derive from it.
    pub fn new(config: Config, key: SecretKey, seed: [u8; 32]) -> Self
    where
        M: Owned,
    {
        Self::with_tables(M::hold(Tables::EMPTY), config, key, seed)
    }

    /// The same with tables that are lent, in the state of [`Tables::EMPTY`].
    pub fn with_tables(
        mut tables: M::Held<Tables<M>>,
        config: Config,
        key: SecretKey,
        seed: [u8; 32],
    ) -> Self {
        let mut rng = Rng::new(&seed, "mesh");
        let mut secp = Secp256k1::new();
        secp.seeded_randomize(&rng.bytes());
        tables.prepare(&config, &mut rng);
        #[cfg(feature = "flows")]
        tables.prepare_flows(&config, &mut Rng::new(&seed, "flows"), ticket_key(&key));
        let policy = RoutingPolicyEngine::new(PolicyConfig {
            private_stratum_tlv: config.private_stratum_tlv,
            own: OwnNetwork {
                network: config.network,
                magic: config.magic,
                min_difficulty: config.min_difficulty,
            },
            ..PolicyConfig::new(config.mode, config.network)
        });
        Self {
            me: Identity::new(&secp, &key),
            secp,
            now: 0,
            wall: WallClock::default(),
            own_clock: false,
            not_before: None,
            store_lost: false,
            store_failed: false,
            inbox_full: false,
            not_restored: false,
            tables,
            policy,
            head_len: 0,
            next_timer: Micros::MAX,
            next_ticket: 1,
            rng,
            packet_key: packet_key(&key),
            records: 0,
            #[cfg(feature = "flows")]
            last_run: 0,
            #[cfg(feature = "alloc")]
            run_record: None,
            next_cleanup: 0,
            draining: false,
            overflowed: false,
            answered: None,
            stats: Stats::default(),
            config,
        }
    }

    /// Takes one input. `now` is monotonic; [`Self::poll`] must have returned [`Action::Wait`]
    /// before.
    ///
    /// # Errors
    /// [`Misuse`] if the caller broke the contract. Nothing has changed then.
    pub fn handle(&mut self, now: Micros, input: Input<'_>) -> Result<(), Misuse> {
        self.take_in::<true>(now, input)
    }

    /// The same for a shell that only relays, as boards do: it has nothing to send or to find, no
    /// block headers, no inbox, and keeps no packets that wait. An image that calls
    /// [`handle`](Self::handle) nowhere is 8 KiB smaller.
    ///
    /// # Errors
    /// [`Misuse`], and [`Misuse::OnlyRelays`] for such an input.
    pub fn handle_relayed(&mut self, now: Micros, input: Input<'_>) -> Result<(), Misuse> {
        self.take_in::<false>(now, input)
    }

    fn take_in<const ALL: bool>(&mut self, now: Micros, input: Input<'_>) -> Result<(), Misuse> {
        if self.overflowed {
            return Err(Misuse::QueueOverflow);
        }
        if self.draining {
            return Err(Misuse::NotDrained);
        }
        if now < self.now {
            return Err(Misuse::TimeWentBack);
        }
        match &input {
            Input::Send { .. }
            | Input::Repeat { .. }
            | Input::FindRoute { .. }
            | Input::FindAccepted { .. }
            | Input::Resumed { .. }
            | Input::BlockHeader { .. }
            | Input::InboxFull { .. }
                if !ALL =>
            {
                return Err(Misuse::OnlyRelays);
            }
            Input::PeerConnected { link, .. }
                if self.tables.routing.neighbours.get(*link).is_some() =>
            {
                return Err(Misuse::LinkInUse(*link));
            }
            Input::Persisted { .. } if !self.tables.routing.neighbours.is_empty() => {
                return Err(Misuse::TooLateToRestore);
            }
            Input::Resumed { ticket, .. } if !self.is_returning(*ticket) => {
                return Err(Misuse::UnknownTicket(*ticket));
            }
            #[cfg(feature = "alloc")]
            Input::Invoice { ticket, .. } if !self.awaits_invoice(*ticket) => {
                return Err(Misuse::UnknownTicket(*ticket));
            }
            Input::InboxFull { source: Some(source), full: true }
                if self.tables.full_sources.is_full()
                    && !self.tables.full_sources.contains(source) =>
            {
                return Err(Misuse::TooManyFullSources);
            }
            _ => {}
        }
        self.now = now;
        self.draining = true;
        match input {
            Input::MessageReceived { link, packet } => self.receive(link, packet),
            Input::Send { destination, payload, proof, unchecked } if ALL => {
                self.send(destination, payload, proof, unchecked);
            }
            Input::Repeat { packet } if ALL => self.repeat(packet),
            #[cfg(feature = "alloc")]
            Input::Invoice { ticket, packet, invoice } => {
                self.invoice_written(ticket, packet, invoice);
            }
            #[cfg(feature = "alloc")]
            Input::Buy { hops, node, bytes, amount_msat, open_number } => {
                self.buy(hops, node, bytes, amount_msat, open_number);
            }
            #[cfg(feature = "alloc")]
            Input::InvoicePaid { ticket, preimage } => self.invoice_paid(ticket, preimage),
            Input::PeerConnected { link, peer, dialed, standing, capabilities } => {
                #[cfg(feature = "flows")]
                self.begin_run();
                self.connect((link, peer), dialed, standing, capabilities);
            }
            Input::PeerDisconnected { link } => self.disconnect(link),
            Input::FindRoute { destination } if ALL => self.find(destination, false),
            Input::FindAccepted { destination } if ALL => self.find(destination, true),
            Input::PaymentVerified { ticket, block } => self.answer(ticket, block),
            Input::Resumed { ticket, packet } if ALL => self.resume(ticket, packet),
            Input::Timer => self.absorb(),
            Input::WallClock { unix } => {
                self.own_clock = true;
                self.set_wall(unix);
                self.absorb();
            }
            Input::BlockHeader { header, height } if ALL => {
                match self.tables.headers.insert(header, Some(height)) {
                    Ok(_) => self.absorb(),
                    Err(e) => self.reject(None, NetworkReason::Header(e), Remedy::Ignore),
                }
            }
            Input::Persisted { record } => self.restore(record),
            Input::StoreFailed => {
                self.store_failed = true;
                self.absorb();
            }
            Input::InboxFull { source, full } if ALL => {
                match source {
                    None => self.inbox_full = full,
                    Some(source) => {
                        let sources = &mut self.tables.full_sources;
                        sources.retain(|s| *s != source);
                        // There is room for one more: checked above.
                        let _ = if full { sources.try_push(source) } else { Ok(()) };
                    }
                }
                self.absorb();
            }
            Input::StoreRecovered => {
                self.store_failed = false;
                self.absorb();
            }
            Input::Congestion { link, lane, full } => {
                if let Some(n) = self.tables.routing.neighbours.get_mut(link) {
                    n.set_full(lane, full);
                }
                self.absorb();
            }
            Input::LinkAlive { link, incoming } => self.link_alive(link, incoming),
            Input::LinkMeasured { link, quality } => {
                self.measured(link, quality);
                self.absorb();
            }
            // Refused above.
            Input::Send { .. }
            | Input::Repeat { .. }
            | Input::FindRoute { .. }
            | Input::FindAccepted { .. }
            | Input::Resumed { .. }
            | Input::BlockHeader { .. }
            | Input::InboxFull { .. } => {}
        }
        Ok(())
    }

    /// The next action. Call until [`Action::Wait`].
    pub fn poll(&mut self) -> Action<'_> {
        loop {
            let Some(pending) = self.tables.queue.pop_front() else {
                if self.now >= self.next_timer && self.fire() {
                    continue;
                }
                self.draining = false;
                let until = (self.next_timer != Micros::MAX).then_some(self.next_timer);
                return Action::Wait { until };
            };
            match pending {
                Pending::Act(action) => {
                    self.count(&action);
                    return action;
                }
                Pending::Forward { link, priority, len, after } => {
                    let packet = 0..len;
                    return Action::Verdict(Verdict::Forward { link, priority, packet, after });
                }
                Pending::Send { link, after } => {
                    self.note_sent(link, false);
                    return Action::Send { link, packet: self.written(), after };
                }
                Pending::Originate { link, priority, tail, sequence, hops, paid, after } => {
                    self.note_sent(link, true);
                    let packet = Packet { head: self.written(), tail };
                    return Action::Verdict(Verdict::Originate {
                        link,
                        priority,
                        packet,
                        sequence,
                        hops,
                        paid,
                        after,
                    });
                }
                Pending::Flood { except, last } => {
                    let Some(link) = self.tables.routing.neighbours.next_live(last).map(|n| n.link)
                    else {
                        continue;
                    };
                    let _ =
                        self.tables.queue.push_front(Pending::Flood { except, last: Some(link) });
                    if Some(link) == except {
                        continue;
                    }
                    self.note_sent(link, false);
                    return Action::Send { link, packet: self.written(), after: None };
                }
                Pending::Resume(to) => {
                    if let Some(ticket) = self.unpark_for(to) {
                        let _ = self.tables.queue.push_front(Pending::Resume(to));
                        return Action::Resume { ticket };
                    }
                }
                Pending::Closed(link) => {
                    if let Some(action) = self.give_up_closed(link) {
                        let _ = self.tables.queue.push_front(Pending::Closed(link));
                        self.count(&action);
                        return action;
                    }
                }
                Pending::Fail(to) => {
                    if let Some(ticket) = self.unpark_for(to) {
                        let _ = self.tables.queue.push_front(Pending::Fail(to));
                        let reason = RoutingReason::NoRoute.into();
                        let action = Action::Drop { ticket, link: None, reason };
                        self.count(&action);
                        return action;
                    }
                }
            }
        }
    }

    /// This node's identity.
    pub fn id(&self) -> NodeId {
        self.me.id()
    }

    /// This node's compressed public key.
    pub fn public_key(&self) -> [u8; 33] {
        *self.me.public_key()
    }

    /// Its context for signatures, which its shell may use to make keys for links.
    pub fn secp(&self) -> &Secp256k1<All> {
        &self.secp
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What is in use of this node's resources.
    pub fn resources(&self) -> Resources {
        let neighbours = &self.tables.routing.neighbours;
        let own = neighbours.iter().filter(|n| n.standing == Standing::Own).count();
        let (of_all, now) = (self.config.control_of_all, self.now);
        Resources {
            own_neighbours: own,
            strangers: neighbours.len().saturating_sub(own),
            owners: self.tables.routing.owners.len(),
            parked: self.parked(),
            parked_bytes: self.parked_bytes(),
            route_hints: self.route_hints(),
            relayed_requests: self.relayed_requests(),
            searches: self.searches(),
            #[cfg(feature = "flows")]
            flows: self.tables.flows.len(),
            #[cfg(feature = "flows")]
            accounts: self.tables.accounts.len(),
            #[cfg(feature = "flows")]
            tickets: self.tables.tickets.len(),
            #[cfg(not(feature = "flows"))]
            flows: 0,
            #[cfg(not(feature = "flows"))]
            accounts: 0,
            #[cfg(not(feature = "flows"))]
            tickets: 0,
            control_left: self.tables.work.left(0, of_all, now),
        }
    }

    /// Neighbours and routes.
    pub fn table(&self) -> &RoutingTable<M> {
        &self.tables.routing
    }

    /// Whether paid datagrams can be accepted: the wall clock is set, the store works, and an
    /// issuer or covenants are configured.
    pub fn accepts_payments(&self) -> bool {
        let rules = &self.config.payment;
        self.wall.unix(self.now).is_some()
            && !self.store_failed
            && !self.not_restored
            && (!rules.issuers.is_empty()
                || (rules.covenants_active && !rules.payout_script.is_empty()))
    }

    /// The wall clock, in seconds since 1970, if it is known.
    pub fn unix(&self) -> Option<u64> {
        self.wall.unix(self.now)
    }

    /// What a source has at this node.
    #[cfg(feature = "flows")]
    pub fn account(&self, source: &NodeId) -> Option<&Account> {
        self.tables.accounts.get(source)
    }

    /// All accounts.
    #[cfg(feature = "flows")]
    pub fn accounts(&self) -> impl Iterator<Item = (NodeId, &Account)> {
        self.tables.accounts.iter()
    }

    /// Flows that pass here.
    #[cfg(feature = "flows")]
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.tables.flows.iter().map(|(_, flow)| flow)
    }

    /// Live payments.
    pub fn live_payments(&self) -> usize {
        self.tables.replay.len()
    }

    /// Own searches under way.
    pub fn searches(&self) -> usize {
        self.tables.searches.len()
    }

    /// Requests of others that are remembered.
    pub fn relayed_requests(&self) -> usize {
        self.tables.requests.len()
    }

    /// Route hints that are kept.
    pub fn route_hints(&self) -> usize {
        self.tables.routing.hints.len()
    }

    /// What it takes to send `bytes` of payload to a node by the best route known now. `None`
    /// without a route, or if no amount pays for it.
    pub fn quote(&self, destination: &NodeId, bytes: u64) -> Option<Quote> {
        let route = self.tables.routing.find_route(destination, self.now)?;
        let hops = route.path();
        let amount_msat = route.amount_for(bytes)?;
        let terms = Terms {
            network: self.config.network,
            source: self.id(),
            destination: *destination,
            hops: &hops,
            quota: bytes,
        };
        let terms_hash = terms.hash();
        let shares = self.tables.routing.calculate_fee(amount_msat, hops.len())?;
        Some(Quote { hops, min_packet: route.min_packet, amount_msat, shares, terms_hash })
    }

    /// A delivery paid for by this payment could not be handed over, because its record was not
    /// written: when it comes again, it is delivered.
    pub fn not_delivered(&mut self, payment: &[u8; 32]) {
        self.tables.replay.not_delivered(payment);
    }

    fn act(&mut self, action: Action<'static>) {
        self.push(Pending::Act(action));
    }

    /// The received packet goes on.
    fn forward(&mut self, link: LinkId, priority: Priority, len: usize, after: Option<u64>) {
        self.push(Pending::Forward { link, priority, len, after });
    }

    #[inline]
    fn push(&mut self, pending: Pending) {
        // An input causes at most as many entries as fit: see `queue`. Otherwise a payment's
        // record might be lost: this node does nothing more.
        self.overflowed |= self.tables.queue.push_back(pending).is_err();
    }

    fn reject(&mut self, link: Option<LinkId>, reason: impl Into<MeshError>, remedy: Remedy) {
        self.verdict(Verdict::Reject { link, reason: reason.into(), remedy });
    }

    /// The input is done.
    #[inline(never)]
    fn absorb(&mut self) {
        self.verdict(Verdict::Absorbed);
    }

    #[inline(never)]
    fn verdict(&mut self, verdict: Verdict<'static>) {
        self.act(Action::Verdict(verdict));
    }

    fn count(&mut self, action: &Action<'_>) {
        if let Action::Verdict(Verdict::Reject { reason, .. }) | Action::Drop { reason, .. } =
            action
        {
            let counter = match reason {
                MeshError::PaymentVerificationFailed(_) => &mut self.stats.refused_payment,
                MeshError::ReplayDetected(_) => &mut self.stats.refused_replay,
                _ => &mut self.stats.refused,
            };
            *counter = counter.wrapping_add(1);
        }
    }

    fn set_wall(&mut self, unix: u64) {
        if self.config.payment.volatile || self.store_lost {
            self.date_start(unix);
        }
        if self.wall.unix(self.now).is_none() {
            // Neighbours may wait for the time.
            self.tables.routing.neighbours.iter_mut().for_each(|n| n.liveness.greet_at(0));
        }
        self.wall.set(self.now, unix);
        self.wake_at(self.next_cleanup.max(self.now));
    }

    /// Payments dated before the start are unknown: notes when that was.
    fn date_start(&mut self, unix: u64) {
        // Earlier readings may have been too low: the latest start counts.
        let (first, latest) = self.not_before.unwrap_or((self.now, 0));
        let start = unix.saturating_sub(self.now.saturating_sub(first) / SECOND);
        let start = start.saturating_add(self.config.payment.future_skew);
        self.not_before = Some((first, start.max(latest)));
        if start > latest && !self.config.payment.volatile {
            self.persist(Record::StoreLost(Some(start)));
        }
    }

    #[inline(never)]
    fn restore(&mut self, record: Record) {
        match record {
            Record::Floor(unix) => self.tables.replay.restore_floor(unix),
            Record::Payment(p) => {
                // A record that does not fit cannot be forgotten either: no payment is accepted
                // then.
                let accepted = self.tables.replay.restore(p.key, p.expires_at, p.packet);
                self.not_restored |= accepted == Err(ReplayError::TableFull);
            }
            #[cfg(feature = "flows")]
            Record::Run(run) => self.last_run = self.last_run.max(run),
            #[cfg(feature = "flows")]
            Record::Account(AccountState { source, account }) => {
                self.not_restored |= !self.tables.accounts.restore(&source, account);
            }
            #[cfg(feature = "flows")]
            Record::Credit(Credit { payment_hash, run, issued, source, account, .. }) => {
                self.last_run = self.last_run.max(run);
                self.not_restored |= !self.tables.accounts.restore(&source, account);
                let restored = self.tables.tickets.restore(payment_hash, run, issued);
                self.not_restored |= restored == Err(TicketError::NoRoom);
            }
            #[cfg(not(feature = "flows"))]
            Record::Run(_) | Record::Account(_) | Record::Credit(_) => {}
            Record::StoreLost(None) => {
                self.store_lost = true;
                if let Some(unix) = self.wall.unix(self.now) {
                    self.date_start(unix);
                }
            }
            Record::StoreLost(Some(unix)) => {
                let (first, latest) = self.not_before.unwrap_or((self.now, 0));
                self.not_before = Some((first, latest.max(unix)));
            }
        }
        self.absorb();
    }
}

/// The key of the fingerprints of paid packets, from this node's own secret.
fn packet_key(key: &SecretKey) -> [u8; 16] {
    let mut short = [0; 16];
    let long = secret(key, b"blvm-mesh/paid packet");
    short.iter_mut().zip(long).for_each(|(s, h)| *s = h);
    short
}

/// The key of a node's tickets: whoever has it can issue tickets that this node takes.
#[cfg(feature = "flows")]
pub fn ticket_key(key: &SecretKey) -> [u8; 32] {
    secret(key, b"blvm-mesh/ticket")
}

/// A secret for one purpose, from this node's own.
fn secret(key: &SecretKey, purpose: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(purpose).chain_update(key.secret_bytes()).finalize().into()
}
