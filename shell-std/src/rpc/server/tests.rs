//! Over a real socket: the protocol, its limits, and who may connect.

use super::*;
use crate::rpc::client::{Client, ClientError};
use crate::rpc::types::{FindRoute, PollReceived, Received};
use blvm_mesh_core::id::NodeId;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Longer than any answer takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Refuses routes; hands out one datagram after `wait_ms`.
#[derive(Default)]
struct Answers {
    handed_out: AtomicUsize,
    given_up: AtomicUsize,
}

/// Counts a request that was dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Handler for Answers {
    async fn handle(&self, request: Request) -> Result<Reply, RpcError> {
        match request {
            Request::PollReceived(poll) => {
                let waiting = Waiting(&self.given_up);
                smol::Timer::after(Duration::from_millis(poll.wait_ms)).await;
                std::mem::forget(waiting);
                self.handed_out.fetch_add(1, SeqCst);
                Ok(Reply::PollReceived(vec![received()]))
            }
            Request::FindRoute(find) => Err(RpcError::no_route(find.destination.0)),
            _ => Ok(Reply::GetRoutes(vec![])),
        }
    }
}

fn received() -> Received {
    Received {
        source: NodeId([1; 32]),
        sequence: 5,
        protocol: "Unknown".into(),
        earned_msat: 7,
        base64: false,
        data: vec![0, 255],
    }
}

/// Runs `test` against a served socket.
fn with_server(test: impl FnOnce(&Path, &Answers)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc.sock");
    let server = Server::bind(&path).unwrap();
    let answers = Arc::new(Answers::default());
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let handler = answers.clone();
    let thread = std::thread::spawn(move || {
        let executor = Executor::new();
        let serve = async {
            server.serve(handler, &executor).await;
        };
        let until = async {
            let _ = stopped.recv().await;
        };
        smol::block_on(executor.run(or(serve, until)));
    });
    test(&path, &answers);
    drop(stop);
    thread.join().unwrap();
    assert!(!path.exists(), "the server takes its file away");
}

fn ask(path: &Path, text: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn the_client_gets_answers_and_refusals() {
    with_server(|path, _| {
        let mut client = Client::connect(path, PATIENCE).unwrap();
        let poll = Request::PollReceived(PollReceived::default());
        for _ in 0..3 {
            let got: Vec<Received> = client.call(&poll).unwrap();
            assert_eq!(got, [received()]);
        }
        let destination = crate::rpc::target::Target(NodeId([9; 32]));
        let find = Request::FindRoute(FindRoute { destination });
        let error = client.call::<Value>(&find).unwrap_err();
        assert!(error.is_refusal(), "{error}");
        assert!(error.to_string().contains("no route to 0909"), "{error}");
        let error = client.call::<Vec<Received>>(&Request::GetInfo);
        assert_eq!(error.unwrap(), [], "an empty list is one of anything");
    });
}

#[test]
fn the_protocol_to_the_letter() {
    let request = |rest: &str| format!("{{\"jsonrpc\":\"2.0\",{rest}}}\n");
    let ok = request("\"method\":\"getroutes\",\"id\":\"x\"");
    let notification = request("\"method\":\"getroutes\"");
    let cases = [
        (ok.clone(), r#"{"jsonrpc":"2.0","result":[],"id":"x"}"#),
        // Without an end of line, and with a notification before.
        (format!("{notification}\n{}", ok.trim()), r#"{"jsonrpc":"2.0","result":[],"id":"x"}"#),
        (
            format!("[{},{}]\n", notification.trim(), ok.trim()),
            r#"[{"jsonrpc":"2.0","result":[],"id":"x"}]"#,
        ),
        ("{\n".into(), r#""code":-32700"#),
        ("[]\n".into(), r#""code":-32600"#),
        ("[1]\n".into(), r#"[{"jsonrpc":"2.0","error":{"code":-32600"#),
        ("{\"method\":\"getroutes\",\"id\":1}\n".into(), r#"is missing"},"id":1}"#),
        (request("\"method\":5,\"id\":1"), r#""code":-32600"#),
        (request("\"method\":\"getroutes\",\"id\":{}"), r#""code":-32600"#),
        (request("\"method\":\"getblock\",\"id\":1"), r#""code":-32601"#),
        (request("\"method\":\"findroute\",\"id\":null"), r#""code":-32602"#),
    ];
    with_server(|path, _| {
        for (text, expected) in cases {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains(expected), "{text} {answer}");
            assert_eq!(answer.trim().lines().count(), 1, "{answer}");
        }
        let many = vec![ok.trim(); MAX_BATCH + 1].join(",");
        assert!(ask(path, &format!("[{many}]\n")).contains("-32600"));
    });
}

#[test]
fn a_request_without_end_is_refused() {
    with_server(|path, _| {
        let mut stream = UnixStream::connect(path).unwrap();
        let chunk = vec![b' '; 1 << 20];
        for _ in 0..MAX_REQUEST / chunk.len() + 1 {
            // The server may have closed already.
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains("-32600") && line.contains("longer than"), "{line}");
    });
}

#[test]
fn who_hangs_up_gets_nothing_and_who_only_has_spoken_gets_all() {
    with_server(|path, answers| {
        let poll = "{\"jsonrpc\":\"2.0\",\"method\":\"meshpollreceived\",\"params\":{\"wait_ms\":WAIT},\"id\":1}\n";
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(poll.replace("WAIT", "60000").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        drop(stream);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while answers.given_up.load(SeqCst) == 0 {
            assert!(std::time::Instant::now() < deadline, "the request is still waiting");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(answers.handed_out.load(SeqCst), 0);

        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(poll.replace("WAIT", "200").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let value: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(value["result"][0]["data_hex"], "00ff");
        assert_eq!(answers.handed_out.load(SeqCst), 1);
    });
}

#[test]
fn one_that_waits_holds_up_nobody() {
    with_server(|path, _| {
        let mut slow = Client::connect(path, PATIENCE).unwrap();
        let waiting = std::thread::spawn(move || {
            let poll = PollReceived { wait_ms: 1_000, ..PollReceived::default() };
            slow.call::<Value>(&Request::PollReceived(poll)).unwrap()
        });
        let start = std::time::Instant::now();
        for _ in 0..20 {
            Client::connect(path, PATIENCE).unwrap().call::<Value>(&Request::GetRoutes).unwrap();
        }
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
        waiting.join().unwrap();
    });
}

/// A node that hangs, or whose queue of connections is full, keeps nobody for ever.
#[test]
fn a_silent_node_is_given_up_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let patience = Duration::from_millis(200);
    let in_time = |since: std::time::Instant| {
        assert!((patience..10 * patience).contains(&since.elapsed()), "{:?}", since.elapsed());
    };
    // It takes the connection, and says nothing.
    let start = std::time::Instant::now();
    let mut client = Client::connect(&path, patience).unwrap();
    let error = client.call::<Value>(&Request::GetInfo).unwrap_err();
    assert!(error.to_string().contains("--timeout"), "{error}");
    in_time(start);
    // More than it reads.
    let big = PollReceived { wait_ms: 0, ..PollReceived::default() };
    assert!(client.call::<Value>(&Request::PollReceived(big)).is_err());
    // Linux queues no more connections than were asked for: others wait in `connect`.
    let mut waiting = Vec::new();
    let refused = (0..10_000).find_map(|_| match Client::connect(&path, patience) {
        Ok(client) => {
            waiting.push(client);
            None
        }
        Err(error) => Some(error),
    });
    let error = refused.expect("the queue has an end").to_string();
    assert!(error.contains("did not answer within 0.2 s"), "{error}");
}

#[test]
fn the_sockets_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc.sock");
    let error = Client::connect(&path, PATIENCE).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error}");

    // What a killed process leaves.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let error = Client::connect(&path, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("blvm-mesh run"), "{error}");
    let server = Server::bind(&path).unwrap();
    assert_eq!(path.symlink_metadata().unwrap().mode() & 0o777, 0o600);
    assert!(matches!(Server::bind(&path), Err(BindError::InUse(_))));

    // The file of one that took its place is not taken away.
    std::fs::remove_file(&path).unwrap();
    let second = Server::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::bind(&path), Err(BindError::NoSocket(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let long = dir.path().join("x".repeat(100));
    assert!(matches!(Server::bind(&long), Err(BindError::TooLong(_))));
}

#[test]
fn idle_clients_shut_nobody_out_and_the_one_idle_for_longest_goes_first() {
    with_server(|path, _| {
        let request = b"{\"jsonrpc\":\"2.0\",\"method\":\"getroutes\",\"id\":1}\n";
        let mut idle: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| UnixStream::connect(path).unwrap()).collect();
        // The first says something, and then is idle for a shorter time than the others.
        let first = &mut idle[0];
        first.write_all(request).unwrap();
        let mut answer = String::new();
        BufReader::new(first.try_clone().unwrap()).read_line(&mut answer).unwrap();
        assert!(answer.contains("result"), "{answer}");
        for _ in 0..10 {
            let answer = ask(path, std::str::from_utf8(request).unwrap());
            assert!(answer.contains("result"), "{answer}");
        }
        let closed = |stream: &UnixStream| {
            stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            matches!((&*stream).read(&mut [0; 9]), Ok(0))
        };
        assert!(closed(&idle[1]), "it was idle for longest");
        assert!(!closed(&idle[0]) && !closed(&idle[MAX_CONNECTIONS - 1]));
    });
}

#[test]
fn places_are_counted_and_busy_ones_are_nobody_elses() {
    let places = Arc::new(Places::new(2));
    let (a, b) = (places.take().unwrap(), places.take().unwrap());
    assert!(a.busy() && b.busy());
    assert!(places.take().is_none(), "both are at work");
    b.idle();
    let c = places.take().unwrap();
    assert!(!b.busy(), "its place is gone");
    drop(b);
    a.idle();
    drop((a, c));
    let taken = places.lock();
    assert_eq!((taken.idle.len(), taken.busy), (0, 0));
}
