//! Each key arrives, each fault is named.

use super::*;
use crate::chain::{Auth, Secret};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::mode::MeshMode;
use std::collections::BTreeSet;
use std::time::Duration;

const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
/// Secret key 2, of the test vectors of BIP 340's and others' tables of multiples.
const KEY2: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

pub(super) fn load(text: &str, overrides: &[(&str, &str)]) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mesh.toml");
    std::fs::write(&path, text).unwrap();
    let o = |(key, value): &(&str, &str)| Override {
        origin: format!("--{key}"),
        key: (*key).into(),
        value: (*value).into(),
    };
    let sources = Sources {
        file: Some(path),
        overrides: overrides.iter().map(o).collect(),
        xdg_data_home: None,
        home: Some("/home/me".into()),
    };
    // The file lies somewhere else each time.
    let load = sources.load().map_err(|e| e.to_string());
    load.map(|settings| Settings { config_file: None, ..settings })
}

fn dotted(section: &str, name: &str) -> String {
    if section.is_empty() { name.into() } else { format!("{section}.{name}") }
}

/// A value of every key that is not its default, and what differs with it.
fn samples() -> Vec<(&'static str, String, String)> {
    let quoted = |s: &str| format!("{s:?}");
    KEYS.iter()
        .map(|Key { section, name, kind, .. }| {
            let key = dotted(section, name);
            let (text, toml) = match (key.as_str(), kind) {
                ("mesh.mode", _) => ("open".into(), quoted("open")),
                ("mesh.network", _) => ("regtest".into(), quoted("regtest")),
                ("mesh.listen_addr", _) => ("[::1]:5".into(), quoted("[::1]:5")),
                ("mesh.peers", _) => (
                    format!("{KEY}@a:1, {KEY2}@[::1]:2"),
                    format!("[\"{KEY}@a:1\", \"{KEY2}@[::1]:2\"]"),
                ),
                ("mesh.issuers", _) => {
                    (format!("{KEY},{KEY2}"), format!("[\"{KEY}\", \"{KEY2}\"]"))
                }
                ("chain.rpc_url", _) => (CHAIN.into(), quoted(CHAIN)),
                ("lightning.url", _) => (LN.into(), quoted(LN)),
                ("lightning.backend", _) => ("cln".into(), quoted("cln")),
                ("payment.payout_script", _) => ("0014".into(), quoted("0014")),
                ("payment.payout_address", _) => {
                    let a = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
                    (a.into(), quoted(a))
                }
                ("bitcoin.narrow_blocks", _) => ("false".into(), "false".into()),
                (
                    "mesh.enabled"
                    | "mesh.answer_probes"
                    | "flow.inbox"
                    | "lan.beacon"
                    | "lan.listen"
                    | "payment.strangers_relay_paid",
                    _,
                ) => ("false".into(), "false".into()),
                ("lan.group", _) => ("ff02::77".into(), quoted("ff02::77")),
                (_, _) if key == "log" => ("debug".into(), quoted("debug")),
                ("timing.first_ring", _) => ("3".into(), "3".into()),
                ("limits.seen", _) => ("16".into(), "16".into()),
                ("bitcoin.checkpoint", _) => {
                    let first = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
                    let header = bitcoin::consensus::encode::serialize_hex(&first.header);
                    (format!("2016:{header}"), format!("\"2016:{header}\""))
                }
                ("page.listen", _) => ("[::1]:9".into(), quoted("[::1]:9")),
                ("metrics.listen", _) => ("[::1]:9".into(), quoted("[::1]:9")),
                ("bitcoin.node", _) => ("127.0.0.1:9".into(), quoted("127.0.0.1:9")),
                ("bitcoin.listen", _) => {
                    let two = ["127.0.0.1:9", "127.0.0.1:10"];
                    (two.join(", "), format!("{two:?}"))
                }
                ("ledger.export", _) => (BOOKS.into(), quoted(BOOKS)),
                (_, Kind::Text) => ("some-text".into(), quoted("some-text")),
                (_, Kind::Number) => ("20_000_000".into(), "20_000_000".into()),
                (_, Kind::Flag) => ("true".into(), "true".into()),
                ("flow.expose", _) => {
                    let port = "ssh=127.0.0.1:22";
                    (port.into(), format!("[{}]", quoted(port)))
                }
                ("lan.interfaces", _) => ("eth0, wl*".into(), "[\"eth0\", \"wl*\"]".into()),
                ("flow.cashier_for", _) => ("a,b".into(), "[\"a\", \"b\"]".into()),
                ("flow.forward", _) => {
                    let forward = format!("2222={}:ssh", "ab".repeat(32));
                    (forward.clone(), format!("[{}]", quoted(&forward)))
                }
                ("bitcoin.gateways", _) => (KEY.into(), format!("[{}]", quoted(KEY))),
                ("bitcoin.announce_to", _) => {
                    let node = format!("{KEY}@77");
                    (node.clone(), format!("[{}]", quoted(&node)))
                }
                ("flow.credit", _) => {
                    let owing = format!("{KEY}=77");
                    (owing.clone(), format!("[{}]", quoted(&owing)))
                }
                (_, Kind::List) => unreachable!("{key}"),
            };
            let text = match key.as_str() {
                "mesh.max_peers"
                | "limits.neighbours"
                | "limits.per_prefix"
                | "limits.owners"
                | "limits.searches"
                | "limits.parked"
                | "limits.routes"
                | "limits.route_hints"
                | "limits.relayed_requests"
                | "limits.flows"
                | "limits.ends"
                | "limits.accounts"
                | "limits.tickets"
                | "limits.events"
                | "bitcoin.connections"
                | "lan.port"
                | "lan.tcp_port"
                | "timing.reconnect_min_ms" => "77".into(),
                "limits.max_packet" => "5000".into(),
                "chain.timeout_ms" => "4".into(),
                "limits.threads" => "5".into(),
                "lan.interval_ms" => "777".into(),
                "lightning.max_fee_ppm" => "55".into(),
                _ => text,
            };
            let toml = if text.len() <= 4 && *kind == Kind::Number { text.clone() } else { toml };
            (*section, format!("{name} = {toml}\n"), text)
        })
        .collect()
}

const CHAIN: &str = "http://[::1]:8332";
const BOOKS: &str = "postgres://m@[::1]/d?sslmode=verify-full";
const LN: &str = "https://[::1]:8080";

/// Keys without which another means nothing.
fn needed(key: &str) -> &'static [(&'static str, &'static str)] {
    match key {
        "mesh.radio_key_file" => &[("listen_addr", RADIO)],
        "chain.cookie_file" | "chain.timeout_ms" => &[("rpc_url", CHAIN)],
        "chain.rpc_user" => &[("rpc_url", CHAIN), ("rpc_password", "x")],
        "chain.rpc_password" => &[("rpc_url", CHAIN), ("rpc_user", "x")],
        "page.token_file" => &[("listen", "127.0.0.1:9")],
        "metrics.anywhere" => &[("listen", "0.0.0.0:9")],
        "ledger.password_file" | "ledger.certificate_file" | "ledger.timeout_ms" => {
            &[("export", BOOKS)]
        }
        "lightning.backend" => &[("socket", "x")],
        "lightning.url" | "lightning.certificate_file" => {
            &[("backend", "lnd"), ("macaroon_file", "m")]
        }
        "lightning.socket" => &[("backend", "cln")],
        "lightning.macaroon_file" => &[("backend", "lnd")],
        "lightning.password_file" => &[("backend", "phoenixd")],
        "lightning.api_key_file" => &[("backend", "lnbits"), ("url", LN)],
        "lightning.timeout_ms" | "lightning.payment_timeout_ms" => {
            &[("backend", "cln"), ("socket", "x")]
        }
        _ => &[],
    }
}

/// On regtest, where every key is allowed.
const REGTEST: &str = "network = \"regtest\"\n";

#[test]
fn every_key_changes_the_settings_from_file_and_override_alike() {
    for ((section, line, text), Key { name, .. }) in samples().into_iter().zip(KEYS) {
        let key = dotted(section, name);
        // A signet's challenge means nothing on regtest.
        if ["mesh.network", "mesh.signet_challenge"].contains(&key.as_str()) {
            continue;
        }
        let more = needed(&key);
        let lines: String = more.iter().map(|(name, v)| format!("{name} = {v:?}\n")).collect();
        // Without the key, and with what it needs where that is complete then.
        let base = match more.is_empty() {
            true => None,
            false if section == "mesh" => load(&format!("[mesh]\n{REGTEST}{lines}"), &[]).ok(),
            false => load(&format!("[mesh]\n{REGTEST}[{section}]\n{lines}"), &[]).ok(),
        };
        let base = base.unwrap_or_else(|| load(&format!("[mesh]\n{REGTEST}"), &[]).unwrap());
        let file = match section {
            "" => format!("{line}[mesh]\n{REGTEST}"),
            "mesh" => format!("[mesh]\n{REGTEST}{line}{lines}"),
            _ => format!("[mesh]\n{REGTEST}[{section}]\n{line}{lines}"),
        };
        let from_file = load(&file, &[]).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_ne!(from_file, base, "{key} changes nothing");
        let more: Vec<_> = more.iter().map(|(name, v)| (dotted(section, name), *v)).collect();
        let mut overrides = vec![("mesh.network", "regtest"), (key.as_str(), text.as_str())];
        overrides.extend(more.iter().map(|(key, v)| (key.as_str(), *v)));
        let from_override = load("", &overrides).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(from_override, from_file, "{key}");
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let text = format!(
        "data_dir = \"~/mesh\"\nrpc_socket = \"/run/x.sock\"\nlog = \"debug\"\n\
         issuer_key = \"issuer.key\"\n\
         [mesh]\nenabled = false\nmode = \"bitcoin_only\"\nlisten_addr = \"\"\n\
         network = \"regtest\"\npeers = [\"{KEY}@host:9\"]\nissuers = [\"{KEY2}\"]\n\
         private_stratum_tlv = true\n\
         [tariff]\nbase_msat = 1\nper_kib_msat = 2\nreceive_base_msat = 3\nreceive_per_kib_msat = 4\n\
         [limits]\nmax_packet = 3000\nfree_rate = 4\nfree_burst = 5\nmin_difficulty = 26\n\
         plain_rate = 27\nplain_burst = 28\nrare_rate = 29\nrare_burst = 30\n\
         per_prefix = 31\nowners = 32\nbad_payments_rate = 12\n\
         bad_payments_burst = 13\nneighbours = 6\nroutes = 7\n\
         route_hints = 18\nrelayed_requests = 8\nsearches = 9\npayments = 10\nflows = 33\naccounts = 34\ntickets = 35\nparked = 11\nseen = 16\n\
         parked_bytes = 6000\nqueue_bytes = 3001\ninbox_bytes = 3002\nevents = 37\nstore_cache_bytes = 14\n\
         [timing]\nkeepalive_ms = 15\nhop_round_trip_ms = 16\nfirst_ring = 17\n\
         route_lifetime_ms = 18\nverify_timeout_ms = 19\nhandshake_timeout_ms = 20\n\
         reconnect_min_ms = 21\nreconnect_max_ms = 22\n\
         [payment]\nmax_lifetime_s = 23\nfuture_skew_s = 24\ncovenants_active = true\n\
         payout_script = \"0014aa\"\nmin_confirmations = 25\n\
         [flow]\nreservation_bytes = 70000\naccount_days = 36\npipe_memory_bytes = 2000000\ncashier_for = [\"board\"]\n\
         [chain]\nrpc_url = \"http://node.example:1/x\"\nrpc_user = \"u\"\n\
         rpc_password = \"p\"\ntimeout_ms = 18\n"
    );
    let s = load(&text, &[]).unwrap();
    assert_eq!(s.data_dir, Path::new("/home/me/mesh"));
    assert_eq!(s.rpc_socket, Path::new("/run/x.sock"));
    assert_eq!(s.issuer_key, Some("/home/me/mesh/issuer.key".into()));
    assert_eq!(s.cashier_for, [Path::new("/home/me/mesh/board")]);
    assert_eq!((s.log.as_str(), s.enabled, s.listen_addr), ("debug", false, None));
    assert_eq!(s.peers, [format!("{KEY}@host:9").parse().unwrap()]);
    let c = &s.config;
    assert_eq!((c.mode, c.network), (MeshMode::BitcoinOnly, Network::Regtest));
    assert_eq!((c.max_packet, c.free_rate, c.free_burst), (3000, 4, 5));
    assert_eq!(c.min_difficulty, 26);
    assert_eq!((c.plain.rate, c.plain.burst, c.rare.rate, c.rare.burst), (27, 28, 29, 30));
    assert_eq!((c.capacities.per_prefix, c.capacities.owners), (31, 32));
    assert!(c.private_stratum_tlv);
    assert_eq!((c.bad_payments.rate, c.bad_payments.burst), (12, 13));
    let k = c.capacities;
    assert_eq!((k.neighbours, k.routes, k.relayed_requests, k.searches), (6, 7, 8, 9));
    assert_eq!(k.route_hints, 18);
    assert_eq!((k.flows, k.accounts, k.tickets), (33, 34, 35));
    assert_eq!((c.flows.reservation, c.flows.account_days), (70_000, 36));
    assert_eq!((k.payments, k.parked, k.seen, k.parked_bytes), (10, 11, 16, 6000));
    let t = c.timing;
    assert_eq!((t.keepalive, t.hop_round_trip, t.first_ring), (15_000, 16_000, 17));
    assert_eq!((t.route_lifetime, t.verify_timeout), (18_000, 19_000));
    let p = &c.payment;
    assert_eq!((p.tariff.base_msat, p.tariff.per_kib_msat), (1, 2));
    let receive = c.flows.receive;
    assert_eq!((receive.base_msat, receive.per_kib_msat), (3, 4));
    assert_eq!(s.shell.pipe_memory, 2_000_000);
    assert_eq!(p.issuers.first().map(|k| k.to_string()), Some(KEY2.into()));
    assert_eq!((p.max_lifetime, p.future_skew, p.min_confirmations), (23, 24, 25));
    assert!(p.covenants_active && !p.volatile);
    assert_eq!(p.payout_script.as_slice(), [0, 0x14, 0xaa]);
    let ms = Duration::from_millis;
    assert_eq!((s.shell.queue_bytes, s.shell.inbox_bytes), (3001, 3002));
    assert_eq!((s.shell.events, s.shell.store_cache_bytes), (37, 14));
    assert_eq!(s.shell.handshake_timeout, ms(20));
    assert_eq!((s.shell.reconnect_min, s.shell.reconnect_max), (ms(21), ms(22)));
    let auth = Auth::User { name: "u".into(), password: Secret::new("p") };
    let rpc_url = "http://node.example:1/x".into();
    assert_eq!(s.chain, Some(ChainSettings { rpc_url, auth, timeout: ms(18) }));
    let text = format!("[mesh]\n[chain]\nrpc_url = {CHAIN:?}\ncookie_file = \"~/c\"\n");
    let chain = load(&text, &[]).unwrap().chain.unwrap();
    assert_eq!((chain.auth, chain.timeout), (Auth::Cookie("/home/me/c".into()), ms(5_000)));
    assert_eq!(load("[chain]\nrpc_url = \"\"", &[]).unwrap().chain, None);
}

#[test]
fn faults_in_the_file_name_key_and_what_is_allowed() {
    let peer = |p: &str| format!("[mesh]\npeers = [\"{p}\"]");
    let url = |url: &str| format!("[chain]\nrpc_url = {url:?}\n");
    let faults: Vec<(String, &[&str])> = vec![
        ("x = ".into(), &["line 1"]),
        ("colour = 1".into(), &["unknown field `colour`", "data_dir", "tariff"]),
        ("[mesh]\nmood = 1".into(), &["line 2", "unknown field `mood`", "listen_addr"]),
        ("mode = \"open\"".into(), &["mode belongs in section [mesh]"]),
        (
            "[mesh]\nmode = \"closed\"".into(),
            &["line 2", "unknown mode \"closed\"", "bitcoin_only, payment_gated, open"],
        ),
        ("log = \"verbose\"".into(), &["log: \"verbose\"", "off, error, warn, info, debug, trace"]),
        ("log = \"blvm_mesh=loud\"".into(), &["log: \"loud\" is not a log level"]),
        ("log = \"blvm-mesh=debug\"".into(), &["\"blvm-mesh\" is not", "blvm_mesh"]),
        ("log = \"\"".into(), &["log: \"\"", "info"]),
        ("[mesh]\nnetwork = \"main\"".into(), &["unknown network \"main\"", "testnet4"]),
        ("[mesh]\nenabled = 1".into(), &["invalid type", "boolean"]),
        ("[mesh]\nlisten_addr = \"here\"".into(), &["is not IP:PORT", "0.0.0.0:8338"]),
        ("[mesh]\nlisten_addr = 1".into(), &["line 2", "a list of texts"]),
        ("[mesh]\nlisten_addr = [\"[::]:1\", \"[::]:2\"]".into(), &["[::]:2", "only one"]),
        ("[mesh]\nlisten_addr = \"serial:///dev/x?baud=5\"".into(), &["line 2", "1200"]),
        (
            format!(
                "[mesh]\nlisten_addr = \"{LINE}\"\n\
                 peers = [\"{KEY}@serial:///dev/x?baud=9600\"]"
            ),
            &["mesh.peers", "serial:///dev/x?baud=9600", "used twice"],
        ),
        (format!("[mesh]\nlisten_addr = [\"{LINE}\", \"{LINE}\"]"), &["mesh.listen_addr", "twice"]),
        (peer(&format!("{KEY}@serial://x")), &["line 2", "serial+tcp://HOST:PORT"]),
        (peer("a:1"), &["line 2", "write PUBKEY@HOST:PORT"]),
        (peer(&format!("{KEY}@a")), &["is not HOST:PORT"]),
        (format!("[mesh]\npeers = [\"{KEY}@a:1\", \"{KEY}@b:1\"]"), &["mesh.peers", "twice"]),
        ("[mesh]\npeers = [1]".into(), &["a peer is written as"]),
        ("[mesh]\nissuers = [\"02\"]".into(), &["is not a compressed public key"]),
        (format!("[mesh]\nissuers = [\"{KEY}\", \"{KEY}\"]"), &["mesh.issuers", "twice"]),
        ("[mesh]\nrate_limit_per_minute = 5".into(), &["limits.free_rate"]),
        ("[mesh]\nmax_peers = 5\n[limits]\nneighbours = 5".into(), &["mesh.max_peers", "only one"]),
        ("[tariff]\nbase_msat = -1".into(), &["line 2", "-1"]),
        ("[limits]\nmax_packet = 100".into(), &["limits.max_packet", "2048"]),
        ("[limits]\nseen = 100".into(), &["limits.seen", "power of two"]),
        ("[limits]\nbad_payments_burst = 0".into(), &["limits.bad_payments_burst", "at least 1"]),
        ("[limits]\nparked = 0".into(), &["limits.parked", "from 1 to"]),
        (
            "[limits]\nmax_packet = 3000\nparked_bytes = 5999".into(),
            &["limits.parked_bytes", "6000", "limits.max_packet"],
        ),
        ("[limits]\nqueue_bytes = 1".into(), &["limits.queue_bytes", "limits.max_packet"]),
        ("[limits]\ninbox_bytes = 1".into(), &["limits.inbox_bytes"]),
        ("[timing]\nfirst_ring = 50".into(), &["timing.first_ring", "49"]),
        ("[timing]\nroute_lifetime_ms = 0".into(), &["timing.route_lifetime_ms", "at least 1"]),
        ("[timing]\nhandshake_timeout_ms = 0".into(), &["timing.handshake_timeout_ms"]),
        ("[timing]\nreconnect_min_ms = 0".into(), &["timing.reconnect_min_ms"]),
        ("[payment]\ncovenants_active = true".into(), &["covenants_active", "mainnet"]),
        ("[payment]\nmin_confirmations = 0".into(), &["min_confirmations"]),
        ("[payment]\npayout_script = \"0g\"".into(), &["payout_script", "not hex"]),
        (format!("[payment]\npayout_script = \"{}\"", "00".repeat(43)), &["more than 42"]),
        (
            "[payment]\npayout_address = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"".into(),
            &["payout_address", "not an address of network mainnet"],
        ),
        ("[payment]\npayout_address = \"x\"".into(), &["payout_address", "not a Bitcoin address"]),
        ("[payment]\npayout_address = \"x\"\npayout_script = \"\"".into(), &["only one"]),
        ("issuer_key = \"k\"".into(), &["issuer_key", "regtest only"]),
        ("[lan]\ngroup = \"ff05::1\"".into(), &["ff05::1", "link-local scope", "ff12::626c:766d"]),
        ("[lan]\ngroup = \"fe80::1\"".into(), &["fe80::1", "link-local scope"]),
        ("[lan]\nport = 0".into(), &["lan.port", "from 1 to 65535"]),
        ("[lan]\ninterfaces = [\"a b\"]".into(), &["a b", "eth0 or wl*"]),
        (
            "[lan]\nenabled = true\nbeacon = false\nlisten = false".into(),
            &["lan.enabled", "lan.beacon"],
        ),
        ("[chain]\ncookie_file = \"c\"".into(), &["chain.cookie_file", "without chain.rpc_url"]),
        (url("127.0.0.1:8332"), &["chain.rpc_url", "http://HOST:PORT"]),
        (url("https://h:1"), &["chain.rpc_url", "http://HOST:PORT"]),
        (url("http://h"), &["chain.rpc_url", "http://HOST:PORT"]),
        (url("http://me:secret@h:1"), &["chain.rpc_url", "without credentials"]),
        (url(CHAIN) + "rpc_user = \"u\"", &["BLVM_MESH_CHAIN_RPC_PASSWORD"]),
        (url(CHAIN) + "rpc_password = \"u\"", &["needs chain.rpc_user"]),
        (url(CHAIN) + "rpc_user = \"a:b\"\nrpc_password = \"u\"", &["colon"]),
        (url(CHAIN) + "cookie_file = \"c\"\nrpc_user = \"u\"", &["only one"]),
        (url(CHAIN) + "timeout_ms = 0", &["chain.timeout_ms"]),
        (url(CHAIN) + "timeout_ms = 10000", &["chain.timeout_ms", "timing.verify_timeout_ms"]),
    ];
    for (text, expected) in faults {
        let error = load(&text, &[]).expect_err(&text);
        for part in expected {
            assert!(error.contains(part), "{text}\n{error}\nlacks {part}");
        }
        assert!(!error.contains("secret"), "{error}");
    }
}

const LINE: &str = "serial:///dev/x?baud=115200";
pub(super) const RADIO: &str = "lora+rnode:///dev/ttyUSB0?region=EU868";

#[test]
fn serial_lines_are_listened_on_and_dialled() {
    let line = |text: &str| text.parse().unwrap();
    let peer = format!("{KEY}@serial+tcp://[::1]:9");
    let text = format!(
        "[mesh]\nlisten_addr = [\"\", \"{LINE}\", \"10.0.0.1:5\"]\n\
         peers = [\"{peer}\", {{ address = \"serial:///dev/y\", node_id_hex = \"{KEY2}\" }}]"
    );
    let s = load(&text, &[]).unwrap();
    assert_eq!(s.listen_addr, Some(SocketAddr::from(([10, 0, 0, 1], 5))));
    assert_eq!(s.listen_lines, [line(LINE)]);
    let second = format!("{KEY2}@serial:///dev/y?baud=115200");
    assert_eq!(s.peers, [peer.parse().unwrap(), second.parse().unwrap()]);
    let s = load("", &[("mesh.listen_addr", &format!("{LINE}, serial+tcp://h:1"))]).unwrap();
    assert_eq!((s.listen_addr, s.listen_lines), (None, vec![line(LINE), line("serial+tcp://h:1")]));
    let s = load("", &[("mesh.listen_addr", "")]).unwrap();
    assert_eq!((s.listen_addr, s.listen_lines.len()), (None, 0));
}

#[test]
fn many_issuers_are_refused() {
    let secp = secp256k1::Secp256k1::new();
    let key = |i: u8| {
        let secret = secp256k1::SecretKey::from_byte_array([i; 32]).unwrap();
        format!("\"{}\"", secret.public_key(&secp))
    };
    let list =
        |n| format!("[mesh]\nissuers = [{}]", (1..=n).map(key).collect::<Vec<_>>().join(","));
    assert_eq!(load(&list(8), &[]).unwrap().config.payment.issuers.len(), 8);
    assert!(load(&list(9), &[]).unwrap_err().contains("at most 8"));
}

#[test]
fn the_host_nodes_spelling() {
    let text = format!(
        "[mesh]\nmax_peers = 7\npeers = [{{ address = \"h:1\", node_id_hex = \"{KEY}\" }}]\n"
    );
    let s = load(&text, &[]).unwrap();
    assert_eq!(s.config.capacities.neighbours, 7);
    assert_eq!(s.peers, [format!("{KEY}@h:1").parse().unwrap()]);
    let id = "0f715baf5d4c2ed329785cef29e562f73488c8a2bb9dbc5700b361d54b9b0554";
    let error = load(&text.replace(KEY, id), &[]).unwrap_err();
    assert!(error.contains("needs the public key"), "{error}");
    let error = load(&text.replace("address", "adress"), &[]).unwrap_err();
    assert!(error.contains("exactly the keys address and node_id_hex"), "{error}");
}

#[test]
fn overrides_win_and_their_faults_name_them() {
    let file = "[mesh]\nmode = \"open\"\nnetwork = \"regtest\"\n[timing]\nkeepalive_ms = 9\n";
    let s = load(file, &[("mesh.mode", "bitcoin_only"), ("mesh.mode", "payment_gated")]).unwrap();
    assert_eq!(s.config.mode, MeshMode::PaymentGated, "the last one counts");
    assert_eq!((s.config.network, s.config.timing.keepalive), (Network::Regtest, 9_000));
    let faults = [
        ("metrics.listen", "0.0.0.0:9338", "set metrics.anywhere = true"),
        ("ledger.export", "postgres://m:pw@h/d", "ledger.password_file"),
        ("ledger.timeout_ms", "500", "means nothing without ledger.export"),
        ("page.listen", "[::]:9339", "ssh -L"),
        ("mesh.mode", "x", "--mesh.mode = \"x\": unknown mode"),
        ("mesh.enabled", "yes", "true or false"),
        ("limits.routes", "many", "whole number"),
        ("limits.routes", "-1", "--limits.routes = \"-1\""),
        ("mesh.peers", "a", "PUBKEY@HOST:PORT"),
        ("mesh.colour", "x", "there is no key \"mesh.colour\"; allowed are data_dir"),
        ("mode", "open", "there is no key \"mode\" (did you mean mesh.mode?)"),
        ("mesh.max_peers", "0", "mesh.max_peers: must be from 1 to 65536"),
        ("limits.max_packet", "2047", "limits.max_packet: must be at least 2048 bytes"),
    ];
    for (key, value, expected) in faults {
        let error = load(file, &[(key, value)]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

/// Each key by itself: what the table calls live is taken over by settings that are in use, and
/// nothing else is.
#[test]
fn what_is_live_is_what_running_settings_take_over() {
    let base = [("mesh.network", "regtest"), ("limits.max_packet", "1000000")];
    let before = load("", &base).unwrap();
    for (key, (_, _, text)) in KEYS.iter().zip(samples()) {
        let name = key.dotted();
        let mut new = base.to_vec();
        new.push((&name, &text));
        // Some mean nothing alone.
        let Ok(new) = load("", &new) else {
            assert!(!key.is_live(), "{name}");
            continue;
        };
        let mut running = before.clone();
        running.adopt(&new).unwrap();
        match key.is_live() {
            true => assert_eq!(running, new, "{name} is not taken over"),
            false => assert_eq!(running, before, "{name} is taken over"),
        }
        assert!(!key.is_live() || new != before, "{name} changes nothing");
    }
}

#[test]
fn changes_are_told_by_key_and_without_values() {
    let read = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.toml");
        std::fs::write(&path, text).unwrap();
        Sources { file: Some(path), home: Some("/home/me".into()), ..Sources::default() }
            .read()
            .unwrap()
            .1
    };
    let chain = "[chain]\nrpc_url = \"http://[::1]:8332\"\nrpc_user = \"me\"\n";
    let first = read(&format!("log = \"info\"\n{chain}rpc_password = \"hunter2\"\n"));
    let second = read(&format!("log = \"warn\"\n{chain}rpc_password = \"hunter3\"\n"));
    let names = |keys: Vec<&Key>| keys.iter().map(|key| key.dotted()).collect::<Vec<_>>();
    assert_eq!(names(first.changed(&second)), ["log", "chain.rpc_password"]);
    // The default, written down, is no change.
    assert!(read("").changed(&read("[limits]\nseen = 8192\n")).is_empty());
    let shown = format!("{first:?}");
    assert!(shown.contains("rpc_password") && !shown.contains("hunter"), "{shown}");
    let mut running = first.clone();
    running.adopt(&second);
    assert_eq!(names(running.changed(&second)), ["chain.rpc_password"], "until the restart");
}

#[test]
fn environment_variables_have_one_name_each() {
    let names: BTreeSet<String> = KEYS.iter().map(Key::variable).collect();
    assert_eq!(names.len(), KEYS.len());
    let var = |name: &str, value: &str| (name.to_string(), value.to_string());
    let found = from_environment([
        var("BLVM_MESH_TIMING_KEEPALIVE_MS", "5"),
        var("BLVM_MESH_MODE", "open"),
        var("BLVM_MESH_CONFIG", "x"),
        var("PATH", "x"),
    ]);
    let found: Vec<String> = found.unwrap().into_iter().map(|o| o.key).collect();
    assert_eq!(found, ["mesh.mode", "timing.keepalive_ms"]);
    let error = from_environment([var("BLVM_MESH_MOOD", "x")]).unwrap_err().to_string();
    assert!(error.contains("BLVM_MESH_MOOD"), "{error}");
}

#[test]
fn places_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = Sources { home: Some(dir.path().into()), ..Sources::default() };
    let s = sources.load().unwrap();
    assert_eq!(s.data_dir, dir.path().join(".blvm-mesh"));
    assert_eq!(s.rpc_socket, dir.path().join(".blvm-mesh/rpc.sock"));
    sources.xdg_data_home = Some(dir.path().join("xdg"));
    assert_eq!(sources.load().unwrap().data_dir, dir.path().join("xdg/blvm-mesh"));

    let data_dir = dir.path().join("xdg/blvm-mesh");
    std::fs::create_dir_all(&data_dir).unwrap();
    std::fs::write(data_dir.join(CONFIG_FILE), "log = \"warn\"").unwrap();
    let found = sources.load().unwrap();
    assert_eq!(found.log, "warn", "found in the default directory");
    assert_eq!(found.config_file, Some(data_dir.join(CONFIG_FILE)));
    sources.xdg_data_home = None;
    let given = Override {
        origin: "--data-dir".into(),
        key: "data_dir".into(),
        value: data_dir.display().to_string(),
    };
    sources.overrides = vec![given];
    assert_eq!(sources.load().unwrap().log, "warn", "found in the directory that was given");

    sources.file = Some(dir.path().join("missing.toml"));
    let error = sources.load().unwrap_err().to_string();
    assert!(error.contains("missing.toml"), "{error}");
    assert!(matches!(Sources::default().load(), Err(ConfigError::NoHome)));
}

#[test]
fn the_example_is_the_default() {
    let example = example();
    assert_eq!(load(&example, &[]), load("", &[]));
    // And so it is with everything set that has a default in the file.
    let words = ["#data_dir", "#rpc_socket"];
    let set = |line: &str| match line.strip_prefix('#') {
        Some(set) if !set.starts_with(['#', ' ']) && !words.iter().any(|w| line.starts_with(w)) => {
            set.to_owned() + "\n"
        }
        _ => line.to_owned() + "\n",
    };
    let set: String = example
        .lines()
        .map(set)
        .filter(|l| !l.starts_with("timeout_ms") && !l.starts_with("payment_timeout_ms"))
        .collect();
    assert!(set.contains("\nmode = \"payment_gated\"\n"), "{set}");
    assert_eq!(load(&set, &[]), load("", &[]));
    for Key { name, .. } in KEYS {
        assert!(example.contains(&format!("#{name} = ")), "{name} is not there");
    }
}

#[test]
fn a_signet_of_its_own_is_told_by_its_challenge() {
    let signet =
        |text: &str| load("[mesh]\nnetwork = \"signet\"\n", &[("mesh.signet_challenge", text)]);
    assert_eq!(load("", &[]).unwrap().config.magic, Network::Mainnet.magic());
    let own = signet("51").unwrap().config;
    assert_eq!(own.magic, Network::signet_magic(&[0x51]));
    assert_ne!(own.magic, Network::Signet.magic());
    for text in ["", "5", "xy", &"51".repeat(10_001)] {
        let error = signet(text).unwrap_err();
        assert!(error.contains("mesh.signet_challenge") || error.contains("script"), "{error}");
    }
    let error = load("", &[("mesh.signet_challenge", "51")]).unwrap_err();
    assert!(error.contains("mesh.signet_challenge: needs mesh.network = \"signet\""), "{error}");
}

#[test]
fn a_log_filter_is_a_level_or_levels_of_modules() {
    for filter in ["off", "INFO", "warn,blvm_mesh=debug", "blvm_mesh_core::mesh=trace, error"] {
        assert_eq!(load("", &[("log", filter)]).unwrap().log, filter);
    }
}

/// What the help says in brackets is what happens where nothing is configured.
#[test]
fn defaults_are_those_that_the_help_tells() {
    for network in Network::ALL {
        let base = [("mesh.network", network.name())];
        let nothing = load("", &base).unwrap();
        for key in KEYS {
            let Some(default) = key.default(network) else { continue };
            let key = key.dotted();
            if [
                "mesh.network",
                "data_dir",
                "rpc_socket",
                "chain.timeout_ms",
                "ledger.timeout_ms",
                "lightning.timeout_ms",
                "lightning.payment_timeout_ms",
            ]
            .contains(&key.as_str())
            {
                continue;
            }
            let given = load("", &[base[0], (&key, &default)]).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(given, nothing, "{key} is not {default} on {network}");
        }
    }
}

#[test]
fn a_lightning_node_has_its_own_keys_and_no_credential_stands_in_the_file() {
    use crate::lightning::{BackendSettings, LightningSettings};
    let lightning = |text: &str| load(&format!("[lightning]\n{text}"), &[]);
    let phoenixd = "backend = \"phoenixd\"\npassword_file = \"~/.phoenix/phoenix.conf\"\n";
    let loaded = lightning(&format!("{phoenixd}max_fee_ppm = 5000\ntimeout_ms = 9\n")).unwrap();
    let LightningSettings { backend, timeouts } = loaded.lightning.unwrap();
    let expected = BackendSettings::Phoenixd {
        url: "http://127.0.0.1:9740".into(),
        password: "/home/me/.phoenix/phoenix.conf".into(),
    };
    assert_eq!((backend, timeouts.answer), (expected, Duration::from_millis(9)));
    assert_eq!(loaded.spending.max_fee_ppm, 5_000);
    let lnd = "backend = \"lnd\"\nmacaroon_file = \"m\"\n";
    assert!(matches!(
        lightning(lnd).unwrap().lightning.unwrap().backend,
        BackendSettings::Lnd { url, macaroon, certificate: None }
            if url == "https://127.0.0.1:8080" && macaroon.ends_with(".blvm-mesh/m")
    ));
    assert_eq!(lightning("").unwrap().lightning, None);
    let wrong = [
        ("backend = \"eclair\"", "allowed are lnd, cln, phoenixd, lnbits, ldk"),
        ("backend = \"lnd\"", "lightning.macaroon_file: is needed by backend \"lnd\""),
        ("backend = \"cln\"", "lightning.socket: is needed"),
        ("backend = \"phoenixd\"", "lightning.password_file: is needed"),
        ("backend = \"lnbits\"", "lightning.url: is needed"),
        ("url = \"http://x:1\"", "lightning.url: means nothing without lightning.backend"),
        ("timeout_ms = 9", "lightning.timeout_ms: means nothing without"),
        (&format!("{phoenixd}macaroon_file = \"m\""), "means nothing to backend \"phoenixd\""),
        (&format!("{lnd}url = \"https://me:secret@x:1\""), "is to be without credentials"),
        (&format!("{lnd}url = \"127.0.0.1:8080\""), "is not https://HOST:PORT"),
        (&format!("{lnd}url = \"ftp://x:1\""), "is not https://HOST:PORT"),
        (&format!("{lnd}url = \"https://x:1/?key=secret\""), "is not https://HOST:PORT"),
        (&format!("{lnd}max_fee_ppm = 1000001"), "lightning.max_fee_ppm: must be from 0"),
    ];
    for (text, expected) in wrong {
        let error = lightning(text).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_certificate_is_for_tls_only_and_no_password_stands_in_the_file() {
    let load = |url: &str, more: &str| load(&format!("[ledger]\nexport = \"{url}\"\n{more}"), &[]);
    let file = "certificate_file = \"c.pem\"\npassword_file = \"p\"\ntimeout_ms = 250\n";
    let export = load("postgres://m@db/d", file).unwrap().export.unwrap();
    assert_eq!(export.step, Duration::from_millis(250));
    assert!(
        export.certificate.unwrap().ends_with("c.pem") && export.password.unwrap().is_absolute()
    );
    for (url, expected) in [
        ("postgres://m@db/d?sslmode=disable", "needs sslmode=verify-full"),
        ("postgres://m@/d?host=/run", "means nothing to a Unix socket"),
    ] {
        let error = load(url, file).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = load("postgres://m:hunter2@db/d", "").unwrap_err();
    assert!(error.contains("ledger.password_file"), "{error}");
}
