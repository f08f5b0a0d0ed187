//! Defects of an earlier implementation, each as a test that it would fail.

use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::config::{MAX_HOPS, MeshMode};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::mesh::{
    Event, MeshError, NetworkReason, PaymentReason, Quote, Remedy, RoutingReason,
};
use blvm_mesh_core::payment::fee::{FeeDistribution, Party, share};
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::payment::lightning::LightningError;
use blvm_mesh_core::payment::replay::{ReplayError, ReplayPrevention};
use blvm_mesh_core::policy::{DetectedProtocol, PolicyConfig, RoutingPolicyEngine};
use blvm_mesh_core::tables::Heap;
use blvm_mesh_core::wire::datagram::Datagram;
use blvm_mesh_core::wire::route_error::Cause;
use blvm_mesh_core::wire::{Header, Kind};
use blvm_mesh_tests::either;
use blvm_mesh_tests::packets::edit::{HOP_LIMIT, SEQUENCE, refix};
use blvm_mesh_tests::payments::invoice::Order;
use blvm_mesh_tests::scenarios::story::{Log, START, Story};
use blvm_mesh_tests::sim::{Action, Carried, Verdict};
use secp256k1::Secp256k1;
use std::time::{Duration, Instant};

const PAYLOAD: &[u8] = b"not Bitcoin, so it costs something";

/// Three nodes in a line, a route, and an honest invoice for one datagram on it.
fn paid() -> (Story, Order, Quote) {
    let mut world = Story::line(MeshMode::PaymentGated, 3, false);
    let quote = world.quote(0, 2, PAYLOAD.len() as u64);
    assert_eq!(quote.hops.len(), 1);
    let order = world.order(0, 2, &quote, PAYLOAD.len() as u64);
    (world, order, quote)
}

fn delivered(log: &Log, n: usize) -> usize {
    log.iter()
        .filter(|(m, did)| *m == n && matches!(did, Action::Verdict(Verdict::Deliver { .. })))
        .count()
}

fn rejects(log: &Log, n: usize) -> Vec<MeshError> {
    let of = log.iter().filter(|(m, _)| *m == n);
    of.filter_map(|(_, did)| match did {
        Action::Verdict(Verdict::Reject { reason, .. }) | Action::Drop { reason, .. } => {
            Some(*reason)
        }
        _ => None,
    })
    .collect()
}

fn shares(log: &Log) -> Vec<(usize, Party, u64)> {
    let booked = log.iter().filter_map(|(n, did)| match did {
        Action::Persist { record: Record::Payment(p), .. } => Some((*n, p.role, p.share_msat)),
        _ => None,
    });
    booked.collect()
}

/// The last paid datagram that went to a node.
fn last_datagram(world: &Story, to: usize) -> &Carried {
    let datagram = |c: &&Carried| c.to == to && c.bytes[5] == Kind::Datagram as u8;
    world.arrivals().iter().rev().find(datagram).expect("a datagram went there")
}

fn live_payments(world: &Story, n: usize) -> usize {
    either!(&world.nodes[n].machine, m => m.live_payments())
}

fn earned(world: &Story, n: usize) -> u64 {
    either!(&world.nodes[n].machine, m => m.stats().earned_msat)
}

fn public_key(world: &Story, n: usize) -> [u8; 33] {
    either!(&world.nodes[n].machine, m => m.public_key())
}

fn lightning(e: LightningError) -> MeshError {
    PaymentReason::from(e).into()
}

const USED: MeshError = MeshError::ReplayDetected(ReplayError::Used);

#[test]
fn a_paid_packet_pays_60_30_10() {
    let (mut world, order, quote) = paid();
    let to = world.id(2);
    let mut log = world.send(0, to, PAYLOAD, &order.proof(), false);
    log.extend(world.run());
    let amount = quote.amount_msat;
    let expected = [
        (0, Party::Source, amount / 10),
        (1, Party::Intermediate(0), amount * 3 / 10),
        (2, Party::Destination, amount * 6 / 10),
    ];
    let booked = shares(&log);
    assert_eq!(booked.len(), 3, "{log:?}");
    for (got, want) in booked.iter().zip(expected) {
        assert_eq!((got.0, got.1), (want.0, want.1));
        assert!(got.2.abs_diff(want.2) <= 1, "{got:?} {want:?}");
    }
    assert_eq!(booked.iter().map(|b| b.2).sum::<u64>(), amount);
    let earned_there = log.iter().find_map(|(n, did)| match did {
        Action::Verdict(Verdict::Deliver { source, payload, earned_msat, .. })
            if *n == 2 && *source == world.id(0) && payload[..] == *PAYLOAD =>
        {
            Some(*earned_msat)
        }
        _ => None,
    });
    assert_eq!(earned_there, Some(booked[2].2), "{log:?}");
    assert_eq!(earned(&world, 1), booked[1].2);
}

#[test]
fn nothing_leaves_before_its_record_is_durable() {
    let (mut world, order, _) = paid();
    world.nodes[1].disk_stalls = true;
    let log = world.send_and_run(0, 2, PAYLOAD, &order.proof());
    assert_eq!(shares(&log).len(), 1, "{log:?}");
    assert_eq!(delivered(&log, 2), 0);
    world.sync(1);
    assert_eq!(delivered(&world.run(), 2), 1);
}

#[test]
fn a_payment_is_used_once_whatever_happens() {
    let (mut world, order, _) = paid();
    let proof = order.proof();
    let log = world.send_and_run(0, 2, PAYLOAD, &proof);
    assert_eq!(delivered(&log, 2), 1, "{log:?}");
    let refused = |world: &mut Story, reason: MeshError, when: &str| {
        let log = world.send_and_run(0, 2, PAYLOAD, &proof);
        assert_eq!(rejects(&log, 1), [reason], "{when}: {log:?}");
        assert_eq!((delivered(&log, 2), shares(&log).len()), (0, 0), "{when}");
    };
    refused(&mut world, USED, "at once");
    world.start_again(1);
    world.quote(0, 2, 0);
    refused(&mut world, USED, "after a restart");
    let payments = world.nodes[1].disk.clone();
    // Forward, until it is forgotten; and back to when it was still valid.
    world.set_clocks(START + order.expiry_s + 1);
    world.later(61_000_000);
    assert_eq!(live_payments(&world, 1), 0, "cleaned up");
    let floor = START + order.expiry_s;
    assert!(world.nodes[1].disk.contains(&Record::Floor(floor)), "{:?}", world.nodes[1].disk);
    world.set_clocks(START);
    let forgotten = ReplayError::Forgotten { floor }.into();
    refused(&mut world, forgotten, "after the clock jumped and came back");
    // A store may keep the records that are below the floor, or drop them.
    world.nodes[1].disk.splice(0..0, payments);
    world.start_again(1);
    world.quote(0, 2, 0);
    refused(&mut world, USED, "after that and a restart with all records");
    world.nodes[1].disk.retain(|record| matches!(record, Record::Floor(_)));
    world.start_again(1);
    world.quote(0, 2, 0);
    refused(&mut world, forgotten, "after a restart with the floor alone");
}

#[test]
fn a_self_issued_invoice_is_refused() {
    let (mut world, order, _) = paid();
    let payer = world.nodes[0].key;
    let own = payer.public_key(&Secp256k1::new());
    let honest_hint = order.hint;
    for (hint, reasons) in [
        (own, [LightningError::UnknownIssuer, LightningError::SelfIssued]),
        (honest_hint, [LightningError::SelfIssued, LightningError::InvalidSignature]),
    ] {
        let forged = Order { signer: payer, hint, ..order.clone() };
        let log = world.send_and_run(0, 2, PAYLOAD, &forged.proof());
        let [reason] = rejects(&log, 1)[..] else { panic!("{log:?}") };
        assert!(reasons.map(lightning).contains(&reason), "{reason:?}");
        assert_eq!(shares(&log), []);
    }
    assert_eq!(delivered(&world.send_and_run(0, 2, PAYLOAD, &order.proof()), 2), 1);
}

#[test]
fn garbage_does_not_burn_a_payment() {
    let (mut world, order, _) = paid();
    let proof = order.proof();
    // The recovery identifier, the low bits of the flags, is signed by nobody and
    // not used: the key is known.
    let bits = (0..proof.len()).flat_map(|at| [(at, 0x01), (at, 0x80)]);
    for (at, bit) in bits.filter(|b| *b != (1, 0x01)) {
        let mut garbage = proof.clone();
        garbage[at] ^= bit;
        let log = world.send_and_run(0, 2, PAYLOAD, &garbage);
        assert_eq!(
            (shares(&log).len(), delivered(&log, 2)),
            (0, 0),
            "byte {at} of {}, bit {bit}: {log:?}",
            proof.len()
        );
        assert_eq!(rejects(&log, 1).len(), 1, "byte {at} of {}, bit {bit}: {log:?}", proof.len());
    }
    assert_eq!(live_payments(&world, 1), 0);
    let log = world.send_and_run(0, 2, PAYLOAD, &proof);
    assert_eq!((delivered(&log, 2), shares(&log).len()), (1, 2), "{log:?}");
    let mut unused_bit = proof;
    unused_bit[1] ^= 0x01;
    let log = world.send_and_run(0, 2, PAYLOAD, &unused_bit);
    assert_eq!(rejects(&log, 1), [USED], "it is the same payment: {log:?}");
}

#[test]
fn an_edited_packet_replays_nothing() {
    let (mut world, order, _) = paid();
    // The first copy is lost behind the relay, so that its destination is fresh.
    world.lose = Some(|to, bytes| to == 2 && bytes[5] == Kind::Datagram as u8);
    world.send_and_run(0, 2, PAYLOAD, &order.proof());
    let first = last_datagram(&world, 1).clone();
    world.lose = None;
    for limit in 0..=u8::MAX {
        let mut edited = first.bytes.to_vec();
        edited[HOP_LIMIT] = limit;
        refix(&mut edited);
        let log = world.receive(1, first.link, &edited);
        assert_eq!((rejects(&log, 1).len(), shares(&log).len()), (1, 0), "hop limit {limit}");
    }
    let mut edited = first.bytes.to_vec();
    edited[20] ^= 1;
    let log = world.receive(1, first.link, &edited);
    assert!(
        matches!(rejects(&log, 1)[..], [MeshError::NetworkError(NetworkReason::Malformed(_))]),
        "{log:?}"
    );
    for byte in SEQUENCE {
        let mut edited = first.bytes.to_vec();
        edited[byte] ^= 1;
        refix(&mut edited);
        assert_eq!(rejects(&world.receive(1, first.link, &edited), 1), [USED]);
    }
    let log = world.run();
    assert_eq!(delivered(&log, 2), 0, "{log:?}");

    // Where the payment is not known yet the signature decides.
    let link = world.link(2, 1).unwrap();
    let mut passed = first.bytes.to_vec();
    passed[HOP_LIMIT] -= 1;
    refix(&mut passed);
    let mut edited = passed.clone();
    edited[SEQUENCE.start] ^= 1;
    refix(&mut edited);
    let log = world.receive(2, link, &edited);
    assert_eq!(rejects(&log, 2), [PaymentReason::SourceSignature.into()]);
    assert_eq!(live_payments(&world, 2), 0);
    assert_eq!(delivered(&world.receive(2, link, &passed), 2), 1);
}

#[test]
fn expiry_is_read_from_the_invoice() {
    let (mut world, order, _) = paid();
    let order = Order { expiry_s: 100, ..order };
    let proof = order.proof();
    let late = START + 100;
    let issued = world.bank.issued.get_mut(&order.payment_hash()).expect("it was ordered");
    (issued.text, issued.expires_at) = (order.invoice(), late);
    world.set_clocks(late);
    let log = world.send_and_run(0, 2, PAYLOAD, &proof);
    let expired = lightning(LightningError::Expired { expires_at: late, now: late });
    assert_eq!(rejects(&log, 1), [expired], "{log:?}");
    world.set_clocks(late - 1);
    let log = world.send_and_run(0, 2, PAYLOAD, &proof);
    assert_eq!(delivered(&log, 2), 1, "{log:?}");
    for node in &world.nodes[1..] {
        let [Record::Payment(payment)] = node.disk[..] else { panic!("{:?}", node.disk) };
        assert_eq!(payment.expires_at, late);
    }
    let long = Order { expiry_s: 8 * 24 * 3600, preimage: [3; 32], ..order };
    let log = world.send_and_run(0, 2, PAYLOAD, &long.proof());
    let too_long =
        LightningError::LifetimeTooLong { expiry_s: long.expiry_s, max_lifetime_s: 7 * 24 * 3600 };
    assert_eq!(rejects(&log, 1), [lightning(too_long)], "{log:?}");
}

#[test]
fn nobody_advances_the_sequence_of_another() {
    let mut world = Story::line(MeshMode::Open, 4, false);
    world.quote(0, 2, 0);
    let log = world.send_and_run(0, 2, b"one", &[]);
    assert_eq!(delivered(&log, 2), 1, "{log:?}");
    let forged = {
        let mut packet = last_datagram(&world, 2).bytes.to_vec();
        packet[SEQUENCE].copy_from_slice(&u64::MAX.to_le_bytes());
        refix(&mut packet);
        packet
    };
    // A neighbour that is not the last hop.
    let link = world.link(2, 3).unwrap();
    let log = world.receive(2, link, &forged);
    let reason = RoutingReason::WrongNeighbour.into();
    let (link, remedy) = (Some(link), Remedy::Penalise);
    assert_eq!(log, [(2, Action::Verdict(Verdict::Reject { link, reason, remedy }))]);
    // The relay itself, which may say anything where nothing is signed.
    let link = world.link(2, 1).unwrap();
    world.receive(2, link, &forged);
    for payload in [b"two", b"six"] {
        let log = world.send_and_run(0, 2, payload, &[]);
        assert_eq!(delivered(&log, 2), 1, "{log:?}");
    }
}

fn replay_key(n: u64) -> [u8; 32] {
    sha256::Hash::hash(&n.to_le_bytes()).to_byte_array()
}

/// A table with so many live payments, and the time for 20,000 checks with a
/// cleanup each that finds nothing.
fn checked(payments: u64) -> (ReplayPrevention<Heap>, Duration) {
    let mut table = ReplayPrevention::<Heap>::EMPTY;
    table.prepare(200_000, [3; 16]);
    for n in 0..payments {
        table.accept(replay_key(n), 1000 + n.reverse_bits() % 100_000).unwrap();
    }
    let begun = Instant::now();
    for n in 0..20_000u64 {
        assert_eq!(table.cleanup_expired(999, 256), 0);
        let check = table.check_replay(&replay_key(n % payments), &NodeId([0; 32]), n);
        assert_eq!(check, Err(ReplayError::Used));
    }
    (table, begun.elapsed())
}

#[test]
fn cleaning_up_is_bounded_and_scans_nothing() {
    let (_, small) = checked(200);
    let (mut table, large) = checked(200_000);
    // A scan would take a thousand times as long in the larger table.
    assert!(large < small * 100, "{large:?} against {small:?}");
    let earliest = table.next_expiry().unwrap();
    assert_eq!(table.cleanup_expired(u64::MAX, 256), 256);
    assert_eq!(table.len(), 200_000 - 256);
    assert!(table.floor() >= earliest && table.next_expiry().unwrap() >= table.floor());
    assert_eq!(table.cleanup_expired(u64::MAX, 0), 0);
}

#[test]
fn what_is_written_with_the_magic_is_read_back() {
    let (mut world, order, _) = paid();
    let proof = order.proof();
    world.send_and_run(0, 2, PAYLOAD, &proof);
    let mut kinds = std::collections::BTreeSet::new();
    let policy = RoutingPolicyEngine::new(PolicyConfig::new(MeshMode::Open, Network::Regtest));
    for packet in world.arrivals() {
        assert_eq!(packet.bytes[..4], *b"MESH");
        assert_eq!(policy.detect_protocol(&packet.bytes), DetectedProtocol::MeshPacket);
        let (header, body) = Header::parse(&packet.bytes).unwrap();
        kinds.insert(header.kind);
        if header.kind == Kind::Datagram {
            let datagram = Datagram::parse(header, body).unwrap();
            assert_eq!((datagram.payload, datagram.source), (PAYLOAD, world.id(0)));
            assert_eq!(datagram.signed.unwrap().proof, proof);
        }
    }
    let all = [Kind::Datagram, Kind::RouteRequest, Kind::RouteReply, Kind::Hello];
    assert!(all.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
}

#[test]
fn a_second_byte_of_1_or_2_is_not_stratum() {
    let policy = RoutingPolicyEngine::new(PolicyConfig::new(MeshMode::Open, Network::Mainnet));
    for second in [1, 2] {
        for first in 0..=u8::MAX {
            for rest in [&b""[..], b"\x00", b"\x00\x00\x10\x00\x00payload", &[second; 60]] {
                let payload = [&[first, second], rest].concat();
                let protocol = policy.detect_protocol(&payload);
                assert_eq!(protocol, DetectedProtocol::Unknown, "{payload:02x?}");
            }
        }
    }
}

#[test]
fn magic_and_command_alone_are_not_bitcoin() {
    let policy = RoutingPolicyEngine::new(PolicyConfig::new(MeshMode::Open, Network::Mainnet));
    let magic = [0xf9, 0xbe, 0xb4, 0xd9];
    for command in ["version", "verack", "tx", "block", "ping", "inv", "mempool"] {
        let mut message = magic.to_vec();
        message.extend(command.bytes());
        message.resize(16, 0);
        assert_eq!(policy.detect_protocol(&message), DetectedProtocol::Unknown);
        let smuggled = [&message[..], &[0x20, 0, 0, 0, 1, 2, 3, 4], &[7; 32]].concat();
        assert_eq!(policy.detect_protocol(&smuggled), DetectedProtocol::Unknown, "{command}");
    }
    // A whole message, from the protocol's documentation.
    let verack = [&magic[..], b"verack\0\0\0\0\0\0", &[0, 0, 0, 0], b"\x5d\xf6\xe0\xe2"].concat();
    assert_eq!(policy.detect_protocol(&verack), DetectedProtocol::BitcoinP2P);
    let other_sum = [&verack[..20], b"\x5d\xf6\xe0\xe3"].concat();
    assert_eq!(policy.detect_protocol(&other_sum), DetectedProtocol::Unknown);
}

#[test]
fn no_millisatoshi_vanishes() {
    for amount in (0..2000).chain([u64::MAX, u64::MAX - 1, 21_000_000 * 100_000_000_000]) {
        for hops in 0..=MAX_HOPS {
            let split = FeeDistribution::new(amount, hops).unwrap();
            let middle: u128 = split.intermediates.iter().map(|s| u128::from(*s)).sum();
            let sum = u128::from(split.source) + middle + u128::from(split.destination);
            assert_eq!(sum, u128::from(amount), "{split:?}");
            assert_eq!(split.intermediates.len(), hops);
            let parts = |share: u64, tenths: u128| {
                (u128::from(share) * 10).abs_diff(u128::from(amount) * tenths)
            };
            let source = if hops == 0 { 4 } else { 1 };
            assert!(parts(split.source, source) < 10, "{split:?}");
            assert!(parts(split.destination, 6) < 10, "{split:?}");
        }
    }
    assert_eq!(share(1000, 0, Party::Source), 400, "the 30 % return to the source");
    // The same on a wire.
    let mut world = Story::line(MeshMode::PaymentGated, 2, false);
    let quote = world.quote(0, 1, PAYLOAD.len() as u64);
    let quote = Quote { amount_msat: 123_457, ..quote };
    let order = world.order(0, 1, &quote, PAYLOAD.len() as u64);
    let to = world.id(1);
    let mut log = world.send(0, to, PAYLOAD, &order.proof(), false);
    log.extend(world.run());
    let [(0, Party::Source, source), (1, Party::Destination, destination)] = shares(&log)[..]
    else {
        panic!("{log:?}")
    };
    assert_eq!((source, destination), (49_383, 74_074));
}

#[test]
fn identity_comes_from_the_key() {
    let (mut world, order, _) = paid();
    let mut hashes = Vec::new();
    for n in 0..3 {
        let key = world.nodes[n].key.public_key(&Secp256k1::new()).serialize();
        assert_eq!(world.id(n).0, sha256::Hash::hash(&key).to_byte_array());
        hashes.push(world.id(n));
    }
    world.start_again(1);
    assert_eq!(world.id(1), hashes[1]);
    // A packet whose key is not that of its source pays nothing.
    world.quote(0, 2, 0);
    world.lose = Some(|to, bytes| to == 2 && bytes[5] == Kind::Datagram as u8);
    world.send_and_run(0, 2, PAYLOAD, &order.proof());
    let mut packet = last_datagram(&world, 1).bytes.to_vec();
    let key = public_key(&world, 0);
    let at = packet.windows(33).position(|w| w == key).expect("the packet is signed");
    packet[at] ^= 1;
    packet[HOP_LIMIT] -= 1;
    refix(&mut packet);
    let link = world.link(2, 1).unwrap();
    let log = world.receive(2, link, &packet);
    assert_eq!(rejects(&log, 2), [PaymentReason::SourceKey.into()]);
}

#[test]
fn discovery_exists() {
    let mut world = Story::line(MeshMode::Open, 6, true);
    let to = world.id(5);
    let mut log = world.send(0, to, b"hello", &[], false);
    assert!(matches!(log[..], [(0, Action::Verdict(Verdict::Parked { .. }))]), "{log:?}");
    for _ in 0..20 {
        log.extend(world.later(100_000));
    }
    let found = Action::Publish(Event::RouteDiscovered { destination: to, hops: 4 });
    assert!(log.contains(&(0, found)), "{log:?}");
    assert!(world.arrived(0, 5, b"hello"), "{log:?}");
}

#[test]
fn no_route_through_a_peer_that_left() {
    let mut world = Story::line(MeshMode::Open, 3, false);
    let to = world.id(2);
    world.quote(0, 2, 0);
    // Our own neighbour leaves: its routes go at once.
    world.cut(0, 1, false);
    world.run();
    assert_eq!(world.nodes[0].machine.quote(&to, 0), None);
    assert!(either!(&world.nodes[0].machine, m => m.table().routes().len() == 0));
    // A neighbour further on leaves: the first packet to find out ends the route.
    world.heal(0, 1);
    world.run();
    world.quote(0, 2, 0);
    world.cut(1, 2, false);
    world.run();
    let log = world.send_and_run(0, 2, b"x", &[]);
    assert_eq!(rejects(&log, 1), [RoutingReason::NextHopGone.into()], "{log:?}");
    assert!(
        log.iter().any(|(n, did)| *n == 0
            && matches!(
                did,
                Action::Publish(Event::DeliveryFailed { cause: Cause::NextHopGone, .. })
            )),
        "{log:?}"
    );
    assert_eq!(world.nodes[0].machine.quote(&to, 0), None);
}
