//! `keygen` and `id`.

use super::answer::lines;
use super::global::Global;
use super::{Answer, Failure};
use crate::config::Settings;
use crate::identity::{Identity, IdentityError, KEY_FILE};
use crate::private_file::PrivateFileError;
use clap::Args;
use serde_json::{Value, json};
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
/// No node needs to run.
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
    // Where the node listens everywhere, only its user knows what others can reach.
    let address = settings.listen_addr.map(|listen| match listen.ip().is_unspecified() {
        true => format!("{key}@HOST:{}", listen.port()),
        false => format!("{key}@{listen}"),
    });
    let payout = &settings.config.payment.payout_script;
    json!({
        "node_id": identity.node_id().to_string(),
        "public_key": key,
        "address": address,
        "payout_script": (!payout.is_empty()).then(|| hex::encode(payout)),
    })
}

fn text(json: &Value) -> String {
    let names = ["node_id", "public_key", "address", "payout_script", "file"];
    lines(names.into_iter().filter_map(|name| Some((name, json.get(name)?.as_str()?))))
}
