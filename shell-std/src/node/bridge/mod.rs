//! Bitcoin's P2P connections over the mesh: a node behind a bad line connects to its own mesh node
//! (`client`), and a gateway leads it on to a Bitcoin node that it reaches (`gateway`).
//!
//! ```text
//! bitcoind -> client -> connection -> channel ~~ free datagrams ~~ channel -> connection -> bitcoind
//! ```
//!
//! What passes is nothing but whole messages of Bitcoin's protocol, so that relays take it for
//! nothing, judge it as everything else, and need know nothing of connections.

mod client;
mod connection;
mod gateway;
mod node;
mod shared;
mod transactions;

use crate::bridge::outbox::Outbox;
use crate::bridge::table::{Arrivals, Table};
use crate::chain::ChainSource;
use crate::config::Settings;
pub(super) use node::Node;
use shared::Bridge;
use smol::net::TcpListener;
use smol::{Executor, Task};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

fn bind(address: SocketAddr) -> Result<TcpListener, (SocketAddr, io::Error)> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::try_from(listener)
    });
    bound.map_err(|error| (address, error))
}

/// Starts what the settings ask for. Dropping the tasks ends it.
///
/// # Errors
/// An address cannot be listened on.
pub(super) fn start(
    node: Node,
    settings: &Settings,
    (table, arrivals): (Arc<Table>, Arrivals),
    outbox: Arc<Outbox>,
    executor: &Arc<Executor<'static>>,
) -> Result<Vec<Task<()>>, (SocketAddr, io::Error)> {
    let listeners = settings.bridge.listen.iter().map(|address| bind(*address));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let network = settings.config.network;
    let source = settings.chain.clone().map(|chain| Arc::new(ChainSource::new(chain, network)));
    let bridge = Arc::new(Bridge::new(node, settings, table, executor.clone()));
    let mut tasks = vec![
        executor.spawn(gateway::refuse(bridge.clone(), arrivals.resets)),
        executor.spawn(transactions::run(bridge.clone(), outbox, arrivals.about, source)),
    ];
    if settings.bridge.node.is_some() {
        tasks.push(executor.spawn(gateway::accept(bridge.clone(), arrivals.accepted)));
    }
    for listener in listeners {
        tasks.push(executor.spawn(client::listen(bridge.clone(), listener)));
    }
    Ok(tasks)
}
