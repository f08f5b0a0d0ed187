//! A radio channel that many share: neighbours are found by what they send to all, each has a session
//! of its own, and what all must hear is one frame.
//!
//! ```text
//! channel = Channel::new(limits, channel key, seed, own public key, now)
//! loop:
//!     for each frame that is heard:          channel.receive(now, frame, keys)
//!     when the modem hears or loses a carrier: channel.carrier(now, busy)
//!     while the modem is free:               channel.transmit(now, keys, out) => send out[..n]
//!     while let Some(event) =                channel.poll_event(now)
//!     while let Some(packet) =               channel.next_packet(now)
//!     sleep until something is heard or      channel.poll_timeout(now)
//! ```
//!
//! What is only vouched for by the [channel's key](frame) costs air time and fills one of
//! [`CANDIDATES`] places; all candidates together get one handshake in [`ChannelLimits::handshake_interval`]. Once
//! [`UNANSWERED`] dials were in vain, names must have been heard again to be dialed, the more often the more dials
//! there were; one is forgiven in [`ChannelLimits::unanswered_interval`].
//! No neighbour loses its place, its session or its key by it.

pub mod access;
pub mod frame;
mod hour;
mod limits;
pub mod lora;
mod peer;
mod receive;
mod strangers;
mod to_all;

#[cfg(test)]
mod liar_tests;
#[cfg(test)]
mod tests;

pub use hour::Hour;
pub use limits::{ChannelLimits, timing_on_air};
pub use peer::{PeerNumber, standing_on_air};
pub use strangers::{CANDIDATES, UNANSWERED};

use super::aead::Aead;
use super::datagram::{Down, Event as LinkEvent, Keys, NotQueued, Role, Sent};
use super::lane::Lane;
use super::packet_buffer::PacketBuffer;
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Micros;
use access::Access;
use frame::{Address, TagKey};
use peer::{Peer, group_key};
use secp256k1::PublicKey;
use strangers::{Strangers, Turn};
use to_all::ToSendAll;

/// What happened to a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A session stands with the holder of this key, who has proven it.
    Up(PeerNumber, PublicKey),
    /// The session is over. What was queued is lost.
    Down(PeerNumber, Down),
}

/// A packet that came in.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'p> {
    /// Who sent it.
    pub peer: PeerNumber,
    /// The queue that the neighbour sent it from; what is for all has the paid one.
    pub lane: Lane,
    /// The whole packet.
    pub bytes: &'p mut [u8],
}

/// What is known of a neighbour with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerState {
    /// Its number.
    pub peer: PeerNumber,
    /// Its key.
    pub key: PublicKey,
    /// When something of it was heard last.
    pub heard: Micros,
    /// Signal to noise of that in quarters of a dB, as the modem says; 0 where it says nothing.
    pub snr: i8,
    /// The smoothed round trip in microseconds, once measured.
    pub round_trip: Option<Micros>,
    /// What was sent to it since the session began.
    pub sent: Sent,
}

/// One radio and its neighbours, at most `N`.
#[derive(Debug)]
pub struct Channel<A, B, const N: usize> {
    limits: ChannelLimits,
    me: Address,
    public_key: [u8; 33],
    /// Keys of tags: the channel's, and this node's own for its frames to all.
    key: TagKey,
    group: TagKey,
    /// Counter of the next frame to all.
    counter: u32,
    /// When the group's key may change again.
    rekey_at: Micros,
    rng: Rng,
    access: Access,
    peers: heapless::Vec<Peer<A, B>, N>,
    last_number: u32,
    /// Who is next to send.
    turn: usize,
    /// Whose frame is to be acknowledged at once.
    answer: Option<PeerNumber>,
    strangers: Strangers,
    to_all: ToSendAll,
    /// When a beacon is due, and how many there were.
    beacon_at: Micros,
    beacons: u32,
    /// The next one is an announcement.
    announces: bool,
    events: heapless::Deque<Event, 4>,
}

impl<A: Aead, B: PacketBuffer + Default, const N: usize> Channel<A, B, N> {
    /// A channel on which nobody was heard yet, of the node with this public key. `key` is known to all
    /// of the mesh; `seed` must be random and another one at each start.
    pub fn new(
        limits: ChannelLimits,
        key: [u8; frame::KEY_LEN],
        seed: [u8; 32],
        public_key: &PublicKey,
        now: Micros,
    ) -> Self {
        let mut rng = Rng::new(&seed, "channel");
        let access = Access::new(limits.modem, now);
        let beacon_at = now.saturating_add(rng.u64() % limits.first_beacon().max(1));
        Self {
            me: Address::of(&NodeId::from_public_key(public_key)),
            public_key: public_key.serialize(),
            key: TagKey::new(key),
            group: TagKey::new(rng.bytes()),
            counter: 0,
            rekey_at: 0,
            access,
            peers: heapless::Vec::new(),
            last_number: 0,
            turn: 0,
            answer: None,
            strangers: Strangers::new(now, limits.handshake_interval),
            to_all: ToSendAll::default(),
            beacon_at,
            beacons: 0,
            announces: false,
            events: heapless::Deque::new(),
            rng,
            limits,
        }
    }

    /// This node's address.
    pub fn address(&self) -> Address {
        self.me
    }

    /// The radio's access to the channel: load, and air time that was used.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Beacons that were sent.
    pub fn beacons(&self) -> u32 {
        self.beacons
    }

    /// Nodes that were heard and have no session.
    pub fn candidates(&self) -> usize {
        self.strangers.len()
    }

    /// The neighbours with sessions.
    pub fn peers(&self) -> impl Iterator<Item = PeerState> + '_ {
        self.peers.iter().filter_map(Peer::state)
    }

    /// The modem hears somebody, or nobody any more.
    pub fn carrier(&mut self, now: Micros, busy: bool) {
        self.access.carrier(now, busy);
    }

    /// The modem has sent the frame that [`transmit`](Self::transmit) gave last.
    pub fn sent(&mut self, now: Micros) {
        self.access.done(now);
    }

    /// Queues a packet, given in two parts, for a neighbour.
    ///
    /// # Errors
    /// [`NotQueued`].
    pub fn queue(
        &mut self,
        now: Micros,
        peer: PeerNumber,
        lane: Lane,
        head: &[u8],
        tail: &[u8],
    ) -> Result<(), NotQueued> {
        let peer = self.peers.iter_mut().find(|p| p.number == peer).ok_or(NotQueued::Down)?;
        peer.ready = true;
        peer.link.queue(now, lane, head, tail)
    }

    /// Queues a packet for all neighbours but one that has it already. Where it is for one alone, or
    /// too long for a frame, it goes by their sessions.
    ///
    /// # Errors
    /// [`NotQueued`]: at least one neighbour will not get it.
    pub fn queue_all(
        &mut self,
        now: Micros,
        has: Option<PeerNumber>,
        packet: &[u8],
    ) -> Result<(), NotQueued> {
        let is_for = |peer: &Peer<A, B>| peer.told && Some(peer.number) != has;
        let count = self.peers.iter().filter(|peer| is_for(peer)).count();
        if count == 0 {
            return Ok(());
        }
        if count > 1 && self.to_all.fits(packet) {
            let has = self.peers.iter().find(|peer| Some(peer.number) == has);
            // Who passes something on has heard it at the same time as others.
            let (has, spread) = match has {
                Some(peer) => (peer.address, self.access.spread(now, &mut self.rng)),
                None => (Address::ALL, 0),
            };
            return self.to_all.queue(now.saturating_add(spread), has, packet);
        }
        let mut result = Ok(());
        for peer in self.peers.iter_mut().filter(|peer| is_for(peer)) {
            peer.ready = true;
            result = result.and(peer.link.queue(now, Lane::Paid, packet, &[]));
        }
        result
    }

    /// Largest packet that can be queued for a neighbour on a lane now, in bytes; 0: it has no session.
    pub fn room(&self, peer: PeerNumber, lane: Lane) -> usize {
        let peer = self.peers.iter().find(|p| p.number == peer);
        peer.map_or(0, |peer| peer.link.room(lane))
    }

    /// Whether all that was queued for a neighbour has arrived, or it is gone.
    pub fn is_idle(&self, peer: PeerNumber) -> bool {
        self.peers.iter().find(|p| p.number == peer).is_none_or(|peer| peer.link.is_idle())
    }

    /// Ends the session with a neighbour, as the state machine wants it, and tells it.
    pub fn close(&mut self, peer: PeerNumber) {
        if let Some(peer) = self.peers.iter_mut().find(|p| p.number == peer) {
            peer.link.close();
            peer.ready = true;
        }
    }

    /// Writes the next frame into `out`, which should hold [`lora::MAX_FRAME`] bytes; returns its length,
    /// or `None` if nothing may or needs to be sent now.
    pub fn transmit(&mut self, now: Micros, keys: &mut impl Keys, out: &mut [u8]) -> Option<usize> {
        self.handle_timeout(now, keys);
        if let Some(len) = self.answer(now, keys, out) {
            self.access.send(now, len);
            return Some(len);
        }
        if self.access.ready_at(now, &mut self.rng)? > now {
            return None;
        }
        let len = self.next_frame(now, keys, out)?;
        self.access.send(now, len);
        Some(len)
    }

    /// The acknowledgement of the frame that has just ended, with what else there is for who sent it.
    fn answer(&mut self, now: Micros, keys: &mut impl Keys, out: &mut [u8]) -> Option<usize> {
        let number = self.answer.take().filter(|_| self.access.may_answer(now))?;
        let peer = self.peers.iter_mut().find(|peer| peer.number == number)?;
        peer.transmit(now, self.me, &self.key, keys, out)
    }

    fn next_frame(&mut self, now: Micros, keys: &mut impl Keys, out: &mut [u8]) -> Option<usize> {
        let has_neighbours = self.peers.iter().any(|peer| peer.told);
        let (me, group) = (self.me, &self.group);
        // A counter is used once; with the last one this node is silent to all until it has another key.
        let counter = self.counter.checked_add(1).map(|_| self.counter);
        if let Some(counter) = counter {
            let written = if now >= self.beacon_at {
                let announce = core::mem::take(&mut self.announces)
                    || self.beacons.is_multiple_of(self.limits.announce_every)
                    || !has_neighbours;
                self.beacons = self.beacons.wrapping_add(1);
                let pause = match self.beacons {
                    1..=4 => self.limits.first_beacon() << self.beacons.min(4),
                    _ => self.limits.beacon_interval,
                };
                let longest = match has_neighbours {
                    true => self.limits.beacon_interval,
                    false => self.limits.lonely_beacon(),
                };
                let pause = pause.min(longest);
                // Not in step with others.
                let pause = pause / 4 * 3 + self.rng.u64() % (pause / 2).max(1);
                self.beacon_at = now.saturating_add(pause);
                match announce {
                    true => frame::write_announcement(
                        me,
                        counter,
                        &self.public_key,
                        &self.key,
                        group,
                        out,
                    ),
                    false => frame::write_beacon(me, counter, group, out),
                }
            } else {
                self.to_all.write(now, me, counter, group, out)
            };
            if written.is_some() {
                self.counter = counter + 1;
                return written;
            }
        }
        // Neighbours take turns; those first for whom something urgent waits.
        let count = self.peers.len();
        for urgent in [true, false] {
            for step in 1..=count {
                let at = (self.turn + step) % count.max(1);
                let Some(peer) = self.peers.get_mut(at) else { continue };
                if peer.ready && (!urgent || peer.link.is_urgent(now)) {
                    if let Some(len) = peer.transmit(now, me, &self.key, keys, out) {
                        self.turn = at;
                        return Some(len);
                    }
                    peer.ready = false;
                }
            }
        }
        None
    }

    fn handle_timeout(&mut self, now: Micros, keys: &mut impl Keys) {
        for peer in &mut self.peers {
            peer.ready |= peer.link.poll_timeout().is_some_and(|at| at <= now);
            if peer.is_silent(now, self.limits.silence()) {
                peer.link.close();
            }
            if peer.owed_key {
                let told = group_key(&self.group, self.counter);
                peer.owed_key = peer.link.queue(now, Lane::Paid, &told, &[]).is_err();
                peer.ready = true;
            }
        }
        let timeout = self.limits.link.handshake_timeout;
        self.peers.retain(|peer| !peer.has_failed(now, timeout));
        self.to_all.expire(now, self.limits.link.packet_timeout);
        if now >= self.strangers.next_turn() {
            self.take_turn(now, keys);
        }
    }

    /// One handshake with somebody who is not a neighbour, and a question to one that may have begun anew.
    fn take_turn(&mut self, now: Micros, keys: &mut impl Keys) {
        self.strangers.turn_over(now, self.limits.handshake_interval);
        // It acknowledges this in its session, unless it has begun anew: then it is dialed for its silence.
        let doubted = self.peers.iter_mut().filter(|peer| peer.doubted);
        if let Some(peer) = doubted.min_by_key(|peer| peer.heard) {
            (peer.doubted, peer.owed_key) = (false, true);
        }
        let full = self.peers.is_full() || self.peers.len() >= self.limits.neighbours;
        // Where there is no place left, a handshake that has not ended soon leaves its own.
        let soon = self.limits.link.handshake_timeout / 6;
        let slow = self.peers.iter().position(|peer| peer.has_failed(now, soon));
        if full && slow.is_none() {
            return;
        }
        let unanswered = self.limits.unanswered_interval;
        let is_dialed = |key: &[u8; 33]| self.peers.iter().any(|peer| peer.key == Some(*key));
        let turn =
            self.strangers.choose(now, unanswered, &self.public_key, is_dialed, &mut self.rng);
        let (role, address, key, call) = match turn {
            Some(Turn::Dial(key, address)) => match PublicKey::from_slice(&key) {
                Ok(remote) => (Role::Dial(remote), address, Some(key), None),
                Err(_) => return,
            },
            Some(Turn::Answer(address, call)) => (Role::Listen, address, None, Some(call)),
            None => return,
        };
        if let Some(at) = slow.filter(|_| full) {
            self.peers.swap_remove(at);
        }
        self.last_number = self.last_number.wrapping_add(1);
        let number = PeerNumber(self.last_number);
        let mut peer = Peer::new(number, address, key, role, &self.limits, now);
        if let Some(mut call) = call {
            // Not one whose act is not what it should be.
            if peer.link.receive(now, &mut call, keys).is_err() {
                return;
            }
        }
        let _ = self.peers.push(peer);
    }

    /// When [`transmit`](Self::transmit) must be called, even if nothing else happens.
    pub fn poll_timeout(&mut self, now: Micros) -> Option<Micros> {
        let links = self.peers.iter().filter_map(|peer| match peer.ready || peer.owed_key {
            true => Some(0),
            false => peer.wakes_at(self.limits.silence(), self.limits.link.handshake_timeout),
        });
        let work = links.chain(self.to_all.due()).chain([self.beacon_at]).min()?;
        // While somebody is heard nothing can be sent: the end of it wakes the caller.
        let ready = match self.answer.is_some() && self.access.may_answer(now) {
            true => now,
            false => self.access.ready_at(now, &mut self.rng).unwrap_or(Micros::MAX),
        };
        Some(work.max(ready).min(self.strangers.next_turn()))
    }

    /// What happened to neighbours since it was last asked.
    pub fn poll_event(&mut self, now: Micros) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        for at in 0..self.peers.len() {
            let peer = self.peers.get_mut(at)?;
            match peer.link.poll_event() {
                Some(LinkEvent::Up(remote)) => return Some(self.up(now, at, remote)),
                Some(LinkEvent::Down(why)) => {
                    let number = peer.number;
                    let told = core::mem::take(&mut peer.told);
                    // One that was closed here says so with its last frame.
                    if !peer.owes_farewell() {
                        self.peers.swap_remove(at);
                    }
                    if told {
                        return Some(Event::Down(number, why));
                    }
                    return self.poll_event(now);
                }
                None => {}
            }
        }
        None
    }

    fn up(&mut self, now: Micros, at: usize, remote: PublicKey) -> Event {
        let key = remote.serialize();
        // One of both may have moved, and whoever is here is to know soon.
        let soon = now.saturating_add(self.rng.u64() % self.limits.first_beacon().max(1));
        (self.beacon_at, self.announces) = (self.beacon_at.min(soon), true);
        let mut number = PeerNumber(0);
        if let Some(peer) = self.peers.get_mut(at) {
            (peer.told, peer.owed_key, peer.key) = (true, true, Some(key));
            (peer.heard, peer.group, number) = (now, None, peer.number);
            self.strangers.forget(&key, peer.address);
            if peer.dialed {
                self.strangers.answered(self.limits.unanswered_interval);
            }
        }
        // One session with each.
        let other = |peer: &Peer<A, B>| peer.key == Some(key) && peer.number != number;
        if let Some(other) = self.peers.iter().position(other) {
            let gone = self.peers.swap_remove(other);
            if gone.dialed && !gone.told {
                self.strangers.answered(self.limits.unanswered_interval);
            }
            if gone.told {
                let _ = self.events.push_back(Event::Up(number, remote));
                return Event::Down(gone.number, Down::Replaced);
            }
        }
        Event::Up(number, remote)
    }

    /// The next packet, lent until anything else is asked for.
    pub fn next_packet(&mut self) -> Option<Packet<'_>> {
        if self.to_all.has_taken() {
            let (peer, bytes) = self.to_all.lend()?;
            return Some(Packet { peer, lane: Lane::Paid, bytes });
        }
        let at = self.peers.iter_mut().position(Peer::has_packet)?;
        let peer = self.peers.get_mut(at)?;
        let number = peer.number;
        let packet = peer.link.next_packet()?;
        Some(Packet { peer: number, lane: packet.lane, bytes: packet.bytes })
    }
}
