//! One node with its disk. What must hold of every input is checked with each.

use crate::fuzz::covenant_payment::PAYOUT;
use crate::fuzz::proof::issuer;
use crate::sim::Known;
use bitcoin::secp256k1::SecretKey;
use blvm_mesh_core::config::{Capacities, Config, MeshMode};
use blvm_mesh_core::id::{LinkId, Network, NodeId};
use blvm_mesh_core::mesh::{Action, Event, Input, Mesh, Priority, Ticket};
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::policy::{DetectedProtocol, PolicyConfig, RoutingPolicy, RoutingPolicyEngine};
use blvm_mesh_core::tables::Owned;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::Header;
use blvm_mesh_core::wire::datagram::Datagram;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most polls until a node waits. An input causes a handful of actions, and time
/// that passed a few for each thing that was due.
const MOST_POLLS: usize = 300;

/// Small tables: full ones are reached soon.
pub const TABLES: Capacities = Capacities {
    neighbours: 3,
    routes: 4,
    route_hops: 8,
    hearsay: 6,
    relayed_requests: 4,
    searches: 2,
    payments: 3,
    parked: 4,
    headers: 4,
    seen: 16,
};

/// What is given to a node, owned.
#[derive(Debug, Clone)]
pub enum Given {
    /// An input without bytes.
    Event(Plain),
    /// A packet from a link.
    Packet(LinkId, Vec<u8>),
    /// A datagram of its own.
    Send(Own),
    /// A parked packet handed back.
    Resumed(Ticket, Vec<u8>),
}

/// Inputs without bytes.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Plain {
    Connected(LinkId, NodeId, bool),
    Disconnected(LinkId),
    Find(NodeId),
    Timer,
    Clock(u64),
    Restore(Record),
    StoreFailed,
    Congestion(LinkId, bool),
    Block(Ticket, Option<KnownHeader>),
}

/// A datagram of our own.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Own {
    pub to: NodeId,
    pub payload: Vec<u8>,
    pub proof: Vec<u8>,
    pub unchecked: bool,
}

/// What a node did for others to see.
#[derive(Debug, Clone, Hash)]
pub enum Done {
    /// It sent a packet on a link.
    Sent(LinkId, Vec<u8>),
    /// It closed a link.
    Closed(LinkId),
    /// It took this payment, and the packet went on or was delivered.
    Earned([u8; 32], NodeId),
    /// A payload arrived.
    Delivered,
}

/// A node.
pub struct Node<M: Owned> {
    /// The state machine.
    pub mesh: Mesh<M>,
    /// Records that are durable.
    pub disk: Vec<Record>,
    /// Whether nothing becomes durable until [`Node::sync`].
    pub stalls: bool,
    /// Payments for which something was done, over all its runs.
    pub taken: BTreeSet<[u8; 32]>,
    /// Questions that were not answered, and the hash of the block.
    pub questions: VecDeque<(Ticket, [u8; 32])>,
    key: SecretKey,
    runs: u8,
    unwritten: VecDeque<Record>,
    issued: u64,
    held: Vec<(u64, Vec<Done>)>,
    waiting: BTreeMap<Ticket, Given>,
}

fn config(mode: MeshMode, volatile: bool) -> Config {
    let mut config = Config::board(Network::Regtest, 4096);
    config.mode = mode;
    config.capacities = TABLES;
    config.free_burst = 4096;
    config.free_rate = 1000;
    // A link is taken for dead after three times as long.
    config.timing.keepalive = 30 * SECOND;
    config.payment.volatile = volatile;
    config.payment.max_lifetime = 7200;
    config.payment.covenants_active = true;
    config.payment.payout_script.extend_from_slice(&PAYOUT).expect("it fits");
    config.payment.issuers.push(issuer()).expect("one fits");
    config
}

impl<M: Owned> Node<M> {
    /// The node with this number.
    pub fn new(number: u8, mode: MeshMode, volatile: bool) -> Self {
        let key = SecretKey::from_slice(&[number + 1; 32]).expect("in range");
        Self {
            mesh: Mesh::new(config(mode, volatile), key, [number + 1; 32]),
            disk: Vec::new(),
            stalls: false,
            taken: BTreeSet::new(),
            questions: VecDeque::new(),
            key,
            runs: 0,
            unwritten: VecDeque::new(),
            issued: 0,
            held: Vec::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Starts again with what the disk holds.
    pub fn restart(&mut self, now: Micros) {
        self.runs += 1;
        let mut seed = [self.runs; 32];
        seed[0] = self.key.secret_bytes()[0];
        self.mesh = Mesh::new(self.mesh.config().clone(), self.key, seed);
        self.issued = 0;
        self.unwritten.clear();
        self.held.clear();
        self.waiting.clear();
        self.questions.clear();
        // The contract: the floor first.
        let is_floor = |record: &&Record| matches!(record, Record::Floor(_));
        let floor = self.disk.iter().rfind(is_floor).copied();
        let payments = self.disk.iter().filter(|record| !is_floor(record));
        let records: Vec<Record> = floor.into_iter().chain(payments.copied()).collect();
        for record in records {
            let record = Record::decode(&record.encode()).expect("it is read as written");
            self.give(now, Given::Event(Plain::Restore(record)));
        }
    }

    /// The disk writes all that it was given; what waited for that is done.
    pub fn sync(&mut self) -> Vec<Done> {
        self.disk.extend(self.unwritten.drain(..));
        let held = std::mem::take(&mut self.held);
        held.into_iter().flat_map(|(_, done)| done).collect()
    }

    /// The first of the records not yet written become durable: what a crash leaves.
    pub fn write_some(&mut self, count: usize) {
        let count = count.min(self.unwritten.len());
        self.disk.extend(self.unwritten.drain(..count));
    }

    /// Gives an input and carries out what follows from it.
    pub fn give(&mut self, now: Micros, given: Given) -> Vec<Done> {
        let mut all = Vec::new();
        let mut next = VecDeque::from([given]);
        let mut inputs = 0;
        while let Some(given) = next.pop_front() {
            inputs += 1;
            assert!(inputs <= 32, "packets are handed back for ever");
            self.handle(now, &given, &mut all, &mut next);
        }
        if !self.stalls {
            all.extend(self.sync());
        }
        for done in &all {
            if let Done::Earned(payment, _) = done {
                assert!(self.taken.insert(*payment), "I2: a payment is taken once");
            }
        }
        all
    }

    fn handle(
        &mut self,
        now: Micros,
        given: &Given,
        out: &mut Vec<Done>,
        next: &mut VecDeque<Given>,
    ) {
        let before = self.tables();
        let mut bytes = match given {
            Given::Packet(_, bytes) | Given::Resumed(_, bytes) => bytes.clone(),
            Given::Send(own) => own.payload.clone(),
            Given::Event(_) => Vec::new(),
        };
        let input = match given {
            Given::Packet(link, _) => Input::MessageReceived { link: *link, packet: &mut bytes },
            Given::Resumed(ticket, _) => Input::Resumed { ticket: *ticket, packet: &mut bytes },
            Given::Send(Own { to, payload, proof, unchecked }) => {
                Input::Send { destination: *to, payload, proof, unchecked: *unchecked }
            }
            Given::Event(plain) => match plain.clone() {
                Plain::Connected(link, peer, dialed) => Input::PeerConnected { link, peer, dialed },
                Plain::Disconnected(link) => Input::PeerDisconnected { link },
                Plain::Find(destination) => Input::FindRoute { destination },
                Plain::Timer => Input::Timer,
                Plain::Clock(unix) => Input::WallClock { unix },
                Plain::Restore(record) => Input::Persisted { record },
                Plain::StoreFailed => Input::StoreFailed,
                Plain::Congestion(link, full) => Input::Congestion { link, full },
                Plain::Block(ticket, block) => Input::PaymentVerified { ticket, block },
            },
        };
        self.mesh.handle(now, input).expect("the contract is kept");

        let (mut verdicts, mut polls, mut refused, mut paid) = (0, 0, false, None);
        loop {
            polls += 1;
            assert!(polls <= MOST_POLLS, "Wait comes after finitely many polls");
            match self.mesh.poll() {
                Action::Wait { until } => {
                    assert!(until.is_none_or(|until| until > now), "nothing due is left");
                    break;
                }
                Action::Forward { link, priority, packet, sequence, after } => {
                    verdicts += usize::from(packet.head.is_empty() || sequence.is_some());
                    let sent = [packet.head, &bytes[packet.tail]].concat();
                    let relayed = packet.head.is_empty().then_some(given);
                    check_forward(self.mesh.config().mode, relayed, priority, &sent);
                    let mut done = vec![Done::Sent(link, sent)];
                    if let Some((payment, source)) = paid.take() {
                        assert_eq!(priority, Priority::Paid);
                        done.push(Done::Earned(payment, source));
                    } else if priority == Priority::Paid {
                        let unchecked = matches!(given, Given::Send(Own { unchecked: true, .. }));
                        assert!(unchecked, "I1: paid for just now");
                    }
                    match after {
                        None => out.extend(done),
                        Some(after) => {
                            assert!(after <= self.issued, "the record comes first");
                            self.held.push((after, done));
                        }
                    }
                }
                Action::Deliver { payload, earned_msat, after, .. } => {
                    verdicts += 1;
                    assert!(bytes.get(payload).is_some());
                    let mut done = vec![Done::Delivered];
                    if let Some((payment, source)) = paid.take() {
                        done.push(Done::Earned(payment, source));
                    } else {
                        assert_eq!((earned_msat, after), (0, None));
                    }
                    match after {
                        None => out.extend(done),
                        Some(after) => {
                            assert!(after <= self.issued, "the record comes first");
                            self.held.push((after, done));
                        }
                    }
                }
                Action::Reject { ticket, reason, .. } => {
                    assert!(!reason.to_string().is_empty());
                    match ticket {
                        Some(ticket) => assert!(self.waiting.remove(&ticket).is_some()),
                        None => (verdicts, refused) = (verdicts + 1, true),
                    }
                }
                Action::Absorbed => verdicts += 1,
                Action::Parked { ticket, until } => {
                    verdicts += 1;
                    assert!(until > now);
                    assert!(matches!(given, Given::Packet(..) | Given::Send(_)), "{given:?}");
                    assert!(self.waiting.insert(ticket, given.clone()).is_none(), "a new ticket");
                }
                Action::Resume { ticket } => {
                    next.push_back(match self.waiting.remove(&ticket).expect("it waited") {
                        Given::Packet(_, bytes) => Given::Resumed(ticket, bytes),
                        other => other,
                    });
                }
                Action::Publish(Event::PaymentVerified { payment, source, .. }) => {
                    assert!(paid.replace((payment, source)).is_none(), "one for one packet");
                }
                Action::Publish(_) => {}
                Action::Persist { number, record } => {
                    assert_eq!(number, self.issued + 1, "records are counted up");
                    self.issued = number;
                    self.unwritten.push_back(record);
                }
                Action::Verify { ticket, block_hash } => {
                    self.questions.push_back((ticket, block_hash));
                }
                Action::Close { link, .. } => out.push(Done::Closed(link)),
            }
        }
        assert_eq!(verdicts, 1, "I9: one verdict for one input: {given:?}");
        assert!(paid.is_none(), "a payment buys a packet: {given:?}");
        self.check_tables();
        if refused && !matches!(given, Given::Resumed(..)) {
            assert_eq!(self.tables(), before, "I3: what is refused changes nothing: {given:?}");
        }
    }

    /// What a refused input leaves as it is.
    fn tables(&self) -> (Vec<Known>, usize, usize, usize) {
        let mesh = &self.mesh;
        (
            mesh.table().routes().map(Known::from).collect(),
            mesh.live_payments(),
            mesh.parked(),
            self.unwritten.len(),
        )
    }

    fn check_tables(&self) {
        let mesh = &self.mesh;
        let within = [
            (mesh.table().neighbours.len(), TABLES.neighbours),
            (mesh.table().routes().len(), TABLES.routes),
            (mesh.relayed_requests(), TABLES.relayed_requests),
            (mesh.hearsay(), TABLES.hearsay),
            (mesh.searches(), TABLES.searches),
            (mesh.live_payments(), TABLES.payments),
            (mesh.parked(), TABLES.parked),
        ];
        for (used, room) in within {
            assert!(used <= room, "I6: {within:?}");
        }
        // A packet that is on its way back has left already here.
        assert!(self.waiting.len() <= mesh.parked());
    }
}

/// What is relayed is what came, one hop on; what goes free is free.
fn check_forward(mode: MeshMode, relayed: Option<&Given>, priority: Priority, sent: &[u8]) {
    let (header, body) = Header::parse(sent).expect("a node sends packets only");
    if let Some(Given::Packet(_, came) | Given::Resumed(_, came)) = relayed {
        let (before, same) = Header::parse(came).expect("it was accepted");
        assert_eq!(Some(header.hop_limit), before.hop_limit.checked_sub(1), "I4: packets die");
        assert_eq!(body, same);
    }
    let Ok(datagram) = Datagram::parse(header, body) else {
        assert_eq!(priority, Priority::Control);
        return;
    };
    if relayed.is_some() && priority == Priority::Free {
        let engine = RoutingPolicyEngine::new(PolicyConfig::new(mode, Network::Regtest));
        let protocol = match mode {
            MeshMode::Open => DetectedProtocol::Unknown,
            _ => engine.detect_protocol(datagram.payload),
        };
        assert_eq!(engine.determine_policy(protocol), RoutingPolicy::Free, "I1");
    }
}
