//! What a node tells about itself: counters, resources in use, and its tables.

use super::Mesh;
#[cfg(feature = "alloc")]
use super::flow_api::FlowId;
use crate::config::{Config, MAX_HOPS};
#[cfg(feature = "alloc")]
use crate::flow::end::EndStats;
#[cfg(feature = "flows")]
use crate::flow::{accounts::Account, table::Flow};
use crate::id::{HopId, NodeId, Standing};
use crate::payment::fee::FeeDistribution;
#[cfg(feature = "alloc")]
use crate::payment::proof::FOR_ACCOUNTS_LEN;
use crate::payment::terms::Terms;
#[cfg(feature = "alloc")]
use crate::policy::DetectedProtocol;
use crate::policy::RoutingPolicyEngine;
use crate::routing::table::RoutingTable;
use crate::tables::Memory;
use crate::time::Micros;
use secp256k1::{All, Secp256k1};

/// What a relayed packet is.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A free datagram with a message of Bitcoin's P2P protocol.
    Bitcoin,
    /// A free datagram of governance.
    Governance,
    /// A free datagram of Stratum V2.
    Stratum,
    /// Another free datagram; in mode open all of them.
    Other,
    /// A datagram that was paid for.
    Paid,
    /// A packet of a flow.
    Flow,
}

#[cfg(feature = "alloc")]
impl Class {
    /// All classes, in the order of [`Stats::relayed`].
    pub const ALL: [Self; 6] =
        [Self::Bitcoin, Self::Governance, Self::Stratum, Self::Other, Self::Paid, Self::Flow];

    /// The class of a free datagram.
    pub(super) fn of(protocol: DetectedProtocol) -> Self {
        match protocol {
            DetectedProtocol::BitcoinP2P => Self::Bitcoin,
            DetectedProtocol::CommonsGovernance => Self::Governance,
            DetectedProtocol::StratumV2 => Self::Stratum,
            DetectedProtocol::MeshPacket | DetectedProtocol::Unknown => Self::Other,
        }
    }

    /// The name by which it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Governance => "governance",
            Self::Stratum => "stratum",
            Self::Other => "other",
            Self::Paid => "paid",
            Self::Flow => "flow",
        }
    }
}

/// Packets that were relayed, and their bytes.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Carried {
    /// How many.
    pub packets: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
}

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
    /// The same by [`Class`], in the order of [`Class::ALL`].
    #[cfg(feature = "alloc")]
    pub relayed: [Carried; 6],
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

impl Stats {
    /// Counts a packet that is relayed.
    #[cfg(feature = "alloc")]
    pub(super) fn carry(&mut self, class: Class, size: usize) {
        if let Some(carried) = self.relayed.get_mut(class as usize) {
            carried.packets = carried.packets.wrapping_add(1);
            carried.bytes = carried.bytes.wrapping_add(size as u64);
        }
    }
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
    /// Flows that end here.
    pub ends: usize,
    /// Accounts of sources.
    pub accounts: usize,
    /// Tickets that have not expired.
    pub tickets: usize,
    /// What is left of the budget for control packets of all neighbours, in bytes.
    pub control_left: u64,
}

/// A flow that ends at this node.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFlow {
    /// Its number.
    pub flow: FlowId,
    /// Who is at the other end.
    pub peer: NodeId,
    /// Whether this node has opened it, and pays for it.
    pub opened: bool,
    /// Whether it has a route and was answered.
    pub up: bool,
    /// Nodes between both ends, in travel order; empty where others have opened it.
    pub hops: alloc::vec::Vec<HopId>,
    /// Bytes that were bought for it at each of them, or that it may use for nothing.
    pub allotted: u64,
    /// What was paid for them, in millisatoshi.
    pub paid_msat: u64,
    /// When it began.
    pub since: Micros,
    /// When a packet last came.
    pub heard: Micros,
    /// Its counts and measurements.
    pub stats: EndStats,
}

/// A route and its price: what a sender needs to have an invoice written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Intermediate nodes in travel order.
    pub hops: heapless::Vec<HopId, MAX_HOPS>,
    /// Largest packet that the route carries, in bytes.
    pub min_packet: u32,
    /// Smallest amount that pays every party, in millisatoshi.
    pub amount_msat: u64,
    /// How it is divided.
    pub shares: FeeDistribution,
    /// What the invoice must commit to.
    pub terms_hash: [u8; 32],
}

/// What it takes to buy bytes on accounts at several nodes with one payment.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountQuote {
    /// Intermediate nodes in travel order, each of which is paid.
    pub hops: heapless::Vec<HopId, MAX_HOPS>,
    /// Largest packet that the route carries, in bytes.
    pub min_packet: u32,
    /// The amount, in millisatoshi.
    pub amount_msat: u64,
    /// What each node gets of it, in millisatoshi.
    pub part_msat: u64,
    /// What the invoice or the covenant must commit to.
    pub terms_hash: [u8; 32],
    /// What stands before the proof.
    pub accounts: [u8; FOR_ACCOUNTS_LEN],
}

impl<M: Memory> Mesh<M> {
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

    /// How it tells protocols apart, and what goes free.
    pub fn policy(&self) -> &RoutingPolicyEngine {
        &self.policy
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
            #[cfg(feature = "alloc")]
            ends: self.tables.ends.len(),
            #[cfg(not(feature = "alloc"))]
            ends: 0,
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

    /// The number of this run, which tickets carry; 0 before the first link.
    #[cfg(feature = "flows")]
    pub fn run(&self) -> u32 {
        self.tables.tickets.run()
    }

    /// Until when a node is refused as a neighbour because it has offended too often, by the
    /// monotonic clock; `None`: it is not.
    pub fn banned_until(&self, node: &NodeId) -> Option<Micros> {
        self.tables.routing.conduct.shut_until(node.hop(), self.now)
    }

    /// How long it takes until all offences of a node are forgiven, in microseconds.
    pub fn offences(&self, node: &NodeId) -> Micros {
        self.tables.routing.conduct.weight(node.hop(), self.now)
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

    /// What it takes to send `bytes` of payload to a node by the best route known now that begins at
    /// a trusted neighbour. `None` without a route, or if no amount pays for it.
    pub fn quote(&self, destination: &NodeId, bytes: u64) -> Option<Quote> {
        #[cfg(feature = "alloc")]
        let route = self.tables.routing.find_paid_route(destination, self.now)?;
        #[cfg(not(feature = "alloc"))]
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
}
