//! What clients are told of the state machine, of links and of routes.

use super::counted::Counted;
use super::links::Links;
use super::payments::Payments;
use super::shell::Shell;
use crate::chain::{ChainSource, SourceState};
use crate::flows::memory::PipeMemory;
use crate::rpc::types::{
    BridgeStats, ChainState, ChainStats, ConnectionStats, Count, FlowList, HopPrice, OwnFlow,
    PassingFlow, Peer, PeerHello, PeerState, Route, RouteAccepts, Stats, TableStats, Taken,
};
use crate::wallet::Spending;
use blvm_mesh_core::id::{HopId, LinkId, NodeId};
use blvm_mesh_core::mesh::{self, HostMesh, Quote};
use blvm_mesh_core::routing::table::Route as Known;
use blvm_mesh_core::time::{MILLISECOND, Micros};
use blvm_mesh_core::wire::accepted::{Accepted, FOR_ACCOUNTS, IssuerId};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddrV6;
use std::sync::Arc;

/// A route and what it costs to send by it.
pub(crate) struct Priced {
    /// `None` if no amount pays every node on it.
    pub(crate) quote: Option<Quote>,
    /// Intermediate nodes in travel order.
    pub(crate) hops: Vec<HopId>,
    /// What each of them asks for, in travel order, and what the destination does.
    pub(crate) prices_msat: Vec<u64>,
    pub(crate) last_price_msat: u64,
    /// The first node on it, and the issuers that its hello named, if there is a link with it.
    pub(crate) next: (HopId, Option<Vec<[u8; 33]>>),
    /// Largest packet that it carries, in bytes.
    pub(crate) min_packet: u32,
    pub(crate) accepts: Option<RouteAccepts>,
}

/// What a flow would buy, and what it is paid with.
pub(crate) struct Planned {
    /// `None`: no route is known that could be paid.
    pub(crate) hops: Option<Vec<HopPrice>>,
    /// `None`: there is no wallet.
    pub(crate) spending: Option<Arc<Spending>>,
}

/// How a link stands on which a datagram was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// Bytes that the link has taken, and those before it.
    pub(crate) taken: u64,
    pub(crate) queued: u64,
    /// When something was last heard of the neighbour, by the node's clock.
    pub(crate) heard: Micros,
    /// How soon it answers a datagram; 0: it need not.
    pub(crate) keepalive: Micros,
    /// Whether answers take longer than over others.
    pub(crate) slow: bool,
    pub(crate) now: Micros,
}

/// The links.
pub(super) fn peers(mesh: &HostMesh, links: &Links, now: Micros) -> Vec<Peer> {
    let mut peers: Vec<Peer> = links
        .iter()
        .map(|(id, link)| {
            let known = mesh.table().neighbours.get(id).filter(|n| n.up);
            let sent = link.sent();
            Peer {
                node_id: link.peer,
                public_key: link.public_key.serialize(),
                address: link.address.clone(),
                state: if link.up { PeerState::Up } else { PeerState::Connecting },
                dialed: link.dialed,
                lan: is_link_local(&link.address),
                trusted: mesh.table().neighbours.get(id).is_some_and(|n| n.trusted),
                link: Some(id.0),
                since_ms: now.saturating_sub(link.since) / MILLISECOND,
                hello: known.map(|n| PeerHello {
                    mode: n.mode.name().to_owned(),
                    tariff: n.tariff,
                    max_packet: n.max_packet,
                    issuers: link.issuers.clone(),
                }),
                last_error: None,
                received: Count { packets: link.received_packets, bytes: link.received_bytes },
                sent: Count { packets: sent.packets, bytes: sent.bytes },
                bitcoin: BridgeStats::default(),
                transmissions_256: known.map(|n| n.measured.max(n.quality)),
                refused: link.refused,
                credit_bytes: mesh.config().credit.get(&link.peer).copied().unwrap_or(0),
                owes_bytes: mesh.account(&link.peer).map_or(0, |account| account.owes()),
            }
        })
        .collect();
    peers.sort_by_key(|peer| peer.link);
    peers
}

fn is_link_local(address: &str) -> bool {
    let address = address.parse::<SocketAddrV6>().ok();
    address.is_some_and(|address| address.ip().is_unicast_link_local())
}

/// The routes, so many of them at most.
pub(super) fn routes(mesh: &HostMesh, most: usize, now: Micros) -> Vec<Route> {
    mesh.table().routes().take(most).map(|route| written(&route, now)).collect()
}

/// The best route to a node.
pub(super) fn route(mesh: &HostMesh, destination: &NodeId, now: Micros) -> Option<Route> {
    mesh.table().find_route(destination, now).map(|route| written(&route, now))
}

/// Of the routes to a node that take the largest packets the cheapest.
pub(super) fn widest(mesh: &HostMesh, destination: &NodeId, now: Micros) -> Option<Route> {
    let routes = mesh.table().routes_to(destination, now);
    routes.min_by_key(|route| Reverse(route.min_packet)).map(|route| written(&route, now))
}

fn written(route: &Known<'_>, now: Micros) -> Route {
    Route {
        destination: route.destination,
        hops: route.path().to_vec(),
        min_packet: route.min_packet,
        cost: route.cost,
        expires_in_ms: route.expires_at.saturating_sub(now) / MILLISECOND,
    }
}

/// What the best route to a node accepts, as it was told; `None`: it was not.
pub(super) fn accepts(
    mesh: &HostMesh,
    links: &Links,
    destination: &NodeId,
) -> Option<RouteAccepts> {
    let Accepted { min_confirmations, issuers } = mesh.accepted(destination)?;
    let own: Vec<[u8; 33]> =
        mesh.config().payment.issuers.iter().map(|key| key.serialize()).collect();
    let told = links.iter().flat_map(|(_, link)| &link.issuers);
    let told: Vec<[u8; 33]> = told.copied().collect();
    let name = |id: &IssuerId| {
        hex::encode(full(id, &own).or(full(id, &told)).as_ref().map_or(&id[..], |key| key))
    };
    Some(RouteAccepts {
        any_issuer: issuers.is_none(),
        issuers: issuers.iter().flatten().filter(|id| **id != FOR_ACCOUNTS).map(name).collect(),
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

/// What a flow to a node would buy to carry so many bytes.
pub(super) fn plan(mesh: &HostMesh, payments: &Payments, to: &NodeId, bytes: u64) -> Planned {
    let hops = mesh.flow_price(to, bytes);
    let written = |price: mesh::HopPrice| {
        let mesh::HopPrice { hop: node, bytes, amount_msat, at_hand } = price;
        HopPrice { node, bytes, amount_msat, at_hand }
    };
    let hops = hops.map(|hops| hops.into_iter().map(written).collect());
    Planned { hops, spending: payments.spending() }
}

/// What it costs to send so many bytes by the best route to a node that begins at a trusted
/// neighbour.
pub(super) fn quote(
    mesh: &HostMesh,
    links: &Links,
    destination: &NodeId,
    bytes: u64,
    now: Micros,
) -> Option<Priced> {
    let route = mesh.table().find_paid_route(destination, now)?;
    let next = route.first();
    let link = mesh.table().neighbours.live(next).and_then(|n| links.get(n.link));
    Some(Priced {
        quote: mesh.quote(destination, bytes),
        hops: route.path().to_vec(),
        prices_msat: route.hops.iter().map(|(_, tariff)| tariff.price(bytes)).collect(),
        last_price_msat: route.tariff.price(bytes),
        next: (next, link.map(|link| link.issuers.clone())),
        min_packet: route.min_packet,
        accepts: accepts(mesh, links, destination),
    })
}

/// The link that a datagram to a node takes now.
pub(super) fn link_towards(mesh: &HostMesh, destination: &NodeId, now: Micros) -> Option<LinkId> {
    let route = mesh.table().find_route(destination, now)?;
    mesh.table().neighbours.live(route.first()).map(|neighbour| neighbour.link)
}

/// How a link stands.
pub(super) fn sight(mesh: &HostMesh, links: &Links, link: LinkId, now: Micros) -> Option<Sight> {
    let (known, state) = (mesh.table().neighbours.get(link)?, links.get(link)?);
    let sent = state.sent();
    Some(Sight {
        taken: sent.bytes,
        queued: sent.waiting as u64,
        heard: known.liveness.heard(),
        keepalive: known.liveness.theirs(),
        slow: state.is_slow(),
        now,
    })
}

/// Everything that is counted.
pub(super) fn stats(mesh: &HostMesh, shell: &Shell, pipes: &PipeMemory) -> Stats {
    let counted = mesh.stats();
    let (received, sent) = shell.links.totals();
    let count = |packets, bytes| Count { packets, bytes };
    let refused: BTreeMap<String, u64> =
        shell.refusals.counts().iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect();
    Stats {
        bitcoin: BridgeStats::default(),
        uptime_ms: 0,
        peers: shell.links.up_count(),
        routes: mesh.table().routes().len(),
        live_payments: mesh.live_payments(),
        store_ok: !shell.durable.failed,
        received: count(received.packets, received.bytes),
        sent: count(sent.packets, sent.bytes),
        relayed: count(
            counted.relayed_free.wrapping_add(counted.relayed_paid),
            counted.relayed_bytes,
        ),
        delivered: count(counted.delivered, shell.counters.delivered_bytes),
        originated: count(counted.sent, shell.counters.originated_bytes),
        undelivered: 0,
        dropped_at_link: shell.counters.dropped_at_link,
        links_opened: shell.links.opened(),
        waiting_for_store: shell.durable.waiting(),
        inbox_paid: Count::default(),
        inbox_free: Count::default(),
        inbox_flows: Count::default(),
        parked: count(shell.parked.count().0 as u64, shell.parked.count().1 as u64),
        tables: tables(mesh),
        descriptors: None,
        log_left_out: crate::log::left_out(),
        refused,
        payments: shell.counters.payments,
        paid: shell.counters.paid,
        paid_msat: shell.counters.paid_msat,
        earned_msat: shell.counters.earned_msat,
        purchases: shell.payments.stats(),
        pipes: pipes.stats(),
        routes_found: shell.counters.routes_found,
        routes_failed: shell.counters.routes_failed,
        commits: shell.durable.commits(),
        chain: shell.chain.node().map(chain),
        lines: Vec::new(),
        radios: Vec::new(),
        lan: Vec::new(),
        export: None,
        connections: ConnectionStats {
            stalled: shell.links.stalled,
            memory: shell.links.budget().used() as u64,
            memory_most: shell.links.budget().most_used() as u64,
            memory_limit: shell.links.budget().bytes() as u64,
            ..ConnectionStats::default()
        },
    }
}

/// What is counted of packets by what they are.
pub(super) fn counted(mesh: &HostMesh, shell: &Shell) -> Counted {
    Counted {
        links: shell.links.by_class.0,
        relayed: mesh.stats().relayed,
        accepted: shell.links.accepted(),
        sales: shell.counters.sales,
        sold_msat: shell.counters.sold_msat,
    }
}

fn tables(mesh: &HostMesh) -> TableStats {
    let (taken, config) = (mesh.resources(), mesh.config());
    let most = config.capacities;
    let of = |taken: usize, most: usize| Taken { taken: taken as u64, most: most as u64 };
    let control = config.control_of_all.burst;
    TableStats {
        neighbours: of(taken.own_neighbours.saturating_add(taken.strangers), most.neighbours),
        strangers: taken.strangers as u64,
        owners: of(taken.owners, most.owners),
        searches: of(taken.searches, most.searches),
        requests: of(taken.relayed_requests, most.relayed_requests),
        flows: of(taken.flows, most.flows),
        ends: of(taken.ends, most.ends),
        accounts: of(taken.accounts, most.accounts),
        tickets: of(taken.tickets, most.tickets),
        parked_bytes: of(taken.parked_bytes, most.parked_bytes),
        control: Taken { taken: control.saturating_sub(taken.control_left), most: control },
    }
}

fn chain(node: &ChainSource) -> ChainStats {
    let (state, error) = match node.state() {
        SourceState::Unchecked => (ChainState::Unchecked, None),
        SourceState::Good(_) => (ChainState::Good, None),
        SourceState::Failed(error) => (ChainState::Failed, Some(error.to_string())),
    };
    let [lookups, unknown, failed] = node.counts();
    ChainStats { rpc_url: node.url().to_owned(), state, error, lookups, unknown, failed }
}

/// The flows that pass, and those that end here, so many of each at most.
pub(super) fn flows(mesh: &HostMesh, most: usize, now: Micros) -> FlowList {
    let ms = |since: Micros| now.saturating_sub(since) / MILLISECOND;
    let number = |flow: u64| hex::encode(flow.to_le_bytes());
    let own = mesh.own_flows().take(most).map(|flow| OwnFlow {
        flow: number(flow.flow.0),
        peer: flow.peer,
        opened: flow.opened,
        up: flow.up,
        sort: "sealed".into(),
        route: flow.hops.clone(),
        quota: flow.allotted,
        used: flow.stats.sent.saturating_add(match flow.opened {
            true => flow.stats.peer_sent,
            false => flow.stats.received,
        }),
        sent: flow.stats.sent,
        acknowledged: flow.stats.acknowledged,
        lost: flow.stats.lost,
        paid_msat: flow.paid_msat,
        age_ms: ms(flow.since),
        idle_ms: ms(flow.heard),
        round_trip_us: flow.stats.round_trip,
    });
    // Those that end here are told above.
    let passing = mesh.flows().filter_map(|flow| {
        Some(PassingFlow {
            flow: number(flow.number),
            source: flow.source,
            from: flow.path.from?,
            to: flow.path.to?,
            paid: flow.metered,
            reserved: flow.left,
            idle_ms: ms(flow.heard),
        })
    });
    FlowList { own: own.collect(), passing: passing.take(most).collect(), ..FlowList::default() }
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
