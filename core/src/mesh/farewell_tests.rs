//! Flows that are closed while their route is broken: the other end learns of it once there is a
//! route again.

use super::end_world::{Net, bytes};
use super::*;
use crate::config::MeshMode::{self, Open, PaymentGated};
use crate::flow::end::Ended;
use crate::time::SECOND;
use crate::wire::Kind;

const RICH: u64 = 1 << 40;

fn line(mode: MeshMode, count: usize) -> (Net, FlowId) {
    let mut net = Net::line(&std::vec![mode; count]);
    net.give(count - 1, Input::AcceptFlows { accept: true });
    let flow = opened(&mut net, count - 1);
    (net, flow)
}

fn opened(net: &mut Net, to: usize) -> FlowId {
    let flow = net.open(to, RICH);
    net.run(2 * SECOND);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    assert!(net.send_all(0, flow, stream, &bytes(50_000), 10 * SECOND));
    net.run(SECOND);
    assert_eq!(net.read[&(to, flow, stream)].len(), 50_000);
    flow
}

fn ended(net: &Net, n: usize, how: Ended) -> bool {
    net.has(n, |e| *e == FlowEvent::Ended(FlowEnded::By(how)))
}

/// Both ends, and the relays between them, have forgotten the flow.
fn assert_over(net: &Net) {
    for (n, node) in net.nodes.iter().enumerate() {
        let r = node.resources();
        assert_eq!((r.flows, r.ends), (0, 0), "node {n}: {:?}", net.events);
    }
}

#[test]
fn what_a_source_closes_on_a_broken_route_its_destination_hears_later() {
    for (mode, cut) in [(Open, 1), (Open, 2), (PaymentGated, 1), (PaymentGated, 2)] {
        for gap in [0, 2, 60, 1_200] {
            let (mut net, flow) = line(mode, 4);
            net.cut(cut - 1, cut);
            net.run(gap * SECOND / 2);
            net.give(0, Input::CloseFlow { flow, code: 5 });
            net.run(gap * SECOND);
            assert!(ended(&net, 0, Ended::Here(5)));
            let paid = net.paid.clone();
            net.wire(cut - 1, cut);
            net.run(120 * SECOND);
            assert!(ended(&net, 3, Ended::There(5)), "{mode:?} {cut} {gap} {:?}", net.events);
            net.give(3, Input::CloseFlow { flow, code: 0 });
            net.run(10 * SECOND);
            assert_over(&net);
            assert_eq!(net.paid, paid, "a farewell is not paid for");
            let ends = |n| {
                let is_end = |(at, _, e): &&(usize, FlowId, FlowEvent)| {
                    *at == n && matches!(e, FlowEvent::Ended(_))
                };
                net.events.iter().filter(is_end).count()
            };
            assert_eq!((ends(0), ends(3)), (1, 1), "each is told once");
        }
    }
}

#[test]
fn what_a_destination_closes_on_a_broken_route_its_source_hears_later() {
    for (mode, cut) in [(Open, 1), (Open, 2), (Open, 3), (PaymentGated, 1), (PaymentGated, 3)] {
        for gap in [0, 2, 60, 1_200] {
            let (mut net, flow) = line(mode, 4);
            net.cut(cut - 1, cut);
            net.run(gap * SECOND / 2);
            net.give(3, Input::CloseFlow { flow, code: 7 });
            net.run(gap * SECOND);
            net.wire(cut - 1, cut);
            // Whoever has something to say learns of it at once, the others in time.
            net.write(0, flow, 0, b"more");
            net.run(120 * SECOND);
            assert!(ended(&net, 0, Ended::There(7)), "{mode:?} {cut} {gap} {:?}", net.events);
            net.give(0, Input::CloseFlow { flow, code: 0 });
            net.run(10 * SECOND);
            assert_over(&net);
        }
    }
}

#[test]
fn a_farewell_that_is_lost_is_said_again_until_it_is_answered() {
    for closes in [0, 2] {
        let (mut net, flow) = line(PaymentGated, 3);
        // Nothing passes, and nobody says so.
        net.fate = |_, _, packet| packet[5] != Kind::Data as u8;
        net.give(closes, Input::CloseFlow { flow, code: 9 });
        net.run(60 * SECOND);
        let other = 2 - closes;
        assert!(!ended(&net, other, Ended::There(9)));
        net.fate = |_, _, _| true;
        net.run(120 * SECOND);
        if closes == 2 {
            // It is the source that makes a new way.
            net.write(0, flow, 0, b"more");
            net.run(30 * SECOND);
        }
        assert!(ended(&net, other, Ended::There(9)), "{closes} {:?}", net.events);
        net.give(other, Input::CloseFlow { flow, code: 0 });
        net.run(10 * SECOND);
        assert_over(&net);
    }
}

#[test]
fn a_farewell_is_answered_at_once_and_costs_a_packet() {
    for closes in [0, 2] {
        let (mut net, flow) = line(Open, 3);
        let before = net.carried.clone();
        net.give(closes, Input::CloseFlow { flow, code: 1 });
        net.run(SECOND / 2);
        assert!(ended(&net, 2 - closes, Ended::There(1)));
        net.give(2 - closes, Input::CloseFlow { flow, code: 0 });
        net.run(SECOND / 4);
        assert_over(&net);
        let sent = net.carried[&1] - before[&1];
        assert!(sent <= 2 * 64, "{sent} bytes: a farewell, and its answer");
    }
}

#[test]
fn who_is_gone_is_waited_for_until_the_flow_would_have_ended() {
    for closes in [0, 2] {
        let (mut net, flow) = line(PaymentGated, 3);
        net.cut(0, 1);
        net.cut(1, 2);
        net.give(closes, Input::CloseFlow { flow, code: 5 });
        net.run(1_800 * SECOND);
        assert_eq!(net.nodes[closes].resources().ends, 1);
        net.run(2_000 * SECOND);
        assert_eq!(net.nodes[closes].resources().ends, 0);
    }
}

#[test]
fn a_closed_flow_that_waits_takes_no_place_from_others() {
    let mut net = Net::unwired(&[Open; 3], |_, config| config.capacities.ends = 1);
    [(0, 1), (1, 2)].iter().for_each(|(a, b)| net.wire(*a, *b));
    net.run(SECOND);
    net.give(2, Input::AcceptFlows { accept: true });
    for closes in [0, 2, 0] {
        let flow = opened(&mut net, 2);
        net.cut(0, 1);
        net.give(closes, Input::CloseFlow { flow, code: 5 });
        net.run(20 * SECOND);
        assert_eq!(net.nodes[closes].resources().ends, 1);
        // The other gives up by itself.
        net.give(2 - closes, Input::CloseFlow { flow, code: 5 });
        net.run(20 * SECOND);
        net.wire(0, 1);
        net.events.clear();
    }
}
