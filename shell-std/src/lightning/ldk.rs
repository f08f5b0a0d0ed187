//! `blvm-mesh-lightning` (`contrib/lightning-ldk`), LDK behind a Unix socket, for whoever runs no other
//! Lightning node.

use super::{Backend, Error, Info, InvoiceOrder, InvoiceStatus, Liquidity, PaymentOrder, Timeouts};
use crate::wallet::PaymentStatus;
use blvm_mesh_core::id::Network;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SOCKET: &str = "lightning.socket";
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// Pause between two look-ups of a payment: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

/// A running `blvm-mesh-lightning`.
pub(super) struct Ldk {
    socket: PathBuf,
    timeouts: Timeouts,
}

#[derive(Deserialize)]
struct Response {
    result: Option<Value>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    message: String,
}

#[derive(Deserialize)]
struct GetInfo {
    node: String,
    alias: String,
    network: String,
    block_height: u32,
    synced: bool,
    version: String,
}

#[derive(Deserialize)]
struct Balance {
    payable_msat: u64,
    receivable_msat: u64,
}

#[derive(Deserialize)]
struct Written {
    invoice: String,
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Payment {
    Pending,
    Paid { preimage: String, fee_msat: u64 },
    Failed { reason: String },
    Unknown,
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Incoming {
    Settled,
    Open,
    Expired,
    Unknown,
}

/// Calls a method of the service at this socket.
///
/// # Errors
/// Any.
pub(crate) fn call(
    socket: &Path,
    method: &str,
    params: &Value,
    timeout: Duration,
) -> Result<Value, Error> {
    let deadline = Instant::now() + timeout;
    let mut stream = UnixStream::connect(socket).map_err(|e| match e.kind() {
        ErrorKind::PermissionDenied => Error::file(
            SOCKET,
            socket,
            "this user may not open it: run blvm-mesh and blvm-mesh-lightning as one user",
        ),
        _ => Error::Unreachable(e.to_string(), SOCKET),
    })?;
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    stream.set_write_timeout(Some(timeout)).map_err(|e| cut(&e))?;
    stream.write_all(format!("{request}\n").as_bytes()).map_err(|e| cut(&e))?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let line = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout);
        }
        stream.set_read_timeout(Some(left)).map_err(|e| cut(&e))?;
        let read = match stream.read(&mut chunk) {
            Ok(0) => return Err(Error::Cut("in the middle of an answer".into())),
            Ok(read) => chunk.get(..read).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(cut(&e)),
        };
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            answer.extend_from_slice(read.get(..end).unwrap_or_default());
            break answer;
        }
        answer.extend_from_slice(read);
        if answer.len() > MAX_ANSWER {
            return Err(Error::Answer(format!("it is longer than {MAX_ANSWER} bytes")));
        }
    };
    match serde_json::from_slice(&line).map_err(wrong)? {
        Response { error: Some(error), .. } => Err(Error::refused(&error.message)),
        Response { result: Some(result), .. } => Ok(result),
        Response { .. } => Err(Error::Answer("it says nothing".into())),
    }
}

fn cut(error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout,
        _ => Error::Cut(error.to_string()),
    }
}

fn wrong(error: serde_json::Error) -> Error {
    Error::Answer(error.to_string())
}

impl Ldk {
    pub(super) fn new(socket: PathBuf, timeouts: Timeouts) -> Self {
        Self { socket, timeouts }
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, params: &Value) -> Result<T, Error> {
        let result = call(&self.socket, method, params, self.timeouts.answer)?;
        serde_json::from_value(result).map_err(wrong)
    }
}

impl Payment {
    fn status(self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, Error> {
        Ok(match self {
            Self::Pending => PaymentStatus::Pending,
            Self::Paid { preimage, fee_msat } => {
                let preimage = super::preimage(&preimage, payment_hash)?;
                PaymentStatus::Paid { preimage, fee_msat }
            }
            Self::Failed { reason } => PaymentStatus::Failed(super::error::shown(&reason)),
            Self::Unknown => PaymentStatus::NotFound,
        })
    }
}

impl Backend for Ldk {
    fn name(&self) -> &'static str {
        "ldk"
    }

    fn info(&self) -> Result<Info, Error> {
        let info: GetInfo = self.ask("getinfo", &json!({}))?;
        let network = match info.network.as_str() {
            "mainnet" => Some(Network::Mainnet),
            "signet" => Some(Network::Signet),
            "regtest" => Some(Network::Regtest),
            _ => None,
        };
        Ok(Info {
            key: super::key(&info.node)?,
            alias: super::error::shown(&info.alias),
            network,
            block_height: Some(info.block_height),
            is_synced: info.synced,
            version: super::error::shown(&info.version),
        })
    }

    fn liquidity(&self) -> Result<Liquidity, Error> {
        let Balance { payable_msat, receivable_msat } = self.ask("balance", &json!({}))?;
        Ok(Liquidity { receivable_msat: Some(receivable_msat), payable_msat })
    }

    fn invoice(&self, order: &InvoiceOrder<'_>) -> Result<String, Error> {
        let InvoiceOrder { description, amount_msat, expiry_s } = order;
        let params = json!({"text": description, "amount_msat": amount_msat, "expiry_s": expiry_s});
        let written: Written = self.ask("invoice", &params)?;
        Ok(written.invoice)
    }

    fn pay(&self, order: &PaymentOrder<'_>) -> Result<PaymentStatus, Error> {
        let until = Instant::now() + self.timeouts.payment;
        let PaymentOrder { invoice, payment_hash, max_fee_msat, .. } = order;
        let params = json!({"invoice": invoice, "max_fee_msat": max_fee_msat});
        // It answers at once that it has begun.
        let mut status = self.ask::<Payment>("pay", &params)?.status(payment_hash)?;
        let [mut pause, longest] = PAUSES;
        while status == PaymentStatus::Pending && Instant::now() < until {
            std::thread::sleep(pause);
            pause = longest.min(pause * 2);
            // Begun as it is, a look-up that fails makes nothing of it certain.
            status = self.payment(payment_hash).unwrap_or(PaymentStatus::Pending);
        }
        Ok(status)
    }

    fn payment(&self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, Error> {
        let params = json!({"payment_hash": hex::encode(payment_hash)});
        self.ask::<Payment>("lookup", &params)?.status(payment_hash)
    }

    fn invoice_status(&self, payment_hash: &[u8; 32]) -> Result<InvoiceStatus, Error> {
        let params = json!({"payment_hash": hex::encode(payment_hash)});
        Ok(match self.ask("settled", &params)? {
            Incoming::Settled => InvoiceStatus::Settled,
            Incoming::Open => InvoiceStatus::Open,
            Incoming::Expired => InvoiceStatus::Expired,
            Incoming::Unknown => InvoiceStatus::NotFound,
        })
    }
}
