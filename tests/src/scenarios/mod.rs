//! Small worlds for tests that know what is to happen.

pub mod flow;
pub mod flows;
pub mod relay;
pub mod story;

use crate::payments::bank::OwnTerms;
use crate::sim::{Action, Input, Verdict, World};
use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::mesh::MeshError;
use blvm_mesh_core::time::{MILLISECOND, SECOND};

/// Longest life of an invoice in a small world, in seconds.
pub const LIFETIME: u64 = 600;

/// A host on regtest with small tables that takes the world's issuer.
pub fn config(w: &World) -> Config {
    let mut c = Config::board(Network::Regtest, 65536);
    c.mode = MeshMode::PaymentGated;
    c.payment.volatile = false;
    c.payment.max_lifetime = LIFETIME;
    c.payment.future_skew = 5;
    let _ = c.payment.issuers.push(w.bank.public_key());
    c
}

/// So many nodes in a row, all on the heap, connected.
pub fn line(count: usize, adjust: impl Fn(usize, &mut Config)) -> World {
    let mut w = World::new(count as u64);
    for n in 0..count {
        let mut c = config(&w);
        adjust(n, &mut c);
        w.add_node(c, true);
        if n > 0 {
            w.wire(n - 1, n, MILLISECOND);
        }
    }
    w.run_for(SECOND);
    w
}

/// Finds a route.
pub fn find(w: &mut World, from: usize, to: usize) {
    let to = w.id(to);
    w.input(from, Input::FindRoute { destination: to });
    w.run_for(4 * SECOND);
    let found = w.nodes[from].machine.path(&to, w.now);
    assert!(found.is_some(), "no route from {from}");
}

/// The terms of a payload over the route that is known.
pub fn terms(w: &World, from: usize, to: usize, bytes: usize) -> OwnTerms {
    let quote = w.nodes[from].machine.quote(&w.id(to), bytes as u64).expect("a route");
    OwnTerms {
        network: Network::Regtest,
        source: w.id(from),
        destination: w.id(to),
        hops: quote.hops.to_vec(),
        quota: bytes as u64,
    }
}

/// Pays for a payload what it costs; the proof.
pub fn pay(w: &mut World, from: usize, to: usize, bytes: usize, lifetime: u64) -> Vec<u8> {
    let terms = terms(w, from, to, bytes);
    let quote = w.nodes[from].machine.quote(&w.id(to), bytes as u64).expect("a route");
    w.bank.proof(terms, quote.amount_msat, w.unix(), lifetime)
}

/// Pays for a payload, sends it and waits until it should be there.
pub fn pay_and_send(w: &mut World, from: usize, to: usize, payload: &[u8]) -> Vec<Action> {
    let proof = pay(w, from, to, payload.len(), 60);
    let did = w.send(from, to, payload, &proof);
    w.run_for(200 * MILLISECOND);
    did
}

/// The reason for which the input of this step was refused.
pub fn refusal(did: &[Action]) -> Option<MeshError> {
    did.iter().find_map(|d| match d {
        Action::Verdict(Verdict::Reject { reason, .. }) | Action::Drop { reason, .. } => {
            Some(*reason)
        }
        _ => None,
    })
}
