//! One open modem: moves bytes, frames and packets until it fails.

use super::super::keys::LineKeys;
use super::super::port::Port;
use super::super::{Limits, Neighbour, NotTaken, ToAll, lane_for};
use super::hour::KeptHour;
use super::limits::{NEIGHBOURS, RadioLimits};
use super::peers::{Open, Peer, Signal};
use super::radio::{Failure, Radio};
use super::status::{Counts, Now};
use crate::aead::Ring;
use crate::node::link::egress::Given;
use crate::radio::{Event, Heard, Modem, Parameters};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::channel::lora::MAX_FRAME;
use blvm_mesh_core::link::channel::{self, Channel, PeerNumber, standing_on_air};
use blvm_mesh_core::link::datagram::{Keys, NotQueued};
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use secp256k1::PublicKey;
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::{race, yield_now};
use std::collections::BTreeMap;

/// Bytes read from the modem at once.
const READ: usize = 4 * 1024;
/// What the engine has done with links that may wait.
const SIGNALS: usize = 2 * NEIGHBOURS;
/// How often the state is told, and neighbours are looked after that have another way.
const LOOK: Micros = SECOND;

type RadioChannel = Channel<Ring, Growable, NEIGHBOURS>;
type OfPeer = (PeerNumber, Signal);

/// The task's state while the modem is open.
pub(super) struct Driver<'r> {
    radio: &'r Radio,
    port: &'r Port,
    hour: &'r mut KeptHour,
    modem: Modem,
    /// The channel, once the modem is set.
    on_air: Option<OnAir>,
    keys: LineKeys,
    peers: BTreeMap<PeerNumber, Peer>,
    signals: (Sender<OfPeer>, Receiver<OfPeer>),
    counts: Counts,
    /// The modem hears somebody, as it says itself.
    carrier: bool,
    /// Until when nothing may be sent because something was.
    quiet_until: Micros,
    look_at: Micros,
}

/// The channel, and what it holds to.
struct OnAir {
    channel: Box<RadioChannel>,
    limits: RadioLimits,
    frame: [u8; MAX_FRAME],
}

/// What ended a wait.
enum Woken {
    Read(usize),
    Written(usize),
    Engine(PeerNumber, Signal),
    ToAll(ToAll),
    Time,
}

impl<'r> Driver<'r> {
    pub(super) fn new(radio: &'r Radio, port: &'r Port, hour: &'r mut KeptHour) -> Self {
        let (address, now) = (&radio.address, radio.ways.clock.now());
        let modem = Modem::new(address.dialect, address.parameters, address.limits(), now);
        Self {
            radio,
            port,
            hour,
            modem,
            on_air: None,
            keys: LineKeys(radio.ways.key.clone()),
            peers: BTreeMap::new(),
            signals: smol::channel::bounded(SIGNALS),
            counts: Counts::default(),
            carrier: false,
            quiet_until: 0,
            look_at: now,
        }
    }

    fn now(&self) -> Micros {
        self.radio.ways.clock.now()
    }

    /// Runs until the modem fails; returns why. Open links are reported.
    pub(super) async fn run(mut self) -> Failure {
        let mut buffer = vec![0; READ];
        let failure = loop {
            if let Err(failure) = self.turn(&mut buffer).await {
                break failure;
            }
        };
        self.tell(self.now());
        for peer in std::mem::take(&mut self.peers).into_values() {
            if let Some(open) = peer.open {
                let _ = open.outlet.report.down(failure.to_string()).await;
            }
        }
        failure
    }

    async fn turn(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        self.modem.handle_timeout(self.now())?;
        while let Some(event) = self.modem.poll_event() {
            self.event(event).await?;
        }
        self.feed().await?;
        let at = self.transmit(self.now());
        // A timeout may have ended a session.
        self.deliver().await?;
        let now = self.now();
        if now >= self.look_at {
            self.look_at = now.saturating_add(LOOK);
            self.measure().await;
            self.offer_spare().await?;
            self.tell(now);
        }
        let at = at.min(self.modem.poll_timeout()).min(self.look_at);
        // Never at once: what is due now was done.
        let at = at.max(now.saturating_add(MILLISECOND));
        match self.wait(buffer, at).await? {
            Woken::Read(len) => {
                self.modem.receive(self.now(), buffer.get(..len).unwrap_or_default())?;
                // However much comes in, other tasks get their turn.
                yield_now().await;
            }
            Woken::Written(len) => drop(self.modem.output().drain(..len)),
            Woken::Engine(number, Signal::Closed) => self.closed(number),
            Woken::Engine(_, Signal::Packets) | Woken::Time => {}
            Woken::ToAll(packet) => self.queue_all(&packet),
        }
        Ok(())
    }

    async fn wait(&mut self, buffer: &mut [u8], at: Micros) -> Result<Woken, Failure> {
        let (port, signals, to_all) = (self.port, &self.signals.1, &self.radio.to_all);
        let is_on_air = self.on_air.is_some();
        let out = &**self.modem.output();
        let read = async { Ok(Woken::Read(port.read(buffer).await?)) };
        let write = async {
            match out {
                [] => std::future::pending().await,
                out => Ok(Woken::Written(port.write(out).await?)),
            }
        };
        let time = async {
            Timer::at(self.radio.ways.clock.instant(at)).await;
            Ok(Woken::Time)
        };
        let signal = async {
            match signals.recv().await {
                Ok((number, signal)) => Ok(Woken::Engine(number, signal)),
                // This end holds a sender too.
                Err(_) => std::future::pending().await,
            }
        };
        let packet = async {
            match to_all.recv().await {
                Ok(packet) => Ok(Woken::ToAll(packet)),
                // The engine has ended, which its links tell.
                Err(_) => std::future::pending().await,
            }
        };
        // None of these may keep the others from their turn. Before the modem is ready packets wait.
        let engine = async {
            match is_on_air {
                true => race(signal, packet).await,
                false => signal.await,
            }
        };
        race(race(engine, write), race(time, read)).await
    }

    async fn event(&mut self, event: Event) -> Result<(), Failure> {
        let now = self.now();
        match event {
            Event::Found(identity) => {
                let board = identity.board.as_deref().unwrap_or("unknown");
                let (dialect, firmware) = (identity.dialect, identity.firmware.as_str());
                tracing::info!(radio = %self.radio.address.place(), board, firmware, "{dialect} found");
                self.radio.status.found(identity);
            }
            Event::Ready(parameters) => self.begin(now, parameters),
            Event::Heard(heard) => {
                self.heard(now, heard);
                self.deliver().await?;
            }
            Event::Sent(done) => {
                self.quiet_until = now.saturating_add(self.pause());
                self.counts.not_sent = self.counts.not_sent.saturating_add((!done).into());
                self.on_air.iter_mut().for_each(|on_air| on_air.channel.sent(now));
            }
            Event::Carrier(busy) => {
                self.carrier = busy;
                self.on_air.iter_mut().for_each(|on_air| on_air.channel.carrier(now, busy));
            }
            Event::Load(permille) => self.counts.load = Some(permille),
            Event::Warning(what) => {
                if self.radio.status.warn(what) {
                    tracing::warn!(radio = %self.radio.address.place(), "{what}");
                }
            }
        }
        Ok(())
    }

    fn pause(&self) -> Micros {
        u64::from(self.radio.address.region.plan().pause_ms) * MILLISECOND
    }

    /// The modem is set: the channel begins.
    fn begin(&mut self, now: Micros, parameters: Parameters) {
        let Radio { address, config, queue_bytes, .. } = self.radio;
        let limits = RadioLimits::new(address, &parameters, config, *queue_bytes);
        let mut seed = [0; 32];
        // The system had random bytes when the node started. A fresh key has some as well.
        if getrandom::fill(&mut seed).is_err() {
            seed = self.keys.ephemeral().secret_bytes();
        }
        let key = self.radio.key.bytes();
        let public_key = self.keys.local().public_key();
        let channel = Box::new(Channel::new(limits.channel, key, seed, &public_key, now));
        self.on_air = Some(OnAir { channel, limits, frame: [0; MAX_FRAME] });
        self.radio.status.ready(parameters);
        let Parameters { frequency_hz, bandwidth_hz, spreading, coding, power_dbm } = parameters;
        tracing::info!(
            radio = %address.place(),
            frequency_hz, bandwidth_hz, spreading, coding, power_dbm,
            "the radio is on"
        );
    }

    fn heard(&mut self, now: Micros, heard: Heard) {
        let Some(OnAir { channel, limits, .. }) = &mut self.on_air else { return };
        let Heard { mut frame, rssi_dbm, snr } = heard;
        self.counts.heard = self.counts.heard.saturating_add(1);
        self.counts.rssi_dbm = rssi_dbm.or(self.counts.rssi_dbm);
        if !self.carrier {
            // That it was heard is told when it is over.
            let airtime = limits.channel.modem.airtime_of_frame(frame.len());
            channel.carrier(now.saturating_sub(airtime), true);
            channel.carrier(now, false);
        }
        if let Err(ignored) = channel.receive(now, &mut frame, snr, &mut self.keys) {
            tracing::trace!(radio = %self.radio.address.place(), "ignored a frame: {ignored}");
            self.counts.ignored = self.counts.ignored.saturating_add(1);
        }
    }

    /// Hands over what came in, and tells the engine of neighbours that come and go.
    async fn deliver(&mut self) -> Result<(), Failure> {
        loop {
            while let Some(event) = self.poll_channel() {
                match event {
                    channel::Event::Up(number, key) => self.up(number, key).await?,
                    channel::Event::Down(number, why) => {
                        let open = self.peers.remove(&number).and_then(|peer| peer.open);
                        if let Some(open) = open {
                            open.outlet.report.down(why.to_string()).await?;
                        }
                    }
                }
            }
            let Some(OnAir { channel, .. }) = &mut self.on_air else { return Ok(()) };
            let Some(packet) = channel.next_packet() else { return Ok(()) };
            let number = packet.peer;
            let Some(peer) = self.peers.get_mut(&number) else { continue };
            let Some(open) = &mut peer.open else {
                // The neighbour believes that this is its way to here.
                let bytes = packet.bytes.to_vec();
                self.offer(number).await?;
                let open = self.peers.get_mut(&number).and_then(|peer| peer.open.as_mut());
                if let Some(open) = open {
                    let _ = open.inlet.put(&bytes).await;
                }
                continue;
            };
            match open.inlet.put(packet.bytes).await {
                Ok(()) => {}
                // The engine has closed it, which is told next.
                Err(NotTaken::Closed) => {}
                Err(NotTaken::TooLong(error)) => {
                    let open = peer.open.take();
                    if let Some(open) = open {
                        open.outlet.report.down(error.to_string()).await?;
                    }
                    self.closed(number);
                }
            }
        }
    }

    fn poll_channel(&mut self) -> Option<channel::Event> {
        let now = self.now();
        self.on_air.as_mut()?.channel.poll_event(now)
    }

    async fn up(&mut self, number: PeerNumber, key: PublicKey) -> Result<(), Failure> {
        let node = NodeId::from_public_key(&key);
        self.peers.insert(number, Peer { key, node, open: None });
        match self.radio.ways.presence.is_present(&node) {
            true => Ok(()),
            false => self.offer(number).await,
        }
    }

    /// Offers the engine those who had another way to this node and have it no more.
    async fn offer_spare(&mut self) -> Result<(), Failure> {
        let presence = &self.radio.ways.presence;
        let is_spare = |peer: &Peer| peer.open.is_none() && !presence.is_present(&peer.node);
        let spare: Vec<_> =
            self.peers.iter().filter(|(_, peer)| is_spare(peer)).map(|(n, _)| *n).collect();
        for number in spare {
            self.offer(number).await?;
        }
        Ok(())
    }

    async fn offer(&mut self, number: PeerNumber) -> Result<(), Failure> {
        let Some(OnAir { channel, limits, .. }) = &mut self.on_air else { return Ok(()) };
        let Some(peer) = self.peers.get_mut(&number) else { return Ok(()) };
        let standing = standing_on_air(&peer.node, self.radio.is_public);
        let me = NodeId::from_public_key(&self.keys.local().public_key());
        let neighbour = Neighbour {
            public_key: peer.key,
            address: self.radio.address.place(),
            // Nobody does; that both ends say the same decides which of two links stays.
            dialed: me < peer.node,
            standing,
            limits: Limits {
                egress: limits.egress,
                // That a neighbour is still there the channel knows, by its beacons.
                keepalive: Some(0),
                round_trip: limits.round_trip,
                is_watched: true,
            },
            medium: Some(self.radio.medium.clone()),
        };
        let state = channel.peers().find(|state| state.peer == number);
        let sent = state.map(|state| state.sent).unwrap_or_default();
        match self.radio.ways.engine.offer(neighbour).await? {
            Some(accepted) => {
                let (signals, executor) = (self.signals.0.clone(), &self.radio.ways.executor);
                peer.open = Some(Open::new(number, accepted, sent, signals, executor));
            }
            // The engine does not want this neighbour now.
            None => self.closed(number),
        }
        Ok(())
    }

    /// The engine has closed a link, or does not want it.
    fn closed(&mut self, number: PeerNumber) {
        if self.peers.remove(&number).is_some()
            && let Some(OnAir { channel, .. }) = &mut self.on_air
        {
            channel.close(number);
        }
    }

    /// Queues a packet for all neighbours.
    fn queue_all(&mut self, packet: &ToAll) {
        let now = self.now();
        let Some(OnAir { channel, .. }) = &mut self.on_air else { return };
        let has = packet.except.and_then(|link| {
            let is_its = |peer: &Peer| peer.open.as_ref().is_some_and(|open| open.link() == link);
            self.peers.iter().find(|(_, peer)| is_its(peer)).map(|(number, _)| *number)
        });
        if let Err(error) = channel.queue_all(now, has, &packet.packet) {
            self.counts.dropped = self.counts.dropped.saturating_add(1);
            tracing::debug!(radio = %self.radio.address.place(), "a packet for all was dropped: {error}");
        }
    }

    /// Takes packets out of the queues as far as the channel has room.
    async fn feed(&mut self) -> Result<(), Failure> {
        let now = self.now();
        let Some(OnAir { channel, limits, .. }) = &mut self.on_air else { return Ok(()) };
        let (queue, ahead) = (limits.channel.link.queue as usize, limits.ahead);
        for (number, peer) in &mut self.peers {
            let Some(Open { outlet, spoke, greeted, .. }) = &mut peer.open else { continue };
            *greeted |= *spoke && channel.is_idle(*number);
            let room_again = outlet.egress.hand_out(|priority, packet| {
                let ready = |lane| channel.room(*number, lane).saturating_add(ahead) >= queue;
                let Some(lane) = lane_for(priority, *greeted, ready) else { return Given::NoRoom };
                match channel.queue(now, *number, lane, packet, &[]) {
                    Ok(()) => {
                        *spoke = true;
                        Given::Taken
                    }
                    Err(NotQueued::Full | NotQueued::Down) => Given::NoRoom,
                    Err(error @ (NotQueued::TooLong { .. } | NotQueued::Empty)) => {
                        tracing::warn!("a packet for a radio was dropped: {error}");
                        Given::Dropped
                    }
                }
            });
            if outlet.egress.is_finished() && channel.is_idle(*number) {
                outlet.all_sent.close();
            }
            outlet.report.room(room_again).await?;
        }
        Ok(())
    }

    /// Has the next frame sent if it is time and the modem can; returns when to come back. While the
    /// modem is sending, or asks whether the channel is free, it wakes the task itself.
    fn transmit(&mut self, now: Micros) -> Micros {
        let Some(OnAir { channel, limits, frame }) = &mut self.on_air else { return Micros::MAX };
        let due = channel.poll_timeout(now).unwrap_or(Micros::MAX);
        if due > now {
            return due;
        }
        if now < self.quiet_until {
            return self.quiet_until;
        }
        let modem = &limits.channel.modem;
        let longest = modem.airtime_of_frame(MAX_FRAME);
        if self.hour.is_full(now, longest, self.radio.address.duty_permille) {
            return now.saturating_add(SECOND);
        }
        if !self.modem.may_send(now) {
            return Micros::MAX;
        }
        let len = channel.transmit(now, &mut self.keys, frame);
        match len.and_then(|len| frame.get(..len)) {
            Some(frame) => {
                self.hour.add(now, modem.airtime_of_frame(frame.len()));
                self.counts.sent = self.counts.sent.saturating_add(1);
                self.modem.send(now, frame);
                Micros::MAX
            }
            None => channel.poll_timeout(now).unwrap_or(Micros::MAX),
        }
    }

    /// Tells the engine the quality of links, where it has changed.
    async fn measure(&mut self) {
        let Some(OnAir { channel, .. }) = &self.on_air else { return };
        for state in channel.peers() {
            let Some(open) = self.peers.get_mut(&state.peer).and_then(|peer| peer.open.as_mut())
            else {
                continue;
            };
            if let Some(quality) = open.quality.update(state.sent) {
                // A stopping node does not want to know, but its last packets are still sent.
                let _ = open.outlet.report.measured(quality).await;
            }
        }
    }

    /// Records the counters and the neighbours.
    fn tell(&mut self, now: Micros) {
        self.counts.damaged = self.modem.damaged();
        self.hour.keep(now);
        let airtime_hour = self.hour.used(now);
        let duty_permille = self.radio.address.duty_permille;
        let on_air = self.on_air.as_ref();
        let longest = on_air.map_or(0, |o| o.limits.channel.modem.airtime_of_frame(MAX_FRAME));
        let now = Now {
            at: now,
            airtime_hour,
            is_at_limit: self.hour.is_full(now, longest, duty_permille),
            load_permille: on_air.map_or(0, |on_air| on_air.channel.access().load_permille(now)),
            beacons: on_air.map_or(0, |on_air| on_air.channel.beacons()),
            candidates: on_air.map_or(0, |on_air| on_air.channel.candidates()),
            peers: on_air.map(|on_air| on_air.channel.peers().collect()).unwrap_or_default(),
        };
        self.radio.status.counted(self.counts, now);
    }
}
