//! Managed flooding, as radios with Meshtastic's firmware do it: what the channel of this project is compared
//! with, over the same medium and with the same wishes.
//!
//! Modelled after the firmware's documentation and `RadioInterface.cpp` (2.5): a node sends what it has not
//! heard yet again, the sooner the weaker it heard it, with a hop less to go, unless somebody else does
//! before. A source whose packet nobody sends on sends it up to three times, and the destination
//! acknowledges it with a packet that goes back in the same way. Windows are drawn in slots, from the
//! channel's load or the signal. Not modelled: encryption, the phone, positions and telemetry that such nodes
//! send by themselves, and roles other than CLIENT.

use super::Medium;
use crate::rng::Rng;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

/// Bytes around a payload: the packet's header, and its envelope (`mesh.proto`).
const HEADER: usize = 16;
const ENVELOPE: usize = 6;
/// Bytes of an acknowledgement within the packet.
const ACK: usize = 11;
/// Links that a packet crosses at most, unless the user says otherwise, and if he does.
pub const HOP_LIMITS: [u8; 2] = [3, 7];
/// How often a source sends a packet at most.
const TRIES: u8 = 3;
/// Sizes of the contention window as powers of two.
const WINDOW: (f64, f64) = (3.0, 8.0);
/// Signal to noise, in dB, at which it is smallest and largest.
const SNR: (f64, f64) = (-20.0, 10.0);
/// Signal to noise at which a frame is just received with spreading factor 7, and what each further factor adds,
/// in dB (SX1262).
const LEAST_SNR: (f64, f64) = (-7.5, -2.5);
/// Symbols that it takes to detect a frame, in halves.
const DETECTION: u64 = 5;
/// What a slot has beside these: propagation, turnaround, and the processor.
const SLOT_MORE: Micros = 7_600;
/// Time in which packets are processed, at most.
const PROCESSING: Micros = 4_500 * MILLISECOND;
/// Time over which the channel's load is measured.
const LOAD_WINDOW: Micros = 60 * SECOND;
/// Packets that may wait.
const QUEUE: usize = 16;

/// A payload that is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// When, in microseconds.
    pub at: Micros,
    /// By whom.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// Its length, in bytes.
    pub bytes: usize,
}

/// When a node moved, which one, and where to.
pub type Move = (Micros, usize, (f64, f64));

/// What happened meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub struct Past<'p> {
    /// Moves of nodes.
    pub moves: &'p [Move],
    /// When the intruder sent, whose radio is the last, and for how long.
    pub noise: &'p [(Micros, Micros)],
}

/// What came of them.
#[derive(Debug, Clone, Default)]
pub struct Flooded {
    /// Payloads that arrived.
    pub arrived: u64,
    /// Time from the wish to the arrival of each, in microseconds.
    pub latencies: Vec<Micros>,
}

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
struct Packet {
    source: usize,
    to: usize,
    id: u64,
    /// Links that it may still cross behind the next one.
    left: u8,
    /// How many it might cross at first.
    limit: u8,
    len: usize,
    /// The packet that it acknowledges.
    answers: Option<u64>,
}

/// A packet that waits for its turn, and how strongly it was heard.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    packet: Packet,
    snr: Option<f64>,
}

#[derive(Debug, Default)]
struct Node {
    queue: VecDeque<Waiting>,
    seen: HashSet<u64>,
    /// Number of the timer that counts.
    timer: u64,
    sending: bool,
    /// Frames of others that it hears: until when, and from when it knows of them.
    hears: Vec<(Micros, Micros)>,
    /// Time that it was taken in this window and the last one.
    taken: [Micros; 2],
    window: u64,
}

/// What a source waits for.
#[derive(Debug, Clone, Copy)]
struct Pending {
    packet: Packet,
    tries: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wish(usize),
    /// A node moves.
    Move(usize),
    /// An intruder sends.
    Noise(usize),
    /// A node may send.
    Turn(usize, u64),
    /// A frame ends.
    End(usize, u64),
    /// Nobody has answered.
    Again(usize, u64),
}

/// Managed flooding on a medium.
struct Flooding<'p> {
    past: Past<'p>,
    medium: Medium,
    rng: Rng,
    now: Micros,
    queue: BinaryHeap<Reverse<(Micros, u64, What)>>,
    number: u64,
    nodes: Vec<Node>,
    pending: HashMap<u64, Pending>,
    on_air: HashMap<u64, Packet>,
    hop_limit: u8,
    wishes: Vec<Wish>,
    arrived: Vec<Option<Micros>>,
}

fn scale(value: f64, (low, high): (f64, f64), (to_low, to_high): (f64, f64)) -> f64 {
    let part = ((value - low) / (high - low)).clamp(0.0, 1.0);
    to_low + part * (to_high - to_low)
}

impl Medium {
    /// What comes of these wishes where all radios flood, and none hears anything else; the medium has counted
    /// what that cost. The wishes are in the order of their times.
    pub fn flood(
        self,
        wishes: &[Wish],
        past: Past<'_>,
        hop_limit: u8,
        seed: u64,
    ) -> (Flooded, Self) {
        let mut flooding = Flooding::new(self, wishes, past, hop_limit, seed);
        for (n, (at, ..)) in past.moves.iter().enumerate() {
            flooding.at(*at, What::Move(n));
        }
        for (n, (at, _)) in past.noise.iter().enumerate() {
            flooding.at(*at, What::Noise(n));
        }
        for (n, wish) in wishes.iter().enumerate() {
            flooding.at(wish.at, What::Wish(n));
        }
        while let Some(Reverse((at, _, what))) = flooding.queue.pop() {
            flooding.now = at;
            flooding.happens(what);
        }
        let times = flooding.arrived.iter().zip(wishes);
        let latencies: Vec<_> = times.filter_map(|(at, wish)| at.map(|at| at - wish.at)).collect();
        (Flooded { arrived: latencies.len() as u64, latencies }, flooding.medium)
    }
}

impl<'p> Flooding<'p> {
    fn new(medium: Medium, wishes: &[Wish], past: Past<'p>, hop_limit: u8, seed: u64) -> Self {
        Self {
            past,
            nodes: medium.positions.iter().map(|_| Node::default()).collect(),
            medium,
            rng: Rng::new(seed).fork("flooding"),
            now: 0,
            queue: BinaryHeap::new(),
            number: 0,
            pending: HashMap::new(),
            on_air: HashMap::new(),
            hop_limit,
            wishes: wishes.to_vec(),
            arrived: vec![None; wishes.len()],
        }
    }

    fn at(&mut self, at: Micros, what: What) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number, what)));
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Wish(n) => self.wish(n),
            What::Move(n) => {
                let (_, node, at) = self.past.moves[n];
                self.medium.place(node, at);
            }
            What::Noise(n) => self.noise(self.past.noise[n].1),
            What::Turn(n, timer) if self.nodes[n].timer == timer => self.turn(n),
            What::Turn(..) => {}
            What::End(n, frame) => self.end(n, frame),
            What::Again(n, id) => self.again(n, id),
        }
    }

    /// A wish is the packet with its number, an acknowledgement of it one with a number behind all of these.
    fn wish(&mut self, n: usize) {
        let Wish { from, to, bytes, .. } = self.wishes[n];
        let (id, limit) = (n as u64, self.hop_limit);
        let len = HEADER + ENVELOPE + bytes;
        let packet = Packet { source: from, to, id, left: limit, limit, len, answers: None };
        self.pending.insert(id, Pending { packet, tries: 1 });
        self.nodes[from].seen.insert(id);
        self.enqueue(from, packet, None);
    }

    fn slot(&self) -> Micros {
        self.medium.modem.symbols(DETECTION) / 2 + SLOT_MORE
    }

    fn snr(&self, power: f32) -> f64 {
        let (least, step) = LEAST_SNR;
        let least = least + step * (f64::from(self.medium.modem.spreading) - 7.0);
        least + 10.0 * f64::from(power).log10()
    }

    /// How much of the time a node hears somebody, or sends: 0 to 1.
    fn load(&mut self, n: usize) -> f64 {
        self.count(n, 0);
        let node = &self.nodes[n];
        let part = (self.now % LOAD_WINDOW) as f64 / LOAD_WINDOW as f64;
        let taken = node.taken[0] as f64 + node.taken[1] as f64 * (1.0 - part);
        (taken / LOAD_WINDOW as f64).min(1.0)
    }

    fn count(&mut self, n: usize, airtime: Micros) {
        let window = self.now / LOAD_WINDOW;
        let node = &mut self.nodes[n];
        match window - node.window {
            0 => {}
            1 => node.taken = [0, node.taken[0]],
            _ => node.taken = [0; 2],
        }
        node.window = window;
        node.taken[0] += airtime;
    }

    /// How long a packet waits (`getTxDelayMsec`, `getTxDelayMsecWeighted`).
    fn delay(&mut self, n: usize, snr: Option<f64>) -> Micros {
        let slot = self.slot();
        let (first, size) = match snr {
            Some(snr) => (2 * WINDOW.1 as u64, scale(snr, SNR, WINDOW)),
            None => (0, scale(self.load(n), (0.0, 1.0), WINDOW)),
        };
        (first + self.rng.below(1 << size.round() as u64)) * slot
    }

    fn enqueue(&mut self, n: usize, packet: Packet, snr: Option<f64>) {
        let queue = &mut self.nodes[n].queue;
        if queue.len() >= QUEUE {
            return;
        }
        // Acknowledgements come first.
        let at = match packet.answers {
            Some(_) => queue.iter().position(|w| w.packet.answers.is_none()).unwrap_or(queue.len()),
            None => queue.len(),
        };
        queue.insert(at, Waiting { packet, snr });
        if queue.len() == 1 || at == 0 {
            self.wait(n);
        }
    }

    /// Sets the timer for the packet that comes next.
    fn wait(&mut self, n: usize) {
        let Some(next) = self.nodes[n].queue.front().copied() else { return };
        let delay = self.delay(n, next.snr);
        self.nodes[n].timer += 1;
        let timer = self.nodes[n].timer;
        self.at(self.now + delay, What::Turn(n, timer));
    }

    fn turn(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        node.hears.retain(|(until, _)| *until > now);
        if node.sending || node.hears.iter().any(|(_, known)| *known <= now) {
            return self.wait(n);
        }
        let Some(Waiting { packet, .. }) = node.queue.pop_front() else { return };
        node.sending = true;
        let (frame, airtime) = self.medium.begin(n, packet.len, 0);
        self.on_air.insert(frame, packet);
        self.count(n, airtime);
        self.is_heard(n, airtime);
        if packet.source == n && packet.answers.is_none() {
            let slot = self.slot();
            let size = scale(self.load(n), (0.0, 1.0), WINDOW).round() as u32;
            let middle = ((WINDOW.0 + WINDOW.1) / 2.0) as u32;
            let slots = (1u64 << size) + 2 * WINDOW.1 as u64 + (1 << middle);
            let again = now + airtime + 2 * airtime + slots * slot + PROCESSING;
            self.at(again, What::Again(n, packet.id));
        }
        self.at(now + airtime, What::End(n, frame));
    }

    /// The intruder sends, and nobody reads it.
    fn noise(&mut self, airtime: Micros) {
        let place = self.medium.nodes();
        let frame = self.medium.put_up(place);
        self.is_heard(place, airtime);
        self.at(self.now + airtime, What::End(place, frame));
    }

    /// All in range hear somebody send for so long.
    fn is_heard(&mut self, n: usize, airtime: Micros) {
        let now = self.now;
        let known = now + self.medium.modem.symbols(DETECTION) / 2;
        for (m, power) in self.medium.heard[n].clone() {
            if power >= 1.0 {
                self.nodes[m].hears.push((now + airtime, known));
                self.count(m, airtime);
            }
        }
    }

    fn end(&mut self, n: usize, frame: u64) {
        let good = self.medium.finish(n, frame);
        self.nodes[n].sending = false;
        if n >= self.medium.nodes() {
            return;
        }
        self.medium.count_heard(n, &good);
        let Some(packet) = self.on_air.remove(&frame) else { return };
        for m in good.into_iter().filter(|m| *m < self.medium.nodes()).collect::<Vec<_>>() {
            let power = self.medium.heard[n].iter().find(|(other, _)| *other == m);
            let snr = power.map_or(0.0, |(_, power)| self.snr(*power));
            self.receive(m, packet, snr);
        }
        self.wait(n);
    }

    fn receive(&mut self, n: usize, packet: Packet, snr: f64) {
        if packet.source == n {
            // Somebody sends it on: to its source that is as good as an acknowledgement.
            self.pending.remove(&packet.id);
            return;
        }
        if !self.nodes[n].seen.insert(packet.id) {
            let queue = &mut self.nodes[n].queue;
            let first = queue.front().map(|w| w.packet.id);
            queue.retain(|w| w.packet.id != packet.id || w.snr.is_none());
            if queue.front().map(|w| w.packet.id) != first {
                self.wait(n);
            }
            // It did not hear that it has arrived.
            if packet.to == n && packet.answers.is_none() && packet.left == packet.limit {
                self.acknowledge(n, packet);
            }
            return;
        }
        if packet.to != n {
            if let Some(left) = packet.left.checked_sub(1) {
                self.enqueue(n, Packet { left, ..packet }, Some(snr));
            }
            return;
        }
        match packet.answers {
            Some(id) => drop(self.pending.remove(&id)),
            None => {
                self.arrived[packet.id as usize].get_or_insert(self.now);
                self.acknowledge(n, packet);
            }
        }
    }

    /// As far as the packet came, and two links more (`getHopLimitForResponse`).
    fn acknowledge(&mut self, n: usize, packet: Packet) {
        let limit =
            (packet.limit - packet.left).saturating_add(2).min(self.hop_limit.max(packet.limit));
        self.number += 1;
        let id = self.wishes.len() as u64 + self.number;
        let answer = Packet {
            source: n,
            to: packet.source,
            id,
            left: limit,
            limit,
            len: HEADER + ACK,
            answers: Some(packet.id),
        };
        self.nodes[n].seen.insert(id);
        self.enqueue(n, answer, None);
    }

    fn again(&mut self, n: usize, id: u64) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if pending.tries >= TRIES {
            self.pending.remove(&id);
            return;
        }
        pending.tries += 1;
        let packet = pending.packet;
        self.enqueue(n, packet, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::radio::Modem;

    fn line(count: usize, gap: f64) -> Medium {
        let positions = (0..count).map(|n| (n as f64 * gap, 0.0)).collect();
        Medium::new(Modem::SHORT, 1.0, positions)
    }

    fn wish(at: Micros, from: usize, to: usize) -> Wish {
        Wish { at, from, to, bytes: 30 }
    }

    #[test]
    fn a_packet_crosses_as_many_links_as_it_may() {
        for (to, arrives) in [(1, 1), (4, 1), (5, 0)] {
            let (flooded, medium) =
                line(8, 0.9).flood(&[wish(SECOND, 0, to)], Past::default(), 3, 1);
            assert_eq!(flooded.arrived, arrives, "{to}");
            assert!(medium.frames >= 2, "it is sent on: {}", medium.frames);
        }
        let (flooded, _) = line(8, 0.9).flood(&[wish(SECOND, 0, 7)], Past::default(), 7, 1);
        assert_eq!(flooded.arrived, 1);
        assert!(flooded.latencies[0] > 7 * Modem::SHORT.airtime(52));
    }

    #[test]
    fn nobody_sends_on_what_others_have() {
        // All hear all: one that hears the source worst, and nobody else.
        let (flooded, medium) = line(9, 0.1).flood(&[wish(0, 0, 8)], Past::default(), 3, 7);
        assert_eq!(flooded.arrived, 1);
        assert!(medium.frames <= 4, "{}", medium.frames);
    }

    #[test]
    fn what_nobody_sends_on_is_sent_three_times() {
        let (flooded, medium) = line(2, 3.0).flood(&[wish(0, 0, 1)], Past::default(), 3, 1);
        assert_eq!((flooded.arrived, medium.frames), (0, 3));
        let (flooded, medium) = line(2, 0.5).flood(&[wish(0, 0, 1)], Past::default(), 3, 1);
        assert_eq!((flooded.arrived, medium.frames), (1, 2), "and the acknowledgement");
    }

    #[test]
    fn who_hears_a_source_weakly_sends_on_first() {
        let mut flooding = Flooding::new(line(3, 0.5), &[], Past::default(), 3, 1);
        let mean = |flooding: &mut Flooding, power: f32| {
            let snr = Some(flooding.snr(power));
            (0..500).map(|_| flooding.delay(0, snr)).sum::<u64>() / 500
        };
        let (weak, strong) = (mean(&mut flooding, 1.0), mean(&mut flooding, 20.0));
        assert!(weak * 3 < strong * 2, "{weak} {strong}");
    }
}
