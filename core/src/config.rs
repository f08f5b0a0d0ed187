//! Limits and settings: every capacity of the project is defined here.

use crate::id::{Network, NodeId};
pub use crate::mode::MeshMode;
use crate::tariff::Tariff;
use crate::time::{MILLISECOND, Micros, SECOND};
use secp256k1::PublicKey;

/// Most intermediate nodes on a route. With source and destination a packet
/// crosses at most `MAX_HOPS + 1` links.
pub const MAX_HOPS: usize = 48;
/// Most issuers of invoices that a node accepts.
pub const MAX_ISSUERS: usize = 8;
/// Most bytes of a packet's head on a host: everything of a datagram but its
/// payload, with the longest proof.
pub const MAX_HEAD: usize = 24 * 1024;
/// Most bytes of a script that a node is paid to.
pub const MAX_SCRIPT: usize = 42;
/// Sources that a shell may report as having used their share of the inbox. If there are more, it
/// reports the whole inbox as full.
pub const FULL_SOURCES: usize = 64;
/// Routes remembered to one destination.
pub const ROUTES_PER_DESTINATION: usize = 3;

/// Lowest difficulty on mainnet from which headers and blocks may use the whole free allowance:
/// mining one to carry other bytes costs more than paying for them.
pub const MAINNET_MIN_DIFFICULTY: u64 = 1_000_000;

/// The same for a node's own network, unless configured: whatever signet and regtest allow, where
/// work costs next to nothing.
pub const fn min_difficulty(network: Network) -> u64 {
    match network {
        Network::Mainnet | Network::Testnet3 | Network::Testnet4 => MAINNET_MIN_DIFFICULTY,
        Network::Signet | Network::Regtest => 0,
    }
}

/// Table sizes in fixed memory (boards).
pub mod fixed {
    /// Neighbours.
    pub const NEIGHBOURS: usize = 8;
    /// Owners of allowances: neighbours, and those that left with an allowance not yet whole.
    pub const OWNERS: usize = 10;
    /// Nodes behind a neighbour that have a share of its allowances each.
    pub const SHARES: usize = 2;
    /// Routes.
    pub const ROUTES: usize = 20;
    /// Hops of a route that is remembered.
    pub const ROUTE_HOPS: usize = 16;
    /// Route hints.
    pub const ROUTE_HINTS: usize = 32;
    /// Requests of others that are remembered.
    pub const RELAYED_REQUESTS: usize = 16;
    /// Own searches under way.
    pub const SEARCHES: usize = 4;
    /// Own routes whose accepted payments are remembered.
    pub const ACCEPTED: usize = 0;
    /// Purchases of bytes under way: a board relays, and buys none.
    pub const PURCHASES: usize = 0;
    /// Nodes whose offences are remembered.
    pub const OFFENDERS: usize = 8;
    /// Ends of flows: a board relays, and has none.
    pub const ENDS: usize = 0;
    /// Live payments.
    pub const PAYMENTS: usize = 128;
    /// Packets that wait for an answer.
    pub const PARKED: usize = 4;
    /// Fingerprints of recent datagrams.
    pub const SEEN: usize = 256;
    /// Fingerprints of the datagrams that this node sent last.
    pub const SENT: usize = 32;
    /// Bytes of a packet's head that the state machine writes: everything of a
    /// datagram but its payload.
    pub const HEAD: usize = 2048;
    /// Block headers kept.
    pub const HEADERS: usize = 16;
    /// Flows.
    pub const FLOWS: usize = 16;
    /// Hash heads of flows, two for each.
    pub const FLOW_HEADS: usize = 2 * FLOWS;
    /// Accounts of sources.
    pub const ACCOUNTS: usize = 16;
    /// Tickets that are valid.
    pub const TICKETS: usize = 16;
    /// Places kept for tickets that a cashier issues.
    pub const PLACES: usize = 8;
    /// As [`FULL_SOURCES`](super::FULL_SOURCES): a board relays, and has no inbox of its own.
    pub const FULL_SOURCES: usize = 0;
}

/// Capacities of the tables. Each field names the rule that applies when its table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacities {
    /// Neighbours. Full: a new one takes the place of the least useful stranger, which is one
    /// that never brought a paid packet, then the youngest. An own neighbour takes any stranger's
    /// place; if no stranger can go, a new link is refused.
    pub neighbours: usize,
    /// Strangers of one address prefix among them; more are refused.
    pub per_prefix: usize,
    /// Owners of allowances: own neighbours, and address prefixes of strangers, including those
    /// that left. Full: an owner whose allowances are whole is forgotten; if there is none,
    /// newcomers share allowances.
    pub owners: usize,
    /// Nodes whose offences are remembered; 0: none is ever refused for them. Full: the one that is
    /// forgiven first is forgotten.
    pub offenders: usize,
    /// Nodes behind a neighbour that have a share of its allowances each; more of them have
    /// shares in common.
    pub shares: usize,
    /// Routes. Full: the one that expires first is evicted; of a neighbour that has its equal
    /// share already, one of its own.
    pub routes: usize,
    /// Hops of a remembered route, at most [`MAX_HOPS`]. Longer routes are relayed and not
    /// remembered; a search that finds only such a route fails.
    pub route_hops: usize,
    /// Route hints; each neighbour has an equal share of them. Full: as relayed requests.
    pub route_hints: usize,
    /// Requests of others that are remembered; each neighbour has an equal share of them. Full:
    /// the oldest of a neighbour that has more is evicted, else its own.
    pub relayed_requests: usize,
    /// Own searches under way. Full: a new one is refused.
    pub searches: usize,
    /// Own routes whose accepted payments are remembered. Full: the oldest is evicted.
    pub accepted: usize,
    /// Own purchases of bytes under way. Full: a new one is refused.
    pub purchases: usize,
    /// Live payments. Full: new payments are refused, none is forgotten.
    pub payments: usize,
    /// Flows. Full, or where a neighbour has its equal share: a new one is refused.
    pub flows: usize,
    /// Ends of flows at this node. Full, or where a neighbour has its equal share: a new one is
    /// refused.
    pub ends: usize,
    /// Accounts of sources. Full: one that is used up, or whose time is over, is forgotten; if
    /// there is none, a new source is refused.
    pub accounts: usize,
    /// Tickets for invoices, paid or not, that have not expired; each neighbour has an equal
    /// share of those not paid. Full: none is issued.
    pub tickets: usize,
    /// Packets that wait for an answer, a route or room. Full: a new one is refused.
    pub parked: usize,
    /// Bytes of these packets, which the shell keeps. Full: a new one is refused.
    pub parked_bytes: usize,
    /// Block headers. Full: the one that came first is evicted.
    pub headers: usize,
    /// Fingerprints of recent datagrams, a power of two. An old one is overwritten.
    pub seen: usize,
    /// Fingerprints of own datagrams, a power of two. An old one is overwritten; a report that
    /// its datagram was stopped is then not believed.
    pub sent: usize,
}

impl Capacities {
    /// For a host with memory to spare.
    pub const HOST: Self = Self {
        neighbours: 1024,
        per_prefix: 8,
        owners: 4096,
        offenders: 4096,
        shares: 16,
        routes: 4096,
        route_hops: MAX_HOPS,
        route_hints: 4096,
        relayed_requests: 1024,
        searches: 256,
        accepted: 64,
        purchases: 256,
        payments: 1_000_000,
        flows: 16_384,
        ends: 1_024,
        accounts: 16_384,
        tickets: 4_096,
        parked: 1024,
        parked_bytes: 64 * 1024 * 1024,
        // Three days: covenants are accepted for one.
        headers: 432,
        seen: 8192,
        sent: 8192,
    };
    /// For a board with 64 KiB.
    pub const BOARD: Self = Self {
        neighbours: fixed::NEIGHBOURS,
        per_prefix: fixed::NEIGHBOURS,
        owners: fixed::OWNERS,
        offenders: fixed::OFFENDERS,
        shares: fixed::SHARES,
        routes: fixed::ROUTES,
        route_hops: fixed::ROUTE_HOPS,
        route_hints: fixed::ROUTE_HINTS,
        relayed_requests: fixed::RELAYED_REQUESTS,
        searches: fixed::SEARCHES,
        accepted: fixed::ACCEPTED,
        purchases: fixed::PURCHASES,
        payments: fixed::PAYMENTS,
        flows: fixed::FLOWS,
        ends: fixed::ENDS,
        accounts: fixed::ACCOUNTS,
        tickets: fixed::TICKETS,
        parked: fixed::PARKED,
        parked_bytes: 64 * 1024,
        headers: fixed::HEADERS,
        seen: fixed::SEEN,
        sent: fixed::SENT,
    };
}

/// Timing: how long things take and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How soon a datagram is answered, with a keep-alive if with nothing else, in microseconds;
    /// 0: no promise. A neighbour that lets three times its keep-alive pass is taken for dead. A
    /// hello is repeated after 120 times as long, and at least each minute.
    pub keepalive: Micros,
    /// Time allowed for a request to cross a link and the reply to come back. A neighbour may
    /// take 16 times as long to say hello, and at least 10 s.
    pub hop_round_trip: Micros,
    /// Width of the first ring, in links. Each further ring is four times as wide.
    pub first_ring: u8,
    /// How long a route is used before it is asked for again.
    pub route_lifetime: Micros,
    /// How long a packet may wait for the node's answer.
    pub verify_timeout: Micros,
}

impl Timing {
    /// For links of a local or wide-area network.
    pub const HOST: Self = Self {
        keepalive: 250 * MILLISECOND,
        hop_round_trip: 100 * MILLISECOND,
        first_ring: 2,
        route_lifetime: 600 * SECOND,
        verify_timeout: 10 * SECOND,
    };
}

/// Free bytes that a new identity or address prefix starts with; the rest comes at the rate.
pub const FREE_AT_FIRST: u64 = 64 * 1024;

/// A limit: how often something may happen, or how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Times, or bytes, per second on average.
    pub rate: u64,
    /// Times, or bytes, at once after a pause; 0: never.
    pub burst: u64,
}

/// Rules for payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRules {
    /// Price for relaying, or for receiving at the end of a route.
    pub tariff: Tariff,
    /// Keys whose signature on an invoice is accepted.
    pub issuers: heapless::Vec<PublicKey, MAX_ISSUERS>,
    /// The key of them, if there is one, that may sign for others than this node's operator: of its
    /// invoices only those are accepted that this node asked for
    /// ([`Input::InvoiceAsked`](crate::mesh::Input::InvoiceAsked)). Tickets of flows are this
    /// node's own word, and need no such list.
    #[cfg(feature = "alloc")]
    pub shared_issuer: Option<PublicKey>,
    /// Longest time from now to the expiry of an accepted payment, in seconds.
    pub max_lifetime: u64,
    /// How far in the future a payment may be dated, in seconds.
    pub future_skew: u64,
    /// Whether OP_CHECKTEMPLATEVERIFY is enforced on the network.
    pub covenants_active: bool,
    /// Script that covenants must pay; empty: none is accepted.
    pub payout_script: heapless::Vec<u8, MAX_SCRIPT>,
    /// Confirmations that a covenant's funding transaction needs.
    pub min_confirmations: u32,
    /// Whether the shell keeps no records over a restart. Then only payments dated after the
    /// start are accepted.
    pub volatile: bool,
}

/// Rules for flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRules {
    /// Bytes that a flow draws from its source's account at a time: what a crash of this node may
    /// cost the source, for each flow.
    pub reservation: u64,
    /// Days after the last payment when what is left on an account is forfeited; 0: never.
    pub account_days: u64,
    /// Bytes of memory that the streams of flows may take which others have opened to this node.
    pub stream_memory: u64,
    /// What this node takes for the bytes of flows that end here; zeros: nothing. It tells that in
    /// its invoices, and sources offer 0.
    #[cfg(feature = "alloc")]
    pub receive: Tariff,
    /// The node that writes invoices for this one, which has no Lightning node of its own; it has
    /// this node's ticket key (`mesh::ticket_key`).
    pub cashier: Option<NodeId>,
}

/// A node whose invoices this one writes, as its cashier.
#[cfg(feature = "alloc")]
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    /// Who it is.
    pub node: NodeId,
    /// Its ticket key (`mesh::ticket_key`): a secret.
    pub ticket_key: [u8; 32],
}

/// Without the secret.
#[cfg(feature = "alloc")]
impl core::fmt::Debug for Client {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The whole configuration of the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Network whose payments are accepted.
    pub network: Network,
    /// First bytes of the network's P2P messages: [`Network::magic`], or those of a signet
    /// with a challenge of its own ([`Network::signet_magic`]).
    pub magic: [u8; 4],
    /// What goes free.
    pub mode: MeshMode,
    /// Whether blvm-node's private Stratum V2 framing counts as Stratum V2.
    pub private_stratum_tlv: bool,
    /// Largest packet accepted, header included, in bytes.
    pub max_packet: u32,
    /// All free traffic accepted per neighbour, in bytes per second.
    pub free_rate: u64,
    /// Free traffic accepted at once after a pause, in bytes.
    pub free_burst: u64,
    /// Free traffic without proof of work, as part of that. Not counted in mode open, which
    /// classifies nothing.
    pub plain: Allowance,
    /// The same for commands that are seldom sent, again as part of that.
    pub rare: Allowance,
    /// Work that a neighbour may cause by control packets: their bytes, and other work converted
    /// to bytes.
    pub control: Allowance,
    /// The same for all neighbours together.
    pub control_of_all: Allowance,
    /// What a signature counts for there, in bytes.
    pub signature_work: u64,
    /// Searches that a neighbour may send through the whole mesh.
    pub wide_searches: Allowance,
    /// Lowest difficulty on the node's own network from which headers and blocks may use all of
    /// that; 0 for whatever the network allows. Of other networks, only mainnet's work counts,
    /// from [`MAINNET_MIN_DIFFICULTY`] on.
    pub min_difficulty: u64,
    /// Payments that a neighbour may pass on and that prove bad only by a costly check: a
    /// signature, or a question to the node. Beyond that its paid datagrams are refused
    /// unchecked. Valid payments cost it nothing.
    pub bad_payments: Allowance,
    /// Rules for payments.
    pub payment: PaymentRules,
    /// Rules for flows.
    pub flows: FlowRules,
    /// The nodes whose cashier this one is.
    #[cfg(feature = "alloc")]
    pub clients: alloc::vec::Vec<Client>,
    /// How many bytes neighbours may owe, each in all its flows together: who reaches a Lightning
    /// node only through this one cannot pay first.
    #[cfg(feature = "alloc")]
    pub credit: alloc::collections::BTreeMap<NodeId, u64>,
    /// Whether strangers relay what this node pays for; the default. Otherwise they relay what is free.
    #[cfg(feature = "alloc")]
    pub strangers_relay_paid: bool,
    /// Strangers that relay what this node pays for, whatever that says.
    #[cfg(feature = "alloc")]
    pub trusted: alloc::collections::BTreeSet<NodeId>,
    /// The neighbour whose hello sets the wall clock, if the shell sets none.
    pub clock_source: Option<NodeId>,
    /// A group that this node belongs to: it answers searches for it in its own name (anycast,
    /// RFC 4786).
    #[cfg(feature = "alloc")]
    pub group: Option<NodeId>,
    /// Timing.
    pub timing: Timing,
    /// Table sizes.
    pub capacities: Capacities,
}

/// Largest packet of a host: a Bitcoin message of 4 MiB with the room that the
/// datagram around it may need.
pub const HOST_MAX_PACKET: u32 = 4 * 1024 * 1024 + 8192;

impl Config {
    /// All free traffic accepted per neighbour, in bytes.
    pub const fn free(&self) -> Allowance {
        Allowance { rate: self.free_rate, burst: self.free_burst }
    }

    /// Defaults of a host on `network`: payment gated, no issuer accepted yet.
    pub fn host(network: Network) -> Self {
        Self {
            network,
            magic: network.magic(),
            mode: MeshMode::PaymentGated,
            private_stratum_tlv: false,
            max_packet: HOST_MAX_PACKET,
            free_rate: 12_500_000,
            free_burst: 8 * 1024 * 1024,
            plain: Allowance { rate: 256 * 1024, burst: 8 * 1024 * 1024 },
            // Room for two of the largest messages.
            rare: Allowance { rate: 4 * 1024, burst: 128 * 1024 },
            control: Allowance { rate: 128 * 1024, burst: 256 * 1024 },
            // A thousand signatures a second, at 100 us, are a tenth of a core.
            control_of_all: Allowance { rate: 1024 * 1024, burst: 2 * 1024 * 1024 },
            signature_work: 1024,
            wide_searches: Allowance { rate: 16, burst: 64 },
            min_difficulty: min_difficulty(network),
            // At 60 us for two signatures 0.3 % of a core.
            bad_payments: Allowance { rate: 50, burst: 200 },
            payment: PaymentRules {
                tariff: Tariff { base_msat: 1000, per_kib_msat: 100 },
                issuers: heapless::Vec::new(),
                #[cfg(feature = "alloc")]
                shared_issuer: None,
                max_lifetime: 7 * 24 * 3600,
                future_skew: 300,
                covenants_active: false,
                payout_script: heapless::Vec::new(),
                min_confirmations: if matches!(network, Network::Regtest) { 1 } else { 6 },
                volatile: false,
            },
            flows: FlowRules {
                reservation: 1024 * 1024,
                account_days: 90,
                stream_memory: 1 << 30,
                #[cfg(feature = "alloc")]
                receive: Tariff { base_msat: 0, per_kib_msat: 0 },
                cashier: None,
            },
            #[cfg(feature = "alloc")]
            clients: alloc::vec::Vec::new(),
            #[cfg(feature = "alloc")]
            credit: alloc::collections::BTreeMap::new(),
            #[cfg(feature = "alloc")]
            strangers_relay_paid: true,
            #[cfg(feature = "alloc")]
            trusted: alloc::collections::BTreeSet::new(),
            clock_source: None,
            #[cfg(feature = "alloc")]
            group: None,
            timing: Timing::HOST,
            capacities: Capacities::HOST,
        }
    }

    /// Defaults of a board: as a host's, with tables and packets that fit it.
    pub fn board(network: Network, max_packet: u32) -> Self {
        let mut config = Self::host(network);
        config.max_packet = max_packet;
        config.capacities = Capacities::BOARD;
        // Each may cost 9 million instructions.
        config.bad_payments = Allowance { rate: 1, burst: 8 };
        config.control_of_all = Allowance { rate: 128 * 1024, burst: 512 * 1024 };
        config.signature_work = 8 * 1024;
        config.payment.volatile = true;
        config.flows.reservation = 64 * 1024;
        config
    }
}
