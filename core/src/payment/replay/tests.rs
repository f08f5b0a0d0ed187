use super::*;
use crate::tables::Fixed;
use proptest::prelude::*;
use std::collections::BTreeMap;

const WHO: NodeId = NodeId([1; 32]);

fn key(n: u8) -> [u8; 32] {
    [n; 32]
}

fn table<M: Memory>(capacity: usize) -> ReplayPrevention<M> {
    let mut table = ReplayPrevention::EMPTY;
    table.prepare(capacity, [3; 16]);
    table
}

#[test]
fn neither_source_nor_sequence_makes_a_payment_new() {
    let mut r = table::<Fixed>(4);
    r.accept(key(1), 100).unwrap();
    assert_eq!(r.check_replay(&key(1), &WHO, 1), Err(ReplayError::Used));
    assert_eq!(r.check_replay(&key(1), &NodeId([2; 32]), 2), Err(ReplayError::Used));
    assert_eq!(r.check_replay(&key(2), &WHO, 1), Ok(()));
}

#[test]
fn a_full_table_refuses_and_forgets_nothing() {
    let mut r = table::<Fixed>(2);
    r.accept(key(1), 100).unwrap();
    r.accept(key(2), 50).unwrap();
    assert_eq!(r.accept(key(3), 70), Err(ReplayError::TableFull));
    assert_eq!(r.accept(key(1), 70), Err(ReplayError::Used));
    assert_eq!(r.cleanup_expired(49, 9), 0);
    assert_eq!(r.cleanup_expired(50, 9), 1);
    assert_eq!(r.accept(key(3), 70), Ok(()));
    assert_eq!(r.check_replay(&key(1), &WHO, 0), Err(ReplayError::Used));
}

#[test]
fn a_clock_set_back_does_not_revive_what_was_forgotten() {
    let mut r = table::<Fixed>(4);
    r.accept(key(1), 100).unwrap();
    assert_eq!(r.cleanup_expired(5_000, 9), 1);
    assert_eq!(r.accept(key(1), 100), Err(ReplayError::Forgotten { floor: 100 }));
    // What expires later was never here, though the clock had jumped past it.
    assert_eq!(r.accept(key(2), 101), Ok(()));
}

#[test]
fn the_same_packet_comes_again_three_times_a_second_apart() {
    let (packet, other) = (PaidPacket(0xabcd_0000_0000_0001), PaidPacket(1));
    let mut r = table::<Fixed>(4);
    for (n, start) in [(1, 0), (2, 5 * SECOND + 1), (3, 4_500 * 24 * 3600 * SECOND)] {
        let key = [n; 32];
        r.accept_for(key, 100, packet, start).unwrap();
        assert_eq!(r.again(&key, other, start + 9 * SECOND, None), Again::Other);
        assert_eq!(r.again(&key, packet, start, None), Again::Refused);
        assert_eq!(r.again(&key, packet, start + SECOND - 1, None), Again::Refused);
        for n in 1..=3 {
            let now = start + n * (SECOND + SECOND / 8);
            assert_eq!(r.again(&key, packet, now, None), Again::Passes, "{start} {n}");
            assert_eq!(r.again(&key, packet, now + SECOND - 1, None), Again::Refused);
        }
        assert_eq!(r.again(&key, packet, start + 99 * SECOND, None), Again::Refused);
    }
    assert_eq!(r.again(&key(77), packet, 0, None), Again::Other);
    // Where no packet was named none may come again.
    r.accept(key(5), 100).unwrap();
    assert_eq!(r.again(&key(5), PaidPacket::NONE, 9 * SECOND, None), Again::Other);
}

#[test]
fn after_a_restart_it_comes_again_once() {
    let packet = PaidPacket(0xabcd_0000_0000_0001);
    let mut r = table::<Fixed>(4);
    r.restore(key(1), 100, packet.kept()).unwrap();
    assert_eq!(r.again(&key(1), PaidPacket(2), 0, None), Again::Other);
    assert_eq!(r.again(&key(1), packet, 0, None), Again::Passes);
    assert_eq!(r.again(&key(1), packet, 9 * SECOND, None), Again::Refused);
    // A record from before packets were kept.
    r.restore(key(2), 100, PaidPacket::NONE).unwrap();
    assert_eq!(r.again(&key(2), PaidPacket::NONE, 0, None), Again::Other);
}

#[test]
fn where_it_ends_it_passes_only_if_it_came_in_an_earlier_run() {
    let packet = PaidPacket(0xabcd_0000_0000_0001);
    let mut r = table::<Fixed>(4);
    r.accept_for(key(1), 100, packet, 0).unwrap();
    for now in [0, 9 * SECOND, 99 * SECOND, 999 * SECOND] {
        assert_eq!(r.again(&key(1), packet, now, Some(now > 9)), Again::Delivered);
    }
    assert_eq!(r.again(&key(1), PaidPacket::of(7), 9 * SECOND, Some(false)), Again::Other);
    r.restore(key(2), 100, packet.kept()).unwrap();
    assert_eq!(r.again(&key(2), packet, 0, Some(true)), Again::NoRoom);
    assert_eq!(r.again(&key(2), packet, 0, Some(false)), Again::Passes);
    assert_eq!(r.again(&key(2), packet, 9 * SECOND, Some(false)), Again::Delivered);
    // What could not be handed over is, once more.
    r.not_delivered(&key(1));
    assert_eq!(r.again(&key(1), packet, 0, Some(false)), Again::Passes);
    assert_eq!(r.again(&key(1), packet, 9 * SECOND, Some(false)), Again::Delivered);
    r.not_delivered(&key(9));
}

#[test]
fn no_whole_fingerprint_is_taken_for_one_that_was_kept() {
    // The hash has the form of what is kept.
    let packet = PaidPacket::of(0x0000_1234_5678_9abc);
    let mut r = table::<Fixed>(4);
    r.accept_for(key(1), 100, packet, 0).unwrap();
    assert_eq!(r.again(&key(1), packet, 9 * SECOND, Some(false)), Again::Delivered);
    assert_eq!(r.again(&key(1), packet.kept(), 9 * SECOND, None), Again::Other);
}

fn follows_a_model<M: Memory>(steps: &[(u8, u8, bool)]) {
    let mut r = table::<M>(8);
    let (mut model, mut floor) = (BTreeMap::new(), 0u64);
    for &(k, t, cleanup) in steps {
        let t = u64::from(t);
        if cleanup {
            let gone: std::vec::Vec<_> =
                model.iter().filter(|(_, e)| **e <= t).map(|(k, e)| (*k, *e)).collect();
            assert_eq!(r.cleanup_expired(t, usize::MAX), gone.len());
            for (k, e) in gone {
                model.remove(&k);
                floor = floor.max(e);
            }
        } else {
            let fits = !model.contains_key(&k) && t > floor && model.len() < 8;
            assert_eq!(r.accept(key(k), t).is_ok(), fits);
            if fits {
                model.insert(k, t);
            }
        }
        assert_eq!((r.len(), r.floor()), (model.len(), floor));
        assert_eq!(r.next_expiry(), model.values().min().copied());
    }
}

proptest! {
    #[test]
    fn both_memories_follow_the_model(steps in prop::collection::vec((0u8..16, any::<u8>(), any::<bool>()), 0..80)) {
        follows_a_model::<Fixed>(&steps);
        #[cfg(feature = "alloc")]
        follows_a_model::<crate::tables::Heap>(&steps);
    }
}
