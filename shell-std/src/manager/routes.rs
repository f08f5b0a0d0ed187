//! Searches for routes whose outcome somebody waits for.

use super::effects::{Core, Drained};
use super::{ManagerError, MeshManager};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{Event, Input, MeshError, NetworkReason, RoutingReason};
use smol::channel::Sender;
use std::collections::{HashMap, VecDeque};

/// Most that wait for outcomes at once.
const MOST_WAITING: usize = 256;

/// Number of intermediate nodes of the route, or why there is none.
type Found = Result<u8, MeshError>;

/// Who waits for the outcomes of which searches.
#[derive(Default)]
pub(super) struct Finders(HashMap<NodeId, Vec<Sender<Found>>>);

impl Finders {
    fn add(&mut self, destination: NodeId, who: Sender<Found>) -> Result<(), MeshError> {
        // Whoever gave up waiting is forgotten.
        self.0.retain(|_, waiting| {
            waiting.retain(|who| !who.is_closed());
            !waiting.is_empty()
        });
        if self.0.values().map(Vec::len).sum::<usize>() >= MOST_WAITING {
            return Err(NetworkReason::TooManyParked.into());
        }
        self.0.entry(destination).or_default().push(who);
        Ok(())
    }

    /// Tells whoever waits for what has happened.
    pub(super) fn tell(&mut self, event: &Event) {
        let (destination, found) = match event {
            Event::RouteDiscovered { destination, hops } => (destination, Ok(*hops)),
            Event::RouteFailed { destination } => (destination, Err(RoutingReason::NoRoute.into())),
            _ => return,
        };
        for who in self.0.remove(destination).unwrap_or_default() {
            // Whoever does not wait any more is not told.
            let _ = who.try_send(found);
        }
    }
}

impl MeshManager {
    /// Searches for a route to a node, or renews the one that is known; gives the number of
    /// intermediate nodes. What it costs to use says [`quote_route_fee`](Self::quote_route_fee).
    ///
    /// # Errors
    /// [`ManagerError::Refused`]: there is none, or no search can begin now.
    pub async fn find_route(&self, destination: NodeId) -> Result<u8, ManagerError> {
        let (who, found) = smol::channel::bounded(1);
        self.give(|core, now| {
            core.finders.add(destination, who.clone()).map_err(ManagerError::Refused)?;
            let Core { mesh, .. } = core;
            mesh.handle(now, Input::FindRoute { destination }).map_err(ManagerError::Misuse)?;
            let mut resumed = VecDeque::new();
            if let Drained::Refused(reason) = core.drain(now, &[], None, &mut resumed) {
                let _ = who.try_send(Err(reason));
            }
            core.settle(now, resumed).map_err(ManagerError::Misuse)
        })?;
        drop(who);
        self.carry_out().await;
        let found = found.recv().await.map_err(|_| ManagerError::Stopping)?;
        found.map_err(ManagerError::Refused)
    }
}
