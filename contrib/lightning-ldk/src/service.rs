//! What the node is asked to do, over the socket.

use crate::home::write_new;
use crate::payments::Payments;
use crate::records::{Hash, Records, from_hex, hex};
use crate::settings::{address, name};
use ldk_node::bitcoin::address::NetworkUnchecked;
use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::bitcoin::{Address, Network};
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning_invoice::{Bolt11InvoiceDescription, Description};
use ldk_node::payment::{PaymentDirection, PaymentStatus};
use ldk_node::{Node, NodeError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest time that an invoice may live, in seconds: a week.
const MAX_EXPIRY_S: u32 = 7 * 86_400;
/// How old the last look at the chain may be for the node to follow it, in seconds.
const FRESH_S: u64 = 300;
/// How long an invoice is remembered after it expired, in seconds. A payment that came in time has
/// been booked by then.
const REMEMBERED_S: u64 = 3_600;

/// Why a call was not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// JSON-RPC's code.
    pub(crate) code: i64,
    /// What is wrong and how to mend it.
    pub(crate) message: String,
}

/// JSON-RPC's "method not found".
const NO_METHOD: i64 = -32_601;
/// JSON-RPC's "invalid params".
const PARAMS: i64 = -32_602;
/// It cannot be done.
const UNABLE: i64 = 1;

impl Refusal {
    pub(crate) fn params(message: impl ToString) -> Self {
        Self { code: PARAMS, message: message.to_string() }
    }

    pub(crate) fn unable(message: impl ToString) -> Self {
        Self { code: UNABLE, message: message.to_string() }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::unable(format!("the database: {error}"))
    }
}

impl From<NodeError> for Refusal {
    fn from(error: NodeError) -> Self {
        Self::unable(match error {
            NodeError::InsufficientFunds => {
                "the on-chain wallet holds too little for it, with the \
                reserve of 25000 sat that each channel needs; see balance"
                    .into()
            }
            NodeError::ConnectionFailed => "there is no connection to that node: is its address \
                right, and does it run?"
                .into(),
            other => other.to_string(),
        })
    }
}

/// The node and what it remembers.
pub(crate) struct Service {
    pub(crate) node: Arc<Node>,
    pub(crate) network: Network,
    pub(crate) records: Arc<Records>,
    pub(crate) payments: Payments,
    /// The words of its seed.
    pub(crate) seed: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteInvoice {
    text: String,
    amount_msat: u64,
    expiry_s: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pay {
    invoice: String,
    max_fee_msat: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByHash {
    payment_hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenChannel {
    node: String,
    amount_sat: u64,
    #[serde(default)]
    push_msat: u64,
    #[serde(default)]
    announce: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseChannel {
    channel: String,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Withdraw {
    address: String,
    amount_sat: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Backup {
    path: PathBuf,
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Refusal> {
    // No parameters may also be left out.
    let params = if params.is_null() { json!({}) } else { params };
    serde_json::from_value(params).map_err(Refusal::params)
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Service {
    /// Carries out a call.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, Refusal> {
        match method {
            "getinfo" => read(params).map(|Nothing {}| self.info()),
            "balance" => read(params).map(|Nothing {}| self.balance()),
            "channels" => read(params).map(|Nothing {}| self.channels()),
            "newaddress" => {
                let Nothing {} = read(params)?;
                Ok(json!({"address": self.node.onchain_payment().new_address()?.to_string()}))
            }
            "invoice" => self.invoice(&read(params)?),
            "settled" => self.settled(&hash(&read(params)?)?),
            "pay" => {
                let Pay { invoice, max_fee_msat } = read(params)?;
                let payment = self.payments.pay(&invoice, max_fee_msat)?;
                serde_json::to_value(payment).map_err(Refusal::unable)
            }
            "lookup" => match self.payments.look_up(&hash(&read(params)?)?)? {
                Some(payment) => serde_json::to_value(payment).map_err(Refusal::unable),
                None => Ok(json!({"status": "unknown"})),
            },
            "openchannel" => self.open_channel(&read(params)?),
            "closechannel" => self.close_channel(&read(params)?),
            "withdraw" => self.withdraw(&read(params)?),
            "backup" => self.backup(&read(params)?),
            other => {
                let message = format!("there is no method {other}");
                Err(Refusal { code: NO_METHOD, message })
            }
        }
    }

    fn info(&self) -> Value {
        let status = self.node.status();
        let is_fresh =
            |at: Option<u64>| at.is_some_and(|at| unix_now().saturating_sub(at) < FRESH_S);
        let channels = self.node.list_channels();
        json!({
            "node": self.node.node_id().to_string(),
            "alias": self.node.node_alias().map(|alias| alias.to_string()).unwrap_or_default(),
            "network": name(self.network),
            "block_height": status.current_best_block.height,
            "synced": is_fresh(status.latest_lightning_wallet_sync_timestamp),
            "version": env!("CARGO_PKG_VERSION"),
            "listen": self.node.listening_addresses().unwrap_or_default().iter()
                .map(ToString::to_string).collect::<Vec<_>>(),
            "channels": channels.len(),
            "usable_channels": channels.iter().filter(|channel| channel.is_usable).count(),
        })
    }

    fn balance(&self) -> Value {
        let held = self.node.list_balances();
        let channels = self.node.list_channels();
        let usable = || channels.iter().filter(|channel| channel.is_usable);
        let payable = usable().map(|c| c.outbound_capacity_msat).fold(0, u64::saturating_add);
        let receivable = usable().map(|c| c.inbound_capacity_msat).fold(0, u64::saturating_add);
        json!({
            "onchain_sat": held.total_onchain_balance_sats,
            "onchain_spendable_sat": held.spendable_onchain_balance_sats,
            "reserve_sat": held.total_anchor_channels_reserve_sats,
            "lightning_sat": held.total_lightning_balance_sats,
            "payable_msat": payable,
            "receivable_msat": receivable,
        })
    }

    fn channels(&self) -> Value {
        let shown = |c: &ldk_node::ChannelDetails| {
            json!({
                "channel": c.user_channel_id.0.to_string(),
                "node": c.counterparty_node_id.to_string(),
                "funding": c.funding_txo.map(|outpoint| outpoint.to_string()),
                "amount_sat": c.channel_value_sats,
                "payable_msat": c.outbound_capacity_msat,
                "receivable_msat": c.inbound_capacity_msat,
                "confirmations": c.confirmations,
                "confirmations_needed": c.confirmations_required,
                "ready": c.is_channel_ready,
                "usable": c.is_usable,
                "announced": c.is_announced,
            })
        };
        Value::Array(self.node.list_channels().iter().map(shown).collect())
    }

    fn invoice(&self, order: &WriteInvoice) -> Result<Value, Refusal> {
        let WriteInvoice { text, amount_msat, expiry_s } = order;
        if *amount_msat == 0 {
            return Err(Refusal::params("amount_msat is 0"));
        }
        if !(1..=MAX_EXPIRY_S).contains(expiry_s) {
            return Err(Refusal::params(format!("expiry_s is not 1 to {MAX_EXPIRY_S}")));
        }
        let text = Description::new(text.clone()).map_err(Refusal::params)?;
        let text = Bolt11InvoiceDescription::Direct(text);
        let invoice = self.node.bolt11_payment().receive(*amount_msat, &text, *expiry_s)?;
        let hash: &[u8; 32] = invoice.payment_hash().as_ref();
        let expires_at = unix_now().saturating_add(u64::from(*expiry_s));
        self.records.note_invoice(hash, expires_at)?;
        Ok(json!({
            "invoice": invoice.to_string(), "payment_hash": hex(hash), "expires_at": expires_at,
        }))
    }

    fn settled(&self, hash: &Hash) -> Result<Value, Refusal> {
        let found = self.node.payment(&PaymentId(*hash));
        let Some(found) = found.filter(|found| found.direction == PaymentDirection::Inbound) else {
            return Ok(json!({"status": "unknown"}));
        };
        let is_over = || -> Result<bool, Refusal> {
            Ok(self.records.invoice(hash)?.is_some_and(|expires_at| expires_at < unix_now()))
        };
        Ok(match found.status {
            PaymentStatus::Succeeded => {
                json!({"status": "settled", "amount_msat": found.amount_msat})
            }
            PaymentStatus::Pending if !is_over()? => json!({"status": "open"}),
            PaymentStatus::Pending | PaymentStatus::Failed => json!({"status": "expired"}),
        })
    }

    /// Forgets invoices that expired unpaid: strangers have them written, and LDK keeps each in
    /// memory.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn forget_expired(&self) -> Result<(), Refusal> {
        for hash in self.records.expired_before(unix_now().saturating_sub(REMEMBERED_S))? {
            let id = PaymentId(hash);
            let is_unpaid = self.node.payment(&id).is_some_and(|payment| {
                payment.direction == PaymentDirection::Inbound
                    && payment.status != PaymentStatus::Succeeded
            });
            if is_unpaid {
                self.node.remove_payment(&id)?;
            }
            self.records.forget_invoice(&hash)?;
        }
        Ok(())
    }

    fn open_channel(&self, order: &OpenChannel) -> Result<Value, Refusal> {
        let expected = || Refusal::params("node is not KEY@HOST:PORT");
        let (key, at) = order.node.split_once('@').ok_or_else(expected)?;
        let key: PublicKey = key.parse().map_err(|_| expected())?;
        let at = address("node", at).map_err(Refusal::params)?;
        let push = Some(order.push_msat).filter(|msat| *msat > 0);
        if order.push_msat > order.amount_sat.saturating_mul(1_000) {
            return Err(Refusal::params("push_msat is more than amount_sat"));
        }
        let channel = match order.announce {
            true => self.node.open_announced_channel(key, at, order.amount_sat, push, None),
            false => self.node.open_channel(key, at, order.amount_sat, push, None),
        };
        let channel = channel.map_err(|error| match (error, order.announce) {
            (NodeError::ChannelCreationFailed, true) => Refusal::unable(
                "the channel was not begun; to announce one this node needs --listen and --alias",
            ),
            (error, _) => error.into(),
        })?;
        Ok(json!({"channel": channel.0.to_string()}))
    }

    fn close_channel(&self, order: &CloseChannel) -> Result<Value, Refusal> {
        let channels = self.node.list_channels();
        let found = channels.iter().find(|c| c.user_channel_id.0.to_string() == order.channel);
        let Some(found) = found else {
            return Err(Refusal::unable(format!("there is no channel {}", order.channel)));
        };
        let (id, peer) = (&found.user_channel_id, found.counterparty_node_id);
        match order.force {
            true => self.node.force_close_channel(id, peer, None)?,
            false => self.node.close_channel(id, peer)?,
        }
        Ok(json!({"channel": order.channel}))
    }

    fn withdraw(&self, order: &Withdraw) -> Result<Value, Refusal> {
        let address: Address<NetworkUnchecked> =
            order.address.parse().map_err(|e| Refusal::params(format!("address: {e}")))?;
        let address = address
            .require_network(self.network)
            .map_err(|_| Refusal::params(format!("address is not of {}", name(self.network))))?;
        let wallet = self.node.onchain_payment();
        let txid = match order.amount_sat {
            Some(sat) => wallet.send_to_address(&address, sat, None)?,
            None => wallet.send_all_to_address(&address, true, None)?,
        };
        Ok(json!({"txid": txid.to_string()}))
    }

    /// Writes what brings the on-chain money back, and with whom there are channels.
    fn backup(&self, order: &Backup) -> Result<Value, Refusal> {
        if !order.path.is_absolute() {
            return Err(Refusal::params("path is not absolute"));
        }
        let mut text = format!(
            "# A blvm-mesh-lightning node on {}: {}\n\
             # Who has this file has the money. The words alone, as the file `seed` of an empty data\n\
             # directory, bring back what is on chain. What channels hold is not in here: it changes\n\
             # with every payment, and an old copy of it would lose it.\n\
             {}\n",
            name(self.network),
            self.node.node_id(),
            self.seed
        );
        for channel in self.node.list_channels() {
            let funding = channel.funding_txo.map(|outpoint| outpoint.to_string());
            text += &format!(
                "# channel with {}, {} sat, {}\n",
                channel.counterparty_node_id,
                channel.channel_value_sats,
                funding.unwrap_or_default()
            );
        }
        let shown = order.path.display();
        write_new(&order.path, &text).map_err(|e| Refusal::unable(format!("{shown}: {e}")))?;
        Ok(json!({"path": order.path}))
    }
}

fn hash(by: &ByHash) -> Result<Hash, Refusal> {
    from_hex(&by.payment_hash).ok_or_else(|| Refusal::params("payment_hash is not 64 hex digits"))
}
