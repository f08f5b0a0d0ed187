//! The board end to end: the image in QEMU between two nodes, each a process of the built
//! program. Skipped, and said so, where there is no QEMU or no way to build the image.

mod program;

use bitcoin::hashes::Hash;
use blvm_mesh_core::id::Network;
use blvm_mesh_tests::bitcoind::coins::{self, FEE, Kind, Wallet};
use blvm_mesh_tests::bitcoind::{self, Bitcoind};
use blvm_mesh_tests::board::{Machine, hold, image, sizes};
use blvm_mesh_tests::packets::payloads::bitcoin_message;
use program::program;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the slowest step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a command; its answer, and whether it was a yes.
fn ask(arguments: &[&str]) -> (bool, Value) {
    let out = program().args(arguments).arg("--json").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_ne!(out.status.code(), Some(2), "{arguments:?}: {text}");
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    (out.status.code() == Some(0), json)
}

fn yes(arguments: &[&str]) -> Value {
    let (yes, json) = ask(arguments);
    assert!(yes, "{arguments:?}: {json}");
    json
}

fn text(json: &Value, field: &str) -> String {
    json[field].as_str().unwrap_or_else(|| panic!("no {field} in {json}")).to_owned()
}

/// A line between QEMU and a node that dials: bytes go through, and others may be put among
/// those for the board.
struct Line {
    at: String,
    to_board: Arc<Mutex<TcpStream>>,
}

impl Line {
    fn new(board: TcpStream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let to_board = Arc::new(Mutex::new(board.try_clone().unwrap()));
        let sink = Arc::clone(&to_board);
        std::thread::spawn(move || {
            let (node, _) = listener.accept().unwrap();
            let (mut from, mut to) = (board, node.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut node, mut bytes) = (node, [0; 1024]);
            while let Ok(len @ 1..) = node.read(&mut bytes) {
                if sink.lock().unwrap().write_all(&bytes[..len]).is_err() {
                    return;
                }
            }
        });
        Self { at, to_board }
    }
}

/// A node, killed at the end.
struct Node {
    child: Child,
    dir: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(dir: &Path, mode: &str, issuer: &str, peer: &str, settings: &[String]) -> Self {
        let log = std::fs::File::create(dir.with_extension("log")).unwrap();
        let dir = dir.to_str().unwrap().to_owned();
        let child = program()
            .args(["run", "--data-dir", &dir, "--network", "regtest", "--mode", mode])
            .args(["--issuer", issuer, "--peer", peer, "--set", "mesh.listen_addr="])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn ask(&self, arguments: &[&str]) -> (bool, Value) {
        ask(&[arguments, &["--data-dir", &self.dir]].concat())
    }

    /// Whether its neighbour is up. A node that is just starting has none.
    fn is_linked(&self) -> bool {
        let mut peers = program();
        peers.args(["peers", "--data-dir", &self.dir]).stdin(Stdio::null());
        peers.output().unwrap().status.success()
    }

    /// What it has received until now.
    fn received(&self) -> Vec<String> {
        let (_, got) = self.ask(&["recv", "--max", "100"]);
        let list = got.as_array().cloned().unwrap_or_default();
        list.iter().map(|datagram| text(datagram, "data_hex")).collect()
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < limit, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Setup {
    machine: Machine,
    line: Line,
    a: Node,
    c: Node,
    board: String,
    c_key: String,
}

impl Setup {
    fn new(image: &Path, dir: &Path) -> Self {
        Self::with(image, dir, &[], &[])
    }

    /// With further settings of A and of C.
    fn with(image: &Path, dir: &Path, for_a: &[String], for_c: &[String]) -> Self {
        Self::timed(image, dir, None, for_a, |_| for_c.to_vec())
    }

    /// The same, with a block header from which the board follows others to have the time; C's
    /// settings may name the board's key.
    fn timed(
        image: &Path,
        dir: &Path,
        checkpoint: Option<&str>,
        for_a: &[String],
        for_c: impl Fn(&str) -> Vec<String>,
    ) -> Self {
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let issuer =
            text(&yes(&["issuer", "--network", "regtest", "--key", &at("issuer")]), "issuer");
        let [_, c_key] =
            ["a", "c"].map(|n| text(&yes(&["keygen", "--data-dir", &at(n)]), "public_key"));
        // The destination tells the board the time, and is its cashier.
        let config =
            ["board-config", &at("board.bin"), "--network", "regtest", "--issuer", &issuer];
        let clock = match checkpoint {
            Some(header) => ["--checkpoint", header, "--future-skew", "7200"],
            None => ["--clock-from", &c_key, "--future-skew", "5"],
        };
        let cashier = ["--cashier", &c_key, "--ticket-key", &at("board.tickets")];
        let told = yes(&[&config[..], &clock, &cashier].concat());
        let (board, key) = (text(&told, "node_id"), text(&told, "public_key"));
        let (machine, lines) =
            Machine::start(image, Some(&dir.join("board.bin")), &dir.join("psram"));
        let [line, other] = lines.map(Line::new);
        let node = |name: &str, mode, line: &Line, settings: &[String]| {
            let peer = format!("{key}@serial+tcp://{}", line.at);
            Node::start(&dir.join(name), mode, &issuer, &peer, settings)
        };
        let sells = [
            format!("flow.cashier_for={}", at("board.tickets")),
            format!("issuer_key={}", at("c-issuer")),
        ];
        let a = node("a", "open", &line, for_a);
        let c = node("c", "payment_gated", &other, &[&sells[..], &for_c(&key)].concat());
        let setup = Self { machine, line, a, c, board, c_key };
        setup.linked();
        setup
    }

    fn linked(&self) {
        until("two links", || self.a.is_linked() && self.c.is_linked());
    }

    /// Sends hex from A to C. Says who stopped it and why, if somebody did. The board answers
    /// when its keep-alive is due, which may be later than anybody waits: nothing is known then.
    fn send(&self, hex: &str, more: &[&str]) -> Option<(String, String)> {
        let arguments = [&["send", &self.c_key, "--hex", hex, "--wait-ms", "3000"], more].concat();
        let mut answer = Value::Null;
        until("a route", || {
            let (yes, json) = self.a.ask(&arguments);
            answer = json;
            yes || !answer["stopped"].is_null() || answer["outcome"] == "unknown"
        });
        let stopped = &answer["stopped"];
        (!stopped.is_null()).then(|| (text(stopped, "reporter"), text(stopped, "cause")))
    }

    fn refused(&self, hex: &str, more: &[&str], cause: &str) {
        let stopped = self.send(hex, more);
        assert_eq!(stopped, Some((self.board.clone(), cause.to_owned())));
    }

    fn delivered(&self, hex: &str) {
        let mut got = Vec::new();
        until("the delivery", || {
            got.extend(self.c.received());
            !got.is_empty()
        });
        assert_eq!(got, [hex]);
    }
}

/// A `headers` message of regtest with one header, whose work holds.
fn headers() -> String {
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    let mut header = genesis.header;
    header.prev_blockhash = genesis.block_hash();
    header.time += 600;
    header.merkle_root = bitcoin::TxMerkleNode::all_zeros();
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    let body = [&[1][..], &bitcoin::consensus::serialize(&header), &[0]].concat();
    hex::encode(bitcoin_message(Network::Regtest, "headers", &body))
}

#[test]
fn a_board_between_two_nodes_relays_what_is_free_or_paid_for() {
    let Some(image) = image("BOARD_IMAGE", "relay") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut s = Setup::new(&image, dir.path());
    assert_eq!(s.machine.said(&format!("identity {}", s.board)), 1);

    assert_eq!(s.send(&headers(), &[]), None);
    s.delivered(&headers());

    let data = "5a".repeat(300);
    s.refused(&data, &["--unchecked"], "payment is required and there is no proof");
    until("the console's word", || s.machine.said("payment is required") > 0);

    // Its flash is empty, and could have been erased: what is dated before its start, and five
    // seconds on, is refused.
    std::thread::sleep(Duration::from_secs(7));
    let quote = s.a.ask(&["quote", &s.c_key, "300"]).1;
    let terms = dir.path().join("terms.json");
    std::fs::write(&terms, quote.to_string()).unwrap();
    let key = dir.path().join("issuer");
    let issue = ["issuer", "--network", "regtest", "--key", key.to_str().unwrap()];
    let invoice = yes(&[&issue[..], &["--terms", terms.to_str().unwrap()]].concat());
    let (invoice, preimage) = (text(&invoice, "invoice"), text(&invoice, "preimage"));
    let proof = ["--invoice", &invoice, "--preimage", &preimage];
    // The board knows the time from a hello.
    assert_eq!(s.send(&data, &proof), None);
    s.delivered(&data);
    let again = [&proof[..], &["--unchecked"]].concat();
    s.refused(&data, &again, "the payment was used before");

    // Garbage on the line: nothing changes.
    for garbage in [[0x99; 5000], [0; 5000]] {
        s.line.to_board.lock().unwrap().write_all(&garbage).unwrap();
    }
    assert_eq!(s.send(&headers(), &[]), None);
    s.delivered(&headers());
    assert_eq!(s.machine.said("gone "), 0);

    // It remembers over a reset.
    s.machine.reset();
    until("another start", || s.machine.said("start 2") == 1);
    until("the links again", || s.machine.said("up ") == 4);
    s.linked();
    until("the time", || s.machine.said("2 neighbours, takes payments") > 0);
    s.refused(&data, &again, "the payment was used before");
    assert!(s.c.received().is_empty());
    assert_eq!(s.machine.said("panicked"), 0);

    let (flash, memory) = sizes(&image);
    hold("flash, bytes", flash);
    hold("static memory, bytes", memory);
    hold("heap, bytes", s.machine.most(" bytes of heap"));
    hold("deepest stack, bytes", s.machine.most(" bytes of stack"));
}

/// A TCP port that gives back what it gets; its address.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut from = stream.try_clone().unwrap();
                let mut to = stream;
                std::io::copy(&mut from, &mut to)
            });
        }
    });
    at
}

/// Sends bytes and waits until they have come back.
fn there_and_back(stream: &mut TcpStream, bytes: &[u8]) {
    let mut back = vec![0; bytes.len()];
    stream.write_all(bytes).unwrap();
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes, "other bytes came back");
}

#[test]
fn a_flow_paid_for_at_the_board_goes_on_over_a_reset_without_another_payment() {
    let Some(image) = image("BOARD_IMAGE", "relay") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut s = Setup::new(&image, dir.path());
    until("the time", || s.machine.said("2 neighbours, takes payments") > 0);
    assert!(s.c.ask(&["expose", &echo(), "--as", "echo"]).0);
    let to = format!("{}:echo", s.c_key);
    let local = text(&s.a.ask(&["forward", "127.0.0.1:0", &to]).1, "local");
    let mut stream = TcpStream::connect(local).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let part: Vec<u8> = (0..40_000u32).map(|n| (n % 251) as u8).collect();
    there_and_back(&mut stream, &part);

    // C has written the invoice for the board's bytes, and the board has taken its ticket.
    let purchases = |node: &Node| node.ask(&["stats"]).1["stats"]["purchases"].clone();
    let paid = purchases(&s.a);
    assert_eq!((&paid["paid"], &paid["credited"]), (&Value::from(1), &Value::from(1)), "{paid}");
    assert!(paid["last_hour_msat"].as_u64() >= Some(50_000), "{paid}");

    // In the middle of what follows the board is reset.
    let mut writer = stream.try_clone().unwrap();
    let sent = part.clone();
    let sending = std::thread::spawn(move || writer.write_all(&sent));
    let mut back = vec![0; part.len()];
    let (first, rest) = back.split_at_mut(part.len() / 4);
    stream.read_exact(first).unwrap();
    s.machine.reset();
    stream.read_exact(rest).unwrap();
    sending.join().unwrap().unwrap();
    assert!(back == part, "other bytes came back");
    assert_eq!(s.machine.said("start 2"), 1);
    let after = purchases(&s.a);
    let spent = |of: &Value| (of["paid"].clone(), of["last_hour_msat"].clone());
    assert_eq!(spent(&after), spent(&paid), "{after}");
    assert_eq!(s.machine.said("panicked"), 0);
    hold("deepest stack, bytes", s.machine.most(" bytes of stack"));
}

#[test]
fn bitcoin_nodes_reach_each_other_through_a_board() {
    let Some(image) = image("BOARD_IMAGE", "relay") else { return };
    let Some(bitcoind) = bitcoind::find() else { return };
    let known = "-whitelist=noban,relay,mempool,download@127.0.0.1";
    let [far, near] = [(); 2].map(|()| Bitcoind::start(&bitcoind, &[known]));
    let wallet = Wallet::new();
    let coins = coins::rewards(&far, &wallet);
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let s = Setup::with(
        &image,
        dir.path(),
        &[format!("bitcoin.listen={listen}")],
        &[format!("bitcoin.node={}", far.p2p())],
    );
    near.call("addnode", json!([listen.to_string(), "onetry"]));
    let best = |node: &Bitcoind| node.text("getbestblockhash", json!([]));
    let start = Instant::now();
    until("101 blocks", || best(&near) == best(&far));
    println!("101 small blocks in {:.1?}", start.elapsed());
    let output = wallet.output(Kind::SegwitV0, coins[0].value - FEE);
    let payment = wallet.spend(&coins, vec![output]);
    coins::submit(&near, &payment);
    let id = payment.compute_txid().to_string();
    until("a transaction", || far.call("getrawmempool", json!([])) == json!([id]));
    far.call("generatetoaddress", json!([1, wallet.address()]));
    until("a block with it", || best(&near) == best(&far));
    let (_, bridged) = s.a.ask(&["bitcoin"]);
    assert_eq!(bridged["connections"].as_array().map(Vec::len), Some(1));
    assert_eq!(s.machine.said("panicked"), 0);
}

#[test]
fn a_board_is_fed_headers_and_has_the_time_from_them_also_after_a_reset() {
    let Some(image) = image("BOARD_IMAGE", "relay") else { return };
    let Some(bitcoind) = bitcoind::find() else { return };
    let far = Bitcoind::start(&bitcoind, &[]);
    let wallet = Wallet::new();
    far.call("generatetoaddress", json!([40, wallet.address()]));
    let checkpoint = far.text("getblockhash", json!([7]));
    let checkpoint = far.text("getblockheader", json!([checkpoint, false]));
    let dir = tempfile::tempdir().unwrap();
    let mut s = Setup::timed(&image, dir.path(), Some(&checkpoint), &[], |board| {
        vec![format!("bitcoin.node={}", far.p2p()), format!("bitcoin.announce_to={board}@7")]
    });
    let times = |machine: &Machine| machine.said("2 neighbours, takes payments");
    until("the time", || times(&s.machine) > 0);
    let before = times(&s.machine);
    s.machine.reset();
    until("the second start", || s.machine.said("start 2") > 0);
    until("the time once more", || times(&s.machine) > before);
    assert_eq!(s.machine.said("panicked"), 0);
}

#[test]
fn a_board_without_a_configuration_says_so_and_does_nothing() {
    let Some(image) = image("BOARD_IMAGE", "relay") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (machine, _lines) = Machine::start(&image, None, &dir.path().join("psram"));
    until("its word", || machine.said("there is no configuration") == 1);
}
