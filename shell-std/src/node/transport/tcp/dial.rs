//! Keeps a link with one configured neighbour.

use super::super::backoff::{Backoff, GOOD_LINK};
use super::handshake::Connection;
use super::link::Carrier;
use crate::address::HostPorts;
use blvm_mesh_core::id::NodeId;
use secp256k1::PublicKey;
use std::sync::Arc;
use std::time::Instant;

/// Dials one neighbour whenever there is no link with it, for as long as the
/// engine runs: at each of its places in turn, and first where there was a good link last.
pub(super) async fn keep(public_key: PublicKey, places: HostPorts, carrier: Arc<Carrier>) {
    let id = NodeId::from_public_key(&public_key);
    let ways = &carrier.ways;
    let mut backoff = Backoff::new(ways.pauses);
    let mut first = 0;
    while !ways.engine.is_closed() {
        ways.bans.lifted(&id).await;
        ways.presence.absent(&id).await;
        let mut lasted = None;
        if let Some((at, connection)) = reach(&public_key, &places, first, &carrier).await {
            let since = Instant::now();
            // Nothing is ever sent: this ends when the link does, or is refused.
            let _ = carrier.carry(connection).recv().await;
            let span = since.elapsed();
            lasted = Some(span);
            // Where whoever answers gives no good link, the other places have their turn.
            first = if span >= GOOD_LINK { at } else { at + 1 };
        }
        ways.presence.absent(&id).await;
        if let Some(pause) = backoff.after(lasted) {
            smol::Timer::after(pause).await;
        }
    }
}

/// A connection to the holder of a key, at the first of its places that leads there. Where none
/// does, the reasons are noted, unless a link is no longer wanted.
async fn reach(
    public_key: &PublicKey,
    places: &HostPorts,
    first: usize,
    carrier: &Carrier,
) -> Option<(usize, Connection)> {
    let (id, ways) = (NodeId::from_public_key(public_key), &carrier.ways);
    let mut reasons = Vec::new();
    for (at, place) in places.turn(first) {
        // It may have come by itself while the places before did not answer.
        let is_linked = !reasons.is_empty() && ways.presence.is_present(&id);
        if is_linked || ways.bans.is_banned(&id) || ways.engine.is_closed() {
            return None;
        }
        let place = place.to_string();
        match ways.key.dial(&place, public_key).await {
            Ok(connection) => return Some((at, connection)),
            Err(error) => reasons.push((place, error.to_string())),
        }
    }
    let error = match &mut reasons[..] {
        [(_, error)] => std::mem::take(error),
        all => {
            let all = all.iter().map(|(place, error)| format!("{place}: {error}"));
            all.collect::<Vec<_>>().join("; ")
        }
    };
    ways.dials.failed(id, &places.to_string(), error);
    None
}
