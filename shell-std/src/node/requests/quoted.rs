//! Quotes that were given, to explain what is wrong with a payment made for another one.

use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::payment::bolt11::Invoice;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Quotes that are remembered; the oldest are evicted.
const MOST: usize = 256;

/// Quotes given since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Quoted(Arc<Mutex<VecDeque<Terms>>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    hash: [u8; 32],
    destination: NodeId,
    bytes: u64,
    hops: Vec<HopId>,
}

impl Quoted {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Terms>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, hash: &[u8; 32], destination: NodeId, bytes: u64, hops: &[HopId]) {
        let terms = Terms { hash: *hash, destination, bytes, hops: hops.to_vec() };
        let mut all = self.lock();
        all.retain(|known| known.hash != terms.hash);
        if all.len() >= MOST {
            all.pop_front();
        }
        all.push_back(terms);
    }

    /// How the terms of an invoice differ from what is to be sent.
    pub(super) fn explain(
        &self,
        invoice: &str,
        destination: NodeId,
        bytes: usize,
        hops: &[HopId],
    ) -> String {
        let invoice = match Invoice::from_text(invoice) {
            Ok(invoice) => invoice,
            Err(e) => return e.to_string(),
        };
        let commits = |terms: &&Terms| invoice.description.commits_to(&terms.hash);
        let known = self.lock().iter().find(commits).cloned();
        let Some(known) = known else {
            return format!(
                "the invoice is not for these terms: {bytes} bytes from this node to {destination} \
                 {}. It names another size, route, source or destination, or no terms hash at \
                 all: ask for a new quote, and pay that",
                by(hops)
            );
        };
        let again = "ask for a new quote, and pay that";
        if known.destination != destination {
            let other = known.destination;
            return format!("the invoice is for destination {other}, not {destination}: {again}");
        }
        if known.bytes != bytes as u64 {
            let paid = known.bytes;
            return format!("the invoice is for {paid} bytes of data, these are {bytes}: {again}");
        }
        format!(
            "the invoice is for the route {}, and the route is now {}: {again}, or send with \
             --unchecked",
            by(&known.hops),
            by(hops)
        )
    }
}

/// A route in words.
fn by(hops: &[HopId]) -> String {
    match hops {
        [] => "directly".into(),
        hops => {
            let hops: Vec<String> = hops.iter().map(HopId::to_string).collect();
            format!("by {}", hops.join(", "))
        }
    }
}
