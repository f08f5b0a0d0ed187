//! For a host node that embeds the library: it has its own connections and hands
//! packets to [`MeshManager`], which holds the state machine and asks the host for
//! everything else through [`NodeAPI`].
//!
//! ```text
//! host connection -- handle_packet --> MeshManager -- send_to_peer --> host connection
//! ```
//!
//! The 24 bytes that begin every packet have the shape of a Bitcoin message header,
//! so that a host's frame reader carries packets untouched.

mod api;
mod effects;
mod flows;
mod perform;
mod purchases;
mod routes;
mod verifier;

#[cfg(test)]
mod flow_tests;
#[cfg(test)]
mod purchase_tests;
#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;

pub use api::{BoxFuture, NodeAPI, NodeApiError, PaymentState};
pub use verifier::{PaymentVerifier, VerificationResult};

use crate::flows::Flows;
use crate::flows::hub::Hub;
use crate::node::{Deliveries, Delivery};
use crate::store::{Store, StoreError};
use crate::wallet::{Limits, Spending};
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{LinkId, NodeId, Standing};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::{HostMesh, Input, MeshError, Misuse, Quote, Stats};
use blvm_mesh_core::time::{Micros, SECOND};
use effects::{Core, Given, Outcome};
use perform::Unwritten;
use purchases::{AT_ONCE, Bills};
use secp256k1::SecretKey;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pause between readings of the wall clock.
const CLOCK_TICK: Micros = 10 * SECOND;

/// What a manager is made with.
#[derive(Debug, Clone)]
pub struct MeshContext {
    /// Settings of the state machine.
    pub config: Config,
    /// This node's key. Its hash is the node's identity.
    pub key: SecretKey,
    /// Where payments are remembered. Without it only payments dated after the
    /// start are accepted, whatever `config` says.
    pub store: Option<Arc<Store>>,
    /// Bytes of delivered datagrams kept until they are fetched; the oldest go.
    pub inbox_bytes: usize,
    /// How much this node may spend by itself, by [`NodeAPI::pay`]. Without a store it spends
    /// nothing.
    pub spending: Limits,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The host never said that this peer is connected, or it was disconnected.
    #[error("the mesh knows no connected peer \"{0}\"")]
    UnknownPeer(String),
    /// The peer is connected already.
    #[error("peer \"{0}\" is connected already")]
    PeerInUse(String),
    /// The state machine refused.
    #[error("{0}")]
    Refused(MeshError),
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// What was spent lately cannot be read.
    #[error("what was spent lately cannot be read: {0}")]
    Spending(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// A mistake of this library.
    #[error("the state machine was misused: {0}")]
    Misuse(Misuse),
    /// The manager was given up while something waited in it.
    #[error("the mesh is stopping")]
    Stopping,
}

/// What became of a packet that the host handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was relayed, delivered or taken note of.
    Accepted,
    /// It waits for a look-up in the chain.
    Waiting,
    /// It was refused.
    Refused(MeshError),
}

/// A datagram that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentPacket {
    /// Its number.
    pub sequence: u64,
    /// Number of intermediate nodes.
    pub hops: u8,
}

/// The coordinator that a host node embeds.
pub struct MeshManager {
    core: Mutex<Core>,
    api: Arc<dyn NodeAPI>,
    store: Option<Arc<Store>>,
    deliveries: Deliveries,
    bills: Bills,
    flows: Flows,
    /// Somebody carries effects out; he does it for all.
    busy: AtomicBool,
    /// What the store did not take, and what waits for it.
    unwritten: Mutex<Unwritten>,
    /// Shares of payments that are booked, in millisatoshi.
    earned_msat: AtomicU64,
    start: Instant,
    id: NodeId,
    rearm: (smol::channel::Sender<()>, smol::channel::Receiver<()>),
}

impl MeshManager {
    /// A manager without peers. What the store remembers is restored.
    ///
    /// # Errors
    /// [`ManagerError::Store`], [`ManagerError::Spending`], [`ManagerError::Random`].
    pub fn new(ctx: MeshContext, node_api: Arc<dyn NodeAPI>) -> Result<Self, ManagerError> {
        let MeshContext { mut config, key, store, inbox_bytes, spending } = ctx;
        config.payment.volatile |= store.is_none();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(ManagerError::Random)?;
        let mesh = HostMesh::new(config, key, seed);
        let id = mesh.id();
        let (hub, asks) = Hub::new(crate::flows::memory::DEFAULT);
        let mut core = Core::new(mesh, hub);
        if let Some(store) = &store {
            for record in store.restore()? {
                let input = Input::Persisted { record: record? };
                core.give(0, input).map_err(ManagerError::Misuse)?;
            }
        }
        let spending = match &store {
            Some(store) => {
                Some(Spending::new(store.clone(), spending).map_err(ManagerError::Spending)?)
            }
            None => None,
        };
        for kept in spending.iter().flat_map(Spending::kept) {
            core.ask_for(&kept).map_err(ManagerError::Misuse)?;
        }
        Ok(Self {
            core: Mutex::new(core),
            api: node_api,
            store,
            deliveries: Deliveries::new(inbox_bytes),
            bills: Bills::new(spending),
            flows: Flows::new(asks),
            busy: AtomicBool::new(false),
            unwritten: Mutex::default(),
            earned_msat: AtomicU64::new(0),
            start: Instant::now(),
            id,
            rearm: smol::channel::bounded(1),
        })
    }

    /// This node's identity.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The host has a connection to a peer and knows its identity: by a handshake,
    /// or because its operator wrote it down. `dialed` says who connected, `standing` whether the
    /// operator configured the peer or it is a stranger ([`crate::address::prefix`]).
    ///
    /// # Errors
    /// [`ManagerError::PeerInUse`].
    pub async fn peer_connected(
        &self,
        peer: &str,
        id: NodeId,
        dialed: bool,
        standing: Standing,
    ) -> Result<(), ManagerError> {
        self.give(|core, now| {
            let link = core.connect(peer).ok_or_else(|| ManagerError::PeerInUse(peer.into()))?;
            let input =
                Input::PeerConnected { link, peer: id, dialed, standing, capabilities: None };
            core.give(now, input).map_err(ManagerError::Misuse)
        })?;
        self.carry_out().await;
        Ok(())
    }

    /// The operator has made a connected peer an own one ([`Standing::Own`]): from now on nobody
    /// takes its place, and it has allowances of its own.
    ///
    /// # Errors
    /// [`ManagerError::UnknownPeer`].
    pub fn make_own(&self, peer: &str) -> Result<(), ManagerError> {
        self.give(|core, _| {
            let link = core.link(peer).ok_or_else(|| ManagerError::UnknownPeer(peer.into()))?;
            core.mesh.make_own(link);
            Ok(())
        })
    }

    /// The connection is gone. Does nothing if the peer is not known.
    pub async fn peer_disconnected(&self, peer: &str) {
        let gone = self.give(|core, now| {
            if let Some(link) = core.disconnect(peer) {
                core.give(now, Input::PeerDisconnected { link }).map_err(ManagerError::Misuse)?;
            }
            Ok(())
        });
        self.log(gone);
        self.carry_out().await;
    }

    /// The host's queue of paid or free packets for a peer is full, or has room again: what
    /// would go there is refused while it is full, a paid packet before its payment is booked.
    /// Does nothing if the peer is not known.
    pub async fn congestion(&self, peer: &str, lane: Lane, full: bool) {
        let told = self.give(|core, now| {
            if let Some(link) = core.link(peer) {
                let input = Input::Congestion { link, lane, full };
                core.give(now, input).map_err(ManagerError::Misuse)?;
            }
            Ok(())
        });
        self.log(told);
        self.carry_out().await;
    }

    /// Takes a packet that a peer sent: a whole one, its 24-byte header included.
    /// Returns when what follows from it is done, or is being done by a call that
    /// is under way already.
    ///
    /// # Errors
    /// [`ManagerError::UnknownPeer`].
    pub async fn handle_packet(&self, peer: &str, packet: &[u8]) -> Result<Verdict, ManagerError> {
        let verdict = self.give(|core, now| {
            let link = core.link(peer).ok_or_else(|| ManagerError::UnknownPeer(peer.into()))?;
            // Whether paid datagrams for this node have room, where that has changed.
            for input in self.deliveries.changes() {
                core.give(now, input).map_err(ManagerError::Misuse)?;
            }
            let mut bytes = packet.to_vec();
            core.receive(now, link, &mut bytes).map_err(ManagerError::Misuse)
        })?;
        self.carry_out().await;
        Ok(verdict)
    }

    /// Sends a datagram of this node's own; `proof` is an encoded proof of payment
    /// ([`blvm_mesh_core::payment::proof`]) or empty. Waits for a route where none
    /// is known, and for the store where it is paid for.
    ///
    /// # Errors
    /// [`ManagerError::Refused`] with the reason.
    pub async fn send_mesh_packet(
        &self,
        destination: NodeId,
        payload: &[u8],
        proof: &[u8],
    ) -> Result<SentPacket, ManagerError> {
        let (who, outcome) = smol::channel::bounded(1);
        self.give(|core, now| {
            let own = Given { destination, payload: payload.into(), proof: proof.into(), who };
            core.send(now, own).map_err(ManagerError::Misuse)
        })?;
        self.carry_out().await;
        match outcome.recv().await.map_err(|_| ManagerError::Stopping)? {
            Outcome::Sent(sent) => Ok(sent),
            Outcome::Refused(reason) => Err(ManagerError::Refused(reason)),
        }
    }

    /// Takes up to `max` datagrams that were delivered, the oldest first.
    pub fn poll_local_deliveries(&self, max: usize) -> Vec<Delivery> {
        self.deliveries.take(max, usize::MAX)
    }

    /// What it takes to send `bytes` of payload by the best route known now.
    pub fn quote_route_fee(&self, destination: &NodeId, bytes: u64) -> Option<Quote> {
        self.lock().mesh.quote(destination, bytes)
    }

    /// Counters of the state machine; what was earned counts once it is booked.
    pub fn routing_stats(&self) -> Stats {
        let earned_msat = self.earned_msat.load(Ordering::Relaxed);
        Stats { earned_msat, ..self.lock().mesh.stats() }
    }

    /// Keeps time, which searches, silent peers and expired payments need, has invoices paid, and
    /// serves flows.
    /// Run it as a task of its own for as long as the manager is used.
    pub async fn run(&self) {
        // Payments take seconds, and time must not wait for them.
        let payers = smol::Executor::new();
        for _ in 0..AT_ONCE {
            payers.spawn(self.pay_bills()).detach();
        }
        payers.spawn(self.serve_flows()).detach();
        payers.run(self.keep_time()).await;
    }

    async fn keep_time(&self) {
        let mut next_tick = 0;
        loop {
            let until = self.give(|core, now| {
                if next_tick <= now {
                    next_tick = now.saturating_add(CLOCK_TICK);
                    if let Some(unix) = unix() {
                        core.give(now, Input::WallClock { unix }).map_err(ManagerError::Misuse)?;
                    }
                }
                if core.until.is_some_and(|until| until <= now) {
                    core.give(now, Input::Timer).map_err(ManagerError::Misuse)?;
                }
                core.repeat(now).map_err(ManagerError::Misuse)?;
                Ok(core.due().unwrap_or(Micros::MAX).min(next_tick).saturating_sub(now))
            });
            self.carry_out().await;
            let retry = self.retry().await;
            let pause = match until {
                Ok(micros) => Duration::from_micros(micros).min(retry),
                Err(error) => {
                    tracing::error!(%error, "the mesh cannot keep time");
                    Duration::from_secs(1)
                }
            };
            let time = async {
                smol::Timer::after(pause).await;
            };
            let sooner = async {
                // The manager holds a sender: this never fails.
                let _ = self.rearm.1.recv().await;
            };
            smol::future::or(time, sooner).await;
        }
    }

    fn now(&self) -> Micros {
        Micros::try_from(self.start.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the state machine; the effects wait in its queue.
    fn give<T>(
        &self,
        work: impl FnOnce(&mut Core, Micros) -> Result<T, ManagerError>,
    ) -> Result<T, ManagerError> {
        let mut core = self.lock();
        let before = core.due();
        let result = work(&mut core, self.now());
        if core.due() != before {
            // A full channel means that `run` is to look already.
            let _ = self.rearm.0.try_send(());
        }
        result
    }

    fn log(&self, result: Result<(), ManagerError>) {
        if let Err(error) = result {
            tracing::error!(%error, "the mesh could not do what it must");
        }
    }

    /// Carries out what waits. A host may hand in packets while it is asked to send
    /// one: then whoever is at it already does that as well.
    async fn carry_out(&self) {
        while !self.lock().effects.is_empty() && !self.busy.swap(true, Ordering::AcqRel) {
            let done = Done(&self.busy);
            loop {
                let effects = std::mem::take(&mut self.lock().effects);
                if effects.is_empty() {
                    break;
                }
                self.perform(effects).await;
            }
            // What came in between is seen by the condition above.
            drop(done);
        }
    }

    async fn drop_link(&self, link: LinkId, reason: &str) {
        let gone = self.give(|core, now| {
            if let Some(peer) = core.forget(link) {
                tracing::info!(peer, "peer is disconnected from the mesh: {reason}");
                core.give(now, Input::PeerDisconnected { link }).map_err(ManagerError::Misuse)?;
            }
            Ok(())
        });
        self.log(gone);
    }
}

/// Lets others carry effects out, however the work ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn unix() -> Option<u64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs())
}
