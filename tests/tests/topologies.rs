//! Discovery and delivery on measured topologies, with random pairs of nodes.

use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use blvm_mesh_tests::sim::{Given, World};
use blvm_mesh_tests::topology::{Topology, all};

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
            Given::Send {
                to,
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
