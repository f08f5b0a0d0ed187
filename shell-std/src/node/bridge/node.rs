//! What the bridge asks of the engine.

use super::super::clock::Clock;
use super::super::engine::Command;
use super::super::progress::OwnSend;
use crate::rpc::types::{Peer, Route};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::MeshError;
use blvm_mesh_core::time::Micros;
use smol::channel::{Receiver, Sender};

/// Members of a group that are told before they are asked for.
const MEMBERS: usize = 16;

/// The engine, which has ended where there is no answer.
#[derive(Debug, Clone)]
pub(in crate::node) struct Node {
    pub(in crate::node) commands: Sender<Command>,
    pub(in crate::node) clock: Clock,
}

impl Node {
    pub(super) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Has a datagram sent.
    pub(super) async fn send(&self, own: OwnSend) -> Option<()> {
        self.commands.send(Command::Send(Box::new(own))).await.ok()
    }

    /// Of the routes to a node that are known now and take the largest packets the cheapest: free
    /// datagrams take the cheapest that is wide enough.
    pub(super) async fn route(&self, to: NodeId) -> Option<Option<Route>> {
        let (who, answer) = smol::channel::bounded(1);
        self.commands.send(Command::WidestRoute(to, who)).await.ok()?;
        answer.recv().await.ok()
    }

    /// The same, after a search where none is known.
    pub(super) async fn find_route(&self, to: NodeId) -> Option<Option<Route>> {
        if let Some(route) = self.route(to).await? {
            return Some(Some(route));
        }
        match self.search(to).await? {
            true => self.route(to).await,
            false => Some(None),
        }
    }

    /// Searches for a node, whether or not a route is known: if it was found.
    pub(super) async fn search(&self, to: NodeId) -> Option<bool> {
        let (found, answer) = smol::channel::bounded(1);
        let find = Command::Find { destination: to, accepted: false, found };
        self.commands.send(find).await.ok()?;
        answer.recv().await.ok()
    }

    /// Gives block headers, the first of this height: the place and the reason of the first that is
    /// refused.
    pub(super) async fn headers(
        &self,
        headers: Vec<[u8; 80]>,
        height: u32,
    ) -> Option<Option<(usize, MeshError)>> {
        let (refused, answer) = smol::channel::bounded(1);
        self.commands.send(Command::Headers { headers, height, refused }).await.ok()?;
        answer.recv().await.ok()
    }

    /// The neighbours with links.
    pub(super) async fn peers(&self) -> Option<Vec<Peer>> {
        let (who, answer) = smol::channel::bounded(1);
        self.commands.send(Command::Peers(who)).await.ok()?;
        answer.recv().await.ok()
    }

    /// Searches for members of a group: who answers, as they do, until nobody can any more.
    pub(super) async fn find_members(&self, group: NodeId) -> Option<Receiver<NodeId>> {
        let (found, told) = smol::channel::bounded(MEMBERS);
        self.commands.send(Command::FindMembers { group, found }).await.ok()?;
        Some(told)
    }
}
