//! Nodes as users run them.

use super::program;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running node on regtest, killed at the end.
pub(crate) struct Daemon {
    process: Child,
    /// What it has said at its start.
    pub(crate) ready: Value,
    rpc: BufReader<UnixStream>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Daemon {
    /// Starts a node that has links to these others, with these options besides.
    pub(crate) fn start(dir: &Path, peers: &[&Self], options: &[&str]) -> Self {
        Self::start_by(program(), dir, peers, options)
    }

    /// The same by a command that runs the program with what is behind it.
    pub(crate) fn start_by(
        mut command: Command,
        dir: &Path,
        peers: &[&Self],
        options: &[&str],
    ) -> Self {
        command.args(["run", "--json", "--network", "regtest"]);
        if !options.contains(&"--listen-addr") {
            command.args(["--listen-addr", "127.0.0.1:0"]);
        }
        command.args(["--log", "warn", "--data-dir"]).arg(dir).args(options);
        for Self { ready, .. } in peers {
            let (key, address) = (text(&ready["public_key"]), text(&ready["listen_addr"]));
            command.args(["--peer", &format!("{key}@{address}")]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the program");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let rpc = BufReader::new(UnixStream::connect(text(&ready["rpc_socket"])).unwrap());
        Self { process, ready, rpc }
    }

    /// Seconds of processor time that it has taken.
    pub(crate) fn cpu(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat = std::fs::read_to_string(path).expect("it runs");
        // The name may hold anything; behind it the state is field 3, and the times are 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").expect("there is a name");
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
        // Linux counts a hundred a second for every program.
        ticks as f64 / 100.0
    }

    /// The answer to a request, or its error.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        writeln!(self.rpc.get_mut(), "{request}").unwrap();
        let mut line = String::new();
        self.rpc.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(error),
        }
    }
}

/// A text of an answer.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
