//! A wallet of an LNbits server by HTTP, version 0.12 and later. It counts in whole satoshi. The
//! server's node signs for all of its customers, and the server can take all that the wallet holds.

use super::http::{Http, Sent, text_credential};
use super::{Backend, Error, Info, InvoiceOrder, InvoiceStatus, Liquidity, PaymentOrder, Timeouts};
use crate::wallet::PaymentStatus;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::bolt11::Invoice;
use secp256k1::{PublicKey, Secp256k1};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const API_KEY: &str = "lightning.api_key_file";
/// Text of the invoice that is written to learn the node's key, which expires unpaid.
const PROBE: &str = "blvm-mesh: whose invoices these are";
const PROBE_EXPIRY_S: u32 = 60;

/// A wallet of an LNbits server.
pub(super) struct Lnbits {
    http: Http,
    timeouts: Timeouts,
    /// The node's key and network.
    node: OnceLock<(PublicKey, Network)>,
}

#[derive(Deserialize)]
struct Wallet {
    #[serde(default)]
    name: String,
    /// In millisatoshi.
    balance: i64,
}

#[derive(Deserialize)]
struct Created {
    #[serde(alias = "bolt11")]
    payment_request: String,
}

#[derive(Deserialize)]
struct FeeReserve {
    /// In millisatoshi.
    fee_reserve: u64,
}

#[derive(Deserialize)]
struct Payment {
    paid: bool,
    status: Option<String>,
    preimage: Option<String>,
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    status: Option<String>,
    /// In millisatoshi; of an outgoing payment less than 0.
    #[serde(default)]
    fee: i64,
}

impl Payment {
    fn status(&self) -> Option<&str> {
        self.status.as_deref().or(self.details.as_ref()?.status.as_deref())
    }
}

impl Lnbits {
    pub(super) fn new(
        url: &str,
        api_key: PathBuf,
        certificate: Option<&Path>,
        timeouts: Timeouts,
    ) -> Self {
        let shows = move || Ok(("X-Api-Key", text_credential(API_KEY, &api_key)?));
        let http = Http::new(url, certificate, API_KEY, Box::new(shows), timeouts.answer);
        Self { http, timeouts, node: OnceLock::new() }
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, path: &str, sent: &Sent<'_>) -> Result<T, Error> {
        self.http.ask(path, sent)?.read(detail)
    }

    /// Who signs its invoices: told by nothing but an invoice.
    fn node(&self) -> Result<(PublicKey, Network), Error> {
        if let Some(node) = self.node.get() {
            return Ok(*node);
        }
        let order =
            InvoiceOrder { description: PROBE, amount_msat: 1_000, expiry_s: PROBE_EXPIRY_S };
        let text = self.invoice(&order)?;
        let wrong = |e: &dyn std::fmt::Display| Error::Answer(format!("its invoice: {e}"));
        let invoice = Invoice::from_text(&text).map_err(|e| wrong(&e))?;
        let secp = Secp256k1::verification_only();
        let key = invoice.recover_payee(&secp).map_err(|e| wrong(&e))?;
        Ok(*self.node.get_or_init(|| (key, invoice.network())))
    }

    /// None where the wallet has no payment or invoice with this hash.
    fn find(&self, payment_hash: &[u8; 32]) -> Result<Option<Payment>, Error> {
        let path = format!("/api/v1/payments/{}", hex::encode(payment_hash));
        let reply = self.http.ask(&path, &Sent::Nothing)?;
        // FastAPI's own says "Not Found" where there is no such path.
        let missing = reply.status == 404
            && matches!(reply.error(detail), Error::Refused(text) if text.contains("does not exist"));
        if missing { Ok(None) } else { reply.read(detail).map(Some) }
    }
}

impl Backend for Lnbits {
    fn name(&self) -> &'static str {
        "lnbits"
    }

    fn info(&self) -> Result<Info, Error> {
        let wallet: Wallet = self.ask("/api/v1/wallet", &Sent::Nothing)?;
        let (key, network) = self.node()?;
        Ok(Info {
            key,
            alias: super::error::shown(&wallet.name),
            network: Some(network),
            block_height: None,
            is_synced: true,
            version: String::new(),
        })
    }

    fn liquidity(&self) -> Result<Liquidity, Error> {
        let wallet: Wallet = self.ask("/api/v1/wallet", &Sent::Nothing)?;
        let payable_msat = u64::try_from(wallet.balance).unwrap_or(0);
        Ok(Liquidity { receivable_msat: None, payable_msat })
    }

    fn invoice(&self, order: &InvoiceOrder<'_>) -> Result<String, Error> {
        let InvoiceOrder { description, amount_msat, expiry_s } = *order;
        if amount_msat % 1_000 != 0 {
            let text = format!("LNbits writes whole satoshi only, not {amount_msat} msat");
            return Err(Error::Unable(text));
        }
        let body = json!({
            "out": false,
            "unit": "sat",
            "amount": amount_msat / 1_000,
            "memo": description,
            "expiry": expiry_s,
        });
        let created: Created = self.ask("/api/v1/payments", &Sent::Json(&body))?;
        Ok(created.payment_request)
    }

    fn pay(&self, order: &PaymentOrder<'_>) -> Result<PaymentStatus, Error> {
        // The server's own limit, which cannot be set for a payment.
        let path = format!("/api/v1/payments/fee-reserve?invoice={}", order.invoice);
        let reserve = self.ask::<FeeReserve>(&path, &Sent::Nothing);
        let reserve =
            reserve.map_err(|e| Error::Unable(format!("what it costs is not known: {e}")))?;
        if reserve.fee_reserve > order.max_fee_msat {
            return Err(Error::Unable(format!(
                "LNbits may take {} msat for it, and at most {} msat may be paid \
                 (lightning.max_fee_ppm)",
                reserve.fee_reserve, order.max_fee_msat
            )));
        }
        let body = json!({"out": true, "bolt11": order.invoice});
        let timeout = self.timeouts.payment + self.timeouts.grace;
        let reply = self.http.ask_for("/api/v1/payments", &Sent::Json(&body), timeout)?;
        // Versions tell different things here, and the same when they are asked.
        let _: Value = reply.read(detail)?;
        self.payment(&order.payment_hash)
    }

    fn payment(&self, payment_hash: &[u8; 32]) -> Result<PaymentStatus, Error> {
        let Some(payment) = self.find(payment_hash)? else { return Ok(PaymentStatus::NotFound) };
        if payment.paid {
            let preimage = payment.preimage.as_deref().unwrap_or_default();
            let preimage = super::preimage(preimage, payment_hash)?;
            let fee_msat = payment.details.map_or(0, |details| details.fee.unsigned_abs());
            return Ok(PaymentStatus::Paid { preimage, fee_msat });
        }
        Ok(match payment.status() {
            Some("failed") => PaymentStatus::Failed("LNbits failed to pay".into()),
            _ => PaymentStatus::Pending,
        })
    }

    fn invoice_status(&self, payment_hash: &[u8; 32]) -> Result<InvoiceStatus, Error> {
        Ok(match self.find(payment_hash)? {
            None => InvoiceStatus::NotFound,
            Some(payment) if payment.paid => InvoiceStatus::Settled,
            Some(payment) if payment.status() == Some("failed") => InvoiceStatus::Expired,
            Some(_) => InvoiceStatus::Open,
        })
    }
}

/// What FastAPI's errors say.
fn detail(said: &Value) -> Option<&str> {
    said.get("detail")?.as_str()
}
