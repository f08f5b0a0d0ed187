//! TCP ports of this host that other nodes reach by name, and those of others that are reached at
//! ports of this host.

use super::copy;
use super::forward::{Forward, ForwardSpec, SpecError, local};
use super::handle::{Flow, Flows, Listener};
use super::inbox::{self, Inbox};
use super::pipe::Stream;
use super::places::Places;
use super::preamble::{self, Reply, ServiceName};
use blvm_mesh_core::id::NodeId;
use smol::net::{TcpListener, TcpStream};
use smol::{Executor, Task};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long another node may take to name a service, and a port to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a service or a forward is not there.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No connections can be taken at the address.
    #[error("no connections can be taken at {local}: {error}")]
    Bind {
        /// The address.
        local: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// There is another with this name.
    #[error("service \"{0}\" is exposed already; withdraw it first (`expose --withdraw`)")]
    NameTaken(ServiceName),
    /// There is none with this name.
    #[error("no service \"{0}\" is exposed (`blvm-mesh flows` lists them)")]
    NotExposed(ServiceName),
    /// There is no forward from this address.
    #[error("nothing is forwarded from {0} (`blvm-mesh flows` lists the forwards)")]
    NotForwarded(SocketAddr),
    /// The node is stopping.
    #[error("the node is stopping")]
    Gone,
}

/// A port of this host, or of another that it reaches, which other nodes reach by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// Its name.
    pub name: ServiceName,
    /// Where it is.
    pub target: SocketAddr,
}

impl FromStr for Exposed {
    type Err = SpecError;

    /// `NAME=IP:PORT`, or `NAME=PORT` for a port of 127.0.0.1.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let wrong = |reason| SpecError::new(text, reason);
        let (name, target) =
            text.split_once('=').ok_or_else(|| wrong("there is no \"=\"".into()))?;
        let name = name.parse().map_err(|e| wrong(format!("{e}")))?;
        Ok(Self { name, target: local(target).map_err(wrong)? })
    }
}

/// A forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// From where to where.
    pub spec: ForwardSpec,
    /// The most that each of its flows may cost, in millisatoshi.
    pub max_msat: u64,
}

/// The services of a node, and its forwards; cheap to clone.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    flows: Flows,
    executor: Arc<Executor<'static>>,
    /// For connections to what is exposed.
    places: Arc<Places>,
    exposed: Mutex<BTreeMap<ServiceName, SocketAddr>>,
    /// Where datagrams go that come over flows.
    inbox: Option<Arc<dyn Inbox>>,
    /// Takes flows as long as there is something for them.
    taking: Mutex<Option<Task<()>>>,
    forwards: Mutex<BTreeMap<SocketAddr, (Forwarded, Task<()>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Services {
    /// None yet, and datagrams of others are taken only for an `inbox`. Their tasks run on
    /// `executor`; other nodes may have so many `connections` to them at once, and one alone half of
    /// that.
    pub fn new(
        flows: Flows,
        executor: Arc<Executor<'static>>,
        connections: usize,
        inbox: Option<Arc<dyn Inbox>>,
    ) -> Self {
        let services = Self(Arc::new(Inner {
            flows,
            executor,
            places: Places::new(connections),
            exposed: Mutex::default(),
            inbox,
            taking: Mutex::default(),
            forwards: Mutex::default(),
        }));
        if services.0.inbox.is_some() {
            // A node that is gone takes none.
            let _ = services.take_flows();
        }
        services
    }

    fn take_flows(&self) -> Result<(), ServiceError> {
        let mut taking = lock(&self.0.taking);
        if taking.as_ref().is_none_or(Task::is_finished) {
            let listener = self.0.flows.listen().map_err(|_| ServiceError::Gone)?;
            let this = Arc::downgrade(&self.0);
            let executor = self.0.executor.clone();
            let places = self.0.places.clone();
            *taking = Some(self.0.executor.spawn(take(listener, this, executor, places)));
        }
        Ok(())
    }

    /// Makes a port reachable for every node of the mesh, under a name.
    ///
    /// # Errors
    /// [`ServiceError::NameTaken`], [`ServiceError::Gone`].
    pub fn expose(&self, name: ServiceName, target: SocketAddr) -> Result<(), ServiceError> {
        let mut exposed = lock(&self.0.exposed);
        if exposed.get(&name).is_some_and(|taken| *taken != target) {
            return Err(ServiceError::NameTaken(name));
        }
        self.take_flows()?;
        tracing::info!(%name, %target, "a service is exposed");
        exposed.insert(name, target);
        Ok(())
    }

    /// Withdraws a service; open connections stay.
    ///
    /// # Errors
    /// [`ServiceError::NotExposed`].
    pub fn withdraw(&self, name: &ServiceName) -> Result<(), ServiceError> {
        let mut exposed = lock(&self.0.exposed);
        exposed.remove(name).ok_or_else(|| ServiceError::NotExposed(name.clone()))?;
        if exposed.is_empty() && self.0.inbox.is_none() {
            // Whoever has a flow keeps it.
            lock(&self.0.taking).take();
        }
        Ok(())
    }

    /// Takes connections at a port of this host, and leads them to a service of another node, for
    /// at most `max_msat` for each flow. The address, with the actual port.
    ///
    /// # Errors
    /// [`ServiceError::Bind`].
    pub async fn forward(
        &self,
        mut spec: ForwardSpec,
        max_msat: u64,
    ) -> Result<SocketAddr, ServiceError> {
        let wrong = |error| ServiceError::Bind { local: spec.local, error };
        let listener = TcpListener::bind(spec.local).await.map_err(wrong)?;
        spec.local = listener.local_addr().map_err(wrong)?;
        let local = spec.local;
        tracing::info!(forward = %spec, max_msat, "a port is forwarded");
        let forward = Forward::new(spec.clone(), max_msat, self.0.flows.clone());
        let task = self.0.executor.spawn(forward.run(listener, self.0.executor.clone()));
        lock(&self.0.forwards).insert(local, (Forwarded { spec, max_msat }, task));
        Ok(local)
    }

    /// Ends a forward; open connections stay.
    ///
    /// # Errors
    /// [`ServiceError::NotForwarded`].
    pub async fn unforward(&self, local: SocketAddr) -> Result<(), ServiceError> {
        let found = lock(&self.0.forwards).remove(&local);
        let (_, task) = found.ok_or(ServiceError::NotForwarded(local))?;
        task.cancel().await;
        Ok(())
    }

    /// Ends all of them.
    pub(crate) fn end(&self) {
        lock(&self.0.taking).take();
        lock(&self.0.exposed).clear();
        lock(&self.0.forwards).clear();
    }

    /// What is exposed, and what is forwarded.
    pub fn list(&self) -> (Vec<Exposed>, Vec<Forwarded>) {
        let exposed = lock(&self.0.exposed);
        let exposed = exposed.iter().map(|(name, to)| Exposed { name: name.clone(), target: *to });
        let forwards = lock(&self.0.forwards);
        (exposed.collect(), forwards.values().map(|(forward, _)| forward.clone()).collect())
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (exposed, forwards) = self.list();
        f.debug_struct("Services").field("exposed", &exposed).field("forwards", &forwards).finish()
    }
}

/// Takes the flows of other nodes.
async fn take(
    listener: Listener,
    services: std::sync::Weak<Inner>,
    executor: Arc<Executor<'static>>,
    places: Arc<Places>,
) {
    while let Some(flow) = listener.accept().await {
        let (services, spawner, places) = (services.clone(), executor.clone(), places.clone());
        executor.spawn(async move { serve(flow, &services, &spawner, &places).await }).detach();
    }
}

/// Takes the streams of one flow.
async fn serve(
    flow: Flow,
    services: &std::sync::Weak<Inner>,
    executor: &Executor<'static>,
    places: &Arc<Places>,
) {
    let peer = flow.peer();
    while let Some(mut stream) = flow.accept_stream().await {
        let services = services.clone();
        let Some(place) = places.take(peer) else {
            tracing::warn!(%peer, "an exposed service has as many connections as it may have");
            // Dropped then: it is given up.
            let _ = preamble::reply(&mut stream, Reply::Down).await;
            continue;
        };
        executor
            .spawn(async move {
                let _place = place;
                if let Err(error) = connect(stream, &services, peer).await {
                    tracing::debug!(%peer, %error, "a connection to an exposed service has failed");
                }
            })
            .detach();
    }
}

/// Joins a stream with the service that it asks for.
async fn connect(
    mut stream: Stream,
    services: &std::sync::Weak<Inner>,
    peer: NodeId,
) -> io::Result<()> {
    let name = copy::within(PATIENCE, preamble::asked(&mut stream)).await?;
    let Some(name) = name else {
        let inbox = services.upgrade().and_then(|inner| inner.inbox.clone());
        return inbox::receive(&mut stream, inbox.as_deref(), peer).await;
    };
    let target = services.upgrade().and_then(|inner| lock(&inner.exposed).get(&name).copied());
    let Some(target) = target else {
        preamble::reply(&mut stream, Reply::Unknown).await?;
        return smol::io::AsyncWriteExt::close(&mut stream).await;
    };
    let tcp = match copy::within(PATIENCE, TcpStream::connect(target)).await {
        Ok(tcp) => tcp,
        Err(error) => {
            tracing::warn!(%name, %target, %peer, %error, "an exposed service does not answer");
            preamble::reply(&mut stream, Reply::Down).await?;
            return smol::io::AsyncWriteExt::close(&mut stream).await;
        }
    };
    preamble::reply(&mut stream, Reply::Ready).await?;
    copy::join(stream, tcp).await
}
