//! Radios on which the core's channel runs: neighbours find each other by what they hear, and what
//! all must hear is one frame.
//!
//! Each end of a link is a connection of its own here, with one end: whether the other node has a
//! session too is its own affair.

use super::World;
use super::bytes::{Bytes, Path};
use super::datagrams::{EndKeys, lane};
use super::machine::Input;
use super::radio::CHANNEL_KEY;
use super::wires::{Conn, Line, LinkCode, conn_of, link_of};
use super::world::Event;
use crate::rng::Rng;
use blvm_mesh_core::id::{HopId, LinkId, NodeId, Standing};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::channel::lora::{HEADER_LEN, MAX_FRAME};
use blvm_mesh_core::link::channel::{self, Channel, ChannelLimits, PeerNumber};
use blvm_mesh_core::link::datagram::{Keys, LinkQuality, terms};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::mesh::LinkCapabilities;
use blvm_mesh_core::time::{MILLISECOND, Micros};
use std::collections::{BTreeMap, VecDeque};

/// The medium that all links of a node share.
const MEDIUM: u8 = 1;
/// Neighbours of a node, at most.
const NEIGHBOURS: usize = 32;
/// Packets of which it is known where they were before.
const PATHS: usize = 4096;

/// A link of a node.
struct Peer {
    conn: usize,
    quality: LinkQuality,
}

/// A node's radio.
pub(super) struct NodeChannel {
    channel: Channel<RustCrypto, Growable, NEIGHBOURS>,
    keys: EndKeys,
    peers: BTreeMap<PeerNumber, Peer>,
    /// Packets that it has sent, and where they were before.
    paths: VecDeque<(Bytes, Path)>,
    /// The frame that is on the air.
    frame: Option<Vec<u8>>,
    /// Whether it was told that somebody is heard.
    busy: bool,
    /// When it is asked again what it has to send.
    timer: Micros,
}

/// The radios of nodes, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Channels(Vec<Option<NodeChannel>>);

impl Channels {
    fn get(&self, n: &usize) -> Option<&NodeChannel> {
        self.0.get(*n)?.as_ref()
    }

    fn get_mut(&mut self, n: &usize) -> Option<&mut NodeChannel> {
        self.0.get_mut(*n)?.as_mut()
    }

    fn insert(&mut self, n: usize, channel: NodeChannel) {
        if self.0.len() <= n {
            self.0.resize_with(n + 1, || None);
        }
        self.0[n] = Some(channel);
    }

    fn remove(&mut self, n: &usize) -> Option<NodeChannel> {
        self.0.get_mut(*n)?.take()
    }
}

impl std::fmt::Debug for NodeChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeChannel({} peers)", self.peers.len())
    }
}

/// What is known of a node's radio.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnAir {
    /// Neighbours with sessions.
    pub neighbours: usize,
    /// Air time of all that it has sent since it was started, in microseconds.
    pub sent: Micros,
}

/// What a frame is, for those who count.
fn kind(frame: &[u8]) -> &'static str {
    match frame {
        [0, 0, _, _, 1, ..] => "beacons",
        [0, 0, _, _, 2, ..] => "announcements",
        [0, 0, ..] => "packets to all",
        [_, _, _, _, what, ..] if *what > terms::SESSIONS => "handshakes",
        _ => "sessions",
    }
}

impl World {
    /// What is known of a node's radio, where the core's channel runs on it.
    pub fn on_air(&self, n: usize) -> OnAir {
        let channel = self.channels.get(&n).map(|own| &own.channel);
        channel.map_or_else(OnAir::default, |channel| OnAir {
            neighbours: channel.peers().count(),
            sent: channel.access().sent(),
        })
    }

    /// Gives every node a radio on the channel.
    pub(super) fn start_channels(&mut self) {
        self.runs_channels = true;
        for n in 0..self.nodes.len() {
            self.start_channel(n);
        }
    }

    /// A node's radio begins anew.
    pub(super) fn start_channel(&mut self, n: usize) {
        let Some(medium) = &self.radio else { return };
        let limits = ChannelLimits::new(medium.modem, NEIGHBOURS, self.nodes[n].config.max_packet);
        let mut chance = Rng::new(self.chance.draw());
        let seed = chance.bytes32();
        let keys = EndKeys::new(&self.nodes[n].key, chance);
        let channel = Channel::new(limits, CHANNEL_KEY, seed, &keys.local().public_key(), self.now);
        let (peers, paths) = (BTreeMap::new(), VecDeque::new());
        let new = NodeChannel {
            channel,
            keys,
            peers,
            paths,
            frame: None,
            busy: false,
            timer: Micros::MAX,
        };
        self.channels.insert(n, new);
        self.ask_channel(n, self.now);
    }

    /// The radio loses power, and with it what it knew.
    pub(super) fn stop_channel(&mut self, n: usize) {
        let Some(gone) = self.channels.remove(&n) else { return };
        for peer in gone.peers.values() {
            self.conns[peer.conn].open = false;
        }
    }

    fn ask_channel(&mut self, n: usize, at: Micros) {
        if let Some(own) = self.channels.get_mut(&n)
            && at < own.timer
        {
            own.timer = at;
            self.at(at, Event::Channel { node: n, at });
        }
    }

    /// A radio is asked for what it has to send.
    pub(super) fn channel_timer(&mut self, n: usize, at: Micros) {
        let Some(own) = self.channels.get_mut(&n).filter(|own| own.timer == at) else { return };
        own.timer = Micros::MAX;
        if own.frame.is_some() {
            return;
        }
        let (now, mut out) = (self.now, [0; MAX_FRAME]);
        let len = own.channel.transmit(now, &mut own.keys, &mut out);
        match len {
            Some(len) => {
                own.frame = Some(out[..len].to_vec());
                self.put_on_air(n, &out[..len]);
            }
            None => {
                let again = own.channel.poll_timeout(now).unwrap_or(Micros::MAX);
                self.ask_channel(n, again.max(now + MILLISECOND));
            }
        }
        self.learn_of_channel(n);
    }

    fn put_on_air(&mut self, n: usize, frame: &[u8]) {
        let Some(medium) = &mut self.radio else { return };
        let (number, airtime) = medium.begin(n, frame.len() + HEADER_LEN, 0);
        *medium.airtime_of.entry(kind(frame)).or_default() += airtime;
        self.tell_that_somebody_sends(n);
        self.at(self.now + airtime, Event::Silence { node: n, number });
    }

    /// Whoever hears a radio that begins to send learns of it.
    pub(super) fn tell_that_somebody_sends(&mut self, n: usize) {
        let Some(medium) = &self.radio else { return };
        // A modem needs a preamble to know that somebody sends.
        let later = self.now + medium.modem.symbols(u64::from(medium.modem.preamble));
        self.at(later, Event::Sense { node: n });
    }

    /// Tells a radio whether somebody is heard.
    fn sense(&mut self, n: usize) {
        let busy = self.radio.as_ref().is_some_and(|medium| medium.is_busy(n));
        let Some(own) = self.channels.get_mut(&n) else { return };
        if std::mem::replace(&mut own.busy, busy) != busy {
            own.channel.carrier(self.now, busy);
            if !busy {
                self.ask_when_due(n);
            }
        }
    }

    fn ask_when_due(&mut self, n: usize) {
        let now = self.now;
        if let Some(own) = self.channels.get_mut(&n)
            && let Some(at) = own.channel.poll_timeout(now)
        {
            self.ask_channel(n, at.max(now));
        }
    }

    /// A frame has ended: these have heard it whole.
    pub(super) fn channel_frame_over(&mut self, n: usize, good: &[usize]) {
        let now = self.now;
        let Some(own) = self.channels.get_mut(&n) else { return };
        let Some(frame) = own.frame.take() else { return };
        own.channel.sent(now);
        self.ask_channel(n, now);
        for m in good {
            self.hear(*m, &frame);
        }
        self.sense_all(n);
    }

    /// A radio hears a frame.
    fn hear(&mut self, m: usize, frame: &[u8]) {
        if m >= self.nodes.len() {
            self.outsider.iter_mut().for_each(|outsider| outsider.hears(frame));
        }
        let (now, mut bytes) = (self.now, frame.to_vec());
        self.tamper(&mut bytes);
        let Some(other) = self.channels.get_mut(&m) else { return };
        if other.channel.receive(now, &mut bytes, 0, &mut other.keys).is_err() {
            // It is asked when the channel is free, as all are.
            return self.checks.count("frames ignored");
        }
        self.learn_of_channel(m);
        self.ask_when_due(m);
    }

    /// A radio hears a frame of somebody who holds the channel's key and nothing else. What was sent
    /// once may come late; anything else moves nothing but candidates.
    pub(super) fn hear_lie(&mut self, m: usize, frame: &[u8], new: bool) {
        let known = |world: &Self| {
            let own = world.channels.get(&m);
            own.map(|own| (own.channel.peers().collect::<Vec<_>>(), world.account.inputs))
        };
        let before = known(self);
        self.hear(m, frame);
        assert!(!new || known(self) == before, "I3: a lie moved a neighbour: {frame:02x?}");
    }

    /// All who hear a radio learn whether somebody is heard.
    pub(super) fn sense_all(&mut self, n: usize) {
        let heard = self.radio.as_ref().map(|medium| medium.hearers(n)).unwrap_or_default();
        heard.into_iter().for_each(|m| self.sense(m));
    }

    fn peer_of(&self, n: usize, link: LinkId) -> Option<PeerNumber> {
        let (conn, _) = conn_of(link);
        let own = self.channels.get(&n)?;
        own.peers.iter().find(|(_, peer)| peer.conn == conn).map(|(number, _)| *number)
    }

    fn remember(&mut self, n: usize, bytes: &Bytes, path: Path) {
        let Some(own) = self.channels.get_mut(&n) else { return };
        if own.paths.len() >= PATHS {
            own.paths.pop_front();
        }
        own.paths.push_back((bytes.clone(), path));
    }

    /// Queues a packet for a neighbour.
    pub(super) fn queue_for_peer(&mut self, conn: usize, bytes: Bytes, path: Path) {
        let (n, now) = (self.conns[conn].ends[0], self.now);
        let Some(peer) = self.peer_of(n, link_of(conn, 0)) else { return };
        self.remember(n, &bytes, path);
        let Some(own) = self.channels.get_mut(&n) else { return };
        if own.channel.queue(now, peer, lane(&bytes), &bytes, &[]).is_err() {
            self.checks.count("lost in a full queue");
        }
        self.ask_channel(n, now);
    }

    /// Queues a packet for all neighbours but one.
    pub(super) fn queue_for_all(
        &mut self,
        n: usize,
        except: Option<LinkId>,
        bytes: &Bytes,
        path: Path,
    ) {
        let now = self.now;
        let has = except.and_then(|link| self.peer_of(n, link));
        self.nodes[n].note(bytes);
        self.account.carried(bytes);
        self.remember(n, bytes, path);
        let Some(own) = self.channels.get_mut(&n) else { return };
        if own.channel.queue_all(now, has, bytes).is_err() {
            self.checks.count("lost in a full queue");
        }
        self.ask_channel(n, now);
    }

    /// The state machine closes a link.
    pub(super) fn close_peer(&mut self, conn: usize) {
        let (n, now) = (self.conns[conn].ends[0], self.now);
        let Some(peer) = self.peer_of(n, link_of(conn, 0)) else { return };
        if let Some(own) = self.channels.get_mut(&n) {
            own.channel.close(peer);
        }
        self.ask_channel(n, now);
    }

    /// Tells a node what its radio has to tell.
    fn learn_of_channel(&mut self, n: usize) {
        let now = self.now;
        while let Some(event) =
            self.channels.get_mut(&n).and_then(|own| own.channel.poll_event(now))
        {
            match event {
                channel::Event::Up(number, key) => {
                    self.peer_up(n, number, NodeId::from_public_key(&key))
                }
                channel::Event::Down(number, _) => {
                    let gone = self.channels.get_mut(&n).and_then(|own| own.peers.remove(&number));
                    let Some(gone) = gone else { continue };
                    self.checks.count("channel sessions that ended");
                    let conn = &mut self.conns[gone.conn];
                    conn.open = false;
                    conn.broken_at.get_or_insert(now);
                    self.input(n, Input::PeerDisconnected { link: link_of(gone.conn, 0) });
                }
            }
        }
        loop {
            let Some(own) = self.channels.get_mut(&n) else { return };
            let Some(packet) = own.channel.next_packet() else { break };
            let bytes = Bytes::from(&*packet.bytes);
            let Some(conn) = own.peers.get(&packet.peer).map(|peer| peer.conn) else { continue };
            let from = self.conns[conn].ends[1];
            let sent = self.channels.get(&from).map(|other| &other.paths);
            let at = sent.and_then(|sent| sent.iter().rev().find(|(sent, _)| *sent == bytes));
            // Whoever sent it may have been started again since.
            let path = at.map(|(_, path)| path.clone()).unwrap_or_default();
            self.nodes[n].note(&bytes);
            let link = link_of(conn, 0);
            self.input_on(n, Input::MessageReceived { link, packet: bytes }, path);
        }
        self.tell_of_queues(n);
    }

    fn peer_up(&mut self, n: usize, number: PeerNumber, peer: NodeId) {
        let m = self.by_hop.get(&HopId(peer.hop().0)).copied().expect("I3: a key of nobody");
        assert_eq!(self.id(m), peer, "I3: a link proved another's key");
        self.checks.count("channel sessions");
        let conn = self.conns.len();
        let lately = self.now.saturating_sub(self.reply_time);
        let conns = &self.conns;
        let known = |c: &usize| conns[*c].open || conns[*c].broken_at >= Some(lately);
        self.nodes[n].conns.retain(known);
        self.nodes[n].conns.push(conn);
        let line = Line { code: LinkCode::Channel, ..Line::default() };
        self.conns.push(Conn::new([n, m], line));
        let max_packet = self.nodes[n].config.max_packet;
        let Some(own) = self.channels.get_mut(&n) else { return };
        let state = own.channel.peers().find(|state| state.peer == number);
        let quality = LinkQuality::new(state.map(|state| state.sent).unwrap_or_default());
        own.peers.insert(number, Peer { conn, quality });
        let capabilities = Some(LinkCapabilities { max_packet, keepalive: 0, medium: MEDIUM });
        let (link, dialed, standing) = (link_of(conn, 0), false, Standing::Own);
        self.input(n, Input::PeerConnected { link, peer, dialed, standing, capabilities });
    }

    /// Tells a node which of its queues are full, and how good its links are.
    fn tell_of_queues(&mut self, n: usize) {
        let Some(own) = self.channels.get_mut(&n) else { return };
        let mut measured = Vec::new();
        for state in own.channel.peers() {
            if let Some(peer) = own.peers.get_mut(&state.peer)
                && let Some(quality) = peer.quality.update(state.sent)
            {
                measured.push((peer.conn, quality));
            }
        }
        let most = self.nodes[n].config.max_packet as usize;
        let mut changed = Vec::new();
        for (number, peer) in &own.peers {
            for lane in [Lane::Free, Lane::Paid] {
                let full = own.channel.room(*number, lane) < most / 2;
                if self.conns[peer.conn].full[0][lane as usize] != full {
                    changed.push((peer.conn, lane, full));
                }
            }
        }
        for (conn, lane, full) in changed {
            self.conns[conn].full[0][lane as usize] = full;
            self.at(self.now, Event::Congested { conn, side: 0, lane, full });
        }
        for (conn, quality) in measured {
            self.checks.count("links measured");
            self.input(n, Input::LinkMeasured { link: link_of(conn, 0), quality });
        }
    }
}
