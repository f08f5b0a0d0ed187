//! Neighbours that may owe.

use super::end_world::{Net, bytes};
use super::*;
use crate::config::MeshMode::PaymentGated;
use crate::time::{MILLISECOND, SECOND};

const RICH: u64 = 1 << 40;
const CREDIT: u64 = 300_000;

/// A gated line whose first node has no wallet, and may owe its neighbour so much.
fn line(credit: u64) -> Net {
    let mut net = Net::unwired(&[PaymentGated; 3], |_, _| {});
    let poor = net.id(0);
    net.configure(1, |config| {
        if credit > 0 {
            config.credit.insert(poor, credit);
        }
    });
    net.poor.insert(0);
    (1..3).for_each(|n| net.wire(n - 1, n));
    net.run(10 * MILLISECOND);
    net.give(2, Input::AcceptFlows { accept: true });
    net
}

/// Node 0 sends as much as it may; how much has come.
fn send(net: &mut Net, len: usize) -> (FlowId, usize) {
    let flow = net.open(2, RICH);
    net.run(5 * SECOND);
    let Some(stream) = net.nodes[0].streams(flow).and_then(|mut s| s.open().ok()) else {
        return (flow, 0);
    };
    net.send_all(0, flow, stream, &bytes(len), 30 * SECOND);
    net.run(5 * SECOND);
    let came = net.read.get(&(2, flow, stream)).map_or(0, std::vec::Vec::len);
    net.give(0, Input::CloseFlow { flow, code: 0 });
    net.run(10 * SECOND);
    (flow, came)
}

fn owes(net: &Net) -> u64 {
    net.nodes[1].account(&net.id(0)).map_or(0, |account| account.owes())
}

#[test]
fn a_neighbour_that_cannot_pay_sends_as_much_as_it_may_owe() {
    let mut net = line(CREDIT);
    assert_eq!(send(&mut net, 100_000).1, 100_000);
    assert!(net.paid.is_empty());
    let first = owes(&net);
    assert!((100_000..=CREDIT).contains(&first), "{first}");
    // Coming again, over a restart of either too, it owes no more.
    for n in [0, 1, 0] {
        send(&mut net, 200_000);
        assert!(owes(&net) <= CREDIT, "{}", owes(&net));
        net.restart(n, 77 + n as u8);
        net.run(SECOND);
        net.give(2, Input::AcceptFlows { accept: true });
    }
    assert!(owes(&net) > CREDIT - 5_000, "{}", owes(&net));
    assert!(net.carried[&1] <= CREDIT, "{:?}", net.carried);
    assert_eq!(send(&mut net, 10_000).1, 0);
}

#[test]
fn a_debt_is_paid_by_the_next_purchase() {
    let mut net = line(CREDIT);
    send(&mut net, 200_000);
    let owed = owes(&net);
    assert!(owed >= 200_000);
    net.poor.clear();
    assert_eq!(send(&mut net, 200_000).1, 200_000, "{:?}", net.events);
    let account = *net.nodes[1].account(&net.id(0)).unwrap();
    assert!(net.paid[&1] > 0 && account.bought == net.sold_for_money(1), "{account:?}");
    assert!(account.drawn <= account.bought + CREDIT, "{account:?}");
    assert!(net.carried[&1] <= account.bought + CREDIT);
}

#[test]
fn who_has_no_credit_sends_nothing() {
    let mut net = line(0);
    assert_eq!(send(&mut net, 10_000).1, 0);
    assert!(net.nodes[1].account(&net.id(0)).is_none_or(|account| account.drawn == 0));
    assert_eq!(net.carried.get(&1), None);
    // Credit is for what a neighbour sends itself, not for what comes over it.
    let mut net = Net::unwired(&[PaymentGated; 4], |_, _| {});
    let far = net.id(0);
    net.configure(2, |config| _ = config.credit.insert(far, CREDIT));
    (1..4).for_each(|n| net.wire(n - 1, n));
    net.run(10 * MILLISECOND);
    net.give(3, Input::AcceptFlows { accept: true });
    net.poor.insert(0);
    net.open(3, RICH);
    net.run(20 * SECOND);
    assert!(net.nodes[2].account(&far).is_none_or(|account| account.drawn == 0));
}
