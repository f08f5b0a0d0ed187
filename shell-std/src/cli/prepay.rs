//! `prepay`: bytes for flows, bought before one needs them.

use super::answer::{lines, table};
use super::destination::Destination;
use super::global::{Global, msat};
use super::input::{Bytes, bytes, fixed};
use super::traffic::fate;
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{
    self, AccountsQuote, BoughtAt, CovenantProof, LightningProof, Outcome, Prepaid, Proof,
    QuoteAccounts,
};
use clap::Args;

/// Buy bytes for flows at every relay of a route, before a flow needs them.
///
/// The wallet pays an invoice of each relay; or, where all of them accept the same issuer or a
/// covenant, one payment pays them all: --quote says what it must commit to, and its proof is shown
/// with --invoice and --preimage, or --covenant. It can be shown again where that failed, and counts
/// once. What was bought stays there and serves all flows of this node. Exit code 0: every
/// relay that charges has credited it. 1: one has not, and why. 3: no receipt came.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh prepay $NODE 10000000
  blvm-mesh prepay $NODE 10000000 --quote
  blvm-mesh prepay $NODE 10000000 --invoice lnbc... --preimage 00ff...")]
pub(super) struct Prepay {
    /// Where the flows are to lead: identity or its first digits, public key, or PUBKEY@HOST:PORT.
    destination: Destination,
    /// Bytes to buy at each relay.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    bytes: u64,
    /// Only say what one payment for all relays costs, and what it must commit to.
    #[arg(long)]
    quote: bool,
    /// A paid invoice for all relays.
    #[arg(long, requires = "preimage", conflicts_with = "quote")]
    invoice: Option<String>,
    /// The invoice's preimage, in hex.
    #[arg(long, requires = "invoice", value_parser = fixed::<32>)]
    preimage: Option<[u8; 32]>,
    /// A covenant proof for all relays, in hex.
    #[arg(long, value_name = "HEX", value_parser = bytes, conflicts_with_all = ["invoice", "quote"])]
    covenant: Option<Bytes>,
    /// How long to wait at most for the receipt of a proof.
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    wait_ms: u64,
}

impl Prepay {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let destination = match self.destination.resolve(global) {
            Ok(destination) => destination,
            Err(e) => return e.answer(),
        };
        let (bytes, wait_ms) = (self.bytes, self.wait_ms);
        if self.quote {
            let asked = Request::QuoteAccounts(QuoteAccounts { destination, bytes });
            return match global.ask::<AccountsQuote>(&asked) {
                Ok(quote) => Answer::yes(&quote, quoted(&quote)),
                Err(e) => e.answer(),
            };
        }
        let proof = match (self.invoice, self.preimage, self.covenant) {
            (Some(invoice), Some(preimage), _) => {
                Some(Proof::Lightning(LightningProof { invoice, preimage }))
            }
            (_, _, Some(Bytes(covenant))) => Some(Proof::Covenant(CovenantProof { covenant })),
            _ => None,
        };
        let asked = Request::Prepay(types::Prepay { destination, bytes, proof, wait_ms });
        let prepaid: Prepaid = match global.ask(&asked) {
            Ok(prepaid) => prepaid,
            Err(e) => return e.answer(),
        };
        if let Some(shown) = &prepaid.shown {
            let text = format!("proof for accounts: {}", fate(shown, wait_ms));
            return match shown.outcome {
                Outcome::Delivered => Answer::yes(&prepaid, text),
                Outcome::Refused => Answer::no(&prepaid, text),
                Outcome::Sent | Outcome::Unknown => Answer::unknown(&prepaid, text),
            };
        }
        let text = bought(&prepaid.bought);
        match prepaid.bought.iter().all(|at| at.reason.is_none()) {
            true => Answer::yes(&prepaid, text),
            false => Answer::no(&prepaid, text),
        }
    }
}

fn quoted(quote: &AccountsQuote) -> String {
    let taken = match quote.taken {
        Some(true) => "yes, all nodes on the route".into(),
        Some(false) => "no: not all nodes on the route".to_owned(),
        None => "not known: the route has not told it".into(),
    };
    let issuers = quote.accepts.as_ref().map(|accepts| match accepts.any_issuer {
        true => "any".into(),
        false if accepts.issuers.is_empty() => "none that all relays accept".to_owned(),
        false => accepts.issuers.join(", "),
    });
    lines([
        ("destination", quote.destination.to_string()),
        ("relays", super::report::hops(&quote.hops)),
        ("bytes", quote.bytes.to_string()),
        ("amount", msat(quote.amount_msat)),
        ("each relay", msat(quote.part_msat)),
        ("terms hash", hex::encode(quote.terms_hash)),
        ("or description", quote.description.clone()),
        ("issuers", issuers.unwrap_or_else(|| "not known".into())),
        ("taken", taken),
        ("largest packet", format!("{} bytes, header and proof included", quote.min_packet)),
    ])
}

fn bought(bought: &[BoughtAt]) -> String {
    let row = |at: &BoughtAt| {
        let left = at.left.map_or_else(|| "-".to_owned(), |left| left.to_string());
        let reason = at.reason.clone().unwrap_or_default();
        [at.node.to_string(), at.bytes.to_string(), msat(at.amount_msat), left, reason]
    };
    let rows: Vec<_> = bought.iter().map(row).collect();
    table(["RELAY", "BYTES", "PAID", "LEFT", "NOT BOUGHT BECAUSE"], &rows)
}
