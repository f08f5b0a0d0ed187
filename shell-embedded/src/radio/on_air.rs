//! The channel on its chip, and its links.

use super::beside::{Beside, Opened, RadioEvent, Sender};
use super::link::AirLink;
use super::{MAX_BYTES, Modem, ModemError, Signal};
use crate::{Down, Happening};
use blvm_mesh_core::board::radio::RadioConfig;
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::link::channel::lora::{HEADER, HEADER_LEN, MAX_FRAME, is_frame};
use blvm_mesh_core::link::channel::{
    Channel, ChannelLimits, Event, Hour, PeerState, standing_on_air,
};
use blvm_mesh_core::link::datagram::{Keys, MEMORY_OVERHEAD, Sent};
use blvm_mesh_core::mesh::{Input, LinkCapabilities, MeshError, Priority};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use secp256k1::PublicKey;

/// The number of the medium that all links on the air share.
const MEDIUM: u8 = 1;
/// Pause before a chip is started again, and the longest one after failures that follow each other.
const PAUSE: Micros = SECOND;
const LONGEST_PAUSE: Micros = 60 * SECOND;
/// Pause before it is measured again whether a taken channel is free.
const STILL_TAKEN: Micros = 40 * MILLISECOND;
/// Pause before more is sent where the hour's share of the time is used up.
const AT_LIMIT: Micros = SECOND;
/// What the chip tells that is taken at once: what others send must not keep the loop from its lines.
const AT_ONCE: usize = 8;

/// The channel of a board with at most `N` neighbours on it: nearly all of its memory, in a static value
/// of its own. `QUEUE`: bytes per neighbour, lane and direction, [`MEMORY_OVERHEAD`] and twice the
/// largest packet.
pub type RadioChannel<A, const N: usize, const QUEUE: usize> =
    Channel<A, heapless::Vec<u8, QUEUE>, N>;

/// A radio of a board: its chip, the channel, and the links on it.
pub struct Radio<A: 'static, M, const N: usize, const QUEUE: usize> {
    modem: M,
    channel: &'static mut RadioChannel<A, N, QUEUE>,
    links: heapless::Vec<AirLink, N>,
    limits: ChannelLimits,
    is_public: bool,
    listens_first: bool,
    pause: Micros,
    hour: Hour,
    state: State,
    /// What is received, or sent.
    bytes: [u8; MAX_BYTES],
    /// Somebody is heard sending, as far as the channel was told.
    carrier: bool,
    /// Until when nothing may be sent because something was, or the channel is taken.
    quiet_until: Micros,
    taken: bool,
    counts: RadioCounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is started when it is time; the pause after that, should it fail.
    Off {
        at: Micros,
        next: Micros,
        why: Option<ModemError>,
    },
    On {
        since: Micros,
        next: Micros,
        sending: bool,
    },
}

/// What a radio did since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RadioCounts {
    /// Frames that were sent.
    pub sent: u32,
    /// Frames that were heard.
    pub heard: u32,
    /// Frames that were heard damaged, or are not of this mesh.
    pub ignored: u32,
}

impl<A: Aead, M: Modem, const N: usize, const QUEUE: usize> Radio<A, M, N, QUEUE> {
    const FITS: () = assert!(QUEUE > 2 * MEMORY_OVERHEAD, "a queue must hold packets");

    /// Bytes of the largest packet that it carries.
    pub const MAX_PACKET: usize = QUEUE.saturating_sub(MEMORY_OVERHEAD) / 2;

    /// The channel of a configuration, for [`new`](Self::new). `seed` must be random and another one at
    /// each start.
    pub fn channel(
        config: &RadioConfig,
        seed: [u8; 32],
        public_key: &PublicKey,
    ) -> RadioChannel<A, N, QUEUE> {
        Channel::new(Self::limits(config), config.key, seed, public_key, 0)
    }

    fn limits(config: &RadioConfig) -> ChannelLimits {
        let () = Self::FITS;
        let mut limits = ChannelLimits::new(config.modem, N, Self::MAX_PACKET as u32);
        limits.link.queue = QUEUE.saturating_sub(MEMORY_OVERHEAD) as u32;
        limits
    }

    /// The channel of a configuration on a chip that has its settings. The chip is started with the first
    /// round of the loop.
    pub fn new(
        config: &RadioConfig,
        modem: M,
        channel: &'static mut RadioChannel<A, N, QUEUE>,
    ) -> Self {
        Self {
            modem,
            channel,
            links: heapless::Vec::new(),
            limits: Self::limits(config),
            is_public: config.is_public,
            listens_first: config.listen_dbm.is_some(),
            pause: u64::from(config.pause_ms) * MILLISECOND,
            hour: Hour::default(),
            state: State::Off { at: 0, next: PAUSE, why: None },
            bytes: [0; MAX_BYTES],
            carrier: false,
            quiet_until: 0,
            taken: false,
            counts: RadioCounts::default(),
        }
    }

    /// What it did since the start.
    pub fn counts(&self) -> RadioCounts {
        self.counts
    }

    /// Why the chip cannot be used now, if so.
    pub fn error(&self) -> Option<ModemError> {
        match self.state {
            State::Off { why, .. } => why,
            State::On { .. } => None,
        }
    }

    /// The neighbours with sessions.
    pub fn peers(&self) -> impl Iterator<Item = PeerState> + '_ {
        self.channel.peers()
    }

    /// The chip.
    pub fn modem(&mut self) -> &mut M {
        &mut self.modem
    }

    /// Starts the chip, if it is time; whether it is on.
    fn is_on(&mut self, now: Micros, on: &mut dyn FnMut(Happening<'_>)) -> bool {
        match self.state {
            State::On { .. } => true,
            State::Off { at, .. } if now < at => false,
            State::Off { next, why, .. } => match self.modem.start(now) {
                Ok(()) => {
                    self.state = State::On { since: now, next, sending: false };
                    on(Happening::RadioStarted);
                    true
                }
                Err(error) => {
                    self.off(now, next, error, why, on);
                    false
                }
            },
        }
    }

    /// The chip cannot be used until it is started again.
    fn failed(&mut self, now: Micros, error: ModemError, on: &mut dyn FnMut(Happening<'_>)) {
        let State::On { since, next, sending } = self.state else { return };
        if sending {
            self.channel.sent(now);
        }
        self.set_carrier(now, false);
        self.taken = false;
        // One that worked for long has nothing to do with failures before.
        let next = if now.saturating_sub(since) > LONGEST_PAUSE { PAUSE } else { next };
        self.off(now, next, error, None, on);
    }

    fn off(
        &mut self,
        now: Micros,
        next: Micros,
        error: ModemError,
        told: Option<ModemError>,
        on: &mut dyn FnMut(Happening<'_>),
    ) {
        let (at, later) = (now.saturating_add(next), next.saturating_mul(2).min(LONGEST_PAUSE));
        self.state = State::Off { at, next: later, why: Some(error) };
        if told != Some(error) {
            on(Happening::RadioFailed(format_args!("{error}")));
        }
    }

    fn set_carrier(&mut self, now: Micros, busy: bool) {
        self.carrier = busy;
        self.channel.carrier(now, busy);
    }

    fn signal(&mut self, now: Micros, signal: Signal, keys: &mut impl Keys) {
        match signal {
            Signal::Carrier(busy) => self.set_carrier(now, busy),
            Signal::Damaged => {
                self.counts.ignored = self.counts.ignored.wrapping_add(1);
                self.set_carrier(now, false);
            }
            Signal::Sent(_) => {
                if let State::On { sending, .. } = &mut self.state {
                    *sending = false;
                }
                self.quiet_until = now.saturating_add(self.pause);
                self.channel.sent(now);
            }
            Signal::Heard { len, snr } => self.heard(now, len, snr, keys),
        }
    }

    fn heard(&mut self, now: Micros, len: usize, snr: i8, keys: &mut impl Keys) {
        self.counts.heard = self.counts.heard.wrapping_add(1);
        if !self.carrier {
            // That it was heard is told when it is over.
            let begun = now.saturating_sub(self.limits.modem.airtime(len));
            self.channel.carrier(begun, true);
        }
        self.set_carrier(now, false);
        let received = self.bytes.get_mut(..len).unwrap_or_default();
        let frame = if is_frame(received) { received.get_mut(HEADER_LEN..) } else { None };
        let taken = frame.map(|frame| self.channel.receive(now, frame, snr, keys));
        if !matches!(taken, Some(Ok(()))) {
            self.counts.ignored = self.counts.ignored.wrapping_add(1);
        }
    }

    /// Whether the channel is free, where that must be measured.
    fn may_send(&mut self, now: Micros) -> Result<bool, ModemError> {
        if !self.listens_first {
            return Ok(true);
        }
        let free = self.modem.is_free()?;
        if free == self.taken {
            self.taken = !free;
            self.channel.carrier(now, !free);
        }
        if !free {
            self.quiet_until = now.saturating_add(STILL_TAKEN);
        }
        Ok(free)
    }

    /// Sends the next frame, if there is one.
    fn send(&mut self, now: Micros, keys: &mut impl Keys) -> Result<(), ModemError> {
        if !self.may_send(now)? {
            return Ok(());
        }
        let Some(room) = self.bytes.get_mut(HEADER_LEN..) else { return Ok(()) };
        let Some(len) = self.channel.transmit(now, keys, room) else { return Ok(()) };
        self.hour.add(now, self.limits.modem.airtime_of_frame(len));
        if let Some(header) = self.bytes.first_mut() {
            *header = HEADER;
        }
        self.modem.send(now, self.bytes.get(..HEADER_LEN + len).unwrap_or_default())?;
        self.counts.sent = self.counts.sent.wrapping_add(1);
        if let State::On { sending, .. } = &mut self.state {
            *sending = true;
        }
        Ok(())
    }

    /// When the channel has something to send; nothing while it may not.
    fn due(&mut self, now: Micros) -> Option<Micros> {
        if self.taken {
            // Nothing tells that it is free again.
            return Some(self.quiet_until);
        }
        let at = self.channel.poll_timeout(now)?.max(self.quiet_until);
        let longest = self.limits.modem.airtime_of_frame(MAX_FRAME);
        let duty = self.limits.modem.duty_permille.min(1_000) as u16;
        match at <= now && self.hour.is_full(now, longest, duty) {
            true => Some(now.saturating_add(AT_LIMIT)),
            false => Some(at),
        }
    }

    fn link_mut(&mut self, link: LinkId) -> Option<&mut AirLink> {
        self.links.iter_mut().find(|of| of.id == Some(link))
    }
}

impl<A: Aead, M: Modem, const N: usize, const QUEUE: usize> Beside for Radio<A, M, N, QUEUE> {
    fn receive(
        &mut self,
        now: Micros,
        keys: &mut impl Keys,
        on: &mut dyn FnMut(Happening<'_>),
    ) -> bool {
        if !self.is_on(now, on) {
            return false;
        }
        for _ in 0..AT_ONCE {
            let Radio { modem, bytes, .. } = self;
            match modem.poll(now, bytes) {
                Ok(Some(signal)) => self.signal(now, signal, keys),
                Ok(None) => return false,
                Err(error) => {
                    self.failed(now, error, on);
                    return false;
                }
            }
        }
        true
    }

    fn poll_event(&mut self, now: Micros) -> Option<RadioEvent> {
        // What the state machine closed goes first.
        if let Some(at) = self.links.iter().position(|link| link.down.is_some()) {
            let link = self.links.swap_remove(at);
            self.channel.close(link.peer);
            if let (Some(id), Some(reason)) = (link.id, link.down) {
                return Some(RadioEvent::Down(id, Down::Mesh(reason)));
            }
        }
        while let Some(event) = self.channel.poll_event(now) {
            match event {
                Event::Up(peer, remote) => {
                    let state = self.channel.peers().find(|state| state.peer == peer);
                    let sent = state.map_or(Sent::default(), |state| state.sent);
                    let queue = self.limits.link.queue as usize;
                    let place = self.links.len();
                    let new = AirLink::new(peer, remote, queue, sent);
                    // There are as many places as the channel has neighbours.
                    match self.links.push(new) {
                        Ok(()) => return Some(RadioEvent::Up(place, remote)),
                        Err(_) => self.channel.close(peer),
                    }
                }
                Event::Down(peer, why) => {
                    let at = self.links.iter().position(|link| link.peer == peer);
                    if let Some(id) = at.and_then(|at| self.links.swap_remove(at).id) {
                        return Some(RadioEvent::Down(id, Down::Link(why)));
                    }
                }
            }
        }
        None
    }

    fn spare(&self, from: usize) -> Option<(usize, PublicKey)> {
        let mut links = self.links.iter().enumerate().skip(from);
        links.find(|(_, link)| link.id.is_none()).map(|(place, link)| (place, link.remote))
    }

    fn open(&mut self, place: usize, id: LinkId) -> Option<Opened> {
        let is_public = self.is_public;
        let link = self.links.get_mut(place)?;
        link.id = Some(id);
        Some(Opened {
            remote: link.remote,
            standing: standing_on_air(&NodeId::from_public_key(&link.remote), is_public),
            capabilities: LinkCapabilities {
                max_packet: Radio::<A, M, N, QUEUE>::MAX_PACKET as u32,
                // That a neighbour is still there the channel knows, by its beacons.
                keepalive: 0,
                medium: MEDIUM,
            },
        })
    }

    fn next_packet(&mut self) -> Option<(Sender, &mut [u8])> {
        let Radio { channel, links, .. } = self;
        let packet = channel.next_packet()?;
        let of = |(_, link): &(usize, &AirLink)| link.peer == packet.peer && link.down.is_none();
        let sender = match links.iter().enumerate().find(of) {
            Some((_, AirLink { id: Some(id), .. })) => Sender::Link(*id),
            Some((place, _)) => Sender::Spare(place),
            None => Sender::Nobody,
        };
        Some((sender, packet.bytes))
    }

    fn has(&self, link: LinkId) -> bool {
        self.links.iter().any(|of| of.id == Some(link))
    }

    fn push(
        &mut self,
        now: Micros,
        link: LinkId,
        priority: Priority,
        head: &[u8],
        tail: &[u8],
    ) -> bool {
        let Radio { channel, links, .. } = self;
        let Some(link) = links.iter_mut().find(|of| of.id == Some(link)) else { return false };
        let len = head.len().saturating_add(tail.len());
        let lane = link.gate.lane(priority, len, |lane| channel.room(link.peer, lane));
        lane.is_some_and(|lane| channel.queue(now, link.peer, lane, head, tail).is_ok())
    }

    fn push_all(&mut self, now: Micros, except: Option<LinkId>, packet: &[u8]) {
        let has = except.and_then(|id| self.link_mut(id)).map(|link| link.peer);
        // Whoever does not get it hears a later search.
        let _ = self.channel.queue_all(now, has, packet);
    }

    fn close(&mut self, link: LinkId, reason: MeshError) -> bool {
        self.link_mut(link).map(|link| link.down = link.down.or(Some(reason))).is_some()
    }

    fn change(&mut self) -> Option<Input<'static>> {
        let Radio { channel, links, .. } = self;
        links.iter_mut().find_map(|of| {
            let (peer, link) = (of.peer, of.id?);
            let is_idle = channel.is_idle(peer);
            if let Some((lane, full)) = of.gate.change(is_idle, |lane| channel.room(peer, lane)) {
                return Some(Input::Congestion { link, lane, full });
            }
            let state = channel.peers().find(|state| state.peer == peer)?;
            let quality = of.gate.measure(state.sent)?;
            Some(Input::LinkMeasured { link, quality })
        })
    }

    fn transmit(
        &mut self,
        now: Micros,
        keys: &mut impl Keys,
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Option<Micros> {
        if let State::On { sending: false, .. } = self.state
            && self.due(now).is_some_and(|due| due <= now)
            && let Err(error) = self.send(now, keys)
        {
            self.failed(now, error, on);
        }
        match self.state {
            State::Off { at, .. } => Some(at),
            State::On { sending: true, .. } => self.modem.poll_timeout(),
            // Never at once: what is due now was done.
            State::On { .. } => {
                let due = self.due(now).map(|due| due.max(now.saturating_add(MILLISECOND)));
                due.into_iter().chain(self.modem.poll_timeout()).min()
            }
        }
    }
}
