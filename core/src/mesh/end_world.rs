//! Nodes on links that take time, for tests of flows from end to end. Invoices are written and
//! paid at once, and what was paid is kept apart from what the nodes believe.

use super::*;
use crate::config::MeshMode;
use crate::flow::end::{Event as StreamEvent, Read};
use crate::id::Standing;
use crate::payment::ledger::Record;
use crate::payment::test_invoice::Recipe;
use crate::tables::Heap;
use crate::time::MILLISECOND;
use crate::time::SECOND;
use crate::wire::header::Kind;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::lightning_tests::NOW;
use lightning_invoice::Currency;

/// What becomes of a packet on its way.
pub(super) type Fate = fn(&mut Net, usize, &[u8]) -> bool;

pub(super) struct Net {
    pub(super) nodes: Vec<Mesh<Heap>>,
    disks: Vec<Vec<Record>>,
    written: Vec<u64>,
    until: Vec<Option<Micros>>,
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    pub(super) flying: BTreeMap<(Micros, u64), (usize, LinkId, Vec<u8>)>,
    held: BTreeMap<(usize, Ticket), Vec<u8>>,
    pub(super) events: Vec<(usize, FlowId, FlowEvent)>,
    /// What each node was paid, in millisatoshi, and sold, in bytes.
    pub(super) paid: BTreeMap<usize, u64>,
    pub(super) sold: BTreeMap<usize, u64>,
    /// Bytes of data that each node has sent on, as they are counted.
    pub(super) carried: BTreeMap<usize, u64>,
    pub(super) invoices: u64,
    preimages: BTreeMap<Vec<u8>, [u8; 32]>,
    /// What was paid for, as a shell keeps it: by whom and to whom, the tickets, and what paying
    /// revealed.
    pub(super) promises: Vec<(usize, usize, [u8; 49], [u8; 32])>,
    /// Nodes whose wallets pay nothing.
    pub(super) poor: std::collections::BTreeSet<usize>,
    /// Whether a packet that a node receives gets there.
    pub(super) fate: Fate,
    /// Bytes that came on each stream of each flow at each node.
    pub(super) read: BTreeMap<(usize, FlowId, u32), Vec<u8>>,
    /// Packets that a test has kept.
    pub(super) kept: Vec<Vec<u8>>,
    pub(super) rng: u64,
    pub(super) now: Micros,
    pub(super) latency: Micros,
    packets: u64,
}

impl Net {
    /// Nodes in a line, each of this mode and with the time.
    pub(super) fn line(modes: &[MeshMode]) -> Self {
        let mut net = Self::unwired(modes, |_, _| {});
        for n in 1..modes.len() {
            net.wire(n - 1, n);
        }
        net.run(10 * MILLISECOND);
        net
    }

    pub(super) fn unwired(modes: &[MeshMode], edit: fn(usize, &mut Config)) -> Self {
        let count = modes.len();
        let node = |n: usize| {
            let mut config = Config::host(crate::id::Network::Regtest);
            (config.mode, config.timing.keepalive) = (modes[n], 0);
            edit(n, &mut config);
            Mesh::new(config, Self::key(n), [n as u8 + 1; 32])
        };
        let mut net = Self {
            nodes: (0..count).map(node).collect(),
            disks: std::vec![Vec::new(); count],
            written: std::vec![0; count],
            until: std::vec![None; count],
            wires: BTreeMap::new(),
            flying: BTreeMap::new(),
            held: BTreeMap::new(),
            events: Vec::new(),
            paid: BTreeMap::new(),
            sold: BTreeMap::new(),
            carried: BTreeMap::new(),
            invoices: 0,
            preimages: BTreeMap::new(),
            promises: Vec::new(),
            poor: Default::default(),
            fate: |_, _, _| true,
            read: BTreeMap::new(),
            kept: Vec::new(),
            rng: 1,
            now: 0,
            latency: MILLISECOND,
            packets: 0,
        };
        for n in 0..count {
            net.give(n, Input::WallClock { unix: NOW });
        }
        net
    }

    /// Gives a node another configuration, before it has links.
    pub(super) fn configure(&mut self, n: usize, edit: impl FnOnce(&mut Config)) {
        let mut config = self.nodes[n].config().clone();
        edit(&mut config);
        self.nodes[n] = Mesh::new(config, Self::key(n), [n as u8 + 1; 32]);
        self.give(n, Input::WallClock { unix: NOW });
    }

    /// Bytes that were bought at a node and paid for.
    pub(super) fn sold_for_money(&self, n: usize) -> u64 {
        let bytes = |(_, to, promise, _): &(usize, usize, [u8; 49], [u8; 32])| {
            let ticket = crate::wire::account::Ticket::from_bytes(promise.last_chunk().unwrap());
            if *to == n { ticket.unwrap().bytes } else { 0 }
        };
        self.promises.iter().map(bytes).sum()
    }

    fn key(n: usize) -> SecretKey {
        SecretKey::from_byte_array([n as u8 + 1; 32]).unwrap()
    }

    pub(super) fn id(&self, n: usize) -> NodeId {
        self.nodes[n].id()
    }

    fn link(from: usize, to: usize) -> LinkId {
        LinkId((100 * from + to) as u32)
    }

    pub(super) fn wire(&mut self, a: usize, b: usize) {
        self.wire_as(a, b, Standing::Own);
    }

    /// A link by which each node is this to the other.
    pub(super) fn wire_as(&mut self, a: usize, b: usize, standing: Standing) {
        for (a, b) in [(a, b), (b, a)] {
            self.wires.insert((a, Self::link(a, b)), (b, Self::link(b, a)));
            let (link, peer, dialed) = (Self::link(a, b), self.id(b), a < b);
            let capabilities = None;
            self.give(a, Input::PeerConnected { link, peer, dialed, standing, capabilities });
        }
    }

    /// A second link between the same nodes.
    pub(super) fn wire_again(&mut self, a: usize, b: usize) {
        let link = |a: usize, b: usize| LinkId((5_000 + 100 * a + b) as u32);
        for (a, b) in [(a, b), (b, a)] {
            self.wires.insert((a, link(a, b)), (b, link(b, a)));
            let (link, peer, dialed) = (link(a, b), self.id(b), a < b);
            let (standing, capabilities) = (Standing::Own, None);
            self.give(a, Input::PeerConnected { link, peer, dialed, standing, capabilities });
        }
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        for (a, b) in [(a, b), (b, a)] {
            if self.wires.remove(&(a, Self::link(a, b))).is_some() {
                self.give(a, Input::PeerDisconnected { link: Self::link(a, b) });
            }
        }
    }

    /// Starts a node anew with what is on its disk, and with the links that it had.
    pub(super) fn restart(&mut self, n: usize, seed: u8) {
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|other| self.wires.contains_key(&(*other, Self::link(*other, n))))
            .collect();
        others.iter().for_each(|other| self.cut(*other, n));
        let config = self.nodes[n].config().clone();
        self.nodes[n] = Mesh::new(config, Self::key(n), [seed; 32]);
        self.held.retain(|(node, _), _| *node != n);
        self.written[n] = 0;
        for record in self.disks[n].clone() {
            self.give(n, Input::Persisted { record });
        }
        self.give(n, Input::WallClock { unix: NOW + self.now / SECOND });
        others.iter().for_each(|other| self.wire(*other, n));
    }

    pub(super) fn give(&mut self, n: usize, input: Input<'_>) -> Vec<owned::Verdict<Vec<u8>>> {
        self.nodes[n].handle(self.now, input).unwrap();
        self.drain(n, Vec::new(), None)
    }

    fn drain(
        &mut self,
        n: usize,
        bytes: Vec<u8>,
        given: Option<Vec<u8>>,
    ) -> Vec<owned::Verdict<Vec<u8>>> {
        use owned::Action;
        let (mut verdicts, mut todo, mut steps) = (Vec::new(), Vec::new(), 0);
        loop {
            steps += 1;
            assert!(steps < 10_000, "node {n} never waits");
            let action = Action::new(self.nodes[n].poll(), &bytes, |parts| parts.concat());
            if let Some((link, packet)) = action.sent()
                && let Some((to, link)) = self.wires.get(&(n, link)).copied()
            {
                let packet = packet.clone();
                if packet[5] == Kind::Data as u8 {
                    *self.carried.entry(n).or_default() += packet.len().max(64) as u64;
                }
                self.packets += 1;
                if (self.fate)(self, to, &packet) {
                    let at = (self.now + self.latency, self.packets);
                    self.flying.insert(at, (to, link, packet));
                }
            }
            match action {
                Action::Wait { until } => {
                    self.until[n] = until;
                    break;
                }
                Action::Verdict(verdict) => {
                    if let owned::Verdict::Parked { ticket, .. } = &verdict {
                        self.held.insert((n, *ticket), given.clone().unwrap());
                    }
                    verdicts.push(verdict);
                }
                Action::Drop { ticket, .. } => {
                    self.held.remove(&(n, ticket));
                }
                Action::Persist { number, record } => {
                    self.written[n] += 1;
                    assert_eq!(number, self.written[n]);
                    self.disks[n].push(record);
                }
                Action::Flow { flow, event } => self.events.push((n, flow, event)),
                action @ (Action::Invoice { .. } | Action::Pay { .. }) => todo.push(action),
                _ => {}
            }
        }
        assert_eq!(verdicts.len(), 1, "one verdict: {verdicts:?}");
        for action in todo {
            match action {
                Action::Invoice { ticket, amount_msat, bytes, .. } => {
                    self.invoices += 1;
                    *self.sold.entry(n).or_default() += bytes;
                    let mut preimage = [0; 32];
                    preimage[..8].copy_from_slice(&self.invoices.to_le_bytes());
                    let recipe = Recipe {
                        currency: Currency::Regtest,
                        amount_msat: Some(amount_msat),
                        preimage,
                        ..Recipe::typical_text([1; 32])
                    };
                    let invoice = recipe.text().into_bytes();
                    self.preimages.insert(invoice.clone(), preimage);
                    let packet = self.held.remove(&(n, ticket)).unwrap();
                    let input = Input::Invoice { ticket, packet: &packet, invoice: &invoice };
                    self.nodes[n].handle(self.now, input).unwrap();
                    self.drain(n, packet, None);
                }
                Action::Pay { ticket, .. } if self.poor.contains(&n) => {
                    self.give(n, Input::InvoicePaid { ticket, preimage: None });
                }
                Action::Pay { ticket, invoice, amount_msat, node, promise, .. } => {
                    let preimage = Some(self.preimages[&invoice]);
                    let at = (0..self.nodes.len()).find(|n| self.id(*n) == node).unwrap();
                    *self.paid.entry(at).or_default() += amount_msat;
                    self.promises.push((n, at, promise, self.preimages[&invoice]));
                    self.give(n, Input::InvoicePaid { ticket, preimage });
                }
                _ => {}
            }
        }
        verdicts
    }

    /// A node gets a packet from its neighbour.
    pub(super) fn receive(&mut self, n: usize, from: usize, mut packet: Vec<u8>) {
        let (link, given) = (Self::link(n, from), packet.clone());
        let input = Input::MessageReceived { link, packet: &mut packet };
        self.nodes[n].handle(self.now, input).unwrap();
        self.drain(n, packet, Some(given));
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Micros) {
        let (end, mut still, mut last) = (self.now + time, 0, 0);
        loop {
            still = if self.now == last { still + 1 } else { 0 };
            last = self.now;
            assert!(still < 5_000, "time stands still: {:?} {:?}", self.until, self.events.last());
            let packet = self.flying.first_key_value().map(|((at, _), _)| *at);
            let timer = self.until.iter().flatten().min().copied();
            let next = [packet, timer].into_iter().flatten().min().filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            if packet == Some(next)
                && let Some((_, (n, link, mut bytes))) = self.flying.pop_first()
            {
                let given = bytes.clone();
                let input = Input::MessageReceived { link, packet: &mut bytes };
                self.nodes[n].handle(self.now, input).unwrap();
                self.drain(n, bytes, Some(given));
            } else {
                let due = |until: &Option<Micros>| until.is_some_and(|at| at <= self.now);
                let n = self.until.iter().position(due).unwrap();
                self.give(n, Input::Timer);
            }
            self.read_all();
        }
        self.now = self.now.max(end);
    }

    /// Reads what has come on all streams.
    fn read_all(&mut self) {
        let readable: Vec<(usize, FlowId, u32)> = self
            .events
            .iter()
            .filter_map(|(n, flow, event)| match event {
                FlowEvent::Stream(StreamEvent::Readable(stream)) => Some((*n, *flow, *stream)),
                _ => None,
            })
            .collect();
        if readable.is_empty() {
            return;
        }
        let is_readable = |e: &FlowEvent| matches!(e, FlowEvent::Stream(StreamEvent::Readable(_)));
        self.events.retain(|(.., event)| !is_readable(event));
        for (n, flow, stream) in readable {
            let Some(mut streams) = self.nodes[n].streams(flow) else { continue };
            let mut buffer = [0; 4096];
            let all = self.read.entry((n, flow, stream)).or_default();
            while let Ok(Read::Bytes(len)) = streams.read(stream, &mut buffer) {
                all.extend(&buffer[..len]);
            }
            self.give(n, Input::Streams { flow });
        }
    }

    /// Node 0 opens a flow to another.
    pub(super) fn open(&mut self, to: usize, budget_msat: u64) -> FlowId {
        let destination = self.id(to);
        let verdicts = self.give(0, Input::OpenFlow { destination, budget_msat });
        match verdicts[..] {
            [owned::Verdict::Opening { flow }] => flow,
            ref other => panic!("{other:?}"),
        }
    }

    /// Writes as much as there is room for; how much that was.
    pub(super) fn write(&mut self, n: usize, flow: FlowId, stream: u32, bytes: &[u8]) -> usize {
        let written =
            self.nodes[n].streams(flow).map_or(0, |mut s| s.write(stream, bytes).unwrap());
        self.give(n, Input::Streams { flow });
        written
    }

    /// Sends all of it, for at most so long; whether it went out.
    pub(super) fn send_all(
        &mut self,
        n: usize,
        flow: FlowId,
        stream: u32,
        bytes: &[u8],
        time: Micros,
    ) -> bool {
        let (mut at, end) = (0, self.now + time);
        while at < bytes.len() && self.now < end {
            at += self.write(n, flow, stream, &bytes[at..]);
            self.run(20 * MILLISECOND);
        }
        at == bytes.len()
    }

    pub(super) fn has(&self, n: usize, event: impl Fn(&FlowEvent) -> bool) -> bool {
        self.events.iter().any(|(at, _, e)| *at == n && event(e))
    }

    /// A number below `below`, from the world's own source.
    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (self.rng >> 33) % below
    }
}

/// Bytes of which none is where another could be.
pub(super) fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect()
}
