//! Flows over a relay, with a source and a destination that this file plays.

use super::flow_tests::{
    HEADER, LINE, PRICE, RESERVATION, STEP, TERMS, buy, cause_of, data, give, left, number, open,
    opened, packet, rejected, request, run_until,
};
use super::lightning_tests::{World, gated};
use super::test_world::set_check;
use super::*;
use crate::config::MeshMode;
use crate::time::SECOND;
use crate::wire::Kind;
use crate::wire::flow::{self, OpenTerms};
use crate::wire::route_error::Cause;

#[test]
fn an_open_is_carried_for_an_account_and_its_answer_and_data_both_ways() {
    let mut w = opened();
    let flow = number(&w);
    assert_eq!((left(&w, 1), left(&w, 2)), (STEP - RESERVATION, STEP - RESERVATION));
    let back = |w: &mut World, packet: Vec<u8>| w.receive(2, World::link(2, 3), packet);
    back(&mut w, packet(Kind::Opened, flow, 2, &[6; flow::ACT_LEN]));
    let (arrived, did) = run_until(&mut w, &[0, 3]);
    assert_eq!(
        (arrived, rejected(&did)),
        (std::vec![packet(Kind::Opened, flow, 0, &[6; 50])], None)
    );
    let sent = data(&w, 1_000);
    give(&mut w, &LINE, sent.clone());
    let (arrived, _) = run_until(&mut w, &[0, 3]);
    assert_eq!(arrived, [packet(Kind::Data, flow, 0, &sent[HEADER..])]);
    back(&mut w, packet(Kind::Data, flow, 2, &[1]));
    let (arrived, _) = run_until(&mut w, &[0, 3]);
    assert_eq!(arrived, [packet(Kind::Data, flow, 0, &[1])]);
    for n in [1, 2] {
        let at = w.nodes[n].flows().next().unwrap();
        assert_eq!(at.left, RESERVATION - 1_000 - 64);
    }
    let stats = w.nodes[1].stats();
    assert_eq!(stats.relayed_paid, 2);
    #[cfg(feature = "alloc")]
    assert_eq!(
        stats.relayed[Class::Flow as usize],
        Carried { packets: 2, bytes: stats.relayed_bytes }
    );
}

#[test]
fn not_a_byte_passes_that_was_not_bought() {
    let mut w = opened();
    let mut carried = 0;
    let refused = loop {
        let packet = data(&w, 1_000);
        give(&mut w, &LINE, packet);
        let (arrived, did) = run_until(&mut w, &[0, 3]);
        if rejected(&did).is_some() || arrived.iter().any(|p| p[5] == Kind::FlowError as u8) {
            break cause_of(&arrived);
        }
        carried += arrived.iter().map(Vec::len).sum::<usize>() as u64;
        assert!(carried <= STEP);
    };
    assert_eq!((refused, carried), (Cause::NothingLeft, STEP));
    assert_eq!((left(&w, 1), left(&w, 2)), (0, 0));
    // A further step, and it goes on.
    assert!(buy(&mut w, &[0, 1], 3));
    assert!(buy(&mut w, &[0, 1, 2], 4));
    let packet = data(&w, 1_000);
    give(&mut w, &LINE, packet);
    assert_eq!(run_until(&mut w, &[0, 3]).0.len(), 1);
}

#[test]
fn a_flow_draws_at_most_what_its_open_allows() {
    let mut w = gated(4);
    assert!(buy(&mut w, &[0, 1], 1));
    assert!(buy(&mut w, &[0, 1, 2], 2));
    let packet = open(&w, &LINE, OpenTerms { max_bytes: 2_000, ..TERMS });
    give(&mut w, &LINE, packet);
    run_until(&mut w, &[3]);
    assert_eq!(left(&w, 1), STEP - 2_000);
    let arrived: Vec<_> = (0..3)
        .map(|_| {
            let packet = data(&w, 1_000);
            give(&mut w, &LINE, packet);
            run_until(&mut w, &[0, 3]).0.remove(0)[5]
        })
        .collect();
    assert_eq!(arrived, [Kind::Data as u8, Kind::Data as u8, Kind::FlowError as u8]);
}

#[test]
fn close_returns_what_was_not_used_and_the_open_is_not_taken_again() {
    let mut w = opened();
    let sent = data(&w, 1_000);
    give(&mut w, &LINE, sent);
    run_until(&mut w, &[3]);
    let close = packet(Kind::Close, number(&w), 2, &[]);
    give(&mut w, &LINE, close.clone());
    let (arrived, did) = run_until(&mut w, &[0, 3]);
    assert_eq!(
        (arrived, rejected(&did)),
        (std::vec![packet(Kind::Close, number(&w), 0, &[])], None)
    );
    assert_eq!((left(&w, 1), left(&w, 2)), (STEP - 1_000, STEP - 1_000));
    let sent = data(&w, 1_000);
    let did = give(&mut w, &LINE, sent);
    assert_eq!(rejected(&did), Some(RoutingReason::FlowUnknown.into()));
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::FlowUnknown);
    w.now += 10 * SECOND;
    let again = open(&w, &LINE, TERMS);
    give(&mut w, &LINE, again);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::OldOpen);
    w.restart(1, 9);
    assert_eq!(left(&w, 1), STEP - 1_000);
    w.wire(0, 1);
    w.wire(1, 2);
    let again = open(&w, &LINE, TERMS);
    give(&mut w, &LINE, again);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::OldOpen, "nor after a restart");
}

#[test]
fn after_a_crash_the_same_open_brings_the_flow_back_and_one_reservation_is_lost() {
    let mut w = opened();
    w.restart(1, 9);
    w.wire(0, 1);
    w.wire(1, 2);
    let sent = data(&w, 1_000);
    give(&mut w, &LINE, sent);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::FlowUnknown);
    let again = open(&w, &LINE, TERMS);
    give(&mut w, &LINE, again);
    let (arrived, did) = run_until(&mut w, &[0, 3]);
    assert_eq!((arrived.len(), rejected(&did)), (1, None));
    assert_eq!((left(&w, 1), left(&w, 2)), (STEP - 2 * RESERVATION, STEP - RESERVATION));
    let sent = data(&w, 1_000);
    give(&mut w, &LINE, sent);
    assert_eq!(run_until(&mut w, &[0, 3]).0.len(), 1);
}

#[test]
fn an_open_does_not_count_from_another_neighbour_nor_an_older_one() {
    let mut w = gated(4);
    w.wire(0, 2);
    assert!(buy(&mut w, &[0, 1], 1));
    assert!(buy(&mut w, &[0, 2], 2));
    let through = |w: &mut World, way: &[usize], terms| {
        let packet = open(w, way, terms);
        give(w, way, packet);
        run_until(w, &[0, 3]).0
    };
    through(&mut w, &LINE, OpenTerms { open_number: 5, ..TERMS });
    assert_eq!(left(&w, 2), STEP - RESERVATION);
    // The same Open is signed for one route; a relay cannot give it to another neighbour.
    let direct = [0, 2, 3];
    let refused = through(&mut w, &direct, OpenTerms { open_number: 5, ..TERMS });
    assert_eq!(cause_of(&refused), Cause::OldOpen);
    let refused = through(&mut w, &direct, OpenTerms { open_number: 4, ..TERMS });
    assert_eq!(cause_of(&refused), Cause::OldOpen);
    // A new one moves the flow to another route, and nothing is lost at the relay that stays.
    let arrived = through(&mut w, &direct, OpenTerms { open_number: 6, ..TERMS });
    assert_eq!(arrived.len(), 1);
    assert_eq!(left(&w, 2), STEP - RESERVATION);
    assert_eq!(w.nodes[2].flows().count(), 1);
    let old = data(&w, 1_000);
    give(&mut w, &LINE, old);
    let (arrived, did) = run_until(&mut w, &[0, 3]);
    assert_eq!(rejected(&did), Some(RoutingReason::FlowUnknown.into()));
    assert_eq!(cause_of(&arrived), Cause::FlowUnknown);
    w.receive(2, World::link(2, 0), packet(Kind::Data, number(&w), 1, &[7; 100]));
    assert_eq!(run_until(&mut w, &[0, 3]).0.len(), 1);
}

#[test]
fn an_open_needs_its_sources_signature_an_account_and_the_number_of_its_ends() {
    let mut w = gated(4);
    let packet = open(&w, &LINE, TERMS);
    give(&mut w, &LINE, packet.clone());
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::NothingLeft);
    assert!(buy(&mut w, &[0, 1], 1));
    let mut forged = open(&w, &LINE, OpenTerms { open_number: 2, ..TERMS });
    *forged.last_mut().unwrap() ^= 1;
    set_check(&mut forged);
    give(&mut w, &LINE, forged);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::SourceSignature);
    let mut other = open(&w, &LINE, OpenTerms { open_number: 2, ..TERMS });
    other[8] ^= 1;
    set_check(&mut other);
    let did = give(&mut w, &LINE, other);
    assert!(matches!(rejected(&did), Some(MeshError::NetworkError(NetworkReason::Malformed(_)))));
    assert_eq!((left(&w, 1), w.nodes[1].flows().count()), (STEP, 0));
    // The next relay has sold nothing: it refuses, and the first has drawn in vain until Close.
    w.later(SECOND);
    give(&mut w, &LINE, packet);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::NothingLeft);
}

#[test]
fn packets_of_a_flow_come_from_its_two_neighbours_and_in_their_turn() {
    let mut w = opened();
    w.wire(1, 3);
    let flow = number(&w);
    let stranger = w.receive(1, World::link(1, 3), packet(Kind::Data, flow, 2, &[1]));
    assert_eq!(rejected(&stranger), Some(RoutingReason::FlowUnknown.into()));
    let early = give(&mut w, &LINE, packet(Kind::Data, flow, 3, &[1]));
    assert_eq!(rejected(&early), Some(RoutingReason::NotOurTurn.into()));
    for kind in [Kind::Opened, Kind::FlowError] {
        let body = if kind == Kind::Opened { &[6; 50][..] } else { &[1, 1, 1, 1, 1, 1, 1, 1, 27] };
        let did = give(&mut w, &LINE, packet(kind, flow, 2, body));
        assert_eq!(rejected(&did), Some(RoutingReason::WrongNeighbour.into()));
    }
    let empty = give(&mut w, &LINE, packet(Kind::Data, flow, 2, &[]));
    assert!(matches!(rejected(&empty), Some(MeshError::NetworkError(NetworkReason::Malformed(_)))));
}

#[test]
fn an_idle_flow_ends_and_returns_its_bytes_and_may_be_opened_again() {
    let mut w = opened();
    w.later(59 * SECOND);
    assert_eq!(w.nodes[1].flows().count(), 1);
    w.later(SECOND);
    assert_eq!((w.nodes[1].flows().count(), left(&w, 1)), (0, STEP));
    let again = open(&w, &LINE, TERMS);
    give(&mut w, &LINE, again);
    assert_eq!(run_until(&mut w, &[0, 3]).0.len(), 1);
}

#[test]
fn in_mode_open_flows_are_free_and_in_bitcoin_only_there_are_none() {
    let modes = [MeshMode::Open; 4];
    let mut w = super::lightning_tests::line(&modes, false);
    let packet = open(&w, &LINE, TERMS);
    give(&mut w, &LINE, packet);
    assert_eq!(run_until(&mut w, &[0, 3]).0.len(), 1);
    let sent = data(&w, 1_000);
    give(&mut w, &LINE, sent);
    assert_eq!(run_until(&mut w, &[0, 3]).0.len(), 1);
    assert_eq!(w.nodes[1].stats().relayed_free, 1);
    let packet = request(&w, &[0, 1], 1, STEP, PRICE);
    give(&mut w, &[0, 1], packet);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::ModeRefused);
    let modes = [MeshMode::Open, MeshMode::BitcoinOnly, MeshMode::Open, MeshMode::Open];
    let mut w = super::lightning_tests::line(&modes, false);
    let packet = open(&w, &LINE, TERMS);
    give(&mut w, &LINE, packet);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::ModeRefused);
}

#[test]
fn a_relay_that_lost_its_next_hop_says_so() {
    let mut w = opened();
    w.cut(2, 3);
    let sent = data(&w, 1_000);
    give(&mut w, &LINE, sent);
    assert_eq!(cause_of(&run_until(&mut w, &[0]).0), Cause::NextHopGone);
    w.wire(2, 3);
    let sent = data(&w, 1_000);
    give(&mut w, &LINE, sent);
    assert_eq!(run_until(&mut w, &[0, 3]).0.len(), 1, "the neighbour is known by its identity");
}
