//! What is asked and answered over the socket: one type per method.
//!
//! On the wire identities, keys, hashes and data are hex, amounts are
//! millisatoshi, sizes bytes. Unknown parameters are refused by name.

use super::hexed;
use super::target::Target;
use blvm_mesh_core::id::{HopId, Network, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub use super::chain::*;
pub use super::line::*;
pub use super::measure::*;
pub use super::packet::*;

/// Price in the terms of [`blvm_mesh_core::payment::fee::Tariff`].
pub type Tariff = blvm_mesh_core::payment::fee::Tariff;

/// Answer of `getinfo`: who the node is and how it is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// SHA-256 of the public key.
    #[serde(with = "hexed::node")]
    pub node_id: NodeId,
    /// Compressed public key.
    #[serde(with = "hexed::bytes")]
    pub public_key: [u8; 33],
    /// Version of the program.
    pub version: String,
    /// Network whose payments are accepted.
    pub network: Network,
    /// `bitcoin_only`, `payment_gated` or `open`.
    pub mode: String,
    /// Where the node listens, with the port that it really got.
    pub listen_addr: Option<String>,
    /// Neighbours that are up.
    pub peers: usize,
    /// Routes that are known.
    pub routes: usize,
    /// What relaying costs here.
    pub tariff: Tariff,
    /// Largest packet accepted, header included.
    pub max_packet: u32,
    /// Compressed public keys of the issuers that are accepted.
    #[serde(with = "hexed::list")]
    pub issuers: Vec<[u8; 33]>,
    /// Whether covenants are accepted, provided that there is a `payout_script`.
    pub covenants_active: bool,
    /// Script that covenants must pay this node to; empty: none is accepted.
    #[serde(with = "hexed::bytes")]
    pub payout_script: Vec<u8>,
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
}

/// Answer of `getpeers`: one configured or connected neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its identity.
    #[serde(with = "hexed::node")]
    pub node_id: NodeId,
    /// Its compressed public key.
    #[serde(with = "hexed::bytes")]
    pub public_key: [u8; 33],
    /// Host and port of the other end.
    pub address: String,
    /// State of the link.
    pub state: PeerState,
    /// Whether this node opened the connection.
    pub dialed: bool,
    /// Number of the link, where there is one.
    pub link: Option<u32>,
    /// Milliseconds since the link came up, or since the last attempt.
    pub since_ms: u64,
    /// What the neighbour said of itself.
    pub hello: Option<PeerHello>,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
    /// Packets and bytes received from it on this link.
    pub received: Count,
    /// Packets and bytes sent to it on this link.
    pub sent: Count,
    /// Packets of it that were refused.
    pub refused: u64,
}

/// State of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Connected, hellos exchanged.
    Up,
    /// Connecting, in the handshake, or waiting for the first hello.
    Connecting,
    /// Waiting before the next attempt.
    Down,
}

/// What a neighbour said in its hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Its mode.
    pub mode: String,
    /// What it takes.
    pub tariff: Tariff,
    /// Largest packet that it accepts.
    pub max_packet: u32,
    /// Compressed public keys of the issuers whose invoices it accepts.
    #[serde(default, with = "hexed::list")]
    pub issuers: Vec<[u8; 33]>,
}

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub packets: u64,
    /// Their bytes, headers of the mesh included.
    pub bytes: u64,
}

/// Answer of `getroutes`: one known route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it ends.
    #[serde(with = "hexed::node")]
    pub destination: NodeId,
    /// Intermediate nodes in travel order, by the short forms of their identities:
    /// nobody on a route need know more of the others.
    #[serde(with = "hexed::hops")]
    pub hops: Vec<HopId>,
    /// Smallest of the largest packets that the nodes on it accept.
    pub min_packet: u32,
    /// Its cost: tariffs and quality of the links. The lowest is taken.
    pub cost: u64,
    /// Milliseconds until it is asked for again.
    pub expires_in_ms: u64,
}

/// Parameters of `findroute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindRoute {
    /// To whom: identity or public key.
    #[serde(alias = "target")]
    pub destination: Target,
}

/// Answer of `findroute`. Where none is found the answer is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRoute {
    /// The best route.
    #[serde(flatten)]
    pub route: Route,
    /// Microseconds that it took.
    pub took_us: u64,
}

/// Parameters of `meshquoteroute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteRoute {
    /// To whom: identity or public key.
    #[serde(alias = "target")]
    pub destination: Target,
    /// Bytes of payload to pay for.
    pub bytes: u64,
}

/// Answer of `meshquoteroute`: what to pay, to whom it goes, and what the
/// invoice must commit to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// This node, who pays.
    #[serde(with = "hexed::node")]
    pub source: NodeId,
    /// Who receives.
    #[serde(with = "hexed::node")]
    pub destination: NodeId,
    /// Intermediate nodes in travel order, by the short forms of their identities:
    /// nobody on a route need know more of the others.
    #[serde(with = "hexed::hops")]
    pub hops: Vec<HopId>,
    /// Network of the payment.
    pub network: Network,
    /// Bytes of payload that it buys.
    pub bytes: u64,
    /// Smallest amount that gives every party its price.
    pub amount_msat: u64,
    /// What the invoice must commit to: as its description hash, or as
    /// `description`.
    #[serde(with = "hexed::bytes")]
    pub terms_hash: [u8; 32],
    /// `blvm-mesh:` and the terms hash, for wallets that take only text.
    pub description: String,
    /// What each party asks and gets, from source to destination.
    pub shares: Vec<Share>,
    /// Smallest of the largest packets that the nodes on the route accept.
    pub min_packet: u32,
    /// Most bytes of payload that one packet carries on the route beside a Lightning proof.
    #[serde(default)]
    pub most_bytes: u64,
    /// What paying by a covenant takes instead, where BIP 119 is enforced and no node on the
    /// route is known not to accept it.
    #[serde(default)]
    pub covenant: Option<CovenantCost>,
    /// What all nodes on the route accept; `null`: they have not told it.
    #[serde(default)]
    pub accepts: Option<RouteAccepts>,
}

/// What every node on a route accepts, from the first behind this one to the destination. The
/// destination has signed it, and nodes between may have lied: then one of them refuses the payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAccepts {
    /// Whether any issuer will do, because no node on the route checks payments.
    pub any_issuer: bool,
    /// Issuers whose invoices all of them accept: compressed public keys, or the first 16 hex
    /// digits of the x coordinate where this node does not know the key.
    pub issuers: Vec<String>,
    /// Confirmations that all of them are content with for a covenant, 255 for that many or
    /// more; `null`: not all accept covenants.
    pub min_confirmations: Option<u8>,
}

/// What a covenant for a quote takes. Every party's output must be above the dust limit, so a
/// small price costs far more than it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CovenantCost {
    /// Least that the coin must be worth, in satoshi: outputs to P2TR scripts and a fee of 1
    /// satoshi per virtual byte. `covenant-template` says it for the real scripts.
    pub fund_sat: u64,
    /// Confirmations that this node asks for, and those behind it where `accepts` tells it.
    pub min_confirmations: u32,
}

/// One party of a quoted route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The party, by the short form of its identity.
    #[serde(with = "hexed::hop")]
    pub node: HopId,
    /// What it is on the route.
    pub role: Role,
    /// What it asks.
    pub price_msat: u64,
    /// What it gets.
    pub share_msat: u64,
    /// Compressed public keys of the issuers whose invoices it accepts, where that is known: of
    /// this node and its neighbours. `null`: it is not known of that node alone (see `accepts`);
    /// of this node: it checks no payments (mode open).
    #[serde(default, with = "hexed::optional_list")]
    pub issuers: Option<Vec<[u8; 33]>>,
}

/// What a node is on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The sender, who also pays.
    Source,
    /// An intermediate node.
    Intermediate,
    /// The receiver.
    Destination,
}

impl From<blvm_mesh_core::payment::fee::Party> for Role {
    fn from(party: blvm_mesh_core::payment::fee::Party) -> Self {
        use blvm_mesh_core::payment::fee::Party;
        match party {
            Party::Source => Self::Source,
            Party::Intermediate(_) => Self::Intermediate,
            Party::Destination => Self::Destination,
        }
    }
}

/// Parameters of `meshrequesthopinvoice`: an invoice for a quoted route, signed
/// by the node's own issuer key. Answered only where the node has one (regtest);
/// elsewhere the error says what a wallet or a federation must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestHopInvoice {
    /// To whom: identity or public key.
    #[serde(alias = "target")]
    pub destination: Target,
    /// Bytes of payload to pay for.
    pub bytes: u64,
    /// Amount, if it is to be more than the quote asks.
    #[serde(default)]
    pub amount_msat: Option<u64>,
    /// Seconds until the invoice expires.
    #[serde(default)]
    pub expiry_s: Option<u64>,
}

/// Answer of `meshrequesthopinvoice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopInvoice {
    /// The invoice.
    pub invoice: String,
    /// Its preimage: a regtest issuer counts every invoice as paid.
    #[serde(with = "hexed::bytes")]
    pub preimage: [u8; 32],
    /// Its payment hash.
    #[serde(with = "hexed::bytes")]
    pub payment_hash: [u8; 32],
    /// Compressed public key of the issuer.
    #[serde(with = "hexed::bytes")]
    pub issuer: [u8; 33],
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
    /// What it pays for.
    pub quote: Quote,
}

/// Answer of `getstats`: counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Searches that ended with a route.
    pub routes_found: u64,
    /// Searches that ended without one.
    pub routes_failed: u64,
    /// Commits of the store, each of one record or more.
    pub commits: u64,
    /// The node that looks blocks up, if there is one.
    pub chain: Option<ChainStats>,
    /// The serial lines.
    pub lines: Vec<LineStats>,
    /// Connections, and the memory of links.
    pub connections: ConnectionStats,
}

/// Something of which there is a bounded number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// How much of it is taken.
    pub taken: u64,
    /// How much there is.
    pub most: u64,
}

/// What is taken of the state machine's tables and allowances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Bytes of packets that wait for a route, a look-up or room.
    pub parked_bytes: Taken,
    /// Work for control packets of all neighbours, in bytes; `most` comes after a pause.
    pub control: Taken,
}

/// Connections, and the memory of links.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// Open now.
    pub open: u64,
    /// Most that may be open.
    pub limit: u64,
}

/// Parameters of `getledger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GetLedger {
    /// Only payments accepted at or after this time, in seconds since 1970.
    pub since: Option<u64>,
    /// Only payments accepted before this time, in seconds since 1970.
    pub until: Option<u64>,
    /// Only payments in which this node had this role.
    pub role: Option<Role>,
    /// Most entries to list, the newest first. The totals count all.
    pub limit: usize,
}

impl Default for GetLedger {
    fn default() -> Self {
        Self { since: None, until: None, role: None, limit: 100 }
    }
}

/// Answer of `getledger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The payments, the newest first.
    pub entries: Vec<LedgerEntry>,
    /// Sums over all that match, listed or not, by role.
    pub totals: BTreeMap<Role, LedgerTotal>,
}

/// One accepted payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Replay key: for Lightning the payment hash.
    #[serde(with = "hexed::bytes")]
    pub payment: [u8; 32],
    /// `lightning` or `covenant`.
    pub method: String,
    /// What this node was on the route.
    pub role: Role,
    /// Place on the route where it was an intermediate; 0 is next to the source.
    pub place: Option<u8>,
    /// Who paid.
    #[serde(with = "hexed::node")]
    pub source: NodeId,
    /// Where the packet went.
    #[serde(with = "hexed::node")]
    pub destination: NodeId,
    /// The whole amount.
    pub amount_msat: u64,
    /// This node's share.
    pub share_msat: u64,
    /// When it was accepted, in seconds since 1970.
    pub accepted_at: u64,
    /// When the payment itself expires, in seconds since 1970.
    pub expires_at: u64,
}

/// Sums over payments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerTotal {
    /// How many.
    pub payments: u64,
    /// Their whole amounts.
    pub amount_msat: u64,
    /// This node's shares.
    pub share_msat: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, to_value};

    #[test]
    fn totals_have_roles_as_keys() {
        let total = LedgerTotal { payments: 1, amount_msat: 10, share_msat: 3 };
        let ledger =
            Ledger { entries: vec![], totals: BTreeMap::from([(Role::Intermediate, total)]) };
        let value = to_value(&ledger).unwrap();
        assert_eq!(value["totals"]["intermediate"]["share_msat"], 3);
        assert_eq!(from_value::<Ledger>(value).unwrap(), ledger);
    }
}
