//! The daemon: sockets, disk and clocks around the state machine.
//!
//! ```text
//! transport -- whole packets -->  engine  -- packets --> link: queues --> transport
//! (TCP, serial; decrypts)         (the state machine)                     (encrypts)
//!                                     |  ^
//!                            records  v  |  durable up to
//!                                  durable (group commit)
//! ```
//!
//! Tasks of the transport encrypt and decrypt; one task owns the state machine. The engine waits
//! for nobody: a neighbour that does not read fills only its own queue, and a look-up of a block
//! (`chain`) delays only its own packet.
//!
//! Five floors, each of which knows only those below (`tests/check-floors.py`): this file,
//! `requests/`, `engine/`, `transport/`, and what they share.

mod bans;
mod bridge;
mod clock;
mod current;
mod deliveries;
mod engine;
mod link;
mod presence;
mod progress;
mod requests;
pub mod runtime;
mod status;
mod transport;

#[cfg(test)]
mod tests;

pub use deliveries::{Deliveries, Delivery};
pub use engine::durable::Commit;
pub use progress::Progress;
pub use requests::handle::{Fate, Gone, NodeHandle};
pub use requests::probing::{Fared, Pinged};
pub use requests::{Issue, Issued, Ledgers, Operator, Reread, Service};
pub(crate) use transport::all::{Checked as CheckedModem, check as check_modem};

use crate::bench::Bench;
use crate::bridge::HeaderStatus;
use crate::bridge::outbox::Outbox;
use crate::bridge::table::Table;
use crate::chain::ChainSource;
use crate::config::Settings;
use crate::flows::hub::Hub;
use crate::flows::places;
use crate::flows::{Flows, Inbox, Services};
use crate::metrics::Histogram;
use crate::rpc::events::EventLog;
use crate::wallet::Payer;
use bans::Bans;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{HostMesh, Misuse};
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::{Micros, SECOND};
use clock::Clock;
use current::Current;
use deliveries::StreamInbox;
use engine::chain::{Answer, Chain};
use engine::durable::{self, Durable};
use engine::invoices::{Invoices, Wanted};
use engine::links::{LinkSettings, Links};
use engine::payments::{LOOK_UP, Payments};
use engine::shell::Shell;
use engine::{Command, Engine, Inputs};
use presence::Presence;
use secp256k1::{Secp256k1, SecretKey};
use smol::{Executor, Task};
use status::DialStatus;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use transport::all::{Listeners, NotListening, Transports};
use transport::{LinkKey, Pauses, ToEngine, Ways};

/// Inputs that may wait for the engine, from links and from clients. Readers have two buffers
/// each, and wait. The queues take their memory at the start, a hundred bytes for each.
const MOST_WAITING: usize = 256;
/// Links that may exist beyond the neighbours: the state machine refuses them and says why.
const SPARE_LINKS: usize = 8;
/// A link whose neighbour does not read for so long is closed.
const STALLED: Micros = 30 * SECOND;
/// How long the bridged connections of a stopping node may take to end.
const BRIDGE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a stopping node waits for the store, and then for its links.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// A running node.
pub struct Node {
    handle: NodeHandle,
    engine: Task<()>,
    /// Dropping a task ends it.
    around: Vec<Task<()>>,
    transports: Transports,
    #[cfg(test)]
    ways: Ways,
    store: Option<std::thread::JoinHandle<()>>,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// A radio channel's key cannot be read.
    #[error("{0}")]
    Radio(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The state machine rejected a record from the store.
    #[error("what the store remembers was not taken: {0}")]
    Restore(Misuse),
    /// The store could not be read.
    #[error("{0}")]
    Store(String),
    /// No thread can be started.
    #[error("cannot start the store's thread: {0}")]
    Thread(io::Error),
}

impl Node {
    /// Starts a node: `remembered` is what its store holds, and further records are committed to
    /// `store`. With an `issuer` it sells bytes of flows, with a `payer` it buys some. Its tasks
    /// run on `executor`.
    ///
    /// # Errors
    /// Any: then nothing is left running.
    pub fn start<E: std::fmt::Display>(
        settings: &Settings,
        key: &SecretKey,
        store: impl Commit,
        remembered: impl Iterator<Item = Result<Record, E>>,
        issuer: Option<Arc<dyn Issue>>,
        payer: Option<Payer>,
        executor: &Arc<Executor<'static>>,
    ) -> Result<Self, StartError> {
        let clock = Clock::new();
        let mesh = mesh(settings, key)?;
        let (commands, told) = smol::channel::bounded(MOST_WAITING);
        let (to_engine, events) = ToEngine::new(MOST_WAITING);
        let (records, to_commit) = smol::channel::unbounded();
        let (answers, committed) = smol::channel::bounded(16);
        let presence = Arc::<Presence>::default();
        let configured = settings.peers.iter().map(|peer| peer.node_id());
        let status = Arc::new(DialStatus::new(configured));
        let deliveries = Arc::new(Deliveries::new(settings.shell.inbox_bytes));
        let event_log = Arc::new(EventLog::new(settings.shell.events));
        let bans = Arc::<Bans>::default();
        bans.set(&settings.banned);
        let links = Links::new(
            clock,
            link_settings(settings),
            settings.peers.iter().map(|p| NodeId::from_public_key(&p.public_key)).collect(),
            bans.clone(),
            presence.clone(),
            status.clone(),
        );
        let mut around = Vec::new();
        let chain = match &settings.chain {
            Some(source) => {
                let source = ChainSource::new(source.clone(), settings.config.network);
                let commands = commands.clone();
                let tell = move |hash, answer: Answer| {
                    let commands = commands.clone();
                    async move { commands.send(Command::LookedUp(hash, answer)).await.is_ok() }
                };
                let (chain, tasks) = Chain::start(&Arc::new(source), tell, executor);
                around.extend(tasks);
                chain
            }
            None => {
                if settings.config.payment.covenants_active {
                    tracing::warn!(
                        "covenants are accepted only for blocks whose headers are given \
                         (`blvm-mesh headers`): chain.rpc_url names no node to look them up"
                    );
                }
                Chain::default()
            }
        };
        let policy = *mesh.policy();
        let asked = issuer.as_ref().map_or(Ok(Vec::new()), |issuer| issuer.asked());
        let asked = asked.map_err(StartError::Store)?;
        let invoices = match issuer {
            Some(issuer) => {
                let commands = commands.clone();
                let tell = move |ticket, invoice| {
                    let told = Command::InvoiceWritten(ticket, invoice);
                    let commands = commands.clone();
                    async move { commands.send(told).await.is_ok() }
                };
                let write = move |wanted: &Wanted| {
                    let (amount_msat, expiry_s) = (wanted.amount_msat, wanted.expiry_s.into());
                    let issued = issuer.issue(wanted.purpose(), amount_msat, expiry_s);
                    issued.map(|issued| issued.invoice)
                };
                let (invoices, task) = Invoices::start(write, tell, executor);
                around.push(task);
                invoices
            }
            None => Invoices::default(),
        };
        let kept = payer.as_ref().map_or_else(Vec::new, |payer| payer.spending.kept());
        let payments = match payer {
            Some(payer) => {
                let told = commands.clone();
                let tell_resolved = move |resolved, kept| {
                    let told = told.clone();
                    async move { told.send(Command::PaymentResolved(resolved, kept)).await.is_ok() }
                };
                let commands = commands.clone();
                let tell = move |ticket, ended| {
                    let told = Command::InvoicePaid(ticket, ended);
                    let commands = commands.clone();
                    async move { commands.send(told).await.is_ok() }
                };
                let (payments, tasks) =
                    Payments::start(payer, tell, (LOOK_UP, tell_resolved), executor);
                around.extend(tasks);
                payments
            }
            None => Payments::default(),
        };
        let durable = Durable::new(records);
        let accepts = settings.bridge.node.map_or(0, |_| settings.bridge.connections);
        let (bridge, arrivals) = Table::new(settings.config.magic, accepts);
        let shell = Shell::new(
            links,
            durable,
            chain,
            invoices,
            payments,
            (deliveries.clone(), event_log.clone()),
            bridge.clone(),
        );
        let bench = Bench::new(settings.config.magic, settings.shell.bench_sink);
        let (hub, asks) = Hub::new(settings.shell.pipe_memory);
        let probed = settings.shell.answer_probes;
        let inputs = Inputs { events, commands: told, committed };
        let mut engine = Engine::new(mesh, shell, bench, probed, hub, inputs);
        restore(&mut engine, remembered)?;
        engine.ask_for(kept);
        for (payment_hash, expires_at) in asked {
            engine.restore_asked(payment_hash, expires_at);
        }
        let wrong = |(address, error)| StartError::Listen { address, error };
        let listeners = Listeners::bind(settings).map_err(|not| match not {
            NotListening::Tcp(address, error) => wrong((address, error)),
            NotListening::Radio(no_key) => StartError::Radio(no_key.to_string()),
        })?;
        let listen_addr = listeners.address();
        let commits = Arc::<Histogram>::default();
        let took = commits.clone();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || durable::run(store, &took, to_commit, answers))
            .map_err(StartError::Thread)?;
        let engine = executor.spawn(engine.run());

        let ways = Ways {
            engine: to_engine,
            key: Arc::new(LinkKey::new(key, settings.shell.handshake_timeout)),
            clock,
            presence,
            bans: bans.clone(),
            dials: status.clone(),
            pauses: Pauses {
                first: settings.shell.reconnect_min,
                longest: settings.shell.reconnect_max,
            },
            executor: executor.clone(),
        };
        let (transports, transport_status) = Transports::start(listeners, settings, &ways);
        let flows = Flows::new(asks);
        let connections = places::most(settings.shell.pipe_memory, crate::descriptors::limit());
        let outbox = Arc::new(Outbox::open(Outbox::directory(&settings.data_dir)));
        let headers = Arc::<HeaderStatus>::default();
        let bridge_node = bridge::Node { commands: commands.clone(), clock };
        let inbox = settings.services.inbox.then(|| {
            let (deliveries, events) = (deliveries.clone(), event_log.clone());
            Arc::new(StreamInbox { deliveries, events, policy }) as Arc<dyn Inbox>
        });
        let at_start = Arc::new(settings.clone());
        let handle = NodeHandle {
            commands,
            services: Services::new(flows.clone(), executor.clone(), connections, inbox),
            flows,
            deliveries,
            events: event_log,
            policy,
            bridge: bridge.clone(),
            outbox: outbox.clone(),
            headers: headers.clone(),
            status,
            commits,
            handshakes: ways.key.computed.clone(),
            transports: transport_status,
            dialers: transports.dialers(),
            bans,
            current: Arc::new(Current::new(at_start.clone())),
            settings: at_start,
            public_key: key.public_key(&Secp256k1::signing_only()),
            listen_addr,
            clock,
        };
        let known = bridge::Known { outbox, headers };
        let bridged = bridge::start(bridge_node, settings, (bridge, arrivals), known, executor);
        around.extend(bridged.map_err(wrong)?);
        let listen = listen_addr.map(tracing::field::display);
        tracing::info!(node = %handle.id(), listen, "node is running");
        Ok(Self {
            handle,
            engine,
            around,
            transports,
            #[cfg(test)]
            ways,
            store: Some(thread),
        })
    }

    /// For questions and orders.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Stops: accepts nothing more, ends bridged connections, waits until everything pending is
    /// durable, sends what is queued, and gives up after three seconds.
    pub async fn stop(mut self) {
        self.around.clear();
        self.handle.services.end();
        self.transports.take_no_more();
        self.handle.bridge.end();
        let told = async {
            while !self.handle.bridge.is_empty() {
                smol::Timer::after(Duration::from_millis(2)).await;
            }
        };
        let late = async {
            smol::Timer::after(BRIDGE_PATIENCE).await;
        };
        // The other ends of bridged connections need not wait for their time-outs.
        smol::future::or(told, late).await;
        let deadline = smol::Timer::after(STOP_PATIENCE);
        let quiet = async {
            while let Ok(false) = self.handle.ask(Command::IsQuiet).await {
                smol::Timer::after(Duration::from_millis(2)).await;
            }
        };
        let late = async {
            deadline.await;
            tracing::warn!("stopped before the store had written everything");
        };
        smol::future::or(quiet, late).await;
        if let Ok(links) = self.handle.ask(Command::Stop).await {
            let all = async {
                for link in links {
                    link.all_sent().await;
                }
            };
            let late = async {
                smol::Timer::after(STOP_PATIENCE).await;
                tracing::warn!("stopped before everything was sent");
            };
            smol::future::or(all, late).await;
        }
        drop(self.transports);
        self.engine.await;
        if let Some(thread) = self.store.take() {
            smol::unblock(move || thread.join()).await.unwrap_or_else(|_| {
                tracing::error!("the store's thread panicked");
            });
        }
        tracing::info!("node has stopped");
    }
}

fn mesh(settings: &Settings, key: &SecretKey) -> Result<HostMesh, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Random)?;
    Ok(HostMesh::new(settings.config.clone(), *key, seed))
}

/// Gives the state machine its records, before the first link.
fn restore<E: std::fmt::Display>(
    engine: &mut Engine,
    remembered: impl Iterator<Item = Result<Record, E>>,
) -> Result<(), StartError> {
    let mut count = 0u64;
    for record in remembered {
        let record = record.map_err(|e| StartError::Store(e.to_string()))?;
        engine.restore(record).map_err(StartError::Restore)?;
        count += 1;
    }
    tracing::debug!(records = count, "restored");
    Ok(())
}

fn link_settings(settings: &Settings) -> LinkSettings {
    LinkSettings {
        most: settings.config.capacities.neighbours.saturating_add(SPARE_LINKS),
        memory: settings.shell.link_memory,
        stalled: STALLED,
    }
}
