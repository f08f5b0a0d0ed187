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
mod anycast;
pub mod api;
#[cfg(feature = "alloc")]
mod cashier;
mod control;
#[cfg(feature = "alloc")]
mod ends;
pub mod error;
#[cfg(feature = "alloc")]
mod flow_api;
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
mod queue;
#[cfg(feature = "alloc")]
mod reconfigure;
mod relay;
mod restore;
#[cfg(feature = "flows")]
mod selling;
mod send;
#[cfg(feature = "alloc")]
mod shared_proof;
mod tables;
mod timers;
#[cfg(feature = "alloc")]
mod trust;
mod view;
mod work;

#[cfg(test)]
mod accepted_tests;
#[cfg(test)]
mod anycast_tests;
#[cfg(test)]
mod asked_tests;
#[cfg(test)]
mod bad_payment_tests;
#[cfg(all(test, feature = "alloc"))]
mod cashier_tests;
#[cfg(all(test, feature = "alloc"))]
mod conduct_tests;
#[cfg(test)]
mod covenant_tests;
#[cfg(all(test, feature = "alloc"))]
mod credit_tests;
#[cfg(all(test, feature = "alloc"))]
mod end_attack_tests;
#[cfg(all(test, feature = "alloc"))]
mod end_tests;
#[cfg(all(test, feature = "alloc"))]
mod end_world;
#[cfg(test)]
mod farewell_tests;
#[cfg(all(test, feature = "flows"))]
mod flow_relay_tests;
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
mod price_tests;
#[cfg(all(test, feature = "alloc"))]
mod purchase_tests;
#[cfg(test)]
mod receipt_tests;
#[cfg(all(test, feature = "alloc"))]
mod receiving_tests;
#[cfg(all(test, feature = "alloc"))]
mod repaid_tests;
#[cfg(test)]
mod repeat_tests;
#[cfg(all(test, feature = "alloc"))]
mod shared_proof_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod tests;
#[cfg(all(test, feature = "alloc"))]
mod trust_tests;
#[cfg(test)]
mod unchecked_byte_tests;

pub use api::{Action, Event, Input, LinkCapabilities, Misuse, Packet, Priority, Ticket, Verdict};
#[cfg(feature = "alloc")]
pub use ends::{Due, HopPrice, Streams};
pub use error::{MeshError, NetworkReason, PaymentReason, Remedy, RoutingReason};
#[cfg(feature = "alloc")]
pub use flow_api::{FlowEnded, FlowEvent, FlowId};
pub use tables::Tables;
#[cfg(feature = "alloc")]
pub use view::AccountQuote;
#[cfg(feature = "alloc")]
pub use view::{Carried, Class, OwnFlow};
pub use view::{Quote, Resources, Stats};

use crate::config::Config;
#[cfg(test)]
use crate::id::{LinkId, NodeId};
use crate::payment::headers::KnownHeader;
use crate::policy::{OwnNetwork, PolicyConfig, RoutingPolicyEngine};
use crate::rng::Rng;
use crate::signature::Identity;
use crate::tables::{List, Memory, Owned};
use crate::time::{Micros, WallClock};
use queue::Pending;
use secp256k1::{All, Secp256k1, SecretKey};
use sha2::{Digest, Sha256};

/// The state machine with its tables in heap memory.
#[cfg(feature = "alloc")]
pub type HostMesh = Mesh<crate::tables::Heap>;
/// The state machine with its tables in fixed memory that is lent to it:
/// [`Mesh::with_tables`].
pub type BoardMesh = Mesh<crate::tables::Fixed>;

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
    #[cfg(feature = "flows")]
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
            #[cfg(feature = "flows")]
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
    /// inbox, and keeps no packets that wait. An image that calls
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
        #[cfg(feature = "alloc")]
        self.tables.ends.begin_input();
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
            Input::InvoiceAsked { payment_hash, expires_at } => {
                let unix = self.wall.unix(self.now).unwrap_or(0);
                self.tables.asked.insert(payment_hash, expires_at, unix);
                self.absorb();
            }
            #[cfg(feature = "alloc")]
            Input::InvoicePaid { ticket, preimage } => self.invoice_paid(ticket, preimage),
            #[cfg(feature = "alloc")]
            Input::Paid { node, promise, preimage } => self.paid_before(node, &promise, preimage),
            #[cfg(feature = "alloc")]
            Input::OpenFlow { destination, budget_msat } => {
                self.open_own_flow(destination, budget_msat);
            }
            #[cfg(feature = "alloc")]
            Input::FlowBudget { flow, budget_msat } => self.raise_budget(flow, budget_msat),
            #[cfg(feature = "alloc")]
            Input::Streams { flow } => self.streams_used(flow),
            #[cfg(feature = "alloc")]
            Input::CloseFlow { flow, code } => self.close_flow(flow, code),
            #[cfg(feature = "alloc")]
            Input::AcceptFlows { accept } => self.accept_flows(accept),
            Input::PeerConnected { link, peer, dialed, standing, capabilities } => {
                #[cfg(feature = "flows")]
                self.begin_run();
                self.connect((link, peer), dialed, standing, capabilities);
            }
            Input::PeerDisconnected { link } => self.disconnect(link),
            Input::FindRoute { destination } if ALL => self.find(destination, false),
            Input::FindAccepted { destination } if ALL => self.find(destination, true),
            #[cfg(feature = "alloc")]
            Input::FindMembers { group } => self.find_members(group),
            Input::PaymentVerified { ticket, block } => self.answer(ticket, block),
            Input::Resumed { ticket, packet } if ALL => self.resume(ticket, packet),
            Input::Timer => self.absorb(),
            Input::WallClock { unix } => {
                self.own_clock = true;
                self.set_wall(unix);
                self.absorb();
            }
            Input::BlockHeader { header, height } => {
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
                #[cfg(feature = "alloc")]
                if !full {
                    self.unblock_ends();
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
            | Input::InboxFull { .. } => {}
        }
        Ok(())
    }
}

/// The key of the fingerprints of paid packets, from this node's own secret.
fn packet_key(key: &SecretKey) -> [u8; 16] {
    let mut short = [0; 16];
    let long = secret(key, b"blvm-mesh/paid packet");
    short.iter_mut().zip(long).for_each(|(s, h)| *s = h);
    short
}

/// The key of a node's tickets: whoever has it can issue tickets that this node takes. It is a
/// secret of the node and its [cashier](crate::config::FlowRules::cashier).
#[cfg(feature = "flows")]
pub fn ticket_key(key: &SecretKey) -> [u8; 32] {
    secret(key, b"blvm-mesh/ticket")
}

/// A secret for one purpose, from this node's own.
fn secret(key: &SecretKey, purpose: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(purpose).chain_update(key.secret_bytes()).finalize().into()
}
