//! Fuzz bodies of what the daemon reads: JSON-RPC, configuration, invitations, messages of the load
//! generator, bridged connections, beacons, and probes. See the module `fuzz` of `blvm-mesh-tests`.

use crate::address::{LoraAddress, MOST_PLACES, PeerAddress, Place, SerialLine};
use crate::bench::message::{Kind, Message, Protocol};
use crate::bridge::channel::Channel;
use crate::bridge::control::{self, Control, Flags};
use crate::bridge::table::Table;
use crate::bridge::transaction::{self, Said};
use crate::bridge::{headers, lists, message};
use crate::config::{Sources, parse_file};
use crate::invitation::Invitation;
use crate::lan::beacon::Beacon;
use crate::lan::candidates::{Candidates, Dial, Heard, MOST, MOST_DIALLED};
use crate::probe::{self, Limits};
use crate::rpc::request::{Reply, Request};
use crate::rpc::{Connection, Handler, RpcError, server};
use bitcoin::bech32::{self, Bech32m, Hrp};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::policy::DetectedProtocol;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Reads every request that comes as it would be written again.
struct Checks {
    asked: AtomicBool,
}

impl Handler for Checks {
    async fn handle(&self, request: Request, _: &Connection) -> Result<Reply, RpcError> {
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
    let answer = smol::block_on(server::answer(data, &handler, &Connection::default()));
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
        if let Place::Tcp(places) = &peer.place {
            let all = places.as_slice();
            assert!((1..=MOST_PLACES).contains(&all.len()) && all.iter().all(|at| at.port != 0));
        }
    }
    let dialed = settings.peers.iter().filter_map(|peer| match &peer.place {
        Place::Tcp(_) => None,
        Place::Line(line) => Some(line),
    });
    for radio in &settings.radios {
        assert_eq!(radio.to_string().parse(), Ok::<LoraAddress, _>(radio.clone()));
    }
    let radios = settings.radios.iter().map(|radio| &radio.line);
    let lines: Vec<_> = settings.listen_lines.iter().chain(radios).chain(dialed).collect();
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

/// The first byte tells what: 0, an invitation as it is typed; else what is in one, behind its
/// checksum. It has one form, a peer that can be configured, and no more than so many addresses.
pub fn invitation(data: &[u8]) -> bool {
    let text = match data.split_first() {
        Some((0, text)) => String::from_utf8_lossy(text).into_owned(),
        Some((_, bytes)) => {
            bech32::encode::<Bech32m>(Hrp::parse_unchecked("blvmmesh"), bytes).unwrap_or_default()
        }
        None => return false,
    };
    let invitation = match text.parse::<Invitation>() {
        Ok(invitation) => invitation,
        Err(error) => {
            assert!(!error.to_string().trim().is_empty());
            return false;
        }
    };
    assert_eq!(invitation.to_string(), text.trim().to_ascii_lowercase());
    assert!((1..=MOST_PLACES).contains(&invitation.places().len()));
    let peer = invitation.peer();
    assert_eq!(peer.to_string().parse(), Ok::<PeerAddress, _>(peer.clone()));
    let again = Invitation::new(invitation.network(), peer.public_key, invitation.places());
    assert_eq!(again, Ok(invitation));
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

/// What may come to an end of a bridged connection. The first byte tells what: a datagram, which is
/// read as a whole; or steps, of two bytes and more, with a real end and a link that loses, doubles
/// and overtakes on the other side, and a liar beside it who knows the connection's number.
pub fn bridge(data: &[u8]) -> bool {
    match data.split_first() {
        Some((0, datagram)) => datagram_of_a_bridge(datagram),
        Some((_, steps)) => steps_of_a_bridge(steps),
        None => false,
    }
}

/// What comes from a LAN. The first byte tells what: bytes that may be a beacon; or steps, of four
/// bytes each, with the table of those who have sent some, whose bounds hold whatever comes.
pub fn beacon(data: &[u8]) -> bool {
    match data.split_first() {
        Some((0, beacon)) => match Beacon::parse(beacon) {
            Some(read) => {
                assert_eq!(read.bytes(), beacon);
                true
            }
            None => false,
        },
        Some((_, steps)) => steps_of_a_lan(steps),
        None => false,
    }
}

fn steps_of_a_lan(steps: &[u8]) -> bool {
    let key = |byte: u8| {
        let mut key = [byte; 33];
        key[0] = 2;
        key
    };
    let (mut now, network) = (Instant::now(), Network::Regtest);
    let mut all = Candidates::new(network, key(100), true);
    let mut dialled: Vec<Dial> = Vec::new();
    for [named, at, what, time] in steps.as_chunks().0 {
        now += Duration::from_secs(u64::from(*time) / 4);
        let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(*at));
        match what % 4 {
            0 | 1 => {
                let beacon = Beacon { network, listens: what & 1 == 0, port: 1, key: key(*named) };
                let heard = all.heard(now, address, &beacon);
                assert_eq!(heard == Heard::NotMeant, *named == 100);
            }
            2 => {
                while let Some(dial) = all.next(now, |key| key[1] == *named) {
                    assert!(dialled.iter().all(|other| other.who.0 != dial.who.0));
                    dialled.push(dial);
                }
                assert!(dialled.len() <= MOST_DIALLED);
            }
            _ => {
                if let Some(dial) = dialled.pop() {
                    let lasted = (named & 1 == 0).then(|| Duration::from_secs((*at).into()));
                    all.ended(now, &dial.who, lasted);
                }
            }
        }
        assert!(all.len() <= MOST);
    }
    !all.is_empty()
}

/// Network of the bridged connections, and their number.
const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];
const BRIDGED: u64 = 7;

/// What is read is written again as it was, and whoever says anything of a transaction says it in
/// the words that are known.
fn datagram_of_a_bridge(data: &[u8]) -> bool {
    let Some((control, messages)) = Control::read(MAGIC, data) else { return false };
    let mut written = Vec::new();
    control.write(MAGIC, &mut written);
    written.extend_from_slice(messages);
    assert_eq!(Control::read(MAGIC, &written), Some((control.clone(), messages)));
    assert!(message::each(messages).map(<[u8]>::len).sum::<usize>() <= messages.len());
    if let Some(Said::Answer(txid, answer)) = transaction::said(MAGIC, messages, None) {
        let again = transaction::answer(MAGIC, control.id, &txid, &answer);
        let (_, messages) = Control::read(MAGIC, &again).expect("our own");
        assert_eq!(transaction::said(MAGIC, messages, None), Some(Said::Answer(txid, answer)));
    }
    if let Some(headers::Said::Headers(some)) = headers::said(MAGIC, messages) {
        let again = headers::answer(MAGIC, control.id, &some, false, usize::MAX);
        let (_, messages) = Control::read(MAGIC, &again).expect("our own");
        assert_eq!(headers::said(MAGIC, messages), Some(headers::Said::Headers(some)));
    }
    let (table, _arrivals) = Table::new(MAGIC, 2);
    table.take(0, NodeId([1; 32]), NodeId([2; 32]), DetectedProtocol::BitcoinP2P, data);
    assert!(table.list().len() <= 1);
    true
}

/// Two ends hand over what was given, in order and once, as long as no liar speaks; with one no
/// memory is taken beyond the bounds. Whether anything was handed over.
fn steps_of_a_bridge(steps: &[u8]) -> bool {
    let mut ends = [true, false].map(|opens| Channel::new(MAGIC, BRIDGED, opens, 0));
    let (mut given, mut got) = ([0u32; 2], [0u32; 2]);
    let mut flying: [Vec<Vec<u8>>; 2] = [Vec::new(), Vec::new()];
    let (mut now, mut lied) = (1, false);
    for step in steps.chunks(2) {
        let [what, how] = [0, 1].map(|at| step.get(at).copied().unwrap_or_default());
        let (side, how) = (usize::from(what & 1), usize::from(how));
        let other = 1 - side;
        match what >> 1 & 7 {
            0 if ends[side].has_room() => {
                let mut payload = given[side].to_le_bytes().to_vec();
                payload.resize(4 + how * how, 0);
                let mut out = Vec::new();
                message::write(MAGIC, "ping", &payload, &mut out);
                let whole = lists::cut(MAGIC, out, usize::MAX).expect("not cut");
                ends[side].push(whole);
                given[side] += 1;
            }
            1 | 2 => {
                if let Ok(Some(datagram)) = ends[side].next_datagram(now, 70_000) {
                    match (how, datagram.transmission) {
                        (0..32, Some(transmission)) => ends[side].not_sent(transmission),
                        (32..64, Some(transmission)) => ends[side].stopped(now, transmission),
                        _ => flying[other].push(datagram.payload),
                    }
                }
            }
            3 | 4 if !flying[side].is_empty() => {
                let at = how % flying[side].len();
                let datagram = match what >> 4 {
                    0..12 => flying[side].swap_remove(at),
                    _ => flying[side][at].clone(),
                };
                let (control, messages) = Control::read(MAGIC, &datagram).expect("our own");
                ends[side].receive(now, &control, messages);
            }
            5 => {
                now += (how * how) as u64 * 100;
                ends[side].timeout(now);
            }
            6 => {
                while let Some(message) = ends[side].pop() {
                    let number =
                        message::payload(&message).first_chunk().map(|n| u32::from_le_bytes(*n));
                    assert!(lied || number == Some(got[side]), "{number:?} for {}", got[side]);
                    got[side] += 1;
                }
                ends[side].consumed(now);
            }
            7 if how >= 128 => {
                lied = true;
                let mut control = Control::of(control::Kind::Connection, BRIDGED, Flags::default());
                (control.number, control.ack) = ((how as u32) << (what >> 3), u32::from(what));
                (control.flags.end, control.flags.part) = (how & 1 == 1, how & 2 == 2);
                control.window = control.number;
                control.ranges = vec![(control.ack + 1, control.ack + 1 + how as u32)];
                let mut messages = Vec::new();
                message::write(MAGIC, "ping", &[0; 8], &mut messages);
                ends[side].receive(now, &control, &messages.repeat(how & 15));
            }
            _ => {}
        }
        assert!(lied || got[side] <= given[other]);
    }
    got != [0, 0]
}

/// Probes and answers. The first byte tells what: the data of a message, a whole payload, or steps of two
/// bytes in which neighbours come with probes.
pub fn probe(data: &[u8]) -> bool {
    match data.split_first() {
        Some((0, data)) => {
            let mut payload = Vec::new();
            probe::write(MAGIC, data.get(..600).unwrap_or(data), &mut payload);
            payload_of_a_probe(&payload)
        }
        Some((1, payload)) => payload_of_a_probe(payload),
        Some((_, steps)) => steps_of_probes(steps),
        None => false,
    }
}

/// A probe is written again as it was, and its answer is as long; an answer says the same when it is written
/// again, and an application is not handed what is neither.
fn payload_of_a_probe(payload: &[u8]) -> bool {
    match probe::Message::read(MAGIC, payload) {
        Some(probe::Message::Probe { nonce, len }) => {
            assert!((probe::LEAST..=probe::MOST).contains(&len));
            assert_eq!(probe::write_probe(MAGIC, nonce, len), payload);
        }
        Some(probe::Message::Answer { nonce, len, told }) => {
            let again = probe::write_answer(MAGIC, nonce, len, &told);
            assert_eq!(again.len(), payload.len());
            let read = probe::Message::read(MAGIC, &again).expect("our own");
            assert_eq!(read, probe::Message::Answer { nonce, len, told });
            // A bridge takes neither.
            assert_eq!(Control::read(MAGIC, payload), None);
        }
        None => return false,
    }
    true
}

/// However neighbours come, each has at most its allowance.
fn steps_of_probes(steps: &[u8]) -> bool {
    let (mut limits, mut now) = (Limits::default(), 0u64);
    let mut taken = BTreeMap::<(u8, u8), u64>::new();
    for step in steps.chunks(2) {
        let [what, how] = [0, 1].map(|at| step.get(at).copied().unwrap_or_default());
        let from = NodeId([how & 7; 32]);
        let took = match what & 3 {
            0 => limits.take_probe(now, from),
            1 => limits.take_answer(now, from),
            2 => limits.take_search(now, from),
            _ => {
                now += u64::from(how) * u64::from(what) * 100;
                false
            }
        };
        *taken.entry((what & 3, how & 7)).or_default() += u64::from(took);
    }
    for ((what, _), count) in &taken {
        let (burst, rate) = [(20, 10), (40, 20), (2, 1), (0, 0)][usize::from(*what)];
        assert!(*count <= burst + rate * now.div_ceil(1_000_000), "{what}: {count} in {now} us");
    }
    let searches: u64 = taken.iter().filter(|((what, _), _)| *what == 2).map(|(_, n)| n).sum();
    assert!(searches <= 4 + now.div_ceil(2_000_000));
    taken.values().any(|count| *count > 0)
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
    fn invitation() {
        over_seeds_and_any_bytes("invitation", super::invitation);
    }

    #[test]
    fn bridge() {
        over_seeds_and_any_bytes("bridge", super::bridge);
    }

    #[test]
    fn beacon() {
        over_seeds_and_any_bytes("beacon", super::beacon);
    }

    #[test]
    fn probe() {
        over_seeds_and_any_bytes("probe", super::probe);
    }

    #[test]
    fn bench() {
        over_seeds_and_any_bytes("bench", super::bench);
    }
}
