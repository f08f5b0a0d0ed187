//! `events`: what happens at the running node.

use super::global::Global;
use super::{Answer, Failure};
use crate::date;
use crate::rpc::client::ClientError;
use crate::rpc::events::Cursor;
use crate::rpc::types::{MeshEvent, Missed, MissedBecause, Subscribe, Topic};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write};

/// Print what happens at the running node, a line for each event, until interrupted.
///
/// With --json the lines are the answer to the subscription, and then one object for each event;
/// each has the cursor with which --since goes on behind it. What was missed is said. Datagrams are
/// announced and not taken: `recv` fetches them. Exit code 2: the node has stopped, or does not run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh events
  blvm-mesh events peers payments
  blvm-mesh events deliveries --json --since 5f0c9d2e81b3a647-12.0.3.1.0")]
pub(super) struct Events {
    /// What to print: all topics where none is named.
    #[arg(value_name = "TOPIC",
          value_parser = PossibleValuesParser::new(Topic::ALL.map(Topic::name))
              .try_map(|name| name.parse::<Topic>()))]
    topics: Vec<Topic>,
    /// Go on behind the event that had this cursor, in place of with what happens from now on.
    #[arg(long, value_name = "CURSOR")]
    since: Option<Cursor>,
}

impl Events {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let Self { topics, since: cursor } = self;
        let mut client = match global.client() {
            Ok(client) => client,
            Err(e) => return e.answer(),
        };
        let begun = match client.subscribe(Subscribe { topics, cursor }) {
            Ok(begun) => begun,
            Err(e) => return Answer::refused(e),
        };
        let missed = begun.missed.as_ref().map(missed).unwrap_or_default();
        if !print(global.json, &begun, &missed)? {
            return Ok(Answer::printed(true));
        }
        let mut last = begun.cursor;
        loop {
            let event = match client.event() {
                Ok(event) => event,
                Err(e @ ClientError::Ended(_)) => {
                    return Err(Failure(format!("{e}: --since {last}")));
                }
                Err(e) => return Answer::refused(e),
            };
            if !print(global.json, &event, &in_words(&event)?)? {
                return Ok(Answer::printed(true));
            }
            last = event.cursor;
        }
    }
}

/// Prints a line, unless it is empty; false: whoever closed the pipe has seen enough.
fn print(json: bool, what: &impl Serialize, text: &str) -> Result<bool, Failure> {
    let line = if json { serde_json::to_string(what)? } else { text.to_owned() };
    if line.is_empty() {
        return Ok(true);
    }
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

fn missed(missed: &Missed) -> String {
    let Missed { reason, events } = missed;
    match reason {
        MissedBecause::Dropped => format!(
            "missed: {events} events since that cursor are not kept any more (limits.events)"
        ),
        MissedBecause::Restarted => format!(
            "missed: the node was restarted since that cursor; what came before in the run before, \
             and {events} events of this run, is not kept. All that is follows"
        ),
    }
}

/// When it was, and all its fields.
fn in_words(event: &MeshEvent) -> Result<String, Failure> {
    let Value::Object(mut fields) = serde_json::to_value(&event.event)? else {
        return Ok(String::new());
    };
    let kind = fields.remove("type").unwrap_or_default();
    let mut text = format!(
        "{} {} {}",
        date::date(event.time_ms / 1_000),
        event.topic.name(),
        kind.as_str().unwrap_or_default()
    );
    for (name, value) in fields {
        match value {
            Value::String(word) if !word.contains([' ', '"']) => {
                text.push_str(&format!(" {name}={word}"));
            }
            value => text.push_str(&format!(" {name}={value}")),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::types::Happened;
    use blvm_mesh_core::id::{HopId, NodeId};

    #[test]
    fn an_event_is_a_line() {
        let cursor = "00000000000000ff-0.0.0.0.3".parse().unwrap();
        let event = |topic, event| MeshEvent {
            subscription: 1,
            cursor,
            time_ms: 1_750_000_000_999,
            topic,
            event,
        };
        let up = Happened::PeerUp {
            node: NodeId([5; 32]),
            address: "127.0.0.1:8338".into(),
            dialed: true,
        };
        let line = in_words(&event(Topic::Peers, up)).unwrap();
        let node = "05".repeat(32);
        assert_eq!(
            line,
            format!(
                "2025-06-15T15:06:40Z peers peer_up address=127.0.0.1:8338 dialed=true node={node}"
            )
        );
        let cause = "it said \"no\"".into();
        let failed = Happened::PurchaseFailed { node: HopId([6; 8]), cause };
        let line = in_words(&event(Topic::Payments, failed)).unwrap();
        assert!(line.contains(r#" cause="it said \"no\"" node=0606"#), "{line}");
        let restarted = Missed { reason: MissedBecause::Restarted, events: 5 };
        assert!(missed(&restarted).contains("restarted since that cursor"));
    }
}
