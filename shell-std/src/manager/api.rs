//! What a host node offers.

use crate::wallet::{Bill, Outcome};
use bitcoin::Transaction;
use blvm_mesh_core::mesh::{Event, Priority};
use blvm_mesh_core::payment::headers::KnownHeader;
use std::future::Future;
use std::pin::Pin;

/// A future behind a pointer, so that [`NodeAPI`] can be used as `dyn NodeAPI`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the host could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeApiError {
    /// The peer is gone.
    #[error("the peer is not connected")]
    NotConnected,
    /// The peer's queue is full: the packet was dropped.
    #[error("the peer's queue is full")]
    Full,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// State of a payment at the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    /// Under way.
    Pending,
    /// Done.
    Settled,
    /// It came to nothing.
    Failed,
}

/// What the mesh asks of the host node that embeds it.
pub trait NodeAPI: Send + Sync + 'static {
    /// Sends a packet to a peer, as one frame, from the queue of this priority: control before
    /// paid before free. It should not wait long: a peer that does not read is for the host to
    /// drop. A host whose queue for a peer has filled up says so before it must refuse
    /// ([`MeshManager::congestion`](super::MeshManager::congestion)): what is refused here may
    /// have been paid for.
    fn send_to_peer<'a>(
        &'a self,
        peer: &'a str,
        priority: Priority,
        packet: &'a [u8],
    ) -> BoxFuture<'a, Result<(), NodeApiError>>;

    /// What the host knows of a payment, by its payment hash; `None` if nothing.
    fn payment_state<'a>(&'a self, payment: &'a [u8; 32]) -> BoxFuture<'a, Option<PaymentState>>;

    /// What the host's chain knows of a block, by its hash in internal byte order;
    /// `None` if nothing.
    fn block<'a>(&'a self, hash: &'a [u8; 32]) -> BoxFuture<'a, Option<KnownHeader>>;

    /// An invoice of the host's Lightning node over this amount in millisatoshi, valid for so many
    /// seconds: it sells bytes of flows. `None`: there is none, and nothing is sold.
    fn invoice(&self, amount_msat: u64, expiry_s: u32) -> BoxFuture<'_, Option<String>> {
        let _ = (amount_msat, expiry_s);
        Box::pin(async { None })
    }

    /// Pays an invoice of another node, once, for at most `max_fee_msat` millisatoshi beyond its
    /// amount, and waits for the outcome: it buys bytes of flows. It is within the
    /// [limits](super::MeshContext::spending), in the ledger already, and for this network. Other
    /// payments are made meanwhile. The default pays nothing.
    fn pay<'a>(&'a self, bill: &'a Bill, max_fee_msat: u64) -> BoxFuture<'a, Outcome> {
        let _ = (bill, max_fee_msat);
        Box::pin(async { Outcome::NotPaid("the host pays no invoices".into()) })
    }

    /// Gives the host's node a transaction to broadcast: the one that pays this node for a
    /// covenant that it accepted. It may come again after a restart.
    fn broadcast<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<(), NodeApiError>>;

    /// Tells whoever subscribed at the host.
    fn publish_event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, ()>;
}
