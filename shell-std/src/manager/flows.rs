//! The flows that end at the host's node.

use super::effects::{Core, Drained};
use super::{ManagerError, MeshManager};
use crate::flows::Flows;
use crate::flows::hub::Ask;
use blvm_mesh_core::mesh::{Input, Misuse, Ticket};
use blvm_mesh_core::time::Micros;
use std::collections::VecDeque;

impl Core {
    /// Does what follows from an input: packets that were waited for, and what flows have come to.
    pub(super) fn settle(&mut self, now: Micros, resumed: VecDeque<Ticket>) -> Result<(), Misuse> {
        self.resume(now, resumed)?;
        while let Some((flow, event)) = self.flow_events.pop_front() {
            if let Some(input) = self.hub.event(&mut self.mesh, flow, event) {
                self.flow_input(now, input)?;
            }
        }
        Ok(())
    }

    fn flow_input(&mut self, now: Micros, input: Input<'static>) -> Result<(), Misuse> {
        self.mesh.handle(now, input)?;
        let mut resumed = VecDeque::new();
        match self.drain(now, &[], None, &mut resumed) {
            Drained::Opening(flow) => self.hub.opening(flow),
            Drained::Refused(reason) => self.hub.refused(reason),
            Drained::Done | Drained::Buying(_) | Drained::Parked(_) => {}
        }
        self.resume(now, resumed)
    }

    fn ask(&mut self, now: Micros, ask: Ask) -> Result<(), Misuse> {
        if let Some(input) = self.hub.ask(&mut self.mesh, ask) {
            self.flow_input(now, input)?;
        }
        self.settle(now, VecDeque::new())
    }
}

impl MeshManager {
    /// Opens flows to other nodes, and takes those that others open, as long as
    /// [`run`](Self::run) runs.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Does what applications ask of their flows.
    pub(super) async fn serve_flows(&self) {
        let asks = self.lock().hub.asks.clone();
        while let Ok(ask) = asks.recv().await {
            let done = self.give(|core, now| core.ask(now, ask).map_err(ManagerError::Misuse));
            self.log(done);
            self.carry_out().await;
        }
    }
}
