//! Two ends of a sealed flow over a path that loses, repeats, reorders and alters packets, or one
//! end and an authentic peer that sends what it likes: bytes arrive as they were written, once and
//! in order, both ends keep to the allowance, and nobody panics.

use super::Choices;
use blvm_mesh_core::flow::end::frames::{Frame, Frames};
use blvm_mesh_core::flow::end::packet::OVERHEAD;
use blvm_mesh_core::flow::end::{Direction, End, EndConfig, Event, Read, StreamLimits, cost};
use blvm_mesh_core::link::aead::{Aead, RustCrypto};
use blvm_mesh_core::link::handshake::Secrets;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use std::collections::{BTreeMap, BTreeSet};

const FLOW: u64 = 7;
const MAX_PACKET: usize = 300;
/// Packets under way, at most.
const MOST: usize = 64;

type TestEnd = End<RustCrypto>;

/// What an end has sent on a stream, or read of it.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    written: u64,
    read: u64,
}

struct World {
    ends: [TestEnd; 2],
    /// Packets on their way to each end.
    air: [Vec<Vec<u8>>; 2],
    /// By writer and stream.
    counts: BTreeMap<(usize, u32), Count>,
    /// Given up or not wanted.
    broken: BTreeSet<u32>,
    sent: u64,
    allowance: u64,
    now: Micros,
}

fn ends() -> [TestEnd; 2] {
    let streams = StreamLimits { streams: 20, window: 1 << 16, pool: 1 << 16 };
    let config = EndConfig { streams, max_packet: MAX_PACKET, ..EndConfig::default() };
    let secrets = |sending, receiving| Secrets {
        sending: [sending; 32],
        receiving: [receiving; 32],
        chaining: [0; 32],
    };
    [
        End::new(0, config, Direction::FromSource, FLOW, &secrets(1, 2)),
        End::new(0, config, Direction::FromDestination, FLOW, &secrets(2, 1)),
    ]
}

fn content(stream: u32, at: u64) -> u8 {
    (at.wrapping_mul(31) ^ at >> 8 ^ u64::from(stream)) as u8
}

impl World {
    fn new() -> Self {
        Self {
            ends: ends(),
            air: Default::default(),
            counts: BTreeMap::new(),
            broken: BTreeSet::new(),
            sent: 0,
            allowance: 0,
            now: 0,
        }
    }

    fn top_up(&mut self, bytes: u64) {
        self.allowance += bytes;
        self.ends[0].set_allowance(self.now, self.allowance);
    }

    fn open(&mut self, end: usize) {
        if let Ok(id) = self.ends[end].open_stream() {
            self.counts.insert((end, id), Count::default());
        }
    }

    /// A stream that an end may write.
    fn stream(&self, end: usize, number: usize) -> Option<u32> {
        let ids: Vec<u32> =
            self.counts.keys().filter(|(writer, _)| *writer == end).map(|(_, id)| *id).collect();
        ids.get(number % ids.len().max(1)).copied()
    }

    fn write(&mut self, end: usize, number: usize, len: usize) {
        let Some(id) = self.stream(end, number) else { return };
        let Some(count) = self.counts.get_mut(&(end, id)) else { return };
        let bytes: Vec<u8> = (count.written..).take(len).map(|at| content(id, at)).collect();
        count.written += self.ends[end].write(id, &bytes).unwrap_or(0) as u64;
    }

    /// Takes events and reads everything.
    fn look(&mut self, end: usize) {
        while let Some(event) = self.ends[end].poll_event() {
            match event {
                Event::Opened(id) => drop(self.counts.insert((end, id), Count::default())),
                Event::Readable(id) => self.read(end, id),
                _ => {}
            }
        }
    }

    fn read(&mut self, end: usize, id: u32) {
        let mut out = [0; 700];
        while let Ok(Read::Bytes(n)) = self.ends[end].read(id, &mut out) {
            let count = self.counts.get_mut(&(1 - end, id)).expect("somebody wrote it");
            for byte in &out[..n] {
                assert_eq!(*byte, content(id, count.read), "in order, once");
                count.read += 1;
            }
            assert!(count.read <= count.written);
        }
    }

    fn transmit(&mut self, end: usize, most: usize) -> bool {
        let mut any = false;
        for _ in 0..most {
            let mut out = [0; MAX_PACKET];
            let Some(len) = self.ends[end].poll_transmit(self.now, &mut out) else { break };
            any = true;
            self.sent += cost(len);
            assert!(self.sent <= self.allowance, "what is not paid for is not sent");
            if self.air[1 - end].len() < MOST {
                self.air[1 - end].push(out[..len].to_vec());
            }
        }
        any
    }

    fn receive(&mut self, end: usize, packet: &[u8]) {
        let _ = self.ends[end].receive(self.now, &mut packet.to_vec());
        self.look(end);
    }

    fn pass(&mut self, time: Micros) {
        self.now += time;
        for end in &mut self.ends {
            if end.next_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now);
            }
        }
    }

    /// A round trip on which nothing is lost; whether anything was sent.
    fn talk(&mut self) -> bool {
        let mut any = false;
        for from in [0, 1] {
            any |= self.transmit(from, 16);
            for packet in std::mem::take(&mut self.air[1 - from]) {
                self.receive(1 - from, &packet);
            }
        }
        any
    }
}

/// What the ends and the path do, two or three bytes each; or, behind a zero, an authentic peer's
/// frames.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    if data.first() == Some(&0) {
        choices.byte();
        return authentic(choices);
    }
    let mut world = World::new();
    world.top_up(20_000);
    while !choices.is_empty() {
        let what = choices.byte();
        let (end, number) = (usize::from(what & 1), usize::from(choices.byte()));
        match what >> 1 & 15 {
            0 | 1 => world.write(end, number, usize::from(choices.byte()) * 9),
            2 => drop(world.transmit(end, number % 8 + 1)),
            3 | 4 if !world.air[end].is_empty() => {
                let at = number % world.air[end].len();
                // Sometimes it comes again, or never.
                let again = what & 0x80 != 0;
                let packet =
                    if again { world.air[end][at].clone() } else { world.air[end].remove(at) };
                if number < 240 {
                    world.receive(end, &packet);
                }
            }
            5 => {
                let (len, bit) = (world.air[end].len().max(1), choices.byte());
                if let Some(mut packet) = world.air[end].get(number % len).cloned() {
                    let (at, before) = (usize::from(bit) % packet.len(), world.ends[end].stats());
                    packet[at] ^= what >> 5 | 1;
                    world.receive(end, &packet);
                    assert_eq!(world.ends[end].stats(), before, "an altered packet does nothing");
                }
            }
            6 => {
                let before = world.ends[end].stats();
                world.receive(end, choices.take(number));
                assert_eq!(world.ends[end].stats(), before, "a stranger does nothing");
            }
            7 => world.pass(number as Micros * MILLISECOND),
            8 => world.open(end),
            9 => {
                if let Some(id) = world.stream(end, number) {
                    let _ = world.ends[end].finish(id);
                }
            }
            10 => {
                if let Some(id) = world.stream(end, number) {
                    let stop = what & 0x80 != 0 && world.ends[end].stop(id, 1).is_ok();
                    if stop || world.ends[end].reset(id, 1).is_ok() {
                        world.broken.insert(id);
                    }
                }
            }
            11 => world.top_up(number as u64 * 100),
            12 => {
                world.air[end].clear();
                for end in &mut world.ends {
                    end.route_changed(world.now);
                    end.set_max_packet(100 + number);
                }
            }
            _ => {
                for _ in 0..4 {
                    world.talk();
                    world.pass(10 * MILLISECOND);
                }
            }
        }
    }
    finish(world)
}

/// From now on nothing is lost: all that was written arrives.
fn finish(mut world: World) -> bool {
    world.top_up(1 << 40);
    // What was granted may have been used up for nothing.
    world.ends[0].route_changed(world.now);
    let limit = world.now + 2_000 * SECOND;
    loop {
        while world.talk() {}
        let next = world.ends.iter().filter_map(End::next_timeout).min();
        let Some(next) = next else { break };
        assert!(world.now < limit, "it comes to rest");
        world.pass(next.saturating_sub(world.now).max(1));
    }
    let mut any = false;
    for ((_, id), count) in &world.counts {
        any |= count.read > 0;
        assert!(world.broken.contains(id) || count.read == count.written, "{id} {count:?}");
    }
    any
}

/// An authentic peer's packets, each a length and frames.
fn authentic(mut choices: Choices<'_>) -> bool {
    let which = usize::from(choices.byte() & 1);
    let mut end = ends().into_iter().nth(which).expect("two");
    end.set_allowance(0, 1 << 20);
    let (key, direction) = [(2, 1), (1, 0)][which];
    let aead = RustCrypto::new(&[key; 32]);
    let mut bound = [0; 9];
    bound[..8].copy_from_slice(&FLOW.to_le_bytes());
    bound[8] = direction;
    let (mut now, mut out) = (0, [0; MAX_PACKET]);
    let mut number = 0u32;
    let mut any = false;
    while !choices.is_empty() {
        let len = usize::from(choices.byte());
        let frames = choices.take(len);
        let well_formed = !frames.is_empty() && Frames::new(frames).all(|frame| frame.is_ok());
        let mut packet = vec![0; frames.len() + OVERHEAD];
        packet[..4].copy_from_slice(&number.to_le_bytes());
        packet[4..][..frames.len()].copy_from_slice(frames);
        let (body, tag) = packet[4..].split_at_mut(frames.len());
        aead.seal(number.into(), &bound, body, tag.first_chunk_mut().expect("16 bytes"));
        // Who has ended the flow takes only that the peer knows.
        let knows = Frames::new(frames).any(|frame| matches!(frame, Ok(Frame::Close { .. })));
        let takes = !end.is_over() || (end.is_closing() && knows);
        assert_eq!(end.receive(now, &mut packet).is_ok(), takes);
        assert!(well_formed || end.is_over(), "malformed frames end a flow");
        any |= !end.is_over();
        if let Ok(id) = end.open_stream() {
            let _ = end.write(id, &[1; 100]);
        }
        while end.poll_transmit(now, &mut out).is_some() {}
        now = end.next_timeout().unwrap_or(now).max(now + 1);
        end.handle_timeout(now);
        while let Some(event) = end.poll_event() {
            if let Event::Readable(id) = event {
                while matches!(end.read(id, &mut out), Ok(Read::Bytes(_))) {}
            }
        }
        number += 1;
    }
    any
}
