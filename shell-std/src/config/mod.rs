//! Settings: defaults, then the configuration file, then environment variables,
//! then flags.
//!
//! The file is TOML; docs/CLI.md lists its keys. Keys of a host node's
//! configuration are taken in `[mesh]` where they mean the same (`enabled`,
//! `mode`, `peers` with `address` and `node_id_hex`, `max_peers`); its
//! `rate_limit_per_minute` is refused with the name of what to set instead.

mod build;
mod example;
mod key;
mod keys;
mod ledger;
mod lightning;
mod live;
mod metrics;
mod overrides;
mod page;
mod radios;
mod values;

pub use build::{Shell, bitcoin_network, script_of};
pub use example::example;
pub use key::{Key, Kind};
pub use keys::KEYS;
pub use live::Written;
pub use overrides::{Override, PREFIX, from_environment};
pub use page::PageSettings;
pub use values::{parse_mode, parse_network, parse_signet_challenge};

use crate::address::{LoraAddress, PeerAddress, SerialLine};
use crate::bridge::BridgeSettings;
use crate::chain::ChainSettings;
use crate::export::ExportSettings;
use crate::flows::{Exposed, ForwardSpec};
use crate::lan::LanSettings;
use crate::lightning::LightningSettings;
use crate::wallet::Limits;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::NodeId;
use keys::File;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::Table;

/// Name of the configuration file in the data directory.
pub const CONFIG_FILE: &str = "mesh.toml";

/// Everything that a node is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Settings of the state machine.
    pub config: Config,
    /// Whether `run` starts the node at all.
    pub enabled: bool,
    /// Where to listen for TCP connections; `None`: nowhere.
    pub listen_addr: Option<SocketAddr>,
    /// Serial lines on which whoever comes is answered. No line is there or among the
    /// peers twice.
    pub listen_lines: Vec<SerialLine>,
    /// Radios. No device is there, or among the lines, twice.
    pub radios: Vec<LoraAddress>,
    /// Nodes to keep a link to. No key is there twice.
    pub peers: Vec<PeerAddress>,
    /// How neighbours are found on LANs.
    pub lan: LanSettings,
    /// Nodes that get no link, with the time until then in seconds since 1970; `None`: for ever.
    pub banned: BTreeMap<NodeId, Option<u64>>,
    /// Where the node's numbers are read over HTTP, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Where the ledger is booked besides, if anywhere.
    pub export: Option<ExportSettings>,
    /// The node's page, if there is one.
    pub page: Option<PageSettings>,
    /// Directory of the identity, the store and the socket.
    pub data_dir: PathBuf,
    /// The configuration file that was read, if there was one.
    pub config_file: Option<PathBuf>,
    /// Socket for commands.
    pub rpc_socket: PathBuf,
    /// Log filter in the syntax of `tracing-subscriber`.
    pub log: String,
    /// Key file of a regtest issuer, if this node has one.
    pub issuer_key: Option<PathBuf>,
    /// Files about boards whose cashier this node is.
    pub cashier_for: Vec<PathBuf>,
    /// Bitcoin node that looks blocks up, if there is one.
    pub chain: Option<ChainSettings>,
    /// Services of this node, and forwards to those of others.
    pub services: ServiceSettings,
    /// Bitcoin nodes that reach others, or are reached, through the mesh.
    pub bridge: BridgeSettings,
    /// The operator's Lightning node, if there is one.
    pub lightning: Option<LightningSettings>,
    /// How much this node may spend by itself.
    pub spending: Limits,
    /// Limits and times of the node around the state machine.
    pub shell: Shell,
}

/// TCP ports that flows join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Those of this host that other nodes reach by name.
    pub exposed: Vec<Exposed>,
    /// Those that lead to services of other nodes.
    pub forwards: Vec<ForwardSpec>,
    /// The most that each flow of a forward may cost, in millisatoshi, where nothing else is said.
    pub max_msat: u64,
    /// Whether datagrams that others send over flows are taken.
    pub inbox: bool,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {error}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is not TOML, or a key or value in it is wrong.
    #[error("configuration file {path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line, key and fault.
        reason: String,
    },
    /// An environment variable names no key.
    #[error("environment variable {0} names no setting; `blvm-mesh run --help` lists all of them")]
    UnknownVariable(String),
    /// A flag names no key.
    #[error("{origin}: there is no key \"{key}\"{}; allowed are {}", meant(key), all_keys())]
    UnknownKey {
        /// The flag.
        origin: String,
        /// What it names.
        key: String,
    },
    /// The value of a flag or variable is wrong.
    #[error("{origin} = \"{value}\": {reason}")]
    Override {
        /// The flag or variable.
        origin: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value does not go with the others, or is out of its range.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no home directory to derive the data directory from.
    #[error("neither XDG_DATA_HOME nor HOME is set: give --data-dir")]
    NoHome,
}

/// Keys of that name in other sections.
fn meant(key: &str) -> String {
    let name = key.rsplit('.').next().unwrap_or_default();
    let meant: Vec<String> = KEYS.iter().filter(|k| k.name == name).map(Key::dotted).collect();
    match meant.is_empty() {
        true => String::new(),
        false => format!(" (did you mean {}?)", meant.join(" or ")),
    }
}

fn all_keys() -> String {
    let keys: Vec<String> = KEYS.iter().map(Key::dotted).collect();
    keys.join(", ")
}

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, which must be there. `None`: `mesh.toml` in the data directory,
    /// if it is there.
    pub file: Option<PathBuf>,
    /// What replaces the file's values, the last of a key counts.
    pub overrides: Vec<Override>,
    /// Value of `XDG_DATA_HOME`.
    pub xdg_data_home: Option<PathBuf>,
    /// Value of `HOME`.
    pub home: Option<PathBuf>,
}

impl Sources {
    /// The environment of this process, and flags on top of it.
    ///
    /// # Errors
    /// A `BLVM_MESH_` variable that names no key.
    pub fn from_process(file: Option<PathBuf>, flags: Vec<Override>) -> Result<Self, ConfigError> {
        let path = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        let mut overrides = from_environment(std::env::vars_os().filter_map(text))?;
        overrides.extend(flags);
        Ok(Self {
            file: file.or_else(|| path("BLVM_MESH_CONFIG")),
            overrides,
            xdg_data_home: path("XDG_DATA_HOME"),
            home: path("HOME"),
        })
    }

    /// The data directory where neither the file nor an override names one:
    /// `$XDG_DATA_HOME/blvm-mesh`, or `~/.blvm-mesh`.
    fn default_data_dir(&self) -> Result<PathBuf, ConfigError> {
        let xdg = self.xdg_data_home.as_ref().map(|dir| dir.join("blvm-mesh"));
        let home = || self.home.as_ref().map(|dir| dir.join(".blvm-mesh"));
        xdg.or_else(home).ok_or(ConfigError::NoHome)
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or a value is wrong; it names file, line or
    /// variable.
    pub fn load(&self) -> Result<Settings, ConfigError> {
        self.read().map(|(settings, _)| settings)
    }

    /// The same, with what was given: to find out later what has changed.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn read(&self) -> Result<(Settings, Written), ConfigError> {
        let given = self.overrides.iter().rev().find(|o| o.key == "data_dir");
        let data_dir = match given {
            Some(o) => Ok(PathBuf::from(&o.value)),
            None => self.default_data_dir(),
        };
        let file = match (&self.file, &data_dir) {
            (Some(path), _) => Some(path.clone()),
            (None, Ok(dir)) => Some(dir.join(CONFIG_FILE)).filter(|path| path.exists()),
            (None, Err(_)) => None,
        };
        let mut table = match &file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError::Read { path: path.clone(), error })?;
                parse_file(path, &text)?
            }
            None => Table::new(),
        };
        self.put_over(&mut table)?;
        let settings = self.settings(table.clone(), data_dir)?;
        let written = Written::of(&table, settings.config.network);
        Ok((Settings { config_file: file, ..settings }, written))
    }

    /// Puts the overrides in the places of a file's values.
    fn put_over(&self, table: &mut Table) -> Result<(), ConfigError> {
        self.overrides.iter().try_for_each(|o| o.apply(table))
    }

    /// Checks a file's values with the overrides in their places.
    pub(crate) fn settings(
        &self,
        mut table: Table,
        data_dir: Result<PathBuf, ConfigError>,
    ) -> Result<Settings, ConfigError> {
        self.put_over(&mut table)?;
        let merged = table
            .try_into::<File>()
            .map_err(|e| ConfigError::Value { key: "configuration", reason: e.message().into() })?;
        build::settings(merged, data_dir, self.home.as_deref())
    }
}

/// Reads what a configuration file says; its path is for messages.
pub(crate) fn parse_file(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let wrong = |reason: String| ConfigError::File { path: path.into(), reason };
    let table: Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
    fn named(name: &str) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.name == name)
    }
    let stray = table.keys().find(|name| {
        named(name).next().is_some() && named(name).all(|key| !key.section.is_empty())
    });
    if let Some(stray) = stray {
        let sections: Vec<String> = named(stray).map(|key| format!("[{}]", key.section)).collect();
        return Err(wrong(format!("{stray} belongs in section {}", sections.join(" or "))));
    }
    toml::from_str::<File>(text).map_err(|e| wrong(e.to_string()))?;
    Ok(table)
}

#[cfg(test)]
mod tests;
