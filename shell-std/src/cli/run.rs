//! `run`: the daemon.

use super::global::{Global, given};
use super::notify::Notify;
use super::{Answer, Failure, lightning};
use crate::chain::{Auth, ChainSettings};
use crate::clients;
use crate::config::{KEYS, Override, ServiceSettings, Settings, Sources, Written, example};
use crate::descriptors;
use crate::export::Exporter;
use crate::flows::Exposed;
use crate::identity::{self, Identity, KEY_FILE};
use crate::issuer::Issuer;
use crate::kept::{Keep, Kept};
use crate::lightning::{Lightning, Till};
use crate::log::{self, Log};
use crate::metrics::Numbers;
use crate::node::{Issue, Node, NodeHandle, Operator, Reread, Service, runtime};
use crate::page;
use crate::private_file;
use crate::rpc::server::Server;
use crate::store::{STORE_FILE, Store};
use crate::wallet::{Limits, Payer, RegtestWallet, Spending, Wallet};
use async_signal::{Signal, Signals};
use blvm_mesh_core::id::Network;
use blvm_mesh_page::http::Listener;
use blvm_mesh_page::{Lines, Page};
use clap::Args;
use serde_json::{Value, json};
use smol::Executor;
use smol::stream::StreamExt;
use std::io::{self, Write};
use std::sync::Arc;

/// Run a node until SIGINT or SIGTERM.
///
/// Makes the data directory and the identity where there is none. Once it takes
/// connections it prints one line (with --json one object) on standard output; the log
/// goes to standard error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh run
  blvm-mesh run --network regtest --peer 02ab...@relay.example.org:8338 --issuer 03cd...
  BLVM_MESH_MODE=open blvm-mesh run --data-dir ./b --listen-addr 127.0.0.1:0
  blvm-mesh run --example-config > mesh.toml",
    after_long_help = keys_help())]
pub(super) struct Run {
    /// mainnet, testnet3, testnet4, signet or regtest.
    #[arg(long)]
    network: Option<String>,
    /// What goes free: bitcoin_only, payment_gated or open.
    #[arg(long)]
    mode: Option<String>,
    /// IP:PORT to listen on, "" for none; also a serial line, as in
    /// serial:///dev/ttyUSB0?baud=115200; may be given several times.
    #[arg(long, value_name = "ADDR")]
    listen_addr: Vec<String>,
    /// Node to keep a link to, as PUBKEY@HOST:PORT, with up to 8 addresses that are tried in turn
    /// (PUBKEY@HOST:PORT/HOST:PORT), or PUBKEY@serial:///dev/ttyUSB0?baud=115200; may be given
    /// several times.
    #[arg(long, value_name = "PEER")]
    peer: Vec<String>,
    /// Public key whose Lightning invoices are accepted; may be given several times.
    #[arg(long, value_name = "PUBKEY")]
    issuer: Vec<String>,
    /// Price of a payment, in msat.
    #[arg(long, value_name = "MSAT")]
    base_msat: Option<String>,
    /// Price of each started KiB, in msat.
    #[arg(long, value_name = "MSAT")]
    per_kib_msat: Option<String>,
    /// Log filter, as in info or blvm_mesh=debug.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Print a configuration file to begin with, and end.
    #[arg(long)]
    example_config: bool,
}

/// All settings, for `run --help`.
fn keys_help() -> String {
    let mut text = String::from(
        "\
Examples:
  blvm-mesh run
  blvm-mesh run --network regtest --peer 02ab...@relay.example.org:8338 --issuer 03cd...
  BLVM_MESH_MODE=open blvm-mesh run --data-dir ./b --listen-addr 127.0.0.1:0
  blvm-mesh run --example-config > mesh.toml

Settings, for the configuration file, --set KEY=VALUE and the environment; lists are
separated by commas in the latter two:
",
    );
    for key in KEYS {
        let others = |(network, value): (Option<Network>, String)| match network {
            Some(network) => format!("on {network} {value}"),
            None => value,
        };
        let defaults: Vec<_> = key.defaults().into_iter().map(others).collect();
        let default = match defaults.is_empty() {
            true => String::new(),
            false => format!(" [{}]", defaults.join("; ")),
        };
        let (name, meaning, variable) = (key.dotted(), key.meaning(), key.variable());
        text.push_str(&format!("  {name:28} {meaning}{default}\n  {:28} {variable}\n", ""));
    }
    text
}

impl Run {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        if self.example_config {
            let example = example();
            return Answer::yes(json!({"config": example}), example.clone());
        }
        let sources = global.sources(self.overrides())?;
        let (settings, written) = sources.read()?;
        if !settings.enabled {
            let text = "the node is switched off by mesh.enabled = false";
            return Answer::no(json!({"error": {"code": 1, "message": text}}), text);
        }
        let lines = Arc::<Lines>::default();
        let log = log_to_stderr(&settings, &lines)?;
        descriptors::raise();
        for warning in warnings(&settings) {
            tracing::warn!("{warning}");
        }
        let house = House::open(settings, Rereading { sources, log }, written, lines)?;
        let executor = Arc::new(Executor::new());
        let threads = house.settings.shell.threads;
        runtime::run(&executor, threads, house.live(executor.clone(), global.json))?;
        Ok(Answer::printed(true))
    }

    fn overrides(&self) -> Vec<Override> {
        let list = |items: &[String]| (!items.is_empty()).then(|| items.join(","));
        let (peers, issuers) = (list(&self.peer), list(&self.issuer));
        let listen = list(&self.listen_addr);
        let flags = [
            given("--network", "mesh.network", self.network.as_ref()),
            given("--mode", "mesh.mode", self.mode.as_ref()),
            given("--listen-addr", "mesh.listen_addr", listen.as_ref()),
            given("--peer", "mesh.peers", peers.as_ref()),
            given("--issuer", "mesh.issuers", issuers.as_ref()),
            given("--base-msat", "tariff.base_msat", self.base_msat.as_ref()),
            given("--per-kib-msat", "tariff.per_kib_msat", self.per_kib_msat.as_ref()),
            given("--log", "log", self.log.as_ref()),
        ];
        flags.into_iter().flatten().collect()
    }
}

fn log_to_stderr(settings: &Settings, page: &Arc<Lines>) -> Result<Log, Failure> {
    let (filter, page) = (&settings.log, settings.page.as_ref().map(|_| page.clone()));
    log::to_stderr(filter, page).map_err(|e| Failure(format!("log filter \"{filter}\": {e}")))
}

/// What is allowed, and hardly meant.
fn warnings(settings: &Settings) -> Vec<String> {
    let payment = &settings.config.payment;
    let mut found = Vec::new();
    if payment.covenants_active && payment.payout_script.is_empty() {
        found.push(
            "no covenant is accepted: payment.covenants_active is on, but where they must pay \
             this node is not configured (payment.payout_address or payment.payout_script)"
                .to_owned(),
        );
    }
    if !settings.takes_payments() {
        found.push(
            "no payment is accepted: mode payment_gated and no Lightning node (lightning.backend) or \
             other issuer (mesh.issuers, --issuer). \
             Only what goes free is relayed, and this node sends paid data only with --unchecked"
                .to_owned(),
        );
    }
    found
}

/// Whether others can read or change the node's files: warnings, or what the node does not
/// start with.
fn check_rights(settings: &Settings) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let dir = &settings.data_dir;
    let shown = dir.display();
    let mode = private_file::rights(dir).map_err(|e| Failure(e.to_string()))?;
    if mode & 0o022 != 0 {
        return Err(Failure(format!(
            "others can write to the data directory {shown} (mode {mode:03o}), and so replace \
             this node's key and its record of payments: `chmod 700 {shown}`"
        )));
    }
    if mode & 0o055 != 0 {
        found.push(format!(
            "others can look into the data directory {shown} (mode {mode:03o}): `chmod 700 {shown}`"
        ));
    }
    let password = matches!(settings.chain, Some(ChainSettings { auth: Auth::User { .. }, .. }));
    let config = settings.config_file.iter();
    let config = config.map(|path| (path, password.then_some("may hold chain.rpc_password")));
    let store = dir.join(STORE_FILE);
    for (path, secret) in config.chain([(&store, Some("tells who paid for what"))]) {
        let mode = match private_file::rights(path) {
            Ok(mode) => mode,
            Err(e) if e.is_not_found() => continue,
            Err(e) => return Err(Failure(e.to_string())),
        };
        let path = path.display();
        if mode & 0o022 != 0 {
            found.push(format!("others can change {path} (mode {mode:03o}): `chmod 600 {path}`"));
        } else if let Some(secret) = secret.filter(|_| mode & 0o044 != 0) {
            found.push(format!(
                "others can read {path} (mode {mode:03o}), which {secret}: `chmod 600 {path}`"
            ));
        }
    }
    Ok(found)
}

/// The configuration as it can be read again, and the log.
#[derive(Clone)]
struct Rereading {
    sources: Sources,
    log: Log,
}

impl Reread for Rereading {
    fn read(&self) -> Result<(Settings, Written), String> {
        let read = self.sources.read().map_err(|e| e.to_string())?;
        for warning in warnings(&read.0) {
            tracing::warn!("{warning}");
        }
        Ok(read)
    }

    fn set_log(&self, filter: &str) -> Result<(), String> {
        self.log.set(filter)
    }
}

/// What a node needs before it lives: all that can be wrong with its files shows here.
struct House {
    /// What is configured, and what was written of it.
    configured: (Settings, Written),
    /// The same with what is kept on top of it.
    settings: Settings,
    kept: Kept,
    rereading: Rereading,
    identity: Identity,
    store: Arc<Store>,
    issuer: Option<Arc<dyn Issue>>,
    payer: Option<Payer>,
    server: Server,
    metrics: Option<Listener>,
    /// The page, and what to open to see it.
    page: Option<(Page, String)>,
}

impl House {
    fn open(
        mut settings: Settings,
        rereading: Rereading,
        written: Written,
        lines: Arc<Lines>,
    ) -> Result<Self, Failure> {
        let clients = clients::load(&settings.cashier_for);
        settings.config.clients = clients.map_err(|e| Failure(e.to_string()))?;
        let dir = &settings.data_dir;
        private_file::create_dir(dir).map_err(|e| Failure(e.to_string()))?;
        for warning in check_rights(&settings)? {
            tracing::warn!("{warning}");
        }
        let identity = Identity::load_or_create(&dir.join(KEY_FILE))?;
        let (file, cache) = (dir.join(STORE_FILE), settings.shell.store_cache_bytes);
        let store = Store::open_of(&file, cache, &identity.node_id(), identity::is_unused(dir))?;
        identity::mark_used(dir)?;
        match settings.export {
            Some(_) => store.export_on()?,
            None => store.export_off()?,
        }
        let store = Arc::new(store);
        let lightning = lightning::join(&mut settings)?;
        let issuer = match (&lightning, &settings.issuer_key) {
            (Some(node), _) => {
                Some(Arc::new(Till::new(node.clone(), store.clone())) as Arc<dyn Issue>)
            }
            (None, Some(path)) => Some(Arc::new(Issuer::load_or_create(path)?) as Arc<dyn Issue>),
            (None, None) => None,
        };
        let payer = payer(settings.config.network, settings.spending, lightning, &store)?;
        let server = Server::bind(&settings.rpc_socket).map_err(|e| Failure(e.to_string()))?;
        let metrics = settings.metrics.map(|at| {
            let wrong = |e| Failure(format!("metrics.listen: cannot listen on {at}: {e}"));
            Listener::bind(at).map_err(wrong)
        });
        let metrics = metrics.transpose()?;
        let page = open_page(&settings, lines)?;
        let kept = store.kept().map_err(Failure)?;
        let configured = (settings.clone(), written);
        kept.put_over(&mut settings);
        Ok(Self {
            configured,
            kept,
            rereading,
            settings,
            identity,
            store,
            issuer,
            payer,
            server,
            metrics,
            page,
        })
    }

    async fn live(self, executor: Arc<Executor<'static>>, json: bool) -> Result<(), Failure> {
        let Self { settings, identity, store, issuer, payer, server, metrics, page, .. } = self;
        let log = self.rereading.log.clone();
        let spending = payer.as_ref().map(|payer| payer.spending.clone());
        let kept: (Arc<dyn Keep>, _) = (store.clone(), self.kept);
        let operator = Operator::new(self.configured, kept, self.rereading, spending);
        let mut signals = Signals::new([Signal::Int, Signal::Term, Signal::Hup])?;
        let remembered = store.restore()?;
        let key = identity.secret_key();
        let sells = issuer.clone();
        let books = store.clone();
        let node = Node::start(&settings, key, books, remembered, sells, payer, &executor)
            .map_err(|e| Failure(e.to_string()))?;
        let handle = node.handle().clone();
        begin_services(&settings, &handle).await?;
        let ready = ready(&settings, &identity, handle.listen_addr());
        announce(&ready, json)?;
        let notify = Arc::new(Notify::from_env());
        notify.ready(&in_words(&ready));
        // As long as the engine answers.
        let watched = handle.clone();
        let watchdog = notify.watchdog().map(|pause| {
            let notify = notify.clone();
            executor.spawn(async move {
                while watched.neighbours().await.is_ok() {
                    notify.alive();
                    smol::Timer::after(pause).await;
                }
            })
        });
        let of = (identity.node_id(), settings.config.network);
        let export = settings.export.clone();
        let exporter = export.map(|to| Exporter::start(to, of, store.clone())).transpose()?;
        let export = exporter.as_ref().map(|exporter| exporter.status().clone());
        let service = Service::new(handle, store.clone(), issuer).exporting(export);
        let service = service.operated_by(Arc::new(operator));
        let service = Arc::new(match &page {
            Some((_, url)) => service.shown_at(url),
            None => service,
        });
        // Tasks of their own: this future is polled whenever the thread looks at its
        // sockets, and each poll of an `accept` or `read` is a system call.
        let serve = executor.spawn({
            let (executor, service) = (executor.clone(), service.clone());
            async move { server.serve(service, &executor).await }
        });
        let scraped = metrics.map(|listener| {
            if let Ok(at) = listener.address() {
                tracing::info!("metrics are at http://{at}/metrics");
            }
            let (executor, service) = (executor.clone(), service.clone());
            let numbers = Arc::new(Numbers(service));
            executor.clone().spawn(async move { listener.serve(numbers, &executor).await })
        });
        let shown = page.map(|(page, _)| {
            if let Ok(at) = page.address() {
                tracing::info!("the page is at http://{at}/ (`blvm-mesh page`)");
            }
            let (executor, service) = (executor.clone(), service.clone());
            executor.clone().spawn(async move { page.serve(service, &executor).await })
        });
        let stop = async move {
            loop {
                match signals.next().await {
                    Some(Ok(Signal::Hup)) => {
                        if let Err(error) = service.reload().await {
                            tracing::error!("the configuration is not taken over: {error}");
                        }
                    }
                    other => return other,
                }
            }
        };
        let report = executor.spawn(async move {
            loop {
                smol::Timer::after(log::REPORT).await;
                log.report();
            }
        });
        let signal = executor.spawn(stop).await;
        match signal {
            Some(Ok(Signal::Int)) => tracing::info!("stopping on SIGINT"),
            Some(Ok(Signal::Term)) => tracing::info!("stopping on SIGTERM"),
            _ => tracing::info!("stopping"),
        }
        notify.stopping();
        drop(watchdog);
        serve.cancel().await;
        drop((report, scraped, shown));
        node.stop().await;
        if let Some(exporter) = exporter {
            smol::unblock(move || exporter.stop()).await;
        }
        Ok(())
    }
}

/// Opens the page's port, and tells what shows it.
fn open_page(settings: &Settings, lines: Arc<Lines>) -> Result<Option<(Page, String)>, Failure> {
    let Some(wanted) = &settings.page else { return Ok(None) };
    let failed = |e: &dyn std::fmt::Display| Failure(format!("page.listen: {e}"));
    let token = page::token(&wanted.token_file).map_err(|e| Failure(e.to_string()))?;
    let page = Page::open(wanted.listen, token.clone(), lines).map_err(|e| failed(&e))?;
    let url = Page::url(page.address().map_err(|e| failed(&e))?, &token);
    Ok(Some((page, url)))
}

/// The services and forwards of the configuration.
async fn begin_services(settings: &Settings, handle: &NodeHandle) -> Result<(), Failure> {
    let services = handle.services();
    let ServiceSettings { exposed, forwards, max_msat, .. } = &settings.services;
    for Exposed { name, target } in exposed.clone() {
        services.expose(name, target).map_err(|e| Failure(format!("flow.expose: {e}")))?;
    }
    for forward in forwards.clone() {
        let forwarded = services.forward(forward, *max_msat).await;
        forwarded.map_err(|e| Failure(format!("flow.forward: {e}")))?;
    }
    Ok(())
}

/// What the node buys with: the operator's Lightning node; without it play money on regtest, and
/// nothing elsewhere.
fn payer(
    network: Network,
    limits: Limits,
    lightning: Option<Lightning>,
    store: &Arc<Store>,
) -> Result<Option<Payer>, Failure> {
    let wallet: Arc<dyn Wallet> = match (lightning, RegtestWallet::on(network)) {
        (Some(lightning), _) => Arc::new(lightning),
        (None, Some(wallet)) => Arc::new(wallet),
        (None, None) => return Ok(None),
    };
    let spending = Spending::new(store.clone(), limits).map_err(Failure)?;
    Ok(Some(Payer { wallet, spending: Arc::new(spending) }))
}

fn ready(settings: &Settings, identity: &Identity, listen: Option<std::net::SocketAddr>) -> Value {
    json!({
        "event": "ready",
        "node_id": identity.node_id().to_string(),
        "public_key": identity.public_key().to_string(),
        "network": settings.config.network.name(),
        "mode": settings.config.mode.name(),
        "listen_addr": listen.map(|l| l.to_string()),
        "listen_lines": settings.listen_lines.iter().map(|l| l.to_string()).collect::<Vec<_>>(),
        "radios": settings.radios.iter().map(|radio| radio.to_string()).collect::<Vec<_>>(),
        "rpc_socket": std::path::absolute(&settings.rpc_socket).unwrap_or_default(),
        "pid": std::process::id(),
    })
}

/// The same for people.
fn in_words(ready: &Value) -> String {
    let text = |key: &str| ready.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let lists = ["listen_lines", "radios"].into_iter().filter_map(|key| ready.get(key));
    let lines = lists.filter_map(Value::as_array).flatten();
    let places = ready.get("listen_addr").into_iter().chain(lines).filter_map(Value::as_str);
    let places = places.collect::<Vec<_>>().join(", ");
    format!(
        "node {} on {} ({}), listening on {}, public key {}",
        text("node_id"),
        text("network"),
        text("mode"),
        if places.is_empty() { "nothing" } else { places.as_str() },
        text("public_key"),
    )
}

fn announce(ready: &Value, json: bool) -> io::Result<()> {
    let line = if json { ready.to_string() } else { in_words(ready) };
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        // Nobody needs to read it.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_wallet_on_regtest_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join(STORE_FILE), 65_536).unwrap());
        for network in Network::ALL {
            let payer = payer(network, Limits::default(), None, &store).unwrap();
            assert_eq!(payer.is_some(), network == Network::Regtest);
        }
    }
}
