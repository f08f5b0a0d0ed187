//! Connections on which the datagram link of the core runs: BOLT 8 in frames that the line
//! may lose, double, delay or alter. On radio these frames are what goes on the air.
//!
//! A link that ends is closed for both ends, and dialed anew. In truth the other end learns
//! of it by the silence only.

use super::World;
use super::bytes::{Bytes, Path};
use super::checks::datagram as parsed;
use super::machine::Input;
use super::radio::FRAME;
use super::wires::link_of;
use super::world::Event;
use crate::rng::Rng;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::datagram::{
    self, DatagramLimits, DatagramLink, Keys, LinkMemory, LinkQuality, MEMORY_OVERHEAD, Role,
};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::time::{MILLISECOND, Micros};
use blvm_mesh_core::wire::Kind;
use secp256k1::{Keypair, Secp256k1, SecretKey, SignOnly};
use std::collections::VecDeque;
use std::sync::OnceLock;

/// Largest frame on a wire, in bytes.
const WIRE_FRAME: u16 = 1024;
/// Bytes on the air beside a frame: who sends it, and to whom.
pub(super) const ADDRESS: usize = 4;
/// Packets of which it is known where they were before; what was given up stays among them.
const PATHS: usize = 4096;

pub(super) struct EndKeys {
    local: Keypair,
    chance: Rng,
}

impl EndKeys {
    pub(super) fn new(local: &SecretKey, chance: Rng) -> Self {
        Self { local: key(&local.secret_bytes()), chance }
    }
}

impl Keys for EndKeys {
    fn local(&self) -> &Keypair {
        &self.local
    }
    fn ephemeral(&mut self) -> Keypair {
        key(&self.chance.bytes32())
    }
}

fn key(secret: &[u8; 32]) -> Keypair {
    static SECP: OnceLock<Secp256k1<SignOnly>> = OnceLock::new();
    let secp = SECP.get_or_init(Secp256k1::signing_only);
    Keypair::from_seckey_byte_array(secp, *secret).expect("a key")
}

struct End {
    link: DatagramLink<RustCrypto, Growable>,
    keys: EndKeys,
    quality: LinkQuality,
    /// The packets under way to this end, and where they were before.
    paths: VecDeque<(Bytes, Path)>,
    /// When it is asked again what it has to send.
    timer: Micros,
}

/// The two ends of a connection.
pub(super) struct Datagrams([End; 2]);

impl std::fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Datagrams({} and {} packets)", self.0[0].paths.len(), self.0[1].paths.len())
    }
}

/// The lane of a packet, as the shells choose it.
pub(super) fn lane(bytes: &[u8]) -> Lane {
    let datagram = bytes.get(5) == Some(&(Kind::Datagram as u8));
    let paid = parsed(bytes).is_some_and(|d| d.signed.is_some());
    if datagram && !paid { Lane::Free } else { Lane::Paid }
}

impl World {
    fn datagram_limits(&self, n: usize) -> DatagramLimits {
        let max_packet = self.nodes[n].config.max_packet;
        match self.radio {
            Some(_) => {
                let frame = (FRAME - ADDRESS) as u16;
                DatagramLimits { frame, ..DatagramLimits::radio(max_packet) }
            }
            None => DatagramLimits::serial(WIRE_FRAME, max_packet),
        }
    }

    /// Both ends of a new connection get a link; the first one dials.
    pub(super) fn call_up(&mut self, conn: usize) {
        let ends = self.conns[conn].ends;
        let remote = key(&self.nodes[ends[1]].key.secret_bytes()).public_key();
        let made = [(0, Role::Dial(remote)), (1, Role::Listen)].map(|(side, role)| {
            let limits = self.datagram_limits(ends[side]);
            let memory = || [0; 2].map(|_| Growable::new(MEMORY_OVERHEAD));
            let memory = LinkMemory { inbound: memory(), outbound: memory() };
            let link = DatagramLink::new(limits, role, memory);
            let chance = Rng::new(self.chance.draw());
            let keys = EndKeys::new(&self.nodes[ends[side]].key, chance);
            let quality = LinkQuality::new(link.sent());
            End { link, keys, quality, paths: VecDeque::new(), timer: Micros::MAX }
        });
        self.conns[conn].datagrams = Some(Box::new(Datagrams(made)));
        self.pump(conn, 0);
    }

    fn end(&mut self, conn: usize, side: usize) -> Option<&mut End> {
        let c = self.conns.get_mut(conn).filter(|c| c.works())?;
        c.datagrams.as_mut().map(|d| &mut d.0[side])
    }

    /// Queues a packet.
    pub(super) fn enqueue(&mut self, conn: usize, side: usize, bytes: Bytes, path: Path) {
        let now = self.now;
        let Some(end) = self.end(conn, side) else { return };
        if end.link.queue(now, lane(&bytes), &bytes, &[]).is_err() {
            return self.checks.count("lost in a full queue");
        }
        if let Some(other) = self.end(conn, 1 - side) {
            if other.paths.len() >= PATHS {
                other.paths.pop_front();
            }
            other.paths.push_back((bytes, path));
        }
        // The node that sends is in the midst of a step.
        self.pump_until(conn, side, now);
    }

    fn pump_until(&mut self, conn: usize, side: usize, at: Micros) {
        if let Some(end) = self.end(conn, side)
            && at < end.timer
        {
            end.timer = at;
            self.at(at, Event::Pump { conn, side, at });
        }
    }

    /// Sends what an end has to send now.
    pub(super) fn pump(&mut self, conn: usize, side: usize) {
        if self.radio.is_some() {
            return self.want_air(conn, side);
        }
        loop {
            // What does not fit on the line yet waits in the link.
            let c = &self.conns[conn];
            if c.line.bandwidth > 0 && c.busy[side] > self.now {
                return self.pump_until(conn, side, c.busy[side]);
            }
            let Some(bytes) = self.next_frame(conn, side) else { return };
            for time in self.arrivals(conn, side, bytes.len()).into_iter().flatten() {
                self.at(time, Event::Frame { conn, side: 1 - side, bytes: bytes.clone() });
            }
        }
    }

    /// The next frame that an end has to send now, if there is one.
    pub(super) fn next_frame(&mut self, conn: usize, side: usize) -> Option<Bytes> {
        let now = self.now;
        let end = self.end(conn, side)?;
        let mut frame = [0; WIRE_FRAME as usize];
        let len = end.link.transmit(now, &mut end.keys, &mut frame);
        if len.is_none() {
            let again = end.link.poll_timeout().unwrap_or(Micros::MAX);
            self.pump_until(conn, side, again.max(now + MILLISECOND));
        }
        self.learn_of(conn, side);
        let frame = &mut frame[..len?];
        self.tamper(frame);
        Some(Bytes::from(&*frame))
    }

    /// A timer of an end is due.
    pub(super) fn pump_at(&mut self, conn: usize, side: usize, at: Micros) {
        let Some(end) = self.end(conn, side).filter(|end| end.timer == at) else { return };
        end.timer = Micros::MAX;
        self.pump(conn, side);
    }

    /// A frame came to an end.
    pub(super) fn take_frame(&mut self, conn: usize, side: usize, bytes: &[u8]) {
        let now = self.now;
        let Some(end) = self.end(conn, side) else { return };
        if end.link.receive(now, &mut bytes.to_vec(), &mut end.keys).is_err() {
            self.checks.count("frames ignored");
        }
        self.learn_of(conn, side);
        self.pump(conn, side);
    }

    /// Tells the node what its end of the link has to tell.
    fn learn_of(&mut self, conn: usize, side: usize) {
        let ends = self.conns[conn].ends;
        let link = link_of(conn, side);
        while let Some(event) = self.end(conn, side).and_then(|end| end.link.poll_event()) {
            match event {
                datagram::Event::Up(remote) => {
                    let peer = NodeId::from_public_key(&remote);
                    assert_eq!(peer, self.id(ends[1 - side]), "I3: a link proved another's key");
                    self.checks.count("datagram handshakes");
                    self.authenticated(conn, side);
                }
                datagram::Event::Down(_) => {
                    self.checks.count("datagram links that ended");
                    return self.close(conn);
                }
            }
        }
        while let Some(end) = self.end(conn, side) {
            let Some(packet) = end.link.next_packet() else { break };
            let bytes = Bytes::from(&*packet.bytes);
            let at = end.paths.iter().position(|(sent, _)| *sent == bytes);
            let (bytes, path) = at.and_then(|at| end.paths.remove(at)).expect("somebody sent it");
            self.nodes[ends[side]].note(&bytes);
            self.input_on(ends[side], Input::MessageReceived { link, packet: bytes }, path);
        }
        let Some(end) = self.end(conn, side) else { return };
        let rooms = [Lane::Free, Lane::Paid].map(|lane| (lane, end.link.room(lane)));
        let quality = end.quality.update(end.link.sent());
        for (lane, room) in rooms {
            let full = room < self.nodes[ends[side]].config.max_packet as usize / 2;
            let was_full = &mut self.conns[conn].full[side][lane as usize];
            if std::mem::replace(was_full, full) != full {
                self.at(self.now, Event::Congested { conn, side, lane, full });
            }
        }
        if let Some(quality) = quality {
            self.checks.count("links measured");
            self.input(ends[side], Input::LinkMeasured { link, quality });
        }
    }
}
