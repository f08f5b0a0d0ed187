//! A node: its state machine, and what the shell around it keeps.

use super::bytes::{Bytes, Path};
use super::checks::{Paid, Remembered, Shares};
use super::machine::{Input, Machine};
use blvm_mesh_core::config::{Config, MAX_HOPS};
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::mesh::Ticket;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::{Micros, WallClock};
use blvm_mesh_core::wire::HEADER_LEN;
use secp256k1::SecretKey;
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
    pub(super) payment: Option<Paid>,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// A packet, with the nodes where it was.
    Send(LinkId, Bytes, Path),
    /// A payload for this node, with its source and number.
    Deliver(NodeId, u64, Bytes, Path),
}

/// An own paid datagram that may be sent again.
#[derive(Debug, Clone)]
pub(super) struct OwnPaid {
    pub(super) bytes: Bytes,
    /// How often it was sent again.
    pub(super) times: u8,
    /// How often the node itself could not send it.
    pub(super) tries: u8,
    /// When it is sent again, in true time.
    pub(super) due: Micros,
}

/// A parked packet.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) link: Option<LinkId>,
    pub(super) input: Input,
    pub(super) path: Path,
}

/// When an own search began and until when it must have ended, by the node's
/// own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) began: Micros,
    pub(super) until: Micros,
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
    /// The address prefix from which it dials; its own number, unless changed.
    pub prefix: u64,
    /// Whether it has left, or was not here yet.
    pub off: bool,
    /// How far its wall clock is off, in seconds.
    pub clock_offset: i64,
    /// How much its monotonic clock runs fast, in millionths.
    pub drift_ppm: i64,
    /// Its wall clock, as it knows it.
    pub wall: WallClock,
    /// Whether it is given the headers of blocks; else it asks for them.
    pub has_headers: bool,
    /// Records that are durable.
    pub disk: Vec<Record>,
    /// Whether the disk takes no more.
    pub disk_broken: bool,
    /// Whether the disk writes nothing until [`super::World::sync`].
    pub disk_stalls: bool,
    /// Where it is to crash.
    pub armed: Option<Crash>,
    /// How often it was started.
    pub boots: u64,
    /// Packets that came by, for a dishonest node to use.
    pub tap: VecDeque<Bytes>,
    /// The same of flows, by kind.
    pub flow_tap: BTreeMap<u8, VecDeque<Bytes>>,
    /// Datagrams that a dishonest node paid for, to send again.
    pub paid: Vec<super::forge::Parts>,
    /// Payloads delivered: source and bytes.
    pub delivered: Vec<(NodeId, Bytes)>,
    /// Every input of this run, where they are recorded.
    pub record: Option<Vec<(Micros, Input)>>,
    /// Packets of the mesh itself that it sent.
    pub control_sent: u64,
    pub(super) writes: VecDeque<(u64, Record)>,
    pub(super) durable: u64,
    pub(super) waiting: VecDeque<Effect>,
    pub(super) parked: BTreeMap<Ticket, Held>,
    /// Own paid datagrams by their numbers, of which there is no receipt.
    pub(super) own_paid: BTreeMap<u64, OwnPaid>,
    /// When it was started last.
    pub(super) booted: Micros,
    pub(super) timer: Micros,
    pub(super) searching: BTreeMap<NodeId, Search>,
    /// What it must remember, and what its neighbours have of it.
    pub(super) remembered: Remembered,
    pub(super) shares: Shares,
    /// Its connections: those that are open, and lately closed ones.
    pub(super) conns: Vec<usize>,
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
            prefix: u64::MAX,
            off: false,
            clock_offset: 0,
            drift_ppm: 0,
            wall: WallClock::default(),
            has_headers: false,
            disk: Vec::new(),
            disk_broken: false,
            disk_stalls: false,
            armed: None,
            boots: 1,
            tap: VecDeque::new(),
            flow_tap: BTreeMap::new(),
            paid: Vec::new(),
            delivered: Vec::new(),
            record: None,
            control_sent: 0,
            writes: VecDeque::new(),
            durable: 0,
            waiting: VecDeque::new(),
            parked: BTreeMap::new(),
            own_paid: BTreeMap::new(),
            booted: 0,
            timer: Micros::MAX,
            searching: BTreeMap::new(),
            remembered: Remembered::default(),
            shares: Shares::default(),
            conns: Vec::new(),
        }
    }

    /// Its monotonic clock at a true time.
    pub fn local(&self, now: Micros) -> Micros {
        if self.drift_ppm == 0 {
            return now;
        }
        let gained = (i128::from(now) * i128::from(self.drift_ppm)).div_euclid(1_000_000);
        now.saturating_add_signed(gained as i64)
    }

    /// The first true time at which its monotonic clock shows this.
    pub(super) fn true_time(&self, local: Micros) -> Micros {
        if self.drift_ppm == 0 {
            return local;
        }
        let whole = i128::from(local) * 1_000_000 / i128::from(1_000_000 + self.drift_ppm);
        let mut at = Micros::try_from(whole).unwrap_or(Micros::MAX).saturating_sub(2);
        while self.local(at) < local {
            at += 1;
        }
        at
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
        self.own_paid.clear();
        self.timer = Micros::MAX;
        self.searching.clear();
        self.remembered = Remembered::default();
        self.shares = Shares::default();
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
            // Of a deposit the account stays.
            for record in &mut self.disk {
                if let Record::Deposit(d) = *record
                    && d.payment.expires_at <= floor
                {
                    *record = Record::Account(d.account());
                }
            }
            self.disk.retain(|r| match r {
                Record::Payment(p) => p.expires_at > floor,
                Record::Floor(_) => false,
                _ => true,
            });
        }
        if let Record::StoreLost(_) = record {
            self.disk.retain(|r| !matches!(r, Record::StoreLost(_)));
        }
        self.disk.push(record);
    }

    /// How long a search may take in all.
    pub fn search_time(&self) -> Micros {
        let timing = &self.config.timing;
        let widest = MAX_HOPS as u64 + 1;
        // The first request may go to where a node was heard of, as far away as may be.
        let (mut width, mut sum) = (u64::from(timing.first_ring), widest * timing.hop_round_trip);
        while width < widest {
            width = if width * 4 >= widest / 2 { widest } else { width * 4 };
            sum += width * timing.hop_round_trip;
        }
        sum
    }

    pub(super) fn note(&mut self, packet: &Bytes) {
        if !self.honest && packet.len() > HEADER_LEN {
            if self.tap.len() >= 48 {
                self.tap.pop_front();
            }
            self.tap.push_back(packet.clone());
            if let Some(kind) = super::forge::about_flows(packet) {
                let tap = self.flow_tap.entry(kind as u8).or_default();
                if tap.len() >= 12 {
                    tap.pop_front();
                }
                tap.push_back(packet.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::Network;

    #[test]
    fn a_drifting_clock_is_met_exactly() {
        let key = SecretKey::from_byte_array([1; 32]).unwrap();
        let mut node = Node::new(Config::board(Network::Regtest, 8192), key, true, [1; 32]);
        for ppm in [-50_000, -30, 0, 30, 50_000] {
            node.drift_ppm = ppm;
            for local in [0, 1, 999_999, 1_000_000, 1_049_999, 77_777_777, 1 << 40] {
                let at = node.true_time(local);
                assert!(node.local(at) >= local, "{ppm} {local}");
                assert!(at == 0 || node.local(at - 1) < local, "{ppm} {local} {at}");
            }
        }
    }
}
