//! Fuzz bodies of what the daemon reads: JSON-RPC, configuration, and messages of
//! the load generator. See the module `fuzz` of `blvm-mesh-tests`.

use crate::address::{PeerAddress, Place, SerialLine};
use crate::bench::message::{Kind, Message, Protocol};
use crate::config::{Sources, parse_file};
use crate::rpc::request::{Reply, Request};
use crate::rpc::{Handler, RpcError, server};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Reads every request that comes as it would be written again.
struct Checks {
    asked: AtomicBool,
}

impl Handler for Checks {
    async fn handle(&self, request: Request) -> Result<Reply, RpcError> {
        self.asked.store(true, Relaxed);
        let (method, params) = request.to_parts();
        assert_eq!(Request::parse(method, Some(params)), Ok(request));
        Ok(Reply::GetPeers(Vec::new()))
    }
}

/// A line as it comes over the socket: one answer, as JSON-RPC 2.0 has it. Says
/// whether a request got through.
pub fn rpc(data: &[u8]) -> bool {
    let handler = Checks { asked: AtomicBool::new(false) };
    let answer = smol::block_on(server::answer(data, &handler));
    let line = serde_json::from_slice::<Value>(data);
    if let Some(answer) = &answer {
        assert_eq!(answer.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(answer.last(), Some(&b'\n'));
        let answer: Value = serde_json::from_slice(answer).expect("JSON");
        match (&answer, &line) {
            (Value::Array(answers), Ok(Value::Array(requests))) => {
                assert!((1..=requests.len()).contains(&answers.len()));
                answers.iter().for_each(check_answer);
            }
            (answer, Ok(_)) => check_answer(answer),
            (answer, Err(_)) => {
                check_answer(answer);
                assert_eq!(answer["error"]["code"], RpcError::PARSE);
            }
        }
    }
    handler.asked.into_inner()
}

fn check_answer(answer: &Value) {
    let answer = answer.as_object().expect("an object");
    assert_eq!(answer["jsonrpc"], "2.0");
    assert!(matches!(answer["id"], Value::Null | Value::String(_) | Value::Number(_)));
    assert_eq!(answer.len(), 3, "the result or an error");
    if let Some(error) = answer.get("error") {
        assert!(error["code"].is_i64() && error["message"].as_str().is_some_and(|m| !m.is_empty()));
    } else {
        assert!(answer.contains_key("result"));
    }
}

/// A configuration file: what is accepted can be run with, what is not has its
/// reason.
pub fn config(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let sources = Sources { home: Some("/home/me".into()), ..Sources::default() };
    let loaded = parse_file(Path::new("mesh.toml"), &text)
        .and_then(|table| sources.settings(table, Ok("/data".into())));
    let settings = match loaded {
        Ok(settings) => settings,
        Err(error) => {
            assert!(!error.to_string().trim().is_empty());
            return false;
        }
    };
    let keys: BTreeSet<_> = settings.peers.iter().map(|peer| peer.public_key).collect();
    assert_eq!(keys.len(), settings.peers.len());
    for peer in &settings.peers {
        assert_eq!(peer.to_string().parse(), Ok::<PeerAddress, _>(peer.clone()));
        assert!(!matches!(&peer.place, Place::Tcp(at) if at.port == 0));
    }
    let dialed = settings.peers.iter().filter_map(|peer| match &peer.place {
        Place::Tcp(_) => None,
        Place::Line(line) => Some(line),
    });
    let lines: Vec<_> = settings.listen_lines.iter().chain(dialed).collect();
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(&line.to_string().parse::<SerialLine>(), &Ok((*line).clone()));
        assert!(lines.iter().skip(i + 1).all(|other| !other.is_same(line)));
    }
    let c = settings.config.capacities;
    assert!(c.seen.is_power_of_two());
    let all = [
        c.neighbours,
        c.routes,
        c.route_hints,
        c.relayed_requests,
        c.flows,
        c.accounts,
        c.tickets,
        c.searches,
        c.payments,
        c.parked,
    ];
    assert!(all.iter().all(|room| *room > 0));
    assert!((1..=64).contains(&settings.shell.threads));
    assert!(settings.shell.queue_bytes >= settings.config.max_packet as usize);
    true
}

/// A payload at a sink: what is taken for a message of the load generator is
/// written again as it was.
pub fn bench(data: &[u8]) -> bool {
    let Some((message, protocol)) = Message::parse(data) else { return false };
    let written = message.blocks();
    let written = written.as_flattened();
    let len = if matches!(message.kind, Kind::Report { .. }) { 48 } else { 32 };
    if protocol == Protocol::Raw {
        assert_eq!(&data[..len], &written[..len]);
    }
    true
}

#[cfg(test)]
mod tests {
    use blvm_mesh_tests::fuzz::Target;
    use blvm_mesh_tests::fuzz::corpus::{run, shown};
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    fn over_seeds_and_any_bytes(name: &str, body: Target) {
        run(name, body);
        TestRunner::new(ProptestConfig::with_cases(256))
            .run(&prop::collection::vec(any::<u8>(), 0..400), |bytes| {
                shown(name, body, &bytes);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    #[test]
    fn rpc() {
        over_seeds_and_any_bytes("rpc", super::rpc);
    }

    #[test]
    fn config() {
        over_seeds_and_any_bytes("config", super::config);
    }

    #[test]
    fn bench() {
        over_seeds_and_any_bytes("bench", super::bench);
    }
}
