//! `tx`: Bitcoin transactions through the mesh.

use super::answer::{lines, table};
use super::global::Global;
use super::{Answer, Failure};
use crate::date;
use crate::rpc::Request;
use crate::rpc::types::{
    GetTransactions, SendTransaction, SentTransaction, TransactionState, TransactionWait,
};
use clap::{Args, Subcommand};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// Send Bitcoin transactions through a gateway of the mesh, and see what became of them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh tx send signed.hex
  blvm-mesh tx status")]
pub(super) struct Tx {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Send(Send),
    Status(Status),
}

/// Send a signed transaction.
///
/// It is checked, kept, and handed to a gateway, whose Bitcoin node takes or refuses it; without
/// an answer it is handed over again, to another gateway where there is one, over restarts of the
/// node too. Exit code 0: what was waited for has come. 1: it was refused, and why. 3: it is still
/// on its way (`tx status`).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh tx send 0200000001...
  blvm-mesh tx send signed.hex --wait confirmed --wait-ms 600000
  bitcoin-cli signrawtransactionwithwallet $TX | jq -r .hex | blvm-mesh tx send -")]
struct Send {
    /// The transaction in hex, or a file with it; `-`: standard input.
    transaction: String,
    /// What to wait for.
    #[arg(long, value_enum, default_value_t = TransactionWait::Accepted)]
    wait: TransactionWait,
    /// How long to wait at most.
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    wait_ms: u64,
}

/// List the transactions that were sent from here.
///
/// Exit code 1: there are none, or the one that is asked for was refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh tx status
  blvm-mesh tx status 4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")]
struct Status {
    /// Only this one.
    txid: Option<String>,
}

/// Longest wait in one piece.
const PART: Duration = Duration::from_secs(30);

/// Longest file that is read.
const MOST: u64 = 16 * 1024 * 1024;

/// The hex that is meant: itself, or that in a file.
fn hex_of(given: String) -> Result<String, Failure> {
    let is_hex = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && !Path::new(&given).exists() {
        return Ok(given);
    }
    let mut text = String::new();
    let read = match given.as_str() {
        "-" => std::io::stdin().lock().take(MOST).read_to_string(&mut text),
        path => {
            std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text))
        }
    };
    let wrong = |e: std::io::Error| {
        Failure(format!("{given} is neither a transaction in hex nor a file that can be read: {e}"))
    };
    read.map_err(wrong)?;
    Ok(text.trim().to_owned())
}

impl Tx {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        match self.command {
            Command::Send(send) => send.run(global),
            Command::Status(status) => status.run(global),
        }
    }
}

impl Send {
    fn run(self, global: &Global) -> Result<Answer, Failure> {
        let Self { transaction, wait, wait_ms } = self;
        let tx_hex = hex_of(transaction)?;
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let mut shown = None;
        let sent = loop {
            // A long wait is cut, to show what has come.
            let left = until.saturating_duration_since(Instant::now());
            let part = u64::try_from(left.min(PART).as_millis()).unwrap_or(u64::MAX);
            let step = match (wait, &shown) {
                (TransactionWait::Confirmed, None | Some((TransactionState::Waiting, _))) => {
                    TransactionWait::Accepted
                }
                _ => wait,
            };
            let asked = SendTransaction { tx_hex: tx_hex.clone(), wait: step, wait_ms: part };
            let sent: SentTransaction = match global.ask(&Request::SendTransaction(asked)) {
                Ok(sent) => sent,
                Err(e) => return e.answer(),
            };
            if has_come(&sent, wait) || Instant::now() >= until {
                break sent;
            }
            let now = (sent.state, sent.reason.clone());
            if shown.as_ref() != Some(&now) {
                let reason = sent.reason.iter().map(|reason| format!(" ({reason})"));
                let reason: String = reason.collect();
                eprintln!("{}: {}{reason}", word(sent.state), meaning(sent.state));
                shown = Some(now);
            }
        };
        let text = details(&sent);
        match has_come(&sent, wait) {
            _ if sent.state == TransactionState::Rejected => Answer::no(&sent, text),
            true => Answer::yes(&sent, text),
            false => Answer::unknown(&sent, text),
        }
    }
}

/// Whether what is waited for has come, or cannot come any more.
fn has_come(sent: &SentTransaction, wait: TransactionWait) -> bool {
    match (wait, sent.state) {
        (TransactionWait::Kept, _) => true,
        (_, TransactionState::Rejected | TransactionState::Confirmed) => true,
        (TransactionWait::Accepted, state) => state == TransactionState::Accepted,
        (TransactionWait::Confirmed, _) => false,
    }
}

impl Status {
    fn run(self, global: &Global) -> Result<Answer, Failure> {
        let one = self.txid.is_some();
        let asked = GetTransactions { txid: self.txid };
        let sent: Vec<SentTransaction> = match global.ask(&Request::GetTransactions(asked)) {
            Ok(sent) => sent,
            Err(e) => return e.answer(),
        };
        match sent.as_slice() {
            [] if one => Answer::no(&sent, "no such transaction was sent from here"),
            [] => Answer::no(&sent, "no transaction was sent from here"),
            [only] if one && only.state == TransactionState::Rejected => {
                Answer::no(&sent, details(only))
            }
            [only] if one => Answer::yes(&sent, details(only)),
            all => {
                let rows: Vec<_> = all.iter().map(row).collect();
                Answer::yes(&sent, table(["txid", "state", "since", "tried", ""], &rows))
            }
        }
    }
}

fn word(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Waiting => "waiting",
        TransactionState::Accepted => "accepted",
        TransactionState::Rejected => "rejected",
        TransactionState::Confirmed => "confirmed",
    }
}

fn meaning(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Waiting => "no gateway has answered yet; it is handed over again",
        TransactionState::Accepted => "a gateway says that its Bitcoin node has taken it",
        TransactionState::Rejected => "a gateway says that its Bitcoin node refuses it",
        TransactionState::Confirmed => "it is in a block with proof of work",
    }
}

/// The reason, or the block.
fn more(sent: &SentTransaction) -> String {
    let depth = sent.confirmations.map_or(String::new(), |n| format!(" ({n} deep)"));
    let block = sent.block.as_ref().map(|block| format!("{block}{depth}"));
    sent.reason.clone().or(block).unwrap_or_default()
}

fn row(sent: &SentTransaction) -> [String; 5] {
    [
        sent.txid.clone(),
        word(sent.state).into(),
        date::date(sent.since_unix),
        sent.attempts.to_string(),
        more(sent),
    ]
}

fn details(sent: &SentTransaction) -> String {
    let mut rows = vec![("transaction", sent.txid.clone()), ("state", word(sent.state).into())];
    rows.push(("", meaning(sent.state).into()));
    rows.extend(sent.reason.clone().map(|reason| ("reason", reason)));
    rows.extend(sent.block.clone().map(|block| ("block", block)));
    rows.extend(sent.height.map(|height| ("height", height.to_string())));
    rows.extend(sent.confirmations.map(|n| ("confirmations", n.to_string())));
    rows.extend(sent.gateway.map(|gateway| ("gateway", gateway.to_string())));
    lines(rows)
}
