//! Reticulum, a mesh by others, with its own driver for RNodes on two emulated ones: an announcement, a
//! packet in two frames and its proof pass between two of its nodes.

use blvm_mesh_tests::modems::{Dialect, Emulator, Setup};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where `tests/real-rns` puts it, in the cache folder.
const FETCHED: &str = "rns-1.5.7/bin/python";

/// A python with rns: `RNS_PYTHON`, or what `tests/real-rns` made. Without one it is said why nothing can
/// be tested.
fn find() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(python) = set("RNS_PYTHON") {
        assert!(python.is_file(), "RNS_PYTHON is {}, which is no file", python.display());
        return Some(python);
    }
    let cache = set("BLVM_MESH_CACHE").or_else(|| Some(set("HOME")?.join(".cache/blvm-mesh")));
    let found = cache.map(|cache| cache.join(FETCHED)).filter(|python| python.is_file());
    if found.is_none() {
        println!("SKIPPED: there is no rns; `tests/real-rns` fetches it");
    }
    found
}

/// A node; killed when the test is over.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Node {
    fn start(python: &Path, folder: &Path, device: &str, role: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rns/peer.py");
        let folder = folder.join(role);
        let process = Command::new(python)
            .arg(script)
            .arg(&folder)
            .args([device, role])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(process.expect("python starts"))
    }

    /// What it said, when it has ended, and whether it ended well.
    fn end(mut self) -> (String, bool) {
        drop(self.0.stdin.take());
        let mut said = String::new();
        let out = self.0.stdout.as_mut().expect("it is piped");
        out.read_to_string(&mut said).expect("it is text");
        (said, self.0.wait().expect("it ends").success())
    }
}

#[test]
fn reticulum_passes_packets_through_emulated_rnodes() {
    let Some(python) = find() else { return };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rns");
    let _ = std::fs::remove_dir_all(&folder);
    let setup = Setup::of(&[Dialect::Rnode, Dialect::Rnode]);
    let modems = Emulator::start(&setup, |_| {}).expect("two terminals");
    let announcing = Node::start(&python, &folder, &modems.device(0), "announce");
    let sending = Node::start(&python, &folder, &modems.device(1), "send");
    let (sent, proved) = sending.end();
    let (announced, ended) = announcing.end();
    let logs: String = ["announce", "send"]
        .iter()
        .filter_map(|role| std::fs::read_to_string(folder.join(role).join("logfile")).ok())
        .collect();
    assert!(proved && ended, "{sent}\n{announced}\n{logs}");
    assert!(sent.starts_with("online\nannounce\nproved"), "{sent}");
    // The packet was whole, at the power and above the noise that the channel gives: 14 dBm less 100 dB.
    assert!(announced.contains("packet True -86 12.0\n"), "{announced}\n{logs}");
    let counts = [modems.counts(0), modems.counts(1)];
    println!("{announced}{sent}{counts:?}");
    assert!(counts[1].sent >= 2, "the packet has two frames: {counts:?}");
}
