//! The world: nodes, wires, time, and the order in which things happen.

use super::account::Account;
use super::bytes::{Bytes, Path};
use super::channels::Channels;
use super::checks::Checks;
use super::flows::{Flows, Lightning, Sale};
use super::machine::{Action, Input};
use super::node::Node;
use super::queue::Queue;
use super::radio::{Medium, Outsider};
use super::trace::Trace;
use super::wires::{Conn, Wire, link_of};
use crate::payments::bank::Bank;
use crate::payments::chain::Chain;
use crate::rng::Rng;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{HopId, LinkId, NodeId};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::{FlowId, Ticket};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use secp256k1::{Secp256k1, SecretKey};
use std::collections::{HashMap, VecDeque};

/// True time at the start of every world, in seconds since 1970.
pub const BASE_UNIX: u64 = 1_750_000_000;

/// What will happen.
#[derive(Debug)]
pub(super) enum Event {
    Arrive { conn: usize, side: usize, bytes: Bytes, path: Path },
    Piece { conn: usize, side: usize, bytes: Bytes },
    Handshake { conn: usize },
    Frame { conn: usize, side: usize, bytes: Bytes },
    Pump { conn: usize, side: usize, at: Micros },
    Congested { conn: usize, side: usize, lane: Lane, full: bool },
    Closed { node: usize, boot: u64, link: LinkId },
    Timer { node: usize, at: Micros },
    Durable { node: usize, boot: u64, number: u64 },
    Answer { node: usize, boot: u64, ticket: Ticket, hash: [u8; 32] },
    Repeat { node: usize, boot: u64, sequence: u64, due: Micros },
    Invoice { boot: u64, ticket: Ticket, sale: Sale },
    Paid { node: usize, boot: u64, ticket: Ticket, preimage: Option<[u8; 32]> },
    Streams { node: usize, boot: u64, flow: FlowId },
    CloseFlow { node: usize, boot: u64, flow: FlowId },
    Dial { a: usize, b: usize },
    Carrier { node: usize },
    Channel { node: usize, at: Micros },
    Sense { node: usize },
    Silence { node: usize, number: u64 },
    Intruder,
    Call(u32),
}

/// A packet that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Who received it.
    pub to: usize,
    /// On which of its links.
    pub link: LinkId,
    /// The packet.
    pub bytes: Bytes,
}

/// A whole mesh.
pub struct World {
    /// Chance, for scripts.
    pub rng: Rng,
    /// Chance, for what the world itself draws.
    pub(super) chance: Rng,
    /// Monotonic time, in microseconds.
    pub now: Micros,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Every connection that ever was.
    pub conns: Vec<Conn>,
    /// The issuer that honest nodes accept.
    pub bank: Bank,
    /// The chain on which covenants are funded.
    pub chain: Chain,
    /// The flows of applications.
    pub flows: Flows,
    /// The Lightning network.
    pub lightning: Lightning,
    /// What was found out so far.
    pub checks: Checks,
    /// What the world is measured by.
    pub account: Account,
    /// What happened.
    pub trace: Trace,
    /// At every how many received packets all tables are compared before and
    /// after; 0: never.
    pub watch: u64,
    /// One in how many packets a dishonest node lets disappear; 0: none.
    pub blackhole: u64,
    /// Whether dishonest nodes change what they pass on.
    pub meddling: bool,
    /// Whether dishonest nodes put invoices of their own in place of others'.
    pub swapping: bool,
    /// Pieces of streams that somebody changes on the wire, in a million.
    pub tamper_ppm: u32,
    /// Longest time in which a node learns what it asks about a block.
    pub answer_time: Micros,
    /// Time in which a route reply may be under way.
    pub reply_time: Micros,
    /// A packet for which this is true is lost: who was to receive it, its bytes.
    pub lose: Option<fn(usize, &[u8]) -> bool>,
    /// How often a neighbour lost its place to another.
    pub displaced: u64,
    /// Whether a neighbour is disconnected where the core says so.
    pub disconnects: bool,
    /// Every packet that arrived, where they are kept.
    pub carried: Option<Vec<Carried>>,
    /// What every node did, where it is kept.
    pub history: Option<Vec<(usize, Action)>>,
    /// Whether delivered payloads are kept with each node.
    pub keep: bool,
    /// The medium, where nodes have radios.
    pub radio: Option<Medium>,
    /// The channels of nodes, where these run on it.
    pub(super) channels: Channels,
    /// Whether they do.
    pub(super) runs_channels: bool,
    /// The radio of an intruder.
    pub(super) outsider: Option<Outsider>,
    /// When it sent, and for how long.
    pub intruded: Vec<(Micros, Micros)>,
    pub(super) wires: Vec<Wire>,
    pub(super) by_pair: HashMap<(usize, usize), usize>,
    pub(super) by_hop: HashMap<HopId, usize>,
    pub(super) queue: Queue<Event>,
    seed: u64,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        let rng = Rng::new(seed);
        let mut trace = Trace::default();
        if std::env::var_os("MESH_LOG").is_some() {
            trace.write_to(Box::new(std::io::stdout()));
        }
        Self {
            chance: rng.fork("world"),
            chain: Chain::new(rng.fork("chain")),
            rng,
            now: 0,
            nodes: Vec::new(),
            conns: Vec::new(),
            bank: Bank::new(200),
            flows: Flows::default(),
            lightning: Lightning::default(),
            checks: Checks::default(),
            account: Account::default(),
            trace,
            watch: 1,
            blackhole: 0,
            meddling: false,
            swapping: false,
            tamper_ppm: 0,
            answer_time: 20 * MILLISECOND,
            reply_time: 4 * SECOND,
            lose: None,
            displaced: 0,
            disconnects: true,
            carried: None,
            history: None,
            keep: true,
            radio: None,
            channels: Channels::default(),
            runs_channels: false,
            outsider: None,
            intruded: Vec::new(),
            wires: Vec::new(),
            by_pair: HashMap::new(),
            by_hop: HashMap::new(),
            queue: Queue::default(),
            seed,
        }
    }

    /// Adds a node with the right time; its key depends on its number only.
    pub fn add_node(&mut self, config: Config, heap: bool) -> usize {
        let n = self.nodes.len();
        let key = Self::key_of(n);
        let seed = self.chance.bytes32();
        let mut node = Node::new(config, key, heap, seed);
        node.prefix = n as u64;
        self.by_hop.insert(node.id.hop(), n);
        self.nodes.push(node);
        self.account.earned.push(0);
        self.account.delivered.push(0);
        self.set_clock(n, 0);
        n
    }

    /// The key of the node with this number.
    pub(super) fn key_of(n: usize) -> SecretKey {
        let mut key = [1; 32];
        key[..8].copy_from_slice(&(n as u64 + 1).to_le_bytes());
        SecretKey::from_byte_array(key).expect("a key")
    }

    /// The identity of the node with this number, before it is there too.
    pub fn node_id(n: usize) -> NodeId {
        NodeId::from_public_key(&Self::key_of(n).public_key(&Secp256k1::new()))
    }

    /// Makes a node anew with another configuration, before anything has happened.
    pub fn configure(&mut self, n: usize, config: Config) {
        let old = &mut self.nodes[n];
        let record = old.record.take();
        let new = Node::new(config, old.key, old.heap, old.seed);
        let Node { prefix, drift_ppm, honest, has_headers, .. } = *old;
        self.nodes[n] = Node { prefix, drift_ppm, honest, has_headers, record, ..new };
        self.set_clock(n, 0);
        if has_headers {
            self.give_headers(n);
        }
    }

    /// True time, in seconds since 1970.
    pub fn unix(&self) -> u64 {
        BASE_UNIX + self.now / SECOND
    }

    /// What decided everything that its plan left open.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Identity of a node.
    pub fn id(&self, n: usize) -> NodeId {
        self.nodes[n].id
    }

    /// Events that were put in the queue so far.
    pub fn events(&self) -> u64 {
        self.queue.total()
    }

    pub(super) fn at(&mut self, time: Micros, event: Event) {
        self.queue.put(time, event);
    }

    /// Asks to be called at a time: [`Self::next_call`] returns this number.
    pub fn call_at(&mut self, time: Micros, number: u32) {
        self.at(time, Event::Call(number));
    }

    /// Lets time pass, and everything happen that is due.
    pub fn run_for(&mut self, time: Micros) {
        let until = self.now + time;
        while self.next_call(until).is_some() {}
    }

    /// Lets everything happen until the next call is due, and returns its
    /// number; `None` once `until` is reached.
    pub fn next_call(&mut self, until: Micros) -> Option<u32> {
        while let Some((time, event)) = self.queue.take(until) {
            self.now = time;
            if let Event::Call(number) = event {
                return Some(number);
            }
            self.happen(event);
        }
        self.now = until.max(self.now);
        None
    }

    fn happen(&mut self, event: Event) {
        match event {
            // What is under way on a connection that was closed or cut is lost.
            Event::Arrive { conn, side, bytes, path } if self.conns[conn].works() => {
                let n = self.conns[conn].ends[side];
                self.nodes[n].note(&bytes);
                let input = Input::MessageReceived { link: link_of(conn, side), packet: bytes };
                self.input_on(n, input, path);
            }
            Event::Piece { conn, side, bytes }
                if self.conns[conn].works() && !self.conns[conn].mute =>
            {
                self.read(conn, side, &bytes);
            }
            Event::Handshake { conn } => self.handshake_over(conn),
            Event::Frame { conn, side, bytes } => self.take_frame(conn, side, &bytes),
            Event::Pump { conn, side, at } => self.pump_at(conn, side, at),
            Event::Congested { conn, side, lane, full } if self.conns[conn].works() => {
                self.conns[conn].full[side][lane as usize] = full;
                let input = Input::Congestion { link: link_of(conn, side), lane, full };
                self.input(self.conns[conn].ends[side], input);
            }
            Event::Closed { node, boot, link } if self.nodes[node].boots == boot => {
                self.input(node, Input::PeerDisconnected { link });
            }
            Event::Timer { node, at } if self.nodes[node].timer == at => {
                self.nodes[node].timer = Micros::MAX;
                self.input(node, Input::Timer);
            }
            Event::Durable { node, boot, number } if self.nodes[node].boots == boot => {
                self.durable(node, number);
            }
            Event::Answer { node, boot, ticket, hash } if self.nodes[node].boots == boot => {
                let block = self.chain.known(&hash);
                self.input(node, Input::PaymentVerified { ticket, block });
            }
            Event::Repeat { node, boot, sequence, due } if self.nodes[node].boots == boot => {
                self.repeat(node, sequence, due);
            }
            Event::Invoice { boot, ticket, sale } if self.nodes[sale.writer].boots == boot => {
                if let Some((input, path)) = self.invoice(ticket, sale, true) {
                    self.input_on(sale.writer, input, path);
                }
            }
            Event::Paid { node, boot, ticket, preimage } if self.nodes[node].boots == boot => {
                self.input(node, Input::InvoicePaid { ticket, preimage });
            }
            Event::Streams { node, boot, flow } if self.nodes[node].boots == boot => {
                let mut todo = VecDeque::new();
                self.call_application(node, flow, &mut todo);
                todo.into_iter().for_each(|(input, _)| drop(self.input(node, input)));
            }
            Event::CloseFlow { node, boot, flow } if self.nodes[node].boots == boot => {
                self.input(node, Input::CloseFlow { flow, code: 0 });
            }
            Event::Dial { a, b } => {
                // Nobody dials who comes from a prefix that others share.
                let own = self.nodes[a].prefix == a as u64;
                let (a, b) = if self.chance.one_in(2) || !own { (a, b) } else { (b, a) };
                self.dial(a, b);
            }
            Event::Carrier { node } => self.carrier(node),
            Event::Channel { node, at } => self.channel_timer(node, at),
            Event::Sense { node } => self.sense_all(node),
            Event::Silence { node, number } => self.silence_after(node, number),
            Event::Intruder => self.intruder_sends(),
            _ => {}
        }
    }

    /// Gives a node an input and carries out what it answers.
    pub fn input(&mut self, n: usize, input: Input) -> Vec<Action> {
        self.input_on(n, input, Path::default())
    }

    /// The same for a packet that was at the nodes of `path` before.
    pub fn input_on(&mut self, n: usize, input: Input, path: Path) -> Vec<Action> {
        let mut all = Vec::new();
        let mut todo = VecDeque::from([(input, path)]);
        while let Some((input, path)) = todo.pop_front() {
            let node = &mut self.nodes[n];
            if node.off {
                break;
            }
            super::hunt::note(self.now, n, &input);
            let now = node.local(self.now);
            match &input {
                Input::WallClock { unix } => node.wall.set(now, *unix),
                Input::MessageReceived { link, packet: bytes } => {
                    if let Some(carried) = &mut self.carried {
                        carried.push(Carried { to: n, link: *link, bytes: bytes.clone() });
                    }
                }
                _ => {}
            }
            if let Some(record) = &mut node.record {
                record.push((now, input.clone()));
            }
            self.account.inputs += 1;
            let watch = matches!(input, Input::MessageReceived { .. })
                && self.account.inputs.checked_rem(self.watch) == Some(0);
            let step = node.machine.step(now, &input, watch);
            let step = step.unwrap_or_else(|e| panic!("node {n}: {e}: {input:?}"));
            self.trace.step(self.now, n, &input, &step);
            let payment = self.check(n, &input, &step, &path);
            let boots = self.nodes[n].boots;
            self.carry_out(n, &input, &step, &path, payment, &mut todo);
            if let Some(history) = &mut self.history {
                history.extend(step.actions.iter().map(|did| (n, did.clone())));
            }
            all.extend(step.actions);
            if self.nodes[n].boots != boots {
                break;
            }
            self.call_applications(n, &mut todo);
        }
        all
    }

    /// Sends a payload; the actions of that very step.
    pub fn send(&mut self, n: usize, to: usize, payload: &[u8], proof: &[u8]) -> Vec<Action> {
        let (payload, proof) = (payload.into(), proof.into());
        let input = Input::Send { destination: self.id(to), payload, proof, unchecked: false };
        self.input(n, input)
    }

    /// Whether a payload from a node was delivered at another.
    pub fn arrived(&self, from: usize, to: usize, payload: &[u8]) -> bool {
        let from = self.id(from);
        self.nodes[to].delivered.iter().any(|(s, p)| *s == from && p[..] == *payload)
    }
}
