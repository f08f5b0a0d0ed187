//! The page of running nodes: over HTTP, and in a browser.

mod program;

use blvm_mesh_tests::browser::Browser;
use program::daemon::{Daemon, text};
use program::program;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const ON: [&str; 2] = ["--set", "page.listen=127.0.0.1:0"];

/// What `blvm-mesh page` prints, and its exit code.
fn page(data_dir: &Path) -> (Option<i32>, String) {
    let output = program().arg("page").arg("--data-dir").arg(data_dir).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// The address and the token of what was printed.
fn parts(url: &str) -> (&str, &str) {
    url.strip_prefix("http://").unwrap().split_once("/#token=").unwrap()
}

fn ask(url: &str, path: &str, token: Option<&str>) -> TcpStream {
    let mut stream = TcpStream::connect(parts(url).0).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let shown = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n{shown}\r\n", parts(url).0).unwrap();
    stream
}

/// The data of the first event with this name that fulfils a condition.
fn event(url: &str, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let stream = ask(url, "/events", Some(parts(url).1));
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    loop {
        assert!(lines.any(|line| line == format!("event: {name}")), "the stream has ended");
        let data = lines.next().unwrap();
        let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        if is_it(&data) {
            return data;
        }
    }
}

#[test]
fn who_has_the_token_sees_the_node_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (a_dir, b_dir) = (dir.path().join("a"), dir.path().join("b"));
    let b = Daemon::start(&b_dir, &[], &[]);
    let (code, off) = page(&b_dir);
    assert!(code == Some(1) && off.contains("set page.listen"), "{off}");
    let a = Daemon::start(&a_dir, &[&b], &ON);
    let (code, url) = page(&a_dir);
    assert_eq!(code, Some(0), "{url}");
    let file = a_dir.join("page.token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), parts(&url).1);
    let mut refused = String::new();
    ask(&url, "/events", None).read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");

    let up = |snapshot: &Value| snapshot["peers"][0]["state"] == "up";
    let snapshot = event(&url, "snapshot", up);
    let short = |node: &Daemon| text(&node.ready["node_id"])[..16].to_owned();
    assert_eq!(snapshot["about"]["node"], short(&a));
    assert_eq!(snapshot["nodes"][0]["role"], "own");
    assert_eq!(snapshot["nodes"][1]["key"], short(&b));
    let link = &snapshot["links"][0];
    assert!(link["etx"].as_u64() >= Some(256) && link["kind"] == "tcp", "{link}");
    assert!(link["bytes"].as_u64() > Some(0) && link["price"]["base_msat"].is_u64(), "{link}");
    let remedies = snapshot["warnings"].as_array().unwrap();
    assert!(!remedies.is_empty() && remedies[0]["remedy"].is_string(), "{snapshot}");
    let log = event(&url, "log", |_| true);
    let line = |line: &Value| line["level"] == "warn" && line["text"].is_string();
    assert!(log.as_array().unwrap().iter().any(line), "{log}");
    event(&url, "history", |samples| samples["seconds"][0][1].as_u64() > Some(0));

    // The token stays; a file that others can read is refused.
    drop(a);
    let a = Daemon::start(&a_dir, &[&b], &ON);
    assert_eq!(parts(&page(&a_dir).1).1, parts(&url).1);
    drop(a);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = program();
    command.args(["run", "--network", "regtest", "--data-dir"]).arg(&a_dir).args(ON);
    let failed = command.output().unwrap();
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(!failed.status.success() && said.contains("chmod 600"), "{said}");
}

#[test]
fn a_browser_shows_the_mesh_and_what_becomes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start(&dir.path().join("browser")) else { return };
    let [a_dir, b_dir, c_dir] = ["a", "b", "c"].map(|name| dir.path().join(name));
    let (b, c) = (Daemon::start(&b_dir, &[], &[]), Daemon::start(&c_dir, &[], &[]));
    let _a = Daemon::start(&a_dir, &[&b, &c], &ON);
    let url = page(&a_dir).1;

    // Without a token there is nothing to see; it is taken from the address, and out of it.
    browser.look((1300, 900), false);
    browser.open(url.split('#').next().unwrap());
    browser.until("!document.getElementById('enter').hidden");
    browser.open(&url);
    browser.until("document.getElementById('status-text').textContent === 'Live'");
    assert_eq!(browser.value("location.hash"), "");
    let states = "[...document.querySelectorAll('#peers-table .state')].map(s => s.textContent)";
    browser.until(&format!("JSON.stringify({states}) === '[\"up\",\"up\"]'"));
    browser.until("document.getElementById('counts').textContent.startsWith('3 nodes, 2 links')");
    assert_eq!(browser.complaints, Vec::<String>::new());

    // The picture at rest, and after a neighbour was killed.
    browser.until("document.getElementById('canvas').width > 1000");
    let picture = "document.getElementById('canvas').toDataURL()";
    let before = browser.value(picture);
    drop(c);
    browser.until(&format!("{states}.filter(s => s === 'up').length === 1"));
    browser
        .until("document.getElementById('legend').textContent.match(/down|connecting/) !== null");
    assert_ne!(browser.value(picture), before, "the picture is the same");
    browser.value("document.getElementById('as-table').click()");
    browser.until("document.querySelectorAll('#links-table .state:not(.up)').length === 1");

    // By keyboard: nodes one after the other, and what is known of each.
    browser.value("document.getElementById('as-graph').click()");
    browser.value("document.getElementById('canvas').focus()");
    browser.press("n");
    browser.until("document.querySelector('#detail h3')?.textContent === 'This node'");
    browser.press("n");
    browser.until("document.getElementById('detail').textContent.includes('neighbour')");
    browser.press("Escape");
    browser.until("document.getElementById('detail').hidden");

    // Dark, and as narrow as a telephone.
    let back = "getComputedStyle(document.body.parentElement).backgroundColor";
    let light = browser.value(back);
    browser.look((390, 844), true);
    browser.until("document.documentElement.clientWidth === 390");
    assert_ne!(browser.value(back), light);
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 390, "it is wider");

    // A wrong token is said, and the connection that failed is the only complaint.
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.open("about:blank");
    browser.open(&format!("http://{}/#token={}", parts(&url).0, "00".repeat(32)));
    browser.until("document.getElementById('enter-text').textContent.includes('token is wrong')");
    drop(b);
}
