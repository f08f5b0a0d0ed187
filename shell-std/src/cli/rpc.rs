//! `rpc`: the methods of the socket.

use super::answer::table;
use super::{Answer, Failure};
use crate::rpc::RpcError;
use crate::rpc::openrpc::Document;
use crate::rpc::request::{METHODS, Method};
use clap::Args;
use serde_json::json;

/// List the methods of the node's JSON-RPC socket, or describe one.
///
/// With --json the list is the OpenRPC document, which the method rpc.discover answers too. Exit
/// code 1: there is no such method. No node needs to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh rpc
  blvm-mesh rpc meshsendpacket
  blvm-mesh rpc --json > openrpc.json")]
pub(super) struct Rpc {
    /// The method to describe, by any of its names.
    method: Option<String>,
}

impl Rpc {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let document = Document::new();
        let Some(name) = self.method else {
            let rows: Vec<_> =
                METHODS.iter().map(|m| [m.name.into(), m.summary().into()]).collect();
            return Answer::yes(&document, table(["METHOD", "WHAT IT DOES"], &rows));
        };
        match Method::named(&name) {
            Some(method) => Answer::yes(document.method(method), help(method, &document)),
            None => {
                let error = RpcError::method_not_found(&name);
                let json = json!({"error": {"code": 1, "message": error.message}});
                Answer::no(json, format!("no: {error}"))
            }
        }
    }
}

fn help(method: &Method, document: &Document) -> String {
    let mut text = method.name.to_owned();
    if !method.aliases.is_empty() {
        text.push_str(&format!(" (also {})", method.aliases.join(", ")));
    }
    text.push_str(&format!("\n{} {}", method.summary(), method.description()));
    let rows = document.parameters(method).into_iter().map(|p| {
        let default = match p.required {
            true => "required".to_owned(),
            false => p.default.unwrap_or_default(),
        };
        [p.name, p.kind, default, p.about]
    });
    let text = text.trim_end().to_owned() + "\n";
    match rows.collect::<Vec<_>>() {
        rows if rows.is_empty() => text,
        rows => text + "\n" + &table(["PARAMETER", "TYPE", "DEFAULT", "MEANING"], &rows),
    }
}
