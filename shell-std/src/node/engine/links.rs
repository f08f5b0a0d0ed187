//! The links that are open, as the engine sees them.

use super::counted::{ByClass, Counts};
use crate::node::bans::Bans;
use crate::node::clock::Clock;
use crate::node::link::buffer::Buffer;
use crate::node::link::egress::{Egress, Pushed, RoomAgain, Sent};
use crate::node::link::memory::{Budget, Share};
use crate::node::presence::{Presence, Present};
use crate::node::status::DialStatus;
use crate::node::transport::{Carriage, Limits, Medium, Offer};
use blvm_mesh_core::id::{LinkId, NodeId, Standing};
use blvm_mesh_core::mesh::{Input, LinkCapabilities, NetworkReason, Priority};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::wire::Header;
use blvm_mesh_core::wire::hello::Hello;
use secp256k1::PublicKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why there is no link with a node that is banned.
pub(crate) const BANNED: &str = "the operator has banned it (`blvm-mesh peer unban`)";
/// Where memory is scarce, a stranger's link that makes no progress for so long is closed.
const STALLED_IN_NEED: Micros = 2 * SECOND;
/// What a link must have for that, in bytes.
const WORTH_CLOSING: usize = 8 * 1024;

/// Bounds of every link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkSettings {
    /// Most links at once.
    pub(crate) most: usize,
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
    /// How soon the neighbour answers a datagram; 0: it need not.
    pub(crate) keepalive: Micros,
    egress: Arc<Egress>,
    dirty: bool,
    share: Arc<Share>,
    progress: Progress,
    limits: Limits,
    carriage: Carriage,
    _present: Present,
}

/// What a link had read and written, and since when no more.
#[derive(Debug, Clone, Copy)]
struct Progress {
    read: (u64, Micros),
    written: (u64, Micros),
}

/// All links.
pub(crate) struct Links {
    clock: Clock,
    pub(crate) settings: LinkSettings,
    links: BTreeMap<LinkId, Link>,
    last: LinkId,
    /// Links so far, and those of them that others dialled.
    opened: u64,
    accepted: u64,
    dirty: Vec<LinkId>,
    presence: Arc<Presence>,
    status: Arc<DialStatus>,
    /// Configured neighbours: own ones also where they dial this node.
    own: BTreeSet<NodeId>,
    bans: Arc<Bans>,
    budget: Arc<Budget>,
    /// What several links share, by its number.
    media: BTreeMap<u8, Medium>,
    /// Links closed because their neighbours took nothing, or held memory and did nothing.
    pub(crate) stalled: u64,
    /// Packets by what they are.
    pub(crate) by_class: ByClass,
    /// Counts of links that are gone.
    past: (Counts, Counts),
}

impl Link {
    /// How long nothing was written though something waits, and nothing read though part of
    /// something has come.
    fn stalled(&mut self, now: Micros) -> (Micros, Micros) {
        let (read, written) = self.share.progress();
        let waits = self.share.is_writing() || self.egress.waiting() > 0;
        let is_watched = self.limits.is_watched;
        if written != self.progress.written.0 || !waits || is_watched {
            self.progress.written = (written, now);
        }
        // Where the engine is behind, it is not the neighbour who makes no progress.
        let may_read = self.share.is_unfinished() && !self.share.awaits_engine();
        if read != self.progress.read.0 || is_watched || !may_read {
            self.progress.read = (read, now);
        }
        let since = |at: Micros| now.saturating_sub(at);
        (since(self.progress.written.1), since(self.progress.read.1))
    }

    pub(crate) fn sent(&self) -> Sent {
        self.egress.sent()
    }

    /// How soon the neighbour answers a datagram, as it says, or as the link takes at least.
    pub(crate) fn answers_within(&self) -> Micros {
        self.keepalive.max(self.limits.round_trip)
    }

    /// Whether it may have what is reserved for own neighbours.
    #[cfg(test)]
    pub(crate) fn is_own(&self) -> bool {
        self.share.is_own()
    }

    /// Whether answers over it take longer than over others.
    pub(crate) fn is_slow(&self) -> bool {
        self.limits.is_slow()
    }
}

impl Links {
    pub(crate) fn new(
        clock: Clock,
        settings: LinkSettings,
        own: BTreeSet<NodeId>,
        bans: Arc<Bans>,
        presence: Arc<Presence>,
        status: Arc<DialStatus>,
    ) -> Self {
        Self {
            clock,
            settings,
            links: BTreeMap::new(),
            last: LinkId(0),
            opened: 0,
            accepted: 0,
            dirty: Vec::new(),
            presence,
            status,
            own,
            bans,
            budget: Budget::new(settings.memory),
            media: BTreeMap::new(),
            stalled: 0,
            by_class: ByClass::default(),
            past: Default::default(),
        }
    }

    /// Whose links count as own ones from now on, also where they dial this node: the open links
    /// that do so too.
    pub(crate) fn set_own(&mut self, own: BTreeSet<NodeId>) -> Vec<LinkId> {
        self.own = own;
        let links = self.links.iter().filter(|(_, link)| self.own.contains(&link.peer));
        let links = links.inspect(|(_, link)| link.share.set_own());
        links.map(|(id, _)| *id).collect()
    }

    /// The links with a node.
    pub(crate) fn with(&self, node: &NodeId) -> Vec<LinkId> {
        let links = self.links.iter().filter(|(_, link)| link.peer == *node);
        links.map(|(id, _)| *id).collect()
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

    /// Those of them that others dialled.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&Link> {
        self.links.get(&link)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    /// Why a link was closed, for people: of a neighbour that is banned, what it did last.
    fn told(&self, peer: &NodeId, reason: &str) -> String {
        let banned = NetworkReason::Banned.to_string();
        match self.status.last(peer) {
            Some((_, last)) if reason == banned && last.starts_with(&banned) => last,
            Some((_, last)) if reason == banned => format!("{banned}; last: {last}"),
            _ => reason.to_owned(),
        }
    }

    /// Takes a new link in: what the state machine is told.
    pub(crate) fn open(&mut self, now: Micros, offer: Offer) -> Option<Input<'static>> {
        let neighbour = &offer.neighbour;
        let (public_key, dialed, standing) =
            (neighbour.public_key, neighbour.dialed, neighbour.standing);
        let (address, limits) = (neighbour.address.clone(), neighbour.limits);
        let medium = neighbour.medium.clone();
        let peer = NodeId::from_public_key(&public_key);
        if self.bans.is_banned(&peer) {
            tracing::debug!(%peer, %address, "refused a link: the node is banned");
            self.status.note(peer, BANNED.to_owned());
            return None;
        }
        let standing = if self.own.contains(&peer) { Standing::Own } else { standing };
        // Own ones are counted by the state machine.
        let own = standing == Standing::Own;
        if !own && self.links.len() >= self.settings.most {
            tracing::warn!(%peer, %address, "refused a link: there are too many");
            return None;
        }
        let id = self.last.next(|id| self.links.contains_key(&id));
        self.last = id;
        self.opened = self.opened.saturating_add(1);
        self.accepted = self.accepted.saturating_add(u64::from(!dialed));
        tracing::debug!(%peer, %address, dialed, link = id.0, "link is open");
        let share = Share::new(self.budget.clone(), own);
        let egress = Arc::new(Egress::new(limits.egress, share.clone()));
        let carriage = offer.accept(id, egress.clone(), share.clone())?;
        let link = Link {
            peer,
            public_key,
            address,
            dialed,
            since: now,
            up: false,
            received_packets: 0,
            received_bytes: 0,
            refused: 0,
            issuers: Vec::new(),
            keepalive: 0,
            egress,
            dirty: false,
            share,
            progress: Progress { read: (0, now), written: (0, now) },
            limits,
            carriage,
            _present: self.presence.enter(peer),
        };
        self.links.insert(id, link);
        let capabilities = limits.keepalive.map(|keepalive| LinkCapabilities {
            max_packet: u32::try_from(limits.egress.max_packet).unwrap_or(u32::MAX),
            keepalive,
            medium: medium.as_ref().map_or(0, |medium| medium.number),
        });
        self.media.extend(medium.map(|medium| (medium.number, medium)));
        Some(Input::PeerConnected { link: id, peer, dialed, standing, capabilities })
    }

    /// Closes a link at once; `None` if it is gone already.
    pub(crate) fn close(&mut self, now: Micros, link: LinkId, reason: &str) -> Option<()> {
        let gone = self.links.remove(&link)?;
        let sent = gone.sent();
        if !gone.up {
            self.status.failed(gone.peer, &gone.address, self.told(&gone.peer, reason));
        }
        self.past.0.add(gone.received_packets, gone.received_bytes);
        self.past.1.add(sent.packets, sent.bytes);
        let seconds = now.saturating_sub(gone.since) / 1_000_000;
        let unsent = sent.waiting;
        tracing::info!(peer = %gone.peer, link = link.0, seconds, unsent, "link closed: {reason}");
        Some(())
    }

    /// Lets every link send what waits, and takes nothing more: they end when all is sent.
    pub(crate) fn finish(&mut self) -> Vec<Carriage> {
        let links = std::mem::take(&mut self.links).into_values().map(|link| {
            link.egress.finish();
            link.carriage
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

    /// Sends a packet to all neighbours on a medium but one; false if it was dropped.
    pub(crate) fn send_all(&self, medium: u8, except: Option<LinkId>, packet: &[u8]) -> bool {
        self.media.get(&medium).is_some_and(|medium| medium.send_all(except, packet))
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
            link.keepalive = u64::from(hello.keepalive_ms) * MILLISECOND;
        }
    }

    /// Counts a refused packet; gives the neighbour's identity.
    pub(crate) fn refused(&mut self, link: LinkId) -> Option<NodeId> {
        let link = self.links.get_mut(&link)?;
        link.refused += 1;
        Some(link.peer)
    }

    /// Counts the packets of a batch, and gives its buffer back.
    pub(crate) fn received(&mut self, link: LinkId, mut buffer: Buffer, received: Counts) {
        if let Some(link) = self.links.get_mut(&link) {
            link.received_packets += received.packets;
            link.received_bytes += received.bytes;
            link.share.end_event();
            buffer.clear();
            link.carriage.give_back(buffer);
        }
    }

    /// An event without packets was handled that proved a link's neighbour alive.
    pub(crate) fn heard(&self, link: LinkId) {
        if let Some(link) = self.links.get(&link) {
            link.share.end_event();
        }
    }

    /// Links of which the engine has yet to handle packets, or other signs of life.
    pub(crate) fn awaiting(&self) -> Vec<LinkId> {
        let awaiting = self.links.iter().filter(|(_, link)| link.share.awaits_engine());
        awaiting.map(|(id, _)| *id).collect()
    }

    /// Whether a link has more memory than it may have.
    pub(crate) fn holds_too_much(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| !link.share.is_within())
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
            // What waits for the engine may be the rest.
            if link.share.is_overdue(now) && !link.share.awaits_engine() {
                closed.push((*id, "a packet was not complete in time".to_owned()));
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
