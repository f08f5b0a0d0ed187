//! The firmware image as a board runs it: QEMU's mps2-an386 between two serial lines,
//! with a board loop of this machine at the other end of each.
//!
//! `BOARD_IMAGE` names the image (`.ci/run` builds it); without it the test
//! is skipped.

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use blvm_mesh_core::wire::route_error::Cause;
use blvm_mesh_embedded::{Board, BoardMemory, Happening, Port, Role, Sent};
use blvm_mesh_tests::board::hold;
use blvm_mesh_tests::invoice::Order;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the slowest step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A serial line that QEMU offers as a socket.
struct Line(TcpStream);

impl Port for Line {
    fn read(&mut self, buf: &mut [u8]) -> usize {
        match self.0.read(buf) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => panic!("the serial line broke: {e}"),
        }
    }
    fn write(&mut self, bytes: &[u8]) -> usize {
        match self.0.write(bytes) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => panic!("the serial line broke: {e}"),
        }
    }
}

struct End {
    board: Board<RustCrypto, Line, 1>,
    seen: Vec<Seen>,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Up,
    Down,
    Delivered { payload: Vec<u8>, earned_msat: u64 },
    Failed { reporter: NodeId, cause: Cause },
}

struct Machine {
    qemu: Child,
    monitor: TcpStream,
    log: Arc<Mutex<Vec<String>>>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Machine {
    fn start(image: &str, settings: &[String]) -> (Self, [Line; 2]) {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let mut arguments = "enable=on,target=native".to_string();
        settings.iter().for_each(|s| arguments += &format!(",arg={s}"));
        let mut qemu = Command::new("qemu-system-arm");
        let monitor = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = format!("tcp:{}", monitor.local_addr().unwrap());
        qemu.args(["-M", "mps2-an386", "-nographic", "-monitor", &at, "-kernel", image]);
        qemu.args(["-semihosting-config", &arguments]);
        for listener in &listeners {
            qemu.args(["-serial", &format!("tcp:{}", listener.local_addr().unwrap())]);
        }
        qemu.args(["-serial", "null"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut qemu = qemu.spawn().expect("qemu-system-arm is installed");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, out) = (Arc::clone(&log), qemu.stdout.take().unwrap());
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).for_each(|line| {
                println!("board: {line}");
                lines.lock().unwrap().push(line);
            });
        });
        let lines = listeners.map(|listener| {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            stream.set_nodelay(true).unwrap();
            Line(stream)
        });
        let (monitor, _) = monitor.accept().unwrap();
        (Self { qemu, monitor, log }, lines)
    }

    /// Presses the reset button: what is in its memory stays.
    fn reset(&mut self) {
        self.monitor.write_all(b"system_reset\n").unwrap();
    }

    fn said(&self, what: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(what))
    }
}

impl Machine {
    /// The largest number that the image says in front of some words.
    fn most(&self, what: &str) -> u64 {
        let of = |line: &String| -> Option<u64> {
            let (before, _) = line.split_once(what)?;
            before.split_whitespace().next_back()?.parse().ok()
        };
        self.log.lock().unwrap().iter().filter_map(of).max().unwrap_or_default()
    }
}

/// Bytes of flash (code, constants, initial values) and of static memory (data, and all
/// that begins as zeros) of an image.
fn sizes(image: &str) -> (u64, u64) {
    let out = Command::new("arm-none-eabi-size").arg(image).output().expect("it is installed");
    let said = String::from_utf8(out.stdout).unwrap();
    let row = said.lines().nth(1).expect("a row of numbers");
    let numbers: Vec<u64> = row.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let [text, data, bss, ..] = numbers[..] else { panic!("not a row of sizes: {row}") };
    (text + data, data + bss)
}

struct Setup {
    machine: Machine,
    ends: [End; 2],
    begin: Instant,
}

fn secret(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

fn public(n: u8) -> PublicKey {
    secret(n).public_key(&Secp256k1::new())
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

const RELAY: u8 = 1;
const A: u8 = 2;
const C: u8 = 3;
const ISSUER: u8 = 4;

impl Setup {
    fn new(image: &str) -> Self {
        let settings = [
            format!("key={}", hex::encode(secret(RELAY).secret_bytes())),
            // A test's secrets are none; a real board's seed is random.
            format!("seed={}", hex::encode([9; 32])),
            "network=regtest".into(),
            "mode=payment_gated".into(),
            format!("issuer={}", public(ISSUER)),
        ];
        let (machine, [line_a, line_c]) = Machine::start(image, &settings);
        let end = |n: u8, mode, line| {
            let mut config = Config::board(Network::Regtest, u32::MAX);
            config.mode = mode;
            config.timing.keepalive = SECOND;
            config.timing.hop_round_trip = 500 * MILLISECOND;
            config.payment.issuers.push(public(ISSUER)).unwrap();
            let ports = [(line, Role::Dial(public(RELAY)))];
            let memory: &mut BoardMemory<1, 1280, 320, 4096> =
                Box::leak(Box::new(BoardMemory::EMPTY));
            End { board: Board::new(memory, config, secret(n), [n; 32], ports), seen: Vec::new() }
        };
        let mut ends = [end(A, MeshMode::Open, line_a), end(C, MeshMode::PaymentGated, line_c)];
        for end in &mut ends {
            end.board.set_clock(0, unix(), &mut |_| ());
        }
        Self { machine, ends, begin: Instant::now() }
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }

    /// Runs both ends until something holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !holds(self) {
            let seen: Vec<_> = self.ends.iter().map(|end| &end.seen).collect();
            assert!(Instant::now() < limit, "{what} did not come; seen: {seen:?}");
            let now = self.now();
            for End { board, seen } in &mut self.ends {
                board.step(now, &mut |what| match what {
                    Happening::Deliver { payload, earned_msat, .. } => {
                        seen.push(Seen::Delivered { payload: payload.to_vec(), earned_msat });
                    }
                    Happening::Event(Event::PeerConnected { .. }) => seen.push(Seen::Up),
                    Happening::LinkDown { .. } => seen.push(Seen::Down),
                    Happening::Event(Event::DeliveryFailed { reporter, cause, .. }) => {
                        seen.push(Seen::Failed { reporter, cause });
                    }
                    _ => {}
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends from A to C, searching a route first where none is known.
    fn send(&mut self, payload: &[u8], proof: &[u8]) {
        let to = NodeId::from_public_key(&public(C));
        let now = self.now();
        let [a, _] = &mut self.ends;
        if let Sent::Searching(_) = a.board.send(now, to, payload, proof, &mut |_| ()) {
            self.until("a route", |s| {
                s.ends[0].board.mesh().table().find_route(&to, s.now()).is_some()
            });
            let now = self.now();
            let sent = self.ends[0].board.send(now, to, payload, proof, &mut |_| ());
            assert!(matches!(sent, Sent::Queued(_)), "{sent:?}");
        }
    }

    fn delivered(&self, what: &[u8]) -> usize {
        let is = |s: &&Seen| matches!(s, Seen::Delivered { payload, .. } if payload == what);
        self.ends[1].seen.iter().filter(is).count()
    }

    fn refused(&mut self, cause: Cause) {
        let reporter = NodeId::from_public_key(&public(RELAY));
        let failed = Seen::Failed { reporter, cause };
        self.until(&format!("{failed:?}"), |s| s.ends[0].seen.contains(&failed));
    }
}

#[test]
fn the_image_relays_what_is_free_or_paid_for() {
    let Ok(image) = std::env::var("BOARD_IMAGE") else {
        println!("SKIPPED: BOARD_IMAGE is not set");
        return;
    };
    let mut s = Setup::new(&image);
    s.until("two links", |s| s.ends.iter().all(|end| end.seen.contains(&Seen::Up)));
    assert!(s.machine.said(&NodeId::from_public_key(&public(RELAY)).to_string()));

    // The `verack` of regtest: free.
    let verack = [&b"\xfa\xbf\xb5\xdaverack\0\0\0\0\0\0\0\0\0\0"[..], b"\x5d\xf6\xe0\xe2"].concat();
    s.send(&verack, &[]);
    s.until("the free message", |s| s.delivered(&verack) == 1);

    let data = [0x55; 300];
    s.send(&data, &[]);
    s.refused(Cause::PaymentRequired);
    assert_eq!(s.delivered(&data), 0);

    let to = NodeId::from_public_key(&public(C));
    let quote = s.ends[0].board.mesh().quote(&to, data.len() as u64).unwrap();
    // The ends keep nothing, so they take only what is dated after their start and the skew
    // that they allow: nearly the latest date that is not yet the future.
    let started = unix();
    s.until("later", |_| unix() > started + 2);
    let order = |signer| {
        let dated = unix() + Config::board(Network::Regtest, 0).payment.future_skew - 1;
        Order::new(secret(signer), quote.terms_hash, quote.amount_msat, dated)
    };
    let stranger = order(A).proof();
    s.send(&data, &stranger);
    s.refused(Cause::IssuerUnknown);

    let proof = order(ISSUER).proof();
    s.send(&data, &proof);
    s.until("the paid datagram", |s| s.delivered(&data) == 1);
    let share =
        |seen: &&Seen| matches!(seen, Seen::Delivered { earned_msat, .. } if *earned_msat > 0);
    assert!(s.ends[1].seen.iter().any(|seen| share(&seen)));
    s.send(&data, &proof);
    s.refused(Cause::Replay);
    assert_eq!(s.delivered(&data), 1);

    // It remembers over a reset.
    let ups =
        |s: &Setup| s.ends.iter().flat_map(|end| &end.seen).filter(|x| **x == Seen::Up).count();
    s.ends.iter_mut().for_each(|end| end.seen.clear());
    s.machine.reset();
    s.until("two links after the reset", |s| ups(s) == 2);
    assert!(s.machine.said("start 2"));
    s.send(&data, &proof);
    s.refused(Cause::Replay);
    assert_eq!(s.delivered(&data), 0);
    s.ends.iter_mut().for_each(|end| end.seen.retain(|x| *x == Seen::Up));

    // Noise on one line: its link ends and begins again, the other one stays.
    let Line(line) = s.ends[0].board.port(0).unwrap();
    line.write_all(&[0x99; 100]).unwrap();
    s.until("the link's end", |s| s.ends[0].seen.contains(&Seen::Down));
    s.until("the link again", |s| s.ends[0].seen.iter().filter(|x| **x == Seen::Up).count() == 2);
    assert!(!s.ends[1].seen.contains(&Seen::Down));
    s.send(&verack, &[]);
    s.until("a free message again", |s| s.delivered(&verack) == 1);
    assert!(!s.machine.said("panicked"));
    let (flash, memory) = sizes(&image);
    hold("flash, bytes", flash);
    hold("static memory, bytes", memory);
    hold("heap, bytes", s.machine.most(" bytes of heap"));
    hold("deepest stack, bytes", s.machine.most(" bytes of stack"));
}
