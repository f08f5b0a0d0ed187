//! What a whole route accepts as payment.

use super::super::engine::Engine;
use super::Service;
use crate::rpc::RpcError;
use crate::rpc::types::RouteAccepts;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::wire::accepted::{Accepted, IssuerId};

impl Service {
    /// Looks for a route and for what it accepts, where either is not known. A route of which
    /// no answer came stays one.
    pub(super) async fn ensure_accepted(&self, destination: NodeId) -> Result<(), RpcError> {
        let known = move |engine: &mut Engine| engine.mesh.accepted(&destination).is_some();
        if self.node.job(known).await?
            || self.node.find_accepted(destination).await?
            || self.route(destination).await?.is_some()
        {
            return Ok(());
        }
        Err(RpcError::no_route(destination))
    }
}

/// What the best route to a node accepts, as it was told; `None`: it was not.
pub(super) fn accepted(engine: &Engine, destination: &NodeId) -> Option<RouteAccepts> {
    let Accepted { min_confirmations, issuers } = engine.mesh.accepted(destination)?;
    let own: Vec<[u8; 33]> =
        engine.mesh.config().payment.issuers.iter().map(|key| key.serialize()).collect();
    let told = engine.shell.links.iter().flat_map(|(_, link)| &link.issuers);
    let told: Vec<[u8; 33]> = told.copied().collect();
    let name = |id: &IssuerId| {
        hex::encode(full(id, &own).or(full(id, &told)).as_ref().map_or(&id[..], |key| key))
    };
    Some(RouteAccepts {
        any_issuer: issuers.is_none(),
        issuers: issuers.iter().flatten().map(name).collect(),
        min_confirmations: (*min_confirmations > 0).then_some(*min_confirmations),
    })
}

/// The only one of these keys that begins like this. Two have the same x coordinate where
/// somebody names the other point of an issuer.
fn full(id: &IssuerId, keys: &[[u8; 33]]) -> Option<[u8; 33]> {
    let mut like = keys.iter().filter(|key| key.get(1..9) == Some(&id[..]));
    let first = like.next()?;
    like.all(|key| key == first).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_only_where_it_is_the_only_one() {
        let key = |parity: u8, x: u8| {
            let mut key = [x; 33];
            key[0] = parity;
            key
        };
        let keys = [key(2, 7), key(2, 8), key(3, 8), key(2, 7)];
        assert_eq!(full(&[7; 8], &keys), Some(key(2, 7)));
        assert_eq!(full(&[8; 8], &keys), None, "either may be meant");
        assert_eq!(full(&[9; 8], &keys), None);
    }
}
