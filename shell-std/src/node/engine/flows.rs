//! The flows that end at this node: between their applications and the state machine.

use super::Engine;
use super::shell::{Origin, Outcome};
use crate::flows::hub::Ask;
use crate::rpc::types::{Happened, Topic};
use crate::wallet::Kept;
use blvm_mesh_core::mesh::{FlowEvent, FlowId, Input};
use blvm_mesh_core::time::Micros;

impl Engine {
    /// What was paid for before this run is asked for.
    pub(crate) fn ask_for(&mut self, kept: Vec<Kept>) {
        for kept in kept {
            let Kept { node, promise, preimage, .. } = kept;
            let (now, input) = (self.shell.clock.now(), Input::Paid { node, promise, preimage });
            if let Outcome::Buying(ticket) = self.drive(now, input, Origin::Other) {
                self.shell.payments.again(ticket, &kept);
            }
        }
    }

    /// An application asks for something.
    pub(super) fn flow_ask(&mut self, now: Micros, ask: Ask) {
        if let Some(input) = self.hub.ask(&mut self.mesh, ask) {
            self.flow_input(now, input);
        }
        self.settle(now);
    }

    /// Something has happened to a flow.
    pub(super) fn flow_event(&mut self, now: Micros, flow: FlowId, event: FlowEvent) {
        if let Some(happened) = self.of_flow(flow, &event) {
            self.shell.events.tell(Topic::Flows, happened);
        }
        if let Some(input) = self.hub.event(&mut self.mesh, flow, event) {
            self.flow_input(now, input);
        }
    }

    /// What clients are told of it.
    fn of_flow(&self, flow: FlowId, event: &FlowEvent) -> Option<Happened> {
        let (number, peer) = (hex::encode(flow.0.to_le_bytes()), self.hub.peer(flow));
        Some(match *event {
            FlowEvent::Accepted { source: peer } => {
                Happened::FlowOpened { flow: number, peer, opened: false }
            }
            FlowEvent::Opened => Happened::FlowOpened { flow: number, peer: peer?, opened: true },
            FlowEvent::Stream(_) => return None,
            FlowEvent::Interrupted { node, cause } => {
                let cause = cause.to_string();
                Happened::FlowInterrupted { flow: number, peer: peer?, node, cause }
            }
            FlowEvent::BudgetSpent => Happened::FlowBudgetSpent { flow: number, peer: peer? },
            FlowEvent::Ended(why) => {
                Happened::FlowEnded { flow: number, peer: peer?, cause: why.to_string() }
            }
        })
    }

    fn flow_input(&mut self, now: Micros, input: Input<'static>) {
        match self.drive(now, input, Origin::Other) {
            Outcome::Opening(flow) => self.hub.opening(flow),
            Outcome::Refused(reason) => self.hub.refused(reason),
            _ => {}
        }
    }
}
