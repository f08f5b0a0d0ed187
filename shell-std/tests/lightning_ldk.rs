//! Two Lightning nodes of `contrib/lightning-ldk` with a real channel on regtest: a node buys bytes
//! of a flow at a relay, and is killed at each step of a payment.

mod program;

use blvm_mesh_tests::bitcoind::{self, Bitcoind};
use blvm_mesh_tests::lightning_ldk::{self, Lightning, pair, until};
use program::daemon::{Daemon, text};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the payer is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nowhere.
    None,
    /// When it has called, and the Lightning node has not heard of it.
    BeforeTheCall,
    /// When the Lightning node has begun, and has not answered.
    During,
    /// When the payment is made, and it has not been told.
    Settled,
    /// When it has just been told, before it can use what it bought.
    BeforeUse,
}

/// What passes between a node and its Lightning node.
struct Between {
    step: Mutex<Step>,
    /// How often the Lightning node was told to pay each invoice.
    told: Mutex<HashMap<String, usize>>,
    reached: SyncSender<()>,
}

impl Between {
    /// A socket that leads to this one.
    fn start(dir: &Path, to: &Path) -> (Arc<Self>, PathBuf, Receiver<()>) {
        let path = dir.join("between.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (reached, wait) = sync_channel(1);
        let (step, told) = (Mutex::new(Step::None), Mutex::default());
        let between = Arc::new(Self { step, told, reached });
        let (own, to) = (between.clone(), to.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, to) = (own.clone(), to.clone());
                std::thread::spawn(move || own.pass(stream, &to));
            }
        });
        (between, path, wait)
    }

    fn pass(&self, mut from: UnixStream, to: &Path) -> std::io::Result<()> {
        let mut line = String::new();
        BufReader::new(from.try_clone()?).read_line(&mut line)?;
        let request: Value = serde_json::from_str(&line).unwrap();
        let method = request["method"].as_str().unwrap();
        if method == "pay" {
            if self.holds(Step::BeforeTheCall) {
                return Ok(());
            }
            let invoice = request["params"]["invoice"].as_str().unwrap().to_owned();
            *self.told.lock().unwrap().entry(invoice).or_default() += 1;
        }
        let mut there = UnixStream::connect(to)?;
        there.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(there).read_line(&mut answer)?;
        if method == "pay" && self.holds(Step::During) {
            return Ok(());
        }
        let is_paid = answer.contains("\"status\":\"paid\"");
        if is_paid && self.holds(Step::Settled) {
            return Ok(());
        }
        from.write_all(answer.as_bytes())?;
        if is_paid {
            self.holds(Step::BeforeUse);
        }
        Ok(())
    }

    /// Whether this is the step to stop at: then whoever waits is told, and it is left as it is for as
    /// long as the payer lives.
    fn holds(&self, step: Step) -> bool {
        let mut wanted = self.step.lock().unwrap();
        let is_it = *wanted == step;
        if is_it {
            *wanted = Step::None;
            drop(wanted);
            self.reached.send(()).unwrap();
            if step != Step::BeforeUse {
                std::thread::sleep(Duration::from_secs(2));
            }
        }
        is_it
    }
}

const GATED: [&str; 6] = [
    "--set",
    "mesh.mode=payment_gated",
    "--set",
    "tariff.base_msat=1500",
    "--set",
    "tariff.per_kib_msat=777",
];

/// A TCP port that sends back what it gets.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                std::io::copy(&mut reader, &mut stream)
            });
        }
    });
    at.to_string()
}

fn by(socket: &Path) -> [String; 4] {
    let socket = format!("lightning.socket={}", socket.display());
    ["--set".into(), "lightning.backend=ldk".into(), "--set".into(), socket]
}

/// The payer's node, with a forward to the echo.
fn payer(dir: &Path, socket: &Path, relay: &Daemon, far: &str) -> (Daemon, String) {
    let ldk = by(socket);
    let ldk: Vec<&str> = ldk.iter().map(String::as_str).collect();
    let mut payer = Daemon::start(dir, &[relay], &[&ldk[..], &GATED].concat());
    let order = json!({"local": "127.0.0.1:0", "node": far, "service": "echo"});
    let forward = payer.call("forward", order).unwrap();
    let local = text(&forward["local"]).to_owned();
    (payer, local)
}

/// Whether bytes go there and come back. A stream may be refused before there is a route.
fn goes(local: &str, length: usize) -> bool {
    let go = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(local)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(&vec![7; length])?;
        let mut back = vec![0; length];
        stream.read_exact(&mut back)?;
        Ok(back.iter().all(|byte| *byte == 7))
    };
    go().unwrap_or(false)
}

/// What the node's ledger says was paid, by payment hash, and the hashes of which it knows nothing.
fn ledger(payer: &mut Daemon) -> (HashMap<String, u64>, Vec<String>) {
    let ledger = payer.call("getledger", json!({"kind": "purchases", "limit": 1000})).unwrap();
    let (mut paid, mut open) = (HashMap::new(), Vec::new());
    for purchase in ledger["purchases"].as_array().unwrap() {
        let hash = text(&purchase["payment"]).to_owned();
        match purchase["state"].as_str().unwrap() {
            "paid" | "credited" => {
                let cost = ["amount_msat", "fee_msat"].map(|name| purchase[name].as_u64().unwrap());
                assert!(paid.insert(hash, cost.iter().sum()).is_none(), "{ledger}");
            }
            _ => open.push(hash),
        }
    }
    (paid, open)
}

fn status(node: &Lightning, method: &str, hash: &str) -> String {
    let found = node.call(method, json!({"payment_hash": hash})).unwrap();
    text(&found["status"]).to_owned()
}

#[test]
fn a_payer_that_is_killed_at_any_step_pays_once_and_loses_nothing() {
    let Some(program) = lightning_ldk::find() else { return };
    let Some(bitcoind) = bitcoind::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let chain = Bitcoind::start(&bitcoind, &["-txindex=1", "-fallbackfee=0.0001"]);
    let [paying, paid_to] = pair(&program, dir.path(), &chain);
    let (between, socket, reached) = Between::start(dir.path(), &paying.socket);
    let held = paying.number("balance", "payable_msat");

    let ldk = by(&paid_to.socket);
    let ldk: Vec<&str> = ldk.iter().map(String::as_str).collect();
    let mut relay = Daemon::start(&dir.path().join("relay"), &[], &[&ldk[..], &GATED].concat());
    // The destination is paid as well, by an invoice of its own.
    let receives = ["--set", "tariff.receive_per_kib_msat=300"];
    let own = [&ldk[..], &GATED, &receives].concat();
    let mut far = Daemon::start(&dir.path().join("far"), &[&relay], &own);
    far.call("expose", json!({"name": "echo", "target": echo()})).unwrap();
    let key = text(&far.ready["public_key"]).to_owned();

    let own = dir.path().join("source");
    let steps = [Step::BeforeTheCall, Step::During, Step::Settled, Step::BeforeUse, Step::None];
    for step in steps {
        *between.step.lock().unwrap() = step;
        let (mut payer, local) = payer(&own, &socket, &relay, &key);
        if step == Step::None {
            until("bytes that were paid for", || goes(&local, 300_000));
            break;
        }
        let killed = Arc::new(AtomicBool::new(false));
        let over = killed.clone();
        // The invoice that may be paid already is given again for a while.
        let trying = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) && !goes(&local, 300_000) {
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        reached.recv_timeout(bitcoind::PATIENCE).unwrap_or_else(|_| {
            panic!("{step:?} is not reached: {}", payer.call("getstats", json!({})).unwrap())
        });
        // kill -9
        drop(payer);
        killed.store(true, Ordering::Relaxed);
        trying.join().unwrap();
    }

    // Started again, it finds out what became of each.
    let (mut payer, _local) = payer(&own, &socket, &relay, &key);
    let order = json!({"destination": key, "data_hex": "5a".repeat(20_000), "pay": true});
    let sent = payer.call("meshsendpacket", order).unwrap();
    assert_eq!(sent["outcome"], "delivered", "{sent}");
    let came = far.call("meshpollreceived", json!({})).unwrap();
    assert_eq!(came[0]["data_hex"], "5a".repeat(20_000));
    let mut last = Default::default();
    until("what became of each payment", || {
        last = ledger(&mut payer);
        last.1.iter().all(|hash| status(&paying, "lookup", hash) == "unknown")
    });
    let (paid, open) = last;
    // The first was never made.
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(paid.len() >= 4, "{paid:?}");
    let mut sellers = HashMap::new();
    for node in [&mut relay, &mut far] {
        let sold = node.call("getledger", json!({"kind": "sales", "limit": 1000})).unwrap();
        for sale in sold["sales"].as_array().unwrap() {
            let hash = text(&sale["payment"]).to_owned();
            assert!(sellers.insert(hash, text(&node.ready["public_key"]).to_owned()).is_none());
        }
        let sells = sellers.values().filter(|key| **key == text(&node.ready["public_key"])).count();
        assert!(sells > 0, "each of both was paid: {sold}");
    }
    assert!(sellers.keys().all(|hash| paid.contains_key(hash)), "{sellers:?} {paid:?}");
    for hash in paid.keys() {
        assert_eq!(status(&paying, "lookup", hash), "paid");
        assert_eq!(status(&paid_to, "settled", hash), "settled");
    }
    // Ledger and account agree, on both sides.
    let spent = paid.values().sum::<u64>();
    assert_eq!(held - paying.number("balance", "payable_msat"), spent);
    let told = between.told.lock().unwrap();
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    assert_eq!(told.len(), paid.len());
}

/// The service alone: what the backend relies on, with a real channel, and over kill -9 of the service
/// itself.
#[test]
fn the_service_pays_once_over_its_own_crash() {
    let Some(program) = lightning_ldk::find() else { return };
    let Some(bitcoind) = bitcoind::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let chain = Bitcoind::start(&bitcoind, &["-txindex=1", "-fallbackfee=0.0001"]);
    let [paying, paid_to] = pair(&program, dir.path(), &chain);
    let held = paying.number("balance", "payable_msat");
    let terms = format!("blvm-mesh:{}", "5a".repeat(32));
    let invoice = |amount_msat: u64| {
        let order = json!({"text": terms, "amount_msat": amount_msat, "expiry_s": 3_600});
        let written = paid_to.call("invoice", order).unwrap();
        (text(&written["invoice"]).to_owned(), text(&written["payment_hash"]).to_owned())
    };
    let pay = |node: &Lightning, invoice: &str| {
        node.call("pay", json!({"invoice": invoice, "max_fee_msat": 1_000}))
    };

    let (first, hash) = invoice(50_500);
    assert_eq!(status(&paying, "lookup", &hash), "unknown");
    assert_eq!(status(&paid_to, "settled", &hash), "open");
    assert_eq!(pay(&paying, &first).unwrap()["status"], "pending");
    until("a payment", || status(&paying, "lookup", &hash) == "paid");
    assert_eq!(held - paying.number("balance", "payable_msat"), 50_500);
    assert_eq!(status(&paid_to, "settled", &hash), "settled");
    assert!(pay(&paying, &first).unwrap_err().contains("before"));
    assert!(pay(&paid_to, &first).unwrap_err().contains("own"));

    // More than the channel has: it fails at once, and says so.
    let (large, too_much) = invoice(5_000_000_000);
    assert_eq!(pay(&paying, &large).unwrap()["status"], "failed");
    assert_eq!(status(&paying, "lookup", &too_much), "failed");

    // Killed with payments on their way: told again it refuses, and none is called failed that the
    // payee has. What LDK has of such a channel is older than what it has of its state, so it closes it:
    // the rest is settled on chain.
    let more: Vec<_> = (0..5).map(|n| invoice(60_000 + n)).collect();
    for (invoice, _) in &more {
        pay(&paying, invoice).unwrap();
    }
    drop(paying);
    let paying = Lightning::start(&program, &dir.path().join("payer"), &chain);
    assert_eq!(status(&paying, "lookup", &hash), "paid");
    assert!(pay(&paying, &first).unwrap_err().contains("before"));
    for (invoice, hash) in &more {
        assert!(pay(&paying, invoice).unwrap_err().contains("before"));
        match status(&paying, "lookup", hash).as_str() {
            "paid" => assert_eq!(status(&paid_to, "settled", hash), "settled"),
            "failed" => assert_eq!(status(&paid_to, "settled", hash), "open"),
            other => assert_eq!(other, "pending"),
        }
    }

    let path = dir.path().join("backup");
    paying.call("backup", json!({"path": path})).unwrap();
    let words = std::fs::read_to_string(dir.path().join("payer/seed")).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains(words.trim()));
    assert!(paying.call("backup", json!({"path": path})).is_err());
    paying.call("stop", json!({})).unwrap();
    until("its end", || !paying.socket.exists());
}
