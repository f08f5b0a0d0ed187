//! Everything of the state machine that has a capacity.

use super::Pending;
#[cfg(feature = "alloc")]
use super::accepted::Told;
#[cfg(feature = "alloc")]
use super::ends::Ends;
use super::parked::Parked;
#[cfg(feature = "alloc")]
use super::purchases::Purchase;
#[cfg(feature = "alloc")]
use crate::config::fixed::{ACCEPTED, PURCHASES};
use crate::config::fixed::{FULL_SOURCES, HEAD, PARKED, SENT};
use crate::config::{self, Config, MAX_HEAD};
#[cfg(feature = "flows")]
use crate::flow::accounts::Accounts;
#[cfg(feature = "flows")]
use crate::flow::table::FlowTable;
#[cfg(feature = "flows")]
use crate::flow::tickets::Tickets;
use crate::id::NodeId;
#[cfg(feature = "alloc")]
use crate::payment::asked::Asked;
use crate::payment::headers::HeaderStore;
use crate::payment::replay::ReplayPrevention;
use crate::policy::allowance::Shared;
use crate::rng::Rng;
use crate::routing::discovery::{RelayedRequests, Searches};
use crate::routing::owners::KINDS;
use crate::routing::seen::Seen;
use crate::routing::table::RoutingTable;
use crate::tables::{List, Memory};

/// The tables of one state machine. On a board they are a static value, [`Tables::EMPTY`], that
/// is lent to it.
pub struct Tables<M: Memory> {
    pub(super) routing: RoutingTable<M>,
    pub(super) searches: Searches<M>,
    pub(super) requests: RelayedRequests<M>,
    /// What own routes accept as payment, the newest last. None on boards: they send no such
    /// searches and have no flash for it.
    #[cfg(feature = "alloc")]
    pub(super) accepted: M::List<Told<M>, ACCEPTED>,
    #[cfg(feature = "alloc")]
    pub(super) purchases: M::List<Purchase, PURCHASES>,
    /// The ends of flows at this node.
    #[cfg(feature = "alloc")]
    pub(super) ends: Ends,
    pub(super) seen: Seen<M>,
    /// This node's own datagrams: traffic of others cannot push them out.
    pub(super) sent: Seen<M, SENT>,
    pub(super) replay: ReplayPrevention<M>,
    /// Invoices for datagrams that this node asked its Lightning node for.
    #[cfg(feature = "alloc")]
    pub(super) asked: Asked,
    #[cfg(feature = "flows")]
    pub(super) tickets: Tickets<M>,
    #[cfg(feature = "flows")]
    pub(super) accounts: Accounts<M>,
    #[cfg(feature = "flows")]
    pub(super) flows: FlowTable<M>,
    pub(super) headers: HeaderStore<M>,
    pub(super) parked: M::List<Parked, PARKED>,
    /// Sources whose share of the inbox is full.
    pub(super) full_sources: M::List<NodeId, FULL_SOURCES>,
    /// The budget for control packets that all neighbours share. Only one of the kinds is used;
    /// having as many as the owners means that a board has the code only once.
    pub(super) work: Shared<M, KINDS>,
    /// What is to be carried out before the next input.
    pub(super) queue: heapless::Deque<Pending, 8>,
    /// Bytes that the state machine writes in front of a packet.
    pub(super) head: M::List<u8, HEAD>,
}

impl<M: Memory> Tables<M> {
    /// Tables that hold nothing yet.
    pub const EMPTY: Self = Self {
        routing: RoutingTable::EMPTY,
        searches: Searches::EMPTY,
        requests: RelayedRequests::EMPTY,
        #[cfg(feature = "alloc")]
        accepted: M::List::EMPTY,
        #[cfg(feature = "alloc")]
        purchases: M::List::EMPTY,
        #[cfg(feature = "alloc")]
        ends: Ends::EMPTY,
        seen: Seen::EMPTY,
        sent: Seen::EMPTY,
        replay: ReplayPrevention::EMPTY,
        #[cfg(feature = "alloc")]
        asked: Asked::EMPTY,
        #[cfg(feature = "flows")]
        tickets: Tickets::EMPTY,
        #[cfg(feature = "flows")]
        accounts: Accounts::EMPTY,
        #[cfg(feature = "flows")]
        flows: FlowTable::EMPTY,
        headers: HeaderStore::EMPTY,
        parked: M::List::EMPTY,
        full_sources: M::List::EMPTY,
        work: Shared::EMPTY,
        queue: heapless::Deque::new(),
        head: M::List::EMPTY,
    };

    /// Makes room as configured. Keys of tables are drawn from `rng`.
    pub(super) fn prepare(&mut self, config: &Config, rng: &mut Rng) {
        let c = config.capacities;
        self.routing.prepare(&c, table_key(rng));
        self.searches.set_capacity(c.searches);
        self.requests.prepare(c.relayed_requests, c.neighbours, table_key(rng));
        #[cfg(feature = "alloc")]
        self.accepted.set_capacity(c.accepted);
        #[cfg(feature = "alloc")]
        self.purchases.set_capacity(c.purchases);
        self.seen.prepare(c.seen, table_key(rng));
        self.sent.prepare(c.sent, table_key(rng));
        self.replay.prepare(c.payments, table_key(rng));
        self.headers.prepare(c.headers, config.network);
        self.parked.set_capacity(c.parked);
        self.full_sources.set_capacity(config::FULL_SOURCES);
        self.work.prepare(c.shares);
        self.head.set_capacity(MAX_HEAD);
    }
}

#[cfg(feature = "flows")]
impl<M: Memory> Tables<M> {
    /// Makes room for flows as configured. `rng` is another one than that of the other tables,
    /// whose numbers are the same with flows and without; `ticket_key` is the same in every run.
    pub(super) fn prepare_flows(&mut self, config: &Config, rng: &mut Rng, ticket_key: [u8; 32]) {
        let c = config.capacities;
        self.tickets.prepare(c.tickets, table_key(rng), ticket_key);
        self.accounts.prepare(c.accounts, table_key(rng));
        self.flows.prepare(c.flows, table_key(rng));
        #[cfg(feature = "alloc")]
        self.ends.prepare(c.ends, config.flows.stream_memory);
    }
}

fn table_key(rng: &mut Rng) -> [u8; 16] {
    let halves = [rng.u64().to_le_bytes(), rng.u64().to_le_bytes()];
    let mut key = [0; 16];
    key.iter_mut().zip(halves.as_flattened()).for_each(|(k, b)| *k = *b);
    key
}
