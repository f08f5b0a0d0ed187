//! A small mesh in the simulator: bytes are what happens to it. All invariants are
//! checked after every step, and what waits must come to an end.

use super::Choices;
use crate::packets::edit::refix;
use crate::rng::Rng;
use crate::sim::live::Life;
use crate::sim::{Attack, Fault, Input, Line, LinkCode, Path, Plan};
use blvm_mesh_core::time::{MILLISECOND, SECOND};

/// Nodes in the mesh.
const NODES: usize = 4;
/// Most steps of a run: longer ones find nothing that shorter ones do not.
const MOST_STEPS: usize = 200;
/// Kinds of steps.
const KINDS: u8 = 13;

/// First the memory (or both) and what the mesh is like, then a seed for what is
/// left open, then steps of four bytes; some take bytes behind them.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let [how, shape, seed] = choices.array();
    let mut plan =
        Plan::calm(seed.into(), NODES, ["line", "ring", "star", "random"][shape as usize & 3]);
    // Tables that fit in fixed memory.
    plan.varied = true;
    plan.covenants = how & 8 != 0;
    plan.code = match (how & 16 != 0, shape & 16 != 0) {
        (true, _) => LinkCode::Stream,
        (_, true) => LinkCode::Datagrams,
        _ => LinkCode::Packets,
    };
    plan.adversaries = usize::from(how >> 5 & 3).min(2);
    plan.faults = Fault::ALL.into_iter().filter(|f| *f != Fault::Drift || how & 128 != 0).collect();
    plan.keepalive_ms = [0, 500, 5000, 60_000][shape as usize >> 2 & 3];
    plan.lifetime = if how & 4 != 0 { 20 } else { 300 };
    plan.watch = 1;
    let mut run = |heap| {
        plan.heap = Some(heap);
        live(&plan, choices)
    };
    match how & 3 {
        0 => run(true).0,
        1 => run(false).0,
        _ => {
            let both = [run(true), run(false)];
            assert_eq!(both[0], both[1], "I7: both memories do the same");
            both[0].0
        }
    }
}

/// Whether anything was delivered, and the hash of all that was done.
fn live(plan: &Plan, mut choices: Choices<'_>) -> (bool, u128) {
    let mut life = Life::new(plan).expect("a world");
    life.world.run_for(SECOND);
    for _ in 0..MOST_STEPS {
        if choices.is_empty() {
            break;
        }
        step(&mut life, &mut choices);
    }
    life.mend();
    let w = &mut life.world;
    w.run_for(40 * SECOND);
    w.heal_all();
    w.run_for(60 * SECOND);
    for (n, node) in w.nodes.iter().enumerate() {
        let waits = crate::either!(&node.machine, m => m.parked() + m.searches());
        assert_eq!(waits, 0, "I10: what waits at node {n} has no end");
    }
    (w.account.delivered.iter().any(|n| *n > 0), w.trace.hash())
}

fn step(life: &mut Life<'_>, choices: &mut Choices<'_>) {
    let [what, who, x, y] = choices.array();
    let (a, b) = (usize::from(who & 3), usize::from(who >> 2 & 3));
    let adversary = (0..NODES).map(|n| (n + a) % NODES).find(|n| !life.world.nodes[*n].honest);
    // What a step leaves open is drawn anew for it.
    life.rng = Rng::new(u64::from_le_bytes([what, who, x, y, 0, 0, 0, 0]));
    life.world.rng = life.rng.fork("world");
    let w = &mut life.world;
    match what % KINDS {
        0 => w.run_for((u64::from(x) * MILLISECOND) << (y & 7)),
        1 | 2 => drop(life.send_free(a, b)),
        3 if x & 1 == 0 => drop(w.input(a, Input::FindRoute { destination: w.id(b) })),
        3 => drop(w.input(a, Input::FindAccepted { destination: w.id(b) })),
        4 | 5 if a != b => drop(life.pay_for(a, b)),
        6 => life.suffer(Fault::ALL[usize::from(x) % Fault::ALL.len()], a, y.into()),
        7 => {
            if let Some(adversary) = adversary {
                w.attack(adversary, Attack::ALL[usize::from(x) % Attack::ALL.len()]);
            }
        }
        8 => life.block(),
        9 => life.fulfil(),
        10 => pay_again(life, a, x),
        11 => {
            let bytes = choices.take(usize::from(y) * 2).to_vec();
            if let Some(adversary) = adversary {
                make_up(life, adversary, x.into(), bytes);
            }
        }
        _ => w.change_lines(|line| {
            let ppm = |bits: u8| u32::from(bits & 3) * 100_000;
            let (latency, jitter, code) = (line.latency, line.jitter, line.code);
            *line = Line { latency, jitter, code, ..Line::default() };
            if code != LinkCode::Stream {
                line.loss_ppm = [ppm(x), ppm(x >> 2)];
                (line.reorder_ppm, line.duplicate_ppm) = (ppm(x >> 4), ppm(x >> 6));
                (line.bandwidth, line.queue) = (u64::from(y) << 12, 4_000);
            }
        }),
    }
}

/// A payment that was made before is used once more, unchecked.
fn pay_again(life: &mut Life<'_>, n: usize, which: u8) {
    let w = &mut life.world;
    let made: Vec<_> = w.bank.issued.iter().filter(|(_, i)| i.paid).map(|(key, _)| *key).collect();
    let Some(key) = made.get(usize::from(which) % made.len().max(1)) else { return };
    let proof = w.bank.genuine(key).expect("it was issued");
    let terms = &w.bank.issued[key].terms;
    let (to, payload) = (terms.destination, vec![which; terms.quota as usize].into());
    w.input(n, Input::Send { destination: to, payload, proof: proof.into(), unchecked: true });
}

/// An adversary sends bytes as a packet.
fn make_up(life: &mut Life<'_>, adversary: usize, which: usize, mut bytes: Vec<u8>) {
    let links = life.world.links(adversary);
    let Some((link, _)) = links.get(which % links.len().max(1)) else { return };
    if let Some(start) = bytes.first_chunk_mut() {
        *start = *b"MESH\x01";
    }
    refix(&mut bytes);
    life.world.transmit(*link, bytes.into(), Path::default().then(adversary));
}
