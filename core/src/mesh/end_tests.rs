//! Flows from end to end: opened, paid for, broken and taken up again.

use super::end_world::{Net, bytes};
use super::*;
use crate::config::MeshMode::{self, Open, PaymentGated};
use crate::flow::end::Ended;
use crate::time::{MILLISECOND, SECOND};
use crate::wire::Kind;
use crate::wire::route_error::Cause;

/// A gated line whose last node takes flows.
fn gated(count: usize) -> Net {
    line(&std::vec![PaymentGated; count])
}

fn line(modes: &[MeshMode]) -> Net {
    let mut net = Net::line(modes);
    net.give(modes.len() - 1, Input::AcceptFlows { accept: true });
    net
}

const RICH: u64 = 1 << 40;

/// Opens a flow, sends so many bytes on a stream, and has them arrive.
fn transfer(net: &mut Net, len: usize) -> FlowId {
    let end = net.nodes.len() - 1;
    let flow = net.open(end, RICH);
    net.run(2 * SECOND);
    assert!(net.has(0, |e| *e == FlowEvent::Opened), "{:?}", net.events);
    let source = net.id(0);
    assert!(net.has(end, |e| *e == FlowEvent::Accepted { source }));
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    let data = bytes(len);
    assert!(net.send_all(0, flow, stream, &data, 60 * SECOND), "{:?}", net.events);
    net.run(SECOND);
    assert!(net.read[&(end, flow, stream)] == data);
    flow
}

#[test]
fn bytes_cross_a_free_mesh_for_nothing() {
    for count in [2, 3, 5] {
        let mut net = line(&std::vec![Open; count]);
        let flow = transfer(&mut net, 300_000);
        assert!(net.paid.is_empty());
        let own: Vec<_> = net.nodes[0].own_flows().collect();
        assert_eq!((own.len(), own[0].flow, own[0].paid_msat), (1, flow, 0));
        assert_eq!(own[0].hops.len(), count - 2);
    }
}

#[test]
fn each_relay_is_paid_in_steps_for_what_it_carries() {
    for count in [3, 4] {
        let mut net = gated(count);
        let flow = transfer(&mut net, 3_000_000);
        let own = net.nodes[0].own_flows().next().unwrap();
        assert_eq!(own.paid_msat, net.paid.values().sum::<u64>());
        assert!(net.paid.keys().copied().eq(1..count - 1), "{:?}", net.paid);
        for n in 1..count - 1 {
            let (carried, sold) = (net.carried[&n], net.sold[&n]);
            assert!(carried <= sold && sold < 3 * carried, "{carried} of {sold}");
            assert_eq!(net.nodes[n].stats().earned_msat, net.paid[&n]);
        }
        // When it is closed, the relays give back what they hold in reserve.
        net.give(0, Input::CloseFlow { flow, code: 5 });
        net.run(10 * SECOND);
        let end = count - 1;
        assert!(net.has(end, |e| *e == FlowEvent::Ended(FlowEnded::By(Ended::There(5)))));
        for n in 0..count {
            assert_eq!((net.nodes[n].resources().flows, net.nodes[n].resources().ends), (0, 0));
        }
        for n in 1..end {
            let account = net.nodes[n].account(&net.id(0)).unwrap();
            assert_eq!(account.drawn, net.carried[&n]);
        }
    }
}

#[test]
fn what_was_bought_serves_the_next_flow() {
    let mut net = gated(3);
    let flow = transfer(&mut net, 100_000);
    let paid = net.paid[&1];
    net.give(0, Input::CloseFlow { flow, code: 0 });
    net.run(10 * SECOND);
    net.events.clear();
    transfer(&mut net, 100_000);
    assert_eq!(net.paid[&1], paid);
}

#[test]
fn two_flows_do_not_take_each_others_bytes() {
    let mut net = gated(3);
    let flows = [net.open(2, RICH), net.open(2, RICH)];
    net.run(3 * SECOND);
    let data = bytes(200_000);
    for flow in flows {
        let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
        assert!(net.send_all(0, flow, stream, &data, 20 * SECOND));
    }
    net.run(SECOND);
    assert!(flows.iter().all(|flow| net.read[&(2, *flow, 0)] == data));
    assert!(!net.has(0, |e| matches!(e, FlowEvent::Interrupted { .. })), "{:?}", net.events);
}

#[test]
fn the_destination_answers_on_the_sources_account() {
    let mut net = gated(4);
    let flow = transfer(&mut net, 1_000);
    let data = bytes(2_000_000);
    assert!(net.send_all(3, flow, 0, &data, 60 * SECOND));
    net.run(2 * SECOND);
    assert!(net.read[&(0, flow, 0)] == data);
    assert!(net.carried[&2] <= net.sold[&2]);
    let streams = net.nodes[3].streams(flow).unwrap().open().unwrap();
    assert_eq!(streams, 1, "the destination opens streams as well");
}

#[test]
fn a_restarted_relay_costs_no_byte_and_at_most_a_reservation() {
    for relay in [1, 2] {
        let mut net = gated(4);
        let flow = transfer(&mut net, 500_000);
        net.restart(relay, 77);
        let data = bytes(1_000_000);
        assert!(net.send_all(0, flow, 0, &data, 60 * SECOND), "{:?}", net.events);
        net.run(5 * SECOND);
        let got = net.read[&(3, flow, 0)].len();
        assert_eq!(got, 1_500_000, "{:?}", net.events);
        assert!(net.read[&(3, flow, 0)][500_000..] == data);
        assert!(net.has(0, |e| matches!(e, FlowEvent::Interrupted { .. })));
    }
}

#[test]
fn a_flow_goes_on_over_another_relay() {
    // 0 - 1 - 3 and 0 - 2 - 3.
    let mut net = Net::unwired(&[PaymentGated; 4], |_, _| {});
    [(0, 1), (1, 3), (0, 2), (2, 3)].iter().for_each(|(a, b)| net.wire(*a, *b));
    net.run(SECOND);
    net.give(3, Input::AcceptFlows { accept: true });
    let flow = transfer(&mut net, 400_000);
    let first = *net.paid.keys().next().unwrap();
    assert_eq!(net.paid.len(), 1);
    net.cut(first, 3);
    let data = bytes(400_000);
    assert!(net.send_all(0, flow, 0, &data, 60 * SECOND), "{:?}", net.events);
    net.run(5 * SECOND);
    assert!(net.read[&(3, flow, 0)][400_000..] == data);
    assert_eq!(net.paid.len(), 2);
}

#[test]
fn loss_is_made_good_and_a_silent_route_is_left() {
    let mut net = gated(3);
    net.fate = |net, _, packet| packet[5] != Kind::Data as u8 || net.random(100) > 1;
    transfer(&mut net, 500_000);
    // Nothing passes any more, and nobody says so.
    let flow = net.nodes[0].own_flows().next().unwrap().flow;
    net.fate = |_, _, packet| packet[5] != Kind::Data as u8;
    let data = bytes(50_000);
    net.write(0, flow, 0, &data);
    net.run(20 * SECOND);
    assert!(net.has(0, |e| matches!(e, FlowEvent::Interrupted { .. })));
    net.fate = |_, _, _| true;
    net.run(40 * SECOND);
    assert_eq!(net.read[&(2, flow, 0)].len(), 550_000);
}

#[test]
fn who_takes_the_money_and_drops_is_left_after_the_first_step() {
    let mut net = gated(3);
    net.fate = |net, to, packet| {
        // The relay passes on a few packets, and drops the others.
        packet[5] != Kind::Data as u8 || to != 2 || net.random(4) == 0
    };
    let flow = net.open(2, RICH);
    net.run(2 * SECOND);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    net.send_all(0, flow, stream, &bytes(4_000_000), 120 * SECOND);
    // Half of the second step was bought before the first could be judged.
    let own = net.nodes[0].own_flows().next();
    let sold = net.sold[&1];
    assert!(sold <= 512 * 1024 * 2, "{sold} {own:?} {:?}", net.events.last());
}

#[test]
fn a_budget_holds_and_can_be_raised() {
    let mut net = gated(3);
    let flow = net.open(2, 10);
    net.run(2 * SECOND);
    assert!(net.has(0, |e| *e == FlowEvent::Ended(FlowEnded::Budget)), "{:?}", net.events);
    assert!(net.paid.is_empty() && net.nodes[0].streams(flow).is_none());
    let flow = net.open(2, 60_000);
    net.run(2 * SECOND);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    net.send_all(0, flow, stream, &bytes(2_000_000), 30 * SECOND);
    net.run(30 * SECOND);
    let before = net.read[&(2, flow, stream)].len();
    assert!(before < 520_000, "{before}");
    assert!(net.has(0, |e| *e == FlowEvent::BudgetSpent));
    assert!(net.paid[&1] <= 60_000);
    net.give(0, Input::FlowBudget { flow, budget_msat: RICH });
    net.run(20 * SECOND);
    assert_eq!(net.read[&(2, flow, stream)].len(), 2_000_000, "{:?}", net.events.last());
}

#[test]
fn whoever_takes_no_flows_says_so() {
    let mut net = Net::line(&[Open, Open, Open]);
    net.open(2, RICH);
    net.run(5 * SECOND);
    let (node, cause) = (net.id(2).hop(), Cause::NoFlows);
    let refused = FlowEvent::Ended(FlowEnded::Refused { node, cause });
    assert!(net.has(0, |e| *e == refused), "{:?}", net.events);
    net.cut(1, 2);
    net.open(2, RICH);
    net.run(60 * SECOND);
    assert!(net.has(0, |e| *e == FlowEvent::Ended(FlowEnded::NoRoute)), "{:?}", net.events);
}

#[test]
fn a_restarted_destination_has_forgotten_the_streams_and_says_so() {
    let mut net = gated(3);
    let flow = transfer(&mut net, 10_000);
    net.restart(2, 99);
    net.give(2, Input::AcceptFlows { accept: true });
    net.write(0, flow, 0, b"more");
    net.run(20 * SECOND);
    assert!(net.has(0, |e| *e == FlowEvent::Ended(FlowEnded::Restarted)), "{:?}", net.events);
    net.events.clear();
    transfer(&mut net, 10_000);
}

#[test]
fn an_idle_flow_costs_nothing_and_ends_when_nobody_is_there() {
    let mut net = gated(3);
    transfer(&mut net, 10_000);
    net.run(20 * SECOND);
    let carried = net.carried.clone();
    net.run(600 * SECOND);
    assert_eq!(net.carried, carried, "nothing is sent");
    net.run(2 * 3600 * SECOND);
    assert_eq!(net.nodes[0].resources().ends, 1, "it is kept up");
    net.fate = |_, _, _| false;
    net.run(3 * 3600 * SECOND);
    assert_eq!(net.nodes[0].resources().ends, 0, "{:?}", net.nodes[0].own_flows().next());
    assert_eq!(net.nodes[2].resources().ends, 0);
    let _ = MILLISECOND;
}

#[test]
fn an_open_replayed_after_the_end_of_its_flow_gets_other_keys() {
    let mut net = gated(3);
    net.fate = |net, to, packet| {
        if to == 2 && packet[5] == Kind::Open as u8 {
            net.kept.push(packet.to_vec());
        }
        if to == 1 && packet[5] == Kind::Opened as u8 {
            net.kept.push(packet.to_vec());
        }
        true
    };
    let flow = transfer(&mut net, 10_000);
    net.give(0, Input::CloseFlow { flow, code: 0 });
    net.run(10 * SECOND);
    assert_eq!(net.nodes[2].resources().ends, 0);
    let [open, first] = [net.kept[0].clone(), net.kept[1].clone()];
    net.receive(2, 1, open);
    let again = net.kept.last().unwrap().clone();
    assert_eq!(again[5], Kind::Opened as u8);
    assert_ne!(again, first, "the same act two would mean the same keys, and numbers used twice");
    assert_eq!(net.nodes[2].resources().ends, 1);
}
