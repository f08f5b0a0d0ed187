//! What is paid for and disappears without a word is not lost to its payer: in worlds of honest
//! nodes, of which some lose their power while they hold it.

use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::time::{MILLISECOND, SECOND};
use blvm_mesh_tests::scenarios::{find, line, pay};
use blvm_mesh_tests::sim::{Action, Crash, Verdict, World};

/// Pays for some datagrams from the first node to the last, and returns what they carry.
fn send_all(
    w: &mut World,
    to: usize,
    count: u8,
    mut between: impl FnMut(&mut World, u8),
) -> Vec<[u8; 40]> {
    let payloads: Vec<[u8; 40]> = (0..count).map(|n| [n; 40]).collect();
    for payload in &payloads {
        // After a crash it takes a while to be linked again.
        if w.nodes[0].machine.path(&w.id(to), w.now).is_none() {
            w.run_for(3 * SECOND);
            find(w, 0, to);
        }
        between(w, payload[0]);
        let proof = pay(w, 0, to, payload.len(), 600);
        w.send(0, to, payload, &proof);
        w.run_for(20 * MILLISECOND);
    }
    payloads
}

fn receipts(w: &World) -> usize {
    let told = |(n, did): &&(usize, Action)| {
        *n == 0 && matches!(did, Action::Publish(Event::Delivered { .. }))
    };
    w.history.as_ref().expect("it is kept").iter().filter(told).count()
}

fn handed_over(w: &World, to: usize, payload: &[u8]) -> usize {
    let history = w.history.as_ref().expect("it is kept");
    let it = |(n, did): &&(usize, Action)| {
        *n == to
            && matches!(did, Action::Verdict(Verdict::Deliver { payload: p, .. }) if p[..] == *payload)
    };
    history.iter().filter(it).count()
}

#[test]
fn a_relay_that_crashes_while_it_holds_what_is_paid_loses_none_of_it() {
    for (relay, crash) in
        [1, 2].into_iter().flat_map(|n| [(n, Crash::BeforeWrite), (n, Crash::AfterWrite)])
    {
        let mut w = line(4, |_, _| {});
        find(&mut w, 0, 3);
        w.history = Some(Vec::new());
        // Between its record and the sending of the packet, which is then in memory only.
        let payloads = send_all(&mut w, 3, 5, |w, n| {
            if n == 2 {
                w.nodes[relay].armed = Some(crash);
            }
        });
        w.run_for(100 * SECOND);
        for payload in &payloads {
            assert_eq!(handed_over(&w, 3, payload), 1, "relay {relay}, {crash:?}: {payload:?}");
        }
        assert_eq!(receipts(&w), payloads.len(), "relay {relay}, {crash:?}");
        assert!(w.checks.counts["paid datagrams sent again"] > 0);
    }
}

#[test]
fn a_destination_that_crashes_between_record_and_delivery_delivers_what_comes_again() {
    for crash in [Crash::BeforeWrite, Crash::AfterWrite] {
        let mut w = line(3, |_, _| {});
        find(&mut w, 0, 2);
        w.history = Some(Vec::new());
        w.nodes[2].armed = Some(crash);
        let proof = pay(&mut w, 0, 2, 4, 600);
        w.send(0, 2, b"paid", &proof);
        w.run_for(SECOND);
        assert!(!w.arrived(0, 2, b"paid"), "it crashed before");
        assert_eq!(w.nodes[2].disk.len(), usize::from(crash == Crash::AfterWrite));
        w.run_for(100 * SECOND);
        assert!(w.arrived(0, 2, b"paid"), "{crash:?}");
        assert_eq!(receipts(&w), 1);
        let again = w.checks.counts.contains_key("delivered after a restart");
        assert_eq!(again, crash == Crash::AfterWrite);
    }
}

#[test]
fn what_gets_lost_on_bad_links_there_and_back_arrives_once() {
    let mut w = line(4, |_, _| {});
    find(&mut w, 0, 3);
    w.history = Some(Vec::new());
    // Of datagrams and receipts one in twelve is lost on each link.
    w.change_lines(|line| line.loss_ppm = [80_000; 2]);
    let payloads = send_all(&mut w, 3, 30, |_, _| {});
    w.run_for(100 * SECOND);
    let arrived = payloads.iter().filter(|p| handed_over(&w, 3, &p[..]) == 1).count();
    // Four times one in five: one of 600.
    assert!(arrived >= payloads.len() - 1, "{arrived} of {}", payloads.len());
    assert!(payloads.iter().all(|p| handed_over(&w, 3, &p[..]) <= 1));
}
