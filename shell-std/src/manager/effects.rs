//! The state machine and what its actions ask for: collected under the lock; `perform.rs` carries
//! it out without it.

use super::routes::Finders;
use super::{SentPacket, Verdict};
use crate::covenant::settlement_of;
use crate::flows::hub::Hub;
use crate::node::Delivery;
use crate::repeats::{Repeats, patience};
use crate::wallet::{Bill, Kept, Underway};
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::mesh::{
    self, Action, Event, FlowEvent, FlowId, HostMesh, Input, MeshError, Misuse, NetworkReason,
    Priority, Remedy, Ticket,
};
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::Micros;
use std::collections::{HashMap, VecDeque};

/// Most bytes of packets that wait for an answer.
const MOST_PARKED_BYTES: usize = 64 * 1024 * 1024;

/// What became of a datagram of our own.
pub(super) enum Outcome {
    Sent(SentPacket),
    Refused(MeshError),
}

/// A datagram of our own.
pub(super) struct Given {
    pub(super) destination: NodeId,
    pub(super) payload: Vec<u8>,
    pub(super) proof: Vec<u8>,
    pub(super) who: smol::channel::Sender<Outcome>,
}

impl Given {
    fn tell(&self, outcome: Outcome) {
        // Whoever does not wait any more is not told.
        let _ = self.who.try_send(outcome);
    }
}

pub(super) enum Waiting {
    Packet(LinkId, Vec<u8>),
    Own(Given),
}

impl Waiting {
    fn len(&self) -> usize {
        match self {
            Self::Packet(_, bytes) => bytes.len(),
            Self::Own(own) => own.payload.len() + own.proof.len(),
        }
    }
}

/// Something to be done outside the lock.
pub(super) enum Effect {
    Send {
        link: LinkId,
        priority: Priority,
        bytes: Vec<u8>,
        after: Option<u64>,
        own: Option<(smol::channel::Sender<Outcome>, SentPacket)>,
    },
    Deliver {
        delivery: Delivery,
        after: Option<u64>,
    },
    Publish(Event),
    /// Broadcast what pays this node.
    Settle {
        transaction: Box<bitcoin::Transaction>,
        after: Option<u64>,
    },
    Persist {
        number: u64,
        record: Record,
    },
    Ask {
        ticket: Ticket,
        block: [u8; 32],
    },
    Invoice {
        ticket: Ticket,
        amount_msat: u64,
        expiry_s: u32,
    },
    Pay {
        ticket: Ticket,
        bill: Bill,
    },
    Close {
        link: LinkId,
        reason: MeshError,
    },
}

/// The state machine with what it needs at hand.
pub(super) struct Core {
    pub(super) mesh: HostMesh,
    pub(super) effects: Vec<Effect>,
    pub(super) until: Option<Micros>,
    by_peer: HashMap<String, LinkId>,
    pub(super) by_link: HashMap<LinkId, String>,
    last_link: LinkId,
    parked: HashMap<Ticket, Waiting>,
    parked_bytes: usize,
    /// Own paid datagrams that may have to be sent again.
    pub(super) repeats: Repeats,
    pub(super) purchases: Underway,
    pub(super) finders: Finders,
    pub(super) hub: Hub,
    pub(super) flow_events: VecDeque<(FlowId, FlowEvent)>,
}

impl Core {
    pub(super) fn new(mesh: HostMesh, hub: Hub) -> Self {
        Self {
            mesh,
            finders: Finders::default(),
            hub,
            flow_events: VecDeque::new(),
            effects: Vec::new(),
            until: None,
            by_peer: HashMap::new(),
            by_link: HashMap::new(),
            last_link: LinkId(0),
            parked: HashMap::new(),
            parked_bytes: 0,
            repeats: Repeats::default(),
            purchases: Underway::default(),
        }
    }

    pub(super) fn link(&self, peer: &str) -> Option<LinkId> {
        self.by_peer.get(peer).copied()
    }

    /// A number for a new link, unless the peer has one.
    pub(super) fn connect(&mut self, peer: &str) -> Option<LinkId> {
        if self.by_peer.contains_key(peer) {
            return None;
        }
        let link = self.last_link.next(|id| self.by_link.contains_key(&id));
        self.last_link = link;
        self.by_peer.insert(peer.into(), link);
        self.by_link.insert(link, peer.into());
        Some(link)
    }

    pub(super) fn disconnect(&mut self, peer: &str) -> Option<LinkId> {
        let link = self.by_peer.remove(peer)?;
        self.by_link.remove(&link);
        Some(link)
    }

    pub(super) fn forget(&mut self, link: LinkId) -> Option<String> {
        let peer = self.by_link.remove(&link)?;
        self.by_peer.remove(&peer);
        Some(peer)
    }

    /// Gives an input without bytes.
    pub(super) fn give(&mut self, now: Micros, input: Input<'_>) -> Result<(), Misuse> {
        self.mesh.handle(now, input)?;
        let mut resumed = VecDeque::new();
        self.drain(now, &[], None, &mut resumed);
        self.settle(now, resumed)
    }

    /// What was paid for in an earlier run is asked for.
    pub(super) fn ask_for(&mut self, kept: &Kept) -> Result<(), Misuse> {
        let Kept { node, promise, preimage, .. } = *kept;
        self.mesh.handle(0, Input::Paid { node, promise, preimage })?;
        let mut resumed = VecDeque::new();
        if let Drained::Buying(ticket) = self.drain(0, &[], None, &mut resumed) {
            self.purchases.again(ticket, kept);
        }
        self.settle(0, resumed)
    }

    /// Sends what was stopped and paid for again, where it is time.
    pub(super) fn repeat(&mut self, now: Micros) -> Result<(), Misuse> {
        while let Some(repeat) = self.repeats.take(now, self.mesh.unix()) {
            let (sequence, number) = (repeat.sequence, repeat.number);
            tracing::info!(sequence, number, "a paid datagram is sent again");
            self.mesh.handle(now, Input::Repeat { packet: &repeat.packet })?;
            let mut resumed = VecDeque::new();
            let drained = self.drain(now, &repeat.packet, None, &mut resumed);
            if let Drained::Refused(reason) = drained {
                self.repeats.refused(now, repeat, &reason);
            }
            self.settle(now, resumed)?;
        }
        Ok(())
    }

    /// When the state machine is to be given a timer, or something is sent again.
    pub(super) fn due(&self) -> Option<Micros> {
        self.until.into_iter().chain(self.repeats.due()).min()
    }

    /// Gives a packet of a neighbour.
    pub(super) fn receive(
        &mut self,
        now: Micros,
        link: LinkId,
        packet: &mut [u8],
    ) -> Result<Verdict, Misuse> {
        self.mesh.handle(now, Input::MessageReceived { link, packet })?;
        let mut resumed = VecDeque::new();
        let verdict = match self.drain(now, packet, None, &mut resumed) {
            Drained::Parked(ticket) => {
                self.park(ticket, Waiting::Packet(link, packet.to_vec()));
                Verdict::Waiting
            }
            Drained::Refused(reason) => Verdict::Refused(reason),
            Drained::Done | Drained::Opening(_) | Drained::Buying(_) => Verdict::Accepted,
        };
        self.settle(now, resumed)?;
        Ok(verdict)
    }

    /// Gives a datagram of our own.
    pub(super) fn send(&mut self, now: Micros, own: Given) -> Result<(), Misuse> {
        let mut resumed = VecDeque::new();
        self.send_one(now, own, &mut resumed)?;
        self.settle(now, resumed)
    }

    fn send_one(
        &mut self,
        now: Micros,
        own: Given,
        resumed: &mut VecDeque<Ticket>,
    ) -> Result<(), Misuse> {
        let Given { destination, payload, proof, .. } = &own;
        let destination = *destination;
        self.mesh.handle(now, Input::Send { destination, payload, proof, unchecked: false })?;
        match self.drain(now, payload, Some(&own), resumed) {
            Drained::Parked(ticket) => self.park(ticket, Waiting::Own(own)),
            Drained::Refused(reason) => own.tell(Outcome::Refused(reason)),
            Drained::Done | Drained::Opening(_) | Drained::Buying(_) => {}
        }
        Ok(())
    }

    pub(super) fn resume(
        &mut self,
        now: Micros,
        mut resumed: VecDeque<Ticket>,
    ) -> Result<(), Misuse> {
        while let Some(ticket) = resumed.pop_front() {
            match self.unpark(ticket) {
                Some(Waiting::Packet(link, mut packet)) => {
                    self.mesh.handle(now, Input::Resumed { ticket, packet: &mut packet })?;
                    if let Drained::Parked(ticket) = self.drain(now, &packet, None, &mut resumed) {
                        self.park(ticket, Waiting::Packet(link, packet));
                    }
                }
                Some(Waiting::Own(own)) => self.send_one(now, own, &mut resumed)?,
                // It was refused when there was no room for it.
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn drain(
        &mut self,
        now: Micros,
        input: &[u8],
        own: Option<&Given>,
        resumed: &mut VecDeque<Ticket>,
    ) -> Drained {
        let mut drained = Drained::Done;
        loop {
            let effect = match self.mesh.poll() {
                Action::Wait { until } => {
                    self.until = until;
                    return drained;
                }
                Action::Verdict(verdict) => match verdict {
                    mesh::Verdict::Forward { link, priority, packet, after } => {
                        let bytes = input.get(packet).unwrap_or_default().to_vec();
                        Effect::Send { link, priority, bytes, after, own: None }
                    }
                    mesh::Verdict::Originate {
                        link,
                        priority,
                        packet,
                        sequence,
                        hops,
                        paid,
                        after,
                    } => {
                        let tail = input.get(packet.tail).unwrap_or_default();
                        let bytes = [packet.head, tail].concat();
                        if paid {
                            let neighbour = self.mesh.table().neighbours.get(link);
                            let keepalive = neighbour.map_or(0, |n| n.liveness.theirs());
                            let patience = patience(bytes.len(), hops, keepalive);
                            self.repeats.keep(now, sequence, bytes.clone(), patience);
                        }
                        let sent = SentPacket { sequence, hops };
                        let own = own.map(|own| (own.who.clone(), sent));
                        Effect::Send { link, priority, bytes, after, own }
                    }
                    mesh::Verdict::Deliver {
                        source,
                        sequence,
                        payload,
                        protocol,
                        earned_msat,
                        after,
                    } => {
                        let payload = input.get(payload).unwrap_or_default().to_vec();
                        let delivery =
                            Delivery { source, sequence, protocol, earned_msat, payload };
                        Effect::Deliver { delivery, after }
                    }
                    mesh::Verdict::Absorbed => continue,
                    mesh::Verdict::Buying { ticket } => {
                        drained = Drained::Buying(ticket);
                        continue;
                    }
                    mesh::Verdict::Opening { flow } => {
                        drained = Drained::Opening(flow);
                        continue;
                    }
                    mesh::Verdict::Parked { ticket, .. } => {
                        drained = Drained::Parked(ticket);
                        continue;
                    }
                    mesh::Verdict::Reject { link, reason, remedy } => {
                        drained = Drained::Refused(reason);
                        tracing::debug!(link = link.map(|link| link.0), "refused: {reason}");
                        match (link, remedy) {
                            (Some(link), Remedy::Disconnect) => Effect::Close { link, reason },
                            _ => continue,
                        }
                    }
                },
                Action::Send { link, priority, packet, after } => {
                    let bytes = packet.to_vec();
                    Effect::Send { link, priority, bytes, after, own: None }
                }
                // Links of a host are told without capabilities, and so without a medium: this never
                // comes. Radios are carried by the daemon's own node.
                Action::SendAll { .. } => continue,
                Action::Drop { ticket, link, reason } => {
                    if let Some(Waiting::Own(own)) = self.unpark(ticket) {
                        own.tell(Outcome::Refused(reason));
                    }
                    tracing::debug!(link = link.map(|link| link.0), "refused: {reason}");
                    continue;
                }
                Action::Resume { ticket } => {
                    resumed.push_back(ticket);
                    continue;
                }
                Action::Publish(event) => {
                    self.finders.tell(&event);
                    match event {
                        Event::DeliveryFailed { sequence, cause, .. } => {
                            self.repeats.stopped(now, sequence, cause);
                        }
                        Event::Delivered { sequence, .. } => {
                            self.repeats.delivered(sequence);
                        }
                        Event::PurchaseFailed { ticket, .. } => self.purchases.failed(ticket),
                        _ => {}
                    }
                    if let Event::PaymentVerified { settlement: Some(proof), after, .. } = &event {
                        let transaction = input.get(proof.clone()).and_then(settlement_of);
                        let transaction = transaction.map(Box::new);
                        self.effects.extend(
                            transaction
                                .map(|transaction| Effect::Settle { transaction, after: *after }),
                        );
                    }
                    Effect::Publish(event)
                }
                Action::Flow { flow, event } => {
                    self.flow_events.push_back((flow, event));
                    continue;
                }
                Action::Persist { number, record } => Effect::Persist { number, record },
                Action::Pay { ticket, node, bytes, amount_msat, promise, invoice } => {
                    let invoice = input.get(invoice).unwrap_or_default();
                    let bill = Bill::new(node, bytes, amount_msat, promise, invoice);
                    self.purchases.begun(ticket, bill.amount_msat);
                    Effect::Pay { ticket, bill }
                }
                Action::Invoice { ticket, amount_msat, expiry_s, .. } => {
                    Effect::Invoice { ticket, amount_msat, expiry_s }
                }
                Action::Verify { ticket, block_hash } => Effect::Ask { ticket, block: block_hash },
                Action::Close { link, reason } => Effect::Close { link, reason },
            };
            self.effects.push(effect);
        }
    }

    fn park(&mut self, ticket: Ticket, waiting: Waiting) {
        let bytes = self.parked_bytes.saturating_add(waiting.len());
        if bytes <= MOST_PARKED_BYTES {
            self.parked_bytes = bytes;
            self.parked.insert(ticket, waiting);
        } else if let Waiting::Own(own) = waiting {
            own.tell(Outcome::Refused(NetworkReason::TooManyParked.into()));
        } else {
            tracing::warn!("refused: {}", NetworkReason::TooManyParked);
        }
    }

    pub(super) fn unpark(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.parked.remove(&ticket)?;
        self.parked_bytes -= waiting.len();
        Some(waiting)
    }
}

pub(super) enum Drained {
    Done,
    Opening(FlowId),
    Buying(Ticket),
    Parked(Ticket),
    Refused(MeshError),
}
