//! `quote` and `issuer`: what a route costs, and invoices for trials.

use super::answer::{lines, table};
use super::destination::Destination;
use super::global::{Global, msat};
use super::input::fixed;
use super::{Answer, Failure};
use crate::config::parse_network;
use crate::date::{parse, time};
use crate::issuer::{self, DEFAULT_EXPIRY, ISSUER_FILE, Order, unix_now};
use crate::rpc::Request;
use crate::rpc::target::Target;
use crate::rpc::types::{
    self, CreditedBytes, HopInvoice, QuoteRoute, RequestHopInvoice, ShowPreimage,
};
use blvm_mesh_core::id::Network;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Show what sending data to a node costs, and what the invoice must commit to.
///
/// The answer in JSON is what `verify-proof --terms` and `issuer --terms` read.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh quote $NODE 4096
  blvm-mesh quote $NODE 4096 --json > terms.json
  blvm-mesh quote $NODE 4096 --invoice      (regtest, with issuer_key configured)")]
pub(super) struct Quote {
    /// To whom: identity or its first digits, public key, or PUBKEY@HOST:PORT.
    destination: Destination,
    /// Bytes of data to pay for.
    bytes: u64,
    /// Have the node's own Lightning node or regtest issuer write the invoice as well.
    #[arg(long)]
    invoice: bool,
    /// Seconds until that invoice expires.
    #[arg(long, value_name = "SECONDS", requires = "invoice")]
    expiry: Option<u64>,
    /// Have this node of the route write it instead, by its own issuer, for bytes of flows there:
    /// its identity, or the short form of that.
    #[arg(long, value_name = "NODE", requires = "invoice", conflicts_with = "expiry")]
    hop: Option<String>,
}

/// Show a node of a route that its invoice was paid, so that it credits the bytes.
///
/// The invoice is that of `quote --invoice --hop`, paid by any wallet. The node's flows draw from
/// what was bought. It can be shown again until the invoice has expired: it counts once. Exit code
/// 1: it was not credited, and why.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh quote $NODE 1000000 --invoice --hop 3f9c0b7de2a15588 --json > bought.json
  blvm-mesh credit $NODE $PROMISE $PREIMAGE")]
pub(super) struct Credit {
    /// The node that was paid, by its full identity.
    node: Target,
    /// Its promise, as it stands with the invoice.
    #[arg(value_parser = fixed::<49>)]
    promise: [u8; 49],
    /// What paying revealed, in hex.
    #[arg(value_parser = fixed::<32>)]
    preimage: [u8; 32],
}

impl Credit {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let Self { node, promise, preimage } = self;
        let request = Request::ShowPreimage(ShowPreimage { node: node.0, promise, preimage });
        match global.ask::<CreditedBytes>(&request) {
            Ok(credited) => {
                let CreditedBytes { node, bytes, left } = credited;
                let text = format!("{node} has credited {bytes} bytes; {left} are there now");
                Answer::yes(&credited, text)
            }
            Err(e) => e.answer(),
        }
    }
}

/// Sign an invoice that commits to terms, and give its preimage out, for trials.
///
/// On regtest only: whoever asks counts as having paid. Without --terms it shows the
/// issuer's key, which relays name in `issuers`; the key is made where there is none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh issuer
  blvm-mesh issuer --terms terms.json
  blvm-mesh issuer --terms 5e1c...d3 --amount-msat 12000")]
pub(super) struct Issuer {
    /// What it is for: a terms hash (64 hex digits), or a file with the answer of
    /// `quote --json`.
    #[arg(long, value_name = "HASH|FILE")]
    terms: Option<String>,
    /// Amount. [default: that of the quote]
    #[arg(long, value_name = "MSAT", requires = "terms")]
    amount_msat: Option<u64>,
    /// Seconds until it expires.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_EXPIRY)]
    expiry: u64,
    /// When it is written: seconds since 1970, or as 2026-01-31T12:00:00Z. [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse)]
    at: Option<u64>,
    /// Network of the invoice; only regtest is signed.
    #[arg(long, value_parser = parse_network, default_value = "regtest")]
    network: Network,
    /// Commit in the description's text instead of the description hash.
    #[arg(long)]
    as_text: bool,
    /// Key file. [default: issuer.key in the data directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Quote {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let Self { destination, bytes, invoice, expiry, hop } = self;
        let destination = match destination.resolve(global) {
            Ok(destination) => destination,
            Err(e) => return e.answer(),
        };
        if invoice {
            let request =
                RequestHopInvoice { destination, bytes, hop, amount_msat: None, expiry_s: expiry };
            let written: HopInvoice = match global.ask(&Request::RequestHopInvoice(request)) {
                Ok(written) => written,
                Err(e) => return e.answer(),
            };
            if let Some(bought) = &written.purchase {
                let text = lines([
                    ("node", bought.node.to_string()),
                    ("bytes", bought.bytes.to_string()),
                    ("amount", msat(bought.amount_msat)),
                    ("invoice", written.invoice.clone()),
                    ("promise", hex::encode(bought.promise)),
                    ("expires at", time(written.expires_at)),
                    ("when paid", format!("blvm-mesh credit {} PROMISE PREIMAGE", bought.node)),
                ]);
                return Answer::yes(&written, text);
            }
            let text = written.quote.as_ref().map_or_else(String::new, text)
                + &lines([
                    ("invoice", written.invoice.clone()),
                    ("preimage", preimage(written.preimage)),
                    ("expires at", time(written.expires_at)),
                ]);
            return Answer::yes(&written, text);
        }
        match global.ask::<types::Quote>(&Request::QuoteRoute(QuoteRoute { destination, bytes })) {
            Ok(quote) => Answer::yes(&quote, text(&quote)),
            Err(e) => e.answer(),
        }
    }
}

fn text(quote: &types::Quote) -> String {
    let mut text = lines([
        ("destination", quote.destination.to_string()),
        ("hops", super::report::hops(&quote.hops)),
        ("bytes", quote.bytes.to_string()),
        ("amount", msat(quote.amount_msat)),
        ("terms hash", hex::encode(quote.terms_hash)),
        ("or description", quote.description.clone()),
        ("most data", format!("{} bytes in one packet", quote.most_bytes)),
        ("largest packet", format!("{} bytes, header and proof included", quote.min_packet)),
        ("or covenant", covenant(quote)),
    ]);
    for share in &quote.shares {
        let role = share.role.name();
        let (asks, gets) = (msat(share.price_msat), msat(share.share_msat));
        let issuers = issuers(share, quote.accepts.is_some());
        text.push_str(&format!("{role} {} asks {asks}, gets {gets}{issuers}\n", share.node));
    }
    text.push_str(&super::payable::whom_to_pay(quote));
    if !quote.per_hop.is_empty() {
        text.push_str(
            "or pay each node for itself (`send --pay`; `quote --invoice --hop NODE`):\n",
        );
        text.push_str(&per_hop(&quote.per_hop));
    }
    text
}

/// What a flow buys at each node of its route, as a table.
pub(super) fn per_hop(hops: &[types::HopPrice]) -> String {
    let row = |hop: &types::HopPrice| {
        [
            hop.node.to_string(),
            hop.bytes.to_string(),
            msat(hop.amount_msat),
            hop.at_hand.to_string(),
        ]
    };
    table(["node", "bytes", "amount", "bought before"], &hops.iter().map(row).collect::<Vec<_>>())
}

fn preimage(preimage: Option<[u8; 32]>) -> String {
    preimage.map_or_else(|| "pay the invoice to learn it".into(), hex::encode)
}

fn covenant(quote: &types::Quote) -> String {
    let Some(types::CovenantCost { fund_sat, min_confirmations }) = quote.covenant else {
        return match &quote.accepts {
            Some(accepts) if accepts.min_confirmations.is_none() => {
                "no: not every node on this route accepts covenants".into()
            }
            _ => "no".into(),
        };
    };
    let of = match &quote.accepts {
        Some(_) => "for every node on this route",
        None => "for this node; others may ask for more",
    };
    format!(
        "{fund_sat} sat at least (no output may be dust), with {min_confirmations} confirmations \
         {of}"
    )
}

/// Whose invoices a party accepts, in words, behind what it asks and gets.
fn issuers(share: &types::Share, told: bool) -> String {
    match &share.issuers {
        None if share.role == types::Role::Source => "; it checks no payments (mode open)".into(),
        None if told => String::new(),
        None => "; its issuers are not known here: ask its operator".into(),
        Some(keys) if keys.is_empty() => "; accepts no invoices".into(),
        Some(keys) => {
            let keys: Vec<String> = keys.iter().map(hex::encode).collect();
            format!("; accepts invoices of {}", keys.join(", "))
        }
    }
}

impl Issuer {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let path = match self.key {
            Some(path) => path,
            None => global.settings(Vec::new())?.data_dir.join(ISSUER_FILE),
        };
        // Before a key is made for nothing.
        if self.network != Network::Regtest {
            return Err(issuer::IssuerError::Network(self.network).into());
        }
        let terms = self.terms.as_deref().map(Terms::read).transpose()?;
        let issuer = issuer::Issuer::load_or_create(&path)?;
        let Some(terms) = terms else {
            let key = issuer.public_key().to_string();
            let json = json!({"issuer": key, "file": path.display().to_string()});
            return Answer::yes(
                json,
                lines([("issuer", key), ("file", path.display().to_string())]),
            );
        };
        let amount = self.amount_msat.or(terms.amount_msat);
        let amount_msat =
            amount.ok_or_else(|| Failure("give the amount with --amount-msat".into()))?;
        let order = Order {
            network: self.network,
            terms_hash: terms.terms_hash,
            amount_msat,
            expiry_s: self.expiry,
            timestamp: self.at.unwrap_or_else(unix_now),
            as_text: self.as_text,
        };
        let issued = issuer.invoice(&order)?;
        let json = json!({
            "invoice": issued.invoice,
            "preimage": issued.preimage.map(hex::encode),
            "payment_hash": hex::encode(issued.payment_hash),
            "issuer": issued.issuer.to_string(),
            "amount_msat": amount_msat,
            "expires_at": issued.expires_at,
        });
        let text = lines([
            ("invoice", issued.invoice),
            ("preimage", preimage(issued.preimage)),
            ("payment hash", hex::encode(issued.payment_hash)),
            ("issuer", issued.issuer.to_string()),
            ("amount", msat(amount_msat)),
            ("expires at", time(issued.expires_at)),
        ]);
        Answer::yes(json, text)
    }
}

/// What is paid for, as `--terms` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// The commitment.
    pub(super) terms_hash: [u8; 32],
    /// The amount, where a quote says it.
    pub(super) amount_msat: Option<u64>,
}

impl Terms {
    /// Reads a hash, or a file with a hash or a quote in it.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        if let Ok(terms_hash) = fixed(text) {
            return Ok(Self { terms_hash, amount_msat: None });
        }
        let content = std::fs::read_to_string(text).map_err(|e| {
            Failure(format!(
                "--terms {text}: neither 64 hex digits nor a file that can be read: {e}"
            ))
        })?;
        Self::parse(&content).map_err(|e| Failure(format!("--terms {text}: {e}")))
    }

    fn parse(content: &str) -> Result<Self, String> {
        if let Ok(terms_hash) = fixed(content.trim()) {
            return Ok(Self { terms_hash, amount_msat: None });
        }
        let quote = Self::parse_quote(content)?;
        Ok(Self { terms_hash: quote.terms_hash, amount_msat: Some(quote.amount_msat) })
    }

    /// Reads a file with a quote in it.
    pub(super) fn read_quote(path: &Path) -> Result<types::Quote, Failure> {
        let name = path.display();
        let content =
            std::fs::read_to_string(path).map_err(|e| Failure(format!("--terms {name}: {e}")))?;
        Self::parse_quote(&content).map_err(|e| Failure(format!("--terms {name}: {e}")))
    }

    /// A quote's hash is computed from its terms; the one that it says must agree.
    fn parse_quote(content: &str) -> Result<types::Quote, String> {
        let wrong = |e| format!("this is not the answer of `quote --json`: {e}");
        let quote: types::Quote = serde_json::from_str(content).map_err(wrong)?;
        let terms_hash = blvm_mesh_core::payment::terms::Terms {
            network: quote.network,
            source: quote.source,
            destination: quote.destination,
            hops: &quote.hops,
            quota: quote.bytes,
        }
        .hash();
        match terms_hash == quote.terms_hash {
            true => Ok(quote),
            false => Err("its terms_hash is not that of its other fields".into()),
        }
    }
}
