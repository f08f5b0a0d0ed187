//! Covenant payments on their way through real nodes: known blocks, blocks that the
//! node is asked for, and everything that can go wrong in between.

use super::test_world::{Outcome, Own};
use super::*;
use crate::config::MeshMode;
use crate::id::HopId;
use crate::id::Network;
use crate::payment::covenant::{CovenantError, REORG_MARGIN_SECS, TemplateError};
use crate::payment::fee::Party;
use crate::payment::headers::HeaderError;
use crate::payment::ledger::Record;
use crate::payment::ledger::{Method, Payment};
use crate::payment::terms::Terms;
use crate::payment::test_covenant::{Funded, Mined, mine};
use crate::tables::Boxed;
use crate::wire::route_error::Cause;
use std::vec::Vec;

#[cfg(feature = "alloc")]
mod accounts;
mod paying;
mod waiting;

type World = super::test_world::World<Boxed>;

const NOW: u64 = 1_700_000_000;
/// In the header of the block with the coin.
const BLOCK_TIME: u32 = NOW as u32 - 600;
const AMOUNT_SAT: u64 = 100_000;
/// What each party gets of it, in millisatoshi.
const DESTINATION: u64 = 60_000_000;
const RELAY: u64 = 30_000_000;
const SOURCE: u64 = 10_000_000;
const PAYLOAD: [u8; 600] = [0x77; 600];

fn script(n: usize) -> Vec<u8> {
    [&[0, 20][..], &[n as u8; 20]].concat()
}

fn config(n: usize) -> Config {
    let mut config = Config::board(Network::Regtest, 8192);
    config.mode = MeshMode::PaymentGated;
    config.timing.keepalive = 0;
    config.payment.volatile = false;
    config.payment.covenants_active = true;
    config.payment.payout_script = script(n).into_iter().collect();
    config
}

/// Nodes 0 to `count` - 1 in a line. Node 0 has a route to the last.
fn line_of(count: u8, config: impl Fn(usize) -> Config) -> World {
    let mut w = World::new(count, config);
    for n in 0..usize::from(count) {
        w.give(n, Input::WallClock { unix: NOW });
    }
    for n in 1..usize::from(count) {
        w.wire(n - 1, n);
    }
    find(&mut w, 0, usize::from(count) - 1);
    w
}

fn line() -> World {
    line_of(3, config)
}

fn find(w: &mut World, from: usize, to: usize) {
    let destination = w.id(to);
    w.give(from, Input::FindRoute { destination });
    w.run();
    assert!(w.nodes[from].table().find_route(&destination, w.now).is_some());
}

/// A coin for a payload over the nodes of `way`, from its first to its last.
fn funded_for(w: &World, way: &[usize], coin: u32) -> Funded {
    let [from, hops @ .., to] = way else { panic!("a way has two ends") };
    let scripts = hops.iter().chain([to, from]).map(|n| script(*n)).collect::<Vec<_>>();
    let hops: Vec<HopId> = hops.iter().map(|n| w.id(*n).hop()).collect();
    let terms = Terms {
        network: Network::Regtest,
        source: w.id(*from),
        destination: w.id(*to),
        hops: &hops,
        quota: PAYLOAD.len() as u64,
    };
    Funded::new(&terms, &scripts, AMOUNT_SAT, coin)
}

/// A coin for the way from node 0 to node 2 by node 1, in a block that follows none.
fn mined(w: &World, coin: u32) -> Mined {
    funded_for(w, &[0, 1, 2], coin).mine([0; 32], BLOCK_TIME)
}

/// Sends the payload for this proof, which the sender does not check.
fn send(w: &mut World, from: usize, to: usize, proof: &[u8]) -> Vec<(usize, Outcome)> {
    let (to, payload, proof) = (w.id(to), PAYLOAD.to_vec(), proof.to_vec());
    let did = w.send(from, Own { to, payload, proof, unchecked: true });
    assert_eq!(did, []);
    w.run()
}

/// A datagram with this proof, on a way that the sender chose himself.
fn packet(w: &World, way: &[usize], sequence: u64, proof: &[u8]) -> Vec<u8> {
    w.packet(way, sequence, &PAYLOAD, proof)
}

fn give_header(w: &mut World, n: usize, header: &[u8; 80], height: u32) -> Outcome {
    let did = w.give(n, Input::BlockHeader { header, height });
    let [(_, did)] = &did[..] else { panic!("one action: {did:?}") };
    did.clone()
}

fn know(w: &mut World, mined: &Mined) {
    for n in 0..w.nodes.len() {
        assert_eq!(give_header(w, n, &mined.header, 100), Outcome::Absorbed);
    }
}

fn block(mined: &Mined) -> KnownHeader {
    KnownHeader { merkle_root: mined.merkle_root, time: BLOCK_TIME, confirmations: 1 }
}

fn answer(
    w: &mut World,
    n: usize,
    ticket: Ticket,
    block: Option<KnownHeader>,
) -> Vec<(usize, Outcome)> {
    w.give(n, Input::PaymentVerified { ticket, block })
}

/// The ticket under which a node asks for this block, having parked the packet.
fn asked(did: &[(usize, Outcome)], n: usize, mined: &Mined) -> Ticket {
    match did {
        [(a, Outcome::Parked(ticket)), (b, Outcome::Verify(for_ticket, hash))]
            if (*a, *b, for_ticket, *hash) == (n, n, ticket, mined.block_hash) =>
        {
            *ticket
        }
        _ => panic!("node {n} does not ask for the block: {did:?}"),
    }
}

fn booked(did: &[(usize, Outcome)], n: usize) -> Option<Payment> {
    did.iter().find_map(|(at, d)| match d {
        Outcome::Persist(Record::Payment(p)) if *at == n => Some(*p),
        _ => None,
    })
}

fn refused(reason: impl Into<MeshError>) -> Outcome {
    Outcome::Reject(reason.into())
}

fn covenant(e: CovenantError) -> PaymentReason {
    PaymentReason::Covenant(e)
}

/// Why node 0 was told that its datagram went no further.
fn told(did: &[(usize, Outcome)], reporter: NodeId) -> Option<Cause> {
    did.iter().find_map(|(n, d)| match d {
        Outcome::Publish(Event::DeliveryFailed { reporter: r, cause, .. })
            if (*n, *r) == (0, reporter) =>
        {
            Some(*cause)
        }
        _ => None,
    })
}

fn arrived(w: &World) -> (usize, Outcome) {
    (2, Outcome::Deliver(w.id(0), PAYLOAD.to_vec(), DESTINATION))
}
