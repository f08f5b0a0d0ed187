//! The world: nodes, connections, time, and the order in which things happen.

use super::checks::Checks;
use super::machine::{Did, Given, Step};
use super::node::{Crash, Effect, Held, Node};
use super::wires::{Conn, conn_of, link_of};
use crate::bank::Bank;
use crate::rng::Rng;
use bitcoin::hashes::{HashEngine, sha256};
use bitcoin::secp256k1::SecretKey;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::mesh::{Remedy, Ticket};
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::wire::Kind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

/// True time at the start of every world, in seconds since 1970.
pub const BASE_UNIX: u64 = 1_750_000_000;

/// What will happen.
#[derive(Debug)]
enum Event {
    Arrive { conn: usize, side: usize, bytes: Vec<u8>, path: Vec<usize> },
    Closed { node: usize, boot: u64, link: LinkId },
    Timer { node: usize },
    Durable { node: usize, boot: u64, number: u64 },
    Answer { node: usize, boot: u64, ticket: Ticket, hash: [u8; 32] },
    Dial { a: usize, b: usize },
}

/// Hashes everything that happens.
#[derive(Default)]
struct Trace(sha256::HashEngine);

impl Write for Trace {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.input(s.as_bytes());
        Ok(())
    }
}

/// A whole mesh.
pub struct World {
    /// Chance.
    pub rng: Rng,
    /// Monotonic time, in microseconds.
    pub now: Micros,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Every connection that ever was.
    pub conns: Vec<Conn>,
    /// The issuer that honest nodes accept.
    pub bank: Bank,
    /// What the node would say about blocks: hash to what is known.
    pub chain: BTreeMap<[u8; 32], KnownHeader>,
    /// What was found out so far.
    pub checks: Checks,
    /// Whether tables are compared before and after every input.
    pub watch: bool,
    /// One in how many packets a dishonest node lets disappear; 0: none.
    pub blackhole: u64,
    /// Whether dishonest nodes change what they pass on.
    pub meddling: bool,
    /// Whether every step is printed (set by the environment variable `MESH_LOG`).
    pub log: bool,
    /// Pairs of nodes that are to be connected, with their latency.
    wires: BTreeMap<(usize, usize), Micros>,
    /// Pairs between which nothing passes now.
    down: BTreeSet<(usize, usize)>,
    events: BTreeMap<(Micros, u64), Event>,
    next_event: u64,
    trace: Trace,
}

/// One step in one line, with packets cut short.
fn told(given: &Given, step: &Step) -> String {
    let mut out = String::new();
    for text in [format!("{given:?} ->"), format!("{:?}", step.did)] {
        let mut rest = &text[..];
        while let Some((before, list)) = rest.split_once('[') {
            let list = list.split_once(']').map_or((list, ""), |l| l);
            out += before;
            let numbers = list.0.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b' ');
            let short = list.0.get(..60).filter(|_| numbers).unwrap_or(list.0);
            out += &format!("[{short}]");
            rest = list.1;
        }
        out += rest;
    }
    out
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            now: 0,
            nodes: Vec::new(),
            conns: Vec::new(),
            bank: Bank::new(200),
            chain: BTreeMap::new(),
            checks: Checks::default(),
            watch: true,
            blackhole: 0,
            meddling: false,
            log: std::env::var_os("MESH_LOG").is_some(),
            wires: BTreeMap::new(),
            down: BTreeSet::new(),
            events: BTreeMap::new(),
            next_event: 0,
            trace: Trace::default(),
        }
    }

    /// Adds a node with the right time; its key depends on its number only.
    pub fn add_node(&mut self, config: Config, heap: bool) -> usize {
        let n = self.nodes.len();
        let mut key = [1; 32];
        key[..8].copy_from_slice(&(n as u64 + 1).to_le_bytes());
        let key = SecretKey::from_slice(&key).expect("a key");
        let seed = self.rng.bytes32();
        self.nodes.push(Node::new(config, key, heap, seed));
        self.set_clock(n, 0);
        n
    }

    /// True time, in seconds since 1970.
    pub fn unix(&self) -> u64 {
        BASE_UNIX + self.now / SECOND
    }

    /// Identity of a node.
    pub fn id(&self, n: usize) -> NodeId {
        self.nodes[n].id
    }

    /// A hash of everything that happened so far.
    pub fn trace(&self) -> [u8; 32] {
        use bitcoin::hashes::Hash;
        sha256::Hash::from_engine(self.trace.0.clone()).to_byte_array()
    }

    fn at(&mut self, time: Micros, event: Event) {
        self.events.insert((time, self.next_event), event);
        self.next_event += 1;
    }

    /// Wires two nodes; they connect at once, and again whenever they can.
    pub fn wire(&mut self, a: usize, b: usize, latency: Micros) {
        self.wires.insert(pair(a, b), latency);
        self.dial(a, b);
    }

    /// Connects two wired nodes if they are not; `a` dials.
    pub fn dial(&mut self, a: usize, b: usize) {
        let Some(latency) = self.wires.get(&pair(a, b)).copied() else { return };
        if self.down.contains(&pair(a, b)) || self.conns.iter().any(|c| c.works() && c.joins(a, b))
        {
            return;
        }
        self.connect(a, b, latency);
    }

    /// Connects two nodes, whether they are or not; `a` dials.
    pub fn connect(&mut self, a: usize, b: usize, latency: Micros) -> usize {
        let conn = self.conns.len();
        self.conns.push(Conn::new([a, b], latency));
        for (side, n, peer) in [(0, a, b), (1, b, a)] {
            let peer = self.id(peer);
            let link = link_of(conn, side);
            self.input(n, Given::Connected { link, peer, dialed: side == 0 });
        }
        conn
    }

    /// Closes a connection: both ends are told. They dial again later.
    pub fn close(&mut self, conn: usize) {
        let c = &mut self.conns[conn];
        if !c.open {
            return;
        }
        c.open = false;
        c.broken_at.get_or_insert(self.now);
        let Conn { ends, latency, silent, .. } = *c;
        for (side, node) in ends.into_iter().enumerate() {
            let boot = self.nodes[node].boots;
            let link = link_of(conn, side);
            let late = if silent { 30 * SECOND } else { latency };
            self.at(self.now + late, Event::Closed { node, boot, link });
        }
        let pause = self.rng.within(100 * MILLISECOND, 2 * SECOND);
        self.at(self.now + pause, Event::Dial { a: ends[0], b: ends[1] });
    }

    /// Cuts the wire between two nodes, with or without their being told.
    pub fn cut(&mut self, a: usize, b: usize, silently: bool) {
        self.down.insert(pair(a, b));
        for conn in 0..self.conns.len() {
            if self.conns[conn].open && self.conns[conn].joins(a, b) {
                self.conns[conn].broken_at.get_or_insert(self.now);
                match silently {
                    true => self.conns[conn].silent = true,
                    false => self.close(conn),
                }
            }
        }
    }

    /// Mends a wire. Connections that went silent are replaced by a new one.
    pub fn heal(&mut self, a: usize, b: usize) {
        self.down.remove(&pair(a, b));
        self.dial(a, b);
    }

    /// Mends everything.
    pub fn heal_all(&mut self) {
        self.down.clear();
        let wires: Vec<_> = self.wires.keys().copied().collect();
        for (a, b) in wires {
            self.dial(a, b);
        }
    }

    /// The wired pairs.
    pub fn wires(&self) -> Vec<(usize, usize)> {
        self.wires.keys().copied().collect()
    }

    /// Sets a node's wall clock this far off.
    pub fn set_clock(&mut self, n: usize, offset: i64) {
        self.nodes[n].clock_offset = offset;
        let unix = self.unix().saturating_add_signed(offset);
        self.input(n, Given::Clock { unix });
    }

    /// Stops a node as if its power failed, and starts it again.
    pub fn restart(&mut self, n: usize) {
        self.checks.count("restarts");
        for conn in 0..self.conns.len() {
            let c = &self.conns[conn];
            if c.open && c.ends.contains(&n) {
                if self.rng.one_in(3) {
                    // Nobody tells the other end.
                    self.conns[conn].silent = true;
                    self.conns[conn].broken_at.get_or_insert(self.now);
                    let [a, b] = self.conns[conn].ends;
                    self.at(self.now + SECOND, Event::Dial { a, b });
                } else {
                    self.close(conn);
                }
            }
        }
        let seed = self.rng.bytes32();
        self.nodes[n].reboot(seed);
        let _ = write!(self.trace, "boot {n}");
        for record in self.nodes[n].disk.clone() {
            self.input(n, Given::Restore { record });
        }
        // A node without records is told the right time when it starts.
        if self.nodes[n].config.payment.volatile {
            self.nodes[n].clock_offset = 0;
        }
        self.set_clock(n, self.nodes[n].clock_offset);
    }

    /// The disk of a node takes no more.
    pub fn break_disk(&mut self, n: usize) {
        self.nodes[n].disk_broken = true;
        self.nodes[n].writes.clear();
        self.input(n, Given::StoreFailed);
    }

    /// Lets time pass, and everything happen that is due.
    pub fn run_for(&mut self, time: Micros) {
        let until = self.now + time;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > until {
                break;
            }
            self.now = entry.key().0;
            let event = entry.remove();
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            // What is under way on a connection that was closed or cut is lost.
            Event::Arrive { conn, side, bytes, path } if self.conns[conn].works() => {
                let n = self.conns[conn].ends[side];
                self.nodes[n].note(&bytes);
                let given = Given::Received { link: link_of(conn, side), bytes };
                self.input_on(n, given, path);
            }
            Event::Closed { node, boot, link } if self.nodes[node].boots == boot => {
                self.input(node, Given::Disconnected { link });
            }
            Event::Timer { node } if self.nodes[node].timer <= self.now => {
                self.input(node, Given::Timer);
            }
            Event::Durable { node, boot, number } if self.nodes[node].boots == boot => {
                self.durable(node, number);
            }
            Event::Answer { node, boot, ticket, hash } if self.nodes[node].boots == boot => {
                let block = self.chain.get(&hash).copied();
                self.input(node, Given::Answer { ticket, block });
            }
            Event::Dial { a, b } => {
                let (a, b) = if self.rng.one_in(2) { (a, b) } else { (b, a) };
                self.dial(a, b);
            }
            _ => {}
        }
    }

    /// Gives a node an input and carries out what it answers.
    pub fn input(&mut self, n: usize, given: Given) -> Vec<Did> {
        self.input_on(n, given, Vec::new())
    }

    /// The same for a packet that was at the nodes of `path` before.
    pub fn input_on(&mut self, n: usize, given: Given, path: Vec<usize>) -> Vec<Did> {
        let mut all = Vec::new();
        let mut todo = VecDeque::from([(given, path)]);
        while let Some((given, path)) = todo.pop_front() {
            let node = &mut self.nodes[n];
            if let Some(record) = &mut node.record {
                record.push((self.now, given.clone()));
            }
            let watch = self.watch && matches!(given, Given::Received { .. });
            let step = node.machine.step(self.now, &given, watch);
            let step = step.unwrap_or_else(|e| panic!("node {n}: {e}: {given:?}"));
            let _ = write!(self.trace, "{} {n} {given:?} {:?}", self.now, step.did);
            if self.log {
                println!("{} {n} {}", self.now, told(&given, &step));
            }
            let payment = self.check(n, &given, &step, &path);
            let boots = self.nodes[n].boots;
            self.carry_out(n, &given, &step, &path, payment, &mut todo);
            all.extend(step.did);
            if self.nodes[n].boots != boots {
                break;
            }
        }
        all
    }

    fn carry_out(
        &mut self,
        n: usize,
        given: &Given,
        step: &Step,
        path: &[usize],
        payment: Option<[u8; 32]>,
        todo: &mut VecDeque<(Given, Vec<usize>)>,
    ) {
        for did in &step.did {
            match did {
                Did::Forward { link, bytes, relayed, after, sequence, .. } => {
                    let goes_on = *relayed
                        || matches!(given, Given::Received { bytes: b, .. }
                            if b.get(5) == Some(&(Kind::RouteRequest as u8))
                                && bytes.get(5) == b.get(5));
                    let mut path = if goes_on { path.to_vec() } else { Vec::new() };
                    path.push(n);
                    let pays = (*relayed || sequence.is_some()).then_some(payment).flatten();
                    let send = Some((*link, bytes.clone(), path));
                    self.when_durable(n, Effect { after: *after, payment: pays, send });
                }
                Did::Deliver { source, payload, after, .. } => {
                    self.nodes[n].delivered.push((*source, payload.clone()));
                    self.when_durable(n, Effect { after: *after, payment, send: None });
                }
                Did::Persist { number, record } => {
                    let node = &mut self.nodes[n];
                    if let Some(crash) = node.armed.take() {
                        if crash == Crash::AfterWrite && !node.disk_broken {
                            while let Some((_, earlier)) = node.writes.pop_front() {
                                node.write(earlier);
                            }
                            node.write(*record);
                        }
                        self.checks.count("crashes between two writes");
                        return self.restart(n);
                    }
                    if !node.disk_broken {
                        node.writes.push_back((*number, *record));
                        let (boot, late) = (node.boots, self.rng.below(4 * MILLISECOND));
                        let event = Event::Durable { node: n, boot, number: *number };
                        self.at(self.now + late, event);
                    }
                }
                Did::Parked { ticket, .. } => {
                    let link = match given {
                        Given::Received { link, .. } => Some(*link),
                        _ => None,
                    };
                    let held = Held { link, given: given.clone(), path: path.to_vec() };
                    self.nodes[n].parked.insert(*ticket, held);
                }
                Did::Resume { ticket } => {
                    let held = self.nodes[n].parked.remove(ticket).expect("a parked packet");
                    let given = match held.given {
                        Given::Received { bytes, .. } => Given::Resumed { ticket: *ticket, bytes },
                        own => own,
                    };
                    todo.push_back((given, held.path));
                }
                Did::Reject { link, ticket, remedy, .. } => {
                    if let Some(ticket) = ticket {
                        self.nodes[n].parked.remove(ticket).expect("a parked packet");
                    }
                    if let (Some(link), Remedy::Disconnect) = (link, remedy) {
                        self.close(conn_of(*link).0);
                    }
                }
                Did::Close { link, .. } => self.close(conn_of(*link).0),
                Did::Verify { ticket, block_hash } => {
                    let late = self.rng.below(20 * MILLISECOND);
                    let (ticket, hash, boot) = (*ticket, *block_hash, self.nodes[n].boots);
                    self.at(self.now + late, Event::Answer { node: n, boot, ticket, hash });
                }
                Did::Wait { until } => {
                    let until = until.unwrap_or(Micros::MAX);
                    if until != self.nodes[n].timer && until != Micros::MAX {
                        self.at(until.max(self.now), Event::Timer { node: n });
                    }
                    self.nodes[n].timer = until;
                }
                Did::Absorbed | Did::Publish(_) => {}
            }
        }
    }

    fn durable(&mut self, n: usize, number: u64) {
        let node = &mut self.nodes[n];
        while node.writes.front().is_some_and(|(at, _)| *at <= number) {
            if let Some((at, record)) = node.writes.pop_front() {
                node.write(record);
                node.durable = at;
            }
        }
        loop {
            let node = &mut self.nodes[n];
            let ready = |e: &Effect| e.after.is_none_or(|after| after <= node.durable);
            let Some(at) = node.waiting.iter().position(ready) else { break };
            let effect = node.waiting.remove(at).expect("it is there");
            self.execute(n, effect);
        }
    }

    fn when_durable(&mut self, n: usize, effect: Effect) {
        match effect.after {
            Some(after) if after > self.nodes[n].durable => self.nodes[n].waiting.push_back(effect),
            _ => self.execute(n, effect),
        }
    }

    fn execute(&mut self, n: usize, effect: Effect) {
        if let Some(payment) = effect.payment {
            self.check_spent_once(n, payment);
        }
        let Some((link, mut bytes, mut path)) = effect.send else { return };
        let dark = !self.nodes[n].honest && self.blackhole > 0;
        if dark && path.len() > 1 && self.rng.one_in(self.blackhole) {
            return;
        }
        if self.meddling && !self.nodes[n].honest && path.len() > 1 && self.rng.one_in(4) {
            // Another packet now, from here.
            self.meddle(&mut bytes);
            path = vec![n];
        }
        if bytes.get(5) != Some(&(Kind::Datagram as u8)) {
            self.nodes[n].control_sent += 1;
        }
        self.transmit(link, bytes, path);
    }

    /// Puts a packet on a connection, as whoever is at its near end.
    pub fn transmit(&mut self, link: LinkId, bytes: Vec<u8>, path: Vec<usize>) {
        let (conn, side) = conn_of(link);
        let c = &mut self.conns[conn];
        if !c.works() {
            return;
        }
        let jitter = self.rng.below(c.latency / 4 + 1);
        let far = 1 - side;
        let time = (self.now + c.latency + jitter).max(c.latest[far]);
        c.latest[far] = time;
        self.nodes[c.ends[side]].note(&bytes);
        self.at(time, Event::Arrive { conn, side: far, bytes, path });
    }

    /// The working links of a node, with the other ends.
    pub fn links(&self, n: usize) -> Vec<(LinkId, usize)> {
        let mut links = Vec::new();
        for (conn, c) in self.conns.iter().enumerate().filter(|(_, c)| c.works()) {
            for side in 0..2 {
                if c.ends[side] == n {
                    links.push((link_of(conn, side), c.ends[1 - side]));
                }
            }
        }
        links
    }

    /// Sends a payload; the actions of that very step.
    pub fn send(&mut self, n: usize, to: usize, payload: &[u8], proof: &[u8]) -> Vec<Did> {
        let (payload, proof) = (payload.to_vec(), proof.to_vec());
        let given = Given::Send { to: self.id(to), payload, proof, unchecked: false };
        self.input(n, given)
    }

    /// Whether a payload from a node was delivered at another.
    pub fn arrived(&self, from: usize, to: usize, payload: &[u8]) -> bool {
        let from = self.id(from);
        self.nodes[to].delivered.iter().any(|(s, p)| *s == from && p == payload)
    }
}
