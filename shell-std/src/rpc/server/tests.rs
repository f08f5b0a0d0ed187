//! Over a real socket: the protocol, its limits, and who may connect.

use super::*;
use crate::rpc::client::{Client, ClientError};
use crate::rpc::connection::MOST_SUBSCRIPTIONS;
use crate::rpc::events::EventLog;
use crate::rpc::types::{
    FindRoute, Happened, PollReceived, Received, Subscribe, Subscribed, Topic, Unsubscribe,
    Unsubscribed,
};
use blvm_mesh_core::id::NodeId;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Longer than any answer takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Events of each topic that are kept.
const KEPT: usize = 2_000;

/// Refuses routes; hands out one datagram after `wait_ms`.
struct Answers {
    log: Arc<EventLog>,
    handed_out: AtomicUsize,
    given_up: AtomicUsize,
}

impl Default for Answers {
    fn default() -> Self {
        let (handed_out, given_up) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { log: Arc::new(EventLog::new(KEPT)), handed_out, given_up }
    }
}

impl Answers {
    /// Something happens, which is told apart by this number.
    fn happens(&self, n: u64) {
        self.log.tell(Topic::Payments, Happened::PaymentUsed { payment: [0; 32], amount_msat: n });
    }
}

/// Counts a request that was dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Handler for Answers {
    async fn handle(&self, request: Request, connection: &Connection) -> Result<Reply, RpcError> {
        match request {
            Request::Subscribe(request) => {
                Ok(Reply::Subscribe(connection.subscribe(&self.log, &request)?))
            }
            Request::Unsubscribe(request) => {
                Ok(Reply::Unsubscribe(connection.unsubscribe(request)?))
            }
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
    assert_eq!(places.lock().busy, 1, "one is still at work");
    assert!(a.busy(), "it is so already");
    a.idle();
    drop((a, c));
    let taken = places.lock();
    assert_eq!((taken.idle.len(), taken.busy), (0, 0));
}

/// The numbers of the next events, and what was missed between them.
fn heard(client: &mut Client, until: u64) -> (Vec<u64>, u64) {
    let (mut numbers, mut missed) = (Vec::new(), 0);
    while numbers.last() != Some(&until) {
        match client.event().unwrap().event {
            Happened::PaymentUsed { amount_msat, .. } => numbers.push(amount_msat),
            Happened::Missed { events } => missed += events,
            other => panic!("{other:?}"),
        }
    }
    (numbers, missed)
}

fn subscribed(path: &Path) -> (Client, Subscribed) {
    let mut client = Client::connect(path, PATIENCE).unwrap();
    let begun = client.subscribe(Subscribe::default()).unwrap();
    (client, begun)
}

#[test]
fn events_come_between_answers_and_behind_the_one_to_their_subscription() {
    with_server(|path, answers| {
        let (_, begun) = subscribed(path);
        answers.happens(1);
        // The answer is the first line, although there is an event already.
        let request = serde_json::json!({
            "jsonrpc": "2.0", "method": "meshsubscribe", "params": {"cursor": begun.cursor}, "id": 5,
        });
        let line: Value = serde_json::from_str(&ask(path, &format!("{request}\n"))).unwrap();
        assert_eq!((&line["id"], &line["result"]["missed"]), (&5.into(), &Value::Null));

        let cursor = Some(begun.cursor);
        let mut client = Client::connect(path, PATIENCE).unwrap();
        client.subscribe(Subscribe { cursor, topics: vec![Topic::Payments] }).unwrap();
        // While an answer is waited for, and while none is.
        let poll = Request::PollReceived(PollReceived { wait_ms: 300, ..PollReceived::default() });
        std::thread::scope(|scope| {
            scope.spawn(|| (2..50).for_each(|n| answers.happens(n)));
            assert_eq!(client.call::<Vec<Received>>(&poll).unwrap(), [received()]);
        });
        let (numbers, missed) = heard(&mut client, 49);
        assert_eq!((numbers, missed), ((1..50).collect(), 0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                answers.happens(50);
            });
            assert_eq!(heard(&mut client, 50), (vec![50], 0));
        });
        // No event of it comes behind this answer.
        let ended: Unsubscribed =
            client.call(&Request::Unsubscribe(Unsubscribe { subscription: 1 })).unwrap();
        answers.happens(51);
        let second =
            client.subscribe(Subscribe { cursor: Some(ended.cursor), ..Default::default() });
        assert_eq!(second.unwrap().subscription, 2);
        let event = client.event().unwrap();
        let happened = Happened::PaymentUsed { payment: [0; 32], amount_msat: 51 };
        assert_eq!((event.subscription, event.event), (2, happened));
        let again = Request::Unsubscribe(Unsubscribe { subscription: 1 });
        let error = client.call::<Value>(&again).unwrap_err().to_string();
        assert!(error.contains("has no subscription 1"), "{error}");
    });
}

#[test]
fn one_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed() {
    with_server(|path, answers| {
        let (mut slow, _) = subscribed(path);
        let (mut quick, _) = subscribed(path);
        // More than a socket's buffers hold, and than is kept.
        let last = 30_000;
        for n in 1..=last {
            answers.happens(n);
            if n % 500 == 0 {
                let (_, missed) = heard(&mut quick, n);
                assert_eq!(missed, 0);
            }
        }
        let (numbers, missed) = heard(&mut slow, last);
        assert!(missed > 0 && numbers.len() >= KEPT, "{missed} and {}", numbers.len());
        assert_eq!(numbers.len() as u64 + missed, last);
        assert!(numbers.is_sorted_by(|a, b| a < b), "none comes twice");
        // It goes on as if nothing had been.
        answers.happens(last + 1);
        assert_eq!(heard(&mut slow, last + 1), (vec![last + 1], 0));
    });
}

#[test]
fn subscriptions_have_an_end_and_leave_room_for_commands() {
    with_server(|path, answers| {
        let (mut first, _) = subscribed(path);
        for _ in 1..MOST_SUBSCRIPTIONS {
            first.subscribe(Subscribe::default()).unwrap();
        }
        let error = first.subscribe(Subscribe::default()).unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("8 subscriptions"), "{error}");
        let mut others: Vec<_> = (1..MAX_CONNECTIONS / 2).map(|_| subscribed(path).0).collect();
        let mut more = Client::connect(path, PATIENCE).unwrap();
        let error = more.subscribe(Subscribe::default()).unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("32 connections"), "{error}");
        // Nobody who is subscribed has to go for those that are not.
        for _ in 0..MAX_CONNECTIONS {
            let request = "{\"jsonrpc\":\"2.0\",\"method\":\"getroutes\",\"id\":1}\n";
            assert!(ask(path, request).contains("result"));
        }
        let _idle: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| UnixStream::connect(path).unwrap()).collect();
        assert!(ask(path, "{}\n").contains("-32600"));
        answers.happens(1);
        for client in others.iter_mut().chain([&mut first]) {
            assert_eq!(heard(client, 1), (vec![1], 0));
        }
        // What has ended leaves its place to another, however it has ended.
        let ended =
            (1..=MOST_SUBSCRIPTIONS as u64).map(|subscription| Unsubscribe { subscription });
        for ended in ended {
            first.call::<Unsubscribed>(&Request::Unsubscribe(ended)).unwrap();
        }
        let mut one = Client::connect(path, PATIENCE).unwrap();
        one.subscribe(Subscribe::default()).unwrap();
        drop(others);
        let deadline = std::time::Instant::now() + PATIENCE;
        while Client::connect(path, PATIENCE).unwrap().subscribe(Subscribe::default()).is_err() {
            assert!(std::time::Instant::now() < deadline, "no place becomes free");
        }
    });
}
