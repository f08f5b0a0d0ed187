//! A Lightning node for blvm-mesh, for whoever runs none: LDK behind a Unix socket.
//!
//! ```text
//! main.rs      starts the node, and ends it
//! settings.rs  flags and TOML
//! home.rs      the data directory, its lock, the seed
//! server.rs    JSON-RPC over the socket
//! service.rs   what is asked for
//! payments.rs  pays once, over any crash
//! records.rs   what is remembered of payments and invoices
//! ```

mod home;
mod payments;
mod records;
mod server;
mod service;
mod settings;

use clap::Parser;
use home::Home;
use ldk_node::config::Config;
use ldk_node::io::sqlite_store::{KV_TABLE_NAME, SQLITE_DB_FILE_NAME, SqliteStore};
use ldk_node::logger::{LogLevel, LogRecord, LogWriter};
use ldk_node::{Builder, DynStore, Event, Node};
use payments::Payments;
use records::{Records, hex};
use rustix::fs::Mode;
use service::Service;
use settings::{Chain, Flags, Settings};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// How often expired invoices are forgotten.
const SWEEP: Duration = Duration::from_secs(600);
/// Pause before an event is tried again that could not be noted.
const AGAIN: Duration = Duration::from_secs(1);

/// LDK's log, on standard error.
struct Log(LogLevel);

impl LogWriter for Log {
    fn log(&self, record: LogRecord<'_>) {
        if record.level >= self.0 {
            eprintln!("{} {}: {}", record.level, record.module_path, record.args);
        }
    }
}

fn main() -> ExitCode {
    // Nothing that is made here is for others to read.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    match Flags::parse().settings().and_then(|settings| run(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<(), String> {
    let home = Home::open(&settings.data_dir)?;
    let seed = home.seed(SQLITE_DB_FILE_NAME)?;
    let database = |e: std::io::Error| format!("the database in {}: {e}", home.dir.display());
    let names = (Some(SQLITE_DB_FILE_NAME.to_owned()), Some(KV_TABLE_NAME.to_owned()));
    let store: Arc<DynStore> = Arc::new(
        SqliteStore::new(home.dir.clone(), names.0, names.1).map_err(|e| database(e.into()))?,
    );
    let records = Arc::new(Records::new(store.clone()));
    let never_sent = records.end_those_never_sent().map_err(database)?;
    if never_sent > 0 {
        eprintln!("{never_sent} payments had been begun and not sent; they have failed");
    }

    let node = Arc::new(build(settings, &home, seed.clone(), store)?);
    node.start().map_err(|e| {
        format!("{e} Is {:?} there, of {}?", settings.chain, settings::name(settings.network))
    })?;
    let payments =
        Payments { node: node.clone(), network: settings.network, records: records.clone() };
    let service = Arc::new(Service {
        node: node.clone(),
        network: settings.network,
        records: records.clone(),
        payments,
        seed: seed.to_string(),
    });
    let listener = server::listen(&settings.socket)
        .map_err(|e| format!("cannot open the socket {}: {e}", settings.socket.display()))?;

    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().name(name.into());
        thread.spawn(work).map_err(|e| format!("no thread: {e}"))
    };
    spawn(
        "events",
        Box::new({
            let service = service.clone();
            move || handle_events(&service)
        }),
    )?;
    spawn(
        "sweep",
        Box::new({
            let service = service.clone();
            move || loop {
                if let Err(refusal) = service.forget_expired() {
                    eprintln!("expired invoices: {}", refusal.message);
                }
                std::thread::sleep(SWEEP);
            }
        }),
    )?;
    let (stop, stopped) = sync_channel(1);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|e| format!("signals: {e}"))?;
    spawn(
        "signals",
        Box::new({
            let stop = stop.clone();
            move || {
                for _ in signals.forever() {
                    let _ = stop.try_send(());
                }
            }
        }),
    )?;
    spawn("rpc", Box::new(move || server::serve(&listener, &(service as _), &stop)))?;

    let ready = serde_json::json!({
        "node": node.node_id().to_string(), "network": settings::name(settings.network),
        "socket": settings.socket,
    });
    println!("{ready}");
    // It holds a sender for as long as it serves.
    let _ = stopped.recv();
    let _ = std::fs::remove_file(&settings.socket);
    node.stop().map_err(|e| e.to_string())
}

fn build(
    settings: &Settings,
    home: &Home,
    seed: ldk_node::bip39::Mnemonic,
    store: Arc<DynStore>,
) -> Result<Node, String> {
    let mut builder = Builder::from_config(Config {
        storage_dir_path: home.dir.display().to_string(),
        network: settings.network,
        ..Default::default()
    });
    builder.set_entropy_bip39_mnemonic(seed, None);
    builder.set_custom_logger(Arc::new(Log(level(&settings.log))));
    builder.set_gossip_source_p2p();
    match settings.chain.clone() {
        Chain::Bitcoind { host, port, user, password } => {
            builder.set_chain_source_bitcoind_rpc(host, port, user, password);
        }
        Chain::Esplora(url) => {
            builder.set_chain_source_esplora(url, None);
        }
    }
    if let Some(address) = settings.listen.clone() {
        builder.set_listening_addresses(vec![address]).map_err(|e| e.to_string())?;
    }
    if let Some(alias) = settings.alias.clone() {
        builder.set_node_alias(alias).map_err(|e| e.to_string())?;
    }
    builder.build_with_store(store).map_err(|e| format!("{}: {e}", home.dir.display()))
}

/// Notes each event before it counts as handled; LDK gives it again until then.
fn handle_events(service: &Service) {
    loop {
        let event = service.node.wait_next_event();
        if let Err(error) = service.payments.note(&event) {
            eprintln!("an event cannot be noted, and is tried again: {error}");
            std::thread::sleep(AGAIN);
            continue;
        }
        match &event {
            Event::ChannelPending { counterparty_node_id: node, funding_txo, .. } => {
                eprintln!("a channel with {node} waits for its confirmations: {funding_txo}");
            }
            Event::ChannelReady { counterparty_node_id: Some(node), .. } => {
                eprintln!("a channel with {node} can be used");
            }
            Event::ChannelClosed { channel_id, reason, .. } => {
                let reason = reason.as_ref().map(ToString::to_string).unwrap_or_default();
                eprintln!("channel {} is closed: {reason}", hex(&channel_id.0));
            }
            _ => {}
        }
        if service.node.event_handled().is_err() {
            std::thread::sleep(AGAIN);
        }
    }
}

fn level(name: &str) -> LogLevel {
    match name {
        "error" => LogLevel::Error,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => LogLevel::Warn,
    }
}
