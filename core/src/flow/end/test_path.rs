//! Two ends and a simulated path between them, in virtual time.

use super::*;
use crate::{
    link::aead::RustCrypto,
    time::{MILLISECOND, SECOND},
};
use std::{collections::BTreeMap, vec, vec::Vec};

pub(super) type TestEnd = End<RustCrypto>;

/// What a path does to packets, alike in both directions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    pub(super) latency: Micros,
    /// Bytes a second; packets count with their header of 24 bytes.
    pub(super) rate: u64,
    /// Bytes that may wait.
    pub(super) queue: u64,
    /// Of 1,000 packets: lost, late by up to three latencies, doubled, damaged.
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) doubled: u64,
    pub(super) damaged: u64,
}

impl Conditions {
    /// 20 ms there and back, 100 Mbit/s, a queue of two such round trips.
    pub(super) const GOOD: Self = Self {
        latency: 10 * MILLISECOND,
        rate: 12_500_000,
        queue: 500_000,
        lost: 0,
        late: 0,
        doubled: 0,
        damaged: 0,
    };
    pub(super) const BAD: Self =
        Self { lost: 30, late: 50, doubled: 30, damaged: 20, ..Self::GOOD };
    /// Four hops of radio: 1 kB/s, 2 s there and back.
    pub(super) const RADIO: Self =
        Self { latency: SECOND, rate: 1_000, queue: 4_000, ..Self::GOOD };
}

/// One direction of a path.
#[derive(Debug, Default)]
struct Way {
    /// Until then the line is taken.
    busy: Micros,
    packets: u64,
    bytes: u64,
    dropped: u64,
}

pub(super) struct TestPath {
    pub(super) now: Micros,
    pub(super) ends: [TestEnd; 2],
    pub(super) conditions: Conditions,
    ways: [Way; 2],
    /// By time of arrival and a number: to whom, and what.
    air: BTreeMap<(Micros, u64), (usize, Vec<u8>)>,
    number: u64,
    random: u64,
    /// Nothing passes.
    pub(super) cut: bool,
    /// All that was sent.
    pub(super) keep: Option<Vec<(usize, Vec<u8>)>>,
}

/// A byte of a stream's content.
pub(super) fn content(stream: u32, at: u64) -> u8 {
    let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(stream);
    (mixed >> 56) as u8 ^ (at >> 8) as u8
}

pub(super) fn piece(stream: u32, from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|at| content(stream, at)).collect()
}

pub(super) fn ends(config: EndConfig) -> [TestEnd; 2] {
    let keys = |sending, receiving| Secrets {
        sending: [sending; 32],
        receiving: [receiving; 32],
        chaining: [0; 32],
    };
    [
        End::new(0, config, Direction::FromSource, 7, &keys(1, 2)),
        End::new(0, config, Direction::FromDestination, 7, &keys(2, 1)),
    ]
}

impl TestPath {
    /// Ends with an allowance that does not end.
    pub(super) fn new(conditions: Conditions, config: EndConfig, seed: u64) -> Self {
        let mut path = Self {
            now: 0,
            ends: ends(config),
            conditions,
            ways: Default::default(),
            air: BTreeMap::new(),
            number: 0,
            random: seed.wrapping_mul(2) + 1,
            cut: false,
            keep: None,
        };
        path.ends[0].set_allowance(0, 1 << 50);
        path
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % below.max(1)
    }

    /// Bytes that were put on the path by an end, and packets of them.
    pub(super) fn sent(&self, end: usize) -> (u64, u64) {
        (self.ways[end].bytes, self.ways[end].packets)
    }

    /// Packets that found the queue full.
    pub(super) fn dropped(&self, end: usize) -> u64 {
        self.ways[end].dropped
    }

    /// Lets a packet arrive after a time.
    pub(super) fn arrive(&mut self, to: usize, after: Micros, packet: Vec<u8>) {
        self.number += 1;
        self.air.insert((self.now + after, self.number), (to, packet));
    }

    /// Everything under way is lost.
    pub(super) fn lose_all(&mut self) {
        self.air.clear();
    }

    /// Everything under way arrives so much later, and twice.
    pub(super) fn delay_all(&mut self, by: Micros) {
        for ((at, number), (to, packet)) in std::mem::take(&mut self.air) {
            for (n, more) in [(0, 0), (1, by / 3)] {
                self.air.insert((at + by + more, number * 2 + n), (to, packet.clone()));
            }
        }
        self.number = self.number * 2 + 2;
    }

    fn put(&mut self, from: usize, mut packet: Vec<u8>) {
        let (conditions, bytes) = (self.conditions, cost(packet.len()));
        if let Some(kept) = &mut self.keep {
            kept.push((from, packet.clone()));
        }
        let way = &mut self.ways[from];
        way.bytes += bytes;
        way.packets += 1;
        let waits = way.busy.saturating_sub(self.now);
        if waits * conditions.rate / SECOND + bytes > conditions.queue {
            way.dropped += 1;
            return;
        }
        way.busy = way.busy.max(self.now) + bytes * SECOND / conditions.rate;
        let mut after = way.busy - self.now + conditions.latency;
        if self.cut || self.random(1_000) < conditions.lost {
            return;
        }
        if self.random(1_000) < conditions.late {
            after += self.random(3 * conditions.latency);
        }
        if self.random(1_000) < conditions.doubled {
            let later = self.random(2 * conditions.latency);
            self.arrive(1 - from, after + later, packet.clone());
        }
        if self.random(1_000) < conditions.damaged {
            let at = self.random(packet.len() as u64) as usize;
            packet[at] ^= 1 << self.random(8);
        }
        self.arrive(1 - from, after, packet);
    }

    /// All that is due now, until nothing more is.
    pub(super) fn settle(&mut self) {
        for from in [0, 1] {
            loop {
                let mut out = vec![0; MAX_PACKET];
                let Some(len) = self.ends[from].poll_transmit(self.now, &mut out) else { break };
                out.truncate(len);
                self.put(from, out);
            }
        }
    }

    /// Time of what comes next, if anything does.
    pub(super) fn next(&self) -> Option<Micros> {
        let timers = self.ends.iter().filter_map(End::next_timeout);
        let air = self.air.keys().next().map(|(at, _)| *at);
        timers.chain(air).min().map(|at| at.max(self.now))
    }

    /// Goes on to what comes next; false if nothing does.
    pub(super) fn step(&mut self) -> bool {
        self.settle();
        let Some(at) = self.next() else { return false };
        self.now = at;
        for end in &mut self.ends {
            if end.next_timeout().is_some_and(|time| time <= self.now) {
                end.handle_timeout(self.now);
            }
        }
        while let Some(entry) = self.air.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, mut packet) = entry.remove();
            let _ = self.ends[to].receive(self.now, &mut packet);
            // As a shell does, which answers what it has read.
            self.settle();
        }
        true
    }
}

/// Writes content to a stream until all is taken, and finishes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    pub(super) end: usize,
    pub(super) stream: u32,
    pub(super) written: u64,
    pub(super) size: u64,
}

impl Writing {
    pub(super) fn new(path: &mut TestPath, end: usize, size: u64) -> Self {
        let stream = path.ends[end].open_stream().unwrap();
        Self { end, stream, written: 0, size }
    }

    pub(super) fn go_on(&mut self, path: &mut TestPath) {
        while self.written < self.size {
            let len = (self.size - self.written).min(16_384) as usize;
            let bytes = piece(self.stream, self.written, len);
            let taken = path.ends[self.end].write(self.stream, &bytes).unwrap();
            self.written += taken as u64;
            if self.written == self.size {
                path.ends[self.end].finish(self.stream).unwrap();
            }
            if taken < len {
                return;
            }
        }
    }
}

/// Reads a stream and checks each byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) end: usize,
    pub(super) stream: u32,
    pub(super) read: u64,
    pub(super) finished: bool,
}

impl Reading {
    pub(super) fn new(end: usize, stream: u32) -> Self {
        Self { end, stream, read: 0, finished: false }
    }

    /// Up to so many bytes.
    pub(super) fn go_on(&mut self, path: &mut TestPath, most: usize) {
        let mut out = [0; 16_384];
        let mut left = most;
        while left > 0 && !self.finished {
            let room = &mut out[..left.min(16_384)];
            match path.ends[self.end].read(self.stream, room) {
                Ok(Read::Bytes(n)) => {
                    let expected = piece(self.stream, self.read, n);
                    assert!(out[..n] == expected, "stream {} at {}", self.stream, self.read);
                    (self.read, left) = (self.read + n as u64, left - n);
                }
                Ok(Read::Finished) => self.finished = true,
                Ok(Read::Blocked) | Err(NotOpen) => return,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Carries `size` bytes over one stream from an end to the other; gives the time that it took.
pub(super) fn carry(path: &mut TestPath, from: usize, size: u64, limit: Micros) -> Micros {
    let start = path.now;
    let mut writing = Writing::new(path, from, size);
    let mut reading = Reading::new(1 - from, writing.stream);
    while !reading.finished {
        writing.go_on(path);
        assert!(path.step(), "stuck after {} of {size} bytes", reading.read);
        reading.go_on(path, 1 << 20);
        assert!(path.now - start < limit, "{} of {size} bytes in time", reading.read);
    }
    assert_eq!(reading.read, size);
    path.now - start
}
