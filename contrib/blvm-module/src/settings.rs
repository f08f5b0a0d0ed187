//! What the module is told: by the node in environment variables, by its operator in the mesh's
//! own file `mesh.toml` in the module's data directory. What the node passes on counts more.

use blvm_mesh::address::{PeerAddress, Place};
use blvm_mesh::config::{self, ConfigError, Override, Sources};
use blvm_mesh_core::secp256k1::PublicKey;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What the names of variables that hold configuration begin with.
pub const PREFIX: &str = "MODULE_CONFIG_";
/// The keys of section `[mesh]` that the node may pass on.
pub const KEYS: [&str; 6] = ["enabled", "mode", "network", "peers", "issuers", "max_peers"];
/// A key that only the module has: frames per minute taken from one peer of the node.
pub const RATE_LIMIT: &str = "rate_limit_per_minute";

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The node did not start this program.
    #[error("{0} is not set: this program is a module, which a blvm-node starts")]
    Missing(&'static str),
    /// A value is wrong, or the file cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A value of the node's is no list of peers.
    #[error("{0}: {1}")]
    Peers(String, String),
    /// A number is none.
    #[error("{0}: \"{1}\" is not a number of frames per minute; 0 is no limit")]
    RateLimit(String, String),
    /// A peer cannot be found among the node's connections.
    #[error(
        "mesh.peers: {0}: the module recognises a connection of the node by its IP address and \
         port, as in PUBKEY@192.0.2.1:8333; names and serial lines are for blvm-mesh itself"
    )]
    Place(Box<PeerAddress>),
    /// A part of the file that the module cannot serve.
    #[error("{0}; run blvm-mesh itself beside the node for that")]
    NotServed(&'static str),
}

/// What the module is told.
#[derive(Debug)]
pub struct ModuleSettings {
    /// The name under which the node keeps its permissions.
    pub name: String,
    /// The node's socket.
    pub socket: PathBuf,
    /// Keys of the nodes with which a link is kept, by the addresses at which the node connects to
    /// them.
    pub dialed: HashMap<SocketAddr, PublicKey>,
    /// Frames per minute taken from one peer of the node; `None`: no limit.
    pub frames_per_minute: Option<u32>,
    /// The mesh's own settings.
    pub mesh: config::Settings,
}

impl ModuleSettings {
    /// Reads them from variables, which are those of the process, and the file.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn read(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let variables: HashMap<_, _> = variables.into_iter().collect();
        let given = |name: &'static str| {
            let value = variables.get(name).filter(|value| !value.is_empty());
            value.cloned().ok_or(SettingsError::Missing(name))
        };
        let data_dir = given("DATA_DIR")?;
        let mut overrides =
            vec![Override { origin: "DATA_DIR".into(), key: "data_dir".into(), value: data_dir }];
        for key in KEYS {
            let Some((origin, value)) = find(&variables, key) else { continue };
            let value = match key {
                "peers" => peers(value).map_err(|e| SettingsError::Peers(origin.clone(), e))?,
                _ => value.to_owned(),
            };
            overrides.push(Override { origin, key: format!("mesh.{key}"), value });
        }
        let limit = find(&variables, RATE_LIMIT).map(|(origin, value)| {
            let wrong = |_| SettingsError::RateLimit(origin, value.into());
            value.trim().parse().map_err(wrong)
        });
        let mesh = Sources { overrides, ..Sources::default() }.load()?;
        Ok(Self {
            name: given("MODULE_NAME")?,
            socket: given("SOCKET_PATH")?.into(),
            dialed: dialed(&mesh.peers)?,
            frames_per_minute: limit.transpose()?.filter(|limit| *limit != 0),
            mesh: served(mesh)?,
        })
    }
}

/// A key of the node's configuration, flat or in a table `mesh`, which the node writes before its
/// name. In which case letters stand is the node's choice.
fn find<'v>(variables: &'v HashMap<String, String>, key: &str) -> Option<(String, &'v str)> {
    let names = [format!("{PREFIX}{key}"), format!("{PREFIX}MESH.{key}")];
    let named = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(name, value)| (name.clone(), value.as_str()))
    };
    names.iter().find_map(|name| named(name))
}

/// The node joins a list's items with commas, and writes tables as TOML does: here as a list of
/// `PUBKEY@HOST:PORT` with commas between them.
fn peers(text: &str) -> Result<String, String> {
    if !text.contains('{') {
        return Ok(text.trim().trim_start_matches('[').trim_end_matches(']').replace('"', ""));
    }
    let form = "peers are written as PUBKEY@IP:PORT, or as \
                { address = \"IP:PORT\", node_id_hex = \"PUBKEY\" }";
    let list = text.trim().trim_start_matches('[').trim_end_matches(']');
    let table: toml::Table =
        format!("peers = [{list}]").parse().map_err(|e: toml::de::Error| {
            format!("{form}; the node passed on {text}: {}", e.message())
        })?;
    let items = table.get("peers").and_then(toml::Value::as_array).ok_or(form)?;
    let written = items.iter().map(|item| match item {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Table(peer) => {
            let text = |key: &str| peer.get(key).and_then(toml::Value::as_str);
            let both = text("address").zip(text("node_id_hex"));
            let (address, key) = both.ok_or(form)?;
            if key.len() == 64 {
                return Err(format!(
                    "node_id_hex \"{key}\" is an identity; a link needs the public key (66 hex \
                     digits), which the other node's get_node_id says"
                ));
            }
            Ok(format!("{key}@{address}"))
        }
        _ => Err(form.into()),
    });
    written.collect::<Result<Vec<_>, String>>().map(|items| items.join(","))
}

/// Where the node has a connection to each peer, which may have several addresses.
fn dialed(peers: &[PeerAddress]) -> Result<HashMap<SocketAddr, PublicKey>, SettingsError> {
    let mut dialed = HashMap::new();
    for peer in peers {
        let unknown = || SettingsError::Place(Box::new(peer.clone()));
        let Place::Tcp(places) = &peer.place else { return Err(unknown()) };
        for at in places.as_slice() {
            let ip: IpAddr = at.host.parse().map_err(|_| unknown())?;
            dialed.insert(SocketAddr::new(ip.to_canonical(), at.port), peer.public_key);
        }
    }
    Ok(dialed)
}

/// What would silently do nothing is refused.
fn served(mesh: config::Settings) -> Result<config::Settings, SettingsError> {
    let refused = [
        (mesh.lightning.is_some(), "the module has no Lightning node (section lightning)"),
        (mesh.export.is_some(), "the module exports no ledger (section ledger)"),
        (mesh.page.is_some(), "the module has no page (section page)"),
        (mesh.metrics.is_some(), "the module serves no metrics (section metrics)"),
        (
            !mesh.radios.is_empty() || !mesh.listen_lines.is_empty(),
            "the module has no radios and serial lines (mesh.listen_addr)",
        ),
        (
            !mesh.services.exposed.is_empty() || !mesh.services.forwards.is_empty(),
            "the module exposes and forwards no services (section flow)",
        ),
    ];
    match refused.into_iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(SettingsError::NotServed(what)),
        None => Ok(mesh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    const KEY2: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

    fn read(more: &[(&str, &str)], file: &str) -> Result<ModuleSettings, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mesh.toml"), file).unwrap();
        let dir = dir.path().to_str().unwrap();
        let usual = [("MODULE_NAME", "blvm-mesh"), ("SOCKET_PATH", "/s"), ("DATA_DIR", dir)];
        let all = usual.iter().chain(more).map(|(k, v)| (k.to_string(), v.to_string()));
        ModuleSettings::read(all).map_err(|e| e.to_string())
    }

    #[test]
    fn what_the_node_passes_on_counts_more_than_the_file() {
        let file = format!(
            "[mesh]\nmode = \"open\"\nnetwork = \"regtest\"\npeers = [\"{KEY}@1.2.3.4:5\"]"
        );
        let settings = read(&[], &file).unwrap();
        assert_eq!(settings.mesh.config.mode, blvm_mesh_core::config::MeshMode::Open);
        assert_eq!(settings.mesh.config.network.name(), "regtest");
        assert!(settings.dialed.contains_key(&"1.2.3.4:5".parse().unwrap()));
        assert_eq!((settings.name.as_str(), settings.frames_per_minute), ("blvm-mesh", None));
        for prefix in ["MODULE_CONFIG_", "MODULE_CONFIG_MESH."] {
            let names: Vec<String> = ["MODE", "MAX_PEERS", "RATE_LIMIT_PER_MINUTE", "ENABLED"]
                .map(|name| format!("{prefix}{name}"))
                .into();
            let given = ["payment_gated", "7", "60", "false"];
            let given: Vec<_> = names.iter().map(String::as_str).zip(given).collect();
            let settings = read(&given, &file).unwrap();
            assert_eq!(settings.mesh.config.mode, blvm_mesh_core::config::MeshMode::PaymentGated);
            assert_eq!(settings.mesh.config.capacities.neighbours, 7);
            assert_eq!(settings.frames_per_minute, Some(60));
            assert!(!settings.mesh.enabled);
        }
    }

    #[test]
    fn peers_are_read_in_each_spelling_that_the_node_makes_of_them() {
        let spellings = [
            format!("{KEY}@1.2.3.4:5,{KEY2}@[::1]:6"),
            format!("[\"{KEY}@1.2.3.4:5\", \"{KEY2}@[::1]:6\"]"),
            format!(
                "{{ address = \"1.2.3.4:5\", node_id_hex = \"{KEY}\" }},\
                 {{ node_id_hex = \"{KEY2}\", address = \"[::1]:6\" }}"
            ),
        ];
        for spelling in &spellings {
            let settings = read(&[("MODULE_CONFIG_PEERS", spelling)], "").unwrap();
            let mut found: Vec<_> =
                settings.dialed.iter().map(|(at, key)| format!("{key}@{at}")).collect();
            found.sort();
            assert_eq!(
                found,
                [format!("{KEY}@1.2.3.4:5"), format!("{KEY2}@[::1]:6")],
                "{spelling}"
            );
        }
    }

    #[test]
    fn a_value_that_cannot_be_meant_is_refused_by_name() {
        let id = "ab".repeat(32);
        let identity = format!("{{ address = \"1.2.3.4:5\", node_id_hex = \"{id}\" }}");
        let named = format!("{KEY}@relay.example.org:8333");
        for (name, value, expected) in [
            ("MODULE_CONFIG_MODE", "free", "MODULE_CONFIG_MODE"),
            ("MODULE_CONFIG_MAX_PEERS", "many", "MODULE_CONFIG_MAX_PEERS"),
            ("MODULE_CONFIG_RATE_LIMIT_PER_MINUTE", "-1", "not a number of frames"),
            ("MODULE_CONFIG_PEERS", &identity, "a link needs the public key"),
            ("MODULE_CONFIG_PEERS", "{ address = 5 }", "peers are written as"),
            ("MODULE_CONFIG_PEERS", "{ address = ", "the node passed on"),
            ("MODULE_CONFIG_PEERS", &named, "by its IP address"),
            ("SOCKET_PATH", "", "a module, which a blvm-node starts"),
        ] {
            let error = read(&[(name, value)], "").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = read(&[], "[metrics]\nlisten = \"127.0.0.1:1\"").unwrap_err();
        assert!(error.contains("serves no metrics"), "{error}");
    }
}
