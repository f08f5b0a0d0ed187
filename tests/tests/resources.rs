//! Attacks on what belongs to others, one for each resource: the attacker takes what he can
//! get, and what is left is measured. Each prints its figures (`-- --nocapture`).

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header as BlockHeader, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, transaction,
};
use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};
use blvm_mesh_core::wire::route_error::{Cause, RouteError};
use blvm_mesh_core::wire::route_request::{Hop, RouteRequest};
use blvm_mesh_tests::packets::payloads::{bitcoin_message, ping};
use blvm_mesh_tests::payments::bank::{Bank, OwnTerms};
use blvm_mesh_tests::rng::Rng;
use blvm_mesh_tests::scenarios::{config, find, line, pay, terms};
use blvm_mesh_tests::sim::forge::{Parts, seal};
use blvm_mesh_tests::sim::topology::Topology;
use blvm_mesh_tests::sim::{Action, Crash, Input, Path, Verdict, World};

/// What else is free, a second and neighbour.
const FREE: u64 = 256 * 1024;
/// What a neighbour may have of it at once.
const BURST: u64 = 8 * 1024 * 1024;
/// More than any attacker of these sends.
const MB: u64 = 1_000_000;

/// Nodes in a row as [`line`] makes them, of which some are not honest.
fn row(count: usize, adversaries: &[usize], adjust: impl Fn(usize, &mut Config)) -> World {
    let mut w = line(count, adjust);
    w.watch = 0;
    adversaries.iter().for_each(|n| w.nodes[*n].honest = false);
    w
}

/// Sends so many bytes a second from one node to its neighbour, for a time.
fn pour(
    w: &mut World,
    [from, to]: [usize; 2],
    time: Micros,
    rate: u64,
    mut packet: impl FnMut(u64) -> Vec<u8>,
) {
    let (end, mut sent) = (w.now + time, 0);
    for n in 0.. {
        if w.now >= end {
            return;
        }
        let Some(link) = w.link(from, to) else {
            // It is dialled again soon.
            w.run_for(100 * MILLISECOND);
            continue;
        };
        let bytes = packet(n);
        sent += bytes.len() as u64;
        w.transmit(link, bytes.into(), Path::default().then(from));
        // Those that are late are sent at once.
        let due = (end - time) + sent * SECOND / rate;
        w.run_for(due.min(end).saturating_sub(w.now));
    }
}

/// Bytes a second that the second node passed on to the third, of what the first one sends.
fn carried(
    w: &mut World,
    way: [usize; 3],
    time: Micros,
    rate: u64,
    packet: impl FnMut(u64) -> Vec<u8>,
) -> u64 {
    let [from, over, to] = way;
    let before = w.bytes_between(over, to);
    pour(w, [from, over], time, rate, packet);
    (w.bytes_between(over, to) - before) * SECOND / time
}

fn free(w: &World, route: &[usize], sequence: u64, payload: Vec<u8>) -> Vec<u8> {
    parts(w, route, sequence, payload).sign(&w.nodes[route[0]].key)
}

/// A datagram along a route, as it leaves its source.
fn parts(w: &World, route: &[usize], sequence: u64, payload: Vec<u8>) -> Parts {
    let hops: Vec<HopId> = route[1..route.len() - 1].iter().map(|n| w.id(*n).hop()).collect();
    Parts {
        hop_limit: hops.len() as u8,
        sequence,
        source: w.id(route[0]),
        destination: w.id(route[route.len() - 1]),
        hops,
        proof: Vec::new(),
        payload,
    }
}

fn transaction(data: Vec<u8>) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: bitcoin::Txid::from_byte_array([7; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[data]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(1000),
            script_pubkey: ScriptBuf::from_bytes([&[0, 20][..], &[9; 20]].concat()),
        }],
    }
}

/// A block of regtest with work of its own and so many bytes of transactions.
fn block(number: u64, size: usize) -> Vec<u8> {
    let mut coinbase = transaction(Vec::new());
    coinbase.input[0].previous_output = OutPoint::null();
    coinbase.input[0].witness = Witness::new();
    coinbase.input[0].script_sig = ScriptBuf::from_bytes(vec![8; 8]);
    let mut other = transaction(Vec::new());
    other.input[0].witness = Witness::new();
    other.output[0].script_pubkey = ScriptBuf::from_bytes(vec![number as u8; size]);
    let txdata = vec![coinbase, other];
    let mut header = BlockHeader {
        version: Version::TWO,
        prev_blockhash: BlockHash::from_byte_array([number as u8; 32]),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_750_000_000 + number as u32,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let ids = txdata.iter().map(|tx| tx.compute_txid().to_raw_hash());
    let root = bitcoin::merkle_tree::calculate_root(ids).expect("two");
    header.merkle_root = TxMerkleNode::from_raw_hash(root);
    while header.validate_pow(header.target()).is_err() {
        header.nonce += 1;
    }
    bitcoin_message(Network::Regtest, "block", &serialize(&Block { header, txdata }))
}

/// Arbitrary bytes in a message that may go free.
fn costume(command: &str, rng: &mut Rng) -> Vec<u8> {
    let body = match command {
        "tx" => serialize(&transaction(rng.vec(40_000))),
        _ => {
            let one = |_| [&1u32.to_le_bytes()[..], &rng.bytes32()].concat();
            [vec![0xfd, 0xe8, 3], (0..1000).flat_map(one).collect()].concat()
        }
    };
    bitcoin_message(Network::Regtest, command, &body)
}

/// 14 MB/s of arbitrary bytes rode in the proof of packets whose payload was a `verack`.
#[test]
fn what_is_not_checked_does_not_ride_free() {
    let mut w = row(3, &[0], |_, c| c.mode = MeshMode::PaymentGated);
    find(&mut w, 0, 2);
    let route = [0, 1, 2];
    let (public, proof) = ([2; 33], Rng::new(1).vec(20_000));
    let (source, destination, relay) = (w.id(0), w.id(2), w.id(1).hop());
    let verack = bitcoin_message(Network::Regtest, "verack", &[]);
    let got = carried(&mut w, route, 2 * SECOND, 14 * MB, |n| {
        let proof = Some((&public, &proof[..]));
        let emit =
            Emit { hop_limit: 1, sequence: n, source, destination, proof, form: Form::Plain };
        let mut packet = vec![0; head_len(1, 20_000)];
        emit.write(&[relay], &verack, &mut packet, |_| [0; 64]).expect("room");
        packet.extend(&verack);
        packet
    });
    println!("in proofs: {got} B/s of 14 MB/s");
    assert!(got < 1000, "{got} B/s");
}

/// 12.5 MB/s of arbitrary bytes rode in what is free; a block that was mined may.
#[test]
fn arbitrary_bytes_in_costume_have_a_small_part_of_the_line_and_blocks_all_of_it() {
    for command in ["tx", "inv"] {
        let mut w = row(3, &[0], |_, _| {});
        find(&mut w, 0, 2);
        let mut rng = Rng::new(2);
        let mut send = |w: &mut World| {
            let like = parts(w, &[0, 1, 2], 0, Vec::new());
            let key = w.nodes[0].key;
            carried(w, [0, 1, 2], 8 * SECOND, 2 * MB, |_| {
                let payload = costume(command, &mut rng);
                Parts { sequence: rng.draw(), payload, ..like.clone() }.sign(&key)
            })
        };
        let (first, then) = (send(&mut w), send(&mut w));
        println!("in {command}: {first} B/s in the first 8 s, {then} B/s then, of 2 MB/s");
        assert!(first <= BURST / 8 + FREE, "{command}: {first} B/s");
        assert!(then <= FREE + FREE / 8, "{command}: {then} B/s");
    }
    let mut w = row(3, &[], |_, _| {});
    find(&mut w, 0, 2);
    let blocks: Vec<Vec<u8>> = (0..16).map(|n| block(n, 55_000)).collect();
    let mut packets = Vec::new();
    for n in 0..400 {
        let payload = blocks[n % 16].clone();
        w.checks.free.insert(payload.clone());
        packets.push(free(&w, &[0, 1, 2], n as u64, payload));
    }
    let got = carried(&mut w, [0, 1, 2], 4 * SECOND, 5 * MB, |n| packets[n as usize].clone());
    println!("blocks: {got} B/s of 5 MB/s");
    assert!(got > 5 * MB * 9 / 10, "{got} B/s");
}

/// Forged free packets with a victim's name and numbers made the next relay refuse its paid
/// ones as seen, after the relay before had booked them.
#[test]
fn forged_packets_in_a_victims_name_do_not_stop_its_paid_ones() {
    // 0 pays, over 1 and 2, to 3; 4 is a neighbour of 1, and says that 0 sends by way of it.
    let mut w = row(4, &[], |_, _| {});
    let c = config(&w);
    let adversary = w.add_node(c, true);
    w.nodes[adversary].honest = false;
    w.wire(1, adversary, MILLISECOND);
    w.run_for(SECOND);
    find(&mut w, 0, 3);
    let false_way: Vec<HopId> = [adversary, 1, 2].map(|n| w.id(n).hop()).to_vec();
    let key = w.nodes[0].key;
    for n in 0..20u64 {
        let payload = vec![n as u8; 40];
        let proof = pay(&mut w, 0, 3, payload.len(), 60);
        let paid = Parts { proof, ..parts(&w, &[0, 1, 2, 3], 1000 + n, payload.clone()) };
        // First, and with the very number.
        let hops = false_way.clone();
        let forged = Parts { hops, proof: Vec::new(), payload: ping(n), ..paid.clone() };
        w.checks.free.insert(forged.payload.clone());
        let link = w.link(adversary, 1).expect("a link");
        w.transmit(link, forged.sign(&key).into(), Path::default().then(adversary));
        w.run_for(20 * MILLISECOND);
        let link = w.link(0, 1).expect("a link");
        w.transmit(link, paid.sign(&key).into(), Path::default().then(0));
        w.run_for(100 * MILLISECOND);
    }
    let paid = (0..20u8).filter(|n| w.arrived(0, 3, &[*n; 40])).count();
    println!("forged first: {paid} of 20 paid packets arrive");
    assert_eq!(paid, 20);
}

/// Errors about datagrams that went elsewhere cut routes of others.
#[test]
fn an_error_counts_from_the_link_that_the_datagram_took() {
    // 0 sends to 2 over 1; 3 is another neighbour of 0, and knows all that there is to know.
    let mut w = row(3, &[], |_, _| {});
    let c = config(&w);
    let adversary = w.add_node(c, true);
    w.nodes[adversary].honest = false;
    w.wire(0, adversary, MILLISECOND);
    w.run_for(SECOND);
    find(&mut w, 0, 2);
    w.carried = Some(Vec::new());
    w.send(0, 2, &ping(1), &[]);
    w.run_for(100 * MILLISECOND);
    let sent = w.carried.take().expect("it is kept");
    let sent = sent.iter().find_map(|c| Parts::of(&c.bytes)).expect("a datagram");
    for (hops, reporter) in [
        (vec![w.id(adversary).hop()], adversary),
        (vec![w.id(adversary).hop(), w.id(1).hop()], 1),
        (sent.hops, 1),
    ] {
        let error = RouteError {
            hop_limit: hops.iter().position(|h| *h == w.id(reporter).hop()).unwrap_or(0) as u8,
            sequence: sent.sequence,
            source: w.id(0),
            destination: w.id(2),
            reporter: w.id(reporter),
            next: w.id(2).hop(),
            cause: Cause::NextHopGone,
            hops: hops.into_iter().collect(),
        };
        let mut bytes = vec![0; 600];
        let len = error.write(&mut bytes).expect("room");
        bytes.truncate(len);
        let link = w.link(0, adversary).expect("a link");
        let did = w.input(0, Input::MessageReceived { link, packet: bytes.into() });
        let refused = did.iter().any(|d| matches!(d, Action::Verdict(Verdict::Reject { .. })));
        assert!(refused, "{did:?}");
        assert!(w.nodes[0].machine.path(&w.id(2), w.now).is_some(), "the route is gone");
    }
}

/// Whether a node has a neighbour that said hello.
fn knows(w: &World, n: usize, other: usize) -> bool {
    let hop = w.id(other).hop();
    blvm_mesh_tests::either!(&w.nodes[n].machine, m => m.table().neighbours.live(hop).is_some())
}

/// 1,040 keys of one address took every place, and configured neighbours were refused for ever.
#[test]
fn keys_of_one_prefix_do_not_fill_the_places_of_others() {
    let mut w = row(1, &[], |_, c| c.capacities.neighbours = 64);
    let c = config(&w);
    let flood: Vec<usize> = (0..300).map(|_| w.add_node(c.clone(), true)).collect();
    for n in &flood {
        w.nodes[*n].prefix = 7;
        w.wire(*n, 0, MILLISECOND);
    }
    w.run_for(10 * SECOND);
    let held = |w: &World| flood.iter().filter(|n| knows(w, 0, **n)).count();
    let first = held(&w);
    // Its own neighbours, and strangers from elsewhere, come late.
    let own: Vec<usize> = (0..4).map(|_| w.add_node(c.clone(), true)).collect();
    own.iter().for_each(|n| w.wire(0, *n, MILLISECOND));
    let strangers: Vec<usize> = (0..20).map(|_| w.add_node(c.clone(), true)).collect();
    strangers.iter().for_each(|n| w.wire(*n, 0, MILLISECOND));
    w.run_for(20 * SECOND);
    let has = |w: &World, list: &[usize]| list.iter().filter(|n| knows(w, 0, **n)).count();
    let (own, others, last) = (has(&w, &own), has(&w, &strangers), held(&w));
    println!(
        "300 keys of one prefix: {first} places, then {last}; own {own} of 4, strangers {others} of 20"
    );
    assert!(first <= 16 && last <= 16, "{first} and {last} places");
    assert_eq!((own, others), (4, 20));
}

/// Whoever came again had his allowance anew: 13 to 138 MB/s.
#[test]
fn coming_again_gives_nothing_anew() {
    let mut w = row(3, &[0], |_, _| {});
    find(&mut w, 0, 2);
    let (mut rng, before) = (Rng::new(3), w.bytes_between(1, 2));
    let (key, like) = (w.nodes[0].key, parts(&w, &[0, 1, 2], 0, Vec::new()));
    for _ in 0..10 {
        pour(&mut w, [0, 1], SECOND, 4 * MB, |_| {
            let payload = costume("tx", &mut rng);
            Parts { sequence: rng.draw(), payload, ..like.clone() }.sign(&key)
        });
        w.cut(0, 1, false);
        w.heal(0, 1);
    }
    let got = w.bytes_between(1, 2) - before;
    println!("10 connections in 10 s: {got} bytes of free traffic");
    assert!(got <= BURST + 14 * FREE, "{got} bytes");
}

/// One sender of small packets behind a relay pushed out another's large ones: 99 to 9.
#[test]
fn small_packets_behind_a_relay_leave_room_for_large_ones() {
    // 0 floods and 1 sends now and then, both over 2 and 3 to 4.
    let mut w = row(5, &[0], |_, c| (c.free_rate, c.free_burst) = (60_000, 200_000));
    w.cut(0, 1, false);
    w.wire(0, 2, MILLISECOND);
    w.run_for(2 * SECOND);
    find(&mut w, 0, 4);
    find(&mut w, 1, 4);
    let mut rng = Rng::new(4);
    let (key, like) = (w.nodes[0].key, parts(&w, &[0, 2, 3, 4], 0, Vec::new()));
    let flood = |w: &mut World, time: Micros, rng: &mut Rng| {
        pour(w, [0, 2], time, 120_000, |n| {
            let payload = ping(n << 20 | rng.below(1 << 20));
            Parts { sequence: rng.draw(), payload, ..like.clone() }.sign(&key)
        });
    };
    // Until the allowances are used up.
    flood(&mut w, 10 * SECOND, &mut rng);
    let (mut sent, mut arrived) = (0, 0);
    for _ in 0..10 {
        let payload = costume("tx", &mut rng);
        w.checks.free.insert(payload.clone());
        // Its sender tries again while it has not arrived, as an honest one does.
        for _ in 0..4 {
            if !w.arrived(1, 4, &payload) {
                w.send(1, 4, &payload, &[]);
            }
            flood(&mut w, 500 * MILLISECOND, &mut rng);
        }
        (sent, arrived) = (sent + 1, arrived + usize::from(w.arrived(1, 4, &payload)));
    }
    println!("large packets beside a flood of small ones: {arrived} of {sent} arrive");
    assert!(arrived * 10 >= sent * 8, "{arrived} of {sent}");
}

/// A mesh of open hosts.
fn mesh(shape: &Topology, latency: Micros) -> World {
    let mut w = World::new(7);
    w.watch = 0;
    for _ in 0..shape.nodes {
        let mut c = Config::host(Network::Regtest);
        c.mode = MeshMode::Open;
        w.add_node(c, true);
    }
    shape.links.keys().for_each(|(a, b)| w.wire(*a, *b, latency));
    w.run_for(2 * SECOND);
    w
}

/// Requests of 69 kB/s made a mesh of 100 nodes send 40 MB/s, and most of them refused the
/// searches of others.
#[test]
fn a_flood_of_requests_costs_the_mesh_little_and_stops_no_search() {
    let shape = Topology::shape("random", 100, &mut Rng::new(12)).expect("a shape");
    let mut w = mesh(&shape, 5 * MILLISECOND);
    let (adversary, rate, time) = (17, 69_000, 5 * SECOND);
    let calm = w.account.control_bytes;
    w.run_for(time);
    let calm = w.account.control_bytes - calm;
    w.nodes[adversary].honest = false;
    let mut rng = Rng::new(5);
    let me = w.id(adversary);
    let links = w.links(adversary);
    let before = (w.account.control_bytes, w.account.discoveries.len(), w.account.failed_searches);
    let (mut sent, mut asked, start) = (0u64, 0u64, w.now);
    while w.now < start + time {
        // As many links as it has hear of it, each something else.
        let mut hops: Vec<Hop> = (0..46)
            .map(|_| Hop { node: NodeId(rng.bytes32()).hop(), tariff: Tariff::default() })
            .collect();
        hops.push(Hop { node: me.hop(), tariff: Tariff::default() });
        // As long as a request may be that goes on, and a short one that goes far.
        let hops = if rng.one_in(2) { hops[40..].to_vec() } else { hops[46..].to_vec() };
        let request = RouteRequest {
            flags: 0,
            hop_limit: 48 - hops.len() as u8,
            sequence: rng.draw(),
            source: NodeId(rng.bytes32()).hop(),
            destination: NodeId(rng.bytes32()).hop(),
            min_packet: 1000,
            quality: 0,
            accepted: None,
            hops: hops.into_iter().collect(),
        };
        let mut bytes = vec![0; 2000];
        let len = request.write(&mut bytes).expect("room");
        bytes.truncate(len);
        let (link, _) = links[rng.index(links.len())];
        w.transmit(link, bytes.into(), Path::default().then(adversary));
        sent += len as u64;
        let due = start + sent * SECOND / rate;
        w.run_for(due.saturating_sub(w.now));
        // One search a second of each tenth node.
        while asked < (w.now - start) / (100 * MILLISECOND) {
            asked += 1;
            let (a, b) = (rng.index(100), rng.index(100));
            if a != b && a != adversary && b != adversary {
                let to = w.id(b);
                w.input(a, Input::FindRoute { destination: to });
            }
        }
    }
    w.run_for(4 * SECOND);
    let all = w.account.control_bytes - before.0;
    let more = all.saturating_sub(calm + sent);
    let found = &w.account.discoveries[before.1..];
    let failed = w.account.failed_searches - before.2;
    let late = found.iter().filter(|t| **t > 2 * SECOND).count() as u64;
    let factor = more as f64 / sent as f64;
    println!(
        "{} B/s of requests: {} B/s in all, {factor:.0} x; {} searches found, {late} after 2 s, {failed} not",
        sent * SECOND / time,
        all * SECOND / time,
        found.len()
    );
    assert!(factor <= 60.0, "{factor}");
    assert!(late + failed <= found.len() as u64 / 50, "{late} late and {failed} not found");
}

/// Forged proofs over a relay that checks none took the checks of all behind it: 50 to 1.
#[test]
fn forged_proofs_over_an_open_relay_leave_honest_ones_their_checks() {
    // 0 pays and 1 forges, both over 2, which is open, and 3 to 4.
    let mut w = row(5, &[1], |n, c| {
        if n == 2 {
            c.mode = MeshMode::Open;
        }
        c.bad_payments = blvm_mesh_core::config::Allowance { rate: 50, burst: 200 };
    });
    w.cut(0, 1, false);
    w.wire(0, 2, MILLISECOND);
    w.run_for(2 * SECOND);
    find(&mut w, 0, 4);
    let (key, like) = (w.nodes[1].key, parts(&w, &[1, 2, 3, 4], 0, vec![3; 30]));
    let mut rng = Rng::new(6);
    let (mut sent, mut arrived) = (0, 0);
    // An invoice for the right terms that names the issuer, who never signed it.
    let mut own = Bank::of(key);
    let terms = OwnTerms { source: w.id(1), quota: 30, ..terms(&w, 0, 4, 30) };
    let hash = own.issue(terms, 1_000_000, w.unix(), 600);
    let preimage = own.issued[&hash].preimage;
    let forged = own.packed_proof(&hash, preimage, &w.bank.public_key());
    for n in 0..50u8 {
        pour(&mut w, [1, 2], 100 * MILLISECOND, 150_000, |_| {
            let proof = forged.clone();
            Parts { sequence: rng.draw(), proof, ..like.clone() }.sign(&key)
        });
        let payload = vec![n; 40];
        let proof = pay(&mut w, 0, 4, payload.len(), 60);
        w.send(0, 4, &payload, &proof);
        w.run_for(20 * MILLISECOND);
        (sent, arrived) = (sent + 1, arrived + usize::from(w.arrived(0, 4, &payload)));
    }
    println!("paid beside forged proofs over an open relay: {arrived} of {sent} arrive");
    assert!(arrived * 10 >= sent * 9, "{arrived} of {sent}");
}

/// The packet that a step sent.
fn sent(did: &[Action]) -> Vec<u8> {
    did.iter().find_map(|d| Some(d.sent()?.1.to_vec())).expect("it is sent")
}

/// A paid packet that was stopped after nodes had booked it was lost, and its payment with it.
#[test]
fn what_is_paid_for_arrives_though_it_was_stopped_on_its_way() {
    let mut w = row(4, &[], |_, _| {});
    let (mut arrived, mut booked) = (0, 0);
    for trouble in 0..3u8 {
        for n in 0..4u8 {
            find(&mut w, 0, 3);
            let payload = [trouble, n, 1, 2, 3];
            let proof = pay(&mut w, 0, 3, payload.len(), 120);
            match trouble {
                // The last link is gone, one in the middle is full, a relay loses power
                // between two writes.
                0 => w.cut(2, 3, false),
                1 => full(&mut w, [1, 2], true),
                _ => w.nodes[2].armed = Some(Crash::AfterWrite),
            }
            w.run_for(50 * MILLISECOND);
            let before = w.account.accepted;
            let packet = sent(&w.send(0, 3, &payload, &proof));
            w.run_for(500 * MILLISECOND);
            assert!(!w.arrived(0, 3, &payload), "trouble {trouble} is none");
            match trouble {
                0 => w.heal(2, 3),
                1 => full(&mut w, [1, 2], false),
                _ => {}
            }
            w.run_for(3 * SECOND);
            if !w.arrived(0, 3, &payload) {
                // Nobody said what became of it: its source tries again.
                w.heal_all();
                w.run_for(3 * SECOND);
                w.input(0, Input::Repeat { packet: packet.into() });
                w.run_for(SECOND);
            }
            arrived += usize::from(w.arrived(0, 3, &payload));
            booked += w.account.accepted - before;
        }
    }
    println!("stopped on the way: {arrived} of 12 paid packets arrive, booked {booked} times");
    assert_eq!(arrived, 12);

    assert!(booked <= 48, "more than once by one of four nodes");
}

/// Tells a node that a link is full, or no longer.
fn full(w: &mut World, [n, to]: [usize; 2], full: bool) {
    let link = w.link(n, to).expect("a link");
    for lane in [Lane::Paid, Lane::Free] {
        w.input(n, Input::Congestion { link, lane, full });
    }
}

/// A paid packet may come again, and nothing more may be had of that.
#[test]
fn what_is_paid_for_is_carried_four_times_at_most() {
    // 0 pays, over 1 and 2, to 3; 4 is a neighbour of 1. Nobody is shut out for what 0 sends here.
    let mut w = row(4, &[0], |_, c| c.capacities.offenders = 0);
    let c = config(&w);
    let other = w.add_node(c, true);
    w.nodes[other].honest = false;
    w.wire(1, other, MILLISECOND);
    w.run_for(SECOND);
    find(&mut w, 0, 3);
    let payload = b"paid for once".to_vec();
    let proof = pay(&mut w, 0, 3, payload.len(), 120);
    let packet = Parts { proof, ..parts(&w, &[0, 1, 2, 3], 77, payload) }.sign(&w.nodes[0].key);
    let size = packet.len() as u64;
    let give = |w: &mut World, from: usize, bytes: &[u8]| {
        let before = w.bytes_between(1, 2);
        let link = w.link(from, 1).expect("a link");
        w.transmit(link, bytes.into(), Path::default().then(from));
        w.run_for(50 * MILLISECOND);
        w.bytes_between(1, 2) - before >= size
    };
    let mut carried = u32::from(give(&mut w, 0, &packet));
    assert_eq!(carried, 1);
    for round in 0..8 {
        // At once; over another neighbour; every byte another.
        assert!(!give(&mut w, 0, &packet), "too early, {round}");
        w.run_for(1200 * MILLISECOND);
        assert!(!give(&mut w, other, &packet), "from another neighbour, {round}");
        for at in (24..packet.len()).step_by(7) {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            seal(&mut changed);
            assert!(!give(&mut w, 0, &changed), "byte {at}, {round}");
            if w.link(0, 1).is_none() {
                w.run_for(3 * SECOND);
            }
        }
        w.run_for(3 * SECOND);
        carried += u32::from(give(&mut w, 0, &packet));
    }
    println!("one packet, paid for once and sent again and again: carried {carried} times");
    assert_eq!(carried, 4);
}
