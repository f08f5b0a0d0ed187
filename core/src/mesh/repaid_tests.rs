//! What a node has paid for is there after it was killed, at whatever step.

use super::end_world::{Net, bytes};
use super::*;
use crate::config::MeshMode::PaymentGated;
use crate::time::{MILLISECOND, SECOND};
use crate::wire::account::Ticket as Promise;

const RICH: u64 = 1 << 40;

fn gated(count: usize) -> Net {
    let mut net = Net::line(&std::vec![PaymentGated; count]);
    net.give(count - 1, Input::AcceptFlows { accept: true });
    net
}

/// A shell is killed, and started again with what it has kept.
fn kill(net: &mut Net, seed: u8) {
    net.restart(0, seed);
    for (_, node, promise, preimage) in net.promises.clone() {
        let node = net.id(node);
        net.give(0, Input::Paid { node, promise, preimage });
    }
    net.events.clear();
}

/// A datagram with a Pay.
fn is_pay(packet: &[u8]) -> bool {
    packet[5] == 1 && packet[6] == 2 && packet.len() > 81 && packet[packet.len() - 81] == 3
}

fn left(net: &Net, n: usize) -> u64 {
    net.nodes[n].account(&net.id(0)).map_or(0, |account| account.left())
}

/// Opens a flow to the last node, which must take no purchase.
fn opens_for_nothing(net: &mut Net) {
    let (paid, end) = (net.paid.clone(), net.nodes.len() - 1);
    let flow = net.open(end, RICH);
    net.run(10 * SECOND);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    assert!(net.send_all(0, flow, stream, &bytes(50_000), 10 * SECOND));
    net.run(SECOND);
    assert_eq!(net.read[&(end, flow, stream)].len(), 50_000, "{:?}", net.events);
    assert_eq!(net.paid, paid, "nothing is bought again");
}

#[test]
fn what_was_paid_and_not_shown_is_shown_after_a_crash() {
    for count in [3, 4] {
        let mut net = gated(count);
        net.fate = |_, _, packet| !is_pay(packet);
        net.open(count - 1, RICH);
        net.run(2 * SECOND);
        assert_eq!(net.promises.len(), count - 2, "paid at each hop");
        assert!((1..count - 1).all(|n| left(&net, n) == 0));
        net.fate = |_, _, _| true;
        kill(&mut net, 90);
        opens_for_nothing(&mut net);
    }
}

#[test]
fn what_was_credited_and_not_used_is_known_after_a_crash() {
    let mut net = gated(4);
    let flow = net.open(3, RICH);
    net.run(2 * SECOND);
    assert!(net.has(0, |e| *e == FlowEvent::Opened));
    net.give(0, Input::CloseFlow { flow, code: 0 });
    net.run(SECOND);
    kill(&mut net, 91);
    opens_for_nothing(&mut net);
}

#[test]
fn a_ticket_that_has_expired_or_a_node_that_is_gone_holds_nothing_up() {
    // Shown too late.
    let mut net = gated(3);
    net.fate = |_, _, packet| !is_pay(packet);
    net.open(2, RICH);
    net.run(2 * SECOND);
    net.fate = |_, _, _| true;
    net.run(1_000 * SECOND);
    let before = net.paid[&1];
    kill(&mut net, 92);
    net.open(2, RICH);
    net.run(5 * SECOND);
    assert!(net.has(0, |e| *e == FlowEvent::Opened), "{:?}", net.events);
    assert!(net.paid[&1] > before, "it was bought anew");
    // Nobody answers: flows do not wait for long.
    kill(&mut net, 93);
    net.fate = |_, _, packet| !is_pay(packet);
    net.open(2, RICH);
    net.run(30 * SECOND);
    let buys = net.promises.len();
    assert!(buys > 2, "{buys} {:?}", net.events);
    // A promise that its node never made, or that is none.
    let (node, promise, preimage) = (net.id(1), [7; 49], [7; 32]);
    net.fate = |_, _, _| true;
    net.give(0, Input::Paid { node, promise, preimage });
    net.run(200 * SECOND);
    assert!(net.nodes[0].tables.purchases.is_empty());
}

#[test]
fn a_crash_at_any_step_loses_no_payment_and_credits_none_twice() {
    let step = 3 * MILLISECOND;
    for crash in 0..60 {
        let mut net = gated(4);
        net.open(3, RICH);
        net.run(crash * step / 4);
        kill(&mut net, 94);
        net.run(crash % 7 * MILLISECOND);
        kill(&mut net, 95);
        let flow = net.open(3, RICH);
        net.run(20 * SECOND);
        assert!(net.has(0, |e| *e == FlowEvent::Opened), "{crash} {:?}", net.events);
        net.give(0, Input::CloseFlow { flow, code: 0 });
        net.run(5 * SECOND);
        for n in [1, 2] {
            let its = net.promises.iter().filter(|(_, to, ..)| *to == n);
            let sold: u64 = its
                .map(|(.., p, _)| Promise::from_bytes(p.last_chunk().unwrap()).unwrap().bytes)
                .sum();
            let bought = net.nodes[n].account(&net.id(0)).unwrap().bought;
            assert_eq!(bought, sold, "{crash}: node {n} has credited each payment once");
        }
    }
}
