//! LND by its REST interface, version 0.18 and later.

use super::http::{Http, Sent, credential, hash};
use super::{Backend, Error, Info, InvoiceOrder, InvoiceStatus, Liquidity, PaymentOrder, Timeouts};
use crate::wallet::{PaymentStatus, Reach};
use bitcoin::base64::Engine;
use bitcoin::base64::engine::general_purpose::URL_SAFE;
use blvm_mesh_core::id::Network;
use secp256k1::PublicKey;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MACAROON: &str = "lightning.macaroon_file";
/// What it says of a payment that it does not know. The code alone, gRPC's `NOT_FOUND`, comes for a path
/// that it does not know as well.
const NOT_INITIATED: &str = "payment isn't initiated";
/// The same of invoices.
const NO_INVOICE: [&str; 2] = ["there are no existing invoices", "unable to locate invoice"];

/// What it says where no way to a payee carries an amount.
const NO_ROUTE: [&str; 3] =
    ["unable to find a path to destination", "target not found", "insufficient local balance"];

/// An LND node.
pub(super) struct Lnd {
    http: Http,
    timeouts: Timeouts,
}

#[derive(Deserialize)]
struct GetInfo {
    identity_pubkey: String,
    #[serde(default)]
    alias: String,
    #[serde(default)]
    version: String,
    block_height: Option<u32>,
    #[serde(default)]
    synced_to_chain: bool,
    #[serde(default)]
    chains: Vec<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    #[serde(default)]
    network: String,
}

#[derive(Deserialize)]
struct Balance {
    local_balance: Amount,
    remote_balance: Amount,
}

/// 64-bit numbers are texts in the JSON of protocol buffers.
#[derive(Deserialize)]
struct Amount {
    msat: String,
}

#[derive(Deserialize)]
struct AddInvoice {
    payment_request: String,
}

#[derive(Deserialize)]
struct Invoice {
    state: String,
}

#[derive(Deserialize)]
struct Routes {
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct Route {
    total_fees_msat: String,
}

#[derive(Deserialize)]
struct Payment {
    payment_hash: String,
    status: String,
    #[serde(default)]
    payment_preimage: String,
    #[serde(default)]
    fee_msat: String,
    #[serde(default)]
    failure_reason: String,
}

impl Lnd {
    pub(super) fn new(
        url: &str,
        macaroon: PathBuf,
        certificate: Option<&Path>,
        timeouts: Timeouts,
    ) -> Self {
        let shows =
            move || Ok(("Grpc-Metadata-macaroon", hex::encode(credential(MACAROON, &macaroon)?)));
        let http = Http::new(url, certificate, MACAROON, Box::new(shows), timeouts.answer);
        Self { http, timeouts }
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, path: &str, sent: &Sent<'_>) -> Result<T, Error> {
        self.http.ask(path, sent)?.read(message).map_err(unauthorized)
    }
}

impl Backend for Lnd {
    fn name(&self) -> &'static str {
        "lnd"
    }

    fn info(&self) -> Result<Info, Error> {
        let info: GetInfo = self.ask("/v1/getinfo", &Sent::Nothing)?;
        let network = info.chains.first().and_then(|chain| match chain.network.as_str() {
            "mainnet" => Some(Network::Mainnet),
            "testnet" => Some(Network::Testnet3),
            "testnet4" => Some(Network::Testnet4),
            "signet" => Some(Network::Signet),
            "regtest" => Some(Network::Regtest),
            _ => None,
        });
        Ok(Info {
            key: super::key(&info.identity_pubkey)?,
            alias: super::error::shown(&info.alias),
            network,
            block_height: info.block_height,
            is_synced: info.synced_to_chain,
            version: super::error::shown(&info.version),
        })
    }

    fn liquidity(&self) -> Result<Liquidity, Error> {
        let balance: Balance = self.ask("/v1/balance/channels", &Sent::Nothing)?;
        Ok(Liquidity {
            receivable_msat: Some(number(&balance.remote_balance.msat)?),
            payable_msat: number(&balance.local_balance.msat)?,
        })
    }

    fn invoice(&self, order: &InvoiceOrder<'_>) -> Result<String, Error> {
        let body = json!({
            "memo": order.description,
            "value_msat": order.amount_msat.to_string(),
            "expiry": order.expiry_s.to_string(),
            // Who has announced channels needs no hints, and gets none.
            "private": true,
        });
        let added: AddInvoice = self.ask("/v1/invoices", &Sent::Json(&body))?;
        Ok(added.payment_request)
    }

    fn pay(&self, order: &PaymentOrder<'_>) -> Result<PaymentStatus, Error> {
        let body = json!({
            "payment_request": order.invoice,
            "timeout_seconds": self.timeouts.payment.as_secs().max(1),
            "fee_limit_msat": order.max_fee_msat.to_string(),
            "no_inflight_updates": true,
        });
        let timeout = self.timeouts.payment + self.timeouts.grace;
        let paid =
            self.http.stream("/v2/router/send", &Sent::Json(&body), timeout, |reply| match status(
                &reply,
                &order.payment_hash,
            ) {
                Ok(PaymentStatus::Pending) => None,
                other => Some(other),
            });
        match paid {
            // A proxy may have lost it: the answer of LND's own always says why.
            Err(error) => Err(unauthorized(error)),
            paid => paid,
        }
    }

    fn reach(
        &self,
        payee: &PublicKey,
        amount_msat: u64,
        max_fee_msat: u64,
    ) -> Result<Reach, Error> {
        let path = format!(
            "/v1/graph/routes/{payee}/{}?fee_limit.fixed_msat={max_fee_msat}&use_mission_control=true",
            amount_msat.div_ceil(1_000)
        );
        let reply = self.http.ask(&path, &Sent::Nothing)?;
        if NO_ROUTE.iter().any(|text| says(&reply.body, text)) {
            return Ok(Reach::NoRoute);
        }
        let Routes { routes } = reply.read(message).map_err(unauthorized)?;
        match routes.first() {
            Some(route) => Ok(Reach::Route { fee_msat: number(&route.total_fees_msat)? }),
            None => Ok(Reach::NoRoute),
        }
    }

    fn payment(&self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, Error> {
        // The first line is what it is now; more come when that changes.
        let path = format!("/v2/router/track/{}", URL_SAFE.encode(payment_hash));
        let found = self.http.stream(&path, &Sent::Nothing, self.timeouts.answer, |reply| {
            if says(&reply.body, NOT_INITIATED) {
                return Some(Ok(PaymentStatus::NotFound));
            }
            Some(status(&reply, payment_hash))
        });
        found.map_err(unauthorized)
    }

    fn invoice_status(&self, payment_hash: &[u8; 32]) -> Result<InvoiceStatus, Error> {
        let path = format!("/v1/invoice/{}", hex::encode(payment_hash));
        let reply = self.http.ask(&path, &Sent::Nothing)?;
        if NO_INVOICE.iter().any(|text| says(&reply.body, text)) {
            return Ok(InvoiceStatus::NotFound);
        }
        let invoice: Invoice = reply.read(message).map_err(unauthorized)?;
        match invoice.state.as_str() {
            "SETTLED" => Ok(InvoiceStatus::Settled),
            "OPEN" | "ACCEPTED" => Ok(InvoiceStatus::Open),
            "CANCELED" => Ok(InvoiceStatus::Expired),
            _ => Err(Error::Answer("an invoice has a state that is not known".into())),
        }
    }
}

/// A line of a payment's stream.
fn status(reply: &super::http::Reply, payment_hash: &[u8; 32]) -> Result<PaymentStatus, Error> {
    let mut line: Value =
        serde_json::from_slice(&reply.body).map_err(|e| Error::Answer(e.to_string()))?;
    let Some(result) = line.get_mut("result") else { return Err(reply.error(message)) };
    let payment: Payment =
        serde_json::from_value(result.take()).map_err(|e| Error::Answer(e.to_string()))?;
    if hash(&payment.payment_hash)? != *payment_hash {
        return Err(Error::Answer("it is about another payment".into()));
    }
    match payment.status.as_str() {
        "SUCCEEDED" => {
            let preimage = super::preimage(&payment.payment_preimage, payment_hash)?;
            Ok(PaymentStatus::Paid { preimage, fee_msat: number(&payment.fee_msat)? })
        }
        "FAILED" => Ok(PaymentStatus::Failed(failure(&payment.failure_reason).into())),
        "IN_FLIGHT" | "INITIATED" => Ok(PaymentStatus::Pending),
        _ => Err(Error::Answer("a payment has a state that is not known".into())),
    }
}

/// `PaymentFailureReason` of LND's `rpc.proto`, in words.
fn failure(reason: &str) -> &'static str {
    match reason {
        "FAILURE_REASON_TIMEOUT" => "no way was found in time",
        "FAILURE_REASON_NO_ROUTE" => {
            "the Lightning node has no way to the payee that carries the amount within the fee \
             limit (lightning.max_fee_ppm)"
        }
        "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS" => {
            "the payee does not know the invoice any more"
        }
        "FAILURE_REASON_INSUFFICIENT_BALANCE" => {
            "the Lightning node's channels hold too little on its side: fund it"
        }
        "FAILURE_REASON_CANCELED" => "it was cancelled at the Lightning node",
        _ => "the Lightning node failed to pay",
    }
}

fn number(text: &str) -> Result<u64, Error> {
    text.parse().map_err(|_| Error::Answer("an amount is not a number".into()))
}

/// The message of an error: of a plain answer, or in a stream.
fn message(said: &Value) -> Option<&str> {
    said.pointer("/error/message").or_else(|| said.get("message"))?.as_str()
}

/// Whether an answer is an error that says this.
fn says(body: &[u8], text: &str) -> bool {
    let said = serde_json::from_slice::<Value>(body).ok();
    said.as_ref().and_then(message).is_some_and(|message| message.contains(text))
}

/// LND refuses a macaroon with status 500 and one of these.
fn unauthorized(error: Error) -> Error {
    match error {
        Error::Refused(said)
            if said.contains("macaroon")
                || said.contains("verification failed")
                || said.contains("permission denied") =>
        {
            Error::Unauthorized(said, MACAROON)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_known_is_no_payment_that_is_not_known() {
        let streamed = br#"{"error":{"code":5,"message":"payment isn't initiated","details":[]}}"#;
        assert!(says(streamed, NOT_INITIATED));
        assert!(!says(br#"{"code":5,"message":"Not Found","details":[]}"#, NOT_INITIATED));
        assert!(!says(b"payment isn't initiated", NOT_INITIATED));
    }
}
