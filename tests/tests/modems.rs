//! Emulated modems as a host finds them: at terminals and TCP ports, in real time, in this process and
//! as the program `blvm-mesh-modems`.

use blvm_mesh_tests::modems::{Counts, Dialect, Emulator, Ports, Setup, kiss};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Most time that one step may take. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// 869.525 MHz, 125 kHz, 14 dBm, SF 8, 4/5, on.
const RNODE: &[u8] = &[
    0xc0, 1, 0x33, 0xd3, 0xe6, 0x08, 0xc0, 0xc0, 2, 0, 1, 0xe8, 0x48, 0xc0, 0xc0, 3, 14, 0xc0,
    0xc0, 4, 8, 0xc0, 0xc0, 5, 5, 0xc0, 0xc0, 6, 1, 0xc0,
];
/// The same for MeshCore.
const MESHCORE: &[u8] =
    &[0xc0, 6, 9, 0x08, 0xe6, 0xd3, 0x33, 0x48, 0xe8, 1, 0, 8, 5, 0xc0, 0xc0, 1, 0, 0xc0];

/// A host of one modem.
struct Host {
    port: Box<dyn Write>,
    /// What the modem says; it ends when the modem is gone.
    frames: Receiver<Vec<u8>>,
    closed: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.closed.store(true, Relaxed);
        // It has the port open too.
        let _ = self.reading.take().map(JoinHandle::join);
    }
}

impl Host {
    fn open(device: &str) -> Self {
        if Path::new(device).exists() {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let port = rustix::fs::open(device, flags, Mode::empty()).expect("a terminal");
            let port = File::from(port);
            return Self::of(port.try_clone().expect("a second handle"), port);
        }
        let port = TcpStream::connect(device).expect("a port");
        Self::of(port.try_clone().expect("a second handle"), port)
    }

    fn of(mut reader: impl Read + AsFd + Send + 'static, port: impl Write + 'static) -> Self {
        let (sender, frames) = channel();
        let closed = Arc::new(AtomicBool::new(false));
        let closes = closed.clone();
        let reading = std::thread::spawn(move || {
            let (mut taken, mut bytes) = (kiss::Frames::new(600), [0; 256]);
            let short = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            while !closes.load(Relaxed) {
                let ready = poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&short));
                if ready == Ok(0) {
                    continue;
                }
                // The end of a terminal is an error, that of a connection is nothing.
                let Ok(count @ 1..) = reader.read(&mut bytes) else { return };
                for frame in taken.take_all(&bytes[..count]) {
                    let _ = sender.send(frame);
                }
            }
        });
        Self { port: Box::new(port), frames, closed, reading: Some(reading) }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.port.write_all(bytes).expect("the modem reads");
    }

    /// Waits until the modem says something that begins so.
    fn hears(&self, start: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left) {
                Ok(frame) if frame.starts_with(start) => return frame,
                Ok(_) => {}
                Err(error) => panic!("{start:x?} never came: {error}"),
            }
        }
    }

    /// Waits until the modem is gone.
    fn is_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left) {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("the modem is still there"),
                Ok(_) => {}
            }
        }
    }
}

/// Opens a modem and sets it.
fn set(device: &str, dialect: Dialect) -> Host {
    let mut host = Host::open(device);
    match dialect {
        Dialect::Rnode => {
            host.write(&[0xc0, 8, 0x73, 0xc0]);
            host.hears(&[8, 0x46]);
            host.write(RNODE);
            host.hears(&[6, 1]);
        }
        Dialect::Meshcore => {
            host.write(&[0xc0, 6, 0x17, 0xc0]);
            host.hears(&[6, 0x97]);
            host.write(MESHCORE);
            host.hears(&[6, 0xf0]);
        }
    }
    host
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A packet passes in real time, at terminals and TCP ports, and one that is pulled out and put back
/// works again.
fn passes(setup: &Setup) {
    let modems = Emulator::start(setup, |_| {}).expect("their ports");
    let dialect = setup.world.modems[0];
    let mut hosts = [set(&modems.device(0), dialect), set(&modems.device(1), dialect)];
    let pass = |hosts: &mut [Host; 2], data: u8| {
        let start = Instant::now();
        hosts[0].write(&kiss::frame(0, &[data; 100]));
        assert_eq!(hosts[1].hears(&[0]), [&[0][..], &[data; 100]].concat());
        start.elapsed()
    };
    // 100 bytes at SF 8 and 125 kHz are on the air for 287 ms at least (8 symbols of preamble).
    assert!(pass(&mut hosts, 1) > Duration::from_millis(287));
    modems.order("pull 1".parse().expect("an order")).expect("modem 1 is there");
    hosts[1].is_left();
    modems.order("plug 1".parse().expect("an order")).expect("modem 1 is there");
    let device = modems.device(1);
    // It starts for a second, and does not answer until then.
    std::thread::sleep(Duration::from_millis(1500));
    hosts[1] = set(&device, dialect);
    pass(&mut hosts, 2);
    let counts = modems.counts(0);
    assert_eq!((counts.sent, counts.received), (2, 0));
    assert_eq!(modems.counts(1), Counts { received: 2, ..Counts::default() });
}

#[test]
fn packets_pass_between_rnodes_at_terminals() {
    let links = folder("modems-links");
    let setup = Setup {
        ports: Ports::Linked(links.clone()),
        ..Setup::of(&[Dialect::Rnode, Dialect::Rnode])
    };
    passes(&setup);
    assert_eq!(std::fs::read_dir(links).expect("a folder").count(), 0, "links are left");
}

#[test]
fn packets_pass_between_meshcore_modems_at_ports() {
    passes(&Setup { ports: Ports::Tcp, ..Setup::of(&[Dialect::Meshcore, Dialect::Meshcore]) });
}

#[test]
fn garbage_comes_and_is_over() {
    let modems = Emulator::start(&Setup::of(&[Dialect::Rnode]), |_| {}).expect("a terminal");
    let mut host = set(&modems.device(0), Dialect::Rnode);
    modems.order("garbage 0 5000".parse().expect("an order")).expect("modem 0 is there");
    host.write(&[0xc0, 8, 0x73, 0xc0, 0x0f, 0, 0xc0]);
    host.hears(&[0x0f, 1]);
    // A second host finds the modem as the first left it, and no answer that was the first one's.
    host.write(&[0xc0, 0x40, 0, 0xc0]);
    drop(host);
    std::thread::sleep(Duration::from_millis(300));
    let mut host = Host::open(&modems.device(0));
    host.write(&[0xc0, 6, 0xff, 0xc0]);
    loop {
        let frame = host.hears(&[]);
        assert_ne!(frame[0], 0x40);
        if frame == [6, 1] {
            break;
        }
    }
}

/// What is written to a modem that starts is lost, and it says when it listens.
#[test]
fn a_modem_that_resets_when_it_is_opened_says_so() {
    let setup = Setup { reset_on_open: true, ..Setup::of(&[Dialect::Rnode]) };
    let modems = Emulator::start(&setup, |_| {}).expect("a terminal");
    for _ in 0..2 {
        let mut host = Host::open(&modems.device(0));
        host.write(&[0xc0, 8, 0x73, 0xc0]);
        assert_eq!(host.hears(&[]), [0x55, 0xf8]);
        host.write(&[0xc0, 8, 0x73, 0xc0]);
        assert_eq!(host.hears(&[]), [8, 0x46]);
        drop(host);
        // It is looked every 20 ms whether somebody is there.
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The program, killed when the test is over.
struct Program {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Program {
    fn start(options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_blvm-mesh-modems"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was built");
        let out = process.stdout.take().expect("it is piped");
        Self { process, lines: BufReader::new(out).lines() }
    }

    fn line(&mut self) -> Value {
        let line = self.lines.next().expect("a line").expect("text");
        serde_json::from_str(&line).expect("JSON")
    }

    fn asked(&mut self, order: &str) -> Value {
        let mut input = self.process.stdin.as_ref().expect("it is piped");
        writeln!(input, "{order}").expect("it reads");
        self.line()
    }
}

#[test]
fn the_program_says_where_its_modems_are_and_takes_orders() {
    let mut program = Program::start(&["--modems", "rnode,meshcore", "--order", "deaf 1"]);
    let (first, second) = (program.line(), program.line());
    assert_eq!((&first["modem"], &first["dialect"]), (&0.into(), &"rnode".into()));
    assert_eq!((&second["modem"], &second["dialect"]), (&1.into(), &"meshcore".into()));
    let mut one = set(first["device"].as_str().expect("a path"), Dialect::Rnode);
    set(second["device"].as_str().expect("a path"), Dialect::Meshcore);
    one.write(&[0xc0, 0x0f, 0, 0xc0]);
    one.hears(&[0x0f, 1]);
    assert_eq!(program.asked("hear 1")["done"], "hear 1");
    assert_eq!(program.asked("counts 1")["counts"]["received"], 0);
    let error = program.asked("explode 0");
    assert!(error["error"].as_str().is_some_and(|text| text.contains("pull N")), "{error}");
    assert!(program.asked("reset 7")["error"].is_string());
    assert_eq!(program.asked("pull 0")["done"], "pull 0");
    one.is_left();
    let device = program.asked("plug 0");
    assert!(device["device"].is_string(), "{device}");
    assert_eq!(program.line()["done"], "plug 0");
}

#[test]
fn the_program_refuses_what_it_cannot_do() {
    for options in [&["--modems", "lorawan"][..], &["--topology", "0-0"], &["--order", "pull 9"]] {
        let mut program = Program::start(options);
        let status = program.process.wait().expect("it ends");
        assert!(!status.success(), "{options:?}");
    }
}
