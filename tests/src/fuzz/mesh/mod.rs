//! A small mesh: bytes are what happens to it. Links come and go, packets are
//! lost, doubled, changed and made up, clocks jump, nodes restart, datagrams are
//! paid for and payments used again. [`node`] checks every step.

pub mod node;
mod world;

use super::Choices;
use crate::payloads::ping;
use crate::rng::Rng;
use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::tables::{Boxed, Heap, Owned};
use blvm_mesh_core::time::SECOND;
use std::hash::Hasher;
use world::World;

/// Nodes in the mesh.
const NODES: usize = 4;
/// Most steps of a run: longer ones find nothing that shorter ones do not.
const MOST_STEPS: usize = 200;

/// First the memory (or both), the mode and whether records are kept, then steps of four bytes; some take bytes behind
/// them.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let how = choices.byte();
    let mode = match how >> 1 & 3 {
        0 | 1 => MeshMode::PaymentGated,
        2 => MeshMode::Open,
        _ => MeshMode::BitcoinOnly,
    };
    let volatile = how & 8 != 0;
    let on_heap = || run::<Heap>(mode, volatile, choices);
    let in_fixed = || run::<Boxed>(mode, volatile, choices);
    let (delivered, _) = match how & 0x11 {
        0 => on_heap(),
        1 => in_fixed(),
        _ => {
            let both = [on_heap(), in_fixed()];
            assert_eq!(both[0], both[1], "I7: both memories do the same");
            both[0]
        }
    };
    delivered > 0
}

/// How much was delivered, and a hash of all that was done.
fn run<M: Owned>(mode: MeshMode, volatile: bool, mut choices: Choices<'_>) -> (usize, u64) {
    let mut world = World::<M>::new(NODES, mode, volatile);
    for _ in 0..MOST_STEPS {
        if choices.is_empty() {
            break;
        }
        step(&mut world, &mut choices);
    }
    world.finish();
    (world.delivered, world.trace.finish())
}

/// Steps of which more lead somewhere than of any bytes: packets arrive, routes are
/// found and paid for.
pub fn likely(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![rng.draw() as u8 & 31];
    for _ in 0..rng.within(20, 150) {
        let what = match rng.below(3) {
            0 => 2,
            1 => rng.pick(&[3, 9, 9, 9, 10, 10, 11, 11, 19, 20]),
            _ => rng.below(21) as u8,
        };
        let who = rng.pick(&[0b1100, 0b0011, 0b1000, 0b0001, 0b0100, 0b1001, 0b0110]);
        let (x, y) = match what {
            3 | 5 | 6 => (rng.below(4) as u8, rng.draw() as u8),
            9 => (rng.draw() as u8, rng.pick(&[0, 8]) | rng.pick(&[0, 0, 0, 1, 2, 3, 4, 5])),
            13 => (rng.below(90) as u8, rng.pick(&[0, 0, 0, 1, 5, 6])),
            20 => (rng.draw() as u8, rng.pick(&[0, 1, 1, 2, 3, 67])),
            _ => (rng.draw() as u8, rng.draw() as u8),
        };
        bytes.extend([what, who, x, y]);
        match what {
            6 => bytes.extend([rng.draw() as u8, 0]),
            18 => bytes.extend(rng.vec(usize::from(y) * 2)),
            _ => {}
        }
    }
    bytes
}

fn step<M: Owned>(world: &mut World<M>, choices: &mut Choices<'_>) {
    let [what, who, x, y] = choices.array();
    let (a, b) = (usize::from(who & 3), usize::from(who >> 2 & 3));
    match what % 21 {
        0 => world.connect(a, b, x & 1 == 0),
        1 => world.cut(usize::from(x), y & 3),
        2 => world.settle(),
        3 => world.deliver(x.into()),
        4 => world.lose(x.into()),
        5 => world.double(x.into()),
        6 => world.change(x.into(), choices.short().into(), y),
        7 => world.send(a, b, ping(x.into()), Vec::new(), y & 1 == 1),
        8 => world.send(a, b, vec![x; y.into()], Vec::new(), true),
        9 => world.pay(a, b, x, y),
        10 => world.pay_again(usize::from(x), a, b, y),
        11 => world.find(a, b),
        12 => world.pass(u64::from(x) << (y & 15)),
        13 => world.pass((u64::from(x) * SECOND) << (y & 7)),
        14 => world.set_clock(a, x, y),
        15 => world.restart(a, x, y & 1 == 1),
        16 => world.disk(a, x & 1 == 1),
        17 => world.congest(usize::from(x), y & 1 == 1),
        18 => {
            let bytes = choices.take(usize::from(y) * 2).to_vec();
            world.make_up(usize::from(x), bytes);
        }
        19 => world.answer(a, x),
        _ => world.pay_by_covenant(a, b, x, y),
    }
}
