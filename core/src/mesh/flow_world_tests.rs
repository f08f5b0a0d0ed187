//! Flows over two relays that are restarted at any moment, against the truth: what was bought,
//! and what has passed.

use super::flow_tests::{HEADER, LINE, RESERVATION, STEP, TERMS, buy, left, number, open, packet};
use super::lightning_tests::{World, gated};
use crate::time::SECOND;
use crate::wire::flow::{self, OpenTerms};
use crate::wire::header::Kind;
use proptest::prelude::*;
use std::vec::Vec;

/// What the source and the destination do, and what happens to the relays.
#[derive(Debug, Clone)]
enum Step {
    Buy { at: usize },
    Open { new: bool, max_bytes: u64 },
    Data { back: bool, len: usize, times: usize },
    Close { back: bool },
    Restart { relay: usize },
    Later { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1usize..3).prop_map(|at| Step::Buy { at }),
        3 => (any::<bool>(), prop_oneof![Just(u64::MAX), 0u64..100_000])
            .prop_map(|(new, max_bytes)| Step::Open { new, max_bytes }),
        6 => (any::<bool>(), HEADER + 1..8_000, 1usize..30)
            .prop_map(|(back, len, times)| Step::Data { back, len, times }),
        1 => any::<bool>().prop_map(|back| Step::Close { back }),
        1 => (1usize..3).prop_map(|relay| Step::Restart { relay }),
        1 => (1u64..90).prop_map(|seconds| Step::Later { seconds }),
    ]
}

/// What is true of one relay.
#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    bought: u64,
    carried: u64,
    restarts: u64,
}

struct Story {
    w: World,
    truth: [Truth; 4],
    /// Packets of data that came to the source and the destination.
    arrived: usize,
}

impl Story {
    /// Carries packets, and counts what each relay sends on.
    fn run(&mut self) {
        while let Some((n, link, bytes)) = self.w.in_flight.pop_front() {
            let is_data = |bytes: &[u8]| bytes[5] == Kind::Data as u8;
            if n == 0 || n == 3 {
                self.arrived += usize::from(is_data(&bytes));
                continue;
            }
            let (before, counts) = (self.w.in_flight.len(), is_data(&bytes));
            let metered = flow::metered(bytes.len());
            self.w.receive(n, link, bytes);
            let sent = self.w.in_flight.iter().skip(before).filter(|(.., p)| is_data(p)).count();
            assert!(sent <= usize::from(counts), "one packet for one");
            self.truth[n].carried += metered * sent as u64;
        }
    }

    fn take(&mut self, step: &Step, opens: &mut u64, purchases: &mut u8) {
        match *step {
            Step::Buy { at } => {
                // All but the time of a run's tickets is known to the test.
                *purchases += 1;
                let way: Vec<usize> = (0..=at).collect();
                if buy(&mut self.w, &way, *purchases) {
                    self.truth[at].bought += STEP;
                }
            }
            Step::Open { new, max_bytes } => {
                *opens += u64::from(new || *opens == 0);
                let terms = OpenTerms { open_number: *opens, max_bytes, ..TERMS };
                let packet = open(&self.w, &LINE, terms);
                self.w.receive(1, World::link(1, 0), packet);
            }
            Step::Data { back, len, times } => {
                let (n, from) = if back { (2, 3) } else { (1, 0) };
                for _ in 0..times {
                    let body = std::vec![7; len - HEADER];
                    let bytes = packet(Kind::Data, number(&self.w), 2, &body);
                    self.w.in_flight.push_back((n, World::link(n, from), bytes));
                    self.run();
                }
            }
            Step::Close { back } => {
                let (n, from) = if back { (2, 3) } else { (1, 0) };
                let bytes = packet(Kind::Close, number(&self.w), 2, &[]);
                self.w.receive(n, World::link(n, from), bytes);
            }
            Step::Restart { relay } => {
                self.truth[relay].restarts += 1;
                let seed = 10 + self.truth[relay].restarts as u8 * 4 + relay as u8;
                self.w.restart(relay, seed);
                self.w.wire(relay - 1, relay);
                self.w.wire(relay, relay + 1);
            }
            Step::Later { seconds } => {
                self.w.later(seconds * SECOND);
            }
        }
        self.run();
    }

    fn check(&self) {
        for n in [1, 2] {
            let Truth { bought, carried, restarts } = self.truth[n];
            let flows: u64 = self.w.nodes[n].flows().map(|flow| flow.left).sum();
            let kept = left(&self.w, n) + flows;
            // Not a byte that was not bought, and what is lost is a reservation for each crash.
            assert!(carried + kept <= bought, "node {n}: {:?}, {kept} left", self.truth[n]);
            let lost = bought - carried - kept;
            assert!(lost <= RESERVATION * restarts, "node {n}: {lost} lost, {:?}", self.truth[n]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_passes_that_was_not_bought_and_little_is_lost(
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut story = Story { w: gated(4), truth: Default::default(), arrived: 0 };
        let (mut opens, mut purchases) = (0, 0);
        for step in &steps {
            story.take(step, &mut opens, &mut purchases);
            story.check();
        }
    }
}

/// The property above is about something: in an ordinary story data arrive.
#[test]
fn data_arrive_before_and_after_a_restart() {
    let mut story = Story { w: gated(4), truth: Default::default(), arrived: 0 };
    let (mut opens, mut purchases) = (0, 0);
    let data = Step::Data { back: false, len: 1_000, times: 10 };
    let open = Step::Open { new: false, max_bytes: u64::MAX };
    let steps = [
        Step::Buy { at: 1 },
        Step::Buy { at: 2 },
        open.clone(),
        data.clone(),
        Step::Data { back: true, len: 100, times: 5 },
        Step::Restart { relay: 1 },
        data.clone(),
        open,
        data,
    ];
    for step in &steps {
        story.take(step, &mut opens, &mut purchases);
        story.check();
    }
    assert_eq!(story.arrived, 25, "what came before the flow was opened again is refused");
    assert_eq!(story.truth.map(|t| t.carried), [0, 20_500, 20_500, 0]);
}
