//! The task that owns the state machine: takes commands and packets in, one after the other,
//! and waits for nobody but its channels.
//!
//! ```text
//! run: input -> time -> drive (handle, then poll until Wait; `shell` carries the actions out)
//!                         | Outcome: what is left to whoever gave the input
//!                         v
//!                       settle: the inputs that the actions have caused, in turn
//! ```
//!
//! `time.rs` has what comes due, `commands.rs` what clients want, `send.rs` this node's own
//! datagrams.

pub(crate) mod chain;
mod commands;
pub(crate) mod counted;
pub(crate) mod durable;
mod events;
mod flows;
pub(crate) mod invoices;
pub(crate) mod links;
mod own;
mod parked;
pub(crate) mod payments;
pub(crate) mod prepaid;
mod prepay;
mod probes;
pub(crate) mod refusals;
pub(crate) mod reports;
mod retries;
mod send;
pub(crate) mod shell;
mod store;
mod time;
mod waitlist;

use super::deliveries::Delivery;
use super::progress::{OwnSend, Progress};
use super::transport::{Batch, Carriage, LinkEvent};
use crate::bench::{self, Bench, Plan};
use crate::flows::hub::{Ask, Hub};
use crate::probe::{Heard, Probes};
use crate::rpc::types::{FlowList, Peer, Route, RouteAccepts, Stats};
use crate::wallet::{Bill, Ended, Kept, Resolved};
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{HopId, LinkId, NodeId};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::{Action, HostMesh, Input, MeshError, Misuse, Ticket};
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::Micros;
use blvm_mesh_core::wire::Kind;
use counted::{Counted, Counts};
use durable::Committed;
use parked::Waiting;
use payments::Wanting;
use reports::{Planned, Priced, Sight};
use shell::{FollowUp, Origin, Outcome, Shell};
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::{or, yield_now};
use std::collections::BTreeSet;

/// Where the kind stands in a packet's header.
const KIND: usize = 5;

/// What the engine is asked and told by clients. An answer goes to whoever still waits for it.
pub(crate) enum Command {
    /// Send a datagram of our own.
    Send(Box<OwnSend>),
    /// Look for a route, or renew one, and where `accepted` is set learn which payments its
    /// nodes accept: whether one was found.
    Find { destination: NodeId, accepted: bool, found: Sender<bool> },
    /// Look for members of a group, and tell who is found.
    FindMembers { group: NodeId, found: Sender<NodeId> },
    /// Take block headers, the first of this height, up to the first that is refused: its place,
    /// and why.
    Headers { headers: Vec<[u8; 80]>, height: u32, refused: Sender<Option<(usize, MeshError)>> },
    /// A look-up in the chain has ended.
    LookedUp(chain::BlockHash, chain::Answer),
    /// The invoice that a request waits for was written, or there is none.
    InvoiceWritten(Ticket, Option<String>),
    /// Paying the invoice of a purchase has ended.
    InvoicePaid(Ticket, Ended),
    /// What became of a payment whose outcome was not known.
    PaymentResolved(Resolved, Option<Kept>),
    /// An invoice for a datagram was written, with this payment hash, which expires then.
    InvoiceAsked([u8; 32], u64, Sender<()>),
    /// Turn the sink for trials on or off.
    BenchSink(bool, Sender<()>),
    /// Begin a trial with this number: where its figures come, or nothing if one is under way.
    Bench(Plan, u64, Sender<Option<Receiver<bench::Outcome>>>),
    /// Answer probes of others, or no longer.
    AnswerProbes(bool, Sender<()>),
    /// Send a probe whose data have so many bytes: where its answer comes, and news of it.
    Ping((NodeId, usize), Sender<Heard>, Sender<Progress>),
    /// Take over what may change of the settings, with whose links count as own ones.
    Reconfigure(Box<(Config, BTreeSet<NodeId>)>, Sender<()>),
    /// Close the links with a node, for this reason: how many there were.
    Part(NodeId, &'static str, Sender<usize>),
    /// The neighbour that would have to be trusted for anything paid to reach a node, where that
    /// keeps it from there.
    Untrusted(NodeId, Sender<Option<NodeId>>),
    /// Whether anybody has connected to this node so far.
    WasReached(Sender<bool>),
    /// The links.
    Peers(Sender<Vec<Peer>>),
    /// The routes, so many of them at most.
    Routes(usize, Sender<Vec<Route>>),
    /// Of the routes to a node that take the largest packets the cheapest.
    WidestRoute(NodeId, Sender<Option<Route>>),
    /// The best route to a node.
    Route(NodeId, Sender<Option<Route>>),
    /// What that accepts as payment, as far as it was told.
    Accepts(NodeId, Sender<Option<RouteAccepts>>),
    /// What it costs to send so many bytes by it.
    Quote(NodeId, u64, Sender<Option<Priced>>),
    /// What one payment for bytes at all relays of it takes.
    QuoteAccounts(NodeId, u64, Sender<Option<prepaid::Quoted>>),
    /// Buy at a relay behind these: bytes, and what they cost in millisatoshi.
    Prepay(Vec<HopId>, HopId, (u64, u64), Sender<prepaid::Prepaid>),
    /// What a flow to a node would buy at each hop to carry so many bytes, and what may be spent.
    Plan(NodeId, u64, Sender<Planned>),
    /// Ask a node for an invoice that somebody else pays: the bill, or why there is none.
    AskFor(Box<Wanting>, Sender<Result<Bill, String>>),
    /// Show a preimage to the node that was paid: bytes that were bought, and what is there now.
    Redeem(Box<Kept>, Sender<Result<(u64, u64), String>>),
    /// The flows that pass, or end here, so many of each at most.
    Flows(usize, Sender<FlowList>),
    /// What is counted by class.
    Counted(Sender<Box<Counted>>),
    /// Everything that is counted here.
    Stats(Sender<Box<Stats>>),
    /// The link that a datagram to a node takes now.
    LinkTowards(NodeId, Sender<Option<LinkId>>),
    /// How a link stands.
    Sight(LinkId, Sender<Option<Sight>>),
    /// Whether everything durable was written that must be.
    IsQuiet(Sender<bool>),
    /// Take nothing more in: the links, which send what is queued on them.
    Stop(Sender<Vec<Carriage>>),
    /// Look into the engine, or meddle with it.
    #[cfg(test)]
    Inspect(Box<dyn FnOnce(&mut Engine) + Send>),
}

/// The state machine and what carries its actions out.
pub(crate) struct Engine {
    pub(crate) mesh: HostMesh,
    pub(crate) shell: Shell,
    pub(crate) bench: Bench,
    pub(crate) probes: Probes,
    hub: Hub,
    inputs: Inputs,
    /// Links are looked at before clients this time.
    links_first: bool,
    next_tick: Micros,
    next_overdue: Micros,
    stop: bool,
}

/// What comes to the engine.
pub(crate) struct Inputs {
    pub(crate) events: Receiver<LinkEvent>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) committed: Receiver<Committed>,
}

/// What ended the wait.
enum Woken {
    Event(LinkEvent),
    Command(Command),
    Committed(Committed),
    Flows(Ask),
    /// It is time for something, or the load generator or the sink has sent.
    Time,
    Closed,
}

impl Engine {
    pub(crate) fn new(
        mesh: HostMesh,
        shell: Shell,
        bench: Bench,
        answer_probes: bool,
        hub: Hub,
        inputs: Inputs,
    ) -> Self {
        let probes = Probes::new(mesh.config().magic, answer_probes);
        Self {
            mesh,
            shell,
            bench,
            probes,
            hub,
            inputs,
            links_first: true,
            next_tick: 0,
            next_overdue: 0,
            stop: false,
        }
    }

    /// Tells the state machine what the store remembers, before any link is there.
    pub(crate) fn restore(&mut self, record: Record) -> Result<(), Misuse> {
        let now = self.shell.clock.now();
        match self.drive(now, Input::Persisted { record }, Origin::Other) {
            Outcome::Misused(misuse) => Err(misuse),
            _ => Ok(()),
        }
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut timer = Timer::never();
        let mut timer_at = Micros::MAX;
        while !self.stop {
            let woken = match self.at_hand() {
                Some(woken) => woken,
                None if self.pump() || self.is_due() => Woken::Time,
                None => {
                    self.shell.links.wake_writers();
                    let until = self.deadline();
                    // Re-arming costs: a timer that fires early does no harm.
                    if until < timer_at {
                        timer.set_at(self.shell.clock.instant(until));
                        timer_at = until;
                    }
                    let woken = self.wait(&mut timer).await;
                    if matches!(woken, Woken::Time) {
                        timer_at = Micros::MAX;
                    }
                    woken
                }
            };
            // What has just come still counts as waiting for the engine while time passes.
            let now = self.shell.clock.now();
            self.time(now);
            match woken {
                Woken::Event(event) => self.event(now, event),
                Woken::Command(command) => self.command(now, command),
                Woken::Committed(result) => self.committed(now, result),
                Woken::Flows(ask) => self.flow_ask(now, ask),
                Woken::Time => {}
                Woken::Closed => break,
            }
            self.shell.links.wake_writers();
            // Lets the writers run before more is taken in.
            yield_now().await;
        }
    }

    fn at_hand(&mut self) -> Option<Woken> {
        if let Ok(result) = self.inputs.committed.try_recv() {
            return Some(Woken::Committed(result));
        }
        if self.shell.durable.stalled() {
            return None;
        }
        // Neither keeps the other from its turn.
        self.links_first = !self.links_first;
        let event = || self.inputs.events.try_recv().ok().map(Woken::Event);
        let command = || {
            let ask = || self.hub.asks.try_recv().ok().map(Woken::Flows);
            self.inputs.commands.try_recv().ok().map(Woken::Command).or_else(ask)
        };
        match self.links_first {
            true => event().or_else(command),
            false => command().or_else(event),
        }
    }

    async fn wait(&self, timer: &mut Timer) -> Woken {
        let time = async {
            timer.await;
            Woken::Time
        };
        let committed = async {
            match self.inputs.committed.recv().await {
                Ok(result) => Woken::Committed(result),
                // The store's thread ended after its failure was told.
                Err(_) => std::future::pending().await,
            }
        };
        if self.shell.durable.stalled() {
            return or(committed, time).await;
        }
        let command =
            async { self.inputs.commands.recv().await.map_or(Woken::Closed, Woken::Command) };
        let event = async {
            match self.inputs.events.recv().await {
                Ok(event) => Woken::Event(event),
                // There are no carriers.
                Err(_) => std::future::pending().await,
            }
        };
        let ask = async {
            match self.hub.asks.recv().await {
                Ok(ask) => Woken::Flows(ask),
                // The hub itself can always be asked.
                Err(_) => std::future::pending().await,
            }
        };
        or(event, or(command, or(ask, or(committed, time)))).await
    }

    fn event(&mut self, now: Micros, event: LinkEvent) {
        self.tell_inbox(now);
        match event {
            LinkEvent::Batch(batch) => self.batch(now, batch),
            LinkEvent::Offered(offer) => {
                let connected = self.shell.links.open(now, *offer);
                if let Some(input) = connected {
                    self.give(now, input);
                }
            }
            LinkEvent::Starved { link } => self.starved(now, link),
            LinkEvent::Down { link, reason } => self.close(now, link, &reason),
            LinkEvent::Room { link, lane } => self.lane_has_room(now, link, lane),
            LinkEvent::Alive { link, incoming } => {
                self.shell.links.heard(link);
                self.give(now, Input::LinkAlive { link, incoming });
            }
            LinkEvent::Measured { link, quality } => {
                self.give(now, Input::LinkMeasured { link, quality });
            }
        }
        self.settle(now);
    }

    fn batch(&mut self, now: Micros, batch: Batch) {
        let Batch { link, mut buffer } = batch;
        let mut received = Counts::default();
        for number in 0..buffer.packets.len() {
            // One of them may have closed it.
            if self.shell.links.get(link).is_none() {
                return;
            }
            let Some(packet) = buffer.packet(number) else { continue };
            received.packets += 1;
            received.bytes += packet.len() as u64;
            self.packet(now, link, packet);
        }
        self.shell.links.received(link, buffer, received);
    }

    fn packet(&mut self, now: Micros, link: LinkId, packet: &mut [u8]) {
        let kind = counted::kind(packet, &[]);
        self.shell.links.by_class.note(false, kind, packet.len());
        let input = Input::MessageReceived { link, packet: &mut *packet };
        let outcome = self.drive(now, input, Origin::Other);
        if let Some(ticket) = self.received(now, link, outcome, packet) {
            self.shell.park(ticket, Waiting::Packet(link, packet.to_vec()));
        }
        if packet.get(KIND) == Some(&(Kind::Hello as u8)) {
            self.shell.links.note_hello(link, packet);
        }
        self.settle(now);
    }

    fn drive(&mut self, now: Micros, input: Input<'_>, origin: Origin<'_>) -> Outcome {
        drive(&mut self.mesh, &mut self.shell, now, input, origin)
    }

    /// Gives an input of which nothing is left to do here.
    pub(crate) fn give(&mut self, now: Micros, input: Input<'_>) {
        if let Outcome::Refused(reason) = self.drive(now, input, Origin::Other) {
            self.shell.count_own_refusal(reason);
        }
    }

    /// Gives the inputs that the actions carried out have caused.
    fn settle(&mut self, now: Micros) {
        loop {
            self.shell.pay_what_is_due(&self.mesh);
            let Some(next) = self.shell.todo.pop_front() else { return };
            match next {
                FollowUp::Full(link, lane) => {
                    self.give(now, Input::Congestion { link, lane, full: true });
                }
                FollowUp::Resume(ticket) => self.resume(now, ticket),
                FollowUp::Block(ticket, block) => {
                    self.give(now, Input::PaymentVerified { ticket, block });
                }
                FollowUp::Paid(ticket, preimage) => {
                    self.give(now, Input::InvoicePaid { ticket, preimage });
                }
                FollowUp::Invoice(ticket, invoice) => self.invoice(now, ticket, invoice),
                FollowUp::Close(link, reason) => self.close(now, link, &reason),
                FollowUp::Flow(flow, event) => self.flow_event(now, flow, event),
                FollowUp::Inbox => self.tell_inbox(now),
                FollowUp::Stopped { sequence, reporter, cause } => {
                    if !self.bench.stopped(sequence) {
                        self.shell.own.stopped(now, sequence, reporter, cause);
                    }
                }
            }
        }
    }

    fn resume(&mut self, now: Micros, ticket: Ticket) {
        match self.shell.parked.take(ticket) {
            Some(Waiting::Packet(link, mut packet)) => {
                let input = Input::Resumed { ticket, packet: &mut packet };
                let outcome = self.drive(now, input, Origin::Other);
                if let Some(ticket) = self.received(now, link, outcome, &packet) {
                    self.shell.park(ticket, Waiting::Packet(link, packet));
                }
            }
            Some(Waiting::Own(own)) => self.send(now, own),
            // It was dropped, with a reason, when there was no room for it.
            None => {}
        }
    }

    /// An invoice was written for a request that waits, or there is none. One that was dropped
    /// meanwhile needs none.
    fn invoice(&mut self, now: Micros, ticket: Ticket, invoice: Option<String>) {
        if let Some(Waiting::Packet(_, packet)) = self.shell.parked.take(ticket) {
            let text = invoice.as_deref().unwrap_or_default().as_bytes();
            self.give(now, Input::Invoice { ticket, packet: &packet, invoice: text });
            invoice.into_iter().for_each(|invoice| self.shell.invoices.keep(now, invoice));
        }
    }

    /// Acts on what became of a received packet; `Some`: it is to be kept under this ticket.
    fn received(
        &mut self,
        now: Micros,
        link: LinkId,
        outcome: Outcome,
        packet: &[u8],
    ) -> Option<Ticket> {
        match outcome {
            Outcome::Parked(ticket) => Some(ticket),
            Outcome::Delivered(delivery, payload) => {
                self.delivered(now, link, delivery, packet.get(payload));
                None
            }
            _ => None,
        }
    }

    /// A packet was for this node: a probe, a bridged connection's, a trial's, or to be fetched.
    fn delivered(
        &mut self,
        now: Micros,
        link: LinkId,
        mut delivery: Delivery,
        payload: Option<&[u8]>,
    ) {
        let payload = payload.unwrap_or_default();
        if delivery.earned_msat == 0 && self.takes_probe(now, link, delivery.source, payload) {
            return;
        }
        let (source, shell) = (delivery.source, &self.shell);
        let from = shell.links.get(link).map_or(source, |link| link.peer);
        if delivery.earned_msat == 0
            && shell.bridge.take(now, source, from, delivery.protocol, payload)
        {
            return;
        }
        if !self.bench.takes(now, delivery.source, payload) {
            delivery.payload = payload.to_vec();
            self.shell.deliver(delivery);
        }
    }

    /// A link's lane has room again: the state machine may send on it, and what waited goes.
    fn lane_has_room(&mut self, now: Micros, link: LinkId, lane: Lane) {
        self.give(now, Input::Congestion { link, lane, full: false });
        self.settle(now);
        self.room(now);
    }

    /// Says whether paid datagrams for this node have room, where that has changed.
    fn tell_inbox(&mut self, now: Micros) {
        for input in self.shell.deliveries.changes() {
            self.give(now, input);
        }
    }

    /// A link has no memory for a packet that comes in parts: another that holds some and does
    /// nothing gives way, or it does.
    fn starved(&mut self, now: Micros, link: LinkId) {
        if self.shell.links.holds_too_much(link) {
            self.overdue(now);
        }
        if self.shell.links.holds_too_much(link) {
            self.close(now, link, "no memory is left for the packet that it sends in parts");
        }
    }

    /// Closes a link and tells the state machine; does nothing if it is gone.
    fn close(&mut self, now: Micros, link: LinkId, reason: &str) {
        if self.shell.links.close(now, link, reason).is_some() {
            self.give(now, Input::PeerDisconnected { link });
            self.settle(now);
        }
    }
}

/// Gives the state machine an input and carries out what it decides; there is no other place
/// where that is done. Whoever gave the input acts on the outcome, and then has
/// [`Engine::settle`] do what follows.
fn drive(
    mesh: &mut HostMesh,
    shell: &mut Shell,
    now: Micros,
    input: Input<'_>,
    origin: Origin<'_>,
) -> Outcome {
    let (handled, bytes): (_, &[u8]) = match input {
        Input::MessageReceived { link, packet } => {
            let input = Input::MessageReceived { link, packet: &mut *packet };
            (mesh.handle(now, input), packet)
        }
        Input::Resumed { ticket, packet } => {
            (mesh.handle(now, Input::Resumed { ticket, packet: &mut *packet }), packet)
        }
        Input::Send { payload, .. } => (mesh.handle(now, input), payload),
        Input::Repeat { packet } => (mesh.handle(now, input), packet),
        _ => (mesh.handle(now, input), &[]),
    };
    if let Err(misuse) = handled {
        tracing::error!(%misuse, "the state machine was misused");
        return Outcome::Misused(misuse);
    }
    let mut outcome = Outcome::Done;
    loop {
        match mesh.poll() {
            Action::Wait { until } => {
                shell.until = until;
                return outcome;
            }
            Action::Verdict(verdict) => outcome = shell.apply_verdict(now, verdict, bytes, origin),
            action => shell.execute(now, action, bytes, origin),
        }
    }
}
