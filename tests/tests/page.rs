//! A simulated world on the page that nodes have, as a browser shows it.

use blvm_mesh_tests::browser::Browser;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The simulator as it serves a world, killed at the end.
struct Served {
    process: Child,
    url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Served {
    fn start(options: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_blvm-mesh-sim"))
            .args(["--serve", "0"])
            .args(options.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the simulator");
        let mut url = String::new();
        let out = process.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut url).unwrap();
        Self { process, url: url.trim().to_owned() }
    }

    /// The data of the first event with this name that fulfils a condition.
    fn event(&self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let (at, token) = self.url.split_once("/#token=").expect("an address with a token");
        let mut stream = TcpStream::connect(at.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let ask = "GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer";
        write!(stream, "{ask} {token}\r\n\r\n").unwrap();
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
}

#[test]
fn a_world_is_told_as_a_node_tells_of_its_mesh() {
    let served = Served::start("--nodes 30 --topology grid --speed 20 --traffic-ms 100");
    let first = served.event("snapshot", |_| true);
    assert_eq!(first["about"]["simulated"], true);
    assert_eq!(first["nodes"].as_array().unwrap().len(), 30);
    assert_eq!(first["links"].as_array().unwrap().len(), 49);
    let carried = |snapshot: &Value| snapshot["totals"]["received"].as_u64();
    let passed = |snapshot: &Value| snapshot["totals"]["at_ms"].as_u64();
    served
        .event("snapshot", |next| carried(next) > carried(&first) && passed(next) > passed(&first));
    served.event("history", |samples| samples["seconds"][0][2].as_u64() > Some(0));
}

/// How many frames a second a browser makes of it depends on the machine, and is only printed.
#[test]
fn a_browser_draws_a_thousand_nodes() {
    let dir = std::env::temp_dir().join(format!("blvm-mesh-browser-{}", std::process::id()));
    let Some(mut browser) = Browser::start(&dir) else { return };
    let served = Served::start("--nodes 1000 --topology random --traffic-ms 20");
    browser.look((1300, 900), false);
    browser.open(&served.url);
    browser.until("document.getElementById('counts')?.textContent.startsWith('1,000 nodes')");
    browser
        .until("/Layout .* frames a second/.test(document.getElementById('counts').textContent)");
    println!("{}", browser.text("#counts"));
    assert!(browser.text("#subtitle").starts_with("Simulated."), "it says what it is");
    // The same as a table, for who sees no picture.
    browser.value("document.getElementById('as-table').click()");
    browser.until("document.querySelectorAll('#nodes-table tbody tr').length >= 200");
    assert_eq!(browser.complaints, Vec::<String>::new());
    drop(browser);
    let _ = std::fs::remove_dir_all(&dir);
}
