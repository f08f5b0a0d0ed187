//! The built program: exit codes, standard input, signals, and the demonstration.

mod program;

use program::program;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Output, Stdio};

fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = program()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that asks for nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn exit_codes_tell_yes_no_and_bad_usage() {
    let verack = b"f9beb4d976657261636b000000000000000000005df6e0e2";
    let yes = run(&["detect"], verack);
    assert_eq!(yes.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&yes.stdout).contains("BitcoinP2P"));
    assert_eq!(run(&["detect", "-"], b"something else").status.code(), Some(1));
    for wrong in [
        &["detect", "--mode", "x"][..],
        &["detect", "/no/such/file"],
        &["frobnicate"],
        &[],
        &["run", "--data-dir", "/no/such", "--log", "verbose"],
    ] {
        let output = run(wrong, b"");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{wrong:?}");
    }
    // With --json all that is wrong is one object in one line on standard output.
    for wrong in [
        &["detect", "/no/such/file", "--json"][..],
        &["detect", "--mode", "x", "--json"],
        &["--json", "frobnicate"],
        &["send", "--json"],
        &["--json"],
        &["recv", "--follow", "--json", "--data-dir", "/no/such/directory"],
    ] {
        let json = run(wrong, b"");
        assert_eq!(json.status.code(), Some(2), "{wrong:?}");
        let text = String::from_utf8(json.stdout).unwrap();
        assert_eq!(text.lines().count(), 1, "{wrong:?}: {text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["error"]["code"], 2);
        assert!(!value["error"]["message"].as_str().unwrap().is_empty());
    }
    for help in [&["--help", "--json"][..], &["--version"]] {
        assert_eq!(run(help, b"").status.code(), Some(0));
    }
}

/// A node, killed at the end.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_node_runs_alone_in_its_directory_and_stops_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("node");
    let data_dir = data_dir.to_str().unwrap();
    let arguments =
        ["run", "--json", "--data-dir", data_dir, "--listen-addr", "127.0.0.1:0", "--log", "off"];
    let mut node = Node(program().args(arguments).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(node.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(!ready["listen_addr"].as_str().unwrap().ends_with(":0"), "the real port");

    for (file, mode) in [("identity.key", 0o600), ("mesh.redb", 0o600), ("rpc.sock", 0o600)] {
        let path = dir.path().join("node").join(file);
        assert_eq!(path.symlink_metadata().unwrap().mode() & 0o7777, mode, "{file}");
    }
    let stats = run(&["stats", "--json", "--data-dir", data_dir], b"");
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!(stats["info"]["node_id"], ready["node_id"]);
    assert_eq!(stats["stats"]["store_ok"], true);
    let shown = run(&["stats", "--data-dir", data_dir], b"").stdout;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    for part in [
        "no payout script is configured",
        "no node looks blocks up",
        "none: no invoice is accepted",
        "inbox, paid        0 packets, 0 bytes",
        "parked             0 packets, 0 bytes",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(run(&["peers", "--data-dir", data_dir], b"").status.code(), Some(1));
    let nobody = "02".repeat(32);
    let send = run(&["send", &nobody, "--text", "hi", "--data-dir", data_dir], b"");
    assert_eq!(send.status.code(), Some(1), "refused for want of payment or route");

    // Two block headers of the main chain, and the second one of them changed.
    let genesis = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd\
        7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c";
    let next = "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4\
        ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299";
    let headers = |text: &str| {
        run(&["headers", "--height", "0", "--json", "--data-dir", data_dir], text.as_bytes())
    };
    assert_eq!(headers(&format!("{genesis}\n{next}\n")).status.code(), Some(0));
    let forged = headers(&format!("{genesis}\n{}\n", next.replace("01e36299", "02e36299")));
    assert_eq!(forged.status.code(), Some(1));
    let forged: serde_json::Value = serde_json::from_slice(&forged.stdout).unwrap();
    assert_eq!((&forged["accepted"], &forged["refused"]["height"]), (&1.into(), &1.into()));
    assert_eq!(headers(&genesis[..158]).status.code(), Some(2));

    let second = run(&arguments, b"");
    assert_eq!(second.status.code(), Some(2));
    let error = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(error.contains("in use"), "{error}");

    // The running node knows its port and its script; the file need not.
    let id = run(&["id", "--json", "--data-dir", data_dir], b"");
    let id: serde_json::Value = serde_json::from_slice(&id.stdout).unwrap();
    let address = format!(
        "{}@{}",
        ready["public_key"].as_str().unwrap(),
        ready["listen_addr"].as_str().unwrap()
    );
    assert_eq!((&id["address"], &id["running"]), (&address.into(), &true.into()));

    // It stays where its terminal or its administrator says that it hangs up.
    let pid = Pid::from_child(&node.0);
    kill_process(pid, Signal::HUP).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(run(&["stats", "--data-dir", data_dir], b"").status.code(), Some(0));
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(node.0.wait().unwrap().code(), Some(0));
    assert!(!dir.path().join("node/rpc.sock").exists());
    // The identity stays.
    let id = run(&["id", "--json", "--data-dir", data_dir], b"");
    let id: serde_json::Value = serde_json::from_slice(&id.stdout).unwrap();
    assert_eq!(id["node_id"], ready["node_id"]);
}

/// What a user does with two nodes: short names, outcomes with exit codes of their own, and
/// the reason in the log where there is no link.
#[test]
fn outcomes_have_exit_codes_and_failed_dials_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, more: &[&str]| {
        let data_dir = dir.path().join(name).to_str().unwrap().to_owned();
        let log = std::fs::File::create(dir.path().join(format!("{name}.log"))).unwrap();
        let mut child = program()
            .args(["run", "--json", "--data-dir", &data_dir, "--listen-addr", "127.0.0.1:0"])
            .args(["--network", "regtest", "--log", "warn"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        (Node(child), data_dir, ready)
    };
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap().to_owned();
    let (_b, b_dir, b) = start("b", &["--mode", "payment_gated"]);
    let peer = format!("{}@{}", text(&b, "public_key"), text(&b, "listen_addr"));
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let wrong = format!("{key}@{}", text(&b, "listen_addr"));
    let (_a, a_dir, _) = start("a", &["--mode", "open", "--peer", &peer, "--peer", &wrong]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let at = ["--data-dir", &a_dir];
    let peers = || String::from_utf8(run(&[&["peers"], &at[..]].concat(), b"").stdout).unwrap();
    while !peers().contains(" up ") || !peers().contains("is PUBKEY right?") {
        assert!(std::time::Instant::now() < deadline, "{}", peers());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Many attempts, few lines.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let log = std::fs::read_to_string(dir.path().join("a.log")).unwrap();
    let lines = log.lines().filter(|line| line.contains("cannot connect")).count();
    assert!((1..3).contains(&lines) && log.contains("is PUBKEY right?"), "{log}");

    let short = text(&b, "node_id")[..16].to_owned();
    assert!(peers().contains(&short), "{}", peers());
    let ping = "fabfb5da70696e670000000000000000080000006f0f6c3e0000000000000000";
    let hash = {
        use bitcoin::hashes::{Hash, sha256d};
        hex::encode(&sha256d::Hash::hash(&[0; 8]).to_byte_array()[..4])
    };
    let ping = ping.replace("6f0f6c3e", &hash);
    let send = |more: &[&str]| {
        let output = run(&[&["send", &short], more, &at[..]].concat(), b"");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = send(&["--hex", &ping]);
    assert!(code == Some(0) && said.starts_with("sent ") && !said.contains("sequence"), "{said}");
    let (code, said) = send(&["--text", "hi"]);
    assert!(code == Some(1) && said.contains("refused by"), "{said}");
    let (code, said) = send(&["--hex", &ping, "--wait-ms", "0"]);
    assert!(code == Some(3) && said.starts_with("unknown: "), "{said}");
    let (code, said) = send(&["--hex", &ping, "--json"]);
    let sent: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &sent["outcome"]), (Some(0), &"sent".into()));
    let none = run(&[&["send", "0000000000000000", "--text", "hi"], &at[..]].concat(), b"");
    assert_eq!(none.status.code(), Some(1));

    // Each datagram is one object in one line, and the data is in hex.
    let recv = run(&["recv", "--max", "1", "--json", "--data-dir", &b_dir], b"");
    let got: serde_json::Value = serde_json::from_slice(&recv.stdout).unwrap();
    assert_eq!(got[0]["data_hex"], ping.as_str());
    let mut follow = program()
        .args(["recv", "--follow", "--json", "--data-dir", &b_dir])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut object = || {
        let line = lines.next().unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    assert_eq!(object()["data_hex"], ping.as_str());
    assert_eq!(object()["data_hex"], ping.as_str());
    drop(_b);
    assert_eq!(object()["error"]["code"], 2, "the last line is one object too");
    follow.wait().unwrap();
}

/// What is allowed and hardly meant is said at the start, what is dangerous is refused.
#[test]
fn a_node_warns_of_what_is_hardly_meant() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("node");
    let start = |more: &[&str]| {
        let mut child = program()
            .args(["run", "--data-dir", data_dir.to_str().unwrap(), "--network", "regtest"])
            .args(["--listen-addr", "127.0.0.1:0", "--log", "warn"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Once it is ready, all of it was said.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let _ = child.kill();
        String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
    };
    let rights = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    assert_eq!(start(&["--issuer", key]), "");
    assert!(start(&[]).contains("other issuer (mesh.issuers, --issuer)"));
    assert_eq!(start(&["--mode", "open"]), "");
    let covenants = ["--issuer", key, "--set", "payment.covenants_active=true"];
    assert!(start(&covenants).contains("payment.payout_address"));

    let store = data_dir.join("mesh.redb");
    rights(&store, 0o644);
    assert!(start(&["--issuer", key]).contains("chmod 600"), "the store is readable");
    rights(&store, 0o600);
    std::fs::write(data_dir.join("mesh.toml"), "").unwrap();
    rights(&data_dir.join("mesh.toml"), 0o666);
    assert!(start(&["--issuer", key]).contains("others can change"), "the configuration");
    rights(&data_dir.join("mesh.toml"), 0o644);
    assert_eq!(start(&["--issuer", key]), "", "there is no secret in it");
    rights(&data_dir, 0o755);
    assert!(start(&["--issuer", key]).contains("chmod 700"), "the directory is readable");
    rights(&data_dir, 0o777);
    let error = start(&["--issuer", key]);
    assert!(error.contains("error:") && error.contains("chmod 700"), "{error}");
    rights(&data_dir, 0o700);
    rights(&data_dir.join("identity.key"), 0o644);
    assert!(start(&["--issuer", key]).contains("chmod 600"), "the key is readable");
}

/// The log says everything about requests to the Bitcoin node but what it is let in by.
#[test]
fn credentials_are_in_no_log() {
    let bitcoin_node = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let url = format!("chain.rpc_url=http://{}", bitcoin_node.local_addr().unwrap());
    let node = program()
        .args(["run", "--data-dir", dir.path().join("node").to_str().unwrap()])
        .args(["--listen-addr", "127.0.0.1:0", "--log", "trace", "--set", &url])
        .env("BLVM_MESH_CHAIN_RPC_USER", "mesh")
        .env("BLVM_MESH_CHAIN_RPC_PASSWORD", "hunter2")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let node = Node(node);
    let (mut stream, _) = bitcoin_node.accept().unwrap();
    let mut head = Vec::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while !head.ends_with(b"\r\n\r\n") {
        reader.read_until(b'\n', &mut head).unwrap();
    }
    // `printf mesh:hunter2 | base64`
    let authorization = String::from_utf8_lossy(&head).into_owned();
    assert!(authorization.contains("Basic bWVzaDpodW50ZXIy"), "{authorization}");
    stream.write_all(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n").unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let text = loop {
        let text = std::fs::read_to_string(&log).unwrap();
        if text.contains("refuses the credentials") {
            break text;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    drop(node);
    assert!(text.contains("TRACE") && text.contains("ureq::"), "nothing of the client: {text}");
    // That module prints what goes over the wire, as it is.
    assert!(!text.contains("ureq_proto::util"), "{text}");
    for secret in ["hunter2", "bWVzaDpodW50ZXIy"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_node_that_is_switched_off_or_misconfigured_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    std::fs::write(dir.path().join("mesh.toml"), "[mesh]\nenabled = false\n").unwrap();
    assert_eq!(run(&["run", "--data-dir", data_dir], b"").status.code(), Some(1));
    std::fs::write(dir.path().join("mesh.toml"), "[mesh]\nmood = 1\n").unwrap();
    let output = run(&["run", "--data-dir", data_dir], b"");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["mesh.toml", "line 2", "unknown field `mood`", "listen_addr"] {
        assert!(error.contains(part), "{error}");
    }
    let output = program()
        .args(["run", "--data-dir", data_dir])
        .env("BLVM_MESH_MODUS", "open")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("BLVM_MESH_MODUS"));
}

#[test]
fn the_demonstration_shows_all_of_it() {
    let output = run(&["demo", "--json"], b"");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let scenes = value["scenes"].as_array().unwrap();
    assert_eq!(scenes.len(), 11);
    assert!(scenes.iter().all(|scene| scene["shown"] == true), "{text}");
}

/// Sixty neighbours that are dialled and never answer, and few descriptors: commands are
/// answered all the same. Nobody else connects, so the rest of the system plays no part.
#[test]
fn with_few_descriptors_and_many_neighbours_commands_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let accept = std::thread::spawn(move || {
        let mut kept = Vec::new();
        for connection in silent.incoming().map_while(Result::ok) {
            kept.push(connection);
        }
    });
    let key = |n: u8| {
        let secret = secp256k1::SecretKey::from_byte_array([n; 32]).unwrap();
        secret.public_key(&secp256k1::Secp256k1::new()).to_string()
    };
    let peers: Vec<_> = (1..=60).map(|n| format!("{}@{at}", key(n))).collect();
    let program = program();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(program.get_program());
    let mut node = shell
        .args(["run", "--data-dir", data, "--network", "regtest", "--listen-addr", "127.0.0.1:0"])
        .args(["--peer", &peers.join(",")])
        .env_remove("BLVM_MESH_MODE")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.contains("node"), "{ready}");
    let open = || std::fs::read_dir(format!("/proc/{}/fd", node.id())).unwrap().count();
    let start = std::time::Instant::now();
    while open() < 40 {
        assert!(start.elapsed().as_secs() < 20, "{} are open", open());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // While clients sit idle, too.
    let socket = dir.path().join("rpc.sock");
    let connect = |_| std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let _idle: Vec<_> = (0..64).map(connect).collect();
    for command in [&["stats"][..], &["peers"], &["routes"], &["ledger"], &["id"]] {
        let output = run(&[command, &["--data-dir", data, "--json"]].concat(), b"");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_ne!(output.status.code(), Some(2), "{command:?}: {told}");
    }
    let pid = Pid::from_child(&node);
    kill_process(pid, Signal::TERM).unwrap();
    node.wait().unwrap();
    drop(accept);
}

#[test]
fn a_store_that_was_emptied_is_lost_and_not_new() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    // What it logs until it takes connections, and until it has stopped.
    let life = || {
        let mut node = program()
            .args(["run", "--data-dir", data, "--network", "regtest"])
            .args(["--listen-addr", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(node.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        // The clock is read and what follows from it written at once.
        std::thread::sleep(std::time::Duration::from_millis(300));
        kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
        String::from_utf8(node.wait_with_output().unwrap().stderr).unwrap()
    };
    let told = life();
    assert!(!told.contains("lost") && !told.contains("LOST"), "{told}");
    assert!(!dir.path().join("identity.unused").exists());
    std::fs::write(dir.path().join("mesh.redb"), []).unwrap();
    let told = life();
    assert!(told.contains("LOST") && told.contains("are refused"), "{told}");
    let told = life();
    assert!(told.contains("was lost once") && !told.contains("LOST"), "{told}");
    std::fs::remove_file(dir.path().join("mesh.redb")).unwrap();
    assert!(life().contains("LOST"));
}
