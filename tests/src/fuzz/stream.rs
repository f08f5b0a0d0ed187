//! Two ends of a link over a stream that brings bytes in any pieces, and somebody
//! on the line who changes them.

use super::Choices;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::fragment::{FrameBuilder, Put, Splitter};
use blvm_mesh_core::link::handshake::ACT_ONE_LEN;
use blvm_mesh_core::link::joiner::Joiner;
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::link::transport::FRAME_OVERHEAD;
use blvm_mesh_core::link::{Link, LinkLimits, Step};
use secp256k1::{Keypair, Secp256k1};
use std::collections::VecDeque;
use std::sync::OnceLock;

const MAX_PACKET: usize = 512;
const MAX_BODY: u16 = 200;
/// Longer than any run.
const TIMEOUT: u64 = 1 << 32;
const LANES: [Lane; 2] = [Lane::Free, Lane::Paid];

/// One end, with what it has yet to send and what it got.
struct End {
    link: Link<RustCrypto>,
    splitter: Splitter,
    queues: [VecDeque<Vec<u8>>; 2],
    /// What it sent, in order, per lane.
    sent: [Vec<Vec<u8>>; 2],
    got: [Vec<Vec<u8>>; 2],
    /// Bytes on their way to it.
    wire: VecDeque<u8>,
    /// Bytes that arrived and were not consumed.
    buffer: Vec<u8>,
    joiner: Joiner<Growable>,
    established: bool,
    failed: bool,
    /// Whether a byte on its way here was changed.
    tampered: bool,
}

impl End {
    fn new(link: Link<RustCrypto>) -> Self {
        let memory = || Growable::new(0);
        Self {
            link,
            splitter: Splitter::default(),
            queues: Default::default(),
            sent: Default::default(),
            got: Default::default(),
            wire: VecDeque::new(),
            buffer: Vec::new(),
            joiner: Joiner::new(MAX_PACKET, TIMEOUT, memory(), memory()),
            established: false,
            failed: false,
            tampered: false,
        }
    }

    fn queue(&mut self, lane: usize, len: usize) {
        let number = self.sent[lane].len() as u8;
        let packet: Vec<u8> = (0..len).map(|i| number.wrapping_add(i as u8)).collect();
        self.queues[lane].push_back(packet.clone());
        self.sent[lane].push(packet);
    }

    /// A frame of at most so many bytes, the lane named first; empty if there is
    /// nothing to send or the link is not up.
    fn frame(&mut self, most: usize, first: usize) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_OVERHEAD + most.max(5)];
        let Some(sender) = self.link.sender() else { return Vec::new() };
        let mut frame = FrameBuilder::new(&mut bytes, MAX_BODY).expect("room for a record");
        for lane in [first, 1 - first] {
            while let Some(packet) = self.queues[lane].front() {
                match self.splitter.put(&mut frame, LANES[lane], packet) {
                    Ok(Put::Done) => drop(self.queues[lane].pop_front()),
                    Ok(Put::FrameFull) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        if frame.is_empty() {
            return Vec::new();
        }
        let len = frame.finish();
        bytes.truncate(len);
        sender.seal_frame(&mut bytes).expect("a frame");
        bytes
    }

    /// Takes so many bytes off the wire; gives what is to be answered.
    fn deliver(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.wire.len());
        self.buffer.extend(self.wire.drain(..count));
        let (mut start, mut answer) = (0, Vec::new());
        while !self.failed {
            let left = &mut self.buffer[start..];
            let len = left.len();
            match self.link.receive(1, left) {
                Ok(Step::NeedBytes(all)) => {
                    assert!(all > len && all <= FRAME_OVERHEAD + usize::from(MAX_BODY));
                    break;
                }
                Ok(Step::Reply { consumed, act }) => {
                    answer.extend(act);
                    start += consumed;
                }
                Ok(Step::Established { consumed, reply, .. }) => {
                    self.established = true;
                    answer.extend(reply.iter().flatten());
                    start += consumed;
                }
                Ok(Step::Frame(frame)) => {
                    let mut records = self.joiner.records(1, &mut left[frame.body]).expect("ours");
                    while let Some(packet) = records.next().expect("made by the other end") {
                        self.got[packet.lane as usize].push(packet.bytes.to_vec());
                    }
                    start += frame.consumed;
                }
                Err(error) => {
                    assert!(self.tampered, "nothing was changed: {error}");
                    assert_eq!(self.link.receive(1, left), Err(error), "it stays failed");
                    self.failed = true;
                }
            }
        }
        self.buffer.drain(..start);
        answer
    }
}

type Start = (Link<RustCrypto>, [u8; ACT_ONE_LEN], Link<RustCrypto>);

/// Both ends and the first act, the same for every run.
static START: OnceLock<Start> = OnceLock::new();

fn start() -> Start {
    let secp = Secp256k1::signing_only();
    let key = |byte| Keypair::from_seckey_byte_array(&secp, [byte; 32]).expect("in range");
    let limits = LinkLimits { handshake_timeout: 10, max_body: MAX_BODY, ..Default::default() };
    let (near, act) = Link::initiator(0, limits, &key(1), &key(3), &key(2).public_key());
    (near, act, Link::responder(0, limits, &key(2), &key(4)))
}

/// What each end and the line do, a byte or two each.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let (near, act, far) = START.get_or_init(start).clone();
    let mut ends = [End::new(near), End::new(far)];
    ends[1].wire.extend(act);

    while !choices.is_empty() {
        let what = choices.byte();
        let (end, lane) = (usize::from(what & 1), usize::from(what >> 1 & 1));
        let number = usize::from(choices.byte());
        match what >> 2 & 7 {
            0 | 1 => ends[end].queue(lane, number * 2 + 1),
            2 | 3 => {
                let frame = ends[end].frame(number, lane);
                ends[1 - end].wire.extend(frame);
            }
            7 => {
                let len = ends[end].wire.len().max(1);
                let first = !ends[end].tampered;
                if let Some(byte) = ends[end].wire.get_mut(number % len).filter(|_| first) {
                    *byte ^= what >> 5 | 1;
                    ends[end].tampered = true;
                }
            }
            _ => {
                let answer = ends[end].deliver(number + 1);
                ends[1 - end].wire.extend(answer);
            }
        }
    }
    finish(&mut ends);
    let all: usize = ends.iter().flat_map(|end| &end.got).map(Vec::len).sum();
    all > 0
}

/// Sends and delivers what is left: all of it arrived, or nothing from the changed
/// byte on.
fn finish(ends: &mut [End; 2]) {
    loop {
        let mut moved = false;
        for end in [0, 1] {
            let frame = ends[end].frame(usize::from(MAX_BODY), 1);
            moved |= !frame.is_empty() || !ends[1 - end].wire.is_empty();
            ends[1 - end].wire.extend(frame);
            let answer = ends[1 - end].deliver(usize::MAX);
            ends[end].wire.extend(answer);
        }
        if !moved {
            break;
        }
    }
    let untouched = ends.iter().all(|end| !end.tampered);
    for (here, there) in [(0, 1), (1, 0)] {
        let (sent, got, end) = (&ends[there].sent, &ends[here].got, &ends[here]);
        for lane in [0, 1] {
            assert!(sent[lane].starts_with(&got[lane]), "in order, unchanged");
            assert!(!untouched || sent[lane] == got[lane], "all of it");
        }
        assert_eq!(end.failed, end.tampered, "a changed byte is noticed");
        assert!(end.established || !untouched);
    }
}
