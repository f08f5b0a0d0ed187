//! Queues, their bounds, and what goes into frames.

use super::egress::*;
use super::memory::{Budget, Share};
use blvm_mesh_core::link::joiner::{Joiner, Packet};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::link::transport::{FRAME_OVERHEAD, HEADER_LEN};
use blvm_mesh_core::mesh::Priority;

const LIMITS: EgressLimits = EgressLimits { high: 1000, low: 200, control: 100, max_packet: 500 };

fn egress(limits: EgressLimits) -> Egress {
    Egress::new(limits, Share::new(Budget::new(1 << 30), true))
}

fn drain(egress: &Egress, max_body: u16) -> (Vec<Vec<u8>>, Vec<Lane>) {
    let mut joiner = Joiner::new(100_000, 1_000, Growable::new(0), Growable::new(0));
    let (mut out, mut frames) = (vec![0; 200_000], Vec::new());
    let (mut got, mut room) = (Vec::new(), Vec::new());
    loop {
        room.extend(egress.fill(&mut out, max_body, &mut frames).lanes());
        if frames.is_empty() {
            return (got, room);
        }
        let mut at = 0;
        for len in &frames {
            let body = at + HEADER_LEN..at + len - FRAME_OVERHEAD + HEADER_LEN;
            let mut records = joiner.records(0, &mut out[body]).unwrap();
            while let Some(Packet { bytes, .. }) = records.next().unwrap() {
                got.push(bytes.to_vec());
            }
            at += len;
        }
    }
}

#[test]
fn bounds_are_held_and_room_is_told_once() {
    let egress = egress(LIMITS);
    assert_eq!(egress.push(Priority::Free, &[1; 499], &[1]), Pushed::Queued);
    assert_eq!(egress.push(Priority::Free, &[2; 499], &[]), Pushed::Queued);
    assert_eq!(egress.push(Priority::Free, &[3; 500], &[]), Pushed::Full);
    // One largest packet over the mark is the most.
    assert_eq!(egress.push(Priority::Free, &[4; 2], &[]), Pushed::Refused);
    // Whatever waits free, paid packets and control packets have their room.
    assert_eq!(egress.push(Priority::Paid, &[5; 999], &[]), Pushed::Queued);
    assert_eq!(egress.push(Priority::Control, &[6; 100], &[]), Pushed::Queued);
    assert_eq!(egress.push(Priority::Control, &[7; 2], &[]), Pushed::Refused);
    let (got, room) = drain(&egress, u16::MAX);
    assert_eq!(room, [Lane::Free]);
    let first: Vec<u8> = got.iter().map(|p| p[0]).collect();
    assert_eq!(first, [6, 5, 1, 2, 3]);
    assert_eq!(egress.sent(), Sent { packets: 5, bytes: 2598, waiting: 0 });
    assert_eq!(drain(&egress, u16::MAX).1, []);
}

#[test]
fn room_that_is_kept_for_paid_packets_fills_their_lane_only() {
    let egress = egress(LIMITS);
    assert_eq!(egress.reserve(1000), Pushed::Full);
    assert_eq!(egress.reserve(501), Pushed::Refused);
    assert_eq!(egress.push(Priority::Free, &[1; 500], &[]), Pushed::Queued);
    assert_eq!(egress.give_back(200).lanes().count(), 0);
    assert_eq!(egress.push_reserved(&[2; 700]), Pushed::Queued);
    assert_eq!(egress.give_back(100).lanes().count(), 0);
    assert_eq!(drain(&egress, u16::MAX).1, [Lane::Paid]);
}

#[test]
fn scarce_memory_fills_the_lanes_but_no_booked_packet_is_refused() {
    let share = Share::new(Budget::new(40_000), true);
    let limits = EgressLimits { high: 100_000, low: 50_000, control: 9000, max_packet: 30_000 };
    let egress = Egress::new(limits, share.clone());
    assert_eq!(egress.push(Priority::Free, &[1; 15_000], &[]), Pushed::Queued);
    // A link alone has half of the budget.
    assert_eq!(egress.push(Priority::Free, &[2; 12_000], &[]), Pushed::Refused);
    assert_eq!(egress.push(Priority::Paid, &[3; 6_000], &[]), Pushed::Full);
    assert_eq!(egress.push(Priority::Paid, &[4; 30_000], &[]), Pushed::Queued);
    assert_eq!(egress.push(Priority::Control, &[5; 2_000], &[]), Pushed::Queued);
    assert_eq!(egress.push(Priority::Control, &[6; 100], &[]), Pushed::Refused);
    assert_eq!(egress.look(), RoomAgain::default());
    let (got, room) = drain(&egress, u16::MAX);
    assert_eq!(got.iter().map(|p| p[0]).collect::<Vec<_>>(), [5, 3, 4, 1]);
    // What it keeps for more packets is still there.
    assert_eq!((room, egress.look().lanes().count()), (vec![], 2));
    assert_eq!((share.used(), egress.look().lanes().count()), (0, 0));
}

#[test]
fn control_passes_between_the_parts_of_a_large_packet() {
    let limits = EgressLimits { high: 100_000, max_packet: 50_000, ..LIMITS };
    let egress = egress(limits);
    egress.push(Priority::Paid, &[1; 5000], &[]);
    egress.push(Priority::Free, &[2; 5000], &[]);
    let (mut out, mut frames) = (vec![0; 1100], Vec::new());
    egress.fill(&mut out, 1000, &mut frames);
    assert_eq!(frames, [1000 + FRAME_OVERHEAD]);
    egress.push(Priority::Control, &[3; 10], &[]);
    let (mut order, mut joiner) =
        (Vec::new(), Joiner::new(9000, 1, Growable::new(0), Growable::new(0)));
    let mut frame = |out: &mut [u8], len: usize| {
        let mut records =
            joiner.records(0, &mut out[HEADER_LEN..len - FRAME_OVERHEAD + HEADER_LEN]).unwrap();
        while let Some(p) = records.next().unwrap() {
            order.push((p.bytes[0], p.bytes.len()));
        }
    };
    frame(&mut out, 1000 + FRAME_OVERHEAD);
    loop {
        egress.fill(&mut out, 1000, &mut frames);
        let Some(len) = frames.first() else { break };
        frame(&mut out, *len);
    }
    assert_eq!(order, [(3, 10), (1, 5000), (2, 5000)]);
}

#[test]
fn whole_packets_are_handed_out_by_rank() {
    let egress = egress(LIMITS);
    for (priority, byte) in
        [(Priority::Free, 1), (Priority::Paid, 2), (Priority::Control, 3), (Priority::Paid, 4)]
    {
        let (head, tail) = if byte == 3 { (60, 40) } else { (300, 200) };
        egress.push(priority, &vec![byte; head], &vec![byte; tail]);
    }
    assert!(!egress.is_finished());
    let mut order = Vec::new();
    // The first paid packet must wait, and the second behind it.
    let room = egress.hand_out(|priority, packet| {
        order.push((priority, packet[0], packet.len()));
        if priority == Priority::Paid { Given::NoRoom } else { Given::Taken }
    });
    assert_eq!(room.lanes().count(), 0, "1000 bytes wait yet");
    let (c, p, f) = (Priority::Control, Priority::Paid, Priority::Free);
    assert_eq!(order, [(c, 3, 100), (p, 2, 500), (f, 1, 500)]);
    assert_eq!(egress.sent(), Sent { packets: 2, bytes: 600, waiting: 1000 });
    let mut given = Given::Dropped;
    let room = egress.hand_out(|_, _| std::mem::replace(&mut given, Given::Taken));
    assert!(room.lanes().eq([Lane::Paid]), "it was full");
    assert_eq!(egress.sent(), Sent { packets: 3, bytes: 1100, waiting: 0 });
    assert_eq!(egress.hand_out(|_, _| Given::Taken).lanes().count(), 0, "told once");
    egress.finish();
    assert!(egress.is_finished());
}

#[test]
fn closing_lets_the_writer_finish() {
    smol::block_on(async {
        let egress = egress(LIMITS);
        egress.push(Priority::Free, b"x", b"y");
        egress.finish();
        assert_eq!(egress.push(Priority::Free, b"z", b""), Pushed::Refused);
        assert!(egress.ready().await);
        assert_eq!(drain(&egress, 100).0, [b"xy"]);
        assert!(!egress.ready().await);
    });
}
