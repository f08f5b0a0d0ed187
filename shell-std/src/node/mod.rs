//! The daemon: sockets, disk and clocks around the state machine.
//!
//! ```text
//! dial / listen --> handshake --> links <-- line (serial, with its own handshake)
//! connection::read  -- frames -->  engine  -- packets --> egress --> connection::write
//! (decrypts)                       (the state machine)               (encrypts)
//!                                     |  ^
//!                            records  v  |  durable up to
//!                                  durable (group commit)
//! ```
//!
//! One task per connection and direction does the crypto (one for both on a serial
//! line), one task owns the state machine. The engine waits for nobody: a neighbour that does not read fills its
//! own queue and nothing else, and a look-up of a block (`chain`) its own packet.

mod chain;
mod clock;
mod command;
mod conduct;
mod connection;
mod deliveries;
mod dial;
mod durable;
mod egress;
mod engine;
mod fifo;
mod half_open;
mod handle;
mod handshake;
mod line;
mod links;
mod listen;
mod memory;
mod presence;
mod refusals;
mod requests;
pub mod runtime;
mod shell;
mod status;
mod waitlist;

#[cfg(test)]
mod tests;

pub use command::Progress;
pub use deliveries::{Deliveries, Delivery};
pub use durable::Commit;
pub use handle::{Fate, Gone, NodeHandle};
pub use requests::{Issue, Issued, Ledgers, Service};

use crate::address::{Place, SerialLine};
use crate::bench::Bench;
use crate::chain::ChainSource;
use crate::config::Settings;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{HostMesh, Input, Misuse};
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::{Micros, SECOND};
use chain::Chain;
use clock::Clock;
use dial::Pauses;
use durable::Durable;
use egress::EgressLimits;
use engine::Engine;
use half_open::HalfOpen;
use handshake::LinkKey;
use line::{Line, LineLimits, LineStatus};
use links::{LinkSettings, Links};
use presence::Presence;
use secp256k1::{PublicKey, SecretKey};
use shell::Shell;
use smol::{Async, Executor, Task};
use status::DialStatus;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Commands that wait for the engine. Readers have two buffers each, and wait.
const COMMANDS: usize = 1024;
/// Unfinished handshakes of accepted connections.
const MOST_HANDSHAKES: usize = 256;
/// Links that may be there besides the neighbours: they are refused by the state
/// machine, which says why.
const SPARE_LINKS: usize = 8;
/// A link whose neighbour takes nothing for so long is closed.
const STALLED: Micros = 30 * SECOND;
/// Time in which a split packet must be complete.
const JOIN_TIMEOUT: Micros = 60 * SECOND;
/// How long a node that stops waits for the store, and then for its links.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// A running node.
pub struct Node {
    handle: NodeHandle,
    engine: Task<()>,
    /// Dropping a task ends it.
    around: Vec<Task<()>>,
    /// The tasks of serial lines, which also send what is left.
    lines: Vec<Task<()>>,
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
        /// What the system says.
        error: io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The state machine did not take what the store remembers.
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
    /// Starts a node: `remembered` is what its store holds, and further records
    /// are committed to `store`. Its tasks run on `executor`.
    ///
    /// # Errors
    /// Any: then nothing is left running.
    pub fn start<E: std::fmt::Display>(
        settings: &Settings,
        key: &SecretKey,
        store: impl Commit,
        remembered: impl Iterator<Item = Result<Record, E>>,
        executor: &Arc<Executor<'static>>,
    ) -> Result<Self, StartError> {
        let clock = Clock::new();
        let mut mesh = mesh(settings, key)?;
        restore(&mut mesh, clock, remembered)?;
        let listener = settings.listen_addr.map(listen).transpose()?;
        let listen_addr = listener.as_ref().and_then(|l| l.get_ref().local_addr().ok());

        let (commands, told) = smol::channel::bounded(COMMANDS);
        let (records, to_commit) = smol::channel::unbounded();
        let (answers, committed) = smol::channel::bounded(16);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || durable::run(store, to_commit, answers))
            .map_err(StartError::Thread)?;

        let presence = Arc::<Presence>::default();
        let configured = settings.peers.iter().map(|peer| peer.node_id());
        let status = Arc::new(DialStatus::new(configured));
        let link_key = Arc::new(LinkKey::new(key, settings.shell.handshake_timeout));
        let deliveries = Arc::new(Deliveries::new(settings.shell.inbox_bytes));
        let links = Links::new(
            clock,
            link_settings(settings),
            settings.peers.iter().map(|p| NodeId::from_public_key(&p.public_key)).collect(),
            presence.clone(),
            status.clone(),
            commands.clone(),
            executor.clone(),
        );
        let mut around = Vec::new();
        let chain = match &settings.chain {
            Some(source) => {
                let source = ChainSource::new(source.clone(), settings.config.network);
                let (chain, tasks) = Chain::start(&Arc::new(source), &commands, executor);
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
        let shell = Shell::new(links, Durable::new(records), chain, deliveries.clone());
        let bench = Bench::new(settings.config.magic, settings.shell.bench_sink);
        let engine = executor.spawn(Engine::new(mesh, shell, bench, told, committed).run());

        let half_open = Arc::new(HalfOpen::new(MOST_HANDSHAKES));
        if let Some(listener) = listener {
            let (key, commands) = (link_key.clone(), commands.clone());
            let places = half_open.clone();
            let accept = listen::accept(listener, key, places, commands, executor.clone());
            around.push(executor.spawn(accept));
        }
        let pauses =
            Pauses { first: settings.shell.reconnect_min, longest: settings.shell.reconnect_max };
        for peer in &settings.peers {
            let Place::Tcp(at) = &peer.place else { continue };
            let (key, presence, status) = (link_key.clone(), presence.clone(), status.clone());
            let (remote, at, commands) = (peer.public_key, at.clone(), commands.clone());
            let keep = dial::keep(remote, at, key, presence, commands, status, pauses);
            around.push(executor.spawn(keep));
        }
        let (mut lines, mut line_status) = (Vec::new(), Vec::new());
        for (line, remote) in serial_lines(settings) {
            let status_of_line = Arc::new(LineStatus::new(line.clone(), remote.is_some()));
            line_status.push(status_of_line.clone());
            let line = Line {
                limits: LineLimits::new(line, &settings.config, settings.shell.queue_bytes),
                line: line.clone(),
                remote,
                key: link_key.clone(),
                clock,
                presence: presence.clone(),
                engine: commands.clone(),
                dials: status.clone(),
                status: status_of_line,
                pauses,
            };
            lines.push(executor.spawn(line.keep()));
        }
        let handle = NodeHandle {
            commands,
            deliveries,
            status,
            lines: line_status.into(),
            half_open,
            settings: Arc::new(settings.clone()),
            public_key: link_key.public_key(),
            listen_addr,
            clock,
        };
        tracing::info!(node = %handle.id(), listen = ?listen_addr, "node is running");
        Ok(Self { handle, engine, around, lines, store: Some(thread) })
    }

    /// For questions and orders.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Stops: takes nothing more in, makes durable what waits for that, sends
    /// what is queued, and gives up after two seconds.
    pub async fn stop(mut self) {
        self.around.clear();
        let deadline = smol::Timer::after(STOP_PATIENCE);
        let quiet = async {
            while let Ok(false) = self.handle.job(|engine| engine.quiet()).await {
                smol::Timer::after(Duration::from_millis(2)).await;
            }
        };
        let late = async {
            deadline.await;
            tracing::warn!("stopped before the store had written everything");
        };
        smol::future::or(quiet, late).await;
        let writers = self.handle.job(|engine| {
            engine.stop = true;
            engine.shell.durable.close();
            engine.give_up();
            engine.shell.links.finish()
        });
        if let Ok(writers) = writers.await {
            let all = async {
                for writer in writers {
                    writer.await;
                }
            };
            let late = async {
                smol::Timer::after(STOP_PATIENCE).await;
                tracing::warn!("stopped before everything was sent");
            };
            smol::future::or(all, late).await;
        }
        self.lines.clear();
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

/// Tells the state machine what it must not forget, before any link is there.
fn restore<E: std::fmt::Display>(
    mesh: &mut HostMesh,
    clock: Clock,
    remembered: impl Iterator<Item = Result<Record, E>>,
) -> Result<(), StartError> {
    use blvm_mesh_core::mesh::Action;
    let mut count = 0u64;
    for record in remembered {
        let record = record.map_err(|e| StartError::Store(e.to_string()))?;
        mesh.handle(clock.now(), Input::Persisted { record }).map_err(StartError::Restore)?;
        while !matches!(mesh.poll(), Action::Wait { .. }) {}
        count += 1;
    }
    tracing::debug!(records = count, "restored");
    Ok(())
}

fn listen(address: SocketAddr) -> Result<Async<TcpListener>, StartError> {
    Async::<TcpListener>::bind(address).map_err(|error| StartError::Listen { address, error })
}

/// All serial lines, and whose key is dialled on each.
fn serial_lines(
    settings: &Settings,
) -> impl Iterator<Item = (&SerialLine, Option<PublicKey>)> + use<'_> {
    let dialed = settings.peers.iter().filter_map(|peer| match &peer.place {
        Place::Tcp(_) => None,
        Place::Line(line) => Some((line, Some(peer.public_key))),
    });
    settings.listen_lines.iter().map(|line| (line, None)).chain(dialed)
}

fn link_settings(settings: &Settings) -> LinkSettings {
    let max_packet = settings.config.max_packet as usize;
    let high = settings.shell.queue_bytes;
    LinkSettings {
        egress: EgressLimits { high, low: high / 2, control: 128 * 1024, max_packet },
        most: settings.config.capacities.neighbours.saturating_add(SPARE_LINKS),
        max_packet,
        join_timeout: JOIN_TIMEOUT,
        memory: settings.shell.link_memory,
        stalled: STALLED,
    }
}
