//! Four nodes as processes, each with a LoRa modem on one channel, in a line: each hears its neighbours only.
//! The modems are emulated, of both dialects (`blvm_mesh_tests::modems`). What Bitcoin nodes send goes over three hops
//! free, other data is refused without payment, and delivered when each relay has been paid by its own invoice.

use blvm_mesh_tests::modems::{Dialect, Emulator, Setup, Topology};
use program::daemon::{Daemon, text};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

mod program;

/// Neighbours find each other by beacons, some seconds after the start.
const PATIENCE: Duration = Duration::from_secs(480);
/// A message of Bitcoin's P2P protocol on regtest: verack.
const VERACK: &str = "fabfb5da76657261636b000000000000000000005df6e0e2";

/// A node with this modem, which has its own play money.
fn node(dir: &Path, dialect: Dialect, device: &str) -> Daemon {
    let scheme = match dialect {
        Dialect::Rnode => "lora+rnode",
        Dialect::Meshcore => "lora+meshcore",
    };
    // As fast as these chips are, and without a law that makes a test wait.
    let radio = format!(
        "{scheme}://{device}?region=OTHER&frequency=869525000&bandwidth=500000&sf=7&cr=5&power=14"
    );
    // On a channel whose key everybody knows all are strangers.
    let issuer = ["--set", "issuer_key=issuer.key", "--set", "payment.strangers_relay_paid=true"];
    Daemon::start(dir, &[], &[&["--listen-addr", &radio][..], &issuer].concat())
}

/// Asks until the answer holds.
fn until(
    what: &str,
    mut ask: impl FnMut() -> Result<Value, Value>,
    holds: impl Fn(&Value) -> bool,
) {
    let start = Instant::now();
    loop {
        let last = ask();
        if last.as_ref().is_ok_and(&holds) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}: {last:?}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[test]
fn nodes_on_one_lora_channel_carry_bitcoin_free_and_other_data_for_payment() {
    let dialects = [Dialect::Rnode, Dialect::Meshcore, Dialect::Rnode, Dialect::Meshcore];
    let mut setup = Setup::of(&dialects);
    setup.world.topology = Topology::Line;
    let modems = Emulator::start(&setup, |_| {}).expect("four terminals");
    let dir = tempfile::tempdir().unwrap();
    let mut nodes: Vec<Daemon> = (0..4)
        .map(|n| node(&dir.path().join(n.to_string()), dialects[n], &modems.device(n)))
        .collect();
    let [a, b, c, d] = &mut nodes[..] else { unreachable!() };
    for (node, neighbours) in [(&mut *a, 1), (&mut *b, 2), (&mut *c, 2), (&mut *d, 1)] {
        until(
            "the neighbours",
            || node.call("getpeers", json!({})),
            |peers| {
                let up = |peer: &&Value| peer["state"] == "up";
                peers.as_array().is_some_and(|p| p.iter().filter(up).count() == neighbours)
            },
        );
    }

    let to = text(&d.ready["node_id"]).to_owned();
    // A route is looked for; a frame of a search may be lost.
    until(
        "a route over both relays",
        || a.call("meshquoteroute", json!({"destination": to, "bytes": 100})),
        |quote| quote["hops"].as_array().is_some_and(|hops| hops.len() == 2),
    );
    let mut send = |more: Value| {
        let mut params = json!({"destination": to, "wait_ms": 60_000});
        let (params_map, more) = (params.as_object_mut().unwrap(), more.as_object().unwrap());
        params_map.extend(more.clone());
        a.call("meshsendpacket", params)
    };
    let mut received = || d.call("meshpollreceived", json!({"wait_ms": 60_000})).unwrap();
    send(json!({"data_hex": VERACK})).unwrap();
    let free = received();
    assert_eq!((&free[0]["data_hex"], &free[0]["earned_msat"]), (&json!(VERACK), &json!(0)));

    // Refused here already; and by the relay, if this node does not look.
    let data = hex::encode("who pays for the weather report?");
    let refused = send(json!({"data_hex": data})).unwrap_err();
    assert!(refused.to_string().contains("payment is required"), "{refused}");
    let stopped = send(json!({"data_hex": data, "unchecked": true}));
    assert!(format!("{stopped:?}").contains("payment"), "{stopped:?}");

    let paid =
        send(json!({"data_hex": data, "pay": true, "max_msat": 10_000_000, "wait_ms": 180_000}));
    assert!(paid.is_ok(), "{paid:?}");
    let delivered = received();
    assert_eq!(delivered[0]["data_hex"], json!(data), "{delivered}");
    for relay in [b, c] {
        let ledger = relay.call("getledger", json!({})).unwrap();
        assert!(ledger["sales"].as_array().is_some_and(|sales| !sales.is_empty()), "{ledger}");
    }
    let counts = [0, 1, 2, 3].map(|n| modems.counts(n));
    println!("{counts:?}");
}
