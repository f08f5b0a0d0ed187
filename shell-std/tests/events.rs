//! Events as other programs get them: the built program's socket, its command, and the examples.

mod program;

#[path = "../examples/events.rs"]
#[allow(dead_code, reason = "its main is for whoever runs it")]
mod example;

use program::daemon::{Daemon, text};
use program::program;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of its own, which knows nothing of the project's.
struct Client {
    stream: BufReader<UnixStream>,
    begun: Value,
}

impl Client {
    fn subscribed(node: &Daemon, topics: &[&str], cursor: Option<&Value>) -> Self {
        let stream = UnixStream::connect(text(&node.ready["rpc_socket"])).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { stream: BufReader::new(stream), begun: Value::Null };
        let params = json!({"topics": topics, "cursor": cursor});
        let request =
            json!({"jsonrpc": "2.0", "id": 1, "method": "meshsubscribe", "params": params});
        writeln!(client.stream.get_mut(), "{request}").unwrap();
        let line = client.line();
        assert_eq!(line["id"], 1, "{line}");
        client.begun = line["result"].clone();
        client
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The next event: its kind, and all of it.
    fn event(&mut self) -> (String, Value) {
        let mut line = self.line();
        assert_eq!(
            (&line["method"], &line["params"]["subscription"]),
            (&"meshevent".into(), &self.begun["subscription"])
        );
        let params = line["params"].take();
        (text(&params["event"]["type"]).to_owned(), params)
    }

    /// The next of this kind, and all that came up to it.
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let (found, event) = self.event();
            events.push(event);
            if found == kind {
                return events;
            }
        }
    }
}

fn ping(nonce: u64) -> String {
    use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
    let message = RawNetworkMessage::new(bitcoin::p2p::Magic::REGTEST, NetworkMessage::Ping(nonce));
    hex::encode(bitcoin::consensus::serialize(&message))
}

fn send(from: &mut Daemon, to: &Daemon, nonce: u64) {
    let params = json!({"destination": to.ready["node_id"], "data_hex": ping(nonce), "wait_ms": 0});
    // Its own side of the link may take a moment longer.
    let start = Instant::now();
    while let Err(error) = from.call("meshsendpacket", params.clone()) {
        assert!(start.elapsed() < PATIENCE, "{error}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The cursors of events, which name them.
fn cursors(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| text(&event["cursor"])).collect()
}

#[test]
fn a_client_that_comes_again_with_its_cursor_misses_nothing_and_hears_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let b_dir = dir.path().join("b");
    let mut b = Daemon::start(&b_dir, &[], &["--set", "limits.events=30"]);
    let mut whole = Client::subscribed(&b, &[], None);
    assert_eq!(whole.begun["missed"], Value::Null);
    let mut a = Daemon::start(&dir.path().join("a"), &[&b], &[]);
    let mut all = whole.until("peer_up");
    assert_eq!(all.last().unwrap()["event"]["node"], a.ready["node_id"]);
    (0..10).for_each(|n| send(&mut a, &b, n));
    while all.iter().filter(|e| e["topic"] == "deliveries").count() < 10 {
        all.push(whole.event().1);
    }
    // From each of the cursors on there is what came behind it.
    for (seen, event) in all.iter().enumerate() {
        let mut again = Client::subscribed(&b, &[], Some(&event["cursor"]));
        assert_eq!(again.begun["missed"], Value::Null);
        let rest: Vec<_> = all[seen + 1..].iter().map(|_| again.event().1).collect();
        assert_eq!(cursors(&rest), cursors(&all[seen + 1..]));
    }
    // What was announced can be fetched.
    let got = b.call("meshpollreceived", json!({"max": 100})).unwrap();
    let told = all.iter().filter(|e| e["topic"] == "deliveries");
    let told: Vec<_> = told.map(|event| event["event"]["sequence"].clone()).collect();
    let got: Vec<_> = got.as_array().unwrap().iter().map(|got| got["sequence"].clone()).collect();
    assert_eq!(got, told);

    // More than is kept.
    (10..55).for_each(|n| send(&mut a, &b, n));
    while b.call("getstats", json!({})).unwrap()["inbox_free"]["packets"] != 45 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let last = &all.last().unwrap()["cursor"];
    let mut late = Client::subscribed(&b, &["deliveries", "peers"], Some(last));
    assert_eq!(late.begun["missed"], json!({"reason": "dropped", "events": 15}));
    let rest: Vec<_> = (0..30).map(|_| late.event().1).collect();
    let kept = b.call("meshpollreceived", json!({"max": 100})).unwrap();
    assert_eq!(kept[15]["sequence"], rest[0]["event"]["sequence"]);
    assert_eq!(kept[44]["sequence"], rest[29]["event"]["sequence"]);
    drop(a);
    assert_eq!(late.event().0, "peer_down");

    // Another run: it is said, and all that this one has to tell is told.
    let mut cut = Client::subscribed(&b, &[], None);
    drop(b);
    let mut rest = Vec::new();
    cut.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "it has ended");
    let b = Daemon::start(&b_dir, &[], &[]);
    let _a = Daemon::start(&dir.path().join("a"), &[&b], &[]);
    let mut after = Client::subscribed(&b, &["peers"], Some(last));
    assert_eq!(after.begun["missed"], json!({"reason": "restarted", "events": 0}));
    assert_eq!(after.event().0, "peer_up");
}

/// Lines of a process, or of whatever writes them.
fn lines(from: impl Read + Send + 'static) -> Receiver<Value> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if tell.send(serde_json::from_str(&line).unwrap_or(Value::String(line))).is_err() {
                return;
            }
        }
    });
    told
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(dir: &Path, arguments: &[&str]) -> (Process, Receiver<Value>) {
    let mut command = program();
    command.arg("events").args(arguments).arg("--data-dir").arg(dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let told = lines(child.stdout.take().unwrap());
    (Process(child), told)
}

#[test]
fn the_command_prints_events_until_the_node_ends() {
    let dir = tempfile::tempdir().unwrap();
    let b_dir = dir.path().join("b");
    let b = Daemon::start(&b_dir, &[], &[]);
    let (mut json, told) = command(&b_dir, &["peers", "--json"]);
    let begun = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&begun["subscription"], &begun["missed"]), (&1.into(), &Value::Null), "{begun}");
    let a = Daemon::start(&dir.path().join("a"), &[&b], &[]);
    let up = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(up["event"]["node"], a.ready["node_id"]);
    // For people, and from a cursor on.
    let (mut again, said) = command(&b_dir, &["--since", text(&begun["cursor"])]);
    let line = said.recv_timeout(PATIENCE).unwrap();
    assert!(text(&line).contains("Z peers peer_up address=127.0.0.1:"), "{line}");
    drop(a);
    let down = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(down["event"]["type"], "peer_down");
    drop(b);
    // How to go on is said, in the form that was asked for.
    let end = told.recv_timeout(PATIENCE).unwrap();
    let error = text(&end["error"]["message"]);
    assert!(error.contains("has ended the connection"), "{error}");
    assert!(error.ends_with(&format!("--since {}", text(&down["cursor"]))), "{error}");
    assert_eq!(json.0.wait().unwrap().code(), Some(2));
    assert_eq!(again.0.wait().unwrap().code(), Some(2));
    let mut error = String::new();
    again.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(error.starts_with("error: ") && error.contains("--since "), "{error}");
    for (wrong, said) in [("--since=5", "is no cursor"), ("news", "deliveries, peers, routes")] {
        let (mut failed, _) = command(&b_dir, &[wrong]);
        let mut error = String::new();
        failed.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(error.contains(said), "{error}");
        assert_eq!(failed.0.wait().unwrap().code(), Some(2));
    }
}

/// What an example must have said of two datagrams, one from before it came.
fn check_example(told: &Receiver<Value>, a: &mut Daemon, b: &Daemon) {
    let announced = |line: &Value| line["params"]["event"]["type"] == "datagram_received";
    let (mut got, mut seen, mut sent) = (Vec::new(), Vec::new(), false);
    while got.len() < 2 || !seen.iter().any(announced) {
        let line = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("too little: {seen:?}"));
        let fetched = line["result"].as_array().into_iter().flatten();
        got.extend(fetched.map(|datagram| text(&datagram["data_hex"]).to_owned()));
        if got.len() == 1 && !std::mem::replace(&mut sent, true) {
            send(a, b, 2);
        }
        seen.push(line);
    }
    assert_eq!(got, [ping(1), ping(2)]);
    let bare = |line: &&Value| announced(line) && line["result"].is_null();
    assert_eq!(seen.iter().filter(bare).count(), 1, "{seen:?}");
}

/// Nodes of which one has sent the other a datagram.
fn two(dir: &Path) -> (Daemon, Daemon) {
    let b = Daemon::start(&dir.join("b"), &[], &[]);
    let mut up = Client::subscribed(&b, &[], None);
    let mut a = Daemon::start(&dir.join("a"), &[&b], &[]);
    up.until("peer_up");
    send(&mut a, &b, 1);
    up.until("datagram_received");
    (a, b)
}

#[test]
fn the_example_in_rust_is_told_and_fetches() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, b) = two(dir.path());
    let (reads, mut writes) = UnixStream::pair().unwrap();
    let socket = text(&b.ready["rpc_socket"]).to_owned();
    let example = std::thread::spawn(move || example::follow(&socket, None, &mut writes));
    check_example(&lines(reads), &mut a, &b);
    drop(b);
    // It ends with the node; an answer may be cut off by that.
    let _ = example.join().unwrap();
}

#[test]
fn the_example_in_python_is_told_and_fetches() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, b) = two(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/examples/events.py");
    let mut python = Command::new("python3");
    python.arg(script).arg(text(&b.ready["rpc_socket"])).stdout(Stdio::piped());
    let mut child = Process(python.spawn().expect("python3"));
    check_example(&lines(child.0.stdout.take().unwrap()), &mut a, &b);
    drop(b);
    // It ends with the node; an answer may be cut off by that.
    child.0.wait().unwrap();
}
