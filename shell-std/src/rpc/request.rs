//! The methods: their names, and what is asked and answered in types.

use super::error::RpcError;
use super::types::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Names of the methods. Behind each stand the names that users of blvm-node
/// know, which mean the same.
pub const METHODS: [(&str, &[&str]); 13] = [
    ("getinfo", &["get_node_id"]),
    ("getpeers", &[]),
    ("getroutes", &[]),
    ("findroute", &["discover_route"]),
    ("meshsendpacket", &["send_packet"]),
    ("meshpollreceived", &["poll_local_deliveries"]),
    ("meshquoteroute", &["quote_route_fee"]),
    ("meshrequesthopinvoice", &["request_hop_invoice"]),
    ("getstats", &["get_routing_stats"]),
    ("getledger", &[]),
    ("meshsubmitheader", &[]),
    ("benchstart", &[]),
    ("benchsink", &[]),
];

/// A question to the node. [`Request::parse`] reads it from a method's name and
/// parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `getinfo`
    GetInfo,
    /// `getpeers`
    GetPeers,
    /// `getroutes`
    GetRoutes,
    /// `findroute`
    FindRoute(FindRoute),
    /// `meshsendpacket`
    SendPacket(SendPacket),
    /// `meshpollreceived`
    PollReceived(PollReceived),
    /// `meshquoteroute`
    QuoteRoute(QuoteRoute),
    /// `meshrequesthopinvoice`
    RequestHopInvoice(RequestHopInvoice),
    /// `getstats`
    GetStats,
    /// `getledger`
    GetLedger(GetLedger),
    /// `meshsubmitheader`
    SubmitHeader(SubmitHeader),
    /// `benchstart`
    BenchStart(BenchStart),
    /// `benchsink`
    BenchSink(BenchSink),
}

/// The node's answer; each variant belongs to the [`Request`] of its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Reply {
    GetInfo(Info),
    GetPeers(Vec<Peer>),
    GetRoutes(Vec<Route>),
    FindRoute(FoundRoute),
    SendPacket(Sent),
    PollReceived(Vec<Received>),
    QuoteRoute(Quote),
    RequestHopInvoice(HopInvoice),
    GetStats(Box<Stats>),
    GetLedger(Ledger),
    SubmitHeader(SubmittedHeaders),
    BenchStart(Box<BenchResult>),
    BenchSink(BenchSink),
}

impl Request {
    /// Reads a request. `params` is an object with the parameters by name; it
    /// may be left out where all have defaults.
    ///
    /// # Errors
    /// [`RpcError::METHOD_NOT_FOUND`] and [`RpcError::INVALID_PARAMS`], naming
    /// what is wrong.
    pub fn parse(method: &str, params: Option<Value>) -> Result<Self, RpcError> {
        let known = METHODS.iter().find(|(name, also)| *name == method || also.contains(&method));
        let Some((name, _)) = known else {
            return Err(RpcError::method_not_found(method));
        };
        Ok(match *name {
            "getinfo" => none(name, params, Self::GetInfo)?,
            "getpeers" => none(name, params, Self::GetPeers)?,
            "getroutes" => none(name, params, Self::GetRoutes)?,
            "getstats" => none(name, params, Self::GetStats)?,
            "findroute" => Self::FindRoute(read(name, params)?),
            "meshsendpacket" => Self::SendPacket(read(name, params)?),
            "meshpollreceived" => Self::PollReceived(read(name, params)?),
            "meshquoteroute" => Self::QuoteRoute(read(name, params)?),
            "meshrequesthopinvoice" => Self::RequestHopInvoice(read(name, params)?),
            "getledger" => Self::GetLedger(read(name, params)?),
            "meshsubmitheader" => Self::SubmitHeader(read(name, params)?),
            "benchstart" => Self::BenchStart(read(name, params)?),
            "benchsink" => Self::BenchSink(read(name, params)?),
            _ => return Err(RpcError::method_not_found(method)),
        })
    }
}

impl Request {
    /// How long the node is asked to wait before it answers.
    pub fn waits(&self) -> std::time::Duration {
        std::time::Duration::from_millis(match self {
            Self::SendPacket(params) => params.wait_ms,
            Self::PollReceived(params) => params.wait_ms,
            Self::BenchStart(params) => params.duration_ms,
            _ => 0,
        })
    }

    /// Method and parameters, as [`Self::parse`] reads them.
    pub fn to_parts(&self) -> (&'static str, Value) {
        let none = || Value::Object(serde_json::Map::new());
        // None of the types has a key that JSON cannot hold.
        fn of(params: &impl Serialize) -> Value {
            serde_json::to_value(params).unwrap_or_default()
        }
        match self {
            Self::GetInfo => ("getinfo", none()),
            Self::GetPeers => ("getpeers", none()),
            Self::GetRoutes => ("getroutes", none()),
            Self::GetStats => ("getstats", none()),
            Self::FindRoute(params) => ("findroute", of(params)),
            Self::SendPacket(params) => ("meshsendpacket", of(params)),
            Self::PollReceived(params) => ("meshpollreceived", of(params)),
            Self::QuoteRoute(params) => ("meshquoteroute", of(params)),
            Self::RequestHopInvoice(params) => ("meshrequesthopinvoice", of(params)),
            Self::GetLedger(params) => ("getledger", of(params)),
            Self::SubmitHeader(params) => ("meshsubmitheader", of(params)),
            Self::BenchStart(params) => ("benchstart", of(params)),
            Self::BenchSink(params) => ("benchsink", of(params)),
        }
    }
}

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
        None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
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
        for (name, also) in METHODS {
            let params = match name {
                "findroute" | "benchstart" => json!({"destination": target}),
                "benchsink" => json!({"on": true}),
                "meshsubmitheader" => json!({"headers_hex": "00", "height": 5}),
                "meshsendpacket" => json!({"destination": target, "data_hex": ""}),
                "meshquoteroute" | "meshrequesthopinvoice" => {
                    json!({"destination": target, "bytes": 5})
                }
                _ => json!({}),
            };
            let request = Request::parse(name, Some(params.clone()));
            let (written, again) = request.clone().unwrap().to_parts();
            assert_eq!(written, name);
            assert_eq!(Request::parse(written, Some(again)), request);
            for alias in also {
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
        ];
        for (method, params, expected) in faults {
            let error = Request::parse(method, Some(params)).unwrap_err();
            assert_eq!(error.code, RpcError::INVALID_PARAMS);
            assert!(error.message.contains(expected), "{error}");
        }
    }
}
