//! From the keys as written to checked settings.

use super::keys::{Chain, File};
use super::values::{Listen, Owing};
use super::{ConfigError, ServiceSettings, Settings};
use crate::address::{PeerAddress, Place, SerialLine};
use crate::bridge::BridgeSettings;
use crate::chain::{Auth, ChainSettings};
use crate::flows::ForwardSpec;
use crate::headers::Root;
use crate::lan::LanSettings;
use crate::lightning::Timeouts;
use crate::wallet::Limits;
use blvm_mesh_core::config::{Config, MAX_ISSUERS, MAX_SCRIPT};
use blvm_mesh_core::id::{Network, NodeId};
use secp256k1::PublicKey;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most that a flow of a forward may cost, in millisatoshi: 1,000 sat.
const MAX_MSAT: u64 = 1_000_000;

/// TCP port where none is configured.
const DEFAULT_PORT: u16 = 8338;

/// Smallest limit of packets: hellos and route replies must fit.
pub(super) const MIN_MAX_PACKET: u64 = 2048;

/// Limits and times of the node around the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// Bytes queued for one neighbour before its link counts as full.
    pub queue_bytes: usize,
    /// Memory of all links, in bytes: of what comes in on them and waits to be sent.
    pub link_memory: usize,
    /// Bytes of delivered datagrams kept until they are fetched; the oldest go.
    pub inbox_bytes: usize,
    /// Past events kept of each topic, for clients that subscribe.
    pub events: usize,
    /// Memory of the store's cache, in bytes.
    pub store_cache_bytes: usize,
    /// Memory for what waits between streams of flows and their applications, in bytes.
    pub pipe_memory: u64,
    /// Longest handshake of a new link.
    pub handshake_timeout: Duration,
    /// First pause before a lost peer is dialled again; doubled each time.
    pub reconnect_min: Duration,
    /// Longest pause before a lost peer is dialled again.
    pub reconnect_max: Duration,
    /// Whether probes of others (`ping`, `trace`) are answered.
    pub answer_probes: bool,
    /// Whether anyone may measure the way to this node (`bench`).
    pub bench_sink: bool,
    /// Threads that the tasks run on.
    pub threads: usize,
}

impl Default for Shell {
    fn default() -> Self {
        Self {
            queue_bytes: 8 * 1024 * 1024,
            link_memory: 48 * 1024 * 1024,
            inbox_bytes: 16 * 1024 * 1024,
            events: 1_000,
            store_cache_bytes: 256 * 1024,
            pipe_memory: crate::flows::memory::DEFAULT,
            handshake_timeout: Duration::from_secs(5),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(30),
            answer_probes: true,
            bench_sink: false,
            threads: 1,
        }
    }
}

/// What keys are put into.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) config: Config,
    pub(super) shell: Shell,
    pub(super) enabled: bool,
    pub(super) listen: Listen,
    pub(super) log: String,
    pub(super) chain_timeout: Duration,
    pub(super) spending: Limits,
    pub(super) lightning: Timeouts,
    pub(super) max_msat: u64,
    pub(super) inbox: bool,
    pub(super) metrics_anywhere: bool,
    pub(super) export_step: Duration,
    pub(super) bridged: usize,
    pub(super) narrow_rate: u64,
    pub(super) narrow_blocks: bool,
    pub(super) lan: LanSettings,
}

impl Places {
    /// What is where no key is given.
    pub(super) fn usual(network: Network) -> Self {
        let tcp = Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)));
        Self {
            config: Config::host(network),
            shell: Shell::default(),
            enabled: true,
            listen: Listen { tcp, ..Listen::default() },
            log: "info".into(),
            chain_timeout: Duration::from_secs(5),
            spending: Limits::default(),
            lightning: Timeouts::default(),
            max_msat: MAX_MSAT,
            inbox: true,
            metrics_anywhere: false,
            export_step: Duration::from_secs(10),
            bridged: 16,
            narrow_rate: 32 * 1024,
            narrow_blocks: true,
            lan: LanSettings::default(),
        }
    }
}

pub(super) fn settings(
    file: File,
    data_dir: Result<PathBuf, ConfigError>,
    home: Option<&Path>,
) -> Result<Settings, ConfigError> {
    let network = file.mesh.network.as_ref().map_or(Network::Mainnet, |n| n.0);
    let mut places = Places::usual(network);
    file.place(&mut places)?;
    config(&file, &mut places.config)?;
    // Whoever is on a LAN is found: the operator looks at the keys before they are paid.
    if places.lan.enabled && file.payment.strangers_relay_paid.is_none() {
        places.config.strangers_relay_paid = false;
    }
    let Places {
        mut config,
        shell,
        enabled,
        listen,
        log,
        chain_timeout,
        spending,
        lightning,
        max_msat,
        inbox,
        metrics_anywhere,
        export_step,
        bridged,
        narrow_rate,
        narrow_blocks,
        mut lan,
    } = places;
    let announced = file.bitcoin.announce_to.unwrap_or_default().into_iter();
    let mut bridge = BridgeSettings {
        node: file.bitcoin.node.map(|port| port.0),
        listen: file.bitcoin.listen.unwrap_or_default().into_iter().map(|port| port.0).collect(),
        gateways: file.bitcoin.gateways.unwrap_or_default().into_iter().map(|g| g.0).collect(),
        connections: bridged,
        narrow_rate,
        narrow_blocks,
        headers: None,
        announce_to: announced.map(|node| node.0).collect(),
    };
    bridge.headers = headers(file.bitcoin.headers, file.bitcoin.checkpoint, &bridge, network)?;
    if bridge.node.is_some() {
        config.group = Some(crate::bridge::group(network));
    }
    let services = ServiceSettings {
        exposed: file.flow.expose.unwrap_or_default().into_iter().map(|e| e.0).collect(),
        forwards: file.flow.forward.unwrap_or_default().into_iter().map(|f| f.0).collect(),
        max_msat,
        inbox,
    };
    check_services(&services)?;
    check_log(&log).map_err(|reason| value("log", reason))?;
    let expand = |path: PathBuf| match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    };
    let data_dir = match file.data_dir {
        Some(dir) => expand(dir),
        None => data_dir?,
    };
    let peers: Vec<_> =
        file.mesh.peers.unwrap_or_default().into_iter().map(|peer| peer.0).collect();
    check_peers(&peers, &listen)?;
    lan.interfaces = file.lan.interfaces.unwrap_or_default().into_iter().map(|i| i.0).collect();
    if lan.enabled && !lan.beacon && !lan.listen {
        return Err(value("lan.enabled", "finds nobody without lan.beacon and lan.listen"));
    }
    if file.issuer_key.is_some() && network != Network::Regtest {
        let reason = format!("this node issues invoices on regtest only, not on {network}");
        return Err(value("issuer_key", reason));
    }
    if file.issuer_key.is_some() && file.lightning.backend.is_some() {
        let reason =
            "and lightning.backend exclude each other: the one is for trials without the other";
        return Err(value("issuer_key", reason));
    }
    // `join` leaves an absolute path as it is.
    let inside = |path: PathBuf| data_dir.join(expand(path));
    let verify_timeout = Duration::from_micros(config.timing.verify_timeout);
    super::radios::suit(&listen.radios, &file.timing, &mut config.timing);
    let radios = super::radios::settings(listen.radios, file.mesh.radio_key_file, &inside)?;
    let metrics = super::metrics::listen(file.metrics, metrics_anywhere)?;
    let export = super::ledger::export(file.ledger, export_step, &inside)?;
    let chain = chain(file.chain, chain_timeout, &inside, verify_timeout)?;
    let lightning = super::lightning::settings(file.lightning, lightning, &inside)?;
    check_shell(&shell, config.max_packet as usize)?;
    Ok(Settings {
        config,
        enabled,
        listen_addr: listen.tcp,
        listen_lines: listen.lines,
        radios,
        peers,
        lan,
        banned: BTreeMap::new(),
        metrics,
        export,
        page: super::page::settings(file.page, &inside)?,
        rpc_socket: inside(file.rpc_socket.unwrap_or_else(|| "rpc.sock".into())),
        log,
        issuer_key: file.issuer_key.map(inside),
        cashier_for: file.flow.cashier_for.unwrap_or_default().into_iter().map(inside).collect(),
        chain,
        data_dir,
        config_file: None,
        services,
        bridge,
        lightning,
        spending,
        shell,
    })
}

/// The block from which headers are followed; by default where the node has to do with Bitcoin.
fn headers(
    wanted: Option<bool>,
    checkpoint: Option<String>,
    bridge: &BridgeSettings,
    network: Network,
) -> Result<Option<Root>, ConfigError> {
    let root = match &checkpoint {
        Some(text) => {
            Root::parse(text, network).map_err(|e| value("bitcoin.checkpoint", e.to_string()))?
        }
        None => Root::of(network),
    };
    let BridgeSettings { node, listen, gateways, announce_to, .. } = bridge;
    let needed = checkpoint.is_some() || !announce_to.is_empty();
    if wanted == Some(false) && needed {
        let reason = "cannot be false with bitcoin.checkpoint or bitcoin.announce_to";
        return Err(value("bitcoin.headers", reason));
    }
    let usual = needed || node.is_some() || !listen.is_empty() || !gateways.is_empty();
    Ok(wanted.unwrap_or(usual).then_some(root))
}

/// What does not go together around the state machine.
fn check_shell(shell: &Shell, max_packet: usize) -> Result<(), ConfigError> {
    let rooms =
        [("limits.queue_bytes", shell.queue_bytes), ("limits.inbox_bytes", shell.inbox_bytes)];
    for (key, room) in rooms {
        if room < max_packet {
            let reason =
                format!("{room} bytes are less than limits.max_packet ({max_packet} bytes)");
            return Err(value(key, reason));
        }
    }
    // A link alone may have half of it, and must take a largest packet in.
    if shell.link_memory / 4 < max_packet {
        let (have, least) = (shell.link_memory, max_packet.saturating_mul(4));
        let reason = format!("{have} is less than 4 times limits.max_packet ({least})");
        return Err(value("limits.link_memory_bytes", reason));
    }
    if shell.reconnect_min > shell.reconnect_max {
        return Err(value("timing.reconnect_min_ms", "must be at most timing.reconnect_max_ms"));
    }
    Ok(())
}

/// A log filter: a level, or TARGET=LEVEL, separated by commas. Read strictly: to the library
/// a level that does not exist is the name of a target, and everything else is silent.
fn check_log(filter: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let allowed = LEVELS.join(", ");
    for part in filter.split(',').map(str::trim) {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            return Err(format!(
                "\"{level}\" is not a log level; allowed are {allowed}, also as in \
                 warn,blvm_mesh=debug"
            ));
        }
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if let Some(target) = target.filter(|t| t.is_empty() || !t.chars().all(name)) {
            return Err(format!(
                "\"{target}\" is not the name of a module, as blvm_mesh and blvm_mesh_core are"
            ));
        }
    }
    Ok(())
}

/// A neighbour has one link, a line one neighbour, and a modem one radio.
fn check_peers(peers: &[PeerAddress], listen: &Listen) -> Result<(), ConfigError> {
    let mut lines: Vec<&SerialLine> = Vec::new();
    let Listen { lines: listen, radios, .. } = listen;
    let radios = radios.iter().map(|radio| ("mesh.listen_addr", &radio.line));
    let listen = listen.iter().map(|line| ("mesh.listen_addr", line)).chain(radios);
    let dialed = peers.iter().filter_map(|peer| match &peer.place {
        Place::Tcp(_) => None,
        Place::Line(line) => Some(("mesh.peers", line)),
    });
    for (key, line) in listen.chain(dialed) {
        if lines.iter().any(|other| other.is_same(line)) {
            let reason =
                format!("{line} is used twice: a serial line has one neighbour, or one modem");
            return Err(value(key, reason));
        }
        lines.push(line);
    }
    for (i, peer) in peers.iter().enumerate() {
        if peers.iter().skip(i + 1).any(|other| other.public_key == peer.public_key) {
            return Err(value("mesh.peers", format!("{} is listed twice", peer.public_key)));
        }
    }
    Ok(())
}

/// The node that looks blocks up. `inside` says where a path is.
fn chain(
    file: Chain,
    timeout: Duration,
    inside: &impl Fn(PathBuf) -> PathBuf,
    verify_timeout: Duration,
) -> Result<Option<ChainSettings>, ConfigError> {
    let Chain { rpc_url, cookie_file, rpc_user, rpc_password, timeout_ms } = file;
    let Some(rpc_url) = rpc_url.filter(|url| !url.is_empty()) else {
        let stray = [
            ("chain.cookie_file", cookie_file.is_some()),
            ("chain.rpc_user", rpc_user.is_some()),
            ("chain.rpc_password", rpc_password.is_some()),
            ("chain.timeout_ms", timeout_ms.is_some()),
        ];
        return match stray.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(value(key, "means nothing without chain.rpc_url")),
            None => Ok(None),
        };
    };
    let parsed = rpc_url.parse::<ureq::http::Uri>().ok();
    let authority = parsed.as_ref().and_then(|uri| uri.authority());
    if authority.is_some_and(|a| a.as_str().contains('@')) {
        let reason = "is to be without credentials; they belong in chain.cookie_file, or \
                      chain.rpc_user and chain.rpc_password";
        return Err(value("chain.rpc_url", reason));
    }
    let plain = parsed.as_ref().and_then(|uri| uri.scheme_str()) == Some("http");
    if !plain || authority.is_none_or(|a| a.port().is_none()) {
        let reason = format!("\"{rpc_url}\" is not http://HOST:PORT, as in http://127.0.0.1:8332");
        return Err(value("chain.rpc_url", reason));
    }
    let auth = match (cookie_file, rpc_user, rpc_password) {
        (None, None, None) => Auth::None,
        (Some(path), None, None) => Auth::Cookie(inside(path)),
        (None, Some(name), Some(password)) if !name.contains(':') => Auth::User { name, password },
        (None, Some(_), Some(_)) => {
            return Err(value("chain.rpc_user", "cannot have a colon in it (RFC 7617)"));
        }
        (None, Some(_), None) => {
            let reason = "needs chain.rpc_password; set BLVM_MESH_CHAIN_RPC_PASSWORD";
            return Err(value("chain.rpc_user", reason));
        }
        (None, None, Some(_)) => return Err(value("chain.rpc_password", "needs chain.rpc_user")),
        (Some(_), ..) => {
            let reason = "and chain.rpc_user exclude each other: give only one of them";
            return Err(value("chain.cookie_file", reason));
        }
    };
    if timeout >= verify_timeout {
        let millis = verify_timeout.as_millis();
        let reason = format!(
            "must be less than timing.verify_timeout_ms ({millis} ms): what waits \
                     longer is refused anyway"
        );
        return Err(value("chain.timeout_ms", reason));
    }
    Ok(Some(ChainSettings { rpc_url, auth, timeout }))
}

/// What of the state machine's settings is more than a value for a place.
fn config(file: &File, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(challenge) = &file.mesh.signet_challenge {
        if config.network != Network::Signet {
            return Err(value("mesh.signet_challenge", "needs mesh.network = \"signet\""));
        }
        config.magic = challenge.0;
    }
    if let Some(max_peers) = file.mesh.max_peers {
        if file.limits.neighbours.is_some() {
            let reason = "is the host node's name for limits.neighbours: give only one of them";
            return Err(value("mesh.max_peers", reason));
        }
        config.capacities.neighbours = max_peers as usize;
    }
    if !config.capacities.seen.is_power_of_two() {
        return Err(value("limits.seen", "must be a power of two"));
    }
    // One packet always finds room, so less would be exceeded by the first.
    let least = (config.max_packet as usize).saturating_mul(2);
    if config.capacities.parked_bytes < least {
        let reason = format!(
            "must be at least {least} bytes, twice limits.max_packet: half of it is for this \
             node's own packets, half for those of its neighbours"
        );
        return Err(value("limits.parked_bytes", reason));
    }
    for Owing((key, bytes)) in file.flow.credit.iter().flatten() {
        if config.credit.insert(NodeId::from_public_key(key), *bytes).is_some() {
            return Err(value("flow.credit", format!("{key} is listed twice")));
        }
    }
    payment(file, config)
}

fn payment(file: &File, config: &mut Config) -> Result<(), ConfigError> {
    let given = &file.payment;
    let network = config.network;
    let rules = &mut config.payment;
    for issuer in file.mesh.issuers.iter().flatten() {
        let key: PublicKey = issuer.0;
        if rules.issuers.contains(&key) {
            return Err(value("mesh.issuers", format!("{key} is listed twice")));
        }
        let full = |_| value("mesh.issuers", format!("at most {MAX_ISSUERS} are accepted"));
        rules.issuers.push(key).map_err(full)?;
    }
    if rules.covenants_active && !matches!(network, Network::Signet | Network::Regtest) {
        let reason = format!(
            "OP_CHECKTEMPLATEVERIFY is not enforced on {network}, so anybody could take a \
             covenant's money back; it can be true on signet and regtest only"
        );
        return Err(value("payment.covenants_active", reason));
    }
    let script = match (&given.payout_script, &given.payout_address) {
        (Some(_), Some(_)) => {
            let reason = "is the same as payment.payout_script: give only one of them";
            return Err(value("payment.payout_address", reason));
        }
        (Some(hex), None) => {
            let wrong = |e| value("payment.payout_script", format!("\"{hex}\" is not hex: {e}"));
            hex::decode(hex).map_err(wrong)?
        }
        (None, Some(address)) => {
            address_script(address, network).map_err(|e| value("payment.payout_address", e))?
        }
        (None, None) => Vec::new(),
    };
    let long = |()| value("payment.payout_script", format!("has more than {MAX_SCRIPT} bytes"));
    rules.payout_script.extend_from_slice(&script).map_err(|_| long(()))?;
    Ok(())
}

/// The network in the terms of the bitcoin crate.
pub fn bitcoin_network(network: Network) -> bitcoin::Network {
    match network {
        Network::Mainnet => bitcoin::Network::Bitcoin,
        Network::Testnet3 => bitcoin::Network::Testnet,
        Network::Testnet4 => bitcoin::Network::Testnet4,
        Network::Signet => bitcoin::Network::Signet,
        Network::Regtest => bitcoin::Network::Regtest,
    }
}

/// A locking script, written in hex or as an address.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn script_of(text: &str, network: Network) -> Result<Vec<u8>, String> {
    match hex::decode(text) {
        Ok(script) if !script.is_empty() => Ok(script),
        _ => address_script(text, network),
    }
}

fn address_script(text: &str, network: Network) -> Result<Vec<u8>, String> {
    let wrong = |what: &str| format!("\"{text}\" is not {what}");
    let address = text.parse::<bitcoin::Address<_>>().map_err(|_| wrong("a Bitcoin address"))?;
    let other = |_| wrong(&format!("an address of network {network}"));
    let address = address.require_network(bitcoin_network(network)).map_err(other)?;
    Ok(address.script_pubkey().into_bytes())
}

pub(super) fn value(key: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, reason: reason.into() }
}

/// No name is exposed twice, and no port is forwarded twice.
fn check_services(services: &ServiceSettings) -> Result<(), ConfigError> {
    for (at, exposed) in services.exposed.iter().enumerate() {
        if services.exposed.iter().take(at).any(|other| other.name == exposed.name) {
            return Err(value("flow.expose", format!("\"{}\" is there twice", exposed.name)));
        }
    }
    for (at, forward) in services.forwards.iter().enumerate() {
        let same = |other: &ForwardSpec| other.local == forward.local && other.local.port() != 0;
        if services.forwards.iter().take(at).any(same) {
            return Err(value("flow.forward", format!("{} is there twice", forward.local)));
        }
    }
    Ok(())
}
