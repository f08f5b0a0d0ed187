//! Wires between two nodes, and the connections that come and go on them.
//!
//! A connection carries authenticated packets: who is at the far end is true,
//! and nobody but the two ends writes on it, as the link layer of the real node
//! guarantees. Where [`Line::code`] says so that layer itself runs (`stream.rs`,
//! `datagrams.rs`).

use super::World;
use super::bytes::{Bytes, Path};
use super::datagrams::Datagrams;
use super::stream::Stream;
use super::world::Event;
use blvm_mesh_core::id::{LinkId, Standing};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// What carries packets from one end of a connection to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkCode {
    /// The world: as authenticated packets.
    #[default]
    Packets,
    /// The core's link over a stream of bytes, in which nothing is lost.
    Stream,
    /// The core's link over frames that may be lost.
    Datagrams,
    /// The core's channel, on radio: neighbours find each other.
    Channel,
}

impl LinkCode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Packets, Self::Stream, Self::Datagrams, Self::Channel];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Stream => "stream",
            Self::Datagrams => "datagrams",
            Self::Channel => "channel",
        }
    }
}

/// What a wire is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// Time that a packet takes at least, in microseconds.
    pub latency: Micros,
    /// Time that it may take more, drawn for each packet.
    pub jitter: Micros,
    /// Packets lost, in a million, in either direction: from the first end, to it.
    pub loss_ppm: [u32; 2],
    /// Packets that arrive twice, in a million.
    pub duplicate_ppm: u32,
    /// Packets that others may overtake, in a million.
    pub reorder_ppm: u32,
    /// Bytes per second; 0: no limit.
    pub bandwidth: u64,
    /// Bytes that may wait to be sent; more are lost. The node is told when half
    /// of it is full. 0: no limit.
    pub queue: u64,
    /// What carries the packets.
    pub code: LinkCode,
}

/// A pair of nodes that are to be connected.
#[derive(Debug, Clone)]
pub struct Wire {
    /// The two ends.
    pub ends: [usize; 2],
    /// What it is like.
    pub line: Line,
    /// Whether nothing passes now.
    pub down: bool,
}

/// A connection between two nodes. Link numbers are used once.
#[derive(Debug)]
pub struct Conn {
    /// The two ends; the first one dialed.
    pub ends: [usize; 2],
    /// What its wire is like.
    pub line: Line,
    /// Whether an end may still send.
    pub open: bool,
    /// Whether what is sent gets lost, unnoticed by either end.
    pub silent: bool,
    /// When it last carried anything, if it no longer does.
    pub broken_at: Option<Micros>,
    /// Arrival of the latest packet at each end.
    pub(super) latest: [Micros; 2],
    /// Until when what each end has sent keeps the wire busy.
    pub(super) busy: [Micros; 2],
    /// Whether each end was told that its queue is full.
    pub(super) full: [[bool; 2]; 2],
    /// Bytes carried.
    pub(super) bytes: u64,
    /// Whether what its first end sends is held back: a half-open handshake.
    pub(super) mute: bool,
    pub(super) stream: Option<Box<Stream>>,
    pub(super) datagrams: Option<Box<Datagrams>>,
}

/// The link number of one end.
pub(super) fn link_of(conn: usize, side: usize) -> LinkId {
    LinkId((2 * conn + side) as u32)
}

/// The connection and the side of a link number.
pub(super) fn conn_of(link: LinkId) -> (usize, usize) {
    (link.0 as usize / 2, link.0 as usize % 2)
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Conn {
    /// One that has just been opened.
    pub(super) fn new(ends: [usize; 2], line: Line) -> Self {
        Self {
            ends,
            line,
            open: true,
            silent: false,
            broken_at: None,
            latest: [0; 2],
            busy: [0; 2],
            full: [[false; 2]; 2],
            bytes: 0,
            mute: false,
            stream: None,
            datagrams: None,
        }
    }

    /// Whether it carries packets.
    pub fn works(&self) -> bool {
        self.open && !self.silent
    }

    pub(super) fn joins(&self, a: usize, b: usize) -> bool {
        self.ends == [a, b] || self.ends == [b, a]
    }
}

impl World {
    /// Wires two nodes; they connect at once, and again whenever they can.
    pub fn wire(&mut self, a: usize, b: usize, latency: Micros) {
        self.wire_by(a, b, Line { latency, jitter: latency / 4, ..Line::default() });
    }

    /// The same with a line of any kind. Two nodes have one wire: the latest.
    pub fn wire_by(&mut self, a: usize, b: usize, line: Line) {
        match self.by_pair.get(&pair(a, b)) {
            Some(at) => self.wires[*at].line = line,
            None => {
                self.by_pair.insert(pair(a, b), self.wires.len());
                self.wires.push(Wire { ends: [a, b], line, down: false });
            }
        }
        self.dial(a, b);
    }

    /// The same, after some time.
    pub fn wire_later(&mut self, a: usize, b: usize, line: Line, pause: Micros) {
        self.by_pair.insert(pair(a, b), self.wires.len());
        self.wires.push(Wire { ends: [a, b], line, down: false });
        self.at(self.now + pause, Event::Dial { a, b });
    }

    /// The wired pairs.
    pub fn wires(&self) -> &[Wire] {
        &self.wires
    }

    /// What the wire between two nodes is like.
    pub fn line_between(&self, a: usize, b: usize) -> Option<Line> {
        self.by_pair.get(&pair(a, b)).map(|at| self.wires[*at].line)
    }

    /// Changes what all wires are like, and the connections on them.
    pub fn change_lines(&mut self, change: impl Fn(&mut Line)) {
        self.wires.iter_mut().for_each(|w| change(&mut w.line));
        self.conns.iter_mut().for_each(|c| change(&mut c.line));
    }

    /// The connections that two nodes have.
    pub(super) fn between(&self, a: usize, b: usize) -> Vec<usize> {
        let joins = |c: &&usize| self.conns[**c].open && self.conns[**c].joins(a, b);
        self.nodes[a].conns.iter().filter(joins).copied().collect()
    }

    /// Connects two wired nodes if they are not; `a` dials.
    pub fn dial(&mut self, a: usize, b: usize) {
        let Some(wire) = self.by_pair.get(&pair(a, b)).map(|at| &self.wires[*at]) else { return };
        let line = wire.line;
        let down = wire.down || self.nodes[a].off || self.nodes[b].off;
        if down || self.between(a, b).into_iter().any(|c| self.conns[c].works()) {
            return;
        }
        self.connect(a, b, line);
    }

    /// Connects two nodes, whether they are or not; `a` dials.
    pub fn connect(&mut self, a: usize, b: usize, line: Line) -> usize {
        let conn = self.conns.len();
        let lately = self.now.saturating_sub(self.reply_time);
        for n in [a, b] {
            let conns = &self.conns;
            let known = |c: &usize| conns[*c].open || conns[*c].broken_at >= Some(lately);
            self.nodes[n].conns.retain(known);
            self.nodes[n].conns.push(conn);
        }
        self.conns.push(Conn::new([a, b], line));
        match line.code {
            LinkCode::Stream => self.shake_hands(conn),
            LinkCode::Datagrams => self.call_up(conn),
            LinkCode::Channel => {}
            LinkCode::Packets => (0..2).for_each(|side| self.authenticated(conn, side)),
        }
        conn
    }

    /// An end knows who is at the other.
    pub(super) fn authenticated(&mut self, conn: usize, side: usize) {
        let ends = self.conns[conn].ends;
        let (link, peer) = (link_of(conn, side), self.id(ends[1 - side]));
        // Each node has an address prefix of its own.
        let standing = match side {
            0 => Standing::Own,
            _ => Standing::Stranger { prefix: self.nodes[ends[0]].prefix },
        };
        let (dialed, capabilities) = (side == 0, None);
        let input = super::Input::PeerConnected { link, peer, dialed, standing, capabilities };
        self.input(ends[side], input);
    }

    /// Closes a connection: both ends are told. They dial again later.
    pub fn close(&mut self, conn: usize) {
        let c = &mut self.conns[conn];
        if !c.open {
            return;
        }
        if c.line.code == LinkCode::Channel {
            return self.close_peer(conn);
        }
        c.open = false;
        c.broken_at.get_or_insert(self.now);
        (c.stream, c.datagrams) = (None, None);
        let (ends, silent, latency) = (c.ends, c.silent, c.line.latency);
        for (side, node) in ends.into_iter().enumerate() {
            let boot = self.nodes[node].boots;
            let link = link_of(conn, side);
            let late = if silent { 30 * SECOND } else { latency };
            self.at(self.now + late, Event::Closed { node, boot, link });
        }
        let pause = self.chance.within(100 * MILLISECOND, 2 * SECOND);
        self.at(self.now + pause, Event::Dial { a: ends[0], b: ends[1] });
    }

    /// What is sent on a connection gets lost from now on, and nobody is told.
    pub(super) fn silence(&mut self, conn: usize) {
        self.conns[conn].silent = true;
        self.conns[conn].broken_at.get_or_insert(self.now);
    }

    /// Cuts the wire between two nodes, with or without their being told.
    pub fn cut(&mut self, a: usize, b: usize, silently: bool) {
        if let Some(at) = self.by_pair.get(&pair(a, b)) {
            self.wires[*at].down = true;
        }
        for conn in self.between(a, b) {
            match silently {
                true => self.silence(conn),
                false => self.close(conn),
            }
        }
    }

    /// Mends a wire. Connections that went silent are replaced by a new one.
    pub fn heal(&mut self, a: usize, b: usize) {
        if let Some(at) = self.by_pair.get(&pair(a, b)) {
            self.wires[*at].down = false;
        }
        self.dial(a, b);
    }

    /// Mends everything.
    pub fn heal_all(&mut self) {
        self.wires.iter_mut().for_each(|w| w.down = false);
        let ends: Vec<_> = self.wires.iter().map(|w| w.ends).collect();
        ends.into_iter().for_each(|[a, b]| self.dial(a, b));
    }

    /// Bytes that two nodes have sent each other, on all connections that they had.
    pub fn bytes_between(&self, a: usize, b: usize) -> u64 {
        self.conns.iter().filter(|c| c.joins(a, b)).map(|c| c.bytes).sum()
    }

    /// The working links of a node, with the other ends.
    pub fn links(&self, n: usize) -> Vec<(LinkId, usize)> {
        let mut links = Vec::new();
        for conn in &self.nodes[n].conns {
            let c = &self.conns[*conn];
            if c.works() {
                let side = usize::from(c.ends[0] != n);
                links.push((link_of(*conn, side), c.ends[1 - side]));
            }
        }
        links
    }

    /// A node's working link to another.
    pub fn link(&self, n: usize, to: usize) -> Option<LinkId> {
        self.links(n).into_iter().find(|(_, other)| *other == to).map(|(link, _)| link)
    }

    /// Puts a packet on a connection, as whoever is at its near end.
    pub fn transmit(&mut self, link: LinkId, bytes: Bytes, path: Path) {
        let (conn, side) = conn_of(link);
        if !self.conns[conn].works() {
            return;
        }
        let ends = self.conns[conn].ends;
        self.nodes[ends[side]].note(&bytes);
        self.open_made(ends[side], &bytes);
        self.account.carried(&bytes);
        if self.lose.is_some_and(|lose| lose(ends[1 - side], &bytes)) {
            return;
        }
        if self.conns[conn].line.code == LinkCode::Channel {
            return self.queue_for_peer(conn, bytes, path);
        }
        if self.conns[conn].datagrams.is_some() {
            return self.enqueue(conn, side, bytes, path);
        }
        if self.radio.is_some() {
            return self.radiate(conn, side, bytes, path);
        }
        if self.conns[conn].stream.is_some() {
            return self.write(conn, side, &bytes, path);
        }
        for time in self.arrivals(conn, side, bytes.len()).into_iter().flatten() {
            let (bytes, path) = (bytes.clone(), path.clone());
            self.at(time, Event::Arrive { conn, side: 1 - side, bytes, path });
        }
    }

    /// When what is sent now arrives: not at all, once or twice.
    pub(super) fn arrivals(&mut self, conn: usize, side: usize, len: usize) -> [Option<Micros>; 2] {
        let Some(sent) = self.occupy(conn, side, len) else { return [None; 2] };
        let line = self.conns[conn].line;
        if self.chance.in_million(line.loss_ppm[side]) {
            self.checks.count("lost on a wire");
            return [None; 2];
        }
        let mut time = self.delay(conn, side, sent);
        if self.chance.in_million(line.reorder_ppm) {
            time += self.chance.below(4 * line.latency + 1);
            self.checks.count("overtaken on a wire");
        } else {
            self.conns[conn].latest[1 - side] = time;
        }
        if !self.chance.in_million(line.duplicate_ppm) {
            return [Some(time), None];
        }
        let later = time + self.chance.below(2 * line.latency + 1);
        self.checks.count("doubled on a wire");
        [Some(later), Some(time)]
    }

    /// Somebody on the way may change a bit of what is sent.
    pub(super) fn tamper(&mut self, bytes: &mut [u8]) {
        if self.chance.in_million(self.tamper_ppm) {
            let at = self.chance.index(bytes.len());
            bytes[at] ^= 1 << self.chance.below(8);
            self.checks.count("tampered with on a wire");
        }
    }

    /// Waits for the wire's bandwidth; when all has been sent. `None`: the queue
    /// takes no more.
    pub(super) fn occupy(&mut self, conn: usize, side: usize, len: usize) -> Option<Micros> {
        let c = &mut self.conns[conn];
        c.bytes += len as u64;
        if c.line.bandwidth == 0 {
            return Some(self.now);
        }
        let start = c.busy[side].max(self.now);
        let waiting = (start - self.now) * c.line.bandwidth / SECOND + len as u64;
        let queue = c.line.queue;
        if queue > 0 && waiting > queue {
            self.checks.count("lost in a full queue");
            return None;
        }
        c.busy[side] = start + len as u64 * SECOND / c.line.bandwidth;
        let sent = c.busy[side];
        if queue > 0 && waiting > queue / 2 && c.full[side] != [true; 2] {
            self.set_full(conn, side, true, self.now);
            self.set_full(conn, side, false, sent);
        }
        Some(sent)
    }

    /// Both lanes of a connection are full, or have room, from a time on: they share one queue.
    pub(super) fn set_full(&mut self, conn: usize, side: usize, full: bool, at: Micros) {
        for lane in [Lane::Free, Lane::Paid] {
            self.conns[conn].full[side][lane as usize] |= full;
            self.at(at, Event::Congested { conn, side, lane, full });
        }
    }

    /// When a packet that was sent at a time arrives: never before an earlier one.
    pub(super) fn delay(&mut self, conn: usize, side: usize, sent: Micros) -> Micros {
        let c = &self.conns[conn];
        let jitter = self.chance.below(c.line.jitter + 1);
        (sent + c.line.latency + jitter).max(c.latest[1 - side])
    }
}
