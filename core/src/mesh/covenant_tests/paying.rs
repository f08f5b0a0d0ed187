//! What pays and what does not.

use super::*;
use crate::payment::replay::ReplayError;
use crate::payment::terms::Terms;
use crate::wire::datagram::head_len;

#[test]
fn with_a_known_block_it_is_booked_at_every_node_and_delivered() {
    let mut w = line();
    let mined = mined(&w, 1);
    know(&mut w, &mined);
    let (to, payload, proof) = (w.id(2), PAYLOAD.to_vec(), mined.proof.clone());
    let mut did = w.send(0, Own { to, payload, proof, unchecked: false });
    did.extend(w.run());
    assert!(did.contains(&arrived(&w)), "{did:?}");
    let expected = [
        (Party::Source, SOURCE),
        (Party::Intermediate(0), RELAY),
        (Party::Destination, DESTINATION),
    ];
    for (n, (role, share_msat)) in expected.into_iter().enumerate() {
        let p = booked(&did, n).unwrap();
        assert_eq!((p.method, p.role, p.share_msat), (Method::Covenant, role, share_msat));
        assert_eq!((p.source, p.destination), (w.id(0), w.id(2)));
        assert_eq!((p.amount_msat, p.accepted_at), (AMOUNT_SAT * 1_000, NOW));
        assert_eq!(p.expires_at, u64::from(BLOCK_TIME) + 86_400 + REORG_MARGIN_SECS);
        // What the payer keeps is no income.
        let earned = if role == Party::Source { 0 } else { share_msat };
        assert_eq!(w.nodes[n].stats().earned_msat, earned);
        let (payment, source, amount_msat) = (p.key, p.source, p.amount_msat);
        let (end, len) = (head_len(1, mined.proof.len()), mined.proof.len());
        let event = Event::PaymentVerified {
            payment,
            source,
            amount_msat,
            share_msat,
            after: Some(1),
            // Who pays broadcasts nothing: the others are paid by it.
            settlement: (role != Party::Source).then_some(end - len..end),
        };
        assert!(did.contains(&(n, Outcome::Publish(event))));
    }
    assert_eq!(SOURCE + RELAY + DESTINATION, AMOUNT_SAT * 1_000);
}

#[test]
fn an_unknown_block_is_asked_for_at_every_node() {
    let mut w = line();
    let mined = mined(&w, 1);
    for n in [1, 2] {
        let did = if n == 1 { send(&mut w, 0, 2, &mined.proof) } else { w.run() };
        let ticket = asked(&did, n, &mined);
        let did = answer(&mut w, n, ticket, Some(block(&mined)));
        assert_eq!(did[..2], [(n, Outcome::Absorbed), (n, Outcome::Resume(ticket))]);
        assert!(booked(&did, n).is_some());
        assert_eq!((n == 2).then(|| arrived(&w)).as_ref(), did.get(4));
        assert_eq!(w.nodes[n].parked(), 0);
        // The same answer once more answers nothing.
        assert_eq!(answer(&mut w, n, ticket, Some(block(&mined))), [(n, Outcome::Absorbed)]);
    }
}

#[test]
fn an_own_datagram_waits_for_the_answer_too() {
    let mut w = line();
    let mined = mined(&w, 1);
    let own = |to, unchecked| {
        let (payload, proof) = (PAYLOAD.to_vec(), mined.proof.clone());
        Own { to, payload, proof, unchecked }
    };
    let to = w.id(2);
    let ticket = asked(&w.send(0, own(to, false)), 0, &mined);
    let did = answer(&mut w, 0, ticket, None);
    let unknown = MeshError::from(covenant(CovenantError::HeaderUnknown));
    assert_eq!(did, [(0, Outcome::Absorbed), (0, Outcome::Drop(ticket, unknown))]);

    let ticket = asked(&w.send(0, own(to, false)), 0, &mined);
    let did = answer(&mut w, 0, ticket, Some(block(&mined)));
    assert_eq!(did[..2], [(0, Outcome::Absorbed), (0, Outcome::Resume(ticket))]);
    assert_eq!(booked(&did, 0).unwrap().share_msat, SOURCE);
    assert_eq!(w.in_flight.len(), 1);
    // The answer was for that one datagram.
    assert_eq!(w.send(0, own(to, false)), [(0, refused(ReplayError::Used))]);
}

/// Nobody has to pay himself: the source bears the rounding to whole satoshi, and may
/// leave its share to the others, whether it has a script of its own or none.
#[test]
fn a_source_may_send_what_pays_it_less_than_its_share() {
    for (takes, booked_msat) in [(true, 9_999_000), (false, 0)] {
        let mut w = line_of(3, |n| {
            let mut config = config(n);
            if n == 0 && !takes {
                config.payment.payout_script.clear();
            }
            config
        });
        let hops = [w.id(1).hop()];
        let terms = Terms {
            network: Network::Regtest,
            source: w.id(0),
            destination: w.id(2),
            hops: &hops,
            quota: PAYLOAD.len() as u64,
        };
        let scripts = [1, 2, 0].map(script);
        let scripts = if takes { &scripts[..] } else { &scripts[..2] };
        let mined = Funded::new(&terms, scripts, 100_001, 1).mine([0; 32], BLOCK_TIME);
        know(&mut w, &mined);
        let (to, payload, proof) = (w.id(2), PAYLOAD.to_vec(), mined.proof.clone());
        let did = w.send(0, Own { to, payload, proof, unchecked: false });
        assert_eq!(booked(&did, 0).map(|p| p.share_msat), Some(booked_msat), "{did:?}");
        let did = w.run();
        assert!(did.iter().any(|d| matches!(d, (2, Outcome::Deliver(..)))), "{did:?}");
    }
}

#[test]
fn a_coin_pays_once_on_any_way_and_over_a_restart() {
    // 0 reaches 2 by 1 and by 3.
    let mut w = World::new(4, config);
    for n in 0..4 {
        w.give(n, Input::WallClock { unix: NOW });
    }
    for (a, b) in [(0, 1), (1, 2), (0, 3), (3, 2)] {
        w.wire(a, b);
    }
    let funded = funded_for(&w, &[0, 1, 2], 1);
    let mined = funded.mine([0; 32], BLOCK_TIME);
    know(&mut w, &mined);
    let relay = |w: &mut World, way: &[usize], sequence, mined: &Mined| {
        let bytes = packet(w, way, sequence, &mined.proof);
        let mut did = w.receive(way[1], World::link(way[1], 0), bytes);
        did.extend(w.run());
        did
    };
    assert!(relay(&mut w, &[0, 1, 2], 1, &mined).contains(&arrived(&w)));
    // The same, and in other words, under another number.
    let used = (1, refused(ReplayError::Used));
    assert_eq!(relay(&mut w, &[0, 1, 2], 2, &mined)[0], used);
    let reworded = funded.reworded().mine([0; 32], BLOCK_TIME);
    assert_ne!(reworded.proof, mined.proof);
    assert_eq!(relay(&mut w, &[0, 1, 2], 3, &reworded)[0], used);
    // Over another relay, and without one.
    let other = (3, refused(covenant(TemplateError::TermsNotBound.into())));
    assert_eq!(relay(&mut w, &[0, 3, 2], 4, &mined)[0], other);
    // After a restart.
    w.restart(1, 99);
    w.give(1, Input::WallClock { unix: NOW });
    w.wire(0, 1);
    w.wire(1, 2);
    assert_eq!(give_header(&mut w, 1, &mined.header, 100), Outcome::Absorbed);
    assert_eq!(relay(&mut w, &[0, 1, 2], 5, &mined)[0], used);
}

#[test]
fn what_the_node_answers_is_held_against_the_proof() {
    type Forgery = (fn(&mut KnownHeader), CovenantError, Cause);
    let forgeries: [Forgery; 4] = [
        (|b| b.merkle_root[0] ^= 1, CovenantError::NotInBlock, Cause::CovenantInvalid),
        (|b| b.confirmations = 0, CovenantError::Unconfirmed, Cause::Unconfirmed),
        (|b| b.time -= 86_400, CovenantError::TooOld, Cause::Expired),
        (|b| b.time += 9_000, CovenantError::FromFuture, Cause::CovenantInvalid),
    ];
    for (forge, reason, cause) in forgeries {
        let mut w = line();
        let mined = mined(&w, 1);
        let ticket = asked(&send(&mut w, 0, 2, &mined.proof), 1, &mined);
        let mut block = block(&mined);
        forge(&mut block);
        let did = answer(&mut w, 1, ticket, Some(block));
        let refusal = (1, refused(covenant(reason)));
        assert_eq!(did, [(1, Outcome::Absorbed), (1, Outcome::Resume(ticket)), refusal]);
        let relay = w.id(1);
        assert_eq!(told(&w.run(), relay), Some(cause));
        assert_eq!(w.nodes[1].live_payments(), 0);
    }
}

#[test]
fn where_covenants_are_not_enforced_none_is_accepted() {
    let unable: [fn(&mut Config); 2] =
        [|c| c.payment.covenants_active = false, |c| c.payment.payout_script.clear()];
    for unable in unable {
        let mut w = line_of(3, |n| {
            let mut config = config(n);
            if n == 1 {
                unable(&mut config);
            }
            config
        });
        let mined = mined(&w, 1);
        know(&mut w, &mined);
        let did = send(&mut w, 0, 2, &mined.proof);
        assert_eq!(did[0], (1, refused(covenant(CovenantError::NotActive))));
        let relay = w.id(1);
        assert_eq!(told(&did, relay), Some(Cause::CovenantInactive));
    }
}

#[test]
fn headers_do_not_jump_and_a_reorganisation_unmakes_a_payment() {
    let mut w = line_of(3, |n| {
        let mut config = config(n);
        config.payment.min_confirmations = 2;
        config
    });
    let (root, root_hash) = mine([0; 32], [9; 32], BLOCK_TIME);
    let funded = funded_for(&w, &[0, 1, 2], 1);
    let mined = funded.mine(root_hash, BLOCK_TIME);
    let stray = mine([0xee; 32], mined.merkle_root, BLOCK_TIME).0;
    let pay = |w: &mut World, sequence, mined: &Mined| {
        let bytes = packet(w, &[0, 1, 2], sequence, &mined.proof);
        w.receive(1, World::link(1, 0), bytes)
    };
    assert_eq!(give_header(&mut w, 1, &root, 100), Outcome::Absorbed);
    // A block of a chain of its own, with the coin in it, is not taken.
    let jump = refused(NetworkReason::Header(HeaderError::Disconnected));
    assert_eq!(give_header(&mut w, 1, &stray, 101), jump);
    let mut no_work = mined.header;
    no_work[72..76].copy_from_slice(&0x1d00_ffffu32.to_le_bytes());
    let no_work = give_header(&mut w, 1, &no_work, 101);
    assert_eq!(no_work, refused(NetworkReason::Header(HeaderError::NoWork)));

    let unconfirmed = [(1, refused(covenant(CovenantError::Unconfirmed)))];
    assert_eq!(give_header(&mut w, 1, &mined.header, 101), Outcome::Absorbed);
    assert_eq!(pay(&mut w, 1, &mined), unconfirmed);
    let above = mine(mined.block_hash, [8; 32], BLOCK_TIME).0;
    assert_eq!(give_header(&mut w, 1, &above, 102), Outcome::Absorbed);
    // Another branch with more work leaves the coin out.
    let mut tip = root_hash;
    for height in 101..104 {
        let (header, hash) = mine(tip, [7; 32], BLOCK_TIME);
        assert_eq!(give_header(&mut w, 1, &header, height), Outcome::Absorbed);
        tip = hash;
    }
    assert_eq!(pay(&mut w, 2, &mined), unconfirmed);
    // The same coin in the new branch, once it is deep enough.
    let mined = funded.mine(tip, BLOCK_TIME);
    assert_eq!(give_header(&mut w, 1, &mined.header, 104), Outcome::Absorbed);
    assert_eq!(pay(&mut w, 3, &mined), unconfirmed);
    let above = mine(mined.block_hash, [6; 32], BLOCK_TIME).0;
    assert_eq!(give_header(&mut w, 1, &above, 105), Outcome::Absorbed);
    let did = pay(&mut w, 4, &mined);
    assert_eq!(booked(&did, 1).unwrap().share_msat, RELAY);
}
