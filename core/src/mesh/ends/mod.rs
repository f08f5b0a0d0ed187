//! The ends of flows at this node: streams that it opens to others, and that others open to it.
//!
//! ```text
//! Input::OpenFlow -> find a route -> buy a step at each hop -> Open -> Opened -> an End (flow/end)
//!                        ^  `source`         `steps`, `held`                        |
//!                        '------------- the route is broken, or a step is used -----'
//! ```
//!
//! An application writes to and reads from [`Mesh::streams`] and then gives [`Input::Streams`];
//! what happens to it is told by [`Action::Flow`]. `destination` takes the Opens of others.
//!
//! What ends have to say and to send is given out when nothing else waits, in turn, and at most
//! [`SENDS`] packets for each input: the links' queues can say in between that they are full.
//!
//! [`Input::Streams`]: super::Input::Streams

mod buying;
mod deposits;
mod destination;
mod held;
mod leaving;
mod opening;
mod price;
mod source;
mod steps;
mod table;

pub use price::{Due, HopPrice};
pub(super) use table::Ends;
pub use table::Streams;

use super::api::{Action, Priority};
use super::control::Refusal;
use super::error::{NetworkReason, PaymentReason, Remedy, RoutingReason};
use super::flow_api::{FlowEnded, FlowEvent, FlowId};
use super::{Mesh, Pending, Tables};
use crate::config::MAX_HOPS;
use crate::flow::end::Event;
use crate::flow::table::{Flow, FlowTableError, Path};
use crate::id::{HopId, LinkId, NodeId};
use crate::link::lane::Lane;
use crate::tables::{List, Memory};
use crate::time::Micros;
use crate::wire::flow::{self, FlowError};
use crate::wire::route_error::Cause;
use crate::wire::{HEADER_LEN, Kind};
use table::Role;

/// Most packets that ends send before the next input.
const SENDS: usize = 64;
/// Largest packet of an end, in bytes: what is lost with one is sent again.
const MAX_PACKET: usize = 16 * 1024;
/// Where packets of an end go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    /// The neighbour.
    hop: HopId,
    /// Nodes between both ends.
    between: u8,
}

impl<M: Memory> Mesh<M> {
    /// Takes flows of others from now on, or no more.
    pub(super) fn accept_flows(&mut self, accept: bool) {
        self.absorb();
        self.tables.ends.accepts = accept;
    }

    /// An own Open was stopped on its way; true if it was one.
    pub(super) fn open_stopped(&mut self, number: u64, reporter: HopId, cause: Cause) -> bool {
        let is_own = self.tables.ends.source(number).is_some();
        if is_own {
            self.flow_interrupted(number, Some(reporter), cause);
        }
        is_own
    }

    /// The streams of a flow that is open at this node. Give [`Input::Streams`] when they were
    /// written to or read from.
    ///
    /// [`Input::Streams`]: super::Input::Streams
    pub fn streams(&mut self, flow: FlowId) -> Option<Streams<'_>> {
        let end = self.tables.ends.get_mut(flow.0)?.end.as_mut()?;
        Some(Streams::new(end))
    }

    /// What is known of the flows that end at this node.
    pub fn own_flows(&self) -> impl Iterator<Item = super::view::OwnFlow> {
        self.tables.ends.iter().map(|(number, end)| end.view(number))
    }

    /// The application has used the streams of a flow.
    pub(super) fn streams_used(&mut self, flow: FlowId) {
        self.absorb();
        self.touch(flow.0);
    }

    /// Has what an end has to tell and to send given out.
    fn touch(&mut self, number: u64) {
        self.tables.ends.make_ready(number);
    }

    /// Tells the application something about a flow.
    fn tell(&mut self, number: u64, event: FlowEvent) {
        self.act(Action::Flow { flow: FlowId(number), event });
    }

    /// Does one thing that an end has to tell or to send; false if there is none.
    pub(super) fn pump(&mut self) -> bool {
        while let Some(number) = self.tables.ends.next_ready() {
            if self.pump_end(number) {
                return true;
            }
        }
        false
    }

    fn pump_end(&mut self, number: u64) -> bool {
        let now = self.now;
        if self.work(number) {
            // What it has to send follows in its turn.
            self.tables.ends.make_ready(number);
            return true;
        }
        let Some(entry) = self.tables.ends.get_mut(number) else { return false };
        let owes = entry.end.as_ref().is_some_and(|end| end.owes_farewell());
        // Before its application is told, which may drop it.
        if owes && self.send_data(number, now) {
            return true;
        }
        let Some(entry) = self.tables.ends.get_mut(number) else { return false };
        let Some(end) = entry.end.as_mut() else { return false };
        if let Some(event) = end.poll_event() {
            self.tables.ends.make_ready(number);
            match event {
                Event::Ended(reason) => self.ended(number, reason),
                event => self.tell(number, FlowEvent::Stream(event)),
            }
            return true;
        }
        let sent = self.send_data(number, now);
        self.schedule(number);
        sent
    }

    /// Sends the next packet of an end; false if there is none, or no way for it.
    fn send_data(&mut self, number: u64, now: Micros) -> bool {
        let Tables { ends, routing, flows, .. } = &mut *self.tables;
        if ends.sends_left == 0 {
            ends.make_ready(number);
            return false;
        }
        let Some(entry) = ends.get_mut(number) else { return false };
        // A farewell came over it, and is answered there.
        let answers = entry.is_leaving() && !entry.is_telling();
        let Some(way) = entry.way.filter(|_| answers || !entry.stopped) else { return false };
        let priority = if entry.is_paid() { Priority::Paid } else { Priority::Free };
        let lane = if entry.is_paid() { Lane::Paid } else { Lane::Free };
        let Some(neighbour) = routing.neighbours.live(way.hop) else {
            if matches!(entry.role, Role::Source(_)) {
                self.flow_interrupted(number, None, Cause::NextHopGone);
            }
            return false;
        };
        if neighbour.is_full(lane) {
            ends.block(number);
            return false;
        }
        let link = neighbour.link;
        let size = (HEADER_LEN + MAX_PACKET).min(neighbour.max_packet as usize);
        let flow = flows.find(way.hop, number);
        // A destination that takes something for receiving counts what it sends, too.
        let metered = flow.filter(|(at, _)| flows.get_mut(*at).is_some_and(|f| f.metered));
        let (size, metered) = match metered {
            Some((at, _)) => (size.min(self.can_spend(at, size)), Some(at)),
            None => (size, None),
        };
        let Tables { ends, flows, head, .. } = &mut *self.tables;
        let Some(entry) = ends.get_mut(number) else { return false };
        while head.len() < size && head.try_push(0).is_ok() {}
        let size = size.min(head.len());
        let Some(end) = entry.end.as_mut() else { return false };
        let body = head.get_mut(HEADER_LEN..size).unwrap_or_default();
        let Some(len) = end.poll_transmit(now, body) else { return false };
        let written = flow::write_in_place(Kind::Data, number, way.between, len, head);
        if let Some((at, _)) = flows.find(way.hop, number)
            && let Some(flow) = flows.get_mut(at)
        {
            flow.heard = flow.heard.max(now);
        }
        let Ok(len) = written else { return false };
        let after =
            metered.and_then(|at| self.tables.flows.get_mut(at)?.spend(flow::metered(len))?);
        self.head_len = len;
        self.tables.ends.sent_one();
        self.tables.ends.make_ready(number);
        self.push(Pending::Send { link, priority, after });
        true
    }

    /// Sets when an end is looked at next.
    fn schedule(&mut self, number: u64) {
        let now = self.now;
        let Some(entry) = self.tables.ends.get_mut(number) else { return };
        if let Some(end) = &mut entry.end
            && let Some(due) = end.next_timeout().filter(|due| *due <= now)
        {
            end.handle_timeout(now);
            // What could not be sent stays due, and waits for whatever holds it up.
            if end.next_timeout() != Some(due) {
                self.tables.ends.make_ready(number);
            }
        }
        let Some(entry) = self.tables.ends.get(number) else { return };
        let due = entry.next_due(now);
        self.tables.ends.set_due(number, due);
        if let Some(due) = due {
            self.wake_at(due);
        }
    }

    /// Does what is due at one end; false if nothing is.
    pub(super) fn fire_end(&mut self) -> bool {
        let now = self.now;
        let Some(number) = self.tables.ends.take_due(now) else { return false };
        let Some(entry) = self.tables.ends.get_mut(number) else { return true };
        let is_source = matches!(entry.role, Role::Source(_));
        if entry.is_leaving() {
            self.leave(number);
        } else if entry.idle_at() <= now {
            self.drop_end(number, Some(FlowEnded::Idle));
        } else if is_source {
            self.source_due(number);
        }
        self.touch(number);
        self.schedule(number);
        true
    }

    /// When the next end is due.
    pub(super) fn next_end_due(&self) -> Option<Micros> {
        self.tables.ends.next_due()
    }

    /// Which end must go so that there is room for another: none, or one that is over and waits
    /// only for its peer to hear of it. `via`: the neighbour that brings the flow, and its share.
    fn room_for_end(&self, via: Option<(HopId, usize)>) -> Result<Option<u64>, FlowTableError> {
        let Tables { ends, flows, .. } = &*self.tables;
        let taken = via.is_some_and(|(hop, share)| ends.count_via(hop) >= share);
        let refused = match via {
            Some(_) if taken => Err(FlowTableError::ShareTaken),
            Some((hop, share)) => flows.room(Some(hop), share),
            None => Ok(()),
        };
        match refused {
            Err(why) => ends.dispensable(via.map(|(hop, _)| hop)).map(Some).ok_or(why),
            Ok(()) if !ends.is_full() => Ok(None),
            Ok(()) => ends.dispensable(None).map(Some).ok_or(FlowTableError::Full),
        }
    }

    /// Enters this node's end of a path among the flows.
    fn enter_path(&mut self, flow: Flow, way: Way) {
        if let Some((at, _)) = self.tables.flows.find(way.hop, flow.number) {
            self.end_flow(at, false);
        }
        self.wake_at(flow.heard.saturating_add(flow.idle));
        self.tables.flows.insert(flow);
    }

    /// A packet of a flow that ends here.
    pub(super) fn end_packet(
        &mut self,
        link: LinkId,
        flow: &Flow,
        kind: Kind,
        error: Option<FlowError>,
        packet: &mut [u8],
    ) -> Result<(), Refusal> {
        let (number, now, size) = (flow.number, self.now, packet.len());
        let hop = flow.path.from.or(flow.path.to).unwrap_or_default();
        let unknown = || (RoutingReason::FlowUnknown.into(), Remedy::Ignore);
        let body = packet.get_mut(HEADER_LEN..).unwrap_or_default();
        if kind != Kind::Data && !self.take_control(link, None, HEADER_LEN as u64) {
            return Err((NetworkReason::ControlQuota.into(), Remedy::Ignore));
        }
        let entry = self.tables.ends.get_mut(number).ok_or_else(unknown)?;
        match kind {
            Kind::Data => {
                let cost = flow::metered(size);
                let at = flow.metered.then(|| self.tables.flows.find(hop, number)).flatten();
                if let Some((at, _)) = at
                    && (self.can_spend(at, size) as u64) < cost
                {
                    let reason = PaymentReason::NothingLeft.into();
                    self.report_flow(link, number, flow.path.behind, &reason);
                    return Err((reason, Remedy::Ignore));
                }
                let entry = self.tables.ends.get_mut(number).ok_or_else(unknown)?;
                let end = entry.end.as_mut().ok_or_else(unknown)?;
                let taken = end.receive(now, body);
                if taken.is_ok() {
                    entry.heard_from(now);
                    if let Some((at, _)) = at
                        && let Some(flow) = self.tables.flows.get_mut(at)
                    {
                        flow.spend(cost);
                    }
                }
                self.touch(number);
                match taken {
                    // Not authentic, late, or behind the end: whoever sent it, nothing follows.
                    Err(ignored) => {
                        return Err((NetworkReason::Sealed(ignored).into(), Remedy::Ignore));
                    }
                    Ok(()) => self.absorb(),
                }
            }
            Kind::Opened => {
                let act = body.first_chunk().copied().ok_or_else(unknown)?;
                self.absorb();
                self.flow_opened(number, &act);
            }
            Kind::Close => {
                // Any relay can say so: the path is gone, and the streams wait for another.
                let is_source = matches!(entry.role, Role::Source(_));
                self.absorb();
                match is_source {
                    true => self.flow_interrupted(number, None, Cause::NextHopGone),
                    false => self.path_lost(number, flow),
                }
            }
            _ => {
                self.absorb();
                if let Some(FlowError { reporter, cause }) = error {
                    self.flow_interrupted(number, Some(reporter), cause);
                }
            }
        }
        Ok(())
    }

    /// The path of an end is gone.
    fn path_lost(&mut self, number: u64, flow: &Flow) {
        let Path { from, to, .. } = flow.path;
        if let Some(hop) = from.or(to)
            && let Some((at, _)) = self.tables.flows.find(hop, number)
        {
            self.end_flow(at, false);
        }
        if let Some(entry) = self.tables.ends.get_mut(number) {
            entry.way = None;
            // One that was closed here waits for its source to open the flow again.
            if entry.is_leaving() && !entry.is_telling() {
                self.drop_end(number, None);
            }
        }
    }

    /// A flow that ends here was idle for as long as its Open said, and its place is gone.
    pub(super) fn own_flow_idle(&mut self, flow: &Flow) {
        if self.tables.ends.get_mut(flow.number).is_some() {
            self.drop_end(flow.number, Some(FlowEnded::Idle));
        }
    }

    /// A neighbour is gone.
    pub(super) fn neighbour_gone(&mut self, node: &NodeId) {
        for number in self.tables.ends.by_way(node.hop()) {
            self.flow_interrupted(number, None, Cause::NextHopGone);
        }
    }

    /// A neighbour is there, perhaps again.
    pub(super) fn neighbour_up(&mut self, node: &NodeId) {
        self.unblock_ends();
        for number in self.tables.ends.by_way(node.hop()) {
            self.renew_farewell(number);
            self.touch(number);
        }
    }

    /// The queue of a link has room again.
    pub(super) fn unblock_ends(&mut self) {
        self.tables.ends.unblock();
    }
}

/// Nodes of a route, as a packet lists them.
type Hops = heapless::Vec<HopId, MAX_HOPS>;
