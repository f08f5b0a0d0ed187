//! What the mesh asks of its host, carried out by the node and the links.

use crate::proto::Published;
use crate::shared::Shared;
use bitcoin::Transaction;
use bitcoin::consensus::encode::serialize_hex;
use blvm_mesh::chain::ChainSource;
use blvm_mesh::manager::{BoxFuture, MeshManager, NodeAPI, NodeApiError, PaymentState};
use blvm_mesh_core::mesh::{Event, Priority};
use blvm_mesh_core::payment::headers::KnownHeader;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

/// Bytes whose price is told with a route.
pub const PRICED: u64 = 1024;

/// The host of a [`MeshManager`].
pub struct Host {
    shared: Arc<Shared>,
    chain: Option<Arc<ChainSource>>,
    manager: OnceLock<Weak<MeshManager>>,
}

impl Host {
    /// With the links and, where one is configured, a node that looks blocks up: blvm-node's
    /// socket does not say how deep a block is.
    pub fn new(shared: Arc<Shared>, chain: Option<Arc<ChainSource>>) -> Self {
        Self { shared, chain, manager: OnceLock::new() }
    }

    /// Whose host it is. Only the first one counts.
    pub fn belongs_to(&self, manager: &Arc<MeshManager>) {
        let _ = self.manager.set(Arc::downgrade(manager));
    }

    fn published(&self, event: &Event) -> Option<Published> {
        Some(match event {
            Event::RouteDiscovered { destination, .. } => {
                let manager = self.manager.get().and_then(Weak::upgrade);
                let quote = manager.and_then(|m| m.quote_route_fee(destination, PRICED));
                let hops = quote.iter().flat_map(|quote| &quote.hops);
                Published::RouteDiscovered {
                    destination: destination.0,
                    route_path: hops.map(|hop| hex::encode(hop.0)).collect(),
                    route_cost: quote.as_ref().map_or(0, |quote| quote.amount_msat),
                }
            }
            Event::RouteFailed { destination } => Published::RouteFailed {
                destination: destination.0,
                reason: "no route to the destination was found".into(),
            },
            Event::PaymentVerified { payment, amount_msat, .. } => Published::PaymentVerified {
                payment_id: hex::encode(payment),
                amount_msats: *amount_msat,
            },
            _ => return None,
        })
    }
}

impl NodeAPI for Host {
    fn send_to_peer<'a>(
        &'a self,
        peer: &'a str,
        priority: Priority,
        packet: &'a [u8],
    ) -> BoxFuture<'a, Result<(), NodeApiError>> {
        let sent = self.shared.with_links(|links, now| links.send(now, peer, priority, packet));
        Box::pin(async { sent })
    }

    fn payment_state<'a>(&'a self, _: &'a [u8; 32]) -> BoxFuture<'a, Option<PaymentState>> {
        // The node's payments are Bitcoin's, by names of its own.
        Box::pin(async { None })
    }

    fn block<'a>(&'a self, hash: &'a [u8; 32]) -> BoxFuture<'a, Option<KnownHeader>> {
        let (chain, hash) = (self.chain.clone(), *hash);
        Box::pin(smol::unblock(move || {
            let chain = chain?;
            // What went wrong is in the log.
            chain.look_up(&hash, Instant::now() + chain.timeout()).ok().flatten()
        }))
    }

    fn broadcast<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<(), NodeApiError>> {
        let (chain, hex) = (self.chain.clone(), serialize_hex(transaction));
        Box::pin(smol::unblock(move || {
            let chain = chain.ok_or_else(|| {
                NodeApiError::Other("no Bitcoin node is configured (section chain)".into())
            })?;
            let sent = chain.broadcast(&hex, Instant::now() + chain.timeout());
            sent.map_err(|e| NodeApiError::Other(e.to_string()))
        }))
    }

    fn publish_event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, ()> {
        if let Some(event) = self.published(event) {
            self.shared.with_outbox(|outbox| outbox.event(event));
        }
        Box::pin(async {})
    }
}
