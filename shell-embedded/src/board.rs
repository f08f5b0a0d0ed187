//! The loop's body: ports, links and the state machine together.

use crate::egress::Egress;
use crate::memory::BoardMemory;
use crate::relay::{Out, Relay};
use crate::side::Side;
use crate::{
    Down, Happening, HeaderClock, KEEPALIVE, Port, Role, Sent, Status, Storage, StoreError,
};
use bitcoin::secp256k1::{All, Keypair, Secp256k1, SecretKey};
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::Step;
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::mesh::{BoardMesh, Input, MeshError, NetworkReason};
use blvm_mesh_core::rng::Rng;
use blvm_mesh_core::time::Micros;

/// A node on a board with `PORTS` ports of type `P`.
pub struct Board<A, P, const PORTS: usize> {
    pub(crate) relay: Relay<PORTS>,
    sides: heapless::Vec<Side<A, P>, PORTS>,
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
    pub fn new<const PACKET: usize, const FRAME: usize, const QUEUE: usize>(
        memory: &'static mut BoardMemory<PORTS, PACKET, FRAME, QUEUE>,
        mut config: Config,
        key: SecretKey,
        seed: [u8; 32],
        ports: [(P, Role); PORTS],
    ) -> Self {
        config.payment.volatile = true;
        Self::make(memory, config, key, seed, ports)
    }

    /// The same with a place for the payments that it accepts: none is taken twice, also
    /// after a cut of the power. It is read with the first [`step`](Self::step). If that
    /// fails the board relays what is free and refuses payments.
    pub fn with_storage<const PACKET: usize, const FRAME: usize, const QUEUE: usize>(
        memory: &'static mut BoardMemory<PORTS, PACKET, FRAME, QUEUE>,
        mut config: Config,
        key: SecretKey,
        seed: [u8; 32],
        ports: [(P, Role); PORTS],
        storage: &'static mut dyn Storage,
    ) -> Self {
        config.payment.volatile = false;
        let mut board = Self::make(memory, config, key, seed, ports);
        board.relay.unread = Some(storage);
        board
    }

    fn make<const PACKET: usize, const FRAME: usize, const QUEUE: usize>(
        memory: &'static mut BoardMemory<PORTS, PACKET, FRAME, QUEUE>,
        mut config: Config,
        key: SecretKey,
        seed: [u8; 32],
        ports: [(P, Role); PORTS],
    ) -> Self {
        config.max_packet = config.max_packet.min(PACKET as u32);
        if config.timing.keepalive == 0 {
            config.timing.keepalive = KEEPALIVE;
        }
        let rng = Rng::new(&seed, "links");
        let BoardMemory { tables, received, sent } = memory;
        let mesh = BoardMesh::with_tables(tables, config, key, seed);
        let keypair = Keypair::from_secret_key(mesh.secp(), &key);
        let sides = ports.into_iter().zip(received);
        Self {
            relay: Relay::new(mesh, sent.iter_mut().map(Egress::new)),
            sides: sides.map(|(port, memory)| Side::new(port, memory)).collect(),
            keypair,
            rng,
            now: 0,
        }
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
        for port in 0..PORTS {
            if let Err(reason) = self.take(port, on)
                && let Some(out) = self.relay.outs.get_mut(port)
            {
                out.down = Some(reason);
            }
        }
        if self.relay.wake.is_some_and(|wake| now >= wake) {
            self.relay.give(now, Input::Timer, on);
        }
        self.refuse_silence();
        self.drop_links(on);
        for (side, out) in self.sides.iter_mut().zip(&mut self.relay.outs) {
            let sender = side.link.as_mut().and_then(|link| link.sender());
            out.egress.pump(sender, |bytes| side.port.write(bytes));
        }
        self.relay.tell_congestion(now, on);
        let sides = self.sides.iter().filter_map(Side::wake);
        sides.chain(self.relay.wake).min()
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

    /// Takes the wall clock from block headers that pass, until [`set_clock`](Self::set_clock)
    /// is called. The clock must have been [started](HeaderClock::start).
    pub fn follow_headers(&mut self, clock: &'static mut HeaderClock) {
        self.relay.header_clock = Some(clock);
    }

    /// Sets the wall clock, in seconds since 1970. Without a time no payment is accepted.
    pub fn set_clock(&mut self, now: Micros, unix: u64, on: &mut dyn FnMut(Happening<'_>)) {
        self.now = self.now.max(now);
        self.relay.header_clock = None;
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
        }
    }

    /// Why payments are no longer kept, if so. Until the next start none is accepted.
    pub fn store_error(&self) -> Option<StoreError> {
        self.relay.store_error
    }

    /// The state machine, to look at.
    pub fn mesh(&self) -> &BoardMesh {
        &self.relay.mesh
    }

    /// A port as it was given to [`new`](Self::new), to set it up or wake it.
    pub fn port(&mut self, at: usize) -> Option<&mut P> {
        self.sides.get_mut(at).map(|side| &mut side.port)
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
            _ => &[],
        };
        self.relay.mesh.handle(self.now, input).ok()?;
        self.relay.drain(self.now, bytes, on)
    }

    /// Gives up links to neighbours whose end would not be noticed.
    fn refuse_silence(&mut self) {
        let Relay { mesh, outs, .. } = &mut self.relay;
        for out in outs {
            let neighbour = out.link.and_then(|link| mesh.table().neighbours.get(link));
            if neighbour.is_some_and(|n| n.up && n.keepalive == 0) {
                out.down = out.down.or(Some(Down::NoKeepalive));
            }
        }
    }

    /// Reads a port once and deals with what is complete.
    fn take(&mut self, port: usize, on: &mut dyn FnMut(Happening<'_>)) -> Result<(), Down> {
        let Self { relay, sides, keypair, rng, now } = self;
        let (now, Some(side)) = (*now, sides.get_mut(port)) else { return Ok(()) };
        side.check_time(now)?;
        let came_in = side.read(now);
        let act = side.begin(now, keypair, || ephemeral(relay.mesh.secp(), rng));
        if let Some((act, out)) = act.zip(relay.outs.get_mut(port)) {
            out.egress.put_act(&act);
        }
        if !came_in {
            return Ok(());
        }
        loop {
            let dialed = side.role != Role::Listen;
            let Some((link, joiner, rx)) = side.parts() else { return Ok(()) };
            let step = link.receive(now, rx).map_err(Down::Link)?;
            let Some(out) = relay.outs.get_mut(port) else { return Ok(()) };
            let consumed = match step {
                Step::NeedBytes(_) => return Ok(()),
                Step::Reply { consumed, act } => {
                    out.egress.put_act(&act);
                    consumed
                }
                Step::Established { consumed, remote, reply } => {
                    if let Some(act) = reply {
                        out.egress.put_act(&act);
                    }
                    let link = relay.link_id();
                    if let Some(out) = relay.outs.get_mut(port) {
                        out.link = Some(link);
                    }
                    let peer = NodeId::from_public_key(&remote);
                    relay.give(now, Input::PeerConnected { link, peer, dialed }, on);
                    consumed
                }
                Step::Frame(frame) => {
                    let Some(link) = out.link else { return Ok(()) };
                    let body = rx.get_mut(frame.body).unwrap_or_default();
                    let mut records = joiner.records(now, body).map_err(Down::Fragment)?;
                    while let Some(packet) = records.next().map_err(Down::Fragment)? {
                        relay.receive(now, link, packet.bytes, on);
                        if relay.outs.get(port).is_some_and(|out| out.down.is_some()) {
                            break;
                        }
                    }
                    frame.consumed
                }
            };
            if relay.outs.get(port).is_some_and(|out| out.down.is_some()) {
                return Ok(());
            }
            side.consume(consumed);
        }
    }

    /// Drops the links that failed or are to be closed. Dropping one may close others.
    fn drop_links(&mut self, on: &mut dyn FnMut(Happening<'_>)) {
        let failed = |(at, out): (usize, &mut Out)| Some((at, out.down.take()?, out.link.take()));
        while let Some((port, reason, link)) =
            self.relay.outs.iter_mut().enumerate().find_map(failed)
        {
            if let Some(out) = self.relay.outs.get_mut(port) {
                out.egress.clear();
            }
            if let Some(side) = self.sides.get_mut(port) {
                side.drop_link(self.now);
            }
            if let Some(link) = link {
                self.relay.give(self.now, Input::PeerDisconnected { link }, on);
            }
            on(Happening::LinkDown { port, reason });
        }
    }
}

fn ephemeral(secp: &Secp256k1<All>, rng: &mut Rng) -> Keypair {
    loop {
        // All but one in 2^128 draws are keys.
        if let Ok(pair) = Keypair::from_seckey_slice(secp, &rng.bytes()) {
            return pair;
        }
    }
}
