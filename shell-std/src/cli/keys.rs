//! `keygen` and `id`.

use super::answer::lines;
use super::global::Global;
use super::{Answer, Failure};
use crate::config::Settings;
use crate::identity::{Identity, IdentityError, KEY_FILE};
use crate::private_file::PrivateFileError;
use crate::rpc::Request;
use crate::rpc::types::Info;
use clap::Args;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Make an identity key (`run` does it by itself where there is none).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh keygen --data-dir ./a")]
pub(super) struct Keygen {
    /// File to write; it must not be there. [default: <data_dir>/identity.key]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Show this node's identity, the address that others dial, and the script that covenants
/// must pay it to.
///
/// A node that runs is asked: its settings may not be those of the file. Else the key and the
/// configuration of the data directory are shown.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh id --json")]
pub(super) struct Id {}

impl Keygen {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let settings = global.settings(Vec::new())?;
        let path = self.out.unwrap_or_else(|| settings.data_dir.join(KEY_FILE));
        match Identity::create(&path) {
            Ok(identity) => {
                let mut json = describe(&identity, &settings);
                if let Value::Object(map) = &mut json {
                    map.insert("file".into(), path.display().to_string().into());
                }
                Answer::yes(&json, text(&json))
            }
            Err(IdentityError::File(e @ PrivateFileError::Exists(_))) => {
                Answer::no(json!({"error": {"code": 1, "message": e.to_string()}}), e.to_string())
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl Id {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        match global.ask::<Info>(&Request::GetInfo) {
            Ok(info) => {
                let json = running(&info);
                return Answer::yes(&json, text(&json));
            }
            Err(e) if e.is_not_running() => {}
            Err(e) => return e.answer(),
        }
        let settings = global.settings(Vec::new())?;
        let path = settings.data_dir.join(KEY_FILE);
        match Identity::load(&path) {
            Ok(identity) => {
                let json = describe(&identity, &settings);
                Answer::yes(&json, text(&json))
            }
            Err(IdentityError::File(e)) if e.is_not_found() => {
                let message = format!(
                    "there is no identity in {}: make one with `blvm-mesh keygen`",
                    settings.data_dir.display()
                );
                Answer::no(json!({"error": {"code": 1, "message": message}}), message)
            }
            Err(e) => Err(e.into()),
        }
    }
}

fn describe(identity: &Identity, settings: &Settings) -> Value {
    let key = identity.public_key().to_string();
    // Which port a node takes that may take any shows once it runs.
    let listen = settings.listen_addr.filter(|listen| listen.port() != 0);
    let payout = &settings.config.payment.payout_script;
    json!({
        "node_id": identity.node_id().to_string(),
        "public_key": key,
        "address": listen.map(|listen| address(&key, listen)),
        "payout_script": (!payout.is_empty()).then(|| hex::encode(payout)),
        "running": false,
    })
}

/// What the running node says of itself.
fn running(info: &Info) -> Value {
    let key = hex::encode(info.public_key);
    let listen = info.listen_addr.as_ref().and_then(|listen| listen.parse().ok());
    json!({
        "node_id": info.node_id.to_string(),
        "public_key": key,
        "address": listen.map(|listen| address(&key, listen)),
        "payout_script": (!info.payout_script.is_empty()).then(|| hex::encode(&info.payout_script)),
        "running": true,
    })
}

/// What others dial. Where the node listens everywhere, only its user knows what they can reach.
fn address(key: &str, listen: SocketAddr) -> String {
    match listen.ip().is_unspecified() {
        true => format!("{key}@HOST:{}", listen.port()),
        false => format!("{key}@{listen}"),
    }
}

fn text(json: &Value) -> String {
    let names = ["node_id", "public_key", "address", "payout_script", "file"];
    let mut text =
        lines(names.into_iter().filter_map(|name| Some((name, json.get(name)?.as_str()?))));
    if json.get("running") == Some(&Value::Bool(false)) {
        text.push_str("(from the key and the configuration: no node runs with this directory)\n");
    }
    text
}
