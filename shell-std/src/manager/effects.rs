//! The state machine and what its actions ask for: collected under the lock,
//! carried out without it.

use super::{MeshManager, SentPacket, Verdict};
use crate::covenant::settlement_of;
use crate::node::Delivery;
use crate::repeats::{Repeats, patience};
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::mesh::{
    self, Action, Event, HostMesh, Input, MeshError, Misuse, NetworkReason, Priority, Remedy,
    Ticket,
};
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::Micros;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes of packets that wait for an answer.
const MOST_PARKED_BYTES: usize = 64 * 1024 * 1024;

/// First and longest pause before a commit that failed is tried once more.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the store did not take, and what waits for it.
#[derive(Default)]
pub(super) struct Unwritten {
    records: Vec<(u64, Record)>,
    paid: Vec<Effect>,
    /// While the store fails: when to try again, and the pause after that.
    next: Option<(Instant, Duration)>,
}

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

enum Waiting {
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
    NotPaid {
        ticket: Ticket,
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
    by_link: HashMap<LinkId, String>,
    last_link: LinkId,
    parked: HashMap<Ticket, Waiting>,
    parked_bytes: usize,
    /// Own paid datagrams that may have to be sent again.
    pub(super) repeats: Repeats,
}

impl Core {
    pub(super) fn new(mesh: HostMesh) -> Self {
        Self {
            mesh,
            effects: Vec::new(),
            until: None,
            by_peer: HashMap::new(),
            by_link: HashMap::new(),
            last_link: LinkId(0),
            parked: HashMap::new(),
            parked_bytes: 0,
            repeats: Repeats::default(),
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
        self.resume(now, resumed)
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
            self.resume(now, resumed)?;
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
            Drained::Done => Verdict::Accepted,
        };
        self.resume(now, resumed)?;
        Ok(verdict)
    }

    /// Gives a datagram of our own.
    pub(super) fn send(&mut self, now: Micros, own: Given) -> Result<(), Misuse> {
        let mut resumed = VecDeque::new();
        self.send_one(now, own, &mut resumed)?;
        self.resume(now, resumed)
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
            Drained::Done => {}
        }
        Ok(())
    }

    fn resume(&mut self, now: Micros, mut resumed: VecDeque<Ticket>) -> Result<(), Misuse> {
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

    fn drain(
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
                    mesh::Verdict::Absorbed | mesh::Verdict::Buying { .. } => continue,
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
                Action::Send { link, packet, after } => {
                    let (priority, bytes) = (Priority::Control, packet.to_vec());
                    Effect::Send { link, priority, bytes, after, own: None }
                }
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
                    match event {
                        Event::DeliveryFailed { sequence, cause, .. } => {
                            self.repeats.stopped(now, sequence, cause);
                        }
                        Event::Delivered { sequence, .. } => {
                            self.repeats.delivered(sequence);
                        }
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
                Action::Persist { number, record } => Effect::Persist { number, record },
                // The host lends no wallet: nothing is spent.
                Action::Pay { ticket, .. } => Effect::NotPaid { ticket },
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

    fn unpark(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.parked.remove(&ticket)?;
        self.parked_bytes -= waiting.len();
        Some(waiting)
    }
}

enum Drained {
    Done,
    Parked(Ticket),
    Refused(MeshError),
}

impl MeshManager {
    /// Does what is to be done: what is free first, then one commit for all records,
    /// then what waits for them. While the store takes nothing that waits, in order.
    pub(super) async fn perform(&self, effects: Vec<Effect>) {
        let (mut records, mut paid) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Persist { number, record } => records.push((number, record)),
                Effect::Send { after: Some(_), .. }
                | Effect::Deliver { after: Some(_), .. }
                | Effect::Settle { after: Some(_), .. }
                | Effect::Publish(
                    Event::PaymentVerified { after: Some(_), .. }
                    | Event::BytesSold { after: Some(_), .. },
                ) => {
                    paid.push(effect);
                }
                other => self.perform_one(other).await,
            }
        }
        {
            let mut unwritten = self.unwritten();
            if unwritten.next.is_some() {
                unwritten.records.extend(records);
                unwritten.paid.extend(paid);
                return;
            }
        }
        if let Err(error) = self.commit(&records).await {
            tracing::error!(
                error,
                waiting = paid.len(),
                "the store cannot be written: no payment is accepted until it can, and what was \
                 accepted waits"
            );
            let next = Some((Instant::now() + RETRY.0, RETRY.0 * 2));
            *self.unwritten() = Unwritten { records, paid, next };
            self.tell(Input::StoreFailed);
            // A full channel means that `run` is to look already.
            let _ = self.rearm.0.try_send(());
            return;
        }
        for effect in paid {
            self.perform_one(effect).await;
        }
    }

    /// Writes once more what the store did not take. When to try again.
    pub(super) async fn retry(&self) -> Duration {
        let (records, pause) = {
            let unwritten = self.unwritten();
            let Some((at, pause)) = unwritten.next else { return Duration::MAX };
            let left = at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return left;
            }
            (unwritten.records.clone(), pause)
        };
        if self.commit(&records).await.is_err() {
            self.unwritten().next = Some((Instant::now() + pause, (2 * pause).min(RETRY.1)));
            return pause;
        }
        let (left, paid) = {
            let mut unwritten = self.unwritten();
            // More may have come meanwhile.
            let written = records.len().min(unwritten.records.len());
            unwritten.records.drain(..written);
            match unwritten.records.is_empty() {
                false => (true, Vec::new()),
                true => (false, std::mem::take(&mut *unwritten).paid),
            }
        };
        if left {
            return Duration::ZERO;
        }
        tracing::warn!("the store can be written again: payments are accepted");
        self.tell(Input::StoreRecovered);
        for effect in paid {
            self.perform_one(effect).await;
        }
        Duration::MAX
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, input: Input<'_>) {
        let told =
            self.give(|core, now| core.give(now, input).map_err(super::ManagerError::Misuse));
        self.log(told);
    }

    async fn commit(&self, records: &[(u64, Record)]) -> Result<(), String> {
        let (false, Some(store)) = (records.is_empty(), self.store.clone()) else { return Ok(()) };
        let records = records.to_vec();
        smol::unblock(move || store.commit(&records)).await.map_err(|e| e.to_string())
    }

    async fn perform_one(&self, effect: Effect) {
        match effect {
            Effect::Send { link, priority, bytes, own, .. } => {
                let peer = self.lock().by_link.get(&link).cloned();
                let Some(peer) = peer else { return };
                let sent = self.api.send_to_peer(&peer, priority, &bytes).await;
                match (sent, own) {
                    (Ok(()), Some((who, sent))) => {
                        let _ = who.try_send(Outcome::Sent(sent));
                    }
                    (Ok(()), None) => {}
                    (Err(error), own) => {
                        tracing::warn!(peer, %error, "a packet was not sent");
                        if let Some((who, _)) = own {
                            let reason = NetworkReason::Congested.into();
                            let _ = who.try_send(Outcome::Refused(reason));
                        }
                        if error == super::NodeApiError::NotConnected {
                            self.drop_link(link, "it is not connected any more").await;
                        }
                    }
                }
            }
            Effect::Deliver { delivery, .. } => self.deliveries.push(delivery),
            Effect::Publish(event) => {
                if let Event::PaymentVerified { share_msat, .. } = &event {
                    self.earned_msat.fetch_add(*share_msat, Ordering::Relaxed);
                }
                self.api.publish_event(&event).await;
            }
            Effect::Settle { transaction, .. } => {
                if let Err(error) = self.api.broadcast(&transaction).await {
                    let hex = bitcoin::consensus::encode::serialize_hex(&*transaction);
                    tracing::warn!(
                        transaction = hex,
                        "a covenant was accepted, but its transaction was not broadcast: {error}"
                    );
                }
            }
            Effect::Ask { ticket, block } => {
                let block = self.api.block(&block).await;
                let told = self.give(|core, now| {
                    let input = Input::PaymentVerified { ticket, block };
                    core.give(now, input).map_err(super::ManagerError::Misuse)
                });
                self.log(told);
            }
            Effect::NotPaid { ticket } => {
                let told = self.give(|core, now| {
                    let input = Input::InvoicePaid { ticket, preimage: None };
                    core.give(now, input).map_err(super::ManagerError::Misuse)
                });
                self.log(told);
            }
            Effect::Invoice { ticket, amount_msat, expiry_s } => {
                let invoice = self.api.invoice(amount_msat, expiry_s).await;
                let told = self.give(|core, now| {
                    // A request that was dropped meanwhile needs none.
                    let Some(Waiting::Packet(_, packet)) = core.unpark(ticket) else {
                        return Ok(());
                    };
                    let invoice = invoice.as_deref().unwrap_or_default().as_bytes();
                    let input = Input::Invoice { ticket, packet: &packet, invoice };
                    core.give(now, input).map_err(super::ManagerError::Misuse)
                });
                self.log(told);
            }
            Effect::Close { link, reason } => self.drop_link(link, &reason.to_string()).await,
            // Collected by `perform`.
            Effect::Persist { .. } => {}
        }
    }
}
