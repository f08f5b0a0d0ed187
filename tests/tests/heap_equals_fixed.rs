//! The same inputs give the same actions in either memory, while tables fill up,
//! packets are changed, links break and nodes restart.

use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::mesh::Input;
use blvm_mesh_core::rng::Rng;
use blvm_mesh_core::tables::{Boxed, Heap, Owned};
use blvm_mesh_tests::invoice::Order;
use blvm_mesh_tests::packet::refix;
use blvm_mesh_tests::world::{World, config, issuer};

const NODES: u8 = 12;

/// Lives a seeded life of `steps` steps and gives every action that was taken.
fn life<M: Owned>(seed: u8, steps: u32) -> Vec<String> {
    let mut rng = Rng::new(&[seed; 32], "inputs");
    let mut below = move |n: usize| (rng.u64() % n as u64) as usize;
    let mode = [MeshMode::Open, MeshMode::PaymentGated][usize::from(seed % 2)];
    let mut config = config(mode);
    config.timing.keepalive = 250_000;
    let mut world = World::<M>::new(config, NODES);
    world.trace = Some(Vec::new());
    let nodes = usize::from(NODES);
    let mut last_paid = None;
    // A hub with more neighbours than fit, and a ring.
    for n in 1..nodes {
        world.wire(0, n);
        world.wire(n, 1 + n % (nodes - 1));
    }
    for step in 0..steps {
        let (a, b) = (below(nodes), below(nodes));
        let payload: Vec<u8> = (0..below(600)).map(|_| below(256) as u8).collect();
        let (from, to) = (world.id(a), world.id(b));
        match below(16) {
            0..=3 => drop(world.send(a, to, &payload, &[], step % 2 == 0)),
            4..=6 => {
                let Some(quote) = world.nodes[a].mesh.quote(&to, payload.len() as u64) else {
                    world.event(a, Input::FindRoute { destination: to });
                    continue;
                };
                let mut order =
                    Order::new(issuer(), quote.terms_hash, quote.amount_msat, world.unix);
                order.expiry_s = 1 + below(7200) as u64;
                let mut proof = order.proof();
                if below(4) == 0 {
                    let at = below(proof.len());
                    proof[at] ^= 1 << below(8);
                }
                world.send(a, to, &payload, &proof, step % 2 == 0);
                last_paid = Some((a, to, payload, proof));
            }
            7..=9 if !world.carried.is_empty() => {
                let mut packet = world.carried[below(world.carried.len())].clone();
                for _ in 0..below(3) {
                    let at = below(packet.bytes.len());
                    packet.bytes[at] ^= 1 << below(8);
                }
                if below(8) != 0 {
                    refix(&mut packet.bytes);
                }
                world.receive(packet.to, packet.link, &packet.bytes);
            }
            10 if a != b => drop(world.cut(a, b)),
            11 if a != b => drop(world.wire(a, b)),
            12 => {
                if let Some(link) = world.link(a, b) {
                    world.event(a, Input::Congestion { link, full: below(2) == 0 });
                }
            }
            13 => match below(8) {
                0 => drop(world.restart(a)),
                1 => {
                    let unix = world.unix - 3600 + below(9000) as u64;
                    world.set_clock(unix);
                }
                2 if step > steps * 9 / 10 => drop(world.event(a, Input::StoreFailed)),
                _ => drop(world.event(a, Input::FindRoute { destination: from })),
            },
            14 => {
                if let Some((payer, to, payload, proof)) = &last_paid {
                    world.send(*payer, *to, payload, proof, step % 2 == 0);
                }
            }
            _ => drop(world.later(below(400_000) as u64)),
        }
        if below(4) != 0 {
            world.run();
        }
    }
    let most = world.nodes.iter().map(|n| n.mesh.table().neighbours.len()).max();
    assert!(most > Some(2), "the world is alive: {most:?}");
    world.trace.unwrap_or_default()
}

#[test]
fn heap_and_fixed_memory_act_alike() {
    let mut seen = String::new();
    for seed in 1..=6 {
        let (fixed, heap) = (life::<Boxed>(seed, 600), life::<Heap>(seed, 600));
        if let Some(at) = fixed.iter().zip(&heap).position(|(f, h)| f != h) {
            panic!("seed {seed}, action {at}:\nfixed {}\nheap  {}", fixed[at], heap[at]);
        }
        assert_eq!(fixed.len(), heap.len());
        seen.extend(fixed);
    }
    // What was compared is a full life.
    for action in [
        "Deliver {",
        "Persist {",
        "Parked {",
        "Resume {",
        "Close {",
        "RouteDiscovered",
        "DeliveryFailed",
        "TooManyNeighbours",
        "ReplayDetected",
        "PaymentVerified {",
        "Floor(",
    ] {
        assert!(seen.contains(action), "no {action}");
    }
}
