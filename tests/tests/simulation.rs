//! Many worlds, each from one seed. `MESH_SEED=n` lives one of them only.

use blvm_mesh_core::time::SECOND;
use blvm_mesh_tests::sim::hunt::{attempt, compare, shrink};
use blvm_mesh_tests::sim::radio::Modem;
use blvm_mesh_tests::sim::topology::SHAPES;
use blvm_mesh_tests::sim::{Fault, LinkCode, Machine, Plan, Report};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|s| s.parse().ok())
}

fn world(plan: &Plan) -> Report {
    attempt(plan, &mut |_| {}).unwrap_or_else(|failure| {
        eprintln!("{failure}");
        panic!("the smallest world in which it fails:\n{}", shrink(failure, 200))
    })
}

/// What must happen in so many worlds, or they show little.
const HAPPENS: &[&str] = &[
    "attacks",
    "bursts",
    "crashes between two writes",
    "delivered",
    "delivered with pay",
    "doubled on a wire",
    "floors",
    "found",
    "free in the liveness phase",
    "half-open handshakes",
    "handshakes",
    "handshakes that took too long",
    "links that failed",
    "lost in a full queue",
    "lost on a wire",
    "meddled with",
    "moves",
    "not found",
    "not payable in the liveness phase",
    "overtaken on a wire",
    "paid by covenant",
    "paid in the liveness phase",
    "relayed for a payment",
    "relayed free",
    "reorganisations",
    "restarts",
    "receipts believed",
    "receipts that are true",
    "rightly refused in the liveness phase",
    "swallowed",
    "tampered with on a wire",
    "through a wormhole",
    "FlowEnded(Budget",
    "FlowEnded(By",
    "FlowEnded(NoRoute",
    "FlowEnded(NotBought",
    "FlowEnded(Refused",
    "FlowEnded(Restarted",
    "embezzled",
    "flow budgets spent",
    "flows accepted",
    "flows done",
    "flows in the liveness phase",
    "flows interrupted",
    "flows of liars accepted",
    "flows opened",
    "invoices paid",
    "invoices wanted",
    "opens passed on",
    "paid data passed on",
    "NetworkError(Congested",
    "NetworkError(NoFlows",
    "NetworkError(OtherLinkKept",
    "NetworkError(QuotaExceeded",
    "NetworkError(TooManyNeighbours",
    "NetworkError(TooManyParked",
    "PaymentVerificationFailed(AmountTooSmall",
    "PaymentVerificationFailed(BeforeStart",
    "PaymentVerificationFailed(Lightning(Expired",
    "PaymentVerificationFailed(Lightning(InvalidSignature",
    "PaymentVerificationFailed(Lightning(LifetimeTooLong",
    "PaymentVerificationFailed(Lightning(NotYetValid",
    "PaymentVerificationFailed(Lightning(PreimageMismatch",
    "PaymentVerificationFailed(Lightning(UnknownIssuer",
    "PaymentVerificationFailed(Malformed",
    "PaymentVerificationFailed(ModeRefused(BitcoinOnly",
    "PaymentVerificationFailed(SourceKey",
    "PaymentVerificationFailed(SourceSignature",
    "PaymentVerificationFailed(StoreFailed",
    "PaymentVerificationFailed(TooManyBad",
    "ReplayDetected(Forgotten",
    "ReplayDetected(TableFull",
    "ReplayDetected(Used",
    "RoutingError(Duplicate",
    "RoutingError(KnownRequest",
    "RoutingError(Loop",
    "RoutingError(NextHopGone",
    "RoutingError(NotOurTurn",
    "RoutingError(TooManySearches",
    "RoutingError(Unsolicited",
    "RoutingError(WrongNeighbour",
];

#[test]
fn worlds() {
    if let Some(seed) = number("MESH_SEED") {
        println!("{:#?}", world(&Plan::drawn(seed)).counts);
        return;
    }
    let count = number("MESH_WORLDS").unwrap_or(200);
    let mut counts = BTreeMap::new();
    for seed in 1..=count {
        for (what, n) in world(&Plan::drawn(seed)).counts {
            *counts.entry(what).or_insert(0) += n;
        }
    }
    println!("{counts:#?}");
    let missing: Vec<_> = HAPPENS.iter().filter(|w| !counts.contains_key(**w)).collect();
    assert!(count < 200 || missing.is_empty(), "in {count} worlds nothing of {missing:?}");
}

/// Worlds that nobody has seen before, `MESH_FRESH` of them. Their seeds are printed.
#[test]
fn fresh_worlds() {
    let count = number("MESH_FRESH").unwrap_or(5);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = now.as_secs() * 1000;
    // Told whether it fails or not, past what the harness captures.
    let told = writeln!(std::io::stderr(), "fresh seeds {first} to {}", first + count - 1);
    told.expect("somebody reads it");
    for seed in first..first + count {
        world(&Plan::drawn(seed));
    }
    compare(&Plan::drawn(first)).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A shape, a medium, and every trouble, in worlds larger than those drawn.
#[test]
fn scenarios() {
    for shape in SHAPES {
        for radio in [false, true] {
            let mut plan = Plan::calm(1, 40, shape);
            plan.duration = 20 * SECOND;
            plan.traffic_gap = 500_000;
            plan.radio = radio.then_some(Modem::SHORT);
            let calm = world(&plan);
            if !radio {
                // A line is longer than a route.
                let all = calm.summary["delivery_ratio"].as_f64() > Some(0.9);
                assert!(all || shape == "line" || shape == "moving", "{shape}: {}", calm.summary);
            }
            plan.faults = Fault::ALL.to_vec();
            (plan.adversaries, plan.covenants) = (4, true);
            plan.code = if radio { LinkCode::Datagrams } else { LinkCode::Stream };
            let troubled = world(&plan);
            assert_ne!(calm.trace, troubled.trace);
            assert_eq!(calm.summary["shares_sum_to_paid"], true);
        }
    }
}

/// I7: across runs and memories; across builds, compare what this prints.
#[test]
fn same_seed_same_trace() {
    let mut all = String::new();
    for seed in 1000..1012 {
        let plan = |heap| Plan { heap: Some(heap), ..Plan::drawn(seed) };
        let [heap, again, fixed] = [true, true, false].map(|heap| world(&plan(heap)));
        assert_eq!(heap.trace, again.trace, "seed {seed}: two runs");
        assert_eq!(heap.trace, fixed.trace, "seed {seed}: heap and fixed memory");
        assert_ne!(world(&Plan::drawn(seed + 1000)).trace, heap.trace);
        all += &format!("{:08x}", heap.trace as u32);
    }
    println!("trace of seeds 1000 to 1011: {all}");
    if let Ok(other) = std::env::var("MESH_TRACE") {
        assert_eq!(all, other, "not as in the other build");
    }
}

/// One recorded sequence of inputs through both memories, action by action.
#[test]
fn recorded_inputs_have_the_same_actions_in_either_memory() {
    let mut inputs = 0;
    for seed in 2000..2010 {
        let plan = Plan { record: true, ..Plan::drawn(seed) };
        let life = plan.live(&mut |_| {}, None).expect("a world");
        for (n, node) in life.world.nodes.iter().enumerate() {
            // What applications write to streams is no input, and boards have no ends of flows.
            if node.config.capacities.ends > 0 {
                continue;
            }
            let new = |heap| Machine::new(heap, node.config.clone(), node.key, node.seed);
            let (mut heap, mut fixed) = (new(true), new(false));
            let recorded = node.record.as_ref().expect("it was recorded");
            for (at, input) in recorded {
                let steps = [&mut heap, &mut fixed].map(|m| m.step(*at, input, false).unwrap());
                assert_eq!(steps[0], steps[1], "seed {seed}, node {n}, {input:?}");
                inputs += 1;
            }
        }
    }
    println!("{inputs} inputs");
    assert!(inputs > 5_000);
}

/// What `--json` prints, but for what depends on the machine.
#[test]
fn the_summary_has_every_number_and_they_agree() {
    let mut plan = Plan::calm(3, 12, "grid");
    plan.traffic_gap = SECOND / 5;
    (plan.adversaries, plan.duration) = (2, 20 * SECOND);
    let s = world(&plan).summary;
    let number = |key: &str| s[key].as_f64().unwrap_or_else(|| panic!("{key}: {s:#}"));
    for key in ["events", "inputs", "control_bytes_per_node_second", "data_bytes_per_node_second"] {
        assert!(number(key) > 0.0, "{key}: {s:#}");
    }
    assert_eq!(number("delivery_ratio"), number("arrived") / number("sent"));
    for key in ["latency_ms", "links_crossed", "discovery_ms"] {
        let at = ["p5", "p50", "p95", "p99", "max"].map(|p| s[key][p].as_f64().expect(key));
        assert!(at[0] > 0.0 && at.is_sorted(), "{key}: {at:?}");
    }
    let earned: Vec<u64> =
        s["earned_msat"].as_array().unwrap().iter().flat_map(|n| n.as_u64()).collect();
    let sum = earned.iter().sum::<u64>() as f64;
    assert_eq!((earned.len(), number("earned_sum_msat")), (12, sum));
    assert_eq!(number("paid_msat"), number("shares_msat"));
    assert_eq!(sum, number("shares_msat") + number("shares_of_undelivered_msat"));
    assert!(number("paid_msat") > 0.0 && number("payments_accepted") > 0.0);
    assert_eq!(s["shares_sum_to_paid"], true);
    let refused = s["payments_refused"].as_object().unwrap();
    assert!(refused.contains_key("Used"), "{refused:?}");
    assert!(s["peak_tables"]["routes"].as_u64() > Some(0));
    assert_eq!(s["trace"].as_str().map(str::len), Some(32));
}
