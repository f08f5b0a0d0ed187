//! Radios on one shared medium: airtime, collisions with capture, half duplex and
//! duty cycle.
//!
//! A node senses the channel before it sends and waits for a random time while it
//! hears somebody. A frame is received where its power is at least four times
//! (6 dB) that of all others heard at any time while it lasts, and the receiver
//! did not send meanwhile. Power falls with the third power of the distance; what
//! is too weak to be received disturbs up to `REACH` times the range. A packet for
//! several neighbours is sent once and not acknowledged. One for a single neighbour
//! is: a frame that was lost is sent again up to `TRIES` times, after a pause that
//! doubles; the time of the acknowledgement is added to the frame's, and an
//! acknowledgement is never lost.
//! Links carry packets that are authenticated already: the link layer's handshake
//! is not on the air, its counter and tag are. Where the core's own datagram links run
//! (`../datagrams.rs`) their frames go on the air instead, each once and for a single
//! neighbour: they acknowledge and repeat themselves.

mod flooding;
mod intruders;

pub use blvm_mesh_core::link::channel::lora::Modem;
pub use flooding::{Flooded, HOP_LIMITS, Move, Past, Wish};
pub use intruders::Intruder;
pub(super) use intruders::{CHANNEL_KEY, Outsider};

use super::World;
use super::bytes::{Bytes, Path};
use super::datagrams::ADDRESS;
use super::machine::Input;
use super::wires::link_of;
use super::world::Event;
use crate::sim::topology::Topology;
use blvm_mesh_core::time::{Micros, SECOND};
use std::collections::{BTreeMap, VecDeque};

/// Most bytes of a frame on the air.
pub(super) const FRAME: usize = 255;
/// Bytes of a frame that are not the packet's: counter, tag, and who sends.
const OVERHEAD: usize = 22;
/// Frames that may wait. The node is told when half of it is full.
const QUEUE: usize = 32;
/// How many times as strong as all others a frame must be.
const CAPTURE: f32 = 4.0;
/// Over how many times its own length the beginning of a packet is drawn.
const SPREAD: u64 = 4;
/// Time over which the duty cycle is counted. ETSI EN 300 220 counts over an hour;
/// a minute keeps to that too.
const DUTY_WINDOW: Micros = 60 * SECOND;
/// How often a frame for a single neighbour is sent again.
const TRIES: usize = 3;
/// Bytes of an acknowledgement: the counter and a short tag.
const ACK: usize = 8;
/// How far signals disturb, in ranges.
const REACH: f64 = 1.6;

/// A packet that waits to be sent or is being sent.
#[derive(Debug)]
struct Outgoing {
    bytes: Bytes,
    path: Path,
    /// Connections, and this node's side of each.
    to: Vec<(usize, usize)>,
    number: u64,
    /// Whether it is a frame of a datagram link.
    framed: bool,
    parts: usize,
    sent: usize,
    /// How often the frame has been sent again.
    again: usize,
}

impl Outgoing {
    fn new(bytes: Bytes, path: Path, to: (usize, usize), number: u64, framed: bool) -> Self {
        let to = vec![to];
        let mut new = Self { bytes, path, to, number, framed, parts: 1, sent: 0, again: 0 };
        new.parts = new.bytes.len().div_ceil(FRAME - new.around()).max(1);
        new
    }

    /// Bytes of its next frame that are not the packet's.
    fn around(&self) -> usize {
        if self.framed { ADDRESS } else { OVERHEAD }
    }

    /// Bytes of its next frame.
    fn next_frame(&self) -> usize {
        let most = FRAME - self.around();
        (self.bytes.len() - self.sent * most).min(most) + self.around()
    }

    /// Whether the frame is acknowledged, and sent again where it was lost.
    fn acknowledged(&self) -> bool {
        self.to.len() == 1 && !self.framed
    }
}

/// A frame that can be heard at a node.
#[derive(Debug, Clone, Copy)]
struct Heard {
    frame: u64,
    power: f32,
    good: bool,
}

#[derive(Debug, Default)]
struct Radio {
    queue: VecDeque<Outgoing>,
    /// Datagram links that may have a frame to send: connections, and its side of each.
    ready: VecDeque<(usize, usize)>,
    /// The frame being sent.
    sending: Option<u64>,
    on_air: Vec<Heard>,
    /// When all that it has sent will be within its duty cycle.
    even_at: Micros,
    /// Whether it will look at the channel.
    waits: bool,
    /// Of each sender the packet that comes in parts, and how many have come.
    parts: BTreeMap<usize, (u64, usize)>,
}

/// The shared medium.
#[derive(Debug)]
pub struct Medium {
    /// What all radios use.
    pub modem: Modem,
    /// Distance over which frames are received, in units of the positions.
    pub range: f64,
    /// Where each node is, and behind them radios that belong to no node.
    pub positions: Vec<(f64, f64)>,
    /// How many of the latter there are.
    pub outsiders: usize,
    /// Frames sent.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Receptions at nodes to which a frame was addressed.
    pub received: u64,
    /// Those that failed because of another frame or because the node was sending.
    pub collided: u64,
    /// Frames sent again.
    pub again: u64,
    /// Time on the air of all frames, in microseconds.
    pub airtime: u64,
    /// The same by what the frames are, where the core's channel runs.
    pub airtime_of: BTreeMap<&'static str, Micros>,
    radios: Vec<Radio>,
    /// Who hears a node, and how strongly; 1 is just enough.
    heard: Vec<Vec<(usize, f32)>>,
    numbers: u64,
    /// How often a frame for a single neighbour is sent again.
    pub tries: usize,
    /// How long a node waits before it looks at the channel, in microseconds;
    /// `None`: drawn each time.
    pub pause: Option<Micros>,
    /// Whether nodes have moved.
    moving: bool,
}

fn power(range: f64, a: (f64, f64), b: (f64, f64)) -> f32 {
    let (x, y) = (a.0 - b.0, a.1 - b.1);
    // At least a hundredth of the range, so that nothing is infinite. Only
    // operations that are exact everywhere.
    let square = ((x * x + y * y) / (range * range)).max(1e-4);
    (1.0 / (square * square.sqrt())) as f32
}

impl Medium {
    /// A medium with a radio at each position.
    pub fn new(modem: Modem, range: f64, positions: Vec<(f64, f64)>) -> Self {
        let radios = positions.iter().map(|_| Radio::default()).collect();
        let heard = vec![Vec::new(); positions.len()];
        let mut medium = Self {
            modem,
            range,
            positions,
            outsiders: 0,
            frames: 0,
            bytes: 0,
            received: 0,
            collided: 0,
            again: 0,
            airtime: 0,
            airtime_of: BTreeMap::new(),
            radios,
            heard,
            numbers: 0,
            tries: TRIES,
            pause: None,
            moving: false,
        };
        for (a, b) in Topology::in_range(&medium.positions, REACH * range) {
            let strength = power(range, medium.positions[a], medium.positions[b]);
            medium.heard[a].push((b, strength));
            medium.heard[b].push((a, strength));
        }
        medium.heard.iter_mut().for_each(|list| list.sort_by_key(|(n, _)| *n));
        medium
    }

    /// The same radios in the same places, before anything was sent.
    pub fn fresh(&self) -> Self {
        let new = Self::new(self.modem, self.range, self.positions.clone());
        Self { outsiders: self.outsiders, ..new }
    }

    fn reach(&self, n: usize) -> Vec<(usize, f32)> {
        let least = (1.0 / (REACH * REACH * REACH)) as f32;
        let others = self.positions.iter().enumerate().filter(|(m, _)| *m != n);
        let heard = others.map(|(m, at)| (m, power(self.range, self.positions[n], *at)));
        heard.filter(|(_, power)| *power >= least).collect()
    }

    /// Moves a node.
    pub fn place(&mut self, n: usize, at: (f64, f64)) {
        self.positions[n] = at;
        self.moving = true;
        for (m, list) in self.heard.iter_mut().enumerate() {
            list.retain(|(other, _)| m != n && *other != n);
        }
        self.heard[n] = self.reach(n);
        for (m, power) in self.heard[n].clone() {
            let list = &mut self.heard[m];
            let at = list.partition_point(|(other, _)| *other < n);
            list.insert(at, (n, power));
        }
    }

    /// A node begins to send a frame of so many bytes, to which this is added: its number, and how
    /// long it is on the air.
    pub(super) fn begin(&mut self, n: usize, len: usize, more: Micros) -> (u64, Micros) {
        let airtime = self.modem.airtime(len) + more;
        self.frames += 1;
        self.bytes += len as u64;
        self.airtime += airtime;
        (self.put_up(n), airtime)
    }

    /// A radio begins to send, whatever that is: the number of the frame.
    fn put_up(&mut self, n: usize) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        let radio = &mut self.radios[n];
        radio.sending = Some(number);
        radio.on_air.iter_mut().for_each(|h| h.good = false);
        for (m, power) in &self.heard[n] {
            self.radios[*m].begins(number, *power);
        }
        number
    }

    /// A frame of a node has ended: who has heard it whole.
    fn finish(&mut self, n: usize, number: u64) -> Vec<usize> {
        let mut good = Vec::new();
        // A node may have moved away meanwhile: all are asked that could hear it.
        let mut ends = |m: usize, radio: &mut Radio| {
            let at = radio.on_air.iter().position(|h| h.frame == number);
            if at.is_some_and(|at| radio.on_air.swap_remove(at).good) {
                good.push(m);
            }
        };
        match self.moving {
            true => self.radios.iter_mut().enumerate().for_each(|(m, r)| ends(m, r)),
            false => {
                for (m, _) in &self.heard[n] {
                    ends(*m, &mut self.radios[*m]);
                }
            }
        }
        self.radios[n].sending = None;
        good
    }

    /// Counts who could have heard a frame, and who has.
    fn count_heard(&mut self, n: usize, good: &[usize]) {
        let nodes = self.nodes();
        let near = self.heard[n].iter().filter(|(_, power)| *power >= 1.0).map(|(m, _)| m);
        let near = near.filter(|m| **m < nodes);
        let (all, lost) =
            near.fold((0, 0), |(all, lost), m| (all + 1, lost + u64::from(!good.contains(m))));
        self.received += all;
        self.collided += lost;
    }

    /// Who learns from a node's sending or not that somebody is heard. Where nodes move that may be anybody: they were
    /// near when it began.
    pub(super) fn hearers(&self, n: usize) -> Vec<usize> {
        match self.moving {
            true => (0..self.nodes()).collect(),
            false => self.neighbours(n),
        }
    }

    /// How many nodes there are.
    fn nodes(&self) -> usize {
        self.positions.len() - self.outsiders
    }

    /// Whether a node hears somebody.
    pub(super) fn is_busy(&self, n: usize) -> bool {
        self.radios[n].hears_somebody()
    }

    /// The nodes in range of a node.
    pub fn neighbours(&self, n: usize) -> Vec<usize> {
        self.heard[n].iter().filter(|(_, power)| *power >= 1.0).map(|(m, _)| *m).collect()
    }
}

impl Radio {
    fn hears_somebody(&self) -> bool {
        self.on_air.iter().any(|h| h.power >= 1.0)
    }

    /// Another frame begins: what is too weak beside it is lost.
    fn begins(&mut self, frame: u64, power: f32) {
        let others: f32 = self.on_air.iter().map(|h| h.power).sum();
        for h in &mut self.on_air {
            h.good &= h.power >= CAPTURE * (others - h.power + power);
        }
        let good = self.sending.is_none() && power >= 1.0 && power >= CAPTURE * others;
        self.on_air.push(Heard { frame, power, good });
    }
}

impl World {
    /// Gives a packet to the radio of a connection's end.
    pub(super) fn radiate(&mut self, conn: usize, side: usize, bytes: Bytes, path: Path) {
        let n = self.conns[conn].ends[side];
        let Some(medium) = &mut self.radio else { return };
        let radio = &mut medium.radios[n];
        // To several neighbours one and the same packet goes out once.
        let waiting = radio.sending.is_none() || radio.queue.len() > 1;
        let same = radio.queue.back_mut().filter(|o| waiting && o.sent == 0 && o.bytes == bytes);
        if let Some(outgoing) = same {
            outgoing.to.push((conn, side));
            return;
        }
        if radio.queue.len() >= QUEUE {
            return self.checks.count("lost in a full queue");
        }
        medium.numbers += 1;
        let new = Outgoing::new(bytes, path, (conn, side), medium.numbers, false);
        radio.queue.push_back(new);
        if radio.queue.len() >= QUEUE / 2 && self.conns[conn].full[side] != [true; 2] {
            self.set_full(conn, side, true, self.now);
        }
        self.look(n);
    }

    /// A datagram link may have a frame to send: it is asked for it when the channel is free.
    pub(super) fn want_air(&mut self, conn: usize, side: usize) {
        let n = self.conns[conn].ends[side];
        let Some(medium) = &mut self.radio else { return };
        let ready = &mut medium.radios[n].ready;
        if !ready.contains(&(conn, side)) {
            ready.push_back((conn, side));
        }
        self.look(n);
    }

    /// Takes the next frame from the datagram links of a node, which take turns.
    fn fetch_frame(&mut self, n: usize) {
        while let Some((conn, side)) =
            self.radio.as_mut().and_then(|medium| medium.radios[n].ready.pop_front())
        {
            let Some(bytes) = self.next_frame(conn, side) else { continue };
            let Some(medium) = &mut self.radio else { return };
            medium.numbers += 1;
            let (number, path) = (medium.numbers, Path::default());
            let new = Outgoing::new(bytes, path, (conn, side), number, true);
            let radio = &mut medium.radios[n];
            radio.queue.push_back(new);
            return radio.ready.push_back((conn, side));
        }
    }

    /// Lets a radio look at the channel as soon as it may send.
    fn look(&mut self, n: usize) {
        let Some(medium) = &mut self.radio else { return };
        let modem = medium.modem;
        let radio = &mut medium.radios[n];
        if radio.waits || radio.sending.is_some() {
            return;
        }
        // All who pass a request on have heard it at the same time: the longer it
        // is, the further they must be apart.
        let pause = match radio.queue.front() {
            Some(next) if next.sent == 0 => {
                SPREAD * modem.airtime((next.bytes.len() + next.around()).min(FRAME))
            }
            Some(next) if next.again > 0 => (SPREAD * modem.airtime(FRAME)) << (next.again - 1),
            Some(_) => modem.symbols(2),
            None if radio.ready.is_empty() => return,
            None => SPREAD * modem.airtime(FRAME) / 2,
        };
        radio.waits = true;
        let allowed = radio.even_at.saturating_sub(DUTY_WINDOW);
        let drawn = self.chance.below(pause);
        let at = self.now.max(allowed) + medium.pause.unwrap_or(drawn);
        self.at(at, Event::Carrier { node: n });
    }

    /// A radio looks at the channel, and sends if it is free.
    pub(super) fn carrier(&mut self, n: usize) {
        let now = self.now;
        let Some(medium) = &mut self.radio else { return };
        let (modem, radio) = (medium.modem, &mut medium.radios[n]);
        radio.waits = false;
        if radio.sending.is_some() {
            return;
        }
        if radio.hears_somebody() {
            radio.waits = true;
            let next = radio.queue.front().map_or(FRAME, Outgoing::next_frame);
            let at = now + modem.symbols(8) + self.chance.below(2 * modem.airtime(next));
            return self.at(at, Event::Carrier { node: n });
        }
        if radio.queue.is_empty() {
            self.fetch_frame(n);
        }
        let Some(medium) = &mut self.radio else { return };
        let radio = &mut medium.radios[n];
        let Some(outgoing) = radio.queue.front() else { return };
        let len = outgoing.next_frame();
        outgoing.to.iter().for_each(|(conn, _)| self.conns[*conn].bytes += len as u64);
        let ack = if outgoing.acknowledged() { modem.airtime(ACK) } else { 0 };
        let (number, airtime) = medium.begin(n, len, ack);
        let share = airtime * 1000 / u64::from(modem.duty_permille.max(1));
        let radio = &mut medium.radios[n];
        radio.even_at = radio.even_at.max(now) + share;
        self.at(now + airtime, Event::Silence { node: n, number });
    }

    /// A frame has ended.
    pub(super) fn silence_after(&mut self, n: usize, number: u64) {
        let Some(medium) = &mut self.radio else { return };
        let good = medium.finish(n, number);
        if n >= medium.nodes() {
            return self.intruder_sent(&good);
        }
        if self.runs_channels {
            medium.count_heard(n, &good);
            return self.channel_frame_over(n, &good);
        }
        let radio = &mut medium.radios[n];
        let Some(mut outgoing) = radio.queue.pop_front() else { return };
        if let [(conn, side)] = outgoing.to[..]
            && outgoing.acknowledged()
            && !good.contains(&self.conns[conn].ends[1 - side])
            && outgoing.again < medium.tries
        {
            outgoing.again += 1;
            medium.again += 1;
            radio.queue.push_front(outgoing);
            return self.look(n);
        }
        (outgoing.sent, outgoing.again) = (outgoing.sent + 1, 0);
        let last = outgoing.sent == outgoing.parts;
        let mut complete = Vec::new();
        for (conn, side) in &outgoing.to {
            let m = self.conns[*conn].ends[1 - side];
            medium.received += 1;
            if !good.contains(&m) {
                medium.collided += 1;
                continue;
            }
            let parts = medium.radios[m].parts.entry(n).or_default();
            if parts.0 != outgoing.number {
                *parts = (outgoing.number, 0);
            }
            parts.1 += 1;
            if last && parts.1 == outgoing.parts {
                complete.push((*conn, 1 - side, m));
            }
        }
        let (bytes, path, framed) =
            (outgoing.bytes.clone(), outgoing.path.clone(), outgoing.framed);
        if !last {
            medium.radios[n].queue.push_front(outgoing);
        }
        if !framed && medium.radios[n].queue.len() < QUEUE / 4 {
            for conn in self.nodes[n].conns.clone() {
                let side = usize::from(self.conns[conn].ends[0] != n);
                if self.conns[conn].full[side] != [false; 2] {
                    self.set_full(conn, side, false, self.now);
                }
            }
        }
        self.look(n);
        for (conn, side, m) in complete {
            if framed {
                self.take_frame(conn, side, &bytes);
            } else if self.conns[conn].works() {
                self.nodes[m].note(&bytes);
                let input =
                    Input::MessageReceived { link: link_of(conn, side), packet: bytes.clone() };
                self.input_on(m, input, path.clone());
            }
        }
    }

    /// A node lost power: what it was to send is gone, what it sends breaks off.
    pub(super) fn radio_off(&mut self, n: usize) {
        let Some(medium) = &mut self.radio else { return };
        let radio = &mut medium.radios[n];
        radio.queue.clear();
        radio.ready.clear();
        radio.parts.clear();
        let Some(number) = radio.sending else { return };
        for other in &mut medium.radios {
            let heard = other.on_air.iter_mut().filter(|h| h.frame == number);
            heard.for_each(|h| h.good = false);
        }
    }
}
