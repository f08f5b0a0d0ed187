//! The module's program with a node that only the tests have: it speaks the module socket as
//! blvm-node does, and carries frames between its peers.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that panics has failed")]

mod fake;
mod net;

use blvm_mesh_module::proto::{PAYMENT_VERIFIED, ROUTE_DISCOVERED, ROUTE_FAILED};
use fake::{Behaviour, Node};
use net::Net;
use serde_json::json;
use std::time::Duration;

/// Generous: the machine may be busy.
pub(crate) const LONG: Duration = Duration::from_secs(120);

#[test]
fn two_modules_reach_each_other_over_their_nodes_and_serve_every_method() {
    let mut net = Net::start(2, "mode = \"open\"");
    let (a, b) = (net.id(0), net.id(1));
    let [id_a, id_b] = [&a, &b].map(|id| id["node_id"].as_str().unwrap().to_owned());
    assert_eq!(a["network"], "regtest");
    net.connect(0, 1);

    let found = net.eventually(0, "discover_route", json!({ "destination": id_b }));
    assert_eq!(found, json!({ "destination": id_b, "hops": 0 }));
    for (from, to, source) in [(0, 1, &id_a), (1, 0, &id_b)] {
        let destination = [&id_a, &id_b][to];
        // Larger than a frame of the link.
        let data = hex::encode(vec![from as u8 + 7; 100_000]);
        let asked = json!({ "destination": destination, "data_hex": data });
        assert_eq!(net.eventually(from, "send_packet", asked)["hops"], 0);
        let got = net.poll(to);
        assert_eq!((&got["source"], &got["data_hex"]), (&json!(source), &json!(data)));
    }
    assert_eq!(
        net.call(1, "poll_local_deliveries", json!({})).unwrap(),
        json!({ "deliveries": [] })
    );
    let stats = net.call(0, "get_routing_stats", json!({})).unwrap();
    assert_eq!((&stats["sent"], &stats["delivered"]), (&json!(1), &json!(1)));

    let quote = net.call(0, "quote_route_fee", json!({ "destination": id_b, "bytes": 1000 }));
    let quote = quote.unwrap();
    assert!(quote["amount_msat"].as_u64().unwrap() > 0 && quote["hops"] == json!([]), "{quote}");
    let refused = net.call(0, "request_hop_invoice", json!({ "destination": id_b, "bytes": 9 }));
    assert!(refused.unwrap_err().contains("signs no invoices"));
    for (method, params, expected) in [
        ("send_packet", json!({ "destination": "x", "data_hex": "" }), "is not a destination"),
        ("send_packet", json!({ "destination": id_b, "data_hex": "0" }), "data_hex"),
        (
            "send_packet",
            json!({ "destination": id_b, "data_hex": "00", "invoice": "lnbcrt1" }),
            "give proof_hex, or invoice and preimage_hex",
        ),
        ("get_node_id", json!({ "x": 1 }), "unknown field"),
        ("discover_route", json!({ "destination": "ab".repeat(32) }), "no route"),
        ("fly", json!({}), "there is no method \"fly\""),
    ] {
        let error = net.call(0, method, params).unwrap_err();
        assert!(error.contains(expected), "{method}: {error}");
    }
    net.eventually_published(0, ROUTE_DISCOVERED);
    net.eventually_published(0, ROUTE_FAILED);
}

#[test]
fn the_process_that_the_node_starts_fails_and_leaves_the_module_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "0.1.79");
    let status = net::by_node(dir.path(), node.socket(), "").status().unwrap();
    assert_eq!(status.code(), Some(1));
    node.until(|state| state.registered);
    // The module goes with it.
    node.stop();
}

#[test]
fn nodes_whose_numbers_are_older_are_served_too() {
    let mut net = Net::of_version(2, "0.1.54");
    let id_b = net.id(1)["node_id"].as_str().unwrap().to_owned();
    net.connect(0, 1);
    net.deliver(0, 1, &id_b, "old");
    net.eventually_published(0, ROUTE_DISCOVERED);
}

#[test]
fn an_invoice_of_the_modules_own_issuer_pays_for_a_packet_and_the_payment_is_published() {
    let mut net = Net::with_issuer("mode = \"payment_gated\"");
    let id_b = net.id(1)["node_id"].as_str().unwrap().to_owned();
    net.connect(0, 1);
    net.eventually(0, "discover_route", json!({ "destination": id_b }));
    let data = hex::encode("weather report");
    let unpaid = net.call(0, "send_packet", json!({ "destination": id_b, "data_hex": data }));
    assert!(unpaid.unwrap_err().contains("payment"));
    let asked = json!({ "destination": id_b, "bytes": data.len() / 2 });
    let written = net.call(0, "request_hop_invoice", asked).unwrap();
    let paid = json!({
        "destination": id_b,
        "data_hex": data,
        "invoice": written["invoice"],
        "preimage_hex": written["preimage_hex"],
    });
    net.call(0, "send_packet", paid).unwrap();
    let got = net.poll(1);
    assert_eq!(got["data_hex"], json!(data));
    assert!(got["earned_msat"].as_u64().unwrap() > 0);
    net.eventually_published(1, PAYMENT_VERIFIED);
}

#[test]
fn a_module_survives_refusals_garbage_and_a_node_that_starts_again() {
    let mut net = Net::start(2, "mode = \"open\"");
    let id_b = net.id(1)["node_id"].as_str().unwrap().to_owned();
    net.connect(0, 1);
    net.eventually(0, "discover_route", json!({ "destination": id_b }));
    for behaviour in [
        Behaviour::RefuseNextSend,
        Behaviour::Garbage(vec![0, 0, 0, 4, 9, 9, 9, 9]),
        Behaviour::Garbage(vec![0xff; 8]),
        Behaviour::Close,
    ] {
        let before = net.node(0).connections();
        net.node(0).behave(behaviour.clone());
        if matches!(behaviour, Behaviour::RefuseNextSend) {
            // Something to refuse: the keep-alives of the link come anyway.
            let _ = net.call(0, "send_packet", json!({ "destination": id_b, "data_hex": "00" }));
        }
        net.node(0).until(|state| state.connections > before && state.registered);
        net.deliver(0, 1, &id_b, &format!("{behaviour:?}"));
        assert!(net.is_alive(0), "{behaviour:?}");
    }
    // What peers send that is no frame of a link changes nothing.
    for noise in
        [vec![], b"MESH".to_vec(), vec![7; 5000], [b"MESH\x01L".to_vec(), vec![0; 99]].concat()]
    {
        net.node(0).event_packet("192.0.2.9:8333", &noise);
    }
    net.deliver(0, 1, &id_b, "all the same");
}

#[test]
fn a_node_whose_messages_are_numbered_in_another_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "0.1.53");
    let mut module = net::spawn(dir.path(), node.socket(), "", &[]);
    let status = module.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(module.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert!(!status.success() && said.contains("blvm-node 0.1.53"), "{said}");
    node.stop();
}

#[test]
fn a_module_without_a_node_or_with_a_wrong_setting_says_so() {
    let run = |variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_blvm-mesh-module"));
        command.env_clear().envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (success, said) = run(&[]);
    assert!(!success && said.contains("a module, which a blvm-node starts"), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let usual = [
        ("MODULE_NAME", "blvm-mesh"),
        ("SOCKET_PATH", "/nowhere"),
        ("DATA_DIR", dir.path().to_str().unwrap()),
    ];
    let with = |more| run(&[&usual[..], &[more]].concat());
    let (success, said) = with(("MODULE_CONFIG_MODE", "free"));
    assert!(!success && said.contains("MODULE_CONFIG_MODE"), "{said}");
    let (success, said) = with(("MODULE_CONFIG_ENABLED", "false"));
    assert!(success && said.contains("not enabled"), "{said}");
}
