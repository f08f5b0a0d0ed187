//! The methods in one table, from which everything that names one follows: [`Request`],
//! [`Reply`], [`METHODS`], and with these the OpenRPC document, the help and docs/CLI.md.

use super::error::RpcError;
use super::openrpc::Document;
use super::types::*;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What is known of a method besides its types.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Names that users of blvm-node know, which mean the same.
    pub aliases: &'static [&'static str],
    /// What it does: a sentence, and behind it perhaps more.
    pub(super) about: &'static [&'static str],
    /// Codes of its own errors. Those of JSON-RPC, [`RpcError::INTERNAL`] and
    /// [`RpcError::STOPPING`] may come from any.
    pub errors: &'static [i64],
    /// The schema of its parameters, an object; none: it takes none.
    pub(super) params: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// The schema of its answer.
    pub(super) result: fn(&mut SchemaGenerator) -> Schema,
}

impl Method {
    /// The method with this name, or with this other name.
    pub fn named(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name || method.aliases.contains(&name))
    }

    /// What it does, in one sentence.
    pub fn summary(&self) -> &'static str {
        self.about.first().copied().unwrap_or_default().trim()
    }

    /// What else there is to say of it.
    pub fn description(&self) -> String {
        let lines = self.about.iter().skip(1).map(|line| line.trim());
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Each row: what the method does, its variant, what it is asked with; its name, its other
/// names; its answer, and the errors of its own.
macro_rules! methods {
    ($(
        $(#[doc = $about:literal])+
        $variant:ident $(($params:ident: $asked:ty))?,
        $name:literal $(| $alias:literal)* => $answered:ty $(, $error:ident)*;
    )+) => {
        /// Every method.
        pub const METHODS: &[Method] = &[$(Method {
            name: $name,
            aliases: &[$($alias),*],
            about: &[$($about),+],
            errors: &[$(RpcError::$error),*],
            params: methods!(@schema $($asked)?),
            result: SchemaGenerator::subschema_for::<$answered>,
        }),+];

        /// A question to the node. [`Request::parse`] reads it from a method's name and
        /// parameters.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {
            $($(#[doc = $about])+ $variant $(($asked))?,)+
        }

        /// The node's answer; each variant belongs to the [`Request`] of its name.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        #[allow(missing_docs)]
        pub enum Reply {
            $($variant($answered),)+
        }

        impl Request {
            /// Reads a request. `params` is an object with the parameters by name; it
            /// may be left out where all have defaults.
            ///
            /// # Errors
            /// [`RpcError::METHOD_NOT_FOUND`] and [`RpcError::INVALID_PARAMS`], naming
            /// what is wrong.
            pub fn parse(method: &str, params: Option<Value>) -> Result<Self, RpcError> {
                match method {
                    $($name $(| $alias)* => methods!(@read $name, params, $variant $($asked)?),)+
                    _ => Err(RpcError::method_not_found(method)),
                }
            }

            /// Method and parameters, as [`Self::parse`] reads them.
            pub fn to_parts(&self) -> (&'static str, Value) {
                match self {
                    $(Self::$variant $(($params))? => ($name, methods!(@written $($params)?)),)+
                }
            }
        }
    };

    (@schema) => { None };
    (@schema $asked:ty) => { Some(<$asked>::json_schema) };
    (@read $name:literal, $params:ident, $variant:ident) => {
        none($name, $params, Self::$variant)
    };
    (@read $name:literal, $params:ident, $variant:ident $asked:ty) => {
        read($name, $params).map(Self::$variant)
    };
    (@written) => { Value::Object(Map::new()) };
    // None of the types has a key that JSON cannot hold.
    (@written $params:ident) => { serde_json::to_value($params).unwrap_or_default() };
}

methods! {
    /// Tells who the node is and how it is configured.
    GetInfo, "getinfo" | "get_node_id" => Info;
    /// Shows the node at a glance, with what is not as it should be and what to do about it.
    GetOverview, "meshgetinfo" => Box<Overview>;
    /// Lists the neighbours, those that are configured and down too.
    GetPeers, "getpeers" => Vec<Peer>;
    /// Lists the routes that are known.
    GetRoutes, "getroutes" => Vec<Route>;
    /// Looks for a route to a node, even where one is known.
    FindRoute(params: FindRoute), "findroute" | "discover_route" => FoundRoute, REFUSED;
    /// Sends a probe to a node, and waits for its answer.
    ///
    /// A route is looked for where none is known. A node without an answer is no error.
    Ping(params: Ping), "meshping" => Pinged;
    /// Looks for a route to a node, and sends a probe to each node of it.
    Trace(params: Trace), "meshtrace" => Traced, REFUSED;
    /// Sends a datagram to a node.
    ///
    /// A route is looked for where none is known. What becomes of the datagram is waited for at
    /// most `wait_ms`.
    SendPacket(params: SendPacket), "meshsendpacket" | "send_packet" => Sent, REFUSED;
    /// Hands out datagrams that were sent to this node, each one once.
    PollReceived(params: PollReceived), "meshpollreceived" | "poll_local_deliveries"
        => Vec<Received>;
    /// Has the node tell what happens, on this connection, from now on or behind a cursor.
    ///
    /// Each event is a notification `meshevent`. What was to be told and is not kept any more is said, in
    /// the answer or as an event.
    Subscribe(params: Subscribe), "meshsubscribe" => Subscribed, REFUSED;
    /// Ends a subscription of this connection.
    Unsubscribe(params: Unsubscribe), "meshunsubscribe" => Unsubscribed, REFUSED;
    /// Tells what sending data to a node costs, and what the payment must commit to.
    ///
    /// A route is looked for where none is known.
    QuoteRoute(params: QuoteRoute), "meshquoteroute" | "quote_route_fee" => Quote, REFUSED;
    /// Has an invoice written for one node of a route, by its own issuer, or for a datagram.
    ///
    /// With `hop` that node writes it, for bytes of flows there. Without, the node's own Lightning
    /// node does, or its regtest issuer, for a datagram over the route: a node without an issuer refuses, and says what a wallet or a federation must sign.
    RequestHopInvoice(params: RequestHopInvoice), "meshrequesthopinvoice" | "request_hop_invoice"
        => Box<HopInvoice>, REFUSED;
    /// Has bytes credited whose invoice (`meshrequesthopinvoice` with `hop`) was paid, by any wallet.
    ///
    /// All flows of this node draw from them.
    ShowPreimage(params: ShowPreimage), "meshshowpreimage" => CreditedBytes, REFUSED;
    /// Tells what a flow to a node would buy at each hop, and what the budget has left for it.
    ///
    /// A route is looked for where none is known. Nothing is bought.
    PlanPayment(params: PlanPayment), "meshplanpayment" => PaymentPlan, REFUSED;
    /// Has the node's own Lightning node write an invoice for what another node has quoted.
    ///
    /// It is written down that this node asked for it: of what that key signs, it accepts nothing
    /// else as a proof for a datagram.
    WriteInvoice(params: WriteInvoice), "meshwriteinvoice" => WrittenInvoice, REFUSED;
    /// Tells what one payment costs that buys bytes for flows at every relay of a route.
    ///
    /// A route is looked for where none is known.
    QuoteAccounts(params: QuoteAccounts), "meshquoteaccounts" => AccountsQuote, REFUSED;
    /// Buys bytes for flows at every relay of a route, before a flow needs them.
    ///
    /// The wallet pays an invoice of each relay, or one proof is shown to all of them. What was
    /// bought stays on the node's accounts there and serves all of its flows.
    Prepay(params: Prepay), "meshprepay" => Prepaid, REFUSED;
    /// Tells what the node has counted since its start, and what of its resources is taken.
    GetStats, "getstats" | "get_routing_stats" => Box<Stats>;
    /// Lists accepted payments, bytes sold and bought for flows, and their sums.
    ///
    /// The newest come first.
    GetLedger(params: GetLedger), "getledger" => Ledger;
    /// Lists the flows that end at the node and those that pass, its services and its forwards.
    GetFlows, "getflows" => FlowList;
    /// Lists the connections of Bitcoin nodes over the mesh, and what has passed on them.
    GetBitcoin, "getbitcoin" => BitcoinBridge;
    /// Sends a Bitcoin transaction through a gateway of the mesh.
    ///
    /// It is kept, and handed over again until a gateway answers, over restarts too.
    SendTransaction(params: SendTransaction), "meshsendtx" => SentTransaction, REFUSED;
    /// Lists the transactions that were sent from here, the oldest first.
    GetTransactions(params: GetTransactions), "gettransactions" => Vec<SentTransaction>;
    /// Makes a TCP port reachable for the nodes of the mesh under a name, or withdraws it.
    Expose(params: Expose), "expose" => Exposing, REFUSED;
    /// Leads connections to a port of the node's host to a service of another node, or ends that.
    ///
    /// The node opens a flow when the first connection comes, and pays for it by itself.
    Forward(params: Forward), "forward" => Forwarding, REFUSED;
    /// Gives the node block headers, so that it accepts covenants funded in these blocks.
    ///
    /// The first one that is refused ends it; those before it were accepted.
    SubmitHeader(params: SubmitHeader), "meshsubmitheader" => SubmittedHeaders;
    /// Measures the way to another node, whose sink must be on.
    BenchStart(params: BenchStart), "benchstart" => Box<BenchResult>, REFUSED;
    /// Lets anyone measure the way to this node, or no longer.
    BenchSink(params: BenchSink), "benchsink" => BenchSink;
    /// Reads the configuration again and applies what a running node can.
    ///
    /// A configuration that is wrong changes nothing. What takes a restart is named.
    Reload, "meshreload" => Reloaded, REFUSED;
    /// Adds a peer to which a link is kept, over restarts too.
    AddPeer(params: AddPeer), "meshaddpeer" => AddedPeer, REFUSED;
    /// Lists the peers that are configured or were added, and the nodes that are banned.
    ListPeers, "meshlistpeers" => PeerList;
    /// Forgets a peer that was added, and closes its link.
    RemovePeer(params: RemovePeer), "meshremovepeer" => RemovedPeer, REFUSED;
    /// Closes the links with a node and gives it none, over restarts too.
    BanPeer(params: BanPeer), "meshbanpeer" => BannedPeer, REFUSED;
    /// Lifts a ban.
    UnbanPeer(params: UnbanPeer), "meshunbanpeer" => UnbannedPeer, REFUSED;
    /// Lets a neighbour that is no peer relay what this node pays for, over restarts too.
    TrustPeer(params: TrustPeer), "meshtrustpeer" => TrustedPeer, REFUSED;
    /// Lets it relay what is free only, as any stranger.
    DistrustPeer(params: DistrustPeer), "meshdistrustpeer" => TrustedPeer, REFUSED;
    /// Tells the prices in force, those of the configuration, and which were set at run time.
    GetTariff, "meshgettariff" => TariffReport;
    /// Sets prices in the place of those of the configuration, over restarts too.
    ///
    /// Neighbours are told at once; routes learn of it as they are used or renewed.
    SetTariff(params: SetTariff), "meshsettariff" => TariffReport, REFUSED;
    /// Forgets the prices that were set: those of the configuration hold.
    ResetTariff, "meshresettariff" => TariffReport, REFUSED;
    /// Tells what to open in a browser to see the node's page. Whoever has that sees it.
    GetPage, "meshgetpage" => PageAddress, REFUSED;
    /// Describes all methods, as an OpenRPC document.
    Discover, "rpc.discover" => Document;
}

impl Request {
    /// How long the node is asked to wait before it answers.
    pub fn waits(&self) -> std::time::Duration {
        std::time::Duration::from_millis(match self {
            Self::SendPacket(params) => params.waits_ms(),
            Self::PollReceived(params) => params.wait_ms,
            Self::BenchStart(params) => params.duration_ms,
            Self::SendTransaction(params) => params.wait_ms,
            Self::Ping(params) => params.wait_ms,
            // Each node is looked for before.
            Self::Trace(params) => params.wait_ms.saturating_mul(3),
            // Each relay may take as long as a payment does.
            Self::Prepay(params) => params.wait_ms.saturating_add(PREPAY_MS),
            // Another node answers.
            Self::RequestHopInvoice(RequestHopInvoice { hop: Some(_), .. })
            | Self::ShowPreimage(_) => 60_000,
            _ => 0,
        })
    }
}

/// How long buying at all relays of a route may take, in milliseconds.
const PREPAY_MS: u64 = 600_000;

fn none(method: &str, params: Option<Value>, request: Request) -> Result<Request, RpcError> {
    let empty = match &params {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    };
    let error = || RpcError::invalid_params(format!("{method} takes no parameters"));
    empty.then_some(request).ok_or_else(error)
}

fn read<T: DeserializeOwned>(method: &str, params: Option<Value>) -> Result<T, RpcError> {
    let params = match params {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(object @ Value::Object(_)) => object,
        Some(_) => {
            let text = format!("{method}: give the parameters by name, as an object");
            return Err(RpcError::invalid_params(text));
        }
    };
    let wrong = |e| RpcError::invalid_params(format!("{method}: {e}"));
    serde_json::from_value(params).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_method_and_alias_is_read() {
        let target = "02".repeat(32);
        for Method { name, aliases, .. } in METHODS {
            let params = match *name {
                "findroute" | "benchstart" | "meshping" | "meshtrace" => {
                    json!({"destination": target})
                }
                "benchsink" => json!({"on": true}),
                "meshaddpeer" => json!({"address": "02@a:1"}),
                "meshremovepeer" | "meshbanpeer" | "meshunbanpeer" | "meshtrustpeer"
                | "meshdistrustpeer" => json!({"node": target}),
                "expose" => json!({"name": "ssh"}),
                "forward" => json!({"local": "1"}),
                "meshsubmitheader" => json!({"headers_hex": "00", "height": 5}),
                "meshsendtx" => json!({"tx_hex": "00"}),
                "meshsendpacket" => json!({"destination": target, "data_hex": ""}),
                "meshquoteroute" | "meshrequesthopinvoice" | "meshquoteaccounts" | "meshprepay" => {
                    json!({"destination": target, "bytes": 5})
                }
                "meshplanpayment" => json!({"destination": target}),
                "meshshowpreimage" => {
                    json!({"node": target, "promise": "01".repeat(49), "preimage": target})
                }
                "meshwriteinvoice" => json!({"terms_hash": target, "amount_msat": 5}),
                "meshsubscribe" => {
                    json!({"topics": ["peers"], "cursor": "00000000000000ff-1.2.3.4.5"})
                }
                "meshunsubscribe" => json!({"subscription": 7}),
                _ => json!({}),
            };
            let request = Request::parse(name, Some(params.clone()));
            let (written, again) = request.clone().unwrap().to_parts();
            assert_eq!(written, *name);
            assert_eq!(Request::parse(written, Some(again)), request);
            for alias in *aliases {
                assert_eq!(Request::parse(alias, Some(params.clone())), request);
            }
        }
    }

    #[test]
    fn faults_have_their_codes() {
        let error = Request::parse("getblock", None).unwrap_err();
        assert_eq!(error.code, RpcError::METHOD_NOT_FOUND);
        assert!(error.message.contains("getledger"), "{error}");
        let faults = [
            ("getinfo", json!({"x": 1}), "takes no parameters"),
            ("getinfo", json!(1), "takes no parameters"),
            ("findroute", json!(["02"]), "by name"),
            ("findroute", json!({}), "missing field `destination`"),
            ("meshpollreceived", json!({"maxx": 1}), "unknown field `maxx`"),
            ("getledger", json!({"role": "payer"}), "unknown variant `payer`"),
            ("meshsubscribe", json!({"topics": ["news"]}), "unknown variant `news`"),
            ("meshsubscribe", json!({"cursor": "5"}), "\"5\" is no cursor"),
        ];
        for (method, params, expected) in faults {
            let error = Request::parse(method, Some(params)).unwrap_err();
            assert_eq!(error.code, RpcError::INVALID_PARAMS);
            assert!(error.message.contains(expected), "{error}");
        }
    }
}
