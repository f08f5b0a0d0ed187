//! A real browser without a screen: Debian's Chromium, told what to do over its pipe (Chrome
//! DevTools Protocol).

use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest wait for anything that the browser is to do, on a machine that has more to do.
const PATIENCE: Duration = Duration::from_secs(90);
/// Names by which it is installed.
const NAMES: [&str; 2] = ["chromium", "chromium-browser"];

/// A running browser with one page, killed at the end.
pub struct Browser {
    process: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    number: u64,
    session: Option<String>,
    /// What went wrong on the page so far: errors of scripts, and what its policy forbids.
    pub complaints: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Browser {
    /// Starts one with its files in `dir`; `None`, with a message, where there is none.
    pub fn start(dir: &Path) -> Option<Self> {
        let runs = |name: &&&str| {
            Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success())
        };
        let Some(name) = NAMES.iter().find(runs) else {
            println!("SKIPPED: there is no Chromium; apt-get install chromium");
            return None;
        };
        // It reads orders from 3 and answers on 4; a sandbox cannot be had as root.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut process = Command::new("sh")
            .args(["-c", script, name, "--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", dir.display()))
            .env("HOME", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (to, mut out) = (process.stdin.take(), process.stdout.take().expect("it is piped"));
        let (tell, from) = channel();
        std::thread::spawn(move || {
            let (mut kept, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
            while let Ok(read @ 1..) = out.read(&mut chunk) {
                kept.extend_from_slice(&chunk[..read]);
                while let Some(end) = kept.iter().position(|byte| *byte == 0) {
                    let message: Vec<u8> = kept.drain(..=end).collect();
                    let message = serde_json::from_slice(&message[..end]).unwrap_or(Value::Null);
                    if tell.send(message).is_err() {
                        return;
                    }
                }
            }
        });
        let (number, session, complaints) = (0, None, Vec::new());
        let mut browser = Self { process, to, from, number, session, complaints };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach)["sessionId"].take();
        browser.session = session.as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Has it do something; its answer.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        use std::io::Write;
        self.number += 1;
        let mut order = json!({"id": self.number, "method": method, "params": params});
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        let to = self.to.as_mut().expect("it runs");
        to.write_all(format!("{order}\0").as_bytes()).expect("the browser runs");
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut message = self.from.recv_timeout(left).expect("the browser answers in time");
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, message: &Value) {
        let params = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => &params["exceptionDetails"],
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => &params["entry"],
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }

    /// Opens an address.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    /// The window's size in pixels, and whether it is a dark one.
    pub fn look(&mut self, (width, height): (u32, u32), dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Presses a key that writes something, or has a name.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key}));
        }
    }

    /// What an expression is on the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// The text of what a selector finds first; empty where there is nothing.
    pub fn text(&mut self, selector: &str) -> String {
        let found =
            self.value(&format!("document.querySelector({})?.textContent", json!(selector)));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true on the page.
    pub fn until(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        // While a page is loaded there is nothing on it.
        let now =
            format!("(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()");
        while self.value(&now) != true {
            if Instant::now() > until {
                let page = self.value("document.body.innerText");
                panic!("not in time: {expression}\n{page}\n{:?}", self.complaints);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
