//! Flags of every command.

use super::Failure;
use crate::config::{Override, Settings, Sources};
use crate::rpc::client::{Client, ClientError};
use crate::rpc::{Request, types};
use clap::Args;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(super) struct Global {
    /// Print JSON, also for errors.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Configuration file; it must be there. [default: <data_dir>/mesh.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "BLVM_MESH_CONFIG")]
    config: Option<PathBuf>,
    /// Directory of the node's files. [default: $XDG_DATA_HOME/blvm-mesh or ~/.blvm-mesh]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Socket of the node. [default: <data_dir>/rpc.sock]
    #[arg(long, global = true, value_name = "FILE")]
    rpc_socket: Option<String>,
    /// Set any key of the configuration, as in limits.free_rate=1000000.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Longest wait for the running node's answer, beside the time that a command waits anyway.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
}

impl Global {
    /// Everything that is configured, with `flags` on top of it.
    pub(super) fn settings(&self, flags: Vec<Override>) -> Result<Settings, Failure> {
        Ok(self.sources(flags)?.load()?)
    }

    /// Where that comes from.
    pub(super) fn sources(&self, flags: Vec<Override>) -> Result<Sources, Failure> {
        let mut overrides = Vec::new();
        for text in &self.set {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Failure(format!("--set {text}: write KEY=VALUE")));
            };
            let (origin, key) = (format!("--set {key}"), key.trim().to_owned());
            overrides.push(Override { origin, key, value: value.to_owned() });
        }
        overrides.extend(given("--data-dir", "data_dir", self.data_dir.as_ref()));
        overrides.extend(given("--rpc-socket", "rpc_socket", self.rpc_socket.as_ref()));
        overrides.extend(flags);
        Ok(Sources::from_process(self.config.clone(), overrides)?)
    }

    /// How long is waited for an answer.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }

    /// A connection to the running node.
    pub(super) fn client(&self) -> Result<Client, ClientFailure> {
        let settings = self.settings(Vec::new()).map_err(ClientFailure::Settings)?;
        Client::connect(&settings.rpc_socket, self.patience()).map_err(ClientFailure::Client)
    }

    /// Asks the running node.
    pub(super) fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ClientFailure> {
        self.client()?.call(request).map_err(ClientFailure::Client)
    }
}

/// Why the running node did not answer, or that it refused.
pub(super) enum ClientFailure {
    /// It was not asked.
    Settings(Failure),
    /// It was.
    Client(ClientError),
    /// It does not know who is meant, or knows several.
    Unclear(String),
}

impl ClientFailure {
    /// The answer to give in place of the one that was asked for.
    pub(super) fn answer(self) -> Result<super::Answer, Failure> {
        match self {
            Self::Settings(failure) => Err(failure),
            Self::Client(error) => super::Answer::refused(error),
            Self::Unclear(text) => super::Answer::negative(&text),
        }
    }

    /// Whether no node runs here.
    pub(super) fn is_not_running(&self) -> bool {
        matches!(self, Self::Client(ClientError::NotRunning(_)))
    }
}

/// A flag's value as an override.
pub(super) fn given(flag: &str, key: &str, value: Option<&impl ToString>) -> Option<Override> {
    let value = value?.to_string();
    Some(Override { origin: flag.into(), key: key.into(), value })
}

/// Millisatoshi, with satoshi where that is easier to read.
pub(super) fn msat(amount: u64) -> String {
    format!("{amount} msat")
}

/// A tariff in words.
pub(super) fn tariff(tariff: &types::Tariff) -> String {
    format!("{} msat + {} msat/KiB", tariff.base_msat, tariff.per_kib_msat)
}
