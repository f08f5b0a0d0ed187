//! The ledger of several nodes in one real PostgreSQL: each line once, whatever ends in the middle.

#[path = "../program/mod.rs"]
mod program;
mod proxy;
mod server;
mod world;

use blvm_mesh::export::{
    Books, ExportError, ExportSettings, Exporter, MIGRATIONS, Outbox, Stop, book_all,
};
use blvm_mesh_core::id::{Network, NodeId};
use program::daemon::Daemon;
use program::program;
use proxy::{Cut, Proxy};
use serde_json::{Value, json};
use server::{PASSWORD, Server, until};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use world::{NODE, UNIX, buy, counted, hash, pay, payment, sell, settings, store, with_password};

/// What a command prints as JSON, and its exit code.
fn said(data_dir: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output =
        program().args(arguments).arg("--json").arg("--data-dir").arg(data_dir).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[test]
fn what_a_node_shows_is_what_is_booked_and_no_amount_is_too_large() {
    let Some(server) = Server::start("") else { return };
    server.make("books", "mesh");
    let dir = tempfile::tempdir().unwrap();
    let books = with_password(&server.url("mesh", "books"), dir.path());
    let store = store(dir.path());
    pay(&store, 0..300);
    sell(&store, 1_000, UNIX, 5_000);
    sell(&store, 1_001, 0, 6_000);
    for n in 2_000..2_003 {
        buy(&store, n, 7_000);
    }
    store_paid(&store, 2_000);
    store_paid(&store, 2_001);
    store_credited(&store, 2_001);
    assert_eq!(store.pending(), Ok(305));
    assert_eq!(book_all(&books, NODE, &store), Ok(304));
    assert_eq!((store.pending(), book_all(&books, NODE, &store)), (Ok(0), Ok(0)));

    // The same sums as the node's own, but for the purchase whose outcome is not known.
    let known = |sums: &mut Value, key: &str| {
        let sum = sums[key].take();
        let less = |name: &str, by: u64| json!(sum[name].as_u64().unwrap() - by);
        sums[key] = json!({
            "earned_msat": sum["earned_msat"], "paid_msat": less("paid_msat", 7_000),
            "fee_msat": less("fee_msat", 700), "payments": less("payments", 1),
        });
    };
    drop(store);
    let sums = |name: &str, view: &str| {
        let sql = format!(
            "SELECT json_object_agg({name}, json_build_object('earned_msat', earned_msat, 'paid_msat', \
             paid_msat, 'fee_msat', fee_msat, 'payments', payments)) FROM blvm_mesh.{view}"
        );
        serde_json::from_str::<Value>(&server.ask("books", &sql)).unwrap()
    };
    let mut by_day = said(dir.path(), &["ledger", "--by", "day"]).1;
    known(&mut by_day, "2026-09-21");
    assert_eq!(sums("day", "per_day"), by_day);
    assert!(by_day["1970-01-01"].is_object(), "a time that was not known");
    let mut by_node = said(dir.path(), &["ledger", "--by", "node"]).1;
    known(&mut by_node, &"09".repeat(32));
    assert_eq!(sums("peer", "per_peer"), by_node);
    let own = server.ask("books", "SELECT node, network, payments FROM blvm_mesh.per_node");
    assert_eq!(own, format!("{}|regtest|304", "01".repeat(32)));
    let line = "SELECT method, role, place, amount_msat, share_msat, extract(epoch FROM accepted_at) \
                ::bigint, encode(source, 'hex') FROM blvm_mesh.payments WHERE amount_msat = 1004";
    let at = payment(4).accepted_at;
    let expected = format!("lightning|intermediate|4|1004|104|{at}|{}", "07".repeat(32));
    assert_eq!(server.ask("books", line), expected);

    // A purchase that is credited is the same line; others never change.
    let store = world::store(dir.path());
    store_credited(&store, 2_000);
    store_paid(&store, 2_002);
    sell(&store, 3_000, u64::MAX, u64::MAX);
    assert_eq!(book_all(&books, NODE, &store), Ok(3), "one of them is known");
    let purchases = "SELECT state, bytes, fee_msat, encode(preimage, 'hex') FROM blvm_mesh.purchases \
                     ORDER BY begun_at";
    let preimage = hex::encode([3; 32]);
    let credited = format!("credited|80000|20|{preimage}");
    let expected = format!("{credited}\n{credited}\npaid|80000|20|{preimage}");
    assert_eq!(server.ask("books", purchases), expected);
    let largest = "SELECT amount_msat, accepted_at AT TIME ZONE 'UTC' FROM blvm_mesh.sales \
                   WHERE amount_msat > 10000";
    assert_eq!(server.ask("books", largest), format!("{}|9999-12-31 23:59:59", u64::MAX));
    let sum = "SELECT sum(earned_msat) FROM blvm_mesh.per_day WHERE day = '9999-12-31'";
    assert_eq!(server.ask("books", sum), u64::MAX.to_string());

    // A backup from before that is put back, and another database, get what they lack.
    server.ask("postgres", "CREATE DATABASE backup TEMPLATE books");
    let payments = counted(&server, "books").0;
    pay(&store, 300..320);
    assert_eq!(book_all(&books, NODE, &store), Ok(20));
    server.ask("postgres", "DROP DATABASE books");
    server.ask("postgres", "ALTER DATABASE backup RENAME TO books");
    assert_eq!((store.pending(), counted(&server, "books").0), (Ok(0), payments));
    assert_eq!(book_all(&books, NODE, &store), Ok(20));
    server.make("other", "mesh");
    let other = with_password(&server.url("mesh", "other"), dir.path());
    assert_eq!(book_all(&other, NODE, &store), Ok(326));
    // The same node elsewhere is another.
    let elsewhere = book_all(&other, (NODE.0, Network::Mainnet), &store);
    assert!(matches!(elsewhere, Err(ExportError::Network { .. })), "{elsewhere:?}");
}

fn store_paid(store: &blvm_mesh::store::Store, n: u64) {
    use blvm_mesh::wallet::Purchases;
    store.paid(&hash(n), &[3; 32], 20).unwrap();
}

fn store_credited(store: &blvm_mesh::store::Store, n: u64) {
    use blvm_mesh::wallet::Purchases;
    store.credited(&hash(n), 80_000).unwrap();
}

#[test]
fn a_connection_that_is_cut_anywhere_loses_and_repeats_nothing() {
    let Some(server) = Server::start("") else { return };
    server.make("books", "open");
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let through = |cut| {
        let proxy = Proxy::start(server.port, cut);
        settings(&format!("postgres://open@127.0.0.1:{}/books", proxy.port))
    };
    let direct = settings(&server.url("open", "books"));

    // At any byte of what the server says, from the first connection to the last answer.
    let (mut whole, mut cuts) = (false, 0);
    for bytes in (0..).step_by(211) {
        pay(&store, cuts * 3..cuts * 3 + 3);
        cuts += 1;
        match book_all(&through(Cut::After(bytes)), NODE, &store) {
            Ok(_) => whole = true,
            Err(error) => assert!(matches!(error, ExportError::Cut(_)), "{error}"),
        }
        if whole {
            break;
        }
    }
    assert!(cuts > 5, "{cuts}");
    book_all(&direct, NODE, &store).unwrap();
    assert_eq!((counted(&server, "books"), store.pending()), ((cuts * 3, cuts * 3), Ok(0)));

    // After COMMIT was sent and before its answer: it is done, and this node cannot know.
    pay(&store, 10_000..10_007);
    let error = book_all(&through(Cut::AtCommit), NODE, &store).unwrap_err();
    assert!(matches!(error, ExportError::Cut(_)), "{error}");
    let all = cuts * 3 + 7;
    until("it is done", || counted(&server, "books") == (all, all));
    assert_eq!((store.pending(), book_all(&direct, NODE, &store)), (Ok(7), Ok(0)));
    assert_eq!((counted(&server, "books"), store.pending()), ((all, all), Ok(0)));
}

#[test]
fn whoever_may_not_book_is_told_what_to_do() {
    let tls = ["pem", "key"].map(|kind| match kind {
        "pem" => "/etc/ssl/certs/ssl-cert-snakeoil.pem",
        _ => "/etc/ssl/private/ssl-cert-snakeoil.key",
    });
    let Some(server) = Server::start("password_encryption = 'scram-sha-256'\n") else { return };
    server.make("books", "mesh");
    for role in ["old", "plain", "open", "stranger"] {
        server.make(&format!("of_{role}"), role);
    }
    server.ask("postgres", "SET password_encryption = 'md5'; ALTER ROLE old PASSWORD 'x'");
    server.ask(
        "postgres",
        "REVOKE ALL ON DATABASE books FROM public; GRANT CONNECT ON DATABASE books TO stranger",
    );
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    pay(&store, 0..5);
    let refused = |settings: &ExportSettings| {
        let error = book_all(settings, NODE, &store).unwrap_err();
        assert!(!error.to_string().contains(PASSWORD), "{error}");
        assert_eq!(store.pending(), Ok(5), "{error}");
        error.to_string()
    };
    let url = |user: &str, database: &str| server.url(user, database);
    let wrong = ExportSettings {
        password: Some(world::password_file(dir.path(), "wrong")),
        ..settings(&url("mesh", "books"))
    };
    let with = |user, database| with_password(&url(user, database), dir.path());
    let socket = server.socket_dir().display();
    let by_socket = format!("postgres://mesh@/books?host={socket}&port={}", server.port);
    let nowhere = format!("postgres://mesh@/books?host={socket}&port=1");
    let readable = dir.path().join("readable");
    fs::write(&readable, "x").unwrap();
    let open_to_others = ExportSettings { password: Some(readable), ..settings(&by_socket) };
    let cases = [
        (wrong, "(28P01): is the password of mesh that of ledger.password_file?"),
        (settings(&url("mesh", "books")), "it wants a password for mesh"),
        (with("mesh", "missing"), "createdb --owner mesh missing"),
        (with("nobody", "books"), "(28P01)"),
        (with("old", "of_old"), "not given (MD5)"),
        (with("plain", "of_plain"), "without TLS"),
        (with("open", "of_open"), "lets open in without the password"),
        (with_password(&by_socket, dir.path()), "lets mesh in without the password"),
        (with("stranger", "books"), "stranger lacks rights"),
        (settings(&nowhere), "No such file or directory"),
        (open_to_others, "chmod 600"),
        (with("mesh", "books?sslmode=verify-full"), "it has no TLS"),
    ];
    for (settings, expected) in &cases {
        let error = refused(settings);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let looked = Books::inspect(&with("stranger", "books")).unwrap();
    assert!(looked.may_not_make && looked.schema == 0, "{looked:?}");

    // Tables of others, and rights on them: the least that will do.
    book_all(
        &settings(&by_socket),
        (NodeId([2; 32]), NODE.1),
        &world::store(&dir.path().join("b")),
    )
    .unwrap();
    // Without rights on the tables it cannot even see them.
    assert!(refused(&with("stranger", "books")).contains("stranger lacks rights"));
    let grants = "GRANT USAGE ON SCHEMA blvm_mesh TO stranger; \
                  GRANT SELECT ON blvm_mesh.migrations TO stranger";
    server.ask("books", grants);
    let looked = Books::inspect(&with("stranger", "books")).unwrap();
    assert_eq!((looked.schema, looked.missing.len()), (1, 9), "{looked:?}");
    assert!(refused(&with("stranger", "books")).contains("stranger lacks rights"));
    let grants = "GRANT SELECT ON ALL TABLES IN SCHEMA blvm_mesh TO stranger; \
                  GRANT INSERT ON blvm_mesh.nodes, blvm_mesh.payments, blvm_mesh.sales, \
                  blvm_mesh.purchases TO stranger; \
                  GRANT UPDATE ON blvm_mesh.nodes, blvm_mesh.purchases TO stranger";
    server.ask("books", grants);
    let looked = Books::inspect(&with("stranger", "books")).unwrap();
    assert!(looked.missing.is_empty() && !looked.may_not_make && !looked.is_tls, "{looked:?}");
    assert_eq!(book_all(&with("stranger", "books"), NODE, &store), Ok(5));

    // TLS: Debian's own certificate, which no authority has signed.
    let (Ok(certificate), Ok(key)) = (fs::read(tls[0]), fs::read(tls[1])) else {
        eprintln!("SKIPPED: there is no certificate of ssl-cert");
        return;
    };
    drop(server);
    let Some(server) = tls_server(&certificate, &key) else { return };
    server.make("books", "plain");
    let url = format!("{}?sslmode=verify-full", server.url("plain", "books"));
    let pinned =
        ExportSettings { certificate: Some(tls[0].into()), ..with_password(&url, dir.path()) };
    assert!(Books::inspect(&pinned).unwrap().is_tls);
    // Only inside of it a password may be shown.
    assert_eq!(book_all(&pinned, NODE, &store), Ok(5));
    let unknown = ExportSettings { certificate: None, ..pinned };
    let error = book_all(&unknown, NODE, &store).unwrap_err().to_string();
    assert!(error.contains("ledger.certificate_file"), "{error}");
}

/// One that has this certificate.
fn tls_server(certificate: &[u8], key: &[u8]) -> Option<Server> {
    Server::start_with(&[("server.crt", certificate), ("server.key", key)], "ssl = on\n")
}

#[test]
fn tables_are_made_once_and_no_older_program_writes_into_newer_ones() {
    let Some(server) = Server::start("") else { return };
    server.make("books", "open");
    let dir = tempfile::tempdir().unwrap();
    let books = settings(&server.url("open", "books"));
    let second = "ALTER TABLE blvm_mesh.nodes ADD COLUMN place text;";
    let both = [MIGRATIONS[0], second];
    let join = |n: u8, migrations: &[&str]| {
        let store = store(&dir.path().join(n.to_string()));
        let node = (NodeId([n; 32]), Network::Regtest);
        let joined = Books::join_with(&books, node, &store, &Stop::default(), migrations);
        joined.map(|joined| joined.schema())
    };
    let versions =
        "SELECT string_agg(version::text, ',' ORDER BY version) FROM blvm_mesh.migrations";
    // Many at once, on an empty database and on one of the first version.
    for (migrations, expected) in [(&both[..1], "1"), (&both, "1,2")] {
        std::thread::scope(|scope| {
            let all: Vec<_> = (1..6).map(|n| scope.spawn(move || join(n, migrations))).collect();
            for joined in all {
                assert_eq!(joined.join().unwrap(), Ok(migrations.len() as i64));
            }
        });
        assert_eq!(server.ask("books", versions), expected);
    }
    let newer = ExportError::Newer { found: 2, known: 1 };
    assert_eq!(join(1, &both[..1]), Err(newer));
    // One that fails leaves nothing behind.
    let broken = [MIGRATIONS[0], second, "CREATE TABLE blvm_mesh.half (); SELECT 1 / 0;"];
    let error = join(1, &broken).unwrap_err();
    assert!(matches!(&error, ExportError::Server { code, .. } if code == "22012"), "{error}");
    assert_eq!(server.ask("books", "SELECT to_regclass('blvm_mesh.half') IS NULL"), "t");
    assert_eq!(join(1, &both), Ok(2));
}

/// A server that says this and then nothing; its address, and who has come.
fn says(said: &'static [u8]) -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://m@127.0.0.1:{}/d", listener.local_addr().unwrap().port());
    let (came, who) = channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(said);
            open.push(stream);
            let _ = came.send(());
        }
    });
    (url, who)
}

#[test]
fn a_server_that_says_nothing_or_nonsense_is_given_up_in_time() {
    let (silent, who) = says(b"");
    let soon = ExportSettings { step: Duration::from_millis(300), ..settings(&silent) };
    let error = Books::inspect(&soon).unwrap_err();
    assert!(matches!(error, ExportError::Timeout(300, _)), "{error}");
    who.recv().unwrap();
    // A node that stops waits for nobody.
    let dir = tempfile::tempdir().unwrap();
    let exporter = Exporter::start(settings(&silent), NODE, Arc::new(store(dir.path()))).unwrap();
    who.recv().unwrap();
    let status = exporter.status().clone();
    let start = Instant::now();
    exporter.stop();
    assert!(start.elapsed() < Duration::from_secs(20), "a step has 30");
    assert_eq!((status.stats().booked, status.stats().failures), (0, 0));
    let nonsense = settings(&says(b"HTTP/1.1 400 Bad Request\r\n\r\n").0);
    let error = Books::inspect(&nonsense).unwrap_err();
    assert!(matches!(error, ExportError::Protocol(_)), "{error}");
}

#[test]
fn a_connection_that_died_unused_is_no_failure() {
    let Some(mut server) = Server::start("") else { return };
    server.make("books", "open");
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store(dir.path()));
    let books = settings(&server.url("open", "books"));
    let exporter = Exporter::start(books, NODE, store.clone()).unwrap();
    let stats = || exporter.status().stats();
    for (numbers, booked) in [(0..3, 3), (3..5, 5)] {
        until("it has joined", || stats().schema == Some(1));
        pay(&store, numbers);
        until("they are booked", || stats().booked == booked && stats().pending == 0);
        server.kill();
        server.resume();
    }
    assert_eq!((stats().failures, stats().behind_s), (0, 0));
    assert_eq!(counted(&server, "books"), (5, 5));
    exporter.stop();
}

/// The node's numbers for Prometheus.
fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What the node says of its export.
fn export(node: &mut Daemon) -> Value {
    node.call("getstats", json!({})).unwrap()["export"].clone()
}

#[test]
fn gateways_book_over_deaths_of_the_server_and_their_own() {
    let Some(mut server) = Server::start("wal_writer_delay = 10s\n") else { return };
    server.make("books", "mesh");
    // What is said to be written is on the disk, even for a role that does not want that.
    server.ask("postgres", "ALTER ROLE mesh SET synchronous_commit = off");
    let dir = tempfile::tempdir().unwrap();
    let password = world::password_file(dir.path(), PASSWORD);
    let url = format!("ledger.export={}", server.url("mesh", "books"));
    let file = format!("ledger.password_file={}", password.display());
    let options = ["--set", &url, "--set", &file];
    let dirs = ["a", "b"].map(|name| dir.path().join(name));
    let start = || dirs.each_ref().map(|dir| Daemon::start(dir, &[], &options));
    let add = |numbers: std::ops::Range<u64>| {
        dirs.iter().for_each(|dir| pay(&store(dir), numbers.clone()));
    };
    add(0..300);
    // Both at once, into an empty database.
    let mut nodes = start();
    until("both have booked", || counted(&server, "books") == (600, 300 * 2));
    for node in &mut nodes {
        until("it knows", || export(node)["pending"] == 0);
        assert_eq!(export(node)["state"], "good");
    }
    server.kill();
    drop(nodes);
    server.resume();
    assert_eq!(counted(&server, "books"), (600, 600), "what was confirmed was on the disk");

    // No COMMIT is answered, as no standby confirms it: server and one node die in the middle.
    add(300..400);
    server.ask("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
    server.ask("postgres", "SELECT pg_reload_conf()");
    let [mut a, b] = start();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
                   AND usename = 'mesh'";
    until("both wait for COMMIT", || server.ask("postgres", waiting) == "2");
    // What was booked last may come again after a kill.
    assert!(export(&mut a)["pending"].as_u64() >= Some(100));
    drop(b);
    server.kill();
    until("it says that it fails", || export(&mut a)["state"] == "failed");
    let (code, info) = said(&dirs[0], &["getinfo"]);
    let warnings = info["warnings"].as_array().unwrap().clone();
    let warning = warnings.iter().find(|warning| warning["kind"] == "export").unwrap();
    assert_eq!(code, Some(0));
    assert!(warning["text"].as_str().unwrap().contains("00 lines wait"), "{warning}");
    let (code, check) =
        said(&dirs[0], &["ledger", "export", "--check", options[0], &url, options[2], &file]);
    assert_eq!((code, &check["good"]), (Some(1), &json!(false)), "{check}");
    assert!(check["pending"].as_u64() >= Some(100), "{check}");
    server.resume_with("synchronous_standby_names = ''\n");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("metrics.listen=127.0.0.1:{free}");
    let mut b = Daemon::start(&dirs[1], &[], &[&options[..], &["--set", &listen]].concat());
    let all = 800;
    until("everything is booked", || counted(&server, "books") == (all, all));
    for node in [&mut a, &mut b] {
        until("it knows", || export(node)["pending"] == 0);
        assert_eq!(
            (&export(node)["state"], &export(node)["error"]),
            (&json!("good"), &Value::Null)
        );
    }
    let numbers = metrics(free);
    for line in ["blvm_mesh_ledger_pending 0", "blvm_mesh_ledger_booked_total "] {
        assert!(numbers.contains(line), "{numbers}");
    }
    let per_node: BTreeMap<_, _> = [(&a, "a"), (&b, "b")]
        .map(|(node, name)| (program::daemon::text(&node.ready["node_id"]).to_owned(), name))
        .into();
    let rows =
        server.ask("books", "SELECT node || ' ' || payments FROM blvm_mesh.per_node ORDER BY node");
    let expected: Vec<_> = per_node.keys().map(|node| format!("{node} 400")).collect();
    assert_eq!(rows, expected.join("\n"));
    let (code, check) =
        said(&dirs[0], &["ledger", "export", "--check", options[0], &url, options[2], &file]);
    assert_eq!(
        (code, &check["schema"], &check["pending"]),
        (Some(0), &json!(1), &json!(0)),
        "{check}"
    );
    let (code, answer) = said(&dirs[0], &["ledger", "export", options[0], &url, options[2], &file]);
    assert_eq!(code, Some(1), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("books by itself"), "{answer}");
    // Of one that does not run.
    drop(a);
    pay(&store(&dirs[0]), 400..403);
    let (code, answer) = said(
        &dirs[0],
        &["ledger", "export", options[0], &url, options[2], &file, "--set", "mesh.network=regtest"],
    );
    assert_eq!((code, &answer["booked"]), (Some(0), &json!(3)), "{answer}");
}
