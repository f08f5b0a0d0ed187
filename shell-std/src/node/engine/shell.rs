//! Carries out what the state machine decides, for the engine.

use super::chain::{Asked, Chain};
use super::conduct::Conduct;
use super::durable::{Durable, Held};
use super::links::Links;
use super::refusals::Refusals;
use super::retries::Retries;
use super::waitlist::Waitlist;
use crate::node::clock::Clock;
use crate::node::deliveries::{Deliveries, Delivery};
use crate::node::link::egress::{Pushed, RoomAgain};
use crate::node::progress::{OwnSend, Progress};
use crate::repeats::{Repeat, Repeats, patience};
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::link::fragment::Lane;
use blvm_mesh_core::mesh::{
    Action, Event, MeshError, NetworkReason, PaymentReason, Priority, Remedy, Ticket, Verdict,
};
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::policy::detect::DetectedProtocol;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::route_error::Cause;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Most bytes of parked packets.
const MOST_PARKED_BYTES: usize = 64 * 1024 * 1024;
/// Own datagrams whose fate somebody wants to know. Full: those whom nobody
/// listens for go, and then new ones are not followed.
const MOST_FOLLOWED: usize = 4096;

/// For how long after a search in vain nobody searches again to send: about as long as it took.
/// With a new neighbour, or when somebody asks for a route, it is over.
const UNREACHABLE: Micros = 5 * SECOND;
/// Destinations that are remembered for that.
const MOST_UNREACHABLE: usize = 1024;

/// Where the input came from whose actions are carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A datagram of our own, and who wants to know.
    Own(&'a smol::channel::Sender<Progress>),
    /// The load generator.
    Bench,
    /// A search for a route to this node.
    Search(NodeId),
    /// An own paid datagram, once more.
    Repeat,
    /// A neighbour's packet, or the node itself.
    Other,
}

/// A packet that the state machine has parked.
pub(crate) enum Waiting {
    Packet(LinkId, Vec<u8>),
    Own(OwnSend),
}

impl Waiting {
    fn len(&self) -> usize {
        match self {
            Self::Packet(_, bytes) => bytes.len(),
            Self::Own(own) => own.len(),
        }
    }
}

/// Inputs that actions cause; given once the state machine is drained.
#[derive(Debug)]
pub(crate) enum FollowUp {
    Full(LinkId, Lane),
    Resume(Ticket),
    /// What is known of the block for which a packet waits.
    Block(Ticket, Option<KnownHeader>),
    Close(LinkId, String),
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
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) conduct: Conduct,
    pub(crate) refusals: Refusals,
    pub(crate) counters: Counters,
    /// When the state machine wants to be asked at the latest.
    pub(crate) until: Option<Micros>,
    pub(crate) todo: VecDeque<FollowUp>,
    /// Set where the input just handled is to be kept.
    pub(crate) parked_as: Option<Ticket>,
    /// Set where the own datagram just handled found its link full.
    pub(crate) no_room: bool,
    /// Own datagrams that wait for room.
    pub(crate) waitlist: Waitlist,
    /// What became of the load generator's datagram.
    pub(crate) bench_outcome: Option<Result<u64, MeshError>>,
    /// Own paid datagrams that may have to be sent again.
    pub(crate) repeats: Repeats,
    /// Why the repeat just handled was not sent.
    pub(crate) not_repeated: Option<MeshError>,
    /// Own free datagrams that may have to be sent anew.
    pub(crate) retries: Retries,
    /// Number of the own datagram just handled, if it went free.
    pub(crate) sent_free: Option<u64>,
    /// Who waits for the end of a search.
    pub(crate) searches: HashMap<NodeId, Vec<smol::channel::Sender<bool>>>,
    parked: HashMap<Ticket, Waiting>,
    parked_bytes: usize,
    followed: HashMap<u64, smol::channel::Sender<Progress>>,
    /// Until when there is no route, after a search in vain.
    unreachable: HashMap<NodeId, Micros>,
}

impl Shell {
    pub(crate) fn new(
        links: Links,
        durable: Durable,
        chain: Chain,
        deliveries: Arc<Deliveries>,
    ) -> Self {
        Self {
            clock: links.clock(),
            links,
            durable,
            chain,
            deliveries,
            conduct: Conduct::default(),
            refusals: Refusals::default(),
            counters: Counters::default(),
            until: None,
            todo: VecDeque::new(),
            parked_as: None,
            no_room: false,
            waitlist: Waitlist::default(),
            bench_outcome: None,
            repeats: Repeats::default(),
            not_repeated: None,
            retries: Retries::default(),
            sent_free: None,
            searches: HashMap::new(),
            parked: HashMap::new(),
            parked_bytes: 0,
            followed: HashMap::new(),
            unreachable: HashMap::new(),
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
            Action::Verdict(verdict) => self.judged(now, verdict, input, origin),
            Action::Send { link, packet, after } => match self.durable.must_wait(after) {
                Some(after) => self.hold(after, link, Priority::Control, &[packet], None),
                None => {
                    self.push(link, Priority::Control, packet, &[]);
                }
            },
            Action::Wait { .. } => {}
            Action::Drop { ticket, link, reason } => {
                if let Some(Waiting::Own(own)) = self.unpark(ticket) {
                    self.tell(own.progress, Progress::Refused(reason));
                }
                self.count_refusal(link, reason);
            }
            Action::Resume { ticket } => self.todo.push_back(FollowUp::Resume(ticket)),
            Action::Publish(event) => {
                let Event::PaymentVerified { after, ref settlement, .. } = event else {
                    return self.publish(event);
                };
                let proof = settlement.clone().and_then(|proof| input.get(proof));
                let settlement = proof.and_then(crate::covenant::settlement_of).map(Box::new);
                let own = matches!(origin, Origin::Own(_));
                match self.durable.must_wait(after) {
                    None => self.booked(event, own, settlement),
                    Some(after) => {
                        self.durable.hold(after, Held::Payment { event, own, settlement });
                    }
                }
            }
            Action::Persist { number, record } => self.durable.persist(number, record),
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

    /// What became of the input.
    fn judged(&mut self, now: Micros, verdict: Verdict<'_>, input: &[u8], origin: Origin<'_>) {
        match verdict {
            Verdict::Forward { link, priority, packet, after } => {
                let packet = input.get(packet).unwrap_or_default();
                match self.durable.must_wait(after) {
                    Some(after) => {
                        self.hold(after, link, priority, &[packet], None);
                    }
                    None => {
                        self.push(link, priority, &[], packet);
                    }
                }
            }
            Verdict::Originate { link, priority, packet, sequence, hops, paid, after } => {
                let tail = input.get(packet.tail).unwrap_or_default();
                let sent = Progress::Sent { sequence, hops };
                if paid && !matches!(origin, Origin::Repeat) {
                    let packet = [packet.head, tail].concat();
                    let keepalive = self.links.get(link).map_or(0, |link| link.keepalive);
                    let patience = patience(packet.len(), hops, keepalive);
                    self.repeats.keep(now, sequence, packet, patience);
                }
                if let Some(after) = self.durable.must_wait(after) {
                    let who = match origin {
                        Origin::Own(who) => Some((who.clone(), sent)),
                        _ => None,
                    };
                    return self.hold(after, link, priority, &[packet.head, tail], who);
                }
                let taken = self.push(link, priority, packet.head, tail);
                let dropped = match self.links.get(link) {
                    Some(_) => NetworkReason::Congested.into(),
                    None => NetworkReason::LinkClosed.into(),
                };
                if taken {
                    self.counters.originated_bytes += tail.len() as u64;
                    self.sent_free = (priority == Priority::Free).then_some(sequence);
                }
                match origin {
                    Origin::Own(who) => {
                        let told = if taken { sent } else { Progress::Refused(dropped) };
                        self.tell(who.clone(), told);
                    }
                    Origin::Bench => {
                        self.bench_outcome = Some(if taken { Ok(sequence) } else { Err(dropped) });
                    }
                    _ => {}
                }
            }
            Verdict::Deliver { source, sequence, payload, protocol, earned_msat, after } => {
                let payload = input.get(payload).unwrap_or_default().to_vec();
                if earned_msat > 0 {
                    // Before the next packet, which may be of the same source.
                    self.todo.push_back(FollowUp::Inbox);
                }
                match self.durable.must_wait(after) {
                    None => self.deliver(source, sequence, protocol, earned_msat, payload),
                    Some(after) => {
                        if earned_msat > 0 {
                            self.deliveries.expect(source, payload.len());
                        }
                        let held =
                            Held::Delivery { source, sequence, protocol, earned_msat, payload };
                        self.durable.hold(after, held);
                    }
                }
            }
            Verdict::Absorbed => {}
            Verdict::Parked { ticket, .. } => self.parked_as = Some(ticket),
            Verdict::Reject { link, reason, remedy } => {
                self.reject(now, link, reason, remedy, origin);
            }
        }
    }

    /// Keeps a paid packet until its record is durable, with its room in the link's queue,
    /// which must not be gone when it may leave.
    fn hold(
        &mut self,
        after: u64,
        link: LinkId,
        priority: Priority,
        parts: &[&[u8]],
        progress: Option<(smol::channel::Sender<Progress>, Progress)>,
    ) {
        let bytes = parts.concat();
        let reserved = match priority {
            // A receipt: it has room of its own, and is worth no reservation.
            Priority::Control => Some(Pushed::Queued),
            Priority::Paid | Priority::Free => self.links.reserve(link, bytes.len()),
        };
        if self.is_taken(link, priority, reserved) {
            self.durable.hold(after, Held::Packet { link, priority, bytes, progress });
        } else if let Some((who, _)) = progress {
            self.tell(who, Progress::Refused(NetworkReason::Congested.into()));
        }
    }

    /// Puts a packet into a link's queue; `false` if it was dropped.
    pub(crate) fn push(
        &mut self,
        link: LinkId,
        priority: Priority,
        head: &[u8],
        tail: &[u8],
    ) -> bool {
        let pushed = self.links.push(link, priority, head, tail);
        self.is_taken(link, priority, pushed)
    }

    /// Puts a packet that has waited for the store into its link's queue; `false` if the
    /// link is gone.
    pub(crate) fn push_held(&mut self, link: LinkId, priority: Priority, packet: &[u8]) -> bool {
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
                tracing::debug!(?link, "a packet was dropped: its link is gone");
            }
        }
        false
    }

    pub(crate) fn deliver(
        &mut self,
        source: NodeId,
        sequence: u64,
        protocol: DetectedProtocol,
        earned_msat: u64,
        payload: Vec<u8>,
    ) {
        self.counters.delivered_bytes += payload.len() as u64;
        tracing::debug!(%source, sequence, ?protocol, bytes = payload.len(), "delivered");
        self.deliveries.push(Delivery { source, sequence, protocol, earned_msat, payload });
    }

    fn reject(
        &mut self,
        now: Micros,
        link: Option<LinkId>,
        reason: MeshError,
        remedy: Remedy,
        origin: Origin<'_>,
    ) {
        match origin {
            _ if link.is_some() => {}
            Origin::Own(_) if reason == NetworkReason::Congested.into() => {
                // It may wait: whoever sent it is told later.
                self.no_room = true;
                return;
            }
            Origin::Own(who) => self.tell(who.clone(), Progress::Refused(reason)),
            Origin::Search(destination) => self.searched(destination, false),
            Origin::Repeat => self.not_repeated = Some(reason),
            Origin::Bench => self.bench_outcome = Some(Err(reason)),
            Origin::Other => {}
        }
        let peer = self.count_refusal(link, reason);
        let (Some(link), Some(peer)) = (link, peer) else { return };
        match remedy {
            Remedy::Ignore => {}
            Remedy::Penalise => {
                if self.conduct.penalise(now, peer) {
                    let reason = format!("banned for repeated violations; last: {reason}");
                    self.todo.push_back(FollowUp::Close(link, reason));
                }
            }
            Remedy::Disconnect => {
                if is_offence(&reason) {
                    self.conduct.disconnect(now, peer);
                }
                self.todo.push_back(FollowUp::Close(link, reason.to_string()));
            }
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

    /// A payment is booked: told and counted, and what settles it is broadcast.
    pub(crate) fn booked(
        &mut self,
        event: Event,
        own: bool,
        settlement: Option<Box<bitcoin::Transaction>>,
    ) {
        if let Some(transaction) = settlement {
            self.chain.settle(&transaction);
        }
        match event {
            Event::PaymentVerified { payment, amount_msat, .. } if own => {
                self.counters.paid += 1;
                self.counters.paid_msat = self.counters.paid_msat.saturating_add(amount_msat);
                tracing::info!(payment = hex::encode(payment), amount_msat, "own payment used");
            }
            event => self.publish(event),
        }
    }

    fn publish(&mut self, event: Event) {
        match event {
            Event::PeerConnected { link, peer } => {
                self.unreachable.clear();
                self.links.up(link);
                tracing::info!(%peer, link = link.0, "neighbour is up");
            }
            Event::PeerDisconnected { peer } => tracing::info!(%peer, "neighbour is gone"),
            Event::RouteDiscovered { destination, hops } => {
                self.counters.routes_found += 1;
                self.unreachable.remove(&destination);
                tracing::debug!(%destination, hops, "route found");
                self.searched(destination, true);
            }
            Event::RouteFailed { destination } => {
                self.counters.routes_failed += 1;
                self.note_unreachable(destination);
                tracing::debug!(%destination, "no route found");
                self.searched(destination, false);
            }
            Event::PaymentVerified { payment, source, amount_msat, share_msat, .. } => {
                self.counters.payments += 1;
                self.counters.earned_msat = self.counters.earned_msat.saturating_add(share_msat);
                let payment = hex::encode(payment);
                tracing::info!(payment, %source, amount_msat, share_msat, "payment accepted");
            }
            Event::Delivered { sequence, destination } => {
                let repeats = self.repeats.delivered(sequence);
                tracing::debug!(sequence, %destination, repeats, "its destination has it");
                if let Some(who) = self.followed.remove(&sequence) {
                    let _ = who.try_send(Progress::Delivered { repeats });
                }
            }
            Event::DeliveryFailed { sequence, destination, reporter, cause } => {
                tracing::debug!(sequence, %destination, %reporter, "stopped on the way: {cause}");
                self.todo.push_back(FollowUp::Stopped { sequence, reporter, cause });
            }
        }
    }

    fn note_unreachable(&mut self, destination: NodeId) {
        let now = self.clock.now();
        if self.unreachable.len() >= MOST_UNREACHABLE {
            self.unreachable.retain(|_, until| *until > now);
        }
        if self.unreachable.len() < MOST_UNREACHABLE {
            self.unreachable.insert(destination, now.saturating_add(UNREACHABLE));
        }
    }

    /// Whether a search found no route to a node just now.
    pub(crate) fn is_unreachable(&self, now: Micros, destination: &NodeId) -> bool {
        self.unreachable.get(destination).is_some_and(|until| *until > now)
    }

    fn searched(&mut self, destination: NodeId, found: bool) {
        for who in self.searches.remove(&destination).into_iter().flatten() {
            // Whoever does not listen any more is not told.
            let _ = who.try_send(found);
        }
    }

    /// Tells how far an own datagram got, and follows it if it was sent.
    pub(crate) fn tell(&mut self, who: smol::channel::Sender<Progress>, progress: Progress) {
        let listens = who.try_send(progress).is_ok();
        if let (true, Progress::Sent { sequence, .. }) = (listens, progress) {
            if self.followed.len() >= MOST_FOLLOWED {
                self.followed.retain(|_, who| !who.is_closed());
            }
            if self.followed.len() < MOST_FOLLOWED {
                self.followed.insert(sequence, who);
            }
        }
    }

    /// A relay stopped an own datagram: it is sent again, or its sender is told that it ends.
    pub(crate) fn stopped(&mut self, now: Micros, sequence: u64, reporter: NodeId, cause: Cause) {
        let repeats = self.repeats.times(sequence).max(self.retries.times(sequence));
        if let Some(repeat) = self.retries.stopped(now, sequence, cause) {
            // It will have another number.
            if let Some(who) = self.followed.remove(&sequence) {
                let _ = who.try_send(Progress::Repeating { reporter, cause, repeat });
            }
        } else if let Some(repeat) = self.repeats.stopped(now, sequence, cause) {
            tracing::info!(sequence, repeat, %reporter, "a paid datagram will be sent again: {cause}");
            if let Some(who) = self.followed.get(&sequence) {
                let _ = who.try_send(Progress::Repeating { reporter, cause, repeat });
            }
        } else if let Some(who) = self.followed.remove(&sequence) {
            let _ = who.try_send(Progress::Stopped { reporter, cause, repeats });
        }
    }

    /// A paid datagram is sent again.
    pub(crate) fn repeating(&mut self, repeat: &Repeat) {
        let Repeat { sequence, number, .. } = *repeat;
        tracing::info!(sequence, number, "a paid datagram is sent again");
        if let Some(who) = self.followed.get(&sequence) {
            let _ = who.try_send(Progress::Repeated { repeat: number });
        }
    }

    /// This node itself did not send one again.
    pub(crate) fn repeat_refused(&mut self, now: Micros, repeat: Repeat, reason: MeshError) {
        let sequence = repeat.sequence;
        if !self.repeats.refused(now, repeat, &reason)
            && let Some(who) = self.followed.remove(&sequence)
        {
            let _ = who.try_send(Progress::Refused(reason));
        }
    }

    /// What waited for a record that will never be durable is not done. The link that may
    /// have room again by that.
    pub(crate) fn refuse_held(&mut self, held: Held) -> Option<(LinkId, RoomAgain)> {
        let Held::Packet { link, bytes, progress, priority } = held else { return None };
        if let Some((who, _)) = progress {
            self.tell(who, Progress::Refused(PaymentReason::StoreFailed.into()));
        }
        let kept = priority != Priority::Control;
        kept.then(|| (link, self.links.give_room_back(link, bytes.len())))
    }

    /// Packets that wait for a route or a look-up, and their bytes.
    pub(crate) fn parked(&self) -> (usize, usize) {
        (self.parked.len(), self.parked_bytes)
    }

    /// Keeps a parked packet, if there is room.
    pub(crate) fn park(&mut self, ticket: Ticket, waiting: Waiting) {
        let bytes = self.parked_bytes.saturating_add(waiting.len());
        if bytes > MOST_PARKED_BYTES {
            let reason = NetworkReason::TooManyParked.into();
            self.refusals.add(&"this node", reason);
            if let Waiting::Own(own) = waiting {
                self.tell(own.progress, Progress::Refused(reason));
            }
            return;
        }
        self.parked_bytes = bytes;
        self.parked.insert(ticket, waiting);
    }

    pub(crate) fn unpark(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.parked.remove(&ticket)?;
        self.parked_bytes = self.parked_bytes.saturating_sub(waiting.len());
        Some(waiting)
    }

    /// An own datagram found no room in time.
    pub(crate) fn refuse_for_room(&mut self, own: OwnSend) {
        let reason = NetworkReason::Congested.into();
        self.refusals.add(&"this node", reason);
        self.tell(own.progress, Progress::Refused(reason));
    }

    /// From time to time.
    pub(crate) fn housekeeping(&mut self) {
        self.refusals.report();
        self.deliveries.report();
        self.retries.housekeeping();
        self.chain.housekeeping();
        self.followed.retain(|_, who| !who.is_closed());
        self.searches.retain(|_, who| {
            who.retain(|who| !who.is_closed());
            !who.is_empty()
        });
    }
}

/// Whether a link is closed for something that its neighbour did. Two that dial
/// each other at once, or one too many, are not at fault; nor is who is configured for another
/// network, who must be let in once that is mended.
fn is_offence(reason: &MeshError) -> bool {
    use NetworkReason as N;
    !matches!(
        reason,
        MeshError::NetworkError(
            N::OtherLinkKept
                | N::TooManyNeighbours
                | N::HopIdTaken
                | N::Itself
                | N::OtherNetwork { .. }
        )
    )
}
