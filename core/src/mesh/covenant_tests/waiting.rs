//! Packets that wait for the node's answer.

use super::*;
use crate::id::Standing;
use crate::mesh::test_world::edit;
use crate::payment::replay::ReplayError;
use crate::time::SECOND;

#[test]
fn an_answer_for_an_own_datagram_serves_that_one_only_and_not_for_ever() {
    let mut w = line();
    w.prompt = false;
    let first = funded_for(&w, &[1, 2], 1).mine([0; 32], BLOCK_TIME);
    let second = funded_for(&w, &[1, 2], 2).mine([0; 32], BLOCK_TIME);
    let foreign = mined(&w, 3);
    let to = w.id(2);
    let own = |mined: &Mined| Own {
        to,
        payload: PAYLOAD.to_vec(),
        proof: mined.proof.clone(),
        unchecked: false,
    };
    let a = asked(&w.send(1, own(&first)), 1, &first);
    let b = asked(&w.send(1, own(&second)), 1, &second);
    answer(&mut w, 1, a, Some(block(&first)));
    answer(&mut w, 1, b, Some(block(&second)));
    // What others send meanwhile neither uses the answers nor uses them up.
    let packet_of_0 = packet(&w, &[0, 1, 2], 7, &foreign.proof);
    let did = w.receive(1, World::link(1, 0), packet_of_0);
    let c = asked(&did, 1, &foreign);
    answer(&mut w, 1, c, Some(block(&foreign)));
    assert!(booked(&w.hand_back(1, c), 1).is_some());
    assert!(booked(&w.hand_back(1, a), 1).is_some());
    assert!(booked(&w.hand_back(1, b), 1).is_some());

    // A block that this node's own datagram was answered about, and which another's
    // cites: that other is not let through on the same answer.
    let mut w = line();
    w.prompt = false;
    let shared = mined(&w, 4);
    let ticket = asked(&w.send(0, Own { to, ..own(&shared) }), 0, &shared);
    answer(&mut w, 0, ticket, Some(block(&shared)));
    let forged = packet(&w, &[1, 0], 7, &shared.proof);
    let did = w.receive(0, World::link(0, 1), forged);
    assert_eq!(did, [(0, refused(covenant(TemplateError::TermsNotBound.into())))]);
    w.in_flight.clear();
    // Never given again: after a while the answer is not good any more.
    w.later(10 * SECOND);
    let again = w.send(0, own(&shared));
    asked(&again, 0, &shared);
}

#[test]
fn a_block_that_nobody_knows_is_no_payment_and_the_source_is_told() {
    let mut w = line();
    let mined = mined(&w, 1);
    let ticket = asked(&send(&mut w, 0, 2, &mined.proof), 1, &mined);
    let did = answer(&mut w, 1, ticket, None);
    let unknown = covenant(CovenantError::HeaderUnknown).into();
    assert_eq!(did, [(1, Outcome::Absorbed), (1, Outcome::Drop(ticket, unknown))]);
    let relay = w.id(1);
    assert_eq!(told(&w.run(), relay), Some(Cause::Unconfirmed));
    assert_eq!(answer(&mut w, 1, ticket, Some(block(&mined))), [(1, Outcome::Absorbed)]);
    assert_eq!((w.nodes[1].live_payments(), w.nodes[1].parked()), (0, 0));
}

#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    for timer_first in [true, false] {
        let mut w = line();
        let mined = mined(&w, 1);
        let ticket = asked(&send(&mut w, 0, 2, &mined.proof), 1, &mined);
        let until = w.now + w.nodes[1].config().timing.verify_timeout;
        w.now = until - 1;
        assert_eq!(w.give(1, Input::Timer), [(1, Outcome::Absorbed)]);
        w.now = until;
        let late = (1, Outcome::Drop(ticket, PaymentReason::NoAnswer.into()));
        if timer_first {
            assert_eq!(w.give(1, Input::Timer), [(1, Outcome::Absorbed), late]);
            assert_eq!(answer(&mut w, 1, ticket, Some(block(&mined))), [(1, Outcome::Absorbed)]);
        } else {
            let did = answer(&mut w, 1, ticket, Some(block(&mined)));
            assert_eq!(did, [(1, Outcome::Absorbed), late]);
        }
        let relay = w.id(1);
        assert_eq!(told(&w.run(), relay), Some(Cause::Unconfirmed));
        assert_eq!((w.nodes[1].live_payments(), w.nodes[1].parked()), (0, 0));
    }
}

#[test]
fn a_closed_link_ends_the_waiting() {
    let mut w = line();
    let mined = mined(&w, 1);
    let ticket = asked(&send(&mut w, 0, 2, &mined.proof), 1, &mined);
    let did = w.cut(0, 1);
    let closed = Outcome::Drop(ticket, NetworkReason::LinkClosed.into());
    assert_eq!(did.iter().filter(|(n, d)| (*n, d) == (1, &closed)).count(), 1);
    assert_eq!(w.nodes[1].parked(), 0);
    assert_eq!(answer(&mut w, 1, ticket, Some(block(&mined))), [(1, Outcome::Absorbed)]);
}

#[test]
fn a_packet_comes_back_after_its_link_closed() {
    for reconnected in [false, true] {
        let mut w = line();
        w.prompt = false;
        let mined = mined(&w, 1);
        let ticket = asked(&send(&mut w, 0, 2, &mined.proof), 1, &mined);
        answer(&mut w, 1, ticket, Some(block(&mined)));
        w.cut(0, 1);
        if reconnected {
            // The link's number is used again.
            w.wire(0, 1);
        }
        assert_eq!(w.hand_back(1, ticket), [(1, refused(NetworkReason::LinkClosed))]);
        assert_eq!(w.nodes[1].live_payments(), 0);
    }
}

#[test]
fn two_that_wait_with_one_coin_pay_once() {
    // The same packet was delivered, another one is not paid for.
    for (sequence, second) in [(7, Outcome::Absorbed), (8, refused(ReplayError::Used))] {
        let mut w = line_of(2, config);
        let mined = funded_for(&w, &[0, 1], 1).mine([0; 32], BLOCK_TIME);
        let [a, b] = [7, sequence].map(|sequence| {
            let bytes = packet(&w, &[0, 1], sequence, &mined.proof);
            asked(&w.receive(1, World::link(1, 0), bytes), 1, &mined)
        });
        let did = answer(&mut w, 1, a, Some(block(&mined)));
        assert!(booked(&did, 1).is_some());
        let did = answer(&mut w, 1, b, Some(block(&mined)));
        assert_eq!(did, [(1, Outcome::Absorbed), (1, Outcome::Resume(b)), (1, second)]);
        assert_eq!(w.nodes[1].live_payments(), 1);
        assert_eq!(w.nodes[1].stats().delivered, 1);
    }
}

#[test]
fn no_neighbour_takes_the_places_of_others() {
    // Node 1 has two neighbours; two of its four places are theirs.
    let mut w = line();
    let funded = funded_for(&w, &[0, 1, 2], 1);
    let mut number = 0;
    let mut from_0 = |w: &mut World| {
        number += 1;
        let proof = funded.mine([number; 32], BLOCK_TIME).proof;
        let bytes = packet(w, &[0, 1, 2], u64::from(number), &proof);
        w.receive(1, World::link(1, 0), bytes)
    };
    let full = (1, refused(NetworkReason::TooManyParked));
    assert!(matches!(from_0(&mut w)[..], [(1, Outcome::Parked(_)), _]));
    assert!(from_0(&mut w).contains(&full));
    let did = {
        let proof = mined(&w, 9).proof;
        send(&mut w, 0, 2, &proof)
    };
    assert!(did.contains(&full));
    assert_eq!(told(&did, w.id(1)), Some(Cause::TableFull));
    // The other neighbour has its place.
    let proof = funded_for(&w, &[2, 1, 0], 2).mine([0; 32], BLOCK_TIME).proof;
    let bytes = packet(&w, &[2, 1, 0], 1, &proof);
    assert!(matches!(w.receive(1, World::link(1, 2), bytes)[..], [(1, Outcome::Parked(_)), _]));
    // And this node has two.
    let funded = funded_for(&w, &[1, 2], 3);
    for (i, parks) in [(0, true), (1, true), (2, false)] {
        let (to, payload) = (w.id(2), PAYLOAD.to_vec());
        let proof = funded.mine([i; 32], BLOCK_TIME).proof;
        let did = w.send(1, Own { to, payload, proof, unchecked: false });
        assert_eq!(matches!(did[..], [(1, Outcome::Parked(_)), _]), parks, "{did:?}");
        assert_eq!(did.last() == Some(&full), !parks);
    }
    assert_eq!(w.nodes[1].parked(), 4);
    // A link that is opened anew takes no more than the closed one gave back.
    w.cut(0, 1);
    assert_eq!(w.nodes[1].parked(), 3);
    w.wire(0, 1);
    assert!(matches!(from_0(&mut w)[..], [(1, Outcome::Parked(_)), _]));
    assert_eq!(from_0(&mut w), [full]);
}

#[test]
fn what_comes_back_is_checked_as_what_came_in() {
    let mut w = line();
    w.prompt = false;
    let (coin, other) = (mined(&w, 1), mined(&w, 2));
    let honest = packet(&w, &[0, 1, 2], 7, &coin.proof);
    let mut edited = honest.clone();
    edit(&mut edited);
    let mut no_packet = honest.clone();
    no_packet[0] = 0;
    let hello = {
        let mut n = World::new(2, config);
        let peer = n.id(1);
        n.nodes[0]
            .handle(
                0,
                Input::PeerConnected {
                    link: LinkId(1),
                    peer,
                    dialed: true,
                    standing: Standing::Own,
                    capabilities: None,
                },
            )
            .unwrap();
        n.nodes[0].poll();
        let Action::Send { packet, .. } = n.nodes[0].poll() else { panic!("no hello") };
        packet.to_vec()
    };
    let long = std::vec![0; 8193];
    let forged = MeshError::from(PaymentReason::SourceSignature);
    for (i, mut bytes) in [edited, no_packet, hello, long, Vec::new()].into_iter().enumerate() {
        let ticket = asked(&w.receive(1, World::link(1, 0), honest.clone()), 1, &coin);
        answer(&mut w, 1, ticket, Some(block(&coin)));
        let resumed = Input::Resumed { ticket, packet: &mut bytes };
        let did = w.give(1, resumed);
        assert!(matches!(did[..], [(1, Outcome::Reject(_))]), "{i}: {did:?}");
        assert_eq!(did[0].1 == Outcome::Reject(forged), i == 0);
        w.now += SECOND;
        let again = Input::Resumed { ticket, packet: &mut bytes };
        assert_eq!(w.nodes[1].handle(w.now, again), Err(Misuse::UnknownTicket(ticket)));
        w.in_flight.clear();
    }
    assert_eq!(w.nodes[1].live_payments(), 0);
    // Another packet whose block is not known: that one waits now.
    let ticket = asked(&w.receive(1, World::link(1, 0), honest), 1, &coin);
    answer(&mut w, 1, ticket, Some(block(&coin)));
    let mut bytes = packet(&w, &[0, 1, 2], 8, &other.proof);
    w.nodes[1].handle(w.now, Input::Resumed { ticket, packet: &mut bytes }).unwrap();
    assert!(matches!(w.nodes[1].poll(), Action::Verdict(Verdict::Parked { .. })));
    let Action::Verify { block_hash, .. } = w.nodes[1].poll() else { panic!("no question") };
    assert_eq!(block_hash, other.block_hash);
}

#[test]
fn a_packet_that_is_not_given_back_leaves_no_place_taken() {
    let mut w = line();
    w.prompt = false;
    let coin = mined(&w, 1);
    let ticket = asked(&send(&mut w, 0, 2, &coin.proof), 1, &coin);
    w.now += 9 * SECOND;
    answer(&mut w, 1, ticket, Some(block(&coin)));
    // The time to answer is over, but it was answered.
    assert_eq!(w.later(5 * SECOND), []);
    assert_eq!(w.later(5 * SECOND), []);
    let mut bytes = [0; 10];
    let resumed = Input::Resumed { ticket, packet: &mut bytes };
    assert_eq!(w.nodes[1].handle(w.now, resumed), Err(Misuse::UnknownTicket(ticket)));
    let again = packet(&w, &[0, 1, 2], 9, &coin.proof);
    asked(&w.receive(1, World::link(1, 0), again), 1, &coin);
}

#[test]
fn a_store_that_failed_meanwhile_takes_no_payment() {
    let mut w = line();
    let mined = mined(&w, 1);
    let ticket = asked(&send(&mut w, 0, 2, &mined.proof), 1, &mined);
    w.give(1, Input::StoreFailed);
    let did = answer(&mut w, 1, ticket, Some(block(&mined)));
    assert_eq!(did.last(), Some(&(1, refused(PaymentReason::StoreFailed))));
}
