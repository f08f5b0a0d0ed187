//! A small mesh: bytes are what happens to it. Links come and go, packets are
//! lost, doubled, changed and made up, clocks jump, nodes restart, datagrams are
//! paid for and payments used again. [`node`] checks every step.

pub mod node;
mod world;

use super::Choices;
use crate::payloads::ping;
use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::tables::{Boxed, Heap, Owned};
use blvm_mesh_core::time::SECOND;
use world::World;

/// Nodes in the mesh.
const NODES: usize = 4;
/// Most steps of a run: longer ones find nothing that shorter ones do not.
const MOST_STEPS: usize = 200;

/// First the memory, the mode and whether records are kept, then steps of four bytes; some take bytes behind
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
    match how & 1 {
        0 => run::<Heap>(mode, volatile, choices),
        _ => run::<Boxed>(mode, volatile, choices),
    }
}

/// Whether anything was delivered.
fn run<M: Owned>(mode: MeshMode, volatile: bool, mut choices: Choices<'_>) -> bool {
    let mut world = World::<M>::new(NODES, mode, volatile);
    for _ in 0..MOST_STEPS {
        if choices.is_empty() {
            break;
        }
        step(&mut world, &mut choices);
    }
    world.finish();
    world.delivered > 0
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
