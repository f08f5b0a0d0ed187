//! What is asked and answered about prices and invoices.

use super::Role;
use crate::rpc::target::Target;
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::{HopId, Network, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `meshquoteroute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteRoute {
    /// To whom: identity, public key or address.
    #[serde(alias = "target")]
    pub destination: Target,
    /// Bytes of payload to pay for.
    pub bytes: u64,
}

/// Answer of `meshquoteroute`: what to pay, to whom it goes, and what the
/// invoice must commit to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quote {
    /// This node, who pays.
    #[serde(with = "hexed::Node")]
    pub source: NodeId,
    /// Who receives.
    #[serde(with = "hexed::Node")]
    pub destination: NodeId,
    /// Intermediate nodes in travel order, by the short forms of their identities:
    /// nobody on a route need know more of the others.
    #[serde(with = "hexed::Hops")]
    pub hops: Vec<HopId>,
    /// Network of the payment.
    #[schemars(with = "schema::Network")]
    pub network: Network,
    /// Bytes of payload that it buys.
    pub bytes: u64,
    /// Smallest amount that gives every party its price.
    pub amount_msat: u64,
    /// What the invoice must commit to: as its description hash, or as
    /// `description`.
    #[serde(with = "hexed::Hex::<32>")]
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
    /// The other way to pay: over a flow (`meshsendpacket` with `pay`) each node is paid for itself,
    /// by an invoice of its own issuer (`meshrequesthopinvoice` with `hop`). What that takes at each,
    /// in travel order; the destination says itself what it takes for receiving, mostly nothing.
    #[serde(default)]
    pub per_hop: Vec<HopPrice>,
}

/// What a flow buys at a node of its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HopPrice {
    /// The node, by the short form of its identity.
    #[serde(with = "hexed::Hop")]
    pub node: HopId,
    /// Bytes that it buys there: in steps, the first of which are worth about 50 satoshi or more, so
    /// that fees are small beside it. What is left serves the next. 0: it takes nothing, or enough
    /// was bought there before.
    pub bytes: u64,
    /// What they cost.
    pub amount_msat: u64,
    /// Bytes that were bought there before and that no flow has.
    pub at_hand: u64,
}

/// Parameters of `meshplanpayment`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPayment {
    /// To whom: identity, public key or address.
    #[serde(alias = "target")]
    pub destination: Target,
    /// Bytes of payload.
    #[serde(default)]
    pub bytes: u64,
    /// The most that it may cost on the whole route; none: `flow.max_msat`.
    #[serde(default)]
    pub max_msat: Option<u64>,
}

/// Answer of `meshplanpayment`: what a flow would buy that is opened now. Nothing was bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentPlan {
    /// Where it would lead.
    #[serde(with = "hexed::Node")]
    pub destination: NodeId,
    /// Bytes of payload.
    pub bytes: u64,
    /// What it would buy at each node of the route, in travel order. The destination says itself
    /// what it takes for receiving, mostly nothing, and is asked when the flow is opened.
    pub hops: Vec<HopPrice>,
    /// What all of them are paid.
    pub amount_msat: u64,
    /// What paying may cost beyond that (`lightning.max_fee_ppm`).
    pub max_fee_msat: u64,
    /// The most that the flow may cost, fees not counted.
    pub max_msat: u64,
    /// What the budget has left in this hour, fees counted.
    pub left_hour_msat: u64,
    /// The same in these 24 hours.
    pub left_day_msat: u64,
    /// Why it would not be paid, as a sentence; `null`: it would.
    pub refused: Option<String>,
}

/// Parameters of `meshshowpreimage`: an invoice of `meshrequesthopinvoice` with `hop` was paid, by
/// whatever wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowPreimage {
    /// The node that was paid, as that answer names it.
    #[serde(with = "hexed::Node")]
    pub node: NodeId,
    /// Its promise, as it stands there.
    #[serde(with = "hexed::Hex::<49>")]
    pub promise: [u8; 49],
    /// What paying revealed.
    #[serde(with = "hexed::Hex::<32>")]
    pub preimage: [u8; 32],
}

/// Answer of `meshshowpreimage`: the bytes are on this node's account there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreditedBytes {
    /// The node that was paid.
    #[serde(with = "hexed::Node")]
    pub node: NodeId,
    /// Bytes that were bought.
    pub bytes: u64,
    /// What the account has now, in bytes.
    pub left: u64,
}

/// What every node on a route accepts, from the first behind this one to the destination. The
/// destination has signed it, and nodes between may have lied: then one of them refuses the payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CovenantCost {
    /// Least that the coin must be worth, in satoshi: outputs to P2TR scripts and a fee of 1
    /// satoshi per virtual byte. `covenant-template` says it for the real scripts.
    pub fund_sat: u64,
    /// Confirmations that this node asks for, and those behind it where `accepts` tells it.
    pub min_confirmations: u32,
}

/// One party of a quoted route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// The party, by the short form of its identity.
    #[serde(with = "hexed::Hop")]
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
    #[serde(default, with = "hexed::OptionalKeys")]
    pub issuers: Option<Vec<[u8; 33]>>,
}

/// Parameters of `meshrequesthopinvoice`. With `hop`: an invoice of that node of the route, written
/// by its own issuer, for bytes of flows there. Without: one for a datagram over a quoted route,
/// written by this node's own Lightning node (`lightning.backend`) or regtest issuer; where it has
/// none the error says what a wallet or a federation must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestHopInvoice {
    /// To whom: identity, public key or address.
    #[serde(alias = "target")]
    pub destination: Target,
    /// Bytes of payload to pay for; with `hop`, bytes of packets of flows.
    pub bytes: u64,
    /// The node that is to be paid: its identity, or the short form of that, as the quote names it.
    #[serde(default)]
    pub hop: Option<String>,
    /// Amount, if it is to be more than the quote asks.
    #[serde(default)]
    pub amount_msat: Option<u64>,
    /// Seconds until the invoice expires; not with `hop`, whose invoices have 15 minutes.
    #[serde(default)]
    pub expiry_s: Option<u64>,
}

/// Answer of `meshrequesthopinvoice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HopInvoice {
    /// The invoice.
    pub invoice: String,
    /// Its preimage, of a regtest issuer, which counts every invoice as paid. Of a Lightning node
    /// `null`: paying the invoice reveals it.
    #[serde(default, with = "hexed::OptionalHex::<32>")]
    pub preimage: Option<[u8; 32]>,
    /// Its payment hash.
    #[serde(with = "hexed::Hex::<32>")]
    pub payment_hash: [u8; 32],
    /// Compressed public key of the issuer.
    #[serde(with = "hexed::Hex::<33>")]
    pub issuer: [u8; 33],
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
    /// What it pays for: the datagram of this quote, unless there is a `purchase`.
    #[serde(default)]
    pub quote: Option<Quote>,
    /// What it pays for: bytes at one node.
    #[serde(default)]
    pub purchase: Option<HopPurchase>,
}

/// Bytes that an invoice buys at a node. Keep it until the invoice is paid: `meshshowpreimage`
/// takes node, promise and preimage, for 15 minutes, over restarts of both nodes too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HopPurchase {
    /// The node.
    #[serde(with = "hexed::Node")]
    pub node: NodeId,
    /// Bytes of flows that it carries for this node then.
    pub bytes: u64,
    /// What the invoice asks.
    pub amount_msat: u64,
    /// The node's promise of them.
    #[serde(with = "hexed::Hex::<49>")]
    pub promise: [u8; 49],
}

/// Parameters of `meshwriteinvoice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteInvoice {
    /// The terms that it is to commit to, as the other node's quote says.
    #[serde(with = "hexed::Hex::<32>")]
    pub terms_hash: [u8; 32],
    /// Its amount, in millisatoshi, as the quote says.
    pub amount_msat: u64,
    /// Seconds until it expires.
    #[serde(default)]
    pub expiry_s: Option<u64>,
}

/// Answer of `meshwriteinvoice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenInvoice {
    /// The invoice.
    pub invoice: String,
    /// Its payment hash.
    #[serde(with = "hexed::Hex::<32>")]
    pub payment_hash: [u8; 32],
    /// Compressed public key of the issuer.
    #[serde(with = "hexed::Hex::<33>")]
    pub issuer: [u8; 33],
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
}
