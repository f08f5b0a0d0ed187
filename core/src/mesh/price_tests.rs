//! What a flow would cost, and which of its invoices are paid together.

use super::end_world::{Net, bytes};
use super::*;
use crate::config::MeshMode::{Open, PaymentGated};
use crate::time::{MILLISECOND, SECOND};

const RICH: u64 = 1 << 40;

/// What node 0 has paid at each node, and bought.
fn bought(net: &Net) -> std::vec::Vec<(u64, u64)> {
    let count = net.nodes.len() - 1;
    let of =
        |n: usize| (net.paid.get(&n).copied().unwrap_or(0), net.sold.get(&n).copied().unwrap_or(0));
    (1..count).map(of).collect()
}

fn foretold(net: &Net, data: u64) -> Option<std::vec::Vec<(u64, u64)>> {
    let prices = net.nodes[0].flow_price(&net.id(net.nodes.len() - 1), data)?;
    Some(prices.iter().map(|price| (price.amount_msat, price.bytes)).collect())
}

#[test]
fn a_flow_buys_at_each_hop_what_was_foretold() {
    for len in [10, 30_000, 3_000_000] {
        let mut net = Net::line(&[PaymentGated; 4]);
        net.give(3, Input::AcceptFlows { accept: true });
        let destination = net.id(3);
        assert_eq!(foretold(&net, len), None, "no route is known");
        net.give(0, Input::FindRoute { destination });
        net.run(SECOND);
        let told = foretold(&net, len).unwrap();
        let flow = net.open(3, RICH);
        net.run(3 * SECOND);
        let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
        assert!(net.send_all(0, flow, stream, &bytes(len as usize), 60 * SECOND));
        net.run(5 * SECOND);
        assert_eq!(bought(&net), told, "{len}");
        // What is left serves the next one.
        net.give(0, Input::CloseFlow { flow, code: 0 });
        net.run(10 * SECOND);
        assert_eq!(foretold(&net, 10).unwrap(), [(0, 0); 2]);
        let at_hand = net.nodes[0].flow_price(&destination, 10).unwrap();
        assert!(at_hand.iter().all(|price| price.at_hand >= 64 * 1024), "{at_hand:?}");
    }
}

#[test]
fn a_hop_that_takes_nothing_costs_nothing() {
    let edit = |n: usize, config: &mut Config| {
        if n == 1 {
            config.payment.tariff = Default::default();
        }
    };
    let mut net = Net::unwired(&[PaymentGated, Open, PaymentGated, PaymentGated], edit);
    (1..4).for_each(|n| net.wire(n - 1, n));
    net.run(10 * MILLISECOND);
    net.give(0, Input::FindRoute { destination: net.id(3) });
    net.run(SECOND);
    let told = foretold(&net, 10).unwrap();
    assert_eq!(told[0], (0, 0));
    assert!(told[1].0 > 0 && told[1].1 > 0);
}
