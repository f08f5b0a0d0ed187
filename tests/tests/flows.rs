//! Flows of a few nodes: what each of them costs, and what it survives. Every step is held against
//! I11, I12 and I13.

use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use blvm_mesh_tests::scenarios::flows::{line, mesh_with, transfer, wait};
use blvm_mesh_tests::sim::{Habit, Input, Wish};

#[test]
fn bytes_go_both_ways_and_each_relay_is_paid() {
    for count in [2, 3, 4, 6] {
        let mut w = line(count, |_, _| {});
        let wish = Wish { streams: 3, bytes: 200_000, back: 50_000, ..Wish::default() };
        transfer(&mut w, 0, count - 1, wish, 30 * SECOND);
        assert_eq!(w.flows.delivered, 750_000);
        assert_eq!(w.lightning.paid_msat > 0, count > 2);
        w.run_for(10 * SECOND);
        assert_eq!(
            w.checks.counts["flows accepted"], 1,
            "it is not opened again once it is closed"
        );
        println!(
            "{count}: {} msat, lost {}, {:?}",
            w.lightning.paid_msat,
            w.largest_loss_msat(),
            w.checks.counts
        );
    }
}

/// An acknowledgement that was due and had no room in the queue was tried again for ever, in one
/// input.
#[test]
fn a_full_queue_holds_up_a_flow_and_not_its_node() {
    let mut w = line(3, |_, _| {});
    let flow = w.open_flow(0, 2, Wish { bytes: 300_000, ..Wish::default() }).unwrap();
    for _ in 0..40 {
        w.run_for(3 * MILLISECOND);
        for full in [true, false] {
            let (link, lane) = (w.link(2, 1).unwrap(), Lane::Paid);
            w.input(2, Input::Congestion { link, lane, full });
            w.run_for(3 * MILLISECOND);
        }
    }
    assert!(wait(&mut w, flow, 30 * SECOND), "{:?}", w.flows.all[&flow]);
}

/// A source whose next step was not paid, and whose first neighbour left then, took its flow for
/// stopped again and again, in one input.
#[test]
fn a_neighbour_that_leaves_while_a_step_is_not_bought_stops_no_source() {
    let mut w = line(3, |_, _| {});
    let flow = w.open_flow(0, 2, Wish { bytes: 300_000, ..Wish::default() }).unwrap();
    while w.flows.all[&flow].arrived() == 0 {
        w.run_for(MILLISECOND);
    }
    w.lightning.wallets.insert(0, Habit::Never);
    while w.flows.all[&flow].interrupted == 0 {
        w.run_for(MILLISECOND);
    }
    w.cut(0, 1, false);
    w.run_for(5 * SECOND);
    w.lightning.wallets.clear();
    w.heal(0, 1);
    assert!(wait(&mut w, flow, 200 * SECOND), "{:?} {:?}", w.flows.all[&flow], w.checks.counts);
}

/// The relays 1 and 2 have no Lightning node: the node 4, off the way, writes their invoices.
#[test]
fn a_cashier_elsewhere_sells_for_the_relays() {
    let wires = [(0, 1), (1, 2), (2, 3), (1, 4)];
    let mut w =
        mesh_with(5, &wires, |_, _| {}, |w| [1, 2].iter().for_each(|n| w.has_cashier(*n, 4)));
    let wish = Wish { bytes: 200_000, back: 50_000, ..Wish::default() };
    transfer(&mut w, 0, 3, wish, 60 * SECOND);
    let wanted = w.checks.counts["invoices wanted of a cashier"];
    // More than a source may have unpaid at a time: the cashier does not learn what was paid.
    let paid = w.checks.counts["invoices paid"];
    assert!(paid > 4 && wanted >= paid, "{:?}", w.checks.counts);
    // The client is restarted, and goes on without being paid again for what it has sold.
    w.restart(1);
    w.run_for(2 * SECOND);
    transfer(&mut w, 0, 3, wish, 60 * SECOND);
}

#[test]
fn a_destination_with_a_price_is_paid_beside_the_relays() {
    let mut w = line(4, |n, config| {
        if n == 3 {
            config.flows.receive = Tariff { base_msat: 333, per_kib_msat: 301 };
        }
    });
    let wish = Wish { bytes: 200_000, back: 50_000, ..Wish::default() };
    transfer(&mut w, 0, 3, wish, 60 * SECOND);
    let counts = &w.checks.counts;
    assert!(counts["invoices wanted for receiving"] > 0, "{counts:?}");
    assert!(counts["invoices wanted"] > 2 * counts["invoices wanted for receiving"], "{counts:?}");
}

/// The money has left, and the payer's node is killed before it hears what paying revealed.
#[test]
fn what_turns_out_to_be_paid_after_a_crash_is_credited() {
    let mut w = line(3, |_, _| {});
    w.lightning.wallets.insert(0, Habit::Late(5 * SECOND));
    let wish = Wish { bytes: 30_000, ..Wish::default() };
    w.open_flow(0, 2, wish).expect("there is room");
    w.run_for(2 * SECOND);
    assert_eq!(w.checks.counts["invoices paid"], 1, "{:?}", w.checks.counts);
    w.lightning.wallets.clear();
    w.restart(0);
    w.run_for(10 * SECOND);
    assert_eq!(w.checks.counts["credited after a restart of the payer"], 1);
    // The next flow needs nothing more.
    transfer(&mut w, 0, 2, wish, 20 * SECOND);
    assert_eq!(w.checks.counts["invoices paid"], 1, "{:?}", w.checks.counts);
}

/// One payment for the accounts at both relays, before a flow needs them.
#[test]
fn a_shared_proof_serves_flows_over_restarts_of_the_relays() {
    let mut w = line(4, |_, _| {});
    let to = w.id(3);
    w.input(0, Input::FindRoute { destination: to });
    w.run_for(SECOND);
    assert!(w.deposit(0, 3, 1 << 20));
    w.run_for(SECOND);
    assert_eq!(w.checks.counts["deposits credited"], 2, "{:?}", w.checks.counts);
    assert_eq!(w.checks.counts["deposits that arrived"], 1, "{:?}", w.checks.counts);
    [1, 2].iter().for_each(|n| w.restart(*n));
    w.run_for(3 * SECOND);
    let wish = Wish { bytes: 200_000, back: 50_000, ..Wish::default() };
    transfer(&mut w, 0, 3, wish, 60 * SECOND);
    assert!(!w.checks.counts.contains_key("invoices paid"), "{:?}", w.checks.counts);
}
