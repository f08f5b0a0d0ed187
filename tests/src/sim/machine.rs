//! One state machine in either memory, with inputs and actions that own their bytes.

use super::bytes::Bytes;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{HopId, LinkId, NodeId, Standing};
use blvm_mesh_core::link::fragment::Lane;
use blvm_mesh_core::mesh::{
    Action, Event, HostMesh, Input, Mesh, MeshError, Misuse, Priority, Quote, Remedy, Stats,
    Ticket, Verdict,
};
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::policy::detect::DetectedProtocol;
use blvm_mesh_core::routing::table::Route;
use blvm_mesh_core::tables::Boxed;
use blvm_mesh_core::time::Micros;
use blvm_mesh_core::wire::accepted::Accepted;
use secp256k1::SecretKey;

/// An input that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Given {
    Connected { link: LinkId, peer: NodeId, dialed: bool, standing: Standing },
    Disconnected { link: LinkId },
    Received { link: LinkId, bytes: Bytes },
    Answer { ticket: Ticket, block: Option<KnownHeader> },
    Send { to: NodeId, payload: Bytes, proof: Bytes, unchecked: bool },
    Repeat { bytes: Bytes },
    Find { to: NodeId },
    FindAccepted { to: NodeId },
    Resumed { link: Option<LinkId>, ticket: Ticket, bytes: Bytes },
    Timer,
    Clock { unix: u64 },
    Header { header: [u8; 80], height: u32 },
    Restore { record: Record },
    StoreFailed,
    StoreRecovered,
    Congestion { link: LinkId, lane: Lane, full: bool },
    Measured { link: LinkId, quality: u16 },
}

impl Given {
    /// The input, with its packet copied to `bytes`.
    pub fn input<'a>(&'a self, bytes: &'a mut Vec<u8>) -> Input<'a> {
        match self {
            Self::Received { link, bytes: b } => {
                *bytes = b.to_vec();
                Input::MessageReceived { link: *link, packet: bytes }
            }
            Self::Resumed { ticket, bytes: b, .. } => {
                *bytes = b.to_vec();
                Input::Resumed { ticket: *ticket, packet: bytes }
            }
            Self::Send { to, payload, proof, unchecked } => {
                Input::Send { destination: *to, payload, proof, unchecked: *unchecked }
            }
            Self::Connected { link, peer, dialed, standing } => {
                let (link, dialed, standing) = (*link, *dialed, *standing);
                Input::PeerConnected { link, peer: *peer, dialed, standing, capabilities: None }
            }
            Self::Disconnected { link } => Input::PeerDisconnected { link: *link },
            Self::Answer { ticket, block } => {
                Input::PaymentVerified { ticket: *ticket, block: *block }
            }
            Self::Repeat { bytes } => Input::Repeat { packet: bytes },
            Self::Find { to } => Input::FindRoute { destination: *to },
            Self::FindAccepted { to } => Input::FindAccepted { destination: *to },
            Self::Timer => Input::Timer,
            Self::Clock { unix } => Input::WallClock { unix: *unix },
            Self::Header { header, height } => Input::BlockHeader { header, height: *height },
            Self::Restore { record } => Input::Persisted { record: *record },
            Self::StoreFailed => Input::StoreFailed,
            Self::StoreRecovered => Input::StoreRecovered,
            Self::Congestion { link, lane, full } => {
                Input::Congestion { link: *link, lane: *lane, full: *full }
            }
            Self::Measured { link, quality } => {
                Input::LinkMeasured { link: *link, quality: *quality }
            }
        }
    }
}

/// An action that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Did {
    Send {
        link: LinkId,
        bytes: Bytes,
        after: Option<u64>,
    },
    Forward {
        link: LinkId,
        priority: Priority,
        bytes: Bytes,
        after: Option<u64>,
    },
    Originate {
        link: LinkId,
        priority: Priority,
        bytes: Bytes,
        sequence: u64,
        hops: u8,
        paid: bool,
        after: Option<u64>,
    },
    Deliver {
        source: NodeId,
        sequence: u64,
        payload: Bytes,
        protocol: DetectedProtocol,
        earned_msat: u64,
        after: Option<u64>,
    },
    Absorbed,
    Reject {
        link: Option<LinkId>,
        reason: MeshError,
        remedy: Remedy,
    },
    Drop {
        ticket: Ticket,
        link: Option<LinkId>,
        reason: MeshError,
    },
    Parked {
        ticket: Ticket,
        until: Micros,
    },
    Resume {
        ticket: Ticket,
    },
    Publish(Event),
    Persist {
        number: u64,
        record: Record,
    },
    Verify {
        ticket: Ticket,
        block_hash: [u8; 32],
    },
    Close {
        link: LinkId,
        reason: MeshError,
    },
    Wait {
        until: Option<Micros>,
    },
}

impl Did {
    /// Whether it says what became of the input.
    pub fn is_verdict(&self) -> bool {
        matches!(
            self,
            Self::Forward { .. }
                | Self::Originate { .. }
                | Self::Deliver { .. }
                | Self::Absorbed
                | Self::Parked { .. }
                | Self::Reject { .. }
        )
    }

    /// The packet that it sends, and where.
    pub fn sent(&self) -> Option<(LinkId, &Bytes)> {
        match self {
            Self::Send { link, bytes, .. }
            | Self::Forward { link, bytes, .. }
            | Self::Originate { link, bytes, .. } => Some((*link, bytes)),
            _ => None,
        }
    }
}

/// What came of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The actions, [`Did::Wait`] last.
    pub did: Vec<Did>,
    /// Whether the input itself changed any table, route or counter but those of
    /// refusals; `false` where nobody looked.
    pub changed: bool,
    /// The routes before it; `None` where nobody looked.
    pub routes: Option<Vec<Known>>,
}

/// A state machine in either memory.
pub enum Machine {
    /// Tables on the heap.
    Heap(Box<HostMesh>),
    /// Tables in fixed arrays.
    Fixed(Box<Mesh<Boxed>>),
}

/// Does the same with the state machine in either memory.
#[macro_export]
macro_rules! either {
    ($machine:expr, $m:ident => $e:expr) => {
        match $machine {
            $crate::sim::Machine::Heap($m) => $e,
            $crate::sim::Machine::Fixed($m) => $e,
        }
    };
}

/// Whether the free and the paid lane are full.
type Full = (bool, bool);

/// What an outsider can see of a state machine's tables.
#[derive(Debug, PartialEq, Eq)]
struct State {
    routes: Vec<Known>,
    neighbours: Vec<(LinkId, NodeId, bool, u32, u16, u64, Full)>,
    counts: [usize; 4],
    stats: Stats,
}

/// A route that a node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Where it leads.
    pub destination: NodeId,
    /// Intermediate nodes in travel order, with their tariffs.
    pub hops: Vec<(HopId, Tariff)>,
    /// Its cost.
    pub cost: u64,
    /// When it is forgotten.
    pub expires_at: Micros,
    rest: (Tariff, u32),
}

impl From<Route<'_>> for Known {
    fn from(route: Route<'_>) -> Self {
        let Route { destination, hops, tariff, min_packet, cost, expires_at } = route;
        Self { destination, hops: hops.to_vec(), cost, expires_at, rest: (tariff, min_packet) }
    }
}

impl Machine {
    /// A state machine in heap memory, or in fixed memory.
    pub fn new(heap: bool, config: Config, key: SecretKey, seed: [u8; 32]) -> Self {
        match heap {
            true => Self::Heap(Box::new(HostMesh::new(config, key, seed))),
            false => Self::Fixed(Box::new(Mesh::new(config, key, seed))),
        }
    }

    fn state(&self) -> State {
        either!(self, m => State {
            routes: m.table().routes().map(Known::from).collect(),
            neighbours: m
                .table()
                .neighbours
                .iter()
                .map(|n| (n.link, n.node, n.up, n.max_packet, n.quality, n.keepalive, (n.free_full, n.paid_full)))
                .collect(),
            counts: [m.live_payments(), m.parked(), m.searches(), m.relayed_requests()],
            stats: Stats { control: 0, refused: 0, refused_payment: 0, refused_replay: 0, ..m.stats() },
        })
    }

    /// Gives an input and drains the actions. With `watch` it is found out
    /// whether the input changed anything.
    pub fn step(&mut self, now: Micros, given: &Given, watch: bool) -> Result<Step, Misuse> {
        let before = watch.then(|| self.state());
        let mut bytes = Vec::new();
        let input = given.input(&mut bytes);
        either!(self, m => m.handle(now, input))?;
        let changed = before.as_ref().is_some_and(|before| *before != self.state());
        let given: &[u8] = match given {
            Given::Send { payload, .. } => payload,
            Given::Repeat { bytes } => bytes,
            _ => &bytes,
        };
        let mut did = Vec::new();
        while !matches!(did.last(), Some(Did::Wait { .. })) {
            let next = either!(self, m => own(m.poll(), given, did.last()));
            did.push(next);
        }
        Ok(Step { did, changed, routes: before.map(|before| before.routes) })
    }

    /// See [`blvm_mesh_core::mesh::Mesh::quote`].
    pub fn quote(&self, to: &NodeId, bytes: u64) -> Option<Quote> {
        either!(self, m => m.quote(to, bytes))
    }

    /// See [`blvm_mesh_core::mesh::Mesh::accepted`].
    pub fn accepted(&self, to: &NodeId) -> Option<Accepted> {
        either!(self, m => m.accepted(to).cloned())
    }

    /// The path to a node that it would use at `now`.
    pub fn path(&self, to: &NodeId, now: Micros) -> Option<Known> {
        either!(self, m => m.table().find_route(to, now).map(Known::from))
    }
}

/// What is sent to several neighbours is one and the same packet.
fn written(packet: &[u8], before: Option<&Did>) -> Bytes {
    match before {
        Some(Did::Send { bytes, .. }) if bytes[..] == *packet => bytes.clone(),
        _ => packet.into(),
    }
}

fn own(action: Action<'_>, given: &[u8], before: Option<&Did>) -> Did {
    match action {
        Action::Verdict(verdict) => judged(verdict, given),
        Action::Send { link, packet, after } => {
            Did::Send { link, bytes: written(packet, before), after }
        }
        Action::Drop { ticket, link, reason } => Did::Drop { ticket, link, reason },
        Action::Resume { ticket } => Did::Resume { ticket },
        Action::Publish(event) => Did::Publish(event),
        Action::Persist { number, record } => Did::Persist { number, record },
        Action::Verify { ticket, block_hash } => Did::Verify { ticket, block_hash },
        Action::Close { link, reason } => Did::Close { link, reason },
        Action::Wait { until } => Did::Wait { until },
    }
}

fn judged(verdict: Verdict<'_>, given: &[u8]) -> Did {
    match verdict {
        Verdict::Forward { link, priority, packet, after } => {
            Did::Forward { link, priority, bytes: given[packet].into(), after }
        }
        Verdict::Originate { link, priority, packet, sequence, hops, paid, after } => {
            let bytes = [packet.head, &given[packet.tail]].concat().into();
            Did::Originate { link, priority, bytes, sequence, hops, paid, after }
        }
        Verdict::Deliver { source, sequence, payload, protocol, earned_msat, after } => {
            let payload = given[payload].into();
            Did::Deliver { source, sequence, payload, protocol, earned_msat, after }
        }
        Verdict::Absorbed => Did::Absorbed,
        Verdict::Parked { ticket, until } => Did::Parked { ticket, until },
        Verdict::Reject { link, reason, remedy } => Did::Reject { link, reason, remedy },
    }
}
