//! Requests to a running node.

use super::super::bans::Bans;
use super::super::clock::Clock;
use super::super::current::Current;
use super::super::deliveries::Deliveries;
use super::super::engine::Command;
use super::super::engine::reports::Sight;
use super::super::progress::{OwnSend, Progress};
use super::super::status::DialStatus;
use super::super::transport::all::{Dialers, TransportStatus};
use crate::bench::{Outcome, Plan, Protocol};
use crate::bridge::HeaderStatus;
use crate::bridge::outbox::Outbox;
use crate::bridge::table::Table;
use crate::config::Settings;
use crate::flows::{Flows, Services};
use crate::metrics::Histogram;
use crate::rpc::events::EventLog;
use crate::rpc::types::PeerState;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::Quote;
use blvm_mesh_core::payment::proof::INSTANT_SETTLEMENT;
use blvm_mesh_core::payment::replay::REPEATS;
use blvm_mesh_core::policy::RoutingPolicyEngine;
use blvm_mesh_core::time::Micros;
use secp256k1::PublicKey;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The node has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Gone;

/// Sends requests to the node; cheap to clone. Every answer comes from the task that owns the
/// state machine, between two packets.
#[derive(Clone)]
pub struct NodeHandle {
    pub(in crate::node) commands: smol::channel::Sender<Command>,
    pub(in crate::node) flows: Flows,
    pub(in crate::node) services: Services,
    pub(in crate::node) deliveries: Arc<Deliveries>,
    pub(in crate::node) events: Arc<EventLog>,
    pub(in crate::node) policy: RoutingPolicyEngine,
    pub(in crate::node) bridge: Arc<Table>,
    pub(in crate::node) outbox: Arc<Outbox>,
    pub(in crate::node) headers: Arc<HeaderStatus>,
    pub(crate) status: Arc<DialStatus>,
    pub(crate) transports: TransportStatus,
    /// How long commits of the store took, and acts of handshakes.
    pub(in crate::node) commits: Arc<Histogram>,
    pub(in crate::node) handshakes: Arc<Histogram>,
    pub(in crate::node) dialers: Arc<Dialers>,
    pub(in crate::node) bans: Arc<Bans>,
    pub(in crate::node) current: Arc<Current>,
    pub(in crate::node) settings: Arc<Settings>,
    pub(in crate::node) public_key: PublicKey,
    pub(in crate::node) listen_addr: Option<SocketAddr>,
    pub(in crate::node) clock: Clock,
}

/// News of one datagram that may queue up before it is read.
const REPORTS: usize = 4 + 2 * REPEATS as usize;

/// What became of a datagram while it was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Sent or refused by this node; for one that was sent anew, the last time.
    pub first: Progress,
    /// Whether its destination confirmed it, which happens only for paid ones.
    pub delivered: bool,
    /// A relay's report that it was stopped for good, if one came in time.
    pub stopped: Option<Progress>,
    /// Whether the wait lasted as long as a report can take, and the neighbour that took the
    /// datagram has answered since. If there is no report then, nobody has refused it.
    pub settled: bool,
    /// How often it was sent again.
    pub repeats: u8,
    /// The last report, in time, for which it is sent again, if there was one.
    pub repeating: Option<Progress>,
}

impl Fate {
    fn new(first: Progress) -> Self {
        let (delivered, stopped, settled) = (false, None, false);
        Self { first, delivered, stopped, settled, repeats: 0, repeating: None }
    }
}

/// What the sender of a datagram hears.
enum Heard {
    Report(Progress),
    /// There will be no more news.
    Nobody,
    /// No report can come any more; whether the neighbour has answered.
    Calm(bool),
    Late,
}

/// Interval at which a link is checked.
const LOOK: Duration = Duration::from_millis(10);

impl NodeHandle {
    /// The node's identity.
    pub fn id(&self) -> NodeId {
        NodeId::from_public_key(&self.public_key)
    }

    /// The node's public key.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Where the node listens, with the actual port.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.listen_addr
    }

    /// The settings that the node started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings in force: those of the start, with what was changed since.
    pub fn current(&self) -> Arc<Settings> {
        self.current.get()
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        Duration::from_micros(self.clock.now())
    }

    /// The TCP ports that flows join.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Opens flows to other nodes, and takes theirs; while a [service](Self::services) is exposed,
    /// it takes them.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Datagrams that were delivered to this node.
    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// What has happened lately.
    pub fn events(&self) -> &Arc<EventLog> {
        &self.events
    }

    /// Sends a datagram; waits until it is on its way or refused, and then for news of it, up to
    /// `wait`.
    ///
    /// For a paid one, the destination's receipt or a relay's report ends the wait. For a free
    /// one, a report does, or that none came in the time that it can take: that is
    /// [`hop_round_trip`](blvm_mesh_core::config::Timing::hop_round_trip) for each link, from
    /// when the first link has taken it, and until the neighbour has answered, which it does
    /// within its keep-alive; over a serial line at least the neighbour's keep-alive. A free
    /// datagram that was stopped because a hop accepted no more free traffic is meanwhile sent
    /// anew.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(
        &self,
        destination: NodeId,
        payload: Vec<u8>,
        proof: Vec<u8>,
        unchecked: bool,
        wait: Duration,
    ) -> Result<Fate, Gone> {
        let (progress, told) = smol::channel::bounded(REPORTS);
        let covenant = proof.first() == Some(&INSTANT_SETTLEMENT);
        let paid = !proof.is_empty();
        let waits = Micros::try_from(wait.as_micros()).unwrap_or(Micros::MAX);
        let until = if wait.is_zero() { 0 } else { self.clock.now().saturating_add(waits) };
        let own = OwnSend { destination, payload, proof, unchecked, progress, until, retries: 0 };
        self.commands.send(Command::Send(Box::new(own))).await.map_err(|_| Gone)?;
        let mut fate = Fate::new(told.recv().await.map_err(|_| Gone)?);
        if wait.is_zero() {
            return Ok(fate);
        }
        let trip = Duration::from_micros(self.settings.config.timing.hop_round_trip);
        // Each node first writes down what is paid for.
        let factor = if paid { 2 } else { 1 };
        let settling = |hops: u8| {
            let span = if covenant { wait } else { trip * (u32::from(hops) + 1) * factor };
            Some(Box::pin(self.settle(destination, span)))
        };
        let Progress::Sent { hops, .. } = fate.first else { return Ok(fate) };
        let mut calm = settling(hops);
        let mut late = smol::Timer::after(wait);
        loop {
            let heard = {
                let report = async { told.recv().await.map_or(Heard::Nobody, Heard::Report) };
                let calm = async {
                    match &mut calm {
                        Some(calm) => Heard::Calm(calm.await.is_some()),
                        None => std::future::pending().await,
                    }
                };
                let late = async {
                    (&mut late).await;
                    Heard::Late
                };
                smol::future::or(report, smol::future::or(calm, late)).await
            };
            match heard {
                // A free one that was sent anew.
                Heard::Report(sent @ Progress::Sent { hops, .. }) => {
                    (fate.first, fate.repeating, calm) = (sent, None, settling(hops));
                }
                Heard::Report(again @ Progress::Repeating { .. }) => {
                    (fate.repeating, fate.settled, calm) = (Some(again), false, None);
                }
                Heard::Report(Progress::Repeated { repeat }) => {
                    (fate.repeats, fate.settled) = (repeat, false);
                }
                Heard::Report(Progress::Delivered { repeats }) => {
                    (fate.delivered, fate.repeats, fate.repeating) = (true, repeats, None);
                    return Ok(fate);
                }
                Heard::Report(stopped @ Progress::Stopped { repeats, .. }) => {
                    (fate.stopped, fate.repeats, fate.repeating) = (Some(stopped), repeats, None);
                    fate.settled = false;
                    return Ok(fate);
                }
                // What a relay stopped for a passing cause, this node cannot send again itself.
                Heard::Report(Progress::Refused(_)) => {
                    if let Some(Progress::Repeating { reporter, cause, repeat }) = fate.repeating {
                        let repeats = repeat.saturating_sub(1);
                        fate.stopped = Some(Progress::Stopped { reporter, cause, repeats });
                    }
                    (fate.repeating, fate.settled) = (None, false);
                    return Ok(fate);
                }
                Heard::Calm(answered) => {
                    (fate.settled, calm) = (answered, None);
                    if !paid {
                        return Ok(fate);
                    }
                }
                Heard::Late => {
                    fate.settled |= covenant && fate.repeating.is_none();
                    return Ok(fate);
                }
                Heard::Nobody => return Ok(fate),
            }
        }
    }

    /// Waits until the link towards a node has taken what is queued on it now, its neighbour was
    /// heard after that, and `span` has passed. `None` if the link ends before, or the neighbour
    /// need not answer.
    async fn settle(&self, destination: NodeId, span: Duration) -> Option<()> {
        let link = self.ask(|who| Command::LinkTowards(destination, who)).await.ok()??;
        let look = || async move { self.ask(|who| Command::Sight(link, who)).await.ok().flatten() };
        let first = look().await?;
        let mut sight = first;
        let span = if first.slow { span.max(Duration::from_micros(first.keepalive)) } else { span };
        while sight.taken < first.taken.saturating_add(first.queued) {
            smol::Timer::after(LOOK).await;
            sight = look().await?;
        }
        let (handed, since) = (sight.now, Instant::now());
        // A neighbour that has just sent something need not answer: being heard that much earlier
        // counts.
        let heard = |sight: &Sight| sight.heard.saturating_add(sight.keepalive / 2) >= handed;
        while since.elapsed() < span || (sight.keepalive > 0 && !heard(&sight)) {
            smol::Timer::after(LOOK).await;
            sight = look().await?;
        }
        // Nothing can be learnt from one that never answers.
        (sight.keepalive > 0).then_some(())
    }

    /// Searches for a route, even if one is known.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn find_route(&self, destination: NodeId) -> Result<bool, Gone> {
        self.find(destination, false).await
    }

    /// The same, and asks all nodes on the route which payments they accept:
    /// [`HostMesh::accepted`](blvm_mesh_core::mesh::Mesh::accepted) then tells.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn find_accepted(&self, destination: NodeId) -> Result<bool, Gone> {
        self.find(destination, true).await
    }

    async fn find(&self, destination: NodeId, accepted: bool) -> Result<bool, Gone> {
        self.ask(|found| Command::Find { destination, accepted, found }).await
    }

    /// What it takes to send `bytes` by the best route known now.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn quote(&self, destination: NodeId, bytes: u64) -> Result<Option<Quote>, Gone> {
        let priced = self.ask(|who| Command::Quote(destination, bytes, who)).await?;
        Ok(priced.and_then(|priced| priced.quote))
    }

    /// Neighbours that are up.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn neighbours(&self) -> Result<Vec<NodeId>, Gone> {
        let peers = self.ask(Command::Peers).await?.into_iter();
        Ok(peers.filter(|peer| peer.state == PeerState::Up).map(|peer| peer.node_id).collect())
    }

    /// Turns the sink for trials of `bench` on or off.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn bench_sink(&self, on: bool) -> Result<(), Gone> {
        self.ask(|done| Command::BenchSink(on, done)).await
    }

    /// Measures throughput to another node, whose sink must be on, for so long. `window` is how
    /// many bytes may be in flight; 0: one packet at a time. `None` while another trial is
    /// running.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn bench(
        &self,
        destination: NodeId,
        protocol: Protocol,
        size: usize,
        duration: Duration,
        window: usize,
    ) -> Result<Option<Outcome>, Gone> {
        let duration = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let plan = Plan { destination, protocol, size, duration, window };
        let mut trial = [0; 8];
        // Without random bytes, trials are merely harder to tell apart.
        let _ = getrandom::fill(&mut trial);
        let trial = u64::from_le_bytes(trial);
        let Some(figures) = self.ask(|who| Command::Bench(plan, trial, who)).await? else {
            return Ok(None);
        };
        figures.recv().await.map(Some).map_err(|_| Gone)
    }

    /// Gives the engine a command that has an answer, and waits for it.
    pub(in crate::node) async fn ask<T>(
        &self,
        command: impl FnOnce(smol::channel::Sender<T>) -> Command,
    ) -> Result<T, Gone> {
        let (who, answer) = smol::channel::bounded(1);
        self.commands.send(command(who)).await.map_err(|_| Gone)?;
        answer.recv().await.map_err(|_| Gone)
    }
}
