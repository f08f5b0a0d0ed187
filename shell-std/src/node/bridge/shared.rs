//! What the tasks of a bridge share.

use super::super::progress::{OwnSend, Progress};
use super::node::Node;
use crate::bridge::BridgeSettings;
use crate::bridge::control;
use crate::bridge::message::Magic;
use crate::bridge::table::{Table, lock};
use crate::config::Settings;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{MeshError, NetworkReason};
use blvm_mesh_core::policy::OwnNetwork;
use blvm_mesh_core::policy::detect::Scope;
use blvm_mesh_core::wire::datagram::head_len;
use smol::Executor;
use smol::channel::Receiver;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the largest packet of a route is taken for known.
const ROUTE_KNOWN: Duration = Duration::from_secs(10);
/// Nodes whose routes are known before old ones are forgotten.
const MOST_ROUTES: usize = 256;
/// How long a gateway is passed over, where there are others, that has failed.
const AVOIDED: Duration = Duration::from_secs(30);
/// Pause between two searches for whoever is to be answered.
const SEARCH_PAUSE: Duration = Duration::from_secs(2);
/// News of one datagram: sent or refused, and stopped.
const REPORTS: usize = 2;
/// Intermediate nodes of a route that is not known yet.
const USUAL_HOPS: usize = 8;

/// Settings, connections, and what is known of other nodes.
pub(super) struct Bridge {
    pub(super) node: Node,
    pub(super) settings: BridgeSettings,
    pub(super) table: Arc<Table>,
    pub(super) magic: Magic,
    /// Messages that Bitcoin nodes at this end may send.
    pub(super) scope: Scope,
    pub(super) executor: Arc<Executor<'static>>,
    /// Largest packet of this node, in bytes.
    max_packet: u32,
    /// Bytes of messages that one datagram carries to each node, and since when that is known.
    routes: Mutex<HashMap<NodeId, (Instant, usize)>>,
    /// Gateways that the last search found, the nearest first, and when.
    pub(super) gateways: smol::lock::Mutex<Option<(Instant, Vec<NodeId>)>>,
    /// Gateways that have failed, and when.
    avoided: Mutex<HashMap<NodeId, Instant>>,
    /// When a route was last searched for to answer.
    searched: Mutex<Option<Instant>>,
}

/// Bytes of messages that a route carries in one datagram.
fn room(min_packet: u32, hops: usize) -> usize {
    (min_packet as usize).saturating_sub(head_len(hops, 0) + control::MAX_LEN)
}

impl Bridge {
    pub(super) fn new(
        node: Node,
        settings: &Settings,
        table: Arc<Table>,
        executor: Arc<Executor<'static>>,
    ) -> Self {
        let config = &settings.config;
        let own = OwnNetwork { magic: config.magic, ..OwnNetwork::new(config.network) };
        Self {
            node,
            settings: settings.bridge.clone(),
            table,
            magic: config.magic,
            scope: Scope { own, own_network_only: true, ..Scope::default() },
            executor,
            max_packet: config.max_packet,
            routes: Mutex::default(),
            gateways: smol::lock::Mutex::default(),
            avoided: Mutex::default(),
            searched: Mutex::default(),
        }
    }

    /// Bytes of messages that one datagram to a node carries, as far as it is known.
    pub(super) fn largest(&self, peer: &NodeId) -> usize {
        let known = lock(&self.routes).get(peer).map(|(_, most)| *most);
        known.unwrap_or_else(|| room(self.max_packet, USUAL_HOPS))
    }

    /// The same, asked anew where that was long ago. `None`: the node is stopping.
    pub(super) async fn route(&self, peer: &NodeId) -> Option<usize> {
        if let Some((at, most)) = lock(&self.routes).get(peer)
            && at.elapsed() < ROUTE_KNOWN
        {
            return Some(*most);
        }
        let Some(route) = self.node.find_route(*peer).await? else {
            return Some(self.largest(peer));
        };
        let most = room(route.min_packet, route.hops.len());
        let mut routes = lock(&self.routes);
        if routes.len() >= MOST_ROUTES {
            routes.retain(|_, (at, _)| at.elapsed() < ROUTE_KNOWN);
        }
        routes.insert(*peer, (Instant::now(), most));
        Some(most)
    }

    /// What is known of the route to a node is wrong.
    pub(super) fn forget_route(&self, peer: &NodeId) {
        lock(&self.routes).remove(peer);
    }

    /// Passes a gateway over for a while, where there are others.
    pub(super) fn avoid(&self, gateway: NodeId) {
        lock(&self.avoided).insert(gateway, Instant::now());
    }

    pub(super) fn is_avoided(&self, gateway: &NodeId) -> bool {
        let mut avoided = lock(&self.avoided);
        avoided.retain(|_, since| since.elapsed() < AVOIDED);
        avoided.contains_key(gateway)
    }

    /// Answers a node that nobody here has looked for. Where there is no route to it, one is searched
    /// for only now and then: any source can be named, and a search asks the whole mesh.
    pub(super) async fn answer(&self, to: NodeId, payload: Vec<u8>) {
        if matches!(self.node.route(to).await, Some(Some(_))) || self.may_search() {
            self.send_once(to, payload).await;
        }
    }

    /// The same with as much as the route carries: `payload` is told how many bytes of messages.
    pub(super) async fn answer_fitting(&self, to: NodeId, payload: impl FnOnce(usize) -> Vec<u8>) {
        let route = match self.node.route(to).await {
            Some(Some(route)) => Some(route),
            Some(None) if self.may_search() => self.node.find_route(to).await.flatten(),
            _ => None,
        };
        if let Some(route) = route {
            self.send_once(to, payload(room(route.min_packet, route.hops.len()))).await;
        }
    }

    /// Looks for other routes to a node than those that are known: whether one was found.
    pub(super) async fn search_again(&self, node: NodeId) -> bool {
        self.may_search() && self.node.search(node).await == Some(true)
    }

    /// Whether a route may be searched for on behalf of others now.
    fn may_search(&self) -> bool {
        let now = Instant::now();
        let mut searched = lock(&self.searched);
        let may = searched.is_none_or(|at| now.duration_since(at) >= SEARCH_PAUSE);
        if may {
            *searched = Some(now);
        }
        may
    }

    /// Sends a datagram, and waits until it is on its way or refused; further news of it come from
    /// the receiver. `None`: the node is stopping.
    pub(super) async fn send(
        &self,
        destination: NodeId,
        payload: Vec<u8>,
    ) -> Option<(Result<(), MeshError>, Receiver<Progress>)> {
        let (progress, told) = smol::channel::bounded(REPORTS);
        self.node.send(OwnSend::free(destination, payload, progress)).await?;
        match told.recv().await {
            Ok(Progress::Refused(reason)) => Some((Err(reason), told)),
            Ok(_) => Some((Ok(()), told)),
            // It was dropped, and nobody told why.
            Err(_) => Some((Err(NetworkReason::Congested.into()), told)),
        }
    }

    /// Sends a datagram of which nothing more is heard here.
    pub(super) async fn send_once(&self, destination: NodeId, payload: Vec<u8>) {
        let (progress, _) = smol::channel::bounded(1);
        // Without an answer it is sent again.
        let _ = self.node.send(OwnSend::free(destination, payload, progress)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::Clock;
    use super::super::super::engine::Command;
    use super::super::super::tests::settings;
    use super::*;
    use blvm_mesh_core::policy::MeshMode;

    #[test]
    fn sources_that_are_made_up_have_few_routes_searched_for() {
        let settings = settings(MeshMode::BitcoinOnly);
        let (commands, asked) = smol::channel::bounded(8);
        let clock = Clock::new();
        let (table, _arrivals) = Table::new(settings.config.magic, 0);
        let node = Node { commands, clock };
        let bridge = Bridge::new(node, &settings, table, Arc::new(Executor::new()));
        let engine = async {
            let mut sent = 0;
            while let Ok(command) = asked.recv().await {
                match command {
                    Command::WidestRoute(_, who) => _ = who.try_send(None),
                    Command::Send(_) => sent += 1,
                    _ => panic!("another command"),
                }
            }
            sent
        };
        let answers = async {
            for n in 0..100 {
                bridge.answer(NodeId([n; 32]), Vec::new()).await;
            }
            bridge.node.commands.close();
        };
        let (sent, ()) = smol::block_on(smol::future::zip(engine, answers));
        assert_eq!(sent, 1);
    }
}
