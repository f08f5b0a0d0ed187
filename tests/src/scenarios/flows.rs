//! Small worlds with flows.

use crate::sim::flows::Flow;
use crate::sim::{Wish, World};
use blvm_mesh_core::config::Config;
use blvm_mesh_core::mesh::FlowId;
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// A price at which the first step is the smallest there is.
pub const DEAR: Tariff = Tariff { base_msat: 0, per_kib_msat: 1_000 };

/// A host that sells, buys and takes flows, with small steps and reservations.
pub fn config(w: &World) -> Config {
    let mut c = super::config(w);
    c.max_packet = 4096;
    c.flows.reservation = 16 * 1024;
    c.payment.tariff = DEAR;
    (c.capacities.ends, c.capacities.purchases) = (16, 16);
    c
}

/// Nodes on the heap that take flows, joined by these wires.
pub fn mesh(count: usize, wires: &[(usize, usize)], adjust: impl Fn(usize, &mut Config)) -> World {
    mesh_with(count, wires, adjust, |_| ())
}

/// The same, where something is done before they are joined.
pub fn mesh_with(
    count: usize,
    wires: &[(usize, usize)],
    adjust: impl Fn(usize, &mut Config),
    before: impl FnOnce(&mut World),
) -> World {
    let mut w = World::new(count as u64);
    for n in 0..count {
        let mut c = config(&w);
        adjust(n, &mut c);
        w.add_node(c, true);
    }
    before(&mut w);
    (0..count).for_each(|n| w.take_flows(n));
    wires.iter().for_each(|(a, b)| w.wire(*a, *b, MILLISECOND));
    w.run_for(SECOND);
    w
}

/// The same in a row.
pub fn line(count: usize, adjust: impl Fn(usize, &mut Config)) -> World {
    let wires: Vec<_> = (1..count).map(|n| (n - 1, n)).collect();
    mesh(count, &wires, adjust)
}

/// Lets time pass until all has come, or `most` has passed; whether it has.
pub fn wait(w: &mut World, flow: FlowId, most: Micros) -> bool {
    let end = w.now + most;
    while w.now < end && !w.flows.all[&flow].is_done() {
        w.run_for(100 * MILLISECOND);
    }
    w.flows.all[&flow].is_done()
}

/// Opens a flow and has it done within a time; what is known of it.
pub fn transfer(w: &mut World, from: usize, to: usize, wish: Wish, most: Micros) -> Flow {
    let flow = w.open_flow(from, to, wish).expect("there is room");
    assert!(wait(w, flow, most), "{:?} {:?}", w.flows.all[&flow], w.checks.counts);
    w.flows.all[&flow].clone()
}
