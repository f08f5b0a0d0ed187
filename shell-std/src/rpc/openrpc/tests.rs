//! The document is well-formed, and answers are as it says. Those of real nodes are held to it
//! in `node/tests/methods.rs`.

use super::*;
use crate::rpc::types::*;
use blvm_mesh_core::id::{HopId, NodeId};
use serde_json::{from_value, to_value};
use std::collections::BTreeSet;

/// The document, asked for what it says of one method.
pub(crate) struct Described(Value);

impl Described {
    pub(crate) fn new() -> Self {
        Self(Document::new().0)
    }

    fn method(&self, name: &str) -> &Value {
        let methods = self.0["methods"].as_array().unwrap();
        methods.iter().find(|method| method["name"] == name).expect(name)
    }

    /// Panics where the answer is not as the document says.
    pub(crate) fn check_result(&self, method: &str, result: &Value) {
        self.check(&self.method(method)["result"]["schema"], result)
            .unwrap_or_else(|e| panic!("{method}: {e} in {result:#}"));
    }

    /// Panics where a line is no notification as the document says; its parameters.
    pub(crate) fn check_notification(&self, line: &Value) -> Value {
        let described = self.0["x-notifications"].as_array().unwrap();
        let described =
            described.iter().find(|told| told["name"] == line["method"]).expect("known");
        assert_eq!((&line["jsonrpc"], line.get("id")), (&"2.0".into(), None), "{line}");
        self.check_fields(described, &line["params"]);
        line["params"].clone()
    }

    /// Panics where these are not parameters as the document says.
    pub(crate) fn check_params(&self, method: &str, params: &Value) {
        self.check_fields(self.method(method), params);
    }

    fn check_fields(&self, method: &Value, params: &Value) {
        let (described, method) = (method["params"].as_array().unwrap(), &method["name"]);
        let given = params.as_object().unwrap();
        for name in given.keys() {
            assert!(described.iter().any(|p| p["name"] == name.as_str()), "{method}: {name}");
        }
        for param in described {
            match given.get(param["name"].as_str().unwrap()) {
                Some(value) => self
                    .check(&param["schema"], value)
                    .unwrap_or_else(|e| panic!("{method}: {e} in {params:#}")),
                None => assert_eq!(param["required"], false, "{method}: {param}"),
            }
        }
    }

    /// Panics where the document does not list the code for the method.
    pub(crate) fn check_error(&self, method: &str, code: &Value) {
        let errors = self.method(method)["errors"].as_array().unwrap();
        let listed = errors.iter().any(|error| self.follow(error)["code"] == *code);
        assert!(listed, "{method}: {code} is not among its errors");
    }

    fn follow<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(to) => self.0.pointer(to.strip_prefix('#').expect(to)).expect(to),
            None => schema,
        }
    }

    /// JSON Schema as far as the document uses it: any other keyword is an error, and so is a
    /// field that no schema tells.
    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        // The schema of the document itself is somebody else's.
        if schema["$ref"].as_str().is_some_and(|to| to.starts_with("https:")) {
            return Ok(());
        }
        let schema = self.follow(schema);
        let wrong = |what: &str| Err(format!("{value} is not {what} as in {schema}"));
        let one = |of: &Value| {
            of.as_array().unwrap().iter().filter(|s| self.check(s, value).is_ok()).count()
        };
        for (keyword, of) in schema.as_object().expect("a schema is an object") {
            let holds = match keyword.as_str() {
                "title" | "description" | "default" | "format" | "contentEncoding" => true,
                "type" => match of {
                    Value::Array(types) => types.iter().any(|t| is(t, value)),
                    single => is(single, value),
                },
                "enum" => of.as_array().unwrap().contains(value),
                "const" => of == value,
                "minimum" => value.as_f64().is_none_or(|v| v >= of.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|v| v <= of.as_f64().unwrap()),
                "pattern" => value.as_str().is_none_or(|text| matches(of.as_str().unwrap(), text)),
                "oneOf" => one(of) == 1,
                "anyOf" => one(of) > 0,
                "allOf" => one(of) == of.as_array().unwrap().len(),
                "required" => value.as_object().is_none_or(|fields| {
                    of.as_array()
                        .unwrap()
                        .iter()
                        .all(|name| fields.contains_key(name.as_str().unwrap()))
                }),
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.check(of, item)?;
                    }
                    true
                }
                "properties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        of.get(name).map_or(Ok(()), |schema| self.check(schema, value))?;
                    }
                    true
                }
                "additionalProperties" => {
                    let known = self.known(schema);
                    let more = value
                        .as_object()
                        .into_iter()
                        .flatten()
                        .filter(|(name, _)| !known.contains(*name));
                    match of {
                        Value::Bool(allowed) => *allowed || more.count() == 0,
                        of => {
                            for (_, value) in more {
                                self.check(of, value)?;
                            }
                            true
                        }
                    }
                }
                other => panic!("this test knows nothing of the keyword {other}"),
            };
            if !holds {
                return wrong(keyword);
            }
        }
        let known = self.known(schema);
        let told = known.is_empty() || schema.get("additionalProperties").is_some();
        match value
            .as_object()
            .into_iter()
            .flatten()
            .find(|(name, _)| !told && !known.contains(*name))
        {
            // An alternative sees the fields of the object that it is a part of.
            Some((name, _))
                if schema.get("properties").is_some_and(|p| p.as_object().unwrap().len() > 1) =>
            {
                Err(format!("{name} is in no schema"))
            }
            _ => Ok(()),
        }
    }

    /// The fields that a schema tells, also in its alternatives.
    fn known(&self, schema: &Value) -> BTreeSet<String> {
        let schema = self.follow(schema);
        let mut known: BTreeSet<String> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        for parts in ["oneOf", "anyOf", "allOf"] {
            for part in schema[parts].as_array().into_iter().flatten() {
                known.extend(self.known(part));
            }
        }
        known
    }
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    }
}

/// Whether a text is so many bytes in hex: the only patterns that there are.
fn matches(pattern: &str, text: &str) -> bool {
    let (digits, count) = match pattern.strip_prefix("^([0-9a-f]{2})") {
        Some(count) => ("0123456789abcdef", count),
        None => ("0123456789abcdefABCDEF", pattern.strip_prefix("^([0-9a-fA-F]{2})").unwrap()),
    };
    let length = match count.strip_suffix('$').unwrap() {
        "*" => text.len().is_multiple_of(2),
        exactly => {
            let bytes: usize = exactly.trim_matches(['{', '}']).parse().unwrap();
            text.len() == 2 * bytes
        }
    };
    length && text.chars().all(|digit| digits.contains(digit))
}

#[test]
fn the_document_is_well_formed() {
    let described = Described::new();
    let document = &described.0;
    assert!(document["openrpc"].as_str().unwrap().starts_with("1.3."));
    for field in ["title", "version", "description"] {
        assert!(!document["info"][field].as_str().unwrap().is_empty(), "{field}");
    }
    let mut names = BTreeSet::new();
    for method in document["methods"].as_array().unwrap() {
        let name = method["name"].as_str().unwrap();
        assert!(names.insert(name), "{name} is there twice");
        let aliases = method["x-aliases"].as_array().into_iter().flatten();
        aliases.for_each(|alias| assert!(names.insert(alias.as_str().unwrap()), "{alias}"));
        assert!(method["summary"].as_str().unwrap().ends_with('.'), "{name} has no sentence");
        assert_eq!(method["paramStructure"], "by-name");
        assert!(method["result"]["schema"].is_object() && method["result"]["name"].is_string());
        let mut optional = false;
        for param in method["params"].as_array().unwrap() {
            assert!(param["schema"].is_object(), "{name}: {param}");
            assert!(!param["description"].as_str().unwrap().is_empty(), "{name}: {param}");
            // OpenRPC: no required parameter behind an optional one.
            let required = param["required"].as_bool().unwrap();
            assert!(!(required && optional), "{name}: {param}");
            optional |= !required;
        }
    }
    // Every reference leads somewhere, and everything in `components` is referred to.
    let text = document.to_string();
    for kind in ["schemas", "errors"] {
        for (name, part) in document["components"][kind].as_object().unwrap() {
            let named = format!("\"#/components/{kind}/{name}\"");
            // Codes of requests that reach no method.
            let before = ["Parse", "InvalidRequest", "MethodNotFound"].contains(&name.as_str());
            assert_eq!(text.contains(&named), !before, "{name}");
            if kind == "errors" {
                assert!(part["code"].is_i64() && part["message"].is_string(), "{name}");
            }
        }
    }
    for part in text.split("\"$ref\":\"#").skip(1) {
        let to = part.split('"').next().unwrap();
        assert!(document.pointer(to).is_some(), "{to} leads nowhere");
    }
    assert!(!text.contains("[`") && !text.contains("\\n"), "comments are not prose");
}

/// Both directions have a type under a name: they must mean the same by it.
#[test]
fn a_name_is_one_schema() {
    let mut asked = Schemas::new(SchemaSettings::draft07().for_deserialize());
    let mut answered = Schemas::new(SchemaSettings::draft07().for_serialize());
    METHODS.iter().for_each(|method| drop(described(method, &mut asked, &mut answered)));
    notification(&mut answered);
    let (asked, answered) = (asked.named(), answered.named());
    let both: Vec<_> = asked.iter().filter(|(name, _)| answered.contains_key(*name)).collect();
    assert!(!both.is_empty());
    for (name, schema) in both {
        assert_eq!(*schema, answered[name], "{name}");
    }
}

/// What no answer of the nodes in the other test has.
#[test]
fn rare_parts_of_answers_are_described() {
    let described = Described::new();
    let line = LineStats {
        line: "serial:///dev/x?baud=9600".into(),
        dials: true,
        state: LineState::Closed,
        error: Some("gone".into()),
        chunks: 1,
        sent_again: 2,
        given_up: 3,
        damaged: 4,
        ignored: 5,
        round_trip_us: Some(6),
    };
    let chain = ChainStats {
        rpc_url: "http://[::1]:1".into(),
        state: ChainState::Unchecked,
        error: None,
        lookups: 1,
        unknown: 2,
        failed: 3,
    };
    let radio = RadioStats {
        radio: "lora+rnode:///dev/x?region=EU868".into(),
        state: RadioState::Closed,
        error: Some("gone".into()),
        modem: "RNode".into(),
        firmware: Some("1.86".into()),
        board: Some("RAK4631".into()),
        region: "EU868".into(),
        frequency_hz: 869_525_000,
        bandwidth_hz: 250_000,
        spreading_factor: 7,
        coding_rate: 5,
        power_dbm: 17,
        duty_permille: 100,
        airtime_hour_ms: 1,
        airtime_limit_ms: 360_000,
        is_at_limit: true,
        load_permille: 2,
        modem_load_permille: Some(3),
        rssi_dbm: Some(-90),
        beacons: 4,
        candidates: 5,
        frames_sent: 6,
        frames_not_sent: 7,
        frames_heard: 8,
        frames_ignored: 9,
        frames_damaged: 10,
        packets_dropped: 11,
        neighbours: vec![RadioNeighbour {
            node_id: NodeId([3; 32]),
            heard_ms_ago: 1,
            snr_quarter_db: -2,
            round_trip_us: Some(3),
            chunks: 4,
            sent_again: 5,
            given_up: 6,
        }],
    };
    let refused = [("no-route".to_owned(), 5)].into();
    let (lines, radios, chain) = (vec![line], vec![radio], Some(chain));
    let export = Some(ExportStats {
        target: "postgres://m@h:1/d".into(),
        state: ExportState::Failed,
        error: Some("refused".into()),
        error_at: Some(1),
        booked_at: Some(2),
        schema: Some(1),
        ..ExportStats::default()
    });
    let stats = Stats { refused, lines, radios, chain, export, ..Stats::default() };
    described.check_result("getstats", &to_value(&stats).unwrap());

    let hash = "00".repeat(32);
    let refused = RefusedHeader { place: 1, height: 2, hash, reason: "its work".into() };
    let submitted = SubmittedHeaders { accepted: 1, refused: Some(refused) };
    described.check_result("meshsubmitheader", &to_value(submitted).unwrap());

    let stopped = Stopped { reporter: NodeId([1; 32]), cause: "congested".into() };
    for outcome in [Outcome::Delivered, Outcome::Sent, Outcome::Refused, Outcome::Unknown] {
        let sent = Sent {
            sequence: u64::MAX,
            destination: NodeId([2; 32]),
            hops: 48,
            bytes: 1,
            paid: true,
            outcome,
            stopped: Some(stopped.clone()),
            repeats: 1,
            repeating: Some(stopped.clone()),
            spent_msat: Some(1),
        };
        described.check_result("meshsendpacket", &to_value(sent).unwrap());
    }
    let proof = serde_json::json!({"covenant": "0a0B"});
    let params = serde_json::json!({"destination": "02", "data_hex": "", "proof": proof});
    described.check_params("meshsendpacket", &params);
    assert!(from_value::<Proof>(proof).is_ok());
}

/// One of each kind.
fn every_event() -> Vec<(Topic, Happened)> {
    use Happened as H;
    use Topic::{Deliveries, Flows, Payments, Peers, Routes};
    let (node, hop) = (NodeId([1; 32]), HopId([2; 8]));
    let (source, destination, reporter, peer) = (node, node, node, node);
    let (cause, flow) = ("gone".to_owned(), "00".repeat(8));
    let (payment, sequence, bytes, amount_msat) = ([3; 32], u64::MAX, 5, 6);
    let protocol = "Unknown".to_owned();
    let more = |cause: &String| cause.clone();
    vec![
        (Deliveries, H::DatagramReceived { source, sequence, protocol, bytes: 1, earned_msat: 2 }),
        (Deliveries, H::DatagramDelivered { sequence, destination }),
        (Deliveries, H::DatagramStopped { sequence, destination, reporter, cause: more(&cause) }),
        (Peers, H::PeerUp { node, address: "a:1".into(), dialed: true }),
        (Peers, H::PeerDown { node }),
        (Routes, H::RouteFound { destination, hops: 48 }),
        (Routes, H::RouteNotFound { destination }),
        (Routes, H::MemberFound { group: node, member: node, hops: 0 }),
        (Payments, H::PaymentAccepted { payment, source, amount_msat, share_msat: 1 }),
        (Payments, H::PaymentUsed { payment, amount_msat }),
        (Payments, H::BytesSold { payment, source, bytes, amount_msat }),
        (Payments, H::BytesBought { node, bytes, amount_msat, left: 7 }),
        (Payments, H::PurchaseFailed { node: hop, cause: more(&cause) }),
        (Flows, H::FlowOpened { flow: more(&flow), peer, opened: true }),
        (Flows, H::FlowInterrupted { flow: more(&flow), peer, node: hop, cause: more(&cause) }),
        (Flows, H::FlowBudgetSpent { flow: more(&flow), peer }),
        (Flows, H::FlowEnded { flow, peer, cause }),
        (Flows, H::Missed { events: 8 }),
    ]
}

#[test]
fn every_event_is_described_and_read_again() {
    let described = Described::new();
    let mut kinds = BTreeSet::new();
    for (topic, event) in every_event() {
        let cursor = "00000000000000ff-1.2.3.4.5".parse().unwrap();
        let event = MeshEvent { subscription: 1, cursor, time_ms: 2, topic, event };
        let params = to_value(&event).unwrap();
        let line = json!({"jsonrpc": "2.0", "method": "meshevent", "params": params});
        described.check_notification(&line);
        assert_eq!(params["topic"], topic.name());
        kinds.insert(params["event"]["type"].as_str().unwrap().to_owned());
        assert_eq!(from_value::<MeshEvent>(params).unwrap(), event);
    }
    let events = Document::new().events();
    let told: BTreeSet<_> = events.iter().map(|(kind, ..)| kind.clone()).collect();
    assert_eq!(kinds, told, "each kind is in the document, and here");
    assert!(events.iter().all(|(_, about, fields)| about.ends_with('.') && !fields.is_empty()));
    for reason in [MissedBecause::Dropped, MissedBecause::Restarted] {
        let cursor = "00000000000000ff-1.2.3.4.5".parse().unwrap();
        let missed = Some(Missed { reason, events: 1 });
        let subscribed = Subscribed { subscription: 1, cursor, missed };
        described.check_result("meshsubscribe", &to_value(subscribed).unwrap());
    }
}

#[test]
fn the_check_itself_finds_what_is_wrong() {
    let described = Described::new();
    let info = &described.method("benchsink")["result"]["schema"];
    let wrong = [
        serde_json::json!({}),
        serde_json::json!({"on": 1}),
        serde_json::json!({"on": true, "off": false}),
        serde_json::json!([]),
    ];
    for value in wrong {
        assert!(described.check(info, &value).is_err(), "{value}");
    }
    assert_eq!(described.check(info, &serde_json::json!({"on": true})), Ok(()));
    assert!(matches("^([0-9a-f]{2}){2}$", "00ff") && !matches("^([0-9a-f]{2}){2}$", "00FF"));
    assert!(!matches("^([0-9a-fA-F]{2}){2}$", "00ff0") && matches("^([0-9a-fA-F]{2})*$", ""));
}
