//! Prints what happens at a node, and what is sent to it, without polling:
//! `cargo run --example events -- ~/.blvm-mesh/rpc.sock [CURSOR]`. Each event has a cursor: given the last
//! one, it goes on behind that.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().expect("usage: events SOCKET [CURSOR]");
    follow(&socket, arguments.next().as_deref(), &mut io::stdout())
}

/// Until the node ends the connection.
pub(crate) fn follow(socket: &str, cursor: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    let mut node = UnixStream::connect(socket)?;
    let lines = BufReader::new(node.try_clone()?).lines();
    let mut ask = |id: &str, params: Value| {
        writeln!(node, "{}", json!({"jsonrpc": "2.0", "id": id, "method": id, "params": params}))
    };
    ask("meshsubscribe", json!({"cursor": cursor}))?;
    // What has come before; then what events announce, until nothing waits.
    ask("meshpollreceived", json!({}))?;
    for line in lines {
        let line: Value = serde_json::from_str(&line?)?;
        writeln!(out, "{line}")?;
        let event = line["params"]["event"]["type"].as_str().unwrap_or_default();
        let fetched = line["id"] == "meshpollreceived" && line["result"].get(0).is_some();
        if fetched || ["datagram_received", "missed"].contains(&event) {
            ask("meshpollreceived", json!({}))?;
        }
    }
    Ok(())
}
