//! Discovery and delivery on measured topologies, with random pairs of nodes.

use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use blvm_mesh_tests::rng::Rng;
use blvm_mesh_tests::sim::topology::{Topology, all};
use blvm_mesh_tests::sim::{Input, Plan, World};
use std::collections::BTreeMap;
use std::path::Path;

const PAIRS: usize = 20;

/// Packets of the mesh itself per node, and how many of the pairs were served.
fn run(topology: &Topology) -> (f64, usize, usize) {
    let mut w = World::new(7);
    w.watch = 0;
    for _ in 0..topology.nodes {
        let mut c = Config::host(Network::Regtest);
        c.mode = MeshMode::Open;
        c.timing.keepalive = 0;
        w.add_node(c, true);
    }
    for (a, b) in topology.links.keys() {
        w.wire(*a, *b, 5 * MILLISECOND);
    }
    w.run_for(SECOND);
    let parts = topology.parts();
    let before: u64 = w.nodes.iter().map(|n| n.control_sent).sum();
    let (mut arrived, mut asked) = (0, 0);
    while asked < PAIRS {
        let (a, b) = (w.rng.index(topology.nodes), w.rng.index(topology.nodes));
        if a == b || parts[a] != parts[b] {
            continue;
        }
        let payload = w.rng.vec(100);
        let to = w.id(b);
        w.input(
            a,
            Input::Send {
                destination: to,
                payload: payload[..].into(),
                proof: (&[][..]).into(),
                unchecked: false,
            },
        );
        w.run_for(4 * SECOND);
        asked += 1;
        arrived += usize::from(w.arrived(a, b, &payload));
    }
    let after: u64 = w.nodes.iter().map(|n| n.control_sent).sum();
    ((after - before) as f64 / topology.nodes as f64, arrived, asked)
}

#[test]
fn discovery_and_delivery_on_measured_topologies() {
    for topology in all() {
        let (control, arrived, asked) = run(&topology);
        println!(
            "{:28} {:3} nodes {:4} links: {arrived}/{asked} arrived, {:6.1} control packets per node, {:5.2} per node and search",
            topology.name,
            topology.nodes,
            topology.links.len(),
            control,
            control / asked as f64,
        );
        assert_eq!(arrived, asked, "{}", topology.name);
    }
}

/// A community network: gateways of 305, 172, 128 and 86 neighbours in a ring, and some
/// neighbours that see each other too.
fn hubs() -> Topology {
    let (neighbours, mut nodes, mut links) = ([305, 172, 128, 86], 4, BTreeMap::new());
    let mut rng = Rng::new(25);
    for (hub, count) in neighbours.into_iter().enumerate() {
        links.insert((hub.min((hub + 1) % 4), hub.max((hub + 1) % 4)), [1.0; 2]);
        for leaf in nodes..nodes + count - 2 {
            links.insert((hub, leaf), [1.0; 2]);
            if leaf > nodes && rng.one_in(4) {
                links.insert((leaf - 1, leaf), [1.0; 2]);
            }
        }
        nodes += count - 2;
    }
    let shape =
        Topology { nodes, links, ..Topology::shape("line", nodes, &mut rng).expect("a shape") };
    let degrees: Vec<usize> = shape.neighbours()[..4].iter().map(Vec::len).collect();
    assert_eq!(degrees, neighbours);
    shape
}

/// A host takes 1,024 neighbours, and so does one in a plan: with 64 places a hub of 305
/// left three of four without a link.
#[test]
fn hubs_of_hundreds_of_neighbours_serve_all_of_them() {
    let shape = hubs();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hubs.json");
    let links: Vec<_> = shape.links.keys().collect();
    let text = serde_json::json!({ "nodes": shape.nodes, "links": links }).to_string();
    std::fs::write(&file, text).expect("a file");
    let mut plan = Plan::calm(1, shape.nodes, file.to_str().expect("a name"));
    (plan.duration, plan.traffic_gap) = (30 * SECOND, 200 * MILLISECOND);
    let life = plan.live(&mut |_| {}, None).expect("a world");
    let known = |n: usize| {
        let node = &life.world.nodes[n];
        blvm_mesh_tests::either!(&node.machine, m => m.table().neighbours.len())
    };
    let (sent, arrived) = (life.world.account.sent, life.world.account.arrived);
    println!("{} nodes: {arrived} of {sent} arrived", shape.nodes);
    assert_eq!([0, 1, 2, 3].map(known), [305, 172, 128, 86]);
    assert!(sent > 80 && arrived == sent, "{arrived} of {sent}");
}
