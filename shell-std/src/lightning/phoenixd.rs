//! phoenixd by HTTP, version 0.6 and later. It counts in whole satoshi.

use super::http::{Http, Reply, Sent, hash, text_credential};
use super::{Backend, Error, Info, InvoiceOrder, InvoiceStatus, Liquidity, PaymentOrder, Timeouts};
use crate::wallet::PaymentStatus;
use bitcoin::base64::Engine;
use bitcoin::base64::engine::general_purpose::STANDARD;
use blvm_mesh_core::id::Network;
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

const PASSWORD: &str = "lightning.password_file";
/// Longest text of an invoice, in characters.
const MAX_DESCRIPTION: usize = 128;
/// What its peer takes for a payment (phoenix.acinq.co, "What are the fees?"): it takes no limit.
const FEE_BASE_MSAT: u64 = 4_000;
const FEE_PPM: u64 = 4_000;
/// The first version that is known to look outgoing payments up by hash. One that does not know how
/// answers as if it did not know the payment.
const LOOKS_UP: (u64, u64) = (0, 6);

/// A phoenixd.
pub(super) struct Phoenixd {
    http: Http,
    timeouts: Timeouts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetInfo {
    node_id: String,
    #[serde(default)]
    chain: String,
    #[serde(default)]
    version: String,
    block_height: Option<u32>,
    #[serde(default)]
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Channel {
    inbound_liquidity_sat: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Balance {
    balance_sat: u64,
}

#[derive(Deserialize)]
struct Created {
    serialized: String,
}

/// Sent, or failed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    payment_hash: String,
    payment_preimage: Option<String>,
    #[serde(default)]
    routing_fee_sat: u64,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outgoing {
    payment_hash: String,
    preimage: Option<String>,
    /// In millisatoshi.
    #[serde(default)]
    fees: u64,
    completed_at: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming {
    is_paid: bool,
    #[serde(default)]
    is_expired: bool,
}

impl Phoenixd {
    pub(super) fn new(url: &str, password: PathBuf, timeouts: Timeouts) -> Self {
        let shows = move || {
            let text = text_credential(PASSWORD, &password)?;
            // Its `phoenix.conf` has the password in one of its lines.
            let given = text.lines().find_map(|line| line.trim().strip_prefix("http-password="));
            let pair = format!(":{}", given.unwrap_or(&text).trim());
            Ok(("Authorization", format!("Basic {}", STANDARD.encode(pair))))
        };
        let http = Http::new(url, None, PASSWORD, Box::new(shows), timeouts.answer);
        Self { http, timeouts }
    }

    fn get_info(&self) -> Result<GetInfo, Error> {
        self.http.ask("/getinfo", &Sent::Nothing).and_then(|reply| read(&reply))
    }
}

impl Backend for Phoenixd {
    fn name(&self) -> &'static str {
        "phoenixd"
    }

    fn info(&self) -> Result<Info, Error> {
        let info = self.get_info()?;
        let network = match info.chain.as_str() {
            "mainnet" => Some(Network::Mainnet),
            "testnet" | "testnet3" => Some(Network::Testnet3),
            "testnet4" => Some(Network::Testnet4),
            "signet" => Some(Network::Signet),
            "regtest" => Some(Network::Regtest),
            _ => None,
        };
        Ok(Info {
            key: super::key(&info.node_id)?,
            alias: String::new(),
            network,
            block_height: info.block_height,
            is_synced: info.block_height != Some(0),
            version: super::error::shown(&info.version),
        })
    }

    fn liquidity(&self) -> Result<Liquidity, Error> {
        let channels = self.get_info()?.channels;
        let inbound_sat =
            channels.iter().filter_map(|c| c.inbound_liquidity_sat).fold(0, u64::saturating_add);
        let balance: Balance =
            self.http.ask("/getbalance", &Sent::Nothing).and_then(|reply| read(&reply))?;
        Ok(Liquidity {
            // It buys more by itself when that is used up.
            receivable_msat: Some(inbound_sat.saturating_mul(1_000)).filter(|msat| *msat > 0),
            payable_msat: balance.balance_sat.saturating_mul(1_000),
        })
    }

    fn invoice(&self, order: &InvoiceOrder<'_>) -> Result<String, Error> {
        let InvoiceOrder { description, amount_msat, expiry_s } = *order;
        if amount_msat % 1_000 != 0 {
            let text = format!("phoenixd writes whole satoshi only, not {amount_msat} msat");
            return Err(Error::Unable(text));
        }
        if description.chars().count() > MAX_DESCRIPTION {
            let text = format!("phoenixd writes texts of at most {MAX_DESCRIPTION} characters");
            return Err(Error::Unable(text));
        }
        let (amount, expiry) = ((amount_msat / 1_000).to_string(), expiry_s.to_string());
        let form =
            [("description", description), ("amountSat", &amount), ("expirySeconds", &expiry)];
        let reply = self.http.ask("/createinvoice", &Sent::Form(&form))?;
        Ok(read::<Created>(&reply)?.serialized)
    }

    fn pay(&self, order: &PaymentOrder<'_>) -> Result<PaymentStatus, Error> {
        let fee = u128::from(order.amount_msat) * u128::from(FEE_PPM) / 1_000_000;
        let fee = fee + u128::from(FEE_BASE_MSAT);
        if fee > u128::from(order.max_fee_msat) {
            return Err(Error::Unable(format!(
                "phoenixd would take {fee} msat for it, and at most {} msat may be paid \
                 (lightning.max_fee_ppm)",
                order.max_fee_msat
            )));
        }
        let timeout = self.timeouts.payment + self.timeouts.grace;
        let form = [("invoice", order.invoice)];
        let paid: Paid = read(&self.http.ask_for("/payinvoice", &Sent::Form(&form), timeout)?)?;
        if hash(&paid.payment_hash)? != order.payment_hash {
            return Err(Error::Answer("it is about another payment".into()));
        }
        match (paid.payment_preimage, paid.reason) {
            (Some(preimage), _) => {
                let preimage = super::preimage(&preimage, &order.payment_hash)?;
                let fee_msat = paid.routing_fee_sat.saturating_mul(1_000);
                Ok(PaymentStatus::Paid { preimage, fee_msat })
            }
            // It says so as well of one that is on its way already.
            (None, Some(reason)) => Err(Error::refused(&reason)),
            (None, None) => Err(Error::Answer("neither preimage nor reason".into())),
        }
    }

    fn payment(&self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, Error> {
        let path = format!("/payments/outgoingbyhash/{}", hex::encode(payment_hash));
        let reply = self.http.ask(&path, &Sent::Nothing)?;
        if is_missing(&reply) {
            return match version(&self.get_info()?.version) {
                Some(version) if version >= LOOKS_UP => Ok(PaymentStatus::NotFound),
                _ => Err(Error::Unable(
                    "this version of phoenixd cannot look payments up: use 0.6 or later".into(),
                )),
            };
        }
        let outgoing: Outgoing = read(&reply)?;
        if hash(&outgoing.payment_hash)? != *payment_hash {
            return Err(Error::Answer("it is about another payment".into()));
        }
        // One that has failed is completed as well, without a preimage.
        match (outgoing.preimage, outgoing.completed_at) {
            (Some(preimage), _) => {
                let preimage = super::preimage(&preimage, payment_hash)?;
                Ok(PaymentStatus::Paid { preimage, fee_msat: outgoing.fees })
            }
            (None, Some(_)) => Ok(PaymentStatus::Failed("phoenixd failed to pay".into())),
            (None, None) => Ok(PaymentStatus::Pending),
        }
    }

    fn invoice_status(&self, payment_hash: &[u8; 32]) -> Result<InvoiceStatus, Error> {
        let path = format!("/payments/incoming/{}", hex::encode(payment_hash));
        let reply = self.http.ask(&path, &Sent::Nothing)?;
        if is_missing(&reply) {
            return Ok(InvoiceStatus::NotFound);
        }
        let incoming: Incoming = read(&reply)?;
        Ok(match incoming {
            Incoming { is_paid: true, .. } => InvoiceStatus::Settled,
            Incoming { is_expired: true, .. } => InvoiceStatus::Expired,
            Incoming { .. } => InvoiceStatus::Open,
        })
    }
}

/// Its errors are plain text: of those with a status of their own the first line.
fn read<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, Error> {
    match reply.status {
        400..=499 if reply.status != 404 => {
            let text = String::from_utf8_lossy(&reply.body);
            Err(Error::refused(text.lines().next().unwrap_or_default()))
        }
        _ => reply.read(|_: &Value| None),
    }
}

/// What it says of what it does not know, be it a payment or a path: not what another server says.
fn is_missing(reply: &Reply) -> bool {
    reply.status == 404 && reply.body.starts_with(b"Unknown endpoint")
}

/// The first two numbers of a version, as in `0.6.2-ab12cd`.
fn version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.trim_start_matches('v').split(['.', '-']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}
