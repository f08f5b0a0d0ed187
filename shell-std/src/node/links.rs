//! The links that are open, as the engine sees them.

use super::clock::Clock;
use super::command::{BUFFERS, Buffer, Command};
use super::conduct::Conduct;
use super::connection;
use super::egress::{Egress, EgressLimits, Pushed, RoomAgain, Sent};
use super::handshake::{Established, Stream, Wire};
use super::line::{LineEnd, Opened};
use super::memory::{Budget, Counted, Share};
use super::presence::{Presence, Present};
use super::status::DialStatus;
use blvm_mesh_core::id::{LinkId, NodeId, Standing};
use blvm_mesh_core::link::joiner::Joiner;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::mesh::Priority;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::Header;
use blvm_mesh_core::wire::hello::Hello;
use secp256k1::PublicKey;
use smol::{Executor, Task};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

/// Memory that a link keeps for the next split packet.
const KEEP: usize = 128 * 1024;
/// Longest packet before the hello, in bytes: a hello is shorter.
const LONGEST_HELLO: usize = 1024;
/// Where memory is scarce, a stranger's link that makes no progress for so long is closed.
const STALLED_IN_NEED: Micros = 2 * SECOND;
/// What a link must have for that, in bytes.
const WORTH_CLOSING: usize = 8 * 1024;

/// Bounds of every link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkSettings {
    pub(crate) egress: EgressLimits,
    /// Most links at once.
    pub(crate) most: usize,
    /// Largest packet that is put together.
    pub(crate) max_packet: usize,
    /// Time in which a split packet must be complete.
    pub(crate) join_timeout: Micros,
    /// Memory of all links, in bytes.
    pub(crate) memory: usize,
    /// A link whose neighbour takes nothing for so long is closed.
    pub(crate) stalled: Micros,
}

/// One link.
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) public_key: PublicKey,
    pub(crate) address: String,
    pub(crate) dialed: bool,
    pub(crate) since: Micros,
    /// Hellos are exchanged.
    pub(crate) up: bool,
    pub(crate) received_packets: u64,
    pub(crate) received_bytes: u64,
    pub(crate) refused: u64,
    /// Issuers that its last hello named.
    pub(crate) issuers: Vec<[u8; 33]>,
    egress: Arc<Egress>,
    dirty: bool,
    joiner: Option<Joiner<Growable>>,
    joined: Counted,
    share: Arc<Share>,
    progress: Progress,
    returned: smol::channel::Sender<Buffer>,
    work: Work,
    _present: Present,
    _up: Option<smol::channel::Sender<Infallible>>,
}

/// What a link had read and written, and since when no more.
#[derive(Debug, Clone, Copy)]
struct Progress {
    read: (u64, Micros),
    written: (u64, Micros),
}

/// Who does the work of a link; ends when it is dropped.
enum Work {
    /// Two tasks of its own.
    Stream { _reader: Task<()>, writer: Task<()> },
    /// The task of the line, which drops its end of `sent` when all is sent.
    Line { sent: smol::channel::Receiver<Infallible>, open: smol::channel::Sender<Infallible> },
}

/// All links.
pub(crate) struct Links {
    clock: Clock,
    pub(crate) settings: LinkSettings,
    links: BTreeMap<LinkId, Link>,
    last: LinkId,
    /// Links so far.
    opened: u64,
    dirty: Vec<LinkId>,
    presence: Arc<Presence>,
    status: Arc<DialStatus>,
    engine: smol::channel::Sender<Command>,
    executor: Arc<Executor<'static>>,
    /// Configured neighbours: own ones also where they dial this node.
    own: BTreeSet<NodeId>,
    budget: Arc<Budget>,
    /// Links closed because their neighbours took nothing, or held memory and did nothing.
    pub(crate) stalled: u64,
    /// Counts of links that are gone.
    past: (Counts, Counts),
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Counts {
    fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

impl Link {
    /// How long nothing was written though something waits, and nothing read though part of
    /// something has come.
    fn stalled(&mut self, now: Micros) -> (Micros, Micros) {
        let (read, written) = self.share.progress();
        let waits = self.share.is_writing() || self.egress.waiting() > 0;
        // A line has its own ways to find out that nobody is there.
        let is_line = matches!(self.work, Work::Line { .. });
        if written != self.progress.written.0 || !waits || is_line {
            self.progress.written = (written, now);
        }
        let unfinished = self.joiner.as_ref().is_some_and(|j| j.poll_timeout().is_some());
        if read != self.progress.read.0 {
            self.progress.read = (read, now);
        } else if let Some(joiner) = &mut self.joiner {
            joiner.trim();
            self.joined.set(joiner.memory());
        }
        if is_line || !(unfinished || self.share.is_partial()) {
            self.progress.read.1 = now;
        }
        let since = |at: Micros| now.saturating_sub(at);
        (since(self.progress.written.1), since(self.progress.read.1))
    }

    pub(crate) fn sent(&self) -> Sent {
        self.egress.sent()
    }

    /// Whether it runs over a serial line.
    pub(crate) fn is_line(&self) -> bool {
        matches!(self.work, Work::Line { .. })
    }
}

impl Links {
    pub(crate) fn new(
        clock: Clock,
        settings: LinkSettings,
        own: BTreeSet<NodeId>,
        presence: Arc<Presence>,
        status: Arc<DialStatus>,
        engine: smol::channel::Sender<Command>,
        executor: Arc<Executor<'static>>,
    ) -> Self {
        Self {
            clock,
            settings,
            links: BTreeMap::new(),
            last: LinkId(0),
            opened: 0,
            dirty: Vec::new(),
            presence,
            status,
            engine,
            executor,
            own,
            budget: Budget::new(settings.memory),
            stalled: 0,
            past: Default::default(),
        }
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Links so far, those refused by the state machine too.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&Link> {
        self.links.get(&link)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    /// Takes a new link in and starts its tasks, unless its neighbour is shut out.
    pub(crate) fn open(
        &mut self,
        now: Micros,
        conduct: &Conduct,
        established: Established,
    ) -> Option<(LinkId, NodeId, bool, Standing)> {
        let Established { wire, address, remote, dialed, standing, up } = established;
        let peer = NodeId::from_public_key(&remote);
        let standing = if self.own.contains(&peer) { Standing::Own } else { standing };
        if conduct.banned(now, &peer).is_some() {
            const BANNED: &str = "banned for repeated violations";
            let reason = match self.status.last(&peer) {
                Some((_, last)) if !last.starts_with(BANNED) => format!("{BANNED}; last: {last}"),
                Some((_, last)) => last,
                None => BANNED.to_owned(),
            };
            self.status.failed(peer, &address, reason);
            tracing::debug!(%peer, %address, "refused a link: the neighbour is banned");
            return None;
        }
        // Own ones are counted by the state machine.
        let own = standing == Standing::Own;
        if !own && self.links.len() >= self.settings.most {
            tracing::warn!(%peer, %address, "refused a link: there are too many");
            return None;
        }
        let id = self.last.next(|id| self.links.contains_key(&id));
        self.last = id;
        self.opened = self.opened.saturating_add(1);
        tracing::debug!(%peer, %address, dialed, link = id.0, "link is open");
        let limits = match &wire {
            Wire::Stream(_) => self.settings.egress,
            Wire::Line(line) => line.egress,
        };
        let share = Share::new(self.budget.clone(), own);
        let egress = Arc::new(Egress::new(limits, share.clone()));
        let (returned, buffers) = smol::channel::bounded(BUFFERS);
        let work = match wire {
            Wire::Stream(stream) => self.work(id, *stream, egress.clone(), &share, buffers),
            Wire::Line(line) => line_work(line, id, egress.clone(), share.clone(), buffers)?,
        };
        let memory = || Growable::new(KEEP);
        let timeout = self.settings.join_timeout;
        let link = Link {
            peer,
            public_key: remote,
            address,
            dialed,
            since: now,
            up: false,
            received_packets: 0,
            received_bytes: 0,
            refused: 0,
            issuers: Vec::new(),
            egress,
            dirty: false,
            joiner: Some(Joiner::new(LONGEST_HELLO, timeout, memory(), memory())),
            joined: Counted::nothing(share.clone()),
            share,
            progress: Progress { read: (0, now), written: (0, now) },
            returned,
            work,
            _present: self.presence.enter(peer),
            _up: up,
        };
        self.links.insert(id, link);
        Some((id, peer, dialed, standing))
    }

    /// Starts the tasks of a TCP connection.
    fn work(
        &self,
        id: LinkId,
        stream: Stream,
        egress: Arc<Egress>,
        share: &Arc<Share>,
        buffers: smol::channel::Receiver<Buffer>,
    ) -> Work {
        let Stream { stream, sender, receiver } = stream;
        let stream = Arc::new(stream);
        let engine = self.engine.clone();
        let (s, e) = (share.clone(), engine.clone());
        let read = connection::read(id, stream.clone(), receiver, s, e, buffers);
        let reader = self.executor.spawn(async move {
            let reason = read.await.to_string();
            let _ = engine.send(Command::LinkDown { link: id, reason }).await;
        });
        let engine = self.engine.clone();
        let write = connection::write(id, stream, sender, egress, share.clone(), engine.clone());
        let writer = self.executor.spawn(async move {
            let reason = write.await.to_string();
            let _ = engine.send(Command::LinkDown { link: id, reason }).await;
        });
        Work::Stream { _reader: reader, writer }
    }

    /// Closes a link at once; `None` if it is gone already.
    pub(crate) fn close(&mut self, now: Micros, link: LinkId, reason: &str) -> Option<()> {
        let gone = self.links.remove(&link)?;
        let sent = gone.sent();
        if !gone.up {
            self.status.failed(gone.peer, &gone.address, reason.to_owned());
        }
        self.past.0.add(gone.received_packets, gone.received_bytes);
        self.past.1.add(sent.packets, sent.bytes);
        let seconds = now.saturating_sub(gone.since) / 1_000_000;
        let unsent = sent.waiting;
        tracing::info!(peer = %gone.peer, link = link.0, seconds, unsent, "link closed: {reason}");
        Some(())
    }

    /// Lets every link send what waits, and takes nothing more. The tasks end when
    /// all is sent.
    pub(crate) fn finish(&mut self) -> Vec<Task<()>> {
        let links = std::mem::take(&mut self.links).into_values().map(|link| {
            link.egress.finish();
            match link.work {
                Work::Stream { writer, .. } => writer,
                Work::Line { sent, open } => self.executor.spawn(async move {
                    // Nothing comes: this ends when the line has no more to send.
                    let _ = sent.recv().await;
                    drop(open);
                }),
            }
        });
        links.collect()
    }

    pub(crate) fn push(
        &mut self,
        link: LinkId,
        priority: Priority,
        head: &[u8],
        tail: &[u8],
    ) -> Option<Pushed> {
        Some(self.touch(link)?.push(priority, head, tail))
    }

    /// Keeps room for a paid packet that must wait for something else first.
    pub(crate) fn reserve(&self, link: LinkId, len: usize) -> Option<Pushed> {
        Some(self.links.get(&link)?.egress.reserve(len))
    }

    /// Sends a paid packet for which room was kept.
    pub(crate) fn push_reserved(&mut self, link: LinkId, packet: &[u8]) -> Option<Pushed> {
        Some(self.touch(link)?.push_reserved(packet))
    }

    /// Gives back the room for a paid packet that will not come.
    pub(crate) fn give_room_back(&self, link: LinkId, len: usize) -> RoomAgain {
        self.links.get(&link).map(|link| link.egress.give_back(len)).unwrap_or_default()
    }

    /// The queues of a link whose writer is to be woken.
    fn touch(&mut self, link: LinkId) -> Option<&Egress> {
        let state = self.links.get_mut(&link)?;
        if !state.dirty {
            state.dirty = true;
            self.dirty.push(link);
        }
        Some(&state.egress)
    }

    /// Wakes the writers of all links that were given packets.
    pub(crate) fn wake_writers(&mut self) {
        for link in self.dirty.drain(..) {
            if let Some(state) = self.links.get_mut(&link) {
                state.dirty = false;
                state.egress.wake();
            }
        }
    }

    pub(crate) fn up(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.up = true;
            link.share.set_up();
            self.status.linked(&link.peer);
        }
    }

    /// Keeps what a hello says and the state machine has no use for.
    pub(crate) fn note_hello(&mut self, link: LinkId, packet: &[u8]) {
        let hello = Header::parse(packet).and_then(|(header, body)| Hello::parse(header, body));
        if let (Ok(hello), Some(link)) = (hello, self.links.get_mut(&link)) {
            link.issuers = hello.issuers.to_vec();
        }
    }

    /// Counts a refused packet; gives the neighbour's identity.
    pub(crate) fn refused(&mut self, link: LinkId) -> Option<NodeId> {
        let link = self.links.get_mut(&link)?;
        link.refused += 1;
        Some(link.peer)
    }

    pub(crate) fn take_joiner(&mut self, link: LinkId) -> Option<Joiner<Growable>> {
        self.links.get_mut(&link)?.joiner.take()
    }

    /// Ends the treatment of a batch that began with [`Self::take_joiner`].
    pub(crate) fn give_back(
        &mut self,
        link: LinkId,
        joiner: Joiner<Growable>,
        buffer: Buffer,
        received: Counts,
    ) {
        if let Some(link) = self.links.get_mut(&link) {
            link.joined.set(joiner.memory());
            link.joiner = Some(joiner);
            link.received_packets += received.packets;
            link.received_bytes += received.bytes;
            // There are never more buffers than places.
            let _ = link.returned.try_send(buffer);
        }
    }

    /// Longest packet that is taken on a link now, in bytes; `None` if it is gone.
    pub(crate) fn longest_packet(&self, link: LinkId) -> Option<usize> {
        let up = self.links.get(&link)?.up;
        Some(if up { self.settings.max_packet } else { LONGEST_HELLO })
    }

    /// Whether a link has more memory than it may have, for a packet that is not complete.
    pub(crate) fn holds_too_much(&self, link: LinkId) -> bool {
        let over = |link: &Link| link.joiner.as_ref().is_some_and(|j| j.memory() > KEEP);
        self.links.get(&link).is_some_and(|link| over(link) && !link.share.is_within())
    }

    /// Lanes that have room again because memory was given back.
    pub(crate) fn look(&self) -> Vec<(LinkId, RoomAgain)> {
        let links = self.links.iter().map(|(id, link)| (*id, link.egress.look()));
        links.filter(|(_, room)| *room != RoomAgain::default()).collect()
    }

    /// Links to be closed, and why: a packet was not completed in time, or the neighbour takes
    /// nothing. While memory is scarce also those of strangers that hold some and make no
    /// progress, the largest first.
    pub(crate) fn overdue(&mut self, now: Micros) -> Vec<(LinkId, String)> {
        let mut closed = Vec::new();
        let mut idle = Vec::new();
        for (id, link) in &mut self.links {
            if let Some(Err(error)) = link.joiner.as_mut().map(|j| j.handle_timeout(now)) {
                closed.push((*id, error.to_string()));
                continue;
            }
            let stalled = link.stalled(now);
            if stalled.0 >= self.settings.stalled {
                closed.push((*id, "the neighbour is not reading; its queue is full".to_owned()));
                self.stalled += 1;
            } else if !link.share.is_own()
                && link.share.used() >= WORTH_CLOSING
                && stalled.0.max(stalled.1) >= STALLED_IN_NEED
            {
                idle.push((link.share.used(), *id));
            }
        }
        idle.sort_unstable();
        let mut over = self.budget.scarce();
        while let (true, Some((bytes, id))) = (over > 0, idle.pop()) {
            over = over.saturating_sub(bytes);
            let why = "memory is scarce, and the link held some without making progress";
            closed.push((id, why.to_owned()));
            self.stalled += 1;
        }
        closed
    }

    /// Packets and bytes received and sent, links that are gone included.
    pub(crate) fn totals(&self) -> (Counts, Counts) {
        let (mut received, mut sent) = self.past;
        for link in self.links.values() {
            received.add(link.received_packets, link.received_bytes);
            let s = link.sent();
            sent.add(s.packets, s.bytes);
        }
        (received, sent)
    }

    /// Neighbours that are up.
    pub(crate) fn up_count(&self) -> usize {
        self.links.values().filter(|link| link.up).count()
    }
}

/// Hands the link to the task of the line; `None` if that is gone.
fn line_work(
    line: LineEnd,
    id: LinkId,
    egress: Arc<Egress>,
    share: Arc<Share>,
    buffers: smol::channel::Receiver<Buffer>,
) -> Option<Work> {
    let (all_sent, sent) = smol::channel::bounded(1);
    let (open, closed) = smol::channel::bounded(1);
    let opened = Opened { link: id, egress, share, buffers, closed, all_sent };
    line.opened.try_send(opened).ok()?;
    Some(Work::Line { sent, open })
}
