//! One state machine in either memory, with inputs and actions that own their bytes.

use super::bytes::Bytes;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{HopId, LinkId, NodeId};
use blvm_mesh_core::mesh::{HostMesh, Mesh, Misuse, Quote, Stats, owned};
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::routing::table::Route;
use blvm_mesh_core::tables::Boxed;
use blvm_mesh_core::time::Micros;
use blvm_mesh_core::wire::accepted::Accepted;
use secp256k1::SecretKey;

/// An input that owns its bytes.
pub type Input = owned::Input<Bytes>;
/// An action that owns its bytes.
pub type Action = owned::Action<Bytes>;
/// A verdict that owns its bytes.
pub type Verdict = owned::Verdict<Bytes>;

/// What came of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The actions, [`owned::Action::Wait`] last.
    pub actions: Vec<Action>,
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
                .map(|n| (n.link, n.node, n.up, n.max_packet, n.quality, n.liveness.theirs(), (n.free_full, n.paid_full)))
                .collect(),
            counts: [m.live_payments(), m.parked(), m.searches(), m.relayed_requests()],
            stats: Stats { control: 0, refused: 0, refused_payment: 0, refused_replay: 0, ..m.stats() },
        })
    }

    /// Gives an input and drains the actions. With `watch` it is found out
    /// whether the input changed anything.
    ///
    /// # Errors
    /// [`Misuse`]: the input breaks the contract.
    pub fn step(&mut self, now: Micros, input: &Input, watch: bool) -> Result<Step, Misuse> {
        let before = watch.then(|| self.state());
        let mut packet = input.packet().to_vec();
        either!(self, m => m.handle(now, input.input(&mut packet)))?;
        let changed = before.as_ref().is_some_and(|before| *before != self.state());
        let given = input.given(&packet);
        let mut actions: Vec<Action> = Vec::new();
        while !matches!(actions.last(), Some(Action::Wait { .. })) {
            let own = |parts: &[&[u8]]| match (actions.last(), parts) {
                // What is sent to several neighbours is one and the same packet.
                (Some(Action::Send { packet, .. }), [same]) if packet[..] == **same => {
                    packet.clone()
                }
                (_, [one]) => (*one).into(),
                (_, parts) => parts.concat().into(),
            };
            let next = either!(self, m => Action::new(m.poll(), given, own));
            actions.push(next);
        }
        Ok(Step { actions, changed, routes: before.map(|before| before.routes) })
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
