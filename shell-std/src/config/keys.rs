//! Every key of the configuration, and setting one from text: an environment
//! variable or a flag.

use super::ConfigError;
use super::file::File;
use toml::{Table, Value};

/// How a key's value is read from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it stands.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Texts separated by commas.
    List,
}

use Kind::{Flag, List, Number, Text};

/// All keys: section (empty: before the first section), name, kind, and what it
/// means in a few words.
pub const KEYS: &[(&str, &str, Kind, &str)] = &[
    ("", "data_dir", Text, "directory of the node's files [~/.blvm-mesh]"),
    ("", "rpc_socket", Text, "socket for commands [<data_dir>/rpc.sock]"),
    ("", "log", Text, "log filter, as in info or blvm_mesh=debug [info]"),
    ("", "issuer_key", Text, "key file of a regtest issuer, for trials"),
    ("mesh", "enabled", Flag, "whether `run` starts the node at all [true]"),
    ("mesh", "mode", Text, "bitcoin_only, payment_gated or open [payment_gated]"),
    (
        "mesh",
        "listen_addr",
        List,
        "IP:PORT and serial lines to listen on, \"\": none [0.0.0.0:8338]",
    ),
    ("mesh", "network", Text, "mainnet, testnet3, testnet4, signet or regtest [mainnet]"),
    (
        "mesh",
        "signet_challenge",
        Text,
        "challenge of a signet of its own, a script in hex, as bitcoind's -signetchallenge",
    ),
    ("mesh", "peers", List, "nodes to keep a link to: PUBKEY@HOST:PORT, PUBKEY@serial:///dev/..."),
    ("mesh", "issuers", List, "public keys whose Lightning invoices are accepted"),
    ("mesh", "private_stratum_tlv", Flag, "let blvm-node's own Stratum V2 framing go free [false]"),
    ("mesh", "max_peers", Number, "the host node's name for limits.neighbours"),
    ("tariff", "base_msat", Number, "price of a payment, in msat [1000]"),
    ("tariff", "per_kib_msat", Number, "price of each started KiB, in msat [100]"),
    ("limits", "max_packet", Number, "largest packet, in bytes [4202496]"),
    ("limits", "free_rate", Number, "free traffic per neighbour, in bytes/s [12500000]"),
    ("limits", "free_burst", Number, "free traffic at once after a pause, in bytes [8388608]"),
    (
        "limits",
        "min_difficulty",
        Number,
        "difficulty of headers and blocks that may use all of it [1000000; on signet 0; on regtest 0]",
    ),
    ("limits", "plain_rate", Number, "of it what has no proof of work, in bytes/s [262144]"),
    ("limits", "plain_burst", Number, "the same at once after a pause, in bytes [8388608]"),
    ("limits", "rare_rate", Number, "of that commands sent rarely, in bytes/s [4096]"),
    ("limits", "rare_burst", Number, "the same at once after a pause, in bytes [131072]"),
    ("limits", "bad_payments_rate", Number, "bad payments checked per neighbour and second [50]"),
    ("limits", "bad_payments_burst", Number, "bad payments checked at once after a pause [200]"),
    ("limits", "neighbours", Number, "neighbours at once [1024]"),
    ("limits", "per_prefix", Number, "strangers from one IPv4 /24 or IPv6 /48 [8]"),
    ("limits", "owners", Number, "neighbours, also gone, whose allowances are remembered [4096]"),
    ("limits", "routes", Number, "routes remembered [4096]"),
    ("limits", "hearsay", Number, "reachability hints kept, one per node heard of [4096]"),
    ("limits", "relayed_requests", Number, "route requests of others remembered [1024]"),
    ("limits", "searches", Number, "own searches at once [256]"),
    ("limits", "payments", Number, "live payments remembered [1000000]"),
    ("limits", "parked", Number, "packets that may wait for an answer [1024]"),
    ("limits", "parked_bytes", Number, "bytes of these packets, half of them own ones [67108864]"),
    ("limits", "seen", Number, "recent datagrams remembered, a power of two [8192]"),
    ("limits", "queue_bytes", Number, "queue for one neighbour, in bytes [8388608]"),
    ("limits", "link_memory_bytes", Number, "memory of all links together, in bytes [50331648]"),
    ("limits", "inbox_bytes", Number, "datagrams kept for `recv`, in bytes [16777216]"),
    ("limits", "store_cache_bytes", Number, "memory of the store's cache, in bytes [262144]"),
    ("limits", "threads", Number, "threads that the node's tasks run on [1]"),
    (
        "timing",
        "keepalive_ms",
        Number,
        "answer datagrams within this time, in ms; 0 disables [250]",
    ),
    ("timing", "hop_round_trip_ms", Number, "time for a request over a link and back, in ms [100]"),
    ("timing", "first_ring", Number, "links that a search crosses at first [2]"),
    ("timing", "route_lifetime_ms", Number, "age at which a route is renewed, in ms [600000]"),
    (
        "timing",
        "verify_timeout_ms",
        Number,
        "longest wait for the host node's answer, in ms [10000]",
    ),
    ("timing", "handshake_timeout_ms", Number, "longest handshake of a new link, in ms [5000]"),
    ("timing", "reconnect_min_ms", Number, "first pause before dialling again, in ms [100]"),
    ("timing", "reconnect_max_ms", Number, "longest pause before dialling again, in ms [30000]"),
    ("payment", "max_lifetime_s", Number, "longest time to the expiry of a payment, in s [604800]"),
    (
        "payment",
        "future_skew_s",
        Number,
        "how far in the future a payment may be dated, in s [300]",
    ),
    ("payment", "covenants_active", Flag, "whether the network enforces OP_CTV [false]"),
    ("payment", "payout_script", Text, "script in hex that covenants must pay"),
    ("payment", "payout_address", Text, "the same as an address"),
    (
        "payment",
        "min_confirmations",
        Number,
        "confirmations of a covenant's funding [6; on regtest 1]",
    ),
    ("chain", "rpc_url", Text, "JSON-RPC of a Bitcoin node, as in http://127.0.0.1:8332"),
    ("chain", "cookie_file", Text, "Bitcoin Core's .cookie, to be let in by it"),
    ("chain", "rpc_user", Text, "name to be let in by, in the place of the cookie"),
    ("chain", "rpc_password", Text, "its password; better in the environment than in the file"),
    ("chain", "timeout_ms", Number, "longest look-up of a block, in ms [5000]"),
    ("bench", "sink", Flag, "let anyone measure the way to this node [false]"),
];

/// The key as it is written in messages: `mesh.mode`.
pub fn dotted(section: &str, name: &str) -> String {
    match section {
        "" => name.into(),
        _ => format!("{section}.{name}"),
    }
}

/// The environment variable of a key: `BLVM_MESH_` and the section, except
/// `mesh`, and the name, in capitals.
pub fn variable(section: &str, name: &str) -> String {
    let section = match section {
        "" | "mesh" => String::new(),
        _ => format!("{section}_"),
    };
    format!("{PREFIX}{section}{name}").to_uppercase()
}

/// What the names of all environment variables begin with.
pub const PREFIX: &str = "BLVM_MESH_";

/// Variables with the prefix that are no keys.
const OTHER_VARIABLES: [&str; 1] = ["BLVM_MESH_CONFIG"];

/// One value that replaces the file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Where it came from, for messages: a flag or a variable.
    pub origin: String,
    /// Key with its section, as in `mesh.mode`.
    pub key: String,
    /// Its value as text. A list's items are separated by commas.
    pub value: String,
}

/// The overrides among the environment variables.
///
/// # Errors
/// A variable with our prefix that names no key.
pub fn from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Override>, ConfigError> {
    let ours = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !OTHER_VARIABLES.contains(&name.as_str()));
    let mut found = Vec::new();
    for (origin, value) in ours {
        let key = KEYS.iter().find(|(section, name, ..)| variable(section, name) == origin);
        let Some((section, name, ..)) = key else {
            return Err(ConfigError::UnknownVariable(origin));
        };
        found.push(Override { origin, key: dotted(section, name), value });
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

impl Override {
    /// Puts the value into `table` in the place of the file's.
    pub(super) fn apply(&self, table: &mut Table) -> Result<(), ConfigError> {
        let key = KEYS.iter().find(|(section, name, ..)| dotted(section, name) == self.key);
        let Some((section, name, kind, _)) = key else {
            return Err(ConfigError::UnknownKey {
                origin: self.origin.clone(),
                key: self.key.clone(),
            });
        };
        let value = self.read(*kind)?;
        // Alone, so that a fault is this one's.
        let mut alone = Table::new();
        put(&mut alone, section, name, value.clone());
        let wrong = |e: toml::de::Error| self.wrong(e.message());
        alone.try_into::<File>().map_err(wrong)?;
        put(table, section, name, value);
        Ok(())
    }

    fn read(&self, kind: Kind) -> Result<Value, ConfigError> {
        let text = self.value.trim();
        Ok(match kind {
            Text => Value::String(text.into()),
            Number => {
                let number = text.replace('_', "").parse();
                Value::Integer(number.map_err(|_| self.wrong("expected a whole number"))?)
            }
            Flag => Value::Boolean(text.parse().map_err(|_| self.wrong("expected true or false"))?),
            List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.into())).collect())
            }
        })
    }

    fn wrong(&self, reason: &str) -> ConfigError {
        let Self { origin, value, .. } = self.clone();
        ConfigError::Override { origin, value, reason: reason.trim().into() }
    }
}

fn put(table: &mut Table, section: &str, name: &str, value: Value) {
    if section.is_empty() {
        table.insert(name.into(), value);
        return;
    }
    let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        inner.insert(name.into(), value);
    }
}
