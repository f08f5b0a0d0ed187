//! Searches that somebody waits for.

use super::tests::{pair, run};
use super::*;
use blvm_mesh_core::mesh::RoutingReason;

#[test]
fn whoever_searches_learns_the_outcome() {
    run(async |executor| {
        let ([a, b], _) = pair(&executor).await;
        assert_eq!(a.find_route(b.id()).await.unwrap(), 0);
        let both = [a.find_route(NodeId([9; 32])), a.find_route(NodeId([9; 32]))];
        for search in both {
            let refused = search.await.unwrap_err();
            let reason = ManagerError::Refused(RoutingReason::NoRoute.into());
            assert_eq!(refused.to_string(), reason.to_string());
        }
        let refused = a.find_route(a.id()).await.unwrap_err();
        let reason = ManagerError::Refused(RoutingReason::Itself.into());
        assert_eq!(refused.to_string(), reason.to_string());
    });
}
