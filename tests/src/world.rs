//! A small deterministic world: nodes, the wires between them, one clock, and a
//! disk for each node. What must hold of every input is asserted with each.

use bitcoin::secp256k1::{Secp256k1, SecretKey};
use blvm_mesh_core::config::{Allowance, Capacities, Config, MeshMode};
use blvm_mesh_core::id::{LinkId, Network, NodeId};
use blvm_mesh_core::mesh::{Action, Event, Input, Mesh, MeshError, Quote, Remedy, Ticket};
use blvm_mesh_core::payment::fee::FeeDistribution;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::tables::Owned;
use blvm_mesh_core::time::Micros;
use std::collections::{BTreeMap, VecDeque};

/// The wall clock at the beginning, in seconds since 1970.
pub const START: u64 = 1_750_000_000;

/// What a node did, without borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Did {
    /// A payload arrived: source, payload, earned millisatoshi.
    Deliver(NodeId, Vec<u8>, u64),
    /// An input or a parked packet was refused.
    Reject(MeshError, Remedy),
    /// Something was published.
    Publish(Event),
    /// A record was given to the disk.
    Persist(Record),
    /// A packet waits.
    Parked,
    /// Nothing to be seen.
    Absorbed,
}

/// What was done by which node, in order.
pub type Log = Vec<(usize, Did)>;

/// A packet that went over a wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Who receives it.
    pub to: usize,
    /// On which of its links.
    pub link: LinkId,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// What waits for the disk.
enum Held {
    Forward(Carried),
    Deliver(Did),
}

/// A node with its disk.
pub struct Node<M: Owned> {
    /// The state machine.
    pub mesh: Mesh<M>,
    /// Records that are durable: a restart reads these and no others.
    pub disk: Vec<Record>,
    /// Whether the disk writes nothing until [`World::sync`].
    pub disk_stalls: bool,
    key: SecretKey,
    runs: u8,
    unwritten: VecDeque<(u64, Record)>,
    issued: u64,
    durable: u64,
    held: Vec<(u64, Held)>,
    waiting: BTreeMap<Ticket, (NodeId, Vec<u8>, Vec<u8>, bool)>,
}

/// The world.
pub struct World<M: Owned> {
    /// The nodes.
    pub nodes: Vec<Node<M>>,
    /// Monotonic time.
    pub now: Micros,
    /// Wall clock of all nodes, in seconds since 1970.
    pub unix: u64,
    /// Every packet that arrived, in order.
    pub carried: Vec<Carried>,
    /// Every action of every node as it prints, where it is asked for.
    pub trace: Option<Vec<String>>,
    /// A packet for which this is true is lost on its wire.
    pub lose: fn(&Carried) -> bool,
    config: Config,
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    in_flight: VecDeque<Carried>,
    links: u32,
}

/// The key whose invoices all nodes accept.
pub fn issuer() -> SecretKey {
    SecretKey::from_slice(&[0x77; 32]).expect("in range")
}

/// A configuration for these worlds: small tables, records kept, links that may
/// be silent, one issuer.
pub fn config(mode: MeshMode) -> Config {
    let mut config = Config::board(Network::Regtest, 8192);
    config.mode = mode;
    config.payment.volatile = false;
    config.timing.keepalive = 0;
    // Each lie is to be looked at and refused for what it is.
    config.bad_payments = Allowance { rate: u64::MAX, burst: u64::MAX };
    let accepted = issuer().public_key(&Secp256k1::new());
    config.payment.issuers.push(accepted).expect("one fits");
    config
}

impl<M: Owned> World<M> {
    /// `count` nodes that are not wired yet.
    pub fn new(config: Config, count: u8) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            now: 0,
            unix: START,
            carried: Vec::new(),
            trace: None,
            lose: |_| false,
            wires: BTreeMap::new(),
            in_flight: VecDeque::new(),
            links: 0,
            config,
        };
        for n in 1..=count {
            let key = SecretKey::from_slice(&[n; 32]).expect("in range");
            let mesh = Mesh::new(world.config.clone(), key, [n; 32]);
            world.nodes.push(Node {
                mesh,
                key,
                runs: 0,
                disk: Vec::new(),
                disk_stalls: false,
                unwritten: VecDeque::new(),
                issued: 0,
                durable: 0,
                held: Vec::new(),
                waiting: BTreeMap::new(),
            });
        }
        for n in 0..world.nodes.len() {
            world.event(n, Input::WallClock { unix: START });
        }
        world
    }

    /// `count` nodes in a line.
    pub fn line(mode: MeshMode, count: u8) -> Self {
        let mut world = Self::new(config(mode), count);
        for n in 1..usize::from(count) {
            world.wire(n - 1, n);
        }
        world
    }

    /// Identity of a node.
    pub fn id(&self, n: usize) -> NodeId {
        self.nodes[n].mesh.id()
    }

    /// The link of `a` to `b`.
    pub fn link(&self, a: usize, b: usize) -> Option<LinkId> {
        self.wires.iter().find(|((n, _), (m, _))| (*n, *m) == (a, b)).map(|((_, l), _)| *l)
    }

    /// Connects two nodes and lets them greet.
    pub fn wire(&mut self, a: usize, b: usize) -> Log {
        let (la, lb) = (LinkId(self.links), LinkId(self.links + 1));
        self.links += 2;
        self.wires.insert((a, la), (b, lb));
        self.wires.insert((b, lb), (a, la));
        let (ia, ib) = (self.id(a), self.id(b));
        let mut log = self.event(a, Input::PeerConnected { link: la, peer: ib, dialed: true });
        log.extend(self.event(b, Input::PeerConnected { link: lb, peer: ia, dialed: false }));
        log.extend(self.run());
        log
    }

    /// Cuts the wire between two nodes; both notice.
    pub fn cut(&mut self, a: usize, b: usize) -> Log {
        let mut log = Log::new();
        for (n, m) in [(a, b), (b, a)] {
            if let Some(link) = self.link(n, m) {
                self.wires.remove(&(n, link));
                log.extend(self.event(n, Input::PeerDisconnected { link }));
            }
        }
        log
    }

    /// The node loses power and starts again with what its disk holds, and with
    /// the wires that it had.
    pub fn restart(&mut self, n: usize) -> Log {
        let peers: Vec<usize> =
            self.wires.iter().filter(|((a, _), _)| *a == n).map(|(_, (b, _))| *b).collect();
        self.wires.retain(|(a, _), _| *a != n);
        let node = &mut self.nodes[n];
        node.runs += 1;
        let mut seed = [node.runs; 32];
        seed[0] = n as u8;
        node.mesh = Mesh::new(self.config.clone(), node.key, seed);
        (node.issued, node.durable) = (0, 0);
        node.unwritten.clear();
        node.held.clear();
        node.waiting.clear();
        let mut log = Log::new();
        for record in node.disk.clone() {
            let record = Record::decode(&record.encode()).expect("a record is read as written");
            log.extend(self.event(n, Input::Persisted { record }));
        }
        log.extend(self.event(n, Input::WallClock { unix: self.unix }));
        for peer in peers {
            log.extend(self.cut(peer, n));
            log.extend(self.wire(n, peer));
        }
        log
    }

    /// Sets every wall clock.
    pub fn set_clock(&mut self, unix: u64) -> Log {
        self.unix = unix;
        (0..self.nodes.len()).flat_map(|n| self.event(n, Input::WallClock { unix })).collect()
    }

    /// Gives an input that brings no bytes.
    pub fn event(&mut self, n: usize, input: Input<'_>) -> Log {
        self.nodes[n].mesh.handle(self.now, input).expect("the contract is kept");
        self.drain(n, &[], None)
    }

    /// Gives a packet, as if it came in on a link.
    pub fn receive(&mut self, n: usize, link: LinkId, bytes: &[u8]) -> Log {
        let mut bytes = bytes.to_vec();
        let input = Input::MessageReceived { link, packet: &mut bytes };
        self.nodes[n].mesh.handle(self.now, input).expect("the contract is kept");
        self.drain(n, &bytes, None)
    }

    /// Sends a datagram.
    pub fn send(
        &mut self,
        n: usize,
        to: NodeId,
        payload: &[u8],
        proof: &[u8],
        unchecked: bool,
    ) -> Log {
        let input = Input::Send { destination: to, payload, proof, unchecked };
        self.nodes[n].mesh.handle(self.now, input).expect("the contract is kept");
        self.drain(n, payload, Some((to, payload.to_vec(), proof.to_vec(), unchecked)))
    }

    /// Sends and carries until all is quiet.
    pub fn send_and_run(&mut self, n: usize, to: usize, payload: &[u8], proof: &[u8]) -> Log {
        let to = self.id(to);
        let mut log = self.send(n, to, payload, proof, true);
        log.extend(self.run());
        log
    }

    /// Carries packets until none is in flight. Leaves [`Did::Absorbed`] out.
    pub fn run(&mut self) -> Log {
        let mut log = Log::new();
        while let Some(packet) = self.in_flight.pop_front() {
            if (self.lose)(&packet) || !self.wires.contains_key(&(packet.to, packet.link)) {
                continue;
            }
            self.now += 1;
            self.carried.push(packet.clone());
            log.extend(self.receive(packet.to, packet.link, &packet.bytes));
        }
        log.retain(|(_, did)| *did != Did::Absorbed);
        log
    }

    /// Lets time pass.
    pub fn later(&mut self, by: Micros) -> Log {
        self.now += by;
        let mut log = Log::new();
        for n in 0..self.nodes.len() {
            log.extend(self.event(n, Input::Timer));
        }
        log.extend(self.run());
        log.retain(|(_, did)| *did != Did::Absorbed);
        log
    }

    /// Finds a route and says what sending so much on it costs.
    pub fn quote(&mut self, from: usize, to: usize, bytes: u64) -> Quote {
        let destination = self.id(to);
        self.event(from, Input::FindRoute { destination });
        self.run();
        for _ in 0..20 {
            if let Some(quote) = self.nodes[from].mesh.quote(&destination, bytes) {
                let FeeDistribution { source, intermediates, destination } = &quote.shares;
                let sum = source + intermediates.iter().sum::<u64>() + destination;
                assert_eq!(sum, quote.amount_msat, "I5: shares sum to the amount");
                return quote;
            }
            self.later(100_000);
        }
        panic!("no route from {from} to {to}");
    }

    /// The disk of a node writes all that it was given; what waited is done.
    pub fn sync(&mut self, n: usize) -> Log {
        let node = &mut self.nodes[n];
        for (number, record) in node.unwritten.drain(..) {
            node.durable = number;
            node.disk.push(record);
        }
        let mut log = Log::new();
        for (after, held) in std::mem::take(&mut node.held) {
            assert!(after <= node.durable, "its record is durable");
            match held {
                Held::Forward(packet) => self.in_flight.push_back(packet),
                Held::Deliver(did) => log.push((n, did)),
            }
        }
        log
    }

    fn drain(
        &mut self,
        n: usize,
        tail: &[u8],
        sent: Option<(NodeId, Vec<u8>, Vec<u8>, bool)>,
    ) -> Log {
        let (mut log, mut verdicts, mut resumed) = (Log::new(), 0, Vec::new());
        let wires = &self.wires;
        let node = &mut self.nodes[n];
        loop {
            let action = node.mesh.poll();
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{n} {action:?}"));
            }
            match action {
                Action::Wait { .. } => break,
                Action::Forward { link, packet, sequence, after, .. } => {
                    verdicts += usize::from(packet.head.is_empty() || sequence.is_some());
                    let bytes = [packet.head, &tail[packet.tail]].concat();
                    if let Some((to, link)) = wires.get(&(n, link)) {
                        let packet = Carried { to: *to, link: *link, bytes };
                        match after {
                            None => self.in_flight.push_back(packet),
                            Some(after) => {
                                assert!(after <= node.issued, "the record comes first");
                                node.held.push((after, Held::Forward(packet)));
                            }
                        }
                    }
                }
                Action::Deliver { source, payload, earned_msat, after, .. } => {
                    verdicts += 1;
                    let did = Did::Deliver(source, tail[payload].to_vec(), earned_msat);
                    match after {
                        None => log.push((n, did)),
                        Some(after) => {
                            assert!(after <= node.issued, "the record comes first");
                            node.held.push((after, Held::Deliver(did)));
                        }
                    }
                }
                Action::Reject { ticket, reason, remedy, .. } => {
                    verdicts += usize::from(ticket.is_none());
                    if let Some(ticket) = ticket {
                        assert!(node.waiting.remove(&ticket).is_some(), "{ticket:?} waited");
                    }
                    log.push((n, Did::Reject(reason, remedy)));
                }
                Action::Absorbed => {
                    verdicts += 1;
                    log.push((n, Did::Absorbed));
                }
                Action::Parked { ticket, .. } => {
                    verdicts += 1;
                    let sent = sent.clone().expect("only own packets wait here");
                    assert!(node.waiting.insert(ticket, sent).is_none(), "a new ticket");
                    log.push((n, Did::Parked));
                }
                Action::Resume { ticket } => {
                    resumed.push(node.waiting.remove(&ticket).expect("it waited"));
                }
                Action::Publish(event) => log.push((n, Did::Publish(event))),
                Action::Persist { number, record } => {
                    assert_eq!(number, node.issued + 1, "records are counted up");
                    node.issued = number;
                    node.unwritten.push_back((number, record));
                    log.push((n, Did::Persist(record)));
                }
                Action::Verify { .. } | Action::Close { .. } => {}
            }
        }
        assert_eq!(verdicts, 1, "I9: one verdict for one input: {log:?}");
        let (mesh, most) = (&node.mesh, Capacities { ..self.config.capacities });
        assert!(mesh.table().neighbours.len() <= most.neighbours, "I6: neighbours");
        assert!(mesh.table().routes().len() <= most.routes, "I6: routes");
        assert!(mesh.live_payments() <= most.payments, "I6: payments");
        assert!(mesh.parked() <= most.parked, "I6: parked");
        assert_eq!(mesh.parked(), node.waiting.len(), "what is parked is what waits");
        if !node.disk_stalls {
            log.extend(self.sync(n));
        }
        for (to, payload, proof, unchecked) in resumed {
            log.extend(self.send(n, to, &payload, &proof, unchecked));
        }
        log
    }
}
