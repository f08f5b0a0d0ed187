//! Links with those peers of the node that speak the mesh: each is authenticated and encrypted
//! by the handshake of BOLT 8, whatever the node's own connection is. It does no I/O.
//!
//! The link is that of lines which lose frames
//! ([`datagram`](blvm_mesh_core::link::datagram)): the node drops events for a module that is
//! slow.

use crate::carrier;
use crate::keys::ModuleKeys;
use blvm_mesh::address::prefix;
use blvm_mesh::aead::Ring;
use blvm_mesh::manager::NodeApiError;
use blvm_mesh_core::id::Standing;
use blvm_mesh_core::link::datagram::{
    DatagramLimits, DatagramLink, Event, LinkMemory, NotQueued, Role,
};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::mesh::Priority;
use blvm_mesh_core::secp256k1::PublicKey;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::token_bucket::TokenBucket;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound;

/// Largest frame of a link, in bytes.
pub const FRAME: u16 = 32 * 1024;
/// Bytes that wait for a link on one lane before it counts as full; it takes twice as much.
const FULL: usize = 1024 * 1024;
/// Memory that a lane keeps for its next packets, in bytes.
const KEEP: usize = 64 * 1024;
/// Pauses before a configured peer is dialled again whose connection ended when it was.
const REST: (Micros, Micros) = (60 * SECOND, 3600 * SECOND);
/// Millionths of a frame: the allowance is counted in them, to be exact by the minute.
const MILLIONTHS: u64 = 1_000_000;

/// What happened on the links.
#[derive(Debug, PartialEq, Eq)]
pub enum Happened {
    /// A peer has proven that it holds a key.
    Up {
        /// Its address as the node writes it.
        peer: String,
        /// The key.
        key: PublicKey,
        /// Whether this side dialled.
        dialed: bool,
        /// Whether it is configured here.
        standing: Standing,
    },
    /// The link is gone.
    Down {
        /// The peer's address.
        peer: String,
        /// Why.
        reason: String,
    },
    /// A packet came in.
    Packet {
        /// The peer's address.
        peer: String,
        /// The whole packet.
        bytes: Vec<u8>,
    },
    /// The queue of a lane has filled up, or has room again.
    Congestion {
        /// The peer's address.
        peer: String,
        /// The lane.
        lane: Lane,
        /// Whether it is full.
        full: bool,
    },
}

/// What waits for a link on one lane.
#[derive(Debug, Default)]
struct Fifo {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
    told_full: bool,
}

impl Fifo {
    fn is_full(&self) -> bool {
        self.bytes >= FULL
    }
}

#[derive(Debug)]
struct Peer {
    /// Whom this side dials here.
    remote: Option<PublicKey>,
    address: Option<SocketAddr>,
    link: Option<Box<DatagramLink<Ring, Growable>>>,
    up: bool,
    waiting: [Fifo; 2],
    allowance: Option<TokenBucket>,
    /// Something was sent since it connected.
    spoken: bool,
    /// It was up since it connected.
    was_up: bool,
}

/// A configured peer that could not be reached lately.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Micros,
    next: Micros,
}

/// All links. Peers are named by their addresses, as the node writes them.
pub struct Links {
    limits: DatagramLimits,
    dialed: HashMap<SocketAddr, PublicKey>,
    most: usize,
    frames_per_minute: Option<u32>,
    keys: ModuleKeys,
    peers: BTreeMap<String, Peer>,
    resting: HashMap<SocketAddr, Rest>,
    /// Peers whose links may have something to tell.
    touched: VecDeque<String>,
    happened: VecDeque<Happened>,
    /// Who was served last.
    turn: String,
    frame: Vec<u8>,
    passed_over: u64,
}

impl Links {
    /// Without peers. `max_packet` is the largest packet of the mesh in bytes, `most` the number of
    /// links at once; configured peers come on top.
    pub fn new(
        keys: ModuleKeys,
        dialed: HashMap<SocketAddr, PublicKey>,
        max_packet: u32,
        most: usize,
        frames_per_minute: Option<u32>,
    ) -> Self {
        let limits = DatagramLimits {
            queue: max_packet.saturating_add(16 * u32::from(FRAME)),
            window: 16,
            min_rto: 200 * MILLISECOND,
            initial_rto: SECOND,
            ..DatagramLimits::serial(FRAME, max_packet)
        };
        Self {
            limits,
            dialed,
            most,
            frames_per_minute,
            keys,
            peers: BTreeMap::new(),
            resting: HashMap::new(),
            touched: VecDeque::new(),
            happened: VecDeque::new(),
            turn: String::new(),
            frame: vec![0; FRAME.into()],
            passed_over: 0,
        }
    }

    /// The node has a connection to this peer.
    pub fn connected(&mut self, now: Micros, name: &str) {
        if self.peers.contains_key(name) {
            return;
        }
        let address = address(name);
        let known = address.and_then(|address| self.dialed.get(&address)).copied();
        let rests =
            |address: SocketAddr| self.resting.get(&address).is_some_and(|rest| now < rest.until);
        let remote = known.filter(|_| !address.is_some_and(rests));
        let link = remote.map(|remote| Box::new(self.link(Role::Dial(remote))));
        let allowance = self.frames_per_minute.map(|frames| {
            let rate = u64::from(frames) * MILLIONTHS / 60;
            TokenBucket::new(rate, u64::from(frames) * MILLIONTHS, now)
        });
        let peer = Peer {
            remote,
            address,
            link,
            up: false,
            waiting: Default::default(),
            allowance,
            spoken: false,
            was_up: false,
        };
        self.peers.insert(name.into(), peer);
    }

    /// The node's connection to this peer is gone.
    pub fn disconnected(&mut self, now: Micros, name: &str) {
        let Some(peer) = self.peers.remove(name) else { return };
        if peer.up {
            let reason = "the node's connection to it ended".into();
            self.happened.push_back(Happened::Down { peer: name.into(), reason });
        }
        let (Some(address), Some(_)) = (peer.address, peer.remote) else { return };
        if peer.was_up {
            self.resting.remove(&address);
        } else if peer.spoken {
            let pause = self.resting.get(&address).map_or(REST.0, |rest| rest.next);
            let next = (2 * pause).min(REST.1);
            self.resting.insert(address, Rest { until: now.saturating_add(pause), next });
            tracing::warn!(
                peer = name,
                "the connection ended when the mesh spoke on it: blvm-node from 0.1.80 on ends \
                 connections that carry the mesh; it is tried again in {} s",
                pause / SECOND
            );
        }
    }

    /// The node has connections to these peers and to no others.
    pub fn reset(&mut self, now: Micros, names: &BTreeSet<String>) {
        let gone: Vec<String> =
            self.peers.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            self.disconnected(now, &name);
        }
        for name in names {
            self.connected(now, name);
        }
    }

    /// What the node received from a peer for its mesh module.
    pub fn receive(&mut self, now: Micros, name: &str, bytes: &mut [u8]) {
        self.connected(now, name);
        let most = self.most;
        let links = self.peers.values().filter(|peer| peer.link.is_some()).count();
        let Some(peer) = self.peers.get_mut(name) else { return };
        let allowed = peer.allowance.as_mut().is_none_or(|a| a.try_take(MILLIONTHS, now));
        let (true, Some(frame)) = (allowed, carrier::unwrap(bytes)) else {
            self.passed_over = self.passed_over.saturating_add(1);
            return;
        };
        if peer.link.is_none() {
            if links >= most && !self.make_room() {
                self.passed_over = self.passed_over.saturating_add(1);
                return;
            }
            let link = Box::new(self.link(Role::Listen));
            if let Some(peer) = self.peers.get_mut(name) {
                peer.link = Some(link);
            }
        }
        let Some(link) = self.peers.get_mut(name).and_then(|peer| peer.link.as_mut()) else {
            return;
        };
        if let Err(ignored) = link.receive(now, frame, &mut self.keys) {
            self.passed_over = self.passed_over.saturating_add(1);
            tracing::debug!(peer = name, "ignored a frame: {ignored}");
        }
        self.touch(name);
    }

    /// Queues a packet for a peer.
    ///
    /// # Errors
    /// [`NodeApiError`]: nobody is there, or too much waits.
    pub fn send(
        &mut self,
        now: Micros,
        name: &str,
        priority: Priority,
        packet: &[u8],
    ) -> Result<(), NodeApiError> {
        let peer = self.peers.get_mut(name).filter(|peer| peer.up);
        let peer = peer.ok_or(NodeApiError::NotConnected)?;
        let lane = match priority {
            Priority::Free => Lane::Free,
            Priority::Control | Priority::Paid => Lane::Paid,
        };
        let most = peer.link.as_ref().and_then(|link| link.max_packet()).unwrap_or_default();
        if packet.is_empty() || packet.len() > most as usize {
            let len = packet.len();
            return Err(NodeApiError::Other(format!("{len} bytes are no packet for this peer")));
        }
        let [free, paid] = &mut peer.waiting;
        let fifo = if lane == Lane::Free { free } else { paid };
        // One packet always has room, however large.
        if fifo.bytes > 2 * FULL {
            return Err(NodeApiError::Full);
        }
        fifo.bytes += packet.len();
        match priority {
            Priority::Control => fifo.packets.push_front(packet.into()),
            _ => fifo.packets.push_back(packet.into()),
        }
        peer.feed(now);
        self.touch(name);
        Ok(())
    }

    /// Ends a link; whoever dials will dial again.
    pub fn close(&mut self, name: &str) {
        if let Some(link) = self.peers.get_mut(name).and_then(|peer| peer.link.as_mut()) {
            link.close();
            self.touch(name);
        }
    }

    /// The next frame for a peer of the node, with the header that the node knows it by.
    pub fn transmit(&mut self, now: Micros) -> Option<(String, Vec<u8>)> {
        let turn = self.turn.as_str();
        let after = self.peers.range::<str, _>((Bound::Excluded(turn), Bound::Unbounded));
        let before = self.peers.range::<str, _>((Bound::Unbounded, Bound::Included(turn)));
        let names = after.chain(before);
        let names: Vec<String> =
            names.filter(|(_, peer)| peer.link.is_some()).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(peer) = self.peers.get_mut(&name) else { continue };
            peer.feed(now);
            let Some(link) = peer.link.as_mut() else { continue };
            let sent = link.transmit(now, &mut self.keys, &mut self.frame);
            peer.spoken |= sent.is_some();
            self.touch(&name);
            if let Some(frame) = sent.and_then(|len| self.frame.get(..len)) {
                let wrapped = carrier::wrap(frame);
                self.turn.clone_from(&name);
                return Some((name, wrapped));
            }
        }
        None
    }

    /// When [`transmit`](Self::transmit) has something to do, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Micros> {
        let links = self.peers.values().filter_map(|peer| peer.link.as_ref());
        links.filter_map(|link| link.poll_timeout()).min()
    }

    /// What happened since it was last asked.
    pub fn poll(&mut self, now: Micros) -> Option<Happened> {
        loop {
            if let Some(happened) = self.happened.pop_front() {
                return Some(happened);
            }
            let name = self.touched.front()?.clone();
            match self.next_of(now, &name) {
                // The others are not to wait for all that this one has.
                Some(happened) => {
                    self.touched.rotate_left(1);
                    return Some(happened);
                }
                None => _ = self.touched.pop_front(),
            }
        }
    }

    /// Frames that were not taken, since the start.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    fn next_of(&mut self, now: Micros, name: &str) -> Option<Happened> {
        let peer = self.peers.get_mut(name)?;
        let link = peer.link.as_mut()?;
        match link.poll_event() {
            Some(Event::Up(key)) => {
                (peer.up, peer.was_up) = (true, true);
                peer.waiting = Default::default();
                let own = self.dialed.values().any(|known| *known == key);
                let prefix = peer.address.map_or(0, |address| prefix(address.ip()));
                let standing = if own { Standing::Own } else { Standing::Stranger { prefix } };
                let dialed = peer.remote.is_some();
                return Some(Happened::Up { peer: name.into(), key, dialed, standing });
            }
            Some(Event::Down(reason)) => {
                peer.waiting = Default::default();
                if std::mem::take(&mut peer.up) {
                    let reason = reason.to_string();
                    return Some(Happened::Down { peer: name.into(), reason });
                }
                return self.next_of(now, name);
            }
            None => {}
        }
        if !peer.up {
            return None;
        }
        if let Some(packet) = link.next_packet() {
            return Some(Happened::Packet { peer: name.into(), bytes: packet.bytes.to_vec() });
        }
        // A packet that cannot be read has ended the link.
        if link.neighbour().is_none() {
            return self.next_of(now, name);
        }
        peer.feed(now);
        for (lane, fifo) in [Lane::Free, Lane::Paid].into_iter().zip(&mut peer.waiting) {
            let full = fifo.is_full();
            if std::mem::replace(&mut fifo.told_full, full) != full {
                return Some(Happened::Congestion { peer: name.into(), lane, full });
            }
        }
        None
    }

    fn touch(&mut self, name: &str) {
        if !self.touched.iter().any(|touched| touched == name) {
            self.touched.push_back(name.into());
        }
    }

    /// Gives up a link of somebody who has proven nothing, for somebody else.
    fn make_room(&mut self) -> bool {
        let idle = |peer: &&mut Peer| {
            let unproven = peer.link.as_ref().is_some_and(|link| link.neighbour().is_none());
            peer.remote.is_none() && !peer.up && unproven
        };
        let found = self.peers.values_mut().find(idle);
        found.map(|peer| peer.link = None).is_some()
    }

    fn link(&self, role: Role) -> DatagramLink<Ring, Growable> {
        DatagramLink::new(self.limits, role, memory())
    }
}

impl Peer {
    /// Takes what waits, the paid lane first, as far as the link has room.
    fn feed(&mut self, now: Micros) {
        let Some(link) = self.link.as_mut().filter(|_| self.up) else { return };
        for (lane, fifo) in [Lane::Free, Lane::Paid].into_iter().zip(&mut self.waiting).rev() {
            while let Some(packet) = fifo.packets.front() {
                match link.queue(now, lane, packet, &[]) {
                    Err(NotQueued::Full | NotQueued::Down) => break,
                    Ok(()) => {}
                    Err(error) => tracing::warn!("a packet was dropped: {error}"),
                }
                fifo.bytes = fifo.bytes.saturating_sub(packet.len());
                fifo.packets.pop_front();
            }
        }
    }
}

/// Memory that grows with what is there; the link's limits bound it.
fn memory() -> LinkMemory<Growable> {
    let growable = || Growable::new(KEEP);
    LinkMemory { inbound: [growable(), growable()], outbound: [growable(), growable()] }
}

/// The address in a peer's name; the node writes some with the transport before it.
fn address(name: &str) -> Option<SocketAddr> {
    let address: SocketAddr = name.strip_prefix("tcp:").unwrap_or(name).parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}
