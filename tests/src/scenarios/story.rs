//! A world told step by step: each call gives what the nodes did.

use crate::payments::bank::{Issued, OwnTerms};
use crate::payments::chain::payout_script;
use crate::payments::invoice::Order;
use crate::sim::{Action, BASE_UNIX, Carried, Input, Verdict, World};
use blvm_mesh_core::config::{Allowance, Config, MeshMode};
use blvm_mesh_core::id::{LinkId, Network, NodeId};
use blvm_mesh_core::mesh::Quote;
use blvm_mesh_core::payment::fee::FeeDistribution;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use std::ops::{Deref, DerefMut};

/// True time at the start of every story, in seconds since 1970.
pub const START: u64 = BASE_UNIX;
/// Time in which everything in flight arrives.
const QUIET: Micros = 100 * MILLISECOND;

/// What was done by which node, in order.
pub type Log = Vec<(usize, Action)>;

/// A world whose history is kept.
pub struct Story(World);

impl Deref for Story {
    type Target = World;
    fn deref(&self) -> &World {
        &self.0
    }
}

impl DerefMut for Story {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.0
    }
}

/// A board in these stories: records kept, links that may be silent, one issuer.
fn config(mode: MeshMode, world: &World) -> Config {
    let mut config = Config::board(Network::Regtest, 8192);
    config.mode = mode;
    config.payment.volatile = false;
    // Every attack is checked.
    config.bad_payments = Allowance { rate: u64::MAX, burst: u64::MAX };
    config.timing.keepalive = 0;
    config.payment.issuers.push(world.bank.public_key()).expect("one fits");
    config
}

impl Story {
    /// `count` nodes in a line.
    pub fn line(mode: MeshMode, count: usize, heap: bool) -> Self {
        Self::line_of(mode, count, heap, |_, _| {})
    }

    /// The same, payment gated, with room for so many payments.
    pub fn small(count: usize, payments: usize) -> Self {
        let small = |_: &[u8; 32], c: &mut Config| c.capacities.payments = payments;
        Self::line_of(MeshMode::PaymentGated, count, true, small)
    }

    /// The same, where covenants are active.
    pub fn covenants(count: usize) -> Self {
        Self::line_of(MeshMode::PaymentGated, count, true, |id, c| {
            c.payment.covenants_active = true;
            c.payment.payout_script = payout_script(id).iter().copied().collect();
        })
    }

    fn line_of(
        mode: MeshMode,
        count: usize,
        heap: bool,
        adjust: impl Fn(&[u8; 32], &mut Config),
    ) -> Self {
        let mut story = Self(World::new(count as u64));
        story.history = Some(Vec::new());
        story.carried = Some(Vec::new());
        story.disconnects = false;
        for _ in 0..count {
            let before = config(mode, &story);
            let n = story.add_node(before, heap);
            let (id, mut config) = (story.id(n), story.nodes[n].config.clone());
            adjust(&id.0, &mut config);
            story.configure(n, config);
            if n > 0 {
                story.wire(n - 1, n, MILLISECOND);
            }
        }
        story.run();
        story
    }

    /// What is done while `act` runs.
    fn told(&mut self, act: impl FnOnce(&mut World)) -> Log {
        let from = self.history.as_ref().map_or(0, Vec::len);
        act(self);
        let mut log = self.history.as_ref().map_or(Vec::new(), |h| h[from..].to_vec());
        log.retain(|(_, did)| {
            !matches!(did, Action::Verdict(Verdict::Absorbed) | Action::Wait { .. })
                && did.sent().is_none()
        });
        log
    }

    /// Lets everything in flight arrive.
    pub fn run(&mut self) -> Log {
        self.told(|w| w.run_for(QUIET))
    }

    /// Lets time pass.
    pub fn later(&mut self, by: Micros) -> Log {
        self.told(|w| w.run_for(by))
    }

    /// Gives a packet, as if it came in on a link.
    pub fn receive(&mut self, n: usize, link: LinkId, bytes: &[u8]) -> Log {
        let input = Input::MessageReceived { link, packet: bytes.into() };
        self.told(|w| drop(w.input(n, input)))
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
        let (payload, proof) = (payload.into(), proof.into());
        let input = Input::Send { destination: to, payload, proof, unchecked };
        self.told(|w| drop(w.input(n, input)))
    }

    /// Sends what the node itself may refuse, and lets it arrive.
    pub fn send_and_run(&mut self, n: usize, to: usize, payload: &[u8], proof: &[u8]) -> Log {
        let to = self.id(to);
        let mut log = self.send(n, to, payload, proof, true);
        log.extend(self.run());
        log
    }

    /// Finds a route and says what sending so much on it costs.
    pub fn quote(&mut self, from: usize, to: usize, bytes: u64) -> Quote {
        let to = self.id(to);
        self.input(from, Input::FindRoute { destination: to });
        for _ in 0..20 {
            self.run();
            if let Some(quote) = self.nodes[from].machine.quote(&to, bytes) {
                let FeeDistribution { source, intermediates, destination } = &quote.shares;
                let sum = source + intermediates.iter().sum::<u64>() + destination;
                assert_eq!(sum, quote.amount_msat, "I5: shares sum to the amount");
                return quote;
            }
        }
        panic!("no route from {from}");
    }

    /// An invoice for a payload over a route, signed by the issuer and paid.
    pub fn order(&mut self, from: usize, to: usize, quote: &Quote, bytes: u64) -> Order {
        self.order_at(START, from, to, quote, bytes)
    }

    /// The same, written at a time, in seconds since 1970.
    pub fn order_at(
        &mut self,
        unix: u64,
        from: usize,
        to: usize,
        quote: &Quote,
        bytes: u64,
    ) -> Order {
        let key = self.bank.secret_key();
        let mut order = Order::new(key, quote.terms_hash, quote.amount_msat, unix);
        order.preimage[0] = self.bank.issued.len() as u8;
        let terms = self.terms(from, to, quote, bytes);
        self.paid(&order, terms);
        order
    }

    fn terms(&self, from: usize, to: usize, quote: &Quote, quota: u64) -> OwnTerms {
        OwnTerms {
            network: Network::Regtest,
            source: self.id(from),
            destination: self.id(to),
            hops: quote.hops.to_vec(),
            quota,
        }
    }

    /// A coin that pays for a payload over a route, in a block; the proof.
    pub fn coin(&mut self, from: usize, to: usize, quote: &Quote, bytes: u64) -> Vec<u8> {
        let terms = self.terms(from, to, quote, bytes);
        let key = self.fund(terms);
        let unix = self.unix();
        self.chain.mine(unix);
        self.chain.proof(&key).expect("it is in a block")
    }

    /// The issuer wrote this invoice, and it was paid.
    pub fn paid(&mut self, order: &Order, terms: OwnTerms) {
        let issued = Issued {
            purpose: Default::default(),
            terms,
            amount_msat: order.amount_msat,
            timestamp: order.timestamp,
            expires_at: order.timestamp + order.expiry_s,
            text: order.invoice(),
            preimage: order.preimage,
            paid: true,
        };
        self.bank.issued.insert(order.payment_hash(), issued);
    }

    /// Sets every wall clock, in seconds since 1970.
    pub fn set_clocks(&mut self, unix: u64) -> Log {
        let offset = unix as i64 - self.unix() as i64;
        let nodes = self.nodes.len();
        self.told(|w| (0..nodes).for_each(|n| w.set_clock(n, offset)))
    }

    /// A node loses power and starts again, and its neighbours notice at once.
    pub fn start_again(&mut self, n: usize) -> Log {
        self.told(|w| {
            let offset = w.nodes[n].clock_offset;
            w.restart(n);
            w.set_clock(n, offset);
            // Until both ends have dialed again, also where nobody was told.
            w.run_for(40 * SECOND);
            w.heal_all();
            w.run_for(QUIET);
        })
    }

    /// Packets that arrived, in order.
    pub fn arrivals(&self) -> &[Carried] {
        self.carried.as_deref().unwrap_or_default()
    }
}
