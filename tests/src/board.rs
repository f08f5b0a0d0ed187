//! The board's images, the machine that runs one, and its budgets as `docs/BOARDS.md` states
//! them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

const DOCUMENT: &str = include_str!("../../docs/BOARDS.md");
const TARGET: &str = "thumbv7em-none-eabihf";

/// The limit of one row of the table, by its first cell.
fn limit(what: &str) -> u64 {
    let row = DOCUMENT.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")));
    let cell = row.and_then(|row| row.split(" |").next());
    let digits = cell.unwrap_or_else(|| panic!("docs/BOARDS.md has no row '{what}'"));
    digits.replace(',', "").parse().expect("the limit is a number")
}

/// Prints a number with its limit, and fails above that.
pub fn hold(what: &str, number: u64) {
    let limit = limit(what);
    println!("| {what} | {limit} | {number} |");
    assert!(number > 0, "{what}: nothing was measured");
    assert!(number <= limit, "{what}: {number}, at most {limit} are allowed");
}

/// Where an image is: the variable names it, else it is built here. `None`, and the reason
/// is printed: this machine cannot run or build it.
pub fn image(variable: &str, name: &str) -> Option<PathBuf> {
    if let Ok(path) = std::env::var(variable) {
        return Some(path.into());
    }
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(dir) => Some(dir.join(name)),
        Err(why) => {
            println!("SKIPPED: {variable} is not set, and {why}");
            None
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let out = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Builds the images as `.ci/run` does; gives their directory.
fn build() -> Result<PathBuf, String> {
    for needed in ["qemu-system-arm", "arm-none-eabi-gcc", "arm-none-eabi-size"] {
        output(needed, &["--version"]).ok_or_else(|| format!("{needed} is not installed"))?;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let rustlib = |rustc: &str| {
        output(rustc, &["--print", "sysroot"]).map(|root| Path::new(&root).join("lib/rustlib"))
    };
    let has = |rustc: &str, what: &str| rustlib(rustc).is_some_and(|dir| dir.join(what).is_dir());
    let mut cargo = if has("rustc", TARGET) {
        Command::new("cargo")
    } else if has("/usr/bin/rustc", "src/rust/library") {
        let mut cargo = Command::new("/usr/bin/cargo");
        cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc").args([
            "-Z",
            "build-std=core,alloc,panic_abort",
            "-Z",
            "build-std-features=optimize_for_size",
        ]);
        cargo
    } else {
        return Err(format!("there is no {TARGET}: `rustup target add {TARGET}`"));
    };
    let target = root.join("target/board");
    cargo.args(["build", "--locked", "--release", "--bins", "--target", TARGET, "--target-dir"]);
    cargo.arg(&target).current_dir(root.join("shell-embedded/firmware"));
    println!("building the board's images");
    let built = cargo.output().map_err(|e| format!("cargo cannot be run: {e}"))?;
    match built.status.success() {
        true => Ok(target.join(TARGET).join("release")),
        false => panic!("the images cannot be built:\n{}", String::from_utf8_lossy(&built.stderr)),
    }
}

/// Bytes of flash (code, constants, initial values) and of static memory (data, and all
/// that begins as zeros) of an image.
pub fn sizes(image: &Path) -> (u64, u64) {
    let out = Command::new("arm-none-eabi-size").arg(image).output().expect("it is installed");
    let said = String::from_utf8(out.stdout).expect("text");
    let row = said.lines().nth(1).expect("a row of numbers");
    let numbers: Vec<u64> = row.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let [text, data, bss, ..] = numbers[..] else { panic!("not a row of sizes: {row}") };
    (text + data, data + bss)
}

/// The machine that runs an image: QEMU's `mps2-an386` with two lines and a console.
pub struct Machine {
    qemu: Child,
    monitor: TcpStream,
    console: Arc<Mutex<Vec<String>>>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Machine {
    /// Starts it with a configuration, if there is one, and gives its lines. Its PSRAM is
    /// kept in `psram`, 16 MiB, which outlives it.
    pub fn start(image: &Path, config: Option<&Path>, psram: &Path) -> (Self, [TcpStream; 2]) {
        let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let at = |n: usize| format!("tcp:{}", listeners[n].local_addr().expect("an address"));
        let mut qemu = Command::new("qemu-system-arm");
        qemu.args(["-M", "mps2-an386,memory-backend=psram", "-display", "none", "-object"]);
        let file = psram.display();
        qemu.arg(format!("memory-backend-file,id=psram,size=16M,share=on,mem-path={file}"));
        if let Some(config) = config {
            let file = config.display();
            qemu.args(["-device", &format!("loader,file={file},addr=0x003ff000,force-raw=on")]);
        }
        for n in 0..3 {
            qemu.args(["-serial", &at(n)]);
        }
        qemu.args(["-monitor", &at(3), "-kernel"]).arg(image).stdin(Stdio::null());
        let qemu = qemu.spawn().expect("qemu-system-arm is installed");
        let [a, b, console, monitor] = listeners.map(|listener| {
            let (stream, _) = listener.accept().expect("QEMU connects");
            stream.set_nodelay(true).expect("a socket");
            stream
        });
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        std::thread::spawn(move || {
            BufReader::new(console).lines().map_while(Result::ok).for_each(|line| {
                println!("board: {line}");
                lines.lock().expect("no panic").push(line);
            });
        });
        // What the monitor says must be read, or QEMU waits.
        let mut says = monitor.try_clone().expect("a socket");
        std::thread::spawn(move || while matches!(says.read(&mut [0; 512]), Ok(1..)) {});
        (Self { qemu, monitor, console: said }, [a, b])
    }

    /// Presses the reset button: what is in its memory stays.
    pub fn reset(&mut self) {
        self.monitor.write_all(b"system_reset\n").expect("QEMU runs");
    }

    /// How many lines of the console have these words.
    pub fn said(&self, what: &str) -> usize {
        self.console.lock().expect("no panic").iter().filter(|l| l.contains(what)).count()
    }

    /// The largest number that the console says in front of some words.
    pub fn most(&self, what: &str) -> u64 {
        let of = |line: &String| -> Option<u64> {
            let (before, _) = line.split_once(what)?;
            before.split_whitespace().next_back()?.parse().ok()
        };
        self.console.lock().expect("no panic").iter().filter_map(of).max().unwrap_or_default()
    }
}
