//! No bytes bring a node down: whatever comes in gets one verdict, and what is
//! refused leaves routes, payments and waiting packets as they were.

use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::mesh::MeshError;
use blvm_mesh_core::wire::{HEADER_LEN, Kind};
use blvm_mesh_tests::either;
use blvm_mesh_tests::packets::edit::refix;
use blvm_mesh_tests::scenarios::story::Story;
use blvm_mesh_tests::sim::{Action, Carried, Verdict};
use proptest::prelude::*;
use proptest::sample::Index;

/// A change to a packet.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Grow(Vec<u8>),
    Kind(u8),
}

impl Change {
    fn apply(&self, packet: &mut Vec<u8>) {
        if packet.is_empty() {
            return;
        }
        let len = packet.len();
        match self {
            Self::Flip(at, bit) => packet[at.index(len)] ^= 1 << (bit % 8),
            Self::Set(at, byte) => packet[at.index(len)] = *byte,
            Self::Cut(at) => packet.truncate(at.index(len)),
            Self::Grow(more) => packet.extend(more),
            Self::Kind(kind) => {
                if let Some(byte) = packet.get_mut(5) {
                    *byte = *kind;
                }
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..64).prop_map(Change::Grow),
        1 => (0u8..=10).prop_map(Change::Kind),
    ]
}

/// Three nodes in a line and real packets of every kind that came in anywhere.
fn trafficked(heap: bool) -> (Story, Vec<Carried>) {
    let mut world = Story::line(MeshMode::PaymentGated, 3, heap);
    let quote = world.quote(0, 2, 4);
    let order = world.order(0, 2, &quote, 4);
    world.send_and_run(0, 2, b"free", &[]);
    world.send_and_run(0, 2, b"paid", &order.proof());
    let kinds: std::collections::BTreeSet<u8> =
        world.arrivals().iter().map(|c| c.bytes[5]).collect();
    let all = [Kind::Datagram, Kind::RouteRequest, Kind::RouteReply, Kind::RouteError, Kind::Hello];
    assert!(all.iter().all(|kind| kinds.contains(&(*kind as u8))), "{kinds:?}");
    let packets = world.arrivals().to_vec();
    (world, packets)
}

/// What a refused packet must not change: it is allowed to change no route but
/// by a route error, and that is no refusal.
fn tables(world: &Story, n: usize) -> (String, usize, usize, usize) {
    let node = &world.nodes[n];
    let (routes, payments, parked) = either!(&node.machine, m => (
        format!("{:?}", m.table().routes().collect::<Vec<_>>()),
        m.live_payments(),
        m.parked(),
    ));
    (routes, payments, parked, node.disk.len())
}

/// Gives a packet; the world asserts that there is one verdict. Returns whether
/// it was refused.
fn give(world: &mut Story, n: usize, packet: &Carried) -> Option<MeshError> {
    let before = tables(world, n);
    let log = world.receive(n, packet.link, &packet.bytes);
    let refused = log.iter().find_map(|(_, did)| match did {
        Action::Verdict(Verdict::Reject { reason, .. }) | Action::Drop { reason, .. } => {
            Some(*reason)
        }
        _ => None,
    });
    if let Some(reason) = refused {
        let after = tables(world, n);
        assert_eq!(before, after, "refused: {reason}");
        assert!(!reason.to_string().is_empty());
    }
    refused
}

fn survives(heap: bool, arbitrary: &[Vec<u8>], mutated: &[(Index, Vec<Change>, bool)]) {
    let (mut world, packets) = trafficked(heap);
    let relay = world.link(1, 0).expect("wired");
    for bytes in arbitrary {
        let mut fixed = bytes.clone();
        if fixed.len() >= HEADER_LEN {
            fixed[..5].copy_from_slice(b"MESH\x01");
            fixed[5] = 1 + fixed[5] % 9;
            refix(&mut fixed);
        }
        let raw = Carried { to: 1, link: relay, bytes: bytes[..].into() };
        // Bytes that are no packet are refused always.
        assert!(give(&mut world, 1, &raw).is_some() || bytes.starts_with(b"MESH"));
        give(&mut world, 1, &Carried { bytes: fixed.into(), ..raw });
    }
    for (which, changes, fix) in mutated {
        let Carried { to, link, bytes } = which.get(&packets).clone();
        let mut bytes = bytes.to_vec();
        for change in changes {
            change.apply(&mut bytes);
        }
        if *fix {
            refix(&mut bytes);
        }
        give(&mut world, to, &Carried { to, link, bytes: bytes.into() });
    }
    world.run();
    // The node still works.
    world.later(10_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_get_one_verdict(
        arbitrary in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..24),
        mutated in prop::collection::vec(
            (any::<Index>(), prop::collection::vec(change(), 0..4), prop::bool::weighted(0.9)),
            0..48,
        ),
    ) {
        survives(false, &arbitrary, &mutated);
        survives(true, &arbitrary, &mutated);
    }
}
