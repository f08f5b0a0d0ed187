//! Core Lightning by the Unix socket `lightning-rpc`, version 23.08 and later. It pays by `xpay`
//! where there is one (24.11), else by `pay`.

use super::http::hash;
use super::{Backend, Error, Info, InvoiceOrder, InvoiceStatus, Liquidity, PaymentOrder, Timeouts};
use crate::wallet::{PaymentStatus, Reach};
use blvm_mesh_core::id::Network;
use secp256k1::PublicKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SOCKET: &str = "lightning.socket";
/// Longest answer that is read, in bytes: a large node lists thousands of channels.
const MAX_ANSWER: usize = 16 << 20;
/// JSON-RPC's "method not found".
const NO_METHOD: i64 = -32601;
/// Its own "unable to find a route" (`PAY_ROUTE_NOT_FOUND`).
const NO_ROUTE: i64 = 205;

/// A Core Lightning node.
pub(super) struct Cln {
    socket: PathBuf,
    timeouts: Timeouts,
}

/// A call's error: our own, or the node's with its code.
enum Fault {
    Ours(Error),
    Theirs(i64, String),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Ours(error) => error,
            Fault::Theirs(code, message) => Self::refused(&format!("{message} (code {code})")),
        }
    }
}

#[derive(Deserialize)]
struct Response {
    result: Option<Value>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct GetInfo {
    id: String,
    #[serde(default)]
    alias: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    network: String,
    blockheight: Option<u32>,
    warning_bitcoind_sync: Option<String>,
    warning_lightningd_sync: Option<String>,
}

#[derive(Deserialize)]
struct Channels {
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    state: String,
    #[serde(default)]
    peer_connected: bool,
    #[serde(default, deserialize_with = "msat")]
    spendable_msat: Option<u64>,
    #[serde(default, deserialize_with = "msat")]
    receivable_msat: Option<u64>,
}

#[derive(Deserialize)]
struct Written {
    bolt11: String,
}

#[derive(Deserialize)]
struct Route {
    route: Vec<Hop>,
}

#[derive(Deserialize)]
struct Hop {
    /// What it is given to pass on, or to keep.
    #[serde(default, deserialize_with = "msat")]
    amount_msat: Option<u64>,
}

#[derive(Deserialize)]
struct Sent {
    payment_preimage: String,
    /// `pay` only.
    status: Option<String>,
    #[serde(default, deserialize_with = "msat")]
    amount_msat: Option<u64>,
    #[serde(default, deserialize_with = "msat")]
    amount_sent_msat: Option<u64>,
}

#[derive(Deserialize)]
struct Pays {
    pays: Vec<Pay>,
}

#[derive(Deserialize)]
struct Pay {
    payment_hash: String,
    status: String,
    #[serde(default)]
    preimage: String,
    #[serde(default, deserialize_with = "msat")]
    amount_msat: Option<u64>,
    #[serde(default, deserialize_with = "msat")]
    amount_sent_msat: Option<u64>,
}

#[derive(Deserialize)]
struct Invoices {
    invoices: Vec<Invoice>,
}

#[derive(Deserialize)]
struct Invoice {
    status: String,
}

impl Cln {
    pub(super) fn new(socket: PathBuf, timeouts: Timeouts) -> Self {
        Self { socket, timeouts }
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, params: &Value) -> Result<T, Fault> {
        self.ask_for(method, params, self.timeouts.answer)
    }

    fn ask_for<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &Value,
        timeout: Duration,
    ) -> Result<T, Fault> {
        let response = self.call(method, params, timeout).map_err(Fault::Ours)?;
        match response {
            Response { error: Some(error), .. } => Err(Fault::Theirs(error.code, error.message)),
            Response { result: Some(result), .. } => {
                let wrong = |e: serde_json::Error| Fault::Ours(Error::Answer(e.to_string()));
                serde_json::from_value(result).map_err(wrong)
            }
            Response { .. } => Err(Fault::Ours(Error::Answer("it says nothing".into()))),
        }
    }

    fn call(&self, method: &str, params: &Value, timeout: Duration) -> Result<Response, Error> {
        let deadline = Instant::now() + timeout;
        let mut stream = UnixStream::connect(&self.socket).map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => Error::file(
                SOCKET,
                &self.socket,
                "this user may not open it: see rpc-file-mode of lightningd, and put this user \
                 into its group",
            ),
            _ => Error::Unreachable(e.to_string(), SOCKET),
        })?;
        let request = json!({
            "jsonrpc": "2.0", "id": "blvm-mesh", "method": method, "params": params,
        });
        stream.set_write_timeout(Some(timeout)).map_err(|e| Error::Cut(e.to_string()))?;
        let sent = stream.write_all(format!("{request}\n\n").as_bytes());
        sent.map_err(|e| cut(&e))?;
        let mut answer = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout);
            }
            stream.set_read_timeout(Some(left)).map_err(|e| Error::Cut(e.to_string()))?;
            let read = match stream.read(&mut chunk) {
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(cut(&e)),
            };
            answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
            if answer.len() > MAX_ANSWER {
                return Err(Error::Answer(format!("it is longer than {MAX_ANSWER} bytes")));
            }
            // An answer ends with an empty line; inside of it there is none.
            let looked_at = answer.len().saturating_sub(read + 1);
            let is_whole =
                answer.get(looked_at..).is_some_and(|new| new.windows(2).any(|w| w == b"\n\n"));
            if is_whole {
                return serde_json::from_slice(&answer).map_err(|e| Error::Answer(e.to_string()));
            }
            if read == 0 {
                // Versions before that ended it with the JSON.
                let whole = serde_json::from_slice(&answer);
                return whole.map_err(|_| Error::Cut("in the middle of an answer".into()));
            }
        }
    }
}

impl Backend for Cln {
    fn name(&self) -> &'static str {
        "cln"
    }

    fn info(&self) -> Result<Info, Error> {
        let info: GetInfo = self.ask("getinfo", &json!({}))?;
        let network = match info.network.as_str() {
            "bitcoin" => Some(Network::Mainnet),
            "testnet" => Some(Network::Testnet3),
            "testnet4" => Some(Network::Testnet4),
            "signet" => Some(Network::Signet),
            "regtest" => Some(Network::Regtest),
            _ => None,
        };
        Ok(Info {
            key: super::key(&info.id)?,
            alias: super::error::shown(&info.alias),
            network,
            block_height: info.blockheight,
            is_synced: info.warning_bitcoind_sync.is_none()
                && info.warning_lightningd_sync.is_none(),
            version: super::error::shown(&info.version),
        })
    }

    fn liquidity(&self) -> Result<Liquidity, Error> {
        let list: Channels = self.ask("listpeerchannels", &json!({}))?;
        let usable =
            || list.channels.iter().filter(|c| c.peer_connected && c.state == "CHANNELD_NORMAL");
        let sum = |part: fn(&Channel) -> Option<u64>| {
            usable().filter_map(part).fold(0, u64::saturating_add)
        };
        Ok(Liquidity {
            receivable_msat: Some(sum(|c| c.receivable_msat)),
            payable_msat: sum(|c| c.spendable_msat),
        })
    }

    fn invoice(&self, order: &InvoiceOrder<'_>) -> Result<String, Error> {
        // Each invoice has a label of its own.
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| Error::Unable(e.to_string()))?;
        let params = json!({
            "amount_msat": order.amount_msat,
            "label": format!("blvm-mesh/{}", hex::encode(random)),
            "description": order.description,
            "expiry": order.expiry_s,
        });
        let written: Written = self.ask("invoice", &params)?;
        Ok(written.bolt11)
    }

    fn pay(&self, order: &PaymentOrder<'_>) -> Result<PaymentStatus, Error> {
        let timeout = self.timeouts.payment + self.timeouts.grace;
        let retry_for = self.timeouts.payment.as_secs().max(1);
        let PaymentOrder { invoice, max_fee_msat, .. } = order;
        let params = json!({"invstring": invoice, "maxfee": max_fee_msat, "retry_for": retry_for});
        let sent = match self.ask_for::<Sent>("xpay", &params, timeout) {
            Err(Fault::Theirs(NO_METHOD, _)) => {
                let params =
                    json!({"bolt11": invoice, "maxfee": max_fee_msat, "retry_for": retry_for});
                self.ask_for("pay", &params, timeout)?
            }
            other => other?,
        };
        match sent.status.as_deref() {
            None | Some("complete") => {
                let preimage = super::preimage(&sent.payment_preimage, &order.payment_hash)?;
                Ok(PaymentStatus::Paid {
                    preimage,
                    fee_msat: fee(sent.amount_sent_msat, sent.amount_msat),
                })
            }
            // Whether parts are on their way is told by `listpays`.
            Some(_) => Ok(PaymentStatus::Pending),
        }
    }

    fn reach(&self, payee: &PublicKey, amount_msat: u64, _: u64) -> Result<Reach, Error> {
        let params = json!({"id": payee.to_string(), "amount_msat": amount_msat, "riskfactor": 10});
        match self.ask::<Route>("getroute", &params) {
            Ok(Route { route }) => {
                let first = route.first().and_then(|hop| hop.amount_msat);
                Ok(Reach::Route { fee_msat: fee(first, Some(amount_msat)) })
            }
            Err(Fault::Theirs(NO_ROUTE, _)) => Ok(Reach::NoRoute),
            Err(fault) => Err(fault.into()),
        }
    }

    fn payment(&self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, Error> {
        let params = json!({"payment_hash": hex::encode(payment_hash)});
        let Pays { pays } = self.ask("listpays", &params)?;
        for pay in &pays {
            if hash(&pay.payment_hash)? != *payment_hash {
                return Err(Error::Answer("it is about another payment".into()));
            }
        }
        if let Some(pay) = pays.iter().find(|pay| pay.status == "complete") {
            let preimage = super::preimage(&pay.preimage, payment_hash)?;
            let fee_msat = fee(pay.amount_sent_msat, pay.amount_msat);
            return Ok(PaymentStatus::Paid { preimage, fee_msat });
        }
        if pays.is_empty() {
            return Ok(PaymentStatus::NotFound);
        }
        match pays.iter().all(|pay| pay.status == "failed") {
            true => Ok(PaymentStatus::Failed("no way to the payee carried the payment".into())),
            false => Ok(PaymentStatus::Pending),
        }
    }

    fn invoice_status(&self, payment_hash: &[u8; 32]) -> Result<InvoiceStatus, Error> {
        let params = json!({"payment_hash": hex::encode(payment_hash)});
        let Invoices { invoices } = self.ask("listinvoices", &params)?;
        match invoices.first().map(|invoice| invoice.status.as_str()) {
            None => Ok(InvoiceStatus::NotFound),
            Some("paid") => Ok(InvoiceStatus::Settled),
            Some("unpaid") => Ok(InvoiceStatus::Open),
            Some("expired") => Ok(InvoiceStatus::Expired),
            Some(_) => Err(Error::Answer("an invoice has a state that is not known".into())),
        }
    }
}

fn fee(sent: Option<u64>, amount: Option<u64>) -> u64 {
    match (sent, amount) {
        (Some(sent), Some(amount)) => sent.saturating_sub(amount),
        _ => 0,
    }
}

/// An amount: a number, or until version 23.05 a text that ends with `msat`.
fn msat<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    let wrong = || serde::de::Error::custom("an amount in msat is expected");
    match Value::deserialize(d)? {
        Value::Null => Ok(None),
        Value::Number(number) => number.as_u64().map(Some).ok_or_else(wrong),
        Value::String(text) => {
            text.strip_suffix("msat").and_then(|n| n.parse().ok()).map(Some).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn cut(error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout,
        _ => Error::Cut(error.to_string()),
    }
}
