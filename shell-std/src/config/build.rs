//! From the keys as written to checked settings.

use super::file::File;
use super::{ConfigError, Settings};
use crate::address::{PeerAddress, Place, SerialLine};
use crate::chain::{Auth, ChainSettings};
use blvm_mesh_core::config::{Capacities, Config, MAX_HOPS, MAX_ISSUERS, MAX_SCRIPT};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::time::MILLISECOND;
use secp256k1::PublicKey;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// TCP port where none is configured.
const DEFAULT_PORT: u16 = 8338;

/// Smallest limit of packets: hellos and route replies must fit.
const MIN_MAX_PACKET: u32 = 2048;

/// A configuration file to begin with.
pub const EXAMPLE: &str = r#"# Configuration of blvm-mesh. Every key may be left out.
log = "info"

[mesh]
enabled = true
mode = "payment_gated"          # bitcoin_only, payment_gated or open
listen_addr = "0.0.0.0:8338"    # with a serial line: ["0.0.0.0:8338", "serial:///dev/ttyUSB0?baud=115200"]
network = "mainnet"
peers = []                      # "PUBKEY@HOST:PORT", "PUBKEY@serial:///dev/ttyUSB1?baud=115200", ...
issuers = []                    # public keys whose Lightning invoices are accepted

[tariff]
base_msat = 1000
per_kib_msat = 100

[limits]
free_rate = 12500000            # bytes per second and neighbour
#min_difficulty = 1000000        # of headers and blocks that may use all of it
#parked_bytes = 67108864         # of packets that wait for an answer; half for this node's own

[timing]
keepalive_ms = 250

# To take covenants (BIP 119), on signet and regtest. Blocks are looked up by a Bitcoin node,
# or their headers are given with `blvm-mesh headers`. A password belongs in the environment
# (BLVM_MESH_CHAIN_RPC_PASSWORD), not here.
#[payment]
#covenants_active = true
#payout_address = "tb1q..."     # where covenants must pay this node to
#min_confirmations = 6
#
#[chain]
#rpc_url = "http://127.0.0.1:38332"
#cookie_file = "~/.bitcoin/signet/.cookie"
"#;

/// Limits and times of the node around the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// Bytes queued for one neighbour before its link counts as full.
    pub queue_bytes: usize,
    /// Memory of all links, in bytes: of what comes in on them and waits to be sent.
    pub link_memory: usize,
    /// Bytes of delivered datagrams kept until they are fetched; the oldest go.
    pub inbox_bytes: usize,
    /// Memory of the store's cache, in bytes.
    pub store_cache_bytes: usize,
    /// Longest handshake of a new link.
    pub handshake_timeout: Duration,
    /// First pause before a lost peer is dialled again; doubled each time.
    pub reconnect_min: Duration,
    /// Longest pause before a lost peer is dialled again.
    pub reconnect_max: Duration,
    /// Whether anyone may measure the way to this node (`bench`).
    pub bench_sink: bool,
    /// Threads that the tasks run on.
    pub threads: usize,
}

pub(super) fn settings(
    file: File,
    data_dir: Result<PathBuf, ConfigError>,
    home: Option<&Path>,
) -> Result<Settings, ConfigError> {
    let config = config(&file)?;
    let log = file.log.unwrap_or_else(|| "info".into());
    check_log(&log).map_err(|reason| value("log", reason))?;
    let expand = |path: PathBuf| match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    };
    let data_dir = match file.data_dir {
        Some(dir) => expand(dir),
        None => data_dir?,
    };
    let (listen_addr, listen_lines) = match file.mesh.listen_addr {
        Some(listen) => (listen.tcp, listen.lines),
        None => (Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))), Vec::new()),
    };
    let peers: Vec<_> =
        file.mesh.peers.unwrap_or_default().into_iter().map(|peer| peer.0).collect();
    check_peers(&peers, &listen_lines)?;
    if file.issuer_key.is_some() && config.network != Network::Regtest {
        let reason =
            format!("this node issues invoices on regtest only, not on {}", config.network);
        return Err(value("issuer_key", reason));
    }
    // `join` leaves an absolute path as it is.
    let inside = |path: PathBuf| data_dir.join(expand(path));
    let verify_timeout = Duration::from_micros(config.timing.verify_timeout);
    let chain = chain(file.chain, &inside, verify_timeout)?;
    let (limits, timing) = (&file.limits, &file.timing);
    let millis =
        |ms: Option<u32>, default: u64| Duration::from_millis(ms.map_or(default, u64::from));
    let shell = Shell {
        queue_bytes: limits.queue_bytes.unwrap_or(8 * 1024 * 1024) as usize,
        link_memory: limits.link_memory_bytes.unwrap_or(48 * 1024 * 1024) as usize,
        inbox_bytes: limits.inbox_bytes.unwrap_or(16 * 1024 * 1024) as usize,
        store_cache_bytes: limits.store_cache_bytes.unwrap_or(256 * 1024) as usize,
        handshake_timeout: millis(timing.handshake_timeout_ms, 5_000),
        reconnect_min: millis(timing.reconnect_min_ms, 100),
        reconnect_max: millis(timing.reconnect_max_ms, 30_000),
        bench_sink: file.bench.sink.unwrap_or(false),
        threads: limits.threads.unwrap_or(1) as usize,
    };
    if !(1..=64).contains(&shell.threads) {
        return Err(value("limits.threads", "must be from 1 to 64"));
    }
    let max_packet = config.max_packet as usize;
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
    if shell.reconnect_min.is_zero() || shell.reconnect_min > shell.reconnect_max {
        let reason = "must be from 1 ms to timing.reconnect_max_ms";
        return Err(value("timing.reconnect_min_ms", reason));
    }
    if shell.handshake_timeout.is_zero() {
        return Err(value("timing.handshake_timeout_ms", "must be at least 1 ms"));
    }
    Ok(Settings {
        config,
        enabled: file.mesh.enabled.unwrap_or(true),
        listen_addr,
        listen_lines,
        peers,
        rpc_socket: inside(file.rpc_socket.unwrap_or_else(|| "rpc.sock".into())),
        log,
        issuer_key: file.issuer_key.map(inside),
        chain,
        data_dir,
        config_file: None,
        shell,
    })
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

/// A neighbour has one link, and a line one neighbour.
fn check_peers(peers: &[PeerAddress], listen: &[SerialLine]) -> Result<(), ConfigError> {
    let mut lines: Vec<&SerialLine> = Vec::new();
    let listen = listen.iter().map(|line| ("mesh.listen_addr", line));
    let dialed = peers.iter().filter_map(|peer| match &peer.place {
        Place::Tcp(_) => None,
        Place::Line(line) => Some(("mesh.peers", line)),
    });
    for (key, line) in listen.chain(dialed) {
        if lines.iter().any(|other| other.is_same(line)) {
            let reason = format!("{line} is used twice, and a serial line has one neighbour");
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
    file: super::file::Chain,
    inside: &impl Fn(PathBuf) -> PathBuf,
    verify_timeout: Duration,
) -> Result<Option<ChainSettings>, ConfigError> {
    let super::file::Chain { rpc_url, cookie_file, rpc_user, rpc_password, timeout_ms } = file;
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
    let timeout = Duration::from_millis(timeout_ms.map_or(5_000, u64::from));
    if timeout.is_zero() || timeout >= verify_timeout {
        let millis = verify_timeout.as_millis();
        let reason = format!(
            "must be at least 1 ms and less than timing.verify_timeout_ms ({millis} ms): what waits \
                     longer is refused anyway"
        );
        return Err(value("chain.timeout_ms", reason));
    }
    Ok(Some(ChainSettings { rpc_url, auth, timeout }))
}

fn config(file: &File) -> Result<Config, ConfigError> {
    let network = file.mesh.network.as_ref().map_or(Network::Mainnet, |n| n.0);
    let mut config = Config::host(network);
    let (mesh, limits, timing, tariff) = (&file.mesh, &file.limits, &file.timing, &file.tariff);
    if let Some(mode) = &mesh.mode {
        config.mode = mode.0;
    }
    if let Some(challenge) = &mesh.signet_challenge {
        if network != Network::Signet {
            return Err(value("mesh.signet_challenge", "needs mesh.network = \"signet\""));
        }
        config.magic = challenge.0;
    }
    set(&mut config.private_stratum_tlv, mesh.private_stratum_tlv);
    set(&mut config.max_packet, limits.max_packet);
    set(&mut config.free_rate, limits.free_rate);
    set(&mut config.free_burst, limits.free_burst);
    set(&mut config.min_difficulty, limits.min_difficulty);
    set(&mut config.plain.rate, limits.plain_rate);
    set(&mut config.plain.burst, limits.plain_burst);
    set(&mut config.rare.rate, limits.rare_rate);
    set(&mut config.rare.burst, limits.rare_burst);
    set(&mut config.bad_payments.rate, limits.bad_payments_rate.map(u64::from));
    set(&mut config.bad_payments.burst, limits.bad_payments_burst.map(u64::from));
    let bad_payments = [
        ("limits.bad_payments_rate", config.bad_payments.rate),
        ("limits.bad_payments_burst", config.bad_payments.burst),
    ];
    if let Some((key, _)) = bad_payments.iter().find(|(_, allowed)| *allowed == 0) {
        let reason = "must be at least 1: with 0 no payment would be accepted, or none after \
                      the first bad ones";
        return Err(value(key, reason));
    }
    set(&mut config.payment.tariff.base_msat, tariff.base_msat);
    set(&mut config.payment.tariff.per_kib_msat, tariff.per_kib_msat);
    if config.max_packet < MIN_MAX_PACKET {
        return Err(value("limits.max_packet", format!("must be at least {MIN_MAX_PACKET} bytes")));
    }

    let span = |ms: Option<u32>| ms.map(|ms| u64::from(ms) * MILLISECOND);
    set(&mut config.timing.keepalive, span(timing.keepalive_ms));
    set(&mut config.timing.hop_round_trip, span(timing.hop_round_trip_ms));
    set(&mut config.timing.first_ring, timing.first_ring);
    set(&mut config.timing.route_lifetime, span(timing.route_lifetime_ms));
    set(&mut config.timing.verify_timeout, span(timing.verify_timeout_ms));
    let not_zero = [
        ("timing.hop_round_trip_ms", config.timing.hop_round_trip),
        ("timing.route_lifetime_ms", config.timing.route_lifetime),
        ("timing.verify_timeout_ms", config.timing.verify_timeout),
    ];
    if let Some((key, _)) = not_zero.iter().find(|(_, span)| *span == 0) {
        return Err(value(key, "must be at least 1 ms"));
    }
    if !(1..=MAX_HOPS + 1).contains(&usize::from(config.timing.first_ring)) {
        return Err(value("timing.first_ring", format!("must be from 1 to {}", MAX_HOPS + 1)));
    }

    config.capacities = capacities(file)?;
    // One packet always finds room, so less would be exceeded by the first.
    let least = (config.max_packet as usize).saturating_mul(2);
    if config.capacities.parked_bytes < least {
        let reason = format!(
            "must be at least {least} bytes, twice limits.max_packet: half of it is for this \
             node's own packets, half for those of its neighbours"
        );
        return Err(value("limits.parked_bytes", reason));
    }
    payment(file, &mut config)?;
    Ok(config)
}

fn capacities(file: &File) -> Result<Capacities, ConfigError> {
    let mut c = Capacities::HOST;
    let (limits, max_peers) = (&file.limits, file.mesh.max_peers);
    if limits.neighbours.is_some() && max_peers.is_some() {
        let reason = "is the host node's name for limits.neighbours: give only one of them";
        return Err(value("mesh.max_peers", reason));
    }
    // Name, place, given, and a bound that keeps a slip of the pen from taking
    // all memory.
    let tables = [
        ("limits.neighbours", &mut c.neighbours, limits.neighbours.or(max_peers), 65_536),
        ("limits.per_prefix", &mut c.per_prefix, limits.per_prefix, 65_536),
        ("limits.owners", &mut c.owners, limits.owners, 65_536),
        ("limits.routes", &mut c.routes, limits.routes, 1_000_000),
        ("limits.hearsay", &mut c.hearsay, limits.hearsay, 1_000_000),
        ("limits.relayed_requests", &mut c.relayed_requests, limits.relayed_requests, 1_000_000),
        ("limits.searches", &mut c.searches, limits.searches, 65_536),
        ("limits.payments", &mut c.payments, limits.payments, 100_000_000),
        ("limits.parked", &mut c.parked, limits.parked, 65_536),
        ("limits.parked_bytes", &mut c.parked_bytes, limits.parked_bytes, u32::MAX),
        ("limits.seen", &mut c.seen, limits.seen, 16_777_216),
    ];
    for (key, place, given, most) in tables {
        let Some(given) = given else { continue };
        if !(1..=most).contains(&given) {
            return Err(value(key, format!("must be from 1 to {most}")));
        }
        *place = given as usize;
    }
    if !c.seen.is_power_of_two() {
        return Err(value("limits.seen", "must be a power of two"));
    }
    Ok(c)
}

fn payment(file: &File, config: &mut Config) -> Result<(), ConfigError> {
    let given = &file.payment;
    let network = config.network;
    let rules = &mut config.payment;
    set(&mut rules.max_lifetime, given.max_lifetime_s.map(u64::from));
    set(&mut rules.future_skew, given.future_skew_s.map(u64::from));
    set(&mut rules.covenants_active, given.covenants_active);
    set(&mut rules.min_confirmations, given.min_confirmations);
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
    if rules.min_confirmations == 0 {
        return Err(value("payment.min_confirmations", "must be at least 1"));
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

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

fn value(key: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, reason: reason.into() }
}
