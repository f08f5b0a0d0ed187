//! Nodes as an operator runs them: the configuration read again, what is kept over restarts, the
//! node at a glance, and its numbers.

mod program;

use program::daemon::{Daemon, text};
use program::program;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn run(data_dir: &Path, arguments: &[&str]) -> Output {
    program().args(arguments).arg("--data-dir").arg(data_dir).output().unwrap()
}

/// What a command prints, and its exit code.
fn said(data_dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = run(data_dir, arguments);
    (status.code(), String::from_utf8(stdout).unwrap())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn address(node: &Daemon) -> String {
    format!("{}@{}", text(&node.ready["public_key"]), text(&node.ready["listen_addr"]))
}

fn peers_up(node: &mut Daemon) -> u64 {
    node.call("meshgetinfo", json!({})).unwrap()["peers_up"].as_u64().unwrap()
}

#[test]
fn a_running_node_is_changed_and_what_is_kept_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let (a_dir, b_dir) = (dir.path().join("a"), dir.path().join("b"));
    let file = dir.path().join("mesh.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[tariff]\nbase_msat = 5\n");
    let options = ["--config", file.to_str().unwrap()];
    let b = Daemon::start(&b_dir, &[], &[]);
    let mut a = Daemon::start(&a_dir, &[], &options);

    // By command: what is in force, and what is not.
    write("[tariff]\nbase_msat = 6\n[limits]\nseen = 16\n");
    let (code, answer) = said(&a_dir, &["reload"]);
    assert_eq!(code, Some(0), "{answer}");
    assert!(answer.contains("in force now: tariff.base_msat\n"), "{answer}");
    assert!(answer.contains("NEEDS A RESTART: limits.seen\n"), "{answer}");
    // What is wrong changes nothing.
    write("[tariff]\nbase_msat = 7\nper_kib_msat = \"dear\"\n");
    let (code, answer) = said(&a_dir, &["reload"]);
    assert_eq!(code, Some(1), "{answer}");
    assert!(answer.contains("nothing has changed") && answer.contains("mesh.toml"), "{answer}");
    let price =
        |a: &mut Daemon| a.call("meshgettariff", json!({})).unwrap()["relay"]["base_msat"].clone();
    assert_eq!(price(&mut a), 6);
    // By signal.
    write("[tariff]\nbase_msat = 8\n");
    let pid = Pid::from_raw(a.ready["pid"].as_i64().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    until("the new price is in force", || price(&mut a) == 8);

    let (code, answer) = said(&a_dir, &["peer", "add", &address(&b)]);
    assert_eq!(code, Some(0), "{answer}");
    until("they are linked", || peers_up(&mut a) == 1);
    let (_, answer) = said(&a_dir, &["tariff", "set", "--per-kib-msat", "9"]);
    assert!(answer.contains("8 msat + 9 msat/KiB") && answer.contains("tariff.per_kib_msat set"));
    let banned = "ab".repeat(32);
    assert_eq!(said(&a_dir, &["peer", "ban", &banned, "--for", "1h"]).0, Some(0));

    drop(a);
    let mut a = Daemon::start(&a_dir, &[], &options);
    until("the peer that was added is dialled again", || peers_up(&mut a) == 1);
    let tariff = a.call("meshgettariff", json!({})).unwrap();
    assert_eq!(tariff["relay"], json!({"base_msat": 8, "per_kib_msat": 9}));
    let (_, list) = said(&a_dir, &["peer", "list"]);
    assert!(list.contains(" added ") && list.contains(&banned), "{list}");

    // The way to it has one hop.
    let (code, traced) = said(&a_dir, &["trace", text(&b.ready["node_id"]), "--json"]);
    let traced: Value = serde_json::from_str(&traced).unwrap();
    let hop = &traced["hops"][0];
    assert_eq!((code, traced["hops"].as_array().unwrap().len()), (Some(0), 1), "{traced}");
    assert_eq!(hop["address"], b.ready["listen_addr"], "{traced}");
    assert!(hop["price_msat"].is_u64(), "{traced}");

    // A short name is enough, and the ban holds at once.
    let short = &text(&b.ready["node_id"])[..12];
    let (code, answer) = said(&a_dir, &["peer", "ban", short]);
    assert!(code == Some(0) && answer.contains("until `peer unban`"), "{answer}");
    assert_eq!(peers_up(&mut a), 0);
    assert_eq!(said(&a_dir, &["peer", "unban", short]).0, Some(0));
    until("they are linked again", || peers_up(&mut a) == 1);
    assert_eq!(said(&a_dir, &["peer", "remove", short]).0, Some(0));
    let (code, answer) = said(&a_dir, &["peer", "remove", text(&b.ready["node_id"])]);
    assert!(code == Some(1) && answer.contains("was not added"), "{answer}");
    assert_eq!(said(&a_dir, &["tariff", "reset"]).0, Some(0));
    assert_eq!(price(&mut a), 8);
}

/// Runs a command with this on its standard input.
fn piped(data_dir: &Path, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = program()
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

#[test]
fn an_invitation_leads_to_a_link_that_is_kept_though_its_first_address_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let (a_dir, b_dir) = (dir.path().join("a"), dir.path().join("b"));
    let mut a = Daemon::start(&a_dir, &[], &[]);
    let (key, listen) =
        (text(&a.ready["public_key"]).to_owned(), text(&a.ready["listen_addr"]).to_owned());
    // It listens on loopback: nobody elsewhere could use that.
    let (code, answer) = said(&a_dir, &["invite"]);
    assert_eq!(code, Some(1), "{answer}");
    assert!(answer.contains("only this host reaches") && answer.contains("--address"), "{answer}");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = dead.to_string();
    let invite = ["invite", "--address", &dead, "--address", &listen];
    let (code, word) = said(&a_dir, &[&invite[..], &["--no-qr"]].concat());
    assert_eq!((code, word.lines().count()), (Some(0), 1), "{word}");
    let word = word.trim();
    let (_, shown) = said(&a_dir, &invite);
    assert!(shown.starts_with(word) && shown.contains("█▀▀▀▀▀█"), "{shown}");
    assert!(shown.contains(&key) && shown.contains(&format!("{dead}, {listen}")), "{shown}");
    let (_, json) = said(&a_dir, &[&invite[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["invitation"], &json["public_key"]), (&json!(word), &json!(key)));

    // Without a node it is said what to do, and nothing is done.
    let output = run(&b_dir, &["join", word]);
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|printed| String::from_utf8(printed).unwrap());
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout.contains(&key) && stdout.contains(&listen), "{stdout}");
    let place = format!("{dead}/{listen}");
    assert!(stderr.contains(&format!("\"{key}@{place}\" into mesh.peers")), "{stderr}");

    let mut b = Daemon::start(&b_dir, &[], &[]);
    let (code, answer) = piped(&b_dir, &["join", "-"], &format!("{}\n", word.to_uppercase()));
    assert_eq!(code, Some(0), "{answer}");
    assert!(answer.contains(&key) && answer.contains("a link to it is kept"), "{answer}");
    until("they are linked", || peers_up(&mut b) == 1 && peers_up(&mut a) == 1);
    let (code, answer) = said(&b_dir, &["join", word]);
    assert!(code == Some(0) && answer.contains("nothing changes"), "{answer}");
    let (code, answer) = said(&a_dir, &["join", word]);
    assert!(code == Some(1) && answer.contains("this node's own"), "{answer}");
    let wrong = word.replacen('q', "p", 1);
    let (code, answer) = said(&b_dir, &["join", &wrong, "--json"]);
    assert!(code == Some(2) && answer.contains("the invitation is damaged"), "{answer}");

    drop(b);
    until("it is gone", || peers_up(&mut a) == 0);
    let mut b = Daemon::start(&b_dir, &[], &[]);
    until("who has joined dials again", || peers_up(&mut b) == 1 && peers_up(&mut a) == 1);
    let (_, list) = said(&b_dir, &["peer", "list"]);
    assert!(list.contains(" added ") && list.contains(&place), "{list}");

    // What is configured will do where no node runs.
    let c_dir = dir.path().join("c");
    let (code, answer) = said(&c_dir, &["invite"]);
    assert!(code == Some(1) && answer.contains("blvm-mesh init"), "{answer}");
    assert_eq!(said(&c_dir, &["init"]).0, Some(0));
    let (code, answer) = said(&c_dir, &["invite", "--set", "mesh.listen_addr=0.0.0.0:8338"]);
    let found = code == Some(0) && answer.contains(":8338") && !answer.contains(" 127.");
    // A machine may have no network.
    assert!(found || (code == Some(1) && answer.contains("no address there")), "{answer}");
    let (code, word) = said(&c_dir, &["invite", "--no-qr", "--address", "relay.example.org:8338"]);
    assert_eq!(code, Some(0));
    let (code, answer) = said(&b_dir, &["join", word.trim()]);
    assert!(code == Some(1) && answer.contains("of a node on mainnet"), "{answer}");
}

/// The log filter of the file, read again.
#[test]
fn a_log_filter_is_changed_while_the_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (file, log) = (dir.path().join("mesh.toml"), dir.path().join("log"));
    let data_dir = dir.path().join("node");
    let write = |level: &str| std::fs::write(&file, format!("log = \"{level}\"\n")).unwrap();
    write("warn");
    let mut node = program()
        .args(["run", "--network", "regtest", "--listen-addr", "127.0.0.1:0", "--config"])
        .arg(&file)
        .arg("--data-dir")
        .arg(&data_dir)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let told = || std::fs::read_to_string(&log).unwrap().matches("was read again").count();
    let mut seen = Vec::new();
    for level in ["warn", "info", "warn"] {
        write(level);
        let (code, answer) = said(&data_dir, &["reload"]);
        assert_eq!(code, Some(0), "{answer}");
        seen.push(told());
    }
    let _ = node.kill();
    let _ = node.wait();
    assert_eq!(seen, [0, 1, 1]);
}

#[test]
fn a_glance_shows_the_node_and_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::start(dir.path(), &[], &[]);
    let (code, screen) = said(dir.path(), &["getinfo"]);
    assert_eq!(code, Some(0));
    for part in [text(&node.ready["node_id"]), text(&node.ready["listen_addr"]), "0 up, 0 down"] {
        assert!(screen.contains(part), "{part} is not in {screen}");
    }
    assert!(screen.contains("no_issuer: no payment is accepted"), "{screen}");
    assert!(screen.contains("loopback_only: "), "{screen}");
    let (_, json) = said(dir.path(), &["getinfo", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["warnings"][0]["kind"], "no_issuer");

    // Not on a terminal: one screen after the other.
    let mut watch = program()
        .args(["status", "--watch", "--json", "--data-dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut uptime = || {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        line["uptime_ms"].as_u64()
    };
    let (first, second) = (uptime().unwrap(), uptime().unwrap());
    assert!(second >= first + 1_900, "{first} {second}");
    drop(node);
    let rest: Vec<_> = lines.collect();
    assert!(rest.len() <= 2, "it ends with the node");
    assert_ne!(watch.wait().unwrap().code(), Some(0));
}

/// One request to an HTTP server.
fn http(at: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Debian's promtool, where `tests/real-promtool` has put it.
fn promtool() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache = std::env::var_os("BLVM_MESH_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(home?.join(".cache/blvm-mesh")));
    let given = std::env::var_os("PROMTOOL").map(PathBuf::from);
    let all = [given, Some("promtool".into()), cache.map(|cache| cache.join("promtool"))];
    let works = |path: &PathBuf| {
        Command::new(path).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    all.into_iter().flatten().find(works)
}

#[test]
fn prometheus_reads_the_numbers_of_a_running_node() {
    let dir = tempfile::tempdir().unwrap();
    let (a_dir, b_dir) = (dir.path().join("a"), dir.path().join("b"));
    let b = Daemon::start(&b_dir, &[], &[]);
    // The system chooses a port that is free now; hardly anybody takes it meanwhile.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = port.to_string();
    let metrics = format!("metrics.listen={at}");
    let mut a = Daemon::start(&a_dir, &[&b], &["--set", &metrics]);
    until("they are linked", || peers_up(&mut a) == 1);
    let others = run(&b_dir, &["run", "--set", "metrics.listen=0.0.0.0:1", "--network", "regtest"]);
    let refused = String::from_utf8(others.stderr).unwrap();
    assert!(refused.contains("metrics.anywhere = true"), "{refused}");

    let answer = http(&at, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let value = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let found = found.unwrap_or_else(|| panic!("{name} is not in {text}"));
        found.parse::<f64>().unwrap()
    };
    assert_eq!(value("blvm_mesh_peers{state=\"up\"}"), 1.0);
    assert_eq!(value("blvm_mesh_warnings{kind=\"no_issuer\"}"), 1.0);
    assert!(value("blvm_mesh_link_bytes_total{direction=\"sent\",class=\"control\"}") > 0.0);
    assert!(value("blvm_mesh_link_bytes_total{direction=\"received\",class=\"control\"}") > 0.0);
    assert!(value("blvm_mesh_handshake_step_seconds_count") >= 1.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("blvm_mesh_table_capacity{table=\"flows\"}") > 0.0);
    assert!(text.contains("network=\"regtest\""), "{text}");
    let key = b.ready["node_id"].as_str().unwrap();
    assert!(!text.contains(key), "it names a neighbour");

    let open = http(&at, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert!(
        open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("\n# EOF\n")
    );
    assert!(http(&at, "DELETE /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));

    // Every family that alerts and dashboard name is there.
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib");
    let rules = contrib.join("prometheus/alerts.yml");
    let mut named = std::fs::read_to_string(&rules).unwrap();
    let dashboard = std::fs::read_to_string(contrib.join("grafana/blvm-mesh.json")).unwrap();
    serde_json::from_str::<Value>(&dashboard).unwrap();
    named.push_str(&dashboard);
    let mut names: Vec<_> = named
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("blvm_mesh_") || word.starts_with("process_"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let family = name.trim_end_matches("_bucket");
        assert!(text.contains(&format!("# TYPE {family} ")), "there is no {name}");
    }

    let Some(promtool) = promtool() else {
        eprintln!("SKIPPED: there is no promtool; tests/real-promtool fetches it");
        return;
    };
    let mut check =
        Command::new(&promtool).args(["check", "metrics"]).stdin(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(check.wait().unwrap().success(), "promtool finds fault with\n{text}");
    let checked = Command::new(&promtool).args(["check", "rules"]).arg(&rules).status().unwrap();
    assert!(checked.success());
}

#[test]
fn nodes_are_pinged_and_a_route_is_traced_until_they_answer_no_probes() {
    let dir = tempfile::tempdir().unwrap();
    let (a_dir, c_dir) = (dir.path().join("a"), dir.path().join("c"));
    let file = dir.path().join("mesh.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[tariff]\nbase_msat = 5\n");
    let mut b = Daemon::start(&dir.path().join("b"), &[], &[]);
    let c = Daemon::start(&c_dir, &[&b], &["--config", file.to_str().unwrap()]);
    let _a = Daemon::start(&a_dir, &[&b], &[]);
    until("they are linked", || peers_up(&mut b) == 2);
    let to = text(&c.ready["node_id"]);

    let (code, answer) = said(&a_dir, &["ping", to, "-c", "3", "-i", "0.1", "-W", "20"]);
    assert_eq!(code, Some(0), "{answer}");
    for part in ["PING ", " seq=3 relays=1 time=", "(blvm-mesh/", "3 probes sent, 3 answered, 0% "]
    {
        assert!(answer.contains(part), "{part} is not in {answer}");
    }
    assert!(answer.contains("rtt min/avg/max/mdev = "), "{answer}");
    let (_, lines) = said(&a_dir, &["ping", to, "-c", "1", "-s", "512", "-W", "20", "--json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["seq"], &lines[0]["answered"]), (&json!(1), &json!(true)), "{lines:?}");
    assert_eq!(lines[0]["told"]["tariff"]["base_msat"], 5);
    assert_eq!((&lines[1]["statistics"]["loss"], lines.len()), (&json!(0.0), 2));

    // Every hop is there, with what it says of itself.
    let trace = |wait: &str| {
        let (code, traced) = said(&a_dir, &["trace", to, "--wait-ms", wait, "--json"]);
        assert_eq!(code, Some(0), "{traced}");
        let traced: Value = serde_json::from_str(&traced).unwrap();
        assert_eq!(traced["hops"].as_array().unwrap().len(), 2, "{traced}");
        traced
    };
    let traced = trace("20000");
    for (node, hop) in [&b, &c].into_iter().zip(traced["hops"].as_array().unwrap()) {
        assert_eq!(hop["node_id"], node.ready["node_id"], "{traced}");
        assert!(text(&hop["told"]["software"]).starts_with("blvm-mesh/"), "{traced}");
        assert!(hop["told"]["transmissions_256"].as_u64() >= Some(256), "{traced}");
        assert!(hop["round_trip_us"].is_u64() && hop["price_msat"].is_u64(), "{traced}");
        assert!(hop["told"]["plain_burst"].is_u64() && hop["told"]["issuers"].is_array());
    }
    assert_eq!(traced["hops"][1]["told"]["tariff"]["base_msat"], 5);
    assert_eq!(traced["round_trip_us"], traced["hops"][1]["round_trip_us"]);

    // It ends with its statistics where it is interrupted.
    let mut ping = program()
        .args(["ping", to, "--data-dir"])
        .arg(&a_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(ping.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().take(2).last().unwrap().unwrap().contains("seq=1 "));
    let pid = Pid::from_raw(ping.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let rest = lines.map(Result::unwrap).collect::<Vec<_>>().join("\n");
    assert!(rest.contains("ping statistics") && rest.contains(" 0% loss"), "{rest}");
    assert_eq!(ping.wait().unwrap().code(), Some(0));

    // Who answers no probes is shown all the same, and only it is silent.
    write("[mesh]\nanswer_probes = false\n");
    let (code, answer) = said(&c_dir, &["reload"]);
    assert!(code == Some(0) && answer.contains("mesh.answer_probes"), "{answer}");
    let (code, answer) = said(&a_dir, &["ping", to, "-c", "1", "-W", "0.3"]);
    assert_eq!(code, Some(1), "{answer}");
    assert!(answer.contains("no answer in time") && answer.contains(" 100% loss"), "{answer}");
    let (code, shown) = said(&a_dir, &["trace", to, "--wait-ms", "3000"]);
    let rows: Vec<_> = shown.lines().collect();
    assert!(code == Some(0) && rows[1].contains("blvm-mesh/"), "{shown}");
    assert!(rows[2].contains("destination  *") && rows[3].contains("no answer"), "{shown}");

    // Nobody runs there, and nobody is meant.
    let nowhere = dir.path().join("nowhere");
    assert_eq!(said(&nowhere, &["ping", to, "-c", "1"]).0, Some(2));
    assert_eq!(said(&a_dir, &["ping", "abcd", "-c", "1"]).0, Some(2));
    let nobody = "ab".repeat(32);
    let (code, answer) = said(&a_dir, &["ping", &nobody, "-c", "1", "-W", "0.3"]);
    assert!(code == Some(1) && answer.contains("no route"), "{answer}");
}
