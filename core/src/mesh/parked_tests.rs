//! Whose the room is that packets have which wait.

use super::test_world::Outcome;
use super::*;
use crate::id::Network;
use crate::payment::terms::Terms;
use crate::payment::test_covenant::Funded;
use crate::tables::Heap;
use crate::time::SECOND;

type World = super::test_world::World<Heap>;

const NOW: u64 = 1_750_000_000;
const SCRIPT: [u8; 22] = *b"\0\x14a script of twenty b";
const PAYLOAD: [u8; 1000] = [0x77; 1000];
/// For all packets that wait; neighbours have the half of it.
const ROOM: usize = 24_000;

/// Node 1 relays between 0 and 2, and asks its host for each block.
fn line() -> World {
    let mut config = Config::host(Network::Regtest);
    config.timing.keepalive = 0;
    config.payment.covenants_active = true;
    config.payment.payout_script = SCRIPT.into_iter().collect();
    config.capacities.parked_bytes = ROOM;
    let mut w = World::new(3, |_| config.clone());
    (0..3).for_each(|n| drop(w.give(n, Input::WallClock { unix: NOW + 10 })));
    w.wire(0, 1);
    w.wire(1, 2);
    // Until as many questions may be asked as at once.
    w.now += 60 * SECOND;
    w
}

/// Gives node 1 so many packets along a way that each wait for a block; how many do wait,
/// and their bytes.
fn ask(w: &mut World, way: [usize; 3], count: u8) -> (usize, usize) {
    let hops = [w.id(1).hop()];
    let (source, destination, quota) = (w.id(way[0]), w.id(way[2]), PAYLOAD.len() as u64);
    let terms = Terms { network: Network::Regtest, source, destination, hops: &hops, quota };
    let funded = Funded::new(&terms, &[SCRIPT.to_vec(), SCRIPT.to_vec()], 100_000, 1);
    let (mut waiting, before) = (0, w.nodes[1].parked_bytes());
    for n in 0..count {
        let mined = funded.mine([n; 32], NOW as u32);
        let bytes = w.packet(&way, n.into(), &PAYLOAD, &mined.proof);
        let did = w.receive(1, World::link(1, way[0]), bytes);
        match did.last() {
            Some((1, Outcome::Verify(..))) => waiting += 1,
            other => {
                assert_eq!(other, Some(&(1, Outcome::Reject(NetworkReason::TooManyParked.into()))))
            }
        }
    }
    (waiting, w.nodes[1].parked_bytes() - before)
}

#[test]
fn a_neighbour_leaves_others_their_room_for_packets_that_wait() {
    let mut w = line();
    // There are places for many more.
    let (greedy, bytes) = ask(&mut w, [0, 1, 2], 60);
    let share = ROOM / 2 / 2;
    assert!(greedy > 1 && bytes <= share, "{greedy} packets have {bytes} bytes of {share}");
    assert!(bytes + bytes / greedy > share, "{greedy} packets have {bytes} bytes of {share}");
    // The other one asks after that, and has as much.
    assert_eq!(ask(&mut w, [2, 1, 0], 60), (greedy, bytes));
}
