//! Connections on which the link code of the core runs: BOLT 8 over a stream of
//! bytes, whose pieces arrive in order.

use super::World;
use super::bytes::{Bytes, Path};
use super::machine::Input;
use super::wires::{conn_of, link_of};
use super::world::Event;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::fragment::{FrameBuilder, Put, Splitter};
use blvm_mesh_core::link::joiner::Joiner;
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::link::transport::FRAME_OVERHEAD;
use blvm_mesh_core::link::{Link, LinkLimits, Step};
use blvm_mesh_core::time::SECOND;
use secp256k1::Keypair;
use std::collections::VecDeque;

/// Time that a split packet has to be complete.
const ASSEMBLY: u64 = 30 * SECOND;
/// Bytes of a frame's body.
const BODY: u16 = 1400;

/// The two ends of a connection.
#[derive(Debug)]
pub(super) struct Stream([End; 2]);

struct End {
    link: Link<RustCrypto>,
    joiner: Joiner<Growable>,
    received: Vec<u8>,
    /// Where the packets under way to this end were before.
    paths: VecDeque<Path>,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "End({} bytes)", self.received.len())
    }
}

/// What an end made of received bytes.
enum Got {
    Send(Vec<u8>),
    Peer(NodeId),
    Packet(Bytes),
    Failed,
}

impl End {
    fn new(link: Link<RustCrypto>, max_packet: u32) -> Self {
        let memory = || Growable::new(0);
        let joiner = Joiner::new(max_packet as usize, ASSEMBLY, memory(), memory());
        Self { link, joiner, received: Vec::new(), paths: VecDeque::new() }
    }

    fn take(&mut self, now: u64, bytes: &[u8]) -> Vec<Got> {
        self.received.extend(bytes);
        let (mut got, mut start) = (Vec::new(), 0);
        loop {
            match self.link.receive(now, &mut self.received[start..]) {
                Ok(Step::NeedBytes(_)) => break,
                Ok(Step::Reply { consumed, act }) => {
                    start += consumed;
                    got.push(Got::Send(act.to_vec()));
                }
                Ok(Step::Established { consumed, remote, reply }) => {
                    start += consumed;
                    got.extend(reply.map(|act| Got::Send(act.to_vec())));
                    got.push(Got::Peer(NodeId::from_public_key(&remote)));
                }
                Ok(Step::Frame(frame)) => {
                    let body = &mut self.received[start..][frame.body];
                    start += frame.consumed;
                    let mut more = |records: &mut Vec<Got>| {
                        let mut packets = self.joiner.records(now, body)?;
                        while let Some(packet) = packets.next()? {
                            records.push(Got::Packet(Bytes::from(&*packet.bytes)));
                        }
                        Ok::<_, blvm_mesh_core::link::fragment::FragmentError>(())
                    };
                    if more(&mut got).is_err() {
                        got.push(Got::Failed);
                        break;
                    }
                }
                Err(_) => {
                    got.push(Got::Failed);
                    break;
                }
            }
        }
        self.received.drain(..start);
        got
    }
}

impl World {
    /// Both ends begin the handshake of a new connection.
    pub(super) fn shake_hands(&mut self, conn: usize) {
        let [a, b] = self.conns[conn].ends;
        let secp = self.bank.secp().clone();
        let ephemeral = [self.chance.bytes32(), self.chance.bytes32()];
        let key = |bytes: &[u8; 32]| Keypair::from_seckey_byte_array(&secp, *bytes).expect("a key");
        let [one, other] = ephemeral.map(|e| key(&e));
        let own = |n: usize| key(&self.nodes[n].key.secret_bytes());
        let (limits, remote) = (LinkLimits::default(), own(b).public_key());
        let (dialer, act) = Link::initiator(self.now, limits, &own(a), &one, &remote);
        let listener = Link::responder(self.now, limits, &own(b), &other);
        let max = |n: usize| self.nodes[n].config.max_packet;
        let ends = [End::new(dialer, max(a)), End::new(listener, max(b))];
        self.conns[conn].stream = Some(Box::new(Stream(ends)));
        self.at(self.now + limits.handshake_timeout, Event::Handshake { conn });
        self.piece(conn, 0, act.to_vec());
    }

    /// The time of a handshake is over.
    pub(super) fn handshake_over(&mut self, conn: usize) {
        let Some(stream) = &mut self.conns[conn].stream else { return };
        let now = self.now;
        if stream.0.iter_mut().any(|end| end.link.handle_timeout(now).is_err()) {
            self.checks.count("handshakes that took too long");
            self.close(conn);
        }
    }

    /// Sends a piece of the stream.
    fn piece(&mut self, conn: usize, side: usize, mut bytes: Vec<u8>) {
        if !self.conns[conn].works() {
            return;
        }
        let Some(sent) = self.occupy(conn, side, bytes.len()) else {
            // A stream that lacks a piece is of no use.
            return self.close(conn);
        };
        self.tamper(&mut bytes);
        let time = self.delay(conn, side, sent);
        self.conns[conn].latest[1 - side] = time;
        self.at(time, Event::Piece { conn, side: 1 - side, bytes: bytes.into() });
    }

    /// Writes a packet to the stream.
    pub(super) fn write(&mut self, conn: usize, side: usize, packet: &[u8], path: Path) {
        let Some(stream) = &mut self.conns[conn].stream else { return };
        let Some(sender) = stream.0[side].link.sender() else { return };
        let (mut pieces, mut splitter) = (Vec::new(), Splitter::default());
        loop {
            let mut frame = vec![0; FRAME_OVERHEAD + usize::from(BODY)];
            let mut builder = FrameBuilder::new(&mut frame, BODY).expect("there is room");
            let put = splitter.put(&mut builder, Lane::Free, packet);
            let len = builder.finish();
            frame.truncate(len);
            let Ok(put) = put else { return };
            sender.seal_frame(&mut frame).expect("it is a frame");
            pieces.push(frame);
            if put == Put::Done {
                break;
            }
        }
        stream.0[1 - side].paths.push_back(path);
        pieces.into_iter().for_each(|bytes| self.piece(conn, side, bytes));
    }

    /// A piece of the stream arrived at an end.
    pub(super) fn read(&mut self, conn: usize, side: usize, bytes: &[u8]) {
        let now = self.now;
        let Some(stream) = &mut self.conns[conn].stream else { return };
        for got in stream.0[side].take(now, bytes) {
            let node = self.conns[conn].ends[side];
            match got {
                Got::Send(act) => self.piece(conn, side, act),
                Got::Peer(peer) => {
                    let other = self.conns[conn].ends[1 - side];
                    assert_eq!(peer, self.id(other), "I3: a link proved another's key");
                    self.checks.count("handshakes");
                    self.authenticated(conn, side);
                }
                Got::Packet(bytes) => {
                    let Some(stream) = &mut self.conns[conn].stream else { return };
                    let path = stream.0[side].paths.pop_front().expect("somebody sent it");
                    let link = link_of(conn, side);
                    debug_assert_eq!(conn_of(link), (conn, side));
                    self.nodes[node].note(&bytes);
                    self.input_on(node, Input::MessageReceived { link, packet: bytes }, path);
                }
                Got::Failed => {
                    self.checks.count("links that failed");
                    return self.close(conn);
                }
            }
        }
    }
}
