//! Keeps a link with one configured neighbour.

use super::super::backoff::Backoff;
use super::link::Carrier;
use crate::address::HostPort;
use blvm_mesh_core::id::NodeId;
use secp256k1::PublicKey;
use std::sync::Arc;
use std::time::Instant;

/// Dials one neighbour whenever there is no link with it, for as long as the
/// engine runs.
pub(super) async fn keep(public_key: PublicKey, at: HostPort, carrier: Arc<Carrier>) {
    let (id, address) = (NodeId::from_public_key(&public_key), at.to_string());
    let ways = &carrier.ways;
    let mut backoff = Backoff::new(ways.pauses);
    while !ways.engine.is_closed() {
        ways.bans.lifted(&id).await;
        let mut linked = None;
        match ways.key.dial(&address, &public_key).await {
            Ok(connection) => {
                linked = Some(Instant::now());
                // Nothing is ever sent: this ends when the link does, or is refused.
                let _ = carrier.carry(connection).recv().await;
            }
            Err(error) => ways.dials.failed(id, &address, error.to_string()),
        }
        ways.presence.absent(&id).await;
        if let Some(pause) = backoff.after(linked.map(|since| since.elapsed())) {
            smol::Timer::after(pause).await;
            ways.presence.absent(&id).await;
        }
    }
}
