//! Two ends of a link over a line that loses, repeats, reorders and alters frames, and
//! somebody on it who sends what he likes: what arrives is what was sent, in order and
//! once, and in the end the line works.

use super::Choices;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::datagram::{
    DatagramLimits, DatagramLink, Event, Keys, LinkMemory, MEMORY_OVERHEAD, Role,
};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use secp256k1::{Keypair, Secp256k1, SignOnly};
use std::sync::OnceLock;

const MAX_PACKET: usize = 600;
const FRAME: usize = 128;
const LANES: [Lane; 2] = [Lane::Free, Lane::Paid];
/// Frames under way, at most.
const MOST: usize = 64;

type Memory = heapless::Vec<u8, { MAX_PACKET + MEMORY_OVERHEAD }>;

struct TestKeys {
    local: Keypair,
    next: u64,
}

fn key(byte: u8, number: u64) -> Keypair {
    static SECP: OnceLock<Secp256k1<SignOnly>> = OnceLock::new();
    let mut secret = [byte; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    Keypair::from_seckey_byte_array(SECP.get_or_init(Secp256k1::signing_only), secret)
        .expect("in range")
}

impl Keys for TestKeys {
    fn local(&self) -> &Keypair {
        &self.local
    }
    fn ephemeral(&mut self) -> Keypair {
        self.next += 1;
        key(3, self.next)
    }
}

struct End {
    link: DatagramLink<RustCrypto, Memory>,
    keys: TestKeys,
    events: Vec<Event>,
    queued: u32,
    /// The last packet that came in, by lane, and how many did.
    last: [Option<u32>; 2],
    got: usize,
    /// Frames on their way to it.
    air: Vec<Vec<u8>>,
}

impl End {
    fn new(role: Role, byte: u8) -> Self {
        let memory = || [Memory::new(), Memory::new()];
        let memory = LinkMemory { inbound: memory(), outbound: memory() };
        let limits = DatagramLimits::serial(FRAME as u16, MAX_PACKET as u32);
        Self {
            link: DatagramLink::new(limits, role, memory),
            keys: TestKeys { local: key(byte, 0), next: u64::from(byte) << 32 },
            events: Vec::new(),
            queued: 0,
            last: [None; 2],
            got: 0,
            air: Vec::new(),
        }
    }

    /// A packet that tells its number and, by its length and bytes, whether it is whole.
    fn queue(&mut self, now: Micros, lane: Lane, len: usize) -> bool {
        let number = self.queued.to_le_bytes();
        let packet: Vec<u8> =
            number.iter().cycle().take(len.clamp(4, MAX_PACKET)).copied().collect();
        let len = (packet.len() as u16).to_le_bytes();
        let queued = self.link.queue(now, lane, &len, &packet[2..]).is_ok();
        self.queued += 1;
        queued
    }

    fn receive(&mut self, now: Micros, frame: &[u8]) {
        let _ = self.link.receive(now, &mut frame.to_vec(), &mut self.keys);
        self.look();
    }

    fn look(&mut self) {
        for _ in 0..2 {
            self.events.extend(std::iter::from_fn(|| self.link.poll_event()));
            while let Some(packet) = self.link.next_packet() {
                let (len, rest) = packet.bytes.split_first_chunk().expect("two bytes");
                assert_eq!(usize::from(u16::from_le_bytes(*len)), packet.bytes.len());
                // Bytes 4 and up tell the number, where there are as many.
                let mut number = [0; 4];
                for (at, byte) in rest.iter().enumerate() {
                    let place = (at + 2) % 4;
                    assert!(at < 4 || number[place] == *byte, "a packet is whole");
                    number[place] = *byte;
                }
                if rest.len() >= 4 {
                    let (number, last) =
                        (u32::from_le_bytes(number), &mut self.last[packet.lane as usize]);
                    assert!(*last < Some(number), "in order, once");
                    *last = Some(number);
                }
                self.got += 1;
            }
        }
    }

    /// What others saw of it.
    fn seen(&self) -> (usize, usize) {
        (self.events.len(), self.got)
    }
}

/// Puts what an end has to send on the line.
fn transmit(ends: &mut [End; 2], from: usize, now: Micros, most: usize) -> bool {
    let mut any = false;
    for _ in 0..most {
        let mut out = [0; FRAME];
        let [near, far] = ends;
        let (near, far) = if from == 0 { (near, far) } else { (far, near) };
        let Some(len) = near.link.transmit(now, &mut near.keys, &mut out) else { break };
        near.look();
        any = true;
        if far.air.len() < MOST {
            far.air.push(out[..len].to_vec());
        }
    }
    any
}

/// What each end and the line do, two bytes each.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let remote = key(2, 0).public_key();
    let mut ends = [End::new(Role::Dial(remote), 1), End::new(Role::Listen, 2)];
    let mut now = 0;
    while !choices.is_empty() {
        let what = choices.byte();
        let (end, lane) = (usize::from(what & 1), LANES[usize::from(what >> 1 & 1)]);
        let number = usize::from(choices.byte());
        match what >> 2 & 7 {
            0 => drop(ends[end].queue(now, lane, number * 3)),
            1 => drop(transmit(&mut ends, end, now, number % 8 + 1)),
            2 | 3 if !ends[end].air.is_empty() => {
                let at = number % ends[end].air.len();
                // Sometimes it comes again.
                let frame = if what & 0x80 == 0 {
                    ends[end].air.remove(at)
                } else {
                    ends[end].air[at].clone()
                };
                if number < 240 {
                    ends[end].receive(now, &frame);
                }
            }
            4 => {
                let (end, before) = (&mut ends[end], (number, choices.byte()));
                let len = end.air.len().max(1);
                if let Some(mut frame) = end.air.get(number % len).cloned() {
                    let (at, before) = (usize::from(before.1) % frame.len(), end.seen());
                    frame[at] ^= what >> 5 | 1;
                    end.receive(now, &frame);
                    assert_eq!(end.seen(), before, "an altered frame changes nothing");
                }
            }
            5 => {
                let before = ends[end].seen();
                ends[end].receive(now, choices.take(number));
                assert_eq!(ends[end].seen(), before, "a stranger changes nothing");
            }
            6 if number == 255 => {
                ends[end].link.close();
                ends[end].look();
            }
            6 => now += number as Micros * 20 * MILLISECOND,
            _ => {
                for _ in 0..4 {
                    for from in [0, 1] {
                        transmit(&mut ends, from, now, 8);
                        for frame in std::mem::take(&mut ends[1 - from].air) {
                            ends[1 - from].receive(now, &frame);
                        }
                    }
                    now += 10 * MILLISECOND;
                }
            }
        }
    }
    let arrived = ends.iter().all(|end| end.got > 0);
    finish(ends, now);
    arrived
}

/// From now on nothing is lost: the line works within the time that it takes to notice
/// what was amiss.
fn finish(mut ends: [End; 2], mut now: Micros) {
    let limit = now + 120 * SECOND;
    let mut asked = [None; 2];
    loop {
        while [0, 1].map(|from| transmit(&mut ends, from, now, 8)) != [false; 2] {
            for end in &mut ends {
                for frame in std::mem::take(&mut end.air) {
                    end.receive(now, &frame);
                }
            }
        }
        let news = [0, 1].map(|end| asked[end].is_some_and(|got| ends[1 - end].got > got));
        if news == [true; 2] {
            return;
        }
        for (end, asked) in asked.iter_mut().enumerate() {
            // Asked again where the link went down with it.
            if ends[end].link.is_idle() && ends[end].queue(now, Lane::Paid, 9) {
                *asked = Some(ends[1 - end].got);
            }
        }
        assert!(now < limit, "the line works again");
        now += 100 * MILLISECOND;
    }
}
