//! Which gateways there are, and which one is taken.

use super::shared::Bridge;
use crate::bridge::group;
use blvm_mesh_core::id::NodeId;
use std::time::{Duration, Instant};

/// How long gateways are searched for while somebody waits, and for how long after the first has
/// answered.
const SEARCH: Duration = Duration::from_secs(20);
const SEARCH_ON: Duration = Duration::from_millis(300);
/// Pause before the next try where there is none.
const PAUSE: Duration = Duration::from_secs(1);
/// How long those that were found are taken for all there are.
const KNOWN: Duration = Duration::from_secs(30);

/// The gateway with the fewest connections of this node's, and of these the nearest: a Bitcoin node that
/// has two connections hears of two sides. So many of the best are passed over, as far as there are
/// others.
pub(super) async fn choose(bridge: &Bridge, skip: usize) -> Option<NodeId> {
    let until = Instant::now() + SEARCH;
    loop {
        let mut best = match bridge.settings.gateways.is_empty() {
            true => found(bridge, until).await,
            false => reachable(bridge).await,
        };
        // The sort is stable: what comes first is nearest.
        best.sort_by_key(|gateway| (bridge.is_avoided(gateway), bridge.table.opened_to(gateway)));
        let place = skip.checked_rem(best.len()).unwrap_or(0);
        match best.get(place) {
            Some(gateway) => return Some(*gateway),
            None if Instant::now() >= until => return None,
            None => _ = smol::Timer::after(PAUSE).await,
        }
    }
}

/// Those that were found lately, if one at least has not failed since; else they are searched for.
/// Whoever needs one while others search waits for what these find: relays take few searches of one
/// node.
async fn found(bridge: &Bridge, until: Instant) -> Vec<NodeId> {
    let mut last = bridge.gateways.lock().await;
    if let Some((at, found)) = &*last
        && at.elapsed() < KNOWN
        && found.iter().any(|gateway| !bridge.is_avoided(gateway))
    {
        return found.clone();
    }
    let found = search(bridge, until).await;
    *last = Some((Instant::now(), found.clone()));
    found
}

/// The configured gateways to which there is a route, the cheapest first.
async fn reachable(bridge: &Bridge) -> Vec<NodeId> {
    let mut routes = Vec::new();
    for gateway in &bridge.settings.gateways {
        if let Some(Some(route)) = bridge.node.find_route(*gateway).await {
            routes.push((route.cost, *gateway));
        }
    }
    routes.sort();
    routes.into_iter().map(|(_, gateway)| gateway).collect()
}

/// Gateways that answer a search.
async fn search(bridge: &Bridge, until: Instant) -> Vec<NodeId> {
    let mut found = Vec::new();
    let Some(told) = bridge.node.find_members(group(bridge.scope.own.network)).await else {
        return found;
    };
    let mut end = until;
    loop {
        let late = async {
            smol::Timer::at(end).await;
            None
        };
        match smol::future::or(async { told.recv().await.ok() }, late).await {
            Some(gateway) if !found.contains(&gateway) => {
                found.push(gateway);
                end = end.min(Instant::now() + SEARCH_ON);
            }
            Some(_) => {}
            None => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::Clock;
    use super::super::super::engine::Command;
    use super::super::super::tests::settings;
    use super::super::node::Node;
    use super::*;
    use crate::bridge::table::Table;
    use blvm_mesh_core::policy::MeshMode;
    use std::sync::Arc;

    #[test]
    fn whoever_needs_a_gateway_shares_a_search_until_what_it_found_has_failed() {
        let settings = settings(MeshMode::BitcoinOnly);
        let (commands, asked) = smol::channel::bounded(8);
        let (table, _arrivals) = Table::new(settings.config.magic, 0);
        let node = Node { commands, clock: Clock::new() };
        let bridge = Bridge::new(node, &settings, table, Arc::new(smol::Executor::new()));
        let engine = async {
            let mut searches = 0;
            while let Ok(Command::FindMembers { found, .. }) = asked.recv().await {
                searches += 1;
                for member in [1, 2] {
                    found.send(NodeId([member; 32])).await.unwrap();
                }
            }
            searches
        };
        let choices = async {
            let choose = |skip| choose(&bridge, skip);
            let both = smol::future::zip(choose(0), choose(1)).await;
            assert_eq!(both, (Some(NodeId([1; 32])), Some(NodeId([2; 32]))));
            bridge.avoid(NodeId([1; 32]));
            assert_eq!(choose(0).await, Some(NodeId([2; 32])), "one is left");
            bridge.avoid(NodeId([2; 32]));
            assert!(choose(0).await.is_some(), "those that have failed, if there is no other");
            bridge.node.commands.close();
        };
        let (searches, ()) = smol::block_on(smol::future::zip(engine, choices));
        assert_eq!(searches, 2);
    }
}
