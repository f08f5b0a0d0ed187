//! Who lies about flows, what it gains, and that honest flows beside it go on. Every step of an
//! honest node is held against I11, I12 and I13, so what a liar gains beyond them fails by itself.

use blvm_mesh_core::mesh::{Event, FlowId};
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use blvm_mesh_core::wire::Kind;
use blvm_mesh_tests::scenarios::flows::{line, mesh, transfer, wait};
use blvm_mesh_tests::sim::{Action, Attack, Bytes, Habit, Path, Wish, World};

const SMALL: Wish = Wish { bytes: 30_000, ..WISH };
const LARGE: Wish = Wish { bytes: 200_000, ..WISH };
const WISH: Wish = Wish {
    streams: 1,
    bytes: 0,
    back: 0,
    budget_msat: 1 << 40,
    slow: false,
    close: true,
    close_after: None,
};

/// Packets of these kinds that a node was given.
fn given(w: &World, n: usize, kinds: &[Kind]) -> Vec<Bytes> {
    let wanted = |bytes: &Bytes| kinds.iter().any(|kind| bytes.get(5) == Some(&(*kind as u8)));
    let carried = w.carried.as_ref().expect("packets are kept").iter();
    carried.filter(|c| c.to == n && wanted(&c.bytes)).map(|c| c.bytes.clone()).collect()
}

/// A node puts packets on its link to another.
fn send(w: &mut World, from: usize, to: usize, packets: &[Bytes]) {
    let link = w.link(from, to).expect("a link");
    for packet in packets {
        w.transmit(link, packet.clone(), Path::default().then(from));
    }
}

/// The liar 4 is a neighbour of both relays of the line 0 - 1 - 2 - 3, over which an honest flow goes.
fn beside() -> World {
    let mut w = mesh(5, &[(0, 1), (1, 2), (2, 3), (1, 4), (2, 4)], |_, _| {});
    w.nodes[4].honest = false;
    w.history = Some(Vec::new());
    w
}

/// The liar's deed is done every 50 ms while an honest flow goes on; the world then.
fn lied_beside(attack: Attack, times: u32) -> World {
    let mut w = beside();
    let own = w.open_flow(4, 0, Wish { close: false, ..SMALL }).expect("there is room");
    assert!(wait(&mut w, own, 20 * SECOND), "{:?}", w.checks.counts);
    let honest = w.open_flow(0, 3, LARGE).expect("there is room");
    for _ in 0..times {
        w.attack(4, attack);
        w.run_for(50 * MILLISECOND);
    }
    assert!(wait(&mut w, honest, 60 * SECOND), "{:?} {:?}", w.flows.all[&honest], w.checks.counts);
    w
}

fn refused(w: &World, name: &str) -> u64 {
    w.checks.counts.get(name).copied().unwrap_or_default()
}

/// What a node was paid for, as it says.
fn sold(w: &World, n: usize) -> Vec<u64> {
    let history = w.history.as_ref().expect("it is kept").iter();
    let bytes = |(at, did): &(usize, Action)| match did {
        Action::Publish(Event::BytesSold { bytes, .. }) if *at == n => Some(*bytes),
        _ => None,
    };
    history.filter_map(bytes).collect()
}

/// An Open and all data of a flow once more, after it was closed: the destination would make the
/// same keys again, with no memory of what has come.
#[test]
fn a_flow_that_is_played_again_delivers_nothing() {
    let mut w = line(3, |_, _| {});
    w.carried = Some(Vec::new());
    transfer(&mut w, 0, 2, SMALL, 20 * SECOND);
    w.run_for(40 * SECOND);
    let all = given(&w, 2, &[Kind::Open, Kind::Data]);
    assert!(all.len() > 5);
    (w.nodes[1].honest, w.flows.delivered) = (false, 0);
    send(&mut w, 1, 2, &all);
    w.run_for(5 * SECOND);
    assert_eq!(w.checks.counts["flows accepted"], 2, "the Open itself is authentic");
    assert_eq!(w.flows.delivered, 0);
    transfer(&mut w, 0, 2, SMALL, 20 * SECOND);
}

#[test]
fn data_beyond_the_credit_go_no_further() {
    let w = lied_beside(Attack::Overdraw, 20);
    assert!(refused(&w, "PaymentVerificationFailed(NothingLeft") > 100, "{:?}", w.checks.counts);
}

#[test]
fn an_open_serves_one_neighbour_and_not_after_close() {
    let w = lied_beside(Attack::Reopen, 20);
    let old = refused(&w, "PaymentVerificationFailed(OldOpen");
    let other = refused(&w, "RoutingError(WrongNeighbour") + refused(&w, "RoutingError(NotOurTurn");
    assert!(old + other > 0, "{:?}", w.checks.counts);
}

/// The liar is on the way, and so sees each ticket that is paid.
#[test]
fn a_ticket_is_taken_once_and_only_where_it_was_issued() {
    let mut w = mesh(5, &[(0, 4), (4, 1), (1, 2), (2, 3), (4, 2)], |_, _| {});
    w.nodes[4].honest = false;
    w.history = Some(Vec::new());
    let flow = w.open_flow(0, 3, LARGE).expect("there is room");
    for _ in 0..40 {
        w.attack(4, Attack::Ticket);
        w.run_for(50 * MILLISECOND);
    }
    assert!(wait(&mut w, flow, 60 * SECOND), "{:?}", w.checks.counts);
    let forged = refused(&w, "PaymentVerificationFailed(Ticket(Forged");
    assert!(forged > 0, "{:?}", w.checks.counts);
    // Each invoice that was paid was credited once.
    let credited: usize = (0..5).map(|n| sold(&w, n).len()).sum();
    assert_eq!(credited as u64, w.checks.counts["invoices paid"]);
}

/// 0 - 4 - 1 - 3 and 0 - 2 - 3: the first relay of one way lies, and the other is longer in time.
fn two_ways() -> World {
    let mut w = mesh(5, &[(0, 4), (4, 1), (1, 3)], |_, _| {});
    w.wire(0, 2, 20 * MILLISECOND);
    w.wire(2, 3, 20 * MILLISECOND);
    w.run_for(SECOND);
    w.nodes[4].honest = false;
    w
}

#[test]
fn an_invoice_that_was_swapped_is_not_paid() {
    let mut w = two_ways();
    w.swapping = true;
    let flow = w.open_flow(0, 3, LARGE).expect("there is room");
    assert!(wait(&mut w, flow, 200 * SECOND), "{:?} {:?}", w.flows.all[&flow], w.checks.counts);
}

#[test]
fn who_takes_the_money_and_carries_nothing_gets_a_step_and_a_half() {
    let mut w = two_ways();
    w.flows.embezzles.insert(4);
    let flow = w.open_flow(0, 3, LARGE).expect("there is room");
    assert!(wait(&mut w, flow, 300 * SECOND), "{:?} {:?}", w.flows.all[&flow], w.checks.counts);
    // The second step, of 128 KiB at a satoshi per KiB, is bought before anything is known.
    let lost = w.loss_msat_at(4);
    assert!((1..=192_000).contains(&lost), "{lost}");
}

#[test]
fn data_from_another_link_and_once_more_come_once() {
    let w = lied_beside(Attack::Replay, 20);
    assert!(refused(&w, "RoutingError(FlowUnknown") > 0, "{:?}", w.checks.counts);
}

#[test]
fn answers_reports_and_farewells_of_others_flows_are_not_believed() {
    lied_beside(Attack::Break, 20);
}

/// The liar is on the only way and says all the time that nothing is left: the source pays a
/// little more, then no more. I13 says how much.
#[test]
fn who_says_that_nothing_is_left_is_believed_a_little() {
    let mut w = line(3, |_, _| {});
    w.nodes[1].honest = false;
    let flow = w.open_flow(0, 2, Wish { bytes: 2_000_000, ..LARGE }).expect("there is room");
    for _ in 0..200 {
        w.attack(1, Attack::Empty);
        w.run_for(50 * MILLISECOND);
    }
    let carried = w.flows.all[&flow].arrived();
    assert!(w.lightning.paid_msat <= 2_000 * carried / 1_000 + 1_000_000, "{carried}");
    w.run_for(60 * SECOND);
    let (paid, ends) = (w.lightning.paid_msat, w.flows.all[&flow].clone());
    w.run_for(60 * SECOND);
    assert!(w.lightning.paid_msat <= paid + 200_000, "{ends:?}");
}

#[test]
fn flows_that_are_opened_and_never_used_leave_room_for_others() {
    let w = lied_beside(Attack::Hoard, 40);
    assert!(w.checks.counts["flows of liars accepted"] > 0, "{:?}", w.checks.counts);
}

/// Many flows to one destination, which has few places.
#[test]
fn one_neighbour_does_not_take_all_places_of_a_destination() {
    let mut w = mesh(4, &[(0, 1), (1, 2), (1, 3)], |_, c| c.capacities.ends = 8);
    w.nodes[3].honest = false;
    for _ in 0..40 {
        w.attack(3, Attack::Hoard);
        w.run_for(20 * MILLISECOND);
    }
    transfer(&mut w, 0, 1, SMALL, 60 * SECOND);
    transfer(&mut w, 2, 1, SMALL, 60 * SECOND);
}

#[test]
fn invoices_that_nobody_pays_leave_room_for_others() {
    let w = lied_beside(Attack::Sales, 40);
    assert!(
        refused(&w, "PaymentVerificationFailed(Ticket(TooManyUnpaid") > 0,
        "{:?}",
        w.checks.counts
    );
}

/// It pays nothing, opens a flow again whenever one has ended, sends data beyond its credit, and
/// restarts in between, as the relay does.
#[test]
fn a_neighbour_on_credit_that_comes_again_gets_no_more_of_it() {
    const CREDIT: u64 = 100_000;
    let poor = World::node_id(4);
    let mut w = mesh(5, &[(0, 1), (1, 2), (2, 3), (4, 1), (4, 2)], |n, c| {
        if n == 1 {
            c.credit.insert(poor, CREDIT);
            // Others could take the place of a debt.
            c.capacities.accounts = 2;
        }
    });
    w.nodes[4].honest = false;
    w.history = Some(Vec::new());
    w.lightning.wallets.insert(4, Habit::Never);
    let mut opened = 0;
    for n in 0..12 {
        let flow = w.open_flow(4, 0, LARGE).expect("there is room");
        w.run_for(8 * SECOND);
        opened += u64::from(w.flows.all[&flow].opened);
        w.attack(4, Attack::Overdraw);
        w.attack(4, Attack::Reopen);
        // Whoever pays has a place of its own for a while.
        transfer(&mut w, 3, 0, SMALL, 60 * SECOND);
        if n % 3 == 2 {
            w.restart(if n % 2 == 0 { 1 } else { 4 });
            w.run_for(2 * SECOND);
        }
        let (_, owed) = w.paid_and_owed(4, 1);
        assert!(owed <= CREDIT, "{owed}");
    }
    assert!(opened > 0 && w.paid_and_owed(4, 1).1 > CREDIT / 2, "{opened}");
    assert_eq!(w.paid_and_owed(4, 2), (0, 0), "there it has none");
    // Once it pays, it pays the debt as well, and goes on. What it was asked to pay before has expired.
    w.lightning.wallets.clear();
    w.run_for(1_000 * SECOND);
    transfer(&mut w, 4, 0, SMALL, 60 * SECOND);
    let (paid, owed) = w.paid_and_owed(4, 1);
    assert!(paid > 0 && owed <= CREDIT, "{paid} {owed}");
}

#[test]
fn two_flows_of_one_source_share_what_it_bought() {
    let mut w = line(4, |_, _| {});
    let flows: Vec<FlowId> =
        (0..2).map(|_| w.open_flow(0, 3, LARGE).expect("there is room")).collect();
    assert!(flows.iter().all(|flow| wait(&mut w, *flow, 60 * SECOND)), "{:?}", w.checks.counts);
}

/// The liar pays once for the accounts on a route, and shows it in every way in which it must not
/// count again.
#[test]
fn a_shared_proof_counts_once_and_for_its_own_terms() {
    let w = lied_beside(Attack::Deposit, 20);
    let used = refused(&w, "ReplayDetected(Used");
    assert!(used > 0 && w.checks.counts["deposits credited"] > 0, "{:?}", w.checks.counts);
    let malformed = refused(&w, "PaymentVerificationFailed(Malformed");
    assert!(malformed > 0, "{:?}", w.checks.counts);
}
