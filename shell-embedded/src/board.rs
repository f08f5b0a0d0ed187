//! The loop's body: ports, links and the state machine together.

mod air;

use crate::header_clock::HeaderClock;
use crate::line::Line;
use crate::memory::BoardMemory;
use crate::radio::{Beside, NoRadio};
use crate::relay::Relay;
use crate::wire::Wire;
use crate::{
    Down, Happening, KEEPALIVE, LineStatus, PAUSE, Port, Role, Sent, Status, Storage, StoreError,
};
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{NodeId, Standing};
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::link::datagram::{DatagramLimits, Event, Keys};
use blvm_mesh_core::mesh::{BoardMesh, Input, MeshError, NetworkReason};
use blvm_mesh_core::rng::Rng;
use blvm_mesh_core::time::Micros;
use heapless::VecView;
use secp256k1::{All, Keypair, PublicKey, Secp256k1, SecretKey};

/// A node on a board with `PORTS` ports of type `P`, and a radio, if it has one.
pub struct Board<A: 'static, P, const PORTS: usize, R = NoRadio> {
    pub(crate) relay: Relay<A, R>,
    wires: heapless::Vec<Wire<P>, PORTS>,
    /// A packet while the state machine has it, so that links may change meanwhile.
    packet: &'static mut VecView<u8>,
    /// A frame before it is made fit for the line.
    frame: &'static mut [u8],
    keypair: Keypair,
    rng: Rng,
    now: Micros,
}

impl<A: Aead, P: Port, const PORTS: usize> Board<A, P, PORTS> {
    /// A node with this identity that keeps nothing over a restart: it refuses payments
    /// dated before its start. The seed must be random, secret and never be used for
    /// another run: the ephemeral keys of the links come from it. Packets are held to the
    /// size that `memory` has for one, whatever `config` says; a keep-alive of 0 counts as
    /// [`KEEPALIVE`].
    pub fn new<const LANE: usize, const QUEUE: usize, const LINE: usize>(
        memory: &'static mut BoardMemory<A, PORTS, LANE, QUEUE, LINE>,
        mut config: Config,
        key: SecretKey,
        seed: [u8; 32],
        ports: [(P, Role); PORTS],
    ) -> Self {
        config.payment.volatile = true;
        Self::make(memory, config, key, seed, ports, |_| NoRadio)
    }

    /// The same with a place for the payments that it accepts: none is taken twice, also
    /// after a cut of the power. It is read with the first [`step`](Self::step). If that
    /// fails the board relays what is free and refuses payments.
    pub fn with_storage<const LANE: usize, const QUEUE: usize, const LINE: usize>(
        memory: &'static mut BoardMemory<A, PORTS, LANE, QUEUE, LINE>,
        mut config: Config,
        key: SecretKey,
        seed: [u8; 32],
        ports: [(P, Role); PORTS],
        storage: &'static mut dyn Storage,
    ) -> Self {
        config.payment.volatile = false;
        let mut board = Self::make(memory, config, key, seed, ports, |_| NoRadio);
        board.relay.unread = Some(storage);
        board
    }
}

impl<A: Aead, P: Port, const PORTS: usize, R: Beside> Board<A, P, PORTS, R> {
    /// The same with a radio beside the ports, which is made of the node's public key.
    pub fn with_radio<const LANE: usize, const QUEUE: usize, const LINE: usize>(
        memory: &'static mut BoardMemory<A, PORTS, LANE, QUEUE, LINE>,
        mut config: Config,
        key: SecretKey,
        seed: [u8; 32],
        ports: [(P, Role); PORTS],
        storage: &'static mut dyn Storage,
        radio: impl FnOnce(&PublicKey) -> R,
    ) -> Self {
        config.payment.volatile = false;
        let mut board = Self::make(memory, config, key, seed, ports, radio);
        board.relay.unread = Some(storage);
        board
    }

    fn make<const LANE: usize, const QUEUE: usize, const LINE: usize>(
        memory: &'static mut BoardMemory<A, PORTS, LANE, QUEUE, LINE>,
        mut config: Config,
        key: SecretKey,
        seed: [u8; 32],
        ports: [(P, Role); PORTS],
        radio: impl FnOnce(&PublicKey) -> R,
    ) -> Self {
        let (max_packet, queue, frame) = (
            BoardMemory::<A, PORTS, LANE, QUEUE, LINE>::MAX_PACKET,
            BoardMemory::<A, PORTS, LANE, QUEUE, LINE>::QUEUED,
            BoardMemory::<A, PORTS, LANE, QUEUE, LINE>::FRAME,
        );
        config.max_packet = config.max_packet.min(max_packet as u32);
        if config.timing.keepalive == 0 {
            config.timing.keepalive = KEEPALIVE;
        }
        let rng = Rng::new(&seed, "links");
        let limits = DatagramLimits {
            queue: queue as u32,
            ..DatagramLimits::serial(frame, config.max_packet)
        };
        let BoardMemory { tables, links, lanes, frames, packet, frame } = memory;
        let mesh = BoardMesh::with_tables(tables, config, key, seed);
        let keypair = Keypair::from_secret_key(mesh.secp(), &key);
        let mut wires = heapless::Vec::new();
        for (((port, role), lanes), bytes) in ports.into_iter().zip(lanes).zip(frames) {
            // There is room for as many as there are ports.
            let _ = links.push(Line::new(limits, role, lanes.lend()));
            let _ = wires.push(Wire::new(port, &mut bytes.received, &mut bytes.sent));
        }
        let relay = Relay::new(mesh, links.as_mut_view(), radio(&keypair.public_key()));
        Self { relay, wires, packet: packet.as_mut_view(), frame, keypair, rng, now: 0 }
    }

    /// Reads, relays and writes as much as the ports give and take now; call it
    /// whenever something may have changed. `now` is monotonic, in microseconds.
    /// Returns when to call it again at the latest, even if no byte comes in and no
    /// port gets room.
    pub fn step(&mut self, now: Micros, on: &mut dyn FnMut(Happening<'_>)) -> Option<Micros> {
        self.now = self.now.max(now);
        let now = self.now;
        if let Some(store) = self.relay.unread.take() {
            self.relay.restore(now, store, on);
        }
        let mut more = false;
        for port in 0..PORTS {
            more |= self.take(port, on);
        }
        more |= self.listen(on);
        if self.relay.wake.is_some_and(|wake| now >= wake) {
            self.relay.give(now, Input::Timer, on);
        }
        if self.relay.kept.retry_at().is_some_and(|at| now >= at) {
            self.relay.retry(now, on);
        }
        for port in 0..PORTS {
            self.end_if_wanted(port, on);
            self.write(port);
            self.events(port, on);
        }
        let air = self.on_air(on);
        self.relay.tell_of_links(now, on);
        if more {
            return Some(now);
        }
        let lines = self.relay.lines.iter().zip(&self.wires);
        let lines = lines.filter_map(|(line, wire)| line.wake(now, wire.is_busy()));
        lines.chain(air).chain(self.relay.wake).chain(self.relay.kept.retry_at()).min()
    }

    /// Sends a datagram of our own, with an encoded proof of payment or an empty
    /// one. It leaves with the next [`step`](Self::step).
    pub fn send(
        &mut self,
        now: Micros,
        destination: NodeId,
        payload: &[u8],
        proof: &[u8],
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Sent {
        let input = Input::Send { destination, payload, proof, unchecked: false };
        self.send_datagram(now, input, on)
    }

    /// The same, even if this node itself would refuse it, to try a relay.
    pub fn send_unchecked(
        &mut self,
        now: Micros,
        destination: NodeId,
        payload: &[u8],
        proof: &[u8],
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Sent {
        let input = Input::Send { destination, payload, proof, unchecked: true };
        self.send_datagram(now, input, on)
    }

    /// Sends an own paid datagram once more, as [`Happening::Paid`] told its bytes: `head` and
    /// then `payload`. It is worth it after a `DeliveryFailed` whose cause
    /// [passes](blvm_mesh_core::wire::route_error::Cause::passes), and where neither that nor
    /// `Delivered` was heard for long (10 s, or as long as the way may take); at most
    /// [`REPEATS`](blvm_mesh_core::payment::replay::REPEATS) times,
    /// [`REPEAT_PAUSE`](blvm_mesh_core::payment::replay::REPEAT_PAUSE) apart at least, and
    /// not after its payment has expired.
    pub fn send_again(
        &mut self,
        now: Micros,
        packet: &[u8],
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Sent {
        self.send_datagram(now, Input::Repeat { packet }, on)
    }

    /// Follows block headers that pass, on from a recent one, for covenants, and takes the wall clock
    /// from them until [`set_clock`](Self::set_clock) is called. A board without storage takes no time
    /// from them: whoever keeps the newest headers back could make it take the payments of the run
    /// before again. False: it is no header of the network, or the board follows another already.
    #[must_use]
    pub fn follow_headers(&mut self, checkpoint: &[u8; 80]) -> bool {
        let config = self.mesh().config();
        let (magic, tells_time) = (config.magic, !config.payment.volatile);
        let is_kept = self.relay.follow(self.now, checkpoint, &mut |_| ());
        if is_kept {
            self.relay.header_clock = Some(HeaderClock::new(magic, checkpoint, tells_time));
        }
        is_kept
    }

    /// Sets the wall clock, in seconds since 1970. Without a time no payment is accepted.
    pub fn set_clock(&mut self, now: Micros, unix: u64, on: &mut dyn FnMut(Happening<'_>)) {
        self.now = self.now.max(now);
        if let Some(clock) = &mut self.relay.header_clock {
            clock.stop();
        }
        self.relay.give(self.now, Input::WallClock { unix }, on);
    }

    /// Adds a block header of the best chain at its height, for covenants. Headers come
    /// from the operator, one after the other: the newest few are kept.
    ///
    /// # Errors
    /// [`MeshError`]: the header has too little work, or follows none that is kept.
    pub fn add_header(
        &mut self,
        now: Micros,
        header: &[u8; 80],
        height: u32,
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Result<(), MeshError> {
        match self.send_input(now, Input::BlockHeader { header, height }, on) {
            Some(Sent::Refused(reason)) => Err(reason),
            _ => Ok(()),
        }
    }

    /// What there is to show.
    pub fn status(&self) -> Status {
        let neighbours = self.mesh().table().neighbours.iter();
        Status {
            neighbours: neighbours.filter(|n| n.up).count(),
            takes_payments: self.mesh().accepts_payments(),
            stats: self.mesh().stats(),
        }
    }

    /// Why payments cannot be kept, if so. None is accepted until they can; what cannot be
    /// read at the start stays so until the next one.
    pub fn store_error(&self) -> Option<StoreError> {
        self.relay.kept.error
    }

    /// The state machine, to look at.
    pub fn mesh(&self) -> &BoardMesh {
        &self.relay.mesh
    }

    /// How the link of a port fares.
    pub fn line(&self, port: usize) -> Option<LineStatus> {
        let (line, wire) = (self.relay.lines.get(port)?, self.wires.get(port)?);
        Some(LineStatus {
            neighbour: line.link.neighbour().map(|key| NodeId::from_public_key(&key)),
            sent: line.link.sent(),
            round_trip: line.link.round_trip(),
            damaged: wire.damaged(),
        })
    }

    /// A port as it was given to [`new`](Self::new), to set it up or wake it.
    pub fn port(&mut self, at: usize) -> Option<&mut P> {
        self.wires.get_mut(at).map(|wire| &mut wire.port)
    }

    /// The radio as it was given to [`with_radio`](Self::with_radio).
    pub fn radio(&mut self) -> &mut R {
        &mut self.relay.beside
    }

    fn send_datagram(
        &mut self,
        now: Micros,
        input: Input<'_>,
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Sent {
        // The state machine gives every datagram a verdict.
        self.send_input(now, input, on).unwrap_or(Sent::Refused(NetworkReason::LinkClosed.into()))
    }

    fn send_input(
        &mut self,
        now: Micros,
        input: Input<'_>,
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Option<Sent> {
        self.now = self.now.max(now);
        let bytes = match input {
            Input::Send { payload, .. } => payload,
            Input::Repeat { packet } => packet,
            _ => &[],
        };
        self.relay.mesh.handle(self.now, input).ok()?;
        self.relay.drain(self.now, bytes, on)
    }

    /// Reads a port and deals with the frames that are complete; whether there may be
    /// more to read.
    fn take(&mut self, port: usize, on: &mut dyn FnMut(Happening<'_>)) -> bool {
        let Self { relay, wires, packet, keypair, rng, now, .. } = self;
        let Some(wire) = wires.get_mut(port) else { return false };
        wire.read(|frame| {
            if accept(relay, port, *now, frame, keypair, rng) {
                settle(relay, port, packet, *now, on);
            }
        })
    }

    /// Ends the session that the state machine wants no more.
    fn end_if_wanted(&mut self, port: usize, on: &mut dyn FnMut(Happening<'_>)) {
        let Some(line) = self.relay.lines.get_mut(port) else { return };
        if line.down.is_some() {
            line.link.close();
            line.rests_until = Some(self.now.saturating_add(PAUSE));
            self.events(port, on);
        }
    }

    fn events(&mut self, port: usize, on: &mut dyn FnMut(Happening<'_>)) {
        events(&mut self.relay, port, self.now, on);
    }

    /// Writes frames as long as there are any and the port takes them. A function of its
    /// own: a handshake's numbers are not below a payment's check.
    #[inline(never)]
    fn write(&mut self, port: usize) {
        let Self { relay, wires, frame, keypair, rng, now, .. } = self;
        let lines = relay.lines.get_mut(port);
        let Some((line, wire)) = lines.zip(wires.get_mut(port)) else { return };
        line.rests_until.take_if(|until| *now >= *until);
        let mut keys = Hand { local: keypair, secp: relay.mesh.secp(), rng };
        loop {
            let ready = wire.flush() && line.rests_until.is_none();
            // Without room for a frame only its times are looked at.
            let room = if ready { &mut frame[..] } else { &mut [] };
            let Some(len) = line.link.transmit(*now, &mut keys, room) else { return };
            wire.put(frame.get(..len).unwrap_or_default());
        }
    }
}

/// Tells the state machine whether the link of a port is up or down.
fn events<A: Aead, R: Beside>(
    relay: &mut Relay<A, R>,
    port: usize,
    now: Micros,
    on: &mut dyn FnMut(Happening<'_>),
) {
    loop {
        let Some(line) = relay.lines.get_mut(port) else { return };
        match line.link.poll_event() {
            None => return,
            Some(Event::Up(remote)) => {
                let (dialed, link) = (line.dials, relay.link_id());
                if let Some(line) = relay.lines.get_mut(port) {
                    line.id = Some(link);
                }
                let (peer, standing) = (NodeId::from_public_key(&remote), Standing::Own);
                relay.give(
                    now,
                    Input::PeerConnected { link, peer, dialed, standing, capabilities: None },
                    on,
                );
            }
            Some(Event::Down(reason)) => {
                let reason = line.down.map_or(Down::Link(reason), Down::Mesh);
                if let Some(link) = line.forget() {
                    relay.give(now, Input::PeerDisconnected { link }, on);
                }
                on(Happening::LinkDown { port, reason });
            }
        }
    }
}

/// Gives a link a frame; whether it was taken. What is ignored changed nothing but an
/// allowance.
#[inline(never)]
fn accept<A: Aead, R: Beside>(
    relay: &mut Relay<A, R>,
    port: usize,
    now: Micros,
    frame: &mut [u8],
    keypair: &Keypair,
    rng: &mut Rng,
) -> bool {
    let Some(line) = relay.lines.get_mut(port) else { return false };
    let mut keys = Hand { local: keypair, secp: relay.mesh.secp(), rng };
    line.link.receive(now, frame, &mut keys).is_ok()
}

/// Gives the state machine the packets that a link has.
#[inline(never)]
fn settle<A: Aead, R: Beside>(
    relay: &mut Relay<A, R>,
    port: usize,
    room: &mut VecView<u8>,
    now: Micros,
    on: &mut dyn FnMut(Happening<'_>),
) {
    loop {
        events(relay, port, now, on);
        let Some(line) = relay.lines.get_mut(port).filter(|line| line.down.is_none()) else {
            return;
        };
        let Some((packet, link)) = line.link.next_packet().zip(line.id) else { break };
        room.clear();
        // It has room for the largest packet that a link takes.
        let _ = room.extend_from_slice(packet.bytes);
        relay.receive(now, link, room, on);
    }
    // A packet that cannot be taken ends the session.
    events(relay, port, now, on);
}

/// The keys of this node, for a handshake.
struct Hand<'a> {
    local: &'a Keypair,
    secp: &'a Secp256k1<All>,
    rng: &'a mut Rng,
}

impl Keys for Hand<'_> {
    fn local(&self) -> &Keypair {
        self.local
    }

    fn ephemeral(&mut self) -> Keypair {
        ephemeral(self.secp, self.rng)
    }
}

fn ephemeral(secp: &Secp256k1<All>, rng: &mut Rng) -> Keypair {
    loop {
        // All but one in 2^128 draws are keys.
        if let Ok(pair) = Keypair::from_seckey_byte_array(secp, rng.bytes()) {
            return pair;
        }
    }
}
