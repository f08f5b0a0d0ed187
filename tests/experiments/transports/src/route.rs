//! A route that takes time, has a rate and a queue, and loses packets; alike in both directions.

use crate::Ends;
use std::collections::BTreeMap;

pub const MILLISECOND: u64 = 1_000;
pub const SECOND: u64 = 1_000 * MILLISECOND;
/// The header of a Data packet, and the least that one counts for.
const HEADER: u64 = 24;
const LEAST: u64 = 64;

#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// One way, in microseconds.
    pub latency: u64,
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may wait.
    pub queue: u64,
    /// Packets lost, of 1,000.
    pub lost: u64,
}

impl Conditions {
    pub const GOOD: Self =
        Self { latency: 10 * MILLISECOND, rate: 12_500_000, queue: 500_000, lost: 0 };
    /// What is under way on a full route, and half of its queue.
    pub fn window(&self) -> usize {
        (2 * self.latency * self.rate / SECOND + self.queue / 2) as usize
    }

    pub const RADIO: Self = Self { latency: SECOND, rate: 1_000, queue: 4_000, lost: 0 };
}

#[derive(Default)]
struct Way {
    busy: u64,
    bytes: u64,
}

pub struct Route {
    pub now: u64,
    conditions: Conditions,
    ways: [Way; 2],
    /// By time of arrival and a number: to whom, and what.
    air: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    number: u64,
    random: u64,
}

impl Route {
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            now: 0,
            conditions,
            ways: Default::default(),
            air: BTreeMap::new(),
            number: 0,
            random: seed.wrapping_mul(2) + 1,
        }
    }

    /// Bytes sent in both directions.
    pub fn sent(&self) -> u64 {
        self.ways.iter().map(|way| way.bytes).sum()
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % below
    }

    fn put(&mut self, from: usize, packet: Vec<u8>) {
        let (conditions, bytes) = (self.conditions, (packet.len() as u64 + HEADER).max(LEAST));
        let way = &mut self.ways[from];
        way.bytes += bytes;
        let waits = way.busy.saturating_sub(self.now);
        if waits * conditions.rate / SECOND + bytes > conditions.queue {
            return;
        }
        way.busy = way.busy.max(self.now) + bytes * SECOND / conditions.rate;
        let at = way.busy + conditions.latency;
        if self.random(1_000) >= conditions.lost {
            self.number += 1;
            self.air.insert((at, self.number), (1 - from, packet));
        }
    }

    fn settle(&mut self, ends: &mut dyn Ends) {
        for from in [0, 1] {
            while let Some(packet) = ends.transmit(from, self.now) {
                self.put(from, packet);
            }
        }
    }

    /// Goes on to what comes next; false if nothing does.
    pub fn step(&mut self, ends: &mut dyn Ends) -> bool {
        self.settle(ends);
        let timers = [0, 1].map(|end| ends.next_timeout(end, self.now));
        let air = self.air.keys().next().map(|(at, _)| *at);
        let Some(at) = timers.into_iter().flatten().chain(air).min() else { return false };
        self.now = at.max(self.now);
        for (end, timer) in timers.into_iter().enumerate() {
            if timer.is_some_and(|at| at <= self.now) {
                ends.handle_timeout(end, self.now);
            }
        }
        while let Some(entry) = self.air.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, packet) = entry.remove();
            ends.receive(to, self.now, packet);
            self.settle(ends);
        }
        true
    }
}
