//! `init`: what a node needs before its first start.

use super::answer::lines;
use super::global::Global;
use super::{Answer, Failure};
use crate::config::{CONFIG_FILE, example};
use crate::identity::{Identity, IdentityError, KEY_FILE};
use crate::private_file::{self, PrivateFileError};
use clap::Args;
use serde_json::json;

/// Make the data directory, a configuration file to begin with, and an identity key.
///
/// What is there already is left as it is. Exit code 1: there was nothing to make.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  blvm-mesh init                        (then edit ~/.blvm-mesh/mesh.toml)
  blvm-mesh init --data-dir ./b --json")]
pub(super) struct Init {}

impl Init {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let dir = global.settings(Vec::new())?.data_dir;
        private_file::create_dir(&dir).map_err(|e| Failure(e.to_string()))?;
        let config = dir.join(CONFIG_FILE);
        let wrote_config = made(private_file::create(&config, example().as_bytes()))?;
        let key = dir.join(KEY_FILE);
        let (identity, wrote_key) = match Identity::create(&key) {
            Ok(identity) => (identity, true),
            Err(IdentityError::File(PrivateFileError::Exists(_))) => (Identity::load(&key)?, false),
            Err(e) => return Err(e.into()),
        };
        let state = |made: bool| if made { "made" } else { "was there, left as it is" };
        let json = json!({
            "data_dir": dir, "config": config, "config_made": wrote_config,
            "identity": key, "identity_made": wrote_key,
            "node_id": identity.node_id().to_string(),
            "public_key": identity.public_key().to_string(),
        });
        let text = lines([
            ("configuration", format!("{} ({})", config.display(), state(wrote_config))),
            ("identity", format!("{} ({})", key.display(), state(wrote_key))),
            ("public key", identity.public_key().to_string()),
        ]) + "next: read the configuration and change it, then `blvm-mesh run`\n";
        match wrote_config || wrote_key {
            true => Answer::yes(json, text),
            false => Answer::no(json, text),
        }
    }
}

/// Whether a file was made; it is not where it was there.
fn made(outcome: Result<(), PrivateFileError>) -> Result<bool, Failure> {
    match outcome {
        Ok(()) => Ok(true),
        Err(PrivateFileError::Exists(_)) => Ok(false),
        Err(e) => Err(Failure(e.to_string())),
    }
}
