//! What a whole mesh costs and delivers, held to what others published for the same test and
//! to what docs/SIMULATION.md says of large worlds.

use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_tests::rng::Rng;
use blvm_mesh_tests::sim::radio::Modem;
use blvm_mesh_tests::sim::tables::discover;
use blvm_mesh_tests::sim::topology::Topology;
use blvm_mesh_tests::sim::{LinkCode, Plan, World};

/// Time in which others came to 95 %, and their control bytes per second and node.
const OTHERS: [(&str, usize, Option<Micros>, Option<f64>); 3] = [
    ("grid", 49, Some(6 * SECOND), Some(135.0)),
    ("grid", 144, None, Some(338.0)),
    ("line", 50, Some(18 * SECOND), None),
];

#[test]
fn discovery_keeps_to_what_others_published() {
    for (name, nodes, time, bytes) in OTHERS {
        let shape = Topology::shape(name, nodes, &mut Rng::new(1)).expect("a shape");
        let at_once = discover(&shape, 1, 200, SECOND);
        let runs = (1..=4).map(|seed| discover(&shape, seed, 600, 180 * SECOND).control);
        let control = runs.fold([0.0; 3], |sum, c| [0, 1, 2].map(|at| sum[at] + c[at] / 4.0));
        println!("{name} {nodes}: {:?} us, {control:.0?} B/s", at_once.converged);
        assert_eq!(at_once.arrived, at_once.reachable, "{name} {nodes}");
        if let Some(time) = time {
            assert!(at_once.converged.is_some_and(|t| t < time), "{name} {nodes}: {at_once:?}");
        }
        if let Some(bytes) = bytes {
            // In the first minute nobody knows anybody.
            assert!(control[0] < 1.1 * bytes, "{name} {nodes}: {control:?}");
            assert!(control[2] < 0.6 * bytes, "{name} {nodes}: {control:?}");
        }
    }
}

/// What was sent, and what of it arrived.
fn lived(plan: &Plan) -> (u64, u64) {
    let life = plan.live(&mut |_: &World| {}, None).expect("a world");
    (life.world.account.sent, life.world.account.arrived)
}

fn radio(nodes: usize, duration: Micros, gap: Micros) -> Plan {
    let mut plan = Plan::calm(1, nodes, "geometric");
    (plan.radio, plan.duration, plan.traffic_gap) = (Some(Modem::SHORT), duration, gap);
    plan
}

/// All nodes start within half a minute on one channel: their greetings alone fill it, and
/// who gives neighbours up too early and greets them anew fills it for ever.
#[test]
fn a_thousand_radios_that_start_together_find_each_other_and_deliver() {
    let (sent, arrived) = lived(&radio(1000, 600 * SECOND, SECOND));
    println!("1000 radios: {arrived} of {sent} arrived");
    assert!(sent > 500 && arrived * 4 >= sent * 3, "{arrived} of {sent}");
}

#[test]
fn radios_with_little_to_say_deliver_nearly_all() {
    let (mut sent, mut arrived) = (0, 0);
    for seed in 1..=3 {
        let plan = Plan { seed, ..radio(100, 1200 * SECOND, 15 * SECOND) };
        let (s, a) = lived(&plan);
        (sent, arrived) = (sent + s, arrived + a);
    }
    println!("100 radios: {arrived} of {sent} arrived");
    assert!(sent > 150 && arrived * 100 >= sent * 85, "{arrived} of {sent}");
}

/// Nobody is told of neighbours, and nobody sends before it has listened.
#[test]
fn radios_that_find_each_other_on_one_channel_deliver_most() {
    let (mut sent, mut arrived) = (0, 0);
    for seed in 1..=8 {
        let code = LinkCode::Channel;
        let plan = Plan { seed, code, ..radio(20, 600 * SECOND, 5 * SECOND) };
        let (s, a) = lived(&plan);
        (sent, arrived) = (sent + s, arrived + a);
    }
    println!("20 radios on the channel: {arrived} of {sent} arrived");
    assert!(sent > 600 && arrived * 100 >= sent * 80, "{arrived} of {sent}");
}

#[test]
fn a_thousand_wired_nodes_deliver_all() {
    let mut plan = Plan::calm(1, 1000, "random");
    (plan.duration, plan.traffic_gap) = (120 * SECOND, SECOND);
    let (sent, arrived) = lived(&plan);
    assert!(sent > 80 && arrived == sent, "{arrived} of {sent}");
}
