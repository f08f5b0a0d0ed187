//! A node: its state machine, and the shell around it with disk and clock.

use super::machine::{Given, Machine};
use bitcoin::secp256k1::SecretKey;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::mesh::Ticket;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::Micros;
use std::collections::{BTreeMap, VecDeque};

/// Between which two writes a node is to crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Before the next record is durable.
    BeforeWrite,
    /// After the next record is durable, before anything that waits for it.
    AfterWrite,
}

/// What waits for a record to be durable.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    /// The record's number; `None`: nothing to wait for.
    pub(super) after: Option<u64>,
    /// The payment with which it was bought.
    pub(super) payment: Option<[u8; 32]>,
    /// Where to send what, and the nodes where it was; `None` is a delivery.
    pub(super) send: Option<(LinkId, Vec<u8>, Vec<usize>)>,
}

/// A parked packet.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) link: Option<LinkId>,
    pub(super) given: Given,
    pub(super) path: Vec<usize>,
}

/// One node of a [`super::World`].
pub struct Node {
    /// Its key.
    pub key: SecretKey,
    /// Its identity.
    pub id: NodeId,
    /// Its configuration.
    pub config: Config,
    /// Whether its tables are on the heap.
    pub heap: bool,
    /// The seed of this run.
    pub seed: [u8; 32],
    /// The state machine.
    pub machine: Machine,
    /// Whether it is held to the invariants; others may send anything.
    pub honest: bool,
    /// How far its wall clock is off, in seconds.
    pub clock_offset: i64,
    /// Records that are durable.
    pub disk: Vec<Record>,
    /// Whether the disk takes no more.
    pub disk_broken: bool,
    /// Where it is to crash.
    pub armed: Option<Crash>,
    /// How often it was started.
    pub boots: u64,
    /// Packets that came by, for a dishonest node to use.
    pub tap: VecDeque<Vec<u8>>,
    /// Datagrams that a dishonest node paid for, to send again.
    pub paid: Vec<super::forge::Parts>,
    /// Payloads delivered: source and bytes.
    pub delivered: Vec<(NodeId, Vec<u8>)>,
    /// Every input of this run, where they are recorded.
    pub record: Option<Vec<(Micros, Given)>>,
    /// Packets of the mesh itself that it sent.
    pub control_sent: u64,
    pub(super) writes: VecDeque<(u64, Record)>,
    pub(super) durable: u64,
    pub(super) waiting: VecDeque<Effect>,
    pub(super) parked: BTreeMap<Ticket, Held>,
    pub(super) timer: Micros,
    /// Own searches: until when each must have ended.
    pub(super) searching: BTreeMap<NodeId, Micros>,
}

impl Node {
    pub(super) fn new(config: Config, key: SecretKey, heap: bool, seed: [u8; 32]) -> Self {
        let machine = Machine::new(heap, config.clone(), key, seed);
        let id = crate::either!(&machine, m => m.id());
        Self {
            key,
            id,
            config,
            heap,
            seed,
            machine,
            honest: true,
            clock_offset: 0,
            disk: Vec::new(),
            disk_broken: false,
            armed: None,
            boots: 1,
            tap: VecDeque::new(),
            paid: Vec::new(),
            delivered: Vec::new(),
            record: None,
            control_sent: 0,
            writes: VecDeque::new(),
            durable: 0,
            waiting: VecDeque::new(),
            parked: BTreeMap::new(),
            timer: Micros::MAX,
            searching: BTreeMap::new(),
        }
    }

    /// Starts it again: only what is on disk remains.
    pub(super) fn reboot(&mut self, seed: [u8; 32]) {
        self.machine = Machine::new(self.heap, self.config.clone(), self.key, seed);
        self.seed = seed;
        self.boots += 1;
        self.writes.clear();
        self.durable = 0;
        self.waiting.clear();
        self.parked.clear();
        self.timer = Micros::MAX;
        self.searching.clear();
        self.armed = None;
        self.disk_broken = false;
        self.delivered.clear();
        if let Some(record) = &mut self.record {
            record.clear();
        }
    }

    /// Writes a record. What a durable floor covers is dropped from the disk.
    pub(super) fn write(&mut self, record: Record) {
        if let Record::Floor(floor) = record {
            self.disk.retain(|r| match r {
                Record::Payment(p) => p.expires_at > floor,
                Record::Floor(_) => false,
            });
        }
        self.disk.push(record);
    }

    /// How long a search may take in all.
    pub(super) fn search_time(&self) -> Micros {
        let timing = &self.config.timing;
        let (mut width, mut sum) = (u64::from(timing.first_ring.clamp(1, 17)), 0);
        loop {
            sum += width * timing.hop_round_trip;
            if width >= 17 {
                return sum;
            }
            width = if width * 2 + 1 >= 17 { 17 } else { width * 2 };
        }
    }

    pub(super) fn note(&mut self, packet: &[u8]) {
        if !self.honest {
            if self.tap.len() >= 48 {
                self.tap.pop_front();
            }
            self.tap.push_back(packet.to_vec());
        }
    }
}
