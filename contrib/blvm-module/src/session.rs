//! Connections with the node, one after the other.
//!
//! The node serves one connection at a time, and closes it without an answer when it refuses a
//! request: the module connects again and begins anew. What is known of links stays.

use crate::api::{Api, METHODS, VERSION};
use crate::outbox::Outgoing;
use crate::proto::{self, Answer, Incoming, Numbers, Request};
use crate::shared::Shared;
use crate::wire::{self, WireError};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::token_bucket::TokenBucket;
use smol::Executor;
use smol::future::or;
use smol::io::{BufReader, ReadHalf, WriteHalf};
use smol::lock::Semaphore;
use smol::net::unix::UnixStream;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// First and longest pause before the module connects again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A connection that lasted so long begins the pauses anew.
const LASTED: Micros = 30 * SECOND;
/// Requests per second, and at once: the node takes 100 in a second of its clock.
const RATE: (u64, u64) = (80, 15);
/// Requests that are not answered yet. Further ones wait.
const MOST_OPEN: usize = 32;
/// Calls of methods under way. Further ones are refused.
const MOST_CALLS: usize = 64;
/// After so long without an answer to the handshake it is said that the module waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nobody listens at the socket.
    #[error("the node's socket {0} cannot be connected to: {1}")]
    Connect(PathBuf, std::io::Error),
    /// See there.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The node closed the connection upon a request.
    #[error(
        "the node refused \"{0}\" and closed the connection: it does not do that for this module \
         (its capabilities are those of module.toml, and count once the node has loaded it), or \
         its rate of requests is used up"
    )]
    Refused(&'static str),
    /// The node answered that it does not do it.
    #[error("the node answered \"{0}\" with: {1}")]
    Failed(&'static str, String),
    /// The node numbers its messages in another way.
    #[error(
        "the node is blvm-node {0}, and how that numbers its messages is not known here: this \
         module is for 0.1.54 and later"
    )]
    Version(String),
}

/// A request that is not answered yet.
struct Open {
    id: u64,
    what: &'static str,
    /// Whom a frame was for.
    peer: Option<String>,
}

/// Connects the module with the node.
pub struct Session {
    /// The node's socket.
    pub socket: PathBuf,
    /// The module's name, which is its identity for the node too: permissions are kept under it.
    pub name: String,
    /// The links and what is to be told.
    pub shared: Arc<Shared>,
    /// Who answers calls.
    pub api: Arc<Api>,
    /// Where calls run.
    pub executor: Arc<Executor<'static>>,
}

impl Session {
    /// Connects again and again, and never returns but for a node that cannot be served, or when
    /// `gone` says of an error that the node is gone.
    pub async fn run(&self, gone: impl Fn(&SessionError) -> bool) -> SessionError {
        let (mut pause, mut said) = (PAUSE.0, String::new());
        loop {
            let begun = self.shared.now();
            let error = self.connect().await;
            if gone(&error) || matches!(error, SessionError::Version(_)) {
                return error;
            }
            let text = error.to_string();
            // Not the same again and again.
            match text == said {
                true => tracing::debug!("{text}; connecting again"),
                false => tracing::warn!("{text}; connecting again"),
            }
            said = text;
            if self.shared.now().saturating_sub(begun) > LASTED {
                pause = PAUSE.0;
            }
            smol::Timer::after(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn connect(&self) -> SessionError {
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) => return SessionError::Connect(self.socket.clone(), error),
        };
        let (reader, writer) = smol::io::split(stream);
        let calls = Arc::new(Semaphore::new(MOST_CALLS));
        let connection = Connection {
            session: self,
            open: Mutex::default(),
            reader: BufReader::new(reader),
            calls,
            changed: BTreeMap::new(),
        };
        let ended = connection.serve(writer).await;
        // Nobody waits for those any more.
        self.shared.with_outbox(|outbox| outbox.forget_answers());
        ended
    }
}

struct Connection<'s> {
    session: &'s Session,
    open: Mutex<VecDeque<Open>>,
    reader: BufReader<ReadHalf<UnixStream>>,
    calls: Arc<Semaphore>,
    /// Peers that came (true) or went before the node's list of them was here, which may be older.
    changed: BTreeMap<String, bool>,
}

impl Connection<'_> {
    async fn serve(mut self, mut writer: WriteHalf<UnixStream>) -> SessionError {
        let numbers = match self.begin(&mut writer).await {
            Ok(numbers) => numbers,
            Err(error) => return error,
        };
        let Self { session, open, mut reader, calls, .. } = self;
        let reads = async {
            loop {
                match wire::read(&mut reader).await {
                    Ok(Some(message)) => take(session, &open, &calls, message),
                    Ok(None) => tracing::warn!("the node sent a message too long to be read"),
                    Err(error) => return error.into(),
                }
            }
        };
        let writes = async {
            match write(session, &open, &mut writer, numbers).await {
                Ok(never) => match never {},
                Err(error) => error.into(),
            }
        };
        let ended = or(reads, writes).await;
        let refused = matches!(ended, SessionError::Wire(WireError::Closed));
        // The node answers one after the other: it is the oldest that it refused.
        match lock(&open).pop_front().filter(|_| refused) {
            Some(Open { what, peer, .. }) => {
                if let Some(peer) = peer {
                    session.shared.with_links(|links, now| links.disconnected(now, &peer));
                }
                SessionError::Refused(what)
            }
            None => ended,
        }
    }

    /// Introduces the module and learns who the node's peers are.
    async fn begin(&mut self, writer: &mut WriteHalf<UnixStream>) -> Result<Numbers, SessionError> {
        let session = self.session;
        // The numbers of this one are the same in all versions. The answer is waited for without
        // end: a node that cannot answer a handshake, as the connection is closed, serves no module
        // any more.
        let handshake = Request::Handshake { name: session.name.clone() };
        let waits = async {
            smol::Timer::after(PATIENCE).await;
            tracing::info!("waiting for the node: it serves one connection at a time");
            std::future::pending().await
        };
        let answer = or(self.ask(writer, 1, &handshake, Numbers::New), waits).await?;
        let Answer::Version(version) = answer else { return Err(unexpected(&handshake)) };
        let Some(numbers) = Numbers::of(&version) else {
            return Err(SessionError::Version(version.chars().take(40).collect()));
        };
        self.ask(writer, 2, &Request::SubscribeEvents, numbers).await?;
        let methods = METHODS.map(String::from).into();
        let register = Request::RegisterModuleApi { methods, api_version: VERSION };
        self.ask(writer, 3, &register, numbers).await?;
        let answer = self.ask(writer, 4, &Request::GetNetworkPeers, numbers).await?;
        let Answer::Peers(peers) = answer else {
            return Err(unexpected(&Request::GetNetworkPeers));
        };
        let mut names: BTreeSet<String> = peers.into_iter().collect();
        for (peer, came) in std::mem::take(&mut self.changed) {
            match came {
                true => names.insert(peer),
                false => names.remove(&peer),
            };
        }
        session.shared.with_links(|links, now| links.reset(now, &names));
        tracing::info!(version, peers = names.len(), "the mesh is at the node");
        Ok(numbers)
    }

    async fn ask(
        &mut self,
        writer: &mut WriteHalf<UnixStream>,
        number: u64,
        request: &Request,
        numbers: Numbers,
    ) -> Result<Answer, SessionError> {
        tell(writer, &request.encode(number, numbers)).await?;
        loop {
            let message = match wire::read(&mut self.reader).await {
                Err(WireError::Closed) => return Err(SessionError::Refused(request.name())),
                message => message?,
            };
            match message {
                Some(Incoming::Response { id, answer }) if id == number => {
                    return answer.map_err(|why| SessionError::Failed(request.name(), why));
                }
                Some(other) => {
                    match &other {
                        Incoming::PeerConnected(peer) => {
                            _ = self.changed.insert(peer.clone(), true)
                        }
                        Incoming::PeerDisconnected(peer) => {
                            _ = self.changed.insert(peer.clone(), false);
                        }
                        _ => {}
                    }
                    take(self.session, &self.open, &self.calls, other);
                }
                None => {}
            }
        }
    }
}

/// Takes a message of the node's.
fn take(
    session: &Session,
    open: &Mutex<VecDeque<Open>>,
    calls: &Arc<Semaphore>,
    message: Incoming,
) {
    let shared = &session.shared;
    match message {
        Incoming::Response { id, answer } => answered(open, id, answer),
        Incoming::MeshPacket { peer, mut bytes } => {
            shared.with_links(|links, now| links.receive(now, &peer, &mut bytes));
        }
        Incoming::PeerConnected(peer) => {
            shared.with_links(|links, now| links.connected(now, &peer));
        }
        Incoming::PeerDisconnected(peer) => {
            shared.with_links(|links, now| links.disconnected(now, &peer));
        }
        Incoming::Call { id, method } => called(session, calls, id, method),
        // The node tells of modules that were loaded before, whoever asks for what.
        Incoming::Other => {}
    }
    // Requests may have been waiting for an answer.
    shared.writer.ring();
}

fn answered(open: &Mutex<VecDeque<Open>>, id: u64, answer: Result<Answer, String>) {
    let mut open = lock(open);
    let asked = open.iter().position(|open| open.id == id).and_then(|at| open.remove(at));
    let Some(asked) = asked else {
        tracing::debug!("the node answered a request that was not made");
        return;
    };
    if let Err(why) = answer {
        tracing::warn!(peer = asked.peer, "the node answered \"{}\" with: {why}", asked.what);
    }
}

fn called(session: &Session, calls: &Arc<Semaphore>, id: u64, method: Option<(String, Vec<u8>)>) {
    let shared = session.shared.clone();
    let refuse = |why: &str| shared.with_outbox(|outbox| outbox.answer(id, Err(why.into())));
    let Some((method, params)) = method else {
        return refuse("the mesh serves no commands and no JSON-RPC through the node");
    };
    let Some(permit) = calls.try_acquire_arc() else {
        return refuse("too many calls are under way; try again");
    };
    let (api, shared) = (session.api.clone(), shared.clone());
    let work = async move {
        let answer = api.call(&method, &params).await;
        shared.with_outbox(|outbox| outbox.answer(id, answer));
        drop(permit);
    };
    session.executor.spawn(work).detach();
}

/// Nothing that is.
enum Never {}

/// Writes whatever is to be told, and frames of links as fast as the node takes them.
async fn write(
    session: &Session,
    open: &Mutex<VecDeque<Open>>,
    writer: &mut WriteHalf<UnixStream>,
    numbers: Numbers,
) -> Result<Never, WireError> {
    let shared = &session.shared;
    let mut allowance = TokenBucket::new(RATE.0, RATE.1, shared.now());
    // Those before were made one by one at the beginning.
    let mut id = 4;
    loop {
        let mut pause = Duration::MAX;
        // Only what needs no request may go while too many are open.
        let has_room = lock(open).len() < MOST_OPEN;
        let told = match has_room {
            true => shared.take_from_outbox(),
            false => None,
        };
        let request = match told {
            Some(Outgoing::Answer(id, answer)) => {
                tell(writer, &proto::invocation_result(id, &answer)).await?;
                continue;
            }
            Some(Outgoing::Log(level, target, line)) => {
                let unix = SystemTime::now().duration_since(UNIX_EPOCH);
                let unix = unix.map_or(0, |since| since.as_secs());
                tell(writer, &proto::log(level, &session.name, &line, &target, unix)).await?;
                continue;
            }
            Some(Outgoing::Event(event)) => Some(Request::PublishEvent(event)),
            None if has_room => {
                let frame = shared.look_at_links(|links, now| links.transmit(now));
                shared.engine.ring();
                frame.map(|(peer, packet)| Request::SendMeshPacketToPeer { peer, packet })
            }
            None => None,
        };
        if let Some(request) = request {
            while !allowance.try_take(1, shared.now()) {
                smol::Timer::after(Duration::from_millis(5)).await;
            }
            id += 1;
            let message = request.encode(id, numbers);
            let what = request.name();
            let peer = match request {
                Request::SendMeshPacketToPeer { peer, .. } => Some(peer),
                _ => None,
            };
            lock(open).push_back(Open { id, what, peer });
            tell(writer, &message).await?;
            continue;
        }
        if has_room && let Some(at) = shared.look_at_links(|links, _| links.poll_timeout()) {
            // What is due now was done.
            let left = at.saturating_sub(shared.now()).max(5 * MILLISECOND);
            pause = Duration::from_micros(left);
        }
        let time = async {
            smol::Timer::after(pause).await;
        };
        or(shared.writer.rung(), time).await;
    }
}

async fn tell(writer: &mut WriteHalf<UnixStream>, message: &[u8]) -> Result<(), WireError> {
    match wire::frame(message) {
        Ok(frame) => wire::write(writer, &frame).await,
        Err(error) => {
            tracing::warn!("a message for the node was left out: {error}");
            Ok(())
        }
    }
}

fn unexpected(request: &Request) -> SessionError {
    SessionError::Failed(request.name(), "an answer of another kind".into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
