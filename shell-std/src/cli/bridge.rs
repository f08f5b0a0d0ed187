//! `bitcoin`: Bitcoin connections over the mesh.

use super::answer::{lines, table};
use super::global::Global;
use super::{Answer, Failure};
use crate::date;
use crate::rpc::Request;
use crate::rpc::types::{
    BitcoinBridge, BridgedConnection, BridgedMessages, HeaderChain, MessageCount,
};
use clap::Args;
use std::collections::BTreeMap;

/// List the connections of Bitcoin nodes over the mesh, and what has passed on them.
///
/// A node with bitcoin.node is a gateway to that Bitcoin node; one with bitcoin.listen takes a
/// Bitcoin node's connections there and leads them to a gateway.
///
/// Exit code 1: there are none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh bitcoin
  blvm-mesh bitcoin --messages
  blvm-mesh bitcoin --json")]
pub(super) struct Bitcoin {
    /// Show the messages of each connection by command.
    #[arg(long)]
    messages: bool,
}

impl Bitcoin {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let bridge: BitcoinBridge = match global.ask(&Request::GetBitcoin) {
            Ok(bridge) => bridge,
            Err(e) => return e.answer(),
        };
        let listens = match bridge.listen.is_empty() {
            true => "none".into(),
            false => bridge.listen.join(", "),
        };
        let ends = lines([
            ("Bitcoin node for others", bridge.node.clone().unwrap_or_else(|| "none".into())),
            ("listens for Bitcoin nodes", listens),
            ("newest block", bridge.headers.as_ref().map_or("no headers are kept".into(), newest)),
        ]);
        let rows: Vec<_> = bridge.connections.iter().map(row).collect();
        let heading =
            ["peer", "role", "age s", "rtt ms", "sent", "received", "height", "again", "held back"];
        if rows.is_empty() {
            return Answer::no(&bridge, format!("{ends}no connections"));
        }
        let mut parts = vec![ends, table(heading, &rows)];
        if self.messages {
            parts.extend(bridge.connections.iter().map(by_command));
        }
        Answer::yes(&bridge, parts.join("\n"))
    }
}

/// The newest block of the checked chain.
fn newest(chain: &HeaderChain) -> String {
    let HeaderChain { height, hash, time_unix, .. } = chain;
    let dated = time_unix.map_or(String::new(), |at| format!(" of {}", date::date(at.into())));
    format!("{height}{dated}, {hash}")
}

/// The height of the chain at the other end, as far as it was told.
fn height(messages: &BridgedMessages) -> String {
    match (messages.height, messages.announced) {
        (None, _) => String::new(),
        (Some(height), 0) => height.to_string(),
        (Some(height), more) => format!("{height}+{more}"),
    }
}

fn row(connection: &BridgedConnection) -> [String; 9] {
    let held: u64 = connection.held_back.values().map(|count| count.messages).sum();
    [
        connection.peer.hop().to_string(),
        if connection.gateway { "client" } else { "gateway" }.into(),
        (connection.age_ms / 1000).to_string(),
        connection.round_trip_us.map_or(String::new(), |us| format!("{:.1}", us as f64 / 1000.0)),
        connection.sent.total.bytes.to_string(),
        connection.received.total.bytes.to_string(),
        height(&connection.received),
        connection.repeated.to_string(),
        held.to_string(),
    ]
}

fn by_command(connection: &BridgedConnection) -> String {
    let mut rows = Vec::new();
    let mut add = |way: &str, counts: &BTreeMap<String, MessageCount>| {
        rows.extend(counts.iter().map(|(command, count)| {
            [way.into(), command.clone(), count.messages.to_string(), count.bytes.to_string()]
        }));
    };
    add("sent", &connection.sent.by_command);
    add("received", &connection.received.by_command);
    add("held back", &connection.held_back);
    add("unknown", &connection.unknown);
    let rows = table(["", "message", "count", "bytes"], &rows);
    format!("{}:\n{rows}", connection.peer.hop())
}
