//! What the node has counted.

use super::{BridgeStats, ChainStats, Count, ExportStats, LineStats, RadioStats};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Answer of `getstats`: counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Neighbours that are up.
    pub peers: usize,
    /// Routes that are known.
    pub routes: usize,
    /// Payments that are remembered against replay.
    pub live_payments: usize,
    /// Whether payments can be written down. Where not, none is accepted.
    pub store_ok: bool,
    /// Packets received from neighbours.
    pub received: Count,
    /// Packets sent to neighbours, relayed and own.
    pub sent: Count,
    /// Datagrams relayed.
    pub relayed: Count,
    /// Datagrams delivered to this node.
    pub delivered: Count,
    /// Datagrams of our own.
    pub originated: Count,
    /// Delivered datagrams that nobody fetched and that had to make room.
    pub undelivered: u64,
    /// Packets that a link's queue dropped, or that lost their link.
    #[serde(default)]
    pub dropped_at_link: u64,
    /// Links that were opened so far.
    #[serde(default)]
    pub links_opened: u64,
    /// Packets and deliveries that wait for the store.
    #[serde(default)]
    pub waiting_for_store: usize,
    /// Delivered datagrams that wait to be fetched and were paid for; bytes of payload.
    #[serde(default)]
    pub inbox_paid: Count,
    /// Delivered datagrams that wait to be fetched and went free.
    #[serde(default)]
    pub inbox_free: Count,
    /// Delivered datagrams that wait to be fetched and came over flows.
    #[serde(default)]
    pub inbox_flows: Count,
    /// Packets that wait for a route, or for a look-up of a block.
    #[serde(default)]
    pub parked: Count,
    /// What is taken of the state machine's tables and allowances.
    #[serde(default)]
    pub tables: TableStats,
    /// File descriptors of the process, where the system tells.
    #[serde(default)]
    pub descriptors: Option<Descriptors>,
    /// Lines that the log left out because too many of their kind came at once.
    #[serde(default)]
    pub log_left_out: u64,
    /// Packets that were refused, by the kind of reason.
    pub refused: BTreeMap<String, u64>,
    /// Payments of others accepted.
    pub payments: u64,
    /// This node's shares in them.
    pub earned_msat: u64,
    /// Payments of this node's own that went with a datagram. A relay may have refused it.
    #[serde(default)]
    pub paid: u64,
    /// Their whole amounts.
    #[serde(default)]
    pub paid_msat: u64,
    /// Bytes that this node buys for its flows.
    #[serde(default)]
    pub purchases: PurchaseStats,
    /// Streams of flows, and what waits between them and their applications.
    #[serde(default)]
    pub pipes: PipeStats,
    /// Searches that ended with a route.
    pub routes_found: u64,
    /// Searches that ended without one.
    pub routes_failed: u64,
    /// Commits of the store, each of one record or more.
    pub commits: u64,
    /// The node that looks blocks up, if there is one.
    pub chain: Option<ChainStats>,
    /// The database into which the ledger is booked besides, if there is one.
    #[serde(default)]
    pub export: Option<ExportStats>,
    /// The serial lines.
    pub lines: Vec<LineStats>,
    /// The radios.
    #[serde(default)]
    pub radios: Vec<RadioStats>,
    /// The interfaces on which neighbours are looked for.
    #[serde(default)]
    pub lan: Vec<LanInterface>,
    /// Connections of Bitcoin nodes over the mesh that there are now.
    #[serde(default)]
    pub bitcoin: BridgeStats,
    /// Connections, and the memory of links.
    pub connections: ConnectionStats,
}

/// Something of which there is a bounded number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// How much of it is taken.
    pub taken: u64,
    /// How much there is.
    pub most: u64,
}

/// What is taken of the state machine's tables and allowances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableStats {
    /// Places for neighbours.
    pub neighbours: Taken,
    /// Strangers among them, whose places a configured or dialled peer may take.
    pub strangers: u64,
    /// Owners of allowances: peers, and address prefixes of strangers.
    pub owners: Taken,
    /// Own searches under way.
    pub searches: Taken,
    /// Requests of others that are remembered.
    pub requests: Taken,
    /// Flows that pass, or end here.
    pub flows: Taken,
    /// Flows that end here.
    pub ends: Taken,
    /// Accounts of sources that have bought bytes.
    pub accounts: Taken,
    /// Invoices for bytes that have not expired.
    pub tickets: Taken,
    /// Bytes of packets that wait for a route, a look-up or room.
    pub parked_bytes: Taken,
    /// Work for control packets of all neighbours, in bytes; `most` comes after a pause.
    pub control: Taken,
}

/// Bytes that this node buys for its flows. Amounts are in millisatoshi.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PurchaseStats {
    /// Whether there is something to pay with.
    pub wallet: bool,
    /// Invoices paid.
    pub paid: u64,
    /// What that cost, fees included.
    pub paid_msat: u64,
    /// Purchases whose bytes were credited.
    pub credited: u64,
    /// These bytes.
    pub credited_bytes: u64,
    /// Purchases that were paid for, and ended without credit.
    pub not_credited: u64,
    /// Invoices that were not paid: nothing was spent.
    pub not_paid: u64,
    /// Those of them that a limit (`budget`) did not allow.
    pub over_limit: u64,
    /// Invoices of which it is not known whether they were paid: they count as spent.
    pub unknown: u64,
    /// What was spent in the last hour, also before the start, with what is being paid.
    pub last_hour_msat: u64,
    /// The most in an hour (`budget.max_msat_per_hour`).
    pub limit_msat: u64,
    /// What was spent in the last 24 hours.
    pub last_day_msat: u64,
    /// The most in 24 hours (`budget.max_msat_per_day`).
    pub day_limit_msat: u64,
    /// Why an invoice was not paid the last time.
    pub last_refusal: Option<String>,
}

/// Streams of flows that end here, and what waits between them and their applications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PipeStats {
    /// Streams.
    pub streams: u64,
    /// Bytes that wait.
    pub bytes: u64,
    /// Those of them on flows that others have opened.
    pub bytes_of_others: u64,
    /// Most bytes that waited at once.
    pub bytes_most: u64,
    /// Bytes that may wait (`flow.pipe_memory_bytes`), and a little for each stream.
    pub bytes_limit: u64,
}

/// Connections, and the memory of links.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionStats {
    /// Accepted connections whose handshakes are not complete.
    pub half_open: usize,
    /// Such connections that were closed for newer ones of the same address prefix.
    pub displaced_by_prefix: u64,
    /// Such connections that were closed for newer ones because all places were taken.
    pub displaced: u64,
    /// Such connections that were closed because their handshakes took too long.
    pub late: u64,
    /// Links that were closed because the neighbour took nothing, or held memory that was
    /// needed and made no progress.
    pub stalled: u64,
    /// Bytes that all links hold: received in part, or waiting to be sent.
    pub memory: u64,
    /// Most bytes that they held at once.
    pub memory_most: u64,
    /// Bytes that they may hold.
    pub memory_limit: u64,
}

/// File descriptors: each link, each command and each file takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Descriptors {
    /// Open now.
    pub open: u64,
    /// Most that may be open.
    pub limit: u64,
}

/// An interface on which neighbours are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LanInterface {
    /// Its name.
    pub name: String,
    /// This node's address on it.
    pub address: String,
    /// Senders of beacons that are remembered.
    pub candidates: usize,
    /// Beacons of others that came, since it is used.
    pub beacons: u64,
    /// Why nobody can be found on it, if so.
    pub error: Option<String>,
}
