//! Carries out what the state machine decides, for the engine.

use super::chain::{Asked, Chain};
use super::counted;
use super::durable::{Durable, Held};
use super::invoices::{Invoices, Wanted};
use super::links::Links;
use super::own::Own;
use super::parked::{Parked, Waiting};
use super::payments::Payments;
use super::refusals::Refusals;
use crate::bridge::table::Table;
use crate::node::clock::Clock;
use crate::node::deliveries::{Deliveries, Delivery};
use crate::node::link::egress::{Pushed, RoomAgain};
use crate::node::progress::{OwnSend, Progress};
use crate::repeats::patience;
use crate::rpc::events::EventLog;
use crate::rpc::types::Topic;
use crate::wallet::Bill;
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::{
    Action, Event, FlowEvent, FlowId, HostMesh, MeshError, Misuse, NetworkReason, PaymentReason,
    Priority, Remedy, Ticket, Verdict,
};
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::time::Micros;
use blvm_mesh_core::wire::route_error::Cause;
use smol::channel::Sender;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Where the input came from whose actions are carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A datagram of our own, and who wants to know; `None`: the load generator.
    Own(Option<&'a Sender<Progress>>),
    /// An own paid datagram, once more.
    Repeat,
    /// A neighbour's packet, or the node itself.
    Other,
}

/// What became of an input, where whoever gave it has something left to do.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing is left to do.
    Done,
    /// An own datagram is in its link's queue.
    Sent { sequence: u64, hops: u8, free: bool },
    /// An own datagram found no place in its link's queue.
    Dropped(MeshError),
    /// Its bytes are to be kept under this ticket.
    Parked(Ticket),
    /// It is for this node; the range of the input is its payload, which is not copied yet.
    Delivered(Delivery, Range<usize>),
    /// A flow is being opened.
    Opening(FlowId),
    /// A purchase is under way.
    Buying(Ticket),
    /// It was refused, and came from no neighbour. Not counted yet.
    Refused(MeshError),
    /// It broke the state machine's contract, which is logged.
    Misused(Misuse),
}

/// Inputs that actions cause; given once the state machine is drained.
#[derive(Debug)]
pub(crate) enum FollowUp {
    Full(LinkId, Lane),
    Resume(Ticket),
    /// What is known of the block for which a packet waits.
    Block(Ticket, Option<KnownHeader>),
    /// What paying an invoice revealed; `None`: it is not paid, and the purchase is over.
    Paid(Ticket, Option<[u8; 32]>),
    /// The invoice for which a request waits, if there is one.
    Invoice(Ticket, Option<String>),
    Close(LinkId, String),
    Flow(FlowId, FlowEvent),
    /// What is paid for has come here, and takes room.
    Inbox,
    Stopped {
        sequence: u64,
        reporter: NodeId,
        cause: Cause,
    },
}

/// Counts that the state machine does not keep.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) delivered_bytes: u64,
    pub(crate) originated_bytes: u64,
    pub(crate) payments: u64,
    /// Payments of this node's own, and their amounts.
    pub(crate) paid: u64,
    pub(crate) paid_msat: u64,
    pub(crate) earned_msat: u64,
    /// Sales of bytes among them, and what was paid for them.
    pub(crate) sales: u64,
    pub(crate) sold_msat: u64,
    pub(crate) routes_found: u64,
    pub(crate) routes_failed: u64,
    pub(crate) dropped_at_link: u64,
}

/// What the state machine's actions are carried out with.
pub(crate) struct Shell {
    pub(crate) clock: Clock,
    pub(crate) links: Links,
    pub(crate) durable: Durable,
    pub(crate) chain: Chain,
    pub(crate) invoices: Invoices,
    pub(crate) payments: Payments,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) bridge: Arc<Table>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) refusals: Refusals,
    pub(crate) counters: Counters,
    pub(crate) own: Own,
    pub(crate) parked: Parked,
    pub(crate) prepaid: super::prepaid::Waiting,
    /// When the state machine wants to be asked at the latest.
    pub(crate) until: Option<Micros>,
    pub(crate) todo: VecDeque<FollowUp>,
}

impl Shell {
    pub(crate) fn new(
        links: Links,
        durable: Durable,
        chain: Chain,
        invoices: Invoices,
        payments: Payments,
        (deliveries, events): (Arc<Deliveries>, Arc<EventLog>),
        bridge: Arc<Table>,
    ) -> Self {
        Self {
            clock: links.clock(),
            links,
            durable,
            chain,
            invoices,
            payments,
            deliveries,
            bridge,
            events,
            refusals: Refusals::default(),
            counters: Counters::default(),
            own: Own::default(),
            parked: Parked::default(),
            prepaid: super::prepaid::Waiting::default(),
            until: None,
            todo: VecDeque::new(),
        }
    }

    /// Carries out one action; `input` are the bytes just handled.
    pub(crate) fn execute(
        &mut self,
        now: Micros,
        action: Action<'_>,
        input: &[u8],
        origin: Origin<'_>,
    ) {
        match action {
            Action::Send { link, priority, packet, after } => match self.durable.must_wait(after) {
                Some(after) => {
                    self.hold(after, link, priority, &[packet], None);
                }
                None => {
                    self.push(link, priority, packet, &[]);
                }
            },
            Action::Flow { flow, event } => self.todo.push_back(FollowUp::Flow(flow, event)),
            Action::SendAll { medium, except, packet } => {
                if !self.links.send_all(medium, except, packet) {
                    self.counters.dropped_at_link += 1;
                    self.refusals.add(&"a radio's queue", NetworkReason::Congested.into());
                }
            }
            // The loop that polls knows what to do with these.
            Action::Verdict(_) | Action::Wait { .. } => {}
            Action::Drop { ticket, link, reason } => {
                if let Some(Waiting::Own(own)) = self.parked.take(ticket) {
                    self.own.tell(&own.progress, Progress::Refused(reason));
                }
                self.count_refusal(link, reason);
            }
            Action::Resume { ticket } => self.todo.push_back(FollowUp::Resume(ticket)),
            Action::Publish(event) => {
                let (after, settlement) = match &event {
                    Event::PaymentVerified { after, settlement, .. } => {
                        (*after, settlement.clone())
                    }
                    Event::BytesSold { after, .. } => (*after, None),
                    _ => return self.publish(now, event),
                };
                let proof = settlement.and_then(|proof| input.get(proof));
                let settlement = proof.and_then(crate::covenant::settlement_of).map(Box::new);
                let own = matches!(origin, Origin::Own(_));
                match self.durable.must_wait(after) {
                    None => self.booked(now, event, own, settlement),
                    Some(after) => {
                        self.durable.hold(after, Held::Payment { event, own, settlement });
                    }
                }
            }
            Action::Persist { number, record } => self.durable.persist(number, record),
            Action::Pay { ticket, node, bytes, amount_msat, promise, invoice } => {
                let invoice = input.get(invoice).unwrap_or_default();
                let bill = Bill::new(node, bytes, amount_msat, promise, invoice);
                if !self.payments.gather(ticket, bill) {
                    self.todo.push_back(FollowUp::Paid(ticket, None));
                }
            }
            Action::Invoice { ticket, source, bytes, amount_msat, expiry_s, given } => {
                let wanted = Wanted { ticket, source, bytes, amount_msat, expiry_s };
                let given = given.and_then(|payment_hash| self.invoices.given(&payment_hash));
                if given.is_some() || !self.invoices.ask(wanted) {
                    self.todo.push_back(FollowUp::Invoice(ticket, given));
                }
            }
            Action::Verify { ticket, block_hash } => {
                if let Asked::Answer(block) = self.chain.ask(ticket, block_hash) {
                    self.todo.push_back(FollowUp::Block(ticket, block));
                }
            }
            Action::Close { link, reason } => {
                self.todo.push_back(FollowUp::Close(link, reason.to_string()));
            }
        }
    }

    /// Has the invoices paid that are to be paid now.
    pub(crate) fn pay_what_is_due(&mut self, mesh: &HostMesh) {
        let not_paid = self.payments.pay_due(|ticket| mesh.payment_due(ticket));
        self.todo.extend(not_paid.into_iter().map(|ticket| FollowUp::Paid(ticket, None)));
    }

    /// Does what a verdict says; tells what is left to whoever gave the input.
    pub(crate) fn apply_verdict(
        &mut self,
        now: Micros,
        verdict: Verdict<'_>,
        input: &[u8],
        origin: Origin<'_>,
    ) -> Outcome {
        match verdict {
            Verdict::Forward { link, priority, packet, after } => {
                let packet = input.get(packet).unwrap_or_default();
                match self.durable.must_wait(after) {
                    Some(after) => self.hold(after, link, priority, &[packet], None),
                    None => self.push(link, priority, &[], packet),
                };
                Outcome::Done
            }
            Verdict::Originate { link, priority, packet, sequence, hops, paid, after } => {
                let tail = input.get(packet.tail).unwrap_or_default();
                if paid && !matches!(origin, Origin::Repeat) {
                    let packet = [packet.head, tail].concat();
                    let keepalive = self.links.get(link).map_or(0, |link| link.answers_within());
                    let patience = patience(packet.len(), hops, keepalive);
                    self.own.repeats.keep(now, sequence, packet, patience);
                }
                if let Some(after) = self.durable.must_wait(after) {
                    let who = match origin {
                        Origin::Own(Some(who)) => {
                            Some((who.clone(), Progress::Sent { sequence, hops }))
                        }
                        _ => None,
                    };
                    return match self.hold(after, link, priority, &[packet.head, tail], who) {
                        true => Outcome::Done,
                        false => Outcome::Dropped(NetworkReason::Congested.into()),
                    };
                }
                if self.push(link, priority, packet.head, tail) {
                    self.counters.originated_bytes += tail.len() as u64;
                    return Outcome::Sent { sequence, hops, free: priority == Priority::Free };
                }
                Outcome::Dropped(match self.links.get(link) {
                    Some(_) => NetworkReason::Congested.into(),
                    None => NetworkReason::LinkClosed.into(),
                })
            }
            Verdict::Deliver { source, sequence, payload, protocol, earned_msat, after } => {
                if earned_msat > 0 {
                    // Before the next packet, which may be of the same source.
                    self.todo.push_back(FollowUp::Inbox);
                }
                let mut delivery =
                    Delivery { source, sequence, protocol, earned_msat, payload: Vec::new() };
                let Some(after) = self.durable.must_wait(after) else {
                    return Outcome::Delivered(delivery, payload);
                };
                delivery.payload = input.get(payload).unwrap_or_default().to_vec();
                if earned_msat > 0 {
                    self.deliveries.expect(source, delivery.payload.len());
                }
                self.durable.hold(after, Held::Delivery(delivery));
                Outcome::Done
            }
            Verdict::Absorbed => Outcome::Done,
            Verdict::Buying { ticket } => Outcome::Buying(ticket),
            Verdict::Opening { flow } => Outcome::Opening(flow),
            Verdict::Parked { ticket, .. } => Outcome::Parked(ticket),
            Verdict::Reject { link: None, reason, .. } => Outcome::Refused(reason),
            Verdict::Reject { link: Some(link), reason, remedy } => {
                self.reject(link, reason, remedy);
                Outcome::Done
            }
        }
    }

    /// Keeps a paid packet until its record is durable, with its room in the link's queue,
    /// which must not be gone when it may leave; `false` if it was dropped.
    fn hold(
        &mut self,
        after: u64,
        link: LinkId,
        priority: Priority,
        parts: &[&[u8]],
        progress: Option<(Sender<Progress>, Progress)>,
    ) -> bool {
        let bytes = parts.concat();
        let reserved = match priority {
            // A receipt: it has room of its own, and is worth no reservation.
            Priority::Control => Some(Pushed::Queued),
            Priority::Paid | Priority::Free => self.links.reserve(link, bytes.len()),
        };
        let taken = self.is_taken(link, priority, reserved);
        if taken {
            self.durable.hold(after, Held::Packet { link, priority, bytes, progress });
        }
        taken
    }

    /// Puts a packet into a link's queue; `false` if it was dropped.
    pub(crate) fn push(
        &mut self,
        link: LinkId,
        priority: Priority,
        head: &[u8],
        tail: &[u8],
    ) -> bool {
        self.links.by_class.note(true, counted::kind(head, tail), head.len() + tail.len());
        let pushed = self.links.push(link, priority, head, tail);
        self.is_taken(link, priority, pushed)
    }

    /// Puts a packet that has waited for the store into its link's queue; `false` if the
    /// link is gone.
    pub(crate) fn push_held(&mut self, link: LinkId, priority: Priority, packet: &[u8]) -> bool {
        self.links.by_class.note(true, counted::kind(packet, &[]), packet.len());
        let pushed = match priority {
            Priority::Control => self.links.push(link, priority, packet, &[]),
            _ => self.links.push_reserved(link, packet),
        };
        self.is_taken(link, priority, pushed)
    }

    /// Whether a link took a packet, with what follows from it.
    fn is_taken(&mut self, link: LinkId, priority: Priority, pushed: Option<Pushed>) -> bool {
        match pushed {
            Some(Pushed::Queued) => return true,
            Some(Pushed::Full) => {
                let lane = if priority == Priority::Free { Lane::Free } else { Lane::Paid };
                // Before what else is to come: it may be for this link too.
                self.todo.push_front(FollowUp::Full(link, lane));
                return true;
            }
            Some(Pushed::Refused) => {
                let lane = match priority {
                    Priority::Control => None,
                    Priority::Paid => Some(Lane::Paid),
                    Priority::Free => Some(Lane::Free),
                };
                self.todo.extend(lane.map(|lane| FollowUp::Full(link, lane)));
                self.counters.dropped_at_link += 1;
                self.refusals.add(&"a link's queue", NetworkReason::Congested.into());
            }
            // It went down while the packet waited for the store.
            None => {
                self.counters.dropped_at_link += 1;
                tracing::debug!(link = link.0, "a packet was dropped: its link is gone");
            }
        }
        false
    }

    /// Hands a datagram over that is for this node.
    pub(crate) fn deliver(&mut self, delivery: Delivery) {
        let Delivery { source, sequence, protocol, payload, .. } = &delivery;
        self.counters.delivered_bytes += payload.len() as u64;
        let name = protocol.name();
        tracing::debug!(%source, sequence, protocol = name, bytes = payload.len(), "delivered");
        let event = delivery.event();
        self.deliveries.push(delivery);
        self.events.tell(Topic::Deliveries, event);
    }

    /// A neighbour's packet was refused.
    fn reject(&mut self, link: LinkId, reason: MeshError, remedy: Remedy) {
        if self.count_refusal(Some(link), reason).is_some() && remedy == Remedy::Disconnect {
            self.todo.push_back(FollowUp::Close(link, reason.to_string()));
        }
    }

    /// Counts what was refused; gives the identity of the neighbour that it came from.
    fn count_refusal(&mut self, link: Option<LinkId>, reason: MeshError) -> Option<NodeId> {
        let peer = link.and_then(|link| self.links.refused(link));
        match peer {
            Some(peer) => self.refusals.add(&peer, reason),
            None => self.refusals.add(&"this node", reason),
        }
        peer
    }

    /// Counts what this node refused of its own.
    pub(crate) fn count_own_refusal(&mut self, reason: MeshError) {
        self.count_refusal(None, reason);
    }

    /// What waited for a record that will never be durable is not done. The link that may
    /// have room again by that.
    pub(crate) fn refuse_held(&mut self, held: Held) -> Option<(LinkId, RoomAgain)> {
        let Held::Packet { link, bytes, progress, priority } = held else { return None };
        if let Some((who, _)) = progress {
            self.own.tell(&who, Progress::Refused(PaymentReason::StoreFailed.into()));
        }
        let kept = priority != Priority::Control;
        kept.then(|| (link, self.links.give_room_back(link, bytes.len())))
    }

    /// Keeps a parked packet, if there is room.
    pub(crate) fn park(&mut self, ticket: Ticket, waiting: Waiting) {
        let Err(waiting) = self.parked.put(ticket, waiting) else { return };
        let reason = NetworkReason::TooManyParked.into();
        self.count_own_refusal(reason);
        if let Waiting::Own(own) = waiting {
            self.own.tell(&own.progress, Progress::Refused(reason));
        }
    }

    /// An own datagram found no room in time.
    pub(crate) fn refuse_for_room(&mut self, own: OwnSend) {
        let reason = NetworkReason::Congested.into();
        self.count_own_refusal(reason);
        self.own.tell(&own.progress, Progress::Refused(reason));
    }

    /// From time to time.
    pub(crate) fn housekeeping(&mut self) {
        self.refusals.report();
        self.deliveries.report();
        self.chain.housekeeping();
        self.own.housekeeping();
    }
}
