//! Lives a plan: traffic, faults and attacks, and a liveness phase at the end in which
//! everything must work.

use super::World;
use super::checks::Funded;
use super::machine::Input;
use super::node::Crash;
use super::plan::{Fault, Plan};
use super::radio;
use super::report::Report;
use super::wires::LinkCode;
use crate::packets::payloads::ping;
use crate::payments::bank::OwnTerms;
use crate::rng::Rng;
use crate::sim::topology::Topology;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::Quote;
use blvm_mesh_core::payment::fee::FeeDistribution;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// Why the driver is called.
const TRAFFIC: u32 = 0;
const FAULT: u32 = 1;
const ATTACK: u32 = 2;
const BLOCK: u32 = 3;
const MOVE: u32 = 4;
const PROGRESS: u32 = 5;
const FLOW: u32 = 6;

/// A payload that waits for its route or its block.
#[derive(Debug, Clone)]
struct Wish {
    from: usize,
    to: usize,
    not_before: Micros,
    /// The coin that pays, and what is carried.
    coin: Option<([u8; 32], Vec<u8>)>,
}

/// A world that is being lived.
pub struct Life<'a> {
    /// The world.
    pub world: World,
    /// What it was made from.
    pub plan: &'a Plan,
    /// Its topology.
    pub topology: Topology,
    pub(crate) rng: Rng,
    pub(super) parts: Vec<usize>,
    pub(super) neighbours: Vec<Vec<usize>>,
    wishes: Vec<Wish>,
    /// On radio: what was sent and is to arrive.
    pub wished: Vec<radio::Wish>,
    /// On radio: when a node moved, and where to.
    pub moved: Vec<radio::Move>,
    sent: u64,
    /// Until then nothing is done.
    quiet_until: Micros,
    pauses: u32,
    /// How often progress is told, in simulated time.
    told_every: Micros,
}

impl Plan {
    /// Lives the plan; panics where an invariant does not hold. `progress` is told
    /// the time now and then.
    ///
    /// # Errors
    /// There is no such topology.
    pub fn run(&self, progress: &mut dyn FnMut(&World)) -> Result<Report, String> {
        self.live(progress, None).map(|life| Report::of(&life.world, self))
    }

    /// The same; the world at its end. `lines` is written one for each input.
    ///
    /// # Errors
    /// There is no such topology, or the trace cannot be written.
    pub fn live(
        &self,
        progress: &mut dyn FnMut(&World),
        lines: Option<Box<dyn std::io::Write>>,
    ) -> Result<Life<'_>, String> {
        self.live_told(SECOND, progress, lines)
    }

    /// The same, with `progress` told each time that so much time has passed in the world.
    ///
    /// # Errors
    /// There is no such topology, or the trace cannot be written.
    pub fn live_told(
        &self,
        every: Micros,
        progress: &mut dyn FnMut(&World),
        lines: Option<Box<dyn std::io::Write>>,
    ) -> Result<Life<'_>, String> {
        let mut life = Life::new(self)?;
        life.told_every = every;
        if let Some(lines) = lines {
            life.world.trace.write_to(lines);
        }
        life.pass(progress);
        if self.liveness {
            life.liveness_phase();
        }
        Ok(life)
    }
}

impl<'a> Life<'a> {
    /// A world about to begin.
    ///
    /// # Errors
    /// There is no such topology.
    pub fn new(plan: &'a Plan) -> Result<Self, String> {
        let (world, topology) = plan.build()?;
        let rng = Rng::new(plan.seed).fork("life");
        let (parts, neighbours) = (topology.parts(), topology.neighbours());
        let (wishes, wished, moved) = (Vec::new(), Vec::new(), Vec::new());
        let (sent, quiet_until, pauses) = (0, 0, 0);
        Ok(Self {
            world,
            plan,
            topology,
            rng,
            parts,
            neighbours,
            wishes,
            wished,
            moved,
            sent,
            quiet_until,
            pauses,
            told_every: SECOND,
        })
    }

    fn gap(&mut self, mean: Micros) -> Micros {
        match self.rng.one_in(3) {
            true => 0,
            false => self.rng.below(3 * mean + 1),
        }
    }

    /// Lives for the plan's duration.
    pub fn pass(&mut self, progress: &mut dyn FnMut(&World)) {
        let start = match self.plan.radio {
            // Until all have greeted each other.
            Some(_) if self.plan.code == LinkCode::Channel => 300 * SECOND,
            Some(_) => 60 * SECOND,
            None => SECOND,
        };
        self.world.run_for(start);
        let mut end = self.world.now + self.plan.duration;
        let mut calls = vec![TRAFFIC, PROGRESS];
        calls.extend((!self.plan.faults.is_empty()).then_some(FAULT));
        calls
            .extend((self.plan.adversaries > 0 && !self.plan.attacks.is_empty()).then_some(ATTACK));
        calls.extend(self.plan.covenants.then_some(BLOCK));
        calls.extend((self.plan.flow_gap > 0).then_some(FLOW));
        calls.extend((self.plan.topology == "moving").then_some(MOVE));
        for call in calls {
            self.world.call_at(self.world.now, call);
        }
        while let Some(call) = self.world.next_call(end) {
            let again = match call {
                TRAFFIC | FAULT | ATTACK | FLOW if self.quiet_until > self.world.now => {
                    self.quiet_until - self.world.now
                }
                TRAFFIC => {
                    self.traffic();
                    self.gap(self.plan.traffic_gap)
                }
                FLOW => {
                    self.begin_flow();
                    self.gap(self.plan.flow_gap)
                }
                FAULT => {
                    self.fault();
                    self.gap(self.plan.fault_gap)
                }
                ATTACK => {
                    self.attack();
                    self.gap(self.plan.attack_gap)
                }
                BLOCK => {
                    self.block();
                    2 * SECOND
                }
                MOVE => {
                    self.wander();
                    self.plan.move_gap / 20
                }
                _ => {
                    progress(&self.world);
                    self.told_every
                }
            };
            self.world.call_at(self.world.now + again, call);
            // A pause is no part of the time that the world lives.
            if call == FAULT && self.quiet_until > self.world.now {
                end += self.quiet_until.saturating_sub(self.world.now);
            }
        }
        if self.plan.code == LinkCode::Channel {
            // What was sent last needs its time too.
            self.world.run_for(60 * SECOND);
        }
    }

    /// Two nodes that are connected and, in a large world, not far apart.
    fn pair(&mut self) -> (usize, usize) {
        let n = self.rng.index(self.topology.nodes);
        if self.topology.nodes <= 300 {
            let to = self.rng.index(self.topology.nodes);
            return (n, to);
        }
        let mut to = n;
        for _ in 0..self.rng.within(1, 12) {
            let near = &self.neighbours[to];
            if !near.is_empty() {
                to = near[self.rng.index(near.len())];
            }
        }
        (n, to)
    }

    fn traffic(&mut self) {
        let weights = self.plan.traffic;
        let mut at = self.rng.below(weights.iter().sum::<u64>().max(1));
        let mut kind = 0;
        while at >= weights[kind] && kind < 3 {
            at -= weights[kind];
            kind += 1;
        }
        self.fulfil();
        let (from, to) = self.pair();
        match kind {
            0 => drop(self.send_free(from, to)),
            1 => self.send_paid(from, to),
            2 => {
                let id = self.world.id(to);
                let find = match (from + to) % 2 {
                    0 => Input::FindRoute { destination: id },
                    _ => Input::FindAccepted { destination: id },
                };
                self.world.input(from, find);
            }
            _ => {
                self.world.checks.count("bursts");
                for _ in 0..20 {
                    self.send_free(from, to);
                }
            }
        }
    }

    /// Takes up what can be done now.
    pub(crate) fn fulfil(&mut self) {
        let now = self.world.now;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.wishes).into_iter().partition(|w| w.not_before <= now);
        self.wishes = later;
        for wish in due {
            match wish.coin {
                None => drop(self.pay_for(wish.from, wish.to)),
                Some((key, payload)) => {
                    if let Some(proof) = self.world.chain.proof(&key) {
                        self.world.checks.count("paid by covenant");
                        self.launch(wish.from, wish.to, &payload);
                        self.world.send(wish.from, wish.to, &payload, &proof);
                    }
                }
            }
        }
    }

    fn launch(&mut self, from: usize, to: usize, payload: &[u8]) {
        let (id, now) = (self.world.id(from), self.world.now);
        let honest = self.world.nodes[from].honest && self.world.nodes[to].honest;
        let wanted = from != to && self.parts[from] == self.parts[to] && honest;
        if wanted && self.plan.radio.is_some() {
            self.wished.push(radio::Wish { at: now, from, to, bytes: payload.len() });
        }
        self.world.account.launch(&id, to, payload, now, wanted);
    }

    /// Sends a Bitcoin message; the payload.
    pub(crate) fn send_free(&mut self, n: usize, to: usize) -> Vec<u8> {
        let payload = ping(self.rng.draw());
        self.world.checks.free.insert(payload.clone());
        self.launch(n, to, &payload);
        self.world.send(n, to, &payload, &[]);
        payload
    }

    /// Pays for a datagram and sends it, if a route is known; else looks for one
    /// and does it then.
    fn send_paid(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let id = self.world.id(to);
        if self.world.nodes[from].machine.quote(&id, 1).is_some() {
            drop(self.pay_for(from, to));
            return;
        }
        self.world.input(from, Input::FindRoute { destination: id });
        let not_before = self.world.now + self.world.nodes[from].search_time() / 2;
        self.wishes.push(Wish { from, to, not_before, coin: None });
    }

    /// Pays for a payload over the route that is known, and sends it; both.
    pub(crate) fn pay_for(&mut self, n: usize, to: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let most = if self.plan.radio.is_some() { 100 } else { 2000 };
        let len = self.rng.within(1, most);
        let quote = self.world.nodes[n].machine.quote(&self.world.id(to), len)?;
        let mut payload = self.rng.vec(len as usize);
        // Never by chance what goes free, and never twice the same.
        self.sent += 1;
        let number = self.sent.to_le_bytes();
        payload.iter_mut().zip(number).for_each(|(byte, n)| *byte = n);
        let terms = self.terms(n, to, &quote, len);
        assert_eq!(terms.hash(), quote.terms_hash);
        if self.plan.covenants && self.rng.one_in(3) {
            self.fund(n, to, terms, payload);
            return None;
        }
        let more = self.rng.pick(&[0, 1, 7, 1000]);
        let lifetime = self.rng.within(1, self.plan.lifetime);
        let unix = self.world.unix();
        // An invoice over nothing is none.
        let proof = self.world.bank.proof(terms, (quote.amount_msat + more).max(1), unix, lifetime);
        self.launch(n, to, &payload);
        let unchecked = self.plan.varied && self.rng.one_in(4);
        let (to, bytes) = (self.world.id(to), payload[..].into());
        let input =
            Input::Send { destination: to, payload: bytes, proof: proof[..].into(), unchecked };
        self.world.input(n, input);
        Some((payload, proof))
    }

    fn terms(&self, n: usize, to: usize, quote: &Quote, quota: u64) -> OwnTerms {
        OwnTerms {
            network: Network::Regtest,
            source: self.world.id(n),
            destination: self.world.id(to),
            hops: quote.hops.to_vec(),
            quota,
        }
    }

    /// Funds a coin that pays for a payload, to be sent once it is in a block.
    fn fund(&mut self, from: usize, to: usize, terms: OwnTerms, payload: Vec<u8>) {
        let key = self.world.fund(terms);
        let not_before = self.world.now + 2 * SECOND;
        self.wishes.push(Wish { from, to, not_before, coin: Some((key, payload)) });
    }

    /// A block is found, or the chain is reorganised.
    pub(crate) fn block(&mut self) {
        let (unix, now) = (self.world.unix(), self.world.now);
        let headers = match self.plan.has(Fault::Reorg) && self.rng.one_in(4) {
            true => {
                self.world.checks.count("reorganisations");
                let depth = self.rng.within(1, 3) as usize;
                self.world.chain.reorganise(depth, now, unix)
            }
            false => vec![self.world.chain.mine(unix)],
        };
        for n in 0..self.world.nodes.len() {
            for (header, height) in &headers {
                if self.world.nodes[n].has_headers {
                    let input = Input::BlockHeader { header: *header, height: *height };
                    self.world.input(n, input);
                }
            }
        }
    }

    fn attack(&mut self) {
        let w = &mut self.world;
        let bad: Vec<usize> = (0..w.nodes.len()).filter(|n| !w.nodes[*n].honest).collect();
        if !bad.is_empty() {
            let (m, attack) = (self.rng.pick(&bad), self.rng.pick(&self.plan.attacks));
            w.attack(m, attack);
        }
    }

    fn fault(&mut self) {
        let fault = self.rng.pick(&self.plan.faults);
        let n = self.rng.index(self.world.nodes.len());
        let wire = self.rng.index(self.world.wires().len().max(1));
        self.suffer(fault, n, wire);
    }

    /// One fault, at a node or on a wire.
    pub(crate) fn suffer(&mut self, fault: Fault, n: usize, wire: usize) {
        let (w, rng) = (&mut self.world, &mut self.rng);
        let Some(wire) = wire.checked_rem(w.wires().len()) else { return };
        let (line, down) = (w.wires()[wire].line, w.wires()[wire].down);
        let [a, b] = w.wires()[wire].ends;
        match fault {
            Fault::Cut | Fault::Silent if down => w.heal(a, b),
            Fault::Cut => w.cut(a, b, false),
            Fault::Silent => w.cut(a, b, true),
            Fault::Congest => {
                let links = w.links(n);
                if !links.is_empty() {
                    let (link, _) = rng.pick(&links);
                    let full = rng.one_in(2);
                    let lane = rng.pick(&[Lane::Free, Lane::Paid]);
                    w.input(n, Input::Congestion { link, lane, full });
                    let quality = if full { 1024 } else { 256 };
                    w.input(n, Input::LinkMeasured { link, quality });
                }
            }
            Fault::Restart => w.restart(n),
            Fault::Crash => {
                w.nodes[n].armed = Some(rng.pick(&[Crash::BeforeWrite, Crash::AfterWrite]));
            }
            Fault::Clock => {
                let far = [0, 0, 0, 0, -86_400, -60, -5, -1, 0, 1, 5, 60, 400, 86_400, 40_000_000];
                w.set_clock(n, rng.pick(&far));
            }
            Fault::Disk if rng.one_in(6) && !w.nodes[n].disk_broken => w.break_disk(n),
            Fault::Disk if w.nodes[n].disk_broken => w.mend_disk(n),
            Fault::Dial if w.link(a, b).is_some() => {
                // Both ends dial at the same time.
                w.connect(a, b, line);
                w.connect(b, a, line);
            }
            Fault::Leave => match w.nodes[n].off {
                true => w.join(n),
                false => w.leave(n),
            },
            Fault::Idle if self.pauses < 3 && rng.one_in(4) => {
                self.pauses += 1;
                let time = rng.pick(&[5 * SECOND, 30 * SECOND, 100 * SECOND]);
                self.quiet_until = w.now + time;
            }
            _ => {}
        }
    }

    /// Nodes walk about; links come and go with the distance.
    fn wander(&mut self) {
        let nodes = self.topology.nodes;
        let side = (nodes as f64 * std::f64::consts::PI / 9.0).sqrt();
        for _ in 0..nodes.div_ceil(20) {
            let n = self.rng.index(nodes);
            let step = |rng: &mut Rng| (rng.below(1001) as f64 - 500.0) / 1000.0;
            let (x, y) = self.topology.positions[n];
            let at = (
                (x + step(&mut self.rng)).clamp(0.0, side),
                (y + step(&mut self.rng)).clamp(0.0, side),
            );
            self.topology.positions[n] = at;
            if let Some(medium) = &mut self.world.radio {
                medium.place(n, at);
                self.moved.push((self.world.now, n, at));
            }
            self.world.checks.count("moves");
        }
        let links = Topology::in_range(&self.topology.positions, 1.0);
        let before = std::mem::take(&mut self.topology.links);
        self.topology.links = links.into_iter().map(|pair| (pair, [1.0; 2])).collect();
        let line = super::Line { latency: 5 * MILLISECOND, ..super::Line::default() };
        for (a, b) in before.keys().filter(|pair| !self.topology.links.contains_key(*pair)) {
            self.world.cut(*a, *b, self.world.radio.is_some());
        }
        for (a, b) in self.topology.links.keys().filter(|pair| !before.contains_key(*pair)) {
            match self.world.line_between(*a, *b) {
                Some(_) => self.world.heal(*a, *b),
                None => self.world.wire_by(*a, *b, line),
            }
        }
        (self.parts, self.neighbours) = (self.topology.parts(), self.topology.neighbours());
    }
}

impl World {
    /// Funds a coin of 20,000 satoshi that pays the parties of a route; its replay key.
    pub fn fund(&mut self, terms: OwnTerms) -> [u8; 32] {
        let shares = FeeDistribution::new(20_000_000, terms.hops.len()).expect("a route");
        let sat = |msat: u64| msat.div_ceil(1000).max(330);
        let relays = terms.hops.iter().filter_map(|h| self.by_hop.get(h).copied());
        let mut parties: Vec<_> =
            relays.zip(&shares.intermediates).map(|(n, msat)| (self.id(n).0, sat(*msat))).collect();
        parties.push((terms.destination.0, sat(shares.destination)));
        let back = 20_000 - parties.iter().map(|p| p.1).sum::<u64>();
        let coin = self.chain.fund(terms, &parties, back);
        let funded = Funded { terms: coin.terms, amount_msat: 20_000_000, back_msat: back * 1000 };
        self.checks.coins.insert(coin.key, funded);
        coin.key
    }
}
