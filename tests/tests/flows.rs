//! Flows of a few nodes: what each of them costs, and what it survives. Every step is held against
//! I11, I12 and I13.

use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use blvm_mesh_tests::scenarios::flows::{line, transfer, wait};
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
