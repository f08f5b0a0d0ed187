//! Destinations that take something for receiving.

use super::end_world::{Net, bytes};
use super::*;
use crate::config::MeshMode::PaymentGated;
use crate::flow::accounts::receiving;
use crate::tariff::Tariff;
use crate::time::SECOND;
use crate::wire::Kind;

const RICH: u64 = 1 << 40;
/// Not a whole satoshi for any step.
const PRICE: Tariff = Tariff { base_msat: 333, per_kib_msat: 301 };

/// A gated line whose last node takes that price.
fn line(count: usize) -> Net {
    let mut net = Net::unwired(&std::vec![PaymentGated; count], |_, config| {
        config.flows.receive = PRICE;
    });
    (1..count).for_each(|n| net.wire(n - 1, n));
    net.run(SECOND);
    net.give(count - 1, Input::AcceptFlows { accept: true });
    net
}

fn transfer(net: &mut Net, len: usize) -> FlowId {
    let end = net.nodes.len() - 1;
    let flow = net.open(end, RICH);
    net.run(3 * SECOND);
    assert!(net.has(0, |e| *e == FlowEvent::Opened), "{:?}", net.events);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    let data = bytes(len);
    assert!(net.send_all(0, flow, stream, &data, 60 * SECOND), "{:?}", net.events);
    net.run(2 * SECOND);
    assert!(net.read[&(end, flow, stream)] == data, "{:?}", net.events);
    flow
}

fn account(net: &Net, n: usize) -> crate::flow::accounts::Account {
    *net.nodes[n].account(&receiving(&net.id(0))).unwrap()
}

#[test]
fn receiving_costs_its_own_price_in_whole_satoshi() {
    for count in [2, 3, 4] {
        let mut net = line(count);
        let flow = transfer(&mut net, 2_000_000);
        let end = count - 1;
        assert!(net.paid.keys().copied().eq(1..count), "each is paid: {:?}", net.paid);
        let due = |(_, to, promise, _): &(usize, usize, [u8; 49], [u8; 32])| {
            let ticket = crate::wire::account::Ticket::from_bytes(promise.last_chunk().unwrap());
            let ticket = ticket.unwrap();
            let relay = Config::host(crate::id::Network::Regtest).payment.tariff;
            let price = if *to == end { PRICE } else { relay }.price(ticket.bytes);
            assert_eq!(ticket.amount_msat % 1_000, 0);
            assert!(
                ticket.amount_msat >= price && (*to < end || ticket.amount_msat < price + 1_000)
            );
            assert_eq!(promise[0], u8::from(*to == end));
            (*to, ticket.amount_msat)
        };
        let mut sums = std::collections::BTreeMap::new();
        for (to, amount) in net.promises.iter().map(due) {
            *sums.entry(to).or_insert(0) += amount;
        }
        assert_eq!(sums, net.paid);
        for n in 1..count {
            assert_eq!(net.nodes[n].stats().earned_msat, net.paid[&n]);
        }
        // What it paid is in its own books as well.
        let own = net.nodes[0].own_flows().next().unwrap();
        assert_eq!(own.paid_msat, net.paid.values().sum::<u64>());
        assert_eq!(own.hops.len(), count - 2);
        // All that passed was counted, both ways, and what was not used comes back.
        net.give(0, Input::CloseFlow { flow, code: 0 });
        net.run(10 * SECOND);
        let drawn = account(&net, end).drawn;
        assert!(drawn >= 2_000_000 && drawn <= net.sold[&end], "{drawn}");
        if count > 2 {
            let relayed = net.nodes[end - 1].account(&net.id(0)).unwrap().drawn;
            // Packets that were under way to the destination when it ended are not counted there.
            assert!(drawn.abs_diff(relayed) < 300, "{drawn} {relayed}");
        }
    }
}

#[test]
fn what_pays_for_receiving_pays_for_nothing_else() {
    let mut net = line(3);
    transfer(&mut net, 10_000);
    // The destination of one flow relays another.
    assert!(net.nodes[2].account(&net.id(0)).is_none());
    assert!(net.nodes[1].account(&receiving(&net.id(0))).is_none());
}

#[test]
fn who_does_not_pay_is_not_heard() {
    // Whatever is sent to pay the destination is lost.
    let mut net = line(3);
    net.fate = |_, to, packet| {
        let at = packet.len().saturating_sub(81);
        !(to == 2 && packet[5] == 1 && packet[6] == 2 && packet[at] == 3)
    };
    net.open(2, RICH);
    net.run(20 * SECOND);
    assert!(!net.has(2, |e| matches!(e, FlowEvent::Accepted { .. })));
    assert_eq!(net.nodes[2].resources().ends, 0);
}

#[test]
fn a_budget_counts_what_the_destination_takes() {
    let mut net = line(2);
    net.open(1, 1_000);
    net.run(20 * SECOND);
    assert!(net.paid.is_empty(), "{:?}", net.paid);
    assert!(!net.has(0, |e| *e == FlowEvent::Opened));
    let mut net = line(3);
    let flow = net.open(2, 400_000);
    net.run(3 * SECOND);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    net.send_all(0, flow, stream, &bytes(8_000_000), 60 * SECOND);
    assert!(net.paid.values().sum::<u64>() <= 400_000, "{:?}", net.paid);
}

#[test]
fn a_restarted_destination_keeps_what_was_bought() {
    let mut net = line(3);
    transfer(&mut net, 100_000);
    let paid = net.paid[&2];
    let before = account(&net, 2);
    net.restart(2, 99);
    net.give(2, Input::AcceptFlows { accept: true });
    net.events.clear();
    assert_eq!(account(&net, 2).bought, before.bought);
    net.run(30 * SECOND);
    net.events.clear();
    transfer(&mut net, 10_000);
    assert!(net.paid[&2] <= 2 * paid);
}

#[test]
fn a_destination_that_takes_nothing_is_asked_for_nothing() {
    let mut net = Net::line(&[PaymentGated; 3]);
    net.give(2, Input::AcceptFlows { accept: true });
    net.fate = |net, to, packet| {
        if to == 2 && packet[5] == Kind::Datagram as u8 {
            net.kept.push(packet.to_vec());
        }
        true
    };
    transfer(&mut net, 500_000);
    assert!(net.paid.keys().copied().eq([1]) && net.kept.is_empty());
}
