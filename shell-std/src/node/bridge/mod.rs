//! Bitcoin's P2P connections over the mesh: a node behind a bad line connects to its own mesh node
//! (`client`), and a gateway leads it on to a Bitcoin node that it reaches (`gateway`).
//!
//! ```text
//! bitcoind -> client -> connection -> channel ~~ free datagrams ~~ channel -> connection -> bitcoind
//! ```
//!
//! What passes is nothing but whole messages of Bitcoin's protocol, so that relays take it for
//! nothing, judge it as everything else, and need know nothing of connections.
//!
//! A gateway also answers by its Bitcoin node (`peer`, or JSON-RPC) what others ask about transactions
//! (`transactions`, `verdicts`) and headers (`headers`, `announce`).

mod announce;
mod client;
mod connection;
mod gateway;
mod gateways;
mod headers;
mod node;
mod peer;
mod questions;
mod recent;
mod shared;
mod transactions;
mod verdicts;

use crate::bridge::HeaderStatus;
use crate::bridge::outbox::Outbox;
use crate::bridge::table::{About, Arrivals, Table};
use crate::chain::ChainSource;
use crate::config::Settings;
use crate::headers::Chain;
use announce::Followers;
use headers::HeaderSync;
pub(super) use node::Node;
use peer::BitcoinPeer;
use questions::Questions;
use recent::Recent;
use shared::Bridge;
use smol::channel::Receiver;
use smol::net::TcpListener;
use smol::{Executor, Task};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use verdicts::Source;

/// File of the headers in the data directory.
const HEADER_FILE: &str = "headers.dat";
/// Questions that are answered at once.
const ANSWERERS: usize = 4;

fn bind(address: SocketAddr) -> Result<TcpListener, (SocketAddr, io::Error)> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::try_from(listener)
    });
    bound.map_err(|error| (address, error))
}

/// What is known, and asked about by clients.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) outbox: Arc<Outbox>,
    pub(super) headers: Arc<HeaderStatus>,
}

/// Starts what the settings ask for. Dropping the tasks ends it.
///
/// # Errors
/// An address cannot be listened on.
pub(super) fn start(
    node: Node,
    settings: &Settings,
    (table, arrivals): (Arc<Table>, Arrivals),
    known: Known,
    executor: &Arc<Executor<'static>>,
) -> Result<Vec<Task<()>>, (SocketAddr, io::Error)> {
    let listeners = settings.bridge.listen.iter().map(|address| bind(*address));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let network = settings.config.network;
    let rpc = settings.chain.clone().map(|chain| Arc::new(ChainSource::new(chain, network)));
    let bridge = Arc::new(Bridge::new(node, settings, table, executor.clone()));
    let Arrivals { accepted, resets, about, headers } = arrivals;
    let file = settings.data_dir.join(HEADER_FILE);
    let mut tasks = vec![
        executor.spawn(gateway::refuse(bridge.clone(), resets)),
        executor.spawn(know(bridge.clone(), known, (about, headers), rpc, file)),
    ];
    if settings.bridge.node.is_some() {
        tasks.push(executor.spawn(gateway::accept(bridge.clone(), accepted)));
    }
    for listener in listeners {
        tasks.push(executor.spawn(client::listen(bridge.clone(), listener)));
    }
    Ok(tasks)
}

/// Transactions and headers: what this node wants to know of them, and what others do.
async fn know(
    bridge: Arc<Bridge>,
    known: Known,
    (about, of_headers): (Receiver<About>, Receiver<About>),
    rpc: Option<Arc<ChainSource>>,
    file: PathBuf,
) {
    let executor = bridge.executor.clone();
    // Dropped with this one.
    let mut tasks = Vec::new();
    let sync = follow(&bridge, &known, file).await;
    let own = bridge.settings.node.filter(|_| sync.is_some());
    let peer = own.map(|address| {
        let peer = Arc::new(BitcoinPeer::new(address, bridge.magic, rpc.is_none()));
        let kept = peer.clone();
        tasks.push(executor.spawn(async move { kept.run().await }));
        peer
    });
    let followers = Arc::<Followers>::default();
    match (&peer, &sync) {
        (Some(peer), Some(sync)) => {
            let questions = Arc::<Questions>::default();
            tasks.push(executor.spawn(announce::sort(of_headers, questions.clone())));
            for _ in 0..ANSWERERS {
                let (peer, bridge) = (peer.clone(), bridge.clone());
                let (questions, followers) = (questions.clone(), followers.clone());
                let answering = announce::answer(bridge, peer, questions, followers);
                tasks.push(executor.spawn(answering));
            }
            tasks.push(executor.spawn(sync.clone().follow_own(peer.clone())));
        }
        (None, Some(sync)) => {
            tasks.push(executor.spawn(sync.clone().follow_gateways(of_headers)));
        }
        (_, None) => {}
    }
    if let Some(sync) = &sync {
        let telling = announce::tell(bridge.clone(), sync.clone(), followers);
        tasks.push(executor.spawn(telling));
    }
    let recent = peer.zip(sync.clone()).map(|(peer, sync)| Recent::new(peer, sync));
    let rpc = rpc.filter(|_| bridge.settings.node.is_some());
    let asked = rpc.is_some() || recent.is_some();
    let source = asked.then(|| Arc::new(Source { rpc, recent }));
    let questions = source.map(|source| {
        let questions = Arc::<Questions>::default();
        for _ in 0..ANSWERERS {
            let answering = verdicts::answer(bridge.clone(), source.clone(), questions.clone());
            tasks.push(executor.spawn(answering));
        }
        questions
    });
    transactions::run(bridge, known.outbox, about, questions, sync).await;
}

/// Opens the chain of headers, if one is to be kept.
async fn follow(bridge: &Arc<Bridge>, known: &Known, file: PathBuf) -> Option<Arc<HeaderSync>> {
    let root = bridge.settings.headers?;
    let (network, path) = (bridge.scope.own.network, file.clone());
    match smol::unblock(move || Chain::open(&path, network, root)).await {
        Ok(chain) => {
            let Known { outbox, headers } = known.clone();
            Some(HeaderSync::start(bridge.clone(), chain, headers, outbox).await)
        }
        Err(error) => {
            let path = file.display();
            tracing::error!(%path, %error, "no block headers are kept: the file cannot be used");
            None
        }
    }
}
