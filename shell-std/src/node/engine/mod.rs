//! The task that owns the state machine: takes commands in, gives it inputs, and
//! has its actions carried out. It waits for nobody but its channels.

pub(crate) mod chain;
pub(crate) mod conduct;
pub(crate) mod durable;
pub(crate) mod links;
pub(crate) mod refusals;
pub(crate) mod retries;
pub(crate) mod shell;
mod waitlist;

use super::clock::Clock;
use super::progress::{OwnSend, Progress};
use super::transport::{Batch, LinkEvent};
use crate::bench::Bench;
use crate::chain::ChainError;
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::mesh::{
    Action, HostMesh, Input, MeshError, NetworkReason, RoutingReason, Ticket, Verdict,
};
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::Kind;
use durable::{Committed, Held};
use links::Counts;
use shell::{FollowUp, Origin, Shell, Waiting};
use smol::Timer;
use smol::channel::Receiver;
use smol::future::{or, yield_now};
use waitlist::Waitlist;

/// Pause between readings of the wall clock and other housekeeping.
const TICK: Micros = 10 * SECOND;
/// Pause between looks for packets that were not completed in time.
const OVERDUE_TICK: Micros = SECOND;

/// Where the kind stands in a packet's header.
const KIND: usize = 5;

/// What the engine does for others between two inputs.
pub(crate) type Job = Box<dyn FnOnce(&mut Engine) + Send>;

/// What the engine is told by clients.
pub(crate) enum Command {
    /// Send a datagram of our own.
    Send(Box<OwnSend>),
    /// Do this.
    Job(Job),
}

/// The state machine and what carries its actions out.
pub(crate) struct Engine {
    pub(crate) mesh: HostMesh,
    pub(crate) shell: Shell,
    pub(crate) bench: Bench,
    events: Receiver<LinkEvent>,
    commands: Receiver<Command>,
    committed: Receiver<Committed>,
    /// Links are looked at before clients this time.
    links_first: bool,
    next_tick: Micros,
    next_overdue: Micros,
    pub(crate) stop: bool,
}

/// What ended the wait.
enum Woken {
    Event(LinkEvent),
    Command(Command),
    Committed(Committed),
    Time,
    Closed,
}

impl Engine {
    pub(crate) fn new(
        mesh: HostMesh,
        shell: Shell,
        bench: Bench,
        events: Receiver<LinkEvent>,
        commands: Receiver<Command>,
        committed: Receiver<Committed>,
    ) -> Self {
        let (next_tick, next_overdue) = (0, OVERDUE_TICK);
        Self {
            mesh,
            shell,
            bench,
            events,
            commands,
            committed,
            links_first: true,
            next_tick,
            next_overdue,
            stop: false,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut timer = Timer::never();
        let mut timer_at = Micros::MAX;
        while !self.stop {
            self.time();
            let woken = match self.at_hand() {
                Some(woken) => woken,
                None if self.pump() => {
                    self.shell.links.wake_writers();
                    yield_now().await;
                    continue;
                }
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
            match woken {
                Woken::Event(event) => {
                    self.event(event);
                    self.shell.links.wake_writers();
                    // Lets the writers run before more is taken in.
                    yield_now().await;
                }
                Woken::Command(command) => {
                    self.command(command);
                    self.shell.links.wake_writers();
                    yield_now().await;
                }
                Woken::Committed(result) => self.committed(result),
                Woken::Time => {}
                Woken::Closed => break,
            }
        }
    }

    fn deadline(&self) -> Micros {
        let mesh = self.shell.until.unwrap_or(Micros::MAX);
        let repeats = self.shell.repeats.due().into_iter().chain(self.shell.retries.due());
        let repeat = repeats.min().unwrap_or(Micros::MAX);
        let own = self.shell.waitlist.due().min(self.bench.deadline()).min(repeat);
        mesh.min(self.next_tick).min(self.next_overdue).min(own)
    }

    fn at_hand(&mut self) -> Option<Woken> {
        if let Ok(result) = self.committed.try_recv() {
            return Some(Woken::Committed(result));
        }
        if self.shell.durable.stalled() {
            return None;
        }
        // Neither keeps the other from its turn.
        self.links_first = !self.links_first;
        let event = || self.events.try_recv().ok().map(Woken::Event);
        let command = || self.commands.try_recv().ok().map(Woken::Command);
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
            match self.committed.recv().await {
                Ok(result) => Woken::Committed(result),
                // The store's thread ended after its failure was told.
                Err(_) => std::future::pending().await,
            }
        };
        if self.shell.durable.stalled() {
            return or(committed, time).await;
        }
        let command = async { self.commands.recv().await.map_or(Woken::Closed, Woken::Command) };
        let event = async {
            match self.events.recv().await {
                Ok(event) => Woken::Event(event),
                // There are no carriers.
                Err(_) => std::future::pending().await,
            }
        };
        or(event, or(command, or(committed, time))).await
    }

    /// Does what is due by now.
    fn time(&mut self) {
        let now = self.shell.clock.now();
        if self.shell.until.is_some_and(|until| until <= now) {
            self.give(now, Input::Timer);
        }
        while let Some(repeat) = self.shell.repeats.take(now, self.mesh.unix()) {
            self.shell.repeating(&repeat);
            match self.mesh.handle(now, Input::Repeat { packet: &repeat.packet }) {
                Ok(()) => self.drain(now, &repeat.packet, Origin::Repeat),
                Err(misuse) => tracing::error!(%misuse, "the state machine was misused"),
            }
            if let Some(reason) = self.shell.not_repeated.take() {
                self.shell.repeat_refused(now, repeat, reason);
            }
            self.settle(now);
        }
        while let Some(own) = self.shell.retries.take(now) {
            self.send(now, own);
        }
        if self.next_tick <= now {
            self.next_tick = now.saturating_add(TICK);
            match Clock::unix() {
                Some(unix) => self.give(now, Input::WallClock { unix }),
                None => tracing::warn!("the system's clock is set before 1970: no payment passes"),
            }
            self.shell.housekeeping();
        }
        while let Some(own) = self.shell.waitlist.pop_overdue(now) {
            self.shell.refuse_for_room(own);
        }
        if self.next_overdue <= now {
            self.next_overdue = now.saturating_add(OVERDUE_TICK);
            self.overdue(now);
            for (link, room) in self.shell.links.look() {
                for lane in room.lanes() {
                    self.give(now, Input::Congestion { link, lane, full: false });
                    self.room(now);
                }
            }
        }
    }

    /// Says whether paid datagrams for this node have room, where that has changed.
    fn tell_inbox(&mut self, now: Micros) {
        for input in self.shell.deliveries.changes() {
            self.settle_input(now, input);
        }
    }

    fn event(&mut self, event: LinkEvent) {
        let now = self.shell.clock.now();
        self.tell_inbox(now);
        match event {
            LinkEvent::Batch(batch) => self.batch(now, batch),
            LinkEvent::Offered(offer) => {
                let connected = self.shell.links.open(now, &self.shell.conduct, *offer);
                if let Some(input) = connected {
                    self.give(now, input);
                }
            }
            LinkEvent::Starved { link } => self.starved(now, link),
            LinkEvent::Down { link, reason } => self.close(now, link, &reason),
            LinkEvent::Room { link, lane } => {
                self.give(now, Input::Congestion { link, lane, full: false });
                self.room(now);
            }
            LinkEvent::Alive { link, incoming } => {
                self.give(now, Input::LinkAlive { link, incoming });
            }
            LinkEvent::Measured { link, quality } => {
                self.give(now, Input::LinkMeasured { link, quality });
            }
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.shell.clock.now();
        self.tell_inbox(now);
        match command {
            Command::Send(own) => self.send(now, *own),
            Command::Job(job) => {
                job(self);
                self.settle(now);
            }
        }
    }

    /// Gives an input without bytes.
    pub(crate) fn give(&mut self, now: Micros, input: Input<'_>) {
        match self.mesh.handle(now, input) {
            Ok(()) => self.drain(now, &[], Origin::Other),
            Err(misuse) => tracing::error!(%misuse, "the state machine was misused"),
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

    fn overdue(&mut self, now: Micros) {
        for (link, reason) in self.shell.links.overdue(now) {
            self.close(now, link, &reason);
        }
    }

    fn packet(&mut self, now: Micros, link: LinkId, packet: &mut [u8]) {
        match self.mesh.handle(now, Input::MessageReceived { link, packet }) {
            Ok(()) => {
                self.drain(now, packet, Origin::Other);
                if packet.get(KIND) == Some(&(Kind::Hello as u8)) {
                    self.shell.links.note_hello(link, packet);
                }
                if let Some(ticket) = self.shell.parked_as.take() {
                    self.shell.park(ticket, Waiting::Packet(link, packet.to_vec()));
                }
            }
            Err(misuse) => tracing::error!(%misuse, "the state machine was misused"),
        }
        self.settle(now);
    }

    pub(crate) fn send(&mut self, now: Micros, own: OwnSend) {
        self.send_without_settling(now, own);
        self.settle(now);
    }

    fn send_without_settling(&mut self, now: Micros, own: OwnSend) {
        let until = Waitlist::until(now);
        let refused = match self.shell.waitlist.has(&own.destination) {
            true => Err(own),
            false => self.try_send(now, own),
        };
        let too_much = refused.or_else(|own| self.shell.waitlist.put(until, own));
        if let Err(own) = too_much {
            self.shell.refuse_for_room(own);
        }
    }

    /// A link has room again: own datagrams that waited for it go, in their order.
    fn room(&mut self, now: Micros) {
        self.bench.room();
        // Of those to one node none passes another.
        let mut full = Vec::new();
        for _ in 0..self.shell.waitlist.len() {
            let Some((until, own)) = self.shell.waitlist.pop() else { return };
            let own = match full.contains(&own.destination) {
                true => own,
                false => match self.try_send(now, own) {
                    Ok(()) => {
                        self.settle(now);
                        continue;
                    }
                    Err(own) => own,
                },
            };
            full.push(own.destination);
            self.shell.waitlist.put_back(until, own);
        }
    }

    /// Sends an own datagram, or gives it back if its link is full.
    fn try_send(&mut self, now: Micros, own: OwnSend) -> Result<(), OwnSend> {
        if self.shell.is_unreachable(now, &own.destination)
            && self.mesh.table().find_route(&own.destination, now).is_none()
        {
            self.shell.tell(own.progress, Progress::Refused(RoutingReason::NoRoute.into()));
            return Ok(());
        }
        let OwnSend { destination, payload, proof, unchecked, .. } = &own;
        let input =
            Input::Send { destination: *destination, payload, proof, unchecked: *unchecked };
        match self.mesh.handle(now, input) {
            Ok(()) => {
                self.drain(now, payload, Origin::Own(&own.progress));
                if let Some(ticket) = self.shell.parked_as.take() {
                    self.shell.park(ticket, Waiting::Own(own));
                } else if std::mem::take(&mut self.shell.no_room) {
                    return Err(own);
                } else if let Some(sequence) = self.shell.sent_free.take() {
                    self.shell.retries.keep(now, sequence, own);
                }
            }
            Err(misuse) => tracing::error!(%misuse, "the state machine was misused"),
        }
        Ok(())
    }

    /// Lets the load generator and the sink send; `false` if neither has anything.
    fn pump(&mut self) -> bool {
        if self.shell.durable.stalled() || !self.bench.active() {
            return false;
        }
        let now = self.shell.clock.now();
        let mut sent = false;
        // Few at a time: answers and writers are to get their turn.
        for _ in 0..32 {
            let Some((destination, from, payload)) = self.bench.next(now) else { break };
            let input = Input::Send { destination, payload, proof: &[], unchecked: false };
            if let Err(misuse) = self.mesh.handle(now, input) {
                tracing::error!(%misuse, "the state machine was misused");
                break;
            }
            loop {
                match self.mesh.poll() {
                    Action::Wait { until } => {
                        self.shell.until = until;
                        break;
                    }
                    action => self.shell.execute(now, action, payload, Origin::Bench),
                }
            }
            if let Some(ticket) = self.shell.parked_as.take() {
                let own = OwnSend {
                    destination,
                    payload: payload.to_vec(),
                    proof: Vec::new(),
                    unchecked: false,
                    progress: smol::channel::bounded(1).0,
                    until: 0,
                    retries: 0,
                };
                self.shell.park(ticket, Waiting::Own(own));
            }
            let outcome = self.shell.bench_outcome.take();
            self.bench.sent(from, outcome);
            self.settle(now);
            sent = true;
        }
        sent
    }

    fn drain(&mut self, now: Micros, input: &[u8], origin: Origin<'_>) {
        loop {
            match self.mesh.poll() {
                Action::Wait { until } => {
                    self.shell.until = until;
                    return;
                }
                Action::Verdict(Verdict::Deliver { source, payload, after: None, .. })
                    if self.bench.takes(
                        now,
                        source,
                        input.get(payload.clone()).unwrap_or_default(),
                    ) => {}
                action => self.shell.execute(now, action, input, origin),
            }
        }
    }

    /// Gives the inputs that the actions carried out have caused.
    fn settle(&mut self, now: Micros) {
        while let Some(next) = self.shell.todo.pop_front() {
            match next {
                FollowUp::Full(link, lane) => {
                    self.settle_input(now, Input::Congestion { link, lane, full: true });
                }
                FollowUp::Resume(ticket) => self.resume(now, ticket),
                FollowUp::Block(ticket, block) => {
                    self.settle_input(now, Input::PaymentVerified { ticket, block });
                }
                FollowUp::Close(link, reason) => self.close(now, link, &reason),
                FollowUp::Inbox => self.tell_inbox(now),
                FollowUp::Stopped { sequence, reporter, cause } => {
                    if !self.bench.stopped(sequence) {
                        self.shell.stopped(now, sequence, reporter, cause);
                    }
                }
            }
        }
    }

    fn settle_input(&mut self, now: Micros, input: Input<'_>) {
        match self.mesh.handle(now, input) {
            Ok(()) => self.drain(now, &[], Origin::Other),
            Err(misuse) => tracing::error!(%misuse, "the state machine was misused"),
        }
    }

    fn resume(&mut self, now: Micros, ticket: Ticket) {
        match self.shell.unpark(ticket) {
            Some(Waiting::Packet(link, mut packet)) => {
                match self.mesh.handle(now, Input::Resumed { ticket, packet: &mut packet }) {
                    Ok(()) => self.drain(now, &packet, Origin::Other),
                    Err(misuse) => tracing::error!(%misuse, "the state machine was misused"),
                }
                if let Some(ticket) = self.shell.parked_as.take() {
                    self.shell.park(ticket, Waiting::Packet(link, packet));
                }
            }
            Some(Waiting::Own(own)) => self.send_without_settling(now, own),
            // It was dropped, with a reason, when there was no room for it.
            None => {}
        }
    }

    /// Gives block headers, the first of this height. Stops at the first that is refused,
    /// and tells its place and why.
    pub(crate) fn headers(
        &mut self,
        headers: &[[u8; 80]],
        height: u32,
    ) -> Option<(usize, MeshError)> {
        let now = self.shell.clock.now();
        for (place, (header, height)) in headers.iter().zip(height..).enumerate() {
            if let Err(misuse) = self.mesh.handle(now, Input::BlockHeader { header, height }) {
                tracing::error!(%misuse, "the state machine was misused");
            }
            let mut refused = None;
            loop {
                match self.mesh.poll() {
                    Action::Wait { until } => {
                        self.shell.until = until;
                        break;
                    }
                    // Whoever gave it is told; it is no neighbour's.
                    Action::Verdict(Verdict::Reject { link: None, reason, .. }) => {
                        refused = Some((place, reason));
                    }
                    action => self.shell.execute(now, action, &[], Origin::Other),
                }
            }
            if refused.is_some() {
                return refused;
            }
        }
        None
    }

    /// A look-up in the chain has ended.
    pub(crate) fn looked_up(
        &mut self,
        hash: &[u8; 32],
        answer: &Result<Option<KnownHeader>, ChainError>,
    ) {
        let block = *answer.as_ref().unwrap_or(&None);
        let tickets = self.shell.chain.answered(hash, answer);
        self.shell.todo.extend(tickets.into_iter().map(|ticket| FollowUp::Block(ticket, block)));
    }

    /// Closes a link and tells the state machine; does nothing if it is gone.
    fn close(&mut self, now: Micros, link: LinkId, reason: &str) {
        if self.shell.links.close(now, link, reason).is_some() {
            self.settle_input(now, Input::PeerDisconnected { link });
            self.settle(now);
        }
    }

    fn committed(&mut self, result: Committed) {
        let now = self.shell.clock.now();
        match result {
            Ok(number) => {
                for held in self.shell.durable.committed(number) {
                    self.release(now, held);
                }
                if std::mem::take(&mut self.shell.durable.failed) {
                    tracing::warn!("the store can be written again: payments are accepted");
                    self.settle_input(now, Input::StoreRecovered);
                }
                self.shell.links.wake_writers();
            }
            Err(error) => {
                tracing::error!(
                    error,
                    waiting = self.shell.durable.waiting(),
                    "the store cannot be written: no payment is accepted until it can, and what \
                     was accepted waits"
                );
                self.shell.durable.failed = true;
                self.settle_input(now, Input::StoreFailed);
            }
        }
        self.settle(now);
    }

    fn release(&mut self, now: Micros, held: Held) {
        match held {
            Held::Packet { link, priority, bytes, progress } => {
                let sent = self.shell.push_held(link, priority, &bytes);
                if let Some((who, progress)) = progress {
                    let gone = Progress::Refused(NetworkReason::LinkClosed.into());
                    self.shell.tell(who, if sent { progress } else { gone });
                }
            }
            Held::Delivery { source, sequence, protocol, earned_msat, payload } => {
                if earned_msat > 0 {
                    self.shell.deliveries.expect_no_more(source, payload.len());
                }
                if !self.bench.takes(now, source, &payload) {
                    self.shell.deliver(source, sequence, protocol, earned_msat, payload);
                }
            }
            Held::Payment { event, own, settlement } => {
                self.shell.booked(event, own, settlement);
            }
        }
    }

    /// The node stops: what waits for the store is not done.
    pub(crate) fn give_up(&mut self) {
        let waiting = self.shell.durable.give_up();
        if !waiting.is_empty() {
            tracing::error!(waiting = waiting.len(), "not sent: its payment could not be written");
        }
        let now = self.shell.clock.now();
        for held in waiting {
            let Some((link, room)) = self.shell.refuse_held(held) else { continue };
            for lane in room.lanes() {
                self.settle_input(now, Input::Congestion { link, lane, full: false });
            }
        }
    }

    /// The link that a datagram to a node takes now.
    pub(crate) fn link_towards(&self, destination: NodeId) -> Option<LinkId> {
        let table = self.mesh.table();
        let route = table.find_route(&destination, self.shell.clock.now())?;
        let first = route.path().first().copied().unwrap_or(destination.hop());
        table.neighbours.live(first).map(|neighbour| neighbour.link)
    }

    /// Whether everything durable was written that must be.
    pub(crate) fn quiet(&self) -> bool {
        !self.shell.durable.waits()
    }

    /// Looks for a route with an input that does so, and tells whether one was found.
    pub(crate) fn find(
        &mut self,
        input: Input<'_>,
        destination: NodeId,
        who: smol::channel::Sender<bool>,
    ) {
        let now = self.shell.clock.now();
        self.shell.searches.entry(destination).or_default().push(who);
        match self.mesh.handle(now, input) {
            Ok(()) => self.drain(now, &[], Origin::Search(destination)),
            Err(misuse) => tracing::error!(%misuse, "the state machine was misused"),
        }
        self.settle(now);
    }
}
