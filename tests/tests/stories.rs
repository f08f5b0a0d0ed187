//! Short stories: what each node does, in order, as it would be told. The traces
//! are compared whole.

use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::SECOND;
use blvm_mesh_tests::payments::invoice::Order;
use blvm_mesh_tests::scenarios::story::{Log, START, Story};
use blvm_mesh_tests::sim::{Action, Input, Verdict};
use secp256k1::SecretKey;

/// A log as it would be told; the numbers of messages and identities left out.
fn told(log: &Log) -> String {
    let mut out = String::from("\n");
    for (n, did) in log {
        let what = match did {
            Action::Verdict(Verdict::Deliver { payload, earned_msat, .. }) => {
                let text = String::from_utf8_lossy(payload);
                format!("delivers {text:?} and earns {earned_msat} msat")
            }
            Action::Verdict(Verdict::Reject { reason, remedy, .. }) => {
                format!("refuses: {reason} ({remedy:?})")
            }
            Action::Drop { reason, .. } => format!("drops what waited: {reason}"),
            Action::Publish(Event::RouteDiscovered { hops, .. }) => {
                format!("knows a route over {hops} others")
            }
            Action::Publish(Event::RouteFailed { .. }) => "finds no route".into(),
            Action::Publish(Event::PaymentVerified { amount_msat, share_msat, .. }) => {
                format!("is paid {share_msat} of {amount_msat} msat")
            }
            Action::Publish(Event::DeliveryFailed { cause, .. }) => {
                format!("learns that it was stopped: {cause:?}")
            }
            Action::Publish(Event::Delivered { .. }) => "learns that it was delivered".into(),
            Action::Publish(Event::PeerConnected { .. }) => "has a new neighbour".into(),
            Action::Publish(Event::PeerDisconnected { .. }) => "has lost a neighbour".into(),
            Action::Persist { record: Record::Payment(p), .. } => {
                format!("records it as {:?}", p.role)
            }
            Action::Persist { record: Record::Floor(unix), .. } => {
                format!("forgets all up to {} s", unix - START)
            }
            Action::Verdict(Verdict::Parked { .. }) => "keeps it waiting".into(),
            Action::Resume { .. } => "takes it up again".into(),
            Action::Verify { .. } => "asks about a block".into(),
            Action::Close { reason, .. } => format!("closes a link: {reason}"),
            other => format!("{other:?}"),
        };
        out += &format!("{n} {what}\n");
    }
    out
}

#[test]
fn a_packet_is_paid_for_and_the_same_payment_buys_nothing_more() {
    let mut w = Story::line(MeshMode::PaymentGated, 4, false);
    let quote = w.quote(0, 3, 5);
    let order = w.order(0, 3, &quote, 5);
    let to = w.id(3);
    let mut log = w.send(0, to, b"hello", &order.proof(), false);
    log.extend(w.run());
    log.extend(w.send_and_run(0, 3, b"hello", &order.proof()));
    log.extend(w.send_and_run(0, 3, b"other", &order.proof()));
    log.extend(w.send_and_run(0, 3, b"hello", &[]));
    assert_eq!(told(&log), PAID);
}

const PAID: &str = r#"
0 records it as Source
0 is paid 733 of 7331 msat
1 records it as Intermediate(0)
1 is paid 1100 of 7331 msat
2 records it as Intermediate(1)
2 is paid 1100 of 7331 msat
3 records it as Destination
3 is paid 4398 of 7331 msat
3 delivers "hello" and earns 4398 msat
0 learns that it was delivered
1 refuses: the payment was used before (Penalise)
0 learns that it was stopped: Replay
1 refuses: the payment was used before (Penalise)
0 learns that it was stopped: Replay
1 refuses: payment is required and there is no proof (Ignore)
0 learns that it was stopped: PaymentRequired
"#;

#[test]
fn a_route_breaks_and_another_one_is_found() {
    // 0 - 1 - 2 and 0 - 3 - 2, the second one longer by its latency only.
    let mut w = Story::line(MeshMode::Open, 4, false);
    w.wire(0, 3, 20_000);
    w.run();
    let to = w.id(2);
    let mut log = w.send(0, to, b"first", &[], false);
    log.extend(w.run());
    w.cut(1, 2, false);
    log.extend(w.run());
    log.extend(w.send(0, to, b"lost", &[], false));
    log.extend(w.later(SECOND));
    log.extend(w.send(0, to, b"again", &[], false));
    log.extend(w.later(SECOND));
    assert_eq!(told(&log), BROKEN);
}

const BROKEN: &str = r#"
0 keeps it waiting
0 knows a route over 1 others
0 takes it up again
2 delivers "first" and earns 0 msat
2 refuses: the route request was seen before (Ignore)
1 has lost a neighbour
2 has lost a neighbour
1 refuses: the next hop of the route is not connected to this node (Ignore)
0 learns that it was stopped: NextHopGone
0 keeps it waiting
0 knows a route over 1 others
0 takes it up again
2 delivers "again" and earns 0 msat
"#;

#[test]
fn the_clock_goes_ahead_and_back_and_nothing_is_paid_twice() {
    let mut w = Story::line(MeshMode::PaymentGated, 2, false);
    let quote = w.quote(0, 1, 4);
    let order = w.order(0, 1, &quote, 4);
    let mut log = w.send_and_run(0, 1, b"once", &order.proof());
    w.set_clocks(START + order.expiry_s + 1);
    log.extend(w.later(61 * SECOND));
    w.set_clocks(START + 1);
    log.extend(w.send_and_run(0, 1, b"once", &order.proof()));
    log.extend(w.start_again(1));
    log.extend(w.send_and_run(0, 1, b"once", &order.proof()));
    assert_eq!(told(&log), CLOCK);
}

const CLOCK: &str = r#"
1 records it as Destination
1 is paid 1100 of 1833 msat
1 delivers "once" and earns 1100 msat
0 learns that it was delivered
1 forgets all up to 3600 s
1 refuses: payments that expire up to 1750003600 (seconds since 1970) are no longer accepted here (Ignore)
0 learns that it was stopped: Expired
0 has lost a neighbour
1 has a new neighbour
0 has a new neighbour
1 refuses: payments that expire up to 1750003600 (seconds since 1970) are no longer accepted here (Ignore)
0 learns that it was stopped: Expired
"#;

#[test]
fn nobody_is_where_somebody_is_looked_for() {
    let mut w = Story::line(MeshMode::Open, 3, true);
    let nobody = blvm_mesh_core::id::NodeId([9; 32]);
    let mut log = w.send(0, nobody, b"anybody?", &[], false);
    log.extend(w.later(6 * SECOND));
    w.input(0, Input::FindRoute { destination: nobody });
    log.extend(w.later(6 * SECOND));
    assert_eq!(told(&log), NOBODY);
}

const NOBODY: &str = r#"
0 keeps it waiting
0 finds no route
0 drops what waited: no route to the destination was found
0 finds no route
"#;

#[test]
fn a_relay_loses_power_before_and_after_its_record_is_durable() {
    let mut w = Story::line(MeshMode::PaymentGated, 3, false);
    let quote = w.quote(0, 2, 5);
    let mut log = Log::new();
    for written in [0, 1] {
        let order = w.order(0, 2, &quote, 5);
        w.nodes[1].disk_stalls = true;
        log.extend(w.send_and_run(0, 2, b"power", &order.proof()));
        w.crash(1, written);
        log.extend(w.start_again(1));
        log.extend(w.send_and_run(0, 2, b"power", &order.proof()));
        w.sync(1);
        log.extend(w.run());
    }
    assert_eq!(told(&log), POWER);
}

const POWER: &str = r#"
1 records it as Intermediate(0)
1 is paid 1100 of 3666 msat
0 has lost a neighbour
2 has lost a neighbour
1 has a new neighbour
2 has a new neighbour
1 has a new neighbour
0 has a new neighbour
1 records it as Intermediate(0)
1 is paid 1100 of 3666 msat
0 keeps it waiting
0 knows a route over 1 others
0 takes it up again
1 refuses: the payment was used before (Penalise)
0 learns that it was stopped: Replay
2 records it as Destination
2 is paid 2199 of 3666 msat
2 delivers "power" and earns 2199 msat
1 refuses: this reply or error answers no packet that passed here (Ignore)
0 learns that it was delivered
1 records it as Intermediate(0)
1 is paid 1100 of 3666 msat
2 has lost a neighbour
2 has a new neighbour
1 has a new neighbour
0 closes a link: the neighbour has another link, which is kept
0 has lost a neighbour
0 has a new neighbour
1 has a new neighbour
2 records it as Destination
2 is paid 2199 of 3666 msat
2 delivers "power" and earns 2199 msat
0 learns that it was delivered
1 refuses: the payment was used before (Penalise)
0 learns that it was stopped: Replay
"#;

#[test]
fn an_invoice_to_himself_and_a_proof_that_he_saw_buy_a_thief_nothing() {
    let mut w = Story::line(MeshMode::PaymentGated, 3, true);
    let quote = w.quote(0, 2, 5);
    let order = w.order(0, 2, &quote, 5);
    let own = SecretKey::from_byte_array([9; 32]).unwrap();
    let own = Order { signer: own, hint: order.hint, ..order.clone() };
    let mut log = w.send_and_run(0, 2, b"cheap", &own.proof());
    // The relay sees the payment, and shows it as its own before it passes it on.
    w.lose = Some(|to, packet| to == 2 && packet.len() > 200);
    log.extend(w.send_and_run(0, 2, b"hello", &order.proof()));
    w.lose = None;
    log.extend(w.send_and_run(1, 2, b"mine!", &order.proof()));
    assert_eq!(told(&log), THIEF);
}

const THIEF: &str = r#"
1 refuses: the signature of the invoice is not by the issuer named (Ignore)
0 learns that it was stopped: IssuerUnknown
1 records it as Intermediate(0)
1 is paid 1100 of 3666 msat
2 refuses: the signature of the invoice is not by the issuer named (Ignore)
1 learns that it was stopped: IssuerUnknown
"#;

#[test]
fn a_table_without_room_takes_no_payment_until_one_has_expired() {
    let mut w = Story::small(3, 1);
    let quote = w.quote(0, 2, 5);
    let orders = [0, 1].map(|_| w.order(0, 2, &quote, 5));
    let mut log = w.send_and_run(0, 2, b"first", &orders[0].proof());
    log.extend(w.send_and_run(0, 2, b"other", &orders[1].proof()));
    w.set_clocks(START + 3601);
    log.extend(w.later(61 * SECOND));
    let late = w.order_at(START + 3600, 0, 2, &quote, 5);
    log.extend(w.send_and_run(0, 2, b"later", &late.proof()));
    assert_eq!(told(&log), ROOM);
}

const ROOM: &str = r#"
1 records it as Intermediate(0)
1 is paid 1100 of 3666 msat
2 records it as Destination
2 is paid 2199 of 3666 msat
2 delivers "first" and earns 2199 msat
0 learns that it was delivered
1 refuses: there is no room to remember another payment, so none is accepted (Ignore)
0 learns that it was stopped: TableFull
1 refuses: the invoice expired at 1750003600, now is 1750003602 (seconds since 1970) (Ignore)
0 learns that it was stopped: Expired
1 forgets all up to 3600 s
2 forgets all up to 3600 s
1 records it as Intermediate(0)
1 is paid 1100 of 3666 msat
2 records it as Destination
2 is paid 2199 of 3666 msat
2 delivers "later" and earns 2199 msat
0 learns that it was delivered
"#;

#[test]
fn a_covenant_is_taken_once_its_block_is_known_and_once_only() {
    let mut w = Story::covenants(3);
    let quote = w.quote(0, 2, 5);
    let proof = w.coin(0, 2, &quote, 5);
    let mut log = w.send_and_run(0, 2, b"coins", &proof);
    log.extend(w.send_and_run(0, 2, b"again", &proof));
    assert_eq!(told(&log), COVENANT);
}

const COVENANT: &str = r#"
1 keeps it waiting
1 asks about a block
1 takes it up again
1 records it as Intermediate(0)
1 is paid 6000000 of 20000000 msat
2 keeps it waiting
2 asks about a block
2 takes it up again
2 records it as Destination
2 is paid 12000000 of 20000000 msat
2 delivers "coins" and earns 12000000 msat
0 learns that it was delivered
1 refuses: the payment was used before (Penalise)
0 learns that it was stopped: Replay
"#;
